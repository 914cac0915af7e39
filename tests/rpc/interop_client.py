"""Starts the interop server and talks to it with Debian's grpcio, as shared code of the tests beside it."""
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, os.environ["INTEROP_STUBS"])  # made by protoc at build
import grpc  # noqa: E402
from interop import interop_test_pb2 as pb  # noqa: E402

SERVICE = "/grpc.testing.TestService/"


class Server:
    """A running interop server; arguments as interop_server.c has them."""

    def __init__(self, *arguments, address="127.0.0.1:0", stderr=None):
        self.process = subprocess.Popen([os.environ["INTEROP_SERVER"], address, *arguments],
                                        stdout=subprocess.PIPE, stderr=stderr, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("listening on "), line
        self.address = line.split()[2]
        self.port = int(self.address.rsplit(":", 1)[1]) if not self.address.startswith("unix:") else 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Ends the server at once; it must end well (sanitizers report by the exit code). Returns what it counted."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(0.5)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGTERM)
            rest = self.process.communicate(timeout=20)[0]
            assert self.process.returncode == 0, self.process.returncode
            self.counts = {name: int(value) for name, value in re.findall(r"(\w+) (\d+)", rest)}
        return self.counts

    def memory_bytes(self):
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


class Client:
    """The test service's methods on a channel."""

    def __init__(self, channel):
        self.channel = channel

        def method(kind, name, answer):
            return getattr(channel, kind)(SERVICE + name, request_serializer=lambda m: m.SerializeToString(),
                                          response_deserializer=answer.FromString)

        self.empty = method("unary_unary", "EmptyCall", pb.Empty)
        self.unary = method("unary_unary", "UnaryCall", pb.SimpleResponse)
        self.stream_out = method("unary_stream", "StreamingOutputCall", pb.StreamingOutputCallResponse)
        self.stream_in = method("stream_unary", "StreamingInputCall", pb.StreamingInputCallResponse)
        self.duplex = method("stream_stream", "FullDuplexCall", pb.StreamingOutputCallResponse)
        self.unimplemented = method("unary_unary", "UnimplementedCall", pb.Empty)

    def counters(self):
        """What the service counted, by name: begun, cancelled, finished, client."""
        text = self.unary(pb.SimpleRequest(fill_username=True), timeout=10).username
        return dict(re.findall(r"(\w+)=(\S+)", text))


def connect(address, **options):
    """A client in cleartext, without proxies, with a channel of its own."""
    settings = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0),
                ("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    settings += [(name.replace("__", "."), value) for name, value in options.items()]
    return Client(grpc.insecure_channel(address, options=settings))


def expect_error(code, call, *arguments, **named):
    """Runs a call that must fail with `code`; returns the error."""
    try:
        result = call(*arguments, **named)
        if hasattr(result, "__iter__"):
            list(result)
    except grpc.RpcError as error:
        assert error.code() == code, (error.code(), error.details())
        return error
    raise AssertionError(f"expected {code}, got an answer")


def payload(size):
    return pb.Payload(body=bytes(size))


def run(cases):
    """Runs functions, each with a name; says which failed."""
    failed = 0
    wanted = sys.argv[1:]
    for case in cases:
        if wanted and case.__name__ not in wanted:
            continue
        try:
            case()
            print("ok", case.__name__, flush=True)
        except Exception as error:  # pylint: disable=broad-except
            import traceback
            traceback.print_exc()
            print("FAILED", case.__name__, repr(error), flush=True)
            failed += 1
    sys.exit(1 if failed else 0)


def scratch():
    return tempfile.TemporaryDirectory(prefix="moebius-interop-")
