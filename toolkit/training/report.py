"""Report of a training run: lines of the log, report.json, and a picture of its curves.

report.json   model, devices, steps, speed, memory, best and last evaluation, checkpoints
report.png    loss, learning rate and dev metrics over the steps, and the confusion matrix; drawn
              where the optional package matplotlib is installed
"""

import contextlib
import math
import os
import sys
from typing import Optional

import tensorflow.compat.v1 as tf
from absl import logging

from toolkit.formats import checkpoint_files, checkpoints, model_directory
from toolkit.support import files
from toolkit.training import history
from toolkit.training.hooks import duration

try:
  from matplotlib import figure as figures
except ImportError:
  figures = None

try:
  import resource
except ImportError:  # Windows
  resource = None

REPORT_FILE = "report.json"
PICTURE_FILE = "report.png"


def write(run, parts):
  """Logs a report and writes it into the output directory.

  Args:
    run: runs.Run.
    parts: list of hooks.Trained, from the training; without any there is no report.
  """
  if not parts:
    return
  directory = run.settings.output_dir
  facts = _facts(run, parts)
  files.write_json(os.path.join(directory, REPORT_FILE), facts)
  logging.info("***** Report *****")
  for line in lines(facts):
    logging.info("  %s", line)
  if figures is None:
    logging.info("  curves: for %s, pip install matplotlib", PICTURE_FILE)
    return
  picture = os.path.join(directory, PICTURE_FILE)
  with files.new_file(picture) as f:
    draw(directory).savefig(f, format="png", dpi=100)
  logging.info("  curves: %s", picture)


def _facts(run, parts):
  """Returns the content of the report, a dict for JSON."""
  directory = run.settings.output_dir
  last = checkpoint_files.latest(directory)
  shapes = checkpoints.checkpoint_shapes(last)
  weights = [s for name, s in shapes.items() if not name.endswith(checkpoints.SLOT_SUFFIXES)]
  goal = run.settings.eval_steps and run.settings.best_metric
  evaluations = history.read(directory) if goal else []
  seconds = _sum(parts, "seconds")
  facts = {
    "script": run.script,
    "model": {
      "layers": run.config.num_hidden_layers,
      "hidden_size": run.config.hidden_size,
      "parameters": sum(math.prod(shape) for shape in weights),
      "started_from": run.settings.init_checkpoint,
    },
    "devices": parts[0].devices,
    "steps": {"this_run": _sum(parts, "steps"), "in_all": checkpoints.checkpoint_step(last)},
    "examples_this_run": _sum(parts, "examples"),
    "seconds": {"training": seconds, "evaluation": _sum(parts, "evaluation_seconds")},
    "examples_per_second": _sum(parts, "examples") / max(seconds, 1e-9),
    "last_checkpoint": last,
    "checkpoint_in_use": model_directory.trained_checkpoint(directory),
  }
  memory = peak_memory_mib()
  if memory is not None:
    facts["peak_memory_mib"] = memory
  if evaluations:
    aim = history.Goal(goal, smaller_is_better=run.smaller_is_better)
    best = history.History(directory, aim, sys.maxsize).best()
    facts["evaluation"] = {"metric": goal, "best": best, "last": evaluations[-1]}
  return facts


def _sum(parts, name):
  return sum(getattr(part, name) for part in parts)


def peak_memory_mib() -> Optional[float]:
  """Returns the peak resident memory of this process in MiB, without that of GPUs.

  None where the system does not count it (Windows).
  """
  if resource is None:
    return None
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB elsewhere


def lines(facts: dict) -> list[str]:
  """Returns the report's lines of the log, of the content of report.json."""
  model, steps, seconds = facts["model"], facts["steps"], facts["seconds"]
  start = model["started_from"] or "random weights"
  result = [
    f"model: {model['layers']} layers, {model['hidden_size']} wide, "
    f"{model['parameters'] / 1e6:.1f} million parameters, from {start}",
    f"trained: {steps['this_run']} steps of {facts['examples_this_run']} examples in "
    f"{duration(seconds['training'])} on {facts['devices']}, {facts['examples_per_second']:.1f} "
    f"examples/s; {steps['in_all']} steps in all",
    f"evaluation meanwhile: {duration(seconds['evaluation'])}",
  ]
  if "peak_memory_mib" in facts:
    result.append(f"peak memory: {facts['peak_memory_mib']:.0f} MiB")
  if "evaluation" in facts:
    metric = facts["evaluation"]["metric"]
    for which in ("best", "last"):
      entry = facts["evaluation"][which]
      result.append(f"{which} evaluation: {metric} {entry[metric]:.4f} at step {entry['step']}")
  return [*result, f"model in use: {facts['checkpoint_in_use']}"]


# ---- Curves -------------------------------------------------------------------------------------


def read_scalars(directory: str) -> dict[str, dict[int, float]]:
  """Reads the event files that a directory has for TensorBoard.

  Returns:
    Name -> step -> value. Of a step that was made twice, the later value counts.
  """
  curves = {}
  for path in files.list_paths(directory, "events.out.tfevents.*"):
    # The end of a file that is being written, or was cut off, is left out.
    with contextlib.suppress(tf.errors.DataLossError):
      for event in tf.train.summary_iterator(path):
        for value in event.summary.value:
          if value.HasField("simple_value"):
            curves.setdefault(value.tag, {})[event.step] = value.simple_value
  return curves


def points(curve: dict):
  """Returns the sorted keys and their values: {20: 0.5, 10: 0.25} -> (10, 20), (0.25, 0.5)."""
  return zip(*sorted(curve.items()))


def draw(directory: str):
  """Draws the curves of the training in an output directory, and its last confusion matrix.

  Returns:
    matplotlib Figure.
  """
  training = read_scalars(directory)
  evaluated = {}
  for entry in history.read(directory):
    for name, value in entry.items():
      evaluated.setdefault(name, {})[entry["step"]] = value
  shown = [name for name in evaluated if name != "step" and "loss" not in name]
  panels = {
    "loss": [(training, "loss", "training"), (evaluated, "loss", "dev")],
    "learning rate": [(training, "learning_rate", None)],
    "dev": [(evaluated, name, name) for name in shown],
  }
  panels = {title: curves for title, curves in panels.items() if any(n in c for c, n, _ in curves)}
  confusion, labels = _confusion(directory)
  columns = len(panels) + bool(confusion)
  figure = figures.Figure(figsize=(5 * max(columns, 1), 4), layout="constrained")
  for place, (title, curves) in enumerate(panels.items()):
    _draw_curves(figure.add_subplot(1, columns, place + 1), title, curves)
  if confusion:
    _draw_confusion(figure.add_subplot(1, columns, columns), confusion, labels)
  return figure


def _draw_curves(axes, title, curves):
  for source, name, label in curves:
    if name in source:
      axes.plot(*points(source[name]), marker="." if len(source[name]) < 50 else None, label=label)
  axes.set(title=title, xlabel="step")
  axes.grid(alpha=0.3)
  if axes.get_legend_handles_labels()[1]:
    axes.legend()


def _confusion(directory):
  """Returns the confusion matrix in eval_metrics.json and its labels, or a pair of empty lists."""
  path = os.path.join(directory, "eval_metrics.json")
  metrics = files.read_json(path) if files.exists(path) else {}
  labels = [each["label"] for each in metrics.get("per_class", [])]
  return metrics.get("confusion_matrix", []), labels


def _draw_confusion(axes, confusion, labels):
  axes.imshow(confusion, cmap="Blues")
  axes.set(title="dev: true label, predicted label", xlabel="predicted", ylabel="true")
  axes.set_xticks(range(len(labels)), labels, rotation=45)
  axes.set_yticks(range(len(labels)), labels)
  most = max(map(max, confusion))
  for row, counts in enumerate(confusion):
    for column, count in enumerate(counts):
      color = "white" if count > most / 2 else "black"
      axes.text(column, row, count, ha="center", va="center", color=color)
