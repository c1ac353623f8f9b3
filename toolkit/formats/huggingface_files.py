"""Reads the weights of HuggingFace directories, whole or in pieces, and never runs their code."""

import io
import os
from typing import Any

import numpy as np
import safetensors
import tensorflow.compat.v1 as tf

from toolkit.support import files

SAFETENSORS = "model.safetensors"
PYTORCH = "pytorch_model.bin"
INDEX = ".index.json"  # {"weight_map": {name of a tensor: name of its file}}

SAFETENSORS_TYPES = {
  "F32": np.float32,
  "F16": np.float16,
  "BF16": tf.bfloat16.as_numpy_dtype,
  "I64": np.int64,  # buffers
}

# In older versions, a crafted file can run code in spite of weights_only.
PYTORCH_VERSION = (2, 6)


def read_weights(directory: str) -> tuple[str, dict[str, np.ndarray]]:
  """Reads a model's weights: safetensors rather than PyTorch, one file rather than several.

  Returns:
    The file, or the index of several, and name -> array; see read_safetensors and read_pytorch.

  Raises:
    files.InputError: there is no such file, one is damaged or refused, or PyTorch is missing.
  """
  for name, read in ((SAFETENSORS, read_safetensors), (PYTORCH, read_pytorch)):
    path = os.path.join(directory, name)
    if files.exists(path):
      return path, read(path)
    if files.exists(path + INDEX):
      return path + INDEX, _read_pieces(path + INDEX, read)
  raise files.InputError(
    f"{directory}: has no weights, neither {SAFETENSORS} nor {PYTORCH}, nor {INDEX} of one"
  )


def _read_pieces(index, read):
  """Reads the tensors of all files that an index names."""
  weight_map = read_object(index).get("weight_map")
  if not isinstance(weight_map, dict) or not all(isinstance(v, str) for v in weight_map.values()):
    raise files.InputError(f"{index}: weight_map does not map tensors to files")
  tensors = {}
  for name in sorted(set(weight_map.values())):
    tensors.update(read(os.path.join(os.path.dirname(index), name)))
  for name, file in weight_map.items():
    if name not in tensors:
      raise files.InputError(f"{index}: {name} is not in {file}, nor in another of its files")
  return tensors


def read_safetensors(path: str) -> dict[str, np.ndarray]:
  """Reads a safetensors file to name -> array, in the types of the file.

  Raises:
    files.InputError: the file is missing, truncated or no safetensors file.
  """
  data = files.read_bytes(path)
  try:
    entries = safetensors.deserialize(data)
  except safetensors.SafetensorError as error:
    raise files.InputError(
      f"{path}: is damaged or no safetensors file: {files.describe(error)}"
    ) from error
  return {name: _array(entry, f"{path}: {name}") for name, entry in entries}


def _array(entry, place):
  """Converts an entry of safetensors.deserialize; safetensors.numpy.load lacks bfloat16."""
  if entry["dtype"] not in SAFETENSORS_TYPES:
    raise bad_type(place, entry["dtype"])
  return np.frombuffer(entry["data"], SAFETENSORS_TYPES[entry["dtype"]]).reshape(entry["shape"])


def read_pytorch(path: str) -> dict[str, np.ndarray]:
  """Reads weights of PyTorch to name -> array, 16-bit floats widened to 32.

  The file is a pickle, of which only those parts are allowed that make tensors.

  Raises:
    files.InputError: the file is missing, damaged, or has other things than tensors; or PyTorch is
      not installed, or too old.
  """
  data = files.read_bytes(path)
  torch = _import_pytorch(path)
  try:
    table = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
  except Exception as error:  # pickle, zipfile and PyTorch raise their own kinds
    raise files.InputError(
      f"{path}: is damaged or has more than weights in it, which is never run: PyTorch's "
      f"weights-only loader refuses it ({type(error).__name__}); get the model as {SAFETENSORS}"
    ) from error
  if not isinstance(table, dict) or not all(isinstance(v, torch.Tensor) for v in table.values()):
    raise files.InputError(f"{path}: has no table of weights by their names")
  halves = (torch.float16, torch.bfloat16)  # of which NumPy lacks the second
  return {
    name: (value.float() if value.dtype in halves else value).detach().numpy()
    for name, value in table.items()
  }


def _import_pytorch(path):
  """Imports torch, which only models need that are not in a safetensors file."""
  wanted = ".".join(map(str, PYTORCH_VERSION))
  try:
    import torch  # pylint: disable=import-outside-toplevel
  except ImportError as error:
    raise files.InputError(
      f"{path}: PyTorch is needed to read it, and not installed: pip install 'torch>={wanted}', or "
      f"get the model as {SAFETENSORS}"
    ) from error
  if tuple(map(int, torch.__version__.split(".")[:2])) < PYTORCH_VERSION:
    raise files.InputError(
      f"{path}: PyTorch {torch.__version__} cannot read it safely: pip install 'torch>={wanted}'"
    )
  return torch


def bad_type(place: str, name: str) -> files.InputError:
  """Returns the error about a tensor at a place whose type cannot be converted."""
  return files.InputError(f"{place} is of type {name}; only 32- and 16-bit floats can be converted")


def read_object(path: str) -> dict[str, Any]:
  """Reads a JSON file with an object.

  Raises:
    files.InputError: the file cannot be read, or has another value.
  """
  value = files.read_json(path)
  if not isinstance(value, dict):
    raise files.InputError(f"{path}: is no JSON object")
  return value
