/* Numbers to bytes and back for messages between ranks: whole numbers in as many bytes as they need
 * (LEB128), everything else as it lies in memory (all ranks run the same program on machines of the
 * same byte order). A reader that runs over its end, or meets a number that does not fit, keeps
 * that in `bad` and gives zeros from there on: one question at the end is enough. */
#ifndef MOEBIUS_RUNTIME_WIRE_H
#define MOEBIUS_RUNTIME_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_NUMBER_BYTES_MAX 5 /* of one int32_t */

struct wire_writer {
    char *at; /* the caller took enough room */
};

struct wire_reader {
    const char *at, *end;
    bool bad;
};

/* A number >= 0. Local. */
void wire_put(struct wire_writer *writer, int32_t number);
int32_t wire_get(struct wire_reader *reader);

/* Bytes as they are. wire_get_bytes zeroes `bytes` when fewer are left. Local. */
void wire_put_bytes(struct wire_writer *writer, const void *bytes, size_t count);
void wire_get_bytes(struct wire_reader *reader, void *bytes, size_t count);

/* A number within [low, high]; anything else makes the reader bad and gives `low`. Local. */
int32_t wire_get_within(struct wire_reader *reader, int32_t low, int32_t high);

#endif
