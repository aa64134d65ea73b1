/* Devices, threads, memory, refusals. */
#include "kernel_check.h"

#include <omp.h>
#include <sched.h>
#include <stdlib.h>

static void devices_have_names_and_tables(void **state)
{
    (void)state;
    assert_string_equal(ls_device_names[LS_DEVICE_REFERENCE], "reference");
    assert_string_equal(ls_device_names[LS_DEVICE_CPU], "cpu");
    assert_string_equal(ls_device_names[LS_DEVICE_CUDA], "cuda");
    assert_null(ls_device_names[3]);
    for (int device = 0; device < 2; device++) {
        ls_exec exec;
        assert_int_equal(ls_exec_create(&exec, (ls_device)device, 1), LS_OK);
        assert_int_equal(exec.device, device);
#define ASSERT_THERE(op) assert_non_null(exec.ops->op);
        LS_OP_LIST(ASSERT_THERE)
#undef ASSERT_THERE
        assert_non_null(strstr(ls_exec_describe(&exec), "1 thread"));
        assert_int_equal(ls_exec_status(&exec), LS_OK);
        ls_exec_destroy(&exec);
        assert_null(exec.ops);
    }
}

static void reference_has_no_fast_bf16(void **state)
{
    (void)state;
    ls_exec exec = open_reference();
    assert_false(ls_exec_has_fast_bf16(&exec));
    ls_exec_destroy(&exec);
}

static void threads_follow_the_request_and_the_affinity(void **state)
{
    (void)state;
    ls_exec exec;
    cpu_set_t all, one;
    assert_int_equal(ls_exec_create(&exec, LS_DEVICE_REFERENCE, 3), LS_OK);
    assert_int_equal(exec.threads, 3);
    assert_int_equal(omp_get_max_threads(), 3);
    ls_exec_destroy(&exec);

    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    assert_int_equal(ls_exec_create(&exec, LS_DEVICE_REFERENCE, 0), LS_OK);
    assert_int_equal(exec.threads, CPU_COUNT(&all));
    ls_exec_destroy(&exec);

    size_t first = 0;
    while (!CPU_ISSET(first, &all)) first++;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(ls_exec_create(&exec, LS_DEVICE_REFERENCE, 0), LS_OK);
    assert_int_equal(exec.threads, 1);
    ls_exec_destroy(&exec);
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
}

static void bad_requests_are_refused(void **state)
{
    (void)state;
    ls_exec exec;
    assert_int_equal(ls_exec_create(&exec, LS_DEVICE_REFERENCE, -1), LS_BAD_INPUT);
    assert_non_null(strstr(ls_error_text(), "threads"));
    ls_error_clear();
    assert_int_equal(ls_exec_create(&exec, LS_DEVICE_REFERENCE, 1000000), LS_BAD_INPUT);
    ls_error_clear();
    assert_int_equal(ls_exec_create(&exec, (ls_device)17, 1), LS_UNSUPPORTED);
    ls_error_clear();
    ls_exec_destroy(&exec); /* after a refusal too */
}

static void memory_comes_zeroed(void **state)
{
    (void)state;
    ls_exec exec = open_reference();
    void *block;
    assert_int_equal(ls_exec_allocate(&exec, &block, 100003, "a test"), LS_OK);
    for (int i = 0; i < 100003; i++) assert_int_equal(((unsigned char *)block)[i], 0);
    ls_exec_free(&exec, block, 100003);
    ls_exec_free(&exec, NULL, 0);
    assert_int_equal(ls_exec_allocate(&exec, &block, SIZE_MAX / 2, "a far too large block"), LS_NO_MEMORY);
    assert_null(block);
    assert_non_null(strstr(ls_error_text(), "a far too large block"));
    ls_error_clear();
    ls_exec_destroy(&exec);
}

/* A variant can be asked for by name; one that is unknown or beyond the processor leaves the best. */
static void variants_can_be_named(void **state)
{
    (void)state;
    ls_exec best, asked;
    ways all;
    open_ways(&all, 1);
    assert_true(all.count >= 1);
    assert_int_equal(ls_exec_create(&best, LS_DEVICE_CPU, 1), LS_OK);
    assert_ptr_equal(best.ops, all.exec[all.count - 1].ops);
    assert_int_equal(setenv("LAYERSKIP_CPU_VARIANT", "imaginary", 1), 0);
    assert_int_equal(ls_exec_create(&asked, LS_DEVICE_CPU, 1), LS_OK);
    assert_ptr_equal(asked.ops, best.ops);
    assert_int_equal(unsetenv("LAYERSKIP_CPU_VARIANT"), 0);
    ls_exec_destroy(&asked);
    ls_exec_destroy(&best);
    close_ways(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(devices_have_names_and_tables),
        cmocka_unit_test(reference_has_no_fast_bf16),
        cmocka_unit_test(threads_follow_the_request_and_the_affinity),
        cmocka_unit_test(bad_requests_are_refused),
        cmocka_unit_test(memory_comes_zeroed),
        cmocka_unit_test(variants_can_be_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
