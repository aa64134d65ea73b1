/* tokenize_lines TOKENIZER encode|decode: many texts through a tokenizer, for compare_tokenizers.py.
 *
 * A record is a count (uint32, this machine's order) and so many items: bytes of a text, or ids (int32). Encoding reads
 * texts and writes ids, decoding the other way round, record for record. */
#include "core/status.h"
#include "data/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Reads a record into *items (grown as needed). False at the end of the input. */
static bool read_record(char **items, size_t *capacity, uint32_t *count, size_t width)
{
    if (fread(count, sizeof *count, 1, stdin) != 1) return false;
    const size_t bytes = *count * width;
    if (bytes >= *capacity) {
        *capacity = 2 * bytes + 64;
        *items = realloc(*items, *capacity);
    }
    return *items != NULL && fread(*items, 1, bytes, stdin) == bytes;
}

static bool write_record(const void *items, size_t count, size_t width)
{
    const uint32_t size = (uint32_t)count;
    return fwrite(&size, sizeof size, 1, stdout) == 1 && fwrite(items, width, count, stdout) == count;
}

static ls_status run(const ls_tokenizer *tokenizer, bool encode)
{
    char *items = NULL;
    size_t capacity = 0;
    uint32_t count;
    ls_status status = LS_OK;
    while (status == LS_OK && read_record(&items, &capacity, &count, encode ? 1 : sizeof(int32_t))) {
        int32_t *ids = NULL;
        char *text = NULL;
        int64_t id_count = 0;
        size_t length = 0;
        if (encode)
            status = ls_tokenizer_encode(tokenizer, items, count, &ids, &id_count);
        else
            status = ls_tokenizer_decode(tokenizer, (const int32_t *)(const void *)items, count, &text, &length);
        if (status == LS_OK &&
            !(encode ? write_record(ids, (size_t)id_count, sizeof *ids) : write_record(text, length, 1)))
            status = LS_FAIL(LS_IO, "cannot write the result");
        free(ids);
        free(text);
    }
    free(items);
    return status;
}

int main(int argc, char **argv)
{
    ls_tokenizer *tokenizer = NULL;
    if (argc != 3) {
        (void)fprintf(stderr, "usage: tokenize_lines TOKENIZER encode|decode\n");
        return 2;
    }
    ls_status status = ls_tokenizer_open(&tokenizer, argv[1]);
    if (status == LS_OK) status = run(tokenizer, strcmp(argv[2], "encode") == 0);
    if (status != LS_OK) (void)fprintf(stderr, "tokenize_lines: %s\n", ls_error_text());
    ls_tokenizer_free(tokenizer);
    return status == LS_OK ? 0 : 2;
}
