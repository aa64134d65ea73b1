/* A safetensors file of any bytes, and the texts beside it.
 *
 * The first byte of an input chooses: even, the rest is a safetensors file; odd, it is a config.json. Of a file that is
 * let through, every tensor is read, and what the header promised about it is checked. */
#include "model/huggingface.h"
#include "model/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_tensor(const ls_safetensors *file, const ls_safetensor *tensor, size_t size)
{
    uint64_t elements = 1;
    for (int i = 0; i < tensor->rank; i++) elements *= (uint64_t)tensor->shape[i];
    if (tensor->is_float && elements * ls_stored_type_size(tensor->type) != tensor->bytes) abort();
    if (tensor->offset > size || tensor->bytes > size - tensor->offset) abort();
    if (ls_safetensors_find(file, tensor->name) != tensor) abort();
    unsigned char *bytes = malloc(tensor->bytes + 1);
    if (bytes == NULL || ls_safetensors_read(file, tensor, 0, tensor->bytes, bytes) != LS_OK) abort();
    free(bytes);
}

static void read_weights(const uint8_t *data, size_t size)
{
    char path[64];
    ls_safetensors opened;
    (void)snprintf(path, sizeof path, "fuzz-%ld.safetensors", (long)getpid());
    FILE *out = fopen(path, "wbe");
    if (out == NULL || fwrite(data, 1, size, out) != size || fclose(out) != 0) abort();
    if (ls_safetensors_open_file(&opened, path) == LS_OK) {
        uint64_t bytes = 0;
        for (int64_t i = 0; i < opened.count; i++) {
            check_tensor(&opened, &opened.tensors[i], size);
            bytes += opened.tensors[i].bytes;
        }
        if (bytes > size) abort(); /* they would overlap */
        ls_safetensors_close(&opened);
    }
    (void)unlink(path);
}

/* A config that is let through can be written, and what is written says the same. */
static void read_config(const uint8_t *data, size_t size)
{
    ls_model_config config, again;
    ls_special_ids ids, same;
    if (ls_huggingface_config_read(&config, &ids, (const char *)data, size, "config.json") != LS_OK) return;
    char *text = ls_huggingface_config_write(&config, &ids, LS_STORED_BF16, NULL);
    if (ls_huggingface_config_read(&again, &same, text, strlen(text), "again") != LS_OK) abort();
    if (!ls_model_config_equal_shape(&config, &again) || ids.eos != same.eos) abort();
    if (config.rope_theta != again.rope_theta || config.rms_norm_eps != again.rms_norm_eps) abort();
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    if (data[0] % 2 == 0)
        read_weights(data + 1, size - 1);
    else
        read_config(data + 1, size - 1);
    ls_error_clear();
    return 0;
}
