#!/usr/bin/env python3
"""Prompt and decode tokens/s of llama.cpp: one round, and one line of JSON, for each line of standard input, as `crumb bench --paced` does it.

    llamacpp_speed.py MODEL.gguf THREADS PROMPT GEN
"""
import json
import random
import sys
import time

from llamacpp import Model, system_info

path, threads, prompt, gen = sys.argv[1], *map(int, sys.argv[2:5])
model = Model(path, max(prompt, gen), threads)
draw = random.Random(1)
ids = [draw.randrange(model.vocabulary) for _ in range(max(prompt, gen))]


def prompt_round():
    model.clear()
    start = time.perf_counter()
    model.step(ids[:prompt])
    return prompt / (time.perf_counter() - start)


def decode_round(tokens):
    model.clear()
    start = time.perf_counter()
    for i in range(tokens):
        model.step(ids[i:i + 1])
    return tokens / (time.perf_counter() - start)


prompt_round()
decode_round(1)
if not model.finite():
    sys.exit("llama.cpp's logits are not finite")
print(json.dumps({"ready": True, "system": system_info()}), flush=True)
for _ in sys.stdin:
    print(json.dumps({"prompt_tokens_per_second": prompt_round(), "decode_tokens_per_second": decode_round(gen)}), flush=True)
