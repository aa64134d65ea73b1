/* What the element-wise and row-wise kernels share: loads and stores of either element type, and when to fork.
 *
 * A kernel is an LS_INLINE body whose `dtype` is a constant at each call (LS_BY_DTYPE), so that both element types come
 * from one text without a branch inside the loop. The choice is made inside the parallel loop, once a row or block:
 * OpenMP moves the loop's body to a function of its own, which no constant reaches from outside. */
#ifndef LS_KERNELS_CPU_ELEMENTWISE_H
#define LS_KERNELS_CPU_ELEMENTWISE_H

#include "kernels/cpu/simd.h"
#include "kernels/exec.h"

#define LS_INLINE static inline __attribute__((always_inline))

/* body(..., dtype) with a constant dtype. */
#define LS_BY_DTYPE(dtype, body, ...)                                                                                  \
    do {                                                                                                               \
        if ((dtype) == LS_BF16)                                                                                        \
            body(__VA_ARGS__, LS_BF16);                                                                                \
        else                                                                                                           \
            body(__VA_ARGS__, LS_F32);                                                                                 \
    } while (0)

/* Calls body(..., i, lanes) for the vectors of [begin, end): lanes is the constant VL but for a last, shorter one. */
#define LS_EACH_VECTOR(begin, end, body, ...)                                                                          \
    do {                                                                                                               \
        int64_t ls_i = (begin);                                                                                        \
        for (; ls_i + VL <= (end); ls_i += VL) body(__VA_ARGS__, ls_i, VL);                                            \
        if (ls_i < (end)) body(__VA_ARGS__, ls_i, (int)((end)-ls_i));                                                  \
    } while (0)

static inline int vector_lanes(int64_t left) { return left < VL ? (int)left : VL; }

/* Element i of a block of `dtype`. */
LS_INLINE const void *element(const void *p, int64_t i, ls_dtype dtype)
{
    return (const char *)p + i * (int64_t)ls_dtype_size(dtype);
}
LS_INLINE void *element_out(void *p, int64_t i, ls_dtype dtype)
{
    return (char *)p + i * (int64_t)ls_dtype_size(dtype);
}

/* Elements i .. i+lanes-1 of p, as floats; the other lanes are zero. */
LS_INLINE vf vf_get(const void *p, int64_t i, int lanes, ls_dtype dtype)
{
    if (dtype == LS_BF16) {
        const uint16_t *half = (const uint16_t *)p + i;
        return lanes == VL ? vf_load_bf16(half) : vf_load_bf16_part(half, lanes);
    }
    const float *whole = (const float *)p + i;
    return lanes == VL ? vf_load(whole) : vf_load_part(whole, lanes);
}

LS_INLINE void vf_put(void *p, int64_t i, int lanes, vf v, ls_dtype dtype)
{
    if (dtype == LS_BF16) {
        uint16_t *half = (uint16_t *)p + i;
        if (lanes == VL)
            vf_store_bf16(half, v);
        else
            vf_store_bf16_part(half, v, lanes);
        return;
    }
    float *whole = (float *)p + i;
    if (lanes == VL)
        vf_store(whole, v);
    else
        vf_store_part(whole, v, lanes);
}

/* Two vectors: 2 VL elements of a block, in an order of their own (vf_load_pairs) that element by element work does not
 * see. A shorter last piece has `count` < 2 VL; what it lacks reads as `fill`. */
typedef struct duo {
    vf a, b;
} duo;

LS_INLINE duo duo_get(const void *p, int64_t i, int count, float fill, ls_dtype dtype)
{
    duo x;
    if (dtype == LS_BF16) {
        const uint16_t *from = (const uint16_t *)p + i;
        uint16_t some[2 * VL];
        if (count < 2 * VL) {
            for (int k = 0; k < 2 * VL; k++) some[k] = k < count ? from[k] : ls_float_to_bf16(fill);
            from = some;
        }
        vf_load_pairs(&x.a, &x.b, from);
    } else {
        const float *from = (const float *)p + i;
        float some[2 * VL];
        if (count < 2 * VL) {
            for (int k = 0; k < 2 * VL; k++) some[k] = k < count ? from[k] : fill;
            from = some;
        }
        x.a = vf_load(from);
        x.b = vf_load(from + VL);
    }
    return x;
}

LS_INLINE void duo_put(void *p, int64_t i, int count, duo x, ls_dtype dtype)
{
    if (dtype == LS_BF16) {
        uint16_t *to = (uint16_t *)p + i, some[2 * VL];
        vf_store_pairs(count < 2 * VL ? some : to, x.a, x.b);
        if (count < 2 * VL) memcpy(to, some, sizeof *some * (size_t)count);
    } else {
        float *to = (float *)p + i, some[2 * VL];
        float *full = count < 2 * VL ? some : to;
        vf_store(full, x.a);
        vf_store(full + VL, x.b);
        if (count < 2 * VL) memcpy(to, some, sizeof *some * (size_t)count);
    }
}

/* Asks for what is read 1 KiB later. For kernels that compute much and read rows in several pieces, where the
 * processor's own looking ahead falls short (swiglu_forward: 1.75 to 1.2 ms for 38 MB). */
LS_INLINE void duo_prefetch(const void *p, int64_t i, ls_dtype dtype)
{
    const char *ahead = (const char *)element(p, i, dtype) + 1024;
    for (size_t at = 0; at < 2 * VL * ls_dtype_size(dtype); at += 64) __builtin_prefetch(ahead + at);
}

/* As LS_EACH_VECTOR, in steps of a duo: calls body(..., i, count). */
#define LS_EACH_DUO(begin, end, body, ...)                                                                             \
    do {                                                                                                               \
        int64_t ls_i = (begin);                                                                                        \
        for (; ls_i + 2 * VL <= (end); ls_i += 2 * VL) body(__VA_ARGS__, ls_i, 2 * VL);                                \
        if (ls_i < (end)) body(__VA_ARGS__, ls_i, (int)((end)-ls_i));                                                  \
    } while (0)

/* Threads for work that touches `bytes`. All of the exec's or one: OpenMP ends the threads that a smaller team leaves
 * over. A fork costs about what 64 KiB cost at cache speed. */
static inline int threads_for(const ls_exec *exec, int64_t bytes) { return bytes < 65536 ? 1 : exec->threads; }

/* `call` for r = 0 .. count-1, in contiguous ranges over `threads`. One thread loops plainly: even a parallel region of
 * one costs 0.2 us, which decoding pays some hundred times a token. */
#define LS_PARALLEL_FOR(threads, r, count, ...)                                                                        \
    do {                                                                                                               \
        const int ls_threads = (threads);                                                                              \
        const int64_t ls_count = (count);                                                                              \
        if (ls_threads == 1) {                                                                                         \
            for (int64_t r = 0; r < ls_count; r++) __VA_ARGS__;                                                        \
        } else {                                                                                                       \
            _Pragma("omp parallel for num_threads(ls_threads) schedule(static)") for (int64_t r = 0; r < ls_count;     \
                                                                                      r++) __VA_ARGS__;                \
        }                                                                                                              \
    } while (0)

/* Flat blocks are cut into pieces of this many elements, whatever the number of threads. */
#define FLAT_BLOCK ((int64_t)8192)
static inline int64_t flat_blocks(int64_t count) { return (count + FLAT_BLOCK - 1) / FLAT_BLOCK; }
static inline int64_t flat_end(int64_t block, int64_t count)
{
    const int64_t end = (block + 1) * FLAT_BLOCK;
    return end < count ? end : count;
}

#endif
