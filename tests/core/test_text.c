/* Formatting, numbers as people write them, near misses and UTF-8. */
#include "core_check.h"
#include "core/text.h"

#include <stdlib.h>
#include <string.h>

static void formats_any_length(void **state)
{
    (void)state;
    for (int width = 250; width < 262; width++) { /* around the buffer inside */
        char *text = ls_text_format("%*d|", width, 7);
        assert_int_equal(strlen(text), (size_t)width + 1);
        assert_string_equal(text + width - 1, "7|");
        free(text);
    }
}

static void grows(void **state)
{
    (void)state;
    ls_text text = {0};
    for (int i = 0; i < 1000; i++) ls_text_addf(&text, "%d,", i % 10);
    assert_int_equal(text.length, 2000);
    assert_int_equal(strlen(text.bytes), 2000);
    assert_string_equal(text.bytes + 1994, "7,8,9,");
    free(text.bytes);
    text = (ls_text){0};
    ls_text_add(&text, NULL, 0);
    assert_string_equal(text.bytes, "");
    free(text.bytes);
}

static void whole_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t value;
    } good[] = {
        {"0", 0},
        {"-12", -12},
        {"+5", 5},
        {"1_000", 1000},
        {"1_000_000", 1000000},
        {"1e6", 1000000},
        {"2.5e3", 2500},
        {"3.", 3},
        {"9223372036854775807", INT64_MAX},
        {"-9223372036854775808", INT64_MIN},
        {"007", 7},
    };
    static const char *const bad[] = {"",
                                      "-",
                                      "1.5",
                                      "1e-3",
                                      "_1",
                                      "1_",
                                      "1__0",
                                      "0x10",
                                      "12a",
                                      " 1",
                                      "1 ",
                                      "1e",
                                      "e5",
                                      ".",
                                      "1e30",
                                      "inf",
                                      "nan",
                                      "1e+",
                                      "--1",
                                      "1,0",
                                      "1_.0",
                                      "9223372036854775808",
                                      "-9223372036854775809"};
    int64_t value = 0;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        if (!ls_text_to_int(&value, good[i].text)) fail_msg("%s is refused", good[i].text);
        assert_true(value == good[i].value);
    }
    value = 77;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (ls_text_to_int(&value, bad[i])) fail_msg("'%s' passes", bad[i]);
    assert_int_equal(value, 77);
}

static void real_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double value;
    } good[] = {{"3e-5", 3e-5},      {".5", .5},   {"5.", 5},     {"-1.25E+2", -125},
                {"1_000.5", 1000.5}, {"0.1", 0.1}, {"1e-400", 0}, {"1e308", 1e308}};
    static const char *const bad[] = {"",    ".",    "e5",    "1e999", ".inf", "inf",
                                      "nan", ".nan", "0x1p3", "1.2.3", "1 2",  "1d5"};
    double value = 0;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        if (!ls_text_to_double(&value, good[i].text)) fail_msg("%s is refused", good[i].text);
        assert_true(value == good[i].value);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (ls_text_to_double(&value, bad[i])) fail_msg("'%s' passes", bad[i]);
}

static void distances(void **state)
{
    (void)state;
    assert_int_equal(ls_text_distance("", ""), 0);
    assert_int_equal(ls_text_distance("", "abc"), 3);
    assert_int_equal(ls_text_distance("abc", ""), 3);
    assert_int_equal(ls_text_distance("kitten", "sitting"), 3);
    assert_int_equal(ls_text_distance("modle", "model"), 1);
    assert_int_equal(ls_text_distance("rate", "rates"), 1);
    assert_int_equal(ls_text_distance("ca", "abc"), 3);
}

static void near_misses(void **state)
{
    (void)state;
    size_t best = SIZE_MAX;
    assert_false(ls_text_nearer(&best, "zzz", "rate"));
    assert_true(ls_text_nearer(&best, "rat", "rate"));
    assert_false(ls_text_nearer(&best, "rat", "rats")); /* as near, but not nearer */
    best = SIZE_MAX;
    assert_false(ls_text_nearer(&best, "x", "a")); /* nothing in common */
}

static void utf8(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t length;
        const char *expected;
    } cases[] = {
        {"plain", 5, "plain"},
        {"", 0, ""},
        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9, "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
        {"a\xc3", 2, "a\xef\xbf\xbd"},                               /* cut within a character */
        {"\xc0\xaf", 2, "\xef\xbf\xbd\xef\xbf\xbd"},                 /* longer than needed */
        {"\xed\xa0\x80", 3, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* a surrogate */
        {"\xf4\x90\x80\x80z", 5, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz"},
        {"a\0b", 3,
         "a\xef\xbf\xbd"
         "b"},
        {"\xff\xfe", 2, "\xef\xbf\xbd\xef\xbf\xbd"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *exact = ls_text_memory(NULL, cases[i].length); /* no byte more, so that a sanitizer sees a read beyond */
        if (cases[i].length > 0) memcpy(exact, cases[i].bytes, cases[i].length);
        char *valid = ls_text_valid_utf8(exact, cases[i].length);
        assert_string_equal(valid, cases[i].expected);
        free(valid);
        free(exact);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats_any_length),
        cmocka_unit_test(grows),
        cmocka_unit_test(whole_numbers),
        cmocka_unit_test(real_numbers),
        cmocka_unit_test(distances),
        cmocka_unit_test(near_misses),
        cmocka_unit_test(utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
