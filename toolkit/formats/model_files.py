"""The files of a pre-trained model's directory, each of which has a flag; without TensorFlow."""

import os

from toolkit.support import command_line, files

CONFIG_FILE = "bert_config.json"
VOCAB_FILE = "vocab.txt"
CHECKPOINT = "bert_model.ckpt"
# Flag -> the file in the directory of --model; the checkpoint may have another name.
FILES = {"bert_config_file": CONFIG_FILE, "vocab_file": VOCAB_FILE, "init_checkpoint": CHECKPOINT}
_HUGGINGFACE = ("config.json", "model.safetensors", "pytorch_model.bin")


def check_given(settings: command_line.Settings) -> None:
  """Checks that settings name a file of a model, or a directory of one.

  Args:
    settings: with the flags of FILES.

  Raises:
    files.InputError: they name none.
  """
  if not any(settings[name] for name in FILES):
    named = ", ".join(f"--{name}" for name in FILES)
    raise files.InputError(f"give a pre-trained model: {named}, or --model=DIR")


def check_directory(directory: str, flag: str = "model") -> None:
  """Checks that there is a directory.

  Raises:
    files.InputError: there is none, by the flag that gave it.
  """
  if files.is_directory(directory):
    return
  found = f"{directory} is a file" if files.exists(directory) else f"there is no {directory}"
  raise files.InputError(f"--{flag}: {found}; give a directory with {', '.join(FILES.values())}")


def path(directory: str, name: str, flag: str = "model") -> str:
  """Returns the path of bert_config.json or vocab.txt in a model's directory.

  Args:
    directory: of the model.
    name: "bert_config_file" or "vocab_file".
    flag: the flag of the directory, for the message.

  Raises:
    files.InputError: the file is not there.
  """
  check_directory(directory, flag)
  found = os.path.join(directory, FILES[name])
  if not files.exists(found):
    raise missing(directory, name, flag)
  return found


def missing(directory: str, name: str, flag: str = "model") -> files.InputError:
  """Makes the error about a model's directory without the file of a flag."""
  remedy = f"give --{name} too, or another directory"
  if _is_huggingface(directory):
    remedy = (
      "it is a HuggingFace directory: convert it by convert_checkpoint.py --mode=from_huggingface"
    )
  return files.InputError(f"--{flag}: the directory {directory} has no {FILES[name]}; {remedy}")


def _is_huggingface(directory):
  names = files.list_names(directory)
  return CONFIG_FILE not in names and any(name in names for name in _HUGGINGFACE)
