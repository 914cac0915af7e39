/* moebius bench: which measurement. Each has flags of its own. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "kernels/base/log.h"
#include "launcher/bench_exchange.h"
#include "launcher/commands.h"
#include "launcher/config.h"

static const struct {
    const char *name;
    enum status (*run)(int argc, char **argv);
    const char *summary;
    bool on_ranks;
} kinds[] = {
    {"exchange", bench_exchange, "dispatch and combine between ranks, flow by flow", true},
    {"latency", command_bench_latency, "prefill and decode, beside what this machine can do", true},
    {"serve", command_bench_serve, "load on a running server: TTFT, TPOT, ITL, goodput", false},
    {"startup", command_bench_startup, "from starting a server to its first token", false},
    {"throughput", command_bench_throughput, "many sequences at once, without a server", true},
};

#define KINDS ((int)(sizeof kinds / sizeof kinds[0]))

static void print_help(void) {
    printf("usage: moebius bench KIND [options]\n\nMeasures. KIND is one of:\n");
    for (int i = 0; i < KINDS; i++)
        printf("  %-10s %s\n", kinds[i].name, kinds[i].summary);
    printf("\nmoebius bench KIND --help tells the options of one.\n");
}

enum status command_bench(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "nothing";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        print_help();
        return STATUS_OK;
    }
    for (int i = 0; i < KINDS; i++) {
        if (strcmp(name, kinds[i].name) != 0)
            continue;
        if (config_processes() == 1 || kinds[i].on_ranks)
            return kinds[i].run(argc - 1, argv + 1);
        LOG_ERROR("bench %s: expected one process, got %d: start it without mpirun", name,
                  config_processes());
        return STATUS_USAGE;
    }
    char names[128] = "";
    for (int i = 0; i < KINDS; i++)
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s'%s'", i > 0 ? ", " : "",
                 kinds[i].name);
    LOG_ERROR("bench: expected one of %s, got '%s'", names, name);
    return STATUS_USAGE;
}
