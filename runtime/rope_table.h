/* Cosines and sines for rotary embedding, computed once at start. */
#ifndef MOEBIUS_RUNTIME_ROPE_TABLE_H
#define MOEBIUS_RUNTIME_ROPE_TABLE_H

#include "runtime/model_spec.h"

/* Inverse frequencies, f32 [rotary_dim / 2], as transformers computes them (arithmetic in f32 where
 * it does, so that angles at large positions agree): default theta^(-2i/d); linear: divided by
 * factor; llama3 and yarn (Peng et al., arXiv 2309.00071): by bands. Local. */
void rope_table_frequencies(const struct rope_spec *spec, float *inverse_frequencies);

/* Fills table[position][rotary_dim] for positions [0, positions), at least one: rotary_dim/2
 * cosines, then as many sines, both times attention_factor; the angle is the f32 product position *
 * frequency. Local. */
void rope_table_fill(const struct rope_spec *spec, int32_t positions, float *table);

#endif
