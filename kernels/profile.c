/* A table of ops that stamps the time around another's: see profile.h. */
#include "kernels/profile.h"

#include "core/clock.h"
#include "core/log.h"

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

#define TIMED(op, parameters, arguments)                                                                               \
    static void op parameters                                                                                          \
    {                                                                                                                  \
        ls_profile *const here = before(exec, LS_PROFILE_##op);                                                        \
        exec->profile->ops->op arguments;                                                                              \
        after(here, LS_PROFILE_##op);                                                                                  \
    }

TIMED(matmul,
      (ls_exec * exec, void *out, ls_dtype out_dtype, const void *a, const void *b, ls_dtype dtype, int64_t M,
       int64_t N, int64_t K, unsigned flags),
      (exec, out, out_dtype, a, b, dtype, M, N, K, flags))
TIMED(matmul_bias,
      (ls_exec * exec, void *out, const void *a, const void *b, const void *bias, ls_dtype dtype, int64_t M, int64_t N,
       int64_t K, unsigned flags),
      (exec, out, a, b, bias, dtype, M, N, K, flags))
TIMED(matmul_rows,
      (ls_exec * exec, void *out, ls_dtype out_dtype, const void *x, const void *weight, ls_dtype dtype, int64_t R,
       int64_t N, int64_t K),
      (exec, out, out_dtype, x, weight, dtype, R, N, K))
TIMED(bias_add, (ls_exec * exec, void *x, const void *bias, ls_dtype dtype, int64_t R, int64_t N),
      (exec, x, bias, dtype, R, N))
TIMED(bias_backward, (ls_exec * exec, float *dbias, const void *dout, ls_dtype dtype, int64_t R, int64_t N),
      (exec, dbias, dout, dtype, R, N))
TIMED(embedding_forward,
      (ls_exec * exec, float *out, const int32_t *token, const void *weight, ls_dtype dtype, int64_t R, int64_t V,
       int64_t C),
      (exec, out, token, weight, dtype, R, V, C))
TIMED(embedding_backward,
      (ls_exec * exec, float *dweight, const float *dout, const int32_t *token, int64_t R, int64_t V, int64_t C),
      (exec, dweight, dout, token, R, V, C))
TIMED(rmsnorm_forward,
      (ls_exec * exec, void *out, float *rstd, const float *residual, const int32_t *slot, const void *weight,
       ls_dtype dtype, int64_t n, int64_t T, int64_t C, float epsilon),
      (exec, out, rstd, residual, slot, weight, dtype, n, T, C, epsilon))
TIMED(rmsnorm_backward,
      (ls_exec * exec, float *dresidual, float *dweight, const void *dout, const float *residual, const int32_t *slot,
       const int32_t *sample, const float *rstd, const void *weight, ls_dtype dtype, int64_t n, int64_t T, int64_t C),
      (exec, dresidual, dweight, dout, residual, slot, sample, rstd, weight, dtype, n, T, C))
TIMED(residual_add,
      (ls_exec * exec, float *residual, const int32_t *out_slot, const int32_t *in_slot, const void *y, ls_dtype dtype,
       float scale, int64_t n, int64_t T, int64_t C),
      (exec, residual, out_slot, in_slot, y, dtype, scale, n, T, C))
TIMED(residual_add_rmsnorm,
      (ls_exec * exec, float *residual, void *out, float *rstd, const int32_t *out_slot, const int32_t *in_slot,
       const void *y, const void *weight, ls_dtype dtype, float scale, int64_t n, int64_t T, int64_t C, float epsilon),
      (exec, residual, out, rstd, out_slot, in_slot, y, weight, dtype, scale, n, T, C, epsilon))
TIMED(gather_cast,
      (ls_exec * exec, void *out, const float *x, const int32_t *slot, ls_dtype dtype, float scale, int64_t n,
       int64_t T, int64_t C),
      (exec, out, x, slot, dtype, scale, n, T, C))
TIMED(rope,
      (ls_exec * exec, void *qkv, const float *cos_table, const float *sin_table, const int32_t *position,
       const int32_t *sample, ls_dtype dtype, int inverse, int64_t n, int64_t T, int64_t H, int64_t G, int64_t D),
      (exec, qkv, cos_table, sin_table, position, sample, dtype, inverse, n, T, H, G, D))
TIMED(attention_forward,
      (ls_exec * exec, void *out, float *lse, const void *qkv, const int32_t *first_key, const int32_t *sample,
       ls_dtype dtype, float scale, int64_t n, int64_t T, int64_t H, int64_t G, int64_t D),
      (exec, out, lse, qkv, first_key, sample, dtype, scale, n, T, H, G, D))
TIMED(attention_backward,
      (ls_exec * exec, void *dqkv, const void *dout, const void *qkv, const void *out, const float *lse,
       const int32_t *first_key, const int32_t *sample, ls_dtype dtype, float scale, int64_t n, int64_t T, int64_t H,
       int64_t G, int64_t D),
      (exec, dqkv, dout, qkv, out, lse, first_key, sample, dtype, scale, n, T, H, G, D))
TIMED(rope_append,
      (ls_exec * exec, void *qkv, void *key_cache, void *value_cache, const float *cos_table, const float *sin_table,
       ls_dtype dtype, const int32_t *base, int64_t start, int64_t R, int64_t H, int64_t G, int64_t D,
       int64_t capacity),
      (exec, qkv, key_cache, value_cache, cos_table, sin_table, dtype, base, start, R, H, G, D, capacity))
TIMED(attention_cached,
      (ls_exec * exec, void *out, const void *qkv, const void *key_cache, const void *value_cache, ls_dtype dtype,
       float scale, const int32_t *base, int64_t start, int64_t R, int64_t H, int64_t G, int64_t D, int64_t capacity),
      (exec, out, qkv, key_cache, value_cache, dtype, scale, base, start, R, H, G, D, capacity))
TIMED(draft_token,
      (ls_exec * exec, ls_round *round, double *q, const float *logits, const ls_sampling *sampling, double confidence,
       int32_t end_of_text, int64_t V),
      (exec, round, q, logits, sampling, confidence, end_of_text, V))
TIMED(accept_drafts,
      (ls_exec * exec, ls_round *round, const double *q, const float *logits, const ls_sampling *sampling,
       int64_t first, int64_t R, int64_t V),
      (exec, round, q, logits, sampling, first, R, V))
TIMED(swiglu_forward, (ls_exec * exec, void *out, const void *gate_up, ls_dtype dtype, int64_t R, int64_t F),
      (exec, out, gate_up, dtype, R, F))
TIMED(swiglu_backward,
      (ls_exec * exec, void *dgate_up, void *out, const void *dout, const void *gate_up, ls_dtype dtype, int64_t R,
       int64_t F),
      (exec, dgate_up, out, dout, gate_up, dtype, R, F))
TIMED(cross_entropy,
      (ls_exec * exec, float *loss, void *logits, const int32_t *target, ls_dtype dtype, float gradient_scale,
       int64_t R, int64_t V),
      (exec, loss, logits, target, dtype, gradient_scale, R, V))
TIMED(adamw,
      (ls_exec * exec, float *weight, float *m, float *v, float *gradient, void *weight_out, ls_dtype dtype,
       const ls_adamw_step *step, int64_t count),
      (exec, weight, m, v, gradient, weight_out, dtype, step, count))
TIMED(sum_of_squares, (ls_exec * exec, double *out, const float *x, int64_t count), (exec, out, x, count))
TIMED(row_sums, (ls_exec * exec, double *out, const float *x, int64_t R, int64_t N), (exec, out, x, R, N))
TIMED(convert, (ls_exec * exec, void *out, ls_dtype out_dtype, const void *x, ls_dtype dtype, int64_t count),
      (exec, out, out_dtype, x, dtype, count))

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
