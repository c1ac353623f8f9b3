"""Scores and losses of multiple choice by hand."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import modeling
from toolkit.tasks import multiple_choice_head
from toolkit.tasks.soft_targets import SoftTargets

CONFIG = modeling.BertConfig.from_dict(
  {
    "vocab_size": 10,
    "hidden_size": 8,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "intermediate_size": 16,
    "initializer_range": 0.5,
  }
)
# Two questions; the second one has two of three choices.
IDS = np.array([[[2, 5, 3], [2, 6, 3], [2, 7, 3]], [[2, 8, 3], [2, 9, 3], [0, 0, 0]]])  # [B, C, S]
CHOICES = np.array([[1, 1, 1], [1, 1, 0]])
LABELS = np.array([2, 0])


def run(present=CHOICES):
  """Outputs of create_model, the pooled outputs [B * C, H] of the same weights, and the vector."""
  by_token = IDS.transpose(0, 2, 1)
  inputs = (by_token, (by_token > 0).astype(int), 0 * by_token)
  with tf.Graph().as_default(), tf.Session() as session:
    tf.set_random_seed(1)
    tensors = [tf.constant(values, tf.int32) for values in (*inputs, present, LABELS)]
    outputs = multiple_choice_head.create_model(CONFIG, False, *tensors, False)
    with tf.variable_scope(tf.get_variable_scope(), reuse=True):
      rows = IDS.reshape(-1, 3)
      model = modeling.BertModel(CONFIG, False, rows, (rows > 0).astype(int), scope="bert")
    session.run(tf.global_variables_initializer())
    (vector,) = (v for v in tf.trainable_variables() if not v.op.name.startswith("bert/"))
    assert vector.op.name == "cls/multiple_choice/output_weights"
    assert vector.shape.as_list() == [1, 8]
    return session.run([*outputs, model.get_pooled_output(), vector])


def test_a_score_is_the_product_with_one_vector():
  loss, losses, logits, probabilities, pooled, vector = run()
  scores = (pooled @ vector[0]).reshape(2, 3)
  np.testing.assert_allclose(logits[CHOICES > 0], scores[CHOICES > 0], rtol=1e-5)
  for row, count in enumerate((3, 2)):
    exp = np.exp(scores[row, :count])
    np.testing.assert_allclose(probabilities[row, :count], exp / exp.sum(), rtol=1e-5)
    want = -np.log(exp / exp.sum())[LABELS[row]]
    np.testing.assert_allclose(losses[row], want, rtol=1e-4)
  assert probabilities[1, 2] == 0
  assert loss == pytest.approx(losses.mean(), rel=1e-5)


def test_a_row_without_a_choice_is_harmless():
  _, losses, _, probabilities, *_ = run(present=np.array([[1, 1, 1], [0, 0, 0]]))
  assert np.isfinite(losses).all() and np.isfinite(probabilities).all()


def test_a_teacher_counts_for_the_choices_that_there_are():
  with tf.Graph().as_default(), tf.Session() as session:
    features = {
      "teacher_logits": tf.constant([[np.log(3.0), 0, 9]], tf.float32),
      "choice_mask": tf.constant([[1, 1, 0]]),
    }
    logits = tf.constant([[0.0, 0.0, -1e4]])
    objective = multiple_choice_head.objective(
      features, tf.constant(2.0), tf.constant([2.0]), logits, SoftTargets(1.0, alpha=0.25)
    )
    expected = 0.75 * 2 + 0.25 * 0.13081204  # see soft_targets.class_losses
    assert session.run(objective.loss_value()) == pytest.approx(expected, rel=1e-5)
