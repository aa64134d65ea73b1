/* A register of floats at a time, in GCC's vector extension: the compiler lowers them to AVX-512, two AVX2 registers,
 * or plain C, so every kernel is written once and built for several instruction sets (kernels/cpu/variant.h).
 * Intrinsics appear only here, where an instruction has no C spelling: bf16 conversion and the bf16 dot product. */
#ifndef LS_KERNELS_CPU_SIMD_H
#define LS_KERNELS_CPU_SIMD_H

#include "kernels/tensor.h"

#include <math.h>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

/* Floats in a vector: a register's worth. GCC takes wider vectors apart lane by lane, ten times slower. */
#if defined(__AVX512F__)
#define VL 16
#else
#define VL 8
#endif

typedef float vf __attribute__((vector_size(4 * VL)));
typedef int32_t vi __attribute__((vector_size(4 * VL)));
typedef uint32_t vu __attribute__((vector_size(4 * VL)));
typedef uint16_t vh __attribute__((vector_size(2 * VL))); /* VL bf16 */

/* 0, 1, 2, ... */
static inline vi vi_lanes(void)
{
#if VL == 16
    return (vi){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#else
    return (vi){0, 1, 2, 3, 4, 5, 6, 7};
#endif
}

static inline vf vf_set(float value) { return value - (vf){0}; } /* exact, -0 too, so it is only a broadcast */

static inline vf vf_load(const float *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void vf_store(float *p, vf v) { memcpy(p, &v, sizeof v); }

/* Half as many doubles, for sums that span whole blocks. */
#define VDL (VL / 2)
typedef double vd __attribute__((vector_size(4 * VL)));
static inline vd vd_load(const float *p)
{
    float __attribute__((vector_size(2 * VL))) v;
    memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, vd);
}

static inline vu vu_load(const void *p)
{
    vu v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* mask ? a : b, lane by lane; mask lanes are 0 or -1 (a comparison's result). */
static inline vf vf_select(vi mask, vf a, vf b)
{
#if defined(__AVX2__) && VL == 8
    return (vf)_mm256_blendv_ps((__m256)b, (__m256)a, (__m256)mask);
#else
    return (vf)(((vi)a & mask) | ((vi)b & ~mask));
#endif
}

/* a > b ? a : b, so b where one is NaN. */
static inline vf vf_max(vf a, vf b)
{
#if defined(__AVX512F__)
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return vf_select(a > b, a, b);
#endif
}

/* a < b ? a : b */
static inline vf vf_min(vf a, vf b)
{
#if defined(__AVX512F__)
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return vf_select(a < b, a, b);
#endif
}

/* Is a > b in any lane? */
static inline int vf_any_above(vf a, vf b)
{
#if defined(__AVX512F__)
    return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GT_OQ) != 0;
#elif defined(__AVX2__)
    return _mm256_movemask_ps((__m256)(a > b)) != 0;
#else
    const vi above = a > b;
    int any = 0;
    for (int i = 0; i < VL; i++) any |= above[i];
    return any;
#endif
}

/* Mask of the first `count` lanes. */
static inline vi vf_first(int count) { return vi_lanes() < count; }

static inline vf vf_sqrt(vf v)
{
#if defined(__AVX512F__)
    return (vf)_mm512_sqrt_ps((__m512)v);
#elif defined(__AVX2__)
    return (vf)_mm256_sqrt_ps((__m256)v);
#else
    for (int i = 0; i < VL; i++) v[i] = sqrtf(v[i]);
    return v;
#endif
}

static inline vf vf_fma(vf a, vf b, vf c)
{
#if defined(__AVX512F__)
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#else
    return a * b + c;
#endif
}

/* The intrinsics: GCC 12 converts element types in halves, with a shuffle for each. */
static inline vf vh_expand(vh half)
{
#if defined(__AVX512F__)
    return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)half), 16);
#elif defined(__AVX2__)
    return (vf)_mm256_slli_epi32(_mm256_cvtepu16_epi32((__m128i)half), 16);
#else
    return (vf)(__builtin_convertvector(half, vu) << 16);
#endif
}

/* The low halves of the lanes. */
static inline vh vu_narrow(vu v)
{
#if defined(__AVX512F__)
    return (vh)_mm512_cvtepi32_epi16((__m512i)v);
#elif defined(__AVX2__)
    const __m256i packed = _mm256_packus_epi32((__m256i)(v & 0xffffu), (__m256i)(v & 0xffffu));
    return (vh)_mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08));
#else
    return __builtin_convertvector(v, vh);
#endif
}

static inline vf vf_load_bf16(const uint16_t *p)
{
    vh half;
    memcpy(&half, p, sizeof half);
    return vh_expand(half);
}

/* The rounded upper half of each lane, in its lower half. */
static inline vu bf16_bits(vf v)
{
    const vu bits = (vu)v;
    const vu rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    return (vu)vf_select(v == v, (vf)rounded, (vf)(bits >> 16 | 0x40u)); /* quiet NaN */
}

/* Round to nearest even; NaN stays NaN. */
static inline vh vf_to_bf16(vf v)
{
#if defined(__AVX512BF16__)
    const __m256bh packed = _mm512_cvtneps_pbh((__m512)v);
    vh half;
    memcpy(&half, &packed, sizeof half);
    return half;
#else
    return vu_narrow(bf16_bits(v));
#endif
}

static inline void vf_store_bf16(uint16_t *p, vf v)
{
    const vh half = vf_to_bf16(v);
    memcpy(p, &half, sizeof half);
}

/* 2 VL bf16 as the even-numbered elements and the odd ones: the halves of a lane, cheaper than two runs of VL. */
static inline void vf_load_pairs(vf *even, vf *odd, const uint16_t *p)
{
    const vu both = vu_load(p);
    *even = (vf)(both << 16);
    *odd = (vf)(both & 0xffff0000u);
}

static inline void vf_store_pairs(uint16_t *p, vf even, vf odd)
{
#if defined(__AVX512BF16__)
    static const uint16_t order[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                       8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512bh halves = _mm512_cvtne2ps_pbh((__m512)odd, (__m512)even);
    __m512i both;
    memcpy(&both, &halves, sizeof both);
    both = _mm512_permutexvar_epi16(_mm512_loadu_si512(order), both);
#else
    const vu both = bf16_bits(even) | bf16_bits(odd) << 16;
#endif
    memcpy(p, &both, sizeof both);
}

/* Loads and stores of the first `count` < VL lanes; the others read as zero. */
static inline vf vf_load_part(const float *p, int count)
{
    vf v = {0};
    memcpy(&v, p, sizeof(float) * (size_t)count);
    return v;
}

static inline void vf_store_part(float *p, vf v, int count) { memcpy(p, &v, sizeof(float) * (size_t)count); }

static inline vf vf_load_bf16_part(const uint16_t *p, int count)
{
    vh half = {0};
    memcpy(&half, p, sizeof(uint16_t) * (size_t)count);
    return vh_expand(half);
}

static inline void vf_store_bf16_part(uint16_t *p, vf v, int count)
{
    const vh half = vf_to_bf16(v);
    memcpy(p, &half, sizeof(uint16_t) * (size_t)count);
}

/* sum + a.b over pairs: lane i gains a[2i] b[2i] + a[2i+1] b[2i+1]; a, b hold 2 VL bf16. */
static inline vf vf_dot_bf16(vf sum, vu a, vu b)
{
#if defined(__AVX512BF16__)
    return (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#else
    const vf low = vf_fma((vf)(a << 16), (vf)(b << 16), sum);
    return vf_fma((vf)(a & 0xffff0000u), (vf)(b & 0xffff0000u), low);
#endif
}

/* rows[i][j] <-> rows[j][i] */
static inline void vu_transpose(vu rows[VL])
{
#if defined(__AVX512F__)
    __m512i a[16], b[16];
    for (int i = 0; i < 8; i++) {
        a[2 * i] = _mm512_unpacklo_epi32((__m512i)rows[2 * i], (__m512i)rows[2 * i + 1]);
        a[2 * i + 1] = _mm512_unpackhi_epi32((__m512i)rows[2 * i], (__m512i)rows[2 * i + 1]);
    }
    for (int i = 0; i < 4; i++) {
        b[4 * i] = _mm512_unpacklo_epi64(a[4 * i], a[4 * i + 2]);
        b[4 * i + 1] = _mm512_unpackhi_epi64(a[4 * i], a[4 * i + 2]);
        b[4 * i + 2] = _mm512_unpacklo_epi64(a[4 * i + 1], a[4 * i + 3]);
        b[4 * i + 3] = _mm512_unpackhi_epi64(a[4 * i + 1], a[4 * i + 3]);
    }
    /* b[4g+c] holds column c (mod 4) of rows 4g..4g+3, one 128-bit part for each of columns c, c+4, c+8, c+12 */
    for (int c = 0; c < 4; c++) {
        const __m512i low01 = _mm512_shuffle_i32x4(b[c], b[4 + c], 0x88),
                      high01 = _mm512_shuffle_i32x4(b[c], b[4 + c], 0xdd);
        const __m512i low23 = _mm512_shuffle_i32x4(b[8 + c], b[12 + c], 0x88),
                      high23 = _mm512_shuffle_i32x4(b[8 + c], b[12 + c], 0xdd);
        rows[c] = (vu)_mm512_shuffle_i32x4(low01, low23, 0x88);
        rows[4 + c] = (vu)_mm512_shuffle_i32x4(high01, high23, 0x88);
        rows[8 + c] = (vu)_mm512_shuffle_i32x4(low01, low23, 0xdd);
        rows[12 + c] = (vu)_mm512_shuffle_i32x4(high01, high23, 0xdd);
    }
#else
    for (int i = 0; i < VL; i++)
        for (int j = 0; j < i; j++) {
            const uint32_t upper = rows[j][i];
            rows[j][i] = rows[i][j];
            rows[i][j] = upper;
        }
#endif
}

/* Sum of the lanes, always in the same tree order: halves are added until one lane is left. */
static inline float vf_sum(vf v)
{
#if defined(__AVX512F__)
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256((__m512)v),
                                      _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd((__m512)v), 1)));
    const __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    const __m128 pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
    return _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
#else
    float lane[VL];
    memcpy(lane, &v, sizeof lane);
    for (int width = VL / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++) lane[i] += lane[i + width];
    return lane[0];
#endif
}

/* The sums of four vectors, each in vf_sum's order, for less than two of them cost. */
static inline void vf_sum4(float out[4], vf a, vf b, vf c, vf d)
{
#if defined(__AVX512F__)
    /* 16 -> 8 lanes: a in the lower half, b in the upper; 8 -> 4: a, b, c, d in the quarters */
    const __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4((__m512)a, (__m512)b, 0x44),
                                    _mm512_shuffle_f32x4((__m512)a, (__m512)b, 0xee));
    const __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4((__m512)c, (__m512)d, 0x44),
                                    _mm512_shuffle_f32x4((__m512)c, (__m512)d, 0xee));
    const __m512 quarters = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
    const __m512 pairs = _mm512_add_ps(quarters, _mm512_permute_ps(quarters, 0x4e));
    const __m512 sums = _mm512_add_ps(pairs, _mm512_permute_ps(pairs, 0xb1));
    const __m512i where = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    _mm_storeu_ps(out, _mm512_castps512_ps128(_mm512_permutexvar_ps(where, sums)));
#else
    out[0] = vf_sum(a);
    out[1] = vf_sum(b);
    out[2] = vf_sum(c);
    out[3] = vf_sum(d);
#endif
}

static inline float vf_max_lane(vf v)
{
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)v);
#else
    float lane[VL];
    memcpy(lane, &v, sizeof lane);
    float largest = lane[0];
    for (int i = 1; i < VL; i++) largest = lane[i] > largest ? lane[i] : largest;
    return largest;
#endif
}

#if defined(__AVX512F__)
/* 2^(j/16), where j is the low four bits of each lane. */
static inline vf vf_power16(vf lane)
{
    const vf power = {1.0f,        1.04427378f, 1.09050773f, 1.13878863f, 1.18920712f, 1.24185781f,
                      1.29683955f, 1.35425555f, 1.41421356f, 1.47682615f, 1.54221083f, 1.61049033f,
                      1.68179283f, 1.75625216f, 1.83400809f, 1.91520656f};
    return (vf)_mm512_permutexvar_ps((__m512i)lane, (__m512)power);
}
#define EXP_MAGIC 786432.0f /* 1.5 * 2^19: adding it rounds to sixteenths, their number in the low bits */
#else
#define EXP_MAGIC 12582912.0f /* 1.5 * 2^23: adding it rounds to an integer */
#endif

/* e^x within 2 ulp; 0 below -87.33, infinity above 88.72, NaN stays NaN. x = n ln 2 + r, where n counts in sixteenths
 * on AVX-512 (a table in a register and a cubic in r), else in ones (Cephes' polynomial). */
static inline vf vf_exp(vf x)
{
    const vf clamped = vf_max(vf_set(-88.0f), vf_min(vf_set(89.0f), x)); /* x where it is NaN */
    const vf shifted = vf_fma(clamped, vf_set(1.44269504f), vf_set(EXP_MAGIC));
    const vf n = shifted - EXP_MAGIC;
    const vf r = vf_fma(n, vf_set(2.12194440e-4f), vf_fma(n, vf_set(-0.693359375f), clamped));
#if defined(__AVX512F__)
    const vf q = vf_fma(vf_fma(r, vf_set(1.0f / 6), vf_set(0.5f)), r, vf_set(1.0f)) * r; /* e^r - 1 */
    const vf part = vf_power16(shifted);
    const __mmask16 not_below = _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(-87.33654f), _CMP_NLT_UQ);
    return (vf)_mm512_maskz_scalef_ps(not_below, (__m512)vf_fma(part, q, part), (__m512)n);
#else
    vf p = vf_fma(vf_set(1.98756915e-4f), r, vf_set(1.39819995e-3f));
    p = vf_fma(p, r, vf_set(8.33345205e-3f));
    p = vf_fma(p, r, vf_set(4.16657959e-2f));
    p = vf_fma(p, r, vf_set(1.66666657e-1f));
    p = vf_fma(p, r, vf_set(0.5f));
    p = vf_fma(p, r * r, r + 1.0f);
    /* n goes straight to the exponent; what would leave the field is replaced */
    const vf scaled = (vf)((vi)p + (((vi)shifted - (vi)vf_set(EXP_MAGIC)) << 23));
    const vf not_below = vf_select(x < -87.33654f, vf_set(0.0f), scaled);
    return vf_select(x <= 88.72283f, not_below, x * INFINITY); /* NaN, too */
#endif
}

/* e^x within 2^-17 for x <= 88, for what ends up in bf16: a third fewer steps. Below -87 small or 0, and 0 for
 * -infinity; NaN stays NaN. */
static inline vf vf_exp_rough(vf x)
{
    const vf clamped = vf_max(vf_set(-200.0f), x); /* x where it is NaN */
    const vf shifted = vf_fma(clamped, vf_set(1.44269504f), vf_set(EXP_MAGIC));
    const vf n = shifted - EXP_MAGIC;
#if defined(__AVX512F__)
    const vf r = vf_fma(clamped, vf_set(1.44269504f), -n);
    const vf q = vf_fma(r, vf_set(0.24022651f), vf_set(0.69318788f)) * r; /* 2^r - 1 */
    const vf part = vf_power16(shifted);
    return (vf)_mm512_scalef_ps((__m512)vf_fma(part, q, part), (__m512)n);
#else
    const vf r = vf_fma(n, vf_set(-0.69314718f), clamped);
    vf p = vf_fma(vf_set(4.12773688e-2f), r, vf_set(1.67536008e-1f));
    p = vf_fma(p, r, vf_set(5.00051262e-1f));
    p = vf_fma(p, r * r, r + 1.0f);
    const vf power = (vf)(((vi)shifted - (vi)vf_set(EXP_MAGIC - 127.0f)) << 23);
    return vf_select(x < -87.0f, vf_set(0.0f), p * power);
#endif
}

#endif
