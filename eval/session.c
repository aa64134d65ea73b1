#include "eval/session.h"

#include "core/log.h"
#include "model/model_file.h"

#include <errno.h>
#include <stdlib.h>

static const char *const precisions[] = {"auto", "bf16", "fp32", NULL};
static const char *const switches[] = {"off", "on", NULL};

enum { KEY_DEVICE = 0x2000, KEY_DEVICE_INDEX, KEY_ATTENTION, KEY_GRAPHS, KEY_THREADS, KEY_PRECISION };

static const struct argp_option options[] = {
    {"model", 'm', "CHECKPOINT", 0,
     "The model: a checkpoint, a run folder (its newest checkpoint) or a Hugging Face folder", 0},
    {"device", KEY_DEVICE, "cpu|cuda|reference", 0, "Where to run (default cpu)", 0},
    {"device-index", KEY_DEVICE_INDEX, "I", 0, "Which of the visible GPUs, from 0 (default 0)", 0},
    {"attention", KEY_ATTENTION, "auto|cudnn|builtin", 0, "Whose attention a GPU runs over whole sequences", 0},
    {"cuda-graphs", KEY_GRAPHS, "on|off", 0,
     "Record rounds of decoding on a GPU and launch each by one call (default on)", 0},
    {"threads", KEY_THREADS, "N", 0, "Threads to use (default 0: all the processor offers)", 0},
    {"precision", KEY_PRECISION, "auto|bf16|fp32", 0,
     "Compute type (default auto: bf16 where the processor multiplies it natively)", 0},
    {0},
};

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    ls_session_options *session = state->input;
    ls_status status = LS_OK;
    switch (key) {
    case 'm':
        session->model = argument;
        break;
    case KEY_DEVICE:
        status = ls_command_choice(&session->device, "--device", argument, ls_device_names);
        break;
    case KEY_DEVICE_INDEX:
        status = ls_command_int(&session->device_index, "--device-index", argument, 0, 1023);
        break;
    case KEY_ATTENTION:
        status = ls_command_choice(&session->attention, "--attention", argument, ls_attention_names);
        break;
    case KEY_GRAPHS:
        status = ls_command_choice(&session->cuda_graphs, "--cuda-graphs", argument, switches);
        break;
    case KEY_THREADS:
        status = ls_command_int(&session->threads, "--threads", argument, 0, 1024);
        break;
    case KEY_PRECISION:
        status = ls_command_choice(&session->precision, "--precision", argument, precisions);
        break;
    case ARGP_KEY_END:
        if (session->model == NULL) status = LS_FAIL(LS_BAD_INPUT, "give the model with --model CHECKPOINT");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return status == LS_OK ? 0 : EINVAL;
}

const struct argp ls_session_argp = {options, parse_option, NULL, NULL, NULL, NULL, NULL};

ls_session_options ls_session_defaults(void)
{
    return (ls_session_options){.device = LS_DEVICE_CPU, .cuda_graphs = -1};
}

static void choose_graphs(ls_exec *exec, int cuda_graphs)
{
    if (cuda_graphs == 0) exec->recorder = NULL;
    if (cuda_graphs == 1 && exec->recorder == NULL)
        ls_log_warning("--cuda-graphs on: nothing is recorded on device %s", ls_device_names[exec->device]);
}

static ls_dtype compute_type(const ls_exec *exec, int precision)
{
    const bool bf16 = precision == 1 || (precision == 0 && ls_exec_has_fast_bf16(exec));
    return bf16 ? LS_BF16 : LS_F32;
}

ls_status ls_session_open(ls_session *session, const ls_session_options *chosen)
{
    *session = (ls_session){0};
    const int threads = chosen->threads > 0 ? (int)chosen->threads : ls_comm_threads(chosen->comm);
    const ls_device device = (ls_device)chosen->device;
    const int index = ls_comm_device_index(chosen->comm, device, (int)chosen->device_index);
    LS_TRY(ls_exec_create_on(&session->exec, device, index, threads));
    session->has_exec = true;
    session->exec.attention = (ls_attention_choice)chosen->attention;
    choose_graphs(&session->exec, chosen->cuda_graphs);
    char *tokenizer = NULL;
    LS_TRY(ls_model_load(&session->model, &tokenizer, &session->exec, chosen->model,
                         compute_type(&session->exec, chosen->precision)));
    session->has_model = true;
    ls_status status = ls_tokenizer_from_text(&session->tokenizer, tokenizer, chosen->model);
    free(tokenizer);
    if (status == LS_OK && ls_tokenizer_vocab_size(session->tokenizer) > session->model.config.vocab_size)
        status = LS_FAIL(LS_BAD_INPUT, "%s: its tokenizer has %lld entries, its model only %lld", chosen->model,
                         (long long)ls_tokenizer_vocab_size(session->tokenizer),
                         (long long)session->model.config.vocab_size);
    return status;
}

void ls_session_close(ls_session *session)
{
    ls_tokenizer_free(session->tokenizer);
    if (session->has_model) ls_model_destroy(&session->model);
    if (session->has_exec) ls_exec_destroy(&session->exec);
    *session = (ls_session){0};
}
