"""Turns text into BERT's vectors: of each word piece, or one for each line.

  python extract_features.py --input_file=input.txt --output_file=/tmp/features.jsonl \\
    --bert_config_file=$BERT/bert_config.json --vocab_file=$BERT/vocab.txt \\
    --init_checkpoint=$BERT/bert_model.ckpt --layers=-1,-2,-3,-4

The input has a text a line, or two with ` ||| ` between them; it may be of any length, and be
compressed (.gz, .bz2). One vector a line, from the directory of a model, in compact files:

  python extract_features.py --input_file=input.txt --output_file=/tmp/vectors.npz \\
    --model_dir=$BERT --layers=-1 --pooling=mean --output_format=npz --float16

feature_files.py describes what is written. The same vectors in Python, the model loaded once:

  extractor = FeatureExtractor.from_directory("bert", pooling="mean", normalize=True)
  vectors = extractor.encode(["A text.", "Another one."])  # float32 [2, H]
  similarity = vectors @ vectors.T                         # cosines, as their lengths are 1
"""

from toolkit.support import quiet_start  # noqa: F401, first of all  # isort: skip

import collections
import itertools
import os
import sys
from typing import NamedTuple

import numpy as np
from absl import flags, logging
from tqdm import tqdm

import tokenization
from toolkit.formats import checkpoints, feature_files, model_directory
from toolkit.records import input_pipeline, tf_records
from toolkit.serving.predictor import Predictor
from toolkit.support import files, processes
from toolkit.support.tensorflow_versions import tf
from toolkit.tasks import vectors
from toolkit.tasks.classification import _truncate_seq_pair  # noqa: F401, always importable from here
from toolkit.tasks.vectors import (  # noqa: F401, names that were always importable from here
  POOLINGS,
  InputExample,
  InputFeatures,
  convert_example,
  convert_examples_to_features,
  read_examples,
  record_features,
  stream_examples,
  values_of,
)
from toolkit.tasks.vectors_head import (  # noqa: F401, names that were always importable from here
  create_model,
  pool,
  text_mask,
)
from toolkit.training import common_flags, estimators, precision

# Lines run in order of length within windows whose vectors take this much memory.
_WINDOW_BYTES = 2**25

FLAGS = flags.FlagValues()
flags.DEFINE_string(
  "input_file",
  None,
  "Text file: a line is a text, or a pair of them with ` ||| ` between.",
  flag_values=FLAGS,
)
flags.DEFINE_string(
  "output_file", None, "Where the vectors go; .gz at the end compresses JSON.", flag_values=FLAGS
)
flags.DEFINE_string(
  "model_dir",
  None,
  "Directory with bert_config.json, vocab.txt and a checkpoint, such as an --output_dir of "
  "training, in place of the four flags below.",
  flag_values=FLAGS,
)
flags.DEFINE_string(
  "bert_config_file",
  None,
  "JSON file with the model's architecture (bert_config.json).",
  flag_values=FLAGS,
)
flags.DEFINE_string(
  "vocab_file", None, "Vocabulary, one word piece a line (vocab.txt).", flag_values=FLAGS
)
flags.DEFINE_string(
  "init_checkpoint",
  None,
  "The weights: a checkpoint's prefix (bert_model.ckpt), its .index file, or a directory with one.",
  flag_values=FLAGS,
)
flags.DEFINE_bool(
  "do_lower_case",
  True,
  "Whether text is lower-cased: True for uncased models, False for cased ones.",
  flag_values=FLAGS,
)
flags.DEFINE_string(
  "layers",
  "-1,-2,-3,-4",
  "Which layers' vectors are wanted, with commas between: 0 is the first, -1 the last.",
  flag_values=FLAGS,
)
flags.DEFINE_integer(
  "max_seq_length",
  128,
  "Longest input in word pieces, [CLS] and [SEP] included. Longer lines are cut.",
  lower_bound=3,
  flag_values=FLAGS,
)
flags.DEFINE_integer(
  "batch_size", 32, "Lines that run through the model at once.", lower_bound=1, flag_values=FLAGS
)
flags.DEFINE_enum(
  "pooling",
  "none",
  POOLINGS,
  "How a line becomes one vector: that of [CLS], the mean or the maximum over its word pieces, or "
  "both of these one after the other; of several layers, one after the other. A line without word "
  "pieces gets zeros. none: all vectors of the word pieces.",
  flag_values=FLAGS,
)
flags.DEFINE_bool(
  "pool_special_tokens",
  False,
  "Whether mean and max take in [CLS] and [SEP], as sentence-transformers does.",
  flag_values=FLAGS,
)
flags.DEFINE_enum(
  "output_format",
  "jsonl",
  feature_files.FORMATS,
  "JSON lines, or compact arrays for numpy.load.",
  flag_values=FLAGS,
)
flags.DEFINE_integer(
  "shard_size", 1000, "npz: lines in a file, at most.", lower_bound=1, flag_values=FLAGS
)
flags.DEFINE_bool(
  "float16", False, "npz: whether numbers take 2 bytes instead of 4.", flag_values=FLAGS
)
flags.DEFINE_bool(
  "use_one_hot_embeddings",
  False,
  "Whether embeddings are looked up by products of matrices, which TPUs are faster at.",
  flag_values=FLAGS,
)
common_flags.define_device_flags(FLAGS, loops=False)
common_flags.define_precision_flag(FLAGS)
common_flags.finish(FLAGS)


# Flags that --model_dir can stand for.
MODEL_FLAGS = ("bert_config_file", "vocab_file", "init_checkpoint", "do_lower_case")


# ---- Examples and features ----------------------------------------------------------------------


def input_fn_builder(features, seq_length):
  """Makes an input_fn of features in memory, for data small enough to be part of the graph.

  Args:
    features: list of InputFeatures.
    seq_length: int, S.

  Returns:
    Function of params, a dict with "batch_size", to a tf.data.Dataset of batches with unique_ids
    int32 [B], and input_ids, input_mask and input_type_ids, int32 [B, S].
  """
  rows = list(map(vectors.feature_row, features))
  return input_pipeline.slices_input_fn(
    rows, record_features(seq_length), is_training=False, drop_remainder=False
  )


# ---- The model ----------------------------------------------------------------------------------


def model_fn_builder(
  bert_config,
  init_checkpoint,
  layer_indexes,
  use_tpu,
  use_one_hot_embeddings,
  pooling="none",
  pool_special_tokens=False,
):
  """Makes the model_fn of a TPUEstimator, for prediction.

  Args:
    bert_config: modeling.BertConfig.
    init_checkpoint: str, the weights; see checkpoints.resolve_checkpoint.
    layer_indexes, use_one_hot_embeddings, pooling, pool_special_tokens: see create_model.
    use_tpu: bool.

  Returns:
    Function of (features, labels, mode, params) to a TPUEstimatorSpec. `features` are as from
    input_fn_builder. Predictions have `unique_id` [B] and what create_model gives. Other modes
    than PREDICT are a ValueError.
  """

  def model_fn(features, labels, mode, params):
    del labels, params
    if mode != tf.estimator.ModeKeys.PREDICT:
      raise ValueError(f"only PREDICT is supported, not {mode}")
    outputs = create_model(
      bert_config,
      features["input_ids"],
      features["input_mask"],
      features["input_type_ids"],
      layer_indexes,
      use_one_hot_embeddings,
      pooling,
      pool_special_tokens,
    )
    initialized, scaffold_fn = estimators.load_init_checkpoint(init_checkpoint, use_tpu)
    estimators.log_variables(tf.trainable_variables(), initialized)
    return tf.estimator.tpu.TPUEstimatorSpec(
      mode=mode,
      predictions={"unique_id": features["unique_ids"], **outputs},
      scaffold_fn=scaffold_fn,
    )

  return model_fn


# ---- From Python --------------------------------------------------------------------------------


class FeatureExtractor:
  """A model, loaded once, that gives vectors of texts; calls may come from several threads.

  Attributes:
    tokenizer: tokenization.FullTokenizer.
    width: int, W, numbers in a pooled vector; see create_model.
  """

  def __init__(
    self,
    bert_config_file,
    vocab_file,
    init_checkpoint,
    do_lower_case=True,
    layers=(-1,),
    pooling="mean",
    include_special_tokens=False,
    normalize=False,
    max_seq_length=128,
    batch_size=32,
    use_one_hot_embeddings=False,
    amp=False,
  ):
    """Loads a model.

    Args:
      bert_config_file, vocab_file: str, paths.
      init_checkpoint: str, a path as checkpoints.resolve_checkpoint takes it.
      do_lower_case: bool, casing of the tokenizer.
      layers: sequence of int, 0 for the first layer, -1 for the last.
      pooling: member of POOLINGS.
      include_special_tokens: bool, whether mean and maximum take in [CLS] and [SEP].
      normalize: bool, whether encode scales vectors to the length 1.
      max_seq_length: int, word pieces with [CLS] and [SEP]. Longer texts are cut.
      batch_size: int, most texts that run at once.
      use_one_hot_embeddings: bool, see modeling.BertModel.
      amp: bool, whether the model runs in mixed precision where that is faster; see acceleration.

    Raises:
      files.InputError: a file cannot be used, they do not go together, or a layer or the pooling
        does not exist.
    """
    if pooling not in POOLINGS:
      raise files.InputError(f"pooling: found {pooling!r}; there are {', '.join(POOLINGS)}")
    config, self.tokenizer = load_model(
      bert_config_file, vocab_file, init_checkpoint, do_lower_case, max_seq_length, layers
    )

    def build(*inputs):
      return create_model(
        config, *inputs, layers, use_one_hot_embeddings, pooling, include_special_tokens
      )

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
    # With pooling, no more than a vector is left of a line when its batch has run.
    self._window_tokens = _WINDOW_BYTES // (4 * num_values) if pooling == "none" else np.inf

  @classmethod
  def from_directory(cls, model_dir, **options):
    """The model of a directory with bert_config.json, vocab.txt and a checkpoint.

    Args:
      model_dir: str, a released model or an output directory of training.
      **options: see __init__. The casing is the one that the directory tells, unless given.

    Raises:
      files.InputError: see __init__.
    """
    return cls(**{**find_model(model_dir), **options})

  def encode(self, texts):
    """Vectors of texts.

    Args:
      texts: list of str; in place of a str there may be a pair of them.

    Returns:
      float32 [number of texts, W], in their order; see create_model for W. A text without word
      pieces has zeros with the poolings mean and max.

    Raises:
      files.InputError: the extractor was made with the pooling "none"; its vectors come from run.
      TypeError: texts is one str.
    """
    if isinstance(texts, str):
      raise TypeError("encode takes a list of texts, not one str")
    if self._pooling == "none":
      raise files.InputError("encode gives one vector a text: choose another pooling than none")
    pairs = ((text, None) if isinstance(text, str) else text for text in texts)
    examples = (InputExample(number, *pair) for number, pair in enumerate(pairs))
    features = (convert_example(e, self._max_seq_length, self.tokenizer) for e in examples)
    vectors = [values for _, values in self.run(features)]
    vectors = np.array(vectors, np.float32).reshape(len(vectors), self.width)
    return unit_length(vectors) if self._normalize else vectors

  def run(self, features, on_batch=None):
    """Runs the model over features of any number, window by window.

    Args:
      features: iterable of InputFeatures.
      on_batch: function that is called after each batch with the number of its texts, or None.

    Yields:
      Pairs of an InputFeatures and its values: float32 [L, T, H] for T tokens; with pooling [W].
      They come in the order of the features.

    Raises:
      files.InputError: the weights give no finite numbers, or memory ran out.
    """
    for window in windows(features, self._window_tokens):
      rows = [
        (feature.input_ids[: len(feature.tokens)], feature.input_type_ids[: len(feature.tokens)])
        for feature in window
      ]
      with processes.explained_memory_errors("--batch_size or --max_seq_length"):
        outputs = collections.deque(self._predictor.run(rows, on_batch))
      for feature in window:  # taken away one by one: the next window finds this memory free
        yield feature, values_of(outputs.popleft(), len(feature.tokens))


def unit_length(vectors):
  """Rows scaled to the length 1; those of zeros stay what they are. float32 [N, W], the same."""
  return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def windows(features, max_tokens):
  """Groups features: lists of at most SORT_WINDOW with at most max_tokens word pieces.

  Args:
    features: iterable of InputFeatures, which is read no further than needed.
    max_tokens: number. A single one may have more.

  Yields:
    Lists of InputFeatures, in their order.
  """
  window, num_tokens = [], 0
  for feature in features:
    num_tokens += len(feature.tokens)
    if window and (len(window) == input_pipeline.SORT_WINDOW or num_tokens > max_tokens):
      yield window
      window, num_tokens = [], len(feature.tokens)
    window.append(feature)
  if window:
    yield window


def find_model(model_dir):
  """What a directory says of its model.

  Args:
    model_dir: str.

  Returns:
    Dict of bert_config_file, vocab_file, init_checkpoint, str; and do_lower_case, bool, if the
    directory's run.json or its vocabulary tells.

  Raises:
    files.InputError: there is no checkpoint, or a file cannot be read.
  """
  found = {
    "bert_config_file": os.path.join(model_dir, model_directory.CONFIG_FILE),
    "vocab_file": os.path.join(model_dir, model_directory.VOCAB_FILE),
    "init_checkpoint": checkpoints.resolve_checkpoint(os.path.join(model_dir, ""), "model_dir"),
  }
  run_file = os.path.join(model_dir, model_directory.RUN_FILE)
  flags_of_run = files.read_json(run_file)["flags"] if files.exists(run_file) else {}
  casing = flags_of_run.get("do_lower_case")
  if casing is None:
    with files.input_checks():
      vocab = tokenization.load_vocab(found["vocab_file"])
    casing = tokenization.guess_lower_case(vocab)
  return found if casing is None else {**found, "do_lower_case": casing}


def load_model(
  bert_config_file, vocab_file, init_checkpoint, do_lower_case, max_seq_length, layers
):
  """Reads what describes a model, and makes sure that it all goes together.

  Args:
    bert_config_file, vocab_file, init_checkpoint, do_lower_case, max_seq_length, layers: as
      FeatureExtractor takes them.

  Returns:
    A pair: modeling.BertConfig and tokenization.FullTokenizer.

  Raises:
    files.InputError: it does not, or the model lacks one of the layers.
  """
  if max_seq_length < 3:
    raise files.InputError(f"--max_seq_length: {max_seq_length} leaves no room for text; give more")
  prefix = checkpoints.resolve_checkpoint(init_checkpoint)
  config, tokenizer = model_directory.load_model(
    bert_config_file, vocab_file, do_lower_case, max_seq_length, prefix
  )
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


# ---- One run ------------------------------------------------------------------------------------


class Job(NamedTuple):
  """What a run works with.

  Attributes:
    layers: list of int, as --layers gives them.
    num_lines: int, lines of the input.
    devices: estimators.Devices.
  """

  layers: list
  num_lines: int
  devices: estimators.Devices


def main(_):
  """Writes the vectors of --input_file to --output_file."""
  processes.prepare_process()
  job = prepare()
  on_this_machine = not (FLAGS.use_tpu or FLAGS.master)
  write(job, run_predictor(job) if on_this_machine else run_estimator(job))


def prepare():
  """Checks the flags and reads through the input, before anything is loaded or written.

  Returns:
    Job.

  Raises:
    files.InputError: the first thing that is missing or wrong.
  """
  if FLAGS.model_dir:
    common_flags.adopt(FLAGS, find_model(FLAGS.model_dir), MODEL_FLAGS)
  needed = ["input_file", "output_file", "bert_config_file", "vocab_file", "init_checkpoint"]
  common_flags.require(FLAGS, needed, "every run")
  check_output()
  devices = estimators.Devices(**common_flags.device_settings(FLAGS))
  devices.check(
    {name: FLAGS[name].value for name in ("output_file", "init_checkpoint")},
    {"batch_size": FLAGS.batch_size},
  )
  devices.find_tpu()
  return Job(parse_layers(FLAGS.layers), count_lines(FLAGS.input_file), devices)


def parse_layers(text):
  """The numbers in a flag: "-1,-2" -> [-1, -2].

  Raises:
    files.InputError: they are no integers.
  """
  try:
    return [int(part) for part in text.split(",")]
  except ValueError as error:
    raise files.InputError(
      f"--layers: found {text!r}, should be whole numbers with commas between, such as -1,-2"
    ) from error


def count_lines(path):
  """The number of lines of an input file, which is read through to its end.

  Raises:
    files.InputError: it cannot be read, is not UTF-8 (file:line), or has no line.
  """
  if files.exists(path) and not files.is_regular_file(path):
    raise files.InputError(f"--input_file: {path} is a directory, pipe or device; give a file")
  num_lines = sum(1 for _ in files.stream_lines(path))
  if num_lines == 0:
    raise files.InputError(f"--input_file: {path} is empty; it should have a text a line")
  return num_lines


def check_output():
  """Makes sure that the flags of the output go together.

  Raises:
    files.InputError: they do not, or --output_file would take the place of the input.
  """
  path, output_format = FLAGS.output_file, FLAGS.output_format
  if (output_format == "npz") != path.endswith(".npz"):
    raise files.InputError(
      f"--output_file: {path} is no name for --output_format={output_format}; names of npz files, "
      "and of no others, end in .npz"
    )
  for name in ("float16", "shard_size"):
    if output_format != "npz" and FLAGS[name].value != FLAGS[name].default:
      raise files.InputError(f"--{name} needs --output_format=npz")
  if files.is_directory(path):
    raise files.InputError(f"--output_file: {path} is a directory; give the name of a file")
  if os.path.realpath(path) == os.path.realpath(FLAGS.input_file):
    raise files.InputError(f"--output_file: {path} is the input file; give another name")


def stream_features(tokenizer):
  """Yields InputFeatures of the lines of --input_file."""
  for example in stream_examples(FLAGS.input_file):
    yield convert_example(example, FLAGS.max_seq_length, tokenizer)


def _model_flags():
  names = (*MODEL_FLAGS, "max_seq_length")
  return {name: FLAGS[name].value for name in names}


def run_predictor(job):
  """Loads the model and returns an iterator like FeatureExtractor.run's over the whole input."""
  extractor = FeatureExtractor(
    **_model_flags(),
    layers=job.layers,
    pooling=FLAGS.pooling,
    include_special_tokens=FLAGS.pool_special_tokens,
    batch_size=FLAGS.batch_size,
    use_one_hot_embeddings=FLAGS.use_one_hot_embeddings,
    amp=FLAGS.amp,
  )

  def results():
    bar = tqdm(total=job.num_lines, desc="Extracting", unit="line", disable=not sys.stderr.isatty())
    with bar:
      yield from extractor.run(vectors.logged(stream_features(extractor.tokenizer)), bar.update)

  return results()


def run_estimator(job):
  """The same by an estimator, for a TPU or another machine: inputs of one length, from a file.

  The file is beside --output_file, where a TPU can read it, and is deleted in the end.
  """
  config, tokenizer = load_model(**_model_flags(), layers=job.layers)
  checkpoints.check_checkpoint(config, FLAGS.init_checkpoint, "init_checkpoint")
  model_fn = model_fn_builder(
    config,
    FLAGS.init_checkpoint,
    job.layers,
    FLAGS.use_tpu,
    FLAGS.use_one_hot_embeddings,
    FLAGS.pooling,
    FLAGS.pool_special_tokens,
  )
  batch_sizes = {"train_batch_size": FLAGS.batch_size, "predict_batch_size": FLAGS.batch_size}
  plan = precision.find(FLAGS.amp, use_xla=False, use_tpu=FLAGS.use_tpu)
  plan.log()
  estimator = estimators.make_estimator(
    model_fn,
    None,
    job.devices,
    0,
    batch_sizes,
    session_config=plan.session_config(is_training=False),
  )
  table = record_features(FLAGS.max_seq_length)
  path = f"{FLAGS.output_file}.tf_record"

  def results():
    try:
      features = vectors.logged(stream_features(tokenizer))
      tf_records.write_records(path, _full_batches(features), table)
      input_fn = input_pipeline.read_input_fn(
        path, table, is_training=False, drop_remainder=FLAGS.use_tpu
      )
      rows = estimators.predict(estimator, input_fn, job.num_lines, "Extracting")
      for feature, row in zip(stream_features(tokenizer), rows):
        yield feature, values_of(row, len(feature.tokens))
    finally:
      if files.exists(path):
        files.remove(path)

  return results()


def _full_batches(features):
  """Yields a row of each of the features, and the last one again until a TPU's batch is full."""
  number, row = 0, None
  for feature in features:
    number, row = number + 1, vectors.feature_row(feature)
    yield row
  if FLAGS.use_tpu:
    yield from itertools.repeat(row, -number % FLAGS.batch_size)


def write(job, results):
  """Writes vectors to --output_file.

  Args:
    job: Job.
    results: iterable of pairs of an InputFeatures and its values.

  Raises:
    files.InputError: the file cannot be written, or what the results raise.
  """
  path = FLAGS.output_file
  files.make_directory(os.path.dirname(path) or ".", "output_file")
  if FLAGS.output_format == "npz":
    writer = feature_files.NpzWriter(
      path, job.layers, job.num_lines, FLAGS.shard_size, FLAGS.float16
    )
  else:
    writer = feature_files.JsonLinesWriter(path, job.layers)
  num_truncated = 0
  with writer:
    for feature, values in results:
      num_truncated += feature.is_truncated
      writer.write(feature.unique_id, feature.tokens, values)
  if num_truncated:
    logging.warning(
      "%d of %d lines were longer than --max_seq_length=%d and were cut",
      num_truncated,
      job.num_lines,
      FLAGS.max_seq_length,
    )
  logging.info("Wrote the vectors of %d lines to %s", job.num_lines, path)


if __name__ == "__main__":
  common_flags.run(main, FLAGS)
