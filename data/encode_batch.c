/* Threads that encode documents; see encode_batch.h. */
#include "data/encode_batch.h"

#include "core/interrupt.h"
#include "core/text.h"
#include "data/validation_split.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_THREADS = 256 };

typedef struct batch {
    ls_encoded *out; /* [count] */
    const ls_corpus *corpus;
    int64_t first, count;
    const ls_tokenizer *tokenizer;
    const ls_encode_options *options;
    atomic_llong next; /* document to take */
} batch;

int ls_encode_processors(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    const int count = CPU_COUNT(&set);
    return count < 1 ? 1 : count > MOST_THREADS ? MOST_THREADS : count;
}

static ls_status encode_text(ls_encoded *out, const batch *b, int64_t document, const char *text, size_t length)
{
    const ls_encode_options *options = b->options;
    out->bytes = length;
    size_t cut = options->held_out[document] ? 0 : length;
    if (options->tail > 0) cut = ls_validation_cut(text, length, options->tail);
    const size_t start[3] = {0, cut, length};
    for (int split = 0; split < 2; split++) {
        if (start[split] == start[split + 1]) continue;
        LS_TRY(ls_tokenizer_encode(b->tokenizer, text + start[split], start[split + 1] - start[split], &out->ids[split],
                                   &out->count[split]));
    }
    return LS_OK;
}

static ls_status encode_record(ls_encoded *out, const batch *b, int64_t document)
{
    const int split = b->options->held_out[document] ? LS_SPLIT_VALIDATION : LS_SPLIT_TRAIN;
    cJSON *object;
    ls_record record;
    LS_TRY(ls_corpus_parse(b->corpus, document, &object));
    ls_status status = ls_record_encode(&record, b->options->records, b->tokenizer, object);
    cJSON_Delete(object);
    if (status == LS_OK && record.count == 0) status = LS_FAIL(LS_BAD_INPUT, "the record is empty");
    out->ids[split] = record.ids;
    out->count[split] = record.count;
    out->targets = record.targets;
    out->bytes = record.bytes;
    return status == LS_OK ? LS_OK : ls_corpus_blame(b->corpus, document, status);
}

static ls_status encode_document(ls_encoded *out, const batch *b, int64_t document)
{
    char *text = NULL;
    size_t length = 0;
    if (ls_interrupt_requested()) return LS_FAIL(LS_INTERRUPTED, "interrupted; nothing was written");
    if (b->options->records != NULL) return encode_record(out, b, document);
    LS_TRY(ls_corpus_read(b->corpus, document, &text, &length));
    const ls_status status = encode_text(out, b, document, text, length);
    free(text);
    return status;
}

static void *work(void *context)
{
    batch *b = context;
    for (int64_t i; (i = atomic_fetch_add(&b->next, 1)) < b->count;) {
        ls_encoded *out = &b->out[i];
        *out = (ls_encoded){0};
        out->status = encode_document(out, b, b->first + i);
        if (out->status == LS_OK) continue;
        out->error = ls_text_copy(ls_error_text(), strlen(ls_error_text()));
        ls_error_clear();
    }
    return NULL;
}

void ls_encode_batch(ls_encoded *out, const ls_corpus *corpus, int64_t first, int64_t count,
                     const ls_tokenizer *tokenizer, const ls_encode_options *options)
{
    batch b = {
        .out = out, .corpus = corpus, .first = first, .count = count, .tokenizer = tokenizer, .options = options};
    pthread_t helpers[MOST_THREADS];
    int started = 0;
    const int64_t wanted = (options->threads < count ? options->threads : count) - 1;
    while (started < wanted && started < MOST_THREADS && pthread_create(&helpers[started], NULL, work, &b) == 0)
        started++;
    (void)work(&b);
    for (int i = 0; i < started; i++) (void)pthread_join(helpers[i], NULL);
}

void ls_encoded_free(ls_encoded *encoded)
{
    free(encoded->ids[0]);
    free(encoded->ids[1]);
    free(encoded->targets);
    free(encoded->error);
    *encoded = (ls_encoded){0};
}
