/* Launchers of the CUDA kernels: one for each op of kernels/ops.h, whose contract it keeps, plus what decoding adds.
 *
 * `ls_launch_<op>` takes the op's arguments after a stream in place of the exec, and scratch where sums run in two
 * stages. It issues work and returns at once; the status is that of the launch. Launchers hold no state, allocate
 * nothing, take any size of the contract (0 issues nothing) and any element alignment: rows that start at multiples of
 * 16 bytes move in 16-byte words. Equal sizes and alignments give equal bits in every run and on every device of one
 * architecture.
 *
 * Scratch is device memory of at least ls_<op>_scratch_bytes(the same sizes), aligned to 16 bytes, that no other stream
 * uses meanwhile; its contents need not outlive the call. The byte counts never fall as a size grows, so the largest
 * sizes of a run give what to set aside. Kernels use no atomics on floating-point numbers. */
#ifndef LS_KERNELS_CUDA_LAUNCH_H
#define LS_KERNELS_CUDA_LAUNCH_H

#include "kernels/ops.h"

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- matrix product ---------------------------------------------------------------------------------------------- */

/* Tensor cores for bf16, plain fp32 arithmetic for fp32 (never TF32). For machines without cuBLASLt and as its check.
 */
cudaError_t ls_launch_matmul(cudaStream_t stream, void *out, ls_dtype out_dtype, const void *a, const void *b,
                             ls_dtype dtype, int64_t M, int64_t N, int64_t K, unsigned flags);
cudaError_t ls_launch_matmul_bias(cudaStream_t stream, void *out, const void *a, const void *b, const void *bias,
                                  ls_dtype dtype, int64_t M, int64_t N, int64_t K, unsigned flags);
cudaError_t ls_launch_matmul_rows(cudaStream_t stream, void *out, ls_dtype out_dtype, const void *x, const void *weight,
                                  ls_dtype dtype, int64_t R, int64_t N, int64_t K);

/* ---- embedding --------------------------------------------------------------------------------------------------- */

cudaError_t ls_launch_embedding_forward(cudaStream_t stream, float *out, const int32_t *token, const void *weight,
                                        ls_dtype dtype, int64_t R, int64_t V, int64_t C);
size_t ls_embedding_backward_scratch_bytes(int64_t R);
cudaError_t ls_launch_embedding_backward(cudaStream_t stream, float *dweight, const float *dout, const int32_t *token,
                                         int64_t R, int64_t V, int64_t C, void *scratch);

/* ---- RMSNorm ----------------------------------------------------------------------------------------------------- */

cudaError_t ls_launch_rmsnorm_forward(cudaStream_t stream, void *out, float *rstd, const float *residual,
                                      const int32_t *slot, const void *weight, ls_dtype dtype, int64_t n, int64_t T,
                                      int64_t C, float epsilon);
size_t ls_rmsnorm_backward_scratch_bytes(int64_t n, int64_t T, int64_t C);
cudaError_t ls_launch_rmsnorm_backward(cudaStream_t stream, float *dresidual, float *dweight, const void *dout,
                                       const float *residual, const int32_t *slot, const int32_t *sample,
                                       const float *rstd, const void *weight, ls_dtype dtype, int64_t n, int64_t T,
                                       int64_t C, void *scratch);

/* ---- residual stream --------------------------------------------------------------------------------------------- */

cudaError_t ls_launch_residual_add(cudaStream_t stream, float *residual, const int32_t *out_slot,
                                   const int32_t *in_slot, const void *y, ls_dtype dtype, float scale, int64_t n,
                                   int64_t T, int64_t C);
cudaError_t ls_launch_residual_add_rmsnorm(cudaStream_t stream, float *residual, void *out, float *rstd,
                                           const int32_t *out_slot, const int32_t *in_slot, const void *y,
                                           const void *weight, ls_dtype dtype, float scale, int64_t n, int64_t T,
                                           int64_t C, float epsilon);
cudaError_t ls_launch_gather_cast(cudaStream_t stream, void *out, const float *x, const int32_t *slot, ls_dtype dtype,
                                  float scale, int64_t n, int64_t T, int64_t C);

/* ---- bias -------------------------------------------------------------------------------------------------------- */

/* x[r,:] += bias, in place, rounded once. x [R,N]. */
cudaError_t ls_launch_bias_add(cudaStream_t stream, void *x, const void *bias, ls_dtype dtype, int64_t R, int64_t N);
/* dbias[i] += sum_r dout[r,i]. dout [R,N], dbias fp32. */
size_t ls_bias_backward_scratch_bytes(int64_t R, int64_t N);
cudaError_t ls_launch_bias_backward(cudaStream_t stream, float *dbias, const void *dout, ls_dtype dtype, int64_t R,
                                    int64_t N, void *scratch);

/* ---- rotary position embedding ----------------------------------------------------------------------------------- */

cudaError_t ls_launch_rope(cudaStream_t stream, void *qkv, const float *cos_table, const float *sin_table,
                           const int32_t *position, const int32_t *sample, ls_dtype dtype, int inverse, int64_t n,
                           int64_t T, int64_t H, int64_t G, int64_t D);
cudaError_t ls_launch_rope_append(cudaStream_t stream, void *qkv, void *key_cache, void *value_cache,
                                  const float *cos_table, const float *sin_table, ls_dtype dtype, const int32_t *base,
                                  int64_t start, int64_t R, int64_t H, int64_t G, int64_t D, int64_t capacity);

/* ---- attention --------------------------------------------------------------------------------------------------- */

/* bf16 with D <= 256 runs on tensor cores, all else in plain fp32 arithmetic. */
cudaError_t ls_launch_attention_forward(cudaStream_t stream, void *out, float *lse, const void *qkv,
                                        const int32_t *first_key, const int32_t *sample, ls_dtype dtype, float scale,
                                        int64_t n, int64_t T, int64_t H, int64_t G, int64_t D);
size_t ls_attention_backward_scratch_bytes(int64_t n, int64_t T, int64_t H);
cudaError_t ls_launch_attention_backward(cudaStream_t stream, void *dqkv, const void *dout, const void *qkv,
                                         const void *out, const float *lse, const int32_t *first_key,
                                         const int32_t *sample, ls_dtype dtype, float scale, int64_t n, int64_t T,
                                         int64_t H, int64_t G, int64_t D, void *scratch);
/* `positions` is start + R of the call, or the capacity where there is a base, or to cover every call; R of at most 16
 * needs scratch. */
size_t ls_attention_cached_scratch_bytes(int64_t positions, int64_t R, int64_t H, int64_t D);
cudaError_t ls_launch_attention_cached(cudaStream_t stream, void *out, const void *qkv, const void *key_cache,
                                       const void *value_cache, ls_dtype dtype, float scale, const int32_t *base,
                                       int64_t start, int64_t R, int64_t H, int64_t G, int64_t D, int64_t capacity,
                                       void *scratch);

/* ---- sampling and acceptance ------------------------------------------------------------------------------------- */

/* `sampling` is host memory, read before the launcher returns. */
cudaError_t ls_launch_draft_token(cudaStream_t stream, ls_round *round, double *q, const float *logits,
                                  const ls_sampling *sampling, double confidence, int32_t end_of_text, int64_t V);
size_t ls_accept_drafts_scratch_bytes(int64_t R, int64_t V);
cudaError_t ls_launch_accept_drafts(cudaStream_t stream, ls_round *round, const double *q, const float *logits,
                                    const ls_sampling *sampling, int64_t first, int64_t R, int64_t V, void *scratch);

/* ---- SwiGLU, cross-entropy --------------------------------------------------------------------------------------- */

cudaError_t ls_launch_swiglu_forward(cudaStream_t stream, void *out, const void *gate_up, ls_dtype dtype, int64_t R,
                                     int64_t F);
cudaError_t ls_launch_swiglu_backward(cudaStream_t stream, void *dgate_up, void *out, const void *dout,
                                      const void *gate_up, ls_dtype dtype, int64_t R, int64_t F);
cudaError_t ls_launch_cross_entropy(cudaStream_t stream, float *loss, void *logits, const int32_t *target,
                                    ls_dtype dtype, float gradient_scale, int64_t R, int64_t V);

/* ---- flat blocks ------------------------------------------------------------------------------------------------- */

/* `step` is host memory, read before the launcher returns. */
cudaError_t ls_launch_adamw(cudaStream_t stream, float *weight, float *m, float *v, float *gradient, void *weight_out,
                            ls_dtype dtype, const ls_adamw_step *step, int64_t count);
/* The sums' `out` is device memory. */
size_t ls_sum_of_squares_scratch_bytes(int64_t count);
cudaError_t ls_launch_sum_of_squares(cudaStream_t stream, double *out, const float *x, int64_t count, void *scratch);
cudaError_t ls_launch_row_sums(cudaStream_t stream, double *out, const float *x, int64_t R, int64_t N);
cudaError_t ls_launch_convert(cudaStream_t stream, void *out, ls_dtype out_dtype, const void *x, ls_dtype dtype,
                              int64_t count);

#ifdef __cplusplus
}
#endif

#endif
