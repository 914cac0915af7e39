/* The front of the server that all doors share: takes requests in, brings answers back, knows what
 * is open and how the server is. Lives on the network thread. */
#include "runtime/generation_service.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/check.h"
#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "runtime/generation_call.h"

#define RETRY_MS_MIN 100
#define RETRY_MS_MAX 10000
#define WORKERS 2
#define VERY_LONG_BYTES (128 << 10) /* the second worker's */
#define DEFERRED_MAX 1024           /* of each */
#define DEFERRED_BYTES_MAX (INT64_C(128) << 20)
#define DEFERRED_CLIENT_BYTES_MAX (INT64_C(64) << 20)

struct generation_service {
    struct generation_service_options options;
    struct generation_call *first;   /* calls with a listener */
    struct generation_call *waiting; /* unpaused, to be looked at */
    int32_t open;                    /* calls with a listener */
    int32_t sequences_open;          /* choices of calls that the engine is not done with */
    bool draining, ending;           /* ending: draining for good */
    uint64_t next_id;
    int64_t start_ns;
    /* Two, so that a long prompt does not wait until megabytes have been read. */
    struct text_worker *workers[WORKERS];
    char *scratch;
    struct text_buffer text;
};

/* ---- making ---- */

static void wake(void *context) {
    struct generation_service *service = context;
    generation_list_wake(engine_loop_list(service->options.loop));
}

enum status generation_service_create(const struct generation_service_options *options,
                                      struct generation_service **out) {
    struct generation_service *service = calloc(1, sizeof *service);
    bool has_text = options->limits.tokenizer != NULL;
    if (service != NULL && has_text)
        service->scratch = malloc(reply_text_scratch_bytes(options->limits.tokenizer));
    if (service == NULL || (has_text && service->scratch == NULL)) {
        LOG_ERROR("generation service: cannot take memory");
        free(service);
        return STATUS_NO_MEMORY;
    }
    service->options = *options;
    service->start_ns = clock_now_ns();
    struct text_worker_options worker = {.jobs_max = DEFERRED_MAX,
                                         .bytes_max = DEFERRED_BYTES_MAX,
                                         .client_bytes_max = DEFERRED_CLIENT_BYTES_MAX,
                                         .wake = wake,
                                         .context = service};
    enum status status = STATUS_OK;
    for (int i = 0; i < WORKERS && status == STATUS_OK; i++)
        status = text_worker_create(&worker, &service->workers[i]);
    if (status != STATUS_OK) {
        generation_service_destroy(service);
        return status;
    }
    *out = service;
    return STATUS_OK;
}

static struct generation_call_tools tools_of(struct generation_service *service) {
    return (struct generation_call_tools){.tokenizer = service->options.limits.tokenizer,
                                          .loop = service->options.loop,
                                          .metrics = service->options.metrics,
                                          .scratch = service->scratch,
                                          .text = &service->text};
}

/* ---- the calls ---- */

static void attach(struct generation_service *service, struct generation_call *call) {
    call->service = service;
    call->next = service->first;
    if (service->first != NULL)
        service->first->previous = call;
    service->first = call;
    service->open++;
    service->sequences_open += call->generation->n;
}

/* No callback comes any more; the call lives on until the engine is done with it. */
static void detach(struct generation_call *call) {
    struct generation_service *service = call->service;
    call->detached = true;
    if (call->next != NULL)
        call->next->previous = call->previous;
    if (call->previous != NULL)
        call->previous->next = call->next;
    else
        service->first = call->next;
    call->next = call->previous = NULL;
    service->open--;
}

static void free_if_over(struct generation_call *call) {
    if (!call->detached || !call->engine_done || call->waits)
        return;
    generation_call_destroy(call);
}

/* Delivers, and puts away what is over by that. A callback may have cancelled the call. */
static void deliver(struct generation_service *service, struct generation_call *call) {
    struct generation_call_tools tools = tools_of(service);
    if (!call->detached) {
        call->delivering = true;
        generation_call_deliver(call, &tools);
        call->delivering = false;
        if (call->detached)
            detach(call);
    }
    free_if_over(call);
}

void generation_service_destroy(struct generation_service *service) {
    if (service == NULL)
        return;
    while (service->first != NULL)
        generation_service_cancel(service->first);
    for (int i = 0; i < WORKERS; i++) {
        text_worker_destroy(service->workers[i]);
        service->workers[i] = NULL;
    }
    generation_service_poll(service);
    ASSERT(service->sequences_open == 0);
    text_buffer_deinit(&service->text);
    free(service->scratch);
    free(service);
}

/* ---- requests ---- */

static bool is_open_id(const struct generation_service *service, const char *id) {
    for (const struct generation_call *call = service->first; call != NULL; call = call->next)
        if (strcmp(call->request_id, id) == 0)
            return true;
    return false;
}

/* About the time after which a place is free: a request's mean time over those that are open. */
static int32_t retry_after_ms(const struct generation_service *service) {
    struct metrics_snapshot latency;
    metrics_read(service->options.metrics, METRICS_E2E_REQUEST_LATENCY, &latency);
    int64_t count = 0;
    for (int32_t i = 0; i <= latency.bound_count; i++)
        count += latency.counts[i];
    double mean_ms = count > 0 ? latency.sum * 1e3 / (double)count : 0.0;
    return mean_ms < RETRY_MS_MIN   ? RETRY_MS_MIN
           : mean_ms > RETRY_MS_MAX ? RETRY_MS_MAX
                                    : (int32_t)mean_ms;
}

/* An n that no server has room for is refused as such, later. */
static enum generation_error check_room(const struct generation_service *service,
                                        const struct generation_request *request,
                                        struct generation_message *message) {
    int32_t limit = service->options.limits.sequences;
    int32_t wanted = request->n > request->together ? request->n : request->together;
    if (request->n < 1 || request->n > limit || service->sequences_open <= limit - wanted)
        return GENERATION_ERROR_NONE;
    if (wanted > limit) /* nothing to wait for */
        return generation_request_refuse(
            message, GENERATION_ERROR_INVALID,
            "prompt: expected at most %d choices of all prompts (--max-num-seqs and --max-queue), "
            "got %d",
            limit, wanted);
    message->retry_after_ms = retry_after_ms(service);
    return generation_request_refuse(
        message, GENERATION_ERROR_FULL,
        "queue: expected at most %d choices running and waiting (--max-num-seqs and "
        "--max-queue), got %d more beside %d",
        limit, wanted, service->sequences_open);
}

/* What is refused before the request is looked at. */
static enum generation_error check_state(struct generation_service *service,
                                         const struct generation_request *request,
                                         struct generation_message *message) {
    if (engine_loop_state(service->options.loop) == ENGINE_LOOP_ENDED)
        return generation_request_refuse(message, GENERATION_ERROR_UNAVAILABLE,
                                         "the server is ending");
    if (service->draining)
        return generation_request_refuse(message, GENERATION_ERROR_UNAVAILABLE,
                                         "the server is draining and takes no new requests");
    enum generation_error error = check_room(service, request, message);
    if (error != GENERATION_ERROR_NONE)
        return error;
    if (request->request_id != NULL && is_open_id(service, request->request_id))
        return generation_request_refuse(
            message, GENERATION_ERROR_INVALID,
            "request_id: expected one that is not in use, got '%.128s'", request->request_id);
    return GENERATION_ERROR_NONE;
}

static void name_call(struct generation_service *service, const char *wanted,
                      struct generation_call *call) {
    if (wanted != NULL && wanted[0] != '\0')
        snprintf(call->request_id, sizeof call->request_id, "%s", wanted);
    else
        snprintf(call->request_id, sizeof call->request_id, "gen-%" PRIx64 "-%" PRIu64,
                 (uint64_t)service->start_ns, service->next_id++);
}

static enum generation_error make_call(struct generation_service *service,
                                       const struct generation_request *request,
                                       const struct generation_listener *listener,
                                       const struct generation *like, struct generation_call **call,
                                       struct generation_message *message) {
    struct log_diverted said;
    log_divert_begin(&said);
    struct generation *generation = NULL;
    enum status status = generation_create(like, &generation);
    if (status == STATUS_OK) {
        status = generation_call_create(request, listener, service->options.limits.tokenizer,
                                        generation, call);
        if (status != STATUS_OK)
            generation_destroy(generation);
    }
    log_divert_end();
    return generation_request_status(message, status, said.text);
}

void generation_service_count_refusal(struct generation_service *service,
                                      enum generation_error error) {
    bool is_full = error == GENERATION_ERROR_FULL || error == GENERATION_ERROR_INTERNAL;
    metrics_add(service->options.metrics,
                is_full                                 ? METRICS_REJECTED
                : error == GENERATION_ERROR_UNAVAILABLE ? METRICS_DRAINING
                                                        : METRICS_INVALID,
                1);
}

enum generation_error generation_service_submit(struct generation_service *service,
                                                const struct generation_request *request,
                                                const struct generation_listener *listener,
                                                struct generation_call **out,
                                                struct generation_message *message) {
    struct generation like;
    struct token_list prompt = {0};
    struct generation_call *call = NULL;
    *message = (struct generation_message){0};
    enum generation_error error = check_state(service, request, message);
    if (error == GENERATION_ERROR_NONE)
        error =
            generation_request_prepare(request, &service->options.limits, &like, &prompt, message);
    if (error == GENERATION_ERROR_NONE)
        error = make_call(service, request, listener, &like, &call, message);
    token_list_deinit(&prompt);
    if (error != GENERATION_ERROR_NONE)
        return error;
    ASSERT(call != NULL);
    name_call(service, request->request_id, call);
    attach(service, call);
    *out = call; /* before the engine can say anything */
    enum status status = engine_loop_submit(service->options.loop, call->generation);
    ASSERT(status == STATUS_OK); /* the loop has room for all sequences that may be open */
    return GENERATION_ERROR_NONE;
}

void generation_service_cancel(struct generation_call *call) {
    if (call->detached)
        return;
    struct generation_service *service = call->service;
    metrics_add(service->options.metrics, METRICS_FINISHED_ABORT,
                call->generation->n - call->ended_count);
    generation_call_cancel_choices(call, service->options.loop);
    if (call->delivering)
        call->detached = true; /* from a callback: put away after it */
    else {
        detach(call);
        free_if_over(call);
    }
}

void generation_service_pause(struct generation_call *call, bool paused) {
    struct generation_service *service = call->service;
    bool resumes = call->paused && !paused;
    call->paused = paused;
    if (!resumes || call->waits)
        return;
    call->waits = true;
    call->next_waiting = service->waiting;
    service->waiting = call;
    generation_list_wake(engine_loop_list(service->options.loop));
}

const char *generation_service_request_id(const struct generation_call *call) {
    return call->request_id;
}

int32_t generation_service_abort(struct generation_service *service, const char *request_id) {
    int32_t count = 0;
    for (struct generation_call *call = service->first; call != NULL; call = call->next) {
        if (request_id != NULL && strcmp(call->request_id, request_id) != 0)
            continue;
        generation_call_cancel_choices(call, service->options.loop);
        count++;
    }
    return count;
}

/* ---- news ---- */

int generation_service_event_fd(const struct generation_service *service) {
    return engine_loop_list(service->options.loop)->event_fd;
}

static void look_at_waiting(struct generation_service *service) {
    struct generation_call *call = service->waiting;
    service->waiting = NULL;
    while (call != NULL) {
        struct generation_call *next = call->next_waiting;
        call->waits = false;
        deliver(service, call);
        call = next;
    }
}

/* Requests that came when the engine thread had just gone. */
static void fail_untaken(struct generation_service *service) {
    struct generation *generation;
    struct generation_call_tools tools = tools_of(service);
    while ((generation = engine_loop_untaken(service->options.loop)) != NULL) {
        struct generation_call *call = generation->owner;
        service->sequences_open -= generation->n;
        call->engine_done = true;
        if (!call->detached) {
            call->delivering = true;
            generation_call_fail(call, GENERATION_ERROR_UNAVAILABLE, "the server is ending",
                                 &tools);
            detach(call);
        }
        free_if_over(call);
    }
}

void generation_service_poll(struct generation_service *service) {
    bool ended = engine_loop_state(service->options.loop) == ENGINE_LOOP_ENDED;
    struct generation *generation = generation_list_take(engine_loop_list(service->options.loop));
    while (generation != NULL) {
        struct generation *next = generation->next_listed;
        struct generation_call *call = generation->owner;
        if (generation_unlist(generation)) {
            call->engine_done = true;
            service->sequences_open -= generation->n;
        }
        deliver(service, call);
        generation = next;
    }
    look_at_waiting(service);
    for (int i = 0; i < WORKERS; i++)
        if (service->workers[i] != NULL) /* else the service is being destroyed */
            text_worker_poll(service->workers[i]);
    if (ended)
        fail_untaken(service);
}

/* ---- text ---- */

bool generation_service_has_text(const struct generation_service *service) {
    return service->options.limits.tokenizer != NULL;
}

static enum generation_error refuse_text(struct generation_message *message) {
    return generation_request_refuse(
        message, GENERATION_ERROR_NO_TEXT,
        "expected a server with a tokenizer, got one that was started with --skip-tokenizer-init");
}

enum generation_error generation_service_tokenize(const struct generation_service *service,
                                                  const char *text, size_t bytes, bool add_special,
                                                  struct token_list *ids,
                                                  struct generation_message *message) {
    if (!generation_service_has_text(service))
        return refuse_text(message);
    struct log_diverted said;
    log_divert_begin(&said);
    enum status status = tokenizer_encode(service->options.limits.tokenizer, text, bytes,
                                          add_special ? TOKENIZER_ADD_SPECIAL : 0, ids);
    log_divert_end();
    return generation_request_status(message, status, said.text);
}

enum generation_error generation_service_detokenize(const struct generation_service *service,
                                                    const int32_t *ids, int32_t count,
                                                    bool keep_special, struct text_buffer *text,
                                                    struct generation_message *message) {
    if (!generation_service_has_text(service))
        return refuse_text(message);
    int32_t vocabulary = service->options.limits.spec->vocabulary;
    for (int32_t i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= vocabulary)
            return generation_request_refuse(message, GENERATION_ERROR_INVALID,
                                             "ids[%d]: expected an id from 0 to %d, got %d", i,
                                             vocabulary - 1, ids[i]);
    enum status status =
        tokenizer_decode(service->options.limits.tokenizer, ids, count, !keep_special, text);
    return generation_request_status(message, status, "");
}

const char *generation_service_token_bytes(const struct generation_service *service, int32_t id,
                                           size_t *length) {
    *length = 0;
    if (!generation_service_has_text(service))
        return "";
    return tokenizer_id_to_bytes(service->options.limits.tokenizer, id, length);
}

bool generation_service_is_special(const struct generation_service *service, int32_t id) {
    return generation_service_has_text(service) &&
           tokenizer_is_special(service->options.limits.tokenizer, id);
}

enum generation_error generation_service_defer(struct generation_service *service,
                                               struct text_job *job,
                                               struct generation_message *message) {
    struct text_worker *worker = service->workers[job->bytes > VERY_LONG_BYTES ? 1 : 0];
    if (text_worker_submit(worker, job) == STATUS_OK)
        return GENERATION_ERROR_NONE;
    metrics_add(service->options.metrics, METRICS_REJECTED, 1);
    message->retry_after_ms = retry_after_ms(service);
    return generation_request_refuse(
        message, GENERATION_ERROR_FULL,
        "queue: expected at most %lld bytes of long messages (%lld of one client), got %lld more "
        "beside %lld",
        (long long)DEFERRED_BYTES_MAX, (long long)DEFERRED_CLIENT_BYTES_MAX, (long long)job->bytes,
        (long long)text_worker_bytes(worker));
}

/* ---- the server ---- */

enum generation_state generation_service_state(const struct generation_service *service) {
    const struct engine_loop *loop = service->options.loop;
    if (engine_loop_state(loop) == ENGINE_LOOP_ENDED)
        return GENERATION_STATE_FAILED;
    if (engine_loop_step_age_ns(loop, clock_now_ns()) > service->options.step_overdue_ns)
        return GENERATION_STATE_STALLED;
    if (!service->draining)
        return GENERATION_STATE_SERVING;
    return service->open > 0 ? GENERATION_STATE_DRAINING : GENERATION_STATE_DRAINED;
}

void generation_service_drain(struct generation_service *service, bool for_good) {
    service->draining = true;
    service->ending = service->ending || for_good;
}

bool generation_service_resume(struct generation_service *service) {
    service->draining = service->ending;
    return !service->draining;
}

int32_t generation_service_open(const struct generation_service *service) {
    return service->open;
}

bool generation_service_is_idle(const struct generation_service *service) {
    return service->sequences_open == 0;
}

const struct generation_service_options *
generation_service_options(const struct generation_service *service) {
    return &service->options;
}
