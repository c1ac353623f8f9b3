"""Entities by the tags of words: O, or B-, I-, E-, S- and a type."""

from typing import NamedTuple


class Entity(NamedTuple):
  """A name in a sentence; `end` is the word after its last."""

  type: str
  start: int
  end: int


def find_entities(tags: list[str]) -> list[Entity]:
  """Returns the entities of a sentence in order, by the rules of conlleval.

  Tags are O, or one of B-, I-, E-, S- and a type, in IOB1, IOB2 or BIOES. An entity begins at B-
  and S-, and also at an I- or E- after O, E-, S- or another type:
    O I-PER I-LOC I-LOC B-LOC -> PER 1 to 2, LOC 2 to 4, LOC 4 to 5
  """
  found: list[Entity] = []
  open_type, start, last_prefix = "", 0, "O"
  for place, tag in enumerate([*tags, "O"]):
    prefix, _, name = tag.partition("-")
    prefix, name = (prefix, name or "_") if prefix in ("B", "I", "E", "S") else ("O", "")
    goes_on = prefix in ("I", "E") and last_prefix in ("B", "I") and name == open_type
    if not goes_on:
      if last_prefix != "O":
        found.append(Entity(open_type, start, place))
      open_type, start = name, place
    last_prefix = prefix
  return found
