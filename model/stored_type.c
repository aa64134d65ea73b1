/* Number types of stored weights, see stored_type.h. */
#include "model/stored_type.h"

#include <string.h>

const char *const ls_stored_type_names[] = {"fp32", "fp16", "bf16", NULL};
const char *const ls_stored_type_long_names[] = {"float32", "float16", "bfloat16", NULL};

size_t ls_stored_type_size(ls_stored_type type) { return type == LS_STORED_F32 ? 4 : 2; }

static float from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t to_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float half_to_float(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = (half >> 10) & 31, fraction = half & 0x3FF;
    if (exponent == 31) return from_bits(sign | 0x7F800000 | fraction << 13);
    if (exponent != 0) return from_bits(sign | (exponent + 112) << 23 | fraction << 13);
    const float magnitude = (float)fraction * 0x1p-24f; /* subnormal: exact */
    return from_bits(sign | to_bits(magnitude));
}

static uint16_t float_to_half(float value)
{
    const uint32_t bits = to_bits(value), magnitude = bits & 0x7FFFFFFF;
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    if (magnitude > 0x7F800000) return (uint16_t)(sign | 0x7E00 | (magnitude >> 13 & 0x3FF));
    if (magnitude >= 0x47800000) return (uint16_t)(sign | 0x7C00); /* 2^16 and above */
    if (magnitude < 0x38800000) {                                  /* below 2^-14: the sum rounds at 2^-24 */
        const float shifted = from_bits(magnitude) + 0.5f;
        return (uint16_t)(sign | (to_bits(shifted) - 0x3F000000));
    }
    const uint32_t rounded = magnitude + 0xFFF + (magnitude >> 13 & 1);
    return (uint16_t)(sign | (rounded - 0x38000000) >> 13); /* may carry into infinity */
}

static uint16_t float_to_bfloat(float value)
{
    const uint32_t bits = to_bits(value);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

void ls_stored_to_float(float *out, const void *values, ls_stored_type type, int64_t count)
{
    const uint16_t *narrow = values;
    switch (type) {
    case LS_STORED_F32:
        memcpy(out, values, sizeof *out * (size_t)count);
        break;
    case LS_STORED_F16:
        for (int64_t i = 0; i < count; i++) out[i] = half_to_float(narrow[i]);
        break;
    case LS_STORED_BF16:
        for (int64_t i = 0; i < count; i++) out[i] = from_bits((uint32_t)narrow[i] << 16);
        break;
    }
}

void ls_stored_from_float(void *out, ls_stored_type type, const float *values, int64_t count)
{
    uint16_t *narrow = out;
    switch (type) {
    case LS_STORED_F32:
        memcpy(out, values, sizeof *values * (size_t)count);
        break;
    case LS_STORED_F16:
        for (int64_t i = 0; i < count; i++) narrow[i] = float_to_half(values[i]);
        break;
    case LS_STORED_BF16:
        for (int64_t i = 0; i < count; i++) narrow[i] = float_to_bfloat(values[i]);
        break;
    }
}
