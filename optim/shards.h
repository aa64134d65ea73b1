/* Who keeps what: the parameter block cut into buckets, and each bucket into one shard a rank.
 *
 * A bucket is a range of the block whose gradients have become complete at a moment of backward; it is reduced as soon
 * as that is so, while backward goes on below. What a rank keeps of a bucket (moments, master weights, its update)
 * is its shard, or all of it without sharding. A process alone has one bucket, the block itself.
 * ZeRO: Rajbhandari et al. 2020, arXiv 1910.02054. Called by optim/optimizer.c. */
#ifndef LS_OPTIM_SHARDS_H
#define LS_OPTIM_SHARDS_H

#include "kernels/comm/comm.h"
#include "model/parameters.h"

typedef enum ls_sharding {
    LS_SHARDING_NONE = 0,      /* every rank keeps everything */
    LS_SHARDING_OPTIMIZER = 1, /* ZeRO-1: moments and master weights */
    LS_SHARDING_GRADIENTS = 2, /* ZeRO-2: gradients too; they are reduced after every backward pass */
} ls_sharding;

typedef struct ls_shard {
    ls_comm_bucket *bucket;
    int64_t first, end;           /* the bucket, in elements of the block */
    int64_t own_first, own_end;   /* what this rank sums */
    int64_t kept_first, kept_end; /* what this rank updates */
    int64_t place;                /* of kept_first in the blocks of kept elements */
    bool started;                 /* its reduction since the last ls_shards_reduce */
    bool collected;               /* and what came of it is in `summed` */
} ls_shard;

/* Neighbouring parts that are complete in backward at one moment: one, or several small layers. */
typedef struct ls_stretch {
    int64_t first, end;     /* elements of the block */
    int part;               /* the lowest, which is the last to be complete */
    int bucket, bucket_end; /* list[bucket] onwards */
    float *place;           /* of `staging`; NULL without */
    bool open;              /* it holds what this pass has added so far */
} ls_stretch;

typedef struct ls_shards {
    ls_comm *comm;
    ls_sharding sharding;
    ls_shard *list; /* [count] in order of the block */
    int count;
    ls_stretch *stretches; /* [stretch_count], the same */
    int stretch_count;
    int64_t kept; /* elements, of all buckets */
    size_t held;  /* bytes of weights that are noted and wait for more */
    ls_exec *exec;
    const ls_parameter_table *table;
    float *summed; /* [kept] ZeRO-2's gradients; else NULL */
    /* On GPUs they come here first: a place for each stretch that gets some at several moments of a pass, the others,
     * the layers', take turns in two places. */
    float *staging;
    int64_t staging_elements;
} ls_shards;

/* bucket_elements: the size aimed at. `comm` may be NULL; the table is made for its size. */
ls_status ls_shards_create(ls_shards *out, ls_exec *exec, const ls_parameter_table *table, ls_comm *comm,
                           ls_sharding sharding, int64_t bucket_elements);
void ls_shards_destroy(ls_shards *shards);

/* Where backward shall add the gradients of a part, with `staging`: there is no block of all then, and `gradients` of
 * the functions below is NULL. */
float *ls_shards_place(ls_shards *shards, int part);
/* `part` of the gradients is complete: starts to reduce the buckets that waited for it. */
ls_status ls_shards_ready(ls_shards *shards, float *gradients, int part);
/* Starts what has not been started, and waits: kept elements then hold the sums over all ranks. ZeRO-2 adds the sums to
 * `summed` instead and empties the block; in the host's memory its pages are given back bucket by bucket. */
ls_status ls_shards_reduce(ls_shards *shards, float *gradients);
/* Starts to bring the kept elements of a bucket to all ranks. They are asked for in their order, all of them, since
 * GPUs bring several at once; then ls_shards_wait ends it. */
ls_status ls_shards_publish(ls_shards *shards, int index, void *weights, size_t element_size);
ls_status ls_shards_wait(ls_shards *shards);
/* Where the kept gradients of a bucket lie, once reduced. */
float *ls_shards_gradients(const ls_shards *shards, float *gradients, int index);

#endif
