/* One run in memory, and one step of it: plan, micro-batches accumulated, clipping, AdamW, weights published.
 *
 * With several processes each has its share of the step's micro-batches, in order. What they say to each other within a
 * step: how many targets there are, the gradients, losses and norm, the weights. A failure of one is met by all at the
 * next of these, so none waits for a message that will not come.
 *
 * All that a later step depends on is (step, cursor) and the optimizer's blocks; everything else is a pure function of
 * the config. So what a checkpoint saves is complete, and a resumed run is the same run. A step allocates nothing but
 * the plan of a product whose shape it is the first to meet. The host waits for the device once a step, to read losses
 * and norm; it issues the update and goes on. */
#ifndef LS_TRAIN_TRAINER_H
#define LS_TRAIN_TRAINER_H

#include "data/loader.h"
#include "kernels/profile.h"
#include "model/training.h"
#include "train/background_save.h"
#include "train/checkpoint.h"
#include "train/config.h"

typedef struct ls_trainer {
    ls_train_config *config; /* the caller's; what was 0 or auto is filled in */
    ls_comm *comm;           /* the caller's; NULL: alone */
    ls_recipe recipe;
    ls_schedule schedule;
    ls_token_file tokens;
    ls_exec exec;
    ls_model model;
    ls_optimizer optimizer;
    ls_training *training;
    ls_loader *loader;
    ls_loader *held_out;     /* NULL: the token file holds too little for one sample */
    ls_step_plan plan;       /* of the newest micro-batch */
    ls_step_plan everyone;   /* all exits on, nobody dropped, [B] samples */
    ls_step_plan evaluation; /* the same over evaluation_samples */
    int64_t evaluation_samples;
    ls_samples samples; /* [own share of the global batch, T], pieces of sample_memory */
    int32_t *sample_memory;
    double *readings;      /* of the exec: what the host reads of a step, [own micro-batches][L] sums of losses, then
                              [buckets] squares of the gradient */
    double *host_readings; /* the same on the host */
    double *messages;      /* [size][L+2] what the ranks tell each other */
    double *of_ranks;      /* [size] scratch */
    double *exit_loss;     /* [L] of the newest step, nats a target token, where plan.exit_weight > 0 */
    double *micro_loss;    /* [L+2] scratch */
    int64_t step;          /* taken so far */
    int64_t cursor;        /* samples read so far */
    char *config_text;     /* resolved */
    ls_background_save *background; /* NULL: saving is waited for */
    ls_profile *profile;            /* of the ops of steps; NULL: not asked for */
} ls_trainer;

typedef struct ls_step_report {
    double loss;      /* last layer's */
    double objective; /* sum over exits of weight * loss */
    double learning_rate, gradient_norm;
    double targets; /* tokens that had a target */
    bool skipped;   /* a number was not finite: no update, losses are not a number */
} ls_step_report;

/* Opens the token file and sizes everything; weights are zero until the next call. `config` must outlive the trainer.
 */
ls_status ls_trainer_create(ls_trainer *out, ls_train_config *config);
/* The same as one of the processes of `comm`, with the same answer on all. From here on every rank makes the same
 * calls.
 */
ls_status ls_trainer_create_shared(ls_trainer *out, ls_train_config *config, ls_comm *comm);
void ls_trainer_destroy(ls_trainer *trainer);
/* What ls_trainer_create would allocate on the device as one of `processes`, without a device: bytes and blocks of
 * `counted`, which is no exec otherwise. The vocabulary must be known. *saved: elements of
 * each of the optimizer's blocks that a process writes to a checkpoint. */
ls_status ls_trainer_plan(ls_exec *counted, int64_t *saved, ls_train_config *config, int processes);
/* This rank's micro-batches of a step, and the size of `readings`. */
int64_t ls_trainer_micro_batches(const ls_trainer *trainer);
size_t ls_trainer_readings_bytes(const ls_trainer *trainer);
/* Weights for step 0: random from the seed, or those of init_from. */
ls_status ls_trainer_initialize(ls_trainer *trainer);
/* Continues a checkpoint; refuses one made with another config, shape or token file. */
ls_status ls_trainer_resume(ls_trainer *trainer, const char *checkpoint);

/* A loss or gradient that is not finite is LS_NOT_FINITE naming step and layer, or a skipped step by
 * training.not_finite; weights and moments are as before. Any failure is the same on all ranks (ls_comm_agree). */
ls_status ls_trainer_step(ls_trainer *trainer, ls_step_report *report);
/* loss [L]: mean over held-out tokens at every exit, no dropout; *tokens: how many (0: no held-out text). */
ls_status ls_trainer_evaluate(ls_trainer *trainer, double *loss, double *tokens);
ls_status ls_trainer_save(const ls_trainer *trainer);
ls_status ls_trainer_save_in_background(const ls_trainer *trainer); /* begins to; checkpoint.background */

#endif
