"""Files of multiple-choice questions to questions, questions to features, and decisions.

  context    "It opens at nine."        [CLS] it opens at nine . [SEP] when ? at ten [SEP]
  question   "When?"               ->   [CLS] it opens at nine . [SEP] when ? at nine [SEP]
  choices    "at ten", "at nine"
  answer     1                          label_ids 1

Each choice is an input of its own, of which the model makes a score (Devlin et al. 2018, section
4.4). SWAG's files are known; other ones are tables with columns for context, question, choices and
answer.
"""

import csv
import functools
import io
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
from absl import logging

import tokenization
from toolkit.records import tf_records
from toolkit.support import command_line, files, logs
from toolkit.tasks import text_pairs

METRICS = ("accuracy", "loss")
AUTO = "auto"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

# Names of columns that are taken when no flag names any.
_USUAL_COLUMNS = {
  "context_column": ("context", "article", "passage"),
  "question_column": ("question",),
  "answer_column": ("answer", "label"),
}
_USUAL_LISTS = ("choices", "endings", "options")  # one column of jsonl with all choices
_USUAL_CHOICE = re.compile(r"(choice|ending|option|answer)_?(\d+)")

_NUM_LOGGED_QUESTIONS = 5
LEAST_CHOICES = 2
_SHOWN = 60  # characters of a text in a message


class Question(NamedTuple):
  """A question with its choices.

  Attributes:
    guid: name of the question.
    context: the text that it is about, or None.
    question: the text before each choice, or None. Context or question is there.
    choices: two or more.
    answer: the right choice, as its place from 0; None when it is not known.
    source: "file:line" where the question stands, or None.
  """

  guid: str
  context: Optional[str]
  question: Optional[str]
  choices: list[str]
  answer: Optional[int] = None
  source: Optional[str] = None


# ---- Answers in files ---------------------------------------------------------------------------


def _number_from(first):
  def place(text, choices):
    text = text.strip()
    number = int(text) - first if re.fullmatch(r"[0-9]{1,9}", text) else -1
    return number if 0 <= number < len(choices) else None

  return place


def _letter(text, choices):
  """Returns the place of a choice by its letter; upper and lower case are the same."""
  text = text.strip().upper()
  number = LETTERS.find(text) if len(text) == 1 else -1
  return number if 0 <= number < len(choices) else None


def _text(text, choices):
  """Returns the place of the first choice with a text."""
  return choices.index(text) if text in choices else None


# How files write the answer: name of the form -> function of an answer and the choices to the place
# of the right one, or to None.
ANSWER_FORMS = {
  "number": _number_from(0),
  "number_from_1": _number_from(1),
  "letter": _letter,
  "text": _text,
}


def find_answer_form(answers: Sequence[tuple[str, list[str], str]]) -> str:
  """Finds the form in which a file writes its answers.

    ("B", [..4 choices]), ("D", [..4 choices]) -> "letter"

  Args:
    answers: each with its choices and "file:line".

  Raises:
    files.InputError: an answer is none of its choices in any form; or several forms fit all
      answers, and do not mean the same choices.
  """
  found = {
    form: [place(answer, choices) for answer, choices, _ in answers]
    for form, place in ANSWER_FORMS.items()
  }
  fitting = [form for form, places in found.items() if None not in places]
  if not fitting:
    closest = min(found, key=lambda form: found[form].count(None))
    answer, choices, source = answers[found[closest].index(None)]
    raise _unknown_answer(answer, choices, source, closest)
  if any(found[form] != found[fitting[0]] for form in fitting):
    raise files.InputError(
      f"{answers[0][2]}: the answers, such as {answers[0][0][:_SHOWN]!r}, can be read as "
      f"{' and as '.join(fitting)}; give --answer_form"
    )
  return fitting[0]


def _unknown_answer(answer, choices, source, form):
  names = [name_choice(form, place, choices) for place in range(len(choices))]
  return files.InputError(
    f"{source}: found the answer {answer[:_SHOWN]!r}, which is none of the {len(choices)} choices; "
    f"as {form} (--answer_form) they are {files.listed([name[:_SHOWN] for name in names])}"
  )


def name_choice(form: str, place: int, choices: Sequence[str]) -> str:
  """Returns a choice as a file with answers of a form writes it: "letter", 1 -> "B".

  Choices that have no letter get numbers, from 26 on.
  """
  if form == "text":
    return choices[place]
  has_letter = form == "letter" and place < len(LETTERS)
  return LETTERS[place] if has_letter else str(place + (form == "number_from_1"))


# ---- Files --------------------------------------------------------------------------------------


class Form(NamedTuple):
  """The form of a task's files.

  Columns are names, or numbers from 0 in tsv and csv files.

  Attributes:
    file_format: member of files.TABLES.
    sets: "train", "dev" and "test" -> name of the file in the data directory.
    context_column, question_column, answer_column: None for the usual names, see _USUAL_COLUMNS.
    choice_columns: columns with a choice each, or one column of jsonl with a list. None: choices,
      endings or options with lists, or choice0, choice1, ..., ending0, ..., and so on.
    id_column: None: rows are numbered from 0.
    has_header: True if the first row of tsv and csv files names the columns.
    answer_form: key of ANSWER_FORMS, or AUTO for the one that fits.
    pad_choices: True if rows may have different numbers of choices.
    name: of a data set whose columns are these and no others; None for files of the user's own.
  """

  file_format: str
  sets: dict[str, str]
  context_column: Optional[str] = None
  question_column: Optional[str] = None
  choice_columns: Optional[list[str]] = None
  answer_column: Optional[str] = None
  id_column: Optional[str] = None
  has_header: bool = True
  answer_form: str = AUTO
  pad_choices: bool = False
  name: Optional[str] = None


def _files_of_own(file_format):
  return Form(file_format, {name: f"{name}.{file_format}" for name in ("train", "dev", "test")})


TASKS = {
  "swag": Form(
    "csv",
    {"train": "train.csv", "dev": "val.csv", "test": "test.csv"},
    context_column="sent1",
    question_column="sent2",
    choice_columns=[f"ending{number}" for number in range(4)],
    answer_column="label",
    answer_form="number",
    name="swag",
  ),
  **{name: _files_of_own(name) for name in files.TABLES},
}


class _Columns(NamedTuple):
  """Places of the columns of a table; `choices` is a list of places, and others may be None."""

  context: Optional[int]
  question: Optional[int]
  choices: list[int]
  answer: Optional[int]
  guid: Optional[int]

  def used(self):
    """Returns the places that are read."""
    places = (self.context, self.question, *self.choices, self.answer, self.guid)
    return [place for place in places if place is not None]


def _log_columns(table, columns):
  """Logs which columns are read, and which are not."""
  names = table.columns or list(range(len(table.rows[0])))
  found = columns._asdict()
  shown = [
    f"{role} {', '.join(str(names[place]) for place in places)}"
    for role, value in found.items()
    for places in [value if isinstance(value, list) else [value]]
    if value is not None
  ]
  rest = [str(name) for place, name in enumerate(names) if place not in columns.used()]
  unused = f"; not read: {', '.join(rest)}" if rest else ""
  logs.notice("%s: %s%s", table.path, "; ".join(shown), unused)


def read_questions(
  path: str, form: Form, set_name: str, needs_answers: bool = True
) -> tuple[list[Question], str]:
  """Reads the questions of a file.

  Args:
    path: of the file.
    form: of the file.
    set_name: the beginning of the guids of rows without an id.
    needs_answers: True if each question must have an answer. Otherwise the answers are read if the
      file has one for each question, and are None if not; a line in the log tells it.

  Returns:
    The questions, and the key of ANSWER_FORMS of their answers, or form.answer_form if there are
    none.

  Raises:
    files.InputError: names the file, and the line, that cannot be used.
  """
  table = files.read_table(path, form.file_format, form.has_header)
  try:
    columns = _find_columns(table, form, needs_answers)
  except files.InputError as error:
    if form.name is None:
      raise
    what = str(error).partition(": ")[2].partition(": ")[2]
    raise files.InputError(
      f"{path}: is not in the form of {form.name}: {what}; other columns are for --task_name="
      f"{form.file_format}"
    ) from None
  _log_columns(table, columns)
  files.check_widths(table, max(columns.used()) + 1, is_even=True)
  questions, answers = [], []
  for number, row in enumerate(table.rows):
    questions.append(_read_row(row, columns, f"{set_name}-{number}"))
    if not form.pad_choices:
      _check_same_number(questions, form)
    answer = None if columns.answer is None else files.cell(row, columns.answer)
    answers.append((answer, questions[-1].choices, row.source))
  if columns.answer is None:
    return questions, form.answer_form
  try:
    answer_form, places = _find_answers(answers, form.answer_form)
  except files.InputError as error:
    if needs_answers:
      raise
    logging.warning("Predictions are not compared with answers. %s", error)
    return questions, form.answer_form
  return [q._replace(answer=place) for q, place in zip(questions, places)], answer_form


def _find_answers(answers, answer_form):
  """Returns the form of answers, and the places of the right choices; see find_answer_form."""
  for answer, _, source in answers:
    if not (answer or "").strip():
      raise files.InputError(f"{source}: has no answer")
  if answer_form == AUTO:
    answer_form = find_answer_form(answers)
  places = []
  for answer, choices, source in answers:
    places.append(ANSWER_FORMS[answer_form](answer, choices))
    if places[-1] is None:
      raise _unknown_answer(answer, choices, source, answer_form)
  return answer_form, places


def _read_row(row, columns, guid):
  context, question, own_guid = (
    None if place is None else files.cell(row, place)
    for place in (columns.context, columns.question, columns.guid)
  )
  if not ((context or "").strip() or (question or "").strip()):
    raise files.InputError(f"{row.source}: has neither a context nor a question")
  choices = _read_choices(row, columns.choices)
  return Question(own_guid or guid, context, question, choices, source=row.source)


def _read_choices(row, places):
  """Returns the choices of a row; those at its end may be empty columns."""
  cells = row
  if len(places) == 1:
    cells = row[places[0]]
    if not isinstance(cells, list):
      raise files.InputError(
        f"{row.source}: found {str(cells)[:_SHOWN]!r} where a list of choices should be; for a "
        "column a choice give --choice_columns=NAME,NAME,..."
      )
    places, cells = range(len(cells)), files.Row(cells, row.source)
  choices = [files.cell(cells, place) or "" for place in places]
  if cells is row:
    while choices and not choices[-1].strip():
      choices.pop()
  for number, choice in enumerate(choices, 1):
    if not files.visible(choice):
      raise files.InputError(f"{row.source}: choice {number} of {len(choices)} is empty")
  if len(choices) < LEAST_CHOICES:
    raise files.InputError(
      f"{row.source}: found {len(choices)} choices, expected {LEAST_CHOICES} or more"
    )
  return choices


def _check_same_number(questions, form):
  first, last = questions[0], questions[-1]
  if len(first.choices) != len(last.choices):
    remedy = f"{form.name} has the same number in all rows"
    if form.name is None:
      remedy = "give --pad_choices if their number differs on purpose"
    raise files.InputError(
      f"{last.source}: found {len(last.choices)} choices, where {first.source} has "
      f"{len(first.choices)}; {remedy}"
    )


def _find_columns(table, form, needs_answers):
  """Finds the columns of a table; InputError if it lacks one, or two are the same."""
  can_be_number = form.file_format != "jsonl"

  def find(flag):
    wanted = getattr(form, flag)
    if wanted is not None:
      return files.find_column(table, wanted, flag, can_be_number)
    usual = (name for name in _USUAL_COLUMNS[flag] if _has(table, name))
    name = next(usual, None)
    return None if name is None else files.find_column(table, name, flag, can_be_number)

  choices = _find_choices(table, form.choice_columns, can_be_number)
  context, question = find("context_column"), find("question_column")
  if context is None and question is None:
    problem = "name the column with the context, or by --question_column that with the question"
    raise files.unknown_column(table, "context_column", problem)
  answer = _find_answer(table, find, needs_answers)
  guid = None
  if form.id_column is not None:
    guid = files.find_column(table, form.id_column, "id_column", can_be_number)
  used = [place for place in (context, question, *choices, answer) if place is not None]
  if len(set(used)) < len(used):
    names = [table.columns[place] if table.columns else place for place in used]
    raise files.InputError(
      f"{table.path}: context, question, each choice and answer must be different columns, found "
      f"{files.listed(names)}"
    )
  return _Columns(context, question, choices, answer, guid)


def _find_answer(table, find, needs_answers):
  """Returns the place of the answers; None without them, which prediction does not need."""
  try:
    answer = find("answer_column")
  except files.InputError as error:
    if needs_answers:
      raise
    logging.warning("Predictions are not compared with answers. %s", error)
    return None
  if answer is None and needs_answers:
    raise files.unknown_column(table, "answer_column", "name the column with the right choice")
  return answer


def _has(table, name):
  return table.columns is not None and name in table.columns


def _find_choices(table, wanted, can_be_number):
  """Returns the places of the columns of the choices, or of the one with all of them."""

  def find(name):
    return files.find_column(table, name, "choice_columns", can_be_number)

  if wanted is not None:
    if len(wanted) < (LEAST_CHOICES if can_be_number else 1):
      raise files.InputError(
        f"--choice_columns: found {len(wanted)} columns, expected one for each choice"
      )
    return [find(name) for name in wanted]
  for name in () if can_be_number else _USUAL_LISTS:
    if _has(table, name):
      return [find(name)]
  stems: dict[str, list[tuple[int, int]]] = {}
  for place, name in enumerate(table.columns or ()):
    match = _USUAL_CHOICE.fullmatch(name)
    if match:
      stems.setdefault(match[1], []).append((int(match[2]), place))
  if len(stems) == 1:
    ((stem, numbered),) = stems.items()
    numbers, places = zip(*sorted(numbered))
    if numbers[0] > 1 or list(numbers) != list(range(numbers[0], numbers[0] + len(numbers))):
      raise files.unknown_column(
        table,
        "choice_columns",
        f"the columns {stem}... have the numbers {', '.join(map(str, numbers))}, which are not all "
        "from 0 or 1 on; name the columns with the choices",
      )
    return list(places)
  raise files.unknown_column(table, "choice_columns", "name the columns with the choices")


# ---- The settings of a run ----------------------------------------------------------------------

TASK_HELP = (
  "Task: swag, with train.csv, val.csv and test.csv of SWAG in --data_dir. For your own files "
  f"their format: {', '.join(files.TABLES)}, such as train.jsonl, dev.jsonl and test.jsonl."
)
_COLUMNS = ("context_column", "question_column", "choice_columns", "answer_column", "id_column")
_OPTIONS = (*_COLUMNS, "has_header", "answer_form", "pad_choices")


def define_flags(flags: command_line.ScriptFlags) -> None:
  """Defines the flags of the files."""
  flags.DEFINE_enum("task_name", None, list(TASKS), TASK_HELP, remembered=True, group="essential")
  define = functools.partial(flags.DEFINE_string, remembered=True)
  define(
    "context_column",
    None,
    "tsv, csv, jsonl: column of the text that a question is about, by name or by number from 0. "
    "Default: context, article or passage, if there is one.",
  )
  define(
    "question_column",
    None,
    "tsv, csv, jsonl: column of the text before each choice. Default: question, if there is one.",
  )
  flags.DEFINE_list(
    "choice_columns",
    None,
    "tsv, csv, jsonl: comma-separated columns of the choices, or one column of lists in jsonl. "
    "Default: choice0,choice1,... or ending0, option0, answer0, ...; in jsonl first choices, "
    "endings or options.",
    remembered=True,
  )
  define(
    "answer_column",
    None,
    "tsv, csv, jsonl: column of the right choice. Default: answer or label.",
  )
  define("id_column", None, "tsv, csv, jsonl: column of the id. Default: rows are numbered.")
  flags.DEFINE_bool(
    "has_header", True, "tsv, csv: the first line has the names of the columns.", remembered=True
  )
  flags.DEFINE_enum(
    "answer_form",
    AUTO,
    [AUTO, *ANSWER_FORMS],
    "tsv, csv, jsonl: form of the right choice in the files: its number from 0 or 1, its letter, "
    "or its text. auto: the form that fits all of them. Predictions have the same form.",
    remembered=True,
  )
  flags.DEFINE_bool(
    "pad_choices",
    False,
    "tsv, csv, jsonl: allow different numbers of choices per question. Questions with fewer are "
    "padded.",
    remembered=True,
  )


def form_of(settings: command_line.Settings) -> Form:
  """Returns the form of a run's files.

  Args:
    settings: the flags of define_flags.

  Raises:
    files.InputError: a flag is not for the task.
  """
  form = TASKS[settings.task_name]
  if settings.answer_form not in (AUTO, *ANSWER_FORMS):
    raise files.InputError(f"--answer_form: there is no form {settings.answer_form!r}")
  if settings.task_name in files.TABLES:
    return form._replace(**{name: settings[name] for name in _OPTIONS})
  for name in _OPTIONS:
    if settings.is_given(name):
      raise files.InputError(
        f"--{name}: cannot be given with the task {settings.task_name}, only with "
        f"{', '.join(files.TABLES)}"
      )
  return form


def read_sets(settings: command_line.Settings) -> tuple[dict[str, list[Question]], str]:
  """Reads all sets of a run.

  Args:
    settings: the flags of run_multiple_choice.py.

  Returns:
    "train", "dev" and "test" -> questions; the key of ANSWER_FORMS of the answers, or AUTO if no
    file has any.

  Raises:
    files.InputError: a file is not given, or cannot be used.
  """
  form = form_of(settings)
  evaluates = settings.do_eval or (settings.do_train and settings.eval_steps)
  wanted = {"train": settings.do_train, "dev": evaluates, "test": settings.do_predict}
  sets = {}
  for name in (name for name, is_wanted in wanted.items() if is_wanted):
    path, file_format = settings.predict_file if name == "test" else None, form.file_format
    if path:
      file_format = files.table_format(path, file_format)
    else:
      settings.require(["data_dir"], f"the task {settings.task_name}")
      path = os.path.join(settings.data_dir, form.sets[name])
      files.check_format(path)
    own_form = form._replace(file_format=file_format)
    sets[name], answer_form = read_questions(path, own_form, name, needs_answers=name != "test")
    form = form._replace(answer_form=answer_form)
    _check_same_texts(sets, name, path)
  return sets, form.answer_form


def _check_same_texts(sets, name, path):
  """Checks that the questions of a set have contexts, and texts before the choices, as the first.

  Raises:
    files.InputError: they have not: their columns may have other names.
  """
  first = next(iter(sets.values()))
  for field in ("context", "question"):
    if any(getattr(q, field) for q in first) and not any(getattr(q, field) for q in sets[name]):
      raise files.InputError(
        f"{path}: no row has a {field}, as those of the set before it have; name its column by "
        f"--{field}_column"
      )


# ---- Features -----------------------------------------------------------------------------------


def num_choices(questions: Sequence[Question]) -> int:
  """Returns the largest number of choices of a question, C."""
  return max(len(question.choices) for question in questions)


def record_features(seq_length: int, width: int) -> list[tf_records.Feature]:
  """Returns the columns of a TFRecord file of questions.

  Args:
    seq_length: S.
    width: C, the largest number of choices.

  Returns:
    input_ids, input_mask, segment_ids int32 [S, C]; choice_mask int32 [C], 1 for the choices that a
    question has; label_ids int32, 0 without an answer.
  """
  return [
    *tf_records.token_features(seq_length, width=width),
    tf_records.Feature("choice_mask", np.int32, (width,)),
    tf_records.Feature("label_ids", np.int32),
  ]


def encode_choices(
  question: Question, tokenizer: tokenization.FullTokenizer, max_seq_length: int
) -> list[tokenization.Encoded]:
  """Encodes each choice of a question as an input of its own.

  The first text is the context, and the second one the question and the choice. Without a context
  they are the question and the choice.

  Args:
    question: with its choices.
    tokenizer: of the model's vocabulary.
    max_seq_length: word pieces with [CLS] and [SEP]. Longer texts are cut from the end of the
      longer one.

  Raises:
    files.InputError: max_seq_length leaves no room for any text.
  """
  context, asked = question.context, question.question
  first, before = (context, asked) if (context or "").strip() else (asked, "")
  return [
    text_pairs.encode(tokenizer, first or "", f"{before or ''} {choice}".strip(), max_seq_length)
    for choice in question.choices
  ]


def feature_rows(
  questions: Sequence[Question],
  tokenizer: tokenization.FullTokenizer,
  max_seq_length: int,
  width: int,
) -> Iterator[dict[str, Any]]:
  """Yields questions as rows for record_features; logs the first few, and how many were cut.

  Args:
    questions: in the order of the rows.
    tokenizer, max_seq_length: see encode_choices.
    width: C.
  """
  num_cut = num_same = 0
  for number, question in enumerate(questions):
    encoded = encode_choices(question, tokenizer, max_seq_length)
    num_cut += any(choice.is_truncated for choice in encoded)
    num_same += are_cut_to_the_same(question, encoded)
    answer = question.answer or 0
    if number < _NUM_LOGGED_QUESTIONS:
      tokens = {f"choice_{place}": each.tokens for place, each in enumerate(encoded)}
      tf_records.log_example(guid=question.guid, **tokens, label=answer)
    missing = width - len(encoded)
    columns = {
      name: [getattr(choice, name) for choice in encoded] + [[0] * max_seq_length] * missing
      for name in tf_records.INPUTS
    }
    yield {
      **{name: [id_ for ids in zip(*lists) for id_ in ids] for name, lists in columns.items()},
      "choice_mask": [1] * len(encoded) + [0] * missing,
      "label_ids": answer,
    }
  if num_cut:
    total = len(questions)
    logging.warning(
      "%d of %d questions were longer than %d tokens and were cut", num_cut, total, max_seq_length
    )
  if num_same:
    logging.warning(
      "%d of %d questions have choices that are the same after that; raise --max_seq_length",
      num_same,
      len(questions),
    )


def are_cut_to_the_same(question: Question, encoded: Sequence[tokenization.Encoded]) -> bool:
  """Returns True if different choices became the same input, as ends were cut off."""
  inputs = {
    choice: each.input_ids for choice, each in zip(question.choices, encoded) if each.is_truncated
  }
  return len({tuple(ids) for ids in inputs.values()}) < len(inputs)


# ---- Predictions --------------------------------------------------------------------------------


def decide(questions: Sequence[Question], probabilities: np.ndarray) -> list[int]:
  """Returns the places of the most probable choices.

  Args:
    questions: N questions.
    probabilities: float32 [N, C]; choices that a question does not have are left out.
  """
  return [
    int(row[: len(question.choices)].argmax()) for question, row in zip(questions, probabilities)
  ]


def score(questions: Sequence[Question], predictions: Sequence[int]) -> dict[str, float]:
  """Returns the metrics of predicted places: accuracy, the share of right ones."""
  right = [question.answer == place for question, place in zip(questions, predictions)]
  return {"accuracy": float(np.mean(right))}


def prediction_table(
  questions: Sequence[Question],
  predictions: Sequence[int],
  probabilities: np.ndarray,
  answer_form: str,
) -> str:
  """Formats predictions as tab-separated text with a header and one row per question.

  Space within texts becomes one space each.

    id       prediction  choice   0            1
    test-0   1           at nine  0.016278993  0.983721

  Args:
    questions: N questions.
    predictions: places of N choices.
    probabilities: float32 [N, C].
    answer_form: key of ANSWER_FORMS that the column prediction has, or AUTO for numbers from 0. The
      columns of the probabilities have the same form, but for "text".
  """
  table = io.StringIO()
  writer = csv.writer(table, delimiter="\t", lineterminator="\n")
  width = probabilities.shape[1]
  heading = "number" if answer_form in (AUTO, "text") else answer_form
  names = [name_choice(heading, place, ()) for place in range(width)]
  writer.writerow(["id", "prediction", "choice", *names])
  for question, place, row in zip(questions, predictions, probabilities):
    count = len(question.choices)
    shown = name_choice(answer_form, place, question.choices)
    filled = [*row[:count], *[""] * (width - count)]
    texts = (question.guid, shown, question.choices[place])
    writer.writerow([*(" ".join(text.split()) for text in texts), *filled])
  return table.getvalue()
