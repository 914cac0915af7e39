/* The processes of the system tests. Output goes through files, so that nothing can block. */
#define _XOPEN_SOURCE 700
#include "tests/support/program.h"

#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARGUMENTS_MAX 64
#define PATH_SIZE 512

static void die(const char *what, const char *name) {
    fprintf(stderr, "test: %s: %s\n", what, name);
    exit(1);
}

void program_init(struct program *program, const char *path) {
    *program = (struct program){.path = path};
    snprintf(program->folder, sizeof program->folder, "%s/moebius-cli-XXXXXX", P_tmpdir);
    if (mkdtemp(program->folder) == NULL)
        die("cannot make a folder", program->folder);
}

static int remove_entry(const char *path, const struct stat *facts, int type, struct FTW *walk) {
    (void)facts;
    (void)type;
    (void)walk;
    return remove(path);
}

void program_deinit(struct program *program) {
    if (nftw(program->folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS) != 0)
        die("cannot remove", program->folder);
}

void program_scratch_path(const struct program *program, const char *name, char *path,
                          size_t size) {
    int length = snprintf(path, size, "%s/%s", program->folder, name);
    if (length < 0 || (size_t)length >= size)
        die("too long a path", name);
}

char *program_read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0)
        die("cannot read", path);
    long end = ftell(file);
    char *data = end < 0 ? NULL : malloc((size_t)end + 1);
    if (data == NULL || fseek(file, 0, SEEK_SET) != 0)
        die("cannot read", path);
    *size = fread(data, 1, (size_t)end, file);
    if (*size != (size_t)end)
        die("cannot read all of", path);
    data[*size] = '\0';
    fclose(file);
    return data;
}

void program_write_file(const char *path, const void *data, size_t size) {
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(data, 1, size, file) != size || fclose(file) != 0)
        die("cannot write", path);
}

static void set_output(posix_spawn_file_actions_t *actions, enum program_output output,
                       const char *kept_path) {
    int ends[2];
    switch (output) {
    case PROGRAM_KEPT:
        posix_spawn_file_actions_addopen(actions, STDOUT_FILENO, kept_path,
                                         O_WRONLY | O_CREAT | O_TRUNC, 0600);
        break;
    case PROGRAM_CLOSED:
        posix_spawn_file_actions_addclose(actions, STDOUT_FILENO);
        break;
    case PROGRAM_FULL:
        posix_spawn_file_actions_addopen(actions, STDOUT_FILENO, "/dev/full", O_WRONLY, 0);
        break;
    case PROGRAM_BROKEN_PIPE:
        if (pipe(ends) != 0)
            die("cannot make a pipe", kept_path);
        posix_spawn_file_actions_adddup2(actions, ends[1], STDOUT_FILENO);
        posix_spawn_file_actions_addclose(actions, ends[0]);
        close(ends[0]); /* the writing end stays ours; a handful of them per test */
        break;
    }
}

static pid_t start(const struct program *program, const char *const *arguments,
                   posix_spawn_file_actions_t *actions) {
    char *argv[ARGUMENTS_MAX + 2];
    int count = 0;
    argv[count++] = strdup(program->path);
    for (; arguments[count - 1] != NULL; count++) {
        if (count > ARGUMENTS_MAX)
            die("too many arguments", arguments[0]);
        argv[count] = strdup(arguments[count - 1]);
    }
    argv[count] = NULL;
    posix_spawnattr_t attributes; /* signals as a shell would hand them on */
    sigset_t none, defaults;
    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    char *environment[] = {(char[]){"PATH=/usr/bin:/bin"}, (char[]){"LC_ALL=C.UTF-8"}, NULL};
    pid_t process;
    if (posix_spawn(&process, program->path, actions, &attributes, argv, environment) != 0)
        die("cannot start", program->path);
    posix_spawnattr_destroy(&attributes);
    for (int i = 0; i < count; i++)
        free(argv[i]);
    return process;
}

void program_run(const struct program *program, const char *const *arguments, const char *input,
                 enum program_output output, struct program_run *run) {
    char out_path[PATH_SIZE], err_path[PATH_SIZE];
    program_scratch_path(program, "stdout", out_path, sizeof out_path);
    program_scratch_path(program, "stderr", err_path, sizeof err_path);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, input != NULL ? input : "/dev/null",
                                     O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, err_path,
                                     O_WRONLY | O_CREAT | O_TRUNC, 0600);
    set_output(&actions, output, out_path);
    pid_t process = start(program, arguments, &actions);
    posix_spawn_file_actions_destroy(&actions);
    int state;
    if (waitpid(process, &state, 0) != process)
        die("cannot wait for", program->path);
    *run = (struct program_run){.exit_code = WIFEXITED(state) ? WEXITSTATUS(state) : -1,
                                .signal = WIFSIGNALED(state) ? WTERMSIG(state) : 0};
    run->err = program_read_file(err_path, &run->err_size);
    if (output == PROGRAM_KEPT)
        run->out = program_read_file(out_path, &run->out_size);
    else
        run->out = calloc(1, 1);
}

void program_run_deinit(struct program_run *run) {
    free(run->out);
    free(run->err);
    *run = (struct program_run){0};
}
