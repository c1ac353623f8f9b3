"""Features of a task as a table, its rows as tf.train.Example messages, and files of these.

Needs no TensorFlow, which takes seconds to load, so that worker processes can write records.
"""

import contextlib
import functools
import os
import struct
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Optional, Union

import google_crc32c
import numpy as np
from absl import logging

from toolkit.support import files

SORT_WINDOW = 4096  # examples within which evaluation and prediction sort by length

# Bytes of a TFRecord file before and after the content of a record.
_FRAME_BEFORE, _FRAME_BEHIND = 12, 4


class Feature(NamedTuple):
  """One feature of a task.

  Attributes:
    name: key in the tf.train.Example and in the batch.
    dtype: np.int32 (stored as int64) or np.float32.
    shape: (), (length,) or (length, width), whose values are a flat list in a row.
    per_token: True for a value, or `width` of them, per token, padding included.
  """

  name: str
  dtype: type
  shape: tuple[int, ...] = ()
  per_token: bool = False


# The columns of records that are a model's input, one int32 per word piece.
INPUTS = ("input_ids", "input_mask", "segment_ids")


def token_features(
  seq_length: int, names: Sequence[str] = INPUTS, width: Optional[int] = None
) -> list[Feature]:
  """Returns the columns of records with an int32 per word piece, of one text or of `width` texts.

  Their shape is [S] or [S, width].
  """
  shape = (seq_length,) if width is None else (seq_length, width)
  return [Feature(name, np.int32, shape, per_token=True) for name in names]


def log_example(**values: object) -> None:
  """Logs an example, one line per value; the items of a list or dict are joined by spaces."""
  logging.info("*** Example ***")
  for name, value in values.items():
    if isinstance(value, dict):
      value = [f"{key}:{item}" for key, item in value.items()]
    logging.info("%s: %s", name, " ".join(map(str, value)) if isinstance(value, list) else value)


class _Varints(dict):
  """Int -> its bytes in the protocol buffers' encoding, computed once per number.

  Seven bits per byte, the lowest first, the top bit set on all bytes but the last: 300 -> ac 02.
  Negative numbers are encoded as number + 2**64.
  """

  def __missing__(self, number):
    rest, made = int(number) % 2**64, bytearray()
    while rest > 127:
      made.append(rest % 128 + 128)
      rest //= 128
    made.append(rest)
    self[number] = bytes(made)
    return self[number]


_VARINTS = _Varints()


class Packed(bytes):
  """The values of a feature as encoded in a message, from pack or parts of it."""


def pack(values: Union[Sequence[Any], np.ndarray], dtype: type = np.int32) -> Packed:
  """Encodes numbers of Feature.dtype for serialize; the codes of parts can be concatenated."""
  if dtype is np.float32:
    return Packed(np.asarray(values, "<f4").tobytes())
  if len(values) and min(values) >= 0 and max(values) < 128:  # masks, segments: a byte each
    return Packed(list(values))
  return Packed(b"".join(map(_VARINTS.__getitem__, values)))


def _field(number, payload):
  """Encodes a field of a message: number and wire type 2 (length-delimited), length, bytes."""
  return _VARINTS[number * 8 + 2] + _VARINTS[len(payload)] + payload


@functools.cache
def _before_values(name, dtype, size):
  """Encodes an entry of the message's map up to its values, which take `size` bytes."""
  values = bytes(size)
  kind = 2 if dtype is np.float32 else 3  # Feature.float_list or Feature.int64_list
  value = _field(kind, _field(1, values) if values else b"")
  entry = _field(1, _field(1, name.encode()) + _field(2, value))
  return entry[: len(entry) - size]


def serialize(row: dict[str, Any], features: Sequence[Feature]) -> bytes:
  """Serializes a tf.train.Example as TensorFlow's deterministic serialization does.

  Args:
    row: feature name -> number, list of numbers, or Packed.
    features: the table of the row.
  """
  parts: list[bytes] = []
  for feature in sorted(features):
    values = row[feature.name] if feature.shape else [row[feature.name]]
    if type(values) is not Packed:
      values = pack(values, feature.dtype)
    parts += _before_values(feature.name, feature.dtype, len(values)), values
  return _field(1, b"".join(parts))


def parse(data: bytes) -> dict[str, list[Any]]:
  """Parses a tf.train.Example of serialize or TensorFlow to its lists of int or float.

  Names are in their order in the message: sorted in those of serialize.
  """
  row = {}
  for _, features in _fields(data):
    for _, entry in _fields(features):
      (_, name), (_, value) = sorted(_fields(entry))
      ((kind, numbers),) = _fields(value)
      packed = b"".join(values for _, values in _fields(numbers))
      row[name.decode()] = np.frombuffer(packed, "<f4").tolist() if kind == 2 else _unpack(packed)
  return row


def _fields(message):
  """Yields the number and the bytes of each field of a message."""
  place = 0
  while place < len(message):
    key, place = _read_varint(message, place)
    size, place = _read_varint(message, place)
    yield key // 8, message[place : place + size]
    place += size


def _unpack(packed):
  """Decodes a list of int; codes from 2**63 on are those of negative numbers."""
  numbers, place = [], 0
  while place < len(packed):
    number, place = _read_varint(packed, place)
    numbers.append(number if number < 2**63 else number - 2**64)
  return numbers


def _read_varint(data, place):
  """Decodes the number that begins at a place; returns it and the place after it."""
  number = shift = 0
  while True:
    number += (data[place] & 127) << shift
    shift += 7
    place += 1
    if data[place - 1] < 128:
      return number, place


# ---- Files --------------------------------------------------------------------------------------


def framed(data: bytes) -> bytes:
  """Returns a record as in TFRecord files: length, its checksum, the bytes, their checksum."""
  return b"".join((_framed_length(len(data)), data, _checksum(data)))


def unframed(record: bytes) -> bytes:
  """Returns the argument of `framed` for its result."""
  return record[_FRAME_BEFORE:-_FRAME_BEHIND]


@functools.lru_cache(maxsize=10_000)
def _framed_length(length):
  packed = struct.pack("<Q", length)
  return packed + _checksum(packed)


def _checksum(data):
  """Returns the masked CRC-32C of TFRecord: rotated by 15 bits, plus a constant."""
  crc = google_crc32c.value(data)
  return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


class RecordWriter:
  """Writes rows to a TFRecord file that gets its name only when it is complete.

  with RecordWriter("train.tf_record", features) as writer:
    writer.write(row)

  Each method raises files.InputError if the file cannot be written.
  """

  def __init__(self, path: str, features: Sequence[Feature] = ()) -> None:
    """Opens the file; `features` are the table for `write`."""
    self._path = path
    self._features = features
    # An object store shows an object only when it is complete.
    self._temporary = path if files.is_remote(path) else f"{path}.tmp{os.getpid()}"
    with self._converted_errors():
      self._file = files.open_binary(self._temporary, "w")
      self._file.write(b"")  # a remote file is opened no earlier

  def write(self, row: dict[str, Any]) -> None:
    """Appends a row: feature name -> number, list of numbers, or Packed."""
    self.write_serialized(serialize(row, self._features))

  def write_serialized(self, example: bytes) -> None:
    """Appends a row of `serialize`."""
    record = framed(example)
    with self._converted_errors():
      self._file.write(record)

  def close(self) -> None:
    """Completes the file."""
    with self._converted_errors():
      self._file.close()
      if self._temporary != self._path:
        os.replace(self._temporary, self._path)

  def _converted_errors(self):
    return files.converted_write_errors(self._path, Exception)

  def __enter__(self) -> "RecordWriter":
    return self

  def __exit__(self, error_type: Optional[type[BaseException]], *_: object) -> None:
    if error_type is None:
      self.close()
      return
    with contextlib.suppress(Exception):  # on a full disk closing fails too
      self._file.close()
    files.remove(self._temporary)


def write_records(path: str, rows: Iterable[dict[str, Any]], features: Sequence[Feature]) -> None:
  """Writes a TFRecord file whole or not at all; see serialize for the rows.

  Raises:
    files.InputError: the file cannot be written.
  """
  with RecordWriter(path, features) as writer:
    for row in rows:
      writer.write(row)
