/* Attention over the key/value cache.
 *
 * Up to 16 rows (decoding): the rows of all query heads that share a key/value head go together over the cache, a tile
 * of 64 positions at a time, packed where it is used. A row's result does not depend on its neighbours
 * (attention_block.h). More rows (prefill): the cache is packed once and blocks of 64 rows run over it, as in training.
 */
#include "kernels/cpu/attention_block.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/variant.h"

#define DECODE_ROWS 16

typedef struct cache_view {
    const void *keys, *values; /* [G,capacity,D] */
    int64_t start, R, H, G, D, capacity;
    int64_t stride; /* elements between rows of qkv */
    float scale;
} cache_view;

static const unsigned char *element(const void *base, int64_t index, ls_dtype dtype)
{
    return (const unsigned char *)base + (size_t)index * ls_dtype_size(dtype);
}

/* ---- decoding ------------------------------------------------------------------------------------------------------
 */

/* Rows first..first+count-1 of the list (row, head of the group), row by row. */
static inline __attribute__((always_inline)) void
decode_rows(ls_dtype dtype, void *out, const void *qkv, const cache_view *c, int64_t g, int64_t first, int64_t count)
{
    _Alignas(64) uint32_t keys[TILE * LARGEST_HEAD], values[TILE * LARGEST_HEAD];
    attending_rows rows;
    const int64_t group = c->H / c->G, units = units_of(dtype, c->D);
    attend_begin(&rows, count, c->D, c->scale, dtype);
    for (int64_t i = 0; i < count; i++) {
        const int64_t r = (first + i) / group, h = g * group + (first + i) % group;
        memcpy(rows.query + i * units, element(qkv, r * c->stride + h * c->D, dtype), sizeof(uint32_t) * (size_t)units);
        rows.first[i] = 0;
        rows.last[i] = (int32_t)(c->start + r);
    }
    const int64_t length = rows.last[count - 1] + 1;
    for (int64_t key0 = 0; key0 < length; key0 += TILE) {
        const int64_t at = (g * c->capacity + key0) * c->D, here = length - key0 < TILE ? length - key0 : TILE;
        pack_across(dtype, keys, TILE, element(c->keys, at, dtype), c->D, here, c->D);
        pack_down(dtype, values, rows.wide, element(c->values, at, dtype), c->D, here, TILE, c->D);
        attend_tile(dtype, &rows, keys, TILE, values, key0);
    }
    for (int64_t i = 0; i < count; i++) {
        const int64_t r = (first + i) / group, h = g * group + (first + i) % group;
        (void)attend_finish(dtype, &rows, i, (void *)(uintptr_t)element(out, (r * c->H + h) * c->D, dtype));
    }
}

static inline __attribute__((always_inline)) void decode(ls_dtype dtype, ls_exec *exec, void *out, const void *qkv,
                                                         const cache_view *c)
{
    const int64_t listed = c->R * (c->H / c->G), blocks = (listed + TILE - 1) / TILE;
    /* A region costs about a microsecond; below this the whole op does. */
    const bool worth_threads = c->G * (listed + 8) * (c->start + c->R) * c->D >= (int64_t)1 << 19;
#pragma omp parallel for num_threads(worth_threads ? exec->threads : 1) schedule(static)
    for (int64_t task = 0; task < c->G * blocks; task++) {
        const int64_t first = task % blocks * TILE, left = listed - first;
        decode_rows(dtype, out, qkv, c, task / blocks, first, left < TILE ? left : TILE);
    }
}

/* ---- prefill -------------------------------------------------------------------------------------------------------
 */

static inline __attribute__((always_inline)) void prefill(ls_dtype dtype, ls_exec *exec, void *out, const void *qkv,
                                                          const cache_view *c)
{
    const int64_t length = c->start + c->R, padded = round_up_to(length, TILE), wide = round_up_to(c->D, 16);
    const int64_t keys_size = units_of(dtype, c->D) * padded, values_size = units_of(dtype, padded) * wide;
    const int64_t blocks = (c->R + TILE - 1) / TILE;
    uint32_t *packed = ls_cpu_scratch(exec, 0, (size_t)(c->G * (keys_size + values_size)) * 4);
    if (packed == NULL) return;
#pragma omp parallel num_threads(exec->threads)
    {
#pragma omp for schedule(dynamic, 1)
        for (int64_t half = 0; half < 2 * c->G; half++) {
            const int64_t g = half / 2;
            uint32_t *mine = packed + g * (keys_size + values_size);
            if (half % 2 == 0)
                pack_across(dtype, mine, padded, element(c->keys, g * c->capacity * c->D, dtype), c->D, length, c->D);
            else
                pack_down(dtype, mine + keys_size, wide, element(c->values, g * c->capacity * c->D, dtype), c->D,
                          length, padded, c->D);
        }
#pragma omp for schedule(dynamic, 1)
        for (int64_t task = 0; task < c->H * blocks; task++) {
            const int64_t block = blocks - 1 - task / c->H, h = task % c->H, r0 = block * TILE; /* longest first */
            const uint32_t *mine = packed + h / (c->H / c->G) * (keys_size + values_size);
            const packed_keys kv = {mine, mine + keys_size, padded, c->D};
            const query_block q = {element(qkv, r0 * c->stride + h * c->D, dtype),
                                   c->stride,
                                   c->R - r0 < TILE ? c->R - r0 : TILE,
                                   c->start + r0,
                                   NULL,
                                   c->scale};
            attend_block(dtype, (void *)(uintptr_t)element(out, (r0 * c->H + h) * c->D, dtype), c->H * c->D, NULL, &q,
                         &kv);
        }
    }
}

void LS_CPU_NAME(attention_cached)(ls_exec *exec, void *out, const void *qkv, const void *key_cache,
                                   const void *value_cache, ls_dtype dtype, float scale, const int32_t *base,
                                   int64_t start, int64_t R, int64_t H, int64_t G, int64_t D, int64_t capacity)
{
    if (exec->status != LS_OK || R == 0) return;
    if (D > LARGEST_HEAD) {
        exec->status = LS_FAIL(LS_UNSUPPORTED, "head_dim %lld is above %d, the largest this backend handles",
                               (long long)D, LARGEST_HEAD);
        return;
    }
    const int64_t first = (base == NULL ? 0 : *base) + start;
    const cache_view c = {key_cache, value_cache, first, R, H, G, D, capacity, (H + 2 * G) * D, scale};
    if (R <= DECODE_ROWS && dtype == LS_F32)
        decode(LS_F32, exec, out, qkv, &c);
    else if (R <= DECODE_ROWS)
        decode(LS_BF16, exec, out, qkv, &c);
    else if (dtype == LS_F32)
        prefill(LS_F32, exec, out, qkv, &c);
    else
        prefill(LS_BF16, exec, out, qkv, &c);
}
