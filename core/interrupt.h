/* SIGINT and SIGTERM: the first asks for a clean stop, a second ends the process at once. */
#ifndef LS_CORE_INTERRUPT_H
#define LS_CORE_INTERRUPT_H

#include <stdbool.h>

void ls_interrupt_install(void);   /* idempotent */
bool ls_interrupt_requested(void); /* true after the first signal */
int ls_interrupt_signal(void);     /* its number, 0 when none */

#endif
