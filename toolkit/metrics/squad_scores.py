"""The measures of SQuAD 1.1 and 2.0: exact match, and F1 of the words, of predicted answers.

answers "the Norman dynasty", "Normans"   prediction "Norman kings!"
  -> words [norman, dynasty] and [normans] against [norman, kings]
  -> exact match 0; F1 0.5 with the first (1 common word of 2 and 2), 0 with the second: 0.5
"""

import collections
import itertools
import re
import string

from absl import logging

from toolkit.support import files

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


# ---- One answer ---------------------------------------------------------------------------------


def normalize_answer(text):
  """The part of an answer that is compared: "The U.S.,  a country" -> "us country".

  Args:
    text: str.

  Returns:
    str: lower case, without ASCII punctuation and English articles, with single spaces.
  """
  return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact_score(prediction, answer):
  """1 if two texts are equal once normalized, else 0."""
  return int(normalize_answer(prediction) == normalize_answer(answer))


def f1_score(prediction, answer):
  """F1, 0 to 1, of the words that two texts have in common once normalized.

  Words count as often as they occur. Two empty texts have 1.
  """
  predicted, expected = normalize_answer(prediction).split(), normalize_answer(answer).split()
  if not predicted or not expected:
    return int(predicted == expected)
  common = sum((collections.Counter(predicted) & collections.Counter(expected)).values())
  if not common:
    return 0
  precision, recall = common / len(predicted), common / len(expected)
  return 2 * precision * recall / (precision + recall)


# ---- A data set ---------------------------------------------------------------------------------


def evaluate(dataset, predictions, na_probs=None, na_prob_thresh=1.0):
  """Evaluates predictions by the rules of the data set's version.

  Args:
    dataset: dict, content of a SQuAD file.
    predictions, na_probs, na_prob_thresh: see evaluate_v2; the last two are for SQuAD 2.0 alone.

  Returns:
    See evaluate_v2 and evaluate_v1.

  Raises:
    files.InputError: see evaluate_v2 and evaluate_v1.
  """
  if is_version_2(dataset):
    return evaluate_v2(dataset, predictions, na_probs, na_prob_thresh)
  return evaluate_v1(dataset, predictions)


def is_version_2(dataset):
  """True for a SQuAD file's content with questions that may have no answer, as in SQuAD 2.0.

  Raises:
    files.InputError: it is not SQuAD.
  """
  return any("is_impossible" in qa or not qa["answers"] for qa in _questions(dataset))


def evaluate_v1(dataset, predictions):
  """The measures of SQuAD 1.1. A question without a prediction counts as wrong.

  Args:
    dataset: dict, content of a SQuAD file.
    predictions: dict of question id -> text.

  Returns:
    Dict of exact_match and f1, in percent.

  Raises:
    files.InputError: the data set is not SQuAD, a question has no answer or a prediction is not a
      text, or no prediction is for a question of this data set.
  """
  questions = _questions(dataset)
  scored = _with_predictions(questions, predictions, "count as wrong")
  exact = f1 = 0
  for qa in scored:
    prediction, answers = predictions[qa["id"]], _texts(qa)
    if not answers:
      raise files.InputError(f"data set: question {qa['id']} has no answer; this is SQuAD 2.0")
    exact += max(exact_score(prediction, answer) for answer in answers)
    if normalize_answer(prediction):  # nothing has no words in common, even with nothing
      f1 += max(f1_score(prediction, answer) for answer in answers)
  return {"exact_match": 100.0 * exact / len(questions), "f1": 100.0 * f1 / len(questions)}


def evaluate_v2(dataset, predictions, na_probs=None, na_prob_thresh=1.0):
  """The measures of SQuAD 2.0. Questions without a prediction are left out.

  Args:
    dataset: dict, content of a SQuAD file. A question with an empty list of answers has none.
    predictions: dict of question id -> text, "" for no answer.
    na_probs: dict of question id -> float, the higher the likelier that there is no answer: a
      probability, or the null odds of squad_answers.
    na_prob_thresh: float; above it, "no answer" is taken as the prediction.

  Returns:
    Dict of exact and f1 (percent) and total (questions); the same for questions that have an answer
    (HasAns_exact, HasAns_f1, HasAns_total) and that have none (NoAns_...), where there are any.
    With na_probs also best_exact, best_exact_thresh, best_f1 and best_f1_thresh: the results with
    the thresholds that are best, see find_best_threshold.

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


def find_best_threshold(predictions, scores, na_probs, has_answer):
  """The threshold above which "no answer" should be taken as the prediction.

  The threshold is raised from below all numbers to the highest. At first all questions are taken as
  having no answer, then one after the other as predicted. The first of equally good thresholds is
  the best. Of questions with the same number only the first ones may count as predicted in the
  best score, as in the official evaluation.

  Args:
    predictions: dict of question id -> text, "" for no answer.
    scores: dict of question id -> float, 0 to 1, of the predictions; these questions count.
    na_probs: dict of question id -> float.
    has_answer: dict of question id -> bool, whether it has an answer.

  Returns:
    best: float, percent, the average score with the best threshold.
    threshold: float, one of na_probs, or 0.0 if all are best taken as having no answer.
  """
  ids = [i for i in sorted(na_probs, key=na_probs.get) if i in scores]
  gains = (scores[i] if has_answer[i] else -bool(predictions[i]) for i in ids)
  none_answered = sum(not has_answer[i] for i in scores)
  totals = list(itertools.accumulate(gains, initial=none_answered))
  best = max(totals)
  num_answered = totals.index(best)
  threshold = na_probs[ids[num_answered - 1]] if num_answered else 0.0
  return 100.0 * best / len(scores), threshold


def _questions(dataset):
  """List of the questions, dicts, of a SQuAD file's content; their ids are made str."""
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
  """Texts of a question's answers."""
  try:
    return [str(answer["text"]) for answer in qa["answers"]]
  except (KeyError, TypeError) as error:
    raise files.InputError(f"data set: question {qa['id']} has an answer without text") from error


def _with_predictions(questions, predictions, fate):
  """List of the questions that have a prediction; the `fate` of the others is logged."""
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
      "%d of %d questions have no prediction and %s", num_missing, len(questions), fate
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
  """Dict of question id -> score with the answer that fits best; answers without words are none."""
  return {
    qa["id"]: max(
      score(predictions[qa["id"]], text)
      for text in [text for text in _texts(qa) if normalize_answer(text)] or [""]
    )
    for qa in questions
  }


def _averages(scores, ids, prefix):
  """Dict of the averages of some questions, in percent, and their number; {} for no questions."""
  if not ids:
    return {}
  result = {
    prefix + name: 100.0 * sum(by_id[i] for i in ids) / len(ids) for name, by_id in scores.items()
  }
  return {**result, prefix + "total": len(ids)}


def best_thresholds(dataset: dict, predictions: dict, null_odds: dict) -> dict:
  """Returns the highest possible scores, and their thresholds.

  Args:
    dataset: content of a SQuAD file.
    predictions: dict of question id -> answer, however high its null odds.
    null_odds: dict of question id -> float.

  Returns:
    Dict of best_exact, best_exact_thresh, best_f1 and best_f1_thresh.
  """
  metrics = evaluate_v2(dataset, predictions, null_odds)
  best = {name: value for name, value in metrics.items() if name.startswith("best_")}
  odds = null_odds.values()
  for name in ("best_exact_thresh", "best_f1_thresh"):
    # 0.0 stands for no answer to any question. That holds for probabilities; odds go below 0.
    if best[name] == 0.0 and 0.0 not in odds:
      best[name] = min(0.0, min(odds) - 1.0)
  return best


def check_scorable(path: str):
  """Checks that a file has the answers that --do_eval compares with.

  Raises:
    files.InputError: it has not.
  """
  try:
    is_version_2(files.read_json(path))
  except files.InputError as error:
    raise files.InputError(
      f"--do_eval: {path}: {error}; --do_predict alone needs no answers"
    ) from error
