"""BERT's encoder (Devlin et al. 2018), a stack of Transformer blocks (Vaswani et al. 2017).

Shapes are written beside each step with these letters:

  B  sequences in the batch        N  attention heads
  S  word pieces in a sequence     D  width of a head
  F  S of the attending sequence   H  width of the model, N * D
  T  S of the attended sequence    V  size of the vocabulary

Sequences need not be padded to a fixed length: B and S may be unknown when the graph is built.
"""

import collections
import contextlib
import contextvars
import copy
import functools
import json
import math
import re
from typing import Callable, NamedTuple, Optional, Union

import numpy as np
import tensorflow.compat.v1 as tf
from absl import logging

# Added to the scores of positions that may not be attended to, before the softmax.
MASKED_SCORE = -10000.0
LAYER_NORM_EPSILON = 1e-12
# Variable scopes: of the weights of a block's three projections side by side, and of each.
JOINED_PROJECTIONS = "query_key_value"
PROJECTIONS = ("query", "key", "value")


class BertConfig:
  """The architecture of a model.

  Attributes:
    vocab_size: int, word pieces in the vocabulary.
    hidden_size: int, width of the model.
    num_hidden_layers: int, Transformer blocks.
    num_attention_heads: int, heads of a block's attention; divides hidden_size.
    intermediate_size: int, width of a block's feed-forward layer.
    hidden_act: str, activation of the feed-forward layer; see get_activation.
    hidden_dropout_prob: float, dropout after embeddings and dense layers.
    attention_probs_dropout_prob: float, dropout of attention probabilities.
    max_position_embeddings: int, the longest sequence in word pieces.
    type_vocab_size: int, kinds of segments (released models have 2).
    initializer_range: float, standard deviation of new weights.

  Any other key of a configuration file is kept as an attribute.
  """

  def __init__(
    self,
    vocab_size,
    hidden_size=768,
    num_hidden_layers=12,
    num_attention_heads=12,
    intermediate_size=3072,
    hidden_act="gelu",
    hidden_dropout_prob=0.1,
    attention_probs_dropout_prob=0.1,
    max_position_embeddings=512,
    type_vocab_size=16,
    initializer_range=0.02,
  ):
    self.vocab_size = vocab_size
    self.hidden_size = hidden_size
    self.num_hidden_layers = num_hidden_layers
    self.num_attention_heads = num_attention_heads
    self.intermediate_size = intermediate_size
    self.hidden_act = hidden_act
    self.hidden_dropout_prob = hidden_dropout_prob
    self.attention_probs_dropout_prob = attention_probs_dropout_prob
    self.max_position_embeddings = max_position_embeddings
    self.type_vocab_size = type_vocab_size
    self.initializer_range = initializer_range

  @classmethod
  def from_dict(cls, json_object):
    """Makes a configuration of a dict; what it does not name keeps its default."""
    config = cls(vocab_size=None)
    unknown = sorted(set(json_object) - set(config.__dict__))
    config.__dict__.update(json_object)
    if unknown:
      logging.info("The configuration has keys that BERT does not use: %s", ", ".join(unknown))
    return config

  @classmethod
  def from_json_file(cls, json_file):
    """Reads a configuration from a JSON file.

    Raises:
      ValueError: the file cannot be read, is not a JSON object, or no model can be so.
    """
    json_object = _read_json(json_file)
    if not isinstance(json_object, dict):
      raise ValueError(f"{json_file}: is no JSON object with a model's configuration")
    config = cls.from_dict(json_object)
    try:
      config.validate()
    except ValueError as error:
      raise ValueError(f"{json_file}: {error}") from error
    return config

  def validate(self):
    """Makes sure that such a model can exist.

    Raises:
      ValueError: names the first value that is impossible.
    """
    for name in (
      "vocab_size",
      "hidden_size",
      "num_hidden_layers",
      "num_attention_heads",
      "intermediate_size",
      "max_position_embeddings",
      "type_vocab_size",
    ):
      value = getattr(self, name)
      if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} is {value!r}, and must be a positive integer")
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
      value = getattr(self, name)
      if value is not None and not (_is_number(value) and 0.0 <= value < 1.0):
        raise ValueError(f"{name} is {value!r}, and must be a number from 0 to below 1")
    if not (_is_number(self.initializer_range) and self.initializer_range > 0):
      raise ValueError(f"initializer_range is {self.initializer_range!r}, and must be positive")
    _check_heads(self.hidden_size, self.num_attention_heads)
    get_activation(self.hidden_act)

  def to_dict(self):
    """A deep copy of all attributes as a dict."""
    return copy.deepcopy(self.__dict__)

  def to_json_string(self):
    """The configuration as indented JSON with sorted keys."""
    return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"


def _read_json(path):
  """Parses a JSON file; ValueError, which names the file, if it cannot be read or parsed."""
  try:
    with tf.io.gfile.GFile(path, "rb") if "://" in str(path) else open(path, "rb") as f:
      data = f.read()
  except Exception as error:  # tf.io.gfile raises its own kinds
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    raise ValueError(f"{path}: cannot be read: {reason.splitlines()[0]}") from error
  try:
    text, bad, found = data.decode("utf-8-sig"), data.find(b"\0"), "a NUL byte"
  except UnicodeDecodeError as error:
    bad, found = error.start, f"byte 0x{data[error.start]:02x}, which is not UTF-8"
  if bad >= 0:
    line = data.count(b"\n", 0, bad) + 1
    raise ValueError(f"{path}:{line}: found {found}; convert the file to UTF-8 text")
  try:
    return json.loads(text)
  except json.JSONDecodeError as error:
    raise ValueError(
      f"{path}:{error.lineno}: is not valid JSON: {error.msg} (byte {error.pos})"
    ) from error


def _is_number(value):
  return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_heads(hidden_size, num_attention_heads):
  if hidden_size % num_attention_heads:
    raise ValueError(
      f"hidden_size {hidden_size} is not divisible by num_attention_heads {num_attention_heads}"
    )


class _Building(NamedTuple):
  micro_batch: Optional[tf.Tensor] = None
  recompute: bool = False
  join_projections: bool = False


_AS_A_WHOLE = _Building()
_BUILDING = contextvars.ContextVar("building", default=_AS_A_WHOLE)


@contextlib.contextmanager
def fast_forms(micro_batch=None, recompute=False, join_projections=False):
  """Models that are built within take less memory to train, or less time, to the same result.

  Args:
    micro_batch: int32 scalar, the number of the part of a batch that is read, so that each part has
      a dropout of its own; None for a batch as a whole.
    recompute: bool, whether the backward pass computes each Transformer block a second time, from
      its input, in place of keeping what is inside of all blocks (Chen et al. 2016, section 3).
    join_projections: bool, whether queries, keys and values of self-attention come of one product.
      Its variables are JOINED_PROJECTIONS/kernel and /bias in place of those of PROJECTIONS, which
      a checkpoint has, and hold them side by side along the last axis.
  """
  token = _BUILDING.set(_Building(micro_batch, recompute, join_projections))
  try:
    yield
  finally:
    _BUILDING.reset(token)


class BertModel:
  """The encoder of BERT as part of the current graph.

    config = BertConfig.from_json_file("bert_config.json")
    model = BertModel(config, is_training=False, input_ids=[[101, 7592, 102]])
    vectors = model.get_sequence_output()  # [1, 3, H]

  Attributes:
    embedding_table: float32 [V, H] variable.
    embedding_output: float32 [B, S, H], sum of the embeddings, normalised.
    all_encoder_layers: list of float32 [B, S, H], the output of each block.
    sequence_output: float32 [B, S, H], the output of the last block.
    pooled_output: float32 [B, H], a dense layer with tanh over the first position.
  """

  def __init__(
    self,
    config,
    is_training,
    input_ids,
    input_mask=None,
    token_type_ids=None,
    use_one_hot_embeddings=False,
    scope=None,
  ):
    """Builds the model.

    Args:
      config: BertConfig.
      is_training: bool, whether there is dropout.
      input_ids: int32 [B, S], places of the word pieces in the vocabulary.
      input_mask: int32 [B, S], 1 for word pieces and 0 for padding; default: no padding.
      token_type_ids: int32 [B, S], segments; default: all 0.
      use_one_hot_embeddings: bool, whether word embeddings are found by a matrix product, which is
        faster on TPUs, or by a gather.
      scope: str, variable scope; default "bert".

    Raises:
      ValueError: no model can have this configuration, or input_ids is not of rank 2.
    """
    config = copy.deepcopy(config)
    config.validate()
    if not is_training:
      config.hidden_dropout_prob = 0.0
      config.attention_probs_dropout_prob = 0.0
      if get_activation(config.hidden_act) is gelu:
        config.hidden_act = fusible_gelu
    input_ids = tf.convert_to_tensor(input_ids, dtype_hint=tf.int32)
    batch_size, seq_length = get_shape_list(input_ids, expected_rank=2)
    if input_mask is None:
      input_mask = tf.ones([batch_size, seq_length], tf.int32)
    if token_type_ids is None:
      token_type_ids = tf.zeros([batch_size, seq_length], tf.int32)

    with tf.variable_scope(scope, default_name="bert"):
      self._embed(config, input_ids, token_type_ids, use_one_hot_embeddings)
      # Batches in evaluation and prediction have hardly any padding; TPUs need known sizes.
      skips_padding = is_training and tf.is_tensor(seq_length)
      self._encode(config, input_mask, _Packing(input_mask) if skips_padding else _NO_PACKING)
      self._pool(config)

  def _embed(self, config, input_ids, token_type_ids, use_one_hot_embeddings):
    with tf.variable_scope("embeddings"):
      words, self.embedding_table = embedding_lookup(
        input_ids,
        vocab_size=config.vocab_size,
        embedding_size=config.hidden_size,
        initializer_range=config.initializer_range,
        use_one_hot_embeddings=use_one_hot_embeddings,
      )
      self.embedding_output = embedding_postprocessor(
        words,
        use_token_type=True,
        token_type_ids=token_type_ids,
        token_type_vocab_size=config.type_vocab_size,
        initializer_range=config.initializer_range,
        max_position_embeddings=config.max_position_embeddings,
        dropout_prob=config.hidden_dropout_prob,
      )

  def _encode(self, config, input_mask, packing):
    with tf.variable_scope("encoder"):
      blocks = _Blocks(
        attention_mask=tf.cast(input_mask, tf.float32)[:, tf.newaxis, :],  # [B, 1, T]
        hidden_size=config.hidden_size,
        num_attention_heads=config.num_attention_heads,
        intermediate_size=config.intermediate_size,
        intermediate_act_fn=get_activation(config.hidden_act),
        hidden_dropout_prob=config.hidden_dropout_prob,
        attention_probs_dropout_prob=config.attention_probs_dropout_prob,
        initializer_range=config.initializer_range,
        packing=packing,
      )
      self.all_encoder_layers, self._last_block = blocks.stack(
        self.embedding_output, config.num_hidden_layers
      )
    self.sequence_output = self.all_encoder_layers[-1]

  def _pool(self, config):
    batch_size, _, width = get_shape_list(self.embedding_output)
    first = self.get_output_at(tf.zeros([batch_size, 1], tf.int32))
    with tf.variable_scope("pooler"):
      first = tf.reshape(first, [batch_size, width])
      self.pooled_output = _dense(first, width, "dense", config.initializer_range, tf.tanh)

  def get_output_at(self, positions):
    """The output of the last block at some positions, for a fraction of its work.

    A graph that reads nothing else of that output computes the block there alone.

    Args:
      positions: int32 [B, P], places of word pieces in their sequences.

    Returns:
      float32 [B, P, H]; at padding, nothing of use.
    """
    return self._last_block.at(positions)

  def get_pooled_output(self):
    """float32 [B, H]: one vector a sequence, for classification."""
    return self.pooled_output

  def get_sequence_output(self):
    """float32 [B, S, H]: the output of the last block."""
    return self.sequence_output

  def get_all_encoder_layers(self):
    """List of float32 [B, S, H]: the output of each block, the first one first."""
    return self.all_encoder_layers

  def get_embedding_output(self):
    """float32 [B, S, H]: what the first block reads."""
    return self.embedding_output

  def get_embedding_table(self):
    """float32 [V, H]: the variable with the word embeddings."""
    return self.embedding_table


@tf.custom_gradient
def gelu(x):
  """Gaussian error linear unit in its tanh form (Hendrycks and Gimpel 2016, section 2).

  Args:
    x: float tensor of any shape.

  Returns:
    Tensor of the same shape.
  """
  # (1 + tanh(z)) / 2 is sigmoid(2 z). The gradient is written out because each operation goes over
  # the widest tensors of the model: it takes half of those that derive themselves.
  linear = 2.0 * math.sqrt(2.0 / math.pi)
  cubic = 0.044715 * linear
  square = x * x
  gate = tf.sigmoid(x * (linear + cubic * square))

  def gradient(upstream):
    slope = tf.raw_ops.SigmoidGrad(y=gate, dy=x * (linear + 3.0 * cubic * square))
    return upstream * (gate + slope)

  return x * gate, gradient


def fusible_gelu(x):
  """The same as gelu, for graphs that nothing trains, in the operations of the formula.

  TensorFlow knows these by sight: with oneDNN it makes them part of the dense layer before, which
  saves as many passes over the widest tensors. Without oneDNN they take as long as those of gelu.
  """
  with tf.name_scope("gelu"):  # without a scope of their own they are not known
    scaled = math.sqrt(2.0 / math.pi) * (x + 0.044715 * tf.pow(x, 3))
    return 0.5 * x * (1.0 + tf.tanh(scaled))


def get_activation(activation_string):
  """Finds an activation function by its name.

  Args:
    activation_string: "relu", "gelu" or "tanh" in any case; "linear", "" or None for no activation;
      a function is given back as it is.

  Returns:
    A function of a tensor, or None.

  Raises:
    ValueError: the name is none of these.
  """
  if activation_string is not None and not isinstance(activation_string, str):
    return activation_string
  known = {"": None, "linear": None, "relu": tf.nn.relu, "gelu": gelu, "tanh": tf.tanh}
  name = (activation_string or "").lower()
  if name not in known:
    raise ValueError(f"activation {activation_string!r} is none of linear, relu, gelu, tanh")
  return known[name]


def get_assignment_map_from_checkpoint(tvars, init_checkpoint):
  """Matches variables with those of a checkpoint by name; shapes are not looked at.

  Args:
    tvars: list of variables.
    init_checkpoint: str, prefix of a checkpoint.

  Returns:
    A pair: OrderedDict of name in the checkpoint -> name in the graph, for
    tf.train.init_from_checkpoint; and a dict whose keys are these names, with and without ":0".
  """
  graph_names = {re.sub(r":\d+$", "", variable.name) for variable in tvars}
  assignment_map = collections.OrderedDict(
    (name, name) for name, _ in tf.train.list_variables(init_checkpoint) if name in graph_names
  )
  initialized = {key: 1 for name in assignment_map for key in (name, name + ":0")}
  return assignment_map, initialized


def _dropout_seed():
  """int64 [2]: the seed of one place in the graph at one training step.

  The mask is a function of the graph's seed, the place and the step, so that a resumed run goes on
  as if nothing had happened; and of the replica and the part of the batch, so that no two of them
  drop the same elements of different examples. A layer that is computed twice has the same seeds.
  """
  graph_seed, place = tf.random.get_seed(None)
  if graph_seed is None:
    place = np.random.SeedSequence().entropy % 2**62
  else:
    place += graph_seed << 31
  step = tf.train.get_global_step()
  if step is None:  # a model outside of a training loop
    step = tf.random.uniform([], maxval=2**31 - 1, dtype=tf.int64)
  step = tf.cast(step, tf.int64)
  context = tf.distribute.get_replica_context()
  if context is not None and context.num_replicas_in_sync > 1:
    step += tf.cast(context.replica_id_in_sync_group, tf.int64) * 2**40
  if _BUILDING.get().micro_batch is not None:
    step = step + tf.cast(_BUILDING.get().micro_batch, tf.int64) * 2**52
  return tf.stack([tf.constant(place, tf.int64), step])


def dropout(input_tensor, dropout_prob, draw_seed=_dropout_seed):
  """Sets a share of the elements to 0 and scales up the rest.

  Args:
    input_tensor: float tensor of any shape.
    dropout_prob: float, share of the elements, to 1/65536; None or 0.0 for no dropout.
    draw_seed: function that gives the seed, int64 [2], if there is dropout; default: a new one.

  Returns:
    Tensor of the same shape.
  """
  if not dropout_prob:
    return input_tensor
  threshold = min(round(dropout_prob * 2**16), 2**16 - 1)
  bits = _random_uint16(get_shape_list(input_tensor), draw_seed())
  scale = 1.0 / (1.0 - threshold / 2**16)
  keep = bits >= tf.constant(threshold, tf.uint16)
  return tf.where_v2(keep, input_tensor * scale, tf.zeros([], input_tensor.dtype))


def _random_uint16(shape, seed):
  """Random numbers of 16 bits, enough for dropout: two of them from each that is drawn."""
  count = math.prod(shape)
  pairs = tf.random.stateless_uniform([(count + 1) // 2], seed, None, None, tf.uint32, alg="philox")
  return tf.reshape(tf.reshape(tf.bitcast(pairs, tf.uint16), [-1])[:count], shape)


def layer_norm(input_tensor, name=None):
  """Layer normalisation (Ba et al. 2016) over the last axis.

  Args:
    input_tensor: float32 [..., H].
    name: str, variable scope; default "LayerNorm".

  Returns:
    float32 [..., H].
  """
  width = input_tensor.shape[-1]
  with tf.variable_scope(name, default_name="LayerNorm"):
    beta = tf.get_variable("beta", [width], initializer=tf.zeros_initializer())
    gamma = tf.get_variable("gamma", [width], initializer=tf.ones_initializer())
    return _normalize(input_tensor, gamma, beta)


@tf.custom_gradient
def _normalize(x, gamma, beta):
  """Layer normalisation of x, [..., H], with the gradient in as few passes as it takes."""
  centered = x - tf.reduce_mean(x, -1, keepdims=True)
  variance = tf.reduce_mean(centered * centered, -1, keepdims=True)  # [..., 1]
  inverse = tf.math.rsqrt(variance + LAYER_NORM_EPSILON)
  normalized = centered * inverse

  def gradient(upstream):
    rows = list(range(len(x.shape) - 1))
    product = upstream * normalized
    along = tf.reduce_mean(product * gamma, -1, keepdims=True)
    scaled = upstream * gamma
    towards = inverse * (scaled - tf.reduce_mean(scaled, -1, keepdims=True) - normalized * along)
    return towards, tf.reduce_sum(product, rows), tf.reduce_sum(upstream, rows)

  return normalized * gamma + beta, gradient


def layer_norm_and_dropout(input_tensor, dropout_prob, name=None):
  """Layer normalisation, then dropout; see layer_norm and dropout."""
  return dropout(layer_norm(input_tensor, name), dropout_prob)


def create_initializer(initializer_range=0.02):
  """Initializer of new weights: a normal distribution cut at two standard deviations.

  Args:
    initializer_range: float, the standard deviation.
  """
  return tf.truncated_normal_initializer(stddev=initializer_range)


def embedding_lookup(
  input_ids,
  vocab_size,
  embedding_size=128,
  initializer_range=0.02,
  word_embedding_name="word_embeddings",
  use_one_hot_embeddings=False,
):
  """Looks up the vectors of word pieces.

  Args:
    input_ids: int32 [B, S] or [B, S, inputs].
    vocab_size: int.
    embedding_size: int, width of a vector.
    initializer_range: float, standard deviation of new weights.
    word_embedding_name: str, name of the variable.
    use_one_hot_embeddings: bool, a matrix product in place of a gather.

  Returns:
    A pair: float32 [B, S, inputs * embedding_size], and the table [vocab_size, embedding_size].
  """
  table = tf.get_variable(
    word_embedding_name,
    [vocab_size, embedding_size],
    initializer=create_initializer(initializer_range),
  )
  if use_one_hot_embeddings:
    one_hot = tf.one_hot(tf.reshape(input_ids, [-1]), depth=vocab_size)  # [B * S, V]
    vectors = tf.matmul(one_hot, table)
  else:
    # Read first: a gather from the variable itself makes each later reading of it a copy.
    vectors = tf.gather(tf.convert_to_tensor(table), input_ids)
  shape = get_shape_list(input_ids, expected_rank=[2, 3])
  inputs = shape[2] if len(shape) == 3 else 1
  return tf.reshape(vectors, [shape[0], shape[1], inputs * embedding_size]), table


def embedding_postprocessor(
  input_tensor,
  use_token_type=False,
  token_type_ids=None,
  token_type_vocab_size=16,
  token_type_embedding_name="token_type_embeddings",
  use_position_embeddings=True,
  position_embedding_name="position_embeddings",
  initializer_range=0.02,
  max_position_embeddings=512,
  dropout_prob=0.1,
):
  """Adds segment and position embeddings to word embeddings and normalises the sum.

  Args:
    input_tensor: float32 [B, S, H].
    use_token_type: bool, whether segment embeddings are added.
    token_type_ids: int32 [B, S]; needed with use_token_type.
    token_type_vocab_size: int, kinds of segments.
    token_type_embedding_name: str, name of the segments' variable.
    use_position_embeddings: bool, whether position embeddings are added.
    position_embedding_name: str, name of the positions' variable.
    initializer_range: float, standard deviation of new weights.
    max_position_embeddings: int, the longest sequence that can come.
    dropout_prob: float.

  Returns:
    float32 [B, S, H].

  Raises:
    ValueError: token_type_ids is missing, or a sequence whose length is known is too long.
    tf.errors.InvalidArgumentError: the same at run time.
  """
  _, seq_length, width = get_shape_list(input_tensor, expected_rank=3)
  initializer = create_initializer(initializer_range)
  output = input_tensor
  if use_token_type:
    if token_type_ids is None:
      raise ValueError("token_type_ids is missing: use_token_type needs it")
    table = tf.get_variable(
      token_type_embedding_name, [token_type_vocab_size, width], initializer=initializer
    )
    # The table is small, and the gradient of a product is faster than that of a gather.
    one_hot = tf.one_hot(token_type_ids, depth=token_type_vocab_size)  # [B, S, segments]
    output += _matmul_last_axis(one_hot, table)
  if use_position_embeddings:
    table = tf.get_variable(
      position_embedding_name, [max_position_embeddings, width], initializer=initializer
    )
    with tf.control_dependencies([_assert_fits(seq_length, max_position_embeddings)]):
      output += tf.slice(table, [0, 0], [seq_length, width])  # [S, H], the same for each sequence
  return layer_norm_and_dropout(output, dropout_prob)


def _assert_fits(seq_length, max_position_embeddings):
  """An operation that fails when a sequence is longer than there are positions."""
  message = f"a sequence is longer than max_position_embeddings {max_position_embeddings}"
  if not tf.is_tensor(seq_length):
    if seq_length > max_position_embeddings:
      raise ValueError(f"{message}: {seq_length}")
    return tf.no_op()
  return tf.assert_less_equal(seq_length, max_position_embeddings, message=message)


def create_attention_mask_from_input_mask(from_tensor, to_mask):
  """Repeats a mask of the attended positions for each attending position.

  Args:
    from_tensor: [B, F] or [B, F, ...].
    to_mask: int32 [B, T], 1 for positions that may be attended to.

  Returns:
    float32 [B, F, T].
  """
  shape = get_shape_list(from_tensor, expected_rank=[2, 3])
  to_length = get_shape_list(to_mask, expected_rank=2)[1]
  mask = tf.cast(to_mask, tf.float32)[:, tf.newaxis, :]  # [B, 1, T]
  return tf.broadcast_to(mask, [shape[0], shape[1], to_length])


class _Packing:
  """Where the real tokens of a batch are, so that dense layers need not compute padding.

  Packed tensors have a row for each of the R real tokens, others one for each place, padding too.

    mask [[1, 1, 0], [1, 1, 1]] -> places of the rows [0, 1, 3, 4, 5], rows of the places
    [0, 1, 1, 2, 3, 4]
  """

  def __init__(self, input_mask):
    """Finds the real tokens of input_mask, int32 [B, S]."""
    is_real = tf.reshape(input_mask, [-1])
    self._places = tf.where(is_real > 0)[:, 0]  # [R]
    self._rows = tf.maximum(tf.cumsum(is_real) - 1, 0)  # [B * S], of padding that of a neighbour
    self._is_real = tf.cast(is_real, tf.float32)[:, tf.newaxis]  # [B * S, 1]

  # TensorFlow's own gradient of a gather would add up rows that may come several times. Here each
  # row has one place that counts, so the gradient is a gather as well, which is much faster.

  def pack(self, matrix):
    """float32 [B * S, H] -> [R, H]."""
    forward = tf.custom_gradient(
      lambda matrix: (
        tf.gather(matrix, self._places),
        lambda upstream: tf.gather(upstream, self._rows) * self._is_real,
      )
    )
    return forward(matrix)

  def unpack(self, matrix):
    """float32 [R, H] -> [B * S, H]; what is at padding is for nobody to read."""
    forward = tf.custom_gradient(
      lambda matrix: (
        tf.gather(matrix, self._rows),
        lambda upstream: tf.gather(upstream, self._places),
      )
    )
    return forward(matrix)

  def unpack_with_zeros(self, matrix):
    """The same with 0 at padding."""
    return self.unpack(matrix) * self._is_real

  def take(self, matrix, places):
    """float32 [R, H] -> [N, H]: the rows of some places, int32 [N]."""
    return _take_rows(matrix, tf.gather(self._rows, places))


class _NoPacking:
  """Stands for _Packing where padding is computed like the rest."""

  def pack(self, matrix):
    return matrix

  unpack = unpack_with_zeros = pack

  def take(self, matrix, places):
    return _take_rows(matrix, places)


def _take_rows(matrix, rows):
  """tf.gather of rows, whose own gradient TensorFlow makes dense late, and with a warning."""
  num_rows = get_shape_list(matrix)[0]
  forward = tf.custom_gradient(
    lambda matrix: (
      tf.gather(matrix, rows),
      lambda upstream: tf.math.unsorted_segment_sum(upstream, rows, num_rows),
    )
  )
  return forward(matrix)


_NO_PACKING = _NoPacking()


def attention_layer(
  from_tensor,
  to_tensor,
  attention_mask=None,
  num_attention_heads=1,
  size_per_head=512,
  query_act=None,
  key_act=None,
  value_act=None,
  attention_probs_dropout_prob=0.0,
  initializer_range=0.02,
  do_return_2d_tensor=False,
  batch_size=None,
  from_seq_length=None,
  to_seq_length=None,
  packing=_NO_PACKING,
  draw_seed=_dropout_seed,
):
  """Multi-head scaled dot-product attention (Vaswani et al. 2017, section 3.2).

  Args:
    from_tensor: float32 [B, F, width] or [B * F, width], what attends.
    to_tensor: float32 [B, T, width] or [B * T, width], what is attended to.
    attention_mask: int32 or float32 [B, F, T] or [B, 1, T], 1 where F may attend to T; default:
      everywhere.
    num_attention_heads: int, N.
    size_per_head: int, D.
    query_act, key_act, value_act: activations of the three projections, or None.
    attention_probs_dropout_prob: float.
    initializer_range: float, standard deviation of new weights.
    do_return_2d_tensor: bool, the shape of the result.
    batch_size, from_seq_length, to_seq_length: B, F and T, needed with inputs of rank 2.
    packing: how inputs and result of rank 2 are packed, if both tensors are the same.
    draw_seed: see dropout.

  Returns:
    float32 [B, F, N * D], or [B * F, N * D] with do_return_2d_tensor.

  Raises:
    ValueError: the inputs' ranks differ, are not 2 or 3, or sizes are missing.
  """
  from_shape = get_shape_list(from_tensor, expected_rank=[2, 3])
  to_shape = get_shape_list(to_tensor, expected_rank=[2, 3])
  if len(from_shape) != len(to_shape):
    raise ValueError(
      f"from_tensor has rank {len(from_shape)} and to_tensor rank {len(to_shape)}; they must agree"
    )
  if len(from_shape) == 3:
    batch_size, from_seq_length, to_seq_length = from_shape[0], from_shape[1], to_shape[1]
  elif None in (batch_size, from_seq_length, to_seq_length):
    raise ValueError("inputs of rank 2 need batch_size, from_seq_length and to_seq_length")

  def project(tensor, length, activation, name):
    shape = [batch_size, length, num_attention_heads, size_per_head]
    matrix = reshape_to_matrix(tensor)
    return _project(matrix, name, shape, initializer_range, activation, packing)

  def project_jointly():
    width = 3 * num_attention_heads * size_per_head
    heads = _dense(reshape_to_matrix(from_tensor), width, JOINED_PROJECTIONS, initializer_range)
    heads = packing.unpack(heads)
    heads = tf.reshape(heads, [batch_size, from_seq_length, 3, num_attention_heads, size_per_head])
    return tf.unstack(tf.transpose(heads, [2, 0, 3, 1, 4]))  # three of [B, N, F, D]

  activations = (query_act, key_act, value_act)
  if _BUILDING.get().join_projections and from_tensor is to_tensor and not any(activations):
    query, key, value = project_jointly()
  else:
    query = project(from_tensor, from_seq_length, query_act, "query")
    key = project(to_tensor, to_seq_length, key_act, "key")
    value = project(to_tensor, to_seq_length, value_act, "value")

  context = _attend(query, key, value, attention_mask, attention_probs_dropout_prob, draw_seed)
  if do_return_2d_tensor:
    return packing.pack(reshape_to_matrix(context))
  return context


def _project(matrix, name, shape, initializer_range, activation=None, packing=_NO_PACKING):
  """What attention compares or adds up: float32 [B * L, width] -> [B, N, L, D].

  Args:
    matrix: the input, packed or not.
    name: str, variable scope.
    shape: list of B, L, N and D.
    initializer_range, activation, packing: see attention_layer.
  """
  heads = _dense(matrix, shape[2] * shape[3], name, initializer_range, activation)
  return tf.transpose(tf.reshape(packing.unpack(heads), shape), [0, 2, 1, 3])


def _attend(query, key, value, attention_mask, dropout_prob, draw_seed=_dropout_seed):
  """The attention itself, between the projections: see attention_layer.

  Args:
    query: float32 [B, N, F, D].
    key, value: float32 [B, N, T, D].
    attention_mask, dropout_prob, draw_seed: see attention_layer.

  Returns:
    float32 [B, F, N * D].
  """
  batch_size, num_heads, from_length, head_size = get_shape_list(query)
  query *= 1.0 / math.sqrt(head_size)  # before the product, which is larger
  scores = tf.matmul(query, key, transpose_b=True)  # [B, N, F, T]
  if attention_mask is not None:
    hidden = 1.0 - tf.cast(attention_mask[:, tf.newaxis], tf.float32)  # [B, 1, F or 1, T]
    scores += hidden * MASKED_SCORE
  probabilities = tf.nn.softmax(scores)  # [B, N, F, T]
  probabilities = dropout(probabilities, dropout_prob, draw_seed)
  context = tf.matmul(probabilities, value)  # [B, N, F, D]
  context = tf.transpose(context, [0, 2, 1, 3])  # [B, F, N, D]
  return tf.reshape(context, [batch_size, from_length, num_heads * head_size])


def transformer_model(
  input_tensor,
  attention_mask=None,
  hidden_size=768,
  num_hidden_layers=12,
  num_attention_heads=12,
  intermediate_size=3072,
  intermediate_act_fn=gelu,
  hidden_dropout_prob=0.1,
  attention_probs_dropout_prob=0.1,
  initializer_range=0.02,
  do_return_all_layers=False,
):
  """A stack of Transformer blocks, each normalised after its residual sums.

  Args:
    input_tensor: float32 [B, S, H].
    attention_mask: int32 or float32 [B, S, S] or [B, 1, S], see attention_layer.
    hidden_size: int, H.
    num_hidden_layers: int, number of blocks.
    num_attention_heads: int, N.
    intermediate_size: int, width of the feed-forward layer.
    intermediate_act_fn: function of a tensor, or None.
    hidden_dropout_prob: float, dropout of what is added to the residual.
    attention_probs_dropout_prob: float.
    initializer_range: float, standard deviation of new weights.
    do_return_all_layers: bool.

  Returns:
    float32 [B, S, H], the last block's output; or the list of all outputs.

  Raises:
    ValueError: hidden_size is not divisible by num_attention_heads, or not the input's width.
  """
  blocks = _Blocks(
    attention_mask,
    hidden_size,
    num_attention_heads,
    intermediate_size,
    intermediate_act_fn,
    hidden_dropout_prob,
    attention_probs_dropout_prob,
    initializer_range,
  )
  layers, _ = blocks.stack(input_tensor, num_hidden_layers)
  return layers if do_return_all_layers else layers[-1]


class _Blocks(NamedTuple):
  """Transformer blocks over one input; for the attributes see transformer_model.

  Attributes:
    packing: what lets the dense layers skip padding, whose outputs are then 0.
  """

  attention_mask: Optional[tf.Tensor]
  hidden_size: int
  num_attention_heads: int
  intermediate_size: int
  intermediate_act_fn: Optional[Callable]
  hidden_dropout_prob: float
  attention_probs_dropout_prob: float
  initializer_range: float
  packing: Union[_Packing, _NoPacking] = _NO_PACKING

  def stack(self, input_tensor, num_hidden_layers):
    """Computes one block after the other.

    Args:
      input_tensor: float32 [B, S, H].
      num_hidden_layers: int.

    Returns:
      A tuple: list of float32 [B, S, H], the blocks' outputs; _LastBlock.

    Raises:
      ValueError: see transformer_model.
    """
    _check_heads(self.hidden_size, self.num_attention_heads)
    shape = get_shape_list(input_tensor, expected_rank=3)
    if shape[2] != self.hidden_size:
      raise ValueError(f"the input is {shape[2]} wide, and hidden_size is {self.hidden_size}")
    block = functools.partial(self._block, shape)
    layers, last_block = [], None
    # Two axes suffice between the blocks: dense layers do not care which sequence a row is of.
    rows = self.packing.pack(reshape_to_matrix(input_tensor))  # [B * S, H], or [R, H]
    for layer in range(num_hidden_layers):
      with tf.variable_scope(f"layer_{layer}") as scope:
        last_block = _LastBlock(self, rows, shape, scope)
        rows = _recomputed(block)(rows) if _BUILDING.get().recompute else block(rows)
      layers.append(reshape_from_matrix(self.packing.unpack_with_zeros(rows), shape))
    return layers, last_block

  def _block(self, shape, rows, draw_seed=_dropout_seed):
    """One block: float32 [B * S, H] -> [B * S, H], or packed; `shape` is [B, S, H]."""
    with tf.variable_scope("attention"), tf.variable_scope("self"):
      context = attention_layer(
        rows,
        rows,
        attention_mask=self.attention_mask,
        num_attention_heads=self.num_attention_heads,
        size_per_head=self.hidden_size // self.num_attention_heads,
        attention_probs_dropout_prob=self.attention_probs_dropout_prob,
        initializer_range=self.initializer_range,
        do_return_2d_tensor=True,
        batch_size=shape[0],
        from_seq_length=shape[1],
        to_seq_length=shape[1],
        packing=self.packing,
        draw_seed=draw_seed,
      )
    return self.after_attention(context, rows, draw_seed)

  def after_attention(self, context, rows, draw_seed=_dropout_seed):
    """What a block does row by row.

    Args:
      context: float32 [rows, H], what the attention gives.
      rows: float32 [rows, H], the block's input.
      draw_seed: see dropout.

    Returns:
      float32 [rows, H].
    """

    def dense(matrix, units, activation=None):
      return _dense(matrix, units, "dense", self.initializer_range, activation)

    def add_and_norm(output, residual):
      return layer_norm(dropout(output, self.hidden_dropout_prob, draw_seed) + residual)

    with tf.variable_scope("attention"), tf.variable_scope("output"):
      attended = add_and_norm(dense(context, self.hidden_size), rows)
    with tf.variable_scope("intermediate"):
      wide = dense(attended, self.intermediate_size, self.intermediate_act_fn)
    with tf.variable_scope("output"):
      return add_and_norm(dense(wide, self.hidden_size), attended)


class _LastBlock:
  """The last block at the positions that are asked for.

  All positions have a key and a value in it; queries, and what follows attention, are needed only
  where its output is read.
  """

  def __init__(self, blocks, rows, shape, scope):
    """Takes _Blocks, their last input as they have it, its shape [B, S, H], and the scope."""
    self._blocks = blocks
    self._rows = rows
    self._batch_size, self._seq_length, _ = shape
    self._scope = scope

  def at(self, positions):
    """float32 [B, P, H] for positions, int32 [B, P]; at padding, nothing of use."""
    blocks, num_positions = self._blocks, get_shape_list(positions)[1]
    firsts = tf.range(self._batch_size)[:, tf.newaxis] * self._seq_length
    rows = blocks.packing.take(self._rows, tf.reshape(firsts + positions, [-1]))  # [B * P, H]
    # The variables are there already, but where the block itself joins its projections.
    with tf.variable_scope(self._scope, reuse=tf.AUTO_REUSE):
      with tf.variable_scope("attention"), tf.variable_scope("self"):
        context = _attend(
          self._project(rows, "query", num_positions),
          *self._key_and_value,
          blocks.attention_mask,
          blocks.attention_probs_dropout_prob,
        )
      output = blocks.after_attention(reshape_to_matrix(context), rows)
    return tf.reshape(output, [self._batch_size, num_positions, blocks.hidden_size])

  @functools.cached_property
  def _key_and_value(self):
    packing = self._blocks.packing
    return [self._project(self._rows, n, self._seq_length, packing) for n in ("key", "value")]

  def _project(self, rows, name, length, packing=_NO_PACKING):
    num_heads = self._blocks.num_attention_heads
    shape = [self._batch_size, length, num_heads, self._blocks.hidden_size // num_heads]
    return _project(rows, name, shape, self._blocks.initializer_range, packing=packing)


def _recomputed(block):
  """Makes `block` keep nothing but its input and its seeds for the backward pass.

  Args:
    block: function of a float32 tensor and of a function that draws seeds, see dropout.

  Returns:
    Function of the tensor, with the same result and the same gradients.
  """
  scope = tf.get_variable_scope()

  @tf.custom_gradient
  def recomputed(layer_input):
    seeds = []

    def draw_seed():
      seeds.append(_dropout_seed())
      return seeds[-1]

    def backward(upstream, variables):
      # A 0 that nobody can know before the gradient is there: all that is computed a second time
      # waits for it, and no compiler takes it for what was computed before.
      zero = tf.minimum(tf.abs(upstream[0, 0]), 0.0)
      again = tf.stop_gradient(layer_input + zero)
      seeds_again = iter([seed + tf.cast(zero, tf.int64) for seed in seeds])
      with tf.variable_scope(scope, reuse=True):
        output = block(again, lambda: next(seeds_again))
      gradients = tf.gradients(output, [again, *variables], upstream)
      return gradients[0], gradients[1:]

    return block(layer_input, draw_seed), backward

  return recomputed


def _dense(matrix, units, name, initializer_range, activation=None):
  """A dense layer: float32 [rows, width] -> [rows, units]; variables `name`/kernel and /bias."""
  with tf.variable_scope(name):
    kernel = tf.get_variable(
      "kernel", [matrix.shape[-1], units], initializer=create_initializer(initializer_range)
    )
    bias = tf.get_variable("bias", [units], initializer=tf.zeros_initializer())
    output = tf.nn.bias_add(tf.matmul(matrix, kernel), bias)
    return output if activation is None else activation(output)


def _matmul_last_axis(tensor, matrix):
  """float32 [..., K] times [K, M] -> [..., M] as one product of two matrices."""
  shape = get_shape_list(tensor)
  product = tf.matmul(reshape_to_matrix(tensor), matrix)
  return reshape_from_matrix(product, [*shape[:-1], matrix.shape[-1]])


def get_shape_list(tensor, expected_rank=None, name=None):
  """The shape of a tensor, as far as known when the graph is built.

  Args:
    tensor: a tensor.
    expected_rank: int or list of int; the rank is checked when given.
    name: str, what the error calls the tensor.

  Returns:
    List with an int for each known size and an int32 scalar tensor for each other.

  Raises:
    ValueError: the rank is another.
  """
  if expected_rank is not None:
    assert_rank(tensor, expected_rank, name)
  static = tensor.shape.as_list()
  if None not in static:
    return static
  dynamic = tf.shape(tensor)
  return [dynamic[i] if size is None else size for i, size in enumerate(static)]


def reshape_to_matrix(input_tensor):
  """Joins all axes but the last: [..., H] -> [rows, H].

  Raises:
    ValueError: the tensor has no two axes.
  """
  rank = input_tensor.shape.ndims
  if rank < 2:
    raise ValueError(f"a tensor of rank 2 or more is needed, not of shape {input_tensor.shape}")
  if rank == 2:
    return input_tensor
  return tf.reshape(input_tensor, [-1, input_tensor.shape[-1]])


def reshape_from_matrix(output_tensor, orig_shape_list):
  """Undoes reshape_to_matrix: [rows, H] -> the original axes with the matrix's own last one.

  Args:
    output_tensor: [rows, H].
    orig_shape_list: the original shape, as get_shape_list gives it.
  """
  if len(orig_shape_list) == 2:
    return output_tensor
  width = get_shape_list(output_tensor, expected_rank=2)[-1]
  return tf.reshape(output_tensor, [*orig_shape_list[:-1], width])


def assert_rank(tensor, expected_rank, name=None):
  """Makes sure that a tensor has one of the expected ranks.

  Args:
    tensor: a tensor.
    expected_rank: int or list of int.
    name: str, what the error calls the tensor.

  Raises:
    ValueError: names the tensor, the variable scope, and both ranks.
  """
  expected = [expected_rank] if isinstance(expected_rank, int) else list(expected_rank)
  actual = tensor.shape.ndims
  if actual not in expected:
    raise ValueError(
      f"{name or tensor.name} in scope {tf.get_variable_scope().name!r} has rank {actual} "
      f"(shape {tensor.shape}); expected {' or '.join(map(str, expected))}"
    )
