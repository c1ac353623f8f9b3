"""Metrics against hand-computed values, and against scikit-learn and SciPy."""

import json

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.metrics import glue_metrics
from toolkit.metrics.glue_metrics import (
  best_threshold,
  classification_metrics,
  multi_label_metrics,
  regression_metrics,
)

# 3 true negatives, 1 false positive, 2 false negatives, 4 true positives.
BINARY_LABELS = [0, 0, 0, 0, 1, 1, 1, 1, 1, 1]
BINARY_PREDICTIONS = [0, 0, 0, 1, 0, 0, 1, 1, 1, 1]


no_warnings = pytest.mark.filterwarnings("error")


def test_binary_by_hand():
  got = classification_metrics(BINARY_LABELS, BINARY_PREDICTIONS, ["no", "yes"])
  assert got["examples"] == 10
  assert got["accuracy"] == pytest.approx(7 / 10)
  assert got["f1"] == pytest.approx(8 / 11)  # 2 * 4 / (2 * 4 + 1 + 2)
  assert got["macro_f1"] == pytest.approx((6 / 9 + 8 / 11) / 2)
  # (tp * tn - fp * fn) / sqrt((tp + fp)(tp + fn)(tn + fp)(tn + fn))
  assert got["matthews"] == pytest.approx((4 * 3 - 1 * 2) / np.sqrt(5 * 6 * 4 * 5))
  assert got["confusion_matrix"] == [[3, 1], [2, 4]]
  assert got["per_class"][0] == pytest.approx(
    {"label": "no", "precision": 3 / 5, "recall": 3 / 4, "f1": 6 / 9, "support": 4}
  )
  assert got["per_class"][1] == pytest.approx(
    {"label": "yes", "precision": 4 / 5, "recall": 4 / 6, "f1": 8 / 11, "support": 6}
  )


def test_three_classes_by_hand():
  got = classification_metrics([0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 2, 0], ["a", "b", "c"])
  assert got["confusion_matrix"] == [[1, 1, 0], [0, 2, 0], [1, 0, 1]]
  assert got["accuracy"] == pytest.approx(4 / 6)
  assert got["macro_f1"] == pytest.approx((2 / 4 + 4 / 5 + 2 / 3) / 3)
  # (4 * 6 - (2*2 + 2*3 + 2*1)) / sqrt((36 - (4 + 9 + 1)) (36 - 12))
  assert got["matthews"] == pytest.approx(12 / np.sqrt(22 * 24))
  assert "f1" not in got


def test_probabilities_count_by_their_largest():
  probabilities = np.array([[0.7, 0.3], [0.2, 0.8], [0.5, 0.5]], np.float32)
  got = classification_metrics(np.array([0, 1, 1], np.int32), probabilities, ["0", "1"])
  assert got["confusion_matrix"] == [[1, 0], [1, 1]]


@no_warnings
def test_constant_prediction_and_absent_class_are_zero():
  got = classification_metrics([0, 0, 1], [0, 0, 0], ["a", "b", "c"])
  assert got["matthews"] == 0.0
  assert got["per_class"][1] == {
    "label": "b",
    "precision": 0.0,
    "recall": 0.0,
    "f1": 0.0,
    "support": 1,
  }
  assert got["per_class"][2]["f1"] == 0.0 and got["per_class"][2]["support"] == 0
  assert got["macro_f1"] == pytest.approx((4 / 5) / 3)


@no_warnings
def test_matthews_of_many_examples_does_not_overflow():
  labels = np.tile([0, 0, 1, 1], 200_000)
  predictions = np.tile([0, 1, 1, 1], 200_000)
  got = classification_metrics(labels, predictions, ["0", "1"])
  assert got["matthews"] == pytest.approx(2 / np.sqrt(3 * 2 * 2 * 1))


@pytest.mark.filterwarnings("ignore:A single label")  # scikit-learn's own
@given(st.integers(2, 5), st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1))
@settings(deadline=None, max_examples=50)
def test_classification_agrees_with_scikit_learn(num_labels, pairs):
  labels, predictions = (np.array(column) % num_labels for column in zip(*pairs))
  ids = list(range(num_labels))
  got = classification_metrics(labels, predictions, ids)
  precision, recall, f1, support = sklearn.metrics.precision_recall_fscore_support(
    labels, predictions, labels=ids, zero_division=0
  )
  for key, want in (("precision", precision), ("recall", recall), ("f1", f1), ("support", support)):
    np.testing.assert_allclose([c[key] for c in got["per_class"]], want)
  assert got["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(labels, predictions))
  assert got["matthews"] == pytest.approx(
    sklearn.metrics.matthews_corrcoef(labels, predictions), abs=1e-12
  )
  assert got["macro_f1"] == pytest.approx(f1.mean())
  np.testing.assert_array_equal(
    got["confusion_matrix"], sklearn.metrics.confusion_matrix(labels, predictions, labels=ids)
  )


def test_regression_by_hand():
  got = regression_metrics([1.0, 2.0, 3.0, 4.0], [[1.0], [3.0], [2.0], [8.0]])
  # Deviations (-1.5, -.5, .5, 1.5) and (-2.5, -.5, -1.5, 4.5): 10 / sqrt(5 * 29).
  assert got == pytest.approx(
    {
      "examples": 4,
      "pearson": 10 / np.sqrt(5 * 29),
      "spearman": 1 - 6 * 2 / (4 * 15),  # squared differences of ranks: 0, 1, 1, 0
      "mean_squared_error": (0 + 1 + 1 + 16) / 4,
    }
  )


def test_ranks_of_equal_numbers_are_averaged():
  """Ranks 2.5, 1, 2.5, 4 against 1, 2, 3, 4: 3 / sqrt(4.5 * 5)."""
  result = glue_metrics.regression_metrics([5, 2, 5, 9], [1, 2, 3, 4])
  assert result["spearman"] == pytest.approx(3 / 22.5**0.5)


@no_warnings
def test_constant_numbers_have_correlation_zero():
  got = regression_metrics([0.1, 0.2, 0.3], [0.1, 0.1, 0.1])
  assert got["pearson"] == 0.0 and got["spearman"] == 0.0
  assert regression_metrics([3.0], [2.0])["pearson"] == 0.0


def test_correlation_of_tiny_and_huge_numbers():
  got = regression_metrics([1.0, 2.0, 3.0], [1e-200, 2e-200, 3e-200])
  assert got["pearson"] == pytest.approx(1.0)
  assert regression_metrics([1.0, 2.0], [2e150, 1e150])["pearson"] == pytest.approx(-1.0)


@given(st.integers(3, 60), st.integers(0, 2**31))
@settings(deadline=None, max_examples=50)
def test_regression_agrees_with_scipy(size, seed):
  random = np.random.default_rng(seed)
  scores = random.permutation(np.arange(size) // 2 / 2)  # with equal ones
  predictions = scores + random.normal(size=size)
  got = regression_metrics(scores, predictions.astype(np.float32))
  assert got["pearson"] == pytest.approx(scipy.stats.pearsonr(scores, predictions)[0], abs=1e-5)
  assert got["spearman"] == pytest.approx(
    scipy.stats.spearmanr(scores, predictions.astype(np.float32))[0], abs=1e-9
  )


def test_several_labels_by_hand():
  """{a, b} {} {b} {c}, predicted {a} {} {b} {a, b}: 2 right labels of 4 true, 4 predicted."""
  truth = [[1, 1, 0], [0, 0, 0], [0, 1, 0], [0, 0, 1]]
  predictions = [[1, 0, 0], [0, 0, 0], [0, 1, 0], [1, 1, 0]]
  got = multi_label_metrics(truth, predictions, ["a", "b", "c"])
  assert got["examples"] == 4
  assert got["micro_f1"] == pytest.approx(2 * 2 / (4 + 4))
  assert got["macro_f1"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
  assert got["exact_match"] == pytest.approx(2 / 4)
  assert [list(each.values()) for each in got["per_label"]] == [
    ["a", 1 / 2, 1.0, pytest.approx(2 / 3), 1],
    ["b", 1 / 2, 1 / 2, 1 / 2, 2],
    ["c", 0.0, 0.0, 0.0, 1],
  ]


@no_warnings
def test_no_label_at_all():
  got = multi_label_metrics(np.zeros([2, 2]), np.zeros([2, 2]), ["a", "b"])
  assert (got["micro_f1"], got["macro_f1"], got["exact_match"]) == (0.0, 0.0, 1.0)
  assert best_threshold(np.zeros([2, 2]), np.full([2, 2], 0.1)) == 0.5


MARKS = st.integers(1, 12).flatmap(
  lambda n: st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=3 * n, max_size=3 * n)
)


@pytest.mark.filterwarnings("ignore:A single label")  # scikit-learn's own
@given(MARKS)
@settings(deadline=None, max_examples=50)
def test_each_of_several_labels_is_a_class_of_two(pairs):
  truth, predictions = (np.reshape(column, [-1, 3]) > 0 for column in zip(*pairs))
  got = multi_label_metrics(truth, predictions, ["a", "b", "c"])
  for place, each in enumerate(got["per_label"]):
    alone = classification_metrics(truth[:, place] * 1, predictions[:, place] * 1, ["no", "yes"])
    yes = alone["per_class"][1]
    assert all(each[key] == pytest.approx(yes[key]) for key in ("precision", "recall", "f1"))
    assert each["support"] == yes["support"]
  flat = classification_metrics(truth.ravel() * 1, predictions.ravel() * 1, ["no", "yes"])
  assert got["micro_f1"] == pytest.approx(flat["f1"])
  assert got["exact_match"] == pytest.approx((truth == predictions).all(axis=1).mean())


@pytest.mark.parametrize(
  ("truth", "probabilities", "threshold"),
  [
    ([[1, 1, 0]], [[0.9, 0.5, 0.1]], 0.3),
    ([[1, 0, 0]], [[0.9, 0.5, 0.1]], 0.7),
    ([[1, 0], [0, 1]], [[0.9, 0.75], [0.25, 0.125]], 0.825),  # F1 2/3 with one, 2/3 with all four
    ([[0, 1], [1, 0]], [[0.5, 0.5], [0.5, 0.25]], 0.375),
    ([[1, 1]], [[0.5, 0.25]], 0.125),
  ],
)
def test_threshold_by_hand(truth, probabilities, threshold):
  assert best_threshold(truth, probabilities) == pytest.approx(threshold)


@given(MARKS)
@settings(deadline=None, max_examples=50)
def test_no_threshold_is_better(pairs):
  truth, sixths = (np.reshape(column, [-1, 3]) for column in zip(*pairs))
  probabilities = (sixths / 6).astype(np.float32)

  def micro_f1(threshold):
    return multi_label_metrics(truth, probabilities >= threshold, ["a", "b", "c"])["micro_f1"]

  best = micro_f1(best_threshold(truth, probabilities))
  assert best == pytest.approx(max(micro_f1(number / 12) for number in range(-1, 15)))


@pytest.mark.parametrize(
  ("truth", "predictions", "names"),
  [
    (np.zeros([0, 2]), np.zeros([0, 2]), ["a", "b"]),
    (np.zeros([1, 2]), np.zeros([2, 2]), ["a", "b"]),
    (np.zeros([1, 2]), np.zeros([1, 2]), ["a", "b", "c"]),
    (np.zeros([2]), np.zeros([2]), ["a", "b"]),
    (np.zeros([2, 1]), np.zeros([2, 1]), ["a"]),
  ],
)
def test_impossible_marks_are_errors(truth, predictions, names):
  with pytest.raises(ValueError, match="shapes"):
    multi_label_metrics(truth, predictions, names)


def test_results_are_ready_for_json():
  results = [
    multi_label_metrics(np.eye(2, dtype=bool), np.ones([2, 2]), ["a", "b"]),
    classification_metrics(np.array([0, 1]), np.eye(2, dtype=np.float32), [0, 1]),
    regression_metrics(np.array([1, 2], np.float32), np.array([2, 1], np.float32)),
  ]
  assert json.loads(json.dumps(results, allow_nan=False)) == results


@pytest.mark.parametrize(
  ("labels", "predictions"),
  [
    ([], []),
    ([0, 1], [0]),
    ([0, 2], [0, 1]),
    ([0, 1], [0, -1]),
    ([0, 1], [[0.5, 0.5]]),
    ([0], [[0.1, 0.2, 0.7]]),
    ([0], [[np.nan, 1.0]]),
  ],
)
def test_impossible_classes_are_errors(labels, predictions):
  with pytest.raises(ValueError, match=r"shapes|classes|predictions"):
    classification_metrics(labels, predictions, ["0", "1"])


@pytest.mark.parametrize(
  ("scores", "predictions"),
  [([], []), ([1.0], [1.0, 2.0]), ([1.0], [[1.0, 2.0]]), ([1.0, np.nan], [1.0, 2.0])],
)
def test_impossible_numbers_are_errors(scores, predictions):
  with pytest.raises(ValueError, match=r"shapes|finite"):
    regression_metrics(scores, predictions)
