"""Time by length, batch size, processes and corpus; draws benchmarks/scaling.png.

  python benchmarks/scaling.py --model_dir=quickstart/bert --corpus=novels.txt

Training and prediction are steps of a classifier of the model's shape on full-length input, so that
nothing is gained by cutting; "plain" is the same without the fused operations (see plain.py).
Pre-training data is made by create_pretraining_data.py --num_workers.
"""

import argparse
import functools
import json
import os
import statistics

import plain
import pretraining_data_speed
import tensorflow.compat.v1 as tf
import turns

import modeling
import optimization
from toolkit.support import processes
from toolkit.training import report

FORMS = {
  "training": (True, False),
  "training, plain": (True, True),
  "prediction": (False, False),
  "prediction, plain": (False, True),
}


def build(config, batch_size, length, is_training):
  """Returns the operation of a step: the train op, or the pooled output."""
  ids = tf.random.stateless_uniform([batch_size, length], [1, 2], 0, config.vocab_size, tf.int32)
  model = modeling.BertModel(config, is_training, ids, tf.ones_like(ids), tf.zeros_like(ids))
  if not is_training:
    return model.get_pooled_output()
  loss = tf.reduce_mean(tf.square(model.get_pooled_output()))
  return optimization.create_optimizer(loss, 1e-5, 1000, 100, use_tpu=False)


def step_seconds(config, batch_size, length, num_turns):
  """Dict of a form's name -> seconds of a step, the median."""
  sides = {}
  for name, (is_training, is_plain) in FORMS.items():
    side = plain.Side(functools.partial(build, config, batch_size, length, is_training), is_plain)
    sides[name] = functools.partial(side.seconds, 1)
  taken = turns.take(sides, num_turns + 1)
  return {name: statistics.median(values[1:]) for name, values in taken.items()}


def model_curves(config, args):
  """Two dicts of a form's name -> list of points: seconds by length, examples/s by batch size."""
  by_length = {name: [] for name in FORMS}
  by_batch_size = {name: [] for name in FORMS}
  for length in args.lengths:
    for name, seconds in step_seconds(config, 8, length, args.turns).items():
      by_length[name].append((length, seconds))
    print(f"length {length}: {show(by_length)} s", flush=True)
  for batch_size in args.batch_sizes:
    for name, seconds in step_seconds(config, batch_size, 128, args.turns).items():
      by_batch_size[name].append((batch_size, batch_size / seconds))
    print(f"batch size {batch_size}: {show(by_batch_size)} examples/s", flush=True)
  return by_length, by_batch_size


def show(curves):
  """The last values of some curves as text."""
  return ", ".join(f"{name} {points[-1][1]:.3g}" for name, points in curves.items())


def corpus_curves(args):
  """Dict of a number of processes -> list of points: seconds by copies of the corpus."""
  vocab_file = os.path.join(args.model_dir, "vocab.txt")
  curves = {}
  for num_workers in args.num_workers:
    name = f"{num_workers} process{'es' * (num_workers > 1)}"
    curves[name] = []
    for repeat in args.repeat:
      run = pretraining_data_speed.create_records(
        ",".join([args.corpus] * repeat),
        vocab_file,
        "--shard_documents=20",
        f"--num_workers={num_workers}",
      )
      curves[name].append((run.num_instances, run.seconds))
      print(f"{name}: {run.num_instances:,} instances, {run.seconds:.1f} s", flush=True)
  return curves


def draw(panels):
  """Makes the picture of (title, x, y, curves); returns a matplotlib Figure."""
  figure = report.figures.Figure(figsize=(6 * len(panels), 4.5), layout="constrained")
  for axes, (title, x, y, curves) in zip(figure.subplots(1, len(panels)), panels):
    for name, points in curves.items():
      style = "--" if "plain" in name else "-"
      color = "tab:orange" if "prediction" in name or "2" in name else "tab:blue"
      axes.plot(*zip(*points), style, marker="o", ms=4, color=color, label=name)
    axes.set(title=title, xlabel=x, ylabel=y, ylim=(0, None), xlim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
  return figure


def main():
  """Measures, draws, and prints the points."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--model_dir", default="quickstart/bert", help="a pre-trained model")
  parser.add_argument("--corpus", type=turns.existing_file, default="samples/pretraining.txt")
  numbers = pretraining_data_speed.numbers
  parser.add_argument("--lengths", type=numbers, default="32,64,128,256,384,512")
  parser.add_argument("--batch_sizes", type=numbers, default="1,2,4,8,16,32,64")
  parser.add_argument("--num_workers", type=numbers, default="1,2")
  parser.add_argument("--repeat", type=numbers, default="1,2,4", help="sizes of the corpus")
  parser.add_argument("--turns", type=int, default=3)
  parser.add_argument("--picture", default=os.path.join(turns.ROOT, "benchmarks", "scaling.png"))
  args = parser.parse_args()
  processes.prepare_process()
  config = modeling.BertConfig.from_json_file(os.path.join(args.model_dir, "bert_config.json"))
  by_length, by_batch_size = model_curves(config, args)
  panels = [
    ("A step of 8 sequences", "tokens of a sequence", "seconds", by_length),
    ("Sequences of 128 tokens", "batch size", "examples a second", by_batch_size),
    ("Pre-training data", "instances", "seconds", corpus_curves(args)),
  ]
  print(json.dumps(panels))
  draw(panels).savefig(args.picture, dpi=80)


if __name__ == "__main__":
  main()
