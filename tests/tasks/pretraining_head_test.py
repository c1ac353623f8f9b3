"""The heads of pre-training against recorded results, and their losses by hand."""

import pathlib

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import modeling
from toolkit.tasks import pretraining_head

RECORDED = pathlib.Path(__file__).parents[1] / "data" / "recorded_model"


def test_vectors_are_picked_by_place():
  with tf.Graph().as_default(), tf.Session() as session:
    sequences = tf.reshape(tf.range(12.0), [2, 3, 2])
    picked = pretraining_head.gather_indexes(sequences, tf.constant([[2, 0], [1, 1]]))
    assert session.run(picked).tolist() == [[4, 5], [0, 1], [8, 9], [8, 9]]


def test_heads_give_the_recorded_results():
  want = np.load(RECORDED / "pretraining_outputs.npz")
  with tf.Graph().as_default(), tf.Session() as session:
    config = modeling.BertConfig.from_json_file(str(RECORDED / "bert_config.json"))
    batch = {name: tf.constant(value) for name, value in np.load(RECORDED / "inputs.npz").items()}
    outputs = pretraining_head.heads(config, batch, False, False)
    tf.train.Saver().restore(session, str(RECORDED / "bert_model.ckpt"))
    found = session.run(outputs)
  for task, values in zip(("masked_lm", "next_sentence"), found):
    for what, value in zip(("loss", "example_loss", "log_probs"), values):
      np.testing.assert_allclose(value, want[f"{task}_{what}"], rtol=1e-4, atol=2e-5)


def test_the_mean_loss_is_over_scored_words():
  with tf.Graph().as_default(), tf.Session() as session:
    mean = pretraining_head._weighted_mean(
      tf.constant([1.0, 5.0, 9.0]), tf.constant([1.0, 1.0, 0.0])
    )
    nothing = pretraining_head._weighted_mean(tf.constant([1.0]), tf.constant([0.0]))
    assert session.run([mean, nothing]) == [pytest.approx(6 / 2.00001, rel=1e-5), 0]
