/* What one request shares between the network thread and the engine thread: token buffers with a
 * published count, and the list of those that changed. */
#include "runtime/generation.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"

#define GENERATION_LISTED 1u
#define GENERATION_DONE 2u

/* ---- making and freeing ---- */

uint64_t generation_seed(uint64_t seed, int32_t index) {
    if (index == 0)
        return seed;
    uint64_t x = seed + (uint64_t)index * UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* Memory that is not touched is not taken by the kernel, so max_tokens costs what is produced. */
static bool take_choice(const struct generation *generation, struct generation_choice *choice) {
    size_t tokens = (size_t)generation->max_tokens;
    choice->handle = -1;
    choice->ids = malloc(sizeof *choice->ids * tokens);
    if (choice->ids == NULL || generation->sampling.logprobs < 0)
        return choice->ids != NULL;
    size_t tops = (size_t)generation->sampling.logprobs;
    choice->logprobs = malloc(sizeof *choice->logprobs * tokens);
    choice->tops = malloc(sizeof *choice->tops * tokens * tops + 1);
    return choice->logprobs != NULL && choice->tops != NULL;
}

static bool take_buffers(struct generation *generation, const int32_t *prompt) {
    size_t count = (size_t)generation->prompt_count;
    generation->prompt = malloc(sizeof *prompt * count);
    generation->choices = calloc((size_t)generation->n, sizeof *generation->choices);
    if (generation->prompt == NULL || generation->choices == NULL)
        return false;
    memcpy(generation->prompt, prompt, sizeof *prompt * count);
    for (int32_t i = 0; i < generation->n; i++) {
        generation->choices[i].seed = generation_seed(generation->sampling.seed, i);
        if (!take_choice(generation, &generation->choices[i]))
            return false;
    }
    if (generation->prompt_logprobs < 0)
        return true;
    size_t tops = (size_t)generation->prompt_logprobs;
    generation->prompt_logprob = malloc(sizeof *generation->prompt_logprob * count);
    generation->prompt_tops = malloc(sizeof *generation->prompt_tops * count * tops + 1);
    if (generation->prompt_logprob == NULL || generation->prompt_tops == NULL)
        return false;
    for (size_t i = 0; i < count; i++)
        generation->prompt_logprob[i] =
            (struct generation_logprob){.id = prompt[i], .logprob = nan("")};
    return true;
}

enum status generation_create(const struct generation *like, struct generation **out) {
    ASSERT(like->n >= 1 && like->n <= GENERATION_CHOICES_MAX && like->max_tokens >= 1);
    struct generation *generation = malloc(sizeof *generation);
    if (generation != NULL) {
        memcpy(generation, like, sizeof *generation);
        generation->prompt = NULL;
        generation->choices = NULL;
        generation->prompt_logprob = NULL;
        generation->prompt_tops = NULL;
        generation->unfinished = generation->n;
    }
    if (generation == NULL || !take_buffers(generation, like->prompt)) {
        LOG_ERROR("generation: cannot take memory for %d choices of %d tokens", like->n,
                  like->max_tokens);
        generation_destroy(generation);
        return STATUS_NO_MEMORY;
    }
    *out = generation;
    return STATUS_OK;
}

void generation_destroy(struct generation *generation) {
    if (generation == NULL)
        return;
    for (int32_t i = 0; generation->choices != NULL && i < generation->n; i++) {
        free(generation->choices[i].ids);
        free(generation->choices[i].logprobs);
        free(generation->choices[i].tops);
    }
    free(generation->choices);
    free(generation->prompt);
    free(generation->prompt_logprob);
    free(generation->prompt_tops);
    free(generation);
}

/* ---- engine thread ---- */

/* `tops`: of this place. */
static void keep_logprobs(const struct sampler_logprobs *logprobs, int32_t most,
                          struct sampler_logprob *tops, struct generation_logprob *kept) {
    ASSERT(logprobs->top_count <= most);
    memcpy(tops, logprobs->top, sizeof *tops * (size_t)logprobs->top_count);
    *kept = (struct generation_logprob){.id = logprobs->chosen.id,
                                        .rank = logprobs->rank,
                                        .top_count = logprobs->top_count,
                                        .logprob = logprobs->chosen.logprob,
                                        .top = tops};
}

void generation_set_prompt_logprob(struct generation *generation, int32_t position,
                                   const struct sampler_logprobs *logprobs) {
    int32_t most = generation->prompt_logprobs;
    ASSERT(most >= 0 && position >= 1 && position < generation->prompt_count);
    keep_logprobs(logprobs, most, generation->prompt_tops + (size_t)position * (size_t)most,
                  &generation->prompt_logprob[position]);
}

struct generation_progress generation_read(const struct generation_choice *choice) {
    uint64_t progress = atomic_load_explicit(&choice->progress, memory_order_acquire);
    return (struct generation_progress){.tokens = (int32_t)(progress & UINT32_MAX),
                                        .finish = (enum generation_finish)(progress >> 32)};
}

static void set_progress(struct generation *generation, struct generation_choice *choice,
                         int32_t tokens, enum generation_finish finish) {
    if (finish != GENERATION_RUNNING) {
        ASSERT(generation->unfinished > 0);
        generation->unfinished--;
    }
    generation->changed = true;
    atomic_store_explicit(&choice->progress, (uint64_t)tokens | (uint64_t)finish << 32,
                          memory_order_release);
}

void generation_publish(struct generation *generation, int32_t index,
                        const struct generation_token *token) {
    struct generation_choice *choice = &generation->choices[index];
    struct generation_progress before = generation_read(choice);
    ASSERT(before.finish == GENERATION_RUNNING && before.tokens < generation->max_tokens);
    choice->ids[before.tokens] = token->id;
    if (choice->logprobs != NULL) {
        ASSERT(token->logprobs != NULL);
        int32_t most = generation->sampling.logprobs;
        keep_logprobs(token->logprobs, most, choice->tops + (size_t)before.tokens * (size_t)most,
                      &choice->logprobs[before.tokens]);
    }
    if (before.tokens == 0)
        choice->first_token_ns = token->now_ns;
    choice->last_token_ns = token->now_ns;
    set_progress(generation, choice, before.tokens + 1, token->finish);
}

void generation_end(struct generation *generation, int32_t index, enum generation_finish finish) {
    struct generation_choice *choice = &generation->choices[index];
    struct generation_progress before = generation_read(choice);
    ASSERT(finish != GENERATION_RUNNING && before.finish == GENERATION_RUNNING);
    set_progress(generation, choice, before.tokens, finish);
}

void generation_list_push(struct generation_list *list, struct generation *generation, bool done) {
    uint32_t marks = GENERATION_LISTED | (done ? GENERATION_DONE : 0);
    generation->changed = false;
    /* If it stands on the list already, this is the last touch: it may be freed from here on. */
    if ((atomic_fetch_or(&generation->listed, marks) & GENERATION_LISTED) != 0)
        return;
    struct generation *head = atomic_load_explicit(&list->head, memory_order_relaxed);
    do
        generation->next_listed = head;
    while (!atomic_compare_exchange_weak_explicit(&list->head, &head, generation,
                                                  memory_order_release, memory_order_relaxed));
}

void generation_list_wake(struct generation_list *list) {
    uint64_t one = 1;
    ssize_t written = write(list->event_fd, &one, sizeof one); /* full: readable anyway */
    (void)written;
}

/* ---- network thread ---- */

enum status generation_list_init(struct generation_list *list) {
    atomic_init(&list->head, NULL);
    list->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (list->event_fd >= 0)
        return STATUS_OK;
    LOG_ERROR("generations: cannot make an eventfd: %s", strerror(errno));
    return STATUS_IO;
}

void generation_list_deinit(struct generation_list *list) {
    close(list->event_fd);
}

struct generation *generation_list_take(struct generation_list *list) {
    uint64_t wakes;
    ssize_t taken = read(list->event_fd, &wakes, sizeof wakes); /* before the list: no lost wake */
    (void)taken;
    struct generation *newest = atomic_exchange_explicit(&list->head, NULL, memory_order_acquire);
    struct generation *oldest = NULL;
    while (newest != NULL) {
        struct generation *next = newest->next_listed;
        newest->next_listed = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}

bool generation_unlist(struct generation *generation) {
    return (atomic_fetch_and(&generation->listed, ~GENERATION_LISTED) & GENERATION_DONE) != 0;
}
