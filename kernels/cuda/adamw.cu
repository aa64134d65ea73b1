/* AdamW over a flat block: weights, moments, gradient and the weights' bf16 copy in one pass. */
#include "kernels/cuda/compat.cuh"

namespace ls
{

/* What an element's step needs, worked out once on the host. */
struct AdamwFactors {
    float rate, decay, beta1, beta2, rest1, rest2, epsilon, gradient_scale, correction1, correction2;
};

/* m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2;  w -= lr * (m/bc1 / (sqrt(v/bc2) + epsilon) + decay * w) */
template <class T, int W>
__global__ void __launch_bounds__(256)
    adamw_kernel(float *weight, float *__restrict__ m, float *__restrict__ v, float *__restrict__ gradient,
                 T *weight_out, AdamwFactors f, int64_t count)
{
    const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x * W;
    for (int64_t i = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * W; i < count; i += step) {
        Floats<W> w = load<W>(weight + i), first = load<W>(m + i), second = load<W>(v + i);
        const Floats<W> g = load<W>(gradient + i);
        Floats<W> zero;
#pragma unroll
        for (int k = 0; k < W; k++) {
            const float scaled = f.gradient_scale * g.at[k];
            first.at[k] = f.beta1 * first.at[k] + f.rest1 * scaled;
            second.at[k] = f.beta2 * second.at[k] + f.rest2 * scaled * scaled;
            const float direction = first.at[k] / f.correction1 / (sqrtf(second.at[k] / f.correction2) + f.epsilon);
            w.at[k] -= f.rate * (direction + f.decay * w.at[k]);
            zero.at[k] = 0.0f;
        }
        store<W>(weight + i, w);
        store<W>(m + i, first);
        store<W>(v + i, second);
        store<W>(gradient + i, zero);
        if (weight_out != nullptr) store<W>(weight_out + i, w);
    }
}

template <class T>
static cudaError_t adamw(cudaStream_t stream, float *weight, float *m, float *v, float *gradient, T *weight_out,
                         const AdamwFactors &factors, int64_t count)
{
    /* Words of 4, and the last count % 4 elements one by one. */
    const int64_t whole =
        aligned<4>(4, weight, m, v, gradient) && aligned<4>(4, weight_out) ? count / 4 * 4 : int64_t{0};
    if (whole > 0) {
        const cudaError_t status = launch<adamw_kernel<T, 4>>(blocks_for(whole, 256 * 4), 256, 0, stream, weight, m, v,
                                                              gradient, weight_out, factors, whole);
        if (status != cudaSuccess) return status;
    }
    if (whole == count) return cudaSuccess;
    T *const rest = weight_out != nullptr ? weight_out + whole : nullptr;
    return launch<adamw_kernel<T, 1>>(blocks_for(count - whole, 256), 256, 0, stream, weight + whole, m + whole,
                                      v + whole, gradient + whole, rest, factors, count - whole);
}

} // namespace ls

extern "C" cudaError_t ls_launch_adamw(cudaStream_t stream, float *weight, float *m, float *v, float *gradient,
                                       void *weight_out, ls_dtype dtype, const ls_adamw_step *step, int64_t count)
{
    if (count == 0) return cudaSuccess;
    const ls::AdamwFactors factors = {step->learning_rate,   step->weight_decay,   step->beta1,
                                      step->beta2,           1.0f - step->beta1,   1.0f - step->beta2,
                                      step->epsilon,         step->gradient_scale, step->bias_correction1,
                                      step->bias_correction2};
    if (dtype == LS_BF16)
        return ls::adamw(stream, weight, m, v, gradient, static_cast<ls::bf16 *>(weight_out), factors, count);
    return ls::adamw(stream, weight, m, v, gradient, static_cast<float *>(weight_out), factors, count);
}
