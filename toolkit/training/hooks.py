"""Hooks of the steps of a training: checkpoints, progress, evaluations, stops."""

import collections
import contextlib
import os
import sys
import time
from typing import NamedTuple, Optional

import tensorflow.compat.v1 as tf
from absl import logging
from tqdm import tqdm

import optimization
from toolkit.formats import checkpoint_files
from toolkit.support import files, logs
from toolkit.training import history

# Collection of (name, float32 scalar) pairs of a model_fn that ProgressHook shows beside the loss,
# in training on CPU or GPU.
PROGRESS = "progress"

# Points that a training gives TensorBoard at least, if it has as many steps.
_POINTS = 20

# Steps that a mean is taken over at least.
_MEAN_STEPS = 10

# Columns of a line of progress, and in a terminal of all but the values and the numbers of steps:
# the smallest bar, the percentage and the time that is left.
_LINE_COLUMNS = 80
_BAR_COLUMNS = 48


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

  def __init__(
    self,
    output_dir: str,
    save_steps: int,
    save_seconds: Optional[float] = None,
    watch: Optional[history.Watch] = None,
    progress: "Optional[ProgressHook]" = None,
  ) -> None:
    """Makes a hook.

    Args:
      output_dir: directory of the checkpoints.
      save_steps: steps between two of them.
      save_seconds: seconds between two of them.
      watch: evaluates checkpoints.
      progress: leaves out the time of evaluations; needed with a watch.
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

  def after_create_session(self, session: tf.Session, coord: tf.train.Coordinator) -> None:
    with self._writing():
      super().after_create_session(session, coord)

  def _save(self, session, step):
    """Saves a checkpoint; returns whether a listener wants the training to stop."""
    logging.info("Saving checkpoints for %d into %s.", step, self._save_path)
    with self._writing():
      self._get_saver().save(session, self._save_path, global_step=step)
    return any(listener.after_save(session, step) for listener in self._listeners)

  def after_run(
    self, run_context: tf.train.SessionRunContext, run_values: tf.train.SessionRunValues
  ) -> None:
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

  A terminal gets one line that updates; anything else a line every `every_steps` steps. Losses,
  accuracies and speed are means over the last steps. A training of 20 steps or more gives
  TensorBoard 20 points or more, a shorter one a point per step.
  """

  def __init__(
    self,
    output_dir: Optional[str],
    num_steps: int,
    batch_size: int,
    every_steps: int,
    devices: Optional[str] = None,
  ) -> None:
    """Makes a hook.

    Args:
      output_dir: directory of the event file; None to show the devices only.
      num_steps: the step at which the training ends.
      batch_size: examples per step.
      every_steps: steps between two lines, and the most between two points.
      devices: description of the devices; default: see device_names.
    """
    self._devices = devices
    self._output_dir = output_dir
    self._num_steps = num_steps
    self._batch_size = batch_size
    self._line_steps = every_steps
    self._left_out = 0.0  # seconds
    self._bar: tqdm = None

  def begin(self) -> None:
    self._tensors = {
      "step": tf.train.get_global_step(),
      "loss": tf.get_collection(tf.GraphKeys.LOSSES)[-1],
      **dict(tf.get_collection(PROGRESS)),
    }
    for name in (optimization.LOSS_SCALE, optimization.LEARNING_RATE):
      for tensor in tf.get_collection(name)[:1]:
        self._tensors[name] = tensor

  def after_create_session(self, session: tf.Session, coord: tf.train.Coordinator) -> None:
    self._devices = self._devices or device_names(session)
    logs.notice("Running on %s.", self._devices)
    self._step = int(session.run(self._tensors["step"]))
    self._start = (self._step, time.monotonic())
    self._point_steps = max(1, min(self._line_steps, (self._num_steps - self._step) // _POINTS))
    self._last = _LastSteps(max(_MEAN_STEPS, self._point_steps), self._start)
    self._last_point = self._last_line = self._step
    self._bar = tqdm(
      total=self._num_steps,
      initial=self._step,
      desc="Training",
      disable=self._output_dir is None or not sys.stderr.isatty(),
      dynamic_ncols=True,
      bar_format="{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}  {remaining} left{postfix}",
    )

  def before_run(self, run_context: tf.train.SessionRunContext) -> tf.train.SessionRunArgs:
    # The step is fetched after the update: beside the others it may still be the old one.
    fetches = {name: t for name, t in self._tensors.items() if name != "step"}
    return tf.train.SessionRunArgs(fetches)

  def after_run(
    self, run_context: tf.train.SessionRunContext, run_values: tf.train.SessionRunValues
  ) -> None:
    values = run_values.results
    step = int(run_context.session.run(self._tensors["step"]))
    if values["loss"] != values["loss"]:
      raise files.InputError(
        f"the loss is NaN at step {step}; lower --learning_rate. The last checkpoint in "
        f"{self._output_dir or '--output_dir'} is from before that step"
      )
    made, self._step = step - self._step, step
    self._last.add((step, time.monotonic()), values)
    if not self._bar.disable:
      terminal = self._bar.format_dict["ncols"] or _LINE_COLUMNS
      columns = terminal - _BAR_COLUMNS - 2 * len(str(self._num_steps))
      self._bar.set_postfix_str(status(self._scalars(), columns), refresh=False)
    self._bar.update(made)
    if _is_due(step, self._last_point, self._point_steps):
      self._add_point()
    if _is_due(step, self._last_line, self._line_steps) or step >= self._num_steps:
      self._add_line()

  def end(self, session: tf.Session) -> None:
    if self._step > self._last_point:
      self._add_point()
    if self._step > self._last_line:
      self._add_line()
    self.close()
    self._seconds = time.monotonic() - self._start[1]
    made = self.trained()
    speed = made.examples / max(made.seconds, 1e-9)
    logs.notice(
      "Trained %d steps in %s, %.1f examples/s.", made.steps, duration(made.seconds), speed
    )

  def close(self) -> None:
    """Ends the terminal's line of progress, so that an error message gets a line of its own."""
    if self._bar is not None:
      self._bar.close()

  def trained(self) -> Trained:
    """Returns steps and times of the session under this hook, which has ended."""
    steps = self._step - self._start[0]
    examples = steps * self._batch_size
    return Trained(steps, examples, self._seconds, self._left_out, self._devices or "")

  def leave_out(self, seconds: float) -> None:
    """Excludes time of something else than training from the speed that is shown."""
    self._left_out += seconds
    self._start = (self._start[0], self._start[1] + seconds)
    self._last.shift(seconds)

  def _scalars(self):
    """Returns the means over the last steps, the last learning rate, and the speed."""
    scalars = self._last.means()
    scalars["examples_per_second"] = self._last.steps_per_second() * self._batch_size
    return scalars

  def _add_point(self):
    """Adds a point to TensorBoard."""
    self._last_point = self._step
    if self._output_dir is None:
      return
    scalars = self._scalars()
    write_scalars(self._output_dir, self._step, scalars)
    # The lines of an estimator's own hooks, which other programs look for.
    logging.info("loss = %g, step = %d", scalars["loss"], self._step)
    logging.info("global_step/sec: %g", self._last.steps_per_second())
    logging.info("examples/sec: %g", scalars["examples_per_second"])

  def _add_line(self):
    """Logs the progress, above the bar of a terminal in the log file alone."""
    self._last_line = self._step
    if self._output_dir is None:
      return
    made, elapsed = self._step - self._start[0], time.monotonic() - self._start[1]
    left = duration((self._num_steps - self._step) * elapsed / max(made, 1))
    start, end = f"step {self._step}/{self._num_steps}  ", f"  {left} left"
    text = status(self._scalars(), _LINE_COLUMNS - len(start) - len(end))
    log = logs.notice if self._bar.disable else logging.info
    log("%s", f"{start}{text}{end}")


def _is_due(step, last, every):
  """Returns whether a step is a multiple of `every`, or so far behind the last one that was due."""
  return step % every == 0 or step - last >= every


class _LastSteps:
  """The values of the last steps of a training, and when each was made."""

  def __init__(self, count, start):
    """Makes it for `count` steps, from a pair of a step and its time in seconds."""
    self._values: collections.deque[dict[str, float]] = collections.deque(maxlen=count)
    self._times = collections.deque([start], maxlen=count + 1)  # of pairs

  def add(self, time_of_step, values):
    self._values.append(values)
    self._times.append(time_of_step)

  def shift(self, seconds):
    self._times = collections.deque(
      [(step, moment + seconds) for step, moment in self._times], self._times.maxlen
    )

  def steps_per_second(self):
    (first, start), (last, end) = self._times[0], self._times[-1]
    return (last - first) / max(end - start, 1e-9)

  def means(self):
    """Returns name -> mean; of the learning rate, the last value."""
    means = {n: float(sum(v[n] for v in self._values)) / len(self._values) for n in self._values[0]}
    for name in {optimization.LEARNING_RATE} & set(means):
      means[name] = float(self._values[-1][name])
    return means


def status(scalars: dict[str, float], columns: int) -> str:
  """Formats values, {"loss": 0.4123, ...} -> "loss 0.4123  43.1 ex/s  learning rate 4.20e-05".

  Args:
    scalars: name -> number.
    columns: length of the result. The learning rate is left out first where there is more, and
      then other values than loss and speed, the last one first.
  """
  rate, speed = optimization.LEARNING_RATE, "examples_per_second"
  others = [name for name in scalars if name not in ("loss", rate, speed)]
  names = [name for name in ("loss", *others, speed, rate) if name in scalars]
  forms = {rate: "learning rate {:.2e}", speed: "{:.1f} ex/s"}
  texts = {name: forms.get(name, f"{name} {{:.4f}}").format(scalars[name]) for name in names}
  for name in [n for n in (rate, *reversed(others)) if n in texts]:
    if len("  ".join(texts.values())) > columns:
      del texts[name]
  return "  ".join(texts.values())


def write_scalars(directory: str, step: int, scalars: dict[str, float]) -> None:
  """Adds a point to TensorBoard's curves of some scalars in a directory."""
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


def device_names(session: tf.Session) -> str:
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

  def __init__(self, signals: list[int]) -> None:
    self._signals = signals

  def after_run(
    self, run_context: tf.train.SessionRunContext, run_values: tf.train.SessionRunValues
  ) -> None:
    if self._signals:
      run_context.request_stop()


class BarHook(tf.train.SessionRunHook):
  """Updates a progress bar after each batch."""

  def __init__(self, bar: tqdm) -> None:
    self._bar = bar

  def after_run(
    self, run_context: tf.train.SessionRunContext, run_values: tf.train.SessionRunValues
  ) -> None:
    self._bar.update()
