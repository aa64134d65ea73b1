/* Arguments as users mistype them: one sentence each, silence from argp, and a complete help. */
#include "core_check.h"
#include "core/command.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct options {
    const char *config, *model;
    int64_t tokens;
} options;

static const struct argp_option table[] = {
    {"model", 'm', "CHECKPOINT", 0, "Checkpoint to decode", 0},
    {"max-new-tokens", 1000, "N", 0, "How many tokens to add", 0},
    {"max-rounds", 1001, "N", 0, "How many rounds", 0},
    {"json", 1002, NULL, 0, "Print JSON", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    options *self = state->input;
    switch (key) {
    case 'm':
        self->model = argument;
        return 0;
    case 1000:
        return ls_command_int(&self->tokens, "--max-new-tokens", argument, 1, 4096) == LS_OK ? 0 : EINVAL;
    case 1001:
        argp_error(state, "%s rounds make no sense", argument);
        return 0;
    case 1002:
        return ENOTSUP;
    case ARGP_KEY_ARG:
        if (self->config != NULL) return ARGP_ERR_UNKNOWN;
        self->config = argument;
        return 0;
    case ARGP_KEY_END:
        if (self->config == NULL) argp_usage(state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp command = {table, parse_option, "CONFIG", "Does it.\vSee the manual.", NULL, NULL, NULL};

/* Splits a line at blanks and parses it as the arguments of "train". */
static ls_status parse(options *out, const char *line)
{
    static char words[256];
    char *argv[16] = {(char[]){"train"}};
    int argc = 1;
    (void)snprintf(words, sizeof words, "%s", line);
    for (char *word = strtok(words, " "); word != NULL; word = strtok(NULL, " ")) argv[argc++] = word;
    *out = (options){0};
    return ls_command_parse(&command, argc, argv, out);
}

static void takes_what_is_right(void **state)
{
    (void)state;
    options got;
    CHECK_OK(parse(&got, "a.yaml --model x.h5 --max-new-tokens=1_0"));
    assert_string_equal(got.config, "a.yaml");
    assert_string_equal(got.model, "x.h5");
    assert_int_equal(got.tokens, 10);
    CHECK_OK(parse(&got, "-my.h5 -- --odd"));
    assert_string_equal(got.config, "--odd");
    assert_string_equal(got.model, "y.h5");
    CHECK_OK(parse(&got, "c --max-new-tokens 1"));
    CHECK_OK(parse(&got, "c --max-new-tokens 4096"));
    assert_int_equal(got.tokens, 4096);
}

static void the_callers_arguments_stay_in_order(void **state)
{
    (void)state;
    options got = {0};
    char *argv[] = {(char[]){"train"}, (char[]){"c.yaml"}, (char[]){"--model"}, (char[]){"x.h5"}, NULL};
    CHECK_OK(ls_command_parse(&command, 4, argv, &got));
    assert_string_equal(argv[0], "train");
    assert_string_equal(argv[1], "c.yaml");
    assert_ptr_equal(got.config, argv[1]);
}

static const struct {
    const char *line, *sentence;
} wrong[] = {
    {"c --modle x", "unrecognized option '--modle'; did you mean --model? see layerskip train --help"},
    {"c --zzz=4", "unrecognized option '--zzz=4'; see layerskip train --help"},
    {"c --hlep", "did you mean --help?"},
    {"c -z", "invalid option -- 'z'"},
    {"c --max=3", "option '--max=3' is ambiguous"},
    {"c --model", "option '--model' requires an argument"},
    {"c --json=1", "option '--json' doesn't allow an argument"},
    {"a b", "unexpected argument 'b'"},
    {"--max-new-tokens 3", "wrong usage, it is: layerskip train [OPTION...] CONFIG"},
    {"c --max-new-tokens 0", "--max-new-tokens: 0 is below 1"},
    {"c --max-new-tokens 5000", "--max-new-tokens: 5000 is above 4096"},
    {"c --max-new-tokens 3.5", "--max-new-tokens: '3.5' is not a whole number"},
    {"c --max-rounds 7", "7 rounds make no sense"},
    {"c --json", "Operation not supported"},
};

static void refuses_with_one_sentence(void **state)
{
    (void)state;
    options got;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        CHECK_REFUSED(parse(&got, wrong[i].line), LS_BAD_INPUT, wrong[i].sentence);
}

static void parse_all_wrong(void *context)
{
    (void)context;
    options got;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        ls_error_clear();
        if (parse(&got, wrong[i].line) != LS_BAD_INPUT) _exit(1);
    }
}

static void argp_itself_is_silent(void **state)
{
    (void)state;
    char output[512];
    for (int descriptor = 1; descriptor <= 2; descriptor++) {
        CHECK_CHILD_EXITS(check_in_child(parse_all_wrong, NULL, descriptor, output, sizeof output), 0);
        assert_string_equal(output, "");
    }
}

static void ask_for_help(void *context)
{
    options got;
    if (parse(&got, context) != LS_HELP_SHOWN || ls_error_text()[0] != '\0') _exit(1);
}

static void help_is_complete(void **state)
{
    (void)state;
    static const char *const ways[] = {"--help", "-h", "-?", "--hel", "a --help --zzz"};
    static const char *const parts[] = {"Usage: layerskip train [OPTION...] CONFIG\n",
                                        "Does it.",
                                        "-m, --model=CHECKPOINT",
                                        "--max-new-tokens=N     How many tokens to add",
                                        "--json",
                                        "--help",
                                        "--usage",
                                        "See the manual."};
    char output[4096];
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        CHECK_CHILD_EXITS(check_in_child(ask_for_help, (void *)(uintptr_t)ways[i], 1, output, sizeof output), 0);
        for (size_t j = 0; j < sizeof parts / sizeof parts[0]; j++) check_text_has(output, parts[j]);
        CHECK_CHILD_EXITS(check_in_child(ask_for_help, (void *)(uintptr_t)ways[i], 2, output, sizeof output), 0);
        assert_string_equal(output, "");
    }
    CHECK_CHILD_EXITS(check_in_child(ask_for_help, (char[]){"--usage"}, 1, output, sizeof output), 0);
    check_text_has(output, "Usage: layerskip train [-h] [-m CHECKPOINT]");
    assert_null(strstr(output, "Does it."));
}

static void numbers_in_options(void **state)
{
    (void)state;
    double value = 0;
    CHECK_OK(ls_command_double(&value, "--temperature", "0.7", 0, 10));
    assert_true(value == 0.7);
    CHECK_REFUSED(ls_command_double(&value, "--top-p", "1.5", 0, 1), LS_BAD_INPUT, "--top-p: 1.5 is above 1");
    CHECK_REFUSED(ls_command_double(&value, "--top-p", "-.1", 0, 1), LS_BAD_INPUT, "--top-p: -.1 is below 0");
    CHECK_REFUSED(ls_command_double(&value, "--top-p", "nan", 0, 1), LS_BAD_INPUT, "'nan' is not a number");
    assert_true(value == 0.7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_what_is_right),   cmocka_unit_test(refuses_with_one_sentence),
        cmocka_unit_test(argp_itself_is_silent), cmocka_unit_test(help_is_complete),
        cmocka_unit_test(numbers_in_options),    cmocka_unit_test(the_callers_arguments_stay_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
