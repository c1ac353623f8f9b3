"""Losses of distillation, by hand and against other ways to compute them."""

import math

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import optimization
from toolkit.tasks import soft_targets

NOTHING = -50.0  # a masked logit, whose value must not count


def evaluate(build):
  with tf.Graph().as_default(), tf.Session() as session:
    return session.run(build())


def constant(values):
  return tf.constant(values, tf.float32)


def test_class_losses_by_hand():
  student, teacher = [[0.0, 0.0], [2.0, 0.0]], [[math.log(3), 0.0], [2.0, 0.0]]
  losses = evaluate(lambda: soft_targets.class_losses(constant(student), constant(teacher), 1.0))
  np.testing.assert_allclose(losses, [0.75 * math.log(1.5) + 0.25 * math.log(0.5), 0], atol=1e-5)


def test_temperature_flattens_and_is_made_up_for():
  student, teacher = [[0.0, 0.0]], [[2 * math.log(3), 0.0]]
  losses = evaluate(lambda: soft_targets.class_losses(constant(student), constant(teacher), 2.0))
  np.testing.assert_allclose(losses, [4 * 0.13081204], atol=1e-5)


@pytest.mark.parametrize(
  ("temperature", "expected"),
  [
    (1.0, [1.64701903, 4.81445932, 2.14627957, 0.76809418, 5.01030159]),
    (2.0, [1.97289443, 7.01972198, 3.44127321, 2.00753760, 7.84203482]),
    (5.0, [2.01113415, 8.94136715, 4.21371031, 3.16261387, 9.34440899]),
  ],
)
def test_class_losses_are_pytorchs_kl_divergence(temperature, expected):
  """T^2 times torch.nn.functional.kl_div of these logits, summed over a row."""
  logits = np.random.default_rng(7).normal(scale=3.0, size=(2, 5, 7)).astype(np.float32)
  losses = evaluate(lambda: soft_targets.class_losses(*map(tf.constant, logits), temperature))
  np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_padding_is_no_choice_for_an_answer():
  teacher = [[[math.log(3), 1.0], [0.0, 1.0], [NOTHING, 9.0]]]  # first and last, of 3 pieces

  def build():
    start, end = constant([[0.0, 0.0, 99.0]]), constant([[5.0, 5.0, 0.0]])
    mask = tf.constant([[1, 1, 0]])
    losses = soft_targets.span_losses(start, end, constant(teacher), mask, 1.0)
    return losses, tf.gradients(losses, [start, end])

  losses, gradients = evaluate(build)
  np.testing.assert_allclose(losses, [0.13081204 / 2], atol=1e-5)
  # That of the start is (student's - teacher's probability) / 2.
  np.testing.assert_allclose(gradients[0], [[-0.125, 0.125, 0]], atol=1e-5)
  np.testing.assert_allclose(gradients[1], np.zeros([1, 3]), atol=1e-5)


def test_labels_are_judged_one_by_one():
  student, teacher = [[0.0, 1.0]], [[math.log(3), 1.0]]
  losses = evaluate(
    lambda: soft_targets.multi_label_losses(constant(student), constant(teacher), 1.0)
  )
  np.testing.assert_allclose(losses, [0.13081204 / 2], atol=1e-5)


def test_numbers_are_compared_by_squares():
  losses = evaluate(
    lambda: soft_targets.regression_losses(constant([[1.0], [4.0]]), constant([[3.0], [4.5]]), 2.0)
  )
  np.testing.assert_allclose(losses, [4.0, 0.25], rtol=1e-5)


def test_shares_of_the_losses():
  hard, soft = optimization.Mean(8.0, 3.0), optimization.Mean(4.0, 5.0)
  objective = soft_targets.SoftTargets(alpha=0.25).objective(hard, soft)
  assert objective.loss_value() == 0.75 * 8 + 0.25 * 4
  assert objective.shown == {"label_loss": hard, "teacher_loss": soft}
