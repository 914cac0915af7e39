/* moebius generate against what Hugging Face computed from the same files: the demo model's and
 * stories260K's texts, ids, logits and expert choices, through the real binary. Usage:
 * test_cli_golden MOEBIUS */
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/safetensors.h"
#include "tests/support/expect.h"
#include "tests/support/program_json.h"

#define STORIES "tests/data/golden/stories260K"
#define DEMO "tests/data/demo-moe"
#define LOGIT_MAX 2e-3
#define WEIGHT_MAX 1e-3

/* Prompts whose smallest margin between best and second logit is below what f32 can tell apart:
 * left out as the demo model's README says. */
static bool is_near_tie(size_t prompt) {
    return prompt == 5 || prompt == 6;
}

static void expect_same(const json_t *answer, const char *key, const json_t *expected,
                        const char *label) {
    const json_t *got = json_object_get(answer, key);
    if (json_equal(got, expected))
        return;
    char *got_text = json_dumps(got, JSON_ENCODE_ANY | JSON_COMPACT);
    char *expected_text = json_dumps(expected, JSON_ENCODE_ANY | JSON_COMPACT);
    EXPECT(false, "%s: %s: expected %s, got %s", label, key, expected_text, got_text);
    free(got_text);
    free(expected_text);
}

static struct safetensors_file *open_tensors(const char *path) {
    struct safetensors_file *file;
    if (safetensors_open(path, &file) != STATUS_OK)
        exit(1);
    return file;
}

static const struct tensor_info *find(const struct safetensors_file *file, const char *name) {
    const struct tensor_info *tensor = safetensors_find(file, name);
    if (tensor == NULL) {
        fprintf(stderr, "test: no tensor %s\n", name);
        exit(1);
    }
    return tensor;
}

static double float_at(const void *data, int64_t index) {
    float value;
    memcpy(&value, (const char *)data + 4 * index, 4);
    return (double)value;
}

/* The larger of two; a NaN stays. */
static double worse(double worst, double difference) {
    return difference > worst || isnan(difference) ? difference : worst;
}

static int32_t int_at(const void *data, int64_t index) {
    int32_t value;
    memcpy(&value, (const char *)data + 4 * index, 4);
    return value;
}

/* The dump's first rows against `name` of the expected file; the dump has `rows` rows in all. */
static void check_logits(const char *dump_path, const struct safetensors_file *expected,
                         const char *name, int64_t rows) {
    struct safetensors_file *dump = open_tensors(dump_path);
    const struct tensor_info *got = find(dump, "logits"), *want = find(expected, name);
    EXPECT(got->dimensions == 2 && got->shape[0] == rows && got->shape[1] == want->shape[1],
           "%s: expected [%lld, %lld], got [%lld, %lld]", name, (long long)rows,
           (long long)want->shape[1], (long long)got->shape[0], (long long)got->shape[1]);
    const void *got_data = safetensors_data(dump, got);
    const void *want_data = safetensors_data(expected, want);
    double worst = (double)INFINITY;
    if (got->bytes >= want->bytes) {
        worst = 0.0;
        for (int64_t i = 0; i < want->shape[0] * want->shape[1]; i++)
            worst = worse(worst, fabs(float_at(got_data, i) - float_at(want_data, i)));
    }
    EXPECT(worst <= LOGIT_MAX, "%s: largest difference %g", name, worst);
    printf("%s: largest logit difference %.2g\n", name, worst);
    safetensors_close(dump);
}

/* Expected tensors are [layers][positions][top_k], the dump's [positions][layers][top_k]. */
static void check_routing(const char *dump_path, const struct safetensors_file *expected,
                          size_t prompt, int64_t rows) {
    char name[64];
    struct safetensors_file *dump = open_tensors(dump_path);
    const struct tensor_info *got_ids = find(dump, "expert_ids");
    const struct tensor_info *got_weights = find(dump, "expert_weights");
    snprintf(name, sizeof name, "prompt%zu.expert_ids", prompt);
    const struct tensor_info *ids = find(expected, name);
    snprintf(name, sizeof name, "prompt%zu.expert_weights", prompt);
    const struct tensor_info *weights = find(expected, name);
    int64_t layers = ids->shape[0], positions = ids->shape[1], top_k = ids->shape[2];
    bool fits = got_ids->dimensions == 3 && got_ids->shape[0] == rows &&
                got_ids->shape[1] == layers && got_ids->shape[2] == top_k &&
                got_weights->bytes == got_ids->bytes && rows >= positions;
    EXPECT(fits, "%s: dump has another shape", name);
    int64_t different = 0;
    double worst = 0.0;
    for (int64_t i = 0; fits && i < layers * positions * top_k; i++) {
        int64_t layer = i / (positions * top_k), position = i / top_k % positions;
        int64_t at = (position * layers + layer) * top_k + i % top_k;
        different += int_at(safetensors_data(expected, ids), i) !=
                     int_at(safetensors_data(dump, got_ids), at);
        worst = worse(worst, fabs(float_at(safetensors_data(expected, weights), i) -
                                  float_at(safetensors_data(dump, got_weights), at)));
    }
    EXPECT(different == 0, "%s: %lld ids differ", name, (long long)different);
    EXPECT(worst <= WEIGHT_MAX, "%s: largest difference of weights %g", name, worst);
    safetensors_close(dump);
}

static void check_demo_prompt(const struct program *program, const json_t *prompt, size_t index,
                              const struct safetensors_file *expected) {
    char logits[128], routing[128], label[64], name[64];
    program_scratch_path(program, "logits.safetensors", logits, sizeof logits);
    program_scratch_path(program, "routing.safetensors", routing, sizeof routing);
    snprintf(label, sizeof label, "demo prompt %zu", index);
    bool full = json_is_true(json_object_get(prompt, "full_logits"));
    json_t *answer = program_json_run(
        program, (const char *const[]){
                     "generate", "--log-level", "error", "--dtype", "float32", "--ignore-eos",
                     "--max-tokens", "64", "--json", "--keep-special-tokens", "--prompt",
                     json_string_value(json_object_get(prompt, "prompt")),
                     full ? "--dump-logits" : NULL, logits, "--dump-routing", routing, NULL});
    expect_same(answer, "prompt_ids", json_object_get(prompt, "input_ids"), label);
    expect_same(answer, "output_ids", json_object_get(prompt, "output_ids"), label);
    expect_same(answer, "text", json_object_get(prompt, "text"), label);
    json_decref(answer);
    if (!full)
        return;
    int64_t rows = (int64_t)json_array_size(json_object_get(prompt, "input_ids")) + 63;
    snprintf(name, sizeof name, "prompt%zu.logits", index);
    check_logits(logits, expected, name, rows);
    check_routing(routing, expected, index, rows);
}

static void check_demo(const struct program *program) {
    json_t *greedy = program_json_load(DEMO "/greedy.json");
    struct safetensors_file *expected = open_tensors(DEMO "/logits.safetensors");
    size_t index;
    json_t *prompt;
    json_array_foreach(json_object_get(greedy, "prompts"), index, prompt) {
        if (!is_near_tie(index))
            check_demo_prompt(program, prompt, index, expected);
    }
    EXPECT(index == 12, "expected 12 prompts, got %zu", index);
    safetensors_close(expected);
    json_decref(greedy);
}

/* The plain output of the same request is the text and a line's end. */
static void check_plain(const struct program *program, const char *prompt, const char *max_tokens,
                        const char *text) {
    struct program_run run;
    program_run(program,
                (const char *const[]){"generate", "--log-level", "error", "--model", STORIES,
                                      "--ignore-eos", "--max-tokens", max_tokens, "--", prompt,
                                      NULL},
                NULL, PROGRAM_KEPT, &run);
    size_t length = strlen(text);
    EXPECT(run.exit_code == 0 && run.out_size == length + 1 && memcmp(run.out, text, length) == 0 &&
               run.out[length] == '\n',
           "stories260K: streamed text differs: %s", run.out);
    program_run_deinit(&run);
}

static void check_stories(const struct program *program) {
    json_t *expected = program_json_load(STORIES "/expected.json");
    size_t index;
    json_t *greedy;
    json_array_foreach(json_object_get(expected, "greedy"), index, greedy) {
        const json_t *ids = json_object_get(greedy, "ids");
        const char *prompt = json_string_value(json_object_get(greedy, "prompt"));
        const char *text = json_string_value(json_object_get(
            index == 0 ? expected : greedy, index == 0 ? "published_text" : "text"));
        char label[64], max_tokens[32];
        snprintf(label, sizeof label, "stories260K %zu", index);
        snprintf(max_tokens, sizeof max_tokens, "%zu", json_array_size(ids));
        json_t *answer = program_json_run(
            program, (const char *const[]){"generate", "--log-level", "error", "--model", STORIES,
                                           "--ignore-eos", "--json", "--max-tokens", max_tokens,
                                           "--prompt", prompt, NULL});
        expect_same(answer, "prompt_ids", json_object_get(greedy, "prompt_ids"), label);
        expect_same(answer, "output_ids", ids, label);
        const char *got = json_string_value(json_object_get(answer, "text"));
        EXPECT(got != NULL && strcmp(got, text) == 0, "%s: got '%s'", label, got);
        json_decref(answer);
        check_plain(program, prompt, max_tokens, text);
    }
    EXPECT(index == 4, "expected 4 continuations, got %zu", index);
    json_decref(expected);
}

/* "1 2 3" of a tensor of ids, on the heap. */
static char *ids_as_text(const struct safetensors_file *file, const char *name) {
    const struct tensor_info *tensor = find(file, name);
    char *text = malloc((size_t)tensor->bytes * 3 + 1), *at = text;
    if (text == NULL)
        exit(1);
    for (int64_t i = 0; i < tensor->bytes / 4; i++)
        at += sprintf(at, "%s%d", i > 0 ? " " : "", int_at(safetensors_data(file, tensor), i));
    return text;
}

static void check_stories_logits(const struct program *program) {
    char path[128];
    program_scratch_path(program, "stories.safetensors", path, sizeof path);
    struct safetensors_file *expected = open_tensors(STORIES "/expected.safetensors");
    char *ids = ids_as_text(expected, "input_ids");
    json_t *answer = program_json_run(
        program, (const char *const[]){"generate", "--log-level", "error", "--model", STORIES,
                                       "--json", "--max-tokens", "1", "--dump-logits", path,
                                       "--token-ids", ids, NULL});
    json_decref(answer);
    free(ids);
    check_logits(path, expected, "logits", 64);
    safetensors_close(expected);
}

/* A folder without a tokenizer: ids in, ids out, one line. */
static void check_ids(const struct program *program, const char *folder) {
    char path[128];
    snprintf(path, sizeof path, "%s/expected.safetensors", folder);
    struct safetensors_file *expected = open_tensors(path);
    char *prompt = ids_as_text(expected, "p1.input_ids");
    char *want = ids_as_text(expected, "p1.greedy_ids");
    struct program_run run;
    program_run(program,
                (const char *const[]){"generate", "--log-level", "error", "--dtype", "float32",
                                      "--ignore-eos", "--max-tokens", "32", "--model", folder,
                                      "--token-ids", prompt, NULL},
                NULL, PROGRAM_KEPT, &run);
    EXPECT(run.exit_code == 0 && run.out_size == strlen(want) + 1 &&
               strncmp(run.out, want, strlen(want)) == 0,
           "%s: expected %s, got %s%s", folder, want, run.out, run.err);
    program_run_deinit(&run);
    free(prompt);
    free(want);
    safetensors_close(expected);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: test_cli_golden MOEBIUS\n");
        return 2;
    }
    struct program program;
    program_init(&program, argv[1]);
    check_demo(&program);
    check_stories(&program);
    check_stories_logits(&program);
    check_ids(&program, "tests/data/golden/qwen3_moe");
    check_ids(&program, "tests/data/golden/mixtral");
    check_ids(&program, "tests/data/golden/llama");
    program_deinit(&program);
    return expect_failures == 0 ? 0 : 1;
}
