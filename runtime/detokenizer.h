/* A stream of ids to a stream of text: each id gives the text that is certain by then, which never
 * ends within a character. State is a few bytes; nothing is decoded twice and nothing is allocated.
 *
 * The deltas, joined, are tokenizer_decode's text with one exception: where a run of ByteFallback
 * tokens holds both whole characters and stray bytes, a whole sequence decodes to U+FFFD for every
 * byte of the run, which a stream cannot know when it hands out the first of them; it keeps the
 * whole characters. */
#ifndef MOEBIUS_RUNTIME_DETOKENIZER_H
#define MOEBIUS_RUNTIME_DETOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tokenizer;

struct detokenizer {
    const struct tokenizer *tokenizer; /* borrowed until the last call */
    bool skip_special;
    bool has_token;           /* some token came already */
    int32_t strip_left;       /* characters that may still be stripped at the start */
    unsigned char pending[4]; /* the start of a character */
    int32_t pending_count;    /* bytes of it, at most 3 between calls */
};

/* Starts a stream. `skip_special`: special tokens give no text. Local. */
void detokenizer_init(struct detokenizer *detokenizer, const struct tokenizer *tokenizer,
                      bool skip_special);

/* The text continues another (a prompt): nothing is stripped at its start. Before the first push.
 * Local. */
void detokenizer_follow(struct detokenizer *detokenizer);

/* The most bytes that one call may write. Local. */
size_t detokenizer_delta_bytes_max(const struct tokenizer *tokenizer);

/* Takes the next id and writes the new text (not NUL-terminated; often nothing) to `delta`, which
 * has room for detokenizer_delta_bytes_max bytes. Returns the bytes written. An id that no token
 * has gives nothing. Local. */
size_t detokenizer_push(struct detokenizer *detokenizer, int32_t id, char *delta);

/* Gives U+FFFD for a byte that belongs to no character: what tokenizer_decode puts for each byte of
 * a broken run. Local. */
size_t detokenizer_push_broken(struct detokenizer *detokenizer, char *delta);

/* The end of the stream: a character that was left unfinished becomes U+FFFD. Local. */
size_t detokenizer_finish(struct detokenizer *detokenizer, char *delta);

#endif
