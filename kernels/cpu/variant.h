/* One source, several instruction sets: each file of kernels/cpu/ that includes this is built once a variant with
 * its own compiler flags (kernels/CMakeLists.txt), and its functions carry the variant's name. */
#ifndef LS_KERNELS_CPU_VARIANT_H
#define LS_KERNELS_CPU_VARIANT_H

#include "kernels/exec.h"

#ifndef LS_CPU_VARIANT
#define LS_CPU_VARIANT generic
#endif

#define LS_CPU_PASTE2(a, b) a##b
#define LS_CPU_PASTE(a, b) LS_CPU_PASTE2(a, b)
/* LS_CPU_NAME(rope) is ls_rope_cpu_avx512 in the avx512 variant. */
#define LS_CPU_NAME(op) LS_CPU_PASTE(ls_##op##_cpu_, LS_CPU_VARIANT)

/* Prototypes of every op of this variant. */
#define LS_CPU_DECLARE(op) ls_##op##_op LS_CPU_NAME(op);
LS_OP_LIST(LS_CPU_DECLARE)
#undef LS_CPU_DECLARE

/* oneDNN behind one function (kernels/cpu/matmul.c). */
ls_matmul_op ls_matmul_cpu;
ls_matmul_bias_op ls_matmul_bias_cpu;

#endif
