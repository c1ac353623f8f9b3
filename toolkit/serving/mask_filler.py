"""Prediction of masked words by a pre-trained model, from Python and from the command line."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Optional

import tensorflow.compat.v1 as tf

import modeling
import tokenization
from toolkit.formats import model_directory
from toolkit.serving.predictor import Predictor
from toolkit.support import files
from toolkit.tasks import pretraining_head

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
    config: modeling.BertConfig,
    vocab_file: str,
    do_lower_case: bool = True,
    max_seq_length: int = 128,
    top_k: int = 5,
  ) -> None:
    """Loads the model.

    Args:
      checkpoint: a path as checkpoints.resolve_checkpoint takes it.
      config: the model's.
      vocab_file: path of its vocabulary.
      do_lower_case: whether text is lower-cased.
      max_seq_length: in word pieces. Longer text is cut to the word pieces around a mask.
      top_k: number of words for each mask.

    Raises:
      files.InputError: the checkpoint or the vocabulary cannot be used.
    """
    with files.input_checks():
      tokenization.validate_vocab(vocab_file, [MASK])
      self._tokenizer = tokenization.FullTokenizer(
        vocab_file, do_lower_case, keep_special_tokens=True
      )
    self._max_seq_length = max_seq_length
    vocab = self._tokenizer.vocab
    words = sorted(index for token, index in vocab.items() if token)
    top_k = min(top_k, len(words))

    def build(input_ids, input_mask, segment_ids):
      model = modeling.BertModel(config, False, input_ids, input_mask, segment_ids)
      places = tf.where(tf.equal(input_ids, vocab[MASK]))  # [M, 2], M masks in all
      hidden = tf.gather_nd(model.get_sequence_output(), places)  # [M, H]
      logits = pretraining_head.masked_lm_logits(config, hidden, model.get_embedding_table())
      # A model may have more rows than its vocabulary has words.
      logits = tf.gather(logits, words, axis=1)  # [M, number of words]
      best, numbers = tf.nn.top_k(tf.nn.softmax(logits), top_k)  # [M, K]
      ids = tf.gather(words, numbers)
      shape = tf.concat([tf.shape(input_ids, out_type=tf.int64), [top_k]], axis=0)  # [B, S, K]
      return {
        "ids": tf.scatter_nd(places, ids, shape),
        "probabilities": tf.scatter_nd(places, best, shape),
      }

    self._predictor = Predictor(build, checkpoint)

  @classmethod
  def from_directory(cls, output_dir: str, top_k: int = 5) -> "MaskFiller":
    """Loads the model of a directory that run_pretraining.py has trained with a --vocab_file.

    Raises:
      files.InputError: the directory is not complete, or of another script.
    """
    found = model_directory.load_trained(output_dir, "run_pretraining")
    settings = found.flags_among(["do_lower_case", "max_seq_length"])
    return cls(output_dir, found.config, found.vocab_file, top_k=top_k, **settings)

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
      (self._tokenizer.convert_tokens_to_ids(part.tokens), part.segment_ids)
      for of_text in parts
      for part in of_text
    ]
    results = iter(self._predictor.run(rows))
    return [
      [words for part in of_text for words in self._words(next(results), part.places)]
      for of_text in parts
    ]

  def _words(self, result, places):
    """Yields a list of (word piece, probability) for each place in a row of the model's results."""
    for place in places:
      words = self._tokenizer.convert_ids_to_tokens(result["ids"][place].tolist())
      yield list(zip(words, result["probabilities"][place].tolist()))
