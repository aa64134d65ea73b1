/* Values of command-line options beyond plain numbers (core/command.h), checked as they are read: one sentence naming
 * the option, LS_BAD_INPUT. `option` as the user writes it, "--decode". */
#ifndef LS_EVAL_OPTION_H
#define LS_EVAL_OPTION_H

#include "core/status.h"

#include <stdint.h>

/* Index of text in `names`, NULL-terminated. */
ls_status ls_option_choice(int *out, const char *option, const char *text, const char *const *names);
/* "2,3,8": at most `capacity` values; *count says how many. */
ls_status ls_option_ints(int64_t *out, int *count, int capacity, const char *option, const char *text, int64_t minimum,
                         int64_t maximum);

#endif
