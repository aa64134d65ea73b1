/* Between kernels/cases.c and the files that know the ops: how each is called (case_ops.c, case_decoding.c), which
 * sizes it meets (case_table.c). */
#ifndef LS_KERNELS_CASE_OPS_H
#define LS_KERNELS_CASE_OPS_H

#include "kernels/cases.h"

#define LS_CASE_GRADIENT_SCALE 0.3f /* of cross_entropy */

typedef enum ls_fill {
    LS_FILL_NOTHING,   /* NaN: an output written with = */
    LS_FILL_SPREAD,    /* uniform, mean 0, variance 1 */
    LS_FILL_NONZERO,   /* 0.5 to 1.5 in size, random sign: no division by nearly nothing */
    LS_FILL_POSITIVE,  /* 0.01 to 1.01 */
    LS_FILL_LOGITS,    /* uniform in +-8 */
    LS_FILL_TOKEN,     /* 0 to V-1, some often */
    LS_FILL_TARGET,    /* 0 to V-1, every fifth or so -1 */
    LS_FILL_SAMPLE,    /* n distinct ones of B */
    LS_FILL_OUT_SLOT,  /* the same plus B: disjoint from the samples, or equal to them in place */
    LS_FILL_FIRST_KEY, /* [B,T]: documents of random length */
    LS_FILL_POSITION,  /* [B,T]: t - first key */
    LS_FILL_COSINE,    /* [positions, D/2] */
    LS_FILL_SINE,
    LS_FILL_PREPARED, /* by ls_case_op.prepare */
} ls_fill;

typedef struct ls_case_op {
    void (*declare)(ls_case_run *run);       /* adds the buffers */
    void (*prepare)(const ls_case_run *run); /* fills LS_FILL_PREPARED buffers; NULL when there are none */
    void (*call)(const ls_case_run *run);
    double (*flop)(const ls_case *what);
} ls_case_op;

/* Each op is in one of the two; the other has NULL for its functions. */
extern const ls_case_op ls_case_ops[LS_OP_COUNT], ls_case_decoding_ops[LS_OP_COUNT];
const ls_case_op *ls_case_op_of(ls_op op);

/* Pointer to the named buffer's elements, NULL when the case has none. */
void *ls_case_data(const ls_case_run *run, const char *name);

#endif
