#include "eval/option.h"

#include "core/command.h"
#include "core/text.h"

#include <stdlib.h>
#include <string.h>

ls_status ls_option_ints(int64_t *out, int *count, int capacity, const char *option, const char *text, int64_t minimum,
                         int64_t maximum)
{
    *count = 0;
    for (const char *start = text;; start++) {
        const size_t length = strcspn(start, ",");
        if (*count == capacity) return LS_FAIL(LS_BAD_INPUT, "%s: more than %d values", option, capacity);
        char *one = ls_text_copy(start, length);
        const ls_status status = ls_command_int(out + *count, option, one, minimum, maximum);
        free(one);
        if (status != LS_OK) return status;
        ++*count;
        start += length;
        if (*start == '\0') return LS_OK;
    }
}
