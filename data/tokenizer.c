/* Text to token ids and back: the two kinds behind one door; see tokenizer.h.
 *
 * A BPE tokenizer is immutable after loading. What encoding writes to (regex matches, the word cache) is a session; a
 * call takes an idle one or makes one and puts it back, so threads share a tokenizer and the caches stay warm. */
#include "data/tokenizer.h"

#include "core/file.h"
#include "data/tokenizer_json.h"
#include "data/utf8.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct session {
    struct session *next_idle;
    const ls_tokenizer *tokenizer;
    ls_pre_tokenizer_scratch pre_tokenizer;
    ls_bpe_scratch *bpe;
    ls_ids ids; /* of the call in progress */
} session;

struct ls_tokenizer {
    bool bytes; /* the byte kind: `model` then holds nothing but the vocabulary */
    char *text;
    uint64_t hash;
    ls_bpe_model model;
    pthread_mutex_t mutex; /* guards `idle` */
    session *idle;
};

enum { BYTE_END_OF_TEXT = 256, BYTE_VOCABULARY = 257 };

static ls_status fill_byte_kind(ls_tokenizer *tokenizer)
{
    ls_vocabulary *vocabulary = &tokenizer->model.vocabulary;
    static const char end_of_text[] = "<|endoftext|>";
    LS_TRY(ls_vocabulary_create(vocabulary, BYTE_VOCABULARY, 256 + sizeof end_of_text));
    for (int byte = 0; byte < 256; byte++) {
        const char character = (char)byte;
        ls_vocabulary_set(vocabulary, byte, &character, 1, true);
    }
    ls_vocabulary_set(vocabulary, BYTE_END_OF_TEXT, end_of_text, strlen(end_of_text), false);
    tokenizer->model.end_of_text = BYTE_END_OF_TEXT;
    return LS_OK;
}

ls_status ls_tokenizer_from_text(ls_tokenizer **out, const char *text, const char *name)
{
    const size_t length = strlen(text);
    ls_tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    char *copy = strdup(text);
    if (tokenizer == NULL || copy == NULL) {
        free(tokenizer);
        free(copy);
        return LS_FAIL(LS_NO_MEMORY, "not enough memory for the tokenizer %s", name);
    }
    (void)pthread_mutex_init(&tokenizer->mutex, NULL);
    tokenizer->text = copy;
    tokenizer->hash = ls_tokenizer_hash_text(text);
    tokenizer->bytes = strcmp(text, "bytes") == 0;
    const ls_status status =
        tokenizer->bytes ? fill_byte_kind(tokenizer) : ls_bpe_model_read(&tokenizer->model, text, length, name);
    if (status != LS_OK) {
        ls_tokenizer_free(tokenizer);
        return status;
    }
    *out = tokenizer;
    return LS_OK;
}

ls_status ls_tokenizer_open(ls_tokenizer **out, const char *source)
{
    if (strcmp(source, "bytes") == 0) return ls_tokenizer_from_text(out, source, source);
    char *path = ls_file_is_folder(source) ? ls_file_join(source, "tokenizer.json") : strdup(source);
    char *text = NULL;
    size_t length = 0;
    ls_status status = LS_OK;
    if (path == NULL) return LS_FAIL(LS_NO_MEMORY, "not enough memory for the name of a tokenizer");
    LS_TRY_GOTO(ls_file_read(&text, &length, path), done);
    if (memchr(text, '\0', length) != NULL)
        status = LS_FAIL(LS_BAD_INPUT, "%s: not a tokenizer.json: it holds NUL bytes", path);
    else if (strcmp(text, "bytes") == 0)
        status = LS_FAIL(LS_BAD_INPUT, "%s: not a tokenizer.json; the byte tokenizer is named 'bytes'", path);
    else
        status = ls_tokenizer_from_text(out, text, path);
done:
    free(text);
    free(path);
    return status;
}

static void session_free(session *s)
{
    if (s == NULL) return;
    ls_pre_tokenizer_scratch_destroy(&s->pre_tokenizer);
    ls_bpe_scratch_destroy(s->bpe);
    free(s->ids.values);
    free(s);
}

void ls_tokenizer_free(ls_tokenizer *tokenizer)
{
    if (tokenizer == NULL) return;
    for (session *s = tokenizer->idle; s != NULL;) {
        session *next = s->next_idle;
        session_free(s);
        s = next;
    }
    ls_bpe_model_destroy(&tokenizer->model);
    (void)pthread_mutex_destroy(&tokenizer->mutex);
    free(tokenizer->text);
    free(tokenizer);
}

const char *ls_tokenizer_text(const ls_tokenizer *tokenizer) { return tokenizer->text; }

uint64_t ls_tokenizer_hash_text(const char *text)
{
    uint64_t hash = 0xCBF29CE484222325u;
    for (; *text != '\0'; text++) hash = (hash ^ (unsigned char)*text) * 0x100000001B3u;
    return hash;
}

uint64_t ls_tokenizer_hash(const ls_tokenizer *tokenizer) { return tokenizer->hash; }

int64_t ls_tokenizer_vocab_size(const ls_tokenizer *tokenizer) { return tokenizer->model.vocabulary.size; }

int32_t ls_tokenizer_end_of_text(const ls_tokenizer *tokenizer) { return tokenizer->model.end_of_text; }

static ls_status session_create(session **out, const ls_tokenizer *tokenizer)
{
    session *s = calloc(1, sizeof *s);
    if (s == NULL) return LS_FAIL(LS_NO_MEMORY, "not enough memory to encode text");
    s->tokenizer = tokenizer;
    ls_status status = LS_OK;
    LS_TRY_GOTO(ls_pre_tokenizer_scratch_create(&s->pre_tokenizer), failed);
    LS_TRY_GOTO(ls_bpe_scratch_create(&s->bpe), failed);
    *out = s;
    return LS_OK;
failed:
    session_free(s);
    return status;
}

static ls_status session_take(session **out, ls_tokenizer *tokenizer)
{
    (void)pthread_mutex_lock(&tokenizer->mutex);
    *out = tokenizer->idle;
    if (*out != NULL) tokenizer->idle = (*out)->next_idle;
    (void)pthread_mutex_unlock(&tokenizer->mutex);
    return *out != NULL ? LS_OK : session_create(out, tokenizer);
}

static void session_put_back(session *s, ls_tokenizer *tokenizer)
{
    (void)pthread_mutex_lock(&tokenizer->mutex);
    s->next_idle = tokenizer->idle;
    tokenizer->idle = s;
    (void)pthread_mutex_unlock(&tokenizer->mutex);
}

static ls_status append(session *s, int32_t id)
{
    LS_TRY(ls_ids_reserve(&s->ids, 1));
    s->ids.values[s->ids.count++] = id;
    return LS_OK;
}

static ls_status encode_word(void *context, const char *word, size_t length)
{
    session *s = context;
    return ls_bpe_encode(&s->tokenizer->model.bpe, s->bpe, word, length, &s->ids);
}

/* Text without added tokens: what is valid UTF-8 goes through the pre-tokenizer, any other byte becomes its token. */
static ls_status encode_plain(session *s, const char *text, size_t length)
{
    const ls_bpe_model *model = &s->tokenizer->model;
    const bool spaces_first = model->pre_tokenizer.count > 0 && model->pre_tokenizer.stages[0].pattern == NULL;
    for (size_t at = 0; at < length;) {
        const size_t valid = ls_utf8_valid_prefix(text + at, length - at);
        if (valid > 0)
            LS_TRY(ls_pre_tokenizer_run(&model->pre_tokenizer, &s->pre_tokenizer, text + at, valid,
                                        at > 0 && spaces_first ? 1 : 0, encode_word, s));
        at += valid;
        if (at == length) break;
        const int32_t id = model->bpe.byte_id[(unsigned char)text[at++]];
        if (id >= 0) LS_TRY(append(s, id));
    }
    return LS_OK;
}

/* Cuts out the added tokens of list `late` and hands on what is between them. */
static ls_status encode_around_added(session *s, int late, const char *text, size_t length)
{
    if (late == 2) return encode_plain(s, text, length);
    size_t done = 0;
    size_t start, end;
    const ls_added_token *token;
    while ((token = ls_added_tokens_find(&s->tokenizer->model.added[late], s->pre_tokenizer.regex, text, length, done,
                                         &start, &end)) != NULL) {
        if (start > done) LS_TRY(encode_around_added(s, late + 1, text + done, start - done));
        LS_TRY(append(s, token->id));
        done = end;
    }
    return done < length ? encode_around_added(s, late + 1, text + done, length - done) : LS_OK;
}

static ls_status encode_bytes(const char *text, size_t length, int32_t **ids, int64_t *count)
{
    int32_t *values = malloc((length + 1) * sizeof *values);
    if (values == NULL) return LS_FAIL(LS_NO_MEMORY, "not enough memory to encode %zu bytes", length);
    for (size_t i = 0; i < length; i++) values[i] = (unsigned char)text[i];
    *ids = values;
    *count = (int64_t)length;
    return LS_OK;
}

ls_status ls_tokenizer_encode(const ls_tokenizer *tokenizer, const char *text, size_t length, int32_t **ids,
                              int64_t *count)
{
    if (tokenizer->bytes) return encode_bytes(text, length, ids, count);
    if (length >= INT32_MAX)
        return LS_FAIL(LS_BAD_INPUT, "a text of %zu bytes is too long to encode at once (2 GiB); cut it", length);
    ls_tokenizer *owner = (ls_tokenizer *)tokenizer; /* the idle list is the only part that changes */
    session *s;
    LS_TRY(session_take(&s, owner));
    s->ids = (ls_ids){0};
    ls_status status = ls_ids_reserve(&s->ids, (int64_t)(length / 4) + 16);
    if (status == LS_OK) status = encode_around_added(s, 0, text, length);
    ls_ids result = s->ids;
    s->ids = (ls_ids){0};
    session_put_back(s, owner);
    if (status != LS_OK) {
        free(result.values);
        return status;
    }
    int32_t *fitted = realloc(result.values, (size_t)(result.count + 1) * sizeof *fitted);
    *ids = fitted != NULL ? fitted : result.values;
    *count = result.count;
    return LS_OK;
}

const char *ls_tokenizer_token_bytes(const ls_tokenizer *tokenizer, int32_t id, size_t *length)
{
    const ls_vocabulary *vocabulary = &tokenizer->model.vocabulary;
    *length = 0;
    if (id < 0 || id >= vocabulary->size || vocabulary->pieces[id].bytes == NULL) return "";
    *length = vocabulary->pieces[id].length;
    return vocabulary->pieces[id].bytes;
}

ls_status ls_tokenizer_decode(const ls_tokenizer *tokenizer, const int32_t *ids, int64_t count, char **text,
                              size_t *length)
{
    size_t total = 0;
    for (int64_t i = 0; i < count; i++) {
        size_t size;
        (void)ls_tokenizer_token_bytes(tokenizer, ids[i], &size);
        total += size;
    }
    char *out = malloc(total + 1);
    if (out == NULL) return LS_FAIL(LS_NO_MEMORY, "not enough memory to decode %lld tokens", (long long)count);
    size_t at = 0;
    for (int64_t i = 0; i < count; i++) {
        size_t size;
        const char *bytes = ls_tokenizer_token_bytes(tokenizer, ids[i], &size);
        memcpy(out + at, bytes, size);
        at += size;
    }
    out[total] = '\0';
    *text = out;
    *length = total;
    return LS_OK;
}
