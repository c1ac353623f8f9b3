"""The head of tagging: a dense layer over each word piece, and its loss."""

from typing import Optional

import tensorflow.compat.v1 as tf

import modeling
import optimization
from toolkit.tasks.soft_targets import TEACHER_LOGITS, SoftTargets, class_losses


def create_model(
  bert_config: modeling.BertConfig,
  is_training: bool,
  input_ids: tf.Tensor,
  input_mask: tf.Tensor,
  segment_ids: tf.Tensor,
  label_ids: tf.Tensor,
  label_mask: tf.Tensor,
  num_labels: int,
  use_one_hot_embeddings: bool,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
  """Builds BERT with a dense layer over each word piece (Devlin et al. 2018, section 5.3).

  Args:
    bert_config, is_training, use_one_hot_embeddings: see modeling.BertModel.
    input_ids, input_mask, segment_ids: int32 [B, S].
    label_ids: int32 [B, S], places of the labels in the list.
    label_mask: int32 [B, S], 1 for the pieces that are scored, 0 for others.
    num_labels: L.

  Returns:
    float32 scalar, the mean loss of the scored pieces; float32 [B, S], the losses
    (cross-entropy in nats, 0 where nothing is scored); float32 [B, S, L], the logits; float32
    [B, S, L], the probabilities.
  """
  inputs = (input_ids, input_mask, segment_ids, use_one_hot_embeddings)
  scores = logits(bert_config, num_labels, is_training, *inputs)
  losses = tf.cast(label_mask, tf.float32) * tf.nn.sparse_softmax_cross_entropy_with_logits(
    labels=label_ids, logits=scores
  )  # [B, S]
  loss = tf.reduce_sum(losses) / num_scored(label_mask)
  return loss, losses, scores, tf.nn.softmax(scores)


def logits(
  bert_config: modeling.BertConfig, num_labels: int, is_training: bool, *inputs: tf.Tensor
) -> tf.Tensor:
  """Builds the logits, float32 [B, S, L]; `inputs` are the others of modeling.BertModel."""
  model = modeling.BertModel(bert_config, is_training, *inputs)
  hidden = modeling.dropout(model.get_sequence_output(), 0.1 if is_training else 0.0)  # [B, S, H]
  weights = tf.get_variable(
    "cls/ner/output_weights",
    [num_labels, hidden.shape[-1]],
    initializer=modeling.create_initializer(0.02),
  )
  bias = tf.get_variable("cls/ner/output_bias", [num_labels], initializer=tf.zeros_initializer())
  return tf.einsum("bsh,lh->bsl", hidden, weights) + bias


def num_scored(label_mask: tf.Tensor) -> tf.Tensor:
  """Returns the denominator of the mean loss, float32 scalar above 0.

  A batch, or a part of it, may have nothing to score: windows within one word.
  """
  return tf.maximum(tf.reduce_sum(tf.cast(label_mask, tf.float32)), 1e-5)


def objective(
  features: dict[str, tf.Tensor],
  loss: tf.Tensor,
  logits: tf.Tensor,
  soft_targets: Optional[SoftTargets] = None,
) -> optimization.Objective:
  """Returns the loss of a batch for training.

  Args:
    features: columns of tagging.record_features, and TEACHER_LOGITS with soft_targets.
    loss: float32 scalar, the mean loss of create_model.
    logits: float32 [B, S, L].
    soft_targets: None for a training without a teacher.
  """
  mean = optimization.Mean(loss, num_scored(features["label_mask"]))
  if soft_targets is None:
    return optimization.Objective([mean])
  losses = class_losses(logits, features[TEACHER_LOGITS], soft_targets.temperature)  # [B, S]
  teacher_loss = tf.reduce_sum(losses * tf.cast(features["label_mask"], tf.float32)) / mean.count
  return soft_targets.objective(mean, mean._replace(value=teacher_loss))


def predictions(losses: tf.Tensor, logits: tf.Tensor) -> dict[str, tf.Tensor]:
  """Returns the outputs of a prediction: `losses` float32 [B, S], `label_ids` int32 [B, S]."""
  return {"losses": losses, "label_ids": tf.argmax(logits, axis=-1, output_type=tf.int32)}
