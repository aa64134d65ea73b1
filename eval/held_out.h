/* The held-out split of a token file, for one model: opening it, and prompts from it. */
#ifndef LS_EVAL_HELD_OUT_H
#define LS_EVAL_HELD_OUT_H

#include "data/token_file.h"
#include "eval/session.h"

/* Refuses a file that was made with another tokenizer than the model's; `model` names the checkpoint. */
ls_status ls_held_out_open(ls_token_file *out, const char *path, const ls_session *session, const char *model);
/* prompts [count, length]: the beginnings of documents spread evenly over the split, from those that hold at least
 * length + room tokens; where there are fewer than `count` of these, positions spread evenly. */
ls_status ls_held_out_prompts(int32_t *prompts, int64_t count, int64_t length, int64_t room, const ls_token_file *file);

#endif
