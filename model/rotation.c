/* Rotary frequencies, see rotation.h. */
#include "model/rotation.h"

#include <math.h>

/* Wavelengths below `original / high_freq_factor` positions stay, those above `original / low_freq_factor` grow by
 * `factor`, and between the two the frequency is a mixture. */
static float stretch_llama3(float frequency, const ls_rope_scaling *scaling)
{
    const double original = (double)scaling->original_max_position_embeddings;
    const float factor = (float)scaling->factor, low = (float)scaling->low_freq_factor;
    const float longest = (float)(original / scaling->low_freq_factor);
    const float shortest = (float)(original / scaling->high_freq_factor);
    const float wavelength = 1.0f / frequency * (float)(2.0 * M_PI);
    if (wavelength > longest) return frequency / factor;
    if (wavelength < shortest) return frequency;
    const float range = (float)(scaling->high_freq_factor - scaling->low_freq_factor);
    const float smooth = (1.0f / wavelength * (float)original - low) / range;
    return (1.0f - smooth) * frequency / factor + smooth * frequency;
}

void ls_rotation_frequencies(float *frequency, const ls_model_config *config)
{
    const ls_rope_scaling *scaling = &config->rope_scaling;
    const float theta = (float)config->rope_theta;
    for (int64_t i = 0; i < config->head_dim / 2; i++) {
        const float exponent = (float)(2 * i) / (float)config->head_dim;
        const float plain = 1.0f / (float)pow((double)theta, (double)exponent);
        switch ((ls_rope_type)scaling->type) {
        case LS_ROPE_PLAIN:
            frequency[i] = plain;
            break;
        case LS_ROPE_LINEAR:
            frequency[i] = plain / (float)scaling->factor;
            break;
        case LS_ROPE_LLAMA3:
            frequency[i] = stretch_llama3(plain, scaling);
            break;
        }
    }
}
