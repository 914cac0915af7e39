/* runtime/generation.c: what one thread publishes the other reads whole and in order, a generation
 * is listed once however often it changes, and is freed exactly once. */
#include <pthread.h>
#include <string.h>

#include "runtime/generation.h"
#include "tests/unit/unit_test.h"

#define CHOICES 3
#define TOKENS 2000
#define GENERATIONS 50

static const int32_t prompt[] = {4, 5, 6};

static struct generation *make(int32_t logprobs) {
    struct generation like = {.n = CHOICES,
                              .max_tokens = TOKENS,
                              .prompt_count = 3,
                              .prompt_logprobs = -1,
                              .sampling = sampling_params_default()};
    int32_t copy[3];
    memcpy(copy, prompt, sizeof copy);
    like.prompt = copy;
    like.sampling.seed = 77;
    like.sampling.logprobs = logprobs;
    struct generation *generation = NULL;
    assert_int_equal(generation_create(&like, &generation), STATUS_OK);
    assert_memory_equal(generation->prompt, prompt, sizeof prompt);
    return generation;
}

static int32_t id_at(int32_t choice, int32_t place) {
    return choice * 100000 + place * 7;
}

static void publish(struct generation *generation, int32_t choice, int32_t place,
                    enum generation_finish finish) {
    struct sampler_logprobs logprobs = {.chosen = {id_at(choice, place), -0.5},
                                        .rank = 1,
                                        .top_count = generation->sampling.logprobs,
                                        .top = {{1, -0.1}, {place, -0.2}}};
    struct generation_token token = {.id = id_at(choice, place),
                                     .finish = finish,
                                     .logprobs =
                                         generation->sampling.logprobs >= 0 ? &logprobs : NULL,
                                     .now_ns = 1000 + place};
    generation_publish(generation, choice, &token);
}

static void seeds(void **state) {
    (void)state;
    struct generation *generation = make(-1);
    assert_int_equal(generation->choices[0].seed, 77);
    for (int32_t i = 1; i < CHOICES; i++) {
        assert_int_equal(generation->choices[i].seed, generation_seed(77, i));
        assert_true(generation_seed(77, i) != generation_seed(77, i - 1));
    }
    assert_true(generation_seed(77, 1) != generation_seed(78, 1));
    generation_destroy(generation);
    generation_destroy(NULL);
}

static void reads_what_was_published(void **state) {
    (void)state;
    struct generation *generation = make(2);
    for (int32_t place = 0; place < TOKENS; place++)
        publish(generation, 1, place, place == TOKENS - 1 ? GENERATION_LENGTH : GENERATION_RUNNING);
    struct generation_progress progress = generation_read(&generation->choices[1]);
    assert_int_equal(progress.tokens, TOKENS);
    assert_int_equal(progress.finish, GENERATION_LENGTH);
    for (int32_t place = 0; place < TOKENS; place++) {
        const struct generation_logprob *logprob = &generation->choices[1].logprobs[place];
        assert_int_equal(generation->choices[1].ids[place], id_at(1, place));
        assert_int_equal(logprob->id, id_at(1, place));
        assert_int_equal(logprob->top_count, 2);
        assert_int_equal(logprob->top[1].id, place);
    }
    assert_int_equal(generation->choices[1].first_token_ns, 1000);
    assert_int_equal(generation->choices[1].last_token_ns, 1000 + TOKENS - 1);
    generation_end(generation, 0, GENERATION_ABORTED);
    progress = generation_read(&generation->choices[0]);
    assert_int_equal(progress.tokens, 0);
    assert_int_equal(progress.finish, GENERATION_ABORTED);
    assert_int_equal(generation->unfinished, 1);
    generation_destroy(generation);
}

static void listed_once(void **state) {
    (void)state;
    struct generation_list list;
    assert_int_equal(generation_list_init(&list), STATUS_OK);
    struct generation *a = make(-1), *b = make(-1);
    generation_list_push(&list, a, false);
    generation_list_push(&list, b, false);
    generation_list_push(&list, a, true);
    struct generation *taken = generation_list_take(&list);
    assert_ptr_equal(taken, a);
    assert_ptr_equal(a->next_listed, b);
    assert_null(b->next_listed);
    assert_null(generation_list_take(&list));
    assert_true(generation_unlist(a));
    assert_false(generation_unlist(b));
    generation_list_push(&list, b, true);
    assert_ptr_equal(generation_list_take(&list), b);
    assert_true(generation_unlist(b));
    generation_destroy(a);
    generation_destroy(b);
    generation_list_deinit(&list);
}

struct race {
    struct generation_list list;
    struct generation *generations[GENERATIONS];
};

/* As the engine thread: a token for every choice of every generation a step. */
static void *engine_side(void *context) {
    struct race *race = context;
    for (int32_t place = 0; place < TOKENS; place++) {
        for (int32_t g = 0; g < GENERATIONS; g++) {
            bool last = place == TOKENS - 1 - g; /* they end at different times */
            if (place > TOKENS - 1 - g)
                continue;
            for (int32_t choice = 0; choice < CHOICES; choice++)
                publish(race->generations[g], choice, place,
                        last ? GENERATION_LENGTH : GENERATION_RUNNING);
            generation_list_push(&race->list, race->generations[g], last);
        }
        generation_list_wake(&race->list);
    }
    return NULL;
}

static void two_threads(void **state) {
    (void)state;
    static struct race race;
    static int32_t seen[GENERATIONS][CHOICES];
    assert_int_equal(generation_list_init(&race.list), STATUS_OK);
    for (int32_t g = 0; g < GENERATIONS; g++) {
        race.generations[g] = make(g % 2 == 0 ? 1 : -1);
        race.generations[g]->owner = &seen[g];
    }
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, engine_side, &race), 0);
    int32_t over = 0;
    while (over < GENERATIONS) {
        struct generation *generation = generation_list_take(&race.list), *next;
        for (; generation != NULL; generation = next) {
            next = generation->next_listed;
            bool done = generation_unlist(generation);
            int32_t *read = generation->owner;
            for (int32_t choice = 0; choice < CHOICES; choice++) {
                struct generation_progress progress = generation_read(&generation->choices[choice]);
                assert_true(progress.tokens >= read[choice]);
                for (; read[choice] < progress.tokens; read[choice]++)
                    assert_int_equal(generation->choices[choice].ids[read[choice]],
                                     id_at(choice, read[choice]));
                assert_true(!done || progress.finish == GENERATION_LENGTH);
            }
            if (done) {
                over++;
                generation_destroy(generation);
            }
        }
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    for (int32_t g = 0; g < GENERATIONS; g++)
        for (int32_t choice = 0; choice < CHOICES; choice++)
            assert_int_equal(seen[g][choice], TOKENS - g);
    generation_list_deinit(&race.list);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seeds), cmocka_unit_test(reads_what_was_published),
        cmocka_unit_test(listed_once), cmocka_unit_test(two_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
