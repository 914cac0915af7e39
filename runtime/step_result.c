/* Row results between the sampler of a group and the engine. */
#include "runtime/step_result.h"

#define HEAD_NUMBERS 4

int64_t step_result_bytes_max(void) {
    return (int64_t)(WIRE_NUMBER_BYTES_MAX * (HEAD_NUMBERS + SAMPLING_LOGPROBS_MAX) +
                     sizeof(double) * (1 + SAMPLING_LOGPROBS_MAX));
}

void step_result_put(struct wire_writer *writer, const struct step_result *result) {
    const struct sampler_logprobs *logprobs = &result->logprobs;
    wire_put(writer, result->token + 1);
    wire_put(writer, result->has_logprobs ? 1 + logprobs->top_count : 0);
    if (!result->has_logprobs)
        return;
    wire_put(writer, logprobs->rank);
    wire_put_bytes(writer, &logprobs->chosen.logprob, sizeof(double));
    for (int32_t i = 0; i < logprobs->top_count; i++) {
        wire_put(writer, logprobs->top[i].id);
        wire_put_bytes(writer, &logprobs->top[i].logprob, sizeof(double));
    }
}

void step_result_get(struct wire_reader *reader, int32_t vocabulary, struct step_result *result) {
    struct sampler_logprobs *logprobs = &result->logprobs;
    result->token = wire_get_within(reader, 0, vocabulary) - 1;
    int32_t count = wire_get_within(reader, 0, 1 + SAMPLING_LOGPROBS_MAX);
    result->has_logprobs = count > 0;
    if (!result->has_logprobs)
        return;
    logprobs->top_count = count - 1;
    logprobs->rank = wire_get(reader);
    logprobs->chosen.id = result->token;
    wire_get_bytes(reader, &logprobs->chosen.logprob, sizeof(double));
    for (int32_t i = 0; i < logprobs->top_count; i++) {
        logprobs->top[i].id = wire_get_within(reader, 0, vocabulary - 1);
        wire_get_bytes(reader, &logprobs->top[i].logprob, sizeof(double));
    }
}
