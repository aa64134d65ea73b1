/* layerskip train: the command line of a run. */
#include "train/commands.h"

#include "train/loop.h"

#include <stdlib.h>
#include <string.h>

typedef struct arguments {
    int argc;
    char **argv;
    const char *config;
    const char **overrides; /* [count], room for argc */
    int count;
    ls_start start;
} arguments;

static const struct argp_option options[] = {
    {"resume", 'r', NULL, 0, "Continue the newest checkpoint of run_dir, bit for bit", 0},
    {"auto-resume", 'a', NULL, 0, "The same where run_dir holds a checkpoint, the newest that is whole; else begin", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

static error_t parse(int key, char *argument, struct argp_state *state)
{
    arguments *self = state->input;
    switch (key) {
    case 'r':
        self->start = LS_START_RESUME;
        return 0;
    case 'a':
        self->start = LS_START_EITHER;
        return 0;
    case ARGP_KEY_ARG:
        if (self->config == NULL)
            self->config = argument;
        else
            self->overrides[self->count++] = argument;
        return 0;
    case ARGP_KEY_END:
        if (self->config == NULL) argp_error(state, "CONFIG.yaml is missing");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static char *append_reference(int key, const char *text, void *input)
{
    (void)input;
    return ls_command_reference(
        key, text, "Keys of CONFIG.yaml, each also as key.sub=value behind it:", ls_train_fields, ls_train_field_count);
}

static const struct argp command = {
    options,
    parse,
    "CONFIG.yaml [KEY.SUB=VALUE...]",
    "Trains a model with the LayerSkip recipe: layer dropout and early exit loss.\n\n"
    "Writes into run_dir: config.yaml (resolved), metrics.jsonl, TensorBoard events, checkpoints/step-N.h5. Ctrl-C, "
    "SIGTERM or a closed terminal saves and stops; a second one stops at once.",
    NULL,
    append_reference,
    NULL,
};

/* As one of the processes that mpirun or srun started, or alone. */
static ls_status run_as_rank(ls_comm *comm, void *context)
{
    arguments *self = context;
    ls_train_config config;
    LS_TRY(ls_comm_agree(comm, ls_command_parse(&command, self->argc, self->argv, self)));
    const ls_status own = ls_train_config_read(&config, self->config, self->overrides, self->count);
    ls_status status = ls_comm_agree(comm, own);
    if (status == LS_OK) status = ls_train_run_shared(&config, self->start, comm);
    if (own == LS_OK) ls_train_config_free(&config);
    return status;
}

ls_status ls_train_command(int argc, char **argv)
{
    arguments self = {.argc = argc, .argv = argv, .overrides = calloc((size_t)argc, sizeof(char *))};
    if (self.overrides == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for the arguments");
    const ls_status status = ls_comm_run(run_as_rank, &self);
    free(self.overrides);
    return status;
}
