/* Attention over whole sequences, forward and backward, never holding more than a 64x64 tile of scores.
 *
 * Keys and values of each (sample, key/value head) are packed once; then every 64 query rows of every head are one
 * task. Backward works on transposed tiles (keys down, queries across), so that probabilities and their
 * gradients come out in the layout the three products after them read. One task owns a key/value head's gradients: no
 * two threads add to the same place, and the order of every sum is fixed. */
#include "kernels/cpu/attention_block.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/variant.h"

#include <omp.h>

static const unsigned char *element(const void *base, int64_t index, ls_dtype dtype)
{
    return (const unsigned char *)base + (size_t)index * ls_dtype_size(dtype);
}

typedef struct sizes {
    ls_dtype dtype;
    int64_t n, T, H, G, D;
    int64_t padded, wide; /* T to a multiple of 64, D to one of VL */
    int64_t stride;       /* elements between positions of qkv */
    float scale;
    const int32_t *first_key, *sample;
} sizes;

static const int32_t *first_keys(const sizes *s, int64_t j)
{
    if (s->first_key == NULL) return NULL;
    return s->first_key + (s->sample == NULL ? j : s->sample[j]) * s->T;
}

static bool acceptable(ls_exec *exec, int64_t D)
{
    if (D <= LARGEST_HEAD) return true;
    exec->status = LS_FAIL(LS_UNSUPPORTED, "head_dim %lld is above %d, the largest this backend handles", (long long)D,
                           LARGEST_HEAD);
    return false;
}

/* ---- forward -------------------------------------------------------------------------------------------------------
 */

static inline __attribute__((always_inline)) void forward_task(ls_dtype dtype, void *out, float *lse, const void *qkv,
                                                               const uint32_t *packed, const sizes *s, int64_t task)
{
    const int64_t blocks = s->padded / TILE, block = task % blocks, h = task / blocks % s->H, j = task / blocks / s->H;
    const int64_t g = h / (s->H / s->G), t0 = block * TILE;
    const int64_t keys_size = units_of(dtype, s->D) * s->padded, values_size = units_of(dtype, s->padded) * s->wide;
    const uint32_t *mine = packed + (j * s->G + g) * (keys_size + values_size);
    const int32_t *first = first_keys(s, j);
    const packed_keys kv = {mine, mine + keys_size, s->padded, s->D};
    const query_block q = {element(qkv, (j * s->T + t0) * s->stride + h * s->D, dtype),
                           s->stride,
                           s->T - t0 < TILE ? s->T - t0 : TILE,
                           t0,
                           first == NULL ? NULL : first + t0,
                           s->scale};
    attend_block(dtype, (void *)(uintptr_t)element(out, ((j * s->T + t0) * s->H + h) * s->D, dtype), s->H * s->D,
                 lse == NULL ? NULL : lse + (j * s->H + h) * s->T + t0, &q, &kv);
}

static inline __attribute__((always_inline)) void forward(ls_dtype dtype, ls_exec *exec, void *out, float *lse,
                                                          const void *qkv, const sizes *s)
{
    const int64_t keys_size = units_of(dtype, s->D) * s->padded, values_size = units_of(dtype, s->padded) * s->wide;
    uint32_t *packed = ls_cpu_scratch(exec, 0, (size_t)(s->n * s->G * (keys_size + values_size)) * 4);
    if (packed == NULL) return;
#pragma omp parallel num_threads(exec->threads)
    {
#pragma omp for schedule(static)
        for (int64_t head = 0; head < s->n * s->G; head++) {
            const int64_t j = head / s->G, g = head % s->G;
            uint32_t *mine = packed + head * (keys_size + values_size);
            const unsigned char *key = element(qkv, j * s->T * s->stride + (s->H + g) * s->D, dtype);
            const unsigned char *value = element(qkv, j * s->T * s->stride + (s->H + s->G + g) * s->D, dtype);
            pack_across(dtype, mine, s->padded, key, s->stride, s->T, s->D);
            pack_down(dtype, mine + keys_size, s->wide, value, s->stride, s->T, s->padded, s->D);
        }
#pragma omp for schedule(dynamic, 1)
        for (int64_t task = 0; task < s->n * s->H * (s->padded / TILE); task++)
            forward_task(dtype, out, lse, qkv, packed, s, task);
    }
}

static sizes sizes_of(ls_dtype dtype, float scale, const int32_t *first_key, const int32_t *sample, int64_t n,
                      int64_t T, int64_t H, int64_t G, int64_t D)
{
    return (sizes){dtype,           n,     T,         H,     G, D, round_up_to(T, TILE), round_up_to(D, 16),
                   (H + 2 * G) * D, scale, first_key, sample};
}

void LS_CPU_NAME(attention_forward)(ls_exec *exec, void *out, float *lse, const void *qkv, const int32_t *first_key,
                                    const int32_t *sample, ls_dtype dtype, float scale, int64_t n, int64_t T, int64_t H,
                                    int64_t G, int64_t D)
{
    if (exec->status != LS_OK || n == 0 || T == 0 || !acceptable(exec, D)) return;
    const sizes s = sizes_of(dtype, scale, first_key, sample, n, T, H, G, D);
    if (dtype == LS_F32)
        forward(LS_F32, exec, out, lse, qkv, &s);
    else
        forward(LS_BF16, exec, out, lse, qkv, &s);
}

/* ---- backward ------------------------------------------------------------------------------------------------------
 */

/* Everything one task packs and sums; pieces of the thread's scratch. */
typedef struct workspace {
    uint32_t *key_rows, *value_rows;      /* [padded][units of D] */
    uint32_t *key_down;                   /* [units of padded][wide] */
    uint32_t *query_across, *dout_across; /* [units of D][padded] */
    uint32_t *query_down, *dout_down;     /* [units of padded][wide] */
    float *dquery, *dkey, *dvalue;        /* [padded][wide] */
    float *lse, *delta;                   /* [padded] */
} workspace;

static workspace layout(ls_arena *arena, const sizes *s)
{
    const int64_t rows = s->padded * units_of(s->dtype, s->D), down = units_of(s->dtype, s->padded) * s->wide;
    const int64_t sums = s->padded * s->wide;
    workspace w;
    w.key_rows = LS_TAKE(arena, uint32_t, rows);
    w.value_rows = LS_TAKE(arena, uint32_t, rows);
    w.key_down = LS_TAKE(arena, uint32_t, down);
    w.query_across = LS_TAKE(arena, uint32_t, rows);
    w.dout_across = LS_TAKE(arena, uint32_t, rows);
    w.query_down = LS_TAKE(arena, uint32_t, down);
    w.dout_down = LS_TAKE(arena, uint32_t, down);
    w.dquery = LS_TAKE(arena, float, sums);
    w.dkey = LS_TAKE(arena, float, sums);
    w.dvalue = LS_TAKE(arena, float, sums);
    w.lse = LS_TAKE(arena, float, s->padded);
    w.delta = LS_TAKE(arena, float, s->padded);
    return w;
}

/* delta[t] = dout[t] . out[t], which equals sum_s p (dout . v): the softmax's own correction (FlashAttention, B.2). */
static void row_corrections(float *delta, const void *dout, const void *out, const sizes *s, int64_t j, int64_t h)
{
    for (int64_t t = 0; t < s->T; t++) {
        const int64_t at = ((j * s->T + t) * s->H + h) * s->D;
        vf sum = vf_set(0.0f);
        for (int64_t d = 0; d < s->D; d += VL) {
            const int count = s->D - d < VL ? (int)(s->D - d) : VL;
            const vf x = s->dtype == LS_F32 ? vf_load_part((const float *)dout + at + d, count)
                                            : vf_load_bf16_part((const uint16_t *)dout + at + d, count);
            const vf y = s->dtype == LS_F32 ? vf_load_part((const float *)out + at + d, count)
                                            : vf_load_bf16_part((const uint16_t *)out + at + d, count);
            sum = vf_fma(x, y, sum);
        }
        delta[t] = vf_sum(sum);
    }
    for (int64_t t = s->T; t < s->padded; t++) delta[t] = 0.0f;
}

/* Lanes are queries q0.., the row is key k: visible where first_key[q] <= k <= q and q < T. */
static inline vi visible_queries(const sizes *s, const int32_t *first, int64_t k, int64_t q0)
{
    const vi query = vi_lanes() + (int32_t)q0;
    vi visible = (query >= (int32_t)k) & (query < (int32_t)s->T);
    if (first != NULL) {
        vi lowest = {0};
        const int64_t left = s->T - q0;
        if (left > 0) memcpy(&lowest, first + q0, 4 * (size_t)(left < VL ? left : VL));
        visible &= lowest <= (int32_t)k;
    }
    return visible;
}

typedef struct tile_pair {
    _Alignas(64) float score[TILE * TILE]; /* [keys][queries]: q.k, then p */
    _Alignas(64) float dprobability[TILE * TILE];
    _Alignas(64) uint32_t probability[TILE * TILE]; /* compute type, [keys][queries] */
    _Alignas(64) uint32_t dscore[TILE * TILE];      /* compute type, [keys][queries] */
    _Alignas(64) uint32_t dscore_down[TILE * TILE]; /* units run down the keys: [units of keys][queries] */
} tile_pair;

/* p = exp(scale * score - lse), ds = scale * p * (dp - delta), for one key row; both stored in the compute type. */
static inline __attribute__((always_inline)) void differentiate_row(ls_dtype dtype, tile_pair *tile, int64_t row,
                                                                    const workspace *w, const sizes *s, bool masked,
                                                                    const int32_t *first, int64_t k, int64_t q0)
{
    const int64_t at = row * TILE;
    for (int64_t x = 0; x < TILE; x += VL) {
        vf p = vf_exp(vf_load(tile->score + at + x) * s->scale - vf_load(w->lse + q0 + x));
        if (masked) p = vf_select(visible_queries(s, first, k, q0 + x), p, vf_set(0.0f));
        const vf ds = p * (vf_load(tile->dprobability + at + x) - vf_load(w->delta + q0 + x)) * s->scale;
        if (dtype == LS_F32) {
            vf_store((float *)(void *)tile->probability + at + x, p);
            vf_store((float *)(void *)tile->dscore + at + x, ds);
            vf_store((float *)(void *)tile->dscore_down + at + x, ds);
        } else {
            vf_store_bf16((uint16_t *)(void *)tile->probability + at + x, p);
            const vh half = vf_to_bf16(ds);
            memcpy((uint16_t *)(void *)tile->dscore + at + x, &half, sizeof half);
            uint32_t *down = tile->dscore_down + row / 2 * TILE + x;
            const vu wide_half = __builtin_convertvector(half, vu);
            const vu both = row % 2 == 0 ? wide_half : vu_load(down) | wide_half << 16;
            memcpy(down, &both, sizeof both);
        }
    }
}

static inline __attribute__((always_inline)) void backward_tile(ls_dtype dtype, tile_pair *tile, const workspace *w,
                                                                const sizes *s, const int32_t *first, int64_t k0,
                                                                int64_t q0)
{
    const int64_t units = units_of(dtype, s->D), tile_units = units_of(dtype, TILE);
    const int64_t k_unit = units_of(dtype, k0), q_unit = units_of(dtype, q0);
    memset(tile->score, 0, sizeof tile->score);
    memset(tile->dprobability, 0, sizeof tile->dprobability);
    tile_product(dtype, tile->score, TILE, w->key_rows + k0 * units, units, 1, w->query_across + q0, s->padded, TILE,
                 TILE, units);
    tile_product(dtype, tile->dprobability, TILE, w->value_rows + k0 * units, units, 1, w->dout_across + q0, s->padded,
                 TILE, TILE, units);
    const int64_t q_last = q0 + TILE - 1 < s->T ? q0 + TILE - 1 : s->T - 1;
    const bool masked = q0 < k0 + TILE || q0 + TILE > s->T || (first != NULL && first[q_last] > k0);
    for (int64_t row = 0; row < TILE; row++) differentiate_row(dtype, tile, row, w, s, masked, first, k0 + row, q0);
    /* dv += p^T dout, dk += ds^T q, dq += ds k; tiles are already transposed, ds is read down its columns for dq */
    tile_product(dtype, w->dvalue + k0 * s->wide, s->wide, tile->probability, tile_units, 1,
                 w->dout_down + q_unit * s->wide, s->wide, TILE, s->wide, tile_units);
    tile_product(dtype, w->dkey + k0 * s->wide, s->wide, tile->dscore, tile_units, 1, w->query_down + q_unit * s->wide,
                 s->wide, TILE, s->wide, tile_units);
    tile_product(dtype, w->dquery + q0 * s->wide, s->wide, tile->dscore_down, 1, TILE, w->key_down + k_unit * s->wide,
                 s->wide, TILE, s->wide, tile_units);
}

typedef struct backward_arguments {
    void *dqkv;
    const void *dout, *qkv, *out;
    const float *lse;
} backward_arguments;

static inline __attribute__((always_inline)) void backward_head(ls_dtype dtype, tile_pair *tile, const workspace *w,
                                                                const backward_arguments *a, const sizes *s, int64_t j,
                                                                int64_t h)
{
    const int32_t *first = first_keys(s, j);
    const unsigned char *query = element(a->qkv, j * s->T * s->stride + h * s->D, dtype);
    const unsigned char *dout = element(a->dout, (j * s->T * s->H + h) * s->D, dtype);
    const int64_t dout_stride = s->H * s->D;
    pack_across(dtype, w->query_across, s->padded, query, s->stride, s->T, s->D);
    pack_down(dtype, w->query_down, s->wide, query, s->stride, s->T, s->padded, s->D);
    pack_across(dtype, w->dout_across, s->padded, dout, dout_stride, s->T, s->D);
    pack_down(dtype, w->dout_down, s->wide, dout, dout_stride, s->T, s->padded, s->D);
    memcpy(w->lse, a->lse + (j * s->H + h) * s->T, sizeof(float) * (size_t)s->T);
    memset(w->lse + s->T, 0, sizeof(float) * (size_t)(s->padded - s->T));
    row_corrections(w->delta, a->dout, a->out, s, j, h);
    memset(w->dquery, 0, sizeof(float) * (size_t)(s->padded * s->wide));
    for (int64_t k0 = 0; k0 < s->T; k0 += TILE)
        for (int64_t q0 = k0; q0 < s->T; q0 += TILE) {
            if (first != NULL && first[q0] > k0 + TILE - 1) break; /* later queries begin later still */
            backward_tile(dtype, tile, w, s, first, k0, q0);
        }
    for (int64_t t = 0; t < s->T; t++)
        store_row(dtype, (void *)(uintptr_t)element(a->dqkv, (j * s->T + t) * s->stride + h * s->D, dtype),
                  w->dquery + t * s->wide, s->D);
}

static inline __attribute__((always_inline)) void backward_task(ls_dtype dtype, tile_pair *tile, const workspace *w,
                                                                const backward_arguments *a, const sizes *s, int64_t j,
                                                                int64_t g)
{
    const int64_t base = j * s->T * s->stride, group = s->H / s->G;
    const unsigned char *key = element(a->qkv, base + (s->H + g) * s->D, dtype);
    const unsigned char *value = element(a->qkv, base + (s->H + s->G + g) * s->D, dtype);
    pack_rows(dtype, w->key_rows, key, s->stride, s->T, s->padded, s->D);
    pack_rows(dtype, w->value_rows, value, s->stride, s->T, s->padded, s->D);
    pack_down(dtype, w->key_down, s->wide, key, s->stride, s->T, s->padded, s->D);
    memset(w->dkey, 0, sizeof(float) * (size_t)(s->padded * s->wide));
    memset(w->dvalue, 0, sizeof(float) * (size_t)(s->padded * s->wide));
    for (int64_t h = g * group; h < (g + 1) * group; h++) backward_head(dtype, tile, w, a, s, j, h);
    for (int64_t t = 0; t < s->T; t++) {
        const int64_t at = base + t * s->stride;
        store_row(dtype, (void *)(uintptr_t)element(a->dqkv, at + (s->H + g) * s->D, dtype), w->dkey + t * s->wide,
                  s->D);
        store_row(dtype, (void *)(uintptr_t)element(a->dqkv, at + (s->H + s->G + g) * s->D, dtype),
                  w->dvalue + t * s->wide, s->D);
    }
}

static inline __attribute__((always_inline)) void backward(ls_dtype dtype, ls_exec *exec, const backward_arguments *a,
                                                           const sizes *s)
{
    ls_arena measure = ls_arena_measure();
    (void)layout(&measure, s);
#pragma omp parallel num_threads(exec->threads)
    {
        tile_pair tile;
        void *scratch = ls_cpu_scratch(exec, omp_get_thread_num(), measure.used);
        ls_arena arena = ls_arena_over(scratch, measure.used);
        const workspace w = scratch == NULL ? (workspace){0} : layout(&arena, s);
#pragma omp for schedule(dynamic, 1)
        for (int64_t task = 0; task < s->n * s->G; task++)
            if (scratch != NULL) backward_task(dtype, &tile, &w, a, s, task / s->G, task % s->G);
    }
}

void LS_CPU_NAME(attention_backward)(ls_exec *exec, void *dqkv, const void *dout, const void *qkv, const void *out,
                                     const float *lse, const int32_t *first_key, const int32_t *sample, ls_dtype dtype,
                                     float scale, int64_t n, int64_t T, int64_t H, int64_t G, int64_t D)
{
    if (exec->status != LS_OK || n == 0 || T == 0 || !acceptable(exec, D)) return;
    const sizes s = sizes_of(dtype, scale, first_key, sample, n, T, H, G, D);
    const backward_arguments a = {dqkv, dout, qkv, out, lse};
    if (ls_cpu_scratch(exec, 0, 1) == NULL) return; /* makes the state before threads ask for theirs */
    if (dtype == LS_F32)
        backward(LS_F32, exec, &a, &s);
    else
        backward(LS_BF16, exec, &a, &s);
}
