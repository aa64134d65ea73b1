/* Benchmarks: shares of this machine's own ceilings, measured in the same run and alternately, since a shared machine's
 * speed swings within seconds. Every figure is the median of several rounds. */
#ifndef LS_TRAIN_BENCH_H
#define LS_TRAIN_BENCH_H

#include "kernels/ceilings.h"
#include "kernels/comm/comm.h"
#include "model/model.h"

#include <cjson/cJSON.h>

typedef struct ls_bench {
    ls_exec *exec;
    ls_dtype dtype;          /* compute type of the cases */
    ls_matmul_probe *matmul; /* of `dtype` */
    double matmul_best[2];   /* by ls_dtype, operations per second */
    double read_best;        /* bytes per second */
    ls_comm *comm;           /* NULL: a process alone */
    cJSON *cases;            /* array: what --json prints */
} ls_bench;

/* One row of the table; values that do not apply are negative. */
typedef struct ls_bench_row {
    const char *name;
    double share_of_ceiling; /* 0..1 */
    double target;           /* the share or ratio that counts as good */
    double ratio;            /* instead of a share: time or memory against a baseline; smaller is better */
    double tokens_per_second;
    double gflops, gbps;
    double milliseconds;
} ls_bench_row;

void ls_bench_report(ls_bench *bench, const ls_bench_row *row);

ls_status ls_bench_kernels(ls_bench *bench);
ls_status ls_bench_train(ls_bench *bench);
ls_status ls_bench_decode(ls_bench *bench);
ls_status ls_bench_comm(ls_bench *bench);

/* Shapes that the benchmarks speak of. */
ls_model_config ls_bench_shape_135m(void);  /* SmolLM2-135M: 30 layers, hidden 576 */
ls_model_config ls_bench_shape_small(void); /* 8 layers, hidden 256 */
/* Cheap random weights of a realistic size; no quality is measured on them. */
ls_status ls_bench_fill(const ls_model *model);

double ls_median(double *values, int count); /* sorts in place */

#endif
