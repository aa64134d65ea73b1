/* Attention over whole sequences and over the key/value cache, the definition. */
#include "kernels/ref/ref.h"

#include <math.h>
#include <stdlib.h>

/* A head's row of D elements inside a tensor. */
typedef struct head_row {
    const void *data;
    int64_t first;
} head_row;

/* Rows of keys or values: row s starts at element start + s * stride. */
typedef struct head_rows {
    const void *data;
    int64_t start, stride;
} head_rows;

static double dot(const void *a, int64_t a_first, const void *b, int64_t b_first, ls_dtype dtype, int64_t D)
{
    double sum = 0.0;
    for (int64_t i = 0; i < D; i++) sum += ls_ref_get(a, dtype, a_first + i) * ls_ref_get(b, dtype, b_first + i);
    return sum;
}

/* One query against rows first..last: writes out[out_first..+D], returns log sum exp of the scores.
 * weight [last+1] is scratch. */
static double attend(void *out, int64_t out_first, head_row query, head_rows keys, head_rows values, ls_dtype dtype,
                     double scale, int64_t first, int64_t last, int64_t D, double *weight)
{
    double largest = -INFINITY, sum = 0.0;
    for (int64_t s = first; s <= last; s++) {
        weight[s] = scale * dot(query.data, query.first, keys.data, keys.start + s * keys.stride, dtype, D);
        largest = fmax(largest, weight[s]);
    }
    for (int64_t s = first; s <= last; s++) {
        weight[s] = exp(weight[s] - largest);
        sum += weight[s];
    }
    for (int64_t i = 0; i < D; i++) {
        double mix = 0.0;
        for (int64_t s = first; s <= last; s++)
            mix += weight[s] * ls_ref_get(values.data, dtype, values.start + s * values.stride + i);
        ls_ref_set(out, dtype, out_first + i, mix / sum);
    }
    return largest + log(sum);
}

static void *scratch(ls_exec *exec, int64_t count)
{
    void *const block = calloc((size_t)(count > 0 ? count : 1), sizeof(double));
    if (block == NULL && exec->status == LS_OK)
        exec->status = LS_FAIL(LS_NO_MEMORY, "cannot get %.1f MiB of memory for attention scratch",
                               (double)count * sizeof(double) / 1048576.0);
    return block;
}

static int64_t first_key_of(const int32_t *first_key, const int32_t *sample, int64_t j, int64_t t, int64_t T)
{
    if (first_key == NULL) return 0;
    return first_key[(sample != NULL ? sample[j] : j) * T + t];
}

void ls_attention_forward_ref(ls_exec *exec, void *out, float *lse, const void *qkv, const int32_t *first_key,
                              const int32_t *sample, ls_dtype dtype, float scale, int64_t n, int64_t T, int64_t H,
                              int64_t G, int64_t D)
{
    double *const weight = scratch(exec, T);
    if (weight == NULL) return;
    const int64_t stride = (H + 2 * G) * D;
    for (int64_t j = 0; j < n; j++)
        for (int64_t h = 0; h < H; h++) {
            const int64_t g = h / (H / G);
            const head_rows keys = {qkv, j * T * stride + (H + g) * D, stride};
            const head_rows values = {qkv, j * T * stride + (H + G + g) * D, stride};
            for (int64_t t = 0; t < T; t++) {
                const head_row query = {qkv, (j * T + t) * stride + h * D};
                lse[(j * H + h) * T + t] =
                    (float)attend(out, ((j * T + t) * H + h) * D, query, keys, values, dtype, (double)scale,
                                  first_key_of(first_key, sample, j, t, T), t, D, weight);
            }
        }
    free(weight);
}

void ls_attention_cached_ref(ls_exec *exec, void *out, const void *qkv, const void *key_cache, const void *value_cache,
                             ls_dtype dtype, float scale, const int32_t *base, int64_t start, int64_t R, int64_t H,
                             int64_t G, int64_t D, int64_t capacity)
{
    const int64_t first = (base == NULL ? 0 : *base) + start;
    double *const weight = scratch(exec, first + R);
    if (weight == NULL) return;
    for (int64_t r = 0; r < R; r++)
        for (int64_t h = 0; h < H; h++) {
            const int64_t g = h / (H / G);
            const head_row query = {qkv, (r * (H + 2 * G) + h) * D};
            const head_rows keys = {key_cache, g * capacity * D, D}, values = {value_cache, g * capacity * D, D};
            (void)attend(out, (r * H + h) * D, query, keys, values, dtype, (double)scale, 0, first + r, D, weight);
        }
    free(weight);
}

/* Gradient sums of one sample and one key/value head, kept in double. */
typedef struct head_gradient {
    double *query;       /* [D], of one query row */
    double *key, *value; /* [T,D] */
} head_gradient;

/* Query row t of head h of sample j: p = exp(scale q.k - lse), and with dp = dout.v and delta = dout.out
 *   dv += p dout,  ds = p (dp - delta),  dq += scale ds k,  dk += scale ds q. */
static void row_backward(head_gradient sum, const void *dout, const void *out, int64_t out_first, head_row query,
                         head_rows keys, head_rows values, ls_dtype dtype, double scale, double lse, int64_t first,
                         int64_t last, int64_t D)
{
    const double delta = dot(dout, out_first, out, out_first, dtype, D);
    for (int64_t i = 0; i < D; i++) sum.query[i] = 0.0;
    for (int64_t s = first; s <= last; s++) {
        const int64_t key = keys.start + s * keys.stride, value = values.start + s * values.stride;
        const double p = exp(scale * dot(query.data, query.first, keys.data, key, dtype, D) - lse);
        const double ds = p * (dot(dout, out_first, values.data, value, dtype, D) - delta);
        for (int64_t i = 0; i < D; i++) {
            sum.value[s * D + i] += p * ls_ref_get(dout, dtype, out_first + i);
            sum.query[i] += scale * ds * ls_ref_get(keys.data, dtype, key + i);
            sum.key[s * D + i] += scale * ds * ls_ref_get(query.data, dtype, query.first + i);
        }
    }
}

static void store(void *out, ls_dtype dtype, int64_t first, const double *value, int64_t D)
{
    for (int64_t i = 0; i < D; i++) ls_ref_set(out, dtype, first + i, value[i]);
}

void ls_attention_backward_ref(ls_exec *exec, void *dqkv, const void *dout, const void *qkv, const void *out,
                               const float *lse, const int32_t *first_key, const int32_t *sample, ls_dtype dtype,
                               float scale, int64_t n, int64_t T, int64_t H, int64_t G, int64_t D)
{
    double *const block = scratch(exec, (2 * T + 1) * D);
    if (block == NULL) return;
    const head_gradient sum = {block, block + D, block + D + T * D};
    const int64_t stride = (H + 2 * G) * D;
    for (int64_t j = 0; j < n; j++)
        for (int64_t g = 0; g < G; g++) {
            const int64_t base = j * T * stride;
            const head_rows keys = {qkv, base + (H + g) * D, stride}, values = {qkv, base + (H + G + g) * D, stride};
            for (int64_t i = 0; i < 2 * T * D; i++) sum.key[i] = 0.0; /* keys and values lie together */
            for (int64_t h = g * (H / G); h < (g + 1) * (H / G); h++)
                for (int64_t t = 0; t < T; t++) {
                    const head_row query = {qkv, base + t * stride + h * D};
                    row_backward(sum, dout, out, ((j * T + t) * H + h) * D, query, keys, values, dtype, (double)scale,
                                 (double)lse[(j * H + h) * T + t], first_key_of(first_key, sample, j, t, T), t, D);
                    store(dqkv, dtype, query.first, sum.query, D);
                }
            for (int64_t t = 0; t < T; t++) {
                store(dqkv, dtype, keys.start + t * stride, sum.key + t * D, D);
                store(dqkv, dtype, values.start + t * stride, sum.value + t * D, D);
            }
        }
    free(block);
}
