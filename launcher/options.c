/* Flags: the first thing that a request's way through the program meets. getopt_long does the
 * splitting, the table the rest. */
#include "launcher/options.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"

/* `origin` names the place of a value in messages: "--port", "MOEBIUS_PORT", "serve.yaml:3: port".
 */
static enum status refuse(const char *origin, const char *expected, const char *got) {
    LOG_ERROR("%s: expected %s, got '%s'", origin, expected, got);
    return STATUS_USAGE;
}

static enum status parse_integer(const struct option_entry *entry, const char *text,
                                 const char *origin) {
    char expected[96];
    snprintf(expected, sizeof expected, "a whole number from %.0f to %.0f", entry->low,
             entry->high);
    errno = 0;
    char *end;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || (double)value < entry->low ||
        (double)value > entry->high)
        return refuse(origin, expected, text);
    *(int32_t *)entry->target = (int32_t)value;
    return STATUS_OK;
}

static enum status parse_uint64(const struct option_entry *entry, const char *text,
                                const char *origin) {
    errno = 0;
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || strchr(text, '-') != NULL)
        return refuse(origin, "a whole number from 0 to 2^64 - 1", text);
    *(uint64_t *)entry->target = value;
    return STATUS_OK;
}

static enum status parse_float(const struct option_entry *entry, const char *text,
                               const char *origin) {
    char expected[96];
    snprintf(expected, sizeof expected, "a number from %g to %g", entry->low, entry->high);
    errno = 0;
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(value) || value < entry->low ||
        value > entry->high)
        return refuse(origin, expected, text);
    *(float *)entry->target = (float)value;
    return STATUS_OK;
}

static enum status append_to_list(const struct option_entry *entry, const char *text,
                                  const char *origin) {
    struct option_list *list = entry->target;
    if (list->count == OPTION_LIST_MAX)
        return refuse(origin, "at most 64 of this flag", text);
    list->values[list->count++] = text;
    return STATUS_OK;
}

static enum status parse_flag(const struct option_entry *entry, const char *text,
                              const char *origin) {
    bool is_true = strcmp(text, "true") == 0 || strcmp(text, "1") == 0;
    if (!is_true && strcmp(text, "false") != 0 && strcmp(text, "0") != 0)
        return refuse(origin, "true or false", text);
    *(bool *)entry->target = is_true;
    return STATUS_OK;
}

enum status options_set(const struct option_entry *entry, const char *text, const char *origin) {
    switch (entry->kind) {
    case OPTION_FLAG:
        return parse_flag(entry, text, origin);
    case OPTION_STRING:
        *(const char **)entry->target = text;
        return STATUS_OK;
    case OPTION_INT:
        return parse_integer(entry, text, origin);
    case OPTION_UINT64:
        return parse_uint64(entry, text, origin);
    case OPTION_FLOAT:
        return parse_float(entry, text, origin);
    case OPTION_LIST:
        return append_to_list(entry, text, origin);
    case OPTION_HEADING:
        break;
    }
    return STATUS_INTERNAL;
}

/* What getopt could not make sense of. It says which letter of "-xyz" that was, but then has not
 * moved past the word. */
static enum status refuse_word(const struct option_command *command, bool value_missing,
                               const char *word) {
    char letter[3] = {'-', (char)optopt, '\0'};
    bool is_letter = optopt > 0 && optopt < 256 && optopt != 'h';
    LOG_ERROR("%s: %s '%s'; see moebius %s --help", command->name,
              value_missing                    ? "a value is missing after"
              : optopt >= 256 || optopt == 'h' ? "no value is expected in"
                                               : "unknown or ambiguous flag",
              is_letter ? letter : word, command->name);
    return STATUS_USAGE;
}

/* The table as getopt_long wants it; an option's value is 256 + its entry. */
static void fill_long_options(const struct option_command *command, struct option *long_options) {
    ASSERT(command->count <= OPTIONS_MAX);
    int flags = 0;
    for (int32_t i = 0; i < command->count; i++)
        if (command->entries[i].kind != OPTION_HEADING)
            long_options[flags++] = (struct option){
                .name = command->entries[i].name,
                .has_arg =
                    command->entries[i].kind == OPTION_FLAG ? no_argument : required_argument,
                .val = 256 + i};
    long_options[flags] = (struct option){.name = "help", .has_arg = no_argument, .val = 'h'};
}

/* Sets what one flag of the command line says. */
static enum status take(const struct option_entry *entry, const char *text, bool *given) {
    char origin[64];
    snprintf(origin, sizeof origin, "--%s", entry->name);
    if (entry->kind == OPTION_LIST && !*given)
        ((struct option_list *)entry->target)->count = 0; /* instead of what was there */
    *given = true;
    return options_set(entry, entry->kind == OPTION_FLAG ? "true" : text, origin);
}

enum status options_parse(const struct option_command *command, int argc, char **argv,
                          struct options_line *line) {
    struct option long_options[OPTIONS_MAX + 2] = {{0}};
    fill_long_options(command, long_options);
    opterr = 0;
    optind = 0; /* forgets what an earlier parse left behind */
    *line = (struct options_line){.only = line->only};
    for (;;) {
        int option = getopt_long(argc, argv, ":h", long_options, NULL);
        if (option == -1)
            break;
        if (option == 'h') {
            line->help = true;
            return STATUS_OK;
        }
        if (option == ':' || option == '?')
            return refuse_word(command, option == ':', argv[optind - 1]);
        const struct option_entry *entry = &command->entries[option - 256];
        if (line->only == NULL || strcmp(line->only, entry->name) == 0)
            RETURN_IF_ERROR(take(entry, optarg, &line->given[option - 256]));
    }
    line->first_operand = optind;
    return STATUS_OK;
}

void options_help(const struct option_command *command) {
    printf("usage: moebius %s %s\n\n%s\n", command->name, command->usage, command->summary);
    for (int32_t i = 0; i < command->count; i++) {
        const struct option_entry *entry = &command->entries[i];
        if (entry->kind == OPTION_HEADING) {
            printf("\n%s:\n", entry->name);
            continue;
        }
        char flag[64];
        snprintf(flag, sizeof flag, "--%s%s%s", entry->name, entry->argument != NULL ? " " : "",
                 entry->argument != NULL ? entry->argument : "");
        if (strlen(flag) > 26)
            printf("  %s\n  %26s  %s\n", flag, "", entry->help);
        else
            printf("  %-26s  %s\n", flag, entry->help);
    }
    printf("\n  -h, --help                  this text\n");
}
