/* JSON in and out: thin helpers over cJSON. */
#ifndef LS_CORE_JSON_H
#define LS_CORE_JSON_H

#include "core/status.h"

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdio.h>

/* Parses `length` bytes; on failure the sentence names `name`, line and column. Free with cJSON_Delete. */
ls_status ls_json_parse(cJSON **out, const char *text, size_t length, const char *name);
ls_status ls_json_read_file(cJSON **out, const char *path);
/* Writes one document and a newline; consumes nothing. Non-finite numbers become null. */
ls_status ls_json_print(FILE *file, const cJSON *document, bool pretty);

#endif
