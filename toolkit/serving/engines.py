"""Engines that run models, and the files that ONNX Runtime needs of a trained directory.

ONNX Runtime takes an exported model. That of a trained directory is made once, and kept in

  OUTPUT/serving/NAME-FINGERPRINT/   model.onnx, model.json, vocab.txt; see exported_model

where the fingerprint is that of the checkpoint and of the files beside it. Nothing here imports
TensorFlow before it is needed.
"""

import atexit
import functools
import glob
import hashlib
import importlib.util
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple, Optional

from toolkit.formats import exported_model
from toolkit.formats.exported_model import SERVING, Description
from toolkit.formats.model_heads import Head
from toolkit.formats.trained_model import Trained
from toolkit.serving import onnx_engine
from toolkit.serving.predictor import Predictor
from toolkit.support import files, logs

AUTO, TENSORFLOW, ONNXRUNTIME = "auto", "tensorflow", "onnxruntime"
ENGINES = (AUTO, TENSORFLOW, ONNXRUNTIME)

# What a predictor depends on, beside the values of a checkpoint, whose checksums its index has.
_SOURCES = (
  "bert_config.json",
  "vocab.txt",
  "label_list.txt",
  "run.json",
  "label_threshold.json",
  "eval_metrics.json",
  "checkpoint",
  "*.index",
  "best/checkpoint",
  "best/*.index",
)
_ABANDONED_SECONDS = 3600  # after which an export that was not finished is deleted

# Head of a trained model, and the flags that its predictor reads.
Describe = Callable[[Trained], tuple[Head, dict[str, Any]]]


# ---- Choice -------------------------------------------------------------------------------------


def choose(engine: str, is_exported: bool = False) -> str:
  """Returns TENSORFLOW or ONNXRUNTIME.

  Args:
    engine: member of ENGINES. AUTO is ONNX Runtime where it is installed and there is no GPU.
    is_exported: True if there is an export already, so that the package onnx is not needed.

  Raises:
    files.InputError: the engine is none of them, or is not installed.
  """
  if engine not in ENGINES:
    raise files.InputError(f"--engine: found {engine!r}; there are {', '.join(ENGINES)}")
  needed = ["onnxruntime"] if is_exported else ["onnxruntime", "onnx"]
  missing = [name for name in needed if importlib.util.find_spec(name) is None]
  if engine == ONNXRUNTIME and missing:
    raise files.InputError(f"--engine={engine}: {onnx_engine.missing_package(missing[0])}")
  if engine == AUTO:
    return TENSORFLOW if missing or _has_gpu() else ONNXRUNTIME
  return engine


@functools.cache
def _has_gpu():
  """Returns whether TensorFlow sees a GPU; asks it only where there may be one."""
  devices = ("/dev/nvidia*", "/dev/dxg", "/dev/kfd")
  if not any(glob.glob(pattern) for pattern in devices):
    return False
  if importlib.util.find_spec("tensorflow") is None:
    return False
  import tensorflow as tf  # only here: its import takes seconds

  return bool(tf.config.list_physical_devices("GPU"))


# ---- Loading ------------------------------------------------------------------------------------


def load_predictor(
  head: Head,
  checkpoint: str,
  config: Any,
  engine: str,
  batch_size: int = 8,
  flag: str = "output_dir",
) -> Predictor:
  """Loads a model into an engine.

  Args:
    head: outputs of the graph.
    checkpoint: the directory of an export; or a path as checkpoints.resolve_checkpoint takes it.
    config: the model's, a modeling.BertConfig if it is no export.
    engine: member of ENGINES; an export always runs on ONNX Runtime.
    batch_size: the largest number of inputs that run at once.
    flag: the flag of the checkpoint, for messages.

  Raises:
    files.InputError: the files cannot be used, or the engine is not installed.
  """
  if exported_model.is_export(checkpoint):
    return Predictor(_exported(head, checkpoint), batch_size)
  if choose(engine) == ONNXRUNTIME:
    from toolkit.formats import checkpoints, onnx_export

    prefix = checkpoints.resolve_checkpoint(checkpoint, flag)
    model = onnx_export.make_model(prefix, config, head, quantize=False)
    return Predictor(onnx_engine.OnnxEngine(model, prefix), batch_size)
  from toolkit.serving import tensorflow_engine

  build = tensorflow_engine.builder(head, config)
  return tensorflow_engine.load_predictor(build, checkpoint, batch_size, flag, inputs=head.inputs())


def _exported(head, directory):
  """Loads an export, whose head must be that of the predictor."""
  path, found = exported_model.check_model(directory)
  if found._replace(layers=()) != head._replace(layers=()) or not _has_layers(found, head):
    raise files.InputError(
      f"{directory}: has the outputs {found}, where {head} is needed; export the model again"
    )
  return onnx_engine.OnnxEngine(path, path)


def _has_layers(found, head):
  """Returns whether a graph has the layers of a head, as far as the names of both can tell."""
  return set(head.layers) <= set(found.layers)


class Source(NamedTuple):
  """A kind of directory to load models from.

  Attributes:
    script: name of the script that trains the models, without .py.
    describe: function of a trained model to its head and the flags that its predictor reads.
    load: function of a directory and a script to the model; imports TensorFlow.
    variant: tells exports of one directory apart, such as those of other layers.
  """

  script: str
  describe: Describe
  load: Optional[Callable[[str, str], Trained]] = None
  variant: str = ""


def find(directory: str, source: Source, engine: str) -> tuple[Trained, str]:
  """Finds the model in a directory, and makes its export if the engine needs one.

  Args:
    directory: of a trained model, or of an export.
    source: of the model.
    engine: member of ENGINES.

  Returns:
    The model, whose directory is that of an export for ONNX Runtime; and the engine.

  Raises:
    files.InputError: the directory is not complete, or of another script; or the engine is not
      installed, or cannot run an export.
  """
  if exported_model.is_export(directory):
    if engine == TENSORFLOW:
      raise files.InputError(
        f"--engine={TENSORFLOW}: {directory} is an export, which ONNX Runtime runs; give the "
        "directory of the training"
      )
    return exported_model.load(directory, source.script)[0], ONNXRUNTIME
  if choose(engine, is_exported=True) == ONNXRUNTIME:
    export = _kept_export(directory, source)
    if export is None and choose(engine) == ONNXRUNTIME:
      export = _make_export(directory, source)
    if export is not None:
      return exported_model.load(export, source.script)[0], ONNXRUNTIME
  return _load_trained(directory, source), TENSORFLOW


def _load_trained(directory, source):
  """Reads the description of a trained model, for which TensorFlow is needed."""
  if importlib.util.find_spec("tensorflow") is None:
    raise files.InputError(
      f"{directory}: has no export for ONNX Runtime (no {exported_model.DESCRIPTION_FILE}), and "
      "TensorFlow is not installed; make an export by export_model.py --format=onnx"
    )
  from toolkit.formats import model_directory

  return (source.load or model_directory.load_trained)(directory, source.script)


# ---- Exports of trained directories -------------------------------------------------------------

# Fingerprint -> directory of an export that this process has made elsewhere.
_temporary: dict[str, str] = {}


def _export_name(directory, source):
  """Returns the name of the directory of an export: NAME-FINGERPRINT."""
  digest = hashlib.sha256(f"{exported_model.FORMAT} {source.script} {source.variant}".encode())
  for pattern in _SOURCES:
    for path in files.list_paths(directory, pattern):
      digest.update(f"{os.path.relpath(path, directory)}\n".encode("utf-8", "surrogateescape"))
      digest.update(hashlib.sha256(files.read_bytes(path)).digest())
  return f"{source.script}{source.variant}-{digest.hexdigest()[:16]}"


def _kept_export(directory, source):
  """Returns the directory of an export of the present checkpoint, or None."""
  name = _export_name(directory, source)
  for path in (os.path.join(directory, SERVING, name), _temporary.get(name, "")):
    if path and exported_model.is_whole(path):
      return path
  return None


def _make_export(directory, source):
  """Makes the export of a trained directory, in it or in a temporary directory."""
  from toolkit.formats import checkpoints, onnx_export

  found = _load_trained(directory, source)
  prefix = checkpoints.resolve_checkpoint(directory, "output_dir")
  description = description_of(found, source, prefix)
  name = _export_name(directory, source)
  parent, path = _new_directory(directory, name)
  logs.notice("Making %s for ONNX Runtime, once.", os.path.join(parent, name))
  try:
    onnx_export.write(path, description, found.vocab_file, prefix, found.config)
    return _put_into_place(path, os.path.join(parent, name))
  except BaseException:
    shutil.rmtree(path, ignore_errors=True)
    raise


def description_of(found: Trained, source: Source, checkpoint: str) -> Description:
  """Returns what an export of a trained model needs beside its graph.

  Args:
    found: the model.
    source: what it was found by.
    checkpoint: prefix of its checkpoint.
  """
  head, flags = source.describe(found)
  return Description(
    source.script,
    {**flags, "do_lower_case": found.do_lower_case()},
    found.labels,
    found.config.to_dict(),
    head,
    None,
    os.path.basename(checkpoint),
  )


def _new_directory(directory, name):
  """Makes a directory to write an export in; returns its parent and its path."""
  parent = os.path.join(directory, SERVING)
  path = os.path.join(parent, f".{name}.{uuid.uuid4().hex}")
  try:
    if files.is_remote(directory):
      raise OSError("ONNX Runtime reads local files")
    os.makedirs(path)
  except OSError as error:
    logs.notice("Nothing can be kept in %s: %s.", parent, files.describe(error))
    parent = tempfile.mkdtemp(prefix="bert_serving_")
    atexit.register(shutil.rmtree, parent, ignore_errors=True)
    path = os.path.join(parent, f".{name}")
    os.makedirs(path)
    _temporary[name] = os.path.join(parent, name)
  return parent, path


def _put_into_place(path, final):
  """Renames a complete export, and deletes those of earlier checkpoints."""
  try:
    os.rename(path, final)
  except OSError:
    if exported_model.is_whole(final):  # another process was faster
      shutil.rmtree(path)
      return final
    shutil.rmtree(final)  # a damaged one
    os.rename(path, final)
  parent, name = os.path.split(final)
  stem = name.rpartition("-")[0]
  for other in os.listdir(parent):
    old = os.path.join(parent, other)
    is_earlier = other != name and other.rpartition("-")[0] == stem
    is_abandoned = (
      other.startswith(".") and time.time() - os.path.getmtime(old) > _ABANDONED_SECONDS
    )
    if is_earlier or is_abandoned:
      shutil.rmtree(old, ignore_errors=True)
  return final
