"""Report of a training run: lines of the log, report.json, and a picture of its curves.

report.json   model, devices, steps, speed, memory, best and last evaluation, checkpoints
report.png    loss, learning rate and dev metrics over the steps, and the confusion matrix; drawn
              where the optional package matplotlib is installed
"""

import contextlib
import math
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, Optional

import tensorflow.compat.v1 as tf

from toolkit.formats import checkpoint_files, checkpoints, model_directory
from toolkit.support import files, logs
from toolkit.training import history
from toolkit.training.hooks import Trained, duration
from toolkit.training.runs import Run

figures: Any = None
with contextlib.suppress(ImportError):
  import matplotlib.figure

  figures = matplotlib.figure

resource: Any = None
with contextlib.suppress(ImportError):  # Windows has none
  import resource

REPORT_FILE = "report.json"
PICTURE_FILE = "report.png"

# The event files of a training, for TensorBoard.
EVENTS = "events.out.tfevents.*"

# Labels of a confusion matrix that are written beside it, with the counts in it, and their length.
_MOST_LABELS = 20
_LABEL_CHARACTERS = 20

# Values of a result that a line of the log shows.
_MOST_VALUES = 6


def write(run: Run, parts: Sequence[Trained]) -> None:
  """Logs a report and writes it into the output directory.

  Args:
    run: with the output directory.
    parts: of the training; without any only the picture is drawn, after an evaluation.
  """
  directory = run.settings.output_dir
  if parts:
    facts = _facts(run, parts)
    files.write_json(os.path.join(directory, REPORT_FILE), facts)
    logs.notice("***** Report *****")
    for line in lines(facts):
      logs.notice("  %s", line)
  if (parts or run.settings.do_eval) and files.list_paths(directory, EVENTS):
    _write_picture(directory)


def _write_picture(directory):
  """Draws the curves of a directory into its picture, where matplotlib is installed."""
  if figures is None:
    logs.notice("Curves: pip install matplotlib draws them into %s", PICTURE_FILE)
    return
  picture = os.path.join(directory, PICTURE_FILE)
  with files.new_file(picture) as f, warnings.catch_warnings():
    warnings.simplefilter("ignore")  # such as those about letters that the font lacks
    draw(directory).savefig(f, format="png", dpi=100)
  logs.notice("Curves: %s", picture)


def _facts(run, parts):
  """Returns the content of the report, a dict for JSON."""
  directory = run.settings.output_dir
  last = checkpoint_files.latest(directory)
  assert last is not None  # training has saved one
  shapes = checkpoints.checkpoint_shapes(last)
  weights = [s for name, s in shapes.items() if not name.endswith(checkpoints.SLOT_SUFFIXES)]
  goal = run.settings.eval_steps and run.settings.best_metric
  evaluations = history.read(directory) if goal else []
  seconds = _sum(parts, "seconds")
  num_kept = len(files.list_paths(directory, "model.ckpt-*.index"))
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
    "checkpoints": {"mib_each": _checkpoint_mib(last), "kept": num_kept},
  }
  if run.settings.do_eval:
    facts["results"] = _results(run)
  memory = peak_memory_mib()
  if memory is not None:
    facts["peak_memory_mib"] = memory
  if evaluations:
    aim = history.Goal(goal, smaller_is_better=run.smaller_is_better)
    best = history.History(directory, aim, sys.maxsize).best()
    facts["evaluation"] = {"metric": goal, "best": best, "last": evaluations[-1]}
  return facts


def _checkpoint_mib(prefix):
  parts = files.list_paths(os.path.dirname(prefix), "*")
  sizes = [files.size_and_time(path)[0] for path in parts if path.startswith(f"{prefix}.")]
  return sum(sizes) / 2**20


def _results(run):
  """Returns the numbers that --do_eval has found: name of the set -> metric -> number."""
  results = {}
  for path in files.list_paths(run.settings.output_dir, "eval_metrics*.json"):
    metrics = files.read_json(path)
    if metrics.get("global_step") == checkpoints.checkpoint_step(run.checkpoint()):
      results[metrics.get("set", "dev")] = {
        name: value for name, value in metrics.items() if isinstance(value, float)
      }
  return results


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


def lines(facts: dict[str, Any]) -> list[str]:
  """Returns the report's lines of the log, of the content of report.json."""
  model, steps, seconds = facts["model"], facts["steps"], facts["seconds"]
  start = model["started_from"] or "random weights"
  result = [
    f"model: {model['layers']} layers, hidden size {model['hidden_size']}, "
    f"{model['parameters'] / 1e6:.1f} million parameters, from {start}",
    f"trained: {steps['this_run']} steps ({steps['in_all']} in all), {facts['examples_this_run']} "
    f"examples in {duration(seconds['training'])} on {facts['devices']}, "
    f"{facts['examples_per_second']:.1f} examples/s",
  ]
  if "peak_memory_mib" in facts:
    result.append(f"peak memory: {facts['peak_memory_mib']:.0f} MiB")
  if "evaluation" in facts:
    metric = facts["evaluation"]["metric"]
    result.append(f"evaluation during training: {duration(seconds['evaluation'])}")
    for which in ("best", "last"):
      entry = facts["evaluation"][which]
      result.append(f"{which} evaluation: {metric} {entry[metric]:.4f} at step {entry['step']}")
  for name, metrics in facts.get("results", {}).items():
    shown = "  ".join(f"{n} {v:.4f}" for n, v in list(metrics.items())[:_MOST_VALUES])
    result.append(f"result on {name}: {shown}")
  size = facts["checkpoints"]
  result.append(f"checkpoints: {size['kept']} kept, {size['mib_each']:.0f} MiB each")
  return [*result, f"model in use: {facts['checkpoint_in_use']}"]


# ---- Curves -------------------------------------------------------------------------------------


def read_scalars(directory: str) -> dict[str, dict[int, float]]:
  """Reads the event files that a directory has for TensorBoard.

  Returns:
    Name -> step -> value. Of a step that was made twice, the later value counts.
  """
  curves: dict[str, dict[int, float]] = {}
  for path in files.list_paths(directory, EVENTS):
    # The end of a file that is being written, or was cut off, is left out.
    with contextlib.suppress(tf.errors.DataLossError):
      for event in tf.train.summary_iterator(path):
        for value in event.summary.value:
          if value.HasField("simple_value"):
            curves.setdefault(value.tag, {})[event.step] = value.simple_value
  return curves


def points(curve: dict[int, float]) -> tuple[tuple[int, ...], tuple[float, ...]]:
  """Returns the sorted keys and their values: {20: 0.5, 10: 0.25} -> (10, 20), (0.25, 0.5)."""
  steps = sorted(curve)
  return tuple(steps), tuple(curve[step] for step in steps)


def draw(directory: str) -> "figures.Figure":
  """Draws the curves of the training in an output directory, and its last confusion matrix."""
  training = read_scalars(directory)
  evaluated: dict[str, dict[int, float]] = {}
  for entry in history.read(directory):
    for name, value in entry.items():
      evaluated.setdefault(name, {})[entry["step"]] = value
  shown = [name for name in evaluated if name != "step" and "loss" not in name]
  panels: dict[str, list[tuple[dict[str, dict[int, float]], str, Optional[str]]]] = {
    "loss": [(training, "loss", "training"), (evaluated, "loss", "dev")],
    "learning rate": [(training, "learning_rate", None)],
    "dev": [(evaluated, name, name) for name in shown],
  }
  panels = {title: curves for title, curves in panels.items() if any(n in c for c, n, _ in curves)}
  confusion, labels = _confusion(directory)
  count = max(len(panels) + bool(confusion), 1)
  columns = min(count, 2)  # so that a notebook shows them in nearly their full size
  rows = -(-count // columns)
  figure = figures.Figure(figsize=(4.5 * columns, 3.5 * rows), layout="constrained")
  for place, (title, curves) in enumerate(panels.items()):
    _draw_curves(figure.add_subplot(rows, columns, place + 1), title, curves)
  if confusion:
    _draw_confusion(figure.add_subplot(rows, columns, count), confusion, labels)
  return figure


def _draw_curves(axes, title, curves):
  for source, name, label in curves:
    if name in source:
      axes.plot(*points(source[name]), marker="." if len(source[name]) < 50 else None, label=label)
  axes.set(title=title, xlabel="step")
  axes.xaxis.get_major_locator().set_params(integer=True)
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
  axes.set(title="dev: confusion matrix", xlabel="predicted", ylabel="true")
  if len(labels) > _MOST_LABELS:
    return
  names = list(map(_label_name, labels))
  axes.set_xticks(range(len(names)), names, rotation=45)
  axes.set_yticks(range(len(names)), names)
  most = max(map(max, confusion))
  for row, counts in enumerate(confusion):
    for column, count in enumerate(counts):
      color = "white" if count > most / 2 else "black"
      axes.text(column, row, count, ha="center", va="center", color=color)


def _label_name(label):
  """Returns a label as matplotlib shows it: short, on one line, and without formulas in $...$."""
  name = "".join(c if c.isprintable() else " " for c in label)
  if len(name) > _LABEL_CHARACTERS:
    name = name[: _LABEL_CHARACTERS - 3] + "..."
  return name.replace("$", r"\$")
