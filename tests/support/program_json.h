/* The program's JSON answers, for the system tests. */
#ifndef MOEBIUS_TESTS_SUPPORT_PROGRAM_JSON_H
#define MOEBIUS_TESTS_SUPPORT_PROGRAM_JSON_H

#include "tests/support/program.h"

struct json_t; /* jansson's */

/* Runs the program, which must succeed and print one JSON object and nothing on standard error;
 * anything else ends the test with 1. Release with json_decref. */
struct json_t *program_json_run(const struct program *program, const char *const *arguments);

/* A JSON file. */
struct json_t *program_json_load(const char *path);

#endif
