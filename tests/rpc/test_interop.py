"""The public gRPC interoperability cases (grpc/doc/interop-test-descriptions.md) and what else a well-behaved client
may ask, with Debian's grpcio against interop_server."""
import threading
import time

import grpc
from google.protobuf import descriptor_pb2

from interop_client import Server, connect, expect_error, payload, pb, run

server = Server("--option", "message_bytes_max", "8388608")
client = connect(server.address)
Code = grpc.StatusCode


def parameters(*sizes, interval_us=0):
    return [pb.ResponseParameters(size=size, interval_us=interval_us) for size in sizes]


def eventually(check, seconds=5):
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "not within the time"
        time.sleep(0.01)


def field(number, value):
    """A length-delimited field on the wire."""
    assert len(value) < 128
    return bytes([number << 3 | 2, len(value)]) + value


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return value, at


def fields(data):
    """(number, value) of a message on the wire: varints and length-delimited fields."""
    found, at = [], 0
    while at < len(data):
        key, at = varint(data, at)
        value, at = varint(data, at)
        if key & 7 == 2:
            value, at = data[at:at + value], at + value
        found.append((key >> 3, value))
    return found


def empty_unary():
    assert client.empty(pb.Empty(), timeout=10) == pb.Empty()


def large_unary():
    answer = client.unary(pb.SimpleRequest(response_size=314159, payload=payload(271828)), timeout=10)
    assert answer.payload.body == bytes(314159)


def client_streaming():
    requests = (pb.StreamingInputCallRequest(payload=payload(size)) for size in (27182, 8, 1828, 45904))
    assert client.stream_in(requests, timeout=10).aggregated_payload_size == 74922


def server_streaming():
    sizes = (31415, 9, 2653, 58979)
    answers = client.stream_out(pb.StreamingOutputCallRequest(response_parameters=parameters(*sizes)), timeout=10)
    assert [len(answer.payload.body) for answer in answers] == list(sizes)


def ping_pong():
    sizes = (31415, 9, 2653, 58979)
    turn = threading.Semaphore(1)

    def requests():
        for size in sizes:
            assert turn.acquire(timeout=10)
            yield pb.StreamingOutputCallRequest(response_parameters=parameters(size), payload=payload(8))

    got = []
    for answer in client.duplex(requests(), timeout=20):
        got.append(len(answer.payload.body))
        turn.release()
    assert got == list(sizes)


def empty_stream():
    assert not list(client.duplex(iter(()), timeout=10))


def custom_metadata():
    sent = (("x-grpc-test-echo-initial", "test_initial_metadata_value"),
            ("x-grpc-test-echo-trailing-bin", b"\xab\xab\xab"))
    _, call = client.unary.with_call(pb.SimpleRequest(response_size=1), metadata=sent, timeout=10)
    assert sent[0] in [tuple(pair) for pair in call.initial_metadata()]
    assert sent[1] in [tuple(pair) for pair in call.trailing_metadata()]
    request = pb.StreamingOutputCallRequest(response_parameters=parameters(5))
    call = client.duplex(iter([request]), metadata=sent, timeout=10)
    assert len(list(call)) == 1
    assert sent[0] in [tuple(pair) for pair in call.initial_metadata()]
    assert sent[1] in [tuple(pair) for pair in call.trailing_metadata()]


def status_code_and_message():
    status = pb.EchoStatus(code=2, message=b"test status message".decode())
    error = expect_error(Code.UNKNOWN, client.unary, pb.SimpleRequest(response_status=status), timeout=10)
    assert error.details() == "test status message"
    request = pb.StreamingOutputCallRequest(response_status=status)
    error = expect_error(Code.UNKNOWN, client.duplex, iter([request]), timeout=10)
    assert error.details() == "test status message"


def special_status_message():
    text = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001f608\t\n 100 %\n"
    status = pb.EchoStatus(code=2, message=text)
    error = expect_error(Code.UNKNOWN, client.unary, pb.SimpleRequest(response_status=status), timeout=10)
    assert error.details() == text


def every_status_code():
    for code in Code:
        if code == Code.OK:
            continue
        status = pb.EchoStatus(code=code.value[0], message="x")
        expect_error(code, client.unary, pb.SimpleRequest(response_status=status), timeout=10)


def unimplemented_method():
    expect_error(Code.UNIMPLEMENTED, client.unimplemented, pb.Empty(), timeout=10)


def unimplemented_service():
    call = client.channel.unary_unary("/grpc.testing.UnimplementedService/UnimplementedCall")
    expect_error(Code.UNIMPLEMENTED, call, b"", timeout=10)


def cancel_after_begin():
    release = threading.Event()

    def requests():
        release.wait(10)
        yield pb.StreamingInputCallRequest()

    call = client.stream_in.future(requests())
    call.cancel()
    release.set()
    assert call.code() == Code.CANCELLED


def cancel_after_first_response():
    before = int(client.counters()["cancelled"])
    request = pb.StreamingOutputCallRequest(response_parameters=parameters(31415, 10, interval_us=50000))
    call = client.stream_out(request, timeout=20)
    next(call)
    call.cancel()
    assert call.code() == Code.CANCELLED
    eventually(lambda: int(client.counters()["cancelled"]) == before + 1)


def timeout_on_sleeping_server():
    before = int(client.counters()["cancelled"])
    request = pb.StreamingOutputCallRequest(response_parameters=parameters(1, interval_us=60000000))
    expect_error(Code.DEADLINE_EXCEEDED, client.stream_out, request, timeout=0.2)
    eventually(lambda: int(client.counters()["cancelled"]) == before + 1)


def message_limit():
    """A message just inside the limit, one beyond it, and 100 MB: refused, and the connection lives."""
    inside = pb.SimpleRequest(payload=payload(8388608 - 64))
    assert client.unary(inside, timeout=20).payload.body == b""
    for size in (8388608, 100 << 20):
        expect_error(Code.RESOURCE_EXHAUSTED, client.unary, pb.SimpleRequest(payload=payload(size)), timeout=60)
    assert client.empty(pb.Empty(), timeout=10) == pb.Empty()
    assert server.memory_bytes() < 200 << 20


def large_answer():
    answer = client.unary(pb.SimpleRequest(response_size=50 << 20), timeout=60)
    assert len(answer.payload.body) == 50 << 20


def compressed_request_is_declined():
    error = expect_error(Code.UNIMPLEMENTED, client.unary, pb.SimpleRequest(payload=payload(100000)),
                         compression=grpc.Compression.Gzip, timeout=10)
    assert "compress" in error.details()
    accepts = dict(error.initial_metadata() or ()).get("grpc-accept-encoding", "identity")
    assert accepts == "identity"


def bad_message():
    call = client.channel.unary_unary("/grpc.testing.TestService/UnaryCall")
    expect_error(Code.INVALID_ARGUMENT, call, b"\xff\xff\xff\xff", timeout=10)


def memory_bomb():
    """Empty submessages unpack to fifty times their size: the arena's cap refuses, the server lives."""
    call = client.channel.unary_stream("/grpc.testing.TestService/StreamingOutputCall")
    expect_error(Code.RESOURCE_EXHAUSTED, call, b"\x12\x00" * 4000000, timeout=30)
    assert client.empty(pb.Empty(), timeout=10) == pb.Empty()


def too_much_metadata():
    expect_error(Code.RESOURCE_EXHAUSTED, client.empty, pb.Empty(), metadata=(("x-long", "a" * 14000),) * 2, timeout=10)
    assert client.empty(pb.Empty(), timeout=10) == pb.Empty()


def many_streams():
    """256 streams of 40 answers at once, on one connection: each gets all of its own, in order."""
    errors = []

    def one(number):
        sizes = [1 + (number * 7 + i) % 50 for i in range(40)]
        request = pb.StreamingOutputCallRequest(response_parameters=parameters(*sizes, interval_us=1000))
        got = [len(answer.payload.body) for answer in client.stream_out(request, timeout=60)]
        if got != sizes:
            errors.append(number)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(256)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors


def slow_consumer():
    """A client that reads slowly gets everything as long as it reads."""
    request = pb.StreamingOutputCallRequest(response_parameters=parameters(*([100000] * 60)))
    count = 0
    for answer in client.stream_out(request, timeout=60):
        assert len(answer.payload.body) == 100000
        count += 1
        time.sleep(0.005)
    assert count == 60


def health():
    """Check and Watch, as probes and load balancers ask."""
    check = client.channel.unary_unary("/grpc.health.v1.Health/Check")
    for service in (b"", b"grpc.testing.TestService"):
        assert check(field(1, service), timeout=10) == b"\x08\x01"  # SERVING
    expect_error(Code.NOT_FOUND, check, field(1, b"nothing"), timeout=10)
    with Server() as other:
        channel = connect(other.address).channel
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")
        unknown = watch(field(1, b"nothing"), timeout=20)
        assert next(unknown) == b"\x08\x03"  # SERVICE_UNKNOWN
        states = watch(field(1, b"grpc.testing.TestService"), timeout=20)
        assert next(states) == b"\x08\x01"
        other.process.terminate()  # drains: says so to those who watch
        assert next(states) == b"\x08\x02"  # NOT_SERVING
        states.cancel()
        unknown.cancel()


def reflection():
    """What grpcurl asks, in both versions of the protocol: services, then the file of a symbol, by name and back."""
    for version in ("v1", "v1alpha"):
        call = client.channel.stream_stream(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo")
        asked = [field(7, b""), field(4, b"grpc.testing.TestService.UnaryCall"), field(3, b"interop/interop_test.proto"),
                 field(4, b"grpc.health.v1.Health"), field(4, b"grpc.testing.Nothing")]
        services, symbol, file, other, error = call(iter(asked), timeout=10)
        names = [dict(fields(item))[1] for _, item in fields(dict(fields(services))[6])]
        assert names == sorted([b"grpc.health.v1.Health", b"grpc.reflection.v1.ServerReflection",
                                b"grpc.reflection.v1alpha.ServerReflection", b"grpc.testing.TestService"]), names
        for answer, name in ((symbol, "interop/interop_test.proto"), (file, "interop/interop_test.proto"),
                             (other, "grpc/health/v1/health.proto")):
            found = descriptor_pb2.FileDescriptorProto.FromString(dict(fields(dict(fields(answer))[4]))[1])
            assert found.name == name
            assert found.service
        assert dict(fields(dict(fields(error))[7]))[1] == 5


run([empty_unary, large_unary, client_streaming, server_streaming, ping_pong, empty_stream, custom_metadata,
     status_code_and_message, special_status_message, every_status_code, unimplemented_method, unimplemented_service,
     cancel_after_begin, cancel_after_first_response, timeout_on_sleeping_server, message_limit, large_answer,
     compressed_request_is_declined, bad_message, memory_bomb, too_much_metadata, many_streams, slow_consumer,
     health, reflection, server.stop])
