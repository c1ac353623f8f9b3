"""Files of questions, their answers in each form, features and predictions, by hand."""

import json

import numpy as np
import pytest

import tokenization
from toolkit.support import files
from toolkit.tasks import multiple_choice
from toolkit.tasks.multiple_choice import TASKS, Question

VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh", "?"]


def read(path, task="jsonl", needs_answers=True, **options):
  form = TASKS[task]._replace(**options)
  return multiple_choice.read_questions(str(path), form, "train", needs_answers)


@pytest.fixture(name="write")
def _write(tmp_path):
  """Function that writes a file and returns its path; jsonl for dicts, text else."""

  def write(name, content):
    path = tmp_path / name
    if not isinstance(content, str):
      content = "".join(json.dumps(row) + "\n" for row in content)
    path.write_text(content, encoding="utf-8")
    return path

  return write


# ---- Answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("answers", "form", "places"),
  [
    (["0", "2", "1"], "number", [0, 2, 1]),
    (["1", "3", " 2 "], "number_from_1", [0, 2, 1]),
    (["A", "c", "B"], "letter", [0, 2, 1]),
    (["one", "three", "two"], "text", [0, 2, 1]),
  ],
)
def test_forms_of_answers(answers, form, places):
  choices = ["one", "two", "three"]
  rows = [(answer, choices, f"f:{n}") for n, answer in enumerate(answers, 1)]
  assert multiple_choice.find_answer_form(rows) == form
  assert [multiple_choice.ANSWER_FORMS[form](a, choices) for a in answers] == places
  named = [multiple_choice.name_choice(form, place, choices) for place in places]
  assert [name.lower() for name in named] == [answer.strip().lower() for answer in answers]


def test_equal_choices_are_the_first_of_them():
  assert multiple_choice.find_answer_form([("two", ["one", "two", "two"], "f:1")]) == "text"
  assert multiple_choice.ANSWER_FORMS["text"]("two", ["one", "two", "two"]) == 1


@pytest.mark.parametrize(
  ("rows", "match"),
  [
    (
      [("1", "xyz"), ("2", "xyz")],
      r"^f:1: .*'1', can be read as number and as number_from_1; give",
    ),
    ([("2", "123"), ("0", "120")], r"can be read as number and as text; give --answer_form"),
    ([("0", "xy"), ("2", "xy")], r"^f:2: found the answer '2', .* 2 choices; as number .*'0', '1'"),
    ([("B", "xy"), ("C", "xy")], r"^f:2: found the answer 'C', .* as letter .* they are 'A', 'B'"),
    ([("x", "xy"), ("z", "xy"), ("y", "xy")], r"^f:2: .* as text .* they are 'x', 'y'"),
    ([("\u00b2", "xyz")], r"^f:1: found the answer '\u00b2'"),
  ],
)
def test_answers_that_mean_nothing_or_too_much(rows, match):
  rows = [(answer, list(choices), f"f:{n}") for n, (answer, choices) in enumerate(rows, 1)]
  with pytest.raises(files.InputError, match=match):
    multiple_choice.find_answer_form(rows)


def test_forms_that_mean_the_same_are_no_question():
  assert multiple_choice.find_answer_form([("0", ["0", "1"], "f:1")]) in ("number", "text")


# ---- Files --------------------------------------------------------------------------------------


def test_jsonl(write):
  path = write(
    "t.jsonl",
    [
      {"context": "a b", "question": "c?", "choices": ["d", "e"], "answer": 1},
      {"context": None, "question": "f?", "choices": ["g", 7], "answer": 0, "id": 5},
    ],
  )
  found, form = read(path)
  assert form == "number"
  assert found == [
    Question("train-0", "a b", "c?", ["d", "e"], 1, f"{path}:1"),
    Question("train-1", None, "f?", ["g", "7"], 0, f"{path}:2"),
  ]
  assert [q.guid for q in read(path, id_column="id")[0]] == ["train-0", "5"]


@pytest.mark.parametrize(
  ("names", "options"),
  [
    (["context", "question", "choice0", "choice1", "answer"], {}),
    (["passage", "question", "option_1", "option_2", "label"], {}),
    (["article", "question", "answer1", "answer2", "label"], {}),
    (
      ["ctx", "q", "x", "y", "gold"],
      {
        "context_column": "ctx",
        "question_column": "q",
        "choice_columns": ["x", "y"],
        "answer_column": "gold",
      },
    ),
    (
      None,
      {
        "has_header": False,
        "context_column": "0",
        "question_column": "1",
        "choice_columns": ["2", "3"],
        "answer_column": "4",
      },
    ),
  ],
)
@pytest.mark.parametrize("task", ["csv", "tsv"])
def test_tables(write, task, names, options):
  comma = "," if task == "csv" else "\t"
  rows = [["a b", "c?", "d", "e", "0"], ["f", "g?", "h", "i", "1"]]
  lines = [comma.join(row) for row in ([names] if names else []) + rows]
  path = write(f"t.{task}", "\n".join(lines) + "\n")
  found, form = read(path, task, **options)
  assert form == "number"
  first = 2 if names else 1
  assert found == [
    Question("train-0", "a b", "c?", ["d", "e"], 0, f"{path}:{first}"),
    Question("train-1", "f", "g?", ["h", "i"], 1, f"{path}:{first + 1}"),
  ]


def test_columns_of_choices_are_in_order_of_their_numbers(write):
  numbers = [10, *range(10)]
  names = ",".join(f"ending{n}" for n in numbers)
  path = write("t.csv", f"question,{names},label\nq,{','.join(f'c{n}' for n in numbers)},c2\n")
  ((found,), _) = read(path, "csv")
  assert found.choices == [f"c{n}" for n in range(11)] and found.answer == 2


def test_swag(write):
  header = ",video-id,fold-ind,startphrase,sent1,sent2,gold-source"
  path = write(
    "train.csv",
    f'{header},ending0,ending1,ending2,ending3,label\n0,v1,3,"a, b. c",a. b,c,gold,d,e,f,g,2\n',
  )
  assert read(path, "swag") == (
    [Question("train-0", "a. b", "c", ["d", "e", "f", "g"], 2, f"{path}:2")],
    "number",
  )
  path = write("test.csv", f"{header},ending0,ending1,ending2,ending3\n0,v1,3,,a. b,c,,d,e,f,g\n")
  ((found,), _) = read(path, "swag", needs_answers=False)
  assert found.answer is None and found.choices == ["d", "e", "f", "g"]


def test_fewer_choices_are_empty_columns_at_the_end(write):
  path = write("t.csv", "question,choice0,choice1,choice2,answer\nq,a,b,c,2\nq,a,b,,0\n")
  found, _ = read(path, "csv", pad_choices=True)
  assert [q.choices for q in found] == [["a", "b", "c"], ["a", "b"]]
  with pytest.raises(files.InputError, match=r"t\.csv:3: found 2 choices, where .*t\.csv:2 has 3"):
    read(path, "csv")


@pytest.mark.parametrize(
  ("text", "match"),
  [
    ("question,choice0,choice1,answer\nq,a,,0\n", r":2: found 1 choices, expected 2 or more"),
    ("question,choice0,choice1,answer\nq,,b,0\n", r":2: choice 1 of 2 is empty"),
    ("question,choice0,choice1,answer\nq,a,b\n", r":2: found 3 columns, expected 4"),
    ("question,choice0,choice1,answer\nq,a,b,\n", r":2: has no answer"),
    ("question,choice0,choice1\nq,a,b\n", r"--answer_column: name the column with the right"),
    ("choice0,choice1,answer\na,b,0\n", r"--context_column: name the column with the context"),
    ("question,answer\nq,0\n", r"--choice_columns: name the columns with the choices; the file's"),
    ("question,choice0,ending0,answer\nq,a,b,0\n", r"--choice_columns: name the columns with"),
    ("question,choice0,choice1,answer\n", r"has no examples"),
    (
      "question,choice0,choice1,answer\nq,a,b,0\nquestion,choice0,choice1,answer\n",
      r":3: found the header again, 'question', ",
    ),
  ],
)
def test_tables_that_cannot_be_used(write, text, match):
  with pytest.raises(files.InputError, match=match):
    read(write("t.csv", text), "csv")


@pytest.mark.parametrize(
  ("row", "match"),
  [
    ({"choices": "a,b"}, r":1: found 'a,b' where a list of choices should be"),
    ({"choices": None}, r":1: found 'None' where a list of choices should be"),
    ({"choices": [["a"], "b"]}, r':1: found \["a"\] where a text should be'),
    ({"choices": []}, r":1: found 0 choices, expected 2 or more"),
    ({"choices": ["a", None]}, r":1: choice 2 of 2 is empty"),
  ],
)
def test_lists_that_cannot_be_used(write, row, match):
  with pytest.raises(files.InputError, match=match):
    read(write("t.jsonl", [{"question": "q", "answer": 0, **row}]))


# ---- Features -----------------------------------------------------------------------------------


@pytest.fixture(name="tokenizer")
def _tokenizer(write):
  return tokenization.FullTokenizer(str(write("vocab.txt", "\n".join(VOCAB) + "\n")))


@pytest.mark.parametrize(
  ("context", "question", "want"),
  [
    ("a b", "c ?", "[CLS] a b [SEP] c ? d [SEP]"),
    ("a b", None, "[CLS] a b [SEP] d [SEP]"),
    (None, "c ?", "[CLS] c ? [SEP] d [SEP]"),
    (" ", "c ?", "[CLS] c ? [SEP] d [SEP]"),
    ("a b", "", "[CLS] a b [SEP] d [SEP]"),
  ],
)
def test_texts_of_an_input(tokenizer, context, question, want):
  asked = Question("", context, question, ["d", "e f"])
  first, second = multiple_choice.encode_choices(asked, tokenizer, 12)
  assert " ".join(first.tokens) == want
  assert " ".join(second.tokens) == want.replace("d", "e f")
  bound = want.split().index("[SEP]") + 1
  length = len(first.tokens)
  assert first.segment_ids == [0] * bound + [1] * (length - bound) + [0] * (12 - length)


def test_rows_have_the_tokens_first(tokenizer):
  questions = [
    Question("x", None, "a", ["b", "c d"], answer=1),
    Question("y", None, "e", ["f", "g", "h"]),
  ]
  table = {f.name: f for f in multiple_choice.record_features(6, 3)}
  rows = [
    {name: np.reshape(values, table[name].shape) for name, values in row.items()}
    for row in multiple_choice.feature_rows(questions, tokenizer, 6, 3)
  ]
  cls, sep = 2, 3
  a, b, c, d = (VOCAB.index(letter) for letter in "abcd")
  want = [[cls, a, sep, b, sep, 0], [cls, a, sep, c, d, sep], [0] * 6]
  np.testing.assert_array_equal(rows[0]["input_ids"].T, want)
  np.testing.assert_array_equal(rows[0]["input_mask"].T, np.array(want) > 0)
  np.testing.assert_array_equal(rows[0]["segment_ids"][:, 1], [0, 0, 0, 1, 1, 1])
  assert rows[0]["choice_mask"].tolist() == [1, 1, 0] and rows[0]["label_ids"] == 1
  assert rows[1]["choice_mask"].tolist() == [1, 1, 1] and rows[1]["label_ids"] == 0
  assert multiple_choice.num_choices(questions) == 3


def test_no_room_for_text(tokenizer):
  with pytest.raises(files.InputError, match="--max_seq_length: 3 leaves no space for text"):
    multiple_choice.encode_choices(Question("", "a", "b", ["c", "d"]), tokenizer, 3)


def test_long_questions_are_counted(tokenizer, log):
  asked = Question("x", "a b c d e f", "g", ["h", "a"], answer=0)
  (row,) = multiple_choice.feature_rows([asked], tokenizer, 8, 2)
  first = np.reshape(row["input_ids"], (8, 2))[:, 0]
  assert " ".join(VOCAB[token] for token in first) == "[CLS] a b c [SEP] g h [SEP]"
  assert "1 of 1 questions were longer than 8 tokens and were cut" in log.text


# ---- Predictions --------------------------------------------------------------------------------

QUESTIONS = [
  Question("x", "a", "b", ["first", "second\tone"], answer=1),
  Question("y", "a", "b", ["A", "B", "C"], answer=0),
]
PROBABILITIES = np.array([[0.25, 0.75, 0.0], [0.125, 0.125, 0.75]], np.float32)


def test_decisions_and_their_score():
  predictions = multiple_choice.decide(QUESTIONS, PROBABILITIES)
  assert predictions == [1, 2]
  assert multiple_choice.score(QUESTIONS, predictions) == {"accuracy": 0.5}


@pytest.mark.parametrize(
  ("form", "header", "shown"),
  [
    ("auto", "0\t1\t2", ("1", "2")),
    ("number", "0\t1\t2", ("1", "2")),
    ("number_from_1", "1\t2\t3", ("2", "3")),
    ("letter", "A\tB\tC", ("B", "C")),
    ("text", "0\t1\t2", ("second one", "C")),
  ],
)
def test_table_of_predictions(form, header, shown):
  assert multiple_choice.prediction_table(QUESTIONS, [1, 2], PROBABILITIES, form) == (
    f"id\tprediction\tchoice\t{header}\n"
    f"x\t{shown[0]}\tsecond one\t0.25\t0.75\t\n"
    f"y\t{shown[1]}\tC\t0.125\t0.125\t0.75\n"
  )


# ---- What must not be misread -------------------------------------------------------------------


@pytest.mark.parametrize(
  ("text", "match"),
  [
    (
      "question,choice0,choise1,choice2,answer\nq,a,b,c,0\n",
      r"the numbers 0, 2, which are not all",
    ),
    ("question,choice2,choice3,answer\nq,a,b,0\n", r"the numbers 2, 3, which are not all from 0"),
    ("question,choice0,choice_0,answer\nq,a,b,0\n", r"the numbers 0, 0, which are not all from 0"),
    ("question,choice0,choice1,answer,answer\nq,a,b,0,1\n", r"has 2 columns 'answer'"),
    ("context,context,choice0,choice1,answer\nq,r,a,b,0\n", r"has 2 columns 'context'"),
  ],
)
def test_columns_that_could_be_taken_for_others(write, text, match):
  with pytest.raises(files.InputError, match=match):
    read(write("t.csv", text), "csv")


def test_rows_of_other_widths_without_a_header(write):
  path = write("t.csv", "a,q,x,y,z,1\nb, b2,q,x,y,2,z\n")
  columns = {"context_column": "0", "question_column": "1", "answer_column": "5"}
  columns.update(choice_columns=["2", "3", "4"], has_header=False)
  with pytest.raises(files.InputError, match=r":2: found 7 columns, expected 6, as the first row"):
    read(path, "csv", **columns)
  path.write_text("a,q,x,y,z,2\n")
  ((found,), form) = read(path, "csv", needs_answers=False, **{**columns, "answer_form": "number"})
  assert (found.answer, form) == (2, "number")


def test_an_answer_column_that_is_not_there_is_told(write, log):
  path = write("t.csv", "question,choice0,choice1,gold\nq,a,b,0\n")
  ((found,), _) = read(path, "csv", needs_answers=False, answer_column="glod")
  assert found.answer is None
  assert "Predictions are not compared with answers." in log.text and "'glod'" in log.text


def test_columns_that_are_read_are_told(write, log):
  read(write("t.csv", "Context,question,choice0,choice1,answer\nc,q,a,b,0\n"), "csv")
  line = "question question; choices choice0, choice1; answer answer; not read: Context"
  assert line in log.text


def test_another_form_than_the_data_sets(write):
  header = "sent1,sent2,ending0,ending1,ending2"
  path = write("train.csv", f"{header},label\na,b,c,d,e,0\n")
  match = r"is not in the form of swag: there is no column 'ending3'.* --task_name=csv"
  with pytest.raises(files.InputError, match=match):
    read(path, "swag")
  path.write_text(f"{header},ending3,label\na,b,c,d,e,f,0\na,b,c,d,e,,0\n")
  with pytest.raises(files.InputError, match=r":3: found 3 choices, .* swag has the same number"):
    read(path, "swag")


def test_half_a_character_is_refused(write):
  path = write("t.jsonl", [{"question": "q", "choices": ["a", "\ud83d"], "answer": 0}])
  with pytest.raises(files.InputError, match=r"t\.jsonl:1: found '\\ud83d', which is half a char"):
    read(path)
  path = write("t.jsonl", [{"question": "q", "choices": ["a", "\U0001f600"], "answer": 0}])
  assert read(path)[0][0].choices[1] == "\U0001f600"


def test_more_choices_than_letters():
  choices = [f"c{n}" for n in range(30)]
  assert multiple_choice.find_answer_form([("C", choices, "f:1")]) == "letter"
  names = [multiple_choice.name_choice("letter", place, choices) for place in (0, 25, 26, 29)]
  assert names == ["A", "Z", "26", "29"]
  with pytest.raises(files.InputError, match="'AA'"):
    multiple_choice.find_answer_form([("C", choices, "f:1"), ("AA", choices, "f:2")])


def test_choices_that_are_cut_to_the_same(tokenizer, log):
  asked = Question("x", "a b c d e f g h", "a b c d e f g h", ["c", "d"], answer=0)
  list(multiple_choice.feature_rows([asked], tokenizer, 12, 2))
  assert "1 of 1 questions have choices that are the same after that" in log.text


def test_long_texts_in_messages_are_short():
  with pytest.raises(files.InputError) as caught:
    multiple_choice.find_answer_form([("x" * 10**6, ["y" * 10**6, "z"], "f:1")])
  assert len(str(caught.value)) < 400
