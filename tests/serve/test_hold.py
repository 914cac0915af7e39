"""Load held: 256 streams at once for about so many seconds, then floods of short requests. Memory of every rank stays as
it was once everything was in use, and each request is answered or refused with a status.
Usage: test_hold.py RANKS SECONDS"""
import json
import os
import subprocess
import sys
import tempfile
import threading

from serve_client import Server

STREAMS, SHORT = 256, 10000
PROMPT, ANSWER = 64, 512
GROWTH_MAX = 1.01


def resident_kb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))


def load(server, prompts, *arguments):
    """A run of bench serve; returns its result, and the most memory that each rank held meanwhile, in kB."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "result.json")
        command = [os.environ["MOEBIUS"], "bench", "serve", "--server", server.ready[1], "--num-prompts", str(prompts),
                   "--connections", "16", "--ignore-eos", "--save-result", path, *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        output = []
        reader = threading.Thread(target=lambda: output.extend(process.communicate()))
        reader.start()
        most = [resident_kb(pid) for pid in server.ranks]
        while reader.is_alive():
            reader.join(0.5)
            most = [max(kb, resident_kb(pid)) for kb, pid in zip(most, server.ranks)]
        assert process.returncode == 0, output
        with open(path, encoding="utf-8") as file:
            return json.load(file), most


def held(server, prompts):
    return load(server, prompts, "--max-concurrency", str(STREAMS), "--random-input-len", str(PROMPT),
                "--random-output-len", str(ANSWER))


def has_grown(before, after):
    return any(now > GROWTH_MAX * then for then, now in zip(before, after))


def short(server, *arguments):
    return load(server, SHORT, "--random-input-len", "16", "--random-output-len", "4", *arguments)


def main():
    ranks, seconds = int(sys.argv[1]), int(sys.argv[2])
    with Server(ranks=ranks) as server:
        # Freed blocks of the KV cache keep their content: its memory is all touched once it has been filled.
        result, before = held(server, STREAMS + int(1.3 * int(server.ready[3]) / (PROMPT + ANSWER)))
        requests = int(seconds * result["request_throughput"])
        result, after = held(server, requests)
        print(f"{requests} requests of {ANSWER} tokens in {result['duration']:.0f} s, {STREAMS} at once: the ranks held "
              f"{before} kB before, {after} kB at most; {result['output_throughput']:.0f} tokens/s", flush=True)
        assert (result["completed"], result["total_output_tokens"]) == (requests, ANSWER * requests), result
        assert not has_grown(before, after), (before, after)
        _, before = short(server, "--max-concurrency", "1000")
        result, after = short(server, "--max-concurrency", "1000")
        print(f"{SHORT} short requests in {result['duration']:.1f} s: {before} kB, then {after} kB", flush=True)
        assert result["completed"] == SHORT and not has_grown(before, after), (result, before, after)
        result, _ = short(server)  # more than may wait: most are refused at once
        refused = result["failed_by_status"].get("RESOURCE_EXHAUSTED", 0)
        print(f"{SHORT} at once: {result['completed']} answered, {refused} refused, in {result['duration']:.1f} s", flush=True)
        assert result["completed"] + refused == SHORT and refused > 0 and result["completed"] > 1000, result
        server.signal()
        assert server.wait() == 0


if __name__ == "__main__":
    main()
