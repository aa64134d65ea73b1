"""Bad input gets one clear sentence and status 2, and nothing is written or lost."""
import fcntl
import os
import signal
import struct
import time
import unittest

from program import CONTEXT, LAYERS, TOKENIZER, ProgramTest, limited

DAMAGED = {"missing.h5": None, "empty.h5": b"", "foreign.h5": b"not HDF5 at all\n" * 100}


class Config(ProgramTest):
    def refused(self, text, *says, line=None):
        """The config with `text` after it, and the same as overrides."""
        self.write("config.yaml", text)
        if line is not None:
            says = (*says, f"config.yaml:{line}")
        self.bad("train", "config.yaml", says=says)
        self.bad("inspect", "config.yaml", says=says)

    def with_line(self, section, line):
        text = self.read("config.yaml").decode()
        if section + ":" in text:
            text = text.replace(section + ":\n", f"{section}:\n  {line}\n")
        else:
            text += f"{section}:\n  {line}\n"
        return text, text.split("\n").index("  " + line) + 1

    def test_unknown_key(self):
        for section, line, says in (("model", "hiden_size: 3", "hiden_size"), ("layer_drop", "rate: 0.1", "layer_drop")):
            with self.subTest(line):
                text, number = self.with_line(section, line)
                self.refused(text, says)
                if section == "model":
                    self.refused(text, says, line=number)
                self.setUp()
        self.bad("train", "config.yaml", "model.hiden_size=3", says="model.hiden_size")

    def test_wrong_type_or_range(self):
        for key, value in (("training.steps", "many"), ("training.steps", "0"), ("training.steps", "1.5"),
                           ("layer_dropout.rate", "1.5"), ("layer_dropout.rate", "-0.1"), ("layer_dropout.rate", "nan"),
                           ("early_exit.scale", "2"), ("early_exit.weights", "papper"),
                           ("early_exit.layers", "[1, x]"), ("early_exit.layers", f"[{LAYERS}]"),
                           ("early_exit.enabled", "perhaps"), ("optimizer.learning_rate", "fast"),
                           ("optimizer.beta2", "1"), ("seed", "-1"), ("device", "abacus"), ("precision", "fp8")):
            with self.subTest(f"{key}={value}"):
                self.bad("train", "config.yaml", f"{key}={value}", says=key)
                self.bad("inspect", "config.yaml", f"{key}={value}", says=key)
                section, name = key.rsplit(".", 1) if "." in key else (None, key)
                if section is None:
                    self.refused(self.read("config.yaml").decode() + f"{name}: {value}\n", key)
                else:
                    text, number = self.with_line(section, f"{name}: {value}")
                    self.refused(text, key, line=number)
                self.setUp()

    def test_shapes_that_cannot_work(self):
        for overrides, says in ((["model.num_attention_heads=3"], "num_attention_heads"),
                                (["model.num_key_value_heads=3"], "num_key_value_heads"),
                                (["model.head_dim=7"], "head_dim"),
                                (["training.global_batch_size=6"], "global_batch_size"),
                                (["model.max_position_embeddings=8"], "max_position_embeddings")):
            with self.subTest(overrides):
                self.bad("train", "config.yaml", *overrides, says=says)
                self.bad("inspect", "config.yaml", *overrides, says=says)

    def test_not_a_config(self):
        self.bad("train", "absent.yaml", says="absent.yaml")
        self.bad("train", ".", says=".")
        self.refused("model: [1, 2\n", "config.yaml")
        self.refused("- a\n- b\n", "config.yaml")
        self.refused("", "config.yaml")
        self.refused("model:\n  hidden_size: 32\n  hidden_size: 64\n", "hidden_size")
        self.setUp()
        self.bad("train", "config.yaml", "no equals sign", says="no equals sign")

    def test_resume_without_a_run(self):
        self.prepare()
        self.bad("train", "config.yaml", "--resume", says="run")


class Files(ProgramTest):
    def setUp(self):
        super().setUp()
        self.prepare()
        self.train()

    def damaged(self, good):
        """Names of files that are missing, empty, foreign, cut short, and of the other kind."""
        for name, content in DAMAGED.items():
            if content is not None:
                self.write(name, content)
        whole = self.read(good)
        for name, length in (("cut1.h5", 40), ("cut2.h5", len(whole) // 2), ("cut3.h5", len(whole) - 1)):
            self.write(name, whole[:length])
        return [*DAMAGED, "cut1.h5", "cut2.h5", "cut3.h5"]

    def test_token_files(self):
        for name in [*self.damaged("tokens.h5"), "run/checkpoints/" + self.checkpoints()[-1]]:
            with self.subTest(name):
                self.bad("train", "config.yaml", f"data.tokens={name}", "run_dir=other", says=name)
                self.bad("eval", "--model", "run", "--data", name, says=name)
                if not name.startswith("run"):
                    self.bad("inspect", name, says=name)

    def test_checkpoints(self):
        for name in [*self.damaged("run/checkpoints/" + self.checkpoints()[-1]), "tokens.h5"]:
            with self.subTest(name):
                self.bad("generate", "--model", name, "--prompt", "x", says=name)
                self.bad("eval", "--model", name, "--data", "tokens.h5", says=name)
                self.bad("train", "config.yaml", f"init_from={name}", "run_dir=other", says=name)
        self.bad("generate", "--model", "nowhere/run", "--prompt", "x", says="nowhere/run")
        self.bad("generate", "--model", ".", "--prompt", "x", says=".")

    def test_resume_from_a_damaged_checkpoint(self):
        newest = "run/checkpoints/" + self.checkpoints()[-1]
        self.write(newest, self.read(newest)[:-1000])
        self.bad("train", "config.yaml", "--resume", "training.steps=12", says=os.path.basename(newest))

    def test_token_beyond_the_vocabulary(self):
        self.bad("train", "config.yaml", "model.vocab_size=100", "run_dir=other", says="vocab")
        whole = self.read("tokens.h5")
        run = b"".join(struct.pack("<H", c) for c in self.read("text.txt")[200:240])
        at = whole.find(run)
        self.assertGreater(at, 0, "the tokens do not lie plainly in the file")
        self.write("beyond.h5", whole[:at] + b"\xff\xff" + whole[at + 2:])
        status, _, err = self.call("train", "config.yaml", "data.tokens=beyond.h5", "run_dir=other", "training.steps=60")
        self.assertEqual(2, status, err)
        self.assertRegex(err.splitlines()[-1], "^layerskip: .*65535")

    def test_another_tokenizer(self):
        self.good("prepare", "--tokenizer", TOKENIZER, "--validation", "0.2", "--out", "bpe.h5", "text.txt")
        self.bad("eval", "--model", "run", "--data", "bpe.h5", says="tokenizer")
        self.bad("sweep", "--model", "run", "--data", "bpe.h5", says="tokenizer")
        self.bad("train", "config.yaml", "--resume", "data.tokens=bpe.h5", says="token")
        self.bad("train", "config.yaml", "init_from=run", "data.tokens=bpe.h5", "run_dir=other", says="token")

    def test_checkpoint_of_another_shape(self):
        self.bad("train", "config.yaml", "--resume", "model.hidden_size=64", says="hidden_size")
        self.bad("train", "config.yaml", "init_from=run", "model.intermediate_size=64", "run_dir=other",
                 says="intermediate_size")
        self.bad("train", "config.yaml", "--resume", "seed=2", says="seed")

    def test_decoding_options(self):
        for options, says in ((["--exit-layer", 0], "exit"), (["--exit-layer", LAYERS], "exit"),
                              (["--exit-layer", -1], "exit"), (["--exit-layer", "two"], "exit"),
                              (["--draft-tokens", 0], "draft"), (["--draft-tokens", -3], "draft"),
                              (["--max-new-tokens", 0], "max-new-tokens"), (["--temperature", -1], "temperature"),
                              (["--temperature", "nan"], "temperature"), (["--top-p", 1.5], "top-p"),
                              (["--top-p", 0], "top-p"), (["--top-k", -1], "top-k"), (["--decode", "psychic"], "decode")):
            with self.subTest(options):
                self.bad("generate", "--model", "run", "--prompt", "x", "--decode", "self-speculative", *options,
                         says=says)

    def test_prompts(self):
        self.bad("generate", "--model", "run", "--prompt", "", says="prompt")
        self.bad("generate", "--model", "run", "--prompt", "x" * (CONTEXT + 1), says="prompt")
        self.bad("generate", "--model", "run", "--prompt-file", "absent.txt", says="absent.txt")
        self.bad("generate", "--model", "run", "--prompt", "x", "--prompt-file", "text.txt", says="prompt")
        self.bad("generate", "--model", "run", "--chat", "chatml", says="--prompt")
        self.bad("generate", "--model", "run", "--system", "x", "--prompt", "x", says="--chat")
        self.bad("generate", "--model", "run", "--chat", "irc", "--prompt", "x", says=("irc", "chatml"))
        self.bad("generate", "--model", "run", "--chat", "chatml", "--prompt", "x", says="<|im_start|>")

    def test_run_folder_in_use(self):
        self.bad("train", "config.yaml", says="run")

    def test_another_process_is_writing(self):
        os.makedirs(self.path("other"))
        lines = ("cpu kernels", "parameters")
        with open(self.path("tokens.h5.partial"), "w") as partial:
            fcntl.flock(partial, fcntl.LOCK_EX)
            self.bad("prepare", "--tokenizer", "bytes", "--out", "tokens.h5", "text.txt", says="tokens.h5.partial")
            folder = os.open(self.path("other"), os.O_RDONLY)
            fcntl.flock(folder, fcntl.LOCK_EX)
            self.bad("train", "config.yaml", "run_dir=other", says="other", before=lines)
            os.close(folder)
        self.good("prepare", "--tokenizer", "bytes", "--out", "tokens.h5", "text.txt")
        self.assertFalse(os.path.exists(self.path("tokens.h5.partial")))
        self.good("train", "config.yaml", "run_dir=other")

    def test_prepare_replaces_token_files_only(self):
        os.symlink("/dev/null", self.path("device"))
        for name in ("text.txt", "config.yaml", "run/checkpoints/" + self.checkpoints()[-1], "device"):
            self.bad("prepare", "--tokenizer", "bytes", "--out", name, "text.txt", says=(name, "not a token file"))
        self.write("new.h5", "")
        self.good("prepare", "--tokenizer", "bytes", "--out", "new.h5", "text.txt")
        self.good("prepare", "--tokenizer", "bytes", "--out", "new.h5", "text.txt")

    def test_prepare(self):
        self.write("nothing.txt", "")
        self.write("folder/nothing.txt", "")
        self.write("bad.jsonl", '{"text": "fine"}\n{"text": 3}\n')
        self.write("worse.jsonl", '{"text": "fine"}\n{"text": \n')
        self.write("tokenizer.json", '{"model": {"type": "Unigram"}}')
        for arguments, says in ((["nothing.txt"], "nothing.txt"), (["folder"], "folder"), (["absent.txt"], "absent.txt"),
                                (["bad.jsonl"], "bad.jsonl:2"), (["worse.jsonl"], "worse.jsonl:2")):
            with self.subTest(arguments):
                self.bad("prepare", "--tokenizer", "bytes", "--out", "new.h5", *arguments, says=says)
        self.bad("prepare", "--tokenizer", "absent.json", "--out", "new.h5", "text.txt", says="absent.json")
        self.bad("prepare", "--tokenizer", "tokenizer.json", "--out", "new.h5", "text.txt", says="Unigram")
        self.bad("prepare", "--tokenizer", "text.txt", "--out", "new.h5", "text.txt", says="text.txt")
        self.bad("prepare", "--tokenizer", "bytes", "--out", "absent/new.h5", "text.txt", says="absent")
        self.bad("prepare", "--tokenizer", "bytes", "--validation", "1", "--out", "new.h5", "text.txt", says="validation")
        self.bad("prepare", "--tokenizer", "bytes", "--out", "new.h5", says="file")

    def test_too_little_text(self):
        self.write("short.txt", "short")
        self.good("prepare", "--tokenizer", "bytes", "--validation", "0", "--out", "short.h5", "short.txt")
        self.bad("train", "config.yaml", "data.tokens=short.h5", "run_dir=other", says="short.h5")
        self.bad("eval", "--model", "run", "--data", "short.h5", says="short.h5")


class FullDisk(ProgramTest):
    def test_prepare(self):
        self.prepare()
        self.bad("prepare", "--tokenizer", "bytes", "--out", "tokens.h5", "text.txt", says="tokens.h5",
                 before=("prepare:",), preexec_fn=limited(4096))

    def test_save_keeps_the_old_checkpoint(self):
        self.prepare()
        self.train("checkpoint.keep=1", "training.steps=4", "schedule.kind=constant")
        old = self.checkpoints()
        content = self.read("run/checkpoints/" + old[0])
        self.write("config.yaml", self.read("config.yaml").decode().replace("steps: 12", "steps: 4"))
        status, _, err = self.call("train", "config.yaml", "--resume", "checkpoint.keep=1", "schedule.kind=constant",
                                   preexec_fn=limited(len(content) // 2))
        self.assertEqual(0, status, err)  # nothing left to do, nothing to save
        self.write("config.yaml", self.read("config.yaml").decode().replace("run_dir: run", "run_dir: full"))
        status, _, err = self.call("train", "config.yaml", preexec_fn=limited(len(content) // 2))
        self.assertEqual(2, status, err)
        self.assertRegex(err.splitlines()[-1], r"^layerskip: .*checkpoints.*")
        self.assertEqual(content, self.read("run/checkpoints/" + old[0]))
        self.assertEqual([], [name for name in os.listdir(self.path("full/checkpoints")) if name.endswith(".h5")])


    def test_stopping_where_nothing_can_be_saved(self):
        self.prepare()
        process = self.start("train", "config.yaml", "training.steps=100000", "checkpoint.every=0", "log_every=5",
                             preexec_fn=limited(100000))
        while process.poll() is None and not os.path.exists(self.path("run/metrics.jsonl")):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
        self.assertEqual(2, process.returncode, err)
        self.assertRegex(err.decode().splitlines()[-1], r"^layerskip: cannot write \S+: .*; no checkpoint was saved before$")


class NotFinite(ProgramTest):
    def test_divergence_keeps_the_last_good_checkpoint(self):
        self.prepare()
        status, _, err = self.call("train", "config.yaml", "optimizer.learning_rate=1", "optimizer.weight_decay=10",
                                   "training.steps=200", "schedule.kind=constant", "precision=fp32")
        self.assertEqual(2, status, err)
        last = err.splitlines()[-1]
        self.assertRegex(last, r"^layerskip: .*step \d+")
        self.assertRegex(last, r"layer|exit|\.weight")
        self.assertRegex(last, r"finite|infinite|not a number")
        self.assertTrue(self.checkpoints())
        self.document("inspect", "run/checkpoints/" + self.checkpoints()[-1], "--json")


if __name__ == "__main__":
    unittest.main()
