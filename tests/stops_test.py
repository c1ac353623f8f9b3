"""A training killed after any of its operations on files: what is left can be used, and goes on."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from tiny_runs import SPECIAL, save_model, start_flags, weights

ROOT = pathlib.Path(__file__).parents[1]
VOCAB = [*SPECIAL, "good", "bad", "film", "play", "."]
NUM_STEPS = 4


@pytest.fixture(name="flags", scope="module")
def _flags(tmp_path_factory):
  directory = tmp_path_factory.mktemp("model")
  save_model(directory, VOCAB, num_hidden_layers=1)
  rows = [f"{word} {thing} .\t{word}\n" for thing in ("film", "play") for word in ("good", "bad")]
  for name in ("train", "dev", "test"):
    (directory / f"{name}.tsv").write_text("sentence\tlabel\n" + "".join(rows))
  flags = {
    **start_flags(directory),
    "task_name": "tsv",
    "data_dir": directory,
    "max_seq_length": 8,
    "train_batch_size": 2,
    "num_train_epochs": NUM_STEPS // 2,
    "save_checkpoints_steps": 1,
    "keep_checkpoint_max": 2,
    "eval_steps": 2,
    "keep_best": True,
  }
  return [f"--{name}={value}" for name, value in flags.items()]


@pytest.mark.parametrize(
  ("every", "first"), [(17, 5), pytest.param(1, 1, marks=pytest.mark.slow)], ids=["some", "all"]
)
def test_a_stop_after_any_operation(flags, tmp_path, every, first):
  command = [sys.executable, ROOT / "tests" / "stopped_process.py", tmp_path, every, first, *flags]
  environment = {**os.environ, "PYTHONPATH": str(ROOT)}
  done = subprocess.run(
    list(map(str, command)), env=environment, capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stderr[-3000:]
  *stopped, whole = map(json.loads, done.stdout.splitlines())
  assert whole["status"] == 0 and len(stopped) >= (2 if every > 1 else 30)
  want = weights(tmp_path / str(whole["number"]))
  text = (tmp_path / str(whole["number"]) / "predictions.tsv").read_text()
  for run in stopped:
    directory = tmp_path / str(run["number"])
    assert (run["status"], run["again"]) == (9, 0), (run, done.stderr[-3000:])
    assert "Traceback" not in done.stderr
    assert (directory / "predictions.tsv").read_text() == text
    found = weights(directory)
    assert found.keys() == want.keys()
    for name, value in want.items():
      np.testing.assert_array_equal(found[name], value, err_msg=f"{run['number']} {name}")
