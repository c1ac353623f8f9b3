"""A trained model by the files of its directory; without TensorFlow."""

from collections.abc import Iterable
from typing import Any, NamedTuple, Optional

import tokenization
from toolkit.support import files

LABEL_FILE = "label_list.txt"


class Trained(NamedTuple):
  """A model that a script has trained, or an export of one.

  Attributes:
    directory: of the model.
    config: the model's configuration: a modeling.BertConfig, or an object with its attributes.
    vocab_file: path of the vocabulary.
    flags: flag name -> value of the training; empty for directories without run.json.
    labels: in the order of their ids, or None.
  """

  directory: str
  config: Any
  vocab_file: str
  flags: dict[str, Any]
  labels: Optional[list[str]]

  def flags_among(self, names: Iterable[str]) -> dict[str, Any]:
    """Selects the flags that have one of the names."""
    return {name: self.flags[name] for name in names if name in self.flags}

  def do_lower_case(self) -> bool:
    """Returns the casing of the training, or of the model that was converted."""
    converted = getattr(self.config, "huggingface", {}).get("tokenizer_config", {})
    return self.flags.get("do_lower_case", converted.get("do_lower_case", True))

  def make_tokenizer(self) -> tokenization.FullTokenizer:
    """Makes the tokenizer of the training, or of the model that was converted."""
    return tokenization.FullTokenizer(self.vocab_file, self.do_lower_case())

  def required_labels(self) -> list[str]:
    """Returns the labels; InputError where the directory has none."""
    if self.labels is None:
      raise files.InputError(f"{self.directory} has no {LABEL_FILE}; train a model there first")
    return self.labels
