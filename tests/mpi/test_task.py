"""A task shared by processes gives the document that one alone gives, says a failure once, and stops for a signal."""
import json
import os
import signal
import time

import ranks

TASK = """\
kind: multiple_choice
data: questions.jsonl
prompt: "Q: {query}\\nA:"
choices: "{choices}"
gold: gold
"""
WRITTEN = """\
kind: exact_match
data: questions.jsonl
prompt: "Q: {query}\\nA:"
answer: "{choices}"
max_new_tokens: 9
stop: ["e"]
"""
CLOCKS = ("threads", "processes", "prefill_seconds", "decode_seconds", "tokens_per_second", "speedup", "speedup_low",
          "speedup_high")


def without_clocks(document):
    return {key: without_clocks(value) if isinstance(value, dict) else value for key, value in document.items()
            if key not in CLOCKS}


class Task(ranks.RanksTest):
    def setUp(self):
        super().setUp()
        self.good("train", "config.yaml", "training.steps=6", "checkpoint.every=6", "evaluation.every=0")
        self.write("task.yaml", TASK)
        self.write("written.yaml", WRITTEN)
        self.ask(7)

    def ask(self, count):
        questions = [{"query": "z" * i, "choices": ["a" * (1 + i % 3), "bc", "d e"][:2 + i % 2], "gold": i % 2}
                     for i in range(count)]
        self.write("questions.jsonl", "".join(json.dumps(question) + "\n" for question in questions))

    def answer_of(self, size, *arguments):
        """What rank 0 prints, and the details."""
        status, out, err = self.finish(self.launch(size, *arguments, "--details", f"details{size}.jsonl"))
        self.assertEqual(0, status, err)
        return without_clocks(json.loads(out)), self.read(f"details{size}.jsonl")

    def test_the_same_document(self):
        command = "task", "task.yaml", "--model", "run", "--json"
        alone = self.answer_of(1, *command)
        self.assertEqual(7, alone[0]["questions"])
        for size in (2, 3):
            self.assertEqual(alone, self.answer_of(size, *command))

    def test_the_same_answers(self):
        command = "task", "written.yaml", "--model", "run", "--json", "--exit-layer", "2", "--draft-tokens", "3"
        alone = self.answer_of(1, *command)
        self.assertEqual((7, True), (alone[0]["questions"], alone[0]["self_speculative"]["identical"]))
        for size in (2, 3):
            self.assertEqual(alone, self.answer_of(size, *command))

    def test_fewer_questions_than_processes(self):
        command = "task", "task.yaml", "limit=2", "--model", "run", "--json"
        self.assertEqual(self.answer_of(1, *command), self.answer_of(3, *command))

    def test_a_failure_is_said_once(self):
        self.write("questions.jsonl", self.read("questions.jsonl") + b'{"query": "a", "choices": ["b", "c"]}\n')
        status, out, err = self.finish(self.launch(3, "task", "task.yaml", "--model", "run"))
        said = [line for line in err.splitlines() if line.startswith("layerskip:")]
        self.assertEqual((2, "", 1), (status, out, len(said)), err)
        self.assertIn("questions.jsonl, line 8", said[0])

    def test_a_signal_tells_what_there_is(self):
        self.ask(20)
        self.write("questions.jsonl", self.read("questions.jsonl") * 1000)
        process = self.launch(2, "task", "task.yaml", "--model", "run", "--json")
        line = b""
        while b"question 1 of" not in line:
            line = process.stderr.readline()
            self.assertTrue(line, "ended before the first question")
        found = ranks.processes_of(process)
        time.sleep(1)
        os.kill(found[1], signal.SIGUSR1)
        status, out, err = self.finish(process, 60)
        document = json.loads(out)
        self.assertEqual(130, status, err)
        self.assertIn(f"interrupted after {document['questions']} of 20000 questions", err)
        self.assertTrue(0 < document["questions"] < 20000, document["questions"])


if __name__ == "__main__":
    ranks.main()
