"""Every method of both services over the wire, each field of an answer, every kind of refusal; the clients in the
binary against the same server. Usage: as serve_client.py says, with an optional number of ranks."""
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

import grpc
from serve_client import Answer, Server, make_request, pb  # first: it knows where the stubs are

from moebius.v1 import admin_pb2 as admin

CODE = grpc.StatusCode
PROMPT = "It was a cold evening, and the old man"


def call(channel, service, method, request, answer, timeout=300):
    stub = channel.unary_unary(f"/moebius.v1.{service}/{method}", request_serializer=type(request).SerializeToString,
                               response_deserializer=answer.FromString)
    return stub(request, timeout=timeout)


def infer(server, method, request, answer):
    return call(server.channel, "Inference", method, request, answer)


def refusal(function, *arguments):
    try:
        function(*arguments)
    except grpc.RpcError as error:
        return error.code(), error.details(), dict(error.trailing_metadata() or [])
    return CODE.OK, "", {}


def generate(server, request):
    return infer(server, "Generate", request, pb.GenerateResponse)


# ---- Inference ----

def check_whole_is_the_stream(server):
    request = make_request(tokens=24, seed=3, temperature=0.8)
    request.n = 3
    request.output.logprobs = request.output.timings = request.output.echo = request.output.prompt_logprobs = True
    request.output.top_logprobs = 2
    whole = generate(server, request)
    assert whole.request_id and len(whole.choices) == 3
    chunks = list(server.stream(request))
    assert chunks[0].request_id and not any(chunk.request_id for chunk in chunks[1:])
    assert len(chunks[0].prompt_token_ids) == len(chunks[0].prompt_logprobs) == whole.usage.prompt_tokens
    assert (chunks[0].prompt_logprobs[0].rank, chunks[0].prompt_logprobs[0].logprob) == (0, 0)
    assert list(chunks[0].prompt_logprobs) == list(whole.choices[0].prompt_logprobs)
    assert chunks[-1].timings.total_us >= chunks[-1].timings.first_token_us > 0 and whole.timings.total_us > 0
    for index, choice in enumerate(whole.choices):
        mine = [chunk for chunk in chunks if chunk.index == index]
        assert choice.index == index and mine  # how many depends on how busy the machine is
        assert "".join(chunk.text for chunk in mine) == choice.text and choice.text.startswith(PROMPT)
        assert [i for chunk in mine for i in chunk.token_ids] == list(choice.token_ids)
        assert [p for chunk in mine for p in chunk.logprobs] == list(choice.logprobs)
        assert len(choice.logprobs) == len(choice.token_ids) == choice.usage.completion_tokens == 24
        for token, logprob in zip(choice.token_ids, choice.logprobs):
            assert logprob.token_id == token and logprob.rank >= 1 and len(logprob.top_ids) == 2
            assert logprob.logprob <= logprob.top_logprobs[0] + 1e-6 and logprob.token
        assert mine[-1].finish_reason == choice.finish_reason == pb.FINISH_REASON_LENGTH
        assert mine[-1].seed == choice.seed
    assert whole.choices[0].seed == 3
    assert len({choice.text for choice in whole.choices}) == 3
    assert whole.usage.completion_tokens == 72
    # A choice's seed gives it again alone.
    alone = make_request(tokens=24, seed=whole.choices[2].seed, temperature=0.8)
    assert list(generate(server, alone).choices[0].token_ids) == list(whole.choices[2].token_ids)
    # It does come in pieces.
    assert any(len(list(server.stream(long_request()))) > 1 for _ in range(20))


def check_prompts_and_stops(server):
    ids = infer(server, "Tokenize", pb.TokenizeRequest(text=PROMPT, add_special_tokens=True, pieces=True),
                pb.TokenizeResponse)
    assert b"".join(ids.pieces).endswith(b"man") and len(ids.pieces) == len(ids.ids)
    back = infer(server, "Detokenize", pb.DetokenizeRequest(ids=ids.ids), pb.DetokenizeResponse)
    assert back.text == PROMPT and back.raw.endswith(b"man")
    by_text = make_request(tokens=16, temperature=0)
    by_ids = make_request(tokens=16, temperature=0)
    by_ids.tokens.ids.extend(ids.ids)
    first = generate(server, by_text).choices[0]
    assert list(generate(server, by_ids).choices[0].token_ids) == list(first.token_ids)
    chat = pb.GenerateRequest()
    chat.chat.messages.add(role="user", content="How many legs have two cows?")
    chat.sampling.temperature = 0
    chat.stop.max_new_tokens = 8
    assert generate(server, chat).choices[0].text
    by_text.output.no_text = True
    assert not generate(server, by_text).choices[0].text
    # A stop string in the middle of the greedy text, and a stop token.
    middle = first.text[5:9]
    stops = make_request(tokens=16, temperature=0)
    stops.stop.stop.append(middle)
    stopped = generate(server, stops).choices[0]
    assert stopped.finish_reason == pb.FINISH_REASON_STOP_SEQUENCE and stopped.matched_stop == middle
    assert stopped.text == first.text[:first.text.index(middle)]
    at_token = make_request(tokens=16, temperature=0)
    at_token.stop.stop_token_ids.append(first.token_ids[4])
    ended = generate(server, at_token).choices[0]
    assert ended.finish_reason == pb.FINISH_REASON_STOP_TOKEN and ended.matched_token_id == first.token_ids[4]
    biased = make_request(tokens=4, temperature=0)
    biased.sampling.logit_bias[first.token_ids[0]] = -100
    assert generate(server, biased).choices[0].token_ids[0] != first.token_ids[0]


def check_info(server, ranks):
    info = infer(server, "GetModelInfo", pb.GetModelInfoRequest(), pb.GetModelInfoResponse)
    assert (info.model, info.experts, info.dtype) == ("demo-moe", 32, "bfloat16"), info
    assert info.vocab_size > 1000 and info.max_context == 512 and len(info.moe_layers) == info.layers, info
    assert infer(server, "GetModelInfo", pb.GetModelInfoRequest(model="demo-moe"),
                 pb.GetModelInfoResponse) == info
    assert server.is_serving() and int(server.ready[2]) == ranks


def check_refusals(server):
    def of(change, **sampling):
        request = make_request(tokens=4, **sampling)
        change(request)
        streamed = Answer(server.stream(request))
        code, details, _ = refusal(generate, server, request)
        assert (streamed.code, streamed.details) == (code, details), (streamed.details, details)
        assert "\n" not in details and len(details) > 10
        return code, details

    def nothing(request):
        pass

    cases = [(lambda r: r.ClearField("text"), CODE.INVALID_ARGUMENT, "prompt: expected one of"),
             (lambda r: r.tokens.ids.append(1 << 20), CODE.INVALID_ARGUMENT, "expected an id"),
             (lambda r: r.stop.stop.append(""), CODE.INVALID_ARGUMENT, "stop.stop[0]"),
             (lambda r: setattr(r, "n", 65), CODE.INVALID_ARGUMENT, "n: expected at most 64"),
             (lambda r: setattr(r, "model", "other"), CODE.NOT_FOUND, "model"),
             (lambda r: setattr(r, "adapter_id", "lora"), CODE.UNIMPLEMENTED, "adapter_id"),
             (lambda r: setattr(r.sampling, "json_object", True), CODE.UNIMPLEMENTED, "sampling.guided"),
             (lambda r: setattr(r.output, "routed_experts", True), CODE.UNIMPLEMENTED, "routed_experts"),
             (lambda r: setattr(r.stop, "max_new_tokens", 4000), CODE.INVALID_ARGUMENT, "512")]
    for change, code, said in cases:
        got = of(change)
        assert got[0] == code and said in got[1], (got, said)
    assert of(nothing, top_p=1.5)[0] == CODE.INVALID_ARGUMENT
    assert of(nothing, temperature=float("nan"))[0] == CODE.INVALID_ARGUMENT
    raw = server.channel.unary_unary("/moebius.v1.Inference/Generate")
    assert refusal(raw, b"\x1a\x02\xff\xfe")[0] == CODE.INVALID_ARGUMENT  # text that is not UTF-8
    assert refusal(raw, b"\x1a\x7f")[0] == CODE.INVALID_ARGUMENT          # no message
    assert refusal(raw, b"\x2a\x80\x80\x80\x01" + b"\x0a\x00" * (1 << 20))[0] == CODE.RESOURCE_EXHAUSTED
    nowhere = server.channel.unary_unary("/moebius.v1.Inference/Nowhere")
    assert refusal(nowhere, b"")[0] == CODE.UNIMPLEMENTED


def long_request(request_id=""):
    request = make_request(tokens=480)
    request.stop.ignore_eos = True
    request.request_id = request_id
    return request


def hold(server, request_id="", tokens=480):
    """A stream that is open until it is cancelled or aborted, however late we are: it says more than is sent to a
    client that reads only its first chunk."""
    request = long_request(request_id)
    request.stop.max_new_tokens = tokens
    request.n = 64
    request.output.logprobs = True
    request.output.top_logprobs = 20
    stream = server.stream(request)
    next(stream)
    return stream


def check_cancel_deadline_abort(server):
    late = long_request()
    late.n = 16
    check_deadline(server, late)
    limited = long_request()
    limited.stop.time_limit_ms = 20
    assert generate(server, limited).choices[0].finish_reason == pb.FINISH_REASON_TIME_LIMIT
    check_abort(server)
    held = hold(server, "held")
    code, details, _ = refusal(generate, server, long_request("held"))
    assert code in (CODE.INVALID_ARGUMENT, CODE.ALREADY_EXISTS) and "held" in details
    held.cancel()


def check_deadline(server, request):
    """The client's own clock ends the call: that the server heard of it, its counters say. Once more where the request had
    not come to it by then."""
    def given_up():
        return server.finished("abort") + server.finished("error")

    before = given_up()
    for _ in range(100):
        late = refusal(lambda: list(server.stream(request, timeout=0.05)))
        assert late[0] == CODE.DEADLINE_EXCEEDED, late
        while server.metric("moebius_num_requests_running") > 0:
            time.sleep(0.02)
        if given_up() > before:
            return
    raise AssertionError("each request came to its own end, or never to the server")


def check_abort(server):
    """Once more where all was computed before the request could be aborted: a busy machine may run us late."""
    for i in range(20):
        stream = hold(server, f"to-abort-{i}")
        aborted = infer(server, "Abort", pb.AbortRequest(request_ids=[f"to-abort-{i}", "nobody"]), pb.AbortResponse)
        ends = {chunk.finish_reason for chunk in stream} - {pb.FINISH_REASON_UNSPECIFIED}
        assert aborted.aborted == 1 and ends <= {pb.FINISH_REASON_ABORTED, pb.FINISH_REASON_LENGTH}, (aborted, ends)
        if pb.FINISH_REASON_ABORTED in ends:
            return
    raise AssertionError("no request was aborted")


# ---- Admin ----

def check_admin(server, channel, ranks):
    def ask(method, request, answer):
        return call(channel, "Admin", method, request, answer)

    info = ask("GetServerInfo", admin.GetServerInfoRequest(), admin.GetServerInfoResponse)
    assert info.version and info.state == admin.SERVER_STATE_SERVING and len(info.ranks) == ranks
    assert [(rank.rank, rank.local_rank) for rank in info.ranks] == [(i, i) for i in range(ranks)]
    assert info.ranks[0].role == "coordinator" and info.ranks[0].host
    settle(ask)
    before = ask("GetStats", admin.GetStatsRequest(per_rank=True), admin.GetStatsResponse)
    load = ask("GetExpertLoad", admin.GetExpertLoadRequest(by_rank=True), admin.GetExpertLoadResponse)
    generate(server, make_request(tokens=30, temperature=0))
    while (after := ask("GetStats", admin.GetStatsRequest(per_rank=True), admin.GetStatsResponse)).running:
        pass  # until nothing runs; then all that was counted has been told
    more = ask("GetExpertLoad", admin.GetExpertLoadRequest(by_rank=True), admin.GetExpertLoadResponse)
    assert after.generated_tokens - before.generated_tokens == 30 and after.finished == before.finished + 1
    assert after.steps > before.steps and sum(after.step_us.counts) == after.steps
    assert len(after.ranks) == ranks and after.kv_blocks_total > 0 and after.running == 0
    check_load(before, load, after, more, ranks)
    check_placement_and_traffic(ask, more, ranks)
    for request in (admin.GetExpertLoadRequest(reset=True), admin.GetExpertLoadRequest(decode_only=True)):
        assert refusal(ask, "GetExpertLoad", request, admin.GetExpertLoadResponse)[0] == CODE.UNIMPLEMENTED
    assert refusal(ask, "GetPlacement", admin.GetPlacementRequest(first_layer=99),
                   admin.Placement)[0] == CODE.INVALID_ARGUMENT
    watch = channel.unary_stream("/moebius.v1.Admin/WatchStats",
                                 request_serializer=admin.GetStatsRequest.SerializeToString,
                                 response_deserializer=admin.GetStatsResponse.FromString)
    begun, stats = time.monotonic(), watch(admin.GetStatsRequest(interval_ms=200), timeout=300)
    assert [next(stats).steps for _ in range(4)] and time.monotonic() - begun > 0.5
    stats.cancel()
    assert refusal(lambda: list(watch(admin.GetStatsRequest(interval_ms=5)))) [0] == CODE.INVALID_ARGUMENT
    reload = channel.unary_stream("/moebius.v1.Admin/ReloadPlan")
    assert refusal(lambda: list(reload(b"")))[0] == CODE.UNIMPLEMENTED
    public = server.channel.unary_unary("/moebius.v1.Admin/GetServerInfo")
    assert refusal(public, b"")[0] == CODE.UNIMPLEMENTED  # not on the public door


def settle(ask):
    """Waits until nothing runs and no request is on its way to the engine."""
    last = None
    for _ in range(200):
        stats = ask("GetStats", admin.GetStatsRequest(), admin.GetStatsResponse)
        if stats.running == 0 and stats.waiting == 0 and stats.steps == last:
            return
        last = stats.steps
        time.sleep(0.1)
    raise AssertionError("it does not come to rest")


def check_load(before, load, after, more, ranks):
    """Each computed position has top_k experts in each layer: the counters add up, by expert and by rank."""
    computed = [sum(new.tokens) - sum(old.tokens) for new, old in zip(more.layers, load.layers)]
    assert len(computed) > 1 and len(set(computed)) == 1 and computed[0] > 29, computed
    for layer in more.layers:
        assert len(layer.tokens) == 32 and len(layer.tokens_by_rank) == ranks
        assert sum(layer.tokens_by_rank) == sum(layer.tokens) and layer.dropped == 0
        assert abs(layer.imbalance - max(layer.tokens_by_rank) * ranks / sum(layer.tokens)) < 1e-9
    pairs = [sum(layer.tokens_by_rank[rank] for layer in more.layers) for rank in range(ranks)]
    assert [rank.expert_pairs for rank in after.ranks] == pairs
    assert more.window_us > load.window_us


def check_placement_and_traffic(ask, load, ranks):
    placement = ask("GetPlacement", admin.GetPlacementRequest(), admin.Placement)
    assert (placement.ranks, placement.nodes, len(placement.layers)) == (ranks, 1, len(load.layers))
    for layer, counted in zip(placement.layers, load.layers):
        assert sorted(layer.physical_to_logical) == list(range(32))
        by_rank = [0] * ranks
        for expert, rank in zip(layer.physical_to_logical, layer.physical_rank):
            by_rank[rank] += counted.tokens[expert]
        assert by_rank == list(counted.tokens_by_rank)
    one = ask("GetPlacement", admin.GetPlacementRequest(first_layer=1, layers=1), admin.Placement)
    assert list(one.layers) == [placement.layers[1]]
    traffic = ask("GetTraffic", admin.GetTrafficRequest(), admin.GetTrafficResponse)
    assert traffic.size == ranks and len(traffic.dispatch_bytes) == ranks * ranks
    assert all(traffic.messages[i * ranks + i] == 0 for i in range(ranks))
    assert (sum(traffic.dispatch_bytes) > 0 and sum(traffic.combine_bytes) > 0) == (ranks > 1)
    nodes = ask("GetTraffic", admin.GetTrafficRequest(by_node=True), admin.GetTrafficResponse)
    assert nodes.size == 1 and nodes.dispatch_bytes[0] == sum(traffic.dispatch_bytes)


def check_drain(server, channel):
    drain = channel.unary_stream("/moebius.v1.Admin/Drain", request_serializer=admin.DrainRequest.SerializeToString,
                                 response_deserializer=admin.DrainProgress.FromString)
    held = server.stream(long_request())
    next(held)
    progress = drain(admin.DrainRequest(timeout_ms=1), timeout=300)
    assert next(progress).state in (admin.SERVER_STATE_DRAINING, admin.SERVER_STATE_DRAINED)
    assert not server.is_serving()  # at once: nobody waits for a clock
    code, details, _ = refusal(generate, server, make_request())
    assert code == CODE.UNAVAILABLE and "draining" in details, (code, details)
    rest = list(progress)
    assert not rest or rest[-1].state == admin.SERVER_STATE_DRAINED
    last = [chunk.finish_reason for chunk in held][-1]
    assert last in (pb.FINISH_REASON_ABORTED, pb.FINISH_REASON_LENGTH)
    state = call(channel, "Admin", "Resume", admin.ResumeRequest(), admin.GetServerInfoResponse).state
    assert state == admin.SERVER_STATE_SERVING and server.is_serving() and generate(server, make_request(tokens=2)).choices
    held = hold(server)
    progress = drain(admin.DrainRequest(exit_when_done=True), timeout=300)
    assert next(progress).state == admin.SERVER_STATE_DRAINING
    call(channel, "Admin", "Resume", admin.ResumeRequest(), admin.GetServerInfoResponse)
    assert all(one.state == admin.SERVER_STATE_SERVING for one in progress)  # it is over, and ends nothing
    held.cancel()
    assert generate(server, make_request(tokens=2)).choices
    list(drain(admin.DrainRequest(exit_when_done=True), timeout=300))
    assert server.wait() == 0


# ---- the clients in the binary ----

def client(server, *arguments, feed=None):
    command = [os.environ["MOEBIUS"], *arguments, "--server", server.ready[1]]
    return subprocess.run(command, input=feed, capture_output=True, text=True, timeout=300, check=False)


def check_complete(server):
    wanted = generate(server, make_request(tokens=12, temperature=0)).choices[0]
    ran = client(server, "complete", PROMPT, "--max-tokens", "12", "--temperature", "0")
    assert (ran.returncode, ran.stdout) == (0, wanted.text + "\n"), ran
    told = client(server, "complete", PROMPT, "--max-tokens=12", "--temperature=0", "--json", "--n=2", "--logprobs=0")
    answer = json.loads(told.stdout)
    assert answer["choices"][0]["token_ids"] == list(wanted.token_ids) and len(answer["choices"]) == 2
    assert len(answer["choices"][0]["logprobs"]) == 12 and answer["choices"][1]["finish_reason"] == "length"
    ids = " ".join(str(i) for i in infer(server, "Tokenize", pb.TokenizeRequest(text=PROMPT, add_special_tokens=True),
                                         pb.TokenizeResponse).ids)
    assert client(server, "complete", "--token-ids", ids, "--max-tokens=12", "--temperature=0").stdout == ran.stdout
    assert client(server, "complete", "--file", "-", "--max-tokens=12", "--temperature=0",
                  feed=PROMPT).stdout == ran.stdout
    for arguments, code in ((["--model=other"], 7), (["--top-p=0"], 7), (["--timeout=0"], 2), (["--ssl-keyfile=x"], 2)):
        refused = client(server, "complete", "x", *arguments)
        assert refused.returncode == code and refused.stderr.count("\n") == 1 and not refused.stdout, refused
    gone = client(server, "complete", "x", "--server=127.0.0.1:1")
    assert gone.returncode == 0  # the later --server stands: this one answers


def check_example(server):
    """launcher/examples/complete.py, as it stands there."""
    environment = dict(os.environ, PYTHONPATH=os.environ["SERVE_STUBS"])
    ran = subprocess.run(["/usr/bin/python3", "launcher/examples/complete.py", server.ready[1], PROMPT], text=True,
                         capture_output=True, timeout=300, check=False, env=environment)
    request = make_request(tokens=40, temperature=0.7, seed=1)
    assert ran.returncode == 0 and ran.stdout.startswith(PROMPT + generate(server, request).choices[0].text), ran
    assert "40 tokens]" in ran.stdout


def check_nobody_there():
    for arguments in (["complete", "x"], ["chat"]):
        ran = subprocess.run([os.environ["MOEBIUS"], *arguments, "--server", "127.0.0.1:1"], input="x\n", text=True,
                             capture_output=True, timeout=300, check=False)
        assert ran.returncode == 13 and ran.stderr.count("\n") == 1 and "127.0.0.1:1" in ran.stderr, ran


def check_silence():
    """Somebody listens and never says a word: it is a server that is not there, after ten seconds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        runs = [subprocess.Popen([os.environ["MOEBIUS"], *arguments, "--server", address], stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                for arguments in (["complete", "x"], ["chat"], ["bench", "serve", "--num-prompts", "1"])]
        for run in runs:
            run.stdin.write("x\n")
            run.stdin.flush()
        for run in runs:
            _, said = run.communicate(timeout=300)
            assert run.returncode == 13 and f"{address}: no word of HTTP/2 in time" in said, (run.args, said)


def check_chat(server):
    lines = "How many legs have two cows?\n\nAnd three?\n"
    ran = client(server, "chat", "--temperature=0", "--max-tokens=12", "--json", feed=lines)
    turns = [json.loads(line) for line in ran.stdout.splitlines()]
    assert ran.returncode == 0 and len(turns) == 2 and turns[1]["prompt_tokens"] > turns[0]["prompt_tokens"], ran
    request = pb.GenerateRequest()
    for role, content in (("user", "How many legs have two cows?"), ("assistant", turns[0]["content"]),
                          ("user", "And three?")):
        request.chat.messages.add(role=role, content=content)
    request.sampling.temperature = 0
    request.stop.max_new_tokens = 12
    assert generate(server, request).choices[0].text == turns[1]["content"]


def check_long_chat(server):
    """A conversation that outgrows the context goes on without its oldest turns; a turn that does not fit alone is told
    and left out, and the exit code is its."""
    system, line = "You are short.", "The old man sat by the fire with his dog and thought of the sea. " * 5
    lines = [f"{i}: {line}" for i in range(9)] + ["word " * 2000, "And three?"]
    ran = client(server, "chat", "--temperature=0", "--max-tokens=12", "--json", "--system", system,
                 feed="\n".join(lines) + "\n")
    turns = [json.loads(answer) for answer in ran.stdout.splitlines()]
    dropped = [int(count) for count in re.findall(r"no longer fits the context: (\d+) of its oldest", ran.stderr)]
    errors = [said for said in ran.stderr.splitlines() if " error " in said]
    assert ran.returncode == 7 and len(turns) == 10 and 0 < sum(dropped) < 9, ran
    assert len(errors) == 1 and "prompt: expected" in errors[0] and ran.stderr.count("\n") == 1 + len(dropped), ran.stderr
    del lines[9]
    request = pb.GenerateRequest()
    request.chat.messages.add(role="system", content=system)
    for asked, turn in list(zip(lines, turns))[sum(dropped):-1]:
        request.chat.messages.add(role="user", content=asked)
        request.chat.messages.add(role="assistant", content=turn["content"])
    request.chat.messages.add(role="user", content=lines[-1])
    request.sampling.temperature = 0
    request.stop.max_new_tokens = 12
    same = generate(server, request).choices[0]
    assert (same.text, same.usage.prompt_tokens) == (turns[-1]["content"], turns[-1]["prompt_tokens"])
    # what the client goes by
    request.chat.messages[-1].content = "word " * 2000
    code, _, trailers = refusal(generate, server, request)
    assert code == CODE.INVALID_ARGUMENT and trailers["error-code"] == "context_length_exceeded", trailers
    request.stop.max_new_tokens, request.n = 1, 1000
    assert "error-code" not in refusal(generate, server, request)[2]  # another field, another error


def check_interrupt(server, channel):
    """Ctrl-C: the server hears of it and drops the request; the exit code says so."""
    aborted = server.finished("abort")
    process = subprocess.Popen([os.environ["MOEBIUS"], "complete", PROMPT, "--max-tokens", "480", "--ignore-eos",
                                "--n=64", "--json", "--logprobs=20", "--server", server.ready[1]], stdout=subprocess.PIPE)
    while server.metric("moebius_num_requests_running") == 0:
        assert process.poll() is None, "the answer is too short for this test"
    process.send_signal(signal.SIGINT)
    assert process.wait(300) == 130
    process.stdout.close()
    settle(lambda *arguments: call(channel, "Admin", *arguments))
    assert server.finished("abort") > aborted


# ---- keys ----

def check_keys():
    with tempfile.NamedTemporaryFile("w", suffix=".keys") as keys:
        keys.write("# ours\nfirst-key\nsecond-key\n")
        keys.flush()
        with Server("--api-key-file", keys.name, "--max-model-len", "512") as server:
            assert refusal(generate, server, make_request(tokens=2))[0] == CODE.UNAUTHENTICATED
            stub = server.channel.unary_unary("/moebius.v1.Inference/Generate",
                                              request_serializer=pb.GenerateRequest.SerializeToString)
            assert stub(make_request(tokens=2), metadata=[("authorization", "Bearer second-key")])
            assert client(server, "complete", "x").returncode == 15
            assert client(server, "complete", "x", "--max-tokens=2", "--api-key-file", keys.name).returncode == 0


def check_full_queue():
    with Server("--max-num-seqs", "1", "--max-queue", "1", "--max-model-len", "512") as server:
        stub = server.channel.unary_unary("/moebius.v1.Inference/Generate",
                                          request_serializer=pb.GenerateRequest.SerializeToString)
        calls = [stub.future(long_request(), timeout=300) for _ in range(16)]
        codes = [one.code() for one in calls]
        refused = [one for one in calls if one.code() == CODE.RESOURCE_EXHAUSTED]
        assert refused and codes.count(CODE.OK) + len(refused) == 16, codes
        assert all(int(dict(one.trailing_metadata())["retry-after-ms"]) > 0 for one in refused)


def main():
    ranks = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    with tempfile.TemporaryDirectory() as folder:
        door = f"unix:{folder}/admin"
        with Server("--admin-address", door, "--max-model-len", "512", ranks=ranks) as server, \
                grpc.insecure_channel(door) as channel:
            check_whole_is_the_stream(server)
            check_prompts_and_stops(server)
            check_info(server, ranks)
            check_refusals(server)
            check_cancel_deadline_abort(server)
            check_admin(server, channel, ranks)
            check_complete(server)
            check_example(server)
            check_nobody_there()
            check_chat(server)
            check_long_chat(server)
            check_interrupt(server, channel)
            check_drain(server, channel)
    if ranks == 1:
        check_silence()
        check_keys()
        check_full_queue()


if __name__ == "__main__":
    main()
