"""Masks of text and poolings by hand."""

import pytest
import tensorflow.compat.v1 as tf

from toolkit.tasks import vectors_head


def run_graph(build):
  with tf.Graph().as_default(), tf.Session() as session:
    return session.run(build())


def test_which_word_pieces_are_text():
  """[CLS] a b [SEP] c [SEP] [PAD]; [CLS] a [SEP]; [CLS] [SEP]; and one without padding."""
  mask = [[1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0], [1] * 7]
  types_ = [[0, 0, 0, 0, 1, 1, 0], [0] * 7, [0] * 7, [0, 0, 0, 1, 1, 1, 1]]
  got = run_graph(lambda: vectors_head.text_mask(tf.constant(mask), tf.constant(types_)))
  assert got.tolist() == [
    [0, 1, 1, 0, 1, 0, 0],
    [0, 1, 0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0, 0, 0],
    [0, 1, 0, 1, 1, 1, 0],
  ]


@pytest.mark.parametrize(
  ("pooling", "want", "want_of_none"),
  [
    ("cls", [9, 9], [9, 9]),
    ("mean", [-3, 1], [0, 0]),
    ("max", [-2, 6], [0, 0]),
    ("mean_max", [-3, 1, -2, 6], [0, 0, 0, 0]),
  ],
)
def test_poolings(pooling, want, want_of_none):
  layer = [[[9.0, 9.0], [-2.0, 6.0], [-4.0, -4.0], [7.0, 7.0]]] * 2
  mask = [[0, 1, 1, 0], [0, 0, 0, 0]]
  got = run_graph(lambda: vectors_head.pool(tf.constant(layer), tf.constant(mask), pooling=pooling))
  assert got.tolist() == [want, want_of_none]
