"""Fine-tuning records from the .jsonl file to the figures, and what is refused on the way."""
import json
import unittest

from program import TOKENIZER, ProgramTest


class Records(ProgramTest):
    def setUp(self):
        super().setUp()
        words = ["".join(chr(97 + (i * i * j) % 7) for j in range(1, 5)) for i in range(1, 90)]
        self.write("pairs.jsonl", "".join(json.dumps({"q": word, "a": word[::-1]}) + "\n" for word in words))
        self.words = words

    def pairs(self, *options, out="sft.h5"):
        self.good("prepare", "--records", "--prompt", "{q}:", "--completion", " {a}", "--tokenizer", "bytes",
                  "--validation", "0.2", "--out", out, *options, "pairs.jsonl")

    def test_from_records_to_figures(self):
        self.pairs()
        about = self.document("inspect", "sft.h5", "--json")
        self.assertIs(True, about["records"])
        self.assertEqual(len(self.words), about["train"]["records"] + about["validation"]["records"])
        for split in ("train", "validation"):  # a blank, four letters, end of text; then with the prompt before them
            self.assertEqual(6 * about[split]["records"], about[split]["targets"])
            self.assertEqual([11] * 3, [about[split][name] for name in ("shortest", "median", "longest")])
        self.train("data.tokens=sft.h5", "evaluation.every=12", "training.steps=40", "optimizer.learning_rate=0.01")
        held_out = [line for line in self.metrics() if "evaluation" in line][-1]["evaluation"]
        seen = self.document("eval", "--model", "run", "--data", "sft.h5", "--json")
        self.assertEqual(6 * about["validation"]["records"], seen["tokens"])
        self.assertLess(seen["exits"][-1]["loss"], 3.0)
        self.assertEqual(len(seen["exits"]), len(held_out["exits"]))
        swept = self.document("sweep", "--model", "run", "--data", "sft.h5", "--prompts", 4, "--max-new-tokens", 8,
                              "--repeats", 1, "--json")
        self.assertEqual((5, 5, True), (swept["prompt_tokens"], swept["shortest_prompt"], swept["identical"]))
        self.bad("sweep", "--model", "run", "--data", "sft.h5", "--prompts", 1000, says="--prompts 1000")

    def test_other_targets_are_another_file(self):
        self.pairs()
        self.pairs("--train-on-prompt", out="all.h5")
        self.train("data.tokens=sft.h5")
        self.bad("train", "config.yaml", "--resume", "data.tokens=all.h5", "training.steps=14", says="all.h5",
                 before=("to train on:",))

    def test_masks_cannot_be_off(self):
        self.pairs()
        self.bad("train", "config.yaml", "data.tokens=sft.h5", "data.document_mask=false",
                 says="must not see each other")
        self.train("data.tokens=sft.h5")
        self.bad("eval", "--model", "run", "--data", "sft.h5", "--no-document-mask", says="must not see each other")

    def test_long_records_are_counted(self):
        self.pairs()
        _, _, err = self.call("train", "config.yaml", "data.tokens=sft.h5", "data.sequence_length=8",
                              "training.steps=1")
        self.assertRegex(err, r"warning: to train on: \d+ records are longer than data.sequence_length \+ 1 tokens and "
                              r"are cut at their end; 0 leave nothing to learn and are left out")
        self.bad("train", "config.yaml", "data.tokens=sft.h5", "data.sequence_length=4", "run_dir=other",
                 says="none has anything to learn in its first 5 tokens")

    def test_bad_records(self):
        command = ("prepare", "--records", "--tokenizer", "bytes", "--out", "bad.h5")
        good = '{"prompt": "a", "completion": "b"}\n'
        for text, says in ((good + '{"prompt": "a"}\n', ("bad.jsonl:2:", "completion")),
                           (good + "\n{\n", "bad.jsonl:3:"), ("[]\n", "bad.jsonl:1:"), ('"a"\n', "bad.jsonl:1:"),
                           (good + '{"prompt": {"a": 1}, "completion": "b"}\n', ("bad.jsonl:2:", "prompt")),
                           ('{"prompt": "", "completion": ""}\n', "bad.jsonl:1: the record is empty"), ("", "records")):
            with self.subTest(text):
                self.write("bad.jsonl", text)
                self.bad(*command, "bad.jsonl", says=says)
        self.bad(*command, "text.txt", says="text.txt: records are read from .jsonl files")
        self.bad(*command, "--chat", "chatml", "pairs.jsonl", says=("chatml", "<|im_start|>"))
        self.bad("prepare", "--records", "--tokenizer", TOKENIZER, "--out", "bad.h5", "--chat", "llama3", "pairs.jsonl",
                 says=("llama3", "<|start_header_id|>"))
        self.bad(*command, "--chat", "html", "pairs.jsonl", says="html")
        self.bad(*command, "--prompt", "{q", "pairs.jsonl", says="--prompt")
        self.bad(*command, "--prompt", "{nothing}", "pairs.jsonl", says=("pairs.jsonl:1:", "nothing"))
        self.bad(*command, "--chat", "chatml", "--completion", "x", "pairs.jsonl", says="--completion")
        self.bad("prepare", "--tokenizer", "bytes", "--out", "bad.h5", "--chat", "chatml", "pairs.jsonl",
                 says="--chat is for --records")
        self.bad(*command, "--text-field", "q", "pairs.jsonl", says="--text-field")


if __name__ == "__main__":
    unittest.main()
