"""Exports and conversions with the packages of others, where they are installed (slow).

tensorflow-hub 0.16.1 with setuptools below 81, and tf_keras where TensorFlow has Keras 3
tensorflow-hub 0.15.0, the last that makes modules of the first version
tf-models-official 2.15, whose encoders those of TensorFlow Hub are
"""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from tiny_heads import VOCAB
from tiny_runs import save_model

import convert_checkpoint
import export_model
from toolkit.formats import checkpoints
from toolkit.support import command_line

pytestmark = pytest.mark.slow
ROOT = os.path.dirname(os.path.abspath(export_model.__file__))

# Each program runs in a process of its own, in which TensorFlow's eager mode is on.
HEADER = """
import json, os, sys
import numpy as np
import tensorflow as tf

keras = tf.keras
if hasattr(keras, "__version__"):  # Keras 3, which hub.KerasLayer is not for
  import tf_keras as keras
ids = np.array([[2, 5, 6, 7, 8, 9, 3], [2, 13, 14, 3, 0, 0, 0]], np.int32)
inputs = {
  "input_word_ids": ids,
  "input_mask": (ids > 0).astype(np.int32),
  "input_type_ids": np.zeros_like(ids),
}
tensors = {name: tf.constant(array) for name, array in inputs.items()}
"""


def needs(package):
  """Skips the test where a package is not installed, given by the name of its module."""
  if importlib.util.find_spec(package) is None:
    pytest.skip(f"the package of the module {package} is not installed")


def run_program(text, *arguments):
  """Runs a program; returns its last line as JSON."""
  done = subprocess.run(
    [sys.executable, "-c", HEADER + text, *map(str, arguments)],
    cwd=ROOT,
    env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout.splitlines()[-1])


def run(script, **flags):
  command_line.parse(script.flags, [f"--{name}={value}" for name, value in flags.items()])
  script.main([])


@pytest.fixture(name="model_dir")
def _model_dir(tmp_path):
  directory = tmp_path / "bert"
  directory.mkdir()
  save_model(directory, VOCAB)
  return directory


def tensors_of(directory):
  return checkpoints.read_checkpoint(str(directory / "bert_model.ckpt"))[0]


def assert_comes_back(module, model_dir, output):
  """Converts a module, whose weights must be those of a model, bit by bit."""
  run(convert_checkpoint, mode="from_hub", input=module, output=output)
  found, wanted = tensors_of(output), tensors_of(model_dir)
  assert found.keys() == wanted.keys()
  assert all(found[name].tobytes() == wanted[name].tobytes() for name in wanted)
  assert (output / "vocab.txt").read_bytes() == (model_dir / "vocab.txt").read_bytes()
  configs = [json.loads((d / "bert_config.json").read_text()) for d in (output, model_dir)]
  names = set(configs[1]) - {"initializer_range"}  # which no module tells
  assert {n: configs[0][n] for n in names} == {n: configs[1][n] for n in names}
  assert configs[0]["huggingface"]["tokenizer_config"]["do_lower_case"] is True


FINE_TUNE = """
import tensorflow_hub as hub

layer = hub.KerasLayer(sys.argv[1], trainable=True)
ends = {name: keras.layers.Input([None], dtype=tf.int32, name=name) for name in inputs}
logits = keras.layers.Dense(2)(layer(ends)["pooled_output"])
model = keras.Model(ends, logits)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(5e-3), loss)
before = [variable.numpy() for variable in layer.trainable_weights]
history = model.fit(inputs, np.array([0, 1]), epochs=40, verbose=0).history["loss"]
wanted = model.predict(inputs, verbose=0)
differences = {}
for name in ("saved_model", "model.h5"):
  path = os.path.join(sys.argv[2], name)
  model.save(path)
  again = keras.models.load_model(path, custom_objects={"KerasLayer": hub.KerasLayer})
  differences[name] = float(np.abs(again.predict(inputs, verbose=0) - wanted).max())
first, second = (layer(tensors, training=True)["pooled_output"].numpy() for _ in range(2))
print()
print(json.dumps({
  "variables": len(before),
  "moved": sum(bool((a != v.numpy()).any()) for a, v in zip(before, layer.trainable_weights)),
  "loss": [float(value) for value in history],
  "differences": differences,
  "dropout": float(np.abs(first - second).max()),
}))
"""


def test_a_keras_layer_trains_an_export(model_dir, tmp_path):
  needs("tensorflow_hub")
  run(export_model, model_dir=model_dir, format="hub", export_dir=tmp_path / "hub")
  found = run_program(FINE_TUNE, tmp_path / "hub", tmp_path)
  assert found["variables"] == found["moved"] == 39
  assert found["loss"][-1] < 0.5 * found["loss"][0]
  assert found["dropout"] > 1e-3
  assert max(found["differences"].values()) < 1e-6


FIRST_VERSION = """
import tensorflow.compat.v1 as tf1
import tensorflow_hub as hub
import modeling

model_dir, output = sys.argv[1:]
config = modeling.BertConfig.from_json_file(f"{model_dir}/bert_config.json")

def module(is_training):
  names = ("input_ids", "input_mask", "segment_ids")
  ends = {name: tf1.placeholder(tf.int32, [None, None], name) for name in names}
  model = modeling.BertModel(config, is_training, *ends.values())
  vocab = tf1.constant(f"{model_dir}/vocab.txt", name="vocab_file")
  tf1.add_to_collection(tf1.GraphKeys.ASSET_FILEPATHS, vocab)
  hub.add_signature("tokens", ends, {"pooled_output": model.get_pooled_output()})
  casing = tf1.constant(True)
  hub.add_signature("tokenization_info", {}, {"vocab_file": vocab, "do_lower_case": casing})

modes = [({"train"}, {"is_training": True}), (set(), {"is_training": False})]
spec = hub.create_module_spec(module, tags_and_args=modes)
spec.export(output, checkpoint_path=f"{model_dir}/bert_model.ckpt")
print("null")
"""


def test_a_module_that_tensorflow_hub_makes(model_dir, tmp_path):
  needs("tensorflow_hub")
  program = "import tensorflow_hub as hub\nprint(json.dumps(hasattr(hub, 'create_module_spec')))"
  if not run_program(program):
    pytest.skip("tensorflow-hub 0.15.0 is the last that makes modules of the first version")
  run_program(FIRST_VERSION, model_dir, tmp_path / "module")
  assert (tmp_path / "module" / "tfhub_module.pb").exists()
  assert_comes_back(tmp_path / "module", model_dir, tmp_path / "out")


OFFICIAL = """
from official.legacy.bert import configs
from official.nlp.tools import export_tfhub_lib
from official.nlp.tools import tf2_bert_encoder_checkpoint_converter as converter

model_dir, scratch, output = sys.argv[1:]
config = configs.BertConfig.from_json_file(f"{model_dir}/bert_config.json")
source = f"{model_dir}/bert_model.ckpt"
converter.convert_checkpoint(config, f"{scratch}/ckpt", source, "model", "encoder")
export_tfhub_lib.export_model(
  output,
  bert_config=config,
  model_checkpoint_path=tf.train.latest_checkpoint(scratch),
  with_mlm=False,
  vocab_file=f"{model_dir}/vocab.txt",
  do_lower_case=True,
)
print("null")
"""

RUN = """
outputs = tf.saved_model.load(sys.argv[1])(tensors, training=False)
names = ("pooled_output", "sequence_output")
print(json.dumps({name: outputs[name].numpy().tolist() for name in names}))
"""


def test_an_encoder_of_tf_models(model_dir, tmp_path):
  """It is converted bit by bit, and our export of the same weights computes the same."""
  needs("official")
  run_program(OFFICIAL, model_dir, tmp_path / "scratch", tmp_path / "official")
  assert_comes_back(tmp_path / "official", model_dir, tmp_path / "out")
  run(export_model, model_dir=tmp_path / "out", format="hub", export_dir=tmp_path / "hub")
  found, wanted = (run_program(RUN, tmp_path / name) for name in ("hub", "official"))
  assert found.keys() == wanted.keys() == {"pooled_output", "sequence_output"}
  mask = np.array([[1] * 7, [1] * 4 + [0] * 3])
  for name in found:
    distances = np.abs(np.array(found[name]) - np.array(wanted[name]))
    assert (distances if name == "pooled_output" else distances * mask[:, :, None]).max() < 1e-5
