"""Flags that several scripts share, and the way each script runs its main function.

A script keeps its flags in a FlagValues of its own, so that any number of scripts can be imported
together and their defaults can be read before, or without, parsing a command line:

    FLAGS = flags.FlagValues()
    common_flags.define_model_flags(FLAGS, max_seq_length=128)
    common_flags.finish(FLAGS)
    ...
    if __name__ == "__main__":
      common_flags.run(main, FLAGS)
"""

import math
import os
import sys

from absl import app, flags, logging

from toolkit.support import files

# What --distribution_strategy may be, see distribution.py.
STRATEGIES = ("off", "mirrored", "multi_worker")

# Seconds between two checkpoints, unless their interval is given in steps.
CHECKPOINT_SECONDS = 600.0

# The value of --eval_steps that stands for as many steps as an epoch has.
EPOCH = "epoch"

# The value of flags of a threshold that stands for the one that evaluation has found.
AUTO = "auto"


class ThresholdParser(flags.ArgumentParser):
  """Parses a flag that is a number, or AUTO."""

  syntactic_help = f"a number or {AUTO}"

  def parse(self, argument):
    return AUTO if argument == AUTO else float(argument)


def define_model_flags(flag_values, max_seq_length):
  """Flags that say which model is used and where its files are."""
  flags.DEFINE_string(
    "output_dir",
    None,
    "Directory for checkpoints and results. A finished one is all that evaluation and prediction "
    "need: it holds the model's configuration, vocabulary and settings.",
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    "bert_config_file",
    None,
    "JSON file with the model's architecture (bert_config.json). Default: the one in --output_dir.",
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    "vocab_file",
    None,
    "Vocabulary, one word piece a line (vocab.txt). Default: the one in --output_dir.",
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    "init_checkpoint",
    None,
    "Pre-trained weights to start from: a checkpoint's prefix (bert_model.ckpt), its .index file, "
    "or a directory with one.",
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    "do_lower_case",
    True,
    "Whether text is lower-cased: True for uncased models, False for cased ones.",
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    "max_seq_length",
    max_seq_length,
    "Longest input in word pieces, [CLS] and [SEP] included. Longer inputs are cut.",
    lower_bound=3,
    flag_values=flag_values,
  )


def define_step_flags(flag_values):
  """Flags of every script that trains: what goes into an optimizer step."""
  # Imported here: scripts without training flags must not load TensorFlow.
  from optimization import SCHEDULES  # pylint: disable=import-outside-toplevel

  flags.DEFINE_integer(
    "train_batch_size",
    32,
    "Examples in one optimizer step, over all devices together.",
    lower_bound=1,
    flag_values=flag_values,
  )
  flags.DEFINE_float(
    "learning_rate", 5e-5, "Highest learning rate of Adam.", flag_values=flag_values
  )
  flags.register_validator(
    "learning_rate", lambda rate: rate > 0, "must be positive", flag_values=flag_values
  )
  flags.DEFINE_enum(
    "lr_schedule",
    "linear",
    list(SCHEDULES),
    "How the learning rate goes on after the warm-up: down to 0 in a straight line, not at all, or "
    "down to 0 along half a cosine.",
    flag_values=flag_values,
  )
  flags.DEFINE_float(
    "gradient_clip_norm",
    1.0,
    "Gradients whose global norm is longer are cut to it.",
    flag_values=flag_values,
  )
  flags.register_validator(
    "gradient_clip_norm",
    lambda norm: 0 < norm < math.inf,
    "must be positive and finite",
    flag_values=flag_values,
  )
  _define_layer_flags(flag_values)
  _define_hardware_flags(flag_values)


def _define_layer_flags(flag_values):
  """Flags that treat the model's layers unequally."""
  flags.DEFINE_float(
    "layerwise_lr_decay",
    1.0,
    "What the learning rate is multiplied by from a layer to the one below; heads and pooler have "
    "all of it, the embeddings the least (0.8 to 0.95 is usual in fine-tuning).",
    flag_values=flag_values,
  )
  flags.register_validator(
    "layerwise_lr_decay",
    lambda decay: 0 < decay <= 1,
    "must be above 0 and at most 1",
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    "freeze_layers",
    0,
    "How many of the encoder's layers, the lowest first, are not trained.",
    lower_bound=0,
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    "freeze_embeddings",
    False,
    "Whether the embeddings are not trained: words, positions, segments, and their LayerNorm.",
    flag_values=flag_values,
  )


def _define_hardware_flags(flag_values):
  """Flags that make a training step fit into memory, or faster; its result stays the same."""
  flags.DEFINE_integer(
    "num_accumulation_steps",
    1,
    "How many parts --train_batch_size is divided into. They are computed one after the other, in "
    "the memory of one, and their gradients are added up for one optimizer step.",
    lower_bound=1,
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    "recompute_activations",
    False,
    "Whether the backward pass computes each layer of the encoder a second time, so that its inner "
    "values need not be kept: less memory, some more time.",
    flag_values=flag_values,
  )
  define_precision_flag(flag_values)
  flags.DEFINE_bool(
    "use_xla",
    False,
    "Whether XLA compiles the training step on a GPU. Batches then have the full --max_seq_length, "
    "for each new length would be compiled anew. No gain on a CPU.",
    flag_values=flag_values,
  )


def define_precision_flag(flag_values):
  """The flag of every script that runs a model: in which precision."""
  flags.DEFINE_bool(
    "amp",
    False,
    "Mixed precision: float16 on GPUs with compute capability 7.0 or more, bfloat16 on CPUs that "
    "are faster with it. Elsewhere it is off, and a line says why. Weights and checkpoints stay in "
    "float32, and so do softmax and losses.",
    flag_values=flag_values,
  )


def define_training_flags(flag_values):
  """Flags of every script that fine-tunes by epochs."""
  define_step_flags(flag_values)
  flags.DEFINE_float(
    "num_train_epochs", 3.0, "How often the training set is gone through.", flag_values=flag_values
  )
  flags.register_validator(
    "num_train_epochs", lambda epochs: epochs > 0, "must be positive", flag_values=flag_values
  )
  flags.DEFINE_float(
    "warmup_proportion",
    0.1,
    "Share of the training steps in which the learning rate rises from 0 (0.1 = a tenth).",
    lower_bound=0.0,
    upper_bound=1.0,
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    "num_warmup_steps",
    None,
    "The same as a number of steps, in place of --warmup_proportion.",
    lower_bound=0,
    flag_values=flag_values,
  )
  flags.register_multi_flags_validator(
    ["warmup_proportion", "num_warmup_steps"],
    lambda values: not all(flag_values[name].present for name in values),
    "only one of them may be given",
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    "bucket_by_length",
    False,
    "Put examples of similar length into the same batch, so that less padding is computed. No use "
    "on a TPU, whose batches all have the full length.",
    flag_values=flag_values,
  )
  define_checkpoint_flags(flag_values)


def define_distillation_flags(flag_values):
  """Flags of every script that fine-tunes: what a model learns from a trained one."""
  flags.DEFINE_string(
    "teacher_dir",
    None,
    "Finished output directory of the same script, whose model teaches the one that is trained. "
    "Vocabulary, casing and task are taken from it.",
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    "student_layers",
    None,
    "Layers of the teacher, from 0, that the model begins with, such as 0,2,4; with the teacher's "
    "embeddings and head. In place of --bert_config_file and --init_checkpoint.",
    flag_values=flag_values,
  )
  flags.DEFINE_float(
    "distill_temperature",
    2.0,
    "What the logits of both models are divided by where they are compared.",
    flag_values=flag_values,
  )
  flags.register_validator(
    "distill_temperature",
    lambda temperature: 0 < temperature < math.inf,
    "must be positive and finite",
    flag_values=flag_values,
  )
  flags.DEFINE_float(
    "distill_alpha",
    0.5,
    "Share of the loss that compares the model with its teacher; the rest is the loss of the "
    "labels. With 0 the teacher does not run.",
    lower_bound=0.0,
    upper_bound=1.0,
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    "teacher_cache_dir",
    None,
    "Where the teacher's logits are kept for other students of it. Default: --output_dir.",
    flag_values=flag_values,
  )


def define_checkpoint_flags(flag_values):
  """Flags of every script that trains: checkpoints, seeds and progress."""
  flags.DEFINE_integer(
    "save_checkpoints_steps",
    1000,
    "Steps between two checkpoints. Unless given, there is also one an epoch and every 10 minutes.",
    lower_bound=1,
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    "random_seed",
    12345,
    "Seed of everything random: order of the examples, new weights, dropout.",
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    "log_every_steps",
    50,
    "Steps between two progress lines when the output is no terminal, and between two points in "
    "TensorBoard.",
    lower_bound=1,
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    "overwrite_output_dir",
    False,
    "Delete what is in --output_dir and start anew. Otherwise training goes on from the last "
    "checkpoint there.",
    flag_values=flag_values,
  )
  define_evaluation_flags(flag_values)


def define_evaluation_flags(flag_values):
  """Flags of every script that trains: evaluation meanwhile, and what follows from it."""
  flags.DEFINE_string(
    "eval_steps",
    None,
    "Evaluate on the dev set while training, each so many steps or each `epoch`, and at the end.",
    flag_values=flag_values,
  )
  flags.register_validator(
    "eval_steps",
    lambda value: value in (None, EPOCH) or (value.isdigit() and int(value) > 0),
    f"must be a number of steps, or `{EPOCH}`",
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    "keep_best",
    False,
    "Keep the checkpoint with the best --best_metric in best/ of --output_dir, where evaluation "
    "and prediction take it from. Needs --eval_steps.",
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    "best_metric",
    None,
    "What the evaluations are compared by. Default: the task's own metric.",
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    "early_stopping_patience",
    None,
    "Stop training after so many evaluations in a row without a better one. Needs --eval_steps.",
    lower_bound=1,
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    "keep_checkpoint_max",
    5,
    "How many of the last checkpoints are kept; 0 for all of them.",
    lower_bound=0,
    flag_values=flag_values,
  )


def define_device_flags(flag_values, loops=True):
  """Flags that say where the model runs; `loops` for scripts that train on a TPU in loops."""
  flags.DEFINE_bool("use_tpu", False, "Whether to run on a TPU.", flag_values=flag_values)
  flags.DEFINE_string(
    "tpu_name",
    None,
    "The TPU: its name, its grpc:// address, or `local` for one in this machine.",
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    "tpu_zone", None, "Zone of the TPU. Default: this machine's.", flag_values=flag_values
  )
  flags.DEFINE_string(
    "gcp_project", None, "Project of the TPU. Default: this machine's.", flag_values=flag_values
  )
  flags.DEFINE_string(
    "master", None, "Address of a TensorFlow master to run on.", flag_values=flag_values
  )
  flags.DEFINE_integer(
    "num_tpu_cores", 8, "Cores of the TPU.", lower_bound=1, flag_values=flag_values
  )
  if loops:
    flags.DEFINE_integer(
      "iterations_per_loop",
      1000,
      "Training steps that a TPU makes before it reports back.",
      lower_bound=1,
      flag_values=flag_values,
    )
    _define_distribution_flags(flag_values)


def _define_distribution_flags(flag_values):
  """Flags that spread a training over several devices."""
  flags.DEFINE_enum(
    "distribution_strategy",
    None,
    STRATEGIES,
    "What a training runs on. off: one GPU, or the CPU. mirrored: GPUs of this machine. "
    "multi_worker: GPUs or CPUs of all machines that TF_CONFIG names, each of which runs the same "
    "command. Evaluation and prediction take one device. Default: off, or mirrored when --num_gpus "
    "is above 1.",
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    "num_gpus",
    None,
    "GPUs to train on, in each machine. Default: all of them with --distribution_strategy=mirrored "
    "or multi_worker, and else one.",
    lower_bound=1,
    flag_values=flag_values,
  )


def finish(flag_values):
  """Ends a script's flag definitions: adds --help and makes the defaults readable."""
  flags.DEFINE_bool("help", False, "Show this help.", short_name="h", flag_values=flag_values)
  flag_values.mark_as_parsed()


def parse(flag_values, arguments):
  """Sets all flags from a command line; those it does not name get their defaults.

  Args:
    flag_values: the script's FlagValues.
    arguments: list of str, without the program's name.

  Raises:
    files.InputError: an unknown flag, a value that is not allowed, or an argument that is no flag.
  """
  flag_values.unparse_flags()
  for name in flag_values:
    flag_values[name].unparse()
  try:
    rest = flag_values(["", *arguments])[1:]
  except flags.Error as error:
    raise files.InputError(str(error).replace("\n", " ")) from error
  finally:
    flag_values.mark_as_parsed()
  if rest:
    raise files.InputError(f"{rest[0]!r} is not a flag; flags are written --name=value")


def adopt(flag_values, saved, names):
  """Gives flags that the command line did not set the values of an earlier run.

  Args:
    flag_values: the script's FlagValues.
    saved: dict of flag name -> value.
    names: the flags that may be adopted.
  """
  for name in names:
    if name in saved and not flag_values[name].present:
      flag_values[name].value = saved[name]


def require(flag_values, names, purpose):
  """Makes sure that flags have values.

  Raises:
    files.InputError: names the first flag that has none.
  """
  for name in names:
    if flag_values[name].value in (None, ""):
      raise files.InputError(f"--{name} is missing: {purpose} needs it")


def device_settings(flag_values):
  """The flags of define_device_flags as a dict, for estimators.Devices."""
  names = (
    "use_tpu",
    "tpu_name",
    "tpu_zone",
    "gcp_project",
    "master",
    "num_tpu_cores",
    "iterations_per_loop",
    "distribution_strategy",
    "num_gpus",
  )
  return {name: flag_values[name].value for name in names if name in flag_values}


def step_settings(flag_values):
  """Reads the flags of optimization.Options: a dict of all fields but loss_scale."""
  names = {
    "clip_norm": "gradient_clip_norm",
    "schedule": "lr_schedule",
    "layerwise_decay": "layerwise_lr_decay",
    "freeze_layers": "freeze_layers",
    "freeze_embeddings": "freeze_embeddings",
  }
  return {name: flag_values[flag].value for name, flag in names.items()}


def num_warmup_steps(flag_values, num_train_steps):
  """Steps of warm-up in a training by epochs.

  Args:
    flag_values: FlagValues with those of define_training_flags.
    num_train_steps: int, steps of the whole training.

  Raises:
    files.InputError: --num_warmup_steps is more than all steps.
  """
  steps = flag_values["num_warmup_steps"].value
  if steps is None:
    return int(num_train_steps * flag_values["warmup_proportion"].value)
  if steps > num_train_steps:
    raise files.InputError(
      f"--num_warmup_steps={steps} is more than the {num_train_steps} steps of the training"
    )
  return steps


def checkpoint_interval(flag_values, num_examples):
  """How often to save: a pair of steps, and seconds or None.

  Args:
    flag_values: the script's FlagValues.
    num_examples: int, examples in an epoch.
  """
  steps = flag_values["save_checkpoints_steps"]
  if steps.present:
    return steps.value, None
  epoch = max(1, num_examples // flag_values["train_batch_size"].value)
  return min(steps.value, epoch), CHECKPOINT_SECONDS


def evaluation_interval(flag_values, num_examples):
  """Steps between two evaluations while training.

  Args:
    flag_values: the script's FlagValues, with --eval_steps set.
    num_examples: int, examples in an epoch.
  """
  steps = flag_values["eval_steps"].value
  if steps != EPOCH:
    return int(steps)
  return max(1, num_examples // flag_values["train_batch_size"].value)


def values(flag_values):
  """All flags but --help as a dict of name -> value."""
  return {name: flag_values[name].value for name in flag_values if name not in ("help", "h")}


def run(main, flag_values):
  """Parses the command line and runs `main`, ending the process with its exit status.

  A files.InputError becomes one line and status 1; Ctrl-C status 130.
  """
  script = os.path.basename(sys.argv[0])

  def parser(argv):
    flags.FLAGS(argv[:1])  # absl's own flags, for logging, keep their defaults
    parse(flag_values, argv[1:])
    if flag_values["help"].value:
      print(f"{sys.modules['__main__'].__doc__}\nflags:\n{flag_values.get_help()}")
      sys.exit(0)
    return argv[:1]

  def guarded(argv):
    logging.set_stderrthreshold("info")
    return main(argv)

  try:
    app.run(guarded, flags_parser=parser)
  except files.InputError as error:
    sys.exit(f"{script}: error: {error}")
  except KeyboardInterrupt:
    sys.exit(130)
