"""moebius bench serve against a running server: every flag, figures that add up, refusals, a server that dies."""
import json
import os
import re
import signal
import subprocess
import tempfile

from serve_client import Server

WORKLOADS = "tests/data/workloads/"

# A flag that is not here fails the test: give it a value ("" is none).
VALUES = {"--model": "demo-moe", "--api-key-file": "@key", "--timeout": "60", "--server": "", "--tls": "",
          "--ssl-ca-certs": "", "--ssl-certfile": "", "--ssl-keyfile": "", "--dataset-path": WORKLOADS + "questions.jsonl",
          "--dataset-name": "random", "--num-prompts": "3", "--random-input-len": "5", "--random-output-len": "2",
          "--output-len": "2", "--max-prompt-len": "3", "--max-output-len": "2", "--seed": "18446744073709551615",
          "--ignore-eos": None, "--temperature": "0.7", "--request-rate": "200", "--burstiness": "0.5", "--trace": "",
          "--speed": "2", "--max-concurrency": "1", "--connections": "2", "--warmup": "2", "--goodput": "ttft:1000 tpot:1",
          "--save-result": "@result.json", "--html": "@page.html", "--config": "/dev/null", "--print-config": None}


def bench(address, *arguments, code=0):
    """Runs it; returns the result file as an object, and what was printed."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "result.json")
        command = [os.environ["MOEBIUS"], "bench", "serve", "--server", address, "--save-result", path, *arguments]
        run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert run.returncode == code, (arguments, run.returncode, run.stdout, run.stderr)
        if not os.path.exists(path):
            return None, run.stdout
        with open(path, encoding="utf-8") as file:
            return json.load(file), run.stdout


def check_flags(address, folder):
    shown = subprocess.run([os.environ["MOEBIUS"], "bench", "serve", "--help"], capture_output=True, text=True, check=True)
    assert all(len(line) <= 110 for line in shown.stdout.splitlines())
    flags = re.findall(r"^  (--[a-z-]+)", shown.stdout, re.MULTILINE)
    assert len(flags) > 25, flags
    with open(os.path.join(folder, "key"), "w", encoding="ascii") as file:
        file.write("some-key\n")
    for flag in flags:
        value = VALUES[flag]
        if value == "":
            continue
        value = [] if value is None else [value.replace("@", folder + "/")]
        bench(address, "--num-prompts", "2", "--random-input-len", "4", "--random-output-len", "2", flag, *value)
    with open(os.path.join(folder, "page.html"), encoding="utf-8") as file:
        page = file.read()
    assert page.count("<svg") == 5 and "://" not in page and "Serving Benchmark Result" in page


def check_figures(address):
    result, text = bench(address, "--num-prompts", "40", "--random-input-len", "20", "--random-output-len", "10",
                         "--ignore-eos", "--max-concurrency", "8", "--goodput", "e2el:100000")
    assert (result["completed"], result["failed"]) == (40, 0)
    assert (result["total_input_tokens"], result["total_output_tokens"]) == (800, 400)
    assert 1 <= result["peak_concurrent_requests"] <= 8
    assert result["itl_ms"]["count"] <= 40 * 9 and result["ttft_ms"]["count"] == 40
    assert abs(result["request_goodput"] - result["request_throughput"]) < 1e-6
    for name in ("ttft_ms", "itl_ms", "e2el_ms"):
        spread = result[name]
        assert 0 < spread["median"] <= spread["p90"] <= spread["p99"], (name, spread)
    assert result["ttft_ms"]["median"] <= result["e2el_ms"]["median"]
    assert "Successful requests:                     40 " in text
    assert (result["num_prompts"], result["max_concurrency"], result["request_rate"]) == (40, 8, "inf")
    assert re.search(r"^Maximum request concurrency: +8 *$", text, re.MULTILINE) and "Request rate" not in text
    # open loop: 20 requests at 40 a second take about half a second, and no less than the fastest draw
    result, text = bench(address, "--num-prompts", "20", "--random-input-len", "4", "--random-output-len", "1",
                      "--request-rate", "40", "--burstiness", "100")
    assert (result["max_concurrency"], result["request_rate"], result["burstiness"]) == (None, 40, 100)
    assert re.search(r"^Request rate configured \(RPS\): +40\.00 *$", text, re.MULTILINE) and "Maximum" not in text
    assert result["completed"] == 20 and 0.3 < result["duration"], result["duration"]


def check_traces(address):
    for name, count in (("azure.csv", 2), ("azure-2024.csv", 2), ("mooncake.jsonl", 3), ("sharegpt-ids.jsonl", 2)):
        result, _ = bench(address, "--dataset-path", WORKLOADS + name, "--trace", "--max-prompt-len", "700")
        assert result["completed"] == count, (name, result)
        span = {"azure.csv": 0.25, "azure-2024.csv": 1, "mooncake.jsonl": 1.5, "sharegpt-ids.jsonl": 0}[name]
        assert span <= result["duration"], (name, result["duration"])
    fast = []  # a busy machine may be late, but not always
    while len(fast) < 20 and not (fast and fast[-1] < 1.4):
        fast.append(bench(address, "--dataset-path", WORKLOADS + "mooncake.jsonl", "--trace", "--speed", "10")[0]["duration"])
    assert 0.15 <= fast[-1] < 1.4, fast
    texts, _ = bench(address, "--dataset-path", WORKLOADS + "questions.jsonl", "--num-prompts", "9", "--output-len", "3")
    assert texts["completed"] == 9 and texts["total_input_tokens"] > 9
    bench(address, "--dataset-path", WORKLOADS + "questions.jsonl", "--trace", code=7)


def check_refusals():
    """Refused with a status is answered; the exit code is 0 as long as some were served."""
    with Server("--max-num-seqs", "1", "--max-queue", "1") as server:
        result, text = bench(server.ready[1], "--num-prompts", "50", "--random-input-len", "4", "--random-output-len", "200",
                             "--ignore-eos")
        assert result["completed"] >= 1 and result["failed"] >= 1 and result["failed_without_status"] == 0
        assert result["failed_by_status"] == {"RESOURCE_EXHAUSTED": result["failed"]}
        assert "RESOURCE_EXHAUSTED:" in text
        result, _ = bench(server.ready[1], "--num-prompts", "3", "--random-input-len", "4000", "--warmup", "0", code=7)
        assert result["failed_by_status"] == {"INVALID_ARGUMENT": 3}


def start_long(server):
    command = [os.environ["MOEBIUS"], "bench", "serve", "--server", server.ready[1], "--num-prompts", "64", "--random-input-len", "4",
               "--random-output-len", "1900", "--ignore-eos", "--warmup", "0"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while server.metric("moebius_num_requests_running") < 64:
        assert run.poll() is None, run.communicate()
    return run


def check_interrupt(server):
    run = start_long(server)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=300)
    assert run.returncode == 130 and "Serving Benchmark Result" in out, (run.returncode, out, err)


def check_lost_server():
    with Server() as server:
        run = start_long(server)
        server.process.kill()
        out, err = run.communicate(timeout=300)
        assert run.returncode == 13 and "without a status:" in out, (run.returncode, out, err)


def check_tls(folder):
    """The server's certificate and a key: both are asked for, both are sent; what is wrong is told by the exit code."""
    names = {name: os.path.join(folder, name) for name in ("cert.pem", "cert.key", "keys", "wrong")}
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", names["cert.key"], "-out",
                    names["cert.pem"]], check=True, capture_output=True)
    for name, key in (("keys", "right"), ("wrong", "other")):
        with open(names[name], "w", encoding="ascii") as file:
            file.write(key + "\n")
    few = ["--num-prompts", "3", "--random-output-len", "2"]
    with Server("--ssl-certfile", names["cert.pem"], "--ssl-keyfile", names["cert.key"], "--api-key-file", names["keys"]) as s:
        trusted = [*few, "--ssl-ca-certs", names["cert.pem"]]
        result, _ = bench(s.ready[1], *trusted, "--api-key-file", names["keys"])
        assert result["completed"] == 3
        bench(s.ready[1], *trusted, "--api-key-file", names["wrong"], code=15)
        bench(s.ready[1], *few, "--tls", "--api-key-file", names["keys"], code=13)
        pair = ["--ssl-certfile", names["cert.pem"], "--ssl-keyfile", names["cert.key"]]
        assert bench(s.ready[1], *trusted, *pair, "--api-key-file", names["keys"])[0]["completed"] == 3


def main():
    with Server() as server, tempfile.TemporaryDirectory() as folder:
        check_flags(server.ready[1], folder)
        check_figures(server.ready[1])
        check_traces(server.ready[1])
        check_interrupt(server)
    with Server(ranks=2) as server:
        check_figures(server.ready[1])
    check_refusals()
    check_lost_server()
    with tempfile.TemporaryDirectory() as folder:
        check_tls(folder)


if __name__ == "__main__":
    main()
