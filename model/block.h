/* One transformer block over the survivors of a layer, forward and backward.
 *
 *   a  = x + s * (Wo . attention(rope(Wqkv . norm1(x) + bqkv)) + bo)   biases where the model has them
 *   x' = a + s * Wdown . swiglu(Wgate_up . norm2(a))                    s: the plan's residual scale
 *
 * An addition to the residual stream and the norm that follows it are one pass; over the border of two blocks only
 * where both have the same survivors. Called by training.c only. */
#ifndef LS_MODEL_BLOCK_H
#define LS_MODEL_BLOCK_H

#include "model/activations.h"

typedef struct ls_block_pass {
    const ls_model *model;
    const ls_activations *activations;
    int layer;
    int64_t T;                 /* of this batch */
    float scale;               /* s */
    bool entered, enters_next; /* forward: block layer - 1 has made norm1(x); this one makes that of layer + 1 */
} ls_block_pass;

/* x (slots in_slot) -> a (mid_slot) -> x' (out_slot), filling blocks[layer]. */
void ls_block_forward(const ls_block_pass *pass);
/* The same up to what backward needs: a and blocks[layer], not x'. The pass must not be entered. */
void ls_block_recompute(const ls_block_pass *pass);
/* dresidual, rows of the survivors: d/dx' -> d/dx, in place; gradients += (fp32, of this layer, laid out as its
 * weights). */
void ls_block_backward(const ls_block_pass *pass, float *gradients);

#endif
