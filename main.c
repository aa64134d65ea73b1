/* The door: a table of subcommands, nothing else. */
#include "core/interrupt.h"
#include "core/threads.h"
#include "data/commands.h"
#include "eval/commands.h"
#include "kernels/comm/comm.h"
#include "model/commands.h"
#include "train/commands.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const ls_command commands[] = {
    {"prepare", ls_prepare_command, "text files to a token file", true},
    {"train", ls_train_command, "pretrain, continue or fine-tune with the LayerSkip recipe", false},
    {"generate", ls_generate_command, "text from a checkpoint: autoregressive, early-exit or self-speculative", true},
    {"eval", ls_eval_command, "loss and perplexity of every exit layer", false},
    {"sweep", ls_sweep_command, "decoding speed over exit layers and draft lengths", false},
    {"task", ls_task_command, "questions of a file: accuracy of every exit layer", false},
    {"import", ls_import_command, "a Hugging Face folder to a checkpoint", true},
    {"export", ls_export_command, "a checkpoint to a Hugging Face folder, or to GGUF for llama.cpp", true},
    {"report", ls_report_command, "report.html of a run folder", true},
    {"inspect", ls_inspect_command, "shapes, parameters and the recipe's schedule of a file", true},
    {"bench", ls_bench_command, "kernels, training and decoding as shares of this machine's ceilings", false},
};

#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

static void print_help(FILE *file)
{
    (void)fprintf(file, "Usage: layerskip COMMAND [OPTION...] [ARGUMENT...]\n"
                        "Trains language models that exit early, and decodes them by self-speculation.\n\n"
                        "Commands:\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        (void)fprintf(file, "  %-10s %s\n", commands[i].name, commands[i].summary);
    (void)fprintf(file,
                  "\n'layerskip COMMAND --help' tells all of a command's options, 'layerskip --version' the version.\n"
                  "Exit status: 0 success, 2 bad input or a failure the message explains, 75 another process of the\n"
                  "run or a GPU was lost, 130 stopped by a signal.\n");
}

static int run(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return ls_status_exit(LS_BAD_INPUT);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        (void)printf("layerskip %s\n", LS_VERSION);
        return 0;
    }
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(argv[1], commands[i].name) != 0) continue;
        if (commands[i].alone && ls_comm_spare(argv[1])) return 0;
        const ls_status status = commands[i].run(argc - 1, argv + 1);
        if (status != LS_OK && status != LS_HELP_SHOWN && ls_error_text()[0] != '\0') /* of several, one rank tells */
            (void)fprintf(stderr, "layerskip: %s\n", ls_error_text());
        return ls_status_exit(status);
    }
    (void)fprintf(stderr, "layerskip: '%s' is not a command; see layerskip --help\n", argv[1]);
    return ls_status_exit(LS_BAD_INPUT);
}

/* Whoever reads a file that lacks its end must be told. */
int main(int argc, char **argv)
{
    ls_threads_settle(argv);
    ls_interrupt_take();
    ls_comm_hush();
    const int status = run(argc, argv);
    errno = 0;
    if ((fflush(stdout) == 0 && !ferror(stdout)) || status != 0) return status;
    (void)fprintf(stderr, "layerskip: cannot write all of the output: %s\n",
                  errno != 0 ? strerror(errno) : "an earlier part was lost");
    return ls_status_exit(LS_IO);
}
