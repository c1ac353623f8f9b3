"""Text to word pieces: cleaning, splitting at spaces and punctuation, then a greedy match.

  "Unaffable, naïve!" -> basic     ["unaffable", ",", "naive", "!"]
                      -> wordpiece ["una", "##ffa", "##ble", ",", "naive", "!"]

Character classes are those of Python's unicodedata. TensorFlow is not needed.
"""

import collections
import itertools
import re
import unicodedata

from toolkit.support import files

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

# Blocks of Chinese characters (first, last), which are written without spaces. Not the blocks of
# Hangul, Hiragana and Katakana: those words are left whole.
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

# Of ASCII text: a punctuation mark, or what is between two.
_ASCII_PARTS = re.compile(r"[!-/:-@\[-`{-~]|[^!-/:-@\[-`{-~]+")

# Bounds of each of a FullTokenizer's two caches: 80 to 160 MB when full. Chunks are words with
# their punctuation; longer ones (web addresses, sentences without spaces) hardly ever come again.
_CACHED_CHUNKS = 400_000
_CACHED_CHUNK_LENGTH = 32


def validate_case_matches_checkpoint(do_lower_case, init_checkpoint):
  """Checks the casing against the name of a released checkpoint, if it has one.

  Args:
    do_lower_case: bool, what the tokenizer is to do.
    init_checkpoint: path of a checkpoint, or None. Only `<released model>/bert_model.ckpt` is
      judged; for any other path nothing is known.

  Raises:
    files.InputError: the model was trained on text of the other casing.
  """
  match = re.search(r"([A-Za-z0-9_-]+)/bert_model\.ckpt", init_checkpoint or "")
  wrong_models = _CASED_MODELS if do_lower_case else _LOWER_CASE_MODELS
  if match and match.group(1) in wrong_models:
    raise files.InputError(
      f"--do_lower_case is {bool(do_lower_case)}, but {match.group(1)} of --init_checkpoint "
      f"was trained on {'cased' if do_lower_case else 'lower-cased'} text; "
      f"pass --do_lower_case={not do_lower_case}"
    )


def convert_to_unicode(text):
  """Text as str: str is returned as it is, bytes are read as UTF-8 without the invalid ones.

  Raises:
    ValueError: text is of another type.
  """
  if isinstance(text, str):
    return text
  if isinstance(text, bytes):
    return text.decode("utf-8", "ignore")
  raise ValueError(f"Text must be str or bytes, not {type(text).__name__}: {text!r}")


def printable_text(text):
  """Text as a str for print and log; the same as convert_to_unicode, ValueError too."""
  return convert_to_unicode(text)


def _read_tokens(vocab_file):
  """The word piece of each line of a vocabulary, in order.

  Only "\\n" ends a line and "\\r" counts nowhere:
    b"the\\r\\n ##s \\n\\xc2\\x85\\nlast" -> ["the", "##s", "", "last"]
  """
  data = files.read_bytes(vocab_file)
  try:
    text = data.decode("utf-8-sig")
  except UnicodeDecodeError:
    text = files.decode(data, vocab_file)  # raises, naming the line
  lines = text.replace("\r", "").split("\n")
  if lines[-1] == "":
    lines.pop()
  return [line.strip() for line in lines]


def load_vocab(vocab_file):
  """Reads a vocabulary, one word piece a line, without judging it (see validate_vocab).

  Returns:
    OrderedDict of word piece to id, which is the line's index from 0. Of a piece that stands on
    several lines the last index counts.

  Raises:
    files.InputError: the file cannot be read, or is not UTF-8 (file:line).
  """
  return collections.OrderedDict((token, i) for i, token in enumerate(_read_tokens(vocab_file)))


def validate_vocab(vocab_file, also_required=()):
  """Checks that a vocabulary file can be used for training and prediction.

  Args:
    vocab_file: its path.
    also_required: tokens that must be in it besides [UNK], [CLS] and [SEP], such as "[MASK]".

  Raises:
    files.InputError: the file cannot be read, is not UTF-8, is empty, has a piece twice, or has
      not all the tokens.
  """
  tokens = _read_tokens(vocab_file)
  while tokens and tokens[-1] == "":
    tokens.pop()
  if not tokens:
    raise files.InputError(f"{vocab_file}: is empty; a vocabulary has one word piece a line")
  first_lines = {}
  for line, token in enumerate(tokens, 1):
    first_line = first_lines.setdefault(token, line)
    if first_line != line:
      raise files.InputError(
        f"{vocab_file}:{line}: found {token!r}, which is on line {first_line} already; "
        "a line's number is the piece's id, so put an unused piece in place of one of them"
      )
  missing = [t for t in ("[UNK]", "[CLS]", "[SEP]", *also_required) if t not in first_lines]
  if missing:
    raise files.InputError(
      f"{vocab_file}: has no {', '.join(missing)} among its {len(tokens)} lines; "
      "give the vocabulary that belongs to the model"
    )


def guess_lower_case(vocab):
  """What a vocabulary tells about the casing of the text that it was made from.

  A few upper-case pieces (one in a hundred of those with letters) may have been added by hand.

  Args:
    vocab: iterable of word pieces, such as the result of load_vocab.

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


def convert_by_vocab(vocab, items):
  """List of vocab[item] for each item.

  Raises:
    KeyError: an item is not in the vocabulary.
  """
  return [vocab[item] for item in items]


def convert_tokens_to_ids(vocab, tokens):
  """List of int ids of tokens; vocab maps token to id. KeyError for an unknown token."""
  return convert_by_vocab(vocab, tokens)


def convert_ids_to_tokens(inv_vocab, ids):
  """List of str tokens of ids; inv_vocab maps id to token. KeyError for an unknown id."""
  return convert_by_vocab(inv_vocab, ids)


def whitespace_tokenize(text):
  """Splits at runs of whitespace, as str.split() knows it: " a\\u2028b " -> ["a", "b"]."""
  return text.split()


class _Computed(dict):
  """A dict that computes the values of missing keys. Threads may at worst compute one twice."""

  def __init__(self, compute):
    super().__init__()
    self.compute = compute

  def __missing__(self, key):
    value = self[key] = self.compute(key)
    return value


class _ChunkCache(_Computed):
  """Keeps the results of short chunks of text, and starts anew when it is full."""

  def __missing__(self, key):
    value = self.compute(key)
    if len(key) <= _CACHED_CHUNK_LENGTH:
      if len(self) >= _CACHED_CHUNKS:
        self.clear()
      self[key] = value
    return value


class FullTokenizer:
  """The whole way from text to word pieces.

  Results are cached by chunk of text between spaces, so text that repeats its words is fast. The
  cache is dropped when `vocab`, `basic_tokenizer` or `wordpiece_tokenizer` is assigned, and is not
  used with tokenizers of other classes than this module's. Changes inside of these parts are not
  noticed: assign a new part (`tokenizer.wordpiece_tokenizer = WordpieceTokenizer(vocab)`).

  One instance may serve several threads. It can be pickled; a copy starts with an empty cache.

  Attributes:
    vocab: OrderedDict of word piece to int id.
    inv_vocab: dict of int id to word piece.
    basic_tokenizer: the BasicTokenizer.
    wordpiece_tokenizer: the WordpieceTokenizer.
  """

  _kept_tokens = None  # here too, for subclasses that fill the attributes above by themselves

  def __init__(self, vocab_file, do_lower_case=True, keep_special_tokens=False, strip_accents=None):
    """Reads the vocabulary.

    Args:
      vocab_file: path of a text file, one word piece a line.
      do_lower_case: bool, whether to lower-case the text.
      keep_special_tokens: bool, whether [CLS], [SEP], [MASK], [PAD] and [UNK] written in the text
        stay whole, as far as the vocabulary has them. By default "[MASK]" is split into
        "[", "mask", "]" like any other text.
      strip_accents: bool, whether to remove accents; None does what do_lower_case does.

    Raises:
      files.InputError: the file cannot be read, or is not UTF-8.
    """
    self.vocab = load_vocab(vocab_file)
    self.inv_vocab = {index: token for token, index in self.vocab.items()}
    self.basic_tokenizer = BasicTokenizer(do_lower_case, strip_accents)
    self.wordpiece_tokenizer = WordpieceTokenizer(self.vocab)
    kept = [t for t in SPECIAL_TOKENS if keep_special_tokens and t in self.vocab]
    if kept:
      self._kept_tokens = re.compile("(%s)" % "|".join(map(re.escape, kept)))

  def __setattr__(self, name, value):
    super().__setattr__(name, value)
    if name in {"vocab", "basic_tokenizer", "wordpiece_tokenizer"}:
      self._forget()

  def __getstate__(self):
    return {k: v for k, v in vars(self).items() if not isinstance(v, _ChunkCache)}

  def __setstate__(self, state):
    vars(self).update(state)
    self._forget()

  def _forget(self):
    self._chunk_tokens = _ChunkCache(self._tokenize_chunk)
    self._chunk_ids = _ChunkCache(self._encode_chunk)

  def tokenize(self, text):
    """Splits text into word pieces.

    Args:
      text: str, or bytes of UTF-8.

    Returns:
      List of str.

    Raises:
      ValueError: text is neither str nor bytes.
    """
    return self._look_up(text, self._chunk_tokens)

  def encode(self, text):
    """The ids of text's word pieces: convert_tokens_to_ids(tokenize(text)), but faster.

    Args:
      text: str, or bytes of UTF-8.

    Returns:
      List of int.

    Raises:
      ValueError: text is neither str nor bytes.
      KeyError: text has an unknown word and the vocabulary has no [UNK].
    """
    return self._look_up(text, self._chunk_ids)

  def convert_tokens_to_ids(self, tokens):
    """List of int ids of word pieces; KeyError for one that the vocabulary does not have."""
    return convert_by_vocab(self.vocab, tokens)

  def convert_ids_to_tokens(self, ids):
    """List of str word pieces of ids; KeyError for one that the vocabulary does not have."""
    return convert_by_vocab(self.inv_vocab, ids)

  def _look_up(self, text, cache):
    """Cuts text where its tokenization is sure to be cut, and joins what the cache has for each."""
    text = convert_to_unicode(text)
    if type(self.basic_tokenizer) is not BasicTokenizer or (
      type(self.wordpiece_tokenizer) is not WordpieceTokenizer
    ):
      return list(cache.compute(text))  # others may look at the whole text
    # Printable text has no separator but the space: the usual case, found out in no time.
    if not text.isprintable():
      text = _DELETED_SEPARATORS.sub("", text)
    return list(itertools.chain.from_iterable(map(cache.__getitem__, text.split())))

  def _tokenize_chunk(self, text):
    """Tuple of the word pieces of text, without the cache."""
    if not self._kept_tokens:
      return tuple(self._split(text))
    pieces = []
    for i, part in enumerate(self._kept_tokens.split(text)):
      # split() puts what was matched between what was not.
      pieces += [part] if i % 2 else self._split(part)
    return tuple(pieces)

  def _split(self, text):
    pieces, split_word = [], self.wordpiece_tokenizer.tokenize
    for word in self.basic_tokenizer.tokenize(text):
      pieces += split_word(word)
    return pieces

  def _encode_chunk(self, text):
    return tuple(map(self.vocab.__getitem__, self._tokenize_chunk(text)))


class BasicTokenizer:
  """Cleans text and splits it at whitespace, Chinese characters and punctuation."""

  def __init__(self, do_lower_case=True, strip_accents=None):
    """Sets what is done to letters.

    Args:
      do_lower_case: bool, whether to lower-case the text.
      strip_accents: bool, whether to remove accents; None does what do_lower_case does.
    """
    self.do_lower_case = do_lower_case
    self.strip_accents = strip_accents

  def tokenize(self, text):
    """Splits text into words and punctuation marks.

    Args:
      text: str, or bytes of UTF-8.

    Returns:
      List of str: "Où est-il?" -> ["ou", "est", "-", "il", "?"].

    Raises:
      ValueError: text is neither str nor bytes.
    """
    text = self._clean_text(convert_to_unicode(text))
    text = self._tokenize_chinese_chars(text)
    # Neither step looks across a space, so the text can be treated as a whole before the split.
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
    """Whether an int code point is in one of the blocks of Chinese characters."""
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

  def __init__(self, vocab, unk_token="[UNK]", max_input_chars_per_word=200):
    """Keeps the vocabulary.

    Args:
      vocab: the word pieces, in anything that has a fast `in` and can be iterated (dict, set).
        Pieces that are added later may go unnoticed.
      unk_token: str that stands for a word which the pieces cannot spell.
      max_input_chars_per_word: longer words, in characters, become unk_token unseen.
    """
    self.vocab = vocab
    self.unk_token = unk_token
    self.max_input_chars_per_word = max_input_chars_per_word
    self._longest = _longest_pieces(vocab)

  def tokenize(self, text):
    """Splits words into word pieces.

    Args:
      text: str, or bytes of UTF-8: words with whitespace between them, from a BasicTokenizer.

    Returns:
      List of str: "unaffable" -> ["una", "##ffa", "##ble"], "##" marking what goes on a word.

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
  """Length of the longest piece that begins with given three characters, "##" not counted.

    ["una", "unable", "##ffa", "a"] -> {"una": 6, "##f": 5, "##ffa": 5, "a": 1}

  Of pieces that begin with any other three characters there are at most the first two or one.
  """
  longest = {}
  for piece in vocab:
    length = len(piece)
    for start in (piece[:3], piece[:5]) if piece[:2] == "##" else (piece[:3],):
      if length > longest.get(start, 0):
        longest[start] = length
  return longest


def _is_whitespace(char):
  """Whether a character counts as a space: space, tab, newline, return or category Zs."""
  return char in " \t\n\r" or unicodedata.category(char) == "Zs"


def _is_control(char):
  """Whether a character is deleted: category Cc or Cf, but tab, newline and return are spaces."""
  return char not in "\t\n\r" and unicodedata.category(char) in {"Cc", "Cf"}


def _is_punctuation(char):
  """Whether a character is punctuation: category P*, and all of ASCII's that is no letter or digit.

  So "$", "+", "<", "^", "`", "|" and "~" are punctuation, though Unicode calls them symbols.
  """
  cp = ord(char)
  if 33 <= cp <= 47 or 58 <= cp <= 64 or 91 <= cp <= 96 or 123 <= cp <= 126:
    return True
  return unicodedata.category(char).startswith("P")


def _is_chinese_char(cp):
  return any(first <= cp <= last for first, last in _CHINESE_BLOCKS)


def _cleaned(cp):
  """What a code point becomes in clean text, for str.translate: None deletes it."""
  char = chr(cp)
  if cp in {0, 0xFFFD} or _is_control(char):
    return None
  return " " if _is_whitespace(char) else cp


def _chinese_spaced(cp):
  """What a code point becomes with spaces round Chinese characters."""
  return f" {chr(cp)} " if _is_chinese_char(cp) else cp


def _without_mark(cp):
  """A code point itself, or None if it is a non-spacing mark."""
  return None if unicodedata.category(chr(cp)) == "Mn" else cp


# Filled with the characters that occur: asking unicodedata for each of a text would be slow.
_CLEANED = _Computed(_cleaned)
_CHINESE_SPACED = _Computed(_chinese_spaced)
_WITHOUT_MARKS = _Computed(_without_mark)
_IS_PUNCTUATION = _Computed(_is_punctuation)
