/* launcher/settings.c and config_file.c: file, environment and command line, which of them stands,
 * and what is said of each mistake. */
#define _XOPEN_SOURCE 700
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/settings.h"
#include "tests/unit/unit_test.h"

#include "tests/unit/scratch.h"

static struct targets {
    struct settings settings;
    bool json;
    const char *model, *host;
    int32_t port;
    float temperature;
    struct option_list stop;
} targets;

#define OWN_ENTRIES 7
static struct option_entry entries[OWN_ENTRIES + SETTINGS_ENTRIES];
static struct option_command command = {.name = "serve", .usage = "", .summary = ""};

static void fill_table(void) {
    static const struct option_entry own[OWN_ENTRIES] = {
        {.kind = OPTION_HEADING, .name = "Doors"},
        {OPTION_STRING, "model", &targets.model, "DIR", "a folder", 0, 0},
        {OPTION_STRING, "host", &targets.host, "NAME", "an address", 0, 0},
        {OPTION_INT, "port", &targets.port, "N", "a port", 0, 65535},
        {OPTION_FLOAT, "temperature", &targets.temperature, "T", "0 is greedy", 0, 1000},
        {OPTION_LIST, "stop", &targets.stop, "TEXT", "may be repeated", 0, 0},
        {OPTION_FLAG, "json", &targets.json, NULL, "one object", 0, 0},
    };
    memcpy(entries, own, sizeof own);
    command.entries = entries;
    command.count = settings_entries(&targets.settings, entries, OWN_ENTRIES);
}

struct outcome {
    enum status status;
    struct capture capture;
};

static char path[256]; /* of the file under test */

/* Parses the words behind the command's name, with `text` as the file behind --config (NULL: no
 * such flag). */
static void parse(const char *text, const char *const *words, struct outcome *outcome) {
    static char command_name[] = "serve", config_flag[] = "--config";
    static char copies[8][64];
    char *argv[12] = {command_name};
    int argc = 1;
    settings_deinit(&targets.settings);
    targets = (struct targets){.port = 50051, .host = "localhost", .temperature = 0.1f};
    if (text != NULL) {
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        fputs(text, file);
        fclose(file);
        argv[argc++] = config_flag;
        argv[argc++] = path;
    }
    for (int i = 0; words[i] != NULL; i++) {
        snprintf(copies[i], sizeof copies[i], "%s", words[i]);
        argv[argc++] = copies[i];
    }
    capture_begin(&outcome->capture);
    outcome->status = settings_parse(&command, argc, argv, &targets.settings);
    capture_end(&outcome->capture);
}

static const char *const no_words[] = {NULL};

static void a_file_sets_every_kind(void **state) {
    (void)state;
    struct outcome outcome;
    parse("# a server\nmodel: /models/a b\nhost: '::1'\nport: 8000\ntemperature: 0.5\n"
          "stop: [\"\\n\\n\", end]\njson: true\n",
          no_words, &outcome);
    assert_int_equal(outcome.status, STATUS_OK);
    assert_string_equal(outcome.capture.text, "");
    assert_string_equal(targets.model, "/models/a b");
    assert_string_equal(targets.host, "::1");
    assert_int_equal(targets.port, 8000);
    assert_true(targets.temperature == 0.5f);
    assert_int_equal(targets.stop.count, 2);
    assert_string_equal(targets.stop.values[0], "\n\n");
    assert_string_equal(targets.stop.values[1], "end");
    assert_true(targets.json);
    assert_int_equal(settings_origin_of(&targets.settings, "port"), SETTINGS_FILE);
    assert_string_equal(targets.settings.effective,
                        "model: \"/models/a b\"\nhost: \"::1\"\nport: 8000\ntemperature: 0.5\n"
                        "stop: [\"\\x0a\\x0a\", \"end\"]\njson: true\n");
}

/* What is written may be read again, and says the same. */
static void effective_text_is_a_file(void **state) {
    (void)state;
    struct outcome outcome;
    parse("stop: [\"a \\\"quote\\\" \\\\ \\t\", \"\\u00e4\"]\ntemperature: 0.1\njson: true\n",
          no_words, &outcome);
    assert_int_equal(outcome.status, STATUS_OK);
    char *first = strdup(targets.settings.effective);
    assert_non_null(first);
    parse(first, no_words, &outcome);
    assert_int_equal(outcome.status, STATUS_OK);
    assert_string_equal(targets.settings.effective, first);
    free(first);
}

static void the_later_layer_stands(void **state) {
    (void)state;
    static const char *const words[] = {"--port", "3", "--stop=z", "x", NULL};
    static const char file[] =
        "port: 1\nhost: file\nmodel: file\nstop: [a, b]\njson: true\ntemperature: 2\n";
    struct outcome outcome;
    setenv("MOEBIUS_PORT", "2", 1);
    setenv("MOEBIUS_HOST", "environment", 1);
    setenv("MOEBIUS_STOP", "y", 1);
    setenv("MOEBIUS_JSON", "false", 1);
    parse(file, words, &outcome);
    assert_int_equal(outcome.status, STATUS_OK);
    assert_int_equal(targets.port, 3);
    assert_string_equal(targets.host, "environment");
    assert_string_equal(targets.model, "file");
    assert_int_equal(targets.stop.count, 1);
    assert_string_equal(targets.stop.values[0], "z");
    assert_false(targets.json);
    assert_true(targets.temperature == 2.0f);
    assert_int_equal(targets.settings.first_operand, 6);
    assert_int_equal(settings_origin_of(&targets.settings, "host"), SETTINGS_ENVIRONMENT);
    assert_int_equal(settings_origin_of(&targets.settings, "port"), SETTINGS_FLAG);
    parse(file, no_words, &outcome);
    assert_int_equal(targets.stop.count, 1);
    assert_string_equal(targets.stop.values[0], "y");
    unsetenv("MOEBIUS_PORT");
    unsetenv("MOEBIUS_HOST");
    unsetenv("MOEBIUS_STOP");
    unsetenv("MOEBIUS_JSON");
    parse(NULL, no_words, &outcome);
    assert_int_equal(targets.port, 50051);
    assert_int_equal(settings_origin_of(&targets.settings, "port"), SETTINGS_DEFAULT);
}

static void the_environment_may_name_the_file(void **state) {
    (void)state;
    struct outcome outcome;
    parse("port: 7\n", no_words, &outcome);
    setenv("MOEBIUS_CONFIG", path, 1);
    parse(NULL, no_words, &outcome);
    assert_int_equal(outcome.status, STATUS_OK);
    assert_int_equal(targets.port, 7);
    unsetenv("MOEBIUS_CONFIG");
}

static void mistakes_have_a_place(void **state) {
    (void)state;
    static const struct {
        const char *text, *said;
        enum status status;
    } cases[] = {
        {"host: a\nprot: 1\n",
         ":2: expected the name of a flag of serve, got 'prot'; the nearest is 'port'",
         STATUS_USAGE},
        {"temprature: 1\n", "the nearest is 'temperature'", STATUS_USAGE},
        {"config: other\n", "got 'config'", STATUS_USAGE},
        {"port: x\n", ":1: port: expected a whole number from 0 to 65535, got 'x'", STATUS_USAGE},
        {"\njson: yes\n", ":2: json: expected true or false, got 'yes'", STATUS_USAGE},
        {"port: 1\nport: 2\n", ":2: expected each key once, got one again", STATUS_USAGE},
        {"port: [1, 2]\n", ":1: port: expected one value, got a list", STATUS_USAGE},
        {"port:\n", ":1: expected a value, got none", STATUS_USAGE},
        {"port: {a: 1}\n", ":1: expected a value or a list of values, got a mapping", STATUS_USAGE},
        {"stop: [[a]]\n", ":1: expected a value, got a list", STATUS_USAGE},
        {"stop: &a x\nhost: *a\n", ":2: expected a value or a list of values, got an alias",
         STATUS_USAGE},
        {"- port\n", ":1: expected a mapping of flags to values", STATUS_USAGE},
        {"port: 1\n---\nport: 2\n", "expected one document", STATUS_USAGE},
        {"port: \"1\n", "expected YAML, got:", STATUS_USAGE},
        {"host: \"a\\0b\"\n", ":1: expected text without NUL characters", STATUS_USAGE},
        {"host: \xff\n", "expected YAML, got:", STATUS_USAGE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct outcome outcome;
        parse(cases[i].text, no_words, &outcome);
        assert_int_equal(outcome.status, cases[i].status);
        if (strstr(outcome.capture.text, cases[i].said) == NULL)
            fail_msg("case %zu: no '%s' in: %s", i, cases[i].said, outcome.capture.text);
        assert_ptr_equal(strchr(outcome.capture.text, '\n'),
                         outcome.capture.text + strlen(outcome.capture.text) - 1);
    }
    struct outcome outcome;
    setenv("MOEBIUS_PORT", "70000", 1);
    parse(NULL, no_words, &outcome);
    assert_int_equal(outcome.status, STATUS_USAGE);
    assert_non_null(strstr(outcome.capture.text, "environment: port: expected a whole number"));
    unsetenv("MOEBIUS_PORT");
    static const char *const missing[] = {"--config", "/nonexistent/x.yaml", NULL};
    parse(NULL, missing, &outcome);
    assert_int_equal(outcome.status, STATUS_IO);
    assert_non_null(strstr(outcome.capture.text, "--config: /nonexistent/x.yaml: cannot open"));
}

static void empty_files_are_files(void **state) {
    (void)state;
    struct outcome outcome;
    parse("", no_words, &outcome);
    assert_int_equal(outcome.status, STATUS_OK);
    parse("# nothing\n", no_words, &outcome);
    assert_int_equal(outcome.status, STATUS_OK);
    parse("{}\n", no_words, &outcome);
    assert_int_equal(outcome.status, STATUS_OK);
}

static void a_slip_in_the_environment_is_told(void **state) {
    (void)state;
    struct outcome outcome;
    setenv("MOEBIUS_PROT", "1", 1);
    setenv("MOEBIUS_MAX_NUM_SEQS", "1", 1); /* another command's */
    parse(NULL, no_words, &outcome);
    assert_int_equal(outcome.status, STATUS_OK);
    assert_non_null(strstr(outcome.capture.text, "no flag --prot, the nearest is --port"));
    assert_null(strstr(outcome.capture.text, "max-num-seqs"));
    unsetenv("MOEBIUS_PROT");
    unsetenv("MOEBIUS_MAX_NUM_SEQS");
}

static void it_is_announced_when_it_is_news(void **state) {
    (void)state;
    static const char *const words[] = {"--port=3", NULL};
    struct outcome outcome;
    parse(NULL, words, &outcome);
    capture_begin(&outcome.capture);
    settings_announce(&targets.settings, false);
    capture_end(&outcome.capture);
    assert_string_equal(outcome.capture.text, "");
    capture_begin(&outcome.capture);
    settings_announce(&targets.settings, true);
    capture_end(&outcome.capture);
    assert_non_null(strstr(outcome.capture.text, "configuration: port=3 (flag)"));
    parse("host: a\n", words, &outcome);
    capture_begin(&outcome.capture);
    settings_announce(&targets.settings, false);
    capture_end(&outcome.capture);
    assert_non_null(strstr(outcome.capture.text, "configuration: host=\"a\" (file) port=3 (flag)"));
}

int main(void) {
    snprintf(path, sizeof path, "%s/moebius-settings-XXXXXX", P_tmpdir);
    int descriptor = mkstemp(path);
    if (descriptor < 0)
        return 1;
    fill_table();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_sets_every_kind),
        cmocka_unit_test(effective_text_is_a_file),
        cmocka_unit_test(the_later_layer_stands),
        cmocka_unit_test(the_environment_may_name_the_file),
        cmocka_unit_test(mistakes_have_a_place),
        cmocka_unit_test(empty_files_are_files),
        cmocka_unit_test(a_slip_in_the_environment_is_told),
        cmocka_unit_test(it_is_announced_when_it_is_news),
    };
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    settings_deinit(&targets.settings);
    remove(path);
    return failures;
}
