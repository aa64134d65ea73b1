/* The watchdog: a thread that sees neighbours die and the own rank stand still.
 *
 * It calls no MPI, so it works while the main thread is stuck in it. Death of a process on this host shows at once (a
 * pidfd); a rank elsewhere is seen by the launcher, or as a message that never comes. Either way nothing can be saved
 * any more, since every rank holds a part: the process prints what it knows and ends. Started by comm.c. */
#include "kernels/comm/internal.h"

#include "core/log.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/pidfd.h>
#include <time.h>
#include <unistd.h>

enum {
    LOOK_MILLISECONDS = 250,
    TABLE_MILLISECONDS = 2000,    /* that the other ranks leave the one that prints the table */
    LAUNCHER_MILLISECONDS = 3000, /* until it has ended the ranks of all machines when one has failed */
    ABORT_SECONDS = 5,
    DISK_PATIENCE = 5, /* a disk that takes what it was given shows no sign of life until it has it all */
};

struct ls_watch {
    pthread_t thread;
    struct pollfd *files; /* [neighbours + 1]; the last one ends the thread */
    int count;
};

static const char *const phase_names[] = {
#define PHASE_NAME(name, text) text,
    LS_COMM_PHASE_LIST(PHASE_NAME)
#undef PHASE_NAME
};

static int64_t milliseconds_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void rest(long milliseconds)
{
    const struct timespec span = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    (void)nanosleep(&span, NULL);
}

/* "rank 2: step 12, reducing gradients, waits for rank 1, 31 s without news" */
static void say_standing(const char *host, const ls_standing *standing)
{
    char waits[48] = "";
    const int other = atomic_load(&standing->waiting_for);
    if (other >= 0) (void)snprintf(waits, sizeof waits, ", waits for rank %d", other);
    const double silent = 1e-3 * (double)(milliseconds_now() - atomic_load(&standing->moved_at));
    (void)fprintf(stderr, "layerskip: rank %d on %s: step %lld, %s%s, %.1f s without news\n",
                  atomic_load(&standing->rank), host, (long long)atomic_load(&standing->step),
                  phase_names[atomic_load(&standing->phase)], waits, silent);
}

static void *abort_buckets(void *argument)
{
    ls_comm *comm = argument;
    (void)pthread_mutex_lock(&comm->guard);
    if (comm->watched != NULL) comm->watched->abort(comm);
    (void)pthread_mutex_unlock(&comm->guard);
    return NULL;
}

/* GPUs are told to give up what they wait for, so that the driver lets the process go; that may itself hang. */
static _Noreturn void end(ls_comm *comm, ls_status status)
{
    pthread_t thread;
    struct timespec deadline;
    (void)fflush(stderr);
    (void)clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += ABORT_SECONDS;
    if (pthread_create(&thread, NULL, abort_buckets, comm) == 0) (void)pthread_timedjoin_np(thread, NULL, &deadline);
    _exit(ls_status_exit(status));
}

/* One thread speaks, and the other waits for the end: what the watchdog does to the GPU's work looks to the main thread
 * like a failure of the GPU. */
static void claim_the_end(ls_comm *comm)
{
    while (atomic_exchange(&comm->ending, true)) rest(LOOK_MILLISECONDS);
}

static void heed_neighbours(ls_comm *comm)
{
    for (int i = 0; i < comm->neighbours && comm->standings != NULL; i++) {
        const ls_status verdict = (ls_status)atomic_load(&comm->standings[i].verdict);
        if (verdict != LS_OK) end(comm, verdict);
    }
}

void ls_watch_heed(ls_comm *comm)
{
    claim_the_end(comm);
    heed_neighbours(comm);
    if (comm->size > comm->neighbours) rest(LAUNCHER_MILLISECONDS);
}

static const char *advice(const ls_comm *comm)
{
    return atomic_load(&comm->resumes) ? "--resume continues from the newest checkpoint" : "start the command again";
}

static bool new_start_may_help(ls_status status) { return ls_status_exit(status) == ls_status_exit(LS_LOST); }

_Noreturn void ls_watch_drop_out(ls_comm *comm, ls_status status)
{
    const bool again = new_start_may_help(status);
    claim_the_end(comm);
    if (again)
        heed_neighbours(comm);
    else if (comm->own != NULL)
        atomic_store(&comm->own->verdict, (int)status);
    (void)fprintf(stderr, "layerskip: rank %d on %s ends: %s%s%s\n", comm->rank, comm->host, ls_error_text(),
                  again ? "; " : "", again ? advice(comm) : "");
    end(comm, status);
}

static void lost(ls_comm *comm, int neighbour)
{
    claim_the_end(comm);
    heed_neighbours(comm);
    const ls_standing *standing = &comm->standings[neighbour];
    (void)fprintf(stderr,
                  "layerskip: rank %d: lost rank %d (process %d on %s) at its step %lld, %s; this process ends; %s\n",
                  comm->rank, atomic_load(&standing->rank), atomic_load(&standing->process), comm->host,
                  (long long)atomic_load(&standing->step), phase_names[atomic_load(&standing->phase)], advice(comm));
    end(comm, LS_LOST);
}

static void out_of_touch(ls_comm *comm, const char *reason)
{
    ls_watch_heed(comm);
    (void)fprintf(stderr, "layerskip: rank %d on %s lost touch with the other GPUs: %s; this process ends; %s\n",
                  comm->rank, comm->host, reason, advice(comm));
    end(comm, LS_LOST);
}

static void stuck(ls_comm *comm, int64_t timeout)
{
    claim_the_end(comm);
    heed_neighbours(comm);
    if (atomic_exchange(&comm->standings->reported, 1) != 0) {
        rest(TABLE_MILLISECONDS);
        end(comm, LS_LOST);
    }
    (void)fprintf(stderr, "layerskip: nothing has moved for %.1f s (parallel.timeout); the ranks on %s stand at\n",
                  1e-3 * (double)timeout, comm->host);
    for (int i = 0; i < comm->neighbours; i++) say_standing(comm->host, &comm->standings[i]);
    (void)fprintf(stderr, "layerskip: all processes end; %s\n", advice(comm));
    (void)fflush(stderr);
    rest(TABLE_MILLISECONDS / 2);
    end(comm, LS_LOST);
}

/* How long this rank may stand still where it is, in milliseconds; 0: for ever. */
static int64_t patience(const ls_comm *comm)
{
    const int phase = atomic_load(&comm->own->phase);
    const bool disk = phase == LS_COMM_LOADING || phase == LS_COMM_SAVING;
    return atomic_load(&comm->timeout) * (disk ? DISK_PATIENCE : 1);
}

static void *watch(void *argument)
{
    ls_comm *comm = argument;
    const ls_watch *self = comm->watch;
    char reason[256];
    for (;;) {
        const int news = poll(self->files, (nfds_t)self->count, LOOK_MILLISECONDS);
        if (news > 0 && self->files[self->count - 1].revents != 0) return NULL;
        for (int i = 0; news > 0 && i + 1 < self->count; i++)
            if (self->files[i].revents != 0) lost(comm, i);
        (void)pthread_mutex_lock(&comm->guard);
        const bool well = comm->watched == NULL || comm->watched->well(comm, reason, sizeof reason);
        (void)pthread_mutex_unlock(&comm->guard);
        if (!well) out_of_touch(comm, reason);
        const int64_t timeout = patience(comm);
        if (timeout > 0 && milliseconds_now() - atomic_load(&comm->own->moved_at) > timeout) stuck(comm, timeout);
    }
}

static void destroy(ls_watch *self)
{
    for (int i = 0; i < self->count; i++)
        if (self->files[i].fd >= 0) (void)close(self->files[i].fd);
    free(self->files);
    free(self);
}

ls_status ls_watch_start(ls_comm *comm)
{
    if (comm->watch != NULL) return LS_OK;
    ls_watch *self = calloc(1, sizeof *self);
    struct pollfd *files = calloc((size_t)comm->neighbours + 1, sizeof *files);
    if (self == NULL || files == NULL) {
        free(self);
        free(files);
        return LS_FAIL(LS_NO_MEMORY, "cannot get memory for the watchdog");
    }
    *self = (ls_watch){.files = files, .count = comm->neighbours + 1};
    for (int i = 0; i < comm->neighbours; i++) {
        const bool own = &comm->standings[i] == comm->own;
        /* Negative where the kernel or a container does not show the process: then the launcher sees it die. */
        const int file = own ? -1 : pidfd_open(atomic_load(&comm->standings[i].process), 0);
        files[i] = (struct pollfd){.fd = file, .events = POLLIN};
    }
    files[comm->neighbours] = (struct pollfd){.fd = eventfd(0, EFD_CLOEXEC), .events = POLLIN};
    comm->watch = self;
    if (files[comm->neighbours].fd >= 0 && pthread_create(&self->thread, NULL, watch, comm) == 0) return LS_OK;
    comm->watch = NULL;
    destroy(self);
    return LS_FAIL(LS_IO, "cannot start the watchdog");
}

void ls_watch_stop(ls_comm *comm)
{
    ls_watch *self = comm->watch;
    if (self == NULL) return;
    (void)eventfd_write(self->files[self->count - 1].fd, 1);
    (void)pthread_join(self->thread, NULL);
    destroy(self);
    comm->watch = NULL;
}
