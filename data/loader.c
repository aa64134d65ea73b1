/* The loader; see loader.h.
 *
 * One thread reads ahead into a buffer of the loader's own: after each read the next `count` samples are asked for, and
 * the next call, when it asks for just those, only copies. A failed read-ahead is dropped; the call reads again itself,
 * so that the error text is raised in the caller's thread. */
#include "data/loader.h"

#include "data/permutation.h"
#include "data/record_samples.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef enum ahead_state {
    AHEAD_IDLE = 0,
    AHEAD_ASKED, /* the thread is to fill, or is filling, the buffer */
    AHEAD_READY,
    AHEAD_QUIT,
} ahead_state;

/* What filling a sample works with. */
typedef struct scratch {
    int32_t *tokens; /* [T+1] */
    uint8_t *learnt; /* [T+1] of records */
} scratch;

struct ls_loader {
    const ls_token_file *file;
    ls_loader_options options;
    int64_t samples;            /* in an epoch */
    ls_record_samples *records; /* NULL: documents */
    scratch own;                /* of the caller's thread */

    pthread_t thread;
    bool started;
    pthread_mutex_t mutex; /* guards what follows; the buffer belongs to the thread while the state is ASKED */
    pthread_cond_t changed;
    ahead_state state;
    int64_t cursor, count; /* asked for */
    ls_samples ahead;      /* pieces of `block` */
    int32_t *block;        /* [4, capacity, T] */
    int64_t capacity;
    bool ahead_failed;
    scratch ahead_scratch; /* of the thread */
};

int64_t ls_loader_samples_per_epoch(const ls_loader *loader) { return loader->samples; }

const ls_loader_records *ls_loader_about_records(const ls_loader *loader)
{
    return loader->records == NULL ? NULL : ls_record_samples_about(loader->records);
}

int64_t ls_loader_sample_at(const ls_loader *loader, int64_t cursor)
{
    const int64_t epoch = cursor / loader->samples, index = cursor % loader->samples;
    if (!loader->options.shuffle) return index;
    return ls_permute(index, loader->samples, loader->options.seed, (uint32_t)epoch);
}

/* Number of the document that token `at` of the split lies in. */
static int64_t document_of(const ls_loader *loader, int64_t at)
{
    const int64_t *documents = loader->file->documents[loader->options.split];
    int64_t low = 0, high = loader->file->document_count[loader->options.split] - 1;
    while (low < high) {
        const int64_t middle = low + (high - low + 1) / 2;
        if (documents[middle] <= at)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* Confines the row's first `length` positions to documents: position t stands at token start + t of the split. targets
 * come filled. */
static void mask_documents(const ls_loader *loader, int64_t start, int64_t length, const ls_samples *row)
{
    const int64_t *documents = loader->file->documents[loader->options.split];
    int64_t document = document_of(loader, start);
    int64_t first = 0;
    for (int64_t t = 0; t < length; t++) {
        if (start + t == documents[document + 1]) {
            document++;
            first = t;
        }
        row->first_key[t] = (int32_t)first;
        row->positions[t] = (int32_t)(t - first);
        if (start + t + 1 == documents[document + 1]) row->targets[t] = -1;
    }
}

/* Fills a row with sample `number` of a split of documents, of which the last may be short. */
static ls_status fill_documents(const ls_loader *loader, int64_t number, const ls_samples *row, int32_t *tokens)
{
    const int64_t T = loader->options.sequence_length, start = number * T;
    const int64_t left = loader->file->token_count[loader->options.split] - 1 - start, length = left < T ? left : T;
    LS_TRY(ls_token_file_read(loader->file, loader->options.split, start, length + 1, tokens));
    memcpy(row->tokens, tokens, (size_t)length * sizeof *tokens);
    memcpy(row->targets, tokens + 1, (size_t)length * sizeof *tokens);
    for (int64_t t = 0; t < T; t++) {
        row->first_key[t] = t < length ? 0 : (int32_t)t;
        row->positions[t] = (int32_t)t;
    }
    for (int64_t t = length; t < T; t++) {
        row->tokens[t] = 0;
        row->targets[t] = -1;
    }
    if (loader->options.document_mask) mask_documents(loader, start, length, row);
    return LS_OK;
}

/* Fills rows with samples number cursor..cursor+count-1 of the run. */
static ls_status fill_samples(const ls_loader *loader, int64_t cursor, int64_t count, const ls_samples *out,
                              const scratch *work)
{
    const int64_t T = loader->options.sequence_length;
    for (int64_t j = 0; j < count; j++) {
        const int64_t number = ls_loader_sample_at(loader, cursor + j);
        const ls_samples row = {.tokens = out->tokens + j * T,
                                .targets = out->targets + j * T,
                                .first_key = out->first_key + j * T,
                                .positions = out->positions + j * T};
        LS_TRY(loader->records != NULL
                   ? ls_record_samples_fill(loader->records, number, &row, work->tokens, work->learnt)
                   : fill_documents(loader, number, &row, work->tokens));
    }
    return LS_OK;
}

static void *read_ahead(void *context)
{
    ls_loader *loader = context;
    (void)pthread_mutex_lock(&loader->mutex);
    while (loader->state != AHEAD_QUIT) {
        if (loader->state != AHEAD_ASKED) {
            (void)pthread_cond_wait(&loader->changed, &loader->mutex);
            continue;
        }
        const int64_t cursor = loader->cursor, count = loader->count;
        (void)pthread_mutex_unlock(&loader->mutex);
        const ls_status status = fill_samples(loader, cursor, count, &loader->ahead, &loader->ahead_scratch);
        ls_error_clear();
        (void)pthread_mutex_lock(&loader->mutex);
        loader->ahead_failed = status != LS_OK;
        if (loader->state == AHEAD_ASKED) loader->state = AHEAD_READY;
        (void)pthread_cond_broadcast(&loader->changed);
    }
    (void)pthread_mutex_unlock(&loader->mutex);
    return NULL;
}

/* How many samples an epoch has. */
static ls_status cut_documents(ls_loader *loader)
{
    const ls_loader_options *options = &loader->options;
    const int64_t tokens = loader->file->token_count[options->split], T = options->sequence_length;
    const char *split = options->split == LS_SPLIT_TRAIN ? "train" : "validation";
    loader->samples = tokens < 2 ? 0 : (tokens - 1 + (options->tail ? T - 1 : 0)) / T;
    if (loader->samples > 0) return LS_OK;
    return options->tail ? LS_FAIL(LS_BAD_INPUT, "%s: the %s split has %lld tokens; a loss needs at least 2",
                                   loader->file->path, split, (long long)tokens)
                         : LS_FAIL(LS_BAD_INPUT, "%s: the %s split has %lld tokens, fewer than one sample of %lld + 1",
                                   loader->file->path, split, (long long)tokens, (long long)T);
}

static ls_status pack_records(ls_loader *loader)
{
    const ls_loader_options *options = &loader->options;
    if (!options->document_mask)
        return LS_FAIL(LS_BAD_INPUT, "%s holds records, which must not see each other: document masks cannot be off",
                       loader->file->path);
    LS_TRY(ls_record_samples_create(&loader->records, loader->file, options->split, options->sequence_length));
    loader->samples = ls_record_samples_about(loader->records)->samples;
    return LS_OK;
}

static ls_status scratch_create(scratch *out, int64_t T)
{
    out->tokens = malloc((size_t)(T + 1) * sizeof *out->tokens);
    out->learnt = malloc((size_t)(T + 1));
    if (out->tokens != NULL && out->learnt != NULL) return LS_OK;
    return LS_FAIL(LS_NO_MEMORY, "not enough memory for samples of %lld tokens", (long long)T);
}

static void scratch_destroy(scratch *work)
{
    free(work->tokens);
    free(work->learnt);
}

static ls_status start(ls_loader *loader)
{
    LS_TRY(loader->file->records ? pack_records(loader) : cut_documents(loader));
    LS_TRY(scratch_create(&loader->own, loader->options.sequence_length));
    LS_TRY(scratch_create(&loader->ahead_scratch, loader->options.sequence_length));
    if (pthread_create(&loader->thread, NULL, read_ahead, loader) != 0)
        return LS_FAIL(LS_NO_MEMORY, "cannot start the thread that reads ahead");
    loader->started = true;
    return LS_OK;
}

ls_status ls_loader_create(ls_loader **out, const ls_token_file *file, const ls_loader_options *options)
{
    LS_ASSERT(options->sequence_length >= 1 && options->sequence_length <= 1 << 24);
    ls_loader *loader = calloc(1, sizeof *loader);
    if (loader == NULL) return LS_FAIL(LS_NO_MEMORY, "not enough memory for the loader");
    loader->file = file;
    loader->options = *options;
    (void)pthread_mutex_init(&loader->mutex, NULL);
    (void)pthread_cond_init(&loader->changed, NULL);
    const ls_status status = start(loader);
    if (status != LS_OK) {
        ls_loader_destroy(loader);
        return status;
    }
    *out = loader;
    return LS_OK;
}

void ls_loader_destroy(ls_loader *loader)
{
    if (loader == NULL) return;
    if (loader->started) {
        (void)pthread_mutex_lock(&loader->mutex);
        loader->state = AHEAD_QUIT;
        (void)pthread_cond_broadcast(&loader->changed);
        (void)pthread_mutex_unlock(&loader->mutex);
        (void)pthread_join(loader->thread, NULL);
    }
    (void)pthread_mutex_destroy(&loader->mutex);
    (void)pthread_cond_destroy(&loader->changed);
    ls_record_samples_destroy(loader->records);
    scratch_destroy(&loader->own);
    scratch_destroy(&loader->ahead_scratch);
    free(loader->block);
    free(loader);
}

/* Waits for the read-ahead; true when it holds just these samples. */
static bool take_ahead(ls_loader *loader, int64_t cursor, int64_t count, const ls_samples *out)
{
    (void)pthread_mutex_lock(&loader->mutex);
    while (loader->state == AHEAD_ASKED) (void)pthread_cond_wait(&loader->changed, &loader->mutex);
    const bool fits =
        loader->state == AHEAD_READY && !loader->ahead_failed && loader->cursor == cursor && loader->count == count;
    loader->state = AHEAD_IDLE;
    (void)pthread_mutex_unlock(&loader->mutex);
    if (!fits) return false;
    const size_t bytes = (size_t)(count * loader->options.sequence_length) * sizeof *out->tokens;
    memcpy(out->tokens, loader->ahead.tokens, bytes);
    memcpy(out->targets, loader->ahead.targets, bytes);
    memcpy(out->first_key, loader->ahead.first_key, bytes);
    memcpy(out->positions, loader->ahead.positions, bytes);
    return true;
}

/* Asks for the samples that follow. Too little memory means no read-ahead, nothing worse. */
static void ask_ahead(ls_loader *loader, int64_t cursor, int64_t count)
{
    if (count > loader->capacity) {
        const int64_t size = count * loader->options.sequence_length;
        free(loader->block);
        loader->block = malloc(4 * (size_t)size * sizeof *loader->block);
        loader->capacity = loader->block != NULL ? count : 0;
        if (loader->block == NULL) return;
        loader->ahead = (ls_samples){.tokens = loader->block,
                                     .targets = loader->block + size,
                                     .first_key = loader->block + 2 * size,
                                     .positions = loader->block + 3 * size};
    }
    (void)pthread_mutex_lock(&loader->mutex);
    loader->cursor = cursor;
    loader->count = count;
    loader->state = AHEAD_ASKED;
    (void)pthread_cond_broadcast(&loader->changed);
    (void)pthread_mutex_unlock(&loader->mutex);
}

ls_status ls_loader_read(ls_loader *loader, int64_t cursor, int64_t count, const ls_samples *out)
{
    LS_ASSERT(cursor >= 0 && count >= 0);
    if (count == 0) return LS_OK;
    if (!take_ahead(loader, cursor, count, out)) LS_TRY(fill_samples(loader, cursor, count, out, &loader->own));
    ask_ahead(loader, cursor + count, count);
    return LS_OK;
}
