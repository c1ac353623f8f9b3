"""One run of a script that trains: where it starts, what its directory knows, and how it goes on.

begin            checks the flags that all such scripts share and loads the model's description
open_directory   makes the output directory ready for training, or finds the training done
ask_teacher      adds what a teacher says to the training records
fine_tune        trains by epochs, from the last checkpoint
predict          runs the model over records
check_finite     refuses the outputs of a broken model
"""

import os
from typing import NamedTuple, Optional

import numpy as np
import tensorflow.compat.v1 as tf
from absl import flags, logging

import modeling
import optimization
import tokenization
from toolkit.formats import model_directory
from toolkit.records import input_pipeline
from toolkit.support import files
from toolkit.training import (
  common_flags,
  distillation,
  distribution,
  estimators,
  history,
  hooks,
  micro_batches,
  precision,
)


class Run(NamedTuple):
  """What a run starts from, all of it checked.

  Attributes:
    flags: the script's FlagValues.
    script: str, its name without .py.
    resumed: str or None, the checkpoint in the output directory that the run goes on from, or that
      it evaluates and predicts with.
    start: pair of the checkpoint that the weights come from, str or None, and the flag naming it.
    devices: estimators.Devices.
    cluster: distribution.Cluster that the training runs on.
    config: modeling.BertConfig.
    tokenizer: tokenization.FullTokenizer, None for a run without a vocabulary.
    plan: precision.Plan.
    teacher: distillation.Teacher of the training, or None.
    layers: tuple of int, the teacher's layers that the model begins with; empty if it begins with
      no part of the teacher.
  """

  flags: flags.FlagValues
  script: str
  resumed: Optional[str]
  start: tuple
  devices: estimators.Devices
  cluster: distribution.Cluster
  config: modeling.BertConfig
  tokenizer: Optional[tokenization.FullTokenizer]
  plan: precision.Plan = precision.Plan()
  teacher: Optional[distillation.Teacher] = None
  layers: tuple = ()

  def options(self):
    """micro_batches.StepOptions of the training."""
    settings = common_flags.step_settings(self.flags)
    update = optimization.Options(**settings, loss_scale=self.plan.loss_scale())
    num_parts, recompute = self.flags.num_accumulation_steps, self.flags.recompute_activations
    return micro_batches.StepOptions(update, num_parts, recompute)

  def soft_targets(self):
    """distillation.SoftTargets of the training, or None if the labels are all that it learns."""
    if self.teacher is None or self.flags.distill_alpha == 0:
      return None
    return distillation.SoftTargets(self.flags.distill_temperature, self.flags.distill_alpha)

  def num_devices(self):
    """int, among how many a batch of the training is divided."""
    return self.flags.num_tpu_cores if self.flags.use_tpu else self.cluster.num_replicas

  def trims_padding(self):
    """Whether batches of the training are cut to their longest sequence: XLA wants one shape."""
    return not (self.flags.use_tpu or self.plan.xla)

  def scratch(self):
    """str, the directory for files that only this process reads, an existing one."""
    return self.cluster.scratch(self.flags.output_dir)


def begin(flag_values, script, adopted, identity=(), needed=(), needs_vocab=True, taught=()):
  """Reads and checks what a run starts from; writes nothing.

  Args:
    flag_values: the script's FlagValues, with those of common_flags' define functions.
    script: str, its name without .py.
    adopted: flags that a finished directory gives when the command line does not.
    identity: those of them that tell one kind of model from another: two values are an error.
    needed: flags that must have a value, beside the model's files.
    needs_vocab: bool, whether the vocabulary is one of these files.
    taught: those of `adopted` in which a teacher and its student are the same.

  Returns:
    Run.

  Raises:
    files.InputError: the first thing that is missing or wrong.
    distribution.Finished: there is no training, and this process is not the chief.
  """
  common_flags.require(flag_values, ["output_dir"], "every run")
  teacher = _find_teacher(flag_values, script, adopted)
  starts_anew = flag_values.do_train and flag_values.overwrite_output_dir
  if not starts_anew:
    _take_over_flags(flag_values, script, adopted, identity)
  resumed = None if starts_anew else _found_checkpoint(flag_values)
  if not (flag_values.do_train or resumed or flag_values.init_checkpoint):
    raise files.InputError(
      f"--output_dir: {flag_values.output_dir} has no checkpoint to evaluate or predict with; "
      "train first, or give --init_checkpoint"
    )
  layers = _take_over_model(flag_values, teacher, resumed) if teacher else ()
  purpose = f"a directory without {model_directory.RUN_FILE}"
  model_files = ["bert_config_file", "vocab_file"] if needs_vocab else ["bert_config_file"]
  common_flags.require(flag_values, [*needed, *model_files], purpose)
  devices = estimators.Devices(**common_flags.device_settings(flag_values))
  devices.check(
    {name: flag_values[name].value for name in ("output_dir", "init_checkpoint")},
    {name: flag_values[name].value for name in flag_values if name.endswith("_batch_size")},
  )
  cluster = devices.cluster()
  devices.find_tpu()
  if flag_values.do_train:
    cluster.check_batch_size(flag_values.train_batch_size)
  else:
    cluster.leave()
  start = (flag_values.init_checkpoint, "init_checkpoint")
  if resumed:
    start = (resumed, "output_dir")
  elif layers:
    start = (teacher.checkpoint, "teacher_dir")
  config, tokenizer = _load_model(flag_values, *start)
  if layers and not resumed:
    config = distillation.student_config(config, layers)
  plan = precision.find(flag_values.amp, flag_values.use_xla, flag_values.use_tpu)
  run = Run(flag_values, script, resumed, start, devices, cluster, config, tokenizer, plan)
  plan.log()
  if not flag_values.do_train:
    return run
  if teacher:
    run = run._replace(teacher=teacher, layers=layers)
    _check_teacher(run, taught)
  _check_freezing(run)
  _check_accumulation(run)
  return run


def _find_teacher(flag_values, script, adopted):
  """distillation.Teacher of a training, whose task the flags take over; None without one."""
  if not flag_values.do_train or "teacher_dir" not in flag_values:
    return None
  directory = flag_values.teacher_dir
  if not directory:
    for name in ("student_layers", "distill_temperature", "distill_alpha", "teacher_cache_dir"):
      if flag_values[name].present:
        raise files.InputError(f"--{name} needs --teacher_dir, the directory of the teacher")
    return None
  if os.path.abspath(directory) == os.path.abspath(flag_values.output_dir):
    raise files.InputError(f"--teacher_dir and --output_dir are both {directory}; give two")
  teacher = distillation.find_teacher(directory, script)
  common_flags.adopt(flag_values, teacher.flags, adopted)
  return teacher


def _take_over_model(flag_values, teacher, resumed):
  """Fills in the flags of a student's files; returns the layers of the teacher it begins with."""
  vocab = teacher.path(model_directory.VOCAB_FILE)
  flag_values["vocab_file"].value = flag_values.vocab_file or vocab
  layers = distillation.parse_layers(flag_values.student_layers, teacher)
  if not layers:
    if not flag_values.bert_config_file:
      raise files.InputError(
        "--teacher_dir: there is no student; give --student_layers, or --bert_config_file and "
        "--init_checkpoint"
      )
    return ()
  for name in ("bert_config_file", "init_checkpoint"):
    if flag_values[name].present:
      raise files.InputError(
        f"--student_layers and --{name}: the model begins with layers of the teacher, or with a "
        "model of its own; give one of them"
      )
  if not resumed:
    flag_values["bert_config_file"].value = teacher.path(model_directory.CONFIG_FILE)
  return layers


def _check_teacher(run, taught):
  """Makes sure that the teacher's task, input and layers are the student's."""
  flag_values, teacher = run.flags, run.teacher
  for name in ("do_lower_case", *taught):
    its, own = teacher.flags.get(name), flag_values[name].value
    if its not in (None, own):
      raise files.InputError(
        f"--teacher_dir: {teacher.directory} was trained with --{name}={its}, not {own}; teacher "
        "and student must have the same task and input"
      )
  teacher.check_input(run.tokenizer, flag_values.max_seq_length)
  if run.layers and run.config.num_hidden_layers != len(run.layers):
    raise files.InputError(
      f"--student_layers={flag_values.student_layers}: the model in {flag_values.output_dir} has "
      f"{run.config.num_hidden_layers} layers; choose another directory, or --overwrite_output_dir"
    )


def _found_checkpoint(flag_values):
  """Training goes on from the last checkpoint; everything else uses the best one, if it is kept."""
  if flag_values.do_train:
    return tf.train.latest_checkpoint(flag_values.output_dir)
  return model_directory.trained_checkpoint(flag_values.output_dir)


def _take_over_flags(flag_values, script, adopted, identity):
  """Fills in the flags that a finished directory knows, and refuses another task's directory."""
  directory = flag_values.output_dir
  saved = model_directory.load_flags(directory, script)
  model_directory.check_head(directory, script)
  for name in identity:
    before, now = saved.get(name), flag_values[name].value
    if flag_values[name].present and before not in (None, now):
      raise files.InputError(
        f"--output_dir: {directory} holds a model with --{name}={before}, not {now}; "
        "choose another directory, or --overwrite_output_dir"
      )
  common_flags.adopt(flag_values, saved, adopted)
  for name, file in (
    ("bert_config_file", model_directory.CONFIG_FILE),
    ("vocab_file", model_directory.VOCAB_FILE),
  ):
    path = os.path.join(directory, file)
    if flag_values[name].value is None and files.exists(path):
      flag_values[name].value = path


def _load_model(flag_values, checkpoint, flag):
  """Configuration and tokenizer, which fit together and to the checkpoint to start from, if any."""
  prefix = checkpoint and estimators.resolve_checkpoint(checkpoint, flag)
  config, tokenizer = model_directory.load_model(
    flag_values.bert_config_file,
    flag_values.vocab_file,
    flag_values.do_lower_case,
    flag_values.max_seq_length,
    prefix,
  )
  if prefix:
    estimators.check_checkpoint(config, prefix, flag)
  else:
    logging.warning("No --init_checkpoint: the model starts from random weights.")
  return config, tokenizer


def _check_freezing(run):
  """Makes sure that the model has the layers to freeze, and that the others can be trained on."""
  flag_values, num_layers = run.flags, run.config.num_hidden_layers
  if flag_values.freeze_layers > num_layers:
    raise files.InputError(
      f"--freeze_layers={flag_values.freeze_layers} is more than the {num_layers} layers of the "
      "model (num_hidden_layers in --bert_config_file)"
    )
  if flag_values.freeze_layers and not flag_values.freeze_embeddings:
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
  """Makes sure that each device's share of a batch can be divided into equal parts."""
  num_parts, batch_size = run.flags.num_accumulation_steps, run.flags.train_batch_size
  num_devices = run.num_devices()
  if num_parts > 1 and batch_size % (num_parts * num_devices):
    on_each = f" on each of {num_devices} devices" if num_devices > 1 else ""
    raise files.InputError(
      f"--num_accumulation_steps={num_parts}: --train_batch_size={batch_size} cannot be divided "
      f"into so many equal parts{on_each}; give a multiple of {num_parts * num_devices}"
    )


def _lacking_slots(run):
  """Names of variables that are to be trained and have no slots in the last checkpoint."""
  options = run.options().update
  saved = estimators.checkpoint_shapes(run.resumed, "output_dir")
  trained = [
    name
    for name in saved
    # The pooler is left out, for not all tasks train it.
    if name in model_directory.HEADS or name.startswith(("bert/embeddings/", "bert/encoder/"))
    if not name.endswith(estimators.SLOT_SUFFIXES) and not optimization.is_frozen(name, options)
  ]
  slots = estimators.SLOT_SUFFIXES
  return [name for name in trained if not all(name + slot in saved for slot in slots)]


def check_head(run, variable, shape, what):
  """Makes sure that the weights include a trained head, when nothing trains it.

  Args:
    run: Run.
    variable: str, the head's weights.
    shape: list of int, the shape that the task needs.
    what: str, what the head is, for the message.

  Raises:
    files.InputError: the checkpoint has no such head.
  """
  if run.flags.do_train and not run.resumed:
    return
  checkpoint, flag = run.start
  prefix = estimators.resolve_checkpoint(checkpoint, flag)
  found = estimators.checkpoint_shapes(prefix).get(variable)
  if found != shape:
    raise files.InputError(
      f"--{flag}: {prefix} has no {what} ({variable} is {found}, not {shape}); train one in a new "
      "--output_dir"
    )


def trained_step(directory):
  """The step of the checkpoint that a directory's model is evaluated with; 0 when it has none."""
  checkpoint = model_directory.trained_checkpoint(directory)
  return 0 if checkpoint is None else estimators.checkpoint_step(checkpoint)


def num_train_steps(flag_values, num_examples, what="examples"):
  """Steps of the whole training.

  Args:
    flag_values: FlagValues with train_batch_size and num_train_epochs.
    num_examples: int, what is trained on in an epoch.
    what: str, its name.

  Raises:
    files.InputError: there are none, or fewer than those of the warm-up.
  """
  batch_size, epochs = flag_values.train_batch_size, flag_values.num_train_epochs
  steps = int(num_examples / batch_size * epochs)
  if steps == 0:
    raise files.InputError(
      f"no training step: {num_examples} {what}, --num_train_epochs={epochs:g} and "
      f"--train_batch_size={batch_size}; lower the batch size"
    )
  common_flags.num_warmup_steps(flag_values, steps)  # refuses more than there are steps
  return steps


def check_evaluation(flag_values, metrics):
  """Checks the flags of evaluation while training; without --best_metric the first one is taken.

  Args:
    flag_values: FlagValues with the flags of common_flags.define_evaluation_flags.
    metrics: names of the metrics that an evaluation gives, the task's own first.

  Raises:
    files.InputError: a flag lacks another one, or names no metric.
  """
  if flag_values.eval_steps is None:
    for name in ("keep_best", "early_stopping_patience", "best_metric"):
      if flag_values[name].present and flag_values[name].value:
        raise files.InputError(
          f"--{name} needs evaluation while training: give --eval_steps=N, or --eval_steps="
          f"{common_flags.EPOCH}"
        )
    return
  metric = flag_values.best_metric or metrics[0]
  if metric not in metrics:
    raise files.InputError(
      f"--best_metric: there is no metric {metric}; choose one of {', '.join(metrics)}"
    )
  flag_values["best_metric"].value = metric


def _goal(flag_values):
  names = ("best_metric", "keep_best", "early_stopping_patience")
  return history.Goal(*(flag_values[name].value for name in names))


def open_directory(run, num_steps, labels=None):
  """Makes the output directory ready for training: emptied if wanted, and explaining itself.

  That is the chief's part; other workers wait for it.

  Args:
    run: Run.
    num_steps: int, the step to end at.
    labels: list of labels, or None.

  Returns:
    int, the step to go on from; None when the training is done already.

  Raises:
    files.InputError: the workers do not do the same, or not in the same directory.
    distribution.Finished: the training is done already, and this process is not the chief.
  """
  directory, cluster = run.flags.output_dir, run.cluster
  numbers = {n: v for n, v in common_flags.values(run.flags).items() if isinstance(v, (int, float))}
  cluster.connect((run.script, num_steps, sorted(numbers.items())))
  done = _open_as_chief(run, num_steps, labels) if cluster.is_chief else None
  step = cluster.from_chief(-1 if done is None else done)
  if step < 0:
    cluster.leave()
    return None
  if estimators.saved_step(directory) != step:
    raise files.InputError(
      f"--output_dir: {directory} is at step {estimators.saved_step(directory)} in this worker, "
      f"and at step {step} in the chief; all workers need the same, shared directory"
    )
  if run.layers and not step:
    _start_with_layers(run)
  return step


def _start_with_layers(run):
  """Lets the training start from what distillation.write_student has written."""
  for name, path in distillation.start_paths(run.flags.output_dir).items():
    run.flags[name].value = path


def _open_as_chief(run, num_steps, labels):
  """The part of open_directory that writes, with its result."""
  directory = run.flags.output_dir
  if run.flags.overwrite_output_dir:
    start = run.flags.init_checkpoint
    model_directory.clear(directory, start and estimators.resolve_checkpoint(start))
  done = estimators.saved_step(directory)
  if _is_finished(run.flags, done, num_steps):
    logging.info("Skipping training: %s is at step %d of %d.", directory, done, num_steps)
    return None
  if history.best_step(directory) is not None and not run.flags.keep_best:
    logging.warning(
      "%s/%s is of an earlier training and stays what evaluation and prediction use; give "
      "--keep_best, or delete it",
      directory,
      model_directory.BEST,
    )
  if run.layers and not done:
    distillation.write_student(directory, run.teacher, run.layers)
    _start_with_layers(run)
  model_directory.save(
    directory,
    run.flags.bert_config_file,
    run.flags.vocab_file,
    labels,
    run.script,
    common_flags.values(run.flags),
  )
  return done


def _is_finished(flag_values, done, num_steps):
  """Whether the training is at its end, its last evaluation included, or was stopped early."""
  if flag_values.eval_steps is None:
    return done >= num_steps
  past = history.History(flag_values.output_dir, _goal(flag_values), done)
  return past.is_exhausted() or (done >= num_steps and past.has(done))


def ask_teacher(run, build, train_file, table):
  """Adds to the training records what the teacher says of them, if there is one and it counts.

  Args:
    run: Run.
    build: see distillation.add_logits.
    train_file: str, a TFRecord file.
    table: list of tf_example.Feature, what it has.

  Returns:
    A pair: the file to train on and its table; the same ones without a teacher.

  Raises:
    files.InputError: see distillation.add_logits.
  """
  if run.soft_targets() is None:
    return train_file, table
  output_file = os.path.join(run.scratch(), "train_with_teacher.tf_record")
  cache_dir = run.flags.teacher_cache_dir or run.flags.output_dir
  if not run.cluster.is_chief:
    run.cluster.from_chief(0)  # waits until the logits are there
  arguments = (build, train_file, output_file, table, cache_dir)
  table = distillation.add_logits(run.teacher, *arguments)
  if run.cluster.is_chief:
    run.cluster.from_chief(0)
  return output_file, table


def log_training(run, counts, done):
  """Logs what the training works on, and how it saves memory and time.

  Args:
    run: Run.
    counts: dict of description -> int.
    done: int, the step that it goes on from.
  """
  logging.info("***** Running training *****")
  for what, count in counts.items():
    logging.info("  %s = %d", what, count)
  for line in _settings_in_words(run):
    logging.info("  %s", line)
  if done:
    logging.info("  Going on from step %d", done)


def _settings_in_words(run):
  """Yields a line for each way to save memory or time that was asked for."""
  flag_values = run.flags
  num_parts = flag_values.num_accumulation_steps
  if num_parts > 1:
    part_size = flag_values.train_batch_size // num_parts // run.num_devices()
    yield f"Gradients are added up over {num_parts} parts of {part_size} examples"
  if flag_values.recompute_activations:
    yield "Layers are computed again in the backward pass"
  soft = run.soft_targets()
  if soft:
    yield (
      f"The loss is {soft.alpha:g} times the teacher's, at temperature {soft.temperature:g}, and "
      f"{1 - soft.alpha:g} times the labels'"
    )


def check_finite(values, directory):
  """Makes sure that a model's outputs are numbers.

  Args:
    values: iterable of float arrays.
    directory: str, where the model's checkpoint is.

  Raises:
    files.InputError: they are NaN or infinite.
  """
  if not all(np.isfinite(value).all() for value in values):
    raise files.InputError(
      "the model's outputs are NaN or infinite: its weights are broken; train it anew with a "
      f"lower --learning_rate (checkpoint of step {estimators.saved_step(directory)})"
    )


def train(run, estimator, make_input_fn, num_steps, save_examples, watch=None):
  """Trains up to a step, from the last checkpoint in the directory; see estimators.train.

  Args:
    run: Run.
    estimator: from estimators.make_estimator.
    make_input_fn: function of a step to the input_fn of the training set that goes on from there.
    num_steps: int.
    save_examples: int, examples after which there is a checkpoint in any case.
    watch: from make_watch, or None.

  Returns:
    List of hooks.Trained, of the parts of the training.

  Raises:
    files.InputError: the best model of an earlier part of the training is gone.
    distribution.Finished: all is done, and this process is not the chief.
  """
  save_steps, save_seconds = common_flags.checkpoint_interval(run.flags, save_examples)
  parts = estimators.train(
    estimator,
    make_input_fn,
    num_steps,
    run.flags.train_batch_size,
    save_steps,
    save_seconds,
    run.flags.log_every_steps,
    watch,
    in_segments=run.flags.use_tpu,
    cluster=run.cluster,
  )
  run.cluster.leave()
  return parts


def make_watch(run, num_steps, num_examples, evaluate):
  """What evaluates a run while it trains, if --eval_steps says so.

  Args:
    run: Run.
    num_steps: int, the step to end at.
    num_examples: int, examples in an epoch.
    evaluate: function of the prefix of a checkpoint to a dict of metric -> number.

  Returns:
    history.Watch, or None; None in workers but the chief.
  """
  directory = run.flags.output_dir
  if run.flags.eval_steps is None or not run.cluster.is_chief:
    return None

  def report(step, metrics, best):
    metric = run.flags.best_metric
    logging.info(
      "step %d/%d  evaluation: %s  (best %s %.4f at step %d)",
      step,
      num_steps,
      "  ".join(f"{name} {value:.4f}" for name, value in metrics.items()),
      metric,
      best[metric],
      best["step"],
    )
    hooks.write_scalars(os.path.join(directory, "eval"), step, metrics)

  past = history.History(directory, _goal(run.flags), estimators.saved_step(directory))
  steps = common_flags.evaluation_interval(run.flags, num_examples)
  return history.Watch(steps, num_steps, past, evaluate, report)


def fine_tune(run, build_model_fn, table, train_file, num_steps, num_examples, evaluate):
  """Trains by epochs on a TFRecord file, from the last checkpoint in the directory.

  Args:
    run: Run.
    build_model_fn: a script's model_fn_builder; its other arguments than those that flags give are
      bound already.
    table: list of tf_example.Feature, what the file has.
    train_file: str.
    num_steps: int, the step to end at.
    num_examples: int, records in the file.
    evaluate: see make_watch.

  Returns:
    See train.
  """
  flag_values = run.flags

  def make_input_fn(step):
    return input_pipeline.read_input_fn(
      train_file,
      table,
      is_training=True,
      drop_remainder=True,
      trim_padding=run.trims_padding(),
      seed=flag_values.random_seed,
      num_seen=step * flag_values.train_batch_size,
      bucket_by_length=flag_values.bucket_by_length,
    )

  estimator = _make_estimator(run, build_model_fn, num_steps, cluster=run.cluster)
  watch = make_watch(run, num_steps, num_examples, evaluate)
  return train(run, estimator, make_input_fn, num_steps, num_examples, watch)


def predict(
  run, build_model_fn, table, input_file, num_examples, batch_size, description, checkpoint=None
):
  """Runs the model over a TFRecord file; see estimators.predict.

  Args:
    run, build_model_fn, table: see fine_tune.
    input_file: str; on a TPU it has a multiple of batch_size records.
    num_examples: int, how many results are wanted.
    batch_size: int.
    description: str, what the progress bar says.
    checkpoint: str, prefix of the checkpoint to use; default: see
      model_directory.trained_checkpoint, or what the model starts from.

  Returns:
    List of dicts of name -> array, in the order of the file.
  """
  use_tpu = run.flags.use_tpu
  input_fn = input_pipeline.read_input_fn(
    input_file, table, is_training=False, drop_remainder=use_tpu, trim_padding=not use_tpu
  )
  estimator = _make_estimator(run, build_model_fn, predict_batch_size=batch_size)
  checkpoint = checkpoint or model_directory.trained_checkpoint(run.flags.output_dir)
  return list(estimators.predict(estimator, input_fn, num_examples, description, checkpoint))


def _make_estimator(
  run, build_model_fn, num_train_steps=None, predict_batch_size=None, cluster=None
):
  flag_values = run.flags
  is_trained = tf.train.latest_checkpoint(flag_values.output_dir) is not None
  model_fn = build_model_fn(
    bert_config=run.config,
    init_checkpoint=None if is_trained else flag_values.init_checkpoint,
    learning_rate=flag_values.learning_rate,
    num_train_steps=num_train_steps,
    num_warmup_steps=num_train_steps
    and common_flags.num_warmup_steps(flag_values, num_train_steps),
    use_tpu=flag_values.use_tpu,
    use_one_hot_embeddings=flag_values.use_tpu,
    options=run.options(),
  )
  batch_sizes = {
    "train_batch_size": flag_values.train_batch_size,
    "predict_batch_size": predict_batch_size,
  }
  return estimators.make_estimator(
    model_fn,
    flag_values.output_dir,
    run.devices,
    flag_values.random_seed,
    batch_sizes,
    flag_values.keep_checkpoint_max,
    cluster,
    session_config=run.plan.session_config(is_training=bool(num_train_steps)),
  )
