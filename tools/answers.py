"""Prints questions, their answers and the expected ones side by side.

python tools/answers.py samples/squad/questions.json /tmp/squad/predictions.json
"""

import json
import sys

NO_ANSWER = "no answer"


def rows(squad, predictions):
  """Returns a list of (question, answer, expected answer) of a SQuAD dataset.

  Args:
    squad: dict, the dataset.
    predictions: dict of question id -> text, "" for no answer.
  """
  paragraphs = [paragraph for article in squad["data"] for paragraph in article["paragraphs"]]
  return [
    (
      question["question"],
      predictions[question["id"]] or NO_ANSWER,
      question["answers"][0]["text"] if question["answers"] else NO_ANSWER,
    )
    for paragraph in paragraphs
    for question in paragraph["qas"]
  ]


def lines(table):
  """Returns the lines of a table, a list of tuples of str, with its columns aligned."""
  widths = [max(map(len, column)) for column in zip(*table)]
  return [
    "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table
  ]


def main(paths):
  """Prints the answers of two files; SystemExit with one line if they cannot be used."""
  if len(paths) != 2:
    sys.exit("usage: python tools/answers.py QUESTIONS.json predictions.json")
  loaded = [_read(path) for path in paths]
  try:
    found = rows(*loaded)
  except (KeyError, TypeError, IndexError) as error:
    sys.exit(f"{paths[1]}: has no answers to the questions of {paths[0]}: there is no {error}")
  sys.stdout.reconfigure(errors="backslashreplace")
  print(*lines([("question", "answer", "expected"), *found]), sep="\n")


def _read(path):
  try:
    with open(path, encoding="utf-8") as f:
      return json.load(f)
  except (OSError, ValueError) as error:
    sys.exit(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")


if __name__ == "__main__":
  main(sys.argv[1:])
