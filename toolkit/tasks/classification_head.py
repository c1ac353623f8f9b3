"""Classification in TensorFlow: input functions, the head over BERT's pooled output, its losses.

Kinds of output and their labels are in classification.py; here is the head of each of them.
"""

import tensorflow.compat.v1 as tf

import modeling
import optimization
from toolkit.records import input_pipeline
from toolkit.tasks import classification, soft_targets
from toolkit.tasks.classification import CLASSES, KINDS

# ---- Input --------------------------------------------------------------------------------------


def file_based_input_fn_builder(
  input_file,
  seq_length,
  is_training,
  drop_remainder,
  kind=CLASSES,
  trim_padding=False,
  seed=None,
  num_seen=0,
  num_labels=None,
):
  """Makes the input_fn that reads what file_based_convert_examples_to_features wrote.

  Args:
    input_file: str, a TFRecord file.
    seq_length: int, S.
    kind, num_labels: see classification.record_features.
    is_training, and the others: see input_pipeline.read_input_fn.

  Returns:
    Function of params, a dict with "batch_size", to a tf.data.Dataset of batches.
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


def input_fn_builder(features, seq_length, is_training, drop_remainder):
  """Makes an input_fn of features in memory, for data small enough to be part of the graph.

  Args:
    features: list of classification.InputFeatures.
    seq_length: int, S.
    is_training, drop_remainder: see input_pipeline.read_input_fn.

  Returns:
    Function of params, a dict with "batch_size", to a tf.data.Dataset of batches with input_ids,
    input_mask, segment_ids, label_ids.
  """
  table = [f for f in classification.record_features(seq_length) if f.name != "is_real_example"]
  rows = [classification.feature_row(feature) for feature in features]
  return input_pipeline.slices_input_fn(rows, table, is_training, drop_remainder)


# ---- The head of each kind of output ------------------------------------------------------------


class OneLabelHead:
  """Softmax over L labels."""

  def no_labels(self, logits):
    """Returns label_ids of B unlabeled examples, int32 [B]; `logits` is float32 [B, L]."""
    return tf.zeros(modeling.get_shape_list(logits)[:1], tf.int32)

  def activate(self, logits):
    """Returns the probabilities, float32 [B, L]; their logarithms are the operation LogSoftmax."""
    tf.nn.log_softmax(logits)  # clients of exported graphs fetch it by name
    return tf.nn.softmax(logits)

  def losses(self, logits, label_ids):
    """Returns the cross-entropies in nats, float32 [B]; label_ids is int32 [B]."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=label_ids, logits=logits)

  def teacher_losses(self, logits, teacher_logits, temperature):
    """Returns the losses against a teacher, float32 [B]; both logits are float32 [B, L]."""
    return soft_targets.class_losses(logits, teacher_logits, temperature)

  def streaming_metrics(self, losses, label_ids, logits, is_real):
    """Returns the metrics of an EVAL graph: dict of name -> tf.metrics pair.

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

  def losses(self, logits, label_ids):
    """Returns the means of the L binary cross-entropies in nats, float32 [B]."""
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=label_ids, logits=logits)  # [B, L]
    return tf.reduce_mean(losses, axis=1)

  def streaming_metrics(self, losses, label_ids, logits, is_real):
    """Returns the mean loss."""
    del label_ids, logits
    return _mean_loss(losses, is_real)


class RegressionHead(MultiLabelHead):
  """The logit itself. The methods are those of OneLabelHead; label_ids is float32 [B]."""

  activate = staticmethod(tf.identity)
  teacher_losses = staticmethod(soft_targets.regression_losses)

  def no_labels(self, logits):
    """Returns label_ids of B unlabeled examples, float32 [B]."""
    return tf.zeros_like(logits[:, 0])

  def losses(self, logits, label_ids):
    """Returns the squared errors, float32 [B]."""
    return tf.square(logits[:, 0] - label_ids)


def _mean_loss(losses, is_real):
  return {"eval_loss": tf.metrics.mean(losses, tf.cast(is_real, tf.float32))}


HEADS = dict(zip(KINDS, (OneLabelHead(), MultiLabelHead(), RegressionHead())))


# ---- The model ----------------------------------------------------------------------------------


def create_model(
  bert_config,
  is_training,
  input_ids,
  input_mask,
  segment_ids,
  labels,
  num_labels,
  use_one_hot_embeddings,
  kind=CLASSES,
  class_weights=None,
):
  """Builds BERT with a dense layer over its pooled output.

  Args:
    bert_config: modeling.BertConfig.
    is_training: bool, whether there is dropout.
    input_ids, input_mask, segment_ids: int32 [B, S].
    labels: label_ids as the kind has them: int32 [B], float32 [B, L] or float32 [B]; None for
      examples without labels, whose losses are undefined.
    num_labels: int, L; 1 for NUMBER.
    use_one_hot_embeddings: bool, see modeling.BertModel.
    kind: member of classification.KINDS.
    class_weights: list of L float, or None; for CLASSES alone. The mean loss of training is then
      sum(weight of the label * loss) / B. It is not divided by the weights, so that parts of a
      batch add up.

  Returns:
    A tuple: float32 scalar, the mean loss; float32 [B], the losses, never weighted; float32
    [B, L], the logits; float32 [B, L], the probabilities (for NUMBER [B, 1], the predicted number).
  """
  inputs = (input_ids, input_mask, segment_ids, use_one_hot_embeddings)
  parts = _pooled_and_weights(bert_config, num_labels, is_training, *inputs)
  head = HEADS[kind]
  with tf.variable_scope("loss"):
    logits = _logits(*parts, is_training)
    losses = head.losses(logits, head.no_labels(logits) if labels is None else labels)  # [B]
    counted = weighted(losses, labels, class_weights) if is_training else losses
    return tf.reduce_mean(counted), losses, logits, head.activate(logits)


def create_logits(bert_config, num_labels, input_ids, input_mask, segment_ids):
  """Builds the logits alone, float32 [B, L], without dropout; see create_model."""
  parts = _pooled_and_weights(bert_config, num_labels, False, input_ids, input_mask, segment_ids)
  with tf.variable_scope("loss"):
    return _logits(*parts, is_training=False)


def _pooled_and_weights(bert_config, num_labels, is_training, *inputs):
  """Builds BERT; returns its pooled output, float32 [B, H], and the head's weights and bias."""
  pooled = modeling.BertModel(bert_config, is_training, *inputs).get_pooled_output()
  weights = tf.get_variable(
    "output_weights", [num_labels, pooled.shape[-1]], initializer=modeling.create_initializer(0.02)
  )
  bias = tf.get_variable("output_bias", [num_labels], initializer=tf.zeros_initializer())
  return pooled, weights, bias


def _logits(pooled, weights, bias, is_training):
  pooled = modeling.dropout(pooled, 0.1 if is_training else 0.0)
  return tf.nn.bias_add(tf.matmul(pooled, weights, transpose_b=True), bias)


def weighted(losses, labels, class_weights):
  """Returns the losses times the weights of their labels, float32 [B]; see create_model."""
  if class_weights is None:
    return losses
  return losses * tf.gather(tf.constant(class_weights, tf.float32), labels)


def objective(features, loss, losses, logits, kind, class_weights=None, soft=None):
  """Returns the optimization.Objective of a training batch.

  Of an example without a label the teacher's loss is the whole loss, in place of a share of it.

  Args:
    features: dict of name -> tensor [B, ...], with soft_targets.TEACHER_LOGITS for a teacher.
    loss, losses, logits: see create_model.
    kind, class_weights: see create_model.
    soft: soft_targets.SoftTargets, or None for a training without a teacher.
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
