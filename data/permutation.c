/* The keyed permutation; see permutation.h. */
#include "data/permutation.h"

#include "core/random.h"
#include "core/status.h"

enum { ROUNDS = 6 };

/* Permutes the numbers of low_bits + high_bits bits. */
static uint64_t feistel(uint64_t value, int low_bits, int high_bits, uint64_t seed, uint32_t epoch)
{
    const uint32_t low_mask = (uint32_t)((UINT64_C(1) << low_bits) - 1);
    const uint32_t high_mask = (uint32_t)((UINT64_C(1) << high_bits) - 1);
    uint32_t low = (uint32_t)value & low_mask;
    uint32_t high = (uint32_t)(value >> low_bits) & high_mask;
    for (uint32_t round = 0; round < ROUNDS; round += 2) {
        low ^= ls_random(seed, LS_STREAM_DATA_ORDER, epoch, round, high).word[0] & low_mask;
        high ^= ls_random(seed, LS_STREAM_DATA_ORDER, epoch, round + 1, low).word[0] & high_mask;
    }
    return (uint64_t)high << low_bits | low;
}

int64_t ls_permute(int64_t index, int64_t count, uint64_t seed, uint32_t epoch)
{
    LS_ASSERT(count >= 1 && count <= INT64_C(1) << 62 && index >= 0 && index < count);
    int bits = 0;
    while ((INT64_C(1) << bits) < count) bits++;
    const int high_bits = bits / 2;
    uint64_t value = (uint64_t)index;
    do value = feistel(value, bits - high_bits, high_bits, seed, epoch);
    while (value >= (uint64_t)count);
    return (int64_t)value;
}
