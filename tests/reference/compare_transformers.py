"""Logits, losses and gradients of imported folders against transformers and PyTorch, over the options of Llama models.

Tiny models at random: every ratio of query to key heads, tied or not, biases or not, each kind of rotary scaling,
sizes that are multiples of nothing. Our step plan is taken as an explicit mask: which samples run through a layer, what
an exit weighs, what attention sees. Called with the path of the program `numerics`.
"""
import copy
import os
import subprocess
import sys
import tempfile
import unittest

import checkpoint
import numpy
from llama import torch, transformers

LOGITS = 2e-4     # largest difference, of the range of the logits
GRADIENTS = 1e-4  # Euclidean distance, of the norm of the parameter's gradient
NOISE = 1e-7      # the same, of the norm of all gradients: some are zero but for rounding (attention to one position)
LOSSES = 1e-5

SCALINGS = ({"rope_type": "default"},
            {"rope_type": "linear", "factor": 2.5},
            {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
             "original_max_position_embeddings": 64},
            {"rope_type": "llama3", "factor": 3.0, "low_freq_factor": 0.7, "high_freq_factor": 1.9,
             "original_max_position_embeddings": 31})
HEADS = ((1, 1), (2, 1), (4, 4), (4, 2), (4, 1), (6, 2), (6, 3), (9, 3), (8, 1), (3, 3))


def make_model(random, number):
    """Model `number` of the grid: options by its digits, sizes at random."""
    query_heads, key_heads = HEADS[number % len(HEADS)]
    head_dim = int(random.choice([2, 4, 6, 8, 10, 16]))
    derived = bool(random.integers(2))
    scaling = SCALINGS[number // 4 % len(SCALINGS)]
    config = transformers.LlamaConfig(
        hidden_size=query_heads * head_dim if derived else int(random.integers(5, 48)),
        intermediate_size=int(random.integers(3, 62)), num_hidden_layers=int(random.integers(2, 6)),
        num_attention_heads=query_heads, num_key_value_heads=key_heads, head_dim=head_dim,
        vocab_size=int(random.choice([67, 101, 127])), max_position_embeddings=128,
        rope_theta=float(random.choice([100.0, 10000.0, 500000.0, 1e6])), rope_scaling=scaling,
        rms_norm_eps=float(random.choice([1e-6, 1e-5])), attention_bias=bool(number & 1),
        tie_word_embeddings=bool(number & 2), attn_implementation="eager")
    torch.manual_seed(number)
    model = transformers.LlamaForCausalLM(config).eval()
    for name, value in model.named_parameters():
        if name.endswith("bias"):
            value.data.normal_(0.0, 0.3)
        elif "norm" in name:
            value.data.normal_(1.0, 0.2)
        else:
            value.data.normal_(0.0, 1.2 / value.shape[1] ** 0.5)
    return model


def make_case(random, model):
    """A batch and a plan. Every other case has documents."""
    layers = model.config.num_hidden_layers
    samples, length = int(random.integers(1, 5)), int(random.integers(1, 41))
    vocabulary, shape = model.config.vocab_size, (samples, length)
    tokens, targets = random.integers(0, vocabulary, shape), random.integers(0, vocabulary, shape)
    targets[random.random(shape) < 0.2] = -1
    targets[0, 0] = 1
    first_key, positions = numpy.zeros(shape, int), numpy.tile(numpy.arange(length), (samples, 1))
    if random.integers(2):
        for b in range(samples):
            for start in sorted(random.integers(0, length, 2)):
                first_key[b, start:] = start
                positions[b, start:] = numpy.arange(length - start)
    weight = random.random(layers) * (random.random(layers) < 0.5)
    if random.random() < 0.8 or not weight.any():
        weight[-1] = 0.2 + random.random()
    return {"tokens": tokens, "targets": targets, "first_key": first_key, "positions": positions,
            "survivors": (random.random((layers, samples)) < 0.7).astype(int),
            "residual_scale": random.choice([1.0, 1.0, 1.25], layers),
            "exit_weight": (weight / weight.sum()).astype(numpy.float32)}


def exit_losses(model, case):
    """The sum of the cross-entropy at every exit, from transformers' own modules."""
    tokens, targets = torch.tensor(case["tokens"]), torch.tensor(case["targets"])
    positions, at = torch.tensor(case["positions"]), torch.arange(tokens.shape[1])
    visible = (at[None, None, :] <= at[None, :, None]) & (at[None, None, :] >= torch.tensor(case["first_key"])[:, :, None])
    mask = torch.zeros(visible.shape).masked_fill(~visible, float("-inf"))[:, None]
    x = model.model.embed_tokens(tokens)
    angles = model.model.rotary_emb(x, positions)
    found = []
    for layer, alive, scale in zip(model.model.layers, case["survivors"], case["residual_scale"]):
        branch = layer.self_attn(hidden_states=layer.input_layernorm(x), attention_mask=mask, position_ids=positions,
                                 position_embeddings=angles)[0]
        middle = x + float(scale) * branch
        after = middle + float(scale) * layer.mlp(layer.post_attention_layernorm(middle))
        x = torch.where(torch.tensor(alive, dtype=torch.bool)[:, None, None], after, x)
        logits = model.lm_head(model.model.norm(x))
        found.append(torch.nn.functional.cross_entropy(logits[targets >= 0], targets[targets >= 0], reduction="sum"))
    return found


def objective_gradients(model, case):
    """(losses, {name: gradient, flat}) of sum_l weight_l loss_l / targets."""
    model.zero_grad(set_to_none=True)
    found = exit_losses(model, case)
    count = (case["targets"] >= 0).sum()
    sum(float(weight) / count * loss for weight, loss in zip(case["exit_weight"], found)).backward()
    return [loss.item() for loss in found], {
        name: numpy.zeros(value.numel()) if value.grad is None else value.grad.numpy().ravel()
        for name, value in model.named_parameters()}


def all_logits(model, case):
    with torch.no_grad():
        return model(torch.tensor(case["tokens"])).logits.float().flatten(0, 1).numpy()


def as_bf16(model):
    """(in bf16, the same weights in fp32). Only parameters are rounded, as when transformers loads a bf16 model."""
    narrow, wide = copy.deepcopy(model), copy.deepcopy(model)
    for small, large in zip(narrow.parameters(), wide.parameters()):
        small.data = small.data.bfloat16()
        large.data = small.data.float()
    return narrow, wide


class Program:
    """`numerics` on a model in a folder of its own."""

    def __init__(self, folder):
        self.folder = folder

    def run(self, model, case, precision="fp32", rows_at_once=64, recompute=0):
        paths = [os.path.join(self.folder, name) for name in ("model", "case.h5", "result.h5")]
        checkpoint.write_model(paths[0], model)
        checkpoint.write_case(paths[1], case, rows_at_once, recompute)
        subprocess.run([sys.argv[1], *paths, precision], check=True)
        return checkpoint.read_result(paths[2])


def gradient_error(got, expected):
    """The worst parameter's distance in units of what is allowed, and its name."""
    whole = numpy.sqrt(sum(float((value.astype(float) ** 2).sum()) for value in expected.values()))
    worst, where = 0.0, ""
    if got.keys() != expected.keys():
        return float("inf"), str(got.keys() ^ expected.keys())
    for name, value in expected.items():
        distance = numpy.linalg.norm(got[name].astype(float) - value)
        ratio = distance / (GRADIENTS * numpy.linalg.norm(value) + NOISE * whole)
        if not ratio <= worst:
            worst, where = ratio, name
    return worst, where


def root_mean_square(x):
    return float(numpy.sqrt(numpy.mean(numpy.square(x, dtype=float))))


class Comparison(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.addCleanup(self.scratch.cleanup)
        self.program = Program(self.scratch.name)

    def test_fp32(self):
        """Logits, losses and every gradient."""
        worst = {"logits": 0.0, "losses": 0.0, "gradients": 0.0}
        for number in range(48):
            random = numpy.random.default_rng(number)
            model = make_model(random, number)
            case = make_case(random, model)
            logits, losses, gradients = self.program.run(
                model, case, rows_at_once=int(random.choice([1, 5, 16, 64])), recompute=number % 2)
            with self.subTest(number=number, config=model.config.to_diff_dict()):
                expected = all_logits(model, case)
                error = numpy.abs(logits - expected).max() / (expected.max() - expected.min())
                self.assertLessEqual(error, LOGITS)
                expected_losses, expected_gradients = objective_gradients(model, case)
                on = case["exit_weight"] > 0
                loss_error = numpy.abs(losses[on] / numpy.array(expected_losses)[on] - 1).max()
                self.assertLessEqual(loss_error, LOSSES)
                gradient, name = gradient_error(gradients, expected_gradients)
                self.assertLessEqual(gradient, 1.0, name)
                for key, value in zip(worst, (error, loss_error, gradient * GRADIENTS)):
                    worst[key] = max(worst[key], float(value))
        print("fp32, worst of 48 models:", {key: f"{value:.1e}" for key, value in worst.items()})

    def test_bf16(self):
        """No farther from an fp32 reference than transformers' own bf16, on the whole and, within a half, each."""
        ours, theirs = [], []
        for number in range(24):
            random = numpy.random.default_rng(100 + number)
            model = make_model(random, number)
            case = make_case(random, model)
            narrow, wide = as_bf16(model)
            reference = all_logits(wide, case)
            size = root_mean_square(reference)
            logits, _, _ = self.program.run(model, case, "bf16", rows_at_once=int(random.choice([1, 16, 64])))
            ours.append(root_mean_square(logits - reference) / size)
            theirs.append(root_mean_square(all_logits(narrow, case) - reference) / size)
            with self.subTest(number=number, config=model.config.to_diff_dict()):
                self.assertLessEqual(ours[-1], 1.5 * theirs[-1])
        print(f"bf16, error of 24 models: {root_mean_square(ours):.4f}, transformers {root_mean_square(theirs):.4f}")
        self.assertLessEqual(root_mean_square(ours), root_mean_square(theirs))

    def test_mistakes_show(self):
        """A plan or a model that differs in one thing is far outside of the tolerances."""
        random = numpy.random.default_rng(7)
        model = make_model(random, 9)
        case = make_case(random, model)
        while case["tokens"].shape[1] < 12 or case["survivors"].all() or not case["first_key"].any():
            case = make_case(random, model)
        _, _, gradients = self.program.run(model, case)
        self.assertLessEqual(gradient_error(gradients, objective_gradients(model, case)[1])[0], 1.0)
        for name, change in (("exit_weight", lambda x: numpy.roll(x, 1)), ("survivors", numpy.ones_like),
                             ("first_key", numpy.zeros_like), ("positions", lambda x: x + numpy.arange(x.shape[1])),
                             ("residual_scale", lambda x: x * 1.01)):
            other = dict(case, **{name: change(case[name])})
            self.assertGreater(gradient_error(gradients, objective_gradients(model, other)[1])[0], 5.0, name)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
