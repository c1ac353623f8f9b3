"""Writers of extracted features: JSON lines, or compact arrays in .npz shards.

One line of JSON per line of the input, with the vectors of its word pieces or one pooled vector:

  {"linex_index": 0, "features": [{"token": "[CLS]", "layers": [{"index": -1, "values": [...]}]}]}
  {"linex_index": 0, "values": [...]}

A shard has the arrays (numpy.load reads them, without pickle; N lines, T word pieces in all):

  linex_index  int64 [N]                   numbers of the input lines, from 0
  layers       int64 [L]                   indexes of the layers
  values       float32 or float16          [L, T, H], vectors of the word pieces; or [N, W], pooled
  offsets      int64 [N + 1]               word pieces of line n: offsets[n] up to offsets[n + 1]
  tokens       str [T]                     the word pieces; this and offsets only if not pooled
"""

import glob
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np

from toolkit.support import files

FORMATS = ("jsonl", "npz")


class JsonLinesWriter:
  """Writes a file of JSON lines whole or not at all; one named .gz is compressed.

  with JsonLinesWriter("features.jsonl", layers=[-1]) as writer:
    writer.write(0, ["[CLS]", "a", "[SEP]"], values)
  """

  def __init__(self, path: str, layers: Sequence[int]) -> None:
    self._layers = layers
    self._context = files.new_file(path)

  def __enter__(self) -> "JsonLinesWriter":
    self._file = self._context.__enter__()
    return self

  def __exit__(self, *error: Any) -> Optional[bool]:
    return self._context.__exit__(*error)

  def write(self, number: int, tokens: list[str], values: np.ndarray) -> None:
    """Appends a line.

    Args:
      number: the line's number in the input, from 0.
      tokens: its T word pieces.
      values: float32 [L, T, H], the vectors of the word pieces; or [W], a pooled one.
    """
    if values.ndim == 1:
      content = f'"values": [{decimal_rows(values[np.newaxis])[0]}]'
    else:
      content = f'"features": [{self._features(tokens, values)}]'
    self._file.write(f'{{"linex_index": {number}, {content}}}\n'.encode("ascii"))

  def _features(self, tokens, values):
    vectors = iter(decimal_rows(values.swapaxes(0, 1).reshape(-1, values.shape[-1])))
    layers = [f'{{"index": {layer}, "values": [' for layer in self._layers]
    parts = []
    for token in tokens:
      listed = ", ".join([f"{layer}{next(vectors)}]}}" for layer in layers])
      parts.append(f'{{"token": {json.dumps(token)}, "layers": [{listed}]}}')
    return ", ".join(parts)


# Parts of a number's text: -12.034500 is ", -12.", "034" and "5". Shorter ones are padded with NUL
# bytes, which are removed in the end.
_HEADS = np.array([f", {sign}{whole}." for sign in ("", "-") for whole in range(1000)], "S7")
_FIRST_PLACES = np.array(  # those that end a number, then those before more places
  [f"{places:03}".rstrip("0") or "0" for places in range(1000)]
  + [f"{places:03}" for places in range(1000)],
  "S3",
)
_LAST_PLACES = np.array([f"{places:03}".rstrip("0") for places in range(1000)], "S3")
_NUMBER = np.dtype([("head", "S7"), ("first", "S3"), ("last", "S3")])


def decimal_rows(values: np.ndarray) -> list[str]:
  """Formats rows of finite float32 [rows, N], rounded to 6 places.

  The text is that of Python's round and json.dumps, in a tenth of the time:
  [[1.5, -0.0416666], [0.00002, 3]] -> ["1.5, -0.041667", "2e-05, 3.0"]
  """
  values = values.astype(np.float64)  # represents a float32 times a million exactly
  millionths = np.rint(np.abs(values) * 1e6)
  # Smaller numbers have an exponent, larger ones are not in _HEADS.
  is_plain = (millionths == 0) | ((millionths >= 100) & (millionths < 1e9))
  whole, places = np.divmod(np.where(is_plain, millionths, 0).astype(np.int32), 10**6)
  first, last = np.divmod(places, 1000)
  text = np.empty(values.shape, _NUMBER)
  text["head"] = _HEADS[whole + 1000 * np.signbit(values)]
  text["first"] = _FIRST_PLACES[first + 1000 * (last > 0)]
  text["last"] = _LAST_PLACES[last]
  return [
    text[row].tobytes().translate(None, b"\0")[2:].decode("ascii")
    if plain
    else json.dumps(np.round(values[row], 6).tolist())[1:-1]
    for row, plain in enumerate(is_plain.all(axis=1))
  ]


class NpzWriter:
  """Writes .npz shards, each of them whole or not at all.

  A single shard is the file `path`, which ends in .npz; several are features-00000-of-00003.npz and
  so on, with `shard_size` of `num_lines` lines each. They replace all shards of an earlier run.
  `is_half` stores values as float16.
  """

  def __init__(
    self, path: str, layers: Sequence[int], num_lines: int, shard_size: int, is_half: bool = False
  ) -> None:
    self._path = path
    self._layers = layers
    self._shard_size = shard_size
    self._num_shards = -(-num_lines // shard_size)
    self._dtype = np.float16 if is_half else np.float32
    self._num_written = 0
    self._begin_shard()

  def _begin_shard(self):
    self._numbers, self._tokens = [], []
    self._spools = []  # files with the values so far: one per layer, or one of pooled vectors
    self._width = None  # numbers in a vector

  def __enter__(self) -> "NpzWriter":
    return self

  def __exit__(self, error_type: Optional[type[BaseException]], *_: object) -> None:
    if error_type is None and self._numbers:
      self._write_shard()
    for spool in self._spools:
      spool.close()

  def write(self, number: int, tokens: list[str], values: np.ndarray) -> None:
    """Appends a line; see JsonLinesWriter.write."""
    layers = values if values.ndim == 3 else [values]
    with files.converted_write_errors(self._path):
      if not self._spools:
        directory = None if files.is_remote(self._path) else os.path.dirname(self._path) or "."
        self._spools = [tempfile.TemporaryFile(dir=directory) for _ in layers]  # noqa: SIM115
      for spool, vectors in zip(self._spools, layers):
        spool.write(vectors.astype(self._dtype).tobytes())
    self._numbers.append(number)
    self._tokens.append(tokens if values.ndim == 3 else None)
    self._width = values.shape[-1]
    if len(self._numbers) == self._shard_size:
      self._write_shard()

  def _write_shard(self):
    arrays = {"linex_index": np.array(self._numbers), "layers": np.array(self._layers)}
    shape = [len(self._numbers), self._width]
    if self._tokens[0] is not None:
      arrays["offsets"] = np.cumsum([0, *map(len, self._tokens)])
      arrays["tokens"] = np.array([token for line in self._tokens for token in line])
      shape = [len(self._spools), len(arrays["tokens"]), self._width]
    name = self._name(self._num_written)
    with files.new_file(name) as f, zipfile.ZipFile(f, "w") as archive:
      for key, array in arrays.items():
        with archive.open(f"{key}.npy", "w") as member:
          np.lib.format.write_array(member, array, allow_pickle=False)
      self._write_values(archive, shape)
    self._begin_shard()
    if self._num_written == 0:
      self._remove_old_shards(name)
    self._num_written += 1

  def _write_values(self, archive, shape):
    """Moves the values from the spools into an archive in blocks."""
    header = {
      "descr": np.lib.format.dtype_to_descr(np.dtype(self._dtype)),
      "fortran_order": False,
      "shape": tuple(shape),
    }
    with archive.open("values.npy", "w", force_zip64=True) as member:
      np.lib.format.write_array_header_1_0(member, header)
      for spool in self._spools:
        spool.seek(0)
        shutil.copyfileobj(spool, member, 2**20)
        spool.close()

  def _name(self, number):
    if self._num_shards == 1:
      return self._path
    stem = os.path.splitext(self._path)[0]
    return f"{stem}-{number:05d}-of-{self._num_shards:05d}.npz"

  def _remove_old_shards(self, new):
    stem, digits = os.path.splitext(self._path)[0], "[0-9]" * 5
    old = files.glob(f"{glob.escape(stem)}-{digits}-of-{digits}.npz")
    for path in [*old, self._path]:
      if path != new and files.exists(path):
        files.remove(path)
