/* config.json of a Hugging Face folder, to and from our configuration of a model.
 *
 * Read are the configurations that transformers gives LlamaForCausalLM, and MistralForCausalLM where it is the same
 * model. What would compute something else is refused with the reason; what only concerns how a model is trained or
 * served is passed over. */
#ifndef LS_MODEL_HUGGINGFACE_H
#define LS_MODEL_HUGGINGFACE_H

#include "model/model_config.h"
#include "model/stored_type.h"

#include <stddef.h>

/* Ids of special tokens; -1: none. */
typedef struct ls_special_ids {
    int64_t bos, eos, pad;
} ls_special_ids;

/* From the text of a config.json; `name` stands for it in messages. `ids` may be NULL; of several end ids the first. */
ls_status ls_huggingface_config_read(ls_model_config *out, ls_special_ids *ids, const char *text, size_t length,
                                     const char *name);
/* The text of a config.json for LlamaForCausalLM, malloc'ed. `type` is what the weights are written in. `kept`, the
 * config.json that the model came with, may be NULL: the ids of special tokens are then taken from there as they stand
 * (several end ids, say), not from `ids`. */
char *ls_huggingface_config_write(const ls_model_config *config, const ls_special_ids *ids, ls_stored_type type,
                                  const char *kept);
/* The texts of generation_config.json and tokenizer_config.json that fit it, malloc'ed. The token texts may be NULL. */
char *ls_huggingface_generation_write(const ls_special_ids *ids);
char *ls_huggingface_tokenizer_config_write(const char *bos, const char *eos, int64_t context);

#endif
