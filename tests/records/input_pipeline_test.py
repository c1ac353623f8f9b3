"""TFRecord files, batches and their order."""

import contextlib

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import given
from hypothesis import strategies as st

from toolkit.records import input_pipeline, tf_records
from toolkit.support import files

LENGTH = 24
FEATURES = [
  tf_records.Feature("input_ids", np.int32, (LENGTH,), per_token=True),
  tf_records.Feature("input_mask", np.int32, (LENGTH,), per_token=True),
  tf_records.Feature("positions", np.int32, (LENGTH,)),
  tf_records.Feature("score", np.float32),
]


def make_rows(lengths):
  """One row per length; its first token is the row's number plus 1."""
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
  tf_records.write_records(path, make_rows([3, 20, 5, 9, 2, 17, 4, 4, 8, 1]), FEATURES)
  return path


def read(path, is_training=False, batch_size=4, count=None, **options):
  input_fn = input_pipeline.read_input_fn(path, FEATURES, is_training, is_training, **options)
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


def test_evaluation_is_sorted_by_length_cut_and_complete(path):
  batches = read(path, trim_padding=True)
  assert numbers(batches) == [9, 4, 0, 6, 7, 2, 8, 3, 5, 1]
  assert [batch["input_ids"].shape[1] for batch in batches] == [8, 16, 24]
  assert [batch["positions"].shape[1] for batch in batches] == [LENGTH] * 3
  assert np.concatenate([b[input_pipeline.EXAMPLE_INDEX] for b in batches]).tolist() == numbers(
    batches
  )


def test_windows_are_sorted_one_by_one(path, monkeypatch):
  monkeypatch.setattr(input_pipeline, "SORT_WINDOW", 5)
  assert numbers(read(path, trim_padding=True)) == [4, 0, 2, 3, 1, 9, 6, 7, 8, 5]


def test_each_epoch_has_each_example_once_in_a_new_order(path):
  order = numbers(read(path, is_training=True, batch_size=5, count=6, seed=1))
  epochs = [order[:10], order[10:20], order[20:]]
  assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
  assert len({tuple(epoch) for epoch in epochs}) == 3
  assert order == numbers(read(path, is_training=True, batch_size=5, count=6, seed=1))
  assert order != numbers(read(path, is_training=True, batch_size=5, count=6, seed=2))


def test_without_a_seed_epochs_differ_too(path):
  input_fn = input_pipeline.read_input_fn(path, FEATURES, is_training=True, drop_remainder=True)
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
  input_fn = input_pipeline.slices_input_fn(rows, FEATURES, is_training=False, drop_remainder=False)
  for got, want in zip(run_batches(lambda: input_fn({"batch_size": 4})), read(path)):
    for name, value in want.items():
      np.testing.assert_array_equal(got[name], value)


def test_rows_of_padding_alone_keep_some_columns():
  rows = make_rows([0, 0])
  input_fn = input_pipeline.slices_input_fn(rows, FEATURES, is_training=False, drop_remainder=False)
  (batch,) = run_batches(
    lambda: input_fn({"batch_size": 2}).map(
      lambda b: input_pipeline.cut_to_longest(b, {"input_ids"})
    )
  )
  assert batch["input_ids"].shape == (2, 8)


@given(st.permutations(range(12)))
def test_predictions_return_to_input_order(order):
  rows = [{input_pipeline.EXAMPLE_INDEX: index, "value": index * 10} for index in order]
  assert list(input_pipeline.in_input_order(rows)) == [{"value": i * 10} for i in range(12)]


@pytest.mark.parametrize("order", [[0, 0], [0, 2], [1, 1, 0]])
def test_lost_and_repeated_predictions_are_errors(order):
  with pytest.raises(RuntimeError):
    list(input_pipeline.in_input_order({input_pipeline.EXAMPLE_INDEX: index} for index in order))


# ---- Several replicas ---------------------------------------------------------------------------


def read_parts(make_input_fn, num_workers, num_local, num_batches, batch_size):
  """Batches of all replicas: for each, the numbers of each replica's rows."""
  workers = []
  for worker in range(num_workers):
    context = tf.distribute.InputContext(num_workers, worker, num_workers * num_local)
    parts = run_batches(
      lambda context=context: make_input_fn()({"batch_size": batch_size}, context),
      num_batches * num_local,
    )
    workers.append([numbers([part]) for part in parts])
  return [
    [part for parts in workers for part in parts[num_local * n : num_local * (n + 1)]]
    for n in range(num_batches)
  ]


@pytest.mark.parametrize(("num_workers", "num_local"), [(1, 2), (2, 1), (2, 2), (4, 1)])
@pytest.mark.parametrize("by_length", [False, True])
@pytest.mark.parametrize("num_seen", [0, 12])
def test_replicas_divide_the_batches_of_one(
  path, num_workers, num_local, by_length, num_seen, monkeypatch
):
  monkeypatch.setattr(input_pipeline, "BUCKET_WINDOW", 2)
  options = {"trim_padding": True, "bucket_by_length": by_length, "seed": 1, "num_seen": num_seen}

  def make_input_fn():
    return input_pipeline.read_input_fn(path, FEATURES, True, True, **options)

  whole = read(path, is_training=True, batch_size=4, count=6, **options)
  batches = read_parts(make_input_fn, num_workers, num_local, 6, batch_size=4)
  for parts, batch in zip(batches, whole):
    assert {len(part) for part in parts} == {4 // (num_workers * num_local)}
    assert [number for part in parts for number in part] == numbers([batch])


@pytest.mark.parametrize(("num_workers", "num_local"), [(1, 2), (2, 1), (2, 2)])
def test_replicas_divide_the_batches_of_a_corpus(tmp_path, num_workers, num_local):
  path = str(tmp_path / "rows")
  tf_records.write_records(path, make_rows(range(1, 14)), FEATURES)
  options = {"seed": 1, "num_seen": 8, "num_records": 13}

  def make_input_fn():
    return input_pipeline.corpus_input_fn([path], FEATURES, True, **options)

  whole = run_batches(lambda: make_input_fn()({"batch_size": 4}), 5)
  batches = read_parts(make_input_fn, num_workers, num_local, 5, batch_size=4)
  assert [[n for part in parts for n in part] for parts in batches] == [
    numbers([batch]) for batch in whole
  ]


def test_workers_need_a_seed(path):
  context = tf.distribute.InputContext(2, 0, 2)
  input_fn = input_pipeline.read_input_fn(path, FEATURES, True, True)
  with pytest.raises(ValueError, match="several workers need a seed"):
    input_fn({"batch_size": 4}, context)


# ---- Sets in many files -------------------------------------------------------------------------


def read_by_length(path, count, **options):
  options = {"trim_padding": True, "bucket_by_length": True, "seed": 1, **options}
  return read(path, is_training=True, batch_size=2, count=count, **options)


def test_batches_by_length_are_dealt_out_of_the_same_examples(path, monkeypatch):
  monkeypatch.setattr(input_pipeline, "BUCKET_WINDOW", 5)  # the ten examples of an epoch
  batches = read_by_length(path, 10)
  plain = read(path, is_training=True, batch_size=2, count=10, seed=1)
  for epoch in (batches[:5], batches[5:]):
    assert sorted(numbers(epoch)) == list(range(10))
    by_length = sorted(int(batch["input_mask"].sum(1).max()) for batch in epoch)
    assert by_length == [2, 4, 5, 9, 20]
  widths = [batch["input_ids"].shape[1] for batch in batches]
  assert widths != sorted(widths)
  assert sorted(numbers(batches[:5])) == sorted(numbers(plain[:5]))
  assert numbers(batches[:5]) != numbers(batches[5:])
  assert numbers(read_by_length(path, 10)) == numbers(batches)
  assert numbers(read_by_length(path, 10, seed=2)) != numbers(batches)
  for name in ("positions", "score"):
    assert batches[0][name].shape[0] == 2


@pytest.mark.parametrize("num_seen", [2, 6, 8, 14, 30])
def test_batches_by_length_go_on_in_the_same_order(path, num_seen, monkeypatch):
  monkeypatch.setattr(input_pipeline, "BUCKET_WINDOW", 3)  # six examples, of one epoch or two
  whole = numbers(read_by_length(path, 20))
  rest = read_by_length(path, 20 - num_seen // 2, num_seen=num_seen)
  assert numbers(rest) == whole[num_seen:]


@pytest.fixture(name="paths")
def _paths(tmp_path):
  """Four files with 13 records in all, of 1 to 13 tokens."""
  rows = make_rows(range(1, 14))
  paths = [str(tmp_path / f"part-{number}") for number in range(4)]
  for path, some in zip(paths, (rows[:4], rows[4:9], rows[9:10], rows[10:])):
    tf_records.write_records(path, some, FEATURES)
  return paths


def read_corpus(paths, is_training=True, batch_size=1, count=None, **options):
  input_fn = input_pipeline.corpus_input_fn(paths, FEATURES, is_training, **options)
  return run_batches(lambda: input_fn({"batch_size": batch_size}), count)


def test_each_epoch_of_a_corpus_has_each_record_once_in_a_new_order(paths):
  order = numbers(read_corpus(paths, count=39, seed=1))
  epochs = [order[:13], order[13:26], order[26:]]
  assert all(sorted(epoch) == list(range(13)) for epoch in epochs)
  assert len({tuple(epoch) for epoch in epochs}) == 3
  assert order == numbers(read_corpus(paths, count=39, seed=1))
  assert order != numbers(read_corpus(paths, count=39, seed=2))
  unseeded = numbers(read_corpus(paths, count=26))
  assert sorted(unseeded[:13]) == list(range(13)) and unseeded[:13] != unseeded[13:]


def test_the_order_of_files_changes_as_well(paths, monkeypatch):
  """With a small buffer the first records of an epoch are those of its first files."""
  monkeypatch.setattr(input_pipeline, "SHUFFLE_BUFFER", 1)
  order = numbers(read_corpus(paths, count=13 * 8, seed=1, num_parallel_files=1))
  firsts = {order[start] for start in range(0, len(order), 13)}
  assert firsts <= {0, 4, 9, 10} and len(firsts) > 1
  # Two files at a time, a record from each in turn.
  epoch = numbers(read_corpus(paths, count=13, seed=1, num_parallel_files=2))
  assert sorted(epoch) == list(range(13))
  assert {epoch[0], epoch[1]} <= {0, 4, 9, 10}


@pytest.mark.parametrize("num_seen", [0, 5, 13, 30])
@pytest.mark.parametrize("num_records", [13, None])
def test_a_resumed_corpus_goes_on_in_the_same_order(paths, num_seen, num_records, monkeypatch):
  monkeypatch.setattr(input_pipeline, "SHUFFLE_BUFFER", 4)
  whole = numbers(read_corpus(paths, count=40, seed=1))
  rest = read_corpus(paths, count=40 - num_seen, seed=1, num_seen=num_seen, num_records=num_records)
  assert numbers(rest) == whole[num_seen:]


def test_a_corpus_once_in_order(paths):
  batches = read_corpus(paths, is_training=False, batch_size=5, trim_padding=True)
  assert numbers(batches) == list(range(13))
  assert [batch["input_ids"].shape for batch in batches] == [(5, 8), (5, 16), (3, 16)]


def test_a_corpus_once_in_batches_of_one_shape(paths):
  batches = read_corpus(paths, is_training=False, batch_size=5)
  assert numbers(batches) == [*range(13), -1, -1]
  assert [batch["input_ids"].shape for batch in batches] == [(5, LENGTH)] * 3
  for name, values in batches[-1].items():
    assert not values[3:].any(), name
  full = read_corpus(paths[:2], is_training=False, batch_size=3)
  assert numbers(full) == list(range(9))  # nothing to fill up


def test_batches_of_training_have_one_size(paths):
  batches = read_corpus(paths, batch_size=5, count=6, seed=1, trim_padding=True)
  assert {len(batch["score"]) for batch in batches} == {5}


# ---- Damaged files ------------------------------------------------------------------------------


def test_counting(paths, tmp_path):
  assert input_pipeline.count_records(paths) == 13
  broken = tmp_path / "broken"
  with open(paths[0], "rb") as f:
    broken.write_bytes(f.read()[:-1])
  for path, match in ((broken, "truncated record"), (tmp_path / "no", "nowhere|No such")):
    with pytest.raises(files.InputError, match=f"{path}: cannot be read as TFRecord: .*{match}"):
      input_pipeline.count_records([paths[1], str(path)])


def test_the_first_records(path):
  rows = input_pipeline.read_some(path, FEATURES, limit=2)
  assert [row["input_ids"][:4] for row in rows] == [[1, 1, 1, 0], [2, 2, 2, 2]]
  assert [row["score"] for row in rows] == [[0.0], [0.5]]
  assert len(input_pipeline.read_some(path, FEATURES)) == 10
  other = [tf_records.Feature("input_ids", np.int32, (9,))]
  with pytest.raises(files.InputError, match="record 1: found 24 values of input_ids, and not 9"):
    input_pipeline.read_some(path, other)
  with pytest.raises(files.InputError, match="record 1: found 0 values of other, and not 1"):
    input_pipeline.read_some(path, [tf_records.Feature("other", np.float32)])


def test_damage_met_in_reading_names_its_file(paths):
  with open(paths[2], "r+b") as f:
    f.seek(40)
    f.write(b"?")
  match = f"{paths[2]}: cannot be read as TFRecord: corrupted record"
  with pytest.raises(files.InputError, match=match), input_pipeline.converted_data_loss(paths):
    read_corpus(paths, is_training=False)
  with pytest.raises(ZeroDivisionError), input_pipeline.converted_data_loss(paths):
    raise ZeroDivisionError
