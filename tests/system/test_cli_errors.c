/* What moebius says to bad flags, prompts and models: the exit code of the cause (see
 * kernels/base/status.c), one line on standard error that names where, what was expected and what
 * was there, nothing on standard output; never a signal. Usage: test_cli_errors MOEBIUS */
#define _XOPEN_SOURCE 700
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "kernels/base/status.h"
#include "tests/support/expect.h"
#include "tests/support/model_variant.h"
#include "tests/support/program.h"

#define STORIES "tests/data/golden/stories260K"
#define MIXTRAL "tests/data/golden/mixtral"
#define LLAMA "tests/data/golden/llama" /* no tokenizer */
#define CONFIG "config.json"
#define WEIGHTS "model.safetensors"
#define INDEX "model.safetensors.index.json"
#define SHARD_1 "model-00001-of-00002.safetensors"
#define SHARD_2 "model-00002-of-00002.safetensors"
#define TOKENIZER "tokenizer.json"
#define ARGUMENTS_MAX 14
#define FILLED_MAX 32

/* ---- models, each with one fault ---- */

static const struct model_variant variants[] = {
    {"no-config", STORIES, CONFIG, VARIANT_REMOVE, NULL, NULL},
    {"config-empty", STORIES, CONFIG, VARIANT_CONTENT, NULL, ""},
    {"config-cut", STORIES, CONFIG, VARIANT_HALVE, NULL, NULL},
    {"config-array", STORIES, CONFIG, VARIANT_CONTENT, NULL, "[1]"},
    {"config-folder", STORIES, CONFIG, VARIANT_FOLDER, NULL, NULL},
    {"family-unknown", STORIES, CONFIG, VARIANT_REPLACE, "\"llama\"", "\"gpt2\""},
    {"family-none", STORIES, CONFIG, VARIANT_REPLACE, "\"model_type\"", "\"type_of_model\""},
    {"hidden-text", STORIES, CONFIG, VARIANT_REPLACE, "_size\": 64", "_size\": \"64\""},
    {"hidden-negative", STORIES, CONFIG, VARIANT_REPLACE, "_size\": 64", "_size\": -64"},
    {"hidden-wide", STORIES, CONFIG, VARIANT_REPLACE, "_size\": 64", "_size\": 128"},
    {"layers-more", STORIES, CONFIG, VARIANT_REPLACE, "layers\": 5", "layers\": 6"},
    {"layers-fewer", STORIES, CONFIG, VARIANT_REPLACE, "layers\": 5", "layers\": 4"},
    {"layers-huge", STORIES, CONFIG, VARIANT_REPLACE, "layers\": 5", "layers\": 99999999999"},
    {"heads-odd", STORIES, CONFIG, VARIANT_REPLACE, "attention_heads\": 8", "attention_heads\": 7"},
    {"vocabulary-more", STORIES, CONFIG, VARIANT_REPLACE, "vocab_size\": 512", "vocab_size\": 600"},
    {"activation", STORIES, CONFIG, VARIANT_REPLACE, "\"silu\"", "\"gelu\""},
    {"rope-magic", STORIES, CONFIG, VARIANT_REPLACE, "rope_scaling\": null",
     "rope_scaling\": {\"type\": \"magic\", \"factor\": 2.0}"},
    {"epsilon", STORIES, CONFIG, VARIANT_REPLACE, "1e-05", "-1e-05"},
    {"quantised", STORIES, CONFIG, VARIANT_REPLACE, "\"mlp_bias\": false",
     "\"quantization_config\": {\"quant_method\": \"gptq\"}"},
    {"positions-huge", STORIES, CONFIG, VARIANT_REPLACE, "position_embeddings\": 512",
     "position_embeddings\": 200000000"},
    {"generation-cut", STORIES, "generation_config.json", VARIANT_CONTENT, NULL, "{"},
    {"generation-eos", STORIES, "generation_config.json", VARIANT_CONTENT, NULL,
     "{\"eos_token_id\": \"two\"}"},

    {"no-weights", STORIES, WEIGHTS, VARIANT_REMOVE, NULL, NULL},
    {"weights-empty", STORIES, WEIGHTS, VARIANT_CONTENT, NULL, ""},
    {"weights-cut", STORIES, WEIGHTS, VARIANT_HALVE, NULL, NULL},
    {"weights-long", STORIES, WEIGHTS, VARIANT_APPEND, NULL, "x"},
    {"weights-text", STORIES, WEIGHTS, VARIANT_CONTENT, NULL, "version https://git-lfs\noid 1\n"},
    {"weights-folder", STORIES, WEIGHTS, VARIANT_FOLDER, NULL, NULL},
    {"header-cut", STORIES, WEIGHTS, VARIANT_HEADER, "{\"__metadata__\"", "\"__metadata__\""},
    {"tensor-renamed", STORIES, WEIGHTS, VARIANT_HEADER, "model.norm.weight", "model.morn.weight"},
    {"tensor-twice", STORIES, WEIGHTS, VARIANT_HEADER, "layers.0.mlp.up", "layers.0.mlp.gate"},
    {"tensor-integers", STORIES, WEIGHTS, VARIANT_HEADER, "\"F32\"", "\"I32\""},
    {"tensor-unknown-type", STORIES, WEIGHTS, VARIANT_HEADER, "\"F32\"", "\"X99\""},
    {"tensor-flat", STORIES, WEIGHTS, VARIANT_HEADER, "[512,64]", "[32768]"},
    {"tensor-turned", STORIES, WEIGHTS, VARIANT_HEADER, "[64,172]", "[172,64]"},
    {"tensor-negative", STORIES, WEIGHTS, VARIANT_HEADER, "[512,64]", "[-512,-64]"},
    {"tensor-overflow", STORIES, WEIGHTS, VARIANT_HEADER, "[512,64]", "[4294967296,4294967296]"},
    {"tensor-overlap", STORIES, WEIGHTS, VARIANT_HEADER, "[0,131072]", "[0,131328]"},
    {"weights-nan", STORIES, WEIGHTS, VARIANT_NAN, NULL, NULL},

    {"index-cut", MIXTRAL, INDEX, VARIANT_HALVE, NULL, NULL},
    {"index-no-map", MIXTRAL, INDEX, VARIANT_REPLACE, "\"weight_map\"", "\"map\""},
    {"index-shard-missing", MIXTRAL, SHARD_2, VARIANT_REMOVE, NULL, NULL},
    {"index-other-shard", MIXTRAL, INDEX, VARIANT_REPLACE, "lm_head.weight\": \"" SHARD_1,
     "lm_head.weight\": \"" SHARD_2},
    {"index-path", MIXTRAL, INDEX, VARIANT_REPLACE, "lm_head.weight\": \"",
     "lm_head.weight\": \"../"},
    {"index-tensor-lost", MIXTRAL, INDEX, VARIANT_REPLACE, "\"lm_head.weight\": \"" SHARD_1 "\",",
     ""},
    {"index-tensor-more", MIXTRAL, INDEX, VARIANT_REPLACE, "\"lm_head.weight\"",
     "\"more\": \"" SHARD_1 "\", \"lm_head.weight\""},
    {"shard-cut", MIXTRAL, SHARD_2, VARIANT_HALVE, NULL, NULL},

    {"no-tokenizer", STORIES, TOKENIZER, VARIANT_REMOVE, NULL, NULL},
    {"tokenizer-empty", STORIES, TOKENIZER, VARIANT_CONTENT, NULL, ""},
    {"tokenizer-cut", STORIES, TOKENIZER, VARIANT_HALVE, NULL, NULL},
    {"tokenizer-unigram", STORIES, TOKENIZER, VARIANT_REPLACE, "\"BPE\"", "\"Unigram\""},
    {"tokenizer-no-merges", STORIES, TOKENIZER, VARIANT_REPLACE, "\"merges\"", "\"murges\""},
};

/* ---- cases ---- */

struct error_case {
    enum status status;
    const char *arguments[ARGUMENTS_MAX]; /* "@x" is x in the test's folder */
    const char *parts[3];                 /* all of them stand in the message */
    const char *input;                    /* file in the test's folder for standard input */
};

#define STORY(folder)                                                                              \
    { "generate", "--model", folder, "--prompt", "Once" }
#define IDS(folder)                                                                                \
    { "generate", "--model", folder, "--token-ids", "1 2 3" }
#define DEMO(...)                                                                                  \
    { "generate", "--prompt", "hi", __VA_ARGS__ }

static const struct error_case cases[] = {
    /* commands and flags */
    {STATUS_USAGE, {"generte"}, {"generate, serve, complete", "'generte'"}, NULL},
    {STATUS_USAGE, {""}, {"expected one of the commands", "''"}, NULL},
    {STATUS_USAGE, {"--model"}, {"expected one of the commands", "'--model'"}, NULL},
    {STATUS_USAGE, DEMO("--frobnicate"), {"unknown", "'--frobnicate'", "--help"}, NULL},
    {STATUS_USAGE, DEMO("--frobnicate=1"), {"unknown", "'--frobnicate=1'"}, NULL},
    {STATUS_USAGE, DEMO("-abc"), {"unknown", "'-a'"}, NULL},
    {STATUS_USAGE, DEMO("--max-"), {"ambiguous", "'--max-'"}, NULL},
    {STATUS_USAGE, DEMO("--json=yes"), {"no value", "'--json=yes'"}, NULL},
    {STATUS_USAGE, {"generate", "--prompt"}, {"value is missing", "'--prompt'"}, NULL},
    {STATUS_USAGE, DEMO("--threads", "0"), {"--threads", "from 1 to", "'0'"}, NULL},
    {STATUS_USAGE, DEMO("--threads", "2x"), {"--threads", "whole number", "'2x'"}, NULL},
    {STATUS_USAGE, DEMO("--threads", "99999999999999999999"), {"--threads", "from 1 to"}, NULL},
    {STATUS_USAGE, DEMO("--threads", ""), {"--threads", "whole number", "''"}, NULL},
    {STATUS_USAGE, DEMO("--max-tokens", "0"), {"--max-tokens", "from 1 to", "'0'"}, NULL},
    {STATUS_USAGE, DEMO("--max-tokens", "1e3"), {"--max-tokens", "whole", "'1e3'"}, NULL},
    {STATUS_USAGE, DEMO("--min-tokens", "-1"), {"--min-tokens", "from 0", "'-1'"}, NULL},
    {STATUS_USAGE, DEMO("--temperature", "warm"), {"--temperature", "number", "'warm'"}, NULL},
    {STATUS_USAGE, DEMO("--temperature", "nan"), {"--temperature", "number", "'nan'"}, NULL},
    {STATUS_USAGE, DEMO("--temperature", "-0.5"), {"--temperature", "from 0", "'-0.5'"}, NULL},
    {STATUS_USAGE, DEMO("--top-p", "1.5"), {"--top-p", "from 0 to 1", "'1.5'"}, NULL},
    {STATUS_USAGE, DEMO("--top-k", "-2"), {"--top-k", "from -1", "'-2'"}, NULL},
    {STATUS_USAGE, DEMO("--min-p", "inf"), {"--min-p", "from 0 to 1", "'inf'"}, NULL},
    {STATUS_USAGE, DEMO("--seed", "-1"), {"--seed", "from 0", "'-1'"}, NULL},
    {STATUS_USAGE, DEMO("--seed", "18446744073709551616"), {"--seed", "2^64 - 1"}, NULL},
    {STATUS_USAGE, DEMO("--logprobs", "21", "--json"), {"--logprobs", "0 to 20", "'21'"}, NULL},
    {STATUS_USAGE, DEMO("--logprobs", "2"), {"--logprobs", "together with --json"}, NULL},
    {STATUS_USAGE, DEMO("--logit-bias", "7"), {"--logit-bias", "ID=BIAS", "'7'"}, NULL},
    {STATUS_USAGE, DEMO("--logit-bias", "7=x"), {"--logit-bias", "ID=BIAS", "'7=x'"}, NULL},
    {STATUS_USAGE, DEMO("--dtype", "int4"), {"--dtype", "float32", "'int4'"}, NULL},
    {STATUS_USAGE, DEMO("--load-format", "gguf"), {"--load-format", "dummy", "'gguf'"}, NULL},
    {STATUS_USAGE, DEMO("--cpu-isa", "sse9"), {"--cpu-isa", "avx2", "'sse9'"}, NULL},
    {STATUS_USAGE, DEMO("--log-level", "loud"), {"--log-level", "warn", "'loud'"}, NULL},
    {STATUS_USAGE, DEMO("--max-model-len", "3000"), {"--max-model-len", "2048", "3000"}, NULL},
    {STATUS_USAGE, DEMO("--max-num-batched-tokens", "0"), {"--max-num-batched-tokens"}, NULL},
    {STATUS_USAGE, {"generate", "a", "b"}, {"one prompt", "got 2"}, NULL},
    {STATUS_USAGE, {"generate", "--json"}, {"one prompt", "got 0"}, NULL},
    {STATUS_USAGE, DEMO("--file", "x"), {"one prompt", "got 2"}, NULL},
    {STATUS_USAGE, DEMO("--system", "be kind"), {"--system", "--chat"}, NULL},
    {STATUS_USAGE, DEMO("--dump-logits", "@d", "--dump-routing", "@d"), {"--dump-routing"}, NULL},
    {STATUS_USAGE, {"inspect", "a", "b"}, {"at most one folder", "got 2"}, NULL},
    {STATUS_USAGE, {"inspect", "--max-model-len", "4096"}, {"--max-model-len", "2048"}, NULL},
    {STATUS_USAGE, {"tokenize"}, {"one text", "got 0"}, NULL},
    {STATUS_USAGE, {"tokenize", "a", "b"}, {"one text", "got 2"}, NULL},
    {STATUS_USAGE, {"tokenize", "--jsonl", "a"}, {"no operand", "--jsonl"}, NULL},
    {STATUS_USAGE, {"bench"}, {"'latency'", "'nothing'"}, NULL},
    {STATUS_USAGE, {"bench", "speed"}, {"'latency'", "'speed'"}, NULL},
    {STATUS_USAGE, {"bench", "latency", "8"}, {"no operand", "'8'"}, NULL},
    {STATUS_USAGE, {"bench", "serve", "--request-rate", "0"}, {"--request-rate", "'0'"}, NULL},
    {STATUS_USAGE, {"bench", "serve", "--request-rate", "nan"}, {"--request-rate", "'nan'"}, NULL},
    {STATUS_USAGE, {"bench", "serve", "--goodput", "ttft:1 x:2"}, {"--goodput", "'x:2'"}, NULL},
    {STATUS_USAGE, {"bench", "serve", "--goodput", "ttft:"}, {"--goodput", "'ttft:'"}, NULL},
    {STATUS_USAGE, {"bench", "serve", "--trace"}, {"--trace", "--dataset-path"}, NULL},
    {STATUS_USAGE, {"bench", "serve", "--dataset-name", "own"}, {"--dataset-name", "'own'"}, NULL},
    {STATUS_USAGE, {"bench", "throughput", "--concurrency", "1,,4"}, {"'1,,4'"}, NULL},
    {STATUS_USAGE, {"bench", "throughput", "--concurrency", "0"}, {"--concurrency", "'0'"}, NULL},
    {STATUS_USAGE,
     {"bench", "throughput", "--max-model-len", "64"},
     {"--max-model-len", "at least 256"},
     NULL},
    {STATUS_BAD_REQUEST, {"bench", "throughput", "--random-input-len", "4000"}, {"2048"}, NULL},
    {STATUS_BAD_REQUEST, {"bench", "throughput", "--top-p", "0"}, {"top_p", "got 0"}, NULL},
    {STATUS_UNAVAILABLE, {"bench", "startup", "--", "--print-config"}, {"ready"}, NULL},
    {STATUS_IO, {"bench", "serve", "--dataset-path", "@nothing"}, {"nothing"}, NULL},
    {STATUS_IO, {"bench", "serve", "--html", "@nothing/page"}, {"nothing/page"}, NULL},
    {STATUS_UNAVAILABLE, {"bench", "serve", "--server", "127.0.0.1:1"}, {"127.0.0.1:1"}, NULL},
    {STATUS_USAGE, {"bench", "latency", "--prompt", "0", "--generate", "0"}, {"--prompt"}, NULL},
    {STATUS_USAGE, {"bench", "exchange"}, {"2 ranks or more", "got 1"}, NULL},
    {STATUS_USAGE, {"bench", "exchange", "--tokens", "0"}, {"--tokens", "'0'"}, NULL},
    {STATUS_USAGE, {"bench", "exchange", "more"}, {"no more arguments", "'more'"}, NULL},

    /* requests */
    {STATUS_BAD_REQUEST, {"generate", "--prompt", ""}, {"prompt", "at least one token"}, NULL},
    {STATUS_BAD_REQUEST, {"generate", "--file", "/dev/null"}, {"at least one token"}, NULL},
    {STATUS_BAD_REQUEST, {"generate", "--prompt", "a\xff\xfe"}, {"byte 1", "UTF-8", "0xff"}, NULL},
    {STATUS_BAD_REQUEST, {"generate", "--prompt", "\xed\xa0\x80"}, {"byte 0", "UTF-8"}, NULL},
    {STATUS_BAD_REQUEST, {"generate", "--file", "@latin"}, {"byte 3", "UTF-8", "0xe9"}, NULL},
    {STATUS_BAD_REQUEST, {"generate", "--file", "-"}, {"byte 3", "UTF-8", "0xe9"}, "latin"},
    {STATUS_BAD_REQUEST, {"generate", "--chat", "a\xff"}, {"UTF-8"}, NULL},
    {STATUS_BAD_REQUEST,
     {"generate", "--file", "@long"},
     {"at most 2048", "max_position_embeddings"},
     NULL},
    {STATUS_BAD_REQUEST,
     DEMO("--max-tokens", "4000"),
     {"at most 2048", "max_position_embeddings"},
     NULL},
    {STATUS_BAD_REQUEST, DEMO("--max-model-len", "20"), {"at most 20", "--max-model-len"}, NULL},
    {STATUS_BAD_REQUEST, {"generate", "--token-ids", ""}, {"--token-ids", "at least one"}, NULL},
    {STATUS_BAD_REQUEST, {"generate", "--token-ids", "1 two"}, {"--token-ids", "'two'"}, NULL},
    {STATUS_BAD_REQUEST, {"generate", "--token-ids", "1 2x"}, {"--token-ids", "'2x'"}, NULL},
    {STATUS_BAD_REQUEST, {"generate", "--token-ids", "1 -2"}, {"--token-ids", "'-2'"}, NULL},
    {STATUS_BAD_REQUEST, {"generate", "--token-ids", "99999999999"}, {"--token-ids"}, NULL},
    {STATUS_BAD_REQUEST, {"generate", "--token-ids", "1 4096"}, {"0 to 4095", "4096"}, NULL},
    {STATUS_BAD_REQUEST, DEMO("--top-p", "0"), {"top_p", "more than 0"}, NULL},
    {STATUS_BAD_REQUEST, DEMO("--temperature", "1e-9"), {"temperature", "1e-09"}, NULL},
    {STATUS_BAD_REQUEST, DEMO("--logit-bias", "4096=1"), {"logit_bias", "4095", "4096"}, NULL},
    {STATUS_BAD_REQUEST, DEMO("--logit-bias", "1=101"), {"logit_bias", "-100 to 100"}, NULL},
    {STATUS_BAD_REQUEST, DEMO("--min-tokens", "65"), {"--min-tokens", "at most", "65"}, NULL},
    {STATUS_BAD_REQUEST, DEMO("--stop", ""), {"stop", "at least one character"}, NULL},
    {STATUS_BAD_REQUEST,
     {"generate", "--model", LLAMA, "--token-ids", "1", "--stop", "x"},
     {"--stop", "tokenizer"},
     NULL},
    {STATUS_BAD_REQUEST,
     {"generate", "--model", STORIES, "Once", "--dump-routing", "@d"},
     {"--dump-routing", "experts", "llama"},
     NULL},
    {STATUS_BAD_REQUEST, {"tokenize", "--decode", "1 x"}, {"ids", "whole numbers", "'x'"}, NULL},
    {STATUS_BAD_REQUEST, {"tokenize", "\xc3("}, {"byte 0", "UTF-8"}, NULL},
    {STATUS_BAD_REQUEST, {"tokenize", "--jsonl"}, {"line 1", "JSON object"}, "latin"},
    {STATUS_BAD_REQUEST, {"tokenize", "--jsonl"}, {"line 1", "\"text\""}, "no-text.jsonl"},
    {STATUS_BAD_REQUEST,
     {"tokenize", "--jsonl", "--decode"},
     {"line 1", "\"ids\""},
     "no-text.jsonl"},
    {STATUS_USAGE,
     {"bench", "latency", "--batch-size", "9", "--max-num-batched-tokens", "8"},
     {"--batch-size"},
     NULL},
    {STATUS_BAD_REQUEST, {"bench", "latency", "--prompt", "4000"}, {"at most 2048"}, NULL},

    /* files and folders */
    {STATUS_IO, STORY("@nothing"), {"--model", "folder", "nothing"}, NULL},
    {STATUS_IO, STORY(STORIES "/config.json"), {"--model", "folder", "config.json"}, NULL},
    {STATUS_IO, STORY(""), {"--model", "folder", "''"}, NULL},
    {STATUS_IO, STORY("@empty"), {"tokenizer.json", "readable file"}, NULL},
    {STATUS_IO, IDS("@empty"), {"config.json", "readable file"}, NULL},
    {STATUS_IO, {"inspect", "@empty"}, {"config.json", "readable file"}, NULL},
    {STATUS_IO, {"tokenize", "--model", "@empty", "x"}, {"tokenizer.json"}, NULL},
    {STATUS_IO, STORY(LLAMA), {"llama/tokenizer.json", "readable file"}, NULL},
    {STATUS_IO, STORY("@no-tokenizer"), {"tokenizer.json", "readable file"}, NULL},
    {STATUS_IO, STORY("@no-config"), {"config.json", "readable file"}, NULL},
    {STATUS_IO, STORY("@config-folder"), {"config.json", "regular file"}, NULL},
    {STATUS_IO, {"generate", "--file", "@nothing"}, {"--file", "nothing"}, NULL},
    {STATUS_IO, {"generate", "--file", "@empty"}, {"--file", "empty", "directory"}, NULL},
    {STATUS_IO, DEMO("--dump-logits", "@nothing/x"), {"nothing/x", "create"}, NULL},
    {STATUS_IO, DEMO("--dump-logits", "/dev/full"), {"/dev/full", "regular file"}, NULL},
    {STATUS_IO, DEMO("--dump-routing", "@empty"), {"empty"}, NULL},
    {STATUS_IO, {"tokenize", "--jsonl"}, {"standard input"}, "empty"},

    /* config.json */
    {STATUS_BAD_CONFIG, STORY("@config-empty"), {"config.json"}, NULL},
    {STATUS_BAD_CONFIG, STORY("@config-cut"), {"config.json"}, NULL},
    {STATUS_BAD_CONFIG, STORY("@config-array"), {"config.json", "object"}, NULL},
    {STATUS_UNSUPPORTED, STORY("@family-unknown"), {"model_type", "qwen3_moe", "gpt2"}, NULL},
    {STATUS_BAD_CONFIG, STORY("@family-none"), {"model_type", "qwen3_moe"}, NULL},
    {STATUS_BAD_CONFIG, STORY("@hidden-text"), {"hidden_size", "whole number"}, NULL},
    {STATUS_BAD_CONFIG, STORY("@hidden-negative"), {"hidden_size", "-64"}, NULL},
    {STATUS_BAD_CHECKPOINT, STORY("@hidden-wide"), {"embed_tokens", "128", "64"}, NULL},
    {STATUS_BAD_CHECKPOINT, STORY("@layers-more"), {"layers.5"}, NULL},
    {STATUS_BAD_CHECKPOINT, STORY("@layers-fewer"), {"layers.4"}, NULL},
    {STATUS_BAD_CONFIG, STORY("@layers-huge"), {"num_hidden_layers", "99999999999"}, NULL},
    {STATUS_BAD_CONFIG, STORY("@heads-odd"), {"heads"}, NULL},
    {STATUS_BAD_CHECKPOINT, STORY("@vocabulary-more"), {"embed_tokens", "600", "512"}, NULL},
    {STATUS_UNSUPPORTED, STORY("@activation"), {"hidden_act", "silu", "gelu"}, NULL},
    {STATUS_UNSUPPORTED, STORY("@rope-magic"), {"rope_scaling", "magic"}, NULL},
    {STATUS_BAD_CONFIG, STORY("@epsilon"), {"rms_norm_eps", "-1e-05"}, NULL},
    {STATUS_UNSUPPORTED, STORY("@quantised"), {"quant_method", "gptq"}, NULL},
    {STATUS_BAD_CONFIG, STORY("@generation-cut"), {"generation_config.json"}, NULL},
    {STATUS_BAD_CONFIG, STORY("@generation-eos"), {"generation_config.json", "eos_token_id"}, NULL},
    {STATUS_NO_MEMORY,
     {"generate", "--model", "@positions-huge", "--max-model-len", "200000000", "Once"},
     {"memory plan", "expected at most", "--max-model-len"},
     NULL},

    /* checkpoints */
    {STATUS_IO, STORY("@no-weights"), {"no-weights", "safetensors"}, NULL},
    {STATUS_BAD_CHECKPOINT, STORY("@weights-empty"), {WEIGHTS}, NULL},
    {STATUS_BAD_CHECKPOINT, STORY("@weights-cut"), {WEIGHTS, "expected", "got"}, NULL},
    {STATUS_BAD_CHECKPOINT, STORY("@weights-long"), {WEIGHTS, "expected", "got"}, NULL},
    {STATUS_BAD_CHECKPOINT, STORY("@weights-text"), {WEIGHTS, "expected", "got"}, NULL},
    {STATUS_IO, STORY("@weights-folder"), {WEIGHTS}, NULL},
    {STATUS_BAD_CHECKPOINT, STORY("@header-cut"), {WEIGHTS}, NULL},
    {STATUS_BAD_CHECKPOINT, STORY("@tensor-renamed"), {"model.norm.weight"}, NULL},
    {STATUS_BAD_CHECKPOINT, STORY("@tensor-twice"), {WEIGHTS, "duplicate"}, NULL},
    {STATUS_BAD_CHECKPOINT, STORY("@tensor-integers"), {"embed_tokens", "F32", "I32"}, NULL},
    {STATUS_BAD_CHECKPOINT, STORY("@tensor-unknown-type"), {"embed_tokens", "X99"}, NULL},
    {STATUS_BAD_CHECKPOINT, STORY("@tensor-flat"), {"embed_tokens", "512", "32768"}, NULL},
    {STATUS_BAD_CHECKPOINT, STORY("@tensor-turned"), {"down_proj", "172", "64"}, NULL},
    {STATUS_BAD_CHECKPOINT, STORY("@tensor-negative"), {"embed_tokens", "shape[0]"}, NULL},
    {STATUS_BAD_CHECKPOINT, STORY("@tensor-overflow"), {"embed_tokens"}, NULL},
    {STATUS_BAD_CHECKPOINT, STORY("@tensor-overlap"), {"131328", "131072"}, NULL},
    {STATUS_INTERNAL, STORY("@weights-nan"), {"position 2", "NaN"}, NULL},
    {STATUS_BAD_CHECKPOINT, IDS("@index-cut"), {INDEX}, NULL},
    {STATUS_BAD_CHECKPOINT, IDS("@index-no-map"), {INDEX, "weight_map"}, NULL},
    {STATUS_IO, IDS("@index-shard-missing"), {SHARD_2}, NULL},
    {STATUS_BAD_CHECKPOINT, IDS("@index-other-shard"), {"lm_head.weight", SHARD_2}, NULL},
    {STATUS_BAD_CHECKPOINT, IDS("@index-path"), {"lm_head.weight", "../"}, NULL},
    {STATUS_BAD_CHECKPOINT, IDS("@index-tensor-lost"), {"lm_head.weight"}, NULL},
    {STATUS_BAD_CHECKPOINT, IDS("@index-tensor-more"), {"more", SHARD_1}, NULL},
    {STATUS_BAD_CHECKPOINT, IDS("@shard-cut"), {SHARD_2, "expected", "got"}, NULL},
    {STATUS_BAD_CHECKPOINT,
     {"bench", "latency", "--prompt", "8", "--generate", "8", "--model", "@weights-cut"},
     {WEIGHTS},
     NULL},

    /* tokenizers */
    {STATUS_BAD_TOKENIZER, STORY("@tokenizer-empty"), {TOKENIZER}, NULL},
    {STATUS_BAD_TOKENIZER, STORY("@tokenizer-cut"), {TOKENIZER}, NULL},
    {STATUS_UNSUPPORTED, STORY("@tokenizer-unigram"), {TOKENIZER, "BPE", "Unigram"}, NULL},
    {STATUS_BAD_TOKENIZER, STORY("@tokenizer-no-merges"), {TOKENIZER, "merges"}, NULL},
    {STATUS_BAD_TOKENIZER, {"tokenize", "--model", "@tokenizer-cut", "x"}, {TOKENIZER}, NULL},
    {STATUS_UNSUPPORTED, {"generate", "--model", STORIES, "--chat", "hi"}, {"chat template"}, NULL},
};

/* ---- running them ---- */

/* The case's arguments with the test's folder filled in; everything but an error is kept quiet
 * (tokenize has nothing else to say). */
struct filled {
    const char *arguments[FILLED_MAX];
    char paths[ARGUMENTS_MAX][256];
    char label[512];
};

static void fill(const struct program *program, const struct error_case *one,
                 struct filled *filled) {
    int count = 0;
    filled->label[0] = '\0';
    for (int i = 0; i < ARGUMENTS_MAX && one->arguments[i] != NULL; i++) {
        const char *argument = one->arguments[i];
        if (argument[0] == '@')
            program_scratch_path(program, argument + 1, filled->paths[i], sizeof filled->paths[i]);
        filled->arguments[count++] = argument[0] == '@' ? filled->paths[i] : argument;
        bool is_quiet = strcmp(argument, "generate") != 0 && strcmp(argument, "inspect") != 0 &&
                        strcmp(argument, "latency") != 0 && strcmp(argument, "throughput") != 0;
        if (i <= 1 && !is_quiet) {
            filled->arguments[count++] = "--log-level";
            filled->arguments[count++] = "error";
        }
        size_t used = strlen(filled->label);
        snprintf(filled->label + used, sizeof filled->label - used, " %.60s", argument);
    }
    filled->arguments[count] = NULL;
}

/* One line, of the log's form, that holds every part. */
static void check_message(const char *label, const struct program_run *run,
                          const char *const *parts, int count) {
    const char *end = strchr(run->err, '\n');
    EXPECT(end != NULL && end[1] == '\0', "%s: expected one line, got: %s", label, run->err);
    EXPECT(strstr(run->err, " error ") != NULL, "%s: no error: %s", label, run->err);
    for (int i = 0; i < count && parts[i] != NULL; i++)
        EXPECT(strstr(run->err, parts[i]) != NULL, "%s: no \"%s\" in: %s", label, parts[i],
               run->err);
}

static void check_case(const struct program *program, const struct error_case *one) {
    struct filled filled;
    struct program_run run;
    char input[256];
    fill(program, one, &filled);
    if (one->input != NULL)
        program_scratch_path(program, one->input, input, sizeof input);
    program_run(program, filled.arguments, one->input != NULL ? input : NULL, PROGRAM_KEPT, &run);
    EXPECT(run.exit_code == status_exit_code(one->status),
           "%s: expected exit code %d, got %d (signal %d): %s", filled.label,
           status_exit_code(one->status), run.exit_code, run.signal, run.err);
    EXPECT(run.out_size == 0, "%s: on standard output: %.200s", filled.label, run.out);
    check_message(filled.label, &run, one->parts, 3);
    program_run_deinit(&run);
}

/* The folder that the cases name with "@". */
static void prepare(const struct program *program) {
    char path[256];
    program_scratch_path(program, "empty", path, sizeof path);
    if (mkdir(path, 0700) != 0)
        exit(1);
    program_scratch_path(program, "latin", path, sizeof path);
    program_write_file(path, "caf\xe9\n", 5);
    program_scratch_path(program, "no-text.jsonl", path, sizeof path);
    program_write_file(path, "{\"words\": 1}\n", 13);
    char *text = malloc(20000);
    if (text == NULL)
        exit(1);
    for (size_t i = 0; i < 20000; i += 4)
        memcpy(text + i, "xyz ", 4);
    program_scratch_path(program, "long", path, sizeof path);
    program_write_file(path, text, 20000);
    free(text);
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++)
        model_variant_make(&variants[i], program->folder);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: test_cli_errors MOEBIUS\n");
        return 2;
    }
    struct program program;
    program_init(&program, argv[1]);
    prepare(&program);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_case(&program, &cases[i]);
    printf("%zu cases\n", sizeof cases / sizeof cases[0]);
    program_deinit(&program);
    return expect_failures == 0 ? 0 : 1;
}
