/* What the HTTP door keeps of prompts and choices until it is told: the whole of a whole answer, or
 * where a stream has got to. The service's own memory is gone after its callback. */
#ifndef MOEBIUS_RUNTIME_HTTP_KEPT_H
#define MOEBIUS_RUNTIME_HTTP_KEPT_H

#include "runtime/generation_service.h"
#include "runtime/http_logprobs.h"
#include "runtime/text_buffer.h"
#include "runtime/token_list.h"

/* {0} is empty. */
struct http_kept_choice {
    struct text_buffer text;
    struct token_list ids; /* where they are wanted */
    struct http_logprobs logprobs;
    int32_t text_offset;
    bool has_prompt; /* the prompt's ids were told with it */
    bool has_echo;   /* the log-probabilities of the prompt's tokens too */
    struct generation_end_of_choice end;
    char *matched_stop;
};

struct http_kept_prompt {
    struct token_list ids;         /* where they are wanted */
    struct http_logprobs logprobs; /* of a whole answer, or echoed */
    size_t echo_bytes;             /* of its text */
};

/* All three: false: no memory. `tops`: as http_logprobs_keep. Local. */
bool http_kept_choice_add(struct http_kept_choice *kept, const struct generation_delta *delta,
                          bool has_ids, int32_t tops);
bool http_kept_choice_end(struct http_kept_choice *kept,
                          const struct generation_end_of_choice *end);
bool http_kept_prompt_set(struct http_kept_prompt *kept, const struct generation_start *start,
                          bool has_ids, bool has_logprobs, int32_t tops);

void http_kept_choice_deinit(struct http_kept_choice *kept);
void http_kept_prompt_deinit(struct http_kept_prompt *kept);

#endif
