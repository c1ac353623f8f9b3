"""Classification of texts with a trained model, from Python and from the command line."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple, Union

import numpy as np

import tokenization
from toolkit.formats.model_heads import CLASSIFIER, Head
from toolkit.formats.trained_model import Trained
from toolkit.serving import engines
from toolkit.serving.predictor import Arrays, Facts, Row, check_finite
from toolkit.support import files
from toolkit.tasks import classification

Text = Union[str, tuple[str, str]]


class _Prediction(NamedTuple):
  value: Union[str, tuple[str, ...], float]
  probabilities: dict[str, float]


class Prediction(_Prediction):
  """The prediction for a text or a pair of texts: a tuple of value and probabilities.

  Attributes:
    value: a label; a tuple of labels for a multi-label model; a number for regression.
    probabilities: label -> probability in the order of the labels' ids; empty for regression.
    truncated: True if the text was longer than the model's input, and lost its end.
  """

  truncated = False


class Classifier:
  """A trained model, loaded once, that classifies texts. It is thread-safe.

  classifier = Classifier.from_directory("/tmp/reviews")
  classifier.classify(["A warm film.", "Two dull hours."])[0].value  # "positive"
  """

  def __init__(
    self,
    checkpoint: str,
    config: Any,
    tokenizer: tokenization.FullTokenizer,
    labels: Sequence[str],
    max_seq_length: int = 128,
    kind: classification.Kind = classification.CLASSES,
    threshold: float = 0.5,
    engine: str = engines.AUTO,
  ) -> None:
    """Loads the model.

    Args:
      checkpoint: the directory of an export, or a path as checkpoints.resolve_checkpoint takes it.
      config: the model's, such as a modeling.BertConfig.
      tokenizer: of the model's vocabulary.
      labels: in the order of their ids; empty for regression.
      max_seq_length: word pieces with [CLS] and [SEP]. Longer texts are cut.
      kind: member of classification.KINDS.
      threshold: probability from which on a multi-label model predicts a label.
      engine: member of engines.ENGINES.

    Raises:
      files.InputError: the checkpoint does not fit, or the engine is not installed.
    """
    self._directory = checkpoint if files.is_directory(checkpoint) else os.path.dirname(checkpoint)
    self._tokenizer = tokenizer
    self._labels = list(labels)
    self._max_seq_length = min(max_seq_length, config.max_position_embeddings)
    self._kind = kind
    self.threshold = threshold
    head = _head(kind, labels)
    self._predictor = engines.load_predictor(head, checkpoint, config, engine)
    self.engine = self._predictor.engine
    self.facts = Facts(self._predictor, head, config, self._max_seq_length, self._labels or None)

  @classmethod
  def from_directory(cls, output_dir: str, engine: str = engines.AUTO) -> "Classifier":
    """Loads the model of a directory that run_classifier.py has trained, or of its export.

    Raises:
      files.InputError: the directory is not complete, or of another script; or the engine is not
        installed.
    """
    found, engine = engines.find(output_dir, SOURCE, engine)
    head, flags = _describe(found)
    kind = classification.kind_of(flags)
    labels = (found.labels or [])[: head.num_labels] if head.activation else []
    options = {name: flags[name] for name in ("max_seq_length", "threshold") if name in flags}
    return cls(
      found.directory,
      found.config,
      found.make_tokenizer(),
      labels,
      kind=kind,
      engine=engine,
      **options,
    )

  def classify(self, texts: Sequence[Text]) -> list[Prediction]:
    """Classifies texts of any length, or pairs of them, and returns the predictions in their order.

    Raises:
      files.InputError: the model's outputs are NaN.
      TypeError: texts is one str, or holds what is neither a str nor a pair of them.
    """
    if isinstance(texts, str):
      raise TypeError("classify takes a list of texts, not one str")
    rows = [self._encode(*_as_pair(text)) for text in texts]
    name = "probabilities" if self._kind.activation else "logits"
    outputs = [row[name] for row in self._predictor.run([row for row, _ in rows])]
    if not outputs:
      return []
    check_finite(outputs, self._directory)
    values: list[Any] = self._kind.decide(np.stack(outputs), self._labels, self.threshold)
    if self._kind is classification.NUMBER:
      values = [float(value) for value in values]
    shares = [dict(zip(self._labels, map(float, row))) for row in outputs]
    found = list(map(Prediction, values, shares))
    for prediction, (_, is_truncated) in zip(found, rows):
      prediction.truncated = is_truncated
    return found

  def run_ids(self, rows: Sequence[Row]) -> list[Arrays]:
    """Runs the model on word pieces' ids; see predictor.Predictor.run."""
    return self._predictor.run(rows)

  def _encode(self, text, text_b):
    """Returns a row of the predictor, and whether the texts were cut."""
    encoded = tokenization.encode_pair(self._tokenizer, text, text_b, self._max_seq_length)
    length = len(encoded.tokens)
    return (encoded.input_ids[:length], encoded.segment_ids[:length]), encoded.is_truncated


def _head(kind, labels):
  return Head(CLASSIFIER, len(labels) or 1, kind.activation)


def _describe(found: Trained) -> tuple[Head, dict[str, Any]]:
  """Returns the head of a model, and the flags that Classifier.from_directory reads."""
  if "task_name" not in found.flags:
    raise files.InputError(
      f"{found.directory} has no run.json with a task; train a model there first"
    )
  flags = found.flags_among(["task_name", "multi_label", "regression", "max_seq_length"])
  kind = classification.kind_of(flags)
  labels = [] if kind is classification.NUMBER else found.required_labels()
  if kind is classification.LABELS:
    trained = found.flags.get("threshold", found.flags.get("label_threshold", 0.5))
    flags["threshold"] = classification.known_threshold(found.directory, trained)
  return _head(kind, labels), flags


SOURCE = engines.Source("run_classifier", _describe)


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
