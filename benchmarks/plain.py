"""Plain graphs for comparison: one framework operation for each term of a formula.

  with plain.operations():
    model = modeling.BertModel(...)

Numbers are the same up to rounding, and dropout draws others.
"""

import contextlib
import os
import sys
import time
from unittest import mock

import turns

sys.path.insert(0, turns.ROOT)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow.compat.v1 as tf

import modeling
import optimization
from toolkit.support import precision


def dropout(input_tensor, dropout_prob):
  """See modeling.dropout; the seed is the graph's."""
  return tf.nn.dropout(input_tensor, rate=dropout_prob) if dropout_prob else input_tensor


def cross_entropy(labels, logits):
  """See tf.nn.sparse_softmax_cross_entropy_with_logits: the product with one-hot labels."""
  one_hot = tf.one_hot(labels, depth=logits.shape[-1])
  return -tf.reduce_sum(one_hot * tf.nn.log_softmax(logits), axis=-1)


def update(optimizer, variable, gradient):
  """The operations of one variable's step of Adam; see optimization.AdamWeightDecayOptimizer."""
  m, v = (optimizer.get_slot(variable, slot) for slot in ("adam_m", "adam_v"))
  next_m = optimizer.beta_1 * m + (1.0 - optimizer.beta_1) * gradient
  next_v = optimizer.beta_2 * v + (1.0 - optimizer.beta_2) * tf.square(gradient)
  step = next_m / (tf.sqrt(next_v) + optimizer.epsilon)
  if optimizer._do_use_weight_decay(variable.name):
    step += optimizer.weight_decay_rate * variable
  next_variable = variable - optimizer.learning_rate * step
  return tf.group(variable.assign(next_variable), m.assign(next_m), v.assign(next_v))


@contextlib.contextmanager
def operations():
  """A context that builds graphs of the plain operations, and models in their plain form."""
  with contextlib.ExitStack() as stack:
    stack.enter_context(mock.patch.object(modeling, "dropout", dropout))
    stack.enter_context(
      mock.patch.object(tf.nn, "sparse_softmax_cross_entropy_with_logits", cross_entropy)
    )
    optimizer = optimization.AdamWeightDecayOptimizer
    stack.enter_context(mock.patch.object(optimizer, "_update", update))
    yield


class Side:
  """A graph and session of its own, to measure an operation.

  Attributes:
    fetches: the result of `build`.
    session: tf.Session.
  """

  def __init__(self, build, is_plain=False, amp=False):
    """Builds the graph.

    Args:
      build: function without arguments that builds it and returns the tensors to run.
      is_plain: bool, True for the plain operations, False for the scripts' fast forms.
      amp: bool, True for mixed precision, as with the scripts' --amp.
    """
    with tf.Graph().as_default() as graph:
      tf.set_random_seed(1)
      with operations() if is_plain else modeling.fast_forms():
        self.fetches = build()
      config = precision.find(amp, use_xla=False, use_tpu=False).session_config()
      self.session = tf.Session(graph=graph, config=config)
      self.session.run(tf.global_variables_initializer())

  def seconds(self, num_steps):
    """Measures a number of runs, in seconds."""
    start = time.monotonic()
    for _ in range(num_steps):
      self.session.run(self.fetches)
    return time.monotonic() - start
