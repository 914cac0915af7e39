/* Token ids as they grow: what encoding a prompt writes and what decoding reads. */
#include "runtime/token_list.h"

#include <stdlib.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"

void token_list_deinit(struct token_list *list) {
    if (list == NULL)
        return;
    free(list->ids);
    *list = (struct token_list){0};
}

enum status token_list_reserve(struct token_list *list, int64_t count) {
    ASSERT(count >= 0);
    if (count <= list->capacity - list->count)
        return STATUS_OK;
    int64_t capacity = list->capacity < 16 ? 16 : list->capacity;
    while (capacity - list->count < count && capacity < INT64_MAX / 16)
        capacity *= 2;
    int32_t *ids = capacity - list->count < count
                       ? NULL
                       : realloc(list->ids, (size_t)capacity * sizeof list->ids[0]);
    if (ids == NULL) {
        LOG_ERROR("token list: cannot take memory for %lld ids", (long long)count);
        return STATUS_NO_MEMORY;
    }
    list->ids = ids;
    list->capacity = capacity;
    return STATUS_OK;
}

enum status token_list_append(struct token_list *list, int32_t id) {
    RETURN_IF_ERROR(token_list_reserve(list, 1));
    list->ids[list->count++] = id;
    return STATUS_OK;
}
