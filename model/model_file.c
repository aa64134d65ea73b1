/* Models in HDF5: see model_file.h. */
#include "model/model_file.h"

#include "core/file.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the configuration: attributes of /model --------------------------------------------------------------------- */

/* X(kind, field): read and write go through the same list. */
#define CONFIG_LIST(X)                                                                                                 \
    X(int, hidden_size)                                                                                                \
    X(int, intermediate_size)                                                                                          \
    X(int, num_hidden_layers)                                                                                          \
    X(int, num_attention_heads)                                                                                        \
    X(int, num_key_value_heads)                                                                                        \
    X(int, head_dim)                                                                                                   \
    X(int, vocab_size)                                                                                                 \
    X(int, max_position_embeddings)                                                                                    \
    X(double, rope_theta)                                                                                              \
    X(double, rms_norm_eps)                                                                                            \
    X(double, initializer_range)

static ls_status write_rope_scaling(hid_t group, const ls_rope_scaling *scaling)
{
    LS_TRY(ls_hdf5_write_int(group, "rope_scaling_type", scaling->type));
    if (scaling->type == LS_ROPE_PLAIN) return LS_OK;
    LS_TRY(ls_hdf5_write_double(group, "rope_scaling_factor", scaling->factor));
    LS_TRY(ls_hdf5_write_double(group, "rope_scaling_low_freq_factor", scaling->low_freq_factor));
    LS_TRY(ls_hdf5_write_double(group, "rope_scaling_high_freq_factor", scaling->high_freq_factor));
    return ls_hdf5_write_int(group, "rope_scaling_original_max_position_embeddings",
                             scaling->original_max_position_embeddings);
}

static ls_status write_attributes(hid_t group, const ls_model_config *config)
{
#define WRITE(kind, field) LS_TRY(ls_hdf5_write_##kind(group, #field, config->field));
    CONFIG_LIST(WRITE)
#undef WRITE
    LS_TRY(ls_hdf5_write_int(group, "tie_word_embeddings", config->tie_word_embeddings));
    LS_TRY(ls_hdf5_write_int(group, "attention_bias", config->attention_bias));
    return write_rope_scaling(group, &config->rope_scaling);
}

/* Files written before there was an attribute lack it: the model is then one without that option. */
static ls_status read_optional_int(hid_t group, const char *path, const char *name, int64_t *out)
{
    *out = 0;
    return H5Aexists(group, name) > 0 ? ls_hdf5_read_int(group, path, name, out) : LS_OK;
}

static ls_status read_rope_scaling(hid_t group, const char *path, ls_rope_scaling *scaling)
{
    int64_t type;
    LS_TRY(read_optional_int(group, path, "rope_scaling_type", &type));
    scaling->type = type == (int)type ? (int)type : -1;
    if (scaling->type == LS_ROPE_PLAIN) return LS_OK;
    LS_TRY(ls_hdf5_read_double(group, path, "rope_scaling_factor", &scaling->factor));
    LS_TRY(ls_hdf5_read_double(group, path, "rope_scaling_low_freq_factor", &scaling->low_freq_factor));
    LS_TRY(ls_hdf5_read_double(group, path, "rope_scaling_high_freq_factor", &scaling->high_freq_factor));
    return ls_hdf5_read_int(group, path, "rope_scaling_original_max_position_embeddings",
                            &scaling->original_max_position_embeddings);
}

static ls_status read_attributes(hid_t group, const char *path, ls_model_config *config)
{
    int64_t tied, bias;
#define READ(kind, field) LS_TRY(ls_hdf5_read_##kind(group, path, #field, &config->field));
    CONFIG_LIST(READ)
#undef READ
    LS_TRY(ls_hdf5_read_int(group, path, "tie_word_embeddings", &tied));
    LS_TRY(read_optional_int(group, path, "attention_bias", &bias));
    config->tie_word_embeddings = tied != 0;
    config->attention_bias = bias != 0;
    LS_TRY(read_rope_scaling(group, path, &config->rope_scaling));
    return ls_model_config_check(config);
}

ls_status ls_model_config_write(hid_t file, const ls_model_config *config)
{
    LS_TRY(ls_hdf5_make_group(file, "model"));
    const hid_t group = H5Gopen2(file, "model", H5P_DEFAULT);
    if (group < 0) return LS_FAIL(LS_IO, "cannot write the group /model");
    const ls_status status = write_attributes(group, config);
    (void)H5Gclose(group);
    return status;
}

ls_status ls_model_config_read(hid_t file, const char *path, ls_model_config *out)
{
    *out = (ls_model_config){0};
    const hid_t group = H5Lexists(file, "model", H5P_DEFAULT) > 0 ? H5Gopen2(file, "model", H5P_DEFAULT) : -1;
    if (group < 0) return LS_FAIL(LS_BAD_INPUT, "%s has no group /model, so it holds no model", path);
    const ls_status status = read_attributes(group, path, out);
    (void)H5Gclose(group);
    return status;
}

/* ---- parameters -------------------------------------------------------------------------------------------------- */

ls_parameter_dataset ls_parameter_dataset_of(const char *group, const ls_parameter *entry)
{
    ls_parameter_dataset result = {.rows = entry->rows, .cols = entry->is_norm || entry->is_bias ? 0 : entry->cols};
    (void)snprintf(result.name, sizeof result.name, "%s/%s", group, entry->name);
    return result;
}

ls_status ls_parameters_reserve(hid_t file, const char *group, const ls_parameter_table *table)
{
    for (int i = 0; i < table->count; i++) {
        const ls_parameter_dataset set = ls_parameter_dataset_of(group, &table->entries[i]);
        LS_TRY(ls_hdf5_reserve_array(file, set.name, set.rows, set.cols));
    }
    return LS_OK;
}

ls_status ls_parameters_write(hid_t file, const char *group, const ls_parameter_table *table, ls_exec *exec,
                              float *block)
{
    ls_parameter_window window;
    LS_TRY(ls_parameter_window_open(&window, exec, block, table));
    ls_status status = LS_OK;
    for (int i = 0; i < table->count && status == LS_OK; i++) {
        const ls_parameter *entry = &table->entries[i];
        const ls_parameter_dataset set = ls_parameter_dataset_of(group, entry);
        status = ls_parameter_window_get(&window, entry);
        if (status == LS_OK)
            status = ls_hdf5_write_array(file, set.name, H5T_NATIVE_FLOAT, set.rows, set.cols,
                                         ls_parameter_window_at(&window, entry));
    }
    ls_parameter_window_close(&window);
    return status;
}

ls_status ls_parameters_read(hid_t file, const char *path, const char *group, const ls_parameter_table *table,
                             ls_exec *exec, float *block)
{
    ls_parameter_window window;
    LS_TRY(ls_parameter_window_open(&window, exec, block, table));
    ls_status status = LS_OK;
    for (int i = 0; i < table->count && status == LS_OK; i++) {
        const ls_parameter *entry = &table->entries[i];
        const ls_parameter_dataset set = ls_parameter_dataset_of(group, entry);
        status = ls_hdf5_read_array(file, path, set.name, H5T_NATIVE_FLOAT, set.rows, set.cols,
                                    ls_parameter_window_at(&window, entry));
        if (status == LS_OK) status = ls_parameter_window_put(&window, entry);
    }
    ls_parameter_window_close(&window);
    return status;
}

/* ---- the newest checkpoint of a run ------------------------------------------------------------------------------ */

/* The step of "step-NUMBER.h5", -1 for any other name (one still being written, say). */
static long long step_of(const char *name)
{
    if (strncmp(name, "step-", 5) != 0 || !isdigit((unsigned char)name[5])) return -1;
    char *end;
    errno = 0;
    const long long step = strtoll(name + 5, &end, 10);
    return errno == 0 && strcmp(end, ".h5") == 0 ? step : -1;
}

static ls_status newest_in(char **out, const char *folder, const char *run)
{
    DIR *directory = opendir(folder);
    if (directory == NULL)
        return LS_FAIL(LS_IO, "%s is a folder without checkpoints: %s cannot be read (%s)", run, folder,
                       strerror(errno));
    long long newest = -1;
    char *best = NULL;
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        const long long step = step_of(entry->d_name);
        if (step <= newest) continue;
        free(best);
        best = ls_file_join(folder, entry->d_name);
        newest = step;
    }
    (void)closedir(directory);
    if (newest < 0) return LS_FAIL(LS_IO, "there is no checkpoint (step-NUMBER.h5) in %s", folder);
    if (best == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for a file name");
    *out = best;
    return LS_OK;
}

ls_status ls_checkpoint_find(char **out, const char *path)
{
    *out = NULL;
    if (!ls_file_exists(path)) return LS_FAIL(LS_IO, "there is no checkpoint or run folder named %s", path);
    if (!ls_file_is_folder(path)) {
        *out = strdup(path);
        return *out == NULL ? LS_FAIL(LS_NO_MEMORY, "cannot get memory for a file name") : LS_OK;
    }
    char *folder = ls_file_join(path, "checkpoints");
    if (folder == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for a file name");
    const ls_status status = newest_in(out, folder, path);
    free(folder);
    return status;
}
