"""The classifier that starts from a module of TensorFlow Hub, with a tiny module."""

import json
import shutil

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tiny_heads import VOCAB
from tiny_hub import save_first_version
from tiny_runs import Refusal, weights, without_dropout

import convert_checkpoint
import run_classifier
import run_classifier_with_tfhub
from toolkit.formats import checkpoints
from toolkit.serving.classifier import Classifier
from toolkit.support import command_line, files
from toolkit.tasks import classification

ROWS = [f"{a} hat is {word} {b}" for a in ("the", "old") for word in ("good", "bad") for b in ".?"]


def run(script, *switches, **flags):
  """Runs main as a command line would."""
  flags = {name: value for name, value in flags.items() if value is not None}
  command_line.parse(script.flags, [*switches, *(f"--{n}={value}" for n, value in flags.items())])
  script.main([])


@pytest.fixture(name="module", scope="module")
def _module(tmp_path_factory):
  """The archive of a module."""
  place = tmp_path_factory.mktemp("hub")
  save_first_version(place / "bert", VOCAB)
  return shutil.make_archive(str(place / "module"), "gztar", place / "bert")


@pytest.fixture(name="data", scope="module")
def _data(tmp_path_factory):
  """A directory with the files of CoLA: 1 for a good hat."""
  directory = tmp_path_factory.mktemp("cola")
  rows = "".join(f"x\t{int('good' in text)}\t\t{text}\n" for text in ROWS)
  (directory / "train.tsv").write_text(rows * 3)
  (directory / "dev.tsv").write_text(rows)
  numbered = "".join(f"{number}\t{text}\n" for number, text in enumerate(ROWS[:5]))
  (directory / "test.tsv").write_text(f"index\tsentence\n{numbered}")
  return directory


def start(data, **flags):
  return {
    "task_name": "cola",
    "data_dir": data,
    "max_seq_length": 16,
    "train_batch_size": 4,
    "num_train_epochs": 12,
    "learning_rate": 2e-3,
    "random_seed": 7,
    **flags,
  }


@pytest.fixture(name="trained", scope="module")
def _trained(module, data, tmp_path_factory):
  """The output directory of a whole run."""
  directory = tmp_path_factory.mktemp("trained") / "out"
  flags = start(data, bert_hub_module_handle=module, output_dir=directory)
  with without_dropout():
    run(run_classifier_with_tfhub, "--do_train", "--do_eval", "--do_predict", **flags)
  return directory


def test_a_whole_run(trained):
  results = dict(
    line.split(" = ") for line in (trained / "eval_results.txt").read_text().splitlines()
  )
  assert set(results) == {"eval_accuracy", "eval_loss", "global_step", "loss"}
  assert float(results["eval_accuracy"]) == 1.0 and results["global_step"] == "72"
  rows = [line.split("\t") for line in (trained / "test_results.tsv").read_text().splitlines()]
  assert len(rows) == 5
  for text, row in zip(ROWS, rows):
    assert np.argmax(np.array(row, float)) == int("good" in text)
  assert (trained / "vocab.txt").read_text().split() == VOCAB
  assert (trained / "label_list.txt").read_text() == "0\n1\n"
  assert json.loads((trained / "run.json").read_text())["script"] == "run_classifier"


def test_it_is_the_training_of_run_classifier(trained, module, data, tmp_path):
  run(convert_checkpoint, mode="from_hub", input=module, output=tmp_path / "bert")
  flags = start(data, model=tmp_path / "bert", output_dir=tmp_path / "out")
  with without_dropout():
    run(run_classifier, "--do_train", "--do_eval", "--do_predict", **flags)
  found, wanted = weights(trained), weights(tmp_path / "out")
  assert found.keys() == wanted.keys()
  for name in wanted:
    np.testing.assert_allclose(found[name], wanted[name], rtol=1e-4, atol=1e-5)
  files_ = [
    (place / "test_results.tsv").read_text().split() for place in (trained, tmp_path / "out")
  ]
  np.testing.assert_allclose(*(np.array(each, float) for each in files_), atol=1e-4)


def test_a_finished_directory_needs_no_module(trained, data, tmp_path):
  copy = shutil.copytree(trained, tmp_path / "copy")
  for name in ("eval_results.txt", "test_results.tsv"):
    (copy / name).unlink()
  run(run_classifier_with_tfhub, "--do_eval", output_dir=copy)
  assert (copy / "eval_results.txt").read_text() == (trained / "eval_results.txt").read_text()
  run(run_classifier, "--do_predict", output_dir=copy)
  rows = [(place / "test_results.tsv").read_text().split() for place in (trained, copy)]
  np.testing.assert_allclose(*(np.array(each, float) for each in rows), atol=1e-6)
  model = Classifier.from_directory(str(copy), engine="tensorflow")
  assert model.classify([ROWS[0]])[0].value == "1"


def test_a_training_goes_on(module, data, tmp_path):
  flags = start(data, bert_hub_module_handle=module, output_dir=tmp_path / "out")
  run(run_classifier_with_tfhub, "--do_train", **{**flags, "num_train_epochs": 1})
  run(
    run_classifier_with_tfhub,
    "--do_train",
    **{**flags, "num_train_epochs": 2, "bert_hub_module_handle": None},
  )
  assert weights(tmp_path / "out")["global_step"] == 12


# ---- From other programs ------------------------------------------------------------------------


def test_the_tokenizer_of_a_module(module):
  tokenizer = run_classifier_with_tfhub.create_tokenizer_from_hub_module(module)
  assert tokenizer.tokenize("The unable Hat?") == ["the", "un", "##able", "hat", "?"]


def test_a_model_of_a_module(module):
  """Its variables are initialized from the module."""
  with tf.Graph().as_default(), tf.Session() as session:
    ids = tf.constant([[2, 5, 6, 3]])
    loss, losses, logits, probabilities = run_classifier_with_tfhub.create_model(
      False, ids, tf.ones_like(ids), tf.zeros_like(ids), tf.constant([1]), 3, module
    )
    assert (loss.shape, losses.shape) == ((), (1,)) and logits.shape == probabilities.shape == (
      1,
      3,
    )
    session.run(tf.global_variables_initializer())
    found = {v.op.name: session.run(v) for v in tf.trainable_variables()}
  wanted = checkpoints.read_checkpoint(
    run_classifier_with_tfhub.hub_modules.convert(module, "bert_hub_module_handle").init_checkpoint
  )[0]
  assert set(found) - set(wanted) == {"output_weights", "output_bias"}
  assert all((found[name] == value).all() for name, value in wanted.items())


def test_the_model_fn_of_a_notebook(module, tmp_path):
  examples = [
    run_classifier.InputExample(str(number), text, label=str(int("good" in text)))
    for number, text in enumerate(ROWS)
  ]
  tokenizer = run_classifier_with_tfhub.create_tokenizer_from_hub_module(module)
  features = classification.convert_examples_to_features(examples, ["0", "1"], 16, tokenizer)
  model_fn = run_classifier_with_tfhub.model_fn_builder(
    num_labels=2,
    learning_rate=2e-3,
    num_train_steps=40,
    num_warmup_steps=4,
    use_tpu=False,
    bert_hub_module_handle=module,
  )
  estimator = tf.estimator.tpu.TPUEstimator(
    model_fn,
    config=tf.estimator.tpu.RunConfig(model_dir=str(tmp_path / "out"), tf_random_seed=1),
    use_tpu=False,
    train_batch_size=8,
    eval_batch_size=8,
    predict_batch_size=8,
  )
  arguments = (features, 16)
  with without_dropout():
    estimator.train(run_classifier.input_fn_builder(*arguments, True, True), max_steps=40)
  results = estimator.evaluate(run_classifier.input_fn_builder(*arguments, False, False), steps=1)
  assert results["eval_accuracy"] == 1.0 and results["global_step"] == 40
  rows = list(estimator.predict(run_classifier.input_fn_builder(*arguments, False, False)))
  assert [row["probabilities"].argmax() for row in rows] == [int("good" in text) for text in ROWS]


# ---- Refusals -----------------------------------------------------------------------------------


@pytest.fixture(name="refuse")
def _refuse(module, data, tmp_path):
  def run_in(output_dir, *switches, **flags):
    run(run_classifier_with_tfhub, *switches, output_dir=output_dir, **flags)

  def flags(**changes):
    return start(data, **{"bert_hub_module_handle": module, **changes})

  return Refusal(run_in, flags, tmp_path / "out", "--do_train")


@pytest.mark.parametrize(
  ("message", "flags"),
  [
    ("--bert_hub_module_handle is missing: a new --output_dir", {"bert_hub_module_handle": None}),
    (
      "--bert_hub_module_handle: https://.* is an address; download the archive",
      {"bert_hub_module_handle": "https://example.org/google/bert/1"},
    ),
    ("--bert_hub_module_handle: there is no nowhere", {"bert_hub_module_handle": "nowhere"}),
    ("--model: the model is that of --bert_hub_module_handle", {"model": "bert"}),
    ("--init_checkpoint: the model is that of", {"init_checkpoint": "bert"}),
    ("--task_name: .* has not one label per text; convert the module", {"task_name": "stsb"}),
    ("--task_name: Task not found: cold", {"task_name": "cold"}),
    ("--max_seq_length=64 is more than the 32 positions", {"max_seq_length": 64}),
    ("no training step", {"num_train_epochs": 0.01}),
    ("the TPU cannot read a module of this machine", {"use_tpu": True, "tpu_name": "x"}),
  ],
)
def test_refusals(message, flags, refuse):
  refuse(message, **flags)


def test_nothing_to_do(refuse, module, data, tmp_path):
  with pytest.raises(files.InputError, match="nothing to do: give --do_train"):
    run(run_classifier_with_tfhub, **start(data, output_dir=tmp_path / "out"))
