"""The fields of HTTP requests: every one is read, harmless, or refused by its name; nothing that a client counts on is
overlooked."""
import json

from serve_client import Server
from test_http import Door

PATHS = {"text": "/v1/completions", "chat": "/v1/chat/completions"}
BODIES = {"text": {"prompt": "It was", "max_tokens": 2, "temperature": 0},
          "chat": {"messages": [{"role": "user", "content": "It was"}], "max_tokens": 2, "temperature": 0}}

# Parameters of openai 3.57 and of vLLM whose value cannot change an answer here.
IDLE = {"user": "me", "safety_identifier": "me", "store": True, "metadata": {"a": "b"}, "service_tier": "auto",
        "prompt_cache_key": "k", "prompt_cache_retention": "24h", "prompt_cache_options": {"mode": "implicit"},
        "length_penalty": 2.0, "spaces_between_special_tokens": False, "guided_decoding_backend": "outlines"}
IDLE_CHAT = {"parallel_tool_calls": True, "include_reasoning": True, "prediction": {"type": "content", "content": "x"}}

# field: (a value that asks for something, values that ask for nothing)
NOT_BUILT = {
    "suffix": ("x", [""]), "prompt_embeds": ("AAAA", [None]), "truncation_side": ("right", ["left"]),
    "use_beam_search": (True, [False]), "typical_p": (0.5, [1, 1.0, 0]), "allowed_token_ids": ([5], [None, []]),
    "bad_words": (["sea"], [[]]), "logits_processors": (["x"], [None, []]), "repetition_detection": ({"a": 1}, [{}]),
    "response_format": ({"type": "json_object"}, [{"type": "text"}, None]),
    "structured_outputs": ({"regex": "x"}, [{}, None]), "structural_tag": ("x", [None]),
    "guided_json": ({"type": "object"}, [None]), "guided_regex": ("a", [""]), "guided_choice": (["a"], [[]]),
    "guided_grammar": ("a", [None]), "adapter": ("x", [None]), "lora": ("x", [None, ""]), "lora_request": ({"a": 1}, [{}]),
    "cache_salt": ("x", [None]), "kv_transfer_params": ({"a": 1}, [{}]), "vllm_xargs": ({"a": 1}, [{}]),
    "best_of": (2, [1, None])}
NOT_BUILT_CHAT = {
    "add_special_tokens": (True, [False]), "tools": ([{"type": "function"}], [None, []]),
    "tool_choice": ("required", ["none", "auto", None]), "functions": ([{"name": "f"}], [[]]),
    "function_call": ({"name": "f"}, ["none", "auto"]), "documents": ([{"a": "b"}], [[]]),
    "chat_template": ("x", [None]), "continue_final_message": (True, [False]), "mm_processor_kwargs": ({"a": 1}, [{}]),
    "reasoning_effort": ("high", [None]), "thinking_token_budget": (5, [None]), "verbosity": ("low", ["medium"]),
    "modalities": (["text", "audio"], [["text"]]), "audio": ({"voice": "x"}, [None]), "moderation": ({"model": "m"}, [{}]),
    "web_search_options": ({"search_context_size": "low"}, [{}])}

# Nowhere a field, or not at this endpoint.
UNKNOWN = {"text": {"temprature": 1, "Temperature": 1, "": 1, "max_completion_tokens": 5, "messages": [], "tools": [],
                    "top_logprobs": 2, "stream_interval": 2, "continue_final_message": False, "x" * 300: 1},
           "chat": {"temprature": 1, "prompt": "x", "time_limit": 5, "maxtokens": None}}

# field: a value of the wrong type, or out of its range; the last: what is named.
WRONG = [("model", 7, "model"), ("request_id", 7, "request_id"), ("request_id", "a b", "request_id"),
         ("stream_options", {"include_usage": "yes"}, "stream_options.include_usage"),
         ("stream_options", {"include_usge": True}, "stream_options.include_usge"),
         ("stream_options", {"continuous_usage_stats": 1}, "stream_options.continuous_usage_stats"),
         ("stream_options", [], "stream_options"), ("time_limit_ms", -1, "time_limit_ms"),
         ("time_limit_ms", "5", "time_limit_ms"), ("top_p", 2, "top_p"), ("logit_bias", {"5": 101}, "logit_bias[5]"),
         ("stop", ["a"] * 100, "stop"), ("stop", ["a", ""], "stop[1]"), ("n", 1000, "n"), ("echo", 1, "echo"),
         ("max_tokens", 10 ** 6, "max_tokens")]


def ask(door, kind, **fields):
    return door.call("POST", PATHS[kind], {**BODIES[kind], **fields})


def check_taken(door, kind, plain, name, value):
    status, _, answer = ask(door, kind, **{name: value})
    assert status == 200 and answer["choices"] == plain["choices"], (kind, name, value, status, answer)


def check_refused(door, kind, name, value, param, word="expected"):
    status, _, answer = ask(door, kind, **{name: value})
    assert status == 400, (kind, name, value, status, answer)
    error = answer["error"]
    assert error["message"].startswith((f"{param}: ", f"sampling parameter {param}: ")), error
    assert error["param"] == param and word in error["message"], error


def check_endpoint(door, kind):
    status, _, plain = ask(door, kind)
    assert status == 200
    is_chat = kind == "chat"
    for name, value in {**IDLE, **(IDLE_CHAT if is_chat else {})}.items():
        check_taken(door, kind, plain, name, value)
    for name, (value, nothings) in {**NOT_BUILT, **(NOT_BUILT_CHAT if is_chat else {})}.items():
        check_refused(door, kind, name, value, name, "not supported")
        for nothing in nothings:
            check_taken(door, kind, plain, name, nothing)
    for name, value in UNKNOWN[kind].items():
        status, _, answer = ask(door, kind, **{name: value})
        error = answer["error"]
        assert status == 400 and name[:63] in error["message"] and "does not have" in error["message"], (name, answer)
        assert error["param"] == (name[:63] or None), error
    for name, value, param in WRONG:
        check_refused(door, kind, name, value, param)


def check_time_limit(door):
    """Ends in time with what there is, as by gRPC; 0 is none."""
    long = {"prompt": "It was", "max_tokens": 1900, "ignore_eos": True, "temperature": 0}
    choice = door.complete(**long, time_limit_ms=1)
    assert choice["choices"][0]["finish_reason"] == "length" and choice["usage"]["completion_tokens"] < 1900
    assert door.complete(**long, time_limit_ms=0)["usage"]["completion_tokens"] == 1900


def check_room():
    """All prompts of a request find room or none; more than there ever is are not to be sent again."""
    long = {"prompt": "It was", "max_tokens": 2000, "ignore_eos": True, "n": 3, "stream": True}
    with Server("--max-num-seqs", "2", "--max-queue", "2") as server:
        door = Door(server)
        connection = door.connect()
        connection.request("POST", PATHS["text"], json.dumps(long))
        connection.getresponse().read(1)  # its three choices are open
        status, headers, answer = ask(door, "text", prompt=["a", "b"], n=1)
        assert status == 429 and headers["Retry-After"] and "got 2 more beside 3" in answer["error"]["message"], answer
        status, _, answer = ask(door, "text", prompt=["a", "b", "c"], n=2)
        assert status == 400 and answer["error"]["param"] == "prompt" and "at most 4 choices" in answer["error"]["message"]
        status, _, answer = ask(door, "text", n=6)
        assert status == 400 and answer["error"]["message"] == "n: expected 1 to 4, got 6", answer
        connection.close()


def main():
    with Server() as server:
        door = Door(server)
        for kind in PATHS:
            check_endpoint(door, kind)
        check_time_limit(door)
        for part in ({"type": "image_url", "text": "x"}, {"text": "x"}):
            check_refused(door, "chat", "messages", [{"role": "user", "content": [part]}], "messages")
    check_room()


if __name__ == "__main__":
    main()
