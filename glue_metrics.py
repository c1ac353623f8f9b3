"""Metrics of classification and regression, as GLUE and common use define them.

Pure functions of arrays. A number that is not defined (the precision of a class that was never
predicted, the correlation with a constant) is 0.0, so that results can always be compared.
"""

import numpy as np
from scipy import stats
from sklearn import metrics


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
  label_ids, predictions = _checked_classes(label_ids, predictions, len(label_names))
  classes = list(range(len(label_names)))
  per_class = metrics.precision_recall_fscore_support(
    label_ids, predictions, labels=classes, zero_division=0.0
  )
  precision, recall, f1, support = (values.tolist() for values in per_class)
  result = {
    "examples": len(label_ids),
    "accuracy": float(metrics.accuracy_score(label_ids, predictions)),
    "macro_f1": float(np.mean(f1)),
    "matthews": float(metrics.matthews_corrcoef(label_ids, predictions)),
    "per_class": [
      {
        "label": name if isinstance(name, (str, int)) else str(name),
        "precision": precision[i],
        "recall": recall[i],
        "f1": f1[i],
        "support": support[i],
      }
      for i, name in enumerate(label_names)
    ],
    "confusion_matrix": metrics.confusion_matrix(label_ids, predictions, labels=classes).tolist(),
  }
  if len(label_names) == 2:
    result["f1"] = f1[1]
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
    "pearson": _correlation(stats.pearsonr, scores, predictions),
    "spearman": _correlation(stats.spearmanr, scores, predictions),
    "mean_squared_error": float(np.mean((scores - predictions) ** 2)),
  }


def _check_sizes(truth, predictions, max_rank):
  same = truth.ndim == 1 and truth.shape == predictions.shape[:1] and predictions.ndim <= max_rank
  if not same or not len(truth):
    raise ValueError(f"shapes {truth.shape} and {predictions.shape} are not those of N examples")


def _checked_classes(label_ids, predictions, num_labels):
  """Both as int [N], after the checks that classification_metrics promises."""
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


def _correlation(measure, a, b):
  """A correlation of scipy.stats; 0.0 where it is not defined."""
  if np.ptp(a) == 0 or np.ptp(b) == 0:
    return 0.0
  # Scaled first, so that the squares of tiny or huge numbers can be represented.
  return float(np.clip(measure(a / np.abs(a).max(), b / np.abs(b).max())[0], -1.0, 1.0))
