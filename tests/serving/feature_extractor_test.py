"""Vectors of texts from Python, with a tiny untrained model."""

import concurrent.futures
import types

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.python.eager import context
from tiny_runs import SPECIAL, encoder_layers, save_checkpoint, save_model, start_flags

from toolkit.serving import encoder_files, feature_extractor, tensorflow_engine
from toolkit.serving.feature_extractor import FeatureExtractor
from toolkit.support import files, precision

WORDS = ["old", "mill", "river", "lamp", "keeper", "storm", "un", "##easy", "."]


VOCAB = [*SPECIAL, *WORDS]


@pytest.fixture(name="model", scope="module")
def _model(tmp_path_factory):
  directory = tmp_path_factory.mktemp("model")
  save_model(directory, VOCAB, initializer_range=0.5)
  return directory


@pytest.fixture(name="extractor", scope="module")
def _extractor(model):
  """Gives FeatureExtractors of the model, each made once."""
  made = {}

  def get(**options):
    key = tuple(sorted(options.items()))
    if key not in made:
      made[key] = FeatureExtractor.from_directory(str(model), max_seq_length=32, **options)
    return made[key]

  return get


TEXTS = ["old mill", "river storm keeper . uneasy", "", ("keeper", "storm lamp"), "lamp"]


def test_windows():
  features = [types.SimpleNamespace(tokens=[""] * n) for n in (3, 3, 9, 1, 1, 1, 1)]
  sizes = [[len(f.tokens) for f in window] for window in feature_extractor.windows(features, 6)]
  assert sizes == [[3, 3], [9], [1, 1, 1, 1]]


def test_windows_are_read_when_they_are_needed():
  taken = []

  def features():
    for number in range(10**9):
      taken.append(number)
      yield types.SimpleNamespace(tokens=[""])

  assert len(next(feature_extractor.windows(features(), np.inf))) == 4096
  assert len(taken) == 4097


def test_layers_stand_one_after_the_other(model, extractor):
  (layers,) = encoder_layers(model, VOCAB, [["[CLS]", "old", "mill", "[SEP]"]])
  text = layers[:, 1:3]
  for options, want in (
    ({"pooling": "mean_max"}, np.hstack([text.mean(axis=1), text.max(axis=1)])),
    ({"pooling": "mean", "include_special_tokens": True}, layers.mean(axis=1)),
  ):
    encoder = extractor(layers=(0, -1), **options)
    got = encoder.encode(TEXTS)
    assert got.dtype == np.float32 and got.shape == (len(TEXTS), encoder.width)
    np.testing.assert_allclose(got[0], want.reshape(-1), atol=1e-5)


def test_one_by_one_is_the_same(extractor):
  encoder = extractor()
  together = encoder.encode(TEXTS * 9)
  singly = np.concatenate([encoder.encode([text]) for text in TEXTS] * 9)
  np.testing.assert_allclose(together, singly, atol=1e-5)
  assert encoder.encode([]).shape == (0, 16)


def test_a_notebook_that_runs_eagerly(model, extractor):
  want = extractor().encode(TEXTS)
  with context.eager_mode():
    got = FeatureExtractor.from_directory(str(model), max_seq_length=32).encode(TEXTS)
  np.testing.assert_array_equal(got, want)


def test_unit_length(extractor):
  vectors = extractor(normalize=True).encode(TEXTS)
  np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 0, 1, 1], atol=1e-5)
  plain = extractor().encode(TEXTS)
  cosine = plain[0] @ plain[1] / np.linalg.norm(plain[0]) / np.linalg.norm(plain[1])
  assert vectors[0] @ vectors[1] == pytest.approx(cosine, abs=1e-5)


def test_threads(extractor):
  encoder = extractor()
  jobs = [[" ".join(WORDS[i:j])] * 5 for i in range(3) for j in range(4, 9)] * 4
  want = list(map(encoder.encode, jobs))
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    got = list(pool.map(encoder.encode, jobs))
  for one, other in zip(got, want):
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_wrong_calls(model, extractor):
  with pytest.raises(TypeError, match="not one str"):
    extractor().encode("a text")
  with pytest.raises(files.InputError, match="pooling: found 'sum'; there are none, cls, mean"):
    FeatureExtractor.from_directory(str(model), pooling="sum")
  with pytest.raises(files.InputError, match="another pooling than none"):
    extractor(pooling="none").encode(["a"])
  with pytest.raises(files.InputError, match="max_seq_length: 2 leaves no space"):
    FeatureExtractor.from_directory(str(model), max_seq_length=2)
  with pytest.raises(files.InputError, match=r"--model_dir: the directory .* has no bert_config"):
    FeatureExtractor.from_directory(str(model.parent))


def test_files_that_are_elsewhere(model, tmp_path):
  save_model(tmp_path, VOCAB)
  for name in ("vocab.txt", "bert_config.json"):
    (tmp_path / name).unlink()
  given = {
    "vocab_file": str(model / "vocab.txt"),
    "bert_config_file": str(model / "bert_config.json"),
  }
  with pytest.raises(files.InputError, match=r"--model: .* has no bert_config.json; give --bert"):
    encoder_files.find_model(str(tmp_path), "model")
  found = {"init_checkpoint": str(tmp_path / "bert_model.ckpt"), "do_lower_case": True}
  assert encoder_files.find_model(str(tmp_path), "model", given) == found
  extractor = FeatureExtractor.from_directory(str(tmp_path), max_seq_length=32, **given)
  assert extractor.encode(["old"]).shape == (1, 16)


def test_a_directory_tells_its_casing(model, tmp_path):
  assert encoder_files.find_model(str(model))["do_lower_case"] is True
  save_model(tmp_path, VOCAB)
  (tmp_path / "run.json").write_text('{"script": "run_ner", "flags": {"do_lower_case": false}}')
  assert encoder_files.find_model(str(tmp_path))["do_lower_case"] is False
  encoder = FeatureExtractor.from_directory(str(tmp_path), max_seq_length=32)
  assert encoder.tokenizer.tokenize("Old old") == ["[UNK]", "old"]


def test_a_checkpoint_without_pooler(model, tmp_path, extractor):
  reader = tf.train.load_checkpoint(str(model / "bert_model.ckpt"))
  weights = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
  rest = {name: value for name, value in weights.items() if "pooler" not in name}
  assert len(rest) == len(weights) - 2
  prefix = save_checkpoint(tmp_path / "model.ckpt", rest)
  files_of_model = {name: str(path) for name, path in start_flags(model).items()}
  options = {**files_of_model, "init_checkpoint": prefix, "max_seq_length": 32}
  encoder = FeatureExtractor(**options)
  np.testing.assert_array_equal(encoder.encode(TEXTS), extractor().encode(TEXTS))


def test_mixed_precision_reaches_the_model(model, monkeypatch, log):
  chosen = []

  def choose(use_tpu):
    chosen.append(use_tpu)
    return precision.BFLOAT16, "a test"

  monkeypatch.setattr(precision, "_precision", choose)
  made = []
  load = tensorflow_engine.load_predictor

  def load_and_note(*args):
    made.append(args[-1])
    return load(*args)

  monkeypatch.setattr(tensorflow_engine, "load_predictor", load_and_note)
  FeatureExtractor.from_directory(str(model), max_seq_length=32, amp=True)
  FeatureExtractor.from_directory(str(model), max_seq_length=32, engine="tensorflow")
  options = made[0].graph_options.rewrite_options
  assert options.auto_mixed_precision_onednn_bfloat16 == options.ON
  assert made[1] is None and chosen == [False]
  assert "Mixed precision (--amp): on, bfloat16: a test" in log.text
