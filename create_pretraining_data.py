"""Makes the records for run_pretraining.py: masked text with next-sentence labels.

  python create_pretraining_data.py --input_file=samples/pretraining.txt \\
    --vocab_file=vocab.txt --output_file=/tmp/pretraining.tfrecord

Text has one sentence per line and blank lines between documents; .gz and .bz2 files are read too.
The whole corpus is in memory, and one process works, unless it is cut into shards:

  python create_pretraining_data.py --input_file='corpus/*.txt.gz' \\
    --model=$BERT --output_file=/data/pretraining.tfrecord \\
    --num_output_files=16 --shard_documents=1000 --num_workers=8

After an interruption the same command resumes at the unfinished shard.
"""

from toolkit.support import quiet_start  # noqa: F401, first of all  # isort: skip

import collections  # noqa: F401, for programs that import * from here
import contextlib
import importlib
import os
import random  # noqa: F401
from collections.abc import Iterable, Sequence
from typing import Any, Optional

from absl import logging

import tokenization
from toolkit.formats import model_files
from toolkit.support import command_line, files, logs
from toolkit.tasks import pretraining
from toolkit.tasks.pretraining import (  # noqa: F401, names that were always importable from here
  MaskedLmInstance,
  TrainingInstance,
  create_instances_from_document,
  create_masked_lm_predictions,
  create_training_instances,
  truncate_seq_pair,
  write_instance_to_example_files,
)
from toolkit.tasks.pretraining_run import Job, Progress, RunFiles

_DEFAULTS = pretraining.Settings()

flags = command_line.ScriptFlags()
FLAGS = flags.FLAGS
flags.DEFINE_string(
  "input_file", None, "Text files: comma-separated names or patterns.", group="essential"
)
flags.DEFINE_string(
  "output_file",
  None,
  "TFRecord files: comma-separated names. Records are written to them in turn.",
  group="essential",
)
flags.DEFINE_string(
  "vocab_file",
  None,
  "Vocabulary, one word piece per line (vocab.txt). Default: the one in --model.",
  group="essential",
)
flags.DEFINE_string(
  "model", None, "Directory of a pre-trained model, whose vocab.txt is used.", group="essential"
)
flags.DEFINE_bool(
  "do_lower_case",
  _DEFAULTS.do_lower_case,
  "Lower-case the text. Right for uncased models; --nodo_lower_case is for cased ones.",
  group="essential",
)
flags.DEFINE_bool(
  "do_whole_word_mask",
  _DEFAULTS.do_whole_word_mask,
  "Mask all word pieces of a word or none.",
  group="essential",
)
flags.DEFINE_integer(
  "max_seq_length",
  _DEFAULTS.max_seq_length,
  "Longest input in word pieces, [CLS] and both [SEP] included.",
  group="essential",
)
flags.DEFINE_integer(
  "max_predictions_per_seq",
  _DEFAULTS.max_predictions_per_seq,
  "Maximum number of masked word pieces per input.",
  group="essential",
)
flags.DEFINE_integer("random_seed", _DEFAULTS.random_seed, "Random seed.")
flags.DEFINE_integer(
  "dupe_factor",
  _DEFAULTS.dupe_factor,
  "Passes over the corpus, each with other masks.",
  group="essential",
)
flags.DEFINE_float(
  "masked_lm_prob", _DEFAULTS.masked_lm_prob, "Fraction of the word pieces that are masked."
)
flags.DEFINE_float(
  "short_seq_prob",
  _DEFAULTS.short_seq_prob,
  "Probability of a shorter input, of random length.",
)
flags.DEFINE_bool(
  "special_replacements",
  _DEFAULTS.special_replacements,
  "Allow [CLS], [unused7] and other special pieces as random replacements of masked pieces.",
)
flags.DEFINE_bool(
  "mask_per_word",
  _DEFAULTS.mask_per_word,
  "With --do_whole_word_mask, decide once per word, not per word piece: [MASK], unchanged, or "
  "replaced at random.",
)
flags.DEFINE_float(
  "truncate_segments_prob",
  _DEFAULTS.truncate_segments_prob,
  "Fraction of the segments that lose a random part at their start or end. The model then also "
  "sees text that is not a whole sentence.",
)
flags.DEFINE_bool(
  "chinese_whole_words",
  _DEFAULTS.chinese_whole_words,
  "With --do_whole_word_mask, mask the Chinese characters of a word together. The words must be "
  "separated by spaces.",
)
flags.DEFINE_integer(
  "shard_documents",
  _DEFAULTS.shard_documents,
  "Documents per shard. A shard is processed apart from all others, so that its size, not that of "
  "the corpus, determines the memory. 0: the whole corpus, in one process.",
  group="speed and memory",
)
flags.DEFINE_integer(
  "num_workers",
  1,
  "Processes that make shards. The records do not depend on their number.",
  lower_bound=1,
  group="speed and memory",
)
flags.DEFINE_integer(
  "num_output_files",
  None,
  "Number of files to write: <--output_file>-00000-of-00010 and so on. Default: those named.",
  lower_bound=1,
  upper_bound=99999,
  group="essential",
)


# ---- As a library -------------------------------------------------------------------------------


def __getattr__(name: str) -> Any:
  """Loads TensorFlow, as `tf`, when it is read: loading takes seconds, and little needs it."""
  if name == "tf":
    return importlib.import_module("tensorflow.compat.v1")
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def create_int_feature(values: Iterable[int]) -> Any:
  """Makes a tf.train.Feature."""
  train = __getattr__("tf").train
  return train.Feature(int64_list=train.Int64List(value=list(values)))


def create_float_feature(values: Iterable[float]) -> Any:
  """Makes a tf.train.Feature, stored as float32."""
  train = __getattr__("tf").train
  return train.Feature(float_list=train.FloatList(value=list(values)))


# ---- One run ------------------------------------------------------------------------------------


def main(_: list[str]) -> None:
  """Makes the records by the flags."""
  job = prepare()
  with RunFiles(job) as run_files, Progress(job.corpus, *run_files.done()) as progress:
    if not run_files.is_complete():
      make_shards(job, run_files, progress)
    run_files.publish()
  totals = run_files.totals()
  if totals["num_random_next"] == totals["num_instances"]:
    logging.warning(
      "All next sentences are random: the documents, or the inputs, have one line each"
    )
  problem = run_files.fit().problem(job.settings.max_seq_length)
  if problem:
    logging.warning("%s", problem)
  logs.notice("Wrote %d total instances", totals["num_instances"])


def prepare() -> Job:
  """Checks all inputs of a run, before anything is written."""
  given = flags.settings()
  given.require(["input_file", "output_file"], "every run")
  if given.model and not given.vocab_file:
    given = given.replace(vocab_file=model_files.path(given.model, "vocab_file"))
  if not given.vocab_file:
    raise files.InputError("--vocab_file is missing: give it, or --model=DIR with a vocab.txt")
  settings = pretraining.Settings(**{name: given[name] for name in pretraining.Settings._fields})
  settings.check()
  if given.num_workers > 1 and not settings.shard_documents:
    raise files.InputError(
      f"--num_workers={given.num_workers} needs shards: give --shard_documents=1000, for example"
    )
  with files.input_checks():
    tokenization.validate_vocab(settings.vocab_file, ["[MASK]"])
  digest = pretraining.vocab_digest(settings.vocab_file)
  tools = pretraining.load_tools(settings, digest)
  is_lower_case = tokenization.guess_lower_case(tools.tokenizer.vocab)
  if is_lower_case is not None and is_lower_case != settings.do_lower_case:
    logging.warning(
      "--do_lower_case=%s, but %s looks like a vocabulary of %s text",
      settings.do_lower_case,
      settings.vocab_file,
      "lower-cased" if is_lower_case else "cased",
    )
  inputs = files.find(given.input_file, "input_file", each_once=False)
  outputs = name_outputs(given.output_file, given.num_output_files)
  check_outputs(outputs, inputs)
  return Job(settings, tools, digest, read_through(inputs), outputs, given.num_workers)


def name_outputs(names: str, num_files: Optional[int]) -> list[str]:
  """Lists the output files: "a,b", None -> a, b; "a", 2 -> a-00000-of-00002, a-00001-of-00002."""
  outputs = names.split(",")
  if num_files is None:
    return outputs
  if len(outputs) > 1:
    raise files.InputError(
      f"--output_file: found {len(outputs)} names; with --num_output_files give one"
    )
  return [f"{names}-{i:05d}-of-{num_files:05d}" for i in range(num_files)]


def check_outputs(outputs: Sequence[str], inputs: Sequence[str]) -> None:
  """Checks that output files can be written, and creates their directories."""
  taken = set(map(_location, inputs))
  for output in outputs:
    if _location(output) in taken:
      raise files.InputError(f"--output_file: {output} is an input file, or given twice")
    taken.add(_location(output))
    if not os.path.basename(output) or (files.exists(output) and not files.is_regular_file(output)):
      raise files.InputError(f"--output_file: {output!r} is not a name for a file")
  for directory in {os.path.dirname(output) or "." for output in outputs}:
    files.make_directory(directory, "output_file")


def _location(path):
  return path if files.is_remote(path) else os.path.realpath(path)


def read_through(paths: list[str]) -> pretraining.Corpus:
  """Surveys the corpus, and warns when its next-sentence labels have no signal."""
  logging.info("*** Reading from input files ***")
  for path in paths:
    logging.info("  %s", path)
  corpus = pretraining.survey(paths)
  logs.notice("  %d documents, %d lines", corpus.num_documents, corpus.num_sentences)
  problem = pretraining.layout_problem(corpus)
  if problem:
    logging.warning("No next-sentence signal: %s", problem)
  return corpus


def make_shards(job: Job, run_files: RunFiles, progress: Progress) -> None:
  """Makes the shards that are not done yet, and adds them to the files."""
  reports = _make_reports(job, run_files.num_shards(), progress)
  with contextlib.closing(reports):  # ends the workers after an error
    for report in reports:
      run_files.add(report)
      progress.clear()
      job.tools.records.log(report.examples, job.tools.tokenizer.inv_vocab)


def _make_reports(job, num_done, progress):
  """Yields the pretraining.ShardReport of all shards but the first num_done, in order."""
  shards = pretraining.read_shards(job.corpus.paths, job.settings.shard_documents)
  jobs = (
    pretraining.ShardJob(number, documents, job.settings, job.vocab_digest, job.outputs)
    for number, documents in enumerate(shards)
    if number >= num_done
  )
  if job.num_workers > 1:
    for report in pretraining.make_shards(jobs, job.num_workers):
      yield report
      progress.advance(report.num_documents, sum(report.num_records))
    return
  # There is one pass over each document to tokenize it, and then dupe_factor more.
  share = 1 / (1 + job.settings.dupe_factor)
  for shard in jobs:
    yield pretraining.make_shard(shard, lambda n: progress.advance(share, n))


# For programs that import * from here: all public names, and `tf`, which is loaded then.
__all__ = ["tf", *(name for name in globals() if not name.startswith("_"))]  # noqa: F822

if __name__ == "__main__":
  command_line.run(main, flags)
