"""Draws the losses and accuracies of both tasks of a pre-training over its steps.

  python benchmarks/pretraining_curves.py --output_dir=quickstart/pretraining/model

reads the event files that run_pretraining.py has written there, also while it is training, and
writes a picture (PNG, or another format that --picture names by its ending). Lines are means over
the training steps since the point before; crosses are evaluations.
"""

import os
import sys

import turns

sys.path.insert(0, turns.ROOT)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow.compat.v1 as tf

from toolkit.support import command_line, files
from toolkit.training import report

flags = command_line.ScriptFlags()
FLAGS = flags.FLAGS
flags.DEFINE_string("output_dir", None, "Directory of a pre-training.")
flags.DEFINE_string("picture", None, "File to write. Default: curves.png in --output_dir.")

EVAL_DIR = "eval"  # in the output directory, where evaluation writes its points
PANELS = {
  "loss (nats)": {
    "loss": "both tasks",
    "masked_lm_loss": "masked words",
    "next_sentence_loss": "next sentence",
  },
  "accuracy": {
    "masked_lm_accuracy": "masked words",
    "next_sentence_accuracy": "next sentence",
  },
}
COLORS = {"both tasks": "tab:gray", "masked words": "tab:blue", "next sentence": "tab:orange"}


def draw(training, evaluation):
  """Makes the picture of curves as report.read_scalars gives them; returns a matplotlib Figure."""
  figure = report.figures.Figure(figsize=(7 * len(PANELS), 4.5), layout="constrained")
  for axes, (title, curves) in zip(figure.subplots(1, len(PANELS)), PANELS.items()):
    for name, label in curves.items():
      if name in training:
        axes.plot(*report.points(training[name]), color=COLORS[label], label=label)
      if name in evaluation:
        label = f"{label}, evaluation"
        color = COLORS[curves[name]]
        axes.plot(*report.points(evaluation[name]), "x", ms=9, mew=2, color=color, label=label)
    axes.set(xlabel="step", ylabel=title, ylim=(0, 1.02) if title == "accuracy" else (0, None))
    axes.grid(alpha=0.3)
    axes.legend()
  return figure


def print_ends(kind, curves):
  """Prints where the curves of PANELS begin and end; returns how many there are."""
  names = [name for panel in PANELS.values() for name in panel if name in curves]
  for name in names:
    steps, values = report.points(curves[name])
    ends = f"{values[0]:.4f} at step {steps[0]}, {values[-1]:.4f} at step {steps[-1]}"
    print(f"{kind:10}  {name:22}  {ends}")
  return len(names)


def main(_):
  """Draws the curves and prints where they begin and end."""
  tf.logging.set_verbosity(tf.logging.ERROR)
  if report.figures is None:
    raise files.InputError(
      "the package matplotlib is missing; pip install -r benchmarks/requirements.txt"
    )
  flags.settings().require(["output_dir"], "a picture")
  training = report.read_scalars(FLAGS.output_dir)
  evaluation = report.read_scalars(os.path.join(FLAGS.output_dir, EVAL_DIR))
  if not print_ends("training", training) + print_ends("evaluation", evaluation):
    raise files.InputError(
      f"--output_dir: {FLAGS.output_dir} has no curves of a pre-training (events.out.tfevents.*)"
    )
  path = FLAGS.picture or os.path.join(FLAGS.output_dir, "curves.png")
  try:
    draw(training, evaluation).savefig(path, dpi=120)
  except (OSError, ValueError) as error:  # ValueError: an ending that matplotlib does not know
    raise files.InputError(f"--picture: cannot write {path}: {files.describe(error)}") from error
  print(f"Wrote {path}")


if __name__ == "__main__":
  command_line.run(main, flags)
