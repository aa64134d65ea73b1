/* Inside kernels/comm: what an engine provides, and the state that comm.c, the engines and the watchdog share. */
#ifndef LS_KERNELS_COMM_INTERNAL_H
#define LS_KERNELS_COMM_INTERNAL_H

#include "kernels/comm/comm.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

/* Where a rank stands. Ranks of one host lie side by side in memory they share; only the rank itself writes. */
typedef struct ls_standing {
    _Atomic int64_t step;
    _Atomic int phase;        /* ls_comm_phase */
    _Atomic int waiting_for;  /* a rank that has not delivered yet, -1: none */
    _Atomic int64_t moved_at; /* milliseconds of the machine's clock */
    _Atomic int rank, process;
    _Atomic int reported; /* of the first: somebody has printed the table */
    _Atomic int verdict;  /* ls_status by which it ends where a new start would end the same way; LS_OK: none */
} ls_standing;

typedef struct ls_watch ls_watch;

/* Small messages. */
typedef struct ls_comm_engine {
    const char *name;
    ls_status (*gather)(ls_comm *comm, void *out, const void *in, size_t bytes);
    ls_status (*broadcast)(ls_comm *comm, void *data, size_t bytes, int root);
    void (*close)(ls_comm *comm);
} ls_comm_engine;

/* Buckets. A function that is NULL has nothing to do. */
typedef struct ls_bucket_engine {
    const char *name;
    ls_status (*create)(ls_comm_bucket *bucket);
    void (*destroy)(ls_comm_bucket *bucket);
    ls_status (*reduce_scatter)(ls_comm_bucket *bucket, float *range);
    ls_status (*all_gather)(ls_comm_bucket *bucket, void *range, size_t element_size);
    ls_status (*wait)(ls_comm_bucket *bucket);
    ls_status (*poll)(ls_comm *comm);
    /* MPI has none of these. */
    void (*hold)(ls_comm *comm);
    ls_status (*release)(ls_comm *comm);
    void (*leave)(ls_comm *comm); /* when all is over, or at once where something is lost */
    void (*close)(ls_comm *comm); /* after that */
    /* By the watchdog's thread, until `leave` is over. */
    bool (*well)(ls_comm *comm, char *reason, size_t size);
    void (*abort)(ls_comm *comm); /* the process is about to end */
} ls_bucket_engine;

struct ls_comm {
    const ls_comm_engine *engine; /* NULL: a process alone */
    const ls_bucket_engine *buckets, *host_buckets;
    int rank, size, threads;
    char host[64];
    ls_comm_traffic traffic;
    _Atomic int64_t timeout; /* milliseconds, 0: none */
    _Atomic bool resumes;    /* the command can go on from what it has saved */
    /* of the ranks on this host; NULL for a process alone */
    ls_standing *standings, *own;
    int neighbours, place; /* on this host, and which of them this rank is */
    ls_watch *watch;
    ls_exec *exec;                   /* attached; NULL: none */
    pthread_mutex_t guard;           /* of the next */
    const ls_bucket_engine *watched; /* `buckets`, while the watchdog may call them; else NULL */
    bool broken;                     /* no message can be sent any more */
    _Atomic bool ending;             /* a thread says why, and ends the process */
    void *state;                     /* the engine's */
    void *bucket_state;              /* of `buckets`, where those are not the engine's */
};

struct ls_comm_bucket {
    ls_comm *comm;
    const ls_bucket_engine *engine; /* the comm's when the bucket was made */
    int64_t elements;               /* of a shard */
    int number;
    bool busy;
    void *state;
};

/* Whether a launcher made this process one of several; *processes: of how many (0: not told). */
typedef struct ls_launch {
    const char *launcher; /* "mpirun", "srun"; NULL: nobody */
    bool speaks_mpi;      /* it offers what MPI needs to find the others */
    long processes;
} ls_launch;
ls_launch ls_comm_launch(void);

/* Fills in the engine; the comm is zeroed. */
ls_status ls_comm_mpi_open(ls_comm *comm);
/* Takes over the buckets; exec is on a GPU. Fails on all ranks alike. */
ls_status ls_comm_nccl_open(ls_comm *comm, ls_exec *exec);

/* What all have agreed on is said before any process ends: a launcher that sees one fail may end rank 0 at once. */
void ls_comm_say(ls_comm *comm, ls_status status);
void ls_comm_moved(ls_comm *comm); /* something arrived, or a phase began */
ls_status ls_watch_start(ls_comm *comm);
void ls_watch_stop(ls_comm *comm);
/* The failure of this rank alone, after which no message can be sent: says it and ends the process, by 75 where a new
 * start may help. Else neighbours end by the same status, and the launcher ends the ranks elsewhere by it. */
_Noreturn void ls_watch_drop_out(ls_comm *comm, ls_status status);
/* Who has lost touch with the others asks here first why that may be: does not return where another rank has said that
 * a new start would not help. */
void ls_watch_heed(ls_comm *comm);

#endif
