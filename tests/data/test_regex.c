/* Patterns for Oniguruma, read by PCRE2: what is rewritten, what is refused, where matches lie. */
#include "data_check.h"

#include "data/regex.h"
#include "data/utf8.h"

#include <stdlib.h>
#include <string.h>

/* Is the character, alone, a match of the pattern? */
static bool matches(const char *pattern, const char *text)
{
    ls_regex *regex;
    ls_regex_scratch *scratch;
    size_t start, end;
    bool found;
    CHECK_OK(ls_regex_compile(&regex, pattern, false, "test"));
    CHECK_OK(ls_regex_scratch_create(&scratch));
    CHECK_OK(ls_regex_find(regex, scratch, text, strlen(text), 0, &start, &end, &found));
    ls_regex_scratch_free(scratch);
    ls_regex_free(regex);
    return found;
}

static void test_classes(void **state)
{
    (void)state;
    static const char *const space[] = {" ", "\t", "\v", "\xC2\x85", "\xC2\xA0", "\xE2\x80\xA8", "\xE3\x80\x80"};
    static const char *const no_space[] = {"a", "\x1C", "\xE2\x80\x8B", "\xE1\xA0\x8E", "\xEF\xBB\xBF"};
    static const char *const word[] = {"a",           "_", "9", "\xC3\xA9", "\xCC\x81", "\xC2\xBD", "\xE2\x85\xA7",
                                       "\xE2\x93\x90"};
    static const char *const no_word[] = {"-", " ", "\xE2\x82\xAC", "\xE2\x91\xA0", "\xE2\x80\x8D"};
    for (size_t i = 0; i < sizeof space / sizeof space[0]; i++) {
        assert_true(matches("\\s", space[i]) && matches("[\\s]", space[i]) && matches("[^\\S]", space[i]));
        assert_false(matches("\\S", space[i]) || matches("[^\\s]", space[i]) || matches("[\\S]", space[i]));
    }
    for (size_t i = 0; i < sizeof no_space / sizeof no_space[0]; i++) {
        assert_false(matches("\\s", no_space[i]) || matches("[\\s]", no_space[i]));
        assert_true(matches("\\S", no_space[i]) && matches("[\\S]", no_space[i]));
    }
    for (size_t i = 0; i < sizeof word / sizeof word[0]; i++)
        assert_true(matches("\\w", word[i]) && matches("[\\w]", word[i]) && !matches("\\W", word[i]));
    for (size_t i = 0; i < sizeof no_word / sizeof no_word[0]; i++)
        assert_true(!matches("\\w", no_word[i]) && matches("[^\\w]", no_word[i]) && matches("\\W", no_word[i]));
    assert_true(matches("^\\v$", "\v") && !matches("\\v", "\n"));
    assert_true(matches("\\u4f60", "\xE4\xBD\xA0"));
    assert_true(matches("(?i)ABC|x", "abc"));
}

/* Categories are those of Unicode 16, whatever PCRE2's are: characters of 15.0 and 16.0 count, one of 17.0 does not. */
static void test_the_version_of_unicode(void **state)
{
    (void)state;
    static const char *const letters[] = {"\xF0\xB1\x8D\x90", "\xE1\xB2\x89"}; /* U+31350, U+1C89 */
    for (int i = 0; i < 2; i++) {
        assert_true(matches("\\p{L}", letters[i]) && matches("[\\p{L}]", letters[i]) && matches("\\w", letters[i]));
        assert_false(matches("\\P{L}", letters[i]) || matches("[\\P{L}]", letters[i]) ||
                     matches("\\p{^L}", letters[i]));
        assert_false(matches("[^\\p{L}]", letters[i]) || matches("\\p{N}", letters[i]));
    }
    assert_true(matches("\\p{Lu}", letters[1]) && matches("\\p{Lo}", letters[0]));
    assert_true(matches("\\P{L}", "\xEA\x9F\x8E") && matches("[\\P{L}]", "\xEA\x9F\x8E")); /* U+A7CE */
    assert_true(matches("\\d", "\xF0\x90\xB5\x80") && matches("\\D", "\xF0\x91\xB7\xA0")); /* U+10D40, U+11DE0 */
    assert_true(matches("^[+-]$", "-") && matches("^[\\d-]$", "-"));
}

static void test_refusals(void **state)
{
    (void)state;
    static const char *const patterns[] = {
        "a(?i)b", "\\h",     "\\bx",        "[\\W]", "(a)\\1",  "[a[b]]",     "[a-z&&[aeiou]]", "\\p{Han}", "\\pL",
        "\\p{L",  "a{1,3}+", "a{2}?",       "a{,3}", "(?m:.)",  "(*VERB)",    "(?<n>a)",        "[]a]",     "\\uzzzz",
        "\\G",    "a\\",     "[[:alpha:]]", "a{",    "[a-\\d]", "[!-\\p{L}]", "\\p{Xx}",        "\\p{}",
    };
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        char *out = NULL;
        CHECK_REFUSED(ls_regex_translate(&out, patterns[i], "test"), LS_BAD_INPUT, "is not supported");
    }
}

static void test_find(void **state)
{
    (void)state;
    ls_regex *regex;
    ls_regex_scratch *scratch;
    size_t start, end;
    bool found;
    CHECK_OK(ls_regex_scratch_create(&scratch));
    CHECK_OK(ls_regex_compile(&regex, "a.", true, "test")); /* plain text */
    CHECK_OK(ls_regex_find(regex, scratch, "abab.a.", 7, 0, &start, &end, &found));
    assert_true(found && start == 5 && end == 7);
    CHECK_OK(ls_regex_find(regex, scratch, "abab.a.", 7, 6, &start, &end, &found));
    assert_false(found);
    ls_regex_free(regex);
    CHECK_OK(ls_regex_compile(&regex, "(?<=x)y*", false, "test")); /* sees what lies before the start */
    CHECK_OK(ls_regex_find(regex, scratch, "xyy", 3, 1, &start, &end, &found));
    assert_true(found && start == 1 && end == 3);
    CHECK_OK(ls_regex_find(regex, scratch, "x", 1, 1, &start, &end, &found));
    assert_true(found && start == 1 && end == 1);
    ls_regex_free(regex);
    ls_regex_scratch_free(scratch);
}

static void test_utf8(void **state)
{
    (void)state;
    static const char *const wrong[] = {"\x80",         "\xC1\xBF",         "\xE0\x9F\xBF",
                                        "\xED\xBF\xBF", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80",
                                        "\xE2\x82",     "\xE2\x28\xA1"};
    uint32_t character;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(ls_utf8_decode(wrong[i], strlen(wrong[i]), &character), 0);
        assert_int_equal(ls_utf8_valid_prefix(wrong[i], strlen(wrong[i])), 0);
    }
    assert_int_equal(ls_utf8_decode("\xF4\x8F\xBF\xBF", 4, &character), 4);
    assert_int_equal(character, 0x10FFFF);
    assert_int_equal(ls_utf8_decode_last("a\xE2\x82\xAC", 4, &character), 3);
    assert_int_equal(character, 0x20AC);
    assert_int_equal(ls_utf8_decode_last("\xE2\x82", 2, &character), 0);
    assert_int_equal(ls_utf8_valid_prefix("0123456789\xC3\xA9_\xFF!", 15), 13);
    assert_int_equal(ls_utf8_valid_prefix("", 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classes),  cmocka_unit_test(test_the_version_of_unicode),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_find),
        cmocka_unit_test(test_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
