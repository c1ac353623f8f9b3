"""Texts as word pieces, ids and masks, in the form that all tasks share.

[CLS] she left . [SEP] she has gone . [SEP] [PAD] ...   input_ids
  1    1   1   1   1    1   1   1   1   1     0   ...   input_mask
  0    0   0   0   0    1   1   1   1   1     0   ...   segment_ids
"""

from typing import NamedTuple, Optional

import numpy as np
from absl import logging

import tokenization
from toolkit.records import tf_records
from toolkit.support import files

INPUTS = ("input_ids", "input_mask", "segment_ids")


class Encoded(NamedTuple):
  """A text, or a pair of texts, as the model takes it.

  Attributes:
    tokens: list of str, the word pieces with [CLS] and [SEP], without padding.
    input_ids: list of max_length int, ids of the word pieces, then 0.
    input_mask: list of max_length int, 1 for a word piece, 0 for padding.
    segment_ids: list of max_length int, 1 for the second text and its [SEP], else 0.
    is_truncated: bool, whether the texts were longer and lost their ends.
  """

  tokens: list
  input_ids: list
  input_mask: list
  segment_ids: list
  is_truncated: bool


def encode_pair(
  tokenizer: tokenization.FullTokenizer,
  text_a: str,
  text_b: Optional[str],
  max_length: int,
  least_text: int = 0,
) -> Encoded:
  """Encodes one or two texts in max_length word pieces, [CLS] and [SEP] included.

  Raises:
    files.InputError: max_length has no place for `least_text` word pieces of text.
  """
  tokens_a = tokenizer.tokenize(text_a)
  tokens_b = tokenizer.tokenize(text_b) if text_b else []
  max_text = max_length - (3 if tokens_b else 2)  # [CLS] a [SEP] b [SEP], or [CLS] a [SEP]
  if max_text < least_text:
    raise files.InputError(f"--max_seq_length: {max_length} leaves no room for text; give more")
  is_truncated = len(tokens_a) + len(tokens_b) > max_text
  _truncate_seq_pair(tokens_a, tokens_b, max_text)
  first = ["[CLS]", *tokens_a, "[SEP]"]
  second = [*tokens_b, "[SEP]"] if tokens_b else []
  tokens = first + second
  padding = [0] * (max_length - len(tokens))
  return Encoded(
    tokens,
    tokenizer.convert_tokens_to_ids(tokens) + padding,
    [1] * len(tokens) + padding,
    [0] * len(first) + [1] * len(second) + padding,
    is_truncated,
  )


def _truncate_seq_pair(tokens_a, tokens_b, max_length):
  """Cuts two lists in place to max_length tokens in all, from the end of the longer one each time.

  With max_length 4: [a b c d], [x y z] -> [a b], [x y]; when both are as long, the second is cut.
  """
  while len(tokens_a) + len(tokens_b) > max_length:
    longer = tokens_a if len(tokens_a) > len(tokens_b) else tokens_b
    longer.pop()


def token_features(seq_length: int, names=INPUTS) -> list[tf_records.Feature]:
  """Returns the columns of records that have one int32 per word piece."""
  return [tf_records.Feature(name, np.int32, (seq_length,), per_token=True) for name in names]


def log_example(**values):
  """Logs an example, one line per value; the items of a list or dict are joined by spaces."""
  logging.info("*** Example ***")
  for name, value in values.items():
    if isinstance(value, dict):
      value = [f"{key}:{item}" for key, item in value.items()]
    logging.info("%s: %s", name, " ".join(map(str, value)) if isinstance(value, list) else value)
