"""Tables of questions to SQuAD files."""

import json
import sys

import pytest

import squad_from_table
from toolkit.support import files
from toolkit.tasks import squad

CONTEXT = "Ada lived in London ."
OTHER = "It rains, and rains."


@pytest.fixture(name="write")
def _write(tmp_path):
  """Function that writes a value as JSON, or text as it is, and returns the path."""

  def write(content, name="squad.json"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)

  return write


def qas(qas_id="q", question="Where did Ada live ?", answer=None, start=None, **more):
  """A question of a SQuAD file, with an answer if one is given."""
  if answer is not None:
    more["answers"] = [{"text": answer, "answer_start": start}]
  return {"id": qas_id, "question": question, **more}


def test_table_with_answers(write, log):
  path = write(
    "id,context,question,answer,answer_start,note\n"
    "a,Ada lived in London .,Where ?,London,,x\n"
    'b,"It rains, and rains.",What ?, rains ,,\n'
    'c,"It rains, and rains.",What again ?,rains,14,\n'
    "d,Ada lived in London .,When ?, ,,\n",
    "pets.csv",
  )
  london, rains, again = (
    [{"text": text, "answer_start": start}]
    for text, start in (("London", 13), ("rains", 3), ("rains", 14))
  )
  known = {"is_impossible": False}
  paragraphs = [
    {
      "context": CONTEXT,
      "qas": [
        qas("a", "Where ?", answers=london, **known),
        qas("d", "When ?", answers=[], is_impossible=True),
      ],
    },
    {
      "context": OTHER,
      "qas": [
        qas("b", "What ?", answers=rains, **known),
        qas("c", "What again ?", answers=again, **known),
      ],
    },
  ]
  found = squad_from_table.columns_to_squad(path)
  assert found == {"version": "v2.0", "data": [{"title": "pets", "paragraphs": paragraphs}]}
  assert "1 answers occur in their context more than once" in log.text
  examples = squad.read_squad_examples(write(found), True, version_2_with_negative=True)
  assert [e.start_position for e in examples] == [3, -1, 1, 3]


def test_table_without_answers(write):
  lines = [{"question": "Where ?", "context": CONTEXT}, {"context": CONTEXT, "question": "5"}]
  path = write("".join(json.dumps(line) + "\n" for line in lines), "x.jsonl")
  (article,) = squad_from_table.columns_to_squad(path)["data"]
  expected = [{"id": "0", "question": "Where ?"}, {"id": "1", "question": "5"}]
  assert article["paragraphs"] == [{"context": CONTEXT, "qas": expected}]


@pytest.mark.parametrize(
  ("name", "text", "message"),
  [
    ("a.txt", "question,context\nq,c\n", "a.txt: its name ends in 'txt'; known are tsv, csv, json"),
    ("a.csv", "question,text\nq,c\n", "a.csv:1: has no column 'context'; its columns are 'quest"),
    ("a.csv", "question,context\n", "a.csv: has no examples"),
    ("a.csv", "question,context\nq,c\nq\n", "a.csv:3: found 1 columns, expected 2"),
    ("a.csv", "question,context\n ,c\n", "a.csv:2: has no question"),
    ("a.csv", "question,context\nq,\n", "a.csv:2: has no context"),
    ("a.csv", "id,question,context\n,q,c\n", "a.csv:2: has no id"),
    ("a.csv", "id,question,context\n1,q,c\n1,r,c\n", "a.csv:3: found id '1' again; "),
    ("a.csv", "question,context,answer\nq,abc,x\n", "a.csv:2: the answer 'x' is not in its cont"),
    (
      "a.csv",
      "question,context,answer,answer_start\nq,abc,b,2\n",
      "a.csv:2: the answer 'b' is not at answer_start 2, where 'c' is",
    ),
    (
      "a.csv",
      "question,context,answer,answer_start\nq,abc,b,-1\n",
      "a.csv:2: found '-1' where answer_start, a number, should be",
    ),
    ("a.jsonl", '{"question": "q", "context": ["c"]}\n', 'a.jsonl:1: found ["c"] where a text'),
    ("a.jsonl", '{"question": "q", "context": null}\n', "a.jsonl:1: has no context"),
  ],
)
def test_tables_that_cannot_be_used(write, name, text, message):
  path = write(text, name)
  with pytest.raises(files.InputError) as caught:
    squad_from_table.columns_to_squad(path)
  assert str(caught.value).startswith(path[: -len(name)] + message)


def run(monkeypatch, *arguments):
  monkeypatch.setattr(sys, "argv", ["squad_from_table.py", *arguments])
  squad_from_table.main()


def test_command(write, tmp_path, monkeypatch, capsys):
  table = write(f"question,context,answer\nWhere ?,{CONTEXT},London\n", "a.csv")
  output = str(tmp_path / "out.json")
  run(monkeypatch, table, output)
  assert capsys.readouterr().out == f"{output}: 1 questions about 1 paragraphs\n"
  (found,) = squad.read_squad_examples(output, is_training=True)
  assert found.start_position == 3


def test_command_says_what_is_wrong(write, tmp_path, monkeypatch):
  table = write(f"question,context\nWhere ?,{CONTEXT}\n", "a.csv")
  with pytest.raises(files.InputError, match=r"none\.csv: cannot be read"):
    run(monkeypatch, str(tmp_path / "none.csv"), "x")
  with pytest.raises(files.InputError, match=r"x\.json: cannot be written"):
    run(monkeypatch, table, str(tmp_path / "none" / "x.json"))
