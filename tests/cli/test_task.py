"""Tasks: the numbers of a report agree with its details, questions that cannot be asked are refused by line."""
import json
import os
import shutil
import signal
import tempfile
import time
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
SCRATCH = tempfile.TemporaryDirectory(prefix="layerskip-task-")
MODEL = os.path.join(SCRATCH.name, "run")  # one for all tests


def lines(records):
    return "".join(json.dumps(record) + "\n" for record in records)


def best(scores):
    return max(range(len(scores)), key=lambda i: (scores[i], -i))


class Task(ProgramTest):
    def setUp(self):
        super().setUp()
        if not os.path.exists(MODEL):
            self.prepare()
            self.train()
            shutil.copytree(self.path("run"), MODEL)
        else:
            shutil.copytree(MODEL, self.path("run"))
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
                           (b'{"query": "a", "choices": ["a", "' + b"y" * 40 + b'"], "gold": 0}', "no room in 33"),
                           (b'{"query": "a"', "JSON"), (b"\xff\x00", "")):
            with self.subTest(line):
                self.write("tasks/questions.jsonl", lines(QUESTIONS[:1]).encode() + b"\n" + line)
                self.bad("task", "tasks/arc.yaml", "--model", "run", says=("tasks/questions.jsonl, line 3", says))
        for content, says in ((b"", "no questions"), (b"\x1f\x8b\x08", "gunzip")):
            self.write("tasks/questions.jsonl", content)
            self.bad("task", "tasks/arc.yaml", "--model", "run", says=says)


EXACT = """\
kind: exact_match
data: questions.jsonl
prompt: "{q}"
answer: "{a}"
max_new_tokens: 12
stop: [" ", "e"]
"""
NEW_TOKENS = 12


class Written(Task):
    def setUp(self):
        super().setUp()
        self.write("tasks/words.yaml", EXACT)
        self.questions = [{"q": prompt, "a": self.written(prompt) if i % 3 else "something else"}
                          for i, prompt in enumerate(("abc", "gl", "k", "ddd", "a b c d"))]
        self.write("tasks/questions.jsonl", lines(self.questions))

    def written(self, prompt, *options):
        """What generate writes before the first stop string."""
        text = self.document("generate", "--model", "run", "--prompt", prompt, "--max-new-tokens", NEW_TOKENS, "--json",
                             *options)["text"]
        return min((text.split(stop)[0] for stop in (" ", "e")), key=len)

    def ask(self, *arguments):
        document = self.document("task", "tasks/words.yaml", "--model", "run", "--json", "--details", "details.jsonl",
                                 *arguments)
        return document, self.details()


class ExactMatch(Written):
    def test_the_whole_model(self):
        document, details = self.ask()
        self.assertEqual(("words", "exact_match", 5, 0), tuple(
            document[key] for key in ("task", "kind", "questions", "prompts_cut")))
        self.assertNotIn("early_exit", document)
        self.assertNotIn("self_speculative", document)
        for line, question in zip(details, self.questions):
            answer, = line["answers"]
            self.assertEqual(self.written(question["q"]), answer["text"])
            self.assertLessEqual(len(answer["text"]), answer["tokens"])
            self.assertEqual(question["a"].strip(), line["right"])
            right = question["a"].strip() == answer["text"].strip()
            self.assertEqual("right" if right else "wrong", answer["outcome"])
        self.assertEqual(3 / 5, document["autoregressive"]["score"])
        self.assertEqual(sum(line["answers"][0]["tokens"] for line in details), document["autoregressive"]["tokens"])

    def test_with_an_exit_layer(self):
        plain, _ = self.ask()
        for layer, drafts in ((1, 3), (LAYERS - 1, 12)):
            document, details = self.ask("--exit-layer", layer, "--draft-tokens", drafts)
            fast, early = document["self_speculative"], document["early_exit"]
            self.assertIs(True, fast["identical"])
            for key in ("score", "tokens"):
                self.assertEqual(plain["autoregressive"][key], document["autoregressive"][key])
                self.assertEqual(plain["autoregressive"][key], fast[key])
            self.assertEqual((layer, drafts), (fast["exit_layer"], fast["draft_tokens"]))
            self.assertAlmostEqual(fast["acceptance"], fast["accepted"] / fast["drafted"], 12)
            self.assertAlmostEqual(fast["speedup"], document["autoregressive"]["decode_seconds"] / fast["decode_seconds"])
            self.assertGreater(early["tokens"], 0)
            self.assertNotIn("acceptance", early)
            early_right = 0
            for line, question in zip(details, self.questions):
                by_mode = {answer["decode"]: answer for answer in line["answers"]}
                self.assertEqual(by_mode["autoregressive"]["text"], by_mode["self-speculative"]["text"])
                alone = self.written(question["q"], "--decode", "early-exit", "--exit-layer", layer)
                self.assertEqual(alone, by_mode["early-exit"]["text"])
                early_right += alone.strip() == question["a"].strip()
            self.assertEqual(early_right / 5, early["score"])

    def test_table(self):
        table = self.good("task", "tasks/words.yaml", "--model", "run", "--exit-layer", "2")
        for part in ("5 questions", "exact match", "autoregressive", "early-exit", "identical output: yes", "speedup"):
            self.assertIn(part, table)
        self.assertNotIn("nan", self.good("task", "tasks/words.yaml", "--model", "run", "limit=1"))

    def test_a_part_counts(self):
        self.write("tasks/questions.jsonl", lines([{"q": "abc", "a": "no 1 and 2"}, {"q": "abc", "a": "3"}]))
        document, details = self.ask("extract=[0-9]", "extract_match=last")
        self.assertEqual(["2", "3"], [line["right"] for line in details])
        self.assertEqual({"nothing to compare"}, {line["answers"][0]["outcome"] for line in details})
        self.assertEqual(0, document["autoregressive"]["score"])

    def test_long_prompts_lose_their_beginning(self):
        self.write("tasks/questions.jsonl", lines([{"q": "x" * 100 + "y" * 20, "a": "b"}, {"q": "y" * 20, "a": "b"}]))
        status, out, err = self.call("task", "tasks/words.yaml", "--model", "run", "--json", "--details", "details.jsonl")
        self.assertEqual((0, 1), (status, json.loads(out)["prompts_cut"]))
        self.assertIn("1 prompts did not fit", err)
        cut, whole = self.details()
        self.assertEqual(whole["answers"], cut["answers"])

    def test_wrong_use(self):
        run = "--model", "run"
        self.bad("task", "tasks/words.yaml", *run, "--exit-layer", LAYERS, says=str(LAYERS))
        self.bad("task", "tasks/words.yaml", *run, "--draft-tokens", 2, says="--exit-layer")
        self.bad("task", "tasks/arc.yaml", *run, "--exit-layer", 1, says="multiple choice")
        for override, says in (("max_new_tokens=32", "max_new_tokens"), ("extract=(", "extract"), ("stop=['']", "stop"),
                               ("choices=[a, b]", "choices"), ("extract=[0-9]", "line 1"), ("shots=1", "shots_from")):
            with self.subTest(override):
                self.bad("task", "tasks/words.yaml", *run, override, says=says)
        self.write("tasks/words.yaml", EXACT.replace('answer: "{a}"\n', ""))
        self.bad("task", "tasks/words.yaml", *run, says=("tasks/words.yaml:1", "answer"))
        self.write("tasks/words.yaml", EXACT.replace('"{a}"', '"{b}"'))
        self.bad("task", "tasks/words.yaml", *run, says=("questions.jsonl, line 1", '"b"'))


CODE = r"""kind: code
data: questions.jsonl
prompt: "{q}"
max_new_tokens: 12
stop: [" ", "e"]
program: "{before}\nwritten=$(cat <<'END'\n{completion}\nEND\n)\ntest \"$written\" = '{a}'\n"
command: [sh, "{file}"]
time_limit: 60
"""


def processes(mark):
    """Whose command line holds it."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                found += [entry] if mark in file.read() else []
        except OSError:
            pass
    return found


class Code(Written):
    """Programs that compare what was written find what exact match finds."""

    def setUp(self):
        super().setUp()
        self.write("tasks/words.yaml", CODE)
        self.put([":"] * 5)

    def put(self, before):
        self.write("tasks/questions.jsonl", lines([question | {"before": line, "completion": "not this"}
                                                   for question, line in zip(self.questions, before)]))

    def outcomes(self, *arguments):
        document, details = self.ask("--run-code", *arguments)
        return document, [[answer["outcome"] for answer in line["answers"]] for line in details]

    def test_programs_decide(self):
        document, outcomes = self.outcomes()
        self.assertEqual([["wrong"], ["right"], ["right"], ["wrong"], ["right"]], outcomes)
        self.assertEqual(("code", "pass@1", 3 / 5), (document["kind"], document["metric"],
                                                     document["autoregressive"]["score"]))

    def test_with_an_exit_layer(self):
        document, outcomes = self.outcomes("--exit-layer", 2)
        self.assertIs(True, document["self_speculative"]["identical"])
        self.assertEqual(3 / 5, document["self_speculative"]["score"])
        self.assertEqual([first for first, _, _ in outcomes], [last for _, _, last in outcomes])

    def test_other_ends(self):
        self.put([":", ":", "kill -9 $$", "exit 1", "exit 0"])
        _, outcomes = self.outcomes()
        self.assertEqual([["wrong"], ["right"], ["ended by a signal"], ["wrong"], ["right"]], outcomes)

    def test_programs_that_do_not_end(self):
        self.put(["while :; do :; done", "setsid sleep 1732050 & sleep 1732050", ":", ":", ":"])
        _, outcomes = self.outcomes("time_limit=0.5", "limit=2")
        self.assertEqual([["out of time"]] * 2, outcomes)
        self.assertEqual([], processes(b"1732050"))

    def test_nothing_runs_unless_it_is_allowed(self):
        self.put([f"touch '{self.path('harm')}'"] * 5)
        os.chmod(self.folder, 0o777)
        self.bad("task", "tasks/words.yaml", "--model", "run", says=("executes", "--run-code"))
        self.assertFalse(os.path.exists(self.path("harm")))

    def test_a_signal_ends_the_program(self):
        self.put([":", "sleep 2236067", ":", ":", ":"])
        process = self.start("task", "tasks/words.yaml", "--model", "run", "--run-code", "--json", "time_limit=3000")
        while process.poll() is None and not processes(b"2236067"):
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
        self.assertEqual((130, 1, 5), (process.returncode, json.loads(out)["questions"],
                                       json.loads(out)["questions_wanted"]), err)
        self.assertIn(b"interrupted after 1 of 5 questions", err)
        self.assertEqual([], processes(b"2236067"))

    def test_wrong_use(self):
        run = "--model", "run", "--run-code"
        for override, says in (("command=[no-such-interpreter]", "no-such-interpreter"), ("command=[]", "command"),
                               ("program={nothing}", ("line 1", "nothing")), ("time_limit=0", "time_limit"),
                               ("memory_limit=1", "memory_limit"), ("extract=a", "extract"),
                               ("program={", "program")):
            with self.subTest(override):
                self.bad("task", "tasks/words.yaml", *run, override, says=says, before=["task: question"])
        self.write("tasks/words.yaml", CODE.replace("command", "stop").replace('stop: [" ", "e"]\n', ""))
        self.bad("task", "tasks/words.yaml", *run, says="command")


if __name__ == "__main__":
    unittest.main()
