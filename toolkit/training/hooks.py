"""Hooks of the steps of a training: checkpoints, progress, evaluations, stops."""

import contextlib
import os
import sys
import time
from typing import NamedTuple

import tensorflow.compat.v1 as tf
from absl import logging
from tqdm import tqdm

import optimization
from toolkit.formats import checkpoint_files
from toolkit.support import files

# Collection of (name, float32 scalar) pairs of a model_fn that ProgressHook shows beside the loss,
# in training on CPU or GPU.
PROGRESS = "progress"


class Trained(NamedTuple):
  """Steps and times of one call of an estimator's train method.

  Attributes:
    steps: optimizer steps.
    examples: in these steps.
    seconds: time of the steps, without building the graph and without evaluation.
    evaluation_seconds: time of evaluation meanwhile.
    devices: such as "CPU (2 cores)".
  """

  steps: int
  examples: int
  seconds: float
  evaluation_seconds: float
  devices: str


class CheckpointHook(tf.train.CheckpointSaverHook):
  """Saves a checkpoint at the start, every `save_steps`, every `save_seconds`, and at the end.

  With a watch it saves one before each evaluation, too.
  """

  def __init__(self, output_dir, save_steps, save_seconds=None, watch=None, progress=None):
    """Makes a hook.

    Args:
      output_dir: str, where checkpoints go.
      save_steps: int, steps between two of them.
      save_seconds: float or None, seconds between two of them.
      watch: history.Watch or None.
      progress: ProgressHook, which leaves out the time of evaluations; needed with a watch.
    """
    listeners = [_EvaluationListener(output_dir, watch, progress)] if watch else []
    directory = checkpoint_files.for_tensorflow(output_dir)
    super().__init__(directory, save_steps=save_steps, listeners=listeners)
    self._output_dir = output_dir
    # The timer of the base class has either steps or seconds.
    self._timer = _Timer(save_steps, save_seconds, watch)

  @contextlib.contextmanager
  def _writing(self):
    """Context in which errors of writing become a files.InputError, and leave no parts of files."""
    remedy = "free disk space there; the same command continues from the last checkpoint"
    try:
      with files.converted_write_errors(self._output_dir, checkpoint_files.WRITE_ERRORS, remedy):
        yield
    except files.InputError:
      for pattern in ("graph.pbtxt.tmp*", "model.ckpt-*temp*", "checkpoint.tmp*"):
        for path in files.list_paths(self._output_dir, pattern):
          files.remove_tree(path)
      raise

  def after_create_session(self, session, coord):
    with self._writing():
      super().after_create_session(session, coord)

  def _save(self, session, step):
    """Saves a checkpoint; returns whether a listener wants the training to stop."""
    with self._writing():
      self._get_saver().save(session, self._save_path, global_step=step)
    return any(listener.after_save(session, step) for listener in self._listeners)

  def after_run(self, run_context, run_values):
    # The step that the base class fetches beside the update may be the old one.
    step = run_context.session.run(self._global_step_tensor)
    if self._timer.should_trigger_for_step(step):
      self._timer.update_last_triggered_step(step)
      if self._save(run_context.session, step):
        run_context.request_stop()


class _Timer(tf.train.SecondOrStepTimer):
  """A timer that triggers by steps, by seconds, and for evaluations."""

  def __init__(self, steps, seconds=None, watch=None):
    super().__init__(every_steps=steps)
    self._every_secs = seconds  # the base takes either, and handles both
    self._watch = watch

  def should_trigger_for_step(self, step):
    is_due = self._watch is not None and self._watch.is_due(step)
    return is_due or super().should_trigger_for_step(step)


class _EvaluationListener(tf.train.CheckpointSaverListener):
  """Passes each checkpoint to a watch, which may stop the training."""

  def __init__(self, output_dir, watch, progress):
    self._output_dir = output_dir
    self._watch = watch
    self._progress = progress

  def after_save(self, session, global_step_value):
    start = time.monotonic()
    checkpoint = checkpoint_files.latest(self._output_dir)
    should_stop = self._watch.observe(int(global_step_value), checkpoint)
    self._progress.leave_out(time.monotonic() - start)
    return should_stop


class ProgressHook(tf.train.SessionRunHook):
  """Shows the progress of a training, writes it to TensorBoard, and stops it at a NaN loss.

  A terminal gets one line that updates; anything else a line every `every_steps` steps.
  """

  def __init__(self, output_dir, num_steps, batch_size, every_steps, devices=None):
    """Makes a hook.

    Args:
      output_dir: str, where the event file goes; None to show the devices only.
      num_steps: int, the step at which the training ends.
      batch_size: int, examples per step.
      every_steps: int, steps between two lines and two points.
      devices: str, description of the devices; default: see device_names.
    """
    self._devices = devices
    self._output_dir = output_dir
    self._num_steps = num_steps
    self._batch_size = batch_size
    self._every_steps = every_steps
    self._left_out = 0.0  # seconds
    self._bar = None

  def begin(self):
    self._tensors = {
      "step": tf.train.get_global_step(),
      "loss": tf.get_collection(tf.GraphKeys.LOSSES)[-1],
      **dict(tf.get_collection(PROGRESS)),
    }
    for name in (optimization.LOSS_SCALE, optimization.LEARNING_RATE):
      for tensor in tf.get_collection(name)[:1]:
        self._tensors[name] = tensor

  def after_create_session(self, session, coord):
    self._devices = self._devices or device_names(session)
    logging.info("Running on %s.", self._devices)
    self._step = int(session.run(self._tensors["step"]))
    self._values = []  # dicts of name -> number, one per step since the last report
    self._reported = self._start = (self._step, time.monotonic())
    self._bar = tqdm(
      total=self._num_steps,
      initial=self._step,
      desc="Training",
      unit="step",
      disable=self._output_dir is None or not sys.stderr.isatty(),
      dynamic_ncols=True,
    )

  def before_run(self, run_context):
    # The step is fetched after the update: beside the others it may still be the old one.
    fetches = {name: t for name, t in self._tensors.items() if name != "step"}
    return tf.train.SessionRunArgs(fetches)

  def after_run(self, run_context, run_values):
    values = run_values.results
    step = int(run_context.session.run(self._tensors["step"]))
    if values["loss"] != values["loss"]:
      raise files.InputError(
        f"the loss is NaN at step {step}; lower --learning_rate. The last checkpoint in "
        f"{self._output_dir or '--output_dir'} is from before that step"
      )
    self._bar.update(step - self._step)
    self._step = step
    learning_rate = values.pop("learning_rate", None)
    self._values.append(values)
    scalars = self._scalars(learning_rate)
    self._bar.set_postfix_str(_status(scalars), refresh=False)
    if step % self._every_steps == 0 or step - self._reported[0] >= self._every_steps:
      self._report(scalars)

  def end(self, session):
    if self._values:
      self._report(self._scalars(None))
    self._bar.close()
    self._seconds = time.monotonic() - self._start[1]
    made = self.trained()
    speed = made.examples / max(made.seconds, 1e-9)
    logging.info(
      "Trained %d steps in %s, %.1f examples/s.", made.steps, duration(made.seconds), speed
    )

  def trained(self):
    """Returns the Trained of the session under this hook, which has ended."""
    steps = self._step - self._start[0]
    examples = steps * self._batch_size
    return Trained(steps, examples, self._seconds, self._left_out, self._devices)

  def leave_out(self, seconds):
    """Excludes time of something else than training from the speed that is shown."""
    self._left_out += seconds
    self._reported = (self._reported[0], self._reported[1] + seconds)
    self._start = (self._start[0], self._start[1] + seconds)

  def _scalars(self, learning_rate):
    """Returns means over the steps since the last report, the last learning rate, and the speed."""
    step, since = self._reported
    seconds = max(time.monotonic() - since, 1e-9)
    scalars = {
      name: float(sum(values[name] for values in self._values) / len(self._values))
      for name in self._values[0]
    }
    if learning_rate is not None:
      scalars["learning_rate"] = float(learning_rate)
    scalars["examples_per_second"] = (self._step - step) * self._batch_size / seconds
    return scalars

  def _report(self, scalars):
    """Adds a point to TensorBoard, and a line where there is no terminal."""
    now = time.monotonic()
    self._values, self._reported = [], (self._step, now)
    if self._output_dir is None:
      return
    write_scalars(self._output_dir, self._step, scalars)
    if self._bar.disable:
      made, elapsed = self._step - self._start[0], now - self._start[1]
      left = duration((self._num_steps - self._step) * elapsed / max(made, 1))
      logging.info("step %d/%d  %s  %s left", self._step, self._num_steps, _status(scalars), left)


def _status(scalars):
  """{"loss": 0.4123, ...} -> "loss 0.4123  learning rate 4.20e-05  43.1 examples/s"."""
  forms = {"learning_rate": "learning rate {:.2e}", "examples_per_second": "{:.1f} examples/s"}
  return "  ".join(
    forms.get(name, f"{name} {{:.4f}}").format(value) for name, value in scalars.items()
  )


def write_scalars(directory, step, scalars):
  """Adds a point to TensorBoard's curves of `scalars`, a dict of name -> number, in a directory."""
  values = [tf.Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
  with files.converted_write_errors(directory, checkpoint_files.WRITE_ERRORS):
    writer = tf.summary.FileWriterCache.get(directory)
    writer.add_summary(tf.Summary(value=values), step)
    writer.flush()


def duration(seconds: float) -> str:
  """Formats seconds as minutes and seconds: 125.3 -> "2:05"."""
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def device_names(session) -> str:
  """Returns the devices of a session without a strategy: "CPU (2 cores)", "GPU:0", "8 x TPU"."""
  devices = session.list_devices()
  tpus = [device for device in devices if device.device_type == "TPU"]
  if tpus:
    return f"{len(tpus)} x TPU"
  # TensorFlow lists all GPUs, and uses the first one.
  gpus = [f"GPU:{d.name.rsplit(':', 1)[-1]}" for d in devices if d.device_type == "GPU"]
  return gpus[0] if gpus else f"CPU ({os.cpu_count()} cores)"


class StopHook(tf.train.SessionRunHook):
  """Ends the training after the current step when a signal has come."""

  def __init__(self, signals):
    self._signals = signals

  def after_run(self, run_context, run_values):
    if self._signals:
      run_context.request_stop()


class BarHook(tf.train.SessionRunHook):
  """Updates a progress bar after each batch."""

  def __init__(self, bar):
    self._bar = bar

  def after_run(self, run_context, run_values):
    self._bar.update()
