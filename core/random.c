/* Philox4x32-10 and the distributions drawn from it. */
#include "core/random.h"

#include <math.h>

static void philox_round(uint32_t counter[4], const uint32_t key[2])
{
    const uint64_t product0 = (uint64_t)0xD2511F53u * counter[0];
    const uint64_t product1 = (uint64_t)0xCD9E8D57u * counter[2];
    const uint32_t next0 = (uint32_t)(product1 >> 32) ^ counter[1] ^ key[0];
    const uint32_t next2 = (uint32_t)(product0 >> 32) ^ counter[3] ^ key[1];
    counter[1] = (uint32_t)product1;
    counter[3] = (uint32_t)product0;
    counter[0] = next0;
    counter[2] = next2;
}

ls_random_words ls_random(uint64_t seed, ls_stream stream, uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t counter[4] = {a, b, c, (uint32_t)stream};
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    for (int round = 0; round < 10; round++) {
        if (round > 0) {
            key[0] += 0x9E3779B9u;
            key[1] += 0xBB67AE85u;
        }
        philox_round(counter, key);
    }
    return (ls_random_words){{counter[0], counter[1], counter[2], counter[3]}};
}

static double unit(uint32_t high, uint32_t low)
{
    const uint64_t bits = ((uint64_t)high << 32 | low) >> 11;
    return (double)bits * 0x1p-53;
}

double ls_random_uniform(uint64_t seed, ls_stream stream, uint32_t a, uint32_t b, uint32_t c)
{
    const ls_random_words words = ls_random(seed, stream, a, b, c);
    return unit(words.word[0], words.word[1]);
}

/* The upper half of the 128-bit product, from 32-bit halves: C17 has no wider integer. */
static uint64_t multiply_high(uint64_t a, uint64_t b)
{
    const uint64_t a_high = a >> 32, a_low = a & 0xFFFFFFFFu, b_high = b >> 32, b_low = b & 0xFFFFFFFFu;
    const uint64_t middle = a_high * b_low + (a_low * b_low >> 32);
    const uint64_t carried = a_low * b_high + (middle & 0xFFFFFFFFu);
    return a_high * b_high + (middle >> 32) + (carried >> 32);
}

uint64_t ls_random_below(uint64_t seed, ls_stream stream, uint32_t a, uint32_t b, uint32_t c, uint64_t bound)
{
    const ls_random_words words = ls_random(seed, stream, a, b, c);
    const uint64_t value = (uint64_t)words.word[0] << 32 | words.word[1];
    return multiply_high(value, bound);
}

double ls_random_normal(uint64_t seed, ls_stream stream, uint32_t a, uint32_t b, uint32_t c)
{
    const ls_random_words words = ls_random(seed, stream, a, b, c);
    const double radius = sqrt(-2.0 * log(1.0 - unit(words.word[0], words.word[1])));
    return radius * cos(6.283185307179586476925 * unit(words.word[2], words.word[3]));
}
