/* The handler only sets a flag; the second signal restores the default and is raised again. */
#include "core/interrupt.h"

#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>

static atomic_int received; /* lock-free, so a handler may touch it (C17 7.14.1.1) */

static void on_signal(int number)
{
    int none = 0;
    if (atomic_compare_exchange_strong(&received, &none, number)) return;
    if (number == SIGHUP) return; /* a terminal that closes sends several */
    /* Dying of the signal itself tells the parent what happened; it is delivered when this handler returns. */
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

static void catch_unless_ignored(int number)
{
    struct sigaction action;
    if (sigaction(number, NULL, &action) != 0 || action.sa_handler == SIG_IGN) return;
    action = (struct sigaction){.sa_handler = on_signal, .sa_flags = SA_RESTART};
    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(number, &action, NULL);
}

void ls_interrupt_install(void)
{
    catch_unless_ignored(SIGINT);
    catch_unless_ignored(SIGTERM);
    catch_unless_ignored(SIGUSR1);
    catch_unless_ignored(SIGHUP);
    (void)signal(SIGXFSZ, SIG_IGN);
}

bool ls_interrupt_requested(void) { return atomic_load(&received) != 0; }

int ls_interrupt_signal(void) { return atomic_load(&received); }
