/* Flat blocks: sums in double, and conversion between element types. */
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/variant.h"

#define PARTS 1024 /* partial sums; the cut depends on the count alone */
#define SUMS 4

static double sum_of_squares(const float *x, int64_t count)
{
    vd sum[SUMS] = {{0}};
    int64_t i = 0;
    for (; i + SUMS * VDL <= count; i += SUMS * VDL)
        for (int k = 0; k < SUMS; k++) {
            const vd v = vd_load(x + i + k * VDL);
            sum[k] = v * v + sum[k];
        }
    const vd all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    double result = 0.0;
    for (int lane = 0; lane < VDL; lane++) result += all[lane];
    for (; i < count; i++) result += (double)x[i] * (double)x[i];
    return result;
}

void LS_CPU_NAME(sum_of_squares)(ls_exec *exec, double *out, const float *x, int64_t count)
{
    double part[PARTS];
    const int64_t length = (count + PARTS * VL - 1) / (PARTS * VL) * VL; /* whole vectors */
    const int64_t parts = length == 0 ? 0 : (count + length - 1) / length;
    LS_PARALLEL_FOR(threads_for(exec, count * 4), p, parts, {
        const int64_t left = count - p * length;
        part[p] = sum_of_squares(x + p * length, left < length ? left : length);
    });
    double sum = 0.0;
    for (int64_t p = 0; p < parts; p++) sum += part[p];
    *out = sum;
}

/* In the order of the row: a row is short, and there are few. */
void LS_CPU_NAME(row_sums)(ls_exec *exec, double *out, const float *x, int64_t R, int64_t N)
{
    LS_PARALLEL_FOR(threads_for(exec, R * N * 4), r, R, {
        double sum = 0.0;
        for (int64_t n = 0; n < N; n++) sum += (double)x[r * N + n];
        out[r] = sum;
    });
}

LS_INLINE void convert_vector(void *out, ls_dtype out_dtype, const void *x, ls_dtype dtype, int64_t i, int lanes)
{
    vf_put(out, i, lanes, vf_get(x, i, lanes, dtype), out_dtype);
}

LS_INLINE void convert_block(void *out, const void *x, int64_t begin, int64_t end, ls_dtype dtype)
{
    /* towards the other type */
    LS_EACH_VECTOR(begin, end, convert_vector, out, dtype == LS_BF16 ? LS_F32 : LS_BF16, x, dtype);
}

void LS_CPU_NAME(convert)(ls_exec *exec, void *out, ls_dtype out_dtype, const void *x, ls_dtype dtype, int64_t count)
{
    const int64_t size = (int64_t)ls_dtype_size(dtype);
    LS_PARALLEL_FOR(threads_for(exec, count * (size + (int64_t)ls_dtype_size(out_dtype))), block, flat_blocks(count), {
        const int64_t begin = block * FLAT_BLOCK, end = flat_end(block, count);
        if (dtype == out_dtype)
            memcpy((char *)out + begin * size, (const char *)x + begin * size, (size_t)((end - begin) * size));
        else
            LS_BY_DTYPE(dtype, convert_block, out, x, begin, end);
    });
}
