/* Names and exit codes of the status values: the last thing a run says when it cannot go on. */
#include "kernels/base/status.h"

#include "kernels/base/check.h"

static const struct {
    const char *name;
    int exit_code;
} statuses[STATUS_COUNT] = {
    [STATUS_OK] = {"ok", 0},
    [STATUS_USAGE] = {"usage", 2},
    [STATUS_IO] = {"io", 3},
    [STATUS_BAD_CONFIG] = {"bad-config", 4},
    [STATUS_BAD_CHECKPOINT] = {"bad-checkpoint", 5},
    [STATUS_BAD_TOKENIZER] = {"bad-tokenizer", 6},
    [STATUS_BAD_REQUEST] = {"bad-request", 7},
    [STATUS_UNSUPPORTED] = {"unsupported", 8},
    [STATUS_NO_MEMORY] = {"no-memory", 9},
    [STATUS_LIMIT] = {"limit", 10},
    [STATUS_PEER] = {"peer", 12},
    [STATUS_INTERNAL] = {"internal", 11},
    [STATUS_UNAVAILABLE] = {"unavailable", 13},
    [STATUS_DEADLINE] = {"deadline", 14},
    [STATUS_DENIED] = {"denied", 15},
    [STATUS_INTERRUPTED] = {"interrupted", 130}, /* as shells say it of SIGINT */
};

const char *status_name(enum status status) {
    ASSERT((unsigned)status < STATUS_COUNT);
    return statuses[status].name;
}

int status_exit_code(enum status status) {
    ASSERT((unsigned)status < STATUS_COUNT);
    return statuses[status].exit_code;
}
