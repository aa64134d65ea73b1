/* Every buffer of a training pass, laid out once from (B, T).
 *
 * Two blocks of the exec's memory: `tensors`, which only ops touch, and `lists`, small, of which the host has a copy of
 * the same layout. Before a pass the host fills its copy of the indices and uploads them at once; the losses of the
 * rows stay, their sums are what the host reads. Lists of exits that are off take no room in the upload.
 *
 * The residual stream is a store of fp32 slabs [T,C] addressed by slot: 0..B-1 the embedding output, then for each
 * layer one slab a survivor for the value after attention and one for the value after the MLP. A dropped sample keeps
 * the slot it had, so nothing is copied. With recomputation the slabs after attention are shared by all layers, and so
 * is what a block saves. */
#ifndef LS_MODEL_ACTIVATIONS_H
#define LS_MODEL_ACTIVATIONS_H

#include "model/step_plan.h"
#include "model/training.h"

/* What a block's forward leaves for its backward; n <= B survivors, compute type unless float. */
typedef struct ls_saved_block {
    void *normed1;   /* [n,T,C] */
    float *rstd1;    /* [n,T] */
    void *qkv;       /* [n,T,(H+2G)*D] rotated */
    void *attention; /* [n,T,H*D] before the output projection */
    float *lse;      /* [n,H,T] */
    void *normed2;   /* [n,T,C] */
    float *rstd2;    /* [n,T] */
    void *gate_up;   /* [n,T,2F]; backward overwrites it with its gradient */
} ls_saved_block;

/* Who a block works on, [count] each. */
typedef struct ls_survivors {
    int count;         /* n */
    bool as_below;     /* the samples of the layer below, at least one */
    int32_t *sample;   /* sample number in the batch */
    int32_t *in_slot;  /* x[l] */
    int32_t *mid_slot; /* after attention */
    int32_t *out_slot; /* x[l+1] */
} ls_survivors;

/* Rows (positions with a target) for the exit heads; the last chunk is padded with rows that have no target. */
typedef struct ls_exit_rows {
    int64_t count;   /* rows with a target */
    int64_t padded;  /* with the padding; the last chunk holds at least one row with a target */
    int32_t *sample; /* [rows] row b*T + t of dresidual */
    int32_t *target; /* [rows] */
    int32_t **slot;  /* [L][rows] row slot*T + t of the residual store holding x[l+1]; for exits that are on */
    float **loss;    /* [L][rows]; for exits that are on */
    int32_t *slots;  /* [L*rows] what slot[] points into, one after the other */
    float *losses;   /* [L*rows] what loss[] points into, a row an exit that is on */
    double *sums;    /* [L] of them */
    int exits;       /* that are on */
    int64_t chunk;   /* rows worked on at a time */
} ls_exit_rows;

typedef struct ls_activations {
    int64_t B, T; /* largest batch */
    bool recompute;

    /* tensors */
    float *residual;        /* [slots,T,C] */
    float *dresidual;       /* [B,T,C] */
    ls_saved_block *blocks; /* [L]; all the same buffers when recomputing */
    void *y;                /* [B*T,C] a branch's output, and the gradient of it */
    void *dnormed;          /* [B*T,C] */
    void *dattention;       /* [B*T,H*D] */
    void *dqkv;             /* [B*T,(H+2G)*D] */
    void *act;              /* [B*T,F] SwiGLU output, and the gradient of it */
    void *logits;           /* [chunk,V] */
    void *head_normed;      /* [chunk,C] */
    void *head_dnormed;     /* [chunk,C] */
    float *head_rstd;       /* [chunk] */

    /* lists */
    int32_t *tokens;         /* [B,T] */
    int32_t *first_key;      /* [B,T] */
    int32_t *positions;      /* [B,T] */
    bool documents;          /* whether any first_key is not 0, */
    bool renumbered;         /* whether any position is not t: if not, ops are given NULL and take their short way */
    ls_survivors *survivors; /* [L] */
    int32_t *current_slot;   /* [B] of the host: where a sample stands while the lists are filled */
    ls_exit_rows rows;

    void *tensor_block, *list_block;
    void *host_lists; /* the host's copy of list_block */
    size_t tensor_bytes, list_bytes;
} ls_activations;

ls_status ls_activations_create(ls_activations *out, const ls_model *model, int64_t B, int64_t T, bool recompute);
void ls_activations_destroy(ls_activations *activations, ls_exec *exec);

/* Fills the lists for one pass and uploads them. Refuses token or target ids outside 0..V-1 (target -1 is none),
 * positions outside the rotation table, documents that do not lie before their position, and plans that do not fit the
 * batch. */
ls_status ls_activations_prepare(ls_activations *activations, const ls_model *model, const ls_batch *batch,
                                 const ls_step_plan *plan);

#endif
