/* Records of supervised fine-tuning as tokens: what is given, then what is to be learnt.
 *
 * What is given and what is to be learnt are encoded apart, the second as a text that stands behind the first. So the
 * border between them is a border of tokens, as it is when a prompt is continued, whatever the tokenizer would have
 * made of both together. Called by encode_batch.c. */
#ifndef LS_DATA_RECORD_H
#define LS_DATA_RECORD_H

#include "core/json.h"
#include "data/chat.h"

typedef struct ls_record_format {
    const char *prompt, *completion; /* templates (template.h), for LS_CHAT_NONE */
    ls_chat chat;                    /* else: {"messages": [{"role": ..., "content": ...}, ...]} */
    bool train_on_prompt;            /* everything is to be learnt */
} ls_record_format;

/* Without the tokenizer's prefix and end of text; ls_token_writer_add_record puts these around it. */
typedef struct ls_record {
    int32_t *ids;     /* [count] */
    uint8_t *targets; /* [count] 1: to be learnt */
    int64_t count;
    size_t bytes; /* of the text */
} ls_record;

/* Refuses a template that is wrong, and a chat whose special tokens are no added tokens of the tokenizer. */
ls_status ls_record_check(const ls_record_format *format, const ls_tokenizer *tokenizer);
/* `object`: a line of the file. LS_BAD_INPUT says what the line lacks. To be learnt are the completion, or each of the
 * assistant's messages with the token that ends it; what follows the last of these is left out. The arrays are
 * malloc'ed, NULL after a failure. Thread-safe. */
ls_status ls_record_encode(ls_record *out, const ls_record_format *format, const ls_tokenizer *tokenizer,
                           const cJSON *object);

#endif
