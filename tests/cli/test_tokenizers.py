"""Tokenizers as users name them: files and folders, SentencePiece models, the template around documents and prompts."""
import json
import os
import re
import unittest

import folders
from program import ProgramTest

BLANK = "\u2581"
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def tokenizer_json(**parts):
    vocab = {token: i for i, token in enumerate(["<unk>", "<s>", "</s>", BLANK, "\n", *LETTERS])}
    return json.dumps({"added_tokens": [{"id": i, "content": name, "special": True}
                                        for i, name in enumerate(["<unk>", "<s>", "</s>"])],
                       "normalizer": {"type": "Sequence", "normalizers": [
                           {"type": "Prepend", "prepend": BLANK},
                           {"type": "Replace", "pattern": {"String": " "}, "content": BLANK}]},
                       "decoder": {"type": "Sequence", "decoders": [
                           {"type": "Replace", "pattern": {"String": BLANK}, "content": " "}, {"type": "Fuse"},
                           {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
                       "model": {"type": "BPE", "unk_token": "<unk>", "vocab": vocab, "merges": []}, **parts})


def template(*pieces):
    single = [{"Sequence": {"id": "A"}} if piece is None else {"SpecialToken": {"id": piece}} for piece in pieces]
    names = {"<s>": {"ids": [1]}, "</s>": {"ids": [2]}}
    return {"type": "TemplateProcessing", "single": single, "special_tokens": names}


def number(value):
    return bytes([value & 127 | 128]) + number(value >> 7) if value > 127 else bytes([value])


def field(key, content):
    """A field of protobuf's wire format: bytes, or a number."""
    if isinstance(content, int):
        return number(key << 3) + number(content)
    return number(key << 3 | 2) + number(len(content)) + content


def sentencepiece_model(model_type=2):
    pieces = [("<unk>", 2), ("<s>", 3), ("</s>", 3), (BLANK, 1), ("\n", 1), *((letter, 1) for letter in LETTERS)]
    return b"".join(field(1, field(1, text.encode()) + field(3, kind)) for text, kind in pieces) + \
        field(2, field(3, model_type)) + field(3, field(1, b"identity") + field(4, 0))


class Tokenizers(ProgramTest):
    def prepared(self, tokenizer):
        """(tokens, documents) of two texts of 4 and 6 letters."""
        self.write("texts/1.txt", "abcd")
        self.write("texts/2.txt", "ab cde")
        self.good("prepare", "--tokenizer", tokenizer, "--validation", 0, "--out", "t.h5", "texts")
        found = self.document("inspect", "t.h5", "--json")["train"]
        return found["tokens"], found["documents"]

    def test_template_around_documents(self):
        plain = 5 + 7  # with the blank that is prepended
        for post, around in ((None, 1), (template("<s>", None), 2), (template("<s>", None, "</s>"), 2),
                             (template("<s>", None, "</s>", "<s>"), 3), (template(None, "</s>"), 1)):
            self.write("x.json", tokenizer_json(post_processor=post))
            self.assertEqual((plain + 2 * around, 2), self.prepared("x.json"))

    def test_sentencepiece_model(self):
        self.write("m/tokenizer.model", sentencepiece_model())
        self.assertEqual((12 + 4, 2), self.prepared("m/tokenizer.model"))
        self.assertEqual((12 + 4, 2), self.prepared("m"))
        self.write("m/tokenizer.json", tokenizer_json())  # comes before the model
        self.assertEqual((12 + 2, 2), self.prepared("m"))

    def test_import_with_a_sentencepiece_model(self):
        """A folder with nothing but a tokenizer.model, and a model named beside it; the export has a tokenizer.json."""
        folders.make(self.path("hf"), dtype="F32", V=31, more={"eos_token_id": 2})
        os.remove(self.path("hf/tokenizer.json"))
        self.write("beside.model", sentencepiece_model())
        self.good("import", "hf", "--tokenizer", "beside.model", "--out", "beside.h5")
        self.write("hf/tokenizer.model", sentencepiece_model())
        self.good("import", "hf", "--out", "inside.h5")
        for name in ("beside", "inside"):
            self.good("export", name + ".h5", "--out", name)
            tokenizer = json.loads(self.read(name + "/tokenizer.json"))
            self.assertEqual(31, len(tokenizer["model"]["vocab"]))
            self.assertEqual({"id": "<s>", "ids": [1], "tokens": ["<s>"]},
                             tokenizer["post_processor"]["special_tokens"]["<s>"])

    def test_template_before_a_prompt(self):
        lengths = []
        for post in (None, template("<s>", None, "</s>")):
            self.write("x.json", tokenizer_json(post_processor=post))
            self.good("prepare", "--tokenizer", "x.json", "--validation", 0.2, "--out", "tokens.h5", "text.txt")
            self.good("train", "config.yaml", "training.steps=2", f"run_dir=run{len(lengths)}")
            status, _, err = self.call("generate", "--model", f"run{len(lengths)}", "--prompt", "abc", "--max-new-tokens", 2)
            self.assertEqual(0, status, err)
            lengths.append(int(re.search(r"prompt of (\d+) tokens", err)[1]))
        self.assertEqual([4, 5], lengths)

    def test_refusals(self):
        self.write("u.model", sentencepiece_model(model_type=1))
        self.write("cut.model", sentencepiece_model()[:-3])
        self.write("noise.model", bytes(range(256)))
        self.write("cut.json", tokenizer_json()[:-30])
        self.write("merge.json", tokenizer_json(added_tokens=[], model={"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}))
        self.write("id.json", tokenizer_json(added_tokens=[], model={"type": "BPE", "vocab": {"a": 10 ** 9}, "merges": []}))
        self.write("type.json", tokenizer_json(added_tokens=[], model={"type": "BPE", "vocab": {"a": []}, "merges": []}))
        self.write("template.json", tokenizer_json(post_processor=template("<x>", None)))
        self.write("nfc.json", tokenizer_json(normalizer={"type": "NFC"}))
        for name, says in (("u.model", "Unigram"), ("cut.model", "damaged"), ("noise.model", "not a SentencePiece model"),
                           ("cut.json", "cut.json:1:"), ("merge.json", "merge number 1"), ("id.json", "out of proportion"),
                           ("type.json", "'a'"), ("template.json", "template"), ("nfc.json", "'NFC'")):
            self.bad("prepare", "--tokenizer", name, "--out", "t.h5", "text.txt", says=(name, says))


if __name__ == "__main__":
    unittest.main()
