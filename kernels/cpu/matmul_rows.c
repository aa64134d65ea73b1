/* The skinny product of decoding: weights stream through once, a few rows wait in the first-level cache.
 *
 * Every element out[r,n] is one chain of sums over k in steps of a vector, then one fixed tree over lanes: the same for
 * any number of rows, any neighbours and any threads. Four weight rows by up to five rows run at a time: 20 independent
 * chains hide the latency and leave registers for the operands. The rows of x are first laid side by side, so that one
 * pointer walks over all of them, and the sums of sixteen weight rows are rounded and stored together. A single row
 * takes one weight row after another, a purely sequential stream (128 of 141 GB/s; four at a time: 100). */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/variant.h"

#define WEIGHT_ROWS 4
#define PANEL 16    /* weight rows whose sums are stored together */
#define CHUNK 5     /* rows at a time */
#define BATCH 16    /* rows that share one pass over the weights */
#define AHEAD 12288 /* bytes of weights asked for in advance, in the order they lie in memory */

typedef struct rows_product {
    ls_dtype out_dtype;
    void *out;
    const void *weight;
    const vu *x; /* per chunk: [steps][rows of the chunk] vectors, the last step padded with zeros */
    int64_t r0;  /* first row of the batch */
    int rows, chunks, chunk_rows[4];
    int64_t N, K;
} rows_product;

/* One vector's worth of k: VL floats, or 2 VL bf16. */
static inline vf step(ls_dtype dtype, vf sum, vu a, vu b)
{
    return dtype == LS_F32 ? vf_fma((vf)a, (vf)b, sum) : vf_dot_bf16(sum, a, b);
}

/* sums[r * PANEL + i] of rows r of one chunk and weight rows i of w, i < wide. The weights to come are asked for all
 * along: each of the chunks that pass over these weight rows asks for its share, so memory never waits for arithmetic.
 */
static inline __attribute__((always_inline)) void block(ls_dtype dtype, float *sums, const unsigned char *w, int wide,
                                                        const vu *x, int rows, size_t row_bytes, int chunk, int chunks)
{
    const size_t share = (size_t)((wide + chunks - 1) / chunks), whole = row_bytes - row_bytes % sizeof(vu);
    const unsigned char *ahead = w + AHEAD + (size_t)chunk * share * row_bytes;
    vf sum[WEIGHT_ROWS][CHUNK];
    for (int i = 0; i < wide; i++)
        for (int r = 0; r < rows; r++) sum[i][r] = vf_set(0.0f);
    for (size_t at = 0; at < whole; at += sizeof(vu), x += rows) {
        vu a[WEIGHT_ROWS];
        for (int i = 0; i < wide; i++) a[i] = vu_load(w + (size_t)i * row_bytes + at);
        __builtin_prefetch(ahead + at * share);
        if (share > 1) __builtin_prefetch(ahead + at * share + sizeof(vu));
        if (share > 2) {
            __builtin_prefetch(ahead + at * share + 2 * sizeof(vu));
            __builtin_prefetch(ahead + at * share + 3 * sizeof(vu));
        }
        for (int r = 0; r < rows; r++)
            for (int i = 0; i < wide; i++) sum[i][r] = step(dtype, sum[i][r], a[i], x[r]);
    }
    if (whole < row_bytes)
        for (int i = 0; i < wide; i++) {
            vu a = {0};
            memcpy(&a, w + (size_t)i * row_bytes + whole, row_bytes - whole);
            for (int r = 0; r < rows; r++) sum[i][r] = step(dtype, sum[i][r], a, x[r]);
        }
    for (int r = 0; r < rows; r++)
        if (wide == WEIGHT_ROWS)
            vf_sum4(sums + r * PANEL, sum[0][r], sum[1][r], sum[2][r], sum[3][r]);
        else
            for (int i = 0; i < wide; i++) sums[r * PANEL + i] = vf_sum(sum[i][r]);
}

/* All rows of the batch. The loop is unrolled so that each chunk has a jump of its own: one jump that takes turns
 * between two sizes is mispredicted every time (a tenth of the time at 7 and 9 rows). */
static inline __attribute__((always_inline)) void all(ls_dtype dtype, float *sums, const rows_product *p,
                                                      const unsigned char *w, int wide)
{
    const size_t row_bytes = (size_t)p->K * ls_dtype_size(dtype), steps = (row_bytes + sizeof(vu) - 1) / sizeof(vu);
    const vu *x = p->x;
#pragma GCC unroll 4
    for (int chunk = 0; chunk < 4; chunk++) {
        if (chunk == p->chunks) break;
        const int rows = p->chunk_rows[chunk];
        switch (rows) {
        case 1:
            block(dtype, sums, w, wide, x, 1, row_bytes, chunk, p->chunks);
            break;
        case 2:
            block(dtype, sums, w, wide, x, 2, row_bytes, chunk, p->chunks);
            break;
        case 3:
            block(dtype, sums, w, wide, x, 3, row_bytes, chunk, p->chunks);
            break;
        case 4:
            block(dtype, sums, w, wide, x, 4, row_bytes, chunk, p->chunks);
            break;
        default:
            block(dtype, sums, w, wide, x, CHUNK, row_bytes, chunk, p->chunks);
        }
        sums += rows * PANEL;
        x += (size_t)rows * steps;
    }
}

static inline void store(const rows_product *p, int64_t r, int64_t n, const float *sums, int count)
{
    const int64_t at = r * p->N + n;
    for (int i = 0; i < count; i += VL) {
        const int here = count - i < VL ? count - i : VL;
        if (p->out_dtype == LS_F32 && here == VL)
            vf_store((float *)p->out + at + i, vf_load(sums + i));
        else if (p->out_dtype == LS_F32)
            vf_store_part((float *)p->out + at + i, vf_load(sums + i), here);
        else if (here == VL)
            vf_store_bf16((uint16_t *)p->out + at + i, vf_load(sums + i));
        else
            vf_store_bf16_part((uint16_t *)p->out + at + i, vf_load(sums + i), here);
    }
}

/* Weight rows n0..n0+count-1, count <= PANEL, by the batch. */
static inline __attribute__((always_inline)) void panel(ls_dtype dtype, const rows_product *p, int64_t n0, int count)
{
    const size_t row_bytes = (size_t)p->K * ls_dtype_size(dtype);
    const unsigned char *w = (const unsigned char *)p->weight + (size_t)n0 * row_bytes;
    _Alignas(64) float sums[BATCH * PANEL] = {0};
    int i = 0;
    if (p->rows > 1)
        for (; i + WEIGHT_ROWS <= count; i += WEIGHT_ROWS)
            all(dtype, sums + i, p, w + (size_t)i * row_bytes, WEIGHT_ROWS);
    for (; i < count; i++) all(dtype, sums + i, p, w + (size_t)i * row_bytes, 1);
    for (int r = 0; r < p->rows; r++) store(p, p->r0 + r, n0, sums + r * PANEL, count);
}

static inline __attribute__((always_inline)) void run(ls_dtype dtype, int threads, const rows_product *p)
{
    const int64_t panels = (p->N + PANEL - 1) / PANEL;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < panels; i++) {
        const int64_t n0 = i * PANEL;
        panel(dtype, p, n0, p->N - n0 < PANEL ? (int)(p->N - n0) : PANEL);
    }
}

/* Rows first..first+rows-1 of x [.,K], side by side in steps of a vector. */
static vu *interleave(vu *out, const unsigned char *x, int64_t first, int rows, size_t row_bytes)
{
    for (int r = 0; r < rows; r++) {
        const unsigned char *from = x + (size_t)(first + r) * row_bytes;
        vu *to = out + r;
        size_t at = 0;
        for (; at + sizeof(vu) <= row_bytes; at += sizeof(vu), to += rows) *to = vu_load(from + at);
        if (at == row_bytes) continue;
        *to = (vu){0};
        memcpy(to, from + at, row_bytes - at);
    }
    return out + (size_t)rows * ((row_bytes + sizeof(vu) - 1) / sizeof(vu));
}

/* Lays out rows r0.. of x for a pass, in chunks of nearly equal size. */
static void prepare(rows_product *p, vu *packed, const void *x, int64_t r0, int64_t left, size_t row_bytes)
{
    p->r0 = r0;
    p->x = packed;
    p->rows = left < BATCH ? (int)left : BATCH;
    p->chunks = (p->rows + CHUNK - 1) / CHUNK;
    int done = 0;
    for (int chunk = 0; chunk < p->chunks; chunk++) {
        const int rows = (p->rows - done + p->chunks - chunk - 1) / (p->chunks - chunk);
        packed = interleave(packed, x, r0 + done, rows, row_bytes);
        p->chunk_rows[chunk] = rows;
        done += rows;
    }
}

void LS_CPU_NAME(matmul_rows)(ls_exec *exec, void *out, ls_dtype out_dtype, const void *x, const void *weight,
                              ls_dtype dtype, int64_t R, int64_t N, int64_t K)
{
    if (exec->status != LS_OK || R == 0 || N == 0) return;
    const size_t row_bytes = (size_t)K * ls_dtype_size(dtype), steps = (row_bytes + sizeof(vu) - 1) / sizeof(vu);
    vu *packed = ls_cpu_scratch(exec, 0, (size_t)(R < BATCH ? R : BATCH) * steps * sizeof(vu) + 1);
    if (packed == NULL) return;
    const int threads = R * N * K >= 16384 ? exec->threads : 1;
    rows_product p = {.out_dtype = out_dtype, .out = out, .weight = weight, .N = N, .K = K};
    for (int64_t r0 = 0; r0 < R; r0 += BATCH) {
        prepare(&p, packed, x, r0, R - r0, row_bytes);
        if (dtype == LS_F32)
            run(LS_F32, threads, &p);
        else
            run(LS_BF16, threads, &p);
    }
}
