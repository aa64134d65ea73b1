/* JSON in and out: thin helpers over cJSON. */
#ifndef LS_CORE_JSON_H
#define LS_CORE_JSON_H

#include "core/status.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Parses `length` bytes (no NUL needed after them); on failure the sentence names `name`, line and column. A NUL inside
 * a string, raw or escaped, is refused: cJSON would silently cut the string there. Free with cJSON_Delete. */
ls_status ls_json_parse(cJSON **out, const char *text, size_t length, const char *name);
ls_status ls_json_read_file(cJSON **out, const char *path);
/* Writes one document and a newline, and flushes; consumes nothing. Non-finite numbers become null, bytes that are not
 * UTF-8 become U+FFFD. */
ls_status ls_json_print(FILE *file, const cJSON *document, bool pretty);

#endif
