"""Tables for reading."""

from tools import table


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
