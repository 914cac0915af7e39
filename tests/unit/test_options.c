/* launcher/options.c: every kind of flag, and every way to get one wrong, told by flag, expected
 * and got. */
#define _XOPEN_SOURCE 700

#include <stdbool.h>
#include <string.h>

#include "launcher/options.h"
#include "tests/unit/unit_test.h"

#include "tests/unit/scratch.h"

#define ARGUMENTS_MAX 80

static struct targets {
    bool json;
    const char *model;
    int32_t threads;
    uint64_t seed;
    float temperature;
    struct option_list stop;
} targets;

static const struct option_entry entries[] = {
    {.kind = OPTION_HEADING, .name = "Model"},
    {OPTION_STRING, "model", &targets.model, "DIR", "a folder", 0, 0},
    {OPTION_INT, "threads", &targets.threads, "N", "compute threads", 1, 64},
    {.kind = OPTION_HEADING, .name = "Sampling"},
    {OPTION_UINT64, "seed", &targets.seed, "N", "a seed", 0, 0},
    {OPTION_FLOAT, "temperature", &targets.temperature, "T", "0 is greedy", 0, 1000},
    {OPTION_LIST, "stop", &targets.stop, "TEXT", "may be repeated", 0, 0},
    {OPTION_FLAG, "json", &targets.json, NULL, "one object", 0, 0},
    {OPTION_STRING, "a-flag-with-a-rather-long-name", &targets.model, "DIR", "wraps", 0, 0},
};
static const struct option_command command = {"generate", "[options] [PROMPT]", "Makes text.",
                                              entries, sizeof entries / sizeof entries[0]};

struct parsed {
    enum status status;
    int first_operand, help, argc;
    char *argv[ARGUMENTS_MAX + 1];
    char words[ARGUMENTS_MAX][64];
    struct capture capture;
};

/* Parses a NULL-terminated list of words after the command's name. */
static void parse(const char *const *words, struct parsed *parsed) {
    targets = (struct targets){.model = "unset", .threads = -1, .temperature = -1.0f, .seed = 99};
    memset(parsed, 0, sizeof *parsed);
    parsed->argv[parsed->argc++] = parsed->words[0];
    snprintf(parsed->words[0], sizeof parsed->words[0], "generate");
    for (; *words != NULL; words++) {
        snprintf(parsed->words[parsed->argc], sizeof parsed->words[0], "%s", *words);
        parsed->argv[parsed->argc] = parsed->words[parsed->argc];
        parsed->argc++;
    }
    capture_begin(&parsed->capture);
    struct options_line line = {.only = NULL};
    parsed->status = options_parse(&command, parsed->argc, parsed->argv, &line);
    parsed->first_operand = line.first_operand;
    parsed->help = line.help;
    capture_end(&parsed->capture);
}

static void all_kinds(void **state) {
    (void)state;
    static const char *const words[] = {"one",           "--model",
                                        "a b",           "--threads=64",
                                        "--seed",        "18446744073709551615",
                                        "--temperature", "0.7",
                                        "--stop",        "x",
                                        "two",           "--stop=",
                                        "--json",        "--",
                                        "--json",        NULL};
    struct parsed parsed;
    parse(words, &parsed);
    assert_int_equal(parsed.status, STATUS_OK);
    assert_string_equal(parsed.capture.text, "");
    assert_int_equal(parsed.help, 0);
    assert_string_equal(targets.model, "a b");
    assert_int_equal(targets.threads, 64);
    assert_true(targets.seed == UINT64_MAX);
    assert_true(targets.temperature == 0.7f);
    assert_int_equal(targets.stop.count, 2);
    assert_string_equal(targets.stop.values[0], "x");
    assert_string_equal(targets.stop.values[1], "");
    assert_true(targets.json);
    assert_int_equal(parsed.argc - parsed.first_operand, 3);
    assert_string_equal(parsed.argv[parsed.first_operand], "one");
    assert_string_equal(parsed.argv[parsed.first_operand + 1], "two");
    assert_string_equal(parsed.argv[parsed.first_operand + 2], "--json");
}

static void nothing_given_nothing_written(void **state) {
    (void)state;
    static const char *const words[] = {"-", NULL};
    struct parsed parsed;
    parse(words, &parsed);
    assert_int_equal(parsed.status, STATUS_OK);
    assert_string_equal(targets.model, "unset");
    assert_int_equal(targets.threads, -1);
    assert_int_equal(targets.stop.count, 0);
    assert_false(targets.json);
    assert_int_equal(parsed.first_operand, 1);
}

struct bad_case {
    const char *words[4];
    const char *flag, *expected, *got;
};

#define THREADS "a whole number from 1 to 64"
#define SEED "a whole number from 0 to 2^64 - 1"
#define TEMPERATURE "a number from 0 to 1000"
static const struct bad_case bad[] = {
    {{"--threads", "0"}, "--threads", THREADS, "got '0'"},
    {{"--threads", "65"}, "--threads", THREADS, "got '65'"},
    {{"--threads", "-1"}, "--threads", THREADS, "got '-1'"},
    {{"--threads", "2x"}, "--threads", THREADS, "got '2x'"},
    {{"--threads", ""}, "--threads", THREADS, "got ''"},
    {{"--threads", "1.5"}, "--threads", THREADS, "got '1.5'"},
    {{"--threads", "0x10"}, "--threads", THREADS, "got '0x10'"},
    {{"--threads", "4294967297"}, "--threads", THREADS, "got '4294967297'"},
    {{"--threads", "99999999999999999999"}, "--threads", THREADS, "got '99999999999999999999'"},
    {{"--thr=0"}, "--threads", THREADS, "got '0'"},
    {{"--seed", "-1"}, "--seed", SEED, "got '-1'"},
    {{"--seed", "18446744073709551616"}, "--seed", SEED, "got '18446744073709551616'"},
    {{"--seed", "one"}, "--seed", SEED, "got 'one'"},
    {{"--seed", ""}, "--seed", SEED, "got ''"},
    {{"--temperature", "-0.1"}, "--temperature", TEMPERATURE, "got '-0.1'"},
    {{"--temperature", "1000.1"}, "--temperature", TEMPERATURE, "got '1000.1'"},
    {{"--temperature", "nan"}, "--temperature", TEMPERATURE, "got 'nan'"},
    {{"--temperature", "inf"}, "--temperature", TEMPERATURE, "got 'inf'"},
    {{"--temperature", "1e999"}, "--temperature", TEMPERATURE, "got '1e999'"},
    {{"--temperature", "0,7"}, "--temperature", TEMPERATURE, "got '0,7'"},
    {{"--temperature", ""}, "--temperature", TEMPERATURE, "got ''"},
    {{"--json=1"}, "generate: ", "no value is expected in '--json=1'", "--help"},
    {{"--model"}, "generate: ", "a value is missing after '--model'", "moebius generate --help"},
    {{"text", "--threads"}, "generate: ", "a value is missing after '--threads'", "--help"},
    {{"--modell", "x"}, "generate: ", "unknown or ambiguous flag '--modell'", "--help"},
    {{"text", "--bogus=3"}, "generate: ", "unknown or ambiguous flag '--bogus=3'", "--help"},
    {{"--s", "x"}, "generate: ", "unknown or ambiguous flag '--s'", "--help"}, /* seed or stop */
    {{"--help=1"}, "generate: ", "no value is expected in '--help=1'", "--help"},
    {{"-x"}, "generate: ", "unknown or ambiguous flag '-x'", "--help"},
    {{"-temperature", "5"}, "generate: ", "unknown or ambiguous flag '-t'", "--help"},
    {{"text", "-threads", "5"}, "generate: ", "unknown or ambiguous flag '-t'", "--help"},
};

static void bad_flags(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct parsed parsed;
        parse(bad[i].words, &parsed);
        const char *label = bad[i].words[0];
        if (parsed.status != STATUS_USAGE)
            fail_msg("%s %s: status %s", label, bad[i].words[1], status_name(parsed.status));
        capture_has(&parsed.capture, label, bad[i].flag);
        capture_has(&parsed.capture, label, bad[i].expected);
        capture_has(&parsed.capture, label, bad[i].got);
        assert_int_equal(capture_lines(&parsed.capture), 1);
        assert_int_equal(targets.threads, -1); /* nothing is written from a refused value */
        assert_true(targets.temperature == -1.0f && targets.seed == 99 && !targets.json);
    }
}

static void too_many_of_a_list(void **state) {
    (void)state;
    const char *words[OPTION_LIST_MAX + 2] = {NULL};
    struct parsed parsed;
    for (int32_t i = 0; i < OPTION_LIST_MAX; i++)
        words[i] = "--stop=x";
    parse(words, &parsed);
    assert_int_equal(parsed.status, STATUS_OK);
    assert_int_equal(targets.stop.count, OPTION_LIST_MAX);
    words[OPTION_LIST_MAX] = "--stop=last";
    parse(words, &parsed);
    assert_int_equal(parsed.status, STATUS_USAGE);
    capture_has(&parsed.capture, "list", "--stop: expected at most 64 of this flag, got 'last'");
}

/* A parse that failed inside a word leaves nothing behind for the next one. */
static void parses_are_independent(void **state) {
    (void)state;
    static const char *const broken[] = {"-xh", NULL};
    static const char *const help[] = {"--json", "-h", "--bogus", NULL};
    static const char *const good[] = {"--threads", "3", NULL};
    struct parsed parsed;
    parse(broken, &parsed);
    assert_int_equal(parsed.status, STATUS_USAGE);
    parse(good, &parsed);
    assert_int_equal(parsed.status, STATUS_OK);
    assert_int_equal(parsed.help, 0);
    assert_int_equal(targets.threads, 3);
    parse(help, &parsed);
    assert_int_equal(parsed.status, STATUS_OK);
    assert_int_equal(parsed.help, 1);
    assert_string_equal(parsed.capture.text, "");
}

static void help_shows_every_flag(void **state) {
    (void)state;
    static const char *const lines[] = {"usage: moebius generate [options] [PROMPT]\n",
                                        "Makes text.\n",
                                        "\nModel:\n",
                                        "\nSampling:\n",
                                        "  --model DIR                 a folder\n",
                                        "  --threads N                 compute threads\n",
                                        "  --json                      one object\n",
                                        "  --a-flag-with-a-rather-long-name DIR\n",
                                        "  -h, --help "};
    fflush(stdout);
    FILE *file = tmpfile();
    int saved = dup(STDOUT_FILENO);
    assert_true(file != NULL && saved >= 0 && dup2(fileno(file), STDOUT_FILENO) >= 0);
    options_help(&command);
    fflush(stdout);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    rewind(file);
    char text[4096] = "";
    size_t size = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    assert_true(size > 0);
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        if (strstr(text, lines[i]) == NULL)
            fail_msg("no \"%s\" in: %s", lines[i], text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_kinds),
        cmocka_unit_test(nothing_given_nothing_written),
        cmocka_unit_test(bad_flags),
        cmocka_unit_test(too_many_of_a_list),
        cmocka_unit_test(parses_are_independent),
        cmocka_unit_test(help_shows_every_flag),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
