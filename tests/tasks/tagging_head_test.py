"""Losses of tagging by hand."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import modeling
from toolkit.tasks import tagging_head
from toolkit.tasks.soft_targets import SoftTargets


def tiny_config():
  return modeling.BertConfig.from_dict(
    {"vocab_size": 10, "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
  )


def test_loss_is_the_mean_over_scored_pieces():
  ids = np.array([[2, 5, 6, 3, 0], [2, 7, 3, 0, 0]])
  mask = (ids > 0).astype(int)
  scored = np.array([[0, 1, 1, 0, 0], [0, 1, 0, 0, 0]])
  label_ids = np.array([[0, 2, 1, 0, 0], [0, 2, 0, 0, 0]])
  with tf.Graph().as_default(), tf.Session() as session:
    tf.set_random_seed(1)
    outputs = tagging_head.create_model(
      tiny_config(), False, ids, mask, np.zeros_like(ids), label_ids, scored, 3, False
    )
    session.run(tf.global_variables_initializer())
    loss, losses, logits, probabilities = session.run(outputs)
    names = {v.op.name: v.shape.as_list() for v in tf.trainable_variables()}
  assert names["cls/ner/output_weights"] == [3, 8] and names["cls/ner/output_bias"] == [3]
  want = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  np.testing.assert_allclose(probabilities, want, rtol=1e-5)
  of_labels = np.take_along_axis(want, label_ids[..., np.newaxis], -1)[..., 0]
  np.testing.assert_allclose(losses, -np.log(of_labels) * scored, rtol=1e-4)
  assert loss == pytest.approx(losses.sum() / 3, rel=1e-5)


def test_nothing_to_score_is_no_loss():
  ids = np.ones([1, 4], int)
  with tf.Graph().as_default(), tf.Session() as session:
    outputs = tagging_head.create_model(
      tiny_config(), True, ids, ids, 0 * ids, 0 * ids, 0 * ids, 3, False
    )
    session.run(tf.global_variables_initializer())
    assert session.run(outputs[0]) == 0


def test_a_teacher_counts_where_tags_are_scored():
  with tf.Graph().as_default(), tf.Session() as session:
    features = {
      "teacher_logits": tf.constant([[[9.0, -9.0], [np.log(3.0), 0], [-9, 9]]], tf.float32),
      "label_mask": tf.constant([[0, 1, 0]]),
    }
    objective = tagging_head.objective(
      features,
      tf.constant(2.0),
      tf.zeros([1, 3, 2]),
      SoftTargets(temperature=1.0, alpha=0.25),
    )
    expected = 0.75 * 2 + 0.25 * 0.13081204  # see soft_targets.class_losses
    assert session.run(objective.loss_value()) == pytest.approx(expected, rel=1e-5)
