/* Text with the fields of a record put in: "Question: {question}\nAnswer:".
 *
 * {name} is what stands under that name in a JSON object: a string, a number as the file writes whole ones, true or
 * false, or a list of these, one a line. {{ and }} are braces; \n, \t and \\ are what they are in C, so that a command
 * line can write them. Called for fine-tuning records and for tasks. */
#ifndef LS_DATA_TEMPLATE_H
#define LS_DATA_TEMPLATE_H

#include "core/json.h"

/* LS_BAD_INPUT for a brace or backslash that means nothing; `what` names the template, for example "--prompt". */
ls_status ls_template_check(const char *text, const char *what);
/* *out: malloc'ed [*length], NUL-terminated. `text` has passed the check. LS_BAD_INPUT, naming the field, where
 * `record` is no object, or lacks a field, or has there what is no text. */
ls_status ls_template_fill(const char *text, const cJSON *record, char **out, size_t *length);

#endif
