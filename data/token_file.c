/* Reading token files; see token_file.h.
 *
 * HDF5 is asked once, at opening, where in the file each chunk of tokens lies. Reading then is pread alone: many
 * threads may read while another one uses HDF5, which is not thread-safe in every build, and nothing is cached twice.
 */
#include "data/token_file.h"

#include "core/hdf5_file.h"
#include "core/text.h"
#include "data/tokenizer.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct split_layout {
    int64_t chunk;     /* tokens in a chunk */
    uint64_t *address; /* [chunks] byte in the file where each begins */
} split_layout;

typedef struct reader {
    int file;
    int width; /* bytes of a token: 2 or 4 */
    split_layout splits[2];
} reader;

static const char *const split_names[2] = {"train", "validation"};

static ls_status read_documents(ls_token_file *out, hid_t file, ls_split split)
{
    char *name = ls_text_format("%s/documents", split_names[split]);
    int64_t length = 0;
    ls_status status = ls_hdf5_array_length(file, out->path, name, &length);
    if (status == LS_OK && length < 1) status = LS_FAIL(LS_BAD_INPUT, "%s is damaged: %s is empty", out->path, name);
    if (status == LS_OK) {
        out->document_count[split] = length - 1;
        out->documents[split] = malloc((size_t)length * sizeof *out->documents[split]);
        if (out->documents[split] == NULL)
            status =
                LS_FAIL(LS_NO_MEMORY, "not enough memory for the %lld documents of %s", (long long)length, out->path);
    }
    if (status == LS_OK)
        status = ls_hdf5_read_array(file, out->path, name, H5T_NATIVE_INT64, length, 0, out->documents[split]);
    const int64_t *documents = out->documents[split];
    bool rising = status != LS_OK || (documents[0] == 0 && documents[length - 1] == out->token_count[split]);
    for (int64_t i = 1; status == LS_OK && i < length; i++) rising = rising && documents[i] > documents[i - 1];
    if (!rising) status = LS_FAIL(LS_BAD_INPUT, "%s is damaged: %s does not divide the tokens", out->path, name);
    free(name);
    return status;
}

/* Fills in where each chunk lies. False: HDF5 fails, or the tokens are compressed or kept elsewhere. */
static bool find_chunks(split_layout *layout, hid_t dataset, int64_t count)
{
    const hid_t creation = H5Dget_create_plist(dataset);
    const H5D_layout_t kind = H5Pget_layout(creation);
    hsize_t chunk = (hsize_t)count;
    bool good = (kind == H5D_CONTIGUOUS || (kind == H5D_CHUNKED && H5Pget_chunk(creation, 1, &chunk) == 1)) &&
                H5Pget_nfilters(creation) == 0;
    (void)H5Pclose(creation);
    layout->chunk = chunk < 1 ? 1 : (int64_t)chunk;
    const int64_t chunks = (count + layout->chunk - 1) / layout->chunk;
    layout->address = calloc((size_t)chunks + 1, sizeof *layout->address);
    good = good && layout->address != NULL;
    for (int64_t i = 0; good && i < chunks; i++) {
        const hsize_t start = (hsize_t)i * chunk;
        haddr_t address = HADDR_UNDEF;
        hsize_t size = 0;
        unsigned filters;
        if (kind == H5D_CONTIGUOUS)
            address = H5Dget_offset(dataset);
        else
            good = H5Dget_chunk_info_by_coord(dataset, &start, &filters, &address, &size) >= 0;
        good = good && address != HADDR_UNDEF;
        layout->address[i] = address;
    }
    return good;
}

static ls_status read_layout(ls_token_file *out, hid_t file, ls_split split)
{
    reader *self = out->handle;
    char *name = ls_text_format("%s/tokens", split_names[split]);
    ls_status status = ls_hdf5_array_length(file, out->path, name, &out->token_count[split]);
    if (status == LS_OK) {
        const hid_t dataset = H5Dopen2(file, name, H5P_DEFAULT);
        const hid_t type = H5Dget_type(dataset);
        const int width = H5Tequal(type, H5T_STD_U16LE) > 0 ? 2 : H5Tequal(type, H5T_STD_U32LE) > 0 ? 4 : 0;
        if (width == 0 || (self->width != 0 && width != self->width))
            status = LS_FAIL(LS_BAD_INPUT, "%s: %s holds another type of number than tokens", out->path, name);
        else if (!find_chunks(&self->splits[split], dataset, out->token_count[split]))
            status = LS_FAIL(LS_BAD_INPUT, "%s: %s is compressed or damaged", out->path, name);
        self->width = width;
        (void)H5Tclose(type);
        (void)H5Dclose(dataset);
    }
    free(name);
    return status;
}

static ls_status read_header(ls_token_file *out, hid_t file)
{
    int64_t hash, end_of_text;
    LS_TRY(ls_hdf5_read_int(file, out->path, "vocab_size", &out->vocab_size));
    LS_TRY(ls_hdf5_read_int(file, out->path, "tokenizer_hash", &hash));
    LS_TRY(ls_hdf5_read_int(file, out->path, "end_of_text", &end_of_text));
    LS_TRY(ls_hdf5_read_text(file, out->path, "tokenizer", &out->tokenizer));
    out->tokenizer_hash = (uint64_t)hash;
    out->end_of_text = (int32_t)end_of_text;
    if (out->vocab_size < 1 || out->vocab_size > INT32_MAX || end_of_text < -1 || end_of_text >= out->vocab_size)
        return LS_FAIL(LS_BAD_INPUT, "%s is damaged: a vocabulary of %lld entries with end of text %lld", out->path,
                       (long long)out->vocab_size, (long long)end_of_text);
    if (ls_tokenizer_hash_text(out->tokenizer) != out->tokenizer_hash)
        return LS_FAIL(LS_BAD_INPUT, "%s is damaged: its tokenizer is not the one it was made with", out->path);
    return LS_OK;
}

ls_status ls_token_file_open(ls_token_file *out, const char *path)
{
    *out = (ls_token_file){0};
    hid_t file;
    LS_TRY(ls_hdf5_open(&file, path, "tokens"));
    out->path = ls_text_copy(path, strlen(path));
    reader *self = ls_text_memory(NULL, sizeof *self);
    *self = (reader){.file = open(path, O_RDONLY | O_CLOEXEC)};
    out->handle = self;
    ls_status status = LS_OK;
    if (self->file < 0) status = LS_FAIL(LS_IO, "cannot open %s: %s", path, strerror(errno));
    if (status == LS_OK) status = read_header(out, file);
    for (int split = 0; status == LS_OK && split < 2; split++) {
        status = read_layout(out, file, (ls_split)split);
        if (status == LS_OK) status = read_documents(out, file, (ls_split)split);
    }
    const ls_status closed = ls_hdf5_close(file, path);
    if (status == LS_OK) status = closed;
    if (status != LS_OK) ls_token_file_close(out);
    return status;
}

void ls_token_file_close(ls_token_file *file)
{
    reader *self = file->handle;
    if (self != NULL) {
        if (self->file >= 0) (void)close(self->file);
        free(self->splits[0].address);
        free(self->splits[1].address);
        free(self);
    }
    free(file->documents[0]);
    free(file->documents[1]);
    free(file->tokenizer);
    free(file->path);
    *file = (ls_token_file){0};
}

static ls_status read_bytes(const ls_token_file *file, void *out, size_t length, uint64_t address)
{
    const reader *self = file->handle;
    for (size_t done = 0; done < length;) {
        const ssize_t count = pread(self->file, (char *)out + done, length - done, (off_t)(address + done));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return LS_FAIL(LS_IO, "cannot read %s: %s", file->path, strerror(errno));
        if (count == 0) return LS_FAIL(LS_BAD_INPUT, "%s is cut short: parts of the file are missing", file->path);
        done += (size_t)count;
    }
    return LS_OK;
}

/* Widens narrow[count] into tokens[count] and refuses ids beyond the vocabulary. `narrow` may end where `tokens` ends:
 * a token is read before the place it lies in is written. */
static ls_status widen(const ls_token_file *file, ls_split split, int64_t start, int64_t count, int32_t *tokens,
                       const unsigned char *narrow, int width)
{
    for (int64_t i = 0; i < count; i++) {
        uint32_t id = 0;
        if (width == 2) {
            uint16_t half;
            memcpy(&half, narrow + 2 * i, sizeof half);
            id = le16toh(half);
        } else {
            memcpy(&id, narrow + 4 * i, sizeof id);
            id = le32toh(id);
        }
        if (id >= file->vocab_size)
            return LS_FAIL(LS_BAD_INPUT, "%s: token %lld of the %s split is %u, beyond the vocabulary of %lld entries",
                           file->path, (long long)(start + i), split_names[split], id, (long long)file->vocab_size);
        tokens[i] = (int32_t)id;
    }
    return LS_OK;
}

ls_status ls_token_file_read(const ls_token_file *file, ls_split split, int64_t start, int64_t count, int32_t *tokens)
{
    const reader *self = file->handle;
    const split_layout *layout = &self->splits[split];
    LS_ASSERT(start >= 0 && count >= 0 && start <= file->token_count[split] - count);
    unsigned char *narrow = (unsigned char *)tokens + (4 - self->width) * count;
    for (int64_t done = 0; done < count;) {
        const int64_t index = (start + done) / layout->chunk, within = (start + done) % layout->chunk;
        const int64_t left = layout->chunk - within;
        const int64_t part = left < count - done ? left : count - done;
        LS_TRY(read_bytes(file, narrow + self->width * done, (size_t)(part * self->width),
                          layout->address[index] + (uint64_t)(within * self->width)));
        done += part;
    }
    return widen(file, split, start, count, tokens, narrow, self->width);
}
