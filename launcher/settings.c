/* A command's values from file, environment and command line, in that order, so that the later one
 * stands; and the checks that they mean the same on every rank. */
#define _GNU_SOURCE
#include "launcher/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/collective.h"
#include "kernels/base/log.h"
#include "launcher/config.h"
#include "launcher/settings_text.h"

/* Most bytes of the values that ranks compare; what is beyond counts through the hash alone. */
#define SHARED_BYTES 8192

static const struct transport_scope settings_scope = {
    .step = 0, .layer = -1, .kind = TRAFFIC_STATUS};

int32_t settings_entries(struct settings *settings, struct option_entry *entries, int32_t count) {
    const struct option_entry own[SETTINGS_ENTRIES] = {
        {OPTION_STRING, "config", &settings->path, "FILE", "YAML: names of flags and their values",
         0, 0},
        {OPTION_FLAG, "print-config", &settings->print, NULL,
         "prints all values and where they are from, as such a file, and ends", 0, 0},
    };
    memcpy(entries + count, own, sizeof own);
    return count + SETTINGS_ENTRIES;
}

/* ---- names ---- */

/* The entry of a flag; -1: there is none. */
static int32_t find(const struct option_command *command, const char *name) {
    for (int32_t i = 0; i < command->count; i++)
        if (command->entries[i].kind != OPTION_HEADING &&
            strcmp(command->entries[i].name, name) == 0)
            return i;
    return -1;
}

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Letters to add, drop or change to make one name of the other. */
static size_t distance(const char *a, const char *b) {
    size_t row[64], columns = strlen(b);
    if (columns >= sizeof row / sizeof row[0])
        return SIZE_MAX;
    for (size_t j = 0; j <= columns; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= columns; j++) {
            size_t change = diagonal + (a[i - 1] != b[j - 1] ? 1 : 0);
            diagonal = row[j];
            row[j] = least(change, least(row[j], row[j - 1]) + 1);
        }
    }
    return row[columns];
}

/* The known name nearest to an unknown one, and how far it is. */
static const char *nearest(const struct option_command *command, const char *name,
                           size_t *distance_out) {
    const char *best = "";
    *distance_out = SIZE_MAX;
    for (int32_t i = 0; i < command->count; i++) {
        const struct option_entry *entry = &command->entries[i];
        if (entry->kind == OPTION_HEADING || settings_text_is_own(entry->name))
            continue;
        size_t away = distance(name, entry->name);
        if (away < *distance_out) {
            *distance_out = away;
            best = entry->name;
        }
    }
    return best;
}

/* ---- the layers ---- */

/* Sets one value. The first of a list from a layer replaces what the layers before it gave. */
static enum status set(struct settings *settings, int32_t entry, const char *text,
                       enum settings_origin origin, const char *where) {
    const struct option_entry *at = &settings->command->entries[entry];
    if (at->kind == OPTION_LIST && settings->origin[entry] != origin)
        ((struct option_list *)at->target)->count = 0;
    settings->origin[entry] = origin;
    return options_set(at, text, where);
}

static enum status take_file(struct settings *settings) {
    RETURN_IF_ERROR(config_file_read(settings->path, &settings->file));
    for (int32_t i = 0; i < settings->file.count; i++) {
        const struct config_item *item = &settings->file.items[i];
        int32_t entry = settings_text_is_own(item->key) ? -1 : find(settings->command, item->key);
        if (entry < 0) {
            size_t away;
            LOG_ERROR("%s:%d: expected the name of a flag of %s, got '%s'; the nearest is '%s'",
                      settings->path, item->line, settings->command->name, item->key,
                      nearest(settings->command, item->key, &away));
            return STATUS_USAGE;
        }
        char where[FILENAME_MAX];
        snprintf(where, sizeof where, "%s:%d: %s", settings->path, item->line, item->key);
        bool is_list = settings->command->entries[entry].kind == OPTION_LIST;
        if (settings->origin[entry] == SETTINGS_FILE && !is_list) {
            LOG_ERROR("%s: expected one value, got a list", where);
            return STATUS_USAGE;
        }
        RETURN_IF_ERROR(set(settings, entry, item->value, SETTINGS_FILE, where));
    }
    return STATUS_OK;
}

/* The environment serves all commands, so a name that this one does not have may be another's; but
 * one that is nearly this one's is a slip. */
static void warn_of_slips(const struct option_command *command) {
    char name[64];
    for (int32_t i = 0; config_environment_flag(i, name, sizeof name); i++) {
        size_t away;
        const char *near = find(command, name) < 0 ? nearest(command, name, &away) : NULL;
        if (near != NULL && away <= 2)
            LOG_WARN("environment: no flag --%s, the nearest is --%s: its variable is ignored",
                     name, near);
    }
}

static enum status take_environment(struct settings *settings) {
    const struct option_command *command = settings->command;
    for (int32_t i = 0; i < command->count; i++) {
        const struct option_entry *entry = &command->entries[i];
        if (entry->kind == OPTION_HEADING || settings_text_is_own(entry->name))
            continue;
        const char *text = config_environment(entry->name);
        if (text == NULL)
            continue;
        char where[96];
        snprintf(where, sizeof where, "environment: %s", entry->name);
        RETURN_IF_ERROR(set(settings, i, text, SETTINGS_ENVIRONMENT, where));
    }
    warn_of_slips(command);
    return STATUS_OK;
}

/* --config itself: from the command line, else from the environment. */
static enum status find_file(struct settings *settings, int argc, char **argv) {
    struct options_line line = {.only = "config"};
    RETURN_IF_ERROR(options_parse(settings->command, argc, argv, &line));
    if (line.help) {
        options_help(settings->command);
        settings->answered = true;
    } else if (settings->path == NULL) {
        settings->path = config_environment("config");
    }
    return STATUS_OK;
}

static enum status take_line(struct settings *settings, int argc, char **argv) {
    struct options_line line = {.only = NULL};
    RETURN_IF_ERROR(options_parse(settings->command, argc, argv, &line));
    settings->first_operand = line.first_operand;
    for (int32_t i = 0; i < settings->command->count; i++)
        if (line.given[i])
            settings->origin[i] = SETTINGS_FLAG;
    return STATUS_OK;
}

/* ---- what came of it ---- */

static enum status write_effective(struct settings *settings) {
    size_t size;
    FILE *out = open_memstream(&settings->effective, &size);
    if (out != NULL) {
        for (int32_t i = 0; i < settings->command->count; i++) {
            const struct option_entry *entry = &settings->command->entries[i];
            if (!settings_text_is_set(entry))
                continue;
            fprintf(out, "%s: ", entry->name);
            settings_text_write(out, entry);
            fputc('\n', out);
        }
        if (fclose(out) == 0)
            return STATUS_OK;
    }
    LOG_ERROR("configuration: cannot take memory for its text");
    return STATUS_NO_MEMORY;
}

enum status settings_parse(const struct option_command *command, int argc, char **argv,
                           struct settings *settings) {
    settings->command = command;
    RETURN_IF_ERROR(find_file(settings, argc, argv));
    if (settings->answered)
        return STATUS_OK;
    if (settings->path != NULL)
        RETURN_IF_ERROR(take_file(settings));
    RETURN_IF_ERROR(take_environment(settings));
    RETURN_IF_ERROR(take_line(settings, argc, argv));
    if (settings->print) {
        settings_text_print(settings);
        settings->answered = true;
    }
    return write_effective(settings);
}

enum settings_origin settings_origin_of(const struct settings *settings, const char *name) {
    int32_t entry = find(settings->command, name);
    return entry < 0 ? SETTINGS_DEFAULT : settings->origin[entry];
}

void settings_deinit(struct settings *settings) {
    config_file_deinit(&settings->file);
    free(settings->effective);
    settings->effective = NULL;
}

void settings_announce(const struct settings *settings, bool always) {
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL)
        return; /* a line less in the log */
    bool is_news = always;
    for (int32_t i = 0; i < settings->command->count; i++) {
        enum settings_origin origin = settings->origin[i];
        if (origin == SETTINGS_DEFAULT || !settings_text_is_set(&settings->command->entries[i]))
            continue;
        is_news = is_news || origin != SETTINGS_FLAG;
        fprintf(out, " %s=", settings->command->entries[i].name);
        settings_text_write(out, &settings->command->entries[i]);
        fprintf(out, " (%s)", settings_text_origin(origin));
    }
    if (fclose(out) == 0 && is_news)
        LOG_INFO("configuration:%s", size > 0 ? text : " all defaults");
    free(text);
}

/* ---- the same on all ranks ---- */

/* What may differ from rank to rank: paths and machines do. */
static bool may_differ(const char *line) {
    static const char *const names[] = {"model", "threads", "cpu-isa", "log-level", "log-format"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strncmp(line, names[i], strlen(names[i])) == 0 && line[strlen(names[i])] == ':')
            return true;
    return false;
}

/* The effective values that must be the same, cut to fit, and the FNV-1a hash of all of them. */
static uint64_t write_shared(const struct settings *settings, char *shared) {
    uint64_t hash = 14695981039346656037u;
    size_t length = 0;
    const char *next;
    for (const char *line = settings->effective; *line != '\0'; line = next) {
        next = strchr(line, '\n') + 1;
        if (may_differ(line))
            continue;
        for (const char *c = line; c < next; c++)
            hash = (hash ^ (unsigned char)*c) * 1099511628211u;
        size_t bytes = (size_t)(next - line);
        if (length + bytes >= SHARED_BYTES)
            continue;
        memcpy(shared + length, line, bytes);
        length += bytes;
    }
    memset(shared + length, 0, SHARED_BYTES - length);
    return hash;
}

/* The line of `text` with the name that `line` has; NULL: none. */
static const char *same_name(const char *text, const char *line) {
    size_t name = (size_t)(strchr(line, ':') + 1 - line);
    for (; *text != '\0'; text = strchr(text, '\n') + 1)
        if (strncmp(text, line, name) == 0)
            return text;
    return NULL;
}

/* How long a line's value is, and where it starts. */
static int value_of(const char *line, const char **value) {
    *value = line == NULL ? "nothing" : strchr(line, ':') + 2;
    return line == NULL ? (int)strlen(*value) : (int)(strchr(*value, '\n') - *value);
}

/* Finds the first value in which a rank differs from rank 0, if there is one; rank 0 logs it. */
static bool tell_difference(const struct rank_group *ranks, int32_t rank, const char *first,
                            const char *other) {
    const char *texts[2] = {first, other};
    for (int side = 0; side < 2; side++) {
        for (const char *line = texts[side]; *line != '\0'; line = strchr(line, '\n') + 1) {
            const char *there = same_name(texts[1 - side], line), *mine, *theirs;
            int mine_length = value_of(line, &mine), theirs_length = value_of(there, &theirs);
            if (mine_length == theirs_length && memcmp(mine, theirs, (size_t)mine_length) == 0)
                continue;
            const char *expected = side == 0 ? mine : theirs, *got = side == 0 ? theirs : mine;
            if (ranks->rank == 0)
                LOG_ERROR("rank %d on %s: %.*s: expected %.*s as on rank 0, got %.*s", rank,
                          ranks->host_of[rank], (int)(strchr(line, ':') - line), line,
                          side == 0 ? mine_length : theirs_length, expected,
                          side == 0 ? theirs_length : mine_length, got);
            return true;
        }
    }
    return false;
}

/* The hashes differ: all ranks tell each other their values and find the first that does. Nobody
 * goes on to end the job before rank 0 has said it. */
static enum status find_difference(const struct rank_group *ranks,
                                   const struct collective_group *world, const char *mine) {
    char *all = malloc((size_t)SHARED_BYTES * (size_t)ranks->size);
    if (all == NULL) {
        LOG_ERROR("configuration: cannot take a table of %d ranks", ranks->size);
        return STATUS_NO_MEMORY;
    }
    enum status status = collective_share(world, &settings_scope, mine, SHARED_BYTES, all);
    bool is_told = status != STATUS_OK;
    for (int32_t rank = 1; !is_told && rank < ranks->size; rank++)
        is_told = tell_difference(ranks, rank, all, all + (size_t)SHARED_BYTES * (size_t)rank);
    if (!is_told && ranks->rank == 0)
        LOG_ERROR("configuration: expected the same on all ranks, got a difference behind the "
                  "first %d bytes of it; see --print-config",
                  SHARED_BYTES);
    free(all);
    RETURN_IF_ERROR(status);
    RETURN_IF_ERROR(collective_agree(world, &settings_scope, STATUS_PEER, &status));
    return STATUS_PEER;
}

enum status settings_agree(const struct settings *settings, const struct rank_group *ranks) {
    if (ranks->size == 1)
        return STATUS_OK;
    int32_t members[TRANSPORT_RANKS_MAX];
    uint64_t hashes[TRANSPORT_RANKS_MAX];
    for (int32_t i = 0; i < ranks->size; i++)
        members[i] = i;
    struct collective_group world = {.transport = ranks->transport,
                                     .members = members,
                                     .count = ranks->size,
                                     .self = ranks->rank};
    char mine[SHARED_BYTES];
    uint64_t hash = write_shared(settings, mine);
    RETURN_IF_ERROR(
        collective_share(&world, &settings_scope, &hash, sizeof hash, (char *)(void *)hashes));
    for (int32_t rank = 1; rank < ranks->size; rank++)
        if (hashes[rank] != hashes[0])
            return find_difference(ranks, &world, mine);
    return STATUS_OK;
}
