/* Element types, and the letters that name sizes everywhere.
 *
 *   B  samples (sequences) in a micro-batch        V  vocabulary entries
 *   n  samples of them that a block works on       D  head size (elements)
 *   T  positions in a sample                       H  query heads
 *   C  hidden size                                 G  key/value heads (H is a multiple of G)
 *   F  feed-forward (intermediate) size            L  transformer layers
 *   R  rows: positions of one or many samples      P  parameters
 *
 * Tensors are dense and row-major; the last size varies fastest. Products of sizes are 64-bit. */
#ifndef LS_KERNELS_TENSOR_H
#define LS_KERNELS_TENSOR_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum ls_dtype {
    LS_F32 = 0,
    LS_BF16 = 1, /* the upper half of an IEEE float; conversions round to nearest even */
} ls_dtype;

static inline size_t ls_dtype_size(ls_dtype dtype) { return dtype == LS_F32 ? 4 : 2; }
static inline const char *ls_dtype_name(ls_dtype dtype) { return dtype == LS_F32 ? "fp32" : "bf16"; }

static inline float ls_bf16_to_float(uint16_t value)
{
    const uint32_t bits = (uint32_t)value << 16;
    float result;
    memcpy(&result, &bits, sizeof result);
    return result;
}

static inline uint16_t ls_float_to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40u); /* quiet NaN */
    bits += 0x7fffu + (bits >> 16 & 1u);
    return (uint16_t)(bits >> 16);
}

#endif
