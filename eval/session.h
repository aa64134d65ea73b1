/* A checkpoint opened for use: device, model and tokenizer, with the options every such command shares. */
#ifndef LS_EVAL_SESSION_H
#define LS_EVAL_SESSION_H

#include "core/command.h"
#include "data/tokenizer.h"
#include "kernels/comm/comm.h"
#include "model/model.h"

typedef struct ls_session_options {
    ls_comm *comm;        /* the processes that share the work, each on processors of its own; NULL: alone */
    const char *model;    /* checkpoint, or a run folder: its newest */
    int device;           /* ls_device */
    int64_t device_index; /* 0 with several processes: those of a machine count off its GPUs */
    int attention;        /* ls_attention_choice */
    int cuda_graphs;      /* 0 off, 1 on, -1 on where there are any */
    int64_t threads;      /* 0: all */
    int precision;        /* 0 auto: bf16 where the processor has it, 1 bf16, 2 fp32 */
} ls_session_options;

/* --model, --device, --device-index, --attention, --cuda-graphs, --threads, --precision: a child for a command's own
 * argp; its input is an ls_session_options. */
extern const struct argp ls_session_argp;
/* On the CPU, all else automatic. */
ls_session_options ls_session_defaults(void);

typedef struct ls_session {
    ls_exec exec;
    ls_model model; /* refers to exec: a session must not move */
    ls_tokenizer *tokenizer;
    bool has_exec, has_model;
} ls_session;

ls_status ls_session_open(ls_session *session, const ls_session_options *options);
void ls_session_close(ls_session *session); /* also after a failed open */

#endif
