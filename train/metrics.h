/* metrics.jsonl: one JSON document a line, flushed line by line, steps ascending.
 *
 *   {"step", "loss", "objective", "exit_loss": {"LAYER": nats}, "learning_rate", "gradient_norm",
 *    "tokens", "tokens_per_second", "share_of_peak", "seconds",
 *    "profile": {"milliseconds", "ops_milliseconds", "ops": {"OP": {"calls", "milliseconds", "share"}}}}
 *   {"step", "evaluation": {"tokens", "exits": [{"layer", "loss", "perplexity"}]}}
 * `step` counts the steps taken: 1 after the first. The profile is there on request: of the step and of its ops, with
 * each op's share of all ops' time. A resumed run first cuts off what lies behind its checkpoint, so
 * the file reads as if it had never stopped. */
#ifndef LS_TRAIN_METRICS_H
#define LS_TRAIN_METRICS_H

#include "core/status.h"
#include "kernels/profile.h"

#include <stdint.h>
#include <stdio.h>

typedef struct ls_metrics {
    FILE *file;
    char *path;
} ls_metrics;

typedef struct ls_step_metrics {
    int64_t step;            /* taken so far */
    double loss;             /* last layer's, nats a target token */
    double objective;        /* sum of weight * exit loss */
    int layers;              /* L */
    const double *exit_loss; /* [L] nats a target token */
    const float *weight;     /* [L]; exits of weight 0 are left out */
    double learning_rate, gradient_norm;
    int64_t tokens;           /* trained on so far in the run */
    double tokens_per_second; /* of this step */
    double share_of_peak;     /* negative: not known */
    double seconds;           /* since this process began training */
    double step_seconds;
    const ls_profile_table *profile; /* NULL: not asked for */
} ls_step_metrics;

/* Opens for appending after cutting off every line of a step above `step`, and a torn last line. */
ls_status ls_metrics_open(ls_metrics *out, const char *run_dir, int64_t step);
ls_status ls_metrics_close(ls_metrics *metrics);
ls_status ls_metrics_step(ls_metrics *metrics, const ls_step_metrics *values);
/* loss [L]: held-out loss of every exit in nats a token. */
ls_status ls_metrics_evaluation(ls_metrics *metrics, int64_t step, int layers, const double *loss, double tokens);

#endif
