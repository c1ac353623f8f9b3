"""Evaluations of a run, the checkpoint that is kept, and early stopping."""

import json
import math

import pytest
from tiny_runs import save_checkpoint

from toolkit.formats import model_directory
from toolkit.support import files
from toolkit.training import history

ACCURACY = history.Goal("accuracy")


def entries(*scores, metric="accuracy"):
  return [{metric: score, "step": 10 * i + 10} for i, score in enumerate(scores)]


def opened(directory, goal, *scores, last_step=1000):
  """A History of a directory whose file has the given scores at the steps 10, 20, ..."""
  lines = [json.dumps(entry) + "\n" for entry in entries(*scores, metric=goal.metric)]
  (directory / history.HISTORY_FILE).write_text("".join(lines))
  return history.History(str(directory), goal, last_step)


def saved(directory, step):
  """A checkpoint of a step; returns its prefix."""
  return save_checkpoint(directory / f"model.ckpt-{step}", {"x": [float(step)]})


def kept(directory):
  """The content of best/best.json, and the step whose checkpoint lies beside it."""
  best = json.loads((directory / "best" / "best.json").read_text())
  return best, history.best_step(str(directory))


@pytest.mark.parametrize(
  ("metric", "scores", "best"),
  [
    ("accuracy", [0.5, 0.7, 0.6], 20),
    ("accuracy", [0.5, 0.7, 0.7], 20),  # of equal ones the first
    ("accuracy", [math.nan, 0.1], 20),
    ("loss", [0.5, 0.3, 0.4], 20),
    ("masked_lm_loss", [3.0, 2.0, 1.0], 30),
    ("mean_squared_error", [3.0, 4.0], 10),
  ],
)
def test_the_best_of_a_history(tmp_path, metric, scores, best):
  goal = history.Goal(metric, smaller_is_better=metric != "accuracy")
  assert opened(tmp_path, goal, *scores).best()["step"] == best


@pytest.mark.parametrize(
  ("patience", "scores", "want"),
  [
    (1, [0.5], False),
    (1, [0.5, 0.4], True),
    (1, [0.5, 0.6], False),
    (2, [0.5, 0.4], False),
    (2, [0.5, 0.4, 0.5], True),  # as good is not better
    (2, [0.5, 0.4, 0.6, 0.1], False),
    (None, [0.5, 0.4, 0.3, 0.2], False),
    (1, [], False),
  ],
)
def test_patience(tmp_path, patience, scores, want):
  goal = history.Goal("accuracy", patience=patience)
  assert opened(tmp_path, goal, *scores).is_exhausted() == want


def test_a_history_ends_at_the_last_checkpoint(tmp_path):
  past = opened(tmp_path, ACCURACY, 0.5, 0.6, 0.7, last_step=20)
  assert past.has(20) and not past.has(30)
  past.add(30, {"accuracy": 0.1}, None)
  lines = (tmp_path / history.HISTORY_FILE).read_text().splitlines()
  assert [json.loads(line)["accuracy"] for line in lines] == [0.5, 0.6, 0.1]


def test_the_best_checkpoint_is_kept(tmp_path):
  (tmp_path / "vocab.txt").write_text("[PAD]\n")
  past = opened(tmp_path, history.Goal("accuracy", keep_best=True))
  past.add(10, {"accuracy": 0.5, "loss": 1.0}, saved(tmp_path, 10))
  assert kept(tmp_path) == ({"accuracy": 0.5, "loss": 1.0, "metric": "accuracy", "step": 10}, 10)
  past.add(20, {"accuracy": 0.7, "loss": 0.9}, saved(tmp_path, 20))
  past.add(30, {"accuracy": 0.6, "loss": 0.8}, saved(tmp_path, 30))
  assert kept(tmp_path)[1] == 20
  assert model_directory.trained_checkpoint(str(tmp_path)).endswith("best/model.ckpt-20")
  assert sorted(path.name for path in (tmp_path / "best").iterdir()) == [
    "best.json",
    "checkpoint",
    "model.ckpt-20.data-00000-of-00001",
    "model.ckpt-20.index",
    "vocab.txt",
  ]


def test_ties_are_broken_by_the_loss(tmp_path):
  past = opened(tmp_path, history.Goal("accuracy", keep_best=True))
  for step, loss in ((10, 0.9), (20, 0.1), (30, math.nan), (40, 0.1), (50, 0.2)):
    past.add(step, {"accuracy": 0.7, "loss": loss}, saved(tmp_path, step))
  assert kept(tmp_path) == ({"accuracy": 0.7, "loss": 0.1, "metric": "accuracy", "step": 20}, 20)


def test_a_kept_checkpoint_that_is_as_good_stays(tmp_path):
  goal = history.Goal("accuracy", keep_best=True)
  past = opened(tmp_path, goal)
  past.add(10, {"accuracy": 0.7, "loss": 0.9}, saved(tmp_path, 10))
  line = json.dumps({"accuracy": 0.7, "loss": 0.1, "step": 20}) + "\n"
  with open(tmp_path / history.HISTORY_FILE, "a") as f:
    f.write(line)
  history.History(str(tmp_path), goal, 20).check_kept()  # whose checkpoint is gone
  assert kept(tmp_path)[1] == 10


def test_a_copy_that_was_interrupted_does_not_count(tmp_path, monkeypatch):
  past = opened(tmp_path, history.Goal("accuracy", keep_best=True))
  past.add(10, {"accuracy": 0.5}, saved(tmp_path, 10))
  prefix = saved(tmp_path, 20)

  def interrupted(*_):
    raise KeyboardInterrupt

  with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
    patched.setattr(history.shutil, "copyfileobj", interrupted)
    past.add(20, {"accuracy": 0.6}, prefix)
  assert history.best_step(str(tmp_path)) is None
  again = history.History(str(tmp_path), history.Goal("accuracy", keep_best=True), 20)
  assert not again.has(20)
  again.add(20, {"accuracy": 0.6}, prefix)
  assert kept(tmp_path)[1] == 20


def test_a_lost_best_checkpoint(tmp_path):
  goal = history.Goal("accuracy", keep_best=True)
  past = opened(tmp_path, goal, 0.5, 0.4)
  with pytest.raises(files.InputError, match=r"--keep_best: the best .* of step 10, was"):
    past.check_kept()
  saved(tmp_path, 10)  # as it is when --keep_best is given soon enough
  past.check_kept()
  assert kept(tmp_path) == ({"accuracy": 0.5, "metric": "accuracy", "step": 10}, 10)


def test_a_history_without_the_metric(tmp_path):
  opened(tmp_path, ACCURACY, 0.5)
  with pytest.raises(files.InputError, match=r"--best_metric=f1: .* no such metric at step 10"):
    history.History(str(tmp_path), history.Goal("f1"), 1000)


def test_a_broken_history(tmp_path):
  (tmp_path / history.HISTORY_FILE).write_text("{")
  with pytest.raises(
    files.InputError, match=r"eval_history.jsonl:1: is not valid JSON: .* \(column \d+\)"
  ):
    history.History(str(tmp_path), ACCURACY, 1000)


def watch(directory, steps, num_steps, found, goal=ACCURACY):
  past = history.History(str(directory), goal, 1000)
  return history.Watch(
    steps, num_steps, past, lambda _: {"accuracy": found.pop(0)}, lambda *_: None
  )


def test_what_is_due(tmp_path):
  watched = watch(tmp_path, 50, 120, [0.5, 0.6])
  assert [step for step in range(0, 125) if watched.is_due(step)] == [50, 100, *range(120, 125)]
  assert not watched.observe(50, "model.ckpt-50")
  assert not watched.observe(60, "model.ckpt-60")
  assert not watched.is_due(50)
  assert [entry["step"] for entry in watched.history.entries] == [50]


def test_the_stops_of_segments(tmp_path):
  watched = watch(tmp_path, 50, 120, [])
  assert watched.stops_after(0) == [50, 100, 120]
  assert watched.stops_after(60) == [100, 120]
  assert watched.stops_after(100) == [120]
  assert watch(tmp_path, 50, 100, []).stops_after(49) == [50, 100]
