/* `layerskip task`: how well a model does a task, at every exit layer. */
#include "core/file.h"
#include "core/interrupt.h"
#include "core/log.h"
#include "eval/commands.h"
#include "eval/held_out.h"
#include "eval/task/answer_task.h"
#include "eval/task/choice_task.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct task_options {
    int argc;
    char **argv;
    ls_session_options session;
    const char *file;
    const char **overrides; /* [count], room for argc; --data among them */
    int count;
    char *data;                       /* "data=FILE" */
    int64_t exit_layer, draft_tokens; /* 0: not given */
    const char *details;
    bool run_code, json;
} task_options;

enum { KEY_DATA = 0x3000, KEY_EXIT_LAYER, KEY_DRAFT_TOKENS, KEY_RUN_CODE, KEY_DETAILS, KEY_JSON };

#define DRAFT_TOKENS 4 /* as generate has it */

static const struct argp_option option_list[] = {
    {"data", KEY_DATA, "FILE", 0, "The questions, instead of the task file's", 1},
    {"exit-layer", KEY_EXIT_LAYER, "E", 0,
     "Also write answers with E layers alone, and by self-speculation with E layers, measured against the whole model",
     1},
    {"draft-tokens", KEY_DRAFT_TOKENS, "D", 0, "Tokens to draft a round (default 4)", 1},
    {"run-code", KEY_RUN_CODE, NULL, 0, "Kind code: run the programs that the model writes, on this machine", 1},
    {"details", KEY_DETAILS, "FILE", 0, "Write every question's result here, a JSON object a line", 2},
    {"json", KEY_JSON, NULL, 0,
     "Print one JSON document instead of a table; of multiple choice {exits: [{layer, acc, acc_stderr, acc_norm, "
     "acc_norm_stderr}], questions, ...}, of answers that are written {metric, autoregressive: {score, "
     "tokens_per_second, ...}, early_exit, self_speculative: {acceptance, speedup, identical, ...}, questions, ...}",
     2},
    {0},
};

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    task_options *options = state->input;
    ls_status status = LS_OK;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->session;
        return 0;
    case KEY_DATA:
        free(options->data);
        options->data = ls_text_format("data=%s", argument);
        return 0;
    case KEY_EXIT_LAYER:
        status = ls_command_int(&options->exit_layer, "--exit-layer", argument, 1, INT32_MAX);
        return status == LS_OK ? 0 : EINVAL;
    case KEY_DRAFT_TOKENS:
        status = ls_command_int(&options->draft_tokens, "--draft-tokens", argument, 1, INT32_MAX);
        return status == LS_OK ? 0 : EINVAL;
    case KEY_RUN_CODE:
        options->run_code = true;
        return 0;
    case KEY_DETAILS:
        options->details = argument;
        return 0;
    case KEY_JSON:
        options->json = true;
        return 0;
    case ARGP_KEY_ARG:
        if (options->file == NULL)
            options->file = argument;
        else
            options->overrides[options->count++] = argument;
        return 0;
    case ARGP_KEY_END:
        if (options->file == NULL) argp_error(state, "TASK.yaml is missing");
        if (options->data != NULL) options->overrides[options->count++] = options->data;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static char *append_reference(int key, const char *text, void *input)
{
    (void)input;
    return ls_command_reference(key, text, "Keys of TASK.yaml, each also as KEY=VALUE behind it:", ls_task_fields,
                                ls_task_field_count);
}

/* ---- what is told ------------------------------------------------------------------------------------------------ */

/* "arc-easy" of configs/tasks/arc-easy.yaml; malloc'ed. */
static char *task_name(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash == NULL ? path : slash + 1;
    const char *dot = strrchr(name, '.');
    return ls_text_copy(name, dot == NULL || dot == name ? strlen(name) : (size_t)(dot - name));
}

/* What every task's report begins with. */
typedef struct heading {
    const task_options *options;
    const ls_session *session;
    const ls_task_data *data;
    int64_t asked;
} heading;

static cJSON *begin_json(const heading *top)
{
    const ls_task_config *config = top->data->config;
    cJSON *document = cJSON_CreateObject();
    char *name = task_name(top->options->file);
    (void)cJSON_AddStringToObject(document, "task", name);
    (void)cJSON_AddStringToObject(document, "kind", ls_task_kind_names[config->kind]);
    (void)cJSON_AddStringToObject(document, "model", top->options->session.model);
    (void)cJSON_AddStringToObject(document, "device", ls_device_names[top->session->exec.device]);
    (void)cJSON_AddStringToObject(document, "precision", ls_dtype_name(top->session->model.dtype));
    (void)cJSON_AddNumberToObject(document, "threads", top->session->exec.threads);
    (void)cJSON_AddNumberToObject(document, "processes", ls_comm_size(top->options->session.comm));
    (void)cJSON_AddNumberToObject(document, "shots", (double)config->shots);
    (void)cJSON_AddNumberToObject(document, "questions", (double)top->asked);
    (void)cJSON_AddNumberToObject(document, "questions_wanted", (double)top->data->count);
    free(name);
    return document;
}

/* Of the kind that the task is. */
typedef struct task_result {
    ls_choice_result choices;
    ls_answer_result answers;
} task_result;

static int64_t asked_of(const ls_task_config *config, const task_result *result)
{
    return config->kind == LS_TASK_MULTIPLE_CHOICE ? result->choices.asked : result->answers.asked;
}

/* document NULL: a table on standard output. */
static void tell_choices(cJSON *document, const ls_choice_result *result)
{
    if (document != NULL)
        ls_choice_result_to_json(document, result);
    else
        ls_choice_result_print(stdout, result);
    if (result->cut > 0)
        ls_log_warning("%lld choices did not fit the model's context; their prompts lost their beginning",
                       (long long)result->cut);
    if (result->torn > 0)
        ls_log_warning("%lld choices share a token with their prompt, which is scored with them; delimiter and prompt "
                       "decide where they meet",
                       (long long)result->torn);
}

static void tell_answers(cJSON *document, const ls_answer_result *result, const char *metric)
{
    if (document != NULL)
        ls_answer_result_to_json(document, result, metric);
    else
        ls_answer_result_print(stdout, result, metric);
    if (result->cut > 0)
        ls_log_warning("%lld prompts did not fit the model's context beside an answer; they lost their beginning",
                       (long long)result->cut);
}

static void tell_result(cJSON *document, const ls_task_config *config, const task_result *result)
{
    if (config->kind == LS_TASK_MULTIPLE_CHOICE)
        tell_choices(document, &result->choices);
    else
        tell_answers(document, &result->answers, config->kind == LS_TASK_CODE ? "pass@1" : "exact match");
}

static void print_heading(const heading *top)
{
    char *name = task_name(top->options->file);
    (void)printf("%s: %lld questions, %lld examples before each, %s\n\n", name, (long long)top->asked,
                 (long long)top->data->config->shots, ls_dtype_name(top->session->model.dtype));
    free(name);
}

/* What there is, also after a signal: the report on standard output, the details where they are wanted. */
static ls_status tell(const heading *top, const task_result *result, const ls_text *details)
{
    const task_options *options = top->options;
    if (ls_comm_rank(options->session.comm) > 0) return LS_OK;
    ls_status status = LS_OK;
    if (options->details != NULL)
        status = ls_file_write_atomic(options->details, details->length > 0 ? details->bytes : "", details->length);
    cJSON *document = options->json ? begin_json(top) : NULL;
    if (document == NULL) print_heading(top);
    tell_result(document, top->data->config, result);
    const ls_status printed = document != NULL      ? ls_json_print(stdout, document, true)
                              : fflush(stdout) == 0 ? LS_OK
                                                    : LS_FAIL(LS_IO, "cannot write to standard output");
    cJSON_Delete(document);
    return status != LS_OK ? status : printed;
}

/* ---- the command ------------------------------------------------------------------------------------------------- */

static ls_status check_result(const task_result *result, const ls_task_data *data)
{
    if (asked_of(data->config, result) < data->count)
        return LS_FAIL(LS_INTERRUPTED, "interrupted after %lld of %lld questions",
                       (long long)asked_of(data->config, result), (long long)data->count);
    if (data->config->kind != LS_TASK_MULTIPLE_CHOICE && result->answers.options.exit_layer > 0 &&
        result->answers.identical < result->answers.asked)
        return LS_FAIL(LS_INTERNAL, "a self-speculative answer differs from the autoregressive one; this must never "
                                    "happen");
    return LS_OK;
}

static ls_status run_kind(task_result *result, const task_options *options, const ls_session *session,
                          const ls_task_data *data, ls_text *details)
{
    ls_comm *comm = options->session.comm;
    const ls_answer_options answers = {.exit_layer = (int)options->exit_layer,
                                       .draft_tokens =
                                           options->draft_tokens > 0 ? (int)options->draft_tokens : DRAFT_TOKENS};
    if (data->config->kind == LS_TASK_MULTIPLE_CHOICE)
        return ls_choice_task_run(&result->choices, data, session, comm, details);
    return ls_answer_task_run(&result->answers, data, session, comm, &answers, details);
}

static ls_status run_task(const task_options *options, const ls_session *session, const ls_task_data *data)
{
    task_result result = {0};
    ls_text details = {0};
    ls_status status = run_kind(&result, options, session, data, options->details == NULL ? NULL : &details);
    if (status == LS_OK) {
        const heading top = {
            .options = options, .session = session, .data = data, .asked = asked_of(data->config, &result)};
        status = ls_comm_agree(options->session.comm, tell(&top, &result, &details));
    }
    if (status == LS_OK) status = check_result(&result, data);
    ls_choice_result_free(&result.choices);
    free(details.bytes);
    return status;
}

static ls_status check_options(const task_options *options, const ls_task_config *config)
{
    if (config->kind == LS_TASK_MULTIPLE_CHOICE && (options->exit_layer > 0 || options->draft_tokens > 0))
        return LS_FAIL(LS_BAD_INPUT,
                       "--exit-layer and --draft-tokens are for answers that are written; multiple choice "
                       "is scored at every exit layer");
    if (config->kind == LS_TASK_CODE && !options->run_code)
        return LS_FAIL(LS_BAD_INPUT, "this task executes what the model wrote, on this machine and under "
                                     "limits; say --run-code to allow it");
    if (options->draft_tokens > 0 && options->exit_layer == 0)
        return LS_FAIL(LS_BAD_INPUT, "--draft-tokens drafts with the first layers; say how many with --exit-layer");
    return LS_OK;
}

static ls_status check_same(ls_comm *comm, const ls_session *session, const ls_task_data *data)
{
    const ls_model *model = &session->model;
    const uint64_t shape = ls_text_hash(LS_TEXT_HASH_START, &model->table.parameters, sizeof model->table.parameters);
    LS_TRY(ls_comm_same_program(comm));
    LS_TRY(ls_comm_same(comm, ls_text_hash(shape, &model->dtype, sizeof model->dtype),
                        "the model's size or compute type"));
    return ls_comm_same(comm, (uint64_t)data->count, "the number of questions");
}

static ls_status open_and_run(const task_options *options, const ls_task_config *config)
{
    ls_comm *comm = options->session.comm;
    ls_task_data data = {0};
    ls_session session = {0};
    ls_status status = check_options(options, config);
    if (status == LS_OK) status = ls_task_data_open(&data, config);
    if (status == LS_OK) status = ls_session_open(&session, &options->session);
    ls_interrupt_install();
    status = ls_comm_agree(comm, status);
    if (status == LS_OK) status = check_same(comm, &session, &data);
    if (status == LS_OK) status = run_task(options, &session, &data);
    ls_session_close(&session);
    ls_task_data_close(&data);
    return status;
}

/* As one of several processes, or alone. */
static ls_status run(ls_comm *comm, void *context)
{
    static const struct argp_child children[] = {{&ls_session_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {option_list,
                                     parse_option,
                                     "TASK.yaml [KEY=VALUE...]",
                                     "How well a model does a task: of multiple choice, the accuracy of every exit "
                                     "layer; of answers it writes, how many are right, and with --exit-layer how fast "
                                     "and how like self-speculation writes them. configs/tasks holds task files; "
                                     "several processes share the questions.",
                                     children,
                                     append_reference,
                                     NULL};
    task_options *options = context;
    options->session.comm = comm;
    LS_TRY(ls_comm_agree(comm, ls_command_parse(&argp, options->argc, options->argv, options)));
    LS_TRY(ls_held_out_same_command(comm, options->argc, options->argv));
    ls_task_config config;
    const ls_status own = ls_task_config_read(&config, options->file, options->overrides, options->count);
    ls_status status = ls_comm_agree(comm, own);
    if (status == LS_OK) status = open_and_run(options, &config);
    if (own == LS_OK) ls_task_config_free(&config);
    return status;
}

ls_status ls_task_command(int argc, char **argv)
{
    task_options options = {.argc = argc, .argv = argv, .session = ls_session_defaults()};
    options.overrides = ls_text_memory(NULL, ((size_t)argc + 1) * sizeof *options.overrides);
    const ls_status status = ls_comm_run(run, &options);
    free(options.overrides);
    free(options.data);
    return status;
}
