"""Files of words and their tags to sentences, sentences to features, and predictions back to words.

  Ada      B-PER      [CLS] ada love ##lace moved to lisbon . [SEP] [PAD] ...   input_ids
  Lovelace I-PER        1    1   1     1      1   1    1    1   1     0   ...   input_mask
  moved    O       ->   0    0   0     0      0   0    0    0   0     0   ...   segment_ids
  to       O            0    2   3     0      0   0    1    0   0     0   ...   label_ids
  Lisbon   B-LOC        0    1   1     0      1   1    1    1   0     0   ...   label_mask
  .        O                             O, B-LOC, B-PER and I-PER have the ids 0 to 3

The tag of a word is at its first word piece, and the others are not scored (Devlin et al. 2018,
section 5.3). A sentence that is too long for one input is cut into windows that overlap.
"""

import bisect
import csv
import functools
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Optional, TypeVar, Union

import numpy as np
from absl import flags as absl_flags
from absl import logging

import tokenization
from toolkit.metrics.entities import Entity, find_entities
from toolkit.records import tf_records
from toolkit.support import command_line, files
from toolkit.tasks import written_labels

DOCSTART = "-DOCSTART-"
# The schemes of encode_entities; the first is that of this module.
SCHEMES = ("iob2", "iob1", "bioes")
# Other values of Layout.tag_scheme: what fits best, any of SCHEMES, or tags of single words.
AUTO = "auto"
ENTITIES = "entities"
NONE = "none"

_TAG = re.compile(r"O|[BIESLU]-.+")
_PREFIX = re.compile("[BIESLU]-")
_BILOU = {"L": "E", "U": "S"}  # BILOU is BIOES by other names

# A sentence of more words is likely to be several that nothing separates.
_MOST_WORDS = 1000
# Tag sets seldom have more tags.
_MANY_TAGS = 100
# Words and tags, in lower case, of a row that is a header.
_WORD_NAMES = {"word", "words", "token", "tokens", "form", "text"}
_TAG_NAMES = {"tag", "tags", "label", "labels", "pos", "upos", "xpos", "ner", "ner_tag", "ner_tags"}


# ---- Sentences ----------------------------------------------------------------------------------


class ColumnParser(absl_flags.ArgumentParser):
  """Parses a flag that is the number of a column, or its name."""

  syntactic_help = "a number or a name"

  def parse(self, argument: Union[int, str]) -> Union[int, str]:
    return int(argument) if re.fullmatch("[+-]?[0-9]+", str(argument)) else argument


class Layout(NamedTuple):
  """The form of a file of words and tags.

  Columns are numbers, from 0, or from -1 at the end. Or they are names, which the first row has.

  Attributes:
    token_column, label_column: columns of words and tags.
    delimiter: stands between two columns ("\\t" and "tab" mean a tab); None for any number of
      spaces and tabs. Columns may have quotes, as in CSV, if it is a comma, or in a file .csv.
    comment_prefix: first characters of lines that are no words.
    tag_scheme: member of SCHEMES; NONE for tags of single words, such as parts of speech; ENTITIES
      for the member of SCHEMES that fits best; AUTO for NONE or ENTITIES, as the tags are.
    sentence_column: A sentence begins where this column is not empty and differs from that of the
      row before, beside the blank lines.
  """

  token_column: Union[int, str] = 0
  label_column: Union[int, str] = -1
  delimiter: Optional[str] = None
  comment_prefix: Optional[str] = None
  tag_scheme: str = AUTO
  sentence_column: Union[int, str, None] = None

  def separator(self) -> Optional[str]:
    """Returns the delimiter as it is in a file, or None."""
    names: dict[Optional[str], Optional[str]] = {"\\t": "\t", "tab": "\t", "": None}
    return names.get(self.delimiter, self.delimiter)

  def has_header(self) -> bool:
    """Returns True if the first row names the columns."""
    columns = (self.token_column, self.label_column, self.sentence_column)
    return any(isinstance(column, str) for column in columns)

  def of_file(self, path: str, first_line: str) -> "Layout":
    """Returns the layout with the delimiter of a file, where none is given."""
    if self.separator() is None:
      if path.lower().endswith(".csv") and "," in first_line:
        return self._replace(delimiter=",")
      if (self.has_header() or self.sentence_column is not None) and "\t" in first_line:
        return self._replace(delimiter="\t")
    return self

  def is_csv(self, path: str) -> bool:
    """Returns True if the columns of a file may have quotes."""
    separator = self.separator() or ""
    is_named = path.lower().endswith(".csv") and separator not in ("\t", '"')
    return separator == "," or (is_named and len(separator) == 1)

  def split(self, line: str) -> list[str]:
    """Returns the columns of a line."""
    separator = self.separator()
    if separator:
      return [cell.strip(" \t") for cell in line.split(separator)]
    # Not str.split(): that also cuts at U+00A0, U+0085 and others, which may be parts of words.
    return re.split("[ \t]+", line.strip(" \t"))

  def is_comment(self, line: str) -> bool:
    """Returns True for a line that is no word."""
    return line.startswith(self.comment_prefix) if self.comment_prefix else False


class Sentence(NamedTuple):
  """A sentence in words.

  Attributes:
    words: one or more; none for a blank line of plain text.
    tags: a tag for each word. Tags of entities are those of IOB2.
    lines: the line of the file that each word stands on, from 1.
    text: the sentence as it was written; None for the words with single spaces between them.
    spans: (first character, character behind the last) of each word in `text`.
    marks: the content of the sentence column for each word.
  """

  words: list[str]
  tags: Optional[list[str]] = None
  lines: Sequence[int] = ()
  text: Optional[str] = None
  spans: Optional[list[tuple[int, int]]] = None
  marks: Optional[list[str]] = None


class Corpus(NamedTuple):
  """A file of sentences.

  Attributes:
    path: of the file.
    sentences: one or more.
    other_lines: line number -> text, for the lines that are no words: "" for one between two
      sentences, DOCSTART for one between two documents, or a comment.
    tag_scheme: NONE, or the member of SCHEMES that the file is written in; None without tags.
    header: the header's line and the names of the columns that were read: sentence, word, tag. None
      without a header.
    separator: stands between two columns of the file; None for spaces and tabs.
  """

  path: str
  sentences: list[Sentence]
  other_lines: dict[int, str]
  tag_scheme: Optional[str] = None
  header: Optional[tuple[int, list[str]]] = None
  separator: Optional[str] = None

  def is_tagged(self) -> bool:
    """Returns True if the file has tags."""
    return self.sentences[0].tags is not None


def read_corpus(path: str, layout: Layout = Layout(), has_tags: Optional[bool] = True) -> Corpus:  # noqa: B008, immutable
  """Reads a file with a word and its tag per line, in columns; blank lines between sentences.

  Tags of entities become IOB2. Those that break their scheme are read as conlleval does, and
  counted in the log.

  Args:
    path: of the file.
    layout: of the file.
    has_tags: True to read tags; None: if there is a column for them.

  Raises:
    files.InputError: the file cannot be read or has no words; a column is missing, or a tag is of
      an unknown kind (file:line).
  """
  layout, rows, other_lines = _read_rows(path, layout)
  names, header = None, None
  if layout.has_header() and any(rows):
    first = next(place for place, row in enumerate(rows) if row)
    line, names = rows.pop(first)
    _check_one_header(path, rows, names)
  if not any(rows):
    raise files.InputError(f"{path}: has no words; expected a word and its tag per line")
  if has_tags is None:
    has_tags = _has_tag_column(rows, layout, names)
  columns = _find_columns(path, layout, names, has_tags)
  if names:
    place = f"{path}:{line}"
    header = (line, [_cell(names, each, place, may_be_empty=True) for each in columns.in_order()])
  groups = _group_rows(path, rows, columns, layout)
  sentences, scheme = [_sentence(path, group, columns) for group in groups], None
  if has_tags:
    if names is None:
      _check_no_header(path, sentences[0])
    sentences, scheme = _convert_tags(path, sentences, layout.tag_scheme)
  corpus = Corpus(path, sentences, other_lines, scheme, header, layout.separator())
  _warn_of_long_sentence(corpus, layout, range(_MOST_WORDS + 1, sys.maxsize))
  return corpus


def _read_rows(path, layout):
  """Reads the lines of a file.

  Returns:
    Its layout; list of (line number, cells), with None where a sentence ends; Corpus.other_lines.
  """
  lines = files.read_lines(path)
  contents = (line for _, line in lines if not layout.is_comment(line) and line.strip(" \t"))
  layout = layout.of_file(path, next(contents, ""))
  is_csv = layout.is_csv(path)
  csv_cells = _csv_cells(path, layout.separator()) if is_csv else {}
  rows: list[Optional[tuple[int, list[str]]]] = []
  other_lines = {}
  for number, line in lines:
    if layout.is_comment(line):
      other_lines[number] = line
    elif line.startswith(DOCSTART):
      other_lines[number] = DOCSTART
      rows.append(None)
    elif not line.strip(" \t") or (is_csv and number not in csv_cells):
      other_lines[number] = ""
      rows.append(None)
    else:
      rows.append((number, csv_cells[number] if is_csv else layout.split(line)))
  return layout, rows, other_lines


def _csv_cells(path, delimiter):
  """Returns a dict of line number -> cells of a CSV file, without its blank rows."""
  found = {}
  for row in files.read_csv_rows(path, strict=True, delimiter=delimiter):
    if any("\n" in cell for cell in row):
      raise files.InputError(
        f"{row.source}: found a column that continues in the next line; find a quote that is not "
        "closed or not doubled"
      )
    found[int(row.source.rsplit(":", 1)[1])] = [cell.strip(" \t") for cell in row]
  return found


def _group_rows(path, rows, columns, layout):
  """Returns the rows of each sentence, a list of lists of (line number, cells)."""
  groups: list[list[tuple[int, list[str]]]] = [[]]
  before = None
  width = next(len(row[1]) for row in rows if row)
  for row in rows:
    if row is None:
      groups.append([])
      continue
    if columns.sentence:
      number, cells = row
      if layout.separator() is None and len(cells) != width:
        raise files.InputError(
          f"{path}:{number}: found {_count(cells)}, where the first row has {width}; where "
          f"{columns.sentence.flag} is empty in some rows, give --delimiter"
        )
      mark = _cell(cells, columns.sentence, f"{path}:{number}", may_be_empty=True)
      if mark and mark != before:
        groups.append([])
      before = mark
    groups[-1].append(row)
  return [group for group in groups if group]


def _sentence(path, group, columns):
  """Makes a Sentence of a list of (line number, cells); its tags are as they were written."""
  words, tags, marks = [], [], []
  for number, cells in group:
    place = f"{path}:{number}"
    words.append(_cell(cells, columns.token, place))
    if columns.label:
      tags.append(files.visible(_cell(cells, columns.label, place)))
      if not tags[-1]:
        raise files.InputError(f"{place}: has only invisible characters in {columns.label.flag}")
    if columns.sentence:
      marks.append(_cell(cells, columns.sentence, place, may_be_empty=True))
    _check_different(cells, columns, place)
  lines = [number for number, _ in group]
  return Sentence(words, tags or None, lines, marks=marks or None)


def _warn_of_long_sentence(corpus, layout, lengths):
  """Logs a line if the longest sentence has one of some numbers of words."""
  longest = max(corpus.sentences, key=lambda sentence: len(sentence.words))
  if len(longest.words) not in lengths:
    return
  remedy = "put blank lines between sentences, or give --sentence_column, which separates them"
  if layout.sentence_column is not None:
    remedy = f"is --sentence_column={layout.sentence_column} right?"
  place = f"{corpus.path}:{longest.lines[0]}"
  logging.warning("%s: found a sentence of %d words; %s", place, len(longest.words), remedy)


# ---- Columns ------------------------------------------------------------------------------------


class _Column(NamedTuple):
  """A column: its place, from 0 or from -1 at the end, and the flag that gives it."""

  place: int
  flag: str


class _Columns(NamedTuple):
  """The columns of a file; those that there are not are None."""

  token: _Column
  label: Optional[_Column]
  sentence: Optional[_Column]

  def in_order(self):
    """Returns those that there are: sentence, word, tag."""
    return [column for column in (self.sentence, self.token, self.label) if column]


def _find_columns(path, layout, names, has_tags):
  """Finds the columns of a file; `names` are those of its header, or None."""

  def find(flag):
    wanted = place = getattr(layout, flag)
    if wanted is None:
      return None
    if isinstance(wanted, str):
      table = files.Table(path, names, [])
      place = files.find_column(table, wanted, flag, can_be_number=False)
    return _Column(place, f"--{flag}={wanted}")

  label = find("label_column") if has_tags else None
  return _Columns(find("token_column"), label, find("sentence_column"))


def _has_tag_column(rows, layout, names):
  """Returns True if a file has a column for tags."""
  if isinstance(layout.label_column, str):
    return layout.label_column in names
  others = 1 if layout.sentence_column is None else 2
  return any(len(row[1]) > others for row in rows if row)


def _count(cells):
  return "1 column" if len(cells) == 1 else f"{len(cells)} columns"


def _cell(cells, column, place, may_be_empty=False):
  """Returns the content of a column; InputError without any."""
  if not -len(cells) <= column.place < len(cells):
    raise files.InputError(
      f"{place}: found {_count(cells)}, too few for {column.flag}; is --delimiter right?"
    )
  if not (cells[column.place] or may_be_empty):
    raise files.InputError(f"{place}: has nothing in {column.flag}; is --delimiter right?")
  return cells[column.place]


def _check_different(cells, columns, place):
  """Checks that the columns of a row are different ones."""
  flags: dict[int, str] = {}
  for column in filter(None, columns):
    other = flags.setdefault(column.place % len(cells), column.flag)
    if other != column.flag:
      raise files.InputError(
        f"{place}: found {_count(cells)}, in which {other} and {column.flag} are the same; is "
        "--delimiter right?"
      )


def _check_one_header(path, rows, names):
  """Checks that the header is not among the other rows."""
  for row in filter(None, rows):
    if list(map(files.visible, row[1])) == list(map(files.visible, names)):
      raise files.InputError(
        f"{path}:{row[0]}: found the header again, {files.listed(names)}; where files were put "
        "together, leave it out"
      )


def _check_no_header(path, sentence):
  """Checks that the first word and its tag are no header."""
  word, tag = sentence.words[0], sentence.tags[0]
  if word.lower() in _WORD_NAMES and tag.lower() in _TAG_NAMES:
    raise files.InputError(
      f"{path}:{sentence.lines[0]}: found a header; give columns by their names, "
      f"--token_column={word} --label_column={tag}"
    )


# ---- Schemes ------------------------------------------------------------------------------------


def _convert_tags(path, sentences, scheme):
  """Converts tags of entities to IOB2.

  Args:
    path: str.
    sentences: list of Sentence with the tags of the file.
    scheme: see Layout.tag_scheme.

  Returns:
    The sentences; see Corpus.tag_scheme.

  Raises:
    files.InputError: a tag is no entity's, and the scheme has entities (file:line).
  """
  tags = list(dict.fromkeys(tag for sentence in sentences for tag in sentence.tags))
  remedy = "" if scheme == ENTITIES else " For tags of single words give --tag_scheme=none"
  if scheme == AUTO:
    scheme = _guess_kind(path, tags)
  if scheme == NONE:
    return sentences, NONE
  if not all(map(_TAG.fullmatch, tags)):
    line, tag = next(
      (line, tag)
      for sentence in sentences
      for line, tag in zip(sentence.lines, sentence.tags)
      if not _TAG.fullmatch(tag)
    )
    raise files.InputError(
      f"{path}:{line}: found the tag {tag!r}, should be O, or B-, I-, E- or S- and a type, such as "
      f"B-PER; is --label_column right?{remedy}"
    )
  renamed = {tag: _BILOU.get(tag[0], tag[0]) + tag[1:] for tag in tags}
  sentences = [s._replace(tags=[renamed[tag] for tag in s.tags]) for s in sentences]
  return _to_iob2(path, sentences, SCHEMES if scheme == ENTITIES else [scheme])


def _guess_kind(path, tags):
  """Returns NONE or ENTITIES for the tags of a file; logs a line about the first."""
  if not are_plain(tags):
    return ENTITIES
  log, question = logging.info, ""
  if len(tags) > _MANY_TAGS:
    log, question = logging.warning, "; is --label_column right?"
  log(
    "%s: found %d tags that are no entities, %s: each word gets one of them, as with "
    "--tag_scheme=none%s",
    path,
    len(tags),
    files.listed(tags, 5),
    question,
  )
  return NONE


def are_plain(tags: Iterable[str]) -> bool:
  """Returns True if tags, each listed once, are those of single words: none is an entity's."""
  return any(tag != "O" for tag in tags) and not any(map(_PREFIX.match, tags))


def _to_iob2(path, sentences, schemes):
  """Returns sentences with the tags of IOB2, and the scheme, of some, that they were written in.

  Logs the number of tags that break it.
  """
  found = [find_entities(sentence.tags) for sentence in sentences]

  def broken_lines(name):
    return [
      line
      for sentence, entities in zip(sentences, found)
      for line, tag, wanted in zip(
        sentence.lines, sentence.tags, encode_entities(entities, len(sentence.tags), name)
      )
      if tag != wanted
    ]

  broken = {name: broken_lines(name) for name in schemes}
  scheme = min(broken, key=lambda name: len(broken[name]))
  if broken[scheme]:
    logging.warning(
      "%s: %d of %d tags break the scheme %s, the first on line %d; they are read as conlleval "
      "does.",
      path,
      len(broken[scheme]),
      sum(len(sentence.tags) for sentence in sentences),
      scheme.upper(),
      broken[scheme][0],
    )
  return [
    sentence._replace(tags=encode_entities(entities, len(sentence.tags)))
    for sentence, entities in zip(sentences, found)
  ], scheme


def encode_entities(
  entities: Iterable[Entity], num_words: int, scheme: str = SCHEMES[0]
) -> list[str]:
  """Writes entities in order as num_words tags, by a member of SCHEMES.

  PER 0 to 2, PER 2 to 3   iob2   B-PER I-PER B-PER
                           iob1   I-PER I-PER B-PER
                           bioes  B-PER E-PER S-PER
  """
  tags = ["O"] * num_words
  before = None
  for entity in entities:
    name, start, end = entity
    prefixes = ["B"] + ["I"] * (end - start - 1)
    if scheme == "iob1" and (before is None or (before.type, before.end) != (name, start)):
      prefixes[0] = "I"
    elif scheme == "bioes":
      prefixes[-1] = "E" if len(prefixes) > 1 else "S"
    tags[start:end] = [f"{prefix}-{name}" for prefix in prefixes]
    before = entity
  return tags


# ---- Raw text -----------------------------------------------------------------------------------


@functools.lru_cache(maxsize=10_000)
def _kind(char):
  """Classifies a character: s is a space, d is deleted, a is a word of its own; others are w."""
  if tokenization._is_whitespace(char):
    return "s"
  if char in "\0\ufffd" or tokenization._is_control(char):
    return "d"
  alone = tokenization._is_punctuation(char) or tokenization._is_chinese_char(ord(char))
  return "a" if alone else "w"


def split_text(text: str) -> Sentence:
  """Splits text where tokenization.BasicTokenizer does, into the original words.

  "Zoë's in 東京." -> words [Zoë, ', s, in, 東, 京, .]
                      spans [(0, 3), (3, 4), (4, 5), (6, 8), (9, 10), (10, 11), (11, 12)]
  """
  kinds = "".join(map(_kind, text))
  spans = [match.span() for match in re.finditer("a|w([wd]*w)?", kinds)]
  return Sentence([text[start:end] for start, end in spans], text=text, spans=spans)


def read_text_corpus(path: str) -> Corpus:
  """Reads plain text, a sentence per line; a blank line is a sentence without words.

  The lines of its words are those of the file that format_corpus makes.

  Raises:
    files.InputError: the file cannot be read, or has no words.
  """
  sentences, ends, line = [], [], 1
  for number, text in files.read_lines(path):
    sentence = split_text(text)
    if len(sentence.words) > _MOST_WORDS:
      count = len(sentence.words)
      logging.warning("%s:%d: found %d words; give one sentence per line", path, number, count)
    end = line + len(sentence.words)
    sentences.append(sentence._replace(lines=range(line, end)))
    ends.append(end)
    line = end + 1
  if not any(sentence.words for sentence in sentences):
    raise files.InputError(f"{path}: has no words; expected one sentence per line")
  return Corpus(path, sentences, dict.fromkeys(ends, ""))


# ---- Labels -------------------------------------------------------------------------------------


def layout_of(settings: command_line.Settings) -> Layout:
  """Returns the layout of a run's files; an empty sentence_column is none."""
  layout = Layout(**{name: settings[name] for name in Layout._fields})
  return layout._replace(sentence_column=None) if layout.sentence_column == "" else layout


def read_sets(
  settings: command_line.Settings, known_labels: Optional[list[str]] = None
) -> tuple[dict[str, Corpus], str]:
  """Reads all sets of a run.

  The first tells whether tags are entities, unless settings or labels do: in a training the
  training set.

  Args:
    settings: the flags of run_ner.py.
    known_labels: the labels of a trained model.

  Returns:
    "train", "dev" and "test" -> corpus; the tag_scheme of the settings, or NONE.

  Raises:
    files.InputError: a file is not given, or cannot be read.
  """
  if settings.predict_file and settings.predict_text_file:
    raise files.InputError("--predict_file and --predict_text_file: give one of them")
  layout = layout_of(settings)
  if known_labels is not None:
    layout = layout._replace(tag_scheme=scheme_of(known_labels, layout.tag_scheme))
  dev_flag = "eval_steps" if settings.do_train and settings.eval_steps else "do_eval"
  corpora = {}
  for name, flag in (("train", "do_train"), ("dev", dev_flag), ("test", "do_predict")):
    if settings[flag]:
      corpus = corpora[name] = _read_set(settings, layout, name, flag)
      if layout.tag_scheme == AUTO and corpus.is_tagged():
        layout = layout._replace(tag_scheme=NONE if corpus.tag_scheme == NONE else ENTITIES)
  return corpora, NONE if layout.tag_scheme == NONE else settings.tag_scheme


def scheme_of(labels: Sequence[str], tag_scheme: str = AUTO) -> str:
  """Returns the scheme of a trained model's tags: NONE, ENTITIES, or a given member of SCHEMES.

  Args:
    labels: the model's.
    tag_scheme: see Layout; AUTO: by the labels.

  Raises:
    files.InputError: it is a scheme of entities, and the labels are not.
  """
  if tag_scheme in SCHEMES and are_plain(labels):
    raise files.InputError(
      f"--tag_scheme={tag_scheme}: the model's tags are no entities: {files.listed(labels, 5)}; "
      "give --tag_scheme=none"
    )
  if tag_scheme == AUTO:
    return NONE if are_plain(labels) else ENTITIES
  return tag_scheme


def _read_set(settings, layout, name, flag):
  """Reads the Corpus of a set that a flag needs."""
  if name == "test" and settings.predict_text_file:
    return read_text_corpus(settings.predict_text_file)
  path = settings.predict_file if name == "test" else None
  if not path:
    settings.require(["data_dir"], f"--{flag}")
    paths = [os.path.join(settings.data_dir, f"{name}.{kind}") for kind in ("txt", "csv", "tsv")]
    path = next(filter(files.exists, paths), paths[0])
  has_tags: Optional[bool] = True
  if name == "test":
    has_tags = None if settings.has_tags else False
  corpus = read_corpus(path, layout, has_tags)
  if name == "train" and len(corpus.sentences) == 1:
    _warn_of_long_sentence(corpus, layout, range(2, _MOST_WORDS + 1))
  return corpus


def find_labels(corpus: Corpus) -> list[str]:
  """Lists the labels of a tagger of a corpus.

  Returns:
    "O", and B- and I- of each type, sorted; a type has both, though all of its entities may be
    single words. Of tags of single words: all of them, sorted.

  Raises:
    files.InputError: there is one tag alone.
  """
  sources: dict[str, list[str]] = {}
  for sentence in corpus.sentences:
    for line, tag in zip(sentence.lines, sentence.tags or ()):
      sources.setdefault(tag, []).append(f"{corpus.path}:{line}")
  written_labels.warn_of_look_alikes(corpus.path, sources)
  tags = set(sources)
  if len(tags) == 1 and (corpus.tag_scheme == NONE or tags == {"O"}):
    raise files.InputError(f"{corpus.path}: every tag is {tags.pop()}; there is nothing to learn")
  if corpus.tag_scheme == NONE:
    return sorted(tags)
  types = {tag[2:] for tag in tags - {"O"}}
  return ["O", *sorted(f"{prefix}-{name}" for prefix in "BI" for name in types)]


def check_labels(corpus: Corpus, labels: Sequence[str]) -> None:
  """Raises files.InputError (file:line) for the first tag of a corpus that is not in labels."""
  known = set(labels)
  for sentence in corpus.sentences:
    for line, tag in zip(sentence.lines, sentence.tags or ()):
      if tag not in known:
        shown = ", ".join(labels[:_MANY_TAGS])
        if len(labels) > _MANY_TAGS:
          shown += f", ... ({len(labels)} in all)"
        raise files.InputError(
          f"{corpus.path}:{line}: found the tag {tag!r}, which the training data does not have; "
          f"known tags are {shown}"
        )


# ---- Kinds of tags ------------------------------------------------------------------------------


class EntityTags:
  """Tags that are parts of entities.

  Attributes:
    metrics: names of an evaluation's metrics, the default of --best_metric first.
    every_word_counts: True if words without a word piece are tagged by the model, too.
  """

  metrics = ("f1", "precision", "recall", "accuracy", "loss")
  every_word_counts = False

  def repair(self, tags: list[str]) -> list[str]:
    """Replaces a sentence's predicted tags by IOB2, of the entities that conlleval finds."""
    return encode_entities(find_entities(tags), len(tags))

  def score(self, gold: list[list[str]], predicted: list[list[str]]) -> dict[str, Any]:
    """Returns ner_metrics.entity_metrics."""
    # Imported here alone, as a tagger that serves does without scikit-learn and seqeval.
    from toolkit.metrics import ner_metrics

    return ner_metrics.entity_metrics(gold, predicted)

  def findings(
    self, text: str, spans: Sequence[tuple[int, int]], tags: list[str]
  ) -> dict[str, Any]:
    """Returns the entities, which a record has beside text, words and tags."""
    return {"entities": _entity_records(text, spans, tags)}


class WordTags:
  """Tags of single words, such as parts of speech; see EntityTags."""

  metrics = ("accuracy", "macro_f1", "loss")
  every_word_counts = True

  def repair(self, tags: list[str]) -> list[str]:
    """Returns the tags: each sequence of them is possible."""
    return tags

  def score(self, gold: list[list[str]], predicted: list[list[str]]) -> dict[str, Any]:
    """Returns ner_metrics.tag_metrics."""
    from toolkit.metrics import ner_metrics  # see EntityTags.score

    return ner_metrics.tag_metrics(gold, predicted)

  def findings(
    self, text: str, spans: Sequence[tuple[int, int]], tags: list[str]
  ) -> dict[str, Any]:
    """Returns nothing: there are no entities."""
    del text, spans, tags
    return {}


Kind = Union[EntityTags, WordTags]
ENTITY_TAGS, WORD_TAGS = EntityTags(), WordTags()


def kind_of(tag_scheme: str) -> Kind:
  """Returns the kind of tags of a scheme: WORD_TAGS for NONE, or else ENTITY_TAGS."""
  return WORD_TAGS if tag_scheme == NONE else ENTITY_TAGS


# ---- Features -----------------------------------------------------------------------------------


class Window(NamedTuple):
  """A sentence, or a part of a long one, as the model takes it.

  Attributes:
    sentence: place of the sentence in its list.
    input_ids: ids of the word pieces with [CLS] and [SEP]; no padding.
    words: places of the words that are tagged in this window.
    positions: the place of the first piece of each of them in input_ids.
  """

  sentence: int
  input_ids: list[int]
  words: list[int]
  positions: list[int]


Piece = TypeVar("Piece")


def first_pieces(
  words: Iterable[str], tokenize: Callable[[str], list[Piece]]
) -> tuple[list[Piece], list[Optional[int]]]:
  """Tokenizes a sentence of words, and finds the first piece of each word.

    words  ["Zoë", "unaffable", "\\u200b", "."]
    pieces ["zoe", "una", "##ffa", "##ble", "."]
    starts [0, 1, None, 4]

  The prediction for a word is that for its first piece: piece 1 for "unaffable". The zero-width
  space has no piece.

  Args:
    words: of the sentence.
    tokenize: makes the pieces of a word, or their ids, such as FullTokenizer.tokenize and
      FullTokenizer.encode.

  Returns:
    The pieces, and the place of each word's first piece, or None.
  """
  pieces: list[Piece] = []
  starts: list[Optional[int]] = []
  for word in words:
    word_pieces = tokenize(word)
    starts.append(len(pieces) if word_pieces else None)
    pieces.extend(word_pieces)
  return pieces, starts


def make_windows(
  sentences: Sequence[Sentence],
  tokenizer: tokenization.FullTokenizer,
  max_seq_length: int,
  kind: Kind = ENTITY_TAGS,
) -> list[Window]:
  """Cuts sentences into inputs of the model, so that each word is tagged once.

  A word is tagged in the window with most of its context. Words without a word piece, such as a
  lone control character, are tagged in none, and counted in the log; if every word counts, they are
  [UNK].

  Args:
    sentences: in words.
    tokenizer: of the model's vocabulary.
    max_seq_length: word pieces in a window with [CLS] and [SEP], 3 or more.
    kind: of the tags.

  Returns:
    One or more for each sentence, in their order.
  """
  cls, sep = tokenizer.convert_tokens_to_ids(["[CLS]", "[SEP]"])
  unknown = tokenizer.convert_tokens_to_ids(["[UNK]"]) if kind.every_word_counts else []

  def encode(word):
    return tokenizer.encode(word) or unknown

  windows, without = [], []
  for number, sentence in enumerate(sentences):
    ids, starts = first_pieces(sentence.words, encode)
    width = max_seq_length - 2
    for first, words in _assign_words(len(ids), starts, width).items():
      input_ids = [cls, *ids[first : first + width], sep]
      windows.append(Window(number, input_ids, words, [starts[w] - first + 1 for w in words]))
    without += [word for word, start in zip(sentence.words, starts) if start is None]
  if without:
    logging.warning(
      "%d words have no word piece and get the tag O; the first is %r.", len(without), without[0]
    )
  return windows


def _assign_words(num_pieces, starts, width):
  """Returns a dict of the first piece of each window -> list of the words that are tagged in it.

  Windows begin half a window apart, and the last one ends with the sentence: 10 pieces, a word
  each, 6 per window -> {0: [0 1 2 3 4], 3: [5 6], 4: [7 8 9]}, for windows 0-5, 3-8 and 4-9.
  """
  stride = max(1, width // 2)
  firsts = [*range(0, num_pieces - width, stride), max(0, num_pieces - width)]
  words: dict[int, list[int]] = {first: [] for first in firsts}
  for word, piece in enumerate(starts):
    if piece is not None:
      left = bisect.bisect_left(firsts, piece - width + 1)
      near = firsts[left : bisect.bisect_right(firsts, piece)]
      best = max(near, key=lambda first: min(piece - first, first + width - 1 - piece))
      words[best].append(word)
  return words


def record_features(seq_length: int) -> list[tf_records.Feature]:
  """Returns the columns of a TFRecord file of windows, int32 [S].

  input_ids, input_mask, segment_ids; label_ids, 0 where nothing is scored; label_mask, 1 at the
  scored pieces, which are the first of their words.
  """
  return tf_records.token_features(seq_length, (*tf_records.INPUTS, "label_ids", "label_mask"))


def feature_rows(
  windows: Iterable[Window], sentences: Sequence[Sentence], labels: Sequence[str], seq_length: int
) -> Iterator[dict[str, list[int]]]:
  """Yields windows as rows for record_features: name -> seq_length numbers.

  Args:
    windows: from make_windows.
    sentences: those that they were made of; those without tags get label_ids 0.
    labels: in the order of their ids.
    seq_length: S.
  """
  ids = {label: place for place, label in enumerate(labels)}
  for window in windows:
    row = {feature.name: [0] * seq_length for feature in record_features(seq_length)}
    length = len(window.input_ids)
    row["input_ids"][:length] = window.input_ids
    row["input_mask"][:length] = [1] * length
    tags = sentences[window.sentence].tags
    for word, position in zip(window.words, window.positions):
      row["label_mask"][position] = 1
      row["label_ids"][position] = ids[tags[word]] if tags else 0
    yield row


# ---- Predictions --------------------------------------------------------------------------------


def join_tags(
  sentences: Sequence[Sentence],
  windows: Sequence[Window],
  predicted_ids: Iterable[np.ndarray],
  labels: Sequence[str],
  kind: Kind = ENTITY_TAGS,
) -> list[list[str]]:
  """Joins the predictions of windows.

  Args:
    sentences: N sentences.
    windows: from make_windows.
    predicted_ids: int [S] for each window, the label of each of its pieces, or more.
    labels: in the order of their ids.
    kind: of the tags.

  Returns:
    A tag for each word of each sentence. Those of entities are of IOB2: sequences that break it are
    replaced by the tags of the entities that conlleval finds in them.
  """
  tags = [["O"] * len(sentence.words) for sentence in sentences]
  for window, ids in zip(windows, predicted_ids):
    for word, position in zip(window.words, window.positions):
      tags[window.sentence][word] = labels[ids[position]]
  return list(map(kind.repair, tags))


def prediction_record(
  sentence: Sentence, tags: list[str], kind: Kind = ENTITY_TAGS
) -> dict[str, Any]:
  """Formats a sentence and its predicted tags for JSON.

  Args:
    sentence: in words.
    tags: of the words, for ENTITY_TAGS of IOB2.
    kind: of the tags.

  Returns:
    text, words, tags, and for ENTITY_TAGS entities, a list of dicts:
      {"text": "New York", "type": "LOC", "start_word": 2, "end_word": 4, "start_char": 6,
       "end_char": 14}
    where text[6:14] is "New York", and words[2:4] are its words.
  """
  text, spans = sentence.text, sentence.spans
  if text is None or spans is None:
    text, spans = " ".join(sentence.words), _joined_spans(sentence.words)
  record = {"text": text, "words": sentence.words, "tags": tags}
  return {**record, **kind.findings(text, spans, tags)}


def _entity_records(text, spans, tags):
  """Returns the entities of prediction_record."""
  entities = []
  for name, first, end in find_entities(tags):
    start_char, end_char = spans[first][0], spans[end - 1][1]
    entities.append(
      {
        "text": text[start_char:end_char],
        "type": name,
        "start_word": first,
        "end_word": end,
        "start_char": start_char,
        "end_char": end_char,
      }
    )
  return entities


def _joined_spans(words):
  """Returns the bounds of words in " ".join(words): ["in", "Rome"] -> [(0, 2), (3, 7)]."""
  spans, start = [], 0
  for word in words:
    spans.append((start, start + len(word)))
    start += len(word) + 1
  return spans


def format_corpus(
  corpus: Corpus, tags: Sequence[list[str]], separator: Optional[str] = None
) -> str:
  """Formats a corpus with predicted tags, line by line as it was read.

  A line has the sentence column if there is one, the word, its tag if the corpus has tags, and the
  predicted tag. Lines that are no words keep their places; those between documents have O for tags.
  A header gets the column "predicted". With commas it is CSV.

  Args:
    corpus: as it was read.
    tags: the predicted tags of each sentence.
    separator: stands between two columns; None for that of the file, or a space.
  """
  separator = separator or corpus.separator or " "
  extra = ["O"] * (2 if corpus.is_tagged() else 1)
  lines = {
    line: separator.join([text, *extra]) if text == DOCSTART else text
    for line, text in corpus.other_lines.items()
  }
  join = _csv_line if separator == "," else separator.join
  if corpus.header:
    line, names = corpus.header
    lines[line] = join([*names, "predicted"])
  for sentence, predicted in zip(corpus.sentences, tags):
    columns = filter(None, (sentence.marks, sentence.words, sentence.tags, predicted))
    lines.update(zip(sentence.lines, map(join, zip(*columns))))
  return "".join(lines[line] + "\n" for line in sorted(lines))


def _csv_line(cells):
  """Returns a row of CSV without its end."""
  line = io.StringIO()
  csv.writer(line, lineterminator="").writerow(cells)
  return line.getvalue()
