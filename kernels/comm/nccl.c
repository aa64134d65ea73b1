/* The engine of buckets that lie on GPUs: NCCL, in a stream of its own, found when it is needed.
 *
 * A bucket starts when the exec's stream has come to where it was started, and the exec's stream goes on from a wait
 * when the bucket is complete; the host waits for neither. The communicator does not block: every call is followed
 * until it has taken effect, so a rank that never comes is the watchdog's to find. NCCL's functions may be called by
 * one thread at a time: `mutex` is held around each of the main thread's, briefly, and the watchdog takes it to look
 * and to abort. Called through comm.c. */
#include "core/clock.h"
#include "kernels/comm/internal.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/library.h"

#include <nccl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LIBRARY "libnccl.so.2"
#define OLDEST 21900 /* before 2.19 a communicator could not be aborted by another thread */

enum {
    LOOKS = 1000,           /* at a call before the host rests; most take effect meanwhile */
    TOO_LATE = -1,          /* beside ncclResult_t: a rank's call has been under way for too long */
    JOINING_REST = 5000000, /* nanoseconds between looks */
};

/* X(function) */
#define FUNCTION_LIST(X)                                                                                               \
    X(ncclGetVersion)                                                                                                  \
    X(ncclGetUniqueId)                                                                                                 \
    X(ncclCommInitRankConfig)                                                                                          \
    X(ncclCommFinalize)                                                                                                \
    X(ncclCommDestroy)                                                                                                 \
    X(ncclCommAbort)                                                                                                   \
    X(ncclCommGetAsyncError)                                                                                           \
    X(ncclGetErrorString)                                                                                              \
    X(ncclGroupStart)                                                                                                  \
    X(ncclGroupEnd)                                                                                                    \
    X(ncclReduceScatter)                                                                                               \
    X(ncclAllGather)

typedef struct engine_state {
    FUNCTION_LIST(LS_LIBRARY_FIELD)
    ncclComm_t nccl; /* NULL: not opened, or aborted */
    pthread_mutex_t mutex;
    ls_exec *exec;
    cudaStream_t stream;
    cudaEvent_t ready;        /* the exec's stream has come to where buckets were started */
    ls_comm_bucket **pending; /* [pending_count] noted but not started, room for all */
    int pending_count, buckets;
    bool held;
} engine_state;

typedef struct bucket_state {
    cudaEvent_t done;
    void *range;
    size_t element_size;
    bool reduces; /* else it gathers */
} bucket_state;

static engine_state *state_of(const ls_comm *comm) { return comm->bucket_state; }

/* ---- failures ---------------------------------------------------------------------------------------------------- */

/* A failed call of CUDA or NCCL becomes the exec's failure, which the next message meets (comm.c). */
static ls_status nccl_failed(ls_comm *comm, ncclResult_t result, const char *what)
{
    ls_exec *exec = state_of(comm)->exec;
    if (exec->status == LS_OK)
        exec->status = LS_FAIL(LS_LOST, "NCCL failed while %s: %s", what, state_of(comm)->ncclGetErrorString(result));
    return exec->status;
}

static bool cuda_ok(ls_comm *comm, cudaError_t error)
{
    return ls_cuda_ok(state_of(comm)->exec, error, "exchanging gradients and weights");
}

/* Follows a call until it has taken effect on this rank; the mutex is held, but not meanwhile. */
static ncclResult_t follow(const ls_comm *comm, ncclResult_t result)
{
    engine_state *state = state_of(comm);
    const struct timespec rest = {0, 20000};
    for (int looks = 0; result == ncclInProgress; looks++) {
        (void)pthread_mutex_unlock(&state->mutex);
        if (looks >= LOOKS) (void)nanosleep(&rest, NULL);
        (void)pthread_mutex_lock(&state->mutex);
        if (state->nccl == NULL) return ncclInvalidUsage; /* aborted: the process ends */
        const ncclResult_t asked = state->ncclCommGetAsyncError(state->nccl, &result);
        if (asked != ncclSuccess) return asked;
    }
    return result;
}

static ls_status poll(ls_comm *comm)
{
    engine_state *state = state_of(comm);
    ncclResult_t error = ncclSuccess;
    (void)pthread_mutex_lock(&state->mutex);
    const ncclResult_t asked = state->nccl == NULL ? ncclSuccess : state->ncclCommGetAsyncError(state->nccl, &error);
    (void)pthread_mutex_unlock(&state->mutex);
    if (asked != ncclSuccess) return nccl_failed(comm, asked, "exchanging gradients and weights");
    return error == ncclSuccess || error == ncclInProgress
               ? LS_OK
               : nccl_failed(comm, error, "exchanging gradients and weights");
}

/* ---- the watchdog's ---------------------------------------------------------------------------------------------- */

static bool well(ls_comm *comm, char *reason, size_t size)
{
    engine_state *state = state_of(comm);
    ncclResult_t error = ncclSuccess;
    if (pthread_mutex_trylock(&state->mutex) != 0) return true; /* a call is under way, which sees it itself */
    const ncclResult_t asked = state->nccl == NULL ? ncclSuccess : state->ncclCommGetAsyncError(state->nccl, &error);
    (void)pthread_mutex_unlock(&state->mutex);
    if (asked != ncclSuccess) error = asked;
    if (error == ncclSuccess || error == ncclInProgress) return true;
    (void)snprintf(reason, size, "NCCL: %s", state->ncclGetErrorString(error));
    return false;
}

static void give_up(ls_comm *comm)
{
    engine_state *state = state_of(comm);
    (void)pthread_mutex_lock(&state->mutex);
    if (state->nccl != NULL) (void)state->ncclCommAbort(state->nccl);
    state->nccl = NULL;
    (void)pthread_mutex_unlock(&state->mutex);
}

/* ---- buckets ----------------------------------------------------------------------------------------------------- */

static ls_status bucket_create(ls_comm_bucket *bucket)
{
    ls_comm *comm = bucket->comm;
    engine_state *state = state_of(comm);
    bucket_state *own = calloc(1, sizeof *own);
    bucket->state = own;
    void *pending = realloc(state->pending, sizeof(ls_comm_bucket *) * (size_t)(state->buckets + 1));
    if (pending != NULL) state->pending = pending;
    if (pending == NULL || own == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for a bucket");
    state->buckets++;
    (void)cuda_ok(comm, cudaEventCreateWithFlags(&own->done, cudaEventDisableTiming));
    return state->exec->status;
}

static void bucket_destroy(ls_comm_bucket *bucket)
{
    bucket_state *own = bucket->state;
    if (own != NULL && own->done != NULL && cudaEventDestroy(own->done) != cudaSuccess) (void)cudaGetLastError();
    free(own);
}

/* In place, where the shards lie. */
static ncclResult_t reduce(const engine_state *state, const ls_comm_bucket *bucket)
{
    float *range = ((const bucket_state *)bucket->state)->range;
    return state->ncclReduceScatter(range, range + bucket->comm->rank * bucket->elements, (size_t)bucket->elements,
                                    ncclFloat32, ncclSum, state->nccl, state->stream);
}

static ncclResult_t gather_shards(const engine_state *state, const ls_comm_bucket *bucket)
{
    const bucket_state *own = bucket->state;
    const size_t bytes = (size_t)bucket->elements * own->element_size;
    unsigned char *range = own->range;
    return state->ncclAllGather(range + (size_t)bucket->comm->rank * bytes, range, bytes, ncclUint8, state->nccl,
                                state->stream);
}

/* All that is pending as one group; its kernels are in the stream on return. */
static ncclResult_t issue(const ls_comm *comm)
{
    engine_state *state = state_of(comm);
    ncclResult_t result = ncclInvalidUsage, ended;
    (void)pthread_mutex_lock(&state->mutex);
    if (state->nccl != NULL) result = state->ncclGroupStart();
    if (result == ncclSuccess) {
        for (int i = 0; i < state->pending_count; i++) {
            const ls_comm_bucket *bucket = state->pending[i];
            const bool reduces = ((const bucket_state *)bucket->state)->reduces;
            const ncclResult_t one = reduces ? reduce(state, bucket) : gather_shards(state, bucket);
            if (one != ncclSuccess && one != ncclInProgress) result = one;
        }
        ended = follow(comm, state->ncclGroupEnd());
        if (result == ncclSuccess) result = ended;
    }
    (void)pthread_mutex_unlock(&state->mutex);
    return result;
}

static ls_status flush(ls_comm *comm)
{
    engine_state *state = state_of(comm);
    const int count = state->pending_count;
    LS_TRY(state->exec->status);
    if (count == 0) return LS_OK;
    if (!cuda_ok(comm, cudaEventRecord(state->ready, ls_cuda_of(state->exec)->stream)) ||
        !cuda_ok(comm, cudaStreamWaitEvent(state->stream, state->ready, 0)))
        return state->exec->status;
    const ncclResult_t result = issue(comm);
    state->pending_count = 0;
    if (result != ncclSuccess) return nccl_failed(comm, result, "starting an exchange");
    for (int i = 0; i < count; i++)
        if (!cuda_ok(comm, cudaEventRecord(((bucket_state *)state->pending[i]->state)->done, state->stream)))
            return state->exec->status;
    ls_comm_moved(comm);
    return LS_OK;
}

static ls_status start(ls_comm_bucket *bucket, void *range, size_t element_size, bool reduces)
{
    engine_state *state = state_of(bucket->comm);
    bucket_state *own = bucket->state;
    LS_ASSERT(!bucket->busy);
    own->range = range;
    own->element_size = element_size;
    own->reduces = reduces;
    bucket->busy = true;
    state->pending[state->pending_count++] = bucket;
    return state->held ? LS_OK : flush(bucket->comm);
}

static ls_status reduce_scatter(ls_comm_bucket *bucket, float *range)
{
    bucket->comm->traffic.bytes_sent += bucket->elements * (int64_t)sizeof(float) * (bucket->comm->size - 1);
    return start(bucket, range, sizeof(float), true);
}

static ls_status all_gather(ls_comm_bucket *bucket, void *range, size_t element_size)
{
    bucket->comm->traffic.bytes_sent += bucket->elements * (int64_t)element_size * (bucket->comm->size - 1);
    return start(bucket, range, element_size, false);
}

static ls_status wait_for(ls_comm_bucket *bucket)
{
    ls_comm *comm = bucket->comm;
    engine_state *state = state_of(comm);
    LS_TRY(state->exec->status);
    (void)cuda_ok(comm, cudaStreamWaitEvent(ls_cuda_of(state->exec)->stream, ((bucket_state *)bucket->state)->done, 0));
    bucket->busy = false;
    return state->exec->status;
}

static void hold(ls_comm *comm) { state_of(comm)->held = true; }

static ls_status release(ls_comm *comm)
{
    state_of(comm)->held = false;
    return flush(comm);
}

/* ---- opening and closing ----------------------------------------------------------------------------------------- */

static void destroy(ls_comm *comm)
{
    engine_state *state = state_of(comm);
    if (state->ready != NULL) (void)cudaEventDestroy(state->ready);
    if (state->stream != NULL) (void)cudaStreamDestroy(state->stream);
    (void)cudaGetLastError();
    (void)pthread_mutex_destroy(&state->mutex);
    free(state->pending);
    free(state);
    comm->bucket_state = NULL;
}

/* All ranks leave together. Who has lost the others waits for none of them, and no op then waits for NCCL. */
static void leave(ls_comm *comm)
{
    engine_state *state = state_of(comm);
    const bool good = !comm->broken && cuda_ok(comm, cudaStreamSynchronize(state->stream));
    (void)pthread_mutex_lock(&state->mutex);
    if (good && state->nccl != NULL && follow(comm, state->ncclCommFinalize(state->nccl)) == ncclSuccess)
        (void)state->ncclCommDestroy(state->nccl);
    else if (state->nccl != NULL)
        (void)state->ncclCommAbort(state->nccl);
    state->nccl = NULL;
    (void)pthread_mutex_unlock(&state->mutex);
}

static const ls_bucket_engine engine = {
    .name = "nccl",
    .create = bucket_create,
    .destroy = bucket_destroy,
    .reduce_scatter = reduce_scatter,
    .all_gather = all_gather,
    .wait = wait_for,
    .poll = poll,
    .hold = hold,
    .release = release,
    .leave = leave,
    .close = destroy,
    .well = well,
    .abort = give_up,
};

/* NCCL stays loaded: threads that it has detached may outlive what they were started for. */
static ls_status load(engine_state *state)
{
    char reason[160];
    int version = 0;
#define PLACE(function) {#function, &state->function},
    const ls_library_function functions[] = {FUNCTION_LIST(PLACE)};
#undef PLACE
    const int count = (int)(sizeof functions / sizeof functions[0]);
    if (ls_library_open(LIBRARY, functions, count, reason, sizeof reason) == NULL)
        return LS_FAIL(LS_UNSUPPORTED,
                       "several processes on GPUs need NCCL, which is not here (%s); install " LIBRARY
                       " or start one process",
                       reason);
    if (state->ncclGetVersion(&version) == ncclSuccess && version >= OLDEST) return LS_OK;
    return LS_FAIL(LS_UNSUPPORTED, "NCCL %d.%d is too old to share work among GPUs here; 2.19 or later is needed",
                   version / 10000, version / 100 % 100);
}

static ls_status create_stream(ls_comm *comm)
{
    engine_state *state = state_of(comm);
    if (!cuda_ok(comm, cudaStreamCreateWithFlags(&state->stream, cudaStreamNonBlocking)) ||
        !cuda_ok(comm, cudaEventCreateWithFlags(&state->ready, cudaEventDisableTiming)))
        return state->exec->status;
    return LS_OK;
}

/* The same answer on all ranks. */
static ls_status check_distinct(ls_comm *comm, const ls_exec *exec)
{
    const size_t size = sizeof ls_cuda_of(exec)->identity;
    unsigned char *all = malloc(size * (size_t)comm->size);
    ls_status status =
        ls_comm_agree(comm, all == NULL ? LS_FAIL(LS_NO_MEMORY, "cannot get memory for the list of GPUs") : LS_OK);
    if (status == LS_OK) status = ls_comm_gather(comm, all, ls_cuda_of(exec)->identity, size);
    for (int a = 0; a < comm->size && status == LS_OK; a++)
        for (int b = 0; b < a && status == LS_OK; b++)
            if (memcmp(all + (size_t)a * size, all + (size_t)b * size, size) == 0)
                status = LS_FAIL(LS_BAD_INPUT,
                                 "ranks %d and %d have the same GPU; start at most as many processes on a machine as "
                                 "it has GPUs, and leave device_index at 0",
                                 b, a);
    free(all);
    return status;
}

/* Asks again about a call that is under way. */
static int look_again(const ls_comm *comm, int result)
{
    engine_state *state = state_of(comm);
    ncclResult_t found = ncclSuccess;
    if (result != ncclInProgress) return result;
    (void)pthread_mutex_lock(&state->mutex);
    const ncclResult_t asked = state->ncclCommGetAsyncError(state->nccl, &found);
    (void)pthread_mutex_unlock(&state->mutex);
    return asked != ncclSuccess ? (int)asked : (int)found;
}

static bool has_failed(int result) { return result != ncclSuccess && result != ncclInProgress; }

/* What this rank has to say where one could not join; all [size]. Who failed because of another leaves it to that one.
 */
static ls_status explain(const ls_comm *comm, const int *all)
{
    const int own = all[comm->rank];
    bool cause = false;
    for (int r = 0; r < comm->size; r++) cause = cause || (has_failed(all[r]) && all[r] != ncclRemoteError);
    if (!has_failed(own) || (own == ncclRemoteError && cause)) return LS_OK;
    if (own == TOO_LATE)
        return LS_FAIL(LS_LOST, "NCCL has not joined the GPUs within %g s (parallel.timeout)",
                       1e-3 * (double)atomic_load(&comm->timeout));
    return LS_FAIL(LS_IO, "NCCL cannot join the GPUs: %s", state_of(comm)->ncclGetErrorString((ncclResult_t)own));
}

/* The ranks tell each other how far they are until all have joined, or one cannot, for whom the others then do not
 * wait. These messages keep the watchdog quiet, so the time is looked at here. all: [size] scratch. */
static ls_status join_together(ls_comm *comm, int result, int *all)
{
    const struct timespec rest = {0, JOINING_REST};
    const double limit = 1e-3 * (double)atomic_load(&comm->timeout), begin = ls_seconds_now();
    for (;;) {
        bool joined = true, failed = false;
        result = look_again(comm, result);
        if (result == ncclInProgress && limit > 0.0 && ls_seconds_now() - begin > limit) result = TOO_LATE;
        LS_TRY(ls_comm_gather(comm, all, &result, sizeof result));
        for (int r = 0; r < comm->size; r++) {
            joined = joined && all[r] == ncclSuccess;
            failed = failed || has_failed(all[r]);
        }
        if (failed) return ls_comm_agree(comm, explain(comm, all));
        if (joined) return LS_OK;
        (void)nanosleep(&rest, NULL);
    }
}

static ls_status join(ls_comm *comm)
{
    engine_state *state = state_of(comm);
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclUniqueId id;
    ncclResult_t result = ncclSuccess;
    memset(&id, 0, sizeof id);
    config.blocking = 0;
    (void)setenv("NCCL_NVLS_ENABLE", "0", 0); /* its sums have no fixed order; a user's own setting stays */
    int *all = malloc(sizeof *all * (size_t)comm->size);
    ls_status status = all == NULL ? LS_FAIL(LS_NO_MEMORY, "cannot get memory for the ranks' answers") : LS_OK;
    if (status == LS_OK && comm->rank == 0) result = state->ncclGetUniqueId(&id);
    if (result != ncclSuccess) status = LS_FAIL(LS_IO, "NCCL does not start: %s", state->ncclGetErrorString(result));
    status = ls_comm_agree(comm, status);
    if (status == LS_OK) status = ls_comm_broadcast(comm, &id, sizeof id, 0);
    if (status == LS_OK) {
        (void)pthread_mutex_lock(&state->mutex);
        result = state->ncclCommInitRankConfig(&state->nccl, comm->size, id, comm->rank, &config);
        (void)pthread_mutex_unlock(&state->mutex);
        status = join_together(comm, (int)result, all);
    }
    free(all);
    return status;
}

ls_status ls_comm_nccl_open(ls_comm *comm, ls_exec *exec)
{
    engine_state *state = calloc(1, sizeof *state);
    ls_status status = ls_comm_agree(comm, state == NULL ? LS_FAIL(LS_NO_MEMORY, "cannot get memory for NCCL") : LS_OK);
    if (status != LS_OK) {
        free(state);
        return status;
    }
    comm->bucket_state = state;
    state->exec = exec;
    (void)pthread_mutex_init(&state->mutex, NULL);
    status = load(state);
    if (status == LS_OK) status = create_stream(comm);
    status = ls_comm_agree(comm, status);
    if (status == LS_OK) status = check_distinct(comm, exec);
    if (status == LS_OK) status = join(comm);
    if (status == LS_OK) {
        comm->buckets = &engine;
        return LS_OK;
    }
    give_up(comm);
    destroy(comm);
    return status;
}
