/* The token file, as it is written; see token_writer.h.
 *
 * Tokens are stored in chunks without filters, so that a reader finds them at fixed places of the file (token_file.c).
 * Large chunks keep the chunk index small; a split that never fills one gets a chunk of its own size. */
#include "data/token_writer.h"

#include "core/file.h"
#include "core/hdf5_driver.h"
#include "core/hdf5_file.h"
#include "core/text.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Ids that stand around every document. */
typedef struct id_list {
    int32_t *values; /* [count] */
    int64_t count;
} id_list;

enum { CHUNK_TOKENS = 1 << 20 };

typedef struct split_writer {
    hid_t dataset;         /* H5I_INVALID_HID until the first chunk is full */
    hid_t targets;         /* of records: the same for their targets */
    int32_t *chunk;        /* [CHUNK_TOKENS] not yet written */
    uint8_t *chunk_learnt; /* of records: [CHUNK_TOKENS] their targets */
    int64_t target_count;
    int64_t chunk_count;
    int64_t written; /* tokens in the dataset */
    int64_t *ends;   /* [document_capacity] ends[0] = 0, then each document's end */
    int64_t document_count, document_capacity;
} split_writer;

struct ls_token_writer {
    hid_t file; /* H5I_INVALID_HID when closed */
    char *path, *partial;
    int lock;     /* of `partial` */
    bool started; /* `partial` is ours, and not yet renamed */
    bool records;
    hid_t stored_type, native_type; /* of a token in the file, and in `narrow` */
    void *narrow;                   /* [CHUNK_TOKENS] tokens on their way to the file */
    int32_t end_of_text;
    id_list opening, closing; /* of every document: the tokenizer's template and the end-of-text token */
    split_writer splits[2];
};

static const char *const split_names[2] = {"train", "validation"};

static ls_status describe(const ls_token_writer *writer, const ls_tokenizer *tokenizer)
{
    LS_TRY(ls_hdf5_write_int(writer->file, "vocab_size", ls_tokenizer_vocab_size(tokenizer)));
    LS_TRY(ls_hdf5_write_int(writer->file, "tokenizer_hash", (int64_t)ls_tokenizer_hash(tokenizer)));
    LS_TRY(ls_hdf5_write_int(writer->file, "end_of_text", ls_tokenizer_end_of_text(tokenizer)));
    if (writer->records) {
        LS_TRY(ls_hdf5_write_int(writer->file, LS_HDF5_VERSION, LS_HDF5_NEWEST_VERSION));
        LS_TRY(ls_hdf5_write_int(writer->file, "records", 1));
    }
    return ls_hdf5_write_text(writer->file, "tokenizer", ls_tokenizer_text(tokenizer));
}

static void copy_ids(id_list *out, const int32_t *ids, int64_t count)
{
    out->values = ls_text_memory(NULL, (size_t)(count + 1) * sizeof *ids); /* one more: the end-of-text token */
    out->count = count;
    if (count > 0) memcpy(out->values, ids, (size_t)count * sizeof *ids);
}

static void read_template(ls_token_writer *writer, const ls_tokenizer *tokenizer)
{
    int64_t prefix_count, suffix_count;
    const int32_t *prefix = ls_tokenizer_prefix(tokenizer, &prefix_count);
    const int32_t *suffix = ls_tokenizer_suffix(tokenizer, &suffix_count);
    copy_ids(&writer->opening, prefix, prefix_count);
    copy_ids(&writer->closing, suffix, suffix_count);
    if (writer->end_of_text >= 0 && (suffix_count == 0 || suffix[suffix_count - 1] != writer->end_of_text))
        writer->closing.values[writer->closing.count++] = writer->end_of_text;
}

/* What stands at `path` may be replaced when it is an older token file or nothing; never a text that was named by
 * mistake, a checkpoint or a device. */
static ls_status check_replaceable(const char *path)
{
    struct stat about;
    hid_t file;
    if (ls_file_is_folder(path)) return LS_FAIL(LS_BAD_INPUT, "cannot write %s: it is a folder", path);
    if (stat(path, &about) != 0 || (S_ISREG(about.st_mode) && about.st_size == 0)) return LS_OK;
    if (ls_hdf5_open(&file, path, "tokens") == LS_OK) {
        (void)H5Fclose(file);
        return LS_OK;
    }
    ls_error_clear();
    return LS_FAIL(LS_BAD_INPUT, "%s exists and is not a token file; remove it or name another file with --out", path);
}

static ls_status create(ls_token_writer **out, const char *path, const ls_tokenizer *tokenizer, bool records)
{
    ls_token_writer *writer = ls_text_memory(NULL, sizeof *writer);
    *writer = (ls_token_writer){
        .file = H5I_INVALID_HID, .end_of_text = ls_tokenizer_end_of_text(tokenizer), .lock = -1, .records = records};
    writer->path = ls_text_copy(path, strlen(path));
    read_template(writer, tokenizer);
    ls_status status = LS_OK;
    LS_TRY_GOTO(check_replaceable(path), failed);
    const bool wide = ls_tokenizer_vocab_size(tokenizer) > 65536;
    for (int split = 0; split < 2; split++) {
        split_writer *self = &writer->splits[split];
        self->dataset = self->targets = H5I_INVALID_HID;
        self->chunk = ls_text_memory(NULL, CHUNK_TOKENS * sizeof *self->chunk);
        if (records) self->chunk_learnt = ls_text_memory(NULL, CHUNK_TOKENS);
        self->document_capacity = 1024;
        self->ends = ls_text_memory(NULL, (size_t)self->document_capacity * sizeof *self->ends);
        self->ends[0] = 0;
    }
    writer->narrow = ls_text_memory(NULL, CHUNK_TOKENS * sizeof(uint32_t));
    writer->partial = ls_text_format("%s.partial", path);
    LS_TRY_GOTO(ls_file_lock(&writer->lock, writer->partial), failed);
    writer->started = true;
    LS_TRY_GOTO(ls_hdf5_create(&writer->file, writer->partial, "tokens"), failed);
    writer->stored_type = wide ? H5T_STD_U32LE : H5T_STD_U16LE;
    writer->native_type = wide ? H5T_NATIVE_UINT32 : H5T_NATIVE_UINT16;
    LS_TRY_GOTO(describe(writer, tokenizer), failed);
    *out = writer;
    return LS_OK;
failed:
    ls_token_writer_destroy(writer);
    return status;
}

ls_status ls_token_writer_create(ls_token_writer **out, const char *path, const ls_tokenizer *tokenizer)
{
    return create(out, path, tokenizer, false);
}

ls_status ls_token_writer_create_records(ls_token_writer **out, const char *path, const ls_tokenizer *tokenizer)
{
    return create(out, path, tokenizer, true);
}

/* Closes the file; the status counts only when the content does. */
static ls_status close_file(ls_token_writer *writer)
{
    for (int split = 0; split < 2; split++) {
        split_writer *self = &writer->splits[split];
        if (self->dataset >= 0) (void)H5Dclose(self->dataset);
        if (self->targets >= 0) (void)H5Dclose(self->targets);
        self->dataset = self->targets = H5I_INVALID_HID;
    }
    const hid_t file = writer->file;
    writer->file = H5I_INVALID_HID;
    return ls_hdf5_close(file, writer->path);
}

void ls_token_writer_destroy(ls_token_writer *writer)
{
    if (writer == NULL) return;
    if (writer->file >= 0) (void)close_file(writer);
    if (writer->started) (void)unlink(writer->partial);
    ls_file_unlock(writer->lock);
    for (int split = 0; split < 2; split++) {
        free(writer->splits[split].chunk);
        free(writer->splits[split].chunk_learnt);
        free(writer->splits[split].ends);
    }
    free(writer->narrow);
    free(writer->opening.values);
    free(writer->closing.values);
    free(writer->path);
    free(writer->partial);
    free(writer);
}

static hid_t create_dataset(const ls_token_writer *writer, ls_split split, const char *what, hid_t type,
                            int64_t chunk_tokens)
{
    const hsize_t none = 0, unlimited = H5S_UNLIMITED;
    const hsize_t chunk = (hsize_t)(chunk_tokens < 1 ? 1 : chunk_tokens);
    if (ls_hdf5_make_group(writer->file, split_names[split]) != LS_OK) return H5I_INVALID_HID;
    char *name = ls_text_format("%s/%s", split_names[split], what);
    const hid_t space = H5Screate_simple(1, &none, &unlimited);
    const hid_t layout = H5Pcreate(H5P_DATASET_CREATE);
    (void)H5Pset_chunk(layout, 1, &chunk);
    (void)H5Pset_fill_time(layout, H5D_FILL_TIME_NEVER);
    (void)H5Pset_obj_track_times(layout, false); /* the same tokens make the same file */
    const hid_t dataset = H5Dcreate2(writer->file, name, type, space, H5P_DEFAULT, layout, H5P_DEFAULT);
    (void)H5Pclose(layout);
    (void)H5Sclose(space);
    free(name);
    return dataset;
}

static bool append_chunk(const split_writer *self, hid_t dataset, hid_t type, const void *values)
{
    const hsize_t start = (hsize_t)self->written, count = (hsize_t)self->chunk_count, total = start + count;
    if (H5Dset_extent(dataset, &total) < 0) return false;
    const hid_t memory = H5Screate_simple(1, &count, NULL), place = H5Dget_space(dataset);
    const bool good = H5Sselect_hyperslab(place, H5S_SELECT_SET, &start, NULL, &count, NULL) >= 0 &&
                      H5Dwrite(dataset, type, memory, place, H5P_DEFAULT, values) >= 0;
    (void)H5Sclose(place);
    (void)H5Sclose(memory);
    return good;
}

/* Moves the chunk, full or the last one, to the file. */
static ls_status flush_chunk(ls_token_writer *writer, ls_split split)
{
    split_writer *self = &writer->splits[split];
    if (self->dataset < 0)
        self->dataset = create_dataset(writer, split, "tokens", writer->stored_type, self->chunk_count);
    if (writer->records && self->targets < 0)
        self->targets = create_dataset(writer, split, "targets", H5T_STD_U8LE, self->chunk_count);
    if (writer->native_type == H5T_NATIVE_UINT16) {
        uint16_t *narrow = writer->narrow;
        for (int64_t i = 0; i < self->chunk_count; i++) narrow[i] = (uint16_t)self->chunk[i];
    } else {
        memcpy(writer->narrow, self->chunk, (size_t)self->chunk_count * sizeof *self->chunk);
    }
    bool good = self->dataset >= 0 && (self->targets >= 0) == writer->records;
    if (good && self->chunk_count > 0) {
        good = append_chunk(self, self->dataset, writer->native_type, writer->narrow);
        if (good && writer->records) good = append_chunk(self, self->targets, H5T_NATIVE_UINT8, self->chunk_learnt);
    }
    const int error = ls_hdf5_driver_error(writer->file);
    if (!good || error != 0)
        return LS_FAIL(LS_IO, "cannot write %s: %s", writer->path,
                       error != 0 ? ls_file_reason(error) : "HDF5 reports a failure");
    self->written += self->chunk_count;
    self->chunk_count = 0;
    return LS_OK;
}

static ls_status end_document(split_writer *self)
{
    if (self->document_count + 2 > self->document_capacity) {
        const int64_t capacity = 2 * self->document_capacity;
        int64_t *ends = realloc(self->ends, (size_t)capacity * sizeof *ends);
        if (ends == NULL) return LS_FAIL(LS_NO_MEMORY, "not enough memory for %lld documents", (long long)capacity);
        self->ends = ends;
        self->document_capacity = capacity;
    }
    self->ends[++self->document_count] = self->written + self->chunk_count;
    return LS_OK;
}

/* `learnt`: of a record, whether the token is to be learnt. */
static ls_status add_token(ls_token_writer *writer, ls_split split, int32_t id, bool learnt)
{
    split_writer *self = &writer->splits[split];
    if (self->chunk_count == CHUNK_TOKENS) LS_TRY(flush_chunk(writer, split));
    if (writer->records) {
        self->chunk_learnt[self->chunk_count] = learnt;
        self->target_count += learnt;
    }
    self->chunk[self->chunk_count++] = id;
    return LS_OK;
}

static ls_status add_tokens(ls_token_writer *writer, ls_split split, const id_list *ids, bool learnt)
{
    for (int64_t i = 0; i < ids->count; i++) LS_TRY(add_token(writer, split, ids->values[i], learnt));
    return LS_OK;
}

static bool has_opening(const ls_token_writer *writer, const int32_t *ids, int64_t count)
{
    const id_list *opening = &writer->opening;
    return count >= opening->count &&
           (opening->count == 0 || memcmp(ids, opening->values, (size_t)opening->count * sizeof *ids) == 0);
}

/* One document, without an end-of-text token. */
static ls_status add_document(ls_token_writer *writer, ls_split split, const int32_t *ids, int64_t count)
{
    const id_list own = {(int32_t *)ids, count};
    if (!has_opening(writer, ids, count)) LS_TRY(add_tokens(writer, split, &writer->opening, false));
    LS_TRY(add_tokens(writer, split, &own, false));
    LS_TRY(add_tokens(writer, split, &writer->closing, false));
    return end_document(&writer->splits[split]);
}

ls_status ls_token_writer_add(ls_token_writer *writer, ls_split split, const int32_t *ids, int64_t count)
{
    LS_ASSERT(count >= 1 && writer->file >= 0 && !writer->records);
    int64_t start = 0;
    for (int64_t i = 0; i < count; i++) {
        if (ids[i] != writer->end_of_text) continue;
        LS_TRY(add_document(writer, split, ids + start, i - start));
        start = i + 1;
    }
    return start < count ? add_document(writer, split, ids + start, count - start) : LS_OK;
}

ls_status ls_token_writer_add_record(ls_token_writer *writer, ls_split split, const int32_t *ids,
                                     const uint8_t *targets, int64_t count)
{
    LS_ASSERT(count >= 1 && writer->file >= 0 && writer->records);
    const bool open = has_opening(writer, ids, count);
    const bool closed = writer->end_of_text >= 0 && ids[count - 1] == writer->end_of_text;
    const int64_t first = open || writer->opening.count == 0 ? 1 : 0; /* the first that something predicts */
    if ((closed || writer->closing.count == 0) &&
        (count <= first || memchr(targets + first, 1, (size_t)(count - first)) == NULL))
        return LS_FAIL(LS_BAD_INPUT, "there is nothing to learn from this record");
    if (!open) LS_TRY(add_tokens(writer, split, &writer->opening, false));
    for (int64_t i = 0; i < count; i++) LS_TRY(add_token(writer, split, ids[i], i >= first && targets[i] != 0));
    if (!closed) LS_TRY(add_tokens(writer, split, &writer->closing, true));
    return end_document(&writer->splits[split]);
}

int64_t ls_token_writer_targets(const ls_token_writer *writer, ls_split split)
{
    return writer->splits[split].target_count;
}

int64_t ls_token_writer_tokens(const ls_token_writer *writer, ls_split split)
{
    return writer->splits[split].written + writer->splits[split].chunk_count;
}

int64_t ls_token_writer_documents(const ls_token_writer *writer, ls_split split)
{
    return writer->splits[split].document_count;
}

ls_status ls_token_writer_commit(ls_token_writer *writer, const char *sources)
{
    for (int split = 0; split < 2; split++) {
        const split_writer *self = &writer->splits[split];
        if (self->dataset < 0 || self->chunk_count > 0) LS_TRY(flush_chunk(writer, (ls_split)split));
        char *name = ls_text_format("%s/documents", split_names[split]);
        const ls_status status =
            ls_hdf5_write_array(writer->file, name, H5T_NATIVE_INT64, self->document_count + 1, 0, self->ends);
        free(name);
        LS_TRY(status);
    }
    LS_TRY(ls_hdf5_write_text(writer->file, "sources", sources));
    ls_status status = close_file(writer);
    if (status == LS_OK) status = ls_file_commit(writer->partial, writer->path);
    writer->started = status != LS_OK;
    return status;
}
