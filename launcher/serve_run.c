/* Start, serve, end: the coordinator runs the engine loop here and the doors on a thread of their
 * own; the other ranks execute what it plans. */
#include "launcher/serve_run.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "launcher/job.h"
#include "launcher/serve_doors.h"
#include "launcher/serve_entry.h"
#include "launcher/serve_memory.h"
#include "runtime/memory_plan.h"

/* A rank that ends with an error ends the others with it. When it is not the coordinator it leaves
 * that one the time to tell its clients first. */
#define GRACE_S 4

/* Everything that one server holds; torn down in one place. */
struct server {
    const struct serve_flags *flags;
    struct engine_options options;
    char folder[FLAGS_PATH_MAX];
    struct rank_group ranks;
    struct traffic *traffic;
    struct engine *engine;
    struct tokenizer *tokenizer;
    struct chat_template *chat;
    struct metrics *metrics;
    struct rank_accounts *accounts;
    struct engine_loop *loop;
    struct generation_service *service;
    struct serve_doors *doors;
    struct serve_entry entry;
    int signal_fd;
    const char *names[OPTION_LIST_MAX];
    int32_t name_count;
};

/* What can be refused before a large model is read. */
static enum status check_flags(const struct serve_flags *flags) {
    int64_t bytes;
    if (strcmp(flags->generation_config, "auto") != 0 &&
        strcmp(flags->generation_config, "none") != 0) {
        LOG_ERROR("--generation-config: expected auto or none, got '%s'", flags->generation_config);
        return STATUS_USAGE;
    }
    if ((flags->ssl_certfile == NULL) != (flags->ssl_keyfile == NULL) ||
        (flags->ssl_ca_certs != NULL && flags->ssl_certfile == NULL)) {
        LOG_ERROR("--ssl-certfile, --ssl-keyfile: expected both (and --ssl-ca-certs only with "
                  "them), got one");
        return STATUS_USAGE;
    }
    if (strncmp(flags->host, "unix:", 5) == 0 && !flags->no_http) {
        LOG_ERROR("--host: expected a name or number for the HTTP door (or --no-http), got %s",
                  flags->host);
        return STATUS_USAGE;
    }
    if (flags->engine.max_num_batched_tokens < flags->max_num_seqs) {
        LOG_ERROR("--max-num-batched-tokens: expected at least --max-num-seqs (%d), got %d",
                  flags->max_num_seqs, flags->engine.max_num_batched_tokens);
        return STATUS_USAGE;
    }
    if (flags->kv_cache_memory != NULL)
        return serve_memory_parse("kv-cache-memory", flags->kv_cache_memory, &bytes);
    return STATUS_OK;
}

/* Signals are read, not caught: blocked in every thread, so that none interrupts a step. MPI's own
 * threads start with them blocked; while the model loads, this thread takes them as usual, so that
 * a start can be called off. */
static void mask_signals(int how, sigset_t *set) {
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
    pthread_sigmask(how, set, NULL);
}

static enum status take_signals(struct server *server) {
    sigset_t set;
    mask_signals(SIG_BLOCK, &set);
    server->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (server->signal_fd >= 0)
        return STATUS_OK;
    LOG_ERROR("serve: cannot make a signalfd: %s", strerror(errno));
    return STATUS_IO;
}

/* The model's folder is its name, unless people say otherwise. */
static void choose_names(struct server *server) {
    const struct option_list *given = &server->flags->served_model_names;
    for (int32_t i = 0; i < given->count; i++)
        server->names[server->name_count++] = given->values[i];
    if (server->name_count > 0)
        return;
    size_t length = strlen(server->folder);
    while (length > 1 && server->folder[length - 1] == '/')
        server->folder[--length] = '\0';
    const char *slash = strrchr(server->folder, '/');
    server->names[server->name_count++] =
        slash != NULL && slash[1] != '\0' ? slash + 1 : server->folder;
}

/* A model without a chat template is served all the same; conversations are refused then. */
static enum status open_text(struct server *server) {
    char path[FLAGS_PATH_MAX + 32];
    if (server->flags->skip_tokenizer_init)
        return STATUS_OK;
    snprintf(path, sizeof path, "%s/tokenizer.json", server->folder);
    if (access(path, F_OK) != 0) {
        LOG_ERROR("%s: expected a tokenizer, or --skip-tokenizer-init (token ids in and out), "
                  "got: %s",
                  path, strerror(errno));
        return STATUS_IO;
    }
    RETURN_IF_ERROR(tokenizer_load(path, &server->tokenizer));
    struct log_diverted said;
    log_divert_begin(&said);
    enum status status = chat_template_load(server->folder, &server->chat);
    log_divert_end();
    if (status != STATUS_OK)
        LOG_WARN("conversations will be refused: %s", said.text);
    return STATUS_OK;
}

static enum status start_engine(struct server *server) {
    const struct serve_flags *flags = server->flags;
    struct engine_options *options = &server->options;
    sigset_t set;
    mask_signals(SIG_BLOCK, &set);
    enum status joined = engine_flags_join(&flags->engine, options, &server->ranks);
    mask_signals(SIG_UNBLOCK, &set);
    RETURN_IF_ERROR(joined);
    if (server->ranks.rank == 0)
        RETURN_IF_ERROR(serve_entry_take(flags, &server->entry));
    options->requests = flags->max_num_seqs;
    options->waiting = flags->max_queue;
    options->no_prefix_cache = flags->no_prefix_cache;
    RETURN_IF_ERROR(serve_memory_choose(flags, options));
    RETURN_IF_ERROR(engine_create(options, &server->engine));
    RETURN_IF_ERROR(traffic_create(engine_spec(server->engine)->layers, &server->traffic));
    RETURN_IF_ERROR(traffic_count_peers(server->traffic, server->ranks.size));
    server->ranks.transport->traffic = server->traffic;
    return STATUS_OK;
}

static int32_t moe_layers_of(const struct engine *engine) {
    const struct model_spec *spec = engine_spec(engine);
    int32_t count = 0;
    for (int32_t layer = 0; layer < spec->layers; layer++)
        count += spec->layer[layer].moe ? 1 : 0;
    return count;
}

static enum status make_service(struct server *server, int64_t start_ns) {
    const struct serve_flags *flags = server->flags;
    int32_t sequences = flags->max_num_seqs + flags->max_queue;
    RETURN_IF_ERROR(metrics_create(server->ranks.size, &server->metrics));
    RETURN_IF_ERROR(rank_accounts_create(server->ranks.size, moe_layers_of(server->engine),
                                         engine_spec(server->engine)->moe.router.experts,
                                         &server->accounts));
    struct engine_loop_options loop = {.engine = server->engine,
                                       .metrics = server->metrics,
                                       .sequences = sequences,
                                       .accounts = server->accounts};
    RETURN_IF_ERROR(engine_loop_create(&loop, &server->loop));
    struct generation_service_options service = {
        .loop = server->loop,
        .metrics = server->metrics,
        .limits = {.spec = engine_spec(server->engine),
                   .tokenizer = server->tokenizer,
                   .chat = server->chat,
                   .model_names = server->names,
                   .model_name_count = server->name_count,
                   .positions = engine_positions(server->engine),
                   .sequences = sequences,
                   .no_model_defaults = strcmp(flags->generation_config, "none") == 0},
        .dtype = engine_dtype_used(server->engine) == DTYPE_F32 ? "float32" : "bfloat16",
        .step_overdue_ns = flags->step_timeout_s * INT64_C(1000000000)};
    RETURN_IF_ERROR(generation_service_create(&service, &server->service));
    struct serve_doors_options doors = {.flags = flags,
                                        .entry = &server->entry,
                                        .loop = server->loop,
                                        .metrics = server->metrics,
                                        .service = server->service,
                                        .ranks = &server->ranks,
                                        .placement = engine_placement(server->engine),
                                        .accounts = server->accounts,
                                        .start_ns = start_ns,
                                        .signal_fd = server->signal_fd};
    return serve_doors_create(&doors, &server->doors);
}

/* The line that people and scripts wait for. */
static void say_ready(const struct server *server, int64_t start_ns) {
    struct engine_stats stats;
    engine_stats(server->engine, &stats);
    int32_t positions = engine_positions(server->engine);
    int64_t tokens = stats.kv_blocks * KV_BLOCK_TOKENS;
    LOG_INFO("model %s, up to %d sequences at once and %d waiting; started in %.2f s",
             server->names[0], server->flags->max_num_seqs, server->flags->max_queue,
             (double)(clock_now_ns() - start_ns) * 1e-9);
    printf("ready: %s, %d %s, KV cache of %lld tokens; Maximum concurrency for %d tokens per "
           "request: %.2fx\n",
           serve_doors_told(server->doors), server->ranks.size,
           server->ranks.size == 1 ? "rank" : "ranks", (long long)tokens, positions,
           (double)tokens / positions);
    fflush(stdout);
}

static enum status serve(struct server *server, int64_t start_ns) {
    RETURN_IF_ERROR(make_service(server, start_ns));
    RETURN_IF_ERROR(serve_doors_start(server->doors));
    say_ready(server, start_ns);
    enum status status = engine_loop_run(server->loop);
    enum status doors = serve_doors_join(server->doors);
    sigset_t set;
    mask_signals(SIG_UNBLOCK, &set); /* nobody reads them now: a rank that hangs could hold us */
    if (status != STATUS_OK)
        return status;
    LOG_INFO("served %lld tokens in %lld steps; ending",
             (long long)metrics_count(server->metrics, METRICS_GENERATION_TOKENS),
             (long long)metrics_count(server->metrics, METRICS_STEPS));
    RETURN_IF_ERROR(engine_stop(server->engine));
    return doors;
}

static enum status run_all(struct server *server) {
    int64_t start_ns = clock_now_ns();
    RETURN_IF_ERROR(check_flags(server->flags));
    RETURN_IF_ERROR(engine_flags_resolve(&server->flags->engine, &server->options, server->folder));
    choose_names(server);
    RETURN_IF_ERROR(open_text(server));
    RETURN_IF_ERROR(start_engine(server));
    RETURN_IF_ERROR(take_signals(server));
    if (server->ranks.rank == 0)
        return serve(server, start_ns);
    enum status status = engine_serve(server->engine, NULL);
    if (status != STATUS_OK)
        sleep(GRACE_S);
    return status;
}

enum status serve_run(const struct serve_flags *flags) {
    struct server server = {.flags = flags, .signal_fd = -1};
    enum status status = run_all(&server);
    if (server.ranks.transport != NULL)
        server.ranks.transport->traffic = NULL;
    serve_doors_destroy(server.doors);
    serve_entry_give(&server.entry);
    generation_service_destroy(server.service);
    engine_loop_destroy(server.loop);
    metrics_destroy(server.metrics);
    rank_accounts_destroy(server.accounts);
    traffic_destroy(server.traffic);
    engine_destroy(server.engine);
    tokenizer_destroy(server.tokenizer);
    chat_template_destroy(server.chat);
    if (server.signal_fd >= 0)
        close(server.signal_fd);
    job_end(&server.ranks, status);
    return status;
}
