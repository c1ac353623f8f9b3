"""Evaluations of a model while it trains: their history, the best checkpoint, and when to stop.

eval_history.jsonl   a line per evaluation: {"accuracy": 0.71, "loss": 0.58, "step": 50}
best/                the checkpoint with the best score, the files that describe it, and best.json

The files are consistent whenever a process is killed. The checkpoint of an evaluated step is in the
directory first, then in best/ if it is the best one, and in the history last. A run that goes on
from that checkpoint does the missing parts.
"""

import json
import math
import os
import shutil
from collections.abc import Callable
from typing import Any, NamedTuple, Optional

from toolkit.formats import checkpoint_files, model_directory
from toolkit.support import files

HISTORY_FILE = "eval_history.jsonl"


class Goal(NamedTuple):
  """Criteria of the best checkpoint and of early stopping.

  Attributes:
    metric: a key of the evaluations' results.
    keep_best: whether the best checkpoint is kept in best/.
    patience: evaluations without a better one after which the training stops.
    smaller_is_better: whether the best is the smallest value of the metric.
  """

  metric: str
  keep_best: bool = False
  patience: Optional[int] = None
  smaller_is_better: bool = False

  def score(self, entry: dict[str, float]) -> tuple[float, float]:
    """Returns the score of an entry of the history; the larger, the better.

    Of entries with equal metrics, the one with the smaller loss is better.
    """
    value, loss = entry[self.metric], entry.get("loss", 0.0)
    value = -value if self.smaller_is_better else value
    value, loss = (-math.inf if math.isnan(each) else each for each in (value, -loss))
    return value, loss


class History:
  """The evaluations of a directory's model.

  Attributes:
    entries: metric -> number, `step` among them, in the order of the steps.
  """

  def __init__(self, directory: str, goal: Goal, last_step: int) -> None:
    """Reads the history in a directory.

    Args:
      directory: the output directory.
      goal: of the training.
      last_step: the step of the last checkpoint; entries beyond it do not count.

    Raises:
      files.InputError: the history cannot be read, or lacks the goal's metric.
    """
    self._directory = directory
    self._goal = goal
    self.entries = [entry for entry in read(directory) if entry["step"] <= last_step]
    for entry in self.entries:
      if goal.metric not in entry:
        raise files.InputError(
          f"--best_metric={goal.metric}: {self._path} has no such metric at step {entry['step']}; "
          "choose the one that the run began with, or --overwrite_output_dir"
        )

  @property
  def _path(self):
    return os.path.join(self._directory, HISTORY_FILE)

  def has(self, step: int) -> bool:
    """Returns whether a step is evaluated already."""
    return any(entry["step"] == step for entry in self.entries)

  def best(self) -> Optional[dict[str, float]]:
    """Returns the entry with the best score, of equal ones the first; None without entries."""
    return max(self.entries, key=self._goal.score, default=None)

  def check_kept(self) -> None:
    """Copies the best checkpoint of the history to best/, if it is to be kept and is not there.

    Raises:
      files.InputError: that checkpoint no longer exists.
    """
    best = self.best()
    if not self._goal.keep_best or best is None:
      return
    kept = best_step(self._directory)
    for entry in self.entries:  # one that is as good by the metric serves as well
      if entry["step"] == kept and self._goal.score(entry)[0] == self._goal.score(best)[0]:
        return
    checkpoint = os.path.join(self._directory, f"model.ckpt-{best['step']}")
    if not checkpoint_files.exists(checkpoint):
      raise files.InputError(
        f"--keep_best: the best model so far, of step {best['step']}, was not kept; give "
        "--keep_best from the start, with --overwrite_output_dir or another --output_dir"
      )
    _keep(checkpoint, self._directory, {"metric": self._goal.metric, **best})

  def is_exhausted(self) -> bool:
    """Returns whether as many evaluations as the patience came after the best one."""
    best = self.best()
    if self._goal.patience is None or best is None:
      return False
    return len(self.entries) - 1 - self.entries.index(best) >= self._goal.patience

  def add(self, step: int, metrics: dict[str, float], checkpoint: str) -> None:
    """Adds an evaluation, and keeps the checkpoint if it is the best so far.

    Args:
      step: of the training.
      metrics: metric -> number.
      checkpoint: prefix of the checkpoint of that step.
    """
    entry = {**{name: float(value) for name, value in metrics.items()}, "step": step}
    self.entries.append(entry)
    if self._goal.keep_best and self.best() is entry:
      _keep(checkpoint, self._directory, {"metric": self._goal.metric, **entry})
    lines = [json.dumps(each, sort_keys=True) + "\n" for each in self.entries]
    files.write_text(self._path, "".join(lines))


def read(directory: str) -> list[dict[str, Any]]:
  """Returns the entries of a directory's history, none without one; see History."""
  path = os.path.join(directory, HISTORY_FILE)
  if not files.exists(path):
    return []
  return [files.parse_json(line, path, number) for number, line in files.read_lines(path)]


def _keep(checkpoint, directory, score):
  """Copies a checkpoint to best/; see model_directory.best_checkpoint for when it counts."""
  best = os.path.join(directory, model_directory.BEST)
  files.make_directory(best, "output_dir")
  last = (checkpoint_files.STATE_FILE, model_directory.BEST_FILE)
  for name in dict.fromkeys([*last, *files.list_names(best)]):
    if files.exists(os.path.join(best, name)):
      files.remove(os.path.join(best, name))
  source_dir, name = os.path.split(checkpoint)
  parts = [path for path in files.list_paths(source_dir, "*") if path.startswith(f"{checkpoint}.")]
  for path in [*parts, *model_directory.description_files(directory)]:
    copy = os.path.join(best, os.path.basename(path))
    with files.open_binary(path) as source, files.new_file(copy) as target:
      shutil.copyfileobj(source, target, 2**24)
  files.write_json(os.path.join(best, model_directory.BEST_FILE), score)
  checkpoint_files.write_state(best, [name])


class Watch:
  """Evaluates a model at intervals of its training, and at the end; `history` is its History."""

  def __init__(
    self,
    steps: int,
    num_steps: int,
    history: History,
    evaluate: Callable[[str], dict[str, float]],
    report: Callable[[int, dict[str, float], Optional[dict[str, float]]], object],
  ) -> None:
    """Makes a watch.

    Args:
      steps: those between two evaluations.
      num_steps: the step at which the training ends.
      history: earlier evaluations.
      evaluate: computes metric -> number of a checkpoint, given by its prefix.
      report: called after each evaluation with a step, its metrics and the best entry.
    """
    self.history = history
    self._steps = steps
    self._num_steps = num_steps
    self._evaluate = evaluate
    self._report = report

  def is_due(self, step: int) -> bool:
    """Returns whether a step is to be evaluated and is not yet."""
    return step > 0 and self._is_stop(step) and not self.history.has(step)

  def _is_stop(self, step):
    """Returns whether a step is to be evaluated: not if the evaluation at the end is near."""
    is_near = 0 < (self._num_steps - step) * 4 <= self._steps
    return step >= self._num_steps or (step % self._steps == 0 and not is_near)

  def observe(self, step: int, checkpoint: Optional[str]) -> bool:
    """Evaluates a checkpoint, given by its prefix, if its step is due.

    Returns:
      Whether the training should stop here.

    Raises:
      files.InputError: see History.check_kept.
    """
    if self.is_due(step):
      assert checkpoint is not None  # there is one of each step above 0
      metrics = self._evaluate(checkpoint)
      self.history.add(step, metrics, checkpoint)
      self._report(step, metrics, self.history.best())
    self.history.check_kept()
    return self.history.is_exhausted()

  def stops_after(self, step: int) -> list[int]:
    """Returns the steps to evaluate after a given one: every 50 steps of 120, 60 -> [100, 120]."""
    stops = range(step - step % self._steps + self._steps, self._num_steps, self._steps)
    return [*filter(self._is_stop, stops), self._num_steps]


def best_step(directory: str) -> Optional[int]:
  """Returns the step of the checkpoint in best/, or None."""
  checkpoint = model_directory.best_checkpoint(directory)
  return None if checkpoint is None else int(checkpoint.rsplit("-", 1)[1])
