/* What the targets for tokenizers do with one that could be read. */
#ifndef LS_TESTS_FUZZ_USE_TOKENIZER_H
#define LS_TESTS_FUZZ_USE_TOKENIZER_H

/* Reads `json` as a tokenizer, and where that works encodes and decodes a few texts. Aborts on an id that is not in the
 * vocabulary, on a text that is not UTF-8, and on a failure without a reason. */
void use_tokenizer(const char *json);

#endif
