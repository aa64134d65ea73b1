/* Every kernel under the checker: no race, nothing undefined read, nothing beyond a buffer touched, in any order; and
 * the traffic that kernels which wait for memory may have: at most 1.1 times the sectors that their operands fill.
 *
 * Each buffer of a case moves to device memory of its own and exact size, alone with the gaps around it; buffers that
 * an op must write stay undefined there. */
#include "backend.h"
#include "kernels/case_ops.h"
#include "kernels/kernel_check.h"
#include "runtime.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>

static size_t element_bytes(const ls_case_buffer *buffer)
{
    return buffer->element == LS_ELEMENT_BF16 ? 2 : buffer->element == LS_ELEMENT_F64 ? 8 : 4;
}

/* The case's buffers in device memory; host[i] is where buffer i was. */
typedef struct moved {
    void *host[LS_CASE_BUFFERS], *block[LS_CASE_BUFFERS];
} moved;

static void move_in(moved *m, ls_case_run *run, bool shifted)
{
    for (int i = 0; i < run->buffers; i++) {
        ls_case_buffer *const buffer = &run->buffer[i];
        const size_t bytes = (size_t)buffer->count * element_bytes(buffer), shift = shifted ? element_bytes(buffer) : 0;
        assert_int_equal(cudaMalloc(&m->block[i], shift + bytes), cudaSuccess);
        m->host[i] = buffer->data;
        buffer->data = (char *)m->block[i] + shift;
        if (buffer->fill != LS_FILL_NOTHING && bytes > 0)
            assert_int_equal(cudaMemcpy(buffer->data, m->host[i], bytes, cudaMemcpyHostToDevice), cudaSuccess);
    }
}

static void move_out(moved *m, ls_case_run *run)
{
    for (int i = 0; i < run->buffers; i++) {
        ls_case_buffer *const buffer = &run->buffer[i];
        const size_t bytes = (size_t)buffer->count * element_bytes(buffer);
        if (buffer->written && bytes > 0)
            assert_int_equal(cudaMemcpy(m->host[i], buffer->data, bytes, cudaMemcpyDeviceToHost), cudaSuccess);
        buffer->data = m->host[i];
        assert_int_equal(cudaFree(m->block[i]), cudaSuccess);
    }
}

/* Runs the case and compares it with the reference; any report of the checker is a failure too. */
static void check_case(const ls_case *what, hostcuda_way *way, bool shifted, ls_exec *reference, int *failures)
{
    ls_exec exec = hostcuda_exec(way);
    ls_case_run got, want;
    ls_case_difference difference;
    moved m;
    assert_int_equal(ls_case_prepare(&want, what, reference, 5, LS_RUN_WIDE), LS_OK);
    ls_case_call(&want);
    assert_int_equal(ls_case_prepare(&got, what, &exec, 5, 0), LS_OK);
    move_in(&m, &got, shifted);
    ls_case_op_of(what->op)->call(&got);
    move_out(&m, &got);
    if (hostcuda_reports() > 0)
        report_failure(failures, "checker", what, hostcuda_first_report());
    else if (exec.status != LS_OK)
        report_failure(failures, "checker", what, ls_error_text());
    if (!ls_case_equal(&got, &want, &difference)) report_difference(failures, "checker", what, &difference);
    hostcuda_forget_reports();
    hostcuda_reset();
    ls_error_clear();
    ls_case_finish(&got);
    ls_case_finish(&want);
}

/* ---- misuse ------------------------------------------------------------------------------------------------------ */

/* The checker takes a microsecond an access: of each op and type, the cases below a size, every STRIDE-th of them, each
 * in another order. */
static bool chosen(const ls_case *what, int number, int stride)
{
    const double work = ls_case_flop(what) + ls_case_bytes(what);
    return !(what->options & LS_CASE_BENCHMARK) && (work < 2e4 || (number % stride == 0 && work < 4e6));
}

static void no_kernel_misuses_memory(void **state)
{
    static hostcuda_way orders[] = {
        {.schedule = HOSTCUDA_FIFO}, {.schedule = HOSTCUDA_REVERSE}, {.schedule = HOSTCUDA_RANDOM, .seed = 3}};
    ls_case_list list = all_cases();
    ls_exec reference = open_reference();
    int failures = 0, checked[LS_OP_COUNT] = {0};
    const char *const stride = getenv("HOSTCUDA_STRIDE"), *const only = getenv("HOSTCUDA_OP");
    (void)state;
    for (int i = 0; i < list.count; i++) {
        const ls_case *const what = &list.cases[i];
        if (only != NULL && strcmp(only, ls_op_names[what->op]) != 0) continue;
        if (!chosen(what, i, stride != NULL ? atoi(stride) : 5)) continue;
        hostcuda_set_preemption(i % 2 ? 30 : 0);
        check_case(what, &orders[i % 3], i % 4 == 3, &reference, &failures);
        checked[what->op]++;
    }
    hostcuda_set_preemption(0);
    for (int op = 0; op < (int)LS_OP_COUNT && only == NULL; op++)
        if (checked[op] < 5) fail_msg("%s was checked in %d cases", ls_op_names[op], checked[op]);
    ls_exec_destroy(&reference);
    ls_case_list_free(&list);
    assert_int_equal(failures, 0);
}

/* ---- traffic ----------------------------------------------------------------------------------------------------- */

static const ls_case MEMORY_BOUND[] = {
    {.op = LS_OP_bias_add, .R = 64, .N = 1024},
    {.op = LS_OP_bias_backward, .R = 128, .N = 1024},
    {.op = LS_OP_embedding_forward, .R = 16, .V = 97, .C = 1024},
    {.op = LS_OP_embedding_backward, .R = 96, .V = 40, .C = 1024},
    {.op = LS_OP_rmsnorm_forward, .B = 1, .n = 1, .T = 10240, .C = 256},
    {.op = LS_OP_rmsnorm_backward, .B = 5, .n = 4, .T = 16, .C = 1024, .options = LS_CASE_DROPPED},
    {.op = LS_OP_residual_add, .B = 5, .n = 4, .T = 16, .C = 512, .options = LS_CASE_DROPPED},
    {.op = LS_OP_residual_add_rmsnorm, .B = 25, .n = 20, .T = 512, .C = 256, .options = LS_CASE_DROPPED},
    {.op = LS_OP_gather_cast, .B = 5, .n = 4, .T = 16, .C = 512, .options = LS_CASE_DROPPED},
    {.op = LS_OP_rope, .B = 2, .n = 2, .T = 16, .H = 28, .G = 4, .D = 64},
    {.op = LS_OP_rope_append, .start = 5, .R = 128, .H = 14, .G = 2, .D = 64, .capacity = 140},
    {.op = LS_OP_swiglu_forward, .R = 16, .F = 2048},
    {.op = LS_OP_swiglu_backward, .R = 16, .F = 2048},
    {.op = LS_OP_cross_entropy, .R = 6, .V = 8192},
    {.op = LS_OP_adamw, .count = 65536},
    {.op = LS_OP_sum_of_squares, .count = 65536},
    {.op = LS_OP_row_sums, .R = 8, .N = 8192},
    {.op = LS_OP_convert, .count = 65536, .out_dtype = LS_BF16},
    {.op = LS_OP_matmul_rows, .R = 1, .N = 8192, .K = 512},
    {.op = LS_OP_attention_cached, .start = 639, .R = 1, .H = 8, .G = 2, .D = 128, .capacity = 700},
};

static void check_traffic(ls_case what, ls_exec *reference, int *failures)
{
    static hostcuda_way way = {.schedule = HOSTCUDA_RANDOM, .seed = 3};
    hostcuda_forget_traffic();
    hostcuda_count_traffic(1);
    check_case(&what, &way, false, reference, failures);
    hostcuda_count_traffic(0);
    const hostcuda_traffic all = hostcuda_traffic_of("");
    const double moved_share = (double)all.sectors * 32.0 / ls_case_bytes(&what);
    char name[160];
    ls_case_name(&what, name, sizeof name);
    print_message("%-62s %.3f of its operands' sectors, %llu bank conflicts in %llu shared requests\n", name,
                  moved_share, (unsigned long long)(all.shared_waves - all.shared_requests),
                  (unsigned long long)all.shared_requests);
    if (getenv("HOSTCUDA_TRAFFIC") != NULL) hostcuda_print_traffic();
    if (!(moved_share <= 1.1)) report_failure(failures, "traffic", &what, "moves more than 1.1 times its operands");
    if (!(moved_share >= 0.7)) /* rows without a target are not read */
        report_failure(failures, "traffic", &what, "moves too little to be counted right");
    if (all.shared_waves != all.shared_requests) report_failure(failures, "traffic", &what, "has bank conflicts");
}

static void memory_bound_kernels_move_what_they_must(void **state)
{
    ls_exec reference = open_reference();
    int failures = 0;
    (void)state;
    if (getenv("HOSTCUDA_OP") != NULL) skip();
    for (size_t i = 0; i < sizeof MEMORY_BOUND / sizeof MEMORY_BOUND[0]; i++)
        for (int type = 0; type < 2; type++) {
            ls_case what = MEMORY_BOUND[i];
            const bool fp32_only =
                what.op == LS_OP_embedding_backward || what.op == LS_OP_sum_of_squares || what.op == LS_OP_row_sums;
            if (type == 1 && (fp32_only || what.op == LS_OP_convert)) continue;
            what.dtype = type == 0 ? LS_F32 : LS_BF16;
            if (what.op != LS_OP_convert) what.out_dtype = what.dtype;
            check_traffic(what, &reference, &failures);
        }
    ls_exec_destroy(&reference);
    assert_int_equal(failures, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_kernel_misuses_memory),
        cmocka_unit_test(memory_bound_kernels_move_what_they_must),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
