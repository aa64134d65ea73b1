/* The table of ops of the CUDA backend for the CPU run, every op waited for: so the tests of the other backends serve
 * the kernels too. Memory of the host will do for everything that an op is given. */
#ifndef LS_TESTS_HOSTCUDA_BACKEND_H
#define LS_TESTS_HOSTCUDA_BACKEND_H

#include "kernels/cuda/cuda.h"

/* How the threads of a kernel take turns, and whether approximate instructions err. */
typedef struct hostcuda_way {
    ls_cuda cuda; /* first: what the binding finds behind an exec; of it only stream and scratch are used */
    int schedule; /* enum hostcuda_schedule */
    uint64_t seed;
    int noise;
} hostcuda_way;

const ls_backend *hostcuda_backend(void);
/* Its memory is the host's. A failed launch and any misuse found become its status. `way` outlives it. */
ls_exec hostcuda_exec(hostcuda_way *way);

#endif
