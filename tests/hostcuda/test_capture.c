/* The stand-in runtime's captures are as strict as the real one's: work is kept with its arguments and not run, calls
 * that a capture forbids fail and spoil it, replays run in the stream's turn. */
#include "kernels/cuda/launch.h"
#include "runtime.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { COUNT = 300, BYTES = COUNT * sizeof(float) };

typedef struct ground {
    cudaStream_t stream;
    float *x, *y, *pinned; /* [COUNT], the first two on the device */
} ground;

static int setup(void **state)
{
    static ground g;
    hostcuda_set_deferred(1, 1);
    assert_int_equal(cudaStreamCreateWithFlags(&g.stream, cudaStreamNonBlocking), cudaSuccess);
    assert_int_equal(cudaMalloc((void **)&g.x, BYTES), cudaSuccess);
    assert_int_equal(cudaMalloc((void **)&g.y, BYTES), cudaSuccess);
    assert_int_equal(cudaMallocHost((void **)&g.pinned, BYTES), cudaSuccess);
    *state = &g;
    return 0;
}

static int teardown(void **state)
{
    const ground *g = *state;
    const int freed = cudaFree(g->x) == cudaSuccess && cudaFree(g->y) == cudaSuccess &&
                      cudaFreeHost(g->pinned) == cudaSuccess && cudaStreamDestroy(g->stream) == cudaSuccess;
    hostcuda_forget_reports();
    return freed && hostcuda_live_allocations() == 0 ? 0 : 1;
}

static void begin(const ground *g)
{
    assert_int_equal(cudaStreamBeginCapture(g->stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
}

/* y = x, then y to the host. */
static void issue(const ground *g)
{
    assert_int_equal(ls_launch_convert(g->stream, g->y, LS_F32, g->x, LS_F32, COUNT), cudaSuccess);
    assert_int_equal(cudaMemcpyAsync(g->pinned, g->y, BYTES, cudaMemcpyDeviceToHost, g->stream), cudaSuccess);
}

static void set(const ground *g, float value)
{
    for (int i = 0; i < COUNT; i++) g->pinned[i] = value;
    assert_int_equal(cudaMemcpyAsync(g->x, g->pinned, BYTES, cudaMemcpyHostToDevice, g->stream), cudaSuccess);
    assert_int_equal(cudaStreamSynchronize(g->stream), cudaSuccess);
}

static void kept_and_not_run(void **state)
{
    const ground *g = *state;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    set(g, 1.0f);
    begin(g);
    issue(g);
    assert_int_equal(cudaStreamEndCapture(g->stream, &graph), cudaSuccess);
    assert_int_equal(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    assert_int_equal(cudaGraphDestroy(graph), cudaSuccess);
    for (int i = 2; i < 5; i++) {
        const size_t launches = hostcuda_graph_launches(), downloads = hostcuda_downloads();
        set(g, (float)i);
        for (int k = 0; k < COUNT; k++) g->pinned[k] = 0.0f;
        assert_int_equal(cudaGraphLaunch(exec, g->stream), cudaSuccess);
        assert_true(g->pinned[0] == 0.0f); /* nobody has waited */
        assert_int_equal(cudaStreamSynchronize(g->stream), cudaSuccess);
        for (int k = 0; k < COUNT; k++) assert_true(g->pinned[k] == (float)i);
        assert_int_equal(hostcuda_graph_launches() - launches, 1);
        assert_int_equal(hostcuda_downloads() - downloads, 1);
    }
    assert_int_equal(cudaGraphExecDestroy(exec), cudaSuccess);
    assert_int_equal(hostcuda_reports(), 0);
}

static void forbidden_calls_spoil_it(void **state)
{
    const ground *g = *state;
    float pageable[COUNT] = {0};
    cudaEvent_t event;
    assert_int_equal(cudaEventCreate(&event), cudaSuccess);
    for (int call = 0; call < 9; call++) {
        cudaGraph_t graph;
        void *block;
        cudaError_t status = cudaSuccess;
        begin(g);
        issue(g);
        if (call == 0) status = cudaStreamSynchronize(g->stream);
        if (call == 1) status = cudaDeviceSynchronize();
        if (call == 2) status = cudaMalloc(&block, BYTES);
        if (call == 3) status = cudaFree(g->x);
        if (call == 4) status = cudaMemcpy(g->x, g->pinned, BYTES, cudaMemcpyHostToDevice);
        if (call == 5) status = cudaMemcpyAsync(g->x, pageable, BYTES, cudaMemcpyHostToDevice, g->stream);
        if (call == 6) status = cudaMemcpyAsync(pageable, g->x, BYTES, cudaMemcpyDeviceToHost, g->stream);
        if (call == 7) status = cudaMemsetAsync(g->x, 0, BYTES, NULL);
        if (call == 8) status = cudaEventSynchronize(event);
        assert_int_equal(status, cudaErrorStreamCaptureUnsupported);
        assert_int_equal(hostcuda_reports(), 1);
        assert_int_equal(ls_launch_convert(g->stream, g->y, LS_F32, g->x, LS_F32, COUNT),
                         cudaErrorStreamCaptureInvalidated);
        assert_int_equal(cudaStreamEndCapture(g->stream, &graph), cudaErrorStreamCaptureInvalidated);
        assert_null(graph);
        hostcuda_forget_reports();
        set(g, 3.0f); /* the stream is of use again */
    }
    assert_int_equal(cudaEventDestroy(event), cudaSuccess);
    assert_int_not_equal(cudaStreamEndCapture(g->stream, &(cudaGraph_t){NULL}), cudaSuccess);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(kept_and_not_run, setup, teardown),
        cmocka_unit_test_setup_teardown(forbidden_calls_spoil_it, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
