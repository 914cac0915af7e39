/* The loop behind complete and chat: the connection, the signals and standard input are events of
 * one epoll loop. */
#define _POSIX_C_SOURCE 200809L
#include "launcher/client_session.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "launcher/client_connection.h"
#include "runtime/rpc_loop.h"

#define NS_PER_S INT64_C(1000000000)
#define LINE_BYTES_MAX ((size_t)16 << 20)

struct client_session {
    const struct client_flags *flags;
    struct rpc_loop *loop;
    struct client_connection connection;
    struct rpc_client *client;
    struct rpc_inference_client *inference;
    int signal_fd;
    struct rpc_loop_watch signals;
    int32_t interrupts; /* since the last request or line began */
    /* The request that runs. */
    client_session_chunk *chunk;
    void *chunk_context;
    bool is_running, gave_up;
    enum status status;
    /* Standard input. */
    struct text_buffer input; /* read and not yet taken */
    struct rpc_loop_watch input_watch;
    bool input_ready;
};

/* ---- making and ending ---- */

/* The first interrupt gives the request up in good order, the second does not wait for the server.
 */
static void on_signal(void *context, uint32_t events) {
    (void)events;
    struct client_session *session = context;
    struct signalfd_siginfo signal;
    while (read(session->signal_fd, &signal, sizeof signal) == (ssize_t)sizeof signal)
        session->interrupts++;
    if (session->interrupts > 1)
        session->is_running = false;
    else if (session->is_running)
        rpc_inference_client_cancel(session->inference);
}

static enum status take_signals(struct client_session *session) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    session->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (session->signal_fd < 0) {
        LOG_ERROR("client: cannot make a signalfd: %s", strerror(errno));
        return STATUS_IO;
    }
    return rpc_loop_watch_add(session->loop, &session->signals, session->signal_fd, EPOLLIN,
                              on_signal, session);
}

static enum status make_all(struct client_session *session) {
    RETURN_IF_ERROR(rpc_loop_create(&session->loop));
    RETURN_IF_ERROR(take_signals(session));
    RETURN_IF_ERROR(client_connection_init(&session->connection, session->flags));
    RETURN_IF_ERROR(client_connection_open(&session->connection, session->loop, &session->client));
    return rpc_inference_client_create(session->client, &session->inference);
}

enum status client_session_create(const struct client_flags *flags,
                                  struct client_session **session) {
    struct client_session *created = calloc(1, sizeof *created);
    if (created == NULL) {
        LOG_ERROR("client: cannot take memory for its state");
        return STATUS_NO_MEMORY;
    }
    created->flags = flags;
    created->signal_fd = -1;
    enum status status = make_all(created);
    if (status != STATUS_OK) {
        client_session_destroy(created);
        return status;
    }
    *session = created;
    return STATUS_OK;
}

void client_session_destroy(struct client_session *session) {
    if (session == NULL)
        return;
    rpc_client_destroy(session->client);
    rpc_inference_client_destroy(session->inference);
    client_connection_deinit(&session->connection);
    rpc_loop_destroy(session->loop);
    if (session->signal_fd >= 0)
        close(session->signal_fd);
    text_buffer_deinit(&session->input);
    free(session);
}

/* ---- a request ---- */

static void on_chunk(void *context, const struct rpc_inference_client_chunk *chunk) {
    struct client_session *session = context;
    if (session->gave_up || session->chunk(session->chunk_context, chunk))
        return;
    session->gave_up = true;
    rpc_inference_client_cancel(session->inference);
}

static void on_finish(void *context, enum rpc_code code, const char *message) {
    struct client_session *session = context;
    session->is_running = false;
    session->status = rpc_inference_client_status(code);
    if (code == RPC_OK || session->interrupts > 0 || session->gave_up)
        return;
    if (strstr(message, session->flags->server) != NULL) /* no connection: it says where to */
        LOG_ERROR("server: %s; is moebius serve running there?", message);
    else
        LOG_ERROR("%s: %s%s%s", session->flags->server, rpc_code_name(code),
                  message[0] != '\0' ? ": " : "", message);
}

enum status client_session_run(struct client_session *session,
                               const struct generation_request *request,
                               const struct rpc_inference_client_wishes *wishes,
                               client_session_chunk *chunk, void *context) {
    struct rpc_inference_client_listener listener = {
        .chunk = on_chunk, .finish = on_finish, .context = session};
    int32_t timeout_s = session->flags->timeout_s;
    int64_t deadline_ns = timeout_s > 0 ? clock_now_ns() + timeout_s * NS_PER_S : RPC_LOOP_NEVER;
    session->interrupts = 0;
    session->gave_up = false;
    session->chunk = chunk;
    session->chunk_context = context;
    RETURN_IF_ERROR(
        rpc_inference_client_start(session->inference, request, wishes, deadline_ns, &listener));
    session->is_running = true;
    while (session->is_running)
        RETURN_IF_ERROR(rpc_loop_turn(session->loop, clock_now_ns() + NS_PER_S));
    if (session->interrupts > 0)
        return STATUS_INTERRUPTED;
    return session->gave_up ? STATUS_OK : session->status;
}

bool client_session_was_too_long(const struct client_session *session) {
    return session->status != STATUS_OK && rpc_inference_client_was_too_long(session->inference);
}

/* ---- standard input ---- */

static void on_input(void *context, uint32_t events) {
    (void)events;
    ((struct client_session *)context)->input_ready = true;
}

/* Waits until there is something to read, where one may have to wait: not for files. */
static enum status await_input(struct client_session *session) {
    struct stat facts;
    if (fstat(STDIN_FILENO, &facts) == 0 && !S_ISFIFO(facts.st_mode) && !S_ISSOCK(facts.st_mode) &&
        isatty(STDIN_FILENO) == 0)
        return STATUS_OK;
    session->input_ready = false;
    RETURN_IF_ERROR(rpc_loop_watch_add(session->loop, &session->input_watch, STDIN_FILENO, EPOLLIN,
                                       on_input, session));
    enum status status = STATUS_OK;
    while (status == STATUS_OK && !session->input_ready && session->interrupts == 0)
        status = rpc_loop_turn(session->loop, clock_now_ns() + NS_PER_S);
    rpc_loop_watch_remove(session->loop, &session->input_watch);
    return status == STATUS_OK && session->interrupts > 0 ? STATUS_INTERRUPTED : status;
}

/* Reads some more. *is_over: there was nothing. */
static enum status read_more(struct client_session *session, bool *is_over) {
    RETURN_IF_ERROR(await_input(session));
    char piece[4096];
    ssize_t length = read(STDIN_FILENO, piece, sizeof piece);
    if (length < 0 && errno != EINTR) {
        LOG_ERROR("standard input: cannot read: %s", strerror(errno));
        return STATUS_IO;
    }
    *is_over = length == 0;
    if (session->input.length > LINE_BYTES_MAX) {
        LOG_ERROR("standard input: expected lines of at most %zu bytes, got more", LINE_BYTES_MAX);
        return STATUS_LIMIT;
    }
    return length > 0 ? text_buffer_append(&session->input, piece, (size_t)length) : STATUS_OK;
}

enum status client_session_read_line(struct client_session *session, struct text_buffer *line,
                                     bool *is_over) {
    struct text_buffer *input = &session->input;
    session->interrupts = 0;
    bool has_ended = false;
    const char *end;
    while ((end = input->length > 0 ? memchr(input->data, '\n', input->length) : NULL) == NULL &&
           !has_ended)
        RETURN_IF_ERROR(read_more(session, &has_ended));
    size_t length = end != NULL ? (size_t)(end - input->data) : input->length;
    size_t taken = end != NULL ? length + 1 : length;
    *is_over = end == NULL && length == 0;
    line->length = 0;
    if (length > 0)
        RETURN_IF_ERROR(text_buffer_append(line, input->data, length));
    if (taken > 0)
        memmove(input->data, input->data + taken, input->length - taken);
    input->length -= taken;
    return STATUS_OK;
}
