/* Subcommands that live in data/. */
#ifndef LS_DATA_COMMANDS_H
#define LS_DATA_COMMANDS_H

#include "core/command.h"

ls_command_run ls_prepare_command;

#endif
