/* Subcommands that live in model/. */
#ifndef LS_MODEL_COMMANDS_H
#define LS_MODEL_COMMANDS_H

#include "core/command.h"

ls_command_run ls_import_command;
ls_command_run ls_export_command;

#endif
