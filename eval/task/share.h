/* How many of the questions were right, as a share with its standard error: that of the mean of a sample of so many
 * zeros and ones, sqrt(p (1-p) / (n-1)), as lm-evaluation-harness reports it. */
#ifndef LS_EVAL_TASK_SHARE_H
#define LS_EVAL_TASK_SHARE_H

#include <stdint.h>

/* NaN where they are unknown. */
double ls_task_share(int64_t right, int64_t asked);
double ls_task_share_error(int64_t right, int64_t asked);

/* "62.5 +- 4.1 %", without the error where it is unknown. */
typedef struct ls_task_share_text {
    char bytes[32];
} ls_task_share_text;
ls_task_share_text ls_task_share_write(int64_t right, int64_t asked);

#endif
