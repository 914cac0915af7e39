/* The "post_processor" of tokenizer.json: the special tokens put around a text. */
#ifndef MOEBIUS_RUNTIME_TOKENIZER_TEMPLATE_H
#define MOEBIUS_RUNTIME_TOKENIZER_TEMPLATE_H

#include "kernels/base/status.h"
#include "runtime/token_list.h"
#include "runtime/tokenizer_json.h"
#include "runtime/tokenizer_vocab.h"

/* Reads `node` (a post_processor, or missing) into the ids before and after a single text. Both
 * lists are empty before, and to be deinitialised also after an error. Local. */
enum status tokenizer_template_load(const struct tokenizer_json *node,
                                    const struct tokenizer_vocab *vocab, struct token_list *before,
                                    struct token_list *after);

#endif
