/* What `layerskip inspect` knows of a file, as a JSON document: printed as it is, or as text. */
#ifndef LS_TRAIN_INSPECT_H
#define LS_TRAIN_INSPECT_H

#include "core/json.h"
#include "train/config.h"

#include <stdint.h>

typedef struct ls_inspect_steps {
    int64_t *steps; /* [count]; count 0: the run's start, quarters and end */
    int count;
} ls_inspect_steps;

/* {"kind": "config", "model": {...}, "parameters" (null while the vocabulary is unknown), "layers", "steps",
 * "tokens_per_step", "schedule": [{"step", "learning_rate", "dropout_rate": [L], "exit_weight": [L]}]} */
ls_status ls_inspect_config(cJSON **out, const char *path, const char *const *overrides, int override_count,
                            const ls_inspect_steps *steps);
/* {"kind": "memory", "device", "precision", "processes", "memory": {"total": bytes, "blocks": [{"what", "bytes"}]}}:
 * what each of so many processes that train with this config allocates on its device, which need not be there.
 * "host_memory", alike, where it takes some of the host's beside. */
ls_status ls_inspect_memory(cJSON **out, const char *path, const char *const *overrides, int override_count,
                            int processes);
/* {"kind": "checkpoint", "model", "parameters"} and, of a training run, {"step", "samples", "seed", "layers", "steps",
 * "tokens_per_step", "schedule"}. `path` may be a run folder. */
ls_status ls_inspect_checkpoint(cJSON **out, const char *path, const ls_inspect_steps *steps);
/* {"kind": "tokens", "vocab_size", "tokenizer", "tokenizer_hash", "end_of_text", "train": {"tokens", "documents"},
 * "validation": {...}} */
ls_status ls_inspect_tokens(cJSON **out, const char *path);
/* {"kind": "build", "version", ...}: what the program was built with and what it finds here. */
ls_status ls_inspect_build(cJSON **out);

/* Takes the vocabulary from the config's token file, where there is one. */
ls_status ls_inspect_ask_token_file(ls_train_config *config);
/* Adds "layers", "steps", "tokens_per_step" and "schedule" of a config. */
ls_status ls_inspect_add_schedule(cJSON *document, const ls_train_config *config, const ls_inspect_steps *steps);
/* Adds "model" and "parameters"; a vocabulary of 0 is unknown. */
ls_status ls_inspect_add_model(cJSON *document, const ls_model_config *model);
/* The document for people: nested keys indented, the schedule as a table. */
void ls_inspect_print_text(FILE *file, const cJSON *document);

#endif
