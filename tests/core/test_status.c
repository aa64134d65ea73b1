/* The error text: the first failure wins, per thread, until it is cleared. */
#include "core_check.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

static ls_status fails(ls_status status) { return LS_FAIL(status, "number %d", (int)status); }

static ls_status passes_up(ls_status status)
{
    LS_TRY(fails(status));
    return LS_FAIL(LS_INTERNAL, "went on after a failure");
}

static ls_status leaves_through_label(int *cleaned)
{
    ls_status status = LS_OK;
    LS_TRY_GOTO(fails(LS_IO), done);
    status = LS_INTERNAL;
done:
    *cleaned = 1;
    return status;
}

static void first_failure_wins(void **state)
{
    (void)state;
    ls_error_clear();
    assert_string_equal(ls_error_text(), "");
    assert_int_equal(passes_up(LS_NO_MEMORY), LS_NO_MEMORY);
    assert_int_equal(fails(LS_IO), LS_IO);
    assert_string_equal(ls_error_text(), "number 3");
    assert_non_null(strstr(ls_error_place(), "test_status.c:"));
    ls_error_clear();
    assert_string_equal(ls_error_place(), "");
    assert_int_equal(fails(LS_IO), LS_IO);
    assert_string_equal(ls_error_text(), "number 2");
    ls_error_clear();
}

static void a_sentence_can_be_worded_anew(void **state)
{
    (void)state;
    ls_error_clear();
    assert_int_equal(fails(LS_IO), LS_IO);
    assert_int_equal(LS_REWORD(LS_BAD_INPUT, "x: %s; %s", ls_error_text(), ls_error_text()), LS_BAD_INPUT);
    assert_string_equal(ls_error_text(), "x: number 2; number 2");
    ls_error_clear();
    assert_int_equal(LS_REWORD(LS_IO, "y"), LS_IO);
    assert_string_equal(ls_error_text(), "y");
    ls_error_clear();
}

static void cleans_up_on_the_way(void **state)
{
    (void)state;
    int cleaned = 0;
    assert_int_equal(leaves_through_label(&cleaned), LS_IO);
    assert_int_equal(cleaned, 1);
    ls_error_clear();
}

static void *other_thread(void *seen)
{
    *(int *)seen = ls_error_text()[0] == '\0';
    (void)fails(LS_BAD_INPUT);
    return NULL;
}

static void text_is_per_thread(void **state)
{
    (void)state;
    pthread_t thread;
    int empty = 0;
    (void)fails(LS_IO);
    assert_int_equal(pthread_create(&thread, NULL, other_thread, &empty), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(empty, 1);
    assert_string_equal(ls_error_text(), "number 2");
    ls_error_clear();
}

static void long_texts_are_cut(void **state)
{
    (void)state;
    char text[5000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    (void)LS_FAIL(LS_IO, "%s", text);
    assert_in_range(strlen(ls_error_text()), 500, 4999);
    ls_error_clear();
}

static void exit_statuses(void **state)
{
    (void)state;
    assert_int_equal(ls_status_exit(LS_OK), 0);
    assert_int_equal(ls_status_exit(LS_BAD_INPUT), 2);
    assert_int_equal(ls_status_exit(LS_IO), 2);
    assert_int_equal(ls_status_exit(LS_INTERRUPTED), 130);
    assert_int_equal(ls_status_exit(LS_HELP_SHOWN), 0);
    assert_string_equal(ls_status_name(LS_NOT_FINITE), "value not finite");
}

static void break_an_invariant(void *context)
{
    (void)context;
    LS_ASSERT(1 + 1 == 3);
}

static void assertions_abort_and_say_what(void **state)
{
    (void)state;
    char output[512];
    const int status = check_in_child(break_an_invariant, NULL, 2, output, sizeof output);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    check_text_has(output, "1 + 1 == 3");
    check_text_has(output, "test_status.c:");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_failure_wins),
        cmocka_unit_test(a_sentence_can_be_worded_anew),
        cmocka_unit_test(cleans_up_on_the_way),
        cmocka_unit_test(text_is_per_thread),
        cmocka_unit_test(long_texts_are_cut),
        cmocka_unit_test(exit_statuses),
        cmocka_unit_test(assertions_abort_and_say_what),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
