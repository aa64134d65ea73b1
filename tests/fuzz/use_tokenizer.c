/* Encoding and decoding by a tokenizer of unknown origin; see use_tokenizer.h. */
#include "use_tokenizer.h"

#include "data/tokenizer.h"
#include "data/utf8.h"

#include <stdlib.h>
#include <string.h>

static const char *const texts[] = {
    "",
    "  a b\tab abab 12 345\r\n\n x'll <s></s><|endoftext|> quuz",
    "\xE2\x96\x81 \xE2\x96\x81\xE2\x96\x81 \xC3\xA9\xE4\xBD\xA0\xF0\x9F\x98\x80\xCC\x81 <0x41>\xFF\xE4\xBD",
};

static void check_status(ls_status status)
{
    if (status != LS_OK && ls_error_text()[0] == '\0') abort();
    ls_error_clear();
}

static void decode(const ls_tokenizer *tokenizer, const int32_t *ids, int64_t count)
{
    char *text = NULL;
    size_t length = 0;
    const ls_status status = ls_tokenizer_decode(tokenizer, ids, count, &text, &length);
    if (status == LS_OK && ls_utf8_valid_prefix(text, length) != length) abort();
    check_status(status);
    free(text);
}

static void encode(const ls_tokenizer *tokenizer, const char *text)
{
    int32_t *ids = NULL;
    int64_t count = 0;
    const ls_status status = ls_tokenizer_encode(tokenizer, text, strlen(text), &ids, &count);
    check_status(status);
    if (status != LS_OK) return;
    for (int64_t i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= ls_tokenizer_vocab_size(tokenizer)) abort();
    decode(tokenizer, ids, count);
    free(ids);
}

void use_tokenizer(const char *json)
{
    ls_tokenizer *tokenizer = NULL;
    if (strcmp(json, "bytes") == 0) return;
    const ls_status status = ls_tokenizer_from_text(&tokenizer, json, "fuzz");
    check_status(status);
    if (status != LS_OK) return;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) encode(tokenizer, texts[i]);
    int32_t ids[40];
    for (int i = 0; i < 40; i++) ids[i] = i * 7 % 41 - 1;
    decode(tokenizer, ids, 40);
    ls_tokenizer_free(tokenizer);
}
