/* The log: one line a message on stderr: time, rank (rank@host where there are several), level,
 * file:line, text.
 * Levels: error = cannot go on as asked; warn = odd, going on; info = life of the process; debug;
 * trace. Errors of the user's input (files, flags, requests) are logged once, where they are first
 * known, as one line that names the file, the field, what was expected and what was found. Prompt
 * text and secrets are never logged. */
#ifndef MOEBIUS_KERNELS_BASE_LOG_H
#define MOEBIUS_KERNELS_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level {
    LOG_LEVEL_ERROR,
    LOG_LEVEL_WARN,
    LOG_LEVEL_INFO,
    LOG_LEVEL_DEBUG,
    LOG_LEVEL_TRACE
};

/* Sets the level above which lines are dropped (default: info) and the rank printed in each line
 * (default: 0). The only process-wide state of the program; call before threads start. Local. */
void log_setup(enum log_level level, int32_t rank);

/* The rank that is printed in each line, from now on. Local. */
void log_set_rank(int32_t rank);

/* The host that is printed with the rank, from now on; "": none (the default). At most 63 bytes of
 * it. Call before threads start. Local. */
void log_set_host(const char *host);

/* Whether lines are JSON objects from now on (time in UTC, rank, host if one is set, level, place,
 * text) instead of text. Call before threads start. Local. */
void log_set_json(bool is_json);

/* Parses "error", "warn", "info", "debug", "trace". Returns 0, or -1 if `name` is none of them.
 * Local. */
int log_level_parse(const char *name, enum log_level *level);

/* Writes one line. Thread-safe (one write call a line). Control characters in the text are escaped.
 * Use the macros. Local. */
void log_write(enum log_level level, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* A place for this thread's next error lines instead of stderr: for input that a client sent, whose
 * error is an answer to that client, and for what ranks may all find alike. The first line is kept,
 * without time. */
struct log_diverted {
    char text[1024]; /* "": nothing was logged */
    char place[64];  /* file:line */
};

/* From here to log_divert_end (no nesting) this thread's LOG_ERROR lines go to *diverted. Local. */
void log_divert_begin(struct log_diverted *diverted);
void log_divert_end(void);

/* Writes the line that was kept, if there is one, after all. Not while lines are diverted. Local.
 */
void log_divert_write(const struct log_diverted *diverted);

#define LOG_ERROR(...) log_write(LOG_LEVEL_ERROR, __FILE__, __LINE__, __VA_ARGS__)
#define LOG_WARN(...) log_write(LOG_LEVEL_WARN, __FILE__, __LINE__, __VA_ARGS__)
#define LOG_INFO(...) log_write(LOG_LEVEL_INFO, __FILE__, __LINE__, __VA_ARGS__)
#define LOG_DEBUG(...) log_write(LOG_LEVEL_DEBUG, __FILE__, __LINE__, __VA_ARGS__)

#endif
