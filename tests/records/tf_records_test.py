"""The bytes of tf.train.Example messages, written and read again, and files of them."""

import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import given
from hypothesis import strategies as st

from toolkit.records import tf_records
from toolkit.support import files

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


ROWS = [{"word_ids": [1, 2, number], "score": number / 2, "a": number} for number in range(300)]


def test_files_equal_tensorflows(tmp_path):
  path, want = str(tmp_path / "ours"), str(tmp_path / "theirs")
  tf_records.write_records(path, ROWS, FEATURES)
  with tf.io.TFRecordWriter(want) as writer:
    for row in ROWS:
      writer.write(by_tensorflow(row))
  assert files.read_bytes(path) == files.read_bytes(want)
  assert list(tf.python_io.tf_record_iterator(path)) == [by_tensorflow(row) for row in ROWS]


def test_a_frame_and_its_content():
  for size in (0, 1, 20_000):
    assert tf_records.unframed(tf_records.framed(bytes(size))) == bytes(size)


def test_a_remote_file(tmp_path):
  path = f"file://{tmp_path}/rows"
  tf_records.write_records(path, ROWS, FEATURES)
  assert len(list(tf.python_io.tf_record_iterator(str(tmp_path / "rows")))) == len(ROWS)
  with pytest.raises(files.InputError, match=r"missing/rows: cannot be written: "):
    tf_records.RecordWriter(f"file://{tmp_path}/missing/rows")


def test_nothing_is_left_under_the_name_of_a_file_that_failed(tmp_path):
  path = tmp_path / "rows.tf_record"
  with pytest.raises(KeyError):
    tf_records.write_records(str(path), [ROWS[0], {}], FEATURES)
  assert list(tmp_path.iterdir()) == []


def test_unwritable_file_is_named(tmp_path):
  with pytest.raises(files.InputError, match=r"missing/rows: cannot be written: No such file"):
    tf_records.write_records(str(tmp_path / "missing" / "rows"), [], FEATURES)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has it")
def test_a_full_disk(tmp_path):
  (tmp_path / f"rows.tmp{os.getpid()}").symlink_to("/dev/full")
  with pytest.raises(files.InputError, match=r"rows: cannot be written: No space left"):
    tf_records.write_records(str(tmp_path / "rows"), ROWS * 10, FEATURES)
  assert list(tmp_path.iterdir()) == []
