"""Prints a table of tab-separated columns for reading: python tools/table.py FILE.

Columns are aligned, numbers have three decimals, and long texts are cut so that a line fits. Quotes
in FILE are those of the csv module.
"""

import csv
import re
import sys
import unicodedata

WIDTH = 100  # of a line, in characters; wide ones, such as Chinese, count twice
LEAST_WIDTH = 12  # that a column is cut to
GAP = "  "


def lines(rows, width=WIDTH):
  """Returns the lines of a table.

  Args:
    rows: list of lists of str, the first one with the names of the columns.
    width: int, characters in a line; more only where columns of LEAST_WIDTH do not fit.

  Returns:
    List of str.
  """
  count = max(map(len, rows), default=0)
  cells = [[_cell(cell) for cell in row] + [""] * (count - len(row)) for row in rows]
  widths = [max(columns_of(row[column]) for row in cells) for column in range(count)]
  while sum(widths) + len(GAP) * (count - 1) > width and max(widths) > LEAST_WIDTH:
    widths[widths.index(max(widths))] -= 1
  return [
    GAP.join(_padded(_cut(cell, most), most) for cell, most in zip(row, widths)).rstrip()
    for row in cells
  ]


def columns_of(text):
  """Returns the columns that a text takes in a terminal."""
  if text.isascii():
    return len(text)
  return sum(
    (1 + (unicodedata.east_asian_width(c) in "WF")) * (not unicodedata.combining(c)) for c in text
  )


def _cell(text):
  if re.fullmatch(r"-?\d+\.\d+(e-?\d+)?", text):
    return f"{float(text):.3f}"
  return re.sub(r"\s", " ", text)


def _cut(text, most):
  if columns_of(text) <= most:
    return text
  while columns_of(text) > most - 3:
    text = text[:-1]
  return text.rstrip() + "..."


def _padded(text, width):
  return text + " " * (width - columns_of(text))


def main(arguments):
  """Prints the table of a file; SystemExit with one line if it cannot be read."""
  if len(arguments) != 1:
    sys.exit("usage: python tools/table.py FILE")
  try:
    with open(arguments[0], encoding="utf-8", newline="") as f:
      rows = list(csv.reader(f, csv.excel_tab))
  except (OSError, ValueError, csv.Error) as error:
    sys.exit(f"{arguments[0]}: cannot be read: {getattr(error, 'strerror', None) or error}")
  if not rows:
    sys.exit(f"{arguments[0]}: is empty")
  sys.stdout.reconfigure(errors="backslashreplace")
  print(*lines(rows), sep="\n")


if __name__ == "__main__":
  main(sys.argv[1:])
