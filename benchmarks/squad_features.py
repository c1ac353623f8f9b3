"""Speed of turning a SQuAD file into training windows: this toolkit against transformers.

  python benchmarks/squad_features.py --data_file=train-v1.1.json \\
    --vocab_file=quickstart/bert/vocab.txt --peer_python=.peers/bin/python

Both sides read the file and make the windows with the answers' places with --num_workers processes;
this toolkit writes its TFRecord file as well. They run in turns, each in a process of its own.
The time is without imports, and with the start of workers. --peer_python is a
Python that has the `transformers` package; without it only this toolkit is measured.
"""

import argparse
import functools
import json
import multiprocessing
import os
import sys
import tempfile
import time

import turns

SETTINGS = {"max_seq_length": 384, "doc_stride": 128, "max_query_length": 64}


def run_toolkit(data_file, vocab_file, num_workers):
  """Returns the number of windows and the seconds that reading, making and writing took."""
  sys.path.insert(0, turns.ROOT)
  from toolkit.tasks import squad

  with tempfile.TemporaryDirectory() as directory:
    start = time.monotonic()
    settings = squad.Settings(vocab_file=vocab_file, is_training=True, **SETTINGS)
    examples = squad.read_squad_examples(data_file, is_training=True)
    features = squad.extract(examples, settings, num_workers)
    path = os.path.join(directory, "train.tf_record")
    squad.write_feature_records(features, path, num_workers)
    return len(features), time.monotonic() - start


def run_transformers(data_file, vocab_file, num_workers):
  """The same with transformers' fast tokenizer, in batches of a thousand questions."""
  import transformers

  os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are parallel already
  tokenizer = transformers.BertTokenizerFast(vocab_file=vocab_file, do_lower_case=True)
  start = time.monotonic()
  with open(data_file, encoding="utf-8") as f:
    articles = json.load(f)["data"]
  rows = [
    (qa["question"], paragraph["context"], qa["answers"][0])
    for article in articles
    for paragraph in article["paragraphs"]
    for qa in paragraph["qas"]
    if qa["answers"]  # the toolkit leaves out the others too
  ]
  chunks = [(tokenizer, rows[i : i + 1000]) for i in range(0, len(rows), 1000)]
  with multiprocessing.get_context("fork").Pool(num_workers) as pool:
    windows = [window for part in pool.imap(transformers_windows, chunks) for window in part]
  return len(windows), time.monotonic() - start


def transformers_windows(job):
  """List of (input_ids, mask, segments, start, end) of a chunk of questions."""
  tokenizer, rows = job
  questions, contexts, answers = zip(*rows)
  encoded = tokenizer(
    list(questions),
    list(contexts),
    truncation="only_second",
    max_length=SETTINGS["max_seq_length"],
    stride=SETTINGS["doc_stride"],
    return_overflowing_tokens=True,
    return_offsets_mapping=True,
    padding="max_length",
  )
  windows = []
  for i, row in enumerate(encoded["overflow_to_sample_mapping"]):
    first = answers[row]["answer_start"]
    last = first + len(answers[row]["text"])
    places = [
      place
      for place, (segment, (begin, end)) in enumerate(
        zip(encoded.sequence_ids(i), encoded["offset_mapping"][i])
      )
      if segment == 1 and begin < last and end > first
    ]
    span = (places[0], places[-1]) if places else (0, 0)
    columns = (encoded[name][i] for name in ("input_ids", "attention_mask", "token_type_ids"))
    windows.append((*columns, *span))
  return windows


SIDES = {"toolkit": run_toolkit, "transformers": run_transformers}


def show(side, result):
  """Prints a side's windows and seconds of a turn."""
  num_windows, elapsed = result
  print(f"{side:12}  {num_windows} windows in {elapsed:.2f} s", flush=True)


def main():
  """Prints the median of both sides and their ratio."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--data_file", type=turns.existing_file, default="samples/squad/train.json")
  parser.add_argument("--vocab_file", type=turns.existing_file, default="quickstart/bert/vocab.txt")
  parser.add_argument("--num_workers", type=int, default=2)
  parser.add_argument("--turns", type=int, default=5)
  parser.add_argument("--peer_python", help="a Python with the transformers package")
  parser.add_argument("--side", choices=SIDES, help="run one side only, and print JSON")
  args = parser.parse_args()
  if args.side:
    print(json.dumps(SIDES[args.side](args.data_file, args.vocab_file, args.num_workers)))
    return
  given = [f"--{n}={getattr(args, n)}" for n in ("data_file", "vocab_file", "num_workers")]
  pythons = {"toolkit": sys.executable, "transformers": args.peer_python}
  sides = {
    side: functools.partial(turns.run_apart, python, __file__, ["--side", side, *given])
    for side, python in pythons.items()
    if python
  }
  results = turns.take(sides, args.turns, show)
  seconds = {side: [elapsed for _, elapsed in taken] for side, taken in results.items()}
  for side, taken in seconds.items():
    print(f"{side:12}  {turns.spread(taken, 2)} s")
  speeds = {side: [1.0 / elapsed for elapsed in taken] for side, taken in seconds.items()}
  turns.print_ratios(speeds, [("toolkit", "transformers")])


if __name__ == "__main__":
  main()
