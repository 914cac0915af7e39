/* generation_config.json: end-of-sequence ids and sampling defaults that come with a model. */
#ifndef MOEBIUS_RUNTIME_GENERATION_CONFIG_H
#define MOEBIUS_RUNTIME_GENERATION_CONFIG_H

#include "runtime/config_reader.h"
#include "runtime/model_spec.h"

/* Sets all fields to "off". Local. */
void generation_config_init(struct generation_defaults *defaults);

/* Token ids from a config: eos_token_id (a number or a list) replaces spec's when it is set;
 * bos_token_id is taken where spec has none. Ids outside the vocabulary are dropped with a warning:
 * they can never be generated. STATUS_BAD_CONFIG (logged). Local. */
enum status generation_config_tokens(const struct config_reader *config, struct model_spec *spec);

/* Reads FOLDER/generation_config.json over what config.json said; a missing file changes nothing.
 * STATUS_IO, STATUS_BAD_CONFIG (logged). Local. */
enum status generation_config_load(const char *folder, struct model_spec *spec);

/* The same for a parsed file. */
enum status generation_config_parse(const struct config_reader *config, struct model_spec *spec);

#endif
