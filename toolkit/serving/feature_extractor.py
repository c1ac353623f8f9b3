"""Embedding of texts by a model that is loaded once."""

import collections
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Callable, NamedTuple, Optional, Union

import numpy as np

import tokenization
from toolkit.formats import exported_model
from toolkit.formats.model_heads import ENCODER, Head
from toolkit.formats.trained_model import Trained
from toolkit.records.tf_records import SORT_WINDOW
from toolkit.serving import engines
from toolkit.serving.predictor import Arrays, Facts, Row
from toolkit.support import files
from toolkit.tasks import vectors

# Texts run in order of length within windows whose vectors take this much memory.
_WINDOW_BYTES = 2**25
_USUAL_LENGTH = 128


class Embedding(NamedTuple):
  """The vector of a text.

  Attributes:
    vector: float32 [W].
    num_tokens: word pieces of the input, with [CLS] and [SEP].
    truncated: True if the text was longer than the model's input, and lost its end.
  """

  vector: np.ndarray
  num_tokens: int
  truncated: bool


class FeatureExtractor:
  """A model, loaded once, that gives vectors of texts. It is thread-safe.

  Attributes:
    tokenizer: of the model's vocabulary.
    pooling: member of vectors.POOLINGS.
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
    max_seq_length: int = _USUAL_LENGTH,
    batch_size: int = 32,
    use_one_hot_embeddings: bool = False,
    amp: bool = False,
    engine: str = engines.AUTO,
  ) -> None:
    """Loads a model.

    Args:
      bert_config_file, vocab_file: paths.
      init_checkpoint: the directory of an export, or a path as checkpoints.resolve_checkpoint
        takes it.
      do_lower_case: casing of the tokenizer.
      layers: 0 for the first layer, -1 for the last.
      pooling: member of vectors.POOLINGS.
      include_special_tokens: whether mean and maximum include [CLS] and [SEP].
      normalize: whether encode scales vectors to the length 1.
      max_seq_length: word pieces with [CLS] and [SEP]. Longer texts are cut.
      batch_size: maximum number of texts in a batch.
      use_one_hot_embeddings: see modeling.BertModel; on TensorFlow alone.
      amp: whether the model runs in mixed precision where that is faster, on TensorFlow alone; see
        precision.
      engine: member of engines.ENGINES.

    Raises:
      files.InputError: a file cannot be used, they do not go together, a layer or the pooling does
        not exist, or the engine is not installed.
    """
    if pooling not in vectors.POOLINGS:
      raise files.InputError(f"pooling: found {pooling!r}; there are {', '.join(vectors.POOLINGS)}")
    files_of_model = (bert_config_file, vocab_file, init_checkpoint, do_lower_case)
    config, self.tokenizer = _load_model(*files_of_model, max_seq_length, layers)
    self._layers = [layer % config.num_hidden_layers for layer in layers]
    self._special_tokens = include_special_tokens
    self._finish: Optional[Callable[[Arrays, Arrays], Arrays]] = None
    if use_one_hot_embeddings or amp:
      engine = _tensorflow_alone(engine, "amp" if amp else "use_one_hot_embeddings")
    is_export = exported_model.is_export(init_checkpoint)
    if engines.choose(engine, is_export) == engines.ONNXRUNTIME or is_export:
      self._finish = self._pooled
      head = Head(ENCODER, layers=tuple(layers))
      self._predictor = engines.load_predictor(
        head, init_checkpoint, config, engine, batch_size, "init_checkpoint"
      )
    else:
      from toolkit.serving import tensorflow_engine

      self._predictor = tensorflow_engine.load_encoder(
        config,
        init_checkpoint,
        batch_size,
        amp,
        layer_indexes=layers,
        use_one_hot_embeddings=use_one_hot_embeddings,
        pooling=pooling,
        pool_special_tokens=include_special_tokens,
      )
    self.engine = self._predictor.engine
    head = Head(ENCODER, layers=tuple(layers))
    self.facts = Facts(self._predictor, head, config, max_seq_length)
    self.pooling = pooling
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
      model_dir: a released model, an output directory of training, or an export.
      **options: see __init__, also for errors. The casing is the directory's, unless given.
    """
    on_tensorflow = ("use_one_hot_embeddings", "amp", "bert_config_file", "vocab_file")
    is_plain = not any(options.get(name) for name in (*on_tensorflow, "init_checkpoint"))
    engine = options.get("engine", engines.AUTO)
    if is_plain or exported_model.is_export(model_dir):
      layers = tuple(options.get("layers", (-1,)))
      found, engine = engines.find(model_dir, _source(layers), engine)
      if engine == engines.ONNXRUNTIME:
        length = min(_USUAL_LENGTH, found.config.max_position_embeddings)
        usual = {"do_lower_case": found.do_lower_case(), "max_seq_length": length}
        given = {**usual, **options, "engine": engine}
        return cls("", found.vocab_file, found.directory, **given)
    from toolkit.serving import encoder_files

    return cls(**{**encoder_files.find_model(model_dir, "model_dir", options), **options})

  def encode(self, texts: Iterable[Union[str, tuple[str, str]]]) -> np.ndarray:
    """Computes vectors of texts, and of pairs of them.

    Returns:
      float32 [number of texts, W], in their order; see vectors_head.create_model for W. A text
      without word pieces has zeros with the poolings mean and max.

    Raises:
      files.InputError: the extractor was made with the pooling "none"; its vectors come from run.
      TypeError: texts is one str.
    """
    rows = [embedding.vector for embedding in self.embed(texts)]
    return np.array(rows, np.float32).reshape(len(rows), self.width)

  def embed(self, texts: Iterable[Union[str, tuple[str, str]]]) -> list[Embedding]:
    """Returns the vectors of `encode` with what is known of each text; see there for errors."""
    if isinstance(texts, str):
      raise TypeError("encode takes a list of texts, not one str")
    if self.pooling == "none":
      raise files.InputError("encode gives one vector per text: choose another pooling than none")
    pairs = ((text, None) if isinstance(text, str) else text for text in texts)
    examples = (vectors.InputExample(number, *pair) for number, pair in enumerate(pairs))
    return self._embed(
      vectors.convert_example(e, self._max_seq_length, self.tokenizer) for e in examples
    )

  def embed_ids(self, texts: Iterable[Sequence[int]]) -> list[Embedding]:
    """Returns the vectors of texts that are ids of word pieces, without [CLS] and [SEP].

    Args:
      texts: each of at most max_seq_length - 2 ids.

    Raises:
      files.InputError: see encode.
    """
    first, last = self.tokenizer.convert_tokens_to_ids(["[CLS]", "[SEP]"])
    rows = ([first, *ids, last] for ids in texts)
    return self._embed(
      vectors.InputFeatures(number, [""] * len(row), row, [1] * len(row), [0] * len(row))
      for number, row in enumerate(rows)
    )

  def _embed(self, features):
    found = []
    for feature, vector in self.run(features):
      if self._normalize:
        vector = unit_length(vector[np.newaxis])[0]
      found.append(Embedding(vector, len(feature.tokens), feature.is_truncated))
    return found

  def run_ids(self, rows: Sequence[Row]) -> list[Arrays]:
    """Runs the model on word pieces' ids; see predictor.Predictor.run."""
    return self._predictor.run(rows)

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
      try:
        outputs = collections.deque(self._predictor.run(rows, on_batch, self._finish))
      except MemoryError as error:
        raise files.InputError("out of memory; lower --batch_size or --max_seq_length") from error
      for feature in window:  # popleft frees the memory for the next window
        yield feature, vectors.values_of(outputs.popleft(), len(feature.tokens))

  def _pooled(self, inputs, outputs):
    """Returns what vectors_head.create_model gives, of the outputs of a batch."""
    layers = [outputs.get(f"layer_{layer}", outputs["sequence_output"]) for layer in self._layers]
    if self.pooling == "none":
      return {f"layer_output_{place}": layer for place, layer in enumerate(layers)}
    mask = inputs["input_mask"]
    if not self._special_tokens:
      mask = vectors.text_mask(mask, inputs["segment_ids"])
    return {"pooled": np.concatenate([vectors.pool(x, mask, self.pooling) for x in layers], -1)}


def _load_model(
  bert_config_file, vocab_file, init_checkpoint, do_lower_case, max_seq_length, layers
):
  """Returns the configuration and the tokenizer; see FeatureExtractor."""
  if exported_model.is_export(init_checkpoint):
    found, _ = exported_model.load(init_checkpoint, exported_model.ENCODER_SCRIPT)
    with files.input_checks():
      tokenizer = tokenization.FullTokenizer(vocab_file, do_lower_case)
    vectors.check_layers(layers, found.config.num_hidden_layers)
    vectors.check_length(max_seq_length, found.config.max_position_embeddings)
    return found.config, tokenizer
  from toolkit.serving import encoder_files

  return encoder_files.load_model(
    bert_config_file, vocab_file, init_checkpoint, do_lower_case, max_seq_length, layers
  )


def _tensorflow_alone(engine, option):
  """Returns TENSORFLOW; InputError if another engine is wanted."""
  if engine == engines.ONNXRUNTIME:
    raise files.InputError(f"--{option} is for --engine={engines.TENSORFLOW}")
  return engines.TENSORFLOW


def _source(layers):
  """Returns the kind of directory that has an encoder, of which some layers are wanted."""

  def load(directory, script):
    from toolkit.serving import encoder_files

    return encoder_files.load_trained(directory, script)

  def describe(found: Trained) -> tuple[Head, dict[str, Any]]:
    vectors.check_layers(layers, found.config.num_hidden_layers)
    return Head(ENCODER, layers=layers), {}

  variant = "".join(f"_{layer}" for layer in layers)
  return engines.Source(exported_model.ENCODER_SCRIPT, describe, load, variant)


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
    if window and (len(window) == SORT_WINDOW or num_tokens > max_tokens):
      yield window
      window, num_tokens = [], len(feature.tokens)
    window.append(feature)
  if window:
    yield window
