/* What a tokenizer.json may hold, and that everything else is refused by its name. */
#include "data_check.h"

#include <stdlib.h>
#include <string.h>

static void check_refused(const char *patch, const char *part)
{
    cJSON *parsed = NULL;
    CHECK_OK(ls_json_parse(&parsed, patch, strlen(patch), "patch"));
    CHECK_REFUSED(data_read_tokenizer(NULL, data_patched_json(parsed)), LS_BAD_INPUT, part);
    cJSON_Delete(parsed);
}

#define ADDED(id, content) "{\"added_tokens\":[{\"id\":" id ",\"content\":\"" content "\"}]}"

static void test_components_are_refused_by_name(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{\"normalizer\":{\"type\":\"NFC\"}}", "normalizer 'NFC'"},
        {"{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Lowercase\"}]}}",
         "normalizer 'Lowercase'"},
        {"{\"normalizer\":{\"type\":\"Prepend\"}}", "nothing to prepend"},
        {"{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"\"}}", "a Replace needs"},
        {"{\"normalizer\":[]}", "no type"},
        {"{\"decoder\":{\"type\":\"WordPiece\"}}", "decoder 'WordPiece'"},
        {"{\"decoder\":{\"type\":\"Metaspace\"}}", "not one character"},
        {"{\"decoder\":{\"type\":\"Strip\",\"content\":\" \",\"start\":-1,\"stop\":0}}", "start and a stop"},
        {"{\"post_processor\":{\"type\":\"Whatever\"}}", "post_processor 'Whatever'"},
        {"{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[]}}", "no place for the text"},
        {"{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}}],"
         "\"special_tokens\":{}}}",
         "special tokens and one text"},
        {"{\"post_processor\":{\"type\":\"BertProcessing\",\"cls\":[\"a\",4096],\"sep\":[\"b\",1]}}",
         "not in the vocabulary"},
        {"{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"__\"}}", "not one character"},
        {"{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"x\"}}", "'x'"},
        {"{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\",\"add_prefix_space\":false,"
         "\"prepend_scheme\":\"first\"}}",
         "contradicts"},
        {"{\"pre_tokenizer\":{\"type\":\"Whitespace\"}}", "pre-tokenizer 'Whitespace'"},
        {"{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\"},{\"type\":\"Digits\"}]}"
         "}",
         "'Digits' after ByteLevel"},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Shuffled\"}}",
         "'Shuffled'"},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\"}}", "Regex or String"},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a\"},\"behavior\":\"Isolated\"}}",
         "not understood"},
        {"{\"pre_tokenizer\":{}}", "no type"},
        {"{\"model\":{\"type\":\"Unigram\"}}", "'Unigram'"},
        {"{\"model\":{\"continuing_subword_prefix\":\"##\"}}", "continuing_subword_prefix"},
        {"{\"model\":{\"end_of_word_suffix\":\"</w>\"}}", "end_of_word_suffix"},
        {"{\"model\":{\"dropout\":0.1}}", "dropout"},
        {"{\"model\":[]}", "no model"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) check_refused(cases[i][0], cases[i][1]);
}

static void test_wrong_content_is_refused(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{\"model\":{\"vocab\":[]}}", "no vocabulary"},
        {"{\"model\":{\"vocab\":{}}}", "no vocabulary"},
        {"{\"model\":{\"vocab\":{\"a\":\"x\"}}}", "the id of token 'a'"},
        {"{\"model\":{\"vocab\":{\"a\":-1}}}", "the id of token 'a'"},
        {"{\"model\":{\"vocab\":{\"a\":1.5}}}", "the id of token 'a'"},
        {"{\"model\":{\"vocab\":{\"a\":3,\"b\":3}}}", "two tokens have the id 3"},
        {"{\"model\":{\"vocab\":{\"a\":2000000000}}}", "out of proportion"},
        {"{\"model\":{\"merges\":null}}", "no list of merges"},
        {"{\"model\":{\"merges\":[[\"a\",\"b\",\"c\"]]}}", "merge number 1"},
        {"{\"model\":{\"merges\":[\"a b\",\"a b c\"]}}", "merge number"},
        {"{\"model\":{\"merges\":[\"ab\"]}}", "merge number 1"},
        {"{\"model\":{\"merges\":[[\"qqqq\",\"b\"]]}}", "'qqqq'"},
        {"{\"model\":{\"merges\":[[\"q\",\"#\"]]}}", "not in the vocabulary"},
        {"{\"model\":{\"unk_token\":5}}", "unk_token"},
        {"{\"added_tokens\":{}}", "added_tokens is not a list"},
        {"{\"added_tokens\":[{\"id\":5}]}", "no id or no content"},
        {"{\"added_tokens\":[{\"content\":\"x\"}]}", "no id or no content"},
        {ADDED("4096", "a"), "added token 'a'"},      /* the model has it under another id */
        {ADDED("3", "<|x|>"), "added token '<|x|>'"}, /* the id is another token's */
        {ADDED("4096", "\\u0120"), "added token"},    /* the byte alphabet's name of the space */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) check_refused(cases[i][0], cases[i][1]);
}

static void test_not_json(void **state)
{
    (void)state;
    ls_tokenizer *tokenizer;
    CHECK_REFUSED(ls_tokenizer_from_text(&tokenizer, "{", "x.json"), LS_BAD_INPUT, "x.json");
    CHECK_REFUSED(ls_tokenizer_from_text(&tokenizer, "", "x.json"), LS_BAD_INPUT, "x.json");
    CHECK_REFUSED(ls_tokenizer_from_text(&tokenizer, "[1]", "x.json"), LS_BAD_INPUT, "not a tokenizer.json");
    CHECK_REFUSED(ls_tokenizer_from_text(&tokenizer, "{\"model_type\": \"llama\"}", "config.json"), LS_BAD_INPUT,
                  "config.json: not a tokenizer.json");
    CHECK_REFUSED(ls_tokenizer_from_text(&tokenizer, "{\n\"model\": tru}", "x.json"), LS_BAD_INPUT, "x.json:2:10");
    CHECK_REFUSED(ls_tokenizer_from_text(&tokenizer, "{\"a\": \"\xFF\"}", "x.json"), LS_BAD_INPUT, "byte 8");
    check_write_file("bytes.json", "bytes");
    CHECK_REFUSED(ls_tokenizer_open(&tokenizer, "bytes.json"), LS_BAD_INPUT, "named 'bytes'");
    CHECK_REFUSED(ls_tokenizer_open(&tokenizer, "missing.json"), LS_IO, "missing.json");
    CHECK_REFUSED(ls_tokenizer_open(&tokenizer, "."), LS_IO, "tokenizer.json");
    check_write_file("wrong.model", "\x0A\x05");
    CHECK_REFUSED(ls_tokenizer_open(&tokenizer, "wrong.model"), LS_BAD_INPUT, "wrong.model: not a SentencePiece model");
}

static void check_end_of_text(const char *patch, int32_t expected)
{
    cJSON *parsed = NULL;
    ls_tokenizer *tokenizer;
    CHECK_OK(ls_json_parse(&parsed, patch, strlen(patch), "patch"));
    CHECK_OK(data_read_tokenizer(&tokenizer, data_patched_json(parsed)));
    assert_int_equal(ls_tokenizer_end_of_text(tokenizer), expected);
    cJSON_Delete(parsed);
    ls_tokenizer_free(tokenizer);
}

static void test_end_of_text(void **state)
{
    (void)state;
    check_end_of_text("{}", 0);
    check_end_of_text("{\"added_tokens\":[]}", -1);
    check_end_of_text(ADDED("4099", "</s>"), 4099);
    check_end_of_text("{\"added_tokens\":[{\"id\":4097,\"content\":\"<|end_of_text|>\"},{\"id\":0,\"content\":"
                      "\"<|endoftext|>\"},{\"id\":4098,\"content\":\"</s>\"}]}",
                      0);
}

/* Ids may have holes; what is not the model's own is decoded as its text. */
static void test_added_tokens_and_holes(void **state)
{
    (void)state;
    static const char patch[] = "{\"added_tokens\":[{\"id\":5000,\"content\":\" \\u4f60 x\"}]}";
    cJSON *parsed = NULL;
    ls_tokenizer *tokenizer;
    CHECK_OK(ls_json_parse(&parsed, patch, strlen(patch), "patch"));
    CHECK_OK(data_read_tokenizer(&tokenizer, data_patched_json(parsed)));
    assert_int_equal(ls_tokenizer_vocab_size(tokenizer), 5001);
    const int32_t ids[3] = {4999, 5000, 4096};
    char *text;
    size_t length;
    CHECK_OK(ls_tokenizer_decode(tokenizer, ids, 3, &text, &length));
    assert_string_equal(text, " \xE4\xBD\xA0 x");
    free(text);
    cJSON_Delete(parsed);
    ls_tokenizer_free(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_components_are_refused_by_name),
        cmocka_unit_test(test_wrong_content_is_refused),
        cmocka_unit_test(test_not_json),
        cmocka_unit_test(test_end_of_text),
        cmocka_unit_test(test_added_tokens_and_holes),
    };
    return cmocka_run_group_tests(tests, check_enter_scratch, check_leave_scratch);
}
