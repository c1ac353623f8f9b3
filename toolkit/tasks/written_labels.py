"""Labels as files write them: several in a text, a column for each, and those that look alike.

good, quiet     ["good", "quiet"]     ['good', 'quiet']     -> "good", "quiet"
[1, 0, 1] of the labels good, bad, quiet                    -> "good", "quiet"
"""

import ast
import collections
import json
import re
import unicodedata
import warnings
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, Optional

from absl import logging

from toolkit.support import files

_TRUTH = {
  **dict.fromkeys(("0", "0.", "0.0", "false"), False),
  **dict.fromkeys(("1", "1.", "1.0", "true"), True),
}


# ---- Several labels in a text -------------------------------------------------------------------


class Entries(NamedTuple):
  """Those of one row, True if they are a list in the file, and "file:line"."""

  values: list[str]
  is_list: bool
  source: str

  def shown(self) -> str:
    """Returns the entries for a message."""
    return f"[{', '.join(self.values)}]"[:60]

  def truths(self) -> Optional[list[bool]]:
    """Returns the truths of entries of 0 and 1, and of false and true; None for others."""
    truths = [
      truth for truth in (_TRUTH.get(value.lower()) for value in self.values) if truth is not None
    ]
    return None if len(truths) < max(2, len(self.values)) else truths


_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_ITEM = rf"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|{_NUMBER}|[Tt]rue|[Ff]alse"""
# With commas between, as Python writes lists, tuples and sets; or with spaces, as NumPy does.
_LIST = re.compile(rf"(?:(?:{_ITEM})(?:\s*,\s*|\s+|\s*$))*")
_CLOSING = {"[": "]", "(": ")", "{": "}"}


def parse_list(text: str) -> Optional[list[str]]:
  """Parses a list of quoted texts and numbers as JSON, Python and NumPy write it.

  "['a', \\"b c\\"]" -> ["a", "b c"];  "(0, 1)", "[0 1]" -> ["0", "1"];  "a, b" -> None

  Args:
    text: without space at its ends.

  Returns:
    The items as text; None for what is no such list.
  """
  if len(text) < 2 or _CLOSING.get(text[0]) != text[-1]:
    return None
  try:
    items = json.loads(text)
  except (ValueError, RecursionError):
    items = None
  if isinstance(items, list) and not any(isinstance(item, (list, dict)) for item in items):
    return [i if isinstance(i, str) else json.dumps(i) for i in items if i is not None]
  inner = text[1:-1].strip()
  if not _LIST.fullmatch(inner) or (text[0] == "(" and re.fullmatch(_NUMBER, inner)):
    return None
  return [_unquoted(item) for item in re.findall(_ITEM, inner)]


def _unquoted(item):
  if item[0] not in "'\"":
    return item
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")  # of a backslash before an ordinary character
      return ast.literal_eval(item)
  except (ValueError, SyntaxError):
    return item[1:-1]


def read_entries(
  row: files.Row, column: int, separator: str, known: Collection[str] = ()
) -> Entries:
  """Reads the entries of a column with several labels.

  Args:
    row: of a table.
    column: its place. A list of JSON, a list that is written as text, or labels in a text.
    separator: what stands between labels in a text.
    known: labels; a text of these alone is no list.

  Raises:
    files.InputError: the text is a list that cannot be read (file:line).
  """
  if isinstance(row[column], list):
    listed = files.Row(row[column], row.source)
    values = [files.cell(listed, place) or "" for place in range(len(listed))]
    return Entries(_cleaned(values), True, row.source)
  text = files.visible(files.cell(row, column) or "")
  plain = _cleaned(text.split(separator))
  items = None if plain and set(plain) <= set(known) else parse_list(text)
  if items is not None:
    return Entries(_cleaned(items), True, row.source)
  if not set(plain) <= set(known) and _is_broken_list(text, plain):
    raise files.InputError(
      f"{row.source}: found {text[:60]!r} where labels should be: with {separator!r} between them; "
      "or a list of quoted ones, such as ['a', 'b']; or a list with 0 or 1 for each label, such as "
      "[0, 1, 0]"
    )
  return Entries(plain, False, row.source)


def _cleaned(values):
  return [label for label in map(files.visible, values) if label]


def _is_broken_list(text, parts):
  """Returns True for a text whose separators are within brackets, or that begins like a list."""
  return (
    re.match(r"""[\[({]+\s*['"]""", text) is not None
    or (_is_balanced(text) and not all(map(_is_balanced, parts)))
    or any(parse_list(part) is not None for part in parts)
  )


def _is_balanced(text):
  return all(text.count(opening) == text.count(_CLOSING[opening]) for opening in _CLOSING)


# ---- Zeros and ones -----------------------------------------------------------------------------


def multi_hot_width(rows: list[Entries], known: Collection[str] = ()) -> Optional[int]:
  """Finds out whether entries are a 0 or 1 for each label, and not names of labels.

  [0, 0, 1] is no list of different names. [0, 1] may be one, so that with two labels another row
  has to show it, or the known labels.

  Args:
    rows: of a whole file.
    known: the labels, if they are known.

  Returns:
    The number of labels; None if the entries are names.

  Raises:
    files.InputError: other rows have another form (file:line).
  """
  rows = [row for row in rows if row.values]
  pairs = {tuple(row.truths() or ()) for row in rows if row.is_list and len(row.values) == 2}
  is_told = pairs == {(False, True), (True, False)} or (len(known) == 2 and "1" not in known)
  shows = next((row for row in rows if _is_multi_hot(row, is_told)), None)
  if shows is None:
    return None
  width = len(shows.values)
  for row in rows:
    if row.truths() is None or len(row.values) != width:
      raise files.InputError(
        f"{row.source}: found {row.shown()}, where {shows.source} has {shows.shown()}, a 0 or 1 "
        "for each label; write all rows so, or all with the names of their labels"
      )
  return width


def _is_multi_hot(row, is_told):
  truths = row.truths()
  if truths is None or not (row.is_list or len(truths) > 2):
    return False
  return len(truths) > 2 or truths[0] == truths[1] or is_told


def read_column(
  rows: Sequence[files.Row], column: int, separator: str, known: Optional[list[str]] = None
) -> tuple[list[tuple[str, ...]], Optional[list[str]]]:
  """Reads a column with several labels.

  Args:
    rows: of a whole file.
    column, separator: see read_entries.
    known: labels in the order of their ids.

  Returns:
    The labels of each row without repetitions; all labels if the file has a 0 or 1 for each and
    they are not known, which are numbers then, or None.

  Raises:
    files.InputError: a row cannot be read, or has 0 and 1 for another number of labels (file:line).
  """
  entries = [read_entries(row, column, separator, known or ()) for row in rows]
  width = multi_hot_width(entries, known or ())
  if width is None:
    return [tuple(dict.fromkeys(row.values)) for row in entries], None
  if known is not None and len(known) != width:
    first = next(row for row in entries if row.values)
    raise files.InputError(
      f"{first.source}: found {first.shown()}, {width} numbers, where there are {len(known)} "
      f"labels: {files.listed(list(known))}"
    )
  names = list(map(str, range(width))) if known is None else known
  chosen = [
    tuple(name for name, is_true in zip(names, row.truths() or ()) if is_true) for row in entries
  ]
  return chosen, names if known is None else None


def read_columns(rows: Iterable[files.Row], columns: dict[str, int]) -> list[tuple[str, ...]]:
  """Reads a column of 0 and 1, or of false and true, for each label.

  Args:
    rows: of a table.
    columns: label -> place of its column.

  Returns:
    The labels of each row.

  Raises:
    files.InputError: a value is another (file:line).
  """
  return [tuple(name for name in columns if _truth(row, columns[name], name)) for row in rows]


def _truth(row, place, name):
  value = files.cell(row, place)
  truth = _TRUTH.get((value or "").strip().lower())
  if truth is None:
    raise files.InputError(
      f"{row.source}: found {value!r} in the column of the label {name!r}, should be 0 or 1, or "
      "false or true"
    )
  return truth


# ---- Labels that look alike ---------------------------------------------------------------------


def look_alikes(labels: Iterable[str]) -> list[list[str]]:
  """Groups labels that differ in form alone, such as "Good" and "good", or "0" and "0.0".

  Forms are upper case, compatible characters of Unicode, spaces, characters without a width, and
  ways to write a number.
  """
  groups = collections.defaultdict(list)
  for label in labels:
    groups[_form(label)].append(label)
  return [group for group in groups.values() if len(group) > 1]


def _form(label):
  text = unicodedata.normalize("NFKC", label).casefold()
  text = _SELECTORS.sub("", "".join(c for c in text if _TAGS.match(c) or _is_visible(c)))
  return float(text) if re.fullmatch(_NUMBER, text) else unicodedata.normalize("NFKC", text)


# Characters without a width: those that choose a form of the one before, and of flags of regions.
_SELECTORS = re.compile("[\ufe00-\ufe0f]")
_TAGS = re.compile("[\U000e0020-\U000e007f]")


def _is_visible(character):
  return unicodedata.category(character) not in ("Cc", "Cf", "Zs", "Zl", "Zp")


def warn_of_look_alikes(path: str, sources: dict[str, list[str]]) -> None:
  """Logs one warning that names all labels of a file that differ in form alone.

  Args:
    path: of the file.
    sources: label -> each "file:line" where it stands.
  """
  groups = [", ".join(_shown(label, sources[label]) for label in g) for g in look_alikes(sources)]
  if groups:
    logging.warning(
      "%s: labels that look alike are different labels: %s; write the same label in the same way",
      path,
      "; ".join(groups[:10]) + ("; ..." if len(groups) > 10 else ""),
    )


def _shown(label, sources):
  """Returns a label with its count and its first place; characters that look alike are escaped."""
  is_plain = unicodedata.is_normalized("NFKC", label) and not _SELECTORS.search(label)
  shown = repr(label) if is_plain else ascii(label)
  return f"{shown} ({len(sources)}, first {sources[0]})"
