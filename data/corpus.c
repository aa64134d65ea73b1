/* Listing and reading documents; see corpus.h. */
#include "data/corpus.h"

#include "core/file.h"
#include "core/interrupt.h"
#include "core/text.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void add_source(ls_corpus *corpus, const char *path)
{
    if (corpus->source_count == corpus->source_capacity) {
        corpus->source_capacity = corpus->source_capacity == 0 ? 64 : 2 * corpus->source_capacity;
        corpus->sources = ls_text_memory(corpus->sources, (size_t)corpus->source_capacity * sizeof *corpus->sources);
    }
    corpus->sources[corpus->source_count++] = ls_text_copy(path, strlen(path));
}

/* A document of the source that was added last. */
static ls_status add_document(ls_corpus *corpus, int64_t line, int64_t offset, int64_t length)
{
    if (ls_interrupt_requested()) return LS_FAIL(LS_INTERRUPTED, "interrupted; nothing was written");
    if (corpus->count == corpus->capacity) {
        const int64_t capacity = corpus->capacity == 0 ? 256 : 2 * corpus->capacity;
        ls_document *documents = realloc(corpus->documents, (size_t)capacity * sizeof *documents);
        if (documents == NULL)
            return LS_FAIL(LS_NO_MEMORY, "not enough memory for a list of %lld documents", (long long)capacity);
        corpus->documents = documents;
        corpus->capacity = capacity;
    }
    corpus->documents[corpus->count++] =
        (ls_document){.source = corpus->source_count - 1, .line = line, .offset = offset, .length = length};
    corpus->bytes += length;
    return LS_OK;
}

static bool is_blank(const char *line, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (strchr(" \t\r\n", line[i]) == NULL || line[i] == '\0') return false;
    return true;
}

/* One document a line that is not blank. The file may be larger than memory. */
static ls_status add_lines(ls_corpus *corpus, const char *path)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) return LS_FAIL(LS_IO, "cannot read %s: %s", path, strerror(errno));
    add_source(corpus, path);
    ls_status status = LS_OK;
    char *line = NULL;
    size_t capacity = 0;
    int64_t offset = 0, number = 0;
    for (;;) {
        errno = 0;
        const ssize_t length = status == LS_OK ? getline(&line, &capacity, file) : -1;
        if (length < 0) break;
        number++;
        if (!is_blank(line, (size_t)length)) status = add_document(corpus, number, offset, length);
        offset += length;
    }
    if (status == LS_OK && errno != 0) status = LS_FAIL(LS_IO, "cannot read %s: %s", path, strerror(errno));
    free(line);
    (void)fclose(file);
    if (status == LS_OK && offset == 0) corpus->empty_files++;
    return status;
}

static ls_status add_text(ls_corpus *corpus, const char *path)
{
    char *text;
    size_t length;
    LS_TRY(ls_file_read(&text, &length, path));
    const bool binary = memchr(text, '\0', length) != NULL;
    free(text);
    corpus->binary_files += binary ? 1 : 0;
    corpus->empty_files += length == 0 ? 1 : 0;
    if (binary || length == 0) return LS_OK;
    add_source(corpus, path);
    return add_document(corpus, 0, 0, (int64_t)length);
}

static bool ends_with(const char *text, const char *end)
{
    const size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

static ls_status add_file(ls_corpus *corpus, const char *path)
{
    return ends_with(path, ".jsonl") ? add_lines(corpus, path) : add_text(corpus, path);
}

static ls_status add_named(ls_corpus *corpus, const char *path)
{
    if (corpus->lines_only && !ends_with(path, ".jsonl"))
        return LS_FAIL(LS_BAD_INPUT, "%s: records are read from .jsonl files, one a line", path);
    return add_file(corpus, path);
}

/* A pattern with a slash is for the path below the folder, one without for the name. */
static bool is_included(const ls_corpus *corpus, const char *below)
{
    const char *slash = strrchr(below, '/');
    const char *name = slash != NULL ? slash + 1 : below;
    for (int i = 0; i < corpus->include_count; i++) {
        const char *pattern = corpus->include[i];
        if (fnmatch(pattern, strchr(pattern, '/') != NULL ? below : name, 0) == 0) return true;
    }
    return corpus->include_count == 0;
}

static ls_status visit(const char *path, void *context)
{
    ls_corpus *corpus = context;
    const char *below = path + strlen(corpus->root);
    below += strspn(below, "/");
    const bool hidden = below[0] == '.' || strstr(below, "/.") != NULL;
    if (hidden || !is_included(corpus, below) || (corpus->lines_only && !ends_with(path, ".jsonl"))) return LS_OK;
    return add_file(corpus, path);
}

ls_status ls_corpus_add(ls_corpus *corpus, const char *path)
{
    if (!ls_file_is_folder(path)) return add_named(corpus, path);
    corpus->root = path;
    return ls_file_walk(path, visit, corpus);
}

void ls_corpus_destroy(ls_corpus *corpus)
{
    for (int64_t i = 0; i < corpus->source_count; i++) free(corpus->sources[i]);
    free(corpus->sources);
    free(corpus->documents);
    *corpus = (ls_corpus){0};
}

static ls_status read_part(const char *path, int64_t offset, int64_t length, char **out)
{
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return LS_FAIL(LS_IO, "cannot read %s: %s", path, strerror(errno));
    char *text = malloc((size_t)length + 1);
    ls_status status = LS_OK;
    if (text == NULL) status = LS_FAIL(LS_NO_MEMORY, "not enough memory to read %s", path);
    for (int64_t done = 0; status == LS_OK && done < length;) {
        const ssize_t count = pread(file, text + done, (size_t)(length - done), (off_t)(offset + done));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) status = LS_FAIL(LS_IO, "cannot read %s: %s", path, strerror(errno));
        if (count == 0) status = LS_FAIL(LS_IO, "%s became shorter while it was read", path);
        done += count;
    }
    (void)close(file);
    if (status != LS_OK) {
        free(text);
        return status;
    }
    text[length] = '\0';
    *out = text;
    return LS_OK;
}

/* Says what ls_json_parse said of a nameless text of one line, with the name and number of that line. */
static ls_status refuse_line(const char *path, int64_t line)
{
    const char *said = ls_error_text();
    if (strncmp(said, ":1:", 3) == 0) said += 3;
    return LS_REWORD(LS_BAD_INPUT, "%s:%lld:%s", path, (long long)line, said);
}

ls_status ls_corpus_parse(const ls_corpus *corpus, int64_t number, cJSON **object)
{
    const ls_document *document = &corpus->documents[number];
    const char *path = corpus->sources[document->source];
    char *json = NULL;
    LS_ASSERT(document->line > 0);
    LS_TRY(read_part(path, document->offset, document->length, &json));
    const ls_status status = ls_json_parse(object, json, (size_t)document->length, "");
    free(json);
    return status == LS_OK ? LS_OK : refuse_line(path, document->line);
}

ls_status ls_corpus_blame(const ls_corpus *corpus, int64_t number, ls_status failed)
{
    const ls_document *document = &corpus->documents[number];
    return LS_REWORD(failed, "%s:%lld: %s", corpus->sources[document->source], (long long)document->line,
                     ls_error_text());
}

static ls_status take_field(const ls_corpus *corpus, int64_t number, char **text, size_t *length)
{
    const ls_document *document = &corpus->documents[number];
    const char *path = corpus->sources[document->source];
    cJSON *object;
    LS_TRY(ls_corpus_parse(corpus, number, &object));
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, corpus->text_field);
    ls_status status = LS_OK;
    if (cJSON_IsString(value)) {
        *length = strlen(value->valuestring);
        *text = ls_text_copy(value->valuestring, *length);
    } else {
        status = LS_FAIL(LS_BAD_INPUT, "%s:%lld: not a JSON object with a string \"%s\"; --text-field names another",
                         path, (long long)document->line, corpus->text_field);
    }
    cJSON_Delete(object);
    return status;
}

ls_status ls_corpus_read(const ls_corpus *corpus, int64_t number, char **text, size_t *length)
{
    const ls_document *document = &corpus->documents[number];
    const char *path = corpus->sources[document->source];
    if (document->line == 0) return ls_file_read(text, length, path);
    return take_field(corpus, number, text, length);
}

char *ls_corpus_source_list(const ls_corpus *corpus)
{
    ls_text list = {0};
    ls_text_add(&list, "", 0);
    for (int64_t i = 0; i < corpus->source_count; i++) ls_text_addf(&list, "%s\n", corpus->sources[i]);
    return list.bytes;
}
