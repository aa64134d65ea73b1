/* A table of ops that stamps the time around another's: see profile.h. */
#include "kernels/profile.h"

#include "core/clock.h"
#include "core/log.h"
#include "kernels/op_calls.h"

#include <stdlib.h>

struct ls_profile {
    ls_exec *exec;
    const ls_backend *ops; /* the exec's own */
    ls_backend timed;
    ls_profile_table table; /* since the last take */
    double began;           /* on the host: the call under way */
    int64_t counted;        /* calls before there was room */

    /* On a device with a timer: call i lies between its marks 2*i and 2*i + 1. */
    unsigned char *op; /* [room] */
    int64_t room, used;
    bool reserved, warned;
};

const char *const ls_profile_names[] = {
#define NAME(op) #op,
    LS_OP_LIST(NAME)
#undef NAME
};

double ls_profile_seconds(const ls_profile_table *table)
{
    double sum = 0.0;
    for (int op = 0; op < LS_PROFILE_OPS; op++) sum += table->seconds[op];
    return sum;
}

/* ---- around a call ----------------------------------------------------------------------------------------------- */

static void warn_once(ls_profile *profile)
{
    if (!profile->warned)
        ls_log_warning("the profile has room for %lld ops a step; those beyond are not in it",
                       (long long)profile->room);
    profile->warned = true;
}

/* The profile of the exec where this call is to be timed, NULL where not. */
static ls_profile *before(ls_exec *exec, int op)
{
    ls_profile *profile = exec->profile;
    if (!profile->reserved) {
        profile->counted++;
        return NULL;
    }
    if (exec->timer == NULL) {
        profile->began = ls_seconds_now();
        return profile;
    }
    if (profile->used == profile->room) {
        warn_once(profile);
        return NULL;
    }
    profile->op[profile->used] = (unsigned char)op;
    exec->timer->mark(exec, 2 * profile->used);
    return profile;
}

static void count(ls_profile *profile, int op, double seconds)
{
    profile->table.calls[op]++;
    profile->table.seconds[op] += seconds;
}

static void after(ls_profile *profile, int op)
{
    if (profile == NULL) return;
    if (profile->exec->timer == NULL)
        count(profile, op, ls_seconds_now() - profile->began);
    else
        profile->exec->timer->mark(profile->exec, 2 * profile->used++ + 1);
}

#define TIMED(op, parameters, arguments, pointers)                                                                     \
    static void op parameters                                                                                          \
    {                                                                                                                  \
        ls_profile *const here = before(exec, LS_PROFILE_##op);                                                        \
        exec->profile->ops->op arguments;                                                                              \
        after(here, LS_PROFILE_##op);                                                                                  \
    }

LS_OP_CALLS(TIMED)

/* ---- a profile --------------------------------------------------------------------------------------------------- */

ls_status ls_profile_create(ls_profile **out, ls_exec *exec)
{
    ls_profile *profile = *out = calloc(1, sizeof *profile);
    if (profile == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for a profile");
    profile->exec = exec;
    profile->ops = exec->ops;
    profile->timed = (ls_backend){.name = exec->ops->name,
#define TIMED_OP(op) .op = op,
                                  LS_OP_LIST(TIMED_OP)
#undef TIMED_OP
    };
    exec->profile = profile;
    return LS_OK;
}

void ls_profile_destroy(ls_profile *profile)
{
    if (profile == NULL) return;
    ls_profile_stop(profile);
    profile->exec->profile = NULL;
    free(profile->op);
    free(profile);
}

void ls_profile_start(ls_profile *profile)
{
    if (profile != NULL) profile->exec->ops = &profile->timed;
}

void ls_profile_stop(ls_profile *profile)
{
    if (profile != NULL) profile->exec->ops = profile->ops;
}

int64_t ls_profile_counted(const ls_profile *profile) { return profile->counted; }

ls_status ls_profile_reserve(ls_profile *profile, int64_t calls)
{
    ls_exec *exec = profile->exec;
    if (exec->timer != NULL) {
        profile->op = calloc((size_t)calls, sizeof *profile->op);
        if (profile->op == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for a profile");
        LS_TRY(exec->timer->create(exec, 2 * calls));
        profile->room = calls;
    }
    profile->reserved = true;
    profile->counted = 0;
    return LS_OK;
}

ls_status ls_profile_settle(ls_profile *profile)
{
    if (profile == NULL) return LS_OK;
    ls_exec *exec = profile->exec;
    for (int64_t i = 0; i < profile->used; i++) {
        double seconds = 0.0;
        LS_TRY(exec->timer->between(exec, 2 * i, 2 * i + 1, &seconds));
        count(profile, profile->op[i], seconds);
    }
    profile->used = 0;
    return LS_OK;
}

void ls_profile_take(ls_profile *profile, ls_profile_table *out)
{
    *out = profile->table;
    profile->table = (ls_profile_table){0};
}
