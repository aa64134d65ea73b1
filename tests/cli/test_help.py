"""--help is complete, on standard output, and wrong usage is one sentence."""
import re
import unittest

from program import ProgramTest

OPTIONS = {
    "prepare": ["--tokenizer", "--out", "--validation", "--records", "--prompt", "--completion", "--chat", "FILE"],
    "train": ["--resume", "CONFIG", "model.hidden_size", "layer_dropout.rate", "early_exit.scale"],
    "generate": ["--model", "--prompt", "--prompt-file", "--decode", "autoregressive", "early-exit", "self-speculative",
                 "--exit-layer", "--draft-tokens", "--max-new-tokens", "--temperature", "--top-k", "--top-p", "--seed",
                 "--json"],
    "eval": ["--model", "--data", "--json"],
    "sweep": ["--model", "--json"],
    "task": ["TASK", "--model", "--data", "--details", "--exit-layer", "--draft-tokens",
             "--run-code", "--json", "prompt", "shots"],
    "import": ["--out", "--tokenizer", "HF_DIR"],
    "export": ["--out", "--dtype", "--format", "gguf", "--max-shard-size", "CHECKPOINT"],
    "report": ["RUN"],
    "inspect": ["--json", "--steps"],
    "bench": ["kernels", "train", "decode", "--json"],
}


class Help(ProgramTest):
    def test_program(self):
        for option in ("--help", "-h", "help"):
            text = self.good(option)
            for command in OPTIONS:
                self.assertRegex(text, rf"(?m)^  {command} +\S")

    def test_commands(self):
        for command, options in OPTIONS.items():
            status, text, err = self.call(command, "--help")
            self.assertEqual((0, ""), (status, err), command)
            for option in options:
                self.assertTrue(option in text, f"{command} --help does not name {option}")
            self.assertIn(f"layerskip {command}", text)
            self.assertLessEqual(max(map(len, text.splitlines())), 140, command)

    def test_every_option_is_explained(self):
        for command in OPTIONS:
            for line in re.findall(r"(?m)^ +(?:-\w, )?--[\w-]+(?:=\S+)?$\n(?! )", self.good(command, "--help")):
                self.fail(f"{command}: {line!r} has no explanation")

    def test_version(self):
        self.assertRegex(self.good("--version"), r"^layerskip \d+\.\d+\.\d+\n$")

    def test_keys_of_the_config(self):
        keys = self.good("train", "--help").split("Keys of CONFIG.yaml")[1].splitlines()[1:]
        self.assertGreater(len(keys), 100)
        for line in keys:  # a key, or four blanks and what it means
            self.assertRegex(line, r"^([a-z_0-9.]+|    \S.*|)$")
        self.assertIn("    number in [0, 0.99999999]; default: 0.95", keys)
        self.assertIn("    whole number in [0, 9007199254740991]; default: 1", keys)

    def test_wrong_usage(self):
        self.bad("quickstart", says="quickstart")
        for command in OPTIONS:
            self.bad(command, "--no-such-option", says="--no-such-option")
        self.bad("generate", "--model", says="--model")
        for command in ("prepare", "train", "generate", "eval", "sweep", "inspect"):
            self.bad(command)

    def test_no_command(self):
        status, out, err = self.call()
        self.assertEqual((2, ""), (status, out))
        self.assertIn("Usage", err)

    def test_output_that_cannot_be_written(self):
        """A full disk behind standard output is a failure, said in one sentence, whatever was printed."""
        self.prepare()
        self.train("training.steps=4", "schedule.warmup_steps=0")
        model = "--model", "run"
        lines = [(option,) for option in ("--help", "--version")] + [(command, "--help") for command in OPTIONS]
        for json in ((), ("--json",)):
            lines += [("inspect", "config.yaml", *json), ("inspect", "tokens.h5", *json), ("inspect", "--build", *json),
                      ("eval", *model, "--data", "tokens.h5", *json),
                      ("sweep", *model, "--data", "tokens.h5", "--prompts", "1", "--repeats", "1", "--prompt-tokens", "4",
                       "--max-new-tokens", "4", *json),
                      ("generate", *model, "--prompt", "ab", "--max-new-tokens", "2", *json)]
        with open("/dev/full", "wb") as full:
            for line in lines:
                process = self.start(*line, stdout=full)
                said = process.communicate(timeout=600)[1].decode().splitlines()
                failures = [one for one in said if one.startswith("layerskip: cannot write ")]
                self.assertEqual((2, 1), (process.returncode, len(failures)), f"{line}: {said}")


if __name__ == "__main__":
    unittest.main()
