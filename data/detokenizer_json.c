/* The decoder and the post_processor of a tokenizer.json; see pipeline_json.h. */
#include "core/json.h"
#include "core/text.h"
#include "data/pipeline_json.h"
#include "data/utf8.h"

#include <stdlib.h>
#include <string.h>

static const cJSON *field(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static const char *text_field(const cJSON *object, const char *key) { return cJSON_GetStringValue(field(object, key)); }

/* A whole number in low..high; `otherwise` when it is another thing. */
static int int_field(const cJSON *object, const char *key, int low, int high, int otherwise)
{
    const cJSON *value = field(object, key);
    if (!cJSON_IsNumber(value) || value->valuedouble < low || value->valuedouble > high) return otherwise;
    return value->valueint;
}

static ls_status read_character(ls_detokenizer_step *step, const cJSON *decoder, const char *key, const char *name)
{
    const char *text = text_field(decoder, key);
    uint32_t character;
    if (text == NULL || text[0] == '\0' || ls_utf8_decode(text, strlen(text), &character) != (int)strlen(text))
        return LS_FAIL(LS_BAD_INPUT, "%s: the %s of a decoder is not one character", name, key);
    memcpy(step->character, text, strlen(text) + 1);
    return LS_OK;
}

static ls_status read_strip(ls_detokenizer_step *step, const cJSON *decoder, const char *name)
{
    step->kind = LS_DETOKENIZER_STRIP;
    step->start = int_field(decoder, "start", 0, 1 << 20, -1);
    step->stop = int_field(decoder, "stop", 0, 1 << 20, -1);
    if (step->start < 0 || step->stop < 0)
        return LS_FAIL(LS_BAD_INPUT, "%s: a Strip decoder needs a start and a stop from 0", name);
    return read_character(step, decoder, "content", name);
}

static ls_status read_metaspace(ls_detokenizer_step *step, const cJSON *decoder, const char *name)
{
    const char *scheme = text_field(decoder, "prepend_scheme");
    step->kind = LS_DETOKENIZER_METASPACE;
    step->drops_first =
        scheme != NULL ? strcmp(scheme, "never") != 0 : !cJSON_IsFalse(field(decoder, "add_prefix_space"));
    return read_character(step, decoder, "replacement", name);
}

static ls_status add_decoder(ls_detokenizer *out, const cJSON *decoder, const char *name)
{
    const char *type = text_field(decoder, "type");
    if (type == NULL) return LS_FAIL(LS_BAD_INPUT, "%s: a decoder has no type", name);
    if (strcmp(type, "Sequence") == 0) {
        const cJSON *inner;
        cJSON_ArrayForEach(inner, field(decoder, "decoders")) { LS_TRY(add_decoder(out, inner, name)); }
        return LS_OK;
    }
    if (out->count == LS_DETOKENIZER_STEPS)
        return LS_FAIL(LS_BAD_INPUT, "%s: the decoder has more than %d steps", name, LS_DETOKENIZER_STEPS);
    ls_detokenizer_step *step = &out->steps[out->count++];
    *step = (ls_detokenizer_step){0};
    if (strcmp(type, "Strip") == 0) return read_strip(step, decoder, name);
    if (strcmp(type, "Metaspace") == 0) return read_metaspace(step, decoder, name);
    if (strcmp(type, "Replace") == 0) {
        step->kind = LS_DETOKENIZER_REPLACE;
        return ls_replacement_read(&step->replacement, decoder, name);
    }
    static const struct {
        const char *type;
        ls_detokenizer_kind kind;
    } plain[] = {{"ByteLevel", LS_DETOKENIZER_BYTE_LEVEL},
                 {"ByteFallback", LS_DETOKENIZER_BYTE_FALLBACK},
                 {"Fuse", LS_DETOKENIZER_FUSE}};
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        if (strcmp(type, plain[i].type) != 0) continue;
        step->kind = plain[i].kind;
        return LS_OK;
    }
    return LS_FAIL(LS_BAD_INPUT, "%s: decoder '%s' is not supported", name, type);
}

ls_status ls_detokenizer_read(ls_detokenizer *out, const cJSON *decoder, const char *name)
{
    if (decoder == NULL || cJSON_IsNull(decoder)) return LS_OK;
    return add_decoder(out, decoder, name);
}

/* What the reading of a post_processor carries. */
typedef struct frame {
    ls_ids *prefix, *suffix;
    int64_t vocab_size;
    const char *name;
} frame;

static ls_status add_id(const frame *f, ls_ids *ids, const cJSON *id)
{
    if (!cJSON_IsNumber(id) || id->valuedouble < 0 || id->valuedouble >= (double)f->vocab_size ||
        id->valuedouble != (double)id->valueint)
        return LS_FAIL(LS_BAD_INPUT, "%s: the post_processor adds a token whose id is not in the vocabulary", f->name);
    LS_TRY(ls_ids_reserve(ids, 1));
    ids->values[ids->count++] = id->valueint;
    return LS_OK;
}

/* One entry of "single": the text itself, or a special token before or behind it. */
static ls_status read_template_piece(const frame *f, const cJSON *piece, const cJSON *tokens, ls_ids *before,
                                     ls_ids *behind, bool *text_seen)
{
    const char *token = text_field(field(piece, "SpecialToken"), "id");
    const char *sequence = text_field(field(piece, "Sequence"), "id");
    if (token == NULL && sequence != NULL && strcmp(sequence, "A") == 0 && !*text_seen) {
        *text_seen = true;
        return LS_OK;
    }
    const cJSON *ids = token != NULL ? field(field(tokens, token), "ids") : NULL;
    if (!cJSON_IsArray(ids))
        return LS_FAIL(LS_BAD_INPUT, "%s: the post_processor's template is not special tokens and one text", f->name);
    const cJSON *id;
    cJSON_ArrayForEach(id, ids) { LS_TRY(add_id(f, *text_seen ? behind : before, id)); }
    return LS_OK;
}

static ls_status read_template(const frame *f, const cJSON *template, ls_ids *before, ls_ids *behind)
{
    bool text_seen = false;
    const cJSON *piece;
    cJSON_ArrayForEach(piece, field(template, "single"))
    {
        LS_TRY(read_template_piece(f, piece, field(template, "special_tokens"), before, behind, &text_seen));
    }
    if (!text_seen)
        return LS_FAIL(LS_BAD_INPUT, "%s: the post_processor's template has no place for the text", f->name);
    return LS_OK;
}

/* "cls": [text, id] before, "sep": [text, id] behind. */
static ls_status read_pair(const frame *f, const cJSON *processor, ls_ids *before, ls_ids *behind)
{
    LS_TRY(add_id(f, before, cJSON_GetArrayItem(field(processor, "cls"), 1)));
    return add_id(f, behind, cJSON_GetArrayItem(field(processor, "sep"), 1));
}

static ls_status append_ids(ls_ids *out, const ls_ids *ids)
{
    LS_TRY(ls_ids_reserve(out, ids->count));
    if (ids->count > 0) memcpy(out->values + out->count, ids->values, (size_t)ids->count * sizeof *ids->values);
    out->count += ids->count;
    return LS_OK;
}

/* A later processor works around what an earlier one made. */
static ls_status add_around(const frame *f, ls_ids *before, const ls_ids *behind)
{
    LS_TRY(append_ids(before, f->prefix));
    const ls_ids inner = *f->prefix;
    *f->prefix = *before;
    *before = inner;
    return append_ids(f->suffix, behind);
}

static ls_status add_processor(const frame *f, const cJSON *processor)
{
    const char *type = text_field(processor, "type");
    if (type == NULL) return LS_FAIL(LS_BAD_INPUT, "%s: a post_processor has no type", f->name);
    if (strcmp(type, "ByteLevel") == 0) return LS_OK;
    if (strcmp(type, "Sequence") == 0) {
        const cJSON *inner;
        cJSON_ArrayForEach(inner, field(processor, "processors")) { LS_TRY(add_processor(f, inner)); }
        return LS_OK;
    }
    const bool pair = strcmp(type, "BertProcessing") == 0 || strcmp(type, "RobertaProcessing") == 0;
    if (!pair && strcmp(type, "TemplateProcessing") != 0)
        return LS_FAIL(LS_BAD_INPUT, "%s: post_processor '%s' is not supported", f->name, type);
    ls_ids before = {0}, behind = {0};
    ls_status status = pair ? read_pair(f, processor, &before, &behind) : read_template(f, processor, &before, &behind);
    if (status == LS_OK) status = add_around(f, &before, &behind);
    free(before.values);
    free(behind.values);
    return status;
}

ls_status ls_template_read(ls_ids *prefix, ls_ids *suffix, const cJSON *post_processor, int64_t vocab_size,
                           const char *name)
{
    const frame f = {prefix, suffix, vocab_size, name};
    if (post_processor == NULL || cJSON_IsNull(post_processor)) return LS_OK;
    return add_processor(&f, post_processor);
}
