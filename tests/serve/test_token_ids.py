"""A server without a tokenizer (--skip-tokenizer-init): the ids of the same server with one, by both doors; what needs
text is refused; a model that has none, of random weights, is served and can be loaded by bench serve."""
import json
import os
import subprocess
import tempfile

import grpc
from serve_client import Answer, Server, in_background, pb
from test_bench import bench
from test_http import Door
from test_wire import client, infer, refusal

CODE = grpc.StatusCode
SHAPE = ["--model", "tests/data/shapes/s", "--load-format", "dummy", "--dtype", "bfloat16", "--max-num-seqs", "64",
         "--max-model-len", "256", "--kv-cache-memory", "64M"]
PROMPTS = [[5, 6, 7], list(range(20, 61)), [3]]
NO_TOKENIZER = "(this server has no tokenizer: --skip-tokenizer-init)"


def request_of(ids, tokens=24, **sampling):
    request = pb.GenerateRequest()
    request.tokens.ids.extend(ids)
    request.stop.max_new_tokens = tokens
    request.sampling.seed = 1  # else the server draws one, and tells it
    for name, value in sampling.items():
        setattr(request.sampling, name, value)
    return request


def generate(server, request):
    return infer(server, "Generate", request, pb.GenerateResponse)


def requests(eos):
    """What ordinary clients ask for, one thing at a time."""
    for ids in PROMPTS:
        yield request_of(ids, temperature=0)
        yield request_of(ids, temperature=0.9, seed=4, top_p=0.9, repetition_penalty=1.2)
    many = request_of(PROMPTS[0], temperature=1, seed=7)
    many.n = 4
    yield many
    told = request_of(PROMPTS[1], temperature=0)
    told.output.logprobs = told.output.prompt_logprobs = told.output.echo = told.output.timings = True
    told.output.top_logprobs = 3
    yield told
    ends = request_of(PROMPTS[0], temperature=0)
    ends.sampling.logit_bias[eos] = 100
    yield ends
    later = request_of(PROMPTS[0], temperature=0)
    later.sampling.logit_bias[eos] = 100
    later.stop.min_new_tokens = 5
    yield later
    goes_on = request_of(PROMPTS[0], tokens=9, temperature=0)
    goes_on.sampling.logit_bias[eos] = 100
    goes_on.stop.ignore_eos = True
    yield goes_on
    stops = request_of(PROMPTS[0], temperature=0)
    stops.sampling.logit_bias[77] = 100
    stops.stop.stop_token_ids.append(77)
    stops.stop.include_stop = stops.output.keep_special_tokens = True
    yield stops
    short = request_of(PROMPTS[1], temperature=0)
    short.truncate_prompt_tokens = 9
    short.output.stream_interval = 5
    yield short


def without_text(chunk):
    """What an answer says but for text, bytes of tokens, names and times."""
    logprobs = [(p.token_id, p.logprob, p.rank, list(p.top_ids), list(p.top_logprobs)) for p in chunk.logprobs]
    prompt = [(p.token_id, p.logprob, p.rank, list(p.top_ids)) for p in chunk.prompt_logprobs]
    return (chunk.index, list(chunk.token_ids), logprobs, prompt, chunk.finish_reason, chunk.WhichOneof("matched"),
            chunk.matched_token_id, chunk.seed, list(chunk.prompt_token_ids), chunk.usage.completion_tokens)


def check_same_ids(plain, bare):
    """`plain` has a tokenizer and is asked for ids; `bare` has none and is not asked."""
    info = infer(bare, "GetModelInfo", pb.GetModelInfoRequest(), pb.GetModelInfoResponse)
    assert info == infer(plain, "GetModelInfo", pb.GetModelInfoRequest(), pb.GetModelInfoResponse)
    finishes, spoken = set(), 0
    for request in requests(info.eos_token_ids[0]):
        asked = pb.GenerateRequest.FromString(request.SerializeToString())
        asked.output.token_ids = True
        wanted, got = generate(plain, asked), generate(bare, request)
        spoken += bool(wanted.choices[0].text)
        assert not any(choice.text for choice in got.choices)
        assert not any(logprob.token for choice in got.choices for logprob in choice.logprobs)
        assert [without_text(c) for c in got.choices] == [without_text(c) for c in wanted.choices], request
        assert all(choice.token_ids for choice in got.choices) and got.HasField("timings") == request.output.timings
        finishes |= {choice.finish_reason for choice in got.choices}
        streamed = Answer(bare.stream(request))
        assert streamed.code == CODE.OK and not any(streamed.text.values())
        assert streamed.ids == {choice.index: list(choice.token_ids) for choice in wanted.choices}
        assert streamed.finish == {choice.index: choice.finish_reason for choice in wanted.choices}
    assert spoken > 6  # the control: there would be text
    assert finishes == {pb.FINISH_REASON_LENGTH, pb.FINISH_REASON_EOS_TOKEN, pb.FINISH_REASON_STOP_TOKEN}


def check_ends(bare):
    """Abort, cancel and time limit, in the middle of an answer."""
    long = request_of(PROMPTS[0], tokens=1900)
    long.stop.ignore_eos = True
    long.request_id = "to-abort"
    thread, box = in_background(bare, long)
    aborted = 0
    while not aborted and thread.is_alive():
        aborted = infer(bare, "Abort", pb.AbortRequest(request_ids=["to-abort"]), pb.AbortResponse).aborted
    thread.join()
    assert box[0].finish == {0: pb.FINISH_REASON_ABORTED}, box[0].whole()
    long.request_id, long.n = "", 8
    thread, box = in_background(bare, long, cancel_after=3)
    thread.join()
    assert box[0].code == CODE.CANCELLED and len(box[0].ids[0]) >= 3
    long.stop.time_limit_ms, long.n = 20, 1
    assert generate(bare, long).choices[0].finish_reason == pb.FINISH_REASON_TIME_LIMIT


def check_refusals(bare):
    text = request_of([])
    text.text = "The sea"
    chat = pb.GenerateRequest()
    chat.chat.messages.add(role="user", content="Hello")
    stop = request_of(PROMPTS[0])
    stop.stop.stop.append("end")
    for request, said in ((text, f"prompt: expected token ids {NO_TOKENIZER}, got text"),
                          (chat, f"prompt: expected token ids {NO_TOKENIZER}, got a conversation"),
                          (stop, f"stop: expected no strings {NO_TOKENIZER}, got 1")):
        assert refusal(generate, bare, request)[:2] == (CODE.INVALID_ARGUMENT, said)
        streamed = Answer(bare.stream(request))
        assert (streamed.code, streamed.details) == (CODE.INVALID_ARGUMENT, said)
    for method, request, answer in (("Tokenize", pb.TokenizeRequest(text="x", pieces=True), pb.TokenizeResponse),
                                    ("Detokenize", pb.DetokenizeRequest(ids=[1]), pb.DetokenizeResponse)):
        code, said, _ = refusal(infer, bare, method, request, answer)
        assert code == CODE.FAILED_PRECONDITION and said.endswith("--skip-tokenizer-init"), (code, said)
    door = Door(bare)
    for path, fields, said in (
            ("/v1/completions", {"prompt": "x"}, "got text"), ("/v1/completions", {"prompt": [[1], "x"]}, "got text"),
            ("/v1/completions", {"prompt": [1], "stop": "x"}, "stop: expected no strings"),
            ("/v1/completions", {"prompt": [1 << 20]}, "expected an id"),
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}, "got a conversation")):
        status, _, answer = door.call("POST", path, fields)
        assert status == 400 and said in answer["error"]["message"], (fields, status, answer)
        assert answer["error"]["type"] == "invalid_request_error"


# ---- HTTP ----

def joined(events, choice):
    return [i for event in events for part in event["choices"] if part["index"] == choice for i in part["token_ids"]]


def check_http(plain, bare):
    """return_token_ids, as vLLM has it; without a tokenizer there is no need to ask."""
    asks, door = Door(plain), Door(bare)
    for fields in ({"temperature": 0}, {"temperature": 1, "seed": 3, "n": 2}, {"temperature": 0, "echo": True}):
        fields = {"prompt": PROMPTS[:2], "max_tokens": 12, "logprobs": 2, **fields}
        wanted = asks.complete(**fields, return_token_ids=True, return_tokens_as_token_ids=True)["choices"]
        assert wanted[0]["text"] and "token_ids" not in asks.complete(**fields)["choices"][0]
        got = door.complete(**fields)["choices"]
        assert len(got) == 2 * fields.get("n", 1)
        for number, (choice, same) in enumerate(zip(got, wanted)):
            assert choice["text"] == "" and choice["token_ids"] == same["token_ids"] and len(choice["token_ids"]) == 12
            assert choice["prompt_token_ids"] == same["prompt_token_ids"] == PROMPTS[number // fields.get("n", 1)]
            told = (choice["prompt_token_ids"] if "echo" in fields else []) + choice["token_ids"]
            assert choice["logprobs"]["tokens"] == [f"token_id:{i}" for i in told]
            for name in ("tokens", "token_logprobs", "top_logprobs"):
                assert choice["logprobs"][name] == same["logprobs"][name], name
            assert choice["logprobs"]["text_offset"] == [0] * len(told) and choice["finish_reason"] == "length"
        for logprobs in (2, None):
            events = door.stream("/v1/completions", **{**fields, "logprobs": logprobs})
            again = asks.stream("/v1/completions", **{**fields, "logprobs": logprobs}, return_token_ids=True)
            for number, choice in enumerate(got):
                assert joined(events, number) == joined(again, number) == choice["token_ids"]
                prompts = [e["choices"][0].get("prompt_token_ids") for e in events if e["choices"][0]["index"] == number]
                assert prompts[0] == choice["prompt_token_ids"] and not any(prompts[1:])
    fields = {"prompt": PROMPTS[0], "max_tokens": 2, "temperature": 0, "prompt_logprobs": 1}
    first = door.stream("/v1/completions", **fields)[0]["choices"][0]
    prompt = door.complete(**fields)["choices"][0]["prompt_logprobs"]
    assert prompt[0] is None and prompt[1]["6"]["decoded_token"] is None and first["prompt_logprobs"] == prompt
    assert first["prompt_token_ids"] == PROMPTS[0] and first["token_ids"] == []


def check_chat_ids(door):
    """A conversation's ids, with a tokenizer: those of the prompt stand beside the choices."""
    fields = {"messages": [{"role": "user", "content": "How many legs have two cows?"}], "temperature": 0, "max_tokens": 8}
    _, _, bare = door.call("POST", "/v1/chat/completions", fields)
    _, _, whole = door.call("POST", "/v1/chat/completions", {**fields, "return_token_ids": True})
    assert "prompt_token_ids" not in bare and "token_ids" not in bare["choices"][0]
    assert len(whole["choices"][0]["token_ids"]) == 8 and len(whole["prompt_token_ids"]) == whole["usage"]["prompt_tokens"]
    again = door.complete(prompt=whole["prompt_token_ids"], temperature=0, max_tokens=8)["choices"][0]["text"]
    assert again.strip() == whole["choices"][0]["message"]["content"].strip()
    events = door.stream("/v1/chat/completions", **fields, return_token_ids=True)
    assert joined(events, 0) == whole["choices"][0]["token_ids"]
    assert [e.get("prompt_token_ids") for e in events] == [whole["prompt_token_ids"]] + [None] * (len(events) - 1)
    status, _, answer = door.call("POST", "/v1/completions", {"prompt": [1], "return_token_ids": "yes"})
    assert status == 400 and "return_token_ids: expected true or false" in answer["error"]["message"]


# ---- a model without a tokenizer ----

def check_shape():
    """Random weights, two threads: all clients of the binary can use it, and load it."""
    with Server(*SHAPE, "--threads", "2", "--skip-tokenizer-init") as server:
        ids = generate(server, request_of([1, 2, 3], tokens=6, temperature=0)).choices[0].token_ids
        words = " ".join(str(i) for i in ids)
        asks = ["--token-ids", "1 2 3", "--max-tokens=6", "--temperature=0"]
        assert client(server, "complete", *asks).stdout == words + "\n"
        assert client(server, "complete", *asks, "--n=2").stdout == f"[0] {words}\n[1] {words}\n"
        assert json.loads(client(server, "complete", *asks, "--json").stdout)["choices"][0]["token_ids"] == list(ids)
        for arguments, feed in ((["complete", "x"], None), (["complete", *asks, "--stop=x"], None), (["chat"], "x\n")):
            ran = client(server, *arguments, feed=feed)
            assert ran.returncode == 7 and NO_TOKENIZER in ran.stderr and ran.stderr.count("\n") == 1, ran
        for open_at_once in (1, 4, 16, 64):
            result, _ = bench(server.ready[1], "--random-input-len", "32", "--random-output-len", "4", "--ignore-eos",
                              "--num-prompts", str(open_at_once + 4), "--max-concurrency", str(open_at_once))
            assert (result["completed"], result["failed"]) == (open_at_once + 4, 0), result
            assert result["total_output_tokens"] == 4 * (open_at_once + 4) and result["total_input_tokens"] == 8 * result[
                "total_output_tokens"]
        bench(server.ready[1], "--dataset-path", "tests/data/workloads/questions.jsonl", "--num-prompts", "2", code=7)
        server.signal()
        assert server.wait() == 0


def check_settings(folder):
    """Without the flag such a model is refused by one line that names it; file and environment say it as well."""
    command = [os.environ["MOEBIUS"], "serve", "--port", "0", "--http-port", "0", *SHAPE]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 3 and "expected a tokenizer, or --skip-tokenizer-init" in ran.stderr, ran
    path = os.path.join(folder, "serve.yaml")
    with open(path, "w", encoding="ascii") as file:
        file.write("skip-tokenizer-init: true\n")
    with Server(*SHAPE, "--config", path) as server:
        assert generate(server, request_of([1], tokens=2)).choices[0].token_ids
    os.environ["MOEBIUS_SKIP_TOKENIZER_INIT"] = "true"
    with Server(*SHAPE) as server:
        assert generate(server, request_of([1], tokens=2)).choices[0].token_ids
    del os.environ["MOEBIUS_SKIP_TOKENIZER_INIT"]


def main():
    with Server() as plain:
        for ranks in (1, 2):
            with Server("--skip-tokenizer-init", ranks=ranks) as bare:
                check_same_ids(plain, bare)
                check_ends(bare)
                check_refusals(bare)
                check_http(plain, bare)
                bare.signal()
                assert bare.wait() == 0
        check_chat_ids(Door(plain))
    check_shape()
    with tempfile.TemporaryDirectory() as folder:
        check_settings(folder)


if __name__ == "__main__":
    main()
