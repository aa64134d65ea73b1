/* What the files that know the ops share: declaring a case's buffers, and how far results may be off.
 *
 * Tolerances compare a backend with the reference run wide (double accumulation, fp32 storage, the same bf16 inputs),
 * so they hold the backend's own rounding alone:
 *   - a store rounds once: half a unit in the last place, at most 2^-24 of the value in fp32 and 2^-8 in bf16;
 *   - fp32 arithmetic in another order than the reference's: a few units of 2^-24 of the largest number in the sum,
 *     times its length where it is long. */
#ifndef LS_KERNELS_CASE_DECLARE_H
#define LS_KERNELS_CASE_DECLARE_H

#include "kernels/case_ops.h"

#include <math.h>

#define HALF_ULP_F32 0x1p-24
#define HALF_ULP_BF16 0x1p-8
#define FEW_F32 (8.0 * HALF_ULP_F32)

#define DATA(name) ls_case_data(run, name)
#define OPS run->exec->ops

static inline ls_case_buffer *add(ls_case_run *run, const char *name, ls_element element, int64_t count, ls_fill fill)
{
    LS_ASSERT(run->buffers < LS_CASE_BUFFERS);
    ls_case_buffer *const buffer = &run->buffer[run->buffers++];
    *buffer = (ls_case_buffer){.name = name, .element = element, .count = count, .traffic = count, .fill = (int)fill};
    return buffer;
}

static inline ls_case_buffer *add_float(ls_case_run *run, const char *name, int64_t count, ls_fill fill)
{
    return add(run, name, LS_ELEMENT_F32, count, fill);
}

static inline ls_case_buffer *add_int(ls_case_run *run, const char *name, int64_t count, ls_fill fill)
{
    return add(run, name, LS_ELEMENT_I32, count, fill);
}

/* A buffer of the compute type. */
static inline ls_case_buffer *add_typed(ls_case_run *run, const char *name, int64_t count, ls_fill fill)
{
    ls_case_buffer *const buffer = add(run, name, (ls_element)run->dtype, count, fill);
    buffer->rounded = run->what.dtype != run->dtype;
    return buffer;
}

/* Marks an output; `relative` is for fp32 storage, a bf16 buffer adds its store's rounding. */
static inline void writes(ls_case_buffer *buffer, double absolute, double relative)
{
    buffer->written = true;
    buffer->absolute = absolute;
    buffer->relative = relative + (buffer->element == LS_ELEMENT_BF16 ? HALF_ULP_BF16 : 0.0);
    if (buffer->fill != LS_FILL_NOTHING) buffer->traffic = 2 * buffer->count;
}

static inline void add_sample(ls_case_run *run)
{
    if (!(run->what.options & LS_CASE_NO_LIST)) add_int(run, "sample", run->what.n, LS_FILL_SAMPLE);
}

static inline bool has(const ls_case *what, unsigned option) { return (what->options & option) != 0; }

static inline void add_rotation_tables(ls_case_run *run, int64_t positions)
{
    add_float(run, "cos_table", positions * (run->what.D / 2), LS_FILL_COSINE);
    add_float(run, "sin_table", positions * (run->what.D / 2), LS_FILL_SINE);
}

static inline float attention_scale(const ls_case *c) { return 1.0f / sqrtf((float)c->D); }

/* Scores have variance 1, probabilities sum to 1 and values stay below 1.74. In fp32 the exponent's argument carries
 * the dot product's error; a bf16 kernel may round probabilities to bf16 before the product with the values, which
 * moves the result by at most 2^-8 of a weighted mean of values. */
static inline double attention_error(const ls_case *c)
{
    return c->dtype == LS_F32 ? 8.0 * FEW_F32 : 1.74 * HALF_ULP_BF16;
}

#endif
