/* The message that starts every step on every rank. */
#include "runtime/step_plan.h"

#include <stdlib.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "kernels/kv_layout.h"
#include "runtime/wire.h"

#define HEAD_BYTES_MAX (sizeof(int64_t) + 3 * (size_t)WIRE_NUMBER_BYTES_MAX)
#define ENTRY_NUMBERS 8 /* of the head of an entry on the wire */

enum status step_plan_init(struct step_plan *plan, const struct step_limits *limits) {
    size_t rows = (size_t)limits->rows, blocks = (size_t)limits->blocks;
    *plan = (struct step_plan){.limits = *limits};
    plan->entry = malloc(sizeof *plan->entry * (size_t)limits->entries);
    plan->tokens = malloc(sizeof *plan->tokens * (2 * rows + blocks));
    if (plan->entry == NULL || plan->tokens == NULL) {
        LOG_ERROR("plan: cannot take memory for %d sequences, %d rows and %d blocks",
                  limits->entries, limits->rows, limits->blocks);
        step_plan_deinit(plan);
        return STATUS_NO_MEMORY;
    }
    plan->parents = plan->tokens + rows;
    plan->block = plan->parents + rows;
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
    plan->entries = plan->rows = plan->blocks = 0;
}

void step_plan_add_chain(struct step_plan *plan, struct step_entry entry, const int32_t *tokens,
                         const int32_t *blocks) {
    ASSERT(plan->entries < plan->limits.entries && entry.rows <= plan->limits.rows - plan->rows &&
           entry.blocks <= plan->limits.blocks - plan->blocks);
    entry.first_row = plan->rows;
    entry.first_block = plan->blocks;
    plan->entry[plan->entries++] = entry;
    for (int32_t i = 0; i < entry.rows; i++) {
        plan->tokens[plan->rows] = tokens[i];
        plan->parents[plan->rows++] = i - 1;
    }
    for (int32_t i = 0; i < entry.blocks; i++)
        plan->block[plan->blocks++] = blocks[i];
}

int64_t step_plan_bytes_max(const struct step_plan *plan) {
    const struct step_limits *limits = &plan->limits;
    int64_t numbers = (int64_t)limits->entries * ENTRY_NUMBERS + (int64_t)limits->rows * 2 +
                      (int64_t)limits->blocks;
    return (int64_t)HEAD_BYTES_MAX + numbers * WIRE_NUMBER_BYTES_MAX;
}

/* ---- to the wire ---- */

static bool is_chain(const struct step_plan *plan, const struct step_entry *entry) {
    for (int32_t i = 0; i < entry->rows; i++)
        if (plan->parents[entry->first_row + i] != i - 1)
            return false;
    return true;
}

static void put_entry(struct wire_writer *writer, const struct step_plan *plan,
                      const struct step_entry *entry) {
    bool chain = is_chain(plan, entry);
    wire_put(writer, entry->group);
    wire_put(writer, entry->place);
    wire_put(writer, entry->keep);
    wire_put(writer, entry->rows);
    wire_put(writer, entry->logits);
    wire_put(writer, entry->table_first);
    wire_put(writer, entry->blocks);
    wire_put(writer, chain ? 1 : 0);
    for (int32_t i = 0; i < entry->rows; i++)
        wire_put(writer, plan->tokens[entry->first_row + i]);
    for (int32_t i = 0; !chain && i < entry->rows; i++)
        wire_put(writer, plan->parents[entry->first_row + i] + 1);
    for (int32_t i = 0; i < entry->blocks; i++)
        wire_put(writer, plan->block[entry->first_block + i]);
}

int64_t step_plan_encode(const struct step_plan *plan, char *bytes) {
    struct wire_writer writer = {.at = bytes};
    wire_put_bytes(&writer, &plan->step, sizeof plan->step);
    wire_put(&writer, plan->stop);
    wire_put(&writer, plan->entries);
    for (int32_t i = 0; i < plan->entries; i++)
        put_entry(&writer, plan, &plan->entry[i]);
    return writer.at - bytes;
}

/* ---- and back ---- */

static bool reaches(const struct step_entry *entry) {
    int64_t table = (int64_t)entry->table_first + entry->blocks;
    return (int64_t)entry->keep + entry->rows <= table * KV_BLOCK_TOKENS;
}

static void get_entry(struct wire_reader *reader, struct step_plan *plan) {
    const struct step_limits *limits = &plan->limits;
    struct step_entry entry = {.first_row = plan->rows, .first_block = plan->blocks};
    entry.group = wire_get_within(reader, 0, limits->groups - 1);
    entry.place = wire_get_within(reader, 0, limits->places - 1);
    entry.keep = wire_get_within(reader, 0, limits->positions);
    entry.rows = wire_get_within(reader, 0, limits->rows - plan->rows);
    entry.logits = wire_get_within(reader, 0, STEP_LOGITS_ALL);
    entry.table_first = wire_get_within(reader, 0, limits->kv_blocks);
    entry.blocks = wire_get_within(reader, 0, limits->blocks - plan->blocks);
    bool chain = wire_get_within(reader, 0, 1) == 1;
    if (!reaches(&entry))
        reader->bad = true;
    for (int32_t i = 0; i < entry.rows && !reader->bad; i++)
        plan->tokens[plan->rows + i] = wire_get_within(reader, 0, limits->vocabulary - 1);
    for (int32_t i = 0; i < entry.rows && !reader->bad; i++)
        plan->parents[plan->rows + i] = chain ? i - 1 : wire_get_within(reader, 0, i) - 1;
    for (int32_t i = 0; i < entry.blocks && !reader->bad; i++)
        plan->block[plan->blocks + i] = wire_get_within(reader, 0, limits->kv_blocks - 1);
    plan->entry[plan->entries++] = entry;
    plan->rows += entry.rows;
    plan->blocks += entry.blocks;
}

enum status step_plan_decode(struct step_plan *plan, const char *bytes, int64_t length) {
    struct wire_reader reader = {.at = bytes, .end = bytes + length};
    step_plan_clear(plan, 0);
    wire_get_bytes(&reader, &plan->step, sizeof plan->step);
    plan->stop = wire_get_within(&reader, 0, 1);
    int32_t entries = wire_get_within(&reader, 0, plan->limits.entries);
    for (int32_t i = 0; i < entries && !reader.bad; i++)
        get_entry(&reader, plan);
    if (!reader.bad && reader.at == reader.end)
        return STATUS_OK;
    step_plan_clear(plan, 0);
    LOG_ERROR("plan: expected one of at most %d sequences and %d rows, got %lld bytes that are "
              "none: do all ranks run the same program with the same flags?",
              plan->limits.entries, plan->limits.rows, (long long)length);
    return STATUS_PEER;
}

int32_t step_plan_logit_rows(const struct step_entry *entry) {
    return entry->logits == STEP_LOGITS_ALL                       ? entry->rows
           : entry->logits == STEP_LOGITS_LAST && entry->rows > 0 ? 1
                                                                  : 0;
}
