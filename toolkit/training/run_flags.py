"""Flags that several scripts share, and the settings that follow from them."""

import math
from typing import Optional

import optimization
from toolkit.support import command_line, files

# The values of --distribution_strategy; see distribution.py.
STRATEGIES = ("off", "mirrored", "multi_worker")

# Seconds between two checkpoints, unless their interval is given in steps.
CHECKPOINT_SECONDS = 600.0

# A training of so many steps keeps so many checkpoints, unless the number is given.
SHORT_STEPS, SHORT_KEPT = 1000, 2

# The value of --eval_steps for as many steps as an epoch has.
EPOCH = "epoch"


def define_model_flags(flags: command_line.ScriptFlags, max_seq_length: int) -> None:
  """Defines the flags of the model and its files."""
  flags.DEFINE_string(
    "output_dir",
    None,
    "Directory for checkpoints and results. A finished one is all that evaluation and prediction "
    "need: it holds the model's configuration, vocabulary and settings.",
  )
  flags.DEFINE_string(
    "bert_config_file",
    None,
    "JSON file with the model's architecture (bert_config.json). Default: the one in --output_dir.",
  )
  flags.DEFINE_string(
    "vocab_file",
    None,
    "Vocabulary, one word piece a line (vocab.txt). Default: the one in --output_dir.",
  )
  flags.DEFINE_string(
    "init_checkpoint",
    None,
    "Pre-trained weights to start from: a checkpoint's prefix (bert_model.ckpt), its .index file, "
    "or a directory with one.",
  )
  flags.DEFINE_bool(
    "do_lower_case",
    True,
    "Whether text is lower-cased: True for uncased models, False for cased ones.",
    remembered=True,
    shared=True,
  )
  flags.DEFINE_integer(
    "max_seq_length",
    max_seq_length,
    "Longest input in word pieces, [CLS] and [SEP] included. Longer inputs are cut.",
    lower_bound=3,
    remembered=True,
  )


def define_step_flags(flags: command_line.ScriptFlags) -> None:
  """Defines the flags of an optimizer step, for every script that trains."""
  flags.DEFINE_integer(
    "train_batch_size",
    32,
    "Examples in one optimizer step, over all devices together.",
    lower_bound=1,
  )
  flags.DEFINE_float("learning_rate", 5e-5, "Highest learning rate of Adam.")
  flags.register_validator("learning_rate", lambda rate: 0 < rate < math.inf, "must be positive")
  flags.DEFINE_enum(
    "lr_schedule",
    "linear",
    list(optimization.SCHEDULES),
    "How the learning rate goes on after the warm-up: down to 0 in a straight line, not at all, or "
    "down to 0 along half a cosine.",
  )
  flags.DEFINE_float(
    "gradient_clip_norm", 1.0, "Gradients whose global norm is longer are cut to it."
  )
  flags.register_validator(
    "gradient_clip_norm", lambda norm: 0 < norm < math.inf, "must be positive and finite"
  )
  _define_layer_flags(flags)
  _define_hardware_flags(flags)


def _define_layer_flags(flags):
  """Defines the flags that treat layers differently."""
  flags.DEFINE_float(
    "layerwise_lr_decay",
    1.0,
    "What the learning rate is multiplied by from a layer to the one below; heads and pooler have "
    "all of it, the embeddings the least (0.8 to 0.95 is usual in fine-tuning).",
  )
  flags.register_validator(
    "layerwise_lr_decay", lambda decay: 0 < decay <= 1, "must be above 0 and at most 1"
  )
  flags.DEFINE_integer(
    "freeze_layers",
    0,
    "How many of the encoder's layers, the lowest first, are not trained.",
    lower_bound=0,
  )
  flags.DEFINE_bool(
    "freeze_embeddings",
    False,
    "Whether the embeddings are not trained: words, positions, segments, and their LayerNorm.",
  )


def _define_hardware_flags(flags):
  """Defines the flags that save memory or time in a step, with the same result."""
  flags.DEFINE_integer(
    "num_accumulation_steps",
    1,
    "How many parts --train_batch_size is divided into. They are computed one after the other, in "
    "the memory of one, and their gradients are added up for one optimizer step.",
    lower_bound=1,
  )
  flags.DEFINE_bool(
    "recompute_activations",
    False,
    "Whether the backward pass computes each layer of the encoder a second time, so that its inner "
    "values need not be kept: less memory, some more time.",
  )
  define_precision_flag(flags)
  flags.DEFINE_bool(
    "use_xla",
    False,
    "Whether XLA compiles the training step on a GPU. Batches then have the full --max_seq_length, "
    "for each new length would be compiled anew. No gain on a CPU.",
  )


def define_precision_flag(flags: command_line.ScriptFlags) -> None:
  """Defines the flag of mixed precision, for every script that runs a model."""
  flags.DEFINE_bool(
    "amp",
    False,
    "Mixed precision: float16 on GPUs with compute capability 7.0 or more, bfloat16 on CPUs that "
    "are faster with it. Elsewhere it is off, and a line says why. Weights and checkpoints stay in "
    "float32, and so do softmax and losses.",
  )


def define_fine_tuning_flags(flags: command_line.ScriptFlags, max_seq_length: int) -> None:
  """Defines all flags that the scripts which fine-tune have in common."""
  define_model_flags(flags, max_seq_length)
  define_training_flags(flags)
  define_distillation_flags(flags)
  define_device_flags(flags)


def define_training_flags(flags: command_line.ScriptFlags) -> None:
  """Defines the flags of every script that fine-tunes by epochs."""
  define_step_flags(flags)
  flags.DEFINE_float("num_train_epochs", 3.0, "How often the training set is gone through.")
  flags.register_validator(
    "num_train_epochs", lambda epochs: 0 < epochs < math.inf, "must be positive"
  )
  flags.DEFINE_float(
    "warmup_proportion",
    0.1,
    "Share of the training steps in which the learning rate rises from 0 (0.1 = a tenth).",
    lower_bound=0.0,
    upper_bound=1.0,
  )
  flags.DEFINE_integer(
    "num_warmup_steps",
    None,
    "The same as a number of steps, in place of --warmup_proportion.",
    lower_bound=0,
  )
  flags.register_multi_flags_validator(
    ["warmup_proportion", "num_warmup_steps"],
    lambda values: not all(flags.FLAGS[name].present for name in values),
    "only one of them may be given",
  )
  flags.DEFINE_bool(
    "bucket_by_length",
    False,
    "Put examples of similar length into the same batch, so that less padding is computed. No use "
    "on a TPU, whose batches all have the full length.",
  )
  define_checkpoint_flags(flags)


def define_distillation_flags(flags: command_line.ScriptFlags) -> None:
  """Defines the flags of distillation, for every script that fine-tunes."""
  flags.DEFINE_string(
    "teacher_dir",
    None,
    "Finished output directory of the same script, whose model teaches the one that is trained. "
    "Vocabulary, casing and task are taken from it.",
  )
  flags.DEFINE_string(
    "student_layers",
    None,
    "Layers of the teacher, from 0, that the model begins with, such as 0,2,4; with the teacher's "
    "embeddings and head. In place of --bert_config_file and --init_checkpoint.",
  )
  flags.DEFINE_float(
    "distill_temperature",
    2.0,
    "What the logits of both models are divided by where they are compared.",
  )
  flags.register_validator(
    "distill_temperature", lambda value: 0 < value < math.inf, "must be positive and finite"
  )
  flags.DEFINE_float(
    "distill_alpha",
    0.5,
    "Share of the loss that compares the model with its teacher; the rest is the loss of the "
    "labels. With 0 the teacher does not run.",
    lower_bound=0.0,
    upper_bound=1.0,
  )
  flags.DEFINE_string(
    "teacher_cache_dir",
    None,
    "Where the teacher's logits are kept for other students of it. Default: --output_dir.",
  )


def define_checkpoint_flags(flags: command_line.ScriptFlags) -> None:
  """Defines the flags of checkpoints, seeds and progress, for every script that trains."""
  flags.DEFINE_integer(
    "save_checkpoints_steps",
    1000,
    "Steps between two checkpoints. Unless given, there is also one an epoch and every 10 minutes.",
    lower_bound=1,
  )
  flags.DEFINE_integer(
    "random_seed", 12345, "Seed of everything random: order of the examples, new weights, dropout."
  )
  flags.DEFINE_integer(
    "log_every_steps",
    50,
    "Steps between two progress lines when the output is no terminal, and the most between two "
    "points in TensorBoard. Unless given, a training has 10 lines or more.",
    lower_bound=1,
  )
  flags.DEFINE_bool(
    "overwrite_output_dir",
    False,
    "Delete what is in --output_dir and start anew. Otherwise training goes on from the last "
    "checkpoint there.",
  )
  define_evaluation_flags(flags)


def define_evaluation_flags(flags: command_line.ScriptFlags) -> None:
  """Defines the flags of evaluation during training, for every script that trains."""
  flags.DEFINE_string(
    "eval_steps",
    None,
    "Evaluate on the dev set while training, each so many steps or each `epoch`, and at the end.",
  )
  flags.register_validator(
    "eval_steps",
    lambda value: (
      value in (None, EPOCH) or (value.isascii() and value.isdigit() and int(value) > 0)
    ),
    f"must be a number of steps, or `{EPOCH}`",
  )
  flags.DEFINE_bool(
    "keep_best",
    False,
    "Keep the checkpoint with the best --best_metric in best/ of --output_dir, where evaluation "
    "and prediction take it from. Needs --eval_steps.",
  )
  flags.DEFINE_string(
    "best_metric", None, "What the evaluations are compared by. Default: the task's own metric."
  )
  flags.DEFINE_integer(
    "early_stopping_patience",
    None,
    "Stop training after so many evaluations in a row without a better one. Needs --eval_steps.",
    lower_bound=1,
  )
  flags.DEFINE_integer(
    "keep_checkpoint_max",
    5,
    "Number of the last checkpoints that are kept; 0 for all of them. Unless given, trainings of "
    "at most 1000 steps keep 2.",
    lower_bound=0,
  )


def define_device_flags(flags: command_line.ScriptFlags, loops: bool = True) -> None:
  """Defines the flags of devices; `loops` for scripts that train on a TPU in loops."""
  flags.DEFINE_bool("use_tpu", False, "Whether to run on a TPU.")
  flags.DEFINE_string(
    "tpu_name", None, "The TPU: its name, its grpc:// address, or `local` for one in this machine."
  )
  flags.DEFINE_string("tpu_zone", None, "Zone of the TPU. Default: this machine's.")
  flags.DEFINE_string("gcp_project", None, "Project of the TPU. Default: this machine's.")
  flags.DEFINE_string("master", None, "Address of a TensorFlow master to run on.")
  flags.DEFINE_integer("num_tpu_cores", 8, "Cores of the TPU.", lower_bound=1)
  if loops:
    flags.DEFINE_integer(
      "iterations_per_loop",
      1000,
      "Training steps that a TPU makes before it reports back.",
      lower_bound=1,
    )
    _define_distribution_flags(flags)


def _define_distribution_flags(flags):
  """Defines the flags of training on several devices."""
  flags.DEFINE_enum(
    "distribution_strategy",
    None,
    STRATEGIES,
    "What a training runs on. off: one GPU, or the CPU. mirrored: GPUs of this machine. "
    "multi_worker: GPUs or CPUs of all machines that TF_CONFIG names, each of which runs the same "
    "command. Evaluation and prediction take one device. Default: off, or mirrored when --num_gpus "
    "is above 1.",
  )
  flags.DEFINE_integer(
    "num_gpus",
    None,
    "GPUs to train on, in each machine. Default: all of them with --distribution_strategy=mirrored "
    "or multi_worker, and else one.",
    lower_bound=1,
  )


def num_warmup_steps(settings: command_line.Settings, num_train_steps: int) -> int:
  """Returns the steps of warm-up in a training by epochs.

  Raises:
    files.InputError: --num_warmup_steps is more than num_train_steps, those of the whole training.
  """
  steps = settings.num_warmup_steps
  if steps is None:
    return int(num_train_steps * settings.warmup_proportion)
  if steps > num_train_steps:
    raise files.InputError(
      f"--num_warmup_steps={steps} is more than the {num_train_steps} steps of the training"
    )
  return steps


def checkpoint_interval(
  settings: command_line.Settings, num_examples: int
) -> tuple[int, Optional[float]]:
  """Returns the steps, and the seconds or None, between two checkpoints.

  Args:
    settings: of the run.
    num_examples: per epoch.
  """
  if settings.is_given("save_checkpoints_steps"):
    return settings.save_checkpoints_steps, None
  epoch = max(1, num_examples // settings.train_batch_size)
  return min(settings.save_checkpoints_steps, epoch), CHECKPOINT_SECONDS


def log_interval(settings: command_line.Settings, num_steps: int) -> int:
  """Returns the steps between two lines of progress in a training of num_steps steps."""
  if settings.is_given("log_every_steps"):
    return settings.log_every_steps
  return max(1, min(settings.log_every_steps, num_steps // 10))


def num_kept_checkpoints(settings: command_line.Settings, num_steps: int) -> int:
  """Returns the number of the last checkpoints that a training keeps; 0 for all."""
  is_short = num_steps <= SHORT_STEPS and not settings.is_given("keep_checkpoint_max")
  return SHORT_KEPT if is_short else settings.keep_checkpoint_max


def evaluation_interval(settings: command_line.Settings, num_examples: int) -> int:
  """Returns the steps between two evaluations during training; --eval_steps is set."""
  if settings.eval_steps != EPOCH:
    return int(settings.eval_steps)
  return max(1, num_examples // settings.train_batch_size)
