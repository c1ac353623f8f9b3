"""Losses of knowledge distillation, as functions of the student's and the teacher's logits.

  classes, tags, first and last word piece   class_losses, span_losses
  several labels per text                    multi_label_losses
  numbers                                    regression_losses

Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network".
"""

from typing import NamedTuple, Optional

import tensorflow.compat.v1 as tf

import optimization

# The feature of training records with the teacher's logits.
TEACHER_LOGITS = "teacher_logits"

# In place of minus infinity among logits; finite in float16, too.
_NEVER = -1e4


class SoftTargets(NamedTuple):
  """The mixture of the labels' loss and the teacher's.

  Temperature and mixture are those of Hinton et al. 2015, section 2; Sanh et al. 2019 train with
  both, too. By default labels and teacher have equal shares.

  Attributes:
    temperature: divides both models' logits, above 0. The higher it is, the larger is the weight of
      classes to which the teacher gives low probabilities.
    alpha: from 0 to 1, the share of the soft loss; the rest is that of the labels.
  """

  temperature: float = 2.0
  alpha: float = 0.5

  def objective(
    self, hard: optimization.Mean, soft: optimization.Mean, sees_padding: bool = False
  ) -> optimization.Objective:
    """Returns the mixture of the labels' loss (hard) and the teacher's (soft), with both values."""
    terms = [
      mean._replace(value=share * mean.value)
      for share, mean in ((1.0 - self.alpha, hard), (self.alpha, soft))
    ]
    shown = {"label_loss": hard, "teacher_loss": soft}
    return optimization.Objective(terms, shown, sees_padding)


def class_losses(
  logits: tf.Tensor,
  teacher_logits: tf.Tensor,
  temperature: float,
  mask: Optional[tf.Tensor] = None,
) -> tf.Tensor:
  """Returns the student's divergence from the teacher, T^2 KL(teacher || student).

  The distributions are softmax(logits / T). T^2 keeps the gradients as large as those of the labels
  (Hinton et al. 2015, section 2). The divergence is their cross-entropy without the teacher's own
  entropy: it has the same gradients, and is 0 where both agree.

    student [0, 0], teacher [log 3, 0], T = 1: 3/4 log(3/2) + 1/4 log(1/2) = 0.1308

  Args:
    logits, teacher_logits: float32 [..., W].
    temperature: T.
    mask: int32 [..., W] or broadcast to it: 0 for impossible classes.

  Returns:
    float32 [...], in nats.
  """
  student, teacher = (
    tf.nn.log_softmax(_masked(values / temperature, mask)) for values in (logits, teacher_logits)
  )
  return temperature**2 * tf.reduce_sum(tf.exp(teacher) * (teacher - student), axis=-1)


def _masked(logits, mask):
  if mask is None:
    return logits
  mask = tf.broadcast_to(mask, tf.shape(logits)) > 0
  return tf.where(mask, logits, tf.fill(tf.shape(logits), _NEVER))


def span_losses(
  start_logits: tf.Tensor,
  end_logits: tf.Tensor,
  teacher_logits: tf.Tensor,
  input_mask: tf.Tensor,
  temperature: float,
) -> tf.Tensor:
  """Returns the mean class_losses of the first and the last word piece of answers, float32 [B].

  Args:
    start_logits, end_logits: float32 [B, S].
    teacher_logits: float32 [B, S, 2], the teacher's for first and last.
    input_mask: int32 [B, S], 0 for padding, which is no possible class here.
    temperature: see class_losses.
  """
  student = tf.stack([start_logits, end_logits], axis=1)  # [B, 2, S]
  teacher = tf.transpose(teacher_logits, [0, 2, 1])
  losses = class_losses(student, teacher, temperature, input_mask[:, tf.newaxis])  # [B, 2]
  return tf.reduce_mean(losses, axis=1)


def multi_label_losses(
  logits: tf.Tensor, teacher_logits: tf.Tensor, temperature: float
) -> tf.Tensor:
  """Returns the mean over the L labels of class_losses of two classes, yes and no: float32 [B].

  The sigmoid of the logits, float32 [B, L], is the probability of a label.
  """
  # Yes has the label's logit, no has 0.
  student, teacher = (
    tf.stack([z, tf.zeros_like(z)], axis=-1)
    for z in (logits, teacher_logits)  # [B, L, 2]
  )
  return tf.reduce_mean(class_losses(student, teacher, temperature), axis=1)


def regression_losses(
  logits: tf.Tensor, teacher_logits: tf.Tensor, temperature: float
) -> tf.Tensor:
  """Returns the squared differences, float32 [B], of numbers, float32 [B, 1]."""
  del temperature
  return tf.square(logits[:, 0] - teacher_logits[:, 0])
