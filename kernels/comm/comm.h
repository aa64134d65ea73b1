/* The processes of a run, and what they say to each other.
 *
 * Small messages are gathered whole, by MPI; gradients and weights move in buckets, without blocking: by MPI in the
 * host's memory, by NCCL in that of GPUs. A process alone copies or does nothing. Calls come from one thread, and every
 * rank makes the same calls in the same order.
 * Bytes a rank sends: (n-1)/n of a bucket to reduce and scatter it, as much to gather it, the ring's lower bound.
 * Deterministic: MPI's owner of a shard adds in the order of the ranks. NCCL adds in an order that the
 * sizes, the machine and its version decide; NVLS, which adds in no fixed order, is off unless NCCL_NVLS_ENABLE is set.
 */
#ifndef LS_KERNELS_COMM_COMM_H
#define LS_KERNELS_COMM_COMM_H

#include "kernels/exec.h"

#include <stddef.h>
#include <stdint.h>

typedef struct ls_comm ls_comm;
typedef struct ls_comm_bucket ls_comm_bucket;

/* What a rank is doing, for the watchdog's report. */
#define LS_COMM_PHASE_LIST(X)                                                                                          \
    X(STARTING, "starting")                                                                                            \
    X(BETWEEN_STEPS, "between steps")                                                                                  \
    X(READING, "reading samples")                                                                                      \
    X(COMPUTING, "forward and backward")                                                                               \
    X(REDUCING, "reducing gradients")                                                                                  \
    X(UPDATING, "updating weights")                                                                                    \
    X(EVALUATING, "evaluating")                                                                                        \
    X(LOADING, "loading a checkpoint")                                                                                 \
    X(SAVING, "saving a checkpoint")

typedef enum ls_comm_phase {
#define LS_COMM_PHASE_ENUM(name, text) LS_COMM_##name,
    LS_COMM_PHASE_LIST(LS_COMM_PHASE_ENUM)
#undef LS_COMM_PHASE_ENUM
} ls_comm_phase;

typedef struct ls_comm_traffic {
    int64_t bytes_sent;     /* of buckets, by this rank */
    double seconds_waiting; /* of the host in ls_comm_bucket_wait: what no computing hid */
} ls_comm_traffic;

/* Joins the processes that mpirun or srun started; alone, when nobody did. MPI is not touched by a process alone.
 * LS_UNSUPPORTED: started as one of several, but this build has no MPI or the launcher gives none. */
ls_status ls_comm_open(ls_comm **out);
/* One of `size` processes that are not there, for what asks about sizes: buckets can be made, not used. */
ls_status ls_comm_create_plan(ls_comm **out, int size);
/* All ranks must come here, whatever happened before. NULL is fine. */
void ls_comm_close(ls_comm *comm);

int ls_comm_rank(const ls_comm *comm); /* 0 for NULL */
int ls_comm_size(const ls_comm *comm); /* 1 for NULL */
const char *ls_comm_host(const ls_comm *comm);
/* Processors this rank should use: those it may, shared out among the ranks that may use the same. */
int ls_comm_threads(const ls_comm *comm);
/* Which of the visible GPUs this rank should take where the user asks for `wanted`: with several ranks 0 means that
 * those of a host count off. Where each sees one of its own, as Slurm arranges it, that one. */
int ls_comm_device_index(const ls_comm *comm, ls_device device, int wanted);

/* Buckets made from now on lie in the memory of `exec`, and are awaited by its ops. With several ranks on GPUs that
 * takes NCCL; refused, on all ranks alike, where that is not to be had or two ranks have the same GPU. From here on a
 * rank whose exec has failed says so and ends instead of taking part in a message, since nobody can go on without it.
 * ls_comm_detach, on all ranks, before any memory of the exec goes: what is on its way is waited for there, or given up
 * where the others are lost. Buckets may go later. */
ls_status ls_comm_attach(ls_comm *comm, ls_exec *exec);
void ls_comm_detach(ls_comm *comm);
/* "2.28.9", the version of NCCL whose headers this program was built with; NULL: it has no NCCL engine. */
const char *ls_comm_nccl_build(void);

/* A command of several processes: joins them, works, agrees on how that went, leaves. Rank 0 alone keeps the sentence
 * of a failure, and logs. */
ls_status ls_comm_run(ls_status (*work)(ls_comm *comm, void *context), void *context);
/* For a command that one process does: true on all but the first that a launcher started; the first warns. */
bool ls_comm_spare(const char *command);
/* The first that a launcher started prints for all: what the others print goes nowhere. For main.c. */
void ls_comm_hush(void);
/* LS_BAD_INPUT on every rank unless all run the same program. */
ls_status ls_comm_same_program(ls_comm *comm);

/* out [size][bytes]: every rank's `in`, in the order of the ranks. Lost touch with the others is LS_LOST. */
ls_status ls_comm_gather(ls_comm *comm, void *out, const void *in, size_t bytes);
ls_status ls_comm_broadcast(ls_comm *comm, void *data, size_t bytes, int root);
/* The same status on every rank: `own` where all are LS_OK, else that of the lowest rank that failed. Rank 0 then holds
 * its sentence, the others none: a failure is said once. */
ls_status ls_comm_agree(ls_comm *comm, ls_status own);
/* LS_BAD_INPUT on every rank, naming `what`, unless all ranks hold the same number. */
ls_status ls_comm_same(ls_comm *comm, uint64_t number, const char *what);

/* A range of a block, cut into one shard a rank: rank r's are the `elements` from r * elements on. All buckets are made
 * before the first is used. */
ls_status ls_comm_bucket_create(ls_comm_bucket **out, ls_comm *comm, int64_t elements);
void ls_comm_bucket_destroy(ls_comm_bucket *bucket);
/* Between these two, buckets are only noted; ls_comm_release starts them all at once. */
void ls_comm_hold(ls_comm *comm);
ls_status ls_comm_release(ls_comm *comm);
/* Starts, after the ops issued so far: the own shard of the bucket that begins at `range` becomes the sum over the
 * ranks; the rest is left as it is. Nothing of it may be touched before the wait. On GPUs all ranks start their buckets
 * in one order. */
ls_status ls_comm_reduce_scatter(ls_comm_bucket *bucket, float *range);
/* Starts: every rank's shard is copied into its place on all ranks. */
ls_status ls_comm_all_gather(ls_comm_bucket *bucket, void *range, size_t element_size);
/* Ops issued from now on find the bucket complete; on a GPU the host does not wait for that. */
ls_status ls_comm_bucket_wait(ls_comm_bucket *bucket);
bool ls_comm_bucket_busy(const ls_comm_bucket *bucket);
/* Moves started buckets forward; to be called now and then while computing. */
ls_status ls_comm_poll(ls_comm *comm);
ls_comm_traffic ls_comm_take_traffic(ls_comm *comm); /* since the last call */

/* Says where this rank stands; also proves to the watchdog that it moves. */
void ls_comm_stand(ls_comm *comm, int64_t step, ls_comm_phase phase);
/* From now on, when nothing moves for so long, five times as long while a checkpoint is loaded or saved, where each
 * rank stands is printed and all processes end. 0: wait forever. That a process on this host dies is seen in any case,
 * from ls_comm_open on. */
void ls_comm_set_timeout(ls_comm *comm, double seconds);
/* From now on whoever is lost leaves a checkpoint that --resume goes on from, which the last words of the others say.
 */
void ls_comm_set_resumes(ls_comm *comm);

#endif
