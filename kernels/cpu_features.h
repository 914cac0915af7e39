/* Which instruction set the CPU kernels use. The bits of a result may differ between instruction
 * sets, never within one. */
#ifndef MOEBIUS_KERNELS_CPU_FEATURES_H
#define MOEBIUS_KERNELS_CPU_FEATURES_H

#include <stdbool.h>

enum cpu_isa {
    CPU_ISA_REFERENCE,   /* slow, obvious, portable C: the judge of all others */
    CPU_ISA_BASELINE,    /* x86-64-v2 (SSE4.2); on other machines: portable C */
    CPU_ISA_AVX2,        /* AVX2 + FMA */
    CPU_ISA_AVX512,      /* AVX-512 F, BW, DQ, VL */
    CPU_ISA_AVX512_BF16, /* the above + AVX512_BF16 */
    CPU_ISA_COUNT
};

/* "reference", "baseline", "avx2", "avx512", "avx512-bf16". Local. */
const char *cpu_isa_name(enum cpu_isa isa);

/* Returns 0 and writes *isa, or -1 when `name` is none of the names. Local. */
int cpu_isa_parse(const char *name, enum cpu_isa *isa);

/* Whether this machine (CPU and operating system's saved registers) can run `isa` and this build
 * has it. Local. */
bool cpu_isa_supported(enum cpu_isa isa);

/* The best supported one. Local. */
enum cpu_isa cpu_isa_best(void);

#endif
