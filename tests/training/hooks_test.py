"""Checkpoints, progress and evaluations beside the steps of a training."""

import io
import logging
import os
import sys
import time

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tiny_runs import checkpoint_steps

import optimization
from toolkit.support import files
from toolkit.training import history, hooks


@pytest.fixture(name="log")
def _log(caplog):
  caplog.set_level(logging.INFO, logger="absl")
  return caplog


def train(losses, added_hooks, start=0, **progress):
  """Runs steps with given losses under hooks, from the checkpoint or step `start`.

  `progress` are lists of other values by name, one per step, that the model shows.
  """
  with tf.Graph().as_default():
    step = tf.train.get_or_create_global_step()
    loss = tf.gather(tf.constant(losses, tf.float32), step - start)
    tf.losses.add_loss(loss)
    tf.add_to_collection(optimization.LEARNING_RATE, tf.constant(0.5))
    shown = {name: tf.gather(tf.constant(v), step - start) for name, v in progress.items()}
    for pair in shown.items():
      tf.add_to_collection(hooks.PROGRESS, pair)
    with tf.control_dependencies([loss, *shown.values()]):
      train_op = tf.assign_add(step, 1)
    with tf.control_dependencies([tf.global_variables_initializer()]):
      scaffold = tf.train.Scaffold(init_op=tf.group(tf.assign(step, start)))
    with tf.train.SingularMonitoredSession(added_hooks, scaffold) as session:
      for _ in losses:
        if not session.should_stop():
          session.run(train_op)


def event_points(directory):
  """(step, tag, value) of each value in the event files of a directory."""
  return [
    (event.step, value.tag, value.simple_value)
    for path in sorted(directory.glob("events.out.tfevents.*"))
    for event in tf.train.summary_iterator(str(path))
    for value in event.summary.value
  ]


def test_checkpoints_by_steps(tmp_path):
  train([1.0] * 5, [hooks.CheckpointHook(str(tmp_path), 2)])
  first = checkpoint_steps(tmp_path)
  assert first[0] == 0 and first[-1] == 5 and len(first) == 4


def test_checkpoints_by_seconds(tmp_path):
  train([1.0] * 3, [hooks.CheckpointHook(str(tmp_path), 1000, save_seconds=1e-6)])
  assert checkpoint_steps(tmp_path) == [0, 1, 2, 3]


def watched(directory, goal, scores, evaluated, every=2, num_steps=5):
  """A history.Watch with given scores, and a list to which it adds its evaluations."""

  def evaluate(checkpoint):
    evaluated.append(int(checkpoint.rsplit("-", 1)[1]))
    return {"accuracy": scores[len(evaluated) - 1]}

  past = history.History(str(directory), goal, last_step=0)
  return history.Watch(every, num_steps, past, evaluate, lambda *_: None)


def test_evaluated_steps_have_checkpoints(tmp_path):
  evaluated = []
  watch = watched(tmp_path, history.Goal("accuracy"), [0.5, 0.6, 0.4], evaluated)
  progress = hooks.ProgressHook(str(tmp_path), 5, 1, every_steps=50)
  train([1.0] * 5, [progress, hooks.CheckpointHook(str(tmp_path), 1000, None, watch, progress)])
  assert evaluated == [2, 4, 5]
  assert checkpoint_steps(tmp_path) == [0, 2, 4, 5]


def test_an_exhausted_patience_ends_the_training(tmp_path):
  evaluated = []
  goal = history.Goal("accuracy", patience=1)
  watch = watched(tmp_path, goal, [0.5, 0.4], evaluated)
  progress = hooks.ProgressHook(str(tmp_path), 5, 1, every_steps=50)
  train([1.0] * 5, [progress, hooks.CheckpointHook(str(tmp_path), 1000, None, watch, progress)])
  assert evaluated == [2, 4]
  assert checkpoint_steps(tmp_path) == [0, 2, 4]


def test_the_time_of_evaluations_is_left_out_of_the_speed(tmp_path, monkeypatch):
  now = 100.0
  monkeypatch.setattr(time, "monotonic", lambda: now)
  progress = hooks.ProgressHook(str(tmp_path), 5, batch_size=4, every_steps=50)
  progress._start = (0, now)
  progress._last = hooks._LastSteps(10, progress._start)
  now += 20
  progress.leave_out(20)
  now += 5
  progress._last.add((10, now), {"loss": 1.0})
  assert progress._scalars()["examples_per_second"] == 8.0


def test_means_are_of_the_last_steps():
  last = hooks._LastSteps(2, (0, 0.0))
  for step, loss in ((1, 9.0), (2, 3.0), (3, 1.0)):
    last.add((step, step * 0.5), {"loss": loss, "learning_rate": loss / 10})
  assert last.means() == {"loss": 2.0, "learning_rate": 0.1}
  assert last.steps_per_second() == 2.0


@pytest.mark.parametrize(
  ("columns", "want"),
  [
    (99, "loss 0.5000  accuracy 0.2500  f1 0.1250  43.1 ex/s  learning rate 4.20e-05"),
    (73, "loss 0.5000  accuracy 0.2500  f1 0.1250  43.1 ex/s"),
    (49, "loss 0.5000  accuracy 0.2500  43.1 ex/s"),
    (38, "loss 0.5000  43.1 ex/s"),
    (3, "loss 0.5000  43.1 ex/s"),
  ],
)
def test_what_does_not_fit_is_left_out(columns, want):
  scalars = {"loss": 0.5, "learning_rate": 4.2e-5, "examples_per_second": 43.11}
  assert hooks.status({**scalars, "accuracy": 0.25, "f1": 0.125}, columns) == want


@pytest.mark.parametrize(("num_steps", "start", "every", "at_least"), [
  (37, 0, 50, 20), (7, 0, 50, 7), (41, 7, 50, 20), (60, 0, 2, 30), (39, 0, 50, 20),
])  # fmt: skip
def test_a_training_gives_enough_points(tmp_path, num_steps, start, every, at_least):
  hook = hooks.ProgressHook(str(tmp_path), num_steps, 1, every_steps=every)
  train([1.0] * (num_steps - start), [hook], start=start)
  rates = [value for _, tag, value in event_points(tmp_path) if tag == "learning_rate"]
  assert len(rates) >= at_least and set(rates) == {0.5}


def test_lines_that_other_programs_look_for(tmp_path, log):
  hook = hooks.ProgressHook(str(tmp_path), 3, 4, every_steps=50)
  train([3.0, 1.0, 5.0], [hook, hooks.CheckpointHook(str(tmp_path), 1000)])
  for start in ("global_step/sec: ", "examples/sec: ", "loss = 3, step = 3"):
    assert any(message.startswith(start) for message in log.messages), start
  assert f"Saving checkpoints for 3 into {tmp_path}/model.ckpt." in log.messages


def test_a_timer_of_both_kinds(monkeypatch):
  now = 100.0
  monkeypatch.setattr(time, "time", lambda: now)
  timer = hooks._Timer(steps=10, seconds=60)
  assert timer.last_triggered_step() is None
  assert timer.should_trigger_for_step(0)
  timer.update_last_triggered_step(0)
  now += 59
  assert not timer.should_trigger_for_step(9)
  assert timer.should_trigger_for_step(10)
  now += 1
  assert timer.should_trigger_for_step(3)
  timer.update_last_triggered_step(3)
  assert timer.last_triggered_step() == 3
  assert not timer.should_trigger_for_step(12)  # both count from the last save
  assert timer.should_trigger_for_step(13)
  timer.reset()
  assert timer.last_triggered_step() is None


def test_progress_without_a_terminal(tmp_path, log):
  train([3.0, 1.0, 5.0, 7.0, 2.5], [hooks.ProgressHook(str(tmp_path), 5, 4, every_steps=2)])
  lines = [message for message in log.messages if message.startswith("step ")]
  assert [line.split("  ")[:2] for line in lines] == [
    ["step 2/5", "loss 2.0000"],
    ["step 4/5", "loss 4.0000"],
    ["step 5/5", "loss 3.7000"],
  ]
  assert all("ex/s" in line and len(line) <= 80 and line.endswith(" left") for line in lines)
  assert "learning rate 5.00e-01" in lines[0]
  assert any(m.startswith("Running on CPU (") for m in log.messages)
  assert any(m.startswith("Trained 5 steps in 0:0") for m in log.messages)
  points = {(step, tag): value for step, tag, value in event_points(tmp_path)}
  assert [points[step, "loss"] for step in (1, 2, 4)] == [3.0, 2.0, 4.0]
  assert points[2, "learning_rate"] == 0.5 and points[5, "examples_per_second"] > 0


def test_progress_shows_what_the_model_wants_beside_the_loss(tmp_path, log):
  hook = hooks.ProgressHook(str(tmp_path), 3, 4, every_steps=2)
  train([3.0, 1.0, 5.0], [hook], accuracy=[0.25, 0.75, 1.0], word_loss=[8.0, 6.0, 2.5])
  lines = [message.split("  ")[1:4] for message in log.messages if message.startswith("step ")]
  assert lines == [
    ["loss 2.0000", "accuracy 0.5000", "word_loss 7.0000"],
    ["loss 3.0000", "accuracy 0.6667", "word_loss 5.5000"],
  ]
  points = [(step, value) for step, tag, value in event_points(tmp_path) if tag == "accuracy"]
  assert points == [(1, 0.25), (2, 0.5), (3, pytest.approx(2 / 3))]


def test_progress_of_a_training_that_goes_on(tmp_path, log):
  train([1.0, 2.0], [hooks.ProgressHook(str(tmp_path), 9, 1, every_steps=50)], start=7)
  assert any(message.startswith("step 9/9  loss 1.5000") for message in log.messages)
  assert any(message.startswith("Trained 2 steps in ") for message in log.messages)


def test_progress_in_a_terminal_is_one_line(tmp_path, log, monkeypatch):
  terminal = io.StringIO()
  terminal.isatty = lambda: True
  monkeypatch.setattr(sys, "stderr", terminal)
  train([3.0, 1.0], [hooks.ProgressHook(str(tmp_path), 2, 1, every_steps=1)])
  assert "Training 100%" in terminal.getvalue() and "loss 2.0000" in terminal.getvalue()
  assert terminal.getvalue().count("\n") == 1
  lines = [record for record in log.records if record.getMessage().startswith("step ")]
  assert lines and {record.levelname for record in lines} == {"INFO"}  # for the log file


def test_a_nan_is_named_with_its_step(tmp_path):
  with pytest.raises(files.InputError, match="the loss is NaN at step 3; lower --learning_rate"):
    train([1.0, 1.0, np.nan, 1.0], [hooks.ProgressHook(str(tmp_path), 4, 1, every_steps=9)])


def test_points_of_tensorboard(tmp_path):
  hooks.write_scalars(str(tmp_path), 3, {"loss": 0.25})
  (events,) = tmp_path.glob("events.out.tfevents.*")
  (event,) = (e for e in tf.train.summary_iterator(str(events)) if e.summary.value)
  assert event.step == 3 and event.summary.value[0].simple_value == 0.25


@pytest.mark.parametrize(
  ("seconds", "want"),
  [
    (0, "0:00"),
    (0.6, "0:01"),
    (59.6, "1:00"),
    (125.3, "2:05"),
    (3599.7, "1:00:00"),
    (36061, "10:01:01"),
  ],
)
def test_durations(seconds, want):
  assert hooks.duration(seconds) == want


class _Session:
  """A session with devices of given names."""

  def __init__(self, *names):
    self._names = names

  def list_devices(self):
    return [tf.DeviceSpec.from_string(name) for name in self._names]


@pytest.mark.parametrize(
  ("names", "want"),
  [
    (["/device:CPU:0"], f"CPU ({os.cpu_count()} cores)"),
    (["/device:CPU:0", "/device:GPU:0", "/device:GPU:1"], "GPU:0"),  # the one that is used
    (["/device:CPU:0", "/device:TPU:0", "/device:TPU:1"], "2 x TPU"),
  ],
)
def test_device_names(names, want, monkeypatch):
  monkeypatch.setattr(tf.DeviceSpec, "name", property(lambda self: self.to_string()), raising=False)
  assert hooks.device_names(_Session(*names)) == want
