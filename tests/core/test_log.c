/* Messages and the progress line, through a pipe and on a terminal, with a clock of our own. */
#include "core_check.h"
#include "core/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static time_t clock_seconds;

int __wrap_clock_gettime(clockid_t clock, struct timespec *now);

int __wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
    (void)clock;
    *now = (struct timespec){.tv_sec = clock_seconds};
    return 0;
}

static void speak(void *context)
{
    (void)context;
    ls_log_info("read %d files", 3);
    ls_log_warning("%s is odd", "x");
    ls_log_set_quiet(1);
    ls_log_info("not this");
    ls_log_progress("nor this");
    ls_log_warning("but this");
    ls_log_progress_end();
}

static void messages_go_to_standard_error(void **state)
{
    (void)state;
    char output[512];
    CHECK_CHILD_EXITS(check_in_child(speak, NULL, 2, output, sizeof output), 0);
    assert_string_equal(output, "read 3 files\nwarning: x is odd\nwarning: but this\n");
    CHECK_CHILD_EXITS(check_in_child(speak, NULL, 1, output, sizeof output), 0);
    assert_string_equal(output, "");
}

static void progress_now_and_then(void *context)
{
    (void)context;
    for (clock_seconds = 100; clock_seconds <= 122; clock_seconds++) ls_log_progress("step %d", (int)clock_seconds);
    ls_log_info("saved");
    ls_log_progress_end();
    ls_log_progress_end();
    ls_log_progress("again");
}

static void elsewhere_progress_is_a_line_every_ten_seconds(void **state)
{
    (void)state;
    char output[512];
    CHECK_CHILD_EXITS(check_in_child(progress_now_and_then, NULL, 2, output, sizeof output), 0);
    assert_string_equal(output, "step 100\nstep 110\nstep 120\nsaved\nstep 122\nagain\n");
}

/* Makes standard error a terminal of 20 columns and copies what appears on it to standard output. */
static void on_a_terminal(void *context)
{
    const int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0) _exit(98);
    const int terminal = open(ptsname(master), O_RDWR | O_NOCTTY);
    const struct winsize window = {.ws_row = 5, .ws_col = 20};
    if (terminal < 0 || ioctl(terminal, TIOCSWINSZ, &window) != 0) _exit(98);
    (void)dup2(terminal, 2);
    (void)setenv("TERM", context, 1);
    ls_log_progress("step 1");
    ls_log_progress("step %s", "2 \xc3\xa9\xc3\xa9 is much too long for it");
    ls_log_info("saved");
    ls_log_progress("step 3");
    ls_log_progress_end();
    (void)close(2);
    (void)close(terminal);
    char text[64];
    for (ssize_t count; (count = read(master, text, sizeof text)) > 0;) (void)fwrite(text, 1, (size_t)count, stdout);
}

static void on_a_terminal_progress_is_redrawn(void **state)
{
    (void)state;
    char output[512];
    const int status = check_in_child(on_a_terminal, (char[]){"xterm"}, 1, output, sizeof output);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 98) skip();
    CHECK_CHILD_EXITS(status, 0);
    assert_string_equal(output,
                        "\rstep 1\033[K\rstep 2 \xc3\xa9\xc3\xa9 is much t\033[K\r\nsaved\r\n\rstep 3\033[K\r\n");
}

static void a_dumb_terminal_gets_lines(void **state)
{
    (void)state;
    char output[512];
    const int status = check_in_child(on_a_terminal, (char[]){"dumb"}, 1, output, sizeof output);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 98) skip();
    CHECK_CHILD_EXITS(status, 0);
    assert_string_equal(output, "step 1\r\nsaved\r\nstep 3\r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_go_to_standard_error),
        cmocka_unit_test(elsewhere_progress_is_a_line_every_ten_seconds),
        cmocka_unit_test(on_a_terminal_progress_is_redrawn),
        cmocka_unit_test(a_dumb_terminal_gets_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
