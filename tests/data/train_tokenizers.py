"""Trains a small tokenizer of each family, with the configuration of its published files. train(folder) writes them and
gives [(family, path)]."""
import json
import pathlib

import sentencepiece
import tokenizers

import generate_lines

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
BLANK = "\u2581"


def byte_level(prefix=False, regex=True):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}


def sequence(key, *parts):
    return {"type": "Sequence", key: list(parts)}


def added(token_id, content, special=False, **flags):
    return {"id": token_id, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": not special, "special": special, **flags}


def template(*before, after=()):
    pieces = [{"SpecialToken": {"id": name, "type_id": 0}} for name, _ in before]
    pieces.append({"Sequence": {"id": "A", "type_id": 0}})
    pieces += [{"SpecialToken": {"id": name, "type_id": 0}} for name, _ in after]
    return {"type": "TemplateProcessing", "single": pieces, "pair": pieces,
            "special_tokens": {name: {"id": name, "ids": [number], "tokens": [name]} for name, number in (*before, *after)}}


def document(model, **parts):
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
            "pre_tokenizer": None, "post_processor": None, "decoder": None, **parts, "model": model}


def replace(pattern, content):
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


LLAMA_DECODER = sequence("decoders", replace(BLANK, " "), {"type": "ByteFallback"}, {"type": "Fuse"},
                         {"type": "Strip", "content": " ", "start": 1, "stop": 0})


def chunks():
    text = generate_lines.library_text()
    return [text[i:i + 5000] for i in range(0, 4000000, 5000)]


def train_bytes(pre_tokenizer, size):
    """A byte-level vocabulary, as the model of a tokenizer.json."""
    empty = document({"type": "BPE", "vocab": {}, "merges": []}, pre_tokenizer=pre_tokenizer)
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(empty))
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=size, show_progress=False,
                                             initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(chunks(), trainer)
    return json.loads(tokenizer.to_str())["model"]


def with_string_merges(model):
    return {**model, "merges": [" ".join(pair) for pair in model["merges"]]}


def gpt2(size):
    model = with_string_merges(train_bytes(byte_level(), size))
    model["continuing_subword_prefix"] = model["end_of_word_suffix"] = ""
    return document(model, added_tokens=[added(size, "<|endoftext|>", True, normalized=True)], pre_tokenizer=byte_level(),
                    post_processor=byte_level(True, False), decoder=byte_level())


def llama3(size):
    split = {"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Isolated", "invert": False}
    pipeline = sequence("pretokenizers", split, byte_level(regex=False))
    model = {**train_bytes(pipeline, size), "ignore_merges": True}
    tokens = [added(size + i, name, True) for i, name in enumerate(["<|begin_of_text|>", "<|end_of_text|>", "<|a|>"])]
    post = sequence("processors", byte_level(True), template(("<|begin_of_text|>", size)))
    return document(model, added_tokens=tokens, pre_tokenizer=pipeline, post_processor=post, decoder=byte_level())


def smollm2(size):
    pipeline = sequence("pretokenizers", {"type": "Digits", "individual_digits": True}, byte_level())
    model = train_bytes(pipeline, size)
    tokens = [added(size + i, name, True) for i, name in enumerate(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])]
    return document(model, added_tokens=tokens, pre_tokenizer=pipeline, decoder=byte_level())


def starcoder_flags(size):
    """Digits in runs, a space before the text, added tokens with every flag."""
    pipeline = sequence("pretokenizers", {"type": "Digits", "individual_digits": False}, byte_level(prefix=True))
    tokens = [added(size, "<|endoftext|>", True), added(size + 1, "<|a|>"), added(size + 2, "<|a|>b"),
              added(size + 3, "<|left|>", lstrip=True), added(size + 4, "<|right|>", rstrip=True, normalized=False),
              added(size + 5, "quuz", single_word=True), added(size + 6, "<|late|>", normalized=True),
              added(size + 7, "<|la", lstrip=True, rstrip=True), added(size + 8, "\n\n\n", normalized=False),
              added(size + 9, "l\u00e8ve", normalized=False), added(size + 10, " x", normalized=False)]
    return document(train_bytes(pipeline, size), added_tokens=tokens, pre_tokenizer=pipeline, decoder=byte_level())


def sparse_bytes(size):
    """A byte-level vocabulary that lacks most bytes, with and without an unknown token."""
    model = train_bytes(byte_level(), size)
    lost = {piece for piece in model["vocab"] if len(piece) == 1 and ord(piece) > 0x7F}
    merges = [pair for pair in model["merges"] if not any(set(part) & lost for part in pair)]
    kept = [piece for piece in model["vocab"] if not set(piece) & lost] + ["<unk>"]
    model = {**model, "vocab": {piece: i for i, piece in enumerate(kept)}, "merges": merges, "unk_token": "<unk>"}
    return document(model, pre_tokenizer=byte_level(), decoder=byte_level())


def train_sentencepiece(folder, name, **options):
    settings = {"model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity", "vocab_size": 8000,
                "character_coverage": 0.999, "remove_extra_whitespaces": False, "split_digits": True,
                "allow_whitespace_only_pieces": True, "add_dummy_prefix": True, "max_sentence_length": 20000,
                "minloglevel": 2, "num_threads": 2, **options}
    lines = (line for chunk in chunks()[::3] for line in chunk.split("\n"))
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=lines, model_prefix=str(folder / name), **settings)
    (folder / f"{name}.vocab").unlink()
    return folder / f"{name}.model"


def merges_of(processor):
    """Merges from scores, the way converters of SentencePiece models make them."""
    vocab = {processor.id_to_piece(i): i for i in range(processor.vocab_size())}
    merges = []
    for piece, number in vocab.items():
        halves = [(piece[:i], piece[i:]) for i in range(1, len(piece)) if piece[:i] in vocab and piece[i:] in vocab]
        merges += [(left, right, processor.get_score(number)) for left, right in halves]
    merges.sort(key=lambda merge: (merge[2], len(merge[0]), len(merge[1])), reverse=True)
    return vocab, [[left, right] for left, right, _ in merges]


def llama_model(folder):
    path = folder / "sentencepiece.model"
    if not path.exists():
        train_sentencepiece(folder, "sentencepiece", **MODELS["sentencepiece"])
    vocab, merges = merges_of(sentencepiece.SentencePieceProcessor(model_file=str(path)))
    return {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "vocab": vocab, "merges": merges}


LLAMA_ADDED = [added(0, "<unk>", True), added(1, "<s>", True), added(2, "</s>", True)]


def llama2(folder):
    normalizer = sequence("normalizers", {"type": "Prepend", "prepend": BLANK}, replace(" ", BLANK))
    return document(with_string_merges(llama_model(folder)), added_tokens=LLAMA_ADDED, normalizer=normalizer,
                    post_processor=template(("<s>", 1)), decoder=LLAMA_DECODER)


def metaspace(scheme, split):
    return {"type": "Metaspace", "replacement": BLANK, "prepend_scheme": scheme, "split": split}


def mistral(folder):
    return document(llama_model(folder), added_tokens=LLAMA_ADDED, pre_tokenizer=metaspace("first", False),
                    post_processor=template(("<s>", 1)), decoder=LLAMA_DECODER)


def codellama(folder):
    """Old files: special tokens that are normalized; a tail of the template."""
    normalizer = sequence("normalizers", {"type": "Prepend", "prepend": BLANK}, replace(" ", BLANK))
    model = llama_model(folder)
    tokens = [{**token, "normalized": True} for token in LLAMA_ADDED]
    tokens.append(added(len(model["vocab"]), "quuz", single_word=True))
    return document(model, added_tokens=tokens, normalizer=normalizer,
                    post_processor=template(("<s>", 1), after=(("</s>", 2),)), decoder=LLAMA_DECODER)


def metaspace_words(folder):
    """Metaspace that cuts, no byte fallback, its own decoder."""
    model = {**llama_model(folder), "byte_fallback": False, "fuse_unk": False}
    return document(model, added_tokens=[added(0, "<unk>", True)], pre_tokenizer=metaspace("always", True),
                    decoder=metaspace("always", True))


def metaspace_never(folder):
    model = {**llama_model(folder), "byte_fallback": False, "ignore_merges": True}
    return document(model, added_tokens=[added(len(model["vocab"]), "xyzzy", lstrip=True, rstrip=True)],
                    pre_tokenizer=metaspace("never", True), decoder=metaspace("never", True))


NAMED = ("gpt2", "llama3", "smollm2", "llama2", "mistral", "sentencepiece")
BYTE_FAMILIES = {"gpt2": gpt2, "llama3": llama3, "smollm2": smollm2, "starcoder_flags": starcoder_flags,
                 "sparse_bytes": sparse_bytes}
BLANK_FAMILIES = {"llama2": llama2, "mistral": mistral, "codellama": codellama, "metaspace_words": metaspace_words,
                  "metaspace_never": metaspace_never}
MODELS = {"sentencepiece": {},
          "sentencepiece_plain": {"vocab_size": 2000, "byte_fallback": False, "remove_extra_whitespaces": True,
                                  "split_by_whitespace": False, "split_digits": False},
          "sentencepiece_nfkc": {"vocab_size": 4000, "normalization_rule_name": "nmt_nfkc", "remove_extra_whitespaces": True,
                                 "user_defined_symbols": ["\ufb01", "x\u2460"]},
          "sentencepiece_fold": {"vocab_size": 3000, "normalization_rule_name": "nfkc_cf", "byte_fallback": False},
          "sentencepiece_user": {"vocab_size": 3000, "add_dummy_prefix": False, "control_symbols": ["[INST]", "<pad>"],
                                 "user_defined_symbols": ["<|a|>", "quuz", "xyzzy", "\n\n\n", "<|a|>b", "ab"]}}


def train(folder, families=None):
    folder = pathlib.Path(folder)
    found = []
    for name in families or [*MODELS, *BYTE_FAMILIES, *BLANK_FAMILIES]:
        if name in MODELS:
            path = folder / f"{name}.model"
            found.append((name, path if path.exists() else train_sentencepiece(folder, name, **MODELS[name])))
            continue
        path = folder / f"{name}.json"
        made = BYTE_FAMILIES[name](8192) if name in BYTE_FAMILIES else BLANK_FAMILIES[name](folder)
        path.write_text(json.dumps(made, ensure_ascii=False), encoding="utf-8")
        found.append((name, path))
    return found
