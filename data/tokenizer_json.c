/* tokenizer.json to tables: model (vocabulary, merges) and added tokens here, the pre-tokenizer in pipeline_json.c.
 *
 * Fields that only shape what a library adds around a text (truncation, padding, post_processor) are not read: encoding
 * here never adds a token by itself. Everything else is understood or refused. */
#include "data/tokenizer_json.h"

#include "core/json.h"
#include "data/pipeline_json.h"

#include <stdlib.h>
#include <string.h>

/* The reading of one file. */
typedef struct reader {
    ls_bpe_model *out;
    const cJSON *document;
    const char *name;
    size_t text_length; /* of the JSON: no set of its strings is longer */
} reader;

static const cJSON *field(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static bool is_set(const cJSON *value) { return value != NULL && !cJSON_IsNull(value) && !cJSON_IsFalse(value); }

static ls_status check_model(const reader *r, const cJSON *model)
{
    if (!cJSON_IsObject(model)) return LS_FAIL(LS_BAD_INPUT, "%s: not a tokenizer.json: it has no model", r->name);
    const cJSON *type = field(model, "type");
    const bool typed = cJSON_IsString(type);
    if (type != NULL && (!typed || strcmp(type->valuestring, "BPE") != 0))
        return LS_FAIL(LS_BAD_INPUT, "%s: model type '%s' is not supported, only BPE is", r->name,
                       typed ? type->valuestring : "?");
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < 2; i++) {
        const cJSON *affix = field(model, affixes[i]);
        if (is_set(affix) && !(cJSON_IsString(affix) && affix->valuestring[0] == '\0'))
            return LS_FAIL(LS_BAD_INPUT, "%s: the model's %s is not supported", r->name, affixes[i]);
    }
    const cJSON *dropout = field(model, "dropout");
    if (is_set(dropout) && !(cJSON_IsNumber(dropout) && dropout->valuedouble == 0.0))
        return LS_FAIL(LS_BAD_INPUT, "%s: the model's dropout is not supported", r->name);
    return LS_OK;
}

static ls_status check_outside(const reader *r)
{
    static const char *const names[] = {"normalizer", "decoder"};
    for (size_t i = 0; i < 2; i++) {
        const cJSON *component = field(r->document, names[i]);
        if (!is_set(component)) continue;
        const cJSON *type = field(component, "type");
        const char *type_name = cJSON_IsString(type) ? type->valuestring : "?";
        if (strcmp(names[i], "decoder") == 0 && strcmp(type_name, "ByteLevel") == 0) continue;
        return LS_FAIL(LS_BAD_INPUT, "%s: %s '%s' is not supported", r->name, names[i], type_name);
    }
    return LS_OK;
}

/* A token id, or -1. */
static int32_t token_id(const cJSON *value)
{
    if (!cJSON_IsNumber(value) || value->valuedouble != (double)value->valueint || value->valueint < 0) return -1;
    return value->valueint;
}

static ls_status find_size(const reader *r, const cJSON *vocab, const cJSON *added, int64_t *size)
{
    int64_t highest = -1;
    const cJSON *entry;
    cJSON_ArrayForEach(entry, vocab)
    {
        const int32_t id = token_id(entry);
        if (id < 0) return LS_FAIL(LS_BAD_INPUT, "%s: the id of token '%s' is not a number", r->name, entry->string);
        if (id > highest) highest = id;
    }
    cJSON_ArrayForEach(entry, added)
    {
        const int32_t id = token_id(field(entry, "id"));
        if (id < 0 || !cJSON_IsString(field(entry, "content")))
            return LS_FAIL(LS_BAD_INPUT, "%s: an entry of added_tokens has no id or no content", r->name);
        if (id > highest) highest = id;
    }
    /* Ids far beyond the number of entries would make tables of that size. */
    if (highest >= 16 * (int64_t)r->text_length)
        return LS_FAIL(LS_BAD_INPUT, "%s: token id %lld is out of proportion", r->name, (long long)highest);
    *size = highest + 1;
    return LS_OK;
}

static ls_status read_vocabulary(const reader *r, const cJSON *vocab)
{
    char *bytes = malloc(r->text_length + 1);
    if (bytes == NULL) return LS_FAIL(LS_NO_MEMORY, "not enough memory to read %s", r->name);
    ls_status status = LS_OK;
    const cJSON *entry;
    cJSON_ArrayForEach(entry, vocab)
    {
        const int32_t id = token_id(entry);
        const size_t length = strlen(entry->string);
        if (r->out->vocabulary.pieces[id].bytes != NULL) {
            status = LS_FAIL(LS_BAD_INPUT, "%s: two tokens have the id %d", r->name, id);
            break;
        }
        size_t count;
        if (ls_byte_alphabet_decode(bytes, &count, entry->string, length))
            ls_vocabulary_set(&r->out->vocabulary, id, bytes, count, true);
        else
            ls_vocabulary_set(&r->out->vocabulary, id, entry->string, length, false);
    }
    free(bytes);
    return status;
}

/* Splits "left right", or takes ["left", "right"]; the parts live in the JSON or in `copy`. */
static bool merge_parts(const cJSON *merge, char *copy, const char **left, const char **right)
{
    if (cJSON_IsArray(merge)) {
        const cJSON *first = merge->child;
        const cJSON *second = first != NULL ? first->next : NULL;
        if (!cJSON_IsString(first) || !cJSON_IsString(second) || second->next != NULL) return false;
        *left = first->valuestring;
        *right = second->valuestring;
        return true;
    }
    if (!cJSON_IsString(merge)) return false;
    char *space = strchr(strcpy(copy, merge->valuestring), ' ');
    if (space == NULL || strchr(space + 1, ' ') != NULL) return false;
    *space = '\0';
    *left = copy;
    *right = space + 1;
    return true;
}

/* `bytes` has room for the text of both parts. */
static ls_status read_merge(const reader *r, const cJSON *merge, int32_t rank, char *copy, char *bytes)
{
    const ls_vocabulary *vocabulary = &r->out->vocabulary;
    const char *left;
    const char *right;
    size_t left_length, right_length;
    if (!merge_parts(merge, copy, &left, &right) || !ls_byte_alphabet_decode(bytes, &left_length, left, strlen(left)) ||
        !ls_byte_alphabet_decode(bytes + left_length, &right_length, right, strlen(right)))
        return LS_FAIL(LS_BAD_INPUT, "%s: merge number %d is not two byte-level tokens", r->name, rank + 1);
    const int32_t left_id = ls_vocabulary_find(vocabulary, bytes, left_length);
    const int32_t right_id = ls_vocabulary_find(vocabulary, bytes + left_length, right_length);
    const int32_t joined = ls_vocabulary_find(vocabulary, bytes, left_length + right_length);
    if (left_id < 0 || right_id < 0 || joined < 0)
        return LS_FAIL(LS_BAD_INPUT, "%s: merge number %d ('%s' and '%s') uses a token that is not in the vocabulary",
                       r->name, rank + 1, left, right);
    ls_bpe_add_merge(&r->out->bpe, left_id, right_id, rank, joined);
    return LS_OK;
}

static ls_status read_merges(const reader *r, const cJSON *model)
{
    const cJSON *merges = field(model, "merges");
    if (!cJSON_IsArray(merges)) return LS_FAIL(LS_BAD_INPUT, "%s: the model has no list of merges", r->name);
    const bool whole_words = cJSON_IsTrue(field(model, "ignore_merges"));
    LS_TRY(ls_bpe_create(&r->out->bpe, &r->out->vocabulary, cJSON_GetArraySize(merges), whole_words, r->name));
    char *copy = malloc(2 * r->text_length + 2);
    if (copy == NULL) return LS_FAIL(LS_NO_MEMORY, "not enough memory to read %s", r->name);
    char *bytes = copy + r->text_length + 1;
    ls_status status = LS_OK;
    int32_t rank = 0;
    const cJSON *merge;
    cJSON_ArrayForEach(merge, merges)
    {
        status = read_merge(r, merge, rank++, copy, bytes);
        if (status != LS_OK) break;
    }
    free(copy);
    return status;
}

/* Gives the added token its text in the vocabulary, where the model's may already have put it. `bytes` has room for
 * `content`. Content that the byte alphabet would write as other bytes must not be the name of a token of the model. */
static ls_status place_added(const reader *r, const char *content, int32_t id, char *bytes)
{
    ls_vocabulary *vocabulary = &r->out->vocabulary;
    const size_t length = strlen(content);
    const ls_piece *piece = &vocabulary->pieces[id];
    size_t count;
    const bool written = ls_byte_alphabet_decode(bytes, &count, content, length);
    const int32_t same_name = written ? ls_vocabulary_find(vocabulary, bytes, count) : -1;
    if (piece->bytes == NULL && same_name < 0) {
        ls_vocabulary_set(vocabulary, id, content, length, false);
        return LS_OK;
    }
    if (piece->bytes != NULL && piece->length == length && memcmp(piece->bytes, content, length) == 0) return LS_OK;
    return LS_FAIL(LS_BAD_INPUT, "%s: added token '%s' has the id %d, which the model's vocabulary gives otherwise",
                   r->name, content, id);
}

static void note_end_of_text(ls_bpe_model *out, const char *content, int32_t id, size_t *best)
{
    static const char *const names[] = {"<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>"};
    for (size_t i = 0; i < *best && i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(content, names[i]) != 0) continue;
        out->end_of_text = id;
        *best = i;
    }
}

static ls_status read_added_tokens(const reader *r, const cJSON *added)
{
    const int total = cJSON_GetArraySize(added);
    if (total == 0) return LS_OK;
    ls_added_token *tokens = calloc(2 * (size_t)total, sizeof *tokens);
    char *bytes = malloc(r->text_length + 1);
    if (tokens == NULL || bytes == NULL) {
        free(tokens);
        free(bytes);
        return LS_FAIL(LS_NO_MEMORY, "not enough memory to read %s", r->name);
    }
    ls_added_token *const half[2] = {tokens, tokens + total};
    int count[2] = {0, 0};
    size_t best = SIZE_MAX;
    ls_status status = LS_OK;
    const cJSON *entry;
    cJSON_ArrayForEach(entry, added)
    {
        const char *content = field(entry, "content")->valuestring;
        const size_t length = strlen(content);
        const int32_t id = token_id(field(entry, "id"));
        if (length == 0) continue;
        LS_TRY_GOTO(place_added(r, content, id, bytes), done);
        note_end_of_text(r->out, content, id, &best);
        const int late = cJSON_IsTrue(field(entry, "normalized")) ? 1 : 0;
        half[late][count[late]++] = (ls_added_token){.text = r->out->vocabulary.pieces[id].bytes,
                                                     .length = length,
                                                     .id = id,
                                                     .left_strip = cJSON_IsTrue(field(entry, "lstrip")),
                                                     .right_strip = cJSON_IsTrue(field(entry, "rstrip")),
                                                     .single_word = cJSON_IsTrue(field(entry, "single_word"))};
    }
    for (int late = 0; late < 2; late++)
        LS_TRY_GOTO(ls_added_tokens_create(&r->out->added[late], half[late], count[late]), done);
done:
    free(tokens);
    free(bytes);
    return status;
}

static ls_status read_document(const reader *r)
{
    const cJSON *model = field(r->document, "model");
    const cJSON *added = field(r->document, "added_tokens");
    LS_TRY(check_model(r, model));
    LS_TRY(check_outside(r));
    const cJSON *vocab = field(model, "vocab");
    if (!cJSON_IsObject(vocab)) return LS_FAIL(LS_BAD_INPUT, "%s: the model has no vocabulary", r->name);
    if (added != NULL && !cJSON_IsArray(added)) return LS_FAIL(LS_BAD_INPUT, "%s: added_tokens is not a list", r->name);
    int64_t size = 0;
    LS_TRY(find_size(r, vocab, added, &size));
    LS_TRY(ls_vocabulary_create(&r->out->vocabulary, size, r->text_length));
    LS_TRY(read_vocabulary(r, vocab));
    LS_TRY(read_merges(r, model));
    LS_TRY(read_added_tokens(r, added));
    return ls_pipeline_read(&r->out->pre_tokenizer, field(r->document, "pre_tokenizer"), r->name);
}

ls_status ls_bpe_model_read(ls_bpe_model *out, const char *text, size_t length, const char *name)
{
    *out = (ls_bpe_model){.end_of_text = -1};
    cJSON *document = NULL;
    LS_TRY(ls_json_parse(&document, text, length, name));
    const reader r = {out, document, name, length};
    const ls_status status = read_document(&r);
    cJSON_Delete(document);
    return status;
}

void ls_bpe_model_destroy(ls_bpe_model *model)
{
    ls_pre_tokenizer_destroy(&model->pre_tokenizer);
    ls_added_tokens_destroy(&model->added[0]);
    ls_added_tokens_destroy(&model->added[1]);
    ls_bpe_destroy(&model->bpe);
    ls_vocabulary_destroy(&model->vocabulary);
}
