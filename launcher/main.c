/* The program: picks the command. Only here does a status become an exit code. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernels/base/build_id.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"
#include "launcher/commands.h"
#include "launcher/config.h"

static const struct {
    const char *name;
    enum status (*run)(int argc, char **argv);
    const char *summary;
    bool on_ranks; /* several processes of one job work together */
} commands[] = {
    {"generate", command_generate, "continue a prompt or answer a chat message", true},
    {"serve", command_serve, "serve a model by gRPC and HTTP", true},
    {"complete", command_complete, "continue a prompt by a running server", false},
    {"chat", command_chat, "talk with a running server", false},
    {"tokenize", command_tokenize, "text to token ids and back", false},
    {"inspect", command_inspect, "what a model folder holds and what it will take", false},
    {"bench", command_bench, "measure: speed, load on a server", true},
    {"doctor", command_doctor, "check machine, ranks, links and model; alone or under mpirun",
     true},
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

/* Several processes where one is meant, or processes that cannot find each other, would each do the
 * whole work and never say so. */
static enum status check_processes(const char *name, bool on_ranks) {
    int processes = config_processes();
    if (processes == 1 || (on_ranks && config_under_launcher()))
        return STATUS_OK;
    if (on_ranks)
        LOG_ERROR(
            "%s: expected the ranks of an MPI job, got %d processes without MPI's environment: "
            "start them with mpirun, or with srun --mpi=pmix",
            name, processes);
    else
        LOG_ERROR("%s: expected one process, got %d: start it without mpirun", name, processes);
    return STATUS_USAGE;
}

/* Whatever is wrong on one of many hosts, its line says where, also before MPI has started. */
static void name_this_rank(void) {
    char host[64] = "";
    if (config_processes() == 1)
        return;
    log_set_rank(config_rank());
    if (gethostname(host, sizeof host - 1) == 0)
        log_set_host(host);
}

static enum status run_command(int index, int argc, char **argv) {
    RETURN_IF_ERROR(check_processes(commands[index].name, commands[index].on_ranks));
    return commands[index].run(argc, argv);
}

static enum status run(int argc, char **argv) {
    if (argc < 2) {
        char *demo[] = {(char[]){"generate"}, NULL};
        return run_command(0, 1, demo);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return STATUS_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        char build[BUILD_ID_SIZE];
        build_id_write(build);
        printf("moebius " MOEBIUS_VERSION ", build %s\n", build);
        return STATUS_OK;
    }
    for (int i = 0; i < command_count; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return run_command(i, argc - 1, argv + 1);
    char names[256] = "";
    for (int i = 0; i < command_count; i++)
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", i > 0 ? ", " : "",
                 commands[i].name);
    LOG_ERROR("expected one of the commands %s, got '%s'; see moebius --help", names, argv[1]);
    return STATUS_USAGE;
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN); /* a reader that goes away is an error of write, not the end of us */
    keep_standard_streams();
    name_this_rank();
    enum status status = run(argc, argv);
    bool was_lost = ferror(stdout) != 0;
    if ((fflush(stdout) != 0 || was_lost) && status == STATUS_OK) {
        LOG_ERROR("standard output: expected to write all of it, got: %s", strerror(errno));
        status = STATUS_IO;
    }
    return status_exit_code(status);
}
