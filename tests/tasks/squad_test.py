"""Reading SQuAD files, cutting contexts into windows, and keeping and writing the features."""
# ruff: noqa: RUF001  (full-width commas are parts of the texts)

import collections
import json
import os
import random

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import given
from hypothesis import strategies as st

import tokenization
from toolkit.support import files, workers
from toolkit.tasks import squad
from toolkit.tasks.squad import DocSpan, Settings, SquadExample

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WORDS = ("where", "did", "ada", "live", "?", "lived", "in", "london", ".", "(", ")", "-", "##s")
VOCAB = (*SPECIAL, *WORDS, "1895", "1943")
IDS = {token: i for i, token in enumerate(VOCAB)}


@pytest.fixture(name="vocab_file", scope="module")
def _vocab_file(tmp_path_factory):
  path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
  path.write_text("".join(f"{token}\n" for token in VOCAB))
  return str(path)


@pytest.fixture(name="tokenizer", scope="module")
def _tokenizer(vocab_file):
  return tokenization.FullTokenizer(vocab_file)


@pytest.fixture(name="write")
def _write(tmp_path):
  """Function that writes a value as JSON, or text as it is, and returns the path."""

  def write(content, name="squad.json"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)

  return write


CONTEXT = "Ada lived in London ."
QUESTION = ["[CLS]", "where", "did", "ada", "live", "?", "[SEP]"]


def qas(qas_id="q", question="Where did Ada live ?", answer=None, start=None, **more):
  """A question of a SQuAD file, with an answer if one is given."""
  if answer is not None:
    more["answers"] = [{"text": answer, "answer_start": start}]
  return {"id": qas_id, "question": question, **more}


def squad_file(*questions, context=CONTEXT):
  return {"data": [{"paragraphs": [{"context": context, "qas": list(questions)}]}]}


# ---- Examples -----------------------------------------------------------------------------------


def words_one_by_one(text):
  """Words, and the word of each character: a plain loop, as the specification of split_words."""
  words, word_of, in_word = [], [], False
  for char in text:
    is_space = char in " \t\r\n\u202f"
    if not is_space and not in_word:
      words.append("")
    if not is_space:
      words[-1] += char
    in_word = not is_space
    word_of.append(len(words) - 1)
  return words, word_of


TEXT = st.text(st.sampled_from("ab. \t\r\n\u202f\u00a0\u3000\u2028\x0b\x85"), max_size=30)


@given(TEXT, st.data())
def test_words_and_their_places(text, data):
  words, word_of = words_one_by_one(text)
  found, offsets = squad.split_words(text)
  assert found == words
  assert [text[o : o + len(w)] for o, w in zip(offsets, words)] == words
  if text:
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start, len(text) - 1))
    first, last = squad._words_of(start, end + 1 - start, offsets)
    assert (first, last) == (max(0, word_of[start]), word_of[end])


def test_example_for_training(write):
  path = write(squad_file(qas(answer="London", start=13)))
  (example,) = squad.read_squad_examples(path, is_training=True)
  assert (example.qas_id, example.question_text) == ("q", "Where did Ada live ?")
  assert example.doc_tokens == ["Ada", "lived", "in", "London", "."]
  assert (example.start_position, example.end_position) == (3, 3)
  assert (example.orig_answer_text, example.is_impossible) == ("London", False)
  assert (example.paragraph_text, example.word_offsets) == (CONTEXT, [0, 4, 10, 13, 20])
  assert example.answer_start == 13
  for text in (str(example), repr(example)):
    assert "q" in text and "[Ada lived in London .]" in text and "start_position: 3" in text
    assert "offsets" not in text and "paragraph" not in text


def test_answers_are_not_read_for_prediction(write):
  broken = [{"text": 5, "answer_start": -1}]
  path = write(squad_file(qas(answers=broken, is_impossible="?"), qas("r"), qas(7)))
  examples = squad.read_squad_examples(path, is_training=False)
  assert [e.qas_id for e in examples] == ["q", "r", "7"]
  for example in examples:
    assert (example.start_position, example.end_position) == (None, None)
    assert (example.orig_answer_text, example.is_impossible) == (None, False)
    assert example.answer_start is None
    assert "position" not in str(example)


def test_questions_of_a_paragraph_share_its_words(write):
  first, second = squad.read_squad_examples(write(squad_file(qas("a"), qas("b"))), False)
  assert first.doc_tokens is second.doc_tokens and first.word_offsets is second.word_offsets


@pytest.mark.parametrize(
  ("context", "answer", "start", "words"),
  [
    ("He left (in 1895-1943).", "1895", 12, (3, 3)),  # a part of a word
    ("Ada  lived\nin London", "lived in", 5, (1, 2)),  # spaces are not those of the answer
    ("Ada lived", " lived", 3, (0, 1)),  # a space belongs to the word before it
    ("  Ada lived", " Ada", 1, (0, 0)),  # or to the first
    ("to the\u00a0river bank", "the river", 3, (1, 1)),
    ("to the river bank", "the\u00a0river", 3, (1, 2)),
    ("in \u6771\u4eac\u3000\u5927\u962a", "\u6771\u4eac \u5927\u962a", 3, (1, 1)),
    ("in\u202fLondon", "London", 3, (1, 1)),
  ],
)
def test_answers_that_are_found(write, context, answer, start, words):
  path = write(squad_file(qas(answer=answer, start=start), context=context))
  (example,) = squad.read_squad_examples(path, is_training=True)
  assert (example.start_position, example.end_position) == words
  assert example.orig_answer_text == answer


def test_lost_answers_are_left_out_and_listed_once(write, log):
  lost = [qas(f"lost{i}", answer="Paris", start=13) for i in range(11)]
  blank = qas("blank", answer=" ", start=3)
  empty = qas("empty", answer="", start=3)
  path = write(squad_file(empty, blank, *lost, qas(answer="London", start=13)))
  examples = squad.read_squad_examples(path, is_training=True)
  assert [e.qas_id for e in examples] == ["q"]
  (record,) = [r for r in log.records if r.levelname == "WARNING"]
  lines = record.getMessage().split("\n")
  assert lines[0].startswith(f"{path}: 13 of 14 questions are left out")
  assert lines[3] == "  lost0: Could not find answer: 'London' vs. 'Paris'"
  assert len(lines) == 1 + 10 + 1 and lines[-1] == "  ..."


def test_first_of_several_answers_is_used(write, log):
  answers = [{"text": "London", "answer_start": 13}, {"text": "in London", "answer_start": 10}]
  path = write(squad_file(qas(answers=answers), qas("r", answer="Ada", start=0)))
  examples = squad.read_squad_examples(path, is_training=True)
  assert [e.orig_answer_text for e in examples] == ["London", "Ada"]
  assert "1 of 2 questions have more than one answer" in log.text


@pytest.mark.parametrize("negative", [{"is_impossible": True, "answers": []}, {"answers": []}])
def test_questions_without_an_answer(write, log, negative):
  known = qas("r", answer="Ada", start=0, is_impossible=False)
  path = write(squad_file(qas(**negative), known))
  impossible, answered = squad.read_squad_examples(path, True, version_2_with_negative=True)
  assert (impossible.start_position, impossible.end_position) == (-1, -1)
  assert (impossible.orig_answer_text, impossible.is_impossible) == ("", True)
  assert (answered.start_position, answered.is_impossible) == (0, False)
  assert "left out" not in log.text
  examples = squad.read_squad_examples(path, True)
  assert [e.qas_id for e in examples] == ["r"]
  assert "1 of 2 questions have no answer" in log.text
  assert "--version_2_with_negative" in log.text


QAS = "data[0].paragraphs[0].qas[0]"


@pytest.mark.parametrize(
  ("content", "place", "message"),
  [
    ('{"data": [', ":1", "is not valid JSON: Expecting value (column 11)"),
    ([], "", 'found a list, should be an object with "data"'),
    ({"version": "1.1"}, "", 'has no "data"'),
    ({"data": {}}, "", '"data" is an object {}, should be a list'),
    ({"data": [7]}, "data[0]", 'found a whole number, should be an object with "paragraphs"'),
    ({"data": [{"title": "x"}]}, "data[0]", 'has no "paragraphs"'),
    (
      {"data": [{"paragraphs": []}, {"paragraphs": [{"qas": []}]}]},
      "data[1].paragraphs[0]",
      'has no "context"',
    ),
    (
      {"data": [{"paragraphs": [{"context": None, "qas": []}]}]},
      "data[0].paragraphs[0]",
      '"context" is null, should be a text',
    ),
    ({"data": [{"paragraphs": [{"context": ""}]}]}, "data[0].paragraphs[0]", 'has no "qas"'),
    (squad_file({"question": "?"}), QAS, 'has no "id"'),
    (squad_file({"id": True, "question": "?"}), QAS, "should be a text or a whole number"),
    (squad_file({"id": "q"}), QAS, 'has no "question"'),
    (squad_file(qas(question=3)), QAS, '"question" is a whole number, should be a text'),
    (squad_file(qas("a"), qas("b"), qas("a")), QAS, None),
    (squad_file(qas(5), qas("5")), QAS, None),
    ({"data": []}, "", "has no questions: there is none at all"),
    (squad_file(), "", "has no questions: there is none at all"),
  ],
)
def test_what_is_not_squad(write, content, place, message):
  path = write(content)
  with pytest.raises(files.InputError) as caught:
    squad.read_squad_examples(path, is_training=False)
  if message is None:
    assert f"again; {path}: {place} has it" in str(caught.value)
  else:
    place = place if place.startswith(":") else f": {place}".rstrip(": ")
    assert str(caught.value).startswith(f"{path}{place}: ") and message in str(caught.value)


@pytest.mark.parametrize(
  ("question", "place", "message"),
  [
    (qas(), "", 'has no "answers"'),
    (qas(is_impossible=False), "", 'has no "answers"'),
    (qas(answers=[], is_impossible=False), "", '"answers" is empty, and "is_impossible"'),
    (qas(answers={}), "", '"answers" is an object {}, should be a list'),
    (qas(is_impossible=1), "", '"is_impossible" is a whole number, should be true or false'),
    (qas(answers=["London"]), ".answers[0]", 'found a text, should be an object with "text"'),
    (qas(answers=[{"text": "London"}]), ".answers[0]", 'has no "answer_start"'),
    (qas(answer="London", start=1.5), ".answers[0]", "is a number, should be a whole number"),
    (qas(answer="London", start=-1), ".answers[0]", '"answer_start" -1 '),
    (qas(answer="London", start=16), ".answers[0]", "outside of the context of 21 characters"),
    (qas(answer="", start=21), ".answers[0]", '"answer_start" 21 '),
  ],
)
def test_answers_that_cannot_be_meant(write, question, place, message):
  path = write(squad_file(question))
  with pytest.raises(files.InputError) as caught:
    squad.read_squad_examples(path, is_training=True)
  assert str(caught.value).startswith(f"{path}: {QAS}{place}: ") and message in str(caught.value)


def test_no_question_is_left(write):
  path = write(squad_file(qas(answer="Paris", start=0)))
  with pytest.raises(files.InputError, match=r"has no questions: none of 1 can be used"):
    squad.read_squad_examples(path, is_training=True)


# ---- Windows ------------------------------------------------------------------------------------


def test_spans():
  assert squad._doc_spans(10, 6, 3) == [(0, 6), (3, 6), (6, 4)]
  assert squad._doc_spans(6, 6, 3) == [(0, 6)]
  assert squad._doc_spans(7, 3, 100) == [(0, 3), (3, 3), (6, 1)]  # no piece is passed over
  assert squad._doc_spans(0, 6, 3) == [(0, 0)]


def test_max_context_by_hand():
  spans = [DocSpan(0, 6), DocSpan(3, 6), DocSpan(6, 4)]
  best = [
    [i for i in range(3) if squad._check_is_max_context(spans, i, piece)] for piece in range(11)
  ]
  # Piece 4 shows 4 and 1 in the first, 1 and 4 in the second: a tie. Piece 7: 4 and 1, 1 and 2, but
  # the first of these windows is longer. Piece 10 is in none.
  assert best == [[0], [0], [0], [0], [0], [1], [1], [1], [2], [2], []]


@given(st.integers(0, 60), st.integers(1, 20), st.integers(1, 25))
def test_max_context_of_all_pieces_at_once(num_pieces, width, stride):
  spans = squad._doc_spans(num_pieces, width, stride)
  found = squad._spans_with_flags(num_pieces, width, stride)
  assert [span for span, _ in found] == spans
  for index, (span, flags) in enumerate(found):
    pieces = range(span.start, span.start + span.length)
    assert flags.tolist() == [squad._check_is_max_context(spans, index, p) for p in pieces]


def test_long_contexts():
  num_pieces, width, stride = 500_000, 320, 128  # 3,905 windows: a search of all per piece is slow
  found = squad._spans_with_flags(num_pieces, width, stride)
  spans = [span for span, _ in found]
  assert sum(span.length for span in spans) <= num_pieces * width / stride + width
  assert sum(int(flags.sum()) for _, flags in found) == num_pieces  # each piece has one best window
  for index in (0, 1, 2000, len(spans) - 1):
    near = range(max(0, index - 3), min(len(spans), index + 4))
    for piece in range(spans[index].start, spans[index].start + spans[index].length, 7):
      expected = squad._check_is_max_context([spans[i] for i in near], index - near.start, piece)
      assert found[index][1][piece - spans[index].start] == expected


def test_answer_is_narrowed_to_its_pieces(tokenizer):
  pieces = tokenizer.tokenize("in (1895-1943). 1895")
  assert pieces[1:7] == ["(", "1895", "-", "1943", ")", "."]
  improve = squad._improve_answer_span
  assert improve(pieces, 1, 6, tokenizer, "1895") == (2, 2)
  assert improve(pieces, 1, 6, tokenizer, "1895-1943") == (2, 4)
  assert improve(pieces, 1, 6, tokenizer, "London") == (1, 6)
  assert improve(pieces, 1, 6, tokenizer, "in") == (1, 6)  # not among these pieces
  assert improve(pieces, 1, 6, tokenizer, "") == (1, 6)


@given(st.lists(st.sampled_from("ab"), min_size=1, max_size=12), st.data())
def test_answer_is_the_first_of_its_kind(pieces, data):
  start = data.draw(st.integers(0, len(pieces) - 1))
  end = data.draw(st.integers(start, len(pieces) - 1))
  wanted = data.draw(st.lists(st.sampled_from("ab"), max_size=4))
  spans = [(i, j) for i in range(start, end + 1) for j in range(end, i - 1, -1)]
  matching = [(i, j) for i, j in spans if pieces[i : j + 1] == wanted]
  expected = matching[0] if matching else (start, end)
  assert squad._find_pieces(pieces, start, end, wanted) == expected


def test_answer_is_looked_for_once_at_each_piece():
  class Counting(list):
    count = 0

    def __getitem__(self, places):
      self.count += places.stop - places.start
      return super().__getitem__(places)

  pieces = Counting(["x"] * 5000)
  squad._find_pieces(pieces, 0, 4999, ["x", "y"])
  assert pieces.count == 2 * 4999


@pytest.mark.parametrize(
  ("values", "flag"),
  [
    ({"doc_stride": 0}, "--doc_stride: 0 "),
    ({"max_query_length": 0}, "--max_query_length: 0 "),
    ({"max_seq_length": 67}, r"--max_seq_length: 67 .*--max_query_length=64 .* at least 68"),
  ],
)
def test_lengths_that_cannot_be_used(tokenizer, values, flag):
  lengths = {"max_seq_length": 128, "doc_stride": 64, "max_query_length": 64, **values}
  with pytest.raises(files.InputError, match=flag):
    squad.convert_examples_to_features([], tokenizer, **lengths, is_training=False, output_fn=None)
  squad.Settings(max_seq_length=68).check()


# ---- Features -----------------------------------------------------------------------------------


def example(context=CONTEXT, question="Where did Ada live ?", qas_id="q", **answer):
  return SquadExample(qas_id, question, squad.split_words(context)[0], **answer)


def answered(context=CONTEXT, answer="London", first=3, last=3, **more):
  return example(context, orig_answer_text=answer, start_position=first, end_position=last, **more)


def convert(examples, tokenizer, is_training=False, max_seq_length=14, doc_stride=2, query=5):
  features = []
  squad.convert_examples_to_features(
    examples, tokenizer, max_seq_length, doc_stride, query, is_training, features.append
  )
  return features


def contents(features):
  return [vars(feature) for feature in features]


def test_features_in_one_window(tokenizer):
  (feature,) = convert([answered()], tokenizer, is_training=True)
  tokens = [*QUESTION, "ada", "lived", "in", "london", ".", "[SEP]"]
  assert vars(feature) == {
    "unique_id": 1000000000,
    "example_index": 0,
    "doc_span_index": 0,
    "tokens": tokens,
    "token_to_orig_map": {7: 0, 8: 1, 9: 2, 10: 3, 11: 4},
    "token_is_max_context": dict.fromkeys(range(7, 12), True),
    "input_ids": [*(IDS[t] for t in tokens), 0],
    "input_mask": [1] * 13 + [0],
    "segment_ids": [0] * 7 + [1] * 6 + [0],
    "start_position": 10,
    "end_position": 10,
    "is_impossible": False,
    "token_to_chars": {7: [0, 3], 8: [0, 5], 9: [0, 2], 10: [0, 6], 11: [0, 1]},
  }


def test_features_in_several_windows(tokenizer):
  # The question is cut to 2 pieces, which leaves 3 of "adas lived in ( london )", 7 pieces.
  one = answered("Adas lived in (London)", first=3, qas_id="one")
  features = convert([one, answered()], tokenizer, True, max_seq_length=8, query=2)
  spans = [feature.tokens[4:-1] for feature in features]
  assert spans == [
    ["ada", "##s", "lived"],
    ["lived", "in", "("],
    ["(", "london", ")"],
    ["ada", "lived", "in"],
    ["in", "london", "."],
  ]
  assert [f.unique_id - 1000000000 for f in features] == [0, 1, 2, 3, 4]
  assert [(f.example_index, f.doc_span_index) for f in features] == [
    (0, 0),
    (0, 1),
    (0, 2),
    (1, 0),
    (1, 1),
  ]
  assert [f.token_to_orig_map for f in features[:3]] == [
    {4: 0, 5: 0, 6: 1},
    {4: 1, 5: 2, 6: 3},
    {4: 3, 5: 3, 6: 3},
  ]
  # "lived" and "(" stand at the edge of two windows: the first has them.
  assert [list(f.token_is_max_context.values()) for f in features[:3]] == [
    [True, True, True],
    [False, True, True],
    [False, True, True],
  ]
  # "(london)" is narrowed to "london", which is whole in the third window alone.
  assert [(f.start_position, f.end_position) for f in features] == [
    (0, 0),
    (0, 0),
    (5, 5),
    (0, 0),
    (5, 5),
  ]
  assert all(f.segment_ids == [0, 0, 0, 0, 1, 1, 1, 1] for f in features)


def test_features_for_prediction_have_no_answer(tokenizer):
  (feature,) = convert([answered()], tokenizer)
  assert (feature.start_position, feature.end_position) == (None, None)
  assert feature.is_impossible is False


def test_features_of_an_impossible_question(tokenizer):
  impossible = answered(answer="", first=-1, last=-1, is_impossible=True)
  (feature,) = convert([impossible], tokenizer, is_training=True)
  assert (feature.start_position, feature.end_position, feature.is_impossible) == (0, 0, True)


@pytest.mark.parametrize("context", ["", " ", "\u200b \u200b"])
def test_context_without_pieces_has_one_window(tokenizer, context):
  (feature,) = convert([example(context)], tokenizer)
  assert feature.tokens == [*QUESTION, "[SEP]"]
  assert feature.token_to_orig_map == feature.token_is_max_context == {}
  assert feature.segment_ids == [0] * 7 + [1] + [0] * 6


def test_answer_without_pieces_is_in_no_window(tokenizer):
  for context, word in (("\u200b", 0), ("Ada \u200b lived", 1)):
    lost = answered(context, answer="\u200b", first=word, last=word)
    (feature,) = convert([lost], tokenizer, is_training=True)
    assert (feature.start_position, feature.end_position) == (0, 0)


def test_words_are_tokenised_once(vocab_file, monkeypatch):
  counts = collections.Counter()
  tokenize = tokenization.FullTokenizer.tokenize

  def counted(self, text):
    counts[text] += 1
    return tokenize(self, text)

  monkeypatch.setattr(tokenization.FullTokenizer, "tokenize", counted)
  tokenizer = tokenization.FullTokenizer(vocab_file)
  examples = [example("Ada Ada lived", question=f"{i} ?") for i in range(3)]
  convert(examples, tokenizer)
  assert counts == {"Ada": 1, "lived": 1, "0 ?": 1, "1 ?": 1, "2 ?": 1}


class OtherTokenizer:
  """A tokenizer of another class, with the required methods alone."""

  def __init__(self):
    self.inv_vocab = {0: "[CLS]", 1: "[SEP]", 2: "x"}

  def tokenize(self, text):
    return ["x"] * len(text)

  def convert_tokens_to_ids(self, tokens):
    return [list(self.inv_vocab.values()).index(token) for token in tokens]


def test_tokenizer_of_another_make():
  (feature,) = convert([example("ab c", question="??")], OtherTokenizer())
  assert feature.tokens == ["[CLS]", "x", "x", "[SEP]", "x", "x", "x", "[SEP]"]
  assert feature.token_to_orig_map == {4: 0, 5: 0, 6: 1}
  assert feature.token_to_chars == {place: [-1, -1] for place in (4, 5, 6)}


# ---- Where answers and pieces stand in the text -------------------------------------------------

LETTERS = (
  *"北岛有灯塔港和也在，。",
  *("北", "と", "##と", "##う", "##うたい", "とうたい", "は", "##は"),
  *("\u1100", "##\u1100", "##\u1161", "ab", "##ab", "a", "##b", "50", "-", "bank", "of", "cafe"),
)


@pytest.fixture(name="letters", scope="module")
def _letters(tmp_path_factory):
  path = tmp_path_factory.mktemp("letters") / "vocab.txt"
  path.write_text("".join(f"{token}\n" for token in (*SPECIAL, *LETTERS)), encoding="utf-8")
  return tokenization.FullTokenizer(str(path))


def label(write, tokenizer, context, answer, start, **changes):
  """The pieces that training labels, and the characters in the context that they were made of."""
  (example,) = squad.read_squad_examples(
    write(squad_file(qas(question="", answer=answer, start=start), context=context)), True
  )
  for name, value in changes.items():
    setattr(example, name, value)
  (feature,) = convert([example], tokenizer, is_training=True, max_seq_length=60)
  first, last = feature.start_position, feature.end_position
  offsets = squad.split_words(context)[1]
  begin = offsets[feature.token_to_orig_map[first]] + feature.token_to_chars[first][0]
  end = offsets[feature.token_to_orig_map[last]] + feature.token_to_chars[last][1]
  return feature.tokens[first : last + 1], (begin, end)


ISLANDS = "北岛有灯塔，北岛也有港，灯塔在北岛。"


@pytest.mark.parametrize(
  ("context", "answer", "starts"),
  [
    (ISLANDS, "北岛", [0, 6, 15]),
    (ISLANDS, "灯塔", [3, 12]),
    ("\u200b北岛\u200b北岛\ufeff\x85北岛", "北岛", [1, 4, 8]),
    ("北\u200b岛，北\u200b岛", "北\u200b岛", [0, 4]),
    ("bank\u00a0of\u00a0bank", "bank", [0, 8]),
    ("bank\u2028of\u2028bank", "bank", [0, 8]),
    ("of 50-50", "50", [3, 6]),
    ("50-50-50-50", "50-50", [0, 3, 6]),
    ("가港，가가", "가", [0, 3, 4]),
    ("cafe\u0301-cafe\u0301", "cafe\u0301", [0, 6]),
    ("とうとう。とう", "とう", [0, 2, 5]),  # the pieces within a word are not those of the answer
  ],
)
def test_label_is_where_the_answer_starts(write, letters, context, answer, starts):
  for start in starts:
    assert context[start : start + len(answer)] == answer
    _, (begin, end) = label(write, letters, context, answer, start)
    assert (begin, end) == (start, start + len(answer))


def test_label_of_a_part_of_a_piece(write, letters):
  assert label(write, letters, "港とうだいは", "うだい", 2) == (["とうたい"], (1, 5))
  assert label(write, letters, "とうだい，とう", "とう", 0) == (["とうたい"], (0, 4))
  assert label(write, letters, "とうだい，とう", "い，と", 3)[1] == (0, 6)


def test_label_of_an_answer_that_does_not_stand_at_its_start(write, letters):
  assert label(write, letters, ISLANDS, "北岛", 7)[1] == (6, 8)  # the nearest
  assert label(write, letters, ISLANDS, "港", 3)[1] == (10, 11)  # the only one
  assert label(write, letters, "of 50-50", "50", 4)[1] == (3, 5)
  assert label(write, letters, "北岛\u3000有港", "岛 有", 1)[1] == (1, 4)


def test_label_of_examples_that_do_not_know_the_start(write, letters):
  for name in ("answer_start", "word_offsets", "paragraph_text"):
    assert label(write, letters, ISLANDS, "北岛", 6, **{name: None})[1] == (0, 2)
  assert label(write, letters, "とうだいは", "うだい", 1, answer_start=None)[1] == (0, 5)


def test_label_of_a_part_of_a_word_is_the_word_as_ever(write, letters):
  """Of a text with spaces: the pieces of the answer alone are not there."""
  pieces, _ = label(write, letters, "of a-abab", "ab", 7)
  assert pieces == ["ab"]  # the only one of these pieces
  pieces, _ = label(write, letters, "of abb-50 bank", "b", 5)
  assert pieces == ["ab", "##b", "-", "50"]


def test_pieces_know_their_characters(letters):
  context = "北\u200b岛 cafe\u0301\ufeff 가xyz，\u00a0of"
  first = convert([example(context, question="of")], letters, max_seq_length=60)[0]
  assert {first.tokens[i]: span for i, span in first.token_to_chars.items()} == {
    "北": [0, 1],
    "岛": [2, 3],
    "cafe": [0, 5],
    "[UNK]": [0, 4],
    "，": [4, 5],
    "of": [6, 8],
  }
  windows = convert([example("of"), example(context)], letters, max_seq_length=9, query=2)[1:]
  whole = {
    (first.token_to_orig_map[i], *span): first.tokens[i] for i, span in first.token_to_chars.items()
  }
  assert len(windows) > 1
  for window in windows:
    assert window.token_to_chars.keys() == window.token_to_orig_map.keys()
    for i, span in window.token_to_chars.items():
      assert whole[(window.token_to_orig_map[i], *span)] == window.tokens[i]


def many_examples(count=40):
  """Examples about paragraphs of different lengths, several about each, in a mixed order."""
  rng = random.Random(3)
  contexts = [" ".join(rng.choices(WORDS, k=rng.randrange(20))) + " london" for _ in range(9)]
  paragraphs = [squad.split_words(context)[0] for context in contexts]
  examples = []
  for i in range(count):
    words = rng.choice(paragraphs)
    question = " ".join(rng.choices(WORDS, k=rng.randrange(8)))
    last = len(words) - 1
    examples.append(SquadExample(str(i), question, words, "london", last, last))
  return examples


def settings_of(vocab_file, **values):
  return Settings(vocab_file, max_seq_length=14, doc_stride=2, max_query_length=5)._replace(
    **values
  )


@pytest.mark.parametrize("is_training", [False, True])
def test_extracted_features_are_the_same(vocab_file, tokenizer, monkeypatch, is_training):
  monkeypatch.setattr(squad, "_CHUNK", 7)
  examples = many_examples()
  features = squad.extract(examples, settings_of(vocab_file, is_training=is_training))
  expected = convert(examples, tokenizer, is_training)
  assert len(features) == len(expected) > len(examples)
  assert contents(features) == contents(expected)
  assert vars(features[-1]) == vars(expected[-1])
  for feature in features:
    words = examples[feature.example_index].doc_tokens
    for place, (start, end) in feature.token_to_chars.items():
      part = words[feature.token_to_orig_map[place]][start:end]
      assert part == feature.tokens[place].replace("##", "") or feature.tokens[place] == "[UNK]"
  with pytest.raises(IndexError):
    features[len(features)]


def test_workers_make_and_write_the_same(vocab_file, monkeypatch, tmp_path):
  examples, settings = many_examples(), settings_of(vocab_file, is_training=True)
  alone = squad.extract(examples, settings)
  squad.write_feature_records(alone, str(tmp_path / "alone"))
  monkeypatch.setattr(squad, "_CHUNK", 16)
  monkeypatch.setattr(squad, "_MIN_FOR_WORKERS", 1)
  called = []
  map_in_order = workers.map_in_order
  monkeypatch.setattr(
    workers, "map_in_order", lambda *args: called.append(args) or map_in_order(*args)
  )
  together = squad.extract(examples, settings, num_workers=2)
  squad.write_feature_records(together, str(tmp_path / "together"), num_workers=2)
  assert len(called) == 2
  assert contents(together) == contents(alone)
  assert (tmp_path / "together").read_bytes() == (tmp_path / "alone").read_bytes()


def test_no_examples(vocab_file):
  assert list(squad.extract([], settings_of(vocab_file))) == []


def test_logged_lines(tokenizer, log):
  impossible = answered(answer="", first=-1, last=-1, is_impossible=True)
  convert([answered(), impossible, *[answered()] * 19], tokenizer, is_training=True)
  messages = [record.getMessage() for record in log.records]
  assert messages.count("*** Example ***") == 20
  assert messages[:13] == [
    "*** Example ***",
    "unique_id: 1000000000",
    "example_index: 0",
    "doc_span_index: 0",
    "tokens: [CLS] where did ada live ? [SEP] ada lived in london . [SEP]",
    "token_to_orig_map: 7:0 8:1 9:2 10:3 11:4",
    "token_is_max_context: 7:True 8:True 9:True 10:True 11:True",
    "input_ids: 2 4 5 6 7 8 3 6 9 10 11 12 3 0",
    "input_mask: 1 1 1 1 1 1 1 1 1 1 1 1 1 0",
    "segment_ids: 0 0 0 0 0 0 0 1 1 1 1 1 1 0",
    "start_position: 10",
    "end_position: 10",
    "answer: london",
  ]
  assert messages[13 + 10] == "impossible example"
  log.clear()
  convert([example()], tokenizer)
  assert log.records[-1].getMessage().startswith("segment_ids: ")


def test_windows_in_another_order():
  def window(number, ids):
    zeros = np.zeros(len(ids), np.int32)
    pieces = (np.array(ids), zeros, zeros > 0)
    return squad.Windows(number, 0, len(ids), 0, 0, 0, False, *pieces, np.zeros((2, 2), int), 2)

  windows = squad.Windows.of_rows([window(7, [1, 2]), window(8, [3, 4, 5]), window(9, [6])])
  taken = windows.take(np.array([1, 2, 0, 1]))
  assert taken.example_index.tolist() == [8, 9, 7, 8]
  assert taken.input_ids.tolist() == [3, 4, 5, 6, 1, 2, 3, 4, 5]
  assert taken.offsets().tolist() == [0, 3, 4, 6, 9]
  again = squad.Windows.concatenate([windows.take(np.array([0])), taken])
  assert again.input_ids.tolist() == [1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5]
  assert len(taken.chars) == 6 and len(again.chars) == 12
  assert again.first_char.tolist() == [2] + [2 + 6] * 4
  assert [v.dtype for v in again] == [v.dtype for v in windows]


# ---- Kept features ------------------------------------------------------------------------------


@pytest.fixture(name="cached")
def _cached(vocab_file, write, tmp_path, log):
  """Function like cached_features that returns (contents, their source by the log)."""
  path = write(
    squad_file(qas(answer="London", start=13), qas("r", "Did Ada ?", answer="Ada", start=0))
  )

  def cached(order=1, **values):
    settings = settings_of(vocab_file, is_training=True)._replace(**values)
    examples = squad.read_squad_examples(path, settings.is_training)[::order]
    log.clear()
    features = squad.cached_features(examples, path, settings, str(tmp_path / "cache"))
    how = [how for how in ("are kept in", "are taken from") if how in log.text]
    return contents(features), *how

  cached.input_file = path
  cached.vocab_file = vocab_file
  cached.directory = tmp_path / "cache"
  cached.directory.mkdir()
  return cached


def test_features_are_kept(cached, tokenizer):
  examples = squad.read_squad_examples(cached.input_file, True)
  expected = contents(convert(examples, tokenizer, True))
  assert cached() == (expected, "are kept in")
  assert cached() == (expected, "are taken from")
  assert [path.suffix for path in cached.directory.iterdir()] == [".npz"]


@pytest.mark.parametrize(
  "values",
  [
    {"max_seq_length": 13},
    {"doc_stride": 3},
    {"max_query_length": 4},
    {"do_lower_case": False},
    {"is_training": False},
    {"version_2_with_negative": True},
    {"order": -1},
  ],
  ids=str,
)
def test_another_setting_makes_other_features(cached, values):
  cached()
  assert cached(**values)[1:] == ("are kept in",)
  assert cached(**values)[1:] == cached()[1:] == ("are taken from",)


def test_another_file_makes_other_features(cached, tmp_path):
  cached()
  with open(cached.input_file, "a") as f:
    f.write(" ")
  assert cached()[1:] == ("are kept in",)
  vocab_file = tmp_path / "vocab.txt"
  with open(cached.vocab_file) as f:
    vocab_file.write_text(f.read())
  assert cached(vocab_file=str(vocab_file))[1:] == ("are taken from",)  # the path does not count
  vocab_file.write_text(vocab_file.read_text() + "more\n")
  assert cached(vocab_file=str(vocab_file))[1:] == ("are kept in",)


@pytest.mark.parametrize("what", ["format", "unicode"])
def test_another_program_makes_other_features(cached, monkeypatch, what):
  cached()
  if what == "format":
    monkeypatch.setattr(squad, "_CACHE_FORMAT", -1)
  else:
    monkeypatch.setattr(squad.unicodedata, "unidata_version", "0.0")
  assert cached()[1:] == ("are kept in",)


@pytest.mark.parametrize("damage", ["empty", "short", "changed", "foreign", "of another set"])
def test_damaged_features_are_made_anew(cached, damage, log):
  expected, _ = cached()
  (path,) = cached.directory.iterdir()
  data = path.read_bytes()
  if damage == "of another set":
    cached(order=-1)
    (other,) = set(cached.directory.iterdir()) - {path}
    os.replace(other, path)
  else:
    ids = np.array([IDS[token] for token in QUESTION], "<i4").tobytes()
    changed = data.replace(ids, ids[::-1])
    assert changed != data
    kinds = {"empty": b"", "short": data[:-99], "changed": changed, "foreign": b"{}" * 99}
    path.write_bytes(kinds[damage])
  assert cached() == (expected, "are kept in")
  assert "is damaged" in log.text
  assert path.read_bytes() == data


def test_features_that_cannot_be_kept_are_used(cached, log):
  cached.directory.rmdir()
  cached.directory.write_text("no directory")
  features, *how = cached()
  assert len(features) == 2 and how == []
  assert "Features are not kept: cannot write" in log.text


# ---- Records ------------------------------------------------------------------------------------


def read_records(path, length, is_training):
  from toolkit.records import input_pipeline

  table = squad.record_features(length, is_training)
  with tf.Graph().as_default(), tf.Session() as session:
    serialized = list(tf.python_io.tf_record_iterator(path))
    return session.run(input_pipeline.parse_records(tf.constant(serialized), table))


@pytest.mark.parametrize("is_training", [False, True])
def test_records(vocab_file, tokenizer, tmp_path, is_training):
  features = squad.extract(
    many_examples(), settings_of(vocab_file, is_training=is_training), tokenizer=tokenizer
  )
  path = str(tmp_path / "records")
  squad.write_feature_records(features, path)
  found = read_records(path, 14, is_training)
  columns = {"unique_ids": "unique_id"}
  columns.update((name, name) for name in ("input_ids", "input_mask", "segment_ids"))
  if is_training:
    columns.update(start_positions="start_position", end_positions="end_position")
    columns.update(is_impossible="is_impossible")
  assert set(found) == set(columns)
  for name, attribute in columns.items():
    assert found[name].tolist() == [getattr(f, attribute) for f in features]


@pytest.mark.parametrize("is_training", [False, True])
def test_feature_writer_writes_the_same(vocab_file, tmp_path, is_training):
  features = squad.extract(many_examples(5), settings_of(vocab_file, is_training=is_training))
  squad.write_feature_records(features, str(tmp_path / "set"))
  path = str(tmp_path / "writer")
  writer = squad.FeatureWriter(path, is_training)
  assert (writer.filename, writer.is_training, writer.num_features) == (path, is_training, 0)
  for feature in features:
    writer.process_feature(feature)
  assert not os.path.exists(path)  # a file with the name is complete
  writer.close()
  assert writer.num_features == len(features)
  assert (tmp_path / "writer").read_bytes() == (tmp_path / "set").read_bytes()


def test_records_are_filled_up_with_the_last_window(vocab_file, monkeypatch, tmp_path):
  monkeypatch.setattr(squad, "_CHUNK", 4)
  features = squad.extract(many_examples(5), settings_of(vocab_file))
  count = len(features)
  assert count % 8
  squad.write_feature_records(features, str(tmp_path / "records"), multiple=8)
  found = read_records(str(tmp_path / "records"), 14, False)
  total = (count // 8 + 1) * 8
  assert found["unique_ids"].tolist() == list(range(1000000000, 1000000000 + total))
  rows = [f.input_ids for f in features]
  assert found["input_ids"].tolist() == rows + rows[-1:] * (total - count)


def test_records_that_cannot_be_written(vocab_file, tmp_path):
  features = squad.extract([example()], settings_of(vocab_file))
  with pytest.raises(files.InputError, match=r"none/records: cannot be written"):
    squad.write_feature_records(features, str(tmp_path / "none" / "records"))
