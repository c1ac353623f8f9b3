"""The start of a run of a training script: its settings, model and devices, all checked."""

import fnmatch
import os
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, Optional

from absl import logging

import modeling
import optimization
import tokenization
from toolkit.formats import checkpoint_files, checkpoints, model_directory, model_files
from toolkit.support import command_line, files, log_output, precision, processes
from toolkit.tasks import soft_targets
from toolkit.training import distillation, distribution, estimators, micro_batches, run_flags


class Run(NamedTuple):
  """Settings and model of a run, all of it checked.

  Attributes:
    settings: with the files of --model, and the flags that the output directory remembers.
    script: the script's name without .py.
    resumed: the checkpoint in the output directory that the run goes on from, or that it evaluates
      and predicts with, or None.
    start: the checkpoint that the weights come from, None for random ones, and the flag naming it.
    devices: of the model.
    cluster: the replicas of the training.
    config: of the model.
    tokenizer: None for a run without a vocabulary.
    plan: precision of the computation.
    teacher: of the training, or None.
    layers: the teacher's layers that initialize the student; empty for a student with weights of
      its own.
    smaller_is_better: whether the best evaluation has the smallest --best_metric.
  """

  settings: command_line.Settings
  script: str
  resumed: Optional[str]
  start: tuple[Optional[str], str]
  devices: estimators.Devices
  cluster: distribution.Cluster
  config: modeling.BertConfig
  tokenizer: Optional[tokenization.FullTokenizer]
  plan: precision.Plan = precision.Plan()
  teacher: Optional[distillation.Teacher] = None
  layers: tuple[int, ...] = ()
  smaller_is_better: bool = False

  def path(self, name: str) -> str:
    """Returns the path of a file in the output directory."""
    return os.path.join(self.settings.output_dir, name)

  def label_directory(self) -> Optional[str]:
    """Returns the directory of the initial weights' label list; None for a new training."""
    if self.resumed:
      return self.settings.output_dir
    if self.settings.do_train:
      return None
    return os.path.dirname(checkpoints.resolve_checkpoint(self.settings.init_checkpoint))

  def known_labels(self) -> Optional[list[str]]:
    """Returns the labels of the initial weights in the order of their ids; None if unknown."""
    directory = self.label_directory()
    return None if directory is None else model_directory.read_labels(directory)

  def required_tokenizer(self) -> tokenization.FullTokenizer:
    """Returns the tokenizer of a run that needs a vocabulary."""
    assert self.tokenizer is not None
    return self.tokenizer

  def options(self) -> micro_batches.StepOptions:
    """Returns the options of a training step."""
    settings = self.settings
    update = optimization.Options(
      clip_norm=settings.gradient_clip_norm,
      schedule=settings.lr_schedule,
      layerwise_decay=settings.layerwise_lr_decay,
      freeze_layers=settings.freeze_layers,
      freeze_embeddings=settings.freeze_embeddings,
      loss_scale=self.plan.loss_scale(),
    )
    num_parts, recompute = settings.num_accumulation_steps, settings.recompute_activations
    return micro_batches.StepOptions(update, num_parts, recompute)

  def soft_targets(self) -> Optional[soft_targets.SoftTargets]:
    """Returns the mixture of both losses, or None for a training on labels alone."""
    if self.teacher is None or self.settings.distill_alpha == 0:
      return None
    return soft_targets.SoftTargets(self.settings.distill_temperature, self.settings.distill_alpha)

  def num_devices(self) -> int:
    """Returns the number of devices that share a batch of the training."""
    return self.settings.num_tpu_cores if self.settings.use_tpu else self.cluster.num_replicas

  def trims_padding(self) -> bool:
    """Returns whether training batches are cut to their longest sequence: not for XLA."""
    return not (self.settings.use_tpu or self.plan.xla)

  def scratch(self) -> str:
    """Returns the directory for files that only this process reads, an existing one."""
    return self.cluster.scratch(self.settings.output_dir)

  def checkpoint(self) -> str:
    """Returns the checkpoint to predict with: the best or last one, or the initial one."""
    directory = self.settings.output_dir
    return model_directory.trained_checkpoint(directory) or self.settings.init_checkpoint

  def model_arguments(
    self, num_train_steps: Optional[int] = None, num_warmup_steps: Optional[int] = None
  ) -> dict[str, Any]:
    """Returns the arguments that the model_fn_builders of all scripts have in common.

    Args:
      num_train_steps: None for evaluation and prediction.
      num_warmup_steps: default: that of a training by epochs.
    """
    settings = self.settings
    if num_train_steps and num_warmup_steps is None:
      num_warmup_steps = run_flags.num_warmup_steps(settings, num_train_steps)
    is_trained = checkpoint_files.latest(settings.output_dir) is not None
    return {
      "bert_config": self.config,
      "init_checkpoint": None if is_trained else settings.init_checkpoint,
      "learning_rate": settings.learning_rate,
      "num_train_steps": num_train_steps,
      "num_warmup_steps": num_warmup_steps,
      "use_tpu": settings.use_tpu,
      "use_one_hot_embeddings": settings.use_tpu,
      "options": self.options(),
    }


def begin(
  script_flags: command_line.ScriptFlags,
  script: str,
  needed: Sequence[str] = (),
  needs_vocab: bool = True,
  adopted: Optional[dict[str, Any]] = None,
) -> Run:
  """Sets up the process, and reads and checks what a run starts from; writes nothing.

  Args:
    script_flags: with the flags that run_flags defines.
    script: the script's name without .py.
    needed: flags that must have a value, beside the model's files.
    needs_vocab: True if the vocabulary is one of these files.
    adopted: flag name -> value, for flags that the command line does not set.

  Raises:
    files.InputError: the first thing that is missing or wrong.
    distribution.Finished: there is no training, and this process is not the chief.
  """
  processes.prepare_process()
  settings = script_flags.settings().adopt(adopted or {})
  settings.require(["output_dir"], "every run")
  for name in ("output_dir", "model", "init_checkpoint", "teacher_dir"):
    files.check_name(settings.as_dict().get(name) or "", name)
  settings, weights_flag = _adopt_files(settings, needs_vocab)
  teacher = _find_teacher(settings, script)
  if teacher:
    settings = settings.adopt(_remembered(settings, teacher.flags))
  starts_anew = settings.do_train and settings.overwrite_output_dir
  if not starts_anew:
    settings = _adopt_directory(settings, script)
  resumed = None if starts_anew else _found_checkpoint(settings)
  if not (settings.do_train or resumed or settings.init_checkpoint):
    raise files.InputError(
      f"--output_dir: {settings.output_dir} has no checkpoint to evaluate or predict with; "
      "train first, or give --init_checkpoint, or --model=DIR"
    )
  layers = ()
  if teacher:
    settings, layers = _adopt_model(settings, teacher, resumed)
  settings.require(needed, f"a directory without {model_directory.RUN_FILE}")
  _require_files(settings, resumed, needs_vocab)
  _check_inputs(settings)
  devices, cluster = _connect(settings)
  start = (settings.init_checkpoint, weights_flag)
  if resumed:
    start = (resumed, "output_dir")
  elif layers:
    start = (teacher.checkpoint, "teacher_dir")
  config, tokenizer = _load_model(settings, *start)
  if layers and not resumed:
    config = distillation.student_config(config, layers)
    settings = settings.replace(**distillation.start_paths(settings.output_dir))
  plan = precision.find(settings.amp, settings.use_xla, settings.use_tpu)
  plan.log()
  model = (config, tokenizer, plan, teacher, layers)
  run = Run(settings, script, resumed, start, devices, cluster, *model)
  if settings.do_train:
    _check_teacher(run)
    _check_freezing(run)
    _check_accumulation(run)
  return run


def _adopt_files(settings, needs_vocab):
  """Fills in the files of the directory --model that no flag of their own gives.

  Args:
    settings: of the command line.
    needs_vocab: bool, whether the directory must have a vocabulary.

  Returns:
    Settings without --model, and the flag that gives the pre-trained weights.
  """
  directory, settings = settings.model, settings.without("model")
  wanted = [name for name in model_files.FILES if not settings[name]]
  if not directory:
    return settings, "init_checkpoint"
  model_files.check_directory(directory)
  vocab_file = os.path.join(directory, model_directory.VOCAB_FILE)
  if "vocab_file" in wanted and not needs_vocab and not files.exists(vocab_file):
    wanted.remove("vocab_file")
  settings = settings.replace(**checkpoints.find_model(directory, "model", wanted))
  return settings, "model" if "init_checkpoint" in wanted else "init_checkpoint"


def _require_files(settings, resumed, needs_vocab):
  """Checks that there is a model; `resumed` is that of Run."""
  if not resumed:
    model_files.check_given(settings)
  settings.require(["bert_config_file"], f"a directory without {model_directory.CONFIG_FILE}")
  if needs_vocab:
    settings.require(["vocab_file"], f"a directory without {model_directory.VOCAB_FILE}")


def _check_inputs(settings):
  """Checks that no file to predict is one that the run would write."""
  path = settings.as_dict().get("predict_file")
  if not path or os.path.dirname(os.path.abspath(path)) != os.path.abspath(settings.output_dir):
    return
  if any(fnmatch.fnmatch(os.path.basename(path), name) for name in model_directory.WRITTEN):
    raise files.InputError(
      f"--predict_file: {path} has the name of a result in --output_dir, which would replace it; "
      "copy it to another place"
    )


def _remembered(settings, saved):
  """Returns the values of an earlier run that later runs use, a dict of flag name -> value."""
  return {name: saved[name] for name in settings.names("remembered") if name in saved}


def _connect(settings):
  """Finds the devices, and the cluster of the training; returns a pair of them."""
  devices = estimators.Devices.of(settings)
  devices.check(
    {name: settings[name] for name in ("output_dir", "init_checkpoint")},
    {name: v for name, v in settings.as_dict().items() if name.endswith("_batch_size")},
  )
  cluster = devices.cluster()
  devices.find_tpu()
  if settings.do_train:
    cluster.check_batch_size(settings.train_batch_size)
  else:
    cluster.leave()
  return devices, cluster


def _find_teacher(settings, script):
  """Returns the distillation.Teacher of a training; None without one."""
  if not settings.do_train or "teacher_dir" not in settings:
    return None
  directory = settings.teacher_dir
  if not directory:
    for name in ("student_layers", "distill_temperature", "distill_alpha", "teacher_cache_dir"):
      if settings.is_given(name):
        raise files.InputError(f"--{name} needs --teacher_dir, the directory of the teacher")
    return None
  if os.path.abspath(directory) == os.path.abspath(settings.output_dir):
    raise files.InputError(f"--teacher_dir and --output_dir are both {directory}; give two")
  return distillation.find_teacher(directory, script)


def _adopt_model(settings, teacher, resumed):
  """Fills in the files of a student; returns Settings and the teacher's layers, see Run.layers."""
  vocab_file = settings.vocab_file or teacher.path(model_directory.VOCAB_FILE)
  settings = settings.replace(vocab_file=vocab_file)
  layers = distillation.parse_layers(settings.student_layers, teacher)
  if not layers:
    if not settings.bert_config_file:
      raise files.InputError(
        "--teacher_dir: there is no student; give --student_layers, or --bert_config_file and "
        "--init_checkpoint, or --model=DIR"
      )
    return settings, ()
  for name in ("model", "bert_config_file", "init_checkpoint"):
    if settings.is_given(name):
      raise files.InputError(
        f"--student_layers and --{name}: the model begins with layers of the teacher, or with a "
        "model of its own; give one of them"
      )
  if not resumed:
    settings = settings.replace(bert_config_file=teacher.path(model_directory.CONFIG_FILE))
  return settings, layers


def _check_teacher(run):
  """Checks that the teacher's task, input and layers are the student's, if there is a teacher."""
  settings, teacher = run.settings, run.teacher
  if teacher is None:
    return
  for name in settings.names("shared"):
    its, own = teacher.flags.get(name), settings[name]
    if its not in (None, own):
      raise files.InputError(
        f"--teacher_dir: {teacher.directory} was trained with --{name}={its}, not {own}; teacher "
        "and student must have the same task and input"
      )
  teacher.check_input(run.tokenizer, settings.max_seq_length)
  if run.layers and run.config.num_hidden_layers != len(run.layers):
    raise files.InputError(
      f"--student_layers={settings.student_layers}: the model in {settings.output_dir} has "
      f"{run.config.num_hidden_layers} layers; choose another directory, or --overwrite_output_dir"
    )


def _found_checkpoint(settings):
  """Returns the last checkpoint for training, else the best one if it is kept; or None."""
  if settings.do_train:
    return checkpoint_files.newest_whole(settings.output_dir)
  found = model_directory.trained_checkpoint(settings.output_dir)
  if found:
    checkpoint_files.check_whole(found, "output_dir", _is_needed)
  return found


def _is_needed(name):
  return not checkpoints.is_training_state(name)


def _adopt_directory(settings, script):
  """Fills in the flags that a directory remembers; refuses the directory of another task."""
  directory = settings.output_dir
  saved = model_directory.load_flags(directory, script)
  model_directory.check_head(directory, script)
  for name in settings.names("identity"):
    before, now = saved.get(name), settings[name]
    if settings.is_given(name) and before not in (None, now):
      raise files.InputError(
        f"--output_dir: {directory} holds a model with --{name}={before}, not {now}; "
        "choose another directory, or --overwrite_output_dir"
      )
  settings = settings.adopt(_remembered(settings, saved))
  for name, file in (
    ("bert_config_file", model_directory.CONFIG_FILE),
    ("vocab_file", model_directory.VOCAB_FILE),
  ):
    path = os.path.join(directory, file)
    if settings[name] is None and files.exists(path):
      settings = settings.replace(**{name: path})
  return settings


def _load_model(settings, checkpoint, flag):
  """Returns configuration and tokenizer, checked against each other and the checkpoint, if any."""
  prefix = checkpoint and checkpoints.resolve_checkpoint(checkpoint, flag)
  names = ("bert_config_file", "vocab_file", "do_lower_case", "max_seq_length")
  arguments = [*(settings[name] for name in names), prefix]
  config, tokenizer = model_directory.load_model(*arguments)
  if flag == "output_dir":
    checkpoints.check_resumable(prefix, flag)
  if prefix:
    if flag != "output_dir":  # which is checked when its checkpoint is found
      checkpoint_files.check_whole(prefix, flag, _is_needed)
    checkpoints.check_checkpoint(config, prefix, flag)
  else:
    logging.warning("No --init_checkpoint: the model starts from random weights.")
  return config, tokenizer


def _check_freezing(run):
  """Checks that the model has the layers to freeze, and Adam slots of all others."""
  settings, num_layers = run.settings, run.config.num_hidden_layers
  if settings.freeze_layers > num_layers:
    raise files.InputError(
      f"--freeze_layers={settings.freeze_layers} is more than the {num_layers} layers of the "
      "model (num_hidden_layers in --bert_config_file)"
    )
  if settings.freeze_layers and not settings.freeze_embeddings:
    logging.warning(
      "--freeze_layers without --freeze_embeddings: gradients are still computed down through the "
      "frozen layers, for the embeddings"
    )
  lacking = _lacking_slots(run) if run.resumed else []
  if lacking:
    raise files.InputError(
      f"--output_dir: {run.resumed} has no Adam slots of {len(lacking)} variables to train, such "
      f"as {lacking[0]}: it was trained with more of them frozen, or stripped; give the same "
      "--freeze_layers and --freeze_embeddings, or start from it in a new directory: "
      f"--init_checkpoint={run.resumed}"
    )


def _check_accumulation(run):
  """Checks that each device's share of a batch can be divided into equal parts."""
  num_parts, batch_size = run.settings.num_accumulation_steps, run.settings.train_batch_size
  num_devices = run.num_devices()
  if num_parts > 1 and batch_size % (num_parts * num_devices):
    on_each = f" on each of {num_devices} devices" if num_devices > 1 else ""
    raise files.InputError(
      f"--num_accumulation_steps={num_parts}: --train_batch_size={batch_size} cannot be divided "
      f"into so many equal parts{on_each}; give a multiple of {num_parts * num_devices}"
    )


def _lacking_slots(run):
  """Returns the names of variables to train that have no Adam slots in the last checkpoint."""
  options = run.options().update
  saved = checkpoints.checkpoint_shapes(run.resumed, "output_dir")
  trained = [
    name
    for name in saved
    # The pooler is left out, for not all tasks train it.
    if name in model_directory.HEADS or name.startswith(("bert/embeddings/", "bert/encoder/"))
    if not name.endswith(checkpoints.SLOT_SUFFIXES) and not optimization.is_frozen(name, options)
  ]
  slots = checkpoints.SLOT_SUFFIXES
  return [name for name in trained if not all(name + slot in saved for slot in slots)]


def make_directory(run: Run) -> None:
  """Makes the output directory; a run that does not train logs to the file there from now on.

  A run that only shows a result, such as that of --text, needs no right to write there.

  Raises:
    files.InputError: it cannot be created, or not be written.
  """
  writes = any(run.settings[name] for name in ("do_train", "do_eval", "do_predict"))
  if writes or not files.is_directory(run.settings.output_dir):
    files.make_directory(run.settings.output_dir, "output_dir")
  if not run.settings.do_train:
    log_output.write_to(run.settings.output_dir)


def check_head(run: Run, variable: str, shape: list[int], what: str) -> None:
  """Checks that the weights include a trained head, when nothing trains it.

  Args:
    variable: name of the head's weights.
    shape: the shape that the task needs.
    what: description of the head, for the message.

  Raises:
    files.InputError: the checkpoint has no such head.
  """
  if run.settings.do_train and not run.resumed:
    return
  checkpoint, flag = run.start
  assert checkpoint is not None  # a run that only predicts has one
  prefix = checkpoints.resolve_checkpoint(checkpoint, flag)
  found = checkpoints.read_saved(prefix, flag).shapes.get(variable)
  if found != shape:
    raise files.InputError(
      f"--{flag}: {prefix} has no {what} ({variable} is {found}, not {shape}); train one in a new "
      "--output_dir"
    )


def num_train_steps(
  settings: command_line.Settings, num_examples: int, what: str = "examples"
) -> int:
  """Returns the steps of the whole training.

  Args:
    settings: with train_batch_size and num_train_epochs.
    num_examples: per epoch.
    what: name of the examples, for the message.

  Raises:
    files.InputError: there are none, or fewer than those of the warm-up.
  """
  batch_size, epochs = settings.train_batch_size, settings.num_train_epochs
  steps = int(num_examples / batch_size * epochs)
  if steps == 0:
    raise files.InputError(
      f"no training step: {num_examples} {what}, --num_train_epochs={epochs:g} and "
      f"--train_batch_size={batch_size}; lower the batch size"
    )
  run_flags.num_warmup_steps(settings, steps)  # raises if they are more than all steps
  return steps


def with_best_metric(run: Run, metrics: Sequence[str], smaller: Collection[str] = ("loss",)) -> Run:
  """Checks the flags of evaluation during training; the first metric is the default.

  Args:
    metrics: names of an evaluation's metrics, the task's own first.
    smaller: names of those that are better the smaller they are.

  Returns:
    The run, with a --best_metric if there is evaluation during training.

  Raises:
    files.InputError: a flag lacks another one, or names no metric.
  """
  settings = run.settings
  if settings.eval_steps is None:
    for name in ("keep_best", "early_stopping_patience", "best_metric"):
      if settings.is_given(name) and settings[name]:
        raise files.InputError(
          f"--{name} needs evaluation while training: give --eval_steps=N, or --eval_steps="
          f"{run_flags.EPOCH}"
        )
    return run
  metric = settings.best_metric or metrics[0]
  if metric not in metrics:
    raise files.InputError(
      f"--best_metric: there is no metric {metric}; choose one of {', '.join(metrics)}"
    )
  settings = settings.replace(best_metric=metric)
  return run._replace(settings=settings, smaller_is_better=metric in smaller)
