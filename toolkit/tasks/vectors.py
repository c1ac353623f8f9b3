"""Vectors of texts: examples, their features, and the values of a model's outputs."""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Optional

import numpy as np

import tokenization
from toolkit.records import tf_records
from toolkit.support import files

POOLINGS = ("none", "cls", "mean", "max", "mean_max")

_INPUTS = ("input_ids", "input_mask", "input_type_ids")
_NUM_LOGGED_EXAMPLES = 5


@dataclasses.dataclass(eq=False)
class InputExample:
  """A text, or a pair of them."""

  unique_id: int
  text_a: str
  text_b: Optional[str]


@dataclasses.dataclass(eq=False)
class InputFeatures:
  """An example as inputs of the model; input_type_ids are segments, see tokenization.Encoded."""

  unique_id: int
  tokens: list[str]
  input_ids: list[int]
  input_mask: list[int]
  input_type_ids: list[int]
  is_truncated: bool = False


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
  """Returns the features of an example; see convert_examples_to_features."""
  encoded = tokenization.encode_pair(tokenizer, example.text_a, example.text_b, seq_length)
  return InputFeatures(example.unique_id, *encoded)


def logged(features: Iterable[InputFeatures]) -> Iterator[InputFeatures]:
  """Passes features on, and logs the first few."""
  for number, feature in enumerate(features):
    if number < _NUM_LOGGED_EXAMPLES:
      names = ("unique_id", "tokens", *_INPUTS)
      tf_records.log_example(**{name: getattr(feature, name) for name in names})
    yield feature


def record_features(seq_length: int) -> list[tf_records.Feature]:
  """Returns the table of the model_fn's features."""
  table = tf_records.token_features(seq_length, _INPUTS)
  return [tf_records.Feature("unique_ids", np.int32), *table]


def feature_row(feature: InputFeatures) -> dict[str, Any]:
  """Returns a row for the table of record_features."""
  return {"unique_ids": feature.unique_id, **{name: getattr(feature, name) for name in _INPUTS}}


def check_layers(layers: Sequence[int], num_layers: int) -> None:
  """Raises files.InputError for a layer that a model of num_layers does not have, or for none."""
  if not layers:
    raise files.InputError("--layers: none is given")
  for layer in layers:
    if not -num_layers <= layer < num_layers:
      raise files.InputError(
        f"--layers: there is no layer {layer}; the model's {num_layers} layers are 0 to "
        f"{num_layers - 1}, or -1 (the last) to {-num_layers}"
      )


def check_length(max_seq_length: int, max_positions: Optional[int] = None) -> None:
  """Raises files.InputError for a length without space for text, or without positions for it."""
  if max_seq_length < 3:
    raise files.InputError(
      f"--max_seq_length: {max_seq_length} leaves no space for text; give more"
    )
  if max_positions and max_seq_length > max_positions:
    raise files.InputError(
      f"--max_seq_length={max_seq_length} is more than the {max_positions} positions of the model"
    )


def text_mask(input_mask: np.ndarray, input_type_ids: np.ndarray) -> np.ndarray:
  """Returns the mask of vectors_head.text_mask; all are int32 [B, S]."""
  same_text = input_type_ids[:, 1:] == input_type_ids[:, :-1]
  followed = input_mask[:, 1:] * same_text  # [B, S - 1]
  return np.pad(followed[:, 1:], [(0, 0), (1, 1)])


def pool(layer: np.ndarray, mask: np.ndarray, pooling: str) -> np.ndarray:
  """Pools the vectors of a layer; see vectors_head.pool.

  Args:
    layer: float32 [B, S, H].
    mask: int32 [B, S], 1 for the vectors that count.
    pooling: member of POOLINGS but "none".

  Returns:
    float32 [B, H]; [B, 2 * H] for mean_max.
  """
  if pooling == "cls":
    return layer[:, 0]
  if pooling == "mean_max":
    return np.concatenate([pool(layer, mask, "mean"), pool(layer, mask, "max")], axis=-1)
  if pooling == "mean":
    weights = mask.astype(np.float32)
    number = np.maximum(weights.sum(axis=1, keepdims=True), 1.0)  # [B, 1]
    return np.einsum("bsh,bs->bh", layer, weights) / number
  counts = mask[:, :, np.newaxis] > 0  # [B, S, 1]
  highest = np.where(counts, layer, np.finfo(np.float32).min).max(axis=1)  # [B, H]
  return np.where(counts.any(axis=1), highest, np.float32(0.0))


def values_of(outputs: dict[str, np.ndarray], num_tokens: int) -> np.ndarray:
  """Returns the outputs of vectors_head.create_model for one input, without padding.

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
