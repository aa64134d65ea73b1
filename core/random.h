/* Counter-based random numbers: value = f(seed, stream, counters), never a hidden state.
 *
 * Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011). The same call gives the same
 * value in any order, on any thread, on any rank and after a resume. */
#ifndef LS_CORE_RANDOM_H
#define LS_CORE_RANDOM_H

#include <stdint.h>

/* One stream a purpose: two purposes never share draws. Numbers are part of the checkpoint's meaning: append only. */
typedef enum ls_stream {
    LS_STREAM_INITIAL_WEIGHTS = 1, /* counters: parameter number, element */
    LS_STREAM_LAYER_DROPOUT = 2,   /* counters: step, layer, sample */
    LS_STREAM_DATA_ORDER = 3,      /* counters: epoch, round */
    LS_STREAM_SAMPLING = 4,        /* counters: position, draw */
    LS_STREAM_TEST = 5,
} ls_stream;

typedef struct ls_random_words {
    uint32_t word[4];
} ls_random_words;

ls_random_words ls_random(uint64_t seed, ls_stream stream, uint32_t a, uint32_t b, uint32_t c);

/* Uniform in [0, 1), 53 bits. */
double ls_random_uniform(uint64_t seed, ls_stream stream, uint32_t a, uint32_t b, uint32_t c);
/* Uniform integer in [0, bound), bound >= 1, without modulo bias beyond 2^-64. */
uint64_t ls_random_below(uint64_t seed, ls_stream stream, uint32_t a, uint32_t b, uint32_t c, uint64_t bound);
/* Standard normal (Box-Muller). */
double ls_random_normal(uint64_t seed, ls_stream stream, uint32_t a, uint32_t b, uint32_t c);

#endif
