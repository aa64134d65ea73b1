/* Copies from the text so far. */
#include "eval/prompt_lookup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void copies_what_followed_the_longest_match(void **state)
{
    (void)state;
    int32_t draft[8];
    const int32_t text[] = {1, 2, 3, 4, 5, 9, 2, 3, 7, 7, 1, 2, 3};
    assert_int_equal(ls_prompt_lookup(draft, 3, text, 13), 3); /* 1 2 3, not the later 2 3 */
    assert_int_equal(draft[0], 4);
    assert_int_equal(draft[1], 5);
    assert_int_equal(draft[2], 9);
    assert_int_equal(ls_prompt_lookup(draft, 8, text, 10), 1); /* 7 7: the last 7 repeats the one before */
    assert_int_equal(draft[0], 7);
}

static void latest_match_wins_and_nothing_is_read_beyond(void **state)
{
    (void)state;
    int32_t draft[8];
    const int32_t text[] = {5, 1, 5, 2, 5};
    assert_int_equal(ls_prompt_lookup(draft, 8, text, 5), 2);
    assert_int_equal(draft[0], 2);
    assert_int_equal(draft[1], 5);
    assert_int_equal(ls_prompt_lookup(draft, 0, text, 5), 0);
    assert_int_equal(ls_prompt_lookup(draft, 8, text, 4), 0); /* 2 is new */
    assert_int_equal(ls_prompt_lookup(draft, 8, text, 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_what_followed_the_longest_match),
        cmocka_unit_test(latest_match_wins_and_nothing_is_read_beyond),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
