"""Entities by the tags of words, compared with those that seqeval finds."""

import itertools

import pytest
from seqeval.metrics.sequence_labeling import get_entities

from toolkit.metrics.entities import find_entities

TAGS = ["O", *(f"{prefix}-{name}" for prefix in "BIES" for name in ("A", "B-C"))]


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_all_short_sequences(length):
  for tags in map(list, itertools.product(TAGS, repeat=length)):
    want = [(name, start, last + 1) for name, start, last in get_entities(tags)]
    assert [tuple(entity) for entity in find_entities(tags)] == want, tags


def test_tags_without_a_type():
  assert find_entities(["B", "I", "O", "I"]) == [("_", 0, 2), ("_", 3, 4)]
  assert find_entities(["X", "_", "X-A"]) == find_entities([]) == []
