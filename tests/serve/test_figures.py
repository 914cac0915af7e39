"""The figures of /metrics and of the operators' door: that they count what their names say, agree with each other, and
that README tells of each. Usage: as serve_client.py says."""
import contextlib
import json
import re
import tempfile
import time
import urllib.error
import urllib.request

import grpc
from serve_client import Answer, Server, make_request, pb
from moebius.v1 import admin_pb2 as admin

CODE = grpc.StatusCode
CHOICES, TOKENS = 3, 20
SERIES = re.compile(r'moebius_(\w+)\{model_name="[^"]*",?([^}]*)\} (\S+)')


@contextlib.contextmanager
def serving(*arguments, ranks=1):
    """A server and the channel to its operators' door."""
    with tempfile.TemporaryDirectory() as folder:
        door = f"unix:{folder}/admin"
        with Server("--admin-address", door, *arguments, ranks=ranks) as server, grpc.insecure_channel(door) as channel:
            yield server, channel
            server.signal()
            assert server.wait(60) == 0


def ask(channel, method, request, answer):
    return channel.unary_unary(f"/moebius.v1.Admin/{method}", request_serializer=type(request).SerializeToString,
                               response_deserializer=answer.FromString)(request, timeout=60)


def http(server, path, body=None):
    """Status and text."""
    port = server.http_port()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def figures(server):
    """Every series once nothing runs: 'name' or 'name{labels of its own}' to its value."""
    end = time.monotonic() + 60
    while server.metric("moebius_num_requests_running") > 0:
        assert time.monotonic() < end, "still running"
        time.sleep(0.02)
    return {name + (f"{{{labels}}}" if labels else ""): float(value)
            for name, labels, value in SERIES.findall(http(server, "/metrics")[1])}


def fixed_request(tokens=TOKENS, n=1):
    request = make_request(tokens=tokens, temperature=0)
    request.stop.ignore_eos = True
    request.n = n
    return request


# ---- nodes ----

def check_nodes(ranks_per_node):
    """The ranks of a host counted as several nodes: as many everywhere, and the sums by node are those by rank."""
    ranks = 4
    size = ranks // ranks_per_node
    with serving("--ranks-per-node", str(ranks_per_node), ranks=ranks) as (server, channel):
        assert Answer(server.stream(fixed_request())).code == CODE.OK
        figures(server)  # the ranks have been asked
        placement = ask(channel, "GetPlacement", admin.GetPlacementRequest(), admin.Placement)
        assert placement.nodes == size, placement.nodes
        by_rank = ask(channel, "GetTraffic", admin.GetTrafficRequest(), admin.GetTrafficResponse)
        by_node = ask(channel, "GetTraffic", admin.GetTrafficRequest(by_node=True), admin.GetTrafficResponse)
        assert by_node.size == size, by_node.size
        for name in ("dispatch_bytes", "combine_bytes", "messages"):
            expected = [0] * (size * size)
            for i, value in enumerate(getattr(by_rank, name)):
                expected[i // ranks // ranks_per_node * size + i % ranks // ranks_per_node] += value
            assert list(getattr(by_node, name)) == expected and sum(expected) > 0, name


# ---- requests ----

def is_near(a, b):
    return abs(a - b) <= 1e-6 + 1e-6 * abs(b)


def check_choices():
    """Each choice counts as a request. They run one after the other here: a time that is not a choice's own is wrong."""
    with serving("--max-num-seqs", "1", "--max-queue", "8") as (server, channel):
        answer = Answer(server.stream(fixed_request(n=CHOICES)))
        assert answer.code == CODE.OK and [len(ids) for ids in answer.ids.values()] == [TOKENS] * CHOICES
        now = figures(server)
        stats = ask(channel, "GetStats", admin.GetStatsRequest(), admin.GetStatsResponse)
        prompt = answer.usage.prompt_tokens
        assert now['request_success_total{finished_reason="length"}'] == CHOICES == stats.finished
        for name in ("time_to_first_token_seconds", "request_time_per_output_token_seconds",
                     "e2e_request_latency_seconds", "request_queue_time_seconds", "request_prefill_time_seconds",
                     "request_decode_time_seconds", "request_inference_time_seconds", "request_prompt_tokens",
                     "request_generation_tokens", "request_params_max_tokens"):
            assert now[name + "_count"] == CHOICES, (name, now[name + "_count"])
        assert now["prompt_tokens_total"] == now["request_prompt_tokens_sum"] == CHOICES * prompt == stats.prompt_tokens
        assert now["generation_tokens_total"] == now["request_generation_tokens_sum"] == CHOICES * TOKENS
        assert now["request_params_max_tokens_sum"] == CHOICES * TOKENS == stats.generated_tokens
        assert (now["request_params_n_count"], now["request_params_n_sum"]) == (1, CHOICES)
        assert (now["request_max_num_generation_tokens_count"], now["request_max_num_generation_tokens_sum"]) == (1, TOKENS)
        first, queue, prefill, decode, inference, whole, gaps, mean = (now[name + "_seconds_sum"] for name in (
            "time_to_first_token", "request_queue_time", "request_prefill_time", "request_decode_time",
            "request_inference_time", "e2e_request_latency", "inter_token_latency", "request_time_per_output_token"))
        assert decode > 0 and is_near(decode, gaps) and is_near(mean * (TOKENS - 1), gaps), (decode, gaps, mean)
        assert is_near(queue + prefill, first) and is_near(prefill + decode, inference), (queue, prefill, first, inference)
        assert is_near(queue + inference, whole) and queue > decode / CHOICES, (queue, inference, whole)


def check_refusals():
    """Whoever is refused counts once, whichever door and part of the server refuses, and by what reason."""
    with serving("--max-num-seqs", "1", "--max-queue", "1") as (server, channel):
        invalid = 0
        for body in (b"{", b'{"prompt": 1.5}', b'{"prompt": "a", "temperature": "hot"}', b'{"prompt": "a", "best_of": 7}',
                     b'{"max_tokens": 3}', b'{"prompt": "a", "temperature": -1}', b'{"prompt": ["a", ""], "model": "none"}'):
            assert http(server, "/v1/completions", body)[0] in (400, 404), body
            invalid += 1
        request = make_request()
        request.sampling.temperature = -1
        for request in (request, pb.GenerateRequest(), pb.GenerateRequest(text="a", n=1 << 31)):
            assert Answer(server.stream(request)).code == CODE.INVALID_ARGUMENT
            invalid += 1
        held = server.stream(fixed_request(1500, n=2))
        next(held)
        assert http(server, "/v1/completions", json.dumps({"prompt": ["a", "b"]}).encode())[0] == 429
        assert Answer(server.stream(make_request())).code == CODE.RESOURCE_EXHAUSTED
        drain = channel.unary_stream("/moebius.v1.Admin/Drain", request_serializer=admin.DrainRequest.SerializeToString,
                                     response_deserializer=admin.DrainProgress.FromString)
        progress = drain(admin.DrainRequest(timeout_ms=1), timeout=60)
        next(progress)
        assert http(server, "/v1/completions", b'{"prompt": "a"}')[0] == 503
        assert Answer(server.stream(make_request())).code == CODE.UNAVAILABLE
        list(progress)
        now = figures(server)
        told = {reason: now[f'requests_rejected_total{{reason="{reason}"}}'] for reason in ("full", "draining", "invalid")}
        assert told == {"full": 2, "draining": 2, "invalid": invalid}, told
        assert ask(channel, "GetStats", admin.GetStatsRequest(), admin.GetStatsResponse).rejected == 4


def check_prefix_cache():
    for arguments, looks in (((), True), (("--no-prefix-cache",), False)):
        with serving(*arguments) as (server, _):
            assert Answer(server.stream(fixed_request())).code == CODE.OK
            assert (figures(server)["prefix_cache_queries_total"] > 0) == looks, arguments


# ---- experts, threads ----

def check_experts():
    """The same tokens on one rank and on four: the same pairs, all at home on one."""
    seen = {}
    for ranks in (1, 4):
        with serving("--moe-flow", "allgather", ranks=ranks) as (server, channel):
            assert Answer(server.stream(fixed_request())).code == CODE.OK
            now = figures(server)
            stats = ask(channel, "GetStats", admin.GetStatsRequest(), admin.GetStatsResponse)
        pairs, tokens = now["routed_pairs_total"], now["routed_tokens_total"]
        assert pairs == sum(now[f'rank_expert_pairs_total{{rank="{rank}"}}'] for rank in range(ranks)) > tokens > 0
        assert is_near(now["local_activation_rate"], now["local_pairs_total"] / pairs)
        assert (now["local_activation_rate"] == 1) == (ranks == 1), now["local_activation_rate"]
        seen[ranks] = pairs, tokens
        flows = {name: value for name, value in now.items() if name.startswith("moe_flow_steps_total")}
        assert len(flows) == 5 and flows['moe_flow_steps_total{flow="allgather"}'] == sum(flows.values()), flows
        assert sum(flows.values()) == (now["steps_total"] if ranks > 1 else 0), (flows, now["steps_total"])
        told = {f'moe_flow_steps_total{{flow="{row.flow}"}}': row.steps for row in stats.flow_steps}
        assert told == (flows if ranks > 1 else {}), told
        assert 0 < now["schedule_seconds_total"] < now["step_seconds_sum"]
        assert abs(stats.schedule_us - now["schedule_seconds_total"] * 1e6) <= 1, stats.schedule_us
    assert seen[1] == seen[4], seen


def check_network_thread():
    """It is told ten times a second, and what it did for the answers is more than nothing."""
    with serving() as (server, _):
        before = figures(server)["network_thread_cpu_seconds_total"]
        start = time.monotonic()
        while figures(server)["network_thread_cpu_seconds_total"] == before:
            assert time.monotonic() - start < 60
        assert before < figures(server)["network_thread_cpu_seconds_total"] < 60


# ---- README ----

def check_readme():
    with open("README.md", encoding="utf-8") as file:
        table = file.read().split("| metric | type | what |\n", 1)[1].split("\n\n", 1)[0]
    rows = {}
    for row in table.splitlines()[1:]:
        names, kind = row.split("|")[1:3]
        for name in re.findall(r"`(\w+)(?:\{[\w,]+\})?`", names):
            assert name not in rows, name
            rows[name] = kind.strip()
    with serving() as (server, _):
        told = dict(re.findall(r"^# TYPE moebius_(\w+) (\w+)$", http(server, "/metrics")[1], re.MULTILINE))
    assert rows == told, (set(rows.items()) ^ set(told.items()))


def main():
    check_nodes(1)
    check_nodes(2)
    check_choices()
    check_refusals()
    check_prefix_cache()
    check_experts()
    check_network_thread()
    check_readme()


if __name__ == "__main__":
    main()
