"""Prediction of masked words by a pre-trained model, from Python and from the command line."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np

import tokenization
from toolkit.formats.model_heads import MASKED_LM, Head
from toolkit.formats.trained_model import Trained
from toolkit.serving import engines
from toolkit.serving.predictor import Arrays, Facts, MaskedRow
from toolkit.support import files

MASK = "[MASK]"


def read_texts(text: Optional[str], predict_file: Optional[str]) -> list[str]:
  """Returns texts with masks: `text`, if any, and then the lines of a file that are not empty.

  Raises:
    files.InputError: there is none, or one without [MASK].
  """
  places = [("--text", text)] if text else []
  if predict_file:
    lines = files.read_lines(predict_file)
    places += [(f"{predict_file}:{number}", line) for number, line in lines if line.strip()]
  if not places:
    raise files.InputError(
      "--do_predict: nothing to fill in; give --text, or lines of text in --predict_file"
    )
  for place, line in places:
    if MASK not in line:
      raise files.InputError(f"{place}: found no {MASK}; write it for each word that is wanted")
  return [line for _, line in places]


class MaskedPart(NamedTuple):
  """An input of the model: word pieces, their segments, and the places of masks to predict."""

  tokens: list[str]
  segment_ids: list[int]
  places: list[int]


def parts_with_masks(pieces: list[str], max_seq_length: int) -> Iterator[MaskedPart]:
  """Makes inputs of the model from a text.

  A text with masks that fits is one input. A longer one gives an input for each mask, with the word
  pieces around it. After a [SEP] begins the second segment, as in the records:

    the [MASK] [SEP] it -> [CLS] the [MASK] [SEP] it [SEP], segments 0 0 0 0 1 1, place 2

  Args:
    pieces: word pieces of the text.
    max_seq_length: word pieces of an input, [CLS] and [SEP] included.
  """
  masks = [place for place, piece in enumerate(pieces) if piece == MASK]
  first_length = pieces.index("[SEP]") + 1 if "[SEP]" in pieces else len(pieces)
  segment_ids = [int(place >= first_length) for place in range(len(pieces))]
  most = max_seq_length - 2
  if masks and len(pieces) <= most:
    cuts = [(0, masks)]
  else:
    cuts = [(min(max(0, m - most // 2), len(pieces) - most), [m]) for m in masks]
  for start, places in cuts:
    cut = slice(start, start + most)
    yield MaskedPart(
      ["[CLS]", *pieces[cut], "[SEP]"],
      [0, *segment_ids[cut], max(segment_ids[cut])],
      [place - start + 1 for place in places],
    )


class MaskFiller:
  """A pre-trained model, loaded once, that predicts masked words. It is thread-safe.

  filler = MaskFiller.from_directory("/tmp/pretraining")
  filler.fill("The [MASK] barked.")  # [[("dog", 0.61), ("fox", 0.07), ...]]
  """

  def __init__(
    self,
    checkpoint: str,
    config: Any,
    vocab_file: str,
    do_lower_case: bool = True,
    max_seq_length: int = 128,
    top_k: int = 5,
    engine: str = engines.AUTO,
  ) -> None:
    """Loads the model.

    Args:
      checkpoint: the directory of an export, or a path as checkpoints.resolve_checkpoint takes it.
      config: the model's, such as a modeling.BertConfig.
      vocab_file: path of its vocabulary.
      do_lower_case: whether text is lower-cased.
      max_seq_length: in word pieces. Longer text is cut to the word pieces around a mask.
      top_k: number of words for each mask.
      engine: member of engines.ENGINES.

    Raises:
      files.InputError: the checkpoint or the vocabulary cannot be used, or the engine is not
        installed.
    """
    with files.input_checks():
      tokenization.validate_vocab(vocab_file, [MASK])
      self._tokenizer = tokenization.FullTokenizer(
        vocab_file, do_lower_case, keep_special_tokens=True
      )
    self._max_seq_length = max_seq_length
    # A model may have more rows than its vocabulary has words.
    self._words = np.array(sorted(i for word, i in self._tokenizer.vocab.items() if word))
    self._top_k = min(top_k, len(self._words))
    self._predictor = engines.load_predictor(Head(MASKED_LM), checkpoint, config, engine)
    self.engine = self._predictor.engine
    self.facts = Facts(self._predictor, Head(MASKED_LM), config, max_seq_length)

  @classmethod
  def from_directory(
    cls, output_dir: str, top_k: int = 5, engine: str = engines.AUTO
  ) -> "MaskFiller":
    """Loads the model of a directory that run_pretraining.py has trained, or of its export.

    Raises:
      files.InputError: the directory is not complete, as after a training without --vocab_file, or
        of another script; or the engine is not installed.
    """
    found, engine = engines.find(output_dir, SOURCE, engine)
    _, flags = _describe(found)
    casing = found.do_lower_case()
    return cls(
      found.directory, found.config, found.vocab_file, casing, top_k=top_k, engine=engine, **flags
    )

  def fill(self, text: str) -> list[list[tuple[str, float]]]:
    """Predicts the masked words of a text.

    Args:
      text: with [MASK] in it; [SEP] may stand between two segments.

    Returns:
      For each mask the (word piece, probability) pairs, the likeliest first.
    """
    return self.fill_all([text])[0]

  def fill_all(self, texts: Iterable[str]) -> list[list[list[tuple[str, float]]]]:
    """Returns the results of `fill` for each text, faster than one by one."""
    parts = [
      list(parts_with_masks(self._tokenizer.tokenize(text), self._max_seq_length)) for text in texts
    ]
    rows = [
      (self._tokenizer.convert_tokens_to_ids(part.tokens), part.segment_ids, part.places)
      for of_text in parts
      for part in of_text
    ]
    results = iter(self._predictor.run(rows, finish=self._best))
    return [
      [words for part in of_text for words in self._guesses(next(results), len(part.places))]
      for of_text in parts
    ]

  def run_ids(self, rows: Sequence[MaskedRow]) -> list[Arrays]:
    """Runs the model on word pieces' ids and positions; see predictor.Predictor.run."""
    return self._predictor.run(rows)

  def _best(self, inputs, outputs):
    """Returns the likeliest words of a batch, int [B, P, K], and their probabilities."""
    del inputs
    logits = outputs["masked_lm_logits"][..., self._words]  # [B, P, number of words]
    exps = np.exp(logits - logits.max(axis=-1, keepdims=True))
    best = np.argpartition(exps, -self._top_k, axis=-1)[..., -self._top_k :]
    values = np.take_along_axis(exps, best, axis=-1)
    order = np.argsort(-values, axis=-1, kind="stable")
    shares = np.take_along_axis(values, order, axis=-1) / exps.sum(axis=-1, keepdims=True)
    return {"ids": self._words[np.take_along_axis(best, order, axis=-1)], "probabilities": shares}

  def _guesses(self, result, num_places):
    """Yields a list of (word piece, probability) for each place of a row."""
    for ids, probabilities in zip(result["ids"][:num_places], result["probabilities"]):
      words = self._tokenizer.convert_ids_to_tokens(ids.tolist())
      yield list(zip(words, probabilities.tolist()))


def _describe(found: Trained) -> tuple[Head, dict[str, Any]]:
  """Returns the head of a model, and the flags that MaskFiller.from_directory reads."""
  return Head(MASKED_LM), found.flags_among(["max_seq_length"])


SOURCE = engines.Source("run_pretraining", _describe)
