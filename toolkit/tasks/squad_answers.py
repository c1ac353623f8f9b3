"""Examples, windows and logits of question answering to answers.

  question "Who founded it?", paragraph words       It was founded by Ann Lee-Smith. (1901)
  window       0    1   2  ...  6     7   8  9       10      11 12  13 14 15   16 17 18   19
            [CLS]  who          [SEP] it was founded by ann  lee - smith  .  ( 1901 )  [SEP]
  best start 11, best end 14 -> pieces "ann lee - smith" -> words "Ann Lee-Smith."
                             -> the part of the words that the pieces cover: "Ann Lee-Smith"

A window's score for a span of pieces is start logit + end logit; for "no answer" it is that of
[CLS]. The best spans of all windows of a question are its n-best list. Nothing here reads flags.
"""

import collections
import functools
import itertools
import json
import os
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
from absl import logging
from numpy.typing import ArrayLike

import tokenization
from toolkit.support import files, logs
from toolkit.tasks import squad

NBEST_FILE = "nbest_predictions.json"
NULL_ODDS_FILE = "null_odds.json"
METRICS_FILE = "eval_metrics.json"
# Describes the source of the files of answers, so that those of another source are not used.
SOURCE_FILE = "answers_source.json"

# The n-best list of a question without any possible answer, as it must not be empty.
_NO_CANDIDATE = "empty"


class RawResult(NamedTuple):
  """The outputs of the model for one window.

  Attributes:
    unique_id: the window's.
    start_logits: float [S], score of each word piece as the first of the answer.
    end_logits: float [S], score of each word piece as the last of the answer.
  """

  unique_id: int
  start_logits: ArrayLike
  end_logits: ArrayLike


class Answers(NamedTuple):
  """Answers to all questions; each dict has the order of the examples.

  Attributes:
    predictions: question id -> text, "" for no answer.
    nbest: question id -> at most n_best_size dicts, best first, each with text, probability (0 to
      1), start_logit and end_logit.
    null_odds: question id -> score of "no answer" minus that of the best answer; empty unless
      version_2_with_negative.
  """

  predictions: dict[str, str]
  nbest: dict[str, list[dict[str, Any]]]
  null_odds: dict[str, float]


class _BestAnswer(NamedTuple):
  text: str
  probability: float
  start_char: Optional[int]
  end_char: Optional[int]
  null_odds: Optional[float]


class BestAnswer(_BestAnswer):
  """The answer to one question: a tuple of all attributes but num_windows.

  Attributes:
    text: "" for no answer.
    probability: 0 to 1, of this answer among the n-best.
    start_char: offset of the answer in the example's paragraph_text; None for no answer, and where
      the example has no paragraph_text.
    end_char: offset of the character behind the answer, or None.
    null_odds: see Answers; None unless version_2_with_negative.
    num_windows: number of windows that the paragraph was cut into.
  """

  num_windows = 1


def write_predictions(
  all_examples: Sequence[squad.SquadExample],
  all_features: Iterable[squad.InputFeatures],
  all_results: Iterable[RawResult],
  n_best_size: int,
  max_answer_length: int,
  do_lower_case: bool,
  output_prediction_file: str,
  output_nbest_file: str,
  output_null_log_odds_file: str,
  version_2_with_negative: bool = False,
  null_score_diff_threshold: float = 0.0,
  verbose_logging: bool = False,
) -> None:
  """Writes the results of compute_answers as JSON, each file whole or not at all.

  The paths are of Answers.predictions, of Answers.nbest and, with version_2_with_negative, of
  Answers.null_odds. For the other arguments and the errors see compute_answers. The flags of
  run_squad.py have no effect here: version_2_with_negative, null_score_diff_threshold and
  verbose_logging are the arguments for them.
  """
  answers = compute_answers(
    all_examples,
    all_features,
    all_results,
    n_best_size,
    max_answer_length,
    do_lower_case,
    version_2_with_negative,
    null_score_diff_threshold,
    verbose_logging,
  )
  logging.info("Writing predictions to: %s", output_prediction_file)
  write(output_prediction_file, answers.predictions)
  logging.info("Writing nbest to: %s", output_nbest_file)
  write(output_nbest_file, answers.nbest)
  if version_2_with_negative:
    write(output_null_log_odds_file, answers.null_odds)


def write(path: str, value: object) -> None:
  """Writes a field of Answers as JSON in the usual format, whole or not at all."""
  files.write_text(path, json.dumps(value, indent=4) + "\n")


def compute_answers(
  examples: Sequence[squad.SquadExample],
  features: Iterable[squad.InputFeatures],
  results: Iterable[RawResult],
  n_best_size: int,
  max_answer_length: int,
  do_lower_case: bool,
  version_2_with_negative: bool = False,
  null_score_diff_threshold: float = 0.0,
  verbose_logging: bool = False,
) -> Answers:
  """Finds the best answers to each question in the logits of its windows.

  Args:
    examples: the questions.
    features: of all windows; example_index is the place of their example in `examples`.
    results: one for each window, in any order.
    n_best_size: at least 1; starts and ends of each window that are considered, and the length of
      the n-best lists.
    max_answer_length: in word pieces.
    do_lower_case: True if the tokenizer lower-cased the text; used for features that have no
      token_to_chars, whose answers are looked for in the text.
    version_2_with_negative: True if a question may have no answer.
    null_score_diff_threshold: "no answer" is predicted where the null odds are higher.
    verbose_logging: True to log the answers whose exact place in the text is not found.

  Returns:
    A question without any possible answer gets the prediction "" with version_2_with_negative (null
    odds: the score of "no answer" alone), else "empty".

  Raises:
    files.InputError: a feature has no result, an id occurs twice, or logits are not finite numbers.
  """
  settings = _Settings(
    n_best_size,
    max_answer_length,
    do_lower_case,
    version_2_with_negative,
    null_score_diff_threshold,
    verbose_logging,
  )
  answers = Answers({}, {}, {})
  windows = _collect(examples, features, results, settings)
  for index, example in enumerate(examples):
    ranking = _rank(example, windows[index], settings)
    answers.predictions[example.qas_id] = ranking.entries[ranking.chosen].text
    answers.nbest[example.qas_id] = _written(ranking)[:n_best_size]
    if version_2_with_negative:
      answers.null_odds[example.qas_id] = ranking.null_odds
  return answers


def best_answer(
  example: squad.SquadExample,
  features: Sequence[squad.InputFeatures],
  results: Iterable[RawResult],
  n_best_size: int = 20,
  max_answer_length: int = 30,
  do_lower_case: bool = True,
  version_2_with_negative: bool = False,
  null_score_diff_threshold: float = 0.0,
) -> BestAnswer:
  """Finds the answer to one question and its place in the paragraph.

  Args:
    example: word_offsets are needed for the answer's place in its paragraph_text.
    features: made of [example].
    results, and the others: see compute_answers, also for errors.
  """
  settings = _Settings(
    n_best_size,
    max_answer_length,
    do_lower_case,
    version_2_with_negative,
    null_score_diff_threshold,
  )
  windows = _collect([example], features, results, settings)
  ranking = _rank(example, windows[0], settings)
  entry = ranking.entries[ranking.chosen]
  text = entry.text if entry.place else ""
  start, end = _characters(example, entry.place)
  probability = ranking.probabilities[ranking.chosen]
  found = BestAnswer(text, probability, start, end, ranking.null_odds)
  found.num_windows = len(features)
  return found


def rethreshold(
  nbest: dict[str, list[dict[str, Any]]], null_odds: dict[str, float], threshold: float
) -> dict[str, str]:
  """Makes predictions for another null_score_diff_threshold, without running the model again.

  Args:
    nbest: Answers.nbest, or the content of nbest_predictions.json.
    null_odds: Answers.null_odds, or the content of null_odds.json.
    threshold: "no answer" is predicted where the null odds are higher.

  Returns:
    Question id -> text, in the order of nbest: the best answer in the n-best list, or "".

  Raises:
    files.InputError: a question has no null odds.
  """
  predictions = {}
  for qas_id, entries in nbest.items():
    if qas_id not in null_odds:
      raise files.InputError(f"question {qas_id} has an n-best list, but no null odds")
    texts = [entry["text"] for entry in entries if entry["text"]]
    predictions[qas_id] = texts[0] if texts and not null_odds[qas_id] > threshold else ""
  return predictions


def apply_threshold(answers: Answers, threshold: float) -> dict[str, str]:
  """Returns the predictions, with "" for questions whose null odds are above a threshold."""
  return {
    qas_id: "" if answers.null_odds.get(qas_id, -np.inf) > threshold else text
    for qas_id, text in answers.predictions.items()
  }


# ---- Files of an output directory ---------------------------------------------------------------


def _paths(output_dir):
  return [os.path.join(output_dir, name) for name in (NBEST_FILE, NULL_ODDS_FILE, SOURCE_FILE)]


def save(output_dir: str, answers: Answers, source: dict[str, Any]) -> None:
  """Writes the n-best lists, the null odds if there are any, and their source.

  Args:
    output_dir: an existing directory.
    answers: to all questions.
    source: all that the answers depend on, for `load`.
  """
  paths = _paths(output_dir)
  logging.info("Writing nbest to: %s", paths[0])
  write(paths[0], answers.nbest)
  if source["version_2_with_negative"]:
    write(paths[1], answers.null_odds)
  files.write_json(paths[2], source)


def load(output_dir: str, source: dict[str, Any]) -> Optional[Answers]:
  """Reads the answers that `save` has written; None if they have another source."""
  paths = _paths(output_dir)
  if not files.exists(paths[2]) or files.read_json(paths[2]) != source:
    return None
  logs.notice("The model need not run: its answers are in %s.", paths[0])
  nbest = files.read_json(paths[0])
  if source["version_2_with_negative"]:
    null_odds = files.read_json(paths[1])
    return Answers(rethreshold(nbest, null_odds, np.inf), nbest, null_odds)
  return Answers({qas_id: entries[0]["text"] for qas_id, entries in nbest.items()}, nbest, {})


def saved_threshold(output_dir: str) -> float:
  """Reads the null_score_diff_threshold with the best F1 of --do_eval; InputError without one."""
  path = os.path.join(output_dir, METRICS_FILE)
  metrics = files.read_json(path) if files.exists(path) else {}
  if "best_f1_thresh" not in metrics:
    raise files.InputError(
      f"--null_score_diff_threshold=auto: {output_dir} has no threshold yet; find one by --do_eval "
      "with a --predict_file that has answers, and --version_2_with_negative"
    )
  return metrics["best_f1_thresh"]


def known_threshold(output_dir: str) -> float:
  """Reads the threshold that --do_eval has found for a model; 0.0 without one."""
  try:
    return saved_threshold(output_dir)
  except files.InputError:
    return 0.0


# ---- Texts of answers ---------------------------------------------------------------------------


def get_final_text(
  pred_text: str, orig_text: str, do_lower_case: bool, verbose_logging: bool = False
) -> str:
  """Finds the part of the original words that a span of word pieces covers.

    ("steve smith", "Steve Smith's", True) -> "Steve Smith"

  Args:
    pred_text: words of the tokenizer with spaces between them (see _piece_text).
    orig_text: the words of the paragraph that the span touches.
    do_lower_case: True if the tokenizer lower-cased the text.
    verbose_logging: True to log why the part was not found; the flag has no effect here.

  Returns:
    A part of orig_text; all of it where the part cannot be found.
  """
  start, end = _locate(pred_text, orig_text, do_lower_case, verbose_logging)
  return orig_text[start:end]


# ---- Ranking the answers of one question --------------------------------------------------------


class _Settings(NamedTuple):
  """Arguments of compute_answers."""

  n_best_size: int
  max_answer_length: int
  do_lower_case: bool
  version_2_with_negative: bool = False
  null_score_diff_threshold: float = 0.0
  verbose_logging: bool = False


class _Window(NamedTuple):
  """N spans of a window that may be the answer, with the data to rank them.

  Attributes:
    tokens: the feature's.
    words: place in tokens -> word, for the places where spans start and end.
    chars: for the same places, see InputFeatures.token_to_chars.
    starts, ends: int [N], places of the first and last piece of each span.
    start_logits, end_logits: float64 [N].
    null_logits: (float, float), those of [CLS].
  """

  tokens: list[str]
  words: dict[int, int]
  chars: Optional[dict[int, Sequence[int]]]
  starts: np.ndarray
  ends: np.ndarray
  start_logits: np.ndarray
  end_logits: np.ndarray
  null_logits: tuple[float, float]


class _Entry(NamedTuple):
  """A member of the n-best list; text "" is "no answer".

  `place` is (w, start, end): text is orig_text[start:end], orig_text being the words from the w-th
  on, joined by spaces. None if the text is not in the paragraph.
  """

  text: str
  start_logit: float
  end_logit: float
  place: Optional[tuple[int, int, int]] = None


class _Ranking(NamedTuple):
  """The ranked answers to one question; entries may be one more than n_best_size."""

  entries: list[_Entry]
  probabilities: list[float]
  null_odds: Optional[float]
  chosen: int  # place of the answer in the entries


def _collect(examples, features, results, settings):
  """Returns a dict of place in examples -> list of its _Window, in the order of the features.

  Reads the features once and keeps little of them, as they may be made on demand.
  """
  by_id = {}
  for result in results:
    if result.unique_id in by_id:
      raise files.InputError(f"two results have the unique_id {result.unique_id}")
    by_id[result.unique_id] = result
  windows = collections.defaultdict(list)
  seen = set()
  for feature in features:
    if feature.example_index >= len(examples):
      continue
    qas_id = examples[feature.example_index].qas_id
    if feature.unique_id in seen:
      raise files.InputError(f"two features have the unique_id {feature.unique_id}")
    if feature.unique_id not in by_id:
      raise files.InputError(
        f"question {qas_id}: there is no result for its window {feature.doc_span_index} "
        f"(unique_id {feature.unique_id}); predict all windows"
      )
    seen.add(feature.unique_id)
    window = _window(qas_id, feature, by_id[feature.unique_id], settings)
    windows[feature.example_index].append(window)
  return windows


def _window(qas_id, feature, result, settings):
  """Makes the _Window of a feature; its spans are in order of start rank, then end rank."""
  size = len(feature.tokens)
  start_logits = _checked(result.start_logits, size, f"question {qas_id}: start_logits")
  end_logits = _checked(result.end_logits, size, f"question {qas_id}: end_logits")
  first, last = (
    [i for i in _get_best_indexes(logits, settings.n_best_size) if i in feature.token_to_orig_map]
    for logits in (start_logits, end_logits)
  )
  words = {i: feature.token_to_orig_map[i] for i in first + last}
  chars = getattr(feature, "token_to_chars", None)  # features of programs may lack it
  chars = chars and {i: chars[i] for i in words}
  # A word in several windows is scored where it has most context.
  starts = np.array([i for i in first if feature.token_is_max_context.get(i, False)], int)
  ends = np.array(last, int)
  distance = ends[None, :] - starts[:, None]
  rows, columns = np.nonzero((distance >= 0) & (distance < settings.max_answer_length))
  starts, ends = starts[rows], ends[columns]
  return _Window(
    feature.tokens,
    words,
    chars,
    starts,
    ends,
    start_logits[starts],
    end_logits[ends],
    (float(start_logits[0]), float(end_logits[0])),
  )


def _checked(logits, size, name):
  """Returns logits as float64 [S]; those of padding, from `size` on, may be infinite."""
  logits = np.asarray(logits, np.float64)
  if len(logits) < size:
    raise files.InputError(f"{name}: found {len(logits)} numbers for {size} word pieces")
  if np.isnan(logits).any() or np.isinf(logits[:size]).any():
    raise files.InputError(
      f"{name}: found numbers that are not finite; the training diverged or the model is damaged"
    )
  return logits


def _rank(example, windows, settings):
  """Makes the _Ranking of an example from its windows."""
  entries = _distinct_entries(example.doc_tokens, windows, settings)
  probabilities = _compute_softmax([e.start_logit + e.end_logit for e in entries])
  if not settings.version_2_with_negative:
    return _Ranking(entries, probabilities, None, 0)
  null = next(i for i, e in enumerate(entries) if not e.text)
  best = next((i for i, e in enumerate(entries) if e.text), None)
  null_odds = entries[null].start_logit + entries[null].end_logit
  if best is None:
    return _Ranking(entries, probabilities, null_odds, null)
  # One after the other, as the last bit may decide at the threshold.
  null_odds = null_odds - entries[best].start_logit - entries[best].end_logit
  chosen = null if null_odds > settings.null_score_diff_threshold else best
  return _Ranking(entries, probabilities, null_odds, chosen)


def _written(ranking):
  """Returns the entries of a _Ranking as dicts for Answers.nbest."""
  return [
    {
      "text": entry.text,
      "probability": probability,
      "start_logit": entry.start_logit,
      "end_logit": entry.end_logit,
    }
    for entry, probability in zip(ranking.entries, ranking.probabilities)
  ]


def _distinct_entries(words, windows, settings):
  """Makes the n-best list: _Entry of distinct texts, best first, with "" if that is allowed."""
  null = _null_window(windows) if settings.version_2_with_negative else None
  entries: dict[str, _Entry] = {}
  for window, i in _best_first([*windows, null] if null else windows):
    if len(entries) >= settings.n_best_size:
      break
    entry = _entry(words, window, i, settings)
    entries.setdefault(entry.text, entry)
  if null:
    entries.setdefault("", _entry(words, null, 0, settings))
  return list(entries.values()) or [_Entry(_NO_CANDIDATE, 0.0, 0.0)]


def _null_window(windows):
  """Makes a window with one span, for "no answer": [CLS] of the window with its lowest score."""
  start, end = min((w.null_logits for w in windows), key=sum, default=(0.0, 0.0))
  place = np.zeros(1, int)
  return _Window([], {}, None, place, place, np.array([start]), np.array([end]), (start, end))


def _best_first(windows):
  """Yields (window, place in its spans), highest score first, equal ones in their given order."""
  if not windows:
    return
  scores = [window.start_logits + window.end_logits for window in windows]
  owners = np.repeat(np.arange(len(windows)), list(map(len, scores)))
  places = np.concatenate([np.arange(len(s)) for s in scores])
  for i in np.argsort(-np.concatenate(scores), kind="stable").tolist():
    yield windows[owners[i]], places[i]


def _get_best_indexes(logits, n_best_size):
  """Lists the places of the n_best_size highest logits, highest first, equal ones in their order.

  ([1.0, 3.0, 3.0], 2) -> [1, 2]
  """
  return np.argsort(-np.asarray(logits, np.float64), kind="stable")[:n_best_size].tolist()


def _compute_softmax(scores):
  """Returns the probabilities of scores: list of float -> list of float, sum 1; [] for []."""
  if not len(scores):
    return []
  powers = np.exp(np.asarray(scores, np.float64) - max(scores))
  return (powers / powers.sum()).tolist()


# ---- From word pieces to text -------------------------------------------------------------------


def _entry(words, window, i, settings):
  """Makes the _Entry of the i-th span of a window: the characters that its pieces were made of.

  An answer with [UNK] is whole words, except in text without spaces.
  """
  start, end = int(window.starts[i]), int(window.ends[i])
  logits = float(window.start_logits[i]), float(window.end_logits[i])
  if start == 0:
    return _Entry("", *logits)
  first, last = window.words[start], window.words[end]
  orig_text = " ".join(words[first : last + 1])
  begin, stop = (window.chars[start][0], window.chars[end][1]) if window.chars else (-1, -1)
  if "[UNK]" in window.tokens[start : end + 1] and not squad.may_be_sentences(orig_text.split()):
    begin, stop = 0, len(orig_text)
  elif begin >= 0 and stop >= 0:
    stop += len(orig_text) - len(words[last])  # from the last word to all of them
  else:
    pred_text = _piece_text(window.tokens[start : end + 1])
    begin, stop = _locate(pred_text, orig_text, settings.do_lower_case, settings.verbose_logging)
  return _Entry(orig_text[begin:stop], *logits, (first, begin, stop))


def _piece_text(tokens):
  """Joins word pieces: ["un", "##aff", "##able", "!"] -> "unaffable !"."""
  return " ".join(" ".join(tokens).replace(" ##", "").replace("##", "").split())


@functools.lru_cache(maxsize=1 << 16)
def _tokenized_word(word, do_lower_case):
  """Tokenizes a word: ("(Smith's", True) -> "( smith ' s"."""
  return " ".join(tokenization.BasicTokenizer(do_lower_case).tokenize(word))


def _locate(pred_text, orig_text, do_lower_case, verbose_logging):
  """Finds the text of word pieces in the original text.

  The tokenizer adds spaces and changes characters, mostly one to one. So the n-th character that is
  no space in one text corresponds to the n-th in the other:

    orig_text  "(Smith's job"    tokenized  "( smith ' s job"    pred_text  "smith ' s"
                012345678901                 0 12345 6 7 8..                 1       7
    -> (1, 8), the bounds of "Smith's"

  Returns:
    Pair of int: first character, and the one behind the last. All of orig_text if characters were
    added or lost, or pred_text is not there.
  """
  words = map(_tokenized_word, orig_text.split(" "), itertools.repeat(do_lower_case))
  tokenized = " ".join(filter(None, words))
  if pred_text == tokenized and orig_text == orig_text.strip():
    return 0, len(orig_text)  # the same result as below, but faster: the usual case
  try:
    return _align(pred_text, orig_text, tokenized)
  except LookupError as error:
    if verbose_logging:
      logging.info("%s", error.args[0])
    return 0, len(orig_text)


def _align(pred_text, orig_text, tokenized):
  """Finds the bounds in orig_text of pred_text, as in _locate; LookupError without them."""
  start = tokenized.find(pred_text)
  if start < 0:
    raise LookupError(f"Unable to find text: '{pred_text}' in '{orig_text}'")
  size = len(tokenized) - tokenized.count(" ")
  places = [i for i, char in enumerate(orig_text) if char != " "]
  if len(places) != size:  # words may have other spaces in them, at which the tokenizer splits too
    places = [i for i in places if unicodedata.category(orig_text[i]) != "Zs"]
  if len(places) != size:
    texts = orig_text.replace(" ", ""), tokenized.replace(" ", "")
    raise LookupError("Length not equal after stripping spaces: '%s' vs '%s'" % texts)
  for name, edge in (("start", pred_text[:1]), ("end", pred_text[-1:])):
    if edge in ("", " "):
      raise LookupError(f"Couldn't map {name} position")
  first = start - tokenized.count(" ", 0, start)
  last = first + len(pred_text) - pred_text.count(" ") - 1
  return places[first], places[last] + 1


def _characters(example, place):
  """Finds the bounds in example.paragraph_text of an _Entry's place, or (None, None)."""
  if place is None or getattr(example, "word_offsets", None) is None:
    return None, None
  word, start, end = place
  return _character(example, word, start), _character(example, word, end - 1) + 1


def _character(example, word, offset):
  """Finds a character's offset in the paragraph from that in the joined words from `word` on.

  Words ["Ann", "Lee"] at [0, 9] of "Ann      Lee": (0, 5), the first "e" -> 10.
  """
  while offset > len(example.doc_tokens[word]):
    offset -= len(example.doc_tokens[word]) + 1
    word += 1
  return example.word_offsets[word] + offset
