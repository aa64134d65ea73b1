/* Safetensors: the weights of a Hugging Face folder, read and written.
 *
 * A file is 8 bytes of header length (little endian), a JSON header {"NAME": {"dtype", "shape", "data_offsets"}, ...},
 * and the data. All that a header says is checked against the file before anything is read by it: a file that is let
 * through has tensors of the size that shape and type ask for, which cover its data without a gap or an overlap.
 * Nothing is mapped: reads go through pread, so that a file cut short while open is a sentence, not a signal. */
#ifndef LS_MODEL_SAFETENSORS_H
#define LS_MODEL_SAFETENSORS_H

#include "core/status.h"
#include "model/stored_type.h"

#include <stdbool.h>

#define LS_SAFETENSORS_RANK 8

typedef struct ls_safetensor {
    char *name;
    const char *dtype;   /* as the format writes it: "BF16" */
    bool is_float;       /* one of the three types below; other types are known, not read */
    ls_stored_type type; /* when is_float */
    int rank;
    int64_t shape[LS_SAFETENSORS_RANK];
    int file;               /* index into files */
    uint64_t offset, bytes; /* in that file */
} ls_safetensor;

typedef struct ls_safetensors {
    ls_safetensor *tensors; /* [count], sorted by name */
    int64_t count, capacity;
    char **files; /* [file_count] paths */
    int *handles; /* [file_count] */
    int file_count;
} ls_safetensors;

/* Opens model.safetensors of the folder, or the files that its model.safetensors.index.json names. */
ls_status ls_safetensors_open(ls_safetensors *out, const char *folder);
/* One file by its path. */
ls_status ls_safetensors_open_file(ls_safetensors *out, const char *path);
void ls_safetensors_close(ls_safetensors *self);
const ls_safetensor *ls_safetensors_find(const ls_safetensors *self, const char *name); /* NULL: none */
/* Bytes [first, first + count) of a tensor's data. */
ls_status ls_safetensors_read(const ls_safetensors *self, const ls_safetensor *tensor, uint64_t first, uint64_t count,
                              void *out);

/* ---- writing ----------------------------------------------------------------------------------------------------- */

/* One tensor to write: rank 1 when cols is 0. */
typedef struct ls_safetensor_entry {
    const char *name;
    ls_stored_type type;
    int64_t rows, cols;
} ls_safetensor_entry;

/* Sorts entries[count] into the order of a file: wide types first, then by name. */
void ls_safetensors_sort(ls_safetensor_entry *entries, int64_t count);
/* The first bytes of a file with these tensors, in this order: length and header, padded with blanks so that the data
 * begin at a multiple of 8. malloc'ed, *length bytes. The data follow one after the other. */
char *ls_safetensors_header(const ls_safetensor_entry *entries, int64_t count, size_t *length);
uint64_t ls_safetensors_entry_bytes(const ls_safetensor_entry *entry);

#endif
