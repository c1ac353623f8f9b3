"""Classification in TensorFlow: input functions, the head over BERT's pooled output, its losses.

Kinds of output and their labels are in classification.py; here is the head of each of them.
"""

from collections.abc import Sequence
from typing import Optional, Union

import tensorflow.compat.v1 as tf

import modeling
import optimization
from toolkit.records import input_pipeline
from toolkit.tasks import classification, soft_targets
from toolkit.tasks.classification import CLASSES, KINDS, Kind

# ---- Input --------------------------------------------------------------------------------------


def file_based_input_fn_builder(
  input_file: str,
  seq_length: int,
  is_training: bool,
  drop_remainder: bool,
  kind: Kind = CLASSES,
  trim_padding: bool = False,
  seed: Optional[int] = None,
  num_seen: int = 0,
  num_labels: Optional[int] = None,
) -> input_pipeline.InputFn:
  """Makes the input_fn that reads what file_based_convert_examples_to_features wrote.

  Args:
    input_file: a TFRecord file.
    seq_length: S.
    kind, num_labels: see classification.record_features.
    is_training, and the others: see input_pipeline.read_input_fn.

  Returns:
    Function of params, a dict with "batch_size", to batches.
  """
  features = classification.record_features(seq_length, kind, num_labels)
  return input_pipeline.read_input_fn(
    input_file,
    features,
    is_training,
    drop_remainder,
    trim_padding=trim_padding,
    seed=seed,
    num_seen=num_seen,
  )


def input_fn_builder(
  features: Sequence[classification.InputFeatures],
  seq_length: int,
  is_training: bool,
  drop_remainder: bool,
) -> input_pipeline.InputFn:
  """Makes an input_fn of features in memory, for data small enough to be part of the graph.

  Args:
    features: of all examples.
    seq_length: S.
    is_training, drop_remainder: see input_pipeline.read_input_fn.

  Returns:
    Function of params, a dict with "batch_size", to batches with input_ids, input_mask,
    segment_ids, label_ids.
  """
  table = [f for f in classification.record_features(seq_length) if f.name != "is_real_example"]
  rows = [classification.feature_row(feature) for feature in features]
  return input_pipeline.slices_input_fn(rows, table, is_training, drop_remainder)


# ---- The head of each kind of output ------------------------------------------------------------

Metrics = dict[str, tuple[tf.Tensor, tf.Operation]]  # name -> value and update of tf.metrics


class OneLabelHead:
  """Softmax over L labels."""

  def no_labels(self, logits: tf.Tensor) -> tf.Tensor:
    """Returns label_ids of B unlabeled examples, int32 [B]; `logits` is float32 [B, L]."""
    return tf.zeros(modeling.get_shape_list(logits)[:1], tf.int32)

  def activate(self, logits: tf.Tensor) -> tf.Tensor:
    """Returns the probabilities, float32 [B, L]; their logarithms are the operation LogSoftmax."""
    tf.nn.log_softmax(logits)  # clients of exported graphs fetch it by name
    return tf.nn.softmax(logits)

  def losses(self, logits: tf.Tensor, label_ids: tf.Tensor) -> tf.Tensor:
    """Returns the cross-entropies in nats, float32 [B]; label_ids is int32 [B]."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=label_ids, logits=logits)

  def teacher_losses(
    self, logits: tf.Tensor, teacher_logits: tf.Tensor, temperature: float
  ) -> tf.Tensor:
    """Returns the losses against a teacher, float32 [B]; both logits are float32 [B, L]."""
    return soft_targets.class_losses(logits, teacher_logits, temperature)

  def streaming_metrics(
    self, losses: tf.Tensor, label_ids: tf.Tensor, logits: tf.Tensor, is_real: tf.Tensor
  ) -> Metrics:
    """Returns the metrics of an EVAL graph.

    Args:
      losses: float32 [B].
      label_ids: int32 [B].
      logits: float32 [B, L].
      is_real: int32 [B], 0 for rows that do not count.
    """
    weights = tf.cast(is_real, tf.float32)
    predictions = tf.argmax(logits, axis=-1, output_type=tf.int32)
    return {
      "eval_accuracy": tf.metrics.accuracy(label_ids, predictions, weights),
      **_mean_loss(losses, is_real),
    }


class MultiLabelHead:
  """A sigmoid per label. The methods are those of OneLabelHead; label_ids is float32 [B, L]."""

  activate = staticmethod(tf.sigmoid)
  no_labels = staticmethod(tf.zeros_like)
  teacher_losses = staticmethod(soft_targets.multi_label_losses)

  def losses(self, logits: tf.Tensor, label_ids: tf.Tensor) -> tf.Tensor:
    """Returns the means of the L binary cross-entropies in nats, float32 [B]."""
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=label_ids, logits=logits)  # [B, L]
    return tf.reduce_mean(losses, axis=1)

  def streaming_metrics(
    self, losses: tf.Tensor, label_ids: tf.Tensor, logits: tf.Tensor, is_real: tf.Tensor
  ) -> Metrics:
    """Returns the mean loss."""
    del label_ids, logits
    return _mean_loss(losses, is_real)


class RegressionHead(MultiLabelHead):
  """The logit itself. The methods are those of OneLabelHead; label_ids is float32 [B]."""

  activate = staticmethod(tf.identity)
  teacher_losses = staticmethod(soft_targets.regression_losses)

  def no_labels(self, logits: tf.Tensor) -> tf.Tensor:
    """Returns label_ids of B unlabeled examples, float32 [B]."""
    return tf.zeros_like(logits[:, 0])

  def losses(self, logits: tf.Tensor, label_ids: tf.Tensor) -> tf.Tensor:
    """Returns the squared errors, float32 [B]."""
    return tf.square(logits[:, 0] - label_ids)


def _mean_loss(losses, is_real):
  return {"eval_loss": tf.metrics.mean(losses, tf.cast(is_real, tf.float32))}


Head = Union[OneLabelHead, MultiLabelHead, RegressionHead]
HEADS: dict[Kind, Head] = dict(zip(KINDS, (OneLabelHead(), MultiLabelHead(), RegressionHead())))


# ---- The model ----------------------------------------------------------------------------------


def create_model(
  bert_config: modeling.BertConfig,
  is_training: bool,
  input_ids: tf.Tensor,
  input_mask: tf.Tensor,
  segment_ids: tf.Tensor,
  labels: Optional[tf.Tensor],
  num_labels: int,
  use_one_hot_embeddings: bool,
  kind: Kind = CLASSES,
  class_weights: Optional[Sequence[float]] = None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
  """Builds BERT with a dense layer over its pooled output.

  Args:
    bert_config: the encoder's.
    is_training: True for dropout.
    input_ids, input_mask, segment_ids: int32 [B, S].
    labels: label_ids as the kind has them: int32 [B], float32 [B, L] or float32 [B]; None for
      examples without labels, whose losses are undefined.
    num_labels: L; 1 for NUMBER.
    use_one_hot_embeddings: see modeling.BertModel.
    kind: the kind of output.
    class_weights: of the L labels; for CLASSES alone. The mean loss of training is then
      sum(weight of the label * loss) / B. It is not divided by the weights, so that parts of a
      batch add up.

  Returns:
    float32 scalar, the mean loss; float32 [B], the losses, never weighted; float32 [B, L], the
    logits; float32 [B, L], the probabilities (for NUMBER [B, 1], the predicted number).
  """
  inputs = (input_ids, input_mask, segment_ids, use_one_hot_embeddings)
  parts = _pooled_and_weights(bert_config, num_labels, is_training, *inputs)
  head = HEADS[kind]
  with tf.variable_scope("loss"):
    logits = _logits(parts, is_training)
    losses = head.losses(logits, head.no_labels(logits) if labels is None else labels)  # [B]
    counted = weighted(losses, labels, class_weights) if is_training else losses
    return tf.reduce_mean(counted), losses, logits, head.activate(logits)


def create_logits(
  bert_config: modeling.BertConfig,
  num_labels: int,
  input_ids: tf.Tensor,
  input_mask: tf.Tensor,
  segment_ids: tf.Tensor,
) -> tf.Tensor:
  """Builds the logits alone, float32 [B, L], without dropout; see create_model."""
  parts = _pooled_and_weights(bert_config, num_labels, False, input_ids, input_mask, segment_ids)
  with tf.variable_scope("loss"):
    return _logits(parts, is_training=False)


def _pooled_and_weights(bert_config, num_labels, is_training, *inputs):
  """Builds BERT; returns its pooled output, float32 [B, H], and the head's weights and bias."""
  pooled = modeling.BertModel(bert_config, is_training, *inputs).get_pooled_output()
  weights = tf.get_variable(
    "output_weights", [num_labels, pooled.shape[-1]], initializer=modeling.create_initializer(0.02)
  )
  bias = tf.get_variable("output_bias", [num_labels], initializer=tf.zeros_initializer())
  return pooled, weights, bias


def _logits(parts, is_training):
  """Builds the logits, float32 [B, L], from the parts of _pooled_and_weights."""
  pooled, weights, bias = parts
  pooled = modeling.dropout(pooled, 0.1 if is_training else 0.0)
  return tf.nn.bias_add(tf.matmul(pooled, weights, transpose_b=True), bias)


def weighted(
  losses: tf.Tensor, labels: tf.Tensor, class_weights: Optional[Sequence[float]]
) -> tf.Tensor:
  """Returns the losses times the weights of their labels, float32 [B]; see create_model."""
  if class_weights is None:
    return losses
  return losses * tf.gather(tf.constant(class_weights, tf.float32), labels)


def objective(
  features: dict[str, tf.Tensor],
  loss: tf.Tensor,
  losses: tf.Tensor,
  logits: tf.Tensor,
  kind: Kind,
  class_weights: Optional[Sequence[float]] = None,
  soft: Optional[soft_targets.SoftTargets] = None,
) -> optimization.Objective:
  """Returns the objective of a training batch.

  Of an example without a label the teacher's loss is the whole loss, in place of a share of it.

  Args:
    features: name -> tensor [B, ...], with soft_targets.TEACHER_LOGITS for a teacher.
    loss, losses, logits: see create_model.
    kind, class_weights: see create_model.
    soft: None for a training without a teacher.
  """
  if soft is None:
    return optimization.Objective([optimization.mean_of_examples(loss, losses)])
  losses = weighted(losses, features["label_ids"], class_weights)
  teacher_logits = features[soft_targets.TEACHER_LOGITS]
  teacher_losses = HEADS[kind].teacher_losses(logits, teacher_logits, soft.temperature)
  teacher_mean = optimization.mean_of_examples(tf.reduce_mean(teacher_losses), losses)
  if "is_labeled" in features:
    losses = tf.where(features["is_labeled"] > 0, losses, teacher_losses)
  mean = optimization.mean_of_examples(tf.reduce_mean(losses), losses)
  return soft.objective(mean, teacher_mean)
