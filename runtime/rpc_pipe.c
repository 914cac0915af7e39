/* One connection between a socket and an HTTP/2 session. Output is gathered over a whole turn of
 * the loop: the tokens of a step for all streams of a connection leave in one write. */
#include "runtime/rpc_pipe.h"

#include <string.h>
#include <sys/epoll.h>

#include "runtime/rpc_socket.h"

#define READ_BYTES (16 * 1024)
#define READS_MAX 16            /* of one connection in one turn: others have their turn too */
#define WRITE_BYTES (64 * 1024) /* gathered before a write */
#define REASON_SIZE 160

static void flush(void *context);

static void watch_what_is_needed(struct rpc_pipe *pipe) {
    uint32_t events = pipe->is_ending ? 0 : EPOLLIN;
    if (pipe->state == RPC_PIPE_CONNECTING || rpc_buffer_size(&pipe->out) > 0 ||
        pipe->channel.wants_output)
        events |= EPOLLOUT;
    rpc_loop_watch_change(pipe->loop, &pipe->watch, events);
}

void rpc_pipe_close(struct rpc_pipe *pipe) {
    if (pipe->loop == NULL || pipe->state == RPC_PIPE_CLOSED)
        return;
    pipe->state = RPC_PIPE_CLOSED;
    rpc_loop_task_cancel(pipe->loop, &pipe->task);
    rpc_loop_watch_remove(pipe->loop, &pipe->watch);
    rpc_channel_deinit(&pipe->channel);
    rpc_buffer_deinit(&pipe->out);
}

static void end(struct rpc_pipe *pipe, const char *reason) {
    rpc_pipe_close(pipe);
    pipe->owner->on_closed(pipe->context, reason); /* the pipe may be gone now */
}

/* Until the handshake is done. false: not yet, or the pipe has ended. */
static bool make_open(struct rpc_pipe *pipe) {
    char reason[REASON_SIZE];
    if (pipe->state == RPC_PIPE_CONNECTING) {
        int error = rpc_socket_error(pipe->channel.fd);
        if (error != 0) {
            end(pipe, strerror(error));
            return false;
        }
        pipe->state = RPC_PIPE_HANDSHAKE;
    }
    enum rpc_channel_result result = rpc_channel_handshake(&pipe->channel, reason, sizeof(reason));
    if (result == RPC_CHANNEL_CLOSED) {
        end(pipe, reason);
        return false;
    }
    if (result == RPC_CHANNEL_BLOCKED) {
        watch_what_is_needed(pipe);
        return false;
    }
    pipe->state = RPC_PIPE_OPEN;
    pipe->last_received_ns = pipe->last_progress_ns = rpc_loop_now_ns(pipe->loop);
    pipe->owner->on_open(pipe->context);
    rpc_pipe_flush_later(pipe);
    return true;
}

/* Reads what there is, to a limit. false: the pipe has ended. */
static bool read_all(struct rpc_pipe *pipe) {
    uint8_t data[READ_BYTES];
    for (int i = 0; i < READS_MAX && !pipe->is_ending; i++) {
        size_t count = 0;
        enum rpc_channel_result result =
            rpc_channel_read(&pipe->channel, data, sizeof(data), &count);
        if (result == RPC_CHANNEL_BLOCKED)
            return true;
        if (result == RPC_CHANNEL_CLOSED) {
            end(pipe, "connection closed by the peer");
            return false;
        }
        pipe->received += (int64_t)count;
        pipe->last_received_ns = rpc_loop_now_ns(pipe->loop);
        if (!pipe->is_lingering)
            pipe->is_ending = !pipe->owner->receive(pipe->context, data, count);
        if (count < sizeof(data) && !rpc_channel_has_pending(&pipe->channel))
            return true; /* the socket is empty as far as one can tell: saves a read that blocks */
    }
    return true;
}

static void handle_events(void *context, uint32_t events) {
    struct rpc_pipe *pipe = context;
    if (pipe->state == RPC_PIPE_CONNECTING && (events & ~(uint32_t)EPOLLIN) == 0)
        return;
    if (pipe->state != RPC_PIPE_OPEN && !make_open(pipe))
        return;
    if (!pipe->is_ending) {
        if (!read_all(pipe))
            return;
    } else if ((events & (EPOLLHUP | EPOLLERR)) != 0) {
        end(pipe, "connection lost");
        return;
    }
    rpc_pipe_flush_later(pipe);
}

/* Fills `out` up to WRITE_BYTES. false: no memory, and the session would lose bytes. */
static bool gather(struct rpc_pipe *pipe) {
    while (rpc_buffer_size(&pipe->out) < WRITE_BYTES) {
        const uint8_t *data;
        size_t size = pipe->owner->output(pipe->context, &data);
        if (size == 0)
            return true;
        if (rpc_buffer_append(&pipe->out, data, size) != STATUS_OK)
            return false;
    }
    return true;
}

/* Writes until there is nothing more or the socket takes no more. */
static enum rpc_channel_result write_all(struct rpc_pipe *pipe) {
    for (;;) {
        if (!gather(pipe))
            return RPC_CHANNEL_CLOSED;
        size_t size = rpc_buffer_size(&pipe->out);
        if (size == 0)
            return RPC_CHANNEL_OK;
        size_t count = 0;
        enum rpc_channel_result result =
            rpc_channel_write(&pipe->channel, rpc_buffer_head(&pipe->out), size, &count);
        if (result != RPC_CHANNEL_OK)
            return result;
        rpc_buffer_consume(&pipe->out, count);
        pipe->sent += (int64_t)count;
        pipe->last_progress_ns = rpc_loop_now_ns(pipe->loop);
    }
}

static void flush(void *context) {
    struct rpc_pipe *pipe = context;
    if (pipe->state != RPC_PIPE_OPEN || pipe->is_lingering)
        return;
    if (rpc_buffer_size(&pipe->out) == 0)
        pipe->last_progress_ns = rpc_loop_now_ns(pipe->loop);
    enum rpc_channel_result result = write_all(pipe);
    if (result == RPC_CHANNEL_CLOSED) {
        end(pipe, "connection lost");
        return;
    }
    if (result == RPC_CHANNEL_OK && (pipe->is_ending || pipe->owner->is_done(pipe->context))) {
        rpc_channel_end_output(&pipe->channel);
        pipe->is_lingering = !pipe->is_ending && pipe->owner->lingers(pipe->context);
        if (!pipe->is_lingering) {
            end(pipe, "connection ended");
            return;
        }
    }
    watch_what_is_needed(pipe);
    /* Bytes that wait inside TLS make the socket no event. */
    if (!pipe->is_ending && rpc_channel_has_pending(&pipe->channel) && read_all(pipe))
        rpc_pipe_flush_later(pipe);
}

void rpc_pipe_flush_later(struct rpc_pipe *pipe) {
    if (pipe->state == RPC_PIPE_OPEN)
        rpc_loop_task_defer(pipe->loop, &pipe->task, flush, pipe);
}

enum status rpc_pipe_open(struct rpc_pipe *pipe, int fd, bool is_connecting,
                          const struct rpc_tls *tls, const char *host) {
    RETURN_IF_ERROR(rpc_channel_init(&pipe->channel, fd, tls, host));
    rpc_socket_set_no_delay(fd);
    pipe->state = is_connecting ? RPC_PIPE_CONNECTING : RPC_PIPE_HANDSHAKE;
    pipe->last_received_ns = pipe->last_progress_ns = rpc_loop_now_ns(pipe->loop);
    enum status status =
        rpc_loop_watch_add(pipe->loop, &pipe->watch, fd, EPOLLIN | (is_connecting ? EPOLLOUT : 0U),
                           handle_events, pipe);
    if (status != STATUS_OK)
        rpc_pipe_close(pipe);
    return status;
}
