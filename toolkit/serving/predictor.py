"""A trained model, loaded once for many calls: in a prompt, a notebook or a server.

It runs on one of the engines: tensorflow_engine.py or onnx_engine.py.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Optional, Protocol, Union

import numpy as np

from toolkit.formats.model_heads import POSITIONS, Head
from toolkit.records.tf_records import INPUTS
from toolkit.support import files

Ids = Union[Sequence[int], np.ndarray]
Row = tuple[Ids, Ids]  # input_ids and segment_ids of one input
MaskedRow = tuple[Ids, Ids, Ids]  # the same, and the places to predict, of a masked language model
Arrays = dict[str, np.ndarray]
Turn = Callable[[], contextlib.AbstractContextManager[None]]


class Engine(Protocol):
  """A loaded graph; several threads may call it."""

  name: str  # member of engines.ENGINES

  def run(self, inputs: Arrays) -> Arrays:
    """Runs the graph.

    Args:
      inputs: int32 [B, S] by the names INPUTS, and POSITIONS if the graph has it.

    Returns:
      Name -> array [B, ...].

    Raises:
      MemoryError: the batch does not fit.
    """

  def close(self) -> None:
    """Frees the memory of the weights."""


class Predictor:
  """A model in an engine of its own; several threads may call it.

  Inputs of any lengths run in order of length, in batches cut to their longest.
  """

  def __init__(self, engine: Engine, batch_size: int = 8) -> None:
    """Takes a loaded engine; `batch_size` is the largest number of inputs that run at once."""
    self._engine = engine
    self._batch_size = batch_size
    self._process = os.getpid()
    self._turn: Turn = contextlib.nullcontext

  @property
  def engine(self) -> str:
    """Name of the engine; member of engines.ENGINES."""
    return self._engine.name

  def run(
    self,
    rows: Union[Sequence[Row], Sequence[MaskedRow]],
    on_batch: Optional[Callable[[int], object]] = None,
    finish: Optional[Callable[[Arrays, Arrays], Arrays]] = None,
  ) -> list[Arrays]:
    """Runs the model.

    Args:
      rows: input_ids and segment_ids, both of one length; and positions for a masked language
        model.
      on_batch: called after each batch with the number of its rows.
      finish: function of a batch's inputs and outputs to the outputs that are kept, such as a
        pooling; default: all outputs.

    Returns:
      Name -> array per row, in their order. Outputs [B, S, ...] of the graph are padded to the
      longest input that ran with the row.

    Raises:
      RuntimeError: another process has loaded the model, and this one is its fork.
      MemoryError: the batch does not fit.
    """
    if os.getpid() != self._process:
      raise RuntimeError(
        f"the model was loaded in process {self._process} and cannot be used in its fork "
        f"{os.getpid()}: load it in each process, after the fork"
      )
    results: list[Arrays] = [{} for _ in rows]
    order = sorted(range(len(rows)), key=lambda place: len(rows[place][0]))
    for first in range(0, len(order), self._batch_size):
      places = order[first : first + self._batch_size]
      inputs = _padded([rows[place] for place in places])
      with self._turn():
        values = self._engine.run(inputs)
      if finish:
        values = finish(inputs, values)
      for number, place in enumerate(places):
        results[place] = {name: value[number] for name, value in values.items()}
      if on_batch:
        on_batch(len(places))
    return results

  def take_turns(self, turn: Turn) -> None:
    """Makes each batch of `run` wait for its turn.

    Args:
      turn: makes a context, within which a batch runs.
    """
    self._turn = turn

  def close(self) -> None:
    """Frees the memory of the weights."""
    self._engine.close()


class Facts(NamedTuple):
  """Description of a loaded model, whatever its task.

  Attributes:
    predictor: runs it.
    head: of the graph.
    config: the model's configuration, such as a modeling.BertConfig.
    max_seq_length: word pieces of an input, with [CLS] and [SEP].
    labels: in the order of their ids; None for a head without labels.
  """

  predictor: Predictor
  head: Head
  config: Any
  max_seq_length: int
  labels: Optional[list[str]] = None


def _padded(rows):
  """Makes the inputs of a graph, int32 [B, S], each padded to the longest of the rows."""
  length = max(len(row[0]) for row in rows)
  ids, mask, segments = np.zeros([3, len(rows), length], np.int32)
  for number, (input_ids, segment_ids, *_) in enumerate(rows):
    ids[number, : len(input_ids)] = input_ids
    mask[number, : len(input_ids)] = 1
    segments[number, : len(input_ids)] = segment_ids
  inputs = dict(zip(INPUTS, (ids, mask, segments)))
  if len(rows[0]) > len(INPUTS) - 1:
    inputs[POSITIONS] = np.zeros([len(rows), max(len(row[2]) for row in rows)], np.int32)
    for number, row in enumerate(rows):
      inputs[POSITIONS][number, : len(row[2])] = row[2]
  return inputs


def check_finite(values: Iterable[np.ndarray], directory: str) -> None:
  """Checks the outputs of the model in a directory.

  Raises:
    files.InputError: they are NaN or infinite.
  """
  if not all(np.isfinite(value).all() for value in values):
    raise files.InputError(
      f"the model's outputs are NaN or infinite: the weights in {directory} are broken; train it "
      "anew with a lower --learning_rate"
    )
