"""Text to word pieces: cleaning, splitting at spaces and punctuation, then a greedy match.

  "Unaffable, naïve!" -> basic     ["unaffable", ",", "naive", "!"]
                      -> wordpiece ["una", "##ffa", "##ble", ",", "naive", "!"]

Character classes are those of Python's unicodedata. TensorFlow is needed for remote files alone.
"""

import collections
import itertools
import logging
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple, Optional, TypeVar, Union

_logger = logging.getLogger(__name__)

Key = TypeVar("Key")
Value = TypeVar("Value")

SPECIAL_TOKENS = ("[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]")

_LOWER_CASE_MODELS = {
  "uncased_L-12_H-768_A-12",
  "uncased_L-24_H-1024_A-16",
  "multilingual_L-12_H-768_A-12",
  "chinese_L-12_H-768_A-12",
}
_CASED_MODELS = {
  "cased_L-12_H-768_A-12",
  "cased_L-24_H-1024_A-16",
  "multi_cased_L-12_H-768_A-12",
}

# Blocks of Chinese characters (first, last), which are written without spaces. Hangul, Hiragana and
# Katakana are not among them: those words are left whole.
_CHINESE_BLOCKS = (
  (0x4E00, 0x9FFF),
  (0x3400, 0x4DBF),
  (0x20000, 0x2A6DF),
  (0x2A700, 0x2B73F),
  (0x2B740, 0x2B81F),
  (0x2B820, 0x2CEAF),
  (0xF900, 0xFAFF),
  (0x2F800, 0x2FA1F),
)

_FIRST_CHINESE = chr(min(first for first, _ in _CHINESE_BLOCKS))

# Control characters at which str.split() would split, and which cleaning deletes instead.
_DELETED_SEPARATORS = re.compile("[\x0b\x0c\x1c-\x1f\x85]")

# In ASCII text: a punctuation mark, or the characters between two of them.
_ASCII_PARTS = re.compile(r"[!-/:-@\[-`{-~]|[^!-/:-@\[-`{-~]+")

# Bounds of each of a FullTokenizer's two caches: 80 to 160 MB when full. Chunks are words with
# their punctuation; longer ones (web addresses, sentences without spaces) are rarely repeated.
_CACHED_CHUNKS = 400_000
_CACHED_CHUNK_LENGTH = 32


def validate_case_matches_checkpoint(do_lower_case: bool, init_checkpoint: Optional[str]) -> None:
  """Checks the casing against the name of a released checkpoint, if it has one.

  Args:
    do_lower_case: whether the tokenizer lower-cases.
    init_checkpoint: path of a checkpoint. Only `<released model>/bert_model.ckpt` is checked; the
      casing of other checkpoints is unknown.

  Raises:
    ValueError: the model was trained on text of the other casing.
  """
  match = re.search(r"([A-Za-z0-9_-]+)/bert_model\.ckpt", init_checkpoint or "")
  wrong_models = _CASED_MODELS if do_lower_case else _LOWER_CASE_MODELS
  if match and match.group(1) in wrong_models:
    raise ValueError(
      f"--do_lower_case is {bool(do_lower_case)}, but {match.group(1)} of --init_checkpoint "
      f"was trained on {'cased' if do_lower_case else 'lower-cased'} text; "
      f"pass --do_lower_case={not do_lower_case}"
    )


def convert_to_unicode(text: Union[str, bytes]) -> str:
  """Returns str unchanged, and decodes bytes as UTF-8 without the invalid ones.

  Raises:
    ValueError: text is of another type.
  """
  if isinstance(text, str):
    return text
  if isinstance(text, bytes):
    return text.decode("utf-8", "ignore")
  raise ValueError(f"Text must be str or bytes, not {type(text).__name__}: {text!r}")


def printable_text(text: Union[str, bytes]) -> str:
  """Text for print and log; the same as convert_to_unicode, ValueError too."""
  return convert_to_unicode(text)


def _read_bytes(path):
  """The content of a file; ValueError if it cannot be read."""
  try:
    if "://" in str(path):
      import tensorflow as tf  # pylint: disable=import-outside-toplevel

      with tf.io.gfile.GFile(path, "rb") as f:
        return f.read()
    with open(path, "rb") as f:
      return f.read()
  except Exception as error:  # tf.io.gfile raises its own kinds
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    raise ValueError(f"{path}: cannot be read: {reason.splitlines()[0]}") from error


def _read_tokens(vocab_file):
  """Reads the word piece of each line of a vocabulary, in order.

  Only "\\n" ends a line, and "\\r" is ignored everywhere:
    b"the\\r\\n ##s \\n\\xc2\\x85\\nlast" -> ["the", "##s", "", "last"]
  """
  data = _read_bytes(vocab_file)
  try:
    text = data.decode("utf-8-sig")
  except UnicodeDecodeError as error:
    line = data.count(b"\n", 0, error.start) + 1
    raise ValueError(
      f"{vocab_file}:{line}: found byte 0x{data[error.start]:02x}, which is not UTF-8; "
      "convert the file to UTF-8 text"
    ) from error
  lines = text.replace("\r", "").split("\n")
  if lines[-1] == "":
    lines.pop()
  return [line.strip() for line in lines]


def load_vocab(vocab_file: str) -> collections.OrderedDict[str, int]:
  """Reads a vocabulary, one word piece per line, without checking it (see validate_vocab).

  Returns:
    Word piece -> id, which is the line's index from 0. A piece on several lines has the last index.

  Raises:
    ValueError: the file cannot be read, or is not UTF-8 (file:line).
  """
  return collections.OrderedDict((token, i) for i, token in enumerate(_read_tokens(vocab_file)))


def validate_vocab(
  vocab_file: str,
  also_required: Iterable[str] = (),
  required: Iterable[str] = ("[UNK]", "[CLS]", "[SEP]"),
) -> None:
  """Checks that a vocabulary file can be used for training and prediction.

  Lines without a piece count as lines and do no harm. A piece on several lines has the number of
  the last one; a warning in the log says so.

  Args:
    vocab_file: path of the file.
    also_required: tokens needed besides `required`, such as "[MASK]".
    required: tokens that every use needs.

  Raises:
    ValueError: the file cannot be read, is not UTF-8, is empty, or lacks one of the tokens.
  """
  tokens = _read_tokens(vocab_file)
  if not any(tokens):
    raise ValueError(f"{vocab_file}: is empty; a vocabulary has one word piece per line")
  last_lines = {token: line for line, token in enumerate(tokens, 1)}
  missing = [t for t in (*required, *also_required) if t not in last_lines]
  if missing:
    raise ValueError(
      f"{vocab_file}: has no {', '.join(missing)} among its {len(tokens)} lines; "
      "give the vocabulary that belongs to the model"
    )
  repeated = [
    (line, token) for line, token in enumerate(tokens, 1) if token and last_lines[token] != line
  ]
  if repeated:
    line, token = repeated[0]
    _logger.warning(
      "%s: %d lines have a word piece that is on a later line too, which counts; the first is "
      "line %d, %r, which is on line %d",
      vocab_file,
      len(repeated),
      line,
      token,
      last_lines[token],
    )


def num_ids(vocab: Mapping[str, int]) -> int:
  """Returns the number of ids, from 0, up to the last one of a word piece that is not empty.

  {"[UNK]": 0, "the": 3, "": 9} -> 4

  Args:
    vocab: word piece -> id, such as the result of load_vocab.
  """
  return 1 + max((index for token, index in vocab.items() if token), default=-1)


def guess_lower_case(vocab: Iterable[str]) -> Optional[bool]:
  """Guesses the casing of the text that a vocabulary was made from.

  One upper-case piece in a hundred of those with letters is allowed: it may be added by hand.

  Args:
    vocab: word pieces, such as the result of load_vocab.

  Returns:
    True for lower-cased text, False for cased text, None where no piece has letters of either case.
  """
  lower = upper = 0
  for token in vocab:
    if re.fullmatch(r"\[.+\]|<.+>", token):  # [CLS], [unused1], <S>
      continue
    if token != token.lower():
      upper += 1
    elif token != token.upper():
      lower += 1
  if not lower and not upper:
    return None
  return upper * 100 <= lower + upper


def convert_by_vocab(vocab: Mapping[Key, Value], items: Iterable[Key]) -> list[Value]:
  """Looks up each item: vocab[item].

  Raises:
    KeyError: an item is not in the vocabulary.
  """
  return [vocab[item] for item in items]


def convert_tokens_to_ids(vocab: Mapping[str, int], tokens: Iterable[str]) -> list[int]:
  """Looks up the ids of tokens; KeyError for an unknown one."""
  return convert_by_vocab(vocab, tokens)


def convert_ids_to_tokens(inv_vocab: Mapping[int, str], ids: Iterable[int]) -> list[str]:
  """Looks up the tokens of ids; KeyError for an unknown one."""
  return convert_by_vocab(inv_vocab, ids)


def whitespace_tokenize(text: str) -> list[str]:
  """Splits at runs of whitespace, as str.split() defines it: " a\\u2028b " -> ["a", "b"]."""
  return text.split()


class _Computed(dict):
  """A dict that computes the values of missing keys. Threads may compute one of them twice."""

  def __init__(self, compute):
    super().__init__()
    self.compute = compute

  def __missing__(self, key):
    value = self[key] = self.compute(key)
    return value


class _ChunkCache(_Computed):
  """Keeps the results of short chunks of text; it is emptied when it is full."""

  def __missing__(self, key):
    value = self.compute(key)
    if len(key) <= _CACHED_CHUNK_LENGTH:
      if len(self) >= _CACHED_CHUNKS:
        self.clear()
      self[key] = value
    return value


class FullTokenizer:
  """Converts text to word pieces.

  Results are cached per chunk of text between spaces, so repeated words are fast. Assigning
  `vocab`, `basic_tokenizer` or `wordpiece_tokenizer` empties the cache. Tokenizers of other classes
  than this module's bypass it. Changes inside of these parts go unnoticed: assign a new part
  (`tokenizer.wordpiece_tokenizer = WordpieceTokenizer(vocab)`).

  Several threads may share an instance. A pickled copy has an empty cache.

  Attributes:
    vocab: word piece -> id.
    inv_vocab: id -> word piece.
    basic_tokenizer: the BasicTokenizer.
    wordpiece_tokenizer: the WordpieceTokenizer.
  """

  _kept_tokens = None  # for subclasses that set the attributes above without this __init__

  def __init__(
    self,
    vocab_file: str,
    do_lower_case: bool = True,
    keep_special_tokens: bool = False,
    strip_accents: Optional[bool] = None,
  ) -> None:
    """Reads the vocabulary.

    Args:
      vocab_file: path of a text file with one word piece per line.
      do_lower_case: whether to lower-case the text.
      keep_special_tokens: whether [CLS], [SEP], [MASK], [PAD] and [UNK] in the text stay whole, if
        they are in the vocabulary. By default "[MASK]" is split into "[", "mask", "]" like any
        other text.
      strip_accents: whether to remove accents; default: the value of do_lower_case.

    Raises:
      ValueError: the file cannot be read, or is not UTF-8.
    """
    self.vocab = load_vocab(vocab_file)
    self.inv_vocab = {index: token for token, index in self.vocab.items()}
    self.basic_tokenizer = BasicTokenizer(do_lower_case, strip_accents)
    self.wordpiece_tokenizer = WordpieceTokenizer(self.vocab)
    kept = [t for t in SPECIAL_TOKENS if keep_special_tokens and t in self.vocab]
    if kept:
      self._kept_tokens = re.compile("(%s)" % "|".join(map(re.escape, kept)))

  def __setattr__(self, name: str, value: Any) -> None:
    super().__setattr__(name, value)
    if name in {"vocab", "basic_tokenizer", "wordpiece_tokenizer"}:
      self._forget()

  def __getstate__(self) -> dict[str, Any]:
    return {k: v for k, v in vars(self).items() if not isinstance(v, _ChunkCache)}

  def __setstate__(self, state: dict[str, Any]) -> None:
    vars(self).update(state)
    self._forget()

  def _forget(self):
    self._chunk_tokens = _ChunkCache(self._tokenize_chunk)
    self._chunk_ids = _ChunkCache(self._encode_chunk)
    self._char_sizes = _ChunkCache(self._count_char)

  def tokenize(self, text: Union[str, bytes]) -> list[str]:
    """Splits text into word pieces.

    Args:
      text: str, or bytes of UTF-8.

    Raises:
      ValueError: text is neither str nor bytes.
    """
    return self._look_up(text, self._chunk_tokens)

  def tokenize_with_spans(self, text: str) -> tuple[list[str], Optional[list[tuple[int, int]]]]:
    """Splits text into word pieces, and finds the characters that each of them was made of.

      "It\u200b naïve's" -> ["it", "naive", "'", "s"], [(0, 2), (4, 9), (9, 10), (10, 11)]

    Of the characters that the tokenizer deletes, those that a reader sees as parts of the character
    before them (accents, vowel signs, joiners) belong to its piece, the others to none. Pieces of
    one character, a syllable of Hangul, have its place in common.

    Returns:
      tokenize(text), and (start, end) of each piece, in characters of the text; None if parts of
      other classes than this module's make pieces that are not spelled like the text.
    """
    text = convert_to_unicode(text)
    pieces = self.tokenize(text)
    spelled = [piece[2:] if piece[:2] == "##" else piece for piece in pieces]
    joined = "".join(spelled)
    if joined == text or (len(joined) == len(text) and joined == text.lower()):
      ends = list(itertools.accumulate(map(len, spelled)))  # one to one: the usual case
      return pieces, list(zip([0, *ends], ends))
    aligned, spans = self._align(text)
    return pieces, _with_marks(spans, text) if aligned == pieces else None

  def encode(self, text: Union[str, bytes]) -> list[int]:
    """Computes convert_tokens_to_ids(tokenize(text)), but faster.

    Args:
      text: str, or bytes of UTF-8.

    Raises:
      ValueError: text is neither str nor bytes.
      KeyError: text has an unknown word and the vocabulary has no [UNK].
    """
    return self._look_up(text, self._chunk_ids)

  def convert_tokens_to_ids(self, tokens: Iterable[str]) -> list[int]:
    """Looks up the ids of word pieces; KeyError for an unknown one."""
    return convert_by_vocab(self.vocab, tokens)

  def convert_ids_to_tokens(self, ids: Iterable[int]) -> list[str]:
    """Looks up the word pieces of ids; KeyError for an unknown one."""
    return convert_by_vocab(self.inv_vocab, ids)

  def _look_up(self, text, cache):
    """Splits text where tokens are sure to end, and joins the cached results of the chunks."""
    text = convert_to_unicode(text)
    if type(self.basic_tokenizer) is not BasicTokenizer or (
      type(self.wordpiece_tokenizer) is not WordpieceTokenizer
    ):
      return list(cache.compute(text))  # others may look at the whole text
    # Printable text has no separator but the space: the usual case, and fast to detect.
    if not text.isprintable():
      text = _DELETED_SEPARATORS.sub("", text)
    return list(itertools.chain.from_iterable(map(cache.__getitem__, text.split())))

  def _tokenize_chunk(self, text):
    """Splits text without the cache; returns a tuple of word pieces."""
    if not self._kept_tokens:
      return tuple(self._split(text))
    pieces: list[str] = []
    for i, part in enumerate(self._kept_tokens.split(text)):
      # split() alternates between unmatched and matched text.
      pieces += [part] if i % 2 else self._split(part)
    return tuple(pieces)

  def _split(self, text):
    pieces, split_word = [], self.wordpiece_tokenizer.tokenize
    for word in self.basic_tokenizer.tokenize(text):
      pieces += split_word(word)
    return pieces

  def _align(self, text):
    """Tokenizes text without the cache; returns pieces, and their spans without deleted marks.

    The tokenizer changes each character on its own, but for its case and the order of marks. So the
    n-th character of all words together is of the n-th of the `owners`.
    """
    owners = [i for i, char in enumerate(text) for _ in range(self._char_sizes[char])]
    parts = [text]
    if self._kept_tokens:
      parts = self._kept_tokens.split(_DELETED_SEPARATORS.sub("", text))
    pieces, spans, start = [], [], 0
    for i, part in enumerate(parts):
      for word in [part] if i % 2 else self.basic_tokenizer.tokenize(part):
        of_word = self.wordpiece_tokenizer.tokenize(word)
        sizes = [len(piece) - 2 * (piece[:2] == "##") for piece in of_word]
        if len(of_word) == 1:
          sizes = [len(word)]  # [UNK] stands for all of it
        for piece, size in zip(of_word, sizes):
          own = owners[start : start + size]
          if not own:
            return [], []
          pieces.append(piece)
          spans.append((own[0], own[-1] + 1))
          start += size
    return (pieces, spans) if start == len(owners) else ([], [])

  def _count_char(self, char):
    """Counts the characters that one becomes: 0 for a space, 1 for most, 3 for U+D55C (Hangul)."""
    return sum(map(len, self.basic_tokenizer.tokenize(char)))

  def _encode_chunk(self, text):
    return tuple(map(self.vocab.__getitem__, self._tokenize_chunk(text)))


def _with_marks(spans, text):
  """Extends each of the spans of pieces by the deleted characters that belong to its last one."""
  limits = [start for start, _ in spans[1:]] + [len(text)]
  extended = []
  for (start, end), limit in zip(spans, limits):
    while end < limit and _is_extending(text[end]):
      end += 1
    extended.append((start, end))
  return extended


class BasicTokenizer:
  """Cleans text and splits it at whitespace, Chinese characters and punctuation."""

  def __init__(self, do_lower_case: bool = True, strip_accents: Optional[bool] = None) -> None:
    """Sets the treatment of letters.

    Args:
      do_lower_case: whether to lower-case the text.
      strip_accents: whether to remove accents; default: the value of do_lower_case.
    """
    self.do_lower_case = do_lower_case
    self.strip_accents = strip_accents

  def tokenize(self, text: Union[str, bytes]) -> list[str]:
    """Splits text into words and punctuation marks.

    Args:
      text: str, or bytes of UTF-8.

    Returns:
      "Où est-il?" -> ["ou", "est", "-", "il", "?"].

    Raises:
      ValueError: text is neither str nor bytes.
    """
    text = self._clean_text(convert_to_unicode(text))
    text = self._tokenize_chinese_chars(text)
    # Neither step depends on text across a space, so both can run before the split.
    if self.do_lower_case:
      text = text.lower()
    if self.do_lower_case if self.strip_accents is None else self.strip_accents:
      text = self._run_strip_accents(text)
    words = []
    for word in text.split():
      words += self._run_split_on_punc(word)
    return words

  def _clean_text(self, text):
    """Deletes control characters, NUL and U+FFFD; any whitespace becomes a space."""
    if text.isprintable() and "\ufffd" not in text:
      return text
    return text.translate(_CLEANED)

  def _tokenize_chinese_chars(self, text):
    """Puts spaces round Chinese characters: "ab中文" -> "ab 中  文 "."""
    if text.isascii() or max(text) < _FIRST_CHINESE:
      return text
    return text.translate(_CHINESE_SPACED)

  def _is_chinese_char(self, cp):
    """Returns True for an int code point in one of the blocks of Chinese characters."""
    return _is_chinese_char(cp)

  def _run_strip_accents(self, text):
    """Decomposes characters and drops the non-spacing marks: "naïve" -> "naive"."""
    if text.isascii():
      return text
    return unicodedata.normalize("NFD", text).translate(_WITHOUT_MARKS)

  def _run_split_on_punc(self, text):
    """Makes each punctuation character a string: "a-b!?" -> ["a", "-", "b", "!", "?"]."""
    if text.isalnum():
      return [text]
    if text.isascii():
      return _ASCII_PARTS.findall(text)
    parts, start = [], 0
    for i, char in enumerate(text):
      if _IS_PUNCTUATION[char]:
        if start < i:
          parts.append(text[start:i])
        parts.append(char)
        start = i + 1
    if start < len(text):
      parts.append(text[start:])
    return parts


class WordpieceTokenizer:
  """Splits words into the longest pieces of a vocabulary, from left to right."""

  def __init__(
    self, vocab: Collection[str], unk_token: str = "[UNK]", max_input_chars_per_word: int = 200
  ) -> None:
    """Keeps the vocabulary.

    Args:
      vocab: the word pieces, in a collection with a fast `in` (dict, set). Pieces that are added
        later may go unnoticed.
      unk_token: replaces a word that the pieces cannot spell.
      max_input_chars_per_word: limit in characters; a longer word becomes unk_token.
    """
    self.vocab = vocab
    self.unk_token = unk_token
    self.max_input_chars_per_word = max_input_chars_per_word
    self._longest = _longest_pieces(vocab)

  def tokenize(self, text: Union[str, bytes]) -> list[str]:
    """Splits words into word pieces.

    Args:
      text: str, or bytes of UTF-8: words with whitespace between them, from a BasicTokenizer.

    Returns:
      "unaffable" -> ["una", "##ffa", "##ble"], "##" marking the pieces within a word.

    Raises:
      ValueError: text is neither str nor bytes.
    """
    words = convert_to_unicode(text).split()
    if len(words) == 1:
      return self._split_word(words[0])
    return [piece for word in words for piece in self._split_word(word)]

  def _split_word(self, word):
    vocab, longest, length = self.vocab, self._longest, len(word)
    if length > self.max_input_chars_per_word:
      return [self.unk_token]
    if word in vocab:
      return [word]
    pieces, rest, marks = [], word, 0
    while length > marks:  # rest: "unaffable", then "##ffable", "##ble", "##"
      end = longest.get(rest[: marks + 3], marks + 2)
      if end > length:
        end = length
      while rest[:end] not in vocab:
        end -= 1
        if end == marks:
          return [self.unk_token]
      pieces.append(rest[:end])
      rest, marks = "##" + rest[end:], 2
      length = len(rest)
    return pieces


def _longest_pieces(vocab):
  """Finds the length of the longest piece for each first three characters, "##" not counted.

    ["una", "unable", "##ffa", "a"] -> {"una": 6, "##f": 5, "##ffa": 5, "a": 1}

  Pieces that begin with any other three characters have at most two characters.
  """
  longest: dict[str, int] = {}
  for piece in vocab:
    length = len(piece)
    for start in (piece[:3], piece[:5]) if piece[:2] == "##" else (piece[:3],):
      if length > longest.get(start, 0):
        longest[start] = length
  return longest


class Encoded(NamedTuple):
  """A text, or a pair of texts, as the model takes it.

  Attributes:
    tokens: the word pieces with [CLS] and [SEP], without padding.
    input_ids: max_length ids of the word pieces, then 0.
    input_mask: max_length numbers, 1 for a word piece, 0 for padding.
    segment_ids: max_length numbers, 1 for the second text and its [SEP], else 0.
    is_truncated: True if the texts were longer and lost their ends.
  """

  tokens: list[str]
  input_ids: list[int]
  input_mask: list[int]
  segment_ids: list[int]
  is_truncated: bool


def encode_pair(
  tokenizer: FullTokenizer, text_a: str, text_b: Optional[str], max_length: int
) -> Encoded:
  """Encodes one or two texts in max_length word pieces, [CLS] and [SEP] included, as Encoded."""
  tokens_a = tokenizer.tokenize(text_a)
  tokens_b = tokenizer.tokenize(text_b) if text_b else []
  max_text = max_length - (3 if tokens_b else 2)  # [CLS] a [SEP] b [SEP], or [CLS] a [SEP]
  is_truncated = len(tokens_a) + len(tokens_b) > max_text
  _truncate_seq_pair(tokens_a, tokens_b, max_text)
  first = ["[CLS]", *tokens_a, "[SEP]"]
  second = [*tokens_b, "[SEP]"] if tokens_b else []
  tokens = first + second
  padding = [0] * (max_length - len(tokens))
  return Encoded(
    tokens,
    tokenizer.convert_tokens_to_ids(tokens) + padding,
    [1] * len(tokens) + padding,
    [0] * len(first) + [1] * len(second) + padding,
    is_truncated,
  )


def _truncate_seq_pair(tokens_a, tokens_b, max_length):
  """Cuts two lists in place to max_length tokens in all, from the end of the longer one each time.

  With max_length 4: [a b c d], [x y z] -> [a b], [x y]; when both are as long, the second is cut.
  """
  while len(tokens_a) + len(tokens_b) > max_length:
    longer = tokens_a if len(tokens_a) > len(tokens_b) else tokens_b
    longer.pop()


def _is_whitespace(char):
  """Returns True for space, tab, newline, return and characters of category Zs."""
  return char in " \t\n\r" or unicodedata.category(char) == "Zs"


def _is_control(char):
  """Returns True for a character of category Cc or Cf other than tab, newline and return."""
  return char not in "\t\n\r" and unicodedata.category(char) in {"Cc", "Cf"}


def _is_punctuation(char):
  """Returns True for category P* and for printable ASCII other than letters, digits and space.

  So "$", "+", "<", "^", "`", "|" and "~" are punctuation, though Unicode calls them symbols.
  """
  cp = ord(char)
  if 33 <= cp <= 47 or 58 <= cp <= 64 or 91 <= cp <= 96 or 123 <= cp <= 126:
    return True
  return unicodedata.category(char).startswith("P")


def _is_extending(char):
  """Returns True for a character that is seen as a part of the one before it.

  These are non-spacing marks (variation selectors among them), the joiner U+200D and emoji tags.
  """
  is_tag = "\U000e0020" <= char <= "\U000e007f"
  return char == "\u200d" or is_tag or unicodedata.category(char) == "Mn"


def _is_chinese_char(cp):
  return any(first <= cp <= last for first, last in _CHINESE_BLOCKS)


def _cleaned(cp):
  """Maps a code point to clean text, for str.translate: None deletes it."""
  char = chr(cp)
  if cp in {0, 0xFFFD} or _is_control(char):
    return None
  return " " if _is_whitespace(char) else cp


def _chinese_spaced(cp):
  """Maps a code point to text with spaces round Chinese characters, for str.translate."""
  return f" {chr(cp)} " if _is_chinese_char(cp) else cp


def _without_mark(cp):
  """Maps a non-spacing mark to None, which deletes it, and other code points to themselves."""
  return None if unicodedata.category(chr(cp)) == "Mn" else cp


# Filled with the characters that occur: a call of unicodedata per character would be slow.
_CLEANED = _Computed(_cleaned)
_CHINESE_SPACED = _Computed(_chinese_spaced)
_WITHOUT_MARKS = _Computed(_without_mark)
_IS_PUNCTUATION = _Computed(_is_punctuation)
