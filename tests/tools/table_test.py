"""Tables for reading."""

import pathlib
import subprocess
import sys

import pytest

from tools import table

ROOT = pathlib.Path(table.__file__).parents[1]


def test_lines():
  rows = [["id", "sentence", "good"], ["0", "A fine day.", "0.98730785"], ["1", "Bad.", "2.5e-05"]]
  assert table.lines(rows) == [
    "id  sentence     good",
    "0   A fine day.  0.987",
    "1   Bad.         0.000",
  ]


def test_long_texts_are_cut_so_that_lines_fit():
  rows = [["id", "a", "b", "label"], ["10", "x" * 300, "y " * 20, "good"]]
  header, row = table.lines(rows, width=60)
  assert len(row) <= 60 and row.startswith("10  xxx") and row.endswith("...  good")
  assert header.split() == rows[0]


def test_whole_numbers_and_short_rows_stay():
  assert table.lines([["label", "n"], ["3"], ["2019", "7"]]) == ["label  n", "3", "2019   7"]
  assert table.lines([]) == []


def test_wide_characters_are_aligned_and_cut():
  rows = [["a", "b"], ["\u597d" * 3, "1"], ["e\u0301", "2"]]
  assert table.lines(rows) == ["a       b", "\u597d\u597d\u597d  1", "e\u0301       2"]
  (line,) = table.lines([["\u597d" * 80, "good"]], width=40)
  assert table.columns_of(line) <= 40 and line.endswith(" good") and "..." in line


def test_quoted_texts_are_read(tmp_path, capsys):
  path = tmp_path / "predictions.tsv"
  path.write_text('id\ttext\n0\t"tab\there\nand ""so"""\n')
  table.main([str(path)])
  assert capsys.readouterr().out == 'id  text\n0   tab here and "so"\n'


@pytest.mark.parametrize(
  ("script", "arguments", "message"),
  [
    ("table", [], "usage: python tools/table.py FILE"),
    ("table", ["none"], "none: cannot be read: No such file or directory"),
    ("table", ["/dev/null"], "/dev/null: is empty"),
    ("answers", ["none"], "usage: python tools/answers.py QUESTIONS.json predictions.json"),
    ("answers", ["none", "none"], "none: cannot be read: No such file or directory"),
    ("answers", ["samples/squad/questions.json", "samples/squad/dev.json"], "there is no "),
    ("environment", [], "usage: python tools/environment.py DIR STEP ..., of the steps bench"),
    ("environment", ["", "run"], "usage: "),  # as by make VENV=
    ("environment", ["x", "nothing"], "usage: "),
  ],
)
def test_mistakes_end_in_one_line(script, arguments, message):
  command = [sys.executable, f"tools/{script}.py", *arguments]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
  assert (done.returncode, done.stdout) == (1, "")
  assert message in done.stderr and done.stderr.count("\n") == 1
