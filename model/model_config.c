/* Checks of a model's shape, each message naming the key to correct. */
#include "model/model_config.h"

#include <math.h>
#include <stddef.h>

const char *const ls_rope_type_names[] = {"none", "linear", "llama3", NULL};

/* Sizes above these are typing errors, and products of a few of them stay far below 2^63. */
static const struct {
    const char *key;
    size_t offset;
    int64_t largest;
} sizes[] = {
    {"hidden_size", offsetof(ls_model_config, hidden_size), 1 << 17},
    {"intermediate_size", offsetof(ls_model_config, intermediate_size), 1 << 20},
    {"num_hidden_layers", offsetof(ls_model_config, num_hidden_layers), 1 << 12},
    {"num_attention_heads", offsetof(ls_model_config, num_attention_heads), 1 << 12},
    {"num_key_value_heads", offsetof(ls_model_config, num_key_value_heads), 1 << 12},
    {"vocab_size", offsetof(ls_model_config, vocab_size), 1 << 24},
    {"max_position_embeddings", offsetof(ls_model_config, max_position_embeddings), 1 << 24},
};

static ls_status check_sizes(const ls_model_config *config)
{
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const int64_t value = *(const int64_t *)((const char *)config + sizes[i].offset);
        if (value < 1 || value > sizes[i].largest)
            return LS_FAIL(LS_BAD_INPUT, "%s is %lld; it must be from 1 to %lld", sizes[i].key, (long long)value,
                           (long long)sizes[i].largest);
    }
    return LS_OK;
}

static ls_status check_heads(ls_model_config *config)
{
    const long long C = config->hidden_size, H = config->num_attention_heads, G = config->num_key_value_heads;
    if (H % G != 0)
        return LS_FAIL(LS_BAD_INPUT, "num_attention_heads is %lld, which num_key_value_heads %lld does not divide", H,
                       G);
    if (config->head_dim == 0) {
        if (C % H != 0)
            return LS_FAIL(LS_BAD_INPUT,
                           "hidden_size is %lld, which num_attention_heads %lld does not divide; give head_dim", C, H);
        config->head_dim = C / H;
    }
    if (config->head_dim < 2 || config->head_dim > LS_HEAD_DIM_MAX || config->head_dim % 2 != 0)
        return LS_FAIL(LS_BAD_INPUT,
                       "head_dim is %lld; rotary embedding needs an even number from 2 to %d (it is hidden_size / "
                       "num_attention_heads unless given)",
                       (long long)config->head_dim, LS_HEAD_DIM_MAX);
    return LS_OK;
}

static ls_status check_rope_scaling(const ls_rope_scaling *scaling)
{
    if (scaling->type == LS_ROPE_PLAIN) return LS_OK;
    if (scaling->type != LS_ROPE_LINEAR && scaling->type != LS_ROPE_LLAMA3)
        return LS_FAIL(LS_BAD_INPUT, "rope_scaling has type %d; it must be none, linear or llama3", scaling->type);
    if (!(scaling->factor > 0.0 && isfinite(scaling->factor)))
        return LS_FAIL(LS_BAD_INPUT, "rope_scaling has factor %g; it must be a number above 0", scaling->factor);
    if (scaling->type == LS_ROPE_LINEAR) return LS_OK;
    if (!(scaling->low_freq_factor > 0.0 && scaling->high_freq_factor > scaling->low_freq_factor &&
          isfinite(scaling->high_freq_factor)))
        return LS_FAIL(LS_BAD_INPUT,
                       "rope_scaling has low_freq_factor %g and high_freq_factor %g; both must be above 0, the second "
                       "above the first",
                       scaling->low_freq_factor, scaling->high_freq_factor);
    if (scaling->original_max_position_embeddings < 1)
        return LS_FAIL(LS_BAD_INPUT, "rope_scaling has original_max_position_embeddings %lld; it must be at least 1",
                       (long long)scaling->original_max_position_embeddings);
    return LS_OK;
}

ls_status ls_model_config_check(ls_model_config *config)
{
    LS_TRY(check_sizes(config));
    LS_TRY(check_heads(config));
    if (!(config->rope_theta > 1.0 && isfinite(config->rope_theta)))
        return LS_FAIL(LS_BAD_INPUT, "rope_theta is %g; it must be a number above 1", config->rope_theta);
    LS_TRY(check_rope_scaling(&config->rope_scaling));
    if (!(config->rms_norm_eps > 0.0 && config->rms_norm_eps < 1.0))
        return LS_FAIL(LS_BAD_INPUT, "rms_norm_eps is %g; it must be above 0 and below 1", config->rms_norm_eps);
    if (!(config->initializer_range >= 0.0 && isfinite(config->initializer_range)))
        return LS_FAIL(LS_BAD_INPUT, "initializer_range is %g; it must not be negative", config->initializer_range);
    return LS_OK;
}

bool ls_model_config_equal_shape(const ls_model_config *a, const ls_model_config *b)
{
    return a->hidden_size == b->hidden_size && a->intermediate_size == b->intermediate_size &&
           a->num_hidden_layers == b->num_hidden_layers && a->num_attention_heads == b->num_attention_heads &&
           a->num_key_value_heads == b->num_key_value_heads && a->head_dim == b->head_dim &&
           a->vocab_size == b->vocab_size && a->tie_word_embeddings == b->tie_word_embeddings &&
           a->attention_bias == b->attention_bias;
}
