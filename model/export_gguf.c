/* A GGUF file from a model, in llama.cpp's names for the Llama architecture.
 *
 * llama.cpp rotates neighbours (2i, 2i+1) where Hugging Face's layout rotates (i, i + D/2), so within each head the
 * rows of the query and key projections change places. Vectors are fp32 there whatever the matrices are. */
#include "core/file.h"
#include "core/text.h"
#include "model/export.h"
#include "model/gguf.h"
#include "model/gguf_tokenizer.h"
#include "model/rotation.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct writing {
    const ls_export *self;
    FILE *file;
    const char *path;
    void *buffer, *scratch, *ordered; /* [piece] */
    size_t piece;
    ls_progress *progress;
} writing;

static const struct {
    const char *huggingface, *gguf;
} names[] = {
    {"input_layernorm", "attn_norm"}, {"self_attn.q_proj", "attn_q"},      {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},   {"self_attn.o_proj", "attn_output"}, {"post_attention_layernorm", "ffn_norm"},
    {"mlp.gate_proj", "ffn_gate"},    {"mlp.up_proj", "ffn_up"},           {"mlp.down_proj", "ffn_down"}};

/* llama.cpp's name of a parameter; malloc'ed. */
static char *gguf_name(const ls_parameter *entry)
{
    if (strcmp(entry->name, "model.embed_tokens.weight") == 0) return ls_text_format("token_embd.weight");
    if (strcmp(entry->name, "model.norm.weight") == 0) return ls_text_format("output_norm.weight");
    if (strcmp(entry->name, "lm_head.weight") == 0) return ls_text_format("output.weight");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strstr(entry->name, names[i].huggingface) != NULL)
            return ls_text_format("blk.%d.%s.%s", entry->layer, names[i].gguf, entry->is_bias ? "bias" : "weight");
    ls_assert_failed(__FILE__, __LINE__, entry->name); /* every parameter has a name there */
}

static bool is_rotated(const ls_parameter *entry)
{
    return strstr(entry->name, "q_proj") != NULL || strstr(entry->name, "k_proj") != NULL;
}

static ls_stored_type type_of(const ls_export *self, int number)
{
    if (ls_parameter_file_cols(&self->source.table.entries[number]) == 0) return LS_STORED_F32;
    return self->type < 0 ? self->source.types[number] : (ls_stored_type)self->type;
}

/* ---- the header -------------------------------------------------------------------------------------------------- */

static void add_shape(ls_gguf *out, const ls_export *self)
{
    static const uint32_t file_types[] = {0, 1, 32}; /* by ls_stored_type */
    const ls_model_config *config = &self->source.config;
    const struct {
        const char *key;
        int64_t value;
    } sizes[] = {{"llama.vocab_size", config->vocab_size},
                 {"llama.block_count", config->num_hidden_layers},
                 {"llama.context_length", config->max_position_embeddings},
                 {"llama.embedding_length", config->hidden_size},
                 {"llama.feed_forward_length", config->intermediate_size},
                 {"llama.attention.head_count", config->num_attention_heads},
                 {"llama.attention.head_count_kv", config->num_key_value_heads},
                 {"llama.attention.key_length", config->head_dim},
                 {"llama.attention.value_length", config->head_dim},
                 {"llama.rope.dimension_count", config->head_dim}};
    ls_gguf_add_text(out, "general.architecture", "llama");
    ls_gguf_add_text(out, "general.type", "model");
    ls_gguf_add_text(out, "general.name", "layerskip");
    ls_gguf_add_u32(out, "general.file_type", file_types[ls_export_type(self)]);
    ls_gguf_add_u32(out, "general.quantization_version", 2);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        ls_gguf_add_u32(out, sizes[i].key, (uint32_t)sizes[i].value);
    ls_gguf_add_f32(out, "llama.attention.layer_norm_rms_epsilon", config->rms_norm_eps);
    ls_gguf_add_f32(out, "llama.rope.freq_base", config->rope_theta);
    if (config->rope_scaling.type == LS_ROPE_LINEAR) {
        ls_gguf_add_text(out, "llama.rope.scaling.type", "linear");
        ls_gguf_add_f32(out, "llama.rope.scaling.factor", config->rope_scaling.factor);
    }
}

/* What the frequencies of Llama 3.1's rotation are divided by: [D/2]. */
static void rope_divisors(float *out, const ls_model_config *config)
{
    ls_model_config plain = *config;
    float unscaled[LS_HEAD_DIM_MAX / 2];
    plain.rope_scaling.type = LS_ROPE_PLAIN;
    ls_rotation_frequencies(unscaled, &plain);
    ls_rotation_frequencies(out, config);
    for (int64_t i = 0; i < config->head_dim / 2; i++) out[i] = unscaled[i] / out[i];
}

static ls_status write_bytes(writing *w, const void *bytes, size_t count)
{
    errno = 0;
    if (fwrite(bytes, 1, count, w->file) == count) return LS_OK;
    return LS_FAIL(LS_IO, "cannot write %s: %s", w->path, ls_file_reason(errno));
}

static ls_status write_header(writing *w)
{
    ls_gguf gguf = {0};
    const ls_export *self = w->self;
    const ls_parameter_table *table = &self->source.table;
    add_shape(&gguf, self);
    char *tokenizer = ls_export_tokenizer_text(self);
    ls_status status =
        ls_gguf_add_tokenizer(&gguf, tokenizer, self->source.path, self->source.config.vocab_size, &self->ids);
    free(tokenizer);
    if (self->source.config.rope_scaling.type == LS_ROPE_LLAMA3)
        ls_gguf_add_tensor(&gguf, "rope_freqs.weight", LS_STORED_F32, self->source.config.head_dim / 2, 0);
    for (int i = 0; i < table->count; i++) {
        char *name = gguf_name(&table->entries[i]);
        ls_gguf_add_tensor(&gguf, name, type_of(self, i), table->entries[i].rows,
                           ls_parameter_file_cols(&table->entries[i]));
        free(name);
    }
    size_t length;
    char *header = ls_gguf_finish(&gguf, &length);
    if (status == LS_OK) status = write_bytes(w, header, length);
    free(header);
    return status;
}

/* ---- the data ---------------------------------------------------------------------------------------------------- */

/* Rows of whole heads, in llama.cpp's order: row 2i of a head is row i, row 2i+1 is row i + D/2. */
static void interleave(unsigned char *out, const unsigned char *rows, int64_t count, int64_t head_dim, size_t row)
{
    for (int64_t r = 0; r < count; r++) {
        const int64_t head = r / head_dim * head_dim, within = r % head_dim;
        const int64_t from = head + within / 2 + within % 2 * (head_dim / 2);
        memcpy(out + (size_t)r * row, rows + (size_t)from * row, row);
    }
}

/* Rows to take at a time: whole heads where they change places. */
static int64_t rows_at_once(const ls_parameter *entry, int64_t head_dim)
{
    const int64_t rows = ls_weight_source_rows(entry);
    if (!is_rotated(entry)) return rows;
    return rows < head_dim ? head_dim : rows / head_dim * head_dim;
}

static ls_status pad(writing *w, uint64_t bytes)
{
    static const char zeros[LS_GGUF_ALIGNMENT];
    return write_bytes(w, zeros, ls_gguf_padding(bytes));
}

static ls_status write_parameter(writing *w, int number)
{
    const ls_weight_source *source = &w->self->source;
    const ls_parameter *entry = &source->table.entries[number];
    const int64_t head_dim = source->config.head_dim, most = rows_at_once(entry, head_dim);
    const ls_stored_type type = type_of(w->self, number);
    const size_t row_bytes = (size_t)entry->cols * ls_stored_type_size(type);
    for (int64_t row = 0; row < entry->rows; row += most) {
        const int64_t rows = entry->rows - row < most ? entry->rows - row : most;
        const void *values;
        LS_TRY(ls_weight_source_read_as(source, number, row, rows, type, w->buffer, w->scratch, &values));
        if (is_rotated(entry)) {
            interleave(w->ordered, values, rows, head_dim, row_bytes);
            values = w->ordered;
        }
        LS_TRY(write_bytes(w, values, (size_t)rows * row_bytes));
        LS_TRY(ls_progress_add(w->progress, rows * (int64_t)row_bytes));
    }
    return pad(w, (uint64_t)entry->rows * row_bytes);
}

static ls_status write_all(writing *w)
{
    const ls_model_config *config = &w->self->source.config;
    LS_TRY(write_header(w));
    if (config->rope_scaling.type == LS_ROPE_LLAMA3) {
        float divisors[LS_HEAD_DIM_MAX / 2];
        const size_t bytes = sizeof(float) * (size_t)(config->head_dim / 2);
        rope_divisors(divisors, config);
        LS_TRY(write_bytes(w, divisors, bytes));
        LS_TRY(pad(w, bytes));
    }
    for (int i = 0; i < w->self->source.table.count; i++) LS_TRY(write_parameter(w, i));
    return LS_OK;
}

static size_t piece_bytes(const ls_weight_source *source)
{
    size_t most = 0;
    for (int i = 0; i < source->table.count; i++) {
        const ls_parameter *entry = &source->table.entries[i];
        const size_t bytes = sizeof(float) * (size_t)(rows_at_once(entry, source->config.head_dim) * entry->cols);
        if (bytes > most) most = bytes;
    }
    return most;
}

ls_status ls_export_gguf(const ls_export *self, const char *path, ls_progress *progress)
{
    writing w = {.self = self, .path = path, .piece = piece_bytes(&self->source), .progress = progress};
    w.buffer = malloc(w.piece);
    w.scratch = malloc(w.piece);
    w.ordered = malloc(w.piece);
    ls_status status = LS_OK;
    if (w.buffer == NULL || w.scratch == NULL || w.ordered == NULL)
        status = LS_FAIL(LS_NO_MEMORY, "not enough memory to copy weights through");
    if (status == LS_OK && (w.file = fopen(path, "wbxe")) == NULL)
        status = LS_FAIL(LS_IO, "cannot create %s: %s", path, ls_file_reason(errno));
    if (status == LS_OK) {
        status = write_all(&w);
        errno = 0;
        if (fclose(w.file) != 0 && status == LS_OK)
            status = LS_FAIL(LS_IO, "cannot write %s: %s", path, ls_file_reason(errno));
    }
    free(w.ordered);
    free(w.scratch);
    free(w.buffer);
    return status;
}
