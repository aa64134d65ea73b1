/* `layerskip eval`: held-out loss and perplexity of every exit layer. */
#include "core/interrupt.h"
#include "core/json.h"
#include "core/log.h"
#include "eval/commands.h"
#include "eval/exit_loss.h"
#include "eval/held_out.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#define TOKENS_A_PASS 2048

typedef struct eval_options {
    ls_held_out_options held_out;
    int64_t sequence_length, max_samples;
    bool document_mask, json;
} eval_options;

enum { KEY_SEQUENCE_LENGTH = 0x3000, KEY_MAX_SAMPLES, KEY_NO_DOCUMENT_MASK, KEY_JSON };

static const struct argp_option option_list[] = {
    {"sequence-length", KEY_SEQUENCE_LENGTH, "T", 0, "Tokens a sample (default: the model's context)", 1},
    {"max-samples", KEY_MAX_SAMPLES, "N", 0, "Use N samples, spread evenly over the split (default 0: all)", 1},
    {"no-document-mask", KEY_NO_DOCUMENT_MASK, NULL, 0,
     "Let attention see the documents before (default: each on its own, as training does)", 1},
    {"json", KEY_JSON, NULL, 0,
     "Print {exits: [{layer, loss, perplexity}], tokens}; layer counts the layers run, as --exit-layer does", 2},
    {0},
};

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    eval_options *options = state->input;
    ls_status status = LS_OK;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->held_out;
        break;
    case KEY_SEQUENCE_LENGTH:
        status = ls_command_int(&options->sequence_length, "--sequence-length", argument, 1, INT32_MAX);
        break;
    case KEY_MAX_SAMPLES:
        status = ls_command_int(&options->max_samples, "--max-samples", argument, 0, INT32_MAX);
        break;
    case KEY_NO_DOCUMENT_MASK:
        options->document_mask = false;
        break;
    case KEY_JSON:
        options->json = true;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return status == LS_OK ? 0 : EINVAL;
}

/* How the split is cut for this model. */
static ls_status plan_passes(ls_exit_loss_options *out, const eval_options *options, const ls_model *model,
                             const ls_token_file *file)
{
    const int64_t context = model->config.max_position_embeddings;
    const int64_t targets = file->token_count[LS_SPLIT_VALIDATION] - 1;
    int64_t T = options->sequence_length > 0 ? options->sequence_length : context;
    if (T > context)
        return LS_FAIL(LS_BAD_INPUT, "--sequence-length: %lld is more than the model's context of %lld", (long long)T,
                       (long long)context);
    if (T > targets && targets > 0) T = targets;
    const int64_t fit = TOKENS_A_PASS / T, samples = (targets + T - 1) / T;
    int64_t B = fit < 1 ? 1 : fit;
    if (B > samples) B = samples < 1 ? 1 : samples;
    *out = (ls_exit_loss_options){.split = LS_SPLIT_VALIDATION,
                                  .B = B,
                                  .T = T,
                                  .max_samples = options->max_samples,
                                  .document_mask = options->document_mask,
                                  .comm = options->held_out.session.comm};
    return LS_OK;
}

static ls_status print_json(const double *loss, int layers, int64_t tokens)
{
    cJSON *document = cJSON_CreateObject(), *exits = cJSON_AddArrayToObject(document, "exits");
    for (int l = 0; l < layers; l++) {
        cJSON *row = cJSON_CreateObject();
        (void)cJSON_AddNumberToObject(row, "layer", l + 1);
        (void)cJSON_AddNumberToObject(row, "loss", loss[l]);
        (void)cJSON_AddNumberToObject(row, "perplexity", exp(loss[l]));
        (void)cJSON_AddItemToArray(exits, row);
    }
    (void)cJSON_AddNumberToObject(document, "tokens", (double)tokens);
    const ls_status status = ls_json_print(stdout, document, false);
    cJSON_Delete(document);
    return status;
}

static ls_status print_table(const double *loss, int layers, int64_t tokens)
{
    (void)printf("layers run   held-out loss   perplexity\n");
    for (int l = 0; l < layers; l++) (void)printf("%10d   %13.4f   %10.2f\n", l + 1, loss[l], exp(loss[l]));
    (void)printf("%lld tokens predicted\n", (long long)tokens);
    if (fflush(stdout) != 0) return LS_FAIL(LS_IO, "cannot write to standard output");
    return LS_OK;
}

static ls_status print(const double *loss, int layers, int64_t tokens, const eval_options *options)
{
    if (ls_comm_rank(options->held_out.session.comm) > 0) return LS_OK;
    return options->json ? print_json(loss, layers, tokens) : print_table(loss, layers, tokens);
}

static ls_status evaluate(const ls_session *session, const ls_token_file *file, const eval_options *options)
{
    const int layers = (int)session->model.config.num_hidden_layers;
    ls_comm *comm = options->held_out.session.comm;
    ls_exit_loss_options passes;
    ls_training *training = NULL;
    ls_status status = plan_passes(&passes, options, &session->model, file);
    if (status == LS_OK) status = ls_training_create(&training, &session->model, passes.B, passes.T, true);
    double *loss = calloc((size_t)layers, sizeof *loss);
    int64_t tokens = 0;
    ls_interrupt_install();
    if (status == LS_OK && loss == NULL) status = LS_FAIL(LS_NO_MEMORY, "cannot get memory for losses");
    status = ls_comm_agree(comm, status);
    if (status == LS_OK) status = ls_exit_loss(loss, &tokens, training, &session->model, file, &passes);
    if (status == LS_OK) status = print(loss, layers, tokens, options);
    free(loss);
    ls_training_destroy(training);
    return status;
}

typedef struct call {
    int argc;
    char **argv;
} call;

/* As one of several processes, or alone. */
static ls_status run(ls_comm *comm, void *context)
{
    static const struct argp_child children[] = {{&ls_held_out_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        option_list, parse_option, NULL, "Loss and perplexity of every exit layer on held-out text.",
        children,    NULL,         NULL};
    const call *self = context;
    eval_options options = {.held_out.session = ls_session_defaults(), .document_mask = true};
    options.held_out.session.comm = comm;
    LS_TRY(ls_comm_agree(comm, ls_command_parse(&argp, self->argc, self->argv, &options)));
    LS_TRY(ls_held_out_same_command(comm, self->argc, self->argv));

    ls_held_out held_out;
    LS_TRY(ls_held_out_open(&held_out, &options.held_out));
    const ls_status status = evaluate(&held_out.session, &held_out.file, &options);
    ls_held_out_close(&held_out);
    return status;
}

ls_status ls_eval_command(int argc, char **argv) { return ls_comm_run(run, &(call){argc, argv}); }
