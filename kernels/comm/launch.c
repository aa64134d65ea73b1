/* Who started this process, as its environment tells it.
 *
 * Initialising MPI in a process alone costs a third of a second and opens sockets, so it is done only where a launcher
 * set up the meeting point: Open MPI's mpirun, or any that speaks PMI or PMIx (srun, MPICH's mpirun). Slurm's own
 * variables are no sign: a batch script has them too. */
#include "kernels/comm/internal.h"

#include <stdlib.h>

static long number(const char *name)
{
    const char *text = getenv(name);
    return text == NULL ? 0 : strtol(text, NULL, 10);
}

ls_launch ls_comm_launch(void)
{
    /* Set for each task of a job step, not in the batch script around it. */
    const bool step = getenv("SLURM_STEP_ID") != NULL && getenv("SLURM_PROCID") != NULL;
    const long tasks = step ? number("SLURM_STEP_NUM_TASKS") : 0;
    const bool pmi = getenv("PMIX_RANK") != NULL || getenv("PMI_RANK") != NULL;
    if (getenv("OMPI_COMM_WORLD_SIZE") != NULL)
        return (ls_launch){.launcher = "mpirun", .speaks_mpi = true, .processes = number("OMPI_COMM_WORLD_SIZE")};
    if (pmi)
        return (ls_launch){.launcher = tasks > 0 ? "srun" : "mpirun",
                           .speaks_mpi = true,
                           .processes = tasks > 0 ? tasks : number("PMI_SIZE")};
    if (tasks > 1) return (ls_launch){.launcher = "srun", .processes = tasks};
    return (ls_launch){0};
}
