/* AdamW over the parameter block: master weights, moments, clipping; each rank its shard (optim/shards.h).
 *
 * `gradients` spans the block. Blocks of kept elements hold, for every bucket of `shards`, elements
 * kept_first..kept_end-1 at `place`; a process alone keeps all, in the order of the block. */
#ifndef LS_OPTIM_OPTIMIZER_H
#define LS_OPTIM_OPTIMIZER_H

#include "model/model.h"
#include "optim/lanes.h"
#include "optim/shards.h"

typedef enum ls_offload {
    LS_OFFLOAD_NONE = 0,
    LS_OFFLOAD_MOMENTS = 1, /* they live in the host's memory where the device has memory of its own */
} ls_offload;

typedef struct ls_optimizer_options {
    double beta1, beta2, epsilon, weight_decay;
    double clip_norm; /* global gradient norm is clipped to this; 0: never */
    bool decay_embeddings;
    ls_offload offload;
    int64_t lane_elements; /* of a moment that travel at once, where it is offloaded */
} ls_optimizer_options;

typedef struct ls_optimizer {
    ls_optimizer_options options;
    ls_model *model; /* its weights are rewritten each step */
    ls_shards shards;
    float *master;            /* [kept] fp32; in fp32 this is model->weights itself, [elements] */
    float *moment1, *moment2; /* [kept] fp32, of `lanes`: with offload ops must not use them, copies may */
    ls_lanes lanes;
    float *gradients;     /* [elements] fp32; they start at zero. NULL where the shards have a place for them */
    double *squares;      /* [buckets] of the exec: where the norm's sums land */
    double *host_squares; /* [buckets] the same on the host */
    double *norms;        /* [size] squares of every rank */
    int64_t updates;      /* steps taken, for bias correction */
} ls_optimizer;

/* Blocks of kept elements, as they are saved. */
typedef enum ls_kept_block { LS_KEPT_MASTER = 0, LS_KEPT_MOMENT1, LS_KEPT_MOMENT2, LS_KEPT_BLOCKS } ls_kept_block;

/* For a process alone. */
ls_status ls_optimizer_create(ls_optimizer *out, ls_model *model, const ls_optimizer_options *options);
/* The same over the ranks of `comm` (NULL: alone). */
ls_status ls_optimizer_create_shared(ls_optimizer *out, ls_model *model, const ls_optimizer_options *options,
                                     ls_comm *comm, ls_sharding sharding, int64_t bucket_elements);
void ls_optimizer_destroy(ls_optimizer *optimizer);
/* Where the kept elements of bucket `index` lie in a block. */
float *ls_optimizer_kept(const ls_optimizer *optimizer, ls_kept_block block, int index);
float *ls_optimizer_base(const ls_optimizer *optimizer, ls_kept_block block); /* the block's first element */
/* Random weights, ls_parameters_initialize's. */
ls_status ls_optimizer_initialize(ls_optimizer *optimizer, uint64_t seed);
/* Rewrites model->weights from the master weights of all ranks (after initialisation or loading). */
ls_status ls_optimizer_publish(ls_optimizer *optimizer);
/* One update from `gradients`, which are summed over the ranks first (with ZeRO-2 they have been: ls_shards_reduce
 * after every pass) and zero afterwards. *gradient_norm: before clipping. A non-finite norm is LS_NOT_FINITE on every
 * rank, naming a parameter that holds one, and changes nothing: the gradients then hold the sums. */
ls_status ls_optimizer_step(ls_optimizer *optimizer, double learning_rate, double *gradient_norm);
/* The step in parts, for who reads more from the device than the norm and wants to wait once. First: sums the gradients
 * over the ranks, as above, and issues their sums of squares; squares: [buckets] of the exec. */
ls_status ls_optimizer_measure(ls_optimizer *optimizer, double *squares);
/* This rank's part of the squared norm, from `squares` on the host. */
double ls_optimizer_own_squares(const ls_optimizer *optimizer, const double *squares);
/* The norm, from every rank's part. */
double ls_optimizer_norm(const ls_optimizer *optimizer, const double *of_ranks);
/* Last: issues the update, for a norm that is finite. A process alone does not wait for it. */
ls_status ls_optimizer_update(ls_optimizer *optimizer, double learning_rate, double gradient_norm);
/* The parameter of the highest layer whose summed gradient is not finite; NULL: none. Every rank must ask. */
ls_status ls_optimizer_culprit(const ls_optimizer *optimizer, const ls_parameter **culprit);
/* Drops the gradients: they are zero, whatever they were. Every rank must do it. */
ls_status ls_optimizer_discard(ls_optimizer *optimizer);

#endif
