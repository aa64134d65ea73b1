/* Reading safetensors, see safetensors.h. */
#include "model/safetensors.h"

#include "core/file.h"
#include "core/json.h"
#include "core/text.h"
#include "data/utf8.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LARGEST_HEADER 100000000u         /* the format's own bound */
#define LARGEST_NUMBER 9007199254740992.0 /* 2^53: whole numbers up to here survive JSON */

/* Every type of the format, so that a tensor that is not asked for may have any; bits of an element. */
static const struct {
    const char *name;
    int bits;
} dtypes[] = {{"F32", 32},    {"F16", 16},    {"BF16", 16},       {"F64", 64},       {"F8_E4M3", 8}, {"F8_E5M2", 8},
              {"F8_E8M0", 8}, {"C64", 64},    {"I64", 64},        {"I32", 32},       {"I16", 16},    {"I8", 8},
              {"U64", 64},    {"U32", 32},    {"U16", 16},        {"U8", 8},         {"BOOL", 8},    {"F4", 4},
              {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}};

enum { FLOAT_DTYPES = 3 }; /* the first of them, in the order of ls_stored_type */

/* What one file holds, while its header is read. */
typedef struct reading {
    ls_safetensors *out;
    const char *path;
    int file;            /* index */
    uint64_t data, size; /* where the data begin, and where they end */
} reading;

static bool whole_number(const cJSON *item, uint64_t *out)
{
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= LARGEST_NUMBER)) return false;
    *out = (uint64_t)item->valuedouble;
    return (double)*out == item->valuedouble;
}

static ls_status read_dtype(ls_safetensor *tensor, int *bits, const cJSON *about, const char *path)
{
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(about, "dtype"));
    if (name == NULL) return LS_FAIL(LS_BAD_INPUT, "%s: the tensor %s has no dtype", path, tensor->name);
    for (int i = 0; i < (int)(sizeof dtypes / sizeof dtypes[0]); i++) {
        if (strcmp(dtypes[i].name, name) != 0) continue;
        tensor->dtype = dtypes[i].name;
        tensor->is_float = i < FLOAT_DTYPES;
        tensor->type = tensor->is_float ? (ls_stored_type)i : LS_STORED_F32;
        *bits = dtypes[i].bits;
        return LS_OK;
    }
    return LS_FAIL(LS_BAD_INPUT, "%s: the tensor %s has the unknown dtype \"%.32s\"", path, tensor->name, name);
}

/* The shape, and how many bytes it asks for. */
static ls_status read_shape(ls_safetensor *tensor, uint64_t *bytes, int bits, const cJSON *about, const char *path)
{
    const cJSON *shape = cJSON_GetObjectItemCaseSensitive(about, "shape"), *size;
    uint64_t elements = 1, total;
    if (!cJSON_IsArray(shape)) return LS_FAIL(LS_BAD_INPUT, "%s: the tensor %s has no shape", path, tensor->name);
    cJSON_ArrayForEach(size, shape)
    {
        uint64_t value;
        if (tensor->rank == LS_SAFETENSORS_RANK)
            return LS_FAIL(LS_BAD_INPUT, "%s: the tensor %s has more than %d dimensions", path, tensor->name,
                           LS_SAFETENSORS_RANK);
        if (!whole_number(size, &value))
            return LS_FAIL(LS_BAD_INPUT, "%s: the shape of the tensor %s holds something other than a size", path,
                           tensor->name);
        if (__builtin_mul_overflow(elements, value, &elements))
            return LS_FAIL(LS_BAD_INPUT, "%s: the shape of the tensor %s asks for more than 2^64 elements", path,
                           tensor->name);
        tensor->shape[tensor->rank++] = (int64_t)value;
    }
    if (__builtin_mul_overflow(elements, (uint64_t)bits, &total))
        return LS_FAIL(LS_BAD_INPUT, "%s: the shape of the tensor %s asks for more than 2^64 bits", path, tensor->name);
    *bytes = total / 8;
    return total % 8 == 0 ? LS_OK
                          : LS_FAIL(LS_BAD_INPUT, "%s: the tensor %s does not fill whole bytes", path, tensor->name);
}

static ls_status read_tensor(const reading *from, ls_safetensor *tensor, const cJSON *about)
{
    int bits = 0;
    uint64_t begin, end, bytes = 0;
    if (!cJSON_IsObject(about))
        return LS_FAIL(LS_BAD_INPUT, "%s: what the header says of %s is no object", from->path, tensor->name);
    LS_TRY(read_dtype(tensor, &bits, about, from->path));
    LS_TRY(read_shape(tensor, &bytes, bits, about, from->path));
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(about, "data_offsets");
    if (cJSON_GetArraySize(offsets) != 2 || !whole_number(cJSON_GetArrayItem(offsets, 0), &begin) ||
        !whole_number(cJSON_GetArrayItem(offsets, 1), &end))
        return LS_FAIL(LS_BAD_INPUT, "%s: the tensor %s has no two data_offsets", from->path, tensor->name);
    if (begin > end)
        return LS_FAIL(LS_BAD_INPUT, "%s: the data_offsets of the tensor %s go backwards: [%llu, %llu]", from->path,
                       tensor->name, (unsigned long long)begin, (unsigned long long)end);
    if (end > from->size - from->data)
        return LS_FAIL(LS_BAD_INPUT,
                       "%s: the tensor %s ends at byte %llu of the data, of which there are %llu: the file is cut "
                       "short or damaged",
                       from->path, tensor->name, (unsigned long long)end,
                       (unsigned long long)(from->size - from->data));
    if (end - begin != bytes)
        return LS_FAIL(LS_BAD_INPUT, "%s: the tensor %s has %llu bytes, but its shape and dtype %s ask for %llu",
                       from->path, tensor->name, (unsigned long long)(end - begin), tensor->dtype,
                       (unsigned long long)bytes);
    tensor->offset = from->data + begin;
    tensor->bytes = bytes;
    tensor->file = from->file;
    return LS_OK;
}

static int by_place(const void *a, const void *b)
{
    const ls_safetensor *one = a, *two = b;
    if (one->offset != two->offset) return one->offset < two->offset ? -1 : 1;
    return (one->bytes > two->bytes) - (one->bytes < two->bytes);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const ls_safetensor *)a)->name, ((const ls_safetensor *)b)->name);
}

/* Sorted by place, each tensor begins where the one before it ends, and the last ends with the file. */
static ls_status check_cover(const reading *from, int64_t first)
{
    const ls_safetensors *out = from->out;
    uint64_t at = from->data;
    const char *before = NULL;
    for (int64_t i = first; i < out->count; i++) {
        const ls_safetensor *tensor = &out->tensors[i];
        if (tensor->offset < at)
            return LS_FAIL(LS_BAD_INPUT, "%s: the tensors %s and %s overlap", from->path, before, tensor->name);
        if (tensor->offset > at)
            return LS_FAIL(LS_BAD_INPUT, "%s: %llu bytes before the tensor %s belong to no tensor", from->path,
                           (unsigned long long)(tensor->offset - at), tensor->name);
        at = tensor->offset + tensor->bytes;
        before = tensor->name;
    }
    if (at == from->size) return LS_OK;
    return LS_FAIL(LS_BAD_INPUT, "%s: the last %llu bytes belong to no tensor", from->path,
                   (unsigned long long)(from->size - at));
}

static ls_status read_tensors(const reading *from, const cJSON *header)
{
    ls_safetensors *out = from->out;
    const int64_t first = out->count;
    const cJSON *about;
    cJSON_ArrayForEach(about, header)
    {
        if (strcmp(about->string, "__metadata__") == 0) continue;
        if (out->count == out->capacity) {
            out->capacity = out->capacity == 0 ? 64 : 2 * out->capacity;
            out->tensors = ls_text_memory(out->tensors, sizeof *out->tensors * (size_t)out->capacity);
        }
        ls_safetensor *tensor = &out->tensors[out->count++];
        *tensor = (ls_safetensor){.name = ls_text_copy(about->string, strlen(about->string))};
        LS_TRY(read_tensor(from, tensor, about));
    }
    if (out->count > first) qsort(out->tensors + first, (size_t)(out->count - first), sizeof *out->tensors, by_place);
    return check_cover(from, first);
}

static ls_status check_header_text(const char *text, size_t length, const char *path)
{
    const size_t valid = ls_utf8_valid_prefix(text, length);
    if (valid < length) return LS_FAIL(LS_BAD_INPUT, "%s: byte %zu of the header is not valid UTF-8", path, valid);
    if (length == 0 || text[0] != '{')
        return LS_FAIL(LS_BAD_INPUT, "%s is no safetensors file: its header does not begin with a brace", path);
    return LS_OK;
}

static ls_status read_at(int handle, const char *path, void *out, uint64_t count, uint64_t offset)
{
    unsigned char *bytes = out;
    for (uint64_t done = 0; done < count;) {
        const uint64_t piece = count - done < (uint64_t)1 << 30 ? count - done : (uint64_t)1 << 30;
        const ssize_t got = pread(handle, bytes + done, (size_t)piece, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return LS_FAIL(LS_IO, "cannot read %s: %s", path, strerror(errno));
        if (got == 0) return LS_FAIL(LS_BAD_INPUT, "%s is cut short: parts of the file are missing", path);
        done += (uint64_t)got;
    }
    return LS_OK;
}

static ls_status read_header(reading *from)
{
    uint64_t length;
    const int handle = from->out->handles[from->file];
    if (from->size < sizeof length)
        return LS_FAIL(LS_BAD_INPUT, "%s is no safetensors file: it has only %llu bytes", from->path,
                       (unsigned long long)from->size);
    LS_TRY(read_at(handle, from->path, &length, sizeof length, 0));
    length = le64toh(length);
    if (length > from->size - sizeof length)
        return LS_FAIL(LS_BAD_INPUT,
                       "%s says its header has %llu bytes, which is more than the file holds: it is cut short, or no "
                       "safetensors file",
                       from->path, (unsigned long long)length);
    if (length > LARGEST_HEADER)
        return LS_FAIL(LS_BAD_INPUT, "%s says its header has %llu bytes; the format allows %u", from->path,
                       (unsigned long long)length, LARGEST_HEADER);
    from->data = sizeof length + length;
    char *text = malloc((size_t)length + 1);
    cJSON *header = NULL;
    if (text == NULL) return LS_FAIL(LS_NO_MEMORY, "not enough memory for the header of %s", from->path);
    ls_status status = read_at(handle, from->path, text, length, sizeof length);
    if (status == LS_OK) status = check_header_text(text, (size_t)length, from->path);
    if (status == LS_OK) {
        char *name = ls_text_format("the header of %s", from->path);
        status = ls_json_parse(&header, text, (size_t)length, name);
        free(name);
    }
    if (status == LS_OK) status = read_tensors(from, header);
    cJSON_Delete(header);
    free(text);
    return status;
}

static ls_status add_file(ls_safetensors *out, const char *path)
{
    struct stat about;
    out->files = ls_text_memory(out->files, sizeof *out->files * (size_t)(out->file_count + 1));
    out->handles = ls_text_memory(out->handles, sizeof *out->handles * (size_t)(out->file_count + 1));
    const int handle = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (handle < 0) return LS_FAIL(LS_IO, "cannot read %s: %s", path, strerror(errno));
    out->files[out->file_count] = ls_text_copy(path, strlen(path));
    out->handles[out->file_count++] = handle;
    if (fstat(handle, &about) != 0 || !S_ISREG(about.st_mode))
        return LS_FAIL(LS_IO, "cannot read %s: it is not a regular file", path);
    reading from = {.out = out,
                    .path = out->files[out->file_count - 1],
                    .file = out->file_count - 1,
                    .size = (uint64_t)about.st_size};
    return read_header(&from);
}

/* Sorts by name and refuses a name that occurs twice, in one file or in two. */
static ls_status finish(ls_safetensors *out)
{
    if (out->count > 1) qsort(out->tensors, (size_t)out->count, sizeof *out->tensors, by_name);
    for (int64_t i = 1; i < out->count; i++) {
        const ls_safetensor *one = &out->tensors[i - 1], *two = &out->tensors[i];
        if (strcmp(one->name, two->name) != 0) continue;
        if (one->file == two->file)
            return LS_FAIL(LS_BAD_INPUT, "%s holds the tensor %s twice", out->files[one->file], one->name);
        return LS_FAIL(LS_BAD_INPUT, "%s and %s both hold the tensor %s", out->files[one->file], out->files[two->file],
                       one->name);
    }
    return LS_OK;
}

ls_status ls_safetensors_open_file(ls_safetensors *out, const char *path)
{
    *out = (ls_safetensors){0};
    ls_status status = add_file(out, path);
    if (status == LS_OK) status = finish(out);
    if (status != LS_OK) ls_safetensors_close(out);
    return status;
}

/* ---- folders ----------------------------------------------------------------------------------------------------- */

/* The number of the file `name` of the folder, which is opened when it is new. */
static ls_status shard_number(ls_safetensors *out, int *number, const char *folder, const char *name, const char *index)
{
    if (name[0] == '\0' || name[0] == '.' || strchr(name, '/') != NULL)
        return LS_FAIL(LS_BAD_INPUT, "%s names \"%.80s\", which is no file beside it", index, name);
    char *path = ls_file_join(folder, name);
    ls_status status = LS_OK;
    for (*number = 0; *number < out->file_count; ++*number)
        if (strcmp(out->files[*number], path) == 0) break;
    if (*number == out->file_count) status = add_file(out, path);
    free(path);
    return status;
}

static ls_status open_shards(ls_safetensors *out, const char *folder, const cJSON *map, const char *index)
{
    const cJSON *item;
    const char *last = NULL;
    int number = 0;
    cJSON_ArrayForEach(item, map)
    {
        if (!cJSON_IsString(item))
            return LS_FAIL(LS_BAD_INPUT, "%s: the weight_map names no file for %s", index, item->string);
        if (last != NULL && strcmp(last, item->valuestring) == 0) continue;
        last = item->valuestring;
        LS_TRY(shard_number(out, &number, folder, last, index));
    }
    return LS_OK;
}

static int by_key(const void *a, const void *b)
{
    return strcmp((*(const cJSON *const *)a)->string, (*(const cJSON *const *)b)->string);
}

/* The index and the files agree on what lies where. */
static ls_status check_index(const ls_safetensors *self, const cJSON **items, int64_t count, const char *index)
{
    int64_t t = 0;
    qsort(items, (size_t)count, sizeof(void *), by_key);
    for (int64_t i = 0; i < count; i++) {
        if (i > 0 && strcmp(items[i - 1]->string, items[i]->string) == 0)
            return LS_FAIL(LS_BAD_INPUT, "%s names the tensor %s twice", index, items[i]->string);
        const int order = t < self->count ? strcmp(self->tensors[t].name, items[i]->string) : 1;
        if (order < 0) break;
        const char *path = order == 0 ? self->files[self->tensors[t].file] : NULL;
        if (order > 0 || strcmp(strrchr(path, '/') + 1, items[i]->valuestring) != 0)
            return LS_FAIL(LS_BAD_INPUT, "%s says that %s holds the tensor %s, which it does not", index,
                           items[i]->valuestring, items[i]->string);
        t++;
    }
    if (t == self->count) return LS_OK;
    return LS_FAIL(LS_BAD_INPUT, "%s holds the tensor %s, which %s does not name", self->files[self->tensors[t].file],
                   self->tensors[t].name, index);
}

static ls_status open_index(ls_safetensors *out, const char *folder, const char *index)
{
    cJSON *document;
    LS_TRY(ls_json_read_file(&document, index));
    const cJSON *map = cJSON_GetObjectItemCaseSensitive(document, "weight_map"), *item;
    const int64_t count = cJSON_IsObject(map) ? cJSON_GetArraySize(map) : 0;
    ls_status status = count == 0 ? LS_FAIL(LS_BAD_INPUT, "%s has no weight_map, or an empty one", index) : LS_OK;
    if (status == LS_OK) status = open_shards(out, folder, map, index);
    if (status == LS_OK) status = finish(out);
    if (status == LS_OK) {
        const cJSON **items = ls_text_memory(NULL, sizeof(void *) * (size_t)count);
        int64_t i = 0;
        cJSON_ArrayForEach(item, map) items[i++] = item;
        status = check_index(out, items, count, index);
        free(items);
    }
    cJSON_Delete(document);
    return status;
}

ls_status ls_safetensors_open(ls_safetensors *out, const char *folder)
{
    char *single = ls_file_join(folder, "model.safetensors");
    char *index = ls_file_join(folder, "model.safetensors.index.json");
    *out = (ls_safetensors){0};
    ls_status status;
    if (ls_file_exists(single)) {
        status = ls_safetensors_open_file(out, single);
    } else if (ls_file_exists(index)) {
        status = open_index(out, folder, index);
        if (status != LS_OK) ls_safetensors_close(out);
    } else {
        char *pickle = ls_file_join(folder, "pytorch_model.bin");
        char *pickles = ls_file_join(folder, "pytorch_model.bin.index.json");
        status = LS_FAIL(LS_BAD_INPUT, "%s has neither model.safetensors nor model.safetensors.index.json%s", folder,
                         ls_file_exists(pickle) || ls_file_exists(pickles)
                             ? "; save its pytorch_model.bin as safetensors first"
                             : "");
        free(pickle);
        free(pickles);
    }
    free(single);
    free(index);
    return status;
}

void ls_safetensors_close(ls_safetensors *self)
{
    for (int64_t i = 0; i < self->count; i++) free(self->tensors[i].name);
    for (int i = 0; i < self->file_count; i++) {
        (void)close(self->handles[i]);
        free(self->files[i]);
    }
    free(self->tensors);
    free(self->files);
    free(self->handles);
    *self = (ls_safetensors){0};
}

const ls_safetensor *ls_safetensors_find(const ls_safetensors *self, const char *name)
{
    int64_t low = 0, high = self->count;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        const int order = strcmp(self->tensors[middle].name, name);
        if (order == 0) return &self->tensors[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

ls_status ls_safetensors_read(const ls_safetensors *self, const ls_safetensor *tensor, uint64_t first, uint64_t count,
                              void *out)
{
    LS_ASSERT(first <= tensor->bytes && count <= tensor->bytes - first);
    return read_at(self->handles[tensor->file], self->files[tensor->file], out, count, tensor->offset + first);
}
