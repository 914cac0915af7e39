"""How a server comes and goes: ready, full, draining, at once, and with a rank that stops."""
import signal
import time

import grpc
from serve_client import Answer, Server, in_background, make_request

LONG = 1900


def long_request():
    request = make_request(tokens=LONG, temperature=0)
    request.stop.ignore_eos = True
    return request


def wait_until(condition, seconds=10):
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
        assert Answer(s.stream(long_request(), timeout=0.05)).code == grpc.StatusCode.DEADLINE_EXCEEDED
        wait_until(lambda: s.metric("moebius_num_requests_running") == 0)
        calls = [in_background(s, long_request()) for _ in range(2)]
        wait_until(lambda: s.metric("moebius_num_requests_waiting") == 1)
        start = time.monotonic()
        third = Answer(s.stream(long_request()))
        assert third.code == grpc.StatusCode.RESOURCE_EXHAUSTED, third.code
        assert time.monotonic() - start < 1
        assert int(dict(third.call.trailing_metadata())["retry-after-ms"]) > 0
        for thread, box in calls:
            thread.join()
            assert box[0].code == grpc.StatusCode.OK and len(box[0].ids[0]) == LONG


def check_drain(ranks):
    """The first signal lets what is open finish; whoever comes later is refused; the exit code is 0."""
    with Server(ranks=ranks) as server:
        thread, box = in_background(server, long_request())
        wait_until(lambda: server.metric("moebius_num_requests_running") == 1)
        server.signal()
        wait_until(lambda: "draining" in server.read_log())
        late = Answer(server.stream(make_request(tokens=1), timeout=2))
        assert late.code == grpc.StatusCode.UNAVAILABLE, late.code
        thread.join()
        assert box[0].code == grpc.StatusCode.OK and len(box[0].ids[0]) == LONG, (box[0].code, box[0].details)
        assert server.wait() == 0


def check_second_signal():
    with Server() as server:
        thread, box = in_background(server, long_request())
        wait_until(lambda: server.metric("moebius_num_requests_running") == 1)
        server.signal(signal.SIGINT)
        wait_until(lambda: "draining" in server.read_log())
        server.signal(signal.SIGINT)
        thread.join()
        assert box[0].code == grpc.StatusCode.UNAVAILABLE, (box[0].code, len(box[0].ids[0]))
        assert server.wait() == 0


def check_timeout():
    with Server("--shutdown-timeout", "0") as server:
        thread, box = in_background(server, long_request())
        wait_until(lambda: server.metric("moebius_num_requests_running") == 1)
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
        wait_until(lambda: not server.is_serving(), 3)
        thread.join()
        assert box[0].code == grpc.StatusCode.UNAVAILABLE, (box[0].code, box[0].details)
        assert "rank" in box[0].details, box[0].details
        assert server.wait(30) == 12, server.process.returncode
        log = server.read_log()
        assert "not serving until it ends" in log and "rank 2" in log, log


def main():
    check_refusals()
    check_drain(1)
    check_drain(4)
    check_second_signal()
    check_timeout()
    check_stopped_rank()


if __name__ == "__main__":
    main()
