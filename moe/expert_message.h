/* What travels in a dispatch: sections, one for each home rank whose tokens a message carries.
 *
 * A section is its rows, then its pairs (row of the section, slot of the layer), then its head: so
 * those of a home can be sent from where they were computed, with the rest written behind them. It
 * is as long as it takes for the rows of the next one to stand aligned. Pairs are listed by row,
 * slots of a row in the token's slot order, and rows in the home's order, so that a section can be
 * cut down to fewer ranks on its way without changing the order of anything. */
#ifndef MOEBIUS_MOE_EXPERT_MESSAGE_H
#define MOEBIUS_MOE_EXPERT_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

#define EXPERT_SECTION_ALIGNMENT 64 /* bytes; a cache line, a vector */

struct expert_section {
    int32_t source; /* home rank */
    int32_t rows, pairs;
    const char *row_bytes, *pair_bytes; /* inside the message; rows aligned as it is */
};

struct expert_pair {
    int32_t row, slot; /* row of the section, expert slot of the layer */
};

/* A message being written: closed sections from the front, then the open section's rows; its pairs
 * wait at the end of the buffer. */
struct expert_writer {
    char *message, *pairs;
    int64_t used; /* bytes of the message so far */
    int32_t source, row_count, pair_count;
    int32_t last; /* home row that was written last, or -1 */
};

/* Bytes of one message buffer that takes `sections` sections of `rows` rows and `pairs` pairs in
 * all, the writer's room included. */
int64_t expert_message_capacity(int64_t sections, int64_t rows, int64_t pairs, size_t row_bytes);

/* An empty message in a buffer of `capacity` bytes for up to `pairs` pairs a section. Local. */
void expert_message_start(struct expert_writer *writer, char *message, int64_t capacity,
                          int64_t pairs);

/* Begins the section of one home. Local. */
void expert_message_open(struct expert_writer *writer, int32_t source);

/* Adds a row, and the pairs of the row that was added last. Local. */
void expert_message_add_row(struct expert_writer *writer, const void *row, size_t row_bytes);
void expert_message_add_pair(struct expert_writer *writer, int32_t slot);

/* Ends the section; writer->used is the message's length so far. Local. */
void expert_message_close(struct expert_writer *writer, size_t row_bytes);

/* A section whose `rows` rows stand at `section` already: writes all their pairs, slots
 * [rows][top_k], and the head behind them. Returns the section's bytes. Local. */
int64_t expert_message_whole(char *section, int32_t source, int32_t rows, size_t row_bytes,
                             const int32_t *slots, int32_t top_k);

/* Takes the section that ends *end bytes into a message and moves *end to where it begins: sections
 * are read from the last to the first. Returns -1 if there is none that can be right: a head with
 * counts of at most rows_max and pairs_max, and all that they promise. Local. */
int expert_message_last(const char *message, int64_t *end, size_t row_bytes, int32_t rows_max,
                        int32_t pairs_max, struct expert_section *section);

/* Pair i of a section. Local. */
struct expert_pair expert_message_pair(const struct expert_section *section, int32_t i);

#endif
