"""Reading the files of classification tasks, and making features of their examples."""

import csv
import json
import logging
import os
import tempfile

import numpy as np
import pytest
import sklearn.utils.class_weight
import tensorflow.compat.v1 as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenization
from toolkit.formats import model_directory
from toolkit.metrics import glue_metrics
from toolkit.records import input_pipeline
from toolkit.support import files
from toolkit.tasks import classification
from toolkit.tasks.classification import InputExample, find_task

VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "sat", "dog", "ran", "##s", "."]


@pytest.fixture(name="tokenizer", scope="module")
def _tokenizer(tmp_path_factory):
  path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
  path.write_text("\n".join(VOCAB) + "\n")
  return tokenization.FullTokenizer(str(path), do_lower_case=True)


@pytest.fixture(name="log")
def _log(caplog):
  caplog.set_level(logging.INFO, logger="absl")
  return caplog


@pytest.fixture(name="write")
def _write(tmp_path):
  """Function of a file's name and its lines (or bytes) that writes it, and returns its path."""

  def write(name, lines):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
      lines if isinstance(lines, bytes) else "".join(f"{x}\n" for x in lines).encode()
    )
    return str(path)

  write.directory = str(tmp_path)
  return write


def fields(examples):
  return [(e.guid, e.text_a, e.text_b, e.label) for e in examples]


def convert(tokenizer, example, labels=("0", "1"), length=12, index=10):
  return classification.convert_single_example(index, example, labels, length, tokenizer)


# ---- Features -----------------------------------------------------------------------------------


def test_features_of_a_pair(tokenizer):
  feature = convert(tokenizer, InputExample("x", "The cats sat.", "A dog", "1"))
  # [CLS] the cat ##s sat . [SEP] [UNK] dog [SEP] [PAD] [PAD]
  assert feature.input_ids == [2, 4, 5, 9, 6, 10, 3, 1, 7, 3, 0, 0]
  assert feature.input_mask == [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0]
  assert feature.segment_ids == [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0]
  assert (feature.label_id, feature.is_real_example, feature.is_truncated) == (1, True, False)


@pytest.mark.parametrize("text_b", [None, "", " \t"])
def test_features_of_a_single_text(tokenizer, text_b):
  feature = convert(tokenizer, InputExample("x", "the dog ran", text_b, "0"), length=6)
  assert feature.input_ids == [2, 4, 7, 8, 3, 0]
  assert feature.input_mask == [1, 1, 1, 1, 1, 0]
  assert feature.segment_ids == [0] * 6


@pytest.mark.parametrize(
  ("text_b", "length", "ids", "segments"),
  [
    (None, 5, [2, 4, 5, 6, 3], [0, 0, 0, 0, 0]),
    ("dog ran .", 8, [2, 4, 5, 6, 3, 7, 8, 3], [0, 0, 0, 0, 0, 1, 1, 1]),
    ("dog", 6, [2, 4, 5, 3, 7, 3], [0, 0, 0, 0, 1, 1]),
    ("dog", 4, [2, 4, 3, 0], [0, 0, 0, 0]),  # nothing of the second text is left
  ],
)
def test_features_of_text_that_is_too_long(tokenizer, text_b, length, ids, segments):
  feature = convert(tokenizer, InputExample("x", "the cat sat .", text_b, "0"), length=length)
  assert feature.input_ids == ids
  assert feature.segment_ids == segments
  assert feature.is_truncated


def test_no_room_for_text(tokenizer):
  with pytest.raises(files.InputError, match=r"--max_seq_length: 3 "):
    convert(tokenizer, InputExample("x", "the", "cat", "0"), length=3)


@given(st.lists(st.integers()), st.lists(st.integers()), st.integers(0, 12))
def test_truncation_leaves_beginnings_of_balanced_length(first, second, max_length):
  a, b = list(first), list(second)
  tokenization._truncate_seq_pair(a, b, max_length)
  assert a == first[: len(a)] and b == second[: len(b)]
  assert len(a) + len(b) == min(max_length, len(first) + len(second))
  if len(a) < len(first) and len(b) < len(second):
    assert len(a) - len(b) in (0, 1)
  elif len(a) < len(first):
    assert len(a) >= len(b)
  elif len(b) < len(second):
    assert len(b) >= len(a) - 1


def test_padding_example(tokenizer):
  feature = convert(tokenizer, classification.PaddingInputExample(), length=4)
  assert classification.feature_row(feature) == {
    "input_ids": [0] * 4,
    "input_mask": [0] * 4,
    "segment_ids": [0] * 4,
    "label_ids": 0,
    "is_real_example": 0,
    "is_labeled": 0,
  }


@pytest.mark.parametrize(("label", "label_id"), [("1", 1), ("0", 0), (None, 0)])
def test_examples_without_a_label_are_marked(tokenizer, label, label_id):
  row = classification.feature_row(convert(tokenizer, InputExample("x", "the cat", label=label)))
  assert (row["label_ids"], row["is_labeled"]) == (label_id, label is not None)


@pytest.mark.parametrize(
  ("label", "labels", "expected"),
  [
    ("b", ["a", "b"], 1),
    (7, [3, 7], 1),
    (None, ["a", "b"], 0),
    ("2.5", [], 2.5),
    (3.75, [], 3.75),
    (None, [], 0.0),
  ],
)
def test_label_id(tokenizer, label, labels, expected):
  label_id = convert(tokenizer, InputExample("x", "the", label=label), labels).label_id
  assert label_id == expected and type(label_id) is type(expected)


@pytest.mark.parametrize(
  ("source", "label", "labels", "message"),
  [
    (None, "c", ["a", "b"], "example x: found label 'c'; known labels are 'a', 'b'"),
    ("f.tsv:9", "1", [0, 1], "f.tsv:9: found label '1'; known labels are 0, 1"),
    ("f.tsv:9", "nan", [], "f.tsv:9: found 'nan' where the score"),
    ("f.tsv:9", "good", [], "f.tsv:9: found 'good' where the score"),
    ("f.tsv:9", "c", [str(i) for i in range(50)], r"'19', ... \(50 in all\)"),
  ],
)
def test_wrong_labels(tokenizer, source, label, labels, message):
  with pytest.raises(files.InputError, match=message):
    convert(tokenizer, InputExample("x", "the", label=label, source=source), labels)


def test_log_of_the_first_examples(tokenizer, log):
  example = InputExample("dev-1", "The cats", label="no")
  classification.convert_examples_to_features([example] * 7, ["yes", "no"], 5, tokenizer)
  assert log.messages[:8] == [
    "Writing example 0 of 7",
    "*** Example ***",
    "guid: dev-1",
    "tokens: [CLS] the cat ##s [SEP]",
    "input_ids: 2 4 5 9 3",
    "input_mask: 1 1 1 1 1",
    "segment_ids: 0 0 0 0 0",
    "label: no (id = 1)",
  ]
  assert log.messages.count("*** Example ***") == 5
  assert "cut" not in log.text


def test_marks_of_several_labels(tokenizer, tmp_path):
  examples = [
    InputExample("0", "the dog", label=("c", "a")),
    InputExample("1", "the cat", label=()),
    InputExample("2", "the cat"),
    classification.PaddingInputExample(),
  ]
  path = str(tmp_path / "train.tf_record")
  classification.file_based_convert_examples_to_features(
    examples, ["a", "b", "c"], 4, tokenizer, path, kind=classification.LABELS
  )
  table = classification.record_features(4, classification.LABELS, 3)
  rows = input_pipeline.read_some(path, table)
  assert [row["label_ids"] for row in rows] == [[1.0, 0.0, 1.0], *[[0.0] * 3] * 3]
  assert [row["is_real_example"] for row in rows] == [[1], [1], [1], [0]]
  wrong = InputExample("3", "the", label=("a", "d"), source="f.tsv:9")
  with pytest.raises(
    files.InputError, match=r"f.tsv:9: found label 'd'; known labels are 'a', 'b'"
  ):
    classification.convert_single_example(9, wrong, ["a", "b"], 4, tokenizer, classification.LABELS)


@pytest.mark.parametrize(
  ("labels", "first_label", "dtype"), [(["a", "b"], "b", np.int32), ([], 1.25, np.float32)]
)
def test_records(tokenizer, tmp_path, log, labels, first_label, dtype):
  examples = [
    InputExample("0", "the dog", label=first_label),
    InputExample("1", "the cat sat", label=first_label),
    classification.PaddingInputExample(),
  ]
  path = str(tmp_path / "train.tf_record")
  truncated = classification.file_based_convert_examples_to_features(
    examples, labels, 4, tokenizer, path
  )
  assert truncated == 1
  assert log.messages[-1] == "1 of 3 examples were longer than 4 tokens and were cut"

  rows = [tf.train.Example.FromString(r) for r in tf.python_io.tf_record_iterator(path)]
  ids = [list(row.features.feature["input_ids"].int64_list.value) for row in rows]
  assert ids == [[2, 4, 7, 3], [2, 4, 5, 3], [0, 0, 0, 0]]
  real = [list(row.features.feature["is_real_example"].int64_list.value) for row in rows]
  assert real == [[1], [1], [0]]
  label = rows[0].features.feature["label_ids"]
  assert list((label.int64_list if labels else label.float_list).value) == [1 if labels else 1.25]

  kind = classification.CLASSES if labels else classification.NUMBER
  table = classification.record_features(4, kind)
  assert {f.name: (f.dtype, f.shape) for f in table} == {
    "input_ids": (np.int32, (4,)),
    "input_mask": (np.int32, (4,)),
    "segment_ids": (np.int32, (4,)),
    "label_ids": (dtype, ()),
    "is_real_example": (np.int32, ()),
  }


# ---- GLUE and XNLI ------------------------------------------------------------------------------

MNLI_HEADER = "index\tp\tpair\tgenre\tb1\tb2\tp1\tp2\tsentence1\tsentence2\tlabel1\tgold_label"
MNLI_ROW = "%s\t.\t.\t.\t.\t.\t.\t.\tWet rain .\tIt pours .\tneutral\t%s"
MNLI_TEST_ROW = "%s\t.\t.\t.\t.\t.\t.\t.\tWet rain .\tIt pours ."
STS_ROW = "%d\tg\tf\ty\to\ts1\ts2\tA cup .\tA mug ."

# task, set, file, its lines, expected (guid, text_a, text_b, label)
LAYOUTS = [
  ("cola", "train", "train.tsv", ["x\t1\t\tHe ran .", "x\t0\t*\tRan he ."],
   [("train-0", "He ran .", None, "1"), ("train-1", "Ran he .", None, "0")]),
  ("cola", "test", "test.tsv", ["index\tsentence", "0\tHe ran ."],
   [("test-1", "He ran .", None, "0")]),
  ("SST-2", "dev", "dev.tsv", ["sentence\tlabel", "so dull \t0", "a joy \t1"],
   [("dev-1", "so dull ", None, "0"), ("dev-2", "a joy ", None, "1")]),
  ("sst2", "test", "test.tsv", ["index\tsentence", "0\ta joy"],
   [("test-1", "a joy", None, "0")]),
  ("mrpc", "train", "train.tsv",
   ["Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", '1\t7\t8\tHe said " yes\tYes "'],
   [("train-1", 'He said " yes', 'Yes "', "1")]),
  ("mrpc", "test", "test.tsv", ["index\t#1 ID\t#2 ID\t#1 String\t#2 String", "0\t7\t8\tA .\tB ."],
   [("test-1", "A .", "B .", "0")]),
  ("STS_B", "train", "train.tsv", ["header", STS_ROW % 4 + "\t3.800"],
   [("train-4", "A cup .", "A mug .", 3.8)]),
  ("stsb", "test", "test.tsv", ["header", STS_ROW % 0], [("test-0", "A cup .", "A mug .", 0.0)]),
  ("qqp", "dev", "dev.tsv", ["header", "201\t1\t2\tWho ?\tWhich one ?\t1"],
   [("dev-201", "Who ?", "Which one ?", "1")]),
  ("qqp", "test", "test.tsv", ["header", "0\tWho ?\tWhich one ?"],
   [("test-0", "Who ?", "Which one ?", "0")]),
  ("mnli", "train", "train.tsv", [MNLI_HEADER, MNLI_ROW % (5, "entailment")],
   [("train-5", "Wet rain .", "It pours .", "entailment")]),
  ("mnli", "dev_matched", "dev_matched.tsv", [MNLI_HEADER, MNLI_ROW % (0, "neutral")],
   [("dev_matched-0", "Wet rain .", "It pours .", "neutral")]),
  ("mnli", "dev_mismatched", "dev_mismatched.tsv", [MNLI_HEADER, MNLI_ROW % (0, "contradiction")],
   [("dev_mismatched-0", "Wet rain .", "It pours .", "contradiction")]),
  ("mnli", "test", "test_matched.tsv", [MNLI_HEADER, MNLI_TEST_ROW % 9],
   [("test-9", "Wet rain .", "It pours .", "contradiction")]),
  ("mnli", "test_mismatched", "test_mismatched.tsv", [MNLI_HEADER, MNLI_TEST_ROW % 8],
   [("test_mismatched-8", "Wet rain .", "It pours .", "contradiction")]),
  ("qnli", "train", "train.tsv", ["header", "0\tWho ?\tHe did .\tnot_entailment"],
   [("train-0", "Who ?", "He did .", "not_entailment")]),
  ("rte", "test", "test.tsv", ["header", "0\tA .\tB ."], [("test-0", "A .", "B .", "entailment")]),
  ("AX", "test", "diagnostic.tsv", ["header", "7\tA .\tB ."],
   [("test-7", "A .", "B .", "contradiction")]),
  ("wnli", "dev", "dev.tsv", ["header", "0\tA .\tB .\t1"], [("dev-0", "A .", "B .", "1")]),
  ("xnli", "train", "multinli/multinli.train.zh.tsv",
   ["premise\thypo\tlabel", "雨\t晴\tcontradictory", "雨\t湿\tentailment"],
   [("train-1", "雨", "晴", "contradiction"), ("train-2", "雨", "湿", "entailment")]),
  ("xnli", "dev", "xnli.dev.tsv",
   ["header", "de\tneutral\t\t\t\t\tNass\tRegen", "zh\tneutral\t\t\t\t\t湿\t雨"],
   [("dev-2", "湿", "雨", "neutral")]),
]  # fmt: skip


@pytest.mark.parametrize(("task", "set_name", "file", "lines", "expected"), LAYOUTS)
def test_layout(write, task, set_name, file, lines, expected):
  path = write(file, lines)
  examples = find_task(task).get_examples(set_name, write.directory)
  assert fields(examples) == expected
  assert examples[-1].source == f"{path}:{len(lines)}"


def test_every_task_is_judged_by_metrics_that_exist():
  labels = glue_metrics.classification_metrics([0, 1], [0, 1], ["0", "1"])
  scores = glue_metrics.regression_metrics([0.0, 1.0], [0.0, 1.0])
  for name in classification.TASKS:
    task = find_task(name)
    assert set(task.metrics) <= set(scores if task.kind == classification.NUMBER else labels)
    assert (task.kind is classification.NUMBER) == (name == "sts-b") == (task.get_labels() == [])
  assert set(find_task("csv").metrics) <= set(labels)
  assert set(find_task("csv", regression=True).metrics) <= set(scores)
  marks = glue_metrics.multi_label_metrics([[0, 1]], [[0, 1]], ["a", "b"])
  assert set(find_task("csv", multi_label=True).metrics) <= set(marks)


def test_sets_and_labels():
  mnli = find_task("mnli")
  assert mnli.dev_sets == ("dev_matched", "dev_mismatched")
  assert mnli.test_sets == ("test", "test_mismatched")
  assert mnli.get_labels() == ["contradiction", "entailment", "neutral"]
  assert find_task("rte").get_labels() == ["entailment", "not_entailment"]


def test_processors_of_old(write):
  write("train.tsv", ["x\t1\t\tHe ran ."])
  write("dev.tsv", ["x\t0\t*\tRan he ."])
  write("test.tsv", ["index\tsentence", "0\tHe ran ."])
  cola = classification.ColaProcessor()
  assert cola.get_labels() == ["0", "1"]
  assert fields(cola.get_train_examples(write.directory)) == [("train-0", "He ran .", None, "1")]
  assert fields(cola.get_dev_examples(write.directory)) == [("dev-0", "Ran he .", None, "0")]
  assert fields(cola.get_test_examples(write.directory)) == [("test-1", "He ran .", None, "0")]
  assert cola._read_tsv(os.path.join(write.directory, "dev.tsv")) == [["x", "0", "*", "Ran he ."]]


@pytest.mark.parametrize(
  ("processor", "rows", "set_type", "expected"),
  [
    (classification.MrpcProcessor, [["h"], ["1", "", "", "a", "b"]], "dev",
     ("dev-1", "a", "b", "1")),
    (classification.MnliProcessor, [["h"], ["7", *"1234567", "a", "b", "neutral"]], "own",
     ("own-7", "a", "b", "neutral")),
    (classification.ColaProcessor, [["x", "1", "", "a"]], "train", ("train-0", "a", None, "1")),
  ],
)  # fmt: skip
def test_examples_of_rows(processor, rows, set_type, expected):
  assert fields(processor()._create_examples(rows, set_type)) == [expected]


def test_own_processor_reads_quoted_columns(write):
  path = write("x.tsv", ['1\t"a ""b""\tc"', "0\td"])

  class Processor(classification.DataProcessor):
    pass

  assert Processor._read_tsv(path, quotechar='"') == [["1", 'a "b"\tc'], ["0", "d"]]
  assert Processor._read_tsv(path)[0] == ["1", '"a ""b""', 'c"']
  for method in ("get_train_examples", "get_dev_examples", "get_test_examples"):
    with pytest.raises(NotImplementedError):
      getattr(Processor(), method)(write.directory)
  with pytest.raises(NotImplementedError):
    Processor().get_labels()


def test_xnli_in_another_language_and_without_test_set(write):
  write(
    "xnli.dev.tsv", ["header", "de\tneutral\t\t\t\t\tNass\tRegen", "zh\tneutral\t\t\t\t\t湿\t雨"]
  )
  write("multinli/multinli.train.de.tsv", ["header", "Nass\tRegen\tneutral"])
  xnli = classification.XnliProcessor()
  xnli.language = "de"
  assert fields(xnli.get_dev_examples(write.directory)) == [("dev-1", "Nass", "Regen", "neutral")]
  assert xnli.get_train_examples(write.directory)[0].text_a == "Nass"
  assert xnli.test_sets == ()
  with pytest.raises(NotImplementedError):
    xnli.get_test_examples(write.directory)
  with pytest.raises(files.InputError, match=r"xnli has no set 'test', only 'train', 'dev'"):
    xnli.get_test_examples(write.directory)
  xnli.language = "fr"
  with pytest.raises(
    files.InputError,
    match=r"xnli.dev.tsv: has no examples of language 'fr'; its languages are 'de', 'zh'$",
  ):
    xnli.get_dev_examples(write.directory)


def test_xnli_trained_in_another_language(write):
  write("xnli.dev.tsv", ["header", "de\tneutral\t\t\t\t\tNass\tRegen"])
  write("multinli/multinli.train.de.tsv", ["header", "Nass\tRegen\tneutral"])
  write("multinli/multinli.train.en.tsv", ["header", "Wet\tRain\tcontradictory"])
  xnli = classification.XnliProcessor("de", "en")
  assert fields(xnli.get_dev_examples(write.directory)) == [("dev-1", "Nass", "Regen", "neutral")]
  trained = [("train-1", "Wet", "Rain", "contradiction")]
  assert fields(xnli.get_train_examples(write.directory)) == trained
  xnli.train_language = "sw"
  with pytest.raises(
    files.InputError,
    match=r"^--xnli_train_language: there is no \S+multinli.train.sw.tsv; there are files of "
    r"'de', 'en'$",
  ):
    xnli.get_train_examples(write.directory)
  with pytest.raises(files.InputError, match="--data_dir has no training files"):
    xnli.get_train_examples(write.directory + "/multinli")


def test_xnli_without_rows_of_any_language(write):
  write("xnli.dev.tsv", ["header", "de\tneutral"])
  with pytest.raises(files.InputError, match="has no examples; xnli has rows of 8 or more columns"):
    classification.XnliProcessor().get_dev_examples(write.directory)


def test_broken_rows_are_skipped_and_counted(write, log):
  good = "%d\t1\t2\tWho ?\tWhich ?\t0"
  broken = ["5\t1\t2\tWho ?"] * 4
  path = write("train.tsv", ["header", good % 1, *broken, good % 2])
  examples = find_task("qqp").get_train_examples(write.directory)
  assert [e.guid for e in examples] == ["train-1", "train-2"]
  places = ", ".join(f"{path}:{line}" for line in (3, 4, 5))
  assert log.messages == [f"Skipped 4 rows of qqp with fewer than 6 columns: {places}, ..."]


def test_last_column_is_not_a_text(log):
  cut = [*"12345678", "a", "b"]  # a row of MNLI without its labels
  assert classification.MnliProcessor()._create_examples([["header"], cut], "train") == []
  assert log.messages == ["Skipped 1 rows of mnli with fewer than 11 columns: row 1"]


@pytest.mark.parametrize(
  "data",
  [
    b"\xef\xbb\xbfsentence\tlabel\r\nfine\t1\r\n\r\ndull\t0\r\n\r\n",
    b"sentence\tlabel\nfine\t1\n \t\ndull\t0",
  ],
)
def test_byte_order_mark_windows_line_ends_and_blank_lines(write, data):
  write("train.tsv", data)
  for task in (find_task("sst-2"), find_task("tsv")):
    examples = task.get_train_examples(write.directory)
    assert [(e.text_a, e.label) for e in examples] == [("fine", "1"), ("dull", "0")]
    assert [e.source[-2:] for e in examples] == [":2", ":4"]


@pytest.mark.parametrize(
  ("data", "message"),
  [
    (b"", r"train.tsv: has no examples"),
    (b"sentence\tlabel\n", r"train.tsv: has no examples"),
    (b"sentence\tlabel\nfine\t1\nbad\xff\t0\n", r"train.tsv:3: found byte 0xff"),
    (b"sentence\tlabel\nfine\t1\nba\0d\t0\n", r"train.tsv:3: found a NUL"),
  ],
)
@pytest.mark.parametrize("task", ["sst-2", "tsv"])
def test_files_that_cannot_be_used(write, task, data, message):
  write("train.tsv", data)
  with pytest.raises(files.InputError, match=message):
    find_task(task).get_train_examples(write.directory)


def test_missing_file_and_wrong_layout(write):
  with pytest.raises(files.InputError, match=r"dev.tsv: cannot be read"):
    find_task("rte").get_dev_examples(write.directory)
  write("dev.tsv", ["sentence\tlabel", "a\t1"])
  with pytest.raises(
    files.InputError, match=r"no examples; rte has rows of 4 or more columns below"
  ):
    find_task("rte").get_dev_examples(write.directory)


def test_wrong_label_is_found_when_the_file_is_read(write):
  path = write("dev.tsv", ["sentence\tlabel", "fine\t1", "dull\t-1"])
  with pytest.raises(files.InputError) as error:
    find_task("sst-2").get_dev_examples(write.directory)
  assert str(error.value) == f"{path}:3: found label '-1'; known labels are '0', '1'"


@pytest.mark.parametrize("score", ["", "high", "nan", "inf"])
def test_wrong_score(write, score):
  path = write("train.tsv", ["header", STS_ROW % 0 + f"\t{score}"])
  with pytest.raises(files.InputError, match=f"^{path}:2: found '{score}' where the score"):
    find_task("sts-b").get_train_examples(write.directory)


def test_empty_texts_are_counted(write, log):
  path = write("dev.tsv", ["header", "0\tA .\tB .\t1", "1\t\tB .\t1", "2\tA .\t \t1"])
  assert len(find_task("wnli").get_dev_examples(write.directory)) == 3
  assert log.messages == [f"{path}: 2 rows have an empty text, first {path}:3"]


# task, set, lines below the header, predictions, name of the leaderboard's file, its lines
SUBMISSIONS = [
  ("cola", "test", ["0\tHe ran .", "1\tRan ."], ["1", "0"], "CoLA", ["0\t1", "1\t0"]),
  ("sst-2", "test", ["0\ta joy", "1\tdull"], ["1", "0"], "SST-2", ["0\t1", "1\t0"]),
  ("mrpc", "test", ["0\t7\t8\tA\tB", "1\t7", "2\t7\t8\tC\tD"], ["1", "0"], "MRPC",
   ["0\t1", "2\t0"]),
  ("sts-b", "test", [STS_ROW % 4, STS_ROW % 5, STS_ROW % 6], [5.25, np.float32(3.14159), -0.1],
   "STS-B", ["4\t5.000", "5\t3.142", "6\t0.000"]),
  ("qqp", "test", ["3\tWho ?\tWhich ?"], ["0"], "QQP", ["3\t0"]),
  ("mnli", "test", [MNLI_TEST_ROW % 9], ["neutral"], "MNLI-m", ["9\tneutral"]),
  ("mnli", "test_mismatched", [MNLI_TEST_ROW % 8], ["entailment"], "MNLI-mm", ["8\tentailment"]),
  ("ax", "test", ["0\tA .\tB ."], ["contradiction"], "AX", ["0\tcontradiction"]),
  ("qnli", "test", ["0\tA ?\tB ."], ["not_entailment"], "QNLI", ["0\tnot_entailment"]),
  ("rte", "test", ["0\tA .\tB ."], ["entailment"], "RTE", ["0\tentailment"]),
  ("wnli", "test", ["0\tA .\tB ."], ["1"], "WNLI", ["0\t1"]),
]  # fmt: skip


@pytest.mark.parametrize(("task", "set_name", "rows", "predictions", "name", "lines"), SUBMISSIONS)
def test_files_for_the_leaderboard(write, task, set_name, rows, predictions, name, lines):
  task = find_task(task)
  path = write("some.tsv", ["header", *rows])
  examples = task._read(path, set_name)
  got = task.submission(set_name, examples, predictions)
  assert got == (f"{name}.tsv", "\n".join(["index\tprediction", *lines, ""]))
  assert task.submission("predict_file", examples, predictions) is None
  assert got[0] in model_directory.WRITTEN


def test_the_diagnostic_set_is_for_prediction_alone(write):
  task = find_task("ax")
  assert (task.dev_sets, task.test_sets) == ((), ("test",))
  for read in (task.get_train_examples, task.get_dev_examples):
    with pytest.raises(classification.MissingSetError, match=r"ax has no set '.*', only 'test'"):
      read(write.directory)


def test_prediction_of_another_file(write):
  path = write("new.tsv", ["index\tsentence", "0\tHe ran ."])
  assert fields(find_task("cola").get_predict_examples(path)) == [("test-1", "He ran .", None, "0")]


# ---- Files of the user's own --------------------------------------------------------------------


def make_csv(path, rows):
  with open(path, "w", encoding="utf-8", newline="") as f:
    csv.writer(f).writerows(rows)


@pytest.mark.parametrize("file_format", files.TABLES)
def test_the_same_in_every_format(write, file_format):
  columns = ["key", "label", "text", "more"]
  rows = [["k1", "2", 'so "good"', "b, c"], ["k2", "10", "dull", "雨"], ["k3", "2", "fine", "d"]]
  name = f"train.{file_format}"
  if file_format == "tsv":
    write(name, ["\t".join(row) for row in [columns, *rows]])
  elif file_format == "csv":
    make_csv(os.path.join(write.directory, name), [columns, *rows])
  else:
    write(name, [json.dumps(dict(zip(columns, row))) for row in rows])
  task = find_task(file_format, text_b_column="more", id_column="key")
  assert fields(task.get_train_examples(write.directory)) == [
    ("k1", 'so "good"', "b, c", "2"),
    ("k2", "dull", "雨", "10"),
    ("k3", "fine", "d", "2"),
  ]
  assert task.get_labels() == ["2", "10"]


@pytest.mark.parametrize(
  ("header", "options", "text_a", "text_b"),
  [
    ("label\tsentence", {}, "c1", None),
    ("text\tlabel", {}, "c0", None),
    ("label\tx\ttext\tsentence", {}, "c3", None),
    ("label\tsentence1\tsentence2", {}, "c1", "c2"),
    ("label\ttext_b\ttext_a", {}, "c2", "c1"),
    ("label\tquestion1\tquestion2\ttext", {"text_column": "text"}, "c3", None),
    ("label\tsentence\tx", {"text_b_column": "x"}, "c1", "c2"),
    ("label\tx\ty", {"text_column": "2", "text_b_column": 1}, "c2", "c1"),
    ("label\t2\ty", {"text_column": "2"}, "c1", None),
    (None, {}, "c0", None),
    (None, {"text_column": "3", "text_b_column": "2"}, "c3", "c2"),
  ],
)
def test_choice_of_columns(write, header, options, text_a, text_b):
  names = (header or "a\tb\tc\td").split("\t")
  path = write(
    "test.tsv", [*([header] if header else []), "\t".join(f"c{i}" for i in range(len(names)))]
  )
  task = find_task("tsv", has_header=bool(header), **options)
  assert fields(task.get_predict_examples(path)) == [("test-0", text_a, text_b, None)]
  assert fields(task.get_test_examples(write.directory)) == [("test-0", text_a, text_b, None)]


def test_layout_of_cola_by_numbers(write):
  write("train.tsv", ["gj04\t1\t\tHe ran .", "gj04\t0\t*\tRan he ."])
  task = find_task("tsv", has_header=False, label_column="1", text_column="3")
  assert fields(task.get_train_examples(write.directory)) == [
    ("train-0", "He ran .", None, "1"),
    ("train-1", "Ran he .", None, "0"),
  ]
  assert task.get_labels() == ["0", "1"]


@pytest.mark.parametrize(
  ("lines", "options", "message"),
  [
    (["a\tb", "1\t2"], {"text_column": "c"},
     r"train.tsv: --text_column: there is no column 'c'; the file's columns are 'a', 'b'$"),
    (["a\tb", "1\t2"], {}, r"--text_column: name the column with the text; .* are 'a', 'b'$"),
    (["text\tb", "1\t2"], {}, r"--label_column: name the column with the labels; .* 'text', 'b'$"),
    (["text\tlabel", "1\t2"], {"id_column": "2"}, r"--id_column: there is no column '2'"),
    (["a\tb"], {"has_header": False, "text_column": "a"}, r"without a header give its number$"),
    (["a\tb"], {"has_header": False, "text_column": 1}, r"must be different, found columns 1, 1$"),
    (["a\tb", "c"], {"has_header": False}, r"train.tsv:2: found 1 columns, expected 2 or more$"),
    (["text\tlabel", "a\tb", "c"], {}, r"train.tsv:3: found 1 columns, expected 2, as the header"),
    (["text\tlabel", "a\tb\tc"], {}, r"train.tsv:2: found 3 columns, expected 2, as the header"),
    (["text\tlabel", "a\tb", "a\t "], {}, r"train.tsv:3: has no label$"),
    (["text\tlabel", "a\tb", "c\tb"], {}, r"train.tsv: found the label 'b' alone"),
    (["text\tscore", "a\t4.5", "c\tb"], {"regression": True}, r"tsv:3: found 'b' where the sc"),
  ],
)  # fmt: skip
def test_wrong_columns(write, lines, options, message):
  write("train.tsv", lines)
  with pytest.raises(files.InputError, match=message):
    find_task("tsv", **options).get_train_examples(write.directory)


def test_csv_with_line_breaks_in_quotes(write):
  long_text = "word " * 40_000  # longer than the csv module's usual limit
  data = f'text,label\r\n"one\r\ntwo",x\r\n\r\n"{long_text}",y\r\n"say ""hi""",z\r\n'
  path = write("train.csv", data.encode())
  limit = csv.field_size_limit()
  examples = find_task("csv").get_train_examples(write.directory)
  assert [e.text_a for e in examples] == ["one\ntwo", long_text, 'say "hi"']
  assert [e.source for e in examples] == [f"{path}:2", f"{path}:5", f"{path}:6"]
  assert csv.field_size_limit() == limit


@pytest.mark.parametrize("row", ['"never closed,x', '"closed" early,x'])
def test_csv_with_wrong_quotes(write, row):
  write("train.csv", ["text,label", "a,x", row, "b,y"])
  with pytest.raises(files.InputError, match=r"train.csv:3: is not valid CSV: .* quote"):
    find_task("csv").get_train_examples(write.directory)


TEXTS = st.text(st.characters(blacklist_characters="\r\0", blacklist_categories=["Cs"]), min_size=1)


@given(st.lists(TEXTS.filter(lambda text: text.strip()), min_size=1, max_size=6))
@settings(deadline=None, max_examples=40)
def test_csv_round_trip(texts):
  with tempfile.TemporaryDirectory() as directory:
    path = os.path.join(directory, "x.csv")
    make_csv(path, [["text"], *([text] for text in texts)])
    examples = find_task("csv").get_predict_examples(path)
  assert [e.text_a for e in examples] == texts
  lines = np.cumsum([2] + [1 + text.count("\n") for text in texts])[:-1]
  assert [e.source for e in examples] == [f"{path}:{line}" for line in lines]


def test_jsonl_values(write):
  write("train.jsonl", [
    '{"text": "a", "label": true, "nested": {"x": 1}}', "",
    '{"label": false, "text": 3.5, "extra": [1]}',
  ])  # fmt: skip
  task = find_task("jsonl")
  examples = task.get_train_examples(write.directory)
  assert fields(examples) == [("train-0", "a", None, "true"), ("train-1", "3.5", None, "false")]
  assert examples[1].source.endswith("train.jsonl:3")
  assert task.get_labels() == ["false", "true"]


def test_jsonl_second_text_may_be_missing(write):
  path = write("x.jsonl", ['{"text_a": "a", "text_b": "b"}', '{"text_a": "a"}'])
  examples = find_task("jsonl").get_predict_examples(path)
  assert [e.text_b for e in examples] == ["b", None]


@pytest.mark.parametrize(
  ("line", "message"),
  [
    ('{"text": "a", "label": "x"', "is not valid JSON"),
    ('["a", "x"]', "found list, should be a JSON object"),
    ('{"label": "x"}', "has no text"),
    ('{"text": null, "label": "x"}', "has no text"),
    ('{"text": "a", "label": null}', "has no label"),
    ('{"text": ["a"], "label": "x"}', r'found \["a"\] where a text should be'),
  ],
)
def test_wrong_jsonl(write, line, message):
  write("train.jsonl", ['{"text": "a", "label": "x"}', line])
  with pytest.raises(files.InputError, match=f"train.jsonl:2: {message}"):
    find_task("jsonl").get_train_examples(write.directory)


def test_jsonl_columns_have_no_numbers(write):
  path = write("x.jsonl", ['{"0": "zero", "1": "one"}'])
  assert find_task("jsonl", text_column="1").get_predict_examples(path)[0].text_a == "one"
  with pytest.raises(files.InputError, match=r"no column '2'; the file's columns are '0', '1'"):
    find_task("jsonl", text_column="2").get_predict_examples(path)


@pytest.mark.parametrize(
  ("labels", "expected"),
  [
    (["10", "9", "-1", "9"], ["-1", "9", "10"]),
    (["10", "9", "b"], ["10", "9", "b"]),
    ([" no", "yes ", "no"], ["no", "yes"]),
  ],
)
def test_labels_of_the_training_data(write, labels, expected):
  write("train.tsv", ["text\tlabel", *(f"a\t{label}" for label in labels)])
  task = find_task("tsv")
  assert task.get_labels(write.directory) == expected
  assert task.get_labels() == expected


def test_labels_are_not_known_without_training_data():
  with pytest.raises(files.InputError, match=r"^--label_file: "):
    find_task("tsv").get_labels()


def test_label_that_training_did_not_have(write):
  write("train.tsv", ["text\tlabel", "a\tx", "b\ty"])
  path = write("dev.tsv", ["text\tlabel", "a\tx", "b\tz"])
  with pytest.raises(files.InputError) as error:
    find_task("tsv").get_dev_examples(write.directory)
  assert str(error.value) == f"{path}:3: found label 'z'; known labels are 'x', 'y'"


def test_label_file(write):
  path = write("labels.txt", ["z", "y", "", "x "])
  write("train.tsv", ["text\tlabel", "a\tx", "b\ty"])
  task = find_task("tsv", label_file=path)
  assert task.get_labels() == ["z", "y", "x"]
  assert [e.label for e in task.get_train_examples(write.directory)] == ["x", "y"]
  write("train.tsv", ["text\tlabel", "a\tx", "b\tw"])
  with pytest.raises(files.InputError, match=r"train.tsv:3: found label 'w'; known labels are 'z'"):
    task.get_train_examples(write.directory)


@pytest.mark.parametrize(
  ("lines", "message"),
  [(["a", "b", "a"], r"labels.txt:3: found label 'a' again"), (["a"], r"found 1 labels")],
)
def test_wrong_label_file(write, lines, message):
  path = write("labels.txt", lines)
  with pytest.raises(files.InputError, match=message):
    find_task("tsv", label_file=path)


def test_labels_as_a_list(write):
  write("dev.tsv", ["text\tlabel", "a\tx"])
  task = find_task("tsv", labels=["y", "x"])
  assert task.get_dev_examples(write.directory)[0].label == "x"
  assert task.get_labels() == ["y", "x"]


def test_regression_on_own_files(write):
  write("train.tsv", ["text\tlabel\tscore", "a\tx\t4.5", "b\ty\t-1e-3"])
  task = find_task("tsv", regression=True)
  assert [e.label for e in task.get_train_examples(write.directory)] == [4.5, -0.001]
  assert task.get_labels() == []


@pytest.mark.parametrize("file_format", files.TABLES)
def test_several_labels(write, file_format):
  rows = [("a", " red, big,,red"), ("b", ""), ("c", "10"), ("d", "big")]
  lines = {
    "tsv": ["text\tlabels", *map("\t".join, rows)],
    "csv": ["text,labels", *(f'{text},"{labels}"' for text, labels in rows)],
    "jsonl": [
      '{"text": "a", "labels": ["red", " big", "red", ""]}',
      '{"text": "b"}',
      '{"text": "c", "labels": [10]}',
      '{"text": "d", "labels": "big"}',
    ],
  }
  path = write(f"train.{file_format}", lines[file_format])
  task = find_task(file_format, multi_label=True)
  examples = task.get_train_examples(write.directory)
  assert [e.label for e in examples] == [("red", "big"), (), ("10",), ("big",)]
  assert task.get_labels() == ["10", "big", "red"]
  assert [e.label for e in task.get_predict_examples(path)] == [None] * 4


def test_separator_of_labels(write):
  write("train.tsv", ["text\tlabel", "a\tred, dark; big", "b\tbig"])
  task = find_task("tsv", multi_label=True, label_separator=";")
  assert task.get_labels(write.directory) == ["big", "red, dark"]


@pytest.mark.parametrize(
  ("lines", "message"),
  [
    (['{"text": "a", "label": []}'], r"train.jsonl: found no label; there must be two or more"),
    (['{"text": "a", "label": ["x"]}'], r"train.jsonl: found the label 'x' alone; there must be"),
    (['{"text": "a", "label": [["x"]]}'], r"jsonl:1: found \[\"x\"\] where a text should be"),
    (['{"text": "a", "label": {"x": 1}}'], r"jsonl:1: found \{\"x\": 1\} where a text should be"),
  ],
)
def test_unusable_lists_of_labels(write, lines, message):
  write("train.jsonl", lines)
  with pytest.raises(files.InputError, match=message):
    find_task("jsonl", multi_label=True).get_train_examples(write.directory)


def test_several_labels_of_which_training_did_not_have_one(write):
  write("train.tsv", ["text\tlabel", "a\tx,y"])
  path = write("dev.tsv", ["text\tlabel", "a\tx", "b\ty,z"])
  with pytest.raises(files.InputError) as error:
    find_task("tsv", multi_label=True).get_dev_examples(write.directory)
  assert str(error.value) == f"{path}:3: found label 'z'; known labels are 'x', 'y'"


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"multi_label": True, "regression": True}, "--multi_label and --regression exclude"),
    ({"multi_label": True, "label_separator": ""}, "--label_separator is empty"),
  ],
)
def test_options_that_cannot_be(options, message):
  with pytest.raises(files.InputError, match=message):
    find_task("tsv", **options)


def test_lists_of_labels_as_text(write):
  header = "text,labels"
  write("train.csv", [header, "a,\"['red', 'big']\"", 'b,"[""red""]"', "c,[]"])
  path = write("dev.csv", [header, "a,\"('big',)\"", 'd,"[red, big]"'])
  task = find_task("csv", multi_label=True)
  examples = task.get_train_examples(write.directory)
  assert [e.label for e in examples] == [("red", "big"), ("red",), ()]
  with pytest.raises(files.InputError) as error:
    task.get_dev_examples(write.directory)
  assert str(error.value).startswith(
    f"{path}:3: found '[red, big]' where labels should be: with ','"
  )


@pytest.mark.parametrize("file_format", files.TABLES)
@pytest.mark.parametrize("has_file", [True, False])
def test_zeros_and_ones_as_labels(write, file_format, has_file):
  rows = {"train": ["[0, 0, 1]", "[1, 0, 1]"], "dev": ["[0, 1, 0]"]}
  for name, values in rows.items():
    lines = {
      "tsv": ["text\tlabels", *(f"a\t{value}" for value in values)],
      "csv": ["text,labels", *(f'a,"{value}"' for value in values)],
      "jsonl": [f'{{"text": "a", "labels": {value}}}' for value in values],
    }
    write(f"{name}.{file_format}", lines[file_format])
  label_file = write("labels.txt", ["c", "b", "a"]) if has_file else None
  names = ["c", "b", "a"] if has_file else ["0", "1", "2"]
  task = find_task(file_format, multi_label=True, label_file=label_file)
  dev = task.get_dev_examples(write.directory)
  train = task.get_train_examples(write.directory)
  assert task.get_labels() == names
  assert [e.label for e in train] == [(names[2],), (names[0], names[2])]
  assert [e.label for e in dev] == [(names[1],)]
  known = find_task(file_format, multi_label=True, labels=names)
  assert [e.label for e in known.get_dev_examples(write.directory)] == [(names[1],)]


COLUMNS = {"multi_label": True, "label_columns": ["big", "red", "old"]}


@pytest.mark.parametrize("file_format", files.TABLES)
def test_a_column_for_each_label(write, file_format):
  lines = {
    "tsv": ["red\ttext\told\tbig", "1\ta\t0\tfalse", "1\tb\t0\tTrue", "0\tc\t0\t0"],
    "csv": ["red,text,old,big", "1,a,0,false", "1.0,b,0,true", "0,c,0,0"],
    "jsonl": [
      '{"text": "a", "red": 1, "old": 0, "big": false}',
      '{"text": "b", "red": true, "big": 1.0, "old": "0"}',
      '{"text": "c", "red": 0, "big": 0, "old": 0}',
    ],
  }
  path = write(f"train.{file_format}", lines[file_format])
  task = find_task(file_format, **COLUMNS)
  examples = task.get_train_examples(write.directory)
  assert [e.label for e in examples] == [("red",), ("big", "red"), ()]
  assert task.get_labels() == ["big", "red", "old"]
  assert [e.label for e in task.get_predict_examples(path)] == [None] * 3


def test_columns_of_labels_by_numbers(write):
  write("train.csv", ["a,1,0", "b,0,1"])
  options = {"has_header": False, "multi_label": True, "label_columns": ["1", "2"]}
  examples = find_task("csv", **options).get_train_examples(write.directory)
  assert [e.label for e in examples] == [("1",), ("2",)]


@pytest.mark.parametrize(
  ("lines", "options", "message"),
  [
    (["text,big,red,old", "a,0,1,2"], COLUMNS,
     r"train.csv:2: found '2' in the column of the label 'old', should be 0 or 1"),
    (["text,big,red", "a,0,1"], COLUMNS, r"--label_columns: there is no column 'old'"),
    (["text,big,red,old", "a,0,1"], COLUMNS, r"train.csv:2: found 3 columns, expected 4"),
    (["text,big,red", "a,0,1"], {**COLUMNS, "label_columns": ["text", "big"]},
     r"--label_columns: a column of a text is among them"),
    ([], {**COLUMNS, "label_columns": ["big"]}, r"--label_columns: found 'big'; give two or more"),
    ([], {**COLUMNS, "label_columns": ["a", "b", "a"]}, r"give two or more different columns"),
    ([], {"label_columns": ["a", "b"]}, r"--label_columns is for several labels per text; give --"),
    ([], {**COLUMNS, "label_column": "x"}, r"--label_columns and --label_column exclude"),
    ([], {**COLUMNS, "label_file": "x"}, r"--label_columns and --label_file exclude each other"),
    ([], {**COLUMNS, "labels": ["big", "old"]}, r"the model has no label 'red', only 'big', 'old'"),
  ],
)  # fmt: skip
def test_columns_of_labels_that_cannot_be_used(write, lines, options, message):
  write("train.csv", lines)
  with pytest.raises(files.InputError, match=message):
    find_task("csv", **options).get_train_examples(write.directory)


@pytest.mark.parametrize("options", [{}, {"multi_label": True}])
def test_labels_are_cleaned_and_those_that_look_alike_are_named_once(write, log, options):
  rows = ["text\tlabel", "a\tgood\u200b", "\ufeffb\t\ufeffbad", "c\tgood", "d\tGood"]
  path = write("train.tsv", rows)
  write("dev.tsv", ["text\tlabel", "a\t\u200bbad"])
  task = find_task("tsv", **options)
  assert task.get_labels(write.directory) == ["Good", "bad", "good"]
  task.get_train_examples(write.directory)
  assert task.get_dev_examples(write.directory)[0].label in ("bad", ("bad",))
  assert log.messages == [
    f"{path}: labels that look alike are different labels: 'good' (2, first {path}:2), 'Good' (1, "
    f"first {path}:5); write the same label in the same way"
  ]


def test_a_label_file_is_cleaned_too(write, log):
  path = write("labels.txt", ["\ufeffgood", "bad\u200b", "Bad"])
  assert find_task("tsv", label_file=path).get_labels() == ["good", "bad", "Bad"]
  assert len(log.messages) == 1 and f"'bad' (1, first {path}:2), 'Bad'" in log.messages[0]
  weights = write("weights.tsv", ["a\u200b\t1", "\ufeffb\t2\u200b"])
  assert classification.class_weights(weights, ["b", "a"], []) == [2.0, 1.0]


@pytest.mark.parametrize("task", ["sst-2", "tsv"])
def test_a_header_in_the_middle(write, task):
  path = write("train.tsv", ["sentence\tlabel", "a\t1", "sentence\tlabel", "b\t0"])
  with pytest.raises(files.InputError, match=f"^{path}:3: found the header again"):
    find_task(task).get_train_examples(write.directory)


def test_training_data_of_another_format(write):
  write("train.csv", ["text,label", "a,x"])
  for name in ("tsv", "jsonl", "sst-2"):
    with pytest.raises(
      files.InputError,
      match=r"there is no such file, but there is \S+train.csv; give --task_name=csv",
    ):
      find_task(name).get_train_examples(write.directory)
  with pytest.raises(files.InputError, match=r"dev.csv: cannot be read: No such file"):
    find_task("csv", labels=["x", "y"]).get_dev_examples(write.directory)


@pytest.mark.parametrize("task", files.TABLES)
def test_a_file_to_predict_has_the_format_of_its_name(write, log, task):
  paths = {
    "tsv": write("new.tsv", ["text\tmore", 'a, "b"\tx']),
    "csv": write("new.CSV", ["more,text", 'x,"a, ""b"""']),
    "jsonl": write("new.jsonl", ['{"text": "a, \\"b\\""}']),
  }
  for name, path in paths.items():
    log.clear()
    (example,) = find_task(task).get_predict_examples(path)
    assert (example.text_a, example.label) == ('a, "b"', None)
    said = [f"{path} is read as {name}, by its name, and not as {task}"]
    assert log.messages == ([] if name == task else said)
  path = write(
    "new.txt", {"tsv": ["text", "a"], "csv": ["text", "a"], "jsonl": ['{"text": "a"}']}[task]
  )
  assert find_task(task).get_predict_examples(path)[0].text_a == "a"


def test_a_file_to_predict_for_a_benchmark(write):
  task = find_task("sst-2")
  path = write("new.csv", ["index,sentence", '0,"a, b"'])
  assert task.get_predict_examples(path)[0].text_a == "a, b"
  path = write("new.jsonl", ['{"sentence": "a"}'])
  with pytest.raises(
    files.InputError, match=r"new.jsonl: sst-2 has columns .* give a .tsv or .csv"
  ):
    task.get_predict_examples(path)


def test_own_files_have_three_sets(write):
  with pytest.raises(classification.MissingSetError, match=r"tsv has no set 'dev_matched'"):
    find_task("tsv").get_examples("dev_matched", write.directory)


# ---- Weights of classes --------------------------------------------------------------------------


def labelled(*labels):
  return [InputExample(str(i), "the", label=label) for i, label in enumerate(labels)]


def test_balanced_weights():
  examples = labelled("a", "b", "a", "a", "c", "a")
  weights = classification.class_weights("balanced", ["c", "b", "a"], examples)
  assert weights == [6 / 3, 6 / 3, 6 / (3 * 4)]
  want = sklearn.utils.class_weight.compute_class_weight(
    "balanced", classes=np.array(["c", "b", "a"]), y=[e.label for e in examples]
  )
  assert weights == pytest.approx(list(want))
  message = r"--class_weights=balanced: the training set has no example of 'd', 'e'"
  with pytest.raises(files.InputError, match=message):
    classification.class_weights("balanced", ["a", "d", "b", "e"], examples)


def test_weights_of_a_file(write):
  path = write("weights.tsv", ["not good\t 2.5", "", "good\t1e-1 "])
  assert classification.class_weights(path, ["good", "not good"], labelled("good")) == [0.1, 2.5]


@pytest.mark.parametrize(
  ("lines", "message"),
  [
    (["a\t1", "b\t2", "c\t1"], r"w.tsv:3: found label 'c'; known labels are 'a', 'b'"),
    (["a\t1", "a\t2"], r"w.tsv:2: found label 'a' again"),
    (["a\t1"], r"w.tsv: has no weight of 'b'; give one to each label"),
    (["a 1", "b\t1"], r"w.tsv:1: found 'a 1', should be a label, a tab and its weight"),
    (["a\t1", "b\t0"], r"w.tsv:2: found '0' where the weight, a finite number above 0, should be"),
    (["a\t1", "b\t-2"], r"w.tsv:2: found '-2' where the weight"),
    (["a\tinf", "b\t1"], r"w.tsv:1: found 'inf' where the weight"),
    (["a\tmuch", "b\t1"], r"w.tsv:1: found 'much' where the weight"),
  ],
)
def test_unusable_weights(write, lines, message):
  path = write("w.tsv", lines)
  with pytest.raises(files.InputError, match=message):
    classification.class_weights(path, ["a", "b"], labelled("a", "b"))


# ---- All tasks ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("name", "found"),
  [("CoLA", "cola"), ("sst2", "sst-2"), ("STS_b", "sts-b"), ("JSONL", "jsonl"), ("XNLI", "xnli")],
)
def test_spellings(name, found):
  assert find_task(name).name == found


def test_unknown_task():
  with pytest.raises(files.InputError, match=r"Task not found: glue; known tasks are cola, sst-2"):
    find_task("glue")


def test_options_of_own_files_with_a_glue_task():
  for options in ({"text_column": "3"}, {"regression": True}, {"multi_label": True}):
    (name,) = options
    with pytest.raises(files.InputError, match=rf"^--{name}: cannot be given with the task mrpc"):
      find_task("mrpc", **options)
  assert find_task("mrpc", labels=["0", "1"], has_header=True).get_labels() == ["0", "1"]
