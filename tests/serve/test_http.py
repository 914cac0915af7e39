"""The OpenAI-compatible HTTP door, by Python's own HTTP client and by curl: the same answers as by gRPC, and clients
that are wrong, rude, slow or gone."""
import http.client
import json
import os
import re
import socket
import subprocess
import tempfile
import threading
import time

from serve_client import Answer, Server, make_request

PROMPT = "It was a cold evening, and the old man"


class Door:
    """The HTTP door of a server; one connection a call unless it is given one."""

    def __init__(self, server, key=None):
        self.port = server.http_port()
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)

    def call(self, method, path, body=None, connection=None, **headers):
        """(status, headers, body as JSON or text)"""
        own = connection or self.connect()
        text = body if isinstance(body, (str, bytes, type(None))) else json.dumps(body)
        own.request(method, path, text, {**self.headers, **headers})
        answer = own.getresponse()
        data = answer.read().decode()
        if connection is None:
            own.close()
        is_json = answer.headers["Content-Type"] == "application/json" and method != "HEAD"
        return answer.status, answer.headers, json.loads(data) if is_json else data

    def complete(self, **fields):
        status, _, answer = self.call("POST", "/v1/completions", fields)
        assert status == 200, (status, answer)
        return answer

    def stream(self, path, **fields):
        """The events of a stream, decoded; the last one must be [DONE]."""
        connection = self.connect()
        connection.request("POST", path, json.dumps({**fields, "stream": True}), self.headers)
        answer = connection.getresponse()
        assert answer.status == 200 and answer.headers["Content-Type"] == "text/event-stream"
        events = answer.read().decode().split("\n\n")
        connection.close()
        assert events[-2:] == ["data: [DONE]", ""], events[-2:]
        return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]

    def metric(self, name, **labels):
        _, _, text = self.call("GET", "/metrics")
        for line in text.splitlines():
            if line.startswith(name + "{") and all(f'{key}="{value}"' in line for key, value in labels.items()):
                return float(line.rsplit(" ", 1)[1])
        raise AssertionError(f"no metric {name} {labels}")


def wait_until(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "too late"
        time.sleep(0.05)


def check_same_as_grpc(server, door):
    """Both doors say the same, whole or streamed, greedy or seeded, one or many."""
    for fields in ({"temperature": 0}, {"temperature": 1.1, "top_p": 0.9, "seed": 7}):
        answer = Answer(server.stream(make_request(PROMPT, 40, **fields)))
        whole = door.complete(prompt=PROMPT, max_tokens=40, **fields)
        choice = whole["choices"][0]
        assert choice["text"] == answer.text[0] and choice["finish_reason"] == "length"
        assert whole["usage"]["completion_tokens"] == 40
        assert whole["usage"]["total_tokens"] == 40 + whole["usage"]["prompt_tokens"]
        events = door.stream("/v1/completions", prompt=PROMPT, max_tokens=40, stream_options={"include_usage": True},
                             **fields)
        assert "".join(e["choices"][0]["text"] for e in events[:-1]) == choice["text"]
        assert events[-1]["choices"] == [] and events[-1]["usage"] == {
            **whole["usage"], "prompt_tokens_details": events[-1]["usage"]["prompt_tokens_details"]}
        assert len({e["id"] for e in events}) == 1 and events[0]["object"] == "text_completion"
        assert not any("usage" in e for e in events[:-1])


def check_usage_with_each_event(door):
    """stream_options.continuous_usage_stats: how many tokens there are so far, of all choices."""
    options = {"include_usage": True, "continuous_usage_stats": True, "include_obfuscation": False}
    events = door.stream("/v1/completions", prompt=PROMPT, max_tokens=40, n=2, stream_options=options)
    told = [e["usage"]["completion_tokens"] for e in events]
    assert told == sorted(told) and 0 < told[0] < 80 and told[-2:] == [80, 80], told
    assert len({e["usage"]["prompt_tokens"] for e in events}) == 1


def check_many(door):
    """Several prompts and choices: indices in order, each as if alone."""
    answer = door.complete(prompt=["One", "Two"], n=2, max_tokens=8, temperature=1, seed=3)
    assert [c["index"] for c in answer["choices"]] == [0, 1, 2, 3]
    for number, prompt in enumerate(["One", "Two"]):
        alone = door.complete(prompt=prompt, n=2, max_tokens=8, temperature=1, seed=3)
        texts = [c["text"] for c in answer["choices"][2 * number:2 * number + 2]]
        assert texts == [c["text"] for c in alone["choices"]]
    ids = door.complete(prompt=[5, 6, 7], max_tokens=3, temperature=0)
    assert door.complete(prompt=[[5, 6, 7]], max_tokens=3, temperature=0)["choices"] == ids["choices"]


def check_fields(door):
    whole = door.complete(prompt=PROMPT, max_tokens=30, temperature=0)["choices"][0]["text"]
    word = whole[10:16]
    stopped = door.complete(prompt=PROMPT, max_tokens=30, temperature=0, stop=[word])["choices"][0]
    assert stopped["text"] == whole[:whole.index(word)] and stopped["stop_reason"] == word
    assert stopped["finish_reason"] == "stop"
    echo = door.complete(prompt=PROMPT, max_tokens=30, temperature=0, echo=True)["choices"][0]["text"]
    assert echo == PROMPT + whole
    logprobs = door.complete(prompt=PROMPT, max_tokens=30, temperature=0, logprobs=3)["choices"][0]["logprobs"]
    assert "".join(logprobs["tokens"]) == whole and len(logprobs["top_logprobs"]) == 30
    offsets = [len("".join(logprobs["tokens"][:i])) for i in range(30)]
    assert logprobs["text_offset"] == offsets
    for value, top in zip(logprobs["token_logprobs"], logprobs["top_logprobs"]):
        assert len(top) == 3 and abs(max(top.values()) - value) < 1e-5, "greedy takes the likeliest"
    never = door.complete(prompt=PROMPT, max_tokens=1, temperature=0, logit_bias={"17": 100})
    assert door.complete(prompt=PROMPT, max_tokens=1, temperature=0)["choices"] != never["choices"]


def check_prompt_logprobs(door):
    """The same whole and streamed, one list for each choice; beside the choices of a conversation."""
    fields = {"prompt": [PROMPT, "One"], "n": 2, "max_tokens": 2, "temperature": 0, "prompt_logprobs": 2}
    choices = door.complete(**fields)["choices"]
    events = door.stream("/v1/completions", **fields)
    for choice in choices:
        told = choice["prompt_logprobs"]
        assert told[0] is None and all(2 <= len(token) <= 3 for token in told[1:])
        assert [told] == [part["prompt_logprobs"] for event in events for part in event["choices"]
                          if part["index"] == choice["index"] and "prompt_logprobs" in part]
    assert "".join(list(token.values())[0]["decoded_token"] for token in choices[0]["prompt_logprobs"][1:]) in PROMPT
    assert choices[0]["prompt_logprobs"] == choices[1]["prompt_logprobs"] != choices[2]["prompt_logprobs"]
    fields = {"messages": [{"role": "user", "content": "One"}], "max_tokens": 2, "temperature": 0, "prompt_logprobs": 0}
    whole = door.call("POST", "/v1/chat/completions", fields)[2]
    assert len(whole["prompt_logprobs"]) == whole["usage"]["prompt_tokens"] and whole["prompt_logprobs"][1]
    assert door.stream("/v1/chat/completions", **fields)[0]["prompt_logprobs"] == whole["prompt_logprobs"]


def check_chat(door):
    fields = {"messages": [{"role": "user", "content": [{"type": "text", "text": "Tell me"},
                                                        {"type": "text", "text": "a story"}]}],
              "temperature": 0, "max_tokens": 24}
    status, _, whole = door.call("POST", "/v1/chat/completions", fields)
    assert status == 200 and whole["object"] == "chat.completion", whole
    message = whole["choices"][0]["message"]
    assert message["role"] == "assistant"
    plain = dict(fields, messages=[{"role": "user", "content": "Tell me\na story"}])
    assert door.call("POST", "/v1/chat/completions", plain)[2]["choices"] == whole["choices"]
    events = door.stream("/v1/chat/completions", **fields, logprobs=True, top_logprobs=2)
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    text = "".join(e["choices"][0]["delta"].get("content", "") for e in events)
    assert text == message["content"]
    tokens = [t for e in events for t in (e["choices"][0]["logprobs"] or {"content": []})["content"]]
    assert len(tokens) == 24 and all(len(t["top_logprobs"]) == 2 for t in tokens)
    assert bytes(b for t in tokens for b in t["bytes"]).decode() == text
    assert events[-1]["choices"][0]["finish_reason"] == "length"


def check_refusals(door):
    """Each is one answer with the right code; the server goes on."""
    good = {"prompt": "x", "max_tokens": 1}
    for fields, code, text in (
            ("{", 400, "body: expected a JSON object"), ("[]", 400, "body: expected a JSON object"),
            ({}, 400, "prompt"), ({"prompt": {}}, 400, "prompt: expected a string"), ({"prompt": []}, 400, "prompt"),
            ({"prompt": [-1]}, 400, "prompt"), ({"prompt": ["a"] * 129}, 400, "prompt: expected 1 to 128"),
            (dict(good, temperature="hot"), 400, "temperature: expected a number, got a string"),
            (dict(good, temperature=-1), 400, "temperature"), (dict(good, top_p=2), 400, "top_p"),
            (dict(good, n=0), 400, "n: expected an integer from 1"), (dict(good, n=1000), 400, "n:"),
            (dict(good, max_tokens=0), 400, "max_tokens"), (dict(good, stop=5), 400, "stop"),
            (dict(good, logit_bias={"x": 1}), 400, "logit_bias"), (dict(good, seed=1.5), 400, "seed"),
            (dict(good, stream=1), 400, "stream: expected true or false"),
            (dict(good, suffix="y"), 400, "suffix"), (dict(good, best_of=3), 400, "best_of"),
            (dict(good, prompt=""), 400, "prompt: expected 1 to 2047 tokens")):
        status, _, answer = door.call("POST", "/v1/completions", fields)
        assert status == code and text in answer["error"]["message"], (fields, status, answer)
        assert answer["error"]["code"] is None
    for fields, code, word in (
            (dict(good, model="other"), 404, "model_not_found"),
            (dict(good, max_tokens=10 ** 6), 400, "context_length_exceeded"),
            (dict(good, prompt=[5] * 2048), 400, "context_length_exceeded"),
            (dict(good, prompt="x" * 100000), 400, "context_length_exceeded")):
        status, _, answer = door.call("POST", "/v1/completions", fields)
        assert (status, answer["error"]["code"]) == (code, word), (fields, status, answer)
    for fields, code in (({"messages": []}, 400), ({"messages": "hi"}, 400),
                         ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400)):
        assert door.call("POST", "/v1/chat/completions", fields)[0] == code
    for message, text in (({"content": "hi"}, "messages[0].role: expected a string"),
                          ({"role": "user"}, "messages[0].content: expected a string"),
                          ({"role": "user", "content": None}, "messages[0].content: expected a string"),
                          ({"role": "user", "content": 5}, "messages[0].content: expected a string")):
        status, _, answer = door.call("POST", "/v1/chat/completions", {"messages": [message]})
        assert status == 400 and text in answer["error"]["message"], (message, status, answer)
    assert door.call("GET", "/v1/nothing")[0] == 404
    status, headers, _ = door.call("GET", "/v1/completions")
    assert status == 405 and headers["Allow"] == "POST"
    assert door.call("POST", "/v1/completions", b"x" * (5 << 20))[0] == 413


def check_openai_habits(door):
    """What OpenAI's own clients ask and send."""
    models = door.call("GET", "/v1/models")[2]["data"]
    name = models[0]["id"]
    assert door.call("GET", f"/v1/models/{name}")[::2] == (200, models[0])
    assert door.call("GET", "/v1/models/%64" + name[1:])[::2] == (200, models[0])
    for path in ("other", name + "/x", name[:-1]):
        status, _, answer = door.call("GET", "/v1/models/" + path)
        assert status == 404 and answer["error"]["code"] == "model_not_found", (path, status, answer)
    assert door.call("GET", "/v1/models/")[0] == 404 and door.call("DELETE", f"/v1/models/{name}")[0] == 405
    status, headers, body = door.call("HEAD", "/health")
    assert status == 200 and int(headers["Content-Length"]) > 0 and not body
    # A request's name, ours or theirs, stands in a header too; the longest one is not cut.
    fields = {"prompt": "x", "max_tokens": 1}
    for sent in ({}, {"X-Request-Id": "r" * 128}):
        for stream in (False, True):
            status, headers, answer = door.call("POST", "/v1/completions", {**fields, "stream": stream}, **sent)
            name = headers["x-request-id"]
            assert status == 200 and name == sent.get("X-Request-Id", name)
            assert (answer["id"] if not stream else json.loads(answer.split("\n")[0][6:])["id"]) == "cmpl-" + name
    # Fields that ask for nothing.
    chat = {"max_tokens": 4, "temperature": 0, "messages": [{"role": "user", "content": "One"},
                                                            {"role": "assistant", "content": ""},
                                                            {"role": "user", "content": "Two"}]}
    plain = door.call("POST", "/v1/chat/completions", chat)
    chat["messages"][1]["content"] = None
    chat.update(tools=[], functions=[], suffix="", stop=[], logit_bias={})
    same = door.call("POST", "/v1/chat/completions", chat)
    assert plain[0] == same[0] == 200 and plain[2]["choices"] == same[2]["choices"]


def check_operators(door):
    assert door.call("GET", "/health")[::2] == (200, {"status": "serving"})
    assert door.call("GET", "/ready")[0] == 200
    assert door.call("GET", "/v1/models")[2]["data"][0]["max_model_len"] == 2048
    assert re.fullmatch(r"[0-9.]+", door.call("GET", "/version")[2]["version"])
    before = door.metric("moebius_generation_tokens_total")
    door.complete(prompt="x", max_tokens=9, ignore_eos=True)
    assert door.metric("moebius_generation_tokens_total") == before + 9
    connection = door.connect()  # one connection, many requests
    for _ in range(20):
        assert door.call("GET", "/health", connection=connection)[0] == 200
    connection.close()


def check_gone(door):
    """A client that hangs up in mid-stream frees its request; so does one that never reads the answer's beginning."""
    aborted = door.metric("moebius_request_success_total", finished_reason="abort")
    body = json.dumps({"prompt": PROMPT, "max_tokens": 2000, "ignore_eos": True, "stream": True, "n": 4}).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    for read in (4000, 0):
        with socket.create_connection(("127.0.0.1", door.port)) as client:
            client.sendall(head + body)
            if read:
                client.recv(read)
    with socket.create_connection(("127.0.0.1", door.port)) as client:
        client.sendall(head + body[:10])  # gone before the request is whole: no request
    wait_until(lambda: door.metric("moebius_num_requests_running") == 0)
    assert door.metric("moebius_kv_blocks_used") == 0
    assert door.metric("moebius_request_success_total", finished_reason="abort") > aborted


def check_slow_reader(door):
    """A reader that sleeps gets all of it in the end, and nobody waits for it."""
    fields = {"prompt": PROMPT, "max_tokens": 1500, "ignore_eos": True, "temperature": 0, "logprobs": 5}
    body = json.dumps({**fields, "stream": True}).encode()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", door.port))
        client.sendall(b"POST /v1/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        client.recv(1)
        time.sleep(1)
        door.complete(prompt="x", max_tokens=5)
        data = b"".join(iter(lambda: client.recv(1 << 16), b"")).decode()
    texts = re.findall(r'"text": ("(?:[^"\\]|\\.)*")', data)
    assert "data: [DONE]" in data
    assert "".join(json.loads(text) for text in texts) == door.complete(**fields)["choices"][0]["text"]


def check_hoard(door):
    """Unfinished bodies are bounded all together; when they are gone the door is as before."""
    part, probe = b"x" * 4096000, b"x" * 4190000  # who does not fit leaves less room than the probe needs
    clients = []

    def is_full():
        client = socket.create_connection(("127.0.0.1", door.port))
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 4100000\r\n\r\n" + part)
        clients.append(client)
        return len(clients) > 60 and door.call("POST", "/v1/completions", probe)[0] == 503

    wait_until(is_full)
    assert door.call("GET", "/health")[0] == 200
    for client in clients:
        client.close()
    wait_until(lambda: door.call("POST", "/v1/completions", probe)[0] == 400)


def check_keys():
    with tempfile.NamedTemporaryFile("w") as keys:
        keys.write("# ours\nsecret-1\nsecret-2\n")
        keys.flush()
        with Server("--api-key-file", keys.name) as server:
            for key, code in ((None, 401), ("secret-3", 401), ("secret-2", 200)):
                door = Door(server, key)
                status, _, answer = door.call("POST", "/v1/completions", {"prompt": "x", "max_tokens": 1})
                assert status == code and (code == 200 or answer["error"]["code"] == "invalid_api_key")
                assert door.call("GET", "/v1/models")[0] == code
                assert door.call("GET", "/health")[0] == 200


def check_drain():
    """While it drains, what runs goes on, what comes is refused, and /ready says so."""
    with Server("--shutdown-timeout", "20") as server:
        door, box = Door(server), []
        fields = {"prompt": PROMPT, "max_tokens": 1900, "ignore_eos": True}
        thread = threading.Thread(target=lambda: box.append(door.call("POST", "/v1/completions", fields)))
        thread.start()
        wait_until(lambda: door.metric("moebius_num_requests_running") == 1)
        server.signal()
        wait_until(lambda: door.call("GET", "/ready")[0] == 503)
        assert door.call("GET", "/health")[::2] == (200, {"status": "draining"})
        assert door.call("POST", "/v1/completions", {"prompt": "x"})[0] == 503
        thread.join()
        assert box[0][0] == 200 and box[0][2]["usage"]["completion_tokens"] == 1900
        assert server.wait() == 0


def check_port(door):
    """Two servers do not share a port: the second one says so and ends."""
    second = subprocess.run([os.environ["MOEBIUS"], "serve", "--port", "0", "--http-port", str(door.port)],
                            capture_output=True, text=True, timeout=300, check=False)
    assert second.returncode == 3 and f"cannot listen on 127.0.0.1:{door.port}: Address already in use" in second.stderr, second


def check_curl(door):
    text = subprocess.run(["curl", "-sSN", f"http://127.0.0.1:{door.port}/v1/completions", "-d",
                           json.dumps({"prompt": PROMPT, "max_tokens": 5, "stream": True})],
                          check=True, capture_output=True, text=True).stdout
    assert text.startswith("data: {") and text.endswith("data: [DONE]\n\n")


def main():
    ranks = int(os.environ.get("SERVE_RANKS", "1"))
    with Server(ranks=ranks) as server:
        door = Door(server)
        check_same_as_grpc(server, door)
        check_usage_with_each_event(door)
        check_many(door)
        check_fields(door)
        check_prompt_logprobs(door)
        check_chat(door)
        check_refusals(door)
        check_openai_habits(door)
        check_operators(door)
        check_gone(door)
        check_slow_reader(door)
        check_curl(door)
        check_hoard(door)
        check_port(door)
        server.signal()
        assert server.wait() == 0
    check_keys()
    check_drain()


if __name__ == "__main__":
    main()
