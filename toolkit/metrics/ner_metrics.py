"""Metrics of predicted tags: of named entities, as in the CoNLL shared tasks, or of single words.

  gold       B-PER I-PER O B-LOC    Entity("PER", 0, 2), Entity("LOC", 3, 4)
  predicted  B-PER I-ORG O B-LOC    Entity("PER", 0, 1), Entity("ORG", 1, 2), Entity("LOC", 3, 4)
  -> 1 of 3 predicted is right (precision), 1 of 2 is found (recall); 3 of 4 tags (accuracy)

A predicted entity is right if its type and both its ends are. Tags that are no entities, such as
parts of speech, are compared word by word.
"""

from typing import Any

from seqeval.metrics.sequence_labeling import accuracy_score, precision_recall_fscore_support
from sklearn import metrics

from toolkit.metrics.entities import find_entities


def entity_metrics(gold: list[list[str]], predicted: list[list[str]]) -> dict[str, Any]:
  """Compares predicted entities with true ones, given by the tags of N sentences.

  Returns:
    Dict, ready for JSON, of numbers from 0 to 1; an undefined one (the precision of a type that was
    never predicted) is 0.0:
      precision, recall, f1: of all entities together.
      accuracy: fraction of the tags that are equal.
      per_type: a dict of precision, recall, f1 and support (int, true entities) per type.

  Raises:
    ValueError: there is no word, or numbers of sentences or words differ.
  """
  _check_words(gold, predicted)

  def scores(average):
    return precision_recall_fscore_support(gold, predicted, average=average, zero_division=0)

  precision, recall, f1, _ = scores("micro")
  types = sorted({entity.type for tags in (*gold, *predicted) for entity in find_entities(tags)})
  return {
    "precision": float(precision),
    "recall": float(recall),
    "f1": float(f1),
    "accuracy": accuracy_score(gold, predicted),
    "per_type": {
      name: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(support)}
      for name, p, r, f, support in zip(types, *scores(None))
    },
  }


def tag_metrics(gold: list[list[str]], predicted: list[list[str]]) -> dict[str, Any]:
  """Compares predicted tags with true ones, word by word; no tag has a meaning of its own.

    gold       NOUN VERB NOUN    accuracy 2/3
    predicted  NOUN VERB VERB -> F1 of NOUN 2/3, of VERB 2/3, macro F1 2/3

  Args:
    gold, predicted: a tag per word of each of N sentences.

  Returns:
    Dict, ready for JSON, of numbers from 0 to 1; an undefined one is 0.0:
      accuracy: fraction of the tags that are equal.
      macro_f1: mean of the F1 of the tags that occur, as true or as predicted ones.
      per_tag: a dict of precision, recall, f1 and support (int, true occurrences) for each of them.

  Raises:
    ValueError: there is no word, or numbers of sentences or words differ.
  """
  _check_words(gold, predicted)
  truth, found = ([tag for tags in side for tag in tags] for side in (gold, predicted))
  names = sorted({*truth, *found})
  scores = metrics.precision_recall_fscore_support(truth, found, labels=names, zero_division=0)
  per_tag = {
    name: {"precision": p, "recall": r, "f1": f1, "support": support}
    for name, p, r, f1, support in zip(names, *(values.tolist() for values in scores))
  }
  return {
    "accuracy": sum(map(str.__eq__, truth, found)) / len(truth),
    "macro_f1": sum(each["f1"] for each in per_tag.values()) / len(per_tag),
    "per_tag": per_tag,
  }


def _check_words(gold, predicted):
  """Checks that two lists of sentences have the same numbers of words, and one or more."""
  if not any(gold):
    raise ValueError("there is no word to compare")
  if list(map(len, gold)) != list(map(len, predicted)):
    raise ValueError("the numbers of sentences or of their words differ")
