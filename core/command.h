/* A subcommand of the program. Each room has its own (train/train_command.c); main.c lists them. */
#ifndef LS_CORE_COMMAND_H
#define LS_CORE_COMMAND_H

#include "core/config.h"
#include "core/status.h"

#include <argp.h>
#include <stdbool.h>
#include <stdint.h>

/* argv[0] is the subcommand's name. Returns a status; main.c prints ls_error_text() and exits. */
typedef ls_status ls_command_run(int argc, char **argv);

typedef struct ls_command {
    const char *name;
    ls_command_run *run;
    const char *summary; /* one line for `layerskip --help` */
    bool alone;          /* of several processes the first runs it, the others end at once */
} ls_command;

/* argp_parse with the house's ways: program name "layerskip NAME"; --help, -h and --usage print on standard output and
 * return LS_HELP_SHOWN (exit status 0, no sentence: the command passes it up at once); any wrong usage is one sentence
 * and LS_BAD_INPUT, never argp's own exit. A parser refuses an argument with argp_error(), or with LS_FAIL and any
 * error_t but 0 and ARGP_ERR_UNKNOWN. */
ls_status ls_command_parse(const struct argp *argp, int argc, char **argv, void *input);

/* For an argp's help_filter: behind the options stands `heading`, then the reference of the keys of a config file. */
char *ls_command_reference(int key, const char *text, const char *heading, const ls_field *fields, int count);

/* The number in an option's argument, within inclusive bounds; `option` ("--seed") names it in the refusal. */
ls_status ls_command_int(int64_t *out, const char *option, const char *text, int64_t minimum, int64_t maximum);
ls_status ls_command_double(double *out, const char *option, const char *text, double minimum, double maximum);

/* Index of text in `names`, NULL-terminated. */
ls_status ls_command_choice(int *out, const char *option, const char *text, const char *const *names);

#endif
