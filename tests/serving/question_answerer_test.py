"""Answers as lines of text, and typed questions."""

import io

import numpy as np
import pytest

import tokenization
from toolkit.serving import question_answerer
from toolkit.support import files
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


class _Terminal(io.StringIO):
  def isatty(self):
    return True


def _conversation(monkeypatch, capsys, stdin, question=None, context=None):
  monkeypatch.setattr("sys.stdin", stdin)
  question_answerer.converse(_Echo(), question, context)
  return capsys.readouterr().out.replace("  (probability 1.00)\n", "\n")


@pytest.mark.parametrize(
  ("text", "answers"),
  [
    ("p\n\na\n\nq\n\nb\nc\n", "a p\nb q\nc q\n"),
    ("p\nr\n\na\n", "a p\nr\n"),
    ("\n \np\n\na", "a p\n"),
    ("p\na?\nb?\n\nq\nb\n\nc\n", "a? p\nb? p\nc q\nb\n"),  # a question mark ends a line of text
    ("p\r\n\r\na\r\n", "a p\n"),
  ],
)
def test_paragraphs_and_questions_are_read_in_turn(monkeypatch, capsys, text, answers):
  assert _conversation(monkeypatch, capsys, io.StringIO(text)) == answers


def test_input_that_is_not_utf8(monkeypatch):
  monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9\n\nq\n"), "utf-8"))
  with pytest.raises(files.InputError, match="standard input: found byte 0xe9, which is not UTF-8"):
    question_answerer.converse(_Echo(), None, None)


def test_one_question_is_about_all_of_standard_input(monkeypatch, capsys):
  stdin = io.StringIO("p\nwhy?\n\nq\n")
  assert _conversation(monkeypatch, capsys, stdin, "a") == "a p\nwhy?\n\nq\n"


def test_a_paragraph_is_given_and_questions_are_read(monkeypatch, capsys):
  assert _conversation(monkeypatch, capsys, io.StringIO("a\nb\n"), None, "p") == "a p\nb p\n"


@pytest.mark.parametrize(
  ("text", "question", "context", "message"),
  [
    ("", None, None, "no paragraph with a question; it takes a paragraph, an empty line"),
    ("p\nq\n", None, None, "no paragraph with a question"),
    (" \n", "a", None, "standard input has no paragraph;"),
    ("", None, "p", "standard input has no question;"),
  ],
)
def test_an_input_without_a_question_or_a_paragraph_is_refused(
  monkeypatch, capsys, text, question, context, message
):
  with pytest.raises(files.InputError, match=message):
    _conversation(monkeypatch, capsys, io.StringIO(text), question, context)


def test_a_terminal_is_asked_until_there_is_a_paragraph(monkeypatch, capsys):
  text = _conversation(monkeypatch, capsys, _Terminal("\n\np\nwhy?\n\na\n\n"))
  lines = text.splitlines()
  paragraph_prompt = lines[0]
  assert "an empty line ends it" in paragraph_prompt and "Ctrl-D: end" in paragraph_prompt
  assert lines[1:3] == [paragraph_prompt] * 2
  assert lines[3:5] == ["Question (empty line: another paragraph; Ctrl-D: end): a p", "why?"]
  assert lines[5:] == [f"{lines[3][:-3]}{paragraph_prompt}", ""]


def test_a_terminal_is_left_at_the_beginning_of_a_line(monkeypatch, capsys):
  for typed in ("", "p\n\n", "p\n\na\n", "p"):
    assert _conversation(monkeypatch, capsys, _Terminal(typed)).endswith(("end):\n\n", "end): \n"))


def test_empty_texts_are_refused():
  question_answerer.check_texts("a", "p")
  question_answerer.check_texts(None, None)
  for question, context, message in (
    (" ", None, "--question is empty"),
    ("a", "", "--context is empty"),
    (None, " \n", "x.txt is empty"),
  ):
    name = "x.txt" if "x.txt" in message else "--context"
    with pytest.raises(files.InputError, match=message):
      question_answerer.check_texts(question, context, name)
