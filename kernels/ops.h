/* Every op of the transformer, once: what it computes, shapes, element types, aliasing, and `=` or `+=`.
 *
 * Each op is a function *type*; a backend (kernels/exec.h) is a table with one function of each type. `ref/` is the
 * definition (plain C, double accumulation), `cpu/` and `cuda/` are the fast ones. Rules that hold for all:
 *   - arguments read as a sentence: outputs, then what is saved for backward, inputs, weights, sizes;
 *   - `dtype` is the type of every `void *` of the call ("compute type"); float pointers are fp32 whatever it is;
 *   - accumulation is fp32 or better; a result is rounded to its type once, at the store;
 *   - pointers do not alias unless the op says so; data lives in the backend's memory (ls_exec_allocate);
 *   - sizes of 0 are allowed and do nothing; results do not depend on the number of threads;
 *   - failures are sticky in the exec (ls_exec_status), looked at once a step.
 *
 * Samples leave the batch by index lists. The residual stream is a store of fp32 slabs [T,C]; `slot[j]` (n entries)
 * says which slab sample j of the compact batch reads or writes, so a dropped sample is simply not listed and nothing
 * is copied. With T = 1 the slots are row numbers. Compact tensors are [n,T,...], in list order. */
#ifndef LS_KERNELS_OPS_H
#define LS_KERNELS_OPS_H

#include "kernels/tensor.h"

typedef struct ls_exec ls_exec;

/* ---- matrix product ---------------------------------------------------------------------------------------------- */

enum {
    LS_TRANSPOSE_A = 1, /* a is stored [K,M] */
    LS_TRANSPOSE_B = 2, /* b is stored [N,K] */
    LS_ACCUMULATE = 4,  /* out += instead of out =; out must then be fp32 */
};

/* out[M,N] (= or +=) A[M,K] B[K,N]. `out_dtype` may be fp32 with bf16 inputs. out aliases nothing.
 * K = 0 gives zeros (or adds nothing). */
typedef void ls_matmul_op(ls_exec *exec, void *out, ls_dtype out_dtype, const void *a, const void *b, ls_dtype dtype,
                          int64_t M, int64_t N, int64_t K, unsigned flags);

/* out[M,N] = A[M,K] B[K,N] + bias[n], rounded once. The flags but LS_ACCUMULATE. out aliases nothing. */
typedef void ls_matmul_bias_op(ls_exec *exec, void *out, const void *a, const void *b, const void *bias, ls_dtype dtype,
                               int64_t M, int64_t N, int64_t K, unsigned flags);

/* out[R,N] = x[R,K] weight[N,K]^T for decoding: weights are read once for up to 16 rows, and a row of the result does
 * not depend, to the bit, on R, on the other rows, or on the number of threads. Any R >= 0. */
typedef void ls_matmul_rows_op(ls_exec *exec, void *out, ls_dtype out_dtype, const void *x, const void *weight,
                               ls_dtype dtype, int64_t R, int64_t N, int64_t K);

/* ---- bias -------------------------------------------------------------------------------------------------------- */

/* x[r,:] += bias in place; x [R,N], bias [N]. Rows bitwise independent of R. */
typedef void ls_bias_add_op(ls_exec *exec, void *x, const void *bias, ls_dtype dtype, int64_t R, int64_t N);
/* dbias[n] += sum_r dout[r,n]; dbias [N] fp32, dout [R,N]. */
typedef void ls_bias_backward_op(ls_exec *exec, float *dbias, const void *dout, ls_dtype dtype, int64_t R, int64_t N);

/* ---- embedding --------------------------------------------------------------------------------------------------- */

/* out[r,:] = weight[token[r],:]; out [R,C] fp32, weight [V,C], 0 <= token[r] < V. */
typedef void ls_embedding_forward_op(ls_exec *exec, float *out, const int32_t *token, const void *weight,
                                     ls_dtype dtype, int64_t R, int64_t V, int64_t C);
/* dweight[token[r],:] += dout[r,:], rows in order of r, so the sum does not depend on threads. dweight [V,C] fp32. */
typedef void ls_embedding_backward_op(ls_exec *exec, float *dweight, const float *dout, const int32_t *token, int64_t R,
                                      int64_t V, int64_t C);

/* ---- RMSNorm (Zhang and Sennrich 2019) with gather ----------------------------------------------------------------
 */

/* For j < n, t < T, x = residual[slot[j]*T + t, :]:
 *   rstd[j*T+t] = 1 / sqrt(mean(x^2) + epsilon);  out[j*T+t,:] = x * rstd * weight
 * residual fp32 [slots,T,C], out [n,T,C], weight [C]. rstd may be NULL. Rows are computed independently (bitwise). */
typedef void ls_rmsnorm_forward_op(ls_exec *exec, void *out, float *rstd, const float *residual, const int32_t *slot,
                                   const void *weight, ls_dtype dtype, int64_t n, int64_t T, int64_t C, float epsilon);
/* With dout [n,T,C] and h = dout * weight:
 *   dresidual[sample[j]*T + t, :] += rstd * (h - x * rstd^2 * mean(h * x));  dweight += sum_rows dout * x * rstd
 * dresidual fp32 [B,T,C] indexed by `sample` (distinct entries), residual indexed by `slot`. dweight fp32 [C]. */
typedef void ls_rmsnorm_backward_op(ls_exec *exec, float *dresidual, float *dweight, const void *dout,
                                    const float *residual, const int32_t *slot, const int32_t *sample,
                                    const float *rstd, const void *weight, ls_dtype dtype, int64_t n, int64_t T,
                                    int64_t C);

/* ---- residual stream ----------------------------------------------------------------------------------------------
 */

/* residual[out_slot[j]] = residual[in_slot[j]] + scale * y[j]. y [n,T,C]. out_slot[j] == in_slot[j] is allowed. */
typedef void ls_residual_add_op(ls_exec *exec, float *residual, const int32_t *out_slot, const int32_t *in_slot,
                                const void *y, ls_dtype dtype, float scale, int64_t n, int64_t T, int64_t C);
/* residual_add, then rmsnorm_forward of the slabs it wrote, in one pass: the bits of the two for buffers aligned alike.
 * out, rstd and weight are the norm's. Rows are computed independently (bitwise). */
typedef void ls_residual_add_rmsnorm_op(ls_exec *exec, float *residual, void *out, float *rstd, const int32_t *out_slot,
                                        const int32_t *in_slot, const void *y, const void *weight, ls_dtype dtype,
                                        float scale, int64_t n, int64_t T, int64_t C, float epsilon);
/* out[j] = scale * x[slot[j]], rounded to dtype. out [n,T,C], x fp32 [slots,T,C]. */
typedef void ls_gather_cast_op(ls_exec *exec, void *out, const float *x, const int32_t *slot, ls_dtype dtype,
                               float scale, int64_t n, int64_t T, int64_t C);

/* ---- rotary position embedding (Su et al. 2021), the half-split pairing of Hugging Face Llama -----------------------
 */

/* In place on the query and key heads of qkv [n,T,(H+2G)*D] (heads in the order queries, keys, values):
 *   (u, w) = (head[i], head[i + D/2]), i < D/2:  u' = u cos - w sin,  w' = w cos + u sin
 * cos, sin fp32 [positions, D/2], row position[sample[j]*T + t]; position NULL: row t. sample NULL: j.
 * `inverse` != 0 rotates back: the backward of the same op. D even. */
typedef void ls_rope_op(ls_exec *exec, void *qkv, const float *cos_table, const float *sin_table,
                        const int32_t *position, const int32_t *sample, ls_dtype dtype, int inverse, int64_t n,
                        int64_t T, int64_t H, int64_t G, int64_t D);

/* ---- attention over whole sequences (training) ----------------------------------------------------------------------
 */

/* Causal, confined to documents: position t of sample j attends to s with first_key[sample[j]*T + t] <= s <= t
 * (first_key [B,T] non-decreasing along t, first_key <= t; NULL: 0). Query head h uses key/value head h / (H/G).
 *   p = softmax over s of scale * q.k;  out = sum_s p v;  lse[j,h,t] = log sum_s exp(scale * q.k)
 * out [n,T,H*D], lse fp32 [n,H,T], qkv [n,T,(H+2G)*D] already rotated. D even. A NaN among the values may show at
 * positions before its own: what the mask hides counts with a probability of 0. */
typedef void ls_attention_forward_op(ls_exec *exec, void *out, float *lse, const void *qkv, const int32_t *first_key,
                                     const int32_t *sample, ls_dtype dtype, float scale, int64_t n, int64_t T,
                                     int64_t H, int64_t G, int64_t D);
/* dqkv [n,T,(H+2G)*D] = gradient of qkv (every element written), given dout [n,T,H*D] and what forward left. */
typedef void ls_attention_backward_op(ls_exec *exec, void *dqkv, const void *dout, const void *qkv, const void *out,
                                      const float *lse, const int32_t *first_key, const int32_t *sample, ls_dtype dtype,
                                      float scale, int64_t n, int64_t T, int64_t H, int64_t G, int64_t D);

/* ---- attention over the key/value cache (decoding) ------------------------------------------------------------------
 */

/* Both ops count positions from *base, which lies in the backend's memory, so that what is issued once serves wherever
 * the text has grown to; NULL: from 0. Below, `first` is *base + start, and first + R <= capacity. */

/* Rotates queries in place and appends rotated keys and values: rows r < R stand at positions first + r.
 * qkv [R,(H+2G)*D]; caches [G,capacity,D]; cos, sin [>= first+R, D/2]. */
typedef void ls_rope_append_op(ls_exec *exec, void *qkv, void *key_cache, void *value_cache, const float *cos_table,
                               const float *sin_table, ls_dtype dtype, const int32_t *base, int64_t start, int64_t R,
                               int64_t H, int64_t G, int64_t D, int64_t capacity);
/* out[r, h*D..] = attention of row r (position first + r) over cache positions 0..first+r. out [R,H*D].
 * For R <= 16 a row's result does not depend, to the bit, on R, on the other rows or on threads: sums over positions
 * run in fixed splits counted from position 0. Larger R (prefill) may sum in another order. D even. Cache positions
 * from first+R on are never read; a NaN among the values of 0..first+R-1 may show in every row. */
typedef void ls_attention_cached_op(ls_exec *exec, void *out, const void *qkv, const void *key_cache,
                                    const void *value_cache, ls_dtype dtype, float scale, const int32_t *base,
                                    int64_t start, int64_t R, int64_t H, int64_t G, int64_t D, int64_t capacity);

/* ---- sampling and acceptance (decoding)
 * ------------------------------------------------------------------------------
 */

typedef struct ls_sampling {
    double temperature; /* 0: greedy */
    int64_t top_k;      /* 0: off */
    double top_p;       /* 1: off */
    uint64_t seed;
} ls_sampling;

/* What a draw is for. Draws are ls_random_uniform(seed, LS_STREAM_SAMPLING, position, purpose, 0) of core/random.h; a
 * position never uses one twice within the round that decides it. */
enum { LS_DRAW_DRAFT = 0, LS_DRAW_ACCEPT = 1, LS_DRAW_FULL = 2 };

typedef enum ls_round_end {
    LS_ROUND_OPEN = 0,
    LS_ROUND_ENDED = 1,  /* the last draft ends the text: nothing may follow it */
    LS_ROUND_UNSURE = 2, /* the draft model was not sure enough of its next token, or its logits were not finite */
} ls_round_end;

/* A round of speculation where the ops can reach it. The caller sets all but count, accepted, decided and not_finite,
 * which begin at 0. */
typedef struct ls_round {
    int32_t position;   /* of token[0], the newest token, in the text */
    int32_t drafted;    /* drafts: token[1..drafted] */
    int32_t stopped;    /* ls_round_end: no further draft */
    int32_t decided;    /* 1: the first row that disagreed, or had no draft to judge, has been met */
    int32_t accepted;   /* drafts that stand */
    int32_t count;      /* token[1..count] stand: the accepted drafts and, but at the end of text, one more token */
    int32_t not_finite; /* 1: some logits that mattered were not */
    int32_t token[];
} ls_round;

/* The next draft, from logits [V] of the draft model; nothing once the round has stopped. The token is the largest
 * logit's (ties: the lowest id) or, with a temperature, drawn from softmax(logits / temperature) cut to the top_k
 * largest (ties: the lowest ids), then to the fewest largest that reach top_p of what is left, renormalised; q [V] is
 * then left with that distribution (NULL when greedy). Where the largest probability at temperature 1 is below
 * `confidence` (0: never) the round stops without a draft; end_of_text (-1: none) stops it as the last. Sums and
 * exponentials in double: another device's token differs only where a draw falls within rounding of a border. */
typedef void ls_draft_token_op(ls_exec *exec, ls_round *round, double *q, const float *logits,
                               const ls_sampling *sampling, double confidence, int32_t end_of_text, int64_t V);
/* What the full model makes of rows first..first+R-1 of the round, logits [R,V]; row i stands after token[i]. While the
 * rows agree with the drafts their tokens stand; the first that does not puts its own token, a row without a draft the
 * full model's, and decides the round. Rows after that, and beyond the drafts, do nothing. Greedy: agreeing is being
 * equal. With a temperature (Leviathan et al. 2023): a draft stays with probability min(1, p/q), else the token is
 * drawn from max(p-q, 0). q [drafted,V] as draft_token left it; NULL: drafts are certain (prompt lookup). */
typedef void ls_accept_drafts_op(ls_exec *exec, ls_round *round, const double *q, const float *logits,
                                 const ls_sampling *sampling, int64_t first, int64_t R, int64_t V);

/* ---- SwiGLU (Shazeer 2020) ------------------------------------------------------------------------------------------
 */

/* out[r,i] = silu(gate_up[r,i]) * gate_up[r,F+i]; out [R,F], gate_up [R,2F]. Rows bitwise independent of R. */
typedef void ls_swiglu_forward_op(ls_exec *exec, void *out, const void *gate_up, ls_dtype dtype, int64_t R, int64_t F);
/* dgate_up [R,2F] from dout [R,F]; also recomputes out [R,F] (the input of the down projection) where not NULL.
 * dgate_up may be gate_up itself; out may be dout itself. */
typedef void ls_swiglu_backward_op(ls_exec *exec, void *dgate_up, void *out, const void *dout, const void *gate_up,
                                   ls_dtype dtype, int64_t R, int64_t F);

/* ---- softmax cross-entropy, gradient in place -----------------------------------------------------------------------
 */

/* loss[r] = log sum_v exp(logits[r,v]) - logits[r,target[r]] in nats; target[r] = -1: loss[r] = 0, gradient 0.
 * `gradient_scale` != 0: logits becomes gradient_scale * (softmax - onehot), in place. logits [R,V]. */
typedef void ls_cross_entropy_op(ls_exec *exec, float *loss, void *logits, const int32_t *target, ls_dtype dtype,
                                 float gradient_scale, int64_t R, int64_t V);

/* ---- optimizer and reductions over flat blocks
 * ------------------------------------------------------------------------ */

typedef struct ls_adamw_step {
    float learning_rate, beta1, beta2, epsilon, weight_decay;
    float gradient_scale;                     /* clipping: gradients are multiplied by this first */
    float bias_correction1, bias_correction2; /* 1 - beta^step */
} ls_adamw_step;

/* Loshchilov and Hutter 2019, decoupled decay. For i < count, g = gradient_scale * gradient[i]:
 *   m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2
 *   w -= lr * (m/bc1 / (sqrt(v/bc2) + epsilon) + weight_decay * w);  gradient[i] = 0
 * weight_out (dtype) gets w rounded; it may be NULL or, in fp32, `weight` itself. */
typedef void ls_adamw_op(ls_exec *exec, float *weight, float *m, float *v, float *gradient, void *weight_out,
                         ls_dtype dtype, const ls_adamw_step *step, int64_t count);
/* Sum of squares of x[count], in blocks of fixed size, so it does not depend on threads. NaN and infinity pass through.
 */
typedef void ls_sum_of_squares_op(ls_exec *exec, double *out, const float *x, int64_t count);
/* out[r] = sum_n x[r,n] in double; x [R,N]. The rows' sums are independent of each other (bitwise). */
typedef void ls_row_sums_op(ls_exec *exec, double *out, const float *x, int64_t R, int64_t N);
/* out[i] = x[i], converted (either direction, or a copy). */
typedef void ls_convert_op(ls_exec *exec, void *out, ls_dtype out_dtype, const void *x, ls_dtype dtype, int64_t count);

/* ---- the list: one line an op, from which tables, tests and benchmarks are made
 * -------------------------------------- */

#define LS_OP_LIST(X)                                                                                                  \
    X(matmul)                                                                                                          \
    X(matmul_bias)                                                                                                     \
    X(matmul_rows)                                                                                                     \
    X(bias_add)                                                                                                        \
    X(bias_backward)                                                                                                   \
    X(embedding_forward)                                                                                               \
    X(embedding_backward)                                                                                              \
    X(rmsnorm_forward)                                                                                                 \
    X(rmsnorm_backward)                                                                                                \
    X(residual_add)                                                                                                    \
    X(residual_add_rmsnorm)                                                                                            \
    X(gather_cast)                                                                                                     \
    X(rope)                                                                                                            \
    X(attention_forward)                                                                                               \
    X(attention_backward)                                                                                              \
    X(rope_append)                                                                                                     \
    X(attention_cached)                                                                                                \
    X(draft_token)                                                                                                     \
    X(accept_drafts)                                                                                                   \
    X(swiglu_forward)                                                                                                  \
    X(swiglu_backward)                                                                                                 \
    X(cross_entropy)                                                                                                   \
    X(adamw)                                                                                                           \
    X(sum_of_squares)                                                                                                  \
    X(row_sums)                                                                                                        \
    X(convert)

#endif
