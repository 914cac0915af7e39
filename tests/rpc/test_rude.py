"""Clients that are slow, rude or gone, by bare sockets: the server stays well, and a polite client beside them notices
nothing."""
import resource
import socket
import struct
import subprocess
import tempfile
import time

import grpc

from interop_client import Server, connect, expect_error, payload, pb, run

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else 65536, hard))


def frame(kind, flags, stream, body=b""):
    return struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body


def literal(name, value):
    """A header field without compression and without indexing (RFC 7541, 6.2.2)."""
    def text(data):
        assert len(data) < 127 + 128
        return (bytes([len(data)]) if len(data) < 127 else bytes([127, len(data) - 127])) + data
    return b"\x00" + text(name.encode()) + text(value.encode())


def headers(path="/grpc.testing.TestService/UnaryCall", method="POST", kind="application/grpc", extra=()):
    pairs = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "x"), ("content-type", kind),
             ("te", "trailers"), *extra]
    return b"".join(literal(name, value) for name, value in pairs)


def message(data):
    return b"\x00" + struct.pack(">I", len(data)) + data


class Raw:
    """A connection whose frames the test writes itself."""

    def __init__(self, server, hello=True):
        self.socket = socket.create_connection(("127.0.0.1", server.port))
        self.socket.settimeout(20)
        self.buffer = b""
        if hello:
            self.send(PREFACE + frame(SETTINGS, 0, 0))

    def send(self, data):
        self.socket.sendall(data)

    def call(self, stream=1, data=b"", flags=END_STREAM, **named):
        self.send(frame(HEADERS, END_HEADERS, stream, headers(**named)) + frame(DATA, flags, stream, message(data)))

    def frames(self):
        """Frames as they come, until the server closes."""
        while True:
            while len(self.buffer) >= 9 and len(self.buffer) >= 9 + int.from_bytes(self.buffer[:3], "big"):
                size = int.from_bytes(self.buffer[:3], "big")
                head, body = self.buffer[:9], self.buffer[9:9 + size]
                self.buffer = self.buffer[9 + size:]
                yield head[3], head[4], int.from_bytes(head[5:9], "big"), body
            try:
                more = self.socket.recv(65536)
            except ConnectionResetError:
                return
            if not more:
                return
            self.buffer += more

    def wait_for(self, kind, flags=0):
        for got in self.frames():
            if got[0] == kind and got[1] & flags == flags:
                return got
        raise AssertionError(f"no frame of kind {kind}")

    def is_closed_within(self, seconds):
        self.socket.settimeout(seconds)
        try:
            for _ in self.frames():
                pass
            return True
        except socket.timeout:
            return False

    def close(self):
        self.socket.close()


def polite(server):
    """A well-behaved call beside the others, and how long it took."""
    start = time.monotonic()
    client = connect(server.address)
    assert client.unary(pb.SimpleRequest(response_size=1000), timeout=10).payload.body == bytes(1000)
    client.channel.close()
    return time.monotonic() - start


def eventually(check, seconds=10):
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "not within the time"
        time.sleep(0.02)


def output_request(*sizes, interval_us=0):
    parameters = [pb.ResponseParameters(size=size, interval_us=interval_us) for size in sizes]
    return pb.StreamingOutputCallRequest(response_parameters=parameters).SerializeToString()


def silent_connections():
    """1,000 connections that send nothing: others are served at once, and they are closed in time."""
    with Server("--option", "handshake_ms", "1500") as server:
        before = server.descriptors()
        silent = [Raw(server, hello=False) for _ in range(1000)]
        assert polite(server) < 5
        eventually(lambda: server.descriptors() <= before + 1)
        assert all(one.is_closed_within(1) for one in silent[::100])


def silent_connections_give_way():
    """When all places are taken by those who say nothing, a new client gets the oldest one's; when they are taken by
    real ones, it is refused and they are not harmed."""
    with Server("--option", "connections_max", "20", "--option", "handshake_ms", "60000") as server:
        silent = [Raw(server, hello=False) for _ in range(20)]
        time.sleep(0.1)
        polite(server)
        assert silent[0].is_closed_within(2)
        real = [Raw(server) for _ in range(20)]
        for one in real:
            one.wait_for(SETTINGS, ACK)
        late = Raw(server)
        assert late.is_closed_within(2)
        real[7].call()
        assert real[7].wait_for(HEADERS, END_STREAM)


def out_of_descriptors():
    """The log says so once, not ten times a second; afterwards all is as before, and the next time it says so again."""
    with tempfile.TemporaryFile("w+") as log, Server(stderr=log) as server:
        for episode in (1, 2):
            resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (server.descriptors() + 40, hard))
            many = [Raw(server, hello=False) for _ in range(100)]
            time.sleep(1)
            log.seek(0)
            assert log.read().count("accept: Too many open files") == episode
            for one in many:
                one.close()
            polite(server)


def half_handshake():
    """The preface byte by byte, never finished."""
    with Server("--option", "handshake_ms", "400") as server:
        one = Raw(server, hello=False)
        one.send(PREFACE[:10])
        assert one.is_closed_within(3)


def idle_connection_is_ended():
    with Server("--option", "idle_ms", "400") as server:
        one = Raw(server)
        one.wait_for(GOAWAY)
        assert one.is_closed_within(2)


def unfinished_request():
    """A request whose message never ends is answered with DEADLINE_EXCEEDED."""
    with Server("--option", "request_ms", "300") as server:
        one = Raw(server)
        one.send(frame(HEADERS, END_HEADERS, 1, headers()) + frame(DATA, 0, 1, message(bytes(100))[:50]))
        body = one.wait_for(HEADERS, END_STREAM)[3]
        assert b"did%20not" in body or len(body) > 0
        polite(server)


def mid_frame_disconnects():
    """Cut at every point of a request: no trace is left."""
    with Server() as server:
        request = PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, END_HEADERS, 1, headers()) + \
            frame(DATA, END_STREAM, 1, message(pb.SimpleRequest(payload=payload(40)).SerializeToString()))
        before = server.descriptors()
        for cut in range(0, len(request), 3):
            one = Raw(server, hello=False)
            one.send(request[:cut])
            if cut % 2:
                one.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.close()
        eventually(lambda: server.descriptors() <= before + 1)
        polite(server)


def vanished_client_frees_its_streams():
    """Streams of a client whose connection breaks are cancelled."""
    with Server() as server:
        one = Raw(server)
        for number in range(10):
            one.call(stream=1 + 2 * number, path="/grpc.testing.TestService/StreamingOutputCall",
                     data=output_request(1, 1, interval_us=30000000))
        client = connect(server.address)
        eventually(lambda: client.counters()["begun"] == "10")
        one.close()
        eventually(lambda: client.counters()["cancelled"] == "10")


def frozen_client_is_pinged():
    """A client that is connected but says nothing any more, while its stream runs."""
    with Server("--option", "keepalive_ms", "300", "--option", "keepalive_timeout_ms", "300") as server:
        one = Raw(server)
        one.call(path="/grpc.testing.TestService/StreamingOutputCall", data=output_request(1, interval_us=60000000))
        one.wait_for(PING)
        client = connect(server.address)
        eventually(lambda: client.counters()["cancelled"] == "1")
        # One that answers lives.
        other = Raw(server)
        other.call(path="/grpc.testing.TestService/StreamingOutputCall", data=output_request(7, interval_us=1500000))
        for kind, flags, _, body in other.frames():
            if kind == PING and not flags & ACK:
                other.send(frame(PING, ACK, 0, body))
            elif kind == HEADERS and flags & END_STREAM:
                break
        else:
            raise AssertionError("closed although every ping was answered")


def slow_reader():
    """A reader of one byte a second, and streams whose window never opens: ended in time with RESOURCE_EXHAUSTED, in
    bounded memory; the polite client is as quick as ever."""
    with Server("--option", "stall_ms", "1500", "--option", "queue_bytes_max", "65536") as server:
        client = connect(server.address)
        polite(server)
        before = server.memory_bytes()
        slow = []
        for _ in range(20):
            one = Raw(server)
            one.call(path="/grpc.testing.TestService/StreamingOutputCall", data=output_request(*([10000] * 2000)))
            slow.append(one)
        start = time.monotonic()
        while client.counters()["cancelled"] != "20":
            assert time.monotonic() - start < 30
            for one in slow:
                one.buffer += one.socket.recv(1)
            assert polite(server) < 3
            time.sleep(1)
        assert time.monotonic() - start > 1
        assert server.memory_bytes() - before < 20 << 20, server.memory_bytes() - before
        trailers = slow[0].wait_for(HEADERS, END_STREAM)
        assert b"grpc-status" in trailers[3] or len(trailers[3]) > 10


def reader_without_sockets_room():
    """A client that opens all windows and then reads nothing: the socket takes no bytes, the connection ends."""
    with Server("--option", "stall_ms", "800") as server:
        one = Raw(server)
        one.send(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 0x7fff0000)))
        one.send(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0x7fff0000)))
        one.call(path="/grpc.testing.TestService/StreamingOutputCall", data=output_request(*([100000] * 2000)))
        client = connect(server.address)
        eventually(lambda: client.counters()["cancelled"] == "1")


def finished_but_not_read():
    """The service has finished; the rest is not taken: the stream is given up, not kept."""
    with Server("--option", "stall_ms", "500") as server:
        one = Raw(server)
        one.call(path="/grpc.testing.TestService/StreamingOutputCall", data=output_request(100000))
        assert one.wait_for(RST_STREAM)[2] == 1


def is_ended(one, send):
    """Whether sending makes the server close: with GOAWAY, which its reset may overtake."""
    try:
        for _ in range(400):
            one.send(send())
    except (BrokenPipeError, ConnectionResetError):
        return True
    return one.is_closed_within(5)


def floods():
    """Frames that make work and bring nothing: PING, SETTINGS, PRIORITY, empty DATA, resets (CVE-2023-44487), streams
    made to fail (CVE-2025-8671), CONTINUATION without end."""
    with Server() as server:
        stream = [1]

        def reset_streams():
            out = b""
            for _ in range(50):
                out += frame(HEADERS, END_HEADERS, stream[0], headers()) + \
                    frame(RST_STREAM, 0, stream[0], struct.pack(">I", 8))
                stream[0] += 2
            return out

        def broken_streams():
            out = b""
            for _ in range(50):
                out += frame(HEADERS, END_HEADERS | END_STREAM, stream[0], headers()) + \
                    frame(WINDOW_UPDATE, 0, stream[0], struct.pack(">I", 0))
                stream[0] += 2
            return out

        assert is_ended(Raw(server), lambda: frame(PING, 0, 0, bytes(8)) * 100)
        assert is_ended(Raw(server), lambda: frame(SETTINGS, 0, 0) * 100)
        assert is_ended(Raw(server), lambda: frame(PRIORITY, 0, 1, bytes([0, 0, 0, 0, 1])) * 100)
        assert is_ended(Raw(server), reset_streams)
        stream[0] = 1
        assert is_ended(Raw(server), broken_streams)
        one = Raw(server)
        one.send(frame(HEADERS, END_HEADERS, 1, headers()))
        assert is_ended(one, lambda: frame(DATA, 0, 1) * 100)
        one = Raw(server)
        one.send(frame(HEADERS, 0, 1, literal("a", "b")))
        assert is_ended(one, lambda: frame(CONTINUATION, 0, 1, literal("a", "b" * 100) * 10))
        # Not a flood: a hundred PINGs, each answered.
        one = Raw(server)
        one.send(frame(PING, 0, 0, bytes(8)) * 100)
        for _ in range(100):
            one.wait_for(PING, ACK)
        polite(server)
        assert server.memory_bytes() < 100 << 20


def too_many_streams():
    """Streams beyond the limit are refused, the others are served; who has acknowledged the limit and goes beyond it
    breaks the protocol."""
    with Server("--option", "streams_max", "8") as server:
        def open_twelve(one):
            for number in range(12):
                one.call(stream=1 + 2 * number, path="/grpc.testing.TestService/StreamingOutputCall",
                         data=output_request(1, interval_us=500000))

        one = Raw(server)
        open_twelve(one)
        ended = refused = 0
        for kind, flags, _, body in one.frames():
            if kind == RST_STREAM and body == struct.pack(">I", 7):  # REFUSED_STREAM
                refused += 1
            elif kind == HEADERS and flags & END_STREAM:
                ended += 1
            if ended + refused == 12:
                break
        assert (ended, refused) == (8, 4), (ended, refused)
        one = Raw(server)
        one.wait_for(SETTINGS, ACK)
        one.send(frame(SETTINGS, ACK, 0))
        time.sleep(0.1)
        try:
            open_twelve(one)
        except (BrokenPipeError, ConnectionResetError):
            return
        assert one.is_closed_within(5)


def unfinished_messages_are_bounded():
    """Many clients that each leave a large message unfinished: what is held of them together has a limit."""
    with Server("--option", "buffer_bytes_max", "10000000") as server:
        polite(server)
        before = server.memory_bytes()
        connections = [Raw(server) for _ in range(10)]
        refused = 0
        for one in connections:
            one.send(frame(HEADERS, END_HEADERS, 1, headers()))
            one.send(frame(DATA, 0, 1, message(bytes(3000000))[:16384]))
            for _ in range(100):
                one.send(frame(DATA, 0, 1, bytes(10000)))
        for one in connections[:8]:
            one.socket.settimeout(0.5)
            try:
                one.wait_for(HEADERS, END_STREAM)
                refused += 1
            except (socket.timeout, AssertionError):
                pass
        assert server.memory_bytes() - before < 40 << 20
        for one in connections:
            one.close()
        polite(server)


def curl(server, *arguments):
    command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--http2-prior-knowledge", "--max-time", "10",
               "--noproxy", "*", *arguments, f"http://{server.address}/grpc.testing.TestService/EmptyCall"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout


def not_grpc():
    """HTTP that is not gRPC is answered as HTTP."""
    with Server() as server:
        assert curl(server) == "405"
        assert curl(server, "-d", "x") == "415"
        assert curl(server, "-X", "POST", "-H", "content-type: application/grpc-web") == "415"
        assert curl(server, "-X", "POST", "-H", "content-type: application/grpc", "--data-binary", "@/dev/null") == "200"
        one = Raw(server, hello=False)
        one.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert one.is_closed_within(5)
        polite(server)


def drain():
    """SIGTERM: what runs goes on to its end, a new call is refused as retryable, the process ends by itself."""
    server = Server()
    client = connect(server.address)
    stream = client.stream_out(pb.StreamingOutputCallRequest(response_parameters=[
        pb.ResponseParameters(size=5, interval_us=100000) for _ in range(8)]), timeout=20)
    assert len(next(stream).payload.body) == 5
    server.process.terminate()
    time.sleep(0.2)
    expect_error(grpc.StatusCode.UNAVAILABLE, client.empty, pb.Empty(), timeout=5)
    assert len(list(stream)) == 7
    server.process.wait(10)
    assert server.process.returncode == 0


def end_waits_for_the_client():
    """The server has said all and goes: a client that is still writing meets no closed connection, with which it
    would lose what it has not read. One that does not close is not waited for."""
    for closes in (True, False):
        server = Server("--option", "stall_ms", "1000")
        raw = Raw(server)
        raw.send(frame(SETTINGS, ACK, 0))
        polite(server)
        server.process.terminate()
        raw.wait_for(GOAWAY)
        for _ in range(3):  # a closed connection would answer the first one with a reset, and the next one fail
            raw.send(frame(PING, 0, 0, bytes(8)))
            time.sleep(0.05)
        assert not list(raw.frames())
        if closes:
            raw.close()
        server.process.wait(5)
        assert server.process.returncode == 0


run([silent_connections, silent_connections_give_way, out_of_descriptors, half_handshake, idle_connection_is_ended, unfinished_request,
     mid_frame_disconnects, vanished_client_frees_its_streams, frozen_client_is_pinged, slow_reader,
     reader_without_sockets_room, finished_but_not_read, floods, too_many_streams, unfinished_messages_are_bounded,
     not_grpc, drain, end_waits_for_the_client])
