/* Rotary settings from config.json: rope_theta and rope_scaling as the hub has them, or
 * rope_parameters as transformers 5 writes them. */
#ifndef MOEBIUS_RUNTIME_ROPE_CONFIG_H
#define MOEBIUS_RUNTIME_ROPE_CONFIG_H

#include "runtime/config_reader.h"
#include "runtime/model_spec.h"

/* Fills spec->rope with the meaning that transformers 5.12 gives the keys. spec->attention.head_dim
 * and spec->max_positions are there already. Kinds default, linear, llama3 and yarn; any other and
 * a partial rotation are STATUS_UNSUPPORTED, impossible values STATUS_BAD_CONFIG (logged). Local.
 */
enum status rope_config_parse(const struct config_reader *config, double default_theta,
                              struct model_spec *spec);

#endif
