/* The ways of the CPU run of CUDA kernels, in place of tests/kernels/ways.c: three orders of threads and blocks. */
#include "backend.h"
#include "kernels/kernel_check.h"
#include "runtime.h"

#include <stdlib.h>

/* HOSTCUDA_WAYS=1 keeps one of the orders, by `threads`, where all would take long; HOSTCUDA_NOISE=1 lets approximate
 * instructions err. */
void open_ways(ways *out, int threads)
{
    static hostcuda_way way[] = {{.schedule = HOSTCUDA_FIFO},
                                 {.schedule = HOSTCUDA_RANDOM, .seed = 1},
                                 {.schedule = HOSTCUDA_REVERSE},
                                 {.schedule = HOSTCUDA_RANDOM, .seed = 2}};
    static const char *const names[] = {"cuda, in order", "cuda, random order", "cuda, in reverse", "cuda, random"};
    const bool noise = getenv("HOSTCUDA_NOISE") != NULL, one = getenv("HOSTCUDA_WAYS") != NULL;
    out->count = one ? 1 : 3;
    for (int i = 0; i < out->count; i++) {
        const int which = one ? (threads - 1) % 4 : i;
        way[which].noise = noise;
        out->exec[i] = hostcuda_exec(&way[which]);
        out->name[i] = names[which];
    }
}

/* The exec's state is a way, not the reference backend's, so there is nothing more to end. */
void close_ways(ways *all) { all->count = 0; }

double most_flop(void) { return 0.0; }
