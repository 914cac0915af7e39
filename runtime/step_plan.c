/* The message that starts every step on every rank. */
#include "runtime/step_plan.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"

struct plan_head {
    int64_t step;
    int32_t stop, entries, rows, reserved;
};

enum status step_plan_init(struct step_plan *plan, int32_t entries, int32_t rows) {
    *plan = (struct step_plan){.entry_capacity = entries, .row_capacity = rows};
    plan->entry = malloc(sizeof *plan->entry * (size_t)entries);
    plan->tokens = malloc(sizeof *plan->tokens * (size_t)rows * 2);
    if (plan->entry == NULL || plan->tokens == NULL) {
        LOG_ERROR("plan: cannot take memory for %d sequences and %d rows", entries, rows);
        step_plan_deinit(plan);
        return STATUS_NO_MEMORY;
    }
    plan->parents = plan->tokens + rows;
    return STATUS_OK;
}

void step_plan_deinit(struct step_plan *plan) {
    free(plan->entry);
    free(plan->tokens);
    *plan = (struct step_plan){0};
}

void step_plan_clear(struct step_plan *plan, int64_t step) {
    plan->step = step;
    plan->stop = 0;
    plan->entries = plan->rows = 0;
}

void step_plan_add_chain(struct step_plan *plan, struct step_entry entry, const int32_t *tokens) {
    ASSERT(plan->entries < plan->entry_capacity && entry.rows <= plan->row_capacity - plan->rows);
    entry.first_row = plan->rows;
    plan->entry[plan->entries++] = entry;
    for (int32_t i = 0; i < entry.rows; i++) {
        plan->tokens[plan->rows] = tokens[i];
        plan->parents[plan->rows++] = i - 1;
    }
}

int64_t step_plan_bytes_max(const struct step_plan *plan) {
    return (int64_t)(sizeof(struct plan_head) +
                     (size_t)plan->entry_capacity * sizeof(struct step_entry) +
                     (size_t)plan->row_capacity * 2 * sizeof(int32_t));
}

int64_t step_plan_encode(const struct step_plan *plan, char *bytes) {
    struct plan_head head = {
        .step = plan->step, .stop = plan->stop, .entries = plan->entries, .rows = plan->rows};
    size_t entries = (size_t)plan->entries * sizeof *plan->entry;
    size_t rows = (size_t)plan->rows * sizeof(int32_t);
    memcpy(bytes, &head, sizeof head);
    memcpy(bytes + sizeof head, plan->entry, entries);
    memcpy(bytes + sizeof head + entries, plan->tokens, rows);
    memcpy(bytes + sizeof head + entries + rows, plan->parents, rows);
    return (int64_t)(sizeof head + entries + 2 * rows);
}

static bool is_consistent(const struct step_plan *plan) {
    int32_t next = 0;
    for (int32_t i = 0; i < plan->entries; i++) {
        const struct step_entry *entry = &plan->entry[i];
        if (entry->rows < 0 || entry->rows > plan->rows - next || entry->first_row != next ||
            entry->keep < 0 || entry->group < 0 || entry->place < 0)
            return false;
        for (int32_t row = 0; row < entry->rows; row++) {
            int32_t parent = plan->parents[next + row];
            if (parent < -1 || parent >= row)
                return false;
        }
        next += entry->rows;
    }
    return next == plan->rows;
}

enum status step_plan_decode(struct step_plan *plan, const char *bytes, int64_t length) {
    struct plan_head head;
    if (length >= (int64_t)sizeof head) {
        memcpy(&head, bytes, sizeof head);
        size_t entries = (size_t)head.entries * sizeof *plan->entry;
        size_t rows = (size_t)head.rows * sizeof(int32_t);
        if (head.entries >= 0 && head.entries <= plan->entry_capacity && head.rows >= 0 &&
            head.rows <= plan->row_capacity &&
            length == (int64_t)(sizeof head + entries + 2 * rows)) {
            plan->step = head.step;
            plan->stop = head.stop;
            plan->entries = head.entries;
            plan->rows = head.rows;
            memcpy(plan->entry, bytes + sizeof head, entries);
            memcpy(plan->tokens, bytes + sizeof head + entries, rows);
            memcpy(plan->parents, bytes + sizeof head + entries + rows, rows);
            if (is_consistent(plan))
                return STATUS_OK;
        }
    }
    LOG_ERROR("plan: expected one of at most %d sequences and %d rows, got %lld bytes that are "
              "none: do all ranks run the same program with the same flags?",
              plan->entry_capacity, plan->row_capacity, (long long)length);
    return STATUS_PEER;
}

int32_t step_plan_logit_rows(const struct step_entry *entry) {
    return entry->logits == STEP_LOGITS_ALL                       ? entry->rows
           : entry->logits == STEP_LOGITS_LAST && entry->rows > 0 ? 1
                                                                  : 0;
}
