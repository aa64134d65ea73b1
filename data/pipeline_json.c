/* The pre_tokenizer of a tokenizer.json; see pipeline_json.h. */
#include "data/pipeline_json.h"

#include <string.h>

/* Of Radford et al. 2019, in the form every tokenizer.json with "use_regex" means: contractions, then words, numbers
 * and the rest with at most one space before, then white space, whose last character is left to the word behind it. */
#define GPT2_PATTERN "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

static const cJSON *field(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static const char *text_field(const cJSON *object, const char *key)
{
    const cJSON *value = field(object, key);
    return cJSON_IsString(value) ? value->valuestring : NULL;
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

static ls_status read_byte_level(ls_pre_tokenizer *out, const cJSON *byte_level, const char *name)
{
    if (!cJSON_IsFalse(field(byte_level, "add_prefix_space"))) LS_TRY(add_stage(out, (ls_stage){0}, name));
    if (cJSON_IsFalse(field(byte_level, "use_regex"))) return LS_OK;
    return add_pattern(out, GPT2_PATTERN, false, LS_SPLIT_ISOLATED, false, name);
}

/* *byte_level: the stages so far end in ByteLevel, after which the text is in another alphabet. */
static ls_status read_stage(ls_pre_tokenizer *out, const cJSON *stage, bool *byte_level, const char *name)
{
    const char *type = text_field(stage, "type");
    if (type == NULL) return LS_FAIL(LS_BAD_INPUT, "%s: a pre-tokenizer has no type", name);
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
        return add_pattern(out, "\\p{N}", false, each ? LS_SPLIT_ISOLATED : LS_SPLIT_CONTIGUOUS, false, name);
    }
    return LS_FAIL(LS_BAD_INPUT, "%s: pre-tokenizer '%s' is not supported", name, type);
}

ls_status ls_pipeline_read(ls_pre_tokenizer *out, const cJSON *pre_tokenizer, const char *name)
{
    bool byte_level = false;
    if (cJSON_IsObject(pre_tokenizer)) LS_TRY(read_stage(out, pre_tokenizer, &byte_level, name));
    if (!byte_level)
        return LS_FAIL(LS_BAD_INPUT, "%s: not a byte-level tokenizer: its pre-tokenizer has no ByteLevel stage", name);
    return LS_OK;
}
