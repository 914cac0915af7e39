"""Where a server listens, and that its ready line says so: each address it tells answers."""
import os
import re
import socket
import stat
import subprocess
import tempfile
import urllib.request

import grpc

from serve_client import Server

FOLDER = tempfile.TemporaryDirectory()
MOEBIUS = os.environ["MOEBIUS"]


def path(name):
    return os.path.join(FOLDER.name, name)


def told(server):
    """Door by door, without what comes behind them."""
    return re.match(r"ready: (.*?), \d+ rank", server.ready[0])[1].split(", ")


def is_healthy(address, credentials=None):
    options = [("grpc.use_local_subchannel_pool", 1)]
    with (grpc.secure_channel(address, credentials, options) if credentials else
          grpc.insecure_channel(address, options)) as channel:
        return channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=20) == b"\x08\x01"


def is_healthy_http(url):
    with urllib.request.urlopen(url + "/health", timeout=20) as answer:
        return answer.status == 200


def complete(address):
    return subprocess.run([MOEBIUS, "complete", "--server", address, "--max-tokens", "2", "--json", "The sea"],
                          capture_output=True, text=True, timeout=60, check=False)


def check_all_doors():
    with Server("--admin-address", "127.0.0.1:0") as server:
        rpc, http, admin = told(server)
        assert re.fullmatch(r"gRPC at 127\.0\.0\.1:\d+", rpc) and re.fullmatch(r"HTTP at http://127\.0\.0\.1:\d+", http)
        assert re.fullmatch(r"admin at 127\.0\.0\.1:\d+", admin) and is_healthy(admin.removeprefix("admin at "))
        assert is_healthy_http(http.removeprefix("HTTP at ")) and is_healthy(rpc.removeprefix("gRPC at "))


def check_tls():
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                    "-keyout", path("key"), "-out", path("cert")], check=True, capture_output=True)
    with open(path("cert"), "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    for admin, expected in (("127.0.0.1:0", r"admin at 127\.0\.0\.1:\d+ with TLS"),
                            ("unix:" + path("admin"), "admin at unix:" + re.escape(path("admin")))):
        with Server("--ssl-certfile", path("cert"), "--ssl-keyfile", path("key"), "--admin-address", admin) as server:
            doors = told(server)
            assert re.fullmatch(r"gRPC at 127\.0\.0\.1:\d+ with TLS", doors[0]), doors
            assert re.fullmatch(r"HTTP at https://127\.0\.0\.1:\d+", doors[1]), doors
            assert re.fullmatch(expected, doors[2]), doors
            assert is_healthy(server.ready[1], credentials)


def check_everywhere():
    """The host's name stands for all of its addresses; "::" is both kinds, at both doors."""
    name = re.escape(socket.gethostname())
    for host, loopbacks in (("0.0.0.0", ("127.0.0.1",)), ("::", ("127.0.0.1", "[::1]"))):
        with Server("--host", host) as server:
            rpc, http = told(server)
            assert re.fullmatch(rf"gRPC at {name}:\d+", rpc) and re.fullmatch(rf"HTTP at http://{name}:\d+", http)
            for loopback in loopbacks:
                assert is_healthy(f"{loopback}:{rpc.rsplit(':', 1)[1]}")
                assert is_healthy_http(f"http://{loopback}:{server.http_port()}")
    with Server("--host", "::1") as server:
        rpc, http = told(server)
        assert re.fullmatch(r"gRPC at \[::1\]:\d+", rpc) and is_healthy_http(http.removeprefix("HTTP at "))


def check_unix():
    """gRPC at a Unix socket: for its owner, without TLS and keys; our clients reach it."""
    door = "unix:" + path("door")
    with Server("--host", door, "--no-http") as server:
        assert told(server) == ["gRPC at " + door]
        assert stat.S_IMODE(os.stat(path("door")).st_mode) == 0o600
        assert is_healthy(door)
        result = complete(door)
        assert result.returncode == 0 and '"text"' in result.stdout, result
        load = subprocess.run([MOEBIUS, "bench", "serve", "--server", door, "--num-prompts", "2", "--random-input-len",
                               "4", "--random-output-len", "2"], capture_output=True, text=True, timeout=60, check=False)
        assert load.returncode == 0, load
        server.signal()
        assert server.wait() == 0
    assert not os.path.exists(path("door"))
    assert complete(door).returncode == 13
    # The HTTP door needs an address of its own.
    refused = subprocess.run([MOEBIUS, "serve", "--host", door], capture_output=True, text=True, timeout=60,
                             check=False)
    assert refused.returncode == 2 and "--no-http" in refused.stderr, refused


def main():
    check_all_doors()
    check_tls()
    check_everywhere()
    check_unix()


if __name__ == "__main__":
    main()
