/* Encoding equals the Python library's, id for id (make_tokenizer_fixture.py); decoding gives every byte back. */
#include "data_check.h"

#include "core/random.h"
#include "core/text.h"
#include "data/utf8.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static void check_ids(const ls_tokenizer *tokenizer, const char *hex, const cJSON *expected, const char *name)
{
    size_t length;
    char *text = data_from_hex(hex, &length);
    int32_t *ids;
    int64_t count;
    CHECK_OK(ls_tokenizer_encode(tokenizer, text, length, &ids, &count));
    bool same = count == cJSON_GetArraySize(expected);
    const cJSON *id = expected->child;
    for (int64_t i = 0; same && i < count; i++, id = id->next) same = id->valueint == ids[i];
    if (!same) fail_msg("variant '%s' encodes the text %s in another way", name, hex);
    free(ids);
    free(text);
}

static void test_equals_the_library(void **state)
{
    (void)state;
    cJSON *fixture;
    CHECK_OK(ls_json_read_file(&fixture, data_source_path("tests/data/tokenizer_fixture.json")));
    const cJSON *texts = cJSON_GetObjectItem(fixture, "texts");
    const int text_count = cJSON_GetArraySize(texts);
    const char **hex = ls_text_memory(NULL, (size_t)text_count * sizeof *hex);
    const cJSON *item = texts->child;
    for (int i = 0; i < text_count; i++, item = item->next) hex[i] = item->valuestring;
    int cases = 0, encodings = 0;
    const cJSON *variant;
    cJSON_ArrayForEach(variant, cJSON_GetObjectItem(fixture, "cases"))
    {
        const char *name = cJSON_GetObjectItem(variant, "name")->valuestring;
        ls_tokenizer *tokenizer;
        CHECK_OK(data_read_tokenizer(&tokenizer, data_patched_json(cJSON_GetObjectItem(variant, "patch"))));
        const cJSON *number = cJSON_GetObjectItem(variant, "texts")->child;
        const cJSON *ids = cJSON_GetObjectItem(variant, "ids")->child;
        for (; number != NULL; number = number->next, ids = ids->next, encodings++) {
            assert_in_range(number->valueint, 0, text_count - 1);
            check_ids(tokenizer, hex[number->valueint], ids, name);
        }
        ls_tokenizer_free(tokenizer);
        cases++;
    }
    assert_true(cases >= 20 && encodings >= 5000);
    free(hex);
    cJSON_Delete(fixture);
}

static void check_round_trip(const ls_tokenizer *tokenizer, const char *bytes, size_t length)
{
    int32_t *ids;
    int64_t count;
    char *back;
    size_t back_length;
    CHECK_OK(ls_tokenizer_encode(tokenizer, bytes, length, &ids, &count));
    CHECK_OK(ls_tokenizer_decode(tokenizer, ids, count, &back, &back_length));
    assert_int_equal(back_length, length);
    assert_memory_equal(back, bytes, length);
    assert_int_equal(back[back_length], '\0');
    free(back);
    free(ids);
}

/* Bytes of every kind: any, mostly ASCII, and UTF-8 with one byte spoiled. */
static void fill_random(char *bytes, size_t length, uint32_t trial)
{
    for (uint32_t i = 0; i < length; i++) {
        const uint32_t word = ls_random(1, LS_STREAM_TEST, trial, i, 0).word[0];
        if (trial % 3 == 0)
            bytes[i] = (char)(word & 0xFF);
        else if (trial % 3 == 1)
            bytes[i] = " \n\tab1_'<|endoftext|>"[word % 21];
        else
            bytes[i] = "\xE4\xBD\xA0\xF0\x9F\x98\x80\xC3\xA9 s"[i % 11];
    }
    if (trial % 3 == 2 && length > 0) bytes[ls_random(1, LS_STREAM_TEST, trial, 0, 1).word[0] % length] ^= (char)0x40;
}

static void test_round_trip_of_random_bytes(void **state)
{
    (void)state;
    ls_tokenizer *tokenizers[2] = {data_byte_tokenizer(), NULL};
    CHECK_OK(ls_tokenizer_open(&tokenizers[1], data_source_path("data/tokenizers/python-4096")));
    for (uint32_t trial = 0; trial < 600; trial++) {
        char bytes[301];
        const size_t length = trial % 301;
        fill_random(bytes, length, trial);
        for (int i = 0; i < 2; i++)
            if (i == 0 || ls_utf8_valid_prefix(bytes, length) == length) check_round_trip(tokenizers[i], bytes, length);
    }
    for (int i = 0; i < 2; i++) ls_tokenizer_free(tokenizers[i]);
}

/* One word of a megabyte: the merging must not be quadratic. */
static void test_long_words(void **state)
{
    (void)state;
    const size_t length = 1 << 20;
    ls_tokenizer *tokenizer;
    CHECK_OK(ls_tokenizer_open(&tokenizer, data_source_path("data/tokenizers/python-4096")));
    char *text = ls_text_memory(NULL, length);
    for (int kind = 0; kind < 3; kind++) {
        for (size_t i = 0; i < length; i++) text[i] = kind == 0 ? '=' : kind == 1 ? ' ' : "abcdefg"[i * i % 7];
        check_round_trip(tokenizer, text, length);
    }
    free(text);
    ls_tokenizer_free(tokenizer);
}

/* Text that is not UTF-8 is encoded as what Python's bytes.decode("utf-8", "replace") makes of it. */
static void test_invalid_utf8(void **state)
{
    (void)state;
    ls_tokenizer *tokenizer;
    CHECK_OK(ls_tokenizer_open(&tokenizer, data_source_path("data/tokenizers/python-4096")));
#define U "\xEF\xBF\xBD"
    static const char *const cases[][2] = {
        {"\xE4\xBD", U},         {"\xED\xA0\x80", U U U},
        {"\xC0\xAF", U U},       {"\xF5\x80", U U},
        {"a\xFF", "a" U},        {"\xF0\x9F\x98", U},
        {"\xE0\x80\x80", U U U}, {"\xF4\x90\x80\x80", U U U U},
        {"\xE2(\xA1", U "(" U},  {"\xF0\x9F\xE4\xBD\xA0", U "\xE4\xBD\xA0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int32_t *ids[2];
        int64_t count[2];
        for (int j = 0; j < 2; j++)
            CHECK_OK(ls_tokenizer_encode(tokenizer, cases[i][j], strlen(cases[i][j]), &ids[j], &count[j]));
        assert_int_equal(count[0], count[1]);
        assert_memory_equal(ids[0], ids[1], (size_t)count[0] * sizeof(int32_t));
        char *text;
        size_t length;
        CHECK_OK(ls_tokenizer_decode(tokenizer, ids[0], count[0], &text, &length));
        assert_string_equal(text, cases[i][1]);
        free(text);
        free(ids[0]);
        free(ids[1]);
    }
    ls_tokenizer_free(tokenizer);
}

static void test_byte_kind(void **state)
{
    (void)state;
    ls_tokenizer *tokenizer = data_byte_tokenizer();
    assert_int_equal(ls_tokenizer_vocab_size(tokenizer), 257);
    assert_int_equal(ls_tokenizer_end_of_text(tokenizer), 256);
    assert_string_equal(ls_tokenizer_text(tokenizer), "bytes");
    int32_t *ids;
    int64_t count;
    CHECK_OK(ls_tokenizer_encode(tokenizer, "a\xFF", 2, &ids, &count));
    assert_int_equal(count, 2);
    assert_int_equal(ids[0], 'a');
    assert_int_equal(ids[1], 255);
    free(ids);
    size_t length;
    assert_memory_equal(ls_tokenizer_token_text(tokenizer, 256, &length), "<|endoftext|>", 13);
    assert_int_equal(length, 13);
    (void)ls_tokenizer_token_text(tokenizer, 257, &length);
    assert_int_equal(length, 0);
    (void)ls_tokenizer_token_text(tokenizer, -1, &length);
    assert_int_equal(length, 0);
    ls_tokenizer_free(tokenizer);
}

static void test_text_and_hash(void **state)
{
    (void)state;
    ls_tokenizer *first, *again;
    CHECK_OK(ls_tokenizer_open(&first, data_source_path("data/tokenizers/python-4096/tokenizer.json")));
    CHECK_OK(ls_tokenizer_from_text(&again, ls_tokenizer_text(first), "a token file"));
    assert_int_equal(ls_tokenizer_hash(first), ls_tokenizer_hash(again));
    assert_int_equal(ls_tokenizer_hash(first), ls_tokenizer_hash_text(ls_tokenizer_text(first)));
    assert_int_equal(ls_tokenizer_hash_text("foobar"), 0x85944171F73967E8u); /* of the FNV authors' test suite */
    assert_int_equal(ls_tokenizer_vocab_size(first), 4096);
    assert_int_equal(ls_tokenizer_end_of_text(first), 0);
    ls_tokenizer_free(first);
    ls_tokenizer_free(again);
}

typedef struct encoder {
    const ls_tokenizer *tokenizer;
    const char *text;
    size_t length;
    int32_t *ids;
    int64_t count;
    ls_status status;
} encoder;

static void *encode_often(void *context)
{
    encoder *self = context;
    for (int i = 0; i < 20; i++) {
        free(self->ids);
        self->ids = NULL;
        self->status = ls_tokenizer_encode(self->tokenizer, self->text, self->length, &self->ids, &self->count);
        if (self->status != LS_OK) break;
    }
    return NULL;
}

static void test_threads_share_a_tokenizer(void **state)
{
    (void)state;
    ls_tokenizer *tokenizer;
    CHECK_OK(ls_tokenizer_open(&tokenizer, data_source_path("data/tokenizers/python-4096")));
    const char *text = ls_tokenizer_text(tokenizer);
    encoder encoders[4];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        encoders[i] = (encoder){.tokenizer = tokenizer, .text = text, .length = 20000};
        assert_int_equal(pthread_create(&threads[i], NULL, encode_often, &encoders[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(encoders[i].status, LS_OK);
        assert_int_equal(encoders[i].count, encoders[0].count);
        assert_memory_equal(encoders[i].ids, encoders[0].ids, (size_t)encoders[0].count * sizeof(int32_t));
    }
    for (int i = 0; i < 4; i++) free(encoders[i].ids);
    ls_tokenizer_free(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_the_library),
        cmocka_unit_test(test_round_trip_of_random_bytes),
        cmocka_unit_test(test_long_words),
        cmocka_unit_test(test_invalid_utf8),
        cmocka_unit_test(test_byte_kind),
        cmocka_unit_test(test_text_and_hash),
        cmocka_unit_test(test_threads_share_a_tokenizer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
