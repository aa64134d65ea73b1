/* Decoding benchmarks on the 135M shape: prefill against the best matrix product, one row against the memory's read
 * bandwidth (of the weights themselves, alternately), verification against one step. */
#include "core/clock.h"
#include "eval/decoder.h"
#include "train/bench.h"

#include <stdlib.h>

enum { PROMPT = 512, CONTEXT = 128, NEW_TOKENS = 256, DRAFT = 8, EXIT_LAYER = 8 };

typedef struct bench_decode {
    ls_model model;
    ls_decode *decode;
    ls_decoder *decoder;
    float *hidden; /* [PROMPT,C] */
    float *logits; /* [DRAFT+1,V] */
} bench_decode;

static size_t hidden_bytes(const ls_model_config *config)
{
    return sizeof(float) * (size_t)(PROMPT * config->hidden_size);
}

static size_t logits_bytes(const ls_model_config *config)
{
    return sizeof(float) * (size_t)((DRAFT + 1) * config->vocab_size);
}

static void destroy(bench_decode *run)
{
    if (run->hidden != NULL) ls_exec_free(run->model.exec, run->hidden, hidden_bytes(&run->model.config));
    if (run->logits != NULL) ls_exec_free(run->model.exec, run->logits, logits_bytes(&run->model.config));
    ls_decode_destroy(run->decode);
    ls_decoder_destroy(run->decoder);
    ls_model_destroy(&run->model);
}

static ls_status create(bench_decode *run, const ls_bench *bench)
{
    const ls_model_config config = ls_bench_shape_135m();
    LS_TRY(ls_model_create(&run->model, bench->exec, &config, bench->dtype));
    LS_TRY(ls_bench_fill(&run->model));
    LS_TRY(ls_decode_create(&run->decode, &run->model, PROMPT + NEW_TOKENS + DRAFT + 1, PROMPT));
    LS_TRY(ls_decoder_create(&run->decoder, &run->model, CONTEXT + NEW_TOKENS, 1));
    void *block = NULL;
    LS_TRY(ls_exec_allocate(bench->exec, &block, hidden_bytes(&config), "hidden states"));
    run->hidden = block;
    LS_TRY(ls_exec_allocate(bench->exec, &block, logits_bytes(&config), "logits"));
    run->logits = block;
    return LS_OK;
}

static void fill_tokens(int32_t *tokens, int64_t start, int64_t rows, int64_t vocab_size)
{
    for (int64_t r = 0; r < rows; r++) tokens[r] = (int32_t)((start + r) * 7919 % vocab_size);
}

/* Rows `tokens` at positions start..; all layers from `first`, then the head for the last `heads` rows. */
static ls_status forward(bench_decode *run, int first, int64_t start, int64_t rows, int64_t heads)
{
    const ls_model_config *config = &run->model.config;
    int32_t tokens[PROMPT];
    fill_tokens(tokens, start, rows, config->vocab_size);
    LS_TRY(ls_decode_embed(run->decode, run->hidden, tokens, rows));
    LS_TRY(ls_decode_layers(run->decode, run->hidden, first, (int)config->num_hidden_layers, NULL, start, rows));
    LS_TRY(ls_decode_logits(run->decode, run->logits, run->hidden + (rows - heads) * config->hidden_size, heads));
    return ls_exec_status(run->model.exec);
}

static ls_status prefill_case(ls_bench *bench, bench_decode *run)
{
    const ls_model_config *c = &run->model.config;
    /* 2 per parameter of the layers' products and token, causal attention, and one row's head */
    const double layer =
        (double)(c->num_attention_heads + 2 * c->num_key_value_heads) * (double)(c->head_dim * c->hidden_size) +
        (double)(c->num_attention_heads * c->head_dim * c->hidden_size) +
        3.0 * (double)(c->hidden_size * c->intermediate_size);
    const double flop =
        (double)c->num_hidden_layers *
            (2.0 * layer * PROMPT + 2.0 * (double)(c->num_attention_heads * c->head_dim) * PROMPT * PROMPT) +
        2.0 * (double)(c->vocab_size * c->hidden_size);
    enum { ROUNDS = 9 };
    double share[ROUNDS], seconds[ROUNDS];
    LS_TRY(forward(run, 0, 0, PROMPT, 1));
    for (int round = 0; round < ROUNDS; round++) {
        double ceiling = 0.0;
        for (int i = 0; i < 4; i++) {
            const double speed = ls_matmul_probe_run(bench->matmul);
            ceiling = speed > ceiling ? speed : ceiling;
        }
        const double begin = ls_seconds_now();
        LS_TRY(forward(run, 0, 0, PROMPT, 1));
        seconds[round] = ls_seconds_now() - begin;
        share[round] = flop / seconds[round] / ceiling;
    }
    const double typical = ls_median(seconds, ROUNDS);
    ls_bench_report(bench, &(ls_bench_row){.name = "prefill of 512 tokens, 135M",
                                           .share_of_ceiling = ls_median(share, ROUNDS),
                                           .target = 0.45,
                                           .ratio = -1,
                                           .tokens_per_second = PROMPT / typical,
                                           .gflops = flop / typical * 1e-9,
                                           .gbps = -1,
                                           .milliseconds = typical * 1e3});
    return LS_OK;
}

/* A GPU's speed does not swing, and its ceiling was measured before. */
static double read_bandwidth(const ls_bench *bench, const void *block, size_t bytes)
{
    return bench->exec->memory->host ? ls_read_bandwidth(bench->exec, block, bytes) : bench->read_best;
}

/* Seconds a token of `count` new ones behind CONTEXT, as `generate` makes them: recorded rounds and all. */
static ls_status decode_tokens(bench_decode *run, int64_t count, double *seconds)
{
    const ls_decode_options options = {
        .mode = LS_DECODE_AUTOREGRESSIVE, .max_new_tokens = count, .end_of_text = -1, .sampling.top_p = 1.0};
    int32_t prompt[CONTEXT], tokens[NEW_TOKENS];
    ls_decode_result result;
    fill_tokens(prompt, 0, CONTEXT, run->model.config.vocab_size);
    LS_TRY(ls_decoder_generate(run->decoder, &result, tokens, prompt, CONTEXT, &options, NULL, NULL));
    if (result.count < count) return LS_FAIL(LS_INTERRUPTED, "interrupted");
    *seconds = result.decode_seconds / (double)count;
    return LS_OK;
}

static ls_status one_row_case(ls_bench *bench, bench_decode *run)
{
    const size_t bytes = (size_t)run->model.table.elements * ls_dtype_size(run->model.dtype);
    enum { ROUNDS = 32, EACH = NEW_TOKENS / ROUNDS };
    double share[ROUNDS], seconds[ROUNDS];
    LS_TRY(decode_tokens(run, EACH, &seconds[0]));
    for (int round = 0; round < ROUNDS; round++) {
        const double before = read_bandwidth(bench, run->model.weights, bytes);
        LS_TRY(decode_tokens(run, EACH, &seconds[round]));
        const double after = read_bandwidth(bench, run->model.weights, bytes);
        const double ceiling = before > after ? before : after;
        if (ceiling > bench->read_best) bench->read_best = ceiling;
        share[round] = (double)bytes / seconds[round] / ceiling;
    }
    const double typical = ls_median(seconds, ROUNDS);
    ls_bench_report(bench, &(ls_bench_row){.name = "decoding one row, 256 tokens, 135M",
                                           .share_of_ceiling = ls_median(share, ROUNDS),
                                           .target = 0.80,
                                           .ratio = -1,
                                           .tokens_per_second = 1.0 / typical,
                                           .gflops = -1,
                                           .gbps = (double)bytes / typical * 1e-9,
                                           .milliseconds = typical * 1e3});
    return LS_OK;
}

/* DRAFT drafted tokens are verified as DRAFT+1 rows through layers EXIT_LAYER.. and the head. */
static ls_status verify_case(ls_bench *bench, bench_decode *run)
{
    enum { ROUNDS = 25 };
    double ratio[ROUNDS], seconds[ROUNDS];
    for (int round = -1; round < ROUNDS; round++) {
        double begin = ls_seconds_now();
        LS_TRY(forward(run, EXIT_LAYER, NEW_TOKENS, 1, 1));
        const double one = ls_seconds_now() - begin;
        begin = ls_seconds_now();
        LS_TRY(forward(run, EXIT_LAYER, NEW_TOKENS, DRAFT + 1, DRAFT + 1));
        const double all = ls_seconds_now() - begin;
        begin = ls_seconds_now();
        LS_TRY(forward(run, EXIT_LAYER, NEW_TOKENS, 1, 1));
        const double again = ls_seconds_now() - begin;
        if (round < 0) continue;
        seconds[round] = all;
        ratio[round] = all / (0.5 * (one + again));
    }
    ls_bench_report(bench, &(ls_bench_row){.name = "verifying 8 drafted tokens / one step, layers 8..29, 135M",
                                           .share_of_ceiling = -1,
                                           .target = 1.6,
                                           .ratio = ls_median(ratio, ROUNDS),
                                           .tokens_per_second = -1,
                                           .gflops = -1,
                                           .gbps = -1,
                                           .milliseconds = ls_median(seconds, ROUNDS) * 1e3});
    return LS_OK;
}

ls_status ls_bench_decode(ls_bench *bench)
{
    bench_decode run = {0};
    ls_status status = create(&run, bench);
    if (status == LS_OK) status = prefill_case(bench, &run);
    if (status == LS_OK) status = one_row_case(bench, &run);
    if (status == LS_OK) status = verify_case(bench, &run);
    destroy(&run);
    return status;
}
