/* Rounds of decoding that are recorded and issued again by one call, on devices that can (kernels/exec.h, recorder).
 *
 * A round's ops depend on its shape alone, since it reads tokens and positions where they are decided. A shape is run
 * as ever the first time, so that whatever is made on the way is there; the second time it is recorded; then replayed.
 */
#ifndef LS_EVAL_ROUND_GRAPHS_H
#define LS_EVAL_ROUND_GRAPHS_H

#include "eval/decoder.h"

/* All that the host decides of a round. */
typedef struct ls_round_shape {
    ls_decode_mode mode;
    int exit_layer; /* E */
    int64_t rows;   /* drafts by layers: at most d, so d + 1; else rows that are verified */
    double draft_confidence;
    int32_t end_of_text;
    ls_sampling sampling;
} ls_round_shape;

enum { LS_ROUND_GRAPHS = 64 };

typedef struct ls_round_graph {
    ls_round_shape shape;
    ls_recording *recording; /* NULL: it has only run so far */
} ls_round_graph;

/* All 0 when empty. */
typedef struct ls_round_graphs {
    ls_round_graph graph[LS_ROUND_GRAPHS];
    int count, next; /* next: the one that gives way when all are in use */
} ls_round_graphs;

/* Issues ops, and nothing but ops, that are the same for equal shapes. */
typedef ls_status ls_issue_round(void *context, const ls_round_shape *shape);

/* Issues the round, one way or the other. */
ls_status ls_round_graphs_run(ls_round_graphs *graphs, ls_exec *exec, const ls_round_shape *shape,
                              ls_issue_round *issue, void *context);
void ls_round_graphs_forget(ls_round_graphs *graphs, ls_exec *exec);

#endif
