/* Strings of the template language as Python has them: sequences of code points, kept as UTF-8. All
 * functions are pure and read valid UTF-8 only. */
#ifndef MOEBIUS_RUNTIME_JINJA_STRING_H
#define MOEBIUS_RUNTIME_JINJA_STRING_H

#include "runtime/jinja_value.h"

/* Whether the bytes are valid UTF-8 (no surrogates, nothing overlong, at most U+10FFFF). Local. */
bool jinja_string_valid(const char *text, size_t length);

bool jinja_string_equal(struct jinja_string a, struct jinja_string b);

/* Whether it is these C characters. Local. */
bool jinja_string_is(struct jinja_string string, const char *text);

/* <0, 0, >0 in the order of code points. Local. */
int jinja_string_compare(struct jinja_string a, struct jinja_string b);

uint32_t jinja_string_hash(struct jinja_string string);

/* Number of code points. Local. */
int64_t jinja_string_count(struct jinja_string string);

/* Bytes of the code point that starts at `text`. Local. */
size_t jinja_string_step(const char *text);

/* Byte offset of code point `index`, at most string.length. Local. */
size_t jinja_string_offset(struct jinja_string string, int64_t index);

/* The code points from byte `start` to byte `end`. Local. */
struct jinja_string jinja_string_part(struct jinja_string string, size_t start, size_t end);

/* Byte offset of the first (last) occurrence at or after byte `from`, or -1. Local. */
int64_t jinja_string_find(struct jinja_string string, struct jinja_string part, size_t from);
int64_t jinja_string_find_last(struct jinja_string string, struct jinja_string part);

bool jinja_string_starts(struct jinja_string string, struct jinja_string part);
bool jinja_string_ends(struct jinja_string string, struct jinja_string part);

bool jinja_string_is_ascii(struct jinja_string string);

/* Bytes of the whitespace code point (as Python's str.isspace) that `string` starts with, 0 if it
 * starts with another. Local. */
size_t jinja_string_space_at_start(struct jinja_string string);

/* Without the whitespace, or the code points of `characters` where that is not NULL, at its start
 * (end). Local. */
struct jinja_string jinja_string_strip_start(struct jinja_string string,
                                             const struct jinja_string *characters);
struct jinja_string jinja_string_strip_end(struct jinja_string string,
                                           const struct jinja_string *characters);

/* Writes a code point (not a surrogate, at most U+10FFFF) as UTF-8; gives the number of bytes.
 * Local. */
size_t jinja_string_encode(uint32_t code_point, char bytes[4]);

/* The code point that starts at `text`. Local. */
uint32_t jinja_string_decode(const char *text);

#endif
