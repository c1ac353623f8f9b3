"""A trained model, loaded once, that answers many calls: in a prompt, a notebook or a server."""

import os

import numpy as np
import tensorflow.compat.v1 as tf

import estimators
import files
import records


class Predictor:
  """A model in a graph and a session of its own; calls may come from several threads.

  Inputs have any lengths: they run in order of length, in batches cut to their longest.
  """

  def __init__(self, build, checkpoint, batch_size=8):
    """Builds the graph and restores the weights.

    Args:
      build: function of (input_ids, input_mask, segment_ids), int32 [B, S], to a dict of name ->
        tensor [B, ...]. It makes a model's graph without dropout.
      checkpoint: str, a path as estimators.resolve_checkpoint takes it.
      batch_size: int, most inputs that run at once.

    Raises:
      files.InputError: the checkpoint lacks a variable of the graph, or has another shape of one.
    """
    self._batch_size = batch_size
    graph = tf.Graph()
    with graph.as_default():
      self._inputs = [
        tf.placeholder(tf.int32, [None, None], name=name)
        for name in ("input_ids", "input_mask", "segment_ids")
      ]
      self._outputs = build(*self._inputs)
      prefix = estimators.resolve_checkpoint(checkpoint, "output_dir")
      saver = tf.train.Saver(tf.trainable_variables())
    self._session = tf.Session(graph=graph)
    try:
      saver.restore(self._session, prefix)
    except (tf.errors.NotFoundError, tf.errors.InvalidArgumentError) as error:
      raise files.InputError(f"{prefix} does not fit the model: {files.describe(error)}") from error
    graph.finalize()

  @classmethod
  def from_directory(cls, build, output_dir, batch_size=8):
    """The model of a finished output directory; see __init__ for the arguments."""
    return cls(build, os.path.join(output_dir, ""), batch_size)

  def run(self, rows):
    """Runs the model.

    Args:
      rows: list of (input_ids, segment_ids) pairs, each two lists of int of one length.

    Returns:
      List of dicts of name -> array, one a row in their order. Outputs [B, S, ...] of the graph are
      padded to the longest input that ran with the row.
    """
    results = [None] * len(rows)
    order = sorted(range(len(rows)), key=lambda place: len(rows[place][0]))
    for first in range(0, len(order), self._batch_size):
      places = order[first : first + self._batch_size]
      values = self._session.run(self._outputs, self._feed([rows[place] for place in places]))
      for number, place in enumerate(places):
        results[place] = {name: value[number] for name, value in values.items()}
    return results

  def _feed(self, rows):
    length = max(len(input_ids) for input_ids, _ in rows)
    columns = -(-length // records.LENGTH_MULTIPLE) * records.LENGTH_MULTIPLE
    ids, mask, segments = np.zeros([3, len(rows), columns], np.int32)
    for number, (input_ids, segment_ids) in enumerate(rows):
      ids[number, : len(input_ids)] = input_ids
      mask[number, : len(input_ids)] = 1
      segments[number, : len(input_ids)] = segment_ids
    return dict(zip(self._inputs, (ids, mask, segments)))

  def close(self):
    """Frees the session's memory."""
    self._session.close()
