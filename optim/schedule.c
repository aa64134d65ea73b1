/* Learning-rate schedules. The warm-up ends on the peak, from which the decay starts, so a run without warm-up starts
 * on the peak; every decay ends on peak * final_ratio at the last step. */
#include "optim/schedule.h"

#include <math.h>
#include <stddef.h>

const char *const ls_schedule_names[] = {"cosine", "linear", "constant", "warmup_stable_decay", NULL};

/* Part of the decay that lies behind `step`: 0 on the peak, 1 at the last step. */
static double decay_progress(const ls_schedule *schedule, int64_t step)
{
    const int64_t peak_step = schedule->warmup_steps > 0 ? schedule->warmup_steps - 1 : 0;
    const int64_t last_step = schedule->steps - 1;
    if (step <= peak_step || last_step <= peak_step) return 0.0;
    return step >= last_step ? 1.0 : (double)(step - peak_step) / (double)(last_step - peak_step);
}

/* 1 - sqrt over the last decay_steps; the step before them is still on the peak. */
static double stable_decay(const ls_schedule *schedule, int64_t step)
{
    const int64_t first = schedule->steps - schedule->decay_steps;
    if (schedule->decay_steps <= 0 || step < first) return 1.0;
    const double part = (double)(step - first + 1) / (double)schedule->decay_steps;
    return 1.0 - sqrt(fmin(part, 1.0));
}

double ls_schedule_rate(const ls_schedule *schedule, int64_t step)
{
    if (step < schedule->warmup_steps) return schedule->peak * (double)(step + 1) / (double)schedule->warmup_steps;
    const double progress = decay_progress(schedule, step);
    double height = 1.0; /* 1 on the peak, 0 at the end */
    switch (schedule->kind) {
    case LS_SCHEDULE_COSINE:
        height = 0.5 * (1.0 + cos(3.14159265358979323846 * progress));
        break;
    case LS_SCHEDULE_LINEAR:
        height = 1.0 - progress;
        break;
    case LS_SCHEDULE_CONSTANT:
        break;
    case LS_SCHEDULE_WARMUP_STABLE_DECAY:
        height = stable_decay(schedule, step);
        break;
    }
    return schedule->peak * (schedule->final_ratio + (1.0 - schedule->final_ratio) * height);
}
