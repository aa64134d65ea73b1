/* To be preloaded by test_kills.py and test_faults.py: counts this process's calls that change a folder "checkpoints",
 * and ends it by SIGKILL at a chosen one. Told by the environment:
 *
 *   KILL_AT=N         at the Nth call: writes when half of the bytes are out, all else before it happens
 *   KILL_RANK=R       in the process of this rank alone; without it in a process alone
 *   KILL_LOG=FILE     each call is a line of FILE.R: its name and the file's
 *   KILL_REFUSE=yes   opening a file of that folder for writing fails, as where it is read only
 *   KILL_LINGER=S     syncing half a checkpoint takes so many seconds longer
 *   KILL_EVENTFD=yes  eventfd fails instead, as it is called for the watchdog */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long calls;

static const char *own_rank(void)
{
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    return rank == NULL ? "0" : rank;
}

static int is_chosen(void)
{
    const char *rank = getenv("KILL_RANK");
    return rank == NULL || strcmp(rank, own_rank()) == 0;
}

/* Whether this call is the one. */
static int met(const char *name, const char *path)
{
    const char *at = getenv("KILL_AT"), *log = getenv("KILL_LOG");
    if (path == NULL || strstr(path, "/checkpoints") == NULL || !is_chosen()) return 0;
    (void)pthread_mutex_lock(&mutex);
    const long number = ++calls;
    if (log != NULL) {
        char file[PATH_MAX];
        (void)snprintf(file, sizeof file, "%s.%s", log, own_rank());
        FILE *out = fopen(file, "a");
        if (out != NULL) {
            (void)fprintf(out, "%s %s\n", name, path);
            (void)fclose(out);
        }
    }
    (void)pthread_mutex_unlock(&mutex);
    return at != NULL && number == strtol(at, NULL, 10);
}

static int refused(const char *path)
{
    if (getenv("KILL_REFUSE") == NULL || strstr(path, "/checkpoints") == NULL || !is_chosen()) return 0;
    errno = EROFS;
    return 1;
}

static int met_file(const char *name, int file)
{
    char link[64], path[PATH_MAX];
    const int error = errno;
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    const ssize_t length = readlink(link, path, sizeof path - 1);
    errno = error;
    if (length < 0) return 0;
    path[length] = '\0';
    return met(name, path);
}

static void die(void)
{
    (void)raise(SIGKILL);
    for (;;) (void)pause();
}

/* The function of that name that is preloaded in front of. */
#define REAL(result, name, ...)                                                                                        \
    static result (*real)(__VA_ARGS__);                                                                                \
    if (real == NULL) *(void **)&real = dlsym(RTLD_NEXT, #name)

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...);                                                                        \
    int name(const char *path, int flags, ...)                                                                         \
    {                                                                                                                  \
        REAL(int, name, const char *, int, ...);                                                                       \
        va_list arguments;                                                                                             \
        va_start(arguments, flags);                                                                                    \
        const int mode = (flags & O_CREAT) != 0 ? va_arg(arguments, int) : 0;                                          \
        va_end(arguments);                                                                                             \
        if ((flags & (O_CREAT | O_TRUNC)) != 0 && met("open", path)) die();                                            \
        if ((flags & O_ACCMODE) != O_RDONLY && refused(path)) return -1;                                               \
        return real(path, flags, mode);                                                                                \
    }
OPEN(open)
OPEN(open64)

#define PWRITE(name, offset_type)                                                                                      \
    ssize_t name(int file, const void *bytes, size_t length, offset_type at);                                          \
    ssize_t name(int file, const void *bytes, size_t length, offset_type at)                                           \
    {                                                                                                                  \
        REAL(ssize_t, name, int, const void *, size_t, offset_type);                                                   \
        if (met_file("pwrite", file)) {                                                                                \
            (void)real(file, bytes, length / 2, at);                                                                   \
            die();                                                                                                     \
        }                                                                                                              \
        return real(file, bytes, length, at);                                                                          \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define PWRITEV(name, offset_type)                                                                                     \
    ssize_t name(int file, const struct iovec *parts, int count, offset_type at);                                      \
    ssize_t name(int file, const struct iovec *parts, int count, offset_type at)                                       \
    {                                                                                                                  \
        REAL(ssize_t, name, int, const struct iovec *, int, offset_type);                                              \
        if (met_file("pwritev", file)) {                                                                               \
            (void)real(file, parts, count / 2, at);                                                                    \
            die();                                                                                                     \
        }                                                                                                              \
        return real(file, parts, count, at);                                                                           \
    }
PWRITEV(pwritev, off_t)
PWRITEV(pwritev64, off64_t)

#define WRITE(name, result, second, third)                                                                             \
    result name(int file, second bytes, third length);                                                                 \
    result name(int file, second bytes, third length)                                                                  \
    {                                                                                                                  \
        REAL(result, name, int, second, third);                                                                        \
        if (met_file(#name, file)) {                                                                                   \
            (void)real(file, bytes, length / 2);                                                                       \
            die();                                                                                                     \
        }                                                                                                              \
        return real(file, bytes, length);                                                                              \
    }
WRITE(write, ssize_t, const void *, size_t)
WRITE(writev, ssize_t, const struct iovec *, int)

static void linger(int file)
{
    const char *seconds = getenv("KILL_LINGER");
    char link[64], path[PATH_MAX];
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    const ssize_t length = readlink(link, path, sizeof path);
    if (seconds != NULL && length > 4 && memcmp(path + length - 4, ".tmp", 4) == 0 && is_chosen())
        (void)sleep((unsigned)strtol(seconds, NULL, 10));
}

#define SYNC(name)                                                                                                     \
    int name(int file);                                                                                                \
    int name(int file)                                                                                                 \
    {                                                                                                                  \
        REAL(int, name, int);                                                                                          \
        if (met_file(#name, file)) die();                                                                              \
        linger(file);                                                                                                  \
        return real(file);                                                                                             \
    }
SYNC(fsync)
SYNC(fdatasync)

#define TRUNCATE(name, offset_type)                                                                                    \
    int name(int file, offset_type length);                                                                            \
    int name(int file, offset_type length)                                                                             \
    {                                                                                                                  \
        REAL(int, name, int, offset_type);                                                                             \
        if (met_file("ftruncate", file)) die();                                                                        \
        return real(file, length);                                                                                     \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define ALLOCATE(name, offset_type)                                                                                    \
    int name(int file, int mode, offset_type at, offset_type length);                                                  \
    int name(int file, int mode, offset_type at, offset_type length)                                                   \
    {                                                                                                                  \
        REAL(int, name, int, int, offset_type, offset_type);                                                           \
        if (met_file("fallocate", file)) die();                                                                        \
        return real(file, mode, at, length);                                                                           \
    }
ALLOCATE(fallocate, off_t)
ALLOCATE(fallocate64, off64_t)

int rename(const char *from, const char *to)
{
    REAL(int, rename, const char *, const char *);
    if (met("rename", to)) die();
    return real(from, to);
}

int unlink(const char *path)
{
    REAL(int, unlink, const char *);
    if (met("unlink", path)) die();
    return real(path);
}

int eventfd(unsigned count, int flags)
{
    REAL(int, eventfd, unsigned, int);
    if (getenv("KILL_EVENTFD") == NULL || flags != EFD_CLOEXEC || !is_chosen()) return real(count, flags);
    errno = EMFILE;
    return -1;
}
