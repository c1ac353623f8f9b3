"""Inputs of the model for texts with masks."""

from toolkit.serving import mask_filler


def test_a_text_with_its_segments():
  pieces = ["the", "[MASK]", "[SEP]", "it"]
  assert list(mask_filler.parts_with_masks(pieces, 6)) == [
    (["[CLS]", "the", "[MASK]", "[SEP]", "it", "[SEP]"], [0, 0, 0, 0, 1, 1], [2])
  ]


def test_of_long_text_there_is_a_part_around_each_mask():
  pieces = ["a", "[MASK]", "b", "c", "[SEP]", "d", "e", "[MASK]", "f", "g", "h", "[MASK]"]
  assert list(mask_filler.parts_with_masks(pieces, 7)) == [
    (["[CLS]", "a", "[MASK]", "b", "c", "[SEP]", "[SEP]"], [0] * 7, [2]),
    (["[CLS]", "d", "e", "[MASK]", "f", "g", "[SEP]"], [0, 1, 1, 1, 1, 1, 1], [3]),
    (["[CLS]", "[MASK]", "f", "g", "h", "[MASK]", "[SEP]"], [0, 1, 1, 1, 1, 1, 1], [5]),
  ]
