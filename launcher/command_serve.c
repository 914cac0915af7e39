/* moebius serve: the flags, under the names that vLLM's users know. */
#include <string.h>

#include "kernels/base/log.h"
#include "launcher/commands.h"
#include "launcher/serve_run.h"

#define SERVE_ENTRIES 23

static int32_t fill_entries(struct serve_flags *flags, struct option_entry *entries) {
    const struct option_entry own[SERVE_ENTRIES] = {
        {.kind = OPTION_HEADING, .name = "Doors"},
        {OPTION_STRING, "host", &flags->host, "ADDRESS",
         "where to listen; default 127.0.0.1; 0.0.0.0: everywhere; unix:PATH: gRPC only", 0, 0},
        {OPTION_INT, "port", &flags->port, "N", "of gRPC; default 50051, 0: any free one", 0,
         65535},
        {OPTION_INT, "http-port", &flags->http_port, "N",
         "of the OpenAI-compatible HTTP door; default 8000, 0: any free one", 0, 65535},
        {OPTION_FLAG, "no-http", &flags->no_http, NULL, "no HTTP door", 0, 0},
        {OPTION_STRING, "admin-address", &flags->admin_address, "ADDRESS",
         "HOST:PORT or unix:PATH of a second door for operators; default: none", 0, 0},
        {OPTION_STRING, "admin-api-key-file", &flags->admin_api_key_file, "FILE",
         "operators' tokens at HOST:PORT; default: those of --api-key-file", 0, 0},
        {OPTION_STRING, "api-key-file", &flags->api_key_file, "FILE",
         "a bearer token a line: clients must send one of them", 0, 0},
        {OPTION_STRING, "ssl-certfile", &flags->ssl_certfile, "FILE",
         "PEM: certificate with its chain; turns TLS on", 0, 0},
        {OPTION_STRING, "ssl-keyfile", &flags->ssl_keyfile, "FILE", "PEM: its private key", 0, 0},
        {OPTION_STRING, "ssl-ca-certs", &flags->ssl_ca_certs, "FILE",
         "PEM: who signs clients' certificates; clients must have one then", 0, 0},
        {.kind = OPTION_HEADING, .name = "Requests"},
        {OPTION_LIST, "served-model-name", &flags->served_model_names, "NAME",
         "what clients call the model; may be repeated; default: its folder's name", 0, 0},
        {OPTION_INT, "max-num-seqs", &flags->max_num_seqs, "N",
         "sequences that run at once; default 256", 1, 65536},
        {OPTION_INT, "max-queue", &flags->max_queue, "N",
         "sequences that may wait; more are refused at once; default 1024", 1, 1 << 20},
        {OPTION_STRING, "generation-config", &flags->generation_config, "SOURCE",
         "auto: sampling fields default to generation_config.json's; none: they are off", 0, 0},
        {OPTION_FLAG, "skip-tokenizer-init", &flags->skip_tokenizer_init, NULL,
         "load no tokenizer: prompts are token ids, and so are answers", 0, 0},
        {.kind = OPTION_HEADING, .name = "Memory"},
        {OPTION_STRING, "kv-cache-memory", &flags->kv_cache_memory, "BYTES",
         "a rank's, such as 512M or 4G; default: a quarter of its share of what is free", 0, 0},
        {OPTION_FLAG, "no-prefix-cache", &flags->no_prefix_cache, NULL, "compute every prompt anew",
         0, 0},
        {.kind = OPTION_HEADING, .name = "Life"},
        {OPTION_INT, "shutdown-timeout", &flags->shutdown_timeout_s, "SECONDS",
         "how long open requests may take after SIGTERM; default 30; a second signal: none", 0,
         86400},
        {OPTION_INT, "step-timeout", &flags->step_timeout_s, "SECONDS",
         "a step that takes longer makes health NOT_SERVING until it ends; default 5", 1, 86400},
    };
    memcpy(entries, own, sizeof own);
    int32_t count = engine_flags_entries(&flags->engine, entries, SERVE_ENTRIES);
    return engine_flags_rank_entries(&flags->engine, entries, count);
}

/* Keys that no door would ask for are a mistake about who can come in. */
static enum status check_admin(const struct serve_flags *flags) {
    const char *address = flags->admin_address;
    if (flags->admin_api_key_file == NULL || (address != NULL && strncmp(address, "unix:", 5) != 0))
        return STATUS_OK;
    LOG_ERROR("--admin-api-key-file: expected HOST:PORT in --admin-address, got %s",
              address != NULL ? address : "nothing");
    return STATUS_USAGE;
}

static enum status serve(const struct serve_flags *flags, int argc, char **argv) {
    int operand = flags->engine.settings.first_operand;
    if (operand < argc) {
        LOG_ERROR("serve: expected no operand, got '%s'", argv[operand]);
        return STATUS_USAGE;
    }
    RETURN_IF_ERROR(check_admin(flags));
    return serve_run(flags);
}

enum status command_serve(int argc, char **argv) {
    struct serve_flags flags = {.engine = engine_flags_default(),
                                .host = "127.0.0.1",
                                .port = 50051,
                                .http_port = 8000,
                                .generation_config = "auto",
                                .max_num_seqs = 256,
                                .max_queue = 1024,
                                .shutdown_timeout_s = 30,
                                .step_timeout_s = 5};
    flags.engine.announces_all = true;
    struct option_entry entries[SERVE_ENTRIES + ENGINE_FLAGS_ENTRIES + ENGINE_FLAGS_RANK_ENTRIES];
    struct option_command command = {
        .name = "serve",
        .usage = "[options]",
        .summary =
            "Serves a model by gRPC and HTTP, alone or on the ranks that mpirun starts. Prints one "
            "line that begins with\n\"ready:\" on standard output when it takes requests. "
            "Ends after SIGTERM or SIGINT, when open\nrequests are done.",
        .entries = entries,
        .count = fill_entries(&flags, entries)};
    struct settings *settings = &flags.engine.settings;
    enum status status = settings_parse(&command, argc, argv, settings);
    if (status == STATUS_OK && !settings->answered)
        status = serve(&flags, argc, argv);
    settings_deinit(settings);
    return status;
}
