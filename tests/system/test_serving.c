/* One request, one answer, through everything but the doors: 64 requests of all kinds at once
 * (greedy and seeded, n = 3, stop strings, stop tokens, logprobs, echo, slow readers, some
 * cancelled midway) give exactly what each gives alone: ids, text, log-probabilities, ends. Few
 * places and a small KV cache, so that most wait, prompts are found in the prefix cache, and some
 * lose their blocks. Usage: test_serving FOLDER
 *
 * The control: another seed gives another answer. */
#include <stdbool.h>
#include <string.h>

#include "kernels/base/log.h"
#include "tests/support/expect.h"
#include "tests/support/service_session.h"

#define REQUESTS 64
#define PLACES 12
#define POSITIONS 256
#define KV_TOKENS (2 * POSITIONS)

static const char *const prompts[] = {
    "It was a cold evening, and the old man",
    "It was a cold evening, and the old man sat by the fire with his dog and thought of the sea",
    "Once there was a girl who lived near the wood. Every morning she",
    "How many legs have two cows and a hen?",
    "The",
};
static const char *const stops[] = {" the", "ed", "\n"};

struct subject {
    struct generation_request request;
    struct service_answer alone, crowded;
    int32_t cancel_after;
};

static struct subject subjects[REQUESTS];

static void make_subject(int32_t i, struct subject *subject) {
    struct generation_request *request = &subject->request;
    *request = generation_request_default();
    request->text = prompts[i % 5];
    request->text_bytes = strlen(request->text);
    request->max_tokens = 8 + i % 7 * 12;
    request->ignore_eos = i % 3 != 0;
    request->given = GENERATION_GIVEN_SEED;
    request->sampling.seed = 1000u + (uint64_t)i / 2;
    if (i % 4 == 0)
        request->given |= GENERATION_GIVEN_TEMPERATURE; /* greedy; others as the model says */
    request->sampling.logprobs = i % 5 == 1 ? 3 : -1;
    request->prompt_logprobs = i % 16 == 11 ? 2 : -1;
    request->n = i % 9 == 4 ? 3 : 1;
    request->echo = i % 11 == 3;
    request->include_stop = i % 2 == 0;
    request->min_tokens = i % 6 == 5 ? 5 : 0;
    request->stream_interval = i % 8 == 7 ? 5 : 0;
    request->priority = i % 13 == 6 ? -1 : 0;
    request->client = (uint64_t)i % 3;
    if (i % 4 == 2) {
        request->stop = stops;
        request->stop_count = 1 + i % 3;
    }
    if (i % 7 == 5) {
        request->sampling.frequency_penalty = 0.4f;
        request->sampling.presence_penalty = 0.2f;
    }
    subject->cancel_after = i % 10 == 8 ? 2 + i % 5 : 0;
}

static void run_alone(struct service_session *session, struct subject *subject) {
    enum generation_error error =
        service_session_submit(session, &subject->request, &subject->alone);
    EXPECT(error == GENERATION_ERROR_NONE, "alone: %s", subject->alone.message.text);
    service_session_finish(session, &subject->alone);
}

/* All at once; a few readers do not read for a while. */
static void run_crowd(struct service_session *session) {
    for (int32_t i = 0; i < REQUESTS; i++) {
        struct subject *subject = &subjects[i];
        subject->crowded.cancel_after = subject->cancel_after;
        enum generation_error error =
            service_session_submit(session, &subject->request, &subject->crowded);
        EXPECT(error == GENERATION_ERROR_NONE, "crowded: %s", subject->crowded.message.text);
        if (i % 16 == 1)
            generation_service_pause(subject->crowded.call, true);
    }
    for (int32_t i = 0; i < REQUESTS; i++)
        if (i % 16 != 1)
            service_session_finish(session, &subjects[i].crowded);
    for (int32_t i = 1; i < REQUESTS; i += 16) {
        generation_service_pause(subjects[i].crowded.call, false);
        service_session_finish(session, &subjects[i].crowded);
    }
}

/* A cancelled answer is the beginning of the whole one. */
static bool is_beginning(const struct service_answer *part, const struct service_answer *whole) {
    for (int32_t c = 0; c < SERVICE_CHOICES_MAX; c++) {
        const struct service_choice *a = &part->choices[c], *b = &whole->choices[c];
        if (a->ids.count > b->ids.count || a->text.length > b->text.length)
            return false;
        if (a->ids.count > 0 &&
            memcmp(a->ids.ids, b->ids.ids, sizeof *a->ids.ids * (size_t)a->ids.count) != 0)
            return false;
        if (a->text.length > 0 && memcmp(a->text.data, b->text.data, a->text.length) != 0)
            return false;
    }
    return true;
}

static void compare(void) {
    int32_t stopped = 0, cancelled = 0;
    for (int32_t i = 0; i < REQUESTS; i++) {
        const struct subject *subject = &subjects[i];
        EXPECT(subject->crowded.violations == 0 && subject->alone.violations == 0,
               "request %d: %d callbacks out of order", i, subject->crowded.violations);
        bool same = subject->crowded.done ? service_answer_equal(&subject->alone, &subject->crowded)
                                          : is_beginning(&subject->crowded, &subject->alone);
        EXPECT(same, "request %d: another answer in the crowd", i);
        EXPECT(subject->crowded.done || subject->cancel_after > 0, "request %d: not done", i);
        cancelled += !subject->crowded.done;
        stopped += subject->alone.choices[0].end.finish == GENERATION_STOP_TEXT;
    }
    EXPECT(stopped > 0 && cancelled > 0, "%d stopped, %d cancelled: both should be some", stopped,
           cancelled);
}

/* What makes the comparison worth something. */
static void check_control(struct service_session *session) {
    struct service_answer other = {0};
    struct generation_request request = subjects[1].request;
    request.sampling.seed++;
    EXPECT(service_session_submit(session, &request, &other) == GENERATION_ERROR_NONE, "control");
    service_session_finish(session, &other);
    EXPECT(!service_answer_equal(&other, &subjects[1].alone), "another seed, the same answer");
    service_answer_deinit(&other);
}

static void check_metrics(const struct service_session *session) {
    const struct metrics *metrics = session->metrics;
    EXPECT(metrics_count(metrics, METRICS_PREFIX_CACHE_HITS) > 0, "no prefix was found");
    EXPECT(metrics_count(metrics, METRICS_PREEMPTIONS) > 0, "nobody lost its blocks");
    printf("%lld tokens in %lld steps, %lld preemptions, %lld of %lld prompt tokens cached\n",
           (long long)metrics_count(metrics, METRICS_GENERATION_TOKENS),
           (long long)metrics_count(metrics, METRICS_STEPS),
           (long long)metrics_count(metrics, METRICS_PREEMPTIONS),
           (long long)metrics_count(metrics, METRICS_PREFIX_CACHE_HITS),
           (long long)metrics_count(metrics, METRICS_PREFIX_CACHE_QUERIES));
}

int main(int argc, char **argv) {
    if (argc != 2) {
        printf("usage: test_serving FOLDER\n");
        return 1;
    }
    log_setup(LOG_LEVEL_WARN, 0);
    struct service_session session;
    struct service_session_options options = {.folder = argv[1],
                                              .places = PLACES,
                                              .waiting = 2 * REQUESTS,
                                              .rows = 48,
                                              .positions = POSITIONS,
                                              .kv_tokens = KV_TOKENS};
    service_session_open(&session, &options);
    for (int32_t i = 0; i < REQUESTS; i++) {
        make_subject(i, &subjects[i]);
        run_alone(&session, &subjects[i]);
    }
    run_crowd(&session);
    compare();
    check_control(&session);
    check_metrics(&session);
    for (int32_t i = 0; i < REQUESTS; i++) {
        service_answer_deinit(&subjects[i].alone);
        service_answer_deinit(&subjects[i].crowded);
    }
    service_session_close(&session);
    return expect_failures == 0 ? 0 : 1;
}
