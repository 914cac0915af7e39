/* runtime/engine.c: who is admitted, when a request ends, what min_tokens and ignore_eos mean, and
 * that a refused, cancelled or failing request disturbs nobody. On a golden checkpoint, and on a
 * model of 40 ids without weights. (That answers do not depend on company is
 * tests/system/test_engine_crowd.c.) */
#define _XOPEN_SOURCE 700

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"
#include "tests/support/engine_session.h"
#include "tests/support/fixture.h"
#include "tests/unit/unit_test.h"

#include "tests/unit/scratch.h"

#define FOLDER "tests/data/golden/qwen3_moe"
#define POSITIONS 96
#define PROMPT 7

static const int32_t prompt_ids[POSITIONS] = {5, 17, 99, 200, 3, 44, 310};
static struct engine_session session;

static struct engine_options options(void) {
    return (struct engine_options){.model_folder = FOLDER,
                                   .isa = cpu_isa_best(),
                                   .threads = 1,
                                   .positions = POSITIONS,
                                   .requests = 3,
                                   .rows = 16};
}

static struct engine_request request(int32_t max_tokens) {
    struct engine_request request = {.prompt = prompt_ids,
                                     .prompt_count = PROMPT,
                                     .max_tokens = max_tokens,
                                     .ignore_eos = true,
                                     .sampling = sampling_params_default()};
    request.sampling.temperature = 1.0f;
    request.sampling.seed = 4;
    return request;
}

static void open_default(void) {
    struct engine_options chosen = options();
    engine_session_open(&session, &chosen);
}

static void close_session(void) {
    assert_int_equal(session.violations, 0);
    engine_session_close(&session);
}

static void run_all(void) {
    while (engine_running(session.engine) > 0)
        assert_int_equal(engine_session_step(&session), STATUS_OK);
}

/* ---- ends ---- */

struct length_case {
    int32_t prompt_count, max_tokens, expected;
};

static void lengths(void **state) {
    (void)state;
    static const struct length_case cases[] = {{1, 1, 1},
                                               {PROMPT, 20, 20},
                                               {1, INT32_MAX, POSITIONS - 1},
                                               {POSITIONS - 2, 100, 2},
                                               {POSITIONS - 1, 100, 1}};
    struct engine_options chosen = options();
    chosen.all_logits = true;
    engine_session_open(&session, &chosen);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct engine_stream stream = {0};
        struct engine_request asked = request(cases[i].max_tokens);
        asked.prompt_count = cases[i].prompt_count;
        asked.all_logits = true;
        engine_session_run(&session, &asked, &stream);
        assert_int_equal(stream.count, cases[i].expected);
        assert_int_equal(stream.finish, ENGINE_LENGTH);
        assert_int_equal(stream.logit_rows, cases[i].prompt_count + stream.count - 1);
        assert_int_equal(stream.logit_position, cases[i].prompt_count + stream.count - 2);
    }
    close_session();
}

static bool is_end(int32_t id) {
    const struct model_spec *spec = engine_spec(session.engine);
    for (int32_t i = 0; i < spec->eos_count; i++)
        if (spec->eos_ids[i] == id)
            return true;
    return false;
}

/* A request whose every free choice is an end token. */
static struct engine_request eager(int32_t min_tokens) {
    const struct model_spec *spec = engine_spec(session.engine);
    struct engine_request asked = request(12);
    asked.ignore_eos = false;
    asked.min_tokens = min_tokens;
    asked.sampling.bias_count = spec->eos_count;
    for (int32_t i = 0; i < spec->eos_count; i++)
        asked.sampling.bias[i] = (struct sampling_bias){spec->eos_ids[i], 100.0f};
    return asked;
}

static void check_min_tokens(const char *folder) {
    struct engine_options chosen = options();
    chosen.model_folder = folder;
    engine_session_open(&session, &chosen);
    assert_true(engine_spec(session.engine)->eos_count > 0);
    for (int32_t min_tokens = 0; min_tokens <= 12; min_tokens += 3) {
        struct engine_stream stream = {0};
        struct engine_request asked = eager(min_tokens);
        engine_session_run(&session, &asked, &stream);
        for (int32_t i = 0; i < stream.count; i++)
            assert_int_equal(is_end(stream.ids[i]), i == min_tokens);
        assert_int_equal(stream.count, min_tokens < 12 ? min_tokens + 1 : 12);
        assert_int_equal(stream.finish, min_tokens < 12 ? ENGINE_EOS : ENGINE_LENGTH);
    }
    struct engine_stream stream = {0};
    struct engine_request asked = eager(4);
    asked.ignore_eos = true; /* end tokens come, and end nothing */
    engine_session_run(&session, &asked, &stream);
    assert_int_equal(stream.count, 12);
    assert_int_equal(stream.finish, ENGINE_LENGTH);
    for (int32_t i = 0; i < stream.count; i++)
        assert_int_equal(is_end(stream.ids[i]), i >= 4);
    close_session();
}

static void min_tokens_bans_end_tokens(void **state) {
    (void)state;
    check_min_tokens(FOLDER);
    check_min_tokens("launcher/demo-moe"); /* has two */
}

/* Stop ids are the caller's to act on; the engine keeps them away while min_tokens are missing. */
static void min_tokens_bans_stop_ids(void **state) {
    (void)state;
    static const int32_t stops[] = {200, 201};
    open_default();
    struct engine_stream stream = {0}, none = {0};
    struct engine_request asked = request(9);
    asked.ignore_eos = true;
    asked.min_tokens = 4;
    asked.stop_ids = stops;
    asked.stop_id_count = 2;
    asked.sampling.bias_count = 2;
    asked.sampling.bias[0] = (struct sampling_bias){200, 100.0f};
    asked.sampling.bias[1] = (struct sampling_bias){201, 100.0f};
    asked.sampling.banned_count = 1;
    asked.sampling.banned[0] = 201;
    engine_session_run(&session, &asked, &stream);
    assert_int_equal(stream.count, 9);
    for (int32_t i = 0; i < stream.count; i++) {
        assert_int_equal(stream.ids[i] == 200, i >= 4);
        assert_int_not_equal(stream.ids[i], 201);
    }
    int32_t wrong = engine_spec(session.engine)->vocabulary, handle;
    asked.stop_ids = &wrong;
    asked.stop_id_count = 1;
    struct capture capture;
    capture_begin(&capture);
    enum status status = engine_session_submit(&session, &asked, &none, &handle);
    capture_end(&capture);
    assert_int_equal(status, STATUS_BAD_REQUEST);
    capture_has(&capture, "stop id", "stop_token_ids[0]: expected an id from 0 to ");
    close_session();
}

/* A full list of banned ids and min_tokens: the end tokens need places of their own. */
static void banned_lists(void **state) {
    (void)state;
    open_default();
    int32_t eos_count = engine_spec(session.engine)->eos_count, handle;
    struct engine_stream stream = {0}, none = {0};
    struct engine_request asked = eager(5);
    for (int32_t i = 0; i < SAMPLING_BANNED_MAX; i++)
        asked.sampling.banned[i] = 100 + i;
    asked.sampling.banned_count = SAMPLING_BANNED_MAX - eos_count;
    engine_session_run(&session, &asked, &stream);
    assert_int_equal(stream.count, 6);
    for (int32_t i = 0; i < 6; i++) {
        assert_int_equal(is_end(stream.ids[i]), i == 5);
        assert_false(stream.ids[i] >= 100 && stream.ids[i] < 100 + asked.sampling.banned_count);
    }
    asked.sampling.banned_count++;
    struct capture capture;
    capture_begin(&capture);
    enum status status = engine_session_submit(&session, &asked, &none, &handle);
    capture_end(&capture);
    assert_int_equal(status, STATUS_BAD_REQUEST);
    capture_has(&capture, "banned", "sampling parameter banned count: expected at most 127 ");
    capture_has(&capture, "banned", "got 128");
    asked.min_tokens = 0;
    stream = (struct engine_stream){0};
    engine_session_run(&session, &asked, &stream);
    assert_int_equal(stream.count, 1);
    close_session();
}

/* ---- admission ---- */

/* Three run, two wait, the sixth is refused; who waits runs when a place is free, and a cancelled
 * request's handle is free at once. */
static void a_full_engine(void **state) {
    (void)state;
    struct engine_options chosen = options();
    chosen.waiting = 2;
    engine_session_open(&session, &chosen);
    struct engine_stream streams[7];
    int32_t handles[7] = {0};
    memset(streams, 0, sizeof streams);
    struct engine_request asked = request(10);
    for (int32_t i = 0; i < 5; i++) {
        if (i == 2) /* no more can wait before some run */
            assert_int_equal(engine_session_submit(&session, &asked, &streams[5], &handles[5]),
                             STATUS_LIMIT);
        if (i == 2 || i == 3)
            assert_int_equal(engine_session_step(&session), STATUS_OK);
        assert_int_equal(engine_session_submit(&session, &asked, &streams[i], &handles[i]),
                         STATUS_OK);
    }
    handles[5] = 77;
    assert_int_equal(engine_session_submit(&session, &asked, &streams[5], &handles[5]),
                     STATUS_LIMIT);
    assert_int_equal(handles[5], 77);
    struct engine_stats stats;
    engine_stats(session.engine, &stats);
    assert_int_equal(stats.running, 3);
    assert_int_equal(stats.waiting, 2);
    assert_int_equal(engine_running(session.engine), 5);
    assert_true(stats.kv_blocks_used > 0 && stats.kv_blocks_used < stats.kv_blocks);
    engine_session_cancel(&session, handles[1]);
    assert_int_equal(engine_running(session.engine), 4);
    assert_int_equal(engine_session_step(&session), STATUS_OK);
    engine_stats(session.engine, &stats);
    assert_int_equal(stats.running, 3);
    assert_int_equal(stats.waiting, 1);
    assert_int_equal(engine_session_submit(&session, &asked, &streams[5], &handles[5]), STATUS_OK);
    run_all();
    for (int32_t i = 0; i < 6; i++) {
        if (i == 1)
            continue;
        assert_int_equal(streams[i].count, 10);
        assert_memory_equal(streams[i].ids, streams[0].ids, sizeof(int32_t) * 10);
    }
    engine_stats(session.engine, &stats);
    assert_int_equal(stats.kv_blocks_used, 0);
    assert_int_equal(stats.running + stats.waiting, 0);
    close_session();
}

struct bad_case {
    const char *label, *field, *expected, *got;
    void (*spoil)(struct engine_request *request);
};

static int32_t bad_prompt[PROMPT];

static void no_prompt(struct engine_request *r) {
    r->prompt_count = 0;
}
static void long_prompt(struct engine_request *r) {
    r->prompt_count = POSITIONS;
}
static void negative_id(struct engine_request *r) {
    bad_prompt[PROMPT - 1] = -1;
    r->prompt = bad_prompt;
}
static void large_id(struct engine_request *r) {
    bad_prompt[PROMPT - 1] = 512;
    r->prompt = bad_prompt;
}
static void no_tokens(struct engine_request *r) {
    r->max_tokens = 0;
}
static void negative_min(struct engine_request *r) {
    r->min_tokens = -1;
}
static void large_min(struct engine_request *r) {
    r->min_tokens = 11;
}
static void all_logits(struct engine_request *r) {
    r->all_logits = true;
}
static void temperature(struct engine_request *r) {
    r->sampling.temperature = -0.5f;
}
static void top_p(struct engine_request *r) {
    r->sampling.top_p = 1.5f;
}
static void bias_id(struct engine_request *r) {
    r->sampling.bias_count = 1;
    r->sampling.bias[0].id = 512;
}
static void logprobs(struct engine_request *r) {
    r->sampling.logprobs = 21;
}

static const struct bad_case bad[] = {
    {"no prompt", "prompt", "expected 1 to 95 tokens", "got 0", no_prompt},
    {"long prompt", "prompt", "expected 1 to 95 tokens", "got 96", long_prompt},
    {"negative id", "prompt: token 6", "an id from 0 to 511", "got -1", negative_id},
    {"large id", "prompt: token 6", "an id from 0 to 511", "got 512", large_id},
    {"max_tokens", "max_tokens", "expected at least 1", "got 0", no_tokens},
    {"negative min_tokens", "min_tokens", "expected 0 to max_tokens (10)", "got -1", negative_min},
    {"large min_tokens", "min_tokens", "expected 0 to max_tokens (10)", "got 11", large_min},
    {"all_logits", "all_logits", "expected false", "got true", all_logits},
    {"temperature", "temperature", "expected 0 to 1000", "got -0.5", temperature},
    {"top_p", "top_p", "expected 0 to 1", "got 1.5", top_p},
    {"logit_bias", "logit_bias[0]", "a token id from 0 to 511", "got 512", bias_id},
    {"logprobs", "logprobs", "expected -1 to 20", "got 21", logprobs},
};
#define BAD (sizeof bad / sizeof bad[0])

/* One bad request before each step of a good one: all are refused by name, and the good one says
 * what it says alone. */
static void bad_requests(void **state) {
    (void)state;
    open_default();
    struct engine_stream alone = {0}, stream = {0}, none = {0};
    struct engine_request good = request(BAD);
    int32_t handle, other = 77;
    engine_session_run(&session, &good, &alone);
    assert_int_equal(engine_session_submit(&session, &good, &stream, &handle), STATUS_OK);
    for (size_t i = 0; i < BAD; i++) {
        struct engine_request spoilt = request(10);
        struct capture capture;
        bad[i].spoil(&spoilt);
        capture_begin(&capture);
        enum status status = engine_session_submit(&session, &spoilt, &none, &other);
        capture_end(&capture);
        if (status != STATUS_BAD_REQUEST)
            fail_msg("%s: status %s", bad[i].label, status_name(status));
        capture_has(&capture, bad[i].label, bad[i].field);
        capture_has(&capture, bad[i].label, bad[i].expected);
        capture_has(&capture, bad[i].label, bad[i].got);
        assert_int_equal(capture_lines(&capture), 1);
        assert_int_equal(other, 77);
        assert_int_equal(engine_running(session.engine), 1);
        assert_int_equal(engine_session_step(&session), STATUS_OK);
    }
    run_all();
    assert_int_equal(stream.count, alone.count);
    assert_memory_equal(stream.ids, alone.ids, sizeof(int32_t) * (size_t)alone.count);
    close_session();
}

/* ---- steps ---- */

/* Long prompts take what decoding leaves: a running request gets its token in every step. */
static void decoding_does_not_wait(void **state) {
    (void)state;
    open_default();
    struct engine_stream running = {0}, longer[2];
    memset(longer, 0, sizeof longer);
    struct engine_request asked = request(30), prompt = request(1);
    int32_t handle;
    prompt.prompt_count = 80;
    assert_int_equal(engine_session_submit(&session, &asked, &running, &handle), STATUS_OK);
    assert_int_equal(engine_session_step(&session), STATUS_OK);
    for (int32_t i = 0; i < 2; i++)
        assert_int_equal(engine_session_submit(&session, &prompt, &longer[i], &handle), STATUS_OK);
    for (int32_t step = 1; step <= 12; step++) {
        assert_int_equal(running.count, step);
        assert_int_equal(engine_session_step(&session), STATUS_OK);
        assert_in_range(engine_batch(session.engine)->rows, 1, 16);
    }
    assert_int_equal(longer[0].count + longer[1].count, 2); /* 160 rows at 15 a step */
    run_all();
    close_session();
}

static void all_logits_are_heard(void **state) {
    (void)state;
    struct engine_options chosen = options();
    chosen.all_logits = true;
    engine_session_open(&session, &chosen);
    struct engine_stream all = {0}, few = {0};
    struct engine_request asked = request(5);
    int32_t handle;
    asked.prompt_count = 40;
    assert_int_equal(engine_session_submit(&session, &asked, &few, &handle), STATUS_OK);
    asked.all_logits = true;
    assert_int_equal(engine_session_submit(&session, &asked, &all, &handle), STATUS_OK);
    run_all();
    assert_int_equal(few.logit_rows, 0);
    assert_int_equal(all.logit_rows, 44);
    assert_int_equal(all.logit_position, 43);
    assert_memory_equal(all.ids, few.ids, sizeof(int32_t) * 5);
    close_session();
}

static void nothing_to_do(void **state) {
    (void)state;
    open_default();
    assert_int_equal(engine_session_step(&session), STATUS_OK);
    struct engine_stream stream = {0};
    struct engine_request asked = request(5);
    int32_t handle;
    assert_int_equal(engine_session_submit(&session, &asked, &stream, &handle), STATUS_OK);
    engine_session_cancel(&session, handle); /* before its first step */
    engine_cancel(session.engine, handle);   /* twice is once */
    assert_int_equal(engine_session_step(&session), STATUS_OK);
    assert_int_equal(engine_running(session.engine), 0);
    assert_int_equal(stream.count, 0);
    close_session();
}

/* ---- memory ---- */

/* Every call of our own code comes through here (the linker's --wrap). */
static int64_t allocations;

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *memory, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *memory, size_t bytes);

void *__wrap_malloc(size_t bytes) {
    allocations++;
    return __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes) {
    allocations++;
    return __real_calloc(count, bytes);
}

void *__wrap_realloc(void *memory, size_t bytes) {
    allocations++;
    return __real_realloc(memory, bytes);
}

/* Requests of every kind begin, run and end; nothing is taken in any step. */
static void steps_take_no_memory(void **state) {
    (void)state;
    struct engine_options chosen = options();
    chosen.all_logits = true;
    int64_t before = allocations;
    engine_session_open(&session, &chosen);
    assert_true(allocations > before); /* the control: they are counted */
    struct engine_stream streams[3];
    memset(streams, 0, sizeof streams);
    for (int32_t i = 0; i < 3; i++) {
        struct engine_request asked = request(8 + i);
        int32_t handle;
        asked.prompt_count = 30;
        asked.all_logits = i == 1;
        asked.prompt_logprobs = i == 2;
        asked.sampling.logprobs = i;
        asked.sampling.top_p = i == 0 ? 0.9f : 1.0f;
        asked.sampling.presence_penalty = i == 1 ? 0.5f : 0.0f;
        assert_int_equal(engine_session_submit(&session, &asked, &streams[i], &handle), STATUS_OK);
    }
    before = allocations;
    run_all();
    assert_int_equal(allocations, before);
    assert_int_equal(streams[2].prompt_scored, 29);
    close_session();
}

/* ---- a model of 40 ids, so that all of them can be banned ---- */

static const char tiny_config[] =
    "{\"model_type\": \"llama\", \"architectures\": [\"LlamaForCausalLM\"], \"vocab_size\": 40,"
    "\"hidden_size\": 32, \"intermediate_size\": 48, \"num_hidden_layers\": 2,"
    "\"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"max_position_embeddings\": 128,"
    "\"hidden_act\": \"silu\", \"rms_norm_eps\": 1e-5, \"torch_dtype\": \"float32\"}";

/* A request without a choice fails alone: the others' tokens are as without it. */
static void a_failing_request(void **state) {
    (void)state;
    struct scratch scratch;
    scratch_create(&scratch);
    scratch_write(&scratch, "config.json", tiny_config, sizeof tiny_config - 1);
    struct engine_options chosen = options();
    chosen.model_folder = scratch.folder;
    chosen.dummy_weights = true;
    engine_session_open(&session, &chosen);
    int32_t prompt[PROMPT], handle;
    fixture_random_tokens(5, 40, PROMPT, prompt);
    struct engine_request good = request(9);
    good.prompt = prompt;
    struct engine_request failing = good;
    failing.sampling.banned_count = 40;
    for (int32_t i = 0; i < 40; i++)
        failing.sampling.banned[i] = i;
    struct engine_stream alone = {0}, before = {0}, after = {0}, failed = {0};
    engine_session_run(&session, &good, &alone);
    assert_int_equal(engine_session_submit(&session, &good, &before, &handle), STATUS_OK);
    assert_int_equal(engine_session_submit(&session, &failing, &failed, &handle), STATUS_OK);
    good.prompt_count = PROMPT;
    int32_t last;
    assert_int_equal(engine_session_submit(&session, &good, &after, &last), STATUS_OK);
    struct capture capture;
    capture_begin(&capture);
    enum status first = engine_session_step(&session), second = engine_session_step(&session);
    capture_end(&capture);
    /* 16 rows: two prompts in the first step, the rest of the third in the second. */
    assert_int_equal(first, STATUS_OK);
    assert_int_equal(second, STATUS_OK);
    assert_int_equal(capture_lines(&capture), 1);
    assert_int_equal(engine_running(session.engine), 2);
    run_all();
    assert_int_equal(before.count, 9);
    assert_int_equal(after.count, 9);
    assert_memory_equal(before.ids, alone.ids, sizeof(int32_t) * 9);
    assert_memory_equal(after.ids, alone.ids, sizeof(int32_t) * 9);
    assert_int_equal(failed.count, 0);
    assert_int_equal(failed.finish, ENGINE_FAILED);
    close_session();
    scratch_destroy(&scratch);
}

/* ---- start ---- */

static void refuses_to_start(const struct engine_options *chosen, enum status status,
                             const char *part) {
    struct engine *engine = NULL;
    struct capture capture;
    capture_begin(&capture);
    enum status got = engine_create(chosen, &engine);
    capture_end(&capture);
    assert_int_equal(got, status);
    assert_null(engine);
    capture_has(&capture, "start", part);
    assert_int_equal(capture_lines(&capture), 1);
}

static void starts(void **state) {
    (void)state;
    struct engine_options chosen = options();
    chosen.positions = 50000;
    refuses_to_start(&chosen, STATUS_USAGE, "--max-model-len: expected at most 40960 (the model's");
    chosen = options();
    chosen.model_folder = "tests/data/golden/none";
    refuses_to_start(&chosen, STATUS_IO, "tests/data/golden/none/config.json");
    chosen = options();
    chosen.positions = 40960;
    chosen.requests = chosen.rows = 1 << 20;
    refuses_to_start(&chosen, STATUS_NO_MEMORY, "KV cache: expected at most 2147483647 blocks");
    chosen.requests = chosen.rows = 1 << 19; /* some 400 TiB of keys and values */
    refuses_to_start(&chosen, STATUS_NO_MEMORY, "memory plan: expected at most ");
    engine_destroy(NULL);

    chosen = options();
    chosen.positions = 0; /* as long as the model, or 8192 */
    engine_session_open(&session, &chosen);
    assert_int_equal(engine_positions(session.engine), 8192);
    assert_int_equal(engine_dtype_used(session.engine), DTYPE_BF16); /* as stored */
    close_session();
    chosen.model_folder = "launcher/demo-moe";
    chosen.dtype = ENGINE_DTYPE_F32;
    engine_session_open(&session, &chosen);
    assert_int_equal(engine_positions(session.engine), 2048);
    assert_int_equal(engine_dtype_used(session.engine), DTYPE_F32);
    close_session();
}

int main(void) {
    log_setup(LOG_LEVEL_ERROR, 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lengths),
        cmocka_unit_test(min_tokens_bans_end_tokens),
        cmocka_unit_test(min_tokens_bans_stop_ids),
        cmocka_unit_test(banned_lists),
        cmocka_unit_test(a_full_engine),
        cmocka_unit_test(bad_requests),
        cmocka_unit_test(decoding_does_not_wait),
        cmocka_unit_test(all_logits_are_heard),
        cmocka_unit_test(nothing_to_do),
        cmocka_unit_test(steps_take_no_memory),
        cmocka_unit_test(a_failing_request),
        cmocka_unit_test(starts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
