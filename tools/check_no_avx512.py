#!/usr/bin/env python3
"""Holds a program to AVX2: no instruction of it may use a zmm, mask or tile register, or one of the registers 16 to 31.

    check_no_avx512.py PROGRAM

Exit status 77 (skipped) where there is no objdump.
"""
import re
import shutil
import subprocess
import sys

WIDE = re.compile(r"%(zmm\d+|k[0-7]|tmm\d|[xy]mm(1[6-9]|2\d|3[01]))\b")


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: check_no_avx512.py PROGRAM")
    if shutil.which("objdump") is None:
        print("Skipped\nobjdump (binutils) is not here\n[  SKIPPED ]")  # as count_tests.py reads a reason
        return 77
    text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", sys.argv[1]], capture_output=True, text=True, check=True).stdout
    function, faults, instructions = "?", [], 0
    for line in text.splitlines():
        if line.endswith(">:"):
            function = line[line.index("<") + 1:-2]
        elif ":\t" in line:
            instructions += 1
            if WIDE.search(line):
                faults.append(f"{function}: {line.strip()}")
    for fault in faults[:20]:
        print(fault)
    print(f"{instructions} instructions, {len(faults)} of AVX-512 or AMX")
    return 1 if faults or instructions == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
