/* What a newcomer meets: the run without arguments, every command's help, every flag that a help
 * names, inspect, tokenize --jsonl there and back. Usage: test_cli_help MOEBIUS */
#define _POSIX_C_SOURCE 200809L
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/expect.h"
#include "tests/support/program_json.h"

#define DEMO_PROMPT "It was a cold evening, and the old man sat by the fire"
#define TOKENIZERS "tests/data/tokenizers"

/* ---- help ---- */

/* Runs what must succeed quietly and print something that holds `part`. */
static void check_prints(const struct program *program, const char *const *arguments,
                         const char *part) {
    struct program_run run;
    program_run(program, arguments, NULL, PROGRAM_KEPT, &run);
    EXPECT(run.exit_code == 0 && run.err_size == 0 && strstr(run.out, part) != NULL,
           "%s: exit code %d, no \"%s\" in: %.300s %s", arguments[0], run.exit_code, part, run.out,
           run.err);
    program_run_deinit(&run);
}

static void check_helps(const struct program *program) {
    static const char *const commands[] = {"generate", "serve",   "complete", "chat",
                                           "tokenize", "inspect", "bench",    "doctor"};
    static const char *const spellings[] = {"--help", "-h", "help"};
    for (int i = 0; i < 3; i++)
        for (int c = 0; c < 8; c++)
            check_prints(program, (const char *const[]){spellings[i], NULL}, commands[c]);
    check_prints(program, (const char *const[]){"--version", NULL}, "moebius ");
    for (int c = 0; c < 8; c++) {
        char usage[64];
        snprintf(usage, sizeof usage, "usage: moebius %s ", commands[c]);
        check_prints(program, (const char *const[]){commands[c], "--help", NULL}, usage);
        check_prints(program, (const char *const[]){commands[c], "-h", NULL}, usage);
    }
}

/* ---- every flag of every help is taken ---- */

struct flag_value {
    const char *flag, *value; /* value NULL: the flag has none */
    const char *companion;    /* another flag without a value that this one needs; or NULL */
};

/* "@x" is x in the test's folder. A flag that is not here fails the test: give it a value. */
static const struct flag_value flag_values[] = {
    {"--prompt", "8", NULL},
    {"--chat", "How many?", NULL},
    {"--system", "Answer.", "--chat=Why?"},
    {"--file", "/etc/hostname", NULL},
    {"--token-ids", "1 2 3", NULL},
    {"--max-tokens", "3", NULL},
    {"--min-tokens", "2", NULL},
    {"--stop", "the", NULL},
    {"--ignore-eos", NULL, NULL},
    {"--temperature", "0.5", NULL},
    {"--seed", "18446744073709551615", NULL},
    {"--top-k", "-1", NULL},
    {"--top-p", "0.5", NULL},
    {"--min-p", "0.1", NULL},
    {"--repetition-penalty", "1.2", NULL},
    {"--frequency-penalty", "-0.5", NULL},
    {"--presence-penalty", "0.5", NULL},
    {"--logit-bias", "5=-1.5", NULL},
    {"--json", NULL, NULL},
    {"--logprobs", "20", "--json"},
    {"--keep-special-tokens", NULL, NULL},
    {"--dump-logits", "@logits", NULL},
    {"--dump-routing", "@routing", NULL},
    {"--traffic", NULL, NULL},
    {"--traffic-json", "@traffic", NULL},
    {"--tensor-parallel-size", "1", NULL},
    {"--data-parallel-size", "1", NULL},
    {"--enable-expert-parallel", NULL, NULL},
    {"--skip-tokenizer-init", NULL, NULL},
    {"--moe-flow", "a2a", NULL},
    {"--expert-placement", "random:7", NULL},
    {"--expert-replicas", "0", NULL},
    {"--ranks-per-node", "2", NULL},
    {"--comm-timeout", "5", NULL},
    {"--verify-ranks", NULL, NULL},
    {"--model", "launcher/demo-moe", NULL},
    {"--dtype", "float32", NULL},
    {"--load-format", "dummy", NULL},
    {"--max-model-len", "128", NULL},
    {"--threads", "1", NULL},
    {"--cpu-isa", "baseline", NULL},
    {"--max-num-batched-tokens", "4", NULL},
    {"--log-level", "warn", NULL},
    {"--log-format", "json", NULL},
    {"--config", "/dev/null", NULL},
    {"--print-config", NULL, NULL},
    {"--decode", NULL, NULL},
    {"--jsonl", NULL, NULL},
    {"--add-special-tokens", NULL, NULL},
    {"--skip-special-tokens", NULL, NULL},
    {"--plain-special-tokens", NULL, NULL},
    {"--generate", "8", NULL},
    {"--repetitions", "1", NULL},
    {"--timeout", "60", NULL},
    {"--concurrency", "1,2", NULL},
    {"--dataset-path", "tests/data/workloads/mooncake.jsonl", NULL},
    {"--dataset-name", "random", NULL},
    {"--num-prompts", "3", NULL},
    {"--random-input-len", "5", NULL},
    {"--random-output-len", "3", NULL},
    {"--output-len", "3", NULL},
    {"--max-prompt-len", "3", NULL},
    {"--max-output-len", "1", NULL},
    {"--batch-size", "2", NULL},
};

static const struct flag_value *find_value(const char *flag) {
    for (size_t i = 0; i < sizeof flag_values / sizeof flag_values[0]; i++)
        if (strcmp(flag_values[i].flag, flag) == 0)
            return &flag_values[i];
    return NULL;
}

/* Measurements are commands of moebius bench. */
static bool is_bench(const char *command) {
    return strcmp(command, "latency") == 0 || strcmp(command, "throughput") == 0 ||
           strcmp(command, "startup") == 0;
}

/* What a command needs beside the flag under test; `prompted`: the flag is a prompt itself. */
static int start_arguments(const char *command, const char *flag, const char **arguments) {
    static const char *const prompts[] = {"--prompt", "--chat", "--system", "--file",
                                          "--token-ids"};
    bool prompted = false;
    for (size_t i = 0; i < sizeof prompts / sizeof prompts[0]; i++)
        prompted = prompted || strcmp(flag, prompts[i]) == 0;
    int count = 0;
    if (is_bench(command))
        arguments[count++] = "bench";
    arguments[count++] = command;
    if (strcmp(command, "tokenize") == 0) {
        if (strcmp(flag, "--jsonl") != 0)
            arguments[count++] = "17";
        return count;
    }
    if (strcmp(command, "startup") == 0) {
        arguments[count++] = "--repetitions=1";
        return count;
    }
    arguments[count++] = "--log-level=error";
    if (strcmp(command, "throughput") == 0) {
        arguments[count++] = "--concurrency=1";
        arguments[count++] = "--num-prompts=2";
        arguments[count++] = "--random-input-len=4";
        arguments[count++] = "--random-output-len=2";
    }
    if (strcmp(command, "generate") == 0) {
        arguments[count++] = "--max-tokens=4";
        if (!prompted)
            arguments[count++] = "It was";
    } else if (strcmp(command, "latency") == 0) {
        arguments[count++] = "--prompt=4";
        arguments[count++] = "--generate=4";
        arguments[count++] = "--repetitions=1";
    }
    return count;
}

static void check_flag(const struct program *program, const char *command, const char *flag) {
    const struct flag_value *known = find_value(flag);
    EXPECT(known != NULL, "%s: no value for %s in this test", command, flag);
    if (known == NULL)
        return;
    const char *arguments[12];
    char path[256];
    int count = start_arguments(command, flag, arguments);
    arguments[count++] = flag;
    if (known->value != NULL && known->value[0] == '@') {
        program_scratch_path(program, known->value + 1, path, sizeof path);
        arguments[count++] = path;
    } else if (known->value != NULL) {
        arguments[count++] = known->value;
    }
    if (known->companion != NULL)
        arguments[count++] = known->companion;
    arguments[count] = NULL;
    struct program_run run;
    program_run(program, arguments, NULL, PROGRAM_KEPT, &run);
    EXPECT(run.exit_code == 0 && run.err_size == 0, "%s %s: exit code %d, signal %d: %s", command,
           flag, run.exit_code, run.signal, run.err);
    program_run_deinit(&run);
}

/* Of a command whose flags are not tried one by one. */
static void check_lines(const struct program *program, const char *command, const char *kind) {
    struct program_run help;
    const char *const arguments[] = {command, kind != NULL ? kind : "--help", "--help", NULL};
    program_run(program, arguments, NULL, PROGRAM_KEPT, &help);
    EXPECT(help.exit_code == 0, "%s %s: exit code %d", command, arguments[1], help.exit_code);
    char *rest = NULL;
    for (char *line = strtok_r(help.out, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest))
        EXPECT(strlen(line) <= 110, "%s: a line of %zu characters: %s", command, strlen(line),
               line);
    program_run_deinit(&help);
}

/* Reads the flags out of the help: lines that begin with two blanks and "--". */
static void check_flags(const struct program *program, const char *command, int at_least) {
    struct program_run help;
    const char *const plain[] = {command, "--help", NULL};
    const char *const bench[] = {"bench", command, "--help", NULL};
    program_run(program, is_bench(command) ? bench : plain, NULL, PROGRAM_KEPT, &help);
    int count = 0;
    char *rest = NULL;
    for (char *line = strtok_r(help.out, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        EXPECT(strlen(line) <= 110, "%s --help: a line of %zu characters: %s", command,
               strlen(line), line);
        if (strncmp(line, "  --", 4) != 0)
            continue;
        char flag[64];
        snprintf(flag, sizeof flag, "%.*s", (int)strcspn(line + 2, " "), line + 2);
        check_flag(program, command, flag);
        count++;
    }
    EXPECT(count >= at_least, "%s --help names %d flags", command, count);
    program_run_deinit(&help);
}

/* ---- without arguments, and inspect ---- */

static void check_bare_run(const struct program *program) {
    struct program_run first, second;
    program_run(program, (const char *const[]){NULL}, NULL, PROGRAM_KEPT, &first);
    program_run(program, (const char *const[]){NULL}, NULL, PROGRAM_KEPT, &second);
    EXPECT(first.exit_code == 0 && strncmp(first.out, DEMO_PROMPT, strlen(DEMO_PROMPT)) == 0 &&
               first.out_size > strlen(DEMO_PROMPT) + 20,
           "exit code %d, got '%s' %s", first.exit_code, first.out, first.err);
    EXPECT(strcmp(first.out, second.out) == 0, "two runs differ: '%s', '%s'", first.out,
           second.out);
    program_run_deinit(&first);
    program_run_deinit(&second);
}

static void check_inspect(const struct program *program) {
    static const char *const parts[] = {"qwen3_moe",        "layers: 6 of width 128",
                                        "32 experts of 64", "parameters: 5564416",
                                        "memory plan:",     "0 missing, 0 extra"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        check_prints(
            program,
            (const char *const[]){"inspect", "--log-level", "error", "launcher/demo-moe", NULL},
            parts[i]);
}

/* ---- tokenize ---- */

/* Each line's answer holds `second_key` and the like under the names of the vectors. */
static void compare_lines(const char *label, const char *vectors, char *answers,
                          const char *const pairs[2][2]) {
    size_t size;
    char *expected_text = program_read_file(vectors, &size), *expected_rest = NULL,
         *answer_rest = NULL;
    int lines = 0;
    char *answer = strtok_r(answers, "\n", &answer_rest);
    for (char *line = strtok_r(expected_text, "\n", &expected_rest); line != NULL;
         line = strtok_r(NULL, "\n", &expected_rest)) {
        json_t *expected = json_loads(line, JSON_ALLOW_NUL, NULL);
        json_t *got = answer != NULL ? json_loads(answer, JSON_ALLOW_NUL, NULL) : NULL;
        for (int i = 0; i < 2; i++) {
            const json_t *want = json_object_get(expected, pairs[i][1]);
            EXPECT(want != NULL && json_equal(want, json_object_get(got, pairs[i][0])),
                   "%s: line %d: %s differs: %.200s", label, lines + 1, pairs[i][0],
                   answer != NULL ? answer : "(none)");
        }
        json_decref(expected);
        json_decref(got);
        answer = strtok_r(NULL, "\n", &answer_rest);
        lines++;
    }
    EXPECT(lines > 50 && answer == NULL, "%s: %d lines, then %s", label, lines,
           answer != NULL ? answer : "none");
    free(expected_text);
}

/* The vectors' lines have "text" and "ids" both, so the file itself is the input of both ways. */
static void check_vectors(const struct program *program, const char *model, const char *vectors) {
    static const char *const encoded[2][2] = {{"ids", "ids"},
                                              {"ids_with_special", "ids_with_special"}};
    static const char *const decoded[2][2] = {{"text", "decoded"},
                                              {"text_skip_special", "decoded_skip_special"}};
    struct program_run there, back;
    program_run(program, (const char *const[]){"tokenize", "--jsonl", "--model", model, NULL},
                vectors, PROGRAM_KEPT, &there);
    EXPECT(there.exit_code == 0 && there.err_size == 0, "%s: %s", vectors, there.err);
    compare_lines(vectors, vectors, there.out, encoded);
    program_run(program,
                (const char *const[]){"tokenize", "--jsonl", "--decode", "--model", model, NULL},
                vectors, PROGRAM_KEPT, &back);
    EXPECT(back.exit_code == 0 && back.err_size == 0, "%s: %s", vectors, back.err);
    compare_lines(vectors, vectors, back.out, decoded);
    program_run_deinit(&there);
    program_run_deinit(&back);
}

static void check_tokenize_one(const struct program *program) {
    static const char *const text = "It was a cold <|im_end|>";
    struct program_run ids, plain, again;
    program_run(program, (const char *const[]){"tokenize", text, NULL}, NULL, PROGRAM_KEPT, &ids);
    EXPECT(strcmp(ids.out, "4056 470 259 267 1003 220 4095\n") == 0, "got %s", ids.out);
    program_run(program, (const char *const[]){"tokenize", "--plain-special-tokens", text, NULL},
                NULL, PROGRAM_KEPT, &plain);
    EXPECT(plain.exit_code == 0 && strstr(plain.out, "4095") == NULL, "got %s", plain.out);
    program_run(program, (const char *const[]){"tokenize", "--decode", ids.out, NULL}, NULL,
                PROGRAM_KEPT, &again);
    EXPECT(strncmp(again.out, text, strlen(text)) == 0, "got %s", again.out);
    program_run_deinit(&ids);
    program_run_deinit(&plain);
    program_run_deinit(&again);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: test_cli_help MOEBIUS\n");
        return 2;
    }
    struct program program;
    program_init(&program, argv[1]);
    check_helps(&program);
    check_flags(&program, "generate", 31);
    check_flags(&program, "tokenize", 6);
    check_flags(&program, "inspect", 8);
    check_flags(&program, "latency", 20);
    check_flags(&program, "throughput", 33);
    check_flags(&program, "startup", 6);
    check_flags(&program, "doctor", 5);
    check_lines(&program, "serve", NULL);
    check_lines(&program, "complete", NULL);
    check_lines(&program, "chat", NULL);
    check_lines(&program, "bench", "serve");
    check_lines(&program, "bench", "exchange");
    check_bare_run(&program);
    check_inspect(&program);
    check_tokenize_one(&program);
    check_vectors(&program, "launcher/demo-moe", TOKENIZERS "/demo-moe/vectors.jsonl");
    check_vectors(&program, TOKENIZERS "/mixtral", TOKENIZERS "/mixtral/vectors.jsonl");
    check_vectors(&program, TOKENIZERS "/minimind", TOKENIZERS "/minimind/vectors.jsonl");
    program_deinit(&program);
    return expect_failures == 0 ? 0 : 1;
}
