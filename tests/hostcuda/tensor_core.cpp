/* The tensor cores' instructions as collectives of a warp, by the fragment layouts of the PTX ISA (mma.m16n8k16 and
 * ldmatrix). Products of bf16 are exact in fp32; a GPU may add them up in another order. */
#include "tensor_core.h"

#include "hostcuda.h"
#include "runtime.h"

namespace hostcuda
{

static float half_of(unsigned pair, int i)
{
    const unsigned bits = i == 0 ? pair << 16 : pair & 0xffff0000u;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

struct MmaInput {
    const float *d;
    const unsigned *a, *b;
};

/* Lane 4*g + t holds A[g (+8), 2t..2t+1 (+8)], B[2t..2t+1 (+8), g] and D[g (+8), 2t..2t+1]. */
static void mma_of_warp(const void *const *in, void *const *out)
{
    float A[16][16], B[16][8], D[16][8];
    for (int l = 0; l < 32; l++) {
        const MmaInput *const own = static_cast<const MmaInput *>(in[l]);
        const int g = l / 4, t = l % 4;
        for (int i = 0; i < 8; i++) A[g + i / 2 % 2 * 8][2 * t + i % 2 + i / 4 * 8] = half_of(own->a[i / 2], i % 2);
        for (int i = 0; i < 4; i++) B[2 * t + i % 2 + i / 2 * 8][g] = half_of(own->b[i / 2], i % 2);
        for (int i = 0; i < 4; i++) D[g + i / 2 * 8][2 * t + i % 2] = own->d[i];
    }
    for (int m = 0; m < 16; m++)
        for (int k = 0; k < 16; k++)
            for (int n = 0; n < 8; n++) D[m][n] += A[m][k] * B[k][n];
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < 4; i++) static_cast<float *>(out[l])[i] = D[l / 4 + i / 2 * 8][2 * (l % 4) + i % 2];
}

void mma_bf16(float *d, const unsigned *a, const unsigned *b, const char *file, int line)
{
    const MmaInput own = {d, a, b};
    float sum[4];
    warp_custom(~0u, &own, sum, mma_of_warp, file, line);
    for (int i = 0; i < 4; i++) d[i] = sum[i];
}

/* Four 8x8 matrices; lane 8*j + r points to row r of matrix j. */
template <bool transposed> static void load_matrices(const void *const *in, void *const *out)
{
    for (int l = 0; l < 32; l++)
        for (unsigned j = 0; j < 4; j++) {
            const int r = l / 4, c = l % 4 * 2;
            uint16_t low, high;
            const auto row = [&](int i) { return static_cast<const uint16_t *>(in[8 * static_cast<int>(j) + i]); };
            low = transposed ? row(c)[r] : row(r)[c];
            high = transposed ? row(c + 1)[r] : row(r)[c + 1];
            static_cast<unsigned *>(out[l])[j] = low | static_cast<unsigned>(high) << 16;
        }
}

void load_matrix_x4(unsigned *r, const void *row, bool transposed, const char *file, int line, const void *caller)
{
    if (reinterpret_cast<uintptr_t>(row) % 16 != 0) report("misaligned", "a row of ldmatrix at %s:%d", file, line);
    check_access(row, 16, READ, true, caller);
    unsigned own[4];
    warp_custom(~0u, row, own, transposed ? load_matrices<true> : load_matrices<false>, file, line);
    for (int i = 0; i < 4; i++) r[i] = own[i];
}

} // namespace hostcuda
