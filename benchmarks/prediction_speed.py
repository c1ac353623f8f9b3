"""Speed of prediction: this toolkit, its plain form, and transformers.

  python benchmarks/prediction_speed.py --model_dir=quickstart/bert --data_file=dev-v1.1.json \\
    --peer_python=.peers/bin/python
  python benchmarks/prediction_speed.py --model_dir=quickstart/bert --text_file=sentences.txt

With --data_file, a SQuAD file: from the windows of the first --questions to their answers, in
windows per second. With --text_file: from texts to a file of their vectors of the last layer
(extract_features.py --layers=-1 --output_format=npz), in lines per second, start included.

  toolkit       in order of length, batches cut to their longest
  plain         padded to --max_seq_length, one operation for each term of a formula
  transformers  PyTorch, each batch padded to its longest; the windows' logits alone, no answers
  padded        the same with all windows padded to --max_seq_length

The sides run in turns; the first turn of each warms up and is not counted.
"""

import argparse
import functools
import json
import os
import sys
import tempfile
import time

import turns


def toolkit_answers(args, directory):
  """Dict of name -> function without arguments, to windows per second; and the windows' input."""
  import plain
  import tensorflow.compat.v1 as tf

  import modeling
  import run_squad
  from toolkit.records import input_pipeline
  from toolkit.support import processes
  from toolkit.tasks import squad, squad_answers

  processes.prepare_process()
  config = modeling.BertConfig.from_json_file(os.path.join(args.model_dir, "bert_config.json"))
  vocab_file = os.path.join(args.model_dir, "vocab.txt")
  settings = squad.Settings(vocab_file=vocab_file, max_seq_length=args.max_seq_length)
  examples = run_squad.read_squad_examples(args.data_file, False)[: args.questions]
  features = squad.extract(examples, settings)
  path = os.path.join(directory, "eval.tf_record")
  squad.write_feature_records(features, path)
  table = squad.record_features(args.max_seq_length, is_training=False)

  def build(is_toolkit):
    input_fn = input_pipeline.read_input_fn(path, table, False, False, trim_padding=is_toolkit)
    dataset = input_fn({"batch_size": args.batch_size})
    iterator = tf.data.make_initializable_iterator(dataset)
    checkpoint = os.path.join(args.model_dir, "bert_model.ckpt")
    model_fn = run_squad.model_fn_builder(config, checkpoint, 0.0, None, None, False, False)
    spec = model_fn(iterator.get_next(), None, tf.estimator.ModeKeys.PREDICT, {})
    return spec.predictions, iterator.initializer

  def speed(side):
    start = time.monotonic()
    side.session.run(side.fetches[1])
    rows = []
    while len(rows) < len(features):
      batch = side.session.run(side.fetches[0])
      rows.extend(zip(batch["unique_ids"], batch["start_logits"], batch["end_logits"]))
    results = [run_squad.RawResult(int(row[0]), *row[1:]) for row in rows]
    results.sort(key=lambda result: result.unique_id)
    squad_answers.compute_answers(examples, features, results, 20, 30, True)
    return len(features) / (time.monotonic() - start)

  sides = {
    name: functools.partial(
      speed,
      plain.Side(
        functools.partial(build, name == "toolkit"),
        name == "plain",
        amp=args.amp and name == "toolkit",
      ),
    )
    for name in ("toolkit", "plain")
  }
  windows = [(f.input_ids[: len(f.tokens)], f.segment_ids[: len(f.tokens)]) for f in features]
  return sides, [[list(map(int, column)) for column in window] for window in windows]


def run_transformers(args, windows):
  """Windows per second of transformers, after a tenth of them to warm up."""
  import torch
  import transformers

  config = transformers.BertConfig.from_json_file(os.path.join(args.model_dir, "bert_config.json"))
  config.hidden_act = "gelu_new"
  model = transformers.BertForQuestionAnswering(config).eval()

  def run(batches):
    for start in range(0, len(batches), args.batch_size):
      batch = batches[start : start + args.batch_size]
      longest = args.max_seq_length if args.padded else max(len(ids) for ids, _ in batch)
      ids, segments = (
        torch.tensor([row[i] + [0] * (longest - len(row[i])) for row in batch]) for i in (0, 1)
      )
      lengths = torch.tensor([[len(row[0])] for row in batch])
      mask = (torch.arange(longest)[None] < lengths).long()
      with torch.autocast("cpu", torch.bfloat16, enabled=args.amp):
        model(input_ids=ids, attention_mask=mask, token_type_ids=segments)

  with torch.inference_mode():
    run(windows[: len(windows) // 10])
    start = time.monotonic()
    run(windows)
  return len(windows) / (time.monotonic() - start)


def toolkit_vectors(args, directory):
  """Dict of name -> function without arguments, to lines per second."""
  import plain

  import extract_features
  from toolkit.support import command_line, processes

  def speed(is_toolkit):
    start = time.monotonic()
    model = {name: os.path.join(args.model_dir, file) for name, file in MODEL_FILES.items()}
    given = {
      **model,
      "input_file": args.text_file,
      "output_file": os.path.join(directory, "vectors.npz"),
      "layers": -1,
      "output_format": "npz",
      "max_seq_length": args.max_seq_length,
      "batch_size": args.batch_size,
    }
    command_line.parse(
      extract_features.flags, [f"--{name}={value}" for name, value in given.items()]
    )
    processes.prepare_process()
    job = extract_features.prepare()
    if is_toolkit:
      extract_features.write(job, extract_features.run_predictor(job))
    else:
      with plain.operations():
        extract_features.write(job, extract_features.run_estimator(job))
    return job.num_lines / (time.monotonic() - start)

  return {name: functools.partial(speed, name == "toolkit") for name in ("toolkit", "plain")}


MODEL_FILES = {
  "bert_config_file": "bert_config.json",
  "vocab_file": "vocab.txt",
  "init_checkpoint": "bert_model.ckpt",
}


def parse_arguments():
  """The command line as argparse.Namespace, with its defaults; ends the process if it is wrong."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--model_dir", default="quickstart/bert", help="a pre-trained model")
  parser.add_argument("--data_file", type=turns.existing_file, help="a SQuAD file")
  parser.add_argument("--text_file", type=turns.existing_file, help="a text a line")
  parser.add_argument("--questions", type=int, default=900)
  parser.add_argument("--max_seq_length", type=int, help="default: 384 for answers, else 128")
  parser.add_argument("--batch_size", type=int, help="default: 8 for answers, else 32")
  parser.add_argument("--turns", type=int, default=4, help="of each side, the first one included")
  parser.add_argument("--amp", action="store_true", help="mixed precision on all sides but plain")
  parser.add_argument("--peer_python", help="a Python with transformers and torch")
  parser.add_argument("--windows", help="run transformers on this JSON file")
  parser.add_argument("--padded", action="store_true", help="and pad them to --max_seq_length")
  args = parser.parse_args()
  if bool(args.data_file) == bool(args.text_file):
    parser.error("give either --data_file or --text_file")
  args.max_seq_length = args.max_seq_length or (384 if args.data_file else 128)
  args.batch_size = args.batch_size or (8 if args.data_file else 32)
  return args


def main():
  """Prints each side's speed, and the ratios of the toolkit's to the others."""
  args = parse_arguments()
  if args.windows:
    with open(args.windows, encoding="utf-8") as f:
      print(json.dumps(run_transformers(args, json.load(f))))
    return
  with tempfile.TemporaryDirectory() as directory:
    if args.text_file:
      sides = toolkit_vectors(args, directory)
    else:
      sides, windows = toolkit_answers(args, directory)
      if args.peer_python:
        path = os.path.join(directory, "windows.json")
        with open(path, "w", encoding="utf-8") as f:
          json.dump(windows, f)
        given = [*sys.argv[1:], f"--windows={path}"]
        for name, flags in (("transformers", given), ("padded", [*given, "--padded"])):
          sides[name] = functools.partial(turns.run_apart, args.peer_python, __file__, flags)
    taken = turns.take(sides, args.turns)
  speeds = {name: values[1:] for name, values in taken.items()}
  what = "windows" if args.data_file else "lines"
  for name, values in speeds.items():
    print(f"{name:13} {turns.spread(values)} {what}/s")
  turns.print_ratios(speeds, [("toolkit", other) for other in ("plain", "transformers", "padded")])


if __name__ == "__main__":
  main()
