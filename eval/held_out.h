/* A model beside the held-out split of a token file: the options that eval and sweep share, opening both, and prompts.
 */
#ifndef LS_EVAL_HELD_OUT_H
#define LS_EVAL_HELD_OUT_H

#include "data/token_file.h"
#include "eval/session.h"

typedef struct ls_held_out_options {
    ls_session_options session;
    const char *data; /* token file */
} ls_held_out_options;

/* --data and the session's options: a child for a command's own argp; its input is an ls_held_out_options. */
extern const struct argp ls_held_out_argp;

typedef struct ls_held_out {
    ls_session session; /* must not move */
    ls_token_file file;
} ls_held_out;

/* Refuses a file that was made with another tokenizer than the model's; of several processes, any that differ in the
 * program, the shape of the model or the size of the split. A failure is that of all. */
ls_status ls_held_out_open(ls_held_out *out, const ls_held_out_options *options);
/* LS_BAD_INPUT on every process unless all were called with the same words. */
ls_status ls_held_out_same_command(ls_comm *comm, int argc, char **argv);
void ls_held_out_close(ls_held_out *held_out);

/* Prompt p is tokens[start[p]..start[p+1]). */
typedef struct ls_prompts {
    int64_t count;
    int64_t *start;  /* [count+1] */
    int32_t *tokens; /* [start[count]] */
    int64_t shortest, longest;
} ls_prompts;

/* Of documents: the beginnings, `length` tokens each, of some spread evenly over the split, from those that hold at
 * least length + room tokens; where there are fewer than `count` of these, positions spread evenly. Of records: what is
 * given before the first token to be learnt, of records spread evenly among those where that is 1 to `length` tokens.
 */
ls_status ls_held_out_prompts(ls_prompts *out, int64_t count, int64_t length, int64_t room, const ls_token_file *file);
void ls_prompts_free(ls_prompts *prompts);

#endif
