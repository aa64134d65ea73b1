/* Saving and restoring, see checkpoint.h. Called by train/trainer.c and train/inspect_command.c. */
#include "train/checkpoint.h"

#include "core/file.h"
#include "core/log.h"
#include "core/text.h"
#include "model/model_file.h"
#include "model/weight_source.h"
#include "train/checkpoint_pieces.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KIND "checkpoint"
#define SUM "sum"

/* ---- saving ------------------------------------------------------------------------------------------------------ */

uint64_t ls_checkpoint_token_file_hash(const ls_token_file *file)
{
    uint64_t hash = ls_text_hash(LS_TEXT_HASH_START, &file->tokenizer_hash, sizeof file->tokenizer_hash);
    for (int split = LS_SPLIT_TRAIN; split <= LS_SPLIT_VALIDATION; split++) {
        hash = ls_text_hash(hash, &file->token_count[split], sizeof file->token_count[split]);
        if (file->documents[split] != NULL)
            hash =
                ls_text_hash(hash, file->documents[split], sizeof(int64_t) * (size_t)(file->document_count[split] + 1));
        if (file->records) hash = ls_text_hash(hash, &file->targets_hash[split], sizeof file->targets_hash[split]);
    }
    return hash;
}

/* Groups of the kept blocks, in enum order. */
static const char *const block_groups[LS_KEPT_BLOCKS] = {"parameters", "moment1", "moment2"};

static ls_status write_header(hid_t file, const ls_checkpoint *about, const ls_optimizer *optimizer)
{
    LS_TRY(ls_hdf5_write_int(file, "step", about->step));
    LS_TRY(ls_hdf5_write_int(file, "cursor", about->cursor));
    LS_TRY(ls_hdf5_write_int(file, "seed", about->seed));
    LS_TRY(ls_hdf5_write_int(file, "updates", optimizer->updates));
    LS_TRY(ls_hdf5_write_int(file, "token_file_hash", (int64_t)about->token_file_hash));
    LS_TRY(ls_hdf5_write_int(file, SUM, (int64_t)about->sum));
    LS_TRY(ls_model_config_write(file, &optimizer->model->config));
    LS_TRY(ls_hdf5_write_text(file, "config", about->config));
    return ls_hdf5_write_text(file, "tokenizer", about->tokenizer);
}

/* All of the file by one process, or, with `reserve`, all but the content of the blocks. */
static ls_status write_content(hid_t file, const ls_checkpoint *about, const ls_optimizer *optimizer, bool reserve)
{
    const ls_parameter_table *table = &optimizer->model->table;
    LS_TRY(write_header(file, about, optimizer));
    for (int block = 0; block < LS_KEPT_BLOCKS; block++)
        LS_TRY(reserve ? ls_parameters_reserve(file, block_groups[block], table)
                       : ls_parameters_write(file, block_groups[block], table, optimizer->model->exec,
                                             ls_optimizer_base(optimizer, (ls_kept_block)block)));
    return LS_OK;
}

static ls_status write_file(const char *path, const ls_checkpoint *about, const ls_optimizer *optimizer, bool reserve)
{
    hid_t file;
    LS_TRY(ls_hdf5_create(&file, path, KIND));
    const ls_status written = write_content(file, about, optimizer, reserve);
    const ls_status closed = ls_hdf5_close(file, path);
    return written != LS_OK ? written : closed;
}

/* ---- several processes ------------------------------------------------------------------------------------------- */

static ls_status find_offsets(hid_t file, const char *path, const ls_parameter_table *table, int64_t *offsets)
{
    for (int block = 0; block < LS_KEPT_BLOCKS; block++)
        for (int i = 0; i < table->count; i++) {
            const ls_parameter_dataset set = ls_parameter_dataset_of(block_groups[block], &table->entries[i]);
            LS_TRY(ls_hdf5_array_offset(file, path, set.name, &offsets[block * table->count + i]));
        }
    return LS_OK;
}

ls_status ls_checkpoint_reserve(const char *path, const ls_checkpoint *about, const ls_optimizer *optimizer,
                                int64_t *offsets)
{
    hid_t file;
    LS_TRY(write_file(path, about, optimizer, true));
    LS_TRY(ls_hdf5_open(&file, path, KIND));
    const ls_status status = find_offsets(file, path, &optimizer->model->table, offsets);
    (void)H5Fclose(file);
    return status;
}

static ls_status write_pieces(hid_t file, const char *path, const ls_optimizer *optimizer,
                              const ls_piece_window *window)
{
    const ls_parameter_table *table = &optimizer->model->table;
    ls_status status = LS_OK; /* a rank that fails still takes part in the rest */
    for (int block = 0; block < LS_KEPT_BLOCKS; block++)
        for (int i = 0; i < table->count; i++) {
            const ls_parameter_dataset set = ls_parameter_dataset_of(block_groups[block], &table->entries[i]);
            const int count =
                ls_pieces_find(window->pieces, optimizer, (ls_kept_block)block, &table->entries[i], false);
            float *base = ls_optimizer_base(optimizer, (ls_kept_block)block);
            const float *near = ls_piece_window_pack(window, count, base);
            const ls_status moved = ls_piece_window_move(window, count, optimizer->model->exec, base, true);
            const ls_status written = ls_hdf5_write_pieces(file, path, set.name, window->pieces, count, near);
            if (status == LS_OK) status = moved != LS_OK ? moved : written;
        }
    return status;
}

static ls_status write_own_pieces(const char *path, const ls_optimizer *optimizer)
{
    hid_t file;
    ls_piece_window window;
    LS_TRY(ls_piece_window_open(&window, optimizer));
    ls_status status = ls_hdf5_open_shared(&file, path);
    if (status == LS_OK) {
        status = write_pieces(file, path, optimizer, &window);
        const ls_status closed = ls_hdf5_close(file, path);
        if (status == LS_OK) status = closed;
    }
    ls_piece_window_close(&window);
    return status == LS_OK ? ls_file_sync(path) : status;
}

/* Rank 0 makes the file and takes its room on the disk, alone, where a full disk is an ordinary failure; then all fill
 * in their shards. */
static ls_status write_together(const char *path, const ls_checkpoint *about, const ls_optimizer *optimizer)
{
    ls_comm *comm = optimizer->shards.comm;
    ls_status status = LS_OK;
    if (ls_comm_rank(comm) == 0) {
        status = write_file(path, about, optimizer, true);
        if (status == LS_OK) status = ls_file_reserve(path);
    }
    LS_TRY(ls_comm_agree(comm, status));
    /* HDF5 opens it on all at once: who could not would be waited for. */
    LS_TRY(ls_comm_agree(comm, ls_file_check_writable(path)));
    return ls_comm_agree(comm, write_own_pieces(path, optimizer));
}

ls_status ls_checkpoint_commit(const char *run_dir, const char *temporary, const char *path, int64_t keep)
{
    LS_TRY(ls_file_commit(temporary, path));
    return ls_checkpoint_remove_old(run_dir, keep);
}

ls_status ls_checkpoint_save(const char *run_dir, const ls_checkpoint *told, const ls_optimizer *optimizer,
                             int64_t keep)
{
    ls_comm *comm = optimizer->shards.comm;
    ls_checkpoint written = *told, *about = &written;
    char *folder = ls_file_join(run_dir, "checkpoints");
    char *path = ls_text_format("%s/step-%08lld.h5", folder, (long long)about->step);
    char *temporary = ls_text_format("%s.tmp", path);
    ls_comm_stand(comm, about->step, LS_COMM_SAVING);
    ls_status status = ls_pieces_sum(optimizer, &about->sum);
    if (status == LS_OK) status = ls_comm_agree(comm, ls_comm_rank(comm) == 0 ? ls_file_make_folders(folder) : LS_OK);
    if (status == LS_OK)
        status = ls_comm_size(comm) > 1 ? write_together(temporary, about, optimizer)
                                        : write_file(temporary, about, optimizer, false);
    if (ls_comm_rank(comm) == 0) {
        if (status == LS_OK)
            status = ls_checkpoint_commit(run_dir, temporary, path, keep);
        else
            (void)unlink(temporary);
    }
    free(temporary);
    free(path);
    free(folder);
    return ls_comm_agree(comm, status);
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

static ls_status read_header(hid_t file, const char *path, ls_checkpoint *out)
{
    int64_t hash;
    if (H5Aexists(file, "step") <= 0)
        return LS_FAIL(LS_BAD_INPUT, "%s holds a model but no training state; use it with init_from", path);
    LS_TRY(ls_hdf5_read_int(file, path, "step", &out->step));
    LS_TRY(ls_hdf5_read_int(file, path, "cursor", &out->cursor));
    LS_TRY(ls_hdf5_read_int(file, path, "seed", &out->seed));
    LS_TRY(ls_hdf5_read_int(file, path, "token_file_hash", &hash));
    out->token_file_hash = (uint64_t)hash;
    LS_TRY(ls_hdf5_read_text(file, path, "config", &out->config));
    return ls_hdf5_read_text(file, path, "tokenizer", &out->tokenizer);
}

ls_status ls_checkpoint_read(ls_checkpoint *out, const char *path)
{
    hid_t file;
    memset(out, 0, sizeof *out);
    LS_TRY(ls_hdf5_open(&file, path, KIND));
    const ls_status status = read_header(file, path, out);
    (void)H5Fclose(file);
    if (status != LS_OK) ls_checkpoint_free(out);
    return status;
}

static ls_status look_through(hid_t file, const char *path)
{
    ls_checkpoint header = {0};
    ls_model_config config;
    ls_parameter_table table;
    ls_status status = read_header(file, path, &header);
    ls_checkpoint_free(&header);
    if (status == LS_OK) status = ls_model_config_read(file, path, &config);
    if (status == LS_OK) status = ls_parameter_table_create(&table, &config);
    if (status != LS_OK) return status;
    int64_t *offsets = ls_text_memory(NULL, sizeof *offsets * LS_KEPT_BLOCKS * (size_t)table.count);
    status = find_offsets(file, path, &table, offsets);
    free(offsets);
    ls_parameter_table_destroy(&table);
    return status;
}

ls_status ls_checkpoint_check(const char *path)
{
    hid_t file;
    LS_TRY(ls_hdf5_open(&file, path, KIND));
    const ls_status status = look_through(file, path);
    (void)H5Fclose(file);
    return status;
}

void ls_checkpoint_free(ls_checkpoint *checkpoint)
{
    free(checkpoint->config);
    free(checkpoint->tokenizer);
    memset(checkpoint, 0, sizeof *checkpoint);
}

static ls_status check_same_shape(const ls_model_config *other, const char *path, const ls_model_config *config)
{
    const ls_model_config saved = *other;
    const struct {
        const char *key;
        int64_t saved, here;
    } sizes[] = {
        {"hidden_size", saved.hidden_size, config->hidden_size},
        {"intermediate_size", saved.intermediate_size, config->intermediate_size},
        {"num_hidden_layers", saved.num_hidden_layers, config->num_hidden_layers},
        {"num_attention_heads", saved.num_attention_heads, config->num_attention_heads},
        {"num_key_value_heads", saved.num_key_value_heads, config->num_key_value_heads},
        {"head_dim", saved.head_dim, config->head_dim},
        {"vocab_size", saved.vocab_size, config->vocab_size},
        {"tie_word_embeddings", saved.tie_word_embeddings, config->tie_word_embeddings},
        {"attention_bias", saved.attention_bias, config->attention_bias},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        if (sizes[i].saved != sizes[i].here)
            return LS_FAIL(LS_BAD_INPUT,
                           "model.%s is %lld, but %s has %lld; weights fit a model of the same shape only",
                           sizes[i].key, (long long)sizes[i].here, path, (long long)sizes[i].saved);
    LS_ASSERT(ls_model_config_equal_shape(&saved, config));
    return LS_OK;
}

static ls_status check_shape(hid_t file, const char *path, const ls_model_config *config)
{
    ls_model_config saved;
    LS_TRY(ls_model_config_read(file, path, &saved));
    return check_same_shape(&saved, path, config);
}

static ls_status read_block(hid_t file, const char *path, ls_optimizer *optimizer, ls_kept_block block)
{
    const ls_parameter_table *table = &optimizer->model->table;
    if (ls_comm_size(optimizer->shards.comm) == 1)
        return ls_parameters_read(file, path, block_groups[block], table, optimizer->model->exec,
                                  ls_optimizer_base(optimizer, block));
    ls_piece_window window;
    LS_TRY(ls_piece_window_open(&window, optimizer));
    ls_status status = LS_OK;
    float *base = ls_optimizer_base(optimizer, block);
    for (int i = 0; i < table->count && status == LS_OK; i++) {
        const ls_parameter_dataset set = ls_parameter_dataset_of(block_groups[block], &table->entries[i]);
        const int count = ls_pieces_find(window.pieces, optimizer, block, &table->entries[i], true);
        float *near = ls_piece_window_pack(&window, count, base);
        status = ls_hdf5_read_pieces(file, path, set.name, set.rows, set.cols, window.pieces, count, near);
        if (status == LS_OK) status = ls_piece_window_move(&window, count, optimizer->model->exec, base, false);
    }
    ls_piece_window_close(&window);
    return status;
}

static ls_status restore_all(hid_t file, const char *path, ls_optimizer *optimizer)
{
    LS_TRY(check_shape(file, path, &optimizer->model->config));
    for (int block = 0; block < LS_KEPT_BLOCKS; block++)
        LS_TRY(read_block(file, path, optimizer, (ls_kept_block)block));
    return ls_hdf5_read_int(file, path, "updates", &optimizer->updates);
}

/* What has been read is what was saved; files of before there was a sum have none. */
static ls_status check_sum(hid_t file, const char *path, const ls_optimizer *optimizer)
{
    int64_t saved = 0;
    uint64_t sum;
    LS_TRY(ls_comm_agree(optimizer->shards.comm,
                         H5Aexists(file, SUM) > 0 ? ls_hdf5_read_int(file, path, SUM, &saved) : LS_OK));
    LS_TRY(ls_pieces_sum(optimizer, &sum));
    if (H5Aexists(file, SUM) <= 0 || sum == (uint64_t)saved) return LS_OK;
    return LS_FAIL(
        LS_BAD_INPUT,
        "%s is damaged: its numbers are not those that were saved; remove it to continue from the one before", path);
}

/* Weights are published when all ranks have read theirs. */
static ls_status publish(ls_optimizer *optimizer, ls_status status)
{
    LS_TRY(ls_comm_agree(optimizer->shards.comm, status));
    return ls_optimizer_publish(optimizer);
}

ls_status ls_checkpoint_restore(ls_optimizer *optimizer, const char *path)
{
    hid_t file;
    ls_comm_stand(optimizer->shards.comm, 0, LS_COMM_LOADING);
    ls_status status = ls_hdf5_open(&file, path, KIND);
    if (status == LS_OK) status = restore_all(file, path, optimizer);
    status = ls_comm_agree(optimizer->shards.comm, status);
    if (status == LS_OK) status = check_sum(file, path, optimizer);
    if (file >= 0) (void)H5Fclose(file);
    return publish(optimizer, status);
}

/* ---- weights alone ----------------------------------------------------------------------------------------------- */

static ls_status check_tokenizer(const ls_weight_source *source, const char *tokenizer)
{
    if (strcmp(source->tokenizer, tokenizer) == 0) return LS_OK;
    return LS_FAIL(LS_BAD_INPUT,
                   "%s was trained with another tokenizer than the one data.tokens was made with; prepare "
                   "the text with the model's tokenizer",
                   source->path);
}

/* Weights go into any model of their shape, but mean what they meant only where these are the same too. */
static void warn_of_differences(const ls_model_config *saved, const ls_model_config *config, const char *path)
{
    const ls_rope_scaling *one = &saved->rope_scaling, *two = &config->rope_scaling;
    const bool scaled = one->type != LS_ROPE_PLAIN, llama3 = one->type == LS_ROPE_LLAMA3;
    if (saved->rope_theta != config->rope_theta)
        ls_log_warning("model.rope_theta is %g, but %s has %g", config->rope_theta, path, saved->rope_theta);
    if (saved->rms_norm_eps != config->rms_norm_eps)
        ls_log_warning("model.rms_norm_eps is %g, but %s has %g", config->rms_norm_eps, path, saved->rms_norm_eps);
    if (one->type != two->type || (scaled && one->factor != two->factor) ||
        (llama3 && (one->low_freq_factor != two->low_freq_factor || one->high_freq_factor != two->high_freq_factor ||
                    one->original_max_position_embeddings != two->original_max_position_embeddings)))
        ls_log_warning("model.rope_scaling is not that of %s", path);
}

/* What the weights of a source pass through on their way to the pieces that this rank keeps. */
typedef struct restoring {
    const ls_weight_source *source;
    ls_optimizer *optimizer;
    ls_hdf5_piece *pieces; /* [buckets] of the parameter at hand */
    int count;
    float *values; /* a few rows */
    void *stored;  /* the same as they are stored */
} restoring;

/* Elements first..first+count-1 of the parameter, in `values`, to where they are kept. */
static ls_status keep(const restoring *r, int64_t first, int64_t count)
{
    float *base = ls_optimizer_base(r->optimizer, LS_KEPT_MASTER);
    for (int i = 0; i < r->count; i++) {
        const ls_hdf5_piece *piece = &r->pieces[i];
        const int64_t begin = piece->first > first ? piece->first : first;
        const int64_t end = piece->first + piece->count < first + count ? piece->first + piece->count : first + count;
        if (begin < end)
            LS_TRY(ls_exec_upload(r->optimizer->model->exec, base + piece->place + (begin - piece->first),
                                  r->values + (begin - first), sizeof(float) * (size_t)(end - begin)));
    }
    return LS_OK;
}

static ls_status restore_parameter(restoring *r, int number)
{
    const ls_parameter *entry = &r->optimizer->model->table.entries[number];
    const int64_t most = ls_weight_source_rows(entry);
    r->count = ls_pieces_find(r->pieces, r->optimizer, LS_KEPT_MASTER, entry, true);
    for (int64_t row = 0; row < entry->rows; row += most) {
        const int64_t rows = entry->rows - row < most ? entry->rows - row : most;
        LS_TRY(ls_weight_source_read_float(r->source, number, row, rows, r->values, r->stored));
        LS_TRY(keep(r, row * entry->cols, rows * entry->cols));
    }
    return LS_OK;
}

static ls_status restore_weights(const ls_weight_source *source, const char *tokenizer, ls_optimizer *optimizer)
{
    const ls_parameter_table *table = &optimizer->model->table;
    const ls_model_config *config = &optimizer->model->config;
    LS_TRY(check_tokenizer(source, tokenizer));
    LS_TRY(check_same_shape(&source->config, source->path, config));
    warn_of_differences(&source->config, config, source->path);
    restoring r = {.source = source, .optimizer = optimizer};
    r.pieces = ls_text_memory(NULL, sizeof *r.pieces * (size_t)optimizer->shards.count);
    r.values = ls_text_memory(NULL, ls_weight_source_piece(table));
    r.stored = ls_text_memory(NULL, ls_weight_source_piece(table));
    ls_status status = LS_OK;
    for (int i = 0; i < table->count && status == LS_OK; i++) status = restore_parameter(&r, i);
    free(r.stored);
    free(r.values);
    free(r.pieces);
    return status;
}

ls_status ls_checkpoint_restore_weights(ls_optimizer *optimizer, const char *tokenizer, const char *path)
{
    ls_weight_source source;
    ls_comm_stand(optimizer->shards.comm, 0, LS_COMM_LOADING);
    ls_status status = ls_weight_source_open(&source, path, NULL);
    if (status == LS_OK) {
        status = restore_weights(&source, tokenizer, optimizer);
        ls_weight_source_close(&source);
    }
    return publish(optimizer, status);
}
