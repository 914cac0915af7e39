/* runtime/generation_service.c with engine_loop.c, generation_call.c and generation_request.c: the
 * whole server but its doors, over the demo model. Refusals name field, expected and got; answers
 * end as asked; whoever goes away frees what it held. (That answers do not depend on company is
 * tests/system/test_serving.c.) */
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/clock.h"
#include "tests/support/service_session.h"
#include "tests/unit/unit_test.h"

#define FOLDER "launcher/demo-moe"
#define PLACES 4
#define WAITING 3
#define POSITIONS 256

static struct service_session session;
static const char prompt_text[] = "It was a cold evening, and the old man";

static void open_session(void) {
    struct service_session_options options = {
        .folder = FOLDER, .places = PLACES, .waiting = WAITING, .rows = 32, .positions = POSITIONS};
    service_session_open(&session, &options);
}

static struct generation_request request(int32_t max_tokens) {
    struct generation_request request = generation_request_default();
    request.text = prompt_text;
    request.text_bytes = strlen(prompt_text);
    request.max_tokens = max_tokens;
    request.given = GENERATION_GIVEN_TEMPERATURE | GENERATION_GIVEN_SEED;
    request.ignore_eos = true;
    return request;
}

static void run(const struct generation_request *asked, struct service_answer *answer) {
    *answer = (struct service_answer){0};
    assert_int_equal(service_session_submit(&session, asked, answer), GENERATION_ERROR_NONE);
    service_session_finish(&session, answer);
    assert_int_equal(answer->violations, 0);
}

/* Until the engine is done with all that was asked of it. */
static void wait_idle(void) {
    for (int i = 0; i < 3000 && !generation_service_is_idle(session.service); i++) {
        poll(NULL, 0, 1);
        generation_service_poll(session.service);
    }
    assert_true(generation_service_is_idle(session.service));
}

/* ---- refusals ---- */

struct refusal {
    void (*change)(struct generation_request *request);
    enum generation_error error;
    const char *says;
};

static const int32_t bad_ids[] = {5, 4096};
static const char *const bad_stops[] = {"fine", ""};

static void ask_model(struct generation_request *r) {
    r->model = "other";
}
static void ask_id(struct generation_request *r) {
    r->request_id = "a b";
}
static void ask_temperature(struct generation_request *r) {
    r->sampling.temperature = -1.0f;
}
static void ask_logprobs(struct generation_request *r) {
    r->sampling.logprobs = 21;
}
static void ask_n(struct generation_request *r) {
    r->n = 8;
}
static void ask_zero(struct generation_request *r) {
    r->n = 0;
}
static void ask_max(struct generation_request *r) {
    r->max_tokens = 1000;
}
static void ask_min(struct generation_request *r) {
    r->min_tokens = 9;
}
static void ask_stop(struct generation_request *r) {
    r->stop = bad_stops, r->stop_count = 2;
}
static void ask_stop_id(struct generation_request *r) {
    r->stop_ids = bad_ids, r->stop_id_count = 2;
}
static void ask_two(struct generation_request *r) {
    r->ids = bad_ids, r->id_count = 1;
}
static void ask_ids(struct generation_request *r) {
    r->text = NULL, r->ids = bad_ids, r->id_count = 2;
}
static void ask_nothing(struct generation_request *r) {
    r->text = NULL;
}
static void ask_empty(struct generation_request *r) {
    r->text_bytes = 0;
}
static void ask_utf8(struct generation_request *r) {
    r->text = "a\xff", r->text_bytes = 2;
}
static void ask_huge(struct generation_request *r) {
    static char text[1 << 16];
    memset(text, 'a', sizeof text);
    r->text = text, r->text_bytes = sizeof text, r->truncate_prompt_tokens = 9;
}
static void ask_late(struct generation_request *r) {
    r->deadline_ns = 1;
}
static void ask_limit(struct generation_request *r) {
    r->time_limit_ns = -1;
}
static void ask_truncate(struct generation_request *r) {
    r->truncate_prompt_tokens = -2;
}

static const struct refusal refusals[] = {
    {ask_model, GENERATION_ERROR_NOT_FOUND, "model: expected 'test-model', got 'other'"},
    {ask_id, GENERATION_ERROR_INVALID, "request_id: expected printable ASCII"},
    {ask_temperature, GENERATION_ERROR_INVALID, "temperature: expected 0 to 1000, got -1"},
    {ask_logprobs, GENERATION_ERROR_INVALID, "logprobs: expected -1 to 20, got 21"},
    {ask_n, GENERATION_ERROR_INVALID, "n: expected 1 to 7, got 8"},
    {ask_zero, GENERATION_ERROR_INVALID, "n: expected 1 to 7, got 0"},
    {ask_max, GENERATION_ERROR_TOO_LONG, "max_tokens: expected at most"},
    {ask_min, GENERATION_ERROR_INVALID, "min_tokens: expected 0 to 8, got 9"},
    {ask_stop, GENERATION_ERROR_INVALID, "stop[1]: expected 1 to 1024 bytes, got 0"},
    {ask_stop_id, GENERATION_ERROR_INVALID, "stop_token_ids[1]: expected an id from 0 to 4095"},
    {ask_two, GENERATION_ERROR_INVALID, "prompt: expected one of text, token ids or messages"},
    {ask_ids, GENERATION_ERROR_INVALID, "prompt: token 1: expected an id from 0 to 4095, got 4096"},
    {ask_nothing, GENERATION_ERROR_INVALID, "got 0 of them"},
    {ask_empty, GENERATION_ERROR_INVALID, "prompt: expected 1 to 255 tokens"},
    {ask_utf8, GENERATION_ERROR_INVALID, "UTF-8"},
    {ask_huge, GENERATION_ERROR_TOO_LONG, "got 65536"},
    {ask_late, GENERATION_ERROR_DEADLINE, "deadline: expected one to come"},
    {ask_limit, GENERATION_ERROR_INVALID, "time_limit: expected 0 (none) or more"},
    {ask_truncate, GENERATION_ERROR_INVALID, "truncate_prompt_tokens: expected 0 to 255, got -2"},
};

static void refuses(void **state) {
    (void)state;
    open_session();
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        struct generation_request asked = request(8);
        struct service_answer answer = {0};
        refusals[i].change(&asked);
        assert_int_equal(service_session_submit(&session, &asked, &answer), refusals[i].error);
        if (strstr(answer.message.text, refusals[i].says) == NULL)
            fail_msg("refusal %zu: expected '%s', got '%s'", i, refusals[i].says,
                     answer.message.text);
        assert_null(answer.call);
    }
    assert_int_equal(metrics_count(session.metrics, METRICS_INVALID),
                     sizeof refusals / sizeof refusals[0]);
    assert_int_equal(generation_service_open(session.service), 0);
    service_session_close(&session);
}

/* A prompt that was encoded beforehand is answered as one that is encoded when it comes, and what
 * was wrong with it is said when it is submitted. */
static void encoded_before(void **state) {
    (void)state;
    static char words[8 * POSITIONS];
    struct generation_encoding encoding = {0};
    struct service_answer now, before;
    open_session();
    const struct generation_request_limits *limits =
        &generation_service_options(session.service)->limits;
    struct generation_request asked = request(8);
    asked.echo = true;
    run(&asked, &now);
    generation_request_encode(&asked, limits, &encoding);
    assert_int_equal(encoding.error, GENERATION_ERROR_NONE);
    asked.encoding = &encoding;
    run(&asked, &before);
    assert_true(service_answer_equal(&now, &before));
    assert_int_equal(before.prompt.count, now.prompt.count);
    service_answer_deinit(&now);
    service_answer_deinit(&before);
    token_list_deinit(&encoding.ids);

    for (size_t i = 0; i + 4 <= sizeof words; i += 4)
        memcpy(words + i, " sea", 4); /* a token each, twice as many as there are positions */
    asked.text = words;
    asked.text_bytes = sizeof words;
    encoding = (struct generation_encoding){0};
    generation_request_encode(&asked, limits, &encoding);
    assert_int_equal(encoding.error, GENERATION_ERROR_TOO_LONG);
    assert_in_range(encoding.ids.count, POSITIONS + 1, POSITIONS + 8); /* it ended early */
    assert_int_equal(service_session_submit(&session, &asked, &before), GENERATION_ERROR_TOO_LONG);
    assert_non_null(strstr(before.message.text, "prompt: expected 1 to 255 tokens"));
    assert_non_null(strstr(before.message.text, "got at least 25"));
    assert_int_equal(metrics_count(session.metrics, METRICS_INVALID), 1);
    token_list_deinit(&encoding.ids);

    encoding = (struct generation_encoding){0};
    asked.truncate_prompt_tokens = 9; /* the end counts: all of it is encoded */
    generation_request_encode(&asked, limits, &encoding);
    assert_int_equal(encoding.error, GENERATION_ERROR_NONE);
    assert_int_equal(encoding.ids.count, 9);
    token_list_deinit(&encoding.ids);
    service_session_close(&session);
}

/* Whoever comes by another door is the same client. */
static void clients(void **state) {
    (void)state;
    uint64_t one = generation_request_client("key:1");
    assert_true(one == generation_request_client("key:1"));
    assert_true(one != generation_request_client("key:2"));
    assert_true(generation_request_client("") != 0);
}

/* ---- ends ---- */

/* The text is that of prompt and answer together, less the prompt's. */
static void check_text(const struct service_answer *answer) {
    const struct service_choice *choice = &answer->choices[0];
    struct text_buffer text = {0};
    struct token_list all = {0};
    for (int64_t i = 0; i < answer->prompt.count; i++)
        assert_int_equal(token_list_append(&all, answer->prompt.ids[i]), STATUS_OK);
    for (int64_t i = 0; i < choice->ids.count; i++)
        assert_int_equal(token_list_append(&all, choice->ids.ids[i]), STATUS_OK);
    assert_int_equal(tokenizer_decode(session.tokenizer, all.ids, all.count, true, &text),
                     STATUS_OK);
    assert_int_equal(text.length, strlen(prompt_text) + choice->text.length);
    assert_memory_equal(text.data + strlen(prompt_text), choice->text.data, choice->text.length);
    text_buffer_deinit(&text);
    token_list_deinit(&all);
}

static void ends_by_length(void **state) {
    (void)state;
    struct service_answer whole;
    open_session();
    struct generation_request asked = request(40);
    run(&asked, &whole);
    assert_int_equal(whole.choices[0].end.finish, GENERATION_LENGTH);
    assert_int_equal(whole.choices[0].ids.count, 40);
    assert_int_equal(whole.usage.completion_tokens, 40);
    assert_int_equal(whole.usage.prompt_tokens, whole.prompt_tokens);
    assert_true(whole.usage.first_token_ns > 0);
    assert_true(whole.usage.total_ns >= whole.usage.first_token_ns);
    check_text(&whole);
    service_answer_deinit(&whole);
    service_session_close(&session);
}

static void ends_by_stop(void **state) {
    (void)state;
    struct service_answer whole, cut, included, by_id;
    open_session();
    struct generation_request asked = request(40);
    run(&asked, &whole);
    const struct service_choice *choice = &whole.choices[0];
    char stop[16] = {0};
    memcpy(stop, choice->text.data + choice->text.length / 2, 9);
    const char *stops[] = {"never said \x01", stop};
    asked.stop = stops;
    asked.stop_count = 2;
    run(&asked, &cut);
    assert_int_equal(cut.choices[0].end.finish, GENERATION_STOP_TEXT);
    assert_true(cut.choices[0].text.length <= choice->text.length / 2);
    assert_memory_equal(cut.choices[0].text.data, choice->text.data, cut.choices[0].text.length);
    asked.include_stop = true;
    run(&asked, &included);
    assert_int_equal(included.choices[0].text.length, cut.choices[0].text.length + 9);

    asked = request(40); /* a stop token is told, but is no part of the text */
    asked.stop_ids = &choice->ids.ids[20];
    asked.stop_id_count = 1;
    run(&asked, &by_id);
    assert_int_equal(by_id.choices[0].end.finish, GENERATION_STOP_TOKEN);
    assert_int_equal(by_id.choices[0].end.matched_id, choice->ids.ids[20]);
    assert_true(by_id.choices[0].ids.count <= 21);
    service_answer_deinit(&by_id);
    asked.min_tokens = 30; /* nor does it come before there are so many */
    run(&asked, &by_id);
    for (int32_t i = 0; i < 30; i++)
        assert_int_not_equal(by_id.choices[0].ids.ids[i], choice->ids.ids[20]);
    service_answer_deinit(&whole);
    service_answer_deinit(&cut);
    service_answer_deinit(&included);
    service_answer_deinit(&by_id);
    service_session_close(&session);
}

static void outputs(void **state) {
    (void)state;
    struct service_answer answer;
    open_session();
    struct generation_request asked = request(5);
    asked.echo = true;
    run(&asked, &answer);
    assert_memory_equal(answer.choices[0].text.data, prompt_text, strlen(prompt_text));
    service_answer_deinit(&answer);
    asked.no_text = true;
    run(&asked, &answer);
    assert_int_equal(answer.choices[0].text.length, 0);
    assert_int_equal(answer.choices[0].ids.count, 5);
    service_answer_deinit(&answer);
    service_session_close(&session);
}

static void times(void **state) {
    (void)state;
    struct service_answer answer;
    open_session();
    struct generation_request asked = request(200);
    asked.time_limit_ns = 3000000;
    run(&asked, &answer);
    assert_true(answer.done);
    assert_int_equal(answer.choices[0].end.finish, GENERATION_TIME_LIMIT);
    assert_true(answer.choices[0].ids.count < 200);
    service_answer_deinit(&answer);
    asked = request(200);
    asked.deadline_ns = clock_now_ns() + 3000000;
    run(&asked, &answer);
    assert_false(answer.done);
    assert_int_equal(answer.error, GENERATION_ERROR_DEADLINE);
    service_answer_deinit(&answer);
    wait_idle();
    service_session_close(&session);
}

static void chats(void **state) {
    (void)state;
    const struct chat_message messages[] = {{"user", "How many legs have two cows?"}};
    const struct chat_input input = {
        .messages = messages, .message_count = 1, .add_generation_prompt = true};
    struct service_answer answer, cut;
    open_session();
    struct generation_request asked = request(8);
    asked.text = NULL;
    asked.chat = &input;
    run(&asked, &answer);
    assert_int_equal(answer.choices[0].ids.count, 8);
    asked.truncate_prompt_tokens = 5;
    run(&asked, &cut);
    assert_int_equal(cut.prompt_tokens, 5);
    assert_memory_equal(cut.prompt.ids, answer.prompt.ids + answer.prompt_tokens - 5,
                        5 * sizeof(int32_t));
    service_answer_deinit(&answer);
    service_answer_deinit(&cut);
    service_session_close(&session);
}

/* n choices with a seed are those of n requests with the seeds that were told. */
static void several_choices(void **state) {
    (void)state;
    struct service_answer answer, alone;
    open_session();
    struct generation_request asked = request(20);
    asked.sampling.temperature = 1.0f;
    asked.sampling.seed = 11;
    asked.sampling.logprobs = 2;
    asked.n = 3;
    run(&asked, &answer);
    asked.n = 1;
    for (int32_t i = 0; i < 3; i++) {
        asked.sampling.seed = answer.choices[i].end.seed;
        run(&asked, &alone);
        assert_int_equal(alone.choices[0].text.length, answer.choices[i].text.length);
        assert_memory_equal(alone.choices[0].text.data, answer.choices[i].text.data,
                            alone.choices[0].text.length);
        assert_true(alone.choices[0].logprob_sum == answer.choices[i].logprob_sum);
        service_answer_deinit(&alone);
    }
    assert_int_equal(answer.choices[0].end.seed, 11);
    assert_int_equal(answer.usage.completion_tokens, 60);
    service_answer_deinit(&answer);
    service_session_close(&session);
}

/* ---- coming and going ---- */

static void full_queue(void **state) {
    (void)state;
    struct service_answer answers[PLACES + WAITING + 1] = {0};
    open_session();
    struct generation_request asked = request(200);
    for (int32_t i = 0; i < PLACES + WAITING; i++)
        assert_int_equal(service_session_submit(&session, &asked, &answers[i]),
                         GENERATION_ERROR_NONE);
    struct service_answer *last = &answers[PLACES + WAITING];
    int64_t start_ns = clock_now_ns();
    assert_int_equal(service_session_submit(&session, &asked, last), GENERATION_ERROR_FULL);
    assert_true(clock_now_ns() - start_ns < 50000000);
    assert_true(last->message.retry_after_ms > 0);
    assert_int_equal(metrics_count(session.metrics, METRICS_REJECTED), 1);
    asked.n = 2;
    assert_int_equal(service_session_submit(&session, &asked, last), GENERATION_ERROR_FULL);
    assert_non_null(strstr(last->message.text, "got 2 more beside"));
    asked.n = PLACES + WAITING + 1; /* never fits */
    assert_int_equal(service_session_submit(&session, &asked, last), GENERATION_ERROR_INVALID);
    assert_non_null(strstr(last->message.text, "n: expected 1 to "));
    asked.n = 1;
    asked.together = 3;
    assert_int_equal(service_session_submit(&session, &asked, last), GENERATION_ERROR_FULL);
    assert_non_null(strstr(last->message.text, "got 3 more beside"));
    asked.together = PLACES + WAITING + 1;
    assert_int_equal(service_session_submit(&session, &asked, last), GENERATION_ERROR_INVALID);
    assert_non_null(strstr(last->message.text, "choices of all prompts"));
    asked.together = 0;
    for (int32_t i = 0; i < PLACES + WAITING; i++)
        generation_service_cancel(answers[i].call);
    assert_int_equal(generation_service_open(session.service), 0);
    wait_idle();
    generation_service_poll(session.service);
    assert_int_equal(service_session_submit(&session, &asked, last), GENERATION_ERROR_NONE);
    generation_service_drain(session.service, false);
    assert_int_equal(generation_service_state(session.service), GENERATION_STATE_DRAINING);
    assert_int_equal(service_session_submit(&session, &asked, &answers[0]),
                     GENERATION_ERROR_UNAVAILABLE);
    service_session_finish(&session, last);
    assert_int_equal(last->choices[0].ids.count, 200);
    assert_int_equal(generation_service_state(session.service), GENERATION_STATE_DRAINED);
    assert_true(generation_service_resume(session.service));
    assert_int_equal(generation_service_state(session.service), GENERATION_STATE_SERVING);
    generation_service_drain(session.service, true);
    assert_false(generation_service_resume(session.service));
    assert_int_equal(generation_service_state(session.service), GENERATION_STATE_DRAINED);
    for (int32_t i = 0; i < PLACES + WAITING + 1; i++)
        service_answer_deinit(&answers[i]);
    service_session_close(&session);
}

/* Within a step: the tokens made after a cancel are those of the steps that it overlapped. */
static void cancels(void **state) {
    (void)state;
    struct service_answer answer = {.cancel_after = 3}, by_id = {0};
    open_session();
    struct generation_request asked = request(0); /* as many as fit */
    assert_int_equal(service_session_submit(&session, &asked, &answer), GENERATION_ERROR_NONE);
    service_session_finish(&session, &answer);
    int64_t tokens = metrics_count(session.metrics, METRICS_GENERATION_TOKENS);
    wait_idle();
    assert_true(metrics_count(session.metrics, METRICS_GENERATION_TOKENS) - tokens <= 2);
    assert_false(answer.done);
    assert_int_equal(answer.violations, 0);
    service_answer_deinit(&answer);

    asked.request_id = "mine";
    assert_int_equal(service_session_submit(&session, &asked, &by_id), GENERATION_ERROR_NONE);
    answer = (struct service_answer){0};
    assert_int_equal(service_session_submit(&session, &asked, &answer), GENERATION_ERROR_INVALID);
    while (by_id.deltas == 0)
        service_session_turn(&session);
    assert_int_equal(generation_service_abort(session.service, "other"), 0);
    assert_int_equal(generation_service_abort(session.service, "mine"), 1);
    service_session_finish(&session, &by_id);
    assert_true(by_id.done);
    assert_int_equal(by_id.choices[0].end.finish, GENERATION_ABORTED);
    service_answer_deinit(&by_id);
    service_session_close(&session);
}

/* What comes while nobody reads comes as one delta. */
static void pauses(void **state) {
    (void)state;
    struct service_answer paused = {0}, other;
    open_session();
    struct generation_request asked = request(50);
    assert_int_equal(service_session_submit(&session, &asked, &paused), GENERATION_ERROR_NONE);
    generation_service_pause(paused.call, true);
    asked.max_tokens = 60;
    run(&asked, &other);
    wait_idle();
    assert_int_equal(paused.starts + paused.deltas, 0);
    generation_service_pause(paused.call, false);
    service_session_finish(&session, &paused);
    assert_true(paused.done);
    assert_int_equal(paused.deltas, 1);
    assert_int_equal(paused.choices[0].ids.count, 50);
    assert_memory_equal(paused.choices[0].ids.ids, other.choices[0].ids.ids, 50 * sizeof(int32_t));
    service_answer_deinit(&paused);
    service_answer_deinit(&other);
    service_session_close(&session);
}

static void engine_ends(void **state) {
    (void)state;
    struct service_answer answers[PLACES + WAITING] = {0};
    open_session();
    struct generation_request asked = request(0);
    for (int32_t i = 0; i < PLACES + WAITING; i++)
        assert_int_equal(service_session_submit(&session, &asked, &answers[i]),
                         GENERATION_ERROR_NONE);
    service_session_stop(&session);
    assert_int_equal(session.ended, STATUS_OK);
    for (int32_t i = 0; i < PLACES + WAITING; i++) {
        service_session_finish(&session, &answers[i]);
        assert_int_equal(answers[i].error, GENERATION_ERROR_UNAVAILABLE);
        service_answer_deinit(&answers[i]);
    }
    assert_int_equal(generation_service_state(session.service), GENERATION_STATE_FAILED);
    assert_int_equal(service_session_submit(&session, &asked, &answers[0]),
                     GENERATION_ERROR_UNAVAILABLE);
    service_session_close(&session);
}

/* ---- calls that end each other ---- */

enum moment { AT_START, AT_DELTA, AT_ERROR, MOMENTS };

/* Some calls that one owner holds, as an HTTP request of several prompts does. */
struct call_family {
    enum moment moment;
    struct generation_call *calls[PLACES];
    bool over;
    int32_t late; /* callbacks after the end */
};

/* The owner gives up on all of them, and is gone: no callback may come. */
static void end_family(struct call_family *family, enum moment moment) {
    family->late += family->over;
    if (moment != family->moment || family->over)
        return;
    family->over = true;
    for (int32_t i = 0; i < PLACES; i++)
        generation_service_cancel(family->calls[i]);
}

static void family_start(void *context, const struct generation_start *start) {
    (void)start;
    end_family(context, AT_START);
}

static void family_delta(void *context, const struct generation_delta *delta) {
    (void)delta;
    end_family(context, AT_DELTA);
}

static void family_error(void *context, enum generation_error error, const char *message) {
    (void)message;
    assert_int_equal(error, GENERATION_ERROR_DEADLINE);
    end_family(context, AT_ERROR);
}

static void calls_end_each_other(void **state) {
    (void)state;
    open_session();
    for (int moment = 0; moment < MOMENTS; moment++) {
        struct call_family family = {.moment = (enum moment)moment};
        struct generation_listener listener = {.start = family_start,
                                               .delta = family_delta,
                                               .error = family_error,
                                               .context = &family};
        struct generation_request asked = request(moment == AT_ERROR ? 200 : 3);
        struct generation_message message;
        asked.deadline_ns = moment == AT_ERROR ? clock_now_ns() + 3000000 : 0;
        for (int32_t i = 0; i < PLACES; i++)
            assert_int_equal(generation_service_submit(session.service, &asked, &listener,
                                                       &family.calls[i], &message),
                             GENERATION_ERROR_NONE);
        poll(NULL, 0, 30); /* the engine is done with them, so that one poll sees all ends */
        wait_idle();
        assert_true(family.over);
        assert_int_equal(family.late, 0);
        assert_int_equal(generation_service_open(session.service), 0);
    }
    service_session_close(&session);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses),         cmocka_unit_test(encoded_before),
        cmocka_unit_test(clients),         cmocka_unit_test(ends_by_length),
        cmocka_unit_test(ends_by_stop),    cmocka_unit_test(outputs),
        cmocka_unit_test(times),           cmocka_unit_test(chats),
        cmocka_unit_test(several_choices), cmocka_unit_test(full_queue),
        cmocka_unit_test(cancels),         cmocka_unit_test(pauses),
        cmocka_unit_test(engine_ends),     cmocka_unit_test(calls_end_each_other)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
