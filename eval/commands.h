/* Subcommands that live in eval/. */
#ifndef LS_EVAL_COMMANDS_H
#define LS_EVAL_COMMANDS_H

#include "core/command.h"

ls_command_run ls_generate_command;
ls_command_run ls_eval_command;
ls_command_run ls_sweep_command;
ls_command_run ls_task_command;
ls_command_run ls_report_command;

#endif
