/* Learning-rate schedules: pure functions of the step. */
#ifndef LS_OPTIM_SCHEDULE_H
#define LS_OPTIM_SCHEDULE_H

#include <stdint.h>

typedef enum ls_schedule_kind {
    LS_SCHEDULE_COSINE = 0,
    LS_SCHEDULE_LINEAR,
    LS_SCHEDULE_CONSTANT,
    LS_SCHEDULE_WARMUP_STABLE_DECAY, /* constant, then 1 - sqrt decay over the last decay_steps (Haegele et al. 2024) */
} ls_schedule_kind;

extern const char *const ls_schedule_names[]; /* NULL-terminated, in enum order */

typedef struct ls_schedule {
    ls_schedule_kind kind;
    double peak;          /* learning rate after warm-up */
    double final_ratio;   /* the last step's rate over the peak, 0..1 */
    int64_t steps;        /* T */
    int64_t warmup_steps; /* linear from peak/warmup_steps at step 0 */
    int64_t decay_steps;  /* of warmup_stable_decay */
} ls_schedule;

double ls_schedule_rate(const ls_schedule *schedule, int64_t step); /* step 0..T-1 */

#endif
