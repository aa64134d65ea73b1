"""Hugging Face folders for the tests: small models of any values, written with nothing but the standard library."""
import json
import os
import random
import struct

WIDTH = {"F32": 4, "F16": 2, "BF16": 2}
NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
HEAD = 8
END_OF_TEXT = 256


def shapes(layers=2, C=16, F=24, H=2, G=1, V=259, tied=True, bias=False):
    """name -> shape, in the order of transformers' state_dict."""
    found = {"model.embed_tokens.weight": [V, C]}
    for layer in range(layers):
        start = f"model.layers.{layer}."
        for name, rows, cols in (("q", H * HEAD, C), ("k", G * HEAD, C), ("v", G * HEAD, C), ("o", C, H * HEAD)):
            found[f"{start}self_attn.{name}_proj.weight"] = [rows, cols]
            if bias:
                found[f"{start}self_attn.{name}_proj.bias"] = [rows]
        for name, rows, cols in (("gate", F, C), ("up", F, C), ("down", C, F)):
            found[f"{start}mlp.{name}_proj.weight"] = [rows, cols]
        found[f"{start}input_layernorm.weight"] = [C]
        found[f"{start}post_attention_layernorm.weight"] = [C]
    found["model.norm.weight"] = [C]
    if not tied:
        found["lm_head.weight"] = [V, C]
    return found


def size_of(shape):
    total = 1
    for size in shape:
        total *= size
    return total


def bits(count, dtype, seed, norm):
    """Random bit patterns, NaN payloads among them, when seed is odd; else values that a model can run on."""
    chance = random.Random(seed)
    if seed % 2 == 1:
        return chance.randbytes(count * WIDTH[dtype])
    values = [chance.gauss(1.0 if norm else 0.0, 0.1 if norm else 0.2) for _ in range(count)]
    floats = struct.pack(f"<{count}f", *values)
    if dtype == "F32":
        return floats
    if dtype == "F16":
        return struct.pack(f"<{count}e", *values)
    return b"".join(floats[i + 2:i + 4] for i in range(0, len(floats), 4))


def tensors(dtype, seed=2, **options):
    """name -> (dtype, shape, bytes). `dtype` may be a function of the name."""
    found = {}
    for number, (name, shape) in enumerate(shapes(**options).items()):
        kind = dtype(name) if callable(dtype) else dtype
        found[name] = (kind, shape, bits(size_of(shape), kind, seed + 2 * number, "norm" in name))
    return found


def file_bytes(found, header=None, metadata=True):
    """A safetensors file; `header` changes what its header says before it is written."""
    said, at = ({"__metadata__": {"format": "pt"}} if metadata else {}), 0
    order = sorted(found, key=lambda name: (-WIDTH[found[name][0]], {"BF16": 0, "F16": 1, "F32": 0}[found[name][0]], name))
    for name in order:
        dtype, shape, data = found[name]
        said[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    if header:
        header(said)
    text = json.dumps(said, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(found[name][2] for name in order)


def read_file(data):
    """name -> (dtype, shape, bytes) of a safetensors file."""
    length, = struct.unpack("<Q", data[:8])
    assert (8 + length) % 8 == 0, "the data are not aligned"
    header, body = json.loads(data[8:8 + length]), data[8 + length:]
    assert header.pop("__metadata__") == {"format": "pt"}
    return {name: (about["dtype"], about["shape"], body[slice(*about["data_offsets"])])
            for name, about in header.items()}


def config(dtype="BF16", layers=2, C=16, F=24, H=2, G=1, V=259, tied=True, bias=False, **more):
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": C, "intermediate_size": F,
            "num_hidden_layers": layers, "num_attention_heads": H, "num_key_value_heads": G, "head_dim": HEAD,
            "vocab_size": V, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
            "tie_word_embeddings": tied, "attention_bias": bias, "hidden_act": "silu", "bos_token_id": None,
            "eos_token_id": END_OF_TEXT, "torch_dtype": NAMES.get(dtype)} | more


def tokenizer():
    """A byte-level BPE of 256 bytes, an end of text and two merges, as text."""
    alphabet, moved = {}, 0
    for byte in range(256):
        plain = 33 <= byte <= 126 or 161 <= byte <= 172 or 174 <= byte <= 255
        alphabet[byte] = chr(byte) if plain else chr(256 + moved)
        moved += not plain
    vocabulary = {alphabet[byte]: byte for byte in range(256)} | {"<|endoftext|>": END_OF_TEXT, "th": 257, "the": 258}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "pre_tokenizer": level,
        "post_processor": None, "decoder": level,
        "added_tokens": [{"id": END_OF_TEXT, "content": "<|endoftext|>", "single_word": False, "lstrip": False,
                          "rstrip": False, "normalized": False, "special": True}],
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": vocabulary,
                  "merges": ["t h", "th e"]}}, ensure_ascii=False, indent=1) + "\n"


def write(folder, name, content):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())


def make(folder, dtype="BF16", seed=2, shards=1, found=None, more=None, **options):
    """A whole folder; returns its tensors."""
    found = found or tensors(dtype, seed, **options)
    names, index = list(found), {}
    part = -(-len(names) // shards)
    for shard in range(shards):
        name = "model.safetensors" if shards == 1 else f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        inside = names[shard * part:(shard + 1) * part]
        write(folder, name, file_bytes({tensor: found[tensor] for tensor in inside}))
        index |= dict.fromkeys(inside, name)
    if shards > 1:
        write(folder, "model.safetensors.index.json", json.dumps({"metadata": {}, "weight_map": index}))
    write(folder, "config.json", json.dumps(config(dtype, **options) | (more or {})))
    write(folder, "tokenizer.json", tokenizer())
    return found
