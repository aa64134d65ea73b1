/* SIGINT, SIGTERM, SIGHUP (the terminal closes) and SIGUSR1 (Slurm's warning, and the one mpirun passes on): the first
 * asks for a clean stop, a second ends the process at once, unless it is another SIGHUP. */
#ifndef LS_CORE_INTERRUPT_H
#define LS_CORE_INTERRUPT_H

#include <stdbool.h>

/* Idempotent. A signal that was ignored when the process started (nohup, a shell's background job) stays ignored. Also
 * makes a write beyond the file size limit an error to report instead of a deadly signal. */
void ls_interrupt_install(void);
bool ls_interrupt_requested(void); /* true after the first signal */
int ls_interrupt_signal(void);     /* its number, 0 when none */

#endif
