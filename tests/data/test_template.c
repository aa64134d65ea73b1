/* Templates: fields, escapes, and what is refused. */
#include "data_check.h"

#include "data/template.h"

#include <stdlib.h>
#include <string.h>

static const char record_text[] = "{\"question\": \"What is {x}?\\n\", \"answer\": 42, \"rate\": 0.25, \"empty\": \"\","
                                  " \"yes\": true, \"tests\": [\"a\", \"b\", 3], \"deep\": [[1]], \"object\": {},"
                                  " \"none\": null, \"big\": -123456789012}";

static void check_fill(const char *text, const char *expected)
{
    cJSON *record;
    char *out;
    size_t length;
    CHECK_OK(ls_json_parse(&record, record_text, strlen(record_text), "record"));
    CHECK_OK(ls_template_check(text, "--prompt"));
    CHECK_OK(ls_template_fill(text, record, &out, &length));
    assert_string_equal(out, expected);
    assert_int_equal(length, strlen(expected));
    free(out);
    cJSON_Delete(record);
}

static void test_fields(void **state)
{
    (void)state;
    check_fill("", "");
    check_fill("plain", "plain");
    check_fill("Question: {question}Answer: {answer}", "Question: What is {x}?\nAnswer: 42");
    check_fill("{empty}{empty}", "");
    check_fill("{rate} {yes} {big}", "0.25 true -123456789012");
    check_fill("{tests}", "a\nb\n3");
}

static void test_escapes(void **state)
{
    (void)state;
    check_fill("{{{answer}}}", "{42}");
    check_fill("a\\n\\tb\\\\n{{}}", "a\n\tb\\n{}");
    check_fill("real\nline", "real\nline");
}

static void test_wrong_templates(void **state)
{
    (void)state;
    static const char *const wrong[] = {"{", "}", "{}", "a{b", "{a{b}}", "\\", "\\q", "x}y", "{a\\n}"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        CHECK_REFUSED(ls_template_check(wrong[i], "--prompt"), LS_BAD_INPUT, "--prompt");
}

static void check_refused(const char *text, const char *json, const char *sentence)
{
    cJSON *record;
    char *out = NULL;
    size_t length;
    CHECK_OK(ls_json_parse(&record, json, strlen(json), "record"));
    CHECK_REFUSED(ls_template_fill(text, record, &out, &length), LS_BAD_INPUT, sentence);
    cJSON_Delete(record);
}

static void test_wrong_records(void **state)
{
    (void)state;
    check_refused("{Answer}", record_text, "\"Answer\"");
    check_refused("x {deep}", record_text, "\"deep\"");
    check_refused("{object}", record_text, "\"object\"");
    check_refused("{none}", record_text, "\"none\"");
    check_refused("x", "[1]", "object");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_escapes),
        cmocka_unit_test(test_wrong_templates),
        cmocka_unit_test(test_wrong_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
