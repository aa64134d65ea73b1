/* How threads wait for each other. */
#ifndef LS_CORE_THREADS_H
#define LS_CORE_THREADS_H

/* Call first thing in main. GNU OpenMP lets a thread that waits for its neighbours spin for milliseconds before it
 * sleeps: where anything else runs on the cores, the spinning keeps the awaited thread from running, and training falls
 * to a fortieth of its speed (tested at a load of 15 on 2 cores: 70 tokens/s instead of 2,800; undisturbed 6,700 either
 * way). The library reads its settings before main begins, so the process starts itself anew, once, with a shorter
 * limit. A limit or policy that the user's environment sets is left alone. */
void ls_threads_settle(char **arguments);

#endif
