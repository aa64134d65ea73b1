"""Exports as others read them: transformers loads the folder and writes what we write, alone and assisted by an early
exit of its own; the gguf library reads back every tensor and key; llama.cpp continues with the tokens that we choose."""
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest

import numpy as np

from llama import torch, transformers

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))
import folders  # noqa: E402

import gguf  # noqa: E402
import xllamacpp  # noqa: E402

PROGRAM = os.environ["LAYERSKIP"]
PROMPT = "the cat sat on the other mat"
TOKENS = 16
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}
MODELS = {
    "plain": {}, "untied": {"tied": False, "dtype": "F16"}, "bias": {"bias": True, "dtype": "F32"},
    "grouped": {"C": 40, "H": 6, "G": 2, "F": 56, "layers": 3, "dtype": "F32"},
    "llama3": {"more": {"rope_scaling": LLAMA3, "rope_theta": 500000.0}},
    "linear": {"more": {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}},
}


def visible(found):
    """Only tokens that are text of their own get logits, so that texts can be compared: the others' rows are zero."""
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        if name in found:
            dtype, shape, data = found[name]
            row = len(data) // shape[0]
            kept = [data[i * row:(i + 1) * row] if 32 <= i < 127 or i > 256 else bytes(row) for i in range(shape[0])]
            found[name] = (dtype, shape, b"".join(kept))
    return found


class Exports(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="layerskip-huggingface-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name):
        return os.path.join(self.folder, name)

    def call(self, *arguments):
        result = subprocess.run([PROGRAM, *arguments], cwd=self.folder, capture_output=True, text=True, check=False)
        self.assertEqual(0, result.returncode, f"{arguments}: {result.stderr}")
        return result.stdout

    def make(self, name):
        """The model NAME as a checkpoint NAME.h5; returns its tensors."""
        options = dict(MODELS[name])
        more = options.pop("more", None)
        dtype = options.pop("dtype", "BF16")
        found = visible(folders.tensors(dtype, seed=4 + 1000 * list(MODELS).index(name), **options))
        folders.make(self.path(name), dtype=dtype, found=found, more=more, **options)
        self.call("import", name, "--out", name + ".h5")
        return found

    def ours(self, model):
        out = json.loads(self.call("generate", "--model", model, "--prompt", PROMPT, "--max-new-tokens", str(TOKENS),
                                   "--precision", "fp32", "--json"))
        self.assertEqual("length", out["finish_reason"])
        return out["tokens"]

    def theirs(self, folder, **options):
        model = transformers.AutoModelForCausalLM.from_pretrained(self.path(folder), torch_dtype=torch.float32)
        tokenizer = transformers.AutoTokenizer.from_pretrained(self.path(folder))
        self.assertEqual("<|endoftext|>", tokenizer.eos_token)
        inputs = tokenizer(PROMPT, return_tensors="pt")
        with torch.no_grad():
            out = model.generate(input_ids=inputs["input_ids"], attention_mask=torch.ones_like(inputs["input_ids"]),
                                 max_new_tokens=TOKENS, do_sample=False, pad_token_id=256, **options)
        return out[0, inputs["input_ids"].shape[1]:].tolist()

    def test_transformers(self):
        for name in MODELS:
            with self.subTest(name):
                self.make(name)
                self.call("export", name + ".h5", "--out", name + "-out")
                tokens = self.ours(name + "-out")
                self.assertEqual(tokens, self.ours(name + ".h5"))
                self.assertEqual(tokens, self.theirs(name + "-out"))
                self.assertEqual(tokens, self.theirs(name + "-out", assistant_early_exit=1))
                kept = transformers.AutoConfig.from_pretrained(self.path(name + "-out"))
                self.assertEqual(transformers.AutoConfig.from_pretrained(self.path(name)).rope_scaling,
                                 kept.rope_scaling)

    def test_saved_by_transformers(self):
        """What transformers saves in several files is taken, and comes back as it was."""
        self.make("untied")
        self.call("export", "untied.h5", "--out", "first")
        model = transformers.AutoModelForCausalLM.from_pretrained(self.path("first"), torch_dtype=torch.float16)
        model.save_pretrained(self.path("saved"), max_shard_size="8KB")
        transformers.AutoTokenizer.from_pretrained(self.path("first")).save_pretrained(self.path("saved"))
        self.call("import", "saved", "--out", "saved.h5")
        self.call("export", "saved.h5", "--out", "again")
        with open(self.path("saved/tokenizer.json"), "rb") as one, open(self.path("again/tokenizer.json"), "rb") as two:
            self.assertEqual(one.read(), two.read())
        again = transformers.AutoModelForCausalLM.from_pretrained(self.path("again"), torch_dtype="auto")
        self.assertEqual(torch.float16, again.dtype)
        for name, value in model.state_dict().items():
            self.assertTrue(torch.equal(value, again.state_dict()[name]), name)

    def gguf_tensors(self, reader):
        """name -> fp32 values, in Hugging Face's order of rows."""
        found = {}
        for tensor in reader.tensors:
            raw = np.asarray(tensor.data)
            if tensor.tensor_type == gguf.GGMLQuantizationType.BF16:
                values = (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
            else:
                values = raw.astype(np.float32)
            self.assertEqual(0, tensor.data_offset % 32)
            found[tensor.name] = values.reshape([int(size) for size in reversed(tensor.shape)])
        return found

    def test_gguf_holds_everything(self):
        layer = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
                 "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
                 "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
        for name in MODELS:
            found = self.make(name)
            self.call("export", name + ".h5", "--format", "gguf", "--out", name + ".gguf")
            reader = gguf.GGUFReader(self.path(name + ".gguf"))
            tensors = self.gguf_tensors(reader)
            config = json.load(open(self.path(name + "/config.json"), encoding="utf-8"))
            with self.subTest(name):
                self.assertEqual(name == "llama3", "rope_freqs.weight" in tensors)
                self.assertEqual(len(found), len(tensors) - (name == "llama3"))
                for tensor, (dtype, shape, data) in found.items():
                    match = re.fullmatch(r"model\.layers\.(\d+)\.(.*)\.(weight|bias)", tensor)
                    other = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
                             "lm_head.weight": "output.weight"}.get(tensor)
                    if match:
                        short = next(key for key, value in layer.items() if value == match[2])
                        other = f"blk.{match[1]}.{short}.{match[3]}"
                    kind = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}[dtype]
                    wanted = np.frombuffer(data, kind).reshape(shape)
                    if dtype == "BF16":
                        wanted = (wanted.astype(np.uint32) << 16).view(np.float32)
                    values = tensors[other]
                    if "q_proj" in tensor or "k_proj" in tensor:
                        values = values.reshape(-1, folders.HEAD // 2, 2, *shape[1:]).swapaxes(1, 2).reshape(shape)
                    self.assertTrue(np.array_equal(wanted.astype(np.float32), values), tensor)
                keys = {key: field.contents() for key, field in reader.fields.items()}
                for key, value in {
                        "general.architecture": "llama", "llama.block_count": config["num_hidden_layers"],
                        "llama.context_length": 64, "llama.embedding_length": config["hidden_size"],
                        "llama.feed_forward_length": config["intermediate_size"],
                        "llama.attention.head_count": config["num_attention_heads"],
                        "llama.attention.head_count_kv": config["num_key_value_heads"],
                        "llama.attention.key_length": 8, "llama.rope.dimension_count": 8,
                        "llama.rope.freq_base": config["rope_theta"], "llama.vocab_size": 259,
                        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2",
                        "tokenizer.ggml.eos_token_id": 256, "tokenizer.ggml.add_bos_token": False,
                        "tokenizer.ggml.merges": ["t h", "th e"]}.items():
                    self.assertEqual(value, keys[key], key)
                self.assertAlmostEqual(1e-5, keys["llama.attention.layer_norm_rms_epsilon"])
                self.assertEqual(name == "linear", "llama.rope.scaling.type" in keys)
                self.assertEqual("<|endoftext|>", keys["tokenizer.ggml.tokens"][256])
                self.assertEqual([1] * 256 + [3, 1, 1], keys["tokenizer.ggml.token_type"])

    def test_llama_cpp_continues_alike(self):
        for name in MODELS:
            with self.subTest(name):
                self.make(name)
                self.call("export", name + ".h5", "--format", "gguf", "--dtype", "fp32", "--out", name + ".gguf")
                parameters = xllamacpp.CommonParams()
                parameters.model.path = self.path(name + ".gguf")
                parameters.n_ctx = 64
                parameters.n_parallel = 1
                parameters.warmup = False
                parameters.cpuparams.n_threads = 2
                answer = xllamacpp.Server(parameters).handle_completions(
                    {"prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0, "top_k": 1, "logprobs": 1})
                chosen = [token["id"] for token in answer["choices"][0]["logprobs"]["content"]]
                self.assertEqual(self.ours(name + ".h5"), chosen)


if __name__ == "__main__":
    unittest.main()
