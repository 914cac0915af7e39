/* From the flags of complete and chat to a request. */
#include "launcher/client_flags.h"

#include <string.h>

#include "kernels/base/log.h"
#include "launcher/generate_prompt.h"

#define OWN_ENTRIES (CLIENT_FLAGS_ENTRIES - CLIENT_FLAGS_SERVER_ENTRIES - SETTINGS_ENTRIES)

struct client_flags client_flags_default(int32_t max_tokens) {
    return (struct client_flags){.server = "127.0.0.1:50051",
                                 .max_tokens = max_tokens,
                                 .top_p = 1.0f,
                                 .repetition_penalty = 1.0f};
}

static const char unless_given[] = "not given: the model's default";

int32_t client_flags_server_entries(struct client_flags *flags, struct option_entry *entries,
                                    int32_t count) {
    const struct option_entry own[CLIENT_FLAGS_SERVER_ENTRIES] = {
        {.kind = OPTION_HEADING, .name = "Server"},
        {OPTION_STRING, "server", &flags->server, "ADDRESS",
         "HOST:PORT or unix:PATH; default 127.0.0.1:50051", 0, 0},
        {OPTION_STRING, "model", &flags->model, "NAME", "refuse another than this one", 0, 0},
        {OPTION_STRING, "api-key-file", &flags->api_key_file, "FILE",
         "its first line is sent as bearer token", 0, 0},
        {OPTION_FLAG, "tls", &flags->tls, NULL, "TLS, with the system's authorities", 0, 0},
        {OPTION_STRING, "ssl-ca-certs", &flags->ssl_ca_certs, "FILE",
         "TLS, with the authorities of this PEM file", 0, 0},
        {OPTION_STRING, "ssl-certfile", &flags->ssl_certfile, "FILE",
         "PEM: the certificate that we show the server", 0, 0},
        {OPTION_STRING, "ssl-keyfile", &flags->ssl_keyfile, "FILE", "PEM: its private key", 0, 0},
        {OPTION_INT, "timeout", &flags->timeout_s, "SECONDS", "give up then; default: never", 1,
         1 << 20},
    };
    memcpy(entries + count, own, sizeof own);
    return count + CLIENT_FLAGS_SERVER_ENTRIES;
}

int32_t client_flags_entries(struct client_flags *flags, struct option_entry *entries,
                             int32_t count) {
    const struct option_entry own[OWN_ENTRIES] = {
        {.kind = OPTION_HEADING, .name = "Length"},
        {OPTION_INT, "max-tokens", &flags->max_tokens, "N", "new tokens at most", 1, 1 << 24},
        {OPTION_INT, "min-tokens", &flags->min_tokens, "N", "no end token before; default 0", 0,
         1 << 24},
        {OPTION_LIST, "stop", &flags->stop, "TEXT", "ends before this text; may be repeated", 0, 0},
        {OPTION_FLAG, "ignore-eos", &flags->ignore_eos, NULL, "end tokens do not end", 0, 0},
        {.kind = OPTION_HEADING, .name = "Sampling"},
        {OPTION_FLOAT, "temperature", &flags->temperature, "T", unless_given, 0, 1000},
        {OPTION_UINT64, "seed", &flags->seed, "N", "not given: the server draws one", 0, 0},
        {OPTION_INT, "top-k", &flags->top_k, "N", unless_given, -1, INT32_MAX / 2},
        {OPTION_FLOAT, "top-p", &flags->top_p, "P", unless_given, 0, 1},
        {OPTION_FLOAT, "min-p", &flags->min_p, "P", unless_given, 0, 1},
        {OPTION_FLOAT, "repetition-penalty", &flags->repetition_penalty, "X", unless_given, 0.01,
         100},
        {OPTION_FLOAT, "frequency-penalty", &flags->frequency_penalty, "X", "0: off", -100, 100},
        {OPTION_FLOAT, "presence-penalty", &flags->presence_penalty, "X", "0: off", -100, 100},
        {OPTION_LIST, "logit-bias", &flags->logit_bias, "ID=BIAS", "may be repeated", 0, 0},
        {OPTION_FLAG, "json", &flags->json, NULL, "JSON objects instead of text", 0, 0},
    };
    count = client_flags_server_entries(flags, entries, count);
    memcpy(entries + count, own, sizeof own);
    return settings_entries(&flags->settings, entries, count + OWN_ENTRIES);
}

enum status client_flags_request(const struct client_flags *flags,
                                 struct generation_request *request) {
    static const struct {
        const char *name;
        enum generation_given given;
    } fields[] = {{"temperature", GENERATION_GIVEN_TEMPERATURE},
                  {"top-k", GENERATION_GIVEN_TOP_K},
                  {"top-p", GENERATION_GIVEN_TOP_P},
                  {"min-p", GENERATION_GIVEN_MIN_P},
                  {"repetition-penalty", GENERATION_GIVEN_REPETITION_PENALTY},
                  {"seed", GENERATION_GIVEN_SEED}};
    *request = generation_request_default();
    request->model = flags->model;
    request->max_tokens = flags->max_tokens;
    request->min_tokens = flags->min_tokens;
    request->ignore_eos = flags->ignore_eos;
    request->stop = flags->stop.values;
    request->stop_count = flags->stop.count;
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        if (settings_origin_of(&flags->settings, fields[i].name) != SETTINGS_DEFAULT)
            request->given |= fields[i].given;
    struct sampling_params *sampling = &request->sampling;
    sampling->temperature = flags->temperature;
    sampling->top_k = flags->top_k > 0 ? flags->top_k : 0;
    sampling->top_p = flags->top_p;
    sampling->min_p = flags->min_p;
    sampling->repetition_penalty = flags->repetition_penalty;
    sampling->frequency_penalty = flags->frequency_penalty;
    sampling->presence_penalty = flags->presence_penalty;
    sampling->seed = flags->seed;
    for (int32_t i = 0; i < flags->logit_bias.count; i++)
        RETURN_IF_ERROR(generate_prompt_parse_bias(flags->logit_bias.values[i], sampling));
    return STATUS_OK;
}
