"""Streams an answer from moebius serve by plain grpcio (Debian: python3-grpcio, python3-protobuf, protobuf-compiler).

The messages are made by one command, which needs no plugin:

    protoc -I proto --python_out=launcher/examples proto/moebius/v1/inference.proto
    python3 launcher/examples/complete.py 127.0.0.1:50051 "It was a cold evening"
"""
import sys

import grpc

from moebius.v1 import inference_pb2 as pb


def main():
    address, prompt = sys.argv[1:3]
    with grpc.insecure_channel(address) as channel:
        generate_stream = channel.unary_stream("/moebius.v1.Inference/GenerateStream",
                                               request_serializer=pb.GenerateRequest.SerializeToString,
                                               response_deserializer=pb.GenerateChunk.FromString)
        request = pb.GenerateRequest(text=prompt)
        request.sampling.temperature = 0.7
        request.sampling.seed = 1
        request.stop.max_new_tokens = 40
        print(prompt, end="")
        try:
            for chunk in generate_stream(request, timeout=60):
                print(chunk.text, end="", flush=True)
                if chunk.finish_reason:
                    print(f"\n[{pb.FinishReason.Name(chunk.finish_reason)}, {chunk.usage.completion_tokens} tokens]")
        except grpc.RpcError as error:
            sys.exit(f"{error.code().name}: {error.details()}")


if __name__ == "__main__":
    main()
