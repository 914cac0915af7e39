/* Ranks of one node read a checkpoint once: what each of them holds alone, and its part of what all
 * hold. The sum over the ranks is the file, whatever the job's shape; and the tokens are those of
 * one rank. Usage: test_node_loading MPIRUN MOEBIUS FOLDER...
 *
 * The control: ranks that read all for themselves would be over the bound, by what one of them
 * reads beside its experts. */
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/support/expect.h"
#include "tests/support/mpirun.h"
#include "tests/support/program.h"

#define RANKS 4
#define SHARE_MOST 1.1
#define SHARE_LEAST 0.9 /* headers, and what a tied model stores twice, are not read */

static const char read_mark[] = "loading: read ";

/* What all ranks say that they read, and how many said it. */
static long long bytes_read(const char *text, int *ranks) {
    long long sum = 0;
    *ranks = 0;
    for (const char *at = strstr(text, read_mark); at != NULL; at = strstr(at, read_mark)) {
        at += sizeof read_mark - 1;
        sum += strtoll(at, NULL, 10);
        ++*ranks;
    }
    return sum;
}

static double file_bytes(const char *folder) {
    char path[1000];
    struct stat facts;
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    return stat(path, &facts) == 0 ? (double)facts.st_size : 0.0;
}

/* The tokens of a run, to be freed, and its log. */
static char *generate(char **argv, const char *folder, const char *ranks, const char *tensor,
                      struct program_run *run) {
    struct program mpirun;
    program_init(&mpirun, argv[1]);
    const char *const arguments[] = {MPIRUN_FLAGS,
                                     "-n",
                                     ranks,
                                     argv[2],
                                     "generate",
                                     "--model",
                                     folder,
                                     "--threads",
                                     "1",
                                     "--token-ids",
                                     "3 1 4 1 5",
                                     "--max-tokens",
                                     "4",
                                     "--ignore-eos",
                                     "--log-level",
                                     "debug",
                                     "--tensor-parallel-size",
                                     tensor,
                                     NULL};
    program_run(&mpirun, arguments, NULL, PROGRAM_KEPT, run);
    EXPECT(run->exit_code == 0, "%s, %s ranks, tensor-parallel %s: exit code %d: %s", folder, ranks,
           tensor, run->exit_code, run->err);
    program_deinit(&mpirun);
    return strdup(run->out);
}

static void check_shape(char **argv, const char *folder, const char *tensor, const char *expected) {
    struct program_run run;
    int ranks;
    char *out = generate(argv, folder, "4", tensor, &run);
    double share = (double)bytes_read(run.err, &ranks) / file_bytes(folder);
    EXPECT(ranks == RANKS && share > SHARE_LEAST && share < SHARE_MOST,
           "%s, tensor-parallel %s: %d ranks read %.3f x the checkpoint", folder, tensor, ranks,
           share);
    EXPECT(strcmp(tensor, "1") != 0 || strcmp(out, expected) == 0,
           "%s: expected the tokens of one rank, %sgot %s", folder, expected, out);
    printf("%s, tensor-parallel %s: %d ranks read %.3f x the checkpoint\n", folder, tensor, ranks,
           share);
    free(out);
    program_run_deinit(&run);
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: test_node_loading MPIRUN MOEBIUS FOLDER...\n");
        return 2;
    }
    for (int i = 3; i < argc; i++) {
        struct program_run run;
        char *expected = generate(argv, argv[i], "1", "1", &run);
        program_run_deinit(&run);
        static const char *const tensor_sizes[] = {"1", "2"};
        for (int shape = 0; shape < 2; shape++)
            check_shape(argv, argv[i], tensor_sizes[shape], expected);
        free(expected);
    }
    return expect_failures == 0 ? 0 : 1;
}
