/* tokenizer.json as the tokenizer's reader meets it. */
#include "core/text.h"
#include "use_tokenizer.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *json = ls_text_copy((const char *)data, size);
    use_tokenizer(json);
    free(json);
    return 0;
}
