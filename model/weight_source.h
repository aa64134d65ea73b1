/* Where a model's weights come from: a checkpoint, a run folder (its newest checkpoint) or a Hugging Face folder.
 *
 * Opening checks that everything is there and of the right shape; the values are then read a few rows at a time, in the
 * type they are stored in. ls_model_load, training's init_from, `import` and `export` all read through here. */
#ifndef LS_MODEL_WEIGHT_SOURCE_H
#define LS_MODEL_WEIGHT_SOURCE_H

#include "core/hdf5_file.h"
#include "model/huggingface.h"
#include "model/parameters.h"
#include "model/safetensors.h"

/* Small files of a Hugging Face folder that an import keeps, so that an export gives them back as they were. */
enum { LS_KEPT_CONFIG = 0, LS_KEPT_GENERATION, LS_KEPT_TOKENIZER, LS_KEPT_SPECIAL, LS_KEPT_TEMPLATE, LS_KEPT_FILES };
extern const char *const ls_kept_names[LS_KEPT_FILES]; /* "config.json", ... */

#define LS_SOURCE_PIECE ((int64_t)16 << 20) /* bytes that are read and written at a time, as far as rows allow */

typedef struct ls_weight_source {
    char *path;             /* the file or folder that is read */
    ls_model_config config; /* checked */
    ls_parameter_table table;
    char *tokenizer;           /* its text, as ls_tokenizer_from_text takes it */
    char *kept[LS_KEPT_FILES]; /* texts, NULL: none */
    bool is_folder;            /* Hugging Face's */
    hid_t file;                /* when it is a checkpoint */
    ls_safetensors folder;     /* when it is not */
    ls_stored_type *types;     /* [table.count] */
} ls_weight_source;

/* `tokenizer` (a path, NULL: none) stands in for the folder's own. */
ls_status ls_weight_source_open(ls_weight_source *out, const char *path, const char *tokenizer);
void ls_weight_source_close(ls_weight_source *source);
bool ls_weight_source_is_folder(const char *path); /* whether it is Hugging Face's: has a config.json */

/* Rows of parameter number `entry` of the table: as stored, or as fp32 through `scratch` of the same room. */
ls_status ls_weight_source_read(const ls_weight_source *source, int entry, int64_t first_row, int64_t rows, void *out);
ls_status ls_weight_source_read_float(const ls_weight_source *source, int entry, int64_t first_row, int64_t rows,
                                      float *out, void *scratch);
/* How many rows of it to take at a time: at least one, else at most LS_SOURCE_PIECE bytes of fp32. */
int64_t ls_weight_source_rows(const ls_parameter *entry);
/* Bytes that hold as many rows, as fp32, of any parameter. */
size_t ls_weight_source_piece(const ls_parameter_table *table);
/* Dataset name: "parameters/NAME". Columns of a dataset: 0 for a vector. */
int64_t ls_parameter_file_cols(const ls_parameter *entry);

#endif
