"""The steps of a run that all training scripts share.

open_directory        prepares the output directory, or finds the training done
add_teacher_logits    adds the teacher's logits to the training records
log_training          logs the counts of a training
fine_tune, train      train from the last checkpoint: by epochs on a file, or on any input
make_watch            makes the evaluation during training
predict_set, predict  run the model over rows or records
make_estimator        makes the estimator of all these
trained_step          returns the step of the checkpoint in use
log_results           logs the results of an evaluation
write_metrics         writes them to files, named as in most tasks
write_results         writes them to files under any names
"""

import itertools
import math
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Optional

import numpy as np
from absl import logging

from toolkit.formats import checkpoint_files, checkpoints, model_directory
from toolkit.records import input_pipeline, tf_records
from toolkit.support import files, log_output, logs, tensorflow_versions
from toolkit.training import (
  directory_lock,
  distillation,
  estimators,
  history,
  hooks,
  run_flags,
)
from toolkit.training.runs import Run

Evaluate = Callable[[str], dict[str, float]]  # metrics of a checkpoint, by its prefix


# A training by epochs of fewer steps hardly changes a model.
_FEW_STEPS = 20


def _goal(run):
  settings = run.settings
  options = (settings.keep_best, settings.early_stopping_patience, run.smaller_is_better)
  return history.Goal(settings.best_metric, *options)


def open_directory(
  run: Run, num_steps: int, labels: Optional[Sequence[str]] = None
) -> Optional[int]:
  """Prepares the output directory for training, and empties it first with --overwrite_output_dir.

  The chief does that; other workers wait for it.

  Args:
    num_steps: the step to end at.
    labels: in the order of their ids; None for a task without labels.

  Returns:
    The step to go on from; None when the training is done already.

  Raises:
    files.InputError: the workers do not do the same, or not in the same directory; or another
      process trains there.
    distribution.Finished: the training is done already, and this process is not the chief.
  """
  directory, cluster = run.settings.output_dir, run.cluster
  numbers = {n: v for n, v in run.settings.as_dict().items() if isinstance(v, (int, float))}
  cluster.connect((run.script, num_steps, sorted(numbers.items())))
  done = None
  if cluster.is_chief:
    directory_lock.acquire(directory)
    try:
      done = _open_as_chief(run, num_steps, labels)
    finally:
      if done is None:  # there is no training
        directory_lock.release(directory)
    log_output.write_to(directory)
  step = cluster.from_chief(-1 if done is None else done)
  if step < 0:
    cluster.leave()
    return None
  if checkpoints.saved_step(directory) != step:
    raise files.InputError(
      f"--output_dir: {directory} is at step {checkpoints.saved_step(directory)} in this worker, "
      f"and at step {step} in the chief; all workers need the same, shared directory"
    )
  return step


def _open_as_chief(run, num_steps, labels):
  """Does the part of open_directory that writes, and returns its result."""
  settings = run.settings
  directory = settings.output_dir
  if settings.overwrite_output_dir:
    start = None if run.layers else settings.init_checkpoint
    model_directory.clear(directory, start and checkpoints.resolve_checkpoint(start))
  elif run.resumed:
    checkpoint_files.select(directory, run.resumed)
  done = checkpoints.saved_step(directory)
  if _is_finished(run, done, num_steps):
    message = "Skipping training: %s is at step %d of %d; --overwrite_output_dir starts anew."
    logs.notice(message, directory, done, num_steps)
    return None
  if history.best_step(directory) is not None and not settings.keep_best:
    logging.warning(
      "%s/%s is of an earlier training and stays what evaluation and prediction use; give "
      "--keep_best, or delete it",
      directory,
      model_directory.BEST,
    )
  if run.layers and not done:
    distillation.write_student(directory, run.teacher, run.layers)
  model_files = (settings.bert_config_file, settings.vocab_file)
  model_directory.save(directory, *model_files, labels, run.script, settings.as_dict())
  return done


def _is_finished(run, done, num_steps):
  """Returns whether the training has ended, its last evaluation included, or was stopped early."""
  if run.settings.eval_steps is None:
    return done >= num_steps
  past = history.History(run.settings.output_dir, _goal(run), done)
  return past.is_exhausted() or (done >= num_steps and past.has(done))


def add_teacher_logits(
  run: Run, build: distillation.BuildLogits, train_file: str, table: list[tf_records.Feature]
) -> tuple[str, list[tf_records.Feature]]:
  """Adds the teacher's logits to the training records, if the loss depends on a teacher.

  Args:
    build: see distillation.add_logits.
    train_file: a TFRecord file.
    table: that of the file.

  Returns:
    The file to train on and its table; the same ones without a teacher.

  Raises:
    files.InputError: see distillation.add_logits.
  """
  if run.teacher is None or run.soft_targets() is None:
    return train_file, table
  output_file = os.path.join(run.scratch(), "train_with_teacher.tf_record")
  cache_dir = run.settings.teacher_cache_dir or run.settings.output_dir
  if not run.cluster.is_chief:
    run.cluster.from_chief(0)  # waits until the chief has written the logits
  arguments = (build, train_file, output_file, table, cache_dir)
  table = distillation.add_logits(run.teacher, *arguments)
  if run.cluster.is_chief:
    run.cluster.from_chief(0)
  return output_file, table


def log_training(run: Run, counts: dict[str, int], num_steps: int, done: int) -> None:
  """Logs a training's counts by their descriptions, its options, and the step `done`."""
  counted = ", ".join(f"{count} {what.removeprefix('Num ')}" for what, count in counts.items())
  size = run.settings.train_batch_size
  logs.notice("Training: %s, %d steps, batch size %d", counted, num_steps, size)
  if num_steps < _FEW_STEPS and "num_train_epochs" in run.settings:
    logs.notice(
      "%d steps are few: a smaller --train_batch_size or more --num_train_epochs make more of them",
      num_steps,
    )
  for line in _option_lines(run):
    logs.notice("%s", line)
  if done:
    logs.notice("Going on from step %d; --overwrite_output_dir starts anew.", done)
  # The lines of the classic scripts, which other programs look for.
  logging.info("***** Running training *****")
  for what, count in counts.items():
    logging.info("  %s = %s", what, count)
  logging.info("  Batch size = %s", size)
  logging.info("  Num steps = %s", num_steps)


def _option_lines(run):
  """Yields a line for each option of the training step that is not the default."""
  settings = run.settings
  num_parts = settings.num_accumulation_steps
  if num_parts > 1:
    part_size = settings.train_batch_size // num_parts // run.num_devices()
    yield f"Gradients are added up over {num_parts} parts of {part_size} examples"
  if settings.recompute_activations:
    yield "Layers are computed again in the backward pass"
  soft = run.soft_targets()
  if soft:
    yield (
      f"The loss is {soft.alpha:g} times the teacher's, at temperature {soft.temperature:g}, and "
      f"{1 - soft.alpha:g} times the labels'"
    )


# ---- Training, evaluation, prediction -----------------------------------------------------------


def fine_tune(
  run: Run,
  model_fn: estimators.ModelFn,
  table: list[tf_records.Feature],
  train_file: str,
  num_steps: int,
  num_examples: int,
  evaluate: Evaluate,
) -> list[hooks.Trained]:
  """Trains by epochs on a TFRecord file, from the last checkpoint in the directory; see train.

  Args:
    run: of the training.
    model_fn: see make_estimator.
    table: that of the file.
    train_file: a TFRecord file.
    num_steps: the step to end at.
    num_examples: records in the file.
    evaluate: see make_watch.
  """
  settings = run.settings

  def make_input_fn(step):
    return input_pipeline.read_input_fn(
      train_file,
      table,
      is_training=True,
      drop_remainder=True,
      trim_padding=run.trims_padding(),
      seed=settings.random_seed,
      num_seen=step * settings.train_batch_size,
      bucket_by_length=settings.bucket_by_length,
    )

  estimator = make_estimator(run, model_fn, num_steps)
  watch = make_watch(run, num_steps, num_examples, evaluate)
  return train(run, estimator, make_input_fn, num_steps, num_examples, watch)


def train(
  run: Run,
  estimator: estimators.Estimator,
  make_input_fn: Callable[[int], input_pipeline.InputFn],
  num_steps: int,
  save_examples: int,
  watch: Optional[history.Watch] = None,
) -> list[hooks.Trained]:
  """Trains up to a step, from the last checkpoint in the directory; see estimators.train.

  Args:
    run: of the training.
    estimator: from make_estimator.
    make_input_fn, num_steps: see estimators.train.
    save_examples: examples after which there is a checkpoint in any case.
    watch: from make_watch.

  Returns:
    Steps and times per segment of the training.

  Raises:
    files.InputError: the best model of an earlier segment of the training is gone.
    distribution.Finished: all is done, and this process is not the chief.
  """
  settings = run.settings
  save_steps, save_seconds = run_flags.checkpoint_interval(settings, save_examples)
  try:
    parts = estimators.train(
      estimator,
      make_input_fn,
      num_steps,
      batch_size=settings.train_batch_size,
      save_steps=save_steps,
      save_seconds=save_seconds,
      log_steps=run_flags.log_interval(settings, num_steps),
      watch=watch,
      in_segments=settings.use_tpu,
      cluster=run.cluster,
      output_dir=settings.output_dir,
    )
  finally:
    directory_lock.release(settings.output_dir)
  run.cluster.leave()
  return parts


def make_watch(
  run: Run, num_steps: int, num_examples: int, evaluate: Evaluate
) -> Optional[history.Watch]:
  """Makes the history.Watch of evaluation during training; None without --eval_steps.

  Args:
    run: the run; the result is None in workers other than the chief.
    num_steps: the step to end at.
    num_examples: per epoch.
    evaluate: computes metric -> number of a checkpoint, given by its prefix.
  """
  settings = run.settings
  if settings.eval_steps is None or not run.cluster.is_chief:
    return None

  def evaluate_and_free(checkpoint):
    with tensorflow_versions.freed_graphs():
      return evaluate(checkpoint)

  def report(step, metrics, best):
    metric = settings.best_metric
    logs.notice(
      "step %d/%d  evaluation: %s  (best %s %.4f at step %d)",
      step,
      num_steps,
      "  ".join(f"{name} {value:.4f}" for name, value in metrics.items()),
      metric,
      best[metric],
      best["step"],
    )
    hooks.write_scalars(run.path("eval"), step, metrics)

  directory = settings.output_dir
  past = history.History(directory, _goal(run), checkpoints.saved_step(directory))
  steps = run_flags.evaluation_interval(settings, num_examples)
  return history.Watch(steps, num_steps, past, evaluate_and_free, report)


def predict(
  run: Run,
  model_fn: estimators.ModelFn,
  table: Sequence[tf_records.Feature],
  input_file: str,
  *,
  num_examples: int,
  batch_size: int,
  description: str,
  checkpoint: Optional[str] = None,
) -> list[dict[str, np.ndarray]]:
  """Runs the model over a TFRecord file; see estimators.predict.

  Args:
    run, model_fn, table: see fine_tune.
    input_file: on a TPU it has a multiple of batch_size records.
    num_examples, description: see estimators.predict.
    batch_size: in examples.
    checkpoint: prefix of the checkpoint to use; default: see model_directory.trained_checkpoint, or
      the initial weights.

  Returns:
    Name -> array per example, in the order of the file.

  Raises:
    files.InputError: memory ran out.
  """
  use_tpu = run.settings.use_tpu
  input_fn = input_pipeline.read_input_fn(
    input_file, table, is_training=False, drop_remainder=use_tpu, trim_padding=not use_tpu
  )
  estimator = make_estimator(run, model_fn, predict_batch_size=batch_size)
  checkpoint = checkpoint or model_directory.trained_checkpoint(run.settings.output_dir)
  return list(estimators.predict(estimator, input_fn, num_examples, description, checkpoint))


def predict_set(
  run: Run,
  model_fn: estimators.ModelFn,
  rows: Iterable[dict[str, Any]],
  table: Sequence[tf_records.Feature],
  *,
  file_name: str,
  num_rows: int,
  batch_size: int,
  description: str,
  checkpoint: Optional[str] = None,
) -> list[dict[str, np.ndarray]]:
  """Writes the features of a set to a file, and runs the model over it.

  Args:
    run, model_fn, table: see fine_tune.
    rows: num_rows rows, see tf_records.serialize.
    file_name: name of the TFRecord file. On a TPU it is filled up to a multiple of batch_size
      by rows of zeros, which are in no result.
    batch_size, description, checkpoint: see predict.

  Returns:
    Name -> array per row, in their order.

  Raises:
    files.InputError: memory ran out, or the file cannot be written.
  """
  path = os.path.join(run.scratch(), file_name)
  num_missing = -num_rows % batch_size if run.settings.use_tpu else 0
  zeros = {f.name: [0] * math.prod(f.shape) if f.shape else 0 for f in table}
  tf_records.write_records(path, itertools.chain(rows, [zeros] * num_missing), table)
  logging.info("  Batch size = %d", batch_size)
  return predict(
    run,
    model_fn,
    table,
    path,
    num_examples=num_rows,
    batch_size=batch_size,
    description=description,
    checkpoint=checkpoint,
  )


def make_estimator(
  run: Run, model_fn: estimators.ModelFn, num_steps: Optional[int] = None, **batch_sizes: int
) -> estimators.Estimator:
  """Makes the tf.estimator.tpu.TPUEstimator of a run.

  Args:
    model_fn: of the model.
    num_steps: the step at which it ends a training on all devices of the run; None if it does
      not train.
    **batch_sizes: eval_batch_size or predict_batch_size, int.
  """
  settings, is_training = run.settings, num_steps is not None
  return estimators.make_estimator(
    model_fn,
    settings.output_dir,
    run.devices,
    seed=settings.random_seed,
    batch_sizes={"train_batch_size": settings.train_batch_size, **batch_sizes},
    keep_checkpoint_max=run_flags.num_kept_checkpoints(settings, num_steps or 0),
    cluster=run.cluster if is_training else None,
    session_config=run.plan.session_config(is_training=is_training),
  )


# ---- Results ------------------------------------------------------------------------------------


def trained_step(run: Run) -> int:
  """Returns the step of the checkpoint that evaluation uses; 0 when there is none."""
  checkpoint = model_directory.trained_checkpoint(run.settings.output_dir)
  return 0 if checkpoint is None else checkpoints.checkpoint_step(checkpoint)


def log_results(results: dict[str, Any]) -> None:
  """Logs the results of an evaluation, sorted by name."""
  logs.notice("***** Eval results *****")
  for name in sorted(results):
    logs.notice("  %s = %s", name, results[name])


def write_metrics(
  run: Run, metrics: dict[str, Any], set_name: str, suffix: str = ""
) -> dict[str, Any]:
  """Writes the metrics of a set, see write_results.

  Args:
    metrics: name -> number, and what else eval_metrics.json should have.
    set_name: name of the set.
    suffix: see write_results; with one, the metrics are not for TensorBoard.

  Returns:
    The lines of eval_results.txt: eval_NAME -> number, and global_step.
  """
  numbers = {f"eval_{n}": value for n, value in metrics.items() if isinstance(value, (int, float))}
  results = {**numbers, "global_step": trained_step(run)}
  details = {**metrics, "global_step": results["global_step"], "set": set_name}
  write_results(run, results, details, None if suffix else numbers, suffix)
  return results


def remove_results(run: Run, suffix: str) -> None:
  """Deletes the files that write_results has written under a suffix, if there are any."""
  for name in (f"eval_results{suffix}.txt", f"eval_metrics{suffix}.json"):
    if files.exists(run.path(name)):
      files.remove(run.path(name))


def write_results(
  run: Run,
  results: dict[str, Any],
  metrics: dict[str, Any],
  scalars: Optional[dict[str, float]] = None,
  suffix: str = "",
) -> None:
  """Writes the results of an evaluation to files and to TensorBoard.

  Args:
    results: name -> number, the lines of eval_results.txt, with global_step.
    metrics: the content of eval_metrics.json.
    scalars: name -> number, for TensorBoard.
    suffix: last part of the files' names, before the dot.
  """
  if scalars:
    hooks.write_scalars(run.path("eval"), int(results["global_step"]), scalars)
  lines = "".join(f"{name} = {results[name]!s}\n" for name in sorted(results))
  files.write_text(run.path(f"eval_results{suffix}.txt"), lines)
  files.write_json(run.path(f"eval_metrics{suffix}.json"), metrics)
