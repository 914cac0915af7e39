/* moebius tokenize: text to ids and back, one text or one JSON object a line. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "launcher/commands.h"
#include "launcher/engine_flags.h"
#include "launcher/generate_prompt.h"
#include "launcher/model_folder.h"
#include "runtime/json_lines.h"
#include "runtime/json_writer.h"
#include "runtime/tokenizer.h"

struct tokenize_flags {
    const char *model;
    bool jsonl, decode, add_special, skip_special, plain_special;
};

/* Buffers that are used again for every line. */
struct tokenize_run {
    const struct tokenize_flags *flags;
    struct tokenizer *tokenizer;
    struct text_buffer text[2]; /* without and with what the second key of an answer says */
    struct token_list ids[2];
};

static unsigned encode_flags(const struct tokenize_flags *flags, bool add_special) {
    return (add_special ? (unsigned)TOKENIZER_ADD_SPECIAL : 0u) |
           (flags->plain_special ? (unsigned)TOKENIZER_PLAIN_SPECIAL : 0u);
}

static enum status encode_line(struct tokenize_run *run, int64_t number, const char *line,
                               size_t length) {
    struct text_buffer *text = &run->text[0];
    text->length = 0;
    RETURN_IF_ERROR(json_lines_text("standard input", number, line, length, text));
    for (int special = 0; special < 2; special++) {
        run->ids[special].count = 0;
        RETURN_IF_ERROR(tokenizer_encode(
            run->tokenizer, text->data, text->length,
            encode_flags(run->flags, special == 1 || run->flags->add_special), &run->ids[special]));
    }
    struct json_writer json = {.out = stdout};
    json_writer_begin_object(&json, NULL);
    json_writer_integers(&json, "ids", run->ids[0].ids, run->ids[0].count);
    json_writer_integers(&json, "ids_with_special", run->ids[1].ids, run->ids[1].count);
    json_writer_end_object(&json);
    putchar('\n');
    return STATUS_OK;
}

static enum status decode_line(struct tokenize_run *run, int64_t number, const char *line,
                               size_t length) {
    struct token_list *ids = &run->ids[0];
    ids->count = 0;
    RETURN_IF_ERROR(json_lines_ids("standard input", number, line, length, ids));
    for (int skip = 0; skip < 2; skip++) {
        run->text[skip].length = 0;
        RETURN_IF_ERROR(tokenizer_decode(run->tokenizer, ids->ids, ids->count,
                                         skip == 1 || run->flags->skip_special, &run->text[skip]));
    }
    struct json_writer json = {.out = stdout};
    json_writer_begin_object(&json, NULL);
    json_writer_string(&json, "text", run->text[0].data, run->text[0].length);
    json_writer_string(&json, "text_skip_special", run->text[1].data, run->text[1].length);
    json_writer_end_object(&json);
    putchar('\n');
    return STATUS_OK;
}

static enum status run_lines(struct tokenize_run *run) {
    char *line = NULL;
    size_t capacity = 0;
    enum status status = STATUS_OK;
    for (int64_t number = 1; status == STATUS_OK; number++) {
        ssize_t length = getline(&line, &capacity, stdin);
        if (length < 0)
            break;
        if (line[strspn(line, " \t\r\n")] == '\0')
            continue;
        status = run->flags->decode ? decode_line(run, number, line, (size_t)length)
                                    : encode_line(run, number, line, (size_t)length);
    }
    if (status == STATUS_OK && ferror(stdin)) {
        LOG_ERROR("standard input: expected lines to read, got: %s", strerror(errno));
        status = STATUS_IO;
    }
    free(line);
    return status;
}

static enum status run_one(struct tokenize_run *run, const char *operand) {
    ASSERT(operand != NULL);
    struct text_buffer *text = &run->text[0];
    struct token_list *ids = &run->ids[0];
    if (run->flags->decode) {
        RETURN_IF_ERROR(generate_prompt_parse_ids("ids", operand, ids));
        RETURN_IF_ERROR(
            tokenizer_decode(run->tokenizer, ids->ids, ids->count, run->flags->skip_special, text));
        fwrite(text->data, 1, text->length, stdout);
    } else {
        RETURN_IF_ERROR(tokenizer_encode(run->tokenizer, operand, strlen(operand),
                                         encode_flags(run->flags, run->flags->add_special), ids));
        for (int64_t i = 0; i < ids->count; i++)
            printf("%s%d", i > 0 ? " " : "", ids->ids[i]);
    }
    putchar('\n');
    return STATUS_OK;
}

static enum status tokenize(const struct tokenize_flags *flags, const char *operand) {
    char folder[FLAGS_PATH_MAX], path[FLAGS_PATH_MAX + 32];
    RETURN_IF_ERROR(model_folder_resolve(flags->model, folder, sizeof folder));
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    struct tokenize_run run = {.flags = flags};
    RETURN_IF_ERROR(tokenizer_load(path, &run.tokenizer));
    enum status status = flags->jsonl ? run_lines(&run) : run_one(&run, operand);
    tokenizer_destroy(run.tokenizer);
    for (int i = 0; i < 2; i++) {
        text_buffer_deinit(&run.text[i]);
        token_list_deinit(&run.ids[i]);
    }
    return status;
}

enum status command_tokenize(int argc, char **argv) {
    struct tokenize_flags flags = {0};
    const struct option_entry entries[] = {
        {.kind = OPTION_HEADING, .name = "Options"},
        {OPTION_STRING, "model", &flags.model, "DIR",
         "a folder with tokenizer.json; default: the demo model", 0, 0},
        {OPTION_FLAG, "decode", &flags.decode, NULL, "ids to text", 0, 0},
        {OPTION_FLAG, "jsonl", &flags.jsonl, NULL,
         "standard input, one JSON object a line, as above", 0, 0},
        {OPTION_FLAG, "add-special-tokens", &flags.add_special, NULL,
         "with the tokens that the tokenizer puts around a text (BOS, ...)", 0, 0},
        {OPTION_FLAG, "skip-special-tokens", &flags.skip_special, NULL,
         "with --decode: leaves special tokens out", 0, 0},
        {OPTION_FLAG, "plain-special-tokens", &flags.plain_special, NULL,
         "names of special tokens in the text are plain text", 0, 0},
    };
    struct option_command command = {
        .name = "tokenize",
        .usage = "[options] [TEXT | \"1 2 3\"]",
        .summary =
            "Text to token ids and back, exactly as Hugging Face's tokenizers do it.\n"
            "--jsonl: lines {\"text\"} in, {\"ids\", \"ids_with_special\"} out; with --decode "
            "{\"ids\"} in,\n{\"text\", \"text_skip_special\"} out.",
        .entries = entries,
        .count = sizeof entries / sizeof entries[0]};
    struct options_line line = {.only = NULL};
    RETURN_IF_ERROR(options_parse(&command, argc, argv, &line));
    if (line.help) {
        options_help(&command);
        return STATUS_OK;
    }
    int operands = argc - line.first_operand;
    if (operands != (flags.jsonl ? 0 : 1)) {
        LOG_ERROR("tokenize: expected %s, got %d operands",
                  flags.jsonl ? "no operand beside --jsonl" : "one text (or ids with --decode)",
                  operands);
        return STATUS_USAGE;
    }
    return tokenize(&flags, flags.jsonl ? NULL : argv[line.first_operand]);
}
