/* Files: whole reads, atomic replacement, directory walks. */
#ifndef LS_CORE_FILE_H
#define LS_CORE_FILE_H

#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Reads a whole regular file into malloc'ed memory with a NUL after it (not counted in *length). */
ls_status ls_file_read(char **text, size_t *length, const char *path);
/* The same of an open stream, to its end; `name` is for messages. */
ls_status ls_file_read_stream(char **text, size_t *length, FILE *stream, const char *name);
/* Writes beside `path`, syncs, renames over it: after a crash at any instant the old or the new file is there, whole. A
 * device or a pipe is written to, never replaced. */
ls_status ls_file_write_atomic(const char *path, const void *bytes, size_t length);
/* The second half of the same for a file some library wrote: fsync `temporary`, rename it to `path`, fsync the folder.
 */
ls_status ls_file_commit(const char *temporary, const char *path);
ls_status ls_file_sync(const char *path);           /* what this process wrote of it is on the disk */
ls_status ls_file_check_writable(const char *path); /* by this process, and there */
/* Takes the room that the file's length promises, so that writing inside it cannot fill the disk. Where the file system
 * cannot do that, nothing happens. */
ls_status ls_file_reserve(const char *path);
/* Keeps other processes from locking the same file (created when missing) or folder until ls_file_unlock or the end of
 * this process, however it ends. LS_BAD_INPUT: another one has it. Where the file system knows no locks, *lock is -1.
 */
ls_status ls_file_lock(int *lock, const char *path);
void ls_file_unlock(int lock);                    /* -1: nothing */
ls_status ls_file_make_folders(const char *path); /* mkdir -p */
bool ls_file_is_folder(const char *path);
bool ls_file_exists(const char *path);
/* malloc'ed "folder/name". */
char *ls_file_join(const char *folder, const char *name);
/* Calls `visit` for each regular file below `path` in byte order of the paths (for a file: itself). Symbolic links to
 * files are followed, those to folders for the argument itself only. */
ls_status ls_file_walk(const char *path, ls_status (*visit)(const char *path, void *context), void *context);

/* strerror in words a user can act on ("the disk is full"). */
const char *ls_file_reason(int error);

#endif
