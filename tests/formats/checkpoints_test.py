"""Checkpoints by their names, their step, and their match with a model."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from toolkit.formats import checkpoints
from toolkit.support import files


def save(prefix, variables=None):
  """Writes a checkpoint of a dict of name -> value; returns its prefix."""
  with tf.Graph().as_default(), tf.Session() as session:
    for name, value in (variables or {"bert/x": [1.0, 2.0]}).items():
      tf.get_variable(name, initializer=value)
    session.run(tf.global_variables_initializer())
    return tf.train.Saver().save(session, str(prefix), write_state=False, write_meta_graph=False)


def test_a_checkpoint_by_any_of_its_names(tmp_path):
  prefix = save(tmp_path / "model.ckpt-3")
  for path in (prefix, f"{prefix}.index", f"{prefix}.data-00000-of-00001", f"{prefix}.meta"):
    assert checkpoints.resolve_checkpoint(path) == prefix
  assert checkpoints.resolve_checkpoint(str(tmp_path)) == prefix  # the only one there


def test_a_directory_with_several_checkpoints(tmp_path):
  prefixes = [save(tmp_path / name) for name in ("first.ckpt", "second.ckpt")]
  with pytest.raises(files.InputError, match=r"--my_flag: .* has several checkpoints, name one"):
    checkpoints.resolve_checkpoint(str(tmp_path), "my_flag")
  tf.train.update_checkpoint_state(str(tmp_path), prefixes[0])
  assert checkpoints.resolve_checkpoint(str(tmp_path)) == prefixes[0]


def test_no_checkpoint(tmp_path):
  with pytest.raises(
    files.InputError, match=r"--init_checkpoint: the directory .* has no checkpoint"
  ):
    checkpoints.resolve_checkpoint(str(tmp_path))
  with pytest.raises(
    files.InputError, match=r"there is no checkpoint .*/x \(no file .*/x\.index\)"
  ):
    checkpoints.resolve_checkpoint(str(tmp_path / "x"))
  (tmp_path / "junk.index").write_text("junk")
  with pytest.raises(files.InputError, match=r"--f: .*junk cannot be read as a checkpoint: ") as e:
    checkpoints.checkpoint_shapes(str(tmp_path / "junk"), "f")
  assert "\n" not in str(e.value)


def test_saved_step(tmp_path):
  assert checkpoints.saved_step(str(tmp_path)) == 0
  prefix = save(tmp_path / "model.ckpt-7", {"global_step": np.int64(7)})
  tf.train.update_checkpoint_state(str(tmp_path), prefix)
  assert checkpoints.saved_step(str(tmp_path)) == 7


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
  assert checkpoints.compare(model, saved, "p") == checkpoints.Coverage(
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
    checkpoints.compare({name: shape}, {name: saved}, "my/ckpt")
  assert f"{name} has shape {saved} in my/ckpt, and {shape} by" in str(caught.value)


def test_a_checkpoint_without_an_encoder():
  with pytest.raises(files.InputError, match=r"p has none of BERT's .*it has a, b, c$"):
    checkpoints.compare({"bert/a": [1]}, {n: [1] for n in "dcba"}, "p")
  with pytest.raises(files.InputError, match=r"it has none at all$"):
    checkpoints.compare({"bert/a": [1]}, {}, "p")
  with pytest.raises(files.InputError, match=r"it has m/\.ATT.*; it was written by tf\.train\."):
    checkpoints.compare({"bert/a": [1]}, {"m/.ATTRIBUTES/VARIABLE_VALUE": [1]}, "p")


# ---- Names in the file --------------------------------------------------------------------------

NAME = "bert/pooler/dense/bias"


def save_arrays(prefix, variables):
  """Writes a checkpoint whose names may be such that no variable can have them."""
  arrays = {name: np.asarray(value) for name, value in variables.items()}
  checkpoints.save_checkpoint(str(prefix), arrays)
  return str(prefix)


def test_saved_variables_by_the_names_of_the_scripts(tmp_path):
  half = np.ones([3], np.float16)
  variables = {f"m/{NAME}:0": np.ones([2], np.float32), "m/b": half, "m/b/Adam": half}
  saved = checkpoints.read_saved(save_arrays(tmp_path / "x", variables), "my_flag")
  assert saved.shapes == {NAME: [2], "b": [3], "b/Adam": [3]}
  assert saved.names.sources == {NAME: f"m/{NAME}:0", "b": "m/b", "b/Adam": "m/b/Adam"}
  coverage = saved.compare({NAME: [2], "c": [1]}, {NAME: tf.float32, "c": tf.float32})
  assert coverage == checkpoints.Coverage([NAME], ["c"], [], unused=["b"])


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_saved_variables_of_another_type(tmp_path, kind):
  saved = checkpoints.read_saved(save_arrays(tmp_path / "x", {NAME: np.ones([2], kind)}), "f")
  with pytest.raises(files.InputError, match=rf"^--f: {NAME} is of type {kind.__name__} in .*/x, "):
    saved.compare({NAME: [2]}, {NAME: tf.float32})
  assert saved.compare({NAME: [2]}, {NAME: tf.as_dtype(kind)}).loaded == [NAME]


def test_only_the_names_of_the_scripts_can_go_on(tmp_path):
  bias = np.ones([2], np.float32)
  checkpoints.check_resumable(save_arrays(tmp_path / "own", {NAME: bias, f"{NAME}/adam_m": bias}))
  for name in (f"module/{NAME}", f"{NAME}:0"):
    prefix = save_arrays(tmp_path / "x", {name: bias})
    match = rf"^--output_dir: .* it has {name} for {NAME}; give it as --init_checkpoint"
    with pytest.raises(files.InputError, match=match):
      checkpoints.check_resumable(prefix)


def test_reading_leaves_training_state_and_the_scope(tmp_path, log):
  bias = np.ones([2], np.float32)
  slots = {f"m/{NAME}/{slot}": bias for slot in ("ExponentialMovingAverage", "lamb_m")}
  prefix = save_arrays(tmp_path / "x", {f"m/{NAME}": bias, **slots, "global_step": np.int64(3)})
  tensors, ignored = checkpoints.read_checkpoint(prefix)
  assert list(tensors) == [NAME] and ignored == 3
  assert log.messages == [f"The names of 1 variables in {prefix} begin with m/, which is taken off"]
