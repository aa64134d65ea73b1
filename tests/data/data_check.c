/* The shipped tokenizer and patched copies of it, small token files; see data_check.h. */
#include "data_check.h"

#include "core/text.h"
#include "data/sentencepiece.h"

#include <stdlib.h>
#include <string.h>

const char *data_source_path(const char *name)
{
    static char path[4096];
    (void)snprintf(path, sizeof path, "%s/%s", LS_SOURCE_DIR, name);
    return path;
}

cJSON *data_shipped_json(void)
{
    cJSON *document = NULL;
    CHECK_OK(ls_json_read_file(&document, data_source_path("data/tokenizers/python-4096/tokenizer.json")));
    return document;
}

static void write_merges_as_strings(cJSON *model)
{
    cJSON *merges = cJSON_CreateArray();
    const cJSON *pair;
    cJSON_ArrayForEach(pair, cJSON_GetObjectItem(model, "merges"))
    {
        char *text = ls_text_format("%s %s", pair->child->valuestring, pair->child->next->valuestring);
        assert_true(cJSON_AddItemToArray(merges, cJSON_CreateString(text)));
        free(text);
    }
    assert_true(cJSON_ReplaceItemInObjectCaseSensitive(model, "merges", merges));
}

static void lay_over(cJSON *object, const cJSON *patch)
{
    cJSON_DeleteItemFromObjectCaseSensitive(object, patch->string);
    assert_true(cJSON_AddItemToObject(object, patch->string, cJSON_Duplicate(patch, 1)));
}

cJSON *data_patched_json(const cJSON *patch)
{
    cJSON *document = data_shipped_json();
    cJSON *model = cJSON_GetObjectItem(document, "model");
    const cJSON *item, *inner;
    cJSON_ArrayForEach(item, patch)
    {
        if (strcmp(item->string, "string_merges") == 0) {
            write_merges_as_strings(model);
        } else if (strcmp(item->string, "model") == 0 && cJSON_IsObject(item)) {
            cJSON_ArrayForEach(inner, item) lay_over(model, inner);
        } else {
            lay_over(document, item);
        }
    }
    return document;
}

ls_status data_read_tokenizer(ls_tokenizer **out, cJSON *document)
{
    char *text = cJSON_PrintUnformatted(document);
    ls_tokenizer *tokenizer = NULL;
    const ls_status status = ls_tokenizer_from_text(&tokenizer, text, "tokenizer.json");
    cJSON_free(text);
    cJSON_Delete(document);
    if (out != NULL)
        *out = tokenizer;
    else
        ls_tokenizer_free(tokenizer);
    return status;
}

ls_tokenizer *data_byte_tokenizer(void)
{
    ls_tokenizer *tokenizer = NULL;
    CHECK_OK(ls_tokenizer_open(&tokenizer, "bytes"));
    return tokenizer;
}

void data_write_token_file(const char *path, const char *const *train, const char *const *validation)
{
    ls_tokenizer *tokenizer = data_byte_tokenizer();
    ls_token_writer *writer = NULL;
    CHECK_OK(ls_token_writer_create(&writer, path, tokenizer));
    const char *const *lists[2] = {train, validation};
    for (int split = 0; split < 2; split++) {
        for (int i = 0; lists[split][i] != NULL; i++) {
            int32_t *ids;
            int64_t count;
            CHECK_OK(ls_tokenizer_encode(tokenizer, lists[split][i], strlen(lists[split][i]), &ids, &count));
            CHECK_OK(ls_token_writer_add(writer, (ls_split)split, ids, count));
            free(ids);
        }
    }
    CHECK_OK(ls_token_writer_commit(writer, "a\nb\n"));
    ls_token_writer_destroy(writer);
    ls_tokenizer_free(tokenizer);
}

static void add_record(ls_token_writer *writer, ls_split split, const char *text)
{
    int32_t ids[4096];
    uint8_t targets[4096];
    int64_t count = 0;
    bool learnt = false;
    for (; *text != '\0'; text++) {
        if (*text == '|') {
            learnt = true;
            continue;
        }
        targets[count] = learnt;
        ids[count++] = (unsigned char)*text;
    }
    CHECK_OK(ls_token_writer_add_record(writer, split, ids, targets, count));
}

void data_write_record_file(const char *path, const char *const *train, const char *const *validation)
{
    ls_tokenizer *tokenizer = data_byte_tokenizer();
    ls_token_writer *writer = NULL;
    CHECK_OK(ls_token_writer_create_records(&writer, path, tokenizer));
    const char *const *lists[2] = {train, validation};
    for (int split = 0; split < 2; split++)
        for (int i = 0; lists[split][i] != NULL; i++) add_record(writer, (ls_split)split, lists[split][i]);
    CHECK_OK(ls_token_writer_commit(writer, "a\n"));
    ls_token_writer_destroy(writer);
    ls_tokenizer_free(tokenizer);
}

char *data_from_hex(const char *hex, size_t *length)
{
    *length = strlen(hex) / 2;
    char *text = ls_text_memory(NULL, *length + 1);
    for (size_t i = 0; i < *length; i++) {
        const char pair[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        text[i] = (char)strtoul(pair, NULL, 16);
    }
    text[*length] = '\0';
    return text;
}

ls_tokenizer *data_fixture_tokenizer(const cJSON *file)
{
    ls_tokenizer *tokenizer = NULL;
    size_t length = 0;
    char *json = NULL;
    if (cJSON_IsString(file)) {
        char *bytes = data_from_hex(file->valuestring, &length);
        CHECK_OK(ls_sentencepiece_to_json(&json, bytes, length, "fixture"));
        free(bytes);
    } else {
        json = cJSON_PrintUnformatted(file);
    }
    CHECK_OK(ls_tokenizer_from_text(&tokenizer, json, "fixture"));
    free(json);
    return tokenizer;
}
