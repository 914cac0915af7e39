/* Rotary tables, computed once when a model is built. The arithmetic is f32 where transformers' is,
 * step by step, so that angles at large positions agree. */
#include "runtime/rope_table.h"

#include <math.h>

#include "kernels/base/check.h"

#define TWO_PI 6.283185307179586

static double clamp(double value, double low, double high) {
    return value < low ? low : value > high ? high : value;
}

/* Long waves are slowed down by `factor`, short ones are left alone, and those between are mixed.
 */
static float llama3_frequency(const struct rope_spec *spec, float frequency) {
    float original = (float)spec->original_positions;
    float low = (float)spec->low_freq_factor, high = (float)spec->high_freq_factor;
    float factor = (float)spec->factor;
    float wavelength = (1.0f / frequency) * (float)TWO_PI;
    if (wavelength > (float)(spec->original_positions / spec->low_freq_factor))
        return frequency / factor;
    if (wavelength < (float)(spec->original_positions / spec->high_freq_factor))
        return frequency;
    float smooth = ((1.0f / wavelength) * original - low) / (high - low);
    return (1.0f - smooth) * frequency / factor + smooth * frequency;
}

/* The dimension (not whole) whose wave turns `rotations` times within the original positions. */
static double yarn_dimension(const struct rope_spec *spec, double rotations) {
    return spec->rotary_dim * log(spec->original_positions / (rotations * TWO_PI)) /
           (2.0 * log(spec->theta));
}

/* Between the dimensions of beta_fast and beta_slow the frequencies go over from as they are to
 * divided by `factor`. */
static void yarn_frequencies(const struct rope_spec *spec, float *frequencies) {
    double first = yarn_dimension(spec, spec->beta_fast);
    double last = yarn_dimension(spec, spec->beta_slow);
    if (spec->truncate) {
        first = floor(first);
        last = ceil(last);
    }
    first = first < 0.0 ? 0.0 : first;
    last = last > spec->rotary_dim - 1 ? spec->rotary_dim - 1 : last;
    double width = last - first;
    if (width == 0.0)
        width = 0.001;
    for (int32_t i = 0; i < spec->rotary_dim / 2; i++) {
        float turned = powf((float)spec->theta, (float)(2 * i) / (float)spec->rotary_dim);
        float kept = 1.0f / turned;
        float slowed = 1.0f / ((float)spec->factor * turned);
        float ramp = (float)clamp((double)(((float)i - (float)first) / (float)width), 0.0, 1.0);
        float share = 1.0f - ramp;
        frequencies[i] = slowed * (1.0f - share) + kept * share;
    }
}

void rope_table_frequencies(const struct rope_spec *spec, float *inverse_frequencies) {
    ASSERT(spec->rotary_dim > 0 && spec->rotary_dim % 2 == 0);
    if (spec->kind == ROPE_YARN) {
        yarn_frequencies(spec, inverse_frequencies);
        return;
    }
    for (int32_t i = 0; i < spec->rotary_dim / 2; i++) {
        float exponent = (float)(2 * i) / (float)spec->rotary_dim;
        float frequency = 1.0f / powf((float)spec->theta, exponent);
        if (spec->kind == ROPE_LINEAR)
            frequency /= (float)spec->factor;
        else if (spec->kind == ROPE_LLAMA3)
            frequency = llama3_frequency(spec, frequency);
        inverse_frequencies[i] = frequency;
    }
}

void rope_table_fill(const struct rope_spec *spec, int32_t positions, float *table) {
    ASSERT(positions >= 1);
    int32_t half = spec->rotary_dim / 2;
    /* The first row's cosines hold the frequencies until the row is written, as the last one. */
    rope_table_frequencies(spec, table);
    float attention_factor = (float)spec->attention_factor;
    for (int32_t position = positions - 1; position >= 0; position--) {
        float *cosines = table + (int64_t)position * spec->rotary_dim;
        for (int32_t i = 0; i < half; i++) {
            double angle = (double)((float)position * table[i]);
            cosines[half + i] = (float)sin(angle) * attention_factor;
            cosines[i] = (float)cos(angle) * attention_factor;
        }
    }
}
