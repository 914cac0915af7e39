"""How a server comes and goes: ready, full, draining, at once, and with a rank that stops."""
import os
import signal
import tempfile
import time

import grpc
from serve_client import Answer, Server, in_background, make_request, pb
from test_bench import bench
from test_http import Door
from test_wire import call, check_deadline, hold, refusal

from moebius.v1 import admin_pb2 as admin

LONG = 1900
CODE = grpc.StatusCode


def long_request(n=1):
    """64 answers take seconds, however fast the machine is: longer than it takes to send two signals."""
    request = make_request(tokens=LONG, temperature=0)
    request.stop.ignore_eos = True
    request.n = n
    return request


def wait_until(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "too late"
        time.sleep(0.02)


def check_refusals():
    with Server("--max-num-seqs", "1", "--max-queue", "1", "--served-model-name", "a", "--served-model-name", "b") as s:
        assert s.is_serving()
        request = make_request(tokens=2)
        for name in ("a", "b", ""):
            request.model = name
            assert Answer(s.stream(request)).code == grpc.StatusCode.OK
        request.model = "c"
        answer = Answer(s.stream(request))
        assert answer.code == grpc.StatusCode.NOT_FOUND and "expected 'a', got 'c'" in answer.details, answer.details
        check_deadline(s, long_request())
        calls = [in_background(s, long_request()) for _ in range(2)]
        wait_until(lambda: s.metric("moebius_num_requests_waiting") == 1)
        third = Answer(s.stream(long_request()))
        assert third.code == grpc.StatusCode.RESOURCE_EXHAUSTED, third.code
        assert int(dict(third.call.trailing_metadata())["retry-after-ms"]) > 0
        for thread, box in calls:
            thread.join()
            assert box[0].code == grpc.StatusCode.OK and len(box[0].ids[0]) == LONG


def check_drain(ranks):
    """The first signal lets what is open finish; whoever comes later, by whichever door, hears why not; the exit code is
    0."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"unix:{folder}/admin"
        with Server("--shutdown-timeout", "600", "--admin-address", path, ranks=ranks) as server:
            held, door = hold(server), Door(server)
            assert server.is_serving() and door.call("GET", "/ready")[0] == 200  # the control
            server.signal()
            wait_until(lambda: "draining" in server.read_log())
            check_drained_doors(server, door, path)
            rest = list(held)
            assert [chunk.finish_reason for chunk in rest].count(pb.FINISH_REASON_LENGTH) == 64
            assert server.wait() == 0 and not os.path.exists(path.removeprefix("unix:"))


def check_drained_doors(server, door, path):
    """Old channels and new ones; nothing is refused without a reason."""
    with grpc.insecure_channel(server.ready[1]) as new, grpc.insecure_channel(path) as operators:
        for channel in (server.channel, new):
            assert not server.is_serving(channel)
            said = refusal(call, channel, "Inference", "Generate", make_request(tokens=1), pb.GenerateResponse)
            assert said[:2] == (CODE.UNAVAILABLE, "the server is draining and takes no new requests"), said
        assert not server.is_serving(operators)
        info = call(operators, "Admin", "GetServerInfo", admin.GetServerInfoRequest(), admin.GetServerInfoResponse)
        assert info.state == admin.SERVER_STATE_DRAINING
        assert refusal(call, operators, "Admin", "Resume", admin.ResumeRequest(),
                       admin.GetServerInfoResponse)[0] == CODE.FAILED_PRECONDITION
    result, _ = bench(server.ready[1], "--num-prompts", "5", "--random-input-len", "4", "--warmup", "0", code=13)
    assert (result["failed_by_status"], result["failed_without_status"]) == ({"UNAVAILABLE": 5}, 0), result
    status, _, answer = door.call("POST", "/v1/completions", {"prompt": "The sea", "max_tokens": 1})
    assert status == 503 and "draining" in answer["error"]["message"], (status, answer)
    assert door.call("GET", "/ready")[0] == 503 and door.call("GET", "/health")[0] == 200


def check_second_signal():
    with Server() as server:
        thread, box = in_background(server, long_request(64))
        wait_until(lambda: server.metric("moebius_num_requests_running") == 64)
        server.signal(signal.SIGINT)
        wait_until(lambda: "draining" in server.read_log())
        server.signal(signal.SIGINT)
        thread.join()
        assert box[0].code == grpc.StatusCode.UNAVAILABLE, (box[0].code, len(box[0].ids[0]))
        assert server.wait() == 0


def check_second_signal_in_a_step():
    """A step that hangs holds nobody up: the process ends and names the rank, long before --comm-timeout."""
    with Server("--comm-timeout", "1000", "--shutdown-timeout", "1", ranks=2) as server:
        held = hold(server, tokens=LONG)
        server.signal(signal.SIGSTOP, rank=1)
        server.signal()
        wait_until(lambda: server.metric("moebius_step_age_seconds") > 3)
        server.signal()
        assert server.wait() == 130, server.process.returncode
        assert refusal(list, held)[0] == CODE.UNAVAILABLE
        log = server.read_log()
        assert log.count("were not done in time") == 1 and "does not end, waiting for rank 1 on" in log, log


def check_timeout():
    with Server("--shutdown-timeout", "0") as server:
        thread, box = in_background(server, long_request(64))
        wait_until(lambda: server.metric("moebius_num_requests_running") == 64)
        server.signal()
        thread.join()
        assert box[0].code == grpc.StatusCode.UNAVAILABLE, box[0].code
        assert server.wait() == 0


def check_stopped_rank():
    """Health says so while the step is overdue; clients hear of it; the job ends with 12."""
    with Server("--comm-timeout", "4", "--step-timeout", "1", ranks=4) as server:
        assert server.is_serving()
        thread, box = in_background(server, long_request())
        wait_until(lambda: server.metric("moebius_num_requests_running") == 1)
        server.signal(signal.SIGSTOP, rank=2)
        wait_until(lambda: not server.is_serving())
        thread.join()
        assert box[0].code == grpc.StatusCode.UNAVAILABLE, (box[0].code, box[0].details)
        assert "rank" in box[0].details, box[0].details
        assert server.wait() == 12, server.process.returncode
        log = server.read_log()
        assert "not serving until it ends" in log and "rank 2" in log, log


def main():
    check_refusals()
    check_drain(1)
    check_drain(4)
    check_second_signal()
    check_second_signal_in_a_step()
    check_timeout()
    check_stopped_rank()


if __name__ == "__main__":
    main()
