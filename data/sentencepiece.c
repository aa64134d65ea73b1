/* A SentencePiece model to a tokenizer.json; see sentencepiece.h. */
#include "data/sentencepiece.h"

#include "core/text.h"
#include "data/charsmap.h"
#include "data/utf8.h"
#include "data/vocabulary.h"
#include "sentencepiece.pb-c.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLANK "\xE2\x96\x81" /* U+2581 */

enum piece_type { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE };
enum { BPE = 2, LONGEST_PIECE = 1024 };

typedef LsSentencepiece__Piece piece;

/* A way to make a piece: the first `left` bytes of it and the rest are pieces too. */
typedef struct merge {
    const piece *whole;
    int32_t id; /* of the whole */
    size_t left, right;
} merge;

typedef struct conversion {
    const LsSentencepiece__Model *model;
    const char *name;
    ls_vocabulary vocabulary; /* what text is made of: the normal pieces */
    int32_t unknown, begin, end;
    merge *merges; /* [merge_count], best first */
    size_t merge_count, merge_capacity;
} conversion;

static ls_status check_settings(const conversion *c)
{
    const LsSentencepiece__TrainerSpec *trainer = c->model->trainer_spec;
    const LsSentencepiece__NormalizerSpec *normalizer = c->model->normalizer_spec;
    const LsSentencepiece__NormalizerSpec *denormalizer = c->model->denormalizer_spec;
    if (trainer == NULL || normalizer == NULL || c->model->n_pieces == 0)
        return LS_FAIL(LS_BAD_INPUT, "%s: not a SentencePiece model: it has no pieces or no settings", c->name);
    static const char *const types[] = {"?", "Unigram", "BPE", "word", "character"};
    const int type = trainer->model_type;
    if (type != BPE)
        return LS_FAIL(LS_BAD_INPUT, "%s: a SentencePiece model of %s type is not supported, only BPE is", c->name,
                       types[type >= 1 && type <= 4 ? type : 0]);
    if (denormalizer != NULL && denormalizer->precompiled_charsmap.len > 0)
        return LS_FAIL(LS_BAD_INPUT, "%s: a SentencePiece model that denormalizes is not supported", c->name);
    if (normalizer->precompiled_charsmap.len > 0) {
        ls_charsmap map;
        LS_TRY(ls_charsmap_create(&map, normalizer->precompiled_charsmap.data, normalizer->precompiled_charsmap.len,
                                  c->name));
        ls_charsmap_destroy(&map);
    }
    if (trainer->treat_whitespace_as_suffix || !normalizer->escape_whitespaces)
        return LS_FAIL(LS_BAD_INPUT,
                       "%s: a SentencePiece model that treats blanks in a way of its own is not supported", c->name);
    return c->model->n_pieces < INT32_MAX ? LS_OK : LS_FAIL(LS_BAD_INPUT, "%s: too many pieces", c->name);
}

static ls_status check_piece(const conversion *c, size_t number, const piece *p)
{
    const size_t length = p->piece == NULL ? 0 : strlen(p->piece);
    if (length == 0 || length > LONGEST_PIECE || ls_utf8_valid_prefix(p->piece, length) < length)
        return LS_FAIL(LS_BAD_INPUT, "%s: piece number %zu is empty, longer than %d bytes or not UTF-8", c->name,
                       number, (int)LONGEST_PIECE);
    if (p->type < NORMAL || p->type > BYTE || p->type == UNUSED)
        return LS_FAIL(LS_BAD_INPUT, "%s: piece number %zu is of type %d, which is not supported", c->name, number,
                       (int)p->type);
    return isfinite(p->score) ? LS_OK : LS_FAIL(LS_BAD_INPUT, "%s: piece number %zu has no score", c->name, number);
}

static bool is_named(const piece *p, const char *name) { return name != NULL && strcmp(p->piece, name) == 0; }

static ls_status check_bytes(const conversion *c, const ls_vocabulary *all)
{
    for (unsigned byte = 0; c->model->trainer_spec->byte_fallback && byte < 256; byte++) {
        char text[8];
        (void)snprintf(text, sizeof text, "<0x%02X>", byte);
        const int32_t id = ls_vocabulary_find(all, text, 6);
        if (id < 0 || c->model->pieces[id]->type != BYTE)
            return LS_FAIL(LS_BAD_INPUT, "%s: the model falls back to bytes but has no piece %s", c->name, text);
    }
    return LS_OK;
}

/* `all`: every piece, to find those given twice. */
static ls_status note_pieces(conversion *c, ls_vocabulary *all)
{
    const LsSentencepiece__TrainerSpec *trainer = c->model->trainer_spec;
    for (size_t i = 0; i < c->model->n_pieces; i++) {
        const piece *p = c->model->pieces[i];
        const int32_t id = (int32_t)i;
        LS_TRY(check_piece(c, i, p));
        const size_t length = strlen(p->piece);
        if (ls_vocabulary_find(all, p->piece, length) >= 0)
            return LS_FAIL(LS_BAD_INPUT, "%s: piece number %zu is there twice", c->name, i);
        ls_vocabulary_set(all, id, p->piece, length, true);
        if (p->type == NORMAL) ls_vocabulary_set(&c->vocabulary, id, p->piece, length, true);
        if (p->type == UNKNOWN && c->unknown >= 0)
            return LS_FAIL(LS_BAD_INPUT, "%s: the model has two unknown pieces", c->name);
        if (p->type == UNKNOWN) c->unknown = id;
        if (p->type == CONTROL && is_named(p, trainer->bos_piece)) c->begin = id;
        if (p->type == CONTROL && is_named(p, trainer->eos_piece)) c->end = id;
    }
    if (c->unknown < 0) return LS_FAIL(LS_BAD_INPUT, "%s: the model has no unknown piece", c->name);
    return check_bytes(c, all);
}

static ls_status read_pieces(conversion *c)
{
    size_t bytes = 0;
    for (size_t i = 0; i < c->model->n_pieces; i++)
        bytes += c->model->pieces[i]->piece == NULL ? 0 : strlen(c->model->pieces[i]->piece);
    ls_vocabulary all;
    LS_TRY(ls_vocabulary_create(&c->vocabulary, (int64_t)c->model->n_pieces, bytes));
    LS_TRY(ls_vocabulary_create(&all, (int64_t)c->model->n_pieces, bytes));
    const ls_status status = note_pieces(c, &all);
    ls_vocabulary_destroy(&all);
    return status;
}

static void add_merge(conversion *c, merge m)
{
    if (c->merge_count == c->merge_capacity) {
        c->merge_capacity = 2 * c->merge_capacity + 1024;
        c->merges = ls_text_memory(c->merges, c->merge_capacity * sizeof *c->merges);
    }
    c->merges[c->merge_count++] = m;
}

static void find_merges_of(conversion *c, int32_t id)
{
    const piece *whole = c->model->pieces[id];
    const size_t length = strlen(whole->piece);
    if (whole->type != NORMAL || strchr(whole->piece, ' ') != NULL) return; /* no text has a blank by then */
    for (size_t left = 1; left < length; left++) {
        if ((whole->piece[left] & 0xC0) == 0x80) continue;
        if (ls_vocabulary_find(&c->vocabulary, whole->piece, left) >= 0 &&
            ls_vocabulary_find(&c->vocabulary, whole->piece + left, length - left) >= 0)
            add_merge(c, (merge){whole, id, left, length - left});
    }
}

/* By falling score; then all of one piece together; then in the order that converters of such models use. */
static int compare_merges(const void *left, const void *right)
{
    const merge *a = left, *b = right;
    if (a->whole->score != b->whole->score) return a->whole->score > b->whole->score ? -1 : 1;
    if (a->id != b->id) return a->id < b->id ? -1 : 1;
    return a->left > b->left ? -1 : a->left < b->left;
}

static void find_merges(conversion *c)
{
    for (size_t i = 0; i < c->model->n_pieces; i++) find_merges_of(c, (int32_t)i);
    if (c->merge_count > 0) qsort(c->merges, c->merge_count, sizeof *c->merges, compare_merges);
}

static cJSON *make(const char *type)
{
    cJSON *object = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(object, "type", type);
    return object;
}

static cJSON *sequence(const char *key, cJSON **list)
{
    cJSON *object = make("Sequence");
    *list = cJSON_AddArrayToObject(object, key);
    return object;
}

static void add_replace(cJSON *list, const char *kind, const char *pattern, const char *content)
{
    cJSON *replace = make("Replace");
    (void)cJSON_AddStringToObject(cJSON_AddObjectToObject(replace, "pattern"), kind, pattern);
    (void)cJSON_AddStringToObject(replace, "content", content);
    (void)cJSON_AddItemToArray(list, replace);
}

static cJSON *make_normalizer(const LsSentencepiece__NormalizerSpec *spec)
{
    cJSON *list;
    cJSON *object = sequence("normalizers", &list);
    if (spec->precompiled_charsmap.len > 0) {
        char *text = ls_charsmap_to_base64(spec->precompiled_charsmap.data, spec->precompiled_charsmap.len);
        cJSON *map = make("Precompiled");
        (void)cJSON_AddStringToObject(map, "precompiled_charsmap", text);
        (void)cJSON_AddItemToArray(list, map);
        free(text);
    }
    if (spec->remove_extra_whitespaces) {
        add_replace(list, "Regex", "\\A +", "");
        add_replace(list, "Regex", "[ " BLANK "]+\\z", "");
        add_replace(list, "Regex", " {2,}", " ");
    }
    if (spec->add_dummy_prefix) {
        cJSON *prepend = make("Prepend");
        (void)cJSON_AddStringToObject(prepend, "prepend", BLANK);
        (void)cJSON_AddItemToArray(list, prepend);
    }
    add_replace(list, "String", " ", BLANK);
    return object;
}

static cJSON *make_decoder(const LsSentencepiece__NormalizerSpec *spec)
{
    cJSON *list;
    cJSON *object = sequence("decoders", &list);
    add_replace(list, "String", BLANK, " ");
    (void)cJSON_AddItemToArray(list, make("ByteFallback"));
    (void)cJSON_AddItemToArray(list, make("Fuse"));
    if (!spec->add_dummy_prefix) return object;
    cJSON *strip = make("Strip");
    (void)cJSON_AddStringToObject(strip, "content", " ");
    (void)cJSON_AddNumberToObject(strip, "start", 1);
    (void)cJSON_AddNumberToObject(strip, "stop", 0);
    (void)cJSON_AddItemToArray(list, strip);
    return object;
}

static void add_to_template(cJSON *list, const char *kind, const char *id, int type)
{
    cJSON *object = cJSON_CreateObject();
    cJSON *inner = cJSON_AddObjectToObject(object, kind);
    (void)cJSON_AddStringToObject(inner, "id", id);
    (void)cJSON_AddNumberToObject(inner, "type_id", type);
    (void)cJSON_AddItemToArray(list, object);
}

/* The BOS token before each text; null when the model has none. */
static cJSON *make_template(const conversion *c)
{
    if (c->begin < 0) return cJSON_CreateNull();
    const char *begin = c->model->pieces[c->begin]->piece;
    cJSON *object = make("TemplateProcessing");
    cJSON *lists[2] = {cJSON_AddArrayToObject(object, "single"), cJSON_AddArrayToObject(object, "pair")};
    for (int i = 0; i < 3; i++) {
        add_to_template(lists[i > 0], "SpecialToken", begin, i == 2);
        add_to_template(lists[i > 0], "Sequence", i == 2 ? "B" : "A", i == 2);
    }
    cJSON *token = cJSON_AddObjectToObject(cJSON_AddObjectToObject(object, "special_tokens"), begin);
    (void)cJSON_AddStringToObject(token, "id", begin);
    (void)cJSON_AddItemToArray(cJSON_AddArrayToObject(token, "ids"), cJSON_CreateNumber(c->begin));
    (void)cJSON_AddItemToArray(cJSON_AddArrayToObject(token, "tokens"), cJSON_CreateString(begin));
    return object;
}

static cJSON *make_added_tokens(const conversion *c)
{
    cJSON *list = cJSON_CreateArray();
    for (size_t i = 0; i < c->model->n_pieces; i++) {
        const piece *p = c->model->pieces[i];
        if (p->type == NORMAL || p->type == BYTE) continue;
        cJSON *token = cJSON_CreateObject();
        (void)cJSON_AddNumberToObject(token, "id", (double)i);
        (void)cJSON_AddStringToObject(token, "content", p->piece);
        static const char *const flags[] = {"single_word", "lstrip", "rstrip", "normalized"};
        for (size_t f = 0; f < 4; f++) (void)cJSON_AddFalseToObject(token, flags[f]);
        (void)cJSON_AddBoolToObject(token, "special", p->type != USER_DEFINED);
        (void)cJSON_AddItemToArray(list, token);
    }
    return list;
}

/* Ranges of merges that give different pieces of one score. */
static cJSON *make_ties(const conversion *c)
{
    cJSON *list = cJSON_CreateArray();
    for (size_t first = 0, next; first < c->merge_count; first = next) {
        bool several = false;
        for (next = first + 1; next < c->merge_count && c->merges[next].whole->score == c->merges[first].whole->score;
             next++)
            several = several || c->merges[next].id != c->merges[first].id;
        if (!several) continue;
        const int range[2] = {(int)first, (int)next - 1};
        (void)cJSON_AddItemToArray(list, cJSON_CreateIntArray(range, 2));
    }
    return list;
}

static cJSON *make_settings(const conversion *c)
{
    cJSON *object = cJSON_CreateObject();
    (void)cJSON_AddBoolToObject(object, "add_dummy_prefix", c->model->normalizer_spec->add_dummy_prefix);
    (void)cJSON_AddBoolToObject(object, "remove_extra_whitespaces",
                                c->model->normalizer_spec->remove_extra_whitespaces);
    (void)cJSON_AddStringToObject(object, "unk_surface", c->model->trainer_spec->unk_surface);
    if (c->end >= 0) (void)cJSON_AddNumberToObject(object, "eos_id", c->end);
    (void)cJSON_AddItemToObject(object, "ties", make_ties(c));
    return object;
}

static cJSON *make_model(const conversion *c)
{
    cJSON *object = make("BPE");
    (void)cJSON_AddNullToObject(object, "dropout");
    (void)cJSON_AddStringToObject(object, "unk_token", c->model->pieces[c->unknown]->piece);
    (void)cJSON_AddNullToObject(object, "continuing_subword_prefix");
    (void)cJSON_AddNullToObject(object, "end_of_word_suffix");
    (void)cJSON_AddTrueToObject(object, "fuse_unk");
    (void)cJSON_AddBoolToObject(object, "byte_fallback", c->model->trainer_spec->byte_fallback);
    (void)cJSON_AddFalseToObject(object, "ignore_merges");
    (void)cJSON_AddItemToObject(object, "sentencepiece", make_settings(c));
    cJSON *vocab = cJSON_AddObjectToObject(object, "vocab");
    for (size_t i = 0; i < c->model->n_pieces; i++)
        (void)cJSON_AddNumberToObject(vocab, c->model->pieces[i]->piece, (double)i);
    cJSON *merges = cJSON_AddArrayToObject(object, "merges");
    for (size_t i = 0; i < c->merge_count; i++) {
        const merge *m = &c->merges[i];
        char *text = ls_text_format("%.*s %s", (int)m->left, m->whole->piece, m->whole->piece + m->left);
        (void)cJSON_AddItemToArray(merges, cJSON_CreateString(text));
        free(text);
    }
    return object;
}

static ls_status print_json(char **json, const conversion *c)
{
    cJSON *document = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(document, "version", "1.0");
    (void)cJSON_AddNullToObject(document, "truncation");
    (void)cJSON_AddNullToObject(document, "padding");
    (void)cJSON_AddItemToObject(document, "added_tokens", make_added_tokens(c));
    (void)cJSON_AddItemToObject(document, "normalizer", make_normalizer(c->model->normalizer_spec));
    (void)cJSON_AddNullToObject(document, "pre_tokenizer");
    (void)cJSON_AddItemToObject(document, "post_processor", make_template(c));
    (void)cJSON_AddItemToObject(document, "decoder", make_decoder(c->model->normalizer_spec));
    (void)cJSON_AddItemToObject(document, "model", make_model(c));
    char *printed = cJSON_PrintUnformatted(document);
    cJSON_Delete(document);
    if (printed == NULL) return LS_FAIL(LS_NO_MEMORY, "not enough memory for the tokenizer %s", c->name);
    *json = ls_text_copy(printed, strlen(printed));
    cJSON_free(printed);
    return LS_OK;
}

static ls_status convert(char **json, conversion *c)
{
    LS_TRY(check_settings(c));
    LS_TRY(read_pieces(c));
    find_merges(c);
    return print_json(json, c);
}

ls_status ls_sentencepiece_to_json(char **json, const void *bytes, size_t length, const char *name)
{
    *json = NULL;
    LsSentencepiece__Model *model = ls_sentencepiece__model__unpack(NULL, length, bytes);
    if (model == NULL)
        return LS_FAIL(LS_BAD_INPUT, "%s: not a SentencePiece model, or one that is damaged or cut short", name);
    conversion c = {.model = model, .name = name, .unknown = -1, .begin = -1, .end = -1};
    const ls_status status = convert(json, &c);
    ls_vocabulary_destroy(&c.vocabulary);
    free(c.merges);
    ls_sentencepiece__model__free_unpacked(model, NULL);
    return status;
}
