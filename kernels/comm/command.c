/* What commands of several processes have in common. Called by the commands that share their work. */
#include "core/file.h"
#include "core/log.h"
#include "core/text.h"
#include "kernels/comm/internal.h"

#include <stdio.h>
#include <stdlib.h>

void ls_comm_say(ls_comm *comm, ls_status status)
{
    if (status != LS_OK && ls_error_text()[0] != '\0') (void)fprintf(stderr, "layerskip: %s\n", ls_error_text());
    (void)fflush(stderr);
    ls_error_clear();
    (void)ls_comm_agree(comm, LS_OK);
}

ls_status ls_comm_run(ls_status (*work)(ls_comm *comm, void *context), void *context)
{
    ls_comm *comm;
    LS_TRY(ls_comm_open(&comm));
    const int rank = ls_comm_rank(comm);
    if (rank > 0) ls_log_set_quiet(1);
    ls_status status = work(comm, context);
    if (status != LS_LOST) status = ls_comm_agree(comm, status);
    if (status != LS_LOST && ls_comm_size(comm) > 1) ls_comm_say(comm, status);
    ls_comm_close(comm);
    if (rank > 0) ls_error_clear();
    return status;
}

/* As the environment tells before anybody is joined; 0 for a process alone. */
static long launch_rank(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (getenv(names[i]) != NULL) return strtol(getenv(names[i]), NULL, 10);
    /* In a batch script these two do not stand together. */
    return getenv("SLURM_STEP_ID") != NULL && getenv("SLURM_PROCID") != NULL ? strtol(getenv("SLURM_PROCID"), NULL, 10)
                                                                             : 0;
}

bool ls_comm_spare(const char *command)
{
    const long processes = ls_comm_launch().processes, rank = launch_rank();
    if (rank == 0 && processes > 1)
        ls_log_warning("%s is the work of one process; the other %ld end at once", command, processes - 1);
    return rank > 0;
}

void ls_comm_hush(void)
{
    if (launch_rank() > 0 && freopen("/dev/null", "w", stdout) == NULL) (void)fclose(stdout);
}

ls_status ls_comm_same_program(ls_comm *comm)
{
    char *bytes = NULL;
    size_t length = 0;
    if (ls_comm_size(comm) == 1) return LS_OK;
    const ls_status status = ls_comm_agree(comm, ls_file_read(&bytes, &length, "/proc/self/exe"));
    const uint64_t hash = ls_text_hash(LS_TEXT_HASH_START, bytes, length);
    free(bytes);
    return status != LS_OK ? status : ls_comm_same(comm, hash, "the layerskip program");
}
