"""Labels in texts and columns, by hand."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.support import files
from toolkit.tasks import written_labels
from toolkit.tasks.written_labels import parse_list


def rows_of(*values):
  return [files.Row([value], f"f:{number}") for number, value in enumerate(values, 1)]


def read(*values, separator=",", known=None):
  return written_labels.read_column(rows_of(*values), 0, separator, known)


def refused(message, *values, **options):
  with pytest.raises(files.InputError, match=message) as caught:
    read(*values, **options)
  assert "\n" not in str(caught.value)


# ---- Lists in a text ----------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("text", "want"),
  [
    ("['good', 'x0']", ["good", "x0"]),
    ('["a"]', ["a"]),
    ('["a\\u00e9", 1, true, null]', ["aé", "1", "true"]),
    ("('a', \"it's\",)", ["a", "it's"]),
    ("{'a', 'b'}", ["a", "b"]),
    (r"['it\'s', 'C:\\x', 'a,b']", ["it's", "C:\\x", "a,b"]),
    ("['a' 'b c']", ["a", "b c"]),
    ("['a'\n 'b']", ["a", "b"]),
    ("[0, 0, 1]", ["0", "0", "1"]),
    ("[0. 0. 1.]", ["0.", "0.", "1."]),
    ("[True, False]", ["True", "False"]),
    ("(0, 1)", ["0", "1"]),
    ("[]", []),
    ("()", []),
    ("[ 5 ]", ["5"]),
    ("", None),
    ("[", None),
    ("a, b", None),
    ("[a, b]", None),
    ("[OC]", None),
    ("(5)", None),
    ("(none)", None),
    ("['a', 'b'", None),
    ("['a', ['b']]", None),
    ('[["a"]]', None),
    ("[5], [6]", None),
    ("['a''b']", None),
    ("[,]", None),
    ("[" * 50_000 + "]" * 50_000, None),
  ],
)
def test_lists(text, want):
  assert parse_list(text) == want


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1)))
def test_written_lists_come_back(items):
  for write in (json.dumps, repr, lambda x: json.dumps(x, ensure_ascii=False)):
    assert parse_list(write(items)) == items


@pytest.mark.parametrize(
  ("value", "want"),
  [
    (" red, big,,red", ("red", "big")),
    ("['red', ' big', 'red', '']", ("red", "big")),
    (["red", "big", 10], ("red", "big", "10")),
    ("\ufeffred,\u200b, big\u200b", ("red", "big")),
    ("[OC]", ("[OC]",)),
    ("[OC], (serious)", ("[OC]", "(serious)")),
    ("a) red, b) big", ("a) red", "b) big")),
    ("", ()),
    (None, ()),
    ("[]", ()),
  ],
)
def test_labels_of_a_row(value, want):
  assert read(value) == ([want], None)


def test_known_labels_may_look_like_lists():
  assert read("[5], ['a']", known=["[5]", "['a']"]) == ([("[5]", "['a']")], None)


@pytest.mark.parametrize(
  ("value", "separator"),
  [
    ("[good, bad]", ","),
    ("{good,bad}", ","),
    ("['good', 'bad'", ","),
    ("[['good'], ['bad']]", ","),
    ("{'good': 1, 'bad': 0}", ","),
    ("array([0, 1])", ","),
    ("(a;b)", ";"),
    ("[5], [6]", ","),
    ("Smith (UK, US)", ","),
  ],
)
def test_lists_that_cannot_be_read(value, separator):
  refused(r"^f:2: found .* where labels should be: .*'a', 'b'.*\[0, 1, 0\]$", "x", value,
          separator=separator)  # fmt: skip


# ---- Zeros and ones -----------------------------------------------------------------------------


@pytest.mark.parametrize(
  "values",
  [
    ([0, 0, 1], [1, 0, 1], [0, 0, 0]),
    ("[0, 0, 1]", "[1, 0, 1]", "[0, 0, 0]"),
    ("[0 0 1]", "[1. 0. 1.]", ""),
    ("0,0,1", "1,0,1", "0,0,0"),
    ([False, False, True], [True, False, True], None),
    ("['0', '0', '1']", "(1, 0, 1)", "[]"),
  ],
)
def test_zeros_and_ones(values):
  assert read(*values) == ([("2",), ("0", "2"), ()], ["0", "1", "2"])
  assert read(*values, known=["x", "y", "z"]) == ([("z",), ("x", "z"), ()], None)


def test_zeros_and_ones_of_two_labels():
  assert read([0, 1], [1, 0]) == ([("1",), ("0",)], ["0", "1"])
  assert read([0, 1], [1, 1]) == ([("1",), ("0", "1")], ["0", "1"])
  assert read([0, 1], known=["x", "y"]) == ([("y",)], None)
  assert read([0, 1], [1]) == ([("0", "1"), ("1",)], None)  # two names
  assert read("0,1", "1,1", "2") == ([("0", "1"), ("1",), ("2",)], None)


@pytest.mark.parametrize(
  ("values", "known", "message"),
  [
    (([0, 0, 1], [0, 1]), None, r"^f:2: found \[0, 1\], where f:1 has \[0, 0, 1\], a 0 or 1 for"),
    (("a", "[0, 0, 1]"), None, r"^f:1: found \[a\], where f:2 has \[0, 0, 1\]"),
    (("[0, 0, 1]", "[0, 0, 2]"), None, r"^f:2: found \[0, 0, 2\], where f:1"),
    (("[0, 0, 1]",), ["a", "b"], r"^f:1: found \[0, 0, 1\], 3 numbers, where there are 2 labels: "),
  ],
)
def test_zeros_and_ones_that_do_not_fit(values, known, message):
  refused(message, *values, known=known)


def test_a_column_for_each_label():
  rows = [
    files.Row([0, "1", True, "x"], "f:1"),
    files.Row(["false", " TRUE ", "0.0", "y"], "f:2"),
    files.Row([0.0, 0, False, "z"], "f:3"),
  ]
  columns = {"c": 2, "a": 0, "b": 1}
  assert written_labels.read_columns(rows, columns) == [("c", "b"), ("b",), ()]


@pytest.mark.parametrize("value", ["", None, "-1", "yes", 2, "0.5"])
def test_a_column_with_other_values(value):
  rows = [files.Row(["1"], "f:1"), files.Row([value], "f:2")]
  with pytest.raises(files.InputError, match=r"^f:2: found .* the column of the label 'toxic', "):
    written_labels.read_columns(rows, {"toxic": 0})


# ---- Labels that look alike ---------------------------------------------------------------------


@pytest.mark.parametrize(
  ("labels", "groups"),
  [
    (["Good", "bad", "good"], [["Good", "good"]]),
    (["caf\u00e9", "cafe\u0301", "cafe"], [["caf\u00e9", "cafe\u0301"]]),
    (["0", "0.0", "1", "00", "1.0", "01", "10"], [["0", "0.0", "00"], ["1", "1.0", "01"]]),
    (["not good", "not  good", "not\u00a0good", "notgood"],
     [["not good", "not  good", "not\u00a0good", "notgood"]]),
    (["\uff11", "1"], [["\uff11", "1"]]),
    (["\u2764", "\u2764\ufe0f"], [["\u2764", "\u2764\ufe0f"]]),
    (["go\u200dod", "good"], [["go\u200dod", "good"]]),
    (["\U0001f3f4\U000e0067\U000e007f", "\U0001f3f4\U000e0073\U000e007f"], []),
    (["a", "b", ".", "1.1.1", "1.1", "-", "+"], []),
  ],
)  # fmt: skip
def test_groups_of_labels_that_look_alike(labels, groups):
  assert written_labels.look_alikes(labels) == groups


def test_one_warning_names_them(log):
  sources = {"Good": ["f:2", "f:9"], "good": ["f:3"], "x": ["f:6"]}
  sources.update({"caf\u00e9": ["f:4"], "cafe\u0301": ["f:5"]})
  written_labels.warn_of_look_alikes("f", sources)
  assert log.messages == [
    "f: labels that look alike are different labels: 'Good' (2, first f:2), 'good' (1, first f:3); "
    "'caf\u00e9' (1, first f:4), 'cafe\\u0301' (1, first f:5); write the same label in the same way"
  ]
  log.clear()
  written_labels.warn_of_look_alikes("f", {"a": ["f:1"], "b": ["f:2"]})
  assert not log.messages
