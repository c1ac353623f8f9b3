"""Requests and answers of each kind of model: JSON instances to calls of its predictor.

An instance that cannot be used is refused before it is put into a batch with those of others.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple, Optional

import numpy as np

from toolkit.formats import model_heads
from toolkit.serving.predictor import Facts, check_finite
from toolkit.serving.service.refusals import Refused
from toolkit.serving.service.scheduling import Operation

MASK = "[MASK]"
_MOST_MASKS = 128  # of a text
_MOST_CHOICES = 64
_LEAST_CHOICES = 2
_IDS = {"input_ids", "input_mask", "segment_ids"}


class Ids(NamedTuple):
  """An instance of word pieces' ids.

  Attributes:
    row: input_ids and segment_ids without padding, and positions for a masked language model.
    padded_length: S, the length that the client sent.
  """

  row: Any
  padded_length: int


class Model:
  """A loaded model, and what it can be asked.

  Attributes:
    name: by which clients call it.
    predictor: that of toolkit.serving.loading.
    facts: of the predictor.
    task: name of its head; see model_heads.
    max_seq_length: word pieces of an input.
    texts, ids: the operations over instances of text, and of ids.
    embeddings: the operation over texts, or lists of ids without special tokens, that gives
      feature_extractor.Embedding; for encoders alone.
  """

  def __init__(self, name: str, predictor: Any, most_characters: int) -> None:
    """Takes a predictor that toolkit.serving.loading has loaded."""
    self.name = name
    self.predictor = predictor
    self.facts: Facts = predictor.facts
    self.task = self.facts.head.name
    self.max_seq_length = self.facts.max_seq_length
    self._most_characters = most_characters
    self._adapter = _ADAPTERS[self.task](self)
    self.texts = Operation(name, self._adapter.run, self._adapter.weigh)
    self.ids = Operation(name, self._run_ids, lambda ids: len(ids.row[0]))
    self.embeddings = Operation(name, self._embed, self._adapter.weigh)

  def describe(self) -> dict[str, Any]:
    """Returns the model's entry in the list of models."""
    return {
      "id": self.name,
      "object": "model",
      "created": 0,
      "owned_by": "local",
      "task": self.task,
      "labels": self.facts.labels,
      "max_seq_length": self.max_seq_length,
      "engine": self.predictor.engine,
      **({"kind": self._kind()} if self.task == model_heads.CLASSIFIER else {}),
    }

  def _kind(self):
    """Returns what a classifier predicts; the activation of its outputs tells it."""
    kinds = {"softmax": "one_label", "sigmoid": "labels"}
    return kinds.get(self.facts.head.activation or "", "number")

  def warm_up(self) -> None:
    """Runs the model once, as its first run is slower, and checks its outputs.

    Raises:
      files.InputError: they are not finite.
    """
    row: Any = ([0] * 3,) * (len(self.facts.head.inputs()) - 1)
    for outputs in self.facts.predictor.run([row]):
      check_finite(outputs.values(), self.name)

  # ---- Reading ----------------------------------------------------------------------------------

  def read_instances(self, instances: Any) -> tuple[Operation, list[Any]]:
    """Reads the instances of a request.

    Returns:
      The operation that they are for, and its items.

    Raises:
      Refused: they are no list, or one of them cannot be used; the message tells its number.
    """
    if not isinstance(instances, list) or not instances:
      raise Refused(400, "instances must be a list with one instance or more")
    are_ids = [isinstance(each, dict) and "input_ids" in each for each in instances]
    if len(set(are_ids)) > 1:
      raise Refused(400, "some instances have input_ids and some have none; send them apart")
    read = self._read_ids if are_ids[0] else self._adapter.read
    items = [read(each, f"instance {number}") for number, each in enumerate(instances)]
    return (self.ids if are_ids[0] else self.texts), items

  def read_text(self, value: Any, place: str) -> str:
    """Returns a text: a str, or an object with its UTF-8 bytes in base64, {"b64": ...}.

    Raises:
      Refused: it is none, or too long.
    """
    if isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str):
      try:
        value = base64.b64decode(value["b64"], validate=True).decode("utf-8")
      except (binascii.Error, ValueError):
        raise Refused(400, f"{place}: b64 is not UTF-8 text in base64") from None
    if not isinstance(value, str):
      raise Refused(400, f"{place} must be a string, not {kind_of(value)}")
    if len(value) > self._most_characters:
      raise Refused(
        413,
        f"{place} has {len(value)} characters, and the limit is {self._most_characters}; divide it",
      )
    return value

  def read_fields(
    self, value: Any, place: str, required: Sequence[str], optional: Sequence[str] = ()
  ) -> list[Any]:
    """Returns the values of an object's fields, None for an optional one that is not there.

    Raises:
      Refused: it is no object, lacks a required field, or has an unknown one.
    """
    names = [*required, *optional]
    shown = ", ".join(names)
    if not isinstance(value, dict):
      raise Refused(400, f"{place} must be an object with {shown}, not {kind_of(value)}")
    for name in required:
      if value.get(name) is None:
        raise Refused(400, f"{place} has no {name}; its fields are {shown}")
    if not set(value) <= set(names):
      raise Refused(400, f"{place} has an unknown field; its fields are {shown}, or input_ids")
    return [value.get(name) for name in names]

  def read_token_ids(self, value: Any, place: str, most: Optional[int] = None) -> list[int]:
    """Returns ids of the vocabulary.

    Raises:
      Refused: it is no list of ids, or longer than `most`, by default the model's positions.
    """
    config = self.facts.config
    most = config.max_position_embeddings if most is None else most
    return _integers(value, place, most, config.vocab_size)

  def _read_ids(self, value, place):
    is_masked = self.task == model_heads.MASKED_LM
    positions = [model_heads.POSITIONS] if is_masked else []
    names = ["input_ids", *positions]
    ids, *rest = self.read_fields(value, place, names, ["input_mask", "segment_ids"])
    ids = self.read_token_ids(ids, f"{place}: input_ids")
    mask, segments = rest[-2:]
    length = _length(mask, len(ids), place)
    if segments is None:
      segments = [0] * len(ids)
    kinds = self.facts.config.type_vocab_size
    segments = _integers(segments, f"{place}: segment_ids", len(ids), kinds, len(ids))
    row: tuple[list[int], ...] = (ids[:length], segments[:length])
    if is_masked:
      row = (*row, _integers(rest[0], f"{place}: {positions[0]}", len(ids), length))
    return Ids(row, len(ids))

  # ---- Running ----------------------------------------------------------------------------------

  def _run_ids(self, items):
    outputs = self.facts.predictor.run([item.row for item in items])
    return [self._named_outputs(*pair) for pair in zip(items, outputs)]

  def _named_outputs(self, item, outputs):
    """Returns lists of numbers by name; what has a value per word piece gets zeros at padding."""
    found = {}
    for name, values in outputs.items():
      if name == "masked_lm_logits":
        values = values[: len(item.row[2])]
      elif self._is_sequence(name):
        values = values[: len(item.row[0])]
        missing = item.padded_length - len(values)
        values = np.pad(values, [(0, missing)] + [(0, 0)] * (values.ndim - 1))
      found[name] = values.tolist()
    return found

  def _is_sequence(self, name):
    """Returns whether an output has a value per word piece."""
    is_of_tags = name == "logits" and self.task == model_heads.TAGS
    return is_of_tags or name in ("start_logits", "end_logits", "sequence_output")

  def _embed(self, items):
    texts = [item for item in items if isinstance(item, str)]
    of_texts = iter(self.predictor.embed(texts) if texts else [])
    ids = [item for item in items if not isinstance(item, str)]
    of_ids = iter(self.predictor.embed_ids(ids) if ids else [])
    return [next(of_texts if isinstance(item, str) else of_ids) for item in items]

  def tokens_of(self, text: str) -> int:
    """Returns about the number of word pieces of a text."""
    return len(text) // (4 if text.isascii() else 1) + 2

  def cut_tokens(self, *texts: Optional[str]) -> int:
    """Returns about the number of word pieces of an input that is cut to the model's length."""
    return min(sum(self.tokens_of(text) for text in texts if text), self.max_seq_length)


def kind_of(value: Any) -> str:
  """Returns the JSON name of a value's type, with its article."""
  if value is None:
    return "null"
  if isinstance(value, bool):
    return "a boolean"
  names = {str: "a string", dict: "an object", list: "a list", int: "a number", float: "a number"}
  return names[type(value)]


def _integers(value, place, most, limit, length=None):
  """Returns a list of integers from 0 up to, but without, a limit."""
  if not isinstance(value, list):
    raise Refused(400, f"{place} must be a list of integers, not {kind_of(value)}")
  if not value:
    raise Refused(400, f"{place} is empty")
  if length is not None and len(value) != length:
    raise Refused(400, f"{place} has {len(value)} numbers, and input_ids has {length}")
  if len(value) > most:
    raise Refused(400, f"{place} has {len(value)} numbers, and the limit is {most}")
  for number in value:
    if type(number) is not int or not 0 <= number < limit:
      raise Refused(400, f"{place} must be integers from 0 to {limit - 1}")
  return value


def _length(mask, length, place):
  """Returns the number of word pieces before the padding."""
  if mask is None:
    return length
  mask = _integers(mask, f"{place}: input_mask", length, 2, length)
  number = sum(mask)
  if not number or not all(mask[:number]):
    raise Refused(400, f"{place}: input_mask must be 1 up to the padding, and 0 from there on")
  return number


# ---- Kinds of models ----------------------------------------------------------------------------


class _Adapter:
  """Reading, size and results of one kind of model's instances of text."""

  def __init__(self, model):
    self.model = model

  def read(self, value, place):
    """Returns an item; by default a text, alone or as the field `text` of an object."""
    if isinstance(value, dict) and "b64" not in value:
      (value,) = self.model.read_fields(value, place, ["text"])
    return self.model.read_text(value, place)

  def weigh(self, item):
    return self.model.cut_tokens(item)


class _Classifier(_Adapter):
  def read(self, value, place):
    if not isinstance(value, dict) or "b64" in value:
      return self.model.read_text(value, place)
    text, text_b = self.model.read_fields(value, place, ["text"], ["text_b"])
    text = self.model.read_text(text, f"{place}: text")
    if text_b is None:
      return text
    return text, self.model.read_text(text_b, f"{place}: text_b")

  def weigh(self, item):
    return self.model.cut_tokens(*([item] if isinstance(item, str) else item))

  def run(self, items):
    return [self._result(prediction) for prediction in self.model.predictor.classify(items)]

  def _result(self, prediction):
    cut = {"truncated": prediction.truncated}
    if isinstance(prediction.value, float):
      return {"value": prediction.value, **cut}
    shares = {"probabilities": prediction.probabilities}
    if isinstance(prediction.value, tuple):
      return {"labels": list(prediction.value), **shares, **cut}
    return {"label": prediction.value, **shares, **cut}


class _Questions(_Adapter):
  def read(self, value, place):
    names = ("question", "context")
    fields = self.model.read_fields(value, place, names)
    texts = [self.model.read_text(x, f"{place}: {n}") for x, n in zip(fields, names)]
    for text, name in zip(texts, names):
      if not text.strip():
        raise Refused(400, f"{place}: {name} is empty")
    return tuple(texts)

  def weigh(self, item):
    # Windows overlap, by two thirds with the usual lengths.
    question, context = item
    tokens = self.model.tokens_of(question) + self.model.tokens_of(context)
    return tokens if tokens <= self.model.max_seq_length else 3 * tokens

  def run(self, items):
    return [
      {
        "answer": answer.text,
        "probability": answer.probability,
        "start_char": answer.start_char,
        "end_char": answer.end_char,
        "null_odds": answer.null_odds,
        "windows": answer.num_windows,
      }
      for answer in self.model.predictor.ask_all(items)
    ]


class _Tags(_Adapter):
  def weigh(self, item):
    return self.model.tokens_of(item)

  def run(self, items):
    found = self.model.predictor.tag_windows(items)
    return [{**record, "windows": number} for record, number in found]


class _Choices(_Adapter):
  def read(self, value, place):
    read = self.model.read_text
    choices, question, context = self.model.read_fields(
      value, place, ["choices"], ["question", "context"]
    )
    if not isinstance(choices, list) or not _LEAST_CHOICES <= len(choices) <= _MOST_CHOICES:
      raise Refused(
        400, f"{place}: choices must be a list of {_LEAST_CHOICES} to {_MOST_CHOICES} strings"
      )
    choices = [read(each, f"{place}: choice {n}") for n, each in enumerate(choices)]
    if not all(choice.strip() for choice in choices):
      raise Refused(400, f"{place}: a choice is empty")
    texts = [
      None if text is None else read(text, f"{place}: {name}")
      for name, text in (("question", question), ("context", context))
    ]
    if not any((text or "").strip() for text in texts):
      raise Refused(400, f"{place} needs a question or a context, or both")
    return (choices, *texts)

  def weigh(self, item):
    choices, *texts = item
    return sum(self.model.cut_tokens(choice, *texts) for choice in choices)

  def run(self, items):
    return [
      self._result(item, found)
      for item, found in zip(items, self.model.predictor.choose_all(items))
    ]

  def _result(self, item, found):
    shares = {choice.text: choice.probability for choice in found}
    return {
      "choice": found[0].text,
      "probabilities": [shares[text] for text in item[0]],
      "truncated": any(choice.truncated for choice in found),
    }


class _Masks(_Adapter):
  def read(self, value, place):
    text = super().read(value, place)
    number = text.count(MASK)
    if not 1 <= number <= _MOST_MASKS:
      raise Refused(400, f"{place} has {number} times {MASK}; it needs 1 to {_MOST_MASKS}")
    return text

  def weigh(self, item):
    tokens = self.model.tokens_of(item)
    is_one_input = tokens <= self.model.max_seq_length
    return tokens if is_one_input else item.count(MASK) * self.model.max_seq_length

  def run(self, items):
    return [
      {"masks": [[{"token": token, "probability": p} for token, p in mask] for mask in masks]}
      for masks in self.model.predictor.fill_all(items)
    ]


class _Vectors(_Adapter):
  def weigh(self, item):
    return self.model.cut_tokens(item) if isinstance(item, str) else len(item) + 2

  def run(self, items):
    return self.model.predictor.embed(items)


_ADAPTERS: dict[str, Callable[[Model], Any]] = {
  model_heads.CLASSIFIER: _Classifier,
  model_heads.SPAN: _Questions,
  model_heads.TAGS: _Tags,
  model_heads.CHOICE: _Choices,
  model_heads.MASKED_LM: _Masks,
  model_heads.ENCODER: _Vectors,
}
