#include "eval/round_graphs.h"

static bool same_shape(const ls_round_shape *a, const ls_round_shape *b)
{
    const ls_sampling *s = &a->sampling, *t = &b->sampling;
    return a->mode == b->mode && a->exit_layer == b->exit_layer && a->rows == b->rows &&
           a->draft_confidence == b->draft_confidence && a->end_of_text == b->end_of_text &&
           s->temperature == t->temperature && s->top_k == t->top_k && s->top_p == t->top_p && s->seed == t->seed;
}

static ls_round_graph *find(ls_round_graphs *graphs, const ls_round_shape *shape)
{
    for (int i = 0; i < graphs->count; i++)
        if (same_shape(&graphs->graph[i].shape, shape)) return &graphs->graph[i];
    return NULL;
}

static void remember(ls_round_graphs *graphs, ls_exec *exec, const ls_round_shape *shape)
{
    if (graphs->count < LS_ROUND_GRAPHS) {
        graphs->graph[graphs->count++] = (ls_round_graph){.shape = *shape};
        return;
    }
    ls_round_graph *oldest = &graphs->graph[graphs->next];
    graphs->next = (graphs->next + 1) % LS_ROUND_GRAPHS;
    exec->recorder->forget(exec, oldest->recording);
    *oldest = (ls_round_graph){.shape = *shape};
}

static ls_status record(ls_round_graph *graph, ls_exec *exec, ls_issue_round *issue, void *context)
{
    LS_TRY(exec->recorder->begin(exec));
    const ls_status issued = issue(context, &graph->shape);
    const ls_status ended = exec->recorder->end(exec, &graph->recording);
    return issued != LS_OK ? issued : ended;
}

ls_status ls_round_graphs_run(ls_round_graphs *graphs, ls_exec *exec, const ls_round_shape *shape,
                              ls_issue_round *issue, void *context)
{
    if (exec->recorder == NULL || exec->profile != NULL) return issue(context, shape); /* a profile times single ops */
    ls_round_graph *graph = find(graphs, shape);
    if (graph == NULL) {
        remember(graphs, exec, shape);
        return issue(context, shape);
    }
    if (graph->recording != NULL && !exec->recorder->stands(exec, graph->recording)) {
        exec->recorder->forget(exec, graph->recording);
        graph->recording = NULL;
    }
    if (graph->recording == NULL) LS_TRY(record(graph, exec, issue, context));
    return exec->recorder->replay(exec, graph->recording);
}

void ls_round_graphs_forget(ls_round_graphs *graphs, ls_exec *exec)
{
    for (int i = 0; i < graphs->count; i++)
        if (graphs->graph[i].recording != NULL) exec->recorder->forget(exec, graphs->graph[i].recording);
    *graphs = (ls_round_graphs){0};
}
