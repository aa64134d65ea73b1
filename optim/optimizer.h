/* AdamW over the parameter block: master weights, moments, clipping. */
#ifndef LS_OPTIM_OPTIMIZER_H
#define LS_OPTIM_OPTIMIZER_H

#include "model/model.h"

typedef struct ls_optimizer_options {
    double beta1, beta2, epsilon, weight_decay;
    double clip_norm; /* global gradient norm is clipped to this; 0: never */
    bool decay_embeddings;
} ls_optimizer_options;

typedef struct ls_optimizer {
    ls_optimizer_options options;
    ls_model *model;                      /* its weights are rewritten each step */
    float *master;                        /* [elements] fp32; in fp32 this is model->weights itself */
    float *moment1, *moment2, *gradients; /* [elements] fp32; gradients start at zero */
    double *squares;                      /* [1] of the exec: where the norm's sum lands */
    int64_t updates;                      /* steps taken, for bias correction */
} ls_optimizer;

ls_status ls_optimizer_create(ls_optimizer *out, ls_model *model, const ls_optimizer_options *options);
void ls_optimizer_destroy(ls_optimizer *optimizer);
/* Fresh weights of `seed` (ls_parameters_initialize), published. */
ls_status ls_optimizer_initialize(ls_optimizer *optimizer, uint64_t seed);
/* Rewrites model->weights from the master weights (after initialisation or loading). */
void ls_optimizer_publish(ls_optimizer *optimizer);
/* Whether all gradients of `entry` are finite; waits for them. */
ls_status ls_optimizer_gradient_finite(const ls_optimizer *optimizer, const ls_parameter *entry, bool *finite);
/* One update from `gradients`, which are zero afterwards. *gradient_norm: before clipping. A non-finite norm is
 * LS_NOT_FINITE naming the first parameter that holds one, and changes nothing. */
ls_status ls_optimizer_step(ls_optimizer *optimizer, double learning_rate, double *gradient_norm);

#endif
