"""Composes paragraphs with questions from patterns.txt, and puts them behind those of train.json.

  python samples/squad/compose.py

Paragraphs of an earlier call are replaced. The same options give the same file.
"""

import argparse
import json
import pathlib
import random
import re
from typing import NamedTuple

HERE = pathlib.Path(__file__).parent
TITLE = "Composed paragraphs"
POSSESSIVE = {"it": "its", "she": "her", "he": "his"}
# [a|b], {name:a|b}, {name}, and # for a digit.
TOKEN = re.compile(
  r"\[(?P<either>[^]]*)\]|\{(?P<name>\w+)(:(?P<options>[^}]*))?\}|(?P<digits>#+)", re.ASCII
)


# ---- Patterns -----------------------------------------------------------------------------------


class Sentence(NamedTuple):
  """A sentence and its questions, pairs of the answer's name and a list of ways to ask."""

  text: str
  questions: list


class Subject(NamedTuple):
  """A kind of thing that paragraphs are about.

  Attributes:
    forms: lists of patterns: full names, short names, pronouns.
    sentences: list of Sentence.
    lists: dict of name -> list of patterns, in addition to those of the file.
  """

  forms: list
  sentences: list
  lists: dict


def read_patterns(path):
  """Reads a file of patterns.

  Returns:
    Dict of name -> list of patterns, and list of Subject.
  """
  lists, subjects = {}, []
  for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines():
    if line.startswith("== "):
      subjects.append(Subject([_parts(part, "|") for part in line[3:].split(";")], [], {}))
    elif line.startswith("  "):
      answer, ways = line.strip().split(": ", 1)
      subjects[-1].sentences[-1].questions.append((answer, _parts(ways, " / ")))
    elif re.match(r"\w+ = ", line):
      name, options = line.split(" = ", 1)
      (subjects[-1].lists if subjects else lists)[name] = _parts(options, "|")
    elif line and not line.startswith("#"):
      subjects[-1].sentences.append(Sentence(line, []))
  return lists, subjects


def _parts(text, separator):
  return [part.strip() for part in text.split(separator)]


# ---- Composition --------------------------------------------------------------------------------


class Composer:
  """Composes paragraphs about one Subject."""

  def __init__(self, lists, subject, rng):
    self._lists = {**lists, **subject.lists}
    self._subject = subject
    self._rng = rng
    self._taken = set()  # values of the paragraph, so that no two are alike

  def fill(self, text, values):
    """Fills a pattern in.

    Args:
      text: the pattern.
      values: dict of name -> value; gets the names that are new.

    Returns:
      The text, and dict of name -> where its value begins.
    """
    done, places, end = "", {}, 0
    for token in TOKEN.finditer(text):
      done += text[end : token.start()]
      end = token.end()
      value = self._value(token, values)
      if done.endswith((" a ", "A ")) and value[0] in "aeiou":
        done = done[:-1] + "n "
      places.setdefault(token["name"], len(done))
      done += value
    return done + text[end:], places

  def _value(self, token, values):
    if token["either"] is not None:
      return self._rng.choice(token["either"].split("|"))
    if token["digits"]:
      return str(self._rng.randint(10 ** (len(token[0]) - 1), 10 ** len(token[0]) - 1))
    name = token["name"]
    while name not in values:
      options = token["options"].split("|") if token["options"] else self._lists[name.rstrip("23")]
      value, _ = self.fill(self._rng.choice(options), {})
      if value not in self._taken:
        values[name] = value
        self._taken.add(value)
    return values[name]

  def paragraph(self, number, num_sentences, num_questions, impossible):
    """Composes a paragraph.

    Args:
      number: int, part of the questions' ids.
      num_sentences: int.
      num_questions: int, at most.
      impossible: float, share of questions without an answer.

    Returns:
      Dict with context and qas, as SQuAD has them.
    """
    rng, values = self._rng, {}
    self._taken.clear()
    full, short, pronoun = (self.fill(rng.choice(f), values)[0] for f in self._subject.forms)
    sentences = rng.sample(self._subject.sentences, len(self._subject.sentences))
    first = next(s for s in sentences if s.text.startswith("{It}"))
    sentences.remove(first)
    context, asked = "", []
    for sentence in [first, *sentences[: num_sentences - 1]]:
      it = rng.choice([full, short, pronoun, pronoun]) if context else full
      values = {"It": _capital(it), "it": it, "its": POSSESSIVE[pronoun]}
      text, places = self.fill(sentence.text, values)
      for answer, ways in sentence.questions:
        question = self._question(ways, {**values, "name": rng.choice([full, full, short])})
        start = len(context) + places[answer]
        if values[answer].lower() not in question.lower():
          asked.append((question, start, len(values[answer])))
      context += _capital(text) + " "
    rng.shuffle(asked)
    others = _without_values(sentences[num_sentences - 1 :])
    qas = []
    for question, start, length in asked[:num_questions]:
      answers = [{"text": context[start : start + length], "answer_start": start}]
      if rng.random() < impossible:
        question, answers = self._question(rng.choice(others), {"name": full}), []
      if question not in [other["question"] for other in qas]:
        qas.append({"id": f"composed-{number}-{len(qas) + 1}", "question": question})
        qas[-1].update(answers=answers, is_impossible=not answers)
    return {"context": context.strip(), "qas": qas}

  def _question(self, ways, values):
    return _capital(self.fill(self._rng.choice(ways), values)[0])


def _without_values(sentences):
  """Lists the questions of sentences, each a list of ways, that name the subject alone."""
  names = re.compile(r"\{(\w+)")
  ways = [ways for sentence in sentences for _, ways in sentence.questions]
  return [some for some in ways if all(set(names.findall(way)) <= {"name"} for way in some)]


def _capital(text):
  return text[:1].upper() + text[1:]


def compose(num_paragraphs, seed=1, impossible=0.2):
  """Composes paragraphs about all subjects in turn: a list of dicts as SQuAD has them."""
  lists, subjects = read_patterns(HERE / "patterns.txt")
  rng = random.Random(seed)
  paragraphs = []
  for number in range(1, num_paragraphs + 1):
    composer = Composer(lists, subjects[number % len(subjects)], rng)
    paragraphs.append(composer.paragraph(number, rng.randint(3, 6), 4, impossible))
  return paragraphs


def dump(squad):
  """Returns a SQuAD dataset as JSON with one question per line."""
  text = json.dumps(squad, ensure_ascii=False, indent=1)
  return re.sub(r"\n {6}( +|(?=\}))", " ", text) + "\n"


def main():
  """Composes according to the command line."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--file", type=pathlib.Path, default=HERE / "train.json")
  parser.add_argument("--num_paragraphs", type=int, default=1000)
  parser.add_argument("--seed", type=int, default=1)
  arguments = parser.parse_args()
  squad = json.loads(arguments.file.read_text(encoding="utf-8"))
  squad["data"] = [article for article in squad["data"] if article["title"] != TITLE]
  paragraphs = compose(arguments.num_paragraphs, arguments.seed)
  squad["data"].append({"title": TITLE, "paragraphs": paragraphs})
  arguments.file.write_text(dump(squad), encoding="utf-8")


if __name__ == "__main__":
  main()
