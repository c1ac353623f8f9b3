"""The classifier script from flags to files, with a tiny model and a language of 40 words."""

import concurrent.futures
import csv
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tiny_runs import (
  SPECIAL,
  Refusal,
  checkpoint_steps,
  config_of,
  copied,
  save_checkpoint,
  save_model,
  send_once,
  start_flags,
  weights,
  without_dropout,
)

import modeling
import run_classifier
import tokenization
from toolkit.formats import checkpoints
from toolkit.support import command_line, files, precision

GOOD = ["good", "great", "fine", "lovely", "superb", "funny"]
BAD = ["bad", "awful", "dull", "poor", "weak", "silly"]
THINGS = ["film", "play", "book", "song", "cast", "plot", "end", "scene"]
OTHER = [
  "the",
  "was",
  "is",
  "a",
  "very",
  "quite",
  "and",
  "not",
  ".",
  "##s",
  "so",
  "it",
  "we",
  "all",
]
VOCAB = [*SPECIAL, *GOOD, *BAD, *THINGS, *OTHER]
CONFIG = config_of(VOCAB)
SCRIPT = pathlib.Path(run_classifier.__file__)

NUM_TRAIN, BATCH_SIZE, EPOCHS = 24, 8, 24
NUM_STEPS = NUM_TRAIN // BATCH_SIZE * EPOCHS


# ---- A user's files -----------------------------------------------------------------------------


def sentences(things, extra=""):
  """Rows of (text, label): each kind of word about each thing, of different lengths."""
  return [
    (f"{word} {thing} {'very ' * (i % 3)}{word} {word}{extra} .", label)
    for i, thing in enumerate(things)
    for words, label in ((GOOD, "positive"), (BAD, "negative"))
    for word in words[i % 2 :: 2]
  ]


def write_rows(path, rows):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text("".join("\t".join(row) + "\n" for row in rows))
  return str(path)


@pytest.fixture(name="model", scope="module")
def _model(tmp_path_factory):
  """A directory with a model to start from."""
  directory = tmp_path_factory.mktemp("model")
  save_model(directory, VOCAB)
  return directory


@pytest.fixture(name="data", scope="module")
def _data(tmp_path_factory):
  """A directory with train.tsv, dev.tsv and test.tsv; test.tsv has no labels."""
  directory = tmp_path_factory.mktemp("data")
  sets = {
    "train": sentences(THINGS[:4]),
    "dev": sentences(THINGS[1:4]),
    "test": [(text,) for text, _ in sentences(THINGS[5:], extra=" and so")],
  }
  assert len(sets["train"]) == NUM_TRAIN
  for name, rows in sets.items():
    header = ("key", "sentence", "label")[: len(rows[0]) + 1]
    numbered = [(f"{name[0]}{number}", *row) for number, row in enumerate(rows)]
    write_rows(directory / f"{name}.tsv", [header, *numbered])
  return directory


def run(output_dir, *arguments, **flags):
  """Runs main as a command line would."""
  named = [f"--{name}={value}" for name, value in {"output_dir": output_dir, **flags}.items()]
  command_line.parse(run_classifier.flags, [*arguments, *named])
  run_classifier.main([])


def start(model, data, /, **flags):
  """The flags of a training run, which may be changed; those that are None are left out."""
  flags = {
    "task_name": "tsv",
    "data_dir": data,
    **start_flags(model),
    "id_column": "key",
    "max_seq_length": 16,
    "train_batch_size": BATCH_SIZE,
    "num_train_epochs": EPOCHS,
    "learning_rate": 0.005,
    **flags,
  }
  return {name: value for name, value in flags.items() if value is not None}


@pytest.fixture(name="trained", scope="module")
def _trained(model, data, tmp_path_factory):
  """The output directory of a whole run, which learns well. Tests copy it before they change it."""
  directory = tmp_path_factory.mktemp("run") / "below" / "trained"
  with without_dropout():
    run(directory, "--do_train", "--do_eval", "--do_predict", **start(model, data))
  return directory


def results(directory, name="eval_results.txt"):
  """eval_results.txt as a list of [key, value] in its order."""
  return [line.split(" = ") for line in (directory / name).read_text().splitlines()]


def probabilities(directory, name="test_results.tsv"):
  lines = (directory / name).read_text().splitlines()
  return np.array([line.split("\t") for line in lines], np.float32)


def table(directory, name="predictions.tsv"):
  with open(directory / name, newline="") as f:
    return list(csv.reader(f, delimiter="\t"))


# ---- A whole run --------------------------------------------------------------------------------


def test_a_run_writes_its_files(trained):
  names = {str(path.relative_to(trained)) for path in trained.rglob("*") if path.is_file()}
  checkpoints = [f"model.ckpt-{step}" for step in (0, NUM_STEPS)]
  wanted = {
    *("bert_config.json", "vocab.txt", "label_list.txt", "run.json", "checkpoint"),
    *("eval_results.txt", "eval_metrics.json", "test_results.tsv", "predictions.tsv"),
    *("train.tf_record", "eval.tf_record", "predict.tf_record"),
    *(f"{checkpoints[-1]}.{kind}" for kind in ("index", "meta", "data-00000-of-00001")),
  }
  assert wanted <= names
  assert any(name.startswith("events.out.tfevents.") for name in names)
  assert any(name.startswith("eval/events.out.tfevents.") for name in names)
  assert not [name for name in names if ".tmp" in name or name.startswith(".")]
  assert tf.train.latest_checkpoint(str(trained)) == str(trained / checkpoints[-1])
  # By default one an epoch; the last five are kept.
  assert checkpoint_steps(trained) == [NUM_STEPS - 3, NUM_STEPS]


def test_a_run_has_its_description(trained, model):
  assert json.loads((trained / "bert_config.json").read_text()) == CONFIG
  assert (trained / "vocab.txt").read_text() == (model / "vocab.txt").read_text()
  assert (trained / "label_list.txt").read_text() == "negative\npositive\n"
  saved = json.loads((trained / "run.json").read_text())
  assert saved["script"] == "run_classifier"
  assert saved["versions"]["tensorflow"] == tf.__version__
  assert saved["flags"]["task_name"] == "tsv"
  assert saved["flags"]["learning_rate"] == 0.005
  assert saved["flags"]["max_seq_length"] == 16
  assert "help" not in saved["flags"]


def test_evaluation(trained):
  lines = results(trained)
  assert [key for key, _ in lines] == ["eval_accuracy", "eval_loss", "global_step", "loss"]
  values = dict(lines)
  assert values["eval_accuracy"] == "1.0"  # words that it knows, in other sentences
  assert float(values["eval_loss"]) < 0.1
  assert values["global_step"] == str(NUM_STEPS)
  # 18 examples are batches of 8, 8 and 2: the mean of their means is not quite the mean of all.
  assert float(values["loss"]) == pytest.approx(float(values["eval_loss"]), rel=0.5)

  metrics = json.loads((trained / "eval_metrics.json").read_text())
  assert metrics["set"] == "dev" and metrics["global_step"] == NUM_STEPS
  assert metrics["examples"] == 18 and metrics["confusion_matrix"] == [[9, 0], [0, 9]]
  assert [each["label"] for each in metrics["per_class"]] == ["negative", "positive"]
  assert metrics["loss"] == pytest.approx(float(values["eval_loss"]), rel=1e-5)


def test_prediction_is_in_the_order_of_the_input(trained, data):
  rows = probabilities(trained)
  texts = [line.split("\t")[1] for line in (data / "test.tsv").read_text().splitlines()[1:]]
  assert len({len(text.split()) for text in texts}) > 1  # the model saw them sorted by length
  assert rows.shape == (len(texts), 2)
  np.testing.assert_allclose(rows.sum(1), 1.0, atol=1e-5)
  model = run_classifier.Classifier.from_directory(str(trained))
  alone = [model.classify([text])[0] for text in texts]
  assert len({prediction.value for prediction in alone}) == 2
  want = [list(prediction.probabilities.values()) for prediction in alone]
  np.testing.assert_allclose(rows, want, atol=1e-5)
  header, *predictions = table(trained)
  assert header == ["id", "prediction", "negative", "positive"]
  assert [row[:2] for row in predictions] == [[f"t{i}", p.value] for i, p in enumerate(alone)]
  np.testing.assert_array_equal(np.array([row[2:] for row in predictions], np.float32), rows)


def test_the_directory_alone_gives_the_same_numbers(trained, data, tmp_path):
  again = copied(trained, tmp_path)
  for name in ("eval_results.txt", "test_results.tsv", "predictions.tsv"):
    (again / name).unlink()
  run(again, "--do_eval", "--do_predict", predict_file=data / "test.tsv", predict_batch_size=5)
  assert results(again) == results(trained)
  np.testing.assert_allclose(probabilities(again), probabilities(trained), atol=1e-5)
  assert [row[:2] for row in table(again)] == [row[:2] for row in table(trained)]
  assert (again / "run.json").read_bytes() == (trained / "run.json").read_bytes()


def test_one_flag_for_the_model(trained, model, data, tmp_path):
  """A released directory to train from, and a finished one to predict with."""
  by_name = dict.fromkeys(start_flags(model))
  for name, flags in (("one", {"model": model, **by_name}), ("three", {})):
    run(tmp_path / name, "--do_train", **start(model, data, num_train_epochs=1, **flags))
  one, three = (json.loads((tmp_path / name / "run.json").read_text()) for name in ("one", "three"))
  one["flags"].pop("output_dir"), three["flags"].pop("output_dir")
  assert one == three and "model" not in one["flags"]
  got, want = weights(tmp_path / "one"), weights(tmp_path / "three")
  for name, value in want.items():
    np.testing.assert_array_equal(got[name], value, err_msg=name)

  flags = start(model, None, model=trained, predict_file=data / "test.tsv", **by_name)
  run(tmp_path / "fresh", "--do_predict", **flags)
  assert table(tmp_path / "fresh") == table(trained)


def test_a_fresh_directory_predicts_with_a_trained_checkpoint(trained, model, data, tmp_path):
  fresh = tmp_path / "fresh"
  flags = start(model, None, init_checkpoint=trained, predict_file=data / "test.tsv")
  run(fresh, "--do_predict", **flags)
  assert (fresh / "test_results.tsv").read_text() == (trained / "test_results.tsv").read_text()
  assert table(fresh) == table(trained)
  assert not checkpoint_steps(fresh)


def test_weights_in_a_scope(refused, trained, model, data, tmp_path, log):
  """Names as of a model that was trained within a module, its head beside it."""
  prefix = save_in_scope(tmp_path / "start", trained)
  flags = start(model, None, init_checkpoint=prefix, predict_file=data / "test.tsv")
  shutil.copy(trained / "label_list.txt", tmp_path / "start" / "label_list.txt")
  run(tmp_path / "fresh", "--do_predict", **flags)
  assert table(tmp_path / "fresh") == table(trained)
  lines = [line for line in log.messages if "taken off" in line]
  assert len(lines) == 1 and "begin with module/" in lines[0]

  flags = start(model, data, num_train_epochs=1, learning_rate=1e-9)
  run(tmp_path / "trained", "--do_train", **{**flags, "init_checkpoint": prefix})
  got, want = weights(tmp_path / "trained"), weights(trained)
  assert got.keys() == want.keys()
  for name in ("output_weights", "bert/embeddings/word_embeddings"):
    np.testing.assert_allclose(got[name], want[name], atol=1e-5)

  other = copied(trained, tmp_path)
  save_in_scope(other, trained)
  match = r"--output_dir: .* it has module/bert/\S+ for bert/.*; give it as --init_checkpoint"
  for switch in ("--do_train", "--do_eval", "--do_predict"):
    refused(match, switch, output_dir=other)


def save_in_scope(directory, trained):
  """Writes the last checkpoint of a directory with its encoder, and slots of it, in module/."""
  directory.mkdir(exist_ok=True)
  scoped = {f"module/{n}" if n.startswith("bert/") else n: v for n, v in weights(trained).items()}
  prefix = save_checkpoint(directory / f"model.ckpt-{NUM_STEPS}", scoped)
  tf.train.update_checkpoint_state(str(directory), prefix)
  return prefix


def test_a_checkpoint_of_two_encoders_or_of_16_bits(refused, model, tmp_path):
  reader = tf.train.load_checkpoint(str(model / "bert_model.ckpt"))
  names = reader.get_variable_to_shape_map()
  two = {f"{s}/{name}": reader.get_tensor(name) for s in ("teacher", "student") for name in names}
  prefix = save_checkpoint(tmp_path / "two", two)
  match = r"^--init_checkpoint: .*two: has 2 encoders, student/bert/\w+ and teacher/bert/\w+; save"
  refused(match, init_checkpoint=prefix)
  half = {name: reader.get_tensor(name).astype(np.float16) for name in names}
  prefix = save_checkpoint(tmp_path / "half", half)
  refused("^--init_checkpoint: bert/.* is of type float16 in .*half", init_checkpoint=prefix)


def test_a_finished_directory_is_not_trained_again(trained, model, data, tmp_path, log):
  again = copied(trained, tmp_path)
  (again / "eval_results.txt").unlink()
  run(again, "--do_train", "--do_eval", **start(model, data))
  assert f"Skipping training: {again} is at step {NUM_STEPS} of {NUM_STEPS};" in log.text
  assert "Running training" not in log.text
  assert results(again) == results(trained)
  assert checkpoint_steps(again) == checkpoint_steps(trained)


# ---- Training anew, and going on ----------------------------------------------------------------


def test_a_seed_decides_the_weights_and_overwriting_forgets(trained, model, data, tmp_path):
  """Runs of one epoch: two with one seed, one of them over another; one with another seed."""
  over = copied(trained, tmp_path)
  first, other = tmp_path / "first", tmp_path / "other"
  flags = start(model, data, num_train_epochs=1)
  run(first, "--do_train", **flags, random_seed=7)
  run(over, "--do_train", "--overwrite_output_dir", **flags, random_seed=7)
  run(other, "--do_train", **flags, random_seed=8)

  assert checkpoint_steps(over) == [0, 3]
  assert not (over / "eval_results.txt").exists() and not list((over / "eval").glob("*"))
  want, got, else_ = weights(first), weights(over), weights(other)
  assert sorted(want) == sorted(got)
  for name, value in want.items():
    np.testing.assert_array_equal(got[name], value, err_msg=name)
  assert np.abs(else_["output_weights"] - want["output_weights"]).max() > 1e-3


@pytest.fixture(name="no_nohup")
def _no_nohup():
  """Hangups have their usual effect, also where nohup has started the tests."""
  before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
  yield
  signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_saves_and_the_same_command_goes_on(
  number, model, data, tmp_path, monkeypatch, log, no_nohup
):
  flags = start(model, data, num_train_epochs=2, save_checkpoints_steps=100)
  with monkeypatch.context() as patch, pytest.raises(SystemExit) as stopped:
    send_once(patch, number, at_step=4)
    run(tmp_path, "--do_train", "--do_eval", **flags)
  assert stopped.value.code == 128 + number
  assert checkpoint_steps(tmp_path) == [0, 4]
  assert f"Stopped by {number.name} at step 4" in log.text
  assert not (tmp_path / "eval_results.txt").exists()
  if number != signal.SIGTERM:
    return
  log.clear()
  run(tmp_path, "--do_train", **flags)
  assert "Going on from step 4" in log.text and "step 6/6" in log.text
  assert "Trained 2 steps" in log.text
  assert checkpoint_steps(tmp_path)[-1] == 6
  whole = tmp_path / "whole"
  run(whole, "--do_train", **flags)
  want, got = weights(whole), weights(tmp_path)
  assert sorted(want) == sorted(got)
  for name, value in want.items():  # as if nothing had happened: weights, moments, step
    np.testing.assert_array_equal(got[name], value, err_msg=name)


def test_a_hangup_that_is_ignored_stays_so(model, data, tmp_path, monkeypatch):
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    send_once(monkeypatch, signal.SIGHUP, at_step=1)
    run(tmp_path, "--do_train", **start(model, data, num_train_epochs=1))
  finally:
    signal.signal(signal.SIGHUP, before)
  assert checkpoint_steps(tmp_path)[-1] == 3


def test_a_loss_that_is_nan_ends_the_training(model, data, tmp_path):
  with pytest.raises(files.InputError, match=r"loss is NaN at step 2; lower --learning_rate"):
    run(tmp_path, "--do_train", **start(model, data, learning_rate=1e30))
  assert checkpoints.saved_step(str(tmp_path)) < 2


# ---- Other kinds of tasks -----------------------------------------------------------------------


@without_dropout()
def test_regression(model, tmp_path):
  """STS-B's columns: the score is the share of words that two sentences have in common."""
  fill = ["x"] * 6
  rows = [
    [str(i), *fill, f"the {THINGS[i % 8]} was good", f"the {THINGS[i % 8 if i % 2 else 3]} was {w}"]
    for i, w in enumerate(GOOD + BAD)
  ]
  scored = [[*row, str(5.0 if i % 2 else 1.25)] for i, row in enumerate(rows)]
  header = [f"column{i}" for i in range(10)]
  write_rows(tmp_path / "train.tsv", [header, *scored])
  write_rows(tmp_path / "dev.tsv", [header, *scored])
  write_rows(tmp_path / "test.tsv", [header[:9], *rows])
  out = tmp_path / "out"
  flags = start(model, tmp_path, task_name="STS-B", num_train_epochs=4, id_column=None)
  run(out, "--do_train", "--do_eval", "--do_predict", **flags)

  assert [key for key, _ in results(out)] == ["eval_loss", "global_step", "loss"]
  metrics = json.loads((out / "eval_metrics.json").read_text())
  assert {"pearson", "spearman", "mean_squared_error"} <= set(metrics)
  assert metrics["mean_squared_error"] == pytest.approx(metrics["loss"], rel=1e-5)
  assert metrics["mean_squared_error"] < 11  # that of 0 for all would be 13.3
  header, *predictions = table(out)
  assert header == ["id", "prediction"]
  assert len(predictions) == 12 and predictions[3][0] == "test-3"
  np.testing.assert_array_equal(
    probabilities(out)[:, 0], np.array([row[1] for row in predictions], np.float32)
  )
  assert not (out / "label_list.txt").exists()
  submitted = table(out, "STS-B.tsv")
  assert [row[0] for row in submitted] == ["index", *map(str, range(12))]
  for (_, rounded), (_, exact) in zip(submitted[1:], predictions):
    assert float(rounded) == pytest.approx(np.clip(float(exact), 0, 5), abs=6e-4)


def test_pairs_and_a_task_with_two_dev_sets(model, tmp_path):
  """MNLI's columns, of which the second dev set and test set get files of their own."""
  labels = ["contradiction", "entailment", "neutral"]

  def rows(count, *label):
    return [
      [str(i), *"1234567", f"the {THINGS[i]} was good .", f"it was {(GOOD + BAD)[i]}"]
      + [label and labels[i % 3] for _ in label]
      for i in range(count)
    ]

  header = [f"column{i}" for i in range(11)]
  for name, count in (("train", 8), ("dev_matched", 6), ("dev_mismatched", 5)):
    write_rows(tmp_path / f"{name}.tsv", [header, *rows(count, "label")])
  for name, count in (("test_matched", 3), ("test_mismatched", 4)):
    write_rows(tmp_path / f"{name}.tsv", [header[:10], *rows(count)])
  out = tmp_path / "out"
  flags = start(model, tmp_path, task_name="MNLI", num_train_epochs=1, id_column=None)
  run(out, "--do_train", "--do_eval", "--do_predict", **flags)

  for suffix, set_name, count in (("", "dev_matched", 6), ("_dev_mismatched",) * 2 + (5,)):
    metrics = json.loads((out / f"eval_metrics{suffix}.json").read_text())
    assert metrics["set"] == set_name.lstrip("_") and metrics["examples"] == count
    assert dict(results(out, f"eval_results{suffix}.txt"))["global_step"] == "1"
  assert probabilities(out).shape == (3, 3)
  assert probabilities(out, "test_results_test_mismatched.tsv").shape == (4, 3)
  record = next(tf.python_io.tf_record_iterator(str(out / "eval.tf_record")))
  feature = tf.train.Example.FromString(record).features.feature
  assert list(feature["segment_ids"].int64_list.value) == [0] * 7 + [1] * 4 + [0] * 5
  for name, suffix in (("MNLI-m", ""), ("MNLI-mm", "_test_mismatched")):
    predicted = [row[1] for row in table(out, f"predictions{suffix}.tsv")]
    submitted = table(out, f"{name}.tsv")
    assert [row[1] for row in submitted] == predicted and set(predicted[1:]) <= set(labels)
    assert [row[0] for row in submitted] == ["index", *map(str, range(len(predicted) - 1))]

  # GLUE's diagnostic set, predicted by the model of MNLI.
  write_rows(tmp_path / "diagnostic.tsv", [["index", "a", "b"], ["0", "the film", "was fine"]])
  flags.update(task_name="AX", init_checkpoint=out)
  run(tmp_path / "ax", "--do_predict", **flags)
  (line,) = table(tmp_path / "ax", "predictions.tsv")[1:]
  assert table(tmp_path / "ax", "AX.tsv")[1:] == [["0", line[1]]]
  with pytest.raises(files.InputError, match=r"--do_eval: ax has no dev set"):
    run(tmp_path / "ax2", "--do_eval", **flags)
  (tmp_path / "diagnostic.tsv").unlink()
  with pytest.raises(files.InputError, match=r"diagnostic\.tsv: cannot be read: No such file"):
    run(tmp_path / "ax2", "--do_predict", **flags)


def test_xnli_from_one_language_to_another(model, tmp_path):
  """Trained in "en". The dev set has other labels for the same texts in "xx"."""
  data, out = tmp_path / "data", tmp_path / "out"
  labels = {"positive": "entailment", "negative": "contradictory"}
  swapped = {"positive": "contradiction", "negative": "entailment"}
  rows = [(text, "it is so", labels[label]) for text, label in sentences(THINGS)]
  write_rows(data / "multinli" / "multinli.train.en.tsv", [("premise", "hypo", "label"), *rows])
  dev = [
    (language, names[label], *[""] * 4, text, "it is so")
    for language, names in (("en", {**labels, "negative": "contradiction"}), ("xx", swapped))
    for text, label in sentences(THINGS)[1:]
  ]
  write_rows(data / "xnli.dev.tsv", [("language", "gold_label", *"123456"), *dev])
  flags = {"xnli_language": "xx", "xnli_train_language": "en", "num_train_epochs": 1}
  flags = start(model, data, task_name="xnli", id_column=None, **flags)
  run(out, "--do_train", "--do_eval", **flags)
  in_xx = json.loads((out / "eval_metrics.json").read_text())["confusion_matrix"]
  run(out, "--do_eval", xnli_language="en")
  in_en = json.loads((out / "eval_metrics.json").read_text())["confusion_matrix"]
  assert sum(in_en[0]) == sum(in_en[1]) + 1 == len(rows) / 2
  assert in_xx == [in_en[1], in_en[0], [0, 0, 0]]  # the same predictions, whatever they are


def test_evaluation_and_prediction_in_mixed_precision(trained, tmp_path, monkeypatch, log):
  monkeypatch.setattr(precision, "_precision", lambda tpu: (precision.BFLOAT16, "a test"))
  make_session, found = tf.Session.__init__, []

  def spy(session, *args, **kwargs):
    make_session(session, *args, **kwargs)
    found.append(session._config.graph_options.rewrite_options)

  monkeypatch.setattr(tf.Session, "__init__", spy)
  mixed = copied(trained, tmp_path)
  run(mixed, "--do_eval", "--do_predict", "--amp")
  assert "Mixed precision (--amp): on, bfloat16: a test" in log.text
  before, after = dict(results(trained)), dict(results(mixed))
  assert after["eval_accuracy"] == before["eval_accuracy"] == "1.0"
  got, want = probabilities(mixed), probabilities(trained)
  of_models = [o for o in found if o.auto_mixed_precision_onednn_bfloat16 == o.ON]
  assert len(of_models) == 2  # one of evaluation, one of prediction
  np.testing.assert_allclose(got, want, atol=0.1)


def test_languages_of_another_task(model, data, tmp_path):
  with pytest.raises(files.InputError, match="--xnli_language: the task tsv has no languages"):
    run(tmp_path / "out", "--do_train", **start(model, data, xnli_language="de"))


def mixed(things):
  """Rows of (text, labels): with a good word, a bad one, both, and none."""
  return [
    row
    for thing, good, bad in zip(things, GOOD, BAD)
    for row in (
      (f"{good} {thing} {good} .", "good"),
      (f"{bad} {thing} {bad}", "bad"),
      (f"{good} {thing} and {bad} {thing}", "good | bad"),
      (f"the {thing} was a {thing} .", ""),
    )
  ]


@without_dropout()
def test_several_labels(model, tmp_path):
  for name, things in (("train", THINGS[:6]), ("dev", THINGS[5:])):
    write_rows(tmp_path / f"{name}.tsv", [("sentence", "labels"), *mixed(things)])
  write_rows(tmp_path / "test.tsv", [("sentence",), *((text,) for text, _ in mixed(THINGS[5:]))])
  out = tmp_path / "out"
  kind = {"multi_label": True, "label_separator": "|", "label_threshold": "auto"}
  flags = start(model, tmp_path, id_column=None, **kind)
  run(out, "--do_train", "--do_eval", "--do_predict", **flags)

  assert (out / "label_list.txt").read_text() == "bad\ngood\n"
  assert [key for key, _ in results(out)] == ["eval_loss", "global_step", "loss"]
  metrics = json.loads((out / "eval_metrics.json").read_text())
  # No less than with a threshold of 0, which gives each text both labels.
  assert metrics["micro_f1"] > 0.66 and metrics["examples"] == 12
  assert [each["support"] for each in metrics["per_label"]] == [6, 6]
  saved = json.loads((out / "label_threshold.json").read_text())
  assert saved == {name: metrics[name] for name in ("threshold", "micro_f1")}

  rows = probabilities(out)
  assert rows.shape == (12, 2) and np.abs(rows.sum(1) - 1).max() > 0.1
  header, *predictions = table(out)
  assert header == ["id", "prediction", "bad", "good"]
  for line, (bad, good) in zip(predictions, (rows >= saved["threshold"]).tolist()):
    assert line[1] == "|".join(["bad"] * bad + ["good"] * good)
  # The dev set's labels; the test set has the same texts.
  right = [
    set(line[1].split("|")) == {label.strip() for label in labels.split("|")}
    for line, (_, labels) in zip(predictions, mixed(THINGS[5:]))
  ]
  assert np.mean(right) == pytest.approx(metrics["exact_match"])

  run(out, "--do_predict")  # all settings, and the threshold, are those of the directory
  assert table(out)[1:] == predictions
  assert_classifies_the_same(out, [text for text, _ in mixed(THINGS[5:])], "|")
  run(out, "--do_predict", label_threshold=0.9999)
  assert {line[1] for line in table(out)[1:]} == {""}
  with pytest.raises(files.InputError, match=r"holds a model with --multi_label=True, not False"):
    run(out, "--do_predict", multi_label=False)
  no_threshold = pytest.raises(files.InputError, match=r"--label_threshold=auto: .* by --do_eval")
  with no_threshold:  # the one that is there belongs to the model that is thrown away
    run(out, "--do_train", "--do_predict", "--overwrite_output_dir", **flags)
  assert table(out)[1:]
  (out / "label_threshold.json").unlink()
  with no_threshold:
    run(out, "--do_predict")


def test_forms_of_several_labels_train_the_same_model(model, tmp_path):
  rows = mixed(THINGS[:3])
  truths = [("bad" in labels, "good" in labels) for _, labels in rows]
  forms = {
    "text": [("text", "labels"), *((text, labels) for text, labels in rows)],
    "list": [
      ("text", "labels"),
      *((text, repr([label.strip() for label in x.split("|") if x])) for text, x in rows),
    ],
    "numbers": [
      ("text", "labels"),
      *((text, f"[{bad:d}, {good:d}]") for (text, _), (bad, good) in zip(rows, truths)),
    ],
    "columns": [
      ("good", "text", "bad"),
      *((str(int(good)), text, str(bad)) for (text, _), (bad, good) in zip(rows, truths)),
    ],
  }
  (tmp_path / "labels.txt").write_text("bad\ngood\n")
  options = {"numbers": {"label_file": tmp_path / "labels.txt"}}
  options["columns"] = {"label_columns": "bad,good"}
  predictions = []
  for form, table_rows in forms.items():
    data, out = tmp_path / form, tmp_path / f"{form}_out"
    data.mkdir()
    for name in ("train", "dev"):
      write_rows(data / f"{name}.tsv", table_rows)
    kind = {"multi_label": True, "label_separator": "|", "num_train_epochs": 1}
    flags = start(model, data, id_column=None, **kind, **options.get(form, {}))
    run(out, "--do_train", **flags)
    run(out, "--do_eval", "--do_predict", predict_file=write_rows(data / "new.tsv", forms["text"]))
    metrics = json.loads((out / "eval_metrics.json").read_text())
    assert [each["support"] for each in metrics["per_label"]] == [6, 6]
    predictions.append((out / "predictions.tsv").read_text())
  assert predictions[0].startswith("id\tprediction\tbad\tgood\n")
  assert predictions == predictions[:1] * 4


def test_prediction_of_files_of_other_formats(trained, tmp_path, log):
  rows = [("k1", "a film, bright"), ("k2", 'a "dull" room')]
  write_rows(tmp_path / "new.tsv", [("key", "sentence"), *rows])
  with open(tmp_path / "new.csv", "w", encoding="utf-8", newline="") as f:
    csv.writer(f).writerows([("sentence", "key"), *((text, key) for key, text in rows)])
  lines = (json.dumps({"key": key, "sentence": text}) for key, text in rows)
  (tmp_path / "new.jsonl").write_text("\n".join(lines))
  again, found = copied(trained, tmp_path), []
  for ending in ("tsv", "csv", "jsonl"):
    log.clear()
    run(again, "--do_predict", predict_file=tmp_path / f"new.{ending}")
    said = f"new.{ending} is read as {ending}, by its name, and not as tsv"
    assert (said in log.text) == (ending != "tsv")
    found.append((again / "predictions.tsv").read_bytes())
  assert found[0].count(b"\n") == 3 and found == found[:1] * 3


def test_regression_on_own_files(model, tmp_path):
  rows = [(f"the {THINGS[i]} was {word}", str(i / 2)) for i, word in enumerate(BAD)]
  for name in ("train", "dev", "test"):
    write_rows(tmp_path / f"{name}.tsv", [("text", "score"), *rows])
  out = tmp_path / "out"
  flags = start(model, tmp_path, id_column=None, regression=True, train_batch_size=6)
  run(out, "--do_train", "--do_eval", **flags)
  metrics = json.loads((out / "eval_metrics.json").read_text())
  assert {"pearson", "spearman", "mean_squared_error"} <= set(metrics)
  run(out, "--do_predict")
  numbers = np.array([row[1] for row in table(out)[1:]], float)
  error = np.mean((numbers - [float(score) for _, score in rows]) ** 2)
  assert error == pytest.approx(metrics["mean_squared_error"], rel=1e-4)
  assert_classifies_the_same(out, [text for text, _ in rows])


# ---- Weights of classes -------------------------------------------------------------------------


def test_class_weights_reach_the_model(model, data, tmp_path, monkeypatch):
  weights = tmp_path / "weights.tsv"
  weights.write_text("positive\t0.5\nnegative\t2\n")
  for choice, want in ((weights, [2.0, 0.5]), ("balanced", [1.0, 1.0]), (None, None)):
    named = start(model, data, output_dir=tmp_path / "out", class_weights=choice)
    arguments = [f"--{name}={value}" for name, value in named.items()]
    command_line.parse(run_classifier.flags, ["--do_train", *arguments])
    assert run_classifier.prepare().class_weights == want
    monkeypatch.setattr(run_classifier, "model_fn_builder", lambda **arguments: arguments)
    assert run_classifier.make_model_fn(run_classifier.prepare())["class_weights"] == want
    monkeypatch.undo()


# ---- Parts used by other programs ---------------------------------------------------------------


def test_names_that_other_programs_import():
  for name in (
    *("InputExample", "InputFeatures", "PaddingInputExample", "DataProcessor"),
    *("ColaProcessor", "MnliProcessor", "MrpcProcessor", "XnliProcessor"),
    *("convert_single_example", "convert_examples_to_features", "_truncate_seq_pair"),
    *("file_based_convert_examples_to_features", "file_based_input_fn_builder"),
    *("input_fn_builder", "model_fn_builder", "create_model", "main"),
  ):
    assert callable(getattr(run_classifier, name)), name
  assert run_classifier.ColaProcessor().get_labels() == ["0", "1"]


@without_dropout()
def test_in_memory_use_with_a_plain_estimator(model, tmp_path):
  """As in notebooks: integer labels, padded batches without is_real_example, their estimator."""
  tokenizer = tokenization.FullTokenizer(str(model / "vocab.txt"), do_lower_case=True)
  examples = [
    run_classifier.InputExample(guid=None, text_a=text, text_b=None, label=int(label == "positive"))
    for text, label in sentences(THINGS[:4])
  ]
  features = run_classifier.convert_examples_to_features(examples, [0, 1], 16, tokenizer)
  assert {feature.label_id for feature in features} == {0, 1}
  estimator = tf.estimator.tpu.TPUEstimator(
    use_tpu=False,
    model_fn=run_classifier.model_fn_builder(
      bert_config=modeling.BertConfig.from_json_file(str(model / "bert_config.json")),
      num_labels=2,
      init_checkpoint=str(model / "bert_model.ckpt"),
      learning_rate=0.002,
      num_train_steps=80,
      num_warmup_steps=8,
      use_tpu=False,
      use_one_hot_embeddings=False,
    ),
    config=tf.estimator.tpu.RunConfig(model_dir=str(tmp_path), tf_random_seed=3),
    train_batch_size=12,
    eval_batch_size=7,
    predict_batch_size=7,
  )
  input_fn = run_classifier.input_fn_builder(features, 16, is_training=True, drop_remainder=True)
  estimator.train(input_fn, max_steps=80)
  input_fn = run_classifier.input_fn_builder(features, 16, is_training=False, drop_remainder=False)
  result = estimator.evaluate(input_fn)
  assert sorted(result) == ["eval_accuracy", "eval_loss", "global_step", "loss"]
  assert result["eval_accuracy"] == 1.0 and result["eval_loss"] < np.log(2)
  assert result["global_step"] == 80
  rows = [row["probabilities"] for row in estimator.predict(input_fn)]
  losses = [-np.log(row[feature.label_id]) for row, feature in zip(rows, features)]
  assert np.mean(losses) == pytest.approx(result["eval_loss"], rel=1e-4)


def export(directory, model, add_labels):
  """Exports the model of a directory as servers do; returns the SavedModel's path.

  Args:
    directory: pathlib.Path, where the trained checkpoint is.
    model: pathlib.Path, where its configuration is.
    add_labels: bool, whether requests have label_ids, which old clients send.
  """
  estimator = tf.estimator.tpu.TPUEstimator(
    use_tpu=False,
    model_fn=run_classifier.model_fn_builder(
      bert_config=modeling.BertConfig.from_json_file(str(model / "bert_config.json")),
      num_labels=2,
      init_checkpoint=None,
      learning_rate=0.1,
      num_train_steps=1,
      num_warmup_steps=0,
      use_tpu=False,
      use_one_hot_embeddings=False,
    ),
    config=tf.estimator.tpu.RunConfig(model_dir=str(directory)),
    train_batch_size=1,
    predict_batch_size=1,
    export_to_tpu=False,
  )
  names = ("input_ids", "input_mask", "segment_ids")
  placeholders = {name: tf.placeholder(tf.int32, [None, None], name=name) for name in names}
  if add_labels:
    placeholders["label_ids"] = tf.placeholder(tf.int32, [None], name="label_ids")
  receiver = tf.estimator.export.build_raw_serving_input_receiver_fn(placeholders)
  return estimator.export_saved_model(str(directory / "export"), receiver).decode()


@pytest.mark.parametrize("add_labels", [False, True])
def test_an_exported_model_needs_no_labels_and_has_the_names_of_old(trained, tmp_path, add_labels):
  directory = copied(trained, tmp_path)
  with tf.Graph().as_default():
    path = export(directory, trained, add_labels)
  ids = np.array([[2, 5, 6, 3]])
  with tf.Graph().as_default() as graph, tf.Session() as session:
    signature = tf.saved_model.load(session, ["serve"], path).signature_def["serving_default"]
    tensor = graph.get_tensor_by_name
    feed = {tensor(signature.inputs["input_ids"].name): ids}
    feed[tensor(signature.inputs["input_mask"].name)] = np.ones_like(ids)
    feed[tensor(signature.inputs["segment_ids"].name)] = np.zeros_like(ids)
    names = ("loss/Softmax:0", "loss/LogSoftmax:0", "loss/BiasAdd:0", "bert/pooler/dense/Tanh:0")
    softmax, log_softmax, logits, pooled = session.run(names, feed)
    found = session.run(tensor(signature.outputs["probabilities"].name), feed)
    operations = {operation.name for operation in graph.get_operations()}
  np.testing.assert_array_equal(found, softmax)
  np.testing.assert_allclose(np.exp(log_softmax), softmax, rtol=1e-5)
  np.testing.assert_allclose(softmax.sum(), 1.0, rtol=1e-5)
  assert logits.shape == (1, 2) and pooled.shape == (1, CONFIG["hidden_size"])
  assert list(signature.outputs) == ["probabilities"]
  assert {"loss/Mean", "bert/encoder/layer_1/attention/output/dense/MatMul"} <= operations
  assert not any(name.startswith("loss_1") for name in operations)


# ---- A classifier that is loaded once -----------------------------------------------------------


def assert_classifies_the_same(directory, texts, separator=","):
  """Compares a Classifier with what --do_predict has written for the same texts."""
  model = run_classifier.Classifier.from_directory(str(directory))
  found = model.classify(texts)
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    alone = list(pool.map(lambda text: model.classify([text])[0], texts))
  for one, many in zip(alone, found):
    is_number = isinstance(many.value, float)
    assert one.value == (pytest.approx(many.value, abs=1e-5) if is_number else many.value)
    np.testing.assert_allclose(
      list(one.probabilities.values()), list(many.probabilities.values()), atol=1e-5
    )
  rows = table(directory)[1:]
  assert len(found) == len(rows)
  for prediction, (_, value, *_) in zip(found, rows):
    if isinstance(prediction.value, float):
      assert prediction.value == pytest.approx(float(value), abs=1e-5)
    elif isinstance(prediction.value, tuple):
      assert separator.join(prediction.value) == value
    else:
      assert prediction.value == value
  if found[0].probabilities:
    got = [list(prediction.probabilities.values()) for prediction in found]
    np.testing.assert_allclose(got, probabilities(directory), rtol=0, atol=1e-5)


def test_a_classifier_gives_what_prediction_writes(trained, data, tmp_path, capsys):
  directory = copied(trained, tmp_path)
  run(directory, "--do_predict")
  texts = [text for text, _ in sentences(THINGS[5:], extra=" and so")]
  assert_classifies_the_same(directory, texts)
  model = run_classifier.Classifier.from_directory(str(directory))
  assert model.classify([]) == []
  (empty, long, pair) = model.classify(["", "good film " * 5000, ("good film", "bad film")])
  for prediction in (empty, long, pair):
    assert sum(prediction.probabilities.values()) == pytest.approx(1.0, abs=1e-5)
    assert list(prediction.probabilities) == ["negative", "positive"]
  alone = model.classify([("good film", "bad film")])[0]
  assert pair.value == alone.value
  assert pair.probabilities == pytest.approx(alone.probabilities, abs=1e-5)
  with pytest.raises(TypeError, match="takes a list of texts"):
    model.classify("good film")
  for wrong in (3, None, ("a", "b", "c"), ("a", None)):
    with pytest.raises(TypeError, match="takes texts and pairs of texts, not"):
      model.classify([wrong])
  capsys.readouterr()
  run(directory, text="a good film", text_b="a bad film")
  assert re.fullmatch(r"\w+  \(\w+ [01]\.\d{3}, \w+ [01]\.\d{3}\)\n", capsys.readouterr().out)


@pytest.mark.parametrize(
  ("name", "match"),
  [("run.json", "has no run.json with a task"), ("label_list.txt", "has no label_list.txt")],
)
def test_a_classifier_of_a_directory_that_lacks_a_file(trained, tmp_path, name, match):
  directory = copied(trained, tmp_path)
  (directory / name).unlink()
  with pytest.raises(files.InputError, match=match):
    run_classifier.Classifier.from_directory(str(directory))


def test_a_classifier_without_a_threshold_or_of_another_script(trained, tmp_path):
  directory = copied(trained, tmp_path)
  path = directory / "run.json"
  settings = json.loads(path.read_text())
  settings["flags"].update(multi_label=True, label_threshold="auto")
  path.write_text(json.dumps(settings))
  with pytest.raises(files.InputError, match="has no threshold yet; find one by --do_eval"):
    run_classifier.Classifier.from_directory(str(directory))
  path.write_text(json.dumps({**settings, "script": "run_ner"}))
  with pytest.raises(files.InputError, match=r"was made by run_ner.py, not by run_classifier.py"):
    run_classifier.Classifier.from_directory(str(directory))


def test_a_second_text_alone_is_refused(trained, tmp_path):
  with pytest.raises(files.InputError, match="nothing to do"):
    run(copied(trained, tmp_path), text_b="x")


# ---- Mistakes, each of them found before anything is written ------------------------------------


@pytest.fixture(name="refused")
def _refused(model, data, tmp_path):
  """See tiny_runs.Refusal."""
  return Refusal(
    run, lambda **flags: start(model, data, **flags), tmp_path / "out", "--do_train", "--do_eval"
  )


@pytest.mark.parametrize(
  ("flag", "value", "match"),
  [
    ("do_lower", True, r"Unknown command line flag 'do_lower'.*do_lower_case"),
    ("train_batch_size", 0, "train_batch_size"),
    ("eval_batch_size", -8, "eval_batch_size"),
    ("predict_batch_size", 0, "predict_batch_size"),
    ("learning_rate", 0, "learning_rate.* must be positive"),
    ("learning_rate", "nan", "learning_rate.* must be positive"),
    ("num_train_epochs", -1, "num_train_epochs.* must be positive"),
    ("warmup_proportion", 1.5, "warmup_proportion"),
    ("max_seq_length", 2, "max_seq_length"),
    ("max_seq_length", 33, r"--max_seq_length=33 is more than the 32 positions"),
    ("train_batch_size", 1000, r"no training step: 24 examples.*--train_batch_size=1000"),
    ("task_name", "colla", r"--task_name: Task not found: colla"),
    ("task_name", None, r"--task_name is missing"),
    ("data_dir", None, r"--(data_dir|label_file)\b.* (is missing|no training data \(--data_dir\))"),
    (
      "task_name",
      "csv",
      r"train\.csv: there is no .* there is \S+train\.tsv; give --task_name=tsv",
    ),
    ("label_columns", "a,b", r"--label_columns is for several labels per text; give --multi_label"),
    ("data_dir", "/nowhere", r"/nowhere/train\.tsv: cannot be read: No such file"),
    ("vocab_file", "/nowhere", r"/nowhere: cannot be read"),
    ("bert_config_file", "/nowhere", r"/nowhere: cannot be read"),
    ("init_checkpoint", "/nowhere/x", r"--init_checkpoint: there is no checkpoint /nowhere/x"),
    ("label_threshold", 1, r"label_threshold.*must be above 0 and below 1, or auto"),
    ("label_threshold", "much", r"label_threshold"),
    ("label_threshold", 0.4, r"--label_threshold is for tasks with several labels per text"),
    ("label_separator", ";", r"--label_separator is for tasks with several labels per text"),
    ("class_weights", "/nowhere", r"/nowhere: cannot be read"),
    ("regression", True, r"train\.tsv:2: found 'positive' where the score, a finite number"),
    ("text_column", "txt", r"--text_column: there is no column 'txt'.*'sentence'"),
  ],
)
def test_impossible_flags(refused, flag, value, match):
  refused(match, **{flag: value})


@pytest.mark.parametrize("kind", ["multi_label", "regression"])
def test_weights_of_what_has_no_classes(refused, tmp_path, kind):
  for name in ("train", "dev"):
    write_rows(tmp_path / f"{name}.tsv", [("sentence", "label"), ("a", "1"), ("b", "2")])
  match = r"--class_weights is for tasks with one label per text, not several and not a number"
  flags = {kind: True, "class_weights": "balanced", "data_dir": tmp_path, "id_column": None}
  refused(match, output_dir=tmp_path / "out", **flags)


def test_nothing_to_do(refused):
  refused("nothing to do: give --do_train, --do_eval, --do_predict or --text", "--nodo_train")


def test_no_weights_to_evaluate(refused):
  refused("has no checkpoint to evaluate or predict with", "--do_eval", init_checkpoint=None)


def test_an_encoder_alone_cannot_predict(refused, data):
  labels = write_rows(data / "labels.txt", [("negative",), ("positive",)])
  match = r"has no classifier of 2 labels \(output_weights is None, not \[2, 16\]\)"
  refused(match, "--do_predict", label_file=labels)


def test_a_remote_tpu_cannot_reach_local_paths(refused):
  refused(r"--output_dir: the TPU t1 cannot read or write", use_tpu=True, tpu_name="t1")
  refused(r"--use_tpu needs --tpu_name", use_tpu=True)


def test_an_output_directory_that_cannot_be(refused, tmp_path):
  (tmp_path / "file").write_text("x")
  refused(r"--output_dir: cannot write in .*file/out", output_dir=tmp_path / "file" / "out")


@pytest.mark.parametrize(
  ("name", "content", "match"),
  [
    ("train", b"", r"train\.tsv: has no examples"),
    ("train", b"key\tsentence\tlabel\n", r"train\.tsv: has no examples"),
    ("train", b"key\tsentence\tlabel\na\tb\tc\na\tb\n", r"train\.tsv:3: found 2 columns"),
    ("train", b"key\tsentence\tlabel\na\tb\tc\n", r"found the label 'c' alone"),
    ("train", b"key\tsentence\tlabel\na\tb\0\tc\n", r"train\.tsv:2: found a NUL byte"),
    ("train", b"key\tsentence\tlabel\n\na\t\xe9\tc\n", r"train\.tsv:3: found byte 0xe9"),
    (
      "dev",
      b"key\tsentence\tlabel\na\tb\tpositive\na\tb\tPositive\n",
      r"dev\.tsv:3: found label 'Positive'; known labels are 'negative', 'positive'",
    ),
  ],
)
def test_unusable_data(refused, data, tmp_path, name, content, match):
  directory = pathlib.Path(shutil.copytree(data, tmp_path / "data"))
  (directory / f"{name}.tsv").write_bytes(content)
  refused(match, data_dir=directory)


def test_unusable_vocabularies(refused, tmp_path):
  long, without = tmp_path / "long.txt", tmp_path / "without.txt"
  long.write_text("\n".join([*VOCAB, "one", "more"]))
  without.write_text("\n".join(token for token in VOCAB if token != "[UNK]"))
  count = len(VOCAB)
  refused(rf"long\.txt has {count + 2} word pieces, and the vocab_size is {count}", vocab_file=long)
  refused(r"without\.txt: has no \[UNK\]", vocab_file=without)


@pytest.mark.parametrize(
  ("change", "match"),
  [
    ({"vocab_size": 50}, rf"\[{len(VOCAB)}, 16\] in .*\[50, 16\] by.*vocab_size differs"),
    ({"max_position_embeddings": 64}, r"\[32, 16\] in .*\[64, 16\] by.*max_position_embeddings"),
    ({"type_vocab_size": 3}, r"\[2, 16\] in .*\[3, 16\] by.*type_vocab_size differs"),
    ({"intermediate_size": 64}, r"\[16, 32\] in .*\[16, 64\] by.*intermediate_size differs"),
    ({"hidden_size": 32}, rf"\[{len(VOCAB)}, 16\] in .*\[{len(VOCAB)}, 32\] by.*; hidden_size"),
  ],
)
def test_a_checkpoint_of_another_shape(refused, tmp_path, change, match):
  config = tmp_path / "config.json"
  config.write_text(json.dumps({**CONFIG, **change}))
  refused(match, bert_config_file=config)


def test_files_that_are_no_checkpoints(refused, tmp_path):
  (tmp_path / "junk.index").write_text("this is no table")
  refused(r"junk\.index is damaged or no checkpoint: ", init_checkpoint=tmp_path / "junk")
  other = save_checkpoint(tmp_path / "other.ckpt", {"resnet/kernel": np.zeros([2, 2], "f4")})
  refused(r"has none of BERT's .*it has resnet/kernel", init_checkpoint=other)


def test_casing_against_the_name_of_a_released_model(refused, model, tmp_path):
  directory = shutil.copytree(model, tmp_path / "uncased_L-12_H-768_A-12")
  match = r"--do_lower_case is False, but uncased_L-12.*pass --do_lower_case=True"
  refused(match, init_checkpoint=directory / "bert_model.ckpt", do_lower_case=False)


def test_a_directory_of_another_task(refused, trained, tmp_path):
  refused(r"holds a model with --task_name=tsv, not cola", output_dir=trained, task_name="cola")
  squad = tmp_path / "squad"
  squad.mkdir()
  prefix = save_checkpoint(
    squad / "model.ckpt-7", {"cls/squad/output_weights": np.zeros([2, 16], "f4")}
  )
  tf.train.update_checkpoint_state(str(squad), prefix)
  refused(r"has the variable cls/squad/output_weights of run_squad\.py", output_dir=squad)


@pytest.mark.parametrize("name", [f"model.ckpt-{NUM_STEPS}", f"model.ckpt-{NUM_STEPS}.index", ""])
def test_overwriting_keeps_the_checkpoint_to_start_from(refused, trained, name):
  """By each form of its name; the last is the directory itself."""
  refused(
    rf"--overwrite_output_dir would delete --init_checkpoint .*-{NUM_STEPS};",
    *("--do_train", "--overwrite_output_dir"),
    output_dir=trained,
    init_checkpoint=trained / name,
  )


# ---- As a command -------------------------------------------------------------------------------


def command(*arguments):
  return subprocess.run(
    [sys.executable, str(SCRIPT), *arguments],
    capture_output=True,
    text=True,
    timeout=120,
    cwd=SCRIPT.parent,
    check=False,
  )


def test_a_mistake_is_one_line_on_stderr():
  done = command("--do_lower=False")
  assert done.returncode == 1
  # TensorFlow's own lines, such as that of "round-off errors", are left out: I0000 00:00:17 ...
  own = [line for line in done.stderr.splitlines() if not re.match(r"[IW]\d{4} ", line)]
  lines = [line for line in own if "error" in line.lower()]
  assert len(lines) == 1
  assert re.match(r"run_classifier\.py: error: .*'do_lower'.*do_lower_case", lines[0])
  assert "Traceback" not in done.stderr and done.stdout == ""


def test_help_lists_all_flags():
  done = command("--help")
  assert done.returncode == 0
  assert "--do_predict" not in done.stderr
  for flag in ("do_predict", "learning_rate", "tpu_name", "label_column"):
    assert re.search(rf"^ +--(\[no\])?{flag}\b", done.stdout, re.MULTILINE), flag


# ---- A student ----------------------------------------------------------------------------------


def student(trained, **flags):
  """The flags of a training run with a teacher; those that are None are left out."""
  flags = {
    "teacher_dir": trained,
    "student_layers": 0,
    "train_batch_size": BATCH_SIZE,
    "num_train_epochs": 2,
    "learning_rate": 0.005,
    **flags,
  }
  return {name: value for name, value in flags.items() if value is not None}


@without_dropout()
def test_a_student_learns_from_its_teacher(trained, tmp_path):
  run(tmp_path, "--do_train", "--do_eval", **student(trained, num_train_epochs=EPOCHS))
  assert float(dict(results(tmp_path))["eval_accuracy"]) > 0.9
  assert json.loads((tmp_path / "bert_config.json").read_text())["num_hidden_layers"] == 1
  assert (tmp_path / "label_list.txt").read_text() == (trained / "label_list.txt").read_text()


@without_dropout()
def test_a_student_learns_from_unlabelled_text(trained, data, tmp_path):
  """Its only examples with labels are wrong, and two of 26."""
  few = tmp_path / "few"
  wrong = [("1", "good .", "negative"), ("2", "bad .", "positive")]
  write_rows(few / "train.tsv", [("key", "sentence", "label"), *wrong])
  shutil.copy(data / "dev.tsv", few / "dev.tsv")
  rows = [(str(i), text) for i, (text, _) in enumerate(sentences(THINGS[:4]))]
  texts = write_rows(tmp_path / "texts.tsv", [("key", "sentence"), *rows])
  flags = student(trained, data_dir=few, unlabeled_file=texts, num_train_epochs=EPOCHS)
  run(tmp_path / "out", "--do_train", "--do_eval", **flags)
  assert float(dict(results(tmp_path / "out"))["eval_accuracy"]) > 0.9
  assert checkpoint_steps(tmp_path / "out")[-1] == 26 * EPOCHS // BATCH_SIZE


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["multi_label", "regression"])
def test_students_of_other_kinds(model, tmp_path, kind):
  if kind == "multi_label":
    rows = [("sentence", "labels"), *mixed(THINGS)]
  else:
    rows = [("text", "score"), *((f"the {THINGS[i]} was {w}", str(i)) for i, w in enumerate(BAD))]
  for name in ("train", "dev"):
    write_rows(tmp_path / f"{name}.tsv", rows)
  teacher, out = tmp_path / "teacher", tmp_path / "out"
  options = {kind: True, "label_separator": "|"} if kind == "multi_label" else {kind: True}
  flags = start(model, tmp_path, id_column=None, train_batch_size=6, num_train_epochs=2, **options)
  run(teacher, "--do_train", **flags)
  config = json.loads((teacher / "bert_config.json").read_text())
  config.update(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
  (teacher / "bert_config.json").write_text(json.dumps(config))
  run(out, "--do_train", "--do_eval", **student(teacher, train_batch_size=6))
  assert json.loads((out / "eval_metrics.json").read_text())["examples"] == len(rows) - 1
  wrong = {kind: False, "label_separator": None, "data_dir": tmp_path}
  with pytest.raises(files.InputError, match=f"trained with --{kind}=True, not False"):
    run(tmp_path / "other", "--do_train", **student(teacher, **wrong))


@pytest.mark.parametrize(
  ("flags", "match"),
  [
    ({"distill_alpha": 0, "unlabeled_file": "texts.tsv"}, "--unlabeled_file needs a teacher"),
    ({"unlabeled_file": "nowhere.tsv"}, "nowhere.tsv: cannot be read"),
    ({"student_layers": 2}, "--student_layers: there is no layer 2"),
  ],
)
def test_impossible_students(trained, tmp_path, flags, match):
  Refusal(run, lambda **f: student(trained, **f), tmp_path / "out", "--do_train")(match, **flags)


def test_a_student_of_other_labels(trained, data, tmp_path):
  other = tmp_path / "data"
  shutil.copytree(data, other)
  text = (other / "train.tsv").read_text()
  (other / "train.tsv").write_text(text.replace("negative", "sad"))
  refused = Refusal(run, lambda **f: student(trained, **f), tmp_path / "out", "--do_train")
  refused(
    "labels of .* are 'negative', 'positive', the student's are 'positive', 'sad'", data_dir=other
  )
