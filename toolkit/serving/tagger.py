"""Tagging of raw text with a trained model, from Python and from the command line."""

import collections
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

import tokenization
from toolkit.formats.model_heads import TAGS, Head
from toolkit.formats.trained_model import Trained
from toolkit.serving import engines
from toolkit.serving.predictor import Arrays, Facts, Row, check_finite
from toolkit.support import files
from toolkit.tasks import tagging


class Tagger:
  """A trained model, loaded once, that tags text. It is thread-safe.

  tagger = Tagger.from_directory("/tmp/ner")
  tagger.tag("Ada moved to Lisbon.")["entities"][1]["text"]  # "Lisbon"

  A tagger of single words, such as of their parts of speech, finds words and tags in place of
  entities.
  """

  def __init__(
    self,
    checkpoint: str,
    config: Any,
    tokenizer: tokenization.FullTokenizer,
    labels: Sequence[str],
    max_seq_length: int = 128,
    tag_scheme: str = tagging.AUTO,
    engine: str = engines.AUTO,
  ) -> None:
    """Loads the model.

    Args:
      checkpoint: the directory of an export, or a path as checkpoints.resolve_checkpoint takes it.
      config: the model's, such as a modeling.BertConfig.
      tokenizer: of the model's vocabulary.
      labels: in the order of their ids.
      max_seq_length: word pieces in a window; longer texts have several.
      tag_scheme: of the training; "none" if tags are those of single words, "auto" if the labels
        tell.
      engine: member of engines.ENGINES.

    Raises:
      files.InputError: the checkpoint or the tag_scheme does not fit, or the engine is not
        installed.
    """
    self._directory = checkpoint if files.is_directory(checkpoint) else os.path.dirname(checkpoint)
    self._tokenizer = tokenizer
    self._labels = labels
    self._kind = tagging.kind_of(tagging.scheme_of(labels, tag_scheme))
    self._max_seq_length = min(max_seq_length, config.max_position_embeddings)
    head = Head(TAGS, len(labels))
    self._predictor = engines.load_predictor(head, checkpoint, config, engine)
    self.engine = self._predictor.engine
    self.facts = Facts(self._predictor, head, config, self._max_seq_length, list(labels))

  @classmethod
  def from_directory(cls, output_dir: str, engine: str = engines.AUTO) -> "Tagger":
    """Loads the model of a directory that run_ner.py has trained, or of its export.

    Raises:
      files.InputError: the directory is not complete, or of another script; or the engine is not
        installed.
    """
    found, engine = engines.find(output_dir, SOURCE, engine)
    _, flags = _describe(found)
    labels, tokenizer = found.required_labels(), found.make_tokenizer()
    return cls(found.directory, found.config, tokenizer, labels, **flags, engine=engine)

  def tag(self, text: str) -> dict[str, Any]:
    """Tags the words of a text, and finds its entities if tags are those of entities.

    Args:
      text: of any length; a sentence is best, as the model was trained on sentences.

    Returns:
      See tagging.prediction_record.

    Raises:
      files.InputError: the model's outputs are NaN.
    """
    return self.tag_all([text])[0]

  def tag_all(self, texts: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the results of `tag` for each text, faster than one by one."""
    return [record for record, _ in self.tag_windows(texts)]

  def tag_windows(self, texts: Sequence[str]) -> list[tuple[dict[str, Any], int]]:
    """Returns the results of `tag` with the number of windows that each text took."""
    sentences = [tagging.split_text(text) for text in texts]
    tags, windows = self._tag(sentences)
    numbers = collections.Counter(window.sentence for window in windows)
    return [
      (tagging.prediction_record(sentence, found, self._kind), numbers[place])
      for place, (sentence, found) in enumerate(zip(sentences, tags))
    ]

  def tag_sentences(self, sentences: Sequence[tagging.Sentence]) -> list[list[str]]:
    """Returns a tag for each word of each sentence; see tagging.join_tags."""
    return self._tag(sentences)[0]

  def _tag(self, sentences):
    """Returns the tags of sentences, and their windows."""
    arguments = (self._tokenizer, self._max_seq_length, self._kind)
    windows = tagging.make_windows(sentences, *arguments)
    inputs = [(w.input_ids, [0] * len(w.input_ids)) for w in windows]
    rows = self._predictor.run(inputs, finish=_decide)
    check_finite((row["highest"] for row in rows), self._directory)
    label_ids = [row["label_ids"] for row in rows]
    tags = tagging.join_tags(sentences, windows, label_ids, self._labels, self._kind)
    return tags, windows

  def run_ids(self, rows: Sequence[Row]) -> list[Arrays]:
    """Runs the model on word pieces' ids; see predictor.Predictor.run."""
    return self._predictor.run(rows)


def _decide(inputs, outputs):
  """Returns the labels of a batch, int64 [B, S], and their logits, float32 [B, S]."""
  del inputs
  logits = outputs["logits"]
  return {"label_ids": np.argmax(logits, axis=-1), "highest": np.max(logits, axis=-1)}


def _describe(found: Trained) -> tuple[Head, dict[str, Any]]:
  """Returns the head of a model, and the flags that Tagger.from_directory reads."""
  flags = found.flags_among(["max_seq_length", "tag_scheme"])
  return Head(TAGS, len(found.required_labels())), flags


SOURCE = engines.Source("run_ner", _describe)


def record_lines(record: dict[str, Any]) -> list[str]:
  """Formats a record of tagging.prediction_record: its entities, or else its words with their tags.

  moved  VERB
  """
  if "entities" in record:
    return entity_lines(record)
  return list(map("  ".join, zip(record["words"], record["tags"]))) or ["no words"]


def entity_lines(record: dict[str, Any]) -> list[str]:
  """Formats the entities of a record of tagging.prediction_record, or gives ["no entities"].

  Lisbon  LOC  (characters 13 to 19)
  """
  return [
    f"{' '.join(entity['text'].split())}  {entity['type']}  "
    f"(characters {entity['start_char']} to {entity['end_char']})"
    for entity in record["entities"]
  ] or ["no entities"]
