/* What moebius does at its edges: standard output that is closed, full or a broken pipe, an
 * instruction set that the CPU has not, any words at all on the command line. Usage:
 * test_cli_edges MOEBIUS */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/status.h"
#include "kernels/cpu_features.h"
#include "tests/support/expect.h"
#include "tests/support/program.h"

#define LLAMA "tests/data/golden/llama" /* no tokenizer */

/* One line that holds `part`. */
static void check_message(const char *label, const struct program_run *run, const char *part) {
    const char *end = strchr(run->err, '\n');
    EXPECT(end != NULL && end[1] == '\0' && strstr(run->err, part) != NULL,
           "%s: expected one line with \"%s\", got: %s", label, part, run->err);
}

/* ---- standard output that cannot take the answer ---- */

static void check_lost_output(const struct program *program) {
    static const char *const commands[][8] = {
        {"generate", "--log-level", "error", "hi", NULL},
        {"generate", "--log-level", "error", "--json", "hi", NULL},
        {"generate", "--log-level", "error", "--model", LLAMA, "--token-ids", "1 2", NULL},
        {"generate", "--help", NULL},
        {"tokenize", "hi", NULL},
        {"inspect", "--log-level", "error", NULL},
        {"--help", NULL},
        {"--version", NULL},
    };
    static const enum program_output outputs[] = {PROGRAM_CLOSED, PROGRAM_FULL,
                                                  PROGRAM_BROKEN_PIPE};
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        for (size_t o = 0; o < sizeof outputs / sizeof outputs[0]; o++) {
            char label[64];
            snprintf(label, sizeof label, "%s %zu, output %zu", commands[i][0], i, o);
            struct program_run run;
            program_run(program, commands[i], NULL, outputs[o], &run);
            EXPECT(run.exit_code == status_exit_code(STATUS_IO), "%s: exit code %d, signal %d: %s",
                   label, run.exit_code, run.signal, run.err);
            check_message(label, &run, "standard output");
            program_run_deinit(&run);
        }
    }
}

/* A dump must not be opened under the number of a closed standard output. */
static void check_closed_output_keeps_dumps(const struct program *program) {
    char path[256];
    program_scratch_path(program, "kept.safetensors", path, sizeof path);
    const char *const arguments[] = {"generate",      "--log-level", "error", "--json",
                                     "--dump-logits", path,          "hi",    NULL};
    struct program_run kept, closed;
    program_run(program, arguments, NULL, PROGRAM_KEPT, &kept);
    size_t kept_size, closed_size;
    char *kept_dump = program_read_file(path, &kept_size);
    program_run(program, arguments, NULL, PROGRAM_CLOSED, &closed);
    char *closed_dump = program_read_file(path, &closed_size);
    EXPECT(kept.exit_code == 0 && closed.exit_code == status_exit_code(STATUS_IO), "exit codes");
    EXPECT(kept_size == closed_size && memcmp(kept_dump, closed_dump, kept_size) == 0,
           "the dump of %zu bytes became one of %zu", kept_size, closed_size);
    free(kept_dump);
    free(closed_dump);
    program_run_deinit(&kept);
    program_run_deinit(&closed);
}

/* ---- instruction sets ---- */

/* Every name works or is refused as what this CPU has not. */
static void check_isa(const struct program *program) {
    for (int isa = 0; isa < CPU_ISA_COUNT; isa++) {
        const char *name = cpu_isa_name((enum cpu_isa)isa);
        bool supported = cpu_isa_supported((enum cpu_isa)isa) != 0;
        struct program_run run;
        program_run(program,
                    (const char *const[]){"generate", "--log-level", "error", "--max-tokens", "2",
                                          "--cpu-isa", name, "hi", NULL},
                    NULL, PROGRAM_KEPT, &run);
        int expected = status_exit_code(supported ? STATUS_OK : STATUS_UNSUPPORTED);
        EXPECT(run.exit_code == expected, "--cpu-isa %s: expected %d, got %d (signal %d): %s", name,
               expected, run.exit_code, run.signal, run.err);
        if (!supported)
            check_message(name, &run, name);
        program_run_deinit(&run);
    }
}

/* ---- flags that a model or a rank alone has no use for ---- */

static void check_idle_flags(const struct program *program) {
    static const struct {
        const char *flag, *model, *expected; /* expected NULL: not a word */
    } cases[] = {
        {"--expert-replicas=2", LLAMA,
         "--expert-replicas 2 has no effect: the model has no experts"},
        {"--moe-flow=a2a", LLAMA, "--moe-flow a2a has no effect: the model has no experts"},
        {"--expert-placement=a/b", LLAMA, "--expert-placement a/b has no effect: the model has"},
        {"--expert-replicas=2", "tests/data/golden/mixtral",
         "--expert-replicas 2 has no effect: one rank holds all experts"},
        {"--moe-flow=auto", LLAMA, NULL},
        {"--expert-replicas=0", "tests/data/golden/mixtral", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct program_run run;
        program_run(program,
                    (const char *const[]){"generate", "--log-level", "warn", "--max-tokens", "2",
                                          "--model", cases[i].model, "--token-ids", "1",
                                          cases[i].flag, NULL},
                    NULL, PROGRAM_KEPT, &run);
        EXPECT(run.exit_code == 0, "%s: exit code %d: %s", cases[i].flag, run.exit_code, run.err);
        if (cases[i].expected != NULL)
            check_message(cases[i].flag, &run, cases[i].expected);
        else
            EXPECT(run.err_size == 0, "%s: expected no word, got: %s", cases[i].flag, run.err);
        program_run_deinit(&run);
    }
}

/* ---- anything at all ---- */

static uint32_t next_random(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

/* A word of a command line: a flag, a number, bytes that may be no UTF-8. */
static void random_word(uint64_t *state, char *word, size_t size) {
    static const char *const flags[] = {
        "--prompt",     "--file",  "--token-ids", "--max-tokens", "--stop",         "--top-k",
        "--top-p",      "--seed",  "--json",      "--logprobs",   "--decode",       "--jsonl",
        "--logit-bias", "--dtype", "--threads",   "--ignore-eos", "--chat",         "--min-tokens",
        "--model",      "--",      "-",           "--min-p",      "--max-model-len"};
    static const char *const values[] = {"1",     "2",    "0",   "-1",  "1e9",
                                         "1 2 3", "5=1",  "hi",  "nan", "\xf0\x9f\x98\x80",
                                         "",      "auto", "%s%n"};
    switch (next_random(state) % 4) {
    case 0:
    case 1:
        snprintf(word, size, "%s", flags[next_random(state) % (sizeof flags / sizeof flags[0])]);
        break;
    case 2:
        snprintf(word, size, "%s", values[next_random(state) % (sizeof values / sizeof values[0])]);
        break;
    default:
        for (size_t i = 0, end = next_random(state) % 16; i <= end; i++)
            word[i] = (char)(i == end ? 0 : 1 + next_random(state) % 255);
        break;
    }
}

/* Whatever is asked: an exit code of ours, an error exactly when it is not 0, never a signal. */
static void check_random_words(const struct program *program, int runs) {
    static const char *const commands[] = {"generate", "tokenize", "inspect"};
    uint64_t state = 2;
    for (int i = 0; i < runs; i++) {
        char words[8][32];
        const char *arguments[16] = {commands[next_random(&state) % 3]};
        int count = 1, end = 2 + (int)(next_random(&state) % 7);
        for (; count < end; count++) {
            random_word(&state, words[count - 1], sizeof words[0]);
            arguments[count] = words[count - 1];
        }
        struct program_run run;
        program_run(program, arguments, NULL, PROGRAM_KEPT, &run);
        bool failed = run.exit_code != 0, told = strstr(run.err, " error ") != NULL;
        EXPECT(run.signal == 0 && run.exit_code != 1 && run.exit_code <= 10 && failed == told,
               "words %d: %s '%s' '%s' ...: exit code %d, signal %d: %s", i, arguments[0], words[0],
               words[1], run.exit_code, run.signal, run.err);
        program_run_deinit(&run);
    }
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: test_cli_edges MOEBIUS\n");
        return 2;
    }
    struct program program;
    program_init(&program, argv[1]);
    check_lost_output(&program);
    check_closed_output_keeps_dumps(&program);
    check_isa(&program);
    check_idle_flags(&program);
    check_random_words(&program, 100);
    program_deinit(&program);
    return expect_failures == 0 ? 0 : 1;
}
