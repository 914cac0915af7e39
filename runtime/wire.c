/* The bytes of the two messages of a step, step_plan's and step_link's. */
#include "runtime/wire.h"

#include <string.h>

#include "kernels/base/check.h"

void wire_put(struct wire_writer *writer, int32_t number) {
    ASSERT(number >= 0);
    uint32_t rest = (uint32_t)number;
    for (; rest >= 128; rest >>= 7)
        *writer->at++ = (char)(unsigned char)(rest | 128);
    *writer->at++ = (char)rest;
}

int32_t wire_get(struct wire_reader *reader) {
    uint64_t number = 0;
    for (int shift = 0; shift < 7 * WIRE_NUMBER_BYTES_MAX && reader->at < reader->end; shift += 7) {
        unsigned char byte = (unsigned char)*reader->at++;
        number |= (uint64_t)(byte & 127) << shift;
        if (byte < 128 && number <= INT32_MAX)
            return (int32_t)number;
    }
    reader->bad = true;
    reader->at = reader->end;
    return 0;
}

int32_t wire_get_within(struct wire_reader *reader, int32_t low, int32_t high) {
    int32_t number = wire_get(reader);
    if (number >= low && number <= high)
        return number;
    reader->bad = true;
    reader->at = reader->end;
    return low;
}

void wire_put_bytes(struct wire_writer *writer, const void *bytes, size_t count) {
    memcpy(writer->at, bytes, count);
    writer->at += count;
}

void wire_get_bytes(struct wire_reader *reader, void *bytes, size_t count) {
    if ((size_t)(reader->end - reader->at) < count) {
        memset(bytes, 0, count);
        reader->bad = true;
        reader->at = reader->end;
        return;
    }
    memcpy(bytes, reader->at, count);
    reader->at += count;
}
