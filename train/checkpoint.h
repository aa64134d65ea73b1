/* Checkpoints: one HDF5 file a time, run_dir/checkpoints/step-00000100.h5, that holds all a run needs to go on bit for
 * bit: the model part (model/model_file.h), and beside it
 *
 *   /moment1, /moment2   fp32 datasets by Hugging Face name, as /parameters
 *   /config              the resolved config, YAML
 *   attributes           step, cursor, seed, updates, token_file_hash, sum
 * A file is written beside under a name that ends in .tmp, synced and renamed: a crash at any instant leaves the
 * checkpoints before it whole. */
#ifndef LS_TRAIN_CHECKPOINT_H
#define LS_TRAIN_CHECKPOINT_H

#include "core/hdf5_file.h"
#include "data/token_file.h"
#include "optim/optimizer.h"

typedef struct ls_checkpoint {
    int64_t step;   /* steps taken */
    int64_t cursor; /* next sample of the run */
    int64_t seed;
    uint64_t token_file_hash;
    uint64_t sum; /* of the blocks (train/checkpoint_pieces.h): who saves fills it in, who restores checks it */
    char *config, *tokenizer; /* texts */
} ls_checkpoint;

/* What tells token files apart: tokenizer, sizes and document bounds. */
uint64_t ls_checkpoint_token_file_hash(const ls_token_file *file);

/* Saves, then removes all but the `keep` newest checkpoints of the run. On failure nothing is removed. */
ls_status ls_checkpoint_save(const char *run_dir, const ls_checkpoint *about, const ls_optimizer *optimizer,
                             int64_t keep);
/* Pieces of saving, for train/background_save.c. The file with everything in it but the blocks' content, and where in
 * it each dataset of theirs lies, offsets [LS_KEPT_BLOCKS][table.count] in bytes. */
ls_status ls_checkpoint_reserve(const char *path, const ls_checkpoint *about, const ls_optimizer *optimizer,
                                int64_t *offsets);
/* Syncs `temporary`, gives it its name, and removes all but the `keep` newest. */
ls_status ls_checkpoint_commit(const char *run_dir, const char *temporary, const char *path, int64_t keep);

/* The newest checkpoint of the run, malloc'ed; NULL when there is none. */
ls_status ls_checkpoint_newest(char **out, const char *run_dir);
/* The one to go on from: the newest, LS_BAD_INPUT where it is damaged. With `fall_back` the newest that is whole; each
 * that is passed over is warned of. NULL when there is none at all; that all are damaged is a failure. */
ls_status ls_checkpoint_choose(char **out, const char *run_dir, bool fall_back);
/* Checkpoints of later steps than the one that is continued were passed over: "step-N.h5.damaged" from now on, so that
 * they count as the newest no more. */
ls_status ls_checkpoint_set_aside(const char *run_dir, int64_t step);
/* Removes all but the `keep` newest. */
ls_status ls_checkpoint_remove_old(const char *run_dir, int64_t keep);
/* Removes what a killed process left half written. */
void ls_checkpoint_clean(const char *run_dir);

/* Everything but the blocks; texts are malloc'ed. A file without optimizer state (an imported model) is refused. */
ls_status ls_checkpoint_read(ls_checkpoint *out, const char *path);
void ls_checkpoint_free(ls_checkpoint *checkpoint);
/* LS_BAD_INPUT unless the file has its full length, its header, and all datasets; what those hold is not looked at. */
ls_status ls_checkpoint_check(const char *path);
/* Master weights, moments and updates of a run of the same shape, published to the model. */
ls_status ls_checkpoint_restore(ls_optimizer *optimizer, const char *path);
/* Master weights alone, from any weight source of the same shape whose tokenizer is `tokenizer`'s text. */
ls_status ls_checkpoint_restore_weights(ls_optimizer *optimizer, const char *tokenizer, const char *path);

#endif
