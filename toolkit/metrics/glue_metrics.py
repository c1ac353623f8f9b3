"""Metrics of classification, multi-label classification and regression, as GLUE defines them.

Undefined numbers (the precision of a class that was never predicted, the correlation with a
constant) are 0.0, so that results are comparable.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from sklearn import metrics


def classification_metrics(
  label_ids: ArrayLike, predictions: ArrayLike, label_names: Sequence[str]
) -> dict[str, Any]:
  """Compares predicted classes with true ones.

  Args:
    label_ids: int [N], true classes.
    predictions: int [N], predicted classes; or float [N, L], probabilities or logits, of which the
      first largest counts.
    label_names: L names in the order of their ids.

  Returns:
    Dict of int, float, str and lists of them, ready for JSON:
      examples: N.
      accuracy: fraction of correct examples, 0 to 1.
      f1: F1 of class 1 against class 0, as in GLUE; only with two classes.
      macro_f1: mean of the F1 of all L classes, with 0.0 for a class that does not occur.
      matthews: Matthews correlation, -1 to 1; its generalisation (Gorodkin 2004) for L > 2.
      per_class: label, precision, recall, f1, support (true examples) of each class in order.
      confusion_matrix: [L][L] int; row: true class, column: predicted class.

  Raises:
    ValueError: there is no example, numbers of examples differ, a class is out of range, or a
      probability is NaN.
  """
  truth, found = _checked_classes(label_ids, predictions, len(label_names))
  classes = list(range(len(label_names)))
  per_class = _per_label(truth, found, label_names)
  result = {
    "examples": len(truth),
    "accuracy": float(metrics.accuracy_score(truth, found)),
    "macro_f1": _mean_f1(per_class),
    "matthews": float(metrics.matthews_corrcoef(truth, found)),
    "per_class": per_class,
    "confusion_matrix": metrics.confusion_matrix(truth, found, labels=classes).tolist(),
  }
  if len(label_names) == 2:
    result["f1"] = per_class[1]["f1"]
  return result


def _per_label(truth, predictions, label_names):
  """Returns label, precision, recall, f1, support per label; of classes [N] or multi-hot [N, L]."""
  measures = metrics.precision_recall_fscore_support(
    truth, predictions, labels=list(range(len(label_names))), zero_division=0.0
  )
  names = ("precision", "recall", "f1", "support")
  return [
    {"label": label if isinstance(label, (str, int)) else str(label), **dict(zip(names, values))}
    for label, *values in zip(label_names, *(measure.tolist() for measure in measures))
  ]


def _mean_f1(per_label):
  return float(np.mean([each["f1"] for each in per_label]))


def multi_label_metrics(
  truth: ArrayLike, predictions: ArrayLike, label_names: Sequence[str]
) -> dict[str, Any]:
  """Compares predicted sets of labels with true ones.

    truth {a, b} {}, predicted {a} {c}: micro F1 2 * 1 / (2 + 2), exact match 0 of 2

  Args:
    truth, predictions: multi-hot [N, L].
    label_names: L names, two or more.

  Returns:
    Dict, ready for JSON:
      examples: N.
      micro_f1: F1 of all pairs of an example and a label together, 0 to 1.
      macro_f1: mean of the F1 of all L labels, with 0.0 for a label that does not occur.
      exact_match: subset accuracy, the fraction of examples whose predicted set is the true one.
      per_label: label, precision, recall, f1, support (true examples) of each label in order.

  Raises:
    ValueError: there is no example, there are fewer than two labels, or shapes differ.
  """
  expected, found = _checked_multi_hot(truth, predictions, len(label_names))
  _, _, micro_f1, _ = metrics.precision_recall_fscore_support(
    expected, found, average="micro", zero_division=0.0
  )
  per_label = _per_label(expected, found, label_names)
  return {
    "examples": len(expected),
    "micro_f1": float(micro_f1),
    "macro_f1": _mean_f1(per_label),
    "exact_match": float(metrics.accuracy_score(expected, found)),
    "per_label": per_label,
  }


def best_threshold(truth: ArrayLike, probabilities: ArrayLike) -> float:
  """Returns the threshold with the best micro F1; of equally good ones the highest.

  It is the same for all labels, in the middle between the lowest predicted probability and the next
  one: with truth 1 1 0 and probabilities .9 .5 .1 it is .3.

  Args:
    truth: multi-hot [N, L]. Without any label the threshold is 0.5.
    probabilities: float [N, L], from 0 to 1.
  """
  truth, probabilities = np.ravel(truth).astype(bool), np.ravel(probabilities)
  if not truth.any():
    return 0.5
  precision, recall, found = metrics.precision_recall_curve(truth, probabilities)
  # The last point of the curve is a threshold above all probabilities, with recall 0.
  precision, recall = precision[:-1], recall[:-1]
  f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
  best = int(np.flatnonzero(f1 == f1.max())[-1])
  next_lower = found[best - 1] if best else 0.0
  return (float(found[best]) + float(next_lower)) / 2


def regression_metrics(scores: ArrayLike, predictions: ArrayLike) -> dict[str, Any]:
  """Compares predicted numbers, float [N] or [N, 1], with true ones, float [N].

  Returns:
    Dict, ready for JSON: examples (N), pearson, spearman (correlations, -1 to 1; of equal numbers
    the ranks are averaged), mean_squared_error.

  Raises:
    ValueError: there is no example, numbers of examples differ, or a number is not finite.
  """
  scores = np.asarray(scores, np.float64)
  predictions = np.asarray(predictions, np.float64)
  if predictions.ndim == 2 and predictions.shape[1] == 1:
    predictions = predictions[:, 0]
  _check_sizes(scores, predictions, max_rank=1)
  if not (np.isfinite(scores).all() and np.isfinite(predictions).all()):
    raise ValueError("scores and predictions must be finite numbers")
  return {
    "examples": len(scores),
    "pearson": _correlation(stats.pearsonr, scores, predictions),
    "spearman": _correlation(stats.spearmanr, scores, predictions),
    "mean_squared_error": float(np.mean((scores - predictions) ** 2)),
  }


def _check_sizes(truth, predictions, max_rank):
  same = truth.ndim == 1 and truth.shape == predictions.shape[:1] and predictions.ndim <= max_rank
  if not same or not len(truth):
    raise ValueError(f"shapes {truth.shape} and {predictions.shape} are not those of N examples")


def _checked_classes(label_ids, predictions, num_labels):
  """Returns both as int [N], after the checks of classification_metrics."""
  label_ids, predictions = np.asarray(label_ids), np.asarray(predictions)
  _check_sizes(label_ids, predictions, max_rank=2)
  if predictions.ndim == 2:
    if predictions.shape[1] != num_labels or np.isnan(predictions).any():
      raise ValueError(
        f"predictions must be {num_labels} numbers for each example, none of them NaN"
      )
    predictions = predictions.argmax(1)
  for ids in (label_ids, predictions):
    if ids.min() < 0 or ids.max() >= num_labels:
      raise ValueError(f"classes must be 0 to {num_labels - 1}, found {ids.min()} to {ids.max()}")
  return label_ids.astype(np.int64), predictions.astype(np.int64)


def _checked_multi_hot(truth, predictions, num_labels):
  """Returns both as bool [N, L], after the checks of multi_label_metrics."""
  truth, predictions = np.asarray(truth, bool), np.asarray(predictions, bool)
  wanted = (len(truth), num_labels)
  if not len(truth) or num_labels < 2 or not truth.shape == predictions.shape == wanted:
    raise ValueError(
      f"shapes {truth.shape} and {predictions.shape} are not those of N examples and {num_labels} "
      "labels, of which there must be two or more"
    )
  return truth, predictions


def _correlation(measure, a, b):
  """Returns a correlation of scipy.stats; 0.0 where it is undefined."""
  if np.ptp(a) == 0 or np.ptp(b) == 0:
    return 0.0
  # Scaled first, so that the squares of tiny or huge numbers can be represented.
  return float(np.clip(measure(a / np.abs(a).max(), b / np.abs(b).max())[0], -1.0, 1.0))
