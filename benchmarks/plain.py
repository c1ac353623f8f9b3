"""What the toolkit's graphs are compared with: one framework operation for each term of a formula.

  with plain.operations():
    model = modeling.BertModel(...)

Numbers are the same up to rounding, and dropout draws others.
"""

import contextlib
import math
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


def gelu(x):
  """See modeling.gelu."""
  return 0.5 * x * (1.0 + tf.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def dropout(input_tensor, dropout_prob, draw_seed=None):
  """See modeling.dropout; the seed is the graph's."""
  del draw_seed
  return tf.nn.dropout(input_tensor, rate=dropout_prob) if dropout_prob else input_tensor


def normalize(x, gamma, beta):
  """Layer normalisation of x, [..., H]."""
  mean, variance = tf.nn.moments(x, [-1], keepdims=True)
  return tf.nn.batch_normalization(x, mean, variance, beta, gamma, modeling.LAYER_NORM_EPSILON)


def cross_entropy(labels, logits):
  """See tf.nn.sparse_softmax_cross_entropy_with_logits: the product with one-hot labels."""
  one_hot = tf.one_hot(labels, depth=logits.shape[-1])
  return -tf.reduce_sum(one_hot * tf.nn.log_softmax(logits), axis=-1)


def get_output_at(model, positions):
  """See modeling.BertModel.get_output_at: from the output at all positions."""
  return tf.gather(model.get_sequence_output(), positions, batch_dims=1)


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
  """Graphs that are built meanwhile have the plain operations."""
  with contextlib.ExitStack() as stack:
    for name, function in (("gelu", gelu), ("dropout", dropout), ("_normalize", normalize)):
      stack.enter_context(mock.patch.object(modeling, name, function))
    stack.enter_context(mock.patch.object(modeling.BertModel, "get_output_at", get_output_at))
    stack.enter_context(
      mock.patch.object(tf.nn, "sparse_softmax_cross_entropy_with_logits", cross_entropy)
    )
    optimizer = optimization.AdamWeightDecayOptimizer
    stack.enter_context(mock.patch.object(optimizer, "_update", update))
    yield


class Side:
  """A graph and session of its own, whose operation is run for some time.

  Attributes:
    fetches: what `build` returned.
    session: tf.Session.
  """

  def __init__(self, build, is_plain=False, amp=False):
    """Builds the graph.

    Args:
      build: function without arguments that builds it and returns what is to be run.
      is_plain: bool, whether it is built of the plain operations.
      amp: bool, whether it runs in mixed precision, as with the scripts' --amp.
    """
    with tf.Graph().as_default() as graph:
      tf.set_random_seed(1)
      with operations() if is_plain else contextlib.nullcontext():
        self.fetches = build()
      config = precision.find(amp, use_xla=False, use_tpu=False).session_config()
      self.session = tf.Session(graph=graph, config=config)
      self.session.run(tf.global_variables_initializer())

  def seconds(self, num_steps):
    """What a number of runs takes, in seconds."""
    start = time.monotonic()
    for _ in range(num_steps):
      self.session.run(self.fetches)
    return time.monotonic() - start
