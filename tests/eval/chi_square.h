/* How far counts are from a distribution. */
#ifndef LS_TESTS_EVAL_CHI_SQUARE_H
#define LS_TESTS_EVAL_CHI_SQUARE_H

#include <stdint.h>

typedef struct chi_square {
    double sum, freedom;
} chi_square;

/* Adds the cells of one distribution, probability [cells], counted `total` times. Cells that expect fewer than 10 are
 * pooled; a count where none can be makes the sum infinite. */
void chi_square_add(chi_square *chi, const int64_t *count, const double *probability, int cells, double total);
/* (chi-square - degrees of freedom) / its standard deviation */
double chi_square_deviation(const chi_square *chi);

#endif
