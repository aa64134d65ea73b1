/* Text to token ids and back: the two kinds behind one door; see tokenizer.h.
 *
 * A BPE tokenizer is immutable after loading. What encoding writes to (regex matches, the word cache) is a session; a
 * call takes an idle one or makes one and puts it back, so threads share a tokenizer and the caches stay warm. */
#include "data/tokenizer.h"

#include "core/file.h"
#include "data/sentencepiece.h"
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
    ls_buffer repaired;      /* the text with what is not UTF-8 replaced */
    ls_buffer normalized[2]; /* the normalizer's */
    ls_ids ids;              /* of the call in progress */
    bool behind;             /* its text stands behind other text */
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
        ls_vocabulary_set(vocabulary, byte, &character, 1, false);
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

static bool ends_with(const char *text, const char *ending)
{
    const size_t length = strlen(text), size = strlen(ending);
    return length >= size && strcmp(text + length - size, ending) == 0;
}

/* The file in a folder: tokenizer.json, else tokenizer.model. malloc'ed. */
static char *find_file(const char *source)
{
    if (!ls_file_is_folder(source)) return strdup(source);
    char *json = ls_file_join(source, "tokenizer.json");
    char *model = ls_file_join(source, "tokenizer.model");
    const bool bare = !ls_file_exists(json) && ls_file_exists(model);
    free(bare ? json : model);
    return bare ? model : json;
}

static ls_status read_json(char **json, char *text, size_t length, const char *path)
{
    *json = text;
    if (memchr(text, '\0', length) != NULL)
        return LS_FAIL(LS_BAD_INPUT, "%s: not a tokenizer.json: it holds NUL bytes", path);
    if (strcmp(text, "bytes") == 0)
        return LS_FAIL(LS_BAD_INPUT, "%s: not a tokenizer.json; the byte tokenizer is named 'bytes'", path);
    return LS_OK;
}

ls_status ls_tokenizer_read_text(char **json, const char *source)
{
    *json = NULL;
    char *path = find_file(source);
    char *bytes = NULL;
    size_t length = 0;
    ls_status status = LS_OK;
    if (path == NULL) return LS_FAIL(LS_NO_MEMORY, "not enough memory for the name of a tokenizer");
    LS_TRY_GOTO(ls_file_read(&bytes, &length, path), done);
    if (ends_with(path, ".model")) {
        status = ls_sentencepiece_to_json(json, bytes, length, path);
    } else {
        status = read_json(json, bytes, length, path);
        bytes = NULL;
    }
done:
    if (status != LS_OK) {
        free(*json);
        *json = NULL;
    }
    free(bytes);
    free(path);
    return status;
}

ls_status ls_tokenizer_open(ls_tokenizer **out, const char *source)
{
    if (strcmp(source, "bytes") == 0) return ls_tokenizer_from_text(out, source, source);
    char *json = NULL;
    char *path = find_file(source);
    ls_status status = ls_tokenizer_read_text(&json, source);
    if (status == LS_OK) status = ls_tokenizer_from_text(out, json, path);
    free(json);
    free(path);
    return status;
}

static void session_free(session *s)
{
    if (s == NULL) return;
    ls_pre_tokenizer_scratch_destroy(&s->pre_tokenizer);
    ls_bpe_scratch_destroy(s->bpe);
    ls_buffer_destroy(&s->repaired);
    ls_buffer_destroy(&s->normalized[0]);
    ls_buffer_destroy(&s->normalized[1]);
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

enum { RAW, NORMALIZED, PLAIN }; /* how far a piece of text has come */

static ls_status encode_piece(session *s, int stage, const char *text, size_t length, bool first);

/* Cuts out the added tokens of the list for this stage and hands on what is between them. */
static ls_status encode_around_added(session *s, int stage, const char *text, size_t length, bool first)
{
    const ls_added_tokens *added = &s->tokenizer->model.added[stage];
    size_t done = 0;
    ls_added_match match = {0};
    while (ls_added_tokens_find(added, s->pre_tokenizer.regex, text, length, match.search, done, &match)) {
        if (match.start > done) LS_TRY(encode_piece(s, stage + 1, text + done, match.start - done, first && done == 0));
        LS_TRY(append(s, match.token->id));
        done = match.end;
    }
    return done < length ? encode_piece(s, stage + 1, text + done, length - done, first && done == 0) : LS_OK;
}

/* `first`: the piece is the beginning of the text given to encode. */
static ls_status encode_piece(session *s, int stage, const char *text, size_t length, bool first)
{
    const ls_bpe_model *model = &s->tokenizer->model;
    if (stage == NORMALIZED)
        LS_TRY(ls_normalizer_run(&model->normalizer, s->pre_tokenizer.regex, s->normalized, first && s->behind, &text,
                                 &length));
    if (length == 0) return LS_OK;
    if (stage == PLAIN)
        return ls_pre_tokenizer_run(&model->pre_tokenizer, &s->pre_tokenizer, text, length, first, s->behind,
                                    encode_word, s);
    return encode_around_added(s, stage, text, length, first);
}

/* *text as valid UTF-8: itself, or a copy in the session. */
static ls_status repair(session *s, const char **text, size_t *length)
{
    size_t valid = ls_utf8_valid_prefix(*text, *length);
    if (valid == *length) return LS_OK;
    ls_buffer *out = &s->repaired;
    out->length = 0;
    for (size_t at = 0; at < *length;) {
        LS_TRY(ls_buffer_add(out, *text + at, valid));
        at += valid;
        if (at == *length) break;
        LS_TRY(ls_buffer_add(out, "\xEF\xBF\xBD", 3));
        at += (size_t)ls_utf8_invalid(*text + at, *length - at);
        valid = ls_utf8_valid_prefix(*text + at, *length - at);
    }
    *text = out->bytes;
    *length = out->length;
    return LS_OK;
}

static ls_status encode_text(session *s, const char *text, size_t length)
{
    LS_TRY(ls_ids_reserve(&s->ids, (int64_t)(length / 4) + 16));
    LS_TRY(repair(s, &text, &length));
    return encode_piece(s, RAW, text, length, true);
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

static ls_status encode(const ls_tokenizer *tokenizer, const char *text, size_t length, bool behind, int32_t **ids,
                        int64_t *count)
{
    if (tokenizer->bytes) return encode_bytes(text, length, ids, count);
    ls_tokenizer *owner = (ls_tokenizer *)tokenizer; /* the idle list is the only part that changes */
    session *s;
    LS_TRY(session_take(&s, owner));
    s->ids = (ls_ids){0};
    s->behind = behind;
    const ls_status status = encode_text(s, text, length);
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

ls_status ls_tokenizer_encode(const ls_tokenizer *tokenizer, const char *text, size_t length, int32_t **ids,
                              int64_t *count)
{
    return encode(tokenizer, text, length, false, ids, count);
}

ls_status ls_tokenizer_encode_behind(const ls_tokenizer *tokenizer, const char *text, size_t length, int32_t **ids,
                                     int64_t *count)
{
    return encode(tokenizer, text, length, true, ids, count);
}

const char *ls_tokenizer_token_text(const ls_tokenizer *tokenizer, int32_t id, size_t *length)
{
    const ls_vocabulary *vocabulary = &tokenizer->model.vocabulary;
    *length = 0;
    if (id < 0 || id >= vocabulary->size || vocabulary->pieces[id].text == NULL) return "";
    *length = vocabulary->pieces[id].length;
    return vocabulary->pieces[id].text;
}

const int32_t *ls_tokenizer_prefix(const ls_tokenizer *tokenizer, int64_t *count)
{
    *count = tokenizer->model.prefix.count;
    return tokenizer->model.prefix.values;
}

const int32_t *ls_tokenizer_suffix(const ls_tokenizer *tokenizer, int64_t *count)
{
    *count = tokenizer->model.suffix.count;
    return tokenizer->model.suffix.values;
}

static ls_status decode_bytes(const ls_tokenizer *tokenizer, const int32_t *ids, int64_t count, char **text,
                              size_t *length)
{
    ls_buffer out = {0};
    ls_status status = LS_OK;
    for (int64_t i = 0; i < count && status == LS_OK; i++) {
        size_t size;
        const char *bytes = ls_tokenizer_token_text(tokenizer, ids[i], &size);
        status = ls_buffer_add(&out, bytes, size);
    }
    if (status == LS_OK) status = ls_buffer_add(&out, "", 1);
    *text = out.bytes;
    *length = status == LS_OK ? out.length - 1 : 0;
    return status;
}

ls_status ls_tokenizer_decode(const ls_tokenizer *tokenizer, const int32_t *ids, int64_t count, char **text,
                              size_t *length)
{
    if (tokenizer->bytes) return decode_bytes(tokenizer, ids, count, text, length);
    const ls_bpe_model *model = &tokenizer->model;
    return ls_detokenizer_run(&model->detokenizer, model->shown != NULL ? model->shown : model->vocabulary.pieces,
                              model->vocabulary.size, ids, count, text, length);
}
