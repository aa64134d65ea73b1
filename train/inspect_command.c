/* layerskip inspect: what is in a file. */
#include "train/commands.h"

#include "core/file.h"
#include "core/hdf5_file.h"
#include "core/text.h"
#include "train/inspect.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_PROCESSES = 1 << 20 };

typedef struct arguments {
    const char *path;
    const char **overrides; /* [count], room for argc */
    int count;
    ls_inspect_steps steps;
    int64_t processes;
    bool json, build, memory;
} arguments;

static const struct argp_option options[] = {
    {"json", 'j', NULL, 0, "One JSON document", 0},
    {"steps", 's', "T,T,...", 0, "Steps of the schedule, from 0 (default: the start, about the quarters, the end)", 0},
    {"memory", 'm', NULL, 0, "Tell what training with CONFIG.yaml allocates on its device, in bytes", 0},
    {"processes", 'p', "N", 0, "With --memory: of each of N processes, a device for each (default: 1)", 0},
    {"build", 'b', NULL, 0, "Tell what this program was built with, and this machine's processor", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

/* "0,1,100" */
static ls_status parse_steps(ls_inspect_steps *out, const char *text)
{
    out->count = 0;
    for (const char *start = text;; start += strcspn(start, ",") + 1) {
        const size_t length = strcspn(start, ",");
        char *piece = ls_text_copy(start, length);
        int64_t step;
        const ls_status status = ls_command_int(&step, "--steps", piece, 0, INT64_MAX);
        free(piece);
        LS_TRY(status);
        out->steps = ls_text_memory(out->steps, sizeof *out->steps * (size_t)(out->count + 1));
        out->steps[out->count++] = step;
        if (start[length] == '\0') return LS_OK;
    }
}

static error_t parse(int key, char *argument, struct argp_state *state)
{
    arguments *self = state->input;
    switch (key) {
    case 'j':
        self->json = true;
        return 0;
    case 's':
        return parse_steps(&self->steps, argument) == LS_OK ? 0 : EINVAL;
    case 'm':
        self->memory = true;
        return 0;
    case 'p':
        return ls_command_int(&self->processes, "--processes", argument, 1, MOST_PROCESSES) == LS_OK ? 0 : EINVAL;
    case 'b':
        self->build = true;
        return 0;
    case ARGP_KEY_ARG:
        if (self->path == NULL)
            self->path = argument;
        else
            self->overrides[self->count++] = argument;
        return 0;
    case ARGP_KEY_END:
        if (self->path == NULL && !self->build) argp_error(state, "the FILE to inspect is missing");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp command = {
    options,
    parse,
    "CHECKPOINT\nTOKENS.h5\nRUN_DIR\nCONFIG.yaml [KEY.SUB=VALUE...]\n--build",
    "Tells the shape, the parameters and the recipe's schedule of a checkpoint, run or config, and what a token file "
    "holds.\n\n"
    "The schedule gives, at chosen steps, every layer's dropout rate and the weight of its exit in the loss.",
    NULL,
    NULL,
    NULL,
};

static bool ends_with(const char *text, const char *end)
{
    const size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

static bool is_token_file(const char *path)
{
    hid_t file;
    const bool is = ls_hdf5_open(&file, path, "tokens") == LS_OK;
    if (is) (void)H5Fclose(file);
    ls_error_clear();
    return is;
}

static bool begins_like_hdf5(const char *path)
{
    char first[4] = {0};
    FILE *file = fopen(path, "rbe");
    if (file == NULL) return false;
    const bool is = fread(first, 1, sizeof first, file) == sizeof first && memcmp(first, "\x89HDF", sizeof first) == 0;
    (void)fclose(file);
    return is;
}

static ls_status inspect(cJSON **out, const arguments *self)
{
    if (self->build) return ls_inspect_build(out);
    const bool folder = ls_file_is_folder(self->path);
    if (!folder && !ends_with(self->path, ".h5") && !begins_like_hdf5(self->path))
        return self->memory ? ls_inspect_memory(out, self->path, self->overrides, self->count, (int)self->processes)
                            : ls_inspect_config(out, self->path, self->overrides, self->count, &self->steps);
    if (self->memory) return LS_FAIL(LS_BAD_INPUT, "--memory is for a config; %s is none", self->path);
    if (self->count > 0)
        return LS_FAIL(LS_BAD_INPUT, "'%s' overrides a key, but %s is no config", self->overrides[0], self->path);
    if (!folder && is_token_file(self->path)) return ls_inspect_tokens(out, self->path);
    return ls_inspect_checkpoint(out, self->path, &self->steps);
}

static ls_status run(const arguments *self)
{
    cJSON *document = NULL;
    ls_status status = inspect(&document, self);
    if (status == LS_OK && self->json)
        status = ls_json_print(stdout, document, true);
    else if (status == LS_OK)
        ls_inspect_print_text(stdout, document);
    cJSON_Delete(document);
    if (status == LS_OK && fflush(stdout) != 0) status = LS_FAIL(LS_IO, "cannot write the result: %s", strerror(errno));
    return status;
}

ls_status ls_inspect_command(int argc, char **argv)
{
    arguments self = {.processes = 1, .overrides = calloc((size_t)argc, sizeof(char *))};
    if (self.overrides == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for the arguments");
    ls_status status = ls_command_parse(&command, argc, argv, &self);
    if (status == LS_OK) status = run(&self);
    free(self.steps.steps);
    free(self.overrides);
    return status;
}
