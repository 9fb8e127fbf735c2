#!/usr/bin/env python3
"""Holds every #include under src/ to the room table of CMakeLists.txt.

    check_includes.py ROOT

A room may include its own headers, those of the rooms in its crumb_room(... ROOMS ...) line, and the rooms that these may know. Only a room
marked TORCH may include torch. src/cli is the program: it knows every room, but torch itself only through src/cli/train and pipeline.
Also checked: an include names a file that exists, headers are included by full path, and only variant files include intrinsics.
"""
import os
import re
import sys

TORCH = re.compile(r"^(ATen|c10|torch|caffe2)/")
INTRINSICS = re.compile(r"(immintrin|x86intrin|emmintrin|avxintrin)\.h$")
VARIANT = re.compile(r"_(avx2|avx512|amx|sse2|neon)\.(cc|h)$")


def room_table(root):
    """{room: (set of rooms it may know, torch?)} from the crumb_room lines."""
    with open(os.path.join(root, "CMakeLists.txt"), encoding="utf-8") as file:
        text = re.sub(r"#[^\n]*", "", file.read())
    direct, torch = {}, {}
    for body in re.findall(r"crumb_room\(([^)]*)\)", text):
        words = body.split()
        direct[words[0]] = set()
        torch[words[0]] = "TORCH" in words
        if "ROOMS" in words:
            for word in words[words.index("ROOMS") + 1:]:
                if word == "LINKS":
                    break
                direct[words[0]].add(word)
    return {room: (rooms, torch[room]) for room, rooms in direct.items()}


def check(root):
    table = room_table(root)
    faults, checked = [], 0
    if not table:
        return ["CMakeLists.txt: no crumb_room lines found"], 0
    for room, (known, torch) in table.items():
        for other in known:
            if other not in table:
                faults.append(f"CMakeLists.txt: room {room} lists '{other}', which is no room")
            elif table[other][1] and not torch:
                faults.append(f"CMakeLists.txt: room {room} has no torch but lists {other}, which has")
    source = os.path.join(root, "src")
    for folder, _, files in sorted(os.walk(source)):
        for name in sorted(files):
            if not name.endswith((".cc", ".h", ".cu")):
                continue
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, source)
            room = relative.split(os.sep)[0]
            if room not in table and room != "cli":
                faults.append(f"src/{relative}: folder src/{room} is no room of CMakeLists.txt")
                continue
            known, torch = table.get(room, (set(table), False))
            with open(path, encoding="utf-8") as file:
                lines = file.read().splitlines()
            for number, line in enumerate(lines, 1):
                found = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
                if not found:
                    continue
                checked += 1
                kind, target = found.groups()
                where = f"src/{relative}:{number}"
                if TORCH.match(target) and not torch:
                    faults.append(f"{where}: includes <{target}>; room {room} must not know torch")
                if INTRINSICS.search(target) and not VARIANT.search(name):
                    faults.append(f"{where}: includes <{target}>; only files named for an instruction set (_avx2, ...) may")
                if kind != '"':
                    continue
                if not os.path.exists(os.path.join(source, target)):
                    faults.append(f'{where}: includes "{target}"; there is no src/{target} (headers are named by their full path)')
                    continue
                other = target.split("/")[0]
                if other != room and other not in known:
                    allowed = ", ".join(sorted(known)) or "none"
                    faults.append(f'{where}: includes "{target}"; room {room} may know {allowed}')
    return faults, checked


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else "."
    faults, checked = check(root)
    for fault in faults:
        print(fault)
    print(f"{checked} includes, {len(faults)} forbidden")
    return 1 if faults or checked == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
