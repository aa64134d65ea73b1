/* Flash-style attention (Dao et al. 2022) of up to 64 query rows against packed keys and values: online softmax over
 * tiles of 64 keys. Training (attention.c) and prefill (attention_cached.c) share it. */
#ifndef LS_KERNELS_CPU_ATTENTION_BLOCK_H
#define LS_KERNELS_CPU_ATTENTION_BLOCK_H

#include "kernels/cpu/tile.h"

#include <stdbool.h>

typedef struct packed_keys {
    const uint32_t *keys;   /* pack_across: [units of D][padded] */
    const uint32_t *values; /* pack_down: [units of padded][wide] */
    int64_t padded;         /* positions, a multiple of TILE */
    int64_t wide;           /* D rounded up to VL */
    int64_t D;
} packed_keys;

typedef struct query_block {
    const void *query; /* [rows, D], `stride` elements between rows */
    int64_t stride;
    int64_t rows;             /* 1..TILE */
    int64_t position;         /* of the first row */
    const int32_t *first_key; /* [rows] or NULL */
    float scale;
} query_block;

static inline int64_t round_up_to(int64_t x, int64_t unit) { return (x + unit - 1) / unit * unit; }

/* Scores of keys that row `position` may not see become -infinity. */
static inline void mask_row(float *score, int64_t first, int64_t last, int64_t key0)
{
    for (int w = 0; w < TILE_VECTORS; w++) {
        const vi key = vi_lanes() + (int32_t)(key0 + w * VL);
        const vi visible = (key >= (int32_t)first) & (key <= (int32_t)last);
        vf_store(score + w * VL, vf_select(visible, vf_load(score + w * VL), vf_set(-INFINITY)));
    }
}

/* One row's step of the online softmax: scores -> probabilities (in the compute type), and the factor by which what
 * was summed before must shrink. */
static inline float soften_row(ls_dtype dtype, uint32_t *probability, const float *score, float scale, float *largest,
                               vf *sum)
{
    vf x[TILE_VECTORS];
    vf top = vf_set(-INFINITY);
    for (int w = 0; w < TILE_VECTORS; w++) {
        x[w] = vf_load(score + w * VL) * scale;
        top = vf_max(x[w], top);
    }
    const float before = *largest, tile_top = vf_max_lane(top);
    const float now = tile_top > before ? tile_top : before;
    const float shift = now == -INFINITY ? 0.0f : now;
    vf total = vf_set(0.0f);
    for (int w = 0; w < TILE_VECTORS; w++) {
        const vf p = vf_exp(x[w] - shift);
        total += p;
        if (dtype == LS_F32)
            vf_store((float *)(void *)probability + w * VL, p);
        else
            vf_store_bf16((uint16_t *)(void *)probability + w * VL, p);
    }
    const float shrink = before == -INFINITY ? 0.0f : expf(before - shift);
    *largest = now;
    *sum = *sum * shrink + total;
    return shrink;
}

/* out [rows, D] with out_stride elements between rows; lse [rows] may be NULL. */
static inline __attribute__((always_inline)) void attend_block(ls_dtype dtype, void *out, int64_t out_stride,
                                                               float *lse, const query_block *q, const packed_keys *kv)
{
    _Alignas(64) float score[TILE * TILE];
    _Alignas(64) uint32_t probability[TILE * TILE];
    _Alignas(64) uint32_t query[TILE * 256];
    _Alignas(64) float mixed[TILE * 256];
    vf sum[TILE];
    float largest[TILE];
    const int64_t units = units_of(dtype, kv->D), tile_units = units_of(dtype, TILE);
    const int64_t rows = round_up_to(q->rows, 4);
    pack_rows(dtype, query, q->query, q->stride, q->rows, rows, kv->D);
    memset(mixed, 0, sizeof(float) * (size_t)(rows * kv->wide));
    for (int64_t i = 0; i < rows; i++) {
        sum[i] = vf_set(0.0f);
        largest[i] = -INFINITY;
    }
    const int64_t last_key = q->position + q->rows - 1;
    const int64_t lowest = q->first_key == NULL ? 0 : q->first_key[0];
    const int64_t highest = q->first_key == NULL ? 0 : q->first_key[q->rows - 1];
    for (int64_t key0 = lowest / TILE * TILE; key0 <= last_key; key0 += TILE) {
        memset(score, 0, sizeof(float) * (size_t)(rows * TILE));
        tile_product(dtype, score, TILE, query, units, 1, kv->keys + key0, kv->padded, rows, TILE, units);
        const bool masked = key0 + TILE - 1 > q->position || key0 < highest;
        for (int64_t i = 0; i < q->rows; i++) {
            if (masked) mask_row(score + i * TILE, q->first_key == NULL ? 0 : q->first_key[i], q->position + i, key0);
            const float shrink =
                soften_row(dtype, probability + i * tile_units, score + i * TILE, q->scale, &largest[i], &sum[i]);
            if (shrink != 1.0f)
                for (int64_t d = 0; d < kv->wide; d += VL)
                    vf_store(mixed + i * kv->wide + d, vf_load(mixed + i * kv->wide + d) * shrink);
        }
        for (int64_t i = q->rows; i < rows; i++) memset(probability + i * tile_units, 0, (size_t)tile_units * 4);
        tile_product(dtype, mixed, kv->wide, probability, tile_units, 1, kv->values + units_of(dtype, key0) * kv->wide,
                     kv->wide, rows, kv->wide, tile_units);
    }
    for (int64_t i = 0; i < q->rows; i++) {
        const float total = vf_sum(sum[i]);
        for (int64_t d = 0; d < kv->wide; d += VL)
            vf_store(mixed + i * kv->wide + d, vf_load(mixed + i * kv->wide + d) / total);
        store_row(dtype, (unsigned char *)out + (size_t)(i * out_stride) * ls_dtype_size(dtype), mixed + i * kv->wide,
                  kv->D);
        if (lse != NULL) lse[i] = largest[i] + logf(total);
    }
}

#endif
