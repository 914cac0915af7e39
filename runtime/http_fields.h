/* Which fields a POST body may have: all that the two completion endpoints of OpenAI and vLLM know,
 * and what becomes of each here. */
#ifndef MOEBIUS_RUNTIME_HTTP_FIELDS_H
#define MOEBIUS_RUNTIME_HTTP_FIELDS_H

#include "runtime/http_reader.h"

/* Every field of the body is one that is read, one that changes nothing here, or one of those that
 * this server cannot do, at the value that asks for nothing. GENERATION_ERROR_INVALID: the endpoint
 * has no such field; _UNSUPPORTED: a field that asks for what cannot be done. Local. */
enum generation_error http_fields_check(const struct http_reader *reader);

#endif
