/* Text to token ids and back.
 *
 * Two kinds: "bytes" (256 byte ids, then <|endoftext|> = 256; vocabulary 257), and byte-level BPE read from a Hugging
 * Face tokenizer.json (GPT-2 style: optional ByteLevel/Split pre-tokenizer regex through PCRE2, added and special
 * tokens). A component that is not understood is refused by name, never ignored; only what adds tokens around a text
 * (post_processor, truncation, padding) is left to the caller. */
#ifndef LS_DATA_TOKENIZER_H
#define LS_DATA_TOKENIZER_H

#include "core/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct ls_tokenizer ls_tokenizer;

/* `source`: "bytes", or the path of a tokenizer.json, or of a folder that holds one. */
ls_status ls_tokenizer_open(ls_tokenizer **out, const char *source);
/* From text kept in a token file or checkpoint ("bytes" or the JSON); `name` stands for it in messages. */
ls_status ls_tokenizer_from_text(ls_tokenizer **out, const char *text, const char *name);
void ls_tokenizer_free(ls_tokenizer *tokenizer);

/* What ls_tokenizer_from_text takes back; owned by the tokenizer. */
const char *ls_tokenizer_text(const ls_tokenizer *tokenizer);
uint64_t ls_tokenizer_hash(const ls_tokenizer *tokenizer);       /* of that text */
uint64_t ls_tokenizer_hash_text(const char *text);               /* FNV-1a */
int64_t ls_tokenizer_vocab_size(const ls_tokenizer *tokenizer);  /* highest id + 1 */
int32_t ls_tokenizer_end_of_text(const ls_tokenizer *tokenizer); /* -1: none */

/* Appends nothing by itself (no BOS/EOS). *ids is malloc'ed [*count]. Thread-safe on one tokenizer.
 * Invalid UTF-8 is encoded byte by byte, so decode(encode(x)) == x for every byte string, unless the tokenizer.json
 * itself puts a space before text (add_prefix_space), drops matches (Split Removed) or strips beside an added token. */
ls_status ls_tokenizer_encode(const ls_tokenizer *tokenizer, const char *text, size_t length, int32_t **ids,
                              int64_t *count);
/* The bytes of one token (special tokens: their text); owned by the tokenizer. */
const char *ls_tokenizer_token_bytes(const ls_tokenizer *tokenizer, int32_t id, size_t *length);
/* malloc'ed, NUL-terminated concatenation of the tokens' bytes. */
ls_status ls_tokenizer_decode(const ls_tokenizer *tokenizer, const int32_t *ids, int64_t count, char **text,
                              size_t *length);

#endif
