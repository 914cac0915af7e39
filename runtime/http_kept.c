/* Copies for http_completion.c of what the service tells. */
#define _POSIX_C_SOURCE 200809L /* strdup */

#include "runtime/http_kept.h"

#include <stdlib.h>
#include <string.h>

static bool keep_ids(struct token_list *kept, const int32_t *ids, int32_t count) {
    enum status status = token_list_reserve(kept, count);
    for (int32_t i = 0; i < count && status == STATUS_OK; i++)
        status = token_list_append(kept, ids[i]);
    return status == STATUS_OK;
}

bool http_kept_choice_add(struct http_kept_choice *kept, const struct generation_delta *delta,
                          bool has_ids, int32_t tops) {
    if (text_buffer_append(&kept->text, delta->text, delta->text_bytes) != STATUS_OK)
        return false;
    if (has_ids && !keep_ids(&kept->ids, delta->ids, delta->id_count))
        return false;
    return delta->logprobs == NULL ||
           http_logprobs_keep(&kept->logprobs, tops, delta->logprobs, delta->id_count);
}

bool http_kept_choice_end(struct http_kept_choice *kept,
                          const struct generation_end_of_choice *end) {
    kept->end = *end;
    if (end->matched_stop == NULL)
        return true;
    kept->end.matched_stop = kept->matched_stop = strdup(end->matched_stop);
    return kept->matched_stop != NULL;
}

bool http_kept_prompt_set(struct http_kept_prompt *kept, const struct generation_start *start,
                          bool has_ids, bool has_logprobs, int32_t tops) {
    kept->echo_bytes = start->echo_bytes;
    if (has_ids && !keep_ids(&kept->ids, start->prompt, start->prompt_tokens))
        return false;
    return !has_logprobs || start->prompt_logprobs == NULL ||
           http_logprobs_keep(&kept->logprobs, tops, start->prompt_logprobs, start->prompt_tokens);
}

void http_kept_choice_deinit(struct http_kept_choice *kept) {
    text_buffer_deinit(&kept->text);
    token_list_deinit(&kept->ids);
    http_logprobs_deinit(&kept->logprobs);
    free(kept->matched_stop);
}

void http_kept_prompt_deinit(struct http_kept_prompt *kept) {
    token_list_deinit(&kept->ids);
    http_logprobs_deinit(&kept->logprobs);
}
