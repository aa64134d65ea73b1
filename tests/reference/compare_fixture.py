"""The float64 reference of make_fixture.py against transformers and PyTorch: losses and gradients of every step of all
fixtures, from the initial weights. PyTorch computes in fp32, so they agree to its rounding.
"""
import json
import os
import sys
import unittest

import compare_transformers
import make_fixture
import numpy
from llama import torch, transformers

GRADIENTS = 2e-5
LOSSES = 2e-6


def read(name):
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), name), encoding="utf-8") as file:
        return json.load(file)


def make_model(fixture):
    config = {name: value for name, value in fixture["config"].items()}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(attn_implementation="eager", **config)).eval()
    values = {}
    for name, value in model.named_parameters():
        values[name] = numpy.array(fixture["weights"][name]).reshape(value.shape) * fixture["unit"]
        value.data = torch.tensor(values[name], dtype=torch.float32)
    return model, values


def as_case(step, layers):
    """Survivors are lists there and a mask here."""
    samples = len(step["tokens"])
    case = {name: numpy.array(step[name]) for name in ("tokens", "targets", "first_key", "positions", "exit_weight",
                                                       "residual_scale")}
    case["survivors"] = numpy.array([[b in step["survivors"][l] for b in range(samples)] for l in range(layers)])
    return case


class Fixture(unittest.TestCase):
    def test_losses_and_gradients(self):
        for name in ("tied.json", "untied.json", "options.json"):
            fixture = read(name)
            model, values = make_model(fixture)
            self.assertEqual(values.keys(), fixture["weights"].keys())
            worst = 0.0
            for number, step in enumerate(fixture["steps"]):
                found, slopes = make_fixture.gradients(values, fixture["config"], step)
                case = as_case(step, len(found))
                losses, gradients = compare_transformers.objective_gradients(model, case)
                with self.subTest(fixture=name, step=number):
                    numpy.testing.assert_allclose(losses, found, rtol=LOSSES)
                    flat = {key: value.ravel() for key, value in slopes.items()}
                    error, where = compare_transformers.gradient_error(gradients, flat)
                    error *= compare_transformers.GRADIENTS
                    self.assertLessEqual(error, GRADIENTS, where)
                    worst = max(worst, error)
            print(f"{name}: worst gradient off by {worst:.1e} over {len(fixture['steps'])} steps")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
