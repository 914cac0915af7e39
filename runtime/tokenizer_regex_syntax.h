/* From Oniguruma's syntax to PCRE2's, with the meaning kept. */
#ifndef MOEBIUS_RUNTIME_TOKENIZER_REGEX_SYNTAX_H
#define MOEBIUS_RUNTIME_TOKENIZER_REGEX_SYNTAX_H

#include <stddef.h>

#include "kernels/base/status.h"
#include "runtime/text_buffer.h"

/* Appends to `out` (NUL-terminated, for messages; the NUL is not counted) the pattern that under
 * PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, newline LF, matches what `pattern` matches under
 * Oniguruma in UTF-8 (White_Space for \s, scripts and not script extensions for \p{Han}, lines for
 * ^ and $). STATUS_UNSUPPORTED (logged, opened by `name`) for syntax whose meaning differs and that
 * no tokenizer known to us uses. What neither knows is left to PCRE2's compiler to refuse. Local.
 */
enum status tokenizer_regex_syntax_rewrite(const char *name, const char *pattern, size_t length,
                                           struct text_buffer *out);

#endif
