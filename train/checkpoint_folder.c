/* The folder of a run's checkpoints: which are there, which to go on from, which to remove. Called by train/loop.c and
 * when a save is done. */
#include "core/file.h"
#include "core/log.h"
#include "core/text.h"
#include "train/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *checkpoints_folder(const char *run_dir) { return ls_file_join(run_dir, "checkpoints"); }

/* The step of "step-NUMBER.h5", -1 for another name. */
static int64_t step_of(const char *name)
{
    long long step;
    int end = 0;
    if (sscanf(name, "step-%lld.h5%n", &step, &end) != 1 || end == 0 || name[end] != '\0') return -1;
    return (int64_t)step;
}

typedef struct found {
    int64_t step;
    char *path;
} found;

static int newest_first(const void *a, const void *b)
{
    const int64_t one = ((const found *)a)->step, two = ((const found *)b)->step;
    return (one < two) - (one > two);
}

static void free_list(found *list, int count)
{
    for (int i = 0; i < count; i++) free(list[i].path);
    free(list);
}

/* The run's checkpoints, newest first. A folder that is not there holds none. */
static ls_status list_checkpoints(found **out, int *count, const char *run_dir)
{
    char *folder = checkpoints_folder(run_dir);
    DIR *directory = opendir(folder);
    *out = NULL;
    *count = 0;
    ls_status status = LS_OK;
    if (directory == NULL && errno != ENOENT)
        status = LS_FAIL(LS_IO, "cannot read the folder %s: %s", folder, strerror(errno));
    for (const struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;) {
        const int64_t step = step_of(entry->d_name);
        if (step < 0) continue;
        *out = ls_text_memory(*out, sizeof **out * (size_t)(*count + 1));
        (*out)[(*count)++] = (found){step, ls_file_join(folder, entry->d_name)};
    }
    if (directory != NULL) (void)closedir(directory);
    if (*count > 1) qsort(*out, (size_t)*count, sizeof **out, newest_first);
    free(folder);
    return status;
}

ls_status ls_checkpoint_newest(char **out, const char *run_dir)
{
    found *list;
    int count;
    *out = NULL;
    const ls_status status = list_checkpoints(&list, &count, run_dir);
    if (count > 0) {
        *out = list[0].path;
        list[0].path = NULL;
    }
    free_list(list, count);
    return status;
}

/* The failure of the newest, and what can be done about it. */
static ls_status hint(ls_status status, const found *list, int count)
{
    if (count < 2) return status;
    return LS_REWORD(status, "%s; --auto-resume sets it aside and continues from %s", ls_error_text(), list[1].path);
}

ls_status ls_checkpoint_choose(char **out, const char *run_dir, bool fall_back)
{
    found *list;
    int count, i = 0;
    *out = NULL;
    ls_status status = list_checkpoints(&list, &count, run_dir);
    for (; status == LS_OK && i < count; i++) {
        status = ls_checkpoint_check(list[i].path);
        if (status == LS_OK) break;
        if (!fall_back) status = hint(status, list, count);
        /* A disk that cannot be read now says nothing about the file. */
        if (!fall_back || status != LS_BAD_INPUT || i + 1 == count) break;
        ls_log_warning("%s; going on from the checkpoint before it", ls_error_text());
        ls_error_clear();
        status = LS_OK;
    }
    if (status == LS_OK && i < count) {
        *out = list[i].path;
        list[i].path = NULL;
    }
    free_list(list, count);
    return status;
}

ls_status ls_checkpoint_set_aside(const char *run_dir, int64_t step)
{
    found *list;
    int count;
    ls_status status = list_checkpoints(&list, &count, run_dir);
    for (int i = 0; i < count && status == LS_OK && list[i].step > step; i++) {
        char *aside = ls_text_format("%s.damaged", list[i].path);
        if (rename(list[i].path, aside) != 0)
            status = LS_FAIL(LS_IO, "cannot set %s aside: %s", list[i].path, ls_file_reason(errno));
        free(aside);
    }
    free_list(list, count);
    return status;
}

ls_status ls_checkpoint_remove_old(const char *run_dir, int64_t keep)
{
    found *list;
    int count;
    ls_status status = list_checkpoints(&list, &count, run_dir);
    for (int i = 0; i < count; i++)
        if (i >= keep && unlink(list[i].path) != 0 && errno != ENOENT && status == LS_OK)
            status = LS_FAIL(LS_IO, "cannot remove the old checkpoint %s: %s", list[i].path, strerror(errno));
    free_list(list, count);
    return status;
}

/* Removes the files of a folder whose names begin with the one text and have the other in them. */
static void clean(const char *folder, const char *begin, const char *part)
{
    DIR *directory = opendir(folder);
    for (const struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;) {
        if (strncmp(entry->d_name, begin, strlen(begin)) != 0 || strstr(entry->d_name, part) == NULL) continue;
        char *path = ls_file_join(folder, entry->d_name);
        (void)unlink(path);
        free(path);
    }
    if (directory != NULL) (void)closedir(directory);
}

void ls_checkpoint_clean(const char *run_dir)
{
    char *folder = checkpoints_folder(run_dir);
    clean(folder, "step-", ".h5.tmp"); /* MPI may have made files of its own whose names go on after that */
    clean(run_dir, "config.yaml.", ".tmp");
    free(folder);
}
