"""Plain text to pre-training records: two segments of text, some of their word pieces masked.

  documents, a line per sentence: The ship sailed.   It never came back.   |   Bread is baked ...
  -> tokens            [CLS] the ship [MASK] . [SEP] it never came back . [SEP]
     segment_ids         0    0   0     0    0   0    1   1    1    1   1   1
     masked_lm_positions 3, masked_lm_labels sailed, is_random_next False

A corpus is one shard, or is cut into shards of some documents, which are independent of each other.
Worker processes import this module, so it needs no TensorFlow.
"""

import collections
import dataclasses
import functools
import glob
import hashlib
import itertools
import os
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np

import tokenization
from toolkit.records import tf_records
from toolkit.support import files, logs, workers

FORMAT_VERSION = 1  # of the records' metadata, and of the state of an interrupted run

_CLS, _SEP, _MASK = "[CLS]", "[SEP]", "[MASK]"
_BOUNDS = frozenset((_CLS, _SEP))  # of segments: never masked
PART = ".part-"  # in names of temporary files
NUM_LOGGED_EXAMPLES = 20


# ---- Settings -----------------------------------------------------------------------------------


Document = list[str]  # its sentences


class Settings(NamedTuple):
  """Settings that the records of a corpus depend on; each is a flag too.

  Attributes:
    vocab_file: path of the vocabulary; "" for instances of a given tokenizer.
    do_lower_case: whether text is lower-cased.
    max_seq_length: word pieces of a record with [CLS] and both [SEP].
    max_predictions_per_seq: masked word pieces of a record, at most.
    dupe_factor: number of passes over each document, with different masks.
    masked_lm_prob: share of the word pieces that are masked.
    short_seq_prob: share of the documents that are cut into shorter inputs, of a random length.
    do_whole_word_mask: whether the pieces of a word are masked all or not at all.
    shard_documents: documents of a shard; 0 for one shard.
    special_replacements: whether [CLS], [unused7] and their like may replace a masked piece.
    mask_per_word: whether [MASK], the same, or another piece is decided once for a word.
    truncate_segments_prob: share of the segments that are cut at a random place.
    chinese_whole_words: whether Chinese characters with no space between are one word.
  """

  vocab_file: str = ""
  do_lower_case: bool = True
  max_seq_length: int = 128
  max_predictions_per_seq: int = 20
  dupe_factor: int = 10
  masked_lm_prob: float = 0.15
  short_seq_prob: float = 0.1
  random_seed: int = 12345
  do_whole_word_mask: bool = False
  shard_documents: int = 0
  special_replacements: bool = True
  mask_per_word: bool = False
  truncate_segments_prob: float = 0.0
  chinese_whole_words: bool = False

  def check(self) -> None:
    """Raises files.InputError that names a flag whose value cannot be used."""
    least = {"max_seq_length": 5, "max_predictions_per_seq": 1, "dupe_factor": 1}
    for name, bound in least.items():
      if getattr(self, name) < bound:
        raise files.InputError(f"--{name}={getattr(self, name)} is too small; give {bound} or more")
    if self.max_predictions_per_seq > self.max_seq_length:
      raise files.InputError(
        f"--max_predictions_per_seq={self.max_predictions_per_seq} is more than "
        f"--max_seq_length={self.max_seq_length}; about a sixth of it is usual"
      )
    if self.shard_documents < 0 or self.shard_documents == 1:
      raise files.InputError(
        f"--shard_documents={self.shard_documents} cannot be used: the random next sentences come "
        "from another document of the shard; give 2 or more, or 0 for the corpus as one shard"
      )
    for name in ("masked_lm_prob", "short_seq_prob", "truncate_segments_prob"):
      if not 0 <= getattr(self, name) <= 1:
        raise files.InputError(f"--{name}={getattr(self, name)} is no probability; give 0 to 1")
    for name in ("mask_per_word", "chinese_whole_words"):
      if getattr(self, name) and not self.do_whole_word_mask:
        raise files.InputError(f"--{name} is about whole words: give --do_whole_word_mask as well")


def vocab_digest(vocab_file: str) -> str:
  """Returns the SHA-256 of a vocabulary file in hexadecimal digits."""
  return hashlib.sha256(files.read_bytes(vocab_file)).hexdigest()


# ---- Reading ------------------------------------------------------------------------------------


def read_documents(path: str) -> Iterator[Document]:
  """Yields the documents of a file, of one or more sentences; see files.stream_lines.

  A line is a sentence, blank lines are between documents; files in .gz and .bz2 are decompressed.

  "One.\\nTwo.\\n\\n\\nThree." -> ["One.", "Two."], ["Three."]
  """
  sentences = []
  for line in files.stream_lines(path):
    line = line.strip()
    if line:
      sentences.append(line)
    elif sentences:
      yield sentences
      sentences = []
  if sentences:
    yield sentences


class Corpus(NamedTuple):
  """The files of a corpus, and counts; num_bytes is its text as UTF-8 without ends of lines."""

  paths: list[str]
  num_documents: int
  num_sentences: int
  num_bytes: int


def survey(paths: list[str]) -> Corpus:
  """Reads all of a corpus, so that mistakes in it are found before the long work begins.

  Raises:
    files.InputError: a file cannot be read, or there is no text.
  """
  num_documents = num_sentences = num_bytes = 0
  for document in itertools.chain.from_iterable(map(read_documents, paths)):
    num_documents += 1
    num_sentences += len(document)
    num_bytes += sum(len(sentence.encode()) for sentence in document)
  if not num_documents:
    raise files.InputError(f"--input_file: found no text in {', '.join(paths)}")
  return Corpus(paths, num_documents, num_sentences, num_bytes)


def layout_problem(corpus: Corpus) -> Optional[str]:
  """Returns the reason why a corpus gives no useful next-sentence labels, or None."""
  expected = "give one sentence per line, and blank lines between documents only"
  if corpus.num_documents == 1:
    return (
      f"the corpus is a single document of {corpus.num_sentences} lines, so that random next "
      f"sentences come from the same one; {expected}"
    )
  if corpus.num_sentences == corpus.num_documents:
    return (
      f"each of the {corpus.num_documents} documents is a single line, so that no sentence has a "
      f"real next one; {expected}"
    )
  return None


def read_shards(paths: Iterable[str], shard_documents: int) -> Iterator[Iterable[Document]]:
  """Yields the shards of a corpus; see read_documents.

  Args:
    paths: of the corpus.
    shard_documents: documents of a shard. The last one has 2 to shard_documents + 1, because a
      single document has no other for its random next sentences. 0: all are one shard.
  """
  documents = itertools.chain.from_iterable(map(read_documents, paths))
  if not shard_documents:
    yield documents
    return
  held = []
  for document in documents:
    held.append(document)
    if len(held) == shard_documents + 2:
      yield held[:shard_documents]
      held = held[shard_documents:]
  yield held


def _tokenize_document(sentences, tokenizer, chinese_whole_words):
  """Returns a document's sentences as lists of word pieces; those without any are left out."""
  segments = []
  for sentence in sentences:
    if chinese_whole_words:
      # Tokenization always cuts at these: the pieces are those of the whole sentence.
      words = map(tokenizer.tokenize, re.split("[ \t\u3000]+", sentence))
      tokens = itertools.chain.from_iterable(map(_mark_chinese_word, words))
    else:
      tokens = tokenizer.tokenize(sentence)
    segment = list(map(sys.intern, tokens))  # equal pieces are one object: less memory
    if segment:
      segments.append(segment)
  return segments


def _mark_chinese_word(tokens):
  """Adds ## to Chinese characters inside of a word, as other pieces there have it.

  ["ok", "手", "机", "!"] -> ["ok", "手", "##机", "!"]
  """
  previous = ["", *tokens[:-1]]
  return [
    "##" + token if _is_chinese(token) and _is_chinese(before) else token
    for before, token in zip(previous, tokens)
  ]


def _without_chinese_mark(token):
  """Undoes _mark_chinese_word: "##机" -> "机". Tokenization itself gives no such piece."""
  return token[2:] if token.startswith("##") and _is_chinese(token[2:]) else token


@functools.lru_cache(maxsize=100_000)
def _is_chinese(token):
  return len(token) == 1 and tokenization.BasicTokenizer()._is_chinese_char(ord(token))


class Fit(NamedTuple):
  """Counts of lines that are longer than an input can hold, so that a part of them is left out.

  Attributes:
    num_lines, num_pieces: lines with word pieces, and their pieces.
    num_long: lines that are longer.
    num_lost: word pieces of these that no pass over the corpus can have in an input.
  """

  num_lines: int = 0
  num_pieces: int = 0
  num_long: int = 0
  num_lost: int = 0

  @classmethod
  def of(cls, segments: Iterable[list[str]], max_seq_length: int) -> "Fit":
    """Counts the lines of a document, in word pieces."""
    most = max_seq_length - 3
    lengths = list(map(len, segments))
    long = [length for length in lengths if length > most]
    return cls(len(lengths), sum(lengths), len(long), sum(long) - most * len(long))

  def __add__(self, other: "Fit") -> "Fit":  # type: ignore[override] # not tuple's
    return Fit(*map(sum, zip(self, other)))

  def problem(self, max_seq_length: int) -> Optional[str]:
    """Returns a line about the share of the text that is lost, or None without any loss."""
    if not self.num_lost:
      return None
    return (
      f"{self.num_lost / self.num_pieces:.1%} of the text is lost ({self.num_lost} of "
      f"{self.num_pieces} word pieces): {self.num_long} of {self.num_lines} lines are longer than "
      f"the {max_seq_length - 3} word pieces of text that --max_seq_length={max_seq_length} has "
      "space for; give one sentence per line"
    )


# ---- Instances ----------------------------------------------------------------------------------


@dataclasses.dataclass(eq=False, repr=False)
class TrainingInstance:
  """Two segments of text with masked word pieces.

  Attributes:
    tokens: [CLS] A [SEP] B [SEP], masked.
    segment_ids: 0 up to the first [SEP] and 1 behind it.
    masked_lm_positions: rising places in tokens.
    masked_lm_labels: the original pieces there.
    is_random_next: True if B is a random segment and not the one behind A.
  """

  __slots__ = ("is_random_next", "masked_lm_labels", "masked_lm_positions", "segment_ids", "tokens")
  tokens: list[str]
  segment_ids: list[int]
  masked_lm_positions: list[int]
  masked_lm_labels: list[str]
  is_random_next: bool

  def __str__(self) -> str:
    rows = {
      "tokens": " ".join(map(tokenization.printable_text, self.tokens)),
      "segment_ids": " ".join(map(str, self.segment_ids)),
      "is_random_next": self.is_random_next,
      "masked_lm_positions": " ".join(map(str, self.masked_lm_positions)),
      "masked_lm_labels": " ".join(map(tokenization.printable_text, self.masked_lm_labels)),
    }
    return "".join(f"{name}: {value}\n" for name, value in rows.items()) + "\n"

  def __repr__(self) -> str:
    return str(self)


def create_training_instances(
  input_files: Iterable[str],
  tokenizer: tokenization.FullTokenizer,
  max_seq_length: int,
  dupe_factor: int,
  short_seq_prob: float,
  masked_lm_prob: float,
  max_predictions_per_seq: int,
  rng: random.Random,
  do_whole_word_mask: bool = False,
  **options: Any,
) -> list[TrainingInstance]:
  """Makes the instances of a corpus, all in memory, in random order.

  Args:
    input_files: paths; see read_documents. A document ends with its file.
    tokenizer: or anything else with `vocab` and `tokenize`.
    rng: makes all random choices.
    do_whole_word_mask: see Settings; the flag --do_whole_word_mask has no effect here.
    the others and **options: see Settings; special_replacements, mask_per_word,
      truncate_segments_prob and chinese_whole_words can be options.

  Raises:
    files.InputError: a file or a setting cannot be used.
  """
  settings = Settings(
    max_seq_length=max_seq_length,
    dupe_factor=dupe_factor,
    short_seq_prob=short_seq_prob,
    masked_lm_prob=masked_lm_prob,
    max_predictions_per_seq=max_predictions_per_seq,
    do_whole_word_mask=do_whole_word_mask,
    **options,
  )
  settings.check()
  documents = itertools.chain.from_iterable(map(read_documents, input_files))
  words = _replacement_words(tokenizer.vocab, settings.special_replacements)
  instances = list(_InstanceMaker(settings, words, rng).from_corpus(documents, tokenizer))
  _shuffle(instances, rng)
  return instances


def create_instances_from_document(
  all_documents: Sequence[list[list[str]]],
  document_index: int,
  max_seq_length: int,
  short_seq_prob: float,
  masked_lm_prob: float,
  max_predictions_per_seq: int,
  vocab_words: Sequence[str],
  rng: random.Random,
  do_whole_word_mask: bool = False,
  **options: Any,
) -> list[TrainingInstance]:
  """Makes the instances of one document in the order of the text.

  Args:
    all_documents: segments, in word pieces, of each document.
    document_index: place of the document.
    vocab_words: those of which random replacements are drawn.
    rng: makes all random choices.
    the others and **options: see Settings and create_training_instances.
  """
  settings = Settings(
    max_seq_length=max_seq_length,
    short_seq_prob=short_seq_prob,
    masked_lm_prob=masked_lm_prob,
    max_predictions_per_seq=max_predictions_per_seq,
    do_whole_word_mask=do_whole_word_mask,
    **options,
  )
  maker = _InstanceMaker(settings, vocab_words, rng)
  return list(maker.from_document(all_documents, document_index))


# Not used here; programs import it.
MaskedLmInstance = collections.namedtuple("MaskedLmInstance", ["index", "label"])


def create_masked_lm_predictions(
  tokens: Sequence[str],
  masked_lm_prob: float,
  max_predictions_per_seq: int,
  vocab_words: Sequence[str],
  rng: random.Random,
  do_whole_word_mask: bool = False,
  **options: Any,
) -> tuple[list[str], list[int], list[str]]:
  """Masks some word pieces of an input.

  Args:
    tokens: [CLS] and [SEP] are never masked.
    vocab_words: those of which random replacements are drawn.
    rng: makes all random choices.
    do_whole_word_mask: see Settings; the flag --do_whole_word_mask has no effect here.
    the others and **options: see Settings and create_training_instances.

  Returns:
    The pieces with some masked; the masked places, rising; their original pieces.
  """
  settings = Settings(
    masked_lm_prob=masked_lm_prob,
    max_predictions_per_seq=max_predictions_per_seq,
    do_whole_word_mask=do_whole_word_mask,
    **options,
  )
  return _InstanceMaker(settings, vocab_words, rng).mask(tokens)


def truncate_seq_pair(
  tokens_a: list[str], tokens_b: list[str], max_num_tokens: int, rng: random.Random
) -> None:
  """Cuts two lists in place to max_num_tokens (2 or more) in all; the longer at random ends."""
  draw = rng.random
  starts, ends = [0, 0], [len(tokens_a), len(tokens_b)]
  for _ in range(ends[0] + ends[1] - max_num_tokens):
    longer = 0 if ends[0] - starts[0] > ends[1] - starts[1] else 1
    if draw() < 0.5:
      starts[longer] += 1
    else:
      ends[longer] -= 1
  tokens_a[:] = tokens_a[starts[0] : ends[0]]
  tokens_b[:] = tokens_b[starts[1] : ends[1]]


def _replacement_words(vocab, special_replacements):
  """Returns the word pieces that may replace a masked one."""
  words = list(vocab)  # without the blank lines at the end, which are no pieces
  if "" in vocab and vocab[""] >= tokenization.num_ids(vocab):
    words.remove("")
  # No piece of ordinary text is longer than its bracket: [CLS], [unused7], <S>.
  words = [w for w in words if special_replacements or not re.fullmatch(r"\[.+\]|<.+>", w)]
  if not words:
    raise files.InputError("--vocab_file has special tokens only, which cannot replace a word")
  return words


def _shuffle(items, rng):
  """Does rng.shuffle(items), with the same draws in less than half the time.

  The shuffle calls randbelow(n) for n = len(items), ..., 2, and randbelow draws as many bits as n
  has until they make a number below n.
  """
  if type(rng) is not random.Random:  # other generators may draw in other ways
    rng.shuffle(items)
    return
  draw = rng.getrandbits
  last = len(items) - 1
  while last > 0:
    num_bits = (last + 1).bit_length()
    first = max(1, (1 << (num_bits - 1)) - 1)
    for i in range(last, first - 1, -1):
      other = draw(num_bits)
      while other > i:
        other = draw(num_bits)
      items[i], items[other] = items[other], items[i]
    last = first - 1


class _InstanceMaker:
  """Makes instances with one source of random numbers.

  The order of the draws is part of the interface: equal seeds make equal instances.
  """

  def __init__(self, settings, vocab_words, rng):
    self._settings = settings
    self._vocab_words = vocab_words
    self._rng = rng
    self.num_documents = 0  # that from_corpus has read
    self.fit = Fit()  # of the same

  def from_corpus(self, sentences, tokenizer, on_document=lambda num_instances: None):
    """Yields the instances of documents, which are lists of sentences, one after the other.

    on_document(number of new instances) is called whenever a document has been tokenized, and then
    dupe_factor times more.
    """
    documents = []
    for document in sentences:
      segments = _tokenize_document(document, tokenizer, self._settings.chinese_whole_words)
      if segments:
        documents.append(segments)
      self.fit += Fit.of(segments, self._settings.max_seq_length)
      self.num_documents += 1
      on_document(0)
    _shuffle(documents, self._rng)
    for _ in range(self._settings.dupe_factor):
      for index in range(len(documents)):
        instances = self.from_document(documents, index)
        yield from instances
        on_document(len(instances))

  def from_document(self, documents, index):
    """Returns the instances of one of the documents, in the order of its text."""
    document, rng = documents[index], self._rng
    target = self._settings.max_seq_length - 3
    if rng.random() < self._settings.short_seq_prob:
      target = rng.randint(2, target)
    instances, start = [], 0
    while start < len(document):
      end = _chunk_end(document, start, target)
      a_end = start + (rng.randint(1, end - start - 1) if end - start > 1 else 1)
      tokens_a = _join(document, start, a_end)
      is_random_next = end - start == 1 or rng.random() < 0.5
      if is_random_next:
        tokens_b = self._random_segment(documents, index, target - len(tokens_a))
        start = a_end  # the real next sentences are used for the next instance
      else:
        tokens_b = _join(document, a_end, end)
        start = end
      instances.append(self._make(tokens_a, tokens_b, is_random_next))
    return instances

  def _random_segment(self, documents, index, target):
    """Returns `target` pieces or more, whole sentences from a random place of another document."""
    rng = self._rng
    for _ in range(10):  # draws; in a corpus of few documents all may give this document
      other = rng.randint(0, len(documents) - 1)
      if other != index:
        break
    document = documents[other]
    start = rng.randint(0, len(document) - 1)
    return _join(document, start, _chunk_end(document, start, target))

  def _make(self, tokens_a, tokens_b, is_random_next):
    truncate_seq_pair(tokens_a, tokens_b, self._settings.max_seq_length - 3, self._rng)
    if self._settings.truncate_segments_prob:
      self._cut_at_random(tokens_a)
      self._cut_at_random(tokens_b)
    tokens, positions, labels = self.mask([_CLS, *tokens_a, _SEP, *tokens_b, _SEP])
    segment_ids = [0] * (len(tokens_a) + 2) + [1] * (len(tokens_b) + 1)
    return TrainingInstance(tokens, segment_ids, positions, labels, is_random_next)

  def _cut_at_random(self, tokens):
    """Cuts some segments within a sentence, as texts that users type may be."""
    rng = self._rng
    if rng.random() < self._settings.truncate_segments_prob and len(tokens) > 1:
      place = rng.randint(1, len(tokens) - 1)
      if rng.random() < 0.5:
        del tokens[:place]
      else:
        del tokens[place:]

  def mask(self, tokens):
    """Masks pieces; see create_masked_lm_predictions."""
    settings = self._settings
    num_masked = round(len(tokens) * settings.masked_lm_prob)
    num_masked = min(settings.max_predictions_per_seq, max(1, num_masked))
    if settings.do_whole_word_mask:
      words = _whole_words(tokens)
      _shuffle(words, self._rng)
      words = _first_that_fit(words, num_masked)
    else:
      positions = [i for i, token in enumerate(tokens) if token not in _BOUNDS]
      _shuffle(positions, self._rng)
      del positions[num_masked:]
      words = list(zip(positions))
    positions = list(itertools.chain.from_iterable(words))
    if settings.chinese_whole_words:
      tokens = list(map(_without_chinese_mark, tokens))
    masked = list(tokens)
    self._replace(masked, words if settings.mask_per_word else zip(positions))
    positions.sort()
    return masked, positions, [tokens[i] for i in positions]

  def _replace(self, tokens, groups):
    """Puts [MASK] in the places of a group (8 times of 10), keeps them, or puts random pieces."""
    rng, draw, words = self._rng, self._rng.random, self._vocab_words
    for places in groups:
      if draw() < 0.8:
        for place in places:
          tokens[place] = _MASK
      elif draw() >= 0.5:
        for place in places:
          tokens[place] = words[rng.randint(0, len(words) - 1)]


def _chunk_end(document, start, target):
  """Finds the end of the run of segments from `start` that has `target` pieces, or all others."""
  length = 0
  for end in range(start, len(document)):
    length += len(document[end])
    if length >= target:
      return end + 1
  return len(document)


def _join(document, start, end):
  """Returns the pieces of some segments in one list."""
  return list(itertools.chain.from_iterable(document[start:end]))


def _whole_words(tokens):
  """Lists the places of each word: [CLS] una ##ffa ##ble , [SEP] -> [[1, 2, 3], [4]].

  Pieces of a cut word at the beginning of the second segment belong to the word before.
  """
  words: list[list[int]] = []
  for place, token in enumerate(tokens):
    if words and token.startswith("##"):
      words[-1].append(place)
    elif token not in _BOUNDS:
      words.append([place])
  return words


def _first_that_fit(words, num_places):
  """Takes words in order until they have num_places places in all; skips too long ones."""
  chosen = []
  for word in words:
    if len(word) <= num_places:
      chosen.append(word)
      num_places -= len(word)
      if not num_places:
        break
  return chosen


# ---- Records ------------------------------------------------------------------------------------


def record_features(max_seq_length: int, max_predictions_per_seq: int) -> list[tf_records.Feature]:
  """Returns the columns of records for inputs of these lengths."""
  feature = tf_records.Feature
  return [
    *tf_records.token_features(max_seq_length),
    feature("masked_lm_positions", np.int32, (max_predictions_per_seq,)),
    feature("masked_lm_ids", np.int32, (max_predictions_per_seq,)),
    feature("masked_lm_weights", np.float32, (max_predictions_per_seq,)),
    feature("next_sentence_labels", np.int32, (1,)),
  ]


class RecordMaker:
  """Makes records of instances, filled up with zeros to the same lengths."""

  def __init__(
    self, vocab: Mapping[str, int], max_seq_length: int, max_predictions_per_seq: int
  ) -> None:
    """Prepares the common parts of records; vocab is word piece -> id."""
    # Of the exact type bytes, which join in half the time.
    self._pieces = {token: bytes(tf_records.pack([index])) for token, index in vocab.items()}
    self._max_seq_length = max_seq_length
    self._max_predictions = max_predictions_per_seq
    self._features = record_features(max_seq_length, max_predictions_per_seq)
    self._weights = [
      tf_records.pack([1.0] * n + [0.0] * (max_predictions_per_seq - n), np.float32)
      for n in range(max_predictions_per_seq + 1)
    ]

  def make(self, instance: TrainingInstance) -> bytes:
    """Makes the record of an instance, framed for a TFRecord file.

    Raises:
      ValueError: the instance is too long.
      KeyError: a word piece is not in the vocabulary.
    """
    length, num_masked = len(instance.tokens), len(instance.masked_lm_labels)
    if length > self._max_seq_length or num_masked > self._max_predictions:
      raise ValueError(
        f"An instance of {length} word pieces, {num_masked} of them masked, does not fit in "
        f"records of {self._max_seq_length} and {self._max_predictions}"
      )
    padding = bytes(self._max_seq_length - length)
    no_prediction = self._max_predictions - num_masked
    pack, packed = tf_records.pack, tf_records.Packed
    row = {
      "input_ids": packed(self._look_up(instance.tokens) + padding),
      "input_mask": packed(b"\1" * length + padding),
      "segment_ids": packed(bytes(instance.segment_ids) + padding),
      "masked_lm_positions": packed(pack(instance.masked_lm_positions) + bytes(no_prediction)),
      "masked_lm_ids": packed(self._look_up(instance.masked_lm_labels) + bytes(no_prediction)),
      "masked_lm_weights": self._weights[num_masked],
      "next_sentence_labels": [int(instance.is_random_next)],
    }
    return tf_records.framed(tf_records.serialize(row, self._features))

  def _look_up(self, tokens):
    return b"".join(map(self._pieces.__getitem__, tokens))

  def log(self, records: Iterable[bytes], inv_vocab: Mapping[int, str]) -> None:
    """Logs the features of records from make, and their word pieces; inv_vocab maps id to piece."""
    for record in records:
      row = tf_records.parse(tf_records.unframed(record))
      ids = row["input_ids"][: sum(row["input_mask"])]
      tf_records.log_example(
        tokens=[inv_vocab[i] for i in ids],
        **{feature.name: row[feature.name] for feature in self._features},
      )


def write_instance_to_example_files(
  instances: Sequence[TrainingInstance],
  tokenizer: tokenization.FullTokenizer,
  max_seq_length: int,
  max_predictions_per_seq: int,
  output_files: Sequence[str],
) -> None:
  """Writes instances to TFRecord files, and logs the first ones.

  Args:
    instances: in the order of the records.
    tokenizer: that of the instances.
    max_seq_length, max_predictions_per_seq: the lengths that instances are padded to.
    output_files: paths; they get an instance in turn, and their names when all are complete.

  Raises:
    files.InputError: a file cannot be written.
    ValueError: an instance is longer.
  """
  maker = RecordMaker(tokenizer.vocab, max_seq_length, max_predictions_per_seq)
  parts = [f"{hidden_path(path)}{PART}{os.getpid()}" for path in output_files]
  try:
    for place, (output, part) in enumerate(zip(output_files, parts)):
      _write_part(output, part, map(maker.make, instances[place :: len(parts)]))
    for output, part in zip(output_files, parts):
      publish(part, output)
  finally:
    remove_parts(output_files)
  maker.log(map(maker.make, instances[:NUM_LOGGED_EXAMPLES]), tokenizer.inv_vocab)
  logs.notice("Wrote %d total instances", len(instances))


def _write_part(output, path, records):
  """Writes records of an output file to a temporary file."""
  try:
    with open(path, "wb") as f:
      f.writelines(records)
  except OSError as error:
    raise cannot_write(output, error) from error


def hidden_path(output: str) -> str:
  """Returns the path of the temporary files of an output file, without their endings.

  They match no pattern such as out/*, and are on a local disk: out/.name for out/name.
  """
  if not files.is_remote(output):
    return os.path.join(os.path.dirname(output), f".{os.path.basename(output)}")
  digest = hashlib.sha256(output.encode()).hexdigest()[:16]
  return os.path.join(tempfile.gettempdir(), f".{digest}-{os.path.basename(output)}")


def publish(path: str, output: str) -> None:
  """Gives a complete temporary file the name of its output file; InputError if that fails."""
  try:
    if not files.is_remote(output):
      os.replace(path, output)
      return
    with open(path, "rb") as source, files.open_binary(output, "w") as target:
      shutil.copyfileobj(source, target, 1 << 20)
    os.remove(path)
  except Exception as error:  # tf.io.gfile raises its own kinds
    raise cannot_write(output, error) from error


def remove_parts(outputs: Iterable[str]) -> None:
  """Deletes the temporary parts of output files."""
  for output in outputs:
    for path in files.glob(glob.escape(hidden_path(output) + PART) + "*"):
      os.remove(path)


def cannot_write(output: str, error: Exception) -> files.InputError:
  """Returns the InputError for an exception in writing an output file or its temporary files."""
  return files.InputError(
    f"{output}: cannot be written: {files.describe(error)}; once it can, give the command again"
  )


# ---- Shards -------------------------------------------------------------------------------------


class ShardJob(NamedTuple):
  """The inputs of a shard.

  Attributes:
    number: of the shard, from 0.
    documents: of the shard.
    vocab_digest: see vocab_digest.
    outputs: paths of the output files.
  """

  number: int
  documents: Iterable[Document]
  settings: Settings
  vocab_digest: str
  outputs: list[str]


class ShardReport(NamedTuple):
  """The results of a shard.

  Attributes:
    part_paths: files with the shard's records for each output file.
    num_records: per output file.
    num_random_next: instances whose second segment is random.
    examples: the first records of the first shard.
    fit: counts of long lines.
  """

  part_paths: list[str]
  num_records: list[int]
  num_documents: int
  num_random_next: int
  examples: list[bytes]
  fit: Fit


def make_shard(
  job: ShardJob, on_document: Callable[[int], object] = lambda num_instances: None
) -> ShardReport:
  """Makes the records of a shard.

  on_document is called 1 + dupe_factor times per document, with the number of new instances.

  Raises:
    files.InputError: the corpus cannot be read, or the files cannot be written.
  """
  settings = job.settings
  tools = load_tools(settings, job.vocab_digest)
  # The one shard of a whole corpus has the seed itself: the records of such runs must not change.
  seed = (
    f"{settings.random_seed}/{job.number}" if settings.shard_documents else settings.random_seed
  )
  rng = random.Random(seed)
  maker = _InstanceMaker(settings, tools.words, rng)
  records, num_random_next = [], 0
  for instance in maker.from_corpus(job.documents, tools.tokenizer, on_document):
    records.append(tools.records.make(instance))
    num_random_next += instance.is_random_next
  _shuffle(records, rng)
  # Shards begin with different files, so that all files get as many records.
  num_files = len(job.outputs)
  by_file = [records[(i - job.number) % num_files :: num_files] for i in range(num_files)]
  part_paths = [f"{hidden_path(path)}{PART}{os.getpid()}-{job.number}" for path in job.outputs]
  for output, path, some in zip(job.outputs, part_paths, by_file):
    _write_part(output, path, some)
  return ShardReport(
    part_paths,
    list(map(len, by_file)),
    maker.num_documents,
    num_random_next,
    [] if job.number else records[:NUM_LOGGED_EXAMPLES],
    maker.fit,
  )


class Tools(NamedTuple):
  """The tools of shards; `words` are those of which random replacements are drawn."""

  tokenizer: tokenization.FullTokenizer
  words: list[str]
  records: RecordMaker


@functools.lru_cache(maxsize=1)
def load_tools(settings: Settings, digest: str) -> Tools:
  """Makes the tools for some settings; InputError if the vocabulary cannot be used."""
  del digest  # a key of the cache: worker processes outlive changes of the file
  with files.input_checks():
    tokenizer = tokenization.FullTokenizer(settings.vocab_file, settings.do_lower_case)
  return Tools(
    tokenizer,
    _replacement_words(tokenizer.vocab, settings.special_replacements),
    RecordMaker(tokenizer.vocab, settings.max_seq_length, settings.max_predictions_per_seq),
  )


def make_shards(jobs: Iterable[ShardJob], num_workers: int) -> Iterator[ShardReport]:
  """Makes shards in worker processes.

  Args:
    jobs: few are held at a time.
    num_workers: number of processes.

  Returns:
    Generator of the report of each job, in their order; closing it ends the work.

  Raises:
    files.InputError: see make_shard; or a worker has died.
  """
  return workers.map_in_order(make_shard, jobs, num_workers, "--num_workers or --shard_documents")


# ---- Metadata -----------------------------------------------------------------------------------


def metadata_path(record_file: str) -> str:
  """Returns the path of the metadata of a file of records: beside it, one for all parts of a set.

  "a.tfrecord" -> "a.tfrecord.meta.json"; "a.tfrecord-00003-of-00010" -> the same.
  """
  return re.sub(r"-\d{5}-of-\d{5}$", "", record_file) + ".meta.json"


def make_metadata(
  settings: Settings,
  digest: str,
  vocab_size: int,
  totals: dict[str, int],
  outputs: Sequence[str],
  num_records: Sequence[int],
  num_bytes: Sequence[int],
) -> dict[str, Any]:
  """Makes the metadata of a set of records.

  Args:
    settings: of the records.
    digest: see vocab_digest.
    vocab_size: in word pieces.
    totals: num_documents, num_instances, num_random_next.
    outputs: the files.
    num_records, num_bytes: of each file.

  Returns:
    Values for JSON: all but vocab_file of the settings, format_version, vocab_sha256, vocab_size,
    the totals, and `files`: file name -> {"records", "bytes"}.
  """
  described = settings._asdict()
  del described["vocab_file"]
  return {
    "format_version": FORMAT_VERSION,
    "vocab_sha256": digest,
    "vocab_size": vocab_size,
    **described,
    **totals,
    "files": {
      os.path.basename(path): {"records": records, "bytes": size}
      for path, records, size in zip(outputs, num_records, num_bytes)
    },
  }


def check_metadata(record_files: Iterable[str], **expected: Any) -> list[dict[str, Any]]:
  """Checks records by their metadata; those of other programs, which have none, are not checked.

    check_metadata(["a.tfrecord"], max_seq_length=128, max_predictions_per_seq=20)

  Args:
    record_files: paths; files with metadata among them are left out.
    **expected: entries of the metadata (see make_metadata) and their values.

  Returns:
    The metadata of the sets that the files belong to.

  Raises:
    files.InputError: a mismatch, by name; a file that is not complete; metadata that is broken, or
      of a later version of this program; files made with different vocabularies.
  """
  sets = {}
  for record_file in record_files:
    path = metadata_path(record_file)
    if record_file.endswith(".meta.json") or not files.exists(path):
      continue
    if path not in sets:
      sets[path] = _read_metadata(path)
      _compare(record_file, sets[path], expected)
    _check_size(record_file, path, sets[path])
  found = list(sets.values())
  for path, metadata in sets.items():
    _compare(path, metadata, {"vocab_sha256": found[0]["vocab_sha256"]})
  return found


def _read_metadata(path):
  metadata = files.read_json(path)
  version = metadata.get("format_version") if isinstance(metadata, dict) else None
  if version != FORMAT_VERSION:
    raise files.InputError(
      f"{path}: is not metadata of records in format {FORMAT_VERSION} (found {version}); make the "
      "records anew"
    )
  return metadata


def _compare(path, metadata, expected):
  wrong = [
    f"{name} is {metadata.get(name)!r} there, and not {value!r}"
    for name, value in expected.items()
    if metadata.get(name) != value
  ]
  if wrong:
    raise files.InputError(
      f"{path}: these records do not fit: {'; '.join(wrong)}; make them anew, or change the flags"
    )


def _check_size(record_file, path, metadata):
  """Raises files.InputError for a copy that is not complete."""
  known = metadata["files"].get(os.path.basename(record_file))
  size, _ = files.size_and_time(record_file)
  if known and size != known["bytes"]:
    raise files.InputError(
      f"{record_file}: has {size} bytes, and not the {known['bytes']} of {path}; copy it again, or "
      "delete the metadata if the records are others"
    )
