"""Runs the benchmarks one after the other, and ends with a table of their ratios.

  python benchmarks/run_all.py --model_dir=quickstart/bert --peer_python=.peers/bin/python

Without data of their own they run on samples/, which are small: for meaningful figures
give --mrpc, --squad, --novels, --multilingual and --sentences. Nothing else should run meanwhile.
"""

import argparse
import os
import re
import subprocess
import sys

import turns

RATIO = re.compile(rf"(\S.*{turns.RATIO_SIGN}.*?) {{2,}}(\S.*)")


def commands(args):
  """Yields a title, and the arguments of `python benchmarks/`."""
  model = f"--model_dir={args.model_dir}"
  vocab = f"--vocab_file={os.path.join(args.model_dir, 'vocab.txt')}"
  peer = [f"--peer_python={args.peer_python}"] if args.peer_python else []
  yield (
    "Tokenization, one thread",
    ["tokenization_speed.py", f"--text_file={args.novels}", vocab, *peer],
  )
  if args.multilingual:
    text, vocab_file = args.multilingual
    given = [f"--text_file={text}", f"--vocab_file={vocab_file}", "--cased"]
    yield "Tokenization of many languages", ["tokenization_speed.py", *given, *peer]
  data = [f"--task_name={'mrpc' if args.mrpc else 'tsv'}"]
  data += [f"--data_dir={args.mrpc or 'samples/reviews'}"]
  yield "Training a classifier", ["training_speed.py", model, *data, *peer]
  yield "SQuAD features", ["squad_features.py", f"--data_file={args.squad}", vocab, *peer]
  yield (
    "SQuAD prediction",
    ["prediction_speed.py", model, f"--data_file={args.squad}", *peer],
  )
  yield "Feature vectors", ["prediction_speed.py", model, f"--text_file={args.sentences}"]
  yield "Training step of BERT-base", ["step_efficiency.py"]
  given = [f"--input_file={args.novels}", vocab]
  yield "Pre-training step, 4 layers of 256", ["pretraining_speed.py", *given]
  for shape in (os.path.join(args.model_dir, "bert_config.json"), None):
    config = [f"--bert_config_file={shape}"] if shape else []
    title = "One answer, the model's shape" if shape else "One answer, BERT-base"
    yield title, ["answer_time.py", *config, *peer]


def run(arguments):
  """Runs a benchmark, prints its output, and returns its ratios: list of pairs of str."""
  ratios = []
  command = [sys.executable, os.path.join(turns.ROOT, "benchmarks", arguments[0]), *arguments[1:]]
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
    for line in process.stdout:
      print("  " + line, end="", flush=True)
      found = RATIO.fullmatch(line.strip())
      if found:
        ratios.append(found.groups())
  if process.returncode:
    ratios.append(("failed", f"status {process.returncode}"))
  return ratios


def main():
  """Prints the output of each benchmark, and the table."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  file = turns.existing_file
  parser.add_argument("--model_dir", default="quickstart/bert", help="a pre-trained model")
  parser.add_argument("--mrpc", help="directory of MRPC; default: samples/reviews as a task")
  parser.add_argument("--squad", type=file, default="samples/squad/train.json")
  parser.add_argument("--novels", type=file, default="samples/pretraining.txt", help="English text")
  parser.add_argument(
    "--multilingual", type=file, nargs=2, help="text, and a cased vocabulary that fits it"
  )
  parser.add_argument("--sentences", type=file, default="samples/pretraining.txt")
  parser.add_argument("--peer_python", help="a Python with the packages of requirements-peers.txt")
  parser.add_argument("--only", default="", help="run those whose title has this in it")
  args = parser.parse_args()
  rows = []
  for title, arguments in commands(args):
    if args.only.lower() in title.lower():
      print(f"{title}: {' '.join(arguments)}", flush=True)
      rows += [(title, *ratio) for ratio in run(arguments)]
  print("\n| work | sides | times as fast: median (lowest to highest) |\n|---|---|---|")
  for row in rows:
    print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
  main()
