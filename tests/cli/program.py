"""Drives the layerskip program for the tests of its command line: a work folder with a token file, a config and a
small trained model, and the checks that every test shares. The program's path comes in LAYERSKIP."""
import hashlib
import json
import os
import resource
import signal
import subprocess
import tempfile
import unittest

PROGRAM = os.environ["LAYERSKIP"]
SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOKENIZER = os.path.join(SOURCE, "data/tokenizers/python-4096/tokenizer.json")
LAYERS = 4
CONTEXT = 32

CONFIG = f"""\
model:
  hidden_size: 32
  intermediate_size: 48
  num_hidden_layers: {LAYERS}
  num_attention_heads: 4
  num_key_value_heads: 2
  tie_word_embeddings: true
data:
  tokens: tokens.h5
  sequence_length: {CONTEXT}
training:
  steps: 12
  micro_batch_size: 4
checkpoint:
  every: 4
evaluation:
  every: 0
run_dir: run
threads: 2
"""


def environment():
    """Nothing of the caller's: the program may depend on neither HOME nor the language."""
    kept = ("PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS")
    # Threads that wait do not spin: several tests share the cores.
    return {name: os.environ[name] for name in kept if name in os.environ} | {"OMP_WAIT_POLICY": "passive"}


def limited(bytes_a_file):
    """For preexec_fn: writing past this many bytes of a file fails, as on a full disk."""
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_a_file, bytes_a_file))
    return limit


def snapshot(folder):
    """What lies in a folder: path -> hash of the content."""
    found = {}
    for here, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(here, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, folder)] = hashlib.sha256(file.read()).hexdigest()
    return found


class ProgramTest(unittest.TestCase):
    """A folder a test, with config.yaml and text.txt in it."""
    maxDiff = None

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="layerskip-cli-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.write("config.yaml", CONFIG)
        words = ["".join(chr(97 + (i * i * j) % 26) for j in range(1, 6)) for i in range(1, 40)]
        self.write("text.txt", "\n".join(" ".join(words[(i * k) % 39] for k in range(9)) for i in range(1, 120)))

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, content):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def start(self, *arguments, **options):
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        return subprocess.Popen([PROGRAM, *map(str, arguments)], cwd=self.folder, env=environment(), **streams)

    def call(self, *arguments, **options):
        process = self.start(*arguments, **options)
        out, err = process.communicate(timeout=600)
        return process.returncode, out.decode(), err.decode()

    def good(self, *arguments):
        """Must succeed; returns standard output."""
        status, out, err = self.call(*arguments)
        self.assertEqual(0, status, f"{arguments}: {err}")
        return out

    def document(self, *arguments):
        """Must print one JSON document and nothing else on standard output; returns it."""
        return json.loads(self.good(*arguments), parse_constant=lambda name: self.fail(f"{name} is not JSON"))

    def bad(self, *arguments, says=(), before=(), **options):
        """Must refuse: status 2, one sentence on standard error (after lines that contain a word of `before`), which
        contains all of `says`; nothing on standard output, nothing written, nothing lost. Returns the sentence."""
        present = snapshot(self.folder)
        status, out, err = self.call(*arguments, **options)
        lines = [line for line in err.splitlines() if not any(word in line for word in before)]
        self.assertEqual((2, 1, ""), (status, len(lines), out), f"{arguments}: {err}")
        self.assertRegex(lines[0], r"^layerskip: \S.*[^\s.]$")
        self.assertNotIn("internal error", lines[0])
        for part in [says] if isinstance(says, str) else says:
            self.assertIn(part, lines[0])
        self.assertEqual(present, snapshot(self.folder), f"{arguments}: files changed")
        return lines[0]

    def prepare(self):
        self.good("prepare", "--tokenizer", "bytes", "--validation", "0.2", "--out", "tokens.h5", "text.txt")

    def train(self, *overrides):
        self.good("train", "config.yaml", *overrides)

    def metrics(self, folder="run"):
        """The lines of metrics.jsonl, without what depends on the clock."""
        lines = [json.loads(line) for line in self.read(os.path.join(folder, "metrics.jsonl")).splitlines()]
        for line in lines:
            self.assertIn("step", line)
        return lines

    def checkpoints(self, folder="run"):
        inside = self.path(os.path.join(folder, "checkpoints"))
        return sorted(name for name in os.listdir(inside) if name.endswith(".h5")) if os.path.isdir(inside) else []
