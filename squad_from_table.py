"""Makes a SQuAD 2.0 file of a plain table of questions.

  python squad_from_table.py questions.csv questions.json

The table is .csv or .tsv with a header, or .jsonl. Its columns are question, context and, if they
are known, answer (empty: the context has none), answer_start (in characters) and id.
"""

from toolkit.support import quiet_start  # noqa: F401, first of all  # isort: skip

import os
from typing import Any, Optional

from absl import logging

from toolkit.support import files, plain_command_line


def columns_to_squad(path: str) -> dict[str, Any]:
  """Converts a table of questions to SQuAD 2.0.

  Args:
    path: a .csv or .tsv file with a header, or a .jsonl file, with these columns.
      question, context: required.
      answer: "" for a question that the context does not answer. Without the column no answers are
        known, which is enough for prediction.
      answer_start: place of the answer in the context, in characters from 0. Without it the first
        place is used; a warning counts the answers with several.
      id: default the row's number, from 0.

  Returns:
    The content of a SQuAD file. Questions with the same context share a paragraph, in the order of
    their first question.

  Raises:
    files.InputError: names the line of a row that cannot be used.
  """
  by_context: dict[str, list[dict[str, Any]]] = {}
  sources: dict[str, str] = {}
  num_ambiguous = 0
  for number, (source, row) in enumerate(_read_columns(path)):
    question, context = (_filled(row, name, source) for name in ("question", "context"))
    qas_id = _filled(row, "id", source) if "id" in row else str(number)
    if qas_id in sources:
      raise files.InputError(f"{source}: found id {qas_id!r} again; {sources[qas_id]} has it")
    sources[qas_id] = source
    qas: dict[str, Any] = {"id": qas_id, "question": question}
    if "answer" in row:
      answer = _find_answer(row, context, source)
      qas.update(answers=[answer] if answer else [], is_impossible=answer is None)
      is_placed = (row.get("answer_start") or "").strip()
      num_ambiguous += bool(answer and not is_placed and context.count(answer["text"]) > 1)
    by_context.setdefault(context, []).append(qas)
  if num_ambiguous:
    logging.warning(
      "%s: %d answers occur in their context more than once; the first place is used. Give "
      "their places in a column answer_start.",
      path,
      num_ambiguous,
    )
  title = os.path.splitext(os.path.basename(path))[0]
  paragraphs = [{"context": context, "qas": qas} for context, qas in by_context.items()]
  return {"version": "v2.0", "data": [{"title": title, "paragraphs": paragraphs}]}


_COLUMNS = ("question", "context", "answer", "answer_start", "id")


def _read_columns(path):
  """Returns file:line and a dict of column -> text or None per row of a table."""
  file_format = os.path.splitext(path)[1][1:].lower()
  if file_format not in files.TABLES:
    raise files.InputError(
      f"{path}: its name ends in {file_format!r}; known are {', '.join(files.TABLES)}"
    )
  table = files.read_table(path, file_format)
  columns = table.columns or []
  for name in ("question", "context"):
    if name not in columns:
      found = ", ".join(map(repr, columns))
      raise files.InputError(f"{path}:1: has no column {name!r}; its columns are {found}")
  places = {name: columns.index(name) for name in _COLUMNS if name in columns}
  files.check_widths(table)
  return [
    (row.source, {name: files.cell(row, c) for name, c in places.items()}) for row in table.rows
  ]


def _filled(row, column, source):
  if not (row[column] or "").strip():
    raise files.InputError(f"{source}: has no {column}")
  return row[column]


def _find_answer(row, context, source):
  """Returns the answer of a row in SQuAD's form, or None if there is none."""
  answer, start = row["answer"] or "", (row.get("answer_start") or "").strip()
  if not answer.strip():
    return None
  if not start:
    answer = answer.strip()
    place = context.find(answer)
    if place < 0:
      raise files.InputError(f"{source}: the answer {answer!r} is not in its context")
  elif not start.isdecimal():
    raise files.InputError(f"{source}: found {start!r} where answer_start, a number, should be")
  else:
    place = int(start)
    found = context[place : place + len(answer)]
    if found != answer:
      raise files.InputError(
        f"{source}: the answer {answer!r} is not at answer_start {place}, where {found!r} is"
      )
  return {"text": answer, "answer_start": place}


def main(arguments: Optional[list[str]] = None) -> None:
  """Converts a table by a command line, by default the program's.

  Raises:
    files.InputError: a mistake in the command line or in the table.
  """
  parser = plain_command_line.Parser(__file__, __doc__)
  parser.add_argument("table", help="table of questions: .csv, .tsv or .jsonl")
  parser.add_argument("output", help="SQuAD 2.0 file to write: .json")
  args = parser.parse_args(arguments)
  squad = columns_to_squad(args.table)
  with files.converted_write_errors(args.output):
    files.write_json(args.output, squad)
  paragraphs = squad["data"][0]["paragraphs"]
  num_questions = sum(len(paragraph["qas"]) for paragraph in paragraphs)
  print(f"{args.output}: {num_questions} questions about {len(paragraphs)} paragraphs")


if __name__ == "__main__":
  plain_command_line.run(main)
