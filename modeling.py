"""BERT's encoder (Devlin et al. 2018), a stack of Transformer blocks (Vaswani et al. 2017).

The first part is the model: configuration, model, layers, embeddings, attention, blocks. The second
part, "the same, faster", has the forms that models take within fast_forms(). Helpers for files and
shapes stand at the end.

Shapes are written beside each step with these letters:

  B  sequences in the batch        N  attention heads
  S  word pieces in a sequence     D  width of a head
  F  S of the attending sequence   H  width of the model, N * D
  T  S of the attended sequence    V  size of the vocabulary

B and S may be unknown when the graph is built.
"""

import collections
import contextlib
import contextvars
import copy
import dataclasses
import functools
import json
import math
import re
import secrets
from collections.abc import Iterator
from typing import Any, Callable, NamedTuple, Optional, Union

import numpy as np
import tensorflow.compat.v1 as tf
from absl import logging

# Added to the scores of positions that are masked, before the softmax.
MASKED_SCORE = -10000.0
LAYER_NORM_EPSILON = 1e-12

Activation = Optional[Callable[[tf.Tensor], tf.Tensor]]
Shape = list[Union[int, tf.Tensor]]  # an int32 scalar for a size that is not known yet

# ---- Configuration ------------------------------------------------------------------------------


@dataclasses.dataclass(eq=False)
class BertConfig:
  """The architecture of a model. Other keys of a configuration file are kept as attributes."""

  vocab_size: int  # word pieces in the vocabulary
  hidden_size: int = 768  # width of the model
  num_hidden_layers: int = 12  # Transformer blocks
  num_attention_heads: int = 12  # of each block; divides hidden_size
  intermediate_size: int = 3072  # width of a block's feed-forward layer
  hidden_act: Union[str, Activation] = "gelu"  # of the feed-forward layer; see get_activation
  hidden_dropout_prob: float = 0.1  # after embeddings and dense layers
  attention_probs_dropout_prob: float = 0.1  # of attention probabilities
  max_position_embeddings: int = 512  # the longest sequence in word pieces
  type_vocab_size: int = 16  # segment types; released models have 2
  initializer_range: float = 0.02  # standard deviation of new weights

  @classmethod
  def from_dict(cls, json_object: dict[str, Any]) -> "BertConfig":
    """Makes a configuration from a dict; missing keys have their defaults."""
    vocab_size: Any = json_object.get("vocab_size")  # `validate` reports that it is missing
    config = cls(vocab_size)
    # convert_checkpoint.py puts what else it knows of a model under "huggingface".
    unknown = sorted(set(json_object) - set(config.__dict__) - {"huggingface"})
    config.__dict__.update(json_object)
    if unknown:
      logging.info("The configuration has keys that BERT does not use: %s", ", ".join(unknown))
    return config

  @classmethod
  def from_json_file(cls, json_file: str) -> "BertConfig":
    """Reads a configuration from a JSON file.

    Raises:
      ValueError: the file cannot be read, is not a JSON object, or fails `validate`.
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

  def validate(self) -> None:
    """Checks that a model can be built.

    Raises:
      ValueError: names the first impossible value.
    """
    sizes = "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size"
    for name in (*sizes.split(), "max_position_embeddings", "type_vocab_size"):
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

  def to_dict(self) -> dict[str, Any]:
    """Copies all attributes deeply into a dict."""
    return copy.deepcopy(self.__dict__)

  def to_json_string(self) -> str:
    """Formats the configuration as indented JSON with sorted keys."""
    return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"


def _is_number(value):
  return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_heads(hidden_size, num_attention_heads):
  if hidden_size % num_attention_heads:
    raise ValueError(
      f"hidden_size {hidden_size} is not divisible by num_attention_heads {num_attention_heads}"
    )


# ---- The model ----------------------------------------------------------------------------------


class BertModel:
  """The encoder of BERT as part of the current graph.

    config = BertConfig.from_json_file("bert_config.json")
    model = BertModel(config, is_training=False, input_ids=[[101, 7592, 102]])
    vectors = model.get_sequence_output()  # [1, 3, H]

  The functions of this module are called by their names in it, so a program may replace them.

  Attributes: pooled_output, sequence_output, all_encoder_layers, embedding_output and
  embedding_table; see the methods with these names.
  """

  def __init__(
    self,
    config: BertConfig,
    is_training: bool,
    input_ids: tf.Tensor,
    input_mask: Optional[tf.Tensor] = None,
    token_type_ids: Optional[tf.Tensor] = None,
    use_one_hot_embeddings: bool = False,
    scope: Optional[str] = None,
  ) -> None:
    """Builds the model.

    Args:
      config: the architecture; it is copied.
      is_training: turns dropout on.
      input_ids: int32 [B, S], ids of the word pieces.
      input_mask: numbers or bool [B, S], 1 for word pieces and 0 for padding; default: no padding.
      token_type_ids: int32 [B, S], segments; default: all 0.
      use_one_hot_embeddings: looks up word embeddings by a matrix product, which is faster on TPUs,
        instead of a gather.
      scope: variable scope; default "bert".

    Raises:
      ValueError: the configuration is impossible, or input_ids is not of rank 2.
    """
    config = copy.deepcopy(config)
    config.validate()
    if not is_training:
      config.hidden_dropout_prob = 0.0
      config.attention_probs_dropout_prob = 0.0
    input_ids = tf.convert_to_tensor(input_ids, dtype_hint=tf.int32)
    batch_size, seq_length = get_shape_list(input_ids, expected_rank=2)
    if input_mask is None:
      input_mask = tf.ones([batch_size, seq_length], tf.int32)
    if token_type_ids is None:
      token_type_ids = tf.zeros([batch_size, seq_length], tf.int32)

    self._fast_encoder = None
    with tf.variable_scope(scope, default_name="bert"):
      self._embed(config, input_ids, token_type_ids, use_one_hot_embeddings)
      own = __class__  # type: ignore[name-defined] # a subclass may override methods
      if type(self) is own and _builds_fast_forms():
        self._fast_encoder = _FastEncoder(
          config, is_training, input_ids, input_mask, self.embedding_output
        )
        self.all_encoder_layers = self._fast_encoder.layers
        self.pooled_output = self._fast_encoder.pooled_output
      else:
        self._encode(config, input_ids, input_mask)
        self._pool(config)
    self.sequence_output = self.all_encoder_layers[-1]

  def _embed(self, config, input_ids, token_type_ids, use_one_hot_embeddings):
    with tf.variable_scope("embeddings"):
      words, self.embedding_table = embedding_lookup(
        input_ids=input_ids,
        vocab_size=config.vocab_size,
        embedding_size=config.hidden_size,
        initializer_range=config.initializer_range,
        use_one_hot_embeddings=use_one_hot_embeddings,
      )
      self.embedding_output = embedding_postprocessor(
        input_tensor=words,
        use_token_type=True,
        token_type_ids=token_type_ids,
        token_type_vocab_size=config.type_vocab_size,
        initializer_range=config.initializer_range,
        max_position_embeddings=config.max_position_embeddings,
        dropout_prob=config.hidden_dropout_prob,
      )

  def _encode(self, config, input_ids, input_mask):
    with tf.variable_scope("encoder"):
      self.all_encoder_layers = transformer_model(
        input_tensor=self.embedding_output,
        attention_mask=create_attention_mask_from_input_mask(input_ids, input_mask),
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        intermediate_size=config.intermediate_size,
        intermediate_act_fn=get_activation(config.hidden_act),
        hidden_dropout_prob=config.hidden_dropout_prob,
        attention_probs_dropout_prob=config.attention_probs_dropout_prob,
        initializer_range=config.initializer_range,
        do_return_all_layers=True,
      )

  def _pool(self, config):
    with tf.variable_scope("pooler"):
      first = tf.squeeze(self.all_encoder_layers[-1][:, 0:1, :], axis=1)  # [B, H]
      self.pooled_output = _dense(first, config.hidden_size, config.initializer_range, tf.tanh)

  def get_output_at(self, positions: tf.Tensor) -> tf.Tensor:
    """Gathers the last block's output at some positions; the fast form computes these alone.

    Args:
      positions: int32 [B, P], positions in the sequences.

    Returns:
      float32 [B, P, H]; in the fast form undefined at padding.
    """
    if self._fast_encoder is not None:
      return self._fast_encoder.output_at(positions)
    return tf.gather(self.get_sequence_output(), positions, batch_dims=1)

  def get_pooled_output(self) -> tf.Tensor:
    """Returns float32 [B, H]: a dense layer with tanh over the first position, one per sequence."""
    return self.pooled_output

  def get_sequence_output(self) -> tf.Tensor:
    """Returns float32 [B, S, H]: the output of the last block."""
    return self.sequence_output

  def get_all_encoder_layers(self) -> list[tf.Tensor]:
    """Returns float32 [B, S, H] of each block: its output, the first block first."""
    return self.all_encoder_layers

  def get_embedding_output(self) -> tf.Tensor:
    """Returns float32 [B, S, H]: the sum of the embeddings, normalised."""
    return self.embedding_output

  def get_embedding_table(self) -> tf.Variable:
    """Returns float32 [V, H]: the variable of the word embeddings."""
    return self.embedding_table


# ---- Layers -------------------------------------------------------------------------------------


def _dense(matrix, units, initializer_range, activation=None, name="dense"):
  """Builds a dense layer: float32 [rows, width] -> [rows, units]; scope `name`."""
  with tf.variable_scope(name):
    kernel = tf.get_variable(
      "kernel", [matrix.shape[-1], units], initializer=create_initializer(initializer_range)
    )
    bias = tf.get_variable("bias", [units], initializer=tf.zeros_initializer())
    output = tf.nn.bias_add(tf.matmul(matrix, kernel), bias)
    return output if activation is None else activation(output)


def create_initializer(initializer_range: float = 0.02) -> Callable[..., tf.Tensor]:
  """Makes the initializer of new weights: a normal distribution cut at two standard deviations."""
  return tf.truncated_normal_initializer(stddev=initializer_range)


def gelu(x: tf.Tensor) -> tf.Tensor:
  """Computes the Gaussian error linear unit in its tanh form (Hendrycks and Gimpel 2016)."""
  return _trained_gelu(x) if _builds_fast_forms() else fusible_gelu(x)


def fusible_gelu(x: tf.Tensor) -> tf.Tensor:
  """Computes gelu by its formula, which TensorFlow with oneDNN fuses with a dense layer before."""
  with tf.name_scope("gelu"):  # needed for the fusion
    scaled = math.sqrt(2.0 / math.pi) * (x + 0.044715 * tf.pow(x, 3))
    return 0.5 * x * (1.0 + tf.tanh(scaled))


def get_activation(activation_string: Union[str, Activation]) -> Activation:
  """Finds the activation "relu", "gelu" or "tanh" in any case; None for "linear", "" and None.

  A function is returned unchanged. Another name is a ValueError.
  """
  if activation_string is not None and not isinstance(activation_string, str):
    return activation_string
  known = {"": None, "linear": None, "relu": tf.nn.relu, "gelu": gelu, "tanh": tf.tanh}
  name = (activation_string or "").lower()
  if name not in known:
    raise ValueError(f"activation {activation_string!r} is none of linear, relu, gelu, tanh")
  return known[name]


def dropout(input_tensor: tf.Tensor, dropout_prob: Optional[float]) -> tf.Tensor:
  """Sets a share of the elements to 0 and scales up the rest.

  Args:
    input_tensor: float tensor of any shape.
    dropout_prob: the share, rounded to 1/65536; None or 0.0 for no dropout.
  """
  if not dropout_prob:
    return input_tensor
  threshold = min(round(dropout_prob * 2**16), 2**16 - 1)
  bits = _random_uint16(get_shape_list(input_tensor), _DRAW_SEED.get()())
  scale = 1.0 / (1.0 - threshold / 2**16)
  keep = bits >= tf.constant(threshold, tf.uint16)
  return tf.where_v2(keep, input_tensor * scale, tf.zeros([], input_tensor.dtype))


def layer_norm(input_tensor: tf.Tensor, name: Optional[str] = None) -> tf.Tensor:
  """Normalises the last axis of float32 [..., H] (Ba et al. 2016); default scope "LayerNorm"."""
  width = input_tensor.shape[-1]
  with tf.variable_scope(name, default_name="LayerNorm"):
    beta = tf.get_variable("beta", [width], initializer=tf.zeros_initializer())
    gamma = tf.get_variable("gamma", [width], initializer=tf.ones_initializer())
    if _builds_fast_forms():
      return _normalize(input_tensor, gamma, beta)
    mean, variance = tf.nn.moments(input_tensor, [-1], keepdims=True)
    return tf.nn.batch_normalization(input_tensor, mean, variance, beta, gamma, LAYER_NORM_EPSILON)


def layer_norm_and_dropout(
  input_tensor: tf.Tensor, dropout_prob: Optional[float], name: Optional[str] = None
) -> tf.Tensor:
  """Layer normalisation, then dropout; see layer_norm and dropout."""
  return dropout(layer_norm(input_tensor, name), dropout_prob)


# ---- Embeddings ---------------------------------------------------------------------------------


def embedding_lookup(
  input_ids: tf.Tensor,
  vocab_size: int,
  embedding_size: int = 128,
  initializer_range: float = 0.02,
  word_embedding_name: str = "word_embeddings",
  use_one_hot_embeddings: bool = False,
) -> tuple[tf.Tensor, tf.Variable]:
  """Looks up the vectors of word pieces.

  Args:
    input_ids: int32 [B, S] or [B, S, inputs].
    vocab_size, embedding_size: shape of the table.
    initializer_range: standard deviation of new weights.
    word_embedding_name: name of the variable.
    use_one_hot_embeddings: uses a matrix product instead of a gather.

  Returns:
    float32 [B, S, inputs * embedding_size], and the table [vocab_size, embedding_size].
  """
  initializer = create_initializer(initializer_range)
  table = tf.get_variable(
    word_embedding_name, [vocab_size, embedding_size], initializer=initializer
  )
  if use_one_hot_embeddings:
    one_hot = tf.one_hot(tf.reshape(input_ids, [-1]), depth=vocab_size)  # [B * S, V]
    vectors = tf.matmul(one_hot, table)
  else:
    # Read first: after a gather from the variable itself, each read of it is a copy.
    vectors = tf.gather(tf.convert_to_tensor(table), input_ids)
  shape = get_shape_list(input_ids, expected_rank=[2, 3])
  inputs = shape[2] if len(shape) == 3 else 1
  return tf.reshape(vectors, [shape[0], shape[1], inputs * embedding_size]), table


def embedding_postprocessor(
  input_tensor: tf.Tensor,
  use_token_type: bool = False,
  token_type_ids: Optional[tf.Tensor] = None,
  token_type_vocab_size: int = 16,
  token_type_embedding_name: str = "token_type_embeddings",
  use_position_embeddings: bool = True,
  position_embedding_name: str = "position_embeddings",
  initializer_range: float = 0.02,
  max_position_embeddings: int = 512,
  dropout_prob: float = 0.1,
) -> tf.Tensor:
  """Adds segment and position embeddings to word embeddings and normalises the sum.

  Args:
    input_tensor: float32 [B, S, H].
    use_token_type, use_position_embeddings: turn each kind of embeddings on.
    token_type_ids: int32 [B, S]; needed with use_token_type.
    token_type_vocab_size, max_position_embeddings: rows of the tables.
    token_type_embedding_name, position_embedding_name: names of the variables.
    initializer_range: standard deviation of new weights.
    dropout_prob: dropout of the result.

  Returns:
    float32 [B, S, H].

  Raises:
    ValueError: token_type_ids is missing, or a known length is above max_position_embeddings.
    tf.errors.InvalidArgumentError: at run time, for a length that was unknown.
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
  """Makes an operation that fails if a sequence is longer than max_position_embeddings."""
  message = f"a sequence is longer than max_position_embeddings {max_position_embeddings}"
  if not tf.is_tensor(seq_length):
    if seq_length > max_position_embeddings:
      raise ValueError(f"{message}: {seq_length}")
    return tf.no_op()
  return tf.assert_less_equal(seq_length, max_position_embeddings, message=message)


# ---- Attention ----------------------------------------------------------------------------------


def create_attention_mask_from_input_mask(from_tensor: tf.Tensor, to_mask: tf.Tensor) -> tf.Tensor:
  """Repeats a mask, numbers or bool [B, T], for each attending position of [B, F, ...].

  Returns:
    float32 [B, F, T], 1 where F may attend to T.
  """
  shape = get_shape_list(from_tensor, expected_rank=[2, 3])
  mask = tf.cast(to_mask, tf.float32)[:, tf.newaxis, :]  # [B, 1, T]
  return tf.broadcast_to(mask, [shape[0], shape[1], get_shape_list(mask, expected_rank=3)[2]])


def attention_layer(
  from_tensor: tf.Tensor,
  to_tensor: tf.Tensor,
  attention_mask: Optional[tf.Tensor] = None,
  num_attention_heads: int = 1,
  size_per_head: int = 512,
  query_act: Activation = None,
  key_act: Activation = None,
  value_act: Activation = None,
  attention_probs_dropout_prob: float = 0.0,
  initializer_range: float = 0.02,
  do_return_2d_tensor: bool = False,
  batch_size: Union[int, tf.Tensor, None] = None,
  from_seq_length: Union[int, tf.Tensor, None] = None,
  to_seq_length: Union[int, tf.Tensor, None] = None,
  packing: "Optional[_Packing]" = None,
) -> tf.Tensor:
  """Multi-head scaled dot-product attention (Vaswani et al. 2017, section 3.2).

  Args:
    from_tensor: float32 [B, F, width] or [B * F, width], the attending sequence.
    to_tensor: float32 [B, T, width] or [B * T, width], the attended sequence.
    attention_mask: numbers or bool [B, F, T] or [B, 1, T], 1 where F may attend to T; default:
      everywhere.
    num_attention_heads, size_per_head: N and D.
    query_act, key_act, value_act: activations of the three projections.
    attention_probs_dropout_prob, initializer_range: see BertConfig.
    do_return_2d_tensor: the shape of the result.
    batch_size, from_seq_length, to_seq_length: B, F and T, needed with inputs of rank 2.
    packing: for the second part: rows that lack the padding, in equal inputs and in the result.

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

  query = project(from_tensor, from_seq_length, query_act, "query")
  key = project(to_tensor, to_seq_length, key_act, "key")
  value = project(to_tensor, to_seq_length, value_act, "value")
  context = _attend(query, key, value, attention_mask, attention_probs_dropout_prob)
  if not do_return_2d_tensor:
    return context
  context = reshape_to_matrix(context)
  return context if packing is None else packing.pack(context)


def _project(matrix, name, shape, initializer_range, activation=None, packing=None):
  """Computes queries, keys or values, [B, N, L, D], of float32 [B * L, width]; `shape` is BLND."""
  heads = _dense(matrix, shape[2] * shape[3], initializer_range, activation, name)
  heads = heads if packing is None else packing.unpack(heads)
  return tf.transpose(tf.reshape(heads, shape), [0, 2, 1, 3])


def _attend(query, key, value, attention_mask, dropout_prob):
  """Attends with float32 [B, N, F, D] to keys and values [B, N, T, D] -> [B, F, N * D]."""
  batch_size, num_heads, from_length, head_size = get_shape_list(query)
  query *= 1.0 / math.sqrt(head_size)  # before the product, which has more elements
  scores = tf.matmul(query, key, transpose_b=True)  # [B, N, F, T]
  if attention_mask is not None:
    hidden = 1.0 - tf.cast(attention_mask[:, tf.newaxis], tf.float32)  # [B, 1, F or 1, T]
    scores += hidden * MASKED_SCORE
  probabilities = dropout(tf.nn.softmax(scores), dropout_prob)  # [B, N, F, T]
  context = tf.matmul(probabilities, value)  # [B, N, F, D]
  context = tf.transpose(context, [0, 2, 1, 3])  # [B, F, N, D]
  return tf.reshape(context, [batch_size, from_length, num_heads * head_size])


# ---- Blocks -------------------------------------------------------------------------------------


def transformer_model(
  input_tensor: tf.Tensor,
  attention_mask: Optional[tf.Tensor] = None,
  hidden_size: int = 768,
  num_hidden_layers: int = 12,
  num_attention_heads: int = 12,
  intermediate_size: int = 3072,
  intermediate_act_fn: Activation = gelu,
  hidden_dropout_prob: float = 0.1,
  attention_probs_dropout_prob: float = 0.1,
  initializer_range: float = 0.02,
  do_return_all_layers: bool = False,
) -> Union[tf.Tensor, list[tf.Tensor]]:
  """Builds a stack of Transformer blocks, each normalised after its residual sums.

  Args:
    input_tensor: float32 [B, S, H].
    attention_mask: numbers or bool [B, S, S] or [B, 1, S], see attention_layer.
    hidden_size, num_hidden_layers, num_attention_heads, intermediate_size, hidden_dropout_prob,
      attention_probs_dropout_prob, initializer_range: see BertConfig.
    intermediate_act_fn: activation of the feed-forward layer.
    do_return_all_layers: returns the list of all blocks' outputs.

  Returns:
    float32 [B, S, H], the last block's output, or the list.

  Raises:
    ValueError: hidden_size is not divisible by num_attention_heads, or not the input's width.
  """
  _check_heads(hidden_size, num_attention_heads)
  shape = get_shape_list(input_tensor, expected_rank=3)
  if shape[2] != hidden_size:
    raise ValueError(f"the input is {shape[2]} wide, and hidden_size is {hidden_size}")
  block = _Block(
    attention_mask,
    hidden_size,
    num_attention_heads,
    intermediate_size,
    intermediate_act_fn,
    hidden_dropout_prob,
    attention_probs_dropout_prob,
    initializer_range,
  )
  rows, layers = reshape_to_matrix(input_tensor), []  # [B * S, H], all that dense layers need
  for layer in range(num_hidden_layers):
    with tf.variable_scope(f"layer_{layer}"):
      rows = block.output(rows, shape[0], shape[1])
    layers.append(reshape_from_matrix(rows, shape))
  return layers if do_return_all_layers else layers[-1]


class _Block(NamedTuple):
  """A Transformer block; for the attributes see transformer_model."""

  attention_mask: Optional[tf.Tensor]
  hidden_size: int
  num_attention_heads: int
  intermediate_size: int
  intermediate_act_fn: Activation
  hidden_dropout_prob: float
  attention_probs_dropout_prob: float
  initializer_range: float

  def output(self, rows, batch_size, seq_length):
    """Computes the block: float32 [B * S, H] -> [B * S, H]."""
    with tf.variable_scope("attention"):
      attended = self.after_attention(self.attend(rows, batch_size, seq_length), rows)
    return self.feed_forward(attended)

  def attend(self, rows, batch_size, seq_length, **packing):
    """Computes the attention: float32 [B * S, H] -> [B * S, H]; `packing` as in attention_layer."""
    with tf.variable_scope("self"):
      return attention_layer(
        from_tensor=rows,
        to_tensor=rows,
        attention_mask=self.attention_mask,
        num_attention_heads=self.num_attention_heads,
        size_per_head=self.hidden_size // self.num_attention_heads,
        attention_probs_dropout_prob=self.attention_probs_dropout_prob,
        initializer_range=self.initializer_range,
        do_return_2d_tensor=True,
        batch_size=batch_size,
        from_seq_length=seq_length,
        to_seq_length=seq_length,
        **packing,
      )

  def after_attention(self, context, rows):
    """Adds the block's input to the projected attention, float32 [rows, H] both."""
    with tf.variable_scope("output"):
      output = _dense(context, self.hidden_size, self.initializer_range)
      return self._add_and_norm(output, rows)

  def feed_forward(self, rows):
    """Computes the second half of the block: float32 [rows, H] -> [rows, H]."""
    with tf.variable_scope("intermediate"):
      wide = _dense(rows, self.intermediate_size, self.initializer_range, self.intermediate_act_fn)
    with tf.variable_scope("output"):
      output = _dense(wide, self.hidden_size, self.initializer_range)
      return self._add_and_norm(output, rows)

  def _add_and_norm(self, output, residual):
    return layer_norm(dropout(output, self.hidden_dropout_prob) + residual)


# =================================================================================================
# The same, faster
# =================================================================================================
#
# Within fast_forms() a BertModel has the same variables, and the same outputs up to rounding where
# there are word pieces. It is computed in less time or memory:
#
# - In training, dense layers skip padding where the sequences' length is unknown to the graph.
# - The last block is computed only at the positions that are read: the first one for the pooler.
# - In training, GELU and layer normalisation have gradients of few passes over their inputs.
# - The inner values of blocks may be recomputed in the backward pass.
# - Predictors compute queries, keys and values by one product.

# Variable scopes: of the weights of the three projections side by side, and of each.
JOINED_PROJECTIONS = "query_key_value"
PROJECTIONS = ("query", "key", "value")


class _FastForms(NamedTuple):
  micro_batch: Optional[tf.Tensor] = None
  recompute: bool = False
  join_projections: bool = False


_NO_FAST_FORMS = _FastForms()
_FAST_FORMS = contextvars.ContextVar("fast_forms", default=_NO_FAST_FORMS)


@contextlib.contextmanager
def fast_forms(
  micro_batch: Optional[tf.Tensor] = None, recompute: bool = False, join_projections: bool = False
) -> Iterator[None]:
  """Gives the models that are built within it their fast forms.

  The sequence output is 0 at padding in training. The pooled output does not depend on the sequence
  output: each has its own last block, with its own dropout. While a function of this module is
  replaced, models have their plain form here too, so that the replacement takes effect.

  Args:
    micro_batch: int32 scalar, the number of the part of a batch that is read; each part has its own
      dropout. None for a whole batch.
    recompute: computes each Transformer block a second time in the backward pass, from its input,
      instead of keeping its inner values (Chen et al. 2016, section 3).
    join_projections: in evaluation, computes queries, keys and values by one product. Its variables
      are JOINED_PROJECTIONS/kernel and /bias: those of PROJECTIONS, which a checkpoint has, side by
      side along the last axis. At 128 tokens of a 6-layer model on two cores that saves a tenth.
  """
  token = _FAST_FORMS.set(_FastForms(micro_batch, recompute, join_projections))
  try:
    yield
  finally:
    _FAST_FORMS.reset(token)


def _builds_fast_forms():
  """Returns True within fast_forms(), unless a function that they bypass is replaced."""
  is_replaced = any(globals()[name] is not function for name, function in _ORIGINALS.items())
  return _FAST_FORMS.get() is not _NO_FAST_FORMS and not is_replaced


class _FastEncoder:
  """The blocks and the pooler of a BertModel.

  Attributes:
    layers: list of float32 [B, S, H], the blocks' outputs.
    pooled_output: float32 [B, H].
  """

  def __init__(self, config, is_training, input_ids, input_mask, embedding_output):
    """Builds the graph within the model's variable scope; arguments as in BertModel."""
    # Batches in evaluation and prediction have little padding; TPUs need known sizes.
    skips_padding = is_training and input_ids.shape.as_list()[1] is None
    self._packing = _Packing(input_mask) if skips_padding else _NoPacking()
    with tf.variable_scope("encoder"):
      attention_mask = tf.cast(input_mask, tf.float32)[:, tf.newaxis, :]  # [B, 1, T]
      activation = get_activation(config.hidden_act)
      self._block = _Block(
        attention_mask,
        config.hidden_size,
        config.num_attention_heads,
        config.intermediate_size,
        fusible_gelu if activation is gelu and not is_training else activation,
        config.hidden_dropout_prob,
        config.attention_probs_dropout_prob,
        config.initializer_range,
      )
      self._build_layers(embedding_output, config.num_hidden_layers, is_training)
    batch_size, _, width = get_shape_list(embedding_output)
    first = self.output_at(tf.zeros([batch_size, 1], tf.int32))
    with tf.variable_scope("pooler"):
      first = tf.reshape(first, [batch_size, width], name=None if is_training else "Squeeze")
      self.pooled_output = _dense(first, width, config.initializer_range, tf.tanh)

  def _build_layers(self, input_tensor, num_layers, is_training):
    shape = get_shape_list(input_tensor)
    self._batch_size, self._seq_length, _ = shape
    self.layers = []

    def block(rows):
      if not is_training and _FAST_FORMS.get().join_projections:
        with tf.variable_scope("attention"):
          attended = self._block.after_attention(self._attend_jointly(rows), rows)
        return self._block.feed_forward(attended)
      if not is_training:
        return self._block.output(rows, self._batch_size, self._seq_length)
      with tf.variable_scope("attention"):
        context = self._block.attend(
          rows, self._batch_size, self._seq_length, packing=self._packing
        )
      return self._after_attention(context, rows)

    rows = self._packing.pack(reshape_to_matrix(input_tensor))  # [B * S, H], or [R, H]
    for layer in range(num_layers):
      with tf.variable_scope(f"layer_{layer}") as scope:
        self._last_input, self._last_scope = rows, scope
        rows = _recomputed(block)(rows) if _FAST_FORMS.get().recompute else block(rows)
      self.layers.append(reshape_from_matrix(self._packing.unpack_with_zeros(rows), shape))

  def _attend_jointly(self, rows):
    """Computes the attention of a block by one product: float32 [B * S, H] -> [B * S, H]."""
    block, num_heads = self._block, self._block.num_attention_heads
    shape = [self._batch_size, self._seq_length, 3, num_heads, block.hidden_size // num_heads]
    with tf.variable_scope("self"):
      width = 3 * block.hidden_size
      heads = _dense(rows, width, block.initializer_range, name=JOINED_PROJECTIONS)
      heads = tf.transpose(tf.reshape(heads, shape), [2, 0, 3, 1, 4])  # [3, B, N, S, D]
      query, key, value = tf.unstack(heads)
      return reshape_to_matrix(_attend(query, key, value, block.attention_mask, 0.0))

  def output_at(self, positions):
    """Computes the last block at some positions; see BertModel.get_output_at.

    Keys and values are needed at all positions; queries, and what follows attention, at these.
    """
    num_positions = get_shape_list(positions)[1]
    firsts = tf.range(self._batch_size)[:, tf.newaxis] * self._seq_length
    places = tf.reshape(firsts + positions, [-1])
    rows = self._packing.take(self._last_input, places)  # [B * P, H]
    # The variables are there already, but for those of the projections where these are joined.
    with tf.variable_scope(self._last_scope, reuse=tf.AUTO_REUSE):
      with tf.variable_scope("attention"), tf.variable_scope("self"):
        query = self._project(rows, "query", num_positions)
        key, value = self._key_and_value
        mask, dropout_prob = self._block.attention_mask, self._block.attention_probs_dropout_prob
        context = _attend(query, key, value, mask, dropout_prob)
      output = self._after_attention(reshape_to_matrix(context), rows)
    return tf.reshape(output, [self._batch_size, num_positions, self._block.hidden_size])

  def _after_attention(self, context, rows):
    # The scope is entered a second time, which names operations "attention_1/output/...". Names
    # decide how the graph optimizer rounds gradients: with others, runs would not be repeatable
    # across versions of this module.
    with tf.variable_scope("attention"):
      attended = self._block.after_attention(context, rows)
    return self._block.feed_forward(attended)

  @functools.cached_property
  def _key_and_value(self):
    names, length = ("key", "value"), self._seq_length
    return [self._project(self._last_input, name, length, self._packing) for name in names]

  def _project(self, rows, name, length, packing=None):
    num_heads = self._block.num_attention_heads
    shape = [self._batch_size, length, num_heads, self._block.hidden_size // num_heads]
    return _project(rows, name, shape, self._block.initializer_range, packing=packing)


class _Packing:
  """The places of a batch's real tokens, by which dense layers skip padding.

  Packed tensors have a row for each of the R real tokens, others one for each place.

    mask [[1, 1, 0], [1, 1, 1]] -> places of the rows [0, 1, 3, 4, 5], rows of the places
    [0, 1, 1, 2, 3, 4]
  """

  def __init__(self, input_mask):
    """Finds the real tokens of input_mask, numbers or bool [B, S]."""
    is_real = tf.reshape(tf.cast(input_mask, tf.int32), [-1])
    self._places = tf.where(is_real > 0)[:, 0]  # [R]
    self._rows = tf.maximum(tf.cumsum(is_real) - 1, 0)  # [B * S], at padding a neighbour's
    self._is_real = tf.cast(is_real, tf.float32)[:, tf.newaxis]  # [B * S, 1]

  # TensorFlow's gradient of a gather adds up repeated rows. Here one place of each row counts, and
  # the gradient is a gather as well, which is much faster.

  def pack(self, matrix):
    """Removes padding: float32 [B * S, H] -> [R, H]."""
    return _gather(
      matrix, self._places, lambda upstream: tf.gather(upstream, self._rows) * self._is_real
    )

  def unpack(self, matrix):
    """Inserts padding, undefined there: float32 [R, H] -> [B * S, H]."""
    return _gather(matrix, self._rows, lambda upstream: tf.gather(upstream, self._places))

  def unpack_with_zeros(self, matrix):
    """Inserts padding of 0: float32 [R, H] -> [B * S, H]."""
    return self.unpack(matrix) * self._is_real

  def take(self, matrix, places):
    """Gathers the rows of places, int32 [N]: float32 [R, H] -> [N, H]."""
    return _take_rows(matrix, tf.gather(self._rows, places))


class _NoPacking:
  """Replaces _Packing where padding is computed like the real tokens."""

  def pack(self, matrix):
    return matrix

  unpack = unpack_with_zeros = pack

  def take(self, matrix, places):
    return _take_rows(matrix, places)


def _take_rows(matrix, rows):
  """Gathers rows; the gradient of tf.gather would be made dense late, and with a warning."""
  num_rows = get_shape_list(matrix)[0]
  return _gather(
    matrix, rows, lambda upstream: tf.math.unsorted_segment_sum(upstream, rows, num_rows)
  )


def _gather(matrix, rows, gradient):
  """Gathers rows; `gradient` is a function of the upstream gradient."""
  return tf.custom_gradient(lambda matrix: (tf.gather(matrix, rows), gradient))(matrix)


def _recomputed(block):
  """Makes a function of one tensor keep only its input and dropout seeds for the backward pass.

  Args:
    block: function of a float32 tensor of rank 2 to a tensor.

  Returns:
    A function with the same result and the same gradients.
  """
  scope = tf.get_variable_scope()

  @tf.custom_gradient
  def recomputed(layer_input):
    seeds = []

    def draw_seed():
      seeds.append(_dropout_seed())
      return seeds[-1]

    def backward(upstream, variables):
      # A 0 that is unknown before the gradient: the second computation has to wait for it, and no
      # compiler can merge it with the first one.
      zero = tf.minimum(tf.abs(upstream[0, 0]), 0.0)
      again = tf.stop_gradient(layer_input + zero)
      seeds_again = iter([seed + tf.cast(zero, tf.int64) for seed in seeds])
      with tf.variable_scope(scope, reuse=True), fast_forms(), _drawing(seeds_again.__next__):
        output = block(again)
      gradients = tf.gradients(output, [again, *variables], upstream)
      return gradients[0], gradients[1:]

    with _drawing(draw_seed):
      return block(layer_input), backward

  return recomputed


@contextlib.contextmanager
def _drawing(draw_seed):
  """Makes dropout take its seeds from a function."""
  token = _DRAW_SEED.set(draw_seed)
  try:
    yield
  finally:
    _DRAW_SEED.reset(token)


# ---- Gradients and random numbers ---------------------------------------------------------------


def _dropout_seed():
  """Makes the seed, int64 [2], of one place in the graph at one training step.

  The mask is a function of the graph's seed, the place and the step: a resumed run has the masks of
  an uninterrupted one. It also depends on the replica and the part of the batch, which hold
  different examples.
  """
  graph_seed, place = tf.random.get_seed(None)
  if graph_seed is None:
    place = secrets.randbits(62)
  else:
    place += graph_seed << 31
  step = tf.train.get_global_step()
  if step is None:  # a model outside of a training loop
    step = tf.random.uniform([], maxval=2**31 - 1, dtype=tf.int64)
  step = tf.cast(step, tf.int64)
  context = tf.distribute.get_replica_context()
  if context is not None and context.num_replicas_in_sync > 1:
    step += tf.cast(context.replica_id_in_sync_group, tf.int64) * 2**40
  micro_batch = _FAST_FORMS.get().micro_batch
  if micro_batch is not None:
    step = step + tf.cast(micro_batch, tf.int64) * 2**52
  return tf.stack([tf.constant(place, tf.int64), step])


# Function that makes dropout's seed; recomputation makes it repeat the seeds of the forward pass.
_DRAW_SEED = contextvars.ContextVar("draw_seed", default=_dropout_seed)


def _random_uint16(shape, seed):
  """Draws random numbers of 16 bits, enough for dropout: two from each of 32 bits."""
  count = math.prod(shape)
  pairs = tf.random.stateless_uniform([(count + 1) // 2], seed, None, None, tf.uint32, alg="philox")
  return tf.reshape(tf.reshape(tf.bitcast(pairs, tf.uint16), [-1])[:count], shape)


@tf.custom_gradient
def _trained_gelu(x):
  """Computes gelu with a gradient of half as many operations as that of its formula."""
  # (1 + tanh(z)) / 2 is sigmoid(2 z). Each operation passes over the widest tensors of the model.
  linear = 2.0 * math.sqrt(2.0 / math.pi)
  cubic = 0.044715 * linear
  square = x * x
  gate = tf.sigmoid(x * (linear + cubic * square))

  def gradient(upstream):
    slope = tf.raw_ops.SigmoidGrad(y=gate, dy=x * (linear + 3.0 * cubic * square))
    return upstream * (gate + slope)

  return x * gate, gradient


@tf.custom_gradient
def _normalize(x, gamma, beta):
  """Normalises x, [..., H], with a gradient of few passes over it."""
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


# =================================================================================================
# Files and shapes
# =================================================================================================


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
      f"{path}:{error.lineno}: is not valid JSON: {error.msg} (column {error.colno})"
    ) from error


def get_assignment_map_from_checkpoint(
  tvars: list[tf.Variable], init_checkpoint: str
) -> tuple[collections.OrderedDict[str, str], dict[str, int]]:
  """Matches variables with those of a checkpoint by name; shapes are not compared.

  Args:
    tvars: variables.
    init_checkpoint: prefix of a checkpoint.

  Returns:
    Name in the checkpoint -> name in the graph, for tf.train.init_from_checkpoint; and 1 for each
    of these names, with and without ":0".
  """
  graph_names = {re.sub(r":\d+$", "", variable.name) for variable in tvars}
  assignment_map = collections.OrderedDict(
    (name, name) for name, _ in tf.train.list_variables(init_checkpoint) if name in graph_names
  )
  initialized = {key: 1 for name in assignment_map for key in (name, name + ":0")}
  return assignment_map, initialized


def _matmul_last_axis(tensor, matrix):
  """Multiplies float32 [..., K] by [K, M] -> [..., M] in one product of two matrices."""
  shape = get_shape_list(tensor)
  product = tf.matmul(reshape_to_matrix(tensor), matrix)
  return reshape_from_matrix(product, [*shape[:-1], matrix.shape[-1]])


def get_shape_list(
  tensor: tf.Tensor,
  expected_rank: Union[int, list[int], None] = None,
  name: Optional[str] = None,
) -> Shape:
  """Finds the shape of a tensor, as far as it is known when the graph is built.

  Args:
    tensor: a tensor.
    expected_rank, name: see assert_rank; without a rank nothing is checked.

  Returns:
    An int for each known size and an int32 scalar tensor for each other.
  """
  if expected_rank is not None:
    assert_rank(tensor, expected_rank, name)
  static = tensor.shape.as_list()
  if None not in static:
    return static
  dynamic = tf.shape(tensor)
  return [dynamic[i] if size is None else size for i, size in enumerate(static)]


def reshape_to_matrix(input_tensor: tf.Tensor) -> tf.Tensor:
  """Joins all axes but the last: [..., H] -> [rows, H].

  Raises:
    ValueError: the tensor has less than two axes.
  """
  rank = input_tensor.shape.ndims
  if rank < 2:
    raise ValueError(f"a tensor of rank 2 or more is needed, not of shape {input_tensor.shape}")
  if rank == 2:
    return input_tensor
  return tf.reshape(input_tensor, [-1, input_tensor.shape[-1]])


def reshape_from_matrix(output_tensor: tf.Tensor, orig_shape_list: Shape) -> tf.Tensor:
  """Undoes reshape_to_matrix: [rows, H] -> the axes of a get_shape_list, the last one being H."""
  if len(orig_shape_list) == 2:
    return output_tensor
  width = get_shape_list(output_tensor, expected_rank=2)[-1]
  return tf.reshape(output_tensor, [*orig_shape_list[:-1], width])


def assert_rank(
  tensor: tf.Tensor, expected_rank: Union[int, list[int]], name: Optional[str] = None
) -> None:
  """Checks that a tensor has one of the expected ranks.

  Args:
    tensor: a tensor.
    expected_rank: one rank or several.
    name: the tensor's name in the error.

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


# The functions that the fast forms bypass or rely on, to notice their replacement.
_ORIGINALS = {
  "gelu": gelu,
  "get_activation": get_activation,
  "dropout": dropout,
  "layer_norm": layer_norm,
  "layer_norm_and_dropout": layer_norm_and_dropout,
  "create_attention_mask_from_input_mask": create_attention_mask_from_input_mask,
  "attention_layer": attention_layer,
  "transformer_model": transformer_model,
}
