"""The head of question answering: logits of the first and last word piece, and their loss."""

from typing import Optional

import tensorflow.compat.v1 as tf

import modeling
import optimization
from toolkit.records import input_pipeline
from toolkit.tasks import squad
from toolkit.tasks.soft_targets import TEACHER_LOGITS, SoftTargets, span_losses


def input_fn_builder(
  input_file: str,
  seq_length: int,
  is_training: bool,
  drop_remainder: bool,
  trim_padding: bool = False,
  seed: Optional[int] = None,
  num_seen: int = 0,
) -> input_pipeline.InputFn:
  """Makes the input_fn that reads the TFRecord file of windows.

  Args:
    input_file: as squad.write_feature_records or FeatureWriter writes it.
    seq_length: S.
    is_training, and the others: see input_pipeline.read_input_fn.

  Returns:
    Function of params, a dict with "batch_size", to batches.
  """
  features = squad.record_features(seq_length, is_training)
  return input_pipeline.read_input_fn(
    input_file,
    features,
    is_training,
    drop_remainder,
    trim_padding=trim_padding,
    seed=seed,
    num_seen=num_seen,
  )


def create_model(
  bert_config: modeling.BertConfig,
  is_training: bool,
  input_ids: tf.Tensor,
  input_mask: tf.Tensor,
  segment_ids: tf.Tensor,
  use_one_hot_embeddings: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
  """Builds BERT with two logits per word piece: as the first and as the last of the answer.

  For the arguments see modeling.BertModel; the inputs are int32 [B, S].

  Returns:
    Two of float32 [B, S]: start logits and end logits (Devlin et al. 2018, section 4.2).
  """
  inputs = (input_ids, input_mask, segment_ids, use_one_hot_embeddings)
  model = modeling.BertModel(bert_config, is_training, *inputs)
  hidden = model.get_sequence_output()  # [B, S, H]
  weights = tf.get_variable(
    "cls/squad/output_weights",
    [2, hidden.shape[-1]],
    initializer=modeling.create_initializer(0.02),
  )
  bias = tf.get_variable("cls/squad/output_bias", [2], initializer=tf.zeros_initializer())
  logits = tf.einsum("bsh,oh->obs", hidden, weights) + bias[:, tf.newaxis, tf.newaxis]  # [2, B, S]
  return tuple(tf.unstack(logits))


def span_loss(
  start_logits: tf.Tensor,
  end_logits: tf.Tensor,
  start_positions: tf.Tensor,
  end_positions: tf.Tensor,
) -> tf.Tensor:
  """Returns the mean cross-entropy, in nats, of the first and the last word piece, a scalar.

  Args:
    start_logits, end_logits: float32 [B, S].
    start_positions, end_positions: int32 [B].
  """
  losses = [
    tf.nn.sparse_softmax_cross_entropy_with_logits(labels=positions, logits=logits)  # [B]
    for logits, positions in ((start_logits, start_positions), (end_logits, end_positions))
  ]
  return tf.reduce_mean(losses)


def stacked_logits(
  config: modeling.BertConfig,
  input_ids: tf.Tensor,
  input_mask: tf.Tensor,
  segment_ids: tf.Tensor,
) -> tf.Tensor:
  """Builds the logits, float32 [B, S, 2], without dropout, from the inputs of create_model."""
  logits = create_model(config, False, input_ids, input_mask, segment_ids, False)
  return tf.stack(logits, axis=-1)


def objective(
  features: dict[str, tf.Tensor],
  start_logits: tf.Tensor,
  end_logits: tf.Tensor,
  soft_targets: Optional[SoftTargets] = None,
) -> optimization.Objective:
  """Returns the loss of a batch for training.

  Args:
    features: columns of squad.record_features, and TEACHER_LOGITS with soft_targets.
    start_logits, end_logits: float32 [B, S].
    soft_targets: None for a training without a teacher.
  """
  starts, ends = features["start_positions"], features["end_positions"]
  loss = span_loss(start_logits, end_logits, starts, ends)
  mean = optimization.mean_of_examples(loss, starts)
  if soft_targets is None:
    # The softmax is over all positions, those of padding too.
    return optimization.Objective([mean], sees_padding=True)
  teacher_losses = span_losses(
    start_logits,
    end_logits,
    features[TEACHER_LOGITS],
    features["input_mask"],
    soft_targets.temperature,
  )
  teacher_mean = optimization.mean_of_examples(tf.reduce_mean(teacher_losses), starts)
  return soft_targets.objective(mean, teacher_mean, sees_padding=True)
