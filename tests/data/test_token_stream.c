/* The text of tokens one by one equals the text of all of them, whatever the decoder and wherever the stream begins. */
#include "data_check.h"

#include "data/token_stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLANK "\xE2\x96\x81" /* U+2581 */

/* Letters, their bytes, a blank, and a decoder like Llama's. */
static ls_tokenizer *llama_like(void)
{
    cJSON *document = cJSON_Parse(
        "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"" BLANK
        "\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" BLANK "\"}]},"
        "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"" BLANK
        "\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":\"Strip\","
        "\"content\":\" \",\"start\":1,\"stop\":0}]},\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,"
        "\"vocab\":{},\"merges\":[]}}");
    cJSON *vocab = cJSON_GetObjectItem(cJSON_GetObjectItem(document, "model"), "vocab");
    for (unsigned byte = 0; byte < 256; byte++) {
        char name[8];
        (void)snprintf(name, sizeof name, "<0x%02X>", byte);
        assert_non_null(cJSON_AddNumberToObject(vocab, name, byte));
    }
    assert_non_null(cJSON_AddNumberToObject(vocab, BLANK, 256));
    assert_non_null(cJSON_AddNumberToObject(vocab, "a", 257));
    ls_tokenizer *tokenizer = NULL;
    CHECK_OK(data_read_tokenizer(&tokenizer, document));
    return tokenizer;
}

/* Streams ids[begin..count) behind ids[0..begin) and compares with the end of the whole text. */
static void check_stream(const ls_tokenizer *tokenizer, const int32_t *ids, int64_t begin, int64_t count)
{
    ls_token_stream stream;
    ls_text streamed = {0};
    char *before, *whole;
    size_t before_length, whole_length;
    ls_token_stream_begin(&stream, tokenizer, ids, begin);
    for (int64_t i = begin; i < count; i++) {
        CHECK_OK(ls_token_stream_add(&stream, ids[i], &streamed));
        assert_int_equal(ls_utf8_whole(streamed.bytes == NULL ? "" : streamed.bytes, streamed.length), streamed.length);
    }
    CHECK_OK(ls_token_stream_end(&stream, &streamed));
    CHECK_OK(ls_tokenizer_decode(tokenizer, ids, begin, &before, &before_length));
    CHECK_OK(ls_tokenizer_decode(tokenizer, ids, count, &whole, &whole_length));
    assert_int_equal(streamed.length, whole_length - before_length);
    if (streamed.length > 0) assert_memory_equal(streamed.bytes, whole + before_length, streamed.length);
    free(streamed.bytes);
    free(before);
    free(whole);
}

static const char text[] = "a a  a\xC3\xA9\xF0\x9F\x98\x80\xF0\x9F\x98\x80\xF0\x9F\x98\x80\xF0\x9F\x98\x80 "
                           "\xF0\x9F\x98\x80\xE4\xBD\xA0\xE4\xBD\xA0 aa\n\t a def return";

static void check_text(const ls_tokenizer *tokenizer)
{
    int32_t *ids;
    int64_t count;
    CHECK_OK(ls_tokenizer_encode(tokenizer, text, strlen(text), &ids, &count));
    for (int64_t begin = 0; begin <= count; begin++) {
        char *before;
        size_t length;
        CHECK_OK(ls_tokenizer_decode(tokenizer, ids, begin, &before, &length));
        const bool whole = strstr(before, "\xEF\xBF\xBD") == NULL && ls_utf8_whole(before, length) == length;
        if (whole) check_stream(tokenizer, ids, begin, count); /* prompts end with a whole character */
        free(before);
    }
    free(ids);
}

static void test_equals_the_whole(void **state)
{
    (void)state;
    ls_tokenizer *tokenizers[3] = {data_byte_tokenizer(), llama_like(), NULL};
    CHECK_OK(ls_tokenizer_open(&tokenizers[2], data_source_path("data/tokenizers/python-4096")));
    for (int i = 0; i < 3; i++) {
        check_text(tokenizers[i]);
        ls_tokenizer_free(tokenizers[i]);
    }
}

/* A blank behind a prompt is shown, one that begins a text is not. */
static void test_the_first_blank(void **state)
{
    (void)state;
    ls_tokenizer *tokenizer = llama_like();
    const int32_t ids[] = {256, 257};
    for (int64_t context = 0; context < 2; context++) {
        ls_token_stream stream;
        ls_text out = {0};
        ls_token_stream_begin(&stream, tokenizer, ids + 1, context);
        for (int i = 0; i < 2; i++) CHECK_OK(ls_token_stream_add(&stream, ids[i], &out));
        CHECK_OK(ls_token_stream_end(&stream, &out));
        assert_string_equal(out.bytes, context == 0 ? "a" : " a");
        free(out.bytes);
    }
    ls_tokenizer_free(tokenizer);
}

/* Parts of characters wait, but not for ever, and the end gives out what is left. */
static void test_what_never_gets_whole(void **state)
{
    (void)state;
    ls_tokenizer *tokenizer = llama_like();
    ls_token_stream stream;
    ls_text out = {0};
    ls_token_stream_begin(&stream, tokenizer, NULL, 0);
    for (int i = 0; i < LS_TOKEN_STREAM_WAIT - 1; i++) CHECK_OK(ls_token_stream_add(&stream, 0xFF, &out));
    assert_int_equal(out.length, 0);
    for (int i = 0; i < 5 * LS_TOKEN_STREAM_WAIT; i++) CHECK_OK(ls_token_stream_add(&stream, 0xE4, &out));
    assert_true(out.length >= 3 * 4 * LS_TOKEN_STREAM_WAIT);
    CHECK_OK(ls_token_stream_end(&stream, &out));
    assert_int_equal(out.length, 3 * (6 * LS_TOKEN_STREAM_WAIT - 1));
    free(out.bytes);
    ls_tokenizer_free(tokenizer);
}

static void test_prefix_never_ends_within_a_character(void **state)
{
    (void)state;
    const char parts[] = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z"; /* a, e acute, euro, emoji, z */
    const size_t whole[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11};
    for (size_t length = 0; length < 12; length++) assert_int_equal(ls_utf8_whole(parts, length), whole[length]);
    assert_int_equal(ls_utf8_whole("\x80\x80\x80\x80", 4), 4); /* continues nothing: no use waiting */
    assert_int_equal(ls_utf8_whole("\xFF", 1), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_the_whole),
        cmocka_unit_test(test_the_first_blank),
        cmocka_unit_test(test_what_never_gets_whole),
        cmocka_unit_test(test_prefix_never_ends_within_a_character),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
