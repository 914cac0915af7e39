/* A server's life on one rank: what moebius serve does once its flags are known. */
#ifndef MOEBIUS_LAUNCHER_SERVE_RUN_H
#define MOEBIUS_LAUNCHER_SERVE_RUN_H

#include "launcher/engine_flags.h"

struct serve_flags {
    struct engine_flags engine;
    const char *host, *admin_address;
    int32_t port, http_port;
    bool no_http;
    const char *admin_api_key_file;                                       /* NULL: api_key_file */
    const char *api_key_file, *ssl_certfile, *ssl_keyfile, *ssl_ca_certs; /* NULL: none */
    struct option_list served_model_names;
    const char *generation_config; /* "auto" or "none" */
    const char *kv_cache_memory;   /* bytes with a suffix; NULL: chosen */
    int32_t max_num_seqs, max_queue;
    int32_t shutdown_timeout_s, step_timeout_s;
    bool no_prefix_cache, skip_tokenizer_init;
};

/* Loads, serves until a signal or a lost rank, drains, ends. On ranks other than the coordinator:
 * executes steps until it ends. Logs what went wrong. Collective. */
enum status serve_run(const struct serve_flags *flags);

#endif
