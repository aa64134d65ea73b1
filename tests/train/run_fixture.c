#include "run_fixture.h"

#include "core/file.h"
#include "core/random.h"
#include "core/text.h"
#include "data/token_writer.h"

#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char run_fixture_yaml[] = "model:\n"
                                "  hidden_size: 32\n"
                                "  intermediate_size: 48\n"
                                "  num_hidden_layers: 4\n"
                                "  num_attention_heads: 4\n"
                                "  num_key_value_heads: 2\n"
                                "  max_position_embeddings: 32\n"
                                "data:\n"
                                "  sequence_length: 24\n"
                                "layer_dropout:\n"
                                "  rate: 0.4\n"
                                "  time: uniform\n"
                                "early_exit:\n"
                                "  scale: 0.5\n"
                                "  rotation: 3\n"
                                "training:\n"
                                "  steps: 24\n"
                                "  micro_batch_size: 3\n"
                                "  global_batch_size: 6\n"
                                "optimizer:\n"
                                "  learning_rate: 0.01\n"
                                "schedule:\n"
                                "  warmup_steps: 4\n"
                                "checkpoint:\n"
                                "  every: 0\n"
                                "evaluation:\n"
                                "  every: 0\n"
                                "  batches: 2\n"
                                "precision: fp32\n"
                                "threads: 1\n";

void expect_ok(ls_status status)
{
    if (status != LS_OK) fail_msg("%s (%s)", ls_error_text(), ls_error_place());
}

void expect_failure(ls_status status, ls_status expected, const char *text)
{
    if (status != expected)
        fail_msg("status %s, expected %s: '%s'", ls_status_name(status), ls_status_name(expected), ls_error_text());
    if (strstr(ls_error_text(), text) == NULL) fail_msg("'%s' does not say '%s'", ls_error_text(), text);
    ls_error_clear();
}

static void add_documents(ls_token_writer *writer, ls_split split, int64_t bytes, uint64_t seed)
{
    int32_t ids[64];
    uint32_t number = 0;
    for (int64_t written = 0; written < bytes; number++) {
        const uint32_t which = (uint32_t)split << 24 | number;
        int64_t length = 1 + (int64_t)ls_random_below(seed, LS_STREAM_TEST, which, 0, 0, 63);
        if (length > bytes - written) length = bytes - written;
        int32_t letter = (int32_t)ls_random_below(seed, LS_STREAM_TEST, which, 1, 0, 26);
        for (int64_t i = 0; i < length; i++) {
            ids[i] = 'a' + letter;
            letter = (letter * 3 + 1 + (int32_t)ls_random_below(seed, LS_STREAM_TEST, which, 2, (uint32_t)i, 3)) % 26;
        }
        expect_ok(ls_token_writer_add(writer, split, ids, length));
        written += length;
    }
}

void run_fixture_write_tokens(const char *path, int64_t bytes, uint64_t seed, const char *tokenizer)
{
    ls_tokenizer *bytes_tokenizer;
    ls_token_writer *writer;
    expect_ok(ls_tokenizer_from_text(&bytes_tokenizer, tokenizer, "the test's tokenizer"));
    expect_ok(ls_token_writer_create(&writer, path, bytes_tokenizer));
    add_documents(writer, LS_SPLIT_TRAIN, bytes, seed);
    add_documents(writer, LS_SPLIT_VALIDATION, bytes / 4 + 1, seed);
    expect_ok(ls_token_writer_commit(writer, "test"));
    ls_token_writer_destroy(writer);
    ls_tokenizer_free(bytes_tokenizer);
}

static void add_records(ls_token_writer *writer, ls_split split, int count, uint64_t seed, bool all)
{
    for (int number = 0; number < count; number++) {
        int32_t ids[32];
        uint8_t targets[32];
        const uint32_t which = (uint32_t)split << 24 | (uint32_t)number;
        const int length = 1 + (int)ls_random_below(seed, LS_STREAM_TEST, which, 3, 0, 9);
        for (int i = 0; i < length; i++)
            ids[i] = ids[2 * length - i] =
                'a' + (int32_t)ls_random_below(seed, LS_STREAM_TEST, which, 4, (uint32_t)i, 4);
        ids[length] = ':';
        for (int i = 0; i <= 2 * length; i++) targets[i] = all || i > length;
        expect_ok(ls_token_writer_add_record(writer, split, ids, targets, 2 * length + 1));
    }
}

void run_fixture_write_records(const char *path, int count, uint64_t seed, bool all)
{
    ls_tokenizer *tokenizer;
    ls_token_writer *writer;
    expect_ok(ls_tokenizer_open(&tokenizer, "bytes"));
    expect_ok(ls_token_writer_create_records(&writer, path, tokenizer));
    add_records(writer, LS_SPLIT_TRAIN, count, seed, all);
    add_records(writer, LS_SPLIT_VALIDATION, count / 4, seed, all);
    expect_ok(ls_token_writer_commit(writer, "test"));
    ls_token_writer_destroy(writer);
    ls_tokenizer_free(tokenizer);
}

char *run_fixture_path(const run_fixture *fixture, const char *name) { return ls_file_join(fixture->folder, name); }

void run_fixture_create(run_fixture *out, int64_t bytes, uint64_t seed)
{
    const char *place = getenv("TMPDIR");
    out->folder = ls_file_join(place == NULL ? "/tmp" : place, "layerskip-train-XXXXXX");
    assert_non_null(mkdtemp(out->folder));
    out->tokens = run_fixture_path(out, "tokens.h5");
    run_fixture_write_tokens(out->tokens, bytes, seed, "bytes");
    char *config = run_fixture_path(out, "config.yaml");
    expect_ok(ls_file_write_atomic(config, run_fixture_yaml, strlen(run_fixture_yaml)));
    free(config);
}

void run_fixture_destroy(run_fixture *fixture)
{
    char *const roots[] = {fixture->folder, NULL};
    FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    for (const FTSENT *entry; walk != NULL && (entry = fts_read(walk)) != NULL;)
        if (entry->fts_info != FTS_D) (void)remove(entry->fts_accpath);
    if (walk != NULL) (void)fts_close(walk);
    free(fixture->folder);
    free(fixture->tokens);
}

void run_fixture_config(ls_train_config *out, const run_fixture *fixture, const char *run_name,
                        const char *const *overrides)
{
    const char *all[32];
    int count = 0;
    char *config = run_fixture_path(fixture, "config.yaml");
    char *tokens = ls_text_format("data.tokens=%s", fixture->tokens);
    char *run_dir = ls_text_format("run_dir=%s/%s", fixture->folder, run_name);
    all[count++] = tokens;
    all[count++] = run_dir;
    while (overrides != NULL && *overrides != NULL && count < 32) all[count++] = *overrides++;
    expect_ok(ls_train_config_read(out, config, all, count));
    free(run_dir);
    free(tokens);
    free(config);
}
