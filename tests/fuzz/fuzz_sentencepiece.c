/* SentencePiece models: the conversion, and the tokenizer that comes of it. */
#include "core/text.h"
#include "data/sentencepiece.h"
#include "use_tokenizer.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *json = NULL;
    if (ls_sentencepiece_to_json(&json, data, size, "fuzz") == LS_OK) use_tokenizer(json);
    ls_error_clear();
    free(json);
    return 0;
}
