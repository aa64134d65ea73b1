#include "eval/sampling.h"

#include <math.h>
#include <string.h>

#define LANES 16

ls_status ls_sampling_check(const ls_sampling *sampling)
{
    if (!(sampling->temperature >= 0.0) || isinf(sampling->temperature))
        return LS_FAIL(LS_BAD_INPUT, "the temperature is %g; it must be 0 (greedy) or larger", sampling->temperature);
    if (sampling->top_k < 0)
        return LS_FAIL(LS_BAD_INPUT, "top-k is %lld; it must be 0 (off) or larger", (long long)sampling->top_k);
    if (!(sampling->top_p > 0.0 && sampling->top_p <= 1.0))
        return LS_FAIL(LS_BAD_INPUT, "top-p is %g; it must be above 0 and at most 1 (off)", sampling->top_p);
    return LS_OK;
}

/* Lanes that never look at each other, so that the compiler can keep them in one register; NaN never wins. */
static float largest(const float *x, int64_t count)
{
    float lane[LANES];
    for (int j = 0; j < LANES; j++) lane[j] = -INFINITY;
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int j = 0; j < LANES; j++) lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
    for (; i < count; i++) lane[0] = x[i] > lane[0] ? x[i] : lane[0];
    for (int j = 1; j < LANES; j++) lane[0] = lane[j] > lane[0] ? lane[j] : lane[0];
    return lane[0];
}

int32_t ls_argmax(const float *logits, int64_t V)
{
    const float best = largest(logits, V);
    for (int64_t i = 0; i < V; i++)
        if (logits[i] == best) return (int32_t)i;
    return 0;
}

double ls_softmax_at(const float *logits, int64_t V, int32_t id)
{
    const double best = (double)largest(logits, V);
    double sum = 0.0;
    for (int64_t i = 0; i < V; i++) sum += exp((double)logits[i] - best);
    return exp((double)logits[id] - best) / sum;
}

/* a comes before b: larger logit, then lower id. */
static bool before(ls_candidate a, ls_candidate b) { return a.logit > b.logit || (a.logit == b.logit && a.id < b.id); }

static void sift_down(ls_candidate *heap, int64_t count, int64_t i)
{
    const ls_candidate moving = heap[i];
    for (int64_t child = 2 * i + 1; child < count; child = 2 * i + 1) {
        if (child + 1 < count && before(heap[child + 1], heap[child])) child++;
        if (!before(heap[child], moving)) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = moving;
}

static double unnormalised(float logit, double best, double temperature)
{
    return exp(((double)logit - best) / temperature);
}

/* Takes candidates off the heap, best first, until the cuts are met. They collect, in order, at the end of the array:
 * scratch[V-1] is the best. Returns how many there are. */
static int64_t cut(ls_candidate *scratch, int64_t V, const ls_sampling *sampling, double best, double total)
{
    const int64_t most = sampling->top_k > 0 && sampling->top_k < V ? sampling->top_k : V;
    const bool by_k = most < V;
    double taken = 0.0;
    int64_t count = 0;
    for (int64_t i = V / 2 - 1; i >= 0; i--) sift_down(scratch, V, i);
    while (count < most && (by_k || taken < sampling->top_p * total)) {
        const ls_candidate top = scratch[0];
        count++;
        scratch[0] = scratch[V - count];
        sift_down(scratch, V - count, 0);
        scratch[V - count] = top;
        taken += unnormalised(top.logit, best, sampling->temperature);
    }
    if (!by_k || sampling->top_p >= 1.0) return count;
    /* Within the top k, top_p is a share of their own mass. */
    const double goal = sampling->top_p * taken;
    double reached = 0.0;
    int64_t kept = 0;
    while (kept < count && reached < goal)
        reached += unnormalised(scratch[V - ++kept].logit, best, sampling->temperature);
    return kept;
}

void ls_distribution(double *probability, const float *logits, int64_t V, const ls_sampling *sampling,
                     ls_candidate *scratch)
{
    const double best = (double)largest(logits, V);
    const double temperature = sampling->temperature;
    double total = 0.0;
    for (int64_t i = 0; i < V; i++) {
        probability[i] = unnormalised(logits[i], best, temperature);
        total += probability[i];
    }
    const bool cuts = (sampling->top_k > 0 && sampling->top_k < V) || sampling->top_p < 1.0;
    if (cuts) {
        for (int64_t i = 0; i < V; i++) scratch[i] = (ls_candidate){logits[i], (int32_t)i};
        const int64_t count = cut(scratch, V, sampling, best, total);
        memset(probability, 0, sizeof *probability * (size_t)V);
        total = 0.0;
        for (int64_t i = 1; i <= count; i++) {
            const ls_candidate kept = scratch[V - i];
            probability[kept.id] = unnormalised(kept.logit, best, temperature);
            total += probability[kept.id];
        }
    }
    for (int64_t i = 0; i < V; i++) probability[i] /= total;
}

int32_t ls_draw(const double *probability, int64_t V, double u)
{
    double sum = 0.0;
    int32_t last = 0;
    for (int64_t i = 0; i < V; i++) {
        if (!(probability[i] > 0.0)) continue;
        sum += probability[i];
        last = (int32_t)i;
        if (u < sum) return last;
    }
    return last; /* the sum fell short of 1 by rounding */
}

bool ls_accept_draft(const double *p, const double *q, int32_t token, double u) { return u * q[token] < p[token]; }

void ls_residual_distribution(double *p, const double *q, int64_t V)
{
    double total = 0.0;
    for (int64_t i = 0; i < V; i++) total += p[i] > q[i] ? p[i] - q[i] : 0.0;
    /* p == q up to rounding: then any rejection was rounding too, and p itself is right. */
    if (!(total > 0.0)) return;
    for (int64_t i = 0; i < V; i++) p[i] = p[i] > q[i] ? (p[i] - q[i]) / total : 0.0;
}
