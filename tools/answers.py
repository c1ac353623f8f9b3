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


if __name__ == "__main__":
  loaded = []
  for path in sys.argv[1:3]:
    with open(path, encoding="utf-8") as f:
      loaded.append(json.load(f))
  print(*lines([("question", "answer", "expected"), *rows(*loaded)]), sep="\n")
