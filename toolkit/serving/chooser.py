"""Choice of answers by a trained model, from Python and from the command line."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import numpy as np

import tokenization
from toolkit.formats.model_heads import CHOICE, Head
from toolkit.formats.trained_model import Trained
from toolkit.serving import engines
from toolkit.serving.predictor import Arrays, Facts, Row, check_finite
from toolkit.support import files
from toolkit.tasks import multiple_choice

# The choices, the question and the context of one question.
Asked = tuple[Sequence[str], Optional[str], Optional[str]]


class _Choice(NamedTuple):
  text: str
  probability: float


class Choice(_Choice):
  """A choice with the probability that it is the answer; those of a question add up to 1.

  It is a tuple of text and probability. `truncated` is True if the context or another text lost its
  end in the model's input.
  """

  truncated = False


class Chooser:
  """A trained model, loaded once, that chooses answers. It is thread-safe.

  chooser = Chooser.from_directory("/tmp/choice")
  chooser.choose(["at ten", "at nine"], "When?", "The shop opens at nine.")[0].text  # "at nine"
  """

  def __init__(
    self,
    checkpoint: str,
    config: Any,
    tokenizer: tokenization.FullTokenizer,
    max_seq_length: int = 128,
    engine: str = engines.AUTO,
  ) -> None:
    """Loads the model.

    Args:
      checkpoint: the directory of an export, or a path as checkpoints.resolve_checkpoint takes it.
      config: the model's, such as a modeling.BertConfig.
      tokenizer: of the model's vocabulary.
      max_seq_length: word pieces of an input. Longer ones are cut.
      engine: member of engines.ENGINES.

    Raises:
      files.InputError: the checkpoint does not fit, or the engine is not installed.
    """
    self._directory = checkpoint if files.is_directory(checkpoint) else os.path.dirname(checkpoint)
    self._tokenizer = tokenizer
    self._max_seq_length = min(max_seq_length, config.max_position_embeddings)
    self._predictor = engines.load_predictor(Head(CHOICE), checkpoint, config, engine)
    self.engine = self._predictor.engine
    self.facts = Facts(self._predictor, Head(CHOICE), config, self._max_seq_length)

  @classmethod
  def from_directory(cls, output_dir: str, engine: str = engines.AUTO) -> "Chooser":
    """Loads the model of a directory that run_multiple_choice.py has trained, or of its export.

    Raises:
      files.InputError: the directory is not complete, or of another script; or the engine is not
        installed.
    """
    found, engine = engines.find(output_dir, SOURCE, engine)
    _, flags = _describe(found)
    return cls(found.directory, found.config, found.make_tokenizer(), **flags, engine=engine)

  def choose(
    self, choices: Sequence[str], question: Optional[str] = None, context: Optional[str] = None
  ) -> list[Choice]:
    """Returns the choices by falling probability.

    Args:
      choices: two or more texts.
      question: the text before each choice, or None.
      context: the text that the question is about, or None.

    Raises:
      files.InputError: there are fewer choices, or neither a question nor a context; or the
        model's outputs are NaN.
      TypeError: choices is no list of str, or a text is no str.
    """
    return self.choose_all([(choices, question, context)])[0]

  def choose_all(self, asked: Sequence[Asked]) -> list[list[Choice]]:
    """Returns the results of `choose` for each question, faster than one by one."""
    questions = [self._encode(*each) for each in asked]
    rows = [
      (encoded.input_ids[: len(encoded.tokens)], encoded.segment_ids[: len(encoded.tokens)])
      for _, of_question in questions
      for encoded in of_question
    ]
    scores = iter([row["scores"] for row in self._predictor.run(rows)])
    return [self._choices(each.choices, encoded, scores) for each, encoded in questions]

  def run_ids(self, rows: Sequence[Row]) -> list[Arrays]:
    """Runs the model on word pieces' ids; see predictor.Predictor.run."""
    return self._predictor.run(rows)

  def _encode(self, choices, question, context):
    """Returns a question, and its choices as inputs of the model."""
    _check_types(choices, question, context)
    check_flags(context, question, choices, needs_choices=True)
    asked = multiple_choice.Question("", context, question, list(choices))
    encoded = multiple_choice.encode_choices(asked, self._tokenizer, self._max_seq_length)
    if multiple_choice.are_cut_to_the_same(asked, encoded):
      raise files.InputError(
        f"--max_seq_length: {self._max_seq_length} leaves no space for the ends of the choices, "
        "where they differ; shorten the question"
      )
    return asked, encoded

  def _choices(self, texts, encoded, scores):
    """Takes a question's scores, and returns its choices by falling probability."""
    values = np.array([next(scores) for _ in texts])
    check_finite([values], self._directory)
    shares = np.exp(values - values.max())
    found = list(map(Choice, texts, (shares / shares.sum()).tolist()))
    for choice, each in zip(found, encoded):
      choice.truncated = each.is_truncated
    return sorted(found, key=lambda choice: -choice.probability)


def _describe(found: Trained) -> tuple[Head, dict[str, Any]]:
  """Returns the head of a model, and the flags that Chooser.from_directory reads."""
  return Head(CHOICE), found.flags_among(["max_seq_length"])


SOURCE = engines.Source("run_multiple_choice", _describe)


def _check_types(choices, question, context):
  if not isinstance(choices, (list, tuple)) or not all(isinstance(text, str) for text in choices):
    raise TypeError(f"choose takes a list of choices, each a str, not {choices!r:.60}")
  for text in (question, context):
    if not isinstance(text, (str, type(None))):
      raise TypeError(f"question and context are str or None, not {text!r:.60}")


def check_flags(
  context: Optional[str],
  question: Optional[str],
  choices: Sequence[str],
  needs_choices: bool = False,
) -> None:
  """Checks the texts of one question, those of the flags of the same names.

  Args:
    context, question: None if not given.
    choices: empty if none is given.
    needs_choices: True if no choice at all is an error, too.

  Raises:
    files.InputError: there is a text without choices, one choice, or choices without a text.
  """
  texts = {"context": context, "question": question}
  if not choices and not needs_choices:
    for name, text in texts.items():
      if text is not None:
        raise files.InputError(f"--{name} needs --choice, given once for each choice")
    return
  if len(choices) < multiple_choice.LEAST_CHOICES:
    raise files.InputError(
      f"--choice: found {len(choices)} choices, expected {multiple_choice.LEAST_CHOICES} or more"
    )
  if not all(choice.strip() for choice in choices):
    raise files.InputError("--choice: a choice is empty")
  if not any((text or "").strip() for text in texts.values()):
    raise files.InputError("--choice needs --question or --context, or both")


def choice_lines(choices: list[Choice]) -> list[str]:
  """Formats choices: ["0.984  at nine", "0.016  at ten"]."""
  return [f"{choice.probability:.3f}  {' '.join(choice.text.split())}" for choice in choices]
