"""Answers as lines of text, and typed questions."""

import io

import numpy as np
import pytest

import tokenization
from toolkit.serving import question_answerer
from toolkit.tasks import squad, squad_answers


def test_an_answer_as_a_line():
  answer = squad_answers.BestAnswer("Ann Lee", 0.934, 11, 18, 1.0)
  line = question_answerer.answer_line(answer, "Founded by Ann Lee.", 0.0)
  assert line == "Ann Lee  (probability 0.93; characters 11 to 18: Founded by [Ann Lee].)"
  line = question_answerer.answer_line(
    answer._replace(start_char=61, end_char=68), "It is so. " * 10, 0.0
  )
  assert line.endswith("[t is so]. It is so. It is so. It is so...)")
  nothing = squad_answers.BestAnswer("", 0.7, None, None, 2.5)
  line = question_answerer.answer_line(nothing, "Founded.", -1.0)
  assert line == "no answer  (probability 0.70; null odds 2.50, threshold -1.00)"


class _Pointing:
  """A model that points at pieces, given by their places in the window."""

  def __init__(self, first, last):
    self.places = first, last

  def run(self, rows):
    for ids, _ in rows:
      logits = np.full((2, len(ids)), -9.0)
      logits[range(2), self.places] = 5.0
      yield dict(zip(("start_logits", "end_logits"), logits))


@pytest.mark.parametrize(
  ("context", "places", "text", "start"),
  [
    ("桥在北岛。船去北岛。", (2, 3), "北岛", 2),
    ("桥在北岛。船去北岛。", (7, 8), "北岛", 7),
    ("桥在北\u200b岛。船去北岛\ufeff。", (2, 3), "北\u200b岛", 2),
    ("桥在北\u200b岛。船去北岛\ufeff。", (7, 8), "北岛", 8),
  ],
)
def test_an_answer_is_where_the_model_points(tmp_path, context, places, text, start):
  vocab_file = tmp_path / "vocab.txt"
  vocab_file.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n北\n岛\n。\n", encoding="utf-8")
  answerer = object.__new__(question_answerer.QuestionAnswerer)
  vars(answerer).update(
    threshold=0.0,
    _settings=squad.Settings(str(vocab_file)),
    _max_answer_length=30,
    _tokenizer=tokenization.FullTokenizer(str(vocab_file)),
    _predictor=_Pointing(*(place + 2 for place in places)),  # [CLS] [SEP] context [SEP]
  )
  answer = answerer.ask("", context)
  assert (answer.text, answer.start_char, answer.end_char) == (text, start, start + len(text))
  line = question_answerer.answer_line(answer, context, 0.0)
  assert f"characters {start} to {start + len(text)}: " in line and f"[{text}]" in line


class _Echo:
  """Answers with the question."""

  threshold = 0.0

  def ask(self, question, context):
    return squad_answers.BestAnswer(f"{question} {context}", 1.0, None, None, None)


def test_paragraphs_and_questions_are_typed_in_turn(monkeypatch, capsys):
  monkeypatch.setattr("sys.stdin", io.StringIO("p\na\n\nq\nb\n"))
  question_answerer.converse(_Echo(), None, None)
  assert capsys.readouterr().out == "a p  (probability 1.00)\nb q  (probability 1.00)\n"
  monkeypatch.setattr("sys.stdin", io.StringIO("p\n"))
  question_answerer.converse(_Echo(), "a", None)
  assert capsys.readouterr().out == "a p  (probability 1.00)\n"
