#!/usr/bin/env python3
"""Counts ctest's JUnit files: which instruction sets the kernels' tests ran on, natively or emulated, why tests were skipped, which
failed, and `N passed, N failed, N skipped` as the last line.

    count_tests.py FOLDER

Exit status 1 when a test failed or there was none to count.
"""
import collections
import glob
import os
import re
import sys
import xml.etree.ElementTree as ElementTree


# Isa/Sgemm.MatchesF64/avx512, emulated.Isa/Lowbit.HasTheBits/amx
KERNEL_CASE = re.compile(r"^(emulated\.)?Isa/.*/(ref|avx2|avx512\w*|amx)$")


def skip_reason(case):
    """GoogleTest prints the reason between the test's file and its [  SKIPPED ] line; ctest keeps the output."""
    output = case.findtext("system-out") or ""
    found = re.search(r"Skipped\n(.*?)\n\s*(?:Stack trace:.*?)?\[  SKIPPED \]", output, flags=re.S)
    text = found.group(1) if found else (case.find("skipped").get("message") if case.find("skipped") is not None else "") or "no reason given"
    return " ".join(text.split())


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: count_tests.py FOLDER")
    passed, failed, reasons, sets = 0, [], collections.Counter(), collections.Counter()
    for path in sorted(glob.glob(os.path.join(sys.argv[1], "*.xml"))):
        preset = os.path.splitext(os.path.basename(path))[0]
        for case in ElementTree.parse(path).getroot().iter("testcase"):
            skipped = case.find("skipped")
            said = skipped.get("message", "") if skipped is not None else ""
            if case.get("status") == "disabled" or said.startswith("SKIP_"):
                reasons[f"{preset}: {skip_reason(case)}"] += 1
            elif case.get("status") != "run" or case.find("failure") is not None:
                # "notrun" for any other reason is a fault too: a program that was not built, for one.
                failed.append(f"{preset}: {case.get('name')}" + (f" ({said})" if said else ""))
            else:
                passed += 1
                kernel = KERNEL_CASE.match(case.get("name"))
                if kernel:
                    sets[f"{preset}: {'emulated' if kernel.group(1) else 'native'}", kernel.group(2)] += 1
    for how in sorted({how for how, _ in sets}):
        print(f"kernels, {how}: " + ", ".join(f"{name} {count}" for (h, name), count in sorted(sets.items()) if h == how))
    for reason, count in sorted(reasons.items()):
        print(f"skipped {count}: {reason}")
    for name in failed:
        print(f"failed: {name}")
    if passed + len(failed) == 0:
        print("no test was run")
    print(f"{passed} passed, {len(failed)} failed, {sum(reasons.values())} skipped")
    return 1 if failed or passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
