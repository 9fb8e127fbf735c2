#!/usr/bin/env python3
"""Holds the documents to the code.

    check_docs.py ROOT [CRUMB]

- paths named in backticks or links of *.md exist (except under folders that are made by running something);
- every `crumb COMMAND` and every --option in a shell block or backticks is one that the program's --help knows (when CRUMB is given);
- built-in recipes named in the documents exist, and recipe keys after --set are fields;
- ARCHITECTURE.md names every room of CMakeLists.txt, and no other in its table.
"""
import glob
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from check_includes import room_table  # noqa: E402

MADE = ("build/", ".deps/", "demo/", "OUT", "run/")  # made by running something
PATH = re.compile(r"^(?:\./)?(?:src|tests|docs|cmake|recipes|scripts|tools|bench|include|testdata|\.ci)/[\w./-]+$|^(?:\./)?[\w-]+\.(?:sh|md)$")


def documents(root):
    found = glob.glob(os.path.join(root, "*.md")) + glob.glob(os.path.join(root, "docs", "**", "*.md"), recursive=True)
    return [p for p in sorted(found) if not os.path.relpath(p, root).startswith(("build", ".deps"))]


def named_paths(text):
    for word in re.findall(r"`([^`\s]+)`", text):
        word = word.rstrip(",.;:")
        if PATH.match(word):
            yield word, False
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if not re.match(r"[a-z]+:", target):
            yield target, True


def check_paths(root, path, text):
    faults = []
    folder = os.path.dirname(path)
    for word, is_link in named_paths(text):
        if word.startswith(MADE) or any(c in word for c in "*<>{}…"):
            continue
        base = folder if is_link else root
        candidates = [os.path.join(base, word), os.path.join(folder, word)]
        if not any(os.path.exists(c) for c in candidates):
            faults.append(f"names '{word}', which is not there")
    return faults


def help_text(crumb, command):
    done = subprocess.run([crumb, *command, "--help"], capture_output=True, text=True, check=False)
    return done.stdout


class Program:
    """What the program's own --help says."""

    def __init__(self, crumb):
        top = help_text(crumb, [])
        self.commands = {}
        for name in re.findall(r"^  ([a-z]+) ", top.split("Subcommands:")[-1], flags=re.M):
            text = help_text(crumb, [name])
            for sub in re.findall(r"^  ([a-z]+) ", text.split("Subcommands:")[-1] if "Subcommands:" in text else "", flags=re.M):
                text += help_text(crumb, [name, sub])
            self.commands[name] = (set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", text)), "not in this build" in top.split(f"  {name} ")[1].split("\n")[0])
        shown = subprocess.run([crumb, "recipes", "show", "efficientqat-w2g64", "--json"], capture_output=True, text=True, check=True).stdout
        import json
        self.fields = {f"{s}.{k}" for s, body in json.loads(shown).items() if isinstance(body, dict) for k in body}
        listed = subprocess.run([crumb, "recipes", "--json"], capture_output=True, text=True, check=True).stdout
        self.recipes = {r["name"] for r in json.loads(listed)["recipes"]}


def commands_in(text):
    """Each `crumb ...` of a fenced block (continuation lines joined) or of a backtick span."""
    for block in re.findall(r"```[a-z]*\n(.*?)```", text, flags=re.S):
        for line in block.replace("\\\n", " ").splitlines():
            found = re.match(r"\s*(?:\$ )?(?:\S*/)?crumb\s+(.*)", line)
            if found:
                yield found.group(1).split(" #")[0]
    for span in re.findall(r"`(?:\S*/)?crumb ([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S)):
        yield span


def check_commands(program, text):
    faults = []
    for command in commands_in(text):
        words = command.replace("[", " ").replace("]", " ").replace("|", " ").split()
        if not words or words[0].startswith("-") or not re.match(r"^[a-z]+$", words[0]):
            continue
        if words[0] not in program.commands:
            faults.append(f"uses `crumb {words[0]}`, which is no command")
            continue
        options, absent = program.commands[words[0]]
        for word in words[1:]:
            option = word.split("=")[0].rstrip(".,;")
            if re.match(r"^--?[a-zA-Z]", option) and not absent and option not in options:
                faults.append(f"uses `crumb {words[0]} {option}`, which is no option of it")
    for key in re.findall(r"--set[ =]([a-z0-9_]+\.[a-z0-9_]+)=", text):
        if key not in program.fields:
            faults.append(f"sets '{key}', which is no recipe field")
    for name in re.findall(r"--recipe[ =]([\w.-]+)", text):
        if name not in program.recipes and not name.endswith(".json") and not name.isupper():
            faults.append(f"uses recipe '{name}', which is not built in")
    return faults


def check_architecture(root):
    path = os.path.join(root, "ARCHITECTURE.md")
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        rows = set(re.findall(r"^\|\s*`(\w+)`\s*\|", file.read(), flags=re.M))
    rooms = set(room_table(root)) | {"cli"}
    faults = [f"ARCHITECTURE.md: the room table lacks `{room}`" for room in sorted(rooms - rows)]
    folders = {room for room in rows if os.path.isdir(os.path.join(root, "src", room))}
    return faults + [f"ARCHITECTURE.md: `{room}` is in the room table but not in CMakeLists.txt" for room in sorted((rows & folders) - rooms)]


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: check_docs.py ROOT [CRUMB]")
    root = sys.argv[1]
    program = Program(sys.argv[2]) if len(sys.argv) == 3 else None
    faults = check_architecture(root)
    for path in documents(root):
        with open(path, encoding="utf-8") as file:
            text = file.read()
        for fault in check_paths(root, path, text) + (check_commands(program, text) if program else []):
            faults.append(f"{os.path.relpath(path, root)}: {fault}")
    for fault in faults:
        print(fault)
    print(f"{len(documents(root))} documents, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
