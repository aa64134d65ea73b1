"""Tasks: the numbers of a report agree with its details, questions that cannot be asked are refused by line."""
import json
import unittest

from program import LAYERS, ProgramTest

ARC = """\
kind: multiple_choice
data: questions.jsonl
prompt: "Q: {query}\\nA:"
choices: "{choices}"
gold: gold
"""
QUESTIONS = [{"query": f"what is {i}", "choices": ["a" * (1 + i % 3), "bc", "d e"][:2 + i % 2], "gold": i % 2}
             for i in range(9)]
QUESTIONS[8]["choices"] = ["bc", "bc"]  # a tie


def lines(records):
    return "".join(json.dumps(record) + "\n" for record in records)


def best(scores):
    return max(range(len(scores)), key=lambda i: (scores[i], -i))


class Task(ProgramTest):
    def setUp(self):
        super().setUp()
        self.prepare()
        self.train()
        self.write("tasks/arc.yaml", ARC)
        self.write("tasks/questions.jsonl", lines(QUESTIONS))

    def details(self):
        return [json.loads(line) for line in self.read("details.jsonl").splitlines()]


class MultipleChoice(Task):
    def test_report_and_details(self):
        document = self.document("task", "tasks/arc.yaml", "--model", "run", "--json", "--details", "details.jsonl")
        self.assertEqual(("arc", "multiple_choice", 9, 9, 0), tuple(
            document[key] for key in ("task", "kind", "questions", "questions_wanted", "shots")))
        details = self.details()
        self.assertEqual(list(range(9)), [line["question"] for line in details])
        self.assertEqual(list(range(1, 10)), [line["line"] for line in details])
        right, per_byte = [0] * LAYERS, [0] * LAYERS
        for line, record in zip(details, QUESTIONS):
            for exit in line["exits"]:
                scores = exit["log_probabilities"]
                self.assertEqual(len(record["choices"]), len(scores))
                self.assertTrue(all(score < 0 for score in scores))
                self.assertEqual(best(scores), exit["choice"])
                norm = best([score / len(choice) for score, choice in zip(scores, record["choices"])])
                self.assertEqual(norm, exit["choice_norm"])
                right[exit["layer"] - 1] += exit["choice"] == line["gold"]
                per_byte[exit["layer"] - 1] += norm == line["gold"]
        self.assertNotEqual(right, per_byte, "the two ways to choose should differ somewhere")
        for exit, count, norm in zip(document["exits"], right, per_byte):
            self.assertAlmostEqual(count / 9, exit["acc"], 12)
            self.assertAlmostEqual(norm / 9, exit["acc_norm"], 12)
            self.assertAlmostEqual((count / 9 * (1 - count / 9) / 8) ** 0.5, exit["acc_stderr"], 12)
        self.assertEqual(list(range(1, LAYERS + 1)), [exit["layer"] for exit in document["exits"]])

    def test_table(self):
        table = self.good("task", "tasks/arc.yaml", "limit=1", "--model", "run")
        self.assertIn("arc: 1 question", table)
        self.assertEqual(LAYERS, sum("%" in line for line in table.splitlines()))
        self.assertNotIn("nan", table)

    def test_data_from_elsewhere(self):
        self.write("other.jsonl", lines(QUESTIONS[:4]))
        for options in (("--data", "other.jsonl"), ("data=other.jsonl",), ("--data", self.path("other.jsonl"))):
            document = self.document("task", "tasks/arc.yaml", "--model", "run", "--json", *options)
            self.assertEqual(4, document["questions"])

    def test_long_prompts_lose_their_beginning(self):
        self.write("tasks/questions.jsonl", lines([QUESTIONS[0] | {"query": "x" * 100}, QUESTIONS[1]]))
        status, out, err = self.call("task", "tasks/arc.yaml", "--model", "run", "--json")
        self.assertEqual((0, 2), (status, json.loads(out)["choices_cut"]))
        self.assertIn("2 choices did not fit", err)

    def test_wrong_task_files(self):
        for text, says in ((ARC + "promt: x\n", ("tasks/arc.yaml:6", "promt", "prompt")),
                           (ARC.replace("multiple_choice", "essay"), ("tasks/arc.yaml:1", "essay")),
                           (ARC.replace("prompt", "separator"), "prompt"),
                           (ARC.replace("gold: gold\n", ""), ("tasks/arc.yaml:1", "gold")),
                           (ARC.replace("{query}", "{query"), ("tasks/arc.yaml:3", "prompt")),
                           (ARC + "shots: 2\n", ("tasks/arc.yaml:6", "shots_from")),
                           (ARC + "shots: 2\nshots_from: few.jsonl\n", "tasks/few.jsonl"),
                           (ARC.replace("questions", "absent"), "tasks/absent.jsonl")):
            with self.subTest(text):
                self.write("tasks/arc.yaml", text)
                self.bad("task", "tasks/arc.yaml", "--model", "run", says=says)
        self.bad("task", "absent.yaml", "--model", "run", says="absent.yaml")
        self.bad("task", "--model", "run", says="TASK.yaml")

    def test_wrong_questions(self):
        for line, says in ((b'{"query": "a", "gold": 0}', "choices"), (b'{"choices": ["a", "b"], "gold": 0}', "query"),
                           (b'{"query": "a", "choices": ["a"], "gold": 0}', "1 choices"),
                           (b'{"query": "a", "choices": ["a", "b"], "gold": 2}', "gold"),
                           (b'{"query": "a", "choices": ["a", "b"], "gold": "c"}', "gold"),
                           (b'{"query": "a", "choices": ["a", 3], "gold": 0}', "choice 1"),
                           (b'{"query": "a", "choices": ["a", "b"]}', "gold"), (b"[1]", "object"),
                           (b'{"query": "a", "choices": ["a", "' + b"y" * 40 + b'"], "gold": 0}', "context"),
                           (b'{"query": "a"', "JSON"), (b"\xff\x00", "")):
            with self.subTest(line):
                self.write("tasks/questions.jsonl", lines(QUESTIONS[:1]).encode() + b"\n" + line)
                self.bad("task", "tasks/arc.yaml", "--model", "run", says=("tasks/questions.jsonl, line 3", says))
        for content, says in ((b"", "no questions"), (b"\x1f\x8b\x08", "gunzip")):
            self.write("tasks/questions.jsonl", content)
            self.bad("task", "tasks/arc.yaml", "--model", "run", says=says)


if __name__ == "__main__":
    unittest.main()
