"""Embedding of texts by a model that is loaded once."""

import collections
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Callable, Optional, Union

import numpy as np

import modeling
import tokenization
from toolkit.formats import checkpoints, model_directory, model_files
from toolkit.records import input_pipeline
from toolkit.serving.predictor import Predictor
from toolkit.support import files, precision, processes
from toolkit.tasks import vectors, vectors_head

# Texts run in order of length within windows whose vectors take this much memory.
_WINDOW_BYTES = 2**25


class FeatureExtractor:
  """A model, loaded once, that gives vectors of texts. It is thread-safe.

  Attributes:
    tokenizer: of the model's vocabulary.
    width: W, the numbers in a pooled vector; see vectors_head.create_model.
  """

  def __init__(
    self,
    bert_config_file: str,
    vocab_file: str,
    init_checkpoint: str,
    do_lower_case: bool = True,
    layers: Sequence[int] = (-1,),
    pooling: str = "mean",
    include_special_tokens: bool = False,
    normalize: bool = False,
    max_seq_length: int = 128,
    batch_size: int = 32,
    use_one_hot_embeddings: bool = False,
    amp: bool = False,
  ) -> None:
    """Loads a model.

    Args:
      bert_config_file, vocab_file: paths.
      init_checkpoint: a path as checkpoints.resolve_checkpoint takes it.
      do_lower_case: casing of the tokenizer.
      layers: 0 for the first layer, -1 for the last.
      pooling: member of vectors.POOLINGS.
      include_special_tokens: whether mean and maximum include [CLS] and [SEP].
      normalize: whether encode scales vectors to the length 1.
      max_seq_length: word pieces with [CLS] and [SEP]. Longer texts are cut.
      batch_size: maximum number of texts in a batch.
      use_one_hot_embeddings: see modeling.BertModel.
      amp: whether the model runs in mixed precision where that is faster; see precision.

    Raises:
      files.InputError: a file cannot be used, they do not go together, or a layer or the pooling
        does not exist.
    """
    if pooling not in vectors.POOLINGS:
      raise files.InputError(f"pooling: found {pooling!r}; there are {', '.join(vectors.POOLINGS)}")
    config, self.tokenizer = load_model(
      bert_config_file, vocab_file, init_checkpoint, do_lower_case, max_seq_length, layers
    )

    options = (layers, use_one_hot_embeddings, pooling, include_special_tokens)

    def build(input_ids, input_mask, segment_ids):
      return vectors_head.create_model(config, input_ids, input_mask, segment_ids, *options)

    plan = precision.find(amp, use_xla=False, use_tpu=False)
    plan.log()
    self._predictor = Predictor(
      build, init_checkpoint, batch_size, "init_checkpoint", plan.session_config(is_training=False)
    )
    self._pooling = pooling
    self._normalize = normalize
    self._max_seq_length = max_seq_length
    num_values = len(layers) * config.hidden_size  # of a word piece
    self.width = num_values * (2 if pooling == "mean_max" else 1)
    # With pooling, only one vector per line is kept when its batch has run.
    self._window_tokens = _WINDOW_BYTES // (4 * num_values) if pooling == "none" else np.inf

  @classmethod
  def from_directory(cls, model_dir: str, **options: Any) -> "FeatureExtractor":
    """Loads the model of a directory with bert_config.json, vocab.txt and a checkpoint.

    Args:
      model_dir: a released model or an output directory of training.
      **options: see __init__, also for errors. The casing is the directory's, unless given.
    """
    return cls(**{**find_model(model_dir, "model_dir", options), **options})

  def encode(self, texts: Iterable[Union[str, tuple[str, str]]]) -> np.ndarray:
    """Computes vectors of texts, and of pairs of them.

    Returns:
      float32 [number of texts, W], in their order; see vectors_head.create_model for W. A text
      without word pieces has zeros with the poolings mean and max.

    Raises:
      files.InputError: the extractor was made with the pooling "none"; its vectors come from run.
      TypeError: texts is one str.
    """
    if isinstance(texts, str):
      raise TypeError("encode takes a list of texts, not one str")
    if self._pooling == "none":
      raise files.InputError("encode gives one vector per text: choose another pooling than none")
    pairs = ((text, None) if isinstance(text, str) else text for text in texts)
    examples = (vectors.InputExample(number, *pair) for number, pair in enumerate(pairs))
    features = (vectors.convert_example(e, self._max_seq_length, self.tokenizer) for e in examples)
    rows = [values for _, values in self.run(features)]
    encoded = np.array(rows, np.float32).reshape(len(rows), self.width)
    return unit_length(encoded) if self._normalize else encoded

  def run(
    self,
    features: Iterable[vectors.InputFeatures],
    on_batch: Optional[Callable[[int], object]] = None,
  ) -> Iterator[tuple[vectors.InputFeatures, np.ndarray]]:
    """Runs the model over any number of features, window by window.

    Args:
      features: of the texts.
      on_batch: called after each batch with the number of its texts.

    Yields:
      Features, in their order, and their values: float32 [L, T, H] for T tokens; with pooling [W].

    Raises:
      files.InputError: the weights give no finite numbers, or memory ran out.
    """
    for window in windows(features, self._window_tokens):
      rows = [
        (feature.input_ids[: len(feature.tokens)], feature.input_type_ids[: len(feature.tokens)])
        for feature in window
      ]
      with processes.converted_memory_errors("--batch_size or --max_seq_length"):
        outputs = collections.deque(self._predictor.run(rows, on_batch))
      for feature in window:  # popleft frees the memory for the next window
        yield feature, vectors.values_of(outputs.popleft(), len(feature.tokens))


def unit_length(rows: np.ndarray) -> np.ndarray:
  """Scales rows, float32 [N, W], to the length 1; those of zeros stay zeros."""
  return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def windows(
  features: Iterable[vectors.InputFeatures], max_tokens: float
) -> Iterator[list[vectors.InputFeatures]]:
  """Groups features: lists of at most SORT_WINDOW with at most max_tokens word pieces.

  Args:
    features: read no further than needed, and yielded in their order.
    max_tokens: a single one may have more.
  """
  window: list[vectors.InputFeatures] = []
  num_tokens = 0
  for feature in features:
    num_tokens += len(feature.tokens)
    if window and (len(window) == input_pipeline.SORT_WINDOW or num_tokens > max_tokens):
      yield window
      window, num_tokens = [], len(feature.tokens)
    window.append(feature)
  if window:
    yield window


def find_model(
  model_dir: str, flag: str = "model_dir", given: Optional[dict[str, Any]] = None
) -> dict[str, Any]:
  """Returns the flags of the model in a directory.

  Args:
    model_dir: of the model.
    flag: the flag of the directory, for messages.
    given: name -> value of flags of the model that have a value already.

  Returns:
    Name -> value of the others: bert_config_file, vocab_file, init_checkpoint, str; and
    do_lower_case, bool, if the directory's run.json or the vocabulary shows it.

  Raises:
    files.InputError: a file is missing, or cannot be read.
  """
  given = {name: value for name, value in (given or {}).items() if value is not None}
  found: dict[str, Any] = checkpoints.find_model(
    model_dir, flag, [n for n in model_files.FILES if n not in given]
  )
  run_file = os.path.join(model_dir, model_directory.RUN_FILE)
  flags_of_run = files.read_json(run_file)["flags"] if files.exists(run_file) else {}
  casing = flags_of_run.get("do_lower_case")
  if casing is None:
    with files.input_checks():
      vocab = tokenization.load_vocab({**found, **given}["vocab_file"])
    casing = tokenization.guess_lower_case(vocab)
  return found if casing is None else {**found, "do_lower_case": casing}


def load_model(
  bert_config_file: str,
  vocab_file: str,
  init_checkpoint: str,
  do_lower_case: bool,
  max_seq_length: int,
  layers: Sequence[int],
) -> tuple[modeling.BertConfig, tokenization.FullTokenizer]:
  """Reads a model's configuration and vocabulary; see FeatureExtractor.

  Raises:
    files.InputError: they are not consistent, or the model lacks one of the layers.
  """
  if max_seq_length < 3:
    raise files.InputError(
      f"--max_seq_length: {max_seq_length} leaves no space for text; give more"
    )
  prefix = checkpoints.resolve_checkpoint(init_checkpoint)
  config, tokenizer = model_directory.load_model(
    bert_config_file, vocab_file, do_lower_case, max_seq_length, prefix
  )
  assert tokenizer is not None  # there is a vocabulary
  number = config.num_hidden_layers
  if not layers:
    raise files.InputError("--layers: none is given")
  for layer in layers:
    if not -number <= layer < number:
      raise files.InputError(
        f"--layers: there is no layer {layer}; the model's {number} layers are 0 to {number - 1}, "
        f"or -1 (the last) to {-number}"
      )
  return config, tokenizer
