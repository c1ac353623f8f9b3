"""The loss of a batch and its gradients: computed at once, or in parts with the memory of one part.

A loss is a sum of means over what a batch has to score: examples, masked words, tagged words. Its
parts have different numbers of them, so the mean of their means is another one. With 30 and 10
words, means 2 and 5, and the same for gradients:

  (2 * 30 + 5 * 10) / 40 = 2.75

WholeBatch and BatchInParts do the same; optimization.train_step takes either.
"""

from typing import NamedTuple, Optional

import tensorflow.compat.v1 as tf

import modeling
from toolkit.records import input_pipeline


class Mean(NamedTuple):
  """A mean over what is scored in a batch, or in a part of it.

  Attributes:
    value: float32 scalar.
    count: float or float32 scalar, above 0: what the sum was divided by. It depends on the data
      alone, and not on the model.
  """

  value: tf.Tensor
  count: tf.Tensor

  def share(self, whole_count):
    """float32 scalar: what a part of a batch adds to the mean over the whole, given its count."""
    return self.value * (self.count / whole_count)


def mean_of_examples(value, examples):
  """The Mean of a value over B examples; `examples` is a tensor [B, ...] with one row for each."""
  return Mean(value, tf.cast(modeling.get_shape_list(examples)[0], tf.float32))


class Objective(NamedTuple):
  """What a training lowers, and what it shows.

  Attributes:
    loss: list of Mean; the loss is the sum of their values.
    shown: dict of name -> Mean, shown beside the loss, or None.
    sees_padding: bool, whether the loss depends on how far sequences are padded.
  """

  loss: list
  shown: Optional[dict] = None
  sees_padding: bool = False

  def loss_value(self):
    """float32 scalar, the loss."""
    return sum(mean.value for mean in self.loss)

  def means(self):
    """All Mean of the loss, and then all that are shown."""
    return [*self.loss, *(self.shown or {}).values()]


class WholeBatch:
  """A batch that is computed at once."""

  def __init__(self, objective):
    """Takes the Objective of a batch."""
    self.objective = objective

  def gradients(self, to_lower, variables):
    """Differentiates a loss.

    Args:
      to_lower: function of an Objective to a float32 scalar, a sum of shares; see Mean.share.
      variables: list of variables.

    Returns:
      A pair: list of dense gradients, None for a variable that has no part in the loss; and the
      Objective of the batch.
    """
    return dense_gradients(to_lower(self.objective), variables), self.objective


class BatchInParts:
  """A batch that is computed in equal parts, one after the other, and their gradients added."""

  def __init__(self, objective, build, features, num_parts, recompute=False):
    """Takes a batch.

    Args:
      objective: Objective of the whole batch. Of it no more is computed than the counts, but its
        graph must be there: it made the variables.
      build: function of a dict of features to an Objective, which was built by it.
      features: dict of name -> tensor [B, ...], B known.
      num_parts: int.
      recompute: bool, see modeling.building.

    Raises:
      ValueError: num_parts does not divide B.
    """
    self.objective = objective
    self._build = build
    self._recompute = recompute
    self._num_parts = num_parts
    self._parts = {name: _split(tensor, num_parts) for name, tensor in features.items()}
    # What input functions have cut to the longest sequence of a batch has no known length.
    lengths_differ = {name for name, t in features.items() if t.shape.rank > 1 and not t.shape[1]}
    self._to_cut = set() if objective.sees_padding else lengths_differ

  def gradients(self, to_lower, variables):
    """Differentiates a loss; see WholeBatch.gradients."""
    means, connected = self.objective.means(), []

    def add_part(number, values, sums):
      scope = tf.variable_scope(tf.get_variable_scope(), reuse=True, auxiliary_name_scope=False)
      with scope, modeling.building(number, self._recompute):
        objective = self._build(self._part(number))
      gradients = dense_gradients(to_lower(objective), variables)
      connected[:] = [gradient is not None for gradient in gradients]
      values = [v + p.share(mean.count) for v, p, mean in zip(values, objective.means(), means)]
      sums = [s if g is None else s + g for s, g in zip(sums, gradients)]
      return number + 1, values, sums

    zeros = [tf.zeros(variable.shape, variable.dtype.base_dtype) for variable in variables]
    _, values, sums = tf.while_loop(
      lambda number, *_: number < self._num_parts,
      add_part,
      [tf.constant(0), [tf.constant(0.0) for _ in means], zeros],
      parallel_iterations=1,
      back_prop=False,
      maximum_iterations=self._num_parts,
    )
    found = [Mean(value, mean.count) for value, mean in zip(values, means)]
    num_terms = len(self.objective.loss)
    shown = dict(zip(self.objective.shown or {}, found[num_terms:]))
    gradients = [s if is_connected else None for s, is_connected in zip(sums, connected)]
    return gradients, self.objective._replace(loss=found[:num_terms], shown=shown)

  def _part(self, number):
    """The features of a part, cut to its own longest sequence if that changes no result."""
    part = {name: tf.gather(tensor, number) for name, tensor in self._parts.items()}
    return (
      input_pipeline.cut_to_longest(part, self._to_cut) if "input_mask" in self._to_cut else part
    )


def _split(tensor, num_parts):
  """[B, ...] -> [num_parts, B / num_parts, ...]."""
  batch_size, *rest = tensor.shape.as_list()
  if batch_size is None or batch_size % num_parts:
    raise ValueError(f"a batch of {batch_size} examples cannot be divided into {num_parts} parts")
  sizes = [-1 if size is None else size for size in rest]
  return tf.reshape(tensor, [num_parts, batch_size // num_parts, *sizes])


def dense_gradients(loss, variables):
  """Gradients of a scalar as dense tensors; None for a variable that has no part in it.

  Slices of an embedding table may name a row twice: only the dense sum has the right norm.
  """
  gradients = tf.gradients(loss, variables)
  return [None if g is None else tf.convert_to_tensor(g) for g in gradients]
