"""A model exported to ONNX, with all that its predictor needs; without TensorFlow.

model.onnx   the graph and its weights
model.json   task, labels, casing, lengths, the configuration; the digest of model.onnx
vocab.txt    the vocabulary
"""

import hashlib
import json
import os
import types
from typing import Any, NamedTuple, Optional

import tokenization
from toolkit.formats.model_heads import Head
from toolkit.formats.trained_model import Trained
from toolkit.support import files

MODEL_FILE = "model.onnx"
DESCRIPTION_FILE = "model.json"
VOCAB_FILE = "vocab.txt"
SERVING = "serving"  # the directory of exports in that of a trained model
ENCODER_SCRIPT = "extract_features"  # of an encoder without a head
FORMAT = 1


class Description(NamedTuple):
  """The contents of model.json.

  Attributes:
    script: name of the script that trained the model, without .py; or ENCODER_SCRIPT.
    flags: flag name -> value, those that the script's predictor reads.
    labels: in the order of their ids, or None.
    config: keys of bert_config.json.
    head: outputs of the graph.
    quantization: None or "int8".
    checkpoint: name of the checkpoint, without its directory.
  """

  script: str
  flags: dict[str, Any]
  labels: Optional[list[str]]
  config: dict[str, Any]
  head: Head
  quantization: Optional[str]
  checkpoint: str


def is_export(directory: str) -> bool:
  """Returns whether a directory has an exported model."""
  return files.exists(os.path.join(directory, DESCRIPTION_FILE))


def write(directory: str, description: Description, model: bytes, vocab: bytes) -> None:
  """Writes the files of an export into an existing directory, model.json at last."""
  files.write_bytes(os.path.join(directory, MODEL_FILE), model)
  files.write_bytes(os.path.join(directory, VOCAB_FILE), vocab)
  contents = {"format": FORMAT, **description._asdict(), "head": description.head._asdict()}
  contents.update(bytes=len(model), sha256=hashlib.sha256(model).hexdigest())
  files.write_json(os.path.join(directory, DESCRIPTION_FILE), contents)


def is_whole(directory: str) -> bool:
  """Returns whether a directory has an export whose files have their sizes."""
  path = os.path.join(directory, DESCRIPTION_FILE)
  if not files.exists(path):
    return False
  try:
    size = files.read_json(path)["bytes"]
    return size == os.path.getsize(os.path.join(directory, MODEL_FILE))
  except (files.InputError, OSError, KeyError, TypeError):
    return False


def read_description(directory: str) -> Description:
  """Reads model.json.

  Raises:
    files.InputError: it is not there, cannot be read, or is of another format.
  """
  return _read(directory)[0]


def _read(directory):
  """Reads model.json: the Description, and the digest of model.onnx."""
  path = os.path.join(directory, DESCRIPTION_FILE)
  contents = files.read_json(path)
  try:
    if contents["format"] != FORMAT:
      raise files.InputError(
        f"{path}: has format {json.dumps(contents['format'])}, this version reads {FORMAT}; "
        "export the model again"
      )
    head = contents["head"]
    contents["head"] = Head(**{**head, "layers": tuple(head["layers"])})
    found = Description(**{name: contents[name] for name in Description._fields})
    digest = contents["sha256"]
    if not (isinstance(found.flags, dict) and isinstance(found.config, dict)):
      raise TypeError("flags and config are objects")
    found.config["max_position_embeddings"] + found.config["vocab_size"]
  except (KeyError, TypeError, AttributeError) as error:
    raise files.InputError(
      f"{path}: is no description of an exported model ({files.describe(error)}); copy it again, "
      "or export the model again"
    ) from error
  return found, digest


def load(directory: str, script: str, flag: str = "output_dir") -> tuple[Trained, Description]:
  """Reads the description of an export, and checks the vocabulary.

  Args:
    directory: of the export.
    script: name of the script that the model must be of, without .py.
    flag: the flag of the directory, for messages.

  Raises:
    files.InputError: the export is of another script, or a file is missing or cannot be used.
  """
  found = read_description(directory)
  if found.script != script:
    raise files.InputError(
      f"--{flag}: {directory} was exported from a model of {found.script}.py, not of {script}.py; "
      "choose another directory"
    )
  vocab_file = os.path.join(directory, VOCAB_FILE)
  with files.input_checks():
    tokenization.validate_vocab(vocab_file)
  config = types.SimpleNamespace(**found.config)
  return Trained(directory, config, vocab_file, found.flags, found.labels), found


def check_model(directory: str) -> tuple[str, Head]:
  """Checks model.onnx by its digest.

  Returns:
    Its path, and the head of the graph.

  Raises:
    files.InputError: it is not there, or is not the file that was exported.
  """
  found, digest = _read(directory)
  path = os.path.join(directory, MODEL_FILE)
  if not files.exists(path):
    raise files.InputError(f"{path} is missing; copy it again, or export the model again")
  if files.digest(path) != digest:
    raise files.InputError(
      f"{path} is damaged or of another export: its SHA-256 is not that of {DESCRIPTION_FILE}; "
      "copy it again, or export the model again"
    )
  return path, found.head
