/* Signals that arrive in the middle of fp32 products: oneDNN's kernels point the stack register into their buffers, so
 * a handler that ran on their thread overwrote the heap (core/interrupt.h). */
#include "core/interrupt.h"
#include "kernels/exec.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

enum { M = 200, N = 172, K = 192, PRODUCTS = 300, STORM_MICROSECONDS = 100 };

static atomic_bool over;

/* A terminal that closes: the first asks, the others change nothing. */
static void *hang_up(void *argument)
{
    while (!atomic_load(&over)) {
        (void)kill(getpid(), SIGHUP);
        (void)usleep(STORM_MICROSECONDS);
    }
    return argument;
}

static void products_stay_whole(void **state)
{
    (void)state;
    static const unsigned forms[] = {0, LS_TRANSPOSE_A, LS_TRANSPOSE_B};
    static float a[M * K], b[K * N], first[M * N], out[M * N];
    ls_exec exec;
    pthread_t storm;
    assert_int_equal(ls_exec_create(&exec, LS_DEVICE_CPU, 1), LS_OK);
    for (int i = 0; i < M * K; i++) a[i] = (float)(i % 17) - 8.0f;
    for (int i = 0; i < K * N; i++) b[i] = (float)(i % 13) - 6.0f;
    ls_interrupt_install();
    assert_int_equal(pthread_create(&storm, NULL, hang_up, NULL), 0);
    for (size_t form = 0; form < sizeof forms / sizeof forms[0]; form++)
        for (int i = 0; i < PRODUCTS; i++) {
            exec.ops->matmul(&exec, i == 0 ? first : out, LS_F32, a, b, LS_F32, M, N, K, forms[form]);
            if (i > 0) assert_memory_equal(first, out, sizeof out);
        }
    atomic_store(&over, true);
    assert_int_equal(pthread_join(storm, NULL), 0);
    assert_int_equal(ls_interrupt_signal(), SIGHUP);
    ls_exec_destroy(&exec);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(products_stay_whole)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
