"""Vectors of text, from files to files and from Python, with a tiny untrained model."""

import gzip
import json
import shutil
import types

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tiny_runs import (
  SPECIAL,
  config_of,
  encoder_layers,
  save_checkpoint,
  save_model,
  snapshot,
  start_flags,
)

import extract_features
import modeling
import tokenization
from extract_features import InputExample
from toolkit.serving import feature_extractor, tensorflow_engine
from toolkit.support import command_line, files

WORDS = ["old", "mill", "river", "lamp", "keeper", "storm", "un", "##easy", "."]
VOCAB = [*SPECIAL, *WORDS]
LINES = [
  "old mill",
  "keeper ||| storm lamp",
  "",
  "river . " * 9,  # longer than max_seq_length
  "uneasy river storm .",
  "old " * 7 + "||| mill lamp",  # a pair that is longer
  "lamp ||| river ||| storm",
  "Lamp",
]
MAX_LENGTH = 8


@pytest.fixture(name="model", scope="module")
def _model(tmp_path_factory):
  directory = tmp_path_factory.mktemp("model")
  save_model(directory, VOCAB, initializer_range=0.5)
  return directory


def run(model, tmp_path, /, lines=LINES, **flags):
  """Runs main as a command line would; returns the path of the output."""
  source = tmp_path / "input.txt"
  source.write_text("".join(f"{line}\n" for line in lines))
  output = flags.pop("output_file", tmp_path / "output.jsonl")
  flags = {
    **start_flags(model),
    "input_file": source,
    "output_file": output,
    "max_seq_length": MAX_LENGTH,
    "layers": "-1,0",
    "batch_size": 3,
    **flags,
  }
  named = [f"--{name}={value}" for name, value in flags.items() if value is not None]
  command_line.parse(extract_features.flags, named)
  extract_features.main([])
  return output


def read_lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def tokens_of(row):
  return [feature["token"] for feature in row["features"]]


def vectors_of(row):
  """float64 [layers, tokens, H] of a line of the output."""
  rows = [[layer["values"] for layer in feature["layers"]] for feature in row["features"]]
  return np.array(rows).swapaxes(0, 1)


@pytest.fixture(name="rows", scope="module")
def _rows(model, tmp_path_factory):
  return read_lines(run(model, tmp_path_factory.mktemp("run")))


# ---- Whole runs ---------------------------------------------------------------------------------


def test_form_of_the_output(rows):
  assert [row["linex_index"] for row in rows] == list(range(len(LINES)))
  for row in rows:
    assert list(row) == ["linex_index", "features"]
    for feature in row["features"]:
      assert list(feature) == ["token", "layers"]
      assert [list(layer) for layer in feature["layers"]] == [["index", "values"]] * 2
      assert [layer["index"] for layer in feature["layers"]] == [-1, 0]
  assert vectors_of(rows[0]).shape == (2, 4, 16)
  assert tokens_of(rows[2]) == ["[CLS]", "[SEP]"]
  assert tokens_of(rows[3]) == ["[CLS]", "river", ".", "river", ".", "river", ".", "[SEP]"]
  assert tokens_of(rows[5]) == ["[CLS]", "old", "old", "old", "[SEP]", "mill", "lamp", "[SEP]"]
  assert tokens_of(rows[7]) == ["[CLS]", "lamp", "[SEP]"]


def test_values_are_those_of_the_lines_one_by_one(model, rows):
  for row, layers in zip(rows, encoder_layers(model, VOCAB, map(tokens_of, rows))):
    np.testing.assert_allclose(vectors_of(row), layers[[-1, 0]], atol=1e-5)


def assert_same(rows, others):
  assert list(map(tokens_of, rows)) == list(map(tokens_of, others))
  for row, other in zip(rows, others):
    np.testing.assert_allclose(vectors_of(row), vectors_of(other), atol=1e-5)


def test_several_windows_give_the_same(model, tmp_path, rows, monkeypatch):
  monkeypatch.setattr(feature_extractor, "_WINDOW_BYTES", 4 * 2 * 16 * 12)  # 12 word pieces
  sizes = []
  windows = feature_extractor.windows

  def counted(*arguments):
    for window in windows(*arguments):
      sizes.append(len(window))
      yield window

  monkeypatch.setattr(feature_extractor, "windows", counted)
  assert_same(read_lines(run(model, tmp_path)), rows)
  assert len(sizes) > 3 and sum(sizes) == len(LINES)


def test_the_estimator_gives_the_same(model, tmp_path, rows):
  output = run(model, tmp_path, master="")  # sets the flags
  job = extract_features.prepare()
  extract_features.write(job, extract_features.run_estimator(job))
  assert_same(read_lines(output), rows)
  assert sorted(path.name for path in tmp_path.iterdir()) == ["input.txt", "output.jsonl"]


def test_batches_of_a_tpu_are_full():
  settings = types.SimpleNamespace(use_tpu=True, batch_size=4)
  features = [extract_features.InputFeatures(n, [], [], [], []) for n in range(5)]
  rows = extract_features._full_batches(settings, features)
  assert [row["unique_ids"] for row in rows] == [0, 1, 2, 3, 4, 4, 4, 4]


def test_arrays_hold_what_the_lines_hold(model, tmp_path, rows):
  run(
    model,
    tmp_path,
    output_file=tmp_path / "a.npz",
    output_format="npz",
    shard_size=5,
    layers="-1,0",
  )
  for number, expected in ((0, rows[:5]), (1, rows[5:])):
    with np.load(tmp_path / f"a-0000{number}-of-00002.npz", allow_pickle=False) as shard:
      assert shard["layers"].tolist() == [-1, 0]
      assert shard["linex_index"].tolist() == [row["linex_index"] for row in expected]
      bounds = zip(shard["offsets"], shard["offsets"][1:])
      for row, (start, end) in zip(expected, bounds):
        assert shard["tokens"][start:end].tolist() == tokens_of(row)
        np.testing.assert_allclose(shard["values"][:, start:end], vectors_of(row), atol=1e-5)


def test_pooled_lines(model, tmp_path, rows):
  plain = read_lines(run(model, tmp_path, pooling="mean"))
  assert all(list(row) == ["linex_index", "values"] for row in plain)
  assert np.shape([row["values"] for row in plain]) == (len(LINES), 2 * 16)
  want = vectors_of(rows[1])[:, [1, 3, 4]].mean(axis=1)  # [CLS] keeper [SEP] storm lamp [SEP]
  np.testing.assert_allclose(plain[1]["values"], want.reshape(-1), atol=1e-5)
  output = tmp_path / "a.npz"
  run(model, tmp_path, pooling="mean", output_file=output, output_format="npz", float16=True)
  with np.load(output) as arrays:
    assert arrays["values"].dtype == np.float16
    np.testing.assert_allclose(arrays["values"], [row["values"] for row in plain], atol=2e-3)


def test_compressed_files(model, tmp_path, rows):
  source = tmp_path / "lines.gz"
  source.write_bytes(gzip.compress("\n".join(LINES).encode()))
  output = run(model, tmp_path, input_file=source, output_file=tmp_path / "a.jsonl.gz")
  lines = gzip.decompress(output.read_bytes()).splitlines()
  assert_same(list(map(json.loads, lines)), rows)


def test_a_directory_stands_for_its_files(model, tmp_path, rows):
  by_name = dict.fromkeys(start_flags(model))
  for name in ("model", "model_dir"):
    assert_same(read_lines(run(model, tmp_path, **{name: model}, **by_name)), rows)
  other = tmp_path / "other"
  shutil.copytree(model, other)
  (other / "vocab.txt").unlink()
  by_name["vocab_file"] = model / "vocab.txt"
  assert_same(read_lines(run(model, tmp_path, model=other, **by_name)), rows)


def test_a_directory_that_is_no_model(model, tmp_path):
  by_name = dict.fromkeys(start_flags(model))
  message = (
    "give a pre-trained model: --bert_config_file, --vocab_file, --init_checkpoint, or --model=DIR"
  )
  for flags, match in (
    ({}, message),
    ({"model": tmp_path}, "--model: the directory .* has no bert_config.json"),
    ({"model_dir": tmp_path}, "--model_dir: the directory .* has no bert_config.json"),
    ({"model": model, "model_dir": tmp_path}, "--model and --model_dir are the same flag"),
  ):
    with pytest.raises(files.InputError, match=match):
      run(model, tmp_path, **by_name, **flags)
  assert [path.name for path in tmp_path.iterdir()] == ["input.txt"]


def test_cut_lines_are_counted(model, tmp_path, log):
  run(model, tmp_path)
  assert "3 of 8 lines were longer than --max_seq_length=8 and were cut" in log.text
  assert log.text.count("*** Example ***") == 5


# ---- The parts that notebooks use ---------------------------------------------------------------


def test_in_memory_use_with_a_plain_estimator(model, rows):
  tokenizer = tokenization.FullTokenizer(vocab_file=str(model / "vocab.txt"), do_lower_case=True)
  examples = [
    InputExample(unique_id=9, text_a="old mill", text_b=None),
    InputExample(unique_id=4, text_a="keeper", text_b="storm lamp"),
    InputExample(unique_id=7, text_a="", text_b=None),
  ]
  features = extract_features.convert_examples_to_features(
    examples=examples, seq_length=MAX_LENGTH, tokenizer=tokenizer
  )
  model_fn = extract_features.model_fn_builder(
    bert_config=modeling.BertConfig.from_json_file(str(model / "bert_config.json")),
    init_checkpoint=str(model / "bert_model.ckpt"),
    layer_indexes=[-1, 0],
    use_tpu=False,
    use_one_hot_embeddings=True,
  )
  estimator = tf.estimator.tpu.TPUEstimator(
    use_tpu=False,
    model_fn=model_fn,
    config=tf.estimator.tpu.RunConfig(),
    train_batch_size=2,
    predict_batch_size=2,
  )
  input_fn = extract_features.input_fn_builder(features=features, seq_length=MAX_LENGTH)
  results = list(estimator.predict(input_fn, yield_single_examples=True))
  assert [int(result["unique_id"]) for result in results] == [9, 4, 7]
  for result, feature, row in zip(results, features, rows):
    assert result["layer_output_0"].shape == (MAX_LENGTH, 16)
    got = np.stack([result[f"layer_output_{i}"][: len(feature.tokens)] for i in range(2)])
    np.testing.assert_allclose(got, vectors_of(row), atol=1e-5)
  with pytest.raises(ValueError, match="only PREDICT is supported"):
    model_fn({}, None, tf.estimator.ModeKeys.TRAIN, {})


def test_truncation_is_importable():
  first, second = list("abcd"), list("xyz")
  extract_features._truncate_seq_pair(first, second, 4)
  assert (first, second) == (["a", "b"], ["x", "y"])


def test_default_flags():
  command_line.parse(extract_features.flags, [])
  values = extract_features.flags.settings().as_dict()
  assert values["layers"] == "-1,-2,-3,-4"
  assert (values["max_seq_length"], values["batch_size"], values["num_tpu_cores"]) == (128, 32, 8)
  assert values["do_lower_case"] is True and values["use_one_hot_embeddings"] is False
  assert (values["use_tpu"], values["master"], values["pooling"]) == (False, None, "none")


# ---- Mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    ({"output_file": ""}, "--output_file is missing"),
    ({"init_checkpoint": None}, "--init_checkpoint is missing"),
    ({"input_file": "none.txt"}, "none.txt: cannot be read: No such file"),
    ({"input_file": "."}, "--input_file: . is a directory, pipe or device"),
    ({"layers": "-1,x"}, "--layers: found '-1,x', should be whole numbers"),
    ({"layers": ""}, "--layers: found ''"),
    ({"layers": "-1,-3"}, "--layers: there is no layer -3; the model's 2 layers are 0 to 1, or -1"),
    ({"layers": "2"}, "--layers: there is no layer 2"),
    ({"pooling": "sum"}, "--pooling=sum: value should be one of <none|cls|mean|max|mean_max>"),
    ({"max_seq_length": 33}, "--max_seq_length=33 is more than the 32 positions"),
    ({"max_seq_length": 2}, "--max_seq_length=2: 2 is not integer >= 3"),
    ({"float16": True}, "--float16 needs --output_format=npz"),
    ({"shard_size": 10}, "--shard_size needs --output_format=npz"),
    ({"output_format": "npz"}, "output.jsonl is no name for --output_format=npz"),
    ({"use_tpu": True}, "--use_tpu needs --tpu_name"),
    ({"init_checkpoint": "none.ckpt"}, "--init_checkpoint: there is no checkpoint none.ckpt"),
  ],
)
def test_wrong_flags(model, tmp_path, flags, message):
  with pytest.raises(files.InputError) as caught:
    run(model, tmp_path, **flags)
  assert message in str(caught.value) and "\n" not in str(caught.value)
  assert [path.name for path in tmp_path.iterdir()] == ["input.txt"]


def test_wrong_input(model, tmp_path):
  path = tmp_path / "bad.txt"
  path.write_bytes(b"old\nmill \xff\n")
  with pytest.raises(files.InputError, match=r"bad\.txt:2: found byte 0xff, which is not UTF-8"):
    run(model, tmp_path, input_file=path)
  path.write_bytes(b"")
  with pytest.raises(files.InputError, match=r"--input_file: .*bad\.txt is empty"):
    run(model, tmp_path, input_file=path)


def test_wrong_output(model, tmp_path):
  with pytest.raises(files.InputError, match="is the input file"):
    run(model, tmp_path, output_file=tmp_path / "input.txt")
  with pytest.raises(files.InputError, match="is a directory"):
    run(model, tmp_path, output_file=tmp_path)
  with pytest.raises(files.InputError, match="--output_file: cannot write in"):
    run(model, tmp_path, output_file=tmp_path / "input.txt" / "a.jsonl")
  assert (tmp_path / "input.txt").read_text().startswith("old mill\n")


def other_model(tmp_path, **changes):
  """The flags of a model whose configuration differs from its checkpoint's."""
  save_model(tmp_path, VOCAB)
  (tmp_path / "bert_config.json").write_text(json.dumps(config_of(VOCAB, **changes)))
  return start_flags(tmp_path)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"hidden_size": 32}, "hidden_size or intermediate_size differs"),
    ({"num_hidden_layers": 3}, "does not fit the model.*/layer_2/.* is not there"),
    ({"vocab_size": 5}, "word pieces, and the vocab_size is 5"),
  ],
)
def test_a_checkpoint_that_does_not_fit(tmp_path, changes, message):
  (tmp_path / "other").mkdir()
  other_model(tmp_path / "other", **changes)
  with pytest.raises(files.InputError, match=message):
    run(tmp_path / "other", tmp_path)


def test_broken_weights_leave_no_output(model, tmp_path):
  output = run(model, tmp_path)
  before = snapshot(tmp_path)
  reader = tf.train.load_checkpoint(str(model / "bert_model.ckpt"))
  broken = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
  broken["bert/encoder/layer_1/output/dense/bias"][3] = np.nan
  (tmp_path.parent / "broken").mkdir()
  prefix = save_checkpoint(tmp_path.parent / "broken" / "model.ckpt", broken)
  with pytest.raises(files.InputError, match="NaN or infinite: its weights are broken"):
    run(model, tmp_path, init_checkpoint=prefix)
  assert snapshot(tmp_path) == before and output.exists()


def test_a_damaged_checkpoint(model, tmp_path):
  (tmp_path / "m").mkdir()
  save_model(tmp_path / "m", VOCAB)
  data = tmp_path / "m" / "bert_model.ckpt.data-00000-of-00001"
  data.write_bytes(data.read_bytes()[:100])
  with pytest.raises(files.InputError, match=r"bert_model\.ckpt is damaged"):
    run(tmp_path / "m", tmp_path)


def test_memory_errors_name_flags(model, tmp_path, monkeypatch):
  load = tensorflow_engine.TensorFlowEngine.__init__

  def load_and_fail(engine, *args, **options):
    load(engine, *args, **options)
    engine._session = engine._short_session = FullSession()

  class FullSession:
    def run(self, *_):
      raise tf.errors.ResourceExhaustedError(None, None, "OOM")

  monkeypatch.setattr(tensorflow_engine.TensorFlowEngine, "__init__", load_and_fail)
  with pytest.raises(files.InputError, match="out of memory; lower --batch_size or"):
    run(model, tmp_path)


def test_the_wrong_casing_is_warned_of(model, tmp_path, log):
  run(model, tmp_path, do_lower_case=False)
  assert "looks like the vocabulary of an uncased model" in log.text


def test_a_tpu_needs_files_that_it_can_reach(model, tmp_path):
  with pytest.raises(files.InputError, match="--output_file: the TPU far cannot read or write"):
    run(model, tmp_path, use_tpu=True, tpu_name="far")
