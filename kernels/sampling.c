#include "kernels/sampling.h"

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

/* Heap with the worst candidate at the root. */
static void sift_down(ls_candidate *heap, int64_t count, int64_t i)
{
    const ls_candidate moving = heap[i];
    for (int64_t child = 2 * i + 1; child < count; child = 2 * i + 1) {
        if (child + 1 < count && before(heap[child], heap[child + 1])) child++;
        if (before(heap[child], moving)) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = moving;
}

/* kept [k] = the k best of V, in no order. The rest of the vocabulary is only compared with the worst one kept. */
static void keep_top_k(ls_candidate *kept, int64_t k, const float *logits, int64_t V)
{
    for (int64_t i = 0; i < k; i++) kept[i] = (ls_candidate){logits[i], (int32_t)i};
    for (int64_t i = k / 2 - 1; i >= 0; i--) sift_down(kept, k, i);
    for (int64_t i = k; i < V; i++) {
        /* Ids rise, so an equal logit comes after the one that is kept. */
        if (!(logits[i] > kept[0].logit)) continue;
        kept[0] = (ls_candidate){logits[i], (int32_t)i};
        sift_down(kept, k, 0);
    }
}

/* kept = those of V whose weight is not negligible: even all the others together would not make up the share that top_p
 * leaves out, so none of them is needed to reach it. Returns how many. */
static int64_t keep_likely(ls_candidate *kept, const float *logits, const double *weight, int64_t V, double left_out)
{
    const double least = 0.5 * left_out / (double)V; /* the half is for rounding */
    int64_t count = 0;
    for (int64_t i = 0; i < V; i++)
        if (weight[i] >= least) kept[count++] = (ls_candidate){logits[i], (int32_t)i};
    return count;
}

static void swap(ls_candidate *a, ls_candidate *b)
{
    const ls_candidate old = *a;
    *a = *b;
    *b = old;
}

/* Splits kept[low, high) by its middle element: those before it, itself, those after it. Returns its new place and the
 * weight of those before it. */
static int64_t split(ls_candidate *kept, int64_t low, int64_t high, const double *weight, double *weight_before)
{
    int64_t place = low;
    swap(kept + low + (high - low) / 2, kept + high - 1);
    *weight_before = 0.0;
    for (int64_t i = low; i < high - 1; i++) {
        if (!before(kept[i], kept[high - 1])) continue;
        *weight_before += weight[kept[i].id];
        swap(kept + i, kept + place++);
    }
    swap(kept + place, kept + high - 1);
    return place;
}

/* Moves the best, as few as reach `goal` together, to the front and returns how many; at least one. */
static int64_t keep_top_p(ls_candidate *kept, int64_t count, const double *weight, double goal)
{
    int64_t low = 0, high = count; /* below `low` all are taken, from `high` on none */
    double reached = 0.0;
    while (low < high) {
        double weight_before;
        const int64_t place = split(kept, low, high, weight, &weight_before);
        if (reached + weight_before >= goal) {
            high = place;
            continue;
        }
        reached += weight_before + weight[kept[place].id];
        low = place + 1;
        if (reached >= goal) return low;
    }
    return low;
}

/* kept = what the cuts leave of V tokens with these weights, whose sum is *total; makes it the sum of the kept. */
static int64_t cut(ls_candidate *kept, double *total, const float *logits, const double *weight, int64_t V,
                   const ls_sampling *sampling)
{
    int64_t count;
    if (sampling->top_k > 0 && sampling->top_k < V) {
        count = sampling->top_k;
        keep_top_k(kept, count, logits, V);
        *total = 0.0;
        for (int64_t i = 0; i < count; i++) *total += weight[kept[i].id];
    } else {
        count = keep_likely(kept, logits, weight, V, (1.0 - sampling->top_p) * *total);
    }
    if (sampling->top_p >= 1.0) return count;
    count = keep_top_p(kept, count, weight, sampling->top_p * *total);
    *total = 0.0;
    for (int64_t i = 0; i < count; i++) *total += weight[kept[i].id];
    return count;
}

void ls_distribution(double *probability, const float *logits, int64_t V, const ls_sampling *sampling,
                     ls_candidate *scratch)
{
    const double best = (double)largest(logits, V), temperature = sampling->temperature;
    double total = 0.0;
    for (int64_t i = 0; i < V; i++) {
        probability[i] = exp(((double)logits[i] - best) / temperature);
        total += probability[i];
    }
    if ((sampling->top_k <= 0 || sampling->top_k >= V) && sampling->top_p >= 1.0) {
        for (int64_t i = 0; i < V; i++) probability[i] /= total;
        return;
    }
    const int64_t count = cut(scratch, &total, logits, probability, V, sampling);
    memset(probability, 0, sizeof *probability * (size_t)V);
    for (int64_t i = 0; i < count; i++)
        probability[scratch[i].id] = exp(((double)scratch[i].logit - best) / temperature) / total;
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

bool ls_accept_draft(const double *p, const double *q, int32_t token, double u)
{
    return u * (q == NULL ? 1.0 : q[token]) < p[token];
}

void ls_residual_distribution(double *p, const double *q, int32_t token, int64_t V)
{
    double total = 0.0;
    for (int64_t i = 0; i < V; i++) {
        const double drafted = q != NULL ? q[i] : i == token ? 1.0 : 0.0, rest = p[i] - drafted;
        total += rest > 0.0 ? rest : 0.0;
    }
    /* p == q up to rounding: then any rejection was rounding too, and p itself is right. */
    if (!(total > 0.0)) return;
    for (int64_t i = 0; i < V; i++) {
        const double drafted = q != NULL ? q[i] : i == token ? 1.0 : 0.0, rest = p[i] - drafted;
        p[i] = rest > 0.0 ? rest / total : 0.0;
    }
}
