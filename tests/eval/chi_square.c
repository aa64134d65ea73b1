/* Pearson's statistic. */
#include "chi_square.h"

#include <math.h>

void chi_square_add(chi_square *chi, const int64_t *count, const double *probability, int cells, double total)
{
    double pooled_count = 0.0, pooled = 0.0, used = 0.0;
    for (int i = 0; i < cells; i++) {
        const double expected = probability[i] * total, observed = (double)count[i];
        if (!(expected > 0.0)) {
            if (count[i] > 0) chi->sum = INFINITY;
        } else if (expected < 10.0) {
            pooled += expected;
            pooled_count += observed;
        } else {
            chi->sum += (observed - expected) * (observed - expected) / expected;
            used += 1.0;
        }
    }
    if (pooled >= 10.0) {
        chi->sum += (pooled_count - pooled) * (pooled_count - pooled) / pooled;
        used += 1.0;
    }
    if (used > 1.0) chi->freedom += used - 1.0;
}

double chi_square_deviation(const chi_square *chi)
{
    return chi->freedom > 0.0 ? (chi->sum - chi->freedom) / sqrt(2.0 * chi->freedom) : chi->sum;
}
