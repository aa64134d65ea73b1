/* SIGINT, SIGTERM, SIGHUP (the terminal closes) and SIGUSR1 (Slurm's warning, and the one mpirun passes on): the first
 * asks for a clean stop, a second ends the process at once, unless it is another SIGHUP.
 *
 * They are taken by a thread of their own and blocked in all others. A handler would push its frame on the stack of
 * whatever it interrupts, and oneDNN's fp32 products point the stack register into their buffers: a signal at that
 * moment overwrote the heap. */
#ifndef LS_CORE_INTERRUPT_H
#define LS_CORE_INTERRUPT_H

#include <stdbool.h>

/* For main, before there are threads: those inherit the blocking. Until ls_interrupt_install a signal ends the process,
 * as if nothing had been done. A signal that was ignored when the process started (nohup, a shell's background job)
 * stays ignored. Programs that this process starts inherit the blocking too. */
void ls_interrupt_take(void);
/* From now on the first signal asks. Idempotent. Takes the signals where nobody has. Also makes a write beyond the file
 * size limit an error to report instead of a deadly signal. */
void ls_interrupt_install(void);
bool ls_interrupt_requested(void); /* true after the first signal */
int ls_interrupt_signal(void);     /* its number, 0 when none */

#endif
