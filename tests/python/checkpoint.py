"""Models and cases as HDF5 files that the program reads, and what it answers."""
import h5py
import numpy

SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
         "head_dim", "vocab_size", "max_position_embeddings")
ROPE_TYPES = ("default", "linear", "llama3")


def create(path, kind):
    file = h5py.File(path, "w", libver=("v110", "v110"))  # the format with checksums, which alone is read
    file.attrs["layerskip_kind"] = numpy.bytes_(kind)
    file.attrs.create("layerskip_version", 1, dtype="int64")
    return file


def write_model(path, model, tokenizer=b"bytes"):
    """A transformers LlamaForCausalLM as a checkpoint for inference."""
    config, scaling = model.config, model.config.rope_scaling or {"rope_type": "default"}
    with create(path, "checkpoint") as file:
        group = file.create_group("model")
        for name in SIZES:
            group.attrs.create(name, getattr(config, name), dtype="int64")
        for name in ("rope_theta", "rms_norm_eps", "initializer_range"):
            group.attrs.create(name, getattr(config, name), dtype="float64")
        for name in ("tie_word_embeddings", "attention_bias"):
            group.attrs.create(name, int(getattr(config, name)), dtype="int64")
        group.attrs.create("rope_scaling_type", ROPE_TYPES.index(scaling["rope_type"]), dtype="int64")
        for name in ("factor", "low_freq_factor", "high_freq_factor"):
            group.attrs.create(f"rope_scaling_{name}", scaling.get(name, 0.0), dtype="float64")
        group.attrs.create("rope_scaling_original_max_position_embeddings",
                           scaling.get("original_max_position_embeddings", 0), dtype="int64")
        for name, value in model.named_parameters():
            file[f"parameters/{name}"] = value.detach().float().numpy()
        file["tokenizer"] = numpy.frombuffer(tokenizer, dtype=numpy.uint8)


def write_case(path, case, rows_at_once, recompute=0, gradients=1):
    """case: tokens, targets, first_key, positions [B,T], survivors [L,B], residual_scale and exit_weight [L]."""
    with create(path, "case") as file:
        samples, length = case["tokens"].shape
        numbers = {"samples": samples, "length": length, "rows_at_once": rows_at_once, "recompute": recompute,
                   "gradients": gradients}
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
