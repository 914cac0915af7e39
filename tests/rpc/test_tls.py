"""TLS, mutual TLS, bearer keys, Unix sockets, and h2load's load, with certificates that the openssl command makes."""
import os
import re
import socket
import ssl
import stat
import subprocess

import grpc

from interop_client import Client, Server, connect, expect_error, pb, run, scratch

Code = grpc.StatusCode
folder_object = scratch()
folder = folder_object.name


def path(name):
    return os.path.join(folder, name)


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def make_authority(name):
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", f"/CN={name}", "-keyout", path(f"{name}.key"), "-out", path(f"{name}.pem"))


def make_certificate(name, authority):
    with open(path(f"{name}.ext"), "w", encoding="ascii") as file:
        file.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}",
            "-keyout", path(f"{name}.key"), "-out", path(f"{name}.csr"))
    openssl("x509", "-req", "-days", "2", "-in", path(f"{name}.csr"), "-CA", path(f"{authority}.pem"),
            "-CAkey", path(f"{authority}.key"), "-CAcreateserial", "-extfile", path(f"{name}.ext"),
            "-out", path(f"{name}.pem"))


for maker in ("authority", "stranger"):
    make_authority(maker)
make_certificate("server", "authority")
make_certificate("alice", "authority")
make_certificate("mallory", "stranger")
with open(path("keys"), "w", encoding="ascii") as key_file:
    key_file.write("# keys\nfirst-key\n\nsecond-key\n")
TLS = ("--tls", path("server.pem"), path("server.key"))


def read(name):
    with open(path(name), "rb") as file:
        return file.read()


def secure(server, authority="authority.pem", identity=None):
    chain, key = (read(f"{identity}.pem"), read(f"{identity}.key")) if identity else (None, None)
    credentials = grpc.ssl_channel_credentials(read(authority), key, chain)
    return Client(grpc.secure_channel(f"localhost:{server.port}", credentials,
                                      [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0),
                                       ("grpc.max_receive_message_length", -1)]))


def tls():
    with Server(*TLS) as server:
        client = secure(server)
        assert len(client.unary(pb.SimpleRequest(response_size=3000000), timeout=20).payload.body) == 3000000
        request = pb.StreamingOutputCallRequest(response_parameters=[pb.ResponseParameters(size=50000)] * 100)
        assert sum(len(answer.payload.body) for answer in client.stream_out(request, timeout=20)) == 5000000
        # Who does not trust the server's certificate, or speaks no TLS, gets nothing; the server goes on.
        expect_error(Code.UNAVAILABLE, secure(server, "stranger.pem").empty, pb.Empty(), timeout=5)
        expect_error(Code.UNAVAILABLE, connect(server.address).empty, pb.Empty(), timeout=5)
        client.empty(pb.Empty(), timeout=5)


def protocol_versions():
    """TLS 1.2 and 1.3 with h2 are spoken; older ones, and other protocols, are refused."""
    def speak(version, protocols):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(path("authority.pem"))
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols(protocols)
        with socket.create_connection(("127.0.0.1", server.port), 5) as plain:
            with context.wrap_socket(plain, server_hostname="localhost") as wrapped:
                return wrapped.selected_alpn_protocol()

    def is_refused(version, protocols):
        try:
            return speak(version, protocols) != "h2"
        except (ssl.SSLError, OSError):
            return True

    with Server(*TLS) as server:
        assert speak(ssl.TLSVersion.TLSv1_3, ["h2"]) == "h2"
        assert speak(ssl.TLSVersion.TLSv1_2, ["http/1.1", "h2"]) == "h2"
        assert is_refused(ssl.TLSVersion.TLSv1_1, ["h2"])
        assert is_refused(ssl.TLSVersion.TLSv1_3, ["http/1.1"])


def mutual_tls():
    with Server(*TLS, "--client-ca", path("authority.pem")) as server:
        assert secure(server, identity="alice").counters()["client"] == "cert:alice"
        expect_error(Code.UNAVAILABLE, secure(server).empty, pb.Empty(), timeout=5)
        expect_error(Code.UNAVAILABLE, secure(server, identity="mallory").empty, pb.Empty(), timeout=5)


def keys():
    with Server("--keys", path("keys")) as server:
        client = connect(server.address)
        expect_error(Code.UNAUTHENTICATED, client.empty, pb.Empty(), timeout=5)
        for wrong in ("Bearer first", "Bearer first-keyy", "first-key", "Basic first-key", "Bearer"):
            expect_error(Code.UNAUTHENTICATED, client.empty, pb.Empty(), metadata=[("authorization", wrong)], timeout=5)
        answer = client.unary(pb.SimpleRequest(fill_username=True), metadata=[("authorization", "Bearer second-key")],
                              timeout=5)
        assert "client=key:2" in answer.username
        health = client.channel.unary_unary("/grpc.health.v1.Health/Check")
        assert health(b"", timeout=5) == b"\x08\x01"  # open to all


def unix_socket():
    address = "unix:" + path("socket")
    with Server(address=address) as server:
        assert stat.S_IMODE(os.stat(path("socket")).st_mode) == 0o600
        client = connect(server.address)
        assert len(client.unary(pb.SimpleRequest(response_size=100000), timeout=5).payload.body) == 100000
        assert client.counters()["client"] == "unix:"
        # Somebody listens there: a second server is refused.
        second = subprocess.run([os.environ["INTEROP_SERVER"], address], check=False, capture_output=True, text=True)
        assert second.returncode == 3
        assert "cannot listen on unix:" in second.stderr
        client.empty(pb.Empty(), timeout=5)
    assert not os.path.exists(path("socket"))
    # What a server that was killed leaves behind is no obstacle.
    dead = Server(address=address)
    dead.process.kill()
    dead.process.wait()
    assert os.path.exists(path("socket"))
    with Server(address=address) as server:
        connect(server.address).empty(pb.Empty(), timeout=5)


def probe(address, *arguments):
    """Our own client, as a program: exit code and what it says."""
    result = subprocess.run([os.environ["INTEROP_PROBE"], address, *arguments], check=False, capture_output=True,
                            text=True, timeout=60)
    return result.returncode, result.stdout


def own_client():
    """Our client: TLS with the right authority, name and identity only; its token; 20,000 messages over 4 connections."""
    ours = ("--tls", path("authority.pem"))
    alice = ("--identity", path("alice.pem"), path("alice.key"))
    with Server(*TLS, "--client-ca", path("authority.pem"), "--keys", path("keys"), address="0.0.0.0:0") as server:
        for host in ("localhost", "127.0.0.1"):
            code, said = probe(f"{host}:{server.port}", *ours, *alice, "--token", "first-key",
                               "--load", "4", "100", "200", "1000", "0")
            assert code == 0 and "messages 20000 failed 0" in said, said
        for wrong, expected in (((*ours, *alice), "UNAUTHENTICATED"),
                                ((*ours, *alice, "--token", "x"), "UNAUTHENTICATED"),
                                ((*ours, "--token", "first-key"), "UNAVAILABLE"),
                                (("--tls", path("stranger.pem"), *alice, "--token", "first-key"), "UNAVAILABLE"),
                                (("--token", "first-key"), "UNAVAILABLE")):
            code, said = probe(f"localhost:{server.port}", *wrong)
            assert code == 1 and said.startswith(expected), (wrong, said)
        # The certificate is for localhost and 127.0.0.1, not for this other name of the same machine.
        code, said = probe(f"127.0.0.2:{server.port}", *ours, *alice, "--token", "first-key")
        assert code == 1 and said.startswith("UNAVAILABLE"), said


def h2load(server, scheme, *arguments):
    with open(path("body"), "wb") as file:
        file.write(b"\x00\x00\x00\x00\x00")
    command = ["h2load", "-H", "content-type: application/grpc", "-H", "te: trailers", "-d", path("body"), *arguments,
               f"{scheme}://127.0.0.1:{server.port}/grpc.testing.TestService/EmptyCall"]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    done = dict((name, int(value)) for value, name in re.findall(r"(\d+) (total|succeeded|failed|errored|timeout)",
                                                                 output))
    return done, output


def load():
    """10,000 short requests over 50 connections, in cleartext and in TLS: every one is answered."""
    for scheme, flags in (("http", ()), ("https", TLS)):
        with Server(*flags) as server:
            done, output = h2load(server, scheme, "-n", "10000", "-c", "50", "-m", "20")
            assert done["total"] == done["succeeded"] == 10000 and not done["failed"], output
            assert "10000 2xx" in output, output
        assert server.counts["calls"] == 10000


def bad_files():
    """Files that make no sense are named."""
    for flags, expected in ((("--tls", path("none.pem"), path("server.key")), "none.pem: expected a certificate in PEM form: No such file"),
                            (("--tls", path("server.pem"), path("alice.key")), "alice.key: expected the certificate's"),
                            ((*TLS, "--client-ca", path("server.key")), "server.key: expected certificates")):
        result = subprocess.run([os.environ["INTEROP_SERVER"], "127.0.0.1:0", *flags], check=False,
                                capture_output=True, text=True)
        assert result.returncode == 3, result
        assert expected in result.stderr, result.stderr


run([tls, protocol_versions, mutual_tls, keys, unix_socket, own_client, load, bad_files])
