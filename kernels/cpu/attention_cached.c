/* Attention over the key/value cache.
 *
 * Up to 16 rows (decoding): each (row, head) sums over positions one after another from position 0, with its own
 * registers, so its result depends neither on the other rows nor on threads. More rows (prefill): the tiles of
 * training's forward. */
#include "kernels/cpu/attention_block.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/variant.h"

#include <omp.h>

#define LARGEST_HEAD 256
#define DECODE_ROWS 16

typedef struct cache_view {
    ls_dtype dtype;
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

static inline vf load_vector(ls_dtype dtype, const void *row, int64_t d, int64_t D)
{
    const int64_t left = D - d;
    if (dtype == LS_F32) {
        const float *p = (const float *)row + d;
        return left >= VL ? vf_load(p) : vf_load_part(p, (int)left);
    }
    const uint16_t *p = (const uint16_t *)row + d;
    return left >= VL ? vf_load_bf16(p) : vf_load_bf16_part(p, (int)left);
}

/* score[p] = scale * q . key[p] for positions 0..length-1; returns the largest. */
static inline __attribute__((always_inline)) float
score_positions(ls_dtype dtype, float *score, const vf *query, const void *keys, int64_t length, int64_t D, float scale)
{
    float largest = -INFINITY;
    for (int64_t p = 0; p < length; p++) {
        const unsigned char *key = element(keys, p * D, dtype);
        vf sum = vf_set(0.0f);
        for (int64_t d = 0; d < D; d += VL) sum = vf_fma(query[d / VL], load_vector(dtype, key, d, D), sum);
        score[p] = vf_sum(sum) * scale;
        largest = score[p] > largest ? score[p] : largest;
    }
    return largest;
}

/* score becomes exp(score - largest); returns the sum, lane by lane in order of position. */
static inline float exponentials(float *score, int64_t length, float largest)
{
    vf total = vf_set(0.0f);
    for (int64_t p = 0; p < length; p += VL) {
        const int count = length - p < VL ? (int)(length - p) : VL;
        const vf e = vf_exp(vf_load_part(score + p, count) - largest);
        const vf kept = vf_select(vf_first(count), e, vf_set(0.0f));
        vf_store_part(score + p, kept, count);
        total += kept;
    }
    return vf_sum(total);
}

static inline __attribute__((always_inline)) void decode_row(ls_dtype dtype, void *out, const void *qkv,
                                                             const cache_view *c, float *score, int64_t r, int64_t h)
{
    const int64_t g = h / (c->H / c->G), length = c->start + r + 1, D = c->D;
    const void *keys = element(c->keys, g * c->capacity * D, dtype);
    const void *values = element(c->values, g * c->capacity * D, dtype);
    const void *row = element(qkv, r * c->stride + h * D, dtype);
    vf query[LARGEST_HEAD / VL], mixed[LARGEST_HEAD / VL];
    for (int64_t d = 0; d < D; d += VL) {
        query[d / VL] = load_vector(dtype, row, d, D);
        mixed[d / VL] = vf_set(0.0f);
    }
    const float largest = score_positions(dtype, score, query, keys, length, D, c->scale);
    const float total = exponentials(score, length, largest);
    for (int64_t p = 0; p < length; p++) {
        const unsigned char *value = element(values, p * D, dtype);
        for (int64_t d = 0; d < D; d += VL)
            mixed[d / VL] = vf_fma(vf_set(score[p]), load_vector(dtype, value, d, D), mixed[d / VL]);
    }
    float result[LARGEST_HEAD];
    for (int64_t d = 0; d < D; d += VL) vf_store(result + d, mixed[d / VL] / total);
    store_row(dtype, (void *)(uintptr_t)element(out, (r * c->H + h) * D, dtype), result, D);
}

/* The usual head sizes get loops of known length, which keeps the sums in registers. */
static inline __attribute__((always_inline)) void decode_task(ls_dtype dtype, void *out, const void *qkv,
                                                              const cache_view *c, float *score, int64_t task)
{
    cache_view known = *c;
    const int64_t r = task / c->H, h = task % c->H;
    switch (c->D) {
    case 32:
        known.D = 32;
        decode_row(dtype, out, qkv, &known, score, r, h);
        break;
    case 64:
        known.D = 64;
        decode_row(dtype, out, qkv, &known, score, r, h);
        break;
    case 128:
        known.D = 128;
        decode_row(dtype, out, qkv, &known, score, r, h);
        break;
    default:
        decode_row(dtype, out, qkv, &known, score, r, h);
    }
}

static void decode_rows(ls_exec *exec, void *out, const void *qkv, const cache_view *c)
{
    const size_t bytes = sizeof(float) * (size_t)round_up_to(c->start + c->R, VL);
    const bool worth_threads = c->R * c->H * (c->start + c->R) * c->D >= 32768;
#pragma omp parallel num_threads(worth_threads ? exec->threads : 1)
    {
        float *score = ls_cpu_scratch(exec, omp_get_thread_num(), bytes);
#pragma omp for schedule(static)
        for (int64_t task = 0; task < c->R * c->H; task++) {
            if (score == NULL) continue;
            if (c->dtype == LS_F32)
                decode_task(LS_F32, out, qkv, c, score, task);
            else
                decode_task(LS_BF16, out, qkv, c, score, task);
        }
    }
}

/* ---- prefill -------------------------------------------------------------------------------------------------------
 */

static inline __attribute__((always_inline)) void prefill(ls_dtype dtype, ls_exec *exec, void *out, const void *qkv,
                                                          const cache_view *c)
{
    const int64_t length = c->start + c->R, padded = round_up_to(length, TILE), wide = round_up_to(c->D, VL);
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
            const int64_t block = blocks - 1 - task / c->H, h = task % c->H, r0 = block * TILE;
            const uint32_t *mine = packed + h / (c->H / c->G) * (keys_size + values_size);
            const packed_keys kv = {mine, mine + keys_size, padded, wide, c->D};
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
                                   const void *value_cache, ls_dtype dtype, float scale, int64_t start, int64_t R,
                                   int64_t H, int64_t G, int64_t D, int64_t capacity)
{
    if (exec->status != LS_OK || R == 0) return;
    if (D > LARGEST_HEAD) {
        exec->status = LS_FAIL(LS_UNSUPPORTED, "head_dim %lld is above %d, the largest this backend handles",
                               (long long)D, LARGEST_HEAD);
        return;
    }
    if (ls_cpu_scratch(exec, 0, 1) == NULL) return; /* makes the state before threads ask for theirs */
    const cache_view c = {dtype, key_cache, value_cache, start, R, H, G, D, capacity, (H + 2 * G) * D, scale};
    if (R <= DECODE_ROWS)
        decode_rows(exec, out, qkv, &c);
    else if (dtype == LS_F32)
        prefill(LS_F32, exec, out, qkv, &c);
    else
        prefill(LS_BF16, exec, out, qkv, &c);
}
