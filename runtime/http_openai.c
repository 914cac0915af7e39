/* The routes of the HTTP door. The network thread's loop calls them; completions go on in
 * http_completion.c. */
#include "runtime/http_openai.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "runtime/http_body.h"
#include "runtime/http_completion.h"
#include "runtime/http_text.h"
#include "runtime/json_writer.h"
#include "runtime/rpc_keys.h"

struct http_openai {
    struct http_openai_options options;
    struct http_server *server;
    struct http_route routes[8];
    int64_t created_s;        /* Unix time, of the models */
    struct reading *readings; /* list: bodies that the text worker has */
};

/* ---- the completion routes ---- */

/* Who asks, for fairness; "key:2" as at the gRPC door. */
static uint64_t client_of(const struct http_openai *openai, const struct http_exchange *exchange) {
    char name[16];
    if (openai->options.keys == NULL)
        return generation_request_client(http_exchange_peer(exchange));
    snprintf(name, sizeof name, "key:%d",
             rpc_keys_find(openai->options.keys, http_exchange_header(exchange, "Authorization")));
    return generation_request_client(name);
}

static bool is_allowed(const struct http_openai *openai, struct http_exchange *exchange) {
    if (openai->options.keys == NULL ||
        rpc_keys_find(openai->options.keys, http_exchange_header(exchange, "Authorization")) > 0)
        return true;
    static const char body[] =
        "{\"error\": {\"message\": \"expected Authorization: Bearer KEY with a key that this "
        "server knows\", \"type\": \"authentication_error\", \"param\": null, \"code\": "
        "\"invalid_api_key\"}}\n";
    http_exchange_add_header(exchange, "WWW-Authenticate", "Bearer");
    http_exchange_reply(exchange, 401, "application/json", body, sizeof body - 1);
    return false;
}

/* A body that is being read: now, or by the text worker where it is long. */
struct reading {
    struct text_job job; /* first */
    struct generation_service *service;
    struct http_openai *openai;
    struct http_exchange *exchange; /* NULL: the client has gone, the door maybe too */
    struct reading *next;           /* of those that the worker has */
    bool is_chat, is_long;
    int64_t arrived_ns;
    enum generation_error error;
    struct generation_message message;
    struct http_body body;
    size_t length;
    char text[]; /* [length + 1] */
};

/* Maybe on the worker's thread. */
static void read_body(struct text_job *job) {
    struct reading *reading = (struct reading *)job;
    struct http_body *body = &reading->body;
    reading->error =
        http_body_parse(reading->text, reading->length, reading->is_chat, body, &reading->message);
    if (reading->error == GENERATION_ERROR_NONE &&
        (int64_t)body->request.n * body->prompt_count > HTTP_COMPLETION_CHOICES_MAX)
        reading->error = generation_request_refuse(
            &reading->message, GENERATION_ERROR_INVALID,
            "n: expected at most %d choices in all, got %lld", HTTP_COMPLETION_CHOICES_MAX,
            (long long)body->request.n * body->prompt_count);
    if (reading->error != GENERATION_ERROR_NONE || !reading->is_long)
        return;
    for (int32_t i = 0; i < body->prompt_count; i++) {
        http_body_choose(body, i);
        if (body->request.ids == NULL)
            generation_request_encode(&body->request,
                                      &generation_service_options(reading->service)->limits,
                                      &body->prompts[i].encoding);
    }
}

static void begin_completion(struct reading *reading) {
    struct generation_request *request = &reading->body.request;
    if (reading->error != GENERATION_ERROR_NONE) {
        generation_service_count_refusal(reading->service, reading->error);
        http_text_reply_error(reading->exchange, reading->error, &reading->message);
        return;
    }
    request->client = reading->job.client;
    request->arrived_ns = reading->arrived_ns;
    if (request->request_id == NULL)
        request->request_id = http_exchange_header(reading->exchange, "X-Request-Id");
    http_completion_begin(reading->service, reading->exchange, &reading->body);
}

/* Takes the reading of an exchange off the list; NULL: it is not there. */
static struct reading *take_reading(struct http_openai *openai,
                                    const struct http_exchange *exchange) {
    struct reading **at = &openai->readings;
    while (*at != NULL && (*at)->exchange != exchange)
        at = &(*at)->next;
    struct reading *reading = *at;
    if (reading != NULL)
        *at = reading->next;
    return reading;
}

static void end_reading(struct text_job *job) {
    struct reading *reading = (struct reading *)job;
    if (reading->exchange != NULL) {
        take_reading(reading->openai, reading->exchange);
        begin_completion(reading);
    }
    http_body_deinit(&reading->body);
    free(reading);
}

static void complete(struct http_openai *openai, struct http_exchange *exchange, bool is_chat) {
    size_t length;
    if (!is_allowed(openai, exchange))
        return;
    const char *text = http_exchange_body(exchange, &length);
    struct reading *reading = calloc(1, sizeof *reading + length + 1);
    if (reading == NULL) {
        http_text_reply_no_memory(exchange);
        return;
    }
    reading->job = (struct text_job){.work = read_body,
                                     .done = end_reading,
                                     .client = client_of(openai, exchange),
                                     .bytes = (int64_t)length};
    reading->service = openai->options.service;
    reading->openai = openai;
    reading->exchange = exchange;
    reading->is_chat = is_chat;
    reading->is_long = length > GENERATION_LONG_BYTES;
    reading->arrived_ns = clock_now_ns();
    reading->length = length;
    memcpy(reading->text, text, length);
    if (!reading->is_long) {
        read_body(&reading->job);
        end_reading(&reading->job);
        return;
    }
    reading->next = openai->readings;
    openai->readings = reading;
    struct generation_message message = {0};
    enum generation_error error =
        generation_service_defer(openai->options.service, &reading->job, &message);
    if (error == GENERATION_ERROR_NONE)
        return; /* it is the worker's now */
    reading->error = error;
    reading->message = message;
    end_reading(&reading->job);
}

static void serve_completion(void *context, struct http_exchange *exchange) {
    complete(context, exchange, false);
}

static void serve_chat(void *context, struct http_exchange *exchange) {
    complete(context, exchange, true);
}

static void forget_completion(void *context, struct http_exchange *exchange) {
    struct reading *reading = take_reading(context, exchange);
    if (reading != NULL) {
        reading->exchange = NULL;
        text_worker_drop(&reading->job);
    } else {
        http_completion_forget(exchange);
    }
}

static void go_on(void *context, struct http_exchange *exchange) {
    (void)context;
    http_completion_go_on(exchange);
}

/* ---- the other routes ---- */

#define MODELS_PATH "/v1/models"

static void write_model(struct json_writer *json, const struct http_openai *openai,
                        const struct generation_request_limits *limits, int32_t index) {
    json_writer_begin_object(json, NULL);
    json_writer_text(json, "id", limits->model_names[index]);
    json_writer_text(json, "object", "model");
    json_writer_integer(json, "created", openai->created_s);
    json_writer_text(json, "owned_by", "moebius");
    json_writer_integer(json, "max_model_len", limits->positions);
    json_writer_end_object(json);
}

static const struct generation_request_limits *limits_of(const struct http_openai *openai) {
    return &generation_service_options(openai->options.service)->limits;
}

static void serve_models(void *context, struct http_exchange *exchange) {
    const struct http_openai *openai = context;
    const struct generation_request_limits *limits = limits_of(openai);
    struct http_text text;
    if (!is_allowed(openai, exchange))
        return;
    if (!http_text_open(&text)) {
        http_text_reply_no_memory(exchange);
        return;
    }
    struct json_writer json = {.out = text.file};
    json_writer_begin_object(&json, NULL);
    json_writer_text(&json, "object", "list");
    json_writer_begin_array(&json, "data");
    for (int32_t i = 0; i < limits->model_name_count; i++)
        write_model(&json, openai, limits, i);
    json_writer_end_array(&json);
    json_writer_end_object(&json);
    fputc('\n', text.file);
    http_text_reply(&text, exchange, 200, "application/json");
}

/* One model, by its name in the path. */
static void serve_model(void *context, struct http_exchange *exchange) {
    const struct http_openai *openai = context;
    const struct generation_request_limits *limits = limits_of(openai);
    const char *name = http_exchange_path(exchange) + strlen(MODELS_PATH "/");
    struct generation_message message;
    struct http_text text;
    if (!is_allowed(openai, exchange))
        return;
    int32_t index = 0;
    while (index < limits->model_name_count && strcmp(limits->model_names[index], name) != 0)
        index++;
    if (index == limits->model_name_count) {
        snprintf(message.text, sizeof message.text, "model: expected '%.128s', got '%.128s'",
                 limits->model_names[0], name);
        http_text_reply_error(exchange, GENERATION_ERROR_NOT_FOUND, &message);
        return;
    }
    if (!http_text_open(&text)) {
        http_text_reply_no_memory(exchange);
        return;
    }
    struct json_writer json = {.out = text.file};
    write_model(&json, openai, limits, index);
    fputc('\n', text.file);
    http_text_reply(&text, exchange, 200, "application/json");
}

static void reply_state(struct http_exchange *exchange, bool good, enum generation_state state) {
    static const char *const names[] = {
        [GENERATION_STATE_SERVING] = "serving", [GENERATION_STATE_DRAINING] = "draining",
        [GENERATION_STATE_DRAINED] = "drained", [GENERATION_STATE_STALLED] = "stalled",
        [GENERATION_STATE_FAILED] = "failed",
    };
    char line[64];
    int length = snprintf(line, sizeof line, "{\"status\": \"%s\"}\n", names[state]);
    http_exchange_reply(exchange, good ? 200 : 503, "application/json", line, (size_t)length);
}

/* Alive: steps are made when there is something to do. */
static void serve_health(void *context, struct http_exchange *exchange) {
    const struct http_openai *openai = context;
    enum generation_state state = generation_service_state(openai->options.service);
    reply_state(exchange, state != GENERATION_STATE_STALLED && state != GENERATION_STATE_FAILED,
                state);
}

/* Ready: takes new requests. */
static void serve_ready(void *context, struct http_exchange *exchange) {
    const struct http_openai *openai = context;
    enum generation_state state = generation_service_state(openai->options.service);
    reply_state(exchange, state == GENERATION_STATE_SERVING, state);
}

static void serve_version(void *context, struct http_exchange *exchange) {
    const struct http_openai *openai = context;
    char line[64];
    int length = snprintf(line, sizeof line, "{\"version\": \"%s\"}\n", openai->options.version);
    http_exchange_reply(exchange, 200, "application/json", line, (size_t)length);
}

static void serve_metrics(void *context, struct http_exchange *exchange) {
    const struct http_openai *openai = context;
    const char *model = generation_service_options(openai->options.service)->limits.model_names[0];
    struct text_buffer text = {0};
    if (metrics_write(openai->options.metrics, model, &text) == STATUS_OK)
        http_exchange_reply(exchange, 200, "text/plain; version=0.0.4; charset=utf-8", text.data,
                            text.length);
    else
        http_text_reply_no_memory(exchange);
    text_buffer_deinit(&text);
}

enum status http_openai_create(struct rpc_loop *loop, const struct http_server_options *server,
                               const struct http_openai_options *options,
                               struct http_openai **openai_out) {
    struct http_openai *openai = calloc(1, sizeof *openai);
    if (openai == NULL) {
        LOG_ERROR("http: cannot take memory for the door");
        return STATUS_NO_MEMORY;
    }
    openai->options = *options;
    openai->created_s = (int64_t)time(NULL);
    const struct http_route routes[] = {
        {"POST", "/v1/completions", openai, serve_completion, forget_completion, go_on},
        {"POST", "/v1/chat/completions", openai, serve_chat, forget_completion, go_on},
        {"GET", MODELS_PATH, openai, serve_models, NULL, NULL},
        {"GET", MODELS_PATH "/", openai, serve_model, NULL, NULL},
        {"GET", "/health", openai, serve_health, NULL, NULL},
        {"GET", "/ready", openai, serve_ready, NULL, NULL},
        {"GET", "/version", openai, serve_version, NULL, NULL},
        {"GET", "/metrics", openai, serve_metrics, NULL, NULL},
    };
    int32_t count = (int32_t)(sizeof routes / sizeof routes[0]);
    memcpy(openai->routes, routes, sizeof routes);
    enum status status = http_server_create(loop, server, openai->routes, count, &openai->server);
    if (status != STATUS_OK) {
        free(openai);
        return status;
    }
    *openai_out = openai;
    return STATUS_OK;
}

void http_openai_destroy(struct http_openai *openai) {
    if (openai == NULL)
        return;
    http_server_destroy(openai->server);
    free(openai);
}

bool http_openai_is_idle(const struct http_openai *openai) {
    return http_server_is_idle(openai->server);
}
