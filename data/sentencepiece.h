/* SentencePiece models (tokenizer.model) of BPE type, as text of a tokenizer.json.
 *
 * What they are made into is a tokenizer.json like those of the Llama family: normalizers that write a blank as U+2581,
 * BPE with byte fallback, a decoder that undoes both, the BOS token in the template. Merges follow from the pieces'
 * scores. The model carries one more member, "sentencepiece", which other readers skip; because of it ls_tokenizer
 * reads text exactly as the `sentencepiece` library does, in what a tokenizer.json cannot say: names of control tokens
 * in a text are plain text, user-defined pieces are found wherever they stand, equal scores are ties, and decoding is
 * that of the library. */
#ifndef LS_DATA_SENTENCEPIECE_H
#define LS_DATA_SENTENCEPIECE_H

#include "core/status.h"

#include <stddef.h>

/* *json is malloc'ed. LS_BAD_INPUT, with the reason, for bytes that are no such model or one that is not supported
 * (Unigram, denormalization, blanks as suffixes). `name` stands for the file in messages. */
ls_status ls_sentencepiece_to_json(char **json, const void *bytes, size_t length, const char *name);

#endif
