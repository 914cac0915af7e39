"""echo with logprobs on /v1/completions, which evaluation harnesses score by: the prompt's tokens stand before the new
ones, with the values of gRPC's prompt_logprobs and of dumped logits."""
import json
import math
import os
import struct
import subprocess
import tempfile

from serve_client import Answer, Server, make_request, pb
from test_http import PROMPT, Door


def told(choices):
    """What of choices, whole or as they came in events, is the same in both: by index, in order."""
    joined = {}
    for part in choices:
        own = joined.setdefault(part["index"], {"text": "", "tokens": [], "token_logprobs": [], "top_logprobs": [],
                                                "text_offset": []})
        own["text"] += part["text"]
        own["finish_reason"] = part["finish_reason"]
        for name, values in (part["logprobs"] or {}).items():
            own[name] += values
    return [joined[index] for index in sorted(joined)]


def without_twins(pairs):
    assert len(dict(pairs)) == len(pairs), pairs
    return dict(pairs)


def check_likeness(door):
    """Whole and streamed, prompt and choice by prompt and choice; text and list of ids are the same."""
    fields = {"prompt": [PROMPT, "One", [5], [5, 6, 7]], "n": 2, "max_tokens": 3, "temperature": 1, "seed": 3,
              "echo": True, "logprobs": 2}
    choices = door.complete(**fields)["choices"]
    whole = told(choices)
    assert whole == told(part for event in door.stream("/v1/completions", **fields) for part in event["choices"])
    assert len(whole) == 8 and not any("prompt_logprobs" in choice for choice in choices)
    for number, choice in enumerate(whole):
        prompt = fields["prompt"][number // 2]
        text, offsets = choice["text"], choice["text_offset"] + [len(choice["text"])]
        assert [text[a:b] for a, b in zip(offsets, offsets[1:])] == choice["tokens"] and offsets[0] == 0
        assert choice["token_logprobs"][0] is choice["top_logprobs"][0] is None
        assert all(2 <= len(top) <= 3 and top[token] == value for token, top, value in
                   list(zip(choice["tokens"], choice["top_logprobs"], choice["token_logprobs"]))[1:])
        assert text.startswith(prompt) if isinstance(prompt, str) else len(choice["tokens"]) == len(prompt) + 3
        alone = door.complete(**{**fields, "prompt": prompt})["choices"]
        assert told(alone)[number % 2] == choice
    # What is told of the prompt by another name does not change it; nor does the number there.
    for most in (0, 5):
        both = door.complete(**fields, prompt_logprobs=most)["choices"]
        assert told(both) == whole and len(both[0]["prompt_logprobs"][1]) in (most, most + 1)
    # A character of several tokens: all of them begin where it does.
    part = told(door.complete(prompt="m\u00e9 \U0001f642x", max_tokens=1, temperature=0, echo=True, logprobs=0)["choices"])[0]
    assert part["text_offset"] == [0, 1, 2, 3, 3, 3, 3, 4, 5], part
    # Tokens that are parts of characters may be written alike: the likeliest of them stays, whoever reads it.
    connection = door.connect()
    connection.request("POST", "/v1/completions", json.dumps({"prompt": "m\u00e9 \U0001f642x", "max_tokens": 0,
                                                              "echo": True, "logprobs": 20}))
    json.loads(connection.getresponse().read(), object_pairs_hook=without_twins)
    connection.close()


def check_alone(door):
    """max_tokens 0: the prompt's scores and nothing else."""
    made = door.metric("moebius_generation_tokens_total")
    for prompt in (PROMPT, [5], [[5, 6, 7], [8, 9]]):
        fields = {"prompt": prompt, "n": 2, "temperature": 0, "echo": True, "logprobs": 1}
        answer = door.complete(**fields, max_tokens=0)
        usage, whole = answer["usage"], told(answer["choices"])
        assert usage["completion_tokens"] == 0 and usage["total_tokens"] == usage["prompt_tokens"] > 0
        assert door.metric("moebius_generation_tokens_total") == made
        events = door.stream("/v1/completions", **fields, max_tokens=0)
        assert told(part for event in events for part in event["choices"]) == whole
        more = told(door.complete(**fields, max_tokens=1)["choices"])
        made += len(more)
        for choice, longer in zip(whole, more):
            assert choice["finish_reason"] == "length" and longer["text"].startswith(choice["text"])
            assert all(choice[name] == longer[name][:-1] for name in ("tokens", "token_logprobs", "top_logprobs"))
    silent = door.complete(prompt=PROMPT, max_tokens=0, echo=True)["choices"][0]
    assert silent["text"] == PROMPT and silent["logprobs"] is None
    for path, fields, said in (
            ("/v1/completions", {"prompt": "x", "max_tokens": 0, "logprobs": 1}, "max_tokens: expected an integer from 1"),
            ("/v1/completions", {"prompt": "x", "max_tokens": 0, "echo": True, "min_tokens": 1}, "min_tokens"),
            ("/v1/completions", {"prompt": "x", "echo": True, "logprobs": 21}, "logprobs: expected -1 to 20, got 21"),
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "max_tokens": 0, "echo": True},
             "max_tokens: expected an integer from 1")):
        status, _, answer = door.call("POST", path, fields)
        assert status == 400 and said in answer["error"]["message"], (fields, answer)


def dump_logits(ids):
    """The logits of each position, by another process."""
    with tempfile.NamedTemporaryFile() as file:
        subprocess.run([os.environ["MOEBIUS"], "generate", "--token-ids", " ".join(map(str, ids)), "--max-tokens", "1",
                        "--dump-logits", file.name], check=True, capture_output=True)
        data = file.read()
    begin = 8 + struct.unpack_from("<Q", data)[0]
    rows, vocabulary = json.loads(data[8:begin])["logits"]["shape"]
    return [struct.unpack_from(f"<{vocabulary}f", data, begin + 4 * vocabulary * row) for row in range(rows)]


def check_values(server, door, finds_prefixes):
    """The scores of a context and its continuation, as evaluation harnesses add them up: those of gRPC's
    prompt_logprobs and of the logits that generate dumps, computed or found in the prefix cache."""
    request = make_request(PROMPT, 12, temperature=0)
    request.output.echo = True
    head = next(server.stream(request))
    context = list(head.prompt_token_ids)
    greedy = Answer(server.stream(request)).ids[0]
    other = greedy[:5] + [greedy[5] + 1] + greedy[6:]
    scored = []
    for continuation in (greedy, other, greedy):
        ids = context + list(continuation)
        fields = {"prompt": [ids], "temperature": 0, "echo": True, "logprobs": 1, "seed": 1234}
        choice = door.complete(**fields, max_tokens=1)["choices"][0]["logprobs"]
        values, tops = choice["token_logprobs"][len(context):-1], choice["top_logprobs"][len(context):-1]
        scored.append((sum(values), all(value == max(top.values()) for value, top in zip(values, tops))))
        assert door.complete(**fields, max_tokens=0)["choices"][0]["logprobs"]["token_logprobs"] == \
            choice["token_logprobs"][:-1]
        rpc = pb.GenerateRequest()
        rpc.tokens.ids.extend(ids)
        rpc.stop.max_new_tokens = 1
        rpc.output.prompt_logprobs = True
        by_rpc = [logprob.logprob for logprob in next(server.stream(rpc)).prompt_logprobs]
        assert [struct.unpack("f", struct.pack("f", v))[0] for v in choice["token_logprobs"][1:-1]] == by_rpc[1:]
        direct = []
        for logits, token in zip(dump_logits(ids), ids[1:]):
            greatest = max(logits)
            direct.append(logits[token] - greatest - math.log(sum(math.exp(x - greatest) for x in logits)))
        assert all(abs(a - b) < 3e-6 for a, b in zip(direct, choice["token_logprobs"][1:]))
        assert abs(sum(direct[len(context) - 1:]) - scored[-1][0]) < 1e-5
    assert scored[0] == scored[2] and scored[0][1] and not scored[1][1] and scored[1][0] < scored[0][0]
    cached = door.complete(prompt=context + greedy, max_tokens=1)["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert (cached >= 16) == finds_prefixes  # the control: others would have found it


def check_specials():
    """What the text does not show takes no room: a BOS that the tokenizer adds, the space that it puts before words."""
    with Server("--model", "tests/data/golden/stories260K", "--threads", "1", "--kv-cache-memory", "16M") as server:
        door = Door(server)
        ids = door.complete(prompt="Once<s>upon a time", max_tokens=1, return_token_ids=True)["choices"][0]
        for fields, text, offsets in (
                ({"prompt": "Once<s>upon a time"}, "Once<s>upon a time", [0, 0, 4, 7, 11, 13]),
                ({"prompt": ids["prompt_token_ids"]}, "Once upon a time", [0, 0, 4, 4, 9, 11]),
                ({"prompt": ids["prompt_token_ids"], "skip_special_tokens": False}, "<s> Once<s> upon a time",
                 [0, 3, 8, 11, 16, 18])):
            choice = told(door.complete(**fields, max_tokens=1, temperature=0, echo=True, logprobs=1)["choices"])[0]
            assert choice["text_offset"] == offsets + [len(text)] and choice["text"].startswith(text), (fields, choice)
            assert choice["tokens"][0] == choice["tokens"][2] == "<s>"


def main():
    for ranks, flags in ((1, ()), (1, ("--no-prefix-cache",)), (4, ())):
        with Server("--threads", "1", "--kv-cache-memory", "64M", *flags, ranks=ranks) as server:
            door = Door(server)
            check_likeness(door)
            check_alone(door)
            check_values(server, door, finds_prefixes=not flags)
    check_specials()


if __name__ == "__main__":
    main()
