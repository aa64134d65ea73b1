#include "core_check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static char scratch[4096];

void check_error_has(const char *part, const char *file, int line)
{
    if (strstr(ls_error_text(), part) == NULL || strchr(ls_error_text(), '\n') != NULL) {
        print_error("'%s' is not the one sentence with '%s'\n", ls_error_text(), part);
        _fail(file, line);
    }
    ls_error_clear();
}

void check_text_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) fail_msg("'%s' lacks '%s'", text, part);
}

static int remove_entry(const char *path, const struct stat *about, int kind, struct FTW *walk)
{
    (void)about;
    (void)kind;
    (void)walk;
    return remove(path);
}

int check_leave_scratch(void **state)
{
    (void)state;
    if (scratch[0] == '\0') return 0;
    if (chdir("/") != 0 || nftw(scratch, remove_entry, 16, FTW_DEPTH | FTW_PHYS) != 0) return -1;
    scratch[0] = '\0';
    return 0;
}

int check_enter_scratch(void **state)
{
    if (check_leave_scratch(state) != 0) return -1;
    const char *place = getenv("TMPDIR");
    (void)snprintf(scratch, sizeof scratch, "%s/layerskip-test-XXXXXX", place == NULL ? "/tmp" : place);
    return mkdtemp(scratch) != NULL && chdir(scratch) == 0 ? 0 : -1;
}

void check_write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

int check_count_files(void)
{
    DIR *folder = opendir(".");
    assert_non_null(folder);
    int count = 0;
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    (void)closedir(folder);
    return count;
}

int check_in_child(void (*body)(void *context), void *context, int descriptor, char *output, size_t size)
{
    int ends[2], status = 0;
    assert_int_equal(pipe(ends), 0);
    (void)fflush(stdout);
    (void)fflush(stderr);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const int nowhere = open("/dev/null", O_WRONLY);
        (void)dup2(nowhere, descriptor == 1 ? 2 : 1);
        (void)dup2(ends[1], descriptor);
        (void)close(ends[0]);
        (void)close(ends[1]);
        body(context);
        (void)fflush(stdout);
        (void)fflush(stderr);
        _exit(0);
    }
    (void)close(ends[1]);
    size_t used = 0;
    for (;;) {
        char rest[256]; /* what does not fit is read and dropped, so that the child never blocks */
        const bool full = used + 1 >= size;
        const ssize_t count = full ? read(ends[0], rest, sizeof rest) : read(ends[0], output + used, size - 1 - used);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) break;
        if (!full) used += (size_t)count;
    }
    output[used] = '\0';
    (void)close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

void check_limit_files(size_t bytes)
{
    const struct rlimit limit = {bytes, bytes};
    (void)signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(99);
}
