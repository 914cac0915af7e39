/* The scheduler's waiting line: accounts of clients, ordered by heaps, so that a choice among a
 * thousand costs what its logarithm does. */
#include "runtime/fair_queue.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/check.h"

/* ---- order ---- */

static bool account_before(const struct fair_queue *queue, enum fair_queue_line line, int32_t a,
                           enum fair_queue_line other_line, int32_t b) {
    const struct fair_queue_account *x = &queue->account[a], *y = &queue->account[b];
    if (x->priority != y->priority)
        return x->priority < y->priority;
    if (x->served != y->served)
        return x->served < y->served;
    return queue->item[x->first[line]].arrival < queue->item[y->first[other_line]].arrival;
}

static bool short_before(const void *context, int32_t a, int32_t b) {
    return account_before(context, FAIR_QUEUE_SHORT, a, FAIR_QUEUE_SHORT, b);
}

static bool long_before(const void *context, int32_t a, int32_t b) {
    return account_before(context, FAIR_QUEUE_LONG, a, FAIR_QUEUE_LONG, b);
}

static bool older(const void *context, int32_t a, int32_t b) {
    const struct fair_queue *queue = context;
    return queue->item[a].arrival < queue->item[b].arrival;
}

/* ---- start and end ---- */

enum status fair_queue_init(struct fair_queue *queue, int32_t capacity) {
    /* Twice as many accounts as requests: at least as many are remembered as are in use. */
    *queue = (struct fair_queue){
        .capacity = capacity, .account_capacity = 2 * capacity, .first_idle = -1, .last_idle = -1};
    int64_t buckets = 1;
    while (buckets < queue->account_capacity)
        buckets *= 2;
    queue->bucket_mask = (int32_t)(buckets - 1);
    queue->item = calloc((size_t)capacity, sizeof *queue->item);
    queue->account = calloc((size_t)queue->account_capacity, sizeof *queue->account);
    queue->level = calloc((size_t)queue->account_capacity, sizeof *queue->level);
    queue->bucket = malloc(sizeof *queue->bucket * (size_t)buckets);
    if (queue->item == NULL || queue->account == NULL || queue->level == NULL ||
        queue->bucket == NULL)
        return STATUS_NO_MEMORY;
    for (int64_t i = 0; i < buckets; i++)
        queue->bucket[i] = -1;
    for (int32_t i = 0; i < capacity; i++)
        queue->item[i].account = -1;
    RETURN_IF_ERROR(index_heap_init(&queue->line[FAIR_QUEUE_SHORT], queue->account_capacity,
                                    short_before, queue));
    RETURN_IF_ERROR(index_heap_init(&queue->line[FAIR_QUEUE_LONG], queue->account_capacity,
                                    long_before, queue));
    return index_heap_init(&queue->oldest, capacity, older, queue);
}

void fair_queue_deinit(struct fair_queue *queue) {
    free(queue->item);
    free(queue->account);
    free(queue->level);
    free(queue->bucket);
    for (int line = 0; line < FAIR_QUEUE_LINES; line++)
        index_heap_deinit(&queue->line[line]);
    index_heap_deinit(&queue->oldest);
    *queue = (struct fair_queue){0};
}

/* ---- levels: one per priority that has accounts ---- */

/* Where the level of `priority` stands or would stand. */
static int32_t level_place(const struct fair_queue *queue, int32_t priority) {
    int32_t low = 0, high = queue->levels;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (queue->level[middle].priority < priority)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct fair_queue_level *level_of(struct fair_queue *queue, int32_t priority) {
    int32_t place = level_place(queue, priority);
    ASSERT(place < queue->levels && queue->level[place].priority == priority);
    return &queue->level[place];
}

static void hold_level(struct fair_queue *queue, int32_t priority) {
    int32_t place = level_place(queue, priority);
    if (place == queue->levels || queue->level[place].priority != priority) {
        memmove(queue->level + place + 1, queue->level + place,
                sizeof *queue->level * (size_t)(queue->levels - place));
        queue->level[place] = (struct fair_queue_level){.priority = priority};
        queue->levels++;
    }
    queue->level[place].accounts++;
}

static void drop_level(struct fair_queue *queue, int32_t priority) {
    struct fair_queue_level *level = level_of(queue, priority);
    if (--level->accounts > 0)
        return;
    queue->levels--;
    memmove(level, level + 1,
            sizeof *level * (size_t)(queue->levels - (int32_t)(level - queue->level)));
}

/* ---- accounts ---- */

static int32_t *bucket_of(const struct fair_queue *queue, uint64_t client, int32_t priority) {
    uint64_t hash = (client ^ (uint32_t)priority) * 0x9e3779b97f4a7c15u;
    hash = (hash ^ hash >> 32) * 0xd6e8feb86659fd93u;
    return &queue->bucket[(hash ^ hash >> 32) & (uint64_t)queue->bucket_mask];
}

static void unlink_idle(struct fair_queue *queue, int32_t number) {
    struct fair_queue_account *account = &queue->account[number];
    if (account->previous >= 0)
        queue->account[account->previous].next = account->next;
    else
        queue->first_idle = account->next;
    if (account->next >= 0)
        queue->account[account->next].previous = account->previous;
    else
        queue->last_idle = account->previous;
}

static void link_idle(struct fair_queue *queue, int32_t number) {
    struct fair_queue_account *account = &queue->account[number];
    account->next = -1;
    account->previous = queue->last_idle;
    if (queue->last_idle >= 0)
        queue->account[queue->last_idle].next = number;
    else
        queue->first_idle = number;
    queue->last_idle = number;
}

/* An unused account, or the one that was left longest ago. */
static int32_t take_account(struct fair_queue *queue) {
    if (queue->accounts < queue->account_capacity)
        return queue->accounts++;
    int32_t number = queue->first_idle;
    ASSERT(number >= 0);
    struct fair_queue_account *account = &queue->account[number];
    unlink_idle(queue, number);
    int32_t *link = bucket_of(queue, account->client, account->priority);
    while (*link != number)
        link = &queue->account[*link].chain;
    *link = account->chain;
    drop_level(queue, account->priority);
    return number;
}

static int32_t open_account(struct fair_queue *queue, uint64_t client, int32_t priority) {
    int32_t number = take_account(queue);
    int32_t *bucket = bucket_of(queue, client, priority);
    queue->account[number] = (struct fair_queue_account){.client = client,
                                                         .priority = priority,
                                                         .first = {-1, -1},
                                                         .last = {-1, -1},
                                                         .chain = *bucket};
    *bucket = number;
    hold_level(queue, priority);
    return number;
}

void fair_queue_join(struct fair_queue *queue, int32_t item, uint64_t client, int32_t priority) {
    ASSERT(queue->item[item].account < 0);
    int32_t number = *bucket_of(queue, client, priority);
    while (number >= 0 &&
           (queue->account[number].client != client || queue->account[number].priority != priority))
        number = queue->account[number].chain;
    if (number < 0)
        number = open_account(queue, client, priority);
    else if (queue->account[number].items == 0)
        unlink_idle(queue, number);
    queue->account[number].items++;
    queue->item[item] = (struct fair_queue_item){.arrival = queue->arrivals++, .account = number};
}

/* ---- lines ---- */

static void order_account(struct fair_queue *queue, int32_t number) {
    for (int line = 0; line < FAIR_QUEUE_LINES; line++) {
        if (queue->account[number].first[line] >= 0)
            index_heap_put(&queue->line[line], number);
        else
            index_heap_remove(&queue->line[line], number);
    }
}

static void link_item(struct fair_queue *queue, int32_t number, int32_t item) {
    struct fair_queue_item *own = &queue->item[item];
    int32_t *first = &queue->account[number].first[own->line];
    int32_t *last = &queue->account[number].last[own->line];
    /* Mostly it is the latest; who comes back was among the first. */
    int32_t next = -1;
    if (*last >= 0 && queue->item[*last].arrival > own->arrival)
        for (next = *first; queue->item[next].arrival < own->arrival;)
            next = queue->item[next].next;
    own->next = next;
    own->previous = next >= 0 ? queue->item[next].previous : *last;
    *(own->previous >= 0 ? &queue->item[own->previous].next : first) = item;
    *(next >= 0 ? &queue->item[next].previous : last) = item;
}

static void unlink_item(struct fair_queue *queue, int32_t item) {
    struct fair_queue_item *own = &queue->item[item];
    struct fair_queue_account *account = &queue->account[own->account];
    *(own->previous >= 0 ? &queue->item[own->previous].next : &account->first[own->line]) =
        own->next;
    *(own->next >= 0 ? &queue->item[own->next].previous : &account->last[own->line]) =
        own->previous;
    if (index_heap_first(&queue->oldest) == item)
        queue->passes = 0;
    index_heap_remove(&queue->oldest, item);
    order_account(queue, own->account);
}

void fair_queue_push(struct fair_queue *queue, int32_t item, enum fair_queue_line line) {
    struct fair_queue_item *own = &queue->item[item];
    ASSERT(own->account >= 0 && !index_heap_has(&queue->oldest, item));
    struct fair_queue_account *account = &queue->account[own->account];
    int64_t served = level_of(queue, account->priority)->served;
    if (account->first[FAIR_QUEUE_SHORT] < 0 && account->first[FAIR_QUEUE_LONG] < 0 &&
        account->served < served)
        account->served = served;
    own->line = line;
    link_item(queue, own->account, item);
    index_heap_put(&queue->oldest, item);
    if (index_heap_first(&queue->oldest) == item)
        queue->passes = 0;
    order_account(queue, own->account);
}

void fair_queue_leave(struct fair_queue *queue, int32_t item) {
    if (index_heap_has(&queue->oldest, item))
        unlink_item(queue, item);
    int32_t number = queue->item[item].account;
    ASSERT(number >= 0);
    queue->item[item].account = -1;
    if (--queue->account[number].items == 0)
        link_idle(queue, number);
}

int32_t fair_queue_next(const struct fair_queue *queue, bool long_too, int32_t passes,
                        bool *overdue) {
    int32_t oldest = index_heap_first(&queue->oldest);
    *overdue = oldest >= 0 && queue->passes >= passes &&
               (long_too || queue->item[oldest].line == FAIR_QUEUE_SHORT);
    if (*overdue)
        return oldest;
    int32_t brief = index_heap_first(&queue->line[FAIR_QUEUE_SHORT]);
    int32_t lengthy = long_too ? index_heap_first(&queue->line[FAIR_QUEUE_LONG]) : -1;
    if (lengthy >= 0 &&
        (brief < 0 || account_before(queue, FAIR_QUEUE_LONG, lengthy, FAIR_QUEUE_SHORT, brief)))
        return queue->account[lengthy].first[FAIR_QUEUE_LONG];
    return brief >= 0 ? queue->account[brief].first[FAIR_QUEUE_SHORT] : -1;
}

void fair_queue_take(struct fair_queue *queue, int32_t item, bool overdue) {
    const struct fair_queue_account *account = &queue->account[queue->item[item].account];
    struct fair_queue_level *level = level_of(queue, account->priority);
    if (!overdue && level->served < account->served)
        level->served = account->served;
    if (index_heap_first(&queue->oldest) != item)
        queue->passes++;
    unlink_item(queue, item);
}

void fair_queue_charge(struct fair_queue *queue, int32_t item, int64_t tokens) {
    int32_t number = queue->item[item].account;
    ASSERT(number >= 0);
    queue->account[number].served += tokens;
    order_account(queue, number);
}
