"""Features of a task as a table, and rows of it as the bytes of tf.train.Example messages.

Needs no TensorFlow, which takes seconds to load, so that worker processes can make the bytes.
"""

from typing import NamedTuple

import numpy as np


class Feature(NamedTuple):
  """One feature of a task.

  Attributes:
    name: str, key in the tf.train.Example and in the batch.
    dtype: np.int32 (stored as int64) or np.float32.
    shape: () or (length,).
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


def _packed(values):
  """Varints of an iterable of int one after the other."""
  try:
    short = bytes(values)  # a number below 128 is one byte, and masks and segments have no others
    if short.isascii():
      return short
  except ValueError:  # a number that is no byte
    pass
  return b"".join(map(_VARINTS.__getitem__, values))


def _field(number, payload):
  """A field of a message: its number with the mark for "bytes follow", their count, the bytes."""
  return _VARINTS[number * 8 + 2] + _VARINTS[len(payload)] + payload


def serialize(row, features):
  """Makes the bytes of a tf.train.Example.

  Args:
    row: dict of feature name -> number, or list of numbers.
    features: table of Feature.

  Returns:
    bytes, those of the message's deterministic serialisation in TensorFlow.
  """
  entries = []
  for feature in sorted(features):
    values = row[feature.name] if feature.shape else [row[feature.name]]
    if feature.dtype is np.float32:
      kind, packed = 2, np.asarray(values, "<f4").tobytes()  # Feature.float_list
    else:
      kind, packed = 3, _packed(list(values))  # Feature.int64_list
    value = _field(kind, _field(1, packed) if packed else b"")
    entries.append(_field(1, _field(1, feature.name.encode()) + _field(2, value)))
  return _field(1, b"".join(entries))
