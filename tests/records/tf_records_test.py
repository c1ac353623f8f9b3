"""The bytes of tf.train.Example messages, there and back."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import given
from hypothesis import strategies as st

from toolkit.records import tf_records

FEATURES = [
  tf_records.Feature("word_ids", np.int32, (3,)),
  tf_records.Feature("score", np.float32),
  tf_records.Feature("a", np.int32),
]


def by_tensorflow(row):
  """The same message as TensorFlow serialises it."""
  feature = {
    "word_ids": tf.train.Feature(int64_list=tf.train.Int64List(value=row["word_ids"])),
    "score": tf.train.Feature(float_list=tf.train.FloatList(value=[row["score"]])),
    "a": tf.train.Feature(int64_list=tf.train.Int64List(value=[row["a"]])),
  }
  message = tf.train.Example(features=tf.train.Features(feature=feature))
  return message.SerializeToString(deterministic=True)


INT64 = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(st.one_of(st.integers(0, 200), INT64)), st.floats(width=32), INT64)
def test_equals_tensorflow(word_ids, score, number):
  row = {"word_ids": word_ids, "score": score, "a": number}
  assert tf_records.serialize(row, FEATURES) == by_tensorflow(row)
  assert tf_records.parse(by_tensorflow(row)) == {
    "a": [number],
    "score": pytest.approx([score], nan_ok=True),
    "word_ids": word_ids,
  }


@given(st.lists(INT64), st.lists(INT64))
def test_packed_values(first, rest):
  packed = tf_records.Packed(tf_records.pack(first) + tf_records.pack(rest))
  score = tf_records.pack([0.5], np.float32)
  row = {"word_ids": packed, "score": score, "a": 3}
  features = [FEATURES[0], FEATURES[1]._replace(shape=(1,)), FEATURES[2]]
  expected = by_tensorflow({"word_ids": first + rest, "score": 0.5, "a": 3})
  assert tf_records.serialize(row, features) == expected


@pytest.mark.parametrize(
  "values", [[0, 127], [128, 1], [-1, 5], np.array([3, 30]), np.array([3, 300])]
)
def test_borders_of_the_short_form(values):
  row = {"word_ids": list(values), "score": 0.5, "a": 1}
  assert tf_records.serialize(dict(row, word_ids=values), FEATURES) == by_tensorflow(row)


def test_needs_no_tensorflow():
  code = "import sys, tf_example; sys.exit('tensorflow' in sys.modules)"
  assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
