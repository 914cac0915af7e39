/* What http_completion.c keeps of log-probabilities, whose memory is the service's. */
#include "runtime/http_logprobs.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/check.h"

bool http_logprobs_keep(struct http_logprobs *kept, int32_t tops,
                        const struct generation_logprob *logprobs, int32_t count) {
    int32_t need = kept->count + count;
    if (need > kept->capacity) {
        int32_t capacity = need > 2 * kept->capacity ? need : 2 * kept->capacity;
        struct generation_logprob *values =
            realloc(kept->values, (size_t)capacity * sizeof *values);
        if (values != NULL)
            kept->values = values;
        struct sampler_logprob *top =
            realloc(kept->tops, ((size_t)capacity * (size_t)tops + 1) * sizeof *top);
        if (top != NULL)
            kept->tops = top;
        if (values == NULL || top == NULL)
            return false;
        kept->capacity = capacity;
    }
    for (int32_t i = 0; i < count; i++) {
        int32_t place = kept->count++;
        ASSERT(logprobs[i].top_count <= tops);
        kept->values[place] = logprobs[i];
        if (logprobs[i].top_count > 0)
            memcpy(kept->tops + (size_t)place * (size_t)tops, logprobs[i].top,
                   (size_t)logprobs[i].top_count * sizeof *kept->tops);
    }
    return true;
}

const struct generation_logprob *http_logprobs_read(struct http_logprobs *kept, int32_t tops) {
    for (int32_t i = 0; i < kept->count; i++) /* they moved while they grew */
        kept->values[i].top = kept->tops + (size_t)i * (size_t)tops;
    return kept->values;
}

void http_logprobs_deinit(struct http_logprobs *kept) {
    free(kept->values);
    free(kept->tops);
    *kept = (struct http_logprobs){0};
}
