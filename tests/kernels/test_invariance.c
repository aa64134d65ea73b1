/* Bits that must not change: a row of a decoding op with the number of rows, with the other rows and with their NaN;
 * any op with the number of threads; and a fused op against those it joins. Greedy speculation is lossless because of
 * this, and resume exact. */
#include "kernel_check.h"
#include "kernels/case_ops.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>

enum { MOST_ROWS = 16 };

/* ---- threads ----------------------------------------------------------------------------------------------------- */

/* Only large cases are cut among threads in some kernels, so the smaller benchmarks join in. */
static bool suits_threads(const ls_case *what)
{
    return !(what->options & LS_CASE_BENCHMARK) || (ls_case_flop(what) < most_flop() && ls_case_bytes(what) < 1e7);
}

static void check_threads(const ls_case *what, ls_exec *execs, const char *where, int *failures)
{
    static const int threads[] = {1, 2, 3, 4};
    ls_case_run want;
    for (int i = 0; i < 4; i++) {
        ls_case_run got;
        ls_case_difference difference;
        omp_set_num_threads(threads[i]);
        assert_int_equal(ls_case_prepare(&got, what, &execs[i], 7, 0), LS_OK);
        ls_case_call(&got);
        assert_int_equal(ls_exec_status(&execs[i]), LS_OK);
        if (i == 0) {
            want = got;
            continue;
        }
        if (!ls_case_identical(&got, &want, &difference)) report_difference(failures, where, what, &difference);
        ls_case_finish(&got);
    }
    ls_case_finish(&want);
}

static void results_do_not_depend_on_threads(void **state)
{
    (void)state;
    ls_case_list list = all_cases();
    ways by_threads[4];
    int failures = 0;
    for (int i = 0; i < 4; i++) open_ways(&by_threads[i], i + 1);
    for (int w = 0; w < by_threads[0].count; w++) {
        ls_exec execs[4];
        for (int i = 0; i < 4; i++) execs[i] = by_threads[i].exec[w];
        for (int i = 0; i < list.count; i++)
            if (suits_threads(&list.cases[i])) check_threads(&list.cases[i], execs, by_threads[0].name[w], &failures);
        for (int i = 0; i < 4; i++) by_threads[i].exec[w] = execs[i];
    }
    for (int i = 0; i < 4; i++) close_ways(&by_threads[i]);
    ls_case_list_free(&list);
    assert_int_equal(failures, 0);
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

/* Where row r of a buffer is: `blocks` pieces of `width` elements, piece b at b * block_stride + (first + r) * width.
 */
typedef struct row_layout {
    const char *name; /* NULL ends the list */
    int64_t width, blocks, block_stride, first;
} row_layout;

typedef struct row_op {
    struct row_op (*describe)(ls_case what);
    ls_case what;
    row_layout inputs[2]; /* rows that are copied and poisoned */
    row_layout outputs[4];
} row_op;

static row_layout plain(const char *name, int64_t width) { return (row_layout){name, width, 1, 0, 0}; }

static row_op describe_matmul_rows(ls_case what)
{
    return (row_op){describe_matmul_rows, what, {plain("x", what.K)}, {plain("out", what.N)}};
}

static row_op describe_swiglu(ls_case what)
{
    return (row_op){describe_swiglu, what, {plain("gate_up", 2 * what.F)}, {plain("out", what.F)}};
}

static row_op describe_bias(ls_case what)
{
    return (row_op){describe_bias, what, {plain("x", what.N)}, {plain("x", what.N)}};
}

/* T = 1: slots are row numbers. */
static row_op describe_rmsnorm(ls_case what)
{
    return (row_op){describe_rmsnorm, what, {plain("residual", what.C)}, {plain("out", what.C), plain("rstd", 1)}};
}

static row_op describe_attention(ls_case what)
{
    return (row_op){
        describe_attention, what, {plain("qkv", (what.H + 2 * what.G) * what.D)}, {plain("out", what.H * what.D)}};
}

static row_op describe_append(ls_case what)
{
    const row_layout qkv = plain("qkv", (what.H + 2 * what.G) * what.D);
    const int64_t stride = what.capacity * what.D;
    return (row_op){
        describe_append,
        what,
        {qkv},
        {qkv, {"key_cache", what.D, what.G, stride, what.start}, {"value_cache", what.D, what.G, stride, what.start}}};
}

static void set_rows(ls_case *what, int64_t rows)
{
    if (what->op == LS_OP_rmsnorm_forward)
        what->n = what->B = rows;
    else
        what->R = rows;
}

static size_t element_bytes(const ls_case_run *run, const row_layout *layout)
{
    return ls_case_find(run, layout->name)->element == LS_ELEMENT_BF16 ? 2 : 4;
}

static size_t row_bytes(const ls_case_run *run, const row_layout *layout)
{
    return (size_t)layout->width * element_bytes(run, layout);
}

static unsigned char *row_piece(const ls_case_run *run, const row_layout *layout, int64_t row, int64_t block)
{
    const int64_t element = block * layout->block_stride + (layout->first + row) * layout->width;
    return (unsigned char *)ls_case_find(run, layout->name)->data + (size_t)element * element_bytes(run, layout);
}

/* Row `row` of a run laid out by `op`. */
typedef struct row_of {
    const ls_case_run *run;
    const row_op *op;
    int64_t row;
} row_of;

static bool same_row(row_of a, row_of b)
{
    for (int k = 0; a.op->outputs[k].name != NULL; k++) {
        const row_layout *const x = &a.op->outputs[k], *const y = &b.op->outputs[k];
        for (int64_t block = 0; block < x->blocks; block++)
            if (memcmp(row_piece(a.run, x, a.row, block), row_piece(b.run, y, b.row, block), row_bytes(a.run, x)) != 0)
                return false;
    }
    return true;
}

/* Inputs are plain rows in every layout. */
static void copy_inputs(ls_case_run *to, int64_t row_to, const ls_case_run *from, int64_t row_from, const row_op *op)
{
    for (const row_layout *layout = op->inputs; layout->name != NULL; layout++)
        memcpy(row_piece(to, layout, row_to, 0), row_piece(from, layout, row_from, 0), row_bytes(to, layout));
}

static void poison_row(ls_case_run *run, int64_t row, const row_op *op)
{
    for (const row_layout *layout = op->inputs; layout->name != NULL; layout++)
        memset(row_piece(run, layout, row, 0), 0xFF, row_bytes(run, layout)); /* NaN */
}

static void prepare(ls_case_run *run, const ls_case *what, ls_exec *exec)
{
    assert_int_equal(ls_case_prepare(run, what, exec, 11, 0), LS_OK);
}

static void expect_same_row(row_of got, row_of want, const char *where, const char *how, int *failures)
{
    char why[64];
    (void)snprintf(why, sizeof why, "row %d differs %s", (int)want.row, how);
    if (!same_row(got, want)) report_failure(failures, where, &want.op->what, why);
}

/* The first R of the 16 rows. Inputs of equal names begin with equal values. */
static void check_fewer_rows(const row_op *op, ls_exec *exec, const ls_case_run *want, const char *where, int *failures)
{
    for (int64_t rows = 1; rows <= MOST_ROWS; rows++) {
        ls_case_run got;
        ls_case what = op->what;
        set_rows(&what, rows);
        prepare(&got, &what, exec);
        ls_case_call(&got);
        for (int64_t r = 0; r < rows; r++)
            expect_same_row((row_of){&got, op, r}, (row_of){want, op, r}, where, "with fewer rows", failures);
        ls_case_finish(&got);
    }
}

/* Row r by itself, as autoregressive decoding would compute it: at its position, in a buffer of one row. */
static void check_alone(const row_op *op, ls_exec *exec, const ls_case_run *inputs, const ls_case_run *want,
                        const char *where, int *failures)
{
    for (int64_t r = 0; r < MOST_ROWS; r++) {
        ls_case_run got;
        ls_case what = op->what;
        set_rows(&what, 1);
        if (what.capacity > 0) what.start += r;
        const row_op alone = op->describe(what);
        prepare(&got, &what, exec);
        copy_inputs(&got, 0, inputs, r, op);
        ls_case_call(&got);
        expect_same_row((row_of){&got, &alone, 0}, (row_of){want, op, r}, where, "when alone", failures);
        ls_case_finish(&got);
    }
}

/* All other rows NaN. */
static void check_other_rows(const row_op *op, ls_exec *exec, const ls_case_run *want, const char *where, int *failures)
{
    for (int64_t r = 0; r < MOST_ROWS; r++) {
        ls_case_run got;
        prepare(&got, &op->what, exec);
        for (int64_t other = 0; other < MOST_ROWS; other++)
            if (other != r) poison_row(&got, other, op);
        ls_case_call(&got);
        expect_same_row((row_of){&got, op, r}, (row_of){want, op, r}, where, "beside rows of NaN", failures);
        ls_case_finish(&got);
    }
}

/* Positions counted from memory, with a cache that goes on: the device then does not know the length from its host. */
static void check_base(const row_op *op, ls_exec *exec, const ls_case_run *want, const char *where, int *failures)
{
    if (op->what.capacity == 0) return;
    ls_case_run got;
    ls_case what = op->what;
    what.options |= LS_CASE_BASE;
    what.capacity += 300;
    const row_op longer = op->describe(what);
    prepare(&got, &what, exec);
    for (int k = 0; k < 2; k++) {
        const char *const cache = k == 0 ? "key_cache" : "value_cache";
        const size_t bytes = element_bytes(&got, &(row_layout){.name = cache}) * (size_t)what.D;
        for (int64_t g = 0; g < what.G; g++)
            memcpy((unsigned char *)ls_case_data(&got, cache) + (size_t)(g * what.capacity) * bytes,
                   (unsigned char *)ls_case_data(want, cache) + (size_t)(g * op->what.capacity) * bytes,
                   (size_t)(what.start + what.R) * bytes);
    }
    ls_case_call(&got);
    for (int64_t r = 0; r < MOST_ROWS; r++)
        expect_same_row((row_of){&got, &longer, r}, (row_of){want, op, r}, where, "with its position in memory",
                        failures);
    ls_case_finish(&got);
}

static void check_rows(const row_op *op, ls_exec *exec, const ls_case_run *want, const char *where, int *failures)
{
    ls_case_run inputs;
    prepare(&inputs, &op->what, exec);
    check_fewer_rows(op, exec, want, where, failures);
    check_alone(op, exec, &inputs, want, where, failures);
    check_other_rows(op, exec, want, where, failures);
    check_base(op, exec, want, where, failures);
    ls_case_finish(&inputs);
}

typedef struct row_case {
    row_op (*describe)(ls_case what);
    ls_case what;
} row_case;

static const row_case ROW_CASES[] = {
    {describe_matmul_rows, {.op = LS_OP_matmul_rows, .R = MOST_ROWS, .N = 67, .K = 101}},
    {describe_matmul_rows, {.op = LS_OP_matmul_rows, .R = MOST_ROWS, .N = 130, .K = 576}},
    {describe_matmul_rows, {.op = LS_OP_matmul_rows, .R = MOST_ROWS, .N = 1, .K = 1536}},
    {describe_matmul_rows, {.op = LS_OP_matmul_rows, .R = MOST_ROWS, .N = 33, .K = 7}},
    {describe_bias, {.op = LS_OP_bias_add, .R = MOST_ROWS, .N = 41}},
    {describe_bias, {.op = LS_OP_bias_add, .R = MOST_ROWS, .N = 2304}},
    {describe_rmsnorm, {.op = LS_OP_rmsnorm_forward, .B = MOST_ROWS, .n = MOST_ROWS, .T = 1, .C = 37}},
    {describe_rmsnorm, {.op = LS_OP_rmsnorm_forward, .B = MOST_ROWS, .n = MOST_ROWS, .T = 1, .C = 576}},
    {describe_swiglu, {.op = LS_OP_swiglu_forward, .R = MOST_ROWS, .F = 41}},
    {describe_swiglu, {.op = LS_OP_swiglu_forward, .R = MOST_ROWS, .F = 1536}},
    {describe_append, {.op = LS_OP_rope_append, .R = MOST_ROWS, .start = 5, .H = 3, .G = 1, .D = 10, .capacity = 23}},
    {describe_append, {.op = LS_OP_rope_append, .R = MOST_ROWS, .start = 60, .H = 9, .G = 3, .D = 64, .capacity = 80}},
    {describe_attention,
     {.op = LS_OP_attention_cached, .R = MOST_ROWS, .start = 0, .H = 9, .G = 3, .D = 64, .capacity = 16}},
    {describe_attention,
     {.op = LS_OP_attention_cached, .R = MOST_ROWS, .start = 9, .H = 2, .G = 1, .D = 10, .capacity = 40}},
    {describe_attention,
     {.op = LS_OP_attention_cached, .R = MOST_ROWS, .start = 57, .H = 4, .G = 2, .D = 32, .capacity = 90}},
    {describe_attention,
     {.op = LS_OP_attention_cached, .R = MOST_ROWS, .start = 250, .H = 9, .G = 3, .D = 64, .capacity = 300}},
    {describe_attention,
     {.op = LS_OP_attention_cached, .R = MOST_ROWS, .start = 21, .H = 9, .G = 1, .D = 16, .capacity = 50}},
    {describe_attention,
     {.op = LS_OP_attention_cached, .R = MOST_ROWS, .start = 1017, .H = 4, .G = 2, .D = 64, .capacity = 1040}},
};

/* fp32, bf16, and bf16 in with fp32 out for the product. */
static int types_of(const ls_case *what) { return what->op == LS_OP_matmul_rows ? 3 : 2; }

static void check_row_case(const row_case *row, ls_exec *execs, const char *where, int *failures)
{
    for (int type = 0; type < types_of(&row->what); type++) {
        ls_case what = row->what;
        what.dtype = type == 0 ? LS_F32 : LS_BF16;
        what.out_dtype = type == 1 ? LS_BF16 : LS_F32;
        const row_op op = row->describe(what);
        ls_case_run want;
        omp_set_num_threads(1);
        prepare(&want, &op.what, &execs[0]);
        ls_case_call(&want);
        for (int i = 0; i < 3; i++) {
            omp_set_num_threads(i + 1);
            check_rows(&op, &execs[i], &want, where, failures);
        }
        ls_case_finish(&want);
    }
}

static const char *only_op; /* NULL: all */

static void rows_do_not_depend_on_each_other(void **state)
{
    (void)state;
    ways by_threads[3];
    int failures = 0;
    for (int i = 0; i < 3; i++) open_ways(&by_threads[i], i + 1);
    for (int w = 0; w < by_threads[0].count; w++) {
        ls_exec execs[3];
        for (int i = 0; i < 3; i++) execs[i] = by_threads[i].exec[w];
        for (size_t i = 0; i < sizeof ROW_CASES / sizeof ROW_CASES[0]; i++)
            if (only_op == NULL || strcmp(only_op, ls_op_names[ROW_CASES[i].what.op]) == 0)
                check_row_case(&ROW_CASES[i], execs, by_threads[0].name[w], &failures);
        for (int i = 0; i < 3; i++) by_threads[i].exec[w] = execs[i];
    }
    for (int i = 0; i < 3; i++) close_ways(&by_threads[i]);
    assert_int_equal(failures, 0);
}

/* ---- the check can fail ------------------------------------------------------------------------------------------ */

/* The last place of one element moves when a second row is there, as other blocking would make it. */
static void rows_that_notice_company(ls_exec *exec, void *out, ls_dtype out_dtype, const void *x, const void *weight,
                                     ls_dtype dtype, int64_t R, int64_t N, int64_t K)
{
    ls_backend_ref()->matmul_rows(exec, out, out_dtype, x, weight, dtype, R, N, K);
    if (R > 1) ((uint32_t *)out)[N - 1] ^= 1u;
}

static void a_dependence_is_found(void **state)
{
    (void)state;
    const ls_case what = {.op = LS_OP_matmul_rows, .R = MOST_ROWS, .N = 5, .K = 7};
    ls_backend broken = *ls_backend_ref();
    ls_exec exec = open_reference();
    const row_op op = describe_matmul_rows(what);
    for (int bug = 0; bug < 2; bug++) {
        int failures = 0;
        ls_case_run want;
        if (bug) broken.matmul_rows = rows_that_notice_company;
        exec.ops = &broken;
        prepare(&want, &op.what, &exec);
        ls_case_call(&want);
        if (bug) print_message("failures are expected here:\n");
        check_rows(&op, &exec, &want, bug ? "broken on purpose" : "whole", &failures);
        assert_int_equal(failures, bug ? 2 : 0); /* row 0 as the first of one, and alone */
        ls_case_finish(&want);
    }
    ls_exec_destroy(&exec);
}

/* ---- passes in one ----------------------------------------------------------------------------------------------- */

/* An exec whose fused ops are the ops that they join, one after the other. */
typedef struct split_exec {
    ls_exec exec; /* first: ops are handed a pointer to it */
    ls_backend ops;
    ls_exec *own;
} split_exec;

static void split_residual_add_rmsnorm(ls_exec *exec, float *residual, void *out, float *rstd, const int32_t *out_slot,
                                       const int32_t *in_slot, const void *y, const void *weight, ls_dtype dtype,
                                       float scale, int64_t n, int64_t T, int64_t C, float epsilon)
{
    ls_exec *own = ((split_exec *)exec)->own;
    own->ops->residual_add(own, residual, out_slot, in_slot, y, dtype, scale, n, T, C);
    own->ops->rmsnorm_forward(own, out, rstd, residual, out_slot, weight, dtype, n, T, C, epsilon);
}

static bool is_fused(const ls_case *what)
{
    return what->op == LS_OP_residual_add_rmsnorm && !(what->options & LS_CASE_BENCHMARK);
}

static void check_fused(const ls_case *what, ls_exec *exec, unsigned options, const char *where, int *failures)
{
    split_exec split = {.exec = *exec, .ops = *exec->ops, .own = exec};
    ls_case_run got, want;
    ls_case_difference difference;
    split.exec.ops = &split.ops;
    split.ops.residual_add_rmsnorm = split_residual_add_rmsnorm;
    assert_int_equal(ls_case_prepare(&got, what, exec, 7, options), LS_OK);
    assert_int_equal(ls_case_prepare(&want, what, &split.exec, 7, options), LS_OK);
    ls_case_call(&got);
    ls_case_call(&want);
    assert_int_equal(ls_exec_status(exec), LS_OK);
    if (!ls_case_identical(&got, &want, &difference)) report_difference(failures, where, what, &difference);
    ls_case_finish(&want);
    ls_case_finish(&got);
}

static void a_fused_op_has_the_bits_of_those_it_joins(void **state)
{
    (void)state;
    ls_exec reference = open_reference();
    ls_case_list list = all_cases();
    ways all;
    int failures = 0, checked = 0;
    open_ways(&all, 2);
    for (int i = 0; i < list.count; i++) {
        if (!is_fused(&list.cases[i])) continue;
        for (int w = 0; w < all.count; w++) {
            check_fused(&list.cases[i], &all.exec[w], 0, all.name[w], &failures);
            check_fused(&list.cases[i], &all.exec[w], LS_RUN_SHIFTED, all.name[w], &failures);
        }
        check_fused(&list.cases[i], &reference, 0, "reference", &failures);
        checked++;
    }
    assert_true(checked > 50);
    close_ways(&all);
    ls_case_list_free(&list);
    ls_exec_destroy(&reference);
    assert_int_equal(failures, 0);
}

/* [TEST [OP]]: one test, and its cases of one op. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dependence_is_found),
        cmocka_unit_test(rows_do_not_depend_on_each_other),
        cmocka_unit_test(results_do_not_depend_on_threads),
        cmocka_unit_test(a_fused_op_has_the_bits_of_those_it_joins),
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    if (argc > 2) only_op = argv[2];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
