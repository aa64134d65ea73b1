/* See checkpoint_pieces.h. */
#include "train/checkpoint_pieces.h"

#include "core/text.h"

#include <stdlib.h>
#include <string.h>

int ls_pieces_find(ls_hdf5_piece *pieces, const ls_optimizer *optimizer, ls_kept_block block, const ls_parameter *entry,
                   bool reading)
{
    const float *base = ls_optimizer_base(optimizer, block);
    const int64_t first = entry->offset, last = first + entry->rows * entry->cols;
    int count = 0;
    for (int i = 0; i < optimizer->shards.count; i++) {
        const ls_shard *shard = &optimizer->shards.list[i];
        const int64_t from = reading ? shard->kept_first : shard->own_first;
        const int64_t to = reading ? shard->kept_end : shard->own_end;
        const int64_t begin = from > first ? from : first, end = to < last ? to : last;
        if (begin >= end) continue;
        const float *place = ls_optimizer_kept(optimizer, block, i) + (begin - shard->kept_first);
        pieces[count++] = (ls_hdf5_piece){.first = begin - first, .place = place - base, .count = end - begin};
    }
    return count;
}

void ls_piece_window_close(ls_piece_window *window)
{
    free(window->pieces);
    free(window->device_places);
    free(window->values);
}

ls_status ls_piece_window_open(ls_piece_window *window, const ls_optimizer *optimizer)
{
    const ls_parameter_table *table = &optimizer->model->table;
    const size_t buckets = (size_t)optimizer->shards.count;
    const bool host = optimizer->model->exec->memory->host;
    int64_t largest = 0;
    for (int i = 0; i < table->count; i++) {
        const int64_t count = table->entries[i].rows * table->entries[i].cols;
        largest = count > largest ? count : largest;
    }
    *window = (ls_piece_window){.pieces = malloc(sizeof *window->pieces * buckets),
                                .device_places = malloc(sizeof *window->device_places * buckets),
                                .values = host ? NULL : malloc(sizeof *window->values * (size_t)largest)};
    if (window->pieces != NULL && window->device_places != NULL && (host || window->values != NULL)) return LS_OK;
    ls_piece_window_close(window);
    return LS_FAIL(LS_NO_MEMORY, "cannot get memory for the pieces of a checkpoint");
}

float *ls_piece_window_pack(const ls_piece_window *window, int count, float *base)
{
    int64_t at = 0;
    for (int i = 0; i < count && window->values != NULL; i++) {
        window->device_places[i] = window->pieces[i].place;
        window->pieces[i].place = at;
        at += window->pieces[i].count;
    }
    return window->values != NULL ? window->values : base;
}

ls_status ls_piece_window_move(const ls_piece_window *window, int count, ls_exec *exec, float *base, bool download)
{
    for (int i = 0; i < count && window->values != NULL; i++) {
        float *near = window->values + window->pieces[i].place, *far = base + window->device_places[i];
        const size_t bytes = sizeof(float) * (size_t)window->pieces[i].count;
        LS_TRY(download ? ls_exec_download(exec, near, far, bytes) : ls_exec_upload(exec, far, near, bytes));
    }
    return LS_OK;
}

/* ---- the sum ----------------------------------------------------------------------------------------------------- */

/* number: of the first value in all blocks. */
static uint64_t sum_values(const float *values, int64_t count, uint64_t number, int threads)
{
    uint64_t sum = 0;
#pragma omp parallel for simd num_threads(threads) reduction(+ : sum)
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        sum += bits * (2 * (number + (uint64_t)i) + 1);
    }
    return sum;
}

static ls_status sum_own(const ls_optimizer *optimizer, uint64_t *sum)
{
    const ls_parameter_table *table = &optimizer->model->table;
    ls_exec *exec = optimizer->model->exec;
    const int threads = exec->threads > 0 ? exec->threads : 1;
    ls_piece_window window;
    LS_TRY(ls_piece_window_open(&window, optimizer));
    ls_status status = LS_OK;
    uint64_t number = 0; /* of a parameter's first element; where it lies depends on the number of processes */
    for (int block = 0; block < LS_KEPT_BLOCKS; block++)
        for (int i = 0; i < table->count && status == LS_OK; i++) {
            const ls_parameter *entry = &table->entries[i];
            const int count = ls_pieces_find(window.pieces, optimizer, (ls_kept_block)block, entry, false);
            float *base = ls_optimizer_base(optimizer, (ls_kept_block)block);
            const float *near = ls_piece_window_pack(&window, count, base);
            status = ls_piece_window_move(&window, count, exec, base, true);
            for (int p = 0; p < count && status == LS_OK; p++)
                *sum += sum_values(near + window.pieces[p].place, window.pieces[p].count,
                                   number + (uint64_t)window.pieces[p].first, threads);
            number += (uint64_t)(entry->rows * entry->cols);
        }
    ls_piece_window_close(&window);
    return status;
}

ls_status ls_pieces_sum(const ls_optimizer *optimizer, uint64_t *sum)
{
    ls_comm *comm = optimizer->shards.comm;
    const int size = ls_comm_size(comm);
    uint64_t own = 0, *all = ls_text_memory(NULL, sizeof *all * (size_t)size);
    ls_status status = ls_comm_agree(comm, sum_own(optimizer, &own));
    if (status == LS_OK) status = ls_comm_gather(comm, all, &own, sizeof own);
    *sum = 0;
    for (int r = 0; r < size && status == LS_OK; r++) *sum += all[r];
    free(all);
    return status;
}
