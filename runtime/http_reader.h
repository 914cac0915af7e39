/* What the readers of a POST body share: members by name, types, and what is said of a wrong one.
 * Used by http_body.c, http_fields.c and http_messages.c. */
#ifndef MOEBIUS_RUNTIME_HTTP_READER_H
#define MOEBIUS_RUNTIME_HTTP_READER_H

#include "runtime/http_body.h"

struct http_reader {
    struct http_body *body;
    struct generation_message *message;
};

/* "FIELD: expected ..., got ...". Both return the error. Local. */
enum generation_error http_reader_refuse(const struct http_reader *reader,
                                         enum generation_error error, const char *field,
                                         const char *expected, const char *got);
enum generation_error http_reader_wrong_type(const struct http_reader *reader, const char *field,
                                             const char *expected, const struct json_t *value);
enum generation_error http_reader_no_memory(const struct http_reader *reader);

/* The body's member, NULL where it is absent or null. Local. */
struct json_t *http_reader_member(const struct http_reader *reader, const char *field);

/* One member, into *into; absent or null leaves it as it is. GENERATION_ERROR_INVALID: another
 * type, a number below `least` or above INT32_MAX. The string is the body's. Local. */
enum generation_error http_reader_integer(const struct http_reader *reader, const char *field,
                                          int64_t least, int32_t *into);
enum generation_error http_reader_boolean(const struct http_reader *reader, const char *field,
                                          bool *into);
enum generation_error http_reader_string(const struct http_reader *reader, const char *field,
                                         const char **into);

#define RETURN_IF_REFUSED(expression)                                                              \
    do {                                                                                           \
        enum generation_error return_error_ = (expression);                                        \
        if (return_error_ != GENERATION_ERROR_NONE)                                                \
            return return_error_;                                                                  \
    } while (0)

#endif
