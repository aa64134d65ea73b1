/* The little of HDF5 that every file of ours shares: opening with a clear refusal, attributes, strings.
 *
 * Every file carries the root attributes "layerskip_kind" ("tokens" or "checkpoint") and "layerskip_version": 1, or 2
 * where a program that knows 1 alone would misread the file (token files of records).
 * HDF5's own error stack is kept off the terminal; messages name the path and what is wrong with it. */
#ifndef LS_CORE_HDF5_FILE_H
#define LS_CORE_HDF5_FILE_H

#include "core/status.h"

#include <hdf5.h>
#include <stdint.h>

#define LS_HDF5_VERSION "layerskip_version"
enum { LS_HDF5_FIRST_VERSION = 1, LS_HDF5_NEWEST_VERSION = 2 };

/* Read-only; missing, foreign, truncated, newer or other-kind files are refused with one sentence. */
ls_status ls_hdf5_open(hid_t *out, const char *path, const char *kind);
/* Creates or truncates `path` and writes the root attributes, of the first version. */
ls_status ls_hdf5_create(hid_t *out, const char *path, const char *kind);
/* Flushes and closes; reports a full disk. */
ls_status ls_hdf5_close(hid_t file, const char *path);

/* Scalar attributes of `object` (a file or group). Reading a missing one is LS_BAD_INPUT naming it and `path`. */
ls_status ls_hdf5_write_int(hid_t object, const char *name, int64_t value);
ls_status ls_hdf5_write_double(hid_t object, const char *name, double value);
ls_status ls_hdf5_read_int(hid_t object, const char *path, const char *name, int64_t *out);
ls_status ls_hdf5_read_double(hid_t object, const char *path, const char *name, double *out);

ls_status ls_hdf5_make_group(hid_t file, const char *name); /* unless it is there; its parent is */
/* A whole dataset of `type` (H5T_NATIVE_*), rank 1 or 2 (cols 0: rank 1); groups on the way are created. */
ls_status ls_hdf5_write_array(hid_t file, const char *name, hid_t type, int64_t rows, int64_t cols, const void *data);
/* Reads a dataset that must have exactly this shape. */
ls_status ls_hdf5_read_array(hid_t file, const char *path, const char *name, hid_t type, int64_t rows, int64_t cols,
                             void *data);
/* Parts of a dataset of fp32: elements first..first+count-1 in row-major order, at base[place...]. Ascending. */
typedef struct ls_hdf5_piece {
    int64_t first, place, count;
} ls_hdf5_piece;

/* The dataset with its room in the file, but no content; for ls_hdf5_write_pieces. */
ls_status ls_hdf5_reserve_array(hid_t file, const char *name, int64_t rows, int64_t cols);
/* Where its first element lies, in bytes from the start of the file; its room is taken. */
ls_status ls_hdf5_array_offset(hid_t file, const char *path, const char *name, int64_t *offset);
/* Reads only the pieces of a dataset that must have this shape. */
ls_status ls_hdf5_read_pieces(hid_t file, const char *path, const char *name, int64_t rows, int64_t cols,
                              const ls_hdf5_piece *pieces, int count, float *base);
/* Of a file that all processes of MPI_COMM_WORLD opened (ls_hdf5_open_shared); each writes its own pieces, all call. */
ls_status ls_hdf5_write_pieces(hid_t file, const char *path, const char *name, const ls_hdf5_piece *pieces, int count,
                               const float *base);
/* Opens an existing file for writing by all processes at once (MPI-IO). LS_UNSUPPORTED in a build without MPI. */
ls_status ls_hdf5_open_shared(hid_t *out, const char *path);
ls_status ls_hdf5_array_length(hid_t file, const char *path, const char *name, int64_t *out); /* rank 1 */
/* Text as a uint8 dataset. *text is malloc'ed and NUL-terminated. */
ls_status ls_hdf5_write_text(hid_t file, const char *name, const char *text);
ls_status ls_hdf5_read_text(hid_t file, const char *path, const char *name, char **text);

#endif
