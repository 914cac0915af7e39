"""Clients of the HTTP door that are silent, slow or too many, by bare sockets: others are served at once, and the rude
ones' places are free again in time. tests/rpc/test_rude.py is the same for gRPC."""
import json
import resource
import signal
import socket
import time

from serve_client import Server
from test_http import Door, wait_until

PLACES = 1024  # of the door
SILENT_S, REQUEST_S = 10, 60
BODY = json.dumps({"prompt": "x", "max_tokens": 1}).encode()
HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BODY)
EXPECT = HEAD[:-2] + b"Expect: 100-continue\r\n\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # and empty SETTINGS
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16384) if hard != resource.RLIM_INFINITY else 16384, hard))


class Client:
    def __init__(self, door, first=b"", port=None):
        self.socket = socket.create_connection(("127.0.0.1", port or door.port), 20)
        self.opened = time.monotonic()
        if first:
            self.send(first)

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def take(self, count):
        self.socket.settimeout(20)
        return self.socket.recv(count, socket.MSG_WAITALL)

    def is_closed(self, seconds=0.001):
        """Reads what has come."""
        self.socket.settimeout(seconds)
        try:
            while self.socket.recv(65536):
                pass
            return True
        except ConnectionResetError:
            return True
        except (socket.timeout, BlockingIOError):
            return False

    def close(self):
        self.socket.close()


def check_answers(door):
    """A polite client beside the others."""
    start = time.monotonic()
    assert door.call("GET", "/health")[0] == 200
    door.complete(prompt="x", max_tokens=2)
    assert time.monotonic() - start < 5


def check_silent(server, door):
    """More connections than there are places, which say nothing: the oldest give way, and all end in time."""
    silent = [Client(door) for _ in range(PLACES + 200)]
    check_answers(door)
    wait_until(lambda: silent[0].is_closed() and silent[100].is_closed())
    assert not silent[-1].is_closed()
    start = time.monotonic()
    wait_until(lambda: all(client.is_closed() for client in silent[::50] + silent[-50:]), SILENT_S + 10)
    assert time.monotonic() - start > SILENT_S / 2
    wait_until(lambda: "there is room again" in server.read_log())
    assert server.read_log().count("connections are taken") == 1
    for client in silent:
        client.close()


def check_kept(door):
    """Places that are kept between two requests give way too, to silent ones as well; whose request is being read does
    not."""
    reading = Client(door, EXPECT)
    assert reading.take(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
    kept = [Client(door, HEALTH) for _ in range(PLACES + 100)]
    check_answers(door)
    assert not kept[-1].is_closed() and not reading.is_closed()
    reading.send(BODY)
    assert reading.take(12) == b"HTTP/1.1 200"
    for client in kept + [reading]:
        client.close()
    check_answers(door)


def check_full(door):
    """Whose request is on its way keeps the place; when all are such, a newcomer is refused, and nobody is harmed."""
    busy = [Client(door, EXPECT) for _ in range(PLACES)]
    for client in busy:
        assert client.take(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
    late = Client(door, HEALTH)
    assert late.is_closed(5)
    for client in busy[::100]:
        client.send(BODY)
        assert client.take(12) == b"HTTP/1.1 200"
    check_answers(door)  # one of these gives way
    for client in busy:
        client.close()
    wait_until(lambda: door.call("GET", "/health")[0] == 200)


def check_slow(door):
    """Headers and bodies byte by byte, a little at a time and never done."""
    half_silent = [Client(door, HEAD[:20]) for _ in range(5)]
    headers, body = Client(door, HEAD[:10]), Client(door, HEAD)
    second = Client(door, HEALTH)
    endless = HEAD[10:-2] + b"X: " + b"x" * 100
    ends = {}
    for number in range(2 * (REQUEST_S + 10)):
        headers.send(endless[number:number + 1])
        body.send(BODY[number:number + 1] if number < len(BODY) - 1 else b"")
        for name, client in (("headers", headers), ("body", body)):
            if name not in ends and client.is_closed():
                ends[name] = time.monotonic() - client.opened
        time.sleep(0.5)
        if len(ends) == 2:
            break
    assert SILENT_S / 2 < ends["headers"] < SILENT_S + 5, ends
    assert REQUEST_S - 5 < ends["body"] < REQUEST_S + 5, ends
    assert all(client.is_closed() for client in half_silent)
    second.send(HEALTH)  # between two requests there is more time
    assert not second.is_closed(0.5)


def check_readers(door):
    """Readers that take nothing: others are served, and what waits for them goes with them."""
    fields = {"prompt": "x", "max_tokens": 1500, "ignore_eos": True, "stream": True, "logprobs": 5}
    body = json.dumps(fields).encode()
    readers = []
    for _ in range(8):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", door.port))
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        readers.append(client)
    wait_until(lambda: door.metric("moebius_num_requests_running") > 0)
    check_answers(door)
    for client in readers:
        client.close()
    wait_until(lambda: door.metric("moebius_num_requests_running") == 0, 60)
    check_answers(door)


def check_burst(server, door):
    """Many connections at once, all closed again before the server sees it: the door goes on."""
    for count in (PLACES, PLACES + 64, 2500, 4000) * 3:
        clients = [Client(door) for _ in range(count)]
        time.sleep(0.3)
        server.signal(signal.SIGSTOP)
        for client in clients:
            client.close()
        server.signal(signal.SIGCONT)
        check_answers(door)


def check_descriptors():
    """All the connections that a client can open at the gRPC door leave room for the HTTP door, and the other way
    round; the soft limit of open files is raised."""
    with Server(files=(256, 1024)) as server:
        door = Door(server)
        with open(f"/proc/{server.process.pid}/limits", encoding="ascii") as limits:
            assert [line.split()[3:5] for line in limits if line.startswith("Max open files")] == [["1024", "1024"]]
        assert "at most 384 gRPC and 192 HTTP connections" in server.read_log()
        port = int(server.ready[1].rsplit(":", 1)[1])
        for hello in (b"", PREFACE):  # silent ones, and real ones that ask nothing
            many = [Client(door, hello, port) for _ in range(1500)]
            time.sleep(0.5)
            for _ in range(5):
                assert door.call("GET", "/health")[0] == 200
            for client in many:
                client.close()
        many = [Client(door) for _ in range(1500)]
        check_answers(door)
        assert server.is_serving()
        for client in many:
            client.close()
        assert "accept:" not in server.read_log()
        server.signal()
        assert server.wait() == 0


def main():
    with Server() as server:
        door = Door(server)
        check_silent(server, door)
        check_kept(door)
        check_full(door)
        check_readers(door)
        check_slow(door)
        check_burst(server, door)
        server.signal()
        assert server.wait() == 0
    check_descriptors()


if __name__ == "__main__":
    main()
