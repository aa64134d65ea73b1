/* The documents that `prepare` reads: which there are, and the text of each.
 *
 * Listing them looks at every file once (sizes, lines of a .jsonl, NUL bytes), so that the held-out split can be chosen
 * and progress told before the first is encoded. The list depends on the files alone. */
#ifndef LS_DATA_CORPUS_H
#define LS_DATA_CORPUS_H

#include "core/json.h"
#include "core/status.h"

#include <stdint.h>

typedef struct ls_document {
    int64_t source; /* index of its file */
    int64_t line;   /* of a .jsonl, from 1; 0: the document is the whole file */
    int64_t offset, length;
} ls_document;

typedef struct ls_corpus {
    const char *const *include; /* [include_count] patterns for files found in folders; none: all */
    int include_count;
    const char *text_field; /* of a .jsonl line */
    bool lines_only;        /* take .jsonl files alone from folders, and refuse others that are named */

    char **sources; /* [source_count] paths */
    int64_t source_count, source_capacity;
    ls_document *documents; /* [count] in the order of the sources and of their lines */
    int64_t count, capacity;
    int64_t bytes; /* of all documents */
    int64_t binary_files, empty_files;
    const char *root; /* the argument being walked */
} ls_corpus;

/* Adds a file, or the files below a folder that match `include` and are not hidden, in byte order of their paths. Files
 * that hold a NUL byte are counted as binary and left out. Set include, text_field and lines_only first, the rest to
 * zero. */
ls_status ls_corpus_add(ls_corpus *corpus, const char *path);
void ls_corpus_destroy(ls_corpus *corpus);
/* The text of one document; malloc'ed. Thread-safe. */
ls_status ls_corpus_read(const ls_corpus *corpus, int64_t document, char **text, size_t *length);
/* The object on a document's line of a .jsonl; cJSON_Delete it. Thread-safe. */
ls_status ls_corpus_parse(const ls_corpus *corpus, int64_t document, cJSON **object);
/* Says again what failed, with the document's file and line before it. */
ls_status ls_corpus_blame(const ls_corpus *corpus, int64_t document, ls_status failed);
/* The paths, one a line; malloc'ed. */
char *ls_corpus_source_list(const ls_corpus *corpus);

#endif
