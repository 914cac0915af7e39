/* Command-line flags as a table: one place says the name, the type, the range and the help of each.
 */
#ifndef MOEBIUS_LAUNCHER_OPTIONS_H
#define MOEBIUS_LAUNCHER_OPTIONS_H

#include <stdbool.h>
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

/* What a command line holds. */
struct options_line {
    const char *only;  /* in: the one flag that is written; NULL: all */
    bool help;         /* --help or -h is there, and what follows it was not looked at: the caller
                          prints options_help */
    int first_operand; /* operands are argv[first_operand ..] */
    bool given[OPTIONS_MAX]; /* which entries were */
};

/* Parses argv[1..] (argv[0] is the command's name). Flags are written to their targets only when
 * given; a list that is given replaces what its target held. STATUS_USAGE, one line logged that
 * names the flag, what was expected, and what was given. Local. */
enum status options_parse(const struct option_command *command, int argc, char **argv,
                          struct options_line *line);

/* Writes one value to an entry's target (a list is appended to), from wherever `origin` says.
 * Strings are kept by pointer. STATUS_USAGE (logged: origin, expected, got). Local. */
enum status options_set(const struct option_entry *entry, const char *text, const char *origin);

/* Prints the grouped help on stdout. Local. */
void options_help(const struct option_command *command);

#endif
