/* A training run from its config to its last checkpoint. */
#ifndef LS_TRAIN_LOOP_H
#define LS_TRAIN_LOOP_H

#include "train/config.h"

/* resume: continue the newest checkpoint of config->run_dir, which must hold one; else it must hold none.
 * SIGINT and SIGTERM save and return LS_INTERRUPTED. */
ls_status ls_train_run(ls_train_config *config, bool resume);
/* As one of the processes of `comm`: rank 0 talks and keeps the run folder, all train. */
ls_status ls_train_run_shared(ls_train_config *config, bool resume, ls_comm *comm);

#endif
