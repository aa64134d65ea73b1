/* What all engines share: opening, agreement, traffic and standing. A process alone needs no engine. */
#include "kernels/comm/comm.h"

#include "core/clock.h"
#include "core/text.h"
#include "kernels/comm/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SENTENCE_BYTES = 1024 };

static ls_status join(ls_comm *comm)
{
    const ls_launch launch = ls_comm_launch();
    if (launch.launcher == NULL) return LS_OK;
    if (!launch.speaks_mpi)
        return LS_FAIL(LS_UNSUPPORTED,
                       "%s started %ld processes that cannot find each other; start them with srun --mpi=pmix",
                       launch.launcher, launch.processes);
#ifdef LS_HAVE_MPI
    return ls_comm_mpi_open(comm);
#else
    (void)comm;
    if (launch.processes == 1) return LS_OK;
    return LS_FAIL(LS_UNSUPPORTED, "%s started several processes, but this layerskip was built without MPI",
                   launch.launcher);
#endif
}

ls_status ls_comm_open(ls_comm **out)
{
    *out = NULL;
    ls_comm *comm = calloc(1, sizeof *comm);
    if (comm == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for the processes of the run");
    comm->size = 1;
    (void)pthread_mutex_init(&comm->guard, NULL);
    (void)gethostname(comm->host, sizeof comm->host - 1);
    ls_status status = join(comm);
    if (comm->engine == NULL) {
        if (status == LS_OK) *out = comm;
        if (status != LS_OK) ls_comm_close(comm);
        return status;
    }
    /* Who has not joined all of the way can neither agree with the others nor leave together with them. */
    if (status != LS_OK) ls_watch_drop_out(comm, status);
    ls_comm_stand(comm, 0, LS_COMM_STARTING);
    status = ls_comm_agree(comm, ls_watch_start(comm));
    if (status == LS_OK) {
        *out = comm;
        return LS_OK;
    }
    if (status != LS_LOST) ls_comm_say(comm, status);
    ls_comm_close(comm);
    return status;
}

static ls_status plan_bucket(ls_comm_bucket *bucket)
{
    (void)bucket;
    return LS_OK;
}

static void forget_bucket(ls_comm_bucket *bucket) { (void)bucket; }

static const ls_bucket_engine planned = {.name = "plan", .create = plan_bucket, .destroy = forget_bucket};

ls_status ls_comm_create_plan(ls_comm **out, int size)
{
    ls_comm *comm = *out = calloc(1, sizeof *comm);
    if (comm == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for the processes of the run");
    comm->size = size;
    comm->buckets = &planned;
    (void)pthread_mutex_init(&comm->guard, NULL);
    return LS_OK;
}

void ls_comm_close(ls_comm *comm)
{
    if (comm == NULL) return;
    ls_watch_stop(comm);
    if (comm->engine != NULL) comm->engine->close(comm);
    (void)pthread_mutex_destroy(&comm->guard);
    free(comm);
}

int ls_comm_rank(const ls_comm *comm) { return comm == NULL ? 0 : comm->rank; }

int ls_comm_size(const ls_comm *comm) { return comm == NULL ? 1 : comm->size; }

const char *ls_comm_host(const ls_comm *comm) { return comm->host; }

int ls_comm_threads(const ls_comm *comm) { return comm == NULL ? 0 : comm->threads; }

int ls_comm_device_index(const ls_comm *comm, ls_device device, int wanted)
{
    if (ls_comm_size(comm) == 1 || device != LS_DEVICE_CUDA || wanted != 0) return wanted;
    const int visible = ls_exec_device_count(device);
    return visible < 1 ? 0 : comm->place % visible;
}

/* ---- the exec ---------------------------------------------------------------------------------------------------- */

static void watch_buckets(ls_comm *comm, const ls_bucket_engine *buckets)
{
    (void)pthread_mutex_lock(&comm->guard);
    comm->watched = buckets;
    (void)pthread_mutex_unlock(&comm->guard);
}

ls_status ls_comm_attach(ls_comm *comm, ls_exec *exec)
{
    if (ls_comm_size(comm) == 1 || exec->device != LS_DEVICE_CUDA) return LS_OK;
#ifdef LS_HAVE_NCCL
    LS_TRY(ls_comm_nccl_open(comm, exec));
    comm->exec = exec;
    watch_buckets(comm, comm->buckets);
    return LS_OK;
#else
    return LS_FAIL(LS_UNSUPPORTED,
                   "several processes on GPUs need NCCL, which this layerskip was built without; build it where nccl.h "
                   "is, or start one process");
#endif
}

/* Whoever cannot compute any more must not make the others believe that it can. */
static void check_exec(ls_comm *comm)
{
    if (comm->exec == NULL || ls_exec_failed(comm->exec) == LS_OK) return;
    ls_watch_drop_out(comm, ls_exec_failed(comm->exec));
}

void ls_comm_detach(ls_comm *comm)
{
    if (comm == NULL || comm->exec == NULL) return;
    check_exec(comm);
    comm->buckets->leave(comm);
    watch_buckets(comm, NULL);
    check_exec(comm);
    comm->buckets->close(comm);
    comm->buckets = comm->host_buckets;
    comm->exec = NULL;
}

const char *ls_comm_nccl_build(void)
{
#ifdef LS_HAVE_NCCL
    return LS_NCCL_BUILD;
#else
    return NULL;
#endif
}

/* ---- small messages ---------------------------------------------------------------------------------------------- */

ls_status ls_comm_gather(ls_comm *comm, void *out, const void *in, size_t bytes)
{
    if (comm == NULL || comm->engine == NULL) {
        memcpy(out, in, bytes);
        return LS_OK;
    }
    check_exec(comm);
    const ls_status status = comm->engine->gather(comm, out, in, bytes);
    check_exec(comm); /* the message has looked after buckets that are on their way */
    return status;
}

ls_status ls_comm_broadcast(ls_comm *comm, void *data, size_t bytes, int root)
{
    if (comm == NULL || comm->engine == NULL) return LS_OK;
    check_exec(comm);
    const ls_status status = comm->engine->broadcast(comm, data, bytes, root);
    check_exec(comm);
    return status;
}

/* Takes the sentence of rank `from` to rank 0, which says whose it is unless all failed. */
static ls_status carry_sentence(ls_comm *comm, ls_status status, int from, bool everywhere)
{
    char sentence[SENTENCE_BYTES] = "";
    if (comm->rank == from && everywhere)
        (void)snprintf(sentence, sizeof sentence, "%s", ls_error_text());
    else if (comm->rank == from)
        (void)snprintf(sentence, sizeof sentence, "rank %d on %s: %s", from, comm->host, ls_error_text());
    ls_error_clear();
    LS_TRY(ls_comm_broadcast(comm, sentence, sizeof sentence, from));
    if (comm->rank == 0) (void)LS_FAIL(status, "%s", sentence);
    return status;
}

ls_status ls_comm_agree(ls_comm *comm, ls_status own)
{
    if (comm == NULL || comm->engine == NULL) return own;
    const int mine = (int)own;
    int *all = malloc(sizeof *all * (size_t)comm->size);
    if (all == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for the state of %d ranks", comm->size);
    ls_status status = ls_comm_gather(comm, all, &mine, sizeof mine);
    if (status == LS_OK) {
        int from = 0, failed = 0;
        for (int r = comm->size - 1; r >= 0; r--) {
            if (all[r] == (int)LS_OK) continue;
            from = r;
            failed++;
        }
        if (failed > 0) status = carry_sentence(comm, (ls_status)all[from], from, failed == comm->size);
    }
    free(all);
    return status;
}

ls_status ls_comm_same(ls_comm *comm, uint64_t number, const char *what)
{
    if (comm == NULL || comm->engine == NULL) return LS_OK;
    uint64_t first = number;
    LS_TRY(ls_comm_broadcast(comm, &first, sizeof first, 0));
    return ls_comm_agree(comm, first == number ? LS_OK : LS_FAIL(LS_BAD_INPUT, "%s is not that of rank 0", what));
}

/* ---- buckets ----------------------------------------------------------------------------------------------------- */

ls_status ls_comm_bucket_create(ls_comm_bucket **out, ls_comm *comm, int64_t elements)
{
    *out = NULL;
    ls_comm_bucket *bucket = calloc(1, sizeof *bucket);
    ls_status status = LS_OK;
    if (bucket == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for a bucket");
    *bucket = (ls_comm_bucket){.comm = comm, .elements = elements};
    if (ls_comm_size(comm) > 1) {
        bucket->engine = comm->buckets;
        status = bucket->engine->create(bucket);
    }
    if (status != LS_OK) {
        ls_comm_bucket_destroy(bucket);
        return status;
    }
    *out = bucket;
    return LS_OK;
}

void ls_comm_bucket_destroy(ls_comm_bucket *bucket)
{
    if (bucket == NULL) return;
    if (bucket->engine != NULL) bucket->engine->destroy(bucket);
    free(bucket);
}

ls_status ls_comm_reduce_scatter(ls_comm_bucket *bucket, float *range)
{
    return bucket->engine != NULL ? bucket->engine->reduce_scatter(bucket, range) : LS_OK;
}

ls_status ls_comm_all_gather(ls_comm_bucket *bucket, void *range, size_t element_size)
{
    return bucket->engine != NULL ? bucket->engine->all_gather(bucket, range, element_size) : LS_OK;
}

void ls_comm_hold(ls_comm *comm)
{
    if (ls_comm_size(comm) > 1 && comm->buckets->hold != NULL) comm->buckets->hold(comm);
}

ls_status ls_comm_release(ls_comm *comm)
{
    return ls_comm_size(comm) > 1 && comm->buckets->release != NULL ? comm->buckets->release(comm) : LS_OK;
}

bool ls_comm_bucket_busy(const ls_comm_bucket *bucket) { return bucket->busy; }

ls_status ls_comm_bucket_wait(ls_comm_bucket *bucket)
{
    if (!bucket->busy) return LS_OK;
    const double begin = ls_seconds_now();
    const ls_status status = bucket->engine->wait(bucket);
    bucket->comm->traffic.seconds_waiting += ls_seconds_now() - begin;
    return status;
}

ls_status ls_comm_poll(ls_comm *comm) { return ls_comm_size(comm) > 1 ? comm->buckets->poll(comm) : LS_OK; }

ls_comm_traffic ls_comm_take_traffic(ls_comm *comm)
{
    if (comm == NULL) return (ls_comm_traffic){0};
    const ls_comm_traffic traffic = comm->traffic;
    comm->traffic = (ls_comm_traffic){0};
    return traffic;
}

/* ---- standing ---------------------------------------------------------------------------------------------------- */

void ls_comm_moved(ls_comm *comm)
{
    if (comm->own == NULL) return;
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    atomic_store(&comm->own->moved_at, (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000);
}

void ls_comm_stand(ls_comm *comm, int64_t step, ls_comm_phase phase)
{
    if (comm == NULL || comm->own == NULL) return;
    atomic_store(&comm->own->step, step);
    atomic_store(&comm->own->phase, (int)phase);
    ls_comm_moved(comm);
}

void ls_comm_set_resumes(ls_comm *comm)
{
    if (comm != NULL) atomic_store(&comm->resumes, true);
}

void ls_comm_set_timeout(ls_comm *comm, double seconds)
{
    if (comm == NULL || comm->engine == NULL) return;
    ls_comm_moved(comm);
    atomic_store(&comm->timeout, (int64_t)(1e3 * seconds));
}
