"""Models, cases and answers of the program `numerics`: Hugging Face folders in, HDF5 in and out."""
import json
import os

import h5py
import numpy
from tokenizers import pre_tokenizers


def write_model(folder, model):
    """A transformers LlamaForCausalLM as a folder. Its tokenizer knows as many single bytes as the vocabulary is long."""
    model.save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())[:model.config.vocab_size]
    tokenizer = {"version": "1.0", "added_tokens": [], "normalizer": None, "decoder": {"type": "ByteLevel"},
                 "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
                 "model": {"type": "BPE", "vocab": {token: i for i, token in enumerate(alphabet)}, "merges": []}}
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as file:
        json.dump(tokenizer, file)


def write_case(path, case, rows_at_once, recompute=0, gradients=1):
    """case: tokens, targets, first_key, positions [B,T], survivors [L,B], residual_scale and exit_weight [L]."""
    samples, length = case["tokens"].shape
    numbers = {"samples": samples, "length": length, "rows_at_once": rows_at_once, "recompute": recompute,
               "gradients": gradients}
    with h5py.File(path, "w", libver=("v110", "v110")) as file:  # the format with checksums, which alone is read
        file.attrs["layerskip_kind"] = numpy.bytes_("case")
        file.attrs.create("layerskip_version", 1, dtype="int64")
        for name, number in numbers.items():
            file.attrs.create(name, number, dtype="int64")
        for name, value in case.items():
            file[name] = numpy.asarray(value, dtype="f4" if name in ("residual_scale", "exit_weight") else "i4")


def read_result(path):
    """(logits [B*T,V], exit_loss [L], {name: gradient, flat}); the logits alone where no gradients were asked for."""
    with h5py.File(path, "r") as file:
        if "gradients" not in file:
            return file["logits"][...], None, None
        gradients = {name: value[...] for name, value in file["gradients"].items()}
        return file["logits"][...], file["exit_loss"][...], gradients
