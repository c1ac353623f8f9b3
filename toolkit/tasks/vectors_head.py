"""BERT without a head: the vectors of its layers, of each word piece or pooled."""

from collections.abc import Sequence

import tensorflow.compat.v1 as tf

import modeling


def create_model(
  bert_config: modeling.BertConfig,
  input_ids: tf.Tensor,
  input_mask: tf.Tensor,
  input_type_ids: tf.Tensor,
  layer_indexes: Sequence[int],
  use_one_hot_embeddings: bool = False,
  pooling: str = "none",
  pool_special_tokens: bool = False,
) -> dict[str, tf.Tensor]:
  """Builds BERT without a head.

  Args:
    bert_config, use_one_hot_embeddings: see modeling.BertModel.
    input_ids, input_mask, input_type_ids: int32 [B, S].
    layer_indexes: L places in the list of the layers.
    pooling: member of vectors.POOLINGS.
    pool_special_tokens: whether mean and maximum include [CLS] and [SEP].

  Returns:
    "layer_output_0", "layer_output_1", ... -> float32 [B, S, H]. With pooling, "pooled" -> float32
    [B, W]: the pooled vectors of the layers one after the other, W = L * H, or L * 2 * H for
    mean_max, which is the mean and then the maximum.
  """
  inputs = (input_ids, input_mask, input_type_ids, use_one_hot_embeddings)
  model = modeling.BertModel(bert_config, False, *inputs)
  layers = [model.get_all_encoder_layers()[index] for index in layer_indexes]  # [B, S, H]
  if pooling == "none":
    return {f"layer_output_{i}": layer for i, layer in enumerate(layers)}
  mask = input_mask if pool_special_tokens else text_mask(input_mask, input_type_ids)
  return {"pooled": tf.concat([pool(layer, mask, pooling) for layer in layers], axis=-1)}


def text_mask(input_mask: tf.Tensor, input_type_ids: tf.Tensor) -> tf.Tensor:
  """Returns the mask of text: pieces, but the first, that another of the same text follows.

    [CLS] a b [SEP] c [SEP] [PAD]
      1   1 1   1   1   1     0     input_mask
      0   0 0   0   1   1     0     input_type_ids
      0   1 1   0   1   0     0     result

  All are int32 [B, S].
  """
  same_text = tf.equal(input_type_ids[:, 1:], input_type_ids[:, :-1])
  followed = input_mask[:, 1:] * tf.cast(same_text, tf.int32)  # [B, S - 1]
  return tf.pad(followed[:, 1:], [[0, 0], [1, 1]])


def pool(layer: tf.Tensor, mask: tf.Tensor, pooling: str) -> tf.Tensor:
  """Pools the vectors of a layer.

  Args:
    layer: float32 [B, S, H].
    mask: int32 [B, S], 1 for the vectors that count.
    pooling: member of vectors.POOLINGS but "none".

  Returns:
    float32 [B, H]; [B, 2 * H] for mean_max. Zeros where no vector counts, but for cls.
  """
  if pooling == "cls":
    return layer[:, 0]
  if pooling == "mean_max":
    return tf.concat([pool(layer, mask, "mean"), pool(layer, mask, "max")], axis=-1)
  counts = mask[:, :, tf.newaxis] > 0  # [B, S, 1]
  if pooling == "mean":
    number = tf.reduce_sum(tf.cast(counts, tf.float32), axis=1)  # [B, 1]
    return tf.reduce_sum(tf.where_v2(counts, layer, 0.0), axis=1) / tf.maximum(number, 1.0)
  highest = tf.reduce_max(tf.where_v2(counts, layer, layer.dtype.min), axis=1)  # [B, H]
  return tf.where_v2(tf.reduce_any(counts, axis=1), highest, 0.0)
