"""The files of an output directory beside checkpoints, which describe its model.

bert_config.json   the model's architecture
vocab.txt          its vocabulary
label_list.txt     its labels, one per line in the order of their ids, where there are labels
run.json           the script that trained it, its flags, and the versions it ran with
best/              the same for the best checkpoint, where one is kept
"""

import os
import platform
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
import tensorflow.compat.v1 as tf
from absl import logging

import modeling
import tokenization
from toolkit.formats import checkpoint_files, exported_model
from toolkit.formats.model_files import CONFIG_FILE, VOCAB_FILE
from toolkit.formats.trained_model import LABEL_FILE, Trained
from toolkit.support import files, log_output

RUN_FILE = "run.json"
BEST = "best"
BEST_FILE = "best.json"

# The files that a run may write; a run that starts anew deletes them.
WRITTEN = (
  "checkpoint",
  "model.ckpt-*",
  "graph.pbtxt",
  "best/*",
  "eval_history.jsonl",
  "events.out.tfevents.*",
  "eval/events.out.tfevents.*",
  "*.tf_record",
  "student_start/*",
  "eval_results*.txt",
  "eval_metrics*.json",
  "test_results*.tsv",
  "predictions*.tsv",
  "predictions.txt",
  "predictions.jsonl",
  "*predictions.json",
  "mask_predictions.jsonl",
  "null_odds.json",
  "answers_source.json",
  "report.json",
  "report.png",
  "label_threshold.json",
  log_output.LOG_FILE,
  *(f"{name}.tsv" for name in ("AX", "CoLA", "MNLI-m", "MNLI-mm", "MRPC", "QNLI", "QQP", "RTE")),
  *(f"{name}.tsv" for name in ("SST-2", "STS-B", "WNLI")),
  LABEL_FILE,
  RUN_FILE,
)

# The variable that only one script's checkpoints have.
HEADS = {
  "output_weights": "run_classifier",
  "cls/squad/output_weights": "run_squad",
  "cls/ner/output_weights": "run_ner",
  "cls/multiple_choice/output_weights": "run_multiple_choice",
  "cls/predictions/output_bias": "run_pretraining",
}


def save(
  output_dir: str,
  config_file: str,
  vocab_file: Optional[str],
  labels: Optional[Sequence[str]],
  script: str,
  flags: dict[str, Any],
) -> None:
  """Writes the files that describe the model of an existing directory.

  Args:
    output_dir, config_file, vocab_file: paths; None for no vocabulary.
    labels: in the order of their ids; None for a task without labels.
    script: name of the script, without .py.
    flags: flag name -> value.
  """
  for source, name in ((config_file, CONFIG_FILE), (vocab_file, VOCAB_FILE)):
    if source is not None:
      files.write_bytes(os.path.join(output_dir, name), files.read_bytes(source))
  if labels is not None:
    text = "".join(f"{label}\n" for label in labels)
    files.write_text(os.path.join(output_dir, LABEL_FILE), text)
  versions = {
    "python": platform.python_version(),
    "tensorflow": tf.__version__,
    "numpy": np.__version__,
  }
  run = {"script": script, "flags": flags, "versions": versions}
  files.write_json(os.path.join(output_dir, RUN_FILE), run)


def load_flags(output_dir: str, script: str, flag: str = "output_dir") -> dict[str, Any]:
  """Reads the flags of the training in a directory; an empty dict without run.json.

  Args:
    output_dir: the directory.
    script: name of the script, without .py.
    flag: the flag of the directory, for the message.

  Raises:
    files.InputError: another script made the directory.
  """
  path = os.path.join(output_dir, RUN_FILE)
  if not files.exists(path):
    return {}
  run = files.read_json(path)
  if not (isinstance(run, dict) and "script" in run and isinstance(run.get("flags"), dict)):
    raise files.InputError(f"{path}: has no script and flags of a run; delete it, or copy it again")
  if run["script"] != script:
    raise files.InputError(
      f"--{flag}: {output_dir} was made by {run['script']}.py, not by {script}.py; "
      "choose another directory"
    )
  return run["flags"]


def read_labels(output_dir: str) -> Optional[list[str]]:
  """Reads the labels of a directory in the order of their ids; None when it has none."""
  path = os.path.join(output_dir, LABEL_FILE)
  if not files.exists(path):
    return None
  return [label for _, label in files.read_lines(path)]


def trained_checkpoint(output_dir: str) -> Optional[str]:
  """Returns the prefix of a directory's best checkpoint if kept, or the last; None without any.

  Raises:
    files.InputError: there was a best one, and it is gone.
  """
  best, last = best_checkpoint(output_dir), checkpoint_files.latest(output_dir)
  if best is None and _keeps_best(output_dir):
    path = os.path.join(output_dir, BEST)
    gone = (*checkpoint_files.named(path), os.path.join(path, "model.ckpt-*"))[0]
    raise files.InputError(
      f"--output_dir: the best checkpoint is missing: there is no {gone}{checkpoint_files.INDEX}; "
      f"copy it again, or delete {path} to use {last or 'none'}"
    )
  return best or last


def best_checkpoint(output_dir: str) -> Optional[str]:
  """Returns the prefix of the checkpoint that is kept in best/, or None."""
  best = os.path.join(output_dir, BEST)
  return checkpoint_files.latest(best) if _keeps_best(output_dir) else None


def _keeps_best(output_dir):
  """Returns whether best/ was written to the end, by the last two of its files."""
  names = (checkpoint_files.STATE_FILE, BEST_FILE)
  return any(files.exists(os.path.join(output_dir, BEST, name)) for name in names)


def description_files(output_dir: str) -> list[str]:
  """Returns the paths of those files of `save` that exist in a directory."""
  names = (CONFIG_FILE, VOCAB_FILE, LABEL_FILE, RUN_FILE)
  paths = [os.path.join(output_dir, name) for name in names]
  return [path for path in paths if files.exists(path)]


def check_head(output_dir: str, script: str) -> None:
  """Checks that the checkpoint in a directory is not another task's, by its variables.

  Directories of older toolkits have no run.json.

  Raises:
    files.InputError: names the script that the checkpoint belongs to.
  """
  checkpoint = checkpoint_files.latest(output_dir)
  if checkpoint is None or checkpoint_files.damage(checkpoint, lambda name: False):
    return
  names = checkpoint_files.open_reader(checkpoint).get_variable_to_shape_map()
  for variable, owner in HEADS.items():
    if variable in names and owner != script:
      raise files.InputError(
        f"--output_dir: {checkpoint} has the variable {variable} of {owner}.py; choose another "
        "directory, or give it as --init_checkpoint"
      )


def check_length(max_seq_length: int, config: modeling.BertConfig) -> None:
  """Checks that a model has positions for the longest input, in word pieces.

  Raises:
    files.InputError: it has not.
  """
  if max_seq_length > config.max_position_embeddings:
    raise files.InputError(
      f"--max_seq_length={max_seq_length} is more than the {config.max_position_embeddings} "
      "positions of the model (max_position_embeddings in --bert_config_file)"
    )


def read_config(path: str) -> modeling.BertConfig:
  """Reads a configuration.

  Raises:
    files.InputError: see modeling.BertConfig.from_json_file.
  """
  with files.input_checks():
    return modeling.BertConfig.from_json_file(path)


def vocab_problem(vocab: dict[str, int], vocab_size: int) -> Optional[tuple[str, str]]:
  """Finds out whether a model has an embedding for each word piece of a vocabulary.

  Blank lines behind the last piece do no harm.

  Args:
    vocab: word piece -> id; see tokenization.load_vocab.
    vocab_size: the number of embeddings.

  Returns:
    The number of word pieces in words, and what to do; None if all have an embedding.
  """
  num_lines = tokenization.num_ids(vocab)
  if num_lines <= vocab_size:
    return None
  num_pieces = sum(1 for token in vocab if token)
  if num_pieces > vocab_size:
    return f"{num_pieces} word pieces", "they belong to different models"
  return (
    f"{num_pieces} word pieces on {num_lines} lines",
    "blank and repeated lines before the last piece count: take out those that were added, or "
    "else they belong to different models",
  )


def load_trained(directory: str, script: str) -> Trained:
  """Reads the description of a model that a script, named without .py, has trained.

  Raises:
    files.InputError: the directory is of another script, or a file is missing or cannot be used.
  """
  flags = load_flags(directory, script)
  config = read_config(os.path.join(directory, CONFIG_FILE))
  vocab_file = os.path.join(directory, VOCAB_FILE)
  with files.input_checks():
    tokenization.validate_vocab(vocab_file)
  return Trained(directory, config, vocab_file, flags, read_labels(directory))


def load_model(
  config_file: str,
  vocab_file: Optional[str],
  do_lower_case: bool,
  max_seq_length: int,
  init_checkpoint: Optional[str],
) -> tuple[modeling.BertConfig, Optional[tokenization.FullTokenizer]]:
  """Reads a model's configuration and vocabulary, and checks that they belong together.

  Args:
    config_file, vocab_file: paths; None for no vocabulary.
    do_lower_case: casing of the tokenizer.
    max_seq_length: the longest input in word pieces.
    init_checkpoint: a path; a known name must agree with the casing.

  Returns:
    The configuration, and the tokenizer; None without a vocabulary.

  Raises:
    files.InputError: a file cannot be used, or they do not belong together.
  """
  config = read_config(config_file)
  check_length(max_seq_length, config)
  if vocab_file is None:
    return config, None
  with files.input_checks():
    tokenization.validate_vocab(vocab_file)
    tokenizer = tokenization.FullTokenizer(vocab_file, do_lower_case)
  problem = vocab_problem(tokenizer.vocab, config.vocab_size)
  if problem:
    raise files.InputError(
      f"--vocab_file: {vocab_file} has {problem[0]}, and the vocab_size is {config.vocab_size} in "
      f"{config_file}; {problem[1]}"
    )
  with files.input_checks():
    tokenization.validate_case_matches_checkpoint(do_lower_case, init_checkpoint)
  guess = tokenization.guess_lower_case(tokenizer.vocab)
  if guess is not None and guess != do_lower_case:
    logging.warning(
      "--do_lower_case=%s, but %s looks like the vocabulary of %s model",
      do_lower_case,
      vocab_file,
      "an uncased" if guess else "a cased",
    )
  return config, tokenizer


def clear(output_dir: str, init_checkpoint: Optional[str]) -> None:
  """Deletes the files of an earlier run in a directory, and nothing else.

  Raises:
    files.InputError: `init_checkpoint`, the prefix of the one to start from, is among them.
  """
  paths = [path for name in WRITTEN for path in files.list_paths(output_dir, name)]
  if init_checkpoint and any(path.startswith(f"{init_checkpoint}.") for path in paths):
    raise files.InputError(
      f"--overwrite_output_dir would delete --init_checkpoint {init_checkpoint}; copy it elsewhere"
    )
  for path in paths:
    files.remove(path)
  for path in files.list_paths(output_dir, f"{exported_model.SERVING}/*-*"):
    if exported_model.is_export(path):
      files.remove_tree(path)
