/* Log-probabilities that outlive the service's callback: those of a whole answer, until it is
 * written. */
#ifndef MOEBIUS_RUNTIME_HTTP_LOGPROBS_H
#define MOEBIUS_RUNTIME_HTTP_LOGPROBS_H

#include <stdbool.h>

#include "runtime/generation.h"

/* {0} is an empty list. `tops` below is the same for all calls with one list: the most likeliest
 * ids that a value has. */
struct http_logprobs {
    struct generation_logprob *values; /* [count] */
    struct sampler_logprob *tops;      /* [count * tops] */
    int32_t count, capacity;
};

/* Appends copies of logprobs[count]. False: no memory. Local. */
bool http_logprobs_keep(struct http_logprobs *kept, int32_t tops,
                        const struct generation_logprob *logprobs, int32_t count);

/* The values with their own likeliest ids; NULL when there are none. Valid until the next
 * http_logprobs_keep. Local. */
const struct generation_logprob *http_logprobs_read(struct http_logprobs *kept, int32_t tops);

void http_logprobs_deinit(struct http_logprobs *kept);

#endif
