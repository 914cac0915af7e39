/* The load of bench serve on an epoll loop. A slot is an open request; slots are kept for the
 * requests that follow, and each belongs to one of the connections in turn. */
#define _POSIX_C_SOURCE 200809L
#include "launcher/bench_load.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "launcher/client_connection.h"
#include "runtime/rpc_inference_client.h"
#include "runtime/rpc_loop.h"

#define NS_PER_S INT64_C(1000000000)
#define ASK_NS (30 * NS_PER_S)
#define PROGRESS_NS (NS_PER_S / 2)
#define SENT_A_TURN 32 /* answers are read in between, so that a burst does not age them */

struct slot {
    struct bench_load *load;
    struct rpc_inference_client *inference;
    struct slot *next_free, *next; /* next: of all */
    struct bench_outcome *outcome;
    int64_t start_ns, last_ns;
    int32_t received; /* token ids so far */
    int32_t gap_capacity;
    bool has_end; /* the choice's finish reason came */
};

struct bench_load {
    const struct client_flags *flags;
    struct client_connection connection;
    struct rpc_loop *loop;
    struct rpc_client **clients;
    int32_t client_count, slot_count;
    struct slot *slots, *free_slots;
    int signal_fd;
    struct rpc_loop_watch signals;
    int32_t interrupts;
    struct rpc_loop_timer due_timer, progress_timer;
    struct rpc_loop_task send_task;
    /* The run in progress. */
    struct bench_load_plan *plan;
    int64_t start_ns, shown_ns;
    int32_t next, open, failed;
    int64_t tokens, shown_tokens;
    enum status status;
};

/* ---- making and ending ---- */

static void give_up(struct bench_load *load) {
    for (struct slot *slot = load->slots; slot != NULL; slot = slot->next)
        if (slot->outcome != NULL)
            rpc_inference_client_cancel(slot->inference);
}

static void on_signal(void *context, uint32_t events) {
    (void)events;
    struct bench_load *load = context;
    struct signalfd_siginfo signal;
    while (read(load->signal_fd, &signal, sizeof signal) == (ssize_t)sizeof signal)
        load->interrupts++;
    if (load->interrupts == 1)
        give_up(load);
}

static enum status take_signals(struct bench_load *load) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    load->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (load->signal_fd < 0) {
        LOG_ERROR("bench: cannot make a signalfd: %s", strerror(errno));
        return STATUS_IO;
    }
    return rpc_loop_watch_add(load->loop, &load->signals, load->signal_fd, EPOLLIN, on_signal,
                              load);
}

static enum status make_all(struct bench_load *load, int32_t connections) {
    RETURN_IF_ERROR(rpc_loop_create(&load->loop));
    RETURN_IF_ERROR(take_signals(load));
    RETURN_IF_ERROR(client_connection_init(&load->connection, load->flags));
    load->clients = calloc((size_t)connections, sizeof(struct rpc_client *));
    if (load->clients == NULL) {
        LOG_ERROR("--connections: cannot take memory for %d", connections);
        return STATUS_NO_MEMORY;
    }
    for (; load->client_count < connections; load->client_count++)
        RETURN_IF_ERROR(client_connection_open(&load->connection, load->loop,
                                               &load->clients[load->client_count]));
    return STATUS_OK;
}

enum status bench_load_create(const struct client_flags *flags, int32_t connections,
                              struct bench_load **load) {
    struct bench_load *created = calloc(1, sizeof *created);
    if (created == NULL) {
        LOG_ERROR("bench: cannot take memory for its state");
        return STATUS_NO_MEMORY;
    }
    created->flags = flags;
    created->signal_fd = -1;
    enum status status = make_all(created, connections);
    if (status != STATUS_OK) {
        bench_load_destroy(created);
        return status;
    }
    *load = created;
    return STATUS_OK;
}

void bench_load_destroy(struct bench_load *load) {
    if (load == NULL)
        return;
    for (int32_t i = 0; i < load->client_count; i++)
        rpc_client_destroy(load->clients[i]);
    while (load->slots != NULL) {
        struct slot *slot = load->slots;
        load->slots = slot->next;
        rpc_inference_client_destroy(slot->inference);
        free(slot);
    }
    client_connection_deinit(&load->connection);
    rpc_loop_destroy(load->loop);
    if (load->signal_fd >= 0)
        close(load->signal_fd);
    free(load->clients);
    free(load);
}

enum status bench_load_ask_model(struct bench_load *load, struct rpc_model_client *model) {
    RETURN_IF_ERROR(
        rpc_model_client_ask(load->clients[0], load->flags->model, clock_now_ns() + ASK_NS, model));
    while (!model->is_done && load->interrupts == 0)
        RETURN_IF_ERROR(rpc_loop_turn(load->loop, clock_now_ns() + NS_PER_S));
    if (load->interrupts > 0)
        return STATUS_INTERRUPTED;
    if (model->code != RPC_OK)
        LOG_ERROR("%s: %s: %s", load->flags->server, rpc_code_name(model->code), model->message);
    return rpc_inference_client_status(model->code);
}

/* ---- an answer ---- */

static void add_gap(struct slot *slot, double gap_s) {
    struct bench_outcome *outcome = slot->outcome;
    if (outcome->gap_count == slot->gap_capacity) {
        int32_t capacity = slot->gap_capacity > 0 ? 2 * slot->gap_capacity : 32;
        double *gaps = realloc(outcome->gaps_s, (size_t)capacity * sizeof *gaps);
        if (gaps == NULL) {
            if (slot->load->status == STATUS_OK)
                LOG_ERROR("bench: cannot take memory for %d times", capacity);
            slot->load->status = STATUS_NO_MEMORY;
            return;
        }
        outcome->gaps_s = gaps;
        slot->gap_capacity = capacity;
    }
    outcome->gaps_s[outcome->gap_count++] = gap_s;
}

static void on_chunk(void *context, const struct rpc_inference_client_chunk *chunk) {
    struct slot *slot = context;
    struct bench_outcome *outcome = slot->outcome;
    if (chunk->id_count > 0) {
        int64_t now = clock_now_ns();
        if (slot->received == 0)
            outcome->first_token_s = (double)(now - slot->start_ns) * 1e-9;
        else
            add_gap(slot, (double)(now - slot->last_ns) * 1e-9);
        slot->last_ns = now;
        slot->received += (int32_t)chunk->id_count;
        slot->load->tokens += (int64_t)chunk->id_count;
    }
    if (chunk->finish == NULL)
        return;
    slot->has_end = true;
    outcome->prompt_tokens = chunk->prompt_tokens;
    outcome->cached_tokens = chunk->cached_tokens;
    outcome->output_tokens = chunk->completion_tokens;
}

/* Whether an answer that ended well is also whole. */
static void judge(struct slot *slot) {
    struct bench_outcome *outcome = slot->outcome;
    outcome->succeeded = slot->has_end && slot->received == outcome->output_tokens;
    if (outcome->succeeded)
        return;
    outcome->was_told = false;
    if (slot->has_end)
        snprintf(outcome->failure, sizeof outcome->failure, "%d tokens told, %d came",
                 outcome->output_tokens, slot->received);
    else
        snprintf(outcome->failure, sizeof outcome->failure, "OK without a finish reason");
}

static void send_due(void *context);

static void on_finish(void *context, enum rpc_code code, const char *message) {
    struct slot *slot = context;
    struct bench_load *load = slot->load;
    struct bench_outcome *outcome = slot->outcome;
    outcome->end_s = (double)(clock_now_ns() - slot->start_ns) * 1e-9;
    outcome->code = code;
    outcome->was_told = rpc_inference_client_was_told(slot->inference);
    if (code == RPC_OK)
        judge(slot);
    else
        snprintf(outcome->failure, sizeof outcome->failure, "%s", message);
    load->failed += !outcome->succeeded;
    load->open--;
    slot->outcome = NULL;
    slot->next_free = load->free_slots;
    load->free_slots = slot;
    rpc_loop_task_defer(load->loop, &load->send_task, send_due, load);
}

/* ---- sending ---- */

static struct slot *take_slot(struct bench_load *load) {
    struct slot *slot = load->free_slots;
    if (slot != NULL) {
        load->free_slots = slot->next_free;
        return slot;
    }
    slot = calloc(1, sizeof *slot);
    if (slot == NULL) {
        LOG_ERROR("bench: cannot take memory for a request");
        return NULL;
    }
    slot->load = load;
    if (rpc_inference_client_create(load->clients[load->slot_count % load->client_count],
                                    &slot->inference) != STATUS_OK) {
        free(slot);
        return NULL;
    }
    load->slot_count++;
    slot->next = load->slots;
    load->slots = slot;
    return slot;
}

static enum status send_next(struct bench_load *load) {
    struct bench_load_plan *plan = load->plan;
    static const struct rpc_inference_client_wishes wishes = {.token_ids = true};
    struct generation_request request;
    RETURN_IF_ERROR(plan->make(plan->context, load->next, &request));
    struct slot *slot = take_slot(load);
    if (slot == NULL)
        return STATUS_NO_MEMORY;
    *slot = (struct slot){.load = load,
                          .inference = slot->inference,
                          .next = slot->next,
                          .outcome = &plan->outcomes[load->next],
                          .start_ns = clock_now_ns()};
    slot->outcome->start_s = (double)(slot->start_ns - load->start_ns) * 1e-9;
    struct rpc_inference_client_listener listener = {
        .chunk = on_chunk, .finish = on_finish, .context = slot};
    int32_t timeout_s = load->flags->timeout_s;
    int64_t deadline_ns = timeout_s > 0 ? slot->start_ns + timeout_s * NS_PER_S : RPC_LOOP_NEVER;
    load->next++;
    load->open++;
    return rpc_inference_client_start(slot->inference, &request, &wishes, deadline_ns, &listener);
}

static void send_due(void *context) {
    struct bench_load *load = context;
    const struct bench_load_plan *plan = load->plan;
    for (int32_t sent = 0;
         load->status == STATUS_OK && load->interrupts == 0 && load->next < plan->count &&
         (plan->max_concurrency == 0 || load->open < plan->max_concurrency);
         sent++) {
        int64_t due_ns = load->start_ns + (int64_t)(plan->due_s[load->next] * 1e9);
        if (due_ns > clock_now_ns()) {
            rpc_loop_timer_arm(load->loop, &load->due_timer, due_ns, send_due, load);
            return;
        }
        if (sent == SENT_A_TURN) {
            rpc_loop_task_defer(load->loop, &load->send_task, send_due, load);
            return;
        }
        load->status = send_next(load);
    }
}

/* ---- the run ---- */

static void show_progress(void *context) {
    struct bench_load *load = context;
    int64_t now = clock_now_ns();
    double seconds = (double)(now - load->shown_ns) * 1e-9;
    fprintf(stderr, "\r%d of %d done, %d open, %d failed, %.0f tokens/s \x1b[K",
            load->next - load->open, load->plan->count, load->open, load->failed,
            seconds > 0.0 ? (double)(load->tokens - load->shown_tokens) / seconds : 0.0);
    load->shown_ns = now;
    load->shown_tokens = load->tokens;
    rpc_loop_timer_arm(load->loop, &load->progress_timer, now + PROGRESS_NS, show_progress, load);
}

static bool goes_on(const struct bench_load *load) {
    if (load->interrupts > 1 || load->status != STATUS_OK)
        return false;
    return load->open > 0 || (load->next < load->plan->count && load->interrupts == 0);
}

enum status bench_load_run(struct bench_load *load, struct bench_load_plan *plan) {
    load->plan = plan;
    load->next = load->open = load->failed = 0;
    load->tokens = load->shown_tokens = 0;
    load->status = STATUS_OK;
    load->start_ns = load->shown_ns = clock_now_ns();
    if (plan->shows_progress)
        show_progress(load);
    send_due(load);
    enum status status = STATUS_OK;
    while (status == STATUS_OK && goes_on(load))
        status = rpc_loop_turn(load->loop, clock_now_ns() + NS_PER_S);
    rpc_loop_timer_disarm(load->loop, &load->due_timer);
    rpc_loop_timer_disarm(load->loop, &load->progress_timer);
    rpc_loop_task_cancel(load->loop, &load->send_task);
    if (plan->shows_progress)
        fputs("\r\x1b[K", stderr);
    plan->sent = load->next;
    RETURN_IF_ERROR(status);
    RETURN_IF_ERROR(load->status);
    return load->interrupts > 0 ? STATUS_INTERRUPTED : STATUS_OK;
}
