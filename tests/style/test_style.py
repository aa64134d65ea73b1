"""Plants a violation of every rule of style.py in an empty tree and expects it to be found, and clean text to pass."""
import json
import os
import shutil
import subprocess
import tempfile
import textwrap
import unittest

import style

CLEAN = "/* A source that breaks no rule. */\n"


class Planted(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = folder.name
        for name in (".clang-format", ".clang-tidy"):
            shutil.copy(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..", name), self.root)

    def plant(self, path, text, mode=0o644):
        full = os.path.join(self.root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(full, mode)

    def expect(self, check, count, containing="", *extra):
        complaints = style.CHECKS[check](self.root, *extra)
        self.assertEqual(count, len(complaints), complaints)
        for complaint in complaints:
            self.assertIn(containing, complaint)

    def test_includes(self):
        self.plant("train/a.c", '#include "core/status.h"\n#include "eval/decoder.h"\n#include <stdio.h>\n')
        self.plant("tests/core/a.c", '#include "train/recipe.h"\n')
        self.expect("includes", 0)
        self.plant("kernels/up.c", '#include "model/model.h"\n')
        self.expect("includes", 1, "kernels/up.c:1")
        self.plant("data/sideways.h", '\n#  include "model/model.h"\n')
        self.expect("includes", 2)
        self.plant("optim/sideways.c", '#include "eval/decoder.h"\n')
        self.expect("includes", 3)
        self.plant("core/near.h", CLEAN)
        self.plant("core/near.c", '#include "near.h"\n')
        self.expect("includes", 4)

    def test_format(self):
        self.plant("core/a.c", "int x;\n")
        self.expect("format", 0)
        self.plant("core/b.c", "int  x ;\n")
        self.expect("format", 1, "core/b.c")

    def test_tidy(self):
        source = os.path.join(self.root, "core/a.c")
        command = {"directory": self.root, "arguments": ["cc", "-Wall", "-Wextra", "-c", source], "file": source}
        self.plant("build/compile_commands.json", json.dumps([command]))
        build = os.path.join(self.root, "build")
        self.plant("core/a.c", "int sum(int a, int b);\nint sum(int a, int b) { return a + b; }\n")
        self.expect("tidy", 0, "", build)
        self.plant("core/a.c", "int sum(int a);\nint sum(int a)\n{\n    const int b = 0;\n    return a / b;\n}\n")
        self.expect("tidy", 1, "division by zero", build)
        self.plant("core/a.c", "int sum(int a);\nint sum(int a)\n{\n    if (a);\n        a++;\n    return a;\n}\n")
        self.assertTrue(style.check_tidy(self.root, build))
        self.plant("core/a.c", "int ignore(int a);\nint ignore(int a) { return 0; }\n")
        self.expect("tidy", 1, "unused-parameter", build)

    def test_words(self):
        self.plant("README.md", "The work/ folder, ~/home/x and ${HOME}/home/x are fine, arXiv at https://arxiv.org/ too.\n")
        self.expect("words", 0)
        planted = {"mark": "/* TO" "DO: later */", "mark of": "XX" "X", "path": "see /ho" "me/me/file",
                   "a path": "(/wo" "rk/main)", "host": "http" "s://example.com/x", "blanks": "x ", "tab": "a\tb"}
        for expected, text in planted.items():
            self.plant("core/a.c", text + "\n")
            self.expect("words", 1, expected)

    def test_scripts(self):
        self.plant("scripts/run", "#!/usr/bin/env bash\nset -euo pipefail\necho fine\n", 0o755)
        self.expect("scripts", 0)
        self.plant("scripts/run", "#!/usr/bin/env bash\nset -euo pipefail\necho fine\n", 0o644)
        self.expect("scripts", 1, "not executable")
        self.plant("scripts/run", "#!/usr/bin/env bash\necho fine\n", 0o755)
        self.expect("scripts", 1, "pipefail")
        self.plant("scripts/run", "#!/usr/bin/env bash\nset -euo pipefail\nif true; then\n", 0o755)
        self.assertTrue(style.check_scripts(self.root))

    def test_heads(self):
        head = "#ifndef LS_CORE_A_H\n#define LS_CORE_A_H\n#endif\n"
        self.plant("core/a.h", CLEAN + head)
        self.plant("core/a.c", "int x;\n")
        self.plant("tests/core/test_a.c", "int x;\n")
        self.plant("main.c", CLEAN)
        self.plant("tests/a.py", '#!/usr/bin/env python3\n"""Says what it is."""\n')
        self.expect("heads", 0)
        self.plant("core/b.c", "int x;\n")
        self.expect("heads", 1, "core/b.c")
        self.plant("core/b.c", "/*\n" + " * too long a head\n" * 11 + " */\n")
        self.expect("heads", 1, "longer")
        self.plant("core/b.c", CLEAN)
        self.plant("core/a.h", CLEAN + head.replace("CORE_A", "CORE_B"))
        self.expect("heads", 1, "LS_CORE_A_H")
        self.plant("core/a.h", CLEAN + head)
        self.plant("tests/a.py", "import os\n")
        self.expect("heads", 1, "tests/a.py")

    def test_keys(self):
        known = ["training.steps", "model.hidden_size"]
        self.plant("README.md", "`training.steps` and training.steps=3, not `layerskip.py` or training.h\n")
        self.expect("keys", 0, "", known)
        self.plant("docs/a.md", "set training.stepz=3\n")
        self.expect("keys", 1, "docs/a.md:1: training.stepz", known)

    def test_generated_folders_are_left_out(self):
        self.plant("build/core/b.c", "int  x ;\n")
        self.expect("format", 0)

    def test_command_fails_on_complaints(self):
        self.plant("core/b.c", "int x;\n")
        command = ["python3", style.__file__, "heads", "--root", self.root]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual((1, textwrap.dedent("heads: 1 complaints")),
                         (result.returncode, result.stdout.splitlines()[-1]))


if __name__ == "__main__":
    unittest.main()
