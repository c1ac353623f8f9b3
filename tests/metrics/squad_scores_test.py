"""The measures of SQuAD, worked by hand and against other ways to compute them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.metrics import squad_scores
from toolkit.metrics.squad_scores import evaluate, evaluate_v1, evaluate_v2, find_best_threshold
from toolkit.support import files


def dataset(**answers):
  """A data set of questions id=[answer, ...]."""
  qas = [
    {"id": qas_id, "question": "?", "answers": [{"text": t, "answer_start": 0} for t in texts]}
    for qas_id, texts in answers.items()
  ]
  paragraphs = [{"context": "", "qas": qas[:1]}, {"context": "", "qas": qas[1:]}]
  return {"version": "x", "data": [{"title": "t", "paragraphs": paragraphs}]}


# ---- One answer ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("text", "want"),
  [
    ("The U.S.,  a country", "us country"),
    ("an Apple\tand\u00a0the pear", "apple and pear"),
    ("theatre another Ann", "theatre another ann"),  # articles are whole words
    ("A-the", "athe"),  # punctuation goes before articles
    ("a\u2014the\u2014b", "\u2014 \u2014b"),  # only ASCII punctuation goes; others end words
    ("$3,000.50", "300050"),
    ("the", ""),
    ("", ""),
  ],
)
def test_normalize_answer(text, want):
  assert squad_scores.normalize_answer(text) == want


def test_exact_score():
  assert squad_scores.exact_score("The Normans!", "normans") == 1
  assert squad_scores.exact_score("Normans", "Norman") == 0
  assert squad_scores.exact_score("", "the") == 1


@pytest.mark.parametrize(
  ("prediction", "answer", "want"),
  [
    ("Norman kings!", "the Norman dynasty", 1 / 2),
    ("10th century", "in the 10th and 11th centuries", 2 * (1 / 2) * (1 / 5) / (1 / 2 + 1 / 5)),
    ("very very very big", "very very small", 2 * (2 / 4) * (2 / 3) / (2 / 4 + 2 / 3)),
    ("b a c", "c b", 1.0),
    ("x", "y", 0.0),
    ("", "y", 0.0),
    ("y", "the", 0.0),
    ("", "the", 1.0),
  ],
)
def test_f1_score(prediction, answer, want):
  assert squad_scores.f1_score(prediction, answer) == pytest.approx(want)
  assert squad_scores.f1_score(answer, prediction) == squad_scores.f1_score(prediction, answer)


# ---- SQuAD 1.1 ----------------------------------------------------------------------------------


def test_version_1_by_hand():
  data = dataset(
    q1=["Denver Broncos", "The Denver Broncos!"],  # exact
    q2=["gold", "the colour gold"],  # f1 with the second answer: 2 * 1 * (1/2) / (3/2) = 2/3
    q3=["Lee", "Ann"],  # wrong
    q4=["x"],  # without a prediction
  )
  predictions = {"q1": "denver broncos", "q2": "colour", "q3": "Bob", "other": "x"}
  got = evaluate_v1(data, predictions)
  assert list(got) == ["exact_match", "f1"]
  assert got == pytest.approx({"exact_match": 100 / 4, "f1": 100 * (1 + 2 / 3) / 4})
  assert evaluate(data, predictions) == got


def test_version_1_gives_no_f1_for_nothing():
  assert evaluate_v1(dataset(q=["the"]), {"q": ""}) == {"exact_match": 100.0, "f1": 0.0}


def test_missing_predictions_are_counted_in_the_log(caplog):
  evaluate_v1(dataset(a=["x"], b=["y"], c=["z"]), {"b": "y"})
  assert [r.getMessage() for r in caplog.records] == [
    "2 of 3 questions have no prediction and count as wrong"
  ]
  caplog.clear()
  assert evaluate_v2(dataset(a=["x"], b=[]), {"b": ""})["total"] == 1
  assert [r.getMessage() for r in caplog.records] == [
    "1 of 2 questions have no prediction and are left out"
  ]


# ---- SQuAD 2.0 ----------------------------------------------------------------------------------

ANSWERABLE = {"a1": ["red house", "house"], "a2": ["blue"], "a3": ["green tree"]}
UNANSWERABLE = {"n1": [], "n2": []}
# F1: a1 1, a2 0, a3 2/3 (1 of 1 and of 2 words); n1 1, n2 0.
PREDICTIONS = {"a1": "the house", "a2": "", "a3": "tree", "n1": "", "n2": "maybe"}


def test_version_2_by_hand():
  got = evaluate(dataset(**ANSWERABLE, **UNANSWERABLE), PREDICTIONS)
  want = {
    "exact": 100 * 2 / 5,
    "f1": 100 * (1 + 2 / 3 + 1) / 5,
    "total": 5,
    "HasAns_exact": 100 / 3,
    "HasAns_f1": 100 * (1 + 2 / 3) / 3,
    "HasAns_total": 3,
    "NoAns_exact": 50.0,
    "NoAns_f1": 50.0,
    "NoAns_total": 2,
  }
  assert list(got) == list(want)
  assert got == pytest.approx(want)


def test_kinds_of_questions_that_do_not_occur_have_no_results():
  got = evaluate_v2(dataset(**ANSWERABLE), PREDICTIONS)
  assert list(got) == ["exact", "f1", "total", "HasAns_exact", "HasAns_f1", "HasAns_total"]
  got = evaluate_v2(dataset(**UNANSWERABLE), PREDICTIONS)
  assert list(got) == ["exact", "f1", "total", "NoAns_exact", "NoAns_f1", "NoAns_total"]


def test_answers_without_words_are_no_answers():
  """Yet the question counts as one that has an answer."""
  got = evaluate_v2(dataset(q=["The", "..."]), {"q": ""})
  assert (got["exact"], got["f1"], got["HasAns_total"]) == (100.0, 100.0, 1)
  assert evaluate_v2(dataset(q=["the", "x"]), {"q": ""})["exact"] == 0.0


def test_threshold_by_hand():
  data = dataset(**ANSWERABLE, **UNANSWERABLE)
  na_probs = {"a1": 0.1, "a2": 0.9, "a3": 0.5, "n1": 0.2, "n2": 0.6, "another": 0.3}
  got = evaluate(data, PREDICTIONS, na_probs, 0.5)
  # a2 and n2 are taken as unanswered: n2 is right now, and a3 (not above the threshold) stays.
  assert got["exact"] == pytest.approx(100 * 3 / 5)
  assert got["f1"] == pytest.approx(100 * (1 + 2 / 3 + 1 + 1) / 5)
  # None answered: n1, n2 right. Up to a1: + 1; n1: 0; a3: + 0 exact, + 2/3 f1; n2: - 1; a2: 0.
  assert list(got)[-4:] == ["best_exact", "best_exact_thresh", "best_f1", "best_f1_thresh"]
  assert (got["best_exact"], got["best_exact_thresh"]) == (pytest.approx(60.0), 0.1)
  assert (got["best_f1"], got["best_f1_thresh"]) == (pytest.approx(100 * (3 + 2 / 3) / 5), 0.5)


def test_threshold_is_one_by_default():
  data = dataset(a=["x"], b=["y"])
  got = evaluate_v2(data, {"a": "x", "b": "y"}, {"a": 1.0, "b": 1.5})
  assert got["exact"] == 50.0 and got["best_exact"] == 100.0 and got["best_exact_thresh"] == 1.5


def test_best_threshold_of_all_unanswered_is_zero():
  got = find_best_threshold(
    {"n": "x", "a": "y"}, {"n": 0, "a": 0}, {"n": 5, "a": 3}, {"n": 0, "a": 1}
  )
  assert got == (50.0, 0.0)


def test_best_threshold_takes_equal_numbers_one_by_one():
  """Only `a` counts as answered in the best score, although the threshold is also that of `n`."""
  scores, has_answer = {"a": 1, "n": 0}, {"a": True, "n": False}
  predictions = {"a": "x", "n": "x"}
  assert find_best_threshold(predictions, scores, {"a": 2, "n": 2}, has_answer) == (100.0, 2)
  assert find_best_threshold(predictions, scores, {"n": 2, "a": 2}, has_answer) == (50.0, 0.0)


question = st.tuples(st.booleans(), st.sampled_from(["", "x", "x y"]), st.integers(1, 9))


@given(st.lists(question, min_size=1, max_size=8, unique_by=lambda q: q[2]))
def test_best_threshold_against_all_thresholds(questions):
  """With different numbers, the best threshold is that of the best of all evaluations."""
  data = dataset(**{f"q{i}": ["x y"] if has else [] for i, (has, _, _) in enumerate(questions)})
  predictions = {f"q{i}": text for i, (_, text, _) in enumerate(questions)}
  na_probs = {f"q{i}": number / 10 for i, (_, _, number) in enumerate(questions)}
  got = evaluate_v2(data, predictions, na_probs)
  for name in ("exact", "f1"):
    results = {
      threshold: evaluate_v2(data, predictions, na_probs, threshold)[name]
      for threshold in [0.0, *sorted(na_probs.values())]
    }
    assert got[f"best_{name}"] == pytest.approx(max(results.values()))
    assert results[got[f"best_{name}_thresh"]] == pytest.approx(got[f"best_{name}"])


@given(st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["", "x", "the y"]), min_size=1))
def test_averages_of_kinds_make_the_whole(predictions):
  data = dataset(a=["x"], b=["y", "x"], c=[], d=[])
  got = evaluate_v2(data, predictions)
  assert got["total"] == len(predictions)
  assert got["total"] == got.get("HasAns_total", 0) + got.get("NoAns_total", 0)
  for name in ("exact", "f1"):
    parts = [
      got[f"{kind}_{name}"] * got[f"{kind}_total"]
      for kind in ("HasAns", "NoAns")
      if f"{kind}_total" in got
    ]
    assert got[name] * got["total"] == pytest.approx(sum(parts))


# ---- Version and mistakes -----------------------------------------------------------------------


def test_version_is_found_in_the_content():
  assert not squad_scores.is_version_2(dataset(q=["x"]))
  assert squad_scores.is_version_2(dataset(q=["x"], r=[]))
  data = dataset(q=["x"])
  data["data"][0]["paragraphs"][0]["qas"][0]["is_impossible"] = False
  assert squad_scores.is_version_2(data)
  assert "HasAns_total" in evaluate(data, {"q": "x"})


def test_numbers_for_version_1_are_not_used():
  assert evaluate(dataset(q=["x"]), {"q": "x"}, {"q": 7.0}) == {"exact_match": 100.0, "f1": 100.0}


@pytest.mark.parametrize(
  ("data", "predictions", "na_probs", "message"),
  [
    ([], {"q": "x"}, None, r"data set: is not SQuAD"),
    ({"data": [{"paragraphs": 3}]}, {"q": "x"}, None, r"data set: is not SQuAD"),
    (
      {"data": [{"paragraphs": [{"qas": [{"id": "q"}]}]}]},
      {"q": "x"},
      None,
      r"data set: question q has no list of answers",
    ),
    (
      {"data": [{"paragraphs": [{"qas": [{"id": "q", "answers": ["x"]}]}]}]},
      {"q": "x"},
      None,
      r"data set: question q has an answer without text",
    ),
    (dataset(q=["x"]), ["x"], None, r"predictions: found a list, should be an object"),
    (dataset(q=["x"], r=["x"]), {"p": "x"}, None, r"predictions: none of 1 is for .* 2 questions"),
    (dataset(q=["x"]), {"q": None}, None, r"predictions: question q: found None"),
    (dataset(q=["x"], r=[]), {"q": "x"}, {}, r"na_probs: question q: found None"),
    (dataset(q=["x"], r=[]), {"q": "x"}, {"q": "0.5"}, r"na_probs: question q: found '0.5'"),
    (dataset(q=["x"], r=[]), {"q": "x"}, {"q": float("nan")}, r"na_probs: question q: found nan"),
  ],
)
def test_mistakes_are_named(data, predictions, na_probs, message):
  with pytest.raises(files.InputError, match=message) as raised:
    evaluate(data, predictions, na_probs)
  assert "\n" not in str(raised.value)


def test_version_1_measures_need_answers():
  with pytest.raises(files.InputError, match="question q has no answer"):
    evaluate_v1(dataset(q=[]), {"q": "x"})


@pytest.mark.parametrize(("odds", "want"), [((-3.0, -2.0), -4.0), ((1.0, 2.0), 0.0)])
def test_a_threshold_with_which_nothing_is_answered(odds, want):
  """Both predictions are wrong, so the best is to answer neither question."""
  qas = [{"id": name, "question": "?", "answers": []} for name in "ab"]
  data = {"data": [{"paragraphs": [{"context": "text", "qas": qas}]}]}
  predictions = {"a": "text", "b": "text"}
  best = squad_scores.best_thresholds(data, predictions, dict(zip("ab", odds)))
  assert (best["best_f1"], best["best_f1_thresh"], best["best_exact_thresh"]) == (100.0, want, want)
  assert all(value > want for value in odds)
