"""Tagging from flags to files, with a tiny model of a language where prepositions decide the tags.

A name after "in" is a place, and one after "by" a person. Both take the same names.
"""

import json
import random

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
  start_flags,
  weights,
  without_dropout,
)

import modeling
import run_ner
from toolkit.formats import model_directory
from toolkit.metrics import ner_metrics
from toolkit.metrics.entities import find_entities
from toolkit.support import command_line, files
from toolkit.tasks import tagging

FIRST, SECOND = ["ann", "bob", "joesa"], ["eve", "suelo", "tomsa"]
VOCAB = [*SPECIAL, "ann", "bob", "eve", "joe", "sue", "tom", "##sa", "##lo"]
VOCAB += ["made", "in", "by", "a", "hat", "cup", "old", "."]
LABELS = ["O", "B-LOC", "B-PER", "I-LOC", "I-PER"]
EPOCHS = 20

NAMES = dict.fromkeys([*FIRST, *SECOND], "NOUN")
SPEECH = {**NAMES, "hat": "NOUN", "cup": "NOUN", "a": "DET", "old": "ADJ", "made": "VERB"}
SPEECH.update({"in": "ADP", "by": "ADP", ".": "PUNCT"})
COLUMNS = {"sentence_column": "Sentence #", "token_column": "Word", "label_column": "POS"}


# ---- A user's files -----------------------------------------------------------------------------


def sentence(rng):
  """List of (word, tag), such as those of "old hat made by ann eve ." """
  preposition, name = rng.choice([("in", "LOC"), ("by", "PER")])
  words = [(word, "O") for word in [rng.choice(["a", "old"]), rng.choice(["hat", "cup"]), "made"]]
  words = [*words[rng.randrange(3) :], (preposition, "O"), (rng.choice(FIRST), f"B-{name}")]
  if rng.random() < 0.5:
    words.append((rng.choice(SECOND), f"I-{name}"))
  return [*words, (".", "O")]


def corpus_text(seed, num_sentences):
  rng = random.Random(seed)
  sentences = [sentence(rng) for _ in range(num_sentences)]
  return "\n".join("".join(f"{word} {tag}\n" for word, tag in rows) for rows in sentences)


@pytest.fixture(name="model", scope="module")
def _model(tmp_path_factory):
  """A directory with a model to start from."""
  directory = tmp_path_factory.mktemp("model")
  save_model(directory, VOCAB)
  return directory


@pytest.fixture(name="data", scope="module")
def _data(tmp_path_factory):
  """A directory with train.txt, dev.txt and test.txt."""
  directory = tmp_path_factory.mktemp("data")
  for seed, (name, size) in enumerate([("train", 160), ("dev", 40), ("test", 30)]):
    (directory / f"{name}.txt").write_text(corpus_text(seed, size))
  return directory


def run(output_dir, *arguments, **flags):
  """Runs main as a command line would."""
  named = [f"--{name}={value}" for name, value in {"output_dir": output_dir, **flags}.items()]
  command_line.parse(run_ner.flags, [*arguments, *named])
  run_ner.main([])


def start(model, data, **flags):
  """The flags of a training run, which may be changed; those that are None are left out."""
  flags = {
    **start_flags(model),
    "data_dir": data,
    "max_seq_length": 32,
    "train_batch_size": 8,
    "num_train_epochs": EPOCHS,
    "learning_rate": 0.002,
    **flags,
  }
  return {name: value for name, value in flags.items() if value is not None}


@pytest.fixture(name="speech", scope="module")
def _speech(tmp_path_factory):
  """A directory with train.csv, dev.csv and test.csv of parts of speech, and a sentence column."""
  directory = tmp_path_factory.mktemp("speech")
  for seed, (name, size) in enumerate([("train", 160), ("dev", 40), ("test", 30)]):
    rng = random.Random(seed)
    rows = ["Sentence #,Word,POS,Tag"]
    for number in range(size):
      for place, (word, tag) in enumerate(sentence(rng)):
        mark = "" if place else f"Sentence: {number}"
        rows.append(f"{mark},{word},{SPEECH[word]},{tag}")
    (directory / f"{name}.csv").write_text("\n".join(rows) + "\n")
  return directory


@pytest.fixture(name="tagged", scope="module")
def _tagged(model, speech, tmp_path_factory):
  """The output directory of a whole run on parts of speech. Tests copy it before they change it."""
  directory = tmp_path_factory.mktemp("run") / "tagged"
  flags = {"num_train_epochs": 12, "eval_steps": 120, "best_metric": "macro_f1", **COLUMNS}
  switches = ("--do_train", "--do_eval", "--do_predict", "--keep_best")
  with without_dropout():
    run(directory, *switches, **start(model, speech, **flags))
  return directory


@pytest.fixture(name="trained", scope="module")
def _trained(model, data, tmp_path_factory):
  """The output directory of a whole run. Tests copy it before they change it."""
  directory = tmp_path_factory.mktemp("run") / "trained"
  with without_dropout():
    run(directory, "--do_train", "--do_eval", "--do_predict", **start(model, data))
  return directory


def read_json(directory, name):
  return json.loads((directory / name).read_text())


def read_records(directory):
  return [json.loads(line) for line in (directory / "predictions.jsonl").read_text().splitlines()]


def predicted_tags(directory):
  return [record["tags"] for record in read_records(directory)]


# ---- A whole run --------------------------------------------------------------------------------


def test_it_learns_to_tag(trained):
  metrics = read_json(trained, "eval_metrics.json")
  assert metrics["f1"] > 0.8 and metrics["accuracy"] > 0.8
  assert set(metrics["per_type"]) == {"LOC", "PER"}
  assert metrics["set"] == "dev" and metrics["global_step"] == 160 / 8 * EPOCHS


def test_files_of_a_run(trained):
  lines = (trained / "eval_results.txt").read_text().splitlines()
  results = dict(line.split(" = ") for line in lines)
  assert list(results) == [
    "eval_accuracy",
    "eval_f1",
    "eval_loss",
    "eval_precision",
    "eval_recall",
    "global_step",
  ]
  metrics = read_json(trained, "eval_metrics.json")
  assert float(results["eval_f1"]) == metrics["f1"]
  assert float(results["eval_loss"]) == metrics["loss"]
  assert (trained / "label_list.txt").read_text().split() == LABELS
  for name in ("train.tf_record", "eval.tf_record", "bert_config.json", "vocab.txt", "run.json"):
    assert (trained / name).exists()


def test_predictions_stand_beside_the_words(trained, data):
  gold = (data / "test.txt").read_text().splitlines()
  predictions = (trained / "predictions.txt").read_text().splitlines()
  assert [line.rsplit(" ", 1)[0] for line in predictions] == gold
  columns = [line.split(" ") for line in predictions if line]
  found = read_records(trained)
  assert [row[0] for row in columns] == [word for record in found for word in record["words"]]
  assert [row[2] for row in columns] == [tag for record in found for tag in record["tags"]]
  assert len(found) == 30
  right = sum(row[1] == row[2] for row in columns)
  assert right / len(columns) > 0.8
  for record in found:
    assert record["text"] == " ".join(record["words"])
    assert len(record["entities"]) == len(find_entities(record["tags"]))
    for entity in record["entities"]:
      words = record["words"][entity["start_word"] : entity["end_word"]]
      characters = record["text"][entity["start_char"] : entity["end_char"]]
      assert entity["text"] == characters == " ".join(words)


def test_evaluation_is_that_of_the_predictions(trained, data, tmp_path, log):
  again = copied(trained, tmp_path)
  run(again, "--do_predict", predict_file=data / "dev.txt")
  corpus = tagging.read_corpus(str(data / "dev.txt"))
  want = ner_metrics.entity_metrics([s.tags for s in corpus.sentences], predicted_tags(again))
  metrics = read_json(trained, "eval_metrics.json")
  assert {name: metrics[name] for name in want} == want
  assert f"  f1 = {want['f1']}" in log.text


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


# ---- Predictions --------------------------------------------------------------------------------


def test_words_without_tags(trained, data, tmp_path):
  again = copied(trained, tmp_path)
  words = [line.split(" ")[0] for line in (data / "test.txt").read_text().splitlines()]
  path = tmp_path / "words.txt"
  path.write_text("-DOCSTART-\n\n" + "\n".join(words) + "\n")
  run(again, "--do_predict", predict_file=path)
  assert read_records(again) == read_records(trained)
  lines = (again / "predictions.txt").read_text().splitlines()
  assert lines[:2] == ["-DOCSTART- O", ""]
  assert [line.split(" ")[0] for line in lines[2:]] == words
  path.write_text("\n".join(f"{word} NN" if word else "" for word in words))
  run(again, "--do_predict", "--nohas_tags", predict_file=path)
  assert read_records(again) == read_records(trained)


def test_text_file(trained, tmp_path):
  again = copied(trained, tmp_path)
  path = tmp_path / "text.txt"
  path.write_text("A hat by Ann  Eve.\n\nOld cup made in Joesa.\n\u200b\n")
  run(again, "--do_predict", predict_text_file=path)
  first, blank, second, last = read_records(again)
  assert first["words"] == ["A", "hat", "by", "Ann", "Eve", "."]
  (entity,) = first["entities"]
  assert (entity["text"], entity["type"]) == ("Ann  Eve", "PER")
  assert (entity["start_char"], entity["end_char"]) == (9, 17)
  assert blank["words"] == last["words"] == []
  assert [(e["text"], e["type"]) for e in second["entities"]] == [("Joesa", "LOC")]
  lines = (again / "predictions.txt").read_text().splitlines()
  assert lines[3:6] == ["Ann B-PER", "Eve I-PER", ". O"]


def test_words_without_word_pieces(trained, tmp_path, log):
  again = copied(trained, tmp_path)
  path = tmp_path / "words.txt"
  path.write_text("in\n\u200b\n\n\u200b\n")
  run(again, "--do_predict", predict_file=path)
  assert [record["words"] for record in read_records(again)] == [["in", "\u200b"], ["\u200b"]]
  assert predicted_tags(again)[1] == ["O"]
  assert "2 words have no word piece" in log.text


def without_context(trained, directory):
  """Writes a copy of a model in which no word piece sees another or its own place."""
  directory.mkdir()
  variables = weights(trained)
  for name, value in variables.items():
    if "attention/output/dense" in name or name.endswith("position_embeddings"):
      variables[name] = np.zeros_like(value)
  save_checkpoint(directory / "model.ckpt", variables)
  (directory / "label_list.txt").write_text("".join(f"{label}\n" for label in LABELS))
  return directory / "model.ckpt"


def test_long_sentences_are_not_cut(trained, tmp_path):
  checkpoint = without_context(trained, tmp_path / "model")
  rng = random.Random(5)
  path = tmp_path / "long.txt"
  rows = [[w for _ in range(n) for w, _ in sentence(rng)] for n in (1, 3, 20)]
  path.write_text("\n\n".join("\n".join(words) for words in rows) + "\n")
  files_of = {name: trained / name for name in ("bert_config.json", "vocab.txt")}
  found = {}
  for length in (5, 32):
    run(
      tmp_path / f"out{length}",
      "--do_predict",
      bert_config_file=files_of["bert_config.json"],
      vocab_file=files_of["vocab.txt"],
      init_checkpoint=checkpoint,
      predict_file=path,
      max_seq_length=length,
    )
    found[length] = read_records(tmp_path / f"out{length}")
  assert [record["words"] for record in found[5]] == rows
  assert found[5] == found[32]
  assert {tag for record in found[5] for tag in record["tags"]} > {"O"}


# ---- Raw text -----------------------------------------------------------------------------------


def test_tagger_gives_the_tags_of_prediction(trained):
  tagger = run_ner.Tagger.from_directory(str(trained))
  for record in read_records(trained):
    assert tagger.tag(record["text"]) == record
  assert tagger.tag("") == {"text": "", "words": [], "tags": [], "entities": []}
  text = " ".join(record["text"] for record in read_records(trained))
  assert len(tagger.tag(text)["tags"]) == len(text.split())


def test_text_in_a_flag(trained, capsys):
  run(trained, text="A cup made by  Joesa\nTomsa.")
  assert capsys.readouterr().out == "Joesa Tomsa  PER  (characters 15 to 26)\n"
  run(trained, text=" ")
  assert capsys.readouterr().out == "no entities\n"


# ---- Tags of single words -----------------------------------------------------------------------


def test_it_learns_parts_of_speech(tagged):
  metrics = read_json(tagged, "eval_metrics.json")
  assert metrics["accuracy"] > 0.9 and metrics["macro_f1"] > 0.8
  assert set(metrics["per_tag"]) == set(SPEECH.values())
  results = (tagged / "eval_results.txt").read_text()
  names = [line.split(" = ")[0] for line in results.splitlines()]
  assert names == ["eval_accuracy", "eval_loss", "eval_macro_f1", "global_step"]
  assert (tagged / "label_list.txt").read_text().split() == sorted({*SPEECH.values()})
  assert read_json(tagged, "run.json")["flags"]["tag_scheme"] == "none"
  assert_best_is_used(tagged, "macro_f1", [120, 240])


def test_predictions_of_parts_of_speech(tagged, speech):
  rows = [line.split(",") for line in (speech / "test.csv").read_text().splitlines()]
  found = [line.split(",") for line in (tagged / "predictions.txt").read_text().splitlines()]
  assert found[0] == ["Sentence #", "Word", "POS", "predicted"]
  assert [row[:3] for row in found] == [row[:3] for row in rows]
  records = read_records(tagged)
  assert len(records) == 30
  assert [row[3] for row in found[1:]] == [tag for record in records for tag in record["tags"]]
  assert set(records[0]) == {"text", "words", "tags"}


def test_the_directory_alone_tags_parts_of_speech(tagged, tmp_path, capsys, log):
  again = copied(tagged, tmp_path)
  run(again, "--do_eval")
  assert read_json(again, "eval_metrics.json") == read_json(tagged, "eval_metrics.json")
  tagger = run_ner.Tagger.from_directory(str(again))
  record = read_records(tagged)[0]
  assert tagger.tag(record["text"]) == record
  run(again, text="A hat\nby  Ann.")
  tags = tagger.tag("A hat\nby  Ann.")["tags"]
  words = ["A", "hat", "by", "Ann", "."]
  assert capsys.readouterr().out == "".join(f"{w}  {t}\n" for w, t in zip(words, tags))
  path = tmp_path / "words.csv"
  path.write_text("Sentence #,Word\n1,a\n,\u200b\n")
  log.clear()
  run(again, "--do_predict", predict_file=path)
  (record,) = read_records(again)
  assert len(record["tags"]) == 2 and set(record["tags"]) <= set(SPEECH.values())
  assert "word piece" not in log.text


def test_labels_alone_tell_that_tags_are_of_single_words(tagged, speech, tmp_path):
  """As for a model that was converted."""
  model = tmp_path / "model"
  model.mkdir()
  best = tagged / "best"
  for path in (*best.glob("model.ckpt-*"), best / "checkpoint", best / "label_list.txt"):
    (model / path.name).write_bytes(path.read_bytes())
  flags = {"vocab_file": tagged / "vocab.txt"}
  flags["bert_config_file"] = tagged / "bert_config.json"
  flags["init_checkpoint"] = model
  run(tmp_path / "out", "--do_eval", data_dir=speech, max_seq_length=32, **flags, **COLUMNS)
  want = read_json(tagged, "eval_metrics.json")["per_tag"]
  assert read_json(tmp_path / "out", "eval_metrics.json")["per_tag"] == want


@without_dropout()
def test_a_student_of_parts_of_speech(tagged, tmp_path):
  flags = student(tagged, num_train_epochs=12)
  run(tmp_path, "--do_train", "--do_eval", "--num_accumulation_steps=2", **flags)
  assert read_json(tmp_path, "eval_metrics.json")["accuracy"] > 0.8
  assert read_json(tmp_path, "run.json")["flags"]["tag_scheme"] == "none"


def test_training_goes_on_with_the_tags(model, speech, tmp_path):
  flags = start(model, speech, num_train_epochs=2, **COLUMNS)
  run(tmp_path, "--do_train", **{**flags, "num_train_epochs": 1})
  run(tmp_path, "--do_train", "--do_eval", num_train_epochs=2, train_batch_size=8)
  assert checkpoint_steps(tmp_path)[-1] == 40
  assert "macro_f1" in read_json(tmp_path, "eval_metrics.json")


# ---- As a library -------------------------------------------------------------------------------


def tiny_config():
  return modeling.BertConfig.from_dict(
    {"vocab_size": 10, "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
  )


def test_model_fn_knows_two_modes():
  model_fn = run_ner.model_fn_builder(tiny_config(), 3, None, 1e-3, 10, 1, False, False)
  with tf.Graph().as_default(), pytest.raises(ValueError, match="modes train, infer, not eval"):
    table = tagging.record_features(4)
    features = {feature.name: tf.zeros([1, 4], tf.int32) for feature in table}
    model_fn(features, None, tf.estimator.ModeKeys.EVAL, {})


# ---- Refusals -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_evaluation_while_training(model, data, tmp_path):
  flags = {"num_train_epochs": 1, "eval_steps": 10, "keep_best": True}
  run(tmp_path, "--do_train", "--do_eval", **start(model, data, **flags))
  assert_best_is_used(tmp_path, "f1", [10, 20])


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
    ({"data_dir": None}, "--data_dir is missing: --do_train needs it"),
    ({"data_dir": "nowhere"}, r"nowhere/train\.txt: cannot be read"),
    ({"predict_file": "nowhere.txt"}, r"nowhere\.txt: cannot be read"),
    ({"predict_file": "a", "predict_text_file": "b"}, "--predict_file and --predict_text_file"),
    ({"label_column": 2}, r"train\.txt:1: found 2 columns, too few for --label_column=2"),
    ({"token_column": 1}, r"train\.txt:1: .*are the same"),
    ({"delimiter": ","}, r"train\.txt:1: found 1 column, .*--delimiter"),
    ({"tag_scheme": "iob3"}, "tag_scheme"),
    ({"max_seq_length": 2}, "max_seq_length"),
    ({"max_seq_length": 64}, "--max_seq_length=64 is more than the 32 positions"),
  ],
)
def test_impossible_flags(refused, flags, match):
  refused(match, **flags)


@pytest.mark.parametrize(
  ("name", "text", "match"),
  [
    ("train", "", r"train\.txt: has no words"),
    ("train", "a O\n", "every tag is O"),
    ("train", "ann B-PER\n", r"dev\.txt:\d+: found the tag 'B-LOC'.*known tags are O, B-PER"),
    ("dev", "a O\nb\n", r"dev\.txt:2: found 1 column"),
    ("dev", "a O\n\nb B-MISC\n", r"dev\.txt:3: found the tag 'B-MISC'"),
    ("test", "a O\nb X\n", r"test\.txt:2: found the tag 'X'"),
    ("test", "a I-MISC\n", r"test\.txt:1: found the tag 'B-MISC'"),
  ],
)
def test_unusable_files(refused, data, tmp_path, name, text, match):
  for each in ("train", "dev", "test"):
    (tmp_path / f"{each}.txt").write_text((data / f"{each}.txt").read_text())
  (tmp_path / f"{name}.txt").write_text(text)
  refused(match, data_dir=tmp_path)


@pytest.mark.parametrize(
  ("flags", "match"),
  [
    ({"best_metric": "f1"}, "there is no metric f1; choose one of accuracy, macro_f1, loss"),
    ({"tag_scheme": "iob2"}, r"train\.csv:2: found the tag '[A-Z]+'.*--tag_scheme=none"),
    ({"label_column": "Pos"}, "--label_column: there is no column 'Pos'"),
    ({"token_column": 1, "label_column": 2, "sentence_column": 0}, "found a header; give columns"),
  ],
)
def test_impossible_flags_of_a_table(refused, speech, flags, match):
  refused(match, **{"data_dir": speech, "eval_steps": 5, **COLUMNS, **flags})


def test_tags_of_both_kinds(refused, data, tmp_path):
  for name in ("train", "dev", "test"):
    (tmp_path / f"{name}.txt").write_text((data / f"{name}.txt").read_text())
  with (tmp_path / "train.txt").open("a") as f:
    f.write("\nhat NOUN\n")
  refused(r"train\.txt:\d+: found the tag 'NOUN'.*--tag_scheme=none", data_dir=tmp_path)


def test_nothing_to_do(refused):
  refused("nothing to do", "--nodo_train")


def test_training_for_less_than_a_step(model, data, tmp_path):
  with pytest.raises(files.InputError, match="no training step: 160 windows"):
    run(tmp_path, "--do_train", **start(model, data, num_train_epochs=0.01))
  assert not checkpoint_steps(tmp_path)


def test_an_encoder_alone_cannot_tag(refused, model):
  refused(r"--init_checkpoint: .* has no label_list\.txt", "--do_predict")
  labels = model / "label_list.txt"
  labels.write_text("".join(f"{label}\n" for label in LABELS))
  refused("has no tagger of 5 labels", "--do_predict")
  labels.unlink()


def test_a_directory_of_another_task(refused, trained, tmp_path):
  again = copied(trained, tmp_path)
  run_file = again / model_directory.RUN_FILE
  run_file.write_text(run_file.read_text().replace("run_ner", "run_squad"))
  refused(r"was made by run_squad\.py", output_dir=again)
  run_file.unlink()
  with pytest.raises(files.InputError, match=r"cls/ner/output_weights of run_ner\.py"):
    model_directory.check_head(str(again), "run_squad")


def test_a_directory_without_labels_cannot_tag(trained, tmp_path):
  again = copied(trained, tmp_path)
  (again / "label_list.txt").unlink()
  with pytest.raises(files.InputError, match=r"has no label_list\.txt"):
    run_ner.Tagger.from_directory(str(again))
  with pytest.raises(files.InputError, match=r"--output_dir: .* has no label_list\.txt"):
    run(again, "--do_eval")


def test_broken_weights(trained, tmp_path):
  variables = weights(trained)
  variables["cls/ner/output_bias"][0] = np.nan
  checkpoint = save_checkpoint(tmp_path / "model.ckpt", variables)
  for name in ("label_list.txt", "bert_config.json", "vocab.txt"):
    (tmp_path / name).write_text((trained / name).read_text())
  flags = {"init_checkpoint": checkpoint, "bert_config_file": tmp_path / "bert_config.json"}
  flags["vocab_file"] = tmp_path / "vocab.txt"
  path = tmp_path / "words.txt"
  path.write_text("ann\n")
  with pytest.raises(files.InputError, match="outputs are NaN"):
    run(tmp_path / "out", "--do_predict", predict_file=path, max_seq_length=8, **flags)


# ---- A student ----------------------------------------------------------------------------------


def student(trained, **flags):
  return {
    "teacher_dir": trained,
    "student_layers": 1,
    "train_batch_size": 8,
    "num_train_epochs": 8,
    "learning_rate": 0.002,
    **flags,
  }


@without_dropout()
def test_a_student_learns_from_its_teacher(trained, tmp_path):
  run(tmp_path, "--do_train", "--do_eval", **student(trained, distill_alpha=0.9))
  assert read_json(tmp_path, "eval_metrics.json")["f1"] > 0.8
  assert read_json(tmp_path, "bert_config.json")["num_hidden_layers"] == 1
  assert (tmp_path / "label_list.txt").read_text().split() == LABELS


def test_a_student_of_other_tags(trained, data, tmp_path):
  other = tmp_path / "data"
  other.mkdir()
  text = (data / "train.txt").read_text().replace("-PER", "-ORG")
  (other / "train.txt").write_text(text)
  refused = Refusal(run, lambda **f: student(trained, **f), tmp_path / "out", "--do_train")
  refused("--teacher_dir: the labels of .* are 'O', 'B-LOC', .*'B-ORG'", data_dir=other)
