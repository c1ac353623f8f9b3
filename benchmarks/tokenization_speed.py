"""Speed of turning text into ids, line by line: this toolkit against the `tokenizers` package.

  python benchmarks/tokenization_speed.py --text_file=corpus.txt \\
    --vocab_file=quickstart/bert/vocab.txt --peer_python=.peers/bin/python

Sides take turns, each in a process of its own and with one thread. "cold" is a fresh tokenizer on
the first --cold_megabytes of the file, "warm" the second time through the whole file. --peer_python
is a Python that has the `tokenizers` package; without it only this toolkit is measured. The number
of ids is shown too: the sides must agree on it (they read a few rare characters differently).
"""

import argparse
import functools
import json
import os
import sys
import time

import turns


def toolkit_encode(vocab_file, lower_case):
  """Returns a fresh tokenizer's function of a line to its ids."""
  sys.path.insert(0, turns.ROOT)
  import tokenization

  return tokenization.FullTokenizer(vocab_file, do_lower_case=lower_case).encode


def tokenizers_encode(vocab_file, lower_case):
  """The same of the package tokenizers."""
  os.environ["TOKENIZERS_PARALLELISM"] = "false"
  os.environ["RAYON_NUM_THREADS"] = "1"
  import tokenizers

  encode = tokenizers.BertWordPieceTokenizer(vocab_file, lowercase=lower_case).encode
  return lambda line: encode(line, add_special_tokens=False).ids


SIDES = {"toolkit": toolkit_encode, "tokenizers": tokenizers_encode}


def measure(new_encode, lines, cold_megabytes):
  """Times a side.

  Args:
    new_encode: function that returns a fresh tokenizer's function of a line to its ids.
    lines: list of str.
    cold_megabytes: float, size of the lines for a fresh tokenizer, in millions of bytes.

  Returns:
    Dict of "cold" and "warm" -> megabytes per second, and "ids" -> number of ids of all lines.
  """
  first, size = [], 0
  for line in lines:
    if size >= cold_megabytes * 1e6:
      break
    first.append(line)
    size += len(line.encode()) + 1
  speeds, encode = {}, new_encode()
  speeds["cold"], _ = megabytes_per_second(encode, first)
  encode = new_encode()
  megabytes_per_second(encode, lines)
  speeds["warm"], num_ids = megabytes_per_second(encode, lines)
  return {**speeds, "ids": num_ids}


def megabytes_per_second(encode, lines):
  """A pair: the speed, 10**6 bytes of UTF-8 with line ends per second, and the number of ids."""
  num_ids = 0
  start = time.process_time()
  for line in lines:
    num_ids += len(encode(line))
  elapsed = time.process_time() - start
  return sum(len(line.encode()) + 1 for line in lines) / elapsed / 1e6, num_ids


def show(side, result):
  """Prints a side's result of a turn."""
  speeds = ", ".join(f"{name} {result[name]:.1f} MB/s" for name in ("cold", "warm"))
  print(f"{side:12} {speeds}, {result['ids']:,} ids", flush=True)


def main():
  """Prints the medians of both sides and their ratios."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--text_file", type=turns.existing_file, default="samples/pretraining.txt")
  parser.add_argument("--vocab_file", type=turns.existing_file, default="quickstart/bert/vocab.txt")
  parser.add_argument("--cased", action="store_true", help="the vocabulary is cased")
  parser.add_argument("--cold_megabytes", type=float, default=2.0)
  parser.add_argument("--turns", type=int, default=5)
  parser.add_argument("--peer_python", help="a Python with the tokenizers package")
  parser.add_argument("--side", choices=SIDES, help="run one side only, and print JSON")
  args = parser.parse_args()
  if args.side:
    with open(args.text_file, encoding="utf-8", newline="\n") as f:
      lines = f.read().split("\n")
    new_encode = functools.partial(SIDES[args.side], args.vocab_file, not args.cased)
    print(json.dumps(measure(new_encode, lines, args.cold_megabytes)))
    return
  given = [f"--{n}={getattr(args, n)}" for n in ("text_file", "vocab_file", "cold_megabytes")]
  given += ["--cased"] if args.cased else []
  pythons = {"toolkit": sys.executable, "tokenizers": args.peer_python}
  sides = {
    side: functools.partial(turns.run_apart, python, __file__, ["--side", side, *given])
    for side, python in pythons.items()
    if python
  }
  results = turns.take(sides, args.turns, show)
  for name in ("cold", "warm"):
    speeds = {side: [result[name] for result in taken] for side, taken in results.items()}
    for side, taken in speeds.items():
      print(f"{name:5} {side:12} {turns.spread(taken)} MB/s")
    named = {f"{name} {side}": taken for side, taken in speeds.items()}
    turns.print_ratios(named, [(f"{name} toolkit", f"{name} tokenizers")])


if __name__ == "__main__":
  main()
