/* Reads the components of a tokenizer.json around its model. Called by tokenizer_json.c.
 *
 * A component that is not understood is LS_BAD_INPUT, by its name; `name` stands for the file. What is filled in is
 * zeroed before, and its destroy function frees it after a failure too. A NULL or null component is an empty one. */
#ifndef LS_DATA_PIPELINE_JSON_H
#define LS_DATA_PIPELINE_JSON_H

#include "data/bpe.h"
#include "data/detokenizer.h"
#include "data/normalizer.h"
#include "data/pre_tokenizer.h"

#include <cjson/cJSON.h>

/* Prepend, Replace, with `charsmaps` Precompiled as SentencePiece reads it, and a Sequence of them. */
ls_status ls_normalizer_read(ls_normalizer *out, const cJSON *normalizer, bool charsmaps, const char *name);
/* Split, Digits, Metaspace, ByteLevel, and a Sequence of them in which nothing follows ByteLevel. *byte_level: it is
 * there. */
ls_status ls_pre_tokenizer_read(ls_pre_tokenizer *out, bool *byte_level, const cJSON *pre_tokenizer, const char *name);
/* ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace, and a Sequence of them. */
ls_status ls_detokenizer_read(ls_detokenizer *out, const cJSON *decoder, const char *name);
/* What a post_processor puts before and behind a text: TemplateProcessing, BertProcessing, RobertaProcessing, ByteLevel
 * (nothing), and a Sequence of them. Ids are below `vocab_size`. */
ls_status ls_template_read(ls_ids *prefix, ls_ids *suffix, const cJSON *post_processor, int64_t vocab_size,
                           const char *name);
/* The pattern and content of a Replace, normalizer or decoder. */
ls_status ls_replacement_read(ls_replacement *out, const cJSON *replace, const char *name);

#endif
