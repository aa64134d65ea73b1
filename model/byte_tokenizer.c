/* The byte tokenizer as a tokenizer.json: byte-level BPE whose vocabulary is the 256 bytes, without merges. */
#include "core/json.h"
#include "core/text.h"
#include "model/export.h"

#include <string.h>

enum { END_OF_TEXT = 256 };

/* How byte-level BPE writes a byte (Radford et al. 2019): printable Latin-1 as itself, the rest from U+0100 on. */
static void write_byte(char text[5], int byte)
{
    int character = byte, moved = 0;
    for (int b = 0; b <= byte; b++) {
        const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF);
        if (b == byte && !printable) character = 256 + moved;
        moved += !printable;
    }
    if (character < 0x80) {
        text[0] = (char)character;
        text[1] = '\0';
    } else {
        text[0] = (char)(0xC0 | character >> 6);
        text[1] = (char)(0x80 | (character & 0x3F));
        text[2] = '\0';
    }
}

static cJSON *byte_level(const char *key, cJSON *document)
{
    cJSON *object = cJSON_AddObjectToObject(document, key);
    (void)cJSON_AddStringToObject(object, "type", "ByteLevel");
    (void)cJSON_AddBoolToObject(object, "add_prefix_space", false);
    (void)cJSON_AddBoolToObject(object, "trim_offsets", true);
    (void)cJSON_AddBoolToObject(object, "use_regex", false);
    return object;
}

static void add_end_of_text(cJSON *document)
{
    cJSON *token = cJSON_CreateObject();
    (void)cJSON_AddNumberToObject(token, "id", END_OF_TEXT);
    (void)cJSON_AddStringToObject(token, "content", "<|endoftext|>");
    const char *const flags[] = {"single_word", "lstrip", "rstrip", "normalized"};
    for (int i = 0; i < 4; i++) (void)cJSON_AddBoolToObject(token, flags[i], false);
    (void)cJSON_AddBoolToObject(token, "special", true);
    cJSON_AddItemToArray(cJSON_AddArrayToObject(document, "added_tokens"), token);
}

static char *byte_tokenizer_text(void)
{
    cJSON *document = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(document, "version", "1.0");
    (void)cJSON_AddNullToObject(document, "truncation");
    (void)cJSON_AddNullToObject(document, "padding");
    add_end_of_text(document);
    (void)cJSON_AddNullToObject(document, "normalizer");
    (void)byte_level("pre_tokenizer", document);
    (void)cJSON_AddNullToObject(document, "post_processor");
    (void)byte_level("decoder", document);
    cJSON *model = cJSON_AddObjectToObject(document, "model");
    (void)cJSON_AddStringToObject(model, "type", "BPE");
    cJSON *vocabulary = cJSON_AddObjectToObject(model, "vocab");
    for (int byte = 0; byte < END_OF_TEXT; byte++) {
        char text[5];
        write_byte(text, byte);
        (void)cJSON_AddNumberToObject(vocabulary, text, byte);
    }
    (void)cJSON_AddNumberToObject(vocabulary, "<|endoftext|>", END_OF_TEXT);
    (void)cJSON_AddArrayToObject(model, "merges");
    char *raw = cJSON_Print(document);
    char *text = ls_text_copy(raw, strlen(raw));
    cJSON_free(raw);
    cJSON_Delete(document);
    return text;
}

char *ls_export_tokenizer_text(const ls_export *self)
{
    const char *text = self->source.tokenizer;
    return strcmp(text, "bytes") == 0 ? byte_tokenizer_text() : ls_text_copy(text, strlen(text));
}
