/* One thread waits for the signals; see interrupt.h. */
#include "core/interrupt.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>

#define STACK_BYTES ((size_t)256 << 10)

static atomic_int received;
static atomic_bool taken, asking;

static bool is_ignored(int number)
{
    struct sigaction action;
    return sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

/* Dying of the signal itself tells the parent what happened. */
static void die_of(int number)
{
    sigset_t one;
    (void)sigemptyset(&one);
    (void)sigaddset(&one, number);
    (void)signal(number, SIG_DFL);
    (void)pthread_sigmask(SIG_UNBLOCK, &one, NULL);
    (void)raise(number);
}

static void *wait_for_signals(void *argument)
{
    const sigset_t *signals = argument;
    for (;;) {
        int number, none = 0;
        if (sigwait(signals, &number) != 0) continue;
        if (atomic_load(&asking)) {
            if (atomic_compare_exchange_strong(&received, &none, number)) continue;
            if (number == SIGHUP) continue; /* a terminal that closes sends several */
        }
        die_of(number);
    }
    return NULL;
}

void ls_interrupt_take(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1};
    static sigset_t signals; /* the thread's */
    if (atomic_exchange(&taken, true)) return;
    (void)sigemptyset(&signals);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (!is_ignored(numbers[i])) (void)sigaddset(&signals, numbers[i]);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
    pthread_attr_t attributes;
    pthread_t thread;
    (void)pthread_attr_init(&attributes);
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    (void)pthread_attr_setstacksize(&attributes, STACK_BYTES);
    /* Without the thread signals do what they do by themselves. */
    if (pthread_create(&thread, &attributes, wait_for_signals, &signals) != 0)
        (void)pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
    (void)pthread_attr_destroy(&attributes);
}

void ls_interrupt_install(void)
{
    ls_interrupt_take();
    atomic_store(&asking, true);
    (void)signal(SIGXFSZ, SIG_IGN);
}

bool ls_interrupt_requested(void) { return atomic_load(&received) != 0; }

int ls_interrupt_signal(void) { return atomic_load(&received); }
