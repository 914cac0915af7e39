/* One request from text to text: what moebius generate does once its flags are known. */
#ifndef MOEBIUS_LAUNCHER_GENERATE_RUN_H
#define MOEBIUS_LAUNCHER_GENERATE_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "launcher/engine_flags.h"
#include "runtime/token_list.h"

struct generate_flags {
    struct engine_flags engine;
    const char *prompt, *chat, *system, *file, *token_ids; /* NULL: not given */
    int32_t max_tokens, min_tokens, top_k, logprobs;
    float temperature, top_p, min_p;
    float repetition_penalty, frequency_penalty, presence_penalty;
    uint64_t seed;
    struct option_list stop, logit_bias;
    bool ignore_eos, json, keep_special_tokens;
    bool echo_prompt; /* the prompt goes before the text */
    const char *dump_logits, *dump_routing, *traffic_json;
    bool traffic;
};

/* Loads the model, encodes the prompt, streams the text to stdout (or prints one JSON object at the
 * end), writes the dumps. Logs what went wrong. Local. */
enum status generate_run(const struct generate_flags *flags);

#endif
