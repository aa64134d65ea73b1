/* The ops' parameters once more, for code that stands before every op of a table and hands the call on: the profile,
 * and tests that watch over memory. A parameter that differs from ops.h does not compile there. */
#ifndef LS_KERNELS_OP_CALLS_H
#define LS_KERNELS_OP_CALLS_H

#include "kernels/ops.h"

/* X(op, (parameters), (arguments of the call), (those that point into the device's memory)) */
#define LS_OP_CALLS(X)                                                                                                 \
    X(matmul,                                                                                                          \
      (ls_exec * exec, void *out, ls_dtype out_dtype, const void *a, const void *b, ls_dtype dtype, int64_t M,         \
       int64_t N, int64_t K, unsigned flags),                                                                          \
      (exec, out, out_dtype, a, b, dtype, M, N, K, flags), (out, a, b))                                                \
    X(matmul_bias,                                                                                                     \
      (ls_exec * exec, void *out, const void *a, const void *b, const void *bias, ls_dtype dtype, int64_t M,           \
       int64_t N, int64_t K, unsigned flags),                                                                          \
      (exec, out, a, b, bias, dtype, M, N, K, flags), (out, a, b, bias))                                               \
    X(matmul_rows,                                                                                                     \
      (ls_exec * exec, void *out, ls_dtype out_dtype, const void *x, const void *weight, ls_dtype dtype, int64_t R,    \
       int64_t N, int64_t K),                                                                                          \
      (exec, out, out_dtype, x, weight, dtype, R, N, K), (out, x, weight))                                             \
    X(bias_add, (ls_exec * exec, void *x, const void *bias, ls_dtype dtype, int64_t R, int64_t N),                     \
      (exec, x, bias, dtype, R, N), (x, bias))                                                                         \
    X(bias_backward, (ls_exec * exec, float *dbias, const void *dout, ls_dtype dtype, int64_t R, int64_t N),           \
      (exec, dbias, dout, dtype, R, N), (dbias, dout))                                                                 \
    X(embedding_forward,                                                                                               \
      (ls_exec * exec, float *out, const int32_t *token, const void *weight, ls_dtype dtype, int64_t R, int64_t V,     \
       int64_t C),                                                                                                     \
      (exec, out, token, weight, dtype, R, V, C), (out, token, weight))                                                \
    X(embedding_backward,                                                                                              \
      (ls_exec * exec, float *dweight, const float *dout, const int32_t *token, int64_t R, int64_t V, int64_t C),      \
      (exec, dweight, dout, token, R, V, C), (dweight, dout, token))                                                   \
    X(rmsnorm_forward,                                                                                                 \
      (ls_exec * exec, void *out, float *rstd, const float *residual, const int32_t *slot, const void *weight,         \
       ls_dtype dtype, int64_t n, int64_t T, int64_t C, float epsilon),                                                \
      (exec, out, rstd, residual, slot, weight, dtype, n, T, C, epsilon), (out, rstd, residual, slot, weight))         \
    X(rmsnorm_backward,                                                                                                \
      (ls_exec * exec, float *dresidual, float *dweight, const void *dout, const float *residual, const int32_t *slot, \
       const int32_t *sample, const float *rstd, const void *weight, ls_dtype dtype, int64_t n, int64_t T, int64_t C), \
      (exec, dresidual, dweight, dout, residual, slot, sample, rstd, weight, dtype, n, T, C),                          \
      (dresidual, dweight, dout, residual, slot, sample, rstd, weight))                                                \
    X(residual_add,                                                                                                    \
      (ls_exec * exec, float *residual, const int32_t *out_slot, const int32_t *in_slot, const void *y,                \
       ls_dtype dtype, float scale, int64_t n, int64_t T, int64_t C),                                                  \
      (exec, residual, out_slot, in_slot, y, dtype, scale, n, T, C), (residual, out_slot, in_slot, y))                 \
    X(residual_add_rmsnorm,                                                                                            \
      (ls_exec * exec, float *residual, void *out, float *rstd, const int32_t *out_slot, const int32_t *in_slot,       \
       const void *y, const void *weight, ls_dtype dtype, float scale, int64_t n, int64_t T, int64_t C,                \
       float epsilon),                                                                                                 \
      (exec, residual, out, rstd, out_slot, in_slot, y, weight, dtype, scale, n, T, C, epsilon),                       \
      (residual, out, rstd, out_slot, in_slot, y, weight))                                                             \
    X(gather_cast,                                                                                                     \
      (ls_exec * exec, void *out, const float *x, const int32_t *slot, ls_dtype dtype, float scale, int64_t n,         \
       int64_t T, int64_t C),                                                                                          \
      (exec, out, x, slot, dtype, scale, n, T, C), (out, x, slot))                                                     \
    X(rope,                                                                                                            \
      (ls_exec * exec, void *qkv, const float *cos_table, const float *sin_table, const int32_t *position,             \
       const int32_t *sample, ls_dtype dtype, int inverse, int64_t n, int64_t T, int64_t H, int64_t G, int64_t D),     \
      (exec, qkv, cos_table, sin_table, position, sample, dtype, inverse, n, T, H, G, D),                              \
      (qkv, cos_table, sin_table, position, sample))                                                                   \
    X(attention_forward,                                                                                               \
      (ls_exec * exec, void *out, float *lse, const void *qkv, const int32_t *first_key, const int32_t *sample,        \
       ls_dtype dtype, float scale, int64_t n, int64_t T, int64_t H, int64_t G, int64_t D),                            \
      (exec, out, lse, qkv, first_key, sample, dtype, scale, n, T, H, G, D), (out, lse, qkv, first_key, sample))       \
    X(attention_backward,                                                                                              \
      (ls_exec * exec, void *dqkv, const void *dout, const void *qkv, const void *out, const float *lse,               \
       const int32_t *first_key, const int32_t *sample, ls_dtype dtype, float scale, int64_t n, int64_t T, int64_t H,  \
       int64_t G, int64_t D),                                                                                          \
      (exec, dqkv, dout, qkv, out, lse, first_key, sample, dtype, scale, n, T, H, G, D),                               \
      (dqkv, dout, qkv, out, lse, first_key, sample))                                                                  \
    X(rope_append,                                                                                                     \
      (ls_exec * exec, void *qkv, void *key_cache, void *value_cache, const float *cos_table, const float *sin_table,  \
       ls_dtype dtype, const int32_t *base, int64_t start, int64_t R, int64_t H, int64_t G, int64_t D,                 \
       int64_t capacity),                                                                                              \
      (exec, qkv, key_cache, value_cache, cos_table, sin_table, dtype, base, start, R, H, G, D, capacity),             \
      (qkv, key_cache, value_cache, cos_table, sin_table, base))                                                       \
    X(attention_cached,                                                                                                \
      (ls_exec * exec, void *out, const void *qkv, const void *key_cache, const void *value_cache, ls_dtype dtype,     \
       float scale, const int32_t *base, int64_t start, int64_t R, int64_t H, int64_t G, int64_t D, int64_t capacity), \
      (exec, out, qkv, key_cache, value_cache, dtype, scale, base, start, R, H, G, D, capacity),                       \
      (out, qkv, key_cache, value_cache, base))                                                                        \
    X(draft_token,                                                                                                     \
      (ls_exec * exec, ls_round * round, double *q, const float *logits, const ls_sampling *sampling,                  \
       double confidence, int32_t end_of_text, int64_t V),                                                             \
      (exec, round, q, logits, sampling, confidence, end_of_text, V), (round, q, logits))                              \
    X(accept_drafts,                                                                                                   \
      (ls_exec * exec, ls_round * round, const double *q, const float *logits, const ls_sampling *sampling,            \
       int64_t first, int64_t R, int64_t V),                                                                           \
      (exec, round, q, logits, sampling, first, R, V), (round, q, logits))                                             \
    X(swiglu_forward, (ls_exec * exec, void *out, const void *gate_up, ls_dtype dtype, int64_t R, int64_t F),          \
      (exec, out, gate_up, dtype, R, F), (out, gate_up))                                                               \
    X(swiglu_backward,                                                                                                 \
      (ls_exec * exec, void *dgate_up, void *out, const void *dout, const void *gate_up, ls_dtype dtype, int64_t R,    \
       int64_t F),                                                                                                     \
      (exec, dgate_up, out, dout, gate_up, dtype, R, F), (dgate_up, out, dout, gate_up))                               \
    X(cross_entropy,                                                                                                   \
      (ls_exec * exec, float *loss, void *logits, const int32_t *target, ls_dtype dtype, float gradient_scale,         \
       int64_t R, int64_t V),                                                                                          \
      (exec, loss, logits, target, dtype, gradient_scale, R, V), (loss, logits, target))                               \
    X(adamw,                                                                                                           \
      (ls_exec * exec, float *weight, float *m, float *v, float *gradient, void *weight_out, ls_dtype dtype,           \
       const ls_adamw_step *step, int64_t count),                                                                      \
      (exec, weight, m, v, gradient, weight_out, dtype, step, count), (weight, m, v, gradient, weight_out))            \
    X(sum_of_squares, (ls_exec * exec, double *out, const float *x, int64_t count), (exec, out, x, count), (out, x))   \
    X(row_sums, (ls_exec * exec, double *out, const float *x, int64_t R, int64_t N), (exec, out, x, R, N), (out, x))   \
    X(convert, (ls_exec * exec, void *out, ls_dtype out_dtype, const void *x, ls_dtype dtype, int64_t count),          \
      (exec, out, out_dtype, x, dtype, count), (out, x))

#endif
