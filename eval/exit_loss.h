/* Loss of every exit over a split of a token file: forward passes of the training code with all exits on. */
#ifndef LS_EVAL_EXIT_LOSS_H
#define LS_EVAL_EXIT_LOSS_H

#include "data/token_file.h"
#include "kernels/comm/comm.h"
#include "model/training.h"

typedef struct ls_exit_loss_options {
    ls_split split;
    int64_t B, T; /* samples a pass and their length; at most what the ls_training was made for */
    /* Samples at most, spread evenly over the split; 0: all of it, its short last sample included. */
    int64_t max_samples;
    bool document_mask; /* confine attention to documents, as data/loader.h does; records need it */
    ls_comm *comm;      /* whose processes take the passes in turn; NULL: alone */
} ls_exit_loss_options;

/* loss[l] = mean cross-entropy at exit l (the output of block l), in nats, [L]; *tokens = predicted tokens. The same
 * arguments give the same bits, on every process and for any number of them. A failure is that of all. Samples are
 * those of data/loader.h; of records, only what is to be learnt counts. A split of fewer than 2 tokens is LS_BAD_INPUT;
 * a signal is LS_INTERRUPTED. */
ls_status ls_exit_loss(double *loss, int64_t *tokens, ls_training *training, const ls_model *model,
                       const ls_token_file *file, const ls_exit_loss_options *options);

#endif
