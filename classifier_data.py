"""Files of classification tasks to examples, and examples to features.

  "1\tid1\tid2\tShe left .\tShe has gone ."                                   a row of MRPC
  -> InputExample("train-1", "She left .", "She has gone .", "1")
  -> [CLS] she left . [SEP] she has gone . [SEP] [PAD] ...                    input_ids
       1    1   1   1   1    1   1   1   1   1     0   ...                    input_mask
       0    0   0   0   0    1   1   1   1   1     0   ...                    segment_ids
     label_id 1

The data sets are the rows of TASKS; files of the user's own (tsv, csv, jsonl) are read by FileTask.
"""

import math
import os
import re
from typing import NamedTuple, Optional

import numpy as np
from absl import logging

import files
import records
import tables

_NUM_LOGGED_EXAMPLES = 5
_PROGRESS_INTERVAL = 10000  # examples
_NUM_LISTED = 20  # names in a message


# ---- Examples and features ----------------------------------------------------------------------


class InputExample:
  """A text, or a pair of texts, with its label.

  Attributes:
    guid: str, name of the example.
    text_a: str.
    text_b: str, or None for a single text.
    label: a member of the task's labels, a number for regression, or None when it is not known.
    source: str "file:line" where the example stands, or None; messages name it.
  """

  def __init__(self, guid, text_a, text_b=None, label=None, source=None):
    self.guid = guid
    self.text_a = text_a
    self.text_b = text_b
    self.label = label
    self.source = source


class PaddingInputExample:
  """Fills the last batch where all batches must be full, as on a TPU. Counts in no metric."""


class InputFeatures:
  """An example as the model takes it.

  Attributes:
    input_ids: list of max_seq_length int, ids of the word pieces, then 0.
    input_mask: list of max_seq_length int, 1 for a word piece, 0 for padding.
    segment_ids: list of max_seq_length int, 1 for the second text and its [SEP], else 0.
    label_id: int, place of the label in the list of labels; for regression a float, the number.
    is_real_example: bool, False for a PaddingInputExample.
    is_truncated: bool, whether the example was longer and lost its end.
  """

  def __init__(
    self,
    input_ids,
    input_mask,
    segment_ids,
    label_id,
    is_real_example=True,
    is_truncated=False,
  ):
    self.input_ids = input_ids
    self.input_mask = input_mask
    self.segment_ids = segment_ids
    self.label_id = label_id
    self.is_real_example = is_real_example
    self.is_truncated = is_truncated


def record_features(max_seq_length, is_regression=False):
  """The table of what a TFRecord file has for each example.

  Args:
    max_seq_length: int, S.
    is_regression: bool, whether label_ids is a float32 number and not the int32 id of a class.

  Returns:
    List of records.Feature: input_ids, input_mask, segment_ids int32 [S]; label_ids and
    is_real_example scalar.
  """
  per_token = [
    records.Feature(name, np.int32, (max_seq_length,), per_token=True)
    for name in ("input_ids", "input_mask", "segment_ids")
  ]
  return [
    *per_token,
    records.Feature("label_ids", np.float32 if is_regression else np.int32),
    records.Feature("is_real_example", np.int32),
  ]


def feature_row(feature):
  """InputFeatures as a row for the table of record_features: a dict of name -> number or list."""
  return {
    "input_ids": feature.input_ids,
    "input_mask": feature.input_mask,
    "segment_ids": feature.segment_ids,
    "label_ids": feature.label_id,
    "is_real_example": int(feature.is_real_example),
  }


def convert_single_example(ex_index, example, label_list, max_seq_length, tokenizer):
  """Makes the features of one example; logs the first few.

  Args:
    ex_index: int, place of the example in its set, from 0.
    example: InputExample or PaddingInputExample.
    label_list: list of labels in the order of their ids; empty for regression.
    max_seq_length: int, word pieces with [CLS] and [SEP]. A longer example is cut.
    tokenizer: tokenization.FullTokenizer.

  Returns:
    InputFeatures. An example without a label gets label_id 0.

  Raises:
    files.InputError: the label is not in label_list (for regression: is not a finite number), or
      max_seq_length leaves no room for text.
  """
  if isinstance(example, PaddingInputExample):
    zeros = [0] * max_seq_length
    return InputFeatures(zeros, zeros, zeros, 0, is_real_example=False)

  tokens_a = tokenizer.tokenize(example.text_a)
  tokens_b = tokenizer.tokenize(example.text_b) if example.text_b else []
  room = max_seq_length - (3 if tokens_b else 2)  # [CLS] a [SEP] b [SEP], or [CLS] a [SEP]
  if room < 1:
    raise files.InputError(f"--max_seq_length: {max_seq_length} leaves no room for text; give more")
  is_truncated = len(tokens_a) + len(tokens_b) > room
  _truncate_seq_pair(tokens_a, tokens_b, room)

  first = ["[CLS]", *tokens_a, "[SEP]"]
  second = [*tokens_b, "[SEP]"] if tokens_b else []
  tokens = first + second
  padding = [0] * (max_seq_length - len(tokens))
  feature = InputFeatures(
    input_ids=tokenizer.convert_tokens_to_ids(tokens) + padding,
    input_mask=[1] * len(tokens) + padding,
    segment_ids=[0] * len(first) + [1] * len(second) + padding,
    label_id=_label_id(example, label_list),
    is_truncated=is_truncated,
  )
  if ex_index < _NUM_LOGGED_EXAMPLES:
    _log_example(example, tokens, feature)
  return feature


def _truncate_seq_pair(tokens_a, tokens_b, max_length):
  """Cuts two lists in place to max_length tokens in all, from the end of the longer one each time.

  With max_length 4: [a b c d], [x y z] -> [a b], [x y]; when both are as long, the second is cut.
  """
  while len(tokens_a) + len(tokens_b) > max_length:
    longer = tokens_a if len(tokens_a) > len(tokens_b) else tokens_b
    longer.pop()


def _log_example(example, tokens, feature):
  logging.info("*** Example ***")
  logging.info("guid: %s", example.guid)
  logging.info("tokens: %s", " ".join(tokens))
  for name in ("input_ids", "input_mask", "segment_ids"):
    logging.info("%s: %s", name, " ".join(map(str, getattr(feature, name))))
  logging.info("label: %s (id = %s)", example.label, feature.label_id)


def _place(example):
  return example.source or f"example {example.guid}"


def _label_id(example, label_list):
  """Int id of an example's label; its float value when label_list is empty. See InputFeatures."""
  is_regression = len(label_list) == 0
  if example.label is None:
    return 0.0 if is_regression else 0
  if is_regression:
    return _parse_number(example.label, _place(example))
  label_list = list(label_list)
  if example.label not in label_list:
    raise _unknown_label(example, label_list)
  return label_list.index(example.label)


def _unknown_label(example, label_list):
  return files.InputError(
    f"{_place(example)}: found label {example.label!r}; known labels are {_listed(label_list)}"
  )


def _parse_number(text, place):
  try:
    number = float(text)
  except ValueError:
    number = math.nan
  if not math.isfinite(number):
    raise files.InputError(f"{place}: found {text!r} where the score, a finite number, should be")
  return number


def _listed(names):
  """["a", 1] -> "'a', 1"; of many names the first ones and how many there are."""
  shown = ", ".join(map(repr, names[:_NUM_LISTED]))
  return shown if len(names) <= _NUM_LISTED else f"{shown}, ... ({len(names)} in all)"


def file_based_convert_examples_to_features(
  examples, label_list, max_seq_length, tokenizer, output_file
):
  """Writes the features of examples to a TFRecord file, in their order.

  Args:
    examples: list of InputExample or PaddingInputExample.
    label_list: list of labels in the order of their ids; empty for regression.
    max_seq_length: int, word pieces.
    tokenizer: tokenization.FullTokenizer.
    output_file: str, path of the file.

  Returns:
    int, how many examples were longer than max_seq_length and were cut.

  Raises:
    files.InputError: see convert_single_example; or the file cannot be written.
  """
  num_truncated = 0

  def rows():
    nonlocal num_truncated
    for feature in _convert_examples(examples, label_list, max_seq_length, tokenizer):
      num_truncated += feature.is_truncated
      yield feature_row(feature)

  table = record_features(max_seq_length, is_regression=len(label_list) == 0)
  records.write_records(output_file, rows(), table)
  _log_truncated(num_truncated, len(examples), max_seq_length)
  return num_truncated


def convert_examples_to_features(examples, label_list, max_seq_length, tokenizer):
  """The same as file_based_convert_examples_to_features in memory: a list of InputFeatures."""
  features = list(_convert_examples(examples, label_list, max_seq_length, tokenizer))
  _log_truncated(sum(f.is_truncated for f in features), len(features), max_seq_length)
  return features


def _convert_examples(examples, label_list, max_seq_length, tokenizer):
  for i, example in enumerate(examples):
    if i % _PROGRESS_INTERVAL == 0:
      logging.info("Writing example %d of %d", i, len(examples))
    yield convert_single_example(i, example, label_list, max_seq_length, tokenizer)


def _log_truncated(num_truncated, num_examples, max_seq_length):
  if num_truncated:
    logging.warning(
      "%d of %d examples were longer than %d tokens and were cut",
      num_truncated,
      num_examples,
      max_seq_length,
    )


# ---- Tasks --------------------------------------------------------------------------------------


class MissingSetError(files.InputError, NotImplementedError):
  """A task has no such set: XNLI has no test set."""


class DataProcessor:
  """Base of what gives examples; a class for data of another form overrides the four methods."""

  def get_train_examples(self, data_dir):
    """List of InputExample from the training file in data_dir."""
    raise NotImplementedError()

  def get_dev_examples(self, data_dir):
    """List of InputExample from the development file in data_dir."""
    raise NotImplementedError()

  def get_test_examples(self, data_dir):
    """List of InputExample from the test file in data_dir; their labels mean nothing."""
    raise NotImplementedError()

  def get_labels(self):
    """List of labels in the order of their ids."""
    raise NotImplementedError()

  @classmethod
  def _read_tsv(cls, input_file, quotechar=None):
    """Rows of a tab-separated file, lists of str; blank ones are left out.

    Raises:
      files.InputError: it cannot be read, or is not UTF-8.
    """
    if quotechar is None:
      return tables.read_tsv_rows(input_file)
    return tables.read_csv_rows(input_file, delimiter="\t", quotechar=quotechar)


class Task(DataProcessor):
  """What scripts use for every task, whatever its files look like.

  Attributes:
    name: str.
    is_regression: bool; then labels are numbers and get_labels() is empty.
    metrics: tuple of str, keys of the results in glue_metrics that the task is judged by.
    dev_sets, test_sets: tuples of str, names of the sets to evaluate and predict. The first is the
      one that get_dev_examples and get_test_examples give.
  """

  name: str
  is_regression: bool
  metrics: tuple
  dev_sets: tuple
  test_sets: tuple

  def get_train_examples(self, data_dir):
    """List of InputExample from the training file in data_dir; see get_examples."""
    return self.get_examples("train", data_dir)

  def get_dev_examples(self, data_dir):
    """List of InputExample from the (first) development file in data_dir; see get_examples."""
    return self.get_examples(self.dev_sets[0], data_dir)

  def get_test_examples(self, data_dir):
    """List of InputExample from the (first) test file in data_dir; see get_examples."""
    return self.get_examples(self.test_sets[0] if self.test_sets else "test", data_dir)

  def get_examples(self, set_name, data_dir):
    """Reads a set.

    Args:
      set_name: "train", or a member of dev_sets or test_sets.
      data_dir: str, the directory with the task's files.

    Returns:
      List of InputExample, not empty. The labels of a test set mean nothing.

    Raises:
      files.InputError: names the file, and the line, that cannot be used. It is a MissingSetError
        when the task has no such set.
    """
    raise NotImplementedError()

  def get_predict_examples(self, path):
    """List of InputExample from any file with the form of a test set; errors as in get_examples."""
    raise NotImplementedError()

  def get_labels(self, data_dir=None):
    """The labels in the order of their ids; none for regression.

    Args:
      data_dir: str or None; tasks whose labels are not known beforehand find them in its training
        file.

    Raises:
      files.InputError: they cannot be found.
    """
    raise NotImplementedError()


def _check_labels(examples, label_list):
  known = set(label_list)
  for example in examples:
    if example.label not in known:
      raise _unknown_label(example, label_list)


def _warn_of_empty_texts(path, examples, has_pairs):
  empty = [
    e for e in examples if not e.text_a.strip() or (has_pairs and not (e.text_b or "").strip())
  ]
  if empty:
    logging.warning("%s: %d rows have an empty text, first %s", path, len(empty), _place(empty[0]))


# ---- GLUE and XNLI ------------------------------------------------------------------------------


class Columns(NamedTuple):
  """Where the columns of a file are, from 0.

  Attributes:
    text: of the first text.
    text_b: of the second text, or None.
    label: of the label, -1 for the last column, or None if the file has no labels.
    guid: of the rows' own ids, or None where examples are numbered by row.
    language: of the language that a row is in, or None.
    header: whether the first row names the columns.
    file: path in the data directory, or None for `<set>.tsv`; "{language}" is replaced.
  """

  text: int
  text_b: Optional[int] = None
  label: Optional[int] = None
  guid: Optional[int] = None
  language: Optional[int] = None
  header: bool = True
  file: Optional[str] = None

  @property
  def width(self):
    """How many columns a row has at least."""
    places = (self.text, self.text_b, self.label, self.guid, self.language)
    return max(c for c in places if c is not None) + 1 + (self.label == -1)


class TaskRow(NamedTuple):
  """A data set.

  Attributes:
    labels: tuple of str in the order of their ids; empty for regression.
    metrics: tuple of str that the task is judged by, keys of the results in glue_metrics.
    sets: dict of set name -> Columns. A guid begins with the name of the set.
    label_aliases: dict of label as written in a file -> member of labels, where they differ.
  """

  labels: tuple
  metrics: tuple
  sets: dict
  label_aliases: dict = {}  # noqa: RUF012, never changed


def _sets(labelled, test):
  """The usual three files, of which the first two look alike."""
  return {"train": labelled, "dev": labelled, "test": test}


_BINARY = ("0", "1")
_ENTAILMENT = ("entailment", "not_entailment")
_INFERENCE = ("contradiction", "entailment", "neutral")

_MNLI_LABELLED = Columns(8, 9, label=-1, guid=0)
_MNLI_TEST = Columns(8, 9, guid=0)
_PAIR_LABELLED = Columns(1, 2, label=3, guid=0)  # index, first text, second text, label
_PAIR_TEST = Columns(1, 2, guid=0)

TASKS = {
  "cola": TaskRow(
    _BINARY, ("matthews",), _sets(Columns(3, label=1, header=False), Columns(1, header=True))
  ),
  "sst-2": TaskRow(_BINARY, ("accuracy",), _sets(Columns(0, label=1), Columns(1))),
  "mrpc": TaskRow(_BINARY, ("accuracy", "f1"), _sets(Columns(3, 4, label=0), Columns(3, 4))),
  "sts-b": TaskRow(
    (), ("pearson", "spearman"), _sets(Columns(7, 8, label=9, guid=0), Columns(7, 8, guid=0))
  ),
  "qqp": TaskRow(
    _BINARY, ("accuracy", "f1"), _sets(Columns(3, 4, label=5, guid=0), Columns(1, 2, guid=0))
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
  ),
  "qnli": TaskRow(_ENTAILMENT, ("accuracy",), _sets(_PAIR_LABELLED, _PAIR_TEST)),
  "rte": TaskRow(_ENTAILMENT, ("accuracy",), _sets(_PAIR_LABELLED, _PAIR_TEST)),
  "wnli": TaskRow(_BINARY, ("accuracy",), _sets(_PAIR_LABELLED, _PAIR_TEST)),
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


class GlueTask(Task):
  """A task of TASKS, in the files that its makers distribute."""

  language = None

  def __init__(self, name):
    self.name = name
    self._row = TASKS[name]
    self.metrics = self._row.metrics
    self.is_regression = not self._row.labels
    self.dev_sets = tuple(s for s in self._row.sets if s.startswith("dev"))
    self.test_sets = tuple(s for s in self._row.sets if s.startswith("test"))

  def get_labels(self, data_dir=None):
    del data_dir  # known beforehand
    return list(self._row.labels)

  def get_examples(self, set_name, data_dir):
    columns = self._columns(set_name)
    name = (columns.file or f"{set_name}.tsv").format(language=self.language)
    return self._read(os.path.join(data_dir, name), set_name)

  def get_predict_examples(self, path):
    return self._read(path, "test")

  def _columns(self, set_name):
    if set_name not in self._row.sets:
      raise MissingSetError(
        f"--task_name: {self.name} has no set {set_name!r}, only {_listed(list(self._row.sets))}"
      )
    return self._row.sets[set_name]

  def _read(self, path, set_name):
    columns = self._columns(set_name)
    examples = self._create_examples(self._read_tsv(path), set_name)
    if not examples:
      below = " below a header" if columns.header else ""
      language = f" of language {self.language!r}" if columns.language is not None else ""
      raise files.InputError(
        f"{path}: has no examples{language}; {self.name} has rows of {columns.width} or more "
        f"columns{below}"
      )
    if not self.is_regression:
      _check_labels(examples, self.get_labels())
    _warn_of_empty_texts(path, examples, columns.text_b is not None)
    return examples

  def _create_examples(self, lines, set_type):
    """Makes InputExample of rows; those with too few columns are left out and counted in the log.

    Args:
      lines: list of lists of str, with the header if the set has one.
      set_type: str, name of the set; one that the task does not have is read like "train".

    Returns:
      List of InputExample. Test examples have the first label (0.0 for regression).
    """
    columns = self._row.sets.get(set_type, self._row.sets["train"])
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
      label = 0.0 if self.is_regression else self._row.labels[0]
    elif self.is_regression:
      label = _parse_number(row[columns.label], source or guid)
    else:
      label = self._row.label_aliases.get(row[columns.label], row[columns.label])
    text_b = None if columns.text_b is None else row[columns.text_b]
    return InputExample(guid, row[columns.text], text_b, label, source)


class XnliProcessor(GlueTask):
  """XNLI in one language, with the training data that was translated into it.

  Attributes:
    language: str, code of the language as the files have it.
  """

  def __init__(self):
    super().__init__("xnli")
    self.language = "zh"


class MnliProcessor(GlueTask):
  """MultiNLI."""

  def __init__(self):
    super().__init__("mnli")


class MrpcProcessor(GlueTask):
  """The Microsoft Research Paraphrase Corpus."""

  def __init__(self):
    super().__init__("mrpc")


class ColaProcessor(GlueTask):
  """The Corpus of Linguistic Acceptability."""

  def __init__(self):
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
  """How the files of a user's own task are to be read.

  Columns are names, or numbers from 0 (int, or str of digits) in tsv and csv files.

  Attributes:
    text_column: column of the text. None: sentence1 and sentence2, question1 and question2, premise
      and hypothesis, text_a and text_b, sentence, or text, the first that there is; in a file
      without a header column 0.
    text_b_column: column of the second text. None: none, or the second of those above.
    label_column: column of the label. None: "label", for regression "score" before "label"; in a
      file without a header column 1.
    id_column: column of the rows' ids. None: rows are numbered from 0.
    has_header: bool, whether the first row of tsv and csv files names the columns.
    label_file: path of a file with the labels in the order of their ids, one a line. None: the
      labels are those of the training file, in order of value if all are integers, else of text.
    labels: list of str, the same without a file, or None.
    is_regression: bool, whether labels are numbers to predict and not names of classes.
  """

  text_column: Optional[str] = None
  text_b_column: Optional[str] = None
  label_column: Optional[str] = None
  id_column: Optional[str] = None
  has_header: bool = True
  label_file: Optional[str] = None
  labels: Optional[list] = None
  is_regression: bool = False


class FileTask(Task):
  """A task in train, dev and test files of the user's own.

  Labels of the test file are not read, so it needs no such column.
  """

  dev_sets = ("dev",)
  test_sets = ("test",)

  def __init__(self, file_format, options):
    """Makes a task.

    Args:
      file_format: member of tables.FORMATS; files in a data directory are `<set>.<file_format>`.
      options: FileOptions.

    Raises:
      files.InputError: the file with labels cannot be used.
    """
    self.name = file_format
    self.is_regression = options.is_regression
    self.metrics = ("pearson", "spearman") if options.is_regression else ("accuracy", "macro_f1")
    self._options = options
    self._labels = [] if options.is_regression else options.labels
    if self._labels is None and options.label_file:
      self._labels = _read_labels(options.label_file)

  def get_labels(self, data_dir=None):
    if self._labels is None:
      if data_dir is None:
        raise files.InputError(
          "--label_file: is needed where there is no training data (--data_dir) to find labels in"
        )
      self.get_train_examples(data_dir)
    return list(self._labels)

  def get_examples(self, set_name, data_dir):
    if set_name not in ("train", "dev", "test"):
      raise MissingSetError(f"--task_name: {self.name} has no set {set_name!r}")
    path = os.path.join(data_dir, f"{set_name}.{self.name}")
    examples = self._read(path, set_name)
    if set_name == "train" and self._labels is None:
      self._labels = _find_labels(path, examples)
    if set_name != "test" and not self.is_regression:
      _check_labels(examples, self.get_labels(data_dir))
    return examples

  def get_predict_examples(self, path):
    return self._read(path, "test")

  def _read(self, path, set_name):
    table = tables.read_table(path, self.name, self._options.has_header)
    columns = self._columns(table, is_labelled=set_name != "test")
    tables.check_widths(table, columns.width)
    examples = [
      self._create_example(row, columns, f"{set_name}-{i}") for i, row in enumerate(table.rows)
    ]
    _warn_of_empty_texts(path, examples, columns.text_b is not None)
    return examples

  def _create_example(self, row, columns, guid):
    text, text_b, label, own_guid = (
      None if column is None else tables.cell(row, column)
      for column in (columns.text, columns.text_b, columns.label, columns.guid)
    )
    if text is None:
      raise files.InputError(f"{row.source}: has no text")
    if columns.label is not None:
      label = (label or "").strip()
      if not label:
        raise files.InputError(f"{row.source}: has no label")
      if self.is_regression:
        label = _parse_number(label, row.source)
    return InputExample(guid if own_guid is None else own_guid, text, text_b, label, row.source)

  def _columns(self, table, is_labelled):
    """Columns of a file by the options.

    Raises:
      files.InputError: the file does not have them, or two are the same.
    """
    options = self._options

    def find(flag):
      wanted = getattr(options, flag)
      return None if wanted is None else _find_column(table, wanted, flag, self.name != "jsonl")

    text, text_b = find("text_column"), find("text_b_column")
    if text is None:
      text, usual_text_b = _usual_text_columns(table)
      text_b = usual_text_b if text_b is None else text_b
    label = None
    if is_labelled:
      label = find("label_column")
      label = self._usual_label_column(table) if label is None else label
    used = [column for column in (text, text_b, label) if column is not None]
    if len(set(used)) < len(used):
      raise files.InputError(
        f"{table.path}: --text_column, --text_b_column and --label_column must be different, "
        f"found columns {_listed(used)}"
      )
    return Columns(text, text_b, label, guid=find("id_column"))

  def _usual_label_column(self, table):
    if table.columns is None:
      return 1
    for name in ("score", "label") if self.is_regression else ("label",):
      if name in table.columns:
        return table.columns.index(name)
    raise _unknown_column(table, "label_column", "name the column with the labels")


def _usual_text_columns(table):
  if table.columns is None:
    return 0, None
  for first, second in _USUAL_TEXT_COLUMNS:
    if first in table.columns and (second is None or second in table.columns):
      return table.columns.index(first), second and table.columns.index(second)
  raise _unknown_column(table, "text_column", "name the column with the text")


def _find_column(table, wanted, flag, can_be_number):
  if table.columns is not None and wanted in table.columns:
    return table.columns.index(wanted)
  if can_be_number and str(wanted).isdecimal():
    number = int(wanted)
    if table.columns is None or number < len(table.columns):
      return number
  raise _unknown_column(table, flag, f"there is no column {wanted!r}")


def _unknown_column(table, flag, problem):
  if table.columns is None:
    return files.InputError(f"{table.path}: --{flag}: {problem}; without a header give its number")
  return files.InputError(
    f"{table.path}: --{flag}: {problem}; the file's columns are {_listed(table.columns)}"
  )


def _find_labels(path, examples):
  labels = {example.label for example in examples}
  if len(labels) < 2:
    raise files.InputError(
      f"{path}: found the label {_listed(list(labels))} alone; there must be two or more"
    )
  if all(re.fullmatch(r"[+-]?\d+", label) for label in labels):
    return sorted(labels, key=lambda label: (int(label), label))
  return sorted(labels)


def _read_labels(path):
  labels = {}
  for number, line in files.read_lines(path):
    label = line.strip()
    if label in labels:
      raise files.InputError(f"{path}:{number}: found label {label!r} again; list each label once")
    if label:
      labels[label] = number
  if len(labels) < 2:
    raise files.InputError(f"{path}: found {len(labels)} labels; there must be two or more")
  return list(labels)


# ---- All tasks ----------------------------------------------------------------------------------

TASK_HELP = (
  f"What to learn: {', '.join(TASKS)} with their own files in --data_dir; or "
  f"{', '.join(tables.FORMATS)} for files of your own in that format, such as train.tsv, dev.tsv "
  "and test.tsv."
)


def find_task(task_name, **options):
  """The task of a name.

  Args:
    task_name: str, key of TASKS or member of tables.FORMATS; upper case, "-" and "_" make no
      difference.
    **options: fields of FileOptions. For a task of TASKS only `labels` may differ from the default,
      and is ignored.

  Returns:
    Task.

  Raises:
    files.InputError: there is no such task; or an option that it does not take.
  """
  options = FileOptions(**options)
  names = {_plain_name(name): name for name in (*TASKS, *tables.FORMATS)}
  name = names.get(_plain_name(task_name))
  if name is None:
    raise files.InputError(
      f"--task_name: Task not found: {task_name}; known tasks are {', '.join(names.values())}"
    )
  if name in tables.FORMATS:
    return FileTask(name, options)
  for option, default in FileOptions._field_defaults.items():
    if option != "labels" and getattr(options, option) != default:
      raise files.InputError(
        f"--{option}: cannot be given with the task {name}, only with {', '.join(tables.FORMATS)}"
      )
  return XnliProcessor() if name == "xnli" else GlueTask(name)


def _plain_name(task_name):
  return re.sub("[-_ ]", "", task_name.lower())
