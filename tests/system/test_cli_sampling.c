/* moebius generate: a seed is a text, whatever the threads, the chunks and the outputs asked for;
 * stop strings, log-probabilities, length and bias flags; prompts from files and standard input.
 * Usage: test_cli_sampling MOEBIUS */
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/safetensors.h"
#include "tests/support/expect.h"
#include "tests/support/program_json.h"

#define GREEDY "tests/data/demo-moe/greedy.json"
#define LONG_PROMPT 9 /* more than 64 tokens, so that every chunk size below cuts it */
#define RUSSIAN_PROMPT 7
#define ENDING_PROMPT 8 /* its answer ends after 55 tokens */

static const char *prompt_text(const json_t *greedy, size_t index) {
    const json_t *prompts = json_object_get(greedy, "prompts");
    return json_string_value(json_object_get(json_array_get(prompts, index), "prompt"));
}

static const char *text_of(const json_t *answer) {
    const char *text = json_string_value(json_object_get(answer, "text"));
    return text != NULL ? text : "(no text)";
}

static bool finished_by(const json_t *answer, const char *reason) {
    const char *got = json_string_value(json_object_get(answer, "finish_reason"));
    return got != NULL && strcmp(got, reason) == 0;
}

/* ---- seeds ---- */

#define SAMPLED(seed)                                                                              \
    "generate", "--log-level", "error", "--ignore-eos", "--max-tokens", "24", "--temperature",     \
        "0.9", "--top-p", "0.95", "--min-p", "0.01", "--top-k", "200", "--repetition-penalty",     \
        "1.1", "--seed", seed

static json_t *sample(const struct program *program, const char *prompt, const char *seed) {
    return program_json_run(
        program, (const char *const[]){SAMPLED(seed), "--json", "--prompt", prompt, NULL});
}

/* Streamed, as JSON, as JSON with log-probabilities, with both dumps: the same text. */
static void check_modes(const struct program *program, const char *prompt, const char *threads,
                        const char *rows, const json_t *expected) {
    char logits[128], routing[128];
    program_scratch_path(program, "logits.safetensors", logits, sizeof logits);
    program_scratch_path(program, "routing.safetensors", routing, sizeof routing);
#define SPLIT "--threads", threads, "--max-num-batched-tokens", rows, "--prompt", prompt
    const char *const streamed[] = {SAMPLED("7"), SPLIT, NULL};
    const char *const dumped[] = {SAMPLED("7"), SPLIT, "--dump-logits", logits, "--dump-routing",
                                  routing,      NULL};
    const char *const with_json[] = {SAMPLED("7"), SPLIT, "--json", NULL};
    const char *const with_logprobs[] = {SAMPLED("7"), SPLIT,           "--json", "--logprobs",
                                         "3",          "--dump-logits", logits,   NULL};
#undef SPLIT
    const char *const *const plain[] = {streamed, dumped};
    const char *const *const objects[] = {with_json, with_logprobs};
    for (int i = 0; i < 2; i++) {
        struct program_run run;
        program_run(program, plain[i], NULL, PROGRAM_KEPT, &run);
        size_t length = strlen(text_of(expected));
        EXPECT(run.exit_code == 0 && run.out_size == length + 1 &&
                   memcmp(run.out, text_of(expected), length) == 0,
               "threads %s, rows %s, plain %d: got '%s', expected '%s' %s", threads, rows, i,
               run.out, text_of(expected), run.err);
        program_run_deinit(&run);
        json_t *answer = program_json_run(program, objects[i]);
        EXPECT(json_equal(json_object_get(answer, "output_ids"),
                          json_object_get(expected, "output_ids")) &&
                   strcmp(text_of(answer), text_of(expected)) == 0,
               "threads %s, rows %s, JSON %d: got '%s', expected '%s'", threads, rows, i,
               text_of(answer), text_of(expected));
        json_decref(answer);
    }
}

static void check_seeds(const struct program *program, const char *prompt) {
    static const char *const threads[] = {"1", "2"};
    static const char *const rows[] = {"1", "7", "64"};
    json_t *expected = sample(program, prompt, "7"), *other = sample(program, prompt, "8");
    EXPECT(json_array_size(json_object_get(expected, "prompt_ids")) > 64, "the prompt is short");
    EXPECT(strcmp(text_of(expected), text_of(other)) != 0, "two seeds give one text: '%s'",
           text_of(other));
    for (int t = 0; t < 2; t++)
        for (int r = 0; r < 3; r++)
            check_modes(program, prompt, threads[t], rows[r], expected);
    json_decref(expected);
    json_decref(other);
}

/* ---- stop strings ---- */

#define GREEDILY "generate", "--log-level", "error", "--max-tokens", "40", "--ignore-eos"

/* Both outputs end before `end` bytes of `text`. */
static void check_stopped(const struct program *program, const char *prompt, const char *stop,
                          const char *second_stop, const char *text, size_t end) {
    json_t *answer = program_json_run(program, (const char *const[]){GREEDILY, "--json", "--prompt",
                                                                     prompt, "--stop", stop,
                                                                     "--stop", second_stop, NULL});
    EXPECT(strlen(text_of(answer)) == end && strncmp(text_of(answer), text, end) == 0,
           "--stop '%s': got '%s', expected the first %zu bytes of '%s'", stop, text_of(answer),
           end, text);
    EXPECT(finished_by(answer, text[end] == '\0' ? "length" : "stop"), "--stop '%s': finish", stop);
    json_decref(answer);
    struct program_run run;
    program_run(program,
                (const char *const[]){GREEDILY, "--prompt", prompt, "--stop", stop, "--stop",
                                      second_stop, NULL},
                NULL, PROGRAM_KEPT, &run);
    EXPECT(run.exit_code == 0 && run.out_size == end + 1 && strncmp(run.out, text, end) == 0,
           "--stop '%s': streamed '%s'", stop, run.out);
    program_run_deinit(&run);
}

/* Strings of 1 to 12 bytes from many places of the greedy text: most cross a token's border. */
static void check_stops(const struct program *program, const char *prompt) {
    json_t *whole = program_json_run(
        program, (const char *const[]){GREEDILY, "--json", "--prompt", prompt, NULL});
    const char *text = text_of(whole);
    size_t length = strlen(text);
    for (size_t start = 0; start + 12 < length; start += 11) {
        size_t from = start, to = start + 1 + start % 12;
        while (((unsigned char)text[from] & 0xc0) == 0x80)
            from++;
        while (((unsigned char)text[to] & 0xc0) == 0x80)
            to++;
        if (from >= to)
            continue;
        char stop[32] = "";
        memcpy(stop, text + from, to - from);
        check_stopped(program, prompt, stop, "never in the text", text,
                      (size_t)(strstr(text, stop) - text));
    }
    check_stopped(program, prompt, "never in the text", "nor this", text, length);
    json_decref(whole);
}

/* ---- log-probabilities ---- */

static double logit_at(const void *data, int64_t index) {
    float value;
    memcpy(&value, (const char *)data + 4 * index, 4);
    return (double)value;
}

static double log_softmax(const void *logits, int64_t row, int64_t vocabulary, int64_t id) {
    double greatest = -(double)INFINITY, sum = 0.0;
    for (int64_t i = 0; i < vocabulary; i++)
        greatest = fmax(greatest, logit_at(logits, row * vocabulary + i));
    for (int64_t i = 0; i < vocabulary; i++)
        sum += exp(logit_at(logits, row * vocabulary + i) - greatest);
    return logit_at(logits, row * vocabulary + id) - greatest - log(sum);
}

/* One token's entry: falling, no more than certainty, the chosen one where its rank says. */
static void check_entry(const json_t *entry, size_t index, bool greedy) {
    const json_t *top = json_object_get(entry, "top");
    double logprob = json_number_value(json_object_get(entry, "logprob")), sum = 0.0, last = 0.0;
    json_int_t id = json_integer_value(json_object_get(entry, "id"));
    json_int_t rank = json_integer_value(json_object_get(entry, "rank"));
    size_t place;
    json_t *likely;
    json_array_foreach(top, place, likely) {
        double value = json_number_value(json_object_get(likely, "logprob"));
        EXPECT(value <= last, "token %zu: place %zu is likelier than the one before", index, place);
        last = value;
        sum += exp(value);
        bool chosen = json_integer_value(json_object_get(likely, "id")) == id;
        EXPECT(chosen == (rank == (json_int_t)place + 1), "token %zu: rank %d", index, (int)rank);
        EXPECT(!chosen || value == logprob, "token %zu: two logprobs", index);
    }
    EXPECT(place == 6 && sum <= 1.0 + 1e-6, "token %zu: %zu places, sum %g", index, place, sum);
    EXPECT(rank >= 1 && (!greedy || rank == 1), "token %zu: rank %d", index, (int)rank);
}

static void check_logprobs(const struct program *program, const char *prompt,
                           const char *temperature) {
    char path[128];
    program_scratch_path(program, "logits.safetensors", path, sizeof path);
    json_t *answer = program_json_run(
        program,
        (const char *const[]){GREEDILY, "--json", "--logprobs", "6", "--temperature", temperature,
                              "--seed", "3", "--dump-logits", path, "--prompt", prompt, NULL});
    const json_t *logprobs = json_object_get(answer, "logprobs");
    const json_t *ids = json_object_get(answer, "output_ids");
    int64_t before = (int64_t)json_array_size(json_object_get(answer, "prompt_ids")) - 1;
    struct safetensors_file *file;
    if (safetensors_open(path, &file) != STATUS_OK)
        exit(1);
    const struct tensor_info *logits = safetensors_find(file, "logits");
    EXPECT(json_array_size(logprobs) == 40 && logits->shape[0] == before + 40, "lengths");
    size_t index, above_one = 0;
    json_t *entry;
    json_array_foreach(logprobs, index, entry) {
        json_int_t id = json_integer_value(json_object_get(entry, "id"));
        EXPECT(id == json_integer_value(json_array_get(ids, index)), "token %zu: id", index);
        check_entry(entry, index, strcmp(temperature, "0") == 0);
        above_one += json_integer_value(json_object_get(entry, "rank")) > 1;
        double expected = log_softmax(safetensors_data(file, logits), before + (int64_t)index,
                                      logits->shape[1], id);
        double got = json_number_value(json_object_get(entry, "logprob"));
        EXPECT(fabs(expected - got) < 1e-6, "token %zu: logprob %g, from logits %g", index, got,
               expected);
    }
    EXPECT((above_one > 0) == (strcmp(temperature, "0") != 0), "%zu of a rank above 1", above_one);
    safetensors_close(file);
    json_decref(answer);
}

/* ---- length, bias, special tokens ---- */

static void check_end(const struct program *program, const char *prompt) {
#define LONGER "generate", "--log-level", "error", "--dtype", "float32", "--max-tokens", "64"
    json_t *ended = program_json_run(
        program, (const char *const[]){LONGER, "--json", "--prompt", prompt, NULL});
    json_t *shown =
        program_json_run(program, (const char *const[]){LONGER, "--json", "--keep-special-tokens",
                                                        "--prompt", prompt, NULL});
    json_t *forced =
        program_json_run(program, (const char *const[]){LONGER, "--json", "--min-tokens", "60",
                                                        "--prompt", prompt, NULL});
#undef LONGER
    EXPECT(json_array_size(json_object_get(ended, "output_ids")) == 55, "the end token's place");
    EXPECT(finished_by(ended, "eos") && strstr(text_of(ended), "<|im_end|>") == NULL, "got '%s'",
           text_of(ended));
    EXPECT(strstr(text_of(shown), "<|im_end|>") != NULL, "got '%s'", text_of(shown));
    EXPECT(json_array_size(json_object_get(forced, "output_ids")) >= 60, "--min-tokens");
    json_decref(ended);
    json_decref(shown);
    json_decref(forced);
}

static void check_bias(const struct program *program, const char *prompt) {
    json_t *greedy = program_json_run(
        program, (const char *const[]){GREEDILY, "--json", "--prompt", prompt, NULL});
    json_t *top_one =
        program_json_run(program, (const char *const[]){GREEDILY, "--json", "--temperature", "2",
                                                        "--top-k", "1", "--prompt", prompt, NULL});
    json_t *off = program_json_run(program, (const char *const[]){GREEDILY, "--json", "--top-k",
                                                                  "-1", "--prompt", prompt, NULL});
    json_t *biased = program_json_run(
        program, (const char *const[]){GREEDILY, "--json", "--logit-bias", "300=100",
                                       "--logit-bias", "301=-100", "--prompt", prompt, NULL});
    const json_t *ids = json_object_get(greedy, "output_ids");
    EXPECT(json_equal(ids, json_object_get(top_one, "output_ids")), "--top-k 1 is not greedy");
    EXPECT(json_equal(ids, json_object_get(off, "output_ids")), "--top-k -1 is not off");
    size_t index;
    json_t *id;
    json_array_foreach(json_object_get(biased, "output_ids"), index, id)
        EXPECT(json_integer_value(id) == 300, "--logit-bias: token %zu", index);
    json_decref(greedy);
    json_decref(top_one);
    json_decref(off);
    json_decref(biased);
}

/* ---- where a prompt comes from ---- */

static void check_sources(const struct program *program, const char *prompt) {
    char path[128];
    program_scratch_path(program, "prompt.txt", path, sizeof path);
    program_write_file(path, prompt, strlen(prompt));
    const char *const operand[] = {GREEDILY, "--", prompt, NULL};
    const char *const file[] = {GREEDILY, "--file", path, NULL};
    const char *const input[] = {GREEDILY, "--file", "-", NULL};
    const char *const *const sources[] = {operand, file, input};
    struct program_run first;
    program_run(program, (const char *const[]){GREEDILY, "--prompt", prompt, NULL}, NULL,
                PROGRAM_KEPT, &first);
    EXPECT(first.exit_code == 0 && first.out_size > 40, "got '%s' %s", first.out, first.err);
    for (int i = 0; i < 3; i++) {
        struct program_run run;
        program_run(program, sources[i], i == 2 ? path : NULL, PROGRAM_KEPT, &run);
        EXPECT(run.exit_code == 0 && run.out_size == first.out_size &&
                   memcmp(run.out, first.out, run.out_size) == 0,
               "source %d: got '%s' %s", i, run.out, run.err);
        program_run_deinit(&run);
    }
    program_run_deinit(&first);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: test_cli_sampling MOEBIUS\n");
        return 2;
    }
    struct program program;
    program_init(&program, argv[1]);
    json_t *greedy = program_json_load(GREEDY);
    check_seeds(&program, prompt_text(greedy, LONG_PROMPT));
    check_stops(&program, prompt_text(greedy, 0));
    check_stops(&program, prompt_text(greedy, RUSSIAN_PROMPT));
    check_logprobs(&program, prompt_text(greedy, RUSSIAN_PROMPT), "0");
    check_logprobs(&program, prompt_text(greedy, RUSSIAN_PROMPT), "1.5");
    check_end(&program, prompt_text(greedy, ENDING_PROMPT));
    check_bias(&program, prompt_text(greedy, 0));
    check_sources(&program, prompt_text(greedy, RUSSIAN_PROMPT));
    json_decref(greedy);
    program_deinit(&program);
    return expect_failures == 0 ? 0 : 1;
}
