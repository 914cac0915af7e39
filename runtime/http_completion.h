/* A completion over HTTP, from its parsed body to its last byte. */
#ifndef MOEBIUS_RUNTIME_HTTP_COMPLETION_H
#define MOEBIUS_RUNTIME_HTTP_COMPLETION_H

#include "runtime/generation_service.h"
#include "runtime/http_body.h"
#include "runtime/http_server.h"

#define HTTP_COMPLETION_CHOICES_MAX 128 /* of all prompts together */

/* Hands the body's prompts to the service and answers on the exchange, now or as news comes. The
 * body may go afterwards. Uses the exchange's data. Local. */
void http_completion_begin(struct generation_service *service, struct http_exchange *exchange,
                           struct http_body *body);

/* Of a begun exchange: the client has gone; the client reads again. Local. */
void http_completion_forget(struct http_exchange *exchange);
void http_completion_go_on(struct http_exchange *exchange);

#endif
