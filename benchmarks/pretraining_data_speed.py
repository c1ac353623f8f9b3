"""Speed and memory of create_pretraining_data.py: the whole text at once, and in shards.

  python benchmarks/pretraining_data_speed.py --input_file=novels.txt --vocab_file=bert/vocab.txt

Each side is a run of the script, in turns with the others. Printed are the median (lowest to
highest) of instances per second, start-up included and without (from the first reading of the text,
which the script reads twice), and the peak memory of the largest process. --repeat=8 adds runs in
shards of the text eight times over, whose memory should be no more.

The package `tokenizers` (benchmarks/requirements.txt), if it is installed, calibrates the machine:
its speed on the same text, in one thread and line by line, is measured in the same turns. The
figures of another program or machine to compare with are given by --other_instances_per_second
and, in MB/s of `tokenizers`, --other_calibration.
"""

import argparse
import collections
import functools
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

import turns

SCRIPT = os.path.join(turns.ROOT, "create_pretraining_data.py")
SETTINGS = ("--max_seq_length=128", "--max_predictions_per_seq=20", "--dupe_factor=5")
FIRST_LINE = "*** Reading from input files ***"  # of the log, before the text is read
CALIBRATION = "tokenizers"
EXACT = "whole text"
MEMORY_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes, of ru_maxrss


class Run(NamedTuple):
  """Measurements of a run of the script.

  Attributes:
    num_instances: int.
    seconds: float, of the whole process.
    working_seconds: float, without the start-up.
    peak_memory: float, MiB of the largest process, resident.
  """

  num_instances: int
  seconds: float
  working_seconds: float
  peak_memory: float


def create_records(input_file, vocab_file, *options):
  """Runs the script once, ending this one if it fails; returns a Run."""
  with tempfile.TemporaryDirectory() as directory:
    output = os.path.join(directory, "records")
    files = (f"--input_file={input_file}", f"--vocab_file={vocab_file}", f"--output_file={output}")
    start = time.monotonic()
    process = subprocess.Popen(
      [sys.executable, SCRIPT, *files, *SETTINGS, *options], stderr=subprocess.PIPE, text=True
    )
    work_start, last_lines = None, collections.deque(maxlen=1)
    for line in process.stderr:
      if FIRST_LINE in line:
        work_start = time.monotonic()
      last_lines.append(line)
    # Of this process and those that it has waited for, the memory of the largest.
    _, status, usage = os.wait4(process.pid, 0)
    end = time.monotonic()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
      sys.exit("".join(last_lines) or f"{SCRIPT}: ended with status {process.returncode}")
    with open(output + ".meta.json", encoding="utf-8") as f:
      num_instances = json.load(f)["num_instances"]
  memory = usage.ru_maxrss * MEMORY_UNIT / 2**20
  return Run(num_instances, end - start, end - work_start, memory)


def calibrate(input_file, vocab_file):
  """MB/s of the package tokenizers, in one thread and line by line, reading not counted."""
  import tokenizers  # not at the top: the other sides do without

  tokenizer = tokenizers.BertWordPieceTokenizer(vocab_file, lowercase=True)
  with open(input_file, encoding="utf-8") as f:
    text = f.read()
  lines = text.split("\n")
  start = time.monotonic()
  for line in lines:
    tokenizer.encode(line)
  return len(text.encode()) / 1e6 / (time.monotonic() - start)


def make_sides(args):
  """Dict of name -> function that returns a Run, or for CALIBRATION MB/s."""
  sides = {}
  if importlib.util.find_spec("tokenizers"):
    given = [f"--{name}={getattr(args, name)}" for name in ("input_file", "vocab_file")]
    arguments = ["--calibrate", *given]
    sides[CALIBRATION] = functools.partial(turns.run_apart, sys.executable, __file__, arguments)
  else:
    print("No calibration: the package tokenizers is missing; see benchmarks/requirements.txt")
  sides[EXACT] = functools.partial(create_records, args.input_file, args.vocab_file)
  for repeat in sorted({1, args.repeat}):
    for num_workers in args.num_workers:
      name = f"shards, {num_workers} worker{'s' * (num_workers > 1)}"
      sides[name if repeat == 1 else f"{name}, text x {repeat}"] = functools.partial(
        create_records,
        ",".join([args.input_file] * repeat),
        args.vocab_file,
        f"--shard_documents={args.shard_documents}",
        f"--num_workers={num_workers}",
      )
  return sides


def report(results, other_speed, other_calibration):
  """Prints the measurements.

  Args:
    results: dict of name -> list of Run; of CALIBRATION, if it is there, list of MB/s.
    other_speed: float or None, instances per second to compare with.
    other_calibration: float or None, MB/s of tokenizers on that machine.
  """
  speeds = results.pop(CALIBRATION, None)
  calibration = statistics.median(speeds) if speeds else None
  if speeds:
    print(f"{CALIBRATION}, one thread: {turns.spread(speeds, 2)} MB/s")
  for name, runs in results.items():
    whole = [run.num_instances / run.seconds for run in runs]
    working = [run.num_instances / run.working_seconds for run in runs]
    print(f"{name}: {runs[0].num_instances:,} instances")
    print(f"  {turns.spread(whole, 0)} instances/s, {turns.spread(working, 0)} without start-up")
    print(f"  peak memory {turns.spread([run.peak_memory for run in runs], 0)} MiB")
    compare(statistics.median(whole), calibration, other_speed, other_calibration)


def compare(speed, calibration, other_speed, other_calibration):
  """Prints instances per second relative to the calibration, and to another program."""
  ratio = calibration and speed / calibration
  if ratio:
    print(f"  {ratio:,.0f} instances/s per MB/s of {CALIBRATION}")
  if other_speed:
    print(f"  {speed / other_speed:.2f} times the other's {other_speed:,.0f} instances/s")
  if ratio and other_speed and other_calibration:
    other_ratio = other_speed / other_calibration
    print(
      f"  {ratio / other_ratio:.2f} times the other's {other_ratio:,.0f} instances/s per MB/s of "
      f"{CALIBRATION}"
    )


def show(name, result):
  """Prints a side's result of a turn."""
  if name == CALIBRATION:
    print(f"{name}: {result:.2f} MB/s", flush=True)
    return
  print(f"{name}: {result.seconds:.1f} s, {result.peak_memory:.0f} MiB", flush=True)


def numbers(text):
  """ "1,2" -> [1, 2]; ValueError for any other text."""
  return list(map(int, text.split(",")))


def main():
  """Measures all sides in turns."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  file = turns.existing_file
  parser.add_argument("--input_file", type=file, default="samples/pretraining.txt")
  parser.add_argument("--vocab_file", type=file, default="quickstart/bert/vocab.txt")
  parser.add_argument("--num_workers", type=numbers, default="1,2", help="of the runs in shards")
  parser.add_argument("--shard_documents", type=int, default=20)
  parser.add_argument("--repeat", type=int, default=1, help="also the text so many times over")
  parser.add_argument("--turns", type=int, default=5)
  parser.add_argument("--other_instances_per_second", type=float, help="to compare with")
  parser.add_argument("--other_calibration", type=float, help="MB/s of tokenizers there")
  parser.add_argument("--calibrate", action="store_true", help="this alone, and print JSON")
  args = parser.parse_args()
  if args.calibrate:
    print(json.dumps(calibrate(args.input_file, args.vocab_file)))
    return
  results = turns.take(make_sides(args), args.turns, show)
  print()
  report(results, args.other_instances_per_second, args.other_calibration)


if __name__ == "__main__":
  main()
