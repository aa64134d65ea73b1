/* argp knows the options and writes the help; what it and getopt would say about wrong usage is caught and becomes
 * the one sentence of the house. */
#include "core/command.h"

#include "core/text.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define USAGE_KEY 0x100001 /* beyond any character, so that it has no short form */

typedef struct frame {
    void *input; /* the command's own */
    bool helped;
    const char *extra; /* the first argument that nobody took */
} frame;

static const struct argp_option frame_options[] = {
    {"help", 'h', NULL, 0, "Print this help and leave", -1},
    {NULL, '?', NULL, OPTION_HIDDEN, NULL, -1},
    {"usage", USAGE_KEY, NULL, 0, "Print a short usage line and leave", -1},
    {NULL, 0, NULL, 0, NULL, 0},
};

/* Drops argp's note on arguments of short options, which tells a user nothing. */
static char *frame_filter(int key, const char *text, void *input)
{
    (void)input;
    return key == ARGP_KEY_HELP_DUP_ARGS_NOTE ? NULL : (char *)(uintptr_t)text;
}

static error_t frame_parse(int key, char *argument, struct argp_state *state)
{
    (void)argument;
    frame *self = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = self->input;
        return 0;
    case 'h':
    case '?':
    case USAGE_KEY:
        argp_state_help(state, stdout,
                        key == USAGE_KEY ? ARGP_HELP_USAGE : ARGP_HELP_SHORT_USAGE | ARGP_HELP_LONG | ARGP_HELP_DOC);
        self->helped = true;
        return ECANCELED;
    case ARGP_KEY_ERROR:
        if (state->next < state->argc) self->extra = state->argv[state->next];
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* Runs argp with standard error pointing into memory: getopt offers no other way to keep its message. *said is
 * malloc'ed. */
static error_t parse_caught(char **said, const struct argp *argp, int argc, char **argv, frame *self)
{
    size_t length = 0;
    *said = NULL;
    FILE *memory = open_memstream(said, &length);
    if (memory == NULL) return ENOMEM;
    FILE *const real = stderr;
    stderr = memory;
    const error_t error = argp_parse(argp, argc, argv, ARGP_NO_EXIT | ARGP_NO_HELP, NULL, self);
    stderr = real;
    return fclose(memory) == 0 ? error : ENOMEM;
}

/* The long option that a mistyped one was meant to be, NULL when none is near. */
static const char *nearest_option(const struct argp *argp, const char *typed, size_t *best)
{
    const char *nearest = NULL;
    for (const struct argp_option *o = argp->options; o != NULL && (o->name != NULL || o->key != 0 || o->doc != NULL);
         o++)
        if (o->name != NULL && (o->flags & (OPTION_HIDDEN | OPTION_DOC)) == 0 && ls_text_nearer(best, typed, o->name))
            nearest = o->name;
    for (const struct argp_child *c = argp->children; c != NULL && c->argp != NULL; c++) {
        const char *below = nearest_option(c->argp, typed, best);
        if (below != NULL) nearest = below;
    }
    return nearest;
}

/* What follows "unrecognized option '--", up to '=' or the closing quote; malloc'ed, NULL for another message. */
static char *mistyped_option(const char *message)
{
    static const char start[] = "unrecognized option '--";
    if (strncmp(message, start, sizeof start - 1) != 0) return NULL;
    const char *name = message + sizeof start - 1;
    return ls_text_copy(name, strcspn(name, "='"));
}

/* Turns what argp and getopt said into one sentence. */
static ls_status refuse(const struct argp *argp, const char *program, char *said, error_t error, const char *extra)
{
    const size_t prefix = strlen(program);
    char *message =
        strncmp(said, program, prefix) == 0 && strncmp(said + prefix, ": ", 2) == 0 ? said + prefix + 2 : said;
    message[strcspn(message, "\n")] = '\0';
    if (message[0] == '\0') return LS_FAIL(LS_BAD_INPUT, "%s; see %s --help", strerror(error), program);
    if (strcmp(message, "Too many arguments") == 0 && extra != NULL)
        return LS_FAIL(LS_BAD_INPUT, "unexpected argument '%s'; see %s --help", extra, program);
    if (strncmp(message, "Usage: ", 7) == 0)
        return LS_FAIL(LS_BAD_INPUT, "wrong usage, it is: %s; see %s --help", message + 7, program);
    char *typed = mistyped_option(message);
    size_t best = SIZE_MAX;
    const char *nearest = typed == NULL ? NULL : nearest_option(argp, typed, &best);
    free(typed);
    if (nearest != NULL)
        return LS_FAIL(LS_BAD_INPUT, "%s; did you mean --%s? see %s --help", message, nearest, program);
    return LS_FAIL(LS_BAD_INPUT, "%s; see %s --help", message, program);
}

ls_status ls_command_parse(const struct argp *argp, int argc, char **argv, void *input)
{
    const struct argp_child children[] = {{argp, 0, NULL, 0}, {NULL, 0, NULL, 0}};
    const struct argp framed = {frame_options, frame_parse, NULL, NULL, children, frame_filter, NULL};
    frame self = {input, false, NULL};
    char *said = NULL, *program = ls_text_format("layerskip %s", argv[0]);
    char **arguments = ls_text_memory(NULL, ((size_t)argc + 1) * sizeof *arguments); /* argp reorders them */
    memcpy(arguments, argv, ((size_t)argc + 1) * sizeof *arguments);
    arguments[0] = program;
    const error_t error = parse_caught(&said, &framed, argc, arguments, &self);
    ls_status status = LS_OK;
    if (self.helped)
        status = LS_HELP_SHOWN;
    else if (ls_error_text()[0] != '\0')
        status = LS_BAD_INPUT;
    else if (error != 0 || (said != NULL && said[0] != '\0'))
        status = refuse(&framed, program, said == NULL ? (char[]){""} : said, error, self.extra);
    free(arguments);
    free(program);
    free(said);
    return status;
}

ls_status ls_command_int(int64_t *out, const char *option, const char *text, int64_t minimum, int64_t maximum)
{
    int64_t value = 0;
    if (!ls_text_to_int(&value, text)) return LS_FAIL(LS_BAD_INPUT, "%s: '%s' is not a whole number", option, text);
    if (value < minimum) return LS_FAIL(LS_BAD_INPUT, "%s: %s is below %lld", option, text, (long long)minimum);
    if (value > maximum) return LS_FAIL(LS_BAD_INPUT, "%s: %s is above %lld", option, text, (long long)maximum);
    *out = value;
    return LS_OK;
}

ls_status ls_command_double(double *out, const char *option, const char *text, double minimum, double maximum)
{
    double value = 0;
    if (!ls_text_to_double(&value, text)) return LS_FAIL(LS_BAD_INPUT, "%s: '%s' is not a number", option, text);
    if (value < minimum) return LS_FAIL(LS_BAD_INPUT, "%s: %s is below %g", option, text, minimum);
    if (value > maximum) return LS_FAIL(LS_BAD_INPUT, "%s: %s is above %g", option, text, maximum);
    *out = value;
    return LS_OK;
}

ls_status ls_command_choice(int *out, const char *option, const char *text, const char *const *names)
{
    ls_text known = {0};
    for (int i = 0; names[i] != NULL; i++) {
        if (strcmp(names[i], text) == 0) {
            *out = i;
            free(known.bytes);
            return LS_OK;
        }
        ls_text_addf(&known, "%s%s", i == 0 ? "" : ", ", names[i]);
    }
    const ls_status status = LS_FAIL(LS_BAD_INPUT, "%s: '%s' is not one of %s", option, text, known.bytes);
    free(known.bytes);
    return status;
}

char *ls_command_reference(int key, const char *text, const char *heading, const ls_field *fields, int count)
{
    if (key != ARGP_KEY_HELP_EXTRA) return (char *)(uintptr_t)text;
    char *reference = NULL;
    size_t length = 0;
    FILE *memory = open_memstream(&reference, &length);
    if (memory == NULL) return NULL;
    (void)fprintf(memory, "%s\n\n", heading);
    ls_config_print_reference(memory, fields, count);
    return fclose(memory) == 0 ? reference : NULL;
}
