/* Files: whole reads, atomic replacement, directory walks; see file.h. */
#include "core/file.h"

#include "core/text.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

const char *ls_file_reason(int error)
{
    if (error == ENOSPC) return "the disk is full";
    if (error == EDQUOT) return "the disk quota is used up";
    if (error == EFBIG) return "it would exceed the file size limit of this process or disk";
    return strerror(error);
}

/* Opens a regular file for reading; refuses everything else with its own sentence. A pipe does not block. */
static ls_status open_regular(int *out, size_t *size, const char *path)
{
    struct stat about;
    const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) return LS_FAIL(LS_IO, "cannot read %s: %s", path, strerror(errno));
    const bool known = fstat(file, &about) == 0;
    if (!known || !S_ISREG(about.st_mode)) {
        (void)close(file);
        return LS_FAIL(LS_IO, "cannot read %s: %s", path,
                       known && S_ISDIR(about.st_mode) ? "it is a folder" : "it is not a regular file");
    }
    *out = file;
    *size = (size_t)about.st_size;
    return LS_OK;
}

ls_status ls_file_read(char **text, size_t *length, const char *path)
{
    int file = -1;
    size_t capacity = 0, used = 0;
    *text = NULL;
    *length = 0;
    LS_TRY(open_regular(&file, &capacity, path));
    capacity += 2; /* the NUL, and a byte that shows that the file has not grown meanwhile */
    char *bytes = malloc(capacity);
    for (;;) {
        if (used + 1 == capacity) {
            capacity *= 2;
            char *grown = realloc(bytes, capacity);
            if (grown == NULL) free(bytes);
            bytes = grown;
        }
        if (bytes == NULL) {
            (void)close(file);
            return LS_FAIL(LS_NO_MEMORY, "not enough memory to read %s (%zu bytes)", path, capacity);
        }
        const ssize_t count = read(file, bytes + used, capacity - 1 - used);
        if (count == 0) break;
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) {
            const int error = errno;
            free(bytes);
            (void)close(file);
            return LS_FAIL(LS_IO, "cannot read %s: %s", path, strerror(error));
        }
        used += (size_t)count;
    }
    (void)close(file);
    bytes[used] = '\0';
    *text = bytes;
    *length = used;
    return LS_OK;
}

ls_status ls_file_read_stream(char **text, size_t *length, FILE *stream, const char *name)
{
    ls_text read = {0};
    char piece[8192];
    ls_text_add(&read, "", 0);
    for (size_t got; (got = fread(piece, 1, sizeof piece, stream)) > 0;) ls_text_add(&read, piece, got);
    if (ferror(stream) != 0) {
        free(read.bytes);
        return LS_FAIL(LS_IO, "cannot read %s: %s", name, strerror(errno));
    }
    *text = read.bytes;
    *length = read.length;
    return LS_OK;
}

static bool write_all(int file, const char *bytes, size_t length)
{
    while (length > 0) {
        const ssize_t count = write(file, bytes, length);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return false;
        bytes += count;
        length -= (size_t)count;
    }
    return true;
}

/* /dev/null, /dev/stdout, a pipe: a rename would put a file in its place. */
static bool is_special(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 && !S_ISREG(about.st_mode) && !S_ISDIR(about.st_mode);
}

static ls_status write_special(const char *path, const void *bytes, size_t length)
{
    const int file = open(path, O_WRONLY | O_CLOEXEC);
    const bool written = file >= 0 && write_all(file, bytes, length);
    const int error = errno;
    if (file >= 0) (void)close(file);
    return written ? LS_OK : LS_FAIL(LS_IO, "cannot write %s: %s", path, ls_file_reason(error));
}

ls_status ls_file_write_atomic(const char *path, const void *bytes, size_t length)
{
    if (is_special(path)) return write_special(path, bytes, length);
    static atomic_uint writes; /* two threads never share a temporary file */
    char *temporary = ls_text_format("%s.%ld-%u.tmp", path, (long)getpid(), atomic_fetch_add(&writes, 1u));
    ls_status status = LS_OK;
    const int file = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    bool written = file >= 0 && write_all(file, bytes, length);
    int error = errno;
    if (file >= 0 && close(file) != 0 && written) {
        written = false;
        error = errno;
    }
    if (!written) {
        if (file >= 0) (void)unlink(temporary);
        status = LS_FAIL(LS_IO, "cannot write %s: %s", path, ls_file_reason(error));
    } else {
        status = ls_file_commit(temporary, path);
    }
    free(temporary);
    return status;
}

/* fsync by name; a folder on a file system that cannot sync folders counts as synced. */
static bool sync_path(const char *path, bool folder)
{
    const int file = open(path, O_RDONLY | O_CLOEXEC | (folder ? O_DIRECTORY : 0));
    if (file < 0) return false;
    const bool synced = fsync(file) == 0 || (folder && (errno == EINVAL || errno == EROFS));
    const int error = errno;
    (void)close(file);
    errno = error;
    return synced;
}

ls_status ls_file_sync(const char *path)
{
    return sync_path(path, false) ? LS_OK : LS_FAIL(LS_IO, "cannot write %s: %s", path, ls_file_reason(errno));
}

ls_status ls_file_check_writable(const char *path)
{
    const int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) return LS_FAIL(LS_IO, "cannot write %s: %s", path, ls_file_reason(errno));
    (void)close(file);
    return LS_OK;
}

ls_status ls_file_reserve(const char *path)
{
    const int file = open(path, O_RDWR | O_CLOEXEC);
    struct stat about;
    bool good = file >= 0 && fstat(file, &about) == 0;
    if (good && about.st_size > 0 && fallocate(file, 0, 0, about.st_size) != 0)
        good = errno == EOPNOTSUPP || errno == ENOSYS;
    const int error = errno;
    if (file >= 0) (void)close(file);
    return good ? LS_OK : LS_FAIL(LS_IO, "cannot write %s: %s", path, ls_file_reason(error));
}

ls_status ls_file_commit(const char *temporary, const char *path)
{
    if (!sync_path(temporary, false) || rename(temporary, path) != 0) {
        const int error = errno;
        (void)unlink(temporary);
        return LS_FAIL(LS_IO, "cannot write %s: %s", path, ls_file_reason(error));
    }
    const char *slash = strrchr(path, '/');
    char *folder =
        slash == NULL ? ls_text_copy(".", 1) : ls_text_copy(path, slash == path ? 1 : (size_t)(slash - path));
    const bool synced = sync_path(folder, true);
    const int error = errno;
    free(folder);
    return synced ? LS_OK : LS_FAIL(LS_IO, "cannot write %s safely: %s", path, ls_file_reason(error));
}

/* *file is the opened and locked thing, -1 where locks are not known. */
static ls_status try_lock(int *file, const char *path)
{
    *file = open(path, O_RDONLY | O_CLOEXEC);
    if (*file < 0 && errno == ENOENT) *file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (*file < 0) return LS_FAIL(LS_IO, "cannot create %s: %s", path, ls_file_reason(errno));
    if (flock(*file, LOCK_EX | LOCK_NB) == 0) return LS_OK;
    const bool taken = errno == EWOULDBLOCK;
    ls_file_unlock(*file);
    *file = -1;
    return taken ? LS_FAIL(LS_BAD_INPUT, "another process is writing %s", path) : LS_OK;
}

ls_status ls_file_lock(int *lock, const char *path)
{
    struct stat held, named;
    for (;;) {
        LS_TRY(try_lock(lock, path));
        if (*lock < 0) return LS_OK;
        const bool still = fstat(*lock, &held) == 0 && stat(path, &named) == 0 && held.st_dev == named.st_dev &&
                           held.st_ino == named.st_ino;
        if (still) return LS_OK;
        ls_file_unlock(*lock); /* who held it has just renamed or removed it */
    }
}

void ls_file_unlock(int lock)
{
    if (lock >= 0) (void)close(lock);
}

ls_status ls_file_make_folders(const char *path)
{
    char *part = ls_text_copy(path, strlen(path));
    ls_status status = LS_OK;
    for (char *end = part; status == LS_OK && *end != '\0';) {
        end += strspn(end, "/");
        end += strcspn(end, "/");
        const char kept = *end;
        *end = '\0';
        if (part[0] != '\0' && mkdir(part, 0777) != 0) {
            const int error = errno;
            if (!ls_file_is_folder(part))
                status = LS_FAIL(LS_IO, "cannot create the folder %s: %s", path,
                                 error == EEXIST ? "a file of that name is in the way" : ls_file_reason(error));
        }
        *end = kept;
    }
    free(part);
    return status;
}

bool ls_file_is_folder(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

bool ls_file_exists(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0;
}

char *ls_file_join(const char *folder, const char *name)
{
    const size_t length = strlen(folder);
    return ls_text_format("%s%s%s", folder, length == 0 || folder[length - 1] == '/' ? "" : "/", name);
}

/* A folder sorts as "name/", so that walking it in place keeps the byte order of whole paths ("a.c" before "a/b"). */
static int by_path(const FTSENT **a, const FTSENT **b)
{
    const FTSENT *const one = *a, *const two = *b;
    const size_t shorter = one->fts_namelen < two->fts_namelen ? one->fts_namelen : two->fts_namelen;
    const int order = memcmp(one->fts_name, two->fts_name, shorter);
    if (order != 0) return order;
    const int next_one = one->fts_namelen > shorter ? (unsigned char)one->fts_name[shorter]
                         : one->fts_info == FTS_D   ? '/'
                                                    : 0;
    const int next_two = two->fts_namelen > shorter ? (unsigned char)two->fts_name[shorter]
                         : two->fts_info == FTS_D   ? '/'
                                                    : 0;
    return next_one - next_two;
}

/* A regular file, or a link to one: data sets are kept as folders of links. */
static bool is_readable_file(const FTSENT *entry)
{
    struct stat about;
    if (entry->fts_info == FTS_F) return S_ISREG(entry->fts_statp->st_mode);
    return entry->fts_info == FTS_SL && stat(entry->fts_accpath, &about) == 0 && S_ISREG(about.st_mode);
}

ls_status ls_file_walk(const char *path, ls_status (*visit)(const char *path, void *context), void *context)
{
    struct stat about;
    if (stat(path, &about) != 0) return LS_FAIL(LS_IO, "cannot read %s: %s", path, strerror(errno));
    if (!S_ISREG(about.st_mode) && !S_ISDIR(about.st_mode))
        return LS_FAIL(LS_IO, "cannot read %s: it is neither a regular file nor a folder", path);
    char *root = ls_text_copy(path, strlen(path));
    char *const roots[] = {root, NULL};
    ls_status status = LS_OK;
    FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, by_path);
    if (walk == NULL) status = LS_FAIL(LS_IO, "cannot read %s: %s", path, strerror(errno));
    while (status == LS_OK) {
        errno = 0;
        const FTSENT *const entry = fts_read(walk);
        if (entry == NULL) {
            if (errno != 0) status = LS_FAIL(LS_IO, "cannot read all of %s: %s", path, strerror(errno));
            break;
        }
        if (is_readable_file(entry))
            status = visit(entry->fts_path, context);
        else if (entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR || entry->fts_info == FTS_NS)
            status = LS_FAIL(LS_IO, "cannot read %s: %s", entry->fts_path, strerror(entry->fts_errno));
    }
    if (walk != NULL) (void)fts_close(walk);
    free(root);
    return status;
}
