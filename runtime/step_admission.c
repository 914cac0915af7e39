/* A request's sampling parameters on their way to the ranks that sample for it: a mask says which
 * differ from the defaults, and only those follow. */
#include "runtime/step_admission.h"

#include <string.h>

enum parts {
    PART_TEMPERATURE = 1,
    PART_TOP_K = 2,
    PART_TOP_P = 4,
    PART_MIN_P = 8,
    PART_PENALTIES = 16,
    PART_LOGPROBS = 32,
    PART_BIAS = 64,
    PART_BANNED = 128,
    PART_MIN_TOKENS = 256,
    PART_SCORES = 512,
    PART_HISTORY = 1024,
    PARTS_ALL = 2047
};

#define NUMBERS_MAX 12 /* besides the lists */
#define FLOATS_MAX 6

int64_t step_admission_bytes_max(void) {
    return (int64_t)(WIRE_NUMBER_BYTES_MAX *
                         (NUMBERS_MAX + SAMPLING_BIAS_MAX + SAMPLING_BANNED_MAX) +
                     sizeof(float) * (FLOATS_MAX + SAMPLING_BIAS_MAX) + sizeof(uint64_t));
}

static int32_t parts_of(const struct step_admission *admission) {
    const struct sampling_params *sampling = admission->sampling;
    return (sampling->temperature > 0.0f ? PART_TEMPERATURE : 0) |
           (sampling->top_k > 0 ? PART_TOP_K : 0) | (sampling->top_p < 1.0f ? PART_TOP_P : 0) |
           (sampling->min_p > 0.0f ? PART_MIN_P : 0) |
           (sampling_params_have_penalty(sampling) ? PART_PENALTIES : 0) |
           (sampling->logprobs >= 0 ? PART_LOGPROBS : 0) |
           (sampling->bias_count > 0 ? PART_BIAS : 0) |
           (sampling->banned_count > 0 ? PART_BANNED : 0) |
           (admission->min_tokens > 0 ? PART_MIN_TOKENS : 0) |
           (admission->prompt_top > 0 ? PART_SCORES : 0) |
           (admission->history_count > 0 ? PART_HISTORY : 0);
}

static void put_float(struct wire_writer *writer, float value) {
    wire_put_bytes(writer, &value, sizeof value);
}

static float get_float(struct wire_reader *reader) {
    float value;
    wire_get_bytes(reader, &value, sizeof value);
    return value;
}

static void put_ids(struct wire_writer *writer, const int32_t *ids, int32_t count) {
    wire_put(writer, count);
    for (int32_t i = 0; i < count; i++)
        wire_put(writer, ids[i]);
}

static int32_t get_ids(struct wire_reader *reader, int32_t vocabulary, int32_t room, int32_t *ids) {
    int32_t count = wire_get_within(reader, 0, room);
    for (int32_t i = 0; i < count && !reader->bad; i++)
        ids[i] = wire_get_within(reader, 0, vocabulary - 1);
    return count;
}

static void put_sampling(struct wire_writer *writer, const struct sampling_params *sampling,
                         int32_t parts) {
    if (parts & PART_TEMPERATURE) {
        put_float(writer, sampling->temperature);
        wire_put_bytes(writer, &sampling->seed, sizeof sampling->seed);
    }
    if (parts & PART_TOP_K)
        wire_put(writer, sampling->top_k);
    if (parts & PART_TOP_P)
        put_float(writer, sampling->top_p);
    if (parts & PART_MIN_P)
        put_float(writer, sampling->min_p);
    if (parts & PART_PENALTIES) {
        put_float(writer, sampling->repetition_penalty);
        put_float(writer, sampling->frequency_penalty);
        put_float(writer, sampling->presence_penalty);
    }
    if (parts & PART_LOGPROBS)
        wire_put(writer, sampling->logprobs);
    if (parts & PART_BIAS)
        wire_put(writer, sampling->bias_count);
    for (int32_t i = 0; i < sampling->bias_count; i++) {
        wire_put(writer, sampling->bias[i].id);
        put_float(writer, sampling->bias[i].bias);
    }
    if (parts & PART_BANNED)
        put_ids(writer, sampling->banned, sampling->banned_count);
}

static void get_sampling(struct wire_reader *reader, int32_t vocabulary, int32_t parts,
                         struct sampling_params *sampling) {
    *sampling = sampling_params_default();
    if (parts & PART_TEMPERATURE) {
        sampling->temperature = get_float(reader);
        wire_get_bytes(reader, &sampling->seed, sizeof sampling->seed);
    }
    if (parts & PART_TOP_K)
        sampling->top_k = wire_get(reader);
    if (parts & PART_TOP_P)
        sampling->top_p = get_float(reader);
    if (parts & PART_MIN_P)
        sampling->min_p = get_float(reader);
    if (parts & PART_PENALTIES) {
        sampling->repetition_penalty = get_float(reader);
        sampling->frequency_penalty = get_float(reader);
        sampling->presence_penalty = get_float(reader);
    }
    if (parts & PART_LOGPROBS)
        sampling->logprobs = wire_get_within(reader, 0, SAMPLING_LOGPROBS_MAX);
    if (parts & PART_BIAS)
        sampling->bias_count = wire_get_within(reader, 0, SAMPLING_BIAS_MAX);
    for (int32_t i = 0; i < sampling->bias_count && !reader->bad; i++) {
        sampling->bias[i].id = wire_get_within(reader, 0, vocabulary - 1);
        sampling->bias[i].bias = get_float(reader);
    }
    if (parts & PART_BANNED)
        sampling->banned_count = get_ids(reader, vocabulary, SAMPLING_BANNED_MAX, sampling->banned);
}

void step_admission_put(struct wire_writer *writer, const struct step_admission *admission) {
    int32_t parts = parts_of(admission);
    wire_put(writer, admission->group);
    wire_put(writer, admission->place);
    wire_put(writer, admission->prompt_count);
    wire_put(writer, parts);
    put_sampling(writer, admission->sampling, parts);
    if (parts & PART_MIN_TOKENS) {
        const struct sampling_params *sampling = admission->sampling;
        wire_put(writer, admission->min_tokens);
        put_ids(writer, sampling->banned + sampling->banned_count, admission->stop_count);
    }
    if (parts & PART_SCORES)
        wire_put(writer, admission->prompt_top);
    if (parts & PART_HISTORY)
        put_ids(writer, admission->history, admission->history_count);
}

void step_admission_get(struct wire_reader *reader, int32_t vocabulary, int32_t room,
                        struct sampling_params *sampling, int32_t *history,
                        struct step_admission *admission) {
    *admission = (struct step_admission){.sampling = sampling, .history = history};
    admission->group = wire_get(reader);
    admission->place = wire_get(reader);
    admission->prompt_count = wire_get(reader);
    int32_t parts = wire_get_within(reader, 0, PARTS_ALL);
    get_sampling(reader, vocabulary, parts, sampling);
    if (parts & PART_MIN_TOKENS) {
        int32_t banned = sampling->banned_count;
        admission->min_tokens = wire_get(reader);
        admission->stop_count =
            get_ids(reader, vocabulary, SAMPLING_BANNED_MAX - banned, sampling->banned + banned);
    }
    if (parts & PART_SCORES)
        admission->prompt_top = wire_get_within(reader, 0, SAMPLING_LOGPROBS_MAX);
    if (parts & PART_HISTORY)
        admission->history_count = get_ids(reader, vocabulary, room, history);
}
