"""Speed of pre-training steps: this toolkit against its plain form.

  python benchmarks/pretraining_speed.py --input_file=novels.txt --vocab_file=bert/vocab.txt

Records of the text are made first, by create_pretraining_data.py. The sides run in turns of --steps
steps; the first turn of each warms up and is not counted.

  toolkit  as run_pretraining.py trains: padding is skipped
  plain    padded to --max_seq_length, one operation for each term of a formula
"""

import argparse
import functools
import os
import subprocess
import sys
import tempfile

import plain
import tensorflow.compat.v1 as tf
import turns

import modeling
import run_pretraining
import tokenization
from toolkit.support import processes


def make_records(args, path):
  """Writes the records of a text; ends the process if that fails."""
  script = os.path.join(turns.ROOT, "create_pretraining_data.py")
  names = ("input_file", "vocab_file", "max_seq_length", "max_predictions_per_seq")
  given = [f"--{name}={getattr(args, name)}" for name in names]
  command = [sys.executable, script, *given, "--dupe_factor=1", f"--output_file={path}"]
  done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
  if done.returncode:
    sys.exit(done.stderr.strip().rpartition("\n")[2])


def build(args, config, path, is_toolkit):
  """The operation that makes a training step."""
  input_fn = run_pretraining.input_fn_builder(
    [path],
    args.max_seq_length,
    args.max_predictions_per_seq,
    is_training=True,
    trim_padding=is_toolkit,
    seed=1,
  )
  dataset = input_fn({"batch_size": args.batch_size})
  features = tf.data.make_one_shot_iterator(dataset).get_next()
  model_fn = run_pretraining.model_fn_builder(config, None, 1e-4, 1000, 100, False, False)
  return model_fn(features, None, tf.estimator.ModeKeys.TRAIN, {}).train_op


def main():
  """Prints both sides' speed and their ratio."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  file = turns.existing_file
  parser.add_argument("--input_file", type=file, default="samples/pretraining.txt")
  parser.add_argument("--vocab_file", type=file, default="quickstart/bert/vocab.txt")
  for name, default in (
    ("layers", 4),
    ("hidden_size", 256),
    ("batch_size", 32),
    ("max_seq_length", 128),
    ("max_predictions_per_seq", 20),
    ("steps", 5),
    ("turns", 6),
  ):
    parser.add_argument(f"--{name}", type=int, default=default)
  args = parser.parse_args()
  processes.prepare_process()
  config = modeling.BertConfig(
    len(tokenization.load_vocab(args.vocab_file)),
    args.hidden_size,
    args.layers,
    args.hidden_size // 64,
    4 * args.hidden_size,
    type_vocab_size=2,
  )
  with tempfile.TemporaryDirectory() as directory:
    path = os.path.join(directory, "train.tf_record")
    make_records(args, path)
    sides = {
      name: plain.Side(functools.partial(build, args, config, path, name == "toolkit"), is_plain)
      for name, is_plain in (("toolkit", False), ("plain", True))
    }
    measures = {name: functools.partial(side.seconds, args.steps) for name, side in sides.items()}
    taken = turns.take(measures, args.turns)
  speeds = {
    name: [args.steps * args.batch_size / seconds for seconds in values[1:]]
    for name, values in taken.items()
  }
  for name, values in speeds.items():
    print(f"{name:8} {turns.spread(values)} examples/s")
  turns.print_ratios(speeds, [("toolkit", "plain")])


if __name__ == "__main__":
  main()
