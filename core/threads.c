#include "core/threads.h"

#include <stdlib.h>
#include <unistd.h>

/* Turns of the spinning loop, some 10 us: longer than the pauses between the ops of a decoding step. */
#define SPIN_COUNT "1000"

void ls_threads_settle(char **arguments)
{
    if (getenv("GOMP_SPINCOUNT") != NULL || getenv("OMP_WAIT_POLICY") != NULL) return;
    if (setenv("GOMP_SPINCOUNT", SPIN_COUNT, 1) != 0) return;
    (void)execv("/proc/self/exe", arguments); /* where that is not to be had, all goes on as it was */
}
