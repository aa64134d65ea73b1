/* What the processes of a run must have in common, and what one of them does for all. */
#ifndef LS_TRAIN_RANKS_H
#define LS_TRAIN_RANKS_H

#include "train/trainer.h"

/* Refuses, on every rank, different programs, configs (naming the key) or token files. */
ls_status ls_ranks_check(const ls_trainer *trainer);
/* Refuses where a rank does not see the folder that rank 0 sees under this name. */
ls_status ls_ranks_see_folder(ls_comm *comm, const char *path);
/* Rank 0's text (malloc'ed, may be NULL) on every rank, which frees its own. */
ls_status ls_ranks_share_text(ls_comm *comm, char **text);

#endif
