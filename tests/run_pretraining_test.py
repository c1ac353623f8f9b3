"""Pre-training from flags to files, with a tiny model that learns the sounds of six animals."""

import json
import os
import re
import signal

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tiny_runs import (
  SPECIAL,
  Refusal,
  assert_best_is_used,
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

import create_pretraining_data
import modeling
import run_pretraining
from toolkit.records import input_pipeline, tf_records
from toolkit.support import command_line, files
from toolkit.tasks import pretraining, pretraining_head
from toolkit.training import estimators

ANIMALS = ["dog", "cat", "cow", "duck", "frog", "owl"]
SOUNDS = ["woof", "meow", "moo", "quack", "croak", "hoot"]
VOCAB = [*SPECIAL, *ANIMALS, *SOUNDS, "the", "old", "very", "says", ".", "|"]
WIDTH = {"hidden_size": 32, "intermediate_size": 64}
CONFIG = config_of(VOCAB, **WIDTH)

LENGTH, PREDICTIONS, BATCH_SIZE = 16, 3, 16
NUM_STEPS = 200
RESULT_KEYS = [
  "global_step",
  "loss",
  "masked_lm_accuracy",
  "masked_lm_loss",
  "next_sentence_accuracy",
  "next_sentence_loss",
]


# ---- A user's files -----------------------------------------------------------------------------


def make_row(first, second, num_words, length=LENGTH, predictions=PREDICTIONS):
  """A record of two sentences, both sounds masked; the second is the next one for one animal."""

  def sentence(animal):
    return ["the", *["very", "old"][2 - num_words :], ANIMALS[animal], "says", "[MASK]", "."]

  parts = ["[CLS]", *sentence(first), "[SEP]"], [*sentence(second), "[SEP]"]
  tokens = [*parts[0], *parts[1]]
  places = [place for place, token in enumerate(tokens) if token == "[MASK]"]
  labels = [VOCAB.index(SOUNDS[animal]) for animal in (first, second)]

  def filled(values, size):
    return (list(values) + [0] * size)[:size]

  return {
    "input_ids": filled(map(VOCAB.index, tokens), length),
    "input_mask": filled([1] * len(tokens), length),
    "segment_ids": filled([0] * len(parts[0]) + [1] * len(parts[1]), length),
    "masked_lm_positions": filled(places, predictions),
    "masked_lm_ids": filled(labels, predictions),
    "masked_lm_weights": filled([1.0] * len(places), predictions),
    "next_sentence_labels": [int(first != second)],
  }


def make_rows(count, **lengths):
  """Rows of each animal in turn, first with the next sentence and then with another one."""
  rows = []
  for number in range(count):
    pair, is_random = divmod(number, 2)
    first, distance = pair % 6, (pair // 6 % 5 + 1) * is_random
    rows.append(make_row(first, (first + distance) % 6, pair // 6 % 2, **lengths))
  return rows


def write_rows(path, rows, length=LENGTH, predictions=PREDICTIONS):
  features = pretraining.record_features(length, predictions)
  tf_records.write_records(str(path), rows, features)
  return path


@pytest.fixture(name="model", scope="module")
def _model(tmp_path_factory):
  """A directory with a model to start from."""
  directory = tmp_path_factory.mktemp("model")
  save_model(directory, VOCAB, **WIDTH)
  return directory


@pytest.fixture(name="data", scope="module")
def _data(tmp_path_factory):
  """A directory with 60 records in train-0 to train-2, and 11 in dev; they have no metadata."""
  directory = tmp_path_factory.mktemp("data")
  rows = make_rows(60)
  for number in range(3):
    write_rows(directory / f"train-{number}", rows[number::3])
  write_rows(directory / "dev", rows[:11])
  return directory


@pytest.fixture(name="corpus", scope="module")
def _corpus(model, tmp_path_factory):
  """A directory with two files of create_pretraining_data.py and their metadata."""
  directory = tmp_path_factory.mktemp("corpus")
  lines = [f"the {word} {a} says {s} ." for a, s in zip(ANIMALS, SOUNDS) for word in ("old", "")]
  (directory / "text.txt").write_text("\n\n".join("\n".join(lines) for _ in range(3)))
  arguments = {
    "input_file": directory / "text.txt",
    "output_file": directory / "r",
    "vocab_file": model / "vocab.txt",
    "num_output_files": 2,
    "max_seq_length": LENGTH,
    "max_predictions_per_seq": PREDICTIONS,
    "do_lower_case": False,
  }
  flags = [f"--{name}={value}" for name, value in arguments.items()]
  command_line.parse(create_pretraining_data.flags, flags)
  create_pretraining_data.main([])
  return directory


def run(output_dir, *arguments, **flags):
  """Runs main as a command line would."""
  named = [f"--{name}={value}" for name, value in {"output_dir": output_dir, **flags}.items()]
  command_line.parse(run_pretraining.flags, [*arguments, *named])
  run_pretraining.main([])


def start(model, data, **flags):
  """The flags of a training run, which may be changed; those that are None are left out."""
  flags = {
    **start_flags(model),
    "input_file": f"{data}/train-*",
    "eval_file": f"{data}/dev",
    "max_seq_length": LENGTH,
    "max_predictions_per_seq": PREDICTIONS,
    "train_batch_size": BATCH_SIZE,
    "num_train_steps": NUM_STEPS,
    "num_warmup_steps": 5,
    "learning_rate": 0.002,
    **flags,
  }
  return {name: value for name, value in flags.items() if value is not None}


@pytest.fixture(name="trained", scope="module")
def _trained(model, data, tmp_path_factory):
  """The output directory of a whole run. Tests copy it before they change it."""
  directory = tmp_path_factory.mktemp("run") / "trained"
  with without_dropout():
    run(directory, "--do_train", "--do_eval", **start(model, data))
  return directory


def results(directory):
  """eval_results.txt as a dict in its order."""
  lines = (directory / "eval_results.txt").read_text().splitlines()
  return {key: float(value) for key, value in (line.split(" = ") for line in lines)}


def points(directory):
  """Scalars of an event file: dict of (step, name) -> value."""
  (events,) = directory.glob("events.out.tfevents.*")
  return {
    (event.step, value.tag): value.simple_value
    for event in tf.train.summary_iterator(str(events))
    for value in event.summary.value
  }


# ---- A whole run --------------------------------------------------------------------------------


def test_it_learns_words_and_next_sentences(trained):
  found = results(trained)
  assert list(found) == RESULT_KEYS
  assert found["global_step"] == NUM_STEPS
  assert found["masked_lm_accuracy"] > 0.9 and found["next_sentence_accuracy"] > 0.9
  assert found["loss"] == pytest.approx(
    found["masked_lm_loss"] + found["next_sentence_loss"], rel=0.01
  )


def test_files_of_a_run(trained, model, data):
  for name in ("bert_config.json", "vocab.txt", "run.json", "checkpoint"):
    assert (trained / name).exists()
  assert (trained / "vocab.txt").read_bytes() == (model / "vocab.txt").read_bytes()
  saved = json.loads((trained / "run.json").read_text())
  assert saved["script"] == "run_pretraining" and saved["flags"]["max_predictions_per_seq"] == 3
  metrics = json.loads((trained / "eval_metrics.json").read_text())
  assert metrics["num_records"] == 11 and metrics["input_files"] == [str(data / "dev")]
  assert metrics["loss"] == pytest.approx(results(trained)["loss"], rel=1e-5)
  assert checkpoint_steps(trained) == [0, NUM_STEPS]  # not one for each short epoch


def test_both_tasks_are_shown_while_it_trains(trained):
  curves = points(trained)
  for name in RESULT_KEYS[1:]:
    assert (50, name) in curves and (NUM_STEPS, name) in curves
  last = {name: curves[NUM_STEPS, name] for name in RESULT_KEYS[1:]}
  assert last["loss"] == pytest.approx(
    last["masked_lm_loss"] + last["next_sentence_loss"], rel=1e-4
  )
  assert last["masked_lm_accuracy"] > curves[50, "masked_lm_accuracy"] > 0


def test_a_finished_directory_is_not_trained_again(trained, model, data, tmp_path, log):
  again = copied(trained, tmp_path)
  run(again, "--do_train", **start(model, data))
  assert "Skipping training" in log.text
  assert checkpoint_steps(again) == checkpoint_steps(trained)


# ---- Evaluation ---------------------------------------------------------------------------------


def dense_scores(directory, rows):
  """Losses and hits of rows one by one: dict of name -> list, computed without an estimator."""
  columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
  with tf.Graph().as_default(), tf.Session() as session:
    config = modeling.BertConfig.from_dict(CONFIG)
    batch = {name: tf.constant(column) for name, column in columns.items()}
    model = modeling.BertModel(
      config, False, batch["input_ids"], batch["input_mask"], batch["segment_ids"]
    )
    masked = run_pretraining.get_masked_lm_output(
      config,
      model.get_sequence_output(),
      model.get_embedding_table(),
      batch["masked_lm_positions"],
      batch["masked_lm_ids"],
      tf.cast(batch["masked_lm_weights"], tf.float32),
    )
    following = run_pretraining.get_next_sentence_output(
      config, model.get_pooled_output(), batch["next_sentence_labels"]
    )
    tf.train.Saver().restore(session, tf.train.latest_checkpoint(str(directory)))
    (_, losses, log_probs), (_, next_losses, next_log_probs) = session.run([masked, following])
  is_scored = columns["masked_lm_weights"].ravel() > 0
  assert is_scored.sum() == 2 * len(rows)
  return {
    "masked_lm_loss": losses[is_scored],
    "masked_lm_accuracy": (log_probs.argmax(1) == columns["masked_lm_ids"].ravel())[is_scored],
    "next_sentence_loss": next_losses,
    "next_sentence_accuracy": next_log_probs.argmax(1) == columns["next_sentence_labels"].ravel(),
  }


def expect_scores(found, scores, batch_size):
  """Compares metrics with the scores of single rows that have two masks each."""
  for name, values in scores.items():
    assert found[name] == pytest.approx(np.mean(values), rel=1e-4), name
  total = scores["masked_lm_loss"].reshape(-1, 2).mean(1) + scores["next_sentence_loss"]
  means = [total[i : i + batch_size].mean() for i in range(0, len(total), batch_size)]
  sizes = [len(total[i : i + batch_size]) for i in range(0, len(total), batch_size)]
  assert found["loss"] == pytest.approx(np.average(means, weights=sizes), rel=1e-4)


@pytest.fixture(name="half_trained", scope="module")
def _half_trained(model, data, tmp_path_factory):
  """The directory of a short run, whose metrics are all between 0 and 1."""
  directory = tmp_path_factory.mktemp("half") / "out"
  run(directory, "--do_train", **start(model, data, num_train_steps=20))
  return directory


@pytest.mark.parametrize(
  ("batch_size", "limit", "num_records"),
  [pytest.param(4, 100, 11, marks=pytest.mark.slow), (11, 0, 11), (4, 2, 8)],
)
def test_each_record_counts_once(half_trained, data, tmp_path, batch_size, limit, num_records, log):
  again = copied(half_trained, tmp_path)
  sizes = {"eval_batch_size": batch_size, "max_eval_steps": limit}
  run(again, "--do_eval", input_file=data / "dev", **sizes)
  expect_scores(results(again), dense_scores(again, make_rows(11)[:num_records]), batch_size)
  assert ("Only 8 of 11 records are evaluated" in log.text) == (num_records == 8)


def test_rows_that_fill_up_a_batch_do_not_count(half_trained, data):
  config = modeling.BertConfig.from_dict(CONFIG)
  model_fn = run_pretraining.model_fn_builder(config, None, 0.1, 10, 1, False, True)
  sizes = {"train_batch_size": 4, "eval_batch_size": 4}
  estimator = estimators.make_estimator(
    model_fn, str(half_trained), estimators.Devices(), seed=1, batch_sizes=sizes
  )
  input_fn = run_pretraining.input_fn_builder(
    [str(data / "dev")], LENGTH, PREDICTIONS, is_training=False
  )
  found = estimator.evaluate(input_fn, steps=3)
  found["loss"] = found[pretraining_head.BATCH_LOSS]
  expect_scores(found, dense_scores(half_trained, make_rows(11)), 4)


def test_a_fresh_directory_evaluates_another_ones_checkpoint(trained, model, data, tmp_path):
  fresh = tmp_path / "fresh"
  run(fresh, "--do_eval", **start(model, data, init_checkpoint=trained))
  found, want = results(fresh), results(trained)
  assert found.pop("global_step") == 0 and want.pop("global_step") == NUM_STEPS
  assert found == pytest.approx(want, rel=1e-4)
  assert not checkpoint_steps(fresh)


# ---- Going on -----------------------------------------------------------------------------------


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(
  model, data, tmp_path, monkeypatch, log
):
  flags = start(model, data, num_train_steps=12, eval_file=None)
  with monkeypatch.context() as patch, pytest.raises(SystemExit) as stopped:
    send_once(patch, signal.SIGTERM, at_step=9)
    run(tmp_path / "out", "--do_train", "--do_eval", **flags)
  assert stopped.value.code == 128 + signal.SIGTERM
  assert checkpoint_steps(tmp_path / "out") == [0, 9]  # in the third epoch
  log.clear()
  run(tmp_path / "out", "--do_train", **flags)
  assert "Going on from step 9" in log.text and "Trained 3 steps" in log.text
  run(tmp_path / "whole", "--do_train", **flags)
  want, got = weights(tmp_path / "whole"), weights(tmp_path / "out")
  assert sorted(want) == sorted(got)
  for name, value in want.items():
    np.testing.assert_array_equal(got[name], value, err_msg=name)


def test_the_second_phase_starts_from_the_directory_of_the_first(trained, model, tmp_path, log):
  path = write_rows(tmp_path / "long", make_rows(16, length=24, predictions=4), 24, 4)
  out = tmp_path / "out"
  flags = {"max_seq_length": 24, "max_predictions_per_seq": 4, "num_train_steps": 3}
  run(out, "--do_train", **start(model, None, input_file=path, init_checkpoint=trained, **flags))
  assert "; 0 are new." in log.text
  assert checkpoint_steps(out) == [0, 3]
  before, after = weights(trained), tf.train.load_checkpoint(str(out / "model.ckpt-0"))
  for name, value in before.items():
    if re.search("/adam_[mv]$|^global_step$", name):
      assert not after.get_tensor(name).any()
    else:
      np.testing.assert_array_equal(after.get_tensor(name), value, err_msg=name)


# ---- Masked words -------------------------------------------------------------------------------


@pytest.fixture(name="filler", scope="module")
def _filler(trained):
  return run_pretraining.MaskFiller.from_directory(str(trained), top_k=3)


def masked_text(animal):
  """A text like those of the records."""
  return f"The {animal.title()} says [MASK].[SEP] The {animal} says [MASK]."


def test_masked_words_are_guessed(filler):
  for animal, sound in zip(ANIMALS, SOUNDS):
    masks = filler.fill(masked_text(animal))
    assert [words[0][0] for words in masks] == [sound, sound]
    for words in masks:
      values = [value for _, value in words]
      assert len(values) == 3 and 0.5 < sum(values) <= 1.000001
      assert values == sorted(values, reverse=True)


def test_many_texts_are_like_each_alone(filler):
  texts = ["the cow says [MASK].", "[MASK]", "", "no mask", f"{masked_text('owl')} {'old ' * 20}"]
  together = filler.fill_all(texts)
  assert [len(masks) for masks in together] == [1, 1, 0, 0, 2]
  for text, masks in zip(texts, together):
    for got, want in zip(masks, filler.fill(text)):
      assert [word for word, _ in got] == [word for word, _ in want]
      assert [p for _, p in got] == pytest.approx([p for _, p in want], abs=1e-5)


def test_words_for_text_and_file(trained, tmp_path, capsys):
  again = copied(trained, tmp_path)
  lines = tmp_path / "lines.txt"
  lines.write_text(f"{masked_text('owl')}\n\nthe [MASK] says meow.\n")
  run(again, "--do_predict", text=masked_text("dog"), predict_file=lines, top_k=2)
  out = capsys.readouterr().out.splitlines()
  assert out[0] == masked_text("dog") and re.match(
    r"  1: woof [01]\.\d{3}  \w+ [01]\.\d{3}$", out[1]
  )
  assert out[3] == masked_text("owl") and out[5].startswith("  2: hoot 0.")
  rows = [json.loads(line) for line in (again / "mask_predictions.jsonl").open()]
  assert [row["text"] for row in rows] == [out[0], out[3], out[6]]
  assert [[len(words) for words in row["masks"]] for row in rows] == [[2, 2], [2, 2], [2]]
  best = rows[0]["masks"][0][0]
  assert best["word"] == "woof" and f"{best['probability']:.3f}" in out[1]


# ---- The vocabulary and the records' metadata ---------------------------------------------------


def test_records_with_metadata_and_no_vocabulary(model, corpus, tmp_path, monkeypatch):
  def refuse(path, *_):
    raise AssertionError(f"{path} is read through")

  monkeypatch.setattr(input_pipeline, "count_records", refuse)
  monkeypatch.setattr(input_pipeline, "read_some", refuse)
  out = tmp_path / "out"
  flags = start(model, None, input_file=f"{corpus}/r*", eval_file=None, vocab_file=None)
  run(out, "--do_train", "--do_eval", **{**flags, "num_train_steps": 2})
  metadata = json.loads((corpus / "r.meta.json").read_text())
  metrics = json.loads((out / "eval_metrics.json").read_text())
  assert metrics["num_records"] == min(800, metadata["num_instances"])
  assert len(metrics["input_files"]) == 2
  assert not (out / "vocab.txt").exists()
  # The records' casing, which masked words need.
  assert json.loads((out / "run.json").read_text())["flags"]["do_lower_case"] is False
  with pytest.raises(files.InputError, match="--vocab_file is missing: --do_predict needs it"):
    run(out, "--do_predict", text="the [MASK]")
  run(out, "--do_predict", text="the [MASK]", vocab_file=model / "vocab.txt")
  assert (out / "mask_predictions.jsonl").exists()


def test_evaluation_while_training(model, data, tmp_path):
  flags = {"num_train_steps": 20, "eval_steps": 15, "keep_best": True}
  run(tmp_path, "--do_train", "--do_eval", **start(model, data, **flags))
  assert_best_is_used(tmp_path, "loss", [15, 20], sign=-1)


@pytest.fixture(name="refused")
def _refused(model, data, tmp_path):
  """See tiny_runs.Refusal."""
  return Refusal(
    run, lambda **flags: start(model, data, **flags), tmp_path / "out", "--do_train", "--do_eval"
  )


@pytest.mark.parametrize(
  ("flags", "match"),
  [
    ({"max_seq_length": 24}, "max_seq_length is 16 there, and not 24"),
    ({"max_predictions_per_seq": 2}, "max_predictions_per_seq is 3 there, and not 2"),
    ({"do_lower_case": True}, "do_lower_case is False there, and not True"),
  ],
)
def test_metadata_that_does_not_fit(refused, corpus, trained, flags, match):
  refused(match, input_file=f"{corpus}/r-*", **flags)
  refused(match, "--do_eval", eval_file=f"{corpus}/r-*", init_checkpoint=trained, **flags)


def test_metadata_of_another_vocabulary(refused, corpus, tmp_path):
  words = [*VOCAB, "more"]
  save_model(tmp_path, words, **WIDTH)
  other = {**start_flags(tmp_path), "do_lower_case": False}
  want = f"vocab_size is {len(VOCAB)} there, and not {len(words)}"
  refused(want, input_file=f"{corpus}/r-*", **other)
  refused(want, input_file=f"{corpus}/r-*", **{**other, "vocab_file": None})
  save_model(tmp_path, [*VOCAB[:-1], "same_size"], **WIDTH)
  refused("vocab_sha256 is", input_file=f"{corpus}/r-*", **other)


# ---- Other refusals -----------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("flags", "match"),
  [
    ({"input_file": None}, "--input_file is missing: --do_train needs it"),
    ({"input_file": "nowhere-*"}, "--input_file: there is no file 'nowhere-\\*', nor one that"),
    ({"eval_file": "nowhere"}, "--eval_file: there is no file 'nowhere'"),
    ({"max_seq_length": 64}, "--max_seq_length=64 is more than the 32 positions"),
    ({"max_seq_length": 24}, "train-0: record 1: found 16 values of input_ids, and not 24"),
    ({"max_predictions_per_seq": 4}, "found 3 values of masked_lm_positions, and not 4"),
    ({"num_train_steps": 0}, "num_train_steps"),
  ],
)
def test_impossible_flags(refused, flags, match):
  refused(match, **flags)


def test_nothing_to_do(refused):
  refused("nothing to do: give --do_train, --do_eval or --do_predict", "--nodo_train")


def test_an_encoder_alone_cannot_be_evaluated(refused):
  refused("has no pre-training heads", "--do_eval")
  refused("has no pre-training heads", "--do_predict", text="[MASK]")


def test_unusable_records(refused, data, tmp_path):
  whole = (data / "dev").read_bytes()
  broken = tmp_path / "broken"
  for content, match in (
    (whole[:-10], "broken: cannot be read as TFRecord: truncated record"),
    (b"The rain began soon.\n" * 9, "broken: cannot be read as TFRecord: corrupted record"),
    (whole[:300] + b"?" + whole[301:], "broken: cannot be read as TFRecord: corrupted record"),
    (b"", "broken: no records"),
  ):
    broken.write_bytes(content)
    refused(match, input_file=f"{data}/dev,{broken}" if content else broken)
  with tf.python_io.TFRecordWriter(str(broken)) as writer:
    writer.write(b"The rain began soon.")
  refused("broken: record 1: is no tf.train.Example", eval_file=broken)


def test_word_pieces_that_the_model_does_not_have(refused, tmp_path):
  (row,) = make_rows(1)
  row["masked_lm_ids"][0] = len(VOCAB)
  write_rows(tmp_path / "other", [row])
  refused(f"found word piece {len(VOCAB)}, and vocab_size is", input_file=tmp_path / "other")


def test_damage_that_shows_only_in_training_names_the_file(model, corpus, tmp_path):
  """Files whose sizes are those of the metadata are not read through first."""
  copy = copied(corpus, tmp_path)
  broken = copy / "r-00001-of-00002"
  content = bytearray(broken.read_bytes())
  content[400] ^= 255
  broken.write_bytes(content)
  flags = start(model, None, input_file=f"{copy}/r-*", vocab_file=None, num_train_steps=2)
  with pytest.raises(files.InputError, match=f"{re.escape(str(broken))}: cannot be read as TFReco"):
    run(tmp_path / "out", "--do_train", **flags)


def test_texts_that_cannot_be_filled_in(refused, trained, model, tmp_path):
  lines = tmp_path / "lines.txt"
  lines.write_text("A [MASK].\nA [mask].\n")
  again = copied(trained, tmp_path)
  for match, flags in (
    ("--do_predict: nothing to fill in; give --text", {}),
    (r"--text: found no \[MASK\]", {"text": "A dog."}),
    (r"lines.txt:2: found no \[MASK\]", {"predict_file": lines}),
    ("nowhere.txt: cannot be read", {"predict_file": "nowhere.txt"}),
  ):
    refused(match, "--do_predict", output_dir=again, **flags)


def test_a_vocabulary_without_a_mask(refused, trained, tmp_path):
  vocab = tmp_path / "vocab.txt"
  vocab.write_text((trained / "vocab.txt").read_text().replace("[MASK]", "[NONE]"))
  refused(r"vocab.txt: has no \[MASK\]", "--do_predict", text="a [MASK]", vocab_file=vocab)


def test_a_directory_of_another_script(refused, trained, tmp_path):
  again = copied(trained, tmp_path)
  text = (again / "run.json").read_text()
  (again / "run.json").write_text(text.replace("run_pretraining", "run_squad"))
  refused("was made by run_squad.py", output_dir=again)
  with pytest.raises(files.InputError, match=r"was made by run_squad.py"):
    run_pretraining.MaskFiller.from_directory(str(again))

  other = tmp_path / "other"
  other.mkdir()
  prefix = save_checkpoint(other / "model.ckpt-1", {"output_weights": [0.0]})
  tf.train.update_checkpoint_state(str(other), os.path.basename(prefix))
  refused("has the variable output_weights of run_classifier.py", output_dir=other)


# ---- As a library -------------------------------------------------------------------------------


def test_model_fn_trains_and_evaluates_alone():
  config = modeling.BertConfig.from_dict(CONFIG)
  model_fn = run_pretraining.model_fn_builder(config, None, 1e-3, 10, 1, False, False)
  with tf.Graph().as_default(), pytest.raises(ValueError, match="modes train, eval, not infer"):
    features = {name: tf.constant([value]) for name, value in make_row(0, 1, 0).items()}
    model_fn(features, None, tf.estimator.ModeKeys.PREDICT, {})
