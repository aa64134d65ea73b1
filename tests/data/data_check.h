/* Helpers of the tests in this folder: the shipped tokenizer, patched copies of it, small token files. */
#ifndef LS_TESTS_DATA_CHECK_H
#define LS_TESTS_DATA_CHECK_H

#include "core/json.h"
#include "data/token_writer.h"
#include "data/tokenizer.h"
#include "tests/core/core_check.h"

/* "folder of the sources/name"; the text lives until the next call. */
const char *data_source_path(const char *name);
/* The shipped tokenizer.json; free with cJSON_Delete. */
cJSON *data_shipped_json(void);
/* data_shipped_json() with `patch` (JSON text, or NULL) laid over it: its keys replace those of the document, the keys
 * of its "model" those of the model, and "string_merges" writes each merge as "a b". */
cJSON *data_patched_json(const cJSON *patch);
/* The status of reading it as a tokenizer; the tokenizer is freed when out is NULL. Deletes `document`. */
ls_status data_read_tokenizer(ls_tokenizer **out, cJSON *document);

ls_tokenizer *data_byte_tokenizer(void);
/* A token file with one document a text in each split (NULL-terminated lists), by the byte tokenizer. */
void data_write_token_file(const char *path, const char *const *train, const char *const *validation);

/* The same with one record a text, prompt|completion. */
void data_write_record_file(const char *path, const char *const *train, const char *const *validation);

/* Bytes that a fixture writes in hexadecimal; malloc'ed, NUL-terminated. */
char *data_from_hex(const char *hex, size_t *length);
/* The tokenizer of a fixture's case: a SentencePiece model in hexadecimal, or a tokenizer.json. */
ls_tokenizer *data_fixture_tokenizer(const cJSON *file);

#endif
