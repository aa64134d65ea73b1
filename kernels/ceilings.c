/* See ceilings.h. */
#include "kernels/ceilings.h"

#include "core/clock.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#define SHAPES 3
static const int64_t processor_shapes[SHAPES][3] = {{2048, 2048, 2048}, {4096, 1024, 1024}, {4096, 4096, 512}};
/* Half a millisecond and more on an H100, so that starting them costs nothing. */
static const int64_t gpu_shapes[SHAPES][3] = {{8192, 8192, 8192}, {8192, 8192, 4096}, {16384, 4096, 8192}};

struct ls_matmul_probe {
    ls_exec *exec;
    ls_dtype dtype;
    const int64_t (*shapes)[3]; /* M, N, K */
    unsigned char *block;       /* a, b, out, each as large as the largest of them */
    size_t piece;               /* bytes of each */
    int shape;
    double best;
};

static double run_shape(ls_matmul_probe *probe, int shape)
{
    const int64_t M = probe->shapes[shape][0], N = probe->shapes[shape][1], K = probe->shapes[shape][2];
    const double begin = ls_seconds_now();
    probe->exec->ops->matmul(probe->exec, probe->block + 2 * probe->piece, probe->dtype, probe->block,
                             probe->block + probe->piece, probe->dtype, M, N, K, LS_TRANSPOSE_B);
    (void)ls_exec_status(probe->exec);
    const double speed = 2.0 * (double)M * (double)N * (double)K / (ls_seconds_now() - begin);
    if (speed > probe->best) probe->best = speed;
    return speed;
}

static int64_t largest_matrix(const int64_t shapes[SHAPES][3])
{
    int64_t largest = 0;
    for (int i = 0; i < SHAPES; i++)
        for (int k = 0; k < 3; k++) {
            const int64_t elements = shapes[i][k] * shapes[i][(k + 1) % 3];
            if (elements > largest) largest = elements;
        }
    return largest;
}

static void choose_shape(ls_matmul_probe *probe)
{
    double fastest = 0.0;
    for (int shape = 0; shape < SHAPES; shape++) {
        (void)run_shape(probe, shape); /* makes the plan, touches the memory */
        for (int repeat = 0; repeat < 4; repeat++) {
            const double speed = run_shape(probe, shape);
            if (speed > fastest) {
                fastest = speed;
                probe->shape = shape;
            }
        }
    }
}

/* 0.0115 in either type: zero pages would all be one page in the cache. */
static ls_status fill_inputs(const ls_matmul_probe *probe)
{
    enum { PIECE = 1 << 20 };
    unsigned char *values = malloc(PIECE);
    if (values == NULL) return LS_FAIL(LS_NO_MEMORY, "out of memory");
    memset(values, 0x3c, PIECE);
    ls_status status = LS_OK;
    for (size_t at = 0; at < 2 * probe->piece && status == LS_OK; at += PIECE)
        status = ls_exec_upload(probe->exec, probe->block + at, values, PIECE);
    free(values);
    return status;
}

ls_status ls_matmul_probe_create(ls_matmul_probe **out, ls_exec *exec, ls_dtype dtype)
{
    *out = NULL;
    ls_matmul_probe *probe = calloc(1, sizeof *probe);
    if (probe == NULL) return LS_FAIL(LS_NO_MEMORY, "out of memory");
    probe->exec = exec;
    probe->dtype = dtype;
    probe->shapes = exec->device == LS_DEVICE_CUDA ? gpu_shapes : processor_shapes;
    probe->piece = (size_t)largest_matrix(probe->shapes) * ls_dtype_size(dtype);
    void *block = NULL;
    const ls_status status = ls_exec_allocate(exec, &block, 3 * probe->piece, "measuring the best matrix product");
    if (status != LS_OK) {
        free(probe);
        return status;
    }
    probe->block = block;
    const ls_status filled = fill_inputs(probe);
    if (filled != LS_OK) {
        ls_matmul_probe_destroy(probe);
        return filled;
    }
    choose_shape(probe);
    *out = probe;
    return ls_exec_status(exec);
}

void ls_matmul_probe_destroy(ls_matmul_probe *probe)
{
    if (probe == NULL) return;
    ls_exec_free(probe->exec, probe->block, 3 * probe->piece);
    free(probe);
}

double ls_matmul_probe_run(ls_matmul_probe *probe) { return run_shape(probe, probe->shape); }

double ls_matmul_probe_best(const ls_matmul_probe *probe) { return probe->best; }

typedef uint64_t words __attribute__((vector_size(64), aligned(64)));

static uint64_t read_part(const words *from, size_t count)
{
    words a = {0}, b = {0}, c = {0}, d = {0};
    size_t i = 0;
    for (; i + 4 <= count; i += 4) {
        a ^= from[i];
        b ^= from[i + 1];
        c ^= from[i + 2];
        d ^= from[i + 3];
    }
    a ^= b ^ c ^ d;
    return a[0] ^ a[1] ^ a[2] ^ a[3] ^ a[4] ^ a[5] ^ a[6] ^ a[7];
}

double ls_read_bandwidth(const ls_exec *exec, const void *block, size_t bytes)
{
    const int threads = exec->threads;
    const size_t part = bytes / sizeof(words) / (size_t)threads;
    uint64_t total = 0;
    const double begin = ls_seconds_now();
#pragma omp parallel num_threads(threads) reduction(^ : total)
    total ^= read_part((const words *)block + part * (size_t)omp_get_thread_num(), part);
    const double seconds = ls_seconds_now() - begin;
    static volatile uint64_t keep; /* so that the reads are not dropped */
    keep = total;
    (void)keep;
    return (double)(part * (size_t)threads * sizeof(words)) / seconds;
}

double ls_copy_bandwidth(ls_exec *exec, void *block, size_t bytes)
{
    enum { COPIES = 8 }; /* at a time, so that starting them costs nothing */
    const size_t half = bytes / 2;
    unsigned char *first = block;
    (void)ls_exec_status(exec);
    const double begin = ls_seconds_now();
    for (int i = 0; i < COPIES; i++) (void)ls_exec_copy(exec, first + half, first, half);
    (void)ls_exec_status(exec);
    return 2.0 * (double)half * COPIES / (ls_seconds_now() - begin);
}
