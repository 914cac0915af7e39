"""Starts moebius serve, alone or under mpirun, and talks to it with Debian's grpcio."""
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.request

sys.path.insert(0, os.environ["SERVE_STUBS"])  # made by protoc at build
import grpc  # noqa: E402
from moebius.v1 import inference_pb2 as pb  # noqa: E402

MPIRUN = [os.environ["MPIEXEC"], "--allow-run-as-root", "--oversubscribe", "--mca", "mpi_yield_when_idle", "1",
          "--mca", "pml", "ob1", "--mca", "btl", "self,vader,tcp", "--mca", "btl_tcp_if_include", "lo", "-n"]
READY = re.compile(r"ready: gRPC at (\S+?)(?: with TLS)?(?:, HTTP at https?://\S+?)?(?:, admin at \S+?(?: with TLS)?)?, "
                   r"(\d+) ranks?, KV cache of (\d+) tokens; "
                   r"Maximum concurrency for (\d+) tokens per request: ([0-9.]+)x\n")


class Server:
    """A running server on `ranks` ranks; `files`: its limits of open files, soft and hard."""

    def __init__(self, *arguments, ranks=1, files=None):
        command = [os.environ["MOEBIUS"], "serve", "--port", "0", "--http-port", "0", *arguments]
        self.log = tempfile.TemporaryFile("w+", encoding="utf-8")
        self.process = subprocess.Popen(command if ranks == 1 else MPIRUN + [str(ranks)] + command,
                                        stdout=subprocess.PIPE, stderr=self.log, text=True,
                                        preexec_fn=files and (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, files)))
        line = self.process.stdout.readline()
        self.ready = READY.fullmatch(line)
        assert self.ready, (line, self.read_log())
        assert int(self.ready[2]) == ranks
        self.ranks = [self.process.pid] if ranks == 1 else self.children()
        self.channel = grpc.insecure_channel(self.ready[1])

    def children(self):
        """The ranks' processes, rank 0 first."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as file:
            return sorted(int(pid) for pid in file.read().split())

    def read_log(self):
        self.log.seek(0)
        return self.log.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.log.close()

    def signal(self, number=signal.SIGTERM, rank=0):
        os.kill(self.ranks[rank], number)

    def wait(self, seconds=300):
        """The exit code."""
        return self.process.wait(seconds)

    def stream(self, request, timeout=300, channel=None):
        method = (channel or self.channel).unary_stream("/moebius.v1.Inference/GenerateStream",
                                                        request_serializer=pb.GenerateRequest.SerializeToString,
                                                        response_deserializer=pb.GenerateChunk.FromString)
        return method(request, timeout=timeout)

    def http_port(self):
        return int(re.search(r", HTTP at https?://\S+:(\d+), ", self.ready[0])[1])

    def metric(self, name, labels=""):
        """The value of a gauge or counter, as Prometheus would see it; `labels`: those of its own, 'reason="full"'."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port()}/metrics", timeout=60) as answer:
            text = answer.read().decode()
        return float(re.search(rf"^{name}\{{[^}}]*{labels}[^}}]*\}} (\S+)$", text, re.MULTILINE)[1])

    def finished(self, reason):
        """How many choices have ended so."""
        return self.metric("moebius_request_success_total", f'finished_reason="{reason}"')

    def is_serving(self, channel=None):
        check = (channel or self.channel).unary_unary("/grpc.health.v1.Health/Check")
        return check(b"", timeout=60) == b"\x08\x01"


class Answer:
    """What a stream said: text, ids and end of each choice; `code`: how the call ended."""

    def __init__(self, call, cancel_after=0):
        self.text, self.ids, self.finish, self.seed = {}, {}, {}, {}
        self.code, self.details, self.usage = grpc.StatusCode.OK, "", None
        self.first = threading.Event()
        self.call = call
        try:
            for chunk in call:
                self.take(chunk)
                if cancel_after and len(self.ids.get(0, [])) >= cancel_after:
                    call.cancel()
        except grpc.RpcError as error:
            self.code, self.details = error.code(), error.details()
        self.first.set()

    def take(self, chunk):
        index = chunk.index
        assert index not in self.finish, "a chunk behind the last"
        self.text[index] = self.text.get(index, "") + chunk.text
        self.ids.setdefault(index, []).extend(chunk.token_ids)
        self.first.set()
        if chunk.finish_reason:
            self.finish[index] = chunk.finish_reason
            self.seed[index] = chunk.seed
        if chunk.HasField("usage"):
            self.usage = chunk.usage

    def whole(self):
        return (self.text, self.ids, self.finish, self.seed, self.code)


def in_background(server, request, timeout=300, cancel_after=0):
    """Starts a call on a thread; returns (thread, list that will hold its Answer)."""
    box = []
    thread = threading.Thread(target=lambda: box.append(Answer(server.stream(request, timeout), cancel_after)))
    thread.start()
    return thread, box


def make_request(text="It was a cold evening, and the old man", tokens=20, **sampling):
    request = pb.GenerateRequest(text=text)
    request.output.token_ids = True
    request.stop.max_new_tokens = tokens
    for name, value in sampling.items():
        setattr(request.sampling, name, value)
    return request
