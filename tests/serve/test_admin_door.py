"""The operators' door beside TLS and keys: a Unix socket is guarded by its mode alone, a port by keys of its own."""
import os
import socket
import stat
import subprocess
import tempfile

import grpc

from serve_client import Server, make_request, pb
from moebius.v1 import admin_pb2 as admin

CODE = grpc.StatusCode


def ask(channel, path, request=b"", key=None):
    """The answer's bytes; `request` is bytes too."""
    metadata = (("authorization", f"Bearer {key}"),) if key else ()
    return channel.unary_unary(path)(request, timeout=20, metadata=metadata)


def info(channel, key=None):
    answer = ask(channel, "/moebius.v1.Admin/GetServerInfo", key=key)
    return admin.GetServerInfoResponse.FromString(answer).state == admin.SERVER_STATE_SERVING


def code_of(call, *arguments):
    try:
        call(*arguments)
        return CODE.OK
    except grpc.RpcError as error:
        return error.code()


def health(channel, service):
    """Of a service; 1: SERVING."""
    answer = ask(channel, "/grpc.health.v1.Health/Check", bytes([10, len(service)]) + service.encode())
    return answer[1]


def check_health(channel):
    assert [health(channel, name) for name in ("", "moebius.v1.Inference", "moebius.v1.Admin")] == [1, 1, 1]


def make_files(folder):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                    "-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"], check=True, capture_output=True)
    for name in ("client", "operator"):
        with open(f"{folder}/{name}", "w", encoding="ascii") as file:
            file.write(f"{name}-key\n")


def check_unix(folder):
    door = f"unix:{folder}/admin"
    with Server("--ssl-certfile", f"{folder}/cert.pem", "--ssl-keyfile", f"{folder}/key.pem", "--api-key-file",
                f"{folder}/client", "--admin-address", door) as server:
        facts = os.stat(f"{folder}/admin")
        assert stat.S_ISSOCK(facts.st_mode) and stat.S_IMODE(facts.st_mode) == 0o600, oct(facts.st_mode)
        with grpc.insecure_channel(door) as channel:
            assert info(channel)
            check_health(channel)
        generate = make_request("x", 1).SerializeToString()
        path = "/moebius.v1.Inference/Generate"
        assert code_of(ask, server.channel, path, generate) == CODE.UNAVAILABLE  # no TLS
        with open(f"{folder}/cert.pem", "rb") as file:
            credentials = grpc.ssl_channel_credentials(file.read())
        with grpc.secure_channel(server.ready[1], credentials) as channel:
            assert code_of(ask, channel, path, generate) == CODE.UNAUTHENTICATED
            assert pb.GenerateResponse.FromString(ask(channel, path, generate, "client-key")).choices
            assert code_of(health, channel, "moebius.v1.Admin") == CODE.NOT_FOUND  # is not at this door


def check_port(folder, *flags, keys):
    """Which keys the port takes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with Server("--admin-address", address, *flags), grpc.insecure_channel(address) as channel:
        for key in (None, "client-key", "operator-key"):
            wanted = CODE.OK if key in keys else CODE.UNAUTHENTICATED
            assert code_of(info, channel, key) == wanted, (flags, key, wanted)
        check_health(channel)


def main():
    with tempfile.TemporaryDirectory() as folder:
        make_files(folder)
        check_unix(folder)
        clients, operators = ("--api-key-file", f"{folder}/client"), ("--admin-api-key-file", f"{folder}/operator")
        check_port(folder, *clients, *operators, keys=["operator-key"])
        check_port(folder, *clients, keys=["client-key"])
        check_port(folder, *operators, keys=["operator-key"])
        for place in ([], ["--admin-address", f"unix:{folder}/other"]):
            refused = subprocess.run([os.environ["MOEBIUS"], "serve", *place, *operators], capture_output=True,
                                     text=True, timeout=30, check=False)
            assert refused.returncode == 2 and "--admin-api-key-file: expected HOST:PORT" in refused.stderr, refused


if __name__ == "__main__":
    main()
