"""The examples of multilingual.md, read out of the document, against the tokenizer."""

import os
import pathlib
import re
import unicodedata

import pytest

import tokenization

DOCUMENT = pathlib.Path(tokenization.__file__).parent / "docs" / "multilingual.md"

# Column of the document -> name of the released model, and whether text is lower-cased.
COLUMNS = {
  "lower-cased": (None, True),
  "cased": (None, False),
  "multi_cased, cased": ("multi_cased_L-12_H-768_A-12", False),
  "multi_cased, lower-cased by mistake": ("multi_cased_L-12_H-768_A-12", True),
  "chinese, lower-cased": ("chinese_L-12_H-768_A-12", True),
  "chinese, cased by mistake": ("chinese_L-12_H-768_A-12", False),
}


def cells(line):
  return [cell.strip().strip("`") for cell in line.strip("|").split("|")]


def read_examples():
  """List of (column, text, expected tokens): each cell of the tables that begin with "text"."""
  found, columns = [], None
  for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
    if not line.startswith("|"):
      columns = None
    elif columns is None:
      columns = cells(line)
    elif not line.startswith("|-") and set(columns[1:]) <= set(COLUMNS):
      text, *expected = cells(line)
      found += [
        (column, text, re.sub(r"\\u(\w{4})", lambda m: chr(int(m[1], 16)), tokens).split())
        for column, tokens in zip(columns[1:], expected)
      ]
  return found


EXAMPLES = read_examples()
WORDS = [example for example in EXAMPLES if COLUMNS[example[0]][0] is None]
PIECES = [example for example in EXAMPLES if COLUMNS[example[0]][0]]


def test_all_columns_are_found():
  assert {column for column, _, _ in EXAMPLES} == set(COLUMNS)
  assert len(WORDS) >= 16 and len(PIECES) >= 26


@pytest.mark.parametrize(("column", "text", "expected"), WORDS)
def test_words(column, text, expected):
  assert tokenization.BasicTokenizer(COLUMNS[column][1]).tokenize(text) == expected


@pytest.mark.parametrize(("column", "text", "expected"), PIECES)
def test_word_pieces(tmp_path, column, text, expected):
  """With a vocabulary of the document's pieces alone.

  It is a part of the released one, in which the longest pieces are therefore the same.
  """
  model, lower_case = COLUMNS[column]
  pieces = {p for other, _, tokens in PIECES for p in tokens if COLUMNS[other][0] == model}
  path = tmp_path / "vocab.txt"
  path.write_text("\n".join(sorted(pieces | {"[UNK]"})) + "\n", encoding="utf-8")
  assert tokenization.FullTokenizer(str(path), lower_case).tokenize(text) == expected


@pytest.mark.parametrize(("column", "text", "expected"), PIECES)
def test_released_vocabularies(column, text, expected):
  """With the released vocabularies, where BERT_MODELS names the directory of their models."""
  model, lower_case = COLUMNS[column]
  path = pathlib.Path(os.environ.get("BERT_MODELS", "")) / model / "vocab.txt"
  if not path.exists():
    pytest.skip(f"BERT_MODELS names no directory with {model}/vocab.txt")
  assert tokenization.FullTokenizer(str(path), lower_case).tokenize(text) == expected


# ---- Statements of the document ------------------------------------------------------------------


def lowered(text):
  return tokenization.BasicTokenizer(True).tokenize(text)


def test_what_lower_casing_makes_one():
  for one, other in (("été", "ete"), ("año", "ano"), ("で", "て")):
    assert lowered(one) == lowered(other)
    assert tokenization.BasicTokenizer(False).tokenize(one) == [one]


def test_indic_and_thai_marks():
  for char in "ुे्ं" + "ัี่":
    assert unicodedata.category(char) == "Mn" and lowered("क" + char) == ["क"]
  assert lowered("कि") == ["कि"]


def test_korean_syllables_become_letters():
  (word,) = lowered("한국")
  assert len(word) == 6 and unicodedata.normalize("NFC", word) == "한국"


def test_scripts_that_are_not_split():
  for word in ("ภาษาไทย", "ພາສາລາວ", "ភាសាខ្មែរ", "မြန်မာ", "ひらがな", "カタカナ", "한국어"):
    assert tokenization.BasicTokenizer(False).tokenize(word) == [word]
  assert tokenization.WordpieceTokenizer({"ก", "##ก"}).tokenize("ก" * 201) == ["[UNK]"]


def test_blocks_of_chinese_characters():
  for char in "一\u9fff\u3400\u4dbf豈\ufaff\U00020000\U0002ceaf\U0002f800\U0002fa1f":
    assert tokenization.BasicTokenizer(False).tokenize(f"か{char}가") == ["か", char, "가"]


def test_accents_may_stay():
  tokenizer = tokenization.BasicTokenizer(True, strip_accents=False)
  assert tokenizer.tokenize("ÉTÉ हिन्दी 한국") == ["été", "हिन्दी", "한국"]
