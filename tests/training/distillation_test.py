"""Distillation: losses by hand, the student's start, and kept logits of the teacher."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tiny_runs import SPECIAL, config_of, save_checkpoint, save_encoder

import modeling
import tokenization
from toolkit.records import input_pipeline, tf_records
from toolkit.serving import predictor
from toolkit.support import files
from toolkit.training import distillation

VOCAB = [*SPECIAL, "a", "b", "c"]


def evaluate(build):
  with tf.Graph().as_default(), tf.Session() as session:
    return session.run(build())


# ---- A student of some layers -------------------------------------------------------------------


def test_layers_are_counted_anew():
  weights = {
    "bert/embeddings/word_embeddings": "e",
    **{f"bert/encoder/layer_{n}/output/dense/kernel": str(n) for n in range(12)},
    "cls/squad/output_weights": "h",
  }
  assert distillation.student_weights(weights, (0, 5, 11)) == {
    "bert/embeddings/word_embeddings": "e",
    "bert/encoder/layer_0/output/dense/kernel": "0",
    "bert/encoder/layer_1/output/dense/kernel": "5",
    "bert/encoder/layer_2/output/dense/kernel": "11",
    "cls/squad/output_weights": "h",
  }


@pytest.fixture(name="teacher", scope="module")
def _teacher(tmp_path_factory):
  directory = tmp_path_factory.mktemp("teacher")
  config = config_of(VOCAB, num_hidden_layers=3)
  save_encoder(directory / "model.ckpt", config)
  config = modeling.BertConfig.from_dict(config)
  return distillation.Teacher(str(directory), str(directory / "model.ckpt"), config, {}, None)


@pytest.mark.parametrize(
  ("text", "match"),
  [
    ("0,3", "no layer 3 in .*; its 3 layers are 0 to 2"),
    ("1,0", "each must be higher"),
    ("1,1", "each must be higher"),
    ("0,-1", "found '0,-1'"),
    ("", "found ''"),
    ("all", "found 'all'"),
  ],
)
def test_layers_that_cannot_be_taken(teacher, text, match):
  with pytest.raises(files.InputError, match=match):
    distillation.parse_layers(text, teacher)


def test_a_student_begins_as_its_teacher(teacher, tmp_path):
  assert distillation.parse_layers("0, 2", teacher) == (0, 2)
  distillation.write_student(str(tmp_path), teacher, (0, 2))
  paths = distillation.start_paths(str(tmp_path))
  config = modeling.BertConfig.from_json_file(paths["bert_config_file"])
  assert config.to_dict() == {**teacher.config.to_dict(), "num_hidden_layers": 2}
  old = tf.train.load_checkpoint(teacher.checkpoint)
  new = tf.train.load_checkpoint(paths["init_checkpoint"])
  name = "bert/encoder/layer_%d/attention/self/query/kernel"
  assert not new.has_tensor(name % 2)
  for mine, its in ((name % 1, name % 2), ("bert/pooler/dense/kernel", "bert/pooler/dense/kernel")):
    np.testing.assert_array_equal(new.get_tensor(mine), old.get_tensor(its))


def test_a_students_checkpoint_has_no_traces_of_training(tmp_path):
  head = np.ones([2, 3], np.float32)
  prefix = save_checkpoint(
    tmp_path / "old", {"output_weights": head, "output_weights/adam_m": head, "global_step": 5}
  )
  teacher = distillation.Teacher("", prefix, modeling.BertConfig(8), {}, None)
  distillation.write_student(str(tmp_path), teacher, (0,))
  saved = tf.train.list_variables(distillation.start_paths(str(tmp_path))["init_checkpoint"])
  assert saved == [("output_weights", [2, 3])]


def test_a_student_of_a_teacher_in_a_scope(teacher, tmp_path):
  reader = tf.train.load_checkpoint(teacher.checkpoint)
  names = reader.get_variable_to_shape_map()
  scoped = {f"module/{name}": reader.get_tensor(name) for name in names}
  head = np.ones([2, 16], np.float32)
  directory = tmp_path / "teacher"
  directory.mkdir()
  prefix = save_checkpoint(directory / "model.ckpt", {**scoped, "output_weights": head})
  tf.train.update_checkpoint_state(str(directory), prefix)
  (directory / "vocab.txt").write_text("\n".join(VOCAB))
  (directory / "bert_config.json").write_text(teacher.config.to_json_string())
  found = distillation.find_teacher(str(directory), "run_classifier")
  for output_dir, its in ((tmp_path / "a", teacher), (tmp_path / "b", found)):
    distillation.write_student(str(output_dir), its, (0, 2))
  want, got = (
    tf.train.load_checkpoint(distillation.start_paths(str(tmp_path / name))["init_checkpoint"])
    for name in "ab"
  )
  wanted = want.get_variable_to_shape_map()
  assert got.get_variable_to_shape_map() == {**wanted, "output_weights": [2, 16]}
  for name in wanted:
    np.testing.assert_array_equal(got.get_tensor(name), want.get_tensor(name))


@pytest.mark.parametrize(
  ("own", "other", "line"),
  [
    ([*VOCAB, "", " "], VOCAB, None),
    ([*VOCAB[:5], "", "", *VOCAB[5:]], [*VOCAB[:5], " ", "\u3000", *VOCAB[5:]], None),
    ([*VOCAB[:5], "", "", *VOCAB[5:]], [*VOCAB[:5], "", *VOCAB[5:]], 7),
    ([*VOCAB, "a"], VOCAB, 6),
    (VOCAB, [*VOCAB, "d"], 9),
  ],
)
def test_vocabularies_with_blank_and_repeated_lines(teacher, tmp_path, own, other, line):
  teacher = teacher._replace(directory=str(tmp_path))
  for name, lines in (("vocab.txt", own), ("other.txt", other)):
    (tmp_path / name).write_text("".join(f"{piece}\n" for piece in lines), encoding="utf-8")
  tokenizer = tokenization.FullTokenizer(str(tmp_path / "other.txt"))
  if line is None:
    teacher.check_input(tokenizer, 8)
    return
  with pytest.raises(files.InputError, match=rf"they differ from line {line} on"):
    teacher.check_input(tokenizer, 8)


# ---- Kept logits --------------------------------------------------------------------------------


ROWS = [(np.arange(n, dtype=np.int32) % 8, np.zeros(n, np.int32)) for n in (3, 9, 5, 4, 6)]


def piece_logits(config, input_ids, input_mask, segment_ids):
  """Logits of each word piece that depend on its word and place, and on all words."""
  model = modeling.BertModel(config, False, input_ids, input_mask, segment_ids)
  return model.get_sequence_output()[:, :, :2]


def count_runs(monkeypatch):
  """List that takes the number of rows of each later run of a predictor."""
  runs, run = [], predictor.Predictor.run

  def counted(self, rows, on_batch=None):
    runs.append(len(rows))
    return run(self, rows, on_batch)

  monkeypatch.setattr(predictor.Predictor, "run", counted)
  return runs


def test_logits_are_computed_once(teacher, tmp_path, monkeypatch):
  monkeypatch.setattr(distillation, "_CHUNK", 2)
  runs = count_runs(monkeypatch)
  first = distillation.compute_logits(teacher, piece_logits, ROWS, str(tmp_path))
  assert runs == [2, 2, 1]
  assert [values.shape for values in first] == [(3, 2), (9, 2), (5, 2), (4, 2), (6, 2)]
  for row, values in zip(ROWS, first):  # each as if it were alone
    (alone,) = distillation.compute_logits(teacher, piece_logits, [row], str(tmp_path / "alone"))
    np.testing.assert_allclose(values, alone, atol=1e-5)
  del runs[:]
  second = distillation.compute_logits(teacher, piece_logits, ROWS, str(tmp_path))
  assert len(second) == len(first)
  for values, again in zip(first, second):
    np.testing.assert_array_equal(values, again)
  assert not runs


def test_a_killed_pass_goes_on(teacher, tmp_path, monkeypatch):
  monkeypatch.setattr(distillation, "_CHUNK", 2)
  whole = distillation.compute_logits(teacher, piece_logits, ROWS, str(tmp_path))
  (directory,) = tmp_path.glob("teacher-logits-*")
  (directory / "00001.npz").unlink()
  (directory / "00002.npz").write_bytes(b"PK half a file")
  runs = count_runs(monkeypatch)
  again = distillation.compute_logits(teacher, piece_logits, ROWS, str(tmp_path))
  assert runs == [2, 1]
  for values, value in zip(whole, again):
    np.testing.assert_array_equal(values, value)


def test_other_inputs_have_other_logits(teacher):
  fingerprint = distillation.fingerprint(teacher, ROWS)
  ids, segments = ROWS[0]
  for row in ((ids + 1, segments), (ids, segments + 1), (ids[:2], segments[:2])):
    assert distillation.fingerprint(teacher, [row, *ROWS[1:]]) != fingerprint
  config = distillation.student_config(teacher.config, (0,))
  assert distillation.fingerprint(teacher._replace(config=config), ROWS) != fingerprint
  assert distillation.fingerprint(teacher, ROWS) == fingerprint


def table(length):
  per_token = [
    tf_records.Feature(name, np.int32, (length,), per_token=True)
    for name in ("input_ids", "input_mask", "segment_ids")
  ]
  return [*per_token, tf_records.Feature("label_ids", np.int32)]


def write_rows(path, length):
  def padded(values):
    return [*values, *[0] * (length - len(values))]

  rows = [
    {
      "input_ids": padded(ids),
      "input_mask": padded([1] * len(ids)),
      "segment_ids": padded(segments),
      "label_ids": number,
    }
    for number, (ids, segments) in enumerate(ROWS)
  ]
  tf_records.write_records(str(path), rows, table(length))


@pytest.mark.parametrize("per_token", [True, False])
def test_records_with_logits(teacher, tmp_path, per_token):
  write_rows(tmp_path / "in", length=12)

  def build(*arguments):
    return piece_logits(*arguments) if per_token else piece_logits(*arguments)[:, 0]

  new = distillation.add_logits(
    teacher, build, str(tmp_path / "in"), str(tmp_path / "out"), table(12), str(tmp_path)
  )
  logits = distillation.compute_logits(teacher, build, ROWS, str(tmp_path))
  for number, row in enumerate(input_pipeline.read_some(str(tmp_path / "out"), new)):
    assert row["label_ids"] == [number]
    found = np.reshape(row["teacher_logits"], [12, 2] if per_token else [2])
    length = len(logits[number])
    np.testing.assert_array_equal(found[:length], logits[number])
    assert not found[length:].any()
  # TensorFlow reads them, too, and cuts them with the rest.
  input_fn = input_pipeline.read_input_fn(str(tmp_path / "out"), new, True, True, trim_padding=True)
  batch = evaluate(lambda: tf.data.make_one_shot_iterator(input_fn({"batch_size": 1})).get_next())
  number, width = batch["label_ids"][0], batch["input_ids"].shape[1]
  assert width == (12 if len(ROWS[number][0]) > 8 else 8)
  expected = np.zeros([width, 2])
  expected[: len(ROWS[number][0])] = logits[number] if per_token else 0
  np.testing.assert_allclose(
    batch["teacher_logits"][0], expected if per_token else logits[number], atol=1e-5
  )
