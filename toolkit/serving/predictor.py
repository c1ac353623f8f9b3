"""A trained model, loaded once for many calls: in a prompt, a notebook or a server."""

import os
from collections.abc import Callable, Sequence
from typing import Optional, Union

import numpy as np
import tensorflow.compat.v1 as tf

import modeling
from toolkit.formats import checkpoint_files, checkpoints
from toolkit.support import files, processes

# The batch size up to which operations are too short for threads of their own.
FEW = 8
# Up to this number of multiplications in the dense layers, waking a second thread takes longer than
# it saves: measured with 6 layers of width 384, where it is 48 tokens. No model is loaded twice for
# inputs of less than SHORT tokens.
ONE_THREAD_PRODUCTS = 5e8
SHORT = 16

# Makes a graph from input_ids, input_mask and segment_ids; see Predictor.
Build = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]

Ids = Union[Sequence[int], np.ndarray]
Row = tuple[Ids, Ids]  # input_ids and segment_ids of one input


class Predictor:
  """A model in a graph and a session of its own; several threads may call it.

  Inputs of any lengths run in order of length, in batches cut to their longest. On a CPU, a small
  model is loaded a second time for short ones, in a session of one thread.
  """

  def __init__(
    self,
    build: Build,
    checkpoint: str,
    batch_size: int = 8,
    flag: str = "output_dir",
    session_config: Optional[tf.ConfigProto] = None,
  ) -> None:
    """Builds the graph and restores the weights.

    Args:
      build: makes a model's graph without dropout, from input_ids, input_mask and segment_ids,
        int32 [B, S], to name -> tensor [B, ...].
      checkpoint: a path as checkpoints.resolve_checkpoint takes it.
      batch_size: the largest number of inputs that run at once.
      flag: the flag that gave the checkpoint, for messages.
      session_config: such as precision.Plan.session_config gives for mixed precision; default:
        float32.

    Raises:
      files.InputError: the checkpoint lacks a variable that the outputs depend on, has another
        shape of one, or is damaged.
    """
    self._batch_size = batch_size
    self._process = os.getpid()
    graph = tf.Graph()
    with graph.as_default(), modeling.fast_forms(join_projections=True):
      self._inputs = [
        tf.placeholder(tf.int32, [None, None], name=name)
        for name in ("input_ids", "input_mask", "segment_ids")
      ]
      self._outputs = build(*self._inputs)
      prefix = checkpoints.resolve_checkpoint(checkpoint, flag)
      variables = _variables_behind(self._outputs.values())
      sources = _find_sources(variables, prefix, flag)
      saver = tf.train.Saver({each[0]: var for var, each in sources.items() if len(each) == 1})
    config = _threads(session_config, batch_size)
    self._session = _restored_session(graph, config, saver, sources, prefix)
    self._one_thread_tokens = _one_thread_tokens(variables, batch_size)
    self._short_session = self._session
    if self._one_thread_tokens:
      one_thread = tf.ConfigProto(intra_op_parallelism_threads=1)
      one_thread.MergeFrom(config)
      self._short_session = _restored_session(graph, one_thread, saver, sources, prefix)
    graph.finalize()

  def run(
    self,
    rows: Sequence[Row],
    on_batch: Optional[Callable[[int], object]] = None,
  ) -> list[dict[str, np.ndarray]]:
    """Runs the model.

    Args:
      rows: pairs of input_ids and segment_ids, both of one length.
      on_batch: called after each batch with the number of its rows.

    Returns:
      Name -> array per row, in their order. Outputs [B, S, ...] of the graph are padded to the
      longest input that ran with the row.

    Raises:
      RuntimeError: another process has loaded the model, and this one is its fork.
    """
    if os.getpid() != self._process:
      raise RuntimeError(
        f"the model was loaded in process {self._process} and cannot be used in its fork "
        f"{os.getpid()}: load it in each process, after the fork"
      )
    results: list[dict[str, np.ndarray]] = [{} for _ in rows]
    order = sorted(range(len(rows)), key=lambda place: len(rows[place][0]))
    for first in range(0, len(order), self._batch_size):
      places = order[first : first + self._batch_size]
      values = self._run_batch([rows[place] for place in places])
      for number, place in enumerate(places):
        results[place] = {name: value[number] for name, value in values.items()}
      if on_batch:
        on_batch(len(places))
    return results

  def _run_batch(self, rows):
    """Runs rows, padded to the longest; returns a dict of name -> array."""
    length = max(len(input_ids) for input_ids, _ in rows)
    is_short = len(rows) * length <= self._one_thread_tokens
    session = self._short_session if is_short else self._session
    ids, mask, segments = np.zeros([3, len(rows), length], np.int32)
    for number, (input_ids, segment_ids) in enumerate(rows):
      ids[number, : len(input_ids)] = input_ids
      mask[number, : len(input_ids)] = 1
      segments[number, : len(input_ids)] = segment_ids
    return session.run(self._outputs, dict(zip(self._inputs, (ids, mask, segments))))

  def close(self) -> None:
    """Frees the memory of the weights."""
    self._session.close()
    self._short_session.close()


def _threads(session_config, batch_size):
  """Copies a tf.ConfigProto, or None, for a session that runs `batch_size` inputs at once.

  For a few inputs, operations run one after another in the calling thread: handing short operations
  to other threads takes longer than running them. Within an operation there are still as many
  threads as processors.
  """
  config = tf.ConfigProto(inter_op_parallelism_threads=-1 if batch_size <= FEW else 0)
  if session_config:
    config.MergeFrom(session_config)
  return config


def _one_thread_tokens(variables, batch_size):
  """Finds the largest batch, in tokens, to run in one thread; 0 for no second session."""
  shares_threads = os.environ.get(processes.OWN_THREADS) != "1"
  if shares_threads or batch_size > FEW or tf.config.list_physical_devices("GPU"):
    return 0
  kernels = [v.shape.num_elements() for v in variables if v.op.name.endswith("/kernel")]
  tokens = int(ONE_THREAD_PRODUCTS / max(sum(kernels), 1))
  return tokens if tokens >= SHORT else 0


def _restored_session(graph, config, saver, sources, prefix):
  """Makes a session in which the variables have the checkpoint's values."""
  session = tf.Session(graph=graph, config=config)
  try:
    with graph.as_default():  # needed where a notebook's eager mode is on
      checkpoint_files.restore(saver, session, prefix)
      _restore_joined(session, sources, prefix)
  except tf.errors.OpError as error:
    raise files.InputError(f"{prefix} is damaged: {files.describe(error)}") from error
  return session


def _variables_behind(tensors):
  """Lists the trainable variables that tensors depend on, so without an unused pooler."""
  found, waiting = set(), [tensor.op for tensor in tensors]
  while waiting:
    op = waiting.pop()
    if op not in found:
      found.add(op)
      waiting.extend(source.op for source in op.inputs)
  return [variable for variable in tf.trainable_variables() if variable.op in found]


def _part_names(name):
  """Returns the names by which a checkpoint has a variable's parts; most have one part."""
  joined = f"/{modeling.JOINED_PROJECTIONS}/"
  if joined not in name:
    return [name]
  return [name.replace(joined, f"/{part}/") for part in modeling.PROJECTIONS]


def _restore_joined(session, sources, prefix):
  """Sets the variables of several parts from a checkpoint."""
  reader = checkpoint_files.open_reader(prefix)
  for variable, names in sources.items():
    if len(names) > 1:
      value = np.concatenate([reader.get_tensor(name) for name in names], axis=-1)
      session.run(variable.initializer, {variable.initial_value: value})


def _find_sources(variables, prefix, flag):
  """Finds variables in a checkpoint: variable -> the names of its parts in the file."""
  parts = {variable: _part_names(variable.op.name) for variable in variables}
  shapes, types = {}, {}
  for variable, names in parts.items():
    *outer, last = variable.shape.as_list()
    shapes.update({name: [*outer, last // len(names)] for name in names})
    types.update(dict.fromkeys(names, variable.dtype.base_dtype))
  saved = checkpoints.read_saved(prefix, flag)
  coverage = saved.compare(shapes, types)
  others = {name: found for name, _, found in coverage.reshaped}
  for name in (*others, *coverage.missing):
    raise files.InputError(
      f"--{flag}: {prefix} does not fit the model: {name} is {others.get(name, 'not there')}, "
      f"should be {shapes[name]}"
    )
  saved.names.log(prefix)
  return {
    variable: [saved.names.sources[name] for name in names] for variable, names in parts.items()
  }
