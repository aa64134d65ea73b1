/* `layerskip report`: report.html of a run folder. */
#include "eval/commands.h"
#include "eval/report.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    const char **run_dir = state->input;
    switch (key) {
    case ARGP_KEY_ARG:
        if (*run_dir != NULL) return ARGP_ERR_UNKNOWN;
        *run_dir = argument;
        return 0;
    case ARGP_KEY_END:
        if (*run_dir != NULL) return 0;
        (void)LS_FAIL(LS_BAD_INPUT, "give the run folder, as in layerskip report RUN_DIR");
        return EINVAL;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

ls_status ls_report_command(int argc, char **argv)
{
    static const struct argp argp = {
        NULL,
        parse_option,
        "RUN_DIR",
        "Writes RUN_DIR/report.html, one file that needs nothing else: the configuration, the curves, the held-out "
        "loss "
        "of every exit, and the sweep and the sample where RUN_DIR holds sweep.json (layerskip sweep --out) and "
        "sample.json (layerskip generate --json).",
        NULL,
        NULL,
        NULL};
    const char *run_dir = NULL;
    LS_TRY(ls_command_parse(&argp, argc, argv, &run_dir));
    char *path = NULL;
    const ls_status status = ls_report_write(&path, run_dir);
    if (status == LS_OK) (void)printf("%s\n", path);
    free(path);
    return status;
}
