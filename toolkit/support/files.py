"""Reads and writes the files of a user, on local disks and remote storage.

Local paths need no TensorFlow; a path with a scheme (`gs://bucket/x`) goes through tf.io.gfile.
"""

import bz2
import contextlib
import csv
import fnmatch
import glob as local_glob
import gzip
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple, Optional, Union

from toolkit.support import logs

_NOT_UTF8 = re.compile("[\udc80-\udcff]")

# Compressed output is long files of numbers, which higher levels make hardly smaller.
_GZIP_LEVEL = 1


class InputError(ValueError):
  """A mistake in a flag or in an input file.

  The message is one line: the place (flag or file:line), the value found there, and the remedy.
  Scripts print it without a stack trace and exit with status 1.
  """


@contextlib.contextmanager
def input_checks() -> Iterator[None]:
  """Converts a plain ValueError of the classic modules' input checks to an InputError.

  It belongs around these calls alone: a ValueError from elsewhere is a mistake in the program, and
  keeps its stack trace. The classic modules import nothing, so they cannot raise InputError.
  """
  try:
    yield
  except ValueError as error:
    if type(error) is not ValueError:  # a subclass is raised on purpose, or by Python itself
      raise
    raise InputError(str(error)) from error


def is_remote(path: str) -> bool:
  """Returns True for a path with a scheme, such as gs://bucket/model."""
  return "://" in path


def _gfile():
  """Returns tf.io.gfile, imported only for a remote path: TensorFlow takes seconds to load."""
  import tensorflow as tf  # pylint: disable=import-outside-toplevel

  return tf.io.gfile


@contextlib.contextmanager
def _converted_read_errors(path):
  """Converts errors of reading, such as those of a storage out of reach, to an InputError."""
  try:
    yield
  except InputError:
    raise
  except Exception as error:  # tf.io.gfile raises its own kinds
    raise InputError(f"{path}: cannot be read: {describe(error)}") from error


def exists(path: str) -> bool:
  """Returns True for a file or directory that exists.

  Raises:
    InputError: the remote storage cannot be read. The other tests of paths raise it, too.
  """
  with _converted_read_errors(path):
    return _gfile().exists(path) if is_remote(path) else os.path.exists(path)


def is_directory(path: str) -> bool:
  """Returns True for a directory that exists."""
  with _converted_read_errors(path):
    return _gfile().isdir(path) if is_remote(path) else os.path.isdir(path)


def is_regular_file(path: str) -> bool:
  """Returns True for a file that exists and is no directory, device or pipe."""
  return exists(path) and not is_directory(path) if is_remote(path) else os.path.isfile(path)


def size_and_time(path: str) -> tuple[int, int]:
  """Returns a file's size in bytes and the time of its last change in nanoseconds.

  Raises:
    InputError: the file does not exist.
  """
  with _converted_read_errors(path):
    if is_remote(path):
      status = _gfile().stat(path)
      return status.length, status.mtime_nsec
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def glob(pattern: str) -> list[str]:
  """Returns the sorted paths that match a shell pattern of the user's."""
  with _converted_read_errors(pattern):
    return sorted(_gfile().glob(pattern) if is_remote(pattern) else local_glob.glob(pattern))


def list_names(directory: str, pattern: str = "*") -> list[str]:
  """Returns the sorted names in a directory that match a shell pattern; none if there is none."""
  if not is_directory(directory):
    return []
  with _converted_read_errors(directory):
    names = _gfile().listdir(directory) if is_remote(directory) else os.listdir(directory)
  return sorted(fnmatch.filter((name.rstrip("/") for name in names), pattern))


def list_paths(directory: str, pattern: str) -> list[str]:
  """Returns the sorted paths below a directory that match a pattern such as "best/*".

  The directory's own name is no pattern, whatever its characters; those of the pattern's last part
  alone are.
  """
  inner, pattern = os.path.split(pattern)
  directory = os.path.join(directory, inner) if inner else directory
  return [os.path.join(directory, name) for name in list_names(directory, pattern)]


def find(patterns: str, flag: str, each_once: bool = True) -> list[str]:
  """Returns the files that a flag names, those of each pattern sorted.

  Args:
    patterns: names or shell patterns with commas between: "a.txt,corpus/*.txt.gz".
    flag: name of the flag, for the message.
    each_once: removes the repetitions of a file.

  Raises:
    InputError: a pattern without a match, or a match that is no file.
  """
  paths = []
  for pattern in patterns.split(","):
    matches = [pattern] if exists(pattern) else glob(pattern)
    if not matches:
      raise InputError(f"--{flag}: there is no file {pattern!r}, nor one that matches it")
    paths.extend(matches)
  for path in paths:
    if not is_regular_file(path):
      raise InputError(f"--{flag}: {path} is a directory, pipe or device; give files")
  return list(dict.fromkeys(paths)) if each_once else paths


def check_name(path: str, flag: str) -> None:
  """Checks that TensorFlow can use the path of a flag.

  Raises:
    InputError: it is not UTF-8.
  """
  try:
    path.encode("utf-8")
  except UnicodeEncodeError as error:
    raise InputError(f"--{flag}: the name {path!a} is not UTF-8; rename it") from error


def make_directory(path: str, flag: str) -> None:
  """Creates the directory of a flag with its parents, and checks that it is writable.

  Raises:
    InputError: it cannot be created or written.
  """
  probe = os.path.join(path, ".write_test")
  try:
    if is_remote(path):
      _gfile().makedirs(path)
    else:
      os.makedirs(path, exist_ok=True)
    with open_binary(probe, "w") as f:
      f.write(b"\n")  # remote files come into being at the first byte
    remove(probe)
  except Exception as error:  # tf.io.gfile raises its own kinds
    raise InputError(f"--{flag}: cannot write in {path}: {describe(error)}") from error


def remove(path: str) -> None:
  """Deletes a file."""
  if is_remote(path):
    _gfile().remove(path)
  else:
    os.remove(path)


def remove_tree(path: str) -> None:
  """Deletes a file, or a directory with all that is in it."""
  if not is_directory(path):
    remove(path)
  elif is_remote(path):
    _gfile().rmtree(path)
  else:
    shutil.rmtree(path)


def describe(error: Exception) -> str:
  """Returns the line of an exception's message that says why, without the path of an OSError."""
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  lines = (str(error) or type(error).__name__).splitlines()
  for line, behind in zip(lines, lines[1:]):
    if "[[{{node" in behind:  # TensorFlow tells first where the operation was made
      return line.strip()
  return lines[0]


def open_binary(path: str, mode: str = "r") -> BinaryIO:
  """Opens a file for bytes; mode is "r" or "w"."""
  if is_remote(path):
    return _gfile().GFile(path, mode + "b")
  return open(path, "rb" if mode == "r" else "wb")


def read_bytes(path: str) -> bytes:
  """Reads a file.

  Raises:
    InputError: it does not exist, is a directory, or cannot be read.
  """
  try:
    with open_binary(path) as f:
      return f.read()
  except Exception as error:  # tf.io.gfile raises its own kinds
    raise InputError(f"{path}: cannot be read: {describe(error)}") from error


def digest(path: str) -> str:
  """Returns the SHA-256 of a file in hexadecimal digits; InputError if it cannot be read."""
  found = hashlib.sha256()
  with _converted_read_errors(path), open_binary(path) as stored:
    while block := stored.read(1 << 20):
      found.update(block)
  return found.hexdigest()


def decode(data: bytes, path: str) -> str:
  """Decodes the UTF-8 content of a file, without its byte order mark.

  Raises:
    InputError: a byte is not UTF-8 or NUL; names the line of the first.
  """
  try:
    text = data.decode("utf-8-sig")
    bad, what = data.find(b"\0"), "a NUL byte"
  except UnicodeDecodeError as error:
    text, bad, what = "", error.start, f"byte 0x{data[error.start]:02x}, which is not UTF-8"
  if bad >= 0:
    line = data.count(b"\n", 0, bad) + 1
    raise InputError(f"{path}:{line}: found {what}; convert the file to UTF-8 text")
  return text


def read_text(path: str) -> str:
  """Reads the text of a UTF-8 file, newlines as \\n.

  Raises:
    InputError: the file cannot be read, or is not UTF-8 (file:line).
  """
  return io.StringIO(decode(read_bytes(path), path), newline=None).read()


def read_lines(path: str) -> list[tuple[int, str]]:
  """Reads the lines of a UTF-8 file, as pairs: number from 1, text without its end.

  Raises:
    InputError: see read_text.
  """
  # Not str.splitlines(): that would also cut at U+2028, U+0085 and other characters within a line.
  lines = read_text(path).split("\n")
  if lines[-1] == "":
    lines.pop()
  return list(enumerate(lines, 1))


def stream_lines(path: str) -> Iterator[str]:
  """Yields the lines of a UTF-8 file, which end as in read_lines and are given with \\n.

  The file may be of any size. One named .gz or .bz2 is decompressed.

  Raises:
    InputError: the file cannot be read, its compressed data is broken, or it is not UTF-8
      (file:line).
  """
  number = 0
  try:
    with open_binary(path) as stored:
      # Bytes that are not UTF-8 become lone surrogates, so that their line is known.
      lines = io.TextIOWrapper(_decompressed(path, stored), "utf-8-sig", "surrogateescape")
      for number, line in enumerate(lines, 1):
        bad = None if line.isascii() else _NOT_UTF8.search(line)
        if bad:
          raise InputError(
            f"{path}:{number}: found byte 0x{ord(bad[0]) - 0xDC00:02x}, which is not UTF-8; "
            "convert the file to UTF-8 text"
          )
        yield line
  except InputError:
    raise
  except Exception as error:  # zlib, bz2 and tf.io.gfile raise their own kinds
    place = f" after line {number}" if number else ""
    raise InputError(f"{path}: cannot be read{place}: {describe(error)}") from error


def _decompressed(path, stored):
  """Returns the open file, or one of its decompressed content."""
  if path.endswith(".gz"):
    return io.BufferedReader(gzip.GzipFile(fileobj=stored))
  if path.endswith(".bz2"):
    return io.BufferedReader(bz2.BZ2File(stored))
  return io.BufferedReader(_RemoteSource(stored), 1 << 20) if is_remote(path) else stored


class _RemoteSource(io.RawIOBase):
  """A remote file for reading; GFile itself leaves carriage returns out of lines."""

  def __init__(self, stored):
    super().__init__()
    self._stored = stored

  def readable(self):
    return True

  def readinto(self, buffer):
    data = self._stored.read(len(buffer))
    buffer[: len(data)] = data
    return len(data)


def read_json(path: str) -> Any:
  """Reads a JSON file.

  Raises:
    InputError: the file cannot be read or parsed (file:line).
  """
  return parse_json(read_text(path), path)


def parse_json(text: str, path: str, first_line: int = 1) -> Any:
  """Parses JSON that begins on a line of a file.

  Raises:
    InputError: it cannot be parsed (file:line).
  """
  try:
    value = json.loads(text)
    if "\\ud" in text.lower():  # half a character of UTF-16, which no file can have
      json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value
  except UnicodeEncodeError as error:
    raise InputError(
      f"{path}:{first_line}: found {error.object[error.start]!a}, which is half a character"
    ) from error
  except json.JSONDecodeError as error:
    line = first_line + error.lineno - 1
    raise InputError(
      f"{path}:{line}: is not valid JSON: {error.msg} (column {error.colno})"
    ) from error
  except (ValueError, RecursionError) as error:  # too long a number, too deep a list
    raise InputError(f"{path}:{first_line}: cannot be read as JSON: {describe(error)}") from error


# ---- Tables -------------------------------------------------------------------------------------

TABLES = ("tsv", "csv", "jsonl")


class Row(list[Any]):
  """The columns of a row; `source` is "file:line" of its beginning."""

  __slots__ = ("source",)

  def __init__(self, columns: Iterable[str], source: str) -> None:
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


# Characters without a width that change no meaning: soft hyphen, marks of direction, zero-width
# space, word joiner, byte order mark and the like.
_INVISIBLE = re.compile(
  "[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb]"
)
# (Non-)joiners, which shape letters and emoji where they stand between two of them.
_JOINERS = "\u200c\u200d"


def visible(text: str) -> str:
  """Returns a name without invisible characters, and without space at its ends."""
  return text if text.isascii() and text == text.strip() else _visible(text)


def _visible(text):
  before = None
  while text != before:  # a joiner may be behind a space that is behind a joiner
    before, text = text, _INVISIBLE.sub("", text).strip().strip(_JOINERS)
  return text


def _table_text(path):
  """Returns the text of a table, without the byte order marks of files that were put together."""
  return read_text(path).replace("\n\ufeff", "\n")


def read_tsv_rows(path: str) -> list[Row]:
  """Reads tab-separated rows, without the blank ones; quotes are ordinary characters."""
  lines = enumerate(_table_text(path).split("\n"), 1)
  return [Row(line.split("\t"), f"{path}:{number}") for number, line in lines if line.strip()]


def read_csv_rows(path: str, **dialect: Any) -> list[Row]:
  """Reads rows by the csv module (dialect: its parameters), without the blank ones."""
  text = _table_text(path)
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
    raise InputError(
      f"{path}:{line}: is not valid CSV: {error}; find a quote that is not closed or not doubled"
    ) from error
  finally:
    csv.field_size_limit(usual_limit)
  return rows


def read_jsonl(path: str) -> Table:
  """Reads a file with one JSON object per line; a key that an object lacks is None."""
  parsed = []
  for number, line in enumerate(_table_text(path).split("\n"), 1):
    if line.strip():
      parsed.append((f"{path}:{number}", _parse_object(line, path, number)))
  columns = list(dict.fromkeys(key for _, values in parsed for key in values))
  rows = [Row(map(values.get, columns), source) for source, values in parsed]
  return Table(path, columns, rows)


def _parse_object(line, path, number):
  value = parse_json(line, path, number)
  if not isinstance(value, dict):
    raise InputError(f"{path}:{number}: found {type(value).__name__}, should be a JSON object {{}}")
  return value


def read_table(path: str, file_format: str, has_header: bool = True) -> Table:
  """Reads a table with at least one row.

  Args:
    path: the file.
    file_format: member of TABLES.
    has_header: whether the first line of a tsv or csv file names the columns.

  Raises:
    InputError: the file cannot be read or has its header twice (file:line), or has no rows.
  """
  if file_format == "jsonl":
    table = read_jsonl(path)
  else:
    rows = read_csv_rows(path, strict=True) if file_format == "csv" else read_tsv_rows(path)
    columns = None
    if has_header and rows:
      check_header(rows)
      columns = list(map(visible, rows.pop(0)))
    table = Table(path, columns, rows)
  if not table.rows:
    raise InputError(f"{path}: has no examples")
  return table


def check_header(rows: list[Row]) -> None:
  """Checks that the first of some rows, the header, is not among the others too.

  The order of the columns and upper case make no difference. A header of one column may be a text.

  Raises:
    InputError: names the row.
  """
  names = [_header_name(name) for name in rows[0]]
  if len(names) < 2:
    return
  known, wanted = set(names), sorted(names)
  for row in rows[1:]:
    if (
      len(row) == len(names)
      and _header_name(row[0]) in known
      and sorted(map(_header_name, row)) == wanted
    ):
      raise InputError(
        f"{row.source}: found the header again, {listed(row)}; where files were put together, "
        "leave the headers of all but the first out, and keep the order of the columns"
      )


def _header_name(name):
  return visible(name).casefold()


def check_format(path: str, flag: str = "task_name") -> None:
  """Checks a table whose ending was made of its format, a member of TABLES, by a flag.

  Raises:
    InputError: there is no such file, but one of another format.
  """
  if exists(path):
    return
  stem, ending = os.path.splitext(path)
  for other in TABLES:
    if ending != f".{other}" and exists(f"{stem}.{other}"):
      raise InputError(
        f"{path}: there is no such file, but there is {stem}.{other}; give --{flag}={other}"
      )


def table_format(path: str, usual: str) -> str:
  """Returns the format of a table by the ending of its name: a member of TABLES, or else `usual`.

  A format that is not the usual one is logged.
  """
  ending = os.path.splitext(path)[1][1:].lower()
  if ending not in TABLES or ending == usual:
    return usual
  logs.notice("%s is read as %s, by its name, and not as %s", path, ending, usual)
  return ending


def check_widths(table: Table, width: int = 0, is_even: bool = False) -> None:
  """Checks that each row has as many columns as the header or, without one, at least `width`.

  Args:
    table: not empty.
    width: in columns.
    is_even: whether all rows must be as wide as the first where there is no header.

  Raises:
    InputError: names the first other row.
  """
  for row in table.rows:
    if table.columns is not None and len(row) != len(table.columns):
      expected = f"{len(table.columns)}, as the header has"
    elif is_even and len(row) != len(table.rows[0]):
      expected = f"{len(table.rows[0])}, as the first row has"
    elif len(row) < width:
      expected = f"{width} or more"
    else:
      continue
    raise InputError(f"{row.source}: found {len(row)} columns, expected {expected}")


def find_column(table: Table, wanted: str, flag: str, can_be_number: bool) -> int:
  """Returns the place of the column that a flag names, or gives as a number from 0 if that can be.

  Raises:
    InputError: there is no such column.
  """
  if table.columns is not None and wanted in table.columns:
    if table.columns.count(wanted) > 1:
      raise InputError(f"{table.path}: has {table.columns.count(wanted)} columns {wanted!r}")
    return table.columns.index(wanted)
  if can_be_number and re.fullmatch(r"[0-9]{1,9}", str(wanted)):
    number = int(wanted)
    if table.columns is None or number < len(table.columns):
      return number
  raise unknown_column(table, flag, f"there is no column {wanted!r}")


def unknown_column(table: Table, flag: str, problem: str) -> InputError:
  """Returns the error about a flag that should name a column, with the columns that there are."""
  if table.columns is None:
    return InputError(f"{table.path}: --{flag}: {problem}; without a header give its number")
  return InputError(
    f"{table.path}: --{flag}: {problem}; the file's columns are {listed(table.columns)}"
  )


def listed(names: Sequence[object], most: int = 20) -> str:
  """Lists names, ["a", 1] -> "'a', 1"; of many names the first ones and the number of all."""
  shown = ", ".join(map(repr, names[:most]))
  return shown if len(names) <= most else f"{shown}, ... ({len(names)} in all)"


def cell(row: Row, column: int) -> Optional[str]:
  """Returns the text of a column; a JSON number as in JSON, null as None.

  Raises:
    InputError: the value is a list or an object of JSON.
  """
  value = row[column]
  if isinstance(value, (dict, list)):
    raise InputError(f"{row.source}: found {json.dumps(value)[:60]} where a text should be")
  return value if value is None or isinstance(value, str) else json.dumps(value)


# ---- Writing ------------------------------------------------------------------------------------


def write_bytes(path: str, data: bytes) -> None:
  """Writes a file whole or not at all.

  Raises:
    InputError: it cannot be written.
  """
  if is_remote(path):  # an object store shows an object only when it is complete
    with converted_write_errors(path, Exception), open_binary(path, "w") as f:
      f.write(data)
    return
  temporary = f"{path}.tmp{os.getpid()}"
  try:
    with converted_write_errors(path):
      with open(temporary, "wb") as f:
        f.write(data)
      os.replace(temporary, path)
  except BaseException:
    if os.path.exists(temporary):
      os.remove(temporary)
    raise


@contextlib.contextmanager
def converted_write_errors(
  path: str, kinds: Union[type[Exception], tuple[type[Exception], ...]] = OSError, remedy: str = ""
) -> Iterator[None]:
  """Converts exceptions of some kinds while a file is written to an InputError that names it.

  Args:
    path: the file or directory.
    kinds: the exceptions.
    remedy: what to do, for the message.
  """
  try:
    yield
  except InputError:
    raise
  except kinds as error:
    end = f"; {remedy}" if remedy else ""
    raise InputError(f"{path}: cannot be written: {describe(error)}{end}") from error


@contextlib.contextmanager
def new_file(path: str) -> Iterator[BinaryIO]:
  """Opens a file for bytes that is written in pieces and gets its name when it is complete.

  with new_file("results.jsonl.gz") as f:  # compressed, by its name
    f.write(b"...")

  After an exception, an earlier file of that name is unchanged.

  Raises:
    InputError: the file cannot be written.
  """
  temporary = f"{path}.tmp{os.getpid()}"
  try:
    with converted_write_errors(path):
      with open_binary(temporary, "w") as stored, _compressing(path, stored) as f:
        yield f
      if is_remote(path):
        _gfile().rename(temporary, path, overwrite=True)
      else:
        os.replace(temporary, path)
  except BaseException:
    if exists(temporary):
      remove(temporary)
    raise


def _compressing(path, stored):
  """Returns a file that writes to the open one, compressed if the path ends in .gz."""
  if path.endswith(".gz"):
    # No time and name in it: the same content makes the same file.
    return gzip.GzipFile("", "wb", compresslevel=_GZIP_LEVEL, fileobj=stored, mtime=0)
  if is_remote(path):
    return io.BufferedWriter(_RemoteSink(stored))
  return contextlib.nullcontext(stored)


class _RemoteSink(io.RawIOBase):
  """A remote file for writing; GFile lacks the errors by which zipfile detects a stream."""

  def __init__(self, stored):
    super().__init__()
    self._stored = stored

  def writable(self):
    return True

  def write(self, data):
    self._stored.write(bytes(data))
    return len(data)


def write_text(path: str, text: str) -> None:
  """Writes UTF-8 text, whole or not at all."""
  write_bytes(path, text.encode("utf-8"))


def write_json(path: str, value: object) -> None:
  """Writes a value as indented JSON with sorted keys, NumPy's numbers too, whole or not at all."""
  write_text(path, json.dumps(value, indent=2, sort_keys=True, default=float) + "\n")
