/* The skinny product of decoding: weights stream through once, a few rows wait in the first-level cache.
 *
 * Every element out[r,n] is one chain of sums over k in steps of a vector, then one fixed tree over lanes: the same for
 * any number of rows, any neighbours and any threads. Four weight rows by up to four rows run at a time, which is
 * enough independent chains to hide the latency and few enough to stay in registers; a single row takes one weight row
 * after another, a purely sequential stream (128 of 141 GB/s; four at a time: 100). */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/variant.h"

#define WEIGHT_ROWS 4
#define CHUNK 4    /* rows at a time */
#define AHEAD 8192 /* bytes of weights asked for in advance, in the order they lie in memory */

typedef struct rows_product {
    ls_dtype out_dtype;
    void *out;
    const unsigned char *x, *weight;
    int64_t R, N, K;
} rows_product;

/* One vector's worth of k: VL floats, or 2 VL bf16. */
static inline vf step(ls_dtype dtype, vf sum, vu a, vu b)
{
    return dtype == LS_F32 ? vf_fma((vf)a, (vf)b, sum) : vf_dot_bf16(sum, a, b);
}

static inline void store_one(const rows_product *p, int64_t r, int64_t n, float value)
{
    if (p->out_dtype == LS_F32)
        ((float *)p->out)[r * p->N + n] = value;
    else
        ((uint16_t *)p->out)[r * p->N + n] = ls_float_to_bf16(value);
}

static inline __attribute__((always_inline)) void block(ls_dtype dtype, const rows_product *p, int64_t n0, int wide,
                                                        int64_t r0, int rows)
{
    const size_t row_bytes = (size_t)p->K * ls_dtype_size(dtype);
    const unsigned char *w = p->weight + (size_t)n0 * row_bytes, *x = p->x + (size_t)r0 * row_bytes;
    vf sum[WEIGHT_ROWS][CHUNK];
    for (int i = 0; i < wide; i++)
        for (int r = 0; r < rows; r++) sum[i][r] = vf_set(0.0f);
    size_t at = 0;
    for (; at + sizeof(vu) <= row_bytes; at += sizeof(vu)) {
        vu a[WEIGHT_ROWS];
        for (int i = 0; i < wide; i++) {
            a[i] = vu_load(w + (size_t)i * row_bytes + at);
            if (r0 == 0) __builtin_prefetch(w + AHEAD + at * (size_t)wide + (size_t)i * sizeof(vu));
        }
        for (int r = 0; r < rows; r++) {
            const vu b = vu_load(x + (size_t)r * row_bytes + at);
            for (int i = 0; i < wide; i++) sum[i][r] = step(dtype, sum[i][r], a[i], b);
        }
    }
    if (at < row_bytes)
        for (int r = 0; r < rows; r++)
            for (int i = 0; i < wide; i++) {
                vu a = {0}, b = {0};
                memcpy(&a, w + (size_t)i * row_bytes + at, row_bytes - at);
                memcpy(&b, x + (size_t)r * row_bytes + at, row_bytes - at);
                sum[i][r] = step(dtype, sum[i][r], a, b);
            }
    if (wide < WEIGHT_ROWS) {
        for (int r = 0; r < rows; r++)
            for (int i = 0; i < wide; i++) store_one(p, r0 + r, n0 + i, vf_sum(sum[i][r]));
        return;
    }
    for (int r = 0; r < rows; r++) {
        float four[WEIGHT_ROWS];
        vf_sum4(four, sum[0][r], sum[1][r], sum[2][r], sum[3][r]);
        for (int i = 0; i < WEIGHT_ROWS; i++) store_one(p, r0 + r, n0 + i, four[i]);
    }
}

static inline __attribute__((always_inline)) void all_rows(ls_dtype dtype, const rows_product *p, int64_t n0, int wide)
{
    const int64_t chunks = (p->R + CHUNK - 1) / CHUNK;
    int64_t r = 0;
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
        const int64_t rows = (p->R - r + chunks - chunk - 1) / (chunks - chunk);
        switch (rows) {
        case 1:
            block(dtype, p, n0, wide, r, 1);
            break;
        case 2:
            block(dtype, p, n0, wide, r, 2);
            break;
        case 3:
            block(dtype, p, n0, wide, r, 3);
            break;
        default:
            block(dtype, p, n0, wide, r, 4);
        }
        r += rows;
    }
}

static inline __attribute__((always_inline)) void run(ls_dtype dtype, int threads, const rows_product *p)
{
    const int64_t groups = (p->N + WEIGHT_ROWS - 1) / WEIGHT_ROWS;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t group = 0; group < groups; group++) {
        const int64_t n0 = group * WEIGHT_ROWS;
        if (p->R > 1 && n0 + WEIGHT_ROWS <= p->N)
            all_rows(dtype, p, n0, WEIGHT_ROWS);
        else
            for (int64_t n = n0; n < p->N && n < n0 + WEIGHT_ROWS; n++) all_rows(dtype, p, n, 1);
    }
}

void LS_CPU_NAME(matmul_rows)(ls_exec *exec, void *out, ls_dtype out_dtype, const void *x, const void *weight,
                              ls_dtype dtype, int64_t R, int64_t N, int64_t K)
{
    if (exec->status != LS_OK || R == 0 || N == 0) return;
    const rows_product p = {out_dtype, out, x, weight, R, N, K};
    const int threads = R * N * K >= 16384 ? exec->threads : 1;
    if (dtype == LS_F32)
        run(LS_F32, threads, &p);
    else
        run(LS_BF16, threads, &p);
}
