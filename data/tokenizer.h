/* Text to token ids and back.
 *
 * Two kinds: "bytes" (256 byte ids, then <|endoftext|> = 256; vocabulary 257), and BPE as a Hugging Face tokenizer.json
 * or a SentencePiece tokenizer.model says (docs/tokenizers.md lists what is understood). A component that is not
 * understood is refused by name, never ignored; only truncation and padding are left to the caller. */
#ifndef LS_DATA_TOKENIZER_H
#define LS_DATA_TOKENIZER_H

#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ls_tokenizer ls_tokenizer;

/* `source`: "bytes", or the path of a tokenizer.json, of a SentencePiece model (NAME.model), or of a folder that holds
 * tokenizer.json or else tokenizer.model. */
ls_status ls_tokenizer_open(ls_tokenizer **out, const char *source);
/* From text kept in a token file or checkpoint ("bytes" or the JSON); `name` stands for it in messages. */
ls_status ls_tokenizer_from_text(ls_tokenizer **out, const char *text, const char *name);
/* The text that ls_tokenizer_from_text takes, of a file or folder; malloc'ed. A SentencePiece model becomes the text of
 * a tokenizer.json. */
ls_status ls_tokenizer_read_text(char **text, const char *source);
void ls_tokenizer_free(ls_tokenizer *tokenizer);

/* What ls_tokenizer_from_text takes back; owned by the tokenizer. */
const char *ls_tokenizer_text(const ls_tokenizer *tokenizer);
uint64_t ls_tokenizer_hash(const ls_tokenizer *tokenizer);       /* of that text */
uint64_t ls_tokenizer_hash_text(const char *text);               /* FNV-1a */
int64_t ls_tokenizer_vocab_size(const ls_tokenizer *tokenizer);  /* highest id + 1 */
int32_t ls_tokenizer_end_of_text(const ls_tokenizer *tokenizer); /* -1: none */

/* When BOS and EOS are added: what stands around a text is the tokenizer's template (the post_processor), which is two
 * lists of ids, often empty. Encoding itself adds neither.
 *   - A prompt that is to be continued begins with the prefix and does not end with the suffix.
 *   - A document of a token file begins with the prefix and ends with the suffix and the end-of-text token (once, where
 *     they are the same); ls_token_writer_add sees to that. */
const int32_t *ls_tokenizer_prefix(const ls_tokenizer *tokenizer, int64_t *count); /* [*count] */
const int32_t *ls_tokenizer_suffix(const ls_tokenizer *tokenizer, int64_t *count); /* [*count] */

/* *ids is malloc'ed [*count]; equal to those of the `tokenizers` library without special tokens added, or of the
 * `sentencepiece` library. Thread-safe on one tokenizer. Bytes that are not UTF-8 are read as U+FFFD, one for each
 * longest beginning of a character, as Python's bytes.decode("utf-8", "replace") has it; the byte kind keeps them. */
ls_status ls_tokenizer_encode(const ls_tokenizer *tokenizer, const char *text, size_t length, int32_t **ids,
                              int64_t *count);
/* The same for a text that stands behind other text, which has been encoded: a tokenizer that puts a blank before a
 * text (SentencePiece's dummy prefix, add_prefix_space) or takes blanks from its beginning does neither. */
ls_status ls_tokenizer_encode_behind(const ls_tokenizer *tokenizer, const char *text, size_t length, int32_t **ids,
                                     int64_t *count);
/* The text of one token as the tokenizer's file writes it (byte-level: in the byte alphabet); owned by the tokenizer,
 * NUL-terminated only by chance. "" when no token has this id. */
const char *ls_tokenizer_token_text(const ls_tokenizer *tokenizer, int32_t id, size_t *length);
/* *text is malloc'ed and NUL-terminated: the libraries' text of these ids, special tokens by their names
 * (tokenizer.json) or left out (SentencePiece). U+FFFD stands for bytes that are no UTF-8; the byte kind gives the
 * bytes back. Text of a few tokens need not be a part of the text of more: a character, or the blank that begins a
 * text, may be cut. */
ls_status ls_tokenizer_decode(const ls_tokenizer *tokenizer, const int32_t *ids, int64_t count, char **text,
                              size_t *length);

#endif
