"""Reads TFRecord files to batches, in the order of training or of the input.

A table is a list of tf_records.Feature. The writer and the reader use the same table, so that each
feature that is written is also read.
"""

import contextlib
import functools
import itertools
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Optional

import numpy as np
import tensorflow.compat.v1 as tf

from toolkit.records import tf_records
from toolkit.records.tf_records import SORT_WINDOW
from toolkit.support import files

SHUFFLE_BUFFER = 100_000  # records of a set in many files, about 200 MB
EXAMPLE_INDEX = "example_index"  # the feature of an example's place in the input, from 0
BUCKET_WINDOW = 64  # batches within which training with buckets sorts by length
LENGTH_MULTIPLE = 8  # of the lengths of cut batches, so that few different shapes occur

Features = Sequence[tf_records.Feature]  # the table of a record's features
InputFn = Callable[..., tf.data.Dataset]  # see read_input_fn
Decode = Callable[[tf.Tensor], dict[str, tf.Tensor]]  # of a batch of records


def add_features(
  input_path: str,
  output_path: str,
  rows: Iterable[dict[str, Any]],
  features: Features,
) -> None:
  """Copies a TFRecord file, whole or not at all, and adds features to each of its records.

  Args:
    input_path: the file.
    output_path: the copy.
    rows: one per record in their order, see tf_records.serialize.
    features: table of the features to add.

  Raises:
    files.InputError: a file cannot be read or written.
  """
  with tf_records.RecordWriter(output_path, features) as writer:
    for record, row in zip(_iterate(input_path), rows):
      # Concatenated messages are one message with the fields of both.
      writer.write_serialized(record + tf_records.serialize(row, features))


def count_records(paths: Iterable[str]) -> int:
  """Counts the records in TFRecord files, which are read from end to end.

  Raises:
    files.InputError: names a file that is damaged, or of another kind.
  """
  return sum(1 for path in paths for _ in _iterate(path))


def _iterate(path):
  """Yields the records of a file as bytes."""
  try:
    yield from tf.python_io.tf_record_iterator(path)
  except tf.errors.OpError as error:
    raise files.InputError(
      f"{path}: cannot be read as TFRecord: {files.describe(error)}; copy it again, or make it anew"
    ) from error


def read_some(path: str, features: Features, limit: int = 100) -> list[dict[str, list[Any]]]:
  """Reads the first `limit` records of a file, and checks that they match a table.

  Raises:
    files.InputError: names the first feature that is missing or has another length; or the file is
      damaged, or of another kind.
  """
  numbered = enumerate(itertools.islice(_iterate(path), limit), 1)
  return [_row(record, features, f"{path}: record {number}") for number, record in numbered]


def _row(record, features, place):
  """Parses a serialized tf.train.Example to a dict of lists; `place` names it in errors."""
  try:
    example = tf.train.Example.FromString(record)
  except Exception as error:  # protobuf's kind has no public name
    raise files.InputError(f"{place}: is no tf.train.Example: {files.describe(error)}") from error
  row = {}
  for feature in features:
    found = example.features.feature[feature.name]
    stored = found.float_list if feature.dtype is np.float32 else found.int64_list
    wanted = int(np.prod(feature.shape))
    if len(stored.value) != wanted:
      raise files.InputError(
        f"{place}: found {len(stored.value)} values of {feature.name}, and not {wanted}; give the "
        "lengths that the records were made with"
      )
    row[feature.name] = list(stored.value)
  return row


@contextlib.contextmanager
def converted_data_loss(paths: Iterable[str]) -> Iterator[None]:
  """Converts TensorFlow's error about a damaged record in files to that of count_records."""
  try:
    yield
  except tf.errors.DataLossError:
    count_records(paths)
    raise


def parse_records(serialized: tf.Tensor, features: Features) -> dict[str, tf.Tensor]:
  """Decodes a batch of records, string [B], to name -> int32 or float32 [B, ...]."""
  stored = {
    f.name: tf.FixedLenFeature(f.shape, tf.float32 if f.dtype is np.float32 else tf.int64)
    for f in features
  }
  parsed = tf.io.parse_example(serialized, stored)
  return {f.name: tf.cast(parsed[f.name], tf.as_dtype(f.dtype)) for f in features}


def read_input_fn(
  path: str,
  features: Features,
  is_training: bool,
  drop_remainder: bool,
  *,
  trim_padding: bool = False,
  seed: Optional[int] = None,
  num_seen: int = 0,
  bucket_by_length: bool = False,
) -> InputFn:
  """Returns the input_fn of an estimator that reads a TFRecord file.

  Args:
    path: the file.
    features: its table.
    is_training: the examples come shuffled and without end, or once and in order.
    drop_remainder: leave out a last batch that is not full.
    trim_padding: cut batches to their longest sequence. Examples that are not for training then
      come sorted by length, with their place in the input as EXAMPLE_INDEX.
    seed, num_seen, bucket_by_length: see training_batches.

  Returns:
    Function of params, a dict with "batch_size", to batches. Its second parameter is the
    input_context of a training on several replicas, see own_parts.
  """
  decode = functools.partial(parse_records, features=features)

  def input_fn(params, input_context=None):
    dataset = tf.data.TFRecordDataset(path)
    if not is_training:
      return ordered_batches(
        dataset, params["batch_size"], features, decode, drop_remainder, trim_padding
      )
    return training_batches(
      dataset,
      count_records([path]),
      params["batch_size"],
      features,
      decode,
      drop_remainder=drop_remainder,
      trim_padding=trim_padding,
      seed=seed,
      num_seen=num_seen,
      bucket_by_length=bucket_by_length,
      input_context=input_context,
    )

  return input_fn


def corpus_input_fn(
  paths: Sequence[str],
  features: Features,
  is_training: bool,
  *,
  num_parallel_files: int = 4,
  trim_padding: bool = False,
  seed: Optional[int] = None,
  num_seen: int = 0,
  num_records: Optional[int] = None,
) -> InputFn:
  """Returns the input_fn of an estimator for a set of any size, in any number of files.

  Training reads the files in a new order per epoch, several at a time, a record from each in turn,
  and shuffles within SHUFFLE_BUFFER records. Otherwise each record comes once, in order.

  Args:
    paths: TFRecord files.
    features: their table, input_mask in it.
    is_training: see read_input_fn.
    num_parallel_files: files that are read at a time; the order of training depends on it.
    trim_padding: cut batches to their longest sequence, and the last one of evaluation to the
      remaining examples. Otherwise all have the same shape: the last one is filled up with examples
      that are 0 throughout, input_mask and weights included.
    seed, num_seen: see training_batches.
    num_records: in all files; None to count them where the number is needed.

  Returns:
    Function like read_input_fn's.
  """
  decode = functools.partial(parse_records, features=features)

  def input_fn(params, input_context=None):
    batch_size = params["batch_size"]
    if is_training:
      order = _seed_or_random(seed, input_context)
      ordered = _corpus_in_epochs(paths, num_parallel_files, order, num_seen, num_records)
    else:
      ordered = tf.data.TFRecordDataset(paths)
      if not trim_padding:
        zeros: dict[str, Any] = {f.name: np.zeros(f.shape, f.dtype) for f in features}
        blank = tf.data.Dataset.from_tensors(tf_records.serialize(zeros, features))
        ordered = ordered.concatenate(blank.repeat(batch_size - 1))
    drop_remainder = is_training or not trim_padding
    return _batched(
      ordered, batch_size, features, decode, drop_remainder, trim_padding, input_context
    )

  return input_fn


def _corpus_in_epochs(paths, num_parallel_files, seed, num_seen, num_records):
  """Dataset of the records of files in the order of training, without end."""
  if num_seen and num_records is None:
    num_records = count_records(paths)

  def epoch(number):
    shuffled = tf.data.Dataset.from_tensor_slices(paths).shuffle(
      len(paths), seed=seed + number, reshuffle_each_iteration=False
    )
    merged = shuffled.interleave(
      tf.data.TFRecordDataset,
      cycle_length=min(num_parallel_files, len(paths)),
      num_parallel_calls=tf.data.AUTOTUNE,
      deterministic=True,
    )
    return merged.shuffle(SHUFFLE_BUFFER, seed=seed + number, reshuffle_each_iteration=False)

  return _in_epochs(epoch, num_records or 1, num_seen)


def slices_input_fn(
  rows: Sequence[dict[str, Any]],
  features: Features,
  is_training: bool,
  drop_remainder: bool,
) -> InputFn:
  """Returns an input_fn like read_input_fn's, of dicts of name -> number or list of numbers."""
  columns: dict[str, np.ndarray] = {
    f.name: np.array([row[f.name] for row in rows], f.dtype).reshape(-1, *f.shape) for f in features
  }

  def input_fn(params, input_context=None):
    dataset = tf.data.Dataset.from_tensor_slices(columns)
    arguments = (params["batch_size"], features, lambda batch: batch)
    if is_training:
      options = {"drop_remainder": drop_remainder, "input_context": input_context}
      return training_batches(dataset, len(rows), *arguments, **options)
    return ordered_batches(dataset, *arguments, drop_remainder)

  return input_fn


def training_batches(
  records: tf.data.Dataset,
  num_records: int,
  batch_size: int,
  features: Features,
  decode: Decode,
  *,
  drop_remainder: bool = True,
  trim_padding: bool = False,
  seed: Optional[int] = None,
  num_seen: int = 0,
  bucket_by_length: bool = False,
  input_context: Optional[tf.distribute.InputContext] = None,
) -> tf.data.Dataset:
  """Returns batches without end, the set in a new order per epoch; a batch may span two epochs.

  Args:
    records: single records.
    num_records: their number.
    batch_size: examples of an optimizer step, over all replicas together.
    features: table of the records.
    decode: decodes a batch of records to name -> tensor [B, ...].
    drop_remainder: give the batches a static shape; none is shorter in either case.
    trim_padding: cut batches to their longest sequence.
    seed: the order depends on it and on the epoch alone; None for a random order.
    num_seen: examples at the beginning of the order to skip: those of an earlier run. A multiple of
      batch_size with bucket_by_length.
    bucket_by_length: sort the examples of BUCKET_WINDOW batches by length, so that those of a batch
      have similar lengths. The batches come in random order.
    input_context: that of a training on several replicas, whose parts of each batch come one after
      the other; see own_parts.

  Returns:
    Dicts of name -> tensor [B, ...].
  """

  def epoch(number):
    return records.shuffle(num_records, seed=seed + number, reshuffle_each_iteration=False)

  seed = _seed_or_random(seed, input_context)
  if not bucket_by_length:
    ordered = _in_epochs(epoch, num_records, num_seen)
    return _batched(
      ordered, batch_size, features, decode, drop_remainder, trim_padding, input_context
    )
  window, num_batches = divmod(num_seen // batch_size, BUCKET_WINDOW)
  ordered = _in_epochs(epoch, num_records, window * BUCKET_WINDOW * batch_size)
  part_size = _part_size(batch_size, input_context)
  parts = _by_length(ordered, batch_size, part_size, decode, seed, window)
  parts = own_parts(parts.skip(num_batches * (batch_size // part_size)), input_context)
  return _cut(parts, features, trim_padding).prefetch(tf.data.AUTOTUNE)


def _seed_or_random(seed, input_context):
  """Returns the seed of an order, a random one for None, which several workers must not have."""
  if seed is not None:
    return seed
  if input_context is not None and input_context.num_input_pipelines > 1:
    raise ValueError("several workers need a seed, so that all go by the same order")
  return secrets.randbits(31)


def _part_size(batch_size, input_context):
  """Returns the number of examples of a batch per replica."""
  if input_context is None:
    return batch_size
  return input_context.get_per_replica_batch_size(batch_size)


def own_parts(
  parts: tf.data.Dataset, input_context: Optional[tf.distribute.InputContext]
) -> tf.data.Dataset:
  """Selects the parts of batches for the replicas of this process.

  With 2 processes of 2 replicas each, parts 0 1 2 3, 4 5 6 7 of two batches: 0 1 4 5 and 2 3 6 7.

  Args:
    parts: each batch is as many elements as there are replicas.
    input_context: None for one replica.
  """
  if input_context is None or input_context.num_input_pipelines == 1:
    return parts
  num_workers = input_context.num_input_pipelines
  num_local = input_context.num_replicas_in_sync // num_workers
  shares = parts.batch(num_local, drop_remainder=True)
  return shares.shard(num_workers, input_context.input_pipeline_id).unbatch()


def _by_length(ordered, batch_size, part_size, decode, seed, first_window):
  """Returns batches, in parts of `part_size`, sorted by length within BUCKET_WINDOW batches.

  With windows of 2 batches of 2: lengths 9 3 8 4 -> 3 4, 8 9 or 8 9, 3 4. The order of the batches
  depends on the seed and the number of the window; `ordered`, single records without end, begins
  with the window of number `first_window`.
  """

  def bucket(number, window):
    examples = decode(window)
    by_length = tf.argsort(_lengths(examples), stable=True)
    draws = tf.random.stateless_uniform([BUCKET_WINDOW], seed=[seed, number])
    order = tf.gather(tf.reshape(by_length, [BUCKET_WINDOW, batch_size]), tf.argsort(draws))
    order = tf.reshape(order, [-1, part_size])
    return {name: tf.gather(values, order) for name, values in examples.items()}

  windows = ordered.batch(BUCKET_WINDOW * batch_size, drop_remainder=True)
  return windows.enumerate(first_window).map(bucket, num_parallel_calls=1).unbatch()


def _in_epochs(epoch, num_records, num_seen):
  """Returns the dataset of all epochs, without the first `num_seen` records.

  `epoch` is a function of the number from 0, an int64 tensor, to a dataset of `num_records`.
  """
  first_epoch, num_skipped = divmod(num_seen, num_records)
  return tf.data.Dataset.range(first_epoch, tf.int64.max).flat_map(epoch).skip(num_skipped)


def _batched(
  ordered, batch_size, features, decode, drop_remainder, trim_padding, input_context=None
):
  parts = ordered.batch(_part_size(batch_size, input_context), drop_remainder)
  batches = own_parts(parts, input_context).map(decode, tf.data.AUTOTUNE)
  return _cut(batches, features, trim_padding).prefetch(tf.data.AUTOTUNE)


def ordered_batches(
  records: tf.data.Dataset,
  batch_size: int,
  features: Features,
  decode: Decode,
  drop_remainder: bool = False,
  trim_padding: bool = False,
) -> tf.data.Dataset:
  """Returns batches of each record once; see training_batches for the arguments.

  With trim_padding they are sorted by length within SORT_WINDOW records, and have EXAMPLE_INDEX.
  """
  if not trim_padding:
    return _batched(records, batch_size, features, decode, drop_remainder, trim_padding)

  def sorted_window(indices, window):
    batch = dict(decode(window), **{EXAMPLE_INDEX: tf.cast(indices, tf.int32)})
    order = tf.argsort(_lengths(batch), stable=True)
    return {name: tf.gather(values, order) for name, values in batch.items()}

  windows = records.enumerate().batch(SORT_WINDOW).map(sorted_window)
  batches = windows.unbatch().batch(batch_size, drop_remainder)
  return _cut(batches, features, trim_padding).prefetch(tf.data.AUTOTUNE)


def _lengths(batch):
  """Returns int32 [B], the place after the last real token of each sequence, or group of them."""
  mask = batch["input_mask"]  # [B, S] or [B, S, C]
  if mask.shape.rank == 3:
    mask = tf.reduce_max(mask, axis=2)
  return tf.reduce_max(mask * tf.range(1, tf.shape(mask)[1] + 1), axis=1)


def _cut(batches, features, trim_padding):
  if not trim_padding:
    return batches
  names = {feature.name for feature in features if feature.per_token}
  return batches.map(lambda batch: cut_to_longest(batch, names), tf.data.AUTOTUNE)


def cut_to_longest(batch: dict[str, tf.Tensor], names: Collection[str]) -> dict[str, tf.Tensor]:
  """Removes the columns that are padding in each row.

  With sequences of 5 and 11 tokens, padded to 128, a batch becomes 16 columns wide.

  Args:
    batch: name -> tensor [B, ...], with "input_mask" int32 [B, S] or [B, S, C].
    names: the features with one value per token.

  Returns:
    The same tensors, those of `names` [B, L, ...], L a multiple of LENGTH_MULTIPLE or S.
  """
  longest = tf.maximum(tf.reduce_max(_lengths(batch)), 1)
  columns = (longest + LENGTH_MULTIPLE - 1) // LENGTH_MULTIPLE * LENGTH_MULTIPLE
  return {name: v[:, :columns] if name in names else v for name, v in batch.items()}


def in_input_order(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
  """Yields predictions in the order of the input, by EXAMPLE_INDEX, which it removes.

  Rows without EXAMPLE_INDEX are in order. At most a window of examples is kept in memory.

  Raises:
    RuntimeError: an example is missing or came twice.
  """
  waiting, place = {}, 0
  for row in rows:
    row = dict(row)
    index = int(row.pop(EXAMPLE_INDEX, place))
    if index < place or index in waiting:
      raise RuntimeError(f"example {index} was predicted twice")
    waiting[index] = row
    while place in waiting:
      yield waiting.pop(place)
      place += 1
  if waiting:
    raise RuntimeError(f"example {place} was not predicted")
