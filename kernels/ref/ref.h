/* The reference backend: the definition of every op, in plain C with double accumulation.
 *
 * Speed is no aim here; every line should be checkable against the contract in kernels/ops.h by eye. Values are widened
 * to double when read and rounded to their type once, when written. Each row or element is computed on its own, so
 * results do not depend on how many rows come with it. */
#ifndef LS_KERNELS_REF_REF_H
#define LS_KERNELS_REF_REF_H

#include "kernels/exec.h"

#define LS_REF_DECLARE(op) ls_##op##_op ls_##op##_ref;
LS_OP_LIST(LS_REF_DECLARE)
#undef LS_REF_DECLARE

/* Element i of a tensor of either type. */
static inline double ls_ref_get(const void *x, ls_dtype dtype, int64_t i)
{
    if (dtype == LS_F32) return (double)((const float *)x)[i];
    return (double)ls_bf16_to_float(((const uint16_t *)x)[i]);
}

/* Rounds `value` to the type of the tensor. A bf16 result goes through float: the two roundings differ from one by
 * less than 2^-24 of the value, in one case of 2^16. */
static inline void ls_ref_set(void *x, ls_dtype dtype, int64_t i, double value)
{
    if (dtype == LS_F32)
        ((float *)x)[i] = (float)value;
    else
        ((uint16_t *)x)[i] = ls_float_to_bf16((float)value);
}

#endif
