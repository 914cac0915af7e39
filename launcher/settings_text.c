/* How values of flags stand in files, logs and --print-config. Used by settings.c. */
#include "launcher/settings_text.h"

#include <string.h>

const char *settings_text_origin(enum settings_origin origin) {
    static const char *const names[] = {
        [SETTINGS_DEFAULT] = "default",
        [SETTINGS_FILE] = "file",
        [SETTINGS_ENVIRONMENT] = "environment",
        [SETTINGS_FLAG] = "flag",
    };
    return names[origin];
}

static void write_text(FILE *out, const char *text) {
    fputc('"', out);
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            fprintf(out, "\\x%02x", (unsigned)c);
        else
            fputc(c, out);
    }
    fputc('"', out);
}

static void write_list(FILE *out, const struct option_list *list) {
    fputc('[', out);
    for (int32_t i = 0; i < list->count; i++) {
        fputs(i > 0 ? ", " : "", out);
        write_text(out, list->values[i]);
    }
    fputc(']', out);
}

bool settings_text_is_own(const char *name) {
    return strcmp(name, "config") == 0 || strcmp(name, "print-config") == 0;
}

bool settings_text_is_set(const struct option_entry *entry) {
    if (entry->kind == OPTION_HEADING || settings_text_is_own(entry->name))
        return false;
    return entry->kind != OPTION_STRING || *(const char *const *)entry->target != NULL;
}

/* Numbers come back as they were: 9 digits for an f32. */
void settings_text_write(FILE *out, const struct option_entry *entry) {
    switch (entry->kind) {
    case OPTION_FLAG:
        fputs(*(const bool *)entry->target ? "true" : "false", out);
        break;
    case OPTION_STRING:
        write_text(out, *(const char *const *)entry->target);
        break;
    case OPTION_INT:
        fprintf(out, "%d", *(const int32_t *)entry->target);
        break;
    case OPTION_UINT64:
        fprintf(out, "%llu", (unsigned long long)*(const uint64_t *)entry->target);
        break;
    case OPTION_FLOAT:
        fprintf(out, "%.9g", (double)*(const float *)entry->target);
        break;
    case OPTION_LIST:
        write_list(out, entry->target);
        break;
    case OPTION_HEADING:
        break;
    }
}

/* What the help says of a flag that is not given, where that is no value but found out later;
 * NULL: it says nothing such, so the target has it. */
static const char *told_default(const struct option_entry *entry) {
    static const char *const marks[] = {"default: ", "not given: "};
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) {
        const char *at = strstr(entry->help, marks[i]);
        if (at != NULL)
            return at + strlen(marks[i]);
    }
    return NULL;
}

/* Whether what stands in the target could be given as it is; 0 often means "find out". */
static bool is_value(const struct option_entry *entry) {
    if (entry->kind == OPTION_STRING)
        return *(const char *const *)entry->target != NULL;
    int32_t value = entry->kind == OPTION_INT ? *(const int32_t *)entry->target : 0;
    return entry->kind != OPTION_INT || (value >= entry->low && value <= entry->high);
}

static void print_default(const struct option_entry *entry) {
    const char *told = told_default(entry);
    printf("# %s: ", entry->name);
    if (told != NULL)
        printf("(default: %.*s)", (int)strcspn(told, ";"), told);
    else if (is_value(entry))
        settings_text_write(stdout, entry);
    else
        fputs("(default: none)", stdout);
    putchar('\n');
}

void settings_text_print(const struct settings *settings) {
    for (int32_t i = 0; i < settings->command->count; i++) {
        const struct option_entry *entry = &settings->command->entries[i];
        if (entry->kind == OPTION_HEADING || settings_text_is_own(entry->name))
            continue;
        if (settings->origin[i] == SETTINGS_DEFAULT) {
            print_default(entry);
            continue;
        }
        printf("%s: ", entry->name);
        settings_text_write(stdout, entry);
        printf("  # %s\n", settings_text_origin(settings->origin[i]));
    }
}
