/* Twins of PTX instructions for kernels/cuda/ptx.cuh, see tensor_core.cpp. */
#ifndef HOSTCUDA_TENSOR_CORE_H
#define HOSTCUDA_TENSOR_CORE_H

namespace hostcuda
{

void mma_bf16(float *d, const unsigned *a, const unsigned *b, const char *file, int line);
void load_matrix_x4(unsigned *r, const void *row, bool transposed, const char *file, int line, const void *caller);

} // namespace hostcuda

#endif
