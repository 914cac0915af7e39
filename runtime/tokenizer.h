/* Text to token ids and back, from an untouched Hugging Face tokenizer.json. Ids and text are those
 * of Hugging Face's tokenizers library, exactly. A loaded tokenizer is read-only: any number of
 * threads may use it at once.
 *
 * Built: byte-pair encoding (byte level or characters with byte fallback); the normalisers NFC,
 * NFD, NFKC, NFKD, Lowercase, Prepend, Replace; the pre-tokenisers ByteLevel, Split, Digits,
 * Metaspace; the post-processors TemplateProcessing and ByteLevel; the decoders ByteLevel,
 * Metaspace, Replace, ByteFallback, Fuse, Strip; sequences of each. Anything else is refused by
 * name. "truncation" and "padding" are the caller's business and not looked at. */
#ifndef MOEBIUS_RUNTIME_TOKENIZER_H
#define MOEBIUS_RUNTIME_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "runtime/text_buffer.h"
#include "runtime/token_list.h"

struct tokenizer;

/* The longest text that is encoded at once, in bytes. */
#define TOKENIZER_TEXT_BYTES_MAX ((size_t)64 << 20)

enum tokenizer_flags {
    TOKENIZER_ADD_SPECIAL = 1,  /* the ids that the post-processor puts around a text (BOS, ...) */
    TOKENIZER_PLAIN_SPECIAL = 2 /* the names of special tokens in the text are plain text */
};

/* Reads a tokenizer.json. STATUS_IO: cannot be read; STATUS_BAD_TOKENIZER: malformed;
 * STATUS_UNSUPPORTED: well-formed, but asks for what is not built. Each with one line in the log.
 * Free with tokenizer_destroy. Local. */
enum status tokenizer_load(const char *path, struct tokenizer **tokenizer);

/* The same from memory; `name` stands for the file in messages. Local. */
enum status tokenizer_load_memory(const char *name, const char *bytes, size_t length,
                                  struct tokenizer **tokenizer);

/* NULL is allowed. Local. */
void tokenizer_destroy(struct tokenizer *tokenizer);

/* Appends the ids of `text` to `ids`; `flags` is a sum of enum tokenizer_flags. The text may hold
 * NUL. STATUS_BAD_REQUEST: not UTF-8 (the message has the offset), or longer than
 * TOKENIZER_TEXT_BYTES_MAX; STATUS_LIMIT: the split pattern takes too many steps on this text. On
 * an error `ids` holds what it held before. Time is linear in the text but for stretches without
 * any place to cut, which take n log n. Local. */
enum status tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t length,
                             unsigned flags, struct token_list *ids);

/* The same for a caller to whom a text of more than `ids_max` ids is of no use: it ends early when
 * `ids` holds more, how many more is not said. Local. */
enum status tokenizer_encode_at_most(const struct tokenizer *tokenizer, const char *text,
                                     size_t length, unsigned flags, int64_t ids_max,
                                     struct token_list *ids);

/* Appends the text of a whole sequence to `text`: well-formed UTF-8, U+FFFD where the tokens' bytes
 * are none. Ids that no token has (a model's vocabulary may be larger) stand for nothing.
 * `skip_special`: leaves special tokens out. Local. */
enum status tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, int64_t count,
                             bool skip_special, struct text_buffer *text);

/* The id of the token with exactly this text ("<|im_end|>"), or -1. Local. */
int32_t tokenizer_token_id(const struct tokenizer *tokenizer, const char *text);

/* The text of a token as tokenizer.json writes it (borrowed, may hold NUL bytes), NULL for an id
 * that no token has. Local. */
const char *tokenizer_id_to_token(const struct tokenizer *tokenizer, int32_t id, size_t *length);

/* The bytes that one token adds to the decoded text (borrowed; they may be part of a character),
 * but for what depends on its neighbours. Length 0 for an id that no token has. Local. */
const char *tokenizer_id_to_bytes(const struct tokenizer *tokenizer, int32_t id, size_t *length);

/* Whether the token is special (left out by skip_special). False for an id that no token has.
 * Local. */
bool tokenizer_is_special(const struct tokenizer *tokenizer, int32_t id);

/* The highest id that a token has, plus one. Not every id below need have a token. Local. */
int32_t tokenizer_vocab_count(const struct tokenizer *tokenizer);

/* The most bytes that one token adds to the decoded text. Local. */
size_t tokenizer_token_bytes_max(const struct tokenizer *tokenizer);

#endif
