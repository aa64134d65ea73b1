/* The shape of a Llama-family model, in Hugging Face's names. */
#ifndef LS_MODEL_MODEL_CONFIG_H
#define LS_MODEL_MODEL_CONFIG_H

#include "core/status.h"

#include <stdbool.h>
#include <stdint.h>

#define LS_HEAD_DIM_MAX 1024

/* How the rotation's frequencies are stretched for contexts beyond the one first trained on. */
typedef enum ls_rope_type {
    LS_ROPE_PLAIN = 0,
    LS_ROPE_LINEAR, /* all divided by `factor` (position interpolation, Chen et al. 2023) */
    LS_ROPE_LLAMA3, /* low frequencies divided, high ones kept, those between interpolated (Llama 3.1) */
} ls_rope_type;

/* "none", "linear", "llama3"; NULL-terminated, in enum order (a config choice list). */
extern const char *const ls_rope_type_names[];

/* Fields that the type does not use mean nothing. */
typedef struct ls_rope_scaling {
    int type; /* ls_rope_type */
    double factor;
    double low_freq_factor, high_freq_factor;
    int64_t original_max_position_embeddings;
} ls_rope_scaling;

typedef struct ls_model_config {
    int64_t hidden_size;             /* C */
    int64_t intermediate_size;       /* F */
    int64_t num_hidden_layers;       /* L */
    int64_t num_attention_heads;     /* H */
    int64_t num_key_value_heads;     /* G */
    int64_t head_dim;                /* D; 0 in a file: hidden_size / num_attention_heads */
    int64_t vocab_size;              /* V */
    int64_t max_position_embeddings; /* longest context */
    double rope_theta;
    double rms_norm_eps;
    double initializer_range; /* standard deviation of initial weights */
    bool tie_word_embeddings; /* head = embedding */
    bool attention_bias;      /* the four projections of attention have one */
    ls_rope_scaling rope_scaling;
} ls_model_config;

/* Fills derived sizes (head_dim) and refuses what cannot work, naming the key: heads that do not divide, odd
 * head_dim... */
ls_status ls_model_config_check(ls_model_config *config);
/* Whether the weights of one fit the other: same tensors of the same sizes. */
bool ls_model_config_equal_shape(const ls_model_config *a, const ls_model_config *b);

#endif
