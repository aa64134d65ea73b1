/* Tables for other formats; see tokenizer_export.h. The text has been read by ls_tokenizer before, so its shape is
 * known to be right. */
#include "data/tokenizer_export.h"

#include "core/json.h"
#include "core/text.h"
#include "data/pipeline_json.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

typedef struct memory {
    cJSON *document;
    char *parts; /* halves of merges that the file writes as "left right" */
} memory;

static const cJSON *field(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static const char *text_field(const cJSON *object, const char *key) { return cJSON_GetStringValue(field(object, key)); }

static bool is_type(const cJSON *component, const char *type)
{
    const char *text = text_field(component, "type");
    return text != NULL && strcmp(text, type) == 0;
}

void ls_tokenizer_export_destroy(ls_tokenizer_export *tables)
{
    memory *m = tables->memory;
    if (m != NULL) {
        cJSON_Delete(m->document);
        free(m->parts);
    }
    free(m);
    free(tables->tokens);
    free(tables->merges);
    *tables = (ls_tokenizer_export){0};
}

static bool is_byte(const char *text)
{
    return strlen(text) == 6 && strncmp(text, "<0x", 3) == 0 && isxdigit((unsigned char)text[3]) &&
           isxdigit((unsigned char)text[4]) && text[5] == '>';
}

static bool is_byte_level(ls_tokenizer_family family)
{
    return family == LS_FAMILY_GPT2 || family == LS_FAMILY_LLAMA3 || family == LS_FAMILY_SMOLLM2;
}

static void fill_tokens(ls_tokenizer_export *out, const cJSON *document)
{
    const cJSON *model = field(document, "model");
    const char *unknown = text_field(model, "unk_token");
    const bool bytes = cJSON_IsTrue(field(model, "byte_fallback"));
    for (int64_t id = 0; id < out->token_count; id++)
        out->tokens[id] = (ls_export_token){.text = "", .type = LS_TOKEN_UNUSED};
    const cJSON *entry;
    cJSON_ArrayForEach(entry, field(model, "vocab")) out->tokens[entry->valueint] = (ls_export_token){
        .text = entry->string, .type = bytes && is_byte(entry->string) ? LS_TOKEN_BYTE : LS_TOKEN_NORMAL};
    cJSON_ArrayForEach(entry, field(document, "added_tokens")) out->tokens[field(entry, "id")->valueint] =
        (ls_export_token){.text = text_field(entry, "content"),
                          .type = cJSON_IsTrue(field(entry, "special")) ? LS_TOKEN_CONTROL : LS_TOKEN_USER_DEFINED};
    for (int64_t id = 0; unknown != NULL && id < out->token_count; id++) {
        if (strcmp(out->tokens[id].text, unknown) != 0) continue;
        if (!is_byte_level(out->family)) out->tokens[id].type = LS_TOKEN_UNKNOWN; /* else it has another use */
        out->unknown = (int32_t)id;
    }
}

/* Merges in either form of the file. */
static void fill_merges(ls_tokenizer_export *out, const cJSON *merges, char *parts)
{
    const cJSON *entry;
    cJSON_ArrayForEach(entry, merges)
    {
        ls_export_merge *merge = &out->merges[out->merge_count++];
        if (cJSON_IsArray(entry)) {
            *merge = (ls_export_merge){entry->child->valuestring, entry->child->next->valuestring};
            continue;
        }
        const size_t length = strlen(entry->valuestring) + 1;
        memcpy(parts, entry->valuestring, length);
        char *blank = strchr(parts, ' ');
        *blank = '\0';
        *merge = (ls_export_merge){parts, blank + 1};
        parts += length;
    }
}

/* A token's score is minus the number of tokens that merges make before it. */
static ls_status fill_scores(ls_tokenizer_export *out, const ls_tokenizer *tokenizer)
{
    const int64_t tokens = ls_tokenizer_vocab_size(tokenizer);
    ls_vocabulary vocabulary;
    size_t bytes = 0;
    for (int64_t id = 0; id < tokens; id++) bytes += strlen(out->tokens[id].text);
    LS_TRY(ls_vocabulary_create(&vocabulary, tokens, bytes));
    for (int64_t id = 0; id < tokens; id++) {
        const char *text = out->tokens[id].text;
        out->tokens[id].score = 1;
        if (text[0] != '\0') ls_vocabulary_set(&vocabulary, (int32_t)id, text, strlen(text), true);
    }
    float score = 0;
    ls_text whole = {0};
    for (int64_t i = 0; i < out->merge_count; i++) {
        whole.length = 0;
        ls_text_addf(&whole, "%s%s", out->merges[i].left, out->merges[i].right);
        const int32_t id = ls_vocabulary_find(&vocabulary, whole.bytes, whole.length);
        if (id >= 0 && out->tokens[id].score > 0) out->tokens[id].score = score--;
    }
    for (int64_t id = 0; id < tokens; id++)
        if (out->tokens[id].score > 0) out->tokens[id].score = out->tokens[id].type == LS_TOKEN_NORMAL ? score : 0;
    free(whole.bytes);
    ls_vocabulary_destroy(&vocabulary);
    return LS_OK;
}

static bool splits_by(const cJSON *split, const char *pattern)
{
    const char *regex = text_field(field(split, "pattern"), "Regex");
    return is_type(split, "Split") && regex != NULL && strcmp(regex, pattern) == 0 &&
           strcmp(text_field(split, "behavior"), "Isolated") == 0 && !cJSON_IsTrue(field(split, "invert"));
}

static ls_tokenizer_family find_family(const cJSON *document)
{
    const cJSON *whole = field(document, "pre_tokenizer");
    const cJSON *stages = is_type(whole, "Sequence") ? field(whole, "pretokenizers") : NULL;
    const int count = stages != NULL ? cJSON_GetArraySize(stages) : 1;
    const cJSON *first = stages != NULL ? cJSON_GetArrayItem(stages, 0) : whole;
    const cJSON *last = stages != NULL ? cJSON_GetArrayItem(stages, count - 1) : whole;
    if (!is_type(last, "ByteLevel")) {
        const cJSON *vocab = field(field(document, "model"), "vocab");
        return field(vocab, "\xE2\x96\x81") != NULL ? LS_FAMILY_SENTENCEPIECE : LS_FAMILY_OTHER;
    }
    const bool regex = !cJSON_IsFalse(field(last, "use_regex"));
    if (count == 1) return regex ? LS_FAMILY_GPT2 : LS_FAMILY_OTHER;
    if (count == 2 && regex && is_type(first, "Digits") && cJSON_IsTrue(field(first, "individual_digits")))
        return LS_FAMILY_SMOLLM2;
    if (count == 2 && !regex && splits_by(first, LS_LLAMA3_PATTERN)) return LS_FAMILY_LLAMA3;
    if (count == 2 && !regex && splits_by(first, LS_GPT2_PATTERN)) return LS_FAMILY_GPT2;
    return LS_FAMILY_OTHER;
}

/* Does a component that puts a blank before a text occur in it? */
static bool puts_blank(const cJSON *component)
{
    const char *scheme = text_field(component, "prepend_scheme");
    if (is_type(component, "Prepend")) return true;
    if (is_type(component, "Metaspace"))
        return scheme != NULL ? strcmp(scheme, "never") != 0 : !cJSON_IsFalse(field(component, "add_prefix_space"));
    static const char *const lists[] = {"normalizers", "pretokenizers"};
    for (int i = 0; i < 2; i++) {
        const cJSON *inner;
        cJSON_ArrayForEach(inner, field(component, lists[i])) if (puts_blank(inner)) return true;
    }
    return false;
}

static void fill_template(ls_tokenizer_export *out, const ls_tokenizer *tokenizer)
{
    int64_t count;
    const int32_t *prefix = ls_tokenizer_prefix(tokenizer, &count);
    out->adds_begin = count > 0;
    out->begin = count > 0 ? prefix[0] : -1;
    (void)ls_tokenizer_suffix(tokenizer, &count);
    out->adds_end = count > 0;
    out->end = ls_tokenizer_end_of_text(tokenizer);
}

ls_status ls_tokenizer_export_create(ls_tokenizer_export *out, const ls_tokenizer *tokenizer)
{
    *out = (ls_tokenizer_export){.begin = -1, .end = -1, .unknown = -1};
    const char *text = ls_tokenizer_text(tokenizer);
    if (strcmp(text, "bytes") == 0)
        return LS_FAIL(LS_BAD_INPUT, "the byte tokenizer cannot be exported: no other program knows it");
    memory *m = ls_text_memory(NULL, sizeof *m);
    *m = (memory){0};
    out->memory = m;
    LS_TRY(ls_json_parse(&m->document, text, strlen(text), "the tokenizer"));
    const cJSON *merges = field(field(m->document, "model"), "merges");
    out->token_count = ls_tokenizer_vocab_size(tokenizer);
    out->tokens = ls_text_memory(NULL, (size_t)out->token_count * sizeof *out->tokens);
    out->merges = ls_text_memory(NULL, (size_t)cJSON_GetArraySize(merges) * sizeof *out->merges);
    m->parts = ls_text_memory(NULL, strlen(text));
    out->family = find_family(m->document);
    fill_tokens(out, m->document);
    fill_merges(out, merges, m->parts);
    fill_template(out, tokenizer);
    out->adds_blank = puts_blank(field(m->document, "normalizer")) || puts_blank(field(m->document, "pre_tokenizer"));
    return fill_scores(out, tokenizer);
}
