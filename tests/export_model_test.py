"""Exports of models of each task: their outputs, files and refusals."""

import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
import tensorflow as tf2
import tensorflow.compat.v1 as tf
from tiny_heads import LABELS, MODELS, VOCAB, outputs_of, save_trained, save_weights
from tiny_runs import config_of, save_model, snapshot

import export_model
import run_classifier
from toolkit.formats import checkpoints, exported_model
from toolkit.serving import export_check, hub_encoder, loading, onnx_engine
from toolkit.serving.classifier import Classifier
from toolkit.support import command_line, files

IDS = np.array([[2, 5, 6, 7, 8, 9, 3], [2, 13, 14, 3, 0, 0, 0]], np.int32)
MASK = (IDS > 0).astype(np.int32)
SEGMENTS = np.array([[0, 0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 0, 0, 0]], np.int32)


def export(**flags):
  """Runs main as a command line would; a flag of True is a switch."""
  switches = [
    f"--{name}" if value is True else f"--{name}={value}" for name, value in flags.items()
  ]
  command_line.parse(export_model.flags, switches)
  export_model.main([])


def run_signature(directory, **inputs):
  """Loads a SavedModel as TensorFlow 2 does, and runs its signature: dict of name -> array."""
  with tf2.__internal__.eager_context.eager_mode():
    run = tf2.saved_model.load(str(directory)).signatures["serving_default"]
    outputs = run(**{name: tf2.constant(array) for name, array in inputs.items()})
    return {name: value.numpy() for name, value in outputs.items()}


@pytest.fixture(name="trained")
def _trained(tmp_path):
  directory = tmp_path / "trained"
  directory.mkdir()
  save_trained(directory, "one_label")
  return directory


@pytest.fixture(name="model_dir")
def _model_dir(tmp_path):
  directory = tmp_path / "bert"
  directory.mkdir()
  save_model(directory, VOCAB)
  return directory


def checkpoint_values(directory):
  return checkpoints.read_checkpoint(checkpoints.resolve_checkpoint(str(directory)))[0]


# ---- saved_model --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_outputs_of_each_task(name, tmp_path, capsys):
  trained, exported = tmp_path / "trained", tmp_path / "exports" / "model"
  trained.mkdir()
  save_trained(trained, name)
  export(output_dir=trained, format="saved_model", export_dir=exported)
  printed = capsys.readouterr().out
  assert printed.startswith(f"{exported}/1: saved_model of {trained}/model.ckpt-5; outputs differ")
  assert "of 3 to 32 word pieces" in printed
  inputs = {"input_ids": IDS, "input_mask": MASK, "segment_ids": SEGMENTS}
  if name == "masked_lm":
    inputs["masked_lm_positions"] = np.array([[1, 3], [1, 3]], np.int32)
  found = run_signature(exported / "1", **inputs)
  wanted = outputs_of(trained, name, [IDS, MASK, SEGMENTS])
  assert found.keys() == wanted.keys()
  for output, values in wanted.items():
    assert found[output].dtype == np.float32
    np.testing.assert_allclose(found[output], values, atol=1e-5)
  assert not [path for path in exported.parent.iterdir() if path != exported]


def test_an_encoder(model_dir, tmp_path):
  export(model_dir=model_dir, format="saved_model", export_dir=tmp_path / "out")
  inputs = {"input_ids": IDS, "input_mask": MASK, "segment_ids": SEGMENTS}
  found = run_signature(tmp_path / "out" / "1", **inputs)
  assert {name: array.shape for name, array in found.items()} == {
    "sequence_output": (2, 7, 16),
    "pooled_output": (2, 16),
  }
  one = run_signature(
    tmp_path / "out" / "1", **{name: array[1:, :4] for name, array in inputs.items()}
  )
  np.testing.assert_allclose(one["pooled_output"], found["pooled_output"][1:], atol=1e-5)


def without_pooler(model_dir):
  values = checkpoint_values(model_dir)
  kept = {name: value for name, value in values.items() if "pooler" not in name}
  checkpoints.save_checkpoint(str(model_dir / "bert_model.ckpt"), kept)


def test_an_encoder_without_a_pooler(model_dir, tmp_path):
  without_pooler(model_dir)
  export(model_dir=model_dir, format="saved_model", export_dir=tmp_path / "out")
  inputs = {"input_ids": IDS, "input_mask": MASK, "segment_ids": SEGMENTS}
  assert run_signature(tmp_path / "out" / "1", **inputs).keys() == {"sequence_output"}
  with pytest.raises(files.InputError, match=r"has no pooler .* give --format=saved_model"):
    export(model_dir=model_dir, format="hub", export_dir=tmp_path / "hub")
  assert not (tmp_path / "hub").exists()


def test_probabilities_are_those_of_the_predictor(trained, tmp_path):
  export(output_dir=trained, format="saved_model", export_dir=tmp_path / "out")
  model = Classifier.from_directory(str(trained), engine="tensorflow")
  (predicted,) = model.classify([("the old hat", "is good")])
  inputs = {"input_ids": IDS[:1], "input_mask": MASK[:1], "segment_ids": SEGMENTS[:1]}
  inputs["input_ids"] = np.array([[2, 5, 6, 7, 3, 8, 9, 3]], np.int32)
  inputs["input_mask"] = np.ones_like(inputs["input_ids"])
  inputs["segment_ids"] = np.array([[0, 0, 0, 0, 0, 1, 1, 1]], np.int32)
  (found,) = run_signature(tmp_path / "out" / "1", **inputs)["probabilities"]
  np.testing.assert_allclose(found, list(predicted.probabilities.values()), atol=1e-6)


def test_files_of_a_saved_model(trained, tmp_path):
  export(output_dir=trained, format="saved_model", export_dir=tmp_path / "out")
  version = tmp_path / "out" / "1"
  extra = version / "assets.extra"
  for name in ("vocab.txt", "label_list.txt"):
    assert (extra / name).read_bytes() == (trained / name).read_bytes()
  config = json.loads((trained / "bert_config.json").read_text())
  assert json.loads((extra / "bert_config.json").read_text()).items() >= config.items()
  description = json.loads((extra / "model.json").read_text())
  assert description["script"] == "run_classifier" and description["labels"] == LABELS
  assert description["flags"]["do_lower_case"] is True
  # The variables can be read by their usual names, and there are no others.
  reader = tf.train.load_checkpoint(str(version / "variables" / "variables"))
  wanted = checkpoint_values(trained)
  assert set(reader.get_variable_to_shape_map()) == set(wanted)
  assert all((reader.get_tensor(name) == value).all() for name, value in wanted.items())


def test_the_graph_has_no_training_and_no_random_numbers(trained, tmp_path):
  export(output_dir=trained, format="saved_model", export_dir=tmp_path / "out")
  with tf.Graph().as_default() as graph, tf.Session() as session:
    tf.saved_model.load(session, ["serve"], str(tmp_path / "out" / "1"))
    kinds = {op.type for op in graph.get_operations()}
    attributes = {name for node in graph.as_graph_def().node for name in node.attr}
  assert not {kind for kind in kinds if "Random" in kind or "Iterator" in kind or "Apply" in kind}
  assert "MatMul" in kinds and "_gradient_op_type" not in attributes


def test_unused_variables_are_left_out(tmp_path):
  trained = tmp_path / "trained"
  trained.mkdir()
  save_trained(trained, "span")
  export(output_dir=trained, format="saved_model", export_dir=tmp_path / "out")
  reader = tf.train.load_checkpoint(str(tmp_path / "out" / "1" / "variables" / "variables"))
  names = reader.get_variable_to_shape_map()
  assert "cls/squad/output_weights" in names and not [n for n in names if "pooler" in n]


def test_the_best_checkpoint_is_exported(trained, tmp_path):
  best = trained / "best"
  save_weights(best, MODELS["one_label"][3], config_of(VOCAB), step=3, seed=2)
  (best / "best.json").write_text("{}")
  export(output_dir=trained, format="saved_model", export_dir=tmp_path / "out")
  reader = tf.train.load_checkpoint(str(tmp_path / "out" / "1" / "variables" / "variables"))
  saved = tf.train.load_checkpoint(str(best / "model.ckpt-3"))
  name = "bert/pooler/dense/kernel"
  assert (reader.get_tensor(name) == saved.get_tensor(name)).all()


@pytest.mark.parametrize(("name", "version"), [("reviews", "1"), ("2", ""), ("v2", "1")])
def test_versions(name, version, trained, tmp_path):
  exported = tmp_path / "models" / name
  export(output_dir=trained, format="saved_model", export_dir=f"{exported}/")
  assert (exported / version / "saved_model.pb").is_file()


def test_saved_model_cli_runs_it(trained, tmp_path):
  export(output_dir=trained, format="saved_model", export_dir=tmp_path / "out")
  inputs = [f"{name}=[[2,5,6,3]]" for name in ("input_ids",)]
  inputs += ["input_mask=[[1,1,1,1]]", "segment_ids=[[0,0,0,0]]"]
  command = ["-m", "tensorflow.python.tools.saved_model_cli", "run"]
  options = ["--dir", str(tmp_path / "out" / "1"), "--tag_set", "serve"]
  options += ["--signature_def", "serving_default", "--input_exprs", ";".join(inputs)]
  done = subprocess.run(
    [sys.executable, *command, *options, "--outdir", str(tmp_path)],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  found = np.load(tmp_path / "probabilities.npy")
  arrays = [np.array([row], np.int32) for row in ([2, 5, 6, 3], [1] * 4, [0] * 4)]
  wanted = outputs_of(trained, "one_label", arrays)["probabilities"]
  np.testing.assert_allclose(found, wanted, atol=1e-5)


# ---- hub ----------------------------------------------------------------------------------------


@pytest.fixture(name="encoder")
def _encoder(model_dir, tmp_path):
  """The directory of an exported encoder."""
  export(model_dir=model_dir, format="hub", export_dir=tmp_path / "hub")
  return tmp_path / "hub"


INPUTS = {"input_word_ids": IDS, "input_mask": MASK, "input_type_ids": SEGMENTS}


def test_the_interface_of_text_encoders(encoder, model_dir):
  with tf2.__internal__.eager_context.eager_mode():
    loaded = tf2.saved_model.load(str(encoder))
    inputs = {name: tf2.constant(array) for name, array in INPUTS.items()}
    outputs = loaded(inputs)
    again = loaded(inputs, training=False)
    assert set(outputs) == {"pooled_output", "default", "sequence_output", "encoder_outputs"}
    assert [layer.shape for layer in outputs["encoder_outputs"]] == [(2, 7, 16)] * 2
    last = outputs["encoder_outputs"][-1]
    assert (last.numpy() == outputs["sequence_output"].numpy()).all()
    assert (outputs["default"].numpy() == outputs["pooled_output"].numpy()).all()
    assert (again["pooled_output"].numpy() == outputs["pooled_output"].numpy()).all()
    assert loaded.do_lower_case.numpy() and loaded.regularization_losses == []
    vocab = pathlib.Path(loaded.vocab_file.asset_path.numpy().decode())
    assert vocab.read_bytes() == (model_dir / "vocab.txt").read_bytes()
    assert vocab.is_relative_to(encoder / "assets")
    signature = loaded.signatures["serving_default"](**inputs)
    assert set(signature) == {"pooled_output", "sequence_output"}
    found = {v.name.partition(":")[0]: v.numpy() for v in loaded.trainable_variables}
    assert len(loaded.variables) == len(found)
  wanted = checkpoint_values(model_dir)
  assert found.keys() == wanted.keys()
  assert all((found[name] == value).all() for name, value in wanted.items())


def test_an_exported_encoder_trains(encoder):
  """With dropout, and gradients of all variables, which lower a loss."""
  with tf2.__internal__.eager_context.eager_mode():
    loaded = tf2.saved_model.load(str(encoder))
    inputs = {name: tf2.constant(array) for name, array in INPUTS.items()}
    first, second = (loaded(inputs, training=True)["pooled_output"].numpy() for _ in range(2))
    assert np.abs(first - second).max() > 1e-3

    def loss():
      outputs = loaded(inputs, training=False)
      distances = outputs["pooled_output"] - tf2.constant([[1.0] * 16, [-1.0] * 16])
      return tf2.reduce_mean(distances**2)

    before = loss().numpy()
    for _ in range(40):
      with tf2.GradientTape() as tape:
        value = loss()
      gradients = tape.gradient(value, loaded.trainable_variables)
      for variable, gradient in zip(loaded.trainable_variables, gradients):
        assert gradient is not None, variable.name
        variable.assign_sub(0.1 * tf2.convert_to_tensor(gradient))
    assert loss().numpy() < 0.9 * before


def test_the_encoder_of_a_classifier(trained, tmp_path, log):
  export(output_dir=trained, format="hub", export_dir=tmp_path / "hub")
  assert "The head of run_classifier.py is left out" in log.text
  assert not (tmp_path / "hub" / "assets.extra" / "label_list.txt").exists()
  inputs = dict(zip(hub_encoder.NAMES, (IDS, MASK, SEGMENTS)))
  pooled = run_signature(tmp_path / "hub", **inputs)["pooled_output"]
  values = checkpoint_values(trained)
  logits = pooled @ values["output_weights"].T + values["output_bias"]
  wanted = outputs_of(trained, "one_label", [IDS, MASK, SEGMENTS])["logits"]
  np.testing.assert_allclose(logits, wanted, atol=1e-5)


# ---- Comparison and directories -----------------------------------------------------------------


@pytest.mark.parametrize("name", export_model.FORMATS)
def test_an_export_that_differs_is_not_kept(name, trained, tmp_path, monkeypatch):
  chosen = export_model.FORMATS[name]

  def export_changed(original, directory):
    copy = tmp_path / "changed"
    shutil.copytree(trained, copy)
    values = checkpoint_values(copy)
    values["bert/encoder/layer_1/output/dense/bias"][0] += 0.01
    checkpoints.save_checkpoint(str(copy / "model.ckpt-5"), values)
    chosen.export(original._replace(checkpoint=str(copy / "model.ckpt-5")), directory)

  monkeypatch.setitem(export_model.FORMATS, name, chosen._replace(export=export_changed))
  before = set(tmp_path.iterdir())
  with pytest.raises(files.InputError, match=r"nothing is kept of the export: outputs differ .*"):
    export(output_dir=trained, format=name, export_dir=tmp_path / "out")
  assert set(tmp_path.iterdir()) - before == {tmp_path / "changed"}


@pytest.mark.parametrize(
  ("wrong", "message"),
  [
    (lambda outputs: {}, "logits of the export is not there"),
    (lambda outputs: {**outputs, "logits": outputs["logits"][:, :2]}, r"is \[\d, 2\], should be"),
    (lambda outputs: {**outputs, "logits": outputs["logits"] * np.nan}, "by at most inf"),
  ],
)
def test_outputs_that_are_no_numbers(wrong, message, trained):
  original = export_model.read_original(
    command_line.Settings({"output_dir": str(trained), "model_dir": None})
  )
  expected = export_check.expected_outputs(original)
  outputs = iter([batch.outputs for batch in expected])
  with pytest.raises(files.InputError, match=message):
    export_check.check(
      export_check.compare(original, expected, lambda inputs: wrong(next(outputs)))
    )


def test_what_is_at_padding_does_not_count(tmp_path):
  trained = tmp_path / "trained"
  trained.mkdir()
  save_trained(trained, "tags")
  original = export_model.read_original(
    command_line.Settings({"output_dir": str(trained), "model_dir": None})
  )
  expected = export_check.expected_outputs(original)

  def run(place):
    outputs = iter([batch.outputs for batch in expected])

    def changed(inputs):
      logits = next(outputs)["logits"].copy()
      if len(logits) > 1:
        logits[0, place] += 1.0
      return {"logits": logits}

    return export_check.compare(original, expected, changed).difference

  assert expected[0].lengths[0] == 3 and run(place=3) == 0.0 and run(place=2) == 1.0


def test_a_directory_that_exists_is_kept(trained, tmp_path):
  exported = tmp_path / "out"
  flags = {"output_dir": trained, "format": "saved_model", "export_dir": exported}
  exported.mkdir()
  export(**flags)  # into an empty one
  before = snapshot(exported)
  with pytest.raises(files.InputError, match=r"--export_dir: .* is not empty"):
    export(**flags)
  assert snapshot(exported) == before
  (exported / "1" / "old").write_text("")
  export(**flags, overwrite=True)
  assert snapshot(exported).keys() == before.keys()
  (exported / "2").mkdir()
  with pytest.raises(files.InputError, match="has 2, which --overwrite does not replace"):
    export(**flags, overwrite=True)
  assert snapshot(exported).keys() == before.keys()


@pytest.mark.parametrize("name", export_model.FORMATS)
def test_a_directory_of_an_awkward_name(name, tmp_path):
  place = tmp_path / "runs [v1] *?\\ größe"
  trained = place / "trained"
  trained.mkdir(parents=True)
  save_trained(trained, "one_label")
  export(output_dir=trained, format=name, export_dir=place / "out")
  assert [path for path in (place / "out").rglob("*") if path.suffix in (".pb", ".onnx")]


REFUSALS = {
  "neither": ({}, "give --output_dir=DIR of a training, or --model_dir=DIR"),
  "both": ({"output_dir": "trained", "model_dir": "trained"}, "give --output_dir=DIR"),
  "nothing": ({"output_dir": "nowhere"}, "there is no directory .*nowhere"),
  "encoder": ({"output_dir": "bert"}, "--output_dir: .* has no run.json, .* as --model_dir"),
  "source": ({"output_dir": "trained", "export_dir": "trained"}, "trained is not empty"),
  "file": ({"output_dir": "trained", "export_dir": "trained/vocab.txt"}, "is a file"),
  "format": ({"output_dir": "trained", "format": None}, "--format is missing"),
  "target": ({"output_dir": "trained", "export_dir": None}, "--export_dir is missing"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(case, trained, model_dir, tmp_path):
  changes, message = REFUSALS[case]
  paths = {name: value and tmp_path / value for name, value in changes.items() if name != "format"}
  flags = {"format": "saved_model", "export_dir": tmp_path / "out", **changes, **paths}
  before = snapshot(tmp_path)
  with pytest.raises(files.InputError, match=message) as caught:
    export(**{name: value for name, value in flags.items() if value})
  assert "\n" not in str(caught.value) and snapshot(tmp_path) == before
  assert not (tmp_path / "out").exists()


def test_a_script_without_an_export(trained, tmp_path):
  (trained / "run.json").write_text('{"script": "run_other", "flags": {}}')
  with pytest.raises(files.InputError, match="found the script run_other"):
    export(output_dir=trained, format="saved_model", export_dir=tmp_path / "out")


def test_broken_weights(trained, tmp_path):
  values = checkpoint_values(trained)
  values["output_bias"][0] = np.nan
  checkpoints.save_checkpoint(str(trained / "model.ckpt-5"), values)
  with pytest.raises(files.InputError, match="is broken: its logits are not finite numbers"):
    export(output_dir=trained, format="saved_model", export_dir=tmp_path / "out")
  assert not (tmp_path / "out").exists()


def test_a_vocabulary_of_another_model(trained, tmp_path):
  (trained / "vocab.txt").write_text("\n".join([*VOCAB, "more"]) + "\n")
  with pytest.raises(
    files.InputError, match=r"vocab.txt: has 16 word pieces, where the model has 15"
  ):
    export(output_dir=trained, format="saved_model", export_dir=tmp_path / "out")


# ---- onnx ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_an_onnx_export_of_each_task(name, tmp_path, capsys):
  trained, exported = tmp_path / "trained", tmp_path / "onnx"
  trained.mkdir()
  save_trained(trained, name)
  export(output_dir=trained, format="onnx", export_dir=exported)
  printed = capsys.readouterr().out
  assert printed.startswith(f"{exported}: onnx of {trained}/model.ckpt-5; outputs differ")
  assert "(1e-04 is allowed)" in printed
  assert sorted(path.name for path in exported.iterdir()) == [
    "model.json",
    "model.onnx",
    "vocab.txt",
  ]
  path, head = exported_model.check_model(str(exported))
  inputs = {"input_ids": IDS, "input_mask": MASK, "segment_ids": SEGMENTS}
  if name == "masked_lm":
    inputs["masked_lm_positions"] = np.array([[1, 3], [1, 3]], np.int32)
  found = onnx_engine.OnnxEngine(path, path).run(inputs)
  wanted = outputs_of(trained, name, [IDS, MASK, SEGMENTS])
  assert found.keys() == wanted.keys() and head.inputs() == tuple(inputs)
  for output, values in wanted.items():
    np.testing.assert_allclose(found[output], values, atol=1e-5)


def test_the_same_model_gives_the_same_bytes(trained, tmp_path):
  for name in ("a", "b"):
    export(output_dir=trained, format="onnx", export_dir=tmp_path / name)
  assert snapshot(tmp_path / "a").keys() != snapshot(tmp_path / "b").keys()
  assert list(snapshot(tmp_path / "a").values()) == list(snapshot(tmp_path / "b").values())


def dev_set(directory):
  directory.mkdir()
  rows = ["sentence\tlabel", *(f"the old hat\t{label}" for label in LABELS)]
  (directory / "dev.tsv").write_text("\n".join(rows) + "\n")
  return directory


def test_weights_of_8_bits_with_the_metric_of_a_dev_set(tmp_path, capsys):
  trained = tmp_path / "trained"
  trained.mkdir()
  save_trained(trained, "one_label")
  run = json.loads((trained / "run.json").read_text())
  run["flags"] = {**settings_of_a_training(), **run["flags"], "task_name": "tsv"}
  (trained / "run.json").write_text(json.dumps(run))
  export(output_dir=trained, format="onnx", export_dir=tmp_path / "whole")
  flags = {"output_dir": trained, "format": "onnx", "quantize": "int8"}
  export(**flags, data_dir=dev_set(tmp_path / "data"), export_dir=tmp_path / "int8")
  printed = capsys.readouterr().out
  assert f"accuracy of {len(LABELS)} examples of the dev set: " in printed
  description = json.loads((tmp_path / "int8" / "model.json").read_text())
  assert description["quantization"] == "int8"
  model = onnx.load(str(tmp_path / "int8" / "model.onnx"))
  types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
  kernels = [name for name in types if "encoder" in name and "kernel" in name]
  integers = [name for name in kernels if types[name] == onnx.TensorProto.INT8]
  assert len(integers) == 12  # six of each layer
  found = loading.load(str(tmp_path / "int8")).classify(["the old hat"])[0]
  whole = loading.load(str(tmp_path / "whole")).classify(["the old hat"])[0]
  for label in LABELS:
    assert abs(found.probabilities[label] - whole.probabilities[label]) < 0.1


def settings_of_a_training():
  """Dict of the flags that a training of run_classifier.py remembers."""
  command_line.parse(run_classifier.flags, [])
  return run_classifier.flags.settings().as_dict()


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"format": "saved_model", "quantize": "int8"}, "--quantize is for --format=onnx"),
    ({"data_dir": "data"}, "--data_dir is for --quantize with --output_dir"),
    ({"quantize": "int8", "predict_file": "x"}, "--data_dir: give the dev set of run_classifier"),
  ],
)
def test_flags_that_do_not_go_together(changes, message, trained, tmp_path):
  flags = {"output_dir": trained, "format": "onnx", "export_dir": tmp_path / "out", **changes}
  with pytest.raises(files.InputError, match=message):
    export(**flags)
  assert not (tmp_path / "out").exists()


def test_onnx_that_is_not_installed(trained, tmp_path, monkeypatch):
  find = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util, "find_spec", lambda name: None if name == "onnx" else find(name)
  )
  with pytest.raises(files.InputError, match="the package onnx is not installed: python -m pip"):
    export(output_dir=trained, format="onnx", export_dir=tmp_path / "out")
