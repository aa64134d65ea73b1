/* The normalizer and the pre_tokenizer of a tokenizer.json; see pipeline_json.h. */
#include "data/pipeline_json.h"

#include "core/json.h"
#include "core/text.h"
#include "data/utf8.h"

#include <string.h>

/* Of Radford et al. 2019, in the form every tokenizer.json with "use_regex" means: contractions, then words, numbers
 * and the rest with at most one space before, then white space, whose last character is left to the word behind it. */
#define GPT2_PATTERN "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

/* Numbers of Unicode 17, which Digits goes by, unlike the regular expressions. */
#define NUMBER_PATTERN "[\\p{N}\\x{11de0}-\\x{11de9}\\x{16ff4}-\\x{16ff6}]"

static const cJSON *field(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static const char *text_field(const cJSON *object, const char *key) { return cJSON_GetStringValue(field(object, key)); }

/* The component's type; NULL with a failure when there is none. */
static ls_status read_type(const char **type, const cJSON *component, const char *what, const char *name)
{
    *type = text_field(component, "type");
    return *type != NULL ? LS_OK : LS_FAIL(LS_BAD_INPUT, "%s: a %s has no type", name, what);
}

ls_status ls_replacement_read(ls_replacement *out, const cJSON *replace, const char *name)
{
    const char *regex = text_field(field(replace, "pattern"), "Regex");
    const char *literal = text_field(field(replace, "pattern"), "String");
    const char *content = text_field(replace, "content");
    if ((regex == NULL) == (literal == NULL) || content == NULL || (literal != NULL && literal[0] == '\0'))
        return LS_FAIL(LS_BAD_INPUT, "%s: a Replace needs content, and a pattern with either Regex or String", name);
    out->content_length = strlen(content);
    out->content = ls_text_copy(content, out->content_length);
    if (regex != NULL) return ls_regex_compile(&out->regex, regex, false, name);
    out->literal_length = strlen(literal);
    out->literal = ls_text_copy(literal, out->literal_length);
    return LS_OK;
}

/* `charsmaps`: a Precompiled table is understood. The library reads one in a way of its own, SentencePiece by the
 * longest match. */
static ls_status add_normalizer(ls_normalizer *out, const cJSON *normalizer, bool charsmaps, const char *name)
{
    const char *type, *content;
    LS_TRY(read_type(&type, normalizer, "normalizer", name));
    if (strcmp(type, "Sequence") == 0) {
        const cJSON *inner;
        cJSON_ArrayForEach(inner, field(normalizer, "normalizers"))
        {
            LS_TRY(add_normalizer(out, inner, charsmaps, name));
        }
        return LS_OK;
    }
    if (out->count == LS_NORMALIZER_STEPS)
        return LS_FAIL(LS_BAD_INPUT, "%s: the normalizer has more than %d steps", name, LS_NORMALIZER_STEPS);
    ls_normalizer_step *step = &out->steps[out->count++];
    *step = (ls_normalizer_step){0};
    step->kind = LS_NORMALIZER_REPLACE;
    if (strcmp(type, "Replace") == 0) {
        const char *regex = text_field(field(normalizer, "pattern"), "Regex");
        step->beginning = regex != NULL && strncmp(regex, "\\A", 2) == 0 && strchr(regex, '|') == NULL;
        return ls_replacement_read(&step->replacement, normalizer, name);
    }
    content = text_field(normalizer, "precompiled_charsmap");
    if (strcmp(type, "Precompiled") == 0 && charsmaps && content != NULL) {
        step->kind = LS_NORMALIZER_CHARSMAP;
        return ls_charsmap_from_base64(&step->charsmap, content, name);
    }
    if (strcmp(type, "Prepend") != 0) return LS_FAIL(LS_BAD_INPUT, "%s: normalizer '%s' is not supported", name, type);
    content = text_field(normalizer, "prepend");
    if (content == NULL) return LS_FAIL(LS_BAD_INPUT, "%s: a Prepend normalizer has nothing to prepend", name);
    step->kind = LS_NORMALIZER_PREPEND;
    step->beginning = true;
    step->replacement.content_length = strlen(content);
    step->replacement.content = ls_text_copy(content, strlen(content));
    return LS_OK;
}

ls_status ls_normalizer_read(ls_normalizer *out, const cJSON *normalizer, bool charsmaps, const char *name)
{
    if (normalizer == NULL || cJSON_IsNull(normalizer)) return LS_OK;
    return add_normalizer(out, normalizer, charsmaps, name);
}

static ls_status add_stage(ls_pre_tokenizer *out, ls_stage stage, const char *name)
{
    if (out->count == LS_STAGES) {
        ls_regex_free(stage.pattern);
        return LS_FAIL(LS_BAD_INPUT, "%s: the pre-tokenizer has more than %d stages", name, LS_STAGES);
    }
    out->stages[out->count++] = stage;
    return LS_OK;
}

static ls_status add_pattern(ls_pre_tokenizer *out, const char *pattern, bool literal, ls_split_behavior behavior,
                             bool invert, const char *name)
{
    ls_stage stage = {.behavior = behavior, .invert = invert};
    LS_TRY(ls_regex_compile(&stage.pattern, pattern, literal, name));
    return add_stage(out, stage, name);
}

static ls_status read_split(ls_pre_tokenizer *out, const cJSON *split, const char *name)
{
    const char *regex = text_field(field(split, "pattern"), "Regex");
    const char *literal = text_field(field(split, "pattern"), "String");
    if ((regex == NULL) == (literal == NULL))
        return LS_FAIL(LS_BAD_INPUT, "%s: a Split pre-tokenizer needs a pattern with either Regex or String", name);
    const char *behavior = text_field(split, "behavior");
    for (int i = 0; behavior != NULL && ls_split_behavior_names[i] != NULL; i++)
        if (strcmp(behavior, ls_split_behavior_names[i]) == 0)
            return add_pattern(out, regex != NULL ? regex : literal, regex == NULL, (ls_split_behavior)i,
                               cJSON_IsTrue(field(split, "invert")), name);
    return LS_FAIL(LS_BAD_INPUT, "%s: Split behavior '%s' is not supported", name, behavior != NULL ? behavior : "?");
}

static ls_status read_metaspace(ls_pre_tokenizer *out, const cJSON *metaspace, const char *name)
{
    static const char *const schemes[] = {"never", "first", "always"};
    const char *space = text_field(metaspace, "replacement");
    const char *scheme = text_field(metaspace, "prepend_scheme");
    const bool bare = cJSON_IsFalse(field(metaspace, "add_prefix_space"));
    uint32_t character;
    if (space == NULL || space[0] == '\0' || ls_utf8_decode(space, strlen(space), &character) != (int)strlen(space))
        return LS_FAIL(LS_BAD_INPUT, "%s: the replacement of a Metaspace is not one character", name);
    if (scheme == NULL) scheme = bare ? "never" : "always";
    if (bare && strcmp(scheme, "never") != 0)
        return LS_FAIL(LS_BAD_INPUT, "%s: add_prefix_space of a Metaspace contradicts its prepend_scheme", name);
    ls_stage stage = {.kind = LS_STAGE_METASPACE, .cuts = !cJSON_IsFalse(field(metaspace, "split"))};
    memcpy(stage.space, space, strlen(space));
    for (int i = 0; i < 3; i++) {
        if (strcmp(scheme, schemes[i]) != 0) continue;
        stage.prepend = (ls_prepend_scheme)i;
        return add_stage(out, stage, name);
    }
    return LS_FAIL(LS_BAD_INPUT, "%s: the prepend_scheme '%s' of a Metaspace is not supported", name, scheme);
}

static ls_status read_byte_level(ls_pre_tokenizer *out, const cJSON *byte_level, const char *name)
{
    if (!cJSON_IsFalse(field(byte_level, "add_prefix_space")))
        LS_TRY(add_stage(out, (ls_stage){.kind = LS_STAGE_SPACE}, name));
    if (cJSON_IsFalse(field(byte_level, "use_regex"))) return LS_OK;
    return add_pattern(out, GPT2_PATTERN, false, LS_SPLIT_ISOLATED, false, name);
}

/* *byte_level: the stages so far end in ByteLevel, after which the text is in another alphabet. */
static ls_status read_stage(ls_pre_tokenizer *out, const cJSON *stage, bool *byte_level, const char *name)
{
    const char *type;
    LS_TRY(read_type(&type, stage, "pre-tokenizer", name));
    if (strcmp(type, "Sequence") == 0) {
        const cJSON *inner;
        cJSON_ArrayForEach(inner, field(stage, "pretokenizers")) { LS_TRY(read_stage(out, inner, byte_level, name)); }
        return LS_OK;
    }
    if (*byte_level)
        return LS_FAIL(LS_BAD_INPUT, "%s: pre-tokenizer '%s' after ByteLevel is not supported", name, type);
    if (strcmp(type, "ByteLevel") == 0) {
        *byte_level = true;
        return read_byte_level(out, stage, name);
    }
    if (strcmp(type, "Split") == 0) return read_split(out, stage, name);
    if (strcmp(type, "Digits") == 0) {
        const bool each = cJSON_IsTrue(field(stage, "individual_digits"));
        return add_pattern(out, NUMBER_PATTERN, false, each ? LS_SPLIT_ISOLATED : LS_SPLIT_CONTIGUOUS, false, name);
    }
    if (strcmp(type, "Metaspace") == 0) return read_metaspace(out, stage, name);
    return LS_FAIL(LS_BAD_INPUT, "%s: pre-tokenizer '%s' is not supported", name, type);
}

ls_status ls_pre_tokenizer_read(ls_pre_tokenizer *out, bool *byte_level, const cJSON *pre_tokenizer, const char *name)
{
    *byte_level = false;
    if (pre_tokenizer == NULL || cJSON_IsNull(pre_tokenizer)) return LS_OK;
    return read_stage(out, pre_tokenizer, byte_level, name);
}
