"""Peak memory of a training step of BERT-base and BERT-large on a CPU, by batch, length and flags.

  python benchmarks/training_memory.py --rows base:128:32,base:128:32:4,large:384:24:24:recompute

A row is model:length:batch size[:--num_accumulation_steps[:recompute]]. Each is a process of its
own, which makes a step of run_squad.py's model from random weights, on full-length inputs.
"""

import argparse
import json
import os
import sys
import time

import turns

sys.path.insert(0, turns.ROOT)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow.compat.v1 as tf

import modeling
import run_squad
from toolkit.support import processes
from toolkit.training import micro_batches, report

VOCAB_SIZE = 30522
SIZES = {"base": (768, 12, 12, 3072), "large": (1024, 24, 16, 4096)}
ROWS = (
  "base:128:32,base:128:32:4,base:128:32:1:recompute,base:384:24:4,base:384:24:1:recompute,"
  "base:384:24:24:recompute,large:128:32:4,large:128:32:1:recompute,large:384:24:24,"
  "large:384:24:4:recompute,large:384:24:24:recompute"
)


def measure(model, length, batch_size, num_parts, recompute, num_steps):
  """Makes steps in this process.

  Returns:
    Dict of peak_mib, the most memory that the process has held, and seconds of the last step.
  """
  hidden_size, num_layers, num_heads, intermediate_size = SIZES[model]
  config = modeling.BertConfig(
    VOCAB_SIZE, hidden_size, num_layers, num_heads, intermediate_size, type_vocab_size=2
  )
  processes.prepare_process()
  tf.set_random_seed(1)
  tf.train.create_global_step()
  rows = tf.ones([batch_size, length], tf.int32)
  features = {"input_ids": 100 * rows, "input_mask": rows, "segment_ids": 0 * rows}
  places = {name: tf.ones([batch_size], tf.int32) for name in ("start_positions", "end_positions")}
  options = micro_batches.StepOptions(num_parts=num_parts, recompute=recompute)
  model_fn = run_squad.model_fn_builder(config, None, 3e-5, 100, 10, False, False, options)
  spec = model_fn({**features, **places}, None, tf.estimator.ModeKeys.TRAIN, {})
  with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    for _ in range(num_steps):
      start = time.monotonic()
      session.run(spec.train_op)
  return {"peak_mib": report.peak_memory_mib(), "seconds": time.monotonic() - start}


def parse_row(row):
  """ "base:128:32:4" -> ("base", 128, 32, 4, False)."""
  cells = row.split(":")
  length, batch_size, num_parts = map(int, [*cells[1:4], "1"][:3])
  return cells[0], length, batch_size, num_parts, cells[4:] == ["recompute"]


def main():
  """Prints a table, a line for each row as soon as it is known."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--rows", default=ROWS, help="what to measure, with commas between")
  parser.add_argument("--steps", type=int, default=1, help="training steps of each row")
  parser.add_argument("--apart", help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  if arguments.apart:
    print(json.dumps(measure(*parse_row(arguments.apart), arguments.steps)))
    return
  print("| model | length | batch | parts | recompute | peak GiB | seconds a step |")
  print("|---|---|---|---|---|---|---|", flush=True)
  for row in arguments.rows.split(","):
    command = [f"--apart={row}", f"--steps={arguments.steps}"]
    found = turns.run_apart(sys.executable, __file__, command)
    *numbers, recompute = parse_row(row)
    cells = [*numbers, "yes" if recompute else "no", f"{found['peak_mib'] / 1024:.1f}"]
    print("|", " | ".join(map(str, [*cells, f"{found['seconds']:.0f}"])), "|", flush=True)


if __name__ == "__main__":
  main()
