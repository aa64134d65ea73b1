/* Weights in HDF5 in the type they came in, a few rows at a time.
 *
 * F16 and BF16 are HDF5 floating-point types of 16 bits that describe themselves, so that HDF5 converts them wherever
 * fp32 is asked for; here they are read and written as they are, bit for bit. A vector counts as rows of one element.
 */
#ifndef LS_MODEL_STORED_TENSOR_H
#define LS_MODEL_STORED_TENSOR_H

#include "core/hdf5_file.h"
#include "model/stored_type.h"

typedef struct ls_stored_tensor {
    hid_t dataset;
    const char *path, *name; /* for messages; the caller's */
    ls_stored_type type;
    int64_t rows, cols; /* cols 0: a vector */
} ls_stored_tensor;

/* A new dataset without content. `file` comes from ls_hdf5_create. */
ls_status ls_stored_tensor_create(ls_stored_tensor *out, hid_t file, const char *path, const char *name,
                                  ls_stored_type type, int64_t rows, int64_t cols);
/* An existing dataset, which must have this shape and one of our types. */
ls_status ls_stored_tensor_open(ls_stored_tensor *out, hid_t file, const char *path, const char *name, int64_t rows,
                                int64_t cols);
void ls_stored_tensor_close(ls_stored_tensor *tensor);

ls_status ls_stored_tensor_write(const ls_stored_tensor *tensor, int64_t first_row, int64_t rows, const void *values);
ls_status ls_stored_tensor_read(const ls_stored_tensor *tensor, int64_t first_row, int64_t rows, void *values);

#endif
