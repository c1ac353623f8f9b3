"""Question answering from flags to files, with a tiny model that learns colours and names."""

import io
import json
import logging
import signal

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tiny_runs import (
  SPECIAL,
  Refusal,
  assert_best_is_used,
  checkpoint_steps,
  copied,
  save_model,
  send_once,
  start_flags,
  weights,
  without_dropout,
)

import modeling
import run_squad
from toolkit.formats import model_directory
from toolkit.metrics import squad_scores
from toolkit.support import command_line, files
from toolkit.training import distillation, estimators, report

COLOURS = ["red", "blue", "green", "black", "white", "pink"]
NAMES = ["ann", "bob", "eve", "joe", "sue", "tom"]
OTHER = [
  "has",
  "a",
  "hat",
  "cup",
  "and",
  "it",
  "is",
  "very",
  "old",
  ".",
  "who",
  "which",
  "colour",
  "?",
]
VOCAB = [*SPECIAL, *COLOURS, *NAMES, *OTHER]
WHO, COLOUR = "Who has it?", "Which colour?"
EPOCHS = 60


# ---- A user's files -----------------------------------------------------------------------------


def question(qas_id, text, context, answer):
  """A question in SQuAD 2.0's form; without an answer it is impossible."""
  found = [{"text": answer, "answer_start": context.index(answer)}] if answer else []
  return {"id": qas_id, "question": text, "answers": found, "is_impossible": not answer}


def paragraph(number, name, colour):
  """A paragraph with a name, or a colour, or both (the missing one is None), and two questions."""
  filler = "It is very old. " * (number % 4)  # up to two windows
  thing = "hat" if number % 2 else "cup"
  who = f"{name.title()} has" if name else "It has"
  what = f"a {colour} {thing}." if colour else f"a {thing}."
  context = f"{filler}{who} {what}"
  return {
    "context": context,
    "qas": [
      question(f"who-{number}", WHO, context, name and name.title()),
      question(f"colour-{number}", COLOUR, context, colour),
    ],
  }


def dataset(shift):
  """18 paragraphs; a third of the questions has no answer. Another shift pairs other words."""
  rows = []
  for i in range(6):
    name, colour = NAMES[i], COLOURS[(i + shift) % 6]
    rows += [(name, colour), (name, None), (None, colour)]
  paragraphs = [paragraph(number, *row) for number, row in enumerate(rows)]
  return {"version": "v2.0", "data": [{"title": "things", "paragraphs": paragraphs}]}


def write_json(path, value):
  path.write_text(json.dumps(value))
  return path


def without_answers(squad):
  """The same questions without answers, as for prediction."""
  squad = json.loads(json.dumps(squad))
  for row in squad["data"][0]["paragraphs"]:
    row["qas"] = [{"id": qa["id"], "question": qa["question"]} for qa in row["qas"]]
  return squad


@pytest.fixture(name="model", scope="module")
def _model(tmp_path_factory):
  """A directory with a model to start from."""
  directory = tmp_path_factory.mktemp("model")
  save_model(directory, VOCAB)
  return directory


@pytest.fixture(name="data", scope="module")
def _data(tmp_path_factory):
  """A directory with train.json, dev.json and questions.json, the last without answers."""
  directory = tmp_path_factory.mktemp("data")
  write_json(directory / "train.json", dataset(0))
  write_json(directory / "dev.json", dataset(2))
  write_json(directory / "questions.json", without_answers(dataset(2)))
  return directory


def run(output_dir, *arguments, **flags):
  """Runs main as a command line would."""
  named = [f"--{name}={value}" for name, value in {"output_dir": output_dir, **flags}.items()]
  command_line.parse(run_squad.flags, [*arguments, *named])
  run_squad.main([])


def start(model, data, **flags):
  """The flags of a training run, which may be changed; those that are None are left out."""
  flags = {
    **start_flags(model),
    "train_file": data / "train.json",
    "predict_file": data / "dev.json",
    "version_2_with_negative": True,
    "max_seq_length": 20,
    "max_query_length": 6,
    "doc_stride": 6,
    "train_batch_size": 8,
    "num_train_epochs": EPOCHS,
    "learning_rate": 0.005,
    "num_workers": 1,
    **flags,
  }
  return {name: value for name, value in flags.items() if value is not None}


@pytest.fixture(name="trained", scope="module")
def _trained(model, data, tmp_path_factory):
  """The output directory of a whole run, which learns well. Tests copy it before they change it."""
  directory = tmp_path_factory.mktemp("run") / "trained"
  with without_dropout():
    run(directory, "--do_train", "--do_predict", "--do_eval", **start(model, data))
  return directory


def read(directory, name):
  return json.loads((directory / name).read_text())


@pytest.fixture(name="model_must_not_run")
def _model_must_not_run(monkeypatch):
  def refuse(*_, **__):
    raise AssertionError("the model runs")

  monkeypatch.setattr(estimators, "predict", refuse)


# ---- A whole run --------------------------------------------------------------------------------


def test_it_learns_to_answer_and_when_not_to(trained):
  metrics = read(trained, "eval_metrics.json")
  # One of the two would be 0 if it always answered, or never did.
  assert metrics["HasAns_exact"] > 80 and metrics["NoAns_exact"] > 80
  assert metrics["total"] == 36 and metrics["NoAns_total"] == 12


def test_files_of_a_run(trained, data):
  predictions, nbest = read(trained, "predictions.json"), read(trained, "nbest_predictions.json")
  null_odds = read(trained, "null_odds.json")
  ids = [qa["id"] for row in dataset(2)["data"][0]["paragraphs"] for qa in row["qas"]]
  assert list(predictions) == list(nbest) == list(null_odds) == ids
  for qas_id, entries in nbest.items():
    assert list(entries[0]) == ["text", "probability", "start_logit", "end_logit"]
    assert [e["probability"] for e in entries] == sorted(
      (e["probability"] for e in entries), reverse=True
    )
    assert (predictions[qas_id] == "") == (null_odds[qas_id] > 0)
  for name in ("train.tf_record", "eval.tf_record", "bert_config.json", "vocab.txt", "run.json"):
    assert (trained / name).exists()
  assert (trained / "predictions.json").read_text() == json.dumps(predictions, indent=4) + "\n"
  metrics = read(trained, "eval_metrics.json")
  want = squad_scores.evaluate_v2(files.read_json(str(data / "dev.json")), predictions)
  assert {name: metrics[name] for name in want} == want
  assert metrics["best_f1"] >= metrics["f1"]


def test_an_epoch_has_all_windows(trained):
  with np.load(next(trained.glob("squad-features-*.npz"))) as features:
    assert len(features["num_tokens"]) > 36  # some questions have two windows
  num_windows = max(len(np.load(p)["num_tokens"]) for p in trained.glob("squad-features-*.npz"))
  assert checkpoint_steps(trained)[-1] == int(num_windows / 8 * EPOCHS)


def test_the_directory_and_questions_alone_give_the_same_answers(trained, data, tmp_path):
  again = copied(trained, tmp_path)
  (again / "predictions.json").unlink()
  run(again, "--do_predict", predict_file=data / "questions.json", num_workers=1)
  assert read(again, "predictions.json") == read(trained, "predictions.json")
  np.testing.assert_allclose(
    list(read(again, "null_odds.json").values()),
    list(read(trained, "null_odds.json").values()),
    atol=1e-4,
  )


def test_a_threshold_is_found_and_applied_without_the_model(
  trained, data, tmp_path, model_must_not_run
):
  again = copied(trained, tmp_path)
  run(again, "--do_eval", predict_file=data / "dev.json", null_score_diff_threshold=-1000)
  assert set(read(again, "predictions.json").values()) == {""}
  assert read(again, "eval_metrics.json")["NoAns_exact"] == 100
  run(again, "--do_eval", predict_file=data / "dev.json", null_score_diff_threshold="auto")
  metrics = read(again, "eval_metrics.json")
  assert metrics["null_score_diff_threshold"] == metrics["best_f1_thresh"]
  assert metrics["f1"] == pytest.approx(metrics["best_f1"])
  assert metrics["best_f1"] == read(trained, "eval_metrics.json")["best_f1"]


def test_answers_to_another_file_are_not_used_again(trained, data, tmp_path, model_must_not_run):
  again = copied(trained, tmp_path)
  other = write_json(tmp_path / "other.json", dataset(3))
  with pytest.raises(AssertionError, match="the model runs"):
    run(again, "--do_eval", predict_file=other)


def test_a_finished_directory_is_not_trained_again(trained, model, data, tmp_path, caplog):
  caplog.set_level(logging.INFO, logger="absl")
  again = copied(trained, tmp_path)
  run(again, "--do_train", **start(model, data))
  assert "Skipping training" in caplog.text
  assert "are taken from" in caplog.text  # the features
  assert checkpoint_steps(again) == checkpoint_steps(trained)


@without_dropout()
def test_version_1(model, data, tmp_path):
  squad = dataset(0)
  for row in squad["data"][0]["paragraphs"]:
    row["qas"] = [qa for qa in row["qas"] if qa["answers"]]
    for qa in row["qas"]:
      del qa["is_impossible"]
  path = write_json(tmp_path / "v1.json", squad)
  out = tmp_path / "out"
  flags = start(model, data, version_2_with_negative=False, train_file=path, predict_file=path)
  run(out, "--do_train", "--do_predict", "--do_eval", **flags)
  metrics = read(out, "eval_metrics.json")
  assert metrics["exact_match"] > 80 and metrics["f1"] > 80
  assert not (out / "null_odds.json").exists()
  assert len(read(out, "predictions.json")) == 24
  run(out, "--do_eval", predict_file=path)  # from the saved answers
  assert read(out, "eval_metrics.json") == metrics


# ---- Asking -------------------------------------------------------------------------------------


def test_asking_gives_the_answers_of_prediction(trained):
  answerer = run_squad.QuestionAnswerer.from_directory(str(trained))
  answerer.threshold = 0.0
  predictions = read(trained, "predictions.json")
  nbest = read(trained, "nbest_predictions.json")
  for row in dataset(2)["data"][0]["paragraphs"]:
    for qa in row["qas"]:
      answer = answerer.ask(qa["question"], row["context"])
      assert answer.text == predictions[qa["id"]]
      if answer.text:
        assert row["context"][answer.start_char : answer.end_char] == answer.text
        texts = {entry["text"]: entry["probability"] for entry in nbest[qa["id"]]}
        # Padding counts among the n best, and its length depends on the batch.
        assert answer.probability == pytest.approx(texts[answer.text], abs=5e-3)


def test_a_directory_knows_its_best_threshold(trained):
  answerer = run_squad.QuestionAnswerer.from_directory(str(trained))
  assert answerer.threshold == read(trained, "eval_metrics.json")["best_f1_thresh"]


def predicted(trained):
  """Yields (context, questions, predicted answers) of the first paragraphs of the dev set."""
  predictions = read(trained, "predictions.json")
  for row in dataset(2)["data"][0]["paragraphs"][:2]:
    answers = [predictions[qa["id"]] or "no answer" for qa in row["qas"]]
    yield row["context"], [qa["question"] for qa in row["qas"]], answers


def test_a_question_in_flags(trained, capsys):
  for context, questions, answers in predicted(trained):
    given = {"question": questions[0], "context": context, "null_score_diff_threshold": 0}
    run(trained, "--do_ask", **given)
    assert capsys.readouterr().out.startswith(f"{answers[0]}  (probability ")


def test_questions_that_are_typed(trained, capsys, monkeypatch):
  (context, questions, answers), (other, other_questions, other_answers) = predicted(trained)
  lines = [*context.split(" ", 1), "", *questions, "", other, "", *other_questions]
  monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines) + "\n"))
  run(trained, "--do_ask", null_score_diff_threshold=0)
  typed = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]
  assert typed == answers + other_answers
  assert len(set(typed)) > 1  # else the same answer to all would do


# ---- As a library -------------------------------------------------------------------------------


def test_model_fn_trains_and_predicts_alone():
  model_fn = run_squad.model_fn_builder(
    modeling.BertConfig.from_dict(
      {"vocab_size": 10, "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
    ),
    None,
    1e-3,
    10,
    1,
    False,
    False,
  )
  ids = tf.zeros([1, 4], tf.int32)
  features = {"input_ids": ids, "input_mask": ids, "segment_ids": ids, "unique_ids": ids[:, 0]}
  with tf.Graph().as_default(), pytest.raises(ValueError, match="modes train, infer, not eval"):
    features = {name: tf.zeros(t.shape, tf.int32) for name, t in features.items()}
    model_fn(features, None, tf.estimator.ModeKeys.EVAL, {})


# ---- Refusals -----------------------------------------------------------------------------------


def test_evaluation_while_training(model, data, tmp_path):
  flags = {"num_train_epochs": 2, "eval_steps": "epoch", "keep_best": True}
  run(tmp_path, "--do_train", "--do_eval", **start(model, data, **flags))
  steps = [json.loads(s)["step"] for s in (tmp_path / "eval_history.jsonl").open()]
  assert len(steps) == 2 and steps[1] == 2 * steps[0]
  assert_best_is_used(tmp_path, "best_f1", steps)


@pytest.fixture(name="refused")
def _refused(model, data, tmp_path):
  """See tiny_runs.Refusal."""
  return Refusal(
    run, lambda **flags: start(model, data, **flags), tmp_path / "out", "--do_train", "--do_eval"
  )


@pytest.mark.parametrize(
  ("flags", "match"),
  [
    ({"train_file": None}, "--train_file is missing: --do_train needs it"),
    ({"predict_file": None}, "--predict_file is missing: --do_eval needs it"),
    ({"train_file": "nowhere.json"}, "nowhere.json: cannot be read"),
    ({"doc_stride": 0}, "doc_stride"),
    ({"max_query_length": 17}, "--max_seq_length: 20 leaves no space"),
    ({"max_seq_length": 64}, "--max_seq_length=64 is more than the 32 positions"),
    ({"null_score_diff_threshold": "much"}, "null_score_diff_threshold"),
  ],
)
def test_impossible_flags(refused, flags, match):
  refused(match, **flags)


def test_training_for_less_than_a_step(model, data, tmp_path):
  with pytest.raises(files.InputError, match="no training step: 59 windows"):
    run(tmp_path, "--do_train", **start(model, data, num_train_epochs=0.01))
  assert not checkpoint_steps(tmp_path)


def test_nothing_to_do(refused):
  refused("nothing to do", "--nodo_train")


@pytest.mark.parametrize(
  ("change", "match"),
  [
    (lambda text: text[:-20], r"is not valid JSON.*\(column \d+\)"),
    (lambda text: text.replace('"id"', '"key"', 1), r'qas\[0\].*"id"'),
    (lambda text: text.replace('"answer_start": 0', '"answer_start": 900', 1), "answer_start.*900"),
    (lambda text: text.replace("who-1", "who-0"), "who-0"),
    (lambda text: '{"rows": []}', '"data"'),
  ],
)
def test_unusable_training_files(refused, data, tmp_path, change, match):
  broken = tmp_path / "broken.json"
  broken.write_text(change((data / "train.json").read_text()))
  refused(match, train_file=broken)


def test_scoring_needs_answers(refused, data):
  refused("--do_eval: .*no list of answers", predict_file=data / "questions.json")


def test_auto_needs_a_threshold(refused, trained, tmp_path):
  again = copied(trained, tmp_path)
  (again / "eval_metrics.json").unlink()
  for switch in ("--do_predict", "--do_ask"):
    refused(
      "=auto: .* no threshold yet", switch, output_dir=again, null_score_diff_threshold="auto"
    )


def test_empty_texts_to_ask_about(refused, trained, tmp_path):
  blank = tmp_path / "blank.txt"
  blank.write_text(" \n")
  for match, given in (
    ("--question is empty", {"question": ""}),
    ("--context is empty", {"context": " "}),
    ("blank.txt is empty", {"context_file": blank}),
  ):
    refused(match, "--do_ask", output_dir=trained, **given)


def test_an_encoder_alone_cannot_answer(refused):
  refused("has no question answering model", "--do_predict")


def test_a_directory_of_another_task(refused, trained, tmp_path):
  again = copied(trained, tmp_path)
  run_file = again / model_directory.RUN_FILE
  run_file.write_text(run_file.read_text().replace("run_squad", "run_classifier"))
  refused("was made by run_classifier.py", output_dir=again)


# ---- A student ----------------------------------------------------------------------------------


def student(trained, data, **flags):
  """The flags of a training run with a teacher."""
  flags = {
    "teacher_dir": trained,
    "train_file": data / "train.json",
    "student_layers": 1,
    "train_batch_size": 8,
    "num_train_epochs": 1,
    "num_workers": 1,
    **flags,
  }
  return {name: value for name, value in flags.items() if value is not None}


@without_dropout()
def test_a_student_learns_from_its_teacher(trained, data, tmp_path):
  out = tmp_path / "out"
  flags = student(trained, data, num_train_epochs=12, learning_rate=0.005, distill_alpha=0.9)
  run(out, "--do_train", "--do_eval", predict_file=data / "dev.json", **flags)
  metrics = read(out, "eval_metrics.json")
  assert metrics["HasAns_total"] == 24 and metrics["f1"] > 60
  assert read(out, "bert_config.json")["num_hidden_layers"] == 1
  its_flags = read(out, "run.json")["flags"]
  for name in ("version_2_with_negative", "max_seq_length", "doc_stride"):
    assert its_flags[name] == read(trained, "run.json")["flags"][name]
  # The student's description is in its directory alone.
  run(out, "--do_predict", predict_file=data / "questions.json", num_workers=1)


def test_a_student_that_is_its_teacher_has_nothing_to_learn_of_it(
  trained, data, tmp_path, monkeypatch, log
):
  twin = copied(trained, tmp_path)
  config = read(twin, "bert_config.json")
  config.update(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
  write_json(twin / "bert_config.json", config)
  flags = student(twin, data, student_layers="0,1", distill_alpha=1, learning_rate=1e-9)
  run(tmp_path / "out", "--do_train", bucket_by_length=True, log_every_steps=1, **flags)
  losses = report.read_scalars(str(tmp_path / "out"))["teacher_loss"].values()
  assert len(losses) == 7 and max(losses) < 1e-5


def test_a_baseline_without_its_teacher(trained, data, tmp_path, monkeypatch):
  def refuse(*_):
    raise AssertionError("the teacher runs")

  monkeypatch.setattr(distillation, "add_logits", refuse)
  run(tmp_path / "out", "--do_train", **student(trained, data, distill_alpha=0))
  assert checkpoint_steps(tmp_path / "out")
  with pytest.raises(AssertionError, match="the teacher runs"):
    run(tmp_path / "other", "--do_train", **student(trained, data))


@without_dropout()
def test_a_student_with_a_model_of_its_own(trained, data, tmp_path, log):
  """A model of another width, as a small released one would be, with a head that is new."""
  (tmp_path / "small").mkdir()
  save_model(tmp_path / "small", VOCAB, hidden_size=8, num_hidden_layers=1, intermediate_size=12)
  flags = {**start_flags(tmp_path / "small"), "student_layers": None, "distill_alpha": 1}
  flags.update(teacher_cache_dir=tmp_path / "cache", num_train_epochs=4, learning_rate=0.01)
  run(tmp_path / "out", "--do_train", log_every_steps=7, **student(trained, data, **flags))
  config = read(tmp_path / "out", "bert_config.json")
  assert (config["num_hidden_layers"], config["hidden_size"]) == (1, 8)
  assert weights(tmp_path / "out")["cls/squad/output_weights"].shape == (2, 8)
  losses = list(report.read_scalars(str(tmp_path / "out"))["teacher_loss"].values())
  assert losses[-1] < 0.9 * losses[0]
  assert list((tmp_path / "cache").glob("teacher-logits-*/00000.npz"))
  assert not list((tmp_path / "out").glob("teacher-logits-*"))


def test_a_students_training_goes_on(trained, data, tmp_path, monkeypatch):
  flags = student(trained, data, num_train_epochs=2, save_checkpoints_steps=3)
  run(tmp_path / "whole", "--do_train", **flags)
  send_once(monkeypatch, signal.SIGTERM, at_step=4)
  with pytest.raises(estimators.Interrupted):
    run(tmp_path / "parts", "--do_train", **flags)
  monkeypatch.undo()
  run(tmp_path / "parts", "--do_train", **flags)
  whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
  assert parts["global_step"] == whole["global_step"] == 14
  with pytest.raises(files.InputError, match=r"--student_layers=0,1: the model in .* has 1 layers"):
    run(tmp_path / "parts", "--do_train", **{**flags, "student_layers": "0,1"})


def test_parts_of_a_batch_learn_the_same(trained, data, tmp_path):
  twin = copied(trained, tmp_path)
  config = read(twin, "bert_config.json")
  config.update(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
  write_json(twin / "bert_config.json", config)
  flags = student(twin, data)
  run(tmp_path / "whole", "--do_train", **flags)
  run(tmp_path / "parts", "--do_train", num_accumulation_steps=4, **flags)
  whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
  for name, value in whole.items():
    np.testing.assert_allclose(parts[name], value, atol=2e-4, err_msg=name)


@pytest.mark.parametrize(
  ("flags", "match"),
  [
    ({"student_layers": "0,2"}, "there is no layer 2 in .*; its 2 layers are 0 to 1"),
    ({"distill_alpha": 1.5}, "distill_alpha"),
    ({"distill_alpha": -0.1}, "distill_alpha"),
    ({"distill_temperature": 0}, "distill_temperature"),
    ({"init_checkpoint": "bert_model.ckpt"}, "--student_layers and --init_checkpoint"),
    ({"bert_config_file": "bert_config.json"}, "--student_layers and --bert_config_file"),
    ({"student_layers": None}, "--teacher_dir: there is no student"),
    ({"teacher_dir": None}, "--student_layers needs --teacher_dir"),
    ({"teacher_dir": "nowhere"}, "--teacher_dir: nowhere has no checkpoint"),
    ({"version_2_with_negative": False}, "--version_2_with_negative=True, not False"),
    ({"do_lower_case": False}, "--do_lower_case=True, not False"),
  ],
)
def test_impossible_students(trained, data, tmp_path, flags, match):
  refused = Refusal(
    run, lambda **flags: student(trained, data, **flags), tmp_path / "out", "--do_train"
  )
  refused(match, **flags)


def test_a_student_of_two_models(trained, data, tmp_path):
  refused = Refusal(
    run, lambda **flags: student(trained, data, **flags), tmp_path / "out", "--do_train"
  )
  refused("--student_layers and --model: the model begins with layers of", model=trained)


def test_a_teacher_of_another_task_or_vocabulary(trained, data, tmp_path):
  refused = Refusal(
    run, lambda **flags: student(tmp_path / "copy", data, **flags), tmp_path / "out", "--do_train"
  )
  teacher = copied(trained, tmp_path)
  run_file, vocab_file = teacher / model_directory.RUN_FILE, teacher / "vocab.txt"
  other = tmp_path / "vocab.txt"
  other.write_text(vocab_file.read_text().replace("blue", "grey"))
  refused(r"the vocabulary of .*copy is not the student's: .* line 7 on", vocab_file=other)
  run_file.write_text(run_file.read_text().replace("run_squad", "run_classifier"))
  refused("--teacher_dir: .* was made by run_classifier.py, not by run_squad.py")
