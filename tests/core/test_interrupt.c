/* Signals, each play in a child process of its own. */
#include "core_check.h"
#include "core/interrupt.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* Sends a signal to this process and lets whoever takes it do so. */
static void deliver(int number)
{
    sigset_t pending;
    (void)kill(getpid(), number);
    do {
        (void)usleep(1000);
        (void)sigpending(&pending);
    } while (sigismember(&pending, number));
    (void)usleep(200000);
}

/* The signals of a play, sent in turn; each survived one is reported on standard output. */
static void play(void *context)
{
    ls_interrupt_take();
    ls_interrupt_install();
    ls_interrupt_install();
    (void)printf("%d:%d ", ls_interrupt_requested(), ls_interrupt_signal());
    for (const int *number = context; *number != 0; number++) {
        (void)fflush(stdout);
        deliver(*number);
        ls_interrupt_install(); /* must not forget what came */
        (void)printf("%d:%d ", ls_interrupt_requested(), ls_interrupt_signal() == *number);
    }
}

static void first_asks(void **state)
{
    (void)state;
    char output[64];
    const int status = check_in_child(play, (int[]){SIGTERM, 0}, 1, output, sizeof output);
    CHECK_CHILD_EXITS(status, 0);
    assert_string_equal(output, "0:0 1:1 ");
}

static void second_ends(void **state)
{
    (void)state;
    static int plays[][3] = {{SIGINT, SIGINT, 0}, {SIGINT, SIGTERM, 0}, {SIGTERM, SIGINT, 0}, {SIGTERM, SIGTERM, 0}};
    for (size_t i = 0; i < 4; i++) {
        char output[64];
        const int status = check_in_child(play, plays[i], 1, output, sizeof output);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), plays[i][1]);
        assert_string_equal(output, "0:0 1:1 ");
    }
}

/* A closing terminal sends SIGHUP more than once. */
static void hang_ups_ask_once(void **state)
{
    (void)state;
    char output[64];
    const int status = check_in_child(play, (int[]){SIGHUP, SIGHUP, SIGTERM, 0}, 1, output, sizeof output);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGTERM);
    assert_string_equal(output, "0:0 1:1 1:1 ");
}

static void play_early(void *context)
{
    ls_interrupt_take();
    deliver(*(const int *)context);
    (void)printf("alive");
}

static void before_installing_it_ends(void **state)
{
    (void)state;
    static int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1};
    for (size_t i = 0; i < 4; i++) {
        char output[64];
        const int status = check_in_child(play_early, &numbers[i], 1, output, sizeof output);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), numbers[i]);
        assert_string_equal(output, "");
    }
}

/* No thread but the one that takes signals may be interrupted, those that come later included. */
static void *blocked_here(void *argument)
{
    sigset_t blocked;
    (void)pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    *(bool *)argument = sigismember(&blocked, SIGINT) && sigismember(&blocked, SIGTERM) &&
                        sigismember(&blocked, SIGHUP) && sigismember(&blocked, SIGUSR1);
    return NULL;
}

static void play_threads(void *context)
{
    (void)context;
    bool first = false, later = false;
    pthread_t thread;
    ls_interrupt_install();
    (void)blocked_here(&first);
    if (pthread_create(&thread, NULL, blocked_here, &later) == 0) (void)pthread_join(thread, NULL);
    (void)printf("%d:%d", first, later);
}

static void threads_are_left_alone(void **state)
{
    (void)state;
    char output[64];
    const int status = check_in_child(play_threads, NULL, 1, output, sizeof output);
    CHECK_CHILD_EXITS(status, 0);
    assert_string_equal(output, "1:1");
}

static void play_ignored(void *context)
{
    (void)signal(SIGINT, SIG_IGN);
    play(context);
}

static void ignored_stays_ignored(void **state)
{
    (void)state;
    char output[64];
    const int status = check_in_child(play_ignored, (int[]){SIGINT, SIGINT, 0}, 1, output, sizeof output);
    CHECK_CHILD_EXITS(status, 0);
    assert_string_equal(output, "0:0 0:0 0:0 ");
}

static void play_file_limit(void *context)
{
    (void)context;
    ls_interrupt_install();
    (void)raise(SIGXFSZ);
    (void)printf("alive %d", ls_interrupt_requested());
}

static void file_limit_is_no_death(void **state)
{
    (void)state;
    char output[64];
    const int status = check_in_child(play_file_limit, NULL, 1, output, sizeof output);
    CHECK_CHILD_EXITS(status, 0);
    assert_string_equal(output, "alive 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_asks),
        cmocka_unit_test(second_ends),
        cmocka_unit_test(hang_ups_ask_once),
        cmocka_unit_test(before_installing_it_ends),
        cmocka_unit_test(threads_are_left_alone),
        cmocka_unit_test(ignored_stays_ignored),
        cmocka_unit_test(file_limit_is_no_death),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
