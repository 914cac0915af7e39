/* Cuts a piece of text into words, step by step: each piece of one step goes through the next step
 * before the following piece is looked for, so that no list of pieces is ever kept. */
#include "runtime/tokenizer_split.h"

#include <string.h>

#include "runtime/tokenizer_utf8.h"

void tokenizer_split_scratch_deinit(struct tokenizer_split_scratch *scratch) {
    for (int i = 0; i < TOKENIZER_SPLIT_STEPS_MAX; i++)
        text_buffer_deinit(&scratch->texts[i]);
    tokenizer_regex_scratch_deinit(&scratch->regex);
}

void tokenizer_split_deinit(struct tokenizer_split *split) {
    for (int i = 0; i < split->count; i++) {
        tokenizer_regex_deinit(&split->steps[i].pattern);
        text_buffer_deinit(&split->steps[i].mark);
    }
    *split = (struct tokenizer_split){0};
}

/* Where a cutting step stands: the piece that may still grow, and what came before. */
struct cutter {
    const struct tokenizer_split *split;
    const struct tokenizer_split_run *run;
    int step;
    const char *text;
    bool has_pending; /* [pending_start, pending_end) is not handed on yet */
    bool pending_is_match;
    size_t pending_start;
    size_t pending_end;
};

static enum status run_step(const struct tokenizer_split *split,
                            const struct tokenizer_split_run *run, int step, const char *text,
                            size_t length);

static enum status hand_on(const struct cutter *cutter, size_t start, size_t end) {
    if (start == end)
        return STATUS_OK;
    struct tokenizer_split_run inner = *cutter->run;
    inner.at_start = inner.at_start && start == 0;
    return run_step(cutter->split, &inner, cutter->step + 1, cutter->text + start, end - start);
}

static enum status flush(struct cutter *cutter) {
    if (!cutter->has_pending)
        return STATUS_OK;
    cutter->has_pending = false;
    return hand_on(cutter, cutter->pending_start, cutter->pending_end);
}

/* Whether a piece belongs to the pending one. A match goes to the text before it or the text goes
 * to the match before it, unless that has a match of its own already. */
static bool joins(const struct cutter *cutter, enum tokenizer_split_behavior behavior,
                  bool is_match) {
    if (!cutter->has_pending)
        return false;
    switch (behavior) {
    case TOKENIZER_SPLIT_MERGED_WITH_PREVIOUS:
        return is_match && !cutter->pending_is_match;
    case TOKENIZER_SPLIT_MERGED_WITH_NEXT:
        return !is_match && cutter->pending_is_match;
    case TOKENIZER_SPLIT_CONTIGUOUS:
        return is_match == cutter->pending_is_match;
    case TOKENIZER_SPLIT_ISOLATED:
    case TOKENIZER_SPLIT_REMOVED:
        break;
    }
    return false;
}

/* Takes the next stretch of text, which is a match or lies between matches. */
static enum status take(struct cutter *cutter, size_t start, size_t end, bool matched) {
    const struct tokenizer_split_step *step = &cutter->split->steps[cutter->step];
    bool is_match = matched != step->invert;
    if (step->behavior == TOKENIZER_SPLIT_ISOLATED)
        return hand_on(cutter, start, end);
    if (step->behavior == TOKENIZER_SPLIT_REMOVED)
        return is_match ? STATUS_OK : hand_on(cutter, start, end);
    if (joins(cutter, step->behavior, is_match)) {
        cutter->pending_end = end;
        cutter->pending_is_match = is_match;
        return STATUS_OK;
    }
    RETURN_IF_ERROR(flush(cutter));
    cutter->has_pending = true;
    cutter->pending_is_match = is_match;
    cutter->pending_start = start;
    cutter->pending_end = end;
    return STATUS_OK;
}

static enum status cut(const struct tokenizer_split *split, const struct tokenizer_split_run *run,
                       int step, const char *text, size_t length) {
    struct cutter cutter = {.split = split, .run = run, .step = step, .text = text};
    size_t done = 0;
    size_t from = 0;
    bool had_match = false;
    while (from <= length) {
        size_t start;
        size_t end;
        RETURN_IF_ERROR(tokenizer_regex_search(&split->steps[step].pattern, &run->scratch->regex,
                                               text, length, from, &start, &end));
        if (start > length)
            break;
        if (start == end && had_match && start == done) { /* no empty match right after a match */
            size_t size = 1;
            if (from < length)
                tokenizer_utf8_read(text + from, &size);
            from += size;
            continue;
        }
        if (done < start)
            RETURN_IF_ERROR(take(&cutter, done, start, false));
        RETURN_IF_ERROR(take(&cutter, start, end, true));
        done = from = end;
        had_match = true;
    }
    if (done < length)
        RETURN_IF_ERROR(take(&cutter, done, length, false));
    return flush(&cutter);
}

static bool starts_with(const char *text, size_t length, const struct text_buffer *mark) {
    return length >= mark->length && memcmp(text, mark->data, mark->length) == 0;
}

/* The piece with spaces replaced and the mark before it, where the step asks for that. */
static enum status rewrite(const struct tokenizer_split_step *step,
                           const struct tokenizer_split_run *run, struct text_buffer *out,
                           const char **text, size_t *length) {
    const struct text_buffer *mark = &step->mark;
    bool has_mark = starts_with(*text, *length, mark) || (step->replaces_space && **text == ' ');
    bool prepends =
        !has_mark && (step->prepend == TOKENIZER_SPLIT_PREPEND_ALWAYS ||
                      (step->prepend == TOKENIZER_SPLIT_PREPEND_FIRST && run->at_start));
    if (!prepends && !step->replaces_space)
        return STATUS_OK;
    out->length = 0;
    if (prepends)
        RETURN_IF_ERROR(text_buffer_append(out, mark->data, mark->length));
    size_t done = 0;
    for (size_t i = 0; step->replaces_space && i < *length; i++) {
        if ((*text)[i] != ' ')
            continue;
        RETURN_IF_ERROR(text_buffer_append(out, *text + done, i - done));
        RETURN_IF_ERROR(text_buffer_append(out, mark->data, mark->length));
        done = i + 1;
    }
    RETURN_IF_ERROR(text_buffer_append(out, *text + done, *length - done));
    *text = out->data;
    *length = out->length;
    return STATUS_OK;
}

/* Recursion as deep as there are steps: at most TOKENIZER_SPLIT_STEPS_MAX. */
static enum status run_step(const struct tokenizer_split *split,
                            const struct tokenizer_split_run *run, int step, const char *text,
                            size_t length) {
    if (step == split->count)
        return run->word(run->context, text, length);
    const struct tokenizer_split_step *now = &split->steps[step];
    if (now->mark.length > 0)
        RETURN_IF_ERROR(rewrite(now, run, &run->scratch->texts[step], &text, &length));
    if (!now->cuts)
        return run_step(split, run, step + 1, text, length);
    return cut(split, run, step, text, length);
}

enum status tokenizer_split_text(const struct tokenizer_split *split,
                                 const struct tokenizer_split_run *run, const char *text,
                                 size_t length) {
    return length == 0 ? STATUS_OK : run_step(split, run, 0, text, length);
}
