/* How long each op takes, for who asks: between start and stop the exec's table of ops is one that stamps the time
 * before and after every call. Otherwise the exec is as ever, so a run that does not ask pays nothing.
 *
 * On the host the stamps are the clock's. A GPU works behind the host's back: there they are events in the stream of
 * the ops, whose times are read once the host has waited for other reasons. Results are the same bits either way. */
#ifndef LS_KERNELS_PROFILE_H
#define LS_KERNELS_PROFILE_H

#include "kernels/exec.h"

enum {
#define LS_PROFILE_NUMBER(op) LS_PROFILE_##op,
    LS_OP_LIST(LS_PROFILE_NUMBER)
#undef LS_PROFILE_NUMBER
        LS_PROFILE_OPS /* how many there are */
};

typedef struct ls_profile ls_profile;

/* Of some stretch of time, in the order of LS_OP_LIST. */
typedef struct ls_profile_table {
    int64_t calls[LS_PROFILE_OPS];
    double seconds[LS_PROFILE_OPS];
} ls_profile_table;

extern const char *const ls_profile_names[]; /* [LS_PROFILE_OPS], as in kernels/ops.h */

double ls_profile_seconds(const ls_profile_table *table); /* of all ops */

/* Of `exec`, which must outlive it. */
ls_status ls_profile_create(ls_profile **out, ls_exec *exec);
void ls_profile_destroy(ls_profile *profile); /* NULL: nothing */

/* Times the ops that are called from here on; NULL: nothing. While the exec is rehearsing, and before there is room,
 * calls are only counted. */
void ls_profile_start(ls_profile *profile);
void ls_profile_stop(ls_profile *profile);
/* Calls counted so far, which `reserve` forgets. */
int64_t ls_profile_counted(const ls_profile *profile);
/* Room for the stamps of `calls` calls between two `settle`. More than that are not timed, which a warning says once.
 */
ls_status ls_profile_reserve(ls_profile *profile, int64_t calls);
/* The host has just waited for the device: reads the times of what was issued before. NULL: nothing. */
ls_status ls_profile_settle(ls_profile *profile);
/* What was measured since the last take. On a GPU that is what a settle has read. */
void ls_profile_take(ls_profile *profile, ls_profile_table *out);

#endif
