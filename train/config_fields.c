/* The keys of a run's config, once: reading, ranges, defaults, reference and resolved file all come from this table. */
#include "train/config.h"

#include "kernels/exec.h"

const char *const ls_precision_names[] = {"auto", "bf16", "fp32", NULL};

static const char *const not_finite_names[] = {"stop", "skip", NULL};                 /* ls_not_finite */
static const char *const sharding_names[] = {"none", "optimizer", "gradients", NULL}; /* ls_sharding */

static const char *const offload_names[] = {"none", "moments", NULL}; /* ls_offload */

/* `auto`, then ls_shape_names. */
static const char *const time_names[] = {"auto", "exp", "uniform", "linear", "log", "sin", "sigmoid", "step", NULL};

#define AT(member) offsetof(ls_train_config, member)
#define INT(path, member, minimum, maximum, preset, help)                                                              \
    {                                                                                                                  \
        path, LS_FIELD_INT, AT(member), (double)(minimum), (double)(maximum), NULL, preset, help                       \
    }
#define DOUBLE(path, member, minimum, maximum, preset, help)                                                           \
    {                                                                                                                  \
        path, LS_FIELD_DOUBLE, AT(member), minimum, maximum, NULL, preset, help                                        \
    }
#define BOOL(path, member, preset, help)                                                                               \
    {                                                                                                                  \
        path, LS_FIELD_BOOL, AT(member), 0, 0, NULL, preset, help                                                      \
    }
#define STRING(path, member, preset, help)                                                                             \
    {                                                                                                                  \
        path, LS_FIELD_STRING, AT(member), 0, 0, NULL, preset, help                                                    \
    }
#define CHOICE(path, member, names, preset, help)                                                                      \
    {                                                                                                                  \
        path, LS_FIELD_CHOICE, AT(member), 0, 0, names, preset, help                                                   \
    }
#define INTS(path, member, minimum, maximum, preset, help)                                                             \
    {                                                                                                                  \
        path, LS_FIELD_INTS, AT(member), (double)(minimum), (double)(maximum), NULL, preset, help                      \
    }
#define DOUBLES(path, member, minimum, maximum, preset, help)                                                          \
    {                                                                                                                  \
        path, LS_FIELD_DOUBLES, AT(member), minimum, maximum, NULL, preset, help                                       \
    }

#define LAYERS_MAX (1 << 12)
#define STEPS_MAX 4294967295.0 /* the step is one 32-bit counter of the random numbers */

const ls_field ls_train_fields[] = {
    INT("model.hidden_size", model.hidden_size, 1, 1 << 17, NULL, "C, elements a position (Hugging Face's name)"),
    INT("model.intermediate_size", model.intermediate_size, 1, 1 << 20, NULL, "F, elements of the feed-forward layer"),
    INT("model.num_hidden_layers", model.num_hidden_layers, 1, LAYERS_MAX, NULL, "L, transformer blocks"),
    INT("model.num_attention_heads", model.num_attention_heads, 1, 1 << 12, NULL, "H, query heads"),
    INT("model.num_key_value_heads", model.num_key_value_heads, 0, 1 << 12, "0",
        "G, key/value heads, a divisor of H; 0: as many as query heads"),
    INT("model.head_dim", model.head_dim, 0, 1024, "0", "D, elements a head, even; 0: hidden_size / heads"),
    INT("model.vocab_size", model.vocab_size, 0, 1 << 24, "0", "V, tokens; 0: as in the token file"),
    INT("model.max_position_embeddings", model.max_position_embeddings, 0, 1 << 24, "0",
        "longest context in tokens; 0: data.sequence_length"),
    DOUBLE("model.rope_theta", model.rope_theta, 1.0, 1e12, "10000", "base of the rotary embedding (Su et al. 2021)"),
    DOUBLE("model.rms_norm_eps", model.rms_norm_eps, 1e-12, 1e-1, "1e-05", "epsilon of RMSNorm (Llama: 1e-5)"),
    DOUBLE("model.initializer_range", model.initializer_range, 0.0, 1.0, "0.02",
           "standard deviation of initial weights (Llama: 0.02)"),
    BOOL("model.tie_word_embeddings", model.tie_word_embeddings, "false", "the head is the embedding, transposed"),
    BOOL("model.attention_bias", model.attention_bias, "false", "the q, k, v and o projections have a bias"),
    CHOICE("model.rope_scaling.type", model.rope_scaling.type, ls_rope_type_names, "none",
           "rotary frequencies for longer contexts: linear (Chen et al. 2023) or llama3 (Llama 3.1)"),
    DOUBLE("model.rope_scaling.factor", model.rope_scaling.factor, 1e-3, 1e6, "8",
           "how many times longer (Llama 3.1: 8, Llama 3.2: 32)"),
    DOUBLE("model.rope_scaling.low_freq_factor", model.rope_scaling.low_freq_factor, 1e-3, 1e6, "1",
           "llama3: wavelengths above original_max_position_embeddings over this are stretched fully"),
    DOUBLE("model.rope_scaling.high_freq_factor", model.rope_scaling.high_freq_factor, 1e-3, 1e6, "4",
           "llama3: wavelengths below original_max_position_embeddings over this stay"),
    INT("model.rope_scaling.original_max_position_embeddings", model.rope_scaling.original_max_position_embeddings, 1,
        1 << 24, "8192", "llama3: the context first trained on"),

    STRING("init_from", init_from, "",
           "checkpoint, run folder or Hugging Face folder whose weights start the run (continual pretraining); absent: "
           "random weights"),

    STRING("data.tokens", data.tokens, "", "token file made by `layerskip prepare`"),
    INT("data.sequence_length", data.sequence_length, 1, 1 << 24, "1024", "T, tokens a sample"),
    BOOL("data.document_mask", data.document_mask, "true", "attention stays inside a document of a packed sample"),
    BOOL("data.shuffle", data.shuffle, "true", "samples in a random order, another each epoch"),

    DOUBLE("layer_dropout.rate", layer_dropout.rate, 0.0, 1.0, "0.1",
           "p_max, probability at the last layer and full time (LayerSkip eq. 1; paper: 0.1 or 0.2); 0: off"),
    CHOICE("layer_dropout.depth", layer_dropout.depth, ls_shape_names, "exp",
           "D(l), rate across depth (paper: exp, 2^(l/(L-1)) - 1)"),
    INT("layer_dropout.depth_step", layer_dropout.depth_step, 0, LAYERS_MAX, "0", "first layer dropped by depth: step"),
    INTS("layer_dropout.layers", layer_dropout.layers, 0, LAYERS_MAX, "",
         "layers dropped by depth: list, from 0 (LayerDrop, Fan et al. 2020: every other, 1::2)"),
    CHOICE("layer_dropout.time", layer_dropout.time, time_names, "auto",
           "S(t), rate across steps; auto is the paper's: exp from scratch, uniform with init_from"),
    INT("layer_dropout.time_step", layer_dropout.time_step, 0, STEPS_MAX, "0", "first step dropped by time: step"),
    BOOL("layer_dropout.falling", layer_dropout.falling, "false", "S(T-1-t) instead of S(t)"),
    BOOL("layer_dropout.rescale", layer_dropout.rescale, "false",
         "surviving blocks count 1/(1-p) times; the paper does not rescale"),

    BOOL("early_exit.enabled", early_exit.enabled, "true", "false: the loss is the last layer's alone"),
    DOUBLE("early_exit.scale", early_exit.scale, 0.0, 1.0, "0.2",
           "e_scale, weight of the exits below the last (LayerSkip eq. 6; paper: 0.1 to 1); 0: last layer alone"),
    CHOICE("early_exit.weights", early_exit.weights, ls_exit_weighting_names, "paper",
           "e(l); target: the named exits count as much as the last layer, or early_exit.target_weights"),
    INTS("early_exit.layers", early_exit.layers, 0, LAYERS_MAX, "all",
         "layers that may exit, ascending from 0 (exit l reads the output of block l); the last always does"),
    DOUBLES("early_exit.target_weights", early_exit.target_weights, 0.0, 1e6, "",
            "with weights: target, one a named layer, relative to the last layer's 1; absent: all 1"),
    CHOICE("early_exit.curriculum", early_exit.curriculum, ls_curriculum_names, "rotational",
           "C(t,l): none, rotational (every R-th exit, moving on by one a step), gradual (last to first until T/2)"),
    INT("early_exit.rotation", early_exit.rotation, 1, STEPS_MAX, "8",
        "R of the rotational curriculum (paper: 8 to L-1)"),

    INT("training.steps", training.steps, 1, STEPS_MAX, NULL, "T, optimizer steps"),
    INT("training.micro_batch_size", training.micro_batch_size, 1, 1 << 20, "8", "B, samples computed at once"),
    INT("training.global_batch_size", training.global_batch_size, 0, 1 << 24, "0",
        "samples a step, a multiple of the micro-batch; 0: one micro-batch"),
    BOOL("training.recompute", training.recompute, "false", "less memory: blocks run again in backward"),
    CHOICE("training.not_finite", training.not_finite, not_finite_names, "stop",
           "a loss or gradient that is not finite, on any process: ends the run, or skips the step on all"),

    DOUBLE("optimizer.learning_rate", optimizer.learning_rate, 0.0, 10.0, "0.0008",
           "peak rate of AdamW (paper, from scratch with dropout: 8e-4)"),
    DOUBLE("optimizer.beta1", optimizer.beta1, 0.0, 0.999999, "0.9", "decay of the first moment (Llama: 0.9)"),
    DOUBLE("optimizer.beta2", optimizer.beta2, 0.0, 0.99999999, "0.95", "decay of the second moment (Llama: 0.95)"),
    DOUBLE("optimizer.epsilon", optimizer.epsilon, 1e-16, 1.0, "1e-08", "added to the second moment's root"),
    DOUBLE("optimizer.weight_decay", optimizer.weight_decay, 0.0, 10.0, "0.1",
           "decoupled decay of matrices (Llama: 0.1); norms never decay"),
    DOUBLE("optimizer.clip_norm", optimizer.clip_norm, 0.0, 1e9, "1",
           "largest global gradient norm (Llama: 1); 0: no clipping"),
    BOOL("optimizer.decay_embeddings", optimizer.decay_embeddings, "false", "the embedding decays too"),
    CHOICE("optimizer.offload", optimizer.offload, offload_names, "none",
           "moments: AdamW's live in the host's memory, 8 bytes a parameter less on the GPU; on cpu they do anyway"),
    DOUBLE("optimizer.lane_mib", optimizer.lane_mib, 0.001, 1024.0, "16",
           "with offload, MiB of a moment that travel at once; the GPU has room for six times as much"),

    CHOICE("schedule.kind", schedule.kind, ls_schedule_names, "cosine", "learning rate across steps after warm-up"),
    INT("schedule.warmup_steps", schedule.warmup_steps, 0, STEPS_MAX, "0", "steps of linear warm-up"),
    DOUBLE("schedule.final_ratio", schedule.final_ratio, 0.0, 1.0, "0.1",
           "last step's rate over the peak (Llama: 0.1)"),
    INT("schedule.decay_steps", schedule.decay_steps, 0, STEPS_MAX, "0",
        "last steps, in which warmup_stable_decay decays (Haegele et al. 2024: a fifth)"),

    INT("checkpoint.every", checkpoint.every, 0, STEPS_MAX, "500", "steps between checkpoints; 0: only at the end"),
    INT("checkpoint.keep", checkpoint.keep, 1, 1 << 20, "2", "newest checkpoints kept"),
    BOOL("checkpoint.background", checkpoint.background, "false",
         "write while training goes on, from a copy in memory: 12 bytes a parameter, shared out among processes"),
    INT("evaluation.every", evaluation.every, 0, STEPS_MAX, "500", "steps between held-out evaluations; 0: never"),
    INT("evaluation.batches", evaluation.batches, 1, 1 << 20, "8",
        "micro-batches of held-out text an evaluation, spread evenly over the split"),

    CHOICE(
        "parallel.sharding", parallel.sharding, sharding_names, "optimizer",
        "with several processes, each keeps its share of: none; optimizer (ZeRO-1: moments, master weights); gradients "
        "(ZeRO-2: these too, reduced after every micro-batch)"),
    DOUBLE("parallel.bucket_mib", parallel.bucket_mib, 0.001, 1024.0, "16",
           "gradients reduced at once, in MiB, while backward goes on"),
    DOUBLE(
        "parallel.timeout", parallel.timeout, 0.0, 1e6, "600",
        "seconds without news from the other processes until all end, five times as many while a checkpoint is loaded "
        "or saved; 0: wait forever"),

    STRING("run_dir", run_dir, "", "folder of the run: config.yaml, metrics.jsonl, TensorBoard events, checkpoints"),
    INT("seed", seed, 0, 9007199254740991.0, "1", "of weights, data order and dropout"),
    CHOICE("device", device, ls_device_names, "cpu", "reference is slow and exact, for tests; cuda: an NVIDIA GPU"),
    INT("device_index", device_index, 0, 1023, "0", "which of the GPUs that CUDA_VISIBLE_DEVICES leaves, from 0"),
    CHOICE("attention", attention, ls_attention_names, "auto",
           "on a GPU: cuDNN, the built-in kernels, or whichever takes the case"),
    BOOL("tf32", tf32, "false", "a GPU may multiply fp32 in TF32, faster and with ten bits of mantissa"),
    INT("threads", threads, 0, 1024, "0", "0: as many as the machine offers; the result does not depend on it"),
    CHOICE("precision", precision, ls_precision_names, "auto",
           "of computing; auto: bf16 where the processor has it; master weights and sums are fp32 always"),
    INT("log_every", log_every, 1, STEPS_MAX, "1", "steps between lines of metrics.jsonl and TensorBoard points"),
    BOOL("measure_peak", measure_peak, "true", "time the best matrix product first: the progress line's yardstick"),
    BOOL("profile", profile, "false", "time every op: a table in each line of metrics.jsonl, and one at the end"),
};

const int ls_train_field_count = (int)(sizeof ls_train_fields / sizeof ls_train_fields[0]);
