/* Checks at the start of a run of several processes. Called by train/loop.c. */
#include "train/ranks.h"

#include "core/file.h"

#include <stdlib.h>
#include <string.h>

static ls_status check_config(const ls_trainer *trainer, const char *first)
{
    ls_train_config other;
    memset(&other, 0, sizeof other);
    if (strcmp(first, trainer->config_text) == 0) return LS_OK;
    ls_status status =
        ls_config_read_text(&other, ls_train_fields, ls_train_field_count, first, "rank 0's config", NULL, 0);
    if (status == LS_OK) {
        const char *key = ls_train_config_difference(trainer->config, &other);
        status = LS_FAIL(LS_BAD_INPUT, "%s differs from rank 0's; all processes need the same config",
                         key == NULL ? "the config" : key);
    }
    ls_train_config_free(&other);
    return status;
}

ls_status ls_ranks_share_text(ls_comm *comm, char **text)
{
    int64_t length = ls_comm_rank(comm) > 0 || *text == NULL ? -1 : (int64_t)strlen(*text);
    LS_TRY(ls_comm_broadcast(comm, &length, sizeof length, 0));
    if (ls_comm_rank(comm) > 0) {
        free(*text);
        *text = length < 0 ? NULL : calloc((size_t)length + 1, 1);
    }
    LS_TRY(ls_comm_agree(comm,
                         length >= 0 && *text == NULL ? LS_FAIL(LS_NO_MEMORY, "cannot get memory for a text") : LS_OK));
    return length > 0 ? ls_comm_broadcast(comm, *text, (size_t)length, 0) : LS_OK;
}

ls_status ls_ranks_check(const ls_trainer *trainer)
{
    ls_comm *comm = trainer->comm;
    if (ls_comm_size(comm) == 1) return LS_OK;
    LS_TRY(ls_comm_same_program(comm));
    char *first = ls_comm_rank(comm) == 0 ? strdup(trainer->config_text) : NULL;
    ls_status status = ls_ranks_share_text(comm, &first);
    if (status == LS_OK) status = ls_comm_agree(comm, check_config(trainer, first));
    free(first);
    LS_TRY(status);
    return ls_comm_same(comm, ls_checkpoint_token_file_hash(&trainer->tokens), "the content of data.tokens");
}

ls_status ls_ranks_see_folder(ls_comm *comm, const char *path)
{
    return ls_comm_agree(comm, ls_file_is_folder(path)
                                   ? LS_OK
                                   : LS_FAIL(LS_BAD_INPUT,
                                             "%s is not seen here; run_dir must be on a file system that all "
                                             "processes share",
                                             path));
}
