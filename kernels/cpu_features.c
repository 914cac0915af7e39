/* Finds out what this CPU can run. The compiler's own CPUID reader also asks the operating system
 * (XGETBV) whether the wide registers are saved. */
#include "kernels/cpu_features.h"

#include <string.h>

static const char *const isa_names[CPU_ISA_COUNT] = {"reference", "baseline", "avx2", "avx512",
                                                     "avx512-bf16"};

const char *cpu_isa_name(enum cpu_isa isa) {
    return isa_names[isa];
}

int cpu_isa_parse(const char *name, enum cpu_isa *isa) {
    for (int i = 0; i < CPU_ISA_COUNT; i++) {
        if (strcmp(name, isa_names[i]) == 0) {
            *isa = (enum cpu_isa)i;
            return 0;
        }
    }
    return -1;
}

#if MOEBIUS_X86
static bool has_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

bool cpu_isa_supported(enum cpu_isa isa) {
    __builtin_cpu_init();
    bool sse = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
    bool avx2 = sse && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool avx512 = avx2 && has_avx512();
    switch (isa) {
    case CPU_ISA_REFERENCE:
        return true;
    case CPU_ISA_BASELINE:
        return sse;
    case CPU_ISA_AVX2:
        return avx2;
    case CPU_ISA_AVX512:
        return avx512;
    case CPU_ISA_AVX512_BF16:
        return avx512 && __builtin_cpu_supports("avx512bf16");
    case CPU_ISA_COUNT:
        break;
    }
    return false;
}
#else
bool cpu_isa_supported(enum cpu_isa isa) {
    return isa == CPU_ISA_REFERENCE || isa == CPU_ISA_BASELINE;
}
#endif

enum cpu_isa cpu_isa_best(void) {
    int best = CPU_ISA_COUNT - 1;
    while (best > CPU_ISA_REFERENCE && !cpu_isa_supported((enum cpu_isa)best))
        best--;
    return (enum cpu_isa)best;
}
