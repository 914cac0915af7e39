/* A command's values as text: as YAML that gives the same values again. */
#ifndef MOEBIUS_LAUNCHER_SETTINGS_TEXT_H
#define MOEBIUS_LAUNCHER_SETTINGS_TEXT_H

#include <stdio.h>

#include "launcher/settings.h"

/* "file", "flag" ... Local. */
const char *settings_text_origin(enum settings_origin origin);

/* --config and --print-config themselves, which stand in no file. Local. */
bool settings_text_is_own(const char *name);

/* Whether there is a value to write. Local. */
bool settings_text_is_set(const struct option_entry *entry);

/* The value of an entry that is set, in one line. Local. */
void settings_text_write(FILE *out, const struct option_entry *entry);

/* All flags on standard output, as a file that gives the same values: defaults are comments, those
 * that are found out later in words, "(default: a rank's share ...)". Local. */
void settings_text_print(const struct settings *settings);

#endif
