/* Answers that are written: where their text ends, and which part of it counts. */
#include "tests/data/data_check.h"

#include "core/text.h"
#include "eval/task/answer_part.h"
#include "eval/task/answer_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { END_OF_TEXT = 256, MOST = 64 };

/* ---- where the text ends ----------------------------------------------------------------------------------------- */

/* Bytes are tokens; '$' stands for the end of text. They are given `at_once` at a time. */
static void expect_text(const char *written, int64_t at_once, const char *const *stops, int stop_count,
                        const char *expected, int64_t expected_tokens, bool ended)
{
    ls_tokenizer *tokenizer = data_byte_tokenizer();
    const ls_string_list stop = {(char **)(uintptr_t)stops, stop_count};
    ls_answer_text answer;
    int32_t tokens[MOST];
    const int64_t count = (int64_t)strlen(written);
    for (int64_t i = 0; i < count; i++) tokens[i] = written[i] == '$' ? END_OF_TEXT : (unsigned char)written[i];
    ls_answer_text_begin(&answer, tokenizer, tokens, 0, &stop);
    for (int64_t i = 0; i < count; i += at_once)
        assert_int_equal(ls_answer_text_add(&answer, tokens + i, count - i < at_once ? count - i : at_once), LS_OK);
    assert_int_equal(answer.ended, ended);
    assert_int_equal(ls_answer_text_end(&answer), LS_OK);
    assert_string_equal(answer.text.bytes, expected);
    assert_int_equal(answer.text.length, strlen(expected));
    assert_int_equal(answer.tokens, expected_tokens);
    ls_answer_text_free(&answer);
    ls_tokenizer_free(tokenizer);
}

static void a_stop_string_ends_the_text_wherever_its_tokens_lie(void **state)
{
    (void)state;
    static const char *const stops[] = {"\nQ:", "##"}, *const accent[] = {"\xC3\xA9!"}, *const inside[] = {"b", "abc"};
    for (int64_t at_once = 1; at_once <= 9; at_once++) {
        expect_text("42\nQ: more", at_once, stops, 2, "42", 5, true);
        expect_text("4#2##3\nQ:", at_once, stops, 2, "4#2", 5, true);
        expect_text("\n\nQ\nQ:", at_once, stops, 2, "\n\nQ", 6, true);
        expect_text("##", at_once, stops, 2, "", 2, true);
        expect_text("\nQ", at_once, stops, 2, "\nQ", 2, false);
        expect_text("a$b##", at_once, stops, 2, "a", 2, true);
        expect_text("a#$#b", at_once, stops, 2, "a#", 3, true);
        expect_text("abc##", at_once, NULL, 0, "abc##", 5, false);
        expect_text("\xC3\xA9\xC3\xA9!x", at_once, accent, 1, "\xC3\xA9", 5, true);
        expect_text("xabcd", at_once, inside, 2, "xa", 3, true); /* the stop that is whole first */
        expect_text("a\xC3", at_once, stops, 2, "a\xEF\xBF\xBD", 2, false);
        expect_text("a\xC3$", at_once, stops, 2, "a\xEF\xBF\xBD", 3, true);
    }
}

/* ---- the part that counts ---------------------------------------------------------------------------------------- */

static void expect_part(const ls_task_config *config, const char *text, const char *expected)
{
    ls_answer_part *part;
    char *found;
    if (ls_answer_part_create(&part, config) != LS_OK) fail_msg("%s", ls_error_text());
    assert_int_equal(ls_answer_part_find(&found, part, text), LS_OK);
    if (expected == NULL)
        assert_null(found);
    else
        assert_string_equal(found, expected);
    free(found);
    ls_answer_part_destroy(part);
}

static void the_whole_text_counts_but_for_blanks(void **state)
{
    (void)state;
    ls_task_config config = {.squeeze_blanks = true};
    expect_part(&config, " \n[IN:GET  [SL:A\tx ] ]\n\n", "[IN:GET [SL:A x ] ]");
    expect_part(&config, " \n", "");
    expect_part(&config, "", "");
    config.squeeze_blanks = false;
    expect_part(&config, " a  b\n", " a  b\n");
}

static void a_pattern_finds_its_group_first_or_last(void **state)
{
    (void)state;
    ls_task_config config = {.extract = "#### (-?[0-9.,]+)", .squeeze_blanks = true};
    expect_part(&config, "so\n#### 1,234\n#### 5", "1,234");
    expect_part(&config, "so 1,234", NULL);
    config.extract_match = LS_TASK_MATCH_LAST;
    char *removed[] = {",", "$"};
    config.remove = (ls_string_list){removed, 2};
    expect_part(&config, "so\n#### 5\n#### 1,234,567", "1234567");
    expect_part(&config, "#### 5 and ####", "5");
    config.extract = "[$0-9]+"; /* no group: all that matches */
    expect_part(&config, "3 then $42.", "42");
    config.extract = "(a)|b"; /* a group that took no part */
    expect_part(&config, "a b", "b");
    config.extract = "x*"; /* empty matches, the last at the end */
    expect_part(&config, "\xC3\xA9xx\xC3\xA9", "");
    config.extract_match = LS_TASK_MATCH_FIRST;
    config.extract = "\xC3\xA9(.)";
    expect_part(&config, "\xC3\xA9\xC3\xA8", "\xC3\xA8"); /* a character, not a byte */
}

static void a_pattern_that_is_none_is_refused(void **state)
{
    (void)state;
    ls_answer_part *part;
    ls_task_config config = {.extract = "a(b"};
    assert_int_equal(ls_answer_part_create(&part, &config), LS_BAD_INPUT);
    assert_non_null(strstr(ls_error_text(), "extract"));
    ls_error_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stop_string_ends_the_text_wherever_its_tokens_lie),
        cmocka_unit_test(the_whole_text_counts_but_for_blanks),
        cmocka_unit_test(a_pattern_finds_its_group_first_or_last),
        cmocka_unit_test(a_pattern_that_is_none_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
