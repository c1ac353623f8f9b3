"""Tagging of raw text with a trained model, from Python and from the command line."""

import os
from collections.abc import Sequence
from typing import Any

import tensorflow.compat.v1 as tf

import modeling
import tokenization
from toolkit.formats import checkpoints, model_directory
from toolkit.serving.predictor import Predictor
from toolkit.support import files
from toolkit.tasks import tagging, tagging_head


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
    config: modeling.BertConfig,
    tokenizer: tokenization.FullTokenizer,
    labels: Sequence[str],
    max_seq_length: int = 128,
    tag_scheme: str = tagging.AUTO,
  ) -> None:
    """Loads the model.

    Args:
      checkpoint: a path as checkpoints.resolve_checkpoint takes it.
      config: the model's.
      tokenizer: of the model's vocabulary.
      labels: in the order of their ids.
      max_seq_length: word pieces in a window; longer texts have several.
      tag_scheme: of the training; "none" if tags are those of single words, "auto" if the labels
        tell.

    Raises:
      files.InputError: the checkpoint or the tag_scheme does not fit.
    """
    self._directory = checkpoint if files.is_directory(checkpoint) else os.path.dirname(checkpoint)
    self._tokenizer = tokenizer
    self._labels = labels
    self._kind = tagging.kind_of(tagging.scheme_of(labels, tag_scheme))
    self._max_seq_length = min(max_seq_length, config.max_position_embeddings)

    def build(input_ids, input_mask, segment_ids):
      none = tf.zeros_like(input_ids)
      _, losses, logits, _ = tagging_head.create_model(
        config, False, input_ids, input_mask, segment_ids, none, none, len(labels), False
      )
      return tagging_head.predictions(losses, logits)

    self._predictor = Predictor(build, checkpoint)

  @classmethod
  def from_directory(cls, output_dir: str) -> "Tagger":
    """Loads the model of a directory that run_ner.py has trained.

    Raises:
      files.InputError: the directory is not complete, or of another script.
    """
    found = model_directory.load_trained(output_dir, "run_ner")
    options = found.flags_among(["max_seq_length", "tag_scheme"])
    tokenizer = found.make_tokenizer()
    return cls(output_dir, found.config, tokenizer, found.required_labels(), **options)

  def tag(self, text: str) -> dict[str, Any]:
    """Tags the words of a text, and finds its entities if tags are those of entities.

    Args:
      text: of any length; a sentence is best, as the model was trained on sentences.

    Returns:
      See tagging.prediction_record.

    Raises:
      files.InputError: the model's outputs are NaN.
    """
    sentences = [tagging.split_text(text)]
    arguments = (self._tokenizer, self._max_seq_length, self._kind)
    windows = tagging.make_windows(sentences, *arguments)
    rows = self._predictor.run([(w.input_ids, [0] * len(w.input_ids)) for w in windows])
    checkpoints.check_finite((row["losses"] for row in rows), self._directory)
    label_ids = [row["label_ids"] for row in rows]
    (tags,) = tagging.join_tags(sentences, windows, label_ids, self._labels, self._kind)
    return tagging.prediction_record(sentences[0], tags, self._kind)


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
