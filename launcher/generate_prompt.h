/* From generate's flags to the engine's request: the prompt's ids and the sampling parameters. */
#ifndef MOEBIUS_LAUNCHER_GENERATE_PROMPT_H
#define MOEBIUS_LAUNCHER_GENERATE_PROMPT_H

#include "launcher/generate_run.h"
#include "runtime/sampling_params.h"
#include "runtime/text_buffer.h"
#include "runtime/tokenizer.h"

/* Appends the prompt's ids: of --token-ids, of --prompt or --file (with the special tokens that the
 * tokenizer adds), or of --chat rendered by the model's own chat template. `tokenizer` may be NULL
 * with --token-ids. Errors are logged. Local. */
enum status generate_prompt_build(const struct generate_flags *flags, const char *folder,
                                  const struct tokenizer *tokenizer, struct token_list *ids);

/* Parses "1 2 3" (white space or commas between) into ids; `what` names it in messages.
 * STATUS_BAD_REQUEST (logged). Local. */
enum status generate_prompt_parse_ids(const char *what, const char *text, struct token_list *ids);

/* Appends the whole of a file, or of standard input for "-". STATUS_IO, STATUS_BAD_REQUEST
 * (logged). Local. */
enum status generate_prompt_read_file(const char *path, struct text_buffer *text);

/* Adds the bias that "ID=BIAS" says. STATUS_USAGE (logged). Local. */
enum status generate_prompt_parse_bias(const char *text, struct sampling_params *sampling);

/* Sampling parameters from the flags, held against every range but the vocabulary's, which is the
 * engine's to check. STATUS_USAGE for a malformed --logit-bias, STATUS_BAD_REQUEST (logged). Local.
 */
enum status generate_prompt_sampling(const struct generate_flags *flags,
                                     struct sampling_params *sampling);

#endif
