"""Similarity of sentences by their vectors, against human scores and against transformers.

  python benchmarks/sentence_similarity.py --model_dir=bert --data=glue_data/STS-B/dev.tsv

prints Spearman's correlation of the cosine of two sentences' vectors (extract_features.py, mean of
the last layer over the word pieces) with their score. The same with the model's HuggingFace form,
under a Python that has the packages torch and transformers, and then the differences:

  python benchmarks/sentence_similarity.py --peer --hidden_act=gelu_new --output=tanh.npy \\
    --model_dir=DIR --data=glue_data/STS-B/dev.tsv
  python benchmarks/sentence_similarity.py --compare=tanh.npy --compare=exact.npy \\
    --model_dir=bert --data=glue_data/STS-B/dev.tsv

"gelu_new" is the tanh form of GELU, which this toolkit has, and "gelu" the exact one. By default
the means of both leave out [CLS] and [SEP].
"""

import argparse
import os
import sys

import numpy as np
import turns


def read_pairs(path):
  """Reads sentence pairs with scores: a TSV file in GLUE's form, with a header.

  Args:
    path: str.

  Returns:
    A tuple: the first sentences and the second ones, lists of N str; scores, float64 [N].
  """
  with open(path, encoding="utf-8") as f:
    header, *rows = (line.rstrip("\n").split("\t") for line in f)
  names = ("sentence1", "sentence2", "score")
  missing = [name for name in names if name not in header]
  if missing:
    sys.exit(f"{path}:1: has no column {missing[0]}")
  first, second, scores = ([row[header.index(name)] for row in rows] for name in names)
  return first, second, np.array(scores, np.float64)


def cosines(a, b):
  """Cosine of each row of a with that of b, float [N, W]; returns float64 [N]."""
  a, b = a.astype(np.float64), b.astype(np.float64)
  return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def encode_with_toolkit(texts, args):
  """Vectors of N texts by this toolkit, float32 [N, W]."""
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  sys.path.insert(0, turns.ROOT)
  import extract_features
  from toolkit.support import files, processes

  processes.prepare_process()
  try:
    extractor = extract_features.FeatureExtractor.from_directory(
      args.model_dir,
      pooling="mean",
      include_special_tokens=args.include_special_tokens,
      max_seq_length=args.max_seq_length,
      batch_size=args.batch_size,
    )
  except files.InputError as error:
    sys.exit(f"error: {error}")
  return extractor.encode(texts)


def encode_with_transformers(texts, args):
  """Vectors of N texts by transformers, float32 [N, W]."""
  try:
    import torch
    import transformers
  except ImportError as error:
    sys.exit(f"--peer needs the packages torch and transformers: {error}")
  tokenizer = transformers.AutoTokenizer.from_pretrained(args.model_dir)
  model = transformers.AutoModel.from_pretrained(args.model_dir, hidden_act=args.hidden_act).eval()
  vectors = []
  for start in range(0, len(texts), args.batch_size):
    batch = tokenizer(
      texts[start : start + args.batch_size],
      padding="longest",
      truncation=True,
      max_length=args.max_seq_length,
      return_special_tokens_mask=True,
      return_tensors="pt",
    )
    is_special = batch.pop("special_tokens_mask")  # padding is special too
    mask = batch["attention_mask"] if args.include_special_tokens else 1 - is_special  # [B, S]
    with torch.inference_mode():
      layer = model(**batch).last_hidden_state  # [B, S, W]
    total = (layer * mask[:, :, None]).sum(1)
    vectors.append((total / mask.sum(1, keepdim=True).clamp(min=1)).numpy())
  return np.concatenate(vectors)


def report(name, values, scores):
  """Prints the correlation of cosines, float [N], with scores."""
  from toolkit.metrics import glue_metrics  # here, since a peer does without

  metrics = glue_metrics.regression_metrics(scores, values)
  print(f"{name}: {len(values)} pairs, Spearman {metrics['spearman']:.4f}")


def compare(path, ours, num_pairs, scores):
  """Prints the largest difference to the cosines in a file for the first pairs."""
  theirs = np.load(path)
  if theirs.shape != ours.shape:
    sys.exit(f"{path}: has cosines of {len(theirs)} pairs, and --data has {len(ours)}")
  report(path, theirs, scores)
  differences = np.abs(ours - theirs)
  print(
    f"  largest difference of a cosine: {differences[:num_pairs].max():.2e} in the first "
    f"{min(num_pairs, len(ours))} pairs, {differences.max():.2e} in all"
  )


def main():
  """Computes the cosines, and prints, writes or compares them."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--model_dir", default="quickstart/bert")
  parser.add_argument("--data", type=turns.existing_file, required=True)
  parser.add_argument("--max_seq_length", type=int, default=128)
  parser.add_argument("--batch_size", type=int, default=32)
  parser.add_argument("--include_special_tokens", action="store_true", help="[CLS] and [SEP] too")
  parser.add_argument("--output", help="file for the cosines (.npy)")
  parser.add_argument(
    "--compare", type=turns.existing_file, action="append", default=[], help="such a file"
  )
  parser.add_argument("--num_compared", type=int, default=200, help="pairs of the comparison")
  parser.add_argument("--peer", action="store_true", help="compute with transformers")
  parser.add_argument("--hidden_act", default="gelu_new", help="of a peer: gelu_new, or gelu")
  args = parser.parse_args()
  first, second, scores = read_pairs(args.data)
  encode = encode_with_transformers if args.peer else encode_with_toolkit
  vectors = encode(first + second, args)
  values = cosines(vectors[: len(first)], vectors[len(first) :])
  if args.output:
    np.save(args.output, values)
  if not args.peer:
    report("this toolkit", values, scores)
    for path in args.compare:
      compare(path, values, args.num_compared, scores)


if __name__ == "__main__":
  main()
