"""Trained models of each task on both engines, and the exports that ONNX Runtime takes."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from tiny_runs import SPECIAL, save_trained

from toolkit.formats import exported_model, model_directory
from toolkit.formats.model_heads import Head
from toolkit.serving import engines, loading
from toolkit.support import files

VOCAB = [*SPECIAL, *"abcdefgh", "##a", "##b", "ann", "rome", "paris", "?", "."]
TEXTS = ["ann", "ann a rome b", "a b c d e f g h a b c d e f g h", "", "rome. paris?", "unknown"]
LENGTH = {"max_seq_length": 12, "do_lower_case": True}

# Name -> script, head, flags, labels of a trained directory.
MODELS = {
  "one_label": (
    "run_classifier",
    Head("classifier", 3, "softmax"),
    {"task_name": "tsv", **LENGTH},
    ["x", "y", "z"],
  ),
  "labels": (
    "run_classifier",
    Head("classifier", 2, "sigmoid"),
    {"task_name": "tsv", "multi_label": True, "label_threshold": 0.4, **LENGTH},
    ["x", "y"],
  ),
  "number": (
    "run_classifier",
    Head("classifier", 1),
    {"task_name": "tsv", "regression": True, **LENGTH},
    None,
  ),
  "choice": ("run_multiple_choice", Head("choice"), LENGTH, None),
  "span": (
    "run_squad",
    Head("span"),
    {"doc_stride": 4, "max_query_length": 4, "version_2_with_negative": True, **LENGTH},
    None,
  ),
  "tags": ("run_ner", Head("tags", 3), LENGTH, ["O", "B-PER", "I-PER"]),
  "masked_lm": ("run_pretraining", Head("masked_lm"), LENGTH, None),
}


def answers(model):
  """Lists the numbers, and the other values, of a loaded model's results for some texts."""
  results = {
    "Classifier": lambda: model.classify([*TEXTS, ("ann", "rome")]),
    "Chooser": lambda: model.choose_all([(["a", "b c"], "ann", None), (["a", "b"], None, "rome")]),
    "QuestionAnswerer": lambda: model.ask_all([("ann ?", text or "a") for text in TEXTS]),
    "Tagger": lambda: model.tag_all(TEXTS),
    "MaskFiller": lambda: model.fill_all(["ann [MASK] a", "a " * 20 + "[MASK] [MASK]", "no mask"]),
    "FeatureExtractor": lambda: model.encode([*TEXTS, ("ann", "rome")]).tolist(),
  }
  numbers, others = [], []

  def sort(value):
    if isinstance(value, dict):
      value = list(value.items())
    if isinstance(value, (list, tuple)):
      for each in value:
        sort(each)
    else:
      (numbers if isinstance(value, float) else others).append(value)

  sort(results[type(model).__name__]())
  return numbers, others


def assert_equal(model, other, tolerance=1e-5):
  got, want = answers(model), answers(other)
  assert got[1] == want[1] and len(got[0]) + len(got[1]) > 5
  np.testing.assert_allclose(got[0], want[0], rtol=tolerance, atol=tolerance)


@pytest.fixture(name="trained")
def _trained(tmp_path):
  """Function of a name in MODELS, and of options of save_trained, to a directory."""

  def make(name, **options):
    script, head, flags, labels = MODELS[name]
    return save_trained(tmp_path / name, script, head, VOCAB, flags, labels, **options)

  return make


def exports(directory):
  return sorted((pathlib.Path(directory) / "serving").iterdir())


@pytest.mark.parametrize("name", MODELS)
def test_both_engines_give_the_same(name, trained):
  directory = str(trained(name))
  on_tensorflow = loading.load(directory, "tensorflow")
  assert on_tensorflow.engine == "tensorflow" and not os.path.exists(f"{directory}/serving")
  on_runtime = loading.load(directory, "auto")
  assert on_runtime.engine == "onnxruntime"
  assert_equal(on_runtime, on_tensorflow)
  (export,) = exports(directory)
  assert_equal(loading.load(str(export)), on_tensorflow)


@pytest.mark.parametrize("name", MODELS)
def test_ids_give_the_outputs_of_the_graph(name, trained):
  model = loading.load(str(trained(name)))
  row = ([2, 5, 6, 3], [0, 0, 0, 0])
  rows = [(*row, [1, 2])] if name == "masked_lm" else [row]
  (outputs,) = model.run_ids(rows)
  shapes = {
    "one_label": {"logits": (3,), "probabilities": (3,)},
    "labels": {"logits": (2,), "probabilities": (2,)},
    "number": {"logits": (1,)},
    "choice": {"scores": ()},
    "span": {"start_logits": (4,), "end_logits": (4,)},
    "tags": {"logits": (4, 3)},
    "masked_lm": {"masked_lm_logits": (2, len(VOCAB))},
  }
  assert {key: value.shape for key, value in outputs.items()} == shapes[name]


# In a process of its own that cannot import what a server does without.
ALONE = """
import importlib.abc, json, sys

class Blocked(importlib.abc.MetaPathFinder):
  def find_spec(self, name, path=None, target=None):
    if name.split(".")[0] in {"tensorflow", "scipy", "sklearn", "seqeval", "joblib", "onnx"}:
      raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
sys.path[:0] = json.loads(sys.argv[1])
import engines_test
from toolkit.serving import loading

print(json.dumps([engines_test.answers(loading.load(each)) for each in sys.argv[2:]]))
"""


def test_exports_answer_without_tensorflow(trained, tmp_path):
  wanted, directories = [], []
  for name in MODELS:
    directory = str(trained(name))
    wanted.append(answers(loading.load(directory)))
    directories.append(shutil.copytree(*exports(directory), tmp_path / f"alone_{name}"))
  # The test's own file is copied without its imports of the toolkit's TensorFlow parts.
  lines = pathlib.Path(__file__).read_text("utf-8").splitlines()
  start = lines.index("def answers(model):")
  end = lines.index("def assert_equal(model, other, tolerance=1e-5):")
  texts = [line for line in lines if line.startswith("TEXTS = ")]
  (tmp_path / "engines_test.py").write_text("\n".join([*texts, *lines[start:end]]))
  paths = json.dumps([str(tmp_path), str(pathlib.Path(__file__).parents[2])])
  command = [sys.executable, "-c", ALONE, paths, *map(str, directories)]
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  for got, want in zip(json.loads(done.stdout), wanted):
    assert got[1] == json.loads(json.dumps(want[1]))
    np.testing.assert_allclose(got[0], want[0], atol=1e-6)


def test_an_encoder_with_its_layers_and_poolings(trained):
  directory = str(trained("one_label"))  # any trained model has an encoder
  load = loading.FeatureExtractor.from_directory
  for options in (
    {},
    {"pooling": "cls", "layers": (0,)},
    {"pooling": "mean_max", "layers": (-2, -1), "normalize": True},
    {"pooling": "max", "layers": (1, 0), "include_special_tokens": True},
  ):
    options = {"max_seq_length": 12, **options}
    on_runtime = load(directory, engine="onnxruntime", **options)
    assert on_runtime.engine == "onnxruntime"
    assert_equal(on_runtime, load(directory, engine="tensorflow", **options))
  (found, *_) = [path for path in exports(directory) if "_-2_-1-" in path.name]
  assert_equal(load(str(found), max_seq_length=12), load(directory, max_seq_length=12))
  with pytest.raises(files.InputError, match="there is no layer 2; "):
    load(directory, layers=(2,))
  with pytest.raises(files.InputError, match="export the model again"):
    load(str(found), layers=(0, 1))
  with pytest.raises(files.InputError, match="--amp is for --engine=tensorflow"):
    load(directory, amp=True, engine="onnxruntime", max_seq_length=12)
  embeddings = load(directory, max_seq_length=5).embed(["a", "a b c d e"])
  assert [(e.num_tokens, e.truncated) for e in embeddings] == [(3, False), (5, True)]


def test_an_export_is_made_once_and_follows_the_checkpoint(trained, log):
  directory = trained("one_label")
  first = loading.load(str(directory))
  (export,) = exports(directory)
  assert f"Making {export} for ONNX Runtime, once." in log.text
  before = (export / "model.onnx").stat().st_mtime_ns
  log.clear()
  assert_equal(loading.load(str(directory)), first, tolerance=0)
  assert (export / "model.onnx").stat().st_mtime_ns == before and "Making" not in log.text
  trained("one_label", step=6, seed=2)
  assert_equal(loading.load(str(directory)), loading.load(str(directory), "tensorflow"))
  (newer,) = exports(directory)
  assert newer != export and answers(loading.load(str(directory)))[0] != answers(first)[0]


def test_a_damaged_export(trained):
  directory = trained("one_label")
  first = loading.load(str(directory))
  (export,) = exports(directory)
  model = export / "model.onnx"
  whole = model.read_bytes()
  model.write_bytes(whole[:-100])  # is made again
  assert_equal(loading.load(str(directory)), first, tolerance=0)
  assert model.read_bytes() == whole
  half = bytearray(whole)
  half[len(half) // 2] ^= 1
  model.write_bytes(half)
  with pytest.raises(
    files.InputError, match=r"model\.onnx is damaged or of another export: its SHA"
  ):
    loading.load(str(directory))
  model.unlink()
  with pytest.raises(files.InputError, match=r"model\.onnx is missing"):
    loading.load(str(export))


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda contents: contents.update(format=2), "has format 2, this version reads 1"),
    (lambda contents: contents.pop("head"), "is no description of an exported model"),
    (lambda contents: contents.update(config=[]), "is no description of an exported model"),
    (lambda contents: contents.update(script="run_x"), "which has no predictor"),
  ],
)
def test_a_wrong_description(change, message, trained):
  directory = trained("one_label")
  loading.load(str(directory))
  (export,) = exports(directory)
  contents = json.loads((export / "model.json").read_text())
  change(contents)
  (export / "model.json").write_text(json.dumps(contents))
  with pytest.raises(files.InputError, match=message) as error:
    loading.load(str(export))
  assert "model.json" in str(error.value)


def test_an_export_of_another_script(trained):
  directory = trained("tags")
  loading.load(str(directory))
  (export,) = exports(directory)
  with pytest.raises(files.InputError, match=r"from a model of run_ner\.py, not of run_classifier"):
    loading.Classifier.from_directory(str(export))
  with pytest.raises(files.InputError, match="which ONNX Runtime runs; give the directory of the"):
    loading.load(str(export), "tensorflow")


def test_a_directory_that_cannot_be_written(trained, monkeypatch, log):
  directory = str(trained("one_label"))
  make = os.makedirs

  def refuse(path, *args, **options):
    if path.startswith(directory):
      raise PermissionError(13, "Permission denied", path)
    make(path, *args, **options)

  monkeypatch.setattr(os, "makedirs", refuse)
  first = loading.load(directory)
  assert first.engine == "onnxruntime" and "Nothing can be kept in" in log.text
  log.clear()
  assert_equal(loading.load(directory), first, tolerance=0)
  assert not os.path.exists(f"{directory}/serving") and "Making" not in log.text


def test_a_failed_export_leaves_nothing(trained, monkeypatch):
  directory = trained("one_label")

  def fail(*_):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(exported_model, "write", fail)
  with pytest.raises(OSError, match="No space left"):
    loading.load(str(directory))
  assert not exports(directory)


def test_the_choice_of_the_engine(monkeypatch):
  assert engines.choose("auto") == "onnxruntime" and engines.choose("tensorflow") == "tensorflow"
  with pytest.raises(files.InputError, match="--engine: found 'jax'; there are auto, tensorflow"):
    engines.choose("jax")
  monkeypatch.setattr(engines, "_has_gpu", lambda: True)
  assert engines.choose("auto") == "tensorflow" and engines.choose("onnxruntime") == "onnxruntime"
  monkeypatch.undo()
  find = engines.importlib.util.find_spec
  gone = {"onnx"}
  monkeypatch.setattr(
    engines.importlib.util, "find_spec", lambda name: None if name in gone else find(name)
  )
  assert engines.choose("auto") == "tensorflow"
  assert engines.choose("auto", is_exported=True) == "onnxruntime"
  with pytest.raises(files.InputError, match="the package onnx is not installed: python -m pip"):
    engines.choose("onnxruntime")
  gone.add("onnxruntime")
  assert engines.choose("auto", is_exported=True) == "tensorflow"


def test_a_new_start_deletes_exports_alone(trained):
  directory = trained("one_label")
  loading.load(str(directory))
  (directory / "serving" / "my-notes").mkdir()
  model_directory.clear(str(directory), None)
  assert [path.name for path in exports(directory)] == ["my-notes"]


def test_directories_without_a_model(tmp_path):
  with pytest.raises(files.InputError, match="there is no directory "):
    loading.load(str(tmp_path / "none"))
  with pytest.raises(files.InputError, match="has no bert_config"):
    loading.load(str(tmp_path))
  (tmp_path / "run.json").write_text('{"script": "create_pretraining_data", "flags": {}}')
  with pytest.raises(files.InputError, match="found the script create_pretraining_data"):
    loading.load(str(tmp_path))
