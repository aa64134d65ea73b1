/* The exit head: loss of one exit, and its gradient, without ever holding all logits.
 *
 *   loss = sum over target rows of cross_entropy(head . final_norm(x[l+1]), target)
 *
 * Runs over chunks of target rows of all samples, those dropped in layer l too. Called by training.c only. */
#ifndef LS_MODEL_EXIT_HEAD_H
#define LS_MODEL_EXIT_HEAD_H

#include "model/activations.h"

typedef struct ls_exit_gradients {
    float *norm, *head; /* [C], [V,C] */
} ls_exit_gradients;

/* Writes the row losses to rows.loss[layer]. With `gradients` also dresidual += and gradients += the derivative of
 * gradient_scale * loss. */
void ls_exit_head_run(const ls_model *model, const ls_activations *activations, const ls_exit_gradients *gradients,
                      int layer, float gradient_scale);

#endif
