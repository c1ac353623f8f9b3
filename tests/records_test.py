"""TFRecord files, batches and their order."""

import contextlib

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import given
from hypothesis import strategies as st

import files
import records

LENGTH = 24
FEATURES = [
  records.Feature("input_ids", np.int32, (LENGTH,), per_token=True),
  records.Feature("input_mask", np.int32, (LENGTH,), per_token=True),
  records.Feature("positions", np.int32, (LENGTH,)),
  records.Feature("score", np.float32),
]


def make_rows(lengths):
  """One row a length; its first token is the row's number plus 1."""
  return [
    {
      "input_ids": [number + 1] * length + [0] * (LENGTH - length),
      "input_mask": [1] * length + [0] * (LENGTH - length),
      "positions": list(range(LENGTH)),
      "score": number / 2,
    }
    for number, length in enumerate(lengths)
  ]


def run_batches(build, count=None):
  """The first `count` batches, or all, of the dataset that `build` makes."""
  with tf.Graph().as_default(), tf.Session() as session:
    batch = tf.data.make_one_shot_iterator(build()).get_next()
    result = []
    with contextlib.suppress(tf.errors.OutOfRangeError):
      while count is None or len(result) < count:
        result.append(session.run(batch))
    return result


def numbers(batches):
  return [int(row[0]) - 1 for batch in batches for row in batch["input_ids"]]


@pytest.fixture(name="path")
def _path(tmp_path):
  path = str(tmp_path / "rows.tf_record")
  records.write_records(path, make_rows([3, 20, 5, 9, 2, 17, 4, 4, 8, 1]), FEATURES)
  return path


def read(path, is_training=False, batch_size=4, count=None, **options):
  input_fn = records.read_input_fn(path, FEATURES, is_training, is_training, **options)
  return run_batches(lambda: input_fn({"batch_size": batch_size}), count)


def test_rows_come_back_as_they_were_written(path):
  rows = make_rows([3, 20, 5, 9, 2, 17, 4, 4, 8, 1])
  batches = read(path)
  assert [len(batch["score"]) for batch in batches] == [4, 4, 2]
  assert sorted(batches[0]) == ["input_ids", "input_mask", "positions", "score"]
  for name in ("input_ids", "input_mask", "positions", "score"):
    got = np.concatenate([batch[name] for batch in batches])
    np.testing.assert_array_equal(got, np.array([row[name] for row in rows], got.dtype))
  assert batches[0]["input_ids"].dtype == np.int32
  assert batches[0]["score"].dtype == np.float32


def test_serialized_form_is_a_known_tf_example():
  example = tf.train.Example.FromString(records.serialize(make_rows([2])[0], FEATURES))
  assert list(example.features.feature["input_ids"].int64_list.value) == [1, 1] + [0] * 22
  assert list(example.features.feature["score"].float_list.value) == [0.0]


def test_evaluation_is_sorted_by_length_cut_and_complete(path):
  batches = read(path, trim_padding=True)
  assert numbers(batches) == [9, 4, 0, 6, 7, 2, 8, 3, 5, 1]
  assert [batch["input_ids"].shape[1] for batch in batches] == [8, 16, 24]
  assert [batch["positions"].shape[1] for batch in batches] == [LENGTH] * 3
  assert np.concatenate([b[records.EXAMPLE_INDEX] for b in batches]).tolist() == numbers(batches)


def test_windows_are_sorted_one_by_one(path, monkeypatch):
  monkeypatch.setattr(records, "SORT_WINDOW", 5)
  assert numbers(read(path, trim_padding=True)) == [4, 0, 2, 3, 1, 9, 6, 7, 8, 5]


def test_each_epoch_has_each_example_once_in_a_new_order(path):
  order = numbers(read(path, is_training=True, batch_size=5, count=6, seed=1))
  epochs = [order[:10], order[10:20], order[20:]]
  assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
  assert len({tuple(epoch) for epoch in epochs}) == 3
  assert order == numbers(read(path, is_training=True, batch_size=5, count=6, seed=1))
  assert order != numbers(read(path, is_training=True, batch_size=5, count=6, seed=2))


def test_without_a_seed_epochs_differ_too(path):
  input_fn = records.read_input_fn(path, FEATURES, is_training=True, drop_remainder=True)
  with tf.Graph().as_default(), tf.Session() as session:
    tf.set_random_seed(7)  # as an estimator does
    batch = tf.data.make_one_shot_iterator(input_fn({"batch_size": 10})).get_next()
    orders = [tuple(session.run(batch)["input_ids"][:, 0]) for _ in range(3)]
  assert len(set(orders)) == 3
  assert all(sorted(order) == list(range(1, 11)) for order in orders)


@pytest.mark.parametrize("num_seen", [3, 10, 14, 20])
def test_resumed_training_goes_on_in_the_same_order(path, num_seen):
  whole = numbers(read(path, is_training=True, batch_size=1, count=30, seed=1))
  rest = read(path, is_training=True, batch_size=1, count=30 - num_seen, seed=1, num_seen=num_seen)
  assert numbers(rest) == whole[num_seen:]


def test_memory_and_file_give_the_same_batches(path):
  rows = make_rows([3, 20, 5, 9, 2, 17, 4, 4, 8, 1])
  input_fn = records.slices_input_fn(rows, FEATURES, is_training=False, drop_remainder=False)
  for got, want in zip(run_batches(lambda: input_fn({"batch_size": 4})), read(path)):
    for name, value in want.items():
      np.testing.assert_array_equal(got[name], value)


def test_rows_of_padding_alone_keep_some_columns():
  rows = make_rows([0, 0])
  input_fn = records.slices_input_fn(rows, FEATURES, is_training=False, drop_remainder=False)
  (batch,) = run_batches(
    lambda: input_fn({"batch_size": 2}).map(lambda b: records.cut_to_longest(b, {"input_ids"}))
  )
  assert batch["input_ids"].shape == (2, 8)


def test_nothing_is_left_under_the_name_of_a_file_that_failed(tmp_path):
  path = tmp_path / "rows.tf_record"
  with pytest.raises(KeyError):
    records.write_records(str(path), [*make_rows([3]), {}], FEATURES)
  assert list(tmp_path.iterdir()) == []


def test_unwritable_file_is_named(tmp_path):
  with pytest.raises(files.InputError, match="missing/rows"):
    records.write_records(str(tmp_path / "missing" / "rows"), [], FEATURES)


@given(st.permutations(range(12)))
def test_predictions_return_to_input_order(order):
  rows = [{records.EXAMPLE_INDEX: index, "value": index * 10} for index in order]
  assert list(records.in_input_order(rows)) == [{"value": i * 10} for i in range(12)]


@pytest.mark.parametrize("order", [[0, 0], [0, 2], [1, 1, 0]])
def test_lost_and_repeated_predictions_are_errors(order):
  with pytest.raises(RuntimeError):
    list(records.in_input_order({records.EXAMPLE_INDEX: index} for index in order))
