/* Rotary position embedding, the definition. */
#include "kernels/ref/ref.h"

/* out[..D] = the head at in[..D] rotated by the angles of one row of the tables; `first` and `out_first` are the
 * heads' places. out may be in. sign -1 rotates back. */
static void rotate_head(void *out, int64_t out_first, const void *in, int64_t first, const float *cos_row,
                        const float *sin_row, ls_dtype dtype, double sign, int64_t D)
{
    for (int64_t i = 0; i < D / 2; i++) {
        const double u = ls_ref_get(in, dtype, first + i), w = ls_ref_get(in, dtype, first + i + D / 2);
        const double c = (double)cos_row[i], s = sign * (double)sin_row[i];
        ls_ref_set(out, dtype, out_first + i, u * c - w * s);
        ls_ref_set(out, dtype, out_first + i + D / 2, w * c + u * s);
    }
}

void ls_rope_ref(ls_exec *exec, void *qkv, const float *cos_table, const float *sin_table, const int32_t *position,
                 const int32_t *sample, ls_dtype dtype, int inverse, int64_t n, int64_t T, int64_t H, int64_t G,
                 int64_t D)
{
    (void)exec;
    for (int64_t j = 0; j < n; j++)
        for (int64_t t = 0; t < T; t++) {
            const int64_t whole = sample != NULL ? sample[j] : j;
            const int64_t row = position != NULL ? position[whole * T + t] : t;
            for (int64_t head = 0; head < H + G; head++) {
                const int64_t first = ((j * T + t) * (H + 2 * G) + head) * D;
                rotate_head(qkv, first, qkv, first, cos_table + row * (D / 2), sin_table + row * (D / 2), dtype,
                            inverse ? -1.0 : 1.0, D);
            }
        }
}

void ls_rope_append_ref(ls_exec *exec, void *qkv, void *key_cache, void *value_cache, const float *cos_table,
                        const float *sin_table, ls_dtype dtype, const int32_t *base, int64_t start, int64_t R,
                        int64_t H, int64_t G, int64_t D, int64_t capacity)
{
    (void)exec;
    for (int64_t r = 0; r < R; r++) {
        const int64_t position = (base == NULL ? 0 : *base) + start + r;
        const float *const cos_row = cos_table + position * (D / 2);
        const float *const sin_row = sin_table + position * (D / 2);
        const int64_t queries = r * (H + 2 * G) * D, keys = queries + H * D, values = keys + G * D;
        for (int64_t h = 0; h < H; h++)
            rotate_head(qkv, queries + h * D, qkv, queries + h * D, cos_row, sin_row, dtype, 1.0, D);
        for (int64_t g = 0; g < G; g++) {
            const int64_t place = (g * capacity + position) * D;
            rotate_head(key_cache, place, qkv, keys + g * D, cos_row, sin_row, dtype, 1.0, D);
            for (int64_t i = 0; i < D; i++)
                ls_ref_set(value_cache, dtype, place + i, ls_ref_get(qkv, dtype, values + g * D + i));
        }
    }
}
