/* Reading, atomic replacement under injected failures and kill -9, and the order of a folder walk. */
#include "core_check.h"
#include "core/file.h"
#include "core/text.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- between core/file.c and the C library ---- */

static char calls[64]; /* one letter a call: w(rite) s(ync) r(ename) S(ync of a folder) */
static char failing;   /* the letter of the call that fails, 0 for none */
static int failure;    /* its errno */

ssize_t __real_write(int file, const void *bytes, size_t length);
int __real_fsync(int file);
int __real_rename(const char *from, const char *to);
ssize_t __wrap_write(int file, const void *bytes, size_t length);
int __wrap_fsync(int file);
int __wrap_rename(const char *from, const char *to);

/* Notes the call; true when it is the one to fail. */
static bool note(char letter)
{
    const size_t length = strlen(calls);
    if (length + 1 < sizeof calls) calls[length] = letter;
    if (letter == failing) errno = failure;
    return letter == failing;
}

ssize_t __wrap_write(int file, const void *bytes, size_t length)
{
    if (file <= 2) return __real_write(file, bytes, length);
    return note('w') ? -1 : __real_write(file, bytes, length > 3 ? length - 3 : length); /* never all at once */
}

int __wrap_fsync(int file)
{
    struct stat about;
    assert_int_equal(fstat(file, &about), 0);
    return note(S_ISDIR(about.st_mode) ? 'S' : 's') ? -1 : __real_fsync(file);
}

int __wrap_rename(const char *from, const char *to) { return note('r') ? -1 : __real_rename(from, to); }

static int reset(void **state)
{
    memset(calls, 0, sizeof calls);
    failing = 0;
    return check_enter_scratch(state);
}

static void check_content(const char *path, const char *expected)
{
    char *text = NULL;
    size_t length = 0;
    CHECK_OK(ls_file_read(&text, &length, path));
    assert_int_equal(length, strlen(expected));
    assert_string_equal(text, expected);
    free(text);
}

/* ---- reading ---- */

static void reads_whole_files(void **state)
{
    (void)state;
    char *text = NULL;
    size_t length = 0;
    check_write_file("empty", "");
    check_content("empty", "");
    check_write_file("some", "one\ntwo");
    check_content("some", "one\ntwo");
    CHECK_OK(ls_file_read(&text, &length, "/proc/self/status")); /* says that it is empty, and is not */
    assert_true(length > 100);
    assert_int_equal(strlen(text), length);
    free(text);
}

static void refuses_what_is_no_file(void **state)
{
    (void)state;
    char *text = NULL;
    size_t length = 0;
    assert_int_equal(mkfifo("pipe", 0600), 0);
    CHECK_REFUSED(ls_file_read(&text, &length, "missing"), LS_IO, "missing: No such file");
    CHECK_REFUSED(ls_file_read(&text, &length, "."), LS_IO, "it is a folder");
    CHECK_REFUSED(ls_file_read(&text, &length, "pipe"), LS_IO, "not a regular file");
    assert_null(text);
}

/* ---- writing ---- */

static void writes_then_syncs_then_renames(void **state)
{
    (void)state;
    CHECK_OK(ls_file_write_atomic("out", "content", 7));
    check_content("out", "content");
    assert_non_null(strstr(calls, "wsrS"));
    assert_null(strchr(strchr(calls, 's'), 'w')); /* nothing is written after the sync */
    CHECK_OK(ls_file_write_atomic("out", "", 0));
    check_content("out", "");
    CHECK_OK(ls_file_make_folders("a/b"));
    CHECK_OK(ls_file_write_atomic("a/b/out", "x", 1));
    check_content("a/b/out", "x");
    assert_int_equal(check_count_files(), 2);
}

static void failures_leave_the_old_file_and_nothing_else(void **state)
{
    (void)state;
    static const struct {
        char call;
        int error;
        const char *sentence;
    } cases[] = {
        {'w', ENOSPC, "cannot write out: the disk is full"},
        {'w', EDQUOT, "cannot write out: the disk quota is used up"},
        {'s', EIO, "cannot write out: Input/output error"},
        {'r', ENOSPC, "cannot write out: the disk is full"},
    };
    check_write_file("out", "the old one");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        failing = cases[i].call;
        failure = cases[i].error;
        CHECK_REFUSED(ls_file_write_atomic("out", "the new one", 11), LS_IO, cases[i].sentence);
        failing = 0;
        check_content("out", "the old one");
        assert_int_equal(check_count_files(), 1);
    }
    failing = 'S'; /* after the rename: the new one is there, but might not survive a power cut */
    failure = EIO;
    CHECK_REFUSED(ls_file_write_atomic("out", "the new one", 11), LS_IO, "cannot write out safely");
    failing = 0;
    check_content("out", "the new one");
}

static void folders_that_cannot_sync_are_fine(void **state)
{
    (void)state;
    failing = 'S';
    failure = EINVAL;
    CHECK_OK(ls_file_write_atomic("out", "x", 1));
}

static void bad_places_are_refused(void **state)
{
    (void)state;
    CHECK_REFUSED(ls_file_write_atomic("no/folder/out", "x", 1), LS_IO, "no/folder/out: No such file");
    CHECK_OK(ls_file_make_folders("folder"));
    CHECK_REFUSED(ls_file_write_atomic("folder", "x", 1), LS_IO, "folder");
    assert_int_equal(check_count_files(), 1);
}

static void write_beyond_limit(void *context)
{
    (void)context;
    static char large[100000];
    check_limit_files(5000);
    if (ls_file_write_atomic("out", large, sizeof large) != LS_IO) _exit(1);
    (void)printf("%s", ls_error_text());
}

static void a_real_limit_is_reported(void **state)
{
    (void)state;
    char output[512];
    check_write_file("out", "the old one");
    const int status = check_in_child(write_beyond_limit, NULL, 1, output, sizeof output);
    CHECK_CHILD_EXITS(status, 0);
    assert_string_equal(output, "cannot write out: it would exceed the file size limit of this process or disk");
    check_content("out", "the old one");
    assert_int_equal(check_count_files(), 1);
}

enum { VERSION_BYTES = 200000 };

static _Noreturn void rewrite_for_ever(void)
{
    static char bytes[VERSION_BYTES];
    for (int version = 0;; version++) {
        memset(bytes, 'A' + version % 26, sizeof bytes);
        if (ls_file_write_atomic("out", bytes, sizeof bytes) != LS_OK) _exit(1);
    }
}

/* Whatever instant a writer is killed at, one whole version is there. */
static void killed_writers_leave_a_whole_file(void **state)
{
    (void)state;
    static char first[VERSION_BYTES];
    memset(first, '#', sizeof first);
    CHECK_OK(ls_file_write_atomic("out", first, sizeof first));
    for (int round = 0; round < 25; round++) {
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) rewrite_for_ever();
        (void)usleep((useconds_t)(1000 + 1373 * round));
        assert_int_equal(kill(child, SIGKILL), 0);
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        char *text = NULL;
        size_t length = 0;
        CHECK_OK(ls_file_read(&text, &length, "out"));
        assert_int_equal(length, VERSION_BYTES);
        for (size_t i = 1; i < length; i++) assert_int_equal(text[i], text[0]);
        free(text);
    }
}

static void commits_what_a_library_wrote(void **state)
{
    (void)state;
    check_write_file("out", "old");
    check_write_file("out.part", "new");
    CHECK_OK(ls_file_commit("out.part", "out"));
    check_content("out", "new");
    assert_string_equal(calls, "srS");
    assert_int_equal(check_count_files(), 1);
    CHECK_REFUSED(ls_file_commit("missing", "out"), LS_IO, "cannot write out");
    check_content("out", "new");
}

/* ---- folders ---- */

static void makes_folders(void **state)
{
    (void)state;
    CHECK_OK(ls_file_make_folders("a//b/c/"));
    assert_true(ls_file_is_folder("a/b/c"));
    CHECK_OK(ls_file_make_folders("a/b/c"));
    CHECK_OK(ls_file_make_folders("/tmp"));
    CHECK_OK(ls_file_make_folders("./a/../d"));
    assert_true(ls_file_is_folder("d"));
    check_write_file("file", "");
    assert_true(ls_file_exists("file") && !ls_file_is_folder("file") && !ls_file_exists("nothing"));
    CHECK_REFUSED(ls_file_make_folders("file"), LS_IO, "in the way");
    CHECK_REFUSED(ls_file_make_folders("file/below"), LS_IO, "file/below");
}

static void joins(void **state)
{
    (void)state;
    static const char *const cases[][3] = {{"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"/", "b", "/b"}, {"", "b", "b"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *joined = ls_file_join(cases[i][0], cases[i][1]);
        assert_string_equal(joined, cases[i][2]);
        free(joined);
    }
}

static ls_status collect(const char *path, void *context)
{
    ls_text_addf(context, "%s ", path);
    return strstr(path, "stop") != NULL ? LS_FAIL(LS_BAD_INPUT, "stopped at %s", path) : LS_OK;
}

static void check_walk(const char *path, const char *expected)
{
    ls_text seen = {0};
    ls_text_add(&seen, "", 0);
    CHECK_OK(ls_file_walk(path, collect, &seen));
    assert_string_equal(seen.bytes, expected);
    free(seen.bytes);
}

static void walks_in_the_order_of_whole_paths(void **state)
{
    (void)state;
    static const char *const files[] = {"t/a/z", "t/a.c", "t/a-b", "t/a0", "t/B", "t/\xc3\xa9", "t/ab/x", "t/a/b/c"};
    CHECK_OK(ls_file_make_folders("t/a/b"));
    CHECK_OK(ls_file_make_folders("t/ab"));
    CHECK_OK(ls_file_make_folders("t/empty"));
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) check_write_file(files[i], "");
    assert_int_equal(symlink("a.c", "t/link"), 0);
    assert_int_equal(symlink(".", "t/loop"), 0);
    assert_int_equal(mkfifo("t/pipe", 0600), 0);
    assert_int_equal(symlink("nowhere", "t/dangling"), 0);
    assert_int_equal(symlink("pipe", "t/to-pipe"), 0);
    check_walk("t", "t/B t/a-b t/a.c t/a/b/c t/a/z t/a0 t/ab/x t/link t/\xc3\xa9 ");
    check_walk("t/a/", "t/a/b/c t/a/z ");
    check_walk("t/a.c", "t/a.c ");
    check_walk("t/link", "t/link ");
    check_walk("t/empty", "");
    assert_int_equal(symlink("t/a", "to-folder"), 0);
    check_walk("to-folder", "to-folder/b/c to-folder/z ");
}

static ls_status check_order(const char *path, void *context)
{
    char *before = context;
    assert_true(strcmp(before, path) < 0);
    (void)snprintf(before, 64, "%s", path);
    return LS_OK;
}

/* Enough pairs that a sort meets folder and file in either order, whatever order the disk lists them in. */
static void folders_sort_by_what_is_below_them(void **state)
{
    (void)state;
    char path[64], before[64] = "";
    for (int i = 0; i < 32; i++) {
        (void)snprintf(path, sizeof path, "t/%c%d", 'a' + i * 7 % 26, i);
        CHECK_OK(ls_file_make_folders(path));
        (void)snprintf(path, sizeof path, "t/%c%d/x", 'a' + i * 7 % 26, i);
        check_write_file(path, "");
        (void)snprintf(path, sizeof path, "t/%c%d-", 'a' + i * 7 % 26, i);
        check_write_file(path, "");
    }
    CHECK_OK(ls_file_walk("t", check_order, before));
    assert_string_equal(before, "t/z11/x");
}

static void walks_stop_at_a_failure(void **state)
{
    (void)state;
    ls_text seen = {0};
    CHECK_OK(ls_file_make_folders("t"));
    check_write_file("t/1", "");
    check_write_file("t/2stop", "");
    check_write_file("t/3", "");
    CHECK_REFUSED(ls_file_walk("t", collect, &seen), LS_BAD_INPUT, "stopped at t/2stop");
    assert_string_equal(seen.bytes, "t/1 t/2stop ");
    free(seen.bytes);
    assert_int_equal(mkfifo("pipe", 0600), 0);
    CHECK_REFUSED(ls_file_walk("pipe", collect, &seen), LS_IO, "neither a regular file nor a folder");
    CHECK_REFUSED(ls_file_walk("missing", collect, &seen), LS_IO, "missing: No such file");
}

static void locks_keep_others_out(void **state)
{
    (void)state;
    int one, two;
    CHECK_OK(ls_file_make_folders("folder"));
    static const char *const paths[] = {"folder", "made"};
    for (int i = 0; i < 2; i++) {
        CHECK_OK(ls_file_lock(&one, paths[i]));
        assert_true(one >= 0);
        CHECK_REFUSED(ls_file_lock(&two, paths[i]), LS_BAD_INPUT, "another process is writing");
        ls_file_unlock(one);
        CHECK_OK(ls_file_lock(&two, paths[i]));
        ls_file_unlock(two);
    }
    CHECK_REFUSED(ls_file_lock(&one, "absent/file"), LS_IO, "cannot create absent/file");
}

/* A device or a pipe is no file to be replaced. */
static void special_files_are_written_to(void **state)
{
    (void)state;
    char said[4] = "";
    assert_int_equal(mkfifo("pipe", 0600), 0);
    const int reader = open("pipe", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    assert_true(reader >= 0);
    CHECK_OK(ls_file_write_atomic("pipe", "abc", 3));
    assert_int_equal(read(reader, said, sizeof said), 3);
    assert_memory_equal(said, "abc", 3);
    (void)close(reader);
    struct stat about;
    assert_int_equal(stat("pipe", &about), 0);
    assert_true(S_ISFIFO(about.st_mode));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, reset, check_leave_scratch)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(reads_whole_files),
        TEST(refuses_what_is_no_file),
        TEST(writes_then_syncs_then_renames),
        TEST(failures_leave_the_old_file_and_nothing_else),
        TEST(folders_that_cannot_sync_are_fine),
        TEST(bad_places_are_refused),
        TEST(a_real_limit_is_reported),
        TEST(killed_writers_leave_a_whole_file),
        TEST(commits_what_a_library_wrote),
        TEST(makes_folders),
        TEST(joins),
        TEST(walks_in_the_order_of_whole_paths),
        TEST(folders_sort_by_what_is_below_them),
        TEST(walks_stop_at_a_failure),
        TEST(locks_keep_others_out),
        TEST(special_files_are_written_to),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
