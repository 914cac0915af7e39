/* moebius chat: a conversation with a running server, a line of standard input a turn. The server
 * renders it by the model's own chat template; the history is kept here. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/base/log.h"
#include "launcher/client_session.h"
#include "launcher/commands.h"
#include "runtime/json_writer.h"

#define CHAT_ENTRIES 2

struct chat_flags {
    struct client_flags client;
    const char *system;
};

struct conversation {
    const struct chat_flags *flags;
    struct client_session *session;
    struct chat_message *messages; /* [capacity]; contents on the heap */
    int32_t count, capacity;
    struct text_buffer answer; /* as far as it has come */
    const char *finish;        /* a constant */
    int32_t prompt_tokens, completion_tokens;
    bool lost_text; /* the answer did not fit memory */
};

/* Adds a message; the text is copied. */
static enum status add(struct conversation *talk, const char *role, const char *text,
                       size_t length) {
    if (talk->count == talk->capacity) {
        int32_t capacity = talk->capacity > 0 ? 2 * talk->capacity : 16;
        struct chat_message *messages =
            realloc(talk->messages, (size_t)capacity * sizeof *messages);
        if (messages == NULL)
            return STATUS_NO_MEMORY;
        talk->messages = messages;
        talk->capacity = capacity;
    }
    char *copy = malloc(length + 1);
    if (copy == NULL)
        return STATUS_NO_MEMORY;
    if (length > 0)
        memcpy(copy, text, length);
    copy[length] = '\0';
    talk->messages[talk->count++] = (struct chat_message){.role = role, .content = copy};
    return STATUS_OK;
}

/* Drops the messages behind the first `count`. */
static void cut(struct conversation *talk, int32_t count) {
    while (talk->count > count) {
        char *content;
        memcpy(&content, &talk->messages[--talk->count].content, sizeof content);
        free(content);
    }
}

static bool on_chunk(void *context, const struct rpc_inference_client_chunk *chunk) {
    struct conversation *talk = context;
    if (chunk->finish != NULL) {
        talk->finish = chunk->finish;
        talk->prompt_tokens = chunk->prompt_tokens;
        talk->completion_tokens = chunk->completion_tokens;
    }
    if (chunk->text_bytes == 0)
        return true;
    talk->lost_text =
        text_buffer_append(&talk->answer, chunk->text, chunk->text_bytes) != STATUS_OK;
    if (talk->lost_text)
        return false;
    if (talk->flags->client.json)
        return true;
    fwrite(chunk->text, 1, chunk->text_bytes, stdout);
    return fflush(stdout) == 0;
}

static void print_json(const struct conversation *talk) {
    struct json_writer json = {.out = stdout};
    json_writer_begin_object(&json, NULL);
    json_writer_text(&json, "role", "assistant");
    json_writer_string(&json, "content", talk->answer.length > 0 ? talk->answer.data : "",
                       talk->answer.length);
    json_writer_text(&json, "finish_reason", talk->finish != NULL ? talk->finish : "interrupted");
    json_writer_integer(&json, "prompt_tokens", talk->prompt_tokens);
    json_writer_integer(&json, "completion_tokens", talk->completion_tokens);
    json_writer_end_object(&json);
}

/* How many messages stand before all turns. */
static int32_t first_of(const struct conversation *talk) {
    return talk->flags->system != NULL ? 1 : 0;
}

/* Drops the oldest turns, questions with their answers. */
static void leave_out(struct conversation *talk, int32_t turns) {
    struct chat_message *first = talk->messages + first_of(talk);
    for (int32_t i = 0; i < 2 * turns; i++) {
        char *content;
        memcpy(&content, &first[i].content, sizeof content);
        free(content);
    }
    talk->count -= 2 * turns;
    memmove(first, first + 2 * turns, (size_t)(talk->count - first_of(talk)) * sizeof *first);
}

/* Asks what stands last, with as many of the turns before it as fit; when it does not fit alone
 * either, nothing is dropped. *said: what went wrong at last. */
static enum status ask(struct conversation *talk, struct generation_request *request,
                       struct log_diverted *said) {
    int32_t first = first_of(talk), old = (talk->count - first) / 2, turns = 0;
    struct rpc_inference_client_wishes wishes = {.token_ids = false};
    struct chat_message *messages = malloc((size_t)talk->count * sizeof *messages);
    if (messages == NULL) {
        LOG_ERROR("chat: cannot take memory for the request");
        return STATUS_NO_MEMORY;
    }
    memcpy(messages, talk->messages, (size_t)talk->count * sizeof *messages);
    struct chat_input chat = {.messages = messages, .message_count = talk->count};
    request->chat = &chat;
    enum status status;
    for (;; turns++) {
        log_divert_begin(said);
        status = client_session_run(talk->session, request, &wishes, on_chunk, talk);
        log_divert_end();
        if (!client_session_was_too_long(talk->session) || turns == old)
            break;
        chat.message_count -= 2;
        memmove(messages + first, messages + first + 2,
                (size_t)(chat.message_count - first) * sizeof *messages);
    }
    free(messages);
    if (status == STATUS_OK && turns > 0) {
        leave_out(talk, turns);
        LOG_WARN("the conversation no longer fits the context: %d of its oldest turns left out",
                 turns);
    }
    return status;
}

/* One turn. An interrupted answer stands as far as it came; a refused turn is taken back. */
static enum status answer(struct conversation *talk, const struct text_buffer *line) {
    struct generation_request request;
    int32_t before = talk->count;
    RETURN_IF_ERROR(client_flags_request(&talk->flags->client, &request));
    RETURN_IF_ERROR(add(talk, "user", line->data, line->length));
    struct log_diverted said = {.text = ""};
    talk->answer.length = 0;
    talk->finish = NULL;
    enum status status = ask(talk, &request, &said);
    if (said.text[0] != '\0')
        LOG_ERROR("%s", said.text);
    if (status == STATUS_OK && talk->lost_text) {
        LOG_ERROR("chat: cannot take memory for the answer");
        status = STATUS_NO_MEMORY;
    }
    if (status != STATUS_OK && status != STATUS_INTERRUPTED) {
        cut(talk, before); /* nothing was left out */
        return status;
    }
    if (talk->flags->client.json)
        print_json(talk);
    putchar('\n');
    fflush(stdout);
    return add(talk, "assistant", talk->answer.data, talk->answer.length);
}

/* A server that went away, or a key that it does not take, will not be better at the next line. */
static bool is_final(enum status status) {
    return status == STATUS_UNAVAILABLE || status == STATUS_DENIED || status == STATUS_NO_MEMORY ||
           status == STATUS_USAGE || status == STATUS_INTERNAL || status == STATUS_UNSUPPORTED;
}

static enum status talk_on(struct conversation *talk) {
    bool is_prompted = isatty(STDIN_FILENO) != 0 && isatty(STDOUT_FILENO) != 0;
    struct text_buffer line = {0};
    enum status status = STATUS_OK, last = STATUS_OK;
    bool is_over = false;
    if (is_prompted)
        fputs("One message a line; Ctrl-C stops an answer, Ctrl-D ends.\n", stdout);
    while (status == STATUS_OK && ferror(stdout) == 0) {
        if (is_prompted) {
            fputs("> ", stdout);
            fflush(stdout);
        }
        status = client_session_read_line(talk->session, &line, &is_over);
        if (status != STATUS_OK || is_over)
            break;
        if (line.length == 0)
            continue;
        enum status turn = answer(talk, &line);
        status = is_final(turn) ? turn : STATUS_OK;
        last = turn != STATUS_OK && !is_prompted ? turn : last;
    }
    if (is_prompted)
        putchar('\n');
    text_buffer_deinit(&line);
    return status != STATUS_OK ? status : last;
}

static enum status chat(const struct chat_flags *flags, int argc, char **argv) {
    int operand = flags->client.settings.first_operand;
    if (operand < argc) {
        LOG_ERROR("chat: expected no operand (messages come from standard input), got '%s'",
                  argv[operand]);
        return STATUS_USAGE;
    }
    struct conversation talk = {.flags = flags};
    enum status status = STATUS_OK;
    if (flags->system != NULL)
        status = add(&talk, "system", flags->system, strlen(flags->system));
    if (status == STATUS_OK)
        status = client_session_create(&flags->client, &talk.session);
    if (status == STATUS_OK)
        status = talk_on(&talk);
    client_session_destroy(talk.session);
    cut(&talk, 0);
    free(talk.messages);
    text_buffer_deinit(&talk.answer);
    return status;
}

enum status command_chat(int argc, char **argv) {
    struct chat_flags flags = {.client = client_flags_default(512)};
    struct option_entry entries[CHAT_ENTRIES + CLIENT_FLAGS_ENTRIES] = {
        {.kind = OPTION_HEADING, .name = "Conversation"},
        {OPTION_STRING, "system", &flags.system, "MESSAGE", "a system message before all others", 0,
         0},
    };
    struct option_command command = {
        .name = "chat",
        .usage = "[options]",
        .summary = "Talks with a running server (moebius serve), a line of standard input a turn. "
                   "Ctrl-C stops an\nanswer, Ctrl-C at the prompt or Ctrl-D ends.",
        .entries = entries};
    command.count = client_flags_entries(&flags.client, entries, CHAT_ENTRIES);
    struct settings *settings = &flags.client.settings;
    enum status status = settings_parse(&command, argc, argv, settings);
    if (status == STATUS_OK && !settings->answered)
        status = chat(&flags, argc, argv);
    settings_deinit(settings);
    return status;
}
