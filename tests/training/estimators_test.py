"""What a model starts from, and what happens while it trains."""

import io
import logging
import os
import signal
import sys
import threading

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

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
  assert "dev: 100%" in terminal.getvalue() and "2/2" in terminal.getvalue()


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
