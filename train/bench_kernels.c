/* Every op at the sizes that matter, from the table of cases that the tests use: products as shares of the best matrix
 * product, the rest as shares of the memory's read bandwidth. */
#include "core/clock.h"
#include "kernels/cases.h"
#include "train/bench.h"

static ls_status time_case(ls_case_run *run, double *seconds)
{
    enum { ROUNDS = 9 };
    double all[ROUNDS];
    ls_case_launch(run);
    LS_TRY(ls_exec_status(run->exec));
    for (int round = 0; round < ROUNDS; round++) {
        const double begin = ls_seconds_now();
        ls_case_launch(run);
        LS_TRY(ls_exec_status(run->exec));
        all[round] = ls_seconds_now() - begin;
    }
    *seconds = ls_median(all, ROUNDS);
    return ls_exec_status(run->exec);
}

/* Products are judged by operations; everything else moves bytes. Attention over whole sequences is made of products.
 */
static bool computes(ls_op op)
{
    return op == LS_OP_matmul || op == LS_OP_matmul_bias || op == LS_OP_attention_forward ||
           op == LS_OP_attention_backward;
}

static ls_status bench_case(ls_bench *bench, const ls_case *what)
{
    char name[160];
    ls_case_run run;
    double seconds = 0.0;
    ls_case_name(what, name, sizeof name);
    LS_TRY(ls_case_prepare(&run, what, bench->exec, 1, 0));
    const ls_status status = time_case(&run, &seconds);
    ls_case_finish(&run);
    if (status != LS_OK) return status;
    const double flops = ls_case_flop(what) / seconds, bytes = ls_case_bytes(what) / seconds;
    const bool product = computes(what->op);
    ls_bench_report(bench, &(ls_bench_row){.name = name,
                                           .share_of_ceiling = product ? flops / bench->matmul_best[what->dtype]
                                                                       : bytes / bench->read_best,
                                           .target = -1,
                                           .ratio = -1,
                                           .tokens_per_second = -1,
                                           .gflops = flops * 1e-9,
                                           .gbps = bytes * 1e-9,
                                           .milliseconds = seconds * 1e3});
    return LS_OK;
}

ls_status ls_bench_kernels(ls_bench *bench)
{
    ls_case_list list;
    LS_TRY(ls_case_list_make(&list));
    ls_status status = LS_OK;
    for (int i = 0; i < list.count && status == LS_OK; i++)
        if (list.cases[i].options & LS_CASE_BENCHMARK) status = bench_case(bench, &list.cases[i]);
    ls_case_list_free(&list);
    return status;
}
