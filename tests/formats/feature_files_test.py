"""Files of extracted features."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from toolkit.formats import feature_files
from toolkit.support import files

TOKENS = ["[CLS]", 'ü"', "[SEP]"]


def by_python(values):
  return [json.dumps([round(float(x), 6) for x in row])[1:-1] for row in values]


def test_numbers_as_text():
  values = np.array([[1.5, -0.0416666], [0.00002, 3]], np.float32)
  assert feature_files.decimal_rows(values) == ["1.5, -0.041667", "2e-05, 3.0"]


@pytest.mark.parametrize(
  "row",
  [
    [0.0, -0.0, 1e-7, -1e-7, 0.0000995, 0.0001, 0.000101],  # with an exponent in repr, or not
    [0.1, 0.12, 0.123, 0.1234, 0.12345, 0.123456, 0.100001, 0.001, 0.0101],
    [9.9999995, 99.999999, 999.9999, 1000.0, -1000.5, 123456.78, 1e9, 3e38],
    [0.5, 2.0**-7, 2.0**-20, -(2.0**-21), 2.0**-149],  # halves of the last place go to the even one
  ],
)
def test_numbers_are_those_of_round(row):
  values = np.array([row], np.float32)
  assert feature_files.decimal_rows(values) == by_python(values)
  singly = np.array([row], np.float32).T  # no number takes the way of its neighbours
  assert feature_files.decimal_rows(singly) == by_python(singly)


@given(
  st_numpy.arrays(
    np.float32,
    st_numpy.array_shapes(min_dims=2, max_dims=2),
    elements=st.floats(-2000, 2000, width=32) | st.floats(-1, 1, width=32),
  )
)
def test_any_numbers_are_those_of_round(values):
  assert feature_files.decimal_rows(values) == by_python(values)


def vectors(num_layers, num_tokens, seed=0):
  return np.random.RandomState(seed).randn(num_layers, num_tokens, 4).astype(np.float32)


def test_a_line_of_word_pieces(tmp_path):
  path, values = tmp_path / "a.jsonl", vectors(2, 3)
  with feature_files.JsonLinesWriter(str(path), [-1, 0]) as writer:
    writer.write(7, TOKENS, values)
  features = [
    {
      "token": token,
      "layers": [
        {"index": index, "values": [round(float(x), 6) for x in values[layer, place]]}
        for layer, index in enumerate([-1, 0])
      ],
    }
    for place, token in enumerate(TOKENS)
  ]
  assert path.read_text() == json.dumps({"linex_index": 7, "features": features}) + "\n"


def test_pooled_lines_compressed(tmp_path):
  for name in ("a.jsonl.gz", "again.jsonl.gz"):
    with feature_files.JsonLinesWriter(str(tmp_path / name), [-1]) as writer:
      writer.write(0, TOKENS, np.array([0.5, -2], np.float32))
      writer.write(1, TOKENS, np.array([0, 1 / 3], np.float32))
  content = (tmp_path / "a.jsonl.gz").read_bytes()
  assert gzip.decompress(content).decode() == (
    '{"linex_index": 0, "values": [0.5, -2.0]}\n{"linex_index": 1, "values": [0.0, 0.333333]}\n'
  )
  assert content == (tmp_path / "again.jsonl.gz").read_bytes()


def test_a_failure_leaves_the_old_file(tmp_path):
  path = tmp_path / "a.jsonl"
  path.write_text("old")
  writer = feature_files.JsonLinesWriter(str(path), [-1])
  with pytest.raises(files.InputError, match="broken weights"), writer:
    writer.write(0, TOKENS, np.ones(2, np.float32))
    raise files.InputError("broken weights")
  assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def write_shards(path, lines, shard_size, is_half=False):
  with feature_files.NpzWriter(path, [-1, -2], len(lines), shard_size, is_half) as writer:
    for number, (tokens, values) in enumerate(lines):
      writer.write(number, tokens, values)


def read(path):
  with np.load(path, allow_pickle=False) as arrays:
    return dict(arrays)


def test_shards_of_word_pieces(tmp_path):
  lines = [(TOKENS[:n], vectors(2, n, seed=n)) for n in (3, 2, 1)]
  write_shards(str(tmp_path / "a.npz"), lines, shard_size=2)
  first, second = (read(tmp_path / f"a-0000{i}-of-00002.npz") for i in range(2))
  assert first["linex_index"].tolist() == [0, 1] and second["linex_index"].tolist() == [2]
  assert first["layers"].tolist() == [-1, -2]
  assert first["offsets"].tolist() == [0, 3, 5] and second["offsets"].tolist() == [0, 1]
  assert first["tokens"].tolist() == TOKENS + TOKENS[:2]
  assert first["values"].dtype == np.float32 and first["values"].shape == (2, 5, 4)
  np.testing.assert_array_equal(first["values"][:, 3:5], lines[1][1])


@pytest.mark.parametrize("is_half", [False, True])
def test_pooled_shard(tmp_path, is_half):
  lines = [(TOKENS, np.array([n / 3, 1], np.float32)) for n in range(3)]
  write_shards(str(tmp_path / "a.npz"), lines, 3, is_half)
  arrays = read(tmp_path / "a.npz")
  assert sorted(arrays) == ["layers", "linex_index", "values"]
  assert arrays["values"].dtype == (np.float16 if is_half else np.float32)
  np.testing.assert_allclose(arrays["values"][:, 0], [0, 1 / 3, 2 / 3], atol=1e-3)


def test_old_shards_go_and_other_files_stay(tmp_path):
  line = (TOKENS, np.ones(2, np.float32))
  path = str(tmp_path / "a[1].npz")
  other = tmp_path / "a[1]-x-of-00002.npz"
  other.write_text("")
  write_shards(path, [line] * 4, 1)
  write_shards(path, [line] * 4, 2)
  names = ["a[1]-00000-of-00002.npz", "a[1]-00001-of-00002.npz"]
  assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*names, other.name])
  write_shards(path, [line] * 4, 4)
  assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["a[1].npz", other.name])


def test_remote_files(tmp_path):
  """file:// paths are read and written like gs:// paths."""
  write_shards(f"file://{tmp_path}/a.npz", [(TOKENS, vectors(2, 3))] * 2, 1)
  np.testing.assert_array_equal(read(tmp_path / "a-00001-of-00002.npz")["values"], vectors(2, 3))
  with feature_files.JsonLinesWriter(f"file://{tmp_path}/a.jsonl.gz", [-1]) as writer:
    writer.write(0, TOKENS, np.ones(1, np.float32))
  assert gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()) == (
    b'{"linex_index": 0, "values": [1.0]}\n'
  )
  assert len(list(tmp_path.iterdir())) == 3  # nothing temporary is left


def test_what_cannot_be_written(tmp_path):
  (tmp_path / "a.jsonl").mkdir()
  writer = feature_files.JsonLinesWriter(str(tmp_path / "a.jsonl"), [-1])
  with pytest.raises(files.InputError, match=r"a\.jsonl: cannot be written: "), writer:
    pass
  assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]
