"""Answers as lines of text, and typed questions."""

import io

from toolkit.serving import question_answerer
from toolkit.tasks import squad_answers


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
