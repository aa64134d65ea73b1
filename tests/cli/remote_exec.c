/* The program with memory that the host may not touch, as a device's is: linked in front of ls_exec_create_on.
 *
 * Whatever ls_exec_allocate gives lies in one region without any access, opened while an op or a copy runs. A host that
 * reads or writes it dies by SIGSEGV, and an op that is handed a pointer of the host's aborts. Memory comes filled with
 * zeros, as the contract says. The ops are the real exec's. */
#include "kernels/exec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define REGION ((size_t)64 << 30)
#define PAGE ((size_t)4096)

/* One exec at a time. */
static struct {
    unsigned char *base;
    size_t used;
    const ls_backend *ops;
    ls_backend guarded;
    unsigned long long calls;
} remote;

static void set_access(int protection)
{
    if (remote.used > 0 && mprotect(remote.base, remote.used, protection) != 0) abort();
}

static void open_memory(void)
{
    remote.calls++;
    set_access(PROT_READ | PROT_WRITE);
}

static void close_memory(void) { set_access(PROT_NONE); }

static void must_be_remote(const char *op, const void *const *pointers)
{
    for (int i = 0; pointers[i] != (const void *)&remote; i++) {
        const unsigned char *const at = pointers[i];
        if (at == NULL || (at >= remote.base && at < remote.base + remote.used)) continue;
        (void)fprintf(stderr, "%s: its pointer %d is memory of the host\n", op, i);
        abort();
    }
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

static ls_status allocate(ls_exec *exec, void **out, size_t bytes, const char *what)
{
    (void)exec;
    const size_t room = (bytes + PAGE) / PAGE * PAGE;
    if (room > REGION - remote.used) return LS_FAIL(LS_NO_MEMORY, "no memory for %s", what);
    *out = remote.base + remote.used;
    remote.used += room;
    return LS_OK;
}

static void release(ls_exec *exec, void *block, size_t bytes)
{
    (void)exec;
    if (madvise(block, bytes, MADV_DONTNEED) != 0) abort();
}

static ls_status copy(const void *device, size_t bytes, void *out, const void *in)
{
    must_be_remote("copy", (const void *const[]){bytes == 0 ? NULL : device, &remote});
    open_memory();
    if (bytes > 0) memcpy(out, in, bytes);
    close_memory();
    return LS_OK;
}

static ls_status upload(ls_exec *exec, void *device, const void *host, size_t bytes)
{
    (void)exec;
    return copy(device, bytes, device, host);
}

static ls_status download(ls_exec *exec, void *host, const void *device, size_t bytes)
{
    (void)exec;
    return copy(device, bytes, host, device);
}

static ls_status copy_within(ls_exec *exec, void *out, const void *in, size_t bytes)
{
    (void)exec;
    return copy(out, bytes, out, in);
}

static ls_status wait_for_ops(ls_exec *exec) { return exec->status; }

static const ls_exec_memory remote_memory = {.allocate = allocate,
                                             .release = release,
                                             .upload = upload,
                                             .download = download,
                                             .wait = wait_for_ops,
                                             .copy = copy_within};

/* ---- ops: WRAP(name, (parameters), (arguments), pointers...) -------------------------------------------------------
 */

#define WRAP(op, parameters, arguments, ...)                                                                           \
    static void op parameters                                                                                          \
    {                                                                                                                  \
        must_be_remote(#op, (const void *const[]){__VA_ARGS__, &remote});                                              \
        open_memory();                                                                                                 \
        remote.ops->op arguments;                                                                                      \
        close_memory();                                                                                                \
    }

WRAP(matmul,
     (ls_exec * e, void *out, ls_dtype out_dtype, const void *a, const void *b, ls_dtype dtype, int64_t M, int64_t N,
      int64_t K, unsigned flags),
     (e, out, out_dtype, a, b, dtype, M, N, K, flags), out, a, b)
WRAP(matmul_bias,
     (ls_exec * e, void *out, const void *a, const void *b, const void *bias, ls_dtype dtype, int64_t M, int64_t N,
      int64_t K, unsigned flags),
     (e, out, a, b, bias, dtype, M, N, K, flags), out, a, b, bias)
WRAP(matmul_rows,
     (ls_exec * e, void *out, ls_dtype out_dtype, const void *x, const void *weight, ls_dtype dtype, int64_t R,
      int64_t N, int64_t K),
     (e, out, out_dtype, x, weight, dtype, R, N, K), out, x, weight)
WRAP(bias_add, (ls_exec * e, void *x, const void *bias, ls_dtype dtype, int64_t R, int64_t N),
     (e, x, bias, dtype, R, N), x, bias)
WRAP(bias_backward, (ls_exec * e, float *dbias, const void *dout, ls_dtype dtype, int64_t R, int64_t N),
     (e, dbias, dout, dtype, R, N), dbias, dout)
WRAP(embedding_forward,
     (ls_exec * e, float *out, const int32_t *token, const void *weight, ls_dtype dtype, int64_t R, int64_t V,
      int64_t C),
     (e, out, token, weight, dtype, R, V, C), out, token, weight)
WRAP(embedding_backward,
     (ls_exec * e, float *dweight, const float *dout, const int32_t *token, int64_t R, int64_t V, int64_t C),
     (e, dweight, dout, token, R, V, C), dweight, dout, token)
WRAP(rmsnorm_forward,
     (ls_exec * e, void *out, float *rstd, const float *residual, const int32_t *slot, const void *weight,
      ls_dtype dtype, int64_t n, int64_t T, int64_t C, float epsilon),
     (e, out, rstd, residual, slot, weight, dtype, n, T, C, epsilon), out, rstd, residual, slot, weight)
WRAP(rmsnorm_backward,
     (ls_exec * e, float *dresidual, float *dweight, const void *dout, const float *residual, const int32_t *slot,
      const int32_t *sample, const float *rstd, const void *weight, ls_dtype dtype, int64_t n, int64_t T, int64_t C),
     (e, dresidual, dweight, dout, residual, slot, sample, rstd, weight, dtype, n, T, C), dresidual, dweight, dout,
     residual, slot, sample, rstd, weight)
WRAP(residual_add,
     (ls_exec * e, float *residual, const int32_t *out_slot, const int32_t *in_slot, const void *y, ls_dtype dtype,
      float scale, int64_t n, int64_t T, int64_t C),
     (e, residual, out_slot, in_slot, y, dtype, scale, n, T, C), residual, out_slot, in_slot, y)
WRAP(residual_add_rmsnorm,
     (ls_exec * e, float *residual, void *out, float *rstd, const int32_t *out_slot, const int32_t *in_slot,
      const void *y, const void *weight, ls_dtype dtype, float scale, int64_t n, int64_t T, int64_t C, float epsilon),
     (e, residual, out, rstd, out_slot, in_slot, y, weight, dtype, scale, n, T, C, epsilon), residual, out, rstd,
     out_slot, in_slot, y, weight)
WRAP(gather_cast,
     (ls_exec * e, void *out, const float *x, const int32_t *slot, ls_dtype dtype, float scale, int64_t n, int64_t T,
      int64_t C),
     (e, out, x, slot, dtype, scale, n, T, C), out, x, slot)
WRAP(rope,
     (ls_exec * e, void *qkv, const float *cos_table, const float *sin_table, const int32_t *position,
      const int32_t *sample, ls_dtype dtype, int inverse, int64_t n, int64_t T, int64_t H, int64_t G, int64_t D),
     (e, qkv, cos_table, sin_table, position, sample, dtype, inverse, n, T, H, G, D), qkv, cos_table, sin_table,
     position, sample)
WRAP(attention_forward,
     (ls_exec * e, void *out, float *lse, const void *qkv, const int32_t *first_key, const int32_t *sample,
      ls_dtype dtype, float scale, int64_t n, int64_t T, int64_t H, int64_t G, int64_t D),
     (e, out, lse, qkv, first_key, sample, dtype, scale, n, T, H, G, D), out, lse, qkv, first_key, sample)
WRAP(attention_backward,
     (ls_exec * e, void *dqkv, const void *dout, const void *qkv, const void *out, const float *lse,
      const int32_t *first_key, const int32_t *sample, ls_dtype dtype, float scale, int64_t n, int64_t T, int64_t H,
      int64_t G, int64_t D),
     (e, dqkv, dout, qkv, out, lse, first_key, sample, dtype, scale, n, T, H, G, D), dqkv, dout, qkv, out, lse,
     first_key, sample)
WRAP(rope_append,
     (ls_exec * e, void *qkv, void *key_cache, void *value_cache, const float *cos_table, const float *sin_table,
      ls_dtype dtype, const int32_t *base, int64_t start, int64_t R, int64_t H, int64_t G, int64_t D, int64_t capacity),
     (e, qkv, key_cache, value_cache, cos_table, sin_table, dtype, base, start, R, H, G, D, capacity), qkv, key_cache,
     value_cache, cos_table, sin_table, base)
WRAP(attention_cached,
     (ls_exec * e, void *out, const void *qkv, const void *key_cache, const void *value_cache, ls_dtype dtype,
      float scale, const int32_t *base, int64_t start, int64_t R, int64_t H, int64_t G, int64_t D, int64_t capacity),
     (e, out, qkv, key_cache, value_cache, dtype, scale, base, start, R, H, G, D, capacity), out, qkv, key_cache,
     value_cache, base)
WRAP(draft_token,
     (ls_exec * e, ls_round *round, double *q, const float *logits, const ls_sampling *sampling, double confidence,
      int32_t end_of_text, int64_t V),
     (e, round, q, logits, sampling, confidence, end_of_text, V), round, q, logits)
WRAP(accept_drafts,
     (ls_exec * e, ls_round *round, const double *q, const float *logits, const ls_sampling *sampling, int64_t first,
      int64_t R, int64_t V),
     (e, round, q, logits, sampling, first, R, V), round, q, logits)
WRAP(swiglu_forward, (ls_exec * e, void *out, const void *gate_up, ls_dtype dtype, int64_t R, int64_t F),
     (e, out, gate_up, dtype, R, F), out, gate_up)
WRAP(swiglu_backward,
     (ls_exec * e, void *dgate_up, void *out, const void *dout, const void *gate_up, ls_dtype dtype, int64_t R,
      int64_t F),
     (e, dgate_up, out, dout, gate_up, dtype, R, F), dgate_up, out, dout, gate_up)
WRAP(cross_entropy,
     (ls_exec * e, float *loss, void *logits, const int32_t *target, ls_dtype dtype, float gradient_scale, int64_t R,
      int64_t V),
     (e, loss, logits, target, dtype, gradient_scale, R, V), loss, logits, target)
WRAP(adamw,
     (ls_exec * e, float *weight, float *m, float *v, float *gradient, void *weight_out, ls_dtype dtype,
      const ls_adamw_step *step, int64_t count),
     (e, weight, m, v, gradient, weight_out, dtype, step, count), weight, m, v, gradient, weight_out)
WRAP(sum_of_squares, (ls_exec * e, double *out, const float *x, int64_t count), (e, out, x, count), out, x)
WRAP(row_sums, (ls_exec * e, double *out, const float *x, int64_t R, int64_t N), (e, out, x, R, N), out, x)
WRAP(convert, (ls_exec * e, void *out, ls_dtype out_dtype, const void *x, ls_dtype dtype, int64_t count),
     (e, out, out_dtype, x, dtype, count), out, x)

/* ---- the exec ---------------------------------------------------------------------------------------------------- */

/* The linker's names (--wrap): the first takes the place of ls_exec_create_on, the second is the real one. */
ls_status __wrap_ls_exec_create_on(ls_exec *out, ls_device device, int index, int threads);
ls_status __real_ls_exec_create_on(ls_exec *out, ls_device device, int index, int threads);

ls_status __wrap_ls_exec_create_on(ls_exec *out, ls_device device, int index, int threads)
{
    LS_TRY(__real_ls_exec_create_on(out, device, index, threads));
    if (remote.base == NULL) {
        remote.base = mmap(NULL, REGION, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (remote.base == MAP_FAILED) abort();
    }
    remote.ops = out->ops;
    remote.guarded = (ls_backend){.name = out->ops->name,
#define REMOTE_OP(op) .op = op,
                                  LS_OP_LIST(REMOTE_OP)
#undef REMOTE_OP
    };
    out->ops = &remote.guarded;
    out->memory = &remote_memory;
    return LS_OK;
}

/* So that a test sees that the program did run on this memory. */
__attribute__((destructor)) static void report(void)
{
    if (remote.calls > 0) (void)fprintf(stderr, "remote memory opened %llu times\n", remote.calls);
}
