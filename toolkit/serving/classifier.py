"""Classification of texts with a trained model, from Python and from the command line."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple, Union

import numpy as np

import modeling
import tokenization
from toolkit.formats import checkpoints, model_directory
from toolkit.serving.predictor import Predictor
from toolkit.support import files
from toolkit.tasks import classification, classification_head

Text = Union[str, tuple[str, str]]


class Prediction(NamedTuple):
  """The prediction for a text or a pair of texts.

  Attributes:
    value: a label; a tuple of labels for a multi-label model; a number for regression.
    probabilities: label -> probability in the order of the labels' ids; empty for regression.
  """

  value: Union[str, tuple[str, ...], float]
  probabilities: dict[str, float]


class Classifier:
  """A trained model, loaded once, that classifies texts. It is thread-safe.

  classifier = Classifier.from_directory("/tmp/reviews")
  classifier.classify(["A warm film.", "Two dull hours."])[0].value  # "positive"
  """

  def __init__(
    self,
    checkpoint: str,
    config: modeling.BertConfig,
    tokenizer: tokenization.FullTokenizer,
    labels: Sequence[str],
    max_seq_length: int = 128,
    kind: classification.Kind = classification.CLASSES,
    threshold: float = 0.5,
  ) -> None:
    """Loads the model.

    Args:
      checkpoint: a path as checkpoints.resolve_checkpoint takes it.
      config: the model's.
      tokenizer: of the model's vocabulary.
      labels: in the order of their ids; empty for regression.
      max_seq_length: word pieces with [CLS] and [SEP]. Longer texts are cut.
      kind: member of classification.KINDS.
      threshold: probability from which on a multi-label model predicts a label.

    Raises:
      files.InputError: the checkpoint does not fit.
    """
    self._directory = checkpoint if files.is_directory(checkpoint) else os.path.dirname(checkpoint)
    self._tokenizer = tokenizer
    self._labels = list(labels)
    self._max_seq_length = min(max_seq_length, config.max_position_embeddings)
    self._kind = kind
    self._threshold = threshold

    def build(*inputs):
      logits = classification_head.create_logits(config, len(labels) or 1, *inputs)
      return {"probabilities": classification_head.HEADS[kind].activate(logits)}

    self._predictor = Predictor(build, checkpoint)

  @classmethod
  def from_directory(cls, output_dir: str) -> "Classifier":
    """Loads the model of a directory that run_classifier.py has trained.

    Raises:
      files.InputError: the directory is not complete, or of another script.
    """
    found = model_directory.load_trained(output_dir, "run_classifier")
    if "task_name" not in found.flags:
      raise files.InputError(
        f"{output_dir} has no {model_directory.RUN_FILE} with a task; train a model there first"
      )
    kind = classification.kind_of(found.flags)
    labels = [] if kind is classification.NUMBER else found.required_labels()
    options = {"kind": kind, **found.flags_among(["max_seq_length"])}
    if kind is classification.LABELS:
      trained = found.flags.get("label_threshold", 0.5)
      options["threshold"] = classification.known_threshold(output_dir, trained)
    return cls(output_dir, found.config, found.make_tokenizer(), labels, **options)

  def classify(self, texts: Sequence[Text]) -> list[Prediction]:
    """Classifies texts of any length, or pairs of them, and returns the predictions in their order.

    Raises:
      files.InputError: the model's outputs are NaN.
      TypeError: texts is one str, or holds what is neither a str nor a pair of them.
    """
    if isinstance(texts, str):
      raise TypeError("classify takes a list of texts, not one str")
    rows = [self._encode(*_as_pair(text)) for text in texts]
    outputs = [row["probabilities"] for row in self._predictor.run(rows)]
    if not outputs:
      return []
    checkpoints.check_finite(outputs, self._directory)
    values: list[Any] = self._kind.decide(np.stack(outputs), self._labels, self._threshold)
    found = [dict(zip(self._labels, map(float, row))) for row in outputs]
    if self._kind is classification.NUMBER:
      return [Prediction(float(value), {}) for value in values]
    return [Prediction(value, row) for value, row in zip(values, found)]

  def _encode(self, text, text_b):
    encoded = tokenization.encode_pair(self._tokenizer, text, text_b, self._max_seq_length)
    length = len(encoded.tokens)
    return encoded.input_ids[:length], encoded.segment_ids[:length]


def _as_pair(text):
  if isinstance(text, str):
    return text, None
  if isinstance(text, (tuple, list)) and len(text) == 2 and all(isinstance(x, str) for x in text):
    return text
  raise TypeError(f"classify takes texts and pairs of texts, not {text!r}")


def prediction_line(prediction: Prediction) -> str:
  """Formats a prediction, with the labels by falling probability.

  positive  (positive 0.984, negative 0.016)
  """
  if isinstance(prediction.value, float):
    return f"{prediction.value:.4g}"
  by_probability = sorted(prediction.probabilities.items(), key=lambda pair: -pair[1])
  shown = ", ".join(f"{label} {probability:.3f}" for label, probability in by_probability)
  value = prediction.value
  if isinstance(value, tuple):
    value = ", ".join(value) or "no label"
  return f"{value}  ({shown})"
