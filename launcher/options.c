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

static enum status refuse(const struct option_entry *entry, const char *expected, const char *got) {
    LOG_ERROR("--%s: expected %s, got '%s'", entry->name, expected, got);
    return STATUS_USAGE;
}

static enum status parse_integer(const struct option_entry *entry, const char *text) {
    char expected[96];
    snprintf(expected, sizeof expected, "a whole number from %.0f to %.0f", entry->low,
             entry->high);
    errno = 0;
    char *end;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || (double)value < entry->low ||
        (double)value > entry->high)
        return refuse(entry, expected, text);
    *(int32_t *)entry->target = (int32_t)value;
    return STATUS_OK;
}

static enum status parse_uint64(const struct option_entry *entry, const char *text) {
    errno = 0;
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || strchr(text, '-') != NULL)
        return refuse(entry, "a whole number from 0 to 2^64 - 1", text);
    *(uint64_t *)entry->target = value;
    return STATUS_OK;
}

static enum status parse_float(const struct option_entry *entry, const char *text) {
    char expected[96];
    snprintf(expected, sizeof expected, "a number from %g to %g", entry->low, entry->high);
    errno = 0;
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(value) || value < entry->low ||
        value > entry->high)
        return refuse(entry, expected, text);
    *(float *)entry->target = (float)value;
    return STATUS_OK;
}

static enum status append_to_list(const struct option_entry *entry, const char *text) {
    struct option_list *list = entry->target;
    if (list->count == OPTION_LIST_MAX)
        return refuse(entry, "at most 64 of this flag", text);
    list->values[list->count++] = text;
    return STATUS_OK;
}

static enum status apply(const struct option_entry *entry, const char *text) {
    switch (entry->kind) {
    case OPTION_FLAG:
        *(bool *)entry->target = true;
        return STATUS_OK;
    case OPTION_STRING:
        *(const char **)entry->target = text;
        return STATUS_OK;
    case OPTION_INT:
        return parse_integer(entry, text);
    case OPTION_UINT64:
        return parse_uint64(entry, text);
    case OPTION_FLOAT:
        return parse_float(entry, text);
    case OPTION_LIST:
        return append_to_list(entry, text);
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

enum status options_parse(const struct option_command *command, int argc, char **argv,
                          int *first_operand, int *help) {
    struct option long_options[OPTIONS_MAX + 2] = {{0}};
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

    opterr = 0;
    optind = 0; /* forgets what an earlier parse left behind */
    *help = 0;
    for (;;) {
        int option = getopt_long(argc, argv, ":h", long_options, NULL);
        if (option == -1)
            break;
        if (option == 'h') {
            *help = 1;
            return STATUS_OK;
        }
        if (option == ':' || option == '?')
            return refuse_word(command, option == ':', argv[optind - 1]);
        RETURN_IF_ERROR(apply(&command->entries[option - 256], optarg));
    }
    *first_operand = optind;
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
