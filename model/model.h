/* A Llama model ready to run: shape, weights in compute type, rotation tables.
 *
 *   x[0]   = embedding[token]
 *   block l:  a = x + attention(rmsnorm(x)),   x' = a + down(swiglu(gate_up(rmsnorm(a))))
 *   logits = head . rmsnorm(x[L])              the same norm and head serve every exit
 *
 * The residual stream is fp32; everything inside a block is in the compute type. Weights, tables, activations and
 * caches come from ls_exec_allocate: memory of the device, which the host reaches by ls_exec_upload and
 * ls_exec_download alone. */
#ifndef LS_MODEL_MODEL_H
#define LS_MODEL_MODEL_H

#include "kernels/exec.h"
#include "model/parameters.h"

typedef struct ls_model {
    ls_exec *exec;
    ls_model_config config;
    ls_parameter_table table;
    ls_dtype dtype;  /* compute type */
    void *weights;   /* [table.elements] of dtype */
    float *rope_cos; /* [max_position_embeddings, D/2] */
    float *rope_sin;
} ls_model;

/* Allocates; weights are zero until loaded or converted. `config` has been checked. */
ls_status ls_model_create(ls_model *out, ls_exec *exec, const ls_model_config *config, ls_dtype dtype);
/* The same for so many processes that share it out: ls_parameter_table_create_for. */
ls_status ls_model_create_for(ls_model *out, ls_exec *exec, const ls_model_config *config, ls_dtype dtype,
                              int processes);
void ls_model_destroy(ls_model *model);
/* Address of the element at `offset` of the weight block. */
const void *ls_model_weight(const ls_model *model, int64_t offset);

/* FLOP of one training step per token, the way throughput is reported: 6 per parameter of a matrix product (each
 * head once, embedding look-ups none) plus causal attention forward and backward: 6*T*H*D*L. */
double ls_model_training_flops_per_token(const ls_model_config *config, int64_t T);

#endif
