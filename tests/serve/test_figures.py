"""The figures of /metrics and of the operators' door: that they count what their names say, and agree."""
import tempfile

import grpc
from serve_client import Answer, Server, make_request
from moebius.v1 import admin_pb2 as admin


def ask(channel, method, request, answer):
    return channel.unary_unary(f"/moebius.v1.Admin/{method}", request_serializer=type(request).SerializeToString,
                               response_deserializer=answer.FromString)(request, timeout=10)


def check_nodes(ranks_per_node):
    """The ranks of a host counted as several nodes: as many everywhere, and the sums by node are those by rank."""
    ranks = 4
    size = ranks // ranks_per_node
    with tempfile.TemporaryDirectory() as folder:
        door = f"unix:{folder}/admin"
        with Server("--admin-address", door, "--ranks-per-node", str(ranks_per_node), ranks=ranks) as server, \
                grpc.insecure_channel(door) as channel:
            assert Answer(server.stream(make_request(tokens=40))).code == grpc.StatusCode.OK
            placement = ask(channel, "GetPlacement", admin.GetPlacementRequest(), admin.Placement)
            assert placement.nodes == size, placement.nodes
            by_rank = ask(channel, "GetTraffic", admin.GetTrafficRequest(), admin.GetTrafficResponse)
            by_node = ask(channel, "GetTraffic", admin.GetTrafficRequest(by_node=True), admin.GetTrafficResponse)
            assert by_node.size == size, by_node.size
            for name in ("dispatch_bytes", "combine_bytes", "messages"):
                expected = [0] * (size * size)
                for i, value in enumerate(getattr(by_rank, name)):
                    expected[i // ranks // ranks_per_node * size + i % ranks // ranks_per_node] += value
                assert list(getattr(by_node, name)) == expected and sum(expected) > 0, name
            server.signal()
            assert server.wait() == 0


def main():
    check_nodes(1)
    check_nodes(2)


if __name__ == "__main__":
    main()
