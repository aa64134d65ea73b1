/* Cases: every op at named sizes, with what it needs to be run, judged and timed.
 *
 * One table drives the correctness, gradient, invariance and sanitizer tests of every backend and `bench kernels`. A
 * case knows sizes, element types and options; from it come the buffers (inputs from a seed, outputs filled with NaN),
 * the call, the tolerance of each output, floating-point operations and bytes. Every buffer stands between bands of
 * sentinel bytes (also NaN), so an op that writes or reads too far is found out; under the address sanitizer the bands
 * are poisoned. */
#ifndef LS_KERNELS_CASES_H
#define LS_KERNELS_CASES_H

#include "kernels/exec.h"

typedef enum ls_op {
#define LS_OP_ENUM(op) LS_OP_##op,
    LS_OP_LIST(LS_OP_ENUM)
#undef LS_OP_ENUM
        LS_OP_COUNT
} ls_op;

extern const char *const ls_op_names[LS_OP_COUNT];

enum {                         /* ls_case.options */
       LS_CASE_DROPPED = 1,    /* n of B samples survive, listed out of order; otherwise all B = n, in order */
       LS_CASE_DOCUMENTS = 2,  /* attention confined to documents, rotary positions restarting in each */
       LS_CASE_NO_LIST = 4,    /* `sample` is NULL where the op allows it */
       LS_CASE_IN_PLACE = 8,   /* the aliasing that the op allows */
       LS_CASE_NO_EXTRA = 16,  /* the output that may be NULL is NULL (rstd, out, weight_out) */
       LS_CASE_INVERSE = 32,   /* rope: rotate back */
       LS_CASE_BENCHMARK = 64, /* a size that matters for speed, too large for the reference in tests */
       LS_CASE_ENDED = 128,    /* accept_drafts: the last draft ends the text */
       LS_CASE_BASE = 256,     /* key/value cache: part of `start` lies in the backend's memory */
};

/* Sizes carry the letters of kernels/tensor.h; those that the op does not have are 0. */
typedef struct ls_case {
    ls_op op;
    ls_dtype dtype, out_dtype;
    unsigned options;
    unsigned flags;  /* matmul's */
    int64_t M, N, K; /* matmul; matmul_rows has R, N, K */
    int64_t B, n, T, C;
    int64_t R, V, F, H, G, D;
    int64_t start, capacity; /* key/value cache */
    int64_t count;           /* flat blocks */
    int sampling;            /* draft_token, accept_drafts: 0 greedy, else one of case_decoding.c; n: drafts so far */
    int64_t first;           /* accept_drafts: rows that agreed before */
} ls_case;

typedef struct ls_case_list {
    ls_case *cases;
    int count, room;
} ls_case_list;

/* The table, grouped by op in the order of LS_OP_LIST. */
ls_status ls_case_list_make(ls_case_list *out);
void ls_case_list_free(ls_case_list *list);

/* "rmsnorm_forward bf16 n=3 T=5 C=33 dropped", at most `size` bytes. */
void ls_case_name(const ls_case *what, char *text, size_t size);
double ls_case_flop(const ls_case *what);  /* floating-point operations of one call, 2 for a multiply-add */
double ls_case_bytes(const ls_case *what); /* bytes read and written once each */

/* ---- running ----------------------------------------------------------------------------------------------------- */

typedef enum ls_element {
    LS_ELEMENT_F32 = LS_F32,
    LS_ELEMENT_BF16 = LS_BF16,
    LS_ELEMENT_I32,
    LS_ELEMENT_F64,
} ls_element;

typedef struct ls_case_buffer {
    const char *name; /* the parameter's name in kernels/ops.h */
    ls_element element;
    bool rounded; /* fp32 that holds bf16 values: a bf16 buffer of a widened run */
    bool written; /* the op writes it: compared, and not expected to stay as it was */
    int64_t count;
    int64_t traffic; /* elements that one call moves, read and written counted apart */
    int fill;        /* how the runner fills it (kernels/case_ops.h) */
    /* |got - want| <= absolute + relative * |want| */
    double absolute, relative;
    void *data;
} ls_case_buffer;

enum { LS_CASE_BUFFERS = 12 };

typedef struct ls_case_run {
    ls_case what;
    ls_exec *exec;
    ls_dtype dtype, out_dtype; /* as run: fp32 when widened */
    uint64_t seed;
    ls_case_buffer buffer[LS_CASE_BUFFERS];
    int buffers;
    unsigned char *block;  /* all buffers and bands, as the host sees them */
    unsigned char *device; /* the same in the memory of exec; `block` itself on CPUs */
    unsigned char *before; /* the block as it was, to find stray writes; NULL unless LS_RUN_GUARDED */
    size_t bytes;
} ls_case_run;

enum {                     /* options of ls_case_prepare */
       LS_RUN_WIDE = 1,    /* bf16 buffers become fp32 ones with the same values: results without bf16's rounding */
       LS_RUN_SHIFTED = 2, /* every buffer starts one element off its alignment */
       LS_RUN_GUARDED = 4, /* keep what ls_case_intact needs */
};

/* Makes the buffers of `what` in the memory of `exec` and fills them: equal seeds give equal values on every device. */
ls_status ls_case_prepare(ls_case_run *run, const ls_case *what, ls_exec *exec, uint64_t seed, unsigned options);
/* Calls the op once, results and all. May be called again: in-place ops then go on from what they left. */
void ls_case_call(ls_case_run *run);
/* The op alone, for timing: what it leaves stays on the device. */
void ls_case_launch(ls_case_run *run);
void ls_case_finish(ls_case_run *run);

/* The buffer of that name, NULL when this case passes NULL for it. */
ls_case_buffer *ls_case_find(const ls_case_run *run, const char *name);
double ls_case_get(const ls_case_buffer *buffer, int64_t i);
void ls_case_set(ls_case_buffer *buffer, int64_t i, double value); /* rounds to the element type */

/* True when all bands and all buffers that the op may not write are as they were before the call; otherwise `text`
 * says what was stomped on. Needs LS_RUN_GUARDED. */
bool ls_case_intact(const ls_case_run *run, char *text, size_t size);

typedef struct ls_case_difference {
    const char *buffer;
    int64_t element;
    double got, want, allowed;
    double worst; /* largest error in units of what is allowed, over all buffers */
} ls_case_difference;

/* Compares what `got` wrote with what `want` wrote, by `got`'s tolerances. NaN is never equal to anything. */
bool ls_case_equal(const ls_case_run *got, const ls_case_run *want, ls_case_difference *difference);
/* The same to the bit, for two runs of equal element types. */
bool ls_case_identical(const ls_case_run *got, const ls_case_run *want, ls_case_difference *difference);

#endif
