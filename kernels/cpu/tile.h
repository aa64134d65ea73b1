/* Products of small tiles that live in the first-level cache: what attention is made of.
 *
 * A "unit" is four bytes of one operand along the inner dimension: one float, or a pair of bf16. Both compute types
 * then share one layout and one loop:  c[i][VL*w + lane] += sum_u a(i,u) . b[u][VL*w + lane]. */
#ifndef LS_KERNELS_CPU_TILE_H
#define LS_KERNELS_CPU_TILE_H

#include "kernels/cpu/simd.h"

#define TILE 64 /* rows and columns of a score tile; 64x64 floats are 16 KB */
#define TILE_VECTORS (TILE / VL)

static inline int64_t units_of(ls_dtype dtype, int64_t elements) { return dtype == LS_F32 ? elements : elements / 2; }

static inline vf unit_product(ls_dtype dtype, vf sum, uint32_t a, const uint32_t *b)
{
    if (dtype == LS_F32) {
        float scalar;
        memcpy(&scalar, &a, sizeof scalar);
        return vf_fma(vf_set(scalar), vf_load((const float *)(const void *)b), sum);
    }
    return vf_dot_bf16(sum, (vu){0} + a, vu_load(b));
}

/* Four rows by `vectors` (1..4) vectors, sums in registers. */
static inline __attribute__((always_inline)) void tile_rows4(ls_dtype dtype, int vectors, float *c, int64_t c_stride,
                                                             const uint32_t *a, int64_t a_row, int64_t a_unit,
                                                             const uint32_t *b, int64_t b_stride, int64_t units)
{
    vf sum[4][4];
    for (int i = 0; i < 4; i++)
        for (int w = 0; w < vectors; w++) sum[i][w] = vf_load(c + i * c_stride + w * VL);
    for (int64_t u = 0; u < units; u++)
        for (int i = 0; i < 4; i++) {
            const uint32_t scalar = a[i * a_row + u * a_unit];
            for (int w = 0; w < vectors; w++)
                sum[i][w] = unit_product(dtype, sum[i][w], scalar, b + u * b_stride + w * VL);
        }
    for (int i = 0; i < 4; i++)
        for (int w = 0; w < vectors; w++) vf_store(c + i * c_stride + w * VL, sum[i][w]);
}

/* c[rows, cols] fp32 += A B. rows a multiple of 4, cols of VL. a(i,u) = a[i*a_row + u*a_unit], b [units, b_stride]. */
static inline __attribute__((always_inline)) void tile_product(ls_dtype dtype, float *c, int64_t c_stride,
                                                               const uint32_t *a, int64_t a_row, int64_t a_unit,
                                                               const uint32_t *b, int64_t b_stride, int64_t rows,
                                                               int64_t cols, int64_t units)
{
    for (int64_t col = 0; col < cols; col += 4 * VL) {
        const int64_t left = (cols - col) / VL;
        for (int64_t row = 0; row < rows; row += 4) {
            float *to = c + row * c_stride + col;
            const uint32_t *from = a + row * a_row;
            if (left >= 4)
                tile_rows4(dtype, 4, to, c_stride, from, a_row, a_unit, b + col, b_stride, units);
            else if (left == 3)
                tile_rows4(dtype, 3, to, c_stride, from, a_row, a_unit, b + col, b_stride, units);
            else if (left == 2)
                tile_rows4(dtype, 2, to, c_stride, from, a_row, a_unit, b + col, b_stride, units);
            else
                tile_rows4(dtype, 1, to, c_stride, from, a_row, a_unit, b + col, b_stride, units);
        }
    }
}

/* ---- packing: x is [T, D] with `stride` elements between rows --------------------------------------------------- */

/* out [units of D][padded]: unit u of row t at out[u*padded + t]; rows T..padded-1 are zero. */
static inline void pack_across(ls_dtype dtype, uint32_t *out, int64_t padded, const void *x, int64_t stride, int64_t T,
                               int64_t D)
{
    const int64_t units = units_of(dtype, D);
    const unsigned char *bytes = x;
    const size_t row_bytes = (size_t)stride * ls_dtype_size(dtype);
    for (int64_t t0 = 0; t0 < padded; t0 += VL)
        for (int64_t u0 = 0; u0 < units; u0 += VL) {
            const int count = units - u0 < VL ? (int)(units - u0) : VL;
            vu square[VL];
            for (int t = 0; t < VL; t++) {
                square[t] = (vu){0};
                if (t0 + t >= T) continue;
                const unsigned char *from = bytes + (size_t)(t0 + t) * row_bytes + (size_t)u0 * 4;
                if (count == VL)
                    square[t] = vu_load(from);
                else
                    memcpy(&square[t], from, 4 * (size_t)count);
            }
            vu_transpose(square);
            for (int u = 0; u < count; u++) memcpy(out + (u0 + u) * padded + t0, &square[u], sizeof(vu));
        }
}

/* Two rows of bf16 side by side: low halves from `even`, high halves from `odd` (NULL: zero). */
static inline void interleave_rows(uint32_t *out, const uint16_t *even, const uint16_t *odd, int64_t D)
{
    int64_t d = 0;
    for (; d + VL <= D; d += VL) {
        vh low, high = {0};
        memcpy(&low, even + d, sizeof low);
        if (odd != NULL) memcpy(&high, odd + d, sizeof high);
        const vu both = __builtin_convertvector(low, vu) | __builtin_convertvector(high, vu) << 16;
        memcpy(out + d, &both, sizeof both);
    }
    for (; d < D; d++) out[d] = even[d] | (odd == NULL ? 0u : (uint32_t)odd[d] << 16);
}

/* out [units of padded rows][wide]: units run down the rows of x (bf16: rows 2u and 2u+1 side by side); columns
 * D..wide-1 and rows T..padded-1 are zero. */
static inline void pack_down(ls_dtype dtype, uint32_t *out, int64_t wide, const void *x, int64_t stride, int64_t T,
                             int64_t padded, int64_t D)
{
    const int64_t height = dtype == LS_F32 ? 1 : 2, units = padded / height;
    for (int64_t u = 0; u < units; u++) {
        uint32_t *to = out + u * wide;
        const int64_t t = u * height, filled = t < T ? D : 0;
        if (t < T && dtype == LS_F32) memcpy(to, (const float *)x + t * stride, (size_t)D * 4);
        if (t < T && dtype == LS_BF16) {
            const uint16_t *even = (const uint16_t *)x + t * stride;
            interleave_rows(to, even, t + 1 < T ? even + stride : NULL, D);
        }
        memset(to + filled, 0, sizeof(uint32_t) * (size_t)(wide - filled));
    }
}

/* out [padded][units of D]: the rows themselves, rows T..padded-1 zero. */
static inline void pack_rows(ls_dtype dtype, uint32_t *out, const void *x, int64_t stride, int64_t T, int64_t padded,
                             int64_t D)
{
    const size_t bytes = (size_t)D * ls_dtype_size(dtype), step = (size_t)stride * ls_dtype_size(dtype);
    unsigned char *to = (unsigned char *)out;
    for (int64_t t = 0; t < T; t++) memcpy(to + (size_t)t * bytes, (const unsigned char *)x + (size_t)t * step, bytes);
    memset(to + (size_t)T * bytes, 0, (size_t)(padded - T) * bytes);
}

/* Writes D floats of a row in the compute type. */
static inline void store_row(ls_dtype dtype, void *out, const float *row, int64_t D)
{
    for (int64_t d = 0; d < D; d += VL) {
        const int count = D - d < VL ? (int)(D - d) : VL;
        const vf value = vf_load_part(row + d, count);
        if (dtype == LS_F32)
            vf_store_part((float *)out + d, value, count);
        else
            vf_store_bf16_part((uint16_t *)out + d, value, count);
    }
}

#endif
