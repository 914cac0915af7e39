/* log and exp in plain double arithmetic. The C library picks its versions by the CPU it finds
 * (with or without fused multiply-add), so two machines of one job could round differently and draw
 * different tokens; these two give the same bits wherever the same binary runs. */
#ifndef MOEBIUS_RUNTIME_SAMPLER_MATH_H
#define MOEBIUS_RUNTIME_SAMPLER_MATH_H

/* Natural logarithm of a positive, finite, normal x. Relative error below 1e-15, also where x is
 * close to 1 and the result close to 0. Anything else is outside the domain: no crash, no promise.
 * Local. */
double sampler_math_log(double x);

/* e^x for x <= 700; 0 for x < -700. Relative error below 1e-15. Local. */
double sampler_math_exp(double x);

#endif
