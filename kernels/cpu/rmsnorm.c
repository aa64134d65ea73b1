/* RMSNorm forward, also of a row that is being added to, and backward: two passes over a row, the second one from the
 * first-level cache.
 *
 * A row's sums run over vectors of lanes in an order that depends on C alone. dweight is summed over fixed blocks of
 * rows, each in a buffer of its own, then over the blocks in order: neither depends on threads. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/variant.h"

#define SUMS 4 /* independent sums hide the latency of the multiply-add */
#define BLOCKS_MOST 128
#define BLOCK_ROWS_LEAST 32

static inline float total(const vf *sum) { return vf_sum((sum[0] + sum[1]) + (sum[2] + sum[3])); }

LS_INLINE void forward_vector(void *out, const float *x, const void *weight, vf rstd, ls_dtype dtype, int64_t i,
                              int lanes)
{
    vf_put(out, i, lanes, vf_get(x, i, lanes, LS_F32) * rstd * vf_get(weight, i, lanes, dtype), dtype);
}

/* What a row is the sum of: x = in + scale * y, or `in` alone. */
typedef struct branch {
    float *x;
    const void *y;
    float scale;
} branch;

/* Elements i .. i+lanes-1 of the row, which are written where they are a sum. */
LS_INLINE vf row_vector(const float *in, const branch *added, int64_t i, int lanes, ls_dtype dtype)
{
    vf v = vf_get(in, i, lanes, LS_F32);
    if (added == NULL) return v;
    v = vf_fma(vf_set(added->scale), vf_get(added->y, i, lanes, dtype), v);
    vf_put(added->x, i, lanes, v, LS_F32);
    return v;
}

LS_INLINE void norm_row(void *out, float *rstd, const float *in, const branch *added, const void *weight, int64_t C,
                        float epsilon, ls_dtype dtype)
{
    vf sum[SUMS] = {{0}};
    int64_t i = 0;
    for (; i + SUMS * VL <= C; i += SUMS * VL)
        for (int k = 0; k < SUMS; k++) {
            const vf v = row_vector(in, added, i + k * VL, VL, dtype);
            sum[k] = vf_fma(v, v, sum[k]);
        }
    for (; i < C; i += VL) {
        const vf v = row_vector(in, added, i, vector_lanes(C - i), dtype);
        sum[0] = vf_fma(v, v, sum[0]);
    }
    const float scale = 1.0f / sqrtf(total(sum) / (float)C + epsilon);
    if (rstd != NULL) *rstd = scale;
    LS_EACH_VECTOR(0, C, forward_vector, out, added == NULL ? in : added->x, weight, vf_set(scale), dtype);
}

LS_INLINE void forward_row(void *out, float *rstd, const float *x, const void *weight, int64_t C, float epsilon,
                           ls_dtype dtype)
{
    norm_row(out, rstd, x, NULL, weight, C, epsilon, dtype);
}

LS_INLINE void add_forward_row(void *out, float *rstd, float *x, const float *in, const void *y, float scale,
                               const void *weight, int64_t C, float epsilon, ls_dtype dtype)
{
    const branch added = {x, y, scale};
    norm_row(out, rstd, in, &added, weight, C, epsilon, dtype);
}

void LS_CPU_NAME(rmsnorm_forward)(ls_exec *exec, void *out, float *rstd, const float *residual, const int32_t *slot,
                                  const void *weight, ls_dtype dtype, int64_t n, int64_t T, int64_t C, float epsilon)
{
    LS_PARALLEL_FOR(threads_for(exec, n * T * C * 6), r, n * T,
                    LS_BY_DTYPE(dtype, forward_row, element_out(out, r * C, dtype), rstd == NULL ? NULL : rstd + r,
                                residual + (slot[r / T] * T + r % T) * C, weight, C, epsilon));
}

void LS_CPU_NAME(residual_add_rmsnorm)(ls_exec *exec, float *residual, void *out, float *rstd, const int32_t *out_slot,
                                       const int32_t *in_slot, const void *y, const void *weight, ls_dtype dtype,
                                       float scale, int64_t n, int64_t T, int64_t C, float epsilon)
{
    LS_PARALLEL_FOR(threads_for(exec, n * T * C * 16), r, n * T,
                    LS_BY_DTYPE(dtype, add_forward_row, element_out(out, r * C, dtype), rstd == NULL ? NULL : rstd + r,
                                residual + (out_slot[r / T] * T + r % T) * C,
                                residual + (in_slot[r / T] * T + r % T) * C, element(y, r * C, dtype), scale, weight, C,
                                epsilon));
}

/* sum += h * x */
LS_INLINE void dot_vector(vf *sum, const void *dout, const float *x, const void *weight, ls_dtype dtype, int64_t i,
                          int lanes)
{
    const vf h = vf_get(dout, i, lanes, dtype) * vf_get(weight, i, lanes, dtype);
    *sum = vf_fma(h, vf_get(x, i, lanes, LS_F32), *sum);
}

/* dresidual += rstd * h - x * shrink;  dweight += dout * x * rstd */
LS_INLINE void backward_vector(float *dresidual, float *dweight, const void *dout, const float *x, const void *weight,
                               vf rstd, vf shrink, ls_dtype dtype, int64_t i, int lanes)
{
    const vf dy = vf_get(dout, i, lanes, dtype) * rstd, value = vf_get(x, i, lanes, LS_F32);
    const vf dx = vf_fma(dy, vf_get(weight, i, lanes, dtype), -(value * shrink));
    vf_put(dresidual, i, lanes, vf_get(dresidual, i, lanes, LS_F32) + dx, LS_F32);
    vf_put(dweight, i, lanes, vf_fma(dy, value, vf_get(dweight, i, lanes, LS_F32)), LS_F32);
}

LS_INLINE void backward_row(float *dresidual, float *dweight, const void *dout, const float *x, float rstd,
                            const void *weight, int64_t C, ls_dtype dtype)
{
    vf sum[SUMS] = {{0}};
    int64_t i = 0;
    for (; i + SUMS * VL <= C; i += SUMS * VL)
        for (int k = 0; k < SUMS; k++) dot_vector(&sum[k], dout, x, weight, dtype, i + k * VL, VL);
    LS_EACH_VECTOR(i, C, dot_vector, &sum[0], dout, x, weight, dtype);
    const float shrink = rstd * rstd * rstd * (total(sum) / (float)C);
    LS_EACH_VECTOR(0, C, backward_vector, dresidual, dweight, dout, x, weight, vf_set(rstd), vf_set(shrink), dtype);
}

void LS_CPU_NAME(rmsnorm_backward)(ls_exec *exec, float *dresidual, float *dweight, const void *dout,
                                   const float *residual, const int32_t *slot, const int32_t *sample, const float *rstd,
                                   const void *weight, ls_dtype dtype, int64_t n, int64_t T, int64_t C)
{
    const int64_t rows = n * T;
    if (rows == 0 || C == 0) return;
    int64_t blocks = (rows + BLOCK_ROWS_LEAST - 1) / BLOCK_ROWS_LEAST;
    if (blocks > BLOCKS_MOST) blocks = BLOCKS_MOST;
    float *const partial = ls_cpu_scratch(exec, 0, (size_t)(blocks * C) * sizeof *partial);
    if (partial == NULL) return;
    const int threads = threads_for(exec, rows * C * 14);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int64_t block = 0; block < blocks; block++) {
            float *const sum = partial + block * C;
            memset(sum, 0, sizeof(float) * (size_t)C);
            for (int64_t r = rows * block / blocks; r < rows * (block + 1) / blocks; r++)
                LS_BY_DTYPE(dtype, backward_row, dresidual + (sample[r / T] * T + r % T) * C, sum,
                            element(dout, r * C, dtype), residual + (slot[r / T] * T + r % T) * C, rstd[r], weight, C);
        }
#pragma omp for schedule(static)
        for (int64_t c = 0; c < C; c++) {
            float sum = 0.0f;
            for (int64_t block = 0; block < blocks; block++) sum += partial[block * C + c];
            dweight[c] += sum;
        }
    }
}
