"""A finished output directory with one damaged file: predicted with, and trained on.

Each ends in the same result as before, in a warning that names the damage, or in one line.
"""

import contextlib
import pathlib
import shutil

import numpy as np
import pytest
from tiny_runs import SPECIAL, save_model, snapshot, start_flags, weights

import run_classifier
from toolkit.support import command_line, files

VOCAB = [*SPECIAL, "good", "bad", "film", "play", "."]
NUM_STEPS = 6


def run(directory, model, *switches, **flags):
  """Runs main as a command line would."""
  named = [f"--{name}={value}" for name, value in {"output_dir": directory, **flags}.items()]
  command_line.parse(run_classifier.flags, [*switches, *named])
  run_classifier.main([])


def training(model, epochs=NUM_STEPS // 2):
  return {
    **start_flags(model),
    "task_name": "tsv",
    "data_dir": model,
    "max_seq_length": 16,
    "train_batch_size": 4,
    "num_train_epochs": epochs,
    "learning_rate": 0.01,
    "save_checkpoints_steps": 2,
    "keep_checkpoint_max": 0,
    "eval_steps": 4,
    "keep_best": True,
    "best_metric": "loss",
  }


@pytest.fixture(name="model", scope="module")
def _model(tmp_path_factory):
  """A directory with a model to start from, train.tsv, dev.tsv and test.tsv."""
  directory = tmp_path_factory.mktemp("model")
  save_model(directory, VOCAB)
  rows = [f"{word} {thing} .\t{word}\n" for thing in ("film", "play") for word in ("good", "bad")]
  for name in ("train", "dev", "test"):
    (directory / f"{name}.tsv").write_text("sentence\tlabel\n" + "".join(rows * 2))
  return directory


@pytest.fixture(name="finished", scope="module")
def _finished(model, tmp_path_factory):
  """A directory that is trained to step 6, evaluated at 4 and 6, and has predicted."""
  directory = tmp_path_factory.mktemp("run") / "finished"
  run(directory, model, "--do_train", "--do_predict", **training(model))
  (directory / "graph.pbtxt").unlink()  # nothing reads it
  return directory


# Patterns of which each is one file.
CHECKPOINTS = ["checkpoint", "model.ckpt-6.index", "model.ckpt-6.data*"]
CHECKPOINTS += ["best/checkpoint", "best/*.index", "best/*.data*"]
DESCRIPTIONS = ["bert_config.json", "vocab.txt", "label_list.txt", "run.json"]
OTHERS = ["model.ckpt-6.meta", "model.ckpt-4.index", "eval_history.jsonl", "train.tf_record"]
OTHERS += [*DESCRIPTIONS, *(f"best/{name}" for name in (*DESCRIPTIONS, "best.json"))]


def flip(share):
  def flipped(path):
    data = bytearray(path.read_bytes())
    data[int(share * (len(data) - 1))] ^= 64
    path.write_bytes(data)

  flipped.__name__ = f"flipped_at_{share}"
  return flipped


def halve(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
  path.write_bytes(b"")


def remove(path):
  path.unlink()


DAMAGES = [flip(0.3), empty, remove, flip(0), flip(1), halve]
CASES = [
  pytest.param(
    name,
    damage,
    id=f"{name}-{damage.__name__}",
    marks=[] if name in CHECKPOINTS and damage in DAMAGES[:3] else [pytest.mark.slow],
  )
  for name in (*CHECKPOINTS, *OTHERS)
  for damage in DAMAGES
]


@contextlib.contextmanager
def refused(directory):
  """Records the message of an InputError, which is one line, and that it changed nothing."""
  before, messages = snapshot(directory), []
  try:
    yield messages
  except files.InputError as error:
    assert "\n" not in str(error)
    assert snapshot(directory) == before
    messages.append(str(error))


def damaged_copy(finished, tmp_path, pattern, damage):
  """Returns a copy of a directory with a damaged file, and the beginning of that file's name."""
  directory = pathlib.Path(shutil.copytree(finished, tmp_path / "copy"))
  (path,) = directory.glob(pattern)
  damage(path)
  return directory, path.name.split(".data")[0]


@pytest.mark.parametrize(("name", "damage"), CASES)
def test_prediction(finished, model, tmp_path, name, damage, log):
  directory, damaged = damaged_copy(finished, tmp_path, name, damage)
  before = (finished / "predictions.tsv").read_text()
  with refused(directory) as messages:
    run(directory, model, "--do_predict", data_dir=model)
  if messages:
    assert damaged in messages[0] or (name == "label_list.txt" and "label" in messages[0]), messages
  else:
    same = (directory / "predictions.tsv").read_text() == before
    assert same or name in DESCRIPTIONS  # a flipped letter of a word or label


@pytest.mark.parametrize(("name", "damage"), CASES)
def test_training_goes_on(finished, model, tmp_path, name, damage, log):
  directory, damaged = damaged_copy(finished, tmp_path, name, damage)
  with refused(directory) as messages:
    run(directory, model, "--do_train", **training(model, epochs=NUM_STEPS // 2 + 1))
  if messages:
    assert damaged in messages[0] or (name == "label_list.txt" and "label" in messages[0]), messages
    return
  found = weights(directory)
  assert found["global_step"] == NUM_STEPS + 2
  assert all(np.isfinite(value).all() for value in found.values())
  if name.startswith("model.ckpt-6.") and not name.endswith("meta"):
    warned = f"{directory / 'model.ckpt-6'}" in log.text and "is damaged" in log.text
    assert warned or damage is remove or damage.__name__ == "flipped_at_1"
