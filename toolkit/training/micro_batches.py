"""The loss of a batch and its gradients, computed in parts with the memory of one part.

A loss is a sum of means over scored items: examples, masked words, tagged words. The parts have
different numbers of items, so their means are weighted. With 30 and 10 words, means 2 and 5, and
the same for gradients:

  (2 * 30 + 5 * 10) / 40 = 2.75

BatchInParts has the members of optimization.WholeBatch; optimization.train_step takes either.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow.compat.v1 as tf

import modeling
import optimization
from toolkit.records import input_pipeline


class StepOptions(NamedTuple):
  """Options of a training step; the defaults are BERT's.

  Attributes:
    update: options of the optimizer.
    num_parts: number of parts that a batch is computed in, one after the other.
    recompute: computes Transformer blocks again in the backward pass; see modeling.fast_forms.
  """

  update: optimization.Options = optimization.DEFAULTS
  num_parts: int = 1
  recompute: bool = False


DEFAULTS = StepOptions()


class BatchInParts:
  """A batch that is computed in equal parts, one after the other, and their gradients added."""

  def __init__(
    self,
    objective: optimization.Objective,
    build: Callable[[dict[str, tf.Tensor]], optimization.Objective],
    features: dict[str, tf.Tensor],
    num_parts: int,
    recompute: bool = False,
  ) -> None:
    """Divides a batch.

    Args:
      objective: of the whole batch. Only its counts are computed; building it has made the
        variables.
      build: makes an objective of features; it has built `objective`.
      features: name -> tensor [B, ...], B known.
      num_parts: parts of the batch.
      recompute: see modeling.fast_forms.

    Raises:
      ValueError: num_parts does not divide B.
    """
    self.objective = objective
    self._build = build
    self._recompute = recompute
    self._num_parts = num_parts
    self._parts = {name: _split(tensor, num_parts) for name, tensor in features.items()}
    # Features that input functions have cut to a batch's longest sequence have no known length.
    lengths_differ = {
      name for name, t in features.items() if t.shape.rank > 1 and not t.shape.as_list()[1]
    }
    self._to_cut = set() if objective.sees_padding else lengths_differ

  def gradients(
    self, to_lower: Callable[[optimization.Objective], tf.Tensor], variables: list[tf.Variable]
  ) -> tuple[optimization.Gradients, optimization.Objective]:
    """Differentiates a loss; see optimization.WholeBatch.gradients."""
    means = self.objective.means()
    connected: list[bool] = []

    def add_part(number, values, sums):
      scope = tf.variable_scope(tf.get_variable_scope(), reuse=True, auxiliary_name_scope=False)
      with scope, modeling.fast_forms(number, self._recompute):
        objective = self._build(self._part(number))
      gradients = optimization.dense_gradients(to_lower(objective), variables)
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
    found = [optimization.Mean(value, mean.count) for value, mean in zip(values, means)]
    num_terms = len(self.objective.loss)
    shown = dict(zip(self.objective.shown or {}, found[num_terms:]))
    gradients = [s if is_connected else None for s, is_connected in zip(sums, connected)]
    return gradients, self.objective._replace(loss=found[:num_terms], shown=shown)

  def _part(self, number):
    """Gathers the features of a part, cut to its longest sequence if that changes no result."""
    part = {name: tf.gather(tensor, number) for name, tensor in self._parts.items()}
    return (
      input_pipeline.cut_to_longest(part, self._to_cut) if "input_mask" in self._to_cut else part
    )


def _split(tensor, num_parts):
  """Reshapes [B, ...] to [num_parts, B / num_parts, ...]."""
  batch_size, *rest = tensor.shape.as_list()
  if batch_size is None or batch_size % num_parts:
    raise ValueError(f"a batch of {batch_size} examples cannot be divided into {num_parts} parts")
  sizes = [-1 if size is None else size for size in rest]
  return tf.reshape(tensor, [num_parts, batch_size // num_parts, *sizes])
