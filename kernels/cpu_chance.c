/* Which ids have a chance: the upper random bits of many ids at once, held against what their
 * octets need. This file is compiled once for each instruction set (CPU_SUFFIX); every set gives
 * the bits of the reference, ref_sample.c. */
#include "kernels/cpu_chance.h"

#include "kernels/cpu_vector.h"

#define ROUNDS 10
#define WIDE_LANES (VEC_LANES / 2)
#define STREAMS 4 /* independent vectors, to fill the time that a product takes */
#define GROUP_STREAMS (8 / WIDE_LANES) /* eight counters are a group */
#define GROUPS_AT_ONCE (STREAMS / GROUP_STREAMS)

/* Numbers of 32 bits in lanes of 64: what stands above is ignored, until it is cut off at the end.
 */
typedef uint64_t wide __attribute__((vector_size(8 * WIDE_LANES)));
typedef uint16_t halves __attribute__((vector_size(8 * WIDE_LANES)));

VEC_INLINE wide spread(uint64_t value) {
    return (wide){0} + value;
}

/* The whole products of the lower halves. */
VEC_INLINE wide multiply(wide a, wide b) {
#if defined(__AVX512F__)
    return (wide)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    return (wide)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__SSE4_2__)
    return (wide)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
    return (a & UINT32_MAX) * (b & UINT32_MAX);
#endif
}

VEC_INLINE wide exclusive_or(wide a, wide b, wide c) {
#if defined(__AVX512F__)
    return (wide)_mm512_ternarylogic_epi64((__m512i)a, (__m512i)b, (__m512i)c, 0x96);
#else
    return a ^ b ^ c;
#endif
}

#if defined(__AVX512BW__) || !defined(__SSE4_2__)
#define HALF_BITS 1
#else
#define HALF_BITS 2 /* a mask has one for each byte */
#endif

/* Bit w * HALF_BITS: 16 bits w of a are at least those of b. */
VEC_INLINE uint32_t halves_at_least(wide a, wide b) {
#if defined(__AVX512BW__)
    return _mm512_cmpge_epu16_mask((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    wide greater = (wide)((halves)a >= (halves)b);
    return (uint32_t)_mm256_movemask_epi8((__m256i)greater) & 0x55555555;
#elif defined(__SSE4_2__)
    wide greater = (wide)((halves)a >= (halves)b);
    return (uint32_t)_mm_movemask_epi8((__m128i)greater) & 0x5555;
#else
    uint32_t mask = 0;
    for (int w = 0; w < 4 * WIDE_LANES; w++)
        mask |= (uint32_t)(((halves)a)[w] >= ((halves)b)[w]) << w;
    return mask;
#endif
}

#define LEFT UINT64_C(0xd2511f53)
#define RIGHT UINT64_C(0xcd9e8d57)

/* What all ids of a seed and a position share. In the first round only the left product, in the
 * second only the right one depends on the id. */
struct philox {
    uint64_t k0[ROUNDS], k1[ROUNDS];
    uint64_t second_c0, second_c2, second_c3; /* the shared parts of the second round's words */
};

static void philox_begin(struct philox *philox, uint64_t seed, uint64_t position) {
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < ROUNDS; round++) {
        philox->k0[round] = k0;
        philox->k1[round] = k1;
        k0 += 0x9e3779b9;
        k1 += 0xbb67ae85;
    }
    uint64_t right = RIGHT * (position >> 32);
    uint64_t left = LEFT * ((right >> 32) ^ (uint32_t)position ^ philox->k0[0]);
    philox->second_c0 = (uint32_t)right ^ philox->k0[1];
    philox->second_c2 = (left >> 32) ^ philox->k1[1];
    philox->second_c3 = left;
}

struct block {
    wide c0, c1, c2, c3;
};

VEC_INLINE struct block philox_two_rounds(const struct philox *philox, wide counter) {
    wide left = multiply(counter, spread(LEFT));
    wide right = multiply((left >> 32) ^ spread(philox->k1[0]), spread(RIGHT));
    return (struct block){(right >> 32) ^ spread(philox->second_c0), right,
                          left ^ spread(philox->second_c2), spread(philox->second_c3)};
}

VEC_INLINE void philox_round(struct block *block, wide k0, wide k1) {
    wide left = multiply(block->c0, spread(LEFT)), right = multiply(block->c2, spread(RIGHT));
    block->c0 = exclusive_or(right >> 32, block->c1, k0);
    block->c1 = right;
    block->c2 = exclusive_or(left >> 32, block->c3, k1);
    block->c3 = left;
}

/* The blocks of GROUPS_AT_ONCE groups, GROUP_STREAMS each. */
VEC_INLINE void philox_blocks(const struct philox *philox, int32_t first_group,
                              const int32_t *group, struct block *blocks) {
    wide lanes;
    for (int lane = 0; lane < WIDE_LANES; lane++)
        lanes[lane] = (uint64_t)lane;
    for (int s = 0; s < STREAMS; s++) {
        uint64_t first = 8 * (uint64_t)(first_group + group[s / GROUP_STREAMS]);
        blocks[s] = philox_two_rounds(
            philox, spread(first + (uint64_t)(s % GROUP_STREAMS * WIDE_LANES)) + lanes);
    }
#pragma GCC unroll 8
    for (int round = 2; round < ROUNDS; round++) {
        wide k0 = spread(philox->k0[round]), k1 = spread(philox->k1[round]);
#pragma GCC unroll 4
        for (int s = 0; s < STREAMS; s++)
            philox_round(&blocks[s], k0, k1);
    }
}

/* Two words of each counter side by side, their halves in the order of octets. */
VEC_INLINE wide pair(wide low, wide high) {
    return (low & UINT32_MAX) | (high << 32);
}

/* A vector of octets from args->octets on; of two groups where it is as wide. */
VEC_INLINE vec load_octets(const struct chance_args *args, const int32_t *group, int v) {
#if VEC_LANES == 16
    const float *first = args->octets + group[2 * v] * SAMPLE_OCTETS,
                *second = args->octets + group[2 * v + 1] * SAMPLE_OCTETS;
    return (vec)_mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(first)),
                                   _mm256_loadu_ps(second), 1);
#else
    const int32_t vectors = SAMPLE_OCTETS / VEC_LANES;
    return vec_load(args->octets + group[v / vectors] * SAMPLE_OCTETS + v % vectors * VEC_LANES);
#endif
}

/* The least 16 bits with which each octet reaches the limit; four octets are a number. */
VEC_INLINE void find_least(const struct chance_args *args, struct sample_threshold threshold,
                           const int32_t *group, uint64_t *least) {
    for (int v = 0; v < GROUPS_AT_ONCE * SAMPLE_OCTETS / VEC_LANES; v++) {
        vec bits = load_octets(args, group, v) * threshold.slope + threshold.top;
        bits = vec_max(vec_min(bits, vec_set(SAMPLE_BOUND_MOST)), vec_set(0.0f));
        vec rest = (vec) __builtin_convertvector(bits, vec_int);
        vec_half most = vec_narrow_half((vec_bits) __builtin_convertvector(rest, vec_int));
        most = ~most;
        memcpy((uint16_t *)least + v * VEC_LANES, &most, sizeof most);
    }
}

/* Words of counters whose first id is `first_id`: halves of word `word` and of the next one. */
struct halves_found {
    int32_t first_id, word;
    uint32_t mask;
    wide bits;
};

VEC_INLINE int32_t list_halves(const struct halves_found *from, int32_t *ids, uint16_t *high) {
    int32_t found = 0;
    uint16_t bits[4 * WIDE_LANES];
    memcpy(bits, &from->bits, sizeof bits);
    for (uint32_t mask = from->mask; mask != 0; mask &= mask - 1) {
        int32_t at = __builtin_ctz(mask) / HALF_BITS;
        ids[found] = from->first_id + at % 2 * 32 + (from->word + at / 2 % 2) * 8 + at / 4;
        high[found++] = bits[at];
    }
    return found;
}

int32_t CPU_SYMBOL(cpu_chance)(const struct chance_args *args) {
    struct sample_threshold threshold = sample_threshold(args);
    struct philox philox;
    philox_begin(&philox, args->seed, (uint64_t)args->position);
    int32_t found = 0;
    for (int32_t i = 0; i < args->groups; i += GROUPS_AT_ONCE) {
        struct block blocks[STREAMS];
        const int32_t *group = args->group + i;
        int32_t last[GROUPS_AT_ONCE], left = args->groups - i;
        uint64_t least[2 * GROUPS_AT_ONCE];
        if (left < GROUPS_AT_ONCE) {
            for (int32_t g = 0; g < GROUPS_AT_ONCE; g++)
                last[g] = group[g < left ? g : 0];
            group = last;
        }
        find_least(args, threshold, group, least);
        philox_blocks(&philox, args->first_group, group, blocks);
#pragma GCC unroll 4
        for (int s = 0; s < STREAMS; s++) {
            int g = s / GROUP_STREAMS;
            wide a = pair(blocks[s].c0, blocks[s].c1), b = pair(blocks[s].c2, blocks[s].c3);
            uint32_t in_a = halves_at_least(a, spread(least[2 * g])),
                     in_b = halves_at_least(b, spread(least[2 * g + 1]));
            if ((in_a | in_b) == 0 || g >= left)
                continue;
            int32_t id =
                (args->first_group + group[g]) * SAMPLE_GROUP + s % GROUP_STREAMS * WIDE_LANES;
            struct halves_found from_a = {id, 0, in_a, a}, from_b = {id, 2, in_b, b};
            found += list_halves(&from_a, args->ids + found, args->high + found);
            found += list_halves(&from_b, args->ids + found, args->high + found);
        }
    }
    return found;
}
