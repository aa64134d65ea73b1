/* Frequencies of the rotary embedding (Su et al. 2021), plain or stretched.
 *
 * Every operation is one of fp32, in the order of Hugging Face's `transformers`, because the checkpoints in the world
 * were trained with angles rounded that way: at position 100,000 exact frequencies would be some 0.005 rad off. */
#ifndef LS_MODEL_ROTATION_H
#define LS_MODEL_ROTATION_H

#include "model/model_config.h"

/* frequency[i], i < D/2: radians a position of pair i. The angle at position p is the fp32 product p * frequency[i]. */
void ls_rotation_frequencies(float *frequency, const ls_model_config *config);

#endif
