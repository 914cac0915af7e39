/* The program: picks the command. Only here does a status become an exit code. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "kernels/base/log.h"
#include "kernels/base/status.h"
#include "launcher/commands.h"

static const struct {
    const char *name;
    enum status (*run)(int argc, char **argv);
    const char *summary;
} commands[] = {
    {"generate", command_generate, "continue a prompt or answer a chat message"},
    {"tokenize", command_tokenize, "text to token ids and back"},
    {"inspect", command_inspect, "what a model folder holds and what it will take"},
    {"bench", command_bench, "measure: bench latency"},
};

static const int command_count = sizeof commands / sizeof commands[0];

static void print_help(FILE *out) {
    fprintf(out, "usage: moebius COMMAND [options]\n\n"
                 "Moebius serves Mixture-of-Experts language models.\n\nCommands:\n");
    for (int i = 0; i < command_count; i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fprintf(out, "\nmoebius COMMAND --help tells a command's options. Without a command, the demo "
                 "model that comes with\nthe program continues a prompt of its own.\n");
}

/* A standard stream that the caller closed: its number must not go to a model file or a dump. The
 * stand-in fails when it is used, as the closed one would have. */
static void keep_standard_streams(void) {
    for (int descriptor = 0; descriptor < 3; descriptor++)
        if (fcntl(descriptor, F_GETFD) < 0)
            (void)open("/dev/null", descriptor == 0 ? O_WRONLY : O_RDONLY);
}

static enum status run(int argc, char **argv) {
    if (argc < 2) {
        char *demo[] = {(char[]){"generate"}, NULL};
        return command_generate(1, demo);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return STATUS_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("moebius " MOEBIUS_VERSION "\n");
        return STATUS_OK;
    }
    for (int i = 0; i < command_count; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    LOG_ERROR("expected one of the commands generate, tokenize, inspect, bench, got '%s'; see "
              "moebius --help",
              argv[1]);
    return STATUS_USAGE;
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN); /* a reader that goes away is an error of write, not the end of us */
    keep_standard_streams();
    enum status status = run(argc, argv);
    bool was_lost = ferror(stdout) != 0;
    if ((fflush(stdout) != 0 || was_lost) && status == STATUS_OK) {
        LOG_ERROR("standard output: expected to write all of it, got: %s", strerror(errno));
        status = STATUS_IO;
    }
    return status_exit_code(status);
}
