"""Checkpoints found, selected, and read with their checksums, in directories of any name."""

import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from toolkit.formats import checkpoint_files, model_directory
from toolkit.support import files

NAMES = ["plain", "with space", "runs [v1]", "a*b?c", "größe", "back\\slash", "[", "x]"]


def save(directory, step, value=None):
  """Writes OUTPUT/model.ckpt-STEP; returns its prefix."""
  directory.mkdir(parents=True, exist_ok=True)
  # TensorFlow writes any path; only its readers take it for a pattern.
  prefix = str(directory / f"model.ckpt-{step}")
  with tf.Graph().as_default(), tf.Session() as session:
    tf.get_variable("v", initializer=np.full([300], step if value is None else value, np.float32))
    tf.get_variable("w/adam_m", initializer=1.0)
    session.run(tf.global_variables_initializer())
    saver = tf.train.Saver(save_relative_paths=True)
    saver.save(session, prefix, write_state=False, write_meta_graph=False)
  return prefix


def value_of(prefix):
  return checkpoint_files.open_reader(prefix).get_tensor("v")[0]


@pytest.mark.parametrize("name", NAMES)
def test_directories_of_any_name(tmp_path, name):
  prefix = save(tmp_path / name, 5)
  assert checkpoint_files.exists(prefix)
  assert checkpoint_files.latest(str(tmp_path / name)) == prefix
  assert checkpoint_files.damage(prefix) is None
  assert value_of(prefix) == 5
  with tf.Graph().as_default(), tf.Session() as session:
    variable = tf.get_variable("v", [300])
    checkpoint_files.restore(tf.train.Saver(), session, prefix)
    assert session.run(variable)[0] == 5
  with tf.Graph().as_default(), tf.Session() as session:
    variable = tf.get_variable("v", [300])
    checkpoint_files.init_from(prefix, {"v": "v"})
    session.run(tf.global_variables_initializer())
    assert session.run(variable)[0] == 5


@pytest.mark.parametrize("name", NAMES)
def test_checkpoints_of_any_name(tmp_path, name):
  prefix = save(tmp_path, 5)
  for path in tmp_path.glob("model.ckpt-5.*"):
    path.rename(tmp_path / (name + path.name[len("model.ckpt-5") :]))
  assert value_of(str(tmp_path / name)) == 5
  assert not checkpoint_files.exists(prefix)


def test_a_name_that_is_no_pattern_stays(tmp_path):
  assert checkpoint_files.for_tensorflow(str(tmp_path / "a b")) == str(tmp_path / "a b")
  assert checkpoint_files.for_tensorflow("gs://bucket/[1]") == "gs://bucket/[1]"


def test_a_directory_that_is_made_later(tmp_path):
  linked = checkpoint_files.for_tensorflow(str(tmp_path / "[new]"))
  assert not os.path.exists(linked)
  prefix = save(tmp_path / "[new]", 3)
  assert os.path.exists(os.path.join(linked, "model.ckpt-3.index"))
  assert value_of(prefix) == 3


# ---- Which one ----------------------------------------------------------------------------------


def test_the_state_decides_and_steps_come_behind(tmp_path):
  five, ten, nine = (save(tmp_path, step) for step in (5, 10, 9))
  assert checkpoint_files.found(str(tmp_path)) == [ten, nine, five]
  checkpoint_files.write_state(str(tmp_path), [nine, five])
  assert checkpoint_files.found(str(tmp_path)) == [nine, five, ten]
  assert tf.train.latest_checkpoint(str(tmp_path)) == nine
  state = tf.train.get_checkpoint_state(str(tmp_path))
  assert list(state.all_model_checkpoint_paths) == [five, nine]


def test_a_state_of_tensorflows(tmp_path):
  five, ten = (save(tmp_path, step) for step in (5, 10))
  tf.train.update_checkpoint_state(str(tmp_path), five, [ten, five])
  assert checkpoint_files.found(str(tmp_path)) == [five, ten]
  moved = tmp_path.rename(tmp_path.with_name("moved"))
  assert checkpoint_files.latest(str(moved)) == str(moved / "model.ckpt-5")


def test_a_state_that_names_another_directory(tmp_path):
  elsewhere = save(tmp_path / "elsewhere", 5)
  (tmp_path / "here").mkdir()
  tf.train.update_checkpoint_state(str(tmp_path / "here"), elsewhere)
  assert checkpoint_files.latest(str(tmp_path / "here")) == elsewhere


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00", b'model_checkpoint_path: "gone"'])
def test_without_a_state_that_can_be_read(tmp_path, content):
  save(tmp_path, 5)
  ten = save(tmp_path, 10)
  if content is not None:
    (tmp_path / "checkpoint").write_bytes(content)
  assert checkpoint_files.latest(str(tmp_path)) == ten
  checkpoint_files.select(str(tmp_path), ten)
  assert tf.train.latest_checkpoint(str(tmp_path)) == ten


def test_nothing_there(tmp_path):
  assert checkpoint_files.latest(str(tmp_path / "nowhere")) is None
  (tmp_path / "model.ckpt-7.data-00000-of-00001").write_bytes(b"")
  assert checkpoint_files.latest(str(tmp_path)) is None


def test_selecting_an_older_one_leaves_out_the_newer(tmp_path):
  five, nine, ten = (save(tmp_path, step) for step in (5, 9, 10))
  checkpoint_files.write_state(str(tmp_path), [ten, nine, five])
  checkpoint_files.select(str(tmp_path), nine)
  state = tf.train.get_checkpoint_state(str(tmp_path))
  assert state.model_checkpoint_path == nine
  assert list(state.all_model_checkpoint_paths) == [five, nine]


# ---- Damage -------------------------------------------------------------------------------------


def flip(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 4] ^= 16  # the end of an index has bytes without meaning
  path.write_bytes(data)


def halve(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
  path.write_bytes(b"")


def remove(path):
  path.unlink()


DAMAGES = [flip, halve, empty, remove]


@pytest.mark.parametrize("hurt", DAMAGES)
@pytest.mark.parametrize("part", ["index", "data-00000-of-00001"])
def test_the_newest_whole_one(tmp_path, log, hurt, part):
  five, ten = (save(tmp_path, step) for step in (5, 10))
  hurt(tmp_path / f"model.ckpt-10.{part}")
  assert checkpoint_files.newest_whole(str(tmp_path)) == five
  if (part, hurt) != ("index", remove):
    assert f"{ten}.{part[:4]}" in log.text and f"the last whole checkpoint is {five}" in log.text
    with pytest.raises(
      files.InputError, match=r"^--f: .*10\.\w+ is damaged.*: .*ckpt-5 is whole, and"
    ):
      checkpoint_files.check_whole(ten, "f")
  hurt(tmp_path / f"model.ckpt-5.{part}")
  if (part, hurt) == ("index", remove):
    assert checkpoint_files.newest_whole(str(tmp_path)) is None
    return
  with pytest.raises(
    files.InputError, match=r"ckpt-10\.\w+ is damaged.*: .*no whole checkpoint in"
  ):
    checkpoint_files.newest_whole(str(tmp_path))
  with pytest.raises(files.InputError, match=r"is damaged[^\n]*: [^\n]*; copy it again$"):
    checkpoint_files.check_whole(five, "f")


def test_only_what_is_needed_is_read(tmp_path):
  prefix = save(tmp_path, 5)
  path = tmp_path / "model.ckpt-5.data-00000-of-00001"
  data = bytearray(path.read_bytes())
  data[-2] ^= 1  # in w/adam_m, the last one
  path.write_bytes(data)
  assert checkpoint_files.damage(prefix)
  assert checkpoint_files.damage(prefix, lambda name: name == "v") is None


def test_a_best_checkpoint_counts_when_its_last_files_are_there(tmp_path):
  last = save(tmp_path, 10)
  best = save(tmp_path / "best", 5)
  assert model_directory.trained_checkpoint(str(tmp_path)) == last
  (tmp_path / "best" / "best.json").write_text("{}")
  assert model_directory.trained_checkpoint(str(tmp_path)) == best
  (tmp_path / "best" / "best.json").unlink()
  checkpoint_files.write_state(str(tmp_path / "best"), [best])
  assert model_directory.trained_checkpoint(str(tmp_path)) == best
