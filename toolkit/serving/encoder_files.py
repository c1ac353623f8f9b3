"""The files of an encoder: its configuration, vocabulary and checkpoint."""

import os
from collections.abc import Sequence
from typing import Any, Optional

import modeling
import tokenization
from toolkit.formats import checkpoints, model_directory, model_files
from toolkit.formats.trained_model import Trained
from toolkit.support import files
from toolkit.tasks import vectors


def find_model(
  model_dir: str, flag: str = "model_dir", given: Optional[dict[str, Any]] = None
) -> dict[str, Any]:
  """Returns the flags of the model in a directory.

  Args:
    model_dir: of the model.
    flag: the flag of the directory, for messages.
    given: name -> value of flags of the model that have a value already.

  Returns:
    Name -> value of the others: bert_config_file, vocab_file, init_checkpoint, str; and
    do_lower_case, bool, if the directory's run.json or the vocabulary shows it.

  Raises:
    files.InputError: a file is missing, or cannot be read.
  """
  given = {name: value for name, value in (given or {}).items() if value is not None}
  found: dict[str, Any] = checkpoints.find_model(
    model_dir, flag, [n for n in model_files.FILES if n not in given]
  )
  run_file = os.path.join(model_dir, model_directory.RUN_FILE)
  flags_of_run = files.read_json(run_file)["flags"] if files.exists(run_file) else {}
  casing = flags_of_run.get("do_lower_case")
  if casing is None:
    with files.input_checks():
      vocab = tokenization.load_vocab({**found, **given}["vocab_file"])
    casing = tokenization.guess_lower_case(vocab)
  return found if casing is None else {**found, "do_lower_case": casing}


def load_model(
  bert_config_file: str,
  vocab_file: str,
  init_checkpoint: str,
  do_lower_case: bool,
  max_seq_length: int,
  layers: Sequence[int],
) -> tuple[modeling.BertConfig, tokenization.FullTokenizer]:
  """Reads a model's configuration and vocabulary; see FeatureExtractor.

  Raises:
    files.InputError: they are not consistent, or the model lacks one of the layers.
  """
  vectors.check_length(max_seq_length)
  prefix = checkpoints.resolve_checkpoint(init_checkpoint)
  config, tokenizer = model_directory.load_model(
    bert_config_file, vocab_file, do_lower_case, max_seq_length, prefix
  )
  assert tokenizer is not None  # there is a vocabulary
  vectors.check_layers(layers, config.num_hidden_layers)
  return config, tokenizer


def load_trained(directory: str, script: str) -> Trained:
  """Reads the encoder in the directory of a model, of whatever script.

  Raises:
    files.InputError: see find_model.
  """
  del script
  found = find_model(directory)
  config = model_directory.read_config(found["bert_config_file"])
  flags = {name: found[name] for name in ("do_lower_case",) if name in found}
  return Trained(directory, config, found["vocab_file"], flags, None)
