"""Questions and answers side by side."""

import json
import pathlib
import subprocess
import sys

from tools import answers

ROOT = pathlib.Path(answers.__file__).parents[1]


def test_rows_have_what_is_expected():
  qas = [
    {"id": "a", "question": "Who?", "answers": [{"text": "Ann"}, {"text": "Ann Lee"}]},
    {"id": "b", "question": "When?", "answers": []},
  ]
  squad = {"data": [{"paragraphs": [{"qas": qas[:1]}, {"qas": qas[1:]}]}]}
  assert answers.rows(squad, {"b": "1901", "a": ""}) == [
    ("Who?", "no answer", "Ann"),
    ("When?", "1901", "no answer"),
  ]


def test_columns_are_aligned():
  assert answers.lines([("a", "bcd", "e"), ("long", "f", "gh")]) == [
    "a     bcd  e",
    "long  f    gh",
  ]


def test_the_samples_questions(tmp_path):
  path = ROOT / "samples/squad/questions.json"
  articles = json.loads(path.read_text(encoding="utf-8"))["data"]
  ids = [q["id"] for article in articles for row in article["paragraphs"] for q in row["qas"]]
  predictions = tmp_path / "predictions.json"
  predictions.write_text(json.dumps(dict.fromkeys(ids, "a guess")))
  command = [sys.executable, ROOT / "tools/answers.py", path, predictions]
  printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
  assert len(printed) == 1 + len(ids) and printed[0].split() == ["question", "answer", "expected"]
  assert all(len(line) <= 100 for line in printed)
