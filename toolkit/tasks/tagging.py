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
import functools
import os
import re
from collections.abc import Sequence
from typing import NamedTuple, Optional

from absl import logging

import tokenization
from toolkit.metrics import ner_metrics
from toolkit.records import tf_records
from toolkit.support import files

DOCSTART = "-DOCSTART-"
# The schemes of encode_entities; the first is that of this module.
SCHEMES = ("iob2", "iob1", "bioes")

_TAG = re.compile(r"O|[BIESLU]-.+")
_BILOU = {"L": "E", "U": "S"}  # BILOU is BIOES by other names


# ---- Sentences ----------------------------------------------------------------------------------


class Layout(NamedTuple):
  """The form of a file of words and tags.

  Attributes:
    token_column, label_column: int, columns of words and tags, from 0; from -1 at the end.
    delimiter: str between two columns ("\\\\t" and "tab" mean a tab), or None for any number of
      spaces and tabs.
    comment_prefix: str, first characters of lines that are no words, or None.
    tag_scheme: member of SCHEMES, or "auto" for the one that fits best.
  """

  token_column: int = 0
  label_column: int = -1
  delimiter: Optional[str] = None
  comment_prefix: Optional[str] = None
  tag_scheme: str = "auto"

  def separator(self):
    """Returns the delimiter as it is in a file, or None."""
    return {"\\t": "\t", "tab": "\t", "": None}.get(self.delimiter, self.delimiter)

  def split(self, line):
    """Returns the columns of a line."""
    if self.separator():
      return [cell.strip(" \t") for cell in line.split(self.separator())]
    # Not str.split(): that also cuts at U+00A0, U+0085 and others, which may be parts of words.
    return re.split("[ \t]+", line.strip(" \t"))

  def is_comment(self, line):
    """Returns True for a line that is no word."""
    return bool(self.comment_prefix) and line.startswith(self.comment_prefix)


class Sentence(NamedTuple):
  """A sentence in words.

  Attributes:
    words: list of str.
    tags: list of str, a tag of IOB2 for each word, or None.
    lines: sequence of int, the line of the file that each word stands on, from 1.
    text: str, the sentence as it was written; None for the words with single spaces between them.
    spans: list of (first character, character behind the last) of each word in `text`, or None.
  """

  words: list
  tags: Optional[list] = None
  lines: Sequence = ()
  text: Optional[str] = None
  spans: Optional[list] = None


class Corpus(NamedTuple):
  """A file of sentences.

  Attributes:
    path: str.
    sentences: list of Sentence.
    other_lines: dict of line number -> text, for the lines that are no words: "" for one between
      two sentences, DOCSTART for one between two documents, or a comment.
  """

  path: str
  sentences: list
  other_lines: dict

  def is_tagged(self):
    """Returns True if the file has tags."""
    return self.sentences[0].tags is not None


def read_corpus(path, layout=Layout(), has_tags=True):  # noqa: B008, immutable
  """Reads a Corpus: a word and its tag per line, in columns; blank lines between sentences.

  Tags become IOB2. Those that break their scheme are read as conlleval does, and counted in the
  log.

  Args:
    path: str.
    layout: Layout.
    has_tags: bool, whether to read tags; None: if any word has a second column.

  Raises:
    files.InputError: the file cannot be read or has no words; a line has too few columns, or a tag
      of an unknown kind (file:line).
  """
  groups, other_lines = _grouped_lines(path, layout)
  if has_tags is None:
    has_tags = any(len(cells) > 1 for group in groups for _, cells in group)
  sentences = [_sentence(path, group, layout, has_tags) for group in groups]
  if not sentences:
    raise files.InputError(f"{path}: has no words; expected a word and its tag a line")
  if has_tags:
    sentences = _to_iob2(path, sentences, layout.tag_scheme)
  return Corpus(path, sentences, other_lines)


def _grouped_lines(path, layout):
  """Returns a list of sentences, each a list of (line number, cells), and Corpus.other_lines."""
  groups, other_lines = [[]], {}
  for number, line in files.read_lines(path):
    if layout.is_comment(line):
      other_lines[number] = line
    elif not line.strip(" \t"):
      other_lines[number] = ""
      groups.append([])
    elif line.startswith(DOCSTART):
      other_lines[number] = DOCSTART
      groups.append([])
    else:
      groups[-1].append((number, layout.split(line)))
  return [group for group in groups if group], other_lines


def _sentence(path, group, layout, has_tags):
  """Makes a Sentence of a list of (line number, cells)."""
  words, tags = [], []
  for number, cells in group:
    place = f"{path}:{number}"
    words.append(_cell(cells, layout.token_column, "token_column", place))
    if not has_tags:
      continue
    tag = _cell(cells, layout.label_column, "label_column", place)
    if (layout.token_column - layout.label_column) % len(cells) == 0:
      raise files.InputError(
        f"{place}: found {_columns(cells)}, in which --token_column={layout.token_column} and "
        f"--label_column={layout.label_column} are the same; is --delimiter right?"
      )
    if not _TAG.fullmatch(tag):
      raise files.InputError(
        f"{place}: found the tag {tag!r}, should be O, or B-, I-, E- or S- and a type, such as "
        "B-PER; is --label_column right?"
      )
    tags.append(_BILOU.get(tag[0], tag[0]) + tag[1:])
  return Sentence(words, tags if has_tags else None, [number for number, _ in group])


def _columns(cells):
  return "1 column" if len(cells) == 1 else f"{len(cells)} columns"


def _cell(cells, column, flag, place):
  """Returns the content of a column; InputError without any."""
  if not -len(cells) <= column < len(cells):
    raise files.InputError(
      f"{place}: found {_columns(cells)}, too few for --{flag}={column}; is --delimiter right?"
    )
  if not cells[column]:
    raise files.InputError(f"{place}: has nothing in --{flag}={column}; is --delimiter right?")
  return cells[column]


def _to_iob2(path, sentences, scheme):
  """Returns sentences with the tags of IOB2; logs the number of tags that break their scheme."""
  found = [ner_metrics.entities(sentence.tags) for sentence in sentences]

  def broken_lines(name):
    return [
      line
      for sentence, entities in zip(sentences, found)
      for line, tag, wanted in zip(
        sentence.lines, sentence.tags, encode_entities(entities, len(sentence.tags), name)
      )
      if tag != wanted
    ]

  broken = {name: broken_lines(name) for name in (SCHEMES if scheme == "auto" else [scheme])}
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
  ]


def encode_entities(entities, num_words, scheme=SCHEMES[0]):
  """Writes a list of ner_metrics.Entity in order as num_words tags, by a member of SCHEMES.

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


def split_text(text):
  """Splits text where tokenization.BasicTokenizer does, into a Sentence with the original words.

  "Zoë's in 東京." -> words [Zoë, ', s, in, 東, 京, .]
                      spans [(0, 3), (3, 4), (4, 5), (6, 8), (9, 10), (10, 11), (11, 12)]
  """
  kinds = "".join(map(_kind, text))
  spans = [match.span() for match in re.finditer("a|w([wd]*w)?", kinds)]
  return Sentence([text[start:end] for start, end in spans], text=text, spans=spans)


def read_text_corpus(path):
  """Reads a Corpus of plain text, a sentence per line; a blank line is a sentence without words.

  The lines of its words are those of the file that format_corpus makes.

  Raises:
    files.InputError: the file cannot be read, or has no words.
  """
  sentences, line = [], 1
  for _, text in files.read_lines(path):
    sentence = split_text(text)
    end = line + len(sentence.words)
    sentences.append(sentence._replace(lines=range(line, end)))
    line = end + 1
  if not any(sentence.words for sentence in sentences):
    raise files.InputError(f"{path}: has no words; expected a sentence a line")
  ends = (sentence.lines.stop for sentence in sentences)
  return Corpus(path, sentences, dict.fromkeys(ends, ""))


# ---- Labels -------------------------------------------------------------------------------------


def layout_of(settings) -> Layout:
  """Returns the layout of command_line.Settings."""
  return Layout(**{name: settings[name] for name in Layout._fields})


def read_sets(settings) -> dict:
  """Reads all sets of a run: dict of "train", "dev" and "test" -> Corpus.

  Args:
    settings: command_line.Settings with the flags of run_ner.py.

  Raises:
    files.InputError: a file is not given, or cannot be read.
  """
  if settings.predict_file and settings.predict_text_file:
    raise files.InputError("--predict_file and --predict_text_file: give one of them")
  dev_flag = "eval_steps" if settings.do_train and settings.eval_steps else "do_eval"
  wanted = (("train", "do_train"), ("dev", dev_flag), ("test", "do_predict"))
  return {name: _read_set(settings, name, flag) for name, flag in wanted if settings[flag]}


def _read_set(settings, name, flag):
  """Reads the Corpus of a set that a flag needs."""
  if name == "test" and settings.predict_text_file:
    return read_text_corpus(settings.predict_text_file)
  path = settings.predict_file if name == "test" else None
  if not path:
    settings.require(["data_dir"], f"--{flag}")
    path = os.path.join(settings.data_dir, f"{name}.txt")
  has_tags = True
  if name == "test":
    has_tags = None if settings.has_tags else False
  return read_corpus(path, layout_of(settings), has_tags)


def find_labels(corpus):
  """Lists the labels of a tagger of a Corpus: "O", and B- and I- of each type, sorted.

  A type has both, though all of its entities may be single words.

  Raises:
    files.InputError: there is no entity.
  """
  types = {tag[2:] for sentence in corpus.sentences for tag in sentence.tags if tag != "O"}
  if not types:
    raise files.InputError(f"{corpus.path}: every tag is O; there is nothing to learn")
  return ["O", *sorted(f"{prefix}-{name}" for prefix in "BI" for name in types)]


def check_labels(corpus, labels):
  """Raises files.InputError (file:line) for the first tag of a Corpus that is not in labels."""
  known = set(labels)
  for sentence in corpus.sentences:
    for line, tag in zip(sentence.lines, sentence.tags or ()):
      if tag not in known:
        raise files.InputError(
          f"{corpus.path}:{line}: found the tag {tag!r}, which the training data does not have; "
          f"known tags are {', '.join(labels)}"
        )


# ---- Features -----------------------------------------------------------------------------------


class Window(NamedTuple):
  """A sentence, or a part of a long one, as the model takes it.

  Attributes:
    sentence: int, place of the sentence in its list.
    input_ids: list of int, ids of the word pieces with [CLS] and [SEP]; no padding.
    words: list of int, the words that are tagged in this window.
    positions: list of int, the place of the first piece of each of them in input_ids.
  """

  sentence: int
  input_ids: list
  words: list
  positions: list


def first_pieces(words, tokenize):
  """Tokenizes a sentence of words, and finds the first piece of each word.

    words  ["Zoë", "unaffable", "\\u200b", "."]
    pieces ["zoe", "una", "##ffa", "##ble", "."]
    starts [0, 1, None, 4]

  The prediction for a word is that for its first piece: piece 1 for "unaffable". The zero-width
  space has no piece.

  Args:
    words: list of str.
    tokenize: function of a word to a list of pieces, or of their ids, such as
      FullTokenizer.tokenize and FullTokenizer.encode.

  Returns:
    A pair: list of pieces; list of int, the place of each word's first piece, or None.
  """
  pieces, starts = [], []
  for word in words:
    word_pieces = tokenize(word)
    starts.append(len(pieces) if word_pieces else None)
    pieces.extend(word_pieces)
  return pieces, starts


def make_windows(sentences, tokenizer, max_seq_length):
  """Cuts sentences into inputs of the model, so that each word is tagged once.

  A word is tagged in the window with most of its context. Words without a word piece, such as a
  lone control character, are tagged in none; they are counted in the log.

  Args:
    sentences: list of Sentence.
    tokenizer: tokenization.FullTokenizer.
    max_seq_length: int, word pieces in a window with [CLS] and [SEP], 3 or more.

  Returns:
    List of Window, one or more for each sentence, in their order.
  """
  cls, sep = tokenizer.convert_tokens_to_ids(["[CLS]", "[SEP]"])
  windows, without = [], []
  for number, sentence in enumerate(sentences):
    ids, starts = first_pieces(sentence.words, tokenizer.encode)
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
  words = {first: [] for first in firsts}
  for word, piece in enumerate(starts):
    if piece is not None:
      left = bisect.bisect_left(firsts, piece - width + 1)
      near = firsts[left : bisect.bisect_right(firsts, piece)]
      best = max(near, key=lambda first: min(piece - first, first + width - 1 - piece))
      words[best].append(word)
  return words


def record_features(seq_length):
  """Returns the columns of a TFRecord file of windows, tf_records.Feature, int32 [S].

  input_ids, input_mask, segment_ids; label_ids, 0 where nothing is scored; label_mask, 1 at the
  scored pieces, which are the first of their words.
  """
  return tf_records.token_features(seq_length, (*tf_records.INPUTS, "label_ids", "label_mask"))


def feature_rows(windows, sentences, labels, seq_length):
  """Yields windows as rows for record_features: dict of name -> list of seq_length int.

  Args:
    windows: list of Window.
    sentences: the list of Sentence that they were made of; those without tags get label_ids 0.
    labels: list of str in the order of their ids.
    seq_length: int, S.
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


def join_tags(sentences, windows, predicted_ids, labels):
  """Joins the predictions of windows.

  Args:
    sentences: list of N Sentence.
    windows: list of Window, from make_windows.
    predicted_ids: list of int arrays, for each window the label of each of its pieces, or more.
    labels: list of str in the order of their ids.

  Returns:
    List of N lists of str, a tag of IOB2 for each word. Sequences that break IOB2 are replaced by
    the tags of the entities that conlleval finds in them.
  """
  tags = [["O"] * len(sentence.words) for sentence in sentences]
  for window, ids in zip(windows, predicted_ids):
    for word, position in zip(window.words, window.positions):
      tags[window.sentence][word] = labels[ids[position]]
  return [encode_entities(ner_metrics.entities(each), len(each)) for each in tags]


def prediction_record(sentence, tags):
  """Formats a Sentence and its predicted tags of IOB2 for JSON.

  Returns:
    Dict of text, words, tags, and entities, a list of dicts:
      {"text": "New York", "type": "LOC", "start_word": 2, "end_word": 4, "start_char": 6,
       "end_char": 14}
    where text[6:14] is "New York", and words[2:4] are its words.
  """
  text, spans = sentence.text, sentence.spans
  if text is None:
    text, spans = " ".join(sentence.words), _joined_spans(sentence.words)
  entities = []
  for name, first, end in ner_metrics.entities(tags):
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
  return {"text": text, "words": sentence.words, "tags": tags, "entities": entities}


def _joined_spans(words):
  """Returns the bounds of words in " ".join(words): ["in", "Rome"] -> [(0, 2), (3, 7)]."""
  spans, start = [], 0
  for word in words:
    spans.append((start, start + len(word)))
    start += len(word) + 1
  return spans


def format_corpus(corpus, tags, separator=None):
  """Formats a Corpus with predicted tags, line by line as it was read.

  A line has the word, its tag if the corpus has tags, and the predicted tag. Lines that are no
  words keep their places; those between documents have O for tags.

  Args:
    corpus: Corpus.
    tags: list of lists of str, the predicted tags of each sentence.
    separator: str between two columns; None for a space.
  """
  extra = ["O"] * (2 if corpus.is_tagged() else 1)
  rows = {
    line: [text, *extra] if text == DOCSTART else [text]
    for line, text in corpus.other_lines.items()
  }
  for sentence, predicted in zip(corpus.sentences, tags):
    columns = filter(None, (sentence.words, sentence.tags, predicted))
    rows.update(zip(sentence.lines, zip(*columns)))
  return "".join((separator or " ").join(rows[line]) + "\n" for line in sorted(rows))
