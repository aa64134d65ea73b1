/* Forward and backward of a whole micro-batch under a step plan.
 *
 * Buffers are sized at creation from (B, T) alone; a pass allocates nothing. Memory does not depend on how many
 * exits are on: an exit's norm, head, cross-entropy and their gradients run in row chunks at the moment backward
 * passes its layer. */
#ifndef LS_MODEL_TRAINING_H
#define LS_MODEL_TRAINING_H

#include "model/model.h"
#include "model/step_plan.h"

typedef struct ls_batch {
    int64_t B, T;
    const int32_t *tokens;    /* [B,T] */
    const int32_t *targets;   /* [B,T], -1: no loss here */
    const int32_t *first_key; /* [B,T] first position that a position may attend to (documents); NULL: 0 */
    const int32_t *positions; /* [B,T] position for the rotation; NULL: t */
} ls_batch;

typedef struct ls_training ls_training;

/* Told during backward, on the caller's thread: the gradients of a part (model/parameters.h) are complete. The final
 * norm and an untied head are so below the lowest exit that is on; the embedding comes last. Each part is told once a
 * pass, in an order that depends on the plan alone. */
typedef struct ls_backward_watch {
    void (*complete)(void *context, int part);
    /* NULL: gradients go where the pass is told. Else it is asked for the place of a part's, from its first element on,
     * before some are added, more than once where they come at several moments; it holds until the part is complete. */
    float *(*place)(void *context, int part);
    void *context;
} ls_backward_watch;

/* `recompute`: keep only each block's input and run the block's forward again in backward. Who only wants losses should
 * ask for it: it costs a forward pass nothing and saves most of the memory. */
ls_status ls_training_create(ls_training **out, const ls_model *model, int64_t B, int64_t T, bool recompute);
void ls_training_destroy(ls_training *training);
/* For the passes from now on; a watch without functions ends it. */
void ls_training_watch(ls_training *training, ls_backward_watch watch);
/* Tells the watch of all parts in the order of a pass under this plan, without one: for who cannot make the pass that
 * others make. */
void ls_training_tell(const ls_training *training, const ls_step_plan *plan);
size_t ls_training_bytes(const ls_training *training); /* size of the activation buffers */

/* Runs one micro-batch and waits for its losses, batch->B <= B and batch->T <= T.
 *   exit_loss[l] = sum over target tokens of the cross-entropy at exit l, in nats, for exits with plan weight > 0;
 *                  untouched elsewhere. [L], fp64.
 *   gradients   += d/dparameters of  sum_l weight[l] * exit_loss[l] / target_count;  NULL: losses only (forward),
 *                  unless a watch says where they go.
 * gradients: fp32 [table.elements], from ls_exec_allocate. target_count: target tokens of the whole (global) batch, >
 * 0. The batch's arrays are ordinary memory and are copied. A loss that is not finite is LS_NOT_FINITE naming its exit.
 */
ls_status ls_training_run(ls_training *training, double *exit_loss, float *gradients, const ls_batch *batch,
                          const ls_step_plan *plan, double target_count);
/* The same without waiting: sums[k] becomes the loss of the k-th exit that is on, from below, and whether it is finite
 * is for the caller to see. sums: [L] fp64, from ls_exec_allocate. */
ls_status ls_training_issue(ls_training *training, double *sums, float *gradients, const ls_batch *batch,
                            const ls_step_plan *plan, double target_count);
/* The cross-entropies, in nats, that the last pass summed: one row of targets an exit that was on, from below; within
 * it the batch's targets in their order. losses: [exits on][targets], ordinary memory. Waits for the pass. */
ls_status ls_training_row_losses(ls_training *training, float *losses);

#endif
