/* Saving while training goes on: what this process has to write is copied into the host's memory, and a thread writes
 * that while steps go on. Training waits for the copy, and for a save before that is still being written.
 *
 * Rank 0 makes the file with all of its datasets in place, as checkpoint.c does for several processes; each rank's
 * thread then writes its pieces at their places, with neither HDF5 nor MPI. When all have synced them, rank 0 gives the
 * file its name: until then the checkpoints before it are the run's. Called by train/loop.c. */
#ifndef LS_TRAIN_BACKGROUND_SAVE_H
#define LS_TRAIN_BACKGROUND_SAVE_H

#include "train/checkpoint.h"

typedef struct ls_background_save ls_background_save;

/* Takes the memory that the copies need. */
ls_status ls_background_save_create(ls_background_save **out, const ls_optimizer *optimizer);
void ls_background_save_destroy(ls_background_save *self); /* waits for what it writes, and drops it; NULL is fine */
size_t ls_background_save_bytes(const ls_background_save *self);
/* The same of a process alone, before anything is made. */
size_t ls_background_save_bytes_of(int64_t elements);

/* Ends the save before, then begins one. All ranks call it; a failure is that of all, and leaves nothing behind. */
ls_status ls_background_save_begin(ls_background_save *self, const char *run_dir, const ls_checkpoint *about,
                                   int64_t keep);
bool ls_background_save_running(const ls_background_save *self); /* begun and not ended; NULL: no */
bool ls_background_save_written(const ls_background_save *self); /* nothing of this rank is left to wait for */
/* Waits for all ranks, gives the file its name and removes old ones; *seconds: from the copy to the last byte written.
 * All ranks call it. Nothing where none is running. */
ls_status ls_background_save_end(ls_background_save *self, double *seconds);

#endif
