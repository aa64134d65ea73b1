/* layerskip bench: ceilings first, then shares of them. */
#include "core/json.h"
#include "core/log.h"
#include "core/random.h"
#include "train/bench.h"
#include "train/commands.h"
#include "train/config.h"

#include <stdlib.h>
#include <string.h>

ls_model_config ls_bench_shape_135m(void)
{
    return (ls_model_config){.hidden_size = 576,
                             .intermediate_size = 1536,
                             .num_hidden_layers = 30,
                             .num_attention_heads = 9,
                             .num_key_value_heads = 3,
                             .head_dim = 64,
                             .vocab_size = 49152,
                             .max_position_embeddings = 2048,
                             .rope_theta = 10000,
                             .rms_norm_eps = 1e-5,
                             .initializer_range = 0.02,
                             .tie_word_embeddings = true};
}

ls_model_config ls_bench_shape_small(void)
{
    return (ls_model_config){.hidden_size = 256,
                             .intermediate_size = 704,
                             .num_hidden_layers = 8,
                             .num_attention_heads = 4,
                             .num_key_value_heads = 2,
                             .head_dim = 64,
                             .vocab_size = 4096,
                             .max_position_embeddings = 512,
                             .rope_theta = 10000,
                             .rms_norm_eps = 1e-5,
                             .initializer_range = 0.02,
                             .tie_word_embeddings = true};
}

ls_status ls_bench_fill(const ls_model *model)
{
    enum { PIECE = 1 << 16 };
    const size_t element = ls_dtype_size(model->dtype);
    unsigned char *weights = model->weights;
    uint64_t state = 88172645463325252u;
    union {
        float full[PIECE];
        uint16_t half[PIECE];
    } *const values = malloc(sizeof *values);
    if (values == NULL) return LS_FAIL(LS_NO_MEMORY, "out of memory");
    ls_status status = LS_OK;
    for (int64_t first = 0; first < model->table.elements && status == LS_OK; first += PIECE) {
        const int64_t left = model->table.elements - first, count = left < PIECE ? left : PIECE;
        for (int64_t i = 0; i < count; i++) {
            state ^= state << 13; /* xorshift64 (Marsaglia 2003) */
            state ^= state >> 7;
            state ^= state << 17;
            const float value = 0.04f * ((float)(state >> 40) * 0x1p-24f - 0.5f);
            if (model->dtype == LS_F32)
                values->full[i] = value;
            else
                values->half[i] = ls_float_to_bf16(value);
        }
        status = ls_exec_upload(model->exec, weights + (size_t)first * element, values, (size_t)count * element);
    }
    free(values);
    return status;
}

static int ascending(const void *x, const void *y)
{
    const double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

double ls_median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, ascending);
    return count % 2 == 1 ? values[count / 2] : 0.5 * (values[count / 2 - 1] + values[count / 2]);
}

static void add_number(cJSON *row, const char *key, double value)
{
    if (value >= 0.0) (void)cJSON_AddNumberToObject(row, key, value);
}

void ls_bench_report(ls_bench *bench, const ls_bench_row *row)
{
    cJSON *entry = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(entry, "name", row->name);
    add_number(entry, "share_of_ceiling", row->share_of_ceiling);
    add_number(entry, "ratio", row->ratio);
    add_number(entry, "target", row->target);
    add_number(entry, "tokens_per_second", row->tokens_per_second);
    add_number(entry, "gflops", row->gflops);
    add_number(entry, "gbps", row->gbps);
    add_number(entry, "milliseconds", row->milliseconds);
    (void)cJSON_AddItemToArray(bench->cases, entry);
    char measured[160] = "", target[32] = "";
    size_t used = 0;
#define ADD(condition, ...)                                                                                            \
    if (condition) used += (size_t)snprintf(measured + used, sizeof measured - used, __VA_ARGS__)
    ADD(row->share_of_ceiling >= 0, "%5.1f %% of the ceiling", 100 * row->share_of_ceiling);
    ADD(row->ratio >= 0, "%6.3f", row->ratio);
    ADD(row->tokens_per_second >= 0, "  %.0f tokens/s", row->tokens_per_second);
    ADD(row->gflops >= 0, "  %.0f GFLOP/s", row->gflops);
    ADD(row->gbps >= 0, "  %.1f GB/s", row->gbps);
    ADD(row->milliseconds >= 0, "  %.3g ms", row->milliseconds);
#undef ADD
    if (row->target >= 0)
        (void)snprintf(target, sizeof target, row->ratio >= 0 ? " (at most %.2f)" : " (at least %.0f %%)",
                       row->ratio >= 0 ? row->target : 100 * row->target);
    ls_log_info("%-56s %s%s", row->name, measured, target);
}

typedef struct bench_options {
    const char *what;
    bool json;
    int64_t threads;
    int64_t device_index;
    int device;
    int attention;
    int precision; /* 0 auto, 1 bf16, 2 fp32 */
} bench_options;

static const struct argp_option option_list[] = {
    {"json", 'j', NULL, 0, "one JSON document on standard output", 0},
    {"device", 'd', "cpu|cuda|reference", 0, "where to run (default cpu)", 0},
    {"device-index", 'i', "I", 0, "which of the visible GPUs, from 0 (default 0)", 0},
    {"attention", 'a', "auto|cudnn|builtin", 0, "whose attention a GPU runs over whole sequences", 0},
    {"threads", 't', "N", 0, "threads to use (default: all that this process may use)", 0},
    {"precision", 'p', "TYPE", 0, "compute type: auto, bf16 or fp32 (default auto)", 0},
    {0},
};

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    ls_status status = LS_OK;
    bench_options *options = state->input;
    switch (key) {
    case 'j':
        options->json = true;
        break;
    case 'd':
        status = ls_command_choice(&options->device, "--device", argument, ls_device_names);
        break;
    case 'i':
        status = ls_command_int(&options->device_index, "--device-index", argument, 0, 1023);
        break;
    case 'a':
        status = ls_command_choice(&options->attention, "--attention", argument, ls_attention_names);
        break;
    case 't':
        status = ls_command_int(&options->threads, "--threads", argument, 1, 4096);
        break;
    case 'p':
        status = ls_command_choice(&options->precision, "--precision", argument, ls_precision_names);
        break;
    case ARGP_KEY_ARG:
        if (options->what != NULL) return ARGP_ERR_UNKNOWN;
        options->what = argument;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return status == LS_OK ? 0 : EINVAL;
}

static ls_status measure_ceilings(ls_bench *bench)
{
    LS_TRY(ls_matmul_probe_create(&bench->matmul, bench->exec, bench->dtype));
    bench->matmul_best[bench->dtype] = ls_matmul_probe_best(bench->matmul);
    ls_matmul_probe *other = NULL;
    const ls_dtype second = bench->dtype == LS_F32 ? LS_BF16 : LS_F32;
    LS_TRY(ls_matmul_probe_create(&other, bench->exec, second));
    bench->matmul_best[second] = ls_matmul_probe_best(other);
    ls_matmul_probe_destroy(other);
    const size_t bytes = (size_t)256 << 20;
    void *block = NULL;
    LS_TRY(ls_exec_allocate(bench->exec, &block, bytes, "measuring the read bandwidth"));
    const bool host = bench->exec->memory->host;
    if (host) memset(block, 1, bytes);
    for (int i = 0; i < 12; i++) {
        const double speed =
            host ? ls_read_bandwidth(bench->exec, block, bytes) : ls_copy_bandwidth(bench->exec, block, bytes);
        if (speed > bench->read_best) bench->read_best = speed;
    }
    ls_exec_free(bench->exec, block, bytes);
    ls_log_info("%s: %.0f GFLOP/s bf16, %.0f GFLOP/s fp32, %s %.1f GB/s", ls_exec_describe(bench->exec),
                bench->matmul_best[LS_BF16] * 1e-9, bench->matmul_best[LS_F32] * 1e-9, host ? "reads" : "copies",
                bench->read_best * 1e-9);
    return LS_OK;
}

static ls_status print_json(const ls_bench *bench)
{
    cJSON *document = cJSON_CreateObject();
    cJSON *ceilings = cJSON_AddObjectToObject(document, "ceilings");
    const double best = ls_matmul_probe_best(bench->matmul);
    const ls_dtype other = bench->dtype == LS_F32 ? LS_BF16 : LS_F32;
    const double second = bench->matmul_best[other];
    (void)cJSON_AddNumberToObject(ceilings, "matmul_bf16_gflops", (bench->dtype == LS_BF16 ? best : second) * 1e-9);
    (void)cJSON_AddNumberToObject(ceilings, "matmul_fp32_gflops", (bench->dtype == LS_F32 ? best : second) * 1e-9);
    (void)cJSON_AddNumberToObject(ceilings, "read_gbps", bench->read_best * 1e-9);
    (void)cJSON_AddStringToObject(document, "machine", ls_exec_describe(bench->exec));
    (void)cJSON_AddNumberToObject(document, "threads", bench->exec->threads);
    (void)cJSON_AddItemReferenceToObject(document, "cases", bench->cases);
    const ls_status status = ls_json_print(stdout, document, true);
    cJSON_Delete(document);
    return status;
}

static ls_status run(ls_bench *bench, const bench_options *options)
{
    static const struct {
        const char *name;
        ls_status (*run)(ls_bench *bench);
    } suites[] = {
        {"kernels", ls_bench_kernels}, {"train", ls_bench_train}, {"decode", ls_bench_decode}, {"comm", ls_bench_comm}};
    for (size_t i = 0; i < sizeof suites / sizeof suites[0]; i++) {
        if (strcmp(options->what, suites[i].name) != 0) continue;
        LS_TRY(measure_ceilings(bench));
        LS_TRY(suites[i].run(bench));
        return options->json && ls_comm_rank(bench->comm) == 0 ? print_json(bench) : LS_OK;
    }
    return LS_FAIL(LS_BAD_INPUT, "'%s' is not a benchmark: kernels, train, decode or comm", options->what);
}

static ls_status run_with(ls_exec *exec, ls_comm *comm, const bench_options *options)
{
    LS_TRY(ls_comm_attach(comm, exec));
    exec->attention = (ls_attention_choice)options->attention;
    ls_bench bench = {.exec = exec, .comm = comm, .cases = cJSON_CreateArray()};
    const bool bf16 = options->precision == 1 || (options->precision == 0 && ls_exec_has_fast_bf16(exec));
    bench.dtype = bf16 ? LS_BF16 : LS_F32;
    const ls_status status = ls_comm_agree(comm, run(&bench, options));
    ls_matmul_probe_destroy(bench.matmul);
    cJSON_Delete(bench.cases);
    ls_comm_detach(comm);
    return status;
}

static ls_status run_on(const bench_options *options, ls_comm *comm)
{
    const int threads = options->threads > 0 ? (int)options->threads : ls_comm_threads(comm);
    const ls_device device = (ls_device)options->device;
    const int index = ls_comm_device_index(comm, device, (int)options->device_index);
    ls_exec exec;
    const ls_status own = ls_exec_create_on(&exec, device, index, threads);
    ls_status status = ls_comm_agree(comm, own);
    if (status == LS_OK) status = run_with(&exec, comm, options);
    if (own == LS_OK) ls_exec_destroy(&exec);
    return status;
}

static ls_status run_as_rank(ls_comm *comm, void *context) { return run_on(context, comm); }

ls_status ls_bench_command(int argc, char **argv)
{
    static const struct argp argp = {
        .options = option_list,
        .parser = parse_option,
        .args_doc = "kernels|train|decode|comm",
        .doc =
            "Measures this machine's ceilings (best matrix product of each type, memory's read bandwidth, on a GPU "
            "that of copies), then the "
            "named benchmark as shares of them, alternately in one run.\v"
            "kernels: every op at the sizes of a 135M and a small model. train: whole steps, what dropout saves, what "
            "exits cost in memory. decode: prefill, one row, verification. "
            "comm: steps of several processes (mpirun -np 2 layerskip bench comm).\n\n"
            "JSON: {ceilings: {matmul_bf16_gflops, matmul_fp32_gflops, read_gbps}, machine, threads, cases: [{name, "
            "share_of_ceiling or ratio, target, tokens_per_second, gflops, gbps, milliseconds}]}; keys that do not "
            "apply to a case are absent. A share is good from its target up, a ratio up to its target."};
    bench_options options = {.device = LS_DEVICE_CPU};
    LS_TRY(ls_command_parse(&argp, argc, argv, &options));
    if (options.what == NULL) return LS_FAIL(LS_BAD_INPUT, "name a benchmark: kernels, train, decode or comm");
    if (strcmp(options.what, "comm") == 0) return ls_comm_run(run_as_rank, &options);
    return ls_comm_spare("this benchmark") ? LS_OK : run_on(&options, NULL);
}
