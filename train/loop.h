/* A training run from its config to its last checkpoint. */
#ifndef LS_TRAIN_LOOP_H
#define LS_TRAIN_LOOP_H

#include "train/config.h"

typedef enum ls_start {
    LS_START_NEW = 0, /* config->run_dir must hold no checkpoint */
    LS_START_RESUME,  /* it must hold one, and the newest is continued */
    LS_START_EITHER,
} ls_start;

/* SIGINT, SIGTERM and SIGUSR1 save and return LS_INTERRUPTED. */
ls_status ls_train_run(ls_train_config *config, ls_start start);
/* As one of the processes of `comm`: rank 0 talks and keeps the run folder, all train. */
ls_status ls_train_run_shared(ls_train_config *config, ls_start start, ls_comm *comm);

#endif
