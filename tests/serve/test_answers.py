"""64 mixed requests at once are answered as each alone, and on four ranks as on one. Defaults of the model apply."""
import grpc
from serve_client import Answer, Server, in_background, make_request

PROMPTS = ["It was a cold evening, and the old man",
           "It was a cold evening, and the old man sat by the fire with his dog and thought of the sea",
           "Once there was a girl who lived near the wood. Every morning she", "How many legs have two cows?", "The"]


def mixed(i):
    request = make_request(PROMPTS[i % 5], 8 + i % 7 * 12, seed=1000 + i // 2)
    if i % 4 == 0:
        request.sampling.temperature = 0
    request.stop.ignore_eos = i % 3 != 0
    if i % 4 == 2:
        request.stop.stop.extend([" the", "ed", "\n"][:1 + i % 3])
        request.stop.include_stop = i % 8 == 2
    request.n = 3 if i % 9 == 4 else 1
    return request


def is_beginning(part, whole):
    return all(whole.ids.get(i, [])[:len(ids)] == ids for i, ids in part.ids.items())


def check_crowd(ranks, alone):
    # Room for hardly more than one sequence a rank: they take each other's blocks away, and find each other's prompts.
    with Server("--max-num-seqs", "16", "--max-model-len", "128", "--kv-cache-memory", "220K", ranks=ranks) as server:
        if not alone:
            alone.extend(Answer(server.stream(mixed(i))) for i in range(64))
            assert all(answer.code == grpc.StatusCode.OK for answer in alone)
            assert len({str(answer.text) for answer in alone}) > 30  # the control: they differ among each other
        calls = [in_background(server, mixed(i), cancel_after=3 if i % 10 == 8 else 0) for i in range(64)]
        cancelled = 0
        for i, (thread, box) in enumerate(calls):
            thread.join()
            if box[0].code == grpc.StatusCode.CANCELLED:
                cancelled += 1
                assert is_beginning(box[0], alone[i]), i
            else:
                assert box[0].whole() == alone[i].whole(), (ranks, i, box[0].whole(), alone[i].whole())
        assert 0 < cancelled <= 7
        assert server.metric("moebius_num_preemptions_total") > 0 and server.metric("moebius_prefix_cache_hits_total") > 0
        server.signal()
        assert server.wait() == 0


def check_defaults():
    """generation_config.json of the demo model: temperature 0.7, top_k 20, top_p 0.9."""
    unset = make_request(seed=5)
    same = make_request(seed=5, temperature=0.7, top_k=20, top_p=0.9)
    off = make_request(seed=5, temperature=1.0)
    with Server() as server:
        by_model = Answer(server.stream(unset)).text
        assert by_model == Answer(server.stream(same)).text
    with Server("--generation-config", "none") as server:
        plain = Answer(server.stream(unset)).text
        assert plain == Answer(server.stream(off)).text
        assert plain != by_model


def main():
    alone = []
    check_crowd(1, alone)
    check_crowd(4, alone)
    check_defaults()


if __name__ == "__main__":
    main()
