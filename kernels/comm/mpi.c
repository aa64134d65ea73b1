/* The MPI engine: every message is a send and a receive of our own, completed by polling.
 *
 * Not MPI's collectives, for three reasons: the order of a sum is ours (deterministic), the owner of a shard gets it
 * from each rank at once (so a poll now and then moves all of it, and the bytes are the lower bound), and a message
 * that does not come has a sender who can be named. Called through comm.c. */
#include "core/memory.h"
#include "kernels/comm/internal.h"

#include <mpi.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SLOTS = 4, /* buckets being received at once */
    NO_SLOT = -1,
    SUM_PIECE = 1024, /* elements */
    IDLE_POLLS = 256, /* without news, until the rank waited for is told the watchdog */
    SMALL_TAG = 1,
    FIRST_BUCKET_TAG = 2,
};

typedef struct engine_state {
    MPI_Comm world, host;
    MPI_Win standings;
    MPI_Request *requests;   /* [2*size] of a small message */
    int *indices;            /* [2*size] scratch of MPI_Testsome */
    ls_comm_bucket **active; /* [active_count] in the order they were started, room for all */
    int active_count, buckets;
    float *staging; /* [SLOTS][slot_elements] what the other ranks send */
    size_t slot_elements;
    const ls_comm_bucket *slot_user[SLOTS];
    unsigned idle;
} engine_state;

typedef struct bucket_state {
    MPI_Request *requests; /* [2*size] receive from and send to each rank; the own ones are null */
    float *range;          /* while reducing, else NULL */
    int slot;
} bucket_state;

static engine_state *state_of(const ls_comm *comm) { return comm->state; }

/* After a failed MPI call nothing can be agreed on any more. */
static ls_status broken(ls_comm *comm, int error)
{
    char reason[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    (void)MPI_Error_string(error, reason, &length);
    comm->broken = true;
    return LS_FAIL(LS_LOST, "rank %d on %s lost touch with the other processes: %s", comm->rank, comm->host, reason);
}

#define TRY_MPI(comm, call)                                                                                            \
    do {                                                                                                               \
        const int try_error = (call);                                                                                  \
        if (try_error != MPI_SUCCESS) return broken((comm), try_error);                                                \
    } while (0)

/* ---- moving messages forward ------------------------------------------------------------------------------------- */

/* Receives and sends of a message lie at requests[r] and requests[size+r]. */
static void name_missing(ls_comm *comm, const MPI_Request *requests)
{
    for (int r = 0; r < comm->size; r++) {
        if (requests[r] == MPI_REQUEST_NULL && requests[comm->size + r] == MPI_REQUEST_NULL) continue;
        atomic_store(&comm->own->waiting_for, r);
        return;
    }
}

/* *done: all of the requests are complete. */
static ls_status test(ls_comm *comm, MPI_Request *requests, bool *done)
{
    engine_state *state = state_of(comm);
    int completed = 0;
    TRY_MPI(comm, MPI_Testsome(2 * comm->size, requests, &completed, state->indices, MPI_STATUSES_IGNORE));
    *done = completed == MPI_UNDEFINED;
    if (completed > 0) {
        ls_comm_moved(comm);
        atomic_store(&comm->own->waiting_for, -1);
        state->idle = 0;
    } else if (!*done && ++state->idle >= IDLE_POLLS) {
        name_missing(comm, requests);
        state->idle = 0;
        /* What GPUs do meanwhile may have failed. */
        if (comm->buckets != comm->host_buckets) return comm->buckets->poll(comm);
    }
    return LS_OK;
}

/* The own shard becomes the sum of all ranks', in their order. */
static void sum_shard(const ls_comm_bucket *bucket)
{
    const ls_comm *comm = bucket->comm;
    const bucket_state *own = bucket->state;
    const int64_t first = comm->rank * bucket->elements, count = bucket->elements;
    const float *staging = state_of(comm)->staging + (size_t)own->slot * state_of(comm)->slot_elements;
    float *shard = own->range + first, sum[SUM_PIECE];
    for (int64_t at = 0; at < count; at += SUM_PIECE) {
        const int64_t length = count - at < SUM_PIECE ? count - at : SUM_PIECE;
        for (int r = 0; r < comm->size; r++) {
            const int64_t place = r < comm->rank ? r : r - 1;
            const float *from = r == comm->rank ? shard + at : staging + place * count + at;
            if (r == 0) {
                memcpy(sum, from, sizeof *sum * (size_t)length);
                continue;
            }
#pragma omp simd
            for (int64_t i = 0; i < length; i++) sum[i] += from[i];
        }
        memcpy(shard + at, sum, sizeof *sum * (size_t)length);
    }
}

static void finish(engine_state *state, int index)
{
    ls_comm_bucket *bucket = state->active[index];
    bucket_state *own = bucket->state;
    if (own->range != NULL) {
        sum_shard(bucket);
        state->slot_user[own->slot] = NULL;
        own->range = NULL;
    }
    bucket->busy = false;
    state->active_count--;
    for (int i = index; i < state->active_count; i++) state->active[i] = state->active[i + 1];
}

/* Receives what the other ranks send of the own shard, once there is a slot for it. */
static ls_status receive_where_free(ls_comm_bucket *bucket)
{
    ls_comm *comm = bucket->comm;
    engine_state *state = state_of(comm);
    bucket_state *own = bucket->state;
    int slot = 0;
    while (slot < SLOTS && state->slot_user[slot] != NULL) slot++;
    if (slot == SLOTS) return LS_OK;
    state->slot_user[slot] = bucket;
    own->slot = slot;
    const int64_t mine = bucket->elements;
    float *place = state->staging + (size_t)slot * state->slot_elements;
    for (int r = 0; r < comm->size; r++) {
        if (r == comm->rank) continue;
        TRY_MPI(comm, MPI_Irecv(place, (int)mine, MPI_FLOAT, r, FIRST_BUCKET_TAG + 2 * bucket->number, state->world,
                                &own->requests[r]));
        place += mine;
    }
    return LS_OK;
}

static ls_status poll(ls_comm *comm)
{
    engine_state *state = state_of(comm);
    for (int i = 0; i < state->active_count;) {
        const bucket_state *own = state->active[i]->state;
        bool done;
        if (own->range != NULL && own->slot == NO_SLOT) LS_TRY(receive_where_free(state->active[i]));
        if (own->range != NULL && own->slot == NO_SLOT) {
            i++;
            continue;
        }
        LS_TRY(test(comm, ((bucket_state *)state->active[i]->state)->requests, &done));
        if (done)
            finish(state, i);
        else
            i++;
    }
    return LS_OK;
}

/* ---- small messages ---------------------------------------------------------------------------------------------- */

static ls_status complete_small(ls_comm *comm)
{
    bool done = false;
    while (!done) {
        LS_TRY(test(comm, state_of(comm)->requests, &done));
        if (!done) (void)sched_yield();
    }
    return LS_OK;
}

static void clear_requests(MPI_Request *requests, int count)
{
    for (int i = 0; i < count; i++) requests[i] = MPI_REQUEST_NULL;
}

static ls_status gather(ls_comm *comm, void *out, const void *in, size_t bytes)
{
    MPI_Request *requests = state_of(comm)->requests;
    const MPI_Comm world = state_of(comm)->world;
    clear_requests(requests, 2 * comm->size);
    for (int r = 0; r < comm->size; r++) {
        unsigned char *place = (unsigned char *)out + (size_t)r * bytes;
        if (r == comm->rank) {
            memcpy(place, in, bytes);
            continue;
        }
        TRY_MPI(comm, MPI_Irecv(place, (int)bytes, MPI_BYTE, r, SMALL_TAG, world, &requests[r]));
        TRY_MPI(comm, MPI_Isend(in, (int)bytes, MPI_BYTE, r, SMALL_TAG, world, &requests[comm->size + r]));
    }
    return complete_small(comm);
}

static ls_status broadcast(ls_comm *comm, void *data, size_t bytes, int root)
{
    MPI_Request *requests = state_of(comm)->requests;
    const MPI_Comm world = state_of(comm)->world;
    clear_requests(requests, 2 * comm->size);
    if (comm->rank != root)
        TRY_MPI(comm, MPI_Irecv(data, (int)bytes, MPI_BYTE, root, SMALL_TAG, world, &requests[root]));
    for (int r = 0; r < comm->size && comm->rank == root; r++)
        if (r != root)
            TRY_MPI(comm, MPI_Isend(data, (int)bytes, MPI_BYTE, r, SMALL_TAG, world, &requests[comm->size + r]));
    return complete_small(comm);
}

/* ---- buckets ----------------------------------------------------------------------------------------------------- */

/* Room for what the other ranks send of the largest own shard. */
static ls_status grow_staging(ls_comm *comm, size_t elements)
{
    engine_state *state = state_of(comm);
    if (elements <= state->slot_elements) return LS_OK;
    void *memory;
    LS_TRY(ls_memory_map(&memory, sizeof(float) * SLOTS * elements, "gradients on their way"));
    ls_memory_unmap(state->staging, sizeof(float) * SLOTS * state->slot_elements);
    state->staging = memory;
    state->slot_elements = elements;
    return LS_OK;
}

static ls_status bucket_create(ls_comm_bucket *bucket)
{
    ls_comm *comm = bucket->comm;
    engine_state *state = state_of(comm);
    bucket_state *own = calloc(1, sizeof *own);
    bucket->state = own;
    void *active = realloc(state->active, sizeof(ls_comm_bucket *) * (size_t)(state->buckets + 1));
    if (active != NULL) state->active = active;
    if (own != NULL) own->requests = malloc(sizeof(MPI_Request) * 2 * (size_t)comm->size);
    if (active == NULL || own == NULL || own->requests == NULL)
        return LS_FAIL(LS_NO_MEMORY, "cannot get memory for a bucket");
    clear_requests(own->requests, 2 * comm->size);
    bucket->number = state->buckets++;
    return grow_staging(comm, (size_t)bucket->elements * (size_t)(comm->size - 1));
}

static void bucket_destroy(ls_comm_bucket *bucket)
{
    bucket_state *own = bucket->state;
    if (own != NULL) free(own->requests);
    free(own);
}

static ls_status wait_for(ls_comm_bucket *bucket)
{
    ls_status status = LS_OK;
    while (status == LS_OK && bucket->busy) status = poll(bucket->comm);
    return status;
}

static void activate(ls_comm_bucket *bucket)
{
    engine_state *state = state_of(bucket->comm);
    bucket->busy = true;
    state->active[state->active_count++] = bucket;
}

/* Never waits: what is sent goes at once, what is received when a slot is free. So a rank that starts its buckets in
 * another order, or late, holds up nobody but those who want its numbers. */
static ls_status reduce_scatter(ls_comm_bucket *bucket, float *range)
{
    ls_comm *comm = bucket->comm;
    engine_state *state = state_of(comm);
    bucket_state *own = bucket->state;
    LS_ASSERT(!bucket->busy);
    own->range = range;
    own->slot = NO_SLOT;
    const int64_t share = bucket->elements;
    for (int r = 0; r < comm->size; r++) {
        if (r == comm->rank) continue;
        TRY_MPI(comm, MPI_Isend(range + r * share, (int)share, MPI_FLOAT, r, FIRST_BUCKET_TAG + 2 * bucket->number,
                                state->world, &own->requests[comm->size + r]));
        comm->traffic.bytes_sent += share * (int64_t)sizeof(float);
    }
    activate(bucket);
    return receive_where_free(bucket);
}

static ls_status all_gather(ls_comm_bucket *bucket, void *range, size_t element_size)
{
    ls_comm *comm = bucket->comm;
    engine_state *state = state_of(comm);
    bucket_state *own = bucket->state;
    const int tag = FIRST_BUCKET_TAG + 2 * bucket->number + 1;
    unsigned char *bytes = range;
    LS_ASSERT(!bucket->busy);
    const size_t share = (size_t)bucket->elements * element_size;
    for (int r = 0; r < comm->size; r++) {
        if (r == comm->rank) continue;
        TRY_MPI(comm,
                MPI_Irecv(bytes + (size_t)r * share, (int)share, MPI_BYTE, r, tag, state->world, &own->requests[r]));
        TRY_MPI(comm, MPI_Isend(bytes + (size_t)comm->rank * share, (int)share, MPI_BYTE, r, tag, state->world,
                                &own->requests[comm->size + r]));
        comm->traffic.bytes_sent += (int64_t)share;
    }
    activate(bucket);
    return LS_OK;
}

/* ---- joining and leaving ----------------------------------------------------------------------------------------- */

static void leave(ls_comm *comm)
{
    engine_state *state = state_of(comm);
    if (comm->broken) {
        ls_watch_heed(comm);
        (void)fprintf(stderr, "layerskip: %s\n", ls_error_text());
        (void)MPI_Abort(state->world, ls_status_exit(LS_LOST));
    }
    comm->own = NULL;
    (void)MPI_Win_free(&state->standings);
    (void)MPI_Comm_free(&state->host);
    (void)MPI_Finalize();
    ls_memory_unmap(state->staging, sizeof(float) * SLOTS * state->slot_elements);
    free(state->active);
    free(state->indices);
    free(state->requests);
    free(state);
}

static const ls_comm_engine engine = {.name = "mpi", .gather = gather, .broadcast = broadcast, .close = leave};

static const ls_bucket_engine buckets = {
    .name = "mpi",
    .create = bucket_create,
    .destroy = bucket_destroy,
    .reduce_scatter = reduce_scatter,
    .all_gather = all_gather,
    .wait = wait_for,
    .poll = poll,
};

/* Ranks that may use the same processors share them; a launcher that binds leaves each its own. */
static ls_status share_processors(ls_comm *comm)
{
    cpu_set_t own, *all = calloc((size_t)comm->neighbours, sizeof *all);
    if (all == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for the processors of %d ranks", comm->neighbours);
    CPU_ZERO(&own);
    int sharing = 0;
    (void)sched_getaffinity(0, sizeof own, &own);
    const int error = MPI_Allgather(&own, sizeof own, MPI_BYTE, all, sizeof own, MPI_BYTE, state_of(comm)->host);
    for (int i = 0; i < comm->neighbours; i++) sharing += CPU_EQUAL(&own, &all[i]) != 0;
    free(all);
    if (error != MPI_SUCCESS) return broken(comm, error);
    const int threads = CPU_COUNT(&own) / (sharing > 0 ? sharing : 1);
    comm->threads = threads > 0 ? threads : 1;
    return LS_OK;
}

static ls_status share_standings(ls_comm *comm)
{
    engine_state *state = state_of(comm);
    void *base;
    MPI_Aint bytes;
    int unit;
    TRY_MPI(comm,
            MPI_Win_allocate_shared(sizeof(ls_standing), 1, MPI_INFO_NULL, state->host, &base, &state->standings));
    comm->own = base;
    *comm->own = (ls_standing){.waiting_for = -1, .rank = comm->rank, .process = (int)getpid()};
    TRY_MPI(comm, MPI_Win_shared_query(state->standings, 0, &bytes, &unit, &base));
    comm->standings = base;
    TRY_MPI(comm, MPI_Barrier(state->host));
    return LS_OK;
}

ls_status ls_comm_mpi_open(ls_comm *comm)
{
    engine_state *state = calloc(1, sizeof *state);
    if (state == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for MPI");
    int given;
    comm->state = state;
    state->world = MPI_COMM_WORLD;
    /* Open MPI 4.1 keeps the name of a lock file, which nobody here needs, in 256 bytes, and ends where a path is
     * longer. A user's own setting stays. */
    (void)setenv("OMPI_MCA_sharedfp", "^lockedfile", 0);
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &given) != MPI_SUCCESS) {
        free(state);
        return LS_FAIL(LS_UNSUPPORTED, "MPI does not start on %s", comm->host);
    }
    (void)MPI_Comm_set_errhandler(state->world, MPI_ERRORS_RETURN);
    (void)MPI_Comm_rank(state->world, &comm->rank);
    (void)MPI_Comm_size(state->world, &comm->size);
    comm->engine = &engine;
    comm->buckets = comm->host_buckets = &buckets;
    state->requests = malloc(sizeof(MPI_Request) * 2 * (size_t)comm->size);
    state->indices = malloc(sizeof(int) * 2 * (size_t)comm->size);
    if (state->requests == NULL || state->indices == NULL)
        return LS_FAIL(LS_NO_MEMORY, "cannot get memory for %d processes", comm->size);
    TRY_MPI(comm, MPI_Comm_split_type(state->world, MPI_COMM_TYPE_SHARED, comm->rank, MPI_INFO_NULL, &state->host));
    TRY_MPI(comm, MPI_Comm_size(state->host, &comm->neighbours));
    TRY_MPI(comm, MPI_Comm_rank(state->host, &comm->place));
    LS_TRY(share_processors(comm));
    return share_standings(comm);
}
