/* The "normalizer" of tokenizer.json: what is done to text before it is split. */
#ifndef MOEBIUS_RUNTIME_TOKENIZER_NORMALIZE_H
#define MOEBIUS_RUNTIME_TOKENIZER_NORMALIZE_H

#include <stddef.h>

#include "kernels/base/status.h"
#include "runtime/text_buffer.h"
#include "runtime/tokenizer_json.h"
#include "runtime/tokenizer_regex.h"

#define TOKENIZER_NORMALIZE_STEPS_MAX 16

enum tokenizer_normalize_kind {
    TOKENIZER_NORMALIZE_SEQUENCE, /* only while loading: sequences are laid flat */
    TOKENIZER_NORMALIZE_NFC,
    TOKENIZER_NORMALIZE_NFD,
    TOKENIZER_NORMALIZE_NFKC,
    TOKENIZER_NORMALIZE_NFKD,
    TOKENIZER_NORMALIZE_LOWERCASE,
    TOKENIZER_NORMALIZE_PREPEND,
    TOKENIZER_NORMALIZE_REPLACE
};

struct tokenizer_normalize_step {
    enum tokenizer_normalize_kind kind;
    struct tokenizer_regex pattern; /* Replace */
    struct text_buffer text;        /* Prepend, Replace: what is put in */
};

/* {0}: text stays as it is. */
struct tokenizer_normalize {
    struct tokenizer_normalize_step steps[TOKENIZER_NORMALIZE_STEPS_MAX];
    int count;
};

/* Two buffers that the steps write in turn; {0} to start with. */
struct tokenizer_normalize_scratch {
    struct text_buffer buffers[2];
    struct text_buffer code_points; /* int32_t */
    struct tokenizer_regex_scratch regex;
};

void tokenizer_normalize_scratch_deinit(struct tokenizer_normalize_scratch *scratch);

/* Adds the steps of `node` (a normalizer, or missing: none). *normalize is {0} before, and to be
 * deinitialised also after an error. Local. */
enum status tokenizer_normalize_load(struct tokenizer_normalize *normalize,
                                     const struct tokenizer_json *node);

void tokenizer_normalize_deinit(struct tokenizer_normalize *normalize);

/* The normalised form of well-formed UTF-8, in linear time (n log n in a long run of combining
 * marks). *out is `text` itself or lies in the scratch, until the next call. Local. */
enum status tokenizer_normalize_run(const struct tokenizer_normalize *normalize,
                                    struct tokenizer_normalize_scratch *scratch, const char *text,
                                    size_t length, const char **out, size_t *out_length);

/* The text with every match of `pattern` replaced, appended to `out`. Local. */
enum status tokenizer_normalize_replace(const struct tokenizer_normalize_step *step,
                                        struct tokenizer_regex_scratch *scratch, const char *text,
                                        size_t length, struct text_buffer *out);

/* Reads {"pattern": ..., "content": ...} of a Replace normaliser or decoder. Local. */
enum status tokenizer_normalize_load_replace(struct tokenizer_normalize_step *step,
                                             const struct tokenizer_json *node);

void tokenizer_normalize_step_deinit(struct tokenizer_normalize_step *step);

#endif
