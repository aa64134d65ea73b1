/* Decoding speed of many settings against autoregressive decoding, measured in turn within one run. */
#ifndef LS_EVAL_SWEEP_H
#define LS_EVAL_SWEEP_H

#include "core/json.h"
#include "eval/decoder.h"
#include "eval/held_out.h"
#include "kernels/comm/comm.h"

typedef struct ls_sweep_setting {
    ls_decode_mode mode; /* self-speculative or prompt-lookup */
    int exit_layer;      /* 0 for prompt-lookup */
    int draft_tokens;
    /* Measured, over all prompts: */
    int64_t tokens, drafted, accepted, rounds;
    double seconds;                   /* of decoding, prefill apart; a prompt counts with its fastest repeat */
    double autoregressive_seconds;    /* of the paired autoregressive runs, the same tokens, likewise */
    double speedup_low, speedup_high; /* of single prompts */
    bool identical;                   /* every text was the autoregressive one */
} ls_sweep_setting;

typedef struct ls_sweep {
    ls_comm *comm;     /* whose processes share the prompts; NULL: alone */
    const char *model; /* for the record, like the next three */
    const char *device, *precision;
    int threads;
    int64_t prompts, max_new_tokens;
    int64_t prompt_tokens, shortest_prompt; /* of the longest and the shortest prompt */
    int64_t repeats;
    /* After so long no further prompt (of several processes: as many as they are) is begun, and `prompts` falls to
     * those measured; 0: no limit. */
    double max_seconds;
    int32_t end_of_text;
    ls_sweep_setting *settings; /* [count] */
    int count;
    int64_t autoregressive_tokens;
    double autoregressive_seconds; /* of all prompts and settings */
} ls_sweep;

/* Fills the measured fields. Each prompt is decoded greedily by each setting right after or before an autoregressive
 * run of the same prompt (in turns), `repeats` times, on the same decoder: both see the same machine, and the fastest
 * of each is kept. Of several processes each takes some of the prompts and all numbers but times are what one alone
 * finds; a failure is that of all. The first of the prompts is always measured. A signal is LS_INTERRUPTED. */
ls_status ls_sweep_run(ls_sweep *sweep, ls_decoder *decoder, const ls_prompts *prompts);

double ls_sweep_speedup(const ls_sweep_setting *setting); /* time of all paired runs over time of its own; 0: unknown */
/* The self-speculative setting of the highest speedup, NULL when there is none. */
const ls_sweep_setting *ls_sweep_best(const ls_sweep *sweep);
bool ls_sweep_identical(const ls_sweep *sweep); /* all settings */
cJSON *ls_sweep_to_json(const ls_sweep *sweep);
void ls_sweep_print(FILE *file, const ls_sweep *sweep); /* a table for people, the best setting below */

#endif
