"""Lines of text to examples and features."""

import types

import pytest
from tiny_runs import SPECIAL

import tokenization
from toolkit.support import files
from toolkit.tasks import vectors
from toolkit.tasks.vectors import InputExample

VOCAB = [*SPECIAL, "old", "mill", "river", "lamp", "keeper", "storm", "un", "##easy", "."]


@pytest.fixture(name="tokenizer")
def _tokenizer(tmp_path):
  path = tmp_path / "vocab.txt"
  path.write_text("".join(f"{piece}\n" for piece in VOCAB))
  return tokenization.FullTokenizer(str(path))


def test_lines_to_examples(tmp_path):
  path = tmp_path / "a.txt"
  path.write_bytes(b"\xef\xbb\xbf a b \r\nc ||| d\n\na ||| b ||| c\na|||b\na\xc2\x85b ||| ")
  examples = vectors.read_examples(str(path))
  assert [(e.unique_id, e.text_a, e.text_b) for e in examples] == [
    (0, "a b", None),
    (1, "c", "d"),
    (2, "", None),
    (3, "a ||| b", "c"),
    (4, "a|||b", None),
    (5, "a\x85b |||", None),
  ]


def test_examples_are_read_when_they_are_needed(tmp_path):
  path = tmp_path / "a.txt"
  path.write_bytes(b"old\n" * 20000 + b"\xff\n")
  stream = vectors.stream_examples(str(path))
  assert isinstance(stream, types.GeneratorType)
  assert next(stream).text_a == "old"  # the last line, which is broken, is not reached
  with pytest.raises(files.InputError, match=r"a\.txt:20001: found byte 0xff"):
    list(stream)


def test_features(tokenizer, log):
  examples = [InputExample(unique_id=5, text_a="Uneasy mill", text_b="lamp")]
  (feature,) = vectors.convert_examples_to_features(
    examples=examples, seq_length=9, tokenizer=tokenizer
  )
  ids = [VOCAB.index(token) for token in feature.tokens]
  assert feature.tokens == ["[CLS]", "un", "##easy", "mill", "[SEP]", "lamp", "[SEP]"]
  assert feature.unique_id == 5 and not feature.is_truncated
  assert feature.input_ids == [*ids, 0, 0]
  assert feature.input_mask == [1] * 7 + [0, 0]
  assert feature.input_type_ids == [0] * 5 + [1, 1, 0, 0]
  assert "unique_id: 5" in log.text and "tokens: [CLS] un ##easy mill [SEP] lamp [SEP]" in log.text
  assert "input_type_ids: 0 0 0 0 0 1 1 0 0" in log.text


@pytest.mark.parametrize(
  ("text_a", "text_b", "length", "tokens"),
  [
    ("old mill river", None, 4, "[CLS] old mill [SEP]"),
    ("old mill", "lamp", 5, "[CLS] old [SEP] lamp [SEP]"),
    ("old mill river", "lamp storm keeper", 6, "[CLS] old mill [SEP] lamp [SEP]"),
    ("old", "lamp", 4, "[CLS] old [SEP]"),
  ],
)
def test_truncation(tokenizer, text_a, text_b, length, tokens):
  feature = vectors.convert_example(InputExample(0, text_a, text_b), length, tokenizer)
  assert " ".join(feature.tokens) == tokens
  assert feature.is_truncated and len(feature.input_ids) == length
  assert sum(feature.input_mask) == len(feature.tokens)
