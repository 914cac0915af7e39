/* Token counts of one sequence. sampler.c reads them through sampler_state_penalise; the engine
 * pushes what it emits and the tree verifier pushes and pops paths. */
#include "runtime/sampler_state.h"

#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "kernels/base/memory.h"

/* A cell of `cells` is an id's count in the output, with this bit set if the prompt holds it. */
#define PROMPT_BIT (UINT32_C(1) << 31)

/* `touched` lists the ids whose cell is not 0, in the order of their first token, so that the ids
 * that a pop takes away are at its end. */
struct sampler_state {
    int32_t vocabulary, capacity;
    int32_t prompt_count, output_count, touched_count;
    uint32_t *cells;  /* [vocabulary] */
    int32_t *touched; /* [min(vocabulary, capacity)] */
    int32_t *output;  /* [capacity] */
};

static struct sampler_state *lay_out(struct arena *arena, int32_t vocabulary, int32_t capacity) {
    size_t distinct = (size_t)(vocabulary < capacity ? vocabulary : capacity);
    struct sampler_state *state = arena_take(arena, sizeof(*state));
    uint32_t *cells = arena_take(arena, (size_t)vocabulary * sizeof(*cells));
    int32_t *touched = arena_take(arena, distinct * sizeof(*touched));
    int32_t *output = arena_take(arena, (size_t)capacity * sizeof(*output));
    if (!state)
        return NULL; /* measuring */
    *state = (struct sampler_state){.vocabulary = vocabulary,
                                    .capacity = capacity,
                                    .cells = cells,
                                    .touched = touched,
                                    .output = output};
    return state;
}

size_t sampler_state_bytes(int32_t vocabulary, int32_t token_capacity) {
    struct arena measure = {0};
    lay_out(&measure, vocabulary, token_capacity);
    return measure.used;
}

enum status sampler_state_create(int32_t vocabulary, int32_t token_capacity,
                                 struct sampler_state **state) {
    ASSERT(vocabulary > 0 && token_capacity > 0);
    size_t bytes = sampler_state_bytes(vocabulary, token_capacity);
    void *region = NULL;
    RETURN_IF_ERROR(memory_acquire("token counts of a sequence", bytes, &region));
    struct arena arena = {.base = region, .capacity = bytes};
    *state = lay_out(&arena, vocabulary, token_capacity);
    return STATUS_OK;
}

void sampler_state_destroy(struct sampler_state *state) {
    if (state)
        memory_release(state, sampler_state_bytes(state->vocabulary, state->capacity));
}

void sampler_state_reset(struct sampler_state *state) {
    for (int32_t i = 0; i < state->touched_count; i++)
        state->cells[state->touched[i]] = 0;
    state->touched_count = 0;
    state->prompt_count = 0;
    state->output_count = 0;
}

static enum status check_room(const struct sampler_state *state, const int32_t *ids,
                              int32_t count) {
    int32_t room = state->capacity - state->prompt_count - state->output_count;
    if (count > room) {
        LOG_ERROR("token counts of a sequence: expected at most %d tokens, got %lld",
                  state->capacity, (long long)state->capacity - room + count);
        return STATUS_LIMIT;
    }
    for (int32_t i = 0; i < count; i++) {
        if (ids[i] >= 0 && ids[i] < state->vocabulary)
            continue;
        LOG_ERROR("token counts of a sequence: expected a token id from 0 to %d, got %d",
                  state->vocabulary - 1, ids[i]);
        return STATUS_BAD_REQUEST;
    }
    return STATUS_OK;
}

static void touch(struct sampler_state *state, int32_t id) {
    if (state->cells[id] == 0)
        state->touched[state->touched_count++] = id;
}

enum status sampler_state_add_prompt(struct sampler_state *state, const int32_t *ids,
                                     int32_t count) {
    ASSERT(count >= 0 && state->output_count == 0);
    RETURN_IF_ERROR(check_room(state, ids, count));
    for (int32_t i = 0; i < count; i++) {
        touch(state, ids[i]);
        state->cells[ids[i]] |= PROMPT_BIT;
    }
    state->prompt_count += count;
    return STATUS_OK;
}

enum status sampler_state_push(struct sampler_state *state, int32_t id) {
    RETURN_IF_ERROR(check_room(state, &id, 1));
    touch(state, id);
    state->cells[id]++;
    state->output[state->output_count++] = id;
    return STATUS_OK;
}

void sampler_state_pop(struct sampler_state *state, int32_t count) {
    ASSERT(count >= 0 && count <= state->output_count);
    for (int32_t i = 0; i < count; i++) {
        int32_t id = state->output[--state->output_count];
        if (--state->cells[id] == 0)
            state->touched_count--; /* it was the last to be touched */
    }
}

int32_t sampler_state_output_count(const struct sampler_state *state) {
    return state->output_count;
}

int32_t sampler_state_count_of(const struct sampler_state *state, int32_t id) {
    ASSERT(id >= 0 && id < state->vocabulary);
    return (int32_t)(state->cells[id] & ~PROMPT_BIT);
}

bool sampler_state_in_prompt(const struct sampler_state *state, int32_t id) {
    ASSERT(id >= 0 && id < state->vocabulary);
    return (state->cells[id] & PROMPT_BIT) != 0;
}

void sampler_state_penalise(const struct sampler_state *state, const struct sampling_params *params,
                            int32_t first_id, int32_t count, float *logits) {
    for (int32_t i = 0; i < state->touched_count; i++) {
        int32_t id = state->touched[i];
        if (id < first_id || id - first_id >= count)
            continue;
        float *logit = &logits[id - first_id];
        /* both, so that no branch has to guess the sign */
        const float penalised[] = {*logit * params->repetition_penalty,
                                   *logit / params->repetition_penalty};
        *logit = penalised[*logit > 0];
        int32_t occurrences = sampler_state_count_of(state, id);
        if (occurrences == 0)
            continue;
        *logit -= params->frequency_penalty * (float)occurrences;
        *logit -= params->presence_penalty;
    }
}
