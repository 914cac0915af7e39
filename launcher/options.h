/* Command-line flags as a table: one place says the name, the type, the range and the help of each.
 */
#ifndef MOEBIUS_LAUNCHER_OPTIONS_H
#define MOEBIUS_LAUNCHER_OPTIONS_H

#include <stdint.h>

#include "kernels/base/status.h"

#define OPTIONS_MAX 64

enum option_kind {
    OPTION_HEADING, /* a line of help, no flag */
    OPTION_FLAG,    /* bool * */
    OPTION_STRING,  /* const char ** */
    OPTION_INT,     /* int32_t *, in [low, high] */
    OPTION_UINT64,  /* uint64_t * */
    OPTION_FLOAT,   /* float *, in [low, high] */
    OPTION_LIST,    /* struct option_list *: the flag may be repeated */
};

#define OPTION_LIST_MAX 64
struct option_list {
    const char *values[OPTION_LIST_MAX];
    int32_t count;
};

struct option_entry {
    enum option_kind kind;
    const char *name; /* "max-tokens", or the heading's text */
    void *target;
    const char *argument; /* "N" in the help; NULL for flags */
    const char *help;
    double low, high;
};

/* What a command's table belongs to. */
struct option_command {
    const char *name;    /* "generate" */
    const char *usage;   /* "[options] [PROMPT]" */
    const char *summary; /* what the command does, one or more lines */
    const struct option_entry *entries;
    int32_t count;
};

/* Parses argv[1..] (argv[0] is the command's name). Flags are written to their targets only when
 * given. The rest (operands) is argv[*first_operand ..]. *help is set, and nothing else happens,
 * when --help or -h is there (the caller prints it with options_help). STATUS_USAGE, one line
 * logged that names the flag, what was expected, and what was given. Local. */
enum status options_parse(const struct option_command *command, int argc, char **argv,
                          int *first_operand, int *help);

/* Prints the grouped help on stdout. Local. */
void options_help(const struct option_command *command);

#endif
