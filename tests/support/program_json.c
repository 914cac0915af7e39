/* Between the program's standard output and jansson. */
#include "tests/support/program_json.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

json_t *program_json_run(const struct program *program, const char *const *arguments) {
    struct program_run run;
    program_run(program, arguments, NULL, PROGRAM_KEPT, &run);
    json_t *answer = json_loadb(run.out, run.out_size, 0, NULL);
    if (run.exit_code != 0 || answer == NULL || run.err_size != 0) {
        printf("FAILED: moebius");
        for (const char *const *argument = arguments; *argument != NULL; argument++)
            printf(" '%s'", *argument);
        printf("\nexit code %d, signal %d, out: %.500s, err: %s\n", run.exit_code, run.signal,
               run.out, run.err);
        exit(1);
    }
    program_run_deinit(&run);
    return answer;
}

json_t *program_json_load(const char *path) {
    json_error_t error;
    json_t *root = json_load_file(path, 0, &error);
    if (root == NULL) {
        fprintf(stderr, "test: %s: %s\n", path, error.text);
        exit(1);
    }
    return root;
}
