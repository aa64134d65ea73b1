/* What the tests of this folder share: one exec for each way the machine can run an op, and counting of failures, so
 * that a run names every failing case instead of the first. */
#ifndef LS_TESTS_KERNELS_KERNEL_CHECK_H
#define LS_TESTS_KERNELS_KERNEL_CHECK_H

#include "kernels/cases.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { MAX_WAYS = 4 };

/* The instruction-set variants of the cpu backend that this processor runs, each once (ways.c). */
typedef struct ways {
    ls_exec exec[MAX_WAYS];
    const char *name[MAX_WAYS];
    int count;
} ways;

void open_ways(ways *out, int threads);
void close_ways(ways *all);
double most_flop(void); /* of a benchmark's case that is still a test here */
ls_exec open_reference(void);

/* Prints one failing case; prints no more after the first twenty, but counts. */
void report_failure(int *failures, const char *where, const ls_case *what, const char *why);
void report_difference(int *failures, const char *where, const ls_case *what, const ls_case_difference *difference);

/* Prepares, calls, and checks what was stomped on; reports failures under `where`. The caller finishes the run. */
void run_guarded(ls_case_run *run, const ls_case *what, ls_exec *exec, unsigned options, const char *where,
                 int *failures);

ls_case_list all_cases(void);

#endif
