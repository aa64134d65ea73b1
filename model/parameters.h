/* Parameters are one block with a table of names.
 *
 * Gradients, moments and master weights are parallel blocks of the same layout. Saving, clipping, decay, initialisation
 * and conversion are loops over the table. Matrices that share an input lie next to each other, so one product serves
 * them: q,k,v form one [(H+2G)*D, C] matrix, gate,up one [2F, C]; so do their biases. Groups start at multiples of 64
 * elements; the padding between them is zero and stays zero. */
#ifndef LS_MODEL_PARAMETERS_H
#define LS_MODEL_PARAMETERS_H

#include "kernels/exec.h"
#include "model/model_config.h"

typedef struct ls_parameter {
    char name[72];      /* Hugging Face's: "model.layers.3.self_attn.q_proj.weight" */
    int layer;          /* -1 outside layers */
    int64_t rows, cols; /* rows = output features; a vector (norm, bias) has cols = 1 and rank 1 in files */
    int64_t offset;     /* elements from the start of the block */
    bool is_norm;       /* never decayed, starts at one */
    bool is_bias;       /* never decayed, starts at zero */
    bool is_embedding;  /* decayed by choice */
} ls_parameter;

/* Offsets of one layer's weights, in elements. */
typedef struct ls_layer_offsets {
    int64_t input_norm;         /* [C] */
    int64_t qkv;                /* [(H+2G)*D, C] */
    int64_t qkv_bias;           /* [(H+2G)*D]; -1: none */
    int64_t attention_out;      /* [C, H*D] */
    int64_t attention_out_bias; /* [C]; -1: none */
    int64_t post_norm;          /* [C] */
    int64_t gate_up;            /* [2F, C] */
    int64_t down;               /* [C, F] */
} ls_layer_offsets;

typedef struct ls_parameter_table {
    ls_parameter *entries; /* [count] in order of offset */
    int count, layer_count;
    int64_t elements;         /* of the block, padding included */
    int64_t parameters;       /* without padding; a tied head counts once */
    int64_t embedding;        /* [V, C] */
    int64_t final_norm;       /* [C] */
    int64_t head;             /* [V, C]; equals `embedding` when tied */
    ls_layer_offsets *layers; /* [L] */
} ls_parameter_table;

/* Elements that groups of parameters, and shards of them, are multiples of: a cache line in bf16 too. */
enum { LS_PARAMETER_ALIGNMENT = 64 };

/* A part of the block: a layer, by its number. The two below are the embedding, and the final norm with an untied head
 * (which has the number of layers). They follow each other in the order of these numbers. */
#define LS_PART_EMBEDDING (-1)

ls_status ls_parameter_table_create(ls_parameter_table *out, const ls_model_config *config);
/* The same with parts that can be cut into `shards` equal shards: the padding between parts is larger. */
ls_status ls_parameter_table_create_for(ls_parameter_table *out, const ls_model_config *config, int shards);
/* The first element of a part; for the part after the last one the end of the block. */
int64_t ls_parameter_part(const ls_parameter_table *table, int part);
void ls_parameter_table_destroy(ls_parameter_table *table);

/* The block that holds them lies in the memory of `exec`; NULL: in ordinary memory. The functions below then go through
 * a piece of memory as large as the largest parameter where the host cannot reach the block.
 *
 * Normal(0, initializer_range), output projections of the residual branches scaled by 1/sqrt(2L) (GPT-2), norms one,
 * biases zero. The value of an element depends on (seed, parameter number, element) alone. `block` fp32 [elements]. */
ls_status ls_parameters_initialize(ls_exec *exec, float *block, const ls_parameter_table *table,
                                   const ls_model_config *config, uint64_t seed);

/* Parameter number `number` alone, into values[rows * cols] of ordinary memory. */
void ls_parameter_initialize(float *values, const ls_parameter_table *table, int number, const ls_model_config *config,
                             uint64_t seed);

/* The host's view of one parameter of a block at a time: the block itself where the host can reach it. */
typedef struct ls_parameter_window {
    ls_exec *exec;
    float *block;   /* [elements] */
    float *staging; /* [largest parameter], NULL where the block is looked at directly */
} ls_parameter_window;

ls_status ls_parameter_window_open(ls_parameter_window *out, ls_exec *exec, float *block,
                                   const ls_parameter_table *table);
void ls_parameter_window_close(ls_parameter_window *window);
/* Where the host may write the values of `entry`; ls_parameter_window_put then brings them to the block. */
float *ls_parameter_window_at(const ls_parameter_window *window, const ls_parameter *entry);
ls_status ls_parameter_window_put(const ls_parameter_window *window, const ls_parameter *entry);
/* Brings the values of `entry` to where the host may read them, ls_parameter_window_at. */
ls_status ls_parameter_window_get(const ls_parameter_window *window, const ls_parameter *entry);

#endif
