"""Question answering with a trained model: from Python, and for questions typed at a prompt."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Optional

import tokenization
from toolkit.formats.model_heads import SPAN, Head
from toolkit.formats.trained_model import Trained
from toolkit.serving import engines
from toolkit.serving.predictor import Arrays, Facts, Row
from toolkit.support import files
from toolkit.tasks import squad, squad_answers


class QuestionAnswerer:
  """A trained model, loaded once, that answers questions. It is thread-safe.

  answerer = QuestionAnswerer.from_directory("/tmp/squad")
  answerer.ask("Who founded it?", "It was founded by Ann Lee-Smith.").text
  """

  def __init__(
    self,
    checkpoint: str,
    config: Any,
    settings: squad.Settings,
    threshold: float = 0.0,
    max_answer_length: int = 30,
    engine: str = engines.AUTO,
  ) -> None:
    """Loads the model.

    Args:
      checkpoint: the directory of an export, or a path as checkpoints.resolve_checkpoint takes it.
      config: the model's, such as a modeling.BertConfig.
      settings: of the features.
      threshold: "no answer" is given where the null odds are higher.
      max_answer_length: in word pieces.
      engine: member of engines.ENGINES.

    Raises:
      files.InputError: the checkpoint or the vocabulary cannot be used, or the engine is not
        installed.
    """
    self.threshold = threshold
    self._settings = settings
    self._max_answer_length = max_answer_length
    with files.input_checks():
      self._tokenizer = tokenization.FullTokenizer(settings.vocab_file, settings.do_lower_case)
    self._predictor = engines.load_predictor(Head(SPAN), checkpoint, config, engine)
    self.engine = self._predictor.engine
    self.facts = Facts(self._predictor, Head(SPAN), config, settings.max_seq_length)

  @classmethod
  def from_directory(cls, output_dir: str, engine: str = engines.AUTO) -> "QuestionAnswerer":
    """Loads the model of a directory that run_squad.py has trained, or of its export.

    The threshold is the one that an evaluation has found.

    Raises:
      files.InputError: the directory is not complete, or of another script; or the engine is not
        installed.
    """
    found, engine = engines.find(output_dir, SOURCE, engine)
    _, flags = _describe(found)
    threshold = flags.pop("threshold")
    casing = {"do_lower_case": found.do_lower_case(), "vocab_file": found.vocab_file}
    settings = squad.Settings(**{**flags, **casing})
    return cls(found.directory, found.config, settings, threshold, engine=engine)

  def ask(self, question: str, context: str) -> squad_answers.BestAnswer:
    """Answers a question about a context, a paragraph of any length."""
    return self.ask_all([(question, context)])[0]

  def ask_all(self, pairs: Sequence[tuple[str, str]]) -> list[squad_answers.BestAnswer]:
    """Answers questions about contexts, faster than one by one."""
    asked = [self._windows(*pair) for pair in pairs]
    rows = [
      (window.input_ids[: len(window.tokens)], window.segment_ids[: len(window.tokens)])
      for _, windows in asked
      for window in windows
    ]
    results = iter(self._predictor.run(rows))
    return [self._best(example, windows, results) for example, windows in asked]

  def run_ids(self, rows: Sequence[Row]) -> list[Arrays]:
    """Runs the model on word pieces' ids; see predictor.Predictor.run."""
    return self._predictor.run(rows)

  def _windows(self, question, context):
    """Returns the example of a question, and its windows."""
    words, offsets = squad.split_words(context)
    example = squad.SquadExample(
      "question", question, words, paragraph_text=context, word_offsets=offsets
    )
    return example, list(squad.extract([example], self._settings, tokenizer=self._tokenizer))

  def _best(self, example, features, outputs):
    """Takes the outputs of a question's windows, and returns its answer."""
    results = [
      squad_answers.RawResult(feature.unique_id, **logits)
      for feature, logits in zip(features, outputs)
    ]
    return squad_answers.best_answer(
      example,
      features,
      results,
      max_answer_length=self._max_answer_length,
      do_lower_case=self._settings.do_lower_case,
      version_2_with_negative=self._settings.version_2_with_negative,
      null_score_diff_threshold=self.threshold,
    )


def _describe(found: Trained) -> tuple[Head, dict[str, Any]]:
  """Returns the head of a model, and the flags that QuestionAnswerer.from_directory reads."""
  names = set(squad.Settings._fields) - {"vocab_file", "do_lower_case", "is_training"}
  flags = found.flags_among(sorted(names))
  known = found.flags.get("threshold")  # of an export
  flags["threshold"] = squad_answers.known_threshold(found.directory) if known is None else known
  return Head(SPAN), flags


SOURCE = engines.Source("run_squad", _describe)


def check_texts(question: Optional[str], context: Optional[str], name: str = "--context") -> None:
  """Raises InputError for a question or a paragraph, named `name`, that is given and empty."""
  if question is not None and not question.strip():
    raise files.InputError("--question is empty; leave it out to type questions at a prompt")
  if context is not None and not context.strip():
    raise files.InputError(f"{name} is empty; give a paragraph, or leave it out to type one")


def converse(answerer: QuestionAnswerer, question: Optional[str], context: Optional[str]) -> None:
  """Prints the answer to a question about a paragraph, the context.

  Without a question it reads questions from standard input, and without a context the paragraph.

  Raises:
    files.InputError: standard input is needed, is no terminal, and has no paragraph or no question.
  """
  pairs: Iterable[tuple[str, str]]
  if question:
    context = context or _read_paragraph(whole=not sys.stdin.isatty())
    pairs = [(question, context)] if context else []
  else:
    pairs = typed_questions(context)
  num_answers = 0
  for text, paragraph in pairs:
    answer = answerer.ask(text, paragraph)
    print(answer_line(answer, paragraph, answerer.threshold), flush=True)
    num_answers += 1
  if not (num_answers or sys.stdin.isatty()):
    wanted = "paragraph" if question else "question" if context else "paragraph with a question"
    raise files.InputError(
      f"standard input has no {wanted}; it takes a paragraph, an empty line, and one question per "
      "line, or give --context and --question"
    )


def typed_questions(context: Optional[str]) -> Iterator[tuple[str, str]]:
  """Yields pairs of a question and a paragraph from standard input, until its end.

  An empty line ends a paragraph, and an empty line among the questions begins another paragraph. In
  a file or a pipe, a second line that ends with a question mark is a question already.

  Args:
    context: the first paragraph, or None to read it, too.
  """
  lines = _Lines()
  while True:
    context = context or _read_paragraph(lines)
    if not context:
      return
    question = lines.read("Question (empty line: another paragraph; Ctrl-D: end): ")
    if question is None:
      return
    if question:
      yield question, context
    else:
      context = None


class _Lines:
  """The lines of standard input; one that was read too early can be put back."""

  def __init__(self):
    self.put_back = None

  def read(self, prompt: str = "") -> Optional[str]:
    """Returns a line without spaces around it, or None at the end; a terminal gets the prompt.

    Raises:
      files.InputError: the input is not of the terminal's encoding, as a rule UTF-8.
    """
    if self.put_back is not None:
      line, self.put_back = self.put_back, None
      return line
    if sys.stdin.isatty():
      print(prompt, end="", flush=True)
    try:
      line = sys.stdin.readline()
    except UnicodeDecodeError as error:
      raise files.InputError(
        f"standard input: found byte 0x{error.object[error.start]:02x}, which is not "
        f"{error.encoding.upper()}; convert it to UTF-8 text"
      ) from error
    if not line and sys.stdin.isatty():
      print(flush=True)  # what comes next, such as the shell's prompt, gets a line of its own
    return line.strip() if line else None


def _read_paragraph(lines=None, whole=False):
  """Returns a paragraph of standard input, up to an empty line or the end; "" if there is none.

  Args:
    lines: _Lines; default: new ones.
    whole: whether empty lines belong to the paragraph.
  """
  lines = lines or _Lines()
  found: list[str] = []
  while True:
    prompt = "" if found else "Paragraph (an empty line ends it; Ctrl-D: end):\n"
    line = lines.read(prompt)
    if line is None or not (line or whole or not found):
      break
    if len(found) == 1 and line.endswith("?") and not (whole or sys.stdin.isatty()):
      lines.put_back = line
      break
    if line or found:
      found.append(line)
  return "\n".join(found).strip()


def answer_line(answer: squad_answers.BestAnswer, context: str, threshold: float) -> str:
  """Formats an answer as a line of text.

  Ann Lee-Smith  (probability 0.93; characters 18 to 31: ... founded by [Ann Lee-Smith].)
  no answer  (probability 0.71; null odds 2.31, threshold 0.00)
  """
  if not answer.text:
    odds = "" if answer.null_odds is None else f"; null odds {answer.null_odds:.2f}"
    return f"no answer  (probability {answer.probability:.2f}{odds}, threshold {threshold:.2f})"
  line = f"{answer.text}  (probability {answer.probability:.2f}"
  if answer.start_char is None or answer.end_char is None:
    return line + ")"
  start, end = answer.start_char, answer.end_char
  first, last = max(0, start - 30), end + 30
  shown = " ".join(f"{context[first:start]}[{context[start:end]}]{context[end:last]}".split())
  dots = "..." if first else "", "..." if last < len(context) else ""
  return f"{line}; characters {start} to {end}: {dots[0]}{shown}{dots[1]})"
