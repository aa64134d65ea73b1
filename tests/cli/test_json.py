"""JSON outputs are one document with the documented keys, and they agree with each other."""
import json
import math
import unittest

from program import CONTEXT, LAYERS, ProgramTest


class Json(ProgramTest):
    def setUp(self):
        super().setUp()
        self.prepare()
        self.train()

    def test_generate(self):
        keys = {"tokens", "text", "drafted", "accepted", "rounds", "prefill_seconds", "decode_seconds",
                "tokens_per_second", "finish_reason"}
        common = ["generate", "--model", "run", "--prompt", "abc ", "--max-new-tokens", 20, "--json"]
        plain = self.document(*common)
        self.assertLessEqual(keys, set(plain))
        self.assertEqual((0, 0), (plain["drafted"], plain["accepted"]))
        self.assertEqual("length" if len(plain["tokens"]) == 20 else "end_of_text", plain["finish_reason"])
        for exit_layer in range(1, LAYERS):
            for draft in (1, 3, 12):
                fast = self.document(*common, "--decode", "self-speculative", "--exit-layer", exit_layer,
                                     "--draft-tokens", draft)
                self.assertEqual(plain["tokens"], fast["tokens"])
                self.assertEqual(plain["text"], fast["text"])
                self.assertTrue(0 <= fast["accepted"] <= fast["drafted"], fast)
                self.assertGreaterEqual(fast["rounds"], 1)
        early = self.document(*common, "--decode", "early-exit", "--exit-layer", 1)
        self.assertLessEqual(keys, set(early))

    def test_generate_without_json(self):
        document = self.document("generate", "--model", "run", "--prompt", "abc ", "--json", "--max-new-tokens", 12)
        streamed = self.good("generate", "--model", "run", "--prompt", "abc ", "--max-new-tokens", 12)
        if "\ufffd" not in document["text"]:
            self.assertIn(document["text"], streamed)

    def test_sampling_repeats_with_its_seed(self):
        common = ["generate", "--model", "run", "--prompt", "a", "--max-new-tokens", 16, "--json", "--temperature", 1.5]
        first, again, other = (self.document(*common, "--seed", seed)["tokens"] for seed in (1, 1, 2))
        self.assertEqual(first, again)
        self.assertNotEqual(first, other)

    def test_generation_stops_at_the_end_of_the_context(self):
        document = self.document("generate", "--model", "run", "--prompt", "x" * (CONTEXT - 4), "--json",
                                 "--max-new-tokens", 100)
        if document["finish_reason"] != "end_of_text":
            self.assertEqual("context", document["finish_reason"])
        self.assertLessEqual(len(document["tokens"]), 5)

    def test_prompt_file(self):
        self.write("prompt.txt", "abc ")
        documents = [self.document("generate", "--model", "run", "--json", "--max-new-tokens", 8, *prompt)
                     for prompt in (("--prompt", "abc "), ("--prompt-file", "prompt.txt"))]
        self.assertEqual(documents[0]["tokens"], documents[1]["tokens"])
        with open(self.path("prompt.txt")) as prompt:
            status, out, err = self.call("generate", "--model", "run", "--json", "--max-new-tokens", 8,
                                         "--prompt-file", "-", stdin=prompt)
        self.assertEqual((0, ""), (status, err))
        self.assertEqual(documents[0]["tokens"], json.loads(out)["tokens"])

    def test_sampling_without_temperature_is_pointed_out(self):
        common = ["generate", "--model", "run", "--prompt", "abc ", "--max-new-tokens", 8, "--json"]
        plain = self.document(*common)
        for option in (["--top-k", 3], ["--top-p", 0.9], ["--seed", 7]):
            status, out, err = self.call(*common, *option)
            self.assertEqual((0, plain["tokens"]), (status, json.loads(out)["tokens"]))
            self.assertIn("warning: ", err)
            self.assertIn("--temperature", err)
        status, _, err = self.call(*common, "--top-k", 3, "--temperature", 1)
        self.assertEqual((0, ""), (status, err))

    def test_layers_are_counted_as_they_run(self):
        status, _, err = self.call("train", "config.yaml", "run_dir=counted", "evaluation.every=12",
                                   "early_exit.weights=target", "early_exit.layers=[0, 2]", "early_exit.rotation=1",
                                   "early_exit.curriculum=none")
        self.assertEqual(0, status, err)
        self.assertRegex(err, r"step 12/12  loss [\d.]+  after 1 layer: [\d.]+, 3: [\d.]+  ")
        self.assertRegex(err, r"step 12: held-out loss after 1 layer: [\d.]+, 2: [\d.]+, 3: [\d.]+, 4: [\d.]+")
        rows = self.metrics("counted")[-1]["evaluation"]["exits"]
        self.assertEqual([(layer, layer + 1) for layer in range(LAYERS)],
                         [(row["layer"], row["layers_run"]) for row in rows])

    def test_sweep_prints_what_it_cannot_store(self):
        status, out, err = self.call("sweep", "--model", "run", "--data", "tokens.h5", "--prompts", 1, "--repeats", 1,
                                     "--json", "--out", "absent/sweep.json")
        self.assertEqual(2, status, err)
        self.assertIn("absent/sweep.json", err.splitlines()[-1])
        self.assertIn("settings", json.loads(out))

    def test_eval(self):
        document = self.document("eval", "--model", "run", "--data", "tokens.h5", "--json")
        self.assertLessEqual({"exits", "tokens"}, set(document))
        self.assertGreater(document["tokens"], 0)
        self.assertEqual(LAYERS, len(document["exits"]))
        for row in document["exits"]:
            self.assertTrue(math.isclose(row["perplexity"], math.exp(row["loss"]), rel_tol=1e-4), row)
        self.assertEqual(sorted(row["layer"] for row in document["exits"]), [row["layer"] for row in document["exits"]])
        self.assertLess(document["exits"][-1]["loss"], math.log(257))

    def test_eval_agrees_with_training(self):
        self.write("short.jsonl", "".join(json.dumps({"text": "abc de " * (1 + i % 5)}) + "\n" for i in range(90)))
        self.good("prepare", "--tokenizer", "bytes", "--validation", "0.5", "--out", "short.h5", "short.jsonl")
        self.good("train", "config.yaml", "data.tokens=short.h5", "run_dir=short", "evaluation.every=12",
                  "evaluation.batches=1000", "training.micro_batch_size=1")
        samples = (self.document("inspect", "short.h5", "--json")["validation"]["tokens"] - 1) // CONTEXT
        common = ["eval", "--model", "short", "--data", "short.h5", "--json", "--max-samples", samples]
        trained, evaluated = self.metrics("short")[-1]["evaluation"], self.document(*common)
        self.assertEqual(trained["tokens"], evaluated["tokens"])
        for one, two in zip(trained["exits"], evaluated["exits"]):
            self.assertEqual(one["layers_run"], two["layer"])
            self.assertLess(abs(one["loss"] - two["loss"]), 1e-4)
        crossing = self.document(*common, "--no-document-mask")
        self.assertGreater(crossing["tokens"], evaluated["tokens"])
        self.assertGreater(abs(crossing["exits"][-1]["loss"] - evaluated["exits"][-1]["loss"]), 1e-4)

    def test_inspect_schedule(self):
        document = self.document("inspect", "config.yaml", "--json", "--steps", "0,1,11", "layer_dropout.rate=0.4",
                                 "early_exit.scale=0.2", "early_exit.curriculum=none")
        self.assertGreater(document["parameters"], 0)
        self.assertEqual([0, 1, 11], [row["step"] for row in document["schedule"]])
        for row in document["schedule"]:
            self.assertEqual((LAYERS, LAYERS), (len(row["dropout_rate"]), len(row["exit_weight"])))
            self.assertAlmostEqual(1.0, sum(row["exit_weight"]), places=9)
        # Equations 1 and 6 for L = 4, T = 12: p at the last step and layer is p_max; e(3) = 3 + 0.2 * 3.
        self.assertEqual([0.0] * LAYERS, document["schedule"][0]["dropout_rate"])
        last = document["schedule"][-1]
        for layer in range(LAYERS):
            self.assertAlmostEqual(0.4 * (2 ** (layer / 3) - 1), last["dropout_rate"][layer], places=9)
        scales = [0.0, 0.2, 0.6, 3.6]
        for layer in range(LAYERS):
            self.assertAlmostEqual(scales[layer] / sum(scales), last["exit_weight"][layer], places=6)

    def test_inspect_shows_all_of_a_rotation(self):
        for steps in (1, 2, 5, 12, 400):
            document = self.document("inspect", "config.yaml", "--json", f"training.steps={steps}",
                                     "early_exit.weights=target", "early_exit.layers=[1, 2]", "early_exit.rotation=2")
            shown = [row["step"] for row in document["schedule"]]
            self.assertEqual(sorted(set(shown)), shown)
            self.assertEqual((0, steps - 1), (shown[0], shown[-1]))
        for layer in (1, 2):  # 400 / 4 is even: the quarters alone would show layer 1 only
            self.assertTrue(any(row["exit_weight"][layer] > 0 for row in document["schedule"][:-1]))
        text = self.good("inspect", "config.yaml", "training.steps=400", "optimizer.learning_rate=0.00125")
        self.assertRegex(text, r"(?m)^  step +0 +101 +202 +303 +399$")
        self.assertRegex(text, r"(?m)^  lr +0\.00125 ")

    def test_inspect_files(self):
        checkpoint = self.document("inspect", "run/checkpoints/" + self.checkpoints()[-1], "--json")
        config = self.document("inspect", "config.yaml", "--json", "model.vocab_size=257")
        self.assertEqual(config["parameters"], checkpoint["parameters"])
        self.document("inspect", "tokens.h5", "--json")
        for path in ("run/checkpoints/" + self.checkpoints()[-1], "tokens.h5", "config.yaml"):
            self.assertTrue(self.good("inspect", path).strip())

    def test_sweep(self):
        document = self.document("sweep", "--model", "run", "--data", "tokens.h5", "--json")
        self.assertTrue(document)

    def test_metrics(self):
        lines = self.metrics()
        self.assertEqual(list(range(len(lines))), [line["step"] - lines[0]["step"] for line in lines])
        for line in lines:
            self.assertTrue(math.isfinite(line["loss"]))

    def test_resolved_config_reads_back(self):
        first = self.good("inspect", "config.yaml", "--json", "model.vocab_size=257")
        second = self.good("inspect", "run/config.yaml", "--json")
        self.assertEqual(first, second)


if __name__ == "__main__":
    unittest.main()
