"""Prints a table of tab-separated columns for reading: python tools/table.py FILE.

Columns are aligned, numbers have three decimals, and long texts are cut so that a line fits.
"""

import re
import sys

WIDTH = 100  # of a line, in characters
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
  widths = [max(len(row[column]) for row in cells) for column in range(count)]
  while sum(widths) + len(GAP) * (count - 1) > width and max(widths) > LEAST_WIDTH:
    widths[widths.index(max(widths))] -= 1
  return [
    GAP.join(_cut(cell, most).ljust(most) for cell, most in zip(row, widths)).rstrip()
    for row in cells
  ]


def _cell(text):
  return f"{float(text):.3f}" if re.fullmatch(r"-?\d+\.\d+(e-?\d+)?", text) else text


def _cut(text, most):
  return text if len(text) <= most else text[: most - 3].rstrip() + "..."


if __name__ == "__main__":
  with open(sys.argv[1], encoding="utf-8") as f:
    print(*lines([line.rstrip("\n").split("\t") for line in f]), sep="\n")
