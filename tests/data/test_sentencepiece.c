/* SentencePiece models, and the other tokenizers that write a blank as U+2581: ids and texts equal the Python
 * libraries' (make_blank_fixture.py); models that are damaged or not supported are refused. */
#include "data_check.h"

#include "core/text.h"
#include "data/sentencepiece.h"

#include <stdlib.h>
#include <string.h>

#define BLANK "\xE2\x96\x81" /* U+2581 */

static void check_encoding(const ls_tokenizer *tokenizer, const char *hex, const cJSON *expected, const char *name)
{
    size_t length;
    char *text = data_from_hex(hex, &length);
    int32_t *ids;
    int64_t count;
    CHECK_OK(ls_tokenizer_encode(tokenizer, text, length, &ids, &count));
    bool same = count == cJSON_GetArraySize(expected);
    const cJSON *id = expected->child;
    for (int64_t i = 0; same && i < count; i++, id = id->next) same = id->valueint == ids[i];
    if (!same) fail_msg("%s: the text %s is encoded in another way", name, hex);
    free(ids);
    free(text);
}

static void check_decoding(const ls_tokenizer *tokenizer, const cJSON *asked, const char *hex, const char *name)
{
    int32_t ids[1000];
    int64_t count = 0;
    const cJSON *id;
    cJSON_ArrayForEach(id, asked) ids[count++] = id->valueint;
    size_t length, expected_length;
    char *text;
    char *expected = data_from_hex(hex, &expected_length);
    CHECK_OK(ls_tokenizer_decode(tokenizer, ids, count, &text, &length));
    if (length != expected_length || memcmp(text, expected, length) != 0)
        fail_msg("%s: ids are decoded as '%s', not as '%s'", name, text, expected);
    free(text);
    free(expected);
}

static void test_equals_the_libraries(void **state)
{
    (void)state;
    cJSON *fixture;
    CHECK_OK(ls_json_read_file(&fixture, data_source_path("tests/data/blank_fixture.json")));
    int encodings = 0, decodings = 0;
    const cJSON *found;
    cJSON_ArrayForEach(found, cJSON_GetObjectItem(fixture, "cases"))
    {
        const char *name = cJSON_GetObjectItem(found, "name")->valuestring;
        ls_tokenizer *tokenizer = data_fixture_tokenizer(cJSON_GetObjectItem(found, "file"));
        const cJSON *text = cJSON_GetObjectItem(fixture, "texts")->child;
        const cJSON *ids = cJSON_GetObjectItem(found, "ids")->child;
        for (; text != NULL; text = text->next, ids = ids->next, encodings++)
            check_encoding(tokenizer, text->valuestring, ids, name);
        const cJSON *asked = cJSON_GetObjectItem(found, "asked")->child;
        const cJSON *answer = cJSON_GetObjectItem(found, "answers")->child;
        for (; asked != NULL; asked = asked->next, answer = answer->next, decodings++)
            check_decoding(tokenizer, asked, answer->valuestring, name);
        ls_tokenizer_free(tokenizer);
    }
    assert_true(encodings >= 1000 && decodings >= 500);
    cJSON_Delete(fixture);
}

/* A model file under construction: fields of protobuf's wire format, lengths below 128. */
static void add_field(ls_text *out, int number, const ls_text *content)
{
    const char head[] = {(char)(number << 3 | 2), (char)content->length};
    assert_true(content->length < 128);
    ls_text_add(out, head, 2);
    ls_text_add(out, content->bytes, content->length);
}

static void add_number(ls_text *out, int number, int value)
{
    const char bytes[] = {(char)((number << 3 & 0x7F) | (number >= 16 ? 0x80 : 0)), (char)(number >> 4), (char)value};
    ls_text_add(out, bytes, 1);
    if (number >= 16) ls_text_add(out, bytes + 1, 1);
    ls_text_add(out, bytes + 2, 1);
}

static void add_piece(ls_text *model, const char *text, float score, int type)
{
    ls_text piece = {0}, name = {0};
    ls_text_add(&name, text, strlen(text));
    add_field(&piece, 1, &name);
    const char head = 2 << 3 | 5;
    ls_text_add(&piece, &head, 1);
    ls_text_add(&piece, (const char *)&score, sizeof score);
    add_number(&piece, 3, type);
    add_field(model, 1, &piece);
    free(name.bytes);
    free(piece.bytes);
}

static void add_settings(ls_text *model, int type, int suffix)
{
    ls_text trainer = {0}, normalizer = {0};
    add_number(&trainer, 3, type);
    add_number(&trainer, 24, suffix);
    add_field(model, 2, &trainer);
    add_number(&normalizer, 3, 1);
    add_number(&normalizer, 4, 0);
    add_field(model, 3, &normalizer);
    free(trainer.bytes);
    free(normalizer.bytes);
}

static void check_refused(ls_text *model, const char *part)
{
    char *json = NULL;
    CHECK_REFUSED(ls_sentencepiece_to_json(&json, model->bytes, model->length, "x.model"), LS_BAD_INPUT, part);
    assert_null(json);
    free(model->bytes);
    *model = (ls_text){0};
}

static void test_refusals(void **state)
{
    (void)state;
    ls_text model = {0};
    ls_text_add(&model, "", 0);
    check_refused(&model, "no pieces or no settings");
    ls_text_add(&model, "{\"version\"", 10);
    check_refused(&model, "x.model: not a SentencePiece model");
    static const char *const types[] = {"Unigram", "", "word", "character"};
    for (int type = 1; type <= 4; type++) {
        if (type == 2) continue;
        add_piece(&model, "<unk>", 0, 2);
        add_settings(&model, type, 0);
        check_refused(&model, types[type - 1]);
    }
    add_piece(&model, "<unk>", 0, 2);
    add_settings(&model, 2, 1);
    check_refused(&model, "treats blanks");
    add_piece(&model, "a", 0, 1);
    add_settings(&model, 2, 0);
    check_refused(&model, "no unknown piece");
    add_piece(&model, "<unk>", 0, 2);
    add_piece(&model, "a", 0, 1);
    add_piece(&model, "a", 0, 1);
    add_settings(&model, 2, 0);
    check_refused(&model, "piece number 2 is there twice");
    add_piece(&model, "\xFF", 0, 1);
    add_settings(&model, 2, 0);
    check_refused(&model, "not UTF-8");
    add_piece(&model, "", 0, 1);
    add_settings(&model, 2, 0);
    check_refused(&model, "is empty");
    add_piece(&model, "a", 0, 5);
    add_settings(&model, 2, 0);
    check_refused(&model, "type 5");
    const float none = 0.0F;
    add_piece(&model, "a", none / none, 1);
    add_settings(&model, 2, 0);
    check_refused(&model, "no score");
}

static void check_ids(const ls_tokenizer *tokenizer, const char *text, const int32_t *expected, int64_t expected_count)
{
    int32_t *ids;
    int64_t count;
    CHECK_OK(ls_tokenizer_encode(tokenizer, text, strlen(text), &ids, &count));
    assert_int_equal(count, expected_count);
    assert_memory_equal(ids, expected, (size_t)count * sizeof *expected);
    free(ids);
}

/* Of pieces with one score the leftmost is joined, of others the one with the higher. */
static void test_equal_scores_are_ties(void **state)
{
    (void)state;
    for (int tied = 0; tied < 2; tied++) {
        ls_text model = {0};
        static const char *const texts[] = {"a", "b", "c", BLANK, "bc", "ab"};
        add_piece(&model, "<unk>", 0, 2);
        for (int i = 0; i < 6; i++) add_piece(&model, texts[i], i == 4 ? -1.0F : i == 5 ? (float)tied - 2 : -9.0F, 1);
        add_settings(&model, 2, 0);
        char *json = NULL;
        ls_tokenizer *tokenizer;
        CHECK_OK(ls_sentencepiece_to_json(&json, model.bytes, model.length, "x.model"));
        CHECK_OK(ls_tokenizer_from_text(&tokenizer, json, "x.model"));
        check_ids(tokenizer, "abc", tied ? (int32_t[]){4, 6, 3} : (int32_t[]){4, 1, 5}, 3);
        ls_tokenizer_free(tokenizer);
        free(json);
        free(model.bytes);
    }
}

/* Every prefix of a good file, and the file with each byte changed, is read or refused, never worse. */
static void test_damage(void **state)
{
    (void)state;
    ls_text model = {0};
    static const char *const texts[] = {"a", "b", "ab", BLANK, "ba"};
    add_piece(&model, "<unk>", 0, 2);
    add_piece(&model, "<s>", 0, 3);
    add_piece(&model, "x y", 0, 4);
    for (int i = 0; i < 5; i++) add_piece(&model, texts[i], (float)-i, 1);
    add_settings(&model, 2, 0);
    int refused = 0;
    for (size_t i = 0; i < 2 * model.length; i++) {
        const size_t length = i < model.length ? i : model.length;
        char *copy = ls_text_copy(model.bytes, length);
        if (i >= model.length) copy[i - model.length] ^= (char)(1 << i % 8);
        char *json = NULL;
        ls_tokenizer *tokenizer = NULL;
        ls_status status = ls_sentencepiece_to_json(&json, copy, length, "x.model");
        if (status == LS_OK) status = ls_tokenizer_from_text(&tokenizer, json, "x.model");
        if (status == LS_OK) ls_tokenizer_free(tokenizer);
        if (status != LS_OK) assert_int_equal(status, LS_BAD_INPUT);
        refused += status != LS_OK;
        ls_error_clear();
        free(json);
        free(copy);
    }
    assert_true(refused > (int)model.length / 2);
    free(model.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_the_libraries),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_equal_scores_are_ties),
        cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
