"""Computes BERT's vectors of text: one per word piece, or one per line.

  python extract_features.py --model=$BERT --input_file=input.txt \\
    --output_file=/tmp/features.jsonl --layers=-1,-2,-3,-4

The input has one text per line, or two with ` ||| ` between them; it may have any length, and be
compressed (.gz, .bz2). One vector per line, in compact files:

  python extract_features.py --model=$BERT --input_file=input.txt \\
    --output_file=/tmp/vectors.npz --layers=-1 --pooling=mean \\
    --output_format=npz --float16

feature_files.py describes the output files. The same vectors in Python, the model loaded once:

  extractor = FeatureExtractor.from_directory("bert", pooling="mean", normalize=True)
  vectors = extractor.encode(["A text.", "Another one."])  # float32 [2, H]
  similarity = vectors @ vectors.T                         # cosines, as their lengths are 1
"""

from toolkit.support import quiet_start  # noqa: F401, first of all  # isort: skip

import codecs  # noqa: F401, this and others for programs that import * from here
import collections  # noqa: F401
import itertools
import json  # noqa: F401
import os
import re  # noqa: F401
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Union

import numpy as np
from absl import logging
from tqdm import tqdm

import modeling
import tokenization
from tokenization import _truncate_seq_pair  # noqa: F401
from toolkit.formats import checkpoints, feature_files, model_files
from toolkit.records import input_pipeline, tf_records
from toolkit.serving import engines
from toolkit.serving.encoder_files import find_model, load_model
from toolkit.serving.feature_extractor import FeatureExtractor
from toolkit.support import command_line, files, logs, precision, processes
from toolkit.support.tensorflow_versions import tf
from toolkit.tasks import vectors
from toolkit.tasks.vectors import (  # noqa: F401
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
from toolkit.tasks.vectors_head import create_model
from toolkit.training import estimators, run_flags

flags = command_line.ScriptFlags()
FLAGS = flags.FLAGS
flags.DEFINE_string(
  "input_file",
  None,
  "Text file with one text per line, or a pair of texts with ` ||| ` between them.",
  group="essential",
)
flags.DEFINE_string(
  "output_file",
  None,
  "File for the vectors. JSON lines are compressed if its name ends in .gz.",
  group="essential",
)
flags.DEFINE_string(
  "model",
  None,
  "Directory with bert_config.json, vocab.txt and a checkpoint, such as a released model or an "
  "--output_dir of training. It stands for --bert_config_file, --vocab_file and --init_checkpoint, "
  "each of which overrides its part. The casing is the directory's.",
  group="essential",
)
flags.DEFINE_string("model_dir", None, "The same as --model.", group="model")
run_flags.define_model_files(flags, "Default: the one in --model.")
flags.DEFINE_bool(
  "do_lower_case",
  True,
  "Lower-case the text. Right for uncased models; --nodo_lower_case is for cased ones.",
  group="model",
)
flags.DEFINE_string(
  "layers",
  "-1,-2,-3,-4",
  "Comma-separated layers of the vectors: 0 is the first layer, -1 the last.",
  group="essential",
)
flags.DEFINE_integer(
  "max_seq_length",
  128,
  "Longest input in word pieces, [CLS] and [SEP] included. Longer lines are cut.",
  lower_bound=3,
  group="essential",
)
flags.DEFINE_integer("batch_size", 32, "Lines per batch.", lower_bound=1, group="essential")
flags.DEFINE_enum(
  "pooling",
  "none",
  POOLINGS,
  "Pooling of a line to one vector: that of [CLS], the mean or the maximum over its word pieces, "
  "or both of these, concatenated. Several layers are concatenated, too. A line without word "
  "pieces gets zeros. none: one vector per word piece.",
  group="essential",
)
flags.DEFINE_bool(
  "pool_special_tokens",
  False,
  "Include [CLS] and [SEP] in mean and maximum, as sentence-transformers does.",
)
flags.DEFINE_enum(
  "output_format",
  "jsonl",
  feature_files.FORMATS,
  "Format of the output: JSON lines, or compact arrays for numpy.load.",
  group="essential",
)
flags.DEFINE_integer("shard_size", 1000, "npz: maximum number of lines per file.", lower_bound=1)
flags.DEFINE_bool("float16", False, "npz: write numbers of 2 bytes instead of 4.")
flags.DEFINE_bool(
  "use_one_hot_embeddings",
  False,
  "Look up embeddings by matrix multiplication, which is faster on TPUs.",
  group="speed and memory",
)
run_flags.define_device_flags(flags, loops=False)
run_flags.define_precision_flag(flags)
run_flags.define_engine_flag(flags, engines.TENSORFLOW)


# ---- Examples and features ----------------------------------------------------------------------


def input_fn_builder(features: Sequence[InputFeatures], seq_length: int) -> input_pipeline.InputFn:
  """Makes an input_fn of features in memory, for data small enough to be part of the graph.

  Args:
    features: of all texts.
    seq_length: S.

  Returns:
    Function of params, a dict with "batch_size", to batches with unique_ids int32 [B], and
    input_ids, input_mask and input_type_ids, int32 [B, S].
  """
  rows = list(map(vectors.feature_row, features))
  return input_pipeline.slices_input_fn(
    rows, record_features(seq_length), is_training=False, drop_remainder=False
  )


# ---- The model ----------------------------------------------------------------------------------


def model_fn_builder(
  bert_config: modeling.BertConfig,
  init_checkpoint: str,
  layer_indexes: Sequence[int],
  use_tpu: bool,
  use_one_hot_embeddings: bool,
  pooling: str = "none",
  pool_special_tokens: bool = False,
) -> estimators.ModelFn:
  """Makes the model_fn of a TPUEstimator, for prediction.

  Args:
    bert_config: the encoder's.
    init_checkpoint: the weights; see checkpoints.resolve_checkpoint.
    layer_indexes, use_one_hot_embeddings, pooling, pool_special_tokens: see create_model.
    use_tpu: True to run on a TPU.

  Returns:
    Function of (features, labels, mode, params) to a TPUEstimatorSpec. `features` are as from
    input_fn_builder. Predictions have `unique_id` [B] and the outputs of create_model. Other modes
    than PREDICT are a ValueError.
  """

  def model_fn(features, labels, mode, params):
    del labels, params
    if mode != tf.estimator.ModeKeys.PREDICT:
      raise ValueError(f"only PREDICT is supported, not {mode}")
    arguments = [features[name] for name in ("input_ids", "input_mask", "input_type_ids")]
    arguments += [layer_indexes, use_one_hot_embeddings, pooling, pool_special_tokens]
    with estimators.building(mode):
      outputs = create_model(bert_config, *arguments)
    initialized, scaffold_fn = estimators.load_init_checkpoint(init_checkpoint, use_tpu)
    estimators.log_variables(tf.trainable_variables(), initialized)
    return tf.estimator.tpu.TPUEstimatorSpec(
      mode=mode,
      predictions={"unique_id": features["unique_ids"], **outputs},
      scaffold_fn=scaffold_fn,
    )

  return model_fn


# ---- One run ------------------------------------------------------------------------------------


class Job(NamedTuple):
  """Inputs of a run, all of them checked; `layers` as in --layers, `num_lines` of the input."""

  settings: command_line.Settings
  layers: list[int]
  num_lines: int
  devices: estimators.Devices


def main(_: list[str]) -> None:
  """Writes the vectors of --input_file to --output_file."""
  processes.prepare_process()
  job = prepare()
  on_this_machine = not (job.settings.use_tpu or job.settings.master)
  write(job, run_predictor(job) if on_this_machine else run_estimator(job))


def prepare() -> Job:
  """Checks the flags and reads through the input, before anything is loaded or written.

  Raises:
    files.InputError: the first thing that is missing or wrong.
  """
  settings = flags.settings()
  settings.require(["input_file", "output_file"], "every run")
  settings = find_files(settings)
  settings.require(["bert_config_file", "vocab_file", "init_checkpoint"], "every run")
  check_output(settings)
  devices = estimators.Devices.of(settings)
  devices.check(
    {name: settings[name] for name in ("output_file", "init_checkpoint")},
    {"batch_size": settings.batch_size},
  )
  devices.find_tpu()
  return Job(settings, parse_layers(settings.layers), count_lines(settings.input_file), devices)


def find_files(settings: command_line.Settings) -> command_line.Settings:
  """Returns settings with the files and the casing of the model in --model.

  Raises:
    files.InputError: the directory lacks a file that no other flag gives; or there is no model.
  """
  if settings.model and settings.model_dir not in (None, settings.model):
    raise files.InputError("--model and --model_dir are the same flag; give one of them")
  flag = "model" if settings.model else "model_dir"
  directory = settings[flag]
  if not directory:
    model_files.check_given(settings)
    return settings
  given = {name: settings[name] for name in model_files.FILES}
  return settings.adopt(find_model(directory, flag, given))


def parse_layers(text: str) -> list[int]:
  """Parses the numbers in a flag: "-1,-2" -> [-1, -2]; files.InputError if they are no integers."""
  try:
    return [int(part) for part in text.split(",")]
  except ValueError as error:
    raise files.InputError(
      f"--layers: found {text!r}, should be whole numbers with commas between, such as -1,-2"
    ) from error


def count_lines(path: str) -> int:
  """Counts the lines of an input file.

  Raises:
    files.InputError: it cannot be read, is not UTF-8 (file:line), or has no line.
  """
  if files.exists(path) and not files.is_regular_file(path):
    raise files.InputError(f"--input_file: {path} is a directory, pipe or device; give a file")
  num_lines = sum(1 for _ in files.stream_lines(path))
  if num_lines == 0:
    raise files.InputError(f"--input_file: {path} is empty; it should have one text per line")
  return num_lines


def check_output(settings: command_line.Settings) -> None:
  """Checks that the flags of the output go together, and that it is not the input file.

  Raises:
    files.InputError: this is not so.
  """
  path, output_format = settings.output_file, settings.output_format
  if (output_format == "npz") != path.endswith(".npz"):
    raise files.InputError(
      f"--output_file: {path} is no name for --output_format={output_format}; names of npz files, "
      "and of no others, end in .npz"
    )
  for name in ("float16", "shard_size"):
    if output_format != "npz" and settings[name] != FLAGS[name].default:
      raise files.InputError(f"--{name} needs --output_format=npz")
  if files.is_directory(path):
    raise files.InputError(f"--output_file: {path} is a directory; give the name of a file")
  if os.path.realpath(path) == os.path.realpath(settings.input_file):
    raise files.InputError(f"--output_file: {path} is the input file; give another name")


Result = tuple[InputFeatures, np.ndarray]  # of a line of --input_file


def stream_features(
  settings: command_line.Settings, tokenizer: tokenization.FullTokenizer
) -> Iterator[InputFeatures]:
  """Yields the features of the lines of --input_file."""
  for example in stream_examples(settings.input_file):
    yield convert_example(example, settings.max_seq_length, tokenizer)


def _model_settings(settings):
  names = ["bert_config_file", "vocab_file", "init_checkpoint", "do_lower_case", "max_seq_length"]
  return {name: settings[name] for name in names}


def run_predictor(job: Job) -> Iterator[Result]:
  """Loads the model; returns an iterator like that of FeatureExtractor.run over the input."""
  settings = job.settings
  extractor = FeatureExtractor(
    **_model_settings(settings),
    layers=job.layers,
    pooling=settings.pooling,
    include_special_tokens=settings.pool_special_tokens,
    batch_size=settings.batch_size,
    use_one_hot_embeddings=settings.use_one_hot_embeddings,
    amp=settings.amp,
    engine=settings.engine,
  )

  def results():
    bar = tqdm(total=job.num_lines, desc="Extracting", unit="line", disable=not sys.stderr.isatty())
    with bar:
      features = stream_features(settings, extractor.tokenizer)
      yield from extractor.run(vectors.logged(features), bar.update)

  return results()


def run_estimator(job: Job) -> Iterator[Result]:
  """Does the same as run_predictor by an estimator, for a TPU or another machine.

  Inputs have one length, and come from a file beside --output_file, where a TPU can read it. This
  file is deleted in the end.
  """
  settings = job.settings
  config, tokenizer = load_model(**_model_settings(settings), layers=job.layers)
  checkpoints.check_checkpoint(config, settings.init_checkpoint, "init_checkpoint")
  model_fn = model_fn_builder(
    config,
    settings.init_checkpoint,
    job.layers,
    settings.use_tpu,
    settings.use_one_hot_embeddings,
    settings.pooling,
    settings.pool_special_tokens,
  )
  batch_sizes = {"train_batch_size": settings.batch_size, "predict_batch_size": settings.batch_size}
  plan = precision.find(settings.amp, use_xla=False, use_tpu=settings.use_tpu)
  plan.log()
  session_config = plan.session_config(is_training=False)
  estimator = estimators.make_estimator(
    model_fn, None, job.devices, seed=0, batch_sizes=batch_sizes, session_config=session_config
  )
  table = record_features(settings.max_seq_length)
  path = f"{settings.output_file}.tf_record"

  def results():
    try:
      features = vectors.logged(stream_features(settings, tokenizer))
      tf_records.write_records(path, _full_batches(settings, features), table)
      input_fn = input_pipeline.read_input_fn(
        path, table, is_training=False, drop_remainder=settings.use_tpu
      )
      rows = estimators.predict(estimator, input_fn, job.num_lines, "Extracting")
      for feature, row in zip(stream_features(settings, tokenizer), rows):
        yield feature, values_of(row, len(feature.tokens))
    finally:
      if files.exists(path):
        files.remove(path)

  return results()


def _full_batches(settings, features):
  """Yields a row per InputFeatures, and repeats the last one until a TPU's batch is full."""
  number, row = 0, None
  for feature in features:
    number, row = number + 1, vectors.feature_row(feature)
    yield row
  if settings.use_tpu:
    yield from itertools.repeat(row, -number % settings.batch_size)


def write(job: Job, results: Iterable[Result]) -> None:
  """Writes vectors to --output_file.

  Args:
    job: of the run.
    results: may raise errors, which are not caught.

  Raises:
    files.InputError: the file cannot be written.
  """
  settings = job.settings
  path = settings.output_file
  files.make_directory(os.path.dirname(path) or ".", "output_file")
  writer: Union[feature_files.NpzWriter, feature_files.JsonLinesWriter]
  if settings.output_format == "npz":
    writer = feature_files.NpzWriter(
      path, job.layers, job.num_lines, settings.shard_size, settings.float16
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
      settings.max_seq_length,
    )
  logs.notice("Wrote the vectors of %d lines to %s", job.num_lines, path)


if __name__ == "__main__":
  command_line.run(main, flags)
