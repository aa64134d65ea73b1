/* A subcommand of the program. Each room has its own (train/train_command.c); main.c lists them. */
#ifndef LS_CORE_COMMAND_H
#define LS_CORE_COMMAND_H

#include "core/status.h"

#include <argp.h>

/* argv[0] is the subcommand's name. Returns a status; main.c prints ls_error_text() and exits. */
typedef ls_status ls_command_run(int argc, char **argv);

typedef struct ls_command {
    const char *name;
    ls_command_run *run;
    const char *summary; /* one line for `layerskip --help` */
} ls_command;

/* argp_parse with the house's ways: program name "layerskip NAME", --help on standard output with status 0, any wrong
 * usage is one sentence and LS_BAD_INPUT (never argp's own exit). */
ls_status ls_command_parse(const struct argp *argp, int argc, char **argv, void *input);

#endif
