"""Learns a WordPiece vocabulary from text, or adds words of a field to a released one.

  python learn_vocab.py --input_file='corpus/*.txt.gz' --vocab_size=30000 \\
    --output_file=vocab.txt

  python learn_vocab.py --input_file=medicine.txt \\
    --fill_unused_of=$BERT/vocab.txt --min_frequency=10 --max_words=500 \\
    --output_file=medicine_vocab.txt

The first needs the package in requirements-vocab.txt. Words are what tokenization.BasicTokenizer
makes of the text, so that the vocabulary has a piece for whatever the tokenizer will look up. The
same text gives the same vocabulary. The second keeps the number of each other word piece, so that
the released weights can be used with it.
"""

from toolkit.support import quiet_start  # noqa: F401, first of all  # isort: skip

import collections
import os
import re
from collections.abc import Collection, Iterable
from typing import Optional

from absl import logging

import tokenization
from toolkit.support import command_line, files, logs

try:
  import tokenizers
except ImportError:  # needed by `learn` alone
  tokenizers = None

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# The tokenizer maps longer words to [UNK], whatever the vocabulary.
MAX_WORD_LENGTH = 200

flags = command_line.ScriptFlags()
FLAGS = flags.FLAGS
flags.DEFINE_string(
  "input_file",
  None,
  "Text files, also .gz and .bz2: comma-separated names or patterns.",
  group="essential",
)
flags.DEFINE_string("output_file", None, "File for the vocabulary.", group="essential")
flags.DEFINE_integer(
  "vocab_size",
  30522,
  "Number of word pieces to learn, special ones included. A small text may have fewer.",
  lower_bound=1,
  group="essential",
)
flags.DEFINE_integer(
  "min_frequency",
  1,
  "Minimum number of occurrences of a word piece, single characters too. Words with rarer ones "
  "become [UNK]. With --fill_unused_of: of a word.",
  lower_bound=1,
  group="essential",
)
flags.DEFINE_integer(
  "max_characters",
  None,
  "Number of different characters to keep, the most frequent ones. Words with others become "
  "[UNK]. Default: all.",
  lower_bound=1,
  group="essential",
)
flags.DEFINE_bool(
  "do_lower_case",
  True,
  "Lower-case the text, and remove accents. Right for uncased models; --nodo_lower_case is for "
  "cased ones.",
  group="essential",
)
flags.DEFINE_string(
  "fill_unused_of",
  None,
  "Vocabulary whose [unused...] lines are replaced by words of the text. Words that are a single "
  "piece already are left out.",
  group="essential",
)
flags.DEFINE_integer(
  "max_words",
  None,
  "Maximum number of words to add, with --fill_unused_of. Default: the number of [unused...] "
  "lines.",
  lower_bound=1,
  group="essential",
)


def main(_: list[str]) -> None:
  """Writes a vocabulary by the flags."""
  settings = flags.settings()
  settings.require(["input_file", "output_file"], "every run")
  _refuse(settings, ["vocab_size", "max_characters"] if settings.fill_unused_of else ["max_words"])
  paths = files.find(settings.input_file, "input_file")
  check_output(settings.output_file, [*paths, *filter(None, [settings.fill_unused_of])])
  text = (fill if settings.fill_unused_of else learn)(settings, paths)
  files.write_text(settings.output_file, text)
  logs.notice("Wrote %s", settings.output_file)


def _refuse(settings, names):
  """Checks that flags without effect are not given."""
  for name in names:
    if settings.is_given(name):
      mode = "with" if settings.fill_unused_of else "without"
      raise files.InputError(f"--{name} has no effect {mode} --fill_unused_of; leave it out")


def check_output(output: str, inputs: list[str]) -> None:
  """Checks that the output file can be written, and is none of the inputs.

  Raises:
    files.InputError: it cannot be written, or is an input.
  """
  if os.path.realpath(output) in map(os.path.realpath, inputs):
    raise files.InputError(f"--output_file: {output} is read too; give another name")
  if not os.path.basename(output) or files.is_directory(output):
    raise files.InputError(f"--output_file: {output!r} is not a name for a file")
  files.make_directory(os.path.dirname(output) or ".", "output_file")


# ---- Words --------------------------------------------------------------------------------------


def count_words(lines: Iterable[str], do_lower_case: bool) -> collections.Counter[str]:
  """Counts the words and punctuation marks of tokenization.BasicTokenizer.

    ["The dog, the cat"], True -> {"the": 2, "dog": 1, ",": 1, "cat": 1}

  Words over MAX_WORD_LENGTH are left out. Memory is proportional to the number of different strings
  between spaces.
  """
  chunks: collections.Counter[str] = collections.Counter()
  for line in lines:
    chunks.update(line.split(" "))  # a space always ends a word
  tokenizer = tokenization.BasicTokenizer(do_lower_case)
  words: collections.Counter[str] = collections.Counter()
  for chunk, count in chunks.items():
    for word in tokenizer.tokenize(chunk):
      if len(word) <= MAX_WORD_LENGTH:
        words[word] += count
  return words


def _read_words(settings, paths):
  words = count_words(
    (line for path in paths for line in files.stream_lines(path)), settings.do_lower_case
  )
  if not words:
    raise files.InputError(f"--input_file: no words in {settings.input_file}")
  logs.notice("%d words in the text, %d different ones", sum(words.values()), len(words))
  return words


def _by_frequency(counts):
  """Sorts the keys of a Counter, the most frequent first, those of one frequency by themselves."""
  return sorted(counts, key=lambda key: (-counts[key], key))


# ---- Learning -----------------------------------------------------------------------------------


def learn(settings: command_line.Settings, paths: list[str]) -> str:
  """Returns the text of a new vocabulary from the words of files, by the flags."""
  check_library()
  pieces = learn_pieces(
    _read_words(settings, paths),
    settings.vocab_size,
    settings.min_frequency,
    settings.max_characters,
  )
  if len(pieces) < settings.vocab_size:
    logging.warning(
      "The text has no more than %d word pieces that are seen %d times, not --vocab_size=%d",
      len(pieces),
      settings.min_frequency,
      settings.vocab_size,
    )
  logs.notice(
    '%d word pieces; write "vocab_size": %d in bert_config.json', len(pieces), len(pieces)
  )
  return "".join(f"{piece}\n" for piece in pieces)


def check_library() -> None:
  """Checks that the library of learn_pieces is installed.

  Raises:
    files.InputError: it is not.
  """
  if tokenizers is None:
    raise files.InputError(
      "the package tokenizers is missing; pip install --no-deps -r requirements-vocab.txt"
    )


def learn_pieces(
  counts: dict[str, int],
  vocab_size: int,
  min_frequency: int = 1,
  max_characters: Optional[int] = None,
) -> list[str]:
  """Learns word pieces: single characters, and merges of the most frequent neighbours.

  Args:
    counts: word -> its number of occurrences.
    vocab_size: most pieces, special ones included.
    min_frequency: least number of occurrences of a piece, single characters too.
    max_characters: number of characters to keep, the most frequent; None for all. Words with others
      are left out; the tokenizer maps them to [UNK].

  Returns:
    SPECIAL_TOKENS, characters, characters within words ("##a"), then longer pieces in the order of
    their merging. The same counts give the same list.

  Raises:
    files.InputError: the characters alone are more than vocab_size.
  """
  characters: collections.Counter[str] = collections.Counter()
  for word, count in counts.items():
    for character in word:
      characters[character] += count
  frequent = [c for c in _by_frequency(characters) if characters[c] >= min_frequency]
  kept = set(frequent[:max_characters])
  counts = {word: count for word, count in counts.items() if kept.issuperset(word)}
  inner = {f"##{character}" for word in counts for character in word[1:]}
  single = [*SPECIAL_TOKENS, *sorted(kept), *sorted(inner)]
  if vocab_size < len(single):
    raise files.InputError(
      f"--vocab_size={vocab_size} is too small: special tokens and {len(kept)} different "
      f"characters need {len(single)} lines; raise it, or limit --max_characters"
    )
  # The characters are given because the library numbers them in a random order otherwise, and
  # breaks ties between merges by these numbers.
  trainer = tokenizers.trainers.WordPieceTrainer(
    vocab_size=vocab_size, min_frequency=min_frequency, special_tokens=single, show_progress=False
  )
  tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece())
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.CharDelimiterSplit(" ")
  tokenizer.train_from_iterator(_as_text(counts), trainer)
  numbers = tokenizer.get_vocab()
  return sorted(numbers, key=numbers.get)


def _as_text(counts, most=1000):
  """Yields each word as many times as it was counted: {"a": 3}, 2 -> "a a", "a"."""
  for word in sorted(counts):
    for done in range(0, counts[word], most):
      yield " ".join([word] * min(most, counts[word] - done))


# ---- Filling ------------------------------------------------------------------------------------


def fill(settings: command_line.Settings, paths: list[str]) -> str:
  """Returns the text of --fill_unused_of with words of files, by the flags."""
  with files.input_checks():
    tokenization.validate_vocab(settings.fill_unused_of)
    vocab = tokenization.load_vocab(settings.fill_unused_of)
  if tokenization.guess_lower_case(vocab) not in (None, settings.do_lower_case):
    logging.warning(
      "--do_lower_case=%s, but %s looks like a vocabulary of text of the other casing",
      settings.do_lower_case,
      settings.fill_unused_of,
    )
  words = missing_words(_read_words(settings, paths), vocab, settings.min_frequency)[
    : settings.max_words
  ]
  if not words:
    raise files.InputError(
      f"--input_file: {settings.fill_unused_of} has each word already that is seen "
      f"{settings.min_frequency} times or more"
    )
  text = files.read_bytes(settings.fill_unused_of).decode("utf-8")
  text, num_filled = fill_unused(text, words)
  if not num_filled:
    raise files.InputError(f"--fill_unused_of: {settings.fill_unused_of} has no [unused...] line")
  shown = ", ".join(words[: min(num_filled, 10)])
  logs.notice("%d unused lines became words: %s ...", num_filled, shown)
  if num_filled < len(words):
    logging.warning("There is no unused line left for %d words", len(words) - num_filled)
  return text


def missing_words(
  counts: dict[str, int], vocab: Collection[str], min_frequency: int = 1
) -> list[str]:
  """Returns the words without a whole piece in a vocabulary, the most frequent first.

  Args:
    counts: word -> its number of occurrences.
    vocab: word pieces.
    min_frequency: least number of occurrences.
  """
  frequent = {word: count for word, count in counts.items() if count >= min_frequency}
  return [word for word in _by_frequency(frequent) if word not in vocab]


def fill_unused(text: str, words: list[str]) -> tuple[str, int]:
  """Replaces the [unused...] lines of a vocabulary by words; returns it and their number.

  "[unused0]\\nthe\\n[unused1]\\n", ["stent"] -> "stent\\nthe\\n[unused1]\\n", 1
  """
  lines = text.split("\n")
  slots = [i for i, line in enumerate(lines) if re.fullmatch(r"\s*\[unused\d+\]\s*", line)]
  for slot, word in zip(slots, words):
    lines[slot] = lines[slot].replace(lines[slot].strip(), word)  # the line's end stays as it is
  return "\n".join(lines), min(len(slots), len(words))


if __name__ == "__main__":
  command_line.run(main, flags)
