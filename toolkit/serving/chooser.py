"""Choice of answers by a trained model, from Python and from the command line."""

import os
from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np

import modeling
import tokenization
from toolkit.formats import checkpoints, model_directory
from toolkit.serving.predictor import Predictor
from toolkit.support import files
from toolkit.tasks import multiple_choice, multiple_choice_head


class Choice(NamedTuple):
  """A choice with the probability that it is the answer; those of a question add up to 1."""

  text: str
  probability: float


class Chooser:
  """A trained model, loaded once, that chooses answers. It is thread-safe.

  chooser = Chooser.from_directory("/tmp/choice")
  chooser.choose(["at ten", "at nine"], "When?", "The shop opens at nine.")[0].text  # "at nine"
  """

  def __init__(
    self,
    checkpoint: str,
    config: modeling.BertConfig,
    tokenizer: tokenization.FullTokenizer,
    max_seq_length: int = 128,
  ) -> None:
    """Loads the model.

    Args:
      checkpoint: a path as checkpoints.resolve_checkpoint takes it.
      config: the model's.
      tokenizer: of the model's vocabulary.
      max_seq_length: word pieces of an input. Longer ones are cut.

    Raises:
      files.InputError: the checkpoint does not fit.
    """
    self._directory = checkpoint if files.is_directory(checkpoint) else os.path.dirname(checkpoint)
    self._tokenizer = tokenizer
    self._max_seq_length = min(max_seq_length, config.max_position_embeddings)

    def build(*inputs):
      return {"scores": multiple_choice_head.choice_scores(config, False, *inputs)}

    self._predictor = Predictor(build, checkpoint)

  @classmethod
  def from_directory(cls, output_dir: str) -> "Chooser":
    """Loads the model of a directory that run_multiple_choice.py has trained.

    Raises:
      files.InputError: the directory is not complete, or of another script.
    """
    found = model_directory.load_trained(output_dir, "run_multiple_choice")
    length = found.flags_among(["max_seq_length"])
    return cls(output_dir, found.config, found.make_tokenizer(), **length)

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
    _check_types(choices, question, context)
    check_flags(context, question, choices, needs_choices=True)
    asked = multiple_choice.Question("", context, question, list(choices))
    encoded = multiple_choice.encode_choices(asked, self._tokenizer, self._max_seq_length)
    if multiple_choice.are_cut_to_the_same(asked, encoded):
      raise files.InputError(
        f"--max_seq_length: {self._max_seq_length} leaves no space for the ends of the choices, "
        "where they differ; shorten the question"
      )
    rows = [(e.input_ids[: len(e.tokens)], e.segment_ids[: len(e.tokens)]) for e in encoded]
    scores = np.concatenate([row["scores"] for row in self._predictor.run(rows)])
    checkpoints.check_finite([scores], self._directory)
    shares = np.exp(scores - scores.max())
    found = map(Choice, asked.choices, (shares / shares.sum()).tolist())
    return sorted(found, key=lambda choice: -choice.probability)


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
