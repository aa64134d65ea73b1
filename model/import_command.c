/* `layerskip import`: a Hugging Face folder to a checkpoint, with every tensor in the type it has there. */
#include "core/interrupt.h"
#include "model/commands.h"
#include "model/model_file.h"
#include "model/stored_tensor.h"
#include "model/transfer.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct options {
    const char *folder, *out, *tokenizer;
} options;

static const struct argp_option option_table[] = {
    {"out", 'o', "MODEL.h5", 0, "The checkpoint to write; it must not exist yet", 0},
    {"tokenizer", 't', "TOKENIZER", 0,
     "A tokenizer.json, a tokenizer.model, or a folder that holds one, instead of the folder's own", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

static const char documentation[] =
    "Turns a Hugging Face folder into a checkpoint.\v"
    "HF_DIR holds config.json, tokenizer.json (or tokenizer.model) and the weights: model.safetensors, or "
    "model.safetensors.index.json and "
    "the files it names, in F32, F16 or BF16. LlamaForCausalLM is taken, and MistralForCausalLM without a sliding "
    "window. The checkpoint keeps every tensor's type and bytes, and the text of the tokenizer: `layerskip export` "
    "gives them back as they were. The weights pass through a few megabytes of memory. --model, --tokenizer and "
    "init_from take HF_DIR itself too; a checkpoint is one file, and need not be checked again.";

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    options *o = state->input;
    switch (key) {
    case 'o':
        o->out = argument;
        break;
    case 't':
        o->tokenizer = argument;
        break;
    case ARGP_KEY_ARG:
        if (o->folder != NULL) argp_error(state, "only one HF_DIR can be imported at a time");
        o->folder = argument;
        break;
    case ARGP_KEY_END:
        if (o->folder == NULL)
            argp_error(state, "name the folder to import");
        else if (o->out == NULL)
            argp_error(state, "--out is missing");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static ls_status copy_parameter(hid_t file, const char *path, const ls_weight_source *source, int number, void *buffer,
                                ls_progress *progress)
{
    const ls_parameter *entry = &source->table.entries[number];
    const int64_t most = ls_weight_source_rows(entry);
    ls_stored_tensor tensor;
    char name[160];
    (void)snprintf(name, sizeof name, "parameters/%s", entry->name);
    LS_TRY(ls_stored_tensor_create(&tensor, file, path, name, source->types[number], entry->rows,
                                   ls_parameter_file_cols(entry)));
    ls_status status = LS_OK;
    for (int64_t row = 0; row < entry->rows && status == LS_OK; row += most) {
        const int64_t rows = entry->rows - row < most ? entry->rows - row : most;
        status = ls_weight_source_read(source, number, row, rows, buffer);
        if (status == LS_OK) status = ls_stored_tensor_write(&tensor, row, rows, buffer);
        if (status == LS_OK)
            status =
                ls_progress_add(progress, rows * entry->cols * (int64_t)ls_stored_type_size(source->types[number]));
    }
    ls_stored_tensor_close(&tensor);
    return status;
}

static ls_status write_content(hid_t file, const char *path, const ls_weight_source *source, ls_progress *progress)
{
    LS_TRY(ls_model_config_write(file, &source->config));
    LS_TRY(ls_hdf5_write_text(file, "tokenizer", source->tokenizer));
    for (int i = 0; i < LS_KEPT_FILES; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "huggingface/%s", ls_kept_names[i]);
        if (source->kept[i] != NULL) LS_TRY(ls_hdf5_write_text(file, name, source->kept[i]));
    }
    LS_TRY(ls_hdf5_make_group(file, "parameters"));
    void *buffer = malloc(ls_weight_source_piece(&source->table));
    if (buffer == NULL) return LS_FAIL(LS_NO_MEMORY, "not enough memory to copy weights through");
    ls_status status = LS_OK;
    for (int i = 0; i < source->table.count && status == LS_OK; i++)
        status = copy_parameter(file, path, source, i, buffer, progress);
    free(buffer);
    return status;
}

static ls_status write_file(const char *path, const ls_weight_source *source, ls_progress *progress)
{
    hid_t file;
    LS_TRY(ls_hdf5_create(&file, path, "checkpoint"));
    const ls_status written = write_content(file, path, source, progress);
    const ls_status closed = ls_hdf5_close(file, path);
    return written != LS_OK ? written : closed;
}

static ls_status import(const options *o)
{
    ls_weight_source source;
    ls_output output;
    ls_interrupt_install();
    LS_TRY(ls_output_begin(&output, o->out, false));
    ls_status status;
    if (ls_weight_source_is_folder(o->folder))
        status = ls_weight_source_open(&source, o->folder, o->tokenizer);
    else
        status = LS_FAIL(LS_BAD_INPUT, "%s is no Hugging Face folder: it has no config.json", o->folder);
    if (status == LS_OK) {
        ls_progress progress = ls_progress_start("import", ls_weight_source_bytes(&source, -1));
        status = write_file(output.temporary, &source, &progress);
        if (status == LS_OK) status = ls_output_commit(&output);
        if (status == LS_OK) ls_progress_end(&progress, output.path, source.table.parameters);
        ls_weight_source_close(&source);
    }
    ls_output_end(&output);
    return status;
}

ls_status ls_import_command(int argc, char **argv)
{
    static const struct argp argp = {option_table, parse_option, "HF_DIR", documentation, NULL, NULL, NULL};
    options o = {0};
    LS_TRY(ls_command_parse(&argp, argc, argv, &o));
    return import(&o);
}
