"""The samples: what their README says of them, and that answers are where they should be."""

import importlib.util
import json
import pathlib
import re

import pytest

SAMPLES = pathlib.Path(__file__).resolve().parents[1] / "samples"
SQUAD = SAMPLES / "squad"
FILES = ["train", "dev", "test", "questions"]
README = (SAMPLES / "README.md").read_text(encoding="utf-8")

_spec = importlib.util.spec_from_file_location("compose", SQUAD / "compose.py")
compose = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(compose)


def read(name):
  return json.loads((SQUAD / f"{name}.json").read_text(encoding="utf-8"))


def paragraphs(name, titles=lambda title: True):
  articles = [article for article in read(name)["data"] if titles(article["title"])]
  return [paragraph for article in articles for paragraph in article["paragraphs"]]


def questions(rows):
  return [question for paragraph in rows for question in paragraph["qas"]]


def counts(rows):
  found = questions(rows)
  return len(rows), len(found), sum(not question["answers"] for question in found)


@pytest.mark.parametrize("name", FILES)
def test_answers_are_parts_of_their_paragraphs(name):
  wrong = []
  for paragraph in paragraphs(name):
    context = paragraph["context"]
    assert context == context.strip() and "  " not in context
    for question in paragraph["qas"]:
      assert question["is_impossible"] == (not question["answers"]), question["id"]
      for answer in question["answers"]:
        start, end = answer["answer_start"], answer["answer_start"] + len(answer["text"])
        whole = re.search(r"^|\W", context[:start][-1:]) and re.search(
          r"^$|\W", context[end : end + 1]
        )
        if context[start:end] != answer["text"] or not whole:
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


def row(name, found):
  return "| {} | {} | {} | {} |".format(name, *(f"{count:,}" for count in found))


def test_the_readme_has_the_counts():
  for name in FILES[1:]:
    assert row(f"`{name}.json`", counts(paragraphs(name))) in README
  written = counts(paragraphs("train", lambda title: title != compose.TITLE))
  composed = counts(paragraphs("train", lambda title: title == compose.TITLE))
  assert row("`train.json`, written", written) in README
  assert row("`train.json`, composed", composed) in README


# ---- Composed paragraphs ------------------------------------------------------------------------


def test_the_composed_paragraphs_are_those_of_the_script():
  stored = paragraphs("train", lambda title: title == compose.TITLE)
  assert stored == compose.compose(len(stored))


def test_the_script_replaces_what_it_has_composed(tmp_path, monkeypatch):
  path = tmp_path / "train.json"
  path.write_text(json.dumps({"version": "v2.0", "data": [{"title": "a", "paragraphs": []}]}))
  for number in (3, 2):
    monkeypatch.setattr("sys.argv", ["compose.py", f"--file={path}", f"--num_paragraphs={number}"])
    compose.main()
    first, second = json.loads(path.read_text())["data"]
    assert (first["title"], second["title"], len(second["paragraphs"])) == (
      "a", compose.TITLE, number,
    )  # fmt: skip
  assert len(re.findall('^ *{ "id": ', path.read_text(), re.M)) == len(
    questions(second["paragraphs"])
  )


def test_every_pattern_can_be_filled_in():
  lists, subjects = compose.read_patterns(SQUAD / "patterns.txt")
  for subject in subjects:
    for sentence in subject.sentences:
      composer = compose.Composer(lists, subject, compose.random.Random(0))
      values = {"It": "The mill", "it": "the mill", "its": "its", "name": "the mill"}
      text, places = composer.fill(sentence.text, values)
      for answer, ways in sentence.questions:
        start = places[answer]
        assert text[start : start + len(values[answer])] == values[answer]
        known = set(values)
        for way in ways:
          assert way.endswith("?")
          text_of_question, _ = composer.fill(way, values)
          assert set(values) == known, way  # a question names no value that its sentence lacks
          assert not re.search(r"[][{}|#]", text_of_question)
      assert not re.search(r"[][{}|#]", text)


def test_a_word_beginning_with_a_vowel_has_its_article():
  composer = compose.Composer({"job": ["engineer"]}, compose.Subject([], [], {}), compose.random)
  assert composer.fill("She is a {job}, a [idle] one.", {})[0] == "She is an engineer, an idle one."
