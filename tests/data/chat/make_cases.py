#!/usr/bin/env python3
"""Writes cases.json: chat templates, messages, and what real Jinja2 makes of them.

The environment is set up as apply_chat_template of transformers does it. The templates are written for
this test, in the form of the model families' published ones: the same features, not the same text.

    python3 -m pip install Jinja2==3.1.6 && python3 tests/data/chat/make_cases.py

A case is {name, template, messages, variables, add_generation_prompt} with "expected", or with
"refused": text that the one line of the refusal holds ("status": its status, if it is our own).
"""
import json
import os
import time
from datetime import datetime, timezone

import jinja2
import jinja2.ext
import jinja2.nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = 1753963200  # 2025-07-31 12:00 UTC
os.environ["TZ"] = "UTC"
time.tzset()


class Generation(jinja2.ext.Extension):
    """{% generation %} as in transformers' AssistantTracker: a block that prints its body."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def strftime_now(format):
    return datetime.fromtimestamp(NOW, timezone.utc).replace(tzinfo=None).strftime(format)


ENVIRONMENT = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
ENVIRONMENT.filters["tojson"] = tojson
ENVIRONMENT.globals["raise_exception"] = raise_exception
ENVIRONMENT.globals["strftime_now"] = strftime_now

CASES = []


def case(name, template, messages=None, variables=None, prompt=True, **ours):
    """Renders with Jinja2; what Jinja2 refuses, we must refuse. `refused`: we refuse what it renders."""
    messages = messages if messages is not None else TURNS
    made = {"name": name, "template": template, "messages": messages, "variables": variables or {},
            "add_generation_prompt": prompt}
    try:
        given = {"tools": None, "documents": None, "bos_token": "<s>", "eos_token": "</s>",
                 "messages": messages, "add_generation_prompt": prompt, **(variables or {})}
        expected = ENVIRONMENT.from_string(template).render(**given)
        failure = None
    except Exception as error:  # whatever Jinja2 or Python say
        expected, failure = None, f"{type(error).__name__}: {error}"
    if failure is not None:
        assert "fails" in ours or "refused" in ours, f"{name}: {failure}"
        made["refused"] = ours.get("fails", ours.get("refused"))
        made["jinja2_says"] = failure
    else:
        assert "fails" not in ours, f"{name}: Jinja2 renders it: {expected!r}"
        if "refused" in ours:
            made["refused"] = ours["refused"]
        else:
            made["expected"] = expected
    if "status" in ours:
        made["status"] = ours["status"]
    CASES.append(made)


def refused(name, template, reason, status="unsupported", **more):
    """Jinja2 may render it; we do not have it and say so."""
    case(name, template, refused=reason, status=status, **more)


def broken(name, template, reason, status="bad-tokenizer", **more):
    """Jinja2 refuses it as well."""
    case(name, template, fails=reason, status=status, **more)


USER = [{"role": "user", "content": "Hi there"}]
TURNS = [{"role": "user", "content": "  Hi "}, {"role": "assistant", "content": "Hello! "},
         {"role": "user", "content": "How are\nyou? ☃"}]
SYSTEM = [{"role": "system", "content": "Be brief."}] + TURNS
TOOLS = [{"type": "function", "function": {
    "name": "get_weather", "description": "Weather of a place: <now> & 'later'",
    "parameters": {"type": "object", "properties": {
        "city": {"type": "string", "description": "Ort, z. B. \"Köln\""},
        "unit": {"type": "string", "enum": ["c", "f"], "default": "c"},
        "days": {"type": "array", "items": {"type": "integer"}}, "deep": {"type": ["string", "null"]}},
        "required": ["city"]}}}]
TOOL_TURNS = [
    {"role": "user", "content": "Weather?"},
    {"role": "assistant", "content": "", "tool_calls": [
        {"id": "call12345", "type": "function",
         "function": {"name": "get_weather", "arguments": {"city": "Köln", "n": 1, "x": 0.5, "t": True, "e": []}}},
        {"id": "call67890", "type": "function",
         "function": {"name": "get_weather", "arguments": "{\"city\": \"Bonn\"}"}}]},
    {"role": "tool", "content": "12 °C", "name": "get_weather", "tool_call_id": "call12345"},
    {"role": "tool", "content": "13 °C", "name": "get_weather", "tool_call_id": "call67890"},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\nIt is mild."},
    {"role": "user", "content": "Thanks"}]

# ---- the families ----

CHATML = ("{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content + "
          "'<|im_end|>\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}")
case("demo-moe", CHATML)
case("demo-moe, no prompt", CHATML, prompt=False)
case("demo-moe, nothing", CHATML, messages=[], prompt=False)

QWEN2 = """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are a helpful assistant<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content']}}{% if (loop.last and add_generation_prompt) or not loop.last %}{{ '<|im_end|>' + '
'}}{% endif %}{% endfor %}
{% if add_generation_prompt and messages[-1]['role'] != 'assistant' %}{{ '<|im_start|>assistant
' }}{% endif %}
"""
case("qwen1.5-moe", QWEN2)
case("qwen1.5-moe, system", QWEN2, SYSTEM)
case("qwen1.5-moe, ends with the assistant", QWEN2, TURNS[:2])

QWEN3 = open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "reasoning.jinja"), encoding="utf-8").read()
case("qwen3", QWEN3)
case("qwen3, no thinking", QWEN3, SYSTEM, {"enable_thinking": False})
case("qwen3, thinking asked for", QWEN3, SYSTEM, {"enable_thinking": True})
case("qwen3, tools", QWEN3, TOOL_TURNS, {"tools": TOOLS})
case("qwen3, tools and system", QWEN3, SYSTEM + TOOL_TURNS[1:], {"tools": TOOLS})
case("qwen3, reasoning kept after the last question", QWEN3, TOOL_TURNS[:5], {"tools": TOOLS}, prompt=False)
case("qwen3, reasoning_content", QWEN3, USER + [{"role": "assistant", "content": "Yes", "reasoning_content": "\nso\n"}])

MISTRAL = """{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"""
case("mixtral", MISTRAL)
case("mixtral, roles", MISTRAL, SYSTEM, fails="Conversation roles must alternate user/assistant/user/assistant/...",
     status="bad-request")

MISTRAL3 = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}

{#- Only turns that are no tool's must alternate. #}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or message.role == "tool_results" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, roles must alternate") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}

{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val|tojson }}
                    {%- endif %}
                    {%- if not loop.last %}
                        {{- ", " }}
                    {%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}
                    {{- ", " }}
                {%- else %}
                    {{- "]" }}
                {%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {%- if not tool_call.id is defined or tool_call.id|length != 9 %}
                {{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}
            {%- endif %}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {%- if not loop.last %}
                {{- ", " }}
            {%- else %}
                {{- "]" + eos_token }}
            {%- endif %}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- elif message["role"] == "tool_results" or message["role"] == "tool" %}
        {%- if message.content is defined and message.content.content is defined %}
            {%- set content = message.content.content %}
        {%- else %}
            {%- set content = message.content %}
        {%- endif %}
        {{- '[TOOL_RESULTS] {"content": ' + content|string + ", " }}
        {{- '"call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported") }}
    {%- endif %}
{%- endfor %}
"""
case("mistral, tools", MISTRAL3, TOOL_TURNS, {"tools": TOOLS})
case("mistral, system", MISTRAL3, SYSTEM)
case("mistral, bad id", MISTRAL3, json.loads(json.dumps(TOOL_TURNS).replace("call12345", "1")),
     fails="Tool call IDs should be alphanumeric strings with length 9!", status="bad-request")

OLMOE = """{{ bos_token }}{% for message in messages %}
{% if message['role'] == 'system' %}
{{ '<|system|>
' + message['content'] }}
{% elif message['role'] == 'user' %}
{{ '<|user|>
' + message['content'] }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>
'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""
case("olmoe", OLMOE, SYSTEM)
case("olmoe, no prompt", OLMOE, TURNS, prompt=False)
case("olmoe, other bos", OLMOE, USER, {"bos_token": "|||IP_ADDRESS|||"})

LLAMA2 = """{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"""
case("llama-2", LLAMA2)
case("llama-2, system", LLAMA2, SYSTEM)

LLAMA3 = """{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>

'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>

' }}{% endif %}"""
case("llama-3", LLAMA3)

LLAMA31 = """{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not tools_in_user_message is defined %}
    {%- set tools_in_user_message = true %}
{%- endif %}
{%- if not date_string is defined %}
    {%- set date_string = strftime_now("%d %b %Y") %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}

{#- The system message comes out of the list. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}

{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if builtin_tools is defined or tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{%- if builtin_tools is defined %}
    {{- "Tools: " + builtin_tools | reject('equalto', 'code_interpreter') | join(", ") + "\\n\\n"}}
{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" }}
{%- if tools is not none and not tools_in_user_message %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}

{%- if tools_in_user_message and not tools is none %}
    {%- if messages | length != 0 %}
        {%- set first_user_message = messages[0]['content']|trim %}
        {%- set messages = messages[1:] %}
    {%- else %}
        {{- raise_exception("Cannot put tools in the first user message when there is none") }}
    {%- endif %}
    {{- '<|start_header_id|>user<|end_header_id|>\\n\\n' -}}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
    {{- first_user_message + "<|eot_id|>"}}
{%- endif %}

{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {%- if builtin_tools is defined and tool_call.name in builtin_tools %}
            {{- tool_call.name + ".call(" }}
            {%- for arg_name, arg_val in tool_call.arguments | items %}
                {{- arg_name + '="' + arg_val|string + '"' }}
                {%- if not loop.last %}
                    {{- ", " }}
                {%- endif %}
            {%- endfor %}
            {{- ")" }}
        {%- else  %}
            {{- '{"name": "' + tool_call.name + '", ' }}
            {{- '"parameters": ' }}
            {{- tool_call.arguments | tojson }}
            {{- "}" }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
ONE_CALL = [TOOL_TURNS[0], {**TOOL_TURNS[1], "tool_calls": TOOL_TURNS[1]["tool_calls"][:1]}] + TOOL_TURNS[2:3]
case("llama-3.1, date", LLAMA31, SYSTEM)
case("llama-3.1, tools", LLAMA31, ONE_CALL, {"tools": TOOLS})
case("llama-3.1, tools before", LLAMA31, ONE_CALL, {"tools": TOOLS, "tools_in_user_message": False})
case("llama-3.1, builtin tools", LLAMA31, ONE_CALL, {"builtin_tools": ["code_interpreter", "get_weather", "b"]})
case("llama-3.1, two calls", LLAMA31, TOOL_TURNS, fails="single tool-calls", status="bad-request")

PHI3 = """{% for message in messages %}{% if message['role'] == 'system' %}{{'<|system|>
' + message['content'] + '<|end|>
'}}{% elif message['role'] == 'user' %}{{'<|user|>
' + message['content'] + '<|end|>
'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>
' + message['content'] + '<|end|>
'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>
' }}{% else %}{{ eos_token }}{% endif %}"""
case("phi-3", PHI3, SYSTEM)
case("phi-3, no prompt", PHI3, SYSTEM, prompt=False)

MINIMIND = """{% if messages[0]['role'] == 'system' %}{% set system_message = messages[0]['content'] %}{{ '<|im_start|>system\\n' + system_message + '<|im_end|>\\n' }}{% else %}{{ '<|im_start|>system\\nYou are a helpful assistant<|im_end|>\\n' }}{% endif %}{% for message in messages %}{% set content = message['content'] %}{% if message['role'] == 'user' %}{{ '<|im_start|>user\\n' + content + '<|im_end|>\\n<|im_start|>assistant\\n' }}{% elif message['role'] == 'assistant' %}{{ content + '<|im_end|>' + '\\n' }}{% endif %}{% endfor %}"""
case("minimind", MINIMIND)
case("minimind, system", MINIMIND, SYSTEM)

GRANITE = """{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set system_message = "Knowledge Cutoff Date: April 2024.
Today's Date: " + strftime_now('%B %d, %Y') + ".
You are an assistant." %}
    {%- if tools and documents %}
        {%- set system_message = system_message + " Use both." %}
    {%- elif tools %}
        {%- set system_message = system_message + " Use the tools." %}
    {%- elif documents %}
        {%- set system_message = system_message + " Use the documents." %}
    {%- endif %}
    {%- if 'citations' in controls and documents %}
        {%- set system_message = system_message + '
Cite.' %}
    {%- endif %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- '<|start_of_role|>system<|end_of_role|>' + system_message + '<|end_of_text|>
' }}
{%- if tools %}
    {{- '<|start_of_role|>tools<|end_of_role|>' }}
    {{- tools | tojson(indent=4) }}
    {{- '<|end_of_text|>
' }}
{%- endif %}
{%- if documents %}
    {{- '<|start_of_role|>documents<|end_of_role|>' }}
    {%- for document in documents %}
        {{- 'Document ' + loop.index | string + '
' }}
        {{- document['text'] }}
        {%- if not loop.last %}
            {{- '

'}}
        {%- else %}
            {{- '<|end_of_text|>
' }}
        {%- endif %}
    {%- endfor %}
{%- endif %}
{%- for message in loop_messages %}
    {{- '<|start_of_role|>' + message['role'] + '<|end_of_role|>' + message['content'] + '<|end_of_text|>
' }}
    {%- if loop.last and add_generation_prompt %}
        {{- '<|start_of_role|>assistant' }}
            {%- if controls %}
                {{- ' ' + controls | tojson() }}
            {%- endif %}
        {{- '<|end_of_role|>' }}
    {%- endif %}
{%- endfor %}"""
case("granite", GRANITE)
case("granite, documents", GRANITE, TURNS, {"documents": [{"text": "one"}, {"text": "two"}], "controls": {"citations": True}})
case("granite, tools", GRANITE, SYSTEM, {"tools": TOOLS})

DEEPSEEK_V2 = """{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] + '

' }}{% elif message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] + eos_token }}{% elif message['role'] == 'system' %}{{ message['content'] + '

' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"""
case("deepseek-v2", DEEPSEEK_V2, SYSTEM)

DEEPSEEK_R1 = """{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% set ns = namespace(is_first=false, is_tool=false, is_output_first=true, system_prompt='', is_first_sp=true) %}{%- for message in messages %}{%- if message['role'] == 'system' %}{%- if ns.is_first_sp %}{% set ns.system_prompt = ns.system_prompt + message['content'] %}{% set ns.is_first_sp = false %}{%- else %}{% set ns.system_prompt = ns.system_prompt + '\\n\\n' + message['content'] %}{%- endif %}{%- endif %}{%- endfor %}{{ bos_token }}{{ ns.system_prompt }}{%- for message in messages %}{%- if message['role'] == 'user' %}{%- set ns.is_tool = false -%}{{'<｜User｜>' + message['content']}}{%- endif %}{%- if message['role'] == 'assistant' and 'tool_calls' in message %}{%- set ns.is_tool = false -%}{%- for tool in message['tool_calls'] %}{%- if not ns.is_first %}{{'<｜Assistant｜><｜tool▁calls▁begin｜>' + tool['type'] + '<｜tool▁sep｜>' + tool['function']['name'] + '\\n' + '```json' + '\\n' + tool['function']['arguments'] | string | length | string + '\\n' + '```'}}{%- set ns.is_first = true -%}{%- else %}{{'\\n' + tool['type']}}{%- endif %}{%- endfor %}{{'<｜tool▁calls▁end｜>'}}{%- endif %}{%- if message['role'] == 'assistant' and 'tool_calls' not in message %}{%- if ns.is_tool %}{{'<｜tool▁outputs▁end｜>' + message['content'] + '<｜end▁of▁sentence｜>'}}{%- set ns.is_tool = false -%}{%- else %}{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- endif %}{%- if message['role'] == 'tool' %}{%- set ns.is_tool = true -%}{%- if ns.is_output_first %}{{'<｜tool▁outputs▁begin｜>' + message['content']}}{%- set ns.is_output_first = false %}{%- else %}{{'\\n' + message['content']}}{%- endif %}{%- endif %}{%- endfor -%}{% if ns.is_tool %}{{'<｜tool▁outputs▁end｜>'}}{% endif %}{% if add_generation_prompt and not ns.is_tool %}{{'<｜Assistant｜><think>\\n'}}{% endif %}"""
case("deepseek-r1", DEEPSEEK_R1, SYSTEM)
ASCII_CALLS = json.loads(json.dumps(TOOL_TURNS, ensure_ascii=False).replace("ö", "o"))
case("deepseek-r1, tools", DEEPSEEK_R1, ASCII_CALLS)
refused("deepseek-r1, tools with a dict to print", DEEPSEEK_R1, "other than ASCII", messages=TOOL_TURNS)

HARMONY = open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "channels.jinja"), encoding="utf-8").read()
case("gpt-oss", HARMONY, SYSTEM)
case("gpt-oss, tools", HARMONY, ONE_CALL, {"tools": TOOLS, "reasoning_effort": "high"})
case("gpt-oss, builtin tools", HARMONY, USER, {"builtin_tools": ["python", "browser"], "model_identity": "You."})
case("gpt-oss, thinking", HARMONY, USER + [{"role": "assistant", "content": "Yes", "thinking": "so"}], prompt=False)
case("gpt-oss, tags", HARMONY, USER + [{"role": "assistant", "content": "<|channel|>final<|message|>x"}],
     fails="tags in the content", status="bad-request")

# ---- whitespace ----

case("a newline at the end is dropped", "a\n")
case("only one newline is dropped", "a\n\n")
case("carriage returns", "a\r\nb\rc{% if true %}\r\nd{% endif %}\r\n{{ 'x\r\ny' }}\r\n")
case("trim_blocks", "{% if true %}\n\na\n{% endif %}\nb\n{{ 'c' }}\n\nd")
case("lstrip_blocks", "  {% if true %}\n  a\n   {% endif %}  \n  b {% if true %}c{% endif %}\n\t{{ 'x' }}")
case("plus signs", "a\n  {%+ if true +%}\n b{% endif +%}\nc\n  {#+ comment +#}\nd {{+ 1 }}")
case("minus signs", "a \n\t {%- if true -%} \n b \n {%- endif -%} \n c \n {{- ' d ' -}} \n e {#- x -#} \n f")
case("minus over many lines", "x\n\n\n{%- for i in [1,2] %}\n\n{{ i }}\n\n{%- endfor %}\n\ny")
case("comments", "a{# {{ x }} {% if %} #}b\n  {# at the line's start #}\nc {#- # #}\n{##}d")
case("lstrip after a trimmed block", "{% if true %}\n  {% if true %}\n  x\n  {% endif %}\n{% endif %}\n")
case("lstrip after a minus", "{% if true -%}\n  {% if true %}x{% endif %}{% endif %} {{ '' }}  {% if true %}y{% endif %}")
case("a block behind text", "a {% if true %}\n  b {% endif %}\n c")
case("unicode whitespace", "a\u00a0\u3000{%- if true -%}\u2003b\u200b{%- endif %}\u2028c")
case("raw", "a {% raw %}{{ x }} {% if %}{% endraw %}\n b\n  {%- raw -%}  {# #}  {%- endraw -%}  c {% raw %}\nq\n   {% endraw %}\nr")
case("braces in text", "{ { } } {{ '{{' }} {{ '}}' }} {{ {'a': {'b': 1}}['a']['b'] }} } {")
case("generation", "{% for m in messages %}{% generation %}{% set q = 1 %}{{ m.content }}{% endgeneration %}{{ q }}\n{% endfor %}")

# ---- scopes and loops ----

case("set in a loop stays there", "{% set x = 1 %}{% for i in [1,2] %}{{ x }}{% set x = x + i %}{{ x }};{% endfor %}{{ x }}")
case("set in an if goes on", "{% if true %}{% set x = 'in' %}{% endif %}{{ x }}{% if false %}{% set y = 1 %}{% endif %}[{{ y }}]")
case("namespace", "{% set ns = namespace(n=0, s='') %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% set ns.s = ns.s ~ m.role[0] %}{% endfor %}{{ ns.n }}{{ ns.s }}[{{ ns.missing }}]")
case("loop variables", "{% for c in 'abc' %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.depth }}{{ loop.depth0 }}|{% endfor %}")
case("nested loops", "{% for a in [1,2] %}{% set outer = loop %}{% for b in 'xy' %}{{ outer.index }}{{ loop.index }}{{ outer.last }}{{ b }} {% endfor %}{{ loop.index }}{% endfor %}{{ loop }}")
case("loop with a test", "{% for i in range(10) if i % 3 == 1 %}{{ i }}:{{ loop.index }}{{ loop.last }}{{ loop.length }} {% else %}none{% endfor %}{% for i in [] %}{% else %}empty{% endfor %}{% for i in [1] if i > 1 %}x{% else %}filtered{% endfor %}")
case("a test that sees the body's work", "{% set ns = namespace(stop=false) %}{% for i in range(6) if not ns.stop %}{{ i }}{% if i == 2 %}{% set ns.stop = true %}{% endif %}{% endfor %}")
case("a test that looks ahead", "{% set ns = namespace(stop=false) %}{% for i in range(6) if not ns.stop %}{{ i }}{{ loop.last }}{% if i == 2 %}{% set ns.stop = true %}{% endif %}{% endfor %}")
case("break and continue", "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %}{{ i }}{% for j in range(3) %}{% if j == 1 %}{% break %}{% endif %}j{% endfor %}{% endfor %}")
case("else after turns that broke off", "{% for i in [1, 2] %}{% continue %}{% else %}a{% endfor %}{% for i in [1] %}{% break %}{% else %}b{% endfor %}{% for i in [1, 2] %}{% if i == 2 %}{% break %}{% endif %}{% else %}c{% endfor %}")
case("unpacking", "{% for a, b in [(1, 2), [3, 4]] %}{{ a }}{{ b }}{% endfor %}{% set x, y = 'pq' %}{{ y }}{{ x }}{% for k, v in {'m': 1, 'n': none}.items() %}{{ k }}={{ v }};{% endfor %}{% for k in {'m': 1} %}{{ k }}{% endfor %}{% for x in 1, 2 %}{{ x }}{% endfor %}")
case("set block", "{% set x %}\n a {{ 1 }}{% set y = 2 %}\n{% endset %}[{{ x }}][{{ y }}][{{ x | length }}]")
case("macros", "{% macro f(a, b='B', c=a) %}{{ a }}{{ b }}{{ c }}{% if a > 0 %}{{ f(a - 1, c='z') }}{% endif %}{% endmacro %}{{ f(2) }}|{{ f(b=1, a=0) }}|{% set g = f %}{{ g(0, c=9) | upper }}")
case("macros see the template", "{% macro f() %}[{{ x }}{{ messages | length }}{{ i }}]{% endmacro %}{{ f() }}{% set x = 1 %}{{ f() }}{% for i in [7] %}{{ f() }}{% endfor %}")
case("a macro's missing argument", "{% macro f(a) %}{{ a is defined }}{{ a }}{% endmacro %}{{ f() }}")
case("too many arguments", "{% macro f(a) %}{% endmacro %}{{ f(1, 2) }}", fails="does not take", status="bad-request")

# ---- expressions ----

case("undefined", "[{{ nope }}][{{ nope is defined }}][{{ messages[0].nope }}][{{ messages[99] }}][{{ nope | default('d') }}][{{ none | default('d') }}][{{ '' | default('d', true) }}][{{ nope | length }}][{% for x in nope %}x{% endfor %}][{{ nope == other }}][{{ 'a' in nope }}][{{ nope ~ 'x' }}][{{ not nope }}][{{ nope | trim }}][{{ nope | upper }}][{{ nope | join }}]")
case("an attribute of an undefined value", "{{ nope.x }}", fails="'nope' is undefined", status="bad-request")
case("an attribute of a missing attribute", "{{ messages[0].a.b }}", fails="'a' is undefined", status="bad-request")
case("adding to undefined", "{{ nope + 'x' }}", fails="'nope' is undefined", status="bad-request")
case("adding a number to a text", "{{ 'a' + 1 }}", fails="a str and a int", status="bad-request")
case("adding none", "{{ 'a' + messages[0].content }}", [{"role": "user", "content": None}], fails="NoneType", status="bad-request")
case("operands come back", "{{ '' or 'x' }}{{ 'a' and 'b' }}{{ 0 and 1 }}{{ none or false }}{{ not 1 }}{{ [] or {} }}{{ 1 if [] else 2 }}[{{ 'x' if false }}]{{ not not 'a' }}")
case("numbers", "{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 6 / 2 }} {{ 2 * 3.5 }} {{ 1e3 }} {{ 0.1 + 0.2 }} {{ 1e16 }} {{ 1.5e-7 }} {{ 123456789.125 }} {{ -0.0 }} {{ 1e22 }} {{ 5 - 2 - 1 }} {{ 2 + 3 * 4 }} {{ -2 | abs }} {{ true + 1 }} {{ 0.0001 }} {{ 0.00001 }} {{ 9007199254740993 }} {{ 100000.0 }}")
case("comparisons", "{{ 1 < 2 < 3 }}{{ 1 < 2 > 5 }}{{ 'a' < 'b' }}{{ 1 == 1.0 }}{{ true == 1 }}{{ '1' == 1 }}{{ [1, 'a'] == [1, 'a'] }}{{ {'a': [1]} == {'a': [1]} }}{{ none == none }}{{ (1,) == [1] }}{{ 1 != 2 }}{{ 2 >= 2 }}{{ 'é' > 'z' }}{{ 'abc' < 'abcd' }}")
case("membership", "{{ 'a' in 'cat' }}{{ '' in 'x' }}{{ 2 in [1, 2] }}{{ 'a' in {'a': 1} }}{{ 'b' not in {'a': 1} }}{{ not 'a' in 'b' }}{{ 1 in (1, 2) }}{{ 'x' in ['xy'] }}{{ true in [1] }}")
case("none in a text", "{{ none in 'abc' }}", fails="a NoneType and a str", status="bad-request")
case("slices", "{{ 'abcdef'[1:3] }}{{ 'abcdef'[::-1] }}{{ 'abcdef'[-2:] }}{{ 'abcdef'[:-4] }}{{ 'abcdef'[::2] }}{{ 'abcdef'[10:] }}{{ 'abcdef'[4:1:-2] }}{{ [1,2,3][1:] }}{{ [1,2,3][::-1] }}{{ (1,2,3)[:1] }}{{ 'äöü☃'[1:3] }}{{ 'äöü☃'[::-1] }}{{ 'äöü☃'[-1] }}{{ 'abc'[-9:9] }}{{ [1,2,3][-1] }}{{ 'abc'[none:2] }}{{ 'abc'[5] }}{{ [1,2,3][2:0:-1] }}{{ messages[::-1][0].role }}")
case("precedence", "{{ 'a' ~ 1 + 2 ~ 'b' }} {{ 1 ~ 2 | string }} {{ -1 | abs }} {{ not 1 == 2 }} {{ 'x' ~ 'y' | upper }} {{ 1 if 0 else 2 if 0 else 3 }} {{ 'a' 'b' }} {{ 2 * 3 % 4 }} {{ (1 + 2) * 3 }} {{ 'a' + 'b' * 2 }} {{ messages | length - 1 }} {{ 1 == 1 and 2 == 2 }}")
case("items and attributes", "{{ messages[0]['role'] }}{{ messages[0].role }}{{ messages.0.role }}{{ d['items'] }}{{ d.items() | list | length }}{{ d.get('x') }}{{ d.get('x', 7) }}{{ d.get('k') }}{{ d.keys() | list }}{{ d.values() | list }}{{ d['nokey'] is defined }}{{ d['keys'] is defined }}{{ d.x is defined }}", variables={"d": {"items": "I", "k": [1, "a'b", None, True, 1.5]}})
case("printed lists and dicts", "{{ [1, 'a', \"b'c\", 'd\"e', 'f\\'\"g', none, true, 1.0, [], {}, (), (1,), {'k': [2]}, 'n\\nt\\t\\\\'] }}")
case("escapes", "{{ 'a\\nb\\t\\\\\\'\\\"\\x41\\u2603\\101\\q' }}{{ \"it's\" }}{{ 'two\nlines' }}")
case("tests", "{{ 1 is number }}{{ true is number }}{{ true is integer }}{{ 1 is integer }}{{ 1.0 is float }}{{ 'a' is string }}{{ none is none }}{{ {} is mapping }}{{ [] is sequence }}{{ 'a' is sequence }}{{ {} is iterable }}{{ 1 is iterable }}{{ 3 is odd }}{{ 3 is even }}{{ 4 is divisibleby 2 }}{{ 4 is divisibleby(3) }}{{ 1 is eq 1 }}{{ 1 is not none }}{{ true is true }}{{ 1 is true }}{{ false is false }}{{ false is boolean }}{{ nope is undefined }}{{ nope is iterable }}{{ namespace is callable }}{{ 1 is in [1] }}{{ 'a' is not string or true }}")
case("strings", "{{ ' a b '.strip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'a,b,,c'.split(',') }}|{{ ' a  b '.split() }}|{{ 'a b c'.split(' ', 1) }}|{{ ' a  b c '.split(none, 1) }}|{{ '\\n\\nx\\n'.lstrip('\\n') }}|{{ 'x\\n'.rstrip() }}|{{ 'abc'.startswith('ab') }}|{{ 'abc'.endswith(('x', 'bc')) }}|{{ 'aBc'.upper() }}{{ 'aBc'.lower() }}{{ 'aBC'.capitalize() }}|{{ 'a.b.c'.replace('.', '--', 1) }}|{{ '-'.join(['a', 'b']) }}|{{ 'abcabc'.find('c') }}{{ 'abcabc'.rfind('c') }}{{ 'ää'.find('ä', ) }}{{ 'abc'.find('x') }}{{ 'aaa'.count('aa') }}|{{ 'a\\nb\\r\\nc'.splitlines() }}|{{ '12'.isdigit() }}{{ ''.isdigit() }}{{ 'a1'.isalnum() }}{{ 'ab'.isalpha() }}{{ ' '.isspace() }}|{{ 'prefix-x'.removeprefix('prefix-') }}{{ 'x.py'.removesuffix('.py') }}|{{ '☃ '.strip() }}|{{ '\\u3000x\\u00a0'.strip() }}|{{ ''.split(',') }}{{ ''.split() }}")
case("filters", "{{ ' a ' | trim }}|{{ 'xax' | trim('x') }}|{{ 'aB' | upper }}{{ 'aB' | lower }}{{ 'aB' | capitalize }}|{{ [1, 2] | join('-') }}|{{ [{'a': 1}, {'a': 2}] | join(', ', attribute='a') }}|{{ [1, 2] | first }}{{ 'ab' | last }}|{{ 'ab' | list }}|{{ [1, 2] | reverse | list }}{{ 'ab' | reverse }}|{{ 5 | string ~ 'x' }}|{{ '7' | int + 1 }}{{ 'x' | int }}{{ 3.9 | int }}{{ 'x' | int(5) }}|{{ {'a': 1} | items | list }}|{{ 'aab' | replace('a', 'x') }}|{{ messages | map(attribute='role') | join(',') }}|{{ ['a', 'b'] | map('upper') | list }}|{{ [0, 1, 2] | select | list }}{{ [0, 1, 2] | reject('odd') | list }}|{{ messages | selectattr('role', 'equalto', 'user') | list | length }}|{{ messages | rejectattr('role', 'eq', 'user') | map(attribute='content') | first2 if false else 1 }}".replace(" | first2", " | join"))
case("filters of generators", "{% set g = [1, 2] | select %}{{ g | list }}{{ g | list }}{{ 1 if g else 2 }}{{ [] | first }}{{ {'a': 1} | length }}{{ 'äö' | length }}{{ [[1, 2], [3]] | map('length') | join('+') }}{{ [{'x': {'y': 5}}] | map(attribute='x.y') | list }}{{ [{}] | map(attribute='q', default='-') | list }}")
case("the length of a generator", "{{ [1] | select | length }}", fails="generator has no length", status="bad-request")
case("tojson", "{{ x | tojson }}\n{{ x | tojson(indent=2) }}\n{{ x | tojson(ensure_ascii=true) }}\n{{ x | tojson(separators=(',', ':')) }}\n{{ [] | tojson(indent=2) }}{{ 'a</b>&\\'' | tojson }}{{ 1e16 | tojson }}{{ x | tojson | safe }}", variables={"x": {"b": [1, 2.5, None, True, {}, []], "a": "q\"\\/\n\t\u0001\u007f ☃ 😀 <&>'", "": {"n": {"m": []}}}})
case("tojson of undefined", "{{ nope | tojson }}", fails="Undefined cannot be written as JSON", status="bad-request")
case("ranges", "{{ range(3) | list }}{{ range(1, 4) | list }}{{ range(5, 0, -2) | list }}{{ range(3)[1] }}{{ range(3) | length }}{% for i in range(2) %}{{ i }}{% endfor %}{{ range(4)[::2] | list }}")
case("dates", "{{ strftime_now('%Y-%m-%d') }} {{ strftime_now('%d %b %Y') }} {{ strftime_now('%B %-d, %A %H:%M:%S %j %%') }}")
case("content in parts", "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m['content'] %}{% if p['type'] == 'text' %}{{ p['text'] }}{% else %}<{{ p.type }}>{% endif %}{% endfor %}{% endif %}{% endfor %}", [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]}, {"role": "user", "content": "c"}])
case("a variable goes before a token", "{{ bos_token }}{{ tools is none }}{{ tools is defined }}{{ documents }}", variables={"bos_token": "B"})
case("a dict method that changes", "{{ {'a': 1}.pop is defined }}{{ [].append is defined }}")
case("append is hidden", "{% set x = [] %}{{ x.append(1) }}", fails="'append' is undefined", status="bad-request")
case("dict() and copies", "{{ dict(a=1, b='x') | tojson }}{{ {'a': 1}.copy() }}{{ {'a': 1, 'a': 2} }}{{ [1, 2, 1].count(1) }}{{ [1, 2].index(2) }}")
case("safe", "{{ '<b>' | safe }}{{ ('a' + 'b') | upper | safe }}")
case("a filter in a condition", "{% if messages | length > 2 and messages[-1].content | trim | length != 0 %}yes{% elif true %}no{% endif %}")
case("unusual but valid", "{%if true%}{{1}}{%endif%}{%- set a=1,2-%}{{a}}{{ [1,2,][1] }}{{ {'a':1,}['a'] }}{{ 'a' if true }}{{ (1) }}{{ () }}{{-1}}{{ 1-1 }}{{ a.0 }}{{ +1 }}{{ a [0] }}")
case("raise_exception says why", "{{ raise_exception('No tools, please: 100%!') }}", fails="No tools, please: 100%!", status="bad-request")
case("division by zero", "{{ 1 // 0 }}", fails="division by zero", status="bad-request")
case("calling a text", "{{ 'a'() }}", fails="a str is called", status="bad-request")
case("iterating over a number", "{% for x in 5 %}{% endfor %}", fails="a int cannot be iterated", status="bad-request")
case("calling the unknown", "{{ nope() }}", fails="'nope' is undefined", status="bad-request")
case("an attribute of a dict is set", "{% set d = {} %}{% set d.x = 1 %}", fails="of a namespace it can", status="bad-request")
case("a date in the middle of text", "a{% set d = strftime_now('%Y') %}{{ d }}")

# ---- what we do not have: refused with its name ----

refused("filter", "line 1\n{{ 'a' | wordcount }}", "line 2: not supported: the filter 'wordcount'")
refused("unknown filter", "{{ 'a' | frobnicate }}", "not supported: the filter 'frobnicate'")
refused("test", "\n\n{{ 'a' is sameas 'a' }}", "line 3: not supported: the test 'sameas'")
refused("include", "{% include 'x' %}", "not supported: the statement 'include'")
refused("with", "{% with a = 1 %}{{ a }}{% endwith %}", "not supported: the statement 'with'")
refused("call", "{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}x{% endcall %}", "'caller'")
refused("filter block", "{% filter upper %}a{% endfilter %}", "the statement 'filter'")
refused("do", "{% do 1 %}", "not supported: the statement 'do'")
refused("recursive", "{% for x in [1] recursive %}{{ x }}{% endfor %}", "recursive")
refused("power", "{{ 2 ** 3 }}", "'**'")
refused("format", "{{ '{}'.format(1) }}", "format: is not supported")
refused("percent", "{{ '%s' % 1 }}", "'%' of a str")
refused("case beyond ASCII", "{{ 'ß'.upper() }}", "upper: of text beyond ASCII")
refused("safe inside", "{{ ('a' | safe) ~ 'b' }}", "safe: is not supported")
refused("set with a filter", "{% set x | upper %}a{% endset %}", "filter on a set block")
refused("hexadecimal", "{{ 0xff }}", "not plainly decimal")
refused("joiner", "{% set j = joiner() %}", "joiner: is not supported")
refused("cycle", "{% for x in [1] %}{{ loop.cycle(1, 2) }}{% endfor %}", "'loop.cycle'")
refused("star arguments", "{{ range(*[3]) }}", "arguments by *")
refused("dunder", "{{ 'a'.__class__ }}", "'__class__'")
refused("printed function", "{{ range }}", "a function cannot be written as text")
refused("printed view", "{{ {'a': 1}.items() }}", "a dict view cannot be written as text")
refused("large number", "{{ 9223372036854775807 + 1 }}", "too large")
refused("time zone", "{{ strftime_now('%Z') }}", "strftime_now: this format is not supported")
refused("dict with numbers as keys", "{{ {1: 2} }}", "a dict's key that is a int")
refused("set after a macro has read it", "{% macro f() %}{{ x }}{% endmacro %}{{ f() }}{% set x = 1 %}", "setting 'x'", variables={"x": 0})
refused("set after a loop has read it", "{% for i in [1] %}{{ x }}{% endfor %}{% set x = 1 %}", "setting 'x'", variables={"x": 0})
case("set after the template has read it", "{{ x }}{% for i in [1] %}{{ x }}{% for j in [2] %}{{ x }}{% endfor %}{% set x = 2 %}{{ x }}{% endfor %}{% set x = 1 %}{{ x }}", variables={"x": 0})
refused("names beyond ASCII", "{% set ä = 1 %}", "a character that no tag may have")

# ---- what is no template ----

for number, (template, reason) in enumerate([
        ("{{ ", "the end of a tag is missing"), ("{% if true %}", "without 'endif'"),
        ("{% endif %}", "out of place: 'endif'"), ("{{ 1 + }}", "expected an expression"),
        ("{{ }}", "expected an expression"), ("{% %}", "name of a statement"),
        ("{# never closed", "end of a comment"), ("{{ 'never closed }}", "end of a string"),
        ("{% for x %}{% endfor %}", "expected 'in'"), ("{% for in x %}{% endfor %}", "expected 'in'"),
        ("{{ (1, 2 }}", "closing bracket"), ("{{ [1, 2) }}", "closing bracket"), ("{{ a b }}", "expected }}"),
        ("{% set 1 = 2 %}", "expected a name"), ("{% set true = 2 %}", "cannot be assigned"),
        ("{% raw %}x", "raw block"), ("{% if %}x{% endif %}", "expected an expression"),
        ("{{ a.}}", "expected a name"), ("{{ a | }}", "name of a filter"), ("{{ a is }}", "name of a test"),
        ("{% else %}", "out of place: 'else'"), ("{% for x in y %}{% else %}{% else %}{% endfor %}", "out of place"),
        ("{% if a %}{% else %}{% elif b %}{% endif %}", "out of place"), ("{{ f(a=1, 2) }}", "named argument"),
        ("{% macro (x) %}{% endmacro %}", "expected a name"), ("{% macro f(a=1, b) %}{% endmacro %}", "without a default"),
        ("{{ a $ b }}", "a character that no tag may have"), ("{% break %}", "outside of a loop"),
        ("{{ {'a' 1} }}", "expected :"), ("{{ 1 if }}", "expected an expression"), ("{% endfor %}", "out of place"),
        ("{% set x %}", "without 'endset'"), ("{{ a[] }}", "expected an expression"), ("{{ a[1:2:3:4] }}", "expected ]"),
        ("x\n\n{% if a = b %}{% endif %}", "line 3: expected %}")]):
    broken(f"broken {number + 1}", template, reason)

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "cases.json"), "w", encoding="utf-8") as file:
    file.write("[\n" + ",\n".join(json.dumps(made, ensure_ascii=False) for made in CASES) + "\n]\n")
print(f"{len(CASES)} cases, {sum('expected' in made for made in CASES)} of them with a text")
