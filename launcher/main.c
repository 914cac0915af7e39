/* The program: picks the command. Only here does a status become an exit code. */
#include <signal.h>
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

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN); /* a reader that goes away is an error of write, not the end of us */
    if (argc < 2) {
        char *demo[] = {(char[]){"generate"}, NULL};
        return status_exit_code(command_generate(1, demo));
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("moebius " MOEBIUS_VERSION "\n");
        return 0;
    }
    for (int i = 0; i < command_count; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return status_exit_code(commands[i].run(argc - 1, argv + 1));
    LOG_ERROR("expected one of the commands generate, tokenize, inspect, bench, got '%s'; see "
              "moebius --help",
              argv[1]);
    return status_exit_code(STATUS_USAGE);
}
