"""Modules of TensorFlow Hub to checkpoints, and what is refused."""

import json
import os
import pathlib
import shutil
import tarfile
import tempfile

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf import saved_model_pb2
from tiny_heads import VOCAB, save_trained
from tiny_hub import EARLIEST, SECOND_VERSION, random_encoder, save_encoder, save_first_version
from tiny_runs import save_model, snapshot

import convert_checkpoint
import export_model
import modeling
from toolkit.formats import checkpoints, hub_modules
from toolkit.support import command_line, files


def convert(path, output, *switches, **flags):
  """Runs convert_checkpoint.py --mode=from_hub; returns name -> array and the configuration."""
  flags = {"mode": "from_hub", "input": path, "output": output, **flags}
  command_line.parse(
    convert_checkpoint.flags, [*switches, *(f"--{n}={value}" for n, value in flags.items())]
  )
  convert_checkpoint.main([])
  tensors, _ = checkpoints.read_checkpoint(str(output / "bert_model.ckpt"))
  return tensors, json.loads((output / "bert_config.json").read_text())


def assert_same(found, wanted):
  assert found.keys() == wanted.keys()
  assert all(found[name].tobytes() == wanted[name].tobytes() for name in wanted)
  assert all(found[name].shape == wanted[name].shape for name in wanted)


@pytest.fixture(name="first")
def _first(tmp_path):
  """A module of the first version, and its variables."""
  directory = tmp_path / "module"
  return directory, save_first_version(directory)


# ---- The first version --------------------------------------------------------------------------


def test_a_module_of_the_first_version(first, tmp_path, capsys):
  directory, values = first
  found, config = convert(directory, tmp_path / "out")
  assert_same(found, values)
  assert {key: config[key] for key in ("num_attention_heads", "hidden_act", "vocab_size")} == {
    "num_attention_heads": 2,
    "hidden_act": "gelu",
    "vocab_size": len(VOCAB),
  }
  sizes = ("hidden_size", "num_hidden_layers", "intermediate_size", "max_position_embeddings")
  assert [config[key] for key in sizes] == [16, 2, 32, 32] and config["type_vocab_size"] == 2
  assert config["huggingface"]["tokenizer_config"]["do_lower_case"] is True
  assert (tmp_path / "out" / "vocab.txt").read_text().split() == VOCAB
  assert "converted 39 tensors" in capsys.readouterr().out
  modeling.BertConfig.from_json_file(str(tmp_path / "out" / "bert_config.json"))


@pytest.mark.parametrize("num_heads", [1, 4, 8])
@pytest.mark.parametrize("activation", ["gelu", "relu", "tanh"])
def test_heads_and_activation_are_in_the_graph(num_heads, activation, tmp_path):
  changes = {"num_attention_heads": num_heads, "hidden_act": activation}
  save_first_version(tmp_path / "module", **changes)
  with hub_modules.opened(str(tmp_path / "module"), "input") as module:
    assert {name: getattr(module.config, name) for name in changes} == changes


def rewrite_graph(directory, change):
  """Applies a function to the GraphDef of a module."""
  path = directory / "saved_model.pb"
  model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
  change(model.meta_graphs[0].graph_def)
  path.write_bytes(model.SerializeToString())


def test_a_graph_that_does_not_tell(first, log):
  """The heads are taken to be 64 wide, and the activation to be gelu."""
  directory, _ = first

  def rename(graph):
    for node in graph.node:
      node.name = node.name.replace("layer_0", "first")

  rewrite_graph(directory, rename)
  with hub_modules.opened(str(directory), "input") as module:
    assert (module.config.num_attention_heads, module.config.hidden_act) == (1, "gelu")
  assert "1 is taken, for a width of 16 each" in log.text
  assert "does not tell its activation; gelu is taken" in log.text


def test_the_exact_gelu_is_told(first, log):
  directory, _ = first

  def replace(graph):
    for node in graph.node:
      if node.op == "Tanh":
        node.op = "Erf"

  rewrite_graph(directory, replace)
  with hub_modules.opened(str(directory), "input") as module:
    assert module.config.hidden_act == "gelu"
  assert "computes the exact GELU" in log.text


@pytest.mark.parametrize("told", [True, False, None])
@pytest.mark.parametrize("given", [True, False, None])
def test_the_casing(told, given, tmp_path, log):
  save_first_version(tmp_path / "module", do_lower_case=told)
  flags = {} if given is None else {"do_lower_case": given}
  _, config = convert(tmp_path / "module", tmp_path / "out", **flags)
  wanted = told if given is None else given
  assert config["huggingface"]["tokenizer_config"].get("do_lower_case") == wanted
  assert ("The model is cased: give --nodo_lower_case" in log.text) == (wanted is False)
  assert ("It is not known whether the model is uncased" in log.text) == (wanted is None)


def test_variables_in_a_scope(tmp_path):
  values = random_encoder()
  save_first_version(tmp_path / "module")
  with tf.Graph().as_default(), tf.Session() as session:
    for name, value in values.items():
      tf.get_variable(f"module/{name}", initializer=value)
    session.run(tf.global_variables_initializer())
    prefix = str(tmp_path / "module" / "variables" / "variables")
    tf.train.Saver().save(session, prefix, write_state=False, write_meta_graph=False)
  assert_same(convert(tmp_path / "module", tmp_path / "out")[0], values)


# ---- Encoders of TensorFlow 2 -------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["", "bert_encoder_v2_1/"])
@pytest.mark.parametrize("names", [SECOND_VERSION, EARLIEST])
def test_an_encoder_of_tensorflow_2(names, scope, tmp_path):
  values = random_encoder(hidden_size=32, num_attention_heads=4)
  save_encoder(tmp_path / "module", values, names, num_heads=4, scope=scope)
  found, config = convert(tmp_path / "module", tmp_path / "out")
  assert_same(found, values)
  assert config["num_attention_heads"] == 4 and config["hidden_size"] == 32
  assert config["huggingface"]["tokenizer_config"]["do_lower_case"] is False
  assert (tmp_path / "out" / "vocab.txt").read_text().split() == VOCAB


def masked_lm_values():
  """Weights of the head of a masked language model, all different."""
  random = np.random.default_rng(1)
  shapes = {"output_bias": [len(VOCAB)], "transform/dense/kernel": [16, 16]}
  shapes.update({f"transform/{n}": [16] for n in ("dense/bias", "LayerNorm/beta")})
  shapes["transform/LayerNorm/gamma"] = [16]
  return {
    f"cls/predictions/{name}": random.normal(size=shape).astype(np.float32)
    for name, shape in shapes.items()
  }


def test_the_head_of_a_masked_language_model(tmp_path):
  values = {**random_encoder(), **masked_lm_values()}
  save_encoder(tmp_path / "module", values)
  assert_same(convert(tmp_path / "module", tmp_path / "out")[0], values)


def test_other_heads_are_left_out_if_asked(tmp_path):
  values = {**random_encoder(), "other/kernel": np.ones([3, 3], np.float32)}
  save_encoder(tmp_path / "module", values)
  with pytest.raises(files.InputError, match=r"other/kernel is not the whole of a head"):
    convert(tmp_path / "module", tmp_path / "out")
  found, _ = convert(tmp_path / "module", tmp_path / "out", "--allow_unplaced")
  assert "other/kernel" not in found and len(found) == 39


def test_an_encoder_without_a_pooler(tmp_path):
  values = {n: v for n, v in random_encoder().items() if "pooler" not in n}
  save_encoder(tmp_path / "module", values)
  assert_same(convert(tmp_path / "module", tmp_path / "out")[0], values)


# ---- Exports of this project --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["saved_model", "hub"])
def test_an_export_comes_back(name, tmp_path):
  model_dir = tmp_path / "bert"
  model_dir.mkdir()
  save_model(model_dir, VOCAB, hidden_act="relu", initializer_range=0.05, num_attention_heads=8)
  flags = {"model_dir": model_dir, "format": name, "export_dir": tmp_path / "export"}
  command_line.parse(export_model.flags, [f"--{n}={value}" for n, value in flags.items()])
  export_model.main([])
  found, config = convert(tmp_path / "export", tmp_path / "out")
  assert_same(found, checkpoints.read_checkpoint(str(model_dir / "bert_model.ckpt"))[0])
  wanted = json.loads((model_dir / "bert_config.json").read_text())
  assert {key: config[key] for key in wanted} == wanted
  assert (tmp_path / "out" / "vocab.txt").read_bytes() == (model_dir / "vocab.txt").read_bytes()


def test_an_exported_classifier_comes_back_with_its_head(tmp_path):
  trained = tmp_path / "trained"
  trained.mkdir()
  save_trained(trained, "one_label")
  flags = {"output_dir": trained, "format": "saved_model", "export_dir": tmp_path / "export"}
  command_line.parse(export_model.flags, [f"--{n}={value}" for n, value in flags.items()])
  export_model.main([])
  found, _ = convert(tmp_path / "export", tmp_path / "out")
  assert_same(found, checkpoints.read_checkpoint(str(trained / "model.ckpt-5"))[0])


# ---- Archives -----------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", [".", "bert_1"])
@pytest.mark.parametrize("mode", ["gz", "bz2", "xz", ""])
def test_archives(inner, mode, first, tmp_path):
  directory, values = first
  path = tmp_path / "archive.tar.gz"
  with tarfile.open(path, f"w:{mode}") as archive:
    archive.add(directory, inner)
  assert_same(convert(path, tmp_path / "out")[0], values)


def test_nothing_of_an_archive_is_left(first, tmp_path, monkeypatch):
  scratch = tmp_path / "scratch"
  scratch.mkdir()
  monkeypatch.setattr(tempfile, "tempdir", str(scratch))
  directory, _ = first
  path = shutil.make_archive(str(tmp_path / "good"), "gztar", directory)
  convert(path, tmp_path / "out")
  (directory / "saved_model.pb").unlink()
  path = shutil.make_archive(str(tmp_path / "bad"), "gztar", directory)
  with pytest.raises(files.InputError, match=r"bad.tar.gz is no module .* no saved_model.pb"):
    convert(path, tmp_path / "other")
  assert not list(scratch.iterdir())


# ---- Refusals -----------------------------------------------------------------------------------


def cut(path, share):
  data = path.read_bytes()
  path.write_bytes(data[: int(len(data) * share)])


def without_word_embeddings(directory):
  prefix = str(directory / "variables" / "variables")
  values, _ = checkpoints.read_checkpoint(prefix)
  del values["bert/embeddings/word_embeddings"]
  checkpoints.save_checkpoint(prefix, values)


def with_another_layer(directory):
  prefix = str(directory / "variables" / "variables")
  values, _ = checkpoints.read_checkpoint(prefix)
  kernel = values["bert/encoder/layer_0/output/dense/kernel"]
  values["bert/encoder/layer_7/output/dense/kernel"] = kernel
  checkpoints.save_checkpoint(prefix, values)


REFUSALS = {
  "graph": (lambda d: (d / "saved_model.pb").unlink(), "no module .* it has no saved_model.pb"),
  "cut graph": (lambda d: cut(d / "saved_model.pb", 0.5), "is damaged or no SavedModel"),
  "empty graph": (lambda d: cut(d / "saved_model.pb", 0), "is damaged or no SavedModel"),
  "variables": (lambda d: shutil.rmtree(d / "variables"), "has no variables"),
  "cut variables": (
    lambda d: cut(d / "variables" / "variables.data-00000-of-00001", 0.5),
    "its variables are damaged",
  ),
  "cut index": (lambda d: cut(d / "variables" / "variables.index", 0.5), "variables are damaged"),
  "vocabulary": (
    lambda d: shutil.rmtree(d / "assets"),
    r"no assets/vocab.txt\); give --vocab_file",
  ),
  "other vocabulary": (
    lambda d: (d / "assets" / "vocab.txt").write_text("[PAD]\n" * 40),
    "vocab.txt",
  ),
  "no BERT": (without_word_embeddings, "has no bert/embeddings/word_embeddings, but bert/"),
  "layers": (with_another_layer, "not the whole of an encoder: it has no bert/encoder/layer_2/"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(case, first, tmp_path):
  directory, _ = first
  spoil, message = REFUSALS[case]
  spoil(directory)
  before = snapshot(tmp_path)
  with pytest.raises(files.InputError, match=message) as caught:
    convert(directory, tmp_path / "out")
  assert "\n" not in str(caught.value) and snapshot(tmp_path) == before


@pytest.mark.parametrize(
  ("path", "message"),
  [
    ("https://example.org/bert/1", "is an address; download the archive"),
    ("nowhere", "there is no .*nowhere; give the directory or the .tar.gz archive"),
  ],
)
def test_paths_that_are_no_module(path, message, tmp_path):
  path = path if "://" in path else tmp_path / path
  with pytest.raises(files.InputError, match=f"--input: {message}|{message}"):
    convert(path, tmp_path / "out")


def test_a_vocabulary_of_the_users(first, tmp_path):
  directory, _ = first
  shutil.rmtree(directory / "assets")
  vocab_file = tmp_path / "my_vocab.txt"
  vocab_file.write_text("\n".join(VOCAB))
  convert(directory, tmp_path / "out", vocab_file=vocab_file)
  assert (tmp_path / "out" / "vocab.txt").read_text() == vocab_file.read_text()


def test_a_directory_of_an_awkward_name(tmp_path):
  place = tmp_path / "modules [v1] *?\\ größe"
  values = random_encoder()
  save_encoder(tmp_path / "module", values)
  place.mkdir()
  os.rename(tmp_path / "module", place / "module")
  assert_same(convert(place / "module", tmp_path / "out")[0], values)


# ---- For a training -----------------------------------------------------------------------------


def test_a_module_is_converted_once(first):
  directory, values = first
  found = hub_modules.convert(str(directory), "handle")
  assert hub_modules.convert(str(directory), "handle") is found and found.do_lower_case
  assert_same(checkpoints.read_checkpoint(found.init_checkpoint)[0], values)
  paths = {pathlib.Path(path).name for name, path in found.flags().items() if "file" in name}
  assert paths == {"bert_config.json", "vocab.txt"}


def test_the_casing_that_a_vocabulary_shows(tmp_path, log):
  save_first_version(tmp_path / "module", vocab=[*VOCAB, "The", "Hat"], do_lower_case=None)
  assert hub_modules.convert(str(tmp_path / "module"), "handle").do_lower_case is False
  assert "does not tell its casing; cased is taken" in log.text
