"""The checkers of tools/ must see a fault when there is one: each is run on a small tree that has it, and on one that has not."""
import os
import subprocess
import sys
import tempfile
import unittest

TOOLS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools")
ROOMS = """crumb_room(base LINKS x)
crumb_room(quant ROOMS base)
crumb_room(nn TORCH ROOMS base quant LINKS y)
"""


def run(tool, *arguments):
    done = subprocess.run([sys.executable, os.path.join(TOOLS, tool), *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


class Tree(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = self.folder.name
        self.write("CMakeLists.txt", ROOMS)
        self.write("src/base/a.h", "#include <vector>\n")
        self.write("src/nn/b.cc", '#include <ATen/ATen.h>\n#include "base/a.h"\n')

    def write(self, path, text):
        full = os.path.join(self.root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as file:
            file.write(text)


class CheckIncludes(Tree):
    def test_accepts_what_the_table_allows(self):
        self.assertEqual(run("check_includes.py", self.root)[0], 0)

    def test_names_each_forbidden_include(self):
        cases = {
            "src/base/up.cc": ('#include "nn/b.h"\n', "no src/nn/b.h"),
            "src/base/torch.cc": ("#include <ATen/ATen.h>\n", "must not know torch"),
            "src/quant/simd.cc": ("#include <immintrin.h>\n", "only files named for an instruction set"),
            "src/stray/x.cc": ("#include <vector>\n", "no room"),
        }
        for path, (text, words) in cases.items():
            self.write(path, text)
            status, out = run("check_includes.py", self.root)
            self.assertEqual(status, 1, path)
            self.assertIn(path, out.replace("src/stray:", "src/stray/x.cc:"))
            self.assertIn(words, out)
            os.remove(os.path.join(self.root, path))
        self.write("src/nn/b.h", "")
        self.write("src/quant/up.cc", '#include "nn/b.h"\n')
        self.assertIn("room quant may know base", run("check_includes.py", self.root)[1])

    def test_refuses_a_room_that_reaches_torch(self):
        self.write("CMakeLists.txt", ROOMS + "crumb_room(eval ROOMS nn)\n")
        self.assertIn("eval", run("check_includes.py", self.root)[1])


class CheckDocs(Tree):
    def test_accepts_paths_that_exist_and_names_those_that_do_not(self):
        self.write("README.md", "see `src/base/a.h`, `build/release/crumb` and [b](src/nn/b.cc)\n")
        self.assertEqual(run("check_docs.py", self.root)[0], 0)
        for text in ("see `src/base/gone.h`\n", "[b](src/nn/gone.cc)\n", "run `./gone.sh`\n"):
            self.write("README.md", text)
            status, out = run("check_docs.py", self.root)
            self.assertEqual(status, 1, text)
            self.assertIn("gone", out)

    def test_holds_the_room_table_to_cmake(self):
        table = "| room | knows |\n| --- | --- |\n| `base` | x |\n| `quant` | x |\n| `nn` | x |\n| `cli` | x |\n"
        self.write("ARCHITECTURE.md", table)
        self.assertEqual(run("check_docs.py", self.root)[0], 0)
        self.write("ARCHITECTURE.md", table.replace("| `nn` | x |\n", ""))
        self.assertIn("lacks `nn`", run("check_docs.py", self.root)[1])


class CountTests(Tree):
    CASES = """<testsuite><testcase name="a" status="run"/><testcase name="b" status="run"/>
<testcase name="c" status="notrun"><skipped message="SKIP_REGULAR_EXPRESSION_MATCHED"/><system-out>x.cc:3: Skipped
golden is not here

[  SKIPPED ] c</system-out></testcase>%s</testsuite>"""

    def test_counts_and_gives_reasons(self):
        self.write("logs/release.xml", self.CASES % "")
        status, out = run("count_tests.py", os.path.join(self.root, "logs"))
        self.assertEqual(status, 0)
        self.assertIn("skipped 1: release: golden is not here", out)
        self.assertEqual(out.splitlines()[-1], "2 passed, 0 failed, 1 skipped")

    def test_says_which_variants_ran_natively_and_which_emulated(self):
        names = ("Isa/Sgemm.X/avx2", "Isa/Rope.X/avx2", "emulated.Isa/Sgemm.X/avx512", "emulated.HasNoAvx512Instruction")
        self.write("logs/release.xml", self.CASES % "".join(f'<testcase name="{name}" status="run"/>' for name in names))
        out = run("count_tests.py", os.path.join(self.root, "logs"))[1]
        self.assertIn("kernels, release: native: avx2 2\n", out)
        self.assertIn("kernels, release: emulated: avx512 1\n", out)

    def test_a_failure_or_nothing_at_all_is_no_success(self):
        self.write("logs/release.xml", self.CASES % '<testcase name="d" status="fail"><failure/></testcase>')
        status, out = run("count_tests.py", os.path.join(self.root, "logs"))
        self.assertEqual(status, 1)
        self.assertIn("failed: release: d", out)
        self.assertEqual(run("count_tests.py", os.path.join(self.root, "empty"))[0], 1)
        not_built = '<testcase name="e" status="notrun"><skipped message="Unable to find executable"/></testcase>'
        self.write("logs/release.xml", self.CASES % not_built)
        self.assertEqual(run("count_tests.py", os.path.join(self.root, "logs"))[1].splitlines()[-1], "2 passed, 1 failed, 1 skipped")


if __name__ == "__main__":
    unittest.main()
