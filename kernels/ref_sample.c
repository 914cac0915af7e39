/* Random bits and passes over logits, one id at a time: what the vector kernels of cpu_sample.c
 * must equal. */
#include "kernels/ref_sample.h"

#include <math.h>
#include <string.h>

#define PHILOX_ROUNDS 10

void ref_sample_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < PHILOX_ROUNDS; round++) {
        uint64_t left = UINT64_C(0xd2511f53) * c0;
        uint64_t right = UINT64_C(0xcd9e8d57) * c2;
        c0 = (uint32_t)(right >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)right;
        c2 = (uint32_t)(left >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)left;
        k0 += 0x9e3779b9; /* the golden ratio */
        k1 += 0xbb67ae85; /* sqrt(3) - 1 */
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

uint16_t ref_sample_high(uint64_t seed, int64_t position, int32_t id) {
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t block[4] = {(uint32_t)(id / 64 * 8 + id % 8), (uint32_t)position,
                         (uint32_t)((uint64_t)position >> 32), 0};
    ref_sample_philox(block, key, block);
    return (uint16_t)(block[id / 8 % 4] >> id / 32 % 2 * 16);
}

uint64_t ref_sample_low(uint64_t seed, int64_t position, int32_t id) {
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t block[4] = {(uint32_t)id, (uint32_t)position, (uint32_t)((uint64_t)position >> 32), 1};
    ref_sample_philox(block, key, block);
    return (uint64_t)(block[1] & 0xffff) << 32 | block[0];
}

static float peaks(const struct peak_args *args) {
    int32_t end = args->skipped + args->count;
    float greatest = -INFINITY;
    for (int32_t group = 0; group * SAMPLE_GROUP < end; group++) {
        float *octets = args->octets + group * SAMPLE_OCTETS;
        args->groups[group] = -INFINITY;
        for (int32_t i = 0; i < SAMPLE_OCTETS; i++)
            octets[i] = -INFINITY;
        for (int32_t i = 0; i < SAMPLE_GROUP; i++) {
            int32_t at = group * SAMPLE_GROUP + i - args->skipped;
            float x = at >= 0 && at < args->count ? args->x[at] : NAN;
            float *octet = &octets[i / 8 % 4 * 2 + i / 32];
            *octet = x > *octet ? x : *octet;
            args->groups[group] = x > args->groups[group] ? x : args->groups[group];
        }
        greatest = args->groups[group] > greatest ? args->groups[group] : greatest;
    }
    return greatest;
}

/* The least 16 bits with which an octet's peak reaches the limit. */
static uint16_t least_high(struct sample_threshold threshold, float peak) {
    float bits = peak * threshold.slope + threshold.top, rest;
    bits = bits < SAMPLE_BOUND_MOST ? bits : SAMPLE_BOUND_MOST; /* NaN as well */
    int32_t read = bits > 0.0f ? (int32_t)bits : 0;
    memcpy(&rest, &read, sizeof rest);
    return (uint16_t)(UINT16_MAX - (int32_t)rest);
}

static int32_t chances(const struct chance_args *args) {
    struct sample_threshold threshold = sample_threshold(args);
    int32_t found = 0;
    for (int32_t g = 0; g < args->groups; g++) {
        const float *octets = args->octets + args->group[g] * SAMPLE_OCTETS;
        for (int32_t i = 0; i < SAMPLE_GROUP; i++) {
            int32_t id = (args->first_group + args->group[g]) * SAMPLE_GROUP + i;
            uint16_t high = ref_sample_high(args->seed, args->position, id);
            if (high < least_high(threshold, octets[i / 8 % 4 * 2 + i / 32]))
                continue;
            args->ids[found] = id;
            args->high[found++] = high;
        }
    }
    return found;
}

static float weight_of(const struct weigh_args *args, float x) {
    float gap = x == args->greatest ? 0.0f : x - args->greatest;
    float exponent = gap * args->scale;
    if (!(exponent >= SAMPLE_POWER_LEAST))
        return 0.0f;
    float shifted = exponent + SAMPLE_ROUNDER;
    float whole = shifted - SAMPLE_ROUNDER, r = exponent - whole;
    float power = SAMPLE_POWER_C6 * r + SAMPLE_POWER_C5;
    power = power * r + SAMPLE_POWER_C4;
    power = power * r + SAMPLE_POWER_C3;
    power = power * r + SAMPLE_POWER_C2;
    power = power * r + SAMPLE_POWER_C1;
    power = power * r + 1.0f;
    float weight = ldexpf(power, (int)whole);
    return weight < args->coarse ? (weight + args->coarse) - args->coarse : weight;
}

static double weigh(const struct weigh_args *args) {
    double sum = 0;
    for (int32_t i = 0; i < args->count; i++) {
        float weight = weight_of(args, args->x[i]);
        sum += (double)weight;
        if (args->weights != NULL)
            args->weights[i] = weight;
    }
    return sum;
}

static struct sample_tally tally(const float *x, const float *weights, int32_t count, float least) {
    struct sample_tally tally = {0};
    for (int32_t i = 0; i < count; i++) {
        if (!(x[i] >= least))
            continue;
        tally.count++;
        if (weights != NULL)
            tally.weight += (double)weights[i];
    }
    return tally;
}

static int32_t list(const struct list_args *args) {
    int32_t found = 0;
    for (int32_t i = 0; i < args->count; i++) {
        if (!(args->x[i] >= args->least && args->x[i] <= args->most))
            continue;
        args->at[found] = i;
        args->values[found++] = args->x[i];
    }
    return found;
}

const struct sample_ops ref_sample_ops = {
    .peaks = peaks, .chances = chances, .weigh = weigh, .tally = tally, .list = list};
