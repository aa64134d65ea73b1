/* The shape of a Llama-family model, in Hugging Face's names. */
#ifndef LS_MODEL_MODEL_CONFIG_H
#define LS_MODEL_MODEL_CONFIG_H

#include "core/status.h"

#include <stdbool.h>
#include <stdint.h>

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
} ls_model_config;

/* Fills derived sizes (head_dim) and refuses what cannot work, naming the key: heads that do not divide, odd
 * head_dim... */
ls_status ls_model_config_check(ls_model_config *config);
bool ls_model_config_equal_shape(const ls_model_config *a, const ls_model_config *b);

#endif
