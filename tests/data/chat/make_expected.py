#!/usr/bin/env python3
"""Writes expected.json: what Python's jinja2 makes of the templates and snippets of this folder, set up as transformers sets it up.

    python3 -m venv V && V/bin/pip install jinja2==3.1.6 && V/bin/python tests/data/chat/make_expected.py

The templates are written for these tests, in the style of the common families. `error` is true where jinja2 (or raise_exception) fails.
"""
import json
import os

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = os.path.dirname(os.path.abspath(__file__))


class Generation(jinja2.ext.Extension):
    """A tag that prints its body, as transformers' does."""
    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


def environment():
    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda format: "now"
    return env


def outcome(env, template, variables):
    try:
        return {"text": env.from_string(template).render(**variables)}
    except Exception as error:
        return {"error": True, "why": str(error)}


def m(*pairs):
    return [{"role": role, "content": content} for role, content in pairs]


CONVERSATIONS = [
    m(("user", "Hello")),
    m(("system", " Be brief. "), ("user", "Hi\nthere"), ("assistant", "  Hello! "), ("user", "Größe? 你好")),
    m(("user", "a"), ("user", "b")),
    m(("assistant", "first")),
    m(("user", "Think"), ("assistant", "<think>\nhmm\n</think>\n\nDone"), ("user", "<tool_response>x</tool_response>"), ("assistant", "<think>more</think>End")),
    [{"role": "user", "content": "call"},
     {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1, "b": [2.5, "é"], "c": None}}}]},
     {"role": "tool", "content": "3"}, {"role": "tool", "content": "4"}, {"role": "assistant", "content": "It is 3"}],
    m(("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4"), ("user", "5")),
    m(("system", "only")),
]
SETTINGS = [{"add_generation_prompt": True}, {"add_generation_prompt": False},
            {"add_generation_prompt": True, "enable_thinking": False, "date_string": "26 Jul 2024"},
            {"add_generation_prompt": True, "tools": [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]}]


def main():
    env = environment()
    cases = []
    for name in sorted(os.listdir(HERE)):
        if not name.endswith(".jinja"):
            continue
        with open(os.path.join(HERE, name), encoding="utf-8", newline="") as file:
            template = file.read()
        for messages in CONVERSATIONS:
            for setting in SETTINGS:
                variables = {"bos_token": "<s>", "eos_token": "</s>", "tools": None, "documents": None, "messages": messages, **setting}
                cases.append({"file": name, "variables": variables, **outcome(env, template, variables)})
    with open(os.path.join(HERE, "snippets.json"), encoding="utf-8") as file:
        for snippet in json.load(file):
            variables = snippet.get("v", {})
            cases.append({"template": snippet["t"], "variables": variables, **outcome(env, snippet["t"], variables)})
    with open(os.path.join(HERE, "expected.json"), "w", encoding="utf-8") as file:
        json.dump({"jinja2": jinja2.__version__, "cases": cases}, file, ensure_ascii=False, indent=1)
        file.write("\n")
    print(len(cases), "cases,", sum("error" in case for case in cases), "of them errors")


if __name__ == "__main__":
    main()
