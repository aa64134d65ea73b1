/* The settings of one training run, as the user writes them.
 *
 * ls_train_fields is the only list of keys: it reads YAML and overrides, writes the resolved config.yaml, prints the
 * reference, and compares a run with the checkpoint it resumes. */
#ifndef LS_TRAIN_CONFIG_H
#define LS_TRAIN_CONFIG_H

#include "core/config.h"
#include "data/token_file.h"
#include "model/model_config.h"
#include "optim/optimizer.h"
#include "optim/schedule.h"
#include "train/recipe.h"

typedef enum ls_precision { LS_PRECISION_AUTO = 0, LS_PRECISION_BF16, LS_PRECISION_FP32 } ls_precision;

/* What a loss or gradient that is not finite does to the step, on all processes. */
typedef enum ls_not_finite { LS_NOT_FINITE_STOP = 0, LS_NOT_FINITE_SKIP } ls_not_finite;

typedef struct ls_train_config {
    ls_model_config model;
    char *init_from;
    struct {
        char *tokens;
        int64_t sequence_length; /* T */
        bool document_mask, shuffle;
    } data;
    struct {
        double rate;
        int depth; /* ls_shape */
        int64_t depth_step;
        ls_int_list layers;
        int time; /* 0: auto until it is derived, else ls_shape + 1 */
        int64_t time_step;
        bool falling, rescale;
    } layer_dropout;
    struct {
        bool enabled;
        double scale;
        int weights; /* ls_exit_weighting */
        ls_int_list layers;
        ls_double_list target_weights;
        int curriculum; /* ls_curriculum */
        int64_t rotation;
    } early_exit;
    struct {
        int64_t steps;
        int64_t micro_batch_size, global_batch_size; /* samples; a multiple of the first */
        bool recompute;
        int not_finite; /* ls_not_finite */
    } training;
    struct {
        double learning_rate, beta1, beta2, epsilon, weight_decay, clip_norm;
        bool decay_embeddings;
        int offload; /* ls_offload */
        double lane_mib;
    } optimizer;
    struct {
        int kind; /* ls_schedule_kind */
        int64_t warmup_steps;
        double final_ratio;
        int64_t decay_steps;
    } schedule;
    struct {
        int64_t every, keep;
        bool background;
    } checkpoint;
    struct {
        int64_t every, batches;
    } evaluation;
    struct {
        int sharding; /* ls_sharding */
        double bucket_mib, timeout;
    } parallel;
    char *run_dir;
    int64_t seed;
    int device; /* ls_device */
    int64_t device_index;
    int attention; /* ls_attention_choice */
    bool tf32;
    int64_t threads;
    int precision; /* ls_precision */
    int64_t log_every;
    bool measure_peak;
    bool profile;
} ls_train_config;

extern const ls_field ls_train_fields[];
extern const int ls_train_field_count;
extern const char *const ls_precision_names[]; /* NULL-terminated, in enum order */

/* Reads, derives what is left at 0 (global batch, heads, longest context) and checks keys against each other. What only
 * the token file can tell (the vocabulary) stays as written; see ls_train_config_set_vocabulary. */
ls_status ls_train_config_read(ls_train_config *out, const char *path, const char *const *overrides,
                               int override_count);
void ls_train_config_free(ls_train_config *config);

/* Takes model.vocab_size from the token file where it is 0 and checks the shape; a smaller one is refused. */
ls_status ls_train_config_set_vocabulary(ls_train_config *config, const ls_token_file *tokens);

/* Views on the config; list members stay owned by it. */
ls_recipe ls_train_config_recipe(const ls_train_config *config);
ls_schedule ls_train_config_schedule(const ls_train_config *config);
ls_optimizer_options ls_train_config_optimizer(const ls_train_config *config);

/* Refuses, naming the key, when `config` would not continue the run that `saved_text` (kept in the checkpoint
 * `checkpoint`) describes bit for bit. Keys that only say where and how fast to run may differ. */
ls_status ls_train_config_match(const ls_train_config *config, const char *saved_text, const char *checkpoint);
/* The first key in which they differ, NULL: none. */
const char *ls_train_config_difference(const ls_train_config *config, const ls_train_config *other);

#endif
