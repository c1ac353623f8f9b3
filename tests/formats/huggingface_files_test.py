"""Weights in one file and in several, of safetensors and of PyTorch, and files that are refused."""

import os
import sys
import types

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from tiny_huggingface import assert_identical, write_json

from toolkit.formats import huggingface_files
from toolkit.support import files

TENSORS = {
  "a.weight": np.array([[1.5, -0.0], [np.nan, 1e-45]], np.float32),
  "a.bias": np.array([2, 3], np.float16),
  "ids": np.arange(3, dtype=np.int64),
}


class Command:
  """An object whose unpickling would make a directory."""

  def __init__(self, path):
    self._path = path

  def __reduce__(self):
    return os.mkdir, (str(self._path),)


def refused(path):
  with pytest.raises(files.InputError) as refusal:
    huggingface_files.read_weights(str(path))
  assert "\n" not in str(refusal.value)
  return str(refusal.value)


def test_one_safetensors_file(tmp_path):
  safetensors.numpy.save_file(TENSORS, tmp_path / "model.safetensors")
  path, tensors = huggingface_files.read_weights(str(tmp_path))
  assert path == str(tmp_path / "model.safetensors")
  assert_identical(tensors, TENSORS)


def test_bfloat16(tmp_path):
  values = np.array([1.5, -2.0, 3e38], np.float32)
  upper_halves = (values.view(np.uint32) >> 16).astype(np.uint16)
  entry = {"dtype": "bfloat16", "shape": [3], "data": upper_halves.tobytes()}
  safetensors.serialize_file({"x": entry}, tmp_path / "model.safetensors")
  got = huggingface_files.read_safetensors(str(tmp_path / "model.safetensors"))["x"]
  want = (upper_halves.astype(np.uint32) << 16).view(np.float32)
  np.testing.assert_array_equal(got.astype(np.float32), want)


def write_pieces(directory, **changes):
  """Two safetensors files and their index."""
  weight_map = {"a.weight": "model-1.safetensors", "a.bias": "model-2.safetensors"}
  for name, file in weight_map.items():
    safetensors.numpy.save_file({name: TENSORS[name]}, directory / file)
  index = {"metadata": {"total_size": 20}, "weight_map": {**weight_map, **changes}}
  write_json(directory / "model.safetensors.index.json", index)


def test_several_files(tmp_path):
  write_pieces(tmp_path)
  path, tensors = huggingface_files.read_weights(str(tmp_path))
  assert path == str(tmp_path / "model.safetensors.index.json")
  assert_identical(tensors, {name: TENSORS[name] for name in ("a.weight", "a.bias")})


def test_pieces_that_lack_something(tmp_path):
  write_pieces(tmp_path, ids="model-2.safetensors")
  assert refused(tmp_path).endswith(
    "ids is not in model-2.safetensors, nor in another of its files"
  )
  os.remove(tmp_path / "model-2.safetensors")
  assert "model-2.safetensors: cannot be read: No such file" in refused(tmp_path)
  write_json(tmp_path / "model.safetensors.index.json", {"weight_map": {"ids": 2}})
  assert "index.json: weight_map does not map tensors to files" in refused(tmp_path)


def test_files_cut_short(tmp_path):
  path = tmp_path / "model.safetensors"
  safetensors.numpy.save_file(TENSORS, path)
  whole = path.read_bytes()
  for length in (len(whole) - 1, 20, 0):
    path.write_bytes(whole[:length])
    assert "model.safetensors: is damaged or no safetensors file: " in refused(tmp_path)


def test_no_weights_at_all(tmp_path):
  assert "has no weights, neither model.safetensors nor pytorch_model.bin" in refused(tmp_path)


def test_pytorch_is_not_installed(tmp_path, monkeypatch):
  (tmp_path / "pytorch_model.bin").write_bytes(b"anything")
  monkeypatch.setitem(sys.modules, "torch", None)
  message = refused(tmp_path)
  assert "pytorch_model.bin: PyTorch is needed to read it, and not installed: pip" in message
  safetensors.numpy.save_file(TENSORS, tmp_path / "model.safetensors")
  assert huggingface_files.read_weights(str(tmp_path))[1].keys() == TENSORS.keys()


def test_pytorch_whose_loader_is_not_safe(tmp_path, monkeypatch):
  (tmp_path / "pytorch_model.bin").write_bytes(b"anything")
  monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(__version__="2.5.1+cpu"))
  assert "PyTorch 2.5.1+cpu cannot read it safely: pip install 'torch>=2.6'" in refused(tmp_path)


@pytest.mark.parametrize("is_old", [False, True])
def test_pytorch_file(tmp_path, is_old):
  torch = pytest.importorskip("torch")
  tensors = {name: torch.from_numpy(value) for name, value in TENSORS.items()}
  tensors["brain"] = torch.tensor([1.5, -2.0], dtype=torch.bfloat16)
  tensors["trained"] = torch.nn.Parameter(torch.ones(2))
  path = tmp_path / "pytorch_model.bin"
  torch.save(tensors, path, _use_new_zipfile_serialization=not is_old)
  want = {
    **TENSORS,
    "a.bias": TENSORS["a.bias"].astype(np.float32),
    "brain": np.array([1.5, -2.0], np.float32),
    "trained": np.ones(2, np.float32),
  }
  assert_identical(huggingface_files.read_pytorch(str(path)), want)
  path.write_bytes(path.read_bytes()[:100])
  assert "is damaged or has more than weights in it" in refused(tmp_path)


def test_pytorch_file_in_pieces(tmp_path):
  torch = pytest.importorskip("torch")
  torch.save({"a.bias": torch.ones(2)}, tmp_path / "piece.bin")
  index = {"weight_map": {"a.bias": "piece.bin"}}
  write_json(tmp_path / "pytorch_model.bin.index.json", index)
  _, tensors = huggingface_files.read_weights(str(tmp_path))
  assert_identical(tensors, {"a.bias": np.ones(2, np.float32)})


def test_code_in_a_pytorch_file_does_not_run(tmp_path):
  torch = pytest.importorskip("torch")
  path = tmp_path / "pytorch_model.bin"
  torch.save({"a": Command(tmp_path / "made")}, path)
  assert "which is never run: PyTorch's weights-only loader refuses it" in refused(tmp_path)
  assert not (tmp_path / "made").exists()
  torch.save([torch.ones(2)], path)
  assert "has no table of weights by their names" in refused(tmp_path)
