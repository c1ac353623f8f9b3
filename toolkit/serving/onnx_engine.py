"""Graphs of exported models in ONNX Runtime; without TensorFlow."""

import importlib
import os
from typing import Any, Union

from toolkit.serving.predictor import Arrays
from toolkit.support import files


def missing_package(name: str) -> str:
  """Returns a line about a package that is not installed, onnxruntime or onnx."""
  return f"the package {name} is not installed: python -m pip install -r requirements-export.txt"


def import_runtime() -> Any:
  """Returns the module onnxruntime.

  Raises:
    files.InputError: it is not installed.
  """
  try:
    return importlib.import_module("onnxruntime")
  except ImportError as error:
    raise files.InputError(missing_package("onnxruntime")) from error


# Whether threads of ONNX Runtime wait for the next run actively, which answers single calls sooner.
_are_threads_active = True


def share_processors() -> None:
  """Makes the threads of models that are loaded from now on sleep between two runs.

  It is for a process that does other work at the same time, such as a service.
  """
  global _are_threads_active
  _are_threads_active = False


class OnnxEngine:
  """A model in a session of ONNX Runtime, on the CPU."""

  name = "onnxruntime"

  def __init__(self, model: Union[str, bytes], source: str) -> None:
    """Loads a model.

    Args:
      model: path of an ONNX file, or its contents.
      source: name of the file or of the checkpoint, for messages.

    Raises:
      files.InputError: ONNX Runtime is not installed, or cannot load the model.
    """
    runtime = import_runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = num_threads()
    options.log_severity_level = 3  # errors
    if not _are_threads_active:
      options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
      self._session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has kinds of its own for each fault
      raise files.InputError(
        f"{source}: ONNX Runtime cannot load the model: {files.describe(error)}"
      ) from error
    self._outputs = [output.name for output in self._session.get_outputs()]

  def run(self, inputs: Arrays) -> Arrays:
    """Runs the graph; see predictor.Engine."""
    try:
      return dict(zip(self._outputs, self._session.run(self._outputs, inputs)))
    except Exception as error:
      if "allocate" in str(error).lower():
        raise MemoryError(files.describe(error)) from error
      raise

  def close(self) -> None:
    """Frees the memory of the weights."""
    del self._session


def num_threads() -> int:
  """Returns the number of processors that this process may use."""
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1
