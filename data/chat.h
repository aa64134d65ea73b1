/* How a conversation is written down for a model: the styles that chat models are trained with.
 *
 * A message is begin ROLE middle TEXT end, with `between` before the next. Called by record.c for training and by
 * `generate` for the prompt, so that both write the same. */
#ifndef LS_DATA_CHAT_H
#define LS_DATA_CHAT_H

#include "core/text.h"
#include "data/tokenizer.h"

typedef enum ls_chat {
    LS_CHAT_NONE = 0, /* no conversation */
    LS_CHAT_CHATML,   /* <|im_start|>ROLE\nTEXT<|im_end|>\n */
    LS_CHAT_LLAMA3, /* <|start_header_id|>ROLE<|end_header_id|>\n\nTEXT<|eot_id|>, TEXT without white space around it */
} ls_chat;

extern const char *const ls_chat_names[]; /* NULL-terminated, in enum order */

/* Refuses a tokenizer that has not the style's special tokens, each as one token. */
ls_status ls_chat_check(ls_chat chat, const ls_tokenizer *tokenizer);
/* Appends a message as far as its text begins. */
void ls_chat_open(ls_text *out, ls_chat chat, const char *role);
/* content[*length] as the style takes it: some have no white space around it. */
const char *ls_chat_content(ls_chat chat, const char *content, size_t *length);
/* Appends the end of a message, and what stands between it and the next. */
void ls_chat_close(ls_text *out, ls_chat chat);
/* The special token that ends a message, and its id for a tokenizer that has passed the check. */
const char *ls_chat_end(ls_chat chat);
ls_status ls_chat_end_id(int32_t *id, ls_chat chat, const ls_tokenizer *tokenizer);
/* Appends what an answer to `user` begins with: both messages (system NULL: none), and the opening of the answer. */
void ls_chat_ask(ls_text *out, ls_chat chat, const char *system, const char *user, size_t user_length);

#endif
