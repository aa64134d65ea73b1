/* Matrix products on the CPU: oneDNN behind one function.
 *
 * The result is cut into tiles by its shape alone, and each tile is one single-threaded oneDNN product; threads take
 * tiles. So the order of every sum is fixed by the shape, and results do not depend on the number of threads, which
 * oneDNN's own threading does not promise. It is faster too: 990 against 880 GFLOP/s (bf16, 4096x960x576, 2 cores).
 * A product's plan is made once and kept for the life of the exec. Only this file knows oneDNN. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/variant.h"

#include <oneapi/dnnl/dnnl.h>
#include <omp.h>
#include <stdlib.h>

#define BIAS 0x100u /* beside the flags of a product: it has one */

typedef struct plan_key {
    int64_t M, N, K;    /* of the whole product */
    int64_t rows, cols; /* of the tile */
    int out_dtype, dtype;
    unsigned flags;
} plan_key;

typedef struct plan {
    plan_key key;
    dnnl_primitive_t primitive;
    dnnl_memory_desc_t a, b, out, bias;
    size_t scratch_bytes;
    struct plan *next;
} plan;

#define PLAN_BUCKETS 1024

typedef struct thread_scratch {
    void *block;
    size_t bytes;
    char pad[48]; /* a cache line a thread */
} thread_scratch;

typedef struct cpu_state {
    dnnl_engine_t engine;
    plan *plans[PLAN_BUCKETS];
    int threads;
    thread_scratch scratch[];
} cpu_state;

static ls_status check(dnnl_status_t result, const char *what)
{
    if (result == dnnl_success) return LS_OK;
    if (result == dnnl_out_of_memory) return LS_FAIL(LS_NO_MEMORY, "out of memory in a matrix product (%s)", what);
    return LS_FAIL(LS_INTERNAL, "oneDNN refused a matrix product (%s, status %d)", what, (int)result);
}

static cpu_state *state_of(ls_exec *exec)
{
    if (exec->state != NULL) return exec->state;
    cpu_state *state = calloc(1, sizeof *state + sizeof(thread_scratch) * (size_t)exec->threads);
    if (state == NULL) {
        exec->status = LS_FAIL(LS_NO_MEMORY, "out of memory for the CPU backend");
        return NULL;
    }
    state->threads = exec->threads;
    const ls_status status = check(dnnl_engine_create(&state->engine, dnnl_cpu, 0), "engine");
    if (status != LS_OK) {
        exec->status = status;
        free(state);
        return NULL;
    }
    exec->state = state;
    return state;
}

void ls_cpu_state_destroy(ls_exec *exec)
{
    cpu_state *state = exec->state;
    if (state == NULL) return;
    for (int i = 0; i < PLAN_BUCKETS; i++)
        for (plan *entry = state->plans[i]; entry != NULL;) {
            plan *next = entry->next;
            (void)dnnl_primitive_destroy(entry->primitive);
            free(entry);
            entry = next;
        }
    for (int i = 0; i < state->threads; i++) ls_memory_unmap(state->scratch[i].block, state->scratch[i].bytes);
    (void)dnnl_engine_destroy(state->engine);
    free(state);
    exec->state = NULL;
}

void *ls_cpu_scratch(ls_exec *exec, int thread, size_t bytes)
{
    cpu_state *state = state_of(exec);
    if (state == NULL) return NULL;
    thread_scratch *mine = &state->scratch[thread];
    if (mine->bytes >= bytes) return mine->block;
    ls_memory_unmap(mine->block, mine->bytes);
    mine->bytes = 0;
    const ls_status status = ls_memory_map(&mine->block, bytes, "a kernel's scratch memory");
    if (status != LS_OK) {
#pragma omp critical(ls_cpu_status)
        exec->status = status;
        return NULL;
    }
    mine->bytes = bytes;
    return mine->block;
}

typedef struct product {
    plan *whole, *right, *bottom, *corner; /* plans of full tiles and of those cut by the edges */
    int64_t M, N, K, rows, cols, tiles_down, tiles_across;
    size_t a_element, out_element;
    unsigned flags;
    const unsigned char *a, *b, *bias; /* bias NULL: none */
    unsigned char *out;
} product;

static int64_t divide_up(int64_t x, int64_t y) { return (x + y - 1) / y; }

/* Measured over the shapes of a 135M and an 8-layer model (2 cores, AVX-512 bf16): bands of about 256 rows across the
 * whole width are fastest (1,000 GFLOP/s; the output band is dense), narrower tiles lose 5 to 10 %. Fewer than four
 * tiles, or a small odd number of them, leave threads waiting and lose more. */
static void choose_tiles(product *p)
{
    const int64_t enough = 4, many = 8, height = 256, width = 4096, narrowest = 128, unit = 64;
    int64_t down = divide_up(p->M, height);
    if (down > 1 && down < many && down % 2 == 1) down--;
    int64_t across = divide_up(p->N, width);
    if (down * across < enough) across = divide_up(enough, down);
    if (across > divide_up(p->N, narrowest)) across = divide_up(p->N, narrowest);
    p->rows = divide_up(divide_up(p->M, down), unit) * unit;
    p->cols = divide_up(divide_up(p->N, across), unit) * unit;
    p->tiles_down = divide_up(p->M, p->rows);
    p->tiles_across = divide_up(p->N, p->cols);
}

static size_t bucket_of(const plan_key *key)
{
    const uint64_t parts[] = {(uint64_t)key->M,     (uint64_t)key->N,    (uint64_t)key->K,
                              (uint64_t)key->rows,  (uint64_t)key->cols, (uint64_t)key->out_dtype,
                              (uint64_t)key->dtype, (uint64_t)key->flags};
    uint64_t hash = 1469598103934665603u;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) hash = (hash ^ parts[i]) * 1099511628211u;
    return (size_t)(hash >> 32) % PLAN_BUCKETS;
}

static bool same_key(const plan_key *x, const plan_key *y)
{
    return x->M == y->M && x->N == y->N && x->K == y->K && x->rows == y->rows && x->cols == y->cols &&
           x->out_dtype == y->out_dtype && x->dtype == y->dtype && x->flags == y->flags;
}

static dnnl_data_type_t type_of(int dtype) { return dtype == LS_F32 ? dnnl_f32 : dnnl_bf16; }

static ls_status describe(plan *entry, dnnl_matmul_desc_t *description)
{
    const plan_key *key = &entry->key;
    const dnnl_dims_t a_size = {key->rows, key->K}, b_size = {key->K, key->cols}, out_size = {key->rows, key->cols};
    const bool ta = key->flags & LS_TRANSPOSE_A, tb = key->flags & LS_TRANSPOSE_B;
    const dnnl_dims_t a_stride = {ta ? 1 : key->K, ta ? key->M : 1}, b_stride = {tb ? 1 : key->N, tb ? key->K : 1},
                      out_stride = {key->N, 1};
    LS_TRY(check(dnnl_memory_desc_init_by_strides(&entry->a, 2, a_size, type_of(key->dtype), a_stride), "a"));
    LS_TRY(check(dnnl_memory_desc_init_by_strides(&entry->b, 2, b_size, type_of(key->dtype), b_stride), "b"));
    LS_TRY(
        check(dnnl_memory_desc_init_by_strides(&entry->out, 2, out_size, type_of(key->out_dtype), out_stride), "out"));
    if (!(key->flags & BIAS))
        return check(dnnl_matmul_desc_init(description, &entry->a, &entry->b, NULL, &entry->out), "description");
    const dnnl_dims_t bias_size = {1, key->cols}, bias_stride = {key->cols, 1};
    LS_TRY(
        check(dnnl_memory_desc_init_by_strides(&entry->bias, 2, bias_size, type_of(key->dtype), bias_stride), "bias"));
    return check(dnnl_matmul_desc_init(description, &entry->a, &entry->b, &entry->bias, &entry->out), "description");
}

static ls_status make_primitive(cpu_state *state, plan *entry)
{
    dnnl_matmul_desc_t description;
    LS_TRY(describe(entry, &description));
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_post_ops_t after = NULL;
    dnnl_primitive_desc_t chosen = NULL;
    ls_status status = check(dnnl_primitive_attr_create(&attributes), "attributes");
    if (status != LS_OK) return status;
    LS_TRY_GOTO(check(dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user), "scratch"), done);
    if (entry->key.flags & LS_ACCUMULATE) {
        LS_TRY_GOTO(check(dnnl_post_ops_create(&after), "sum"), done);
        LS_TRY_GOTO(check(dnnl_post_ops_append_sum(after, 1.0f), "sum"), done);
        LS_TRY_GOTO(check(dnnl_primitive_attr_set_post_ops(attributes, after), "sum"), done);
    }
    LS_TRY_GOTO(check(dnnl_primitive_desc_create(&chosen, &description, attributes, state->engine, NULL), "plan"),
                done);
    entry->scratch_bytes = dnnl_memory_desc_get_size(dnnl_primitive_desc_query_md(chosen, dnnl_query_scratchpad_md, 0));
    LS_TRY_GOTO(check(dnnl_primitive_create(&entry->primitive, chosen), "primitive"), done);
done:
    if (chosen != NULL) (void)dnnl_primitive_desc_destroy(chosen);
    if (after != NULL) (void)dnnl_post_ops_destroy(after);
    (void)dnnl_primitive_attr_destroy(attributes);
    return status;
}

/* The kept plan for a tile of rows x cols; makes it on first use (called outside of parallel regions). */
static plan *plan_for(ls_exec *exec, cpu_state *state, const plan_key *key)
{
    plan **bucket = &state->plans[bucket_of(key)];
    for (plan *entry = *bucket; entry != NULL; entry = entry->next)
        if (same_key(&entry->key, key)) return entry;
    plan *entry = calloc(1, sizeof *entry);
    if (entry == NULL) {
        exec->status = LS_FAIL(LS_NO_MEMORY, "out of memory for a matrix product's plan");
        return NULL;
    }
    entry->key = *key;
    const int threads = omp_get_max_threads();
    omp_set_num_threads(1); /* oneDNN plans for the threads it sees: a tile has one */
    const ls_status status = make_primitive(state, entry);
    omp_set_num_threads(threads);
    if (status != LS_OK) {
        exec->status = status;
        free(entry);
        return NULL;
    }
    entry->next = *bucket;
    *bucket = entry;
    return entry;
}

static ls_status run_tile(const cpu_state *state, const plan *entry, dnnl_stream_t stream, const void *a, const void *b,
                          const void *bias, void *out, void *scratch)
{
    dnnl_memory_t memory[5] = {NULL, NULL, NULL, NULL, NULL};
    const int count = bias == NULL ? 4 : 5;
    dnnl_memory_desc_t scratch_desc;
    const dnnl_dims_t scratch_size = {(int64_t)entry->scratch_bytes};
    ls_status status = check(dnnl_memory_desc_init_by_tag(&scratch_desc, 1, scratch_size, dnnl_u8, dnnl_a), "scratch");
    if (status != LS_OK) return status;
    LS_TRY_GOTO(check(dnnl_memory_create(&memory[0], &entry->a, state->engine, (void *)(uintptr_t)a), "a"), done);
    LS_TRY_GOTO(check(dnnl_memory_create(&memory[1], &entry->b, state->engine, (void *)(uintptr_t)b), "b"), done);
    LS_TRY_GOTO(check(dnnl_memory_create(&memory[2], &entry->out, state->engine, out), "out"), done);
    LS_TRY_GOTO(check(dnnl_memory_create(&memory[3], &scratch_desc, state->engine, scratch), "scratch"), done);
    if (bias != NULL)
        LS_TRY_GOTO(check(dnnl_memory_create(&memory[4], &entry->bias, state->engine, (void *)(uintptr_t)bias), "bias"),
                    done);
    const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, memory[0]},
                                         {DNNL_ARG_WEIGHTS, memory[1]},
                                         {DNNL_ARG_DST, memory[2]},
                                         {DNNL_ARG_SCRATCHPAD, memory[3]},
                                         {DNNL_ARG_BIAS, memory[4]}};
    LS_TRY_GOTO(check(dnnl_primitive_execute(entry->primitive, stream, count, arguments), "execute"), done);
done:
    for (int i = 0; i < count; i++)
        if (memory[i] != NULL) (void)dnnl_memory_destroy(memory[i]);
    return status;
}

static ls_status run_one(ls_exec *exec, const cpu_state *state, const product *p, dnnl_stream_t stream, int64_t tile)
{
    const int64_t row = tile / p->tiles_across * p->rows, col = tile % p->tiles_across * p->cols;
    const bool cut_down = row + p->rows > p->M, cut_across = col + p->cols > p->N;
    const plan *entry = cut_down ? (cut_across ? p->corner : p->bottom) : (cut_across ? p->right : p->whole);
    const size_t a_offset = (size_t)(p->flags & LS_TRANSPOSE_A ? row : row * p->K) * p->a_element;
    const size_t b_offset = (size_t)(p->flags & LS_TRANSPOSE_B ? col * p->K : col) * p->a_element;
    void *scratch = ls_cpu_scratch(exec, omp_get_thread_num(), entry->scratch_bytes + 1);
    if (scratch == NULL) return LS_NO_MEMORY;
    const void *bias = p->bias == NULL ? NULL : p->bias + (size_t)col * p->a_element;
    return run_tile(state, entry, stream, p->a + a_offset, p->b + b_offset, bias,
                    p->out + (size_t)(row * p->N + col) * p->out_element, scratch);
}

static void run_tiles(ls_exec *exec, const cpu_state *state, const product *p, int threads)
{
    ls_status first = LS_OK;
#pragma omp parallel num_threads(threads)
    {
        dnnl_stream_t stream = NULL;
        ls_status status = check(dnnl_stream_create(&stream, state->engine, dnnl_stream_default_flags), "stream");
#pragma omp for schedule(dynamic, 1)
        for (int64_t tile = 0; tile < p->tiles_down * p->tiles_across; tile++)
            if (status == LS_OK) status = run_one(exec, state, p, stream, tile);
        if (stream != NULL) (void)dnnl_stream_destroy(stream);
        if (status != LS_OK) {
#pragma omp critical(ls_cpu_status)
            first = status;
        }
    }
    if (first != LS_OK) exec->status = first;
}

/* The product of nothing: zeros, or the bias, of the type of out then. */
static void store_empty_sums(void *out, ls_dtype out_dtype, const void *bias, int64_t M, int64_t N)
{
    const size_t row = (size_t)N * ls_dtype_size(out_dtype);
    if (bias == NULL) memset(out, 0, (size_t)M * row);
    for (int64_t m = 0; bias != NULL && m < M; m++) memcpy((unsigned char *)out + (size_t)m * row, bias, row);
}

/* bias NULL: none. */
static void multiply(ls_exec *exec, void *out, ls_dtype out_dtype, const void *a, const void *b, const void *bias,
                     ls_dtype dtype, int64_t M, int64_t N, int64_t K, unsigned flags)
{
    if (exec->status != LS_OK || M == 0 || N == 0) return;
    if (K == 0) {
        if (!(flags & LS_ACCUMULATE)) store_empty_sums(out, out_dtype, bias, M, N);
        return;
    }
    cpu_state *state = state_of(exec);
    if (state == NULL) return;
    product p = {.M = M, .N = N, .K = K, .flags = flags, .a = a, .b = b, .bias = bias, .out = out};
    p.a_element = ls_dtype_size(dtype);
    p.out_element = ls_dtype_size(out_dtype);
    choose_tiles(&p);
    const int64_t last_rows = M - (p.tiles_down - 1) * p.rows, last_cols = N - (p.tiles_across - 1) * p.cols;
    plan_key key = {M, N, K, p.rows, p.cols, (int)out_dtype, (int)dtype, flags | (bias == NULL ? 0u : BIAS)};
    const int64_t sizes[4][2] = {{p.rows, p.cols}, {p.rows, last_cols}, {last_rows, p.cols}, {last_rows, last_cols}};
    plan **slots[4] = {&p.whole, &p.right, &p.bottom, &p.corner};
    for (int i = 0; i < 4; i++) {
        key.rows = sizes[i][0] < M ? sizes[i][0] : M;
        key.cols = sizes[i][1] < N ? sizes[i][1] : N;
        *slots[i] = plan_for(exec, state, &key);
        if (*slots[i] == NULL) return;
    }
    const int threads = exec->threads;
    const int visible = omp_get_max_threads();
    if (threads == 1) omp_set_num_threads(1); /* a team of one is no parallel region to oneDNN */
    run_tiles(exec, state, &p, threads);
    if (threads == 1) omp_set_num_threads(visible);
}

void ls_matmul_cpu(ls_exec *exec, void *out, ls_dtype out_dtype, const void *a, const void *b, ls_dtype dtype,
                   int64_t M, int64_t N, int64_t K, unsigned flags)
{
    multiply(exec, out, out_dtype, a, b, NULL, dtype, M, N, K, flags);
}

void ls_matmul_bias_cpu(ls_exec *exec, void *out, const void *a, const void *b, const void *bias, ls_dtype dtype,
                        int64_t M, int64_t N, int64_t K, unsigned flags)
{
    multiply(exec, out, dtype, a, b, bias, dtype, M, N, K, flags);
}
