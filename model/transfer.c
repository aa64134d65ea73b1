/* Long copies, see transfer.h. */
#include "model/transfer.h"

#include "core/clock.h"
#include "core/file.h"
#include "core/interrupt.h"
#include "core/log.h"
#include "core/text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

ls_progress ls_progress_start(const char *what, int64_t total_bytes)
{
    return (ls_progress){.what = what, .start = ls_seconds_now(), .total = total_bytes};
}

/* "[#####     ]" */
static void draw_bar(char bar[23], int64_t done, int64_t total)
{
    const int filled = total > 0 ? (int)(20.0 * (double)done / (double)total) : 20;
    bar[0] = '[';
    for (int i = 0; i < 20; i++) bar[1 + i] = i < filled ? '#' : ' ';
    bar[21] = ']';
    bar[22] = '\0';
}

ls_status ls_progress_add(ls_progress *progress, int64_t bytes)
{
    char bar[23];
    progress->done += bytes;
    const double seconds = ls_seconds_now() - progress->start;
    const double rate = seconds > 0 ? (double)progress->done / seconds : 0;
    draw_bar(bar, progress->done, progress->total);
    const bool large = progress->total >= 1000000000;
    const double unit = large ? 1e-9 : 1e-6;
    ls_log_progress("%s: %s %.2f of %.2f %s, %.0f MB/s, %.0f s left", progress->what, bar,
                    unit * (double)progress->done, unit * (double)progress->total, large ? "GB" : "MB", 1e-6 * rate,
                    rate > 0 ? (double)(progress->total - progress->done) / rate : 0.0);
    if (!ls_interrupt_requested()) return LS_OK;
    ls_log_progress_end();
    return LS_FAIL(LS_INTERRUPTED, "%s was interrupted; nothing is left of it", progress->what);
}

void ls_progress_end(const ls_progress *progress, const char *path, int64_t parameters)
{
    const bool large = progress->total >= 1000000000;
    ls_log_progress_end();
    ls_log_info("%s: %lld parameters, %.2f %s, %.1f s", path, (long long)parameters,
                (large ? 1e-9 : 1e-6) * (double)progress->total, large ? "GB" : "MB",
                ls_seconds_now() - progress->start);
}

/* ---- outputs ----------------------------------------------------------------------------------------------------- */

ls_status ls_output_begin(ls_output *out, const char *path, bool folder)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') length--;
    *out = (ls_output){.path = ls_text_copy(path, length), .folder = folder};
    if (ls_file_exists(out->path)) {
        const ls_status status =
            LS_FAIL(LS_BAD_INPUT, "%s exists already; remove it, or choose another --out", out->path);
        ls_output_end(out);
        return status;
    }
    out->temporary = ls_text_format("%s.%ld.tmp", out->path, (long)getpid());
    if (!folder || mkdir(out->temporary, 0777) == 0) return LS_OK;
    const int error = errno;
    const ls_status status = LS_FAIL(LS_IO, "cannot create the folder %s: %s", out->temporary, ls_file_reason(error));
    free(out->temporary);
    out->temporary = NULL;
    ls_output_end(out);
    return status;
}

static bool sync_at(const char *path)
{
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return false;
    const bool synced = fsync(file) == 0 || errno == EINVAL;
    const int error = errno;
    (void)close(file);
    errno = error;
    return synced;
}

/* Calls `act` for the path of each file of a folder. */
static bool for_each_file(const char *folder, bool (*act)(const char *path))
{
    DIR *directory = opendir(folder);
    bool good = directory != NULL;
    for (const struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        char *path = ls_file_join(folder, entry->d_name);
        good = act(path) && good;
        free(path);
    }
    if (directory != NULL) (void)closedir(directory);
    return good;
}

static bool remove_at(const char *path) { return unlink(path) == 0; }

static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL) return ls_text_copy(".", 1);
    return ls_text_copy(path, slash == path ? 1 : (size_t)(slash - path));
}

ls_status ls_output_commit(ls_output *output)
{
    bool good = !output->folder || for_each_file(output->temporary, sync_at);
    good = good && sync_at(output->temporary);
    if (good && renameat2(AT_FDCWD, output->temporary, AT_FDCWD, output->path, RENAME_NOREPLACE) != 0)
        good = errno == EINVAL && rename(output->temporary, output->path) == 0; /* a file system without it */
    if (!good) {
        const int error = errno;
        return LS_FAIL(LS_IO, "cannot write %s: %s", output->path, ls_file_reason(error));
    }
    free(output->temporary);
    output->temporary = NULL;
    char *folder = folder_of(output->path);
    good = sync_at(folder);
    free(folder);
    return good ? LS_OK : LS_FAIL(LS_IO, "cannot write %s safely: %s", output->path, ls_file_reason(errno));
}

void ls_output_end(ls_output *output)
{
    if (output->temporary != NULL) {
        if (output->folder) {
            (void)for_each_file(output->temporary, remove_at);
            (void)rmdir(output->temporary);
        } else {
            (void)unlink(output->temporary);
        }
    }
    free(output->temporary);
    free(output->path);
    *output = (ls_output){0};
}

/* ---- weights ----------------------------------------------------------------------------------------------------- */

int64_t ls_weight_source_bytes(const ls_weight_source *source, int type)
{
    int64_t bytes = 0;
    for (int i = 0; i < source->table.count; i++) {
        const ls_stored_type stored = type < 0 ? source->types[i] : (ls_stored_type)type;
        bytes += source->table.entries[i].rows * source->table.entries[i].cols * (int64_t)ls_stored_type_size(stored);
    }
    return bytes;
}

ls_status ls_weight_source_read_as(const ls_weight_source *source, int entry, int64_t first_row, int64_t rows,
                                   ls_stored_type type, void *buffer, void *scratch, const void **out)
{
    *out = buffer;
    if (type == source->types[entry]) return ls_weight_source_read(source, entry, first_row, rows, buffer);
    LS_TRY(ls_weight_source_read_float(source, entry, first_row, rows, buffer, scratch));
    if (type == LS_STORED_F32) return LS_OK;
    ls_stored_from_float(scratch, type, buffer, rows * source->table.entries[entry].cols);
    *out = scratch;
    return LS_OK;
}
