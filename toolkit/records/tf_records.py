"""Features of a task as a table, and rows of it to the bytes of tf.train.Example messages and back.

Needs no TensorFlow, which takes seconds to load, so that worker processes can make the bytes.
"""

import functools
from typing import NamedTuple

import numpy as np


class Feature(NamedTuple):
  """One feature of a task.

  Attributes:
    name: str, key in the tf.train.Example and in the batch.
    dtype: np.int32 (stored as int64) or np.float32.
    shape: (), (length,) or (length, width); a row has the values of the last one after the other.
    per_token: bool, whether it has one value a token, padding included.
  """

  name: str
  dtype: type
  shape: tuple = ()
  per_token: bool = False


class _Varints(dict):
  """Int -> its bytes in the protocol buffers' encoding, made once for each number.

  Seven bits a byte, the lowest first, the top bit set on all bytes but the last: 300 -> ac 02.
  Negative numbers count from 2**64 downwards.
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
  """The values of a feature in the form that a message has them in, from pack or parts of it."""


def pack(values, dtype=np.int32):
  """Encodes the values of a feature, so that serialize need not do it again.

  Args:
    values: list of numbers.
    dtype: np.int32 or np.float32, as Feature has it.

  Returns:
    Packed. That of a list is that of its parts, one after the other.
  """
  if dtype is np.float32:
    return Packed(np.asarray(values, "<f4").tobytes())
  if len(values) and min(values) >= 0 and max(values) < 128:  # masks, segments: a byte each
    return Packed(list(values))
  return Packed(b"".join(map(_VARINTS.__getitem__, values)))


def _field(number, payload):
  """A field of a message: its number with the mark for "bytes follow", their count, the bytes."""
  return _VARINTS[number * 8 + 2] + _VARINTS[len(payload)] + payload


@functools.cache
def _before_values(name, dtype, size):
  """An entry of the message's map up to the values, which take `size` bytes."""
  values = bytes(size)
  kind = 2 if dtype is np.float32 else 3  # Feature.float_list or Feature.int64_list
  value = _field(kind, _field(1, values) if values else b"")
  entry = _field(1, _field(1, name.encode()) + _field(2, value))
  return entry[: len(entry) - size]


def serialize(row, features):
  """Makes the bytes of a tf.train.Example.

  Args:
    row: dict of feature name -> number, list of numbers, or Packed.
    features: table of Feature.

  Returns:
    bytes, those of the message's deterministic serialisation in TensorFlow.
  """
  parts = []
  for feature in sorted(features):
    values = row[feature.name] if feature.shape else [row[feature.name]]
    if type(values) is not Packed:
      values = pack(values, feature.dtype)
    parts += _before_values(feature.name, feature.dtype, len(values)), values
  return _field(1, b"".join(parts))


def parse(data):
  """Reads the bytes of a tf.train.Example that serialize, or TensorFlow, has made.

  Args:
    data: bytes.

  Returns:
    Dict of feature name -> list of int, or of float. Names are sorted, if serialize has made them.
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
  """List of int; numbers from 2**63 on stand for negative ones."""
  numbers, place = [], 0
  while place < len(packed):
    number, place = _read_varint(packed, place)
    numbers.append(number if number < 2**63 else number - 2**64)
  return numbers


def _read_varint(data, place):
  """The number that begins at a place, and the place behind it."""
  number = shift = 0
  while True:
    number += (data[place] & 127) << shift
    shift += 7
    place += 1
    if data[place - 1] < 128:
      return number, place
