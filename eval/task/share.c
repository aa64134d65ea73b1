#include "eval/task/share.h"

#include <math.h>
#include <stdio.h>

double ls_task_share(int64_t right, int64_t asked) { return asked > 0 ? (double)right / (double)asked : (double)NAN; }

double ls_task_share_error(int64_t right, int64_t asked)
{
    const double share = ls_task_share(right, asked);
    return asked > 1 ? sqrt(share * (1.0 - share) / (double)(asked - 1)) : (double)NAN;
}

ls_task_share_text ls_task_share_write(int64_t right, int64_t asked)
{
    ls_task_share_text text = {"n/a"};
    const double share = 100.0 * ls_task_share(right, asked), error = 100.0 * ls_task_share_error(right, asked);
    if (asked > 1)
        (void)snprintf(text.bytes, sizeof text.bytes, "%.1f +- %.1f %%", share, error);
    else if (asked == 1)
        (void)snprintf(text.bytes, sizeof text.bytes, "%.1f %%", share);
    return text;
}
