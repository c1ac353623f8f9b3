"""Losses of the classifier's heads by hand, with class weights, padding and a teacher."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tiny_runs import SPECIAL, config_of

import modeling
from toolkit.tasks import classification, classification_head, soft_targets

CONFIG = config_of([*SPECIAL, "good", "bad", "film", "the", "was"])


def head(labels, kind, is_training=False, **options):
  """Outputs of create_model for three texts and three outputs, and a gradient, in NumPy."""
  with tf.Graph().as_default(), tf.Session() as session:
    tf.set_random_seed(2)
    ids = tf.constant([[2, 5, 6, 3], [2, 7, 3, 0], [2, 8, 9, 3]])
    config = modeling.BertConfig.from_dict(CONFIG)
    created = classification_head.create_model(
      *(config, is_training, ids, tf.sign(ids), ids * 0, tf.constant(labels), 3, False),
      **({"kind": kind} if kind else {}),
      **options,
    )
    (weights,) = [v for v in tf.trainable_variables() if v.op.name == "output_weights"]
    session.run(tf.global_variables_initializer())
    return session.run([*created, tf.gradients(created[0], weights)[0]])


def test_loss_of_several_labels():
  multi_hot = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]], np.float32)
  loss, losses, logits, probabilities, _ = head(multi_hot, classification.LABELS)
  np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-logits)), rtol=1e-5)
  entropies = -np.log(np.where(multi_hot == 1, probabilities, 1 - probabilities))
  np.testing.assert_allclose(losses, entropies.mean(axis=1), rtol=1e-5)
  assert loss == pytest.approx(entropies.mean(), rel=1e-5)


def test_weights_of_classes_count_in_training_alone():
  labels = [2, 0, 2]
  weights = [0.5, 9.0, 3.0]
  loss, losses, *_ = head(labels, None, is_training=True, class_weights=weights)
  assert loss == pytest.approx((3 * losses[0] + 0.5 * losses[1] + 3 * losses[2]) / 3, rel=1e-5)
  loss, losses, *_ = head(labels, None, class_weights=weights)
  assert loss == pytest.approx(losses.mean(), rel=1e-5)


def test_weights_of_one_change_nothing():
  for plain, weighted in zip(
    head([2, 0, 2], classification.CLASSES, is_training=True),
    head([2, 0, 2], classification.CLASSES, is_training=True, class_weights=[1.0, 1.0, 1.0]),
  ):
    np.testing.assert_array_equal(plain, weighted)


def test_metrics_leave_padding_out():
  """Two real rows, one of them right, and one of padding."""
  arguments = [[1.0, 3.0, 50.0], [0, 1, 0], [[2.0, 1.0], [2.0, 1.0], [2.0, 1.0]], [1, 1, 0]]
  with tf.Graph().as_default(), tf.Session() as session:
    tensors = [tf.constant(value) for value in arguments]
    classes = classification_head.HEADS[classification.CLASSES].streaming_metrics(*tensors)
    numbers = classification_head.HEADS[classification.NUMBER].streaming_metrics(*tensors)
    session.run(tf.local_variables_initializer())
    session.run([update for _, update in (*classes.values(), *numbers.values())])
    got = {name: session.run(value) for name, (value, _) in classes.items()}
    assert got == {"eval_accuracy": 0.5, "eval_loss": 2.0}
    assert session.run(numbers["eval_loss"][0]) == 2.0


def test_what_counts_of_an_example_without_a_label():
  with tf.Graph().as_default(), tf.Session() as session:
    features = {
      "teacher_logits": tf.constant([[np.log(3.0), 0.0]] * 2, tf.float32),
      "label_ids": tf.constant([0, 0]),
      "is_labeled": tf.constant([1, 0]),
    }
    losses = tf.constant([2.0, 100.0])
    objective = classification_head.objective(
      features,
      tf.reduce_mean(losses),
      losses,
      tf.zeros([2, 2]),
      classification.CLASSES,
      soft=soft_targets.SoftTargets(temperature=1.0, alpha=0.25),
    )
    teacher = 0.13081204  # see soft_targets.class_losses
    expected = (0.75 * 2 + 0.25 * teacher + teacher) / 2
    assert session.run(objective.loss_value()) == pytest.approx(expected, rel=1e-5)
