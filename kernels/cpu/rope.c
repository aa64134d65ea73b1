/* Rotary position embedding: over whole sequences in training, and on the way into the key/value cache in decoding.
 *
 * Both rotate with the same body, each pair on its own, so a row's result depends on nothing but its position. */
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/variant.h"

/* Rotates `heads` consecutive heads of D elements from `in` to `out` (which may be `in`); out's heads are `out_stride`
 * elements apart. `turn` is 1, or -1 to rotate back. */
LS_INLINE void rotate_vector(void *out, int64_t out_stride, const void *in, const float *cos_row, const float *sin_row,
                             float turn, int64_t heads, int64_t D, ls_dtype dtype, int64_t i, int lanes)
{
    const vf cosine = vf_get(cos_row, i, lanes, LS_F32), sine = turn * vf_get(sin_row, i, lanes, LS_F32);
    for (int64_t head = 0; head < heads; head++) {
        const int64_t from = head * D + i, to = head * out_stride + i;
        const vf u = vf_get(in, from, lanes, dtype), w = vf_get(in, from + D / 2, lanes, dtype);
        vf_put(out, to, lanes, vf_fma(u, cosine, -(w * sine)), dtype);
        vf_put(out, to + D / 2, lanes, vf_fma(w, cosine, u * sine), dtype);
    }
}

LS_INLINE void rotate(void *out, int64_t out_stride, const void *in, const float *cos_row, const float *sin_row,
                      float turn, int64_t heads, int64_t D, ls_dtype dtype)
{
    LS_EACH_VECTOR(0, D / 2, rotate_vector, out, out_stride, in, cos_row, sin_row, turn, heads, D, dtype);
}

LS_INLINE void rope_row(void *row, const float *cos_row, const float *sin_row, float turn, int64_t heads, int64_t D,
                        ls_dtype dtype)
{
    rotate(row, D, row, cos_row, sin_row, turn, heads, D, dtype);
}

void LS_CPU_NAME(rope)(ls_exec *exec, void *qkv, const float *cos_table, const float *sin_table,
                       const int32_t *position, const int32_t *sample, ls_dtype dtype, int inverse, int64_t n,
                       int64_t T, int64_t H, int64_t G, int64_t D)
{
    const int64_t width = (H + 2 * G) * D, bytes = n * T * width * (int64_t)ls_dtype_size(dtype);
    LS_PARALLEL_FOR(threads_for(exec, bytes), r, n * T, {
        const int64_t t = r % T, j = sample == NULL ? r / T : sample[r / T];
        const int64_t at = (position == NULL ? t : position[j * T + t]) * (D / 2);
        LS_BY_DTYPE(dtype, rope_row, element_out(qkv, r * width, dtype), cos_table + at, sin_table + at,
                    inverse ? -1.0f : 1.0f, H + G, D);
    });
}

LS_INLINE void append_row(void *row, void *key, void *value, const float *cos_row, const float *sin_row, int64_t H,
                          int64_t G, int64_t D, int64_t capacity, ls_dtype dtype)
{
    rotate(row, D, row, cos_row, sin_row, 1.0f, H, D, dtype);
    rotate(key, capacity * D, element(row, H * D, dtype), cos_row, sin_row, 1.0f, G, D, dtype);
    for (int64_t g = 0; g < G; g++)
        memcpy(element_out(value, g * capacity * D, dtype), element(row, (H + G + g) * D, dtype),
               (size_t)D * ls_dtype_size(dtype));
}

void LS_CPU_NAME(rope_append)(ls_exec *exec, void *qkv, void *key_cache, void *value_cache, const float *cos_table,
                              const float *sin_table, ls_dtype dtype, const int32_t *base, int64_t start, int64_t R,
                              int64_t H, int64_t G, int64_t D, int64_t capacity)
{
    const int64_t width = (H + 2 * G) * D, bytes = R * width * (int64_t)ls_dtype_size(dtype);
    const int64_t first = (base == NULL ? 0 : *base) + start;
    LS_PARALLEL_FOR(threads_for(exec, bytes), r, R, {
        const int64_t at = first + r;
        LS_BY_DTYPE(dtype, append_row, element_out(qkv, r * width, dtype), element_out(key_cache, at * D, dtype),
                    element_out(value_cache, at * D, dtype), cos_table + at * (D / 2), sin_table + at * (D / 2), H, G,
                    D, capacity);
    });
}
