"""Files of classification tasks to examples, and examples to features.

  "1\tid1\tid2\tShe left .\tShe has gone ."                     a row of MRPC
  -> InputExample("train-1", "She left .", "She has gone .", "1")
  -> [CLS] she left . [SEP] she has gone . [SEP] and label_id 1; see tokenization.encode_pair

The data sets are the rows of TASKS; files of the user's own (tsv, csv, jsonl) are read by FileTask.
"""

import collections
import csv
import dataclasses
import functools
import glob
import io
import math
import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional, Union

import numpy as np
from absl import logging

import tokenization
from toolkit.records import tf_records
from toolkit.support import command_line, files
from toolkit.support.command_line import AUTO, ThresholdParser
from toolkit.tasks import text_pairs, written_labels

# Holds the threshold that an evaluation has found, in the output directory.
THRESHOLD_FILE = "label_threshold.json"

Label = Any  # a label; a tuple of labels for LABELS, a number for NUMBER
Threshold = Union[float, str]  # a probability, or AUTO

_NUM_LOGGED_EXAMPLES = 5
_PROGRESS_INTERVAL = 10000  # examples


# ---- Examples and features ----------------------------------------------------------------------


@dataclasses.dataclass(eq=False)
class InputExample:
  """A text, or a pair of texts, with its label.

  Attributes:
    guid: name of the example.
    label: a member of the task's labels, a tuple of them for LABELS, a number for NUMBER, or None
      when it is not known.
    source: "file:line" where the example stands; messages name it.
  """

  guid: str
  text_a: str
  text_b: Optional[str] = None
  label: Label = None
  source: Optional[str] = None


class PaddingInputExample:
  """Fills the last batch where all batches must be full, as on a TPU. Counts in no metric."""


Example = Union[InputExample, PaddingInputExample]


@dataclasses.dataclass(eq=False)
class InputFeatures:
  """An example as the model takes it.

  Attributes:
    input_ids, input_mask, segment_ids, is_truncated: see tokenization.Encoded.
    label_id: the target, by the kind of the task: for CLASSES the place of the label in the list of
      labels; for LABELS a multi-hot list; for NUMBER the number.
    is_real_example: False for a PaddingInputExample.
    is_labeled: True if label_id is defined.
  """

  input_ids: list[int]
  input_mask: list[int]
  segment_ids: list[int]
  label_id: Union[int, list[float], float]
  is_real_example: bool = True
  is_truncated: bool = False
  is_labeled: bool = True


def record_features(
  max_seq_length: int,
  kind: "Optional[Kind]" = None,
  num_labels: Optional[int] = None,
  marks_unlabeled: bool = False,
) -> list[tf_records.Feature]:
  """Returns the columns of a TFRecord file of examples.

  Args:
    max_seq_length: S.
    kind: default CLASSES.
    num_labels: L; needed for LABELS.
    marks_unlabeled: True to add the column is_labeled.

  Returns:
    input_ids, input_mask, segment_ids int32 [S]; label_ids int32 for CLASSES, float32 [L] for
    LABELS, float32 for NUMBER; is_real_example and is_labeled int32.
  """
  return [
    *tf_records.token_features(max_seq_length),
    (kind or CLASSES).feature(num_labels),
    tf_records.Feature("is_real_example", np.int32),
    *([tf_records.Feature("is_labeled", np.int32)] if marks_unlabeled else []),
  ]


def feature_row(feature: InputFeatures) -> dict[str, Any]:
  """Returns features as a row for record_features: name -> number or list."""
  return {
    **{name: getattr(feature, name) for name in tf_records.INPUTS},
    "label_ids": feature.label_id,
    "is_real_example": int(feature.is_real_example),
    "is_labeled": int(feature.is_labeled),
  }


def convert_single_example(
  ex_index: int,
  example: Example,
  label_list: Sequence[str],
  max_seq_length: int,
  tokenizer: tokenization.FullTokenizer,
  kind: "Optional[Kind]" = None,
) -> InputFeatures:
  """Makes the InputFeatures of one example; logs the first few.

  Args:
    ex_index: place of the example in its set, from 0.
    example: without a label it gets label_id 0, or zeros.
    label_list: labels in the order of their ids; empty for NUMBER.
    max_seq_length: word pieces with [CLS] and [SEP]. A longer example is cut.
    tokenizer: of the model's vocabulary.
    kind: default: NUMBER when label_list is empty, else CLASSES.

  Raises:
    files.InputError: a label is not in label_list (for NUMBER: is not a finite number), or
      max_seq_length is too small for any text.
  """
  kind = kind or _usual_kind(label_list)
  if isinstance(example, PaddingInputExample):
    zeros = [0] * max_seq_length
    nothing = kind.encode(InputExample("", ""), label_list)
    return InputFeatures(zeros, zeros, zeros, nothing, is_real_example=False, is_labeled=False)

  encoded = text_pairs.encode(tokenizer, example.text_a, example.text_b, max_seq_length)
  feature = InputFeatures(
    encoded.input_ids,
    encoded.input_mask,
    encoded.segment_ids,
    kind.encode(example, label_list),
    is_truncated=encoded.is_truncated,
    is_labeled=example.label is not None,
  )
  if ex_index < _NUM_LOGGED_EXAMPLES:
    label = f"{example.label} (id = {feature.label_id})"
    inputs = {name: getattr(feature, name) for name in tf_records.INPUTS}
    tf_records.log_example(guid=example.guid, tokens=encoded.tokens, **inputs, label=label)
  return feature


def _place(example):
  return example.source or f"example {example.guid}"


def _usual_kind(label_list):
  return CLASSES if len(label_list) else NUMBER


def _label_place(example, label, label_list):
  label_list = list(label_list)
  if label not in label_list:
    raise _unknown_label(example, label, label_list)
  return label_list.index(label)


def _unknown_label(example, label, label_list):
  return files.InputError(
    f"{_place(example)}: found label {label!r}; known labels are {files.listed(label_list)}"
  )


def _parse_number(text, place, what="score, a finite number", above=-math.inf):
  try:
    number = float(text)
  except ValueError:
    number = math.nan
  if not above < number < math.inf:
    raise files.InputError(f"{place}: found {text!r} where the {what}, should be")
  return number


def file_based_convert_examples_to_features(
  examples: Sequence[Example],
  label_list: Sequence[str],
  max_seq_length: int,
  tokenizer: tokenization.FullTokenizer,
  output_file: str,
  kind: "Optional[Kind]" = None,
  marks_unlabeled: bool = False,
) -> int:
  """Writes the features of examples to a TFRecord file, in their order.

  Args:
    examples: in the order of the records.
    label_list, max_seq_length, tokenizer, kind: see convert_single_example.
    output_file: path of the file.
    marks_unlabeled: see record_features.

  Returns:
    The number of examples that were longer than max_seq_length and were cut.

  Raises:
    files.InputError: see convert_single_example; or the file cannot be written.
  """
  num_truncated = 0

  def rows():
    nonlocal num_truncated
    for feature in _convert_examples(examples, label_list, max_seq_length, tokenizer, kind):
      num_truncated += feature.is_truncated
      yield feature_row(feature)

  kind = kind or _usual_kind(label_list)
  table = record_features(max_seq_length, kind, len(label_list), marks_unlabeled)
  tf_records.write_records(output_file, rows(), table)
  _log_truncated(num_truncated, len(examples), max_seq_length)
  return num_truncated


def convert_examples_to_features(
  examples: Sequence[Example],
  label_list: Sequence[str],
  max_seq_length: int,
  tokenizer: tokenization.FullTokenizer,
  kind: "Optional[Kind]" = None,
) -> list[InputFeatures]:
  """Makes the features that file_based_convert_examples_to_features writes."""
  features = list(_convert_examples(examples, label_list, max_seq_length, tokenizer, kind))
  _log_truncated(sum(f.is_truncated for f in features), len(features), max_seq_length)
  return features


def _convert_examples(examples, label_list, max_seq_length, tokenizer, kind):
  for i, example in enumerate(examples):
    if i % _PROGRESS_INTERVAL == 0:
      logging.info("Writing example %d of %d", i, len(examples))
    yield convert_single_example(i, example, label_list, max_seq_length, tokenizer, kind)


def _log_truncated(num_truncated, num_examples, max_seq_length):
  if num_truncated:
    logging.warning(
      "%d of %d examples were longer than %d tokens and were cut",
      num_truncated,
      num_examples,
      max_seq_length,
    )


# ---- Kinds of output ----------------------------------------------------------------------------


class OneLabel:
  """One label of a list per text: softmax over the labels."""

  activation: Optional[str] = "softmax"
  metrics = ("accuracy", "macro_f1")
  label_columns = ("label",)

  def read(self, row: files.Row, column: int, separator: str) -> str:
    """Returns the label in a column; InputError without one."""
    del separator
    label = files.visible(files.cell(row, column) or "")
    if not label:
      raise files.InputError(f"{row.source}: has no label")
    return label

  def encode(self, example: InputExample, label_list: Sequence[str]) -> int:
    """Returns the label's place in the list; 0 without a label."""
    return 0 if example.label is None else _label_place(example, example.label, label_list)

  def feature(self, num_labels: Optional[int]) -> tf_records.Feature:
    """Returns the feature label_ids: int32."""
    del num_labels
    return tf_records.Feature("label_ids", np.int32)

  def score(
    self,
    labels: Sequence[str],
    probabilities: np.ndarray,
    label_list: Sequence[str],
    threshold: Threshold,
  ) -> dict[str, Any]:
    """Compares predictions with labels.

    Args:
      labels: N labels.
      probabilities: float32 [N, L].
      label_list: L labels in the order of their ids.
      threshold: unused; a multi-label task has one.

    Returns:
      Metrics, see glue_metrics.classification_metrics.
    """
    # Imported here alone, as a classifier that serves does without scikit-learn and SciPy.
    from toolkit.metrics import glue_metrics

    del threshold
    ids = {label: place for place, label in enumerate(label_list)}
    label_ids = np.array([ids[label] for label in labels])
    return glue_metrics.classification_metrics(label_ids, probabilities, label_list)

  def decide(
    self, probabilities: np.ndarray, label_list: Sequence[str], threshold: Threshold
  ) -> list[str]:
    """Returns the N labels with the highest probabilities, float32 [N, L]."""
    del threshold
    return [label_list[place] for place in probabilities.argmax(axis=1)]


class MultiLabel:
  """Any number of labels per text: a sigmoid per label. The methods are those of OneLabel."""

  activation: Optional[str] = "sigmoid"
  metrics = ("micro_f1", "macro_f1")
  label_columns = ("labels", "label")

  def read(self, row: files.Row, column: int, separator: str) -> tuple[str, ...]:
    """Returns ("b", "a") for "b, a" or a list, such as ["b", "a"], of JSON or as text."""
    return written_labels.read_column([row], column, separator)[0][0]

  def encode(self, example: InputExample, label_list: Sequence[str]) -> list[float]:
    """Returns a multi-hot list: of the labels a, b and c, ("c", "a") -> [1.0, 0.0, 1.0]."""
    multi_hot = [0.0] * len(label_list)
    for label in example.label or ():
      multi_hot[_label_place(example, label, label_list)] = 1.0
    return multi_hot

  def feature(self, num_labels: Optional[int]) -> tf_records.Feature:
    """Returns the feature label_ids: float32 [L]."""
    assert num_labels is not None, "the number of labels is needed"
    return tf_records.Feature("label_ids", np.float32, (num_labels,))

  def score(
    self,
    labels: Sequence[tuple[str, ...]],
    probabilities: np.ndarray,
    label_list: Sequence[str],
    threshold: Threshold,
  ) -> dict[str, Any]:
    """Compares predictions with tuples of labels; AUTO finds the threshold with the best micro F1.

    Returns:
      Dict of metrics, see glue_metrics.multi_label_metrics, and the threshold.
    """
    from toolkit.metrics import glue_metrics  # see OneLabel

    truth = np.array([[label in chosen for label in label_list] for chosen in labels])
    if threshold == AUTO:
      threshold = glue_metrics.best_threshold(truth, probabilities)
    predictions = self._reach(probabilities, threshold)
    metrics = glue_metrics.multi_label_metrics(truth, predictions, label_list)
    return {**metrics, "threshold": threshold}

  def decide(
    self, probabilities: np.ndarray, label_list: Sequence[str], threshold: float
  ) -> list[tuple[str, ...]]:
    """Returns N tuples of the labels whose probabilities reach the threshold."""
    rows = self._reach(probabilities, threshold)
    return [tuple(label for label, is_chosen in zip(label_list, row) if is_chosen) for row in rows]

  @staticmethod
  def _reach(probabilities, threshold):
    return probabilities.astype(np.float64) >= threshold  # has more digits than float32


class Regression:
  """A number per text. The methods are those of OneLabel; probabilities [N, 1] are the numbers."""

  activation: Optional[str] = None
  metrics = ("pearson", "spearman")
  label_columns = ("score", "label")

  def read(self, row: files.Row, column: int, separator: str) -> float:
    """Returns the number in a column; InputError without a finite one."""
    return _parse_number(CLASSES.read(row, column, separator), row.source)

  def encode(self, example: InputExample, label_list: Sequence[str]) -> float:
    """Returns the number; 0.0 without a label."""
    del label_list
    return 0.0 if example.label is None else _parse_number(example.label, _place(example))

  def feature(self, num_labels: Optional[int]) -> tf_records.Feature:
    """Returns the feature label_ids: float32."""
    del num_labels
    return tf_records.Feature("label_ids", np.float32)

  def score(
    self,
    labels: Sequence[float],
    probabilities: np.ndarray,
    label_list: Sequence[str],
    threshold: Threshold,
  ) -> dict[str, Any]:
    """Compares numbers; see glue_metrics.regression_metrics."""
    from toolkit.metrics import glue_metrics  # see OneLabel

    del label_list, threshold
    return glue_metrics.regression_metrics(np.array(labels, float), probabilities[:, 0])

  def decide(
    self, probabilities: np.ndarray, label_list: Sequence[str], threshold: Threshold
  ) -> list[float]:
    """Returns the N predicted numbers."""
    del label_list, threshold
    return list(probabilities[:, 0])


Kind = Union[OneLabel, MultiLabel, Regression]
KINDS = CLASSES, LABELS, NUMBER = OneLabel(), MultiLabel(), Regression()


# ---- Tasks --------------------------------------------------------------------------------------


class MissingSetError(files.InputError, NotImplementedError):
  """A task has no such set: XNLI has no test set."""


class DataProcessor:
  """Base of readers of examples; a class for data of another form overrides the four methods."""

  def get_train_examples(self, data_dir: str) -> list[InputExample]:
    """Reads the training file in data_dir."""
    raise NotImplementedError()

  def get_dev_examples(self, data_dir: str) -> list[InputExample]:
    """Reads the development file in data_dir."""
    raise NotImplementedError()

  def get_test_examples(self, data_dir: str) -> list[InputExample]:
    """Reads the test file in data_dir; the labels are undefined."""
    raise NotImplementedError()

  def get_labels(self) -> list[str]:
    """Returns the labels in the order of their ids."""
    raise NotImplementedError()

  @classmethod
  def _read_tsv(cls, input_file, quotechar=None):
    """Returns the rows of a tab-separated file, lists of str, without blank ones."""
    if quotechar is None:
      return files.read_tsv_rows(input_file)
    return files.read_csv_rows(input_file, delimiter="\t", quotechar=quotechar)


class Task(DataProcessor):
  """Base of all tasks, whatever the form of their files.

  Attributes:
    kind: for NUMBER get_labels() is empty.
    metrics: keys of glue_metrics: the task's official metrics.
    dev_sets, test_sets: names of the sets to evaluate and predict. The first is that of
      get_dev_examples and get_test_examples.
  """

  name: str
  kind: Kind
  metrics: tuple[str, ...]
  dev_sets: tuple[str, ...]
  test_sets: tuple[str, ...]

  def get_train_examples(self, data_dir: str) -> list[InputExample]:
    return self.get_examples("train", data_dir)

  def get_dev_examples(self, data_dir: str) -> list[InputExample]:
    return self.get_examples(self.dev_sets[0] if self.dev_sets else "dev", data_dir)

  def get_test_examples(self, data_dir: str) -> list[InputExample]:
    return self.get_examples(self.test_sets[0] if self.test_sets else "test", data_dir)

  def get_examples(self, set_name: str, data_dir: str) -> list[InputExample]:
    """Reads a set.

    Args:
      set_name: "train", or a member of dev_sets or test_sets.
      data_dir: the directory with the task's files.

    Returns:
      One or more examples. The labels of a test set are undefined.

    Raises:
      MissingSetError: the task has no such set.
      files.InputError: names the file, and the line, that cannot be used.
    """
    raise NotImplementedError()

  def get_predict_examples(self, path: str) -> list[InputExample]:
    """Reads a file with the form of a test set; see get_examples."""
    raise NotImplementedError()

  def get_labels(self, data_dir: Optional[str] = None) -> list[str]:
    """Returns the labels in the order of their ids; none for NUMBER.

    Tasks of the user's own find them in the training file in data_dir, or raise files.InputError.
    """
    raise NotImplementedError()

  def submission(
    self, set_name: str, examples: Sequence[InputExample], predictions: Sequence[Label]
  ) -> Optional[tuple[str, str]]:
    """Formats predictions as the benchmark's leaderboard takes them.

    Args:
      set_name: member of test_sets, or another name.
      examples: the N examples of that set.
      predictions: N labels, or numbers for NUMBER.

    Returns:
      The file's name and its text. None when there is no leaderboard for the set.
    """
    del set_name, examples, predictions
    return None


def _labels_of(example):
  """Returns a tuple of all labels of an example."""
  return example.label if isinstance(example.label, tuple) else (example.label,)


def _check_labels(examples, label_list):
  known = set(label_list)
  for example in examples:
    for label in _labels_of(example):
      if label not in known:
        raise _unknown_label(example, label, label_list)


def _warn_of_empty_texts(path, examples, has_pairs):
  empty = [
    e for e in examples if not e.text_a.strip() or (has_pairs and not (e.text_b or "").strip())
  ]
  if empty:
    logging.warning("%s: %d rows have an empty text, first %s", path, len(empty), _place(empty[0]))


# ---- GLUE and XNLI ------------------------------------------------------------------------------


class Columns(NamedTuple):
  """Places of the columns of a file, from 0.

  Attributes:
    text: of the first text.
    text_b: of the second text, or None.
    label: of the label, -1 for the last column, or None if the file has no labels.
    guid: of the rows' own ids, or None where examples are numbered by row.
    language: of the language that a row is in, or None.
    header: whether the first row names the columns.
    file: path in the data directory, or None for `<set>.tsv`; "{language}" stands for the language
      that a set was translated into.
  """

  text: int
  text_b: Optional[int] = None
  label: Optional[int] = None
  guid: Optional[int] = None
  language: Optional[int] = None
  header: bool = True
  file: Optional[str] = None

  @property
  def width(self) -> int:
    """The least number of columns of a row."""
    places = (self.text, self.text_b, self.label, self.guid, self.language)
    return max(c for c in places if c is not None) + 1 + (self.label == -1)


class TaskRow(NamedTuple):
  """A data set.

  Attributes:
    labels: in the order of their ids; empty for NUMBER.
    metrics: see Task.
    sets: name of a set -> its columns. A guid begins with the name of the set.
    label_aliases: label as written in a file -> member of labels, where they differ.
    submissions: names of the leaderboard's files, per test set, without .tsv.
  """

  labels: tuple[str, ...]
  metrics: tuple[str, ...]
  sets: dict[str, Columns]
  label_aliases: dict[str, str] = {}  # noqa: RUF012, never changed
  submissions: tuple[str, ...] = ()


def _sets(labelled, test):
  """Returns the usual three sets, of which the first two have equal columns."""
  return {"train": labelled, "dev": labelled, "test": test}


_BINARY = ("0", "1")
_ENTAILMENT = ("entailment", "not_entailment")
_INFERENCE = ("contradiction", "entailment", "neutral")

_MNLI_LABELLED = Columns(8, 9, label=-1, guid=0)
_MNLI_TEST = Columns(8, 9, guid=0)
_PAIR_TEST = Columns(1, 2, guid=0)  # index, first text, second text
_PAIR_SETS = _sets(_PAIR_TEST._replace(label=3), _PAIR_TEST)

TASKS = {
  "cola": TaskRow(
    _BINARY, ("matthews",), _sets(Columns(3, label=1, header=False), Columns(1)), {}, ("CoLA",)
  ),
  "sst-2": TaskRow(_BINARY, ("accuracy",), _sets(Columns(0, label=1), Columns(1)), {}, ("SST-2",)),
  "mrpc": TaskRow(
    _BINARY, ("accuracy", "f1"), _sets(Columns(3, 4, label=0), Columns(3, 4)), {}, ("MRPC",)
  ),
  "sts-b": TaskRow(
    (),
    ("pearson", "spearman"),
    _sets(Columns(7, 8, label=9, guid=0), Columns(7, 8, guid=0)),
    {},
    ("STS-B",),
  ),
  "qqp": TaskRow(
    _BINARY,
    ("accuracy", "f1"),
    _sets(Columns(3, 4, label=5, guid=0), Columns(1, 2, guid=0)),
    submissions=("QQP",),
  ),
  "mnli": TaskRow(
    _INFERENCE,
    ("accuracy",),
    {
      "train": _MNLI_LABELLED,
      "dev_matched": _MNLI_LABELLED,
      "dev_mismatched": _MNLI_LABELLED,
      "test": _MNLI_TEST._replace(file="test_matched.tsv"),
      "test_mismatched": _MNLI_TEST,
    },
    submissions=("MNLI-m", "MNLI-mm"),
  ),
  # GLUE's diagnostic set, which is for models that were trained on MNLI.
  "ax": TaskRow(
    _INFERENCE, ("matthews",), {"test": _PAIR_TEST._replace(file="diagnostic.tsv")}, {}, ("AX",)
  ),
  "qnli": TaskRow(_ENTAILMENT, ("accuracy",), _PAIR_SETS, {}, ("QNLI",)),
  "rte": TaskRow(_ENTAILMENT, ("accuracy",), _PAIR_SETS, {}, ("RTE",)),
  "wnli": TaskRow(_BINARY, ("accuracy",), _PAIR_SETS, {}, ("WNLI",)),
  "xnli": TaskRow(
    _INFERENCE,
    ("accuracy",),
    {
      "train": Columns(0, 1, label=2, file="multinli/multinli.train.{language}.tsv"),
      "dev": Columns(6, 7, label=1, language=0, file="xnli.dev.tsv"),
    },
    label_aliases={"contradictory": "contradiction"},
  ),
}

# The scores of STS-B go from 0 to 5; those of a model may lie outside.
_SCORE_RANGE = (0.0, 5.0)


class GlueTask(Task):
  """A task of TASKS, in the files that are distributed with it."""

  language: Optional[str] = None

  def __init__(self, name: str) -> None:
    self.name = name
    self._row = TASKS[name]
    self.metrics = self._row.metrics
    self.kind = CLASSES if self._row.labels else NUMBER
    self.dev_sets = tuple(s for s in self._row.sets if s.startswith("dev"))
    self.test_sets = tuple(s for s in self._row.sets if s.startswith("test"))

  def get_labels(self, data_dir: Optional[str] = None) -> list[str]:
    del data_dir  # known beforehand
    return list(self._row.labels)

  def get_examples(self, set_name: str, data_dir: str) -> list[InputExample]:
    return self._read(self._path(set_name, data_dir), set_name)

  def get_predict_examples(self, path: str) -> list[InputExample]:
    return self._read(path, "test")

  def submission(
    self, set_name: str, examples: Sequence[InputExample], predictions: Sequence[Label]
  ) -> Optional[tuple[str, str]]:
    names = dict(zip(self.test_sets, self._row.submissions))
    if set_name not in names:
      return None
    # Where examples are numbered by row, the header is number 0; the benchmark begins below it.
    is_numbered = self._columns(set_name).guid is None
    lines = ["index\tprediction\n"]
    for example, prediction in zip(examples, predictions):
      index = example.guid.rpartition("-")[2]
      if self.kind == NUMBER:
        prediction = f"{np.clip(prediction, *_SCORE_RANGE):.3f}"
      lines.append(f"{int(index) - 1 if is_numbered else index}\t{prediction}\n")
    return f"{names[set_name]}.tsv", "".join(lines)

  def _path(self, set_name, data_dir):
    return os.path.join(data_dir, self._columns(set_name).file or f"{set_name}.tsv")

  def _columns(self, set_name):
    if set_name not in self._row.sets:
      raise MissingSetError(
        f"--task_name: {self.name} has no set {set_name!r}, only "
        f"{files.listed(list(self._row.sets))}"
      )
    return self._row.sets[set_name]

  def _read(self, path, set_name):
    columns = self._columns(set_name)
    rows = self._read_rows(path)
    if columns.header and rows:
      files.check_header(rows)
    examples = self._create_examples(rows, set_name)
    if not examples:
      raise files.InputError(f"{path}: has no examples{self._why_empty(rows, columns)}")
    if self.kind != NUMBER:
      _check_labels(examples, self.get_labels())
    _warn_of_empty_texts(path, examples, columns.text_b is not None)
    return examples

  def _read_rows(self, path):
    file_format = files.table_format(path, "tsv")
    if file_format == "jsonl":
      raise files.InputError(
        f"{path}: {self.name} has columns that are known by their place; give a .tsv or .csv file"
      )
    if file_format == "csv":
      return files.read_csv_rows(path, strict=True)
    files.check_format(path)
    return self._read_tsv(path)

  def _why_empty(self, rows, columns):
    """Returns the end of the message about rows without an example."""
    if columns.language is not None:
      others = sorted({row[columns.language] for row in rows[1:] if len(row) >= columns.width})
      if others:
        return f" of language {self.language!r}; its languages are {files.listed(others)}"
    below = " below a header" if columns.header else ""
    return f"; {self.name} has rows of {columns.width} or more columns{below}"

  def _create_examples(self, lines, set_type):
    """Makes a list of InputExample; rows with too few columns are left out and counted in the log.

    Args:
      lines: list of lists of str, with the header if the set has one.
      set_type: str, name of the set; one that the task does not have is read like "train". Test
        examples get the first label (0.0 for NUMBER).
    """
    columns = self._row.sets.get(set_type) or self._row.sets["train"]
    examples, broken = [], []
    for i, row in enumerate(lines):
      if i == 0 and columns.header:
        continue
      if len(row) < columns.width:
        broken.append(getattr(row, "source", f"row {i}"))
      elif columns.language is None or row[columns.language] == self.language:
        number = i if columns.guid is None else row[columns.guid]
        examples.append(self._create_example(row, columns, f"{set_type}-{number}"))
    if broken:
      logging.warning(
        "Skipped %d rows of %s with fewer than %d columns: %s",
        len(broken),
        self.name,
        columns.width,
        ", ".join(broken[:3]) + (", ..." if len(broken) > 3 else ""),
      )
    return examples

  def _create_example(self, row, columns, guid):
    source = getattr(row, "source", None)
    if columns.label is None:
      label = 0.0 if self.kind == NUMBER else self._row.labels[0]
    elif self.kind == NUMBER:
      label = _parse_number(row[columns.label], source or guid)
    else:
      label = self._row.label_aliases.get(row[columns.label], row[columns.label])
    text_b = None if columns.text_b is None else row[columns.text_b]
    return InputExample(guid, row[columns.text], text_b, label, source)


class XnliProcessor(GlueTask):
  """XNLI: evaluation in one of 15 languages, after training in the same or another.

  Attributes:
    language: code of the language that is evaluated, as the files have it.
    train_language: code of the language that the training data was translated into ("en" for the
      original); None for the same.
  """

  def __init__(self, language: str = "zh", train_language: Optional[str] = None) -> None:
    super().__init__("xnli")
    self.language = language
    self.train_language = train_language

  def _path(self, set_name, data_dir):
    pattern = super()._path(set_name, data_dir)
    path = pattern.replace("{language}", self.train_language or self.language)
    if path == pattern or files.exists(path):
      return path
    start, end = pattern.split("{language}")
    paths = files.glob(f"{glob.escape(start)}*{glob.escape(end)}")
    found = [name[len(start) : -len(end)] for name in paths]
    raise files.InputError(
      f"--xnli_train_language: there is no {path}; "
      + (
        f"there are files of {files.listed(found)}" if found else "--data_dir has no training files"
      )
    )


class MnliProcessor(GlueTask):
  """MultiNLI."""

  def __init__(self) -> None:
    super().__init__("mnli")


class MrpcProcessor(GlueTask):
  """The Microsoft Research Paraphrase Corpus."""

  def __init__(self) -> None:
    super().__init__("mrpc")


class ColaProcessor(GlueTask):
  """The Corpus of Linguistic Acceptability."""

  def __init__(self) -> None:
    super().__init__("cola")


# ---- Files of the user's own --------------------------------------------------------------------


# Names of columns that are taken for the texts, in this order, when none are given.
_USUAL_TEXT_COLUMNS = (
  ("sentence1", "sentence2"),
  ("question1", "question2"),
  ("premise", "hypothesis"),
  ("text_a", "text_b"),
  ("sentence", None),
  ("text", None),
)


class FileOptions(NamedTuple):
  """The form of the files of a user's own task.

  Columns are names, or numbers from 0 (int, or str of digits) in tsv and csv files.

  Attributes:
    text_column: column of the text. None: sentence1 and sentence2, question1 and question2, premise
      and hypothesis, text_a and text_b, sentence, or text, the first that there is; in a file
      without a header column 0.
    text_b_column: column of the second text. None: none, or the second of those above.
    label_column: column of the label. None: "label", before it for LABELS "labels", for NUMBER
      "score"; in a file without a header column 1.
    id_column: column of the rows' ids. None: rows are numbered from 0.
    has_header: True if the first row of tsv and csv files names the columns.
    label_file: path of a file with the labels in the order of their ids, one per line. None: the
      labels are those of the training file, in order of value if all are integers, else of text.
    labels: the same without a file.
    multi_label: True if a text has any number of labels, none included: the kind is LABELS.
    label_separator: stands between them; they may be a list, see written_labels.
    label_columns: columns with 0 or 1, or false or true, which are the labels; None: they are in
      label_column.
    regression: True if labels are numbers to predict: the kind is NUMBER.
  """

  text_column: Optional[str] = None
  text_b_column: Optional[str] = None
  label_column: Optional[str] = None
  id_column: Optional[str] = None
  has_header: bool = True
  label_file: Optional[str] = None
  labels: Optional[list[str]] = None
  multi_label: bool = False
  label_separator: str = ","
  label_columns: Optional[list[str]] = None
  regression: bool = False

  @property
  def kind(self) -> Kind:
    """The kind of output."""
    return LABELS if self.multi_label else NUMBER if self.regression else CLASSES


class FileTask(Task):
  """A task in train, dev and test files of the user's own.

  Labels of the test file are not read, so it needs no such column.
  """

  dev_sets = ("dev",)
  test_sets = ("test",)

  def __init__(self, file_format: str, options: FileOptions) -> None:
    """Takes a member of files.TABLES and options; files are `<set>.<file_format>`.

    Raises:
      files.InputError: the file with labels cannot be used, or options exclude each other.
    """
    if options.multi_label and options.regression:
      raise files.InputError("--multi_label and --regression exclude each other; give one of them")
    if not options.label_separator:
      raise files.InputError("--label_separator is empty; give the separator of labels")
    _check_label_columns(options)
    self.name = file_format
    self.kind = options.kind
    self.metrics = self.kind.metrics
    self._options = options
    self._labels = [] if self.kind == NUMBER else options.labels or options.label_columns
    if self._labels is None and options.label_file:
      self._labels = _read_labels(options.label_file)

  def get_labels(self, data_dir: Optional[str] = None) -> list[str]:
    if self._labels is None:
      if data_dir is None:
        raise files.InputError(
          "--label_file: is needed where there is no training data (--data_dir) to find labels in"
        )
      self.get_train_examples(data_dir)
    return list(self._labels or ())

  def get_examples(self, set_name: str, data_dir: str) -> list[InputExample]:
    if set_name not in ("train", "dev", "test"):
      raise MissingSetError(f"--task_name: {self.name} has no set {set_name!r}")
    path = os.path.join(data_dir, f"{set_name}.{self.name}")
    files.check_format(path)
    if set_name == "dev" and self.kind != NUMBER:
      self.get_labels(data_dir)  # by which numbers 0 and 1 of the file are known
    examples = self._read(path, set_name, self.name)
    if set_name == "train" and self._labels is None:
      self._labels = _find_labels(path, examples)
    if set_name != "test" and self.kind != NUMBER:
      _check_labels(examples, self.get_labels(data_dir))
    return examples

  def get_predict_examples(self, path: str) -> list[InputExample]:
    return self._read(path, "test", files.table_format(path, self.name))

  def _read(self, path, set_name, file_format):
    table = files.read_table(path, file_format, self._options.has_header)
    can_be_number = file_format != "jsonl"
    columns = self._columns(table, can_be_number, is_labelled=set_name != "test")
    label_columns = {}
    if set_name != "test":
      label_columns = _find_label_columns(table, self._options, can_be_number, columns)
    files.check_widths(table, max(columns.width, *(c + 1 for c in label_columns.values()), 0))
    examples = [
      self._create_example(row, columns, f"{set_name}-{i}") for i, row in enumerate(table.rows)
    ]
    if set_name != "test":
      for example, label in zip(examples, self._read_labels(table, columns, label_columns)):
        example.label = label
    _warn_of_empty_texts(path, examples, columns.text_b is not None)
    return examples

  def _read_labels(self, table, columns, label_columns):
    """Returns the label of each row."""
    if label_columns:
      return written_labels.read_columns(table.rows, label_columns)
    separator = self._options.label_separator
    if self.kind is not LABELS:
      return [self.kind.read(row, columns.label, separator) for row in table.rows]
    found, names = written_labels.read_column(table.rows, columns.label, separator, self._labels)
    self._labels = self._labels or names
    return found

  def _create_example(self, row, columns, guid):
    text, text_b, own_guid = (
      None if column is None else files.cell(row, column)
      for column in (columns.text, columns.text_b, columns.guid)
    )
    if text is None:
      raise files.InputError(f"{row.source}: has no text")
    return InputExample(guid if own_guid is None else own_guid, text, text_b, None, row.source)

  def _columns(self, table, can_be_number, is_labelled):
    """Finds the Columns of a file; InputError if it does not have them, or two are the same."""
    options = self._options

    def find(flag):
      wanted = getattr(options, flag)
      return None if wanted is None else files.find_column(table, wanted, flag, can_be_number)

    text, text_b = find("text_column"), find("text_b_column")
    if text is None:
      text, usual_text_b = _usual_text_columns(table)
      text_b = usual_text_b if text_b is None else text_b
    label = None
    if is_labelled and not options.label_columns:
      label = find("label_column")
      label = self._usual_label_column(table) if label is None else label
    used = [column for column in (text, text_b, label) if column is not None]
    if len(set(used)) < len(used):
      raise files.InputError(
        f"{table.path}: --text_column, --text_b_column and --label_column must be different, "
        f"found columns {files.listed(used)}"
      )
    return Columns(text, text_b, label, guid=find("id_column"))

  def _usual_label_column(self, table):
    if table.columns is None:
      return 1
    for name in self.kind.label_columns:
      if name in table.columns:
        return table.columns.index(name)
    raise files.unknown_column(table, "label_column", "name the column with the labels")


def _check_label_columns(options):
  """Raises files.InputError for flags that are not for a column per label."""
  names = options.label_columns
  if names is None:
    return
  if not options.multi_label:
    raise files.InputError(
      "--label_columns is for several labels per text; give --multi_label, too"
    )
  if len(set(names)) < max(2, len(names)):
    raise files.InputError(
      f"--label_columns: found {files.listed(names)}; give two or more different columns"
    )
  for flag in ("label_column", "label_file"):
    if getattr(options, flag) is not None:
      raise files.InputError(f"--label_columns and --{flag} exclude each other; give one of them")
  unknown = [name for name in names if options.labels and name not in options.labels]
  if unknown:
    raise files.InputError(
      f"--label_columns: the model has no label {files.listed(unknown)}, only "
      f"{files.listed(options.labels)}"
    )


def _find_label_columns(table, options, can_be_number, columns):
  """Returns a dict of label -> place of its column, empty without --label_columns."""
  found = {
    name: files.find_column(table, name, "label_columns", can_be_number)
    for name in options.label_columns or ()
  }
  if {columns.text, columns.text_b}.intersection(found.values()):
    raise files.InputError(f"{table.path}: --label_columns: a column of a text is among them")
  return found


def _usual_text_columns(table):
  if table.columns is None:
    return 0, None
  for first, second in _USUAL_TEXT_COLUMNS:
    if first in table.columns and (second is None or second in table.columns):
      return table.columns.index(first), second and table.columns.index(second)
  raise files.unknown_column(table, "text_column", "name the column with the text")


def _find_labels(path, examples):
  sources: dict[str, list[str]] = {}
  for example in examples:
    for label in _labels_of(example):
      sources.setdefault(label, []).append(_place(example))
  written_labels.warn_of_look_alikes(path, sources)
  labels = set(sources)
  if len(labels) < 2:
    found = f"the label {files.listed(list(labels))} alone" if labels else "no label"
    raise files.InputError(f"{path}: found {found}; there must be two or more")
  if all(re.fullmatch(r"[+-]?\d+", label) for label in labels):
    return sorted(labels, key=lambda label: (int(label), label))
  return sorted(labels)


def _read_labels(path):
  labels = {}
  for number, line in files.read_lines(path):
    label = files.visible(line)
    if label in labels:
      raise files.InputError(f"{path}:{number}: found label {label!r} again; list each label once")
    if label:
      labels[label] = [f"{path}:{number}"]
  written_labels.warn_of_look_alikes(path, labels)
  if len(labels) < 2:
    raise files.InputError(f"{path}: found {len(labels)} labels; there must be two or more")
  return list(labels)


# ---- Weights of classes --------------------------------------------------------------------------

BALANCED = "balanced"


def class_weights(
  choice: str, label_list: Sequence[str], examples: Sequence[InputExample]
) -> list[float]:
  """Returns the weights of the classes in the training loss, above 0.

  With the labels a and b, and 3 examples of a and 1 of b, BALANCED is [4 / (2 * 3), 4 / (2 * 1)]:
  both classes have equal weight in all, and the mean weight of the examples is 1.

  Args:
    choice: BALANCED, or path of a file with a label, a tab and its weight in each line.
    label_list: labels in the order of their ids, which is that of the weights too.
    examples: the training set.

  Raises:
    files.InputError: BALANCED and a label without examples; or a line of the file (file:line) that
      cannot be used, or a label that it lacks.
  """
  if choice != BALANCED:
    return _read_weights(choice, label_list)
  counts = collections.Counter(example.label for example in examples)
  missing = [label for label in label_list if label not in counts]
  if missing:
    raise files.InputError(
      f"--class_weights={BALANCED}: the training set has no example of {files.listed(missing)}; "
      "give a file with weights"
    )
  return [len(examples) / (len(label_list) * counts[label]) for label in label_list]


def _read_weights(path, label_list):
  weights = {}
  for number, line in files.read_lines(path):
    if not line.strip():
      continue
    place = f"{path}:{number}"
    label, _, weight = map(files.visible, line.partition("\t"))
    if not weight:
      raise files.InputError(f"{place}: found {line!r}, should be a label, a tab and its weight")
    if label not in label_list:
      raise _unknown_label(InputExample("", "", source=place), label, label_list)
    if label in weights:
      raise files.InputError(f"{place}: found label {label!r} again; list each label once")
    weights[label] = _parse_number(weight, place, "weight, a finite number above 0", above=0.0)
  missing = [label for label in label_list if label not in weights]
  if missing:
    raise files.InputError(
      f"{path}: has no weight of {files.listed(missing)}; give one to each label"
    )
  return [weights[label] for label in label_list]


# ---- All tasks ----------------------------------------------------------------------------------

TASK_HELP = (
  f"Task: {', '.join(TASKS)}, with the task's own files in --data_dir. For your own files their "
  f"format: {', '.join(files.TABLES)}, such as train.tsv, dev.tsv and test.tsv."
)


def find_task(task_name: str, **options: Any) -> Task:
  """Finds the Task of a name.

  Args:
    task_name: key of TASKS or member of files.TABLES; upper case, "-" and "_" make no difference.
    **options: fields of FileOptions. For a task of TASKS only `labels` may differ from the default,
      and is ignored.

  Raises:
    files.InputError: there is no such task; or an option that it does not take.
  """
  file_options = FileOptions(**options)
  names = {_plain_name(name): name for name in (*TASKS, *files.TABLES)}
  name = names.get(_plain_name(task_name))
  if name is None:
    raise files.InputError(
      f"--task_name: Task not found: {task_name}; known tasks are {', '.join(names.values())}"
    )
  if name in files.TABLES:
    return FileTask(name, file_options)
  for option, default in FileOptions._field_defaults.items():
    if option != "labels" and getattr(file_options, option) != default:
      raise files.InputError(
        f"--{option}: cannot be given with the task {name}, only with {', '.join(files.TABLES)}"
      )
  return XnliProcessor() if name == "xnli" else GlueTask(name)


def _plain_name(task_name):
  return re.sub("[-_ ]", "", task_name.lower())


# ---- The settings of a run ----------------------------------------------------------------------


def define_flags(flags: command_line.ScriptFlags) -> None:
  """Defines the flags of reading, kind of output, decision and class weights."""
  _define_columns(flags)
  _define_output(flags)
  flags.DEFINE_bool("predictions_with_text", False, "Write the texts to predictions.tsv, too.")


def _define_columns(flags):
  define = functools.partial(flags.DEFINE_string, remembered=True)
  define(
    "text_column",
    None,
    "tsv, csv, jsonl: column of the text, by name or by number from 0. Default: sentence, text or "
    "sentence1; without a header the first column.",
  )
  define("text_b_column", None, "tsv, csv, jsonl: column of the second text of a pair.")
  define("label_column", None, "tsv, csv, jsonl: column of the label. Default: label.")
  flags.DEFINE_list(
    "label_columns",
    None,
    "tsv, csv, jsonl: labels of --multi_label with a column each, of 0 and 1, or false and true. "
    "In place of --label_column.",
    remembered=True,
  )
  define("id_column", None, "tsv, csv, jsonl: column of the id. Default: rows are numbered.")
  flags.DEFINE_bool(
    "has_header", True, "tsv, csv: the first line has the names of the columns.", remembered=True
  )
  define(
    "label_file",
    None,
    "tsv, csv, jsonl: file with the labels, one per line. Default: those of the training data.",
  )


def _define_output(flags):
  flags.DEFINE_bool(
    "multi_label",
    False,
    "tsv, csv, jsonl: multi-label classification, with any number of labels per text. Default "
    "column: labels, or label.",
    remembered=True,
    identity=True,
    shared=True,
  )
  flags.DEFINE_string(
    "label_separator",
    ",",
    "Separator of the labels of a text, with --multi_label. Lists are read, too: quoted labels, "
    "such as ['a', 'b'], or a 0 or 1 per line of --label_file, such as [0, 1, 0].",
    remembered=True,
  )
  flags.DEFINE_bool(
    "regression",
    False,
    "tsv, csv, jsonl: regression, with a number per text. Default column: score, or label.",
    remembered=True,
    identity=True,
    shared=True,
  )
  flags.DEFINE_string(
    "xnli_language",
    "zh",
    "xnli: language code of the evaluation, one of those in xnli.dev.tsv.",
    remembered=True,
  )
  flags.DEFINE_string(
    "xnli_train_language",
    None,
    "xnli: language code of the training, which needs a file in multinli/. Default: "
    "--xnli_language.",
    remembered=True,
  )
  flags.DEFINE(
    ThresholdParser(),
    "label_threshold",
    0.5,
    "Minimum probability of a predicted label, with --multi_label. `auto`: the threshold with the "
    "best micro F1 on the dev set, one for all labels. --do_eval finds it and keeps it in "
    "--output_dir.",
    serializer=flags.ArgumentSerializer(),
    remembered=True,
  )
  flags.register_validator(
    "label_threshold",
    lambda threshold: threshold == AUTO or 0 < threshold < 1,
    f"must be above 0 and below 1, or {AUTO}",
  )
  flags.DEFINE_string(
    "class_weights",
    None,
    "Weights of the classes in the training loss: a file with a label, a tab and its weight per "
    f"line; or `{BALANCED}`, n / (classes * count), which gives all classes the same total weight.",
    group="training",
  )


def task_of(settings: command_line.Settings, labels: Optional[list[str]] = None) -> Task:
  """Finds the task of a run.

  Args:
    settings: the flags of run_classifier.py.
    labels: in the order of their ids, if they are known beforehand.

  Raises:
    files.InputError: see find_task; or a flag that is for tasks of another kind.
  """
  names = [name for name in FileOptions._fields if name != "labels"]
  options = {name: settings[name] for name in names}
  task = find_task(settings.task_name, labels=labels, **options)
  if isinstance(task, XnliProcessor):
    task.language, task.train_language = settings.xnli_language, settings.xnli_train_language
  else:
    for name in ("xnli_language", "xnli_train_language"):
      if settings.is_given(name):
        raise files.InputError(f"--{name}: the task {task.name} has no languages; leave it out")
  for name, kind, needed in (
    ("label_separator", LABELS, "several labels per text (--multi_label)"),
    ("label_threshold", LABELS, "several labels per text (--multi_label)"),
    ("class_weights", CLASSES, "one label per text, not several and not a number"),
  ):
    if settings.is_given(name) and task.kind is not kind:
      raise files.InputError(f"--{name} is for tasks with {needed}; leave it out")
  return task


def kind_of(flags: dict[str, Any]) -> Kind:
  """Returns the kind of output of a model by the flags of its training."""
  names = ("multi_label", "regression")
  return find_task(flags["task_name"], **{name: flags.get(name, False) for name in names}).kind


def predicted_sets(task: Task, settings: command_line.Settings) -> tuple[str, ...]:
  """Returns the names of the sets to predict."""
  return ("predict_file",) if settings.predict_file else task.test_sets


def read_sets(task: Task, settings: command_line.Settings) -> dict[str, list[InputExample]]:
  """Reads all sets that a run works on.

  Returns:
    Set name -> examples. "unlabeled" is a part of the training set.

  Raises:
    files.InputError: the task lacks a set, or see Task.get_examples.
  """
  wanted = ["train"] if settings.do_train else []
  if settings.do_eval:
    if not task.dev_sets:
      raise files.InputError(f"--do_eval: {task.name} has no dev set; use --do_predict alone")
    wanted += task.dev_sets
  elif settings.do_train and settings.eval_steps:
    wanted += task.dev_sets[:1]
  if settings.do_predict:
    if not predicted_sets(task, settings):
      raise files.InputError(f"--do_predict: {task.name} has no test set; give --predict_file")
    wanted += predicted_sets(task, settings)
  examples = {
    name: task.get_predict_examples(settings.predict_file)
    if name == "predict_file"
    else task.get_examples(name, settings.data_dir)
    for name in wanted
  }
  if settings.do_train and settings.as_dict().get("unlabeled_file"):
    examples["unlabeled"] = task.get_predict_examples(settings.unlabeled_file)
    for example in examples["unlabeled"]:
      example.label = None  # in place of what stands for a label in some test sets
  return examples


def label_threshold(settings: command_line.Settings, is_kept: bool = True) -> float:
  """Finds the probability from which on a label is predicted.

  A number on the command line overrides the threshold that an evaluation has found, which overrides
  the number of the training.

  Args:
    settings: the flags of run_classifier.py.
    is_kept: True if the threshold of an earlier evaluation stays valid.

  Raises:
    files.InputError: it is to be found by an evaluation, and there was none.
  """
  value = settings.label_threshold
  if settings.is_given("label_threshold") and value != AUTO:
    return value
  return known_threshold(settings.output_dir, value, is_kept)


def known_threshold(output_dir: str, trained: Threshold, is_kept: bool = True) -> float:
  """Returns the threshold that an evaluation has found, or that of the training.

  Args:
    output_dir: the output directory.
    trained: --label_threshold of the training.
    is_kept: True if the threshold of an earlier evaluation stays valid.

  Raises:
    files.InputError: it is to be found by an evaluation, and there was none.
  """
  path = os.path.join(output_dir, THRESHOLD_FILE)
  if is_kept and files.exists(path):
    return files.read_json(path)["threshold"]
  if isinstance(trained, str):  # AUTO
    raise files.InputError(
      f"--label_threshold={AUTO}: {output_dir} has no threshold yet; find one by --do_eval"
    )
  return trained


def eval_results(
  metrics: dict[str, Any], losses: np.ndarray, batch_size: int, step: int
) -> dict[str, Any]:
  """Returns the lines of eval_results.txt, name -> number.

  Args:
    metrics: of the set; see OneLabel.score.
    losses: float32 [N], in the order of the input.
    batch_size: of the evaluation.
    step: of the checkpoint.
  """
  # `loss` is the mean over batches in the order of the input, of which the last may be smaller.
  batches = np.split(losses, range(batch_size, len(losses), batch_size))
  batch_loss = np.mean([batch.mean() for batch in batches])
  results = {"eval_loss": losses.mean(), "global_step": step, "loss": batch_loss}
  if "accuracy" in metrics:
    results["eval_accuracy"] = np.float32(metrics["accuracy"])
  return results


def prediction_files(
  task: Task,
  set_name: str,
  examples: Sequence[InputExample],
  label_list: Sequence[str],
  probabilities: np.ndarray,
  predictions: Sequence[Label],
  separator: str = ",",
  *,
  suffix: str = "",
  with_text: bool = False,
) -> dict[str, str]:
  """Formats the files of predictions: test_results.tsv, predictions.tsv, the leaderboard's if any.

  Args:
    task: the task of the set.
    set_name: the set that the examples are of.
    examples, label_list, probabilities, predictions, separator, with_text: see prediction_table.
    suffix: end of the files' names before the dot.

  Returns:
    File name -> text.
  """
  table = prediction_table(
    examples, label_list, probabilities, predictions, separator, with_text=with_text
  )
  submission = task.submission(set_name, examples, predictions)
  return {
    f"test_results{suffix}.tsv": "".join("\t".join(map(str, row)) + "\n" for row in probabilities),
    f"predictions{suffix}.tsv": table,
    **dict([submission] if submission else []),
  }


def prediction_table(
  examples: Sequence[InputExample],
  label_list: Sequence[str],
  probabilities: np.ndarray,
  predictions: Sequence[Label],
  separator: str = ",",
  *,
  with_text: bool = False,
) -> str:
  """Formats predictions as tab-separated text with a header and one row per example.

    id  prediction  negative     positive
    0   positive    0.016278993  0.983721

  Args:
    examples: N examples.
    label_list: labels in the order of their ids; empty for NUMBER.
    probabilities: float32 [N, L]; for NUMBER [N, 1].
    predictions: N labels, tuples of labels, or numbers.
    separator: stands between the labels of a tuple.
    with_text: True for a column `text`, and for pairs `text_b`, behind the id.
  """
  table = io.StringIO()
  writer = csv.writer(table, delimiter="\t", lineterminator="\n")
  columns: dict[str, list[Optional[str]]] = {}
  if with_text:
    columns["text"] = [example.text_a for example in examples]
  if with_text and any(example.text_b for example in examples):
    columns["text_b"] = [example.text_b for example in examples]
  texts = zip(*columns.values()) if columns else [()] * len(examples)
  writer.writerow(["id", *columns, "prediction", *label_list])
  for example, text, prediction, row in zip(examples, texts, predictions, probabilities):
    shown = separator.join(prediction) if isinstance(prediction, tuple) else prediction
    writer.writerow([example.guid, *text, shown, *row[: len(label_list)]])
  return table.getvalue()
