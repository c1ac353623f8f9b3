"""Metrics of classification and regression, as GLUE and common use define them.

Pure functions of arrays. A number that is not defined (the precision of a class that was never
predicted, the correlation with a constant) is 0.0, so that results can always be compared.
"""

import numpy as np


def classification_metrics(label_ids, predictions, label_names):
  """Compares predicted classes with true ones.

  Args:
    label_ids: int [N], true classes.
    predictions: int [N], predicted classes; or float [N, L], probabilities or logits, of which the
      first largest counts.
    label_names: list of L names in the order of their ids.

  Returns:
    Dict of int, float, str and lists of them, ready for JSON:
      examples: N.
      accuracy: part of the examples that is right, 0 to 1.
      f1: F1 of class 1 against class 0, as GLUE has it; only with two classes.
      macro_f1: mean of the F1 of all L classes, with 0.0 for a class that does not occur.
      matthews: Matthews correlation, -1 to 1; its generalisation (Gorodkin 2004) for L > 2.
      per_class: for each class in order label, precision, recall, f1, support (true examples).
      confusion_matrix: [L][L] int; row: true class, column: predicted class.

  Raises:
    ValueError: there is no example, numbers of examples differ, a class is out of range, or a
      probability is NaN.
  """
  confusion = _confusion_matrix(label_ids, predictions, len(label_names))
  correct = np.diag(confusion)
  support, predicted = confusion.sum(1), confusion.sum(0)
  precision = _ratio(correct, predicted)
  recall = _ratio(correct, support)
  f1 = _ratio(2 * correct, support + predicted)
  result = {
    "examples": int(confusion.sum()),
    "accuracy": float(correct.sum() / confusion.sum()),
    "macro_f1": float(f1.mean()),
    "matthews": _matthews(confusion),
    "per_class": [
      {
        "label": name if isinstance(name, (str, int)) else str(name),
        "precision": float(precision[i]),
        "recall": float(recall[i]),
        "f1": float(f1[i]),
        "support": int(support[i]),
      }
      for i, name in enumerate(label_names)
    ],
    "confusion_matrix": confusion.tolist(),
  }
  if len(label_names) == 2:
    result["f1"] = float(f1[1])
  return result


def regression_metrics(scores, predictions):
  """Compares predicted numbers with true ones.

  Args:
    scores: float [N], true numbers.
    predictions: float [N] or [N, 1].

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
    "pearson": _correlation(scores, predictions),
    "spearman": _correlation(_ranks(scores), _ranks(predictions)),
    "mean_squared_error": float(np.mean((scores - predictions) ** 2)),
  }


def _check_sizes(truth, predictions, max_rank):
  same = truth.ndim == 1 and truth.shape == predictions.shape[:1] and predictions.ndim <= max_rank
  if not same or not len(truth):
    raise ValueError(f"shapes {truth.shape} and {predictions.shape} are not those of N examples")


def _confusion_matrix(label_ids, predictions, num_labels):
  """int64 [L, L]; row: true class, column: predicted class."""
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
  cells = label_ids.astype(np.int64) * num_labels + predictions.astype(np.int64)
  return np.bincount(cells, minlength=num_labels**2).reshape(num_labels, num_labels)


def _ratio(numerators, denominators):
  """Their quotients; 0.0 where the denominator is 0, as the numerator is there."""
  return numerators / np.maximum(denominators, 1)


def _matthews(confusion):
  confusion = confusion.astype(np.float64)
  total, correct = confusion.sum(), np.trace(confusion)
  support, predicted = confusion.sum(1), confusion.sum(0)
  variances = (total**2 - support @ support) * (total**2 - predicted @ predicted)
  if variances <= 0:  # one class alone is true, or is predicted
    return 0.0
  return float((correct * total - support @ predicted) / np.sqrt(variances))


def _correlation(a, b):
  if np.ptp(a) == 0 or np.ptp(b) == 0:
    return 0.0
  # Scaled first, so that the squares of tiny or huge numbers can be represented.
  a, b = a / np.abs(a).max(), b / np.abs(b).max()
  a, b = a - a.mean(), b - b.mean()
  return float(np.clip(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), -1.0, 1.0))


def _ranks(values):
  """Ranks from 1, averaged among equal values: [5, 2, 5] -> [2.5, 1, 2.5]."""
  _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
  return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
