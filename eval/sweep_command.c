/* `layerskip sweep`: decoding speed over exit layers and draft lengths on held-out prompts. */
#include "core/file.h"
#include "core/interrupt.h"
#include "core/text.h"
#include "eval/commands.h"
#include "eval/held_out.h"
#include "eval/option.h"
#include "eval/sweep.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define MOST_VALUES 32

typedef struct sweep_options {
    ls_held_out_options held_out;
    const char *out;
    int64_t exit_layers[MOST_VALUES], draft_tokens[MOST_VALUES];
    int exit_count, draft_count;
    int64_t prompts, repeats, max_seconds;
    int64_t prompt_tokens, max_new_tokens; /* 0: as the context allows */
    bool json;
} sweep_options;

enum {
    KEY_EXIT_LAYERS = 0x3000,
    KEY_DRAFT_TOKENS,
    KEY_PROMPTS,
    KEY_REPEATS,
    KEY_PROMPT_TOKENS,
    KEY_MAX_NEW_TOKENS,
    KEY_MAX_SECONDS,
    KEY_OUT,
    KEY_JSON,
};

static const struct argp_option option_list[] = {
    {"exit-layers", KEY_EXIT_LAYERS, "E,...", 0, "Exit layers (default: a sixth, quarter, third and half of all)", 1},
    {"draft-tokens", KEY_DRAFT_TOKENS, "D,...", 0, "Draft lengths (default 2,4,8)", 1},
    {"prompts", KEY_PROMPTS, "N", 0, "Number of prompts (default 8)", 1},
    {"repeats", KEY_REPEATS, "R", 0, "Time each prompt R times and keep the fastest (default 2)", 1},
    {"prompt-tokens", KEY_PROMPT_TOKENS, "P", 0,
     "Tokens a prompt (default 64, or a quarter of a shorter context); of records, at most so many (default: what the "
     "context leaves)",
     1},
    {"max-new-tokens", KEY_MAX_NEW_TOKENS, "M", 0, "Tokens to generate (default 128, or what the context leaves)", 1},
    {"max-seconds", KEY_MAX_SECONDS, "S", 0, "Begin no further prompt after S seconds (default 0: no limit)", 1},
    {"out", KEY_OUT, "FILE", 0, "Also write the JSON document here; RUN_DIR/sweep.json goes into the report", 2},
    {"json", KEY_JSON, NULL, 0, "Print {autoregressive, settings: [...], best, identical, ...} instead of a table", 2},
    {0},
};

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    sweep_options *options = state->input;
    ls_status status = LS_OK;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->held_out;
        break;
    case KEY_EXIT_LAYERS:
        status = ls_option_ints(options->exit_layers, &options->exit_count, MOST_VALUES, "--exit-layers", argument, 1,
                                INT_MAX);
        break;
    case KEY_DRAFT_TOKENS:
        status = ls_option_ints(options->draft_tokens, &options->draft_count, MOST_VALUES, "--draft-tokens", argument,
                                1, INT_MAX);
        break;
    case KEY_PROMPTS:
        status = ls_command_int(&options->prompts, "--prompts", argument, 1, 1000000);
        break;
    case KEY_REPEATS:
        status = ls_command_int(&options->repeats, "--repeats", argument, 1, 1000000);
        break;
    case KEY_PROMPT_TOKENS:
        status = ls_command_int(&options->prompt_tokens, "--prompt-tokens", argument, 1, INT_MAX);
        break;
    case KEY_MAX_NEW_TOKENS:
        status = ls_command_int(&options->max_new_tokens, "--max-new-tokens", argument, 1, INT_MAX);
        break;
    case KEY_MAX_SECONDS:
        status = ls_command_int(&options->max_seconds, "--max-seconds", argument, 0, INT_MAX);
        break;
    case KEY_OUT:
        options->out = argument;
        break;
    case KEY_JSON:
        options->json = true;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return status == LS_OK ? 0 : EINVAL;
}

/* A sixth, quarter, third and half of the layers, each once. */
static void default_exit_layers(sweep_options *options, int64_t layers)
{
    static const int64_t parts[] = {6, 4, 3, 2};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        const int64_t exit = layers / parts[i] < 1 ? 1 : layers / parts[i];
        if (exit >= layers) continue;
        if (options->exit_count > 0 && options->exit_layers[options->exit_count - 1] == exit) continue;
        options->exit_layers[options->exit_count++] = exit;
    }
}

/* Prompt and text must fit the context; what was not asked for adapts to it. Records have prompts of their own. */
static ls_status fit_context(sweep_options *options, int64_t context, bool records)
{
    if (options->prompt_tokens == 0 && records) {
        if (options->max_new_tokens == 0) options->max_new_tokens = context / 2 < 128 ? context / 2 : 128;
        options->prompt_tokens = context > options->max_new_tokens ? context - options->max_new_tokens : 1;
    } else if (options->prompt_tokens == 0) {
        options->prompt_tokens = context / 4 < 64 ? context / 4 : 64;
        if (options->prompt_tokens < 1) options->prompt_tokens = 1;
        if (options->max_new_tokens > 0 && options->max_new_tokens < context &&
            options->prompt_tokens + options->max_new_tokens > context)
            options->prompt_tokens = context - options->max_new_tokens;
    }
    if (options->max_new_tokens == 0) {
        const int64_t left = context - options->prompt_tokens;
        options->max_new_tokens = left < 128 ? left : 128;
    }
    if (options->max_new_tokens < 1 || options->prompt_tokens + options->max_new_tokens > context)
        return LS_FAIL(LS_BAD_INPUT, "a prompt of %lld tokens and %lld new ones do not fit the model's context of %lld",
                       (long long)options->prompt_tokens, (long long)options->max_new_tokens, (long long)context);
    return LS_OK;
}

/* Every exit layer with every draft length, then prompt lookup. settings: [(MOST_VALUES + 1) * MOST_VALUES] */
static int fill_settings(ls_sweep_setting *settings, const sweep_options *options)
{
    int count = 0;
    for (int e = 0; e < options->exit_count; e++)
        for (int d = 0; d < options->draft_count; d++)
            settings[count++] = (ls_sweep_setting){.mode = LS_DECODE_SELF_SPECULATIVE,
                                                   .exit_layer = (int)options->exit_layers[e],
                                                   .draft_tokens = (int)options->draft_tokens[d]};
    for (int d = 0; d < options->draft_count; d++)
        settings[count++] =
            (ls_sweep_setting){.mode = LS_DECODE_PROMPT_LOOKUP, .draft_tokens = (int)options->draft_tokens[d]};
    return count;
}

static ls_status check_settings(const ls_sweep *sweep, int64_t layers)
{
    for (int s = 0; s < sweep->count; s++) {
        const ls_decode_options options = {.mode = sweep->settings[s].mode,
                                           .exit_layer = sweep->settings[s].exit_layer,
                                           .draft_tokens = sweep->settings[s].draft_tokens,
                                           .sampling = {.top_p = 1.0}};
        LS_TRY(ls_decode_options_check(&options, layers));
    }
    return LS_OK;
}

static ls_status measure(ls_sweep *sweep, const ls_session *session, const ls_token_file *file, int most_drafts)
{
    ls_decoder *decoder = NULL;
    ls_prompts prompts;
    ls_status status = ls_held_out_prompts(&prompts, sweep->prompts, sweep->prompt_tokens, sweep->max_new_tokens, file);
    if (status == LS_OK)
        status = ls_decoder_create(&decoder, &session->model, prompts.longest + sweep->max_new_tokens, most_drafts);
    ls_interrupt_install();
    status = ls_comm_agree(sweep->comm, status);
    if (status == LS_OK) status = ls_sweep_run(sweep, decoder, &prompts);
    ls_decoder_destroy(decoder);
    ls_prompts_free(&prompts);
    return status;
}

static ls_status store(const cJSON *document, const char *path)
{
    char *text = cJSON_Print(document);
    if (text == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for %s", path);
    const ls_status status = ls_file_write_atomic(path, text, strlen(text));
    cJSON_free(text);
    return status;
}

static ls_status show(const ls_sweep *sweep, const sweep_options *options)
{
    cJSON *document = ls_sweep_to_json(sweep);
    ls_status status = options->out == NULL ? LS_OK : store(document, options->out);
    const ls_status printed = options->json ? ls_json_print(stdout, document, true) : LS_OK;
    if (status == LS_OK) status = printed;
    cJSON_Delete(document);
    if (!options->json) ls_sweep_print(stdout, sweep);
    if (status == LS_OK && fflush(stdout) != 0) return LS_FAIL(LS_IO, "cannot write to standard output");
    if (status == LS_OK && !ls_sweep_identical(sweep))
        return LS_FAIL(LS_INTERNAL, "a greedy text differs from the autoregressive one; this must never happen");
    return status;
}

static ls_status sweep_model(const ls_session *session, const ls_token_file *file, sweep_options *options)
{
    const ls_model *model = &session->model;
    if (options->exit_count == 0) default_exit_layers(options, model->config.num_hidden_layers);
    LS_TRY(fit_context(options, model->config.max_position_embeddings, file->records));
    ls_sweep_setting settings[(MOST_VALUES + 1) * MOST_VALUES];
    ls_sweep sweep = {.comm = options->held_out.session.comm,
                      .model = options->held_out.session.model,
                      .device = ls_device_names[session->exec.device],
                      .precision = ls_dtype_name(model->dtype),
                      .threads = session->exec.threads,
                      .prompts = options->prompts,
                      .repeats = options->repeats,
                      .max_seconds = (double)options->max_seconds,
                      .prompt_tokens = options->prompt_tokens,
                      .max_new_tokens = options->max_new_tokens,
                      .end_of_text = ls_tokenizer_end_of_text(session->tokenizer),
                      .settings = settings,
                      .count = fill_settings(settings, options)};
    LS_TRY(check_settings(&sweep, model->config.num_hidden_layers));
    int64_t most = 1;
    for (int d = 0; d < options->draft_count; d++)
        if (options->draft_tokens[d] > most) most = options->draft_tokens[d];
    LS_TRY(measure(&sweep, session, file, (int)most));
    return ls_comm_rank(sweep.comm) == 0 ? show(&sweep, options) : LS_OK;
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
        option_list,
        parse_option,
        NULL,
        "Measures self-speculative and prompt-lookup decoding against autoregressive decoding, in turn, on held-out "
        "prompts.",
        children,
        NULL,
        NULL};
    sweep_options options = {.held_out.session = ls_session_defaults(),
                             .draft_tokens = {2, 4, 8},
                             .draft_count = 3,
                             .prompts = 8,
                             .repeats = 2};
    const call *self = context;
    options.held_out.session.comm = comm;
    LS_TRY(ls_comm_agree(comm, ls_command_parse(&argp, self->argc, self->argv, &options)));
    LS_TRY(ls_held_out_same_command(comm, self->argc, self->argv));

    ls_held_out held_out;
    LS_TRY(ls_held_out_open(&held_out, &options.held_out));
    const ls_status status = sweep_model(&held_out.session, &held_out.file, &options);
    ls_held_out_close(&held_out);
    return status;
}

ls_status ls_sweep_command(int argc, char **argv) { return ls_comm_run(run, &(call){argc, argv}); }
