"""Finds TensorFlow checkpoints, compares them with a model, reads and writes them."""

import os
import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf
from absl import logging

import modeling
from toolkit.formats import checkpoint_files, model_directory, model_files, variable_names
from toolkit.formats.variable_names import is_training_state
from toolkit.support import files, logs

ENCODER_SCOPE = "bert/"
POOLER = "bert/pooler/"
SLOT_SUFFIXES = ("/adam_m", "/adam_v")  # of the scripts' own optimizer


class Coverage(NamedTuple):
  """The match of a checkpoint and a model's variables.

  Attributes:
    loaded: names found in both, with one shape.
    missing: names that the checkpoint lacks.
    reshaped: name, shape in the model and shape in the checkpoint, for heads only.
    unused: names that only the checkpoint has, without training state.
  """

  loaded: list[str]
  missing: list[str]
  reshaped: list[tuple[str, list[int], list[int]]]
  unused: list[str]


def resolve_checkpoint(path: str, flag: str = "init_checkpoint") -> str:
  """Returns the prefix of a checkpoint.

  Args:
    path: a prefix, the name of an .index or .data file, or a directory. Of a directory it is the
      checkpoint of a training, the best one if it is kept; else bert_model.ckpt; else the only one.
    flag: the flag of the path, for the message.

  Raises:
    files.InputError: there is no checkpoint.
  """
  prefix = re.sub(r"\.(index|meta|data-\d+-of-\d+)$", "", path)
  if files.is_directory(path):
    prefix = model_directory.trained_checkpoint(path) or _released_checkpoint(path, flag)
  if not checkpoint_files.exists(prefix):
    raise files.InputError(f"--{flag}: there is no checkpoint {path} (no file {prefix}.index)")
  return prefix


def _released_checkpoint(directory, flag):
  found = [each[: -len(".index")] for each in files.list_paths(directory, "*.index")]
  released = os.path.join(directory, model_files.CHECKPOINT)
  if len(found) == 1 or released in found:
    return released if released in found else found[0]
  if not found:
    raise files.InputError(
      f"--{flag}: the directory {directory} has no checkpoint (no file "
      f"{model_files.CHECKPOINT}.index)"
    )
  raise files.InputError(
    f"--{flag}: the directory {directory} has several checkpoints, name one of them: "
    f"--init_checkpoint={found[0]}, for example"
  )


def find_model(directory: str, flag: str, wanted: Iterable[str]) -> dict[str, str]:
  """Returns the files in the directory of a pre-trained or finished model.

  Args:
    directory: of the model.
    flag: the flag of the directory, for messages.
    wanted: keys of model_files.FILES.

  Returns:
    Each wanted key -> path; the checkpoint's is its prefix, see resolve_checkpoint.

  Raises:
    files.InputError: names the first file that the directory lacks.
  """
  model_files.check_directory(directory, flag)
  return {
    name: resolve_checkpoint(directory, flag)
    if name == "init_checkpoint"
    else model_files.path(directory, name, flag)
    for name in wanted
  }


class Saved(NamedTuple):
  """The variables in a checkpoint, by the scripts' names; see variable_names.

  Attributes:
    prefix, flag: name the checkpoint in messages.
    shapes: name -> shape.
    types: name -> tf.DType.
    names: the names in the file.
  """

  prefix: str
  flag: str
  shapes: dict[str, list[int]]
  types: dict[str, tf.DType]
  names: variable_names.Names

  def compare(
    self, model_shapes: dict[str, list[int]], model_types: dict[str, tf.DType]
  ) -> Coverage:
    """Compares the shapes and types of a model's variables, by name, with the checkpoint's.

    Raises:
      files.InputError: they do not fit, see the function compare; or a type differs.
    """
    coverage = compare(model_shapes, self.shapes, self.prefix, self.flag)
    for name in coverage.loaded:
      found, wanted = self.types[name], model_types[name]
      if found != wanted:
        raise files.InputError(
          f"--{self.flag}: {name} is of type {found.name} in {self.prefix}, where the model has "
          f"{wanted.name}; save it in that type (convert_checkpoint.py makes float32 of 16 bits on "
          "the way to HuggingFace and back)"
        )
    return coverage


def read_saved(prefix: str, flag: str = "init_checkpoint") -> Saved:
  """Reads which variables a checkpoint has, by the scripts' names.

  Raises:
    files.InputError: the file is no checkpoint, or has several encoders.
  """
  reader = _open(prefix, flag)
  shapes, types = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
  place = f"--{flag}: {prefix}"
  names = variable_names.resolve(sorted(shapes), variable_names.TENSORFLOW, place)
  return Saved(
    prefix,
    flag,
    {name: shapes[source] for name, source in names.sources.items()},
    {name: types[source] for name, source in names.sources.items()},
    names,
  )


def checkpoint_shapes(prefix: str, flag: str = "init_checkpoint") -> dict[str, list[int]]:
  """Returns the shape of each variable in a checkpoint, by the names in the file.

  Raises:
    files.InputError: the file is no checkpoint.
  """
  shapes = _open(prefix, flag).get_variable_to_shape_map()
  return {name: shapes[name] for name in sorted(shapes)}


def _open(prefix, flag):
  """Opens a checkpoint, of which TensorFlow reads the index first."""
  try:
    return checkpoint_files.open_reader(prefix)
  except checkpoint_files.READ_ERRORS as error:
    raise files.InputError(
      f"--{flag}: {prefix} cannot be read as a checkpoint: {files.describe(error)}"
    ) from error


def compare(
  model_shapes: dict[str, list[int]],
  saved_shapes: dict[str, list[int]],
  prefix: str,
  flag: str = "init_checkpoint",
) -> Coverage:
  """Compares the shapes of a model's variables with a checkpoint's.

  `prefix` and `flag` name the checkpoint in messages.

  Raises:
    files.InputError: the checkpoint has none of the encoder's variables, or one of another shape.
  """
  loaded, missing, reshaped = [], [], []
  for name, shape in model_shapes.items():
    if name not in saved_shapes:
      missing.append(name)
    elif list(saved_shapes[name]) == list(shape):
      loaded.append(name)
    elif name.startswith(ENCODER_SCOPE):
      raise files.InputError(_other_shape(name, shape, saved_shapes[name], prefix, flag))
    else:
      reshaped.append((name, list(shape), list(saved_shapes[name])))
  if not any(name.startswith(ENCODER_SCOPE) for name in loaded):
    found = ", ".join(sorted(saved_shapes)[:3])
    raise files.InputError(
      f"--{flag}: {prefix} has none of BERT's variables ({ENCODER_SCOPE}...); it has "
      f"{found or 'none at all'}{variable_names.foreign_format(saved_shapes)}"
    )
  unused = sorted(
    name for name in saved_shapes if name not in model_shapes and not is_training_state(name)
  )
  return Coverage(loaded, missing, reshaped, unused)


def _other_shape(name, shape, saved_shape, prefix, flag):
  """Returns the message about an encoder variable of another shape, with its likely cause."""
  rows_of = {
    "word_embeddings": "vocab_size",
    "position_embeddings": "max_position_embeddings",
    "token_type_embeddings": "type_vocab_size",
  }
  cause = "hidden_size or intermediate_size"
  if name.rsplit("/", 1)[-1] in rows_of and saved_shape[1:] == shape[1:]:
    cause = rows_of[name.rsplit("/", 1)[-1]]
  return (
    f"--{flag}: {name} has shape {list(saved_shape)} in {prefix}, and {list(shape)} by "
    f"--bert_config_file; {cause} differs: they are of different models"
  )


def check_checkpoint(config: modeling.BertConfig, checkpoint: str, flag: str) -> None:
  """Compares an encoder with a checkpoint, a path as in resolve_checkpoint, before a run.

  Raises:
    files.InputError: there is no such checkpoint, or it does not fit.
  """
  saved = read_saved(resolve_checkpoint(checkpoint, flag), flag)
  with tf.Graph().as_default():
    modeling.BertModel(config, is_training=False, input_ids=tf.zeros([1, 1], tf.int32))
    variables = tf.trainable_variables()
    saved.compare(variable_shapes(variables), variable_types(variables))


def check_resumable(prefix: str, flag: str = "output_dir") -> None:
  """Checks that a checkpoint has the scripts' names, by which tf.estimator goes on from it.

  Raises:
    files.InputError: its names are in a scope, or have numbers.
  """
  for name, source in read_saved(prefix, flag).names.sources.items():
    if name != source and not is_training_state(name):
      raise files.InputError(
        f"--{flag}: {prefix} was not made by this toolkit: it has {source} for {name}; give it as "
        "--init_checkpoint, and another directory"
      )


def variable_shapes(variables: Iterable[tf.Variable]) -> dict[str, list[int]]:
  """Returns name -> shape of variables of a graph."""
  return {re.sub(r":\d+$", "", v.name): v.shape.as_list() for v in variables}


def variable_types(variables: Iterable[tf.Variable]) -> dict[str, tf.DType]:
  """Returns name -> type of variables of a graph."""
  return {re.sub(r":\d+$", "", v.name): v.dtype.base_dtype for v in variables}


def report(coverage: Coverage, prefix: str) -> None:
  """Logs which variables come from a checkpoint, and warns of an incomplete encoder."""
  num_new = len(coverage.missing) + len(coverage.reshaped)
  unused = f"; {len(coverage.unused)} in it are not used{_listed(coverage.unused)}"
  logs.notice(
    "Loaded %d variables from %s; %d %s new%s%s.",
    len(coverage.loaded),
    prefix,
    num_new,
    "is" if num_new == 1 else "are",
    _listed(coverage.missing),
    unused if coverage.unused else "",
  )
  for name, shape, saved_shape in coverage.reshaped:
    logging.warning(
      "%s is initialised anew: its shape is %s here and %s in %s", name, shape, saved_shape, prefix
    )
  # Encoders of question answering and tagging may lack the pooler, which they do not use.
  encoder = [
    name for name in coverage.missing if name.startswith(ENCODER_SCOPE) and POOLER not in name
  ]
  if encoder:
    logging.warning(
      "%d variables of the encoder are NOT in %s and start at random%s. Is --bert_config_file the "
      "one that belongs to it?",
      len(encoder),
      prefix,
      _listed(encoder),
    )


def _listed(names):
  """[] -> "", [a] -> " (a)", [a, b, c, d, e] -> " (a, b, c, ...)"."""
  shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
  return f" ({shown})" if names else ""


def read_checkpoint(prefix: str) -> tuple[dict[str, np.ndarray], int]:
  """Reads all variables of a checkpoint but training state, by the scripts' names.

  Returns:
    Name -> array in the dtype of the checkpoint, and the number of variables not read.

  Raises:
    files.InputError: the checkpoint cannot be read, or has several encoders.
  """
  try:
    reader = checkpoint_files.open_reader(prefix)
    in_file = sorted(reader.get_variable_to_shape_map())
    kept = [name for name in in_file if not is_training_state(name)]
    tensors = {name: np.asarray(reader.get_tensor(name)) for name in kept}
  except checkpoint_files.READ_ERRORS as error:
    raise files.InputError(
      f"{prefix}: is no checkpoint or a damaged one: {files.describe(error)}"
    ) from error
  names = variable_names.resolve(kept, variable_names.TENSORFLOW, prefix)
  names.log(prefix)
  renamed = {name: tensors[source] for name, source in sorted(names.sources.items())}
  return renamed, len(in_file) - len(kept)


def save_checkpoint(prefix: str, tensors: dict[str, np.ndarray]) -> None:
  """Writes a checkpoint in TensorFlow's format V2. It appears when it is complete."""
  with tf.Graph().as_default(), files.converted_write_errors(prefix, checkpoint_files.WRITE_ERRORS):
    values = [tf.placeholder(value.dtype, value.shape) for value in tensors.values()]
    save = tf.raw_ops.SaveV2(
      prefix=checkpoint_files.for_tensorflow(prefix),
      tensor_names=list(tensors),
      shape_and_slices=[""] * len(tensors),
      tensors=values,
    )
    with tf.Session(config=tf.ConfigProto(device_count={"GPU": 0})) as session:
      session.run(save, dict(zip(values, tensors.values())))


def saved_step(output_dir: str) -> int:
  """Returns the step of the last checkpoint in a directory, 0 when there is none."""
  checkpoint = checkpoint_files.latest(output_dir)
  return 0 if checkpoint is None else checkpoint_step(checkpoint)


def checkpoint_step(checkpoint: str) -> int:
  """Returns the global step of a checkpoint, given by its prefix; 0 if it has none."""
  reader = checkpoint_files.open_reader(checkpoint)
  return int(reader.get_tensor("global_step")) if reader.has_tensor("global_step") else 0


def check_finite(values: Iterable[np.ndarray], directory: str) -> None:
  """Checks the outputs of a model whose checkpoint is in a directory.

  Raises:
    files.InputError: they are NaN or infinite.
  """
  if not all(np.isfinite(value).all() for value in values):
    raise files.InputError(
      "the model's outputs are NaN or infinite: its weights are broken; train it anew with a "
      f"lower --learning_rate (checkpoint of step {saved_step(directory)})"
    )
