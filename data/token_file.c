/* Reading token files; see token_file.h.
 *
 * HDF5 is asked once, at opening, where in the file each chunk of tokens and targets lies. Reading then is pread alone:
 * many threads may read while another one uses HDF5, which is not thread-safe in every build, and nothing is cached
 * twice.
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

typedef struct layout {
    int64_t chunk;     /* elements in a chunk */
    uint64_t *address; /* [chunks] byte in the file where each begins */
} layout;

typedef struct reader {
    int file;
    int width;                    /* bytes of a token: 2 or 4 */
    layout tokens[2], targets[2]; /* by ls_split */
} reader;

enum { TARGETS_AT_ONCE = 1 << 16 };

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
static bool find_chunks(layout *out, hid_t dataset, int64_t count)
{
    const hid_t creation = H5Dget_create_plist(dataset);
    const H5D_layout_t kind = H5Pget_layout(creation);
    hsize_t chunk = (hsize_t)count;
    bool good = (kind == H5D_CONTIGUOUS || (kind == H5D_CHUNKED && H5Pget_chunk(creation, 1, &chunk) == 1)) &&
                H5Pget_nfilters(creation) == 0;
    (void)H5Pclose(creation);
    out->chunk = chunk < 1 ? 1 : (int64_t)chunk;
    const int64_t chunks = (count + out->chunk - 1) / out->chunk;
    out->address = calloc((size_t)chunks + 1, sizeof *out->address);
    good = good && out->address != NULL;
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
        out->address[i] = address;
    }
    return good;
}

/* Bytes of an element of the dataset, 0 for a type that is none of tokens, or none of targets. */
static int element_width(hid_t dataset, bool of_targets)
{
    const hid_t type = H5Dget_type(dataset);
    int width = H5Tequal(type, H5T_STD_U16LE) > 0 ? 2 : H5Tequal(type, H5T_STD_U32LE) > 0 ? 4 : 0;
    if (of_targets) width = H5Tequal(type, H5T_STD_U8LE) > 0 ? 1 : 0;
    (void)H5Tclose(type);
    return width;
}

static ls_status read_layout(ls_token_file *out, hid_t file, ls_split split)
{
    reader *self = out->handle;
    char *name = ls_text_format("%s/tokens", split_names[split]);
    ls_status status = ls_hdf5_array_length(file, out->path, name, &out->token_count[split]);
    if (status == LS_OK) {
        const hid_t dataset = H5Dopen2(file, name, H5P_DEFAULT);
        const int width = element_width(dataset, false);
        if (width == 0 || (self->width != 0 && width != self->width))
            status = LS_FAIL(LS_BAD_INPUT, "%s: %s holds another type of number than tokens", out->path, name);
        else if (!find_chunks(&self->tokens[split], dataset, out->token_count[split]))
            status = LS_FAIL(LS_BAD_INPUT, "%s: %s is compressed or damaged", out->path, name);
        self->width = width;
        (void)H5Dclose(dataset);
    }
    free(name);
    return status;
}

static ls_status read_target_layout(ls_token_file *out, hid_t file, ls_split split)
{
    reader *self = out->handle;
    int64_t count = 0;
    char *name = ls_text_format("%s/targets", split_names[split]);
    ls_status status = ls_hdf5_array_length(file, out->path, name, &count);
    if (status == LS_OK && count != out->token_count[split])
        status = LS_FAIL(LS_BAD_INPUT, "%s is damaged: %s has %lld entries for %lld tokens", out->path, name,
                         (long long)count, (long long)out->token_count[split]);
    if (status == LS_OK) {
        const hid_t dataset = H5Dopen2(file, name, H5P_DEFAULT);
        if (element_width(dataset, true) == 0)
            status = LS_FAIL(LS_BAD_INPUT, "%s: %s holds another type of number than targets", out->path, name);
        else if (!find_chunks(&self->targets[split], dataset, count))
            status = LS_FAIL(LS_BAD_INPUT, "%s: %s is compressed or damaged", out->path, name);
        (void)H5Dclose(dataset);
    }
    free(name);
    return status;
}

/* Reads all targets once: how many there are and which, and that no record begins with one. */
static ls_status count_targets(ls_token_file *out, ls_split split)
{
    uint8_t targets[TARGETS_AT_ONCE];
    const int64_t *document = out->documents[split];
    out->targets_hash[split] = LS_TEXT_HASH_START;
    for (int64_t start = 0, count; start < out->token_count[split]; start += count) {
        const int64_t left = out->token_count[split] - start;
        count = left < TARGETS_AT_ONCE ? left : TARGETS_AT_ONCE;
        LS_TRY(ls_token_file_read_targets(out, split, start, count, targets));
        for (int64_t i = 0; i < count; i++) out->target_count[split] += targets[i];
        out->targets_hash[split] = ls_text_hash(out->targets_hash[split], targets, (size_t)count);
        for (; *document < start + count; document++)
            if (targets[*document - start] != 0)
                return LS_FAIL(LS_BAD_INPUT,
                               "%s is damaged: token %lld of the %s split begins a record and is a target", out->path,
                               (long long)*document, split_names[split]);
    }
    return LS_OK;
}

static ls_status read_split(ls_token_file *out, hid_t file, ls_split split)
{
    LS_TRY(read_layout(out, file, split));
    LS_TRY(read_documents(out, file, split));
    if (!out->records) return LS_OK;
    LS_TRY(read_target_layout(out, file, split));
    return count_targets(out, split);
}

static ls_status read_header(ls_token_file *out, hid_t file)
{
    int64_t hash, end_of_text, records = 0;
    LS_TRY(ls_hdf5_read_int(file, out->path, "vocab_size", &out->vocab_size));
    LS_TRY(ls_hdf5_read_int(file, out->path, "tokenizer_hash", &hash));
    LS_TRY(ls_hdf5_read_int(file, out->path, "end_of_text", &end_of_text));
    LS_TRY(ls_hdf5_read_text(file, out->path, "tokenizer", &out->tokenizer));
    if (H5Aexists(file, "records") > 0) LS_TRY(ls_hdf5_read_int(file, out->path, "records", &records));
    if (records != 0 && records != 1)
        return LS_FAIL(LS_BAD_INPUT, "%s is damaged: its attribute records is %lld", out->path, (long long)records);
    out->records = records == 1;
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
    for (int split = 0; status == LS_OK && split < 2; split++) status = read_split(out, file, (ls_split)split);
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
        for (int split = 0; split < 2; split++) {
            free(self->tokens[split].address);
            free(self->targets[split].address);
        }
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

/* Elements start..start+count-1 of a dataset as they lie in the file. */
static ls_status read_elements(const ls_token_file *file, const layout *from, int64_t start, int64_t count, int width,
                               unsigned char *out)
{
    for (int64_t done = 0; done < count;) {
        const int64_t index = (start + done) / from->chunk, within = (start + done) % from->chunk;
        const int64_t left = from->chunk - within;
        const int64_t part = left < count - done ? left : count - done;
        LS_TRY(read_bytes(file, out + width * done, (size_t)(part * width),
                          from->address[index] + (uint64_t)(within * width)));
        done += part;
    }
    return LS_OK;
}

ls_status ls_token_file_read(const ls_token_file *file, ls_split split, int64_t start, int64_t count, int32_t *tokens)
{
    const reader *self = file->handle;
    LS_ASSERT(start >= 0 && count >= 0 && start <= file->token_count[split] - count);
    unsigned char *narrow = (unsigned char *)tokens + (4 - self->width) * count;
    LS_TRY(read_elements(file, &self->tokens[split], start, count, self->width, narrow));
    return widen(file, split, start, count, tokens, narrow, self->width);
}

ls_status ls_token_file_read_targets(const ls_token_file *file, ls_split split, int64_t start, int64_t count,
                                     uint8_t *targets)
{
    const reader *self = file->handle;
    LS_ASSERT(file->records && start >= 0 && count >= 0 && start <= file->token_count[split] - count);
    LS_TRY(read_elements(file, &self->targets[split], start, count, 1, targets));
    for (int64_t i = 0; i < count; i++)
        if (targets[i] > 1)
            return LS_FAIL(LS_BAD_INPUT, "%s is damaged: target %lld of the %s split is %d", file->path,
                           (long long)(start + i), split_names[split], targets[i]);
    return LS_OK;
}
