/* TensorBoard scalars: an events file of TFRecord-framed protobufs in the run folder.
 *
 * Each process that trains a run writes a file of its own, beginning with a START event at its first step, by which
 * TensorBoard drops what an earlier, longer-lived process had written beyond the checkpoint. */
#ifndef LS_TRAIN_TENSORBOARD_H
#define LS_TRAIN_TENSORBOARD_H

#include "core/status.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct ls_tensorboard {
    FILE *file;
    char *path;
} ls_tensorboard;

ls_status ls_tensorboard_open(ls_tensorboard *out, const char *run_dir, int64_t step);
ls_status ls_tensorboard_close(ls_tensorboard *tensorboard);
/* tag: at most 120 bytes, e.g. "loss/exit_3". Buffered until the flush. */
void ls_tensorboard_scalar(ls_tensorboard *tensorboard, int64_t step, const char *tag, double value);
ls_status ls_tensorboard_flush(ls_tensorboard *tensorboard);

/* CRC32C (Castagnoli), rotated and offset as TFRecord wants it. */
uint32_t ls_tensorboard_masked_crc(const void *bytes, size_t length);

#endif
