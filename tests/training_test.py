"""While a tiny classifier trains: evaluation, the best checkpoint, early stopping, going on."""

import json
import signal

import numpy as np
import pytest
from tiny_runs import SPECIAL, save_model, send_once, snapshot, start_flags, weights

import run_classifier
from toolkit.support import command_line, files
from toolkit.training import estimators, history

VOCAB = [*SPECIAL, "good", "bad", "film", "play", ".", "so"]
NUM_STEPS = 6


@pytest.fixture(name="model", scope="module")
def _model(tmp_path_factory):
  """A directory with a model to start from, train.tsv and dev.tsv."""
  directory = tmp_path_factory.mktemp("model")
  save_model(directory, VOCAB)
  rows = [
    f"{'so ' * (i % 3)}{word} {thing} .\t{word}\n"
    for i, thing in enumerate(["film", "play", "film", "play"])
    for word in ("good", "bad")
  ]
  for name in ("train", "dev"):
    (directory / f"{name}.tsv").write_text("sentence\tlabel\n" + "".join(rows))
  return directory


def run(output_dir, model, *switches, **flags):
  """Runs main as a command line would."""
  flags = {
    **start_flags(model),
    "output_dir": output_dir,
    "task_name": "tsv",
    "data_dir": model,
    "max_seq_length": 16,
    "train_batch_size": 4,
    "num_train_epochs": NUM_STEPS // 2,
    "learning_rate": 0.01,
    **flags,
  }
  named = [f"--{name}={value}" for name, value in flags.items()]
  command_line.parse(run_classifier.flags, [*(switches or ["--do_train"]), *named])
  run_classifier.main([])


WATCHED = {"eval_steps": 4, "keep_best": True, "best_metric": "loss", "keep_checkpoint_max": 1}


@pytest.fixture(name="plain", scope="module")
def _plain(model, tmp_path_factory):
  """The output directory of a training without evaluation."""
  directory = tmp_path_factory.mktemp("run") / "plain"
  run(directory, model)
  return directory


@pytest.fixture(name="watched", scope="module")
def _watched(model, tmp_path_factory):
  """The output directory of the same training with WATCHED, evaluated at its end."""
  directory = tmp_path_factory.mktemp("run") / "watched"
  run(directory, model, "--do_train", "--do_eval", **WATCHED)
  return directory


def entries(directory):
  lines = (directory / history.HISTORY_FILE).read_text().splitlines()
  return [json.loads(line) for line in lines]


def assert_same_weights(directory, other):
  found, want = weights(directory), weights(other)
  assert found.keys() == want.keys()
  for name, value in want.items():
    np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_evaluation_changes_nothing(plain, watched):
  assert_same_weights(watched, plain)


def test_the_best_of_the_history_is_kept_and_used(watched):
  found = entries(watched)
  assert [entry["step"] for entry in found] == [4, 6]
  best = min(found, key=lambda entry: entry["loss"])
  kept = json.loads((watched / "best" / "best.json").read_text())
  assert kept == {**best, "metric": "loss"}
  metrics = json.loads((watched / "eval_metrics.json").read_text())
  assert metrics["global_step"] == best["step"]
  np.testing.assert_allclose(metrics["loss"], best["loss"], rtol=1e-5)
  assert len(list(watched.glob("model.ckpt-*.index"))) == 1


def test_the_best_directory_has_its_description(watched, model, tmp_path):
  output_dir = tmp_path / "copy"
  output_dir.mkdir()
  for name, content in snapshot(watched / "best").items():
    (output_dir / name.rsplit("/", 1)[1]).write_bytes(content)
  command_line.parse(
    run_classifier.flags, ["--do_eval", f"--output_dir={output_dir}", f"--data_dir={model}"]
  )
  run_classifier.main([])
  for name in ("eval_results.txt", "eval_metrics.json"):
    assert (output_dir / name).read_text() == (watched / name).read_text()


class _Killed(BaseException):
  pass


@pytest.mark.parametrize("point", [pytest.param("before", marks=pytest.mark.slow), "after"])
def test_a_run_killed_around_an_evaluation_goes_on(model, watched, tmp_path, monkeypatch, point):
  add = history.History.add

  def killed(self, *arguments):
    if point == "after":
      add(self, *arguments)
    raise _Killed

  with monkeypatch.context() as patched, pytest.raises(_Killed):
    patched.setattr(history.History, "add", killed)
    run(tmp_path, model, **WATCHED)
  run(tmp_path, model, **WATCHED)
  assert entries(tmp_path) == entries(watched)
  assert (tmp_path / "best/best.json").read_text() == (watched / "best/best.json").read_text()
  assert_same_weights(tmp_path, watched)


def test_training_in_segments_is_the_same(model, watched, tmp_path, monkeypatch):
  train = estimators.train

  def train_like_a_tpu(*arguments, **named):
    train(*arguments, **{**named, "in_segments": True})

  monkeypatch.setattr(estimators, "train", train_like_a_tpu)
  run(tmp_path, model, **WATCHED)
  assert entries(tmp_path) == entries(watched)
  assert_same_weights(tmp_path, watched)


def test_early_stopping(model, tmp_path, log):
  flags = {"eval_steps": 2, "early_stopping_patience": 1, "learning_rate": 1e-9}
  run(tmp_path, model, **flags)
  assert [entry["step"] for entry in entries(tmp_path)] == [2, 4]
  assert weights(tmp_path)["global_step"] == 4
  stop = "Stopping early at step 4: no better evaluation since step 2."
  assert log.messages.count(stop) == 1
  log.clear()
  run(tmp_path, model, **flags)
  assert any(message.startswith("Skipping training") for message in log.messages)
  assert [entry["step"] for entry in entries(tmp_path)] == [2, 4]


def test_the_training_of_an_older_toolkit_goes_on(model, plain, tmp_path, monkeypatch):
  send_once(monkeypatch, signal.SIGTERM, at_step=3)
  with pytest.raises(estimators.Interrupted):
    run(tmp_path, model)
  monkeypatch.undo()
  for path in tmp_path.iterdir():  # it left checkpoints, events and records, and no description
    if not path.name.startswith(("checkpoint", "model.ckpt", "events", "graph", "train")):
      path.unlink()
  run(tmp_path, model)
  assert_same_weights(tmp_path, plain)


@pytest.mark.parametrize(
  ("flags", "match"),
  [
    ({"early_stopping_patience": 2}, r"--early_stopping_patience needs evaluation while training"),
    ({"keep_best": True}, r"--keep_best needs evaluation while training: give --eval_steps=N"),
    ({"eval_steps": 2, "best_metric": "bleu"}, r"no metric bleu; choose one of accuracy, macro_f1"),
    ({"eval_steps": 0}, r"--eval_steps=0.* must be a number of steps, or `epoch`"),
    ({"eval_steps": "often"}, r"--eval_steps=often"),
    ({"eval_steps": 2, "early_stopping_patience": 0}, r"early_stopping_patience"),
  ],
)
def test_impossible_flags(model, tmp_path, flags, match):
  with pytest.raises(files.InputError, match=match):
    run(tmp_path / "out", model, **flags)
  assert not (tmp_path / "out").exists()


def test_no_dev_set(model, tmp_path):
  (tmp_path / "train.tsv").write_bytes((model / "train.tsv").read_bytes())
  with pytest.raises(files.InputError, match=r"dev\.tsv"):
    run(tmp_path / "out", model, data_dir=tmp_path, eval_steps=2)
  assert not (tmp_path / "out").exists()
