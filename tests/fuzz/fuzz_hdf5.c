/* HDF5 files as our readers meet them: token files and models.
 *
 * The first byte of an input chooses. Odd: the rest is a file, byte for byte; every checksum of HDF5's metadata guards
 * what lies behind it, so this is about damage. Even: the rest describes how a good file is to be spoilt (left out,
 * another type, shape or storage, other values), and HDF5 itself writes it: a well-formed file that is not what our
 * readers expect. The reading is the product's own. */
#include "core/hdf5_file.h"
#include "data/token_file.h"
#include "data/tokenizer.h"
#include "model/model_file.h"
#include "model/stored_tensor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__lsan_default_suppressions(void); /* NOLINT: the sanitizer's name */

/* HDF5 itself forgets to free what it had read of a file that turns out to be damaged. */
const char *__lsan_default_suppressions(void) { return "leak:libhdf5"; } /* NOLINT */

enum { MOST_READ = 1 << 16 }; /* elements; a larger file that is good is not read in full */

typedef struct source {
    const uint8_t *at;
    size_t left;
} source;

static unsigned take(source *from)
{
    if (from->left == 0) return 0;
    from->left--;
    return *from->at++;
}

static uint64_t take_wide(source *from)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++) value = value << 8 | take(from);
    return value;
}

/* ---- writing a file that is spoilt ------------------------------------------------------------------------------- */

static void write_scalar(source *from, hid_t object, const char *name, double value, bool whole)
{
    const unsigned change = take(from);
    if (change == 1) return;
    if (change == 2) whole = !whole;
    if (change >= 3 && change < 64) {
        const uint64_t bits = take_wide(from);
        memcpy(&value, &bits, sizeof value);
    }
    if (change == 64) value = (double)(int64_t)take_wide(from);
    if (change == 65) value = take(from);
    const int64_t integer = value > -9e18 && value < 9e18 ? (int64_t)value : INT64_MIN;
    (void)(whole ? ls_hdf5_write_int(object, name, integer) : ls_hdf5_write_double(object, name, value));
}

static hid_t chosen_type(source *from, hid_t type)
{
    switch (take(from)) {
    case 1:
        return H5T_STD_U8LE;
    case 2:
        return H5T_STD_I64BE;
    case 3:
        return H5T_IEEE_F64LE;
    case 4:
        return H5T_IEEE_F32BE;
    case 5:
        return H5T_STD_U16LE;
    case 6:
        return H5T_STD_U32LE;
    case 7:
        return H5T_C_S1;
    case 8:
        return H5T_STD_REF_OBJ;
    default:
        return type;
    }
}

/* A dataset of `count` elements that `values` holds, changed in type, rank, extent or storage as the input says. */
static void write_dataset(source *from, hid_t file, const char *name, hid_t type, hsize_t rows, hsize_t cols,
                          const void *values)
{
    const unsigned change = take(from);
    if (change == 1) return;
    hsize_t sizes[3] = {rows, cols == 0 ? 1 : cols, 1};
    int rank = cols == 0 ? 1 : 2;
    hid_t stored = type;
    if (change == 2) stored = chosen_type(from, type);
    if (change == 3) rank = (int)(take(from) % 4);
    if (change == 4) sizes[take(from) % 2] = take_wide(from) % ((uint64_t)1 << 62);
    if (change == 5) sizes[take(from) % 2] = take(from);
    const hid_t links = H5Pcreate(H5P_LINK_CREATE), layout = H5Pcreate(H5P_DATASET_CREATE);
    (void)H5Pset_create_intermediate_group(links, 1);
    const hsize_t chunk[3] = {1 + take(from) % 16, 1 + change % 3, 1};
    const unsigned storage = change < 6 ? 0 : change % 5;
    if (storage == 1) (void)H5Pset_chunk(layout, rank, chunk);
    if (storage == 2) (void)H5Pset_layout(layout, H5D_COMPACT);
    if (storage == 3 && H5Pset_chunk(layout, rank, chunk) >= 0) (void)H5Pset_shuffle(layout);
    if (storage == 4) (void)H5Pset_external(layout, "/nowhere", 0, H5F_UNLIMITED);
    const hid_t space = rank == 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(rank, sizes, NULL);
    const hid_t set = H5Dcreate2(file, name, stored, space, links, layout, H5P_DEFAULT);
    const hssize_t count = H5Sget_simple_extent_npoints(space);
    if (set >= 0 && stored == type && count >= 0 && (hsize_t)count <= rows * (cols == 0 ? 1 : cols))
        (void)H5Dwrite(set, stored, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    if (set >= 0) (void)H5Dclose(set);
    (void)H5Sclose(space);
    (void)H5Pclose(layout);
    (void)H5Pclose(links);
}

static void write_text(source *from, hid_t file)
{
    char text[256] = "bytes";
    size_t length = strlen(text);
    if (take(from) == 1) {
        length = take(from);
        for (size_t i = 0; i < length; i++) text[i] = (char)take(from);
    }
    write_dataset(from, file, "tokenizer", H5T_NATIVE_UINT8, length, 0, text);
}

static void write_tokens(source *from, hid_t file)
{
    static const char *const splits[2] = {"train", "validation"};
    write_scalar(from, file, "vocab_size", 257, true);
    write_scalar(from, file, "end_of_text", 256, true);
    if (take(from) != 1) (void)ls_hdf5_write_int(file, "tokenizer_hash", (int64_t)ls_tokenizer_hash_text("bytes"));
    write_text(from, file);
    for (int split = 0; split < 2; split++) {
        uint16_t tokens[64];
        int64_t documents[3] = {0, 40, 64};
        char name[32];
        for (int i = 0; i < 64; i++) tokens[i] = (uint16_t)(take(from) + (i == 39 || i == 63 ? 256 : 0));
        if (take(from) == 1) documents[take(from) % 3] = (int64_t)take_wide(from);
        (void)snprintf(name, sizeof name, "%s/tokens", splits[split]);
        write_dataset(from, file, name, H5T_STD_U16LE, 64, 0, tokens);
        (void)snprintf(name, sizeof name, "%s/documents", splits[split]);
        write_dataset(from, file, name, H5T_NATIVE_INT64, 3, 0, documents);
    }
    if (take(from) % 2 == 0) return;
    write_scalar(from, file, "records", 1, true);
    for (int split = 0; split < 2; split++) {
        uint8_t targets[64];
        char name[32];
        for (int i = 0; i < 64; i++) targets[i] = i % 40 > 20;
        if (take(from) == 1) targets[take(from) % 64] = (uint8_t)take(from);
        (void)snprintf(name, sizeof name, "%s/targets", splits[split]);
        write_dataset(from, file, name, H5T_STD_U8LE, 64, 0, targets);
    }
}

static const ls_model_config small = {.hidden_size = 4,
                                      .intermediate_size = 3,
                                      .num_hidden_layers = 2,
                                      .num_attention_heads = 2,
                                      .num_key_value_heads = 1,
                                      .head_dim = 2,
                                      .vocab_size = 5,
                                      .max_position_embeddings = 8,
                                      .rope_theta = 10000,
                                      .rms_norm_eps = 1e-5,
                                      .initializer_range = 0.02};

static void write_model(source *from, hid_t file)
{
    ls_parameter_table table;
    static const float values[64];
    if (take(from) == 1 || ls_parameter_table_create(&table, &small) != LS_OK) return;
    write_text(from, file);
    if (ls_model_config_write(file, &small) == LS_OK) {
        static const char *const keys[] = {"hidden_size",         "intermediate_size", "num_hidden_layers",
                                           "num_attention_heads", "vocab_size",        "rope_theta"};
        const hid_t group = H5Gopen2(file, "model", H5P_DEFAULT);
        const unsigned change = take(from) % 8;
        if (change > 0 && change < 7) write_scalar(from, group, keys[change - 1], 2, change < 6);
        (void)H5Gclose(group);
    }
    for (int i = 0; i < table.count; i++) {
        char name[128];
        const ls_parameter *entry = &table.entries[i];
        (void)snprintf(name, sizeof name, "parameters/%s", entry->name);
        write_dataset(from, file, name, H5T_NATIVE_FLOAT, (hsize_t)entry->rows,
                      entry->is_norm ? 0 : (hsize_t)entry->cols, values);
    }
    ls_parameter_table_destroy(&table);
}

static void write_spoilt(source from, const char *path)
{
    hid_t file;
    const bool tokens = take(&from) % 2 == 0;
    if (ls_hdf5_create(&file, path, tokens ? "tokens" : "checkpoint") != LS_OK) return;
    if (tokens)
        write_tokens(&from, file);
    else
        write_model(&from, file);
    (void)ls_hdf5_close(file, path);
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

static void read_tokens(const char *path)
{
    ls_token_file file;
    if (ls_token_file_open(&file, path) != LS_OK) return;
    for (int split = 0; split < 2; split++) {
        const int64_t count = file.token_count[split] < MOST_READ ? file.token_count[split] : MOST_READ;
        int32_t *tokens = malloc(sizeof *tokens * (size_t)(count + 1));
        if (tokens != NULL && ls_token_file_read(&file, (ls_split)split, 0, count, tokens) == LS_OK)
            for (int64_t i = 0; i < count; i++)
                if (tokens[i] < 0 || tokens[i] >= file.vocab_size) abort();
        uint8_t *targets = file.records ? (uint8_t *)tokens : NULL;
        if (targets != NULL && ls_token_file_read_targets(&file, (ls_split)split, 0, count, targets) == LS_OK)
            for (int64_t i = 0; i < count; i++)
                if (targets[i] > 1) abort();
        free(tokens);
    }
    ls_token_file_close(&file);
}

/* The parameters as they are stored, the way weight_source.c goes about it. */
static void read_stored(hid_t file, const char *path, const ls_parameter_table *table)
{
    for (int i = 0; i < table->count; i++) {
        const ls_parameter_dataset set = ls_parameter_dataset_of("parameters", &table->entries[i]);
        ls_stored_tensor tensor;
        if (ls_stored_tensor_open(&tensor, file, path, set.name, set.rows, set.cols) != LS_OK) continue;
        void *values = malloc((size_t)(table->entries[i].rows * table->entries[i].cols) * 4);
        if (values != NULL) (void)ls_stored_tensor_read(&tensor, 0, tensor.rows, values);
        free(values);
        ls_stored_tensor_close(&tensor);
    }
}

static void read_parameters(hid_t file, const char *path, const ls_model_config *config)
{
    ls_parameter_table table;
    if (config->num_hidden_layers > 8 || ls_parameter_table_create(&table, config) != LS_OK) return;
    float *block = table.elements <= MOST_READ ? calloc((size_t)table.elements, sizeof *block) : NULL;
    if (block != NULL) (void)ls_parameters_read(file, path, "parameters", &table, NULL, block);
    if (block != NULL) read_stored(file, path, &table);
    free(block);
    ls_parameter_table_destroy(&table);
}

static void read_model(const char *path)
{
    hid_t file;
    ls_model_config config;
    char *tokenizer = NULL;
    if (ls_hdf5_open(&file, path, "checkpoint") != LS_OK) return;
    if (ls_model_config_read(file, path, &config) == LS_OK) read_parameters(file, path, &config);
    if (ls_hdf5_read_text(file, path, "tokenizer", &tokenizer) == LS_OK) free(tokenizer);
    (void)H5Fclose(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64]; /* in the working folder; HDF5 cannot open what has no name */
    (void)snprintf(path, sizeof path, "fuzz_hdf5-%ld.h5", (long)getpid());
    if (size > 0 && data[0] % 2 == 1) {
        FILE *file = fopen(path, "wbe");
        if (file == NULL || fwrite(data + 1, 1, size - 1, file) != size - 1 || fclose(file) != 0) abort();
    } else {
        write_spoilt((source){data + 1, size > 0 ? size - 1 : 0}, path);
    }
    ls_error_clear();
    read_tokens(path);
    ls_error_clear();
    read_model(path);
    ls_error_clear();
    (void)unlink(path);
    return 0;
}
