/* What a run's metrics.jsonl says, as series to plot. The file is train/metrics.h's; layers count from 0 there and are
 * turned into numbers of layers run here. */
#ifndef LS_EVAL_RUN_METRICS_H
#define LS_EVAL_RUN_METRICS_H

#include "core/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct ls_series {
    double *step, *value; /* [count] */
    int64_t count, capacity;
} ls_series;

typedef struct ls_run_metrics {
    int layers;          /* L: the deepest exit seen */
    ls_series objective; /* what training minimises */
    ls_series *training; /* [layers] loss of the exit after layer l+1; count 0 where it was never on */
    ls_series *held_out; /* [layers] */
    ls_series learning_rate, gradient_norm, tokens_per_second;
    double steps, tokens;                    /* of the last training line, 0: none */
    double evaluated_step, evaluated_tokens; /* of the last evaluation */
    bool evaluated;
} ls_run_metrics;

/* A torn last line, as a crash leaves it, is passed over; any other line that is not JSON is LS_BAD_INPUT. */
ls_status ls_run_metrics_read(ls_run_metrics *out, const char *path);
void ls_run_metrics_free(ls_run_metrics *metrics);
/* Averages of consecutive points, at most `most` of them. */
void ls_series_thin(ls_series *series, int64_t most);

#endif
