"""Vectors of texts: examples, their features, and the values of a model's outputs."""

import re
from collections.abc import Iterable, Iterator
from typing import Optional

import numpy as np
from absl import logging

import tokenization
from toolkit.records import tf_records
from toolkit.support import files
from toolkit.tasks.classification import _truncate_seq_pair

POOLINGS = ("none", "cls", "mean", "max", "mean_max")

_NUM_LOGGED_EXAMPLES = 5


class InputExample:
  """A text, or a pair of them.

  Attributes:
    unique_id: int.
    text_a: str.
    text_b: str, or None.
  """

  def __init__(self, unique_id: int, text_a: str, text_b: Optional[str]):
    self.unique_id = unique_id
    self.text_a = text_a
    self.text_b = text_b


class InputFeatures:
  """An example as inputs of the model.

  Attributes:
    unique_id: int, that of the example.
    tokens: list of str, the word pieces with [CLS] and [SEP].
    input_ids: list of seq_length int, ids of the word pieces, then 0.
    input_mask: list of seq_length int, 1 for a word piece, 0 for padding.
    input_type_ids: list of seq_length int, 1 for the second text and its [SEP], else 0.
    is_truncated: bool, whether the example was longer and lost its end.
  """

  def __init__(self, unique_id, tokens, input_ids, input_mask, input_type_ids, is_truncated=False):
    self.unique_id = unique_id
    self.tokens = tokens
    self.input_ids = input_ids
    self.input_mask = input_mask
    self.input_type_ids = input_type_ids
    self.is_truncated = is_truncated


def read_examples(input_file: str) -> list[InputExample]:
  """Reads a text file.

  "a b ||| c" -> InputExample(0, "a b", "c")

  Args:
    input_file: path of a UTF-8 file.

  Returns:
    One example per line; their unique_id counts from 0.

  Raises:
    files.InputError: the file cannot be read, or is not UTF-8 (file:line).
  """
  return list(stream_examples(input_file))


def stream_examples(input_file: str) -> Iterator[InputExample]:
  """Yields the examples of read_examples, with no more than a line in memory."""
  for number, line in enumerate(files.stream_lines(input_file)):
    text = line.strip()
    pair = re.match(r"^(.*) \|\|\| (.*)$", text)
    yield InputExample(number, *(pair.groups() if pair else (text, None)))


def convert_examples_to_features(
  examples: Iterable[InputExample], seq_length: int, tokenizer: tokenization.FullTokenizer
) -> list[InputFeatures]:
  """Makes the features of examples; logs the first few.

  Args:
    examples: the texts.
    seq_length: word pieces with [CLS] and [SEP]. A longer example is cut.
    tokenizer: of the model's vocabulary.
  """
  return list(logged(convert_example(e, seq_length, tokenizer) for e in examples))


def convert_example(
  example: InputExample, seq_length: int, tokenizer: tokenization.FullTokenizer
) -> InputFeatures:
  """The features of an example; see convert_examples_to_features."""
  tokens_a = tokenizer.tokenize(example.text_a)
  tokens_b = tokenizer.tokenize(example.text_b) if example.text_b else []
  max_tokens = seq_length - (3 if tokens_b else 2)  # [CLS] a [SEP] b [SEP], or [CLS] a [SEP]
  is_truncated = len(tokens_a) + len(tokens_b) > max_tokens
  _truncate_seq_pair(tokens_a, tokens_b, max_tokens)

  first = ["[CLS]", *tokens_a, "[SEP]"]
  second = [*tokens_b, "[SEP]"] if tokens_b else []
  tokens = first + second
  padding = [0] * (seq_length - len(tokens))
  return InputFeatures(
    unique_id=example.unique_id,
    tokens=tokens,
    input_ids=tokenizer.convert_tokens_to_ids(tokens) + padding,
    input_mask=[1] * len(tokens) + padding,
    input_type_ids=[0] * len(first) + [1] * len(second) + padding,
    is_truncated=is_truncated,
  )


def logged(features: Iterable[InputFeatures]) -> Iterator[InputFeatures]:
  """Passes features on, and logs the first few."""
  for number, feature in enumerate(features):
    if number < _NUM_LOGGED_EXAMPLES:
      logging.info("*** Example ***")
      logging.info("unique_id: %s", feature.unique_id)
      logging.info("tokens: %s", " ".join(feature.tokens))
      for name in ("input_ids", "input_mask", "input_type_ids"):
        logging.info("%s: %s", name, " ".join(map(str, getattr(feature, name))))
    yield feature


def record_features(seq_length: int) -> list[tf_records.Feature]:
  """The table of the model_fn's features."""
  per_token = [
    tf_records.Feature(name, np.int32, (seq_length,), per_token=True)
    for name in ("input_ids", "input_mask", "input_type_ids")
  ]
  return [tf_records.Feature("unique_ids", np.int32), *per_token]


def feature_row(feature: InputFeatures) -> dict:
  """A row for the table of record_features."""
  return {
    "unique_ids": feature.unique_id,
    "input_ids": feature.input_ids,
    "input_mask": feature.input_mask,
    "input_type_ids": feature.input_type_ids,
  }


def values_of(outputs: dict[str, np.ndarray], num_tokens: int) -> np.ndarray:
  """The outputs of vectors_head.create_model for one input, without padding.

  Args:
    outputs: name -> array, without the axis B.
    num_tokens: T.

  Returns:
    float32 [L, T, H]; with pooling [W].

  Raises:
    files.InputError: they are no finite numbers.
  """
  if "pooled" in outputs:
    values = outputs["pooled"]
  else:
    layers = sum(name.startswith("layer_output_") for name in outputs)
    values = np.stack([outputs[f"layer_output_{i}"][:num_tokens] for i in range(layers)])
  if not np.isfinite(values).all():
    raise files.InputError(
      "--init_checkpoint: the model's outputs are NaN or infinite: its weights are broken"
    )
  return values
