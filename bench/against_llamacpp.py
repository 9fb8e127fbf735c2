#!/usr/bin/env python3
"""Called by bench/against_llamacpp.sh: crumb and llama.cpp on models of one shape, round by round in turn."""
import argparse
import json
import os
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CLIENTS = os.path.join(ROOT, "bench", "clients")
# "file:": the mixture of types that llama-quantize writes; else every linear of that type.
PEERS = {2: ["file:Q2_K", "Q2_K", "Q4_0"], 3: ["file:Q3_K_M", "Q3_K"], 4: ["Q4_0", "file:Q4_K_M", "Q4_K"]}
QUIET = 0.10  # of the machine, at most, for others while a round counts
GOALS = {(2, "file:Q2_K"): 2.0, (2, "Q2_K"): 2.0, (2, "Q2_0"): 2.0, (2, "Q4_0"): 1.6, (3, "file:Q3_K_M"): 2.0, (3, "Q3_K"): 2.0, (4, "Q4_0"): 1.2}


def peer_name(peer):
    return f"{peer.removeprefix('file:')} file" if peer.startswith("file:") else f"{peer} throughout" if peer.endswith("_K") else peer


def listed(kind, known):
    def parse(text):
        out = [kind(word) for word in text.split(",")]
        for word in out:
            if word not in known:
                raise argparse.ArgumentTypeError(f"'{word}': expected of {', '.join(map(str, known))}")
        return out
    return parse


TICK = os.sysconf("SC_CLK_TCK")


def machine_ticks():
    """(all, busy) of every processor so far; stolen time counts as busy."""
    with open("/proc/stat", encoding="ascii") as file:
        ticks = [int(word) for word in file.readline().split()[1:9]]
    return sum(ticks), sum(ticks) - ticks[3] - ticks[4]


def process_ticks(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        words = file.read().rsplit(")", 1)[1].split()
    return int(words[11]) + int(words[12])


class Paced:
    """A program that makes one round for each line."""

    def __init__(self, command, environment):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"against_llamacpp.py: error: {' '.join(self.process.args)} ended with {self.process.wait()}")
        return json.loads(line)

    def round(self):
        """Its figures, "others": the share of the machine that went to other programs meanwhile, and "processor_seconds" of its own."""
        (all_before, busy_before), own_before = machine_ticks(), process_ticks(self.process.pid)
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        out = self.read()
        (all_after, busy_after), own_after = machine_ticks(), process_ticks(self.process.pid)
        out["others"] = max(0, busy_after - busy_before - (own_after - own_before)) / max(1, all_after - all_before)
        out["processor_seconds"] = (own_after - own_before) / TICK
        return out

    def close(self):
        self.process.stdin.close()
        last = self.process.stdout.read()
        if self.process.wait() != 0:
            sys.exit(f"against_llamacpp.py: error: {' '.join(self.process.args)} failed")
        return json.loads(last) if last.strip() else {}


def made(path, command):
    """`path`, made by `command` unless an earlier run did; a run that stops leaves nothing under that name."""
    if not os.path.exists(path):
        part = path + ".part"
        print(f"making {os.path.relpath(path, ROOT)}", file=sys.stderr)
        subprocess.run([word.replace("{out}", part) for word in command], check=True, stdout=subprocess.DEVNULL)
        os.rename(part, path)
    return path


def main():
    parser = argparse.ArgumentParser(prog="bench/against_llamacpp.sh", description=__doc__)
    parser.add_argument("--crumb", default=os.path.join(ROOT, "build", "no-torch", "crumb"))
    parser.add_argument("--shapes", type=listed(str, ["135m", "1b", "3b", "7b"]), default=["135m", "1b", "3b"], help="of 135m,1b,3b,7b")
    parser.add_argument("--bits", type=listed(int, [2, 3, 4]), default=[2, 3, 4], help="of 2,3,4")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--gen", type=int, default=64)
    parser.add_argument("--head-bits", type=int, choices=[0, 4, 6, 8], default=8, help="of crumb's embedding and head, 8 as its recipes write; llama.cpp's have 6.6 bits (Q6_K), or 8.5")
    parser.add_argument("--models", default=os.path.join(ROOT, "build", "bench-models"), help="folder for the models of random weights")
    parser.add_argument("--json", metavar="FILE", help="also write every round there")
    a = parser.parse_args()
    os.makedirs(a.models, exist_ok=True)
    # Threads that spin after a round would take the processors from the other program.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_", "OPENBLAS_"))}
    rows = []
    print("| shape | crumb | llama.cpp | decode tokens/s | theirs | ratio | goal | prompt tokens/s | theirs | ratio | quiet rounds |\n|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for shape in a.shapes:
        for bits in a.bits:
            ours = made(os.path.join(a.models, f"{shape}-w{bits}g64"), [a.crumb, "bench", "synthesize", "--shape", shape, "--bits", str(bits), "-o", "{out}"])
            config = os.path.join(ours, "config.json")
            with open(config, encoding="utf-8") as file:
                fits = json.load(file)["hidden_size"] % 256 == 0
            for peer in PEERS[bits]:
                if not fits and peer in ("Q2_K", "Q3_K", "Q4_K"):  # blocks of 256 along K
                    peer = {"Q2_K": "Q2_0"}.get(peer)
                    if peer is None:
                        continue
                theirs = made(os.path.join(a.models, f"{shape}-{peer.replace(':', '-')}.gguf"), [sys.executable, os.path.join(CLIENTS, "llamacpp_synthesize.py"), config, peer, "{out}"])
                shared = ["--threads", str(a.threads), "--prompt", str(a.prompt), "--gen", str(a.gen)]
                crumb = Paced([a.crumb, "bench", ours, "--paced", "--head-bits", str(a.head_bits), *shared], environment)
                other = Paced([sys.executable, os.path.join(CLIENTS, "llamacpp_speed.py"), theirs, str(a.threads), str(a.prompt), str(a.gen)], environment)
                system = other.read()["system"]
                rounds = []
                for i in range(a.rounds):
                    pair = {}
                    for name, program in (("crumb", crumb), ("llamacpp", other)) if i % 2 == 0 else (("llamacpp", other), ("crumb", crumb)):
                        pair[name] = program.round()
                    rounds.append(pair)
                description = crumb.close().get("description", "")
                other.close()
                row = {"shape": shape, "bits": bits, "peer": peer, "threads": a.threads, "description": description, "system": system, "rounds": rounds}
                quiet = [r for r in rounds if max(r["crumb"]["others"], r["llamacpp"]["others"]) < QUIET]
                row["quiet_rounds"] = len(quiet)
                counted = quiet or rounds
                for part in ("decode", "prompt"):
                    key = part + "_tokens_per_second"
                    row[part] = statistics.median(r["crumb"][key] for r in counted)
                    row[part + "_peer"] = statistics.median(r["llamacpp"][key] for r in counted)
                    row[part + "_ratio"] = statistics.median(r["crumb"][key] / r["llamacpp"][key] for r in counted)
                rows.append(row)
                goal = GOALS.get((bits, peer))
                print(f"| {shape} | w{bits}g64 | {peer_name(peer)} | {row['decode']:.1f} | {row['decode_peer']:.1f} | **{row['decode_ratio']:.2f}** | {goal or '-'} | "
                      f"{row['prompt']:.0f} | {row['prompt_peer']:.0f} | **{row['prompt_ratio']:.2f}** | {len(quiet)} of {len(rounds)} |", flush=True)
    if any(row["quiet_rounds"] < 3 for row in rows):
        print(f"\nNot to be quoted: in rows with fewer than 3 quiet rounds other programs had {QUIET:.0%} of the machine or more. Threads that spin at barriers, as "
              "llama.cpp's do, lose far more by that than a share; --threads 1 suffers less.")
    if a.json:
        with open(a.json, "w", encoding="utf-8") as file:
            json.dump({"head_bits": a.head_bits, "prompt": a.prompt, "gen": a.gen, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
