/* See background_save.h. The thread touches only its own copy, its list of pieces and the file. */
#include "train/background_save.h"

#include "core/clock.h"
#include "core/file.h"
#include "core/memory.h"
#include "core/text.h"
#include "train/checkpoint_pieces.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { WRITE_BYTES = 8 << 20, LOOK_MILLISECONDS = 10 };

/* A range of a dataset. */
typedef struct segment {
    int dataset;          /* of block * table.count + entry */
    int64_t first, count; /* elements of it */
    float *copy;
    const float *from;
} segment;

struct ls_background_save {
    const ls_optimizer *optimizer;
    segment *segments;
    int count;
    int64_t *offsets; /* [LS_KEPT_BLOCKS][table.count] bytes from the start of the file to each dataset */
    float *copies;
    size_t bytes;
    char *run_dir, *path, *temporary; /* of the save that is running, else NULL */
    int64_t step, keep;
    pthread_t thread;
    bool started;
    _Atomic bool done;
    int file, error; /* error: errno of the thread's first failure */
    double began, seconds;
};

size_t ls_background_save_bytes_of(int64_t elements) { return sizeof(float) * LS_KEPT_BLOCKS * (size_t)elements; }

size_t ls_background_save_bytes(const ls_background_save *self) { return self->bytes; }

static void add_segments(ls_background_save *self, ls_hdf5_piece *pieces)
{
    const ls_optimizer *optimizer = self->optimizer;
    const int entries = optimizer->model->table.count;
    float *copy = self->copies;
    for (int block = 0; block < LS_KEPT_BLOCKS; block++)
        for (int i = 0; i < entries; i++) {
            const int count =
                ls_pieces_find(pieces, optimizer, (ls_kept_block)block, &optimizer->model->table.entries[i], false);
            for (int p = 0; p < count; p++) {
                self->segments[self->count++] = (segment){
                    .dataset = block * entries + i,
                    .first = pieces[p].first,
                    .count = pieces[p].count,
                    .copy = copy,
                    .from = ls_optimizer_base(optimizer, (ls_kept_block)block) + pieces[p].place,
                };
                copy += pieces[p].count;
            }
        }
}

ls_status ls_background_save_create(ls_background_save **out, const ls_optimizer *optimizer)
{
    const ls_shards *shards = &optimizer->shards;
    const size_t entries = (size_t)optimizer->model->table.count;
    int64_t own = 0;
    for (int i = 0; i < shards->count; i++) own += shards->list[i].own_end - shards->list[i].own_first;
    ls_background_save *self = ls_text_memory(NULL, sizeof *self);
    *self = (ls_background_save){.optimizer = optimizer, .file = -1, .bytes = ls_background_save_bytes_of(own)};
    void *copies;
    const ls_status status = ls_memory_map(&copies, self->bytes, "a copy of the run for saving in the background");
    if (status != LS_OK) {
        free(self);
        return status;
    }
    self->copies = copies;
    self->offsets = ls_text_memory(NULL, sizeof *self->offsets * LS_KEPT_BLOCKS * entries);
    self->segments = ls_text_memory(NULL, sizeof *self->segments * LS_KEPT_BLOCKS * (entries + (size_t)shards->count));
    ls_hdf5_piece *pieces = ls_text_memory(NULL, sizeof *pieces * (size_t)shards->count);
    add_segments(self, pieces);
    free(pieces);
    *out = self;
    return LS_OK;
}

static void forget(ls_background_save *self)
{
    if (self->file >= 0) (void)close(self->file);
    free(self->run_dir);
    free(self->path);
    free(self->temporary);
    self->run_dir = self->path = self->temporary = NULL;
    self->file = -1;
}

void ls_background_save_destroy(ls_background_save *self)
{
    if (self == NULL) return;
    if (self->started) (void)pthread_join(self->thread, NULL);
    if (self->temporary != NULL && ls_comm_rank(self->optimizer->shards.comm) == 0) (void)unlink(self->temporary);
    forget(self);
    ls_memory_unmap(self->copies, self->bytes);
    free(self->segments);
    free(self->offsets);
    free(self);
}

/* ---- the thread -------------------------------------------------------------------------------------------------- */

static bool write_at(int file, const char *bytes, size_t length, off_t at)
{
    while (length > 0) {
        const ssize_t count = pwrite(file, bytes, length < WRITE_BYTES ? length : WRITE_BYTES, at);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return false;
        bytes += count;
        length -= (size_t)count;
        at += count;
    }
    return true;
}

static void *write_segments(void *argument)
{
    ls_background_save *self = argument;
    bool good = true;
    for (int i = 0; i < self->count && good; i++) {
        const segment *part = &self->segments[i];
        const off_t at = (off_t)(self->offsets[part->dataset] + part->first * (int64_t)sizeof(float));
        good = write_at(self->file, (const char *)part->copy, sizeof(float) * (size_t)part->count, at);
    }
    if (!good || fsync(self->file) != 0) self->error = errno == 0 ? EIO : errno;
    self->seconds = ls_seconds_now() - self->began;
    atomic_store(&self->done, true);
    return NULL;
}

/* ---- beginning and ending ---------------------------------------------------------------------------------------- */

static ls_status make_file(ls_background_save *self, const ls_checkpoint *about)
{
    char *folder = ls_file_join(self->run_dir, "checkpoints");
    ls_status status = ls_file_make_folders(folder);
    free(folder);
    if (status == LS_OK) status = ls_checkpoint_reserve(self->temporary, about, self->optimizer, self->offsets);
    return status == LS_OK ? ls_file_reserve(self->temporary) : status;
}

static ls_status copy_all(ls_background_save *self)
{
    self->file = open(self->temporary, O_WRONLY | O_CLOEXEC);
    if (self->file < 0) return LS_FAIL(LS_IO, "cannot write %s: %s", self->temporary, ls_file_reason(errno));
    for (int i = 0; i < self->count; i++)
        LS_TRY(ls_exec_download(self->optimizer->model->exec, self->segments[i].copy, self->segments[i].from,
                                sizeof(float) * (size_t)self->segments[i].count));
    return LS_OK;
}

static ls_status give_up(ls_background_save *self, ls_status status)
{
    if (ls_comm_rank(self->optimizer->shards.comm) == 0) (void)unlink(self->temporary);
    forget(self);
    return status;
}

ls_status ls_background_save_begin(ls_background_save *self, const char *run_dir, const ls_checkpoint *about,
                                   int64_t keep)
{
    ls_comm *comm = self->optimizer->shards.comm;
    const size_t datasets = LS_KEPT_BLOCKS * (size_t)self->optimizer->model->table.count;
    double seconds;
    LS_TRY(ls_background_save_end(self, &seconds));
    ls_comm_stand(comm, about->step, LS_COMM_SAVING);
    self->run_dir = ls_text_format("%s", run_dir);
    self->path = ls_text_format("%s/checkpoints/step-%08lld.h5", run_dir, (long long)about->step);
    self->temporary = ls_text_format("%s.tmp", self->path);
    self->step = about->step;
    self->keep = keep;
    ls_checkpoint written = *about;
    ls_status status = ls_pieces_sum(self->optimizer, &written.sum);
    if (status == LS_OK) status = ls_comm_agree(comm, ls_comm_rank(comm) == 0 ? make_file(self, &written) : LS_OK);
    if (status == LS_OK) status = ls_comm_broadcast(comm, self->offsets, sizeof *self->offsets * datasets, 0);
    if (status == LS_OK) status = ls_comm_agree(comm, copy_all(self));
    if (status != LS_OK) return give_up(self, status);
    self->began = ls_seconds_now();
    self->error = 0;
    atomic_store(&self->done, false);
    const int error = pthread_create(&self->thread, NULL, write_segments, self);
    self->started = error == 0;
    if (self->started) return LS_OK; /* `error` is the thread's from now on */
    self->error = error;
    atomic_store(&self->done, true);
    return LS_OK;
}

bool ls_background_save_running(const ls_background_save *self) { return self != NULL && self->path != NULL; }

bool ls_background_save_written(const ls_background_save *self)
{
    return !ls_background_save_running(self) || atomic_load(&self->done);
}

/* All ranks leave this together; while any writes, messages show the watchdog that all is well. */
static ls_status wait_for_all(ls_background_save *self)
{
    ls_comm *comm = self->optimizer->shards.comm;
    const size_t size = (size_t)ls_comm_size(comm);
    bool all = false, *states = ls_text_memory(NULL, size * sizeof *states);
    ls_status status = LS_OK;
    while (!all && status == LS_OK) {
        const bool own = atomic_load(&self->done);
        if (!own) (void)nanosleep(&(struct timespec){.tv_nsec = LOOK_MILLISECONDS * 1000000L}, NULL);
        status = ls_comm_gather(comm, states, &own, sizeof own);
        all = true;
        for (size_t r = 0; r < size; r++) all = all && states[r];
    }
    free(states);
    return status;
}

ls_status ls_background_save_end(ls_background_save *self, double *seconds)
{
    *seconds = 0.0;
    if (!ls_background_save_running(self)) return LS_OK;
    ls_comm *comm = self->optimizer->shards.comm;
    ls_comm_stand(comm, self->step, LS_COMM_SAVING);
    LS_TRY(wait_for_all(self));
    if (self->started) (void)pthread_join(self->thread, NULL);
    self->started = false;
    *seconds = self->seconds;
    const ls_status own =
        self->error == 0 ? LS_OK : LS_FAIL(LS_IO, "cannot write %s: %s", self->temporary, ls_file_reason(self->error));
    ls_status status = ls_comm_agree(comm, own);
    if (status != LS_OK) return give_up(self, status);
    status =
        ls_comm_rank(comm) == 0 ? ls_checkpoint_commit(self->run_dir, self->temporary, self->path, self->keep) : LS_OK;
    forget(self);
    return ls_comm_agree(comm, status);
}
