/* The tables for other formats: types of tokens, merges, scores, the family, of byte-level and SentencePiece
 * tokenizers. */
#include "data_check.h"

#include "core/text.h"
#include "data/pipeline_json.h"
#include "data/tokenizer_export.h"

#include <stdlib.h>
#include <string.h>

static void open_tables(ls_tokenizer_export *tables, ls_tokenizer **tokenizer, cJSON *document)
{
    CHECK_OK(data_read_tokenizer(tokenizer, document));
    CHECK_OK(ls_tokenizer_export_create(tables, *tokenizer));
}

static void check_family(const char *pre_tokenizer, ls_tokenizer_family family)
{
    ls_tokenizer_export tables;
    ls_tokenizer *tokenizer;
    cJSON *patch = cJSON_CreateObject();
    assert_true(cJSON_AddItemToObject(patch, "pre_tokenizer", cJSON_Parse(pre_tokenizer)));
    open_tables(&tables, &tokenizer, data_patched_json(patch));
    assert_int_equal(tables.family, family);
    ls_tokenizer_export_destroy(&tables);
    ls_tokenizer_free(tokenizer);
    cJSON_Delete(patch);
}

#define BYTE_LEVEL(regex) "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":" regex "}"
#define SEQUENCE(first, second) "{\"type\":\"Sequence\",\"pretokenizers\":[" first "," second "]}"

static void test_families(void **state)
{
    (void)state;
    check_family(BYTE_LEVEL("true"), LS_FAMILY_GPT2);
    check_family(BYTE_LEVEL("false"), LS_FAMILY_OTHER);
    check_family(SEQUENCE("{\"type\":\"Digits\",\"individual_digits\":true}", BYTE_LEVEL("true")), LS_FAMILY_SMOLLM2);
    check_family(SEQUENCE("{\"type\":\"Digits\",\"individual_digits\":false}", BYTE_LEVEL("true")), LS_FAMILY_OTHER);
    cJSON *pattern = cJSON_CreateString(LS_LLAMA3_PATTERN);
    char *quoted = cJSON_PrintUnformatted(pattern);
    char *text = ls_text_format(
        SEQUENCE("{\"type\":\"Split\",\"pattern\":{\"Regex\":%s},\"behavior\":\"Isolated\"}", BYTE_LEVEL("false")),
        quoted);
    check_family(text, LS_FAMILY_LLAMA3);
    free(text);
    cJSON_free(quoted);
    cJSON_Delete(pattern);
}

static void test_byte_level(void **state)
{
    (void)state;
    for (int strings = 0; strings < 2; strings++) {
        cJSON *patch = cJSON_Parse(strings ? "{\"string_merges\":true}" : "{}");
        ls_tokenizer_export tables;
        ls_tokenizer *tokenizer;
        open_tables(&tables, &tokenizer, data_patched_json(patch));
        assert_int_equal(tables.token_count, 4096);
        assert_string_equal(tables.tokens[0].text, "<|endoftext|>");
        assert_int_equal(tables.tokens[0].type, LS_TOKEN_CONTROL);
        assert_int_equal(tables.tokens[4000].type, LS_TOKEN_NORMAL);
        assert_int_equal(tables.merge_count, 4096 - 256 - 1);
        assert_int_equal(tables.begin, -1);
        assert_int_equal(tables.end, 0);
        assert_false(tables.adds_begin || tables.adds_end || tables.adds_blank);
        for (int64_t i = 0; i < tables.merge_count; i++) { /* merges in the order of the tokens they make */
            char *whole = ls_text_format("%s%s", tables.merges[i].left, tables.merges[i].right);
            assert_string_equal(whole, tables.tokens[257 + i].text);
            free(whole);
        }
        ls_tokenizer_export_destroy(&tables);
        ls_tokenizer_free(tokenizer);
        cJSON_Delete(patch);
    }
}

static void test_sentencepiece(void **state)
{
    (void)state;
    static const char json[] =
        "{\"added_tokens\":[{\"id\":0,\"content\":\"<unk>\",\"special\":true},{\"id\":1,\"content\":\"<s>\","
        "\"special\":"
        "true},{\"id\":2,\"content\":\"</s>\",\"special\":true},{\"id\":10,\"content\":\"quuz\",\"special\":false}],"
        "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"\\u2581\"}]},"
        "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},"
        "{\"Sequence\":{\"id\":\"A\"}}],\"special_tokens\":{\"<s>\":{\"ids\":[1]}}},"
        "\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"byte_fallback\":true,\"vocab\":{\"<unk>\":0,\"<s>\":1,"
        "\"</s>\":2,\"<0x41>\":3,\"\\u2581\":4,\"a\":5,\"b\":6,\"ab\":7,\"\\u2581ab\":8},\"merges\":[\"a b\",\"\\u2581 "
        "ab\"]}}";
    ls_tokenizer_export tables;
    ls_tokenizer *tokenizer;
    open_tables(&tables, &tokenizer, cJSON_Parse(json));
    static const ls_token_type types[] = {LS_TOKEN_UNKNOWN, LS_TOKEN_CONTROL, LS_TOKEN_CONTROL,     LS_TOKEN_BYTE,
                                          LS_TOKEN_NORMAL,  LS_TOKEN_NORMAL,  LS_TOKEN_NORMAL,      LS_TOKEN_NORMAL,
                                          LS_TOKEN_NORMAL,  LS_TOKEN_UNUSED,  LS_TOKEN_USER_DEFINED};
    assert_int_equal(tables.token_count, 11);
    for (int i = 0; i < 11; i++) assert_int_equal(tables.tokens[i].type, types[i]);
    assert_int_equal(tables.family, LS_FAMILY_SENTENCEPIECE);
    assert_true(tables.adds_begin && !tables.adds_end && tables.adds_blank);
    assert_int_equal(tables.begin, 1);
    assert_int_equal(tables.end, 2);
    assert_int_equal(tables.unknown, 0);
    assert_string_equal(tables.merges[1].right, "ab");
    assert_true(tables.tokens[7].score > tables.tokens[8].score && tables.tokens[8].score > tables.tokens[5].score);
    ls_tokenizer_export_destroy(&tables);
    ls_tokenizer_free(tokenizer);
}

static void test_bytes_are_refused(void **state)
{
    (void)state;
    ls_tokenizer *tokenizer = data_byte_tokenizer();
    ls_tokenizer_export tables;
    CHECK_REFUSED(ls_tokenizer_export_create(&tables, tokenizer), LS_BAD_INPUT, "byte tokenizer");
    ls_tokenizer_export_destroy(&tables);
    ls_tokenizer_free(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_families),
        cmocka_unit_test(test_byte_level),
        cmocka_unit_test(test_sentencepiece),
        cmocka_unit_test(test_bytes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
