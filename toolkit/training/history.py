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
from typing import NamedTuple, Optional

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

  def score(self, entry: dict) -> float:
    """Returns the score of an entry of the history; the larger, the better."""
    value = entry[self.metric]
    if math.isnan(value):
      return -math.inf
    return -value if self.smaller_is_better else value


class History:
  """The evaluations of a directory's model.

  Attributes:
    entries: list of dicts of metric -> number, `step` among them, in the order of the steps.
  """

  def __init__(self, directory, goal, last_step):
    """Reads the history in a directory.

    Args:
      directory: str, the output directory.
      goal: Goal.
      last_step: int, the step of the last checkpoint; entries beyond it do not count.

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

  def best(self) -> Optional[dict]:
    """Returns the entry with the best score, of equal ones the first, or None."""
    return max(self.entries, key=self._goal.score, default=None)

  def check_kept(self):
    """Copies the best checkpoint of the history to best/, if it is to be kept and is not there.

    Raises:
      files.InputError: that checkpoint no longer exists.
    """
    best = self.best()
    if not self._goal.keep_best or best is None or best_step(self._directory) == best["step"]:
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
    if self._goal.patience is None or not self.entries:
      return False
    return len(self.entries) - 1 - self.entries.index(self.best()) >= self._goal.patience

  def add(self, step, metrics, checkpoint):
    """Adds an evaluation, and keeps the checkpoint if it is the best so far.

    Args:
      step: int.
      metrics: dict of metric -> number.
      checkpoint: str, prefix of the checkpoint of that step.
    """
    entry = {**{name: float(value) for name, value in metrics.items()}, "step": step}
    self.entries.append(entry)
    if self._goal.keep_best and self.best() is entry:
      _keep(checkpoint, self._directory, {"metric": self._goal.metric, **entry})
    lines = [json.dumps(each, sort_keys=True) + "\n" for each in self.entries]
    files.write_text(self._path, "".join(lines))


def read(directory: str) -> list[dict]:
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

  def __init__(self, steps, num_steps, history, evaluate, report):
    """Makes a watch.

    Args:
      steps: int, steps between two evaluations.
      num_steps: int, the step at which the training ends.
      history: History.
      evaluate: function of the prefix of a checkpoint to a dict of metric -> number.
      report: function of a step, its metrics and the best entry, called after each evaluation.
    """
    self.history = history
    self._steps = steps
    self._num_steps = num_steps
    self._evaluate = evaluate
    self._report = report

  def is_due(self, step: int) -> bool:
    """Returns whether a step is to be evaluated and is not yet."""
    at_time = step % self._steps == 0 or step >= self._num_steps
    return step > 0 and at_time and not self.history.has(step)

  def observe(self, step: int, checkpoint: Optional[str]) -> bool:
    """Evaluates a checkpoint, given by its prefix, if its step is due.

    Returns:
      Whether the training should stop here.

    Raises:
      files.InputError: see History.check_kept.
    """
    if self.is_due(step):
      metrics = self._evaluate(checkpoint)
      self.history.add(step, metrics, checkpoint)
      self._report(step, metrics, self.history.best())
    self.history.check_kept()
    return self.history.is_exhausted()

  def stops_after(self, step: int) -> list[int]:
    """Returns the steps to evaluate after a given one: every 50 steps of 120, 60 -> [100, 120]."""
    stops = range(step - step % self._steps + self._steps, self._num_steps, self._steps)
    return [*stops, self._num_steps]


def best_step(directory: str) -> Optional[int]:
  """Returns the step of the checkpoint in best/, or None."""
  checkpoint = model_directory.best_checkpoint(directory)
  return None if checkpoint is None else int(checkpoint.rsplit("-", 1)[1])
