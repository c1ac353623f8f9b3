"""Whole runs in directories of awkward names, and where files may grow no more."""

import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest
from tiny_runs import SPECIAL, save_model, start_flags, weights

import convert_checkpoint
import extract_features
import run_classifier
from toolkit.serving.classifier import Classifier
from toolkit.serving.feature_extractor import FeatureExtractor
from toolkit.support import command_line

ROOT = pathlib.Path(__file__).parents[1]
VOCAB = [*SPECIAL, "good", "bad", "film", "play", "."]
AWKWARD = "runs [v1] *?\\ größe"


def run(script, *switches, **flags):
  """Runs main as a command line would."""
  command_line.parse(script.flags, [*switches, *(f"--{n}={value}" for n, value in flags.items())])
  script.main([])


def write_data(directory):
  directory.mkdir()
  save_model(directory, VOCAB)
  rows = [f"{word} {thing} .\t{word}\n" for thing in ("film", "play") for word in ("good", "bad")]
  for name in ("train", "dev", "test"):
    (directory / f"{name}.tsv").write_text("sentence\tlabel\n" + "".join(rows))
  return directory


def training(data, **flags):
  return {
    **start_flags(data),
    "task_name": "tsv",
    "data_dir": data,
    "max_seq_length": 16,
    "train_batch_size": 2,
    "num_train_epochs": 3,
    "save_checkpoints_steps": 2,
    "keep_checkpoint_max": 2,
    **flags,
  }


def train_in(place):
  """Trains in two parts, evaluates, keeps the best and predicts; returns the output directory."""
  data, output_dir = write_data(place / "data"), place / "out"
  flags = training(data, output_dir=output_dir, eval_steps=2, keep_best=True)
  run(run_classifier, "--do_train", **{**flags, "num_train_epochs": 1.5})
  run(run_classifier, "--do_train", "--do_eval", "--do_predict", **flags)
  return output_dir


@pytest.fixture(name="plain", scope="module")
def _plain(tmp_path_factory):
  """The output directory of train_in at a usual place."""
  return train_in(tmp_path_factory.mktemp("plain"))


def test_a_directory_of_an_awkward_name(plain, tmp_path):
  place = tmp_path / AWKWARD
  place.mkdir()
  output_dir = train_in(place)
  names = {path.name for path in output_dir.iterdir() if "events" not in path.name}
  assert names == {path.name for path in plain.iterdir() if "events" not in path.name}
  assert (output_dir / "predictions.tsv").read_text() == (plain / "predictions.tsv").read_text()
  found, want = (
    weights(shutil.copytree(directory, tmp_path / name))
    for name, directory in (("found", output_dir), ("want", plain))
  )
  for name, value in want.items():
    np.testing.assert_array_equal(found[name], value, err_msg=name)

  texts = ["good film .", "bad play ."]
  predictions = Classifier.from_directory(str(output_dir)).classify(texts)
  assert predictions == Classifier.from_directory(str(plain)).classify(texts)
  vectors = FeatureExtractor.from_directory(str(output_dir), max_seq_length=16).encode(texts)
  np.testing.assert_array_equal(
    vectors, FeatureExtractor.from_directory(str(plain), max_seq_length=16).encode(texts)
  )

  input_file = place / "input [1].txt"
  input_file.write_text("good film\n")
  vectors_file = place / "v*.jsonl"
  run(
    extract_features,
    model_dir=output_dir,
    input_file=input_file,
    output_file=vectors_file,
    max_seq_length=16,
    layers="-1",
  )
  assert len(vectors_file.read_text().splitlines()) == 1
  for mode, path in (("to_huggingface", place / "[h]"), ("strip", place / "s?")):
    run(convert_checkpoint, mode=mode, input=output_dir, output=path)
  run(convert_checkpoint, mode="from_huggingface", input=place / "[h]", output=place / "[b]")
  start = {"init_checkpoint": place / "[b]" / "bert_model.ckpt"}
  run(run_classifier, "--do_eval", **training(place / "data", output_dir=place / "e", **start))
  metrics = [json.loads((d / "eval_metrics.json").read_text()) for d in (place / "e", plain)]
  assert metrics[0]["loss"] == pytest.approx(metrics[1]["loss"], abs=1e-5)


# ---- Processes ----------------------------------------------------------------------------------


def process(arguments, limit=None, **environment):
  """Runs a script in a process whose files may have `limit` bytes; returns the CompletedProcess."""

  def limited():
    if limit is not None:
      resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

  return subprocess.run(
    [sys.executable, *map(str, arguments)],
    cwd=ROOT,
    env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
    capture_output=True,
    preexec_fn=limited,
    check=False,
  )


def command(flags, *switches):
  return ["run_classifier.py", *switches, *(f"--{name}={value}" for name, value in flags.items())]


def test_a_locale_without_letters_beyond_ascii(tmp_path):
  place = tmp_path / AWKWARD
  place.mkdir()
  flags = training(write_data(place / "data"), output_dir=place / "out", num_train_epochs=1)
  done = process(command(flags, "--do_train", "--do_predict"), LC_ALL="C")
  assert done.returncode == 0, done.stderr.decode("utf-8", "replace")[-2000:]
  assert (place / "out" / "predictions.tsv").exists()


# What a training writes first: the records, then the graph, a checkpoint, the predictions.
@pytest.mark.parametrize("limit", [100, 3000, 60_000])
def test_files_that_may_grow_no_more(plain, tmp_path, limit):
  flags = training(write_data(tmp_path / "data"), output_dir=tmp_path / "out")
  done = process(command(flags, "--do_train", "--do_predict"), limit)
  error = done.stderr.decode()
  (line,) = (line for line in error.splitlines() if "error:" in line)
  assert done.returncode == 1 and "Traceback" not in error, error[-3000:]
  assert str(tmp_path / "out") in line and "cannot be written: " in line and "too large" in line
  assert not [path for path in (tmp_path / "out").iterdir() if "tmp" in path.name]
  run(run_classifier, "--do_train", "--do_predict", **flags)
  assert (tmp_path / "out" / "predictions.tsv").exists()
