/* config.json in and out, see huggingface.h. Defaults of absent keys are those of transformers. */
#include "model/huggingface.h"

#include "core/json.h"
#include "core/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct reading {
    const cJSON *document;
    const char *name;
    bool mistral;
} reading;

/* The item of a key, or NULL where it is absent or null. */
static const cJSON *find(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNull(item) ? NULL : item;
}

static ls_status read_int(const reading *from, const cJSON *object, const char *key, int64_t *out)
{
    const cJSON *item = find(object, key);
    if (item == NULL) return LS_OK;
    if (!cJSON_IsNumber(item) || item->valuedouble != floor(item->valuedouble) || fabs(item->valuedouble) > 0x1p52)
        return LS_FAIL(LS_BAD_INPUT, "%s: %s is not a whole number", from->name, key);
    *out = (int64_t)item->valuedouble;
    return LS_OK;
}

static ls_status read_double(const reading *from, const cJSON *object, const char *key, double *out)
{
    const cJSON *item = find(object, key);
    if (item == NULL) return LS_OK;
    if (!cJSON_IsNumber(item)) return LS_FAIL(LS_BAD_INPUT, "%s: %s is not a number", from->name, key);
    *out = item->valuedouble;
    return LS_OK;
}

static ls_status read_bool(const reading *from, const char *key, bool *out)
{
    const cJSON *item = find(from->document, key);
    if (item == NULL) return LS_OK;
    if (!cJSON_IsBool(item)) return LS_FAIL(LS_BAD_INPUT, "%s: %s is neither true nor false", from->name, key);
    *out = cJSON_IsTrue(item);
    return LS_OK;
}

static ls_status require_int(const reading *from, const char *key, int64_t *out)
{
    if (find(from->document, key) == NULL) return LS_FAIL(LS_BAD_INPUT, "%s has no %s", from->name, key);
    return read_int(from, from->document, key, out);
}

/* ---- what is refused --------------------------------------------------------------------------------------------- */

static ls_status check_architecture(reading *from)
{
    const cJSON *architecture = cJSON_GetArrayItem(find(from->document, "architectures"), 0);
    const char *class = cJSON_GetStringValue(architecture);
    const char *type = cJSON_GetStringValue(find(from->document, "model_type"));
    if (class == NULL && type == NULL)
        return LS_FAIL(LS_BAD_INPUT, "%s has neither architectures nor model_type: it does not say what model it is",
                       from->name);
    if (class != NULL && strcmp(class, "LlamaForCausalLM") != 0 && strcmp(class, "MistralForCausalLM") != 0)
        return LS_FAIL(LS_BAD_INPUT,
                       "%s: the architecture %.64s is not supported; LlamaForCausalLM and MistralForCausalLM are",
                       from->name, class);
    if (type != NULL && strcmp(type, "llama") != 0 && strcmp(type, "mistral") != 0)
        return LS_FAIL(LS_BAD_INPUT, "%s: the model_type %.64s is not supported; llama and mistral are", from->name,
                       type);
    from->mistral = type != NULL ? strcmp(type, "mistral") == 0 : strcmp(class, "MistralForCausalLM") == 0;
    return LS_OK;
}

static ls_status check_layer_types(const reading *from)
{
    const cJSON *kind;
    cJSON_ArrayForEach(kind, find(from->document, "layer_types"))
    {
        const char *text = cJSON_GetStringValue(kind);
        if (text == NULL || strcmp(text, "full_attention") != 0)
            return LS_FAIL(LS_BAD_INPUT, "%s: layer_types holds %.64s; only full_attention is supported", from->name,
                           text == NULL ? "no text" : text);
    }
    return LS_OK;
}

/* What the keys ask for beyond the model that we compute. */
static ls_status check_variants(const reading *from)
{
    const char *activation = cJSON_GetStringValue(find(from->document, "hidden_act"));
    bool mlp_bias = false, interleaved = false;
    double partial = 1.0;
    if (find(from->document, "quantization_config") != NULL)
        return LS_FAIL(LS_BAD_INPUT,
                       "%s: the weights are quantised (quantization_config); only F32, F16 and BF16 are read",
                       from->name);
    if (find(from->document, "hidden_act") != NULL &&
        (activation == NULL || (strcmp(activation, "silu") != 0 && strcmp(activation, "swish") != 0)))
        return LS_FAIL(LS_BAD_INPUT, "%s: hidden_act is %.64s; only silu is supported", from->name,
                       activation == NULL ? "no text" : activation);
    LS_TRY(read_bool(from, "mlp_bias", &mlp_bias));
    if (mlp_bias) return LS_FAIL(LS_BAD_INPUT, "%s: mlp_bias is true; a bias in the MLP is not supported", from->name);
    LS_TRY(read_bool(from, "rope_interleaved", &interleaved));
    if (interleaved)
        return LS_FAIL(LS_BAD_INPUT, "%s: rope_interleaved is true; only halves are rotated here", from->name);
    LS_TRY(read_double(from, from->document, "partial_rotary_factor", &partial));
    if (partial != 1.0)
        return LS_FAIL(LS_BAD_INPUT, "%s: partial_rotary_factor is %g; only whole heads are rotated here", from->name,
                       partial);
    return check_layer_types(from);
}

/* Mistral's attention window must not be smaller than the context. An absent key means 4096 there, null means none. */
static ls_status check_window(const reading *from, const ls_model_config *config)
{
    if (!from->mistral) return LS_OK;
    int64_t window = cJSON_HasObjectItem(from->document, "sliding_window") ? INT64_MAX : 4096;
    LS_TRY(read_int(from, from->document, "sliding_window", &window));
    if (window >= config->max_position_embeddings) return LS_OK;
    return LS_FAIL(LS_BAD_INPUT,
                   "%s: sliding_window is %lld, below max_position_embeddings %lld; sliding attention is not supported "
                   "(with max_position_embeddings %lld the model is the same without it)",
                   from->name, (long long)window, (long long)config->max_position_embeddings, (long long)window);
}

/* ---- rotary embedding -------------------------------------------------------------------------------------------- */

static ls_status require_double(const reading *from, const cJSON *scaling, const char *key, double *out)
{
    if (find(scaling, key) == NULL) return LS_FAIL(LS_BAD_INPUT, "%s: the rope scaling has no %s", from->name, key);
    return read_double(from, scaling, key, out);
}

/* rope_scaling, or transformers 5's rope_parameters, which hold theta too. */
static ls_status read_scaling(const reading *from, const cJSON *scaling, ls_model_config *config)
{
    ls_rope_scaling *out = &config->rope_scaling;
    const cJSON *kind = find(scaling, "rope_type");
    if (kind == NULL) kind = find(scaling, "type");
    const char *type = kind == NULL ? "default" : cJSON_GetStringValue(kind);
    double partial = 1.0;
    if (!cJSON_IsObject(scaling) || type == NULL)
        return LS_FAIL(LS_BAD_INPUT, "%s: the rope scaling has no type", from->name);
    LS_TRY(read_double(from, scaling, "rope_theta", &config->rope_theta));
    LS_TRY(read_double(from, scaling, "partial_rotary_factor", &partial));
    if (partial != 1.0)
        return LS_FAIL(LS_BAD_INPUT, "%s: partial_rotary_factor is %g; only whole heads are rotated here", from->name,
                       partial);
    if (strcmp(type, "default") == 0) return LS_OK;
    if (strcmp(type, "linear") == 0) {
        out->type = LS_ROPE_LINEAR;
        return require_double(from, scaling, "factor", &out->factor);
    }
    if (strcmp(type, "llama3") != 0)
        return LS_FAIL(LS_BAD_INPUT, "%s: rope scaling of the type %.64s is not supported; linear and llama3 are",
                       from->name, type);
    double original = 0;
    out->type = LS_ROPE_LLAMA3;
    LS_TRY(require_double(from, scaling, "factor", &out->factor));
    LS_TRY(require_double(from, scaling, "low_freq_factor", &out->low_freq_factor));
    LS_TRY(require_double(from, scaling, "high_freq_factor", &out->high_freq_factor));
    LS_TRY(require_double(from, scaling, "original_max_position_embeddings", &original));
    return read_int(from, scaling, "original_max_position_embeddings", &out->original_max_position_embeddings);
}

static ls_status read_rotary(const reading *from, ls_model_config *config)
{
    const cJSON *scaling = find(from->document, "rope_parameters");
    config->rope_theta = 10000.0;
    LS_TRY(read_double(from, from->document, "rope_theta", &config->rope_theta));
    if (scaling == NULL) scaling = find(from->document, "rope_scaling");
    return scaling == NULL ? LS_OK : read_scaling(from, scaling, config);
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

/* An id, or the first of a list. */
static int64_t special_id(const cJSON *item)
{
    if (cJSON_IsArray(item)) item = cJSON_GetArrayItem(item, 0);
    return cJSON_IsNumber(item) && item->valuedouble >= 0 && item->valuedouble < 0x1p31 ? (int64_t)item->valuedouble
                                                                                        : -1;
}

static ls_status read_config(reading *from, ls_model_config *config)
{
    const cJSON *document = from->document;
    if (!cJSON_IsObject(document)) return LS_FAIL(LS_BAD_INPUT, "%s is no JSON object", from->name);
    LS_TRY(check_architecture(from));
    LS_TRY(check_variants(from));
    LS_TRY(require_int(from, "hidden_size", &config->hidden_size));
    LS_TRY(require_int(from, "intermediate_size", &config->intermediate_size));
    LS_TRY(require_int(from, "num_hidden_layers", &config->num_hidden_layers));
    LS_TRY(require_int(from, "num_attention_heads", &config->num_attention_heads));
    LS_TRY(require_int(from, "vocab_size", &config->vocab_size));
    config->num_key_value_heads =
        from->mistral && !cJSON_HasObjectItem(document, "num_key_value_heads") ? 8 : config->num_attention_heads;
    LS_TRY(read_int(from, document, "num_key_value_heads", &config->num_key_value_heads));
    LS_TRY(read_int(from, document, "head_dim", &config->head_dim));
    config->max_position_embeddings = from->mistral ? 4096 * 32 : 2048;
    LS_TRY(read_int(from, document, "max_position_embeddings", &config->max_position_embeddings));
    config->rms_norm_eps = 1e-6;
    LS_TRY(read_double(from, document, "rms_norm_eps", &config->rms_norm_eps));
    config->initializer_range = 0.02;
    LS_TRY(read_double(from, document, "initializer_range", &config->initializer_range));
    LS_TRY(read_bool(from, "tie_word_embeddings", &config->tie_word_embeddings));
    if (!from->mistral) LS_TRY(read_bool(from, "attention_bias", &config->attention_bias));
    LS_TRY(check_window(from, config));
    return read_rotary(from, config);
}

ls_status ls_huggingface_config_read(ls_model_config *out, ls_special_ids *ids, const char *text, size_t length,
                                     const char *name)
{
    cJSON *document;
    *out = (ls_model_config){0};
    LS_TRY(ls_json_parse(&document, text, length, name));
    reading from = {.document = document, .name = name};
    ls_status status = read_config(&from, out);
    if (status == LS_OK && ls_model_config_check(out) != LS_OK) {
        char *reason = ls_text_format("%s: %s", name, ls_error_text());
        ls_error_clear();
        status = LS_FAIL(LS_BAD_INPUT, "%s", reason);
        free(reason);
    }
    if (ids != NULL)
        *ids = (ls_special_ids){special_id(find(document, "bos_token_id")), special_id(find(document, "eos_token_id")),
                                special_id(find(document, "pad_token_id"))};
    cJSON_Delete(document);
    return status;
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

static void add_id(cJSON *object, const char *key, int64_t id)
{
    if (id >= 0)
        (void)cJSON_AddNumberToObject(object, key, (double)id);
    else
        (void)cJSON_AddNullToObject(object, key);
}

/* With a point or an exponent, so that Python reads a float. */
static void add_double(cJSON *object, const char *key, double value)
{
    char text[64];
    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    if (strpbrk(text, ".e") == NULL) (void)strcat(text, ".0");
    (void)cJSON_AddRawToObject(object, key, text);
}

static void add_rope_scaling(cJSON *document, const ls_rope_scaling *scaling)
{
    if (scaling->type == LS_ROPE_PLAIN) {
        (void)cJSON_AddNullToObject(document, "rope_scaling");
        return;
    }
    cJSON *object = cJSON_AddObjectToObject(document, "rope_scaling");
    (void)cJSON_AddStringToObject(object, "rope_type", ls_rope_type_names[scaling->type]);
    add_double(object, "factor", scaling->factor);
    if (scaling->type != LS_ROPE_LLAMA3) return;
    add_double(object, "low_freq_factor", scaling->low_freq_factor);
    add_double(object, "high_freq_factor", scaling->high_freq_factor);
    (void)cJSON_AddNumberToObject(object, "original_max_position_embeddings",
                                  (double)scaling->original_max_position_embeddings);
}

/* Prints and deletes. */
static char *print(cJSON *document)
{
    char *raw = cJSON_Print(document);
    char *text = ls_text_format("%s\n", raw == NULL ? "" : raw);
    cJSON_free(raw);
    cJSON_Delete(document);
    return text;
}

/* The ids of `kept` where it is a config.json, else `ids`. */
static void add_ids(cJSON *document, const ls_special_ids *ids, const char *kept)
{
    const char *const keys[] = {"bos_token_id", "eos_token_id", "pad_token_id"};
    const int64_t ours[] = {ids->bos, ids->eos, ids->pad};
    cJSON *original = kept == NULL ? NULL : cJSON_Parse(kept);
    for (int i = 0; i < 3; i++) {
        cJSON *item = cJSON_DetachItemFromObjectCaseSensitive(original, keys[i]);
        if (item != NULL)
            (void)cJSON_AddItemToObject(document, keys[i], item);
        else
            add_id(document, keys[i], original == NULL ? ours[i] : -1);
    }
    cJSON_Delete(original);
}

char *ls_huggingface_config_write(const ls_model_config *config, const ls_special_ids *ids, ls_stored_type type,
                                  const char *kept)
{
    cJSON *document = cJSON_CreateObject();
    cJSON_AddItemToArray(cJSON_AddArrayToObject(document, "architectures"), cJSON_CreateString("LlamaForCausalLM"));
    (void)cJSON_AddStringToObject(document, "model_type", "llama");
    (void)cJSON_AddBoolToObject(document, "attention_bias", config->attention_bias);
    add_double(document, "attention_dropout", 0.0);
    add_ids(document, ids, kept);
    (void)cJSON_AddNumberToObject(document, "head_dim", (double)config->head_dim);
    (void)cJSON_AddStringToObject(document, "hidden_act", "silu");
    (void)cJSON_AddNumberToObject(document, "hidden_size", (double)config->hidden_size);
    add_double(document, "initializer_range", config->initializer_range);
    (void)cJSON_AddNumberToObject(document, "intermediate_size", (double)config->intermediate_size);
    (void)cJSON_AddNumberToObject(document, "max_position_embeddings", (double)config->max_position_embeddings);
    (void)cJSON_AddBoolToObject(document, "mlp_bias", false);
    (void)cJSON_AddNumberToObject(document, "num_attention_heads", (double)config->num_attention_heads);
    (void)cJSON_AddNumberToObject(document, "num_hidden_layers", (double)config->num_hidden_layers);
    (void)cJSON_AddNumberToObject(document, "num_key_value_heads", (double)config->num_key_value_heads);
    add_double(document, "rms_norm_eps", config->rms_norm_eps);
    add_rope_scaling(document, &config->rope_scaling);
    add_double(document, "rope_theta", config->rope_theta);
    (void)cJSON_AddBoolToObject(document, "tie_word_embeddings", config->tie_word_embeddings);
    (void)cJSON_AddStringToObject(document, "torch_dtype", ls_stored_type_long_names[type]);
    (void)cJSON_AddBoolToObject(document, "use_cache", true);
    (void)cJSON_AddNumberToObject(document, "vocab_size", (double)config->vocab_size);
    return print(document);
}

char *ls_huggingface_generation_write(const ls_special_ids *ids)
{
    cJSON *document = cJSON_CreateObject();
    if (ids->bos >= 0) add_id(document, "bos_token_id", ids->bos);
    if (ids->eos >= 0) add_id(document, "eos_token_id", ids->eos);
    if (ids->pad >= 0) add_id(document, "pad_token_id", ids->pad);
    (void)cJSON_AddBoolToObject(document, "do_sample", false);
    return print(document);
}

char *ls_huggingface_tokenizer_config_write(const char *bos, const char *eos, int64_t context)
{
    cJSON *document = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(document, "tokenizer_class", "PreTrainedTokenizerFast");
    (void)cJSON_AddNumberToObject(document, "model_max_length", (double)context);
    (void)cJSON_AddBoolToObject(document, "clean_up_tokenization_spaces", false);
    if (bos != NULL) (void)cJSON_AddStringToObject(document, "bos_token", bos);
    if (eos != NULL) (void)cJSON_AddStringToObject(document, "eos_token", eos);
    return print(document);
}
