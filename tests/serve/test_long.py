"""Long messages: while some are read, nobody else waits; they are answered as short ones are; whoever gives up is let
go; what waits is bounded. The model is the demo model with more positions than it can use, so that a prompt of four
megabytes is encoded before it is refused; its text is one that takes the tokenizer a second or more."""
import http.client
import json
import os
import signal
import socket
import tempfile
import threading
import time

import grpc
from serve_client import Answer, Server, in_background, make_request, pb
from test_http import Door
from test_life import wait_until

CODE = grpc.StatusCode
MODEL = "launcher/demo-moe"
POSITIONS = 130000
SPACES = " " * 4150000  # 32 of them are a token: the longest there is
MEGABYTE = 1 << 20


def make_model(folder):
    for name in os.listdir(MODEL):
        os.symlink(os.path.abspath(os.path.join(MODEL, name)), os.path.join(folder, name))
    with open(os.path.join(MODEL, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    os.remove(os.path.join(folder, "config.json"))
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump({**config, "max_position_embeddings": POSITIONS}, file)


def raw_call(channel, method):
    """A call of bytes: a client that unpacks a million ids would be slow itself."""
    return channel.unary_unary(f"/moebius.v1.Inference/{method}")


def outcome(future):
    """(code, details, trailing metadata)"""
    try:
        future.result()
    except (grpc.RpcError, grpc.FutureCancelledError):
        pass
    return future.code(), future.details(), dict(future.trailing_metadata() or [])


class Post:
    """A completion by HTTP that may take its time."""

    def __init__(self, server, fields):
        self.connection = http.client.HTTPConnection("127.0.0.1", Door(server).port, timeout=300)
        self.connection.request("POST", "/v1/completions", json.dumps(fields))

    def answer(self):
        answer = self.connection.getresponse()
        self.headers = answer.headers
        return answer.status, json.loads(answer.read())

    def close(self):
        self.connection.close()


def too_many_tokens():
    """It fits as a text; that it has no room for so many new tokens is known when it is encoded."""
    request = make_request(SPACES, tokens=POSITIONS // 2)
    return request.SerializeToString()


def rss_bytes(server):
    with open(f"/proc/{server.process.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(server):
    """What the server has computed so far: unlike the clock it does not run on while others have the cores."""
    with open(f"/proc/{server.process.pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Company:
    """Other clients, each doing one thing after another: counts answered health checks, chunks of streams, and answered
    prompts of some kilobytes."""

    def __init__(self, server):
        self.server, self.counts, self.ends = server, {"checks": 0, "chunks": 0, "prompts": 0}, False
        self.threads = [threading.Thread(target=each) for each in (self.check_health, self.read_streams, self.prompt)]
        for thread in self.threads:
            thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ends = True
        for thread in self.threads:
            thread.join()

    def check_health(self):
        with grpc.insecure_channel(self.server.ready[1], [("grpc.use_local_subchannel_pool", 1)]) as channel:
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            while not self.ends:
                check(b"", timeout=120)
                self.counts["checks"] += 1

    def read_streams(self):
        request = make_request(tokens=400)
        request.stop.ignore_eos = True
        with grpc.insecure_channel(self.server.ready[1], [("grpc.use_local_subchannel_pool", 1)]) as channel:
            call = channel.unary_stream("/moebius.v1.Inference/GenerateStream")
            while not self.ends:
                for _ in call(request.SerializeToString(), timeout=120):
                    self.counts["chunks"] += 1

    def prompt(self):
        text = "It was a cold evening, and the old man thought of the sea. " * 100
        with grpc.insecure_channel(self.server.ready[1], [("grpc.use_local_subchannel_pool", 1)]) as channel:
            generate = raw_call(channel, "Generate")
            while not self.ends:
                generate(make_request(text, tokens=1).SerializeToString(), timeout=120)
                self.counts["prompts"] += 1

    def rates(self, action):
        """Of all, by the second, while something goes on."""
        before, start = dict(self.counts), time.monotonic()
        action()
        seconds = time.monotonic() - start
        return {name: (self.counts[name] - before[name]) / seconds for name in before}


def check_others_go_on(server):
    """Others are served while long messages of all kinds are read: not as fast, for there is less machine, but far from
    not at all. Returns how long a long message takes, by the clock and by the server's."""
    call = raw_call(server.channel, "Tokenize")
    tokenize = pb.TokenizeRequest(text=SPACES).SerializeToString()
    call(tokenize, timeout=120)
    start, cpu = time.monotonic(), cpu_seconds(server)
    assert len(pb.TokenizeResponse.FromString(call(tokenize, timeout=120)).ids) > 100000
    alone, cpu = time.monotonic() - start, cpu_seconds(server) - cpu

    def send_long():
        calls = [call.future(tokenize, timeout=300), call.future(tokenize, timeout=300)]
        calls += [raw_call(server.channel, "Generate").future(too_many_tokens(), timeout=300)]
        status, said = Post(server, {"prompt": SPACES, "max_tokens": POSITIONS // 2}).answer()
        assert status == 400 and "of the prompt" in said["error"]["message"], said
        assert [outcome(each)[0] for each in calls] == [CODE.OK, CODE.OK, CODE.INVALID_ARGUMENT]
        assert "of the prompt" in calls[2].details(), calls[2].details()

    def stop():
        server.signal(signal.SIGSTOP)
        time.sleep(alone)
        server.signal(signal.SIGCONT)

    with Company(server) as company:
        idle = company.rates(lambda: time.sleep(alone))
        busy = company.rates(send_long)
        stopped = company.rates(stop)
    assert all(busy[name] > idle[name] / 20 for name in idle), (idle, busy)
    assert stopped["checks"] < idle["checks"] / 20 and stopped["chunks"] < idle["chunks"] / 20, (idle, stopped)
    return alone, cpu


def check_same_answers(server):
    """A message that is read by the worker has the answer of a short one with the same ids."""
    door = Door(server)
    text = "It was a cold evening, and the old man thought of the sea. " * 100
    ids = pb.TokenizeResponse.FromString(raw_call(server.channel, "Tokenize")(
        pb.TokenizeRequest(text=text, add_special_tokens=True, pieces=True).SerializeToString(), timeout=60))
    assert b"".join(ids.pieces).endswith(text.encode()) and len(ids.ids) == len(ids.pieces) > 1000
    back = pb.DetokenizeResponse.FromString(raw_call(server.channel, "Detokenize")(
        pb.DetokenizeRequest(ids=list(ids.ids) * 3).SerializeToString(), timeout=60))
    assert back.text == text * 3
    by_text, by_ids = make_request(text, tokens=12, temperature=0), make_request(tokens=12, temperature=0)
    by_ids.tokens.ids.extend(ids.ids)
    by_text.output.echo = True
    first, second = Answer(server.stream(by_text)), Answer(server.stream(by_ids))
    assert first.code == second.code == CODE.OK, (first.details, second.details)
    assert first.ids == second.ids and first.text[0] == text + second.text[0]
    assert first.usage.prompt_tokens == len(ids.ids)
    fields = {"max_tokens": 12, "temperature": 0, "return_token_ids": True}
    answer = door.complete(prompt=[text, "The sea", list(ids.ids)], **fields)
    assert [choice["prompt_token_ids"] == list(ids.ids) for choice in answer["choices"]] == [True, False, True]
    assert answer["choices"][0]["token_ids"] == answer["choices"][2]["token_ids"] == first.ids[0]
    assert door.complete(prompt="The sea", **fields)["choices"][0]["text"] == answer["choices"][1]["text"]
    cut = door.complete(prompt=text, truncate_prompt_tokens=7, **fields)
    assert cut["choices"][0]["prompt_token_ids"] == list(ids.ids)[-7:]
    # Conversations, by both doors.
    chat = pb.GenerateRequest()
    chat.chat.messages.add(role="system", content=text)
    chat.chat.messages.add(role="user", content="How many legs have two cows?")
    chat.sampling.temperature, chat.stop.max_new_tokens, chat.output.token_ids = 0, 12, True
    said = Answer(server.stream(chat))
    status, _, answer = door.call("POST", "/v1/chat/completions", {
        "messages": [{"role": "system", "content": text}, {"role": "user", "content": "How many legs have two cows?"}],
        **fields})
    assert status == 200 and answer["choices"][0]["token_ids"] == said.ids[0], (status, answer)
    assert len(answer["prompt_token_ids"]) == said.usage.prompt_tokens > len(ids.ids)


def check_refusals(server):
    """What is wrong with a long message is said as of a short one."""
    door = Door(server)
    other = make_request(SPACES[:8000], tokens=1)
    other.model = "other"
    assert Answer(server.stream(other)).code == CODE.NOT_FOUND
    words = make_request("It was a cold evening. " * 180000, tokens=1)
    answer = Answer(server.stream(words))
    assert answer.code == CODE.INVALID_ARGUMENT and "got at least 13" in answer.details, answer.details
    huge = {"prompt": "x" + SPACES + SPACES[:20000], "max_tokens": 1}
    status, _, said = door.call("POST", "/v1/completions", huge)
    assert status == 400 and "prompt: expected at most" in said["error"]["message"], said
    status, _, said = door.call("POST", "/v1/completions", b'{"prompt": "' + b"x" * 9000)
    assert status == 400 and said["error"]["message"].startswith("the body: expected a JSON object"), said
    call = raw_call(server.channel, "Tokenize")
    assert outcome(call.future(b"\x0a\xff\xff\x03" + b"x" * 9000))[0] == CODE.INVALID_ARGUMENT
    assert outcome(call.future(pb.GenerateRequest(text="").SerializeToString() + b"\x0a\xa0\x46" + b"\xff" * 9000,
                               timeout=60))[0] == CODE.INVALID_ARGUMENT
    far = pb.DetokenizeRequest(ids=[5] * 5000 + [1 << 20]).SerializeToString()
    assert outcome(raw_call(server.channel, "Detokenize").future(far, timeout=60))[0] == CODE.INVALID_ARGUMENT


def check_giving_up(server, alone, cpu):
    """Clients that cancel, whose deadline passes, and that close: their texts are not read any more."""
    call, generate = raw_call(server.channel, "Tokenize"), raw_call(server.channel, "Generate")
    tokenize, request = pb.TokenizeRequest(text=SPACES).SerializeToString(), too_many_tokens()
    before = cpu_seconds(server)
    calls = [(call if i % 2 else generate).future(tokenize if i % 2 else request, timeout=alone / 2) for i in range(8)]
    cancelled = [(call if i % 2 else generate).future(tokenize if i % 2 else request, timeout=300) for i in range(8)]
    body = json.dumps({"prompt": SPACES[:4000000]}).encode()
    clients = []
    for _ in range(4):
        client = socket.create_connection(("127.0.0.1", Door(server).port))
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        clients.append(client)
    for each in cancelled:
        each.cancel()
    for client in clients:
        client.close()
    codes = [outcome(each)[0] for each in calls]
    assert codes.count(CODE.DEADLINE_EXCEEDED) >= 4, codes
    assert [outcome(each)[0] for each in cancelled].count(CODE.CANCELLED) >= 4
    call(tokenize, timeout=300)
    spent = cpu_seconds(server) - before
    assert spent < 10 * cpu, f"{spent} s: it read texts that nobody waits for; one takes {cpu} s, and there were 20"


def check_bounds(server):
    """More than may wait of one client is refused at once, by both doors; short ones are none of it."""
    call = raw_call(server.channel, "Tokenize")
    tokenize = pb.TokenizeRequest(text=SPACES).SerializeToString()
    calls = [call.future(tokenize, timeout=600) for _ in range(24)]
    wait_until(lambda: any(each.done() for each in calls[16:]), 120)
    code, details, trailers = outcome(next(each for each in calls[16:] if each.done()))
    assert code == CODE.RESOURCE_EXHAUSTED and details.startswith("queue: expected at most"), (code, details)
    assert int(trailers["retry-after-ms"]) > 0
    assert Answer(server.stream(make_request(tokens=4))).code == CODE.OK
    for each in calls:
        each.cancel()
    posts = [Post(server, {"prompt": SPACES[:4000000]}) for _ in range(24)]
    status, said = posts[-1].answer()
    assert status == 429 and int(posts[-1].headers["Retry-After"]) > 0, (status, said)
    for each in posts:
        each.close()


def check_end(server, alone):
    """A signal while a long message is read: it is refused or not answered, and the server ends well."""
    future = raw_call(server.channel, "Generate").future(too_many_tokens(), timeout=60)
    thread, box = in_background(server, make_request(SPACES, tokens=1))
    time.sleep(alone / 4)
    server.signal()
    assert outcome(future)[0] in (CODE.UNAVAILABLE, CODE.INVALID_ARGUMENT), outcome(future)
    thread.join()
    assert box[0].code in (CODE.UNAVAILABLE, CODE.INVALID_ARGUMENT), box[0].code
    assert server.wait(60) == 0


def main():
    with tempfile.TemporaryDirectory() as folder:
        make_model(folder)
        with Server("--model", folder, "--max-model-len", str(POSITIONS), "--kv-cache-memory", "256M",
                    "--max-num-seqs", "16") as server:
            alone, cpu = check_others_go_on(server)
            check_same_answers(server)
            check_refusals(server)
            check_giving_up(server, alone, cpu)
            check_bounds(server)
            before = rss_bytes(server)
            check_giving_up(server, alone, cpu)
            check_bounds(server)
            check_giving_up(server, alone, cpu)
            assert rss_bytes(server) < before + 64 * MEGABYTE, (rss_bytes(server), before)
            check_end(server, alone)


if __name__ == "__main__":
    main()
