/* tokenizer.json to tables: model (vocabulary, merges) and added tokens here, what is around them in pipeline_json.c
 * and detokenizer_json.c. Truncation and padding are not read; everything else is understood or refused. */
#include "data/tokenizer_json.h"

#include "core/json.h"
#include "core/text.h"
#include "data/pipeline_json.h"
#include "data/utf8.h"

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
    const cJSON *entry;
    cJSON_ArrayForEach(entry, vocab)
    {
        const int32_t id = token_id(entry);
        if (r->out->vocabulary.pieces[id].text != NULL)
            return LS_FAIL(LS_BAD_INPUT, "%s: two tokens have the id %d", r->name, id);
        ls_vocabulary_set(&r->out->vocabulary, id, entry->string, strlen(entry->string), true);
    }
    return LS_OK;
}

/* unk_token; *unknown -1: none, or not of this vocabulary, which only matters where a byte or character has no token.
 */
static ls_status read_unknown(const reader *r, const cJSON *model, int32_t *unknown)
{
    const cJSON *token = field(model, "unk_token");
    const char *text = cJSON_GetStringValue(token);
    *unknown = -1;
    if (is_set(token) && text == NULL) return LS_FAIL(LS_BAD_INPUT, "%s: the model's unk_token is not a text", r->name);
    if (text != NULL) *unknown = ls_vocabulary_find(&r->out->vocabulary, text, strlen(text));
    return LS_OK;
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

/* `copy` has room for the text of the merge; `both` becomes that of its token. */
static ls_status read_merge(const reader *r, const cJSON *merge, int32_t number, int32_t *joined, int32_t parts[2],
                            char *copy, ls_text *both)
{
    const ls_vocabulary *vocabulary = &r->out->vocabulary;
    const char *left;
    const char *right;
    if (!merge_parts(merge, copy, &left, &right))
        return LS_FAIL(LS_BAD_INPUT, "%s: merge number %d is not two tokens", r->name, number);
    const size_t left_length = strlen(left), right_length = strlen(right);
    both->length = 0;
    ls_text_add(both, left, left_length);
    ls_text_add(both, right, right_length);
    parts[0] = ls_vocabulary_find(vocabulary, left, left_length);
    parts[1] = ls_vocabulary_find(vocabulary, right, right_length);
    *joined = ls_vocabulary_find(vocabulary, both->bytes, both->length);
    if (parts[0] < 0 || parts[1] < 0 || *joined < 0)
        return LS_FAIL(LS_BAD_INPUT, "%s: merge number %d ('%s' and '%s') uses a token that is not in the vocabulary",
                       r->name, number, left, right);
    return LS_OK;
}

/* Of a SentencePiece model: all merges that give one piece have one rank, and so have the pieces of one score: those of
 * the merges first..last, for each [first, last] of "ties". */
static bool is_tied(const cJSON **tie, int32_t number, bool same_piece)
{
    while (*tie != NULL && cJSON_GetNumberValue(cJSON_GetArrayItem(*tie, 1)) < number) *tie = (*tie)->next;
    return same_piece || (*tie != NULL && cJSON_GetNumberValue(cJSON_GetArrayItem(*tie, 0)) < number);
}

static ls_status read_merges(const reader *r, const cJSON *merges)
{
    char *copy = malloc(r->text_length + 1);
    ls_text both = {0};
    if (copy == NULL) return LS_FAIL(LS_NO_MEMORY, "not enough memory to read %s", r->name);
    const cJSON *tie = field(field(field(r->document, "model"), "sentencepiece"), "ties");
    if (tie != NULL) tie = tie->child;
    ls_status status = LS_OK;
    int32_t number = 0, rank = -1, previous = -1;
    const cJSON *merge;
    cJSON_ArrayForEach(merge, merges)
    {
        int32_t parts[2] = {-1, -1}, joined = -1;
        status = read_merge(r, merge, number + 1, &joined, parts, copy, &both);
        if (status != LS_OK) break;
        if (!r->out->sentencepiece || !is_tied(&tie, number, joined == previous)) rank = number;
        ls_bpe_add_merge(&r->out->bpe, parts[0], parts[1], rank, joined);
        previous = joined;
        number++;
    }
    free(both.bytes);
    free(copy);
    return status;
}

static ls_status read_bpe(const reader *r, const cJSON *model, bool byte_level)
{
    const cJSON *merges = field(model, "merges");
    if (!cJSON_IsArray(merges)) return LS_FAIL(LS_BAD_INPUT, "%s: the model has no list of merges", r->name);
    ls_bpe_options options = {.byte_level = byte_level,
                              .whole_words = cJSON_IsTrue(field(model, "ignore_merges")),
                              .byte_fallback = cJSON_IsTrue(field(model, "byte_fallback")),
                              .fuse_unknown = cJSON_IsTrue(field(model, "fuse_unk")),
                              .frozen = r->out->user_defined.count > 0 ? &r->out->user_defined : NULL};
    LS_TRY(read_unknown(r, model, &options.unknown));
    LS_TRY(ls_bpe_create(&r->out->bpe, &r->out->vocabulary, &options, cJSON_GetArraySize(merges)));
    return read_merges(r, merges);
}

/* Gives the added token its text in the vocabulary, where the model's may already have put it. */
static ls_status place_added(const reader *r, const char *content, int32_t id)
{
    ls_vocabulary *vocabulary = &r->out->vocabulary;
    const size_t length = strlen(content);
    const ls_piece *piece = &vocabulary->pieces[id];
    if (piece->text == NULL && ls_vocabulary_find(vocabulary, content, length) < 0) {
        ls_vocabulary_set(vocabulary, id, content, length, false);
        return LS_OK;
    }
    if (piece->text != NULL && piece->length == length && memcmp(piece->text, content, length) == 0) return LS_OK;
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

/* The lists that added tokens are sorted into: LATE are those that are looked for in normalized text. */
enum { EARLY, LATE, USER_DEFINED, LISTS };

typedef struct added_lists {
    ls_added_token *tokens[LISTS]; /* [count] each, in one block of memory */
    int count[LISTS];
} added_lists;

static ls_status sort_added_token(const reader *r, const cJSON *entry, added_lists *lists, size_t *best)
{
    const char *content = field(entry, "content")->valuestring;
    const int32_t id = token_id(field(entry, "id"));
    const bool special = cJSON_IsTrue(field(entry, "special"));
    if (content[0] == '\0') return LS_OK;
    LS_TRY(place_added(r, content, id));
    note_end_of_text(r->out, content, id, best);
    r->out->special[id] = special;
    if (r->out->sentencepiece && special) return LS_OK; /* no text stands for it */
    const int list = r->out->sentencepiece ? USER_DEFINED : cJSON_IsTrue(field(entry, "normalized")) ? LATE : EARLY;
    lists->tokens[list][lists->count[list]++] =
        (ls_added_token){.text = r->out->vocabulary.pieces[id].text,
                         .length = strlen(content),
                         .id = id,
                         .left_strip = cJSON_IsTrue(field(entry, "lstrip")),
                         .right_strip = cJSON_IsTrue(field(entry, "rstrip")),
                         .single_word = cJSON_IsTrue(field(entry, "single_word"))};
    return LS_OK;
}

/* Makes the texts of tokens[count] what normalizing makes of them, for finding them and for showing them. */
static ls_status normalize_added(ls_bpe_model *out, ls_added_token *tokens, int *count)
{
    if (out->normalizer.count == 0 || *count == 0) return LS_OK;
    ls_regex_scratch *scratch = NULL;
    ls_buffer work[2] = {0};
    out->shown = malloc((size_t)out->vocabulary.size * sizeof *out->shown);
    if (out->shown == NULL) return LS_FAIL(LS_NO_MEMORY, "not enough memory for the added tokens");
    ls_status status = ls_regex_scratch_create(&scratch);
    for (int i = 0; i < *count && status == LS_OK; i++) {
        const char *text = tokens[i].text;
        LS_TRY_GOTO(ls_normalizer_run(&out->normalizer, scratch, work, false, &text, &tokens[i].length), done);
        status = ls_buffer_add(&out->added_texts, text, tokens[i].length);
    }
done:
    if (status == LS_OK) {
        memcpy(out->shown, out->vocabulary.pieces, (size_t)out->vocabulary.size * sizeof *out->shown);
        size_t at = 0;
        int kept = 0;
        for (int i = 0; i < *count; i++) {
            tokens[i].text = out->added_texts.bytes + at;
            at += tokens[i].length;
            out->shown[tokens[i].id] = (ls_piece){tokens[i].text, tokens[i].length};
            if (tokens[i].length > 0) tokens[kept++] = tokens[i];
        }
        *count = kept;
    }
    ls_regex_scratch_free(scratch);
    ls_buffer_destroy(&work[0]);
    ls_buffer_destroy(&work[1]);
    return status;
}

static ls_status read_added_tokens(const reader *r, const cJSON *added)
{
    const int total = cJSON_GetArraySize(added);
    ls_bpe_model *out = r->out;
    out->special = calloc((size_t)out->vocabulary.size, sizeof *out->special);
    ls_added_token *tokens = calloc(LISTS * (size_t)total + 1, sizeof *tokens);
    if (tokens == NULL || out->special == NULL) {
        free(tokens);
        return LS_FAIL(LS_NO_MEMORY, "not enough memory to read %s", r->name);
    }
    added_lists lists = {.tokens = {tokens, tokens + total, tokens + 2 * (size_t)total}};
    size_t best = SIZE_MAX;
    ls_status status = LS_OK;
    const cJSON *entry;
    cJSON_ArrayForEach(entry, added) { LS_TRY_GOTO(sort_added_token(r, entry, &lists, &best), done); }
    LS_TRY_GOTO(normalize_added(out, lists.tokens[LATE], &lists.count[LATE]), done);
    for (int late = 0; late < 2; late++)
        LS_TRY_GOTO(ls_added_tokens_create(&out->added[late], lists.tokens[late], lists.count[late]), done);
    status = ls_added_tokens_create(&out->user_defined, lists.tokens[USER_DEFINED], lists.count[USER_DEFINED]);
done:
    free(tokens);
    return status;
}

/* The decoder of a SentencePiece model. */
static void use_sentencepiece(const reader *r, const cJSON *settings)
{
    ls_detokenizer *d = &r->out->detokenizer;
    ls_detokenizer_destroy(d);
    const char *unknown = cJSON_GetStringValue(field(settings, "unk_surface"));
    if (unknown == NULL) unknown = " \xE2\x81\x87 ";
    const bool dummy = cJSON_IsTrue(field(settings, "add_dummy_prefix"));
    const bool squeeze = cJSON_IsTrue(field(settings, "remove_extra_whitespaces"));
    d->steps[0] = (ls_detokenizer_step){
        .kind = LS_DETOKENIZER_SENTENCEPIECE,
        .replacement = {.content = ls_text_copy(unknown, strlen(unknown)), .content_length = strlen(unknown)},
        .drops_first = dummy || squeeze,
        .drops_every_first = squeeze};
    d->count = 1;
    d->silent = r->out->special;
    d->unknown = r->out->bpe.options.unknown;
    if (d->unknown >= 0) r->out->special[d->unknown] = false;
}

/* Where there is no decoder, a byte-level tokenizer means the one for its alphabet; the library would show that. */
static void complete_detokenizer(ls_detokenizer *out, bool byte_level)
{
    if (out->count > 0) return;
    out->steps[0] = (ls_detokenizer_step){.kind = byte_level ? LS_DETOKENIZER_BYTE_LEVEL : LS_DETOKENIZER_BLANKS};
    out->count = 1;
}

static ls_status read_around(const reader *r, bool *byte_level)
{
    ls_bpe_model *out = r->out;
    LS_TRY(ls_normalizer_read(&out->normalizer, field(r->document, "normalizer"), out->sentencepiece, r->name));
    LS_TRY(ls_pre_tokenizer_read(&out->pre_tokenizer, byte_level, field(r->document, "pre_tokenizer"), r->name));
    LS_TRY(ls_detokenizer_read(&out->detokenizer, field(r->document, "decoder"), r->name));
    complete_detokenizer(&out->detokenizer, *byte_level);
    LS_TRY(ls_template_read(&out->prefix, &out->suffix, field(r->document, "post_processor"), out->vocabulary.size,
                            r->name));
    if (out->suffix.count > 0) out->end_of_text = out->suffix.values[out->suffix.count - 1];
    return LS_OK;
}

static ls_status read_document(const reader *r)
{
    const cJSON *model = field(r->document, "model");
    const cJSON *added = field(r->document, "added_tokens");
    const cJSON *sentencepiece = field(model, "sentencepiece");
    LS_TRY(check_model(r, model));
    const cJSON *vocab = field(model, "vocab");
    if (!cJSON_IsObject(vocab) || vocab->child == NULL)
        return LS_FAIL(LS_BAD_INPUT, "%s: the model has no vocabulary", r->name);
    if (is_set(added) && !cJSON_IsArray(added)) return LS_FAIL(LS_BAD_INPUT, "%s: added_tokens is not a list", r->name);
    int64_t size = 0;
    LS_TRY(find_size(r, vocab, added, &size));
    LS_TRY(ls_vocabulary_create(&r->out->vocabulary, size, r->text_length));
    LS_TRY(read_vocabulary(r, vocab));
    r->out->sentencepiece = cJSON_IsObject(sentencepiece);
    bool byte_level = false;
    LS_TRY(read_around(r, &byte_level));
    const int32_t template_end = r->out->end_of_text;
    LS_TRY(read_added_tokens(r, added));
    if (template_end >= 0) r->out->end_of_text = template_end;
    if (r->out->user_defined.count > 0) r->out->normalizer.kept = &r->out->user_defined;
    LS_TRY(read_bpe(r, model, byte_level));
    const int32_t stated_end = token_id(field(sentencepiece, "eos_id"));
    if (stated_end >= 0 && stated_end < size) r->out->end_of_text = stated_end;
    if (r->out->sentencepiece) use_sentencepiece(r, sentencepiece);
    return LS_OK;
}

ls_status ls_bpe_model_read(ls_bpe_model *out, const char *text, size_t length, const char *name)
{
    *out = (ls_bpe_model){.end_of_text = -1};
    cJSON *document = NULL;
    const size_t valid = ls_utf8_valid_prefix(text, length);
    if (valid < length) return LS_FAIL(LS_BAD_INPUT, "%s: byte %zu of the file is not UTF-8", name, valid + 1);
    LS_TRY(ls_json_parse(&document, text, length, name));
    const reader r = {out, document, name, length};
    const ls_status status = read_document(&r);
    cJSON_Delete(document);
    return status;
}

void ls_bpe_model_destroy(ls_bpe_model *model)
{
    ls_normalizer_destroy(&model->normalizer);
    ls_pre_tokenizer_destroy(&model->pre_tokenizer);
    ls_detokenizer_destroy(&model->detokenizer);
    ls_added_tokens_destroy(&model->added[0]);
    ls_added_tokens_destroy(&model->added[1]);
    ls_added_tokens_destroy(&model->user_defined);
    ls_bpe_destroy(&model->bpe);
    ls_vocabulary_destroy(&model->vocabulary);
    ls_buffer_destroy(&model->added_texts);
    free(model->prefix.values);
    free(model->suffix.values);
    free(model->special);
    free(model->shown);
}
