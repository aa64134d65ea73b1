/* Buckets follow the table: runs of neighbouring parameters of one part (a layer, what comes before, what comes after).
 */
#include "optim/shards.h"

#include "core/memory.h"
#include "model/training.h"

#include <stdlib.h>
#include <string.h>

#define BUCKETS_ON_THE_WAY 4
#define SHARD_ALIGNMENT 64 /* elements: a shard starts on a cache line in bf16 too */
/* Of weights that GPUs bring at once: many buckets, since each start costs the host time and the GPU a launch; and so
 * few that the last of them, which no update hides, take 1.7 ms at 40 GB/s. */
#define GROUP_BYTES ((size_t)64 << 20)

/* ---- cutting ----------------------------------------------------------------------------------------------------- */

static int part_of(const ls_parameter_table *table, int entry)
{
    if (table->entries[entry].layer >= 0) return table->entries[entry].layer;
    if (entry == 0) return LS_PART_EMBEDDING;
    int layers = 0;
    for (int i = 0; i < table->count; i++)
        if (table->entries[i].layer >= layers) layers = table->entries[i].layer + 1;
    return layers;
}

static int64_t end_of_part(const ls_parameter_table *table, int *entry)
{
    const int part = part_of(table, *entry);
    while (*entry < table->count && part_of(table, *entry) == part) (*entry)++;
    return *entry < table->count ? table->entries[*entry].offset : table->elements;
}

static int part_at(const ls_parameter_table *table, int64_t element)
{
    int entry = 0;
    while (entry + 1 < table->count && table->entries[entry + 1].offset <= element) entry++;
    return part_of(table, entry);
}

static ls_status cut_bucket(ls_shards *self, const ls_parameter_table *table, int64_t first, int64_t end)
{
    const int size = ls_comm_size(self->comm), rank = ls_comm_rank(self->comm);
    ls_shard *list = realloc(self->list, sizeof *list * (size_t)(self->count + 1));
    int64_t *bounds = malloc(sizeof *bounds * (size_t)(size + 1));
    if (list != NULL) self->list = list;
    if (list == NULL || bounds == NULL) {
        free(bounds);
        return LS_FAIL(LS_NO_MEMORY, "cannot get memory for the list of buckets");
    }
    const int64_t lines = (end - first + SHARD_ALIGNMENT - 1) / SHARD_ALIGNMENT;
    for (int r = 0; r <= size; r++) {
        const int64_t bound = first + lines * r / size * SHARD_ALIGNMENT;
        bounds[r] = bound < end ? bound : end;
    }
    ls_shard *shard = &self->list[self->count];
    *shard = (ls_shard){.first = first,
                        .end = end,
                        .own_first = bounds[rank],
                        .own_end = bounds[rank + 1],
                        .part = {part_at(table, first), part_at(table, end - 1)}};
    shard->kept_first = self->sharding == LS_SHARDING_NONE ? first : shard->own_first;
    shard->kept_end = self->sharding == LS_SHARDING_NONE ? end : shard->own_end;
    shard->place = self->kept;
    const ls_status status = ls_comm_bucket_create(&shard->bucket, self->comm, bounds);
    free(bounds);
    LS_TRY(status);
    self->kept += shard->kept_end - shard->kept_first;
    self->count++;
    return LS_OK;
}

/* From where the buckets end so far. */
static ls_status add_range(ls_shards *self, const ls_parameter_table *table, int64_t end)
{
    const int64_t first = self->count == 0 ? 0 : self->list[self->count - 1].end;
    return first < end ? cut_bucket(self, table, first, end) : LS_OK;
}

/* Buckets end where equal shards do, a little above the end of their part. Only the last elements of the block may be
 * shared out unequally, in a bucket of their own. */
static ls_status add_bucket(ls_shards *self, const ls_parameter_table *table, int64_t end)
{
    const int64_t step = (int64_t)SHARD_ALIGNMENT * ls_comm_size(self->comm);
    const int64_t rounded = (end + step - 1) / step * step;
    LS_TRY(add_range(self, table, rounded < table->elements ? rounded : table->elements / step * step));
    return end == table->elements ? add_range(self, table, end) : LS_OK;
}

/* A large part makes several buckets of equal size. */
static ls_status add_part(ls_shards *self, const ls_parameter_table *table, int64_t first, int64_t end,
                          int64_t bucket_elements)
{
    const int64_t pieces = (end - first + bucket_elements - 1) / bucket_elements;
    for (int64_t i = 1; i <= pieces; i++) LS_TRY(add_bucket(self, table, first + (end - first) * i / pieces));
    return LS_OK;
}

static ls_status cut(ls_shards *self, const ls_parameter_table *table, int64_t bucket_elements)
{
    for (int entry = 0; entry < table->count;) {
        const int first = entry;
        int64_t end = end_of_part(table, &entry);
        /* Small layers share a bucket, which is complete when the lowest of them is. */
        while (table->entries[first].layer >= 0 && entry < table->count && table->entries[entry].layer >= 0) {
            int next = entry;
            const int64_t longer = end_of_part(table, &next);
            if (longer - table->entries[first].offset > bucket_elements) break;
            entry = next;
            end = longer;
        }
        LS_TRY(add_part(self, table, table->entries[first].offset, end, bucket_elements));
    }
    return LS_OK;
}

ls_status ls_shards_create(ls_shards *out, const ls_parameter_table *table, ls_comm *comm, ls_sharding sharding,
                           int64_t bucket_elements)
{
    *out = (ls_shards){.comm = comm, .sharding = ls_comm_size(comm) > 1 ? sharding : LS_SHARDING_NONE};
    ls_status status =
        ls_comm_size(comm) > 1 ? cut(out, table, bucket_elements) : cut_bucket(out, table, 0, table->elements);
    if (status == LS_OK && out->sharding == LS_SHARDING_GRADIENTS) {
        void *memory;
        status = ls_memory_map(&memory, sizeof(float) * (size_t)out->kept, "this process's share of the gradients");
        if (status == LS_OK) out->summed = memory;
    }
    if (status != LS_OK) ls_shards_destroy(out);
    return status;
}

void ls_shards_destroy(ls_shards *shards)
{
    for (int i = 0; i < shards->count; i++) ls_comm_bucket_destroy(shards->list[i].bucket);
    if (shards->summed != NULL) ls_memory_unmap(shards->summed, sizeof(float) * (size_t)shards->kept);
    free(shards->list);
    *shards = (ls_shards){0};
}

/* ---- moving ------------------------------------------------------------------------------------------------------ */

static ls_status start(ls_shard *shard, float *gradients)
{
    shard->started = true;
    return ls_comm_reduce_scatter(shard->bucket, gradients);
}

/* Starts what was noted since ls_comm_hold, whose end this is after a failure too. */
static ls_status release(ls_shards *shards, ls_status noted)
{
    const ls_status released = ls_comm_release(shards->comm);
    return noted != LS_OK ? noted : released;
}

/* ZeRO-2: adds what has arrived to the kept sums and gives the bucket's memory back. */
static void collect(ls_shards *shards, float *gradients)
{
    if (shards->summed == NULL) return;
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
    for (int i = shards->count - 1; i >= 0 && status == LS_OK; i--) {
        ls_shard *shard = &shards->list[i];
        for (int j = 0; j < 2; j++) shard->told[j] = shard->told[j] || shard->part[j] == part;
        if (shard->told[0] && shard->told[1] && !shard->started) status = start(shard, gradients);
    }
    LS_TRY(release(shards, status));
    LS_TRY(ls_comm_poll(shards->comm));
    collect(shards, gradients);
    return shards->summed != NULL ? wait_for_most(shards, gradients) : LS_OK;
}

ls_status ls_shards_wait(ls_shards *shards)
{
    for (int i = shards->count - 1; i >= 0; i--) LS_TRY(ls_comm_bucket_wait(shards->list[i].bucket));
    return LS_OK;
}

ls_status ls_shards_reduce(ls_shards *shards, float *gradients)
{
    ls_status status = LS_OK;
    ls_comm_hold(shards->comm);
    for (int i = shards->count - 1; i >= 0 && status == LS_OK; i--)
        if (!shards->list[i].started) status = start(&shards->list[i], gradients);
    LS_TRY(release(shards, status));
    LS_TRY(ls_shards_wait(shards));
    collect(shards, gradients);
    for (int i = 0; i < shards->count; i++) {
        ls_shard *shard = &shards->list[i];
        shard->started = shard->collected = shard->told[0] = shard->told[1] = false;
    }
    if (shards->sharding != LS_SHARDING_NONE) return LS_OK;
    ls_comm_hold(shards->comm);
    for (int i = 0; i < shards->count && status == LS_OK; i++)
        status = ls_comm_all_gather(shards->list[i].bucket, gradients, sizeof *gradients);
    LS_TRY(release(shards, status));
    return ls_shards_wait(shards);
}

ls_status ls_shards_publish(ls_shards *shards, int index, void *weights, size_t element_size)
{
    const ls_shard *shard = &shards->list[index];
    if (shards->sharding == LS_SHARDING_NONE) return LS_OK;
    if (shards->held == 0) ls_comm_hold(shards->comm);
    shards->held += element_size * (size_t)(shard->end - shard->first);
    ls_status status = ls_comm_all_gather(shard->bucket, weights, element_size);
    if (shards->held >= GROUP_BYTES || index + 1 == shards->count || status != LS_OK) {
        shards->held = 0;
        status = release(shards, status);
    }
    LS_TRY(status);
    return ls_comm_poll(shards->comm);
}
