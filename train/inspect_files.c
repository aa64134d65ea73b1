/* Checkpoints, token files and the program itself as JSON, see inspect.h. */
#include "train/inspect.h"

#include "core/text.h"
#include "kernels/exec.h"
#include "model/model_file.h"
#include "model/weight_source.h"
#include "train/checkpoint.h"

#include <protobuf-c/protobuf-c.h>
#include <stdlib.h>
#include <string.h>

static ls_status add_training_state(cJSON *document, const ls_checkpoint *state, const char *path,
                                    const ls_inspect_steps *steps)
{
    ls_train_config config;
    (void)cJSON_AddNumberToObject(document, "step", (double)state->step);
    (void)cJSON_AddNumberToObject(document, "samples", (double)state->cursor);
    (void)cJSON_AddNumberToObject(document, "seed", (double)state->seed);
    memset(&config, 0, sizeof config);
    LS_TRY(ls_config_read_text(&config, ls_train_fields, ls_train_field_count, state->config, path, NULL, 0));
    const ls_status status = ls_inspect_add_schedule(document, &config, steps);
    ls_train_config_free(&config);
    return status;
}

static ls_status read_model(const char *path, ls_model_config *out, bool *trained)
{
    hid_t file;
    LS_TRY(ls_hdf5_open(&file, path, "checkpoint"));
    const ls_status status = ls_model_config_read(file, path, out);
    *trained = H5Aexists(file, "step") > 0;
    (void)H5Fclose(file);
    return status;
}

static ls_status describe_checkpoint(cJSON *document, const char *path, const ls_inspect_steps *steps)
{
    ls_model_config model;
    ls_checkpoint state;
    bool trained;
    LS_TRY(read_model(path, &model, &trained));
    (void)cJSON_AddStringToObject(document, "kind", "checkpoint");
    LS_TRY(ls_inspect_add_model(document, &model));
    if (!trained) return LS_OK;
    LS_TRY(ls_checkpoint_read(&state, path));
    const ls_status status = add_training_state(document, &state, path, steps);
    ls_checkpoint_free(&state);
    return status;
}

/* A folder that is whole, as an import would find it. */
static ls_status inspect_folder(cJSON **out, const char *path)
{
    ls_weight_source source;
    LS_TRY(ls_weight_source_open(&source, path, NULL));
    *out = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(*out, "kind", "huggingface");
    const ls_status status = ls_inspect_add_model(*out, &source.config);
    ls_weight_source_close(&source);
    return status;
}

ls_status ls_inspect_checkpoint(cJSON **out, const char *path, const ls_inspect_steps *steps)
{
    char *found;
    if (ls_weight_source_is_folder(path)) return inspect_folder(out, path);
    LS_TRY(ls_checkpoint_find(&found, path));
    *out = cJSON_CreateObject();
    const ls_status status = describe_checkpoint(*out, found, steps);
    free(found);
    return status;
}

static int by_size(const void *left, const void *right)
{
    const int64_t *a = left;
    const int64_t *b = right;
    return (*a > *b) - (*a < *b);
}

/* Tokens of the shortest, the median and the longest record. */
static void add_lengths(cJSON *object, const ls_token_file *file, ls_split split)
{
    const int64_t count = file->document_count[split];
    int64_t *lengths = ls_text_memory(NULL, (size_t)count * sizeof *lengths);
    for (int64_t i = 0; i < count; i++) lengths[i] = file->documents[split][i + 1] - file->documents[split][i];
    qsort(lengths, (size_t)count, sizeof *lengths, by_size);
    (void)cJSON_AddNumberToObject(object, "shortest", (double)lengths[0]);
    (void)cJSON_AddNumberToObject(object, "median", (double)lengths[count / 2]);
    (void)cJSON_AddNumberToObject(object, "longest", (double)lengths[count - 1]);
    free(lengths);
}

static void add_split(cJSON *document, const char *name, const ls_token_file *file, ls_split split)
{
    cJSON *object = cJSON_AddObjectToObject(document, name);
    (void)cJSON_AddNumberToObject(object, "tokens", (double)file->token_count[split]);
    (void)cJSON_AddNumberToObject(object, file->records ? "records" : "documents", (double)file->document_count[split]);
    if (!file->records) return;
    (void)cJSON_AddNumberToObject(object, "targets", (double)file->target_count[split]);
    if (file->document_count[split] > 0) add_lengths(object, file, split);
}

ls_status ls_inspect_tokens(cJSON **out, const char *path)
{
    ls_token_file file;
    char hash[17];
    LS_TRY(ls_token_file_open(&file, path));
    *out = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(*out, "kind", "tokens");
    (void)cJSON_AddBoolToObject(*out, "records", file.records);
    (void)cJSON_AddNumberToObject(*out, "vocab_size", (double)file.vocab_size);
    (void)cJSON_AddStringToObject(*out, "tokenizer", strcmp(file.tokenizer, "bytes") == 0 ? "bytes" : "tokenizer.json");
    (void)snprintf(hash, sizeof hash, "%016llx", (unsigned long long)file.tokenizer_hash);
    (void)cJSON_AddStringToObject(*out, "tokenizer_hash", hash);
    if (file.end_of_text >= 0)
        (void)cJSON_AddNumberToObject(*out, "end_of_text", file.end_of_text);
    else
        (void)cJSON_AddNullToObject(*out, "end_of_text");
    add_split(*out, "train", &file, LS_SPLIT_TRAIN);
    add_split(*out, "validation", &file, LS_SPLIT_VALIDATION);
    ls_token_file_close(&file);
    return LS_OK;
}

ls_status ls_inspect_build(cJSON **out)
{
    ls_exec exec;
    unsigned major, minor, release;
    LS_TRY(ls_exec_create(&exec, LS_DEVICE_CPU, 0));
    cJSON *document = *out = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(document, "kind", "build");
    (void)cJSON_AddStringToObject(document, "version", LS_VERSION);
    (void)cJSON_AddStringToObject(document, "build_type", LS_BUILD_TYPE);
    (void)cJSON_AddStringToObject(document, "compiler", LS_COMPILER);
    (void)cJSON_AddStringToObject(document, "sanitizers", LS_SANITIZERS[0] == '\0' ? "none" : LS_SANITIZERS);
    if (H5get_libversion(&major, &minor, &release) >= 0) {
        char *text = ls_text_format("%u.%u.%u", major, minor, release);
        (void)cJSON_AddStringToObject(document, "hdf5", text);
        free(text);
    }
    (void)cJSON_AddStringToObject(document, "protobuf_c", protobuf_c_version());
    (void)cJSON_AddStringToObject(document, "cjson", cJSON_Version());
    cJSON *devices = cJSON_AddArrayToObject(document, "devices");
    for (int i = 0; ls_device_names[i] != NULL; i++)
        if (i != LS_DEVICE_CUDA || ls_exec_cuda_build() != NULL)
            (void)cJSON_AddItemToArray(devices, cJSON_CreateString(ls_device_names[i]));
    const char *cuda = ls_exec_cuda_build();
    (void)cJSON_AddStringToObject(document, "cuda", cuda == NULL ? "none" : cuda);
    (void)cJSON_AddStringToObject(document, "nccl", ls_comm_nccl_build() == NULL ? "none" : ls_comm_nccl_build());
    (void)cJSON_AddStringToObject(document, "processor", ls_exec_describe(&exec));
    (void)cJSON_AddBoolToObject(document, "fast_bf16", ls_exec_has_fast_bf16(&exec));
    ls_exec_destroy(&exec);
    return LS_OK;
}
