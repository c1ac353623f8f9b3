"""SQuAD files to examples, and examples to features: windows of a question and a piece of context.

  context "Ada lived in London .", question "Where did Ada live ?", answer "London" at 13
  -> SquadExample: words [Ada, lived, in, London, .], start_position 3, end_position 3
  -> [CLS] where did ada live ? [SEP] ada lived in london . [SEP] [PAD] ...       input_ids
       1     1    1   1   1  1    1    1    1    1    1   1   1     0   ...       input_mask
       0     0    0   0   0  0    0    1    1    1    1   1   1     0   ...       segment_ids
     start_position 10, end_position 10

A context too long for one window is cut into several that overlap: doc_stride word pieces lie
between the beginnings of two. Worker processes import this module, so it needs no TensorFlow.
"""

import array
import bisect
import dataclasses
import functools
import hashlib
import io
import itertools
import json
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
from absl import logging
from tqdm import tqdm

import tokenization
from toolkit.records import tf_records
from toolkit.support import command_line, files, workers
from toolkit.support.command_line import ThresholdParser

FIRST_UNIQUE_ID = 1000000000

# Words end at these alone. Other spaces of Unicode are parts of words, until tokenization.
_WORD = re.compile("[^ \t\r\n\u202f]+")
_NUM_LOGGED_EXAMPLES = 20
_ANSWER = ("start_position", "end_position", "is_impossible")  # fields of InputFeatures
_NUM_LISTED = 10  # questions in a message
_CACHED_WORDS = 200_000
_CHUNK = 512  # examples, or windows, that a worker gets at a time
_MIN_FOR_WORKERS = 8192  # examples, or windows: fewer are done before workers have started
_CACHE_FORMAT = 2  # to be raised when features of the same files and settings change


# ---- Examples -----------------------------------------------------------------------------------


@dataclasses.dataclass(eq=False)
class SquadExample:
  """A question about a paragraph, for training with its answer.

  Attributes:
    qas_id: id of the question.
    doc_tokens: the paragraph's words; questions of one paragraph share it.
    orig_answer_text: the answer; "" for an impossible question; None if it was not read.
    start_position, end_position: first and last word of the answer in doc_tokens; -1 for an
      impossible question; None if the answer was not read.
    is_impossible: True if the paragraph has no answer.
    paragraph_text: the paragraph as it was.
    word_offsets: the character in paragraph_text where each word begins.
    answer_start: the character in paragraph_text where the answer begins; None if there is none, if
      it was not read, or if it is not known.
  """

  qas_id: str
  question_text: str
  doc_tokens: list[str]
  orig_answer_text: Optional[str] = None
  start_position: Optional[int] = None
  end_position: Optional[int] = None
  is_impossible: bool = False
  paragraph_text: Optional[str] = None
  word_offsets: Optional[list[int]] = None
  answer_start: Optional[int] = None

  def __repr__(self) -> str:
    parts = [
      f"qas_id: {self.qas_id}",
      f"question_text: {self.question_text}",
      f"doc_tokens: [{' '.join(self.doc_tokens)}]",
    ]
    if self.start_position is not None:
      parts += [f"start_position: {self.start_position}", f"end_position: {self.end_position}"]
    return ", ".join([*parts, f"is_impossible: {self.is_impossible}"])


def split_words(text: str) -> tuple[list[str], list[int]]:
  """Splits a paragraph into the words that answers are made of, and finds where each begins.

  " Ada lived\\nhere." -> ["Ada", "lived", "here."], [1, 5, 11]
  """
  matches = list(_WORD.finditer(text))
  return [match.group() for match in matches], [match.start() for match in matches]


def read_squad_examples(
  input_file: str, is_training: bool, version_2_with_negative: bool = False
) -> list[SquadExample]:
  """Reads a SQuAD file.

  Args:
    input_file: path of the file.
    is_training: True to read the answers. Questions whose answer cannot be found in the context are
      left out and named in the log; of several answers the first is used.
    version_2_with_negative: True to train on questions without an answer (SQuAD 2.0) as well. They
      are left out otherwise. The flag --version_2_with_negative has no effect here.

  Returns:
    The questions in the order of the file.

  Raises:
    files.InputError: the file cannot be read or is not SQuAD (names the place), two questions have
      one id, an answer lies outside of its context, or there is no question that can be used.
  """
  reader = _Reader(is_training, version_2_with_negative)
  examples = []
  for place, paragraph in _paragraphs(input_file):
    examples.extend(reader.read(paragraph, place))
  reader.report(input_file)
  if not examples:
    found = f"none of {len(reader.places)} can be used" if reader.places else "there is none at all"
    raise files.InputError(f"{input_file}: has no questions: {found}")
  return examples


def _paragraphs(path):
  """Yields the place and the content of each paragraph of a SQuAD file."""
  for a, article in enumerate(_get(files.read_json(path), "data", list, path)):
    place = f"{path}: data[{a}]"
    for p, paragraph in enumerate(_get(article, "paragraphs", list, place)):
      yield f"{place}.paragraphs[{p}]", paragraph


_JSON_NAMES = {
  dict: "an object {}",
  list: "a list",
  str: "a text",
  int: "a whole number",
  float: "a number",
  bool: "true or false",
  type(None): "null",
}


def _get(record, key, kinds, place):
  """Returns record[key]; InputError unless it is there and its type is (one of) `kinds`."""
  kinds = kinds if isinstance(kinds, tuple) else (kinds,)
  if not isinstance(record, dict):
    raise files.InputError(
      f'{place}: found {_JSON_NAMES[type(record)]}, should be an object with "{key}"'
    )
  if key not in record:
    raise files.InputError(f'{place}: has no "{key}"')
  if type(record[key]) not in kinds:  # not isinstance: True is an int there
    expected = " or ".join(map(_JSON_NAMES.__getitem__, kinds))
    raise files.InputError(
      f'{place}: "{key}" is {_JSON_NAMES[type(record[key])]}, should be {expected}'
    )
  return record[key]


class _Lost(NamedTuple):
  """A question whose answer is not where it should be."""

  qas_id: str
  found: str
  answer: str


class _Reader:
  """Makes the examples of paragraphs, and counts for the log.

  Attributes:
    places: question id -> where it stands.
    lost: questions that were left out.
    num_negative: impossible questions that were left out.
    num_ambiguous: questions with more than one answer.
  """

  def __init__(self, is_training, version_2_with_negative):
    self._is_training = is_training
    self._version_2_with_negative = version_2_with_negative
    self.places: dict[str, str] = {}
    self.lost: list[_Lost] = []
    self.num_negative = 0
    self.num_ambiguous = 0

  def read(self, paragraph, place):
    """Yields a SquadExample for each question of a paragraph that can be used."""
    context = _get(paragraph, "context", str, place)
    words, offsets = split_words(context)
    for q, question in enumerate(_get(paragraph, "qas", list, place)):
      qas_place = f"{place}.qas[{q}]"
      example = SquadExample(
        qas_id=self._id(question, qas_place),
        question_text=_get(question, "question", str, qas_place),
        doc_tokens=words,
        paragraph_text=context,
        word_offsets=offsets,
      )
      if not self._is_training or self._add_answer(example, question, qas_place):
        yield example

  def _id(self, question, place):
    qas_id = str(_get(question, "id", (str, int), place))
    if qas_id in self.places:
      raise files.InputError(f"{place}: found id {qas_id!r} again; {self.places[qas_id]} has it")
    self.places[qas_id] = place
    return qas_id

  def _add_answer(self, example, question, place):
    """Sets the answer of an example; returns True if it can be used."""
    if _is_impossible(question, place):
      example.is_impossible = True
      example.orig_answer_text = ""
      example.start_position = example.end_position = -1
      self.num_negative += not self._version_2_with_negative
      return self._version_2_with_negative
    answers = _get(question, "answers", list, place)
    if not answers:
      raise files.InputError(f'{place}: "answers" is empty, and "is_impossible" is not true')
    self.num_ambiguous += len(answers) > 1
    text, start = _answer(answers[0], f"{place}.answers[0]", len(example.paragraph_text))
    first, last = _words_of(start, len(text), example.word_offsets)
    found = " ".join(example.doc_tokens[first : last + 1])
    if not _has_text(found, text):
      self.lost.append(_Lost(example.qas_id, found, text))
      return False
    example.orig_answer_text = text
    example.start_position, example.end_position = first, last
    example.answer_start = start
    return True

  def report(self, path):
    """Logs the counts."""
    listed = [
      f"\n  {lost.qas_id}: Could not find answer: '{lost.found}' vs. '{lost.answer}'"
      for lost in self.lost[:_NUM_LISTED]
    ]
    more = ["\n  ..."] if len(self.lost) > _NUM_LISTED else []
    for log, count, message in (
      (logging.info, self.num_ambiguous, "have more than one answer; training uses the first."),
      (
        logging.warning,
        self.num_negative,
        "have no answer and are left out; --version_2_with_negative would use them.",
      ),
      (
        logging.warning,
        len(self.lost),
        "are left out: their answer is empty or not at its answer_start. The text there, and the "
        "answer:" + "".join(listed + more),
      ),
    ):
      if count:
        log("%s: %d of %d questions %s", path, count, len(self.places), message)


def _is_impossible(question, place):
  """Returns True for a question without an answer; SQuAD 1.1 has no field for it."""
  if "is_impossible" in question:
    return _get(question, "is_impossible", bool, place)
  return question.get("answers") == []


def _answer(answer, place, context_length):
  """Returns the text and the first character of an answer; InputError if outside the context."""
  text = _get(answer, "text", str, place)
  start = _get(answer, "answer_start", int, place)
  if start < 0 or start + max(1, len(text)) > context_length:
    raise files.InputError(
      f'{place}: "answer_start" {start} with {len(text)} characters of "text" lies outside of the '
      f"context of {context_length} characters"
    )
  return text, start


def _words_of(start, length, offsets):
  """Finds the first and the last word of some characters; a space belongs to the word before it.

  In "Ada lived in London" (offsets 0, 4, 10, 13) characters 7 to 12, "ed in ", are in words 1 to 2.
  """
  first = bisect.bisect_right(offsets, start) - 1
  last = bisect.bisect_right(offsets, start + length - 1) - 1
  return max(first, 0), last


def _has_text(text, part):
  """Returns True if text contains a part that is not blank, all kinds of space being equal."""
  part = " ".join(part.split())
  return bool(part) and part in " ".join(text.split())


# ---- Windows ------------------------------------------------------------------------------------


class Settings(NamedTuple):
  """Settings of the features of a file.

  Attributes:
    vocab_file: path of the vocabulary; "" for features of a given tokenizer.
    do_lower_case: True if text is lower-cased.
    max_seq_length: word pieces in a window with [CLS], question and both [SEP].
    doc_stride: word pieces between the beginnings of two windows, at most.
    max_query_length: word pieces of a question; the rest is cut off.
    is_training: True if features have the answer's place.
    version_2_with_negative: see read_squad_examples.
  """

  vocab_file: str = ""
  do_lower_case: bool = True
  max_seq_length: int = 384
  doc_stride: int = 128
  max_query_length: int = 64
  is_training: bool = False
  version_2_with_negative: bool = False

  def check(self) -> None:
    """Raises files.InputError that names a flag whose value cannot be used."""
    for name in ("doc_stride", "max_query_length"):
      if getattr(self, name) < 1:
        raise files.InputError(f"--{name}: {getattr(self, name)} is too small; give 1 or more")
    if self.max_query_length + 3 >= self.max_seq_length:
      raise files.InputError(
        f"--max_seq_length: {self.max_seq_length} leaves no space for the context beside "
        f"--max_query_length={self.max_query_length} and [CLS], [SEP], [SEP]; give at least "
        f"{self.max_query_length + 4}"
      )


def define_flags(flags: command_line.ScriptFlags) -> None:
  """Defines the flags of windows and answers."""
  flags.DEFINE_integer(
    "doc_stride",
    128,
    "Word pieces from the start of a window to the start of the next, in a long paragraph.",
    lower_bound=1,
    remembered=True,
  )
  flags.DEFINE_integer(
    "max_query_length",
    64,
    "Maximum number of word pieces per question. Longer questions are cut.",
    lower_bound=1,
    remembered=True,
  )
  flags.DEFINE_integer(
    "predict_batch_size",
    8,
    "Windows per batch of prediction.",
    lower_bound=1,
    group="speed and memory",
  )
  flags.DEFINE_integer(
    "num_workers",
    0,
    "Processes that make features; 0 for one per CPU core.",
    lower_bound=0,
    group="speed and memory",
  )
  flags.DEFINE_string(
    "cache_dir",
    None,
    "Directory where features are kept for later runs on the same file. Default: --output_dir.",
    group="speed and memory",
  )
  _define_answer_flags(flags)


def _define_answer_flags(flags):
  """Defines the flags of answers."""
  flags.DEFINE_integer(
    "n_best_size",
    20,
    "Number of answers per question in nbest_predictions.json, with their probabilities.",
    lower_bound=1,
  )
  flags.DEFINE_integer(
    "max_answer_length", 30, "Maximum number of word pieces per answer.", lower_bound=1
  )
  flags.DEFINE_bool(
    "verbose_logging",
    False,
    "Log each answer whose exact place in the text is not found.",
  )
  flags.DEFINE_bool(
    "version_2_with_negative",
    False,
    "Questions may have no answer (SQuAD 2.0).",
    remembered=True,
    shared=True,
  )
  flags.DEFINE(
    ThresholdParser(),
    "null_score_diff_threshold",
    0.0,
    "Threshold of the score of no answer minus that of the best answer. Above it, no answer is "
    "predicted. `auto`: the threshold with the best F1, found by --do_eval in this or an earlier "
    "run.",
    serializer=flags.ArgumentSerializer(),
  )


def settings_of(settings: command_line.Settings, is_training: bool) -> Settings:
  """Returns the settings of features among those of a run."""
  names = [name for name in Settings._fields if name != "is_training"]
  return Settings(is_training=is_training, **{name: settings[name] for name in names})


class DocSpan(NamedTuple):
  """The word pieces of the context in a window: the first, from 0, and their number."""

  start: int
  length: int


def _doc_spans(num_pieces, width, stride):
  """Returns the spans of a context's windows; an empty context has one, which is empty.

  10 pieces, 6 per window, stride 3 -> 0 to 5, 3 to 8, 6 to 9.
  """
  spans = [DocSpan(0, min(width, num_pieces))]
  while spans[-1].start + spans[-1].length < num_pieces:
    start = spans[-1].start + min(spans[-1].length, stride)
    spans.append(DocSpan(start, min(width, num_pieces - start)))
  return spans


def _check_is_max_context(doc_spans, cur_span_index, position):
  """Returns True if a window, doc_spans[cur_span_index], has most context of a piece `position`.

  A window's score is the number of pieces on the side where it has fewer, and a hundredth of the
  window's length. For piece 5 in the spans 0-5, 3-8 and 6-9: min(5, 0) + 0.06 and
  min(2, 3) + 0.06; the second is the best. Of windows with the same score the first is the best.
  """
  scores = {
    index: min(position - span.start, span.start + span.length - 1 - position) + 0.01 * span.length
    for index, span in enumerate(doc_spans)
    if span.start <= position < span.start + span.length
  }
  return bool(scores) and max(scores, key=scores.__getitem__) == cur_span_index


@functools.lru_cache(maxsize=64)  # questions of one paragraph follow each other
def _spans_with_flags(num_pieces, width, stride):
  """Returns a context's spans, each with the _check_is_max_context of its pieces, bool [length].

  The time is linear in the number of windows.
  """
  spans = _doc_spans(num_pieces, width, stride)
  best_scores = np.full(num_pieces, -1.0)
  best_spans = np.zeros(num_pieces, np.int32)
  for index, (start, length) in enumerate(spans):
    left = np.arange(length)
    scores = np.minimum(left, left[::-1]) + 0.01 * length
    is_better = scores > best_scores[start : start + length]
    best_scores[start : start + length][is_better] = scores[is_better]
    best_spans[start : start + length][is_better] = index
  return [(s, best_spans[s.start : s.start + s.length] == i) for i, s in enumerate(spans)]


def _improve_answer_span(doc_tokens, input_start, input_end, tokenizer, orig_answer_text):
  """Narrows an answer from the pieces of its words to its own pieces, if they are there.

  Words "(1895-1943)." -> pieces [(, 1895, -, 1943, ), .]; the answer "1895" is the second alone.

  Args:
    doc_tokens: list of str, word pieces of the context.
    input_start, input_end: int, first and last piece of the answer's words.
    tokenizer: tokenization.FullTokenizer.
    orig_answer_text: str.

  Returns:
    Pair of int, first and last piece.
  """
  return _find_pieces(doc_tokens, input_start, input_end, tokenizer.tokenize(orig_answer_text))


def _find_pieces(pieces, start, end, wanted):
  """Finds the first and last place of a list in pieces[start : end + 1]; else start, end."""
  return next(_occurrences(pieces, start, end, wanted), (start, end))


def _occurrences(pieces, start, end, wanted):
  """Yields each first and last place of a list in pieces[start : end + 1]."""
  count = len(wanted)
  for first in range(start, end + 2 - count):
    if count and pieces[first : first + count] == wanted:
      yield first, first + count - 1


def may_be_sentences(words: list[str]) -> bool:
  """Returns True if there are spaces of other kinds in words, or letters without case.

  Scripts that are written without spaces (Chinese, Japanese, Thai) have no case.
  """
  return any(
    char.isspace() or unicodedata.category(char) == "Lo"
    for word in words
    if not word.isascii()
    for char in word
  )


class Windows(NamedTuple):
  """N windows as flat arrays, with T word pieces in all. There is no padding.

  Attributes:
    example_index: int32 [N], place of the window's example in its list.
    doc_span_index: int32 [N], number of the window in its example, from 0.
    num_tokens: int32 [N], word pieces with [CLS] and [SEP].
    num_question: int32 [N], word pieces of the question.
    start_position, end_position: int32 [N], first and last word piece of the answer, from [CLS]; 0
      where the window or the context has none, and everywhere when not training.
    is_impossible: bool [N].
    input_ids: int32 [T], one window after the other.
    word_index: int32 [T], the word of the context that a piece is of; -1 outside of the context.
    is_max_context: bool [T], True if no other window shows more of a piece's context.
    chars: int32 [C, 2], for each word piece of all paragraphs, one after the other: the first of
      the characters of its word that it was made of, and the one behind the last; -1, -1 if the
      tokenizer does not tell.
    first_char: int32 [N], where in `chars` the window's part of its paragraph begins.
  """

  example_index: np.ndarray
  doc_span_index: np.ndarray
  num_tokens: np.ndarray
  num_question: np.ndarray
  start_position: np.ndarray
  end_position: np.ndarray
  is_impossible: np.ndarray
  input_ids: np.ndarray
  word_index: np.ndarray
  is_max_context: np.ndarray
  chars: np.ndarray
  first_char: np.ndarray

  @classmethod
  def of_rows(cls, rows: Sequence["Windows"]) -> "Windows":
    """Joins Windows of one window each, whose numbers are no arrays.

    The `chars` of a row are those of its paragraph, or none if a row before it has them.
    """
    columns: list[Any] = list(zip(*rows)) or [()] * len(cls._fields)
    return cls(
      *(
        np.concatenate([_NO_PIECES[name], *column])
        if name in _NO_PIECES
        else np.array(column, bool if name.startswith("is_") else np.int32)
        for name, column in zip(cls._fields, columns)
      )
    )

  @classmethod
  def concatenate(cls, parts: Sequence["Windows"]) -> "Windows":
    """Puts several Windows one after the other."""
    begins = itertools.accumulate((len(part.chars) for part in parts), initial=0)
    parts = [part._replace(first_char=part.first_char + b) for part, b in zip(parts, begins)]
    return cls(*map(np.concatenate, zip(cls.of_rows([]), *parts)))

  def offsets(self) -> np.ndarray:
    """Returns where each window's pieces begin, and where the last one's end: int64 [N + 1]."""
    return np.concatenate([[0], np.cumsum(self.num_tokens, dtype=np.int64)])

  def take(self, order: np.ndarray) -> "Windows":
    """Returns the Windows at the places in `order`, int [M]."""
    lengths = self.num_tokens[order]
    # Lengths 2, 3 in order 1, 0: pieces 2 3 4 0 1, which is 0 1 2 3 4 plus 2 2 2 -3 -3.
    shifts = self.offsets()[order] - (np.cumsum(lengths, dtype=np.int64) - lengths)
    pieces = np.arange(lengths.sum()) + np.repeat(shifts, lengths)
    places = {"chars": slice(None), **dict.fromkeys(_PER_PIECE, pieces)}
    return Windows(*(v[places.get(name, order)] for name, v in self._asdict().items()))


_PER_PIECE = ("input_ids", "word_index", "is_max_context")
_NO_PIECES = {
  "input_ids": np.empty(0, np.int32),
  "word_index": np.empty(0, np.int32),
  "is_max_context": np.empty(0, bool),
  "chars": np.empty((0, 2), np.int32),
}


class _Paragraph(NamedTuple):
  """A paragraph in P word pieces.

  Attributes:
    ids: of the P pieces.
    id_array: the same as int32 [P].
    word_index: int32 [P], the word that a piece is of.
    first_pieces: each word's first piece, and P.
    chars: int32 [P, 2], see Windows.
  """

  ids: list[int]
  id_array: np.ndarray
  word_index: np.ndarray
  first_pieces: list[int]
  chars: np.ndarray

  @classmethod
  def of_words(cls, words, encode):
    """Encodes a list of str by a function of str to the bytes of int32 [P, 3]: ids and chars."""
    encoded = list(map(encode, words))
    rows = np.frombuffer(b"".join(encoded), np.int32).reshape(-1, 3)
    counts = [len(word) // 12 for word in encoded]
    return cls(
      rows[:, 0].tolist(),
      rows[:, 0].copy(),
      np.repeat(np.arange(len(words), dtype=np.int32), counts),
      [0, *itertools.accumulate(counts)],
      rows[:, 1:].copy(),
    )

  def spans_in_text(self, example):
    """Returns the pieces' spans in example.paragraph_text, int [2, P]; None if not known."""
    needed = (example.answer_start, example.word_offsets, example.paragraph_text)
    if any(value is None for value in needed) or not len(self.chars) or self.chars.min() < 0:
      return None
    return self.chars.T + np.array(example.word_offsets)[self.word_index]


class _Converter:
  """Makes windows of examples, in one process."""

  def __init__(self, tokenizer, settings):
    settings.check()
    self._tokenizer = tokenizer
    self._settings = settings
    self._encode_word = functools.lru_cache(_CACHED_WORDS)(self._encode_with_spans)
    self._outside = np.full(settings.max_query_length + 2, -1, np.int32)
    self._never = np.zeros(settings.max_query_length + 2, bool)
    self._cls, self._sep = tokenizer.convert_tokens_to_ids(["[CLS]", "[SEP]"])

  def _encode(self, text):
    return self._tokenizer.convert_tokens_to_ids(self._tokenizer.tokenize(text))

  def _encode_with_spans(self, word):
    """Encodes a word for _Paragraph.of_words."""
    if isinstance(self._tokenizer, tokenization.FullTokenizer):
      pieces, spans = self._tokenizer.tokenize_with_spans(word)
    else:
      pieces, spans = self._tokenizer.tokenize(word), None
    ids = self._tokenizer.convert_tokens_to_ids(pieces)
    rows = zip(ids, spans or [(-1, -1)] * len(ids))
    return array.array("i", [number for i, span in rows for number in (i, *span)]).tobytes()

  def convert(self, examples):
    """Makes the Windows of a list of SquadExample; their example_index counts from 0.

    Paragraphs are tokenized once if their questions come together.
    """
    rows: list[Windows] = []
    num_chars = 0
    by_paragraph = itertools.groupby(enumerate(examples), lambda item: id(item[1].doc_tokens))
    for _, numbered in by_paragraph:
      questions = list(numbered)
      paragraph = _Paragraph.of_words(questions[0][1].doc_tokens, self._encode_word)
      first_row = len(rows)
      for index, example in questions:
        rows.extend(self._rows(index, example, paragraph, num_chars))
      rows[first_row] = rows[first_row]._replace(chars=paragraph.chars)
      num_chars += len(paragraph.chars)
    return Windows.of_rows(rows)

  def _rows(self, index, example, paragraph, first_char):
    """Yields the windows of an example for Windows.of_rows."""
    question = self._encode(example.question_text)[: self._settings.max_query_length]
    begin = np.array([self._cls, *question, self._sep], np.int32)
    outside, never = self._outside[: len(begin)], self._never[: len(begin)]
    num_pieces = len(paragraph.ids)
    width = min(num_pieces, self._settings.max_seq_length - len(begin) - 1)
    answer = self._answer_pieces(example, paragraph)
    spans = _spans_with_flags(num_pieces, width, self._settings.doc_stride)
    for number, (span, is_max_context) in enumerate(spans):
      pieces = slice(span.start, span.start + span.length)
      start, end = _place_in_window(answer, span, len(begin))
      numbers: dict[str, Any] = {
        "example_index": index,
        "doc_span_index": number,
        "num_tokens": len(begin) + span.length + 1,
        "num_question": len(question),
        "start_position": start,
        "end_position": end,
        "is_impossible": example.is_impossible,
        "first_char": first_char + span.start,
      }
      yield Windows(
        **numbers,
        input_ids=np.concatenate([begin, paragraph.id_array[pieces], begin[-1:]]),
        word_index=np.concatenate([outside, paragraph.word_index[pieces], outside[:1]]),
        is_max_context=np.concatenate([never, is_max_context, never[:1]]),
        chars=_NO_PIECES["chars"],
      )

  def _answer_pieces(self, example, paragraph):
    """Finds the first and last word piece of the answer in the paragraph; None without one.

    In words that may be sentences it is the pieces that the answer's characters are in. In others
    it is the answer's own pieces, the nearest to answer_start if they are there more than once, or
    all pieces of the words if they are not there.
    """
    if example.is_impossible or not self._settings.is_training:
      return None
    first = paragraph.first_pieces[example.start_position]
    last = paragraph.first_pieces[example.end_position + 1] - 1
    wanted = self._encode(example.orig_answer_text)
    found = list(_occurrences(paragraph.ids, first, last, wanted))
    words = example.doc_tokens[example.start_position : example.end_position + 1]
    are_sentences = may_be_sentences(words)
    if not are_sentences and len(found) == 1:
      return found[0]
    spans = paragraph.spans_in_text(example)
    if spans is None:
      return found[0] if found else (first, last)
    starts, ends = spans
    start, end = example.answer_start, example.answer_start + len(example.orig_answer_text)
    if are_sentences and _has_text(example.paragraph_text[start:end], example.orig_answer_text):
      places = np.flatnonzero((starts < end) & (ends > start)).tolist()
      if places:
        return places[0], places[-1]
    return min(found, key=lambda place: abs(starts[place[0]] - start), default=(first, last))


def _place_in_window(answer, span, offset):
  """Finds an answer in a window whose context begins at `offset`; 0, 0 if not all is there."""
  if answer is None or not span.start <= answer[0] <= answer[1] < span.start + span.length:
    return 0, 0
  return answer[0] - span.start + offset, answer[1] - span.start + offset


# ---- Features -----------------------------------------------------------------------------------


@dataclasses.dataclass(eq=False)
class InputFeatures:
  """A window as the model takes it.

  Attributes:
    unique_id: number of the window, from FIRST_UNIQUE_ID.
    example_index: place of its example in the list of examples.
    doc_span_index: number of the window in its example, from 0.
    tokens, input_ids, input_mask, segment_ids: see tokenization.Encoded; the question is the first
      text, the context the second.
    token_to_orig_map: place in tokens -> word in the example's doc_tokens, for the pieces of the
      context.
    token_is_max_context: for the same places, see _check_is_max_context.
    start_position, end_position: first and last of the answer's tokens; 0 where the window has no
      answer; None when not training.
    is_impossible: True if the example has no answer.
    token_to_chars: for the same places: the first of the characters of the word that the piece was
      made of, and the one behind the last; -1, -1 if the tokenizer does not tell. None if the
      features were made without it.
  """

  unique_id: int
  example_index: int
  doc_span_index: int
  tokens: list[str]
  token_to_orig_map: dict[int, int]
  token_is_max_context: dict[int, bool]
  input_ids: list[int]
  input_mask: list[int]
  segment_ids: list[int]
  start_position: Optional[int] = None
  end_position: Optional[int] = None
  is_impossible: Optional[bool] = None
  token_to_chars: Optional[dict[int, Sequence[int]]] = None


class FeatureSet:
  """The features of a list of examples in little memory: a sequence that makes them on demand.

  Attributes:
    windows: in the order of the examples.
    settings: of the features.
  """

  def __init__(
    self,
    windows: Windows,
    settings: Settings,
    inv_vocab: dict[int, str],
    first_unique_id: int = FIRST_UNIQUE_ID,
  ) -> None:
    """Takes the windows; inv_vocab is the tokenizer's, id -> word piece."""
    self.windows = windows
    self.settings = settings
    self._inv_vocab = inv_vocab
    self._first_unique_id = first_unique_id
    self._offsets = windows.offsets().tolist()

  def __len__(self) -> int:
    return len(self.windows.num_tokens)

  def __getitem__(self, index: int) -> InputFeatures:
    """Makes the features of a window; IndexError if there is none."""
    index = range(len(self))[index]
    windows, is_training = self.windows, self.settings.is_training
    pieces = slice(self._offsets[index], self._offsets[index + 1])
    # The context stands between [CLS] question [SEP] and [SEP].
    context = range(int(windows.num_question[index]) + 2, int(windows.num_tokens[index]) - 1)
    words, flags = (
      v[pieces][context.start : context.stop].tolist()
      for v in (windows.word_index, windows.is_max_context)
    )
    first_char = int(windows.first_char[index])
    chars = windows.chars[first_char : first_char + len(context)].tolist()
    return InputFeatures(
      unique_id=self._first_unique_id + index,
      example_index=int(windows.example_index[index]),
      doc_span_index=int(windows.doc_span_index[index]),
      tokens=[self._inv_vocab[i] for i in windows.input_ids[pieces].tolist()],
      token_to_orig_map=dict(zip(context, words)),
      token_is_max_context=dict(zip(context, flags)),
      start_position=int(windows.start_position[index]) if is_training else None,
      end_position=int(windows.end_position[index]) if is_training else None,
      is_impossible=bool(windows.is_impossible[index]),
      token_to_chars=dict(zip(context, chars)),
      **self._padded(index),
    )

  def __iter__(self) -> Iterator[InputFeatures]:
    return (self[index] for index in range(len(self)))

  def _padded(self, index):
    """Returns the dict of the lists of max_seq_length int of a window."""
    ids = self.windows.input_ids[self._offsets[index] : self._offsets[index + 1]].tolist()
    num_first = int(self.windows.num_question[index]) + 2
    padding = [0] * (self.settings.max_seq_length - len(ids))
    return {
      "input_ids": ids + padding,
      "input_mask": [1] * len(ids) + padding,
      "segment_ids": [0] * num_first + [1] * (len(ids) - num_first) + padding,
    }

  def part(self, start: int, end: int) -> "FeatureSet":
    """Returns the windows from start to before end, without texts and chars.

    Places past the end get the last window again, with a unique_id of its own.
    """
    order = np.minimum(np.arange(start, end), len(self) - 1)
    windows = self.windows.take(order)._replace(chars=_NO_PIECES["chars"])
    return FeatureSet(windows, self.settings, {}, self._first_unique_id + start)

  def record_row(self, index: int) -> dict[str, Any]:
    """Returns a window as a row for record_features: name -> number or list."""
    row = {"unique_ids": self._first_unique_id + index, **self._padded(index)}
    if self.settings.is_training:
      row["start_positions"] = int(self.windows.start_position[index])
      row["end_positions"] = int(self.windows.end_position[index])
      row["is_impossible"] = int(self.windows.is_impossible[index])
    return row


def convert_examples_to_features(
  examples: Sequence[SquadExample],
  tokenizer: tokenization.FullTokenizer,
  max_seq_length: int,
  doc_stride: int,
  max_query_length: int,
  is_training: bool,
  output_fn: Callable[[InputFeatures], object],
) -> None:
  """Makes the features of examples one after the other; logs those of the first few examples.

  Args:
    examples: in the order of the features.
    tokenizer: of the model's vocabulary.
    max_seq_length, doc_stride, max_query_length, is_training: see Settings.
    output_fn: called with the features of each window.

  Raises:
    files.InputError: the lengths cannot be used, see Settings.check.
  """
  settings = Settings(
    max_seq_length=max_seq_length,
    doc_stride=doc_stride,
    max_query_length=max_query_length,
    is_training=is_training,
  )
  converter = _Converter(tokenizer, settings)
  unique_id = FIRST_UNIQUE_ID
  for start in range(0, len(examples), _CHUNK):
    windows = converter.convert(examples[start : start + _CHUNK])
    windows = windows._replace(example_index=windows.example_index + start)
    features = FeatureSet(windows, settings, tokenizer.inv_vocab, unique_id)
    if start == 0:
      log_features(features)
    for feature in features:
      output_fn(feature)
    unique_id += len(features)


def extract(
  examples: Sequence[SquadExample],
  settings: Settings,
  num_workers: int = 1,
  tokenizer: Optional[tokenization.FullTokenizer] = None,
) -> FeatureSet:
  """Makes the features of all examples, in the order of convert_examples_to_features.

  Args:
    examples: in any order.
    settings: of the features.
    num_workers: processes to use. Small sets are done by this process alone.
    tokenizer: that of these settings; None to make one.

  Raises:
    files.InputError: see Settings.check; or the vocabulary cannot be read.
  """
  settings.check()
  tokenizer = tokenizer or _make_tokenizer(settings)
  # The questions of a paragraph are put together: one worker tokenizes it, and only once.
  seen: dict[int, int] = {}
  order = sorted(range(len(examples)), key=lambda i: seen.setdefault(id(examples[i].doc_tokens), i))
  chunks = [order[i : i + _CHUNK] for i in range(0, len(order), _CHUNK)]
  jobs = ([examples[i] for i in chunk] for chunk in chunks)
  if _is_worth_workers(len(examples), num_workers):
    function = functools.partial(_convert_in_worker, settings, _vocab_digest(settings))
    results = workers.map_in_order(function, jobs, num_workers, "--num_workers")
  else:
    results = map(_Converter(tokenizer, settings).convert, jobs)
  parts = []
  with _progress_bar(len(examples), "Making features", "question") as bar:
    for chunk, windows in zip(chunks, results):
      places = np.array(chunk, np.int32)
      parts.append(windows._replace(example_index=places[windows.example_index]))
      bar.update(len(chunk))
  windows = Windows.concatenate(parts)
  windows = windows.take(np.argsort(windows.example_index, kind="stable"))
  return FeatureSet(windows, settings, tokenizer.inv_vocab)


def _is_worth_workers(num_items, num_workers):
  return num_workers > 1 and num_items >= _MIN_FOR_WORKERS


def _progress_bar(total, description, unit):
  return tqdm(
    total=total,
    desc=description,
    unit=unit,
    disable=total <= _CHUNK or not sys.stderr.isatty(),
    dynamic_ncols=True,
  )


def _convert_in_worker(settings, vocab_digest, examples):
  return _worker_converter(settings, vocab_digest).convert(examples)


@functools.lru_cache(maxsize=1)
def _worker_converter(settings, vocab_digest):
  """Returns a worker's _Converter; the digest is a key, as workers outlive changes of a file."""
  del vocab_digest
  return _Converter(_make_tokenizer(settings), settings)


def _make_tokenizer(settings):
  with files.input_checks():
    return tokenization.FullTokenizer(settings.vocab_file, settings.do_lower_case)


def log_features(features: Iterable[InputFeatures]) -> None:
  """Logs the features of the first 20 examples.

  Args:
    features: in the order of their examples, such as a FeatureSet.
  """
  for feature in features:
    if feature.example_index >= _NUM_LOGGED_EXAMPLES:
      return
    _log_feature(feature)


def _log_feature(feature):
  values = {name: value for name, value in vars(feature).items() if name != "token_to_chars"}
  start, end, is_impossible = (values.pop(name) for name in _ANSWER)
  tf_records.log_example(**values)
  if start is None:
    return
  if is_impossible:
    logging.info("impossible example")
    return
  logging.info("start_position: %d", start)
  logging.info("end_position: %d", end)
  logging.info("answer: %s", " ".join(feature.tokens[start : end + 1]))


# ---- Features kept for the next run -------------------------------------------------------------


def cached_features(
  examples: Sequence[SquadExample],
  input_file: str,
  settings: Settings,
  directory: str,
  num_workers: int = 1,
) -> FeatureSet:
  """Reads the features that an earlier run has made, or makes them; see extract.

  Args:
    examples: read from input_file; in any order.
    input_file: path of their file.
    settings: of the features.
    directory: keeps features, one file (.npz) for each combination of examples, file, vocabulary
      and settings.
    num_workers: see extract.

  Raises:
    files.InputError: see extract; or a file cannot be read.
  """
  settings.check()
  digest = fingerprint(examples, input_file, settings)
  path = os.path.join(directory, f"squad-features-{digest[:32]}.npz")
  if files.exists(path):
    windows = _load_windows(path, digest)
    if windows is not None:
      logging.info("Features of %s are taken from %s.", input_file, path)
      with files.input_checks():
        vocab = tokenization.load_vocab(settings.vocab_file)
      return FeatureSet(windows, settings, {index: token for token, index in vocab.items()})
    logging.warning("%s is damaged, or not of this program; it is made anew.", path)
  features = extract(examples, settings, num_workers)
  _save_windows(path, features.windows, digest)
  return features


def fingerprint(examples: Sequence[SquadExample], input_file: str, settings: Settings) -> str:
  """Returns the hex digest of all that features depend on; arguments as in cached_features."""
  parts = {
    **settings._asdict(),
    "vocab_file": _vocab_digest(settings),
    "input_file": _digest(files.read_bytes(input_file)),
    "order": _digest(json.dumps([example.qas_id for example in examples]).encode()),
    "unicode": unicodedata.unidata_version,  # tokenization uses its tables
    "format": _CACHE_FORMAT,
  }
  return _digest(json.dumps(parts, sort_keys=True).encode())


def _digest(data):
  return hashlib.sha256(data).hexdigest()


def _vocab_digest(settings):
  return _digest(files.read_bytes(settings.vocab_file))


def _load_windows(path, digest):
  """Reads the Windows in a file; None if it is damaged or has another digest."""
  try:
    with np.load(io.BytesIO(files.read_bytes(path)), allow_pickle=False) as saved:
      return Windows(*map(saved.get, Windows._fields)) if saved["digest"] == digest else None
  except Exception:  # zipfile, zlib and numpy raise many kinds for damaged files
    return None


def _save_windows(path, windows, digest):
  """Writes the file, whole or not at all; features can be used without it."""
  buffer = io.BytesIO()
  np.savez(buffer, digest=np.array(digest), **windows._asdict())
  try:
    files.write_bytes(path, buffer.getvalue())
  except Exception as error:  # tf.io.gfile raises its own kinds
    logging.warning("Features are not kept: cannot write %s: %s", path, files.describe(error))
  else:
    logging.info("Features are kept in %s.", path)


# ---- Records ------------------------------------------------------------------------------------


def record_features(seq_length: int, is_training: bool) -> list[tf_records.Feature]:
  """Returns the columns of a TFRecord file of windows.

  Args:
    seq_length: S.
    is_training: True for records with answers.

  Returns:
    input_ids, input_mask, segment_ids int32 [S]; unique_ids and, for training, start_positions,
    end_positions, is_impossible int32 scalar.
  """
  numbers = ["unique_ids"]
  if is_training:
    numbers += ["start_positions", "end_positions", "is_impossible"]
  return [
    *tf_records.token_features(seq_length),
    *(tf_records.Feature(name, np.int32) for name in numbers),
  ]


def feature_row(feature: InputFeatures, is_training: bool) -> dict[str, Any]:
  """Returns features as a row for record_features: name -> number or list."""
  row = {name: getattr(feature, name) for name in tf_records.INPUTS}
  row["unique_ids"] = feature.unique_id
  if is_training:
    row["start_positions"] = feature.start_position
    row["end_positions"] = feature.end_position
    row["is_impossible"] = int(bool(feature.is_impossible))
  return row


class FeatureWriter:
  """Writes InputFeatures to a TFRecord file, which gets its name when it is closed.

  Attributes:
    filename: path of the file.
    is_training: True if the answers' places are written.
    num_features: number of those written.
  """

  def __init__(self, filename: str, is_training: bool) -> None:
    """Opens the file; files.InputError if it cannot be written."""
    self.filename = filename
    self.is_training = is_training
    self.num_features = 0
    self._writer = tf_records.RecordWriter(filename)

  def process_feature(self, feature: InputFeatures) -> None:
    """Appends the features of a window."""
    self.num_features += 1
    table = record_features(len(feature.input_ids), self.is_training)
    row = feature_row(feature, self.is_training)
    self._writer.write_serialized(tf_records.serialize(row, table))

  def close(self) -> None:
    """Completes the file."""
    self._writer.close()


def write_feature_records(
  features: FeatureSet, path: str, num_workers: int = 1, multiple: int = 1
) -> None:
  """Writes features to a TFRecord file, whole or not at all.

  Args:
    features: those to write.
    path: of the file.
    num_workers: processes to use. Small sets are done by this process alone.
    multiple: the last window is repeated, with new unique_ids, until the number of records can be
      divided by it.

  Raises:
    files.InputError: the file cannot be written.
  """
  num_records = -(-len(features) // multiple) * multiple
  starts = range(0, num_records, _CHUNK)
  jobs = (features.part(start, min(start + _CHUNK, num_records)) for start in starts)
  if _is_worth_workers(len(features), num_workers):
    results = workers.map_in_order(_serialize, jobs, num_workers, "--num_workers")
  else:
    results = map(_serialize, jobs)
  writing = tf_records.RecordWriter(path)
  with writing as writer, _progress_bar(num_records, "Writing", "window") as bar:
    for serialized in results:
      for record in serialized:
        writer.write_serialized(record)
      bar.update(len(serialized))


def _serialize(features):
  """Returns the bytes of each window of a FeatureSet, a list."""
  table = record_features(features.settings.max_seq_length, features.settings.is_training)
  return [tf_records.serialize(features.record_row(i), table) for i in range(len(features))]
