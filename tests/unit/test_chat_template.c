/* runtime/chat_template: against what real Jinja2 renders (tests/data/chat/make_cases.py), refusals
 * by their words, models' folders, bounds. */
#define _POSIX_C_SOURCE 200809L /* mkdtemp, setenv */
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "kernels/base/log.h"
#include "runtime/chat_template.h"
#include "tests/support/log_capture.h"
#include "tests/unit/unit_test.h"

#define NOW_S 1753963200 /* 2025-07-31 12:00 UTC, as in make_cases.py */
#define LOG_BYTES 4096

static enum status parse_and_render(const char *text, size_t length, const struct chat_input *input,
                                    struct text_buffer *out) {
    struct chat_template *chat = NULL;
    enum status status = chat_template_parse("case", text, length, &chat);
    if (status == STATUS_OK)
        status = chat_template_render(chat, input, out);
    chat_template_destroy(chat);
    return status;
}

/* Runs one case; gives 0 if it did what it should. */
static int run_case(const json_t *json) {
    const char *name = json_string_value(json_object_get(json, "name"));
    const json_t *template_text = json_object_get(json, "template");
    const json_t *expected = json_object_get(json, "expected");
    const char *reason = json_string_value(json_object_get(json, "refused"));
    const char *wanted = json_string_value(json_object_get(json, "status"));
    char *messages = json_dumps(json_object_get(json, "messages"), 0);
    json_t *all = json_loads("{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}", 0, NULL);
    json_object_update(all, json_object_get(json, "variables"));
    char *variables = json_dumps(all, 0);
    struct chat_input input = {.messages_json = messages,
                               .variables_json = variables,
                               .add_generation_prompt =
                                   json_is_true(json_object_get(json, "add_generation_prompt")),
                               .now_s = NOW_S};
    struct text_buffer out = {0};
    char log[LOG_BYTES];
    struct log_capture capture;
    log_capture_begin(&capture);
    enum status status = parse_and_render(json_string_value(template_text),
                                          json_string_length(template_text), &input, &out);
    int lines = log_capture_end(&capture, log, sizeof log);
    int bad = 0;
    if (expected != NULL) {
        bad = status != STATUS_OK || out.length != json_string_length(expected) ||
              (out.length > 0 && memcmp(out.data, json_string_value(expected), out.length) != 0);
        if (bad)
            printf("%s: expected:\n%s\ngot (%s):\n%.*s\n%s\n", name, json_string_value(expected),
                   status_name(status), (int)out.length, out.data == NULL ? "" : out.data, log);
    } else {
        bad = status == STATUS_OK || strstr(log, reason) == NULL || lines != 1 ||
              (wanted != NULL && strcmp(wanted, status_name(status)) != 0) || out.length != 0;
        if (bad)
            printf("%s: expected a refusal (%s) with '%s', got %s: %s\n", name,
                   wanted == NULL ? "any" : wanted, reason, status_name(status), log);
    }
    text_buffer_deinit(&out);
    json_decref(all);
    free(variables);
    free(messages);
    return bad;
}

static void cases_are_as_jinja2_says(void **state) {
    (void)state;
    json_error_t error;
    json_t *cases = json_load_file("tests/data/chat/cases.json", JSON_ALLOW_NUL, &error);
    assert_non_null(cases);
    int bad = 0;
    int rendered = 0;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        bad += run_case(json_array_get(cases, i));
        rendered += json_object_get(json_array_get(cases, i), "expected") != NULL;
    }
    assert_true(rendered >= 90);
    assert_true(json_array_size(cases) >= 170);
    assert_int_equal(bad, 0);
    json_decref(cases);
}

/* The comparison above can fail: a wrong expectation and a wrong reason are both found. */
static void wrong_expectations_are_found(void **state) {
    (void)state;
    static const char *const wrong[] = {
        "{\"name\": \"control\", \"template\": \"a\", \"messages\": [], \"variables\": {}, "
        "\"expected\": \"b\"}",
        "{\"name\": \"control\", \"template\": \"a\", \"messages\": [], \"variables\": {}, "
        "\"refused\": \"reason\"}",
        "{\"name\": \"control\", \"template\": \"{{ x.y }}\", \"messages\": [], \"variables\": {}, "
        "\"refused\": \"another reason\"}"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        json_t *json = json_loads(wrong[i], 0, NULL);
        assert_non_null(json);
        int saved = dup(STDOUT_FILENO);
        FILE *nowhere = fopen("/dev/null", "w");
        assert_non_null(nowhere);
        fflush(stdout);
        dup2(fileno(nowhere), STDOUT_FILENO);
        int bad = run_case(json);
        fflush(stdout);
        dup2(saved, STDOUT_FILENO);
        close(saved);
        fclose(nowhere);
        assert_int_equal(bad, 1);
        json_decref(json);
    }
}

static void messages_from_c(void **state) {
    (void)state;
    static const char text[] = "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}"
                               "{{ add_generation_prompt }}{{ bos_token }}";
    struct chat_message messages[] = {{"user", "Grüße"}, {"assistant", NULL}};
    struct chat_input input = {.messages = messages, .message_count = 2};
    struct text_buffer out = {0};
    assert_int_equal(parse_and_render(text, strlen(text), &input, &out), STATUS_OK);
    assert_int_equal(out.length, strlen("user:Grüße;assistant:None;False"));
    assert_memory_equal(out.data, "user:Grüße;assistant:None;False", out.length);
    text_buffer_deinit(&out);
    messages[0].content = "\xff";
    assert_int_equal(parse_and_render(text, strlen(text), &input, &out), STATUS_BAD_REQUEST);
    assert_int_equal(out.length, 0);
    assert_int_equal(parse_and_render("\xc0\x80", 2, &input, &out), STATUS_BAD_TOKENIZER);
}

static void bad_json_is_refused(void **state) {
    (void)state;
    static const char *const messages[] = {
        "", "{", "{}", "3", "[1e999]", "[123456789012345678901]", "[\"\\ud800\"]"};
    struct text_buffer out = {0};
    for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++) {
        struct chat_input input = {.messages_json = messages[i]};
        assert_int_equal(parse_and_render("x", 1, &input, &out), STATUS_BAD_REQUEST);
    }
    struct chat_input input = {.variables_json = "[]"};
    assert_int_equal(parse_and_render("x", 1, &input, &out), STATUS_BAD_REQUEST);
    char deep[600];
    memset(deep, '[', 300);
    memset(deep + 300, ']', 299);
    deep[599] = '\0';
    input = (struct chat_input){.messages_json = deep};
    assert_int_equal(parse_and_render("x", 1, &input, &out), STATUS_BAD_REQUEST);
}

/* A template made of `count` times `piece` between `before` and `after`. */
static char *repeat(const char *before, const char *piece, size_t count, const char *after) {
    size_t length = strlen(before) + count * strlen(piece) + strlen(after) + 1;
    char *text = malloc(length);
    assert_non_null(text);
    char *at = text + sprintf(text, "%s", before);
    for (size_t i = 0; i < count; i++)
        at += sprintf(at, "%s", piece);
    sprintf(at, "%s", after);
    return text;
}

static void everything_is_bounded(void **state) {
    (void)state;
    static const struct {
        const char *before, *piece;
        size_t count;
        const char *after;
    } greedy[] = {{"", "{{ (", 5000, ""},
                  {"{{ ", "(", 150, "1"},
                  {"{{ ", "not ", 100000, "1 }}"},
                  {"{{ ", "-", 100000, "1 }}"},
                  {"{{ 1", " + 1", 100000, " }}"},
                  {"{{ a", ".a", 100000, " }}"},
                  {"{{ a", "|trim", 100000, " }}"},
                  {"{{ 1", " if 1 else 1", 30000, " }}"},
                  {"", "{% if 1 %}", 50000, ""},
                  {"", "{% for x in [1] %}", 20000, ""},
                  {"{% macro f() %}{{ f() }}{% endmacro %}", "{{ f() }}", 1, ""},
                  {"{% macro f(x=f()) %}{% endmacro %}", "{{ f() }}", 1, ""},
                  {"{% set a = range(100000) %}", "{% for x in a %}", 3,
                   "{% endfor %}{% endfor %}{% endfor %}"},
                  {"{% set ns = namespace(s='0123456789') %}{% for x in range(60) %}",
                   "{% set ns.s = ns.s + ns.s %}", 1, "{% endfor %}{{ ns.s }}"},
                  {"{% set ns = namespace(s='0123456789') %}{% for x in range(60) %}",
                   "{% set ns.s = ns.s ~ ns.s "
                   "%}",
                   1, "{% endfor %}"},
                  {"{% set ns = namespace(s=[1]) %}{% for x in range(60) %}",
                   "{% set ns.s = ns.s + ns.s %}", 1, "{% endfor %}"},
                  {"{% set ns = namespace(s=[1]) %}{% for x in range(5000) %}",
                   "{% set ns.s = [ns.s] %}", 1, "{% endfor %}{{ ns.s }}"},
                  {"{% set ns = namespace(s=[1]) %}{% for x in range(5000) %}",
                   "{% set ns.s = [ns.s] %}", 1, "{% endfor %}{{ ns.s == ns.s }}"},
                  {"{% set ns = namespace(s=[1]) %}{% for x in range(5000) %}",
                   "{% set ns.s = [ns.s] %}", 1, "{% endfor %}{{ ns.s | tojson }}"},
                  {"{% for x in range(100000) %}", "{{ 'abcdefghij' * 1000 }}", 1, "{% endfor %}"},
                  {"{{ 'x' * 9000000000 }}", "", 0, ""},
                  {"{% set a = 'a' * 16000000 %}",
                   "{% for x in range(1000) %}{% if 'ab' in a %}{% endif %}", 1, "{% endfor %}"},
                  {"{% set a = 'a' * 1000000 %}{{ a.strip(", "", 0,
                   "a + 'b') }}{{ a.rfind(a[1:] + 'b') }}"
                   "{{ (a + 'c').strip('b' * 900000) }}"},
                  {"{{ 'a' | ", "map('map', ", 100, "'upper'"},
                  {"{% set a %}", "{{ 'x' * 1000000 }}", 2000, "{% endset %}"}};
    struct chat_input input = {.message_count = 0};
    for (size_t i = 0; i < sizeof greedy / sizeof greedy[0]; i++) {
        struct text_buffer out = {0};
        char log[LOG_BYTES];
        char *text = repeat(greedy[i].before, greedy[i].piece, greedy[i].count, greedy[i].after);
        struct log_capture capture;
        log_capture_begin(&capture);
        enum status status = parse_and_render(text, strlen(text), &input, &out);
        int lines = log_capture_end(&capture, log, sizeof log);
        if (status == STATUS_OK || lines != 1)
            printf("%zu: %s: %s\n", i, status_name(status), log);
        assert_int_not_equal(status, STATUS_OK);
        assert_int_equal(lines, 1);
        assert_int_equal(out.length, 0);
        text_buffer_deinit(&out);
        free(text);
    }
}

static void output_has_a_limit(void **state) {
    (void)state;
    struct text_buffer out = {0};
    struct chat_input input = {.output_bytes_max = 10};
    assert_int_equal(parse_and_render("{{ 'x' * 10 }}", 14, &input, &out), STATUS_OK);
    assert_int_equal(out.length, 10);
    assert_int_equal(parse_and_render("{{ 'x' * 10 }}y", 15, &input, &out), STATUS_LIMIT);
    assert_int_equal(out.length, 10);
    text_buffer_deinit(&out);
}

/* A long conversation costs its length: 8 MB of messages pass. */
static void long_conversations_are_linear(void **state) {
    (void)state;
    static const char text[] = "{% for m in messages %}{{ '<' + m.role + '>' + m.content + '\\n' }}"
                               "{% endfor %}";
    int32_t count = 8192;
    struct chat_message *messages = calloc((size_t)count, sizeof *messages);
    char content[1001];
    memset(content, 'x', 1000);
    content[1000] = '\0';
    assert_non_null(messages);
    for (int32_t i = 0; i < count; i++)
        messages[i] = (struct chat_message){"user", content};
    struct chat_input input = {.messages = messages, .message_count = count};
    struct text_buffer out = {0};
    assert_int_equal(parse_and_render(text, strlen(text), &input, &out), STATUS_OK);
    assert_int_equal(out.length, (size_t)count * 1007);
    text_buffer_deinit(&out);
    free(messages);
}

/* ---- models' folders ---- */

static char folder[64];

static void write_file(const char *name, const char *text) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (text == NULL) {
        unlink(path);
        return;
    }
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int make_folder(void **state) {
    (void)state;
    strcpy(folder, "/tmp/moebius-chat-XXXXXX");
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int remove_folder(void **state) {
    (void)state;
    write_file("chat_template.jinja", NULL);
    write_file("tokenizer_config.json", NULL);
    write_file("special_tokens_map.json", NULL);
    return rmdir(folder);
}

/* Loads the folder and renders nothing but the template. */
static enum status load_and_render(const char *jinja, const char *config, const char *map,
                                   const char *variables, char text[256]) {
    struct chat_template *chat = NULL;
    struct chat_input input = {.variables_json = variables};
    struct text_buffer out = {0};
    write_file("chat_template.jinja", jinja);
    write_file("tokenizer_config.json", config);
    write_file("special_tokens_map.json", map);
    enum status status = chat_template_load(folder, &chat);
    if (status == STATUS_OK)
        status = chat_template_render(chat, &input, &out);
    assert_true(out.length < 256);
    if (out.length > 0)
        memcpy(text, out.data, out.length);
    text[out.length] = '\0';
    text_buffer_deinit(&out);
    chat_template_destroy(chat);
    return status;
}

static void folders_are_read(void **state) {
    (void)state;
    char text[256];
    assert_int_equal(
        load_and_render(NULL,
                        "{\"chat_template\": \"[{{ bos_token }}{{ eos_token }}]\", "
                        "\"bos_token\": {\"content\": \"<b>\"}, \"eos_token\": \"<e>\"}",
                        NULL, NULL, text),
        STATUS_OK);
    assert_string_equal(text, "[<b><e>]");
    assert_int_equal(load_and_render("file {{ bos_token }}\n",
                                     "{\"chat_template\": \"config\", \"bos_token\": \"<b>\"}",
                                     NULL, "{\"bos_token\": \"mine\"}", text),
                     STATUS_OK);
    assert_string_equal(text, "file mine");
    assert_int_equal(load_and_render(NULL,
                                     "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": "
                                     "\"t\"}, {\"name\": \"default\", \"template\": \"d\"}]}",
                                     NULL, NULL, text),
                     STATUS_OK);
    assert_string_equal(text, "d");
    assert_int_equal(
        load_and_render("{{ bos_token }}|{{ eos_token is defined }}",
                        "{\"tokenizer_class\": \"LlamaTokenizer\", \"eos_token\": null}",
                        "{\"bos_token\": \"<m>\", \"eos_token\": \"<e>\"}", NULL, text),
        STATUS_OK);
    assert_string_equal(text, "<m>|False");
    assert_int_equal(load_and_render("{{ bos_token }}x", NULL, NULL, NULL, text), STATUS_OK);
    assert_string_equal(text, "x");
}

static void bad_folders_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *jinja, *config, *variables;
        enum status status;
        const char *reason;
    } bad[] = {
        {NULL, NULL, NULL, STATUS_UNSUPPORTED, "has no chat template"},
        {NULL, "{}", NULL, STATUS_UNSUPPORTED, "has no chat template"},
        {NULL, "{\"chat_template\": null}", NULL, STATUS_UNSUPPORTED, "has no chat template"},
        {NULL, "{\"chat_template\": 3}", NULL, STATUS_BAD_TOKENIZER, "'chat_template'"},
        {NULL, "{\"chat_template\": []}", NULL, STATUS_BAD_TOKENIZER, "'default'"},
        {NULL, "{\"chat_template\": [{\"name\": \"a\", \"template\": \"x\"}]}", NULL,
         STATUS_BAD_TOKENIZER, "'default'"},
        {NULL, "{\"chat_template\": [{\"name\": \"default\", \"template\": 1}, 2, \"x\"]}", NULL,
         STATUS_BAD_TOKENIZER, "'default'"},
        {NULL, "[]", NULL, STATUS_BAD_TOKENIZER, "expected a JSON object"},
        {NULL, "{\"chat_template\"", NULL, STATUS_BAD_TOKENIZER, "tokenizer_config.json"},
        {NULL, "{\"chat_template\": \"x\", \"bos_token\": 3}", NULL, STATUS_BAD_TOKENIZER,
         "'bos_token'"},
        {NULL, "{\"chat_template\": \"x\", \"eos_token\": {\"text\": 3}}", NULL,
         STATUS_BAD_TOKENIZER, "'eos_token'"},
        {"{{ bos_token }}", "{\"tokenizer_class\": \"LlamaTokenizer\"}", NULL, STATUS_BAD_TOKENIZER,
         "uses 'bos_token'"},
        {"a\n{{ eos_token }}", "{\"tokenizer_class\": \"LlamaTokenizer\"}", NULL,
         STATUS_BAD_TOKENIZER, "uses 'eos_token'"},
        {"a\n{% include 'b' %}", NULL, NULL, STATUS_UNSUPPORTED, "line 2: not supported"},
        {NULL,
         "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"t\"}, {\"name\": "
         "\"default\", \"template\": \"d\"}]}",
         "{\"tools\": []}", STATUS_UNSUPPORTED, "'tool_use'"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[256];
        char log[LOG_BYTES];
        struct log_capture capture;
        log_capture_begin(&capture);
        enum status status =
            load_and_render(bad[i].jinja, bad[i].config, NULL, bad[i].variables, text);
        int lines = log_capture_end(&capture, log, sizeof log);
        if (status != bad[i].status || strstr(log, bad[i].reason) == NULL || lines != 1)
            printf("%zu: %s: %s\n", i, status_name(status), log);
        assert_int_equal(status, bad[i].status);
        assert_non_null(strstr(log, bad[i].reason));
        assert_int_equal(lines, 1);
    }
    struct chat_template *chat = NULL;
    assert_int_equal(chat_template_load("/nowhere/at/all", &chat), STATUS_UNSUPPORTED);
    assert_null(chat);
}

int main(void) {
    setenv("TZ", "UTC", 1);
    tzset();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cases_are_as_jinja2_says),
        cmocka_unit_test(wrong_expectations_are_found),
        cmocka_unit_test(messages_from_c),
        cmocka_unit_test(bad_json_is_refused),
        cmocka_unit_test(everything_is_bounded),
        cmocka_unit_test(output_has_a_limit),
        cmocka_unit_test(long_conversations_are_linear),
        cmocka_unit_test_setup_teardown(folders_are_read, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(bad_folders_are_refused, make_folder, remove_folder),
    };
    return cmocka_run_group_tests_name("chat_template", tests, NULL, NULL);
}
