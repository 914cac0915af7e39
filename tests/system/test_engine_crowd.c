/* One request, one answer: the ids and log-probabilities of greedy and sampled requests are the
 * same alone and in a crowd of others that come, go and are cancelled, at any number of rows a step
 * and any number of threads. Usage: test_engine_crowd FOLDER...
 *
 * The control: another seed gives another answer. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"
#include "tests/support/engine_session.h"
#include "tests/support/expect.h"
#include "tests/support/fixture.h"

#define SUBJECTS 5
#define OTHERS_MAX 31
#define PROMPT_MAX 140
#define OUTPUT 24
#define POSITIONS (PROMPT_MAX + 2 * OUTPUT)
#define STEPS_MAX 3000

struct subject {
    struct engine_request request;
    int32_t prompt[PROMPT_MAX];
    struct engine_stream alone; /* the answer that all others are held against */
};

static struct subject subjects[SUBJECTS];
static int64_t answers_compared;

static void make_subjects(const struct model_spec *spec) {
    static const int32_t prompt_counts[SUBJECTS] = {5, PROMPT_MAX, 40, 17, 1};
    for (int32_t i = 0; i < SUBJECTS; i++) {
        struct subject *subject = &subjects[i];
        memset(subject, 0, sizeof *subject);
        fixture_random_tokens(700u + (uint64_t)i, spec->vocabulary, prompt_counts[i],
                              subject->prompt);
        subject->request = (struct engine_request){.prompt = subject->prompt,
                                                   .prompt_count = prompt_counts[i],
                                                   .max_tokens = OUTPUT,
                                                   .ignore_eos = i != 2,
                                                   .sampling = sampling_params_default()};
        struct sampling_params *sampling = &subject->request.sampling;
        sampling->seed = 90u + (uint64_t)i;
        sampling->logprobs = i % 2 == 0 ? 3 : -1;
        sampling->temperature = i == 0 ? 0.0f : 0.8f + 0.1f * (float)i;
        subject->request.min_tokens = i == 2 ? 6 : 0;
    }
    subjects[2].request.sampling.top_p = 0.9f;
    subjects[2].request.sampling.top_k = 100;
    subjects[3].request.sampling.repetition_penalty = 1.3f;
    subjects[3].request.sampling.frequency_penalty = 0.4f;
    subjects[3].request.sampling.presence_penalty = 0.3f;
    subjects[4].request.sampling.min_p = 0.02f;
    subjects[4].request.sampling.bias_count = 1;
    subjects[4].request.sampling.bias[0] = (struct sampling_bias){.id = 11, .bias = 3.0f};
}

static struct engine_options options_of(const char *folder, int32_t rows, int32_t threads,
                                        int32_t requests) {
    return (struct engine_options){.model_folder = folder,
                                   .isa = cpu_isa_best(),
                                   .threads = threads,
                                   .positions = POSITIONS,
                                   .requests = requests,
                                   .rows = rows};
}

static bool same_answer(const struct engine_stream *a, const struct engine_stream *b) {
    return a->count == b->count && a->finish == b->finish &&
           memcmp(a->ids, b->ids, sizeof a->ids[0] * (size_t)a->count) == 0 &&
           memcmp(a->logprobs, b->logprobs, sizeof a->logprobs[0] * (size_t)a->count) == 0;
}

static void compare(int32_t subject, const struct engine_stream *stream, const char *what,
                    int32_t rows, int32_t threads) {
    answers_compared++;
    EXPECT(same_answer(&subjects[subject].alone, stream),
           "subject %d: another answer %s, %d rows a step, %d threads", subject, what, rows,
           threads);
}

static void run_alone(const char *folder, int32_t rows, int32_t threads, bool first) {
    struct engine_session session;
    struct engine_options options = options_of(folder, rows, threads, 1);
    engine_session_open(&session, &options);
    for (int32_t i = 0; i < SUBJECTS; i++) {
        struct engine_stream stream = {0};
        engine_session_run(&session, &subjects[i].request, &stream);
        EXPECT(stream.count > 0 && stream.finish != ENGINE_RUNNING, "subject %d: no answer", i);
        if (first)
            subjects[i].alone = stream;
        else
            compare(i, &stream, "alone", rows, threads);
    }
    EXPECT(session.violations == 0, "%d violations", session.violations);
    engine_session_close(&session);
}

/* ---- the crowd ---- */

struct other {
    struct engine_stream stream;
    int32_t handle;
    bool running;
};

struct crowd {
    struct engine_session session;
    struct other others[OTHERS_MAX];
    struct engine_stream streams[SUBJECTS];
    bool submitted[SUBJECTS];
    int32_t others_max, came, cancelled;
    uint64_t random;
};

static int32_t draw(struct crowd *crowd, int32_t range) {
    crowd->random = crowd->random * 6364136223846793005u + 1442695040888963407u;
    return (int32_t)((crowd->random >> 33) % (uint64_t)range);
}

/* Comes with a prompt, parameters and an end of its own; some cancel themselves. */
static void submit_other(struct crowd *crowd, struct other *other) {
    int32_t prompt[PROMPT_MAX], count = 1 + draw(crowd, draw(crowd, 4) == 0 ? PROMPT_MAX : 20);
    const struct model_spec *spec = engine_spec(crowd->session.engine);
    fixture_random_tokens(10000u + (uint64_t)crowd->came, spec->vocabulary, count, prompt);
    struct engine_request request = {.prompt = prompt,
                                     .prompt_count = count,
                                     .max_tokens = 1 + draw(crowd, OUTPUT),
                                     .sampling = sampling_params_default()};
    request.sampling.temperature = (float)draw(crowd, 3);
    request.sampling.seed = (uint64_t)crowd->came;
    request.sampling.presence_penalty = draw(crowd, 3) == 0 ? 0.5f : 0.0f;
    *other = (struct other){.running = true};
    other->stream.cancel_at = draw(crowd, 6);
    EXPECT(engine_session_submit(&crowd->session, &request, &other->stream, &other->handle) ==
               STATUS_OK,
           "one of the crowd is refused");
    crowd->came++;
}

static void move_crowd(struct crowd *crowd) {
    for (int32_t i = 0; i < crowd->others_max; i++) {
        struct other *other = &crowd->others[i];
        other->running = other->running && !other->stream.ended;
        if (!other->running &&
            engine_running(crowd->session.engine) < crowd->others_max + SUBJECTS &&
            draw(crowd, 2) == 0)
            submit_other(crowd, other);
        else if (other->running && draw(crowd, 40) == 0) {
            engine_session_cancel(&crowd->session, other->handle);
            crowd->cancelled++;
        }
    }
}

static void submit_subjects(struct crowd *crowd, int32_t step) {
    static const int32_t starts[SUBJECTS] = {0, 1, 4, 9, 13};
    int32_t handle;
    for (int32_t i = 0; i < SUBJECTS; i++) {
        if (crowd->submitted[i] || step < starts[i])
            continue;
        enum status status = engine_session_submit(&crowd->session, &subjects[i].request,
                                                   &crowd->streams[i], &handle);
        /* A cancelled request keeps its place until the next step. */
        EXPECT(status == STATUS_OK || status == STATUS_LIMIT, "subject %d: refused", i);
        crowd->submitted[i] = status == STATUS_OK;
    }
}

static bool subjects_have_ended(const struct crowd *crowd) {
    for (int32_t i = 0; i < SUBJECTS; i++)
        if (!crowd->streams[i].ended)
            return false;
    return true;
}

static void run_in_crowd(const char *folder, int32_t rows, int32_t threads) {
    static struct crowd crowd;
    memset(&crowd, 0, sizeof crowd);
    crowd.random = (uint64_t)rows * 8 + (uint64_t)threads;
    crowd.others_max = rows - SUBJECTS < OTHERS_MAX ? rows - SUBJECTS : OTHERS_MAX;
    struct engine_options options = options_of(folder, rows, threads, crowd.others_max + SUBJECTS);
    engine_session_open(&crowd.session, &options);
    int32_t step = 0;
    for (; step < STEPS_MAX && !subjects_have_ended(&crowd); step++) {
        submit_subjects(&crowd, step);
        move_crowd(&crowd);
        EXPECT(engine_session_step(&crowd.session) == STATUS_OK, "a step failed");
    }
    for (int32_t i = 0; i < SUBJECTS; i++)
        compare(i, &crowd.streams[i], "in a crowd", rows, threads);
    EXPECT(crowd.session.violations == 0, "%d violations", crowd.session.violations);
    EXPECT(crowd.came > crowd.others_max, "only %d others came", crowd.came);
    EXPECT(crowd.cancelled > 0, "no other was cancelled");
    printf("%s: %d rows, %d threads: %d others, %d of them cancelled, %d steps\n", folder, rows,
           threads, crowd.came, crowd.cancelled, step);
    engine_session_close(&crowd.session);
}

static void control(const char *folder) {
    struct engine_session session;
    struct engine_options options = options_of(folder, 64, 1, 1);
    engine_session_open(&session, &options);
    for (int32_t i = 1; i < SUBJECTS; i++) {
        struct engine_stream stream = {0};
        struct engine_request request = subjects[i].request;
        request.sampling.seed += 1000;
        engine_session_run(&session, &request, &stream);
        EXPECT(!same_answer(&subjects[i].alone, &stream), "subject %d: the seed does not matter",
               i);
    }
    engine_session_close(&session);
}

static void check_folder(const char *folder) {
    static const int32_t row_counts[] = {512, 1, 7, 16, 64};
    struct engine_session session;
    struct engine_options options = options_of(folder, 1, 1, 1);
    engine_session_open(&session, &options);
    make_subjects(engine_spec(session.engine));
    engine_session_close(&session);
    for (size_t r = 0; r < sizeof row_counts / sizeof row_counts[0]; r++)
        for (int32_t threads = 1; threads <= 3; threads++) {
            run_alone(folder, row_counts[r], threads, r == 0 && threads == 1);
            if (row_counts[r] > SUBJECTS)
                run_in_crowd(folder, row_counts[r], threads);
        }
    control(folder);
}

int main(int argc, char **argv) {
    log_setup(LOG_LEVEL_ERROR, 0);
    if (argc < 2) {
        fprintf(stderr, "usage: test_engine_crowd FOLDER...\n");
        return 2;
    }
    for (int i = 1; i < argc; i++)
        check_folder(argv[i]);
    printf("%lld answers compared\n", (long long)answers_compared);
    return expect_failures == 0 ? 0 : 1;
}
