/* Where a command's values come from: its defaults, a configuration file, the environment
 * (MOEBIUS_MAX_NUM_SEQS for --max-num-seqs), the command line; each goes before those left of it.
 */
#ifndef MOEBIUS_LAUNCHER_SETTINGS_H
#define MOEBIUS_LAUNCHER_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/rank_group.h"
#include "launcher/config_file.h"
#include "launcher/options.h"

enum settings_origin { SETTINGS_DEFAULT, SETTINGS_FILE, SETTINGS_ENVIRONMENT, SETTINGS_FLAG };

/* {0} before settings_parse; a command that takes configuration files holds one. */
struct settings {
    const char *path; /* --config */
    bool print;       /* --print-config */
    bool answered;    /* help or configuration is printed: nothing is left to do */
    int first_operand;
    struct config_file file;
    const struct option_command *command;
    enum settings_origin origin[OPTIONS_MAX];
    char *effective; /* every value that is set, one "name: value\n" each, in the table's order */
};

/* Appends --config and --print-config to a command's table and returns the new count. */
#define SETTINGS_ENTRIES 2
int32_t settings_entries(struct settings *settings, struct option_entry *entries, int32_t count);

/* Fills the targets of the command's table. Operands are argv[settings->first_operand ..]. The
 * command and its table must live as long as the settings. STATUS_USAGE, STATUS_IO
 * (logged: where, expected, got; an unknown name with the nearest known one).
 * Local. */
enum status settings_parse(const struct option_command *command, int argc, char **argv,
                           struct settings *settings);

/* Where the value of a flag of the command's table is from. Local. */
enum settings_origin settings_origin_of(const struct settings *settings, const char *name);

/* What settings_parse took; strings of the file are gone. Local. */
void settings_deinit(struct settings *settings);

/* One info line with all that is not a default: `always`, or when some of it is not from the
 * command line. Local. */
void settings_announce(const struct settings *settings, bool always);

/* Whether all ranks have the same values, those aside that may differ (threads, paths of the model,
 * logging). STATUS_PEER (rank 0 logs it: rank, name, expected, got). Collective. */
enum status settings_agree(const struct settings *settings, const struct rank_group *ranks);

#endif
