/* --print-config of every command that takes --config: it has all flags, is accepted back, and so
 * are the values that it shows as comments. Usage: test_cli_config MOEBIUS */
#define _XOPEN_SOURCE 700
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/status.h"
#include "tests/support/expect.h"
#include "tests/support/program.h"

struct command {
    const char *words[2]; /* the second may be NULL */
    int flags;            /* that it has at least */
};

static const struct command commands[] = {
    {{"generate", NULL}, 40},      {{"serve", NULL}, 35},      {{"complete", NULL}, 25},
    {{"chat", NULL}, 20},          {{"inspect", NULL}, 8},     {{"bench", "serve"}, 25},
    {{"bench", "throughput"}, 30}, {{"bench", "latency"}, 20}, {{"bench", "startup"}, 4},
    {{"bench", "exchange"}, 18},   {{"doctor", NULL}, 15},
};

/* Runs the command with up to three more words. */
static void run(const struct program *program, const struct command *command, const char *first,
                const char *second, const char *third, struct program_run *into) {
    const char *arguments[6];
    int count = 0;
    arguments[count++] = command->words[0];
    if (command->words[1] != NULL)
        arguments[count++] = command->words[1];
    arguments[count++] = first;
    arguments[count++] = second;
    arguments[count++] = second != NULL ? third : NULL;
    arguments[count] = NULL;
    program_run(program, arguments, NULL, PROGRAM_KEPT, into);
}

/* What the command prints when it reads `text` as its file; it must take it. */
static char *print_of(const struct program *program, const struct command *command,
                      const char *text) {
    char path[256];
    struct program_run printed;
    program_scratch_path(program, "config.yaml", path, sizeof path);
    program_write_file(path, text, strlen(text));
    run(program, command, "--config", path, "--print-config", &printed);
    EXPECT(printed.exit_code == 0 && printed.err_size == 0, "%s %s: exit code %d: %s",
           command->words[0], command->words[1] != NULL ? command->words[1] : "", printed.exit_code,
           printed.err);
    char *out = strdup(printed.out);
    program_run_deinit(&printed);
    return out;
}

/* The values that stand behind "# ", without it; those in words are left out. On the heap. */
static char *uncomment(const char *text) {
    char *plain = calloc(1, strlen(text) + 1), *to = plain;
    for (const char *line = text; plain != NULL && *line != '\0';) {
        size_t length = strcspn(line, "\n") + 1;
        const char *words = strstr(line, ": (default: ");
        if (words == NULL || words >= line + length) {
            memcpy(to, line + 2, length - 2);
            to += length - 2;
        }
        line += length;
    }
    return plain;
}

static void check_all_flags(const struct program *program, const struct command *command,
                            const char *printed) {
    struct program_run help;
    char *rest = NULL;
    int count = 0;
    run(program, command, "--help", NULL, NULL, &help);
    for (char *line = strtok_r(help.out, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        char wanted[80];
        if (strncmp(line, "  --", 4) != 0 || strncmp(line, "  --config ", 11) == 0 ||
            strncmp(line, "  --print-config ", 17) == 0)
            continue;
        snprintf(wanted, sizeof wanted, "# %.*s: ", (int)strcspn(line + 4, " "), line + 4);
        EXPECT(strstr(printed, wanted) != NULL, "%s: no '%s' in --print-config:\n%s",
               command->words[0], wanted, printed);
        count++;
    }
    EXPECT(count >= command->flags, "%s: %d flags", command->words[0], count);
    program_run_deinit(&help);
}

static void check_command(const struct program *program, const struct command *command) {
    struct program_run first;
    run(program, command, "--print-config", NULL, NULL, &first);
    EXPECT(first.exit_code == 0 && first.err_size == 0, "%s: exit code %d: %s", command->words[0],
           first.exit_code, first.err);
    check_all_flags(program, command, first.out);
    char *same = print_of(program, command, first.out);
    EXPECT(strcmp(same, first.out) == 0, "%s: %s", command->words[0], same);
    char *values = uncomment(first.out);
    char *given = print_of(program, command, values);
    char *again = print_of(program, command, given);
    EXPECT(strcmp(given, again) == 0, "%s:\n%s\n%s", command->words[0], given, again);
    char *rest = NULL;
    for (char *line = strtok_r(values, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        char told[256]; /* an empty list is none */
        snprintf(told, sizeof told, strstr(line, ": []") != NULL ? "# %s" : "%s  # file", line);
        EXPECT(strstr(given, told) != NULL, "%s: no '%s' in:\n%s", command->words[0], told, given);
    }
    free(same);
    free(values);
    free(given);
    free(again);
    program_run_deinit(&first);
}

static void check_words(const struct program *program) {
    static const char *const lines[] = {
        "\n# model: (default: the demo model)\n",
        "\n# max-model-len: (default: the model's)\n",
        "\n# tensor-parallel-size: (default: 1, or ranks / groups)\n",
        "\n# enable-expert-parallel: true\n",
        "\n# kv-cache-memory: (default: a quarter of ",
        "\n# ssl-certfile: (default: none)\n"};
    struct program_run printed;
    run(program, &commands[1], "--print-config", NULL, NULL, &printed);
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        EXPECT(strstr(printed.out, lines[i]) != NULL, "no '%s' in:\n%s", lines[i], printed.out);
    program_run_deinit(&printed);
}

/* Whatever is wrong with a file behind --config has one exit code. */
static void check_mistakes(const struct program *program) {
    static const char *const texts[] = {"prot: 1\n",
                                        "port: 1\nport: 2\n",
                                        "port: \"1\n",
                                        "port: x\n",
                                        "- port\n",
                                        "port: [1, 2]\n",
                                        "enable-expert-parallel: false\n"};
    char path[256];
    program_scratch_path(program, "bad.yaml", path, sizeof path);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct program_run refused;
        program_write_file(path, texts[i], strlen(texts[i]));
        run(program, &commands[1], "--config", path, "--no-http", &refused);
        EXPECT(refused.exit_code == status_exit_code(STATUS_USAGE) && refused.out_size == 0,
               "%s: exit code %d: %s", texts[i], refused.exit_code, refused.err);
        program_run_deinit(&refused);
    }
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: test_cli_config MOEBIUS\n");
        return 2;
    }
    struct program program;
    program_init(&program, argv[1]);
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        check_command(&program, &commands[i]);
    check_words(&program);
    check_mistakes(&program);
    program_deinit(&program);
    return expect_failures == 0 ? 0 : 1;
}
