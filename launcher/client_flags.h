/* The flags that complete and chat share: which server, and how its tokens are drawn. */
#ifndef MOEBIUS_LAUNCHER_CLIENT_FLAGS_H
#define MOEBIUS_LAUNCHER_CLIENT_FLAGS_H

#include "launcher/options.h"
#include "launcher/settings.h"
#include "runtime/generation_service.h"

struct client_flags {
    struct settings settings;
    const char *server, *model, *api_key_file;
    const char *ssl_ca_certs, *ssl_certfile, *ssl_keyfile;
    bool tls, ignore_eos, json;
    int32_t timeout_s, max_tokens, min_tokens, top_k;
    float temperature, top_p, min_p;
    float repetition_penalty, frequency_penalty, presence_penalty;
    uint64_t seed;
    struct option_list stop, logit_bias;
};

/* Everything unset; at most max_tokens new tokens. */
struct client_flags client_flags_default(int32_t max_tokens);

/* Appends the entries (headings included) and returns the new count. */
#define CLIENT_FLAGS_ENTRIES (25 + SETTINGS_ENTRIES)
int32_t client_flags_entries(struct client_flags *flags, struct option_entry *entries,
                             int32_t count);

/* The part of them that says which server. */
#define CLIENT_FLAGS_SERVER_ENTRIES 9
int32_t client_flags_server_entries(struct client_flags *flags, struct option_entry *entries,
                                    int32_t count);

/* A request with the flags' values and no prompt; what is not given stays the server's to choose.
 * Points into the flags. STATUS_USAGE (logged). Local. */
enum status client_flags_request(const struct client_flags *flags,
                                 struct generation_request *request);

#endif
