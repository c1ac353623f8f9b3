"""From logits to answers: by hand, and against a plain, slow search of the best spans."""
# ruff: noqa: RUF001  (full-width commas are parts of the texts)

import itertools
import json
import logging
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenization
from toolkit.support import files
from toolkit.tasks import squad_answers
from toolkit.tasks.squad import (
  InputFeatures,
  SquadExample,
  convert_examples_to_features,
  split_words,
)
from toolkit.tasks.squad_answers import RawResult, compute_answers, get_final_text

CONTEXT = "It was founded by Ann  Lee-Smith.\n(1901)"
HEAD = ["[CLS]", "who", "?", "[SEP]"]


def make_example(context=CONTEXT, qas_id="q"):
  words, offsets = split_words(context)
  return SquadExample(qas_id, "Who?", words, paragraph_text=context, word_offsets=offsets)


def pieces_of(words):
  """Word pieces, of words longer than 5 letters two, and the word of each."""
  pieces = [
    (piece, index)
    for index, word in enumerate(words)
    for token in tokenization.BasicTokenizer(True).tokenize(word)
    for piece in ([token] if len(token) <= 5 else [token[:5], "##" + token[5:]])
  ]
  return [piece for piece, _ in pieces], [index for _, index in pieces]


def make_feature(example, unique_id=7, span=None, example_index=0, max_context=None):
  """The window of the word pieces span[0] to span[1]; max_context are those with most context."""
  pieces, words = pieces_of(example.doc_tokens)
  start, end = span or (0, len(pieces))
  max_context = range(start, end) if max_context is None else max_context
  return InputFeatures(
    unique_id=unique_id,
    example_index=example_index,
    doc_span_index=0,
    tokens=[*HEAD, *pieces[start:end], "[SEP]"],
    token_to_orig_map={len(HEAD) + i - start: words[i] for i in range(start, end)},
    token_is_max_context={len(HEAD) + i - start: i in max_context for i in range(start, end)},
    input_ids=[],
    input_mask=[],
    segment_ids=[],
  )


def make_result(feature, starts, ends, unique_id=None, padding=2):
  """Logits by piece of the context: {2: 5.0}, or by place from [CLS]: {"0": 5.0}; others are -9."""
  logits = np.full((2, len(feature.tokens) + padding), -9.0)
  for row, values in zip(logits, (starts, ends)):
    for place, value in values.items():
      row[int(place) if isinstance(place, str) else len(HEAD) + place] = value
  return RawResult(feature.unique_id if unique_id is None else unique_id, *logits.tolist())


def compute(example, feature, result, n_best_size=3, max_answer_length=10, **kwargs):
  return compute_answers(
    [example], [feature], [result], n_best_size, max_answer_length, True, **kwargs
  )


def texts(answers, qas_id="q"):
  return [entry["text"] for entry in answers.nbest[qas_id]]


# The pieces of CONTEXT:
#  0  1   2     3    4  5   6   7 8     9 10 11   12
#  it was found ##ed by ann lee - smith .  (  1901 )


# ---- One window by hand -------------------------------------------------------------------------


def test_best_spans_by_hand():
  example = make_example()
  feature = make_feature(example)
  answers = compute(example, feature, make_result(feature, {5: 4.0, 6: 3.0}, {8: 2.0, 11: 0.5}))
  # 5-8: 6, 6-8: 5, 5-11: 4.5, (6-11: 3.5)
  assert texts(answers) == ["Ann Lee-Smith", "Lee-Smith", "Ann Lee-Smith. (1901"]
  assert answers.predictions == {"q": "Ann Lee-Smith"}
  assert answers.null_odds == {}
  powers = np.exp([6.0, 5.0, 4.5])
  np.testing.assert_allclose(
    [entry["probability"] for entry in answers.nbest["q"]], powers / powers.sum()
  )
  assert list(answers.nbest["q"][0]) == ["text", "probability", "start_logit", "end_logit"]
  assert [(e["start_logit"], e["end_logit"]) for e in answers.nbest["q"]] == [
    (4.0, 2.0),
    (3.0, 2.0),
    (4.0, 0.5),
  ]


@pytest.mark.parametrize(
  ("starts", "ends"),
  [
    ({5: 1.0, "1": 9.0}, {6: 1.0}),  # a start in the question
    ({5: 1.0}, {6: 1.0, "2": 9.0}),  # an end in the question
    ({5: 1.0, "17": 9.0}, {6: 1.0, "17": 9.0}),  # [SEP]
    ({5: 1.0, "18": 9.0}, {6: 1.0, "19": 9.0}),  # padding
    ({5: 1.0}, {6: 1.0, 4: 9.0}),  # the end is before the start
    ({5: 1.0, 0: 9.0}, {6: 1.0}),  # 7 pieces
    ({5: 1.0, 4: 9.0}, {6: 1.0}),  # another window has more context of the start
  ],
)
def test_what_cannot_be_an_answer(starts, ends):
  example = make_example()
  feature = make_feature(example, max_context=range(5, 9))
  answers = compute(example, feature, make_result(feature, starts, ends), 2, max_answer_length=4)
  assert answers.predictions == {"q": "Ann Lee"}


def test_longest_answer_and_end_without_most_context():
  example = make_example()
  feature = make_feature(example, max_context=[5])
  result = make_result(feature, {5: 1.0}, {8: 1.0})
  assert compute(example, feature, result, 1, 4).predictions == {"q": "Ann Lee-Smith"}
  assert compute(example, feature, result, 1, 3).predictions == {"q": "empty"}


def test_only_the_best_starts_and_ends_are_looked_at():
  """Those at padding take places from others."""
  example = make_example()
  feature = make_feature(example)
  result = make_result(feature, {"19": 9.0, "18": 8.0, 5: 7.0}, {6: 1.0})
  assert compute(example, feature, result, 2).predictions == {"q": "empty"}
  assert compute(example, feature, result, 3).predictions == {"q": "Ann Lee"}


def test_equal_scores_come_in_order_of_start_then_end():
  example = make_example()
  feature = make_feature(example)
  result = make_result(feature, {5: 1.0, 6: 1.0}, {6: 1.0, 8: 1.0})
  assert texts(compute(example, feature, result, 4)) == [
    "Ann Lee",
    "Ann Lee-Smith",
    "Lee",
    "Lee-Smith",
  ]


def test_many_equal_scores_come_in_order_too():
  example = make_example(" ".join(f"w{i}" for i in range(40)))
  feature = make_feature(example)
  result = make_result(feature, dict.fromkeys(range(40), 1.0), dict.fromkeys(range(40), 1.0))
  answers = compute(example, feature, result, 20, 1)
  assert texts(answers) == [f"w{i}" for i in range(20)]
  assert squad_answers._get_best_indexes([0.0] * 100, 40) == list(range(40))


def test_texts_occur_once():
  example = make_example("to be or not to be")
  feature = make_feature(example)
  answers = compute(example, feature, make_result(feature, {1: 1.0, 5: 2.0}, {1: 1.0, 5: 3.0}))
  assert texts(answers)[0] == "be" and texts(answers).count("be") == 1
  assert answers.nbest["q"][0]["start_logit"] == 2.0


def test_get_best_indexes():
  assert squad_answers._get_best_indexes([1.0, 3.0, 2.0, 3.0], 3) == [1, 3, 2]
  assert squad_answers._get_best_indexes(np.array([1.0, 3.0], np.float32), 5) == [1, 0]


def test_compute_softmax():
  assert squad_answers._compute_softmax([]) == []
  assert squad_answers._compute_softmax([1000.0, 1000.0]) == [0.5, 0.5]
  assert squad_answers._compute_softmax([0.0, np.log(3.0)]) == pytest.approx([0.25, 0.75])


def test_pieces_are_joined_to_words():
  example = make_example("(foundation)")
  feature = make_feature(example)
  assert feature.tokens[4:-1] == ["(", "found", "##ation", ")"]
  result = make_result(feature, {1: 1.0}, {1: 0.5, 2: 1.0})
  assert texts(compute(example, feature, result))[:2] == ["foundation", "found"]


# ---- No answer ----------------------------------------------------------------------------------


def test_no_answer_by_hand():
  example = make_example()
  feature = make_feature(example)
  result = make_result(feature, {"0": 2.0, 5: 4.0, 6: 3.0}, {"0": 3.5, 8: 2.0})
  answers = compute(example, feature, result, version_2_with_negative=True)
  assert answers.null_odds == {"q": -0.5}  # 5.5 - 4 - 2
  assert texts(answers) == ["Ann Lee-Smith", "", "Lee-Smith"]
  for threshold, want in ((-0.6, ""), (-0.5, "Ann Lee-Smith"), (0.0, "Ann Lee-Smith")):
    again = compute(
      example,
      feature,
      result,
      version_2_with_negative=True,
      null_score_diff_threshold=threshold,
    )
    assert again.predictions == {"q": want}
    assert again.nbest == answers.nbest


def test_lowest_score_of_all_windows_is_that_of_no_answer():
  example = make_example()
  features = [make_feature(example, 7, (0, 8)), make_feature(example, 8, (4, 13))]
  results = [
    make_result(features[1], {"0": -1.0, 1: 5.0}, {"0": 2.0, 1: 5.0}),
    make_result(features[0], {"0": 1.0, 1: 3.0}, {"0": 3.0, 1: 3.0}),
  ]
  answers = compute_answers([example], features, results, 5, 9, True, version_2_with_negative=True)
  assert answers.null_odds == {"q": 1.0 - 10.0}
  assert texts(answers)[:3] == ["Ann", "was", ""]
  null = answers.nbest["q"][2]
  assert (null["start_logit"], null["end_logit"]) == (-1.0, 2.0)


def test_no_answer_counts_in_probabilities_but_the_list_is_not_longer():
  example = make_example()
  feature = make_feature(example)
  result = make_result(feature, {"0": 0.0, 5: 4.0, 6: 3.0}, {"0": 0.0, 8: 2.0, 11: 1.0})
  answers = compute(example, feature, result, 2, version_2_with_negative=True)
  assert texts(answers) == ["Ann Lee-Smith", "Ann Lee-Smith. (1901"]
  powers = np.exp([6.0, 5.0, 0.0])
  np.testing.assert_allclose(
    [entry["probability"] for entry in answers.nbest["q"]], powers[:2] / powers.sum()
  )


def test_no_answer_comes_after_answers_of_equal_score():
  example = make_example()
  feature = make_feature(example)
  result = make_result(feature, {"0": 2.0, 5: 1.0}, {"0": 1.0, 6: 2.0})
  answers = compute(example, feature, result, version_2_with_negative=True)
  assert texts(answers)[:2] == ["Ann Lee", ""]
  assert answers.null_odds == {"q": 0.0} and answers.predictions == {"q": "Ann Lee"}


@pytest.mark.parametrize("threshold", [-100.0, 100.0])
def test_no_possible_answer(threshold):
  example = make_example()
  feature = make_feature(example)
  result = make_result(feature, {"0": 1.0, 8: 9.0}, {"0": 2.0, 5: 9.0})
  answers = compute(
    example,
    feature,
    result,
    1,
    version_2_with_negative=True,
    null_score_diff_threshold=threshold,
  )
  assert answers.predictions == {"q": ""}
  assert answers.null_odds == {"q": 3.0}
  assert answers.nbest == {
    "q": [{"text": "", "probability": 1.0, "start_logit": 1.0, "end_logit": 2.0}]
  }
  answers = compute(example, feature, result, 1)
  assert answers.predictions == {"q": "empty"}
  assert answers.nbest == {
    "q": [{"text": "empty", "probability": 1.0, "start_logit": 0.0, "end_logit": 0.0}]
  }


@pytest.mark.parametrize("with_window", [True, False])
def test_context_without_words(with_window):
  example = make_example(" \n")
  feature = make_feature(example)
  features = [feature] if with_window else []
  results = [make_result(feature, {"0": 0.25}, {"0": 0.5})] if with_window else []
  answers = compute_answers([example], features, results, 20, 30, True)
  assert answers.predictions == {"q": "empty"}
  answers = compute_answers([example], features, results, 20, 30, True, True)
  assert answers.predictions == {"q": ""}
  assert answers.null_odds == {"q": 0.75 if with_window else 0.0}


# ---- All windows of all questions ---------------------------------------------------------------


def slow_answers(example, pairs, n_best_size, max_answer_length, v2, threshold):
  """Prediction, (text, start + end) of the n-best list, and odds, straight from the definition."""
  spans = []
  for feature, result in pairs:
    ranks = [
      sorted(range(len(logits)), key=lambda i, logits=logits: (-logits[i], i))[:n_best_size]
      for logits in (result.start_logits, result.end_logits)
    ]
    for start, end in itertools.product(*ranks):
      inside = start in feature.token_to_orig_map and end in feature.token_to_orig_map
      if inside and feature.token_is_max_context[start] and 0 <= end - start < max_answer_length:
        first, last = feature.token_to_orig_map[start], feature.token_to_orig_map[end]
        pieces = " ".join(feature.tokens[start : end + 1]).replace(" ##", "").replace("##", "")
        text = get_final_text(pieces, " ".join(example.doc_tokens[first : last + 1]), True)
        spans.append((text, result.start_logits[start] + result.end_logits[end]))
  nulls = [result.start_logits[0] + result.end_logits[0] for _, result in pairs]
  if v2:
    spans.append(("", min(nulls)))
  nbest = {}
  for text, score in sorted(spans, key=lambda span: -span[1]):
    nbest.setdefault(text, score)
  nbest = list(nbest.items())
  answers = [span for span in nbest if span[0]]
  if not v2:
    return (nbest or [("empty", 0.0)])[0][0], nbest[:n_best_size] or [("empty", 0.0)], None
  odds = min(nulls) - (answers[0][1] if answers else 0.0)
  text = answers[0][0] if answers and odds <= threshold else ""
  return text, nbest[:n_best_size], odds


# Few values, so that many scores are equal, and exact in binary, so that they can be compared.
values = st.sampled_from([-2.0, -0.5, 0.0, 0.25, 1.5])


@st.composite
def questions(draw):
  """Examples, their features in any order, and results in another."""
  word = st.sampled_from(["to", "be", "or", "not", "(Lee)", "founding", "a-b"])
  context = st.lists(word, max_size=6).map(" ".join)
  examples = [make_example(draw(context), f"q{i}") for i in range(draw(st.integers(1, 3)))]
  features = []
  for index, example in enumerate(examples):
    size = len(pieces_of(example.doc_tokens)[0])
    middle = draw(st.integers(0, size))
    spans = [(0, size)] if draw(st.booleans()) else [(0, middle), (max(0, middle - 2), size)]
    max_context = draw(st.sets(st.integers(0, size)))
    features += [
      make_feature(example, 10 * index + i, span, index, max_context)
      for i, span in enumerate(spans)
    ]
  results = []
  for feature in draw(st.permutations(features)):
    size = len(feature.tokens) + 2
    start, end = (draw(st.lists(values, min_size=size, max_size=size)) for _ in range(2))
    results.append(RawResult(feature.unique_id, start, end))
  return examples, features, results


thresholds = st.sampled_from([-1.0, -0.25, 0.0, 0.5])


@given(questions(), st.integers(1, 9), st.integers(1, 6), st.booleans(), thresholds)
@settings(deadline=None)
def test_answers_are_those_of_the_definition(case, n_best_size, max_answer_length, v2, threshold):
  examples, features, results = case
  by_id = {result.unique_id: result for result in results}
  arrays = [RawResult(r.unique_id, *map(np.float32, r[1:])) for r in results]
  got = compute_answers(
    examples, features, arrays, n_best_size, max_answer_length, True, v2, threshold
  )
  assert list(got.predictions) == list(got.nbest) == [e.qas_id for e in examples]
  for index, example in enumerate(examples):
    pairs = [(f, by_id[f.unique_id]) for f in features if f.example_index == index]
    text, nbest, odds = slow_answers(example, pairs, n_best_size, max_answer_length, v2, threshold)
    entries = got.nbest[example.qas_id]
    assert got.predictions[example.qas_id] == text
    assert [(e["text"], e["start_logit"] + e["end_logit"]) for e in entries] == nbest
    assert got.null_odds.get(example.qas_id) == odds
    probabilities = [entry["probability"] for entry in entries]
    assert probabilities == sorted(probabilities, reverse=True)
    assert 0 < sum(probabilities) < 1 + 1e-9


@given(questions(), st.integers(1, 9), thresholds, thresholds)
@settings(deadline=None, max_examples=50)
def test_rethreshold_is_another_threshold(case, n_best_size, threshold, other):
  got = compute_answers(*case, n_best_size, 5, True, True, threshold)
  saved = json.loads(json.dumps(got.nbest)), json.loads(json.dumps(got.null_odds))
  want = compute_answers(*case, n_best_size, 5, True, True, other).predictions
  assert squad_answers.rethreshold(*saved, other) == want


def test_rethreshold_by_hand():
  nbest = {"b": [{"text": ""}, {"text": "x"}, {"text": "y"}], "a": [{"text": ""}]}
  odds = {"a": -4.0, "b": 2.0}
  assert list(squad_answers.rethreshold(nbest, odds, 2.0).items()) == [("b", "x"), ("a", "")]
  assert squad_answers.rethreshold(nbest, odds, 1.9) == {"b": "", "a": ""}
  with pytest.raises(files.InputError, match="question a has an n-best list, but no null odds"):
    squad_answers.rethreshold(nbest, {"b": 1.0}, 0.0)


def test_features_may_be_made_on_demand():
  class Lazy:
    """Makes a feature at each access."""

    def __init__(self, example):
      self.example = example

    def __len__(self):
      return 2

    def __getitem__(self, i):
      return make_feature(self.example, 7 + range(2)[i], [(0, 8), (4, 13)][i])

  features = Lazy(make_example())
  results = [make_result(f, {5: 1.0}, {5: 2.0 * i}) for i, f in enumerate(features)]
  answers = compute_answers([features.example], features, iter(results), 1, 5, True)
  assert answers.predictions == {"q": "."}


def test_features_of_other_questions_are_not_looked_at():
  example = make_example()
  features = [make_feature(example, 7), make_feature(example, 8, example_index=1)]
  answers = compute_answers(
    [example], features, [make_result(features[0], {5: 1.0}, {6: 1.0})], 1, 5, True
  )
  assert answers.predictions == {"q": "Ann Lee"}


# ---- Mistakes -----------------------------------------------------------------------------------


def broken(feature, row, place, value):
  result = make_result(feature, {5: 1.0}, {6: 1.0})
  result[1 + row][place] = value
  return result


@pytest.mark.parametrize(
  ("results", "message"),
  [
    (lambda f: [], r"question q: there is no result for its window 0 \(unique_id 7\)"),
    (lambda f: [make_result(f, {}, {})] * 2, r"two results have the unique_id 7"),
    (lambda f: [broken(f, 0, 4, np.nan)], r"question q: start_logits: found numbers that are not"),
    (lambda f: [broken(f, 1, -1, np.nan)], r"question q: end_logits: found numbers that are not"),
    (lambda f: [broken(f, 1, 2, -np.inf)], r"question q: end_logits: found numbers that are not"),
    (
      lambda f: [make_result(f, {}, {}, padding=-1)],
      r"question q: start_logits: found 17 numbers for 18 word pieces",
    ),
  ],
)
def test_bad_results(results, message):
  example = make_example()
  feature = make_feature(example)
  with pytest.raises(files.InputError, match=message) as raised:
    compute_answers([example], [feature], results(feature), 20, 30, True)
  assert "\n" not in str(raised.value)


def test_two_features_of_one_id():
  example = make_example()
  feature = make_feature(example)
  with pytest.raises(files.InputError, match="two features have the unique_id 7"):
    compute_answers([example], [feature] * 2, [make_result(feature, {}, {})], 20, 30, True)


def test_padding_may_be_infinite():
  example = make_example()
  feature = make_feature(example)
  assert compute(example, feature, broken(feature, 0, -1, -np.inf)).predictions == {"q": "Ann Lee"}


# ---- Text and its place -------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("pred_text", "orig_text", "do_lower_case", "want"),
  [
    ("steve smith", "Steve Smith's", True, "Steve Smith"),
    ("Steve Smith", "Steve Smith's", False, "Steve Smith"),
    ("ann lee - smith", "by Ann Lee-Smith. (1901)", True, "Ann Lee-Smith"),
    ("1901", "(1901)", True, "1901"),
    ("resume", "R\u00e9sum\u00e9s!", True, "R\u00e9sum\u00e9"),
    ("中", "(中文)", True, "中"),
    ("b", "a  b c", True, "b"),  # two spaces
    # Spaces inside of words:
    ("10 km", "about 10\u00a0km.", True, "10\u00a0km"),
    ("km", "10\u00a0km.", False, "km"),
    ("東 京", "\u3000東京\u3000都", True, "東京"),
    ("京 都", "(東京\u3000都", True, "京\u3000都"),
    # All of it, where characters get lost or more:
    ("cafe", "the cafe\u0301s", True, "the cafe\u0301s"),
    ("\u1112\u1161\u11ab", "(\ud55c)", True, "(\ud55c)"),
    ("b", "a\u0007b c", True, "a\u0007b c"),
    ("km", "cafe\u0301 10\u00a0km", True, "cafe\u0301 10\u00a0km"),
    ("b", "a\u2028b c", True, "a\u2028b c"),
    # All of it, where the text is not there:
    ("[UNK]", "x\u2603y", True, "x\u2603y"),
    ("Steve", "Steve", True, "Steve"),
    ("", "Ann (Lee)", True, "Ann (Lee)"),
    ("", "", True, ""),
    ("", " Ann ", True, " Ann "),
    (" lee", "Ann Lee", True, "Ann Lee"),
    ("ann ", "Ann Lee", True, "Ann Lee"),
  ],
)
def test_get_final_text(pred_text, orig_text, do_lower_case, want):
  assert get_final_text(pred_text, orig_text, do_lower_case) == want


@pytest.mark.parametrize(
  ("pred_text", "orig_text", "line"),
  [
    ("x", "Ann Lee", "Unable to find text: 'x' in 'Ann Lee'"),
    (
      "cafe",
      "the cafe\u0301s",
      "Length not equal after stripping spaces: 'thecafe\u0301s' vs 'thecafes'",
    ),
    (" lee", "Ann Lee", "Couldn't map start position"),
    ("ann ", "Ann Lee", "Couldn't map end position"),
  ],
)
def test_verbose_logging_says_why(pred_text, orig_text, line, caplog):
  caplog.set_level(logging.INFO, logger="absl")
  get_final_text(pred_text, orig_text, True)
  assert not caplog.records
  get_final_text(pred_text, orig_text, True, verbose_logging=True)
  assert [record.getMessage() for record in caplog.records] == [line]


@given(
  st.text(alphabet="aBc\u00e9\u00dc中.-(\u00a0\u3000 ", min_size=1, max_size=12),
  st.booleans(),
  st.data(),
)
def test_final_text_has_the_tokens_of_the_pieces(orig_text, do_lower_case, data):
  tokenize = tokenization.BasicTokenizer(do_lower_case).tokenize
  tokens = tokenize(orig_text)
  if not tokens:
    return
  start = data.draw(st.integers(0, len(tokens) - 1))
  end = data.draw(st.integers(start + 1, len(tokens)))
  final = get_final_text(" ".join(tokens[start:end]), orig_text, do_lower_case)
  assert final in orig_text and final == final.strip()
  assert tokenize(final) == tokens[start:end]


def test_best_answer_has_its_place():
  example = make_example()
  feature = make_feature(example)
  result = make_result(feature, {5: 4.0, 7: 3.0}, {8: 2.0, "0": 0.5})
  answer = squad_answers.best_answer(example, [feature], [result])
  assert answer.text == "Ann Lee-Smith"
  assert CONTEXT[answer.start_char : answer.end_char] == "Ann  Lee-Smith"
  assert (
    answer.probability == compute(example, feature, result, 20, 30).nbest["q"][0]["probability"]
  )
  assert answer.null_odds is None
  result = make_result(feature, {11: 4.0}, {11: 2.0, "0": 0.5})
  answer = squad_answers.best_answer(example, [feature], [result], version_2_with_negative=True)
  assert (answer.text, answer.start_char, answer.end_char) == ("1901", 35, 39)
  assert answer.null_odds == -9.0 + 0.5 - 6.0


def test_best_answer_may_be_none():
  example = make_example()
  feature = make_feature(example)
  result = make_result(feature, {"0": 3.0, 5: 1.0}, {"0": 3.0, 5: 1.0})
  nbest = compute(example, feature, result, 20, 30, version_2_with_negative=True).nbest["q"]
  answer = squad_answers.best_answer(example, [feature], [result], version_2_with_negative=True)
  assert nbest[0]["text"] == ""
  assert answer == ("", nbest[0]["probability"], None, None, 4.0)
  answer = squad_answers.best_answer(
    example, [feature], [result], version_2_with_negative=True, null_score_diff_threshold=4.0
  )
  assert answer == ("Ann", nbest[1]["probability"], 18, 21, 4.0)
  assert squad_answers.best_answer(example, [], []) == ("", 1.0, None, None, None)


def test_place_is_unknown_without_the_paragraph():
  example = make_example()
  example.word_offsets = None
  feature = make_feature(example)
  result = make_result(feature, {5: 1.0}, {5: 1.0})
  answer = squad_answers.best_answer(example, [feature], [result])
  assert answer[0] == "Ann" and answer[2:] == (None, None, None)


# ---- Answers of features that know the pieces' characters ---------------------------------------

PIECES = (
  *("[UNK]", "[CLS]", "[SEP]", "who", "?", "ann", "##a", "lee", "-", "50", "cafe", "river", "bank"),
  *"北岛有灯塔，。",
  *("\u1100", "##\u1100", "##\u1161", "##\u11a8", "\u0e01", "##\u0e01", "##\u0e19"),
)


@pytest.fixture(name="tokenizers", scope="module")
def _tokenizers(tmp_path_factory):
  """Dict of do_lower_case -> tokenizer."""
  path = tmp_path_factory.mktemp("pieces") / "vocab.txt"
  path.write_text("".join(f"{piece}\n" for piece in PIECES), encoding="utf-8")
  return {lower: tokenization.FullTokenizer(str(path), lower) for lower in (True, False)}


def pointed(tokenizer, context, first, last, **kwargs):
  """The BestAnswer where a model points at some pieces of the context."""
  example = make_example(context)
  found = []
  convert_examples_to_features([example], tokenizer, 200, 100, 10, False, found.append)
  (feature,) = found
  begin = min(feature.token_to_orig_map)
  result = make_result(feature, {str(begin + first): 5.0}, {str(begin + last): 5.0})
  kwargs.setdefault("do_lower_case", tokenizer.basic_tokenizer.do_lower_case)
  best = squad_answers.best_answer(example, found, [result], **kwargs)
  answers = compute_answers([example], found, [result], 20, 30, **kwargs)
  assert answers.predictions == {"q": best.text}
  return best


@pytest.mark.parametrize(
  ("context", "first", "last", "start", "text"),
  [
    ("北岛有灯塔，北岛", 0, 1, 0, "北岛"),
    ("北岛有灯塔，北岛", 6, 7, 6, "北岛"),
    ("a river，Lee-lee，LEE", 5, 5, 12, "lee"),
    ("a river，Lee-lee，LEE", 7, 7, 16, "LEE"),
    ("from 50-50", 3, 3, 8, "50"),
    ("bank\u00a0river\u00a0bank", 2, 2, 11, "bank"),
    ("Anna ann-a 50", 1, 1, 3, "a"),  # and not the "A", which is the first
    ("bank 北岛50-50 river", 5, 6, 10, "50 river"),
  ],
)
def test_answer_is_where_the_model_points(tokenizers, context, first, last, start, text):
  answer = pointed(tokenizers[True], context, first, last)
  assert answer[:1] + answer[2:4] == (text, start, start + len(text))


# What the tokenizer deletes, what it decomposes, what is a space for it alone, and [UNK].
STRANGE = [
  *("\u200b", "\ufeff", "\xad", "\ufe0f", "\ufffd", "\u2028", "\x85", "\x07", "\0", "\u200d"),
  *(
    "e\u0301",
    "\u0301",
    "\ud55c",
    "각",
    "\u0e01\u0e31\u0e19",
    "\u0130",
    "\u00a0",
    "\u3000",
    "“",
    "☃",
  ),
]


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("strange", STRANGE, ids=ascii)
def test_a_strange_character_anywhere_leaves_the_answer_alone(tokenizers, lower, strange):
  text, tokenize = "北岛有灯塔，北岛。", tokenizers[lower].tokenize
  for place in range(len(text) + 1):
    context = text[:place] + strange + text[place:]
    start = context.index("灯")
    expected = context[start : context.index("塔") + 1]
    first = len(tokenize(context[:start]))
    got = pointed(tokenizers[lower], context, first, first + len(tokenize(expected)) - 1)
    # Behind the answer, a mark may belong to its last character.
    assert got.text in (expected, expected + strange[:1] if place == 5 else None)
    assert (got.start_char, got.end_char) == (start, start + len(got.text))


def test_marks_and_syllables_stay_whole(tokenizers):
  def found(context, first, last):
    answer = pointed(tokenizers[True], context, first, last)
    assert answer.text == context[answer.start_char : answer.end_char]
    return answer.text, answer.start_char

  assert found("the Cafe\u0301-cafe\u0301, bank", 1, 1) == ("Cafe\u0301", 4)
  assert found("the Cafe\u0301-cafe\u0301, bank", 3, 3) == ("cafe\u0301", 10)
  assert found("灯\ufe0f塔", 0, 0) == ("灯\ufe0f", 0)
  assert found("กันกัน", 0, 1) == ("กัน", 0)
  assert found("กันกัน", 2, 2) == ("กั", 3)
  assert found("각각", 0, 2) == ("각", 0)
  assert found("각각", 4, 4) == ("각", 1)  # never a part of a syllable
  assert found("각각", 2, 3) == ("각각", 0)


def test_words_keep_what_stands_between_them(tokenizers):
  answer = pointed(tokenizers[True], "\ufeffAnn\u200b  \u200bLee\u200b, bank", 0, 1)
  assert answer.text == "Ann\u200b \u200bLee"
  assert (answer.start_char, answer.end_char) == (1, 11)


def test_a_tokenizer_of_another_casing_does_not_matter(tokenizers):
  answer = pointed(tokenizers[True], "(Anna-Lee) ann-lee", 8, 8, do_lower_case=False)
  assert answer.text == "lee"


def test_features_without_characters_are_searched_in_as_ever():
  example = make_example("bank-bank to (BANK-bank\u200b) Lee")
  feature = make_feature(example)
  for place, text in ((2, "bank"), (7, "(BANK-bank\u200b)"), (9, "Lee")):
    place = feature.tokens.index("lee") - len(HEAD) if text == "Lee" else place
    result = make_result(feature, {place: 5.0}, {place: 5.0})
    assert squad_answers.best_answer(example, [feature], [result]).text == text
  del feature.token_to_chars  # features of a program's own class
  assert squad_answers.best_answer(example, [feature], [result]).text == "Lee"


@given(questions())
@settings(deadline=None, max_examples=50)
def test_places_hold_the_texts(case):
  examples, features, results = case
  for index, example in enumerate(examples):
    own = [feature for feature in features if feature.example_index == index]
    for feature in own:
      feature.example_index = 0
    answer = squad_answers.best_answer(example, own, results)
    if answer.text:
      assert example.paragraph_text[answer.start_char : answer.end_char] == answer.text
    else:
      assert answer.start_char is None


# ---- Files --------------------------------------------------------------------------------------


@pytest.fixture(name="paths")
def _paths(tmp_path):
  return [str(tmp_path / name) for name in ("predictions.json", "nbest.json", "null_odds.json")]


def read(path):
  with open(path, "rb") as f:
    return f.read().decode("ascii")


def write(paths, **kwargs):
  """Answers "né" to question z and "b" to question a."""
  examples = [make_example("n\u00e9 (b)", "z"), make_example("b", "a")]
  features = [make_feature(example, 7 + i, None, i) for i, example in enumerate(examples)]
  results = [make_result(f, {0: 1.5, "0": 1.0}, {0: 2.0, "0": 1.0}) for f in features]
  squad_answers.write_predictions(examples, features, results, 1, 30, True, *paths, **kwargs)


def test_files_byte_by_byte(paths, caplog):
  caplog.set_level(logging.INFO, logger="absl")
  write(paths)
  assert read(paths[0]) == '{\n    "z": "n\\u00e9",\n    "a": "b"\n}\n'
  entry = (
    '[\n        {\n            "text": "%s",\n            "probability": 1.0,\n'
    '            "start_logit": 1.5,\n            "end_logit": 2.0\n        }\n    ]'
  )
  assert read(paths[1]) == '{\n    "z": %s,\n    "a": %s\n}\n' % (entry % "n\\u00e9", entry % "b")
  assert not os.path.exists(paths[2])
  assert [record.getMessage() for record in caplog.records] == [
    f"Writing predictions to: {paths[0]}",
    f"Writing nbest to: {paths[1]}",
  ]


def test_files_of_version_2(paths):
  write(paths, version_2_with_negative=True, null_score_diff_threshold=-2.0)
  assert read(paths[0]) == '{\n    "z": "",\n    "a": ""\n}\n'
  assert read(paths[2]) == '{\n    "z": -1.5,\n    "a": -1.5\n}\n'


def test_nothing_is_written_of_bad_results(paths):
  example = make_example()
  with pytest.raises(files.InputError):
    squad_answers.write_predictions([example], [make_feature(example)], [], 1, 30, True, *paths)
  assert not any(map(os.path.exists, paths))
