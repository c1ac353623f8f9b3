"""Multiple choice from flags to files, with a tiny model of a language where persons are right.

One of the choices is a person, and the others are places.
"""

import csv
import json
import random
import signal
import threading

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tiny_runs import (
  SPECIAL,
  Refusal,
  assert_best_is_used,
  checkpoint_steps,
  copied,
  save_checkpoint,
  save_model,
  send_once,
  start_flags,
  weights,
  without_dropout,
)

import modeling
import run_multiple_choice
from run_multiple_choice import Chooser
from toolkit.formats import model_directory
from toolkit.support import command_line, files
from toolkit.tasks import multiple_choice
from toolkit.training import estimators

PLACES, PERSONS = ["rome", "oslo", "lima", "bonn"], ["ann", "bob", "eve"]
VOCAB = [*SPECIAL, *PLACES, *PERSONS, "made", "by", "a", "hat", "cup", "old", "?", "."]
EPOCHS = 6


# ---- A user's files -----------------------------------------------------------------------------


def question(rng, width=3):
  """A row, such as "old hat .", "made by" and the choices "oslo", "ann" and "rome"."""
  choices = [rng.choice(PERSONS), *rng.sample(PLACES, width - 1)]
  rng.shuffle(choices)
  answer = next(place for place, name in enumerate(choices) if name in PERSONS)
  context = f"{rng.choice(['a', 'old'])} {rng.choice(['hat', 'cup'])} ."
  return {"context": context, "question": "made by", "choices": choices, "answer": answer}


def rows_of(seed, size, width=3):
  rng = random.Random(seed)
  return [question(rng, width) for _ in range(size)]


def write_jsonl(path, rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(name="model", scope="module")
def _model(tmp_path_factory):
  """A directory with a model to start from."""
  directory = tmp_path_factory.mktemp("model")
  save_model(directory, VOCAB)
  return directory


SIZES = {"train": 160, "dev": 40, "test": 30}


@pytest.fixture(name="data", scope="module")
def _data(tmp_path_factory):
  """A directory with train.jsonl, dev.jsonl and test.jsonl."""
  directory = tmp_path_factory.mktemp("data")
  for seed, (name, size) in enumerate(SIZES.items()):
    write_jsonl(directory / f"{name}.jsonl", rows_of(seed, size))
  return directory


def run(output_dir, *arguments, **flags):
  """Runs main as a command line would."""
  named = [f"--{name}={value}" for name, value in {"output_dir": output_dir, **flags}.items()]
  command_line.parse(run_multiple_choice.flags, [*arguments, *named])
  run_multiple_choice.main([])


def start(model, data, **flags):
  """The flags of a training run, which may be changed; those that are None are left out."""
  flags = {
    **start_flags(model),
    "task_name": "jsonl",
    "data_dir": data,
    "max_seq_length": 16,
    "train_batch_size": 8,
    "num_train_epochs": EPOCHS,
    "learning_rate": 0.005,
    **flags,
  }
  return {name: value for name, value in flags.items() if value is not None}


@pytest.fixture(name="trained", scope="module")
def _trained(model, data, tmp_path_factory):
  """The output directory of a whole run. Tests copy it before they change it."""
  directory = tmp_path_factory.mktemp("run") / "trained"
  with without_dropout():
    run(directory, "--do_train", "--do_eval", "--do_predict", **start(model, data))
  return directory


def read_json(directory, name):
  return json.loads((directory / name).read_text())


def read_predictions(directory):
  """Returns the header of predictions.tsv and its rows."""
  with open(directory / "predictions.tsv", encoding="utf-8", newline="") as f:
    header, *rows = csv.reader(f, delimiter="\t")
  return header, rows


# ---- A whole run --------------------------------------------------------------------------------


def test_it_learns_to_choose(trained):
  metrics = read_json(trained, "eval_metrics.json")
  assert metrics["accuracy"] > 0.8
  assert metrics["set"] == "dev" and metrics["global_step"] == 160 / 8 * EPOCHS


def test_files_of_a_run(trained):
  lines = (trained / "eval_results.txt").read_text().splitlines()
  results = dict(line.split(" = ") for line in lines)
  assert list(results) == ["eval_accuracy", "eval_loss", "global_step"]
  metrics = read_json(trained, "eval_metrics.json")
  assert float(results["eval_accuracy"]) == metrics["accuracy"]
  for name in ("train.tf_record", "eval.tf_record", "bert_config.json", "vocab.txt", "run.json"):
    assert (trained / name).exists()
  assert not (trained / "label_list.txt").exists()
  assert read_json(trained, "run.json")["flags"]["answer_form"] == "number"


def test_predictions_have_the_choice_and_all_probabilities(trained):
  header, rows = read_predictions(trained)
  assert header == ["id", "prediction", "choice", "0", "1", "2"]
  wanted = rows_of(2, SIZES["test"])
  right = 0
  for number, ((guid, place, choice, *probabilities), row) in enumerate(zip(rows, wanted)):
    assert guid == f"test-{number}"
    assert choice == row["choices"][int(place)]
    shares = list(map(float, probabilities))
    assert max(shares) == shares[int(place)] and sum(shares) == pytest.approx(1, abs=1e-5)
    right += int(place) == row["answer"]
  assert read_json(trained, "eval_metrics_test.json")["accuracy"] == right / len(wanted)


def test_the_directory_alone_gives_the_same_evaluation(trained, tmp_path):
  again = copied(trained, tmp_path)
  (again / "eval_metrics.json").unlink()
  run(again, "--do_eval", eval_batch_size=3)
  metrics, before = (read_json(d, "eval_metrics.json") for d in (again, trained))
  assert metrics.pop("loss") == pytest.approx(before.pop("loss"), abs=1e-5)
  assert metrics == before


def test_a_finished_directory_is_not_trained_again(trained, model, data, tmp_path, log):
  again = copied(trained, tmp_path)
  run(again, "--do_train", **start(model, data))
  assert "Skipping training" in log.text
  assert checkpoint_steps(again) == checkpoint_steps(trained)


def test_evaluation_while_training(model, data, tmp_path):
  flags = {"num_train_epochs": 1, "eval_steps": 10, "keep_best": True}
  run(tmp_path, "--do_train", "--do_eval", **start(model, data, **flags))
  assert_best_is_used(tmp_path, "accuracy", [10, 20])


@pytest.mark.parametrize("form", [{}, {"bucket_by_length": True, "num_accumulation_steps": 2}])
def test_a_killed_training_goes_on_as_if_it_had_not_been(model, data, tmp_path, monkeypatch, form):
  flags = start(model, data, num_train_epochs=0.5, save_checkpoints_steps=4, **form)
  run(tmp_path / "whole", "--do_train", **flags)
  send_once(monkeypatch, signal.SIGTERM, at_step=5)
  with pytest.raises(estimators.Interrupted):
    run(tmp_path / "killed", "--do_train", **flags)
  monkeypatch.undo()
  run(tmp_path / "killed", "--do_train", **flags)
  found, want = weights(tmp_path / "killed"), weights(tmp_path / "whole")
  assert found.keys() == want.keys()
  for name, value in want.items():
    np.testing.assert_array_equal(found[name], value, err_msg=name)


# ---- Other files --------------------------------------------------------------------------------

SWAG_COLUMNS = ["video-id", "fold-ind", "startphrase", "sent1", "sent2", "gold-source"]
SWAG_COLUMNS += [f"ending{number}" for number in range(4)]


def write_swag(path, rows, has_labels=True):
  with open(path, "w", encoding="utf-8", newline="") as f:
    writer = csv.writer(f)
    writer.writerow(["", *SWAG_COLUMNS, *(["label"] if has_labels else [])])
    for number, row in enumerate(rows):
      first = f"{row['context']} {row['question']}"
      texts = [first, row["context"], row["question"], "gold", *row["choices"]]
      label = [row["answer"]] if has_labels else []
      writer.writerow([number, "lsmdc", number, *texts, *label])


def test_swag(model, tmp_path):
  for seed, (name, size) in enumerate([("train", 16), ("val", 8), ("test", 6)]):
    write_swag(tmp_path / f"{name}.csv", rows_of(seed, size, width=4), has_labels=name != "test")
  flags = start(model, tmp_path, task_name="swag", num_train_epochs=1)
  run(tmp_path / "out", "--do_train", "--do_eval", "--do_predict", **flags)
  assert read_json(tmp_path / "out", "eval_metrics.json")["set"] == "dev"
  header, rows = read_predictions(tmp_path / "out")
  assert header == ["id", "prediction", "choice", "0", "1", "2", "3"] and len(rows) == 6
  assert not (tmp_path / "out" / "eval_metrics_test.json").exists()
  # The same questions in the other format have the same probabilities.
  write_jsonl(tmp_path / "dev.jsonl", rows_of(1, 8, width=4))
  loss = read_json(tmp_path / "out", "eval_metrics.json")["loss"]
  flags = {**start(model, tmp_path), "init_checkpoint": tmp_path / "out"}
  run(tmp_path / "again", "--do_eval", **flags)
  assert read_json(tmp_path / "again", "eval_metrics.json")["loss"] == pytest.approx(loss, abs=1e-5)


def test_questions_with_fewer_choices_do_not_choose_what_they_lack(trained, tmp_path):
  again = copied(trained, tmp_path)
  full = rows_of(5, 12)
  rows = [{**row, "choices": row["choices"][: 2 + i % 2]} for i, row in enumerate(full)]
  for row in rows:
    del row["answer"]
  write_jsonl(tmp_path / "new.jsonl", rows)
  run(again, "--do_predict", "--pad_choices", predict_file=tmp_path / "new.jsonl")
  header, padded = read_predictions(again)
  assert header[3:] == ["0", "1", "2"]
  chooser = Chooser.from_directory(str(again))
  for row, (_, place, choice, *shares) in zip(rows, padded):
    count = len(row["choices"])
    assert shares[count:] == [""] * (3 - count)
    assert choice == row["choices"][int(place)]
    found = {c.text: c.probability for c in chooser.choose(**as_arguments(row))}
    for text, share in zip(row["choices"], shares):
      assert found[text] == pytest.approx(float(share), abs=1e-5)


@without_dropout()
def test_training_with_fewer_choices(model, tmp_path):
  rows = rows_of(1, 80, width=4)
  for number, row in enumerate(rows):
    if row["answer"] < 2 and number % 3 == 0:
      row["choices"] = row["choices"][:2]
  assert {len(row["choices"]) for row in rows} == {2, 4}
  write_jsonl(tmp_path / "train.jsonl", rows)
  write_jsonl(tmp_path / "dev.jsonl", rows_of(2, 20, width=4))
  flags = start(model, tmp_path, num_train_epochs=2 * EPOCHS)
  run(tmp_path / "out", "--do_train", "--do_eval", "--pad_choices", **flags)
  assert read_json(tmp_path / "out", "eval_metrics.json")["accuracy"] > 0.8


def test_predictions_write_answers_as_the_files_do(trained, tmp_path):
  again = copied(trained, tmp_path)
  rows = rows_of(2, SIZES["test"])
  for row in rows:
    row["answer"] = "ABC"[row["answer"]]
  write_jsonl(tmp_path / "new.jsonl", rows)
  flags = {"predict_file": tmp_path / "new.jsonl", "answer_form": "letter"}
  run(again, "--do_predict", **flags)
  header, found = read_predictions(again)
  assert header[3:] == ["A", "B", "C"]
  _, before = read_predictions(trained)
  assert [row[1] for row in found] == ["ABC"[int(row[1])] for row in before]
  name = "eval_metrics_test.json"
  assert read_json(again, name) == read_json(trained, name)


def test_prediction_of_a_file_of_another_format(trained, tmp_path, log):
  again = copied(trained, tmp_path)
  rows = rows_of(2, SIZES["test"])
  names = ["context", "question", *(f"choice{n}" for n in range(3)), "answer"]
  with open(tmp_path / "new.csv", "w", encoding="utf-8", newline="") as f:
    writer = csv.writer(f)
    writer.writerow(names)
    for row in rows:
      writer.writerow([row["context"], row["question"], *row["choices"], row["answer"]])
  run(again, "--do_predict", predict_file=tmp_path / "new.csv")
  assert read_predictions(again) == read_predictions(trained)
  assert "new.csv is read as csv, by its name, and not as jsonl" in log.text


def test_answers_that_cannot_be_read_do_not_stop_prediction(trained, tmp_path, log):
  again = copied(trained, tmp_path)
  (again / "eval_metrics_test.json").unlink()
  write_jsonl(tmp_path / "new.jsonl", [{**row, "answer": -1} for row in rows_of(2, 3)])
  run(again, "--do_predict", predict_file=tmp_path / "new.jsonl")
  before = read_predictions(trained)[1][:3]
  assert [row[:3] for row in read_predictions(again)[1]] == [row[:3] for row in before]
  assert "new.jsonl:1: found the answer '-1'" in log.text
  assert not (again / "eval_metrics_test.json").exists()


# ---- One question -------------------------------------------------------------------------------


def as_arguments(row):
  return {name: row[name] for name in ("choices", "question", "context")}


def test_chooser_gives_the_probabilities_of_prediction_in_many_threads(trained):
  chooser = Chooser.from_directory(str(trained))
  _, rows = read_predictions(trained)
  wanted = rows_of(2, SIZES["test"])
  found = {}

  def ask(first):
    for number in range(first, len(wanted), 4):
      found[number] = chooser.choose(**as_arguments(wanted[number]))

  threads = [threading.Thread(target=ask, args=[first]) for first in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  for number, row in enumerate(rows):
    assert found[number][0].text == row[2]
    by_text = {choice.text: choice.probability for choice in found[number]}
    for text, share in zip(wanted[number]["choices"], row[3:]):
      assert by_text[text] == pytest.approx(float(share), abs=1e-5)


def test_chooser_takes_any_text(trained):
  chooser = Chooser.from_directory(str(trained))
  for context, asked in (("", "made by"), (None, "made by"), ("a hat", ""), ("hat " * 9999, None)):
    found = chooser.choose(["ann", "rome " * 5000, "?"], asked, context)
    assert sum(choice.probability for choice in found) == pytest.approx(1, abs=1e-5)
    assert found == sorted(found, key=lambda choice: -choice.probability)
  same = chooser.choose(["ann", "ann"], "made by")
  assert same[0].probability == pytest.approx(0.5, abs=1e-5)
  for choices, context, match in (
    (["ann"], "a hat", "found 1 choices, expected 2 or more"),
    ([], "a hat", "found 0 choices"),
    (["ann", " "], "a hat", "a choice is empty"),
    (["ann", "bob"], " ", "needs --question or --context"),
  ):
    with pytest.raises(files.InputError, match=match):
      chooser.choose(choices, None, context)
  with pytest.raises(TypeError, match="takes a list of choices"):
    chooser.choose("ann", "made by")


def test_a_question_in_flags(trained, capsys):
  choices = ["--choice=rome", "--choice=ann", "--choice=oslo"]
  run(trained, *choices, question="made by", context="a hat .")
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 3 and lines[0].split()[1] == "ann"
  assert [float(line.split()[0]) for line in lines] == sorted(
    (float(line.split()[0]) for line in lines), reverse=True
  )


# ---- As a library -------------------------------------------------------------------------------


def test_model_fn_knows_two_modes():
  config = modeling.BertConfig.from_dict(
    {"vocab_size": 10, "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
  )
  model_fn = run_multiple_choice.model_fn_builder(
    config,
    init_checkpoint=None,
    learning_rate=1e-3,
    num_train_steps=10,
    num_warmup_steps=1,
    use_tpu=False,
  )
  with tf.Graph().as_default(), pytest.raises(ValueError, match="modes train, infer, not eval"):
    table = multiple_choice.record_features(4, 2)
    features = {feature.name: tf.zeros([1, *feature.shape], tf.int32) for feature in table}
    model_fn(features, None, tf.estimator.ModeKeys.EVAL, {})


# ---- Refusals -----------------------------------------------------------------------------------


@pytest.fixture(name="refused")
def _refused(model, data, tmp_path):
  """See tiny_runs.Refusal."""
  return Refusal(
    run,
    lambda **flags: start(model, data, **flags),
    tmp_path / "out",
    "--do_train",
    "--do_eval",
    "--do_predict",
  )


@pytest.mark.parametrize(
  ("flags", "match"),
  [
    ({"task_name": None}, "--task_name is missing"),
    ({"task_name": "race"}, "task_name"),
    ({"data_dir": None}, "--data_dir is missing: the task jsonl needs it"),
    (
      {"task_name": "csv"},
      r"train\.csv: there is no .* there is \S+\.jsonl; give --task_name=jsonl",
    ),
    ({"data_dir": "nowhere"}, r"nowhere/train\.jsonl: cannot be read"),
    ({"predict_file": "nowhere.jsonl"}, r"nowhere\.jsonl: cannot be read"),
    (
      {"task_name": "swag", "context_column": "x"},
      "--context_column: cannot be given with .* swag",
    ),
    ({"context_column": "x"}, r"train\.jsonl: --context_column: there is no column 'x'"),
    ({"choice_columns": "context"}, "different columns, found 'context', 'question', 'context'"),
    ({"answer_column": "question"}, "must be different columns"),
    (
      {"answer_form": "letter"},
      r"train\.jsonl:1: found the answer '\d'.* as letter .* they are 'A'",
    ),
    ({"num_train_epochs": 0.01}, "no training step: 160 questions"),
    ({"max_seq_length": 64}, "--max_seq_length=64 is more than the 32 positions"),
    ({"best_metric": "f1", "eval_steps": 2}, "no metric f1; choose one of accuracy, loss"),
    ({"question": "made by"}, "--question needs --choice"),
    ({"choice": "ann"}, "--choice: found 1 choices, expected 2 or more"),
  ],
)
def test_impossible_flags(refused, flags, match):
  refused(match, **flags)


@pytest.mark.parametrize(
  ("name", "row", "match"),
  [
    ("train", {"choices": ["ann"]}, r"train\.jsonl:2: found 1 choices, expected 2 or more"),
    ("dev", {"choices": ["ann", "eve"]}, r"dev\.jsonl:2: found 2 choices, where .*--pad_choices"),
    ("train", {"answer": 7}, r"train\.jsonl:2: found the answer '7', which is none of the 3"),
    ("dev", {"answer": "rome!"}, r"dev\.jsonl:2: found the answer 'rome!', which is none of"),
    ("dev", {"answer": None}, r"dev\.jsonl:2: has no answer"),
    ("test", {"choices": ["a", "", "b"]}, r"test\.jsonl:2: choice 2 of 3 is empty"),
    ("test", {"context": " ", "question": ""}, r"test\.jsonl:2: has neither a context nor a"),
  ],
)
def test_unusable_rows(refused, data, tmp_path, name, row, match):
  for each in SIZES:
    (tmp_path / f"{each}.jsonl").write_text((data / f"{each}.jsonl").read_text())
  rows = rows_of(9, 3)
  write_jsonl(tmp_path / f"{name}.jsonl", [rows[0], {**rows[1], **row}, rows[2]])
  refused(match, data_dir=tmp_path, train_batch_size=2)


def test_nothing_to_do(refused):
  refused("nothing to do", "--nodo_train")


def test_an_encoder_alone_cannot_choose(refused):
  refused("has no head for multiple choice", "--do_predict")


def test_a_directory_of_another_task(refused, trained, tmp_path):
  again = copied(trained, tmp_path)
  run_file = again / model_directory.RUN_FILE
  run_file.write_text(run_file.read_text().replace("run_multiple_choice", "run_squad"))
  refused(r"was made by run_squad\.py", output_dir=again)
  with pytest.raises(files.InputError, match=r"was made by run_squad\.py"):
    Chooser.from_directory(str(again))
  run_file.unlink()
  with pytest.raises(files.InputError, match=r"output_weights of run_multiple_choice\.py"):
    model_directory.check_head(str(again), "run_squad")


def test_broken_weights(trained, tmp_path):
  again = copied(trained, tmp_path)
  variables = weights(trained)
  variables["cls/multiple_choice/output_weights"][0, 0] = np.nan
  for path in again.glob("model.ckpt-*"):
    path.unlink()
  checkpoint = save_checkpoint(again / "model.ckpt", variables)
  (again / "checkpoint").write_text(f'model_checkpoint_path: "{checkpoint}"\n')
  with pytest.raises(files.InputError, match="outputs are NaN"):
    run(again, "--do_predict")
  with pytest.raises(files.InputError, match="outputs are NaN"):
    Chooser.from_directory(str(again)).choose(["ann", "rome"], "made by")


# ---- A student ----------------------------------------------------------------------------------


@without_dropout()
def test_a_student_learns_from_its_teacher(trained, model, data, tmp_path):
  flags = start(model, data, teacher_dir=trained, student_layers=1, distill_alpha=0.9)
  for name in ("bert_config_file", "init_checkpoint"):
    del flags[name]
  run(tmp_path, "--do_train", "--do_eval", **flags)
  assert read_json(tmp_path, "eval_metrics.json")["accuracy"] > 0.8
  assert read_json(tmp_path, "bert_config.json")["num_hidden_layers"] == 1


def test_a_teacher_of_questions_with_fewer_choices(trained, model, tmp_path):
  rows = rows_of(7, 16)
  for row in rows[::2]:
    if row["answer"] < 2:
      row["choices"] = row["choices"][:2]
  write_jsonl(tmp_path / "train.jsonl", rows)
  flags = start(model, tmp_path, teacher_dir=trained, distill_alpha=1, num_train_epochs=1)
  run(tmp_path / "out", "--do_train", "--pad_choices", **flags)
  assert np.isfinite(weights(tmp_path / "out")["cls/multiple_choice/output_weights"]).all()
