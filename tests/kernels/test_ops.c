/* Every op of every variant against the reference, over the table of cases: values within tolerance, nothing written
 * outside of the outputs, at any element alignment. */
#include "kernel_check.h"

#include <stdio.h>

static void every_op_has_cases(void **state)
{
    (void)state;
    ls_case_list list = all_cases();
    int tested[LS_OP_COUNT][2] = {{0}}, timed[LS_OP_COUNT] = {0};
    for (int i = 0; i < list.count; i++) {
        const ls_case *const c = &list.cases[i];
        if (c->options & LS_CASE_BENCHMARK)
            timed[c->op]++;
        else
            tested[c->op][c->dtype]++;
        if (i > 0) assert_true(list.cases[i - 1].op <= c->op);
    }
    for (int op = 0; op < (int)LS_OP_COUNT; op++) {
        const bool takes_bf16 = op != LS_OP_embedding_backward && op != LS_OP_sum_of_squares && op != LS_OP_row_sums &&
                                op != LS_OP_draft_token && op != LS_OP_accept_drafts;
        if (tested[op][LS_F32] < 10 || (takes_bf16 && tested[op][LS_BF16] < 10) || timed[op] < 2)
            fail_msg("%s has too few cases", ls_op_names[op]);
    }
    ls_case_list_free(&list);
}

static void compare(const ls_case_run *got, const ls_case_run *want, const char *where, double *worst, int *failures)
{
    ls_case_difference difference;
    if (!ls_case_equal(got, want, &difference)) report_difference(failures, where, &got->what, &difference);
    if (difference.worst > *worst) *worst = difference.worst;
}

/* One case on one exec, aligned and not, against the wide reference run. */
static void check_case(const ls_case *what, ls_exec *exec, const ls_case_run *want, const char *where, double *worst,
                       int *failures)
{
    static const unsigned alignments[] = {0, LS_RUN_SHIFTED};
    for (int i = 0; i < 2; i++) {
        ls_case_run got;
        run_guarded(&got, what, exec, alignments[i], where, failures);
        compare(&got, want, where, worst, failures);
        ls_case_finish(&got);
    }
}

/* The reference's own bf16 path, and all variants of the cpu backend. Prints the share of the tolerance that each op
 * uses: a number far below 1 asks for a tighter one. */
static void agrees_with_reference(void **state)
{
    (void)state;
    ls_case_list list = all_cases();
    ls_exec reference = open_reference();
    ways all;
    open_ways(&all, 2);
    double worst[LS_OP_COUNT][2] = {{0.0}};
    int failures = 0;
    for (int i = 0; i < list.count; i++) {
        const ls_case *const what = &list.cases[i];
        if (what->options & LS_CASE_BENCHMARK) continue;
        double ignored = 0.0;
        ls_case_run want;
        run_guarded(&want, what, &reference, LS_RUN_WIDE, "reference", &failures);
        if (what->dtype == LS_BF16) check_case(what, &reference, &want, "reference bf16", &ignored, &failures);
        for (int w = 0; w < all.count; w++)
            check_case(what, &all.exec[w], &want, all.name[w], &worst[what->op][what->dtype], &failures);
        ls_case_finish(&want);
    }
    for (int op = 0; op < (int)LS_OP_COUNT; op++)
        print_message("%-20s uses %.3f of its fp32 tolerance, %.3f of its bf16 tolerance\n", ls_op_names[op],
                      worst[op][LS_F32], worst[op][LS_BF16]);
    close_ways(&all);
    ls_exec_destroy(&reference);
    ls_case_list_free(&list);
    assert_int_equal(failures, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_op_has_cases),
        cmocka_unit_test(agrees_with_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
