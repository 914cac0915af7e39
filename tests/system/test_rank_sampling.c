/* One request, one answer, wherever it is sampled: greedy and seeded requests with every
 * restriction, with penalties, biases, banned ids, log-probabilities of output and prompt, with
 * shared prompts and n answers, give the same tokens and log-probabilities alone on one rank and
 * all together on many ranks, with and without prefix cache, in small chunks, and when KV runs out
 * and requests have to begin again. Run by mpirun on any number of ranks, or alone. Usage:
 * test_rank_sampling FOLDER TENSOR_PARALLEL_SIZE (mpirun), or FOLDER alone
 *
 * The controls: the prefix cache was hit, requests were preempted, and another seed gives another
 * answer. */
#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"
#include "tests/support/engine_session.h"
#include "tests/support/expect.h"
#include "tests/support/fixture.h"

#define SUBJECTS 24
#define PROMPT_MAX 96
#define OUTPUT 20
#define POSITIONS (PROMPT_MAX + OUTPUT)
#define TIMEOUT_MS 60000 /* ranks share cores with whatever else runs */
#define STEPS_MAX 3000

struct subject {
    struct engine_request request;
    int32_t prompt[PROMPT_MAX];
    int32_t sibling; /* subject with the same prompt, submitted before; -1: none */
    struct engine_stream alone;
};

/* How the engine of many ranks runs them. */
struct manner {
    const char *label;
    int32_t rows, requests;
    int64_t kv_tokens; /* of a group; 0: enough for all */
    bool no_prefix_cache, at_once, preempts, hits;
};

static const struct manner manners[] = {
    {"one after the other", 256, 1, 0, true, false, false, false},
    {"all together", 256, SUBJECTS, 0, true, true, false, false},
    {"with the prefix cache", 256, 8, 0, false, true, false, true},
    {"in chunks of few rows", SUBJECTS, SUBJECTS, 0, true, true, false, false},
    {"in chunks, with the cache", 9, 8, 0, false, true, false, true},
    {"short of KV", 64, SUBJECTS, 2 * POSITIONS + 32, true, true, true, false},
    {"short of KV, with the cache", 64, SUBJECTS, 2 * POSITIONS + 32, false, true, true, true},
};

static struct subject subjects[SUBJECTS];

static void vary(struct engine_request *request, int32_t kind, int32_t vocabulary) {
    struct sampling_params *sampling = &request->sampling;
    bool penalties = kind == 2 || kind == 8 || kind == 9;
    sampling->temperature = kind == 0 || kind == 2 ? 0.0f : 0.9f;
    sampling->top_k = kind == 3 || kind == 6 ? 12 : 0;
    sampling->top_p = kind == 4 || kind == 6 || kind == 8 ? 0.8f : 1.0f;
    sampling->min_p = kind == 5 ? 0.05f : 0.0f;
    sampling->repetition_penalty = penalties ? 1.3f : 1.0f;
    sampling->frequency_penalty = penalties ? 0.4f : 0.0f;
    sampling->presence_penalty = kind == 9 ? 0.3f : 0.0f;
    sampling->logprobs = kind == 6 || kind == 10 || kind == 0 ? 5 : -1;
    if (kind == 7) {
        sampling->bias_count = 2;
        sampling->bias[0] = (struct sampling_bias){.id = 11, .bias = 4.0f};
        sampling->bias[1] = (struct sampling_bias){.id = vocabulary - 1, .bias = 5.0f};
        sampling->banned_count = 1;
        sampling->banned[0] = 12;
        request->min_tokens = 5;
        request->ignore_eos = false;
    }
    request->prompt_logprobs = kind == 10 || kind == 11;
    request->prompt_logprob_top = kind == 11 ? 3 : 0;
}

/* Most prompts begin with the same 70 tokens, so that the cache has something to give, also to
 * requests with penalties. */
static void make_subjects(const struct model_spec *spec) {
    for (int32_t i = 0; i < SUBJECTS; i++) {
        struct subject *subject = &subjects[i];
        *subject = (struct subject){.sibling = i >= 20 ? i - 1 : -1};
        int32_t count = i % 4 == 3 ? 5 + i : 70 + i % 20, own = i % 4 == 3 ? 0 : 65;
        fixture_random_tokens(31, spec->vocabulary, PROMPT_MAX, subject->prompt);
        fixture_random_tokens(500u + (uint64_t)i, spec->vocabulary, PROMPT_MAX - own,
                              subject->prompt + own);
        subject->request = (struct engine_request){.prompt = subject->prompt,
                                                   .prompt_count = count,
                                                   .max_tokens = OUTPUT - i % 5,
                                                   .ignore_eos = true,
                                                   .priority = i % 3,
                                                   .client = (uint64_t)i % 4,
                                                   .sampling = sampling_params_default()};
        subject->request.sampling.seed = 900u + (uint64_t)i;
        vary(&subject->request, i % 12, spec->vocabulary);
        if (subject->sibling < 0)
            continue; /* three more answers to the prompt of subject 19, with other seeds */
        memcpy(subject->prompt, subjects[i - 1].prompt, sizeof subject->prompt);
        subject->request.prompt_count = subjects[i - 1].request.prompt_count;
    }
}

static struct engine_options options_of(const char *folder, const struct rank_group *ranks,
                                        const struct manner *manner) {
    return (struct engine_options){.model_folder = folder,
                                   .dtype = ENGINE_DTYPE_F32,
                                   .isa = cpu_isa_best(),
                                   .threads = 2,
                                   .positions = POSITIONS,
                                   .requests = manner->requests,
                                   .waiting = SUBJECTS,
                                   .rows = manner->rows,
                                   .kv_tokens = manner->kv_tokens,
                                   .no_prefix_cache = manner->no_prefix_cache,
                                   .verify_ranks = true,
                                   .ranks = ranks};
}

/* ---- answers ---- */

static bool same_ids(const struct engine_stream *a, const struct engine_stream *b) {
    return a->count == b->count && a->finish == b->finish &&
           memcmp(a->ids, b->ids, sizeof a->ids[0] * (size_t)a->count) == 0;
}

static bool same_numbers(const struct engine_stream *a, const struct engine_stream *b) {
    size_t tokens = (size_t)a->count, scored = (size_t)a->prompt_scored + 1;
    return a->prompt_scored == b->prompt_scored &&
           memcmp(a->logprobs, b->logprobs, sizeof a->logprobs[0] * tokens) == 0 &&
           memcmp(a->prompt_logprobs, b->prompt_logprobs, sizeof a->prompt_logprobs[0] * scored) ==
               0 &&
           memcmp(a->top, b->top, sizeof a->top[0] * tokens) == 0;
}

static void compare(int32_t i, const struct engine_stream *stream, const char *label) {
    const struct subject *subject = &subjects[i];
    const struct engine_stream *alone = &subject->alone;
    EXPECT(stream->count > 0 && same_ids(alone, stream), "subject %d: another answer, %s", i,
           label);
    EXPECT(same_numbers(alone, stream), "subject %d: other log-probabilities, %s", i, label);
    int32_t scored = subject->request.prompt_logprobs ? subject->request.prompt_count - 1 : 0;
    EXPECT(stream->prompt_scored == scored, "subject %d: %d prompt positions, %s", i,
           stream->prompt_scored, label);
}

/* What must be, wherever it was computed. */
static void check_alone(void) {
    for (int32_t i = 0; i < SUBJECTS; i++) {
        const struct engine_stream *alone = &subjects[i].alone;
        bool wants = subjects[i].request.sampling.logprobs >= 0;
        EXPECT(alone->count > 0 && (alone->logprobs[0] < 0.0) == wants,
               "subject %d: log-probabilities", i);
        EXPECT(i % 12 != 7 || alone->count > 5, "subject %d: min_tokens", i);
        for (int32_t t = 0; i % 12 == 7 && t < alone->count; t++)
            EXPECT(alone->ids[t] != 12, "subject %d: a banned id", i);
    }
    EXPECT(!same_ids(&subjects[19].alone, &subjects[20].alone), "the seed does not matter");
}

/* ---- runs ---- */

static void run_alone(const char *folder) {
    static const struct manner one = {.rows = 256, .requests = 1, .no_prefix_cache = true};
    struct engine_session session;
    struct engine_options options = options_of(folder, NULL, &one);
    engine_session_open(&session, &options);
    make_subjects(engine_spec(session.engine));
    for (int32_t i = 0; i < SUBJECTS; i++)
        engine_session_run(&session, &subjects[i].request, &subjects[i].alone);
    engine_session_close(&session);
    check_alone();
}

static void submit(struct engine_session *session, int32_t i, const struct manner *manner,
                   struct engine_stream *stream, int32_t *handles) {
    struct engine_request request = subjects[i].request;
    if (manner->at_once && subjects[i].sibling >= 0) {
        request.shares_prompt = true;
        request.sibling = handles[subjects[i].sibling];
    }
    enum status status = engine_session_submit(session, &request, stream, &handles[i]);
    EXPECT(status == STATUS_OK, "subject %d: %s", i, status_name(status));
}

static void run_all(struct engine_session *session, const struct manner *manner,
                    struct engine_stream *streams) {
    int32_t handles[SUBJECTS], steps = 0;
    memset(streams, 0, sizeof *streams * SUBJECTS);
    for (int32_t i = 0; i < SUBJECTS; i++) {
        submit(session, i, manner, &streams[i], handles);
        while ((!manner->at_once || i == SUBJECTS - 1) && engine_running(session->engine) > 0 &&
               steps++ < STEPS_MAX)
            EXPECT(engine_session_step(session) == STATUS_OK, "a step failed");
    }
    EXPECT(steps < STEPS_MAX, "it does not end, %s", manner->label);
    EXPECT(session->violations == 0, "%d violations", session->violations);
}

static void check_stats(const struct engine_session *session, const struct manner *manner) {
    struct engine_stats stats;
    engine_stats(session->engine, &stats);
    EXPECT(!manner->preempts || stats.preemptions > 0, "nothing was preempted, %s", manner->label);
    EXPECT((stats.prefix_hit_tokens > 0) == manner->hits, "%lld tokens from the cache, %s",
           (long long)stats.prefix_hit_tokens, manner->label);
    EXPECT(stats.kv_blocks_used == 0 && stats.running + stats.waiting == 0, "something is left");
    printf("%s: %lld steps, %lld rows, %lld from the cache, %lld preempted\n", manner->label,
           (long long)stats.steps, (long long)stats.rows, (long long)stats.prefix_hit_tokens,
           (long long)stats.preemptions);
}

static void run_manner(const char *folder, const struct rank_group *ranks,
                       const struct manner *manner) {
    static struct engine_stream streams[SUBJECTS];
    struct engine_session session;
    struct engine_options options = options_of(folder, ranks, manner);
    engine_session_open(&session, &options);
    if (ranks->rank > 0) {
        EXPECT(engine_serve(session.engine, NULL) == STATUS_OK, "rank %d failed", ranks->rank);
    } else {
        run_all(&session, manner, streams);
        for (int32_t i = 0; i < SUBJECTS; i++)
            compare(i, &streams[i], manner->label);
        check_stats(&session, manner);
        EXPECT(engine_stop(session.engine) == STATUS_OK, "the ranks do not stop");
    }
    engine_session_close(&session);
}

int main(int argc, char **argv) {
    log_setup(LOG_LEVEL_ERROR, 0);
    if (argc != 3) {
        fprintf(stderr, "usage: test_rank_sampling FOLDER TENSOR_PARALLEL_SIZE|alone\n");
        return 2;
    }
    struct rank_group ranks;
    bool launched = strcmp(argv[2], "alone") != 0;
    int32_t tensor = launched ? (int32_t)strtol(argv[2], NULL, 10) : 1;
    const struct rank_group_options join = {
        .under_launcher = launched, .timeout_ms = TIMEOUT_MS, .command = "test_rank_sampling"};
    if (rank_group_start(&join, &ranks) != STATUS_OK ||
        rank_group_shape(&ranks, tensor, 0) != STATUS_OK)
        return 1;
    log_setup(LOG_LEVEL_ERROR, ranks.rank);
    if (ranks.rank == 0)
        run_alone(argv[1]);
    for (int32_t i = 0; i < (int32_t)(sizeof manners / sizeof manners[0]); i++)
        run_manner(argv[1], &ranks, &manners[i]);
    if (expect_failures > 0)
        rank_group_abort(&ranks, 1);
    rank_group_finish(&ranks);
    return 0;
}
