/* The part of a checkpoint that one of several processes has: pieces of datasets, on their way through the host's
 * memory. Called by train/checkpoint.c and train/background_save.c. */
#ifndef LS_TRAIN_CHECKPOINT_PIECES_H
#define LS_TRAIN_CHECKPOINT_PIECES_H

#include "core/hdf5_file.h"
#include "optim/optimizer.h"

/* The elements of `entry` that this rank has to write (its shards), or to read (what it keeps), as pieces from the
 * block's memory; returns how many. pieces: room for all buckets. */
int ls_pieces_find(ls_hdf5_piece *pieces, const ls_optimizer *optimizer, ls_kept_block block, const ls_parameter *entry,
                   bool reading);

/* The pieces of one parameter, and where they pass through the host's memory when the blocks are elsewhere. */
typedef struct ls_piece_window {
    ls_hdf5_piece *pieces;  /* [buckets] */
    int64_t *device_places; /* [buckets] */
    float *values;          /* of the largest parameter; NULL: the blocks are in the host's memory */
} ls_piece_window;

ls_status ls_piece_window_open(ls_piece_window *window, const ls_optimizer *optimizer);
void ls_piece_window_close(ls_piece_window *window);
/* Where the pieces lie for the host: in `base`, or packed in the window. */
float *ls_piece_window_pack(const ls_piece_window *window, int count, float *base);
/* Between the window and the device, one way or the other. */
ls_status ls_piece_window_move(const ls_piece_window *window, int count, ls_exec *exec, float *base, bool download);

/* A sum over the kept blocks of all ranks, the same for any number of them and on all: of each element's bits, by an
 * odd number that tells its place. A changed element always changes it. */
ls_status ls_pieces_sum(const ls_optimizer *optimizer, uint64_t *sum);

#endif
