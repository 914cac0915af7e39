/* The text of one choice, token by token, on the network thread: whole characters only, nothing of
 * a stop string, stop strings found across token borders. */
#ifndef MOEBIUS_RUNTIME_REPLY_TEXT_H
#define MOEBIUS_RUNTIME_REPLY_TEXT_H

#include "runtime/detokenizer.h"
#include "runtime/stop_matcher.h"

struct reply_text_options {
    const struct tokenizer *tokenizer; /* NULL: nothing will be pushed */
    const char *const *stop;           /* [stop_count], checked, borrowed until deinit */
    int32_t stop_count;
    int32_t min_tokens;  /* stop strings are not looked for in the text of the first so many */
    bool include_stop;   /* the stop string ends the text instead of being left out */
    bool keep_special;   /* special tokens show */
    bool follows_prompt; /* no space is stripped at the start */
};

struct reply_text {
    struct detokenizer detokenizer;
    struct stop_matcher stop; /* .matched: index of the stop string that was found, -1: none */
    bool include_stop;
    int32_t unsearched; /* tokens left before stop strings count */
};

/* Bytes of scratch that push and finish need. Local. */
size_t reply_text_scratch_bytes(const struct tokenizer *tokenizer);

/* STATUS_BAD_REQUEST (logged) as stop_matcher_init. Local. */
enum status reply_text_init(struct reply_text *reply, const struct reply_text_options *options);
void reply_text_deinit(struct reply_text *reply);

/* Takes the next token and appends the text that is certain now to *out. When stop.matched is >= 0
 * afterwards, the text is complete: neither push nor finish adds anything. STATUS_NO_MEMORY. Local.
 */
enum status reply_text_push(struct reply_text *reply, int32_t id, char *scratch,
                            struct text_buffer *out);

/* The end: what was held back comes out (or turns out to be a stop string: see stop.matched).
 * STATUS_NO_MEMORY. Local. */
enum status reply_text_finish(struct reply_text *reply, char *scratch, struct text_buffer *out);

#endif
