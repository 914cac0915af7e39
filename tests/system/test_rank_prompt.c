/* The prompt is read on rank 0 alone: standard input reaches no other, and what is wrong with it is
 * said once. Usage: test_rank_prompt MPIRUN MOEBIUS */
#include <string.h>

#include "kernels/base/status.h"
#include "tests/support/expect.h"
#include "tests/support/mpirun.h"
#include "tests/support/program.h"

#define PROMPT "It was a cold evening, and the old man"

/* `generate flag value` on 3 ranks, with the file `input` as standard input (NULL: nothing). */
static void generate(char **argv, const char *flag, const char *value, const char *input,
                     struct program_run *run) {
    struct program mpirun;
    program_init(&mpirun, argv[1]);
    program_run(&mpirun,
                (const char *const[]){MPIRUN_FLAGS, "-n", "3", argv[2], "generate", "--threads",
                                      "1", "--log-level", "error", "--max-tokens", "8", flag, value,
                                      NULL},
                input, PROGRAM_KEPT, run);
    program_deinit(&mpirun);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: test_rank_prompt MPIRUN MOEBIUS\n");
        return 2;
    }
    struct program scratch;
    struct program_run given, piped, empty;
    char path[256];
    program_init(&scratch, argv[2]);
    program_scratch_path(&scratch, "prompt", path, sizeof path);
    program_write_file(path, PROMPT, strlen(PROMPT));
    generate(argv, "--prompt", PROMPT, NULL, &given);
    generate(argv, "--file", "-", path, &piped);
    EXPECT(given.exit_code == 0 && given.out_size > 1, "--prompt: %d: %s", given.exit_code,
           given.err);
    EXPECT(piped.exit_code == 0 && strcmp(piped.out, given.out) == 0,
           "--file -: exit code %d, expected '%s', got '%s': %s", piped.exit_code, given.out,
           piped.out, piped.err);
    generate(argv, "--file", "-", NULL, &empty);
    const char *line = strstr(empty.err, " error generate_prompt.c");
    EXPECT(empty.exit_code == status_exit_code(STATUS_BAD_REQUEST) && line != NULL &&
               strstr(line + 1, " error generate_prompt.c") == NULL,
           "no prompt: exit code %d, expected one line in: %s", empty.exit_code, empty.err);
    program_run_deinit(&given);
    program_run_deinit(&piped);
    program_run_deinit(&empty);
    program_deinit(&scratch);
    return expect_failures == 0 ? 0 : 1;
}
