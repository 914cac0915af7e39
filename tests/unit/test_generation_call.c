/* runtime/generation_call.c: the prompt's log-probabilities are whole when the listener gets them,
 * whichever choice is the first to have a token. */
#include <math.h>

#include "runtime/generation_call.h"
#include "tests/unit/unit_test.h"

#define PROMPT_TOKENS 3

/* What the listener has heard. */
struct heard {
    int32_t starts, deltas, ends, dones;
    double logprobs[PROMPT_TOKENS];
    int32_t ids[PROMPT_TOKENS];
};

static void hear_start(void *context, const struct generation_start *start) {
    struct heard *heard = context;
    heard->starts++;
    for (int32_t i = 0; i < PROMPT_TOKENS; i++) {
        heard->logprobs[i] = start->prompt_logprobs[i].logprob;
        heard->ids[i] = start->prompt_logprobs[i].id;
    }
}

static void hear_delta(void *context, const struct generation_delta *delta) {
    (void)delta;
    ((struct heard *)context)->deltas++;
}

static void hear_end(void *context, const struct generation_end_of_choice *end) {
    (void)end;
    ((struct heard *)context)->ends++;
}

static void hear_done(void *context, const struct generation_usage *usage) {
    (void)usage;
    ((struct heard *)context)->dones++;
}

/* A call with two choices of one token each. */
struct session {
    struct heard heard;
    struct generation *generation;
    struct generation_call *call;
    struct metrics *metrics;
    struct text_buffer text;
    struct generation_call_tools tools;
};

static void begin(struct session *session) {
    int32_t prompt[PROMPT_TOKENS] = {4, 5, 6};
    struct generation like = {.n = 2,
                              .max_tokens = 1,
                              .prompt = prompt,
                              .prompt_count = PROMPT_TOKENS,
                              .prompt_logprobs = 0,
                              .sampling = sampling_params_default()};
    struct generation_request request = generation_request_default();
    struct generation_listener listener = {.start = hear_start,
                                           .delta = hear_delta,
                                           .end = hear_end,
                                           .done = hear_done,
                                           .context = &session->heard};
    *session = (struct session){.generation = NULL};
    assert_int_equal(metrics_create(1, &session->metrics), STATUS_OK);
    assert_int_equal(generation_create(&like, &session->generation), STATUS_OK);
    assert_int_equal(
        generation_call_create(&request, &listener, NULL, session->generation, &session->call),
        STATUS_OK);
    session->tools =
        (struct generation_call_tools){.metrics = session->metrics, .text = &session->text};
}

static void end(struct session *session) {
    generation_call_destroy(session->call);
    metrics_destroy(session->metrics);
    text_buffer_deinit(&session->text);
}

static void publish(struct session *session, int32_t choice) {
    struct generation_token token = {.id = 7, .finish = GENERATION_LENGTH, .now_ns = 1};
    generation_publish(session->generation, choice, &token);
    generation_call_deliver(session->call, &session->tools);
}

static void later_choices_wait_for_the_prompt(void **state) {
    (void)state;
    struct session session;
    begin(&session);
    publish(&session, 1);
    assert_int_equal(session.heard.starts + session.heard.deltas + session.heard.ends, 0);
    for (int32_t i = 1; i < PROMPT_TOKENS; i++) {
        struct sampler_logprobs logprobs = {.chosen = {4 + i, -0.25 * i}, .rank = 1};
        generation_set_prompt_logprob(session.generation, i, &logprobs);
    }
    publish(&session, 0);
    assert_int_equal(session.heard.starts, 1);
    assert_int_equal(session.heard.deltas, 2);
    assert_int_equal(session.heard.ends, 2);
    assert_int_equal(session.heard.dones, 1);
    assert_true(isnan(session.heard.logprobs[0]));
    assert_true(session.heard.logprobs[1] == -0.25 && session.heard.logprobs[2] == -0.5);
    end(&session);
}

/* Ended from outside before the prompt was through: its tokens, without values. */
static void ended_prompts_have_no_values(void **state) {
    (void)state;
    struct session session;
    begin(&session);
    generation_end(session.generation, 0, GENERATION_ABORTED);
    generation_end(session.generation, 1, GENERATION_ABORTED);
    generation_call_deliver(session.call, &session.tools);
    assert_int_equal(session.heard.starts, 1);
    assert_int_equal(session.heard.dones, 1);
    for (int32_t i = 0; i < PROMPT_TOKENS; i++) {
        assert_int_equal(session.heard.ids[i], 4 + i);
        assert_true(isnan(session.heard.logprobs[i]));
    }
    end(&session);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(later_choices_wait_for_the_prompt),
        cmocka_unit_test(ended_prompts_have_no_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
