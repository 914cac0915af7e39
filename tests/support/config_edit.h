/* Small changes to a flat JSON text, for tests of config.json. */
#ifndef MOEBIUS_TESTS_SUPPORT_CONFIG_EDIT_H
#define MOEBIUS_TESTS_SUPPORT_CONFIG_EDIT_H

#include <stddef.h>

/* Writes `text` to out[size] with the top-level `key` set to the JSON text `value`: replaced where
 * it is, else added; NULL takes it out. `text` may be `out`. Exits with 1 when out is too small. */
void config_edit_set(const char *text, const char *key, const char *value, char *out, size_t size);

#endif
