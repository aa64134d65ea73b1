/* Subcommands that live in train/. */
#ifndef LS_TRAIN_COMMANDS_H
#define LS_TRAIN_COMMANDS_H

#include "core/command.h"

ls_command_run ls_train_command;
ls_command_run ls_inspect_command;
ls_command_run ls_bench_command;

#endif
