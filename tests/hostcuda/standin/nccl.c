/* A stand-in for libnccl: real processes of one machine, each with its own stand-in GPU, meet in shared memory.
 *
 * The unique id names a file in memory that rank 0 holds open, so nothing is left behind however a process ends. An
 * operation begins in its stream's turn: the rank lays down what it contributes and fills what it will receive with
 * NaN. It ends when all ranks have done so, in another turn. What is read too early, or written meanwhile, shows. Sums
 * are made in the order of the ranks. A communicator that does not block lets every call take effect only when it is
 * asked about it. Told by the environment: HOSTCUDA_NCCL_VERSION, HOSTCUDA_NCCL_FAIL_IN=N (operations, then
 * ncclRemoteError), HOSTCUDA_NCCL_REFUSES=1 (to join), HOSTCUDA_NCCL_LINGERS=1 (never joins), 2 (never
 * leaves). */
#include "standin.h"

#include <fcntl.h>
#include <nccl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MOST_RANKS = 16, SLOTS = 2, MOST_GROUPED = 1024 };
#define SLOT_BYTES ((size_t)64 << 20)

typedef enum kind { REDUCE_SCATTER, ALL_GATHER } kind;

/* What all ranks must agree in. */
typedef struct terms {
    kind what;
    int type;
    size_t count;
} terms;

typedef struct rank_area {
    _Atomic uint64_t posted, done; /* operations */
    terms terms[SLOTS];
} rank_area;

typedef struct meeting {
    _Atomic int attached, finalized;
    rank_area ranks[MOST_RANKS];
} meeting;

typedef struct operation operation;

struct ncclComm {
    meeting *shared;
    unsigned char *data; /* [ranks][SLOTS][SLOT_BYTES] */
    int rank, size, file;
    uint64_t started;
    size_t received; /* bytes */
    int groups;
    pthread_t thread;
    bool blocking, joined, finalizing;
    _Atomic bool aborted;
    _Atomic int error; /* ncclResult_t */
    operation *waiting[MOST_GROUPED];
    int waiting_count, questions; /* how often it must be asked until they start */
    long operations_to_failure;
};

struct operation {
    ncclComm_t comm;
    cudaStream_t stream;
    terms terms;
    const unsigned char *send;
    unsigned char *receive;
    uint64_t number;
    bool posted;
};

static int group_depth, file_of_id = -1;
static ncclComm_t grouped; /* of the group that is open */

static size_t size_of(int type) { return type == ncclFloat32 ? 4 : 1; }

/* ---- what an operation reads and writes -------------------------------------------------------------------------- */

static size_t share(const operation *o) { return o->terms.count * size_of(o->terms.type); }

/* Bytes of `send`. */
static size_t contribution(const operation *o)
{
    return o->terms.what == REDUCE_SCATTER ? share(o) * (size_t)o->comm->size : share(o);
}

/* Bytes of `receive`. */
static size_t result(const operation *o)
{
    return o->terms.what == ALL_GATHER ? share(o) * (size_t)o->comm->size : share(o);
}

static unsigned char *slot(const operation *o, int rank)
{
    return o->comm->data + ((size_t)rank * SLOTS + o->number % SLOTS) * SLOT_BYTES;
}

/* Byte i of `receive` is the rank's own contribution, which stays. */
static bool stays(const operation *o, size_t i)
{
    return o->terms.what == ALL_GATHER && i / share(o) == (size_t)o->comm->rank;
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

static void post(operation *o)
{
    rank_area *own = &o->comm->shared->ranks[o->comm->rank];
    const size_t in = contribution(o), out = result(o);
    hostcuda_library_reads(o->send, in, "NCCL");
    memcpy(slot(o, o->comm->rank), o->send, in);
    for (size_t i = 0; i < out; i++)
        if (!stays(o, i)) o->receive[i] = 0xff;
    hostcuda_library_writes(o->receive, out);
    own->terms[o->number % SLOTS] = o->terms;
    o->posted = true;
    atomic_store(&own->posted, o->number + 1);
}

static int ready(void *argument)
{
    operation *o = argument;
    const meeting *all = o->comm->shared;
    if (atomic_load(&o->comm->aborted)) return 1;
    for (int r = 0; r < o->comm->size && !o->posted; r++) /* the slot's last operation is over everywhere */
        if (atomic_load(&all->ranks[r].done) + SLOTS < o->number + 1) return 0;
    if (!o->posted) post(o);
    for (int r = 0; r < o->comm->size; r++)
        if (atomic_load(&all->ranks[r].posted) < o->number + 1) return 0;
    return 1;
}

static bool same_terms(const terms *a, const terms *b)
{
    return a->what == b->what && a->type == b->type && a->count == b->count;
}

/* Nobody has written what the operation was reading, or what it has yet to write. */
static bool untouched(const operation *o)
{
    const size_t in = contribution(o), out = result(o);
    const unsigned char *before = slot(o, o->comm->rank);
    for (size_t i = 0; i < out; i++)
        if (!stays(o, i) && o->receive[i] != 0xff) return false;
    for (size_t i = 0; i < in; i++) {
        const bool inside = o->send + i >= o->receive && o->send + i < o->receive + out;
        const bool overwritten = inside && !stays(o, (size_t)(o->send + i - o->receive));
        if (!overwritten && o->send[i] != before[i]) return false;
    }
    return true;
}

static void sum(const operation *o, size_t first)
{
    float *out = (float *)(void *)o->receive;
    for (size_t i = 0; i < o->terms.count; i++) {
        float total = 0.0f;
        for (int r = 0; r < o->comm->size; r++) total += ((const float *)(const void *)(slot(o, r) + first))[i];
        out[i] = total;
    }
}

static void deliver(const operation *o)
{
    const size_t bytes = share(o);
    if (o->terms.what == REDUCE_SCATTER) {
        sum(o, bytes * (size_t)o->comm->rank);
        return;
    }
    for (int r = 0; r < o->comm->size; r++) memcpy(o->receive + bytes * (size_t)r, slot(o, r), bytes);
}

static int run(void *argument)
{
    const operation *o = argument;
    ncclComm_t comm = o->comm;
    if (atomic_load(&comm->aborted)) return 1;
    for (int r = 0; r < comm->size; r++)
        if (!same_terms(&o->terms, &comm->shared->ranks[r].terms[o->number % SLOTS])) {
            hostcuda_library_reports("nccl-mismatch", "ranks call different NCCL operations, or with different sizes");
            atomic_store(&comm->error, ncclInvalidUsage);
            return 1;
        }
    if (!untouched(o)) hostcuda_library_reports("nccl-race", "a buffer was written while NCCL used it");
    deliver(o);
    comm->received += share(o) * (size_t)(comm->size - 1);
    atomic_store(&comm->shared->ranks[comm->rank].done, o->number + 1);
    return 0;
}

/* ---- calls ------------------------------------------------------------------------------------------------------- */

static ncclResult_t start_waiting(ncclComm_t comm)
{
    ncclResult_t status = ncclSuccess;
    for (int i = 0; i < comm->waiting_count; i++) {
        operation *o = comm->waiting[i];
        if (comm->operations_to_failure >= 0 && comm->operations_to_failure-- == 0)
            atomic_store(&comm->error, ncclRemoteError);
        if (hostcuda_enqueue_when(o->stream, ready, run, o) != 0) status = ncclUnhandledCudaError;
    }
    comm->waiting_count = 0;
    return status;
}

static ncclResult_t add(ncclComm_t comm, cudaStream_t stream, terms what, const void *send, void *receive)
{
    if (group_depth == 0 || comm == NULL || !comm->joined || comm->waiting_count == MOST_GROUPED || comm->questions > 0)
        return ncclInvalidUsage;
    if (what.count == 0) return ncclInvalidArgument;
    operation *o = malloc(sizeof *o);
    if (o == NULL) return ncclSystemError;
    *o = (operation){comm, stream, what, send, receive, comm->started, false};
    const size_t in = contribution(o), out = result(o);
    if (in > SLOT_BYTES || !hostcuda_is_live(send, in) || !hostcuda_is_live(receive, out)) {
        hostcuda_library_reports("nccl-bounds", "an NCCL operation leaves its allocation");
        free(o);
        return ncclInvalidArgument;
    }
    comm->started++;
    grouped = comm;
    comm->waiting[comm->waiting_count++] = o;
    return ncclSuccess;
}

ncclResult_t ncclReduceScatter(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                               ncclComm_t comm, cudaStream_t stream)
{
    const unsigned char *place = (const unsigned char *)send + (size_t)comm->rank * count * size_of(type);
    if (op != ncclSum || type != ncclFloat32 || place != receive) return ncclInvalidArgument;
    return add(comm, stream, (terms){REDUCE_SCATTER, type, count}, send, receive);
}

ncclResult_t ncclAllGather(const void *send, void *receive, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream)
{
    if ((unsigned char *)receive + (size_t)comm->rank * count * size_of(type) != send) return ncclInvalidArgument;
    return add(comm, stream, (terms){ALL_GATHER, type, count}, send, receive);
}

ncclResult_t ncclGroupStart(void)
{
    group_depth++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
    ncclComm_t comm = grouped;
    if (group_depth == 0 || --group_depth > 0) return group_depth > 0 ? ncclSuccess : ncclInvalidUsage;
    grouped = NULL;
    if (comm == NULL) return ncclSuccess;
    comm->groups++;
    if (comm->blocking) return start_waiting(comm);
    comm->questions = 1 + (int)(comm->started % 3);
    return ncclInProgress;
}

/* ---- the communicator -------------------------------------------------------------------------------------------- */

static long told(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text != NULL && text[0] != '\0' ? strtol(text, NULL, 10) : otherwise;
}

ncclResult_t ncclGetVersion(int *version)
{
    *version = (int)told("HOSTCUDA_NCCL_VERSION", NCCL_VERSION_CODE);
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t status)
{
    return status == ncclRemoteError    ? "remote process exited or there was a network error"
           : status == ncclInvalidUsage ? "invalid usage"
                                        : "an error of the stand-in";
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    file_of_id = memfd_create("nccl stand-in", MFD_CLOEXEC);
    if (file_of_id < 0 || ftruncate(file_of_id, (off_t)(sizeof(meeting) + MOST_RANKS * SLOTS * SLOT_BYTES)) != 0)
        return ncclSystemError;
    (void)snprintf(id->internal, sizeof id->internal, "/proc/%d/fd/%d", (int)getpid(), file_of_id);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int size, ncclUniqueId id, int rank, ncclConfig_t *config)
{
    *out = NULL;
    if (size < 1 || size > MOST_RANKS || rank < 0 || rank >= size || config->magic != 0xcafebeef)
        return ncclInvalidArgument;
    if (told("HOSTCUDA_NCCL_REFUSES", 0) != 0) return ncclSystemError;
    const size_t bytes = sizeof(meeting) + MOST_RANKS * SLOTS * SLOT_BYTES;
    ncclComm_t comm = calloc(1, sizeof *comm);
    const int file = open(id.internal, O_RDWR | O_CLOEXEC);
    void *memory = file < 0 ? MAP_FAILED : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (comm == NULL || memory == MAP_FAILED) return ncclSystemError;
    comm->file = file;
    comm->shared = memory;
    comm->data = (unsigned char *)memory + sizeof(meeting);
    comm->rank = rank;
    comm->size = size;
    comm->thread = pthread_self();
    comm->blocking = config->blocking != 0;
    comm->operations_to_failure = told("HOSTCUDA_NCCL_FAIL_IN", -1);
    if (told("HOSTCUDA_NCCL_LINGERS", 0) != 1) (void)atomic_fetch_add(&comm->shared->attached, 1);
    *out = comm;
    while (comm->blocking && atomic_load(&comm->shared->attached) < size) (void)usleep(1000);
    comm->joined = comm->blocking;
    return comm->blocking ? ncclSuccess : ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error)
{
    *error = (ncclResult_t)atomic_load(&comm->error);
    if (*error != ncclSuccess || !pthread_equal(pthread_self(), comm->thread)) return ncclSuccess;
    if (!comm->joined) comm->joined = atomic_load(&comm->shared->attached) == comm->size;
    if (!comm->joined || (comm->questions > 0 && --comm->questions > 0) ||
        (comm->finalizing && atomic_load(&comm->shared->finalized) < comm->size)) {
        *error = ncclInProgress;
        return ncclSuccess;
    }
    if (comm->waiting_count > 0) *error = start_waiting(comm);
    hostcuda_progress();
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm)
{
    comm->finalizing = true;
    if (told("HOSTCUDA_NCCL_LINGERS", 0) != 2) (void)atomic_fetch_add(&comm->shared->finalized, 1);
    return ncclInProgress;
}

static void tell(ncclComm_t comm, const char *what)
{
    const char *path = getenv("HOSTCUDA_LOG");
    FILE *file = path == NULL ? NULL : fopen(path, "a");
    if (file == NULL) return;
    (void)fprintf(file, "rank %d %s NCCL after %zu bytes in %d groups\n", comm->rank, what, comm->received,
                  comm->groups);
    (void)fclose(file);
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    tell(comm, "left");
    (void)close(comm->file);
    if (comm->rank == 0) (void)close(file_of_id);
    (void)munmap(comm->shared, sizeof(meeting) + MOST_RANKS * SLOTS * SLOT_BYTES);
    free(comm);
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    tell(comm, "aborted");
    atomic_store(&comm->aborted, true);
    return ncclSuccess;
}
