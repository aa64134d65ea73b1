/* Models in HDF5: the part of a checkpoint that the model owns.
 *
 *   /model           attributes: hidden_size ... (Hugging Face's names)
 *   /parameters/NAME datasets by Hugging Face name, [rows, cols] or [rows]: fp32, in imported models also fp16 and bf16
 *   /tokenizer       string dataset: the text of tokenizer.json, or "bytes"
 *   /huggingface/NAME small files of the folder that a model was imported from (weight_source.h)
 * train/ adds optimizer state, step and cursor to the same file. A file that is not ours, is cut short, lacks a
 * tensor or has another shape is LS_BAD_INPUT with one sentence. */
#ifndef LS_MODEL_MODEL_FILE_H
#define LS_MODEL_MODEL_FILE_H

#include "core/hdf5_file.h"
#include "model/model.h"

/* A checkpoint for inference: creates the model in `dtype` and reads the weights. *tokenizer is malloc'ed text.
 * `path` may be a run folder, whose newest checkpoint is taken, or a Hugging Face folder. */
ls_status ls_model_load(ls_model *out, char **tokenizer, ls_exec *exec, const char *path, ls_dtype dtype);

/* Pieces for train/checkpoint.c. `block` is fp32 [table->elements] in the memory of `exec` (NULL: in ordinary memory);
 * `group` e.g. "parameters", "moment1". */
ls_status ls_model_config_write(hid_t file, const ls_model_config *config);
ls_status ls_model_config_read(hid_t file, const char *path, ls_model_config *out);
ls_status ls_parameters_write(hid_t file, const char *group, const ls_parameter_table *table, ls_exec *exec,
                              float *block);
ls_status ls_parameters_read(hid_t file, const char *path, const char *group, const ls_parameter_table *table,
                             ls_exec *exec, float *block);
/* Datasets of all parameters without content, for ls_hdf5_write_pieces. */
ls_status ls_parameters_reserve(hid_t file, const char *group, const ls_parameter_table *table);
/* Name and shape of a parameter's dataset in `group`; a list has cols 0. */
typedef struct ls_parameter_dataset {
    char name[160];
    int64_t rows, cols;
} ls_parameter_dataset;
ls_parameter_dataset ls_parameter_dataset_of(const char *group, const ls_parameter *entry);
/* Newest "checkpoints/step-*.h5" of a run folder, or `path` itself when it is a file; malloc'ed. */
ls_status ls_checkpoint_find(char **out, const char *path);

#endif
