/* Buckets follow the parts of the table: see shards.h. */
#include "optim/shards.h"

#include "core/memory.h"

#include <stdlib.h>

#define BUCKETS_ON_THE_WAY 4
/* Of weights that GPUs bring at once: many buckets, since each start costs the host time and the GPU a launch; and so
 * few that the last of them, which no update hides, take 1.7 ms at 40 GB/s. */
#define GROUP_BYTES ((size_t)64 << 20)

static size_t summed_bytes(const ls_shards *shards) { return sizeof(float) * (size_t)shards->kept; }

static size_t staging_bytes(const ls_shards *shards) { return sizeof(float) * (size_t)shards->staging_elements; }

/* ---- cutting ----------------------------------------------------------------------------------------------------- */

static ls_status add_bucket(ls_shards *self, int64_t first, int64_t end)
{
    const int size = ls_comm_size(self->comm), rank = ls_comm_rank(self->comm);
    const int64_t elements = (end - first) / size;
    LS_ASSERT(elements * size == end - first);
    ls_shard *list = realloc(self->list, sizeof *list * (size_t)(self->count + 1));
    if (list == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for the list of buckets");
    self->list = list;
    ls_shard *shard = &self->list[self->count];
    *shard = (ls_shard){.first = first,
                        .end = end,
                        .own_first = first + rank * elements,
                        .own_end = first + (rank + 1) * elements,
                        .place = self->kept};
    shard->kept_first = self->sharding == LS_SHARDING_NONE ? first : shard->own_first;
    shard->kept_end = self->sharding == LS_SHARDING_NONE ? end : shard->own_end;
    LS_TRY(ls_comm_bucket_create(&shard->bucket, self->comm, elements));
    self->kept += shard->kept_end - shard->kept_first;
    self->count++;
    return LS_OK;
}

/* In several buckets of about equal size where it is large. */
static ls_status add_stretch(ls_shards *self, int part, int64_t first, int64_t end, int64_t bucket_elements)
{
    const int64_t step = (int64_t)LS_PARAMETER_ALIGNMENT * ls_comm_size(self->comm);
    const int64_t pieces = (end - first + bucket_elements - 1) / bucket_elements;
    ls_stretch *stretches = realloc(self->stretches, sizeof *stretches * (size_t)(self->stretch_count + 1));
    if (stretches == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for the list of buckets");
    self->stretches = stretches;
    stretches[self->stretch_count++] = (ls_stretch){.first = first, .end = end, .part = part, .bucket = self->count};
    for (int64_t i = 1, begin = first; i <= pieces; i++) {
        const int64_t length = ((end - first) * i / pieces + step - 1) / step * step;
        const int64_t bound = i == pieces || first + length > end ? end : first + length;
        if (bound > begin) LS_TRY(add_bucket(self, begin, bound));
        begin = bound;
    }
    self->stretches[self->stretch_count - 1].bucket_end = self->count;
    return LS_OK;
}

static ls_status cut(ls_shards *self, const ls_parameter_table *table, int64_t bucket_elements)
{
    for (int part = LS_PART_EMBEDDING, next; part <= table->layer_count; part = next) {
        const int64_t first = ls_parameter_part(table, part);
        next = part + 1;
        /* Small layers share a bucket, which is complete when the lowest of them is. */
        while (part >= 0 && next < table->layer_count && ls_parameter_part(table, next + 1) - first <= bucket_elements)
            next++;
        LS_TRY(add_stretch(self, part, first, ls_parameter_part(table, next), bucket_elements));
    }
    return LS_OK;
}

/* A stretch that gets gradients from every exit. */
static bool gathers(const ls_shards *self, const ls_stretch *stretch)
{
    return stretch->part == LS_PART_EMBEDDING || stretch->part == self->table->layer_count;
}

static ls_status create_staging(ls_shards *self)
{
    int64_t own = 0, largest = 0;
    void *memory;
    for (int i = 0; i < self->stretch_count; i++) {
        const int64_t length = self->stretches[i].end - self->stretches[i].first;
        if (gathers(self, &self->stretches[i]))
            own += length;
        else if (length > largest)
            largest = length;
    }
    const int turns = self->stretch_count > 3 ? 2 : 1;
    self->staging_elements = own + turns * largest;
    LS_TRY(ls_exec_allocate(self->exec, &memory, staging_bytes(self), "gradients on their way"));
    self->staging = memory;
    float *next = self->staging + turns * largest;
    for (int i = 0; i < self->stretch_count; i++) {
        ls_stretch *stretch = &self->stretches[i];
        stretch->place = gathers(self, stretch) ? next : self->staging + i % turns * largest;
        if (gathers(self, stretch)) next += stretch->end - stretch->first;
    }
    return LS_OK;
}

static ls_status create_summed(ls_shards *self)
{
    void *memory;
    LS_TRY(ls_exec_allocate(self->exec, &memory, summed_bytes(self), "this process's share of the gradients"));
    self->summed = memory;
    return self->exec->device == LS_DEVICE_CUDA ? create_staging(self) : LS_OK;
}

ls_status ls_shards_create(ls_shards *out, ls_exec *exec, const ls_parameter_table *table, ls_comm *comm,
                           ls_sharding sharding, int64_t bucket_elements)
{
    *out = (ls_shards){
        .comm = comm, .exec = exec, .table = table, .sharding = ls_comm_size(comm) > 1 ? sharding : LS_SHARDING_NONE};
    ls_status status = ls_comm_size(comm) > 1
                           ? cut(out, table, bucket_elements)
                           : add_stretch(out, LS_PART_EMBEDDING, 0, table->elements, table->elements);
    if (status == LS_OK && out->sharding == LS_SHARDING_GRADIENTS) status = create_summed(out);
    if (status != LS_OK) ls_shards_destroy(out);
    return status;
}

void ls_shards_destroy(ls_shards *shards)
{
    for (int i = 0; i < shards->count; i++) ls_comm_bucket_destroy(shards->list[i].bucket);
    if (shards->exec != NULL) ls_exec_free(shards->exec, shards->staging, staging_bytes(shards));
    if (shards->exec != NULL) ls_exec_free(shards->exec, shards->summed, summed_bytes(shards));
    free(shards->stretches);
    free(shards->list);
    *shards = (ls_shards){0};
}

/* ---- moving ------------------------------------------------------------------------------------------------------ */

/* Starts what was noted since ls_comm_hold, whose end this is after a failure too. */
static ls_status release(ls_shards *shards, ls_status noted)
{
    const ls_status released = ls_comm_release(shards->comm);
    return noted != LS_OK ? noted : released;
}

/* ZeRO-2 in the host's memory: adds what has arrived to the kept sums and gives the bucket's memory back. */
static void collect(ls_shards *shards, float *gradients)
{
    if (shards->summed == NULL || shards->staging != NULL) return;
    for (int i = 0; i < shards->count; i++) {
        ls_shard *shard = &shards->list[i];
        if (!shard->started || shard->collected || ls_comm_bucket_busy(shard->bucket)) continue;
        float *sum = shards->summed + shard->place;
        const float *from = gradients + shard->kept_first;
        for (int64_t j = 0; j < shard->kept_end - shard->kept_first; j++) sum[j] += from[j];
        ls_memory_discard(gradients + shard->first, sizeof *gradients * (size_t)(shard->end - shard->first));
        shard->collected = true;
    }
}

/* ZeRO-2's memory is what is on its way: backward waits when that is more than a few buckets. Starting never waits, so
 * the ranks whose numbers are missing are on their way here. */
static ls_status wait_for_most(ls_shards *shards, float *gradients)
{
    int on_the_way = 0;
    for (int i = 0; i < shards->count; i++) on_the_way += shards->list[i].started && !shards->list[i].collected;
    for (int i = shards->count - 1; i >= 0 && on_the_way > BUCKETS_ON_THE_WAY; i--) {
        if (!shards->list[i].started || shards->list[i].collected) continue;
        LS_TRY(ls_comm_bucket_wait(shards->list[i].bucket));
        on_the_way--;
    }
    collect(shards, gradients);
    return LS_OK;
}

/* Of the own shards, between `summed` and the place of their stretch. */
static ls_status copy_own(ls_shards *shards, const ls_stretch *stretch, int bucket, bool home)
{
    const ls_shard *shard = &shards->list[bucket];
    float *sum = shards->summed + shard->place, *there = stretch->place + (shard->kept_first - stretch->first);
    const size_t bytes = sizeof *sum * (size_t)(shard->kept_end - shard->kept_first);
    return home ? ls_exec_copy(shards->exec, sum, there, bytes) : ls_exec_copy(shards->exec, there, sum, bytes);
}

/* The place is free again when the sums are home. The host waits for nothing here, nor below. */
static ls_status leave_place(ls_shards *shards, int index)
{
    ls_stretch *stretch = &shards->stretches[index];
    for (int i = stretch->bucket; i < stretch->bucket_end && stretch->open; i++) {
        LS_TRY(ls_comm_bucket_wait(shards->list[i].bucket));
        LS_TRY(copy_own(shards, stretch, i, true));
    }
    stretch->open = false;
    return LS_OK;
}

/* What the rank has summed before lies in its own shards already, so that no addition of its own is needed. */
static ls_status take_place(ls_shards *shards, int index)
{
    ls_stretch *stretch = &shards->stretches[index];
    if (stretch->open) return LS_OK;
    const bool shared = index + 2 < shards->stretch_count && shards->stretches[index + 2].place == stretch->place;
    if (shared) LS_TRY(leave_place(shards, index + 2));
    stretch->open = true;
    ls_exec_clear(shards->exec, stretch->place, stretch->end - stretch->first);
    for (int i = stretch->bucket; i < stretch->bucket_end; i++) LS_TRY(copy_own(shards, stretch, i, false));
    return LS_OK;
}

static ls_status start(ls_shards *shards, float *gradients, int index)
{
    const ls_stretch *stretch = &shards->stretches[index];
    const bool staged = shards->staging != NULL;
    if (shards->list[stretch->bucket].started) return LS_OK;
    if (staged) LS_TRY(take_place(shards, index));
    for (int i = stretch->bucket_end - 1; i >= stretch->bucket; i--) {
        ls_shard *shard = &shards->list[i];
        shard->started = true;
        LS_TRY(ls_comm_reduce_scatter(shard->bucket, staged ? stretch->place + (shard->first - stretch->first)
                                                            : gradients + shard->first));
    }
    return LS_OK;
}

float *ls_shards_place(ls_shards *shards, int part)
{
    int index = 0;
    while (shards->stretches[index].end <= ls_parameter_part(shards->table, part)) index++;
    (void)take_place(shards, index); /* a failure is the exec's */
    const ls_stretch *stretch = &shards->stretches[index];
    return stretch->place + (ls_parameter_part(shards->table, part) - stretch->first);
}

float *ls_shards_gradients(const ls_shards *shards, float *gradients, int index)
{
    const ls_shard *shard = &shards->list[index];
    return shards->summed != NULL ? shards->summed + shard->place : gradients + shard->kept_first;
}

ls_status ls_shards_ready(ls_shards *shards, float *gradients, int part)
{
    if (ls_comm_size(shards->comm) == 1) return LS_OK;
    ls_status status = LS_OK;
    ls_comm_hold(shards->comm);
    for (int i = 0; i < shards->stretch_count; i++)
        if (shards->stretches[i].part == part) status = start(shards, gradients, i);
    LS_TRY(release(shards, status));
    LS_TRY(ls_comm_poll(shards->comm));
    collect(shards, gradients);
    return shards->summed != NULL && shards->staging == NULL ? wait_for_most(shards, gradients) : LS_OK;
}

ls_status ls_shards_wait(ls_shards *shards)
{
    for (int i = shards->count - 1; i >= 0; i--) LS_TRY(ls_comm_bucket_wait(shards->list[i].bucket));
    return LS_OK;
}

ls_status ls_shards_reduce(ls_shards *shards, float *gradients)
{
    ls_status status = LS_OK;
    for (int i = shards->stretch_count - 1; i >= 0; i--) {
        ls_comm_hold(shards->comm);
        status = start(shards, gradients, i);
        LS_TRY(release(shards, status));
    }
    LS_TRY(ls_shards_wait(shards));
    collect(shards, gradients);
    for (int i = 0; i < shards->stretch_count && shards->staging != NULL; i++) LS_TRY(leave_place(shards, i));
    for (int i = 0; i < shards->count; i++) shards->list[i].started = shards->list[i].collected = false;
    if (shards->sharding != LS_SHARDING_NONE) return LS_OK;
    ls_comm_hold(shards->comm);
    for (int i = 0; i < shards->count && status == LS_OK; i++)
        status = ls_comm_all_gather(shards->list[i].bucket, gradients + shards->list[i].first, sizeof *gradients);
    LS_TRY(release(shards, status));
    return ls_shards_wait(shards);
}

ls_status ls_shards_publish(ls_shards *shards, int index, void *weights, size_t element_size)
{
    const ls_shard *shard = &shards->list[index];
    if (shards->sharding == LS_SHARDING_NONE) return LS_OK;
    if (shards->held == 0) ls_comm_hold(shards->comm);
    shards->held += element_size * (size_t)(shard->end - shard->first);
    unsigned char *range = (unsigned char *)weights + element_size * (size_t)shard->first;
    ls_status status = ls_comm_all_gather(shard->bucket, range, element_size);
    if (shards->held >= GROUP_BYTES || index + 1 == shards->count || status != LS_OK) {
        shards->held = 0;
        status = release(shards, status);
    }
    LS_TRY(status);
    return ls_comm_poll(shards->comm);
}
