/* See peak.h. Called once by train/loop.c, before the first step. */
#include "train/peak.h"

#include <time.h>

enum { SIDE = 1536 };
#define BUDGET_SECONDS 0.3

double ls_seconds_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* The first product plans and warms up; the fastest of the others counts. */
static ls_status time_products(double *out, ls_exec *exec, ls_dtype dtype, void *product, const void *factor)
{
    const double flops = 2.0 * SIDE * SIDE * SIDE, began = ls_seconds_now();
    for (int i = 0; i < 3 || (i < 100 && ls_seconds_now() - began < BUDGET_SECONDS); i++) {
        const double start = ls_seconds_now();
        exec->ops->matmul(exec, product, dtype, factor, factor, dtype, SIDE, SIDE, SIDE, LS_TRANSPOSE_B);
        LS_TRY(ls_exec_status(exec));
        const double rate = flops / (ls_seconds_now() - start);
        if (i > 0 && rate > *out) *out = rate;
    }
    return LS_OK;
}

ls_status ls_measure_peak(double *out, ls_exec *exec, ls_dtype dtype)
{
    const size_t bytes = (size_t)SIDE * SIDE * ls_dtype_size(dtype);
    void *factor, *product;
    *out = 0.0;
    if (exec->device == LS_DEVICE_REFERENCE) return LS_OK;
    LS_TRY(ls_exec_allocate(exec, &factor, bytes, "measuring the machine"));
    ls_status status = ls_exec_allocate(exec, &product, bytes, "measuring the machine");
    if (status == LS_OK) {
        status = time_products(out, exec, dtype, product, factor);
        ls_exec_free(exec, product, bytes);
    }
    ls_exec_free(exec, factor, bytes);
    return status;
}
