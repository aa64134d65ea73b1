/* Programs that fail, loop, allocate, fork and escape: all end as they must, and nothing of them is left, with
 * namespaces and without. syscall is wrapped, so that a kernel that gives no namespaces can be played. */
#include "tests/core/core_check.h"

#include "core/text.h"
#include "eval/task/program_run.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool no_namespaces;

long __real_syscall(long number, long a, long b, long c, long d, long e);
long __wrap_syscall(long number, long a, long b, long c, long d, long e);

long __wrap_syscall(long number, long a, long b, long c, long d, long e)
{
    if (!no_namespaces || (a & CLONE_NEWPID) == 0) return __real_syscall(number, a, b, c, d, e);
    errno = EPERM;
    return -1;
}

static ls_status run(ls_program_end *end, const char *interpreter, const char *text, double seconds, int64_t memory)
{
    char *items[] = {(char *)(uintptr_t)interpreter, (char *)(uintptr_t) "{file}"};
    const ls_string_list command = {items, 2};
    const ls_program program = {.text = text, .command = &command, .time_limit = seconds, .memory_limit = memory};
    bool isolated = false;
    const ls_status status = ls_program_run(end, &isolated, &program);
    if (status == LS_OK && no_namespaces) assert_false(isolated);
    return status;
}

static void expect_end(const char *interpreter, const char *text, ls_program_end expected)
{
    ls_program_end end;
    if (run(&end, interpreter, text, 120.0, 1024) != LS_OK) fail_msg("%s", ls_error_text());
    if (end != expected) fail_msg("ended %d instead of %d: %s", (int)end, (int)expected, text);
}

/* Processes whose command line holds `mark`. */
static int processes(const char *mark)
{
    int found = 0;
    DIR *folder = opendir("/proc");
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        char path[300], line[4096] = "";
        (void)snprintf(path, sizeof path, "/proc/%s/cmdline", entry->d_name);
        const int file = entry->d_name[0] >= '0' && entry->d_name[0] <= '9' ? open(path, O_RDONLY) : -1;
        if (file < 0) continue;
        const ssize_t length = read(file, line, sizeof line);
        (void)close(file);
        found += length > 0 && memmem(line, (size_t)length, mark, strlen(mark)) != NULL;
    }
    (void)closedir(folder);
    return found;
}

/* ---- the tests, each run both ways ------------------------------------------------------------------------------- */

static void exit_status_decides(void **state)
{
    (void)state;
    expect_end("sh", "exit 0\n", LS_PROGRAM_PASSED);
    expect_end("sh", "exit 1\n", LS_PROGRAM_FAILED);
    expect_end("sh", "exit 127\n", LS_PROGRAM_FAILED);
    expect_end("sh", "kill -9 $$\n", LS_PROGRAM_KILLED);
    expect_end("sh", "kill -15 $$\n", LS_PROGRAM_KILLED);
    expect_end("python3", "assert 1 + 1 == 2\n", LS_PROGRAM_PASSED);
    expect_end("python3", "assert 1 + 1 == 3\n", LS_PROGRAM_FAILED);
    expect_end("python3", "def f(:\n", LS_PROGRAM_FAILED);
    expect_end("python3", "import os; os.abort()\n", LS_PROGRAM_KILLED);
}

static void a_loop_runs_out_of_time(void **state)
{
    (void)state;
    ls_program_end end;
    assert_int_equal(run(&end, "sh", "while :; do :; done\n", 0.3, 1024), LS_OK);
    assert_int_equal(end, LS_PROGRAM_TIMED_OUT);
    assert_int_equal(run(&end, "sh", "trap '' TERM INT HUP XCPU; while :; do :; done\n", 0.3, 1024), LS_OK);
    assert_int_equal(end, LS_PROGRAM_TIMED_OUT);
    assert_int_equal(run(&end, "sh", "sleep 31415\n", 0.3, 1024), LS_OK);
    assert_int_equal(end, LS_PROGRAM_TIMED_OUT);
    assert_int_equal(processes("31415"), 0);
}

static void memory_and_files_are_limited(void **state)
{
    (void)state;
    expect_end("python3", "x = bytearray(600 << 20)\n", LS_PROGRAM_PASSED);
    expect_end("python3", "x = bytearray(1200 << 20)\n", LS_PROGRAM_FAILED);
    expect_end("python3", "x = []\nwhile True: x.append(bytearray(1 << 20))\n", LS_PROGRAM_FAILED);
    expect_end("python3", "open('big', 'wb').write(bytes(65 << 20))\n", LS_PROGRAM_FAILED);
    expect_end("python3", "open('fine', 'wb').write(bytes(60 << 20))\n", LS_PROGRAM_PASSED);
}

static void forks_are_limited_and_none_is_left(void **state)
{
    (void)state;
    ls_program_end end;
    /* More than the limit, were there none; each would live on. */
    expect_end("python3",
               "import os, sys, time\n"
               "for i in range(300):\n"
               "    try:\n"
               "        if os.fork() == 0:\n"
               "            os.setsid()\n"
               "            os.execvp('sleep', ['sleep', '27182'])\n"
               "    except BlockingIOError:\n"
               "        time.sleep(0.2)\n"
               "        sys.exit(0 if i > 3 else 1)\n"
               "sys.exit(1)\n",
               LS_PROGRAM_PASSED);
    assert_int_equal(processes("27182"), 0);
    /* Grandchildren that have lost their parents. */
    expect_end("sh", "(setsid sh -c 'sleep 16180 & sleep 16180' &) & sleep 0.3; exit 0\n", LS_PROGRAM_PASSED);
    assert_int_equal(processes("16180"), 0);
    assert_int_equal(run(&end, "sh", "(setsid sh -c 'sleep 14142 & sleep 14142' &) & sleep 14142\n", 0.5, 1024), LS_OK);
    assert_int_equal(end, LS_PROGRAM_TIMED_OUT);
    assert_int_equal(processes("14142"), 0);
    assert_int_equal(run(&end, "sh", "f() { f | f & }; f; sleep 9\n", 1.0, 256), LS_OK);
}

static void nothing_of_the_caller_is_handed_down(void **state)
{
    (void)state;
    assert_int_equal(setenv("LS_TEST_SECRET", "x", 1), 0);
    expect_end("sh", "test -z \"$LS_TEST_SECRET\" && test \"$HOME\" = \"$PWD\" && test -w . && test -f program\n",
               LS_PROGRAM_PASSED);
    const int file = open("/dev/null", O_RDONLY); /* without close-on-exec */
    expect_end("python3",
               "import os\n"
               "for f in range(3, 300):\n"
               "    try: os.fstat(f)\n"
               "    except OSError: continue\n"
               "    raise SystemExit(f)\n",
               LS_PROGRAM_PASSED);
    (void)close(file);
    if (geteuid() == 0)
        expect_end("sh", "test \"$(id -u)\" -ge 65534 && test \"$(id -G)\" = \"$(id -u)\"\n", LS_PROGRAM_PASSED);
    expect_end("sh", "read line; test $? = 1\n", LS_PROGRAM_PASSED); /* standard input is empty */
}

static void the_folder_goes(void **state)
{
    (void)state;
    char folder[] = "program-XXXXXX";
    assert_non_null(mkdtemp(folder));
    assert_int_equal(chmod(folder, 0777), 0);
    char *place = realpath(folder, NULL);
    assert_int_equal(setenv("TMPDIR", strlen(place) < 40 ? place : "/tmp", 1), 0);
    expect_end("sh", "mkdir -p a/b && echo x >a/b/c && ln -s / a/root\n", LS_PROGRAM_PASSED);
    assert_int_equal(unsetenv("TMPDIR"), 0);
    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(access("/proc", F_OK), 0); /* and not what a link in it led to */
    free(place);
}

static void the_text_can_be_standard_input(void **state)
{
    (void)state;
    char *items[] = {(char *)(uintptr_t) "sh"};
    const ls_string_list command = {items, 1};
    const ls_program program = {.text = "exit 3\n", .command = &command, .time_limit = 120.0, .memory_limit = 1024};
    ls_program_end end;
    bool isolated;
    assert_int_equal(ls_program_run(&end, &isolated, &program), LS_OK);
    assert_int_equal(end, LS_PROGRAM_FAILED);
}

static void a_command_that_is_none_is_refused(void **state)
{
    (void)state;
    ls_program_end end;
    CHECK_REFUSED(run(&end, "no-such-interpreter", "", 120.0, 1024), LS_BAD_INPUT, "no-such-interpreter");
}

/* Where this machine gives namespaces at all. */
static void the_network_is_out_of_reach(void **state)
{
    (void)state;
    char *items[] = {(char *)(uintptr_t) "sh", (char *)(uintptr_t) "{file}"};
    const ls_string_list command = {items, 2};
    /* Only a loopback device that is down: no addresses and no routes. */
    const ls_program program = {.text = "test $(tail -n +3 /proc/net/dev | grep -cv ' lo:') = 0 && "
                                        "test -z \"$(tail -n +2 /proc/net/route)\"\n",
                                .command = &command,
                                .time_limit = 120.0,
                                .memory_limit = 1024};
    ls_program_end end;
    bool isolated;
    assert_int_equal(ls_program_run(&end, &isolated, &program), LS_OK);
    if (isolated)
        assert_int_equal(end, LS_PROGRAM_PASSED);
    else
        print_message("this machine gives no namespaces\n");
}

static int without_namespaces(void **state)
{
    (void)state;
    no_namespaces = true;
    return 0;
}

static void *nothing(void *argument) { return argument; }

static void *start_threads(void *argument)
{
    const atomic_bool *over = argument;
    pthread_t thread;
    while (!atomic_load(over))
        if (pthread_create(&thread, NULL, nothing, NULL) == 0) (void)pthread_join(thread, NULL);
    return NULL;
}

/* What the C library asks of other threads, a program's process waits for in vain: it has none of them. */
static void threads_hold_up_no_program(void **state)
{
    (void)state;
    atomic_bool over = false;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, start_threads, &over), 0);
    for (int i = 0; i < 100; i++) expect_end("sh", ":\n", LS_PROGRAM_PASSED);
    atomic_store(&over, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest both_ways[] = {
        cmocka_unit_test(exit_status_decides),
        cmocka_unit_test(a_loop_runs_out_of_time),
        cmocka_unit_test(memory_and_files_are_limited),
        cmocka_unit_test(forks_are_limited_and_none_is_left),
        cmocka_unit_test(nothing_of_the_caller_is_handed_down),
        cmocka_unit_test(the_folder_goes),
        cmocka_unit_test(the_text_can_be_standard_input),
        cmocka_unit_test(threads_hold_up_no_program),
        cmocka_unit_test(a_command_that_is_none_is_refused),
    };
    const struct CMUnitTest isolated[] = {cmocka_unit_test(the_network_is_out_of_reach)};
    const int failed = cmocka_run_group_tests_name("as it is", both_ways, NULL, NULL) +
                       cmocka_run_group_tests_name("network", isolated, NULL, NULL) +
                       cmocka_run_group_tests_name("without namespaces", both_ways, without_namespaces, NULL);
    return failed == 0 ? 0 : 1;
}
