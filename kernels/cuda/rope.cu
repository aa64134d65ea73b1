/* Rotary position embedding, in place (training) and with the append to the key/value cache (decoding).
 *
 * A warp takes one position. Its lanes are `abreast` heads of `lanes` words each, so that a lane keeps its word of the
 * cosines and sines in registers and walks over the heads: the tables are read once a position, not once a head.
 * Products are rounded as written (no contraction left to the compiler), so a row has the same bits in any launch. */
#include "kernels/cuda/compat.cuh"

namespace ls
{

/* (u, w) rotated by the angle of (cosine, sine). */
template <int W>
__device__ __forceinline__ void rotate(Floats<W> &u, Floats<W> &w, const Floats<W> &cosine, const Floats<W> &sine)
{
#pragma unroll
    for (int i = 0; i < W; i++) {
        const float a = u.at[i], b = w.at[i];
        u.at[i] = __fmaf_rn(a, cosine.at[i], -__fmul_rn(b, sine.at[i]));
        w.at[i] = __fmaf_rn(b, cosine.at[i], __fmul_rn(a, sine.at[i]));
    }
}

/* The part of a warp that works on one head. */
struct Lanes {
    int lane, head, abreast, per_head;
    __device__ Lanes(int count)
        : lane(threadIdx.x % count), head(threadIdx.x / count), abreast(WARP / count), per_head(count)
    {
    }
};

/* Heads H..H+2G of a row at `start` stand at key_cache and value_cache [G,capacity,D], place `position`. */
template <class T> struct Cache {
    T *key, *value;
    int64_t capacity, position;
};

/* Rotates the row's heads [first, last) of the H+G that have angles; with a cache the keys go there instead of back. */
template <class T, int W>
__device__ __forceinline__ void rotate_row(T *row, const float *cosines, const float *sines, float sign, Lanes lanes,
                                           int64_t first, int64_t last, int64_t H, int64_t half, Cache<T> cache)
{
    for (int64_t i = static_cast<int64_t>(lanes.lane) * W; i < half; i += lanes.per_head * W) {
        const Floats<W> cosine = load<W>(cosines + i);
        Floats<W> sine = load<W>(sines + i);
#pragma unroll
        for (int k = 0; k < W; k++) sine.at[k] *= sign;
        for (int64_t head = first + lanes.head; head < last; head += lanes.abreast) {
            T *const in = row + head * 2 * half + i;
            Floats<W> u = load<W>(in), w = load<W>(in + half);
            rotate<W>(u, w, cosine, sine);
            const bool append = cache.key != nullptr && head >= H;
            T *const out = append ? cache.key + ((head - H) * cache.capacity + cache.position) * 2 * half + i : in;
            store<W>(out, u);
            store<W>(out + half, w);
        }
    }
}

template <class T, int W>
__global__ void __launch_bounds__(256)
    rope_kernel(T *__restrict__ qkv, const float *__restrict__ cosines, const float *__restrict__ sines,
                const int32_t *__restrict__ position, const int32_t *__restrict__ sample, float sign, int per_head,
                int64_t rows, Divisor length, int64_t H, int64_t G, int64_t half)
{
    const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.y;
    for (int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; row < rows; row += step) {
        const int64_t j = length.quotient(row);
        const int64_t place = length.place(sample != nullptr ? sample[j] : j, row, j);
        const int64_t angle = position != nullptr ? position[place] : length.place(0, row, j);
        rotate_row<T, W>(qkv + row * (H + 2 * G) * 2 * half, cosines + angle * half, sines + angle * half, sign,
                         Lanes(per_head), 0, H + G, H, half, Cache<T>{});
    }
}

/* Row blockIdx.x; the warps of all blocks along y share its heads, so that few rows still keep many of them busy. */
template <class T, int W>
__global__ void __launch_bounds__(128, 1)
    rope_append_kernel(T *__restrict__ qkv, Cache<T> cache, const float *__restrict__ cosines,
                       const float *__restrict__ sines, int per_head, const int32_t *base, int64_t start, int64_t H,
                       int64_t G, int64_t half)
{
    const int64_t r = blockIdx.x;
    T *const row = qkv + r * (H + 2 * G) * 2 * half;
    cache.position = first_position(base, start) + r;
    const Lanes lanes(per_head);
    const int64_t warp = static_cast<int64_t>(blockIdx.y) * blockDim.y + threadIdx.y;
    const int64_t warps = static_cast<int64_t>(gridDim.y) * blockDim.y;
    const int64_t each = divide_up(divide_up(H + 2 * G, lanes.abreast), warps) * lanes.abreast;
    const int64_t first = warp * each, last = smaller(first + each, H + 2 * G);
    rotate_row<T, W>(row, cosines + cache.position * half, sines + cache.position * half, 1.0f, lanes, first,
                     smaller(last, H + G), H, half, cache);
    /* Heads beyond the keys are values, copied. */
    for (int64_t head = first + lanes.head; head < last; head += lanes.abreast) {
        if (head < H + G) continue;
        const T *const in = row + head * 2 * half;
        T *const out = cache.value + ((head - H - G) * cache.capacity + cache.position) * 2 * half;
        for (int64_t i = static_cast<int64_t>(lanes.lane) * W; i < 2 * half; i += lanes.per_head * W)
            store<W>(out + i, load<W>(in + i));
    }
}

/* Lanes for one head of `words`: the largest power of two not above either. */
static int lanes_per_head(int64_t words)
{
    int lanes = WARP;
    while (lanes > words) lanes /= 2;
    return lanes;
}

template <class T, int W>
static cudaError_t rope_in_words(cudaStream_t stream, T *qkv, const float *cosines, const float *sines,
                                 const int32_t *position, const int32_t *sample, int inverse, int64_t n, int64_t length,
                                 int64_t H, int64_t G, int64_t half)
{
    const dim3 block(WARP, 4);
    return launch<rope_kernel<T, W>>(blocks_for(n * length, block.y), block, 0, stream, qkv, cosines, sines, position,
                                     sample, inverse ? -1.0f : 1.0f, lanes_per_head(half / W), n * length,
                                     Divisor(length), H, G, half);
}

template <class T>
static cudaError_t rope(cudaStream_t stream, T *qkv, const float *cosines, const float *sines, const int32_t *position,
                        const int32_t *sample, int inverse, int64_t n, int64_t length, int64_t H, int64_t G,
                        int64_t half)
{
    constexpr int W = WIDE<T>;
    if (aligned<W>(half, qkv) && aligned<W>(half, cosines, sines))
        return rope_in_words<T, W>(stream, qkv, cosines, sines, position, sample, inverse, n, length, H, G, half);
    return rope_in_words<T, 1>(stream, qkv, cosines, sines, position, sample, inverse, n, length, H, G, half);
}

template <class T, int W>
static cudaError_t append_in_words(cudaStream_t stream, T *qkv, Cache<T> cache, const float *cosines,
                                   const float *sines, const int32_t *base, int64_t start, int64_t R, int64_t H,
                                   int64_t G, int64_t half)
{
    const dim3 block(WARP, R >= 128 ? 1 : 4); /* many rows: a warp takes a whole row and reads its angles once */
    const int per_head = lanes_per_head(half / W);
    const int64_t steps = divide_up(H + 2 * G, WARP / per_head); /* of one warp alone */
    const unsigned along = R >= 128 ? 1 : static_cast<unsigned>(smaller(divide_up(steps, block.y), 64));
    return launch<rope_append_kernel<T, W>>(dim3(static_cast<unsigned>(R), along), block, 0, stream, qkv, cache,
                                            cosines, sines, per_head, base, start, H, G, half);
}

template <class T>
static cudaError_t rope_append(cudaStream_t stream, T *qkv, Cache<T> cache, const float *cosines, const float *sines,
                               const int32_t *base, int64_t start, int64_t R, int64_t H, int64_t G, int64_t half)
{
    constexpr int W = WIDE<T>;
    if (aligned<W>(half, qkv, cache.key, cache.value) && aligned<W>(half, cosines, sines))
        return append_in_words<T, W>(stream, qkv, cache, cosines, sines, base, start, R, H, G, half);
    return append_in_words<T, 1>(stream, qkv, cache, cosines, sines, base, start, R, H, G, half);
}

} // namespace ls

extern "C" cudaError_t ls_launch_rope(cudaStream_t stream, void *qkv, const float *cos_table, const float *sin_table,
                                      const int32_t *position, const int32_t *sample, ls_dtype dtype, int inverse,
                                      int64_t n, int64_t T, int64_t H, int64_t G, int64_t D)
{
    if (n == 0 || T == 0 || H + G == 0 || D == 0) return cudaSuccess;
    if (dtype == LS_BF16)
        return ls::rope(stream, static_cast<ls::bf16 *>(qkv), cos_table, sin_table, position, sample, inverse, n, T, H,
                        G, D / 2);
    return ls::rope(stream, static_cast<float *>(qkv), cos_table, sin_table, position, sample, inverse, n, T, H, G,
                    D / 2);
}

extern "C" cudaError_t ls_launch_rope_append(cudaStream_t stream, void *qkv, void *key_cache, void *value_cache,
                                             const float *cos_table, const float *sin_table, ls_dtype dtype,
                                             const int32_t *base, int64_t start, int64_t R, int64_t H, int64_t G,
                                             int64_t D, int64_t capacity)
{
    if (R == 0 || H + G == 0 || D == 0) return cudaSuccess;
    if (dtype == LS_BF16) {
        const ls::Cache<ls::bf16> cache = {static_cast<ls::bf16 *>(key_cache), static_cast<ls::bf16 *>(value_cache),
                                           capacity, 0};
        return ls::rope_append(stream, static_cast<ls::bf16 *>(qkv), cache, cos_table, sin_table, base, start, R, H, G,
                               D / 2);
    }
    const ls::Cache<float> cache = {static_cast<float *>(key_cache), static_cast<float *>(value_cache), capacity, 0};
    return ls::rope_append(stream, static_cast<float *>(qkv), cache, cos_table, sin_table, base, start, R, H, G, D / 2);
}
