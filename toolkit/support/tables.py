"""Reads tables of a user: tab-separated, comma-separated, or one JSON object per line."""

import csv
import io
import json
from typing import NamedTuple, Optional

from toolkit.support import files

FORMATS = ("tsv", "csv", "jsonl")


class Row(list):
  """The columns of a row; `source` is "file:line" of its beginning."""

  __slots__ = ("source",)

  def __init__(self, columns, source):
    super().__init__(columns)
    self.source = source


class Table(NamedTuple):
  """The content of a file.

  Attributes:
    columns: names of the columns, or None for a file without a header.
  """

  path: str
  columns: Optional[list[str]]
  rows: list[Row]


def read_tsv_rows(path: str) -> list[Row]:
  """Reads tab-separated rows, without the blank ones; quotes are ordinary characters."""
  lines = files.read_lines(path)
  return [Row(line.split("\t"), f"{path}:{number}") for number, line in lines if line.strip()]


def read_csv_rows(path: str, **dialect) -> list[Row]:
  """Reads rows by the csv module (dialect: its parameters), without the blank ones."""
  text = files.read_text(path)
  reader = csv.reader(io.StringIO(text), **dialect)
  rows = []
  line = 1
  usual_limit = csv.field_size_limit(len(text) + 1)  # characters: that is, no limit
  try:
    for columns in reader:
      if any(column.strip() for column in columns):
        rows.append(Row(columns, f"{path}:{line}"))
      line = reader.line_num + 1  # a quoted column may go over several lines
  except csv.Error as error:
    raise files.InputError(
      f"{path}:{line}: is not valid CSV: {error}; find a quote that is not closed or not doubled"
    ) from error
  finally:
    csv.field_size_limit(usual_limit)
  return rows


def read_jsonl(path: str) -> Table:
  """Reads a file with one JSON object per line; a key that an object lacks is None."""
  parsed = []
  for number, line in files.read_lines(path):
    if line.strip():
      source = f"{path}:{number}"
      parsed.append((source, _parse_object(line, source)))
  columns = list(dict.fromkeys(key for _, values in parsed for key in values))
  rows = [Row(map(values.get, columns), source) for source, values in parsed]
  return Table(path, columns, rows)


def _parse_object(line, source):
  try:
    value = json.loads(line)
  except ValueError as error:
    raise files.InputError(f"{source}: is not valid JSON: {error}") from error
  if not isinstance(value, dict):
    raise files.InputError(f"{source}: found {type(value).__name__}, should be a JSON object {{}}")
  return value


def read_table(path: str, file_format: str, has_header: bool = True) -> Table:
  """Reads a table with at least one row.

  Args:
    path: the file.
    file_format: member of FORMATS.
    has_header: whether the first line of a tsv or csv file names the columns.

  Raises:
    files.InputError: the file cannot be read (file:line), or has no rows.
  """
  if file_format == "jsonl":
    table = read_jsonl(path)
  else:
    rows = read_csv_rows(path, strict=True) if file_format == "csv" else read_tsv_rows(path)
    columns = [name.strip() for name in rows.pop(0)] if has_header and rows else None
    table = Table(path, columns, rows)
  if not table.rows:
    raise files.InputError(f"{path}: has no examples")
  return table


def check_widths(table: Table, width: int = 0):
  """Checks that each row has as many columns as the header or, without one, at least `width`.

  Raises:
    files.InputError: names the first other row.
  """
  for row in table.rows:
    if table.columns is not None and len(row) != len(table.columns):
      expected = f"{len(table.columns)}, as the header has"
    elif len(row) < width:
      expected = f"{width} or more"
    else:
      continue
    raise files.InputError(f"{row.source}: found {len(row)} columns, expected {expected}")


def cell(row: Row, column: int) -> Optional[str]:
  """Returns the text of a column; a JSON number as in JSON, null as None.

  Raises:
    files.InputError: the value is a list or an object of JSON.
  """
  value = row[column]
  if isinstance(value, (dict, list)):
    raise files.InputError(f"{row.source}: found {json.dumps(value)[:60]} where a text should be")
  return value if value is None or isinstance(value, str) else json.dumps(value)
