"""Writes tied.json, untied.json and options.json beside itself: what test_float64.c compares the program with.

An independent float64 implementation, in NumPy, of a small Llama trained with the LayerSkip recipe: the architecture
of Touvron et al. 2023 and Su et al. 2021, the losses of Elhoushi et al. 2024 (arXiv 2404.16710), AdamW of Loshchilov
and Hutter 2019. Gradients come from the reverse mode below, which knows only ten elementary functions, and are
checked by finite differences on every run. It shares nothing with the C sources but the names of the parameters.

    pip install numpy && python3 tests/reference/make_fixture.py
"""
import json
import os

import numpy as np


# ---- reverse mode -----------------------------------------------------------------------------------------------------

class Var:
    """A value and how its gradient flows to what it was computed from: parents is [(Var, gradient -> gradient)]."""

    def __init__(self, value, parents=()):
        self.value, self.parents, self.gradient = np.asarray(value, dtype=np.float64), parents, None

    def __add__(self, other):
        other = lift(other)
        return Var(self.value + other.value, [(self, lambda g: fold(g, self)), (other, lambda g: fold(g, other))])

    def __mul__(self, other):
        other = lift(other)
        return Var(self.value * other.value, [(self, lambda g: fold(g * other.value, self)),
                                              (other, lambda g: fold(g * self.value, other))])

    def __sub__(self, other):
        return self + lift(other) * -1.0

    def __matmul__(self, other):
        return Var(self.value @ other.value,
                   [(self, lambda g: fold(g @ np.swapaxes(other.value, -1, -2), self)),
                    (other, lambda g: fold(np.swapaxes(self.value, -1, -2) @ g, other))])

    def power(self, exponent):
        return Var(self.value ** exponent, [(self, lambda g: g * exponent * self.value ** (exponent - 1))])

    def exp(self):
        value = np.exp(self.value)
        return Var(value, [(self, lambda g: g * value)])

    def log(self):
        return Var(np.log(self.value), [(self, lambda g: g / self.value)])

    def sum(self, axis=None):
        shape = self.value.shape
        return Var(self.value.sum(axis, keepdims=axis is not None),
                   [(self, lambda g: np.broadcast_to(g, shape))])

    def reshape(self, *shape):
        return Var(self.value.reshape(shape), [(self, lambda g: g.reshape(self.value.shape))])

    def transpose(self, *axes):
        return Var(self.value.transpose(axes), [(self, lambda g: g.transpose(np.argsort(axes)))])

    def take(self, index):
        """self.value[index]; elements taken several times collect several gradients."""
        def back(g):
            out = np.zeros_like(self.value)
            np.add.at(out, index, g)
            return out
        return Var(self.value[index], [(self, back)])

    def backward(self):
        order, seen, stack = [], set(), [(self, False)]
        while stack:
            node, done = stack.pop()
            if done:
                order.append(node)
            elif id(node) not in seen:
                seen.add(id(node))
                stack.append((node, True))
                stack += [(parent, False) for parent, _ in node.parents]
        self.gradient = np.ones_like(self.value)
        for node in reversed(order):
            for parent, flow in node.parents:
                part = flow(node.gradient)
                parent.gradient = part if parent.gradient is None else parent.gradient + part


def lift(x):
    return x if isinstance(x, Var) else Var(x)


def fold(gradient, var):
    """Sums a gradient over the axes along which var was broadcast."""
    shape = var.value.shape
    gradient = gradient.sum(tuple(range(gradient.ndim - len(shape))))
    stretched = tuple(i for i, size in enumerate(shape) if size == 1 and gradient.shape[i] != 1)
    return gradient.sum(stretched, keepdims=True) if stretched else gradient


# ---- the model --------------------------------------------------------------------------------------------------------

def rms_norm(x, weight, epsilon):
    size = x.value.shape[-1]
    return x * ((x * x).sum(-1) * (1.0 / size) + epsilon).power(-0.5) * weight


def frequencies(config):
    """Radians a position of each pair. Llama 3.1 divides those that turn less than low_freq_factor times over the
    original context, keeps those that turn more than high_freq_factor times, and mixes between the two."""
    half = config["head_dim"] // 2
    plain = config["rope_theta"] ** (-np.arange(half) / half)
    scaling = config.get("rope_scaling")
    if scaling is None:
        return plain
    turns = scaling["original_max_position_embeddings"] * plain / (2 * np.pi)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return plain * (kept + (1 - kept) / scaling["factor"])


def rotate(x, positions, frequency):
    """x [n,heads,T,D]: x cos + rotate_half(x) sin, both halves of a head sharing their angles."""
    half = x.value.shape[-1] // 2
    angle = np.concatenate([positions[:, None, :, None] * frequency] * 2, axis=-1)
    swapped = np.concatenate([np.arange(half, 2 * half), np.arange(half)])
    sign = np.concatenate([-np.ones(half), np.ones(half)])
    return x * np.cos(angle) + x.take((..., swapped)) * sign * np.sin(angle)


def attention(x, weights, prefix, config, first_key, positions):
    n, length, _ = x.value.shape
    query_heads, key_heads, size = (config[k] for k in ("num_attention_heads", "num_key_value_heads", "head_dim"))

    def project(y, name):
        y = y @ weights[f"{prefix}.{name}_proj.weight"].transpose(1, 0)
        return y + weights[f"{prefix}.{name}_proj.bias"] if config.get("attention_bias") else y

    def heads(name, count):
        return project(x, name).reshape(n, length, count, size).transpose(0, 2, 1, 3)

    frequency = frequencies(config)
    q = rotate(heads("q", query_heads), positions, frequency)
    k = rotate(heads("k", key_heads), positions, frequency)
    v = heads("v", key_heads)
    shared_by = np.arange(query_heads) // (query_heads // key_heads)
    k, v = k.take((slice(None), shared_by)), v.take((slice(None), shared_by))
    scores = q @ k.transpose(0, 1, 3, 2) * size ** -0.5
    at = np.arange(length)
    visible = (at[None, None, :] <= at[None, :, None]) & (at[None, None, :] >= first_key[:, :, None])
    # Scores are small here, so exp needs no shift.
    e = scores.exp() * visible[:, None].astype(float)
    out = (e * e.sum(-1).power(-1.0)) @ v
    out = out.transpose(0, 2, 1, 3).reshape(n, length, query_heads * size)
    return project(out, "o")


def mlp(x, weights, prefix):
    gate = x @ weights[f"{prefix}.gate_proj.weight"].transpose(1, 0)
    up = x @ weights[f"{prefix}.up_proj.weight"].transpose(1, 0)
    silu = gate * ((gate * -1.0).exp() + 1.0).power(-1.0)
    return (silu * up) @ weights[f"{prefix}.down_proj.weight"].transpose(1, 0)


def exit_loss(x, weights, config, targets):
    """Summed cross-entropy of the shared norm and head on x; targets of -1 count nothing."""
    head = weights["model.embed_tokens.weight" if config["tie_word_embeddings"] else "lm_head.weight"]
    logits = rms_norm(x, weights["model.norm.weight"], config["rms_norm_eps"]) @ head.transpose(1, 0)
    rows, columns = np.nonzero(targets >= 0)
    picked = logits.take((rows, columns, targets[rows, columns]))
    return logits.take((rows, columns)).exp().sum(-1).log().sum() - picked.sum()


def losses(weights, config, step):
    """The loss of every exit, summed over targets: exit l sees the output of block l."""
    x = weights["model.embed_tokens.weight"].take(np.array(step["tokens"]))
    batch, length, hidden = x.value.shape
    first_key, positions = np.array(step["first_key"]), np.array(step["positions"])
    epsilon, found = config["rms_norm_eps"], []
    for layer in range(config["num_hidden_layers"]):
        prefix, alive = f"model.layers.{layer}", step["survivors"][layer]
        if alive:
            a = x.take(np.array(alive))
            scale = float(step["residual_scale"][layer])
            normed = rms_norm(a, weights[f"{prefix}.input_layernorm.weight"], epsilon)
            y = a + attention(normed, weights, f"{prefix}.self_attn", config, first_key[alive],
                              positions[alive]) * scale
            normed = rms_norm(y, weights[f"{prefix}.post_attention_layernorm.weight"], epsilon)
            y = y + mlp(normed, weights, f"{prefix}.mlp") * scale
            change = (y - a).reshape(len(alive), length * hidden)
            x = x + (Var(np.eye(batch)[:, alive]) @ change).reshape(batch, length, hidden)
        found.append(exit_loss(x, weights, config, np.array(step["targets"])))
    return found


def objective(weights, config, step):
    found = losses(weights, config, step)
    total = Var(0.0)
    for loss, weight in zip(found, step["exit_weight"]):
        total = total + loss * (float(weight) / step["target_count"])
    return total, [loss.value.item() for loss in found]


def gradients(values, config, step):
    weights = {name: Var(value) for name, value in values.items()}
    total, found = objective(weights, config, step)
    total.backward()
    return found, {name: np.zeros_like(values[name]) if var.gradient is None else var.gradient
                   for name, var in weights.items()}


def check_gradients(values, config, step, random):
    """One random direction: the derivative by central differences against the gradient's."""
    _, slopes = gradients(values, config, step)
    direction = {name: random.standard_normal(value.shape) for name, value in values.items()}

    def along(h):
        moved = {name: Var(value + h * direction[name]) for name, value in values.items()}
        return objective(moved, config, step)[0].value.item()

    measured = (along(1e-6) - along(-1e-6)) / 2e-6
    computed = sum((slopes[name] * direction[name]).sum() for name in values)
    assert abs(measured - computed) <= 1e-6 * abs(computed), (measured, computed)


# ---- the optimizer ----------------------------------------------------------------------------------------------------

def adamw(values, slopes, moments, update, rate, options):
    """Clips by the global norm (0: never), then one update; returns the norm before clipping."""
    norm = np.sqrt(sum((slope ** 2).sum() for slope in slopes.values()))
    factor = min(1.0, options["clip_norm"] / norm) if options["clip_norm"] else 1.0
    for name, value in values.items():
        m, v = moments[name]
        g = slopes[name] * factor
        m += (1 - options["beta1"]) * (g - m)
        v += (1 - options["beta2"]) * (g * g - v)
        step = (m / (1 - options["beta1"] ** update)) / (np.sqrt(v / (1 - options["beta2"] ** update))
                                                         + options["epsilon"])
        decayed = value.ndim == 2 and (options["decay_embeddings"] or name != "model.embed_tokens.weight")
        value -= rate * (step + (options["weight_decay"] * value if decayed else 0.0))
    return norm


# ---- the fixture ------------------------------------------------------------------------------------------------------

UNIT = 2.0 ** -10  # initial weights are multiples of it: exact in fp32, and short in the file


def initial_weights(config, random):
    hidden, inner, vocabulary = (config[k] for k in ("hidden_size", "intermediate_size", "vocab_size"))
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    shapes = {"model.embed_tokens.weight": (vocabulary, hidden)}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        shapes |= {prefix + "input_layernorm.weight": (hidden,),
                   prefix + "self_attn.q_proj.weight": (queries, hidden),
                   prefix + "self_attn.k_proj.weight": (keys, hidden),
                   prefix + "self_attn.v_proj.weight": (keys, hidden),
                   prefix + "self_attn.o_proj.weight": (hidden, queries),
                   prefix + "post_attention_layernorm.weight": (hidden,),
                   prefix + "mlp.gate_proj.weight": (inner, hidden),
                   prefix + "mlp.up_proj.weight": (inner, hidden),
                   prefix + "mlp.down_proj.weight": (hidden, inner)}
        if config.get("attention_bias"):
            shapes |= {f"{prefix}self_attn.{name}_proj.bias": (size,)
                       for name, size in (("q", queries), ("k", keys), ("v", keys), ("o", hidden))}
    shapes["model.norm.weight"] = (hidden,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (vocabulary, hidden)
    return {name: np.rint((random.standard_normal(shape) * 0.12 + ("norm" in name)) / UNIT) * UNIT
            for name, shape in shapes.items()}


def batch(config, random, samples, length, documents):
    """Sequences with a rule to learn. With documents, attention and positions begin anew at each of them, and positions
    leave gaps that differ between samples: rotation sees only distances, so positions without gaps would not matter."""
    vocabulary = config["vocab_size"]
    stream = np.zeros((samples, length + 1), dtype=int)
    stream[:, 0] = random.integers(vocabulary, size=samples)
    for t in range(length):
        noise = random.integers(vocabulary, size=samples) * (random.random(samples) < 0.2)
        stream[:, t + 1] = (5 * stream[:, t] + 3 + noise) % vocabulary
    targets = stream[:, 1:].copy()
    positions = np.tile(np.arange(length), (samples, 1))
    first_key = np.zeros((samples, length), dtype=int)
    if documents:
        starts = random.random((samples, length)) < 0.2
        starts[:, 0] = False
        targets[:, :-1][starts[:, 1:]] = -1
        for t in range(1, length):
            first_key[:, t] = np.where(starts[:, t], t, first_key[:, t - 1])
            gap = 1 + (random.random(samples) < 0.3)
            positions[:, t] = np.where(starts[:, t], 0, positions[:, t - 1] + gap)
    return {"tokens": stream[:, :-1].tolist(), "targets": targets.tolist(), "first_key": first_key.tolist(),
            "positions": positions.tolist(), "target_count": int((targets >= 0).sum())}


def plans(layers, samples, random):
    """Ordinary, an exit alone, all exits, rotating exits; some, all or no samples dropped; rescaled branches."""
    everyone = list(range(samples))
    last = np.eye(layers)[-1]
    weights = [last, 0.3 * np.eye(layers)[0] + 0.7 * last, np.full(layers, 1.0 / layers)]
    weights += [0.25 * np.eye(layers)[t % (layers - 1)] + 0.75 * last for t in range(5)]
    for t, weight in enumerate(weights):
        rate = 0.0 if t in (0, 2) else 0.4
        survivors = [[b for b in everyone if random.random() >= rate] for _ in range(layers)]
        if t == 3:
            survivors[layers // 2] = []
        if t == 4:
            survivors[layers - 1] = []
        scale = np.full(layers, 1.0) if t < 5 else np.linspace(1.0, 1.5, layers)
        yield {"survivors": survivors, "residual_scale": scale.astype(np.float32).astype(float).tolist(),
               "exit_weight": weight.astype(np.float32).astype(float).tolist()}


def rounded(values):
    return [float(f"{value:.10g}") for value in np.ravel(values)]


def fixture(config, options, samples, length, documents, shown, seed):
    random = np.random.default_rng(seed)
    values = initial_weights(config, random)
    out = {"config": config, "optimizer": options, "unit": UNIT,
           "weights": {name: np.rint(value / UNIT).astype(int).ravel().tolist() for name, value in values.items()},
           "steps": [], "gradients": {}, "final": {}}
    moments = {name: (np.zeros_like(value), np.zeros_like(value)) for name, value in values.items()}
    for t, plan in enumerate(plans(config["num_hidden_layers"], samples, random)):
        step = batch(config, random, samples, length, documents) | plan
        check_gradients(values, config, step, random)
        found, slopes = gradients(values, config, step)
        if t == 1:
            out["gradients"] = {name: rounded(slopes[name]) for name in shown}
        step["learning_rate"] = 0.004 * min(1.0, (t + 1) / 3)
        step["gradient_norm"] = float(adamw(values, slopes, moments, t + 1, step["learning_rate"], options))
        step["exit_loss"] = rounded(found)
        out["steps"].append(step)
    for name, value in values.items():
        ramp = 1.0 + np.arange(value.size) % 7
        out["final"][name] = {"sum": float(value.sum()), "squares": float((value ** 2).sum()),
                              "ramp": float((value.ravel() * ramp).sum())}
    return out


def model_config(**sizes):
    return sizes | {"max_position_embeddings": 32, "rms_norm_eps": 1e-5, "initializer_range": 0.02}


def write(name, content):
    lines = ",\n".join(f" {json.dumps(key)}: " + (
        "[\n  " + ",\n  ".join(json.dumps(item, separators=(",", ":")) for item in part) + "]"
        if isinstance(part, list) else json.dumps(part, separators=(",", ":"))) for key, part in content.items())
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), name), "w", encoding="utf-8") as file:
        file.write("{\n" + lines + "\n}\n")


def main():
    options = {"beta1": 0.9, "beta2": 0.95, "epsilon": 1e-6, "weight_decay": 0.1, "clip_norm": 2.0,
               "decay_embeddings": False}
    tied = model_config(hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
                        num_key_value_heads=2, head_dim=8, vocab_size=61, rope_theta=10000.0, tie_word_embeddings=True)
    write("tied.json", fixture(tied, options, 4, 16, True, [
        "model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight", "model.layers.2.mlp.down_proj.weight",
        "model.layers.3.post_attention_layernorm.weight", "model.norm.weight"], 1))
    untied = model_config(hidden_size=23, intermediate_size=37, num_hidden_layers=3, num_attention_heads=6,
                          num_key_value_heads=2, head_dim=10, vocab_size=41, rope_theta=500.0,
                          tie_word_embeddings=False)
    write("untied.json", fixture(untied, options | {"decay_embeddings": True, "clip_norm": 0.0}, 3, 13, False, [
        "model.layers.1.self_attn.k_proj.weight", "model.layers.1.self_attn.v_proj.weight",
        "model.layers.2.self_attn.o_proj.weight", "model.layers.0.mlp.gate_proj.weight", "lm_head.weight"], 2))
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 48}
    varied = model_config(hidden_size=21, intermediate_size=29, num_hidden_layers=3, num_attention_heads=3,
                          num_key_value_heads=1, head_dim=12, vocab_size=37, rope_theta=1000.0,
                          tie_word_embeddings=True, attention_bias=True, rope_scaling=scaling)
    write("options.json", fixture(varied, options, 3, 17, True, [
        f"model.layers.1.self_attn.{name}_proj.{kind}" for name in "qkvo" for kind in ("weight", "bias")], 3))


if __name__ == "__main__":
    main()
