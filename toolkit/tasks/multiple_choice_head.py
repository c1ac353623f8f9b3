"""The head of multiple choice: a score for each choice, and a softmax over the choices."""

from typing import Optional

import tensorflow.compat.v1 as tf

import modeling
import optimization
from toolkit.records import tf_records
from toolkit.tasks.soft_targets import TEACHER_LOGITS, SoftTargets, class_losses

# Added to the scores of choices that a question does not have; finite in float16, too.
_NEVER = -1e4


def create_model(
  bert_config: modeling.BertConfig,
  is_training: bool,
  input_ids: tf.Tensor,
  input_mask: tf.Tensor,
  segment_ids: tf.Tensor,
  choice_mask: tf.Tensor,
  label_ids: tf.Tensor,
  use_one_hot_embeddings: bool,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
  """Builds BERT over each choice, and a softmax over the choices of a question.

  Args:
    bert_config, is_training, use_one_hot_embeddings: see modeling.BertModel.
    input_ids, input_mask, segment_ids: int32 [B, S, C], an input for each of C choices.
    choice_mask: int32 [B, C], 0 for choices that a question does not have.
    label_ids: int32 [B], places of the right choices.

  Returns:
    float32 scalar, the mean loss; float32 [B], the losses (cross-entropy in nats); float32 [B, C],
    the logits; float32 [B, C], the probabilities.
  """
  inputs = [_one_row_a_choice(tensor) for tensor in (input_ids, input_mask, segment_ids)]
  scores = choice_scores(bert_config, is_training, *inputs, use_one_hot_embeddings)  # [B * C, 1]
  shape = modeling.get_shape_list(choice_mask)
  absent = tf.cast(1 - choice_mask, tf.float32)
  logits = tf.reshape(scores, shape) + _NEVER * absent  # [B, C]
  losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=label_ids, logits=logits)
  return tf.reduce_mean(losses), losses, logits, tf.nn.softmax(logits)


def _one_row_a_choice(tensor):
  """Reshapes int32 [B, S, C] to [B * C, S], the choices of a question one after the other."""
  batch_size, length, width = modeling.get_shape_list(tensor, expected_rank=3)
  return tf.reshape(tf.transpose(tensor, [0, 2, 1]), [batch_size * width, length])


def choice_scores(
  bert_config: modeling.BertConfig, is_training: bool, *inputs: tf.Tensor
) -> tf.Tensor:
  """Builds the scores of N choices, float32 [N, 1]; `inputs` are the others of modeling.BertModel.

  A score is the product of the pooled output with one vector, the only new parameters (Devlin et
  al. 2018, section 4.4).
  """
  pooled = modeling.BertModel(bert_config, is_training, *inputs).get_pooled_output()  # [N, H]
  pooled = modeling.dropout(pooled, 0.1 if is_training else 0.0)
  weights = tf.get_variable(
    "cls/multiple_choice/output_weights",
    [1, pooled.shape[-1]],
    initializer=modeling.create_initializer(0.02),
  )
  return tf.matmul(pooled, weights, transpose_b=True)


def model_inputs(features: dict[str, tf.Tensor]) -> list[tf.Tensor]:
  """Returns those of the columns of multiple_choice.record_features that create_model takes."""
  return [features[name] for name in (*tf_records.INPUTS, "choice_mask", "label_ids")]


def objective(
  features: dict[str, tf.Tensor],
  loss: tf.Tensor,
  losses: tf.Tensor,
  logits: tf.Tensor,
  soft_targets: Optional[SoftTargets] = None,
) -> optimization.Objective:
  """Returns the loss of a batch for training.

  Args:
    features: columns of multiple_choice.record_features, and TEACHER_LOGITS, float32 [B, C], with
      soft_targets.
    loss, losses, logits: see create_model.
    soft_targets: None for a training without a teacher.
  """
  mean = optimization.mean_of_examples(loss, losses)
  if soft_targets is None:
    return optimization.Objective([mean])
  teacher_logits, mask = features[TEACHER_LOGITS], features["choice_mask"]
  teacher_losses = class_losses(logits, teacher_logits, soft_targets.temperature, mask)  # [B]
  return soft_targets.objective(mean, mean._replace(value=tf.reduce_mean(teacher_losses)))
