/* Lists in command-line options, checked as they are read as core/command.h checks numbers. */
#ifndef LS_EVAL_OPTION_H
#define LS_EVAL_OPTION_H

#include "core/status.h"

#include <stdint.h>

/* "2,3,8": at most `capacity` values; *count says how many. */
ls_status ls_option_ints(int64_t *out, int *count, int capacity, const char *option, const char *text, int64_t minimum,
                         int64_t maximum);

#endif
