/* Sizes that the CUDA kernels treat in ways of their own and the common table of cases does not reach: heads above 256,
 * rows that fill several words a thread or none, vocabularies beyond shared memory, products of many columns. */
#include "backend.h"
#include "kernels/kernel_check.h"

#include <stdlib.h>

static const ls_case CASES[] = {
    {.op = LS_OP_attention_forward, .B = 3, .n = 2, .T = 37, .H = 2, .G = 1, .D = 258, .options = LS_CASE_DOCUMENTS},
    {.op = LS_OP_attention_backward, .B = 2, .n = 2, .T = 37, .H = 2, .G = 1, .D = 258, .options = LS_CASE_DOCUMENTS},
    {.op = LS_OP_attention_forward, .B = 1, .n = 1, .T = 33, .H = 1, .G = 1, .D = 272},
    {.op = LS_OP_attention_backward, .B = 1, .n = 1, .T = 33, .H = 1, .G = 1, .D = 272},
    {.op = LS_OP_attention_cached, .start = 140, .R = 3, .H = 2, .G = 1, .D = 258, .capacity = 150},
    {.op = LS_OP_attention_cached, .start = 3, .R = 19, .H = 2, .G = 1, .D = 272, .capacity = 30},
    {.op = LS_OP_rmsnorm_forward, .B = 1, .n = 1, .T = 3, .C = 1100},
    {.op = LS_OP_rmsnorm_forward, .B = 1, .n = 1, .T = 3, .C = 2052},
    {.op = LS_OP_rmsnorm_forward, .B = 1, .n = 1, .T = 3, .C = 4100},
    {.op = LS_OP_rmsnorm_forward, .B = 1, .n = 1, .T = 3, .C = 8196},
    {.op = LS_OP_rmsnorm_forward, .B = 1, .n = 1, .T = 3, .C = 1101},
    {.op = LS_OP_rmsnorm_forward, .B = 1, .n = 1, .T = 2100, .C = 4},
    {.op = LS_OP_residual_add_rmsnorm, .B = 2, .n = 1, .T = 3, .C = 1100},
    {.op = LS_OP_residual_add_rmsnorm, .B = 2, .n = 1, .T = 3, .C = 2052},
    {.op = LS_OP_residual_add_rmsnorm, .B = 2, .n = 1, .T = 3, .C = 4100},
    {.op = LS_OP_residual_add_rmsnorm, .B = 2, .n = 1, .T = 3, .C = 8196},
    {.op = LS_OP_residual_add_rmsnorm, .B = 2, .n = 1, .T = 3, .C = 1101},
    {.op = LS_OP_rmsnorm_backward, .B = 1, .n = 1, .T = 19, .C = 1100},
    {.op = LS_OP_rmsnorm_backward, .B = 1, .n = 1, .T = 19, .C = 2052},
    {.op = LS_OP_rmsnorm_backward, .B = 1, .n = 1, .T = 19, .C = 4100},
    {.op = LS_OP_rmsnorm_backward, .B = 1, .n = 1, .T = 19, .C = 8196},
    {.op = LS_OP_rmsnorm_backward, .B = 1, .n = 1, .T = 19, .C = 1101},
    {.op = LS_OP_cross_entropy, .R = 2, .V = 57600},
    {.op = LS_OP_cross_entropy, .R = 2, .V = 57601},
    {.op = LS_OP_matmul_rows, .R = 1, .N = 8195, .K = 40},
    {.op = LS_OP_matmul_rows, .R = 3, .N = 8195, .K = 33},
    {.op = LS_OP_matmul_rows, .R = 17, .N = 2050, .K = 24},
    {.op = LS_OP_bias_backward, .R = 4500, .N = 12},
    {.op = LS_OP_rope_append, .start = 2, .R = 130, .H = 3, .G = 1, .D = 64, .capacity = 135},
    {.op = LS_OP_embedding_backward, .R = 300, .V = 3, .C = 1028},
};

static void large_sizes_agree_with_the_reference(void **state)
{
    static const unsigned alignments[] = {0, LS_RUN_SHIFTED};
    ls_exec reference = open_reference();
    ways all;
    int failures = 0;
    (void)state;
    open_ways(&all, 2);
    for (size_t i = 0; i < 2 * (sizeof CASES / sizeof CASES[0]); i++) {
        ls_case what = CASES[i / 2];
        ls_case_run want, got;
        ls_case_difference difference;
        what.dtype = what.out_dtype = i % 2 == 0 ? LS_F32 : LS_BF16;
        if (what.op == LS_OP_embedding_backward && what.dtype == LS_BF16) continue;
        run_guarded(&want, &what, &reference, LS_RUN_WIDE, "reference", &failures);
        for (int a = 0; a < 2; a++) {
            run_guarded(&got, &what, &all.exec[0], alignments[a], all.name[0], &failures);
            if (!ls_case_equal(&got, &want, &difference)) report_difference(&failures, all.name[0], &what, &difference);
            ls_case_finish(&got);
        }
        ls_case_finish(&want);
    }
    close_ways(&all);
    ls_exec_destroy(&reference);
    assert_int_equal(failures, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(large_sizes_agree_with_the_reference)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
