/* Drafting a token and deciding a round of speculation (kernels/ops.h), so that only a round's outcome leaves the GPU.
 *
 * One block has one row of logits. Its probabilities are cut by selection over ordered keys (a logit's bits, then the
 * id, so that no two are equal): four bits at a time from the top, each pass sums what the sixteen next digits hold and
 * goes on in the digit where the goal is reached. Sums are in double and in fixed order. A row of the vocabulary is
 * little beside the weights that a token reads, so one block a row is enough. */
#include "core/random.h"
#include "kernels/cuda/reduce.cuh"

namespace ls
{

constexpr int ROUND_THREADS = 512;
constexpr int ROUND_WARPS = ROUND_THREADS / WARP;
constexpr int DIGIT_BITS = 4, DIGITS = 1 << DIGIT_BITS;

struct LargestKey {
    static __device__ __forceinline__ uint64_t of(uint64_t a, uint64_t b) { return a > b ? a : b; }
    template <class T> static __device__ __forceinline__ T none() { return 0; }
};

/* Larger logits have larger keys, of equal ones the lower id; a NaN comes last of all. */
__device__ __forceinline__ uint64_t key_of(float logit, int64_t id)
{
    const uint32_t bits = __float_as_uint(logit == 0.0f ? 0.0f : logit); /* -0 equals 0 */
    const uint32_t order = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return static_cast<uint64_t>(logit == logit ? order : 0) << 32 | (0xffffffffu - static_cast<uint32_t>(id));
}

__device__ __forceinline__ int32_t id_of(uint64_t key)
{
    return static_cast<int32_t>(0xffffffffu - static_cast<uint32_t>(key));
}

/* Philox4x32-10, as core/random.c has it. */
__device__ double uniform(uint64_t seed, uint32_t position, uint32_t purpose)
{
    uint32_t counter[4] = {position, purpose, 0, LS_STREAM_SAMPLING};
    uint32_t key[2] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
    for (int round = 0; round < 10; round++) {
        const uint64_t first = static_cast<uint64_t>(0xD2511F53u) * counter[0];
        const uint64_t second = static_cast<uint64_t>(0xCD9E8D57u) * counter[2];
        counter[0] = static_cast<uint32_t>(second >> 32) ^ counter[1] ^ key[0];
        counter[2] = static_cast<uint32_t>(first >> 32) ^ counter[3] ^ key[1];
        counter[1] = static_cast<uint32_t>(second);
        counter[3] = static_cast<uint32_t>(first);
        key[0] += 0x9E3779B9u;
        key[1] += 0xBB67AE85u;
    }
    const uint64_t bits = (static_cast<uint64_t>(counter[0]) << 32 | counter[1]) >> 11;
    return static_cast<double>(bits) * 0x1p-53;
}

/* Sums each digit over the warp: lane l gets that of digit l / 2. Lanes give away the half they will not have, sixteen
 * shuffles instead of eighty. */
template <int HALF> __device__ __forceinline__ double sum_digits(const double (&mass)[2 * HALF])
{
    const bool upper = (threadIdx.x & 2 * HALF) != 0;
    double kept[HALF];
#pragma unroll
    for (int digit = 0; digit < HALF; digit++)
        kept[digit] = (upper ? mass[digit + HALF] : mass[digit]) +
                      from_lane_across(upper ? mass[digit] : mass[digit + HALF], 2 * HALF);
    if constexpr (HALF > 1)
        return sum_digits<HALF / 2>(kept);
    else
        return kept[0] + from_lane_across(kept[0], 1);
}

/* A block's row; every thread of the block calls every function below, and all get the same result. */
struct Row {
    const float *logits;
    int64_t V;

    __device__ uint64_t largest() const
    {
        uint64_t best = 0;
        for (int64_t i = threadIdx.x; i < V; i += ROUND_THREADS) best = LargestKey::of(best, key_of(logits[i], i));
        return row_reduce<LargestKey>(best);
    }
    template <class Measure> __device__ double sum(Measure measure) const
    {
        double total = 0.0;
        for (int64_t i = threadIdx.x; i < V; i += ROUND_THREADS) total += measure(i);
        return row_reduce<Sum>(total);
    }
    /* Key of the last of the row's elements, largest first and none below `least`, whose measures reach `goal`
     * together; ids are looked at only where logits are equal. */
    template <class Measure> __device__ uint64_t last_to_reach(double goal, uint64_t least, Measure measure) const
    {
        LS_SHARED(double, part, [ROUND_WARPS][DIGITS]);
        LS_SHARED(double, total, [DIGITS]);
        uint64_t prefix = 0;
        double before = 0.0;
        for (int shift = 64 - DIGIT_BITS; shift >= 0; shift -= DIGIT_BITS) {
            const auto inside = [&](int64_t i) {
                const uint64_t key = key_of(logits[i], i);
                return key >= least && key >> shift >> DIGIT_BITS == prefix;
            };
            if (shift == 32 - DIGIT_BITS && sum([&](int64_t i) { return inside(i) ? 1.0 : 0.0; }) <= 1.0)
                return prefix << 32;
            double mass[DIGITS] = {};
            for (int64_t i = threadIdx.x; i < V; i += ROUND_THREADS) {
                if (!inside(i)) continue;
                const unsigned own = static_cast<unsigned>(key_of(logits[i], i) >> shift) % DIGITS;
                const double value = measure(i);
#pragma unroll
                for (unsigned digit = 0; digit < DIGITS; digit++) mass[digit] += digit == own ? value : 0.0;
            }
            const double of_warp = sum_digits<DIGITS / 2>(mass);
            if (threadIdx.x % 2 == 0) part[threadIdx.x / WARP][threadIdx.x % WARP / 2] = of_warp;
            __syncthreads();
            if (threadIdx.x < DIGITS) {
                double here = 0.0;
                for (int warp = 0; warp < ROUND_WARPS; warp++) here += part[warp][threadIdx.x];
                total[threadIdx.x] = here;
            }
            __syncthreads();
            unsigned chosen = 0;
            double skipped = before;
            for (int digit = DIGITS - 1; digit >= 0; digit--) {
                const double here = total[digit];
                if (!(here > 0.0)) continue;
                /* Rounding may leave the goal just out of reach; then the last digit in use it is. */
                chosen = static_cast<unsigned>(digit), skipped = before;
                if (before + here >= goal) break;
                before += here;
            }
            before = skipped;
            prefix = prefix << DIGIT_BITS | chosen;
            __syncthreads(); /* the totals are read */
        }
        return prefix;
    }
    /* Where u falls when density(i) / total lie side by side in order of ids; never at a density of 0. A warp has a
     * stretch of ids; the one that u falls into walks it. */
    template <class Density> __device__ int32_t draw(double u, double total, Density density) const
    {
        LS_SHARED(double, part, [ROUND_WARPS]);
        LS_SHARED(int32_t, token, [1]);
        const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
        const int64_t each = divide_up(V, ROUND_WARPS), first = warp * each, last = smaller(first + each, V);
        double own = 0.0, before = 0.0;
        for (int64_t i = first + lane; i < last; i += WARP) own += density(i) / total;
        own = warp_reduce<Sum>(own);
        __syncthreads(); /* the last draw is read */
        if (lane == 0) part[warp] = own;
        if (threadIdx.x == 0) token[0] = 0;
        __syncthreads();
        int chosen = -1;
        for (int w = 0; w < ROUND_WARPS; w++) {
            if (!(part[w] > 0.0)) continue;
            if (chosen >= 0) before += part[chosen];
            chosen = w;
            if (u < before + part[w]) break;
        }
        if (warp == chosen) {
            const int64_t found = walk(u, total, before, first, last, density);
            if (lane == 0) token[0] = static_cast<int32_t>(found);
        }
        __syncthreads();
        return token[0];
    }

  private:
    /* Of ids [first, last), before which the densities sum to `before`; the last of positive density where rounding
     * lets u fall behind it. A warp calls. */
    template <class Density>
    __device__ int64_t walk(double u, double total, double before, int64_t first, int64_t last, Density density) const
    {
        const int lane = threadIdx.x % WARP;
        int64_t found = first;
        for (int64_t start = first; start < last; start += WARP) {
            const double own = start + lane < last ? density(start + lane) / total : 0.0;
            double reached = own;
#pragma unroll
            for (int offset = 1; offset < WARP; offset *= 2) {
                const double other = __shfl_up_sync(ALL_LANES, reached, offset);
                if (lane >= offset) reached += other;
            }
            const unsigned here = __ballot_sync(ALL_LANES, own > 0.0 && u < before + reached);
            if (here != 0) return start + __ffs(static_cast<int>(here)) - 1;
            const unsigned some = __ballot_sync(ALL_LANES, own > 0.0);
            for (int l = 0; l < WARP; l++)
                if (some >> l & 1u) found = start + l;
            before += __shfl_sync(ALL_LANES, reached, WARP - 1);
        }
        return found;
    }
};

/* p [V] = the row's distribution. Each element is written by the thread that reads it in sums; draws come after a
 * barrier. */
__device__ void make_distribution(double *p, const Row &row, float best, const ls_sampling &sampling)
{
    const auto weight = [&](int64_t i) { return p[i]; };
    for (int64_t i = threadIdx.x; i < row.V; i += ROUND_THREADS)
        p[i] = exp((static_cast<double>(row.logits[i]) - static_cast<double>(best)) / sampling.temperature);
    uint64_t least = 0;
    const auto kept = [&](int64_t i) { return key_of(row.logits[i], i) >= least ? p[i] : 0.0; };
    if (sampling.top_k > 0 && sampling.top_k < row.V)
        least = row.last_to_reach(static_cast<double>(sampling.top_k), 0, [](int64_t) { return 1.0; });
    double total = row.sum(kept);
    if (sampling.top_p < 1.0) {
        least = row.last_to_reach(sampling.top_p * total, least, weight);
        total = row.sum(kept);
    }
    for (int64_t i = threadIdx.x; i < row.V; i += ROUND_THREADS) p[i] = kept(i) / total;
    __syncthreads();
}

__device__ __forceinline__ bool finite(float x) { return x - x == 0.0f; }

__global__ void __launch_bounds__(ROUND_THREADS, 1)
    draft_token_kernel(ls_round *round, double *q, const float *logits, ls_sampling sampling, double confidence,
                       int32_t end_of_text, int64_t V)
{
    if (round->stopped != LS_ROUND_OPEN) return;
    const int32_t drafted = round->drafted;
    const uint32_t position = static_cast<uint32_t>(round->position + 1 + drafted);
    const Row row = {logits, V};
    int32_t token = id_of(row.largest());
    const float best = logits[token];
    bool unsure = !finite(best);
    if (!unsure && confidence > 0.0) {
        const auto weight = [&](int64_t i) { return exp(static_cast<double>(logits[i]) - static_cast<double>(best)); };
        unsure = 1.0 / row.sum(weight) < confidence;
    }
    if (!unsure && sampling.temperature > 0.0) {
        make_distribution(q, row, best, sampling);
        token = row.draw(uniform(sampling.seed, position, LS_DRAW_DRAFT), 1.0, [&](int64_t i) { return q[i]; });
    }
    if (threadIdx.x != 0) return;
    if (!finite(best)) round->not_finite = 1;
    if (unsure) {
        round->stopped = LS_ROUND_UNSURE;
        return;
    }
    round->token[1 + drafted] = token;
    round->drafted = drafted + 1;
    if (token == end_of_text) round->stopped = LS_ROUND_ENDED;
}

struct Verdict {
    int32_t token, agreed, finite;
};

/* Rows that say something: one for each draft and, unless a draft ends the text, one more. */
__device__ __forceinline__ int64_t rows_of(const ls_round *round)
{
    return round->drafted + (round->stopped == LS_ROUND_ENDED ? 0 : 1);
}

/* Block r judges row first + r by itself, p [R,V] is its to use; whether it counts is decide_kernel's affair. */
__global__ void __launch_bounds__(ROUND_THREADS, 1)
    judge_rows_kernel(Verdict *verdict, double *p, const ls_round *round, const double *q, const float *logits,
                      ls_sampling sampling, int64_t first, int64_t V)
{
    const int64_t i = first + blockIdx.x;
    if (round->decided || i >= rows_of(round)) return;
    const bool judged = i < round->drafted;
    const int32_t draft = judged ? round->token[i + 1] : -1;
    const uint32_t position = static_cast<uint32_t>(round->position + 1 + i);
    const Row row = {logits + blockIdx.x * V, V};
    int32_t token = id_of(row.largest());
    const float best = row.logits[token];
    bool agreed = token == draft;
    if (finite(best) && sampling.temperature > 0.0) {
        double *const own = p + blockIdx.x * V;
        const double *const drafts = q != nullptr ? q + i * V : nullptr;
        const auto drafted = [&](int64_t v) { return drafts != nullptr ? drafts[v] : v == draft ? 1.0 : 0.0; };
        make_distribution(own, row, best, sampling);
        agreed = judged && uniform(sampling.seed, position, LS_DRAW_ACCEPT) * drafted(draft) < own[draft];
        token = draft;
        if (!agreed) {
            const auto rest = [&](int64_t v) { return judged ? fmax(own[v] - drafted(v), 0.0) : own[v]; };
            const double total = row.sum(rest), u = uniform(sampling.seed, position, LS_DRAW_FULL);
            /* p == q up to rounding: then the rejection was rounding too, and p itself is right. */
            token = total > 0.0 ? row.draw(u, judged ? total : 1.0, rest)
                                : row.draw(u, 1.0, [&](int64_t v) { return own[v]; });
        }
    }
    if (threadIdx.x == 0) verdict[blockIdx.x] = {token, agreed ? 1 : 0, finite(best) ? 1 : 0};
}

/* One thread: the rows' verdicts in order, until one does not agree. */
__global__ void __launch_bounds__(WARP)
    decide_kernel(ls_round *round, const Verdict *verdict, int64_t first, int64_t rows)
{
    if (threadIdx.x != 0 || round->decided) return;
    const int64_t last = smaller(first + rows, rows_of(round));
    for (int64_t i = first; i < last; i++) {
        const Verdict own = verdict[i - first];
        if (!own.finite) round->not_finite = 1;
        if (!own.finite || !own.agreed) round->decided = 1;
        if (!own.finite) return;
        round->token[++round->count] = own.token;
        round->accepted += own.agreed;
        if (!own.agreed) return;
    }
}

} // namespace ls

extern "C" cudaError_t ls_launch_draft_token(cudaStream_t stream, ls_round *round, double *q, const float *logits,
                                             const ls_sampling *sampling, double confidence, int32_t end_of_text,
                                             int64_t V)
{
    return ls::launch<ls::draft_token_kernel>(1, ls::ROUND_THREADS, 0, stream, round, q, logits, *sampling, confidence,
                                              end_of_text, V);
}

extern "C" size_t ls_accept_drafts_scratch_bytes(int64_t R, int64_t V)
{
    return static_cast<size_t>(R * V) * sizeof(double) + static_cast<size_t>(R) * sizeof(ls::Verdict);
}

extern "C" cudaError_t ls_launch_accept_drafts(cudaStream_t stream, ls_round *round, const double *q,
                                               const float *logits, const ls_sampling *sampling, int64_t first,
                                               int64_t R, int64_t V, void *scratch)
{
    if (R == 0) return cudaSuccess;
    double *const p = static_cast<double *>(scratch);
    ls::Verdict *const verdict = reinterpret_cast<ls::Verdict *>(p + R * V);
    const cudaError_t status = ls::launch<ls::judge_rows_kernel>(static_cast<unsigned>(R), ls::ROUND_THREADS, 0, stream,
                                                                 verdict, p, round, q, logits, *sampling, first, V);
    if (status != cudaSuccess) return status;
    return ls::launch<ls::decide_kernel>(1, ls::WARP, 0, stream, round, verdict, first, R);
}
