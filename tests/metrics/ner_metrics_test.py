"""Entities and their measures, against cases worked by hand and conlleval's rules written out."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.metrics.entities import Entity, find_entities
from toolkit.metrics.ner_metrics import entity_metrics, tag_metrics


@pytest.mark.parametrize(
  ("tags", "found"),
  [
    ("O O", []),
    ("B-PER I-PER O B-LOC", [("PER", 0, 2), ("LOC", 3, 4)]),
    ("B-PER B-PER", [("PER", 0, 1), ("PER", 1, 2)]),
    ("I-PER I-PER O I-PER", [("PER", 0, 2), ("PER", 3, 4)]),  # IOB1, or IOB2 with mistakes
    ("I-PER B-PER I-PER", [("PER", 0, 1), ("PER", 1, 3)]),
    # The type changes inside of what the prefixes call one entity.
    ("B-PER I-LOC I-LOC I-PER", [("PER", 0, 1), ("LOC", 1, 3), ("PER", 3, 4)]),
    ("I-LOC I-PER B-PER", [("LOC", 0, 1), ("PER", 1, 2), ("PER", 2, 3)]),
    ("B-PER I-PER E-PER S-PER S-LOC", [("PER", 0, 3), ("PER", 3, 4), ("LOC", 4, 5)]),
    (
      "B-PER E-PER I-PER E-LOC O E-LOC",
      [("PER", 0, 2), ("PER", 2, 3), ("LOC", 3, 4), ("LOC", 5, 6)],
    ),
    ("B-work-of-art I-work-of-art", [("work-of-art", 0, 2)]),
  ],
)
def test_entities(tags, found):
  assert find_entities(tags.split()) == [Entity(*each) for each in found]


def test_measures_worked_by_hand():
  gold = [
    ["B-PER", "I-PER", "O", "B-LOC"],  # PER 0-2, LOC 3-4
    ["B-ORG", "I-ORG", "I-ORG", "O", "O"],  # ORG 0-3
    ["B-LOC", "B-LOC"],  # LOC 0-1, LOC 1-2
  ]
  predicted = [
    ["B-PER", "I-PER", "O", "I-LOC"],  # both right: I- behind O begins an entity
    ["B-ORG", "I-LOC", "I-ORG", "O", "B-MISC"],  # ORG 0-1, LOC 1-2, ORG 2-3, MISC 4-5: all wrong
    ["B-LOC", "I-LOC"],  # LOC 0-2: wrong
  ]
  metrics = entity_metrics(gold, predicted)
  # 2 right of 7 predicted and of 5 true.
  assert metrics["precision"] == pytest.approx(2 / 7)
  assert metrics["recall"] == pytest.approx(2 / 5)
  assert metrics["f1"] == pytest.approx(2 * 2 / (7 + 5))
  assert metrics["accuracy"] == pytest.approx(7 / 11)
  assert metrics["per_type"] == {
    "LOC": {"precision": 1 / 3, "recall": 1 / 3, "f1": pytest.approx(1 / 3), "support": 3},
    "MISC": {"precision": 0, "recall": 0, "f1": 0, "support": 0},
    "ORG": {"precision": 0, "recall": 0, "f1": 0, "support": 1},
    "PER": {"precision": 1, "recall": 1, "f1": 1, "support": 1},
  }
  assert list(metrics["per_type"]) == ["LOC", "MISC", "ORG", "PER"]


def test_no_entities_at_all(recwarn):
  metrics = entity_metrics([["O", "O"]], [["O", "O"]])
  assert metrics == {"precision": 0, "recall": 0, "f1": 0, "accuracy": 1, "per_type": {}}
  assert not recwarn.list


def test_an_entity_ends_with_its_sentence():
  gold, predicted = [["B-PER"], ["I-PER"]], [["B-PER"], ["B-PER"]]
  assert entity_metrics(gold, predicted)["f1"] == 1


@pytest.mark.parametrize(
  ("gold", "predicted"), [([], []), ([[]], [[]]), ([["O"]], [["O", "O"]]), ([["O"]], [])]
)
@pytest.mark.parametrize("measure", [entity_metrics, tag_metrics])
def test_what_cannot_be_compared(gold, predicted, measure):
  with pytest.raises(ValueError):
    measure(gold, predicted)


# ---- Tags of single words -----------------------------------------------------------------------


def test_measures_of_single_words_worked_by_hand(recwarn):
  gold = [["NOUN", "VERB", "NOUN"], ["X", "NOUN"]]
  predicted = [["NOUN", "NOUN", "NOUN"], ["ADJ", "VERB"]]
  metrics = tag_metrics(gold, predicted)
  assert metrics["accuracy"] == 2 / 5
  # NOUN: 2 of 3 predicted are right, 2 of 3 true ones are found. All others have none.
  zero = {"precision": 0, "recall": 0, "f1": 0}
  assert metrics["per_tag"] == {
    "ADJ": {**zero, "support": 0},
    "NOUN": {**dict.fromkeys(["precision", "recall", "f1"], pytest.approx(2 / 3)), "support": 3},
    "VERB": {**zero, "support": 1},
    "X": {**zero, "support": 1},
  }
  assert list(metrics["per_tag"]) == ["ADJ", "NOUN", "VERB", "X"]
  assert metrics["macro_f1"] == pytest.approx(2 / 3 / 4)
  assert json.loads(json.dumps(metrics)) == metrics
  assert not recwarn.list


def test_prefixes_mean_nothing_to_single_words():
  assert tag_metrics([["B-A", "I-A"]], [["B-A", "B-A"]])["accuracy"] == 0.5


TAGS = st.sampled_from(["O", *(f"{prefix}-{name}" for prefix in "BI" for name in ("A", "B"))])
PAIRS = st.lists(st.lists(st.tuples(TAGS, TAGS), min_size=1, max_size=6), min_size=1, max_size=4)


def chunks(tags):
  """Set of (type, first word, word behind the last), by conlleval's rules for B- and I-."""
  found, before = [], "O"
  for place, tag in enumerate(tags):
    if tag != "O":
      if (before != f"I-{tag[2:]}" and before != f"B-{tag[2:]}") or tag[0] == "B":
        found.append([tag[2:], place, place])
      found[-1][2] = place + 1
    before = tag
  return {tuple(each) for each in found}


@given(PAIRS)
def test_measures_count_equal_chunks(pairs):
  gold, predicted = ([list(tags) for tags in side] for side in zip(*(zip(*row) for row in pairs)))
  assert [set(find_entities(tags)) for tags in gold] == [chunks(tags) for tags in gold]
  metrics = entity_metrics(gold, predicted)
  num_right = sum(len(chunks(g) & chunks(p)) for g, p in zip(gold, predicted))
  num_gold = sum(map(len, map(chunks, gold)))
  num_predicted = sum(map(len, map(chunks, predicted)))
  assert metrics["precision"] == pytest.approx(num_right / max(num_predicted, 1))
  assert metrics["recall"] == pytest.approx(num_right / max(num_gold, 1))
  assert metrics["f1"] == pytest.approx(2 * num_right / max(num_gold + num_predicted, 1))
  assert sum(each["support"] for each in metrics["per_type"].values()) == num_gold
