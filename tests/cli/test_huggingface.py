"""Hugging Face folders in and out: what comes back is what went in, whatever is wrong with a folder is one sentence,
and models larger than memory pass through."""
import glob
import json
import os
import signal
import struct
import unittest

import folders
from program import ProgramTest, limited

PROGRESS = ("import:", "export:")


class Folders(ProgramTest):
    def exported(self, folder):
        """All tensors of a folder of ours."""
        found = {}
        for path in glob.glob(self.path(os.path.join(folder, "*.safetensors"))):
            with open(path, "rb") as file:
                part = folders.read_file(file.read())
            self.assertFalse(found.keys() & part.keys())
            found |= part
        return found

    def make(self, name, **options):
        return folders.make(self.path(name), **options)


class RoundTrip(Folders):
    def test_every_bit_comes_back(self):
        mixed = lambda name: "F32" if "norm" in name else "F16" if "mlp" in name else "BF16"  # noqa: E731
        cases = {"f32": {"dtype": "F32"}, "f16": {"dtype": "F16", "tied": False}, "bf16": {"dtype": "BF16"},
                 "bias": {"dtype": "BF16", "bias": True, "tied": False}, "mixed": {"dtype": mixed},
                 "sharded": {"dtype": "BF16", "shards": 3}}
        for name, options in cases.items():
            with self.subTest(name):
                found = self.make(name, seed=1, **options)
                self.good("import", name, "--out", name + ".h5")
                self.good("export", name + ".h5", "--out", name + "-out")
                self.assertEqual(found, self.exported(name + "-out"))
                self.assertEqual(self.read(name + "/tokenizer.json"), self.read(name + "-out/tokenizer.json"))
                if options.get("shards", 1) == 1:
                    self.assertEqual(self.read(name + "/model.safetensors"), self.read(name + "-out/model.safetensors"))
                self.good("export", name, "--out", name + "-direct", "--max-shard-size", "4KB")
                self.assertEqual(found, self.exported(name + "-direct"))
                index = json.loads(self.read(name + "-direct/model.safetensors.index.json"))
                self.assertEqual(found.keys(), index["weight_map"].keys())
                self.assertEqual(sum(len(data) for _, _, data in found.values()), index["metadata"]["total_size"])

    def test_config_comes_back(self):
        scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                   "original_max_position_embeddings": 32}
        older = {key.replace("rope_type", "type"): value for key, value in scaling.items()}
        spellings = {"plain": ({}, None), "llama3": ({"rope_scaling": scaling}, scaling),
                     "type": ({"rope_scaling": older}, scaling),
                     "parameters": ({"rope_theta": None, "rope_parameters": {"rope_theta": 5e5, **scaling}}, scaling),
                     "default": ({"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}, None),
                     "linear": ({"rope_scaling": {"type": "linear", "factor": 2.0}},
                                {"rope_type": "linear", "factor": 2.0}),
                     "mistral": ({"architectures": ["MistralForCausalLM"], "model_type": "mistral",
                                  "sliding_window": None}, None),
                     "window": ({"model_type": "mistral", "architectures": ["MistralForCausalLM"],
                                 "sliding_window": 64}, None),
                     "ids": ({"eos_token_id": [256, 257], "bos_token_id": 7, "pretraining_tp": 2}, None)}
        for name, (more, expected) in spellings.items():
            with self.subTest(name):
                self.make(name, more=more)
                self.good("import", name, "--out", name + ".h5")
                self.good("export", name + ".h5", "--out", name + "-out")
                wanted = folders.config() | more
                found = json.loads(self.read(name + "-out/config.json"))
                self.assertEqual(expected, found["rope_scaling"])
                if "rope_parameters" in more:
                    self.assertEqual(5e5, found["rope_theta"])
                for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "head_dim",
                            "num_key_value_heads", "vocab_size", "max_position_embeddings", "rms_norm_eps",
                            "tie_word_embeddings", "attention_bias", "hidden_act", "bos_token_id", "eos_token_id",
                            "torch_dtype"):
                    self.assertEqual(wanted[key], found[key], key)
                self.assertEqual(["LlamaForCausalLM"], found["architectures"])

    def test_small_files_come_back(self):
        self.make("in")
        kept = {"generation_config.json": '{"temperature": 0.6}', "tokenizer_config.json": '{"chat_template": "{{x}}"}',
                "special_tokens_map.json": "{}", "chat_template.jinja": "{{ messages }}"}
        for name, text in kept.items():
            folders.write(self.path("in"), name, text)
        self.good("import", "in", "--out", "model.h5")
        self.good("export", "model.h5", "--out", "out")
        for name, text in kept.items():
            self.assertEqual(text, self.read("out/" + name).decode())

    def test_types_are_converted(self):
        found = self.make("in", dtype="F32")
        for dtype, name in (("F16", "fp16"), ("BF16", "bf16")):
            self.good("export", "in", "--out", name, "--dtype", name)
            self.assertEqual(folders.NAMES[dtype], json.loads(self.read(name + "/config.json"))["torch_dtype"])
            for tensor, (kind, shape, data) in self.exported(name).items():
                self.assertEqual((dtype, found[tensor][1]), (kind, shape))
                exact = struct.unpack(f"<{len(data) // 2}f", found[tensor][2])
                if dtype == "F16":
                    self.assertEqual(struct.pack(f"<{len(exact)}e", *exact), data)
                for value, half in zip(exact, struct.unpack(f"<{len(exact)}H", data)):
                    if dtype == "BF16":
                        self.assertLessEqual(abs(struct.unpack("<f", struct.pack("<I", half << 16))[0] - value),
                                             abs(value) / 256)
        self.good("export", "bf16", "--out", "wide", "--dtype", "fp32")
        self.good("export", "wide", "--out", "narrow", "--dtype", "bf16")
        self.assertEqual(self.exported("bf16"), self.exported("narrow"))


class Use(Folders):
    def text(self, model):
        document = self.document("generate", "--model", model, "--prompt", "the cat", "--max-new-tokens", 12,
                                 "--precision", "fp32", "--json")
        return document["tokens"]

    def test_all_forms_run_alike(self):
        self.make("folder", dtype="BF16")
        self.good("import", "folder", "--out", "model.h5")
        self.good("export", "model.h5", "--out", "again")
        tokens = self.text("folder")
        self.assertEqual(12, len(tokens))
        folder, model = self.document("inspect", "folder", "--json"), self.document("inspect", "model.h5", "--json")
        self.assertEqual(("huggingface", "checkpoint"), (folder.pop("kind"), model.pop("kind")))
        self.assertEqual(model, folder)
        self.assertEqual(tokens, self.text("model.h5"))
        self.assertEqual(tokens, self.text("again"))

    def test_continual_training(self):
        """prepare with the folder's tokenizer, train from the folder, export the run, run the export."""
        self.make("folder", dtype="F16", tied=True)
        self.good("prepare", "--tokenizer", "folder", "--out", "tokens.h5", "text.txt")
        model = ["model.hidden_size=16", "model.intermediate_size=24", "model.num_hidden_layers=2",
                 "model.num_attention_heads=2", "model.num_key_value_heads=1", "model.head_dim=8",
                 "model.rms_norm_eps=1e-5", "model.vocab_size=259", "init_from=folder", "training.steps=1"]
        status, _, err = self.call("train", "config.yaml", *model, "optimizer.learning_rate=0", "run_dir=still")
        self.assertEqual(0, status, err)
        self.assertNotIn("warning", err)
        self.good("export", "still", "--out", "still-out", "--dtype", "fp16")
        self.assertEqual(folders.tensors("F16"), self.exported("still-out"))
        _, _, err = self.call("train", "config.yaml", *model, "model.rope_theta=20000", "run_dir=moved")
        self.assertIn("model.rope_theta is 20000", err)
        self.assertEqual("<|endoftext|>", json.loads(self.read("still-out/tokenizer_config.json"))["eos_token"])
        self.assertEqual(256, json.loads(self.read("still-out/config.json"))["eos_token_id"])
        self.text("still-out")
        self.bad("train", "config.yaml", *model, "model.intermediate_size=32", "run_dir=other",
                 says=("intermediate_size", "folder"))

    def test_byte_tokenizer(self):
        """A run with the byte tokenizer leaves with a tokenizer.json that means the same."""
        self.prepare()
        self.train("training.steps=1")
        self.good("export", "run", "--out", "out")
        self.assertEqual(self.text("run"), self.text("out"))
        self.good("prepare", "--tokenizer", "out", "--out", "again.h5", "text.txt")
        self.assertEqual(self.exported("out").keys(), folders.shapes(layers=4).keys())


class BadFolders(Folders):
    def refused(self, *says, folder="bad"):
        self.bad("import", folder, "--out", "model.h5", says=says, before=PROGRESS)
        self.bad("generate", "--model", folder, "--prompt", "x", says=says)

    def test_weights(self):
        found = folders.tensors("BF16")
        one, two = "model.layers.0.mlp.down_proj.weight", "model.layers.0.mlp.gate_proj.weight"

        def said(**changes):
            return lambda header: header[one].update(changes)

        def drop(header):
            del header[one]

        def rename(header):
            header["model.layers.0.mlp.extra.weight"] = header.pop(one)

        def shift(header):
            begin, end = header[two]["data_offsets"]
            header[two]["data_offsets"] = [begin - 2, end - 2]

        cases = [(said(dtype="F24"), one, "unknown dtype", "F24"), (said(dtype="I16"), one, "I16"),
                 (said(dtype=7), one, "no dtype"), (said(shape=[16, 25]), one, "bytes"),
                 (said(shape=[384]), one, "[384]", "[16, 24]"), (said(shape=[24, 16]), one, "[24, 16]", "[16, 24]"),
                 (said(shape=[1 << 32, 1 << 32, 1 << 32]), one, "2^64"), (said(shape=[1 << 31, 1 << 31, 3]), one),
                 (said(shape=[-1, 24]), one, "size"), (said(shape=[1.5, 24]), one), (said(shape=3), one, "no shape"),
                 (said(data_offsets=[768, 0]), one, "backwards"), (said(data_offsets=[0]), one, "data_offsets"),
                 (said(data_offsets=[0, 1 << 50]), one, "cut short"), (drop, "belong to no tensor"),
                 (rename, one, "lacks"), (shift, "overlap"),
                 (lambda header: header.update(more={"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}), "more"),
                 (lambda header: header.update({one: 3}), one, "no object")]
        for number, (header, *says) in enumerate(cases):
            with self.subTest(number):
                self.make("bad", found=found)
                folders.write(self.path("bad"), "model.safetensors", folders.file_bytes(found, header))
                self.refused(*says)

    def test_files(self):
        found = folders.tensors("BF16")
        whole = folders.file_bytes(found)
        length, = struct.unpack("<Q", whole[:8])
        text = whole[8:8 + length]
        cases = {b"": "bytes", whole[:5]: "bytes", whole[:100]: "cut short", whole[:-1]: "cut short",
                 whole + b"\0": "belong to no tensor", struct.pack("<Q", 1 << 62) + whole[8:]: "header",
                 struct.pack("<Q", len(whole)) + whole[8:]: "header", struct.pack("<Q", 0) + whole[8:]: "brace",
                 struct.pack("<Q", length - 30) + whole[8:]: ":1:",
                 whole[:8] + b"[" + whole[9:]: "brace", whole.replace(b'"dtype"', b'"dt\xffpe"', 1): "UTF-8",
                 whole[:8] + text.replace(b'"shape":', b'"shape";', 1) + whole[8 + length:]: ":1:",
                 whole.replace(b"model.layers.0.mlp.up_proj", b"model.layers.1.mlp.up_proj", 1): "twice",
                 whole.replace(b"model.layers.0.mlp.up_proj", b"model.layers.0.mlp.op_proj", 1): "lacks"}
        for data, says in cases.items():
            with self.subTest(says):
                self.make("bad", found=found)
                folders.write(self.path("bad"), "model.safetensors", data)
                self.refused("model.safetensors" if says != "lacks" else "bad", says)
        os.remove(self.path("bad/model.safetensors"))
        self.refused("bad", "model.safetensors")
        folders.write(self.path("bad"), "pytorch_model.bin", b"x")
        self.refused("pytorch_model.bin")

    def test_extra_tensors(self):
        found = folders.tensors("BF16", tied=True)
        harmless = {"model.layers.0.self_attn.rotary_emb.inv_freq": ("F32", [4], bytes(16)),
                    "lm_head.weight": found["model.embed_tokens.weight"]}
        self.make("in", found=found | harmless)
        self.good("import", "in", "--out", "in.h5")
        self.good("export", "in.h5", "--out", "out")
        self.assertEqual(found, self.exported("out"))
        head = ("BF16", found["model.embed_tokens.weight"][1], bytes(259 * 32))
        self.make("other", found=found | {"lm_head.weight": head})
        status, _, err = self.call("import", "other", "--out", "other.h5")
        self.assertEqual(0, status)
        self.assertIn("lm_head.weight is ignored", err)
        self.make("bad", found=found | {"model.layers.0.self_attn.q_proj.bias": ("F32", [16], bytes(64))})
        self.refused("model.layers.0.self_attn.q_proj.bias", "attention_bias is false")
        self.make("bad", found=found | {"model.layers.2.input_layernorm.weight": ("F32", [16], bytes(64))})
        self.refused("model.layers.2.input_layernorm.weight")
        self.make("bad", found=found, more={"tie_word_embeddings": False})
        self.refused("lm_head.weight", "lacks")

    def test_index(self):
        name, shard = "model.safetensors.index.json", "model-00001-of-00003.safetensors"

        def change(text):
            self.make("bad", shards=3)
            document = json.loads(self.read("bad/" + name))
            folders.write(self.path("bad"), name, text(document))

        def moved(document):
            document["weight_map"]["model.norm.weight"] = shard
            return json.dumps(document)

        def without(document):
            del document["weight_map"]["model.norm.weight"]
            return json.dumps(document)

        def outside(document):
            document["weight_map"]["model.norm.weight"] = "../secret.safetensors"
            return json.dumps(document)

        def missing(document):
            document["weight_map"]["model.norm.weight"] = "none.safetensors"
            return json.dumps(document)

        for text, *says in ((lambda d: "{", name, ":1:"), (lambda d: "{}", "weight_map"),
                            (lambda d: json.dumps({"weight_map": {"a": 1}}), "weight_map"), (moved, shard, "norm"),
                            (without, "model.norm.weight", "does not name"), (outside, "../secret"),
                            (missing, "none.safetensors")):
            with self.subTest(says):
                change(text)
                self.refused(*says)
        self.make("bad", shards=3)
        os.remove(self.path("bad/" + shard))
        self.refused(shard)
        self.make("bad", shards=3)
        first = folders.read_file(self.read("bad/" + shard))
        second = self.read("bad/model-00002-of-00003.safetensors")
        folders.write(self.path("bad"), "model-00002-of-00003.safetensors",
                      folders.file_bytes(folders.read_file(second) | first))
        self.refused("both hold")

    def test_config(self):
        cases = [({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}, "Qwen2ForCausalLM"),
                 ({"model_type": "gemma"}, "gemma"), ({"architectures": None, "model_type": None}, "architectures"),
                 ({"hidden_act": "gelu"}, "hidden_act", "gelu"), ({"mlp_bias": True}, "mlp_bias"),
                 ({"quantization_config": {"bits": 4}}, "quantization_config"),
                 ({"rope_scaling": {"type": "yarn", "factor": 2.0}}, "yarn"),
                 ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "dynamic"),
                 ({"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}, "low_freq_factor"),
                 ({"rope_scaling": {"type": "linear"}}, "factor"), ({"rope_scaling": 3}, "rope scaling"),
                 ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
                 ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary"),
                 ({"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 32},
                  "sliding_window"),
                 ({"layer_types": ["full_attention", "sliding_attention"]}, "sliding_attention"),
                 ({"rope_interleaved": True}, "rope_interleaved"), ({"hidden_size": None}, "hidden_size"),
                 ({"hidden_size": "16"}, "hidden_size"), ({"hidden_size": 16.5}, "hidden_size"),
                 ({"num_key_value_heads": 3}, "num_key_value_heads"), ({"head_dim": 7}, "head_dim"),
                 ({"vocab_size": -3}, "vocab_size"), ({"vocab_size": 10 ** 30}, "vocab_size"),
                 ({"tie_word_embeddings": 1}, "tie_word_embeddings"), ({"rope_theta": "big"}, "rope_theta"),
                 ({"rope_theta": 0}, "rope_theta"), ({"rms_norm_eps": 2}, "rms_norm_eps"),
                 ({"vocab_size": 258}, "model.embed_tokens.weight", "[259, 16]"),
                 ({"num_hidden_layers": 3}, "model.layers.2", "lacks"), ({"num_hidden_layers": 1}, "model.layers.1")]
        for more, *says in cases:
            with self.subTest(more):
                self.make("bad", more=more)
                self.refused(*says)
        for text, says in (("{", "config.json:1:"), ("[]", "no JSON object"), ("", "empty"),
                           ('{"hidden_size": 16,\n "x": tru}', "config.json:2:")):
            with self.subTest(text):
                folders.write(self.path("bad"), "config.json", text)
                self.refused(says)

    def test_tokenizer(self):
        """A tokenizer of more entries than the model is refused, one of fewer is padding."""
        self.make("bad", V=258)
        self.refused("259 entries", "258")
        self.make("good", V=300)
        self.good("import", "good", "--out", "good.h5")
        self.make("bad")
        folders.write(self.path("bad"), "tokenizer.json", "{\n}")
        self.refused("tokenizer.json")
        os.remove(self.path("bad/tokenizer.json"))
        self.refused("tokenizer")
        self.good("import", "bad", "--tokenizer", "good", "--out", "bad.h5")
        self.make("spare")
        self.bad("import", "spare", "--tokenizer", "nowhere.json", "--out", "x.h5", says="nowhere.json")

    def test_arguments(self):
        self.make("in")
        self.good("import", "in", "--out", "model.h5")
        self.good("export", "model.h5", "--out", "out")
        self.bad("import", "in", "--out", "model.h5", says=("model.h5", "exists"))
        self.bad("export", "model.h5", "--out", "out", says=("out", "exists"))
        self.bad("import", "model.h5", "--out", "x.h5", says="config.json")
        self.bad("import", "nowhere", "--out", "x.h5", says="nowhere")
        self.bad("import", "in", "in", "--out", "x.h5", says="one")
        self.bad("import", "in", says="--out")
        self.bad("export", "model.h5", says="--out")
        self.bad("export", "nowhere", "--out", "x", says="nowhere")
        self.bad("export", "model.h5", "--out", "nowhere/x", says="nowhere/x")
        self.bad("export", "model.h5", "--out", "x", "--dtype", "fp8", says="fp8")
        self.bad("export", "model.h5", "--out", "x", "--format", "onnx", says="onnx")
        for size in ("0", "-1GB", "many", "GB", "1TB"):
            self.bad("export", "model.h5", "--out", "x", "--max-shard-size", size, says=size)


class Gguf(Folders):
    def test_unknown_pre_tokenizer(self):
        self.make("in")
        document = json.loads(folders.tokenizer())
        document["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "[a-z]+"}, "behavior": "Isolated", "invert": False},
            document["pre_tokenizer"] | {"use_regex": False}]}
        folders.write(self.path("in"), "tokenizer.json", json.dumps(document))
        self.bad("export", "in", "--format", "gguf", "--out", "x.gguf", says="pre-tokenizer")


class Large(Folders):
    """A sparse stand-in for a large model: 420 MB of zeros that take no room on the disk."""
    OPTIONS = {"layers": 12, "C": 1024, "F": 4096, "H": 128, "G": 128, "V": 8000}

    def make_sparse(self, name, shards=3):
        wanted, index = folders.shapes(**self.OPTIONS), {}
        names, total = list(wanted), 0
        part = -(-len(names) // shards)
        for shard in range(shards):
            file_name = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
            said, at = {}, 0
            for tensor in names[shard * part:(shard + 1) * part]:
                count = 2 * folders.size_of(wanted[tensor])
                said[tensor] = {"dtype": "BF16", "shape": wanted[tensor], "data_offsets": [at, at + count]}
                at += count
                index[tensor] = file_name
            text = json.dumps(said).encode()
            folders.write(self.path(name), file_name, struct.pack("<Q", len(text)) + text)
            os.truncate(self.path(os.path.join(name, file_name)), 8 + len(text) + at)
            total += at
        folders.write(self.path(name), "model.safetensors.index.json", json.dumps({"weight_map": index}))
        folders.write(self.path(name), "config.json", json.dumps(folders.config(**self.OPTIONS)))
        folders.write(self.path(name), "tokenizer.json", folders.tokenizer())
        return total

    def peak(self, *arguments):
        """Most bytes that the program has resident; it maps no file but its own code."""
        process = self.start(*arguments)
        process.stdout.close()
        err = process.stderr.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stderr.close()
        self.assertEqual(0, process.returncode, err)
        self.assertRegex(err, r"(?m)^(import|export): \[#{20}\]")
        return usage.ru_maxrss * 1024

    def test_large_models_stream(self):
        total = self.make_sparse("in")
        self.assertGreater(total, 400e6)
        for arguments in (("import", "in", "--out", "model.h5"), ("export", "model.h5", "--out", "out"),
                          ("export", "in", "--out", "model.gguf", "--format", "gguf", "--dtype", "fp16")):
            with self.subTest(arguments):
                self.assertLess(self.peak(*arguments), 300e6)
        self.assertEqual(total, sum(len(data) for _, _, data in self.exported("out").values()))

    def test_a_failure_leaves_nothing(self):
        self.make_sparse("in")
        for arguments in (("import", "in", "--out", "model.h5"), ("export", "in", "--out", "out"),
                          ("export", "in", "--out", "model.gguf", "--format", "gguf")):
            with self.subTest(arguments):
                before = sorted(os.listdir(self.folder))
                status, _, err = self.call(*arguments, preexec_fn=limited(20_000_000))
                self.assertEqual(2, status)
                self.assertIn("limit", err)
                self.assertEqual(before, sorted(os.listdir(self.folder)))

    def test_an_interrupt_leaves_nothing(self):
        self.make_sparse("in")
        for arguments in (("import", "in", "--out", "model.h5"), ("export", "in", "--out", "out")):
            for kind in (signal.SIGINT, signal.SIGTERM):
                with self.subTest((arguments, kind)):
                    before = sorted(os.listdir(self.folder))
                    process = self.start(*arguments)
                    first = process.stderr.readline()
                    process.send_signal(kind)
                    _, err = process.communicate(timeout=600)
                    self.assertIn(b"[", first)
                    self.assertEqual(130, process.returncode, err)
                    self.assertIn(b"nothing is left", err)
                    self.assertEqual(before, sorted(os.listdir(self.folder)))


if __name__ == "__main__":
    unittest.main()
