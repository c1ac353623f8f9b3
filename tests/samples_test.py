"""The samples: what their README says of them, and that answers are where they should be."""

import json
import pathlib
import re

import pytest

SAMPLES = pathlib.Path(__file__).resolve().parents[1] / "samples"
SQUAD = SAMPLES / "squad"
FILES = ["train", "dev", "test", "questions"]
README = (SAMPLES / "README.md").read_text(encoding="utf-8")


def read(name):
  return json.loads((SQUAD / f"{name}.json").read_text(encoding="utf-8"))


def paragraphs(name):
  return [paragraph for article in read(name)["data"] for paragraph in article["paragraphs"]]


def questions(rows):
  return [question for paragraph in rows for question in paragraph["qas"]]


@pytest.mark.parametrize("name", FILES)
def test_answers_are_parts_of_their_paragraphs(name):
  wrong = []
  for paragraph in paragraphs(name):
    context = paragraph["context"]
    assert context == context.strip() and "  " not in context
    for question in paragraph["qas"]:
      assert question["is_impossible"] == (not question["answers"]), question["id"]
      for answer in question["answers"]:
        words = re.compile(rf"(?<!\w){re.escape(answer['text'])}(?!\w)")
        if not words.match(context, answer["answer_start"]):
          wrong.append((question["id"], answer))
  assert not wrong


def test_questions_are_distinct_and_end_with_a_question_mark():
  found = [question for name in FILES for question in questions(paragraphs(name))]
  assert len({question["id"] for question in found}) == len(found)
  assert all(question["question"].endswith("?") for question in found)
  for name in FILES:
    for paragraph in paragraphs(name):
      texts = [question["question"].lower() for question in paragraph["qas"]]
      assert len(set(texts)) == len(texts), texts


def test_no_paragraph_is_in_two_files():
  contexts = [paragraph["context"] for name in FILES for paragraph in paragraphs(name)]
  assert len(set(contexts)) == len(contexts)
  titles = [article["title"] for name in FILES for article in read(name)["data"]]
  assert len(set(titles)) == len(titles)


def test_the_readme_has_the_counts():
  for name in FILES:
    found = paragraphs(name)
    qas = [question for paragraph in found for question in paragraph["qas"]]
    without = sum(not question["answers"] for question in qas)
    assert f"| `{name}.json` | {len(found)} | {len(qas):,} | {without} |" in README


def test_the_readme_has_the_lengths():
  lengths = [len(p["context"].split()) for name in FILES for p in paragraphs(name)]
  assert f"({min(lengths)} to {max(lengths)} words)" in README
