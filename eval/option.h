/* Values of command-line options, checked as they are read: one sentence naming the option, LS_BAD_INPUT. */
#ifndef LS_EVAL_OPTION_H
#define LS_EVAL_OPTION_H

#include "core/status.h"

#include <stdint.h>

/* `option` as the user writes it, "--draft-tokens". Bounds are inclusive. */
ls_status ls_option_int(int64_t *out, const char *option, const char *text, int64_t minimum, int64_t maximum);
ls_status ls_option_double(double *out, const char *option, const char *text);
/* Index of text in `names`, NULL-terminated. */
ls_status ls_option_choice(int *out, const char *option, const char *text, const char *const *names);
/* "2,3,8": at most `capacity` values; *count says how many. */
ls_status ls_option_ints(int64_t *out, int *count, int capacity, const char *option, const char *text, int64_t minimum,
                         int64_t maximum);

#endif
