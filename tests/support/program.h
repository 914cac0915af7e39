/* Runs the program under test as a user would: arguments in, exit code, standard output and
 * standard error out. What goes wrong in the test itself (no file, no process) ends the test with
 * 1. */
#ifndef MOEBIUS_TESTS_SUPPORT_PROGRAM_H
#define MOEBIUS_TESTS_SUPPORT_PROGRAM_H

#include <stddef.h>

struct program {
    const char *path; /* of the binary */
    char folder[64];  /* a temporary folder of our own */
};

/* Where standard output goes. */
enum program_output {
    PROGRAM_KEPT,        /* into program_run.out */
    PROGRAM_CLOSED,      /* nowhere: the descriptor is closed */
    PROGRAM_FULL,        /* a full disk */
    PROGRAM_BROKEN_PIPE, /* a pipe that nobody reads */
};

struct program_run {
    int exit_code; /* -1: ended by a signal */
    int signal;    /* 0: ended by itself */
    char *out;     /* NUL-terminated, empty unless kept */
    char *err;
    size_t out_size, err_size; /* without the NUL */
};

void program_init(struct program *program, const char *path);
void program_deinit(struct program *program); /* removes the folder */

/* FOLDER/NAME, written to path [size]. */
void program_scratch_path(const struct program *program, const char *name, char *path, size_t size);

/* Arguments are NULL-terminated and begin behind the program's name. `input` is the path of what
 * standard input reads; NULL: nothing. Release the run with program_run_deinit. */
void program_run(const struct program *program, const char *const *arguments, const char *input,
                 enum program_output output, struct program_run *run);
void program_run_deinit(struct program_run *run);

/* A whole file, on the heap, NUL-terminated. */
char *program_read_file(const char *path, size_t *size);
void program_write_file(const char *path, const void *data, size_t size);

#endif
