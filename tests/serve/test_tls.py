"""TLS at the HTTP door and at the gRPC door of one server, by curl and by grpcio: who is refused is refused at both, and
one client has one name. Certificates are made by the openssl command."""
import json
import os
import re
import socket
import ssl
import subprocess
import tempfile
import threading
import time

import grpc

from serve_client import Answer, Server, make_request

FOLDER = tempfile.TemporaryDirectory()
BODY = json.dumps({"prompt": "The sea", "max_tokens": 2})


def path(name):
    return os.path.join(FOLDER.name, name)


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def make_authority(name):
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", f"/CN={name}", "-keyout", path(f"{name}.key"), "-out", path(f"{name}.pem"))


def make_certificate(name, authority, days=2, purpose="serverAuth,clientAuth"):
    with open(path(f"{name}.ext"), "w", encoding="ascii") as file:
        file.write(f"subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage={purpose}\n")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}",
            "-keyout", path(f"{name}.key"), "-out", path(f"{name}.csr"))
    openssl("x509", "-req", "-days", str(days), "-in", path(f"{name}.csr"), "-CA", path(f"{authority}.pem"),
            "-CAkey", path(f"{authority}.key"), "-CAcreateserial", "-extfile", path(f"{name}.ext"),
            "-out", path(f"{name}.pem"))


def curl(server, route, *arguments, identity=None, scheme="https"):
    """The status; 000: no answer."""
    own = ["--cert", path(f"{identity}.pem"), "--key", path(f"{identity}.key")] if identity else []
    result = subprocess.run(["curl", "-s", "-o", path("answer"), "-w", "%{http_code}", "--max-time", "20", "--cacert",
                             path("authority.pem"), *own, *arguments,
                             f"{scheme}://127.0.0.1:{server.http_port()}{route}"],
                            check=False, capture_output=True, text=True)
    return result.stdout


def read(name):
    with open(path(name), "rb") as file:
        return file.read()


def channel_of(server, identity=None, secure=True):
    if not secure:
        return grpc.insecure_channel(server.ready[1], [("grpc.use_local_subchannel_pool", 1)])
    chain, key = (read(f"{identity}.pem"), read(f"{identity}.key")) if identity else (None, None)
    return grpc.secure_channel(server.ready[1], grpc.ssl_channel_credentials(read("authority.pem"), key, chain),
                               [("grpc.use_local_subchannel_pool", 1)])


def is_healthy_by_grpc(server, identity=None):
    with channel_of(server, identity) as channel:
        try:
            return channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=5) == b"\x08\x01"
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNAVAILABLE, error
            return False


def place_in_line(server, channel, **http):
    """One sequence runs at a time: five requests by gRPC, and then one by HTTP. As which it ends: 5, the last, when all
    are one client's."""
    def count_known():
        """Requests that the server has ever taken."""
        assert curl(server, "/metrics", **http) == "200"
        names = "num_requests_running|num_requests_waiting|request_success_total"
        return sum(float(value) for value in
                   re.findall(rf"^moebius_(?:{names})\{{[^}}]*\}} (\S+)$", read("answer").decode(), re.MULTILINE))

    def ask_grpc(number):
        request = make_request(tokens=1900)  # the first ones must not be over before the last one has come
        request.stop.ignore_eos = True
        Answer(server.stream(request, channel=channel))
        ended.append(number)

    def ask_http():
        body = json.dumps({"prompt": "x", "max_tokens": 600, "ignore_eos": True})
        assert curl(server, "/v1/completions", "-d", body, "-o", path("other"), **http) == "200"
        ended.append("http")

    ended, before = [], count_known()
    threads = [threading.Thread(target=ask_grpc, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    while count_known() < before + 5:
        time.sleep(0.01)
    threads.append(threading.Thread(target=ask_http))
    threads[-1].start()
    for thread in threads:
        thread.join()
    return ended.index("http")


def check_tls():
    """Encrypted, and no certificate asked for; no plain text, nothing older than TLS 1.2."""
    with Server("--ssl-certfile", path("server.pem"), "--ssl-keyfile", path("server.key")) as server:
        assert curl(server, "/v1/completions", "-d", BODY) == "200"
        assert is_healthy_by_grpc(server)
        assert curl(server, "/health", scheme="http") != "200"
        for version, is_spoken in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True),
                                   (ssl.TLSVersion.TLSv1_3, True)):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(path("authority.pem"))
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = context.maximum_version = version
            with socket.create_connection(("127.0.0.1", server.http_port()), 5) as plain:
                try:
                    context.wrap_socket(plain, server_hostname="localhost").close()
                    assert is_spoken, version
                except (ssl.SSLError, OSError):
                    assert not is_spoken, version


def check_mutual_tls():
    """Without a certificate that is good now, nothing is answered, health and metrics as little as the rest."""
    with Server("--ssl-certfile", path("server.pem"), "--ssl-keyfile", path("server.key"), "--ssl-ca-certs",
                path("authority.pem")) as server:
        for version in ("--tls-max", "1.2"), ("--tlsv1.3",):
            for identity in (None, "mallory", "expired", "purpose"):
                for route in ("/health", "/ready", "/metrics", "/v1/models"):
                    assert curl(server, route, *version, identity=identity) == "000", (version, identity, route)
                assert curl(server, "/v1/completions", "-d", BODY, *version, identity=identity) == "000"
            for route in ("/health", "/ready", "/metrics", "/v1/models"):
                assert curl(server, route, *version, identity="alice") == "200", (version, route)
            assert curl(server, "/v1/completions", "-d", BODY, *version, identity="alice") == "200"
        for identity, is_good in ((None, False), ("mallory", False), ("expired", False), ("purpose", False),
                                  ("alice", True)):
            assert is_healthy_by_grpc(server, identity) == is_good, identity


def check_one_client():
    """Who asks by both doors is one client, by address or by certificate."""
    with Server("--max-num-seqs", "1") as server:
        with channel_of(server, secure=False) as channel:
            assert place_in_line(server, channel, scheme="http") == 5
    with Server("--max-num-seqs", "1", "--ssl-certfile", path("server.pem"), "--ssl-keyfile", path("server.key"),
                "--ssl-ca-certs", path("authority.pem")) as server:
        with channel_of(server, "alice") as channel:
            assert place_in_line(server, channel, identity="alice") == 5
            assert place_in_line(server, channel, identity="bob") < 3


def main():
    for maker in ("authority", "stranger"):
        make_authority(maker)
    make_certificate("server", "authority")
    make_certificate("alice", "authority")
    make_certificate("bob", "authority")
    make_certificate("mallory", "stranger")
    make_certificate("expired", "authority", days=-1)
    make_certificate("purpose", "authority", purpose="serverAuth")
    check_tls()
    check_mutual_tls()
    check_one_client()


if __name__ == "__main__":
    main()
