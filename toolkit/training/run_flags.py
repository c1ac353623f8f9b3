"""Flags that several scripts share, and the settings that follow from them."""

import functools
import math
from collections.abc import Sequence
from typing import Optional

import optimization
from toolkit.serving import engines
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
    "Directory for checkpoints and results. Later evaluation and prediction need only a finished "
    "one: it has the model's configuration, vocabulary and settings.",
    group="essential",
  )
  flags.DEFINE_string(
    "model",
    None,
    "Directory of a pre-trained model: bert_config.json, vocab.txt and a checkpoint, such as "
    "bert_model.ckpt. A finished --output_dir is one, too. It stands for --bert_config_file, "
    "--vocab_file and --init_checkpoint, each of which overrides its part.",
    group="essential",
  )
  define_model_files(flags, "Default: the one in --model, or in --output_dir.")
  flags.DEFINE_bool(
    "do_lower_case",
    True,
    "Lower-case the text. Right for uncased models; --nodo_lower_case is for cased ones.",
    remembered=True,
    shared=True,
    group="model",
  )
  flags.DEFINE_integer(
    "max_seq_length",
    max_seq_length,
    "Longest input in word pieces, [CLS] and [SEP] included. Longer inputs are cut.",
    lower_bound=3,
    remembered=True,
    group="model",
  )


def define_model_files(flags: command_line.ScriptFlags, default: str) -> None:
  """Defines the flags of the single files of a model; `default` is a sentence for their help."""
  flags.DEFINE_string(
    "bert_config_file",
    None,
    f"JSON file with the model's architecture (bert_config.json). {default}",
    group="model",
  )
  flags.DEFINE_string(
    "vocab_file", None, f"Vocabulary, one word piece per line (vocab.txt). {default}", group="model"
  )
  flags.DEFINE_string(
    "init_checkpoint",
    None,
    "Pre-trained weights: the prefix of a checkpoint (bert_model.ckpt), its .index file, or a "
    "directory with one. Default: those in --model.",
    group="model",
  )


def define_step_flags(flags: command_line.ScriptFlags) -> None:
  """Defines the flags of an optimizer step, for every script that trains."""
  flags.DEFINE_integer(
    "train_batch_size",
    32,
    "Examples per optimizer step, over all devices together.",
    lower_bound=1,
    group="essential",
  )
  flags.DEFINE_float(
    "learning_rate", 5e-5, "Learning rate of Adam after the warm-up.", group="essential"
  )
  flags.register_validator("learning_rate", lambda rate: 0 < rate < math.inf, "must be positive")
  flags.DEFINE_enum(
    "lr_schedule",
    "linear",
    list(optimization.SCHEDULES),
    "Learning rate after the warm-up: linear decay to 0, constant, or cosine decay to 0.",
    group="training",
  )
  flags.DEFINE_float(
    "gradient_clip_norm",
    1.0,
    "Maximum global norm of the gradients. Larger ones are scaled down to it.",
    group="training",
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
    "Factor of the learning rate from each layer to the one below. Heads and pooler have the full "
    "rate, the embeddings the smallest. Usual in fine-tuning: 0.8 to 0.95.",
    group="training",
  )
  flags.register_validator(
    "layerwise_lr_decay", lambda decay: 0 < decay <= 1, "must be above 0 and at most 1"
  )
  flags.DEFINE_integer(
    "freeze_layers",
    0,
    "Number of encoder layers that are not trained, from the lowest up.",
    lower_bound=0,
    group="training",
  )
  flags.DEFINE_bool(
    "freeze_embeddings",
    False,
    "Do not train the embeddings of words, positions and segments, and their LayerNorm.",
    group="training",
  )


def _define_hardware_flags(flags):
  """Defines the flags that save memory or time in a step, with the same result."""
  flags.DEFINE_integer(
    "num_accumulation_steps",
    1,
    "Number of parts of a batch. They run one after the other, in the memory of one part. Their "
    "gradients are added up for one optimizer step over --train_batch_size examples.",
    lower_bound=1,
    group="speed and memory",
  )
  flags.DEFINE_bool(
    "recompute_activations",
    False,
    "Compute each encoder layer again in the backward pass, and do not store its activations. "
    "Takes less memory and more time.",
    group="speed and memory",
  )
  define_precision_flag(flags)
  flags.DEFINE_bool(
    "use_xla",
    False,
    "Compile the training step with XLA on a GPU. All batches then have the full "
    "--max_seq_length, as each new length would be compiled anew. No gain on a CPU.",
    group="speed and memory",
  )


def define_precision_flag(flags: command_line.ScriptFlags) -> None:
  """Defines the flag of mixed precision, for every script that runs a model."""
  flags.DEFINE_bool(
    "amp",
    False,
    "Mixed precision: float16 on GPUs of compute capability 7.0 and higher, bfloat16 on CPUs that "
    "are faster with it. Elsewhere it is off, and a log line gives the reason. Weights, "
    "checkpoints, softmax and losses stay in float32.",
    group="speed and memory",
  )


def define_engine_flag(flags: command_line.ScriptFlags, default: str = engines.AUTO) -> None:
  """Defines --engine, for scripts that load a trained model once."""
  flags.DEFINE_enum(
    "engine",
    default,
    engines.ENGINES,
    "Engine of the loaded model, where no --do_... flag runs it. auto: ONNX Runtime where it is "
    "installed and there is no GPU, else TensorFlow.",
    group="speed and memory",
  )


def define_fine_tuning_flags(flags: command_line.ScriptFlags, max_seq_length: int) -> None:
  """Defines all flags that the scripts which fine-tune have in common."""
  define_model_flags(flags, max_seq_length)
  define_training_flags(flags)
  define_distillation_flags(flags)
  define_device_flags(flags)
  define_engine_flag(flags)


def define_training_flags(flags: command_line.ScriptFlags) -> None:
  """Defines the flags of every script that fine-tunes by epochs."""
  define_step_flags(flags)
  flags.DEFINE_float(
    "num_train_epochs", 3.0, "Passes over the training set; may be a fraction.", group="essential"
  )
  flags.register_validator(
    "num_train_epochs", lambda epochs: 0 < epochs < math.inf, "must be positive"
  )
  flags.DEFINE_float(
    "warmup_proportion",
    0.1,
    "Warm-up as a fraction of the training steps. The learning rate rises from 0 during it.",
    lower_bound=0.0,
    upper_bound=1.0,
    group="training",
  )
  flags.DEFINE_integer(
    "num_warmup_steps",
    None,
    "Steps of the warm-up. Default: by --warmup_proportion.",
    lower_bound=0,
    group="training",
  )
  flags.register_multi_flags_validator(
    ["warmup_proportion", "num_warmup_steps"],
    lambda values: not all(flags.FLAGS[name].present for name in values),
    "only one of them may be given",
  )
  flags.DEFINE_bool(
    "bucket_by_length",
    False,
    "Put examples of similar length into the same batch, which saves padding. No gain on a TPU, "
    "where all batches have the full length.",
    group="speed and memory",
  )
  define_checkpoint_flags(flags)


def define_distillation_flags(flags: command_line.ScriptFlags) -> None:
  """Defines the flags of distillation, for every script that fine-tunes."""
  flags.DEFINE_string(
    "teacher_dir",
    None,
    "Teacher of a distillation: a finished --output_dir of the same script. Vocabulary, casing "
    "and task are taken from it.",
    group="distillation",
  )
  flags.DEFINE_string(
    "student_layers",
    None,
    "Teacher layers that initialize the student, from 0 and comma-separated, such as 0,2,4. Its "
    "embeddings and head are copied, too. In place of a pre-trained model.",
    group="distillation",
  )
  flags.DEFINE_float(
    "distill_temperature",
    2.0,
    "Temperature: divisor of both models' logits in the distillation loss.",
    group="distillation",
  )
  flags.register_validator(
    "distill_temperature", lambda value: 0 < value < math.inf, "must be positive and finite"
  )
  flags.DEFINE_float(
    "distill_alpha",
    0.5,
    "Weight of the distillation loss. The loss on the labels has the weight 1-alpha. With 0 the "
    "teacher does not run.",
    lower_bound=0.0,
    upper_bound=1.0,
    group="distillation",
  )
  flags.DEFINE_string(
    "teacher_cache_dir",
    None,
    "Directory for the teacher's logits, which other students can use. Default: --output_dir.",
    group="distillation",
  )


def define_checkpoint_flags(flags: command_line.ScriptFlags) -> None:
  """Defines the flags of checkpoints, seeds and progress, for every script that trains."""
  flags.DEFINE_integer(
    "save_checkpoints_steps",
    1000,
    "Steps between two checkpoints. Unless it is given, there is also one per epoch and one every "
    "10 minutes.",
    lower_bound=1,
    group="training",
  )
  flags.DEFINE_integer(
    "random_seed",
    12345,
    "Random seed of the order of examples, new weights and dropout.",
    group="training",
  )
  flags.DEFINE_integer(
    "log_every_steps",
    50,
    "Steps between two progress lines if stderr is not a terminal, and the most between two points "
    "in TensorBoard. Unless given, a training has 10 lines or more.",
    lower_bound=1,
    group="training",
  )
  flags.DEFINE_bool(
    "overwrite_output_dir",
    False,
    "Delete the results of earlier runs in --output_dir and start anew. By default training "
    "continues from the last checkpoint there.",
    group="training",
  )
  define_evaluation_flags(flags)


def define_evaluation_flags(flags: command_line.ScriptFlags) -> None:
  """Defines the flags of evaluation during training, for every script that trains."""
  flags.DEFINE_string(
    "eval_steps",
    None,
    f"Evaluate on the dev set during training, every so many steps or every `{EPOCH}`, and at the "
    "end.",
    group="evaluation",
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
    "Keep the checkpoint with the best --best_metric in best/ of --output_dir. Evaluation and "
    "prediction use it. Needs --eval_steps.",
    group="evaluation",
  )
  flags.DEFINE_string(
    "best_metric",
    None,
    "Metric that compares the evaluations. Default: the task's main metric.",
    group="evaluation",
  )
  flags.DEFINE_integer(
    "early_stopping_patience",
    None,
    "Stop training after so many evaluations in a row without improvement. Needs --eval_steps.",
    lower_bound=1,
    group="evaluation",
  )
  flags.DEFINE_integer(
    "keep_checkpoint_max",
    5,
    "Number of last checkpoints to keep; 0 keeps all of them. Unless given, trainings of at most "
    "1000 steps keep 2.",
    lower_bound=0,
    group="training",
  )


def define_batch_flags(flags: command_line.ScriptFlags, unit: str, modes: Sequence[str]) -> None:
  """Defines the batch sizes of evaluation and prediction.

  Args:
    flags: of the script.
    unit: the members of a batch, such as "Examples".
    modes: of "eval" and "predict".
  """
  names = {"eval": "evaluation", "predict": "prediction"}
  for mode in modes:
    flags.DEFINE_integer(
      f"{mode}_batch_size",
      8,
      f"{unit} per batch of {names[mode]}.",
      lower_bound=1,
      group="speed and memory",
    )


def define_device_flags(flags: command_line.ScriptFlags, loops: bool = True) -> None:
  """Defines the flags of devices; `loops` for scripts that train on a TPU in loops."""
  define = functools.partial(flags.DEFINE_string, group="devices")
  flags.DEFINE_bool("use_tpu", False, "Run on a TPU.", group="devices")
  define("tpu_name", None, "Name or grpc:// address of the TPU; `local` for one in this machine.")
  define("tpu_zone", None, "Zone of the TPU. Default: that of this machine.")
  define("gcp_project", None, "Google Cloud project of the TPU. Default: that of this machine.")
  define("master", None, "Address of a TensorFlow master to run on.")
  flags.DEFINE_integer("num_tpu_cores", 8, "Cores of the TPU.", lower_bound=1, group="devices")
  if loops:
    flags.DEFINE_integer(
      "iterations_per_loop",
      1000,
      "Training steps per call of the TPU.",
      lower_bound=1,
      group="devices",
    )
    _define_distribution_flags(flags)


def _define_distribution_flags(flags):
  """Defines the flags of training on several devices."""
  flags.DEFINE_enum(
    "distribution_strategy",
    None,
    STRATEGIES,
    "Devices of a training. off: one GPU, or the CPU. mirrored: GPUs of this machine. "
    "multi_worker: GPUs or CPUs of all machines in TF_CONFIG, each of which runs the same command. "
    "Evaluation and prediction run on one device. Default: off, or mirrored if --num_gpus is "
    "above 1.",
    group="devices",
  )
  flags.DEFINE_integer(
    "num_gpus",
    None,
    "GPUs per machine to train on. Default: all of them with --distribution_strategy=mirrored or "
    "multi_worker, otherwise one.",
    lower_bound=1,
    group="devices",
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
