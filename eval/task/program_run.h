/* A program that a model wrote, run where it can do little harm: in an empty folder that is removed, without the
 * caller's environment and open files, as a user without rights where the caller is root, under limits of time, memory,
 * file size and number of processes. Where the kernel allows it the program has namespaces of its own: no network, and
 * no process outlives it. Elsewhere its processes are found and killed one by one. It is no sandbox against an
 * attacker: it can read what its user can read. */
#ifndef LS_EVAL_TASK_PROGRAM_RUN_H
#define LS_EVAL_TASK_PROGRAM_RUN_H

#include "core/config.h"

typedef enum ls_program_end {
    LS_PROGRAM_PASSED = 0, /* it ended by itself, with exit status 0 */
    LS_PROGRAM_FAILED,     /* with another */
    LS_PROGRAM_KILLED,     /* by a signal */
    LS_PROGRAM_TIMED_OUT,
} ls_program_end;

typedef struct ls_program {
    const char *text;
    /* argv; the item "{file}" becomes the name of a file with the text, without one the text is standard input. */
    const ls_string_list *command;
    double time_limit;    /* seconds */
    int64_t memory_limit; /* MiB, of each process */
} ls_program;

/* *isolated: it had namespaces of its own. Its output goes nowhere. A command that cannot be started is LS_BAD_INPUT; a
 * signal to the caller is LS_INTERRUPTED, without a sentence. When it returns, no process of the program is left. */
ls_status ls_program_run(ls_program_end *end, bool *isolated, const ls_program *program);

#endif
