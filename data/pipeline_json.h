/* Reads the pre_tokenizer of a tokenizer.json into stages. Called by tokenizer_json.c. */
#ifndef LS_DATA_PIPELINE_JSON_H
#define LS_DATA_PIPELINE_JSON_H

#include "data/pre_tokenizer.h"

#include <cjson/cJSON.h>

/* ByteLevel, alone or as the last of a Sequence with Split and Digits before it. Anything else is LS_BAD_INPUT by its
 * name. `out` is empty before; ls_pre_tokenizer_destroy frees it after a failure too. */
ls_status ls_pipeline_read(ls_pre_tokenizer *out, const cJSON *pre_tokenizer, const char *name);

#endif
