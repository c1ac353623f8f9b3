"""Features of a task as one table: how they are written to TFRecord files, read, and batched.

A table is a list of Feature. The writer and the reader go by the same table, so that a feature
cannot be written and not read.
"""

import functools
import os

import numpy as np
import tensorflow.compat.v1 as tf

import files
from tf_example import Feature, serialize  # noqa: F401, both are part of this module

# Name of the feature that holds an example's place in the input, from 0.
EXAMPLE_INDEX = "example_index"
# Evaluation and prediction sort by length within windows of this many examples.
SORT_WINDOW = 4096
# Cut batches are a multiple of this long, so that few different shapes occur.
LENGTH_MULTIPLE = 8


class RecordWriter:
  """Writes rows to a TFRecord file that gets its name only when it is complete.

  with RecordWriter("train.tf_record", features) as writer:
    writer.write(row)
  """

  def __init__(self, path, features):
    self._path = path
    self._features = features
    # A store of objects shows an object only when it is complete.
    self._temporary = path if files.is_remote(path) else f"{path}.tmp{os.getpid()}"
    try:
      self._writer = tf.io.TFRecordWriter(self._temporary)
    except tf.errors.OpError as error:
      raise files.InputError(f"{path}: cannot be written: {files.describe(error)}") from error

  def write(self, row):
    """Appends a row, a dict of feature name -> number or list of numbers."""
    self.write_serialized(serialize(row, self._features))

  def write_serialized(self, example):
    """Appends the bytes of a row, which tf_example.serialize made."""
    self._writer.write(example)

  def close(self):
    """Completes the file."""
    self._writer.close()
    if self._temporary != self._path:
      os.replace(self._temporary, self._path)

  def __enter__(self):
    return self

  def __exit__(self, error_type, error, traceback):
    if error_type is None:
      self.close()
      return
    self._writer.close()
    files.remove(self._temporary)


def write_records(path, rows, features):
  """Writes a TFRecord file, whole or not at all.

  Args:
    path: the file.
    rows: iterable of dicts of feature name -> number or list of numbers.
    features: table of Feature.

  Raises:
    files.InputError: the file cannot be written.
  """
  with RecordWriter(path, features) as writer:
    for row in rows:
      writer.write(row)


def count_records(paths):
  """Number of records in TFRecord files."""
  return sum(1 for path in paths for _ in tf.python_io.tf_record_iterator(path))


def parse_records(serialized, features):
  """Decodes a batch of records.

  Args:
    serialized: string [B].
    features: table of Feature.

  Returns:
    Dict of name -> int32 or float32 [B, ...].
  """
  stored = {
    f.name: tf.FixedLenFeature(f.shape, tf.float32 if f.dtype is np.float32 else tf.int64)
    for f in features
  }
  parsed = tf.io.parse_example(serialized, stored)
  return {f.name: tf.cast(parsed[f.name], tf.as_dtype(f.dtype)) for f in features}


def read_input_fn(
  path, features, is_training, drop_remainder, trim_padding=False, seed=None, num_seen=0
):
  """Makes the input_fn of an estimator that reads a TFRecord file.

  Args:
    path: the file.
    features: table of Feature.
    is_training: bool; the examples come shuffled and without end, or once and in order.
    drop_remainder: bool, whether a last batch that is not full is left out.
    trim_padding: bool, whether batches are cut to their longest sequence. Examples that are not for
      training then come sorted by length, with their place in the input as EXAMPLE_INDEX.
    seed: int or None, of the order of training.
    num_seen: int, examples that training has seen already: their part of the order is skipped.

  Returns:
    Function of params, a dict with "batch_size", to a tf.data.Dataset of batches.
  """
  decode = functools.partial(parse_records, features=features)

  def input_fn(params):
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
      drop_remainder,
      trim_padding,
      seed,
      num_seen,
    )

  return input_fn


def slices_input_fn(rows, features, is_training, drop_remainder):
  """Makes an input_fn like read_input_fn's, of rows in memory.

  Args:
    rows: list of dicts of feature name -> number or list of numbers.
    features: table of Feature.
    is_training, drop_remainder: as read_input_fn has them.
  """
  columns = {
    f.name: np.array([row[f.name] for row in rows], f.dtype).reshape(-1, *f.shape) for f in features
  }

  def input_fn(params):
    dataset = tf.data.Dataset.from_tensor_slices(columns)
    arguments = (params["batch_size"], features, lambda batch: batch, drop_remainder)
    if is_training:
      return training_batches(dataset, len(rows), *arguments)
    return ordered_batches(dataset, *arguments)

  return input_fn


def training_batches(
  records,
  num_records,
  batch_size,
  features,
  decode,
  drop_remainder=True,
  trim_padding=False,
  seed=None,
  num_seen=0,
):
  """Batches without end, the whole set in a new order each epoch; a batch may span two epochs.

  Args:
    records: tf.data.Dataset of single records.
    num_records: int, how many there are.
    batch_size: int.
    features: table of Feature.
    decode: function of a batch of records to a dict of name -> tensor [B, ...].
    drop_remainder: bool; whether the batches' shape is static (none is ever cut short).
    trim_padding: bool, whether batches are cut to their longest sequence.
    seed: int or None; with one, the order depends on it and on the epoch alone.
    num_seen: int, examples at the beginning of the order that are skipped.

  Returns:
    tf.data.Dataset of dicts of name -> tensor [B, ...].
  """

  def epoch(number):
    return records.shuffle(num_records, seed=seed + number, reshuffle_each_iteration=False)

  if seed is None:
    ordered = records.shuffle(num_records).repeat().skip(num_seen)
  else:
    first_epoch, num_skipped = divmod(num_seen, num_records)
    epochs = tf.data.Dataset.range(first_epoch, tf.int64.max)
    ordered = epochs.flat_map(epoch).skip(num_skipped)
  batches = ordered.batch(batch_size, drop_remainder).map(decode, tf.data.AUTOTUNE)
  return _cut(batches, features, trim_padding).prefetch(tf.data.AUTOTUNE)


def ordered_batches(
  records, batch_size, features, decode, drop_remainder=False, trim_padding=False
):
  """Batches of each record once; see training_batches for the arguments.

  With trim_padding they come sorted by length, in windows, with EXAMPLE_INDEX.
  """
  if not trim_padding:
    return records.batch(batch_size, drop_remainder).map(decode).prefetch(tf.data.AUTOTUNE)

  def sorted_window(indices, window):
    batch = dict(decode(window), **{EXAMPLE_INDEX: tf.cast(indices, tf.int32)})
    order = tf.argsort(_lengths(batch), stable=True)
    return {name: tf.gather(values, order) for name, values in batch.items()}

  windows = records.enumerate().batch(SORT_WINDOW).map(sorted_window)
  batches = windows.unbatch().batch(batch_size, drop_remainder)
  return _cut(batches, features, trim_padding).prefetch(tf.data.AUTOTUNE)


def _lengths(batch):
  """int32 [B]: the place behind each sequence's last real token."""
  mask = batch["input_mask"]  # [B, S]
  return tf.reduce_max(mask * tf.range(1, tf.shape(mask)[1] + 1), axis=1)


def _cut(batches, features, trim_padding):
  if not trim_padding:
    return batches
  names = {feature.name for feature in features if feature.per_token}
  return batches.map(lambda batch: cut_to_longest(batch, names), tf.data.AUTOTUNE)


def cut_to_longest(batch, names):
  """Cuts off the columns that are padding in each row.

  With sequences of 5 and 11 tokens, padded to 128, a batch becomes 16 columns wide.

  Args:
    batch: dict of name -> tensor [B, ...], with "input_mask" int32 [B, S].
    names: the features that have one value a token.

  Returns:
    Dict of the same tensors, those of `names` [B, L, ...], L a multiple of LENGTH_MULTIPLE or S.
  """
  longest = tf.maximum(tf.reduce_max(_lengths(batch)), 1)
  columns = (longest + LENGTH_MULTIPLE - 1) // LENGTH_MULTIPLE * LENGTH_MULTIPLE
  return {name: v[:, :columns] if name in names else v for name, v in batch.items()}


def in_input_order(rows):
  """Puts predictions back into the order of the input.

  Args:
    rows: iterable of dicts. Those with EXAMPLE_INDEX are ordered by it; those without
      are taken to be in order.

  Yields:
    The dicts without EXAMPLE_INDEX. No more of them wait than a window has examples.

  Raises:
    RuntimeError: an example is lost or came twice.
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
