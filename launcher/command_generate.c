/* moebius generate: the flags. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/base/log.h"
#include "launcher/commands.h"
#include "launcher/generate_run.h"

#define GENERATE_ENTRIES 29

/* Without any argument: a text of the demo model's own world, sampled as its generation_config.json
 * says. */
static const char demo_prompt[] = "It was a cold evening, and the old man sat by the fire";

static int32_t fill_entries(struct generate_flags *flags, struct option_entry *entries) {
    const struct option_entry own[GENERATE_ENTRIES] = {
        {.kind = OPTION_HEADING, .name = "Prompt (one of them)"},
        {OPTION_STRING, "prompt", &flags->prompt, "TEXT", "the same as the operand", 0, 0},
        {OPTION_STRING, "chat", &flags->chat, "MESSAGE",
         "a user's message, rendered by the model's chat template", 0, 0},
        {OPTION_STRING, "system", &flags->system, "MESSAGE", "a system message before --chat", 0,
         0},
        {OPTION_STRING, "file", &flags->file, "PATH", "the text of a file; - is standard input", 0,
         0},
        {OPTION_STRING, "token-ids", &flags->token_ids, "\"1 2 3\"", "ids as they are", 0, 0},
        {.kind = OPTION_HEADING, .name = "Length"},
        {OPTION_INT, "max-tokens", &flags->max_tokens, "N", "new tokens; default 64", 1, 1 << 24},
        {OPTION_INT, "min-tokens", &flags->min_tokens, "N", "no end token before; default 0", 0,
         1 << 24},
        {OPTION_LIST, "stop", &flags->stop, "TEXT", "ends before this text; may be repeated", 0, 0},
        {OPTION_FLAG, "ignore-eos", &flags->ignore_eos, NULL, "end tokens do not end", 0, 0},
        {.kind = OPTION_HEADING, .name = "Sampling"},
        {OPTION_FLOAT, "temperature", &flags->temperature, "T", "0 is greedy, the default", 0,
         1000},
        {OPTION_UINT64, "seed", &flags->seed, "N", "same seed, same tokens; default 0", 0, 0},
        {OPTION_INT, "top-k", &flags->top_k, "N", "0 or -1: off", -1, INT32_MAX / 2},
        {OPTION_FLOAT, "top-p", &flags->top_p, "P", "1: off", 0, 1},
        {OPTION_FLOAT, "min-p", &flags->min_p, "P", "0: off", 0, 1},
        {OPTION_FLOAT, "repetition-penalty", &flags->repetition_penalty, "X", "1: off", 0.01, 100},
        {OPTION_FLOAT, "frequency-penalty", &flags->frequency_penalty, "X", "0: off", -100, 100},
        {OPTION_FLOAT, "presence-penalty", &flags->presence_penalty, "X", "0: off", -100, 100},
        {OPTION_LIST, "logit-bias", &flags->logit_bias, "ID=BIAS", "may be repeated", 0, 0},
        {.kind = OPTION_HEADING, .name = "Output"},
        {OPTION_FLAG, "json", &flags->json, NULL,
         "one object: prompt_ids, output_ids, text, timings", 0, 0},
        {OPTION_INT, "logprobs", &flags->logprobs, "N",
         "log-probabilities in --json, with the N likeliest", 0, SAMPLING_LOGPROBS_MAX},
        {OPTION_FLAG, "keep-special-tokens", &flags->keep_special_tokens, NULL,
         "special tokens show in the text", 0, 0},
        {OPTION_STRING, "dump-logits", &flags->dump_logits, "FILE",
         "safetensors: logits of every computed position", 0, 0},
        {OPTION_FLAG, "traffic", &flags->traffic, NULL,
         "a table of what crossed ranks, after the text (on standard error with --json)", 0, 0},
        {OPTION_STRING, "traffic-json", &flags->traffic_json, "FILE", "the same as JSON", 0, 0},
        {OPTION_STRING, "dump-routing", &flags->dump_routing, "FILE",
         "safetensors: expert ids and weights", 0, 0},
    };
    memcpy(entries, own, sizeof own);
    int32_t count = engine_flags_entries(&flags->engine, entries, GENERATE_ENTRIES);
    return engine_flags_rank_entries(&flags->engine, entries, count);
}

static enum status check_prompt_flags(const struct generate_flags *flags, int operands) {
    int given = (flags->prompt != NULL) + (flags->chat != NULL) + (flags->file != NULL) +
                (flags->token_ids != NULL) + operands;
    if (given != 1) {
        LOG_ERROR("generate: expected one prompt (an operand, --prompt, --chat, --file or "
                  "--token-ids), got %d",
                  given);
        return STATUS_USAGE;
    }
    if (flags->system != NULL && flags->chat == NULL) {
        LOG_ERROR("--system: expected together with --chat, got it alone");
        return STATUS_USAGE;
    }
    if (flags->logprobs >= 0 && !flags->json) {
        LOG_ERROR("--logprobs: expected together with --json, got it alone");
        return STATUS_USAGE;
    }
    return STATUS_OK;
}

static enum status generate(struct generate_flags *flags, int argc, char **argv) {
    if (argc == 1 && flags->prompt == NULL && flags->chat == NULL && flags->file == NULL &&
        flags->token_ids == NULL) {
        flags->prompt = demo_prompt;
        flags->temperature = 0.7f;
        flags->top_p = 0.9f;
        flags->echo_prompt = true;
        return generate_run(flags);
    }
    int operand = flags->engine.settings.first_operand;
    RETURN_IF_ERROR(check_prompt_flags(flags, argc - operand));
    if (operand < argc)
        flags->prompt = argv[operand];
    return generate_run(flags);
}

enum status command_generate(int argc, char **argv) {
    struct generate_flags flags = {.engine = engine_flags_default(),
                                   .max_tokens = 64,
                                   .logprobs = -1,
                                   .top_p = 1.0f,
                                   .repetition_penalty = 1.0f};
    struct option_entry
        entries[GENERATE_ENTRIES + ENGINE_FLAGS_ENTRIES + ENGINE_FLAGS_RANK_ENTRIES];
    struct option_command command = {.name = "generate",
                                     .usage = "[options] [PROMPT]",
                                     .summary =
                                         "Continues a prompt, or answers a chat message, alone or "
                                         "on the ranks that mpirun starts; "
                                         "the text streams to\nstandard output. Without arguments: "
                                         "the demo model and a prompt of its own.",
                                     .entries = entries,
                                     .count = fill_entries(&flags, entries)};
    struct settings *settings = &flags.engine.settings;
    enum status status = settings_parse(&command, argc, argv, settings);
    if (status == STATUS_OK && !settings->answered)
        status = generate(&flags, argc, argv);
    settings_deinit(settings);
    return status;
}
