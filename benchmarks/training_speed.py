"""Training speed of a classifier: this toolkit, its plain form, and transformers.

  python benchmarks/training_speed.py --model_dir=quickstart/bert \\
    --data_dir=glue_data/MRPC --task_name=mrpc --peer_python=.peers/bin/python

The sides run in turns of --steps steps, on the same examples in orders of their own; the first turn
of each warms up and is not counted.

  plain         padded to --max_seq_length, one operation for each term of a formula
  cut           as run_classifier.py trains: batches cut to their longest
  grouped       the same with --bucket_by_length
  transformers  PyTorch with dynamic padding; random weights, for speed does not depend on them

With --amp, cut and grouped run as with the scripts' --amp, and PyTorch under bfloat16 autocast.
"""

import argparse
import functools
import itertools
import json
import os
import random
import sys
import tempfile
import time

import turns


def toolkit_sides(args, directory):
  """Dict of the toolkit's sides: name -> function without arguments, to examples per second."""
  import plain
  import tensorflow.compat.v1 as tf

  import run_classifier
  from toolkit.formats import model_directory
  from toolkit.records import input_pipeline
  from toolkit.support import processes
  from toolkit.tasks import classification

  processes.prepare_process()
  config, tokenizer = model_directory.load_model(
    os.path.join(args.model_dir, model_directory.CONFIG_FILE),
    os.path.join(args.model_dir, model_directory.VOCAB_FILE),
    True,
    args.max_seq_length,
    None,
  )
  task = classification.find_task(args.task_name)
  labels = task.get_labels(args.data_dir)
  record_file = os.path.join(directory, "train.tf_record")
  run_classifier.file_based_convert_examples_to_features(
    task.get_train_examples(args.data_dir), labels, args.max_seq_length, tokenizer, record_file
  )

  def build(trim_padding, bucket_by_length):
    table = classification.record_features(args.max_seq_length)
    input_fn = input_pipeline.read_input_fn(
      record_file, table, True, True, trim_padding, 1, bucket_by_length=bucket_by_length
    )
    dataset = input_fn({"batch_size": args.batch_size})
    features = tf.data.make_one_shot_iterator(dataset).get_next()
    model_fn = run_classifier.model_fn_builder(
      config,
      len(labels),
      os.path.join(args.model_dir, "bert_model.ckpt"),
      learning_rate=5e-5,
      num_train_steps=1000,
      num_warmup_steps=100,
      use_tpu=False,
      use_one_hot_embeddings=False,
    )
    return model_fn(features, None, tf.estimator.ModeKeys.TRAIN, {}).train_op

  def speed(side):
    return args.steps * args.batch_size / side.seconds(args.steps)

  forms = {"plain": (False, False), "cut": (True, False), "grouped": (True, True)}
  return {
    name: functools.partial(
      speed,
      plain.Side(
        functools.partial(build, *form), name == "plain", amp=args.amp and name != "plain"
      ),
    )
    for name, form in forms.items()
  }


def run_transformers(args, texts, labels):
  """Examples per second of transformers, the first --steps steps left out."""
  import torch
  import transformers

  config = transformers.BertConfig.from_json_file(os.path.join(args.model_dir, "bert_config.json"))
  config.num_labels = len(set(labels))
  config.hidden_act = "gelu_new"
  model = transformers.BertForSequenceClassification(config).train()
  tokenizer = transformers.BertTokenizerFast(os.path.join(args.model_dir, "vocab.txt"))
  encoded = [
    tokenizer(*(text for text in pair if text), truncation=True, max_length=args.max_seq_length)
    for pair in texts
  ]
  places = itertools.cycle(random.Random(1).sample(range(len(texts)), len(texts)))
  optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.01)

  def step():
    batch = list(itertools.islice(places, args.batch_size))
    inputs = tokenizer.pad([encoded[place] for place in batch], return_tensors="pt")
    with torch.autocast("cpu", torch.bfloat16, enabled=args.amp):
      loss = model(**inputs, labels=torch.tensor([labels[place] for place in batch])).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()

  for number in range(2 * args.steps):
    if number == args.steps:
      start = time.monotonic()
    step()
  return args.steps * args.batch_size / (time.monotonic() - start)


def save_texts(args, path):
  """Writes the training set as JSON, for a Python that cannot import the toolkit."""
  from toolkit.tasks import classification

  task = classification.find_task(args.task_name)
  examples = task.get_train_examples(args.data_dir)
  ids = {label: place for place, label in enumerate(task.get_labels(args.data_dir))}
  with open(path, "w", encoding="utf-8") as f:
    json.dump([[[e.text_a, e.text_b] for e in examples], [ids[e.label] for e in examples]], f)


def parse_arguments():
  """The command line as argparse.Namespace; ends the process if it is wrong."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--model_dir", default="quickstart/bert", help="a pre-trained model")
  parser.add_argument("--data_dir", default="samples/reviews")
  parser.add_argument("--task_name", default="tsv", help="as in run_classifier.py")
  parser.add_argument("--max_seq_length", type=int, default=128)
  parser.add_argument("--batch_size", type=int, default=32)
  parser.add_argument("--steps", type=int, default=5, help="of a turn")
  parser.add_argument("--turns", type=int, default=6, help="of each side, the first one included")
  parser.add_argument("--amp", action="store_true", help="mixed precision on all sides but plain")
  parser.add_argument("--peer_python", help="a Python with transformers and torch")
  parser.add_argument("--texts", help="run transformers on this file of save_texts")
  return parser.parse_args()


def main():
  """Prints each side's speed, and the ratios of the toolkit's to the others."""
  args = parse_arguments()
  if args.texts:
    with open(args.texts, encoding="utf-8") as f:
      print(json.dumps(run_transformers(args, *json.load(f))))
    return
  with tempfile.TemporaryDirectory() as directory:
    sides = toolkit_sides(args, directory)
    if args.peer_python:
      texts = os.path.join(directory, "texts.json")
      save_texts(args, texts)
      given = [*sys.argv[1:], f"--texts={texts}"]
      sides["transformers"] = functools.partial(turns.run_apart, args.peer_python, __file__, given)
    speeds = {name: taken[1:] for name, taken in turns.take(sides, args.turns).items()}
  for name, values in speeds.items():
    print(f"{name:13} {turns.spread(values)} examples/s")
  turns.print_ratios(speeds, itertools.product(("cut", "grouped"), ("plain", "transformers")))


if __name__ == "__main__":
  main()
