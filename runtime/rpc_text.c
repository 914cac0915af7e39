/* gRPC's texts in HTTP/2 headers, as its protocol description has them
 * (grpc/doc/PROTOCOL-HTTP2.md). Used by the server and the client alike. */
#include "runtime/rpc_text.h"

#include <stdio.h>
#include <string.h>

size_t rpc_text_encode_message(const char *text, char *out, size_t size) {
    static const char hex[] = "0123456789ABCDEF";
    size_t length = 0;
    size_t whole = 0; /* up to where `out` ends with a whole character */
    for (const unsigned char *in = (const unsigned char *)text; *in != 0; in++) {
        if (*in < 0x80 || *in >= 0xc0)
            whole = length;
        bool is_plain = *in >= 0x20 && *in < 0x7f && *in != '%';
        if (length + (is_plain ? 1 : 3) >= size) {
            length = whole;
            break;
        }
        if (is_plain) {
            out[length++] = (char)*in;
        } else {
            out[length++] = '%';
            out[length++] = hex[*in >> 4];
            out[length++] = hex[*in & 15];
        }
    }
    out[length] = 0;
    return length;
}

static int hex_value(char digit) {
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'A' && digit <= 'F')
        return digit - 'A' + 10;
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

void rpc_text_decode_message(char *text) {
    char *out = text;
    for (const char *in = text; *in != 0; in++) {
        int high = *in == '%' ? hex_value(in[1]) : -1;
        int low = high >= 0 ? hex_value(in[2]) : -1;
        if (low < 0) {
            *out++ = *in;
        } else {
            *out++ = (char)(high * 16 + low);
            in += 2;
        }
    }
    *out = 0;
}

struct unit {
    char letter;
    int64_t ns;
};

static const struct unit units[] = {{'n', 1},
                                    {'u', 1000},
                                    {'m', 1000000},
                                    {'S', 1000000000},
                                    {'M', 60 * INT64_C(1000000000)},
                                    {'H', 3600 * INT64_C(1000000000)}};
#define UNIT_COUNT (sizeof(units) / sizeof(units[0]))
#define DIGITS_MAX 8

bool rpc_text_parse_timeout(const char *text, int64_t *timeout_ns) {
    int64_t value = 0;
    int digits = 0;
    for (; text[digits] >= '0' && text[digits] <= '9'; digits++) {
        if (digits == DIGITS_MAX)
            return false;
        value = value * 10 + (text[digits] - '0');
    }
    if (digits == 0 || text[digits] == 0 || text[digits + 1] != 0)
        return false;
    for (size_t i = 0; i < UNIT_COUNT; i++) {
        if (units[i].letter != text[digits])
            continue;
        /* 99999999 hours are more nanoseconds than there are: as good as for ever. */
        int64_t limit = INT64_MAX / 2;
        *timeout_ns = value > limit / units[i].ns ? limit : value * units[i].ns;
        return true;
    }
    return false;
}

void rpc_text_format_timeout(int64_t timeout_ns, char out[RPC_TEXT_TIMEOUT_SIZE]) {
    int64_t rest = timeout_ns < 0 ? 0 : timeout_ns;
    size_t i = 0;
    while (i + 1 < UNIT_COUNT && (rest - 1) / units[i].ns + 1 > 99999999)
        i++;
    int64_t value = rest == 0 ? 0 : (rest - 1) / units[i].ns + 1;
    if (value > 99999999)
        value = 99999999;
    snprintf(out, RPC_TEXT_TIMEOUT_SIZE, "%d%c", (int)value, units[i].letter);
}

bool rpc_text_is_grpc(const char *value) {
    static const char type[] = "application/grpc";
    size_t length = sizeof(type) - 1;
    if (strncmp(value, type, length) != 0)
        return false;
    return value[length] == 0 || value[length] == '+' || value[length] == ';';
}
