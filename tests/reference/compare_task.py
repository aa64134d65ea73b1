"""Multiple choice against transformers: prompts, tokens, log-probabilities and accuracies of every exit are computed
here a second time, the way lm-evaluation-harness's loglikelihood and multiple_choice do it.

By hand also on a real model and its questions: compare_task.py HF_FOLDER TASK.yaml DATA.jsonl LIMIT
"""
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest

import numpy
import tokenizers

from llama import torch, transformers

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))
import folders  # noqa: E402

ABSOLUTE, RELATIVE = 5e-5, 5e-6  # of a log-probability, in nats
TASK = """\
kind: multiple_choice
data: questions.jsonl
prompt: "{query}\\nA: "
shots: 2
shots_from: few.jsonl
choices: "{choices}"
gold: gold
"""


def questions(count, seed):
    chance = numpy.random.default_rng(seed)

    def word(most):
        return "".join(chr(97 + int(letter)) for letter in chance.integers(0, 26, chance.integers(1, most)))

    return [{"query": " ".join(word(8) for _ in range(chance.integers(1, 6))),
             "choices": [word(12) for _ in range(chance.integers(2, 6))], "gold": int(chance.integers(0, 2))}
            for _ in range(count)]


def encode_pair(tokenizer, context, continuation):
    """As lm-evaluation-harness's _encode_pair: blanks at the context's end belong to the continuation."""
    blanks = len(context) - len(context.rstrip())
    if blanks > 0:
        context, continuation = context[:-blanks], context[-blanks:] + continuation
    return tokenizer.encode(context + continuation).ids, len(tokenizer.encode(context).ids)


def log_probabilities(model, tokens, border):
    """[L] sums over tokens[border:]."""
    with torch.no_grad():
        hidden = model(torch.tensor([tokens[:-1]]), output_hidden_states=True).hidden_states
        found = []
        for layer, state in enumerate(hidden[1:], 1):
            state = state[0, border - 1:]
            if layer < len(hidden) - 1:  # the last one has been through the norm
                state = model.model.norm(state)
            rows = torch.log_softmax(model.lm_head(state).double(), -1)
            found.append(float(rows[range(len(rows)), tokens[border:]].sum()))
    return found


def load(folder):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32).eval()
    return model, tokenizers.Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))


def ask(folder, task, data, limit, details):
    answer = subprocess.run([os.environ["LAYERSKIP"], "task", task, f"limit={limit}", "--data", data, "--model", folder,
                             "--precision", "fp32", "--details", details, "--json"], stdout=subprocess.PIPE, check=True)
    with open(details, encoding="utf-8") as file:
        return json.loads(answer.stdout), [json.loads(line) for line in file]


def compare(test, folder, prompt_of, records, document, details):
    """Every log-probability, then the choices, where they are no tie, and the accuracies they make."""
    model, tokenizer = load(folder)
    layers, worst, ties = model.config.num_hidden_layers, 0.0, 0
    right = numpy.zeros((layers, 2))
    for record, line in zip(records, details):
        lengths = [len(choice.encode()) for choice in record["choices"]]
        pairs = [encode_pair(tokenizer, prompt_of(record), " " + choice) for choice in record["choices"]]
        expected = numpy.array([log_probabilities(model, *pair) for pair in pairs]).T
        for exit, scores in zip(line["exits"], expected):
            error = numpy.abs(numpy.array(exit["log_probabilities"]) - scores)
            allowed = ABSOLUTE + RELATIVE * numpy.abs(scores)
            worst = max(worst, float((error / allowed).max()))
            for way, (key, values) in enumerate((("choice", scores), ("choice_norm", scores / lengths))):
                chosen = int(numpy.argmax(values))
                if exit[key] != chosen:
                    ties += 1
                    test.assertLessEqual(values[chosen] - values[exit[key]], 2 * allowed.max(), line["question"])
                right[exit["layer"] - 1, way] += exit[key] == record["gold"]
    print(f"{len(records)} questions, {layers} exits: log-probabilities off by {worst:.2f} of what is allowed, "
          f"{ties} choices differ between scores equal within that; last exit "
          f"{right[-1] / len(records)} right")
    test.assertLessEqual(worst, 1.0)
    for exit, counts in zip(document["exits"], right / len(records)):
        numpy.testing.assert_allclose([exit["acc"], exit["acc_norm"]], counts, atol=1e-12)


class Task(unittest.TestCase):
    def test_random_model(self):
        with tempfile.TemporaryDirectory(prefix="layerskip-task-") as scratch:
            def path(name):
                return os.path.join(scratch, name)
            folders.make(path("model"), found=folders.tensors("F32", seed=4, layers=3, C=40, H=6, G=2, F=56),
                         dtype="F32", layers=3, C=40, H=6, G=2, F=56,
                         more={"max_position_embeddings": 512})
            records, few = questions(12, 1), questions(2, 2)
            for name, content in (("questions.jsonl", records), ("few.jsonl", few)):
                with open(path(name), "w", encoding="utf-8") as file:
                    file.writelines(json.dumps(record) + "\n" for record in content)
            with open(path("task.yaml"), "w", encoding="utf-8") as file:
                file.write(TASK)
            examples = "".join(f"{one['query']}\nA:  {one['choices'][one['gold']]}\n\n" for one in few)
            compare(self, path("model"), lambda record: f"{examples}{record['query']}\nA: ", records,
                    *ask(path("model"), path("task.yaml"), path("questions.jsonl"), 0, path("details.jsonl")))


def compare_by_hand(folder, task, data, limit):
    """Prompts of one field and fixed text, without examples: what the tasks in configs/ have."""
    with open(task, encoding="utf-8") as file:
        template = json.loads(re.search(r'^prompt: (".*")$', file.read(), re.MULTILINE)[1])
    with open(data, encoding="utf-8") as file:
        records = [json.loads(line) for line in file][:int(limit)]
    with tempfile.TemporaryDirectory() as scratch:
        compare(unittest.TestCase(), folder, lambda record: template.format(**record), records,
                *ask(folder, task, data, limit, os.path.join(scratch, "details.jsonl")))


if __name__ == "__main__":
    if len(sys.argv) == 5:
        compare_by_hand(*sys.argv[1:])
    else:
        unittest.main(argv=sys.argv[:1])
