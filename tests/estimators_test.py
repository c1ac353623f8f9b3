"""What a model starts from, and what happens while it trains."""

import io
import logging
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import estimators
import files
import optimization
import records


@pytest.fixture(name="log")
def _log(caplog):
  caplog.set_level(logging.INFO, logger="absl")
  return caplog


def save(prefix, variables=None):
  """Writes a checkpoint of a dict of name -> value; returns its prefix."""
  with tf.Graph().as_default(), tf.Session() as session:
    for name, value in (variables or {"bert/x": [1.0, 2.0]}).items():
      tf.get_variable(name, initializer=value)
    session.run(tf.global_variables_initializer())
    return tf.train.Saver().save(session, str(prefix), write_state=False, write_meta_graph=False)


# ---- Where it runs ------------------------------------------------------------------------------


def test_a_tpu_must_reach_its_files():
  local = {"output_dir": "gs://b/out", "init_checkpoint": "/tmp/model"}
  remote = {"output_dir": "gs://b/out", "init_checkpoint": None}
  estimators.Devices().check(local)
  estimators.Devices(use_tpu=True, tpu_name="local").check(local)
  estimators.Devices(use_tpu=True, tpu_name="t1").check(remote)
  with pytest.raises(files.InputError, match=r"--init_checkpoint: the TPU t1 cannot .*/tmp/model"):
    estimators.Devices(use_tpu=True, tpu_name="t1").check(local)
  with pytest.raises(files.InputError, match=r"the TPU grpc://1 cannot"):
    estimators.Devices(use_tpu=True, master="grpc://1").check(local)
  with pytest.raises(files.InputError, match="--use_tpu needs --tpu_name"):
    estimators.Devices(use_tpu=True).check(remote)


# ---- Checkpoints --------------------------------------------------------------------------------


def test_a_checkpoint_by_any_of_its_names(tmp_path):
  prefix = save(tmp_path / "model.ckpt-3")
  for path in (prefix, f"{prefix}.index", f"{prefix}.data-00000-of-00001", f"{prefix}.meta"):
    assert estimators.resolve_checkpoint(path) == prefix
  assert estimators.resolve_checkpoint(str(tmp_path)) == prefix  # the only one there


def test_a_directory_with_several_checkpoints(tmp_path):
  prefixes = [save(tmp_path / f"model.ckpt-{step}") for step in (5, 10)]
  with pytest.raises(files.InputError, match=r"--my_flag: .* has several checkpoints, name one"):
    estimators.resolve_checkpoint(str(tmp_path), "my_flag")
  tf.train.update_checkpoint_state(str(tmp_path), prefixes[0])
  assert estimators.resolve_checkpoint(str(tmp_path)) == prefixes[0]


def test_no_checkpoint(tmp_path):
  with pytest.raises(files.InputError, match=r"--init_checkpoint: the directory .* no checkpoint$"):
    estimators.resolve_checkpoint(str(tmp_path))
  with pytest.raises(
    files.InputError, match=r"there is no checkpoint .*/x \(no file .*/x\.index\)"
  ):
    estimators.resolve_checkpoint(str(tmp_path / "x"))
  (tmp_path / "junk.index").write_text("junk")
  with pytest.raises(files.InputError, match=r"--f: .*junk cannot be read as a checkpoint: ") as e:
    estimators.checkpoint_shapes(str(tmp_path / "junk"), "f")
  assert "\n" not in str(e.value)


def test_saved_step(tmp_path):
  assert estimators.saved_step(str(tmp_path)) == 0
  prefix = save(tmp_path / "model.ckpt-7", {"global_step": np.int64(7)})
  tf.train.update_checkpoint_state(str(tmp_path), prefix)
  assert estimators.saved_step(str(tmp_path)) == 7


def test_coverage():
  model = {"bert/a": [2], "bert/b": [3, 4], "output_weights": [3, 2], "output_bias": [3]}
  saved = {
    "bert/a": [2],
    "output_weights": [2, 2],
    "cls/x": [1],
    "bert/a/adam_m": [2],
    "bert/a/adam_v": [2],
    "global_step": [],
  }
  assert estimators.compare(model, saved, "p") == estimators.Coverage(
    loaded=["bert/a"],
    missing=["bert/b", "output_bias"],
    reshaped=[("output_weights", [3, 2], [2, 2])],
    unused=["cls/x"],
  )


@pytest.mark.parametrize(
  ("name", "shape", "saved", "cause"),
  [
    ("embeddings/word_embeddings", [30, 8], [20, 8], "vocab_size differs"),
    ("embeddings/position_embeddings", [64, 8], [32, 8], "max_position_embeddings differs"),
    ("embeddings/token_type_embeddings", [2, 8], [16, 8], "type_vocab_size differs"),
    ("encoder/layer_0/output/dense/kernel", [8, 32], [8, 16], "intermediate_size differs"),
    ("embeddings/word_embeddings", [30, 8], [30, 16], "; hidden_size"),
  ],
)
def test_an_encoder_of_another_shape(name, shape, saved, cause):
  name = f"bert/{name}"
  with pytest.raises(files.InputError, match=cause) as caught:
    estimators.compare({name: shape}, {name: saved}, "my/ckpt")
  assert f"{name} has shape {saved} in my/ckpt, and {shape} by" in str(caught.value)


def test_a_checkpoint_without_an_encoder():
  with pytest.raises(files.InputError, match=r"p has none of BERT's .*it has a, b, c$"):
    estimators.compare({"bert/a": [1]}, {n: [1] for n in "dcba"}, "p")
  with pytest.raises(files.InputError, match=r"it has none at all$"):
    estimators.compare({"bert/a": [1]}, {}, "p")


def test_weights_are_loaded_and_the_rest_is_reported(tmp_path, log):
  saved = {"bert/x": [1.0, 2.0], "bert/x/adam_m": [9.0, 9.0], "head": [4.0], "old": 1.0}
  prefix = save(tmp_path / "model.ckpt", saved)
  with tf.Graph().as_default(), tf.Session() as session:
    loaded = tf.get_variable("bert/x", [2])
    tf.get_variable("bert/y", [2])
    head = tf.get_variable("head", initializer=[7.0, 8.0])
    initialized, scaffold_fn = estimators.load_init_checkpoint(str(tmp_path), use_tpu=False)
    estimators.log_variables(tf.trainable_variables(), initialized)
    session.run(tf.global_variables_initializer())
    assert session.run(loaded).tolist() == [1.0, 2.0]
    assert session.run(head).tolist() == [7.0, 8.0]
  assert initialized == {"bert/x:0"} and scaffold_fn is None
  wanted = f"Loaded 1 variables from {prefix}; 2 are new (bert/y); 1 in it are not used (old)."
  assert wanted in log.messages
  warnings = [r.getMessage() for r in log.records if r.levelname == "WARNING"]
  assert warnings[0] == f"head is initialised anew: its shape is [2] here and [1] in {prefix}"
  assert warnings[1].startswith("1 variables of the encoder are NOT in")
  assert "  name = bert/x:0, shape = (2,), *INIT_FROM_CKPT*" in log.messages
  assert "  name = head:0, shape = (2,)" in log.messages


def test_a_tpu_loads_in_its_scaffold(tmp_path):
  prefix = save(tmp_path / "model.ckpt")
  with tf.Graph().as_default(), tf.Session() as session:
    loaded = tf.get_variable("bert/x", [2])
    initialized, scaffold_fn = estimators.load_init_checkpoint(prefix, use_tpu=True)
    assert isinstance(scaffold_fn(), tf.train.Scaffold)
    session.run(tf.global_variables_initializer())
    assert session.run(loaded).tolist() == [1.0, 2.0]
  assert initialized == {"bert/x:0"}
  assert estimators.load_init_checkpoint(None, use_tpu=True) == (set(), None)


# ---- Hooks --------------------------------------------------------------------------------------


def train(losses, hooks, start=0, **progress):
  """Runs steps with given losses under hooks, from the checkpoint or step `start`.

  `progress` are lists of other values by name, one a step, that the model wants shown.
  """
  with tf.Graph().as_default():
    step = tf.train.get_or_create_global_step()
    loss = tf.gather(tf.constant(losses, tf.float32), step - start)
    tf.losses.add_loss(loss)
    tf.add_to_collection(optimization.LEARNING_RATE, tf.constant(0.5))
    shown = {name: tf.gather(tf.constant(v), step - start) for name, v in progress.items()}
    for pair in shown.items():
      tf.add_to_collection(estimators.PROGRESS, pair)
    with tf.control_dependencies([loss, *shown.values()]):
      train_op = tf.assign_add(step, 1)
    with tf.control_dependencies([tf.global_variables_initializer()]):
      scaffold = tf.train.Scaffold(init_op=tf.group(tf.assign(step, start)))
    with tf.train.SingularMonitoredSession(hooks, scaffold) as session:
      for _ in losses:
        if not session.should_stop():
          session.run(train_op)


def saved_steps(directory):
  return sorted(int(path.stem.split("-")[1]) for path in directory.glob("model.ckpt-*.index"))


def test_checkpoints_by_steps(tmp_path):
  train([1.0] * 5, [estimators.CheckpointHook(str(tmp_path), 2)])
  first = saved_steps(tmp_path)
  assert first[0] == 0 and first[-1] == 5 and len(first) == 4


def test_checkpoints_by_seconds(tmp_path):
  train([1.0] * 3, [estimators.CheckpointHook(str(tmp_path), 1000, save_seconds=1e-6)])
  assert saved_steps(tmp_path) == [0, 1, 2, 3]


def test_a_timer_of_both_kinds(monkeypatch):
  now = 100.0
  monkeypatch.setattr(time, "time", lambda: now)
  timer = estimators._EitherTimer(steps=10, seconds=60)
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
  train([3.0, 1.0, 5.0, 7.0, 2.5], [estimators.ProgressHook(str(tmp_path), 5, 4, every_steps=2)])
  lines = [message for message in log.messages if message.startswith("step ")]
  assert [line.split("  ")[:2] for line in lines] == [
    ["step 2/5", "loss 2.0000"],
    ["step 4/5", "loss 6.0000"],
    ["step 5/5", "loss 2.5000"],
  ]
  assert all("examples/s" in line and line.endswith(" left") for line in lines)
  assert "learning rate 5.00e-01" in lines[0]
  assert any(m.startswith("Running on CPU (") for m in log.messages)
  assert any(m.startswith("Trained 5 steps in 0:0") for m in log.messages)

  (events,) = tmp_path.glob("events.out.tfevents.*")
  points = {
    (event.step, value.tag): value.simple_value
    for event in tf.train.summary_iterator(str(events))
    for value in event.summary.value
  }
  assert [points[step, "loss"] for step in (2, 4, 5)] == [2.0, 6.0, 2.5]
  assert points[2, "learning_rate"] == 0.5 and points[5, "examples_per_second"] > 0


def test_progress_shows_what_the_model_wants_beside_the_loss(tmp_path, log):
  hook = estimators.ProgressHook(str(tmp_path), 3, 4, every_steps=2)
  train([3.0, 1.0, 5.0], [hook], accuracy=[0.25, 0.75, 1.0], word_loss=[8.0, 6.0, 2.5])
  lines = [message.split("  ")[1:5] for message in log.messages if message.startswith("step ")]
  assert lines[0] == [
    "loss 2.0000",
    "accuracy 0.5000",
    "word_loss 7.0000",
    "learning rate 5.00e-01",
  ]
  assert lines[1][:3] == ["loss 5.0000", "accuracy 1.0000", "word_loss 2.5000"]
  (events,) = tmp_path.glob("events.out.tfevents.*")
  points = [
    (event.step, value.simple_value)
    for event in tf.train.summary_iterator(str(events))
    for value in event.summary.value
    if value.tag == "accuracy"
  ]
  assert points == [(2, 0.5), (3, 1.0)]


def test_progress_of_a_training_that_goes_on(tmp_path, log):
  train([1.0, 2.0], [estimators.ProgressHook(str(tmp_path), 9, 1, every_steps=50)], start=7)
  assert any(message.startswith("step 9/9  loss 1.5000") for message in log.messages)
  assert any(message.startswith("Trained 2 steps in ") for message in log.messages)


def test_progress_in_a_terminal_is_one_line(tmp_path, log, monkeypatch):
  terminal = io.StringIO()
  terminal.isatty = lambda: True
  monkeypatch.setattr(sys, "stderr", terminal)
  train([3.0, 1.0], [estimators.ProgressHook(str(tmp_path), 2, 1, every_steps=1)])
  assert "Training: 100%" in terminal.getvalue() and "loss 1.0000" in terminal.getvalue()
  assert terminal.getvalue().count("\n") == 1
  assert not [message for message in log.messages if message.startswith("step ")]


def test_a_nan_is_named_with_its_step(tmp_path):
  with pytest.raises(files.InputError, match="the loss is NaN at step 3; lower --learning_rate"):
    train([1.0, 1.0, np.nan, 1.0], [estimators.ProgressHook(str(tmp_path), 4, 1, every_steps=9)])


def test_points_of_tensorboard(tmp_path):
  estimators.write_scalars(str(tmp_path), 3, {"loss": 0.25})
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
  assert estimators._duration(seconds) == want


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
    (["/device:CPU:0", "/device:GPU:0", "/device:GPU:1"], "GPU:0, GPU:1"),
    (["/device:CPU:0", "/device:TPU:0", "/device:TPU:1"], "2 x TPU"),
  ],
)
def test_device_names(names, want, monkeypatch):
  monkeypatch.setattr(tf.DeviceSpec, "name", property(lambda self: self.to_string()), raising=False)
  assert estimators._device_names(_Session(*names)) == want


# ---- Signals and memory -------------------------------------------------------------------------


def test_the_first_signal_is_caught_and_the_second_acts(log):
  arrived = []
  before = signal.signal(signal.SIGTERM, lambda number, _: arrived.append(number))
  own = signal.getsignal(signal.SIGTERM)
  try:
    with estimators._caught_signals() as caught:
      os.kill(os.getpid(), signal.SIGTERM)
      assert (caught, arrived) == ([signal.SIGTERM], [])
      os.kill(os.getpid(), signal.SIGTERM)
      assert (caught, arrived) == ([signal.SIGTERM], [signal.SIGTERM])
    assert signal.getsignal(signal.SIGTERM) is own
  finally:
    signal.signal(signal.SIGTERM, before)
  assert "SIGTERM: saving a checkpoint ..." in log.messages


def test_signals_are_restored_after_an_error():
  before = signal.getsignal(signal.SIGINT)
  with pytest.raises(ZeroDivisionError), estimators._caught_signals():
    assert signal.getsignal(signal.SIGINT) is not before
    raise ZeroDivisionError
  assert signal.getsignal(signal.SIGINT) is before


def test_threads_catch_no_signals():
  result = []

  def work():
    with estimators._caught_signals() as caught:
      result.append(caught)

  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert result == [[]]


@pytest.mark.parametrize(
  "error", [MemoryError(), tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")]
)
def test_memory_that_runs_out(error):
  match = r"^out of memory; lower --train_batch_size$"
  memory = estimators.explained_memory_errors("--train_batch_size")
  with pytest.raises(files.InputError, match=match), memory:
    raise error


def test_other_errors_are_not_explained():
  with pytest.raises(ZeroDivisionError), estimators.explained_memory_errors("--x"):
    raise ZeroDivisionError


# ---- Evaluation and prediction ------------------------------------------------------------------


class _Evaluator:
  """Has the loss of the first batches."""

  def evaluate(self, input_fn, steps, hooks):
    for _ in input_fn[:steps]:
      for hook in hooks:
        hook.after_run(None, None)
    return {"loss": sum(input_fn[:steps]) / steps, "global_step": 7}


def test_evaluation_shows_its_progress(monkeypatch):
  terminal = io.StringIO()
  terminal.isatty = lambda: True
  monkeypatch.setattr(sys, "stderr", terminal)
  found = estimators.evaluate(_Evaluator(), [2.0, 4.0, 9.0], 2, "dev")
  assert found == {"loss": 3.0, "global_step": 7}
  assert "dev: 100%" in terminal.getvalue() and "2/2" in terminal.getvalue()


class _Estimator:
  """Predicts rows of given places in the input."""

  def __init__(self, places):
    self._places = places

  def predict(self, input_fn, checkpoint_path, yield_single_examples):
    assert (input_fn, checkpoint_path, yield_single_examples) == ("input_fn", "prefix", True)
    for place in self._places:
      yield {"value": place * 10, records.EXAMPLE_INDEX: place}


def test_predictions_come_in_order_without_padding():
  rows = estimators.predict(_Estimator([2, 0, 1, 4, 3]), "input_fn", 4, "dev", "prefix")
  assert list(rows) == [{"value": value} for value in (0, 10, 20, 30)]
