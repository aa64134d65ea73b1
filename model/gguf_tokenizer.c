/* tokenizer.json to llama.cpp's keys, see gguf_tokenizer.h.
 *
 * llama.cpp has a pre-tokenizer's splitting in its code, by name, so the name is found by what the file says. Its
 * SentencePiece kind joins the pair with the highest score; a merge's rank, negated, is that score. */
#include "model/gguf_tokenizer.h"

#include "core/json.h"
#include "core/text.h"

#include <stdlib.h>
#include <string.h>

enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4, UNUSED = 5, BYTE = 6 };

typedef struct tokens {
    const char **texts; /* [size] */
    int32_t *types;     /* [size] */
    char **made;        /* [size] texts of our own, NULL where the file has one */
    int64_t size;
} tokens;

static const cJSON *get(const cJSON *object, const char *key) { return cJSON_GetObjectItemCaseSensitive(object, key); }

static bool has_text(const cJSON *object, const char *key, const char *value)
{
    const char *text = cJSON_GetStringValue(get(object, key));
    return text != NULL && strcmp(text, value) == 0;
}

/* ---- pre-tokenizers ---------------------------------------------------------------------------------------------- */

/* The regular expressions that llama.cpp knows, by the names it gives them. */
static const struct {
    const char *name, *pattern;
} patterns[] = {
    {"llama-bpe", "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
                  "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
    {"qwen2", "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
              "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
    {"gpt-2", "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"},
};

static const char *named_pattern(const cJSON *split)
{
    const char *pattern = cJSON_GetStringValue(get(get(split, "pattern"), "Regex"));
    for (size_t i = 0; pattern != NULL && i < sizeof patterns / sizeof patterns[0]; i++)
        if (strcmp(patterns[i].pattern, pattern) == 0) return patterns[i].name;
    return NULL;
}

/* NULL when llama.cpp has none like it. `merges`: without any, how words are cut makes no difference. */
static const char *pre_tokenizer_name(const cJSON *stage, bool merges)
{
    const cJSON *stages = get(stage, "pretokenizers");
    if (!merges) return "gpt-2";
    if (has_text(stage, "type", "ByteLevel")) {
        const cJSON *regex = get(stage, "use_regex");
        return cJSON_IsFalse(regex) || cJSON_IsTrue(get(stage, "add_prefix_space")) ? NULL : "gpt-2";
    }
    if (!has_text(stage, "type", "Sequence") || cJSON_GetArraySize(stages) != 2) return NULL;
    const cJSON *first = cJSON_GetArrayItem(stages, 0), *second = cJSON_GetArrayItem(stages, 1);
    if (!has_text(second, "type", "ByteLevel") || cJSON_IsTrue(get(second, "add_prefix_space"))) return NULL;
    const bool regex = !cJSON_IsFalse(get(second, "use_regex"));
    if (has_text(first, "type", "Digits") && cJSON_IsTrue(get(first, "individual_digits")))
        return regex ? "smollm" : NULL;
    if (has_text(first, "type", "Split") && has_text(first, "behavior", "Isolated") && !regex &&
        !cJSON_IsTrue(get(first, "invert")))
        return named_pattern(first);
    return NULL;
}

/* ---- tokens ------------------------------------------------------------------------------------------------------ */

static bool id_of(const cJSON *item, const tokens *all, int64_t *id)
{
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble < (double)all->size)) return false;
    *id = (int64_t)item->valuedouble;
    return true;
}

static bool is_byte_token(const char *text)
{
    return strlen(text) == 6 && strncmp(text, "<0x", 3) == 0 && text[5] == '>' &&
           strspn(text + 3, "0123456789ABCDEF") == 2;
}

static ls_status fill_tokens(tokens *all, const cJSON *document, bool byte_fallback, const char *name)
{
    const cJSON *vocabulary = get(get(document, "model"), "vocab"), *item;
    int64_t id;
    cJSON_ArrayForEach(item, vocabulary)
    {
        if (!id_of(item, all, &id))
            return LS_FAIL(LS_BAD_INPUT, "%s: the token %s has an id beyond the model's vocabulary", name,
                           item->string);
        all->texts[id] = item->string;
        all->types[id] = byte_fallback && is_byte_token(item->string) ? BYTE : NORMAL;
    }
    cJSON_ArrayForEach(item, get(document, "added_tokens"))
    {
        const char *text = cJSON_GetStringValue(get(item, "content"));
        if (text == NULL || !id_of(get(item, "id"), all, &id))
            return LS_FAIL(LS_BAD_INPUT, "%s: an added token has an id beyond the model's vocabulary", name);
        all->texts[id] = text;
        all->types[id] = cJSON_IsTrue(get(item, "special")) ? CONTROL : USER_DEFINED;
    }
    const char *unknown = cJSON_GetStringValue(get(get(document, "model"), "unk_token"));
    for (id = 0; id < all->size; id++) {
        if (all->texts[id] == NULL) {
            all->made[id] = ls_text_format("[PAD%lld]", (long long)id);
            all->texts[id] = all->made[id];
            all->types[id] = UNUSED;
        } else if (byte_fallback && unknown != NULL && strcmp(all->texts[id], unknown) == 0) {
            all->types[id] = UNKNOWN;
        }
    }
    return LS_OK;
}

static void add_ids(ls_gguf *out, const tokens *all, const ls_special_ids *ids)
{
    if (ids->bos >= 0) ls_gguf_add_u32(out, "tokenizer.ggml.bos_token_id", (uint32_t)ids->bos);
    if (ids->eos >= 0) ls_gguf_add_u32(out, "tokenizer.ggml.eos_token_id", (uint32_t)ids->eos);
    if (ids->pad >= 0) ls_gguf_add_u32(out, "tokenizer.ggml.padding_token_id", (uint32_t)ids->pad);
    for (int64_t id = 0; id < all->size; id++)
        if (all->types[id] == UNKNOWN) ls_gguf_add_u32(out, "tokenizer.ggml.unknown_token_id", (uint32_t)id);
}

/* ---- merges ------------------------------------------------------------------------------------------------------ */

/* The two sides of a merge, written "a b" or ["a", "b"]; the first is *length bytes of *left. */
static bool merge_sides(const cJSON *merge, const char **left, size_t *length, const char **right)
{
    if (cJSON_IsArray(merge)) {
        *left = cJSON_GetStringValue(cJSON_GetArrayItem(merge, 0));
        *right = cJSON_GetStringValue(cJSON_GetArrayItem(merge, 1));
        if (*left != NULL) *length = strlen(*left);
        return *left != NULL && *right != NULL;
    }
    *left = cJSON_GetStringValue(merge);
    const char *blank = *left == NULL ? NULL : strchr(*left, ' ');
    if (blank == NULL) return false;
    *length = (size_t)(blank - *left);
    *right = blank + 1;
    return true;
}

static ls_status add_merges(ls_gguf *out, const cJSON *merges, const char *name)
{
    const int64_t count = cJSON_GetArraySize(merges);
    char **texts = ls_text_memory(NULL, sizeof *texts * (size_t)(count + 1));
    const cJSON *merge;
    int64_t i = 0;
    ls_status status = LS_OK;
    cJSON_ArrayForEach(merge, merges)
    {
        const char *left, *right;
        size_t length;
        if (!merge_sides(merge, &left, &length, &right)) {
            status = LS_FAIL(LS_BAD_INPUT, "%s: merge %lld is no pair", name, (long long)i);
            break;
        }
        texts[i++] = ls_text_format("%.*s %s", (int)length, left, right);
    }
    if (status == LS_OK) ls_gguf_add_texts(out, "tokenizer.ggml.merges", (const char *const *)texts, count);
    while (i > 0) free(texts[--i]);
    free(texts);
    return status;
}

typedef struct scored {
    const char *text;
    int64_t id;
} scored;

static int by_text(const void *a, const void *b)
{
    return strcmp(((const scored *)a)->text, ((const scored *)b)->text);
}

/* A token's score is minus the rank of the first merge that makes it; what no merge makes comes after all of them. */
static ls_status add_scores(ls_gguf *out, const tokens *all, const cJSON *merges, const char *name)
{
    const int64_t count = cJSON_GetArraySize(merges);
    float *scores = ls_text_memory(NULL, sizeof *scores * (size_t)all->size);
    scored *order = ls_text_memory(NULL, sizeof *order * (size_t)all->size);
    for (int64_t id = 0; id < all->size; id++) {
        scores[id] = all->types[id] == NORMAL ? -(float)(count + id) : 0.0f;
        order[id] = (scored){all->texts[id], id};
    }
    qsort(order, (size_t)all->size, sizeof *order, by_text);
    const cJSON *merge;
    int64_t rank = 0;
    ls_status status = LS_OK;
    cJSON_ArrayForEach(merge, merges)
    {
        const char *left, *right;
        size_t length;
        if (!merge_sides(merge, &left, &length, &right)) {
            status = LS_FAIL(LS_BAD_INPUT, "%s: merge %lld is no pair", name, (long long)rank);
            break;
        }
        char *joined = ls_text_format("%.*s%s", (int)length, left, right);
        const scored *found = bsearch(&(scored){.text = joined}, order, (size_t)all->size, sizeof *order, by_text);
        if (found != NULL && scores[found->id] < -(float)rank) scores[found->id] = -(float)rank;
        free(joined);
        rank++;
    }
    if (status == LS_OK) ls_gguf_add_f32s(out, "tokenizer.ggml.scores", scores, all->size);
    free(order);
    free(scores);
    return status;
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

/* Whether a blank is put before a text: by the Prepend of Llama 2's normaliser, or by Metaspace. */
static bool adds_space(const cJSON *document)
{
    const cJSON *stage, *stages = get(get(document, "normalizer"), "normalizers");
    if (has_text(get(document, "normalizer"), "type", "Prepend")) return true;
    cJSON_ArrayForEach(stage, stages) if (has_text(stage, "type", "Prepend")) return true;
    const cJSON *pre = get(document, "pre_tokenizer");
    return has_text(pre, "type", "Metaspace") && !has_text(pre, "prepend_scheme", "never");
}

/* Whether the post-processor puts the BOS token before a text. */
static bool adds_bos(const cJSON *document, const tokens *all, int64_t bos)
{
    const cJSON *processor = get(document, "post_processor"), *stage;
    if (bos < 0 || bos >= all->size) return false;
    const cJSON *first = cJSON_GetArrayItem(get(processor, "single"), 0);
    cJSON_ArrayForEach(stage, get(processor, "processors")) if (first == NULL) first =
        cJSON_GetArrayItem(get(stage, "single"), 0);
    return has_text(get(first, "SpecialToken"), "id", all->texts[bos]);
}

static ls_status add_keys(ls_gguf *out, const cJSON *document, const tokens *all, const ls_special_ids *ids,
                          const char *pre, const char *name)
{
    const cJSON *merges = get(get(document, "model"), "merges");
    ls_gguf_add_text(out, "tokenizer.ggml.model", pre == NULL ? "llama" : "gpt2");
    ls_gguf_add_text(out, "tokenizer.ggml.pre", pre == NULL ? "default" : pre);
    ls_gguf_add_texts(out, "tokenizer.ggml.tokens", all->texts, all->size);
    if (pre == NULL) LS_TRY(add_scores(out, all, merges, name));
    ls_gguf_add_i32s(out, "tokenizer.ggml.token_type", all->types, all->size);
    if (pre != NULL) LS_TRY(add_merges(out, merges, name));
    add_ids(out, all, ids);
    ls_gguf_add_bool(out, "tokenizer.ggml.add_bos_token", adds_bos(document, all, ids->bos));
    ls_gguf_add_bool(out, "tokenizer.ggml.add_space_prefix", pre == NULL && adds_space(document));
    return LS_OK;
}

static ls_status add_document(ls_gguf *out, const cJSON *document, const char *name, int64_t size,
                              const ls_special_ids *ids)
{
    const cJSON *model = get(document, "model");
    const bool byte_fallback = cJSON_IsTrue(get(model, "byte_fallback"));
    const char *pre = NULL;
    if (!byte_fallback) {
        pre = pre_tokenizer_name(get(document, "pre_tokenizer"), cJSON_GetArraySize(get(model, "merges")) > 0);
        if (pre == NULL)
            return LS_FAIL(LS_UNSUPPORTED,
                           "%s: llama.cpp has no pre-tokenizer like the one of this tokenizer, so it would cut words "
                           "differently",
                           name);
    }
    tokens all = {.size = size};
    all.texts = ls_text_memory(NULL, sizeof *all.texts * (size_t)size);
    all.types = ls_text_memory(NULL, sizeof *all.types * (size_t)size);
    all.made = ls_text_memory(NULL, sizeof *all.made * (size_t)size);
    for (int64_t id = 0; id < size; id++) all.texts[id] = all.made[id] = NULL;
    ls_status status = fill_tokens(&all, document, byte_fallback, name);
    if (status == LS_OK) status = add_keys(out, document, &all, ids, pre, name);
    for (int64_t id = 0; id < size; id++) free(all.made[id]);
    free(all.made);
    free(all.types);
    free(all.texts);
    return status;
}

ls_status ls_gguf_add_tokenizer(ls_gguf *out, const char *text, const char *name, int64_t size,
                                const ls_special_ids *ids)
{
    cJSON *document;
    LS_TRY(ls_json_parse(&document, text, strlen(text), name));
    const ls_status status = add_document(out, document, name, size, ids);
    cJSON_Delete(document);
    return status;
}
