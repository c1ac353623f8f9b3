"""The first weights of a model, signals during training, and evaluation."""

import io
import logging
import os
import signal
import sys
import threading

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from toolkit.formats import checkpoints
from toolkit.records import input_pipeline
from toolkit.support import files
from toolkit.training import estimators


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


# ---- Checkpoints --------------------------------------------------------------------------------


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
  warnings = [text for text in warnings if "is deprecated" not in text]  # TensorFlow's own
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


@pytest.mark.parametrize("use_tpu", [False, True])
def test_weights_in_a_scope(tmp_path, log, use_tpu):
  prefix = str(tmp_path / "model.ckpt")
  names = {"module/bert/pooler/x": 1.0, "module/bert/pooler/y:0": 2.0, "head": 3.0}
  checkpoints.save_checkpoint(prefix, {n: np.float32([value]) for n, value in names.items()})
  with tf.Graph().as_default(), tf.Session() as session:
    variables = [tf.get_variable(name, [1]) for name in ("bert/pooler/x", "bert/pooler/y", "head")]
    initialized, scaffold_fn = estimators.load_init_checkpoint(prefix, use_tpu)
    if use_tpu:
      scaffold_fn()
    session.run(tf.global_variables_initializer())
    assert [value.tolist() for value in session.run(variables)] == [[1.0], [2.0], [3.0]]
  assert initialized == {"bert/pooler/x:0", "bert/pooler/y:0", "head:0"}
  assert log.messages[0] == (
    f"The names of 2 variables in {prefix} begin with module/, which is taken off"
  )


# ---- Signals ------------------------------------------------------------------------------------


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


# ---- Evaluation and prediction ------------------------------------------------------------------


class _Evaluator:
  """Has the loss of the first batches."""

  def evaluate(self, input_fn, steps, hooks, checkpoint_path):
    assert checkpoint_path is None
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
  assert "dev:   0%" in terminal.getvalue() and "0/2" in terminal.getvalue()
  assert terminal.getvalue().endswith("\r") and "\n" not in terminal.getvalue()


class _Estimator:
  """Predicts rows of given places in the input."""

  def __init__(self, places):
    self._places = places

  def predict(self, input_fn, checkpoint_path, yield_single_examples):
    assert (input_fn, checkpoint_path, yield_single_examples) == ("input_fn", "prefix", True)
    for place in self._places:
      yield {"value": place * 10, input_pipeline.EXAMPLE_INDEX: place}


def test_predictions_come_in_order_without_padding():
  rows = estimators.predict(_Estimator([2, 0, 1, 4, 3]), "input_fn", 4, "dev", "prefix")
  assert list(rows) == [{"value": value} for value in (0, 10, 20, 30)]


# ---- Training -----------------------------------------------------------------------------------


class _Diverging:
  """Ends a training at its first step, as an error of any hook does."""

  def __init__(self, directory):
    self.model_dir = directory

  def train(self, input_fn, hooks, max_steps):
    with tf.Graph().as_default(), tf.Session() as session:
      tf.losses.add_loss(tf.constant(1.0))
      step = tf.train.get_or_create_global_step()
      session.run(step.initializer)
      hooks[0].begin()
      hooks[0].after_create_session(session, None)
    raise files.InputError("the loss is NaN")


def test_an_error_gets_a_line_of_its_own(tmp_path, monkeypatch):
  terminal = io.StringIO()
  terminal.isatty = lambda: True
  monkeypatch.setattr(sys, "stderr", terminal)
  options = {"batch_size": 1, "save_steps": 9, "save_seconds": None, "log_steps": 1}
  with pytest.raises(files.InputError, match="NaN") as caught:
    estimators.train(_Diverging(str(tmp_path)), lambda step: None, 3, **options)
  assert caught.value is not None  # the stack trace is alive, and the bar is in it
  assert "Training   0%" in terminal.getvalue() and terminal.getvalue().endswith("\n")
