"""The line that a server under load logs every ten seconds, held against what its clients got meanwhile."""
import re
import threading
import time

from serve_client import Answer, Server, make_request

LINE = re.compile(r"^(\S+) .*prompt ([0-9.]+) tokens/s, generation ([0-9.]+) tokens/s, running (\d+), waiting (\d+), "
                  r"KV cache ([0-9.]+) %, prefix cache hits ([0-9.]+) %, (\S+ \S+) sent a step, "
                  r"([0-9.-]+) % of token copies saved$", re.MULTILINE)
BEGIN = re.compile(r"^(\S+) .*up to 2 sequences at once", re.MULTILINE)
BEGINNING = "Once there was a girl"
LAG = 2  # seconds that a client may be late to read what was generated, however busy the machine


def clock(text):
    hours, minutes, seconds = text.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def since_midnight():
    now = time.time()
    local = time.localtime(now)
    return local.tm_hour * 3600 + local.tm_min * 60 + local.tm_sec + now % 1


class Stream(threading.Thread):
    """A long request of 64 answers, and when which tokens of it came."""

    def __init__(self, server):
        super().__init__()
        request = make_request(BEGINNING, 1900, temperature=1)
        request.stop.ignore_eos = True
        request.n = 64
        self.call, self.came = server.stream(request), []

    def run(self):
        try:
            for chunk in self.call:
                self.came.append((since_midnight(), chunk.index, len(chunk.token_ids)))
        except Exception:  # pylint: disable=broad-except
            pass  # it is cancelled in the end

    def until(self, when):
        """Tokens, and choices that have one."""
        came = [(index, count) for at, index, count in self.came if at <= when]
        return sum(count for _, count in came), len({index for index, _ in came})


def main():
    with Server("--max-num-seqs", "2", ranks=2) as server:
        short = [Answer(server.stream(make_request("It was a cold evening, and the old man sat by the fire with his dog"
                                                   " and thought of the sea. " * 4, 8))) for _ in range(4)]
        short.append(Answer(server.stream(make_request(BEGINNING, 8))))
        assert any(answer.usage.cached_tokens for answer in short[1:])
        streams = [Stream(server) for _ in range(3)]
        for stream in streams:
            stream.start()
        while not (line := LINE.search(server.read_log())):
            assert all(stream.is_alive() for stream in streams), "the load is too short for this test"
            time.sleep(0.1)
        time.sleep(LAG)
        for stream in streams:
            stream.call.cancel()
            stream.join()
        begun, told = clock(BEGIN.search(server.read_log())[1]), clock(line[1])
        prompt, generated = (float(line[i]) * (told - begun) for i in (2, 3))
        early, late = ([sum(count) for count in zip(*(stream.until(when) for stream in streams))]
                       for when in (told - 0.01, told + LAG))
        assert told - begun > 9.9 and early[0] > 64 and 40 + early[0] * 0.98 <= generated <= 40 + late[0] * 1.02, (
            line[0], early, late)
        sent = [sum(answer.usage.prompt_tokens for answer in short) + choices * short[-1].usage.prompt_tokens
                for _, choices in (early, late)]
        assert sent[0] * 0.99 - 1 < prompt < sent[1] * 1.01 + 1, (line[0], prompt, sent)
        assert int(line[4]) == 2 and 128 <= int(line[5]) <= 190, line[0]
        assert 0 < float(line[6]) < 100 and 0 < float(line[7]) < 100 and float(line[8].split()[0]) > 0, line[0]
        server.signal()
        assert server.wait() == 0


if __name__ == "__main__":
    main()
