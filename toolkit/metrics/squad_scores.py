"""Metrics of SQuAD 1.1 and 2.0: exact match, and F1 of the words, of predicted answers.

answers "the Norman dynasty", "Normans"   prediction "Norman kings!"
  -> words [norman, dynasty] and [normans] against [norman, kings]
  -> exact match 0; F1 0.5 with the first (1 common word of 2 and 2), 0 with the second: 0.5
"""

import collections
import itertools
import re
import string
from typing import Any, Optional

from absl import logging

from toolkit.support import files

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


# ---- One answer ---------------------------------------------------------------------------------


def normalize_answer(text: str) -> str:
  """Normalizes an answer for comparison: "The U.S.,  a country" -> "us country".

  It becomes lower case, without ASCII punctuation and English articles, with single spaces.
  """
  return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact_score(prediction: str, answer: str) -> int:
  """Returns 1 if two texts are equal once normalized, else 0."""
  return int(normalize_answer(prediction) == normalize_answer(answer))


def f1_score(prediction: str, answer: str) -> float:
  """Returns the F1, 0 to 1, of the words that two texts have in common once normalized.

  Words count as often as they occur. The score of two empty texts is 1.
  """
  predicted, expected = normalize_answer(prediction).split(), normalize_answer(answer).split()
  if not predicted or not expected:
    return float(predicted == expected)
  common = sum((collections.Counter(predicted) & collections.Counter(expected)).values())
  if not common:
    return 0.0
  precision, recall = common / len(predicted), common / len(expected)
  return 2 * precision * recall / (precision + recall)


# ---- A data set ---------------------------------------------------------------------------------


def evaluate(
  dataset: dict[str, Any],
  predictions: dict[str, str],
  na_probs: Optional[dict[str, float]] = None,
  na_prob_thresh: float = 1.0,
) -> dict[str, Any]:
  """Evaluates predictions by evaluate_v2 or evaluate_v1, according to the data set."""
  if is_version_2(dataset):
    return evaluate_v2(dataset, predictions, na_probs, na_prob_thresh)
  return evaluate_v1(dataset, predictions)


def is_version_2(dataset: dict[str, Any]) -> bool:
  """Returns True for a SQuAD file's content with questions that may have no answer.

  Raises:
    files.InputError: it is not SQuAD.
  """
  return any("is_impossible" in qa or not qa["answers"] for qa in _questions(dataset))


def evaluate_v1(dataset: dict[str, Any], predictions: dict[str, str]) -> dict[str, Any]:
  """Computes the metrics of SQuAD 1.1. A question without a prediction counts as wrong.

  Args:
    dataset: content of a SQuAD file.
    predictions: question id -> text.

  Returns:
    exact_match and f1, in percent.

  Raises:
    files.InputError: the data set is not SQuAD, a question has no answer or a prediction is not a
      text, or no prediction is for a question of this data set.
  """
  questions = _questions(dataset)
  scored = _with_predictions(questions, predictions, "count as wrong")
  exact = f1 = 0.0
  for qa in scored:
    prediction, answers = predictions[qa["id"]], _texts(qa)
    if not answers:
      raise files.InputError(f"data set: question {qa['id']} has no answer; this is SQuAD 2.0")
    exact += max(exact_score(prediction, answer) for answer in answers)
    if normalize_answer(prediction):  # an empty one scores 0, even for an empty answer
      f1 += max(f1_score(prediction, answer) for answer in answers)
  return {"exact_match": 100.0 * exact / len(questions), "f1": 100.0 * f1 / len(questions)}


def evaluate_v2(
  dataset: dict[str, Any],
  predictions: dict[str, str],
  na_probs: Optional[dict[str, float]] = None,
  na_prob_thresh: float = 1.0,
) -> dict[str, Any]:
  """Computes the metrics of SQuAD 2.0. Questions without a prediction are left out.

  Args:
    dataset: content of a SQuAD file.
    predictions: question id -> text, "" for no answer.
    na_probs: question id -> float, higher for a question that more likely has no answer: a
      probability, or the null odds of squad_answers.
    na_prob_thresh: above it, the prediction is no answer.

  Returns:
    exact and f1 (percent) and total (questions); HasAns_exact, HasAns_f1, HasAns_total for the
    questions with an answer and NoAns_... for those without, if any. With na_probs also best_exact,
    best_exact_thresh, best_f1 and best_f1_thresh, see find_best_threshold.

  Raises:
    files.InputError: the data set is not SQuAD, a prediction is not a text, no prediction is for a
      question of this data set, or a question has a prediction but no number in na_probs.
  """
  scored = _with_predictions(_questions(dataset), predictions, "are left out")
  has_answer = {qa["id"]: bool(qa["answers"]) for qa in scored}
  raw = {
    "exact": _best_scores(exact_score, scored, predictions),
    "f1": _best_scores(f1_score, scored, predictions),
  }
  final = raw
  if na_probs is not None:
    _check_na_probs(na_probs, has_answer)
    unanswered = {
      i: float(not has) for i, has in has_answer.items() if na_probs[i] > na_prob_thresh
    }
    final = {name: {**scores, **unanswered} for name, scores in raw.items()}
  result = _averages(final, list(has_answer), "")
  for prefix, kind in (("HasAns_", True), ("NoAns_", False)):
    result.update(_averages(final, [i for i, has in has_answer.items() if has is kind], prefix))
  if na_probs is not None:
    for name, scores in raw.items():
      best, threshold = find_best_threshold(predictions, scores, na_probs, has_answer)
      result.update({f"best_{name}": best, f"best_{name}_thresh": threshold})
  return result


def find_best_threshold(
  predictions: dict[str, str],
  scores: dict[str, float],
  na_probs: dict[str, float],
  has_answer: dict[str, bool],
) -> tuple[float, float]:
  """Finds the threshold above which the prediction should be no answer.

  The threshold is raised from below all numbers to the highest. At first no question is answered,
  then one after the other as predicted. The first of equally good thresholds is the best. Of
  questions with the same number only the first ones may count as predicted in the best score, as
  in the official evaluation.

  Args:
    predictions: question id -> text, "" for no answer.
    scores: question id -> score of the prediction, 0 to 1; these questions count.
    na_probs: question id -> number, higher for one that more likely has no answer.
    has_answer: question id -> True if it has an answer.

  Returns:
    The average score with the best threshold, in percent, and the threshold: one of na_probs, or
    0.0 if no question should be answered.
  """
  ids = [i for i in sorted(na_probs, key=na_probs.__getitem__) if i in scores]
  gains = (scores[i] if has_answer[i] else -bool(predictions[i]) for i in ids)
  none_answered = sum(not has_answer[i] for i in scores)
  totals = list(itertools.accumulate(gains, initial=none_answered))
  best = max(totals)
  num_answered = totals.index(best)
  threshold = na_probs[ids[num_answered - 1]] if num_answered else 0.0
  return 100.0 * best / len(scores), threshold


def _questions(dataset):
  """Returns the questions, dicts with ids of type str, of a SQuAD file's content."""
  try:
    questions = [
      {**qa, "id": str(qa["id"])}
      for article in dataset["data"]
      for paragraph in article["paragraphs"]
      for qa in paragraph["qas"]
    ]
  except (KeyError, TypeError) as error:
    raise files.InputError(
      "data set: is not SQuAD, a list of paragraphs with questions in each article of its data "
      f"({type(error).__name__}: {error})"
    ) from error
  for qa in questions:
    if not isinstance(qa.get("answers"), list):
      raise files.InputError(
        f"data set: question {qa['id']} has no list of answers to compare with"
      )
  return questions


def _texts(qa):
  """Returns the texts of a question's answers."""
  try:
    return [str(answer["text"]) for answer in qa["answers"]]
  except (KeyError, TypeError) as error:
    raise files.InputError(f"data set: question {qa['id']} has an answer without text") from error


def _with_predictions(questions, predictions, consequence):
  """Returns the questions that have a prediction; logs the consequence for the others."""
  if not isinstance(predictions, dict):
    raise files.InputError(
      f"predictions: found a {type(predictions).__name__}, should be an object of id and text"
    )
  found = [qa for qa in questions if qa["id"] in predictions]
  if not found:
    raise files.InputError(
      f"predictions: none of {len(predictions)} is for one of the data set's {len(questions)} "
      "questions"
    )
  for qa in found:
    if not isinstance(predictions[qa["id"]], str):
      raise files.InputError(
        f"predictions: question {qa['id']}: found {predictions[qa['id']]!r:.50}, should be a text"
      )
  if len(found) < len(questions):
    num_missing = len(questions) - len(found)
    logging.warning(
      "%d of %d questions have no prediction and %s", num_missing, len(questions), consequence
    )
  return found


def _check_na_probs(na_probs, ids):
  for qas_id in ids:
    number = na_probs.get(qas_id) if isinstance(na_probs, dict) else None
    if not isinstance(number, (int, float)) or number != number:
      raise files.InputError(
        f"na_probs: question {qas_id}: found {number!r:.50}, should be a number; give the file "
        "that was written with the predictions"
      )


def _best_scores(score, questions, predictions):
  """Returns question id -> score with the best answer; answers without words do not count."""
  return {
    qa["id"]: max(
      score(predictions[qa["id"]], text)
      for text in [text for text in _texts(qa) if normalize_answer(text)] or [""]
    )
    for qa in questions
  }


def _averages(scores, ids, prefix):
  """Returns the averages of some questions, in percent, and their number; {} for no questions."""
  if not ids:
    return {}
  result = {
    prefix + name: 100.0 * sum(by_id[i] for i in ids) / len(ids) for name, by_id in scores.items()
  }
  return {**result, prefix + "total": len(ids)}


def best_thresholds(
  dataset: dict[str, Any], predictions: dict[str, str], null_odds: dict[str, float]
) -> dict[str, Any]:
  """Returns best_exact, best_exact_thresh, best_f1 and best_f1_thresh of evaluate_v2.

  `predictions` are answers, also where the null odds, question id -> float, are high.
  """
  metrics = evaluate_v2(dataset, predictions, null_odds)
  best = {name: value for name, value in metrics.items() if name.startswith("best_")}
  odds = null_odds.values()
  for name in ("best_exact_thresh", "best_f1_thresh"):
    # 0.0 stands for no answer to any question: correct for probabilities, but odds go below 0.
    if best[name] == 0.0 and 0.0 not in odds:
      best[name] = min(0.0, min(odds) - 1.0)
  return best


def check_scorable(path: str) -> None:
  """Checks that a file has the answers that --do_eval compares with.

  Raises:
    files.InputError: it lacks them, or cannot be read.
  """
  try:
    is_version_2(files.read_json(path))
  except files.InputError as error:
    raise files.InputError(
      f"--do_eval: {path}: {error}; --do_predict alone needs no answers"
    ) from error
