/* Flash-style attention (Dao et al. 2022): up to 64 query rows take in tiles of 64 keys and values one after another,
 * with an online softmax. Training and prefill (packed sequences) and decoding (a tile of the cache at a time) share
 * it. A row's result depends on nothing but the row and its keys: tiles count from position 0, and a tile in which it
 * sees nothing leaves it as it is, to the bit. */
#ifndef LS_KERNELS_CPU_ATTENTION_BLOCK_H
#define LS_KERNELS_CPU_ATTENTION_BLOCK_H

#include "kernels/cpu/tile.h"

#include <stdbool.h>

#define LARGEST_HEAD 256

static inline int64_t round_up_to(int64_t x, int64_t unit) { return (x + unit - 1) / unit * unit; }

typedef struct attending_rows {
    _Alignas(64) uint32_t query[TILE * LARGEST_HEAD]; /* [rows][units of D] */
    _Alignas(64) float mixed[TILE * LARGEST_HEAD];    /* [rows][wide]: sum of p v so far, not yet divided */
    vf sum[TILE];                                     /* of p so far, lane by lane */
    float largest[TILE];                              /* score so far */
    int32_t first[TILE], last[TILE];                  /* the keys a row sees, inclusive */
    int64_t count;                                    /* rows in use */
    int64_t padded;                                   /* to a multiple of 4 */
    int64_t D, wide;                                  /* head size; the same to a multiple of 16 */
    float scale;
} attending_rows;

/* The caller then fills query, first and last of `count` rows. */
static inline void attend_begin(attending_rows *rows, int64_t count, int64_t D, float scale, ls_dtype dtype)
{
    rows->count = count;
    rows->padded = round_up_to(count, 4);
    rows->D = D;
    rows->wide = round_up_to(D, 16);
    rows->scale = scale;
    const int64_t units = units_of(dtype, D);
    memset(rows->query + count * units, 0, sizeof(uint32_t) * (size_t)((rows->padded - count) * units));
    memset(rows->mixed, 0, sizeof(float) * (size_t)(rows->padded * rows->wide));
    for (int64_t i = 0; i < rows->padded; i++) {
        rows->sum[i] = vf_set(0.0f);
        rows->largest[i] = -INFINITY;
    }
}

/* Scores of keys outside first..last become -infinity. */
static inline void mask_row(float *score, int32_t first, int32_t last, int64_t key0)
{
    for (int w = 0; w < TILE_VECTORS; w++) {
        const vi key = vi_lanes() + (int32_t)(key0 + w * VL);
        const vi visible = (key >= first) & (key <= last);
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
    float shrink = 1.0f;
    if (before != now) shrink = before == -INFINITY ? 0.0f : expf(before - shift);
    *largest = now;
    *sum = *sum * shrink + total;
    return shrink;
}

/* Takes in the keys key0..key0+63: keys [units of D][keys_stride], values [units of 64][wide]. */
static inline __attribute__((always_inline)) void attend_tile(ls_dtype dtype, attending_rows *rows,
                                                              const uint32_t *keys, int64_t keys_stride,
                                                              const uint32_t *values, int64_t key0)
{
    _Alignas(64) float score[TILE * TILE];
    _Alignas(64) uint32_t probability[TILE * TILE];
    const int64_t units = units_of(dtype, rows->D), tile_units = units_of(dtype, TILE), wide = rows->wide;
    memset(score, 0, sizeof(float) * (size_t)(rows->padded * TILE));
    tile_product(dtype, score, TILE, rows->query, units, 1, keys, keys_stride, rows->padded, TILE, units);
    for (int64_t i = 0; i < rows->count; i++) {
        if (rows->first[i] > key0 || rows->last[i] < key0 + TILE - 1)
            mask_row(score + i * TILE, rows->first[i], rows->last[i], key0);
        const float shrink = soften_row(dtype, probability + i * tile_units, score + i * TILE, rows->scale,
                                        &rows->largest[i], &rows->sum[i]);
        float *mixed = rows->mixed + i * wide;
        if (shrink != 1.0f)
            for (int64_t d = 0; d < wide; d += VL) vf_store(mixed + d, vf_load(mixed + d) * shrink);
    }
    memset(probability + rows->count * tile_units, 0,
           sizeof(uint32_t) * (size_t)((rows->padded - rows->count) * tile_units));
    tile_product(dtype, rows->mixed, wide, probability, tile_units, 1, values, wide, rows->padded, wide, tile_units);
}

/* Writes row i's result [D] in the compute type; returns the log of its sum of exponentials. */
static inline float attend_finish(ls_dtype dtype, attending_rows *rows, int64_t i, void *out)
{
    float *mixed = rows->mixed + i * rows->wide;
    const float total = vf_sum(rows->sum[i]);
    for (int64_t d = 0; d < rows->wide; d += VL) vf_store(mixed + d, vf_load(mixed + d) / total);
    store_row(dtype, out, mixed, rows->D);
    return rows->largest[i] + logf(total);
}

/* ---- a block of consecutive rows against a whole packed sequence ---------------------------------------------------
 */

typedef struct packed_keys {
    const uint32_t *keys;   /* pack_across: [units of D][padded] */
    const uint32_t *values; /* pack_down: [units of padded][wide] */
    int64_t padded;         /* positions, a multiple of TILE */
    int64_t D;
} packed_keys;

typedef struct query_block {
    const void *query; /* [rows, D], `stride` elements between rows */
    int64_t stride;
    int64_t rows;             /* 1..TILE */
    int64_t position;         /* of the first row */
    const int32_t *first_key; /* [rows], non-decreasing, or NULL: 0 */
    float scale;
} query_block;

/* out [rows, D] with out_stride elements between rows; lse [rows] may be NULL. */
static inline __attribute__((always_inline)) void attend_block(ls_dtype dtype, void *out, int64_t out_stride,
                                                               float *lse, const query_block *q, const packed_keys *kv)
{
    attending_rows rows;
    attend_begin(&rows, q->rows, kv->D, q->scale, dtype);
    pack_rows(dtype, rows.query, q->query, q->stride, q->rows, q->rows, kv->D);
    for (int64_t i = 0; i < q->rows; i++) {
        rows.first[i] = q->first_key == NULL ? 0 : q->first_key[i];
        rows.last[i] = (int32_t)(q->position + i);
    }
    for (int64_t key0 = rows.first[0] / TILE * TILE; key0 < q->position + q->rows; key0 += TILE)
        attend_tile(dtype, &rows, kv->keys + key0, kv->padded, kv->values + units_of(dtype, key0) * rows.wide, key0);
    for (int64_t i = 0; i < q->rows; i++) {
        const float log_sum =
            attend_finish(dtype, &rows, i, (unsigned char *)out + (size_t)(i * out_stride) * ls_dtype_size(dtype));
        if (lse != NULL) lse[i] = log_sum;
    }
}

#endif
