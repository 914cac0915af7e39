/* A growable list of token ids, owned by the caller. */
#ifndef MOEBIUS_RUNTIME_TOKEN_LIST_H
#define MOEBIUS_RUNTIME_TOKEN_LIST_H

#include <stdint.h>

#include "kernels/base/status.h"

/* {0} is an empty list. */
struct token_list {
    int32_t *ids;
    int64_t count;    /* ids in use */
    int64_t capacity; /* ids that fit */
};

/* Frees the ids and leaves an empty list; NULL is allowed. Local. */
void token_list_deinit(struct token_list *list);

/* Makes room for `count` more ids (>= 0). STATUS_NO_MEMORY leaves the list as it was. Local. */
enum status token_list_reserve(struct token_list *list, int64_t count);

/* Adds one id at the end. STATUS_NO_MEMORY leaves the list as it was. Local. */
enum status token_list_append(struct token_list *list, int32_t id);

#endif
