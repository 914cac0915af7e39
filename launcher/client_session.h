/* A connection to a server, one request at a time, and a user who may interrupt it. */
#ifndef MOEBIUS_LAUNCHER_CLIENT_SESSION_H
#define MOEBIUS_LAUNCHER_CLIENT_SESSION_H

#include "launcher/client_flags.h"
#include "runtime/rpc_inference_client.h"
#include "runtime/text_buffer.h"

struct client_session;

/* Takes SIGINT and SIGTERM from here on. The connection is made by the first request. STATUS_USAGE,
 * STATUS_IO, STATUS_NO_MEMORY (logged). Local. */
enum status client_session_create(const struct client_flags *flags,
                                  struct client_session **session);
void client_session_destroy(struct client_session *session); /* NULL allowed */

/* Runs a request to its end; chunk(context, ...) gets what comes and returns false to give up. What
 * goes wrong is logged in one line, with the server's words. STATUS_INTERRUPTED: the user has
 * interrupted it, and the server was told. Local. */
typedef bool client_session_chunk(void *context, const struct rpc_inference_client_chunk *chunk);
enum status client_session_run(struct client_session *session,
                               const struct generation_request *request,
                               const struct rpc_inference_client_wishes *wishes,
                               client_session_chunk *chunk, void *context);

/* Whether the last request was refused because prompt and answer do not fit. Local. */
bool client_session_was_too_long(const struct client_session *session);

/* The next line of standard input, without its end; the connection is looked after meanwhile.
 * *is_over: there is none. STATUS_INTERRUPTED, STATUS_IO, STATUS_LIMIT (logged). Local. */
enum status client_session_read_line(struct client_session *session, struct text_buffer *line,
                                     bool *is_over);

#endif
