/* Records as tokens: which they are, which of them are to be learnt, and that the second part continues the first. */
#include "data_check.h"

#include "core/text.h"
#include "data/record.h"

#include <stdlib.h>
#include <string.h>

#define BLANK "\xE2\x96\x81" /* U+2581 */

static const ls_record_format PAIR = {.prompt = "{prompt}", .completion = "{completion}"};

static ls_status encode(ls_record *out, const ls_record_format *format, const ls_tokenizer *tokenizer, const char *json)
{
    cJSON *object = cJSON_Parse(json);
    assert_non_null(object);
    const ls_status status = ls_record_encode(out, format, tokenizer, object);
    cJSON_Delete(object);
    return status;
}

static void release(ls_record *record)
{
    free(record->ids);
    free(record->targets);
}

/* The record's tokens as the tokenizer writes them, those to be learnt in brackets; malloc'ed. */
static char *shown(const ls_record *record, const ls_tokenizer *tokenizer)
{
    ls_text out = {0};
    ls_text_add(&out, "", 0);
    for (int64_t i = 0; i < record->count; i++) {
        size_t length;
        const char *text = ls_tokenizer_token_text(tokenizer, record->ids[i], &length);
        ls_text_addf(&out, record->targets[i] != 0 ? "[%.*s]" : "<%.*s>", (int)length, text);
    }
    return out.bytes;
}

static void check_record(const ls_record_format *format, const ls_tokenizer *tokenizer, const char *json,
                         const char *expected)
{
    ls_record record;
    CHECK_OK(encode(&record, format, tokenizer, json));
    char *text = shown(&record, tokenizer);
    assert_string_equal(text, expected);
    free(text);
    release(&record);
}

static void test_bytes(void **state)
{
    (void)state;
    ls_tokenizer *tokenizer = data_byte_tokenizer();
    check_record(&PAIR, tokenizer, "{\"prompt\":\"ab\",\"completion\":\" c\"}", "<a><b>[ ][c]");
    check_record(&PAIR, tokenizer, "{\"prompt\":\"\",\"completion\":\"c\"}", "[c]");
    check_record(&PAIR, tokenizer, "{\"prompt\":\"ab\",\"completion\":\"\"}", "<a><b>");
    const ls_record_format all = {.prompt = "Q {q}:", .completion = " {n}", .train_on_prompt = true};
    check_record(&all, tokenizer, "{\"q\":\"x\",\"n\":-4}", "[Q][ ][x][:][ ][-][4]");
    ls_record record;
    CHECK_REFUSED(encode(&record, &all, tokenizer, "{\"q\":\"x\"}"), LS_BAD_INPUT, "\"n\"");
    assert_null(record.ids);
    CHECK_REFUSED(encode(&record, &PAIR, tokenizer, "[1]"), LS_BAD_INPUT, "no JSON object");
    ls_tokenizer_free(tokenizer);
}

/* Merges do not cross the border, and a blank at the completion's beginning is its own. */
static void test_byte_level_bpe(void **state)
{
    (void)state;
    ls_tokenizer *tokenizer;
    CHECK_OK(ls_tokenizer_open(&tokenizer, data_source_path("data/tokenizers/python-4096")));
    check_record(&PAIR, tokenizer, "{\"prompt\":\"import\",\"completion\":\" sys\"}", "<import>[\xC4\xA0sys]");
    check_record(&PAIR, tokenizer, "{\"prompt\":\"impor\",\"completion\":\"t sys\"}", "<imp><or>[t][\xC4\xA0sys]");
    check_record(&PAIR, tokenizer, "{\"prompt\":\"import \",\"completion\":\"sys\"}", "<import><\xC4\xA0>[sys]");
    ls_tokenizer_free(tokenizer);
}

/* Llama's style: a blank before a text and for every blank; "a", "b" and either behind a blank are tokens. */
static ls_tokenizer *llama_like(const char *pre_tokenizer, const char *normalizers)
{
    char *json = ls_text_format("{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[%s]},\"pre_tokenizer\":%s,"
                                "\"model\":{\"type\":\"BPE\",\"vocab\":{\"" BLANK "\":0,\"a\":1,\"b\":2,\"" BLANK
                                "a\":3,\"" BLANK "b\":4},\"merges\":[\"" BLANK " a\",\"" BLANK " b\"]}}",
                                normalizers, pre_tokenizer);
    ls_tokenizer *tokenizer = NULL;
    CHECK_OK(data_read_tokenizer(&tokenizer, cJSON_Parse(json)));
    free(json);
    return tokenizer;
}

/* The blank that is put before a text is put before the prompt, not again before the completion. */
static void test_dummy_prefix(void **state)
{
    (void)state;
    static const char replace[] = "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" BLANK "\"}";
    char *prepend = ls_text_format("{\"type\":\"Prepend\",\"prepend\":\"" BLANK "\"},%s", replace);
    char *strip =
        ls_text_format("{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\A +\"},\"content\":\"\"},%s", prepend);
    static const char always[] =
        "{\"type\":\"Metaspace\",\"replacement\":\"" BLANK "\",\"prepend_scheme\":\"always\",\"split\":true}";
    static const char first[] =
        "{\"type\":\"Metaspace\",\"replacement\":\"" BLANK "\",\"prepend_scheme\":\"first\",\"split\":false}";
    const struct {
        const char *pre_tokenizer, *normalizers;
    } kinds[] = {{"null", prepend}, {"null", strip}, {always, ""}, {first, ""}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        ls_tokenizer *tokenizer = llama_like(kinds[i].pre_tokenizer, kinds[i].normalizers);
        check_record(&PAIR, tokenizer, "{\"prompt\":\"a b\",\"completion\":\" a b\"}",
                     "<" BLANK "a><" BLANK "b>[" BLANK "a][" BLANK "b]");
        check_record(&PAIR, tokenizer, "{\"prompt\":\"a\",\"completion\":\"b a\"}", "<" BLANK "a>[b][" BLANK "a]");
        check_record(&PAIR, tokenizer, "{\"prompt\":\"\",\"completion\":\"b a\"}", "[" BLANK "b][" BLANK "a]");
        ls_tokenizer_free(tokenizer);
    }
    free(prepend);
    free(strip);
}

static char *decoded(const ls_tokenizer *tokenizer, const int32_t *ids, int64_t count)
{
    char *text;
    size_t length;
    CHECK_OK(ls_tokenizer_decode(tokenizer, ids, count, &text, &length));
    return text;
}

/* With every SentencePiece model and its like of the fixture: the tokens of both parts say what both texts together
 * say. */
static void check_continues(const ls_tokenizer *tokenizer, const char *prompt, const char *completion)
{
    char *json = ls_text_format("{\"prompt\":\"%s\",\"completion\":\"%s\"}", prompt, completion);
    char *whole = ls_text_format("%s%s", prompt, completion);
    ls_record record;
    int32_t *ids;
    int64_t count;
    CHECK_OK(encode(&record, &PAIR, tokenizer, json));
    CHECK_OK(ls_tokenizer_encode(tokenizer, whole, strlen(whole), &ids, &count));
    char *expected = decoded(tokenizer, ids, count), *text = decoded(tokenizer, record.ids, record.count);
    assert_string_equal(text, expected);
    free(expected);
    free(text);
    free(ids);
    free(whole);
    free(json);
    release(&record);
}

static void test_sentencepiece_models(void **state)
{
    (void)state;
    cJSON *fixture;
    int models = 0;
    CHECK_OK(ls_json_read_file(&fixture, data_source_path("tests/data/blank_fixture.json")));
    const cJSON *found;
    cJSON_ArrayForEach(found, cJSON_GetObjectItem(fixture, "cases"))
    {
        const cJSON *file = cJSON_GetObjectItem(found, "file");
        ls_tokenizer *tokenizer = data_fixture_tokenizer(file);
        check_continues(tokenizer, "the question", " is the answer");
        check_continues(tokenizer, "the question", "able");
        check_continues(tokenizer, "the question", " a");
        ls_tokenizer_free(tokenizer);
        models++;
    }
    assert_int_equal(models, 8);
    cJSON_Delete(fixture);
}

/* The shipped tokenizer with the special tokens of both styles. */
static ls_tokenizer *chat_tokenizer(void)
{
    cJSON *patch = cJSON_Parse("{\"added_tokens\":[{\"id\":0,\"content\":\"<|endoftext|>\",\"special\":true},"
                               "{\"id\":4096,\"content\":\"<|im_start|>\",\"special\":true},"
                               "{\"id\":4097,\"content\":\"<|im_end|>\",\"special\":true},"
                               "{\"id\":4098,\"content\":\"<|start_header_id|>\",\"special\":true},"
                               "{\"id\":4099,\"content\":\"<|end_header_id|>\",\"special\":true},"
                               "{\"id\":4100,\"content\":\"<|eot_id|>\",\"special\":true}]}");
    ls_tokenizer *tokenizer = NULL;
    CHECK_OK(data_read_tokenizer(&tokenizer, data_patched_json(patch)));
    cJSON_Delete(patch);
    return tokenizer;
}

#define MESSAGE(role, content) "{\"role\":\"" role "\",\"content\":\"" content "\"}"
#define TALK                                                                                                           \
    "{\"messages\":[" MESSAGE("user", "import") "," MESSAGE("assistant", " self\\n") "," MESSAGE(                      \
        "user", "def") "," MESSAGE("assistant", "") "," MESSAGE("user", "class") "]}"

/* What the assistant says and the token that ends it, twice; what the user says last leads to nothing. */
static void test_chats(void **state)
{
    (void)state;
    ls_tokenizer *tokenizer = chat_tokenizer();
    const ls_record_format chatml = {.chat = LS_CHAT_CHATML}, llama3 = {.chat = LS_CHAT_LLAMA3};
    CHECK_OK(ls_record_check(&chatml, tokenizer));
    CHECK_OK(ls_record_check(&llama3, tokenizer));
    check_record(&chatml, tokenizer, TALK,
                 "<<|im_start|>><user><\xC4\x8A><import><<|im_end|>><\xC4\x8A><<|im_start|>><ass><ist><ant><\xC4\x8A>"
                 "[\xC4\xA0self][\xC4\x8A][<|im_end|>]<\xC4\x8A><<|im_start|>><user><\xC4\x8A><def><<|im_end|>>"
                 "<\xC4\x8A><<|im_start|>><ass><ist><ant><\xC4\x8A>[<|im_end|>]");
    check_record(&llama3, tokenizer, TALK,
                 "<<|start_header_id|>><user><<|end_header_id|>><\xC4\x8A><\xC4\x8A><import><<|eot_id|>>"
                 "<<|start_header_id|>><ass><ist><ant><<|end_header_id|>><\xC4\x8A\xC4\x8A>[self][<|eot_id|>]"
                 "<<|start_header_id|>><user><<|end_header_id|>><\xC4\x8A><\xC4\x8A><def><<|eot_id|>>"
                 "<<|start_header_id|>><ass><ist><ant><<|end_header_id|>><\xC4\x8A\xC4\x8A>[<|eot_id|>]");
    ls_record record;
    const struct {
        const char *json, *says;
    } bad[] = {
        {"{\"messages\":[]}", "none of the messages"},
        {"{\"messages\":{}}", "no list \"messages\""},
        {"{\"prompt\":\"x\"}", "no list \"messages\""},
        {"[]", "no list \"messages\""},
        {"{\"messages\":[" MESSAGE("user", "x") "]}", "none of the messages"},
        {"{\"messages\":[" MESSAGE("user", "x") ",{\"role\":\"assistant\"}]}", "message 2 has no string \"content\""},
        {"{\"messages\":[" MESSAGE("user", "x") ",{\"content\":\"\"}]}", "message 2 has no string \"role\""},
        {"{\"messages\":[3]}", "message 1"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK_REFUSED(encode(&record, &chatml, tokenizer, bad[i].json), LS_BAD_INPUT, bad[i].says);
    ls_tokenizer_free(tokenizer);
}

/* What is asked is what was trained: the tokens up to the first that is to be learnt, and the one that ends it all. */
static void check_asked(ls_chat chat, const ls_tokenizer *tokenizer, const char *system, const char *json)
{
    static const char user[] = " import self\n";
    const ls_record_format format = {.chat = chat};
    ls_text asked = {0};
    ls_record record;
    int32_t *ids, end;
    int64_t count, given = 0;
    CHECK_OK(encode(&record, &format, tokenizer, json));
    while (record.targets[given] == 0) given++;
    ls_chat_ask(&asked, chat, system, user, strlen(user));
    CHECK_OK(ls_tokenizer_encode(tokenizer, asked.bytes, asked.length, &ids, &count));
    assert_int_equal(count, given);
    assert_memory_equal(ids, record.ids, (size_t)count * sizeof *ids);
    CHECK_OK(ls_chat_end_id(&end, chat, tokenizer));
    assert_int_equal(end, record.ids[record.count - 1]);
    free(asked.bytes);
    free(ids);
    release(&record);
}

static void test_questions_are_as_trained(void **state)
{
    (void)state;
    ls_tokenizer *tokenizer = chat_tokenizer();
    static const char alone[] =
        "{\"messages\":[" MESSAGE("user", " import self\\n") "," MESSAGE("assistant", "def") "]}";
    static const char with_system[] = "{\"messages\":[" MESSAGE("system", "class ") "," MESSAGE(
        "user", " import self\\n") "," MESSAGE("assistant", "def") "]}";
    for (int chat = LS_CHAT_CHATML; ls_chat_names[chat] != NULL; chat++) {
        check_asked((ls_chat)chat, tokenizer, NULL, alone);
        check_asked((ls_chat)chat, tokenizer, "class ", with_system);
    }
    ls_tokenizer_free(tokenizer);
}

static void test_formats_are_checked(void **state)
{
    (void)state;
    ls_tokenizer *tokenizer = data_byte_tokenizer();
    const ls_record_format bad_prompt = {.prompt = "{", .completion = ""},
                           bad_completion = {"", "}", LS_CHAT_NONE, false};
    const ls_record_format chatml = {.chat = LS_CHAT_CHATML}, llama3 = {.chat = LS_CHAT_LLAMA3};
    CHECK_OK(ls_record_check(&PAIR, tokenizer));
    CHECK_REFUSED(ls_record_check(&bad_prompt, tokenizer), LS_BAD_INPUT, "--prompt");
    CHECK_REFUSED(ls_record_check(&bad_completion, tokenizer), LS_BAD_INPUT, "--completion");
    CHECK_REFUSED(ls_record_check(&chatml, tokenizer), LS_BAD_INPUT,
                  "needs a tokenizer that has the token <|im_start|>");
    CHECK_REFUSED(ls_record_check(&llama3, tokenizer), LS_BAD_INPUT, "<|start_header_id|>");
    ls_tokenizer_free(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_byte_level_bpe),
        cmocka_unit_test(test_dummy_prefix),
        cmocka_unit_test(test_sentencepiece_models),
        cmocka_unit_test(test_chats),
        cmocka_unit_test(test_questions_are_as_trained),
        cmocka_unit_test(test_formats_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
